//! What the workers of these tests can do.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio, abort, exit};

use roundelay::ProcessPoolExecutor;
use serde::ser::Error;
use serde::{Deserialize, Serialize, Serializer};

use crate::roles;

/// What serde does to types whose form is not in the type alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub shape: Shape,
    #[serde(flatten)]
    pub rest: BTreeMap<String, i64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
    pub last: (char, f64),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Shape {
    Circle(f64),
    Named { name: String },
    Points(Vec<(i32, i32)>),
}

/// Cannot be serialised.
pub struct Stubborn;

impl Serialize for Stubborn {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("it does not want to"))
    }
}

/// Panics when it is read.
#[derive(Debug)]
pub struct Explosive;

impl<'de> Deserialize<'de> for Explosive {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("it went off");
    }
}

/// What a worker sees of the world.
#[derive(Debug, Serialize, Deserialize)]
pub struct Facts {
    pub pid: u32,
    pub parent: i32,
    pub arguments: Vec<String>,
    pub stdin: Vec<u8>,
    /// Where its descriptors above the standard streams lead.
    pub descriptors: Vec<String>,
    /// The signals that are ignored, and those that are blocked, as the system shows them.
    pub ignored: u64,
    pub blocked: u64,
}

pub fn register() {
    ProcessPoolExecutor::functions()
        .add("add", |(a, b): (i64, i64)| a + b)
        .add("length", |text: String| text.len())
        .add("echo", |bytes: Vec<u8>| bytes)
        .add("text", |text: String| text)
        .add("record", |record: Record| record)
        .add("parse", |text: String| text.parse::<i32>().map_err(|error| error.to_string()))
        .add("pid", |()| std::process::id())
        .add("panic", |text: String| -> () { panic!("{text}") })
        .add("stubborn", |()| Stubborn)
        .add("explosive", |_: Explosive| ())
        .add("die", die)
        .add("gate", gate)
        .add("facts", |()| facts())
        .add("print", |text: String| println!("{text}"))
        .add("nested", nested)
        .add("program", |role: String| ordinary_program(&role))
        .add("die_with_child", die_with_child)
        .init();
}

fn die(how: String) {
    match how.as_str() {
        "exit" => exit(7),
        "abort" => abort(),
        signal => {
            let status = Command::new("kill").args([signal, &std::process::id().to_string()]).status();
            status.unwrap();
            // The signal is under way.
            loop {
                std::thread::park();
            }
        }
    }
}

/// Says over a unix socket that it is there, answers each line, and returns when the connection ends.
fn gate((path, number): (PathBuf, u32)) -> u32 {
    let mut stream = UnixStream::connect(path).unwrap();
    writeln!(stream, "{} {number}", std::process::id()).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|length| length > 0) {
        stream.write_all(line.as_bytes()).unwrap();
        line.clear();
    }
    number
}

fn descriptors() -> Vec<(i32, String)> {
    let entries = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let mut found = Vec::new();
    for path in entries {
        let number = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        // Not the directory itself, which is gone by now.
        if let Ok(target) = fs::read_link(&path) {
            found.push((number, target.to_string_lossy().into_owned()));
        }
    }
    found.retain(|(number, target)| *number > 2 && !target.contains("/proc/"));
    found
}

fn facts() -> Facts {
    let mut stdin = Vec::new();
    std::io::stdin().read_to_end(&mut stdin).unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    Facts {
        pid: std::process::id(),
        parent: rustix::process::getppid().unwrap().as_raw_nonzero().get(),
        arguments: std::env::args().collect(),
        stdin,
        descriptors: descriptors().into_iter().map(|(_, target)| target).collect(),
        ignored: mask("SigIgn:"),
        blocked: mask("SigBlk:"),
    }
}

/// A worker with workers of its own.
fn nested((a, b): (i64, i64)) -> i64 {
    let pool = ProcessPoolExecutor::new(1).unwrap();
    roundelay::block_on(async {
        let sum = pool.run::<i64>("add", (a, b)).await.unwrap();
        assert!(pool.shutdown(None).await);
        sum
    })
}

/// Starts this program as itself, which inherits the environment of a worker but is none.
fn ordinary_program(role: &str) -> String {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program).env(roles::VARIABLE, role).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Dies, and leaves a child behind that has the worker's connection open.
#[allow(unsafe_code)]
fn die_with_child(path: PathBuf) {
    let (number, _) = descriptors().into_iter().find(|(_, target)| target.starts_with("socket:")).unwrap();
    // SAFETY: it is open for as long as this process is.
    let connection = unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned().unwrap();
    // It ends when the connection does.
    Command::new("cat").stdin(connection).stdout(Stdio::null()).spawn().unwrap();
    writeln!(UnixStream::connect(path).unwrap(), "{} 0", std::process::id()).unwrap();
    abort();
}

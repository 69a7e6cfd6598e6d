//! Programs that tests start: the examples, and whatever else speaks TCP.

#![allow(dead_code, unreachable_pub)]

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

/// The binary of an example; built now if this test is run without its siblings.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("examples").join(name);
    if !path.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--example", name]);
        // As this test was built, so that it is put where this test looks for it.
        let profile = path.ancestors().nth(2).unwrap();
        if profile.ends_with("release") {
            build.arg("--release");
        }
        let target = profile.parent().and_then(|folder| folder.file_name()).unwrap().to_str().unwrap();
        if target.starts_with(std::env::consts::ARCH) {
            build.args(["--target", target]);
        }
        let features = [
            ("tls", cfg!(feature = "tls")),
            ("aws-lc-rs", cfg!(feature = "aws-lc-rs")),
            ("process-pool", cfg!(feature = "process-pool")),
            ("inspector", cfg!(feature = "inspector")),
            ("async-io", cfg!(feature = "async-io")),
            ("tokio-rt", cfg!(feature = "tokio-rt")),
            ("hyper", cfg!(feature = "hyper")),
        ];
        for (feature, is_on) in features {
            if is_on {
                build.args(["--features", feature]);
            }
        }
        let built = build.status().unwrap();
        assert!(built.success() && path.exists(), "cargo build --example {name} gave no {}", path.display());
    }
    path
}

/// A program that is killed at the end of its test.
pub struct Running {
    pub child: Child,
    pub stdout: BufReader<ChildStdout>,
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    /// The next line that it prints.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The address at the end of the line by which a server says that it is ready.
    pub fn address(&mut self) -> SocketAddr {
        let line = self.line();
        let address = line.rsplit([' ', '/']).next().and_then(|word| word.parse().ok());
        address.unwrap_or_else(|| panic!("no address in {line:?}"))
    }

    /// The memory of the process that is in use, in bytes.
    pub fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    }

    /// How many descriptors the process has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a program is installed; says so where it is not, for a test that has to be skipped.
///
/// It is looked for, not started: what starts a program has pipes open meanwhile, which another test might count.
pub fn available(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

/// Runs a program to its end, and gives what it printed if it succeeded.
pub fn output(command: &mut Command) -> Vec<u8> {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    assert!(status.success(), "{command:?}: {status}\n{}", String::from_utf8_lossy(&stderr));
    stdout
}

/// Reads exactly as many bytes as are expected.
pub fn expect(stream: &mut impl Read, expected: &[u8]) {
    let mut data = vec![0; expected.len()];
    stream.read_exact(&mut data).unwrap();
    assert_eq!(String::from_utf8_lossy(&data), String::from_utf8_lossy(expected));
}

//! The example `unix_chat`: its server, with its own client and with others.

#[path = "common/program.rs"]
mod program;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use program::{Running, example};
use tempfile::TempDir;

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::Builder::new().prefix("rdl").tempdir().unwrap();
    let path = folder.path().join("chat");
    (folder, path)
}

fn start(path: &Path) -> Running {
    let mut server = Running::start(Command::new(example("unix_chat")).arg("server").arg(path));
    assert_eq!(server.line(), format!("listening on {path:?}"));
    server
}

fn line(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// Who a process of this user is in the chat.
fn name(process: u32) -> String {
    format!("user {}, process {process}", rustix::process::geteuid().as_raw())
}

/// Comes into the room, as this process.
fn join(path: &Path) -> (UnixStream, BufReader<UnixStream>) {
    let stream = UnixStream::connect(path).unwrap();
    // So that a test of a server that says nothing fails.
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    assert_eq!(line(&mut reader), format!("* welcome, {}", name(std::process::id())));
    (stream, reader)
}

/// The example's own client.
struct Client {
    running: Running,
    stdin: Option<ChildStdin>,
}

impl Client {
    fn start(path: &Path, server: &Child) -> Self {
        let mut command = Command::new(example("unix_chat"));
        let mut child = command.arg("client").arg(path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut client = Self { running: Running { child, stdout }, stdin };
        assert_eq!(client.running.line(), format!("* the server is {}", name(server.id())));
        assert_eq!(client.running.line(), format!("* welcome, {}", client.name()));
        client
    }

    fn name(&self) -> String {
        name(self.running.child.id())
    }

    fn say(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }
}

#[test]
fn clients_hear_each_other_by_name() {
    let (_folder, path) = folder();
    let mut server = start(&path);
    let mut ann = Client::start(&path, &server.child);
    let mut bob = Client::start(&path, &server.child);
    assert_eq!(ann.running.line(), format!("* {} has come", bob.name()));
    ann.say("hello");
    assert_eq!(bob.running.line(), format!("{}: hello", ann.name()));
    bob.say("goodbye");
    drop(bob.stdin.take());
    assert_eq!(ann.running.line(), format!("{}: goodbye", bob.name()));
    assert_eq!(ann.running.line(), format!("* {} has gone", bob.name()));
    assert_eq!(server.line(), format!("{} has gone", bob.name()));
    assert_eq!(bob.running.line(), "* that was all");
    assert!(bob.running.child.wait().unwrap().success());

    // A client whose terminal says nothing hears of the server's end all the same.
    drop(server);
    assert_eq!(ann.running.line(), "* that was all");
    assert!(ann.running.child.wait().unwrap().success());
}

#[test]
fn a_killed_server_is_replaced_and_a_running_one_is_not() {
    let (_folder, path) = folder();
    drop(start(&path));
    assert!(path.exists());
    let mut server = start(&path);
    let second = Command::new(example("unix_chat")).arg("server").arg(&path).output().unwrap();
    assert!(!second.status.success());
    let errors = String::from_utf8_lossy(&second.stderr);
    assert!(errors.contains("is already in use"), "{errors}");
    let (stream, _reader) = join(&path);
    drop(stream);
    assert!(server.child.try_wait().unwrap().is_none());
}

/// Who does not read is left behind; the others hear everything.
#[test]
fn a_slow_reader_holds_nobody_up_for_long() {
    let (_folder, path) = folder();
    let mut server = start(&path);
    let (_slow, _unread) = join(&path);
    let (mut ann, _) = join(&path);
    let (_bob, mut bob_reads) = join(&path);
    let said = format!("{}\n", "x".repeat(4000));
    let thread = std::thread::spawn(move || {
        for _ in 0..500 {
            ann.write_all(said.as_bytes()).unwrap();
        }
        ann.write_all(b"the last\n").unwrap();
        ann.shutdown(Shutdown::Write).unwrap();
        ann
    });
    let me = name(std::process::id());
    let mut heard = 0;
    loop {
        let said = line(&mut bob_reads);
        assert!(!said.is_empty(), "bob was cut off");
        heard += usize::from(said.starts_with(&format!("{me}: xxx")));
        if said == format!("{me}: the last") {
            break;
        }
    }
    assert_eq!(heard, 500);
    thread.join().unwrap();
    assert!(server.line().starts_with(&format!("{me} has gone")));
}

#[test]
fn what_it_does_not_understand_it_says() {
    let usage = Command::new(example("unix_chat")).arg("nonsense").output().unwrap();
    assert!(!usage.status.success());
    assert!(String::from_utf8_lossy(&usage.stderr).contains("usage: unix_chat server|client PATH"));
    let (_folder, path) = folder();
    let alone = Command::new(example("unix_chat")).arg("client").arg(&path).stdin(Stdio::null()).output().unwrap();
    assert!(!alone.status.success());
    assert!(String::from_utf8_lossy(&alone.stderr).contains("No such file or directory"));
    // A line that is too long ends a connection, and no other.
    let mut server = start(&path);
    let (mut ann, mut ann_reads) = join(&path);
    let _ = ann.write_all(&vec![b'x'; 1 << 20]);
    let mut rest = Vec::new();
    let _ = ann_reads.read_to_end(&mut rest);
    assert!(server.line().contains("has gone ("));
    drop(join(&path));
}

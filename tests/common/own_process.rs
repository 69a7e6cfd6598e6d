//! Processes of a test's own, that live and die by signals. Included by path, beside `common`.

#![allow(dead_code, unreachable_pub, unsafe_code)]

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::Instant;

use roundelay::SignalKind;

use crate::common::{PATIENCE, alone};
use crate::signals::{send, set_in};

/// Names, in the environment, the test whose body the process is to run.
const INSIDE: &str = "ROUNDELAY_OWN_PROCESS";

/// The process, seen from the test.
pub struct Own {
    child: Child,
    said: BufReader<ChildStderr>,
}

/// Runs `body` in a process of its own, and `test` beside it. The test of this name calls this function and nothing else,
/// and is run again by its name. `prepare` changes the command by which that is done.
#[track_caller]
pub fn prepared(prepare: impl FnOnce(&mut Command), body: impl FnOnce(), test: impl FnOnce(&mut Own)) {
    if std::env::var_os(INSIDE).is_some() {
        // SAFETY: it takes a number. A process that nobody ends ends by itself.
        unsafe { libc::alarm(2 * PATIENCE.as_secs() as u32) };
        return body();
    }
    let name = std::thread::current().name().expect("a test has a thread of its own").to_owned();
    let _alone = alone();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([&name, "--exact", "--nocapture", "--test-threads=1"]).env(INSIDE, &name);
    prepare(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let said = BufReader::new(child.stderr.take().unwrap());
    test(&mut Own { child, said });
}

/// The same without preparation.
#[track_caller]
pub fn own_process(body: impl FnOnce(), test: impl FnOnce(&mut Own)) {
    prepared(|_| {}, body, test);
}

/// From within the process: tells the test.
pub fn say(what: impl std::fmt::Display) {
    eprintln!("{what}");
}

impl Own {
    /// Reads what the process says next: it should be this.
    #[track_caller]
    pub fn says(&mut self, expected: &str) {
        assert_eq!(self.line(), expected);
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub fn send(&self, kind: SignalKind) {
        send(self.child.id(), kind);
    }

    /// Sends a signal, and waits until a thread of the process has taken it.
    #[track_caller]
    pub fn send_and_wait(&self, kind: SignalKind) {
        self.send(kind);
        let deadline = Instant::now() + PATIENCE;
        let pending = || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
            ["SigPnd", "ShdPnd"].iter().any(|which| set_in(&status, which).contains(&kind.as_raw()))
        };
        while pending() {
            assert!(Instant::now() < deadline, "the signal is not taken");
            std::thread::yield_now();
        }
    }

    /// Waits for its end, before which it says nothing more.
    #[track_caller]
    fn end(&mut self) -> ExitStatus {
        self.says("");
        self.child.wait().unwrap()
    }

    /// It ends well.
    #[track_caller]
    pub fn ends(&mut self) {
        let status = self.end();
        assert!(status.success(), "{status}");
    }

    /// It is ended by a signal.
    #[track_caller]
    pub fn dies_of(&mut self, kind: SignalKind) {
        let status = self.end();
        assert_eq!(status.signal(), Some(kind.as_raw()), "{status}");
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

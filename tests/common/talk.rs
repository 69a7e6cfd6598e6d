//! A program that is talked to line by line.

#![allow(dead_code, unreachable_pub)]

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};

/// The same program, with what it complains of among what it prints.
pub fn complaining_aloud(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"exec "$0" "$@" 2>&1"#]).arg(command.get_program()).args(command.get_args());
    shell
}

/// A program that is talked to, on a thread where that may block.
pub struct Talk {
    pub child: Child,
    heard: Vec<u8>,
}

impl Talk {
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { child: command.spawn().unwrap(), heard: Vec::new() }
    }

    pub fn say(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Reads until the program has printed this, and forgets everything up to there.
    pub fn hear(&mut self, text: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            if let Some(at) = self.heard.windows(text.len()).position(|part| part == text.as_bytes()) {
                let rest = self.heard.split_off(at + text.len());
                return String::from_utf8_lossy(&std::mem::replace(&mut self.heard, rest)).into_owned();
            }
            let n = self.child.stdout.as_mut().unwrap().read(&mut buffer).unwrap();
            assert!(n > 0, "{text:?} is not in {}", String::from_utf8_lossy(&self.heard));
            self.heard.extend_from_slice(&buffer[..n]);
        }
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Ends its input, and waits for its end: what it has printed since, and what it has complained of.
    pub fn finish(mut self) -> (ExitStatus, Vec<u8>, String) {
        drop(self.child.stdin.take());
        let output = self.child.wait_with_output().unwrap();
        self.heard.extend_from_slice(&output.stdout);
        (output.status, self.heard, String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

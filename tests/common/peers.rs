//! Programs that others have written, as peers: how tests start them, and what they talk to.

#![allow(dead_code, unreachable_pub)]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Output, Stdio};

use bytes::BytesMut;
use roundelay::{EventLoop, KeepOpen, Protocol, Server, Transport};

use crate::common::{Kind, alone, run};
use crate::tcp::{complete, pattern};

/// Whether a program is there; says so if it is not.
pub fn has(program: &str) -> bool {
    // Starting a program takes descriptors for a moment.
    let _alone = alone();
    let has = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !has {
        eprintln!("SKIPPED: there is no {program}");
    }
    has
}

/// Does something that blocks, on another thread, while the loop goes on.
#[track_caller]
pub fn aside<T: Send + 'static>(el: &EventLoop, job: impl FnOnce() -> T + Send + 'static) -> T {
    complete(el, el.run_in_executor(None, job)).unwrap()
}

/// Runs a program with some input while the loop goes on.
#[track_caller]
pub fn run_output(el: &EventLoop, mut program: Command, input: Vec<u8>) -> Output {
    aside(el, move || {
        let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // It may end before it has read everything.
        let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        output
    })
}

/// The same for a program that succeeds, of which only the output counts.
#[track_caller]
pub fn run_program(el: &EventLoop, program: Command, input: Vec<u8>) -> Vec<u8> {
    let output = run_output(el, program, input);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    output.stdout
}

pub fn python(script: &str) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", script]);
    command
}

/// Runs a test on each selector, and ends the executor that it has used.
pub fn on_each_selector(body: impl Fn(&EventLoop)) {
    for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
        run(kind, false, |el| {
            body(el);
            assert!(complete(el, el.shutdown_default_executor(None)));
        });
    }
}

/// Ends a server whose connections can all end in an orderly way.
#[track_caller]
pub fn end(el: &EventLoop, server: &Server) {
    assert!(complete(el, server.shutdown(crate::common::PATIENCE)));
}

/// A small server of HTTP/1.1: `GET /<n>` gives n bytes, `POST` gives the body back.
#[derive(Default)]
pub struct Http {
    received: BytesMut,
    /// Bytes of a body that are still to come, and have been answered as they came.
    body: usize,
    close: bool,
}

impl Http {
    fn answer_head(&mut self, transport: &Transport) -> bool {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut headers);
        let length = match request.parse(&self.received) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return false,
            Err(error) => {
                transport.write(format!("HTTP/1.1 400 {error}\r\n\r\n").as_bytes());
                transport.close();
                return false;
            }
        };
        let header = |name: &str| {
            let found = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(found.value).ok()
        };
        self.close = header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        self.body = header("content-length").map_or(0, |value| value.parse().unwrap());
        let expects = header("expect").is_some();
        let gives = match request.method {
            Some("GET") => request.path.unwrap()[1..].parse().unwrap_or(0),
            _ => 0,
        };
        if expects {
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", gives + self.body);
        transport.writelines(&[io::IoSlice::new(head.as_bytes()), io::IoSlice::new(&pattern(gives))]);
        drop(self.received.split_to(length));
        true
    }
}

impl Protocol for Http {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        self.received.extend_from_slice(data);
        loop {
            if self.body > 0 {
                let n = self.body.min(self.received.len());
                self.body -= n;
                transport.write_owned(self.received.split_to(n));
                if self.body > 0 {
                    return;
                }
            } else if self.received.is_empty() || !self.answer_head(transport) {
                return;
            }
            if self.body == 0 && self.close {
                transport.close();
                return;
            }
        }
    }
    fn pause_writing(&mut self, transport: &Transport) {
        transport.pause_reading();
    }
    fn resume_writing(&mut self, transport: &Transport) {
        transport.resume_reading();
    }
}

pub fn curl() -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "20"]);
    command
}

/// Sends back what it gets, also after the peer has ended its side.
pub struct EchoToTheEnd;

impl Protocol for EchoToTheEnd {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        transport.write(data);
    }
    fn eof_received(&mut self, transport: &Transport) -> KeepOpen {
        transport.write(b"that was all");
        KeepOpen::No
    }
    fn pause_writing(&mut self, transport: &Transport) {
        transport.pause_reading();
    }
    fn resume_writing(&mut self, transport: &Transport) {
        transport.resume_reading();
    }
}

/// Starts a program while the loop goes on, and gives the line that it says first.
pub fn start_child(el: &EventLoop, mut program: Command) -> (Child, String) {
    aside(el, move || {
        let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        (child, line)
    })
}

/// Ends the input of a program, at which it ends, and says nothing more.
pub fn end_child(el: &EventLoop, mut child: Child) {
    let (status, rest) = aside(el, move || {
        drop(child.stdin.take());
        let status = child.wait().unwrap();
        let mut rest = String::new();
        child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
        (status, rest)
    });
    assert!(status.success() && rest.is_empty(), "{status}: {rest}");
}

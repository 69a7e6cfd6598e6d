//! Clients of the examples that serve `examples/greeter`.

#![allow(dead_code, unreachable_pub)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::program::Running;

/// How long something may take that must happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends one request and gives the body of its answer.
pub fn ask<S>(stream: &S) -> String
where
    for<'a> &'a S: Read + Write,
{
    let mut stream = stream;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    answer(stream)
}

/// The body of the next answer.
pub fn answer<S>(stream: &S) -> String
where
    for<'a> &'a S: Read,
{
    let mut stream = stream;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\n") || answer.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 200 OK") && head.ends_with(&format!("Content-Length: {}", body.len())),
        "{head}"
    );
    body.trim_end().to_owned()
}

/// Tells a program to end, and gives what it still prints. It ends of itself, and well.
pub fn end(server: Running, signal: Signal) -> Vec<String> {
    kill_process(Pid::from_child(&server.child), signal).unwrap();
    ended(server)
}

/// The same of a program that is ending.
pub fn ended(mut server: Running) -> Vec<String> {
    let mut rest = String::new();
    server.stdout.read_to_string(&mut rest).unwrap();
    assert!(server.child.wait().unwrap().success(), "{rest}");
    rest.lines().map(str::to_owned).collect()
}

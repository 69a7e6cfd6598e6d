//! The examples of servers with many loops: `many_loops` with its threads, `prefork` with its processes.

#[path = "common/program.rs"]
mod program;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use program::{Running, example};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// How long something may take that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends one request and gives the body of its answer.
fn ask(mut stream: &TcpStream) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
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
fn end(mut server: Running, signal: Signal) -> Vec<String> {
    kill_process(Pid::from_child(&server.child), signal).unwrap();
    let mut rest = String::new();
    server.stdout.read_to_string(&mut rest).unwrap();
    assert!(server.child.wait().unwrap().success(), "{rest}");
    rest.lines().map(str::to_owned).collect()
}

#[test]
fn threads_with_a_loop_each_share_a_port() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut command = Command::new(example("many_loops"));
        let mut server = Running::start(command.args(["--threads", "3", "--addr", "127.0.0.1:0"]));
        let line = server.line();
        assert!(line.starts_with("3 threads serve on http://127.0.0.1:"), "{line}");
        let addr = line.rsplit('/').next().unwrap().parse().unwrap();
        let clients: Vec<_> = (0..60).map(|_| connect(addr)).collect();
        for client in &clients {
            for _ in 0..3 {
                let said = ask(client);
                assert!(said.starts_with("request ") && said.contains(" of thread "), "{said}");
            }
        }
        // Two at once, in pieces; and one that never sends a whole one.
        let mut client = connect(addr);
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost").unwrap();
        assert!(ask(&client).contains("of thread "));
        connect(addr).write_all(b"GET").unwrap();

        let rest = end(server, signal);
        assert_eq!(rest.len(), 4, "{rest:?}");
        let numbers = |line: &str| -> (u64, u64) {
            let words: Vec<_> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
            (words[words.len() - 2], words[words.len() - 1])
        };
        let sum = rest[..3].iter().enumerate().fold((0, 0), |(requests, connections), (number, line)| {
            assert!(line.starts_with(&format!("thread {number}: ")), "{line}");
            let (more, another) = numbers(line.split_once(": ").unwrap().1);
            (requests + more, connections + another)
        });
        assert_eq!(numbers(&rest[3]), sum, "{rest:?}");
        assert_eq!(sum.0, 60 * 3 + 2, "{rest:?}");
        // The last one may not have been accepted before the end.
        assert!((61..=62).contains(&sum.1), "{rest:?}");
    }
}

#[test]
fn a_port_that_is_taken_is_an_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let output = Command::new(example("many_loops")).args(["--addr", &addr]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("AddrInUse"), "{output:?}");
}

/// The process in the answer of a worker.
fn process(answer: &str) -> u32 {
    answer.rsplit(' ').next().unwrap().parse().unwrap()
}

fn is_alive(process: u32) -> bool {
    test_kill_process(Pid::from_raw(process as i32).unwrap()).is_ok()
}

#[test]
fn processes_share_a_socket_and_are_replaced() {
    let mut command = Command::new(example("prefork"));
    let mut server = Running::start(command.args(["--processes", "2", "--addr", "127.0.0.1:0"]));
    let line = server.line();
    assert!(line.starts_with("2 processes serve on http://127.0.0.1:"), "{line}");
    let addr = line.rsplit('/').next().unwrap().parse().unwrap();
    let started: Vec<u32> = (0..2).map(|_| process(&server.line())).collect();
    for _ in 0..30 {
        let said = ask(&connect(addr));
        assert!(said.contains(" of worker ") && started.contains(&process(&said)), "{said}");
    }
    // The one that has a connection crashes: only its own connections end.
    let client = connect(addr);
    let victim = process(&ask(&client));
    kill_process(Pid::from_raw(victim as i32).unwrap(), Signal::KILL).unwrap();
    assert!(matches!((&client).read(&mut [0]), Ok(0) | Err(_)));
    let ended = server.line();
    assert!(ended.contains("has ended: signal: 9"), "{ended}");
    let line = server.line();
    let number = ended.split(' ').nth(1).unwrap();
    assert!(line.starts_with(&format!("worker {number} is process ")), "{line}");
    let another = process(&line);
    assert!(!started.contains(&another));
    let (mut seen, deadline) = (BTreeSet::new(), Instant::now() + PATIENCE);
    while !seen.contains(&another) {
        assert!(Instant::now() < deadline, "the new one does not serve: {seen:?}");
        // Held, so that each of them has its turn.
        let clients: Vec<_> = (0..20).map(|_| connect(addr)).collect();
        seen.extend(clients.iter().map(|client| process(&ask(client))));
    }
    assert!(!seen.contains(&victim));

    let rest = end(server, Signal::TERM);
    assert_eq!(rest.len(), 3, "{rest:?}");
    assert!(rest[..2].iter().all(|line| line.ends_with("has ended: exit status: 0")), "{rest:?}");
    assert_eq!(rest[2], "stopped");
    for process in started.into_iter().chain([another]) {
        assert!(!is_alive(process));
    }
    assert!(TcpStream::connect(addr).is_err());
}

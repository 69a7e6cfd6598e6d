//! The examples of servers with many loops: `many_loops` and `hand_over` with their threads, `prefork` with its processes.

#[path = "common/greeting.rs"]
mod greeting;
#[path = "common/program.rs"]
mod program;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Instant;

use greeting::{PATIENCE, ask, connect, end};
use program::{Running, example};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

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
        assert!(greeting::answer(&client).contains("of thread "));
        connect(addr).write_all(b"GET").unwrap();

        let (_, (requests, connections)) = served(&end(server, signal));
        assert_eq!(requests, 60 * 3 + 2);
        // The last one may not have been accepted before the end.
        assert!((61..=62).contains(&connections), "{connections}");
    }
}

/// What three threads say that they have served, requests and connections: each, and all of them together.
fn served(lines: &[String]) -> (Vec<(u64, u64)>, (u64, u64)) {
    assert_eq!(lines.len(), 4, "{lines:?}");
    let numbers = |line: &str, who: &str| -> (u64, u64) {
        let line = line.strip_prefix(who).unwrap_or_else(|| panic!("{who} {line}"));
        let (requests, connections) = line.trim_end_matches(" connections").split_once(" requests on ").unwrap();
        (requests.parse().unwrap(), connections.parse().unwrap())
    };
    let each: Vec<_> = (0..3).map(|number| numbers(&lines[number], &format!("thread {number}: "))).collect();
    let all = numbers(&lines[3], "all: ");
    assert_eq!(each.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1)), all, "{lines:?}");
    (each, all)
}

/// The one that accepts hands each connection to the thread that has the fewest; at the end none is lost that was accepted.
#[test]
fn connections_are_handed_over() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut command = Command::new(example("hand_over"));
        let mut server = Running::start(command.args(["--threads", "3", "--addr", "127.0.0.1:0"]));
        let line = server.line();
        assert!(line.starts_with("3 threads serve on http://127.0.0.1:"), "{line}");
        let addr = line.rsplit('/').next().unwrap().parse().unwrap();
        // All of them are there at once: each thread has its third.
        let mut clients: Vec<_> = (0..60).map(|_| connect(addr)).collect();
        let thread = |answer: &str| answer.rsplit(' ').next().unwrap().parse::<usize>().unwrap();
        let of_client: Vec<_> = clients.iter().map(|client| thread(&ask(client))).collect();
        for number in 0..3 {
            assert_eq!(of_client.iter().filter(|&&other| other == number).count(), 20, "{of_client:?}");
        }
        // Those of one thread leave it, after which it is the one that gets the next ones.
        let mut of_one = of_client.iter().map(|&number| number == 1);
        let (leaving, staying) = clients.drain(..).partition::<Vec<_>, _>(|_| of_one.next().unwrap());
        let descriptors = server.descriptors() - leaving.len();
        drop(leaving);
        let deadline = Instant::now() + PATIENCE;
        while server.descriptors() != descriptors {
            assert!(Instant::now() < deadline, "the server does not let go of them");
            std::thread::yield_now();
        }
        let others: Vec<_> = (0..20).map(|_| connect(addr)).collect();
        let of_other: Vec<_> = others.iter().map(|client| thread(&ask(client))).collect();
        // The last of those that left may have been counted still, for a moment.
        assert!(of_other.iter().filter(|&&number| number == 1).count() >= 19, "{of_other:?}");

        // Requests on their way when it ends: each is answered, or its connection ends; the program ends in time.
        others[0].try_clone().unwrap().write_all(b"GET / HTTP/1.1\r\nHost").unwrap();
        let late = connect(addr);
        let (_, (requests, connections)) = served(&end(server, signal));
        assert_eq!(requests, 80);
        assert!((80..=81).contains(&connections), "{connections}");
        for client in staying.iter().chain(&others).chain([&late]) {
            let mut client = client;
            assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
        }
        assert!(TcpStream::connect(addr).is_err());
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

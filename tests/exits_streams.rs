//! Programs end, whatever the ends of their streams do: input that never comes, output that nobody takes, peers, servers
//! under load, names that are never found (behaviours PO-06, SR, DN-06, api 1). Each test runs a process of its own, which
//! has to end by itself, with the right status and output.

mod common;

#[path = "common/exits.rs"]
mod exits;
#[path = "common/namespace.rs"]
mod namespace;
#[path = "common/pipes.rs"]
mod pipes;
#[path = "common/runners.rs"]
mod runners;

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use common::{Log, PATIENCE};
use exits::{Program, Started, brief};
use namespace::{NameServer, USE_NAME_SERVER, in_a_network};
use pipes::{line_terminal, make_fifo, open_now, pipe};
use roundelay::{
    Family, Protocol, Stdio, StreamReader, StreamWriter, Transport, block_on, create_subprocess_shell,
    get_running_loop, open_connection, spawn, spawn_blocking, start_server, stdin, stdout, yield_now,
};
use runners::{jam, told};
use rustix::fs::OFlags;

/// Inputs from which nothing comes, and what keeps them so.
fn silent_inputs() -> Vec<(&'static str, OwnedFd, Vec<OwnedFd>)> {
    let (reader, writer) = pipe();
    let (master, slave) = line_terminal();
    let (socket, peer) = std::os::unix::net::UnixStream::pair().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    make_fifo(&path);
    let fifo = open_now(&path, OFlags::RDWR);
    pipes::set_nonblocking(&fifo, false);
    vec![
        ("a pipe", reader.into(), vec![writer.into()]),
        ("a terminal", slave.into(), vec![master.into()]),
        ("a socket", socket.into(), vec![peer.into()]),
        ("a FIFO", fifo.into(), vec![]),
    ]
}

/// PO-06: a read of the standard input that nothing comes of holds nothing up, and is no thread's, whatever the input is.
#[test]
fn input_that_never_comes() {
    let program = Program::new("input_that_never_comes", || {
        block_on(async {
            let mut input = stdin().unwrap();
            drop(spawn(async move { input.readline().await }));
            for _ in 0..3 {
                yield_now().await;
            }
        });
        println!("main ends");
    });
    for program in program.each() {
        for (name, input, _others) in silent_inputs() {
            let ended = program.start_with(|command| _ = command.stdin(input)).end();
            println!("{name}");
            ended.check(0, "main ends\n");
            ended.check_silent();
        }
    }
}

/// PO-06: so it is with a file that has no end, of which a read is under way on a thread.
#[test]
fn input_without_an_end() {
    let program = Program::new("input_without_an_end", || {
        block_on(async {
            let mut input = stdin().unwrap();
            assert_eq!(input.readexactly(1000).await.unwrap(), [0; 1000]);
            drop(spawn(async move { input.read_to_end().await }));
            yield_now().await;
        });
        println!("main ends");
    });
    for program in program.each() {
        let zero = File::open("/dev/zero").unwrap();
        let ended = program.start_with(|command| _ = command.stdin(zero)).end();
        ended.check(0, "main ends\n");
        ended.check_silent();
    }
}

/// EX-06: a job that reads the standard input by std blocks its thread for good; it is abandoned when the bound is over,
/// and the process does not wait for it, nor for the lock that it holds.
#[test]
fn input_that_a_job_waits_for() {
    let program = Program::new("input_that_a_job_waits_for", || {
        let mut runner = brief().build();
        let run = runner.run(async {
            drop(spawn_blocking(|| io::stdin().read_line(&mut String::new())));
            while fewer_threads_wait_than(1) {
                yield_now().await;
            }
        });
        run.unwrap();
        runner.close();
        println!("main ends");
    });
    for program in program.each() {
        for (name, input, _others) in silent_inputs() {
            let ended = program.start_with(|command| _ = command.stdin(input)).end();
            println!("{name}");
            ended.check(0, "main ends\n");
            let names = ended.unfinished(" within 500ms: 1 blocking job");
            assert!(names[0].contains("input_that_a_job_waits_for"), "{names:?}");
        }
    }
}

/// Whether fewer threads of the executor than this are blocked in a system call that reads.
fn fewer_threads_wait_than(count: usize) -> bool {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let waiting = tasks.filter(|task| {
        let folder = task.as_ref().unwrap().path();
        let text = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        text("comm").starts_with("roundelay_") && text("stat").contains(") S ")
    });
    waiting.count() < count
}

/// SR-30: output to a pipe whose reader goes away, as `head -1` does: `drain` says so, `main` may return it, and whoever
/// does not ask is not held up either.
#[test]
fn output_that_is_read_no_more() {
    async fn write(drains: bool) -> io::Result<()> {
        let mut output = stdout()?;
        output.write(b"ready\n");
        output.drain().await?;
        spawn_blocking(|| io::stdin().read_line(&mut String::new())).await.unwrap()?;
        for _ in 0..1000 {
            output.write(&[b'x'; 10_000]);
            if drains {
                output.drain().await?;
            }
            yield_now().await;
        }
        assert!(!drains, "there is no such pipe");
        Ok(())
    }
    let program = Program::new("output_that_is_read_no_more", || -> io::Result<()> {
        let drains = std::env::var("DRAINS").is_ok();
        block_on(write(drains))
    });
    for program in program.each() {
        for drains in [true, false] {
            let mut started = program.start_with(|command| {
                if drains {
                    command.env("DRAINS", "1");
                }
            });
            assert_eq!(started.line(), "ready");
            drop(started.stdout.take());
            started.tell("go on");
            let ended = started.end();
            assert_eq!(ended.status.code(), Some(i32::from(drains)), "{ended:#?}");
            assert_eq!(ended.stderr.contains("BrokenPipe"), drains, "{ended:#?}");
            ended.check_silent();
        }
    }
}

/// What std's `println!` does there is a panic, of main's future here: the orderly end comes first.
#[test]
fn println_to_nobody() {
    let program = Program::new("println_to_nobody", || {
        block_on(async {
            println!("ready");
            spawn_blocking(|| io::stdin().read_line(&mut String::new())).await.unwrap().unwrap();
            drop(runners::forever_with(runners::OnDrop(|| eprintln!("a task is dropped"))));
            yield_now().await;
            loop {
                println!("more");
            }
        })
    });
    for program in program.each() {
        let mut started = program.start();
        assert_eq!(started.line(), "ready");
        drop(started.stdout.take());
        started.tell("go on");
        let ended = started.end();
        assert_eq!(ended.status.code(), Some(101), "{ended:#?}");
        assert!(ended.stderr.contains("Broken pipe") && ended.stderr.contains("a task is dropped"), "{ended:#?}");
        ended.check_silent();
    }
}

/// PO-06: output that nobody takes is given up when the bound is over, and reported; what was taken has arrived.
#[test]
fn output_that_nobody_takes() {
    let program = Program::new("output_that_nobody_takes", || {
        let mut runner = brief().build();
        let run = runner.run(async {
            let mut output = stdout().unwrap();
            output.write(&[b'x'; 1 << 20]);
        });
        run.unwrap();
        runner.close();
        eprintln!("main ends");
    });
    for program in program.each() {
        let mut started = program.start();
        // Not before the program has ended.
        let stdout = started.stdout.take().unwrap();
        let ended = started.end();
        let mut taken = Vec::new();
        let _ = { stdout }.read_to_end(&mut taken).unwrap();
        assert_eq!(ended.status.code(), Some(0), "{ended:#?}");
        assert!(!taken.is_empty() && taken.len() < 1 << 20 && taken.iter().all(|byte| *byte == b'x'));
        ended.unfinished(" within 500ms: 1 connection");
        assert!(ended.stderr.ends_with("main ends\n"), "{ended:#?}");
    }
}

/// PO-06: a peer that never reads, and one that never says goodbye, hold the end up for as long as the bound is.
#[test]
fn a_peer_that_never_reads() {
    let program = Program::new("a_peer_that_never_reads", || {
        let mut runner = brief().build();
        let peers = runner.run(async {
            let (log, mut peers) = (Log::new(), Vec::new());
            for name in ["one", "two"] {
                let (transport, peer) = told(&log, name, |_| println!("lost")).await;
                jam(&transport);
                peers.push(peer);
            }
            // An idle one holds up nothing, though its peer keeps its side open.
            peers.push(told(&log, "idle", |_| println!("lost")).await.1);
            peers
        });
        let peers = peers.unwrap();
        for peer in &peers[..2] {
            eprintln!("peer={}", peer.local_addr().unwrap());
        }
        runner.close();
        println!("main ends");
    });
    for program in program.each() {
        let ended = program.end();
        ended.check(0, "lost\nlost\nlost\nmain ends\n");
        let names = ended.unfinished(" within 500ms: 2 connections");
        let peers: Vec<_> = ended.stderr.lines().filter(|line| line.starts_with("peer=")).collect();
        assert_eq!(peers.len(), 2, "{ended:#?}");
        for peer in peers {
            assert!(names.iter().any(|name| name.contains(peer)), "{names:?}");
        }
    }
}

/// Connects and talks without a pause until nobody answers any more. Gives how often it was answered.
fn load(address: SocketAddr, over: &AtomicBool, answers: &AtomicUsize) {
    let talk = || -> io::Result<()> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"question\n")?;
        stream.read_exact(&mut [0; 9])
    };
    while !over.load(Ordering::SeqCst) {
        match talk() {
            Ok(()) => _ = answers.fetch_add(1, Ordering::SeqCst),
            Err(_) => thread::yield_now(),
        }
    }
}

/// Echoes what it is sent.
struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        transport.write(data);
    }
}

/// PO-06: servers of both kinds end while connections keep coming: nothing is waited for, and nothing is reported.
#[test]
fn servers_under_load() {
    let program = Program::new("servers_under_load", || {
        block_on(async {
            let el = get_running_loop().unwrap();
            let protocols = el.create_server(|| Echo, ("127.0.0.1", 0)).await.unwrap();
            let handler = async |mut reader: StreamReader, mut writer: StreamWriter| {
                while let Ok(line) = reader.readline().await {
                    if line.is_empty() {
                        break;
                    }
                    writer.write(&line);
                    // The peer may be gone.
                    let _ = writer.drain().await;
                }
                writer.close();
            };
            let streams = start_server(handler, ("127.0.0.1", 0)).await.unwrap();
            println!("{} {}", protocols.local_addrs()[0], streams.local_addrs()[0]);
            spawn_blocking(|| io::stdin().lock().read_line(&mut String::new())).await.unwrap().unwrap();
        });
        println!("main ends");
    });
    for program in program.each() {
        let mut started: Started = program.start();
        let addresses: Vec<SocketAddr> = started.line().split(' ').map(|address| address.parse().unwrap()).collect();
        let over = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let (address, over, answers) = (addresses[client % 2], over.clone(), Arc::new(AtomicUsize::new(0)));
                let counted = answers.clone();
                (answers, thread::spawn(move || load(address, &over, &counted)))
            })
            .collect();
        while !clients.iter().all(|(answers, _)| answers.load(Ordering::SeqCst) > 10) {
            thread::yield_now();
        }
        started.tell("end");
        let ended = started.end();
        over.store(true, Ordering::SeqCst);
        clients.into_iter().for_each(|(_, client)| client.join().unwrap());
        ended.check(0, "main ends\n");
        ended.check_silent();
    }
}

/// SP-09: children that still run are killed, whoever still has a handle, whatever they ignore, and although others hold
/// their pipes; one that does not read what it is sent holds nothing up.
#[test]
fn children_that_run_on() {
    let program = Program::new("children_that_run_on", || {
        block_on(async {
            let endless = "trap '' TERM INT HUP; echo ready; sleep 30 & wait";
            let mut children = Vec::new();
            for _ in 0..2 {
                let shell =
                    create_subprocess_shell(endless).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
                let mut child = shell.await.unwrap();
                assert_eq!(child.stdout.as_mut().unwrap().readline().await.unwrap(), b"ready\n");
                println!("{}", child.pid());
                children.push(child);
            }
            // Megabytes that it will not read.
            children[0].stdin.as_mut().unwrap().write(&[0; 1 << 22]);
            // One has a handle that outlives the loop, and a task waits for the other.
            let waited = children.pop().unwrap();
            drop(spawn(async move { waited.wait().await }));
            yield_now().await;
            children
        });
        println!("main ends");
    });
    for program in program.each() {
        let mut started = program.start();
        let children = [started.line(), started.line()];
        let ended = started.end();
        ended.check(0, "main ends\n");
        ended.check_silent();
        for child in children {
            assert!(!std::path::Path::new("/proc").join(&child).exists(), "child {child} is still there");
        }
    }
}

/// DN-06: names that the name server never answers for hold up neither the end nor the process, as long as the loop does
/// the looking; a job that looks by std is abandoned.
#[test]
fn names_that_are_never_found() {
    const TEST: &str = "names_that_are_never_found";
    let program = Program::new(TEST, || {
        let by_std = std::env::var("BY_STD").is_ok();
        let mut runner = brief().build();
        let run = runner.run(async {
            let el = get_running_loop().unwrap();
            if by_std {
                drop(spawn_blocking(|| ("silent.test", 80).to_socket_addrs().map(drop)));
            } else {
                drop(spawn(el.getaddrinfo("silent.test", 80).family(Family::V4).into_future()));
                drop(spawn(async { open_connection(("silent.test", 80)).await.map(drop) }));
                drop(spawn(async move { el.create_connection(|| Echo, ("silent.test", 80)).await.map(drop) }));
            }
            let asked = if by_std { 1 } else { 3 };
            while fewer_threads_wait_than(asked) {
                yield_now().await;
            }
        });
        run.unwrap();
        runner.close();
        println!("main ends");
    });
    in_a_network(TEST, &[USE_NAME_SERVER], || {
        let _server = NameServer::start(&[]);
        for program in program.each() {
            let ended = program.end();
            ended.check(0, "main ends\n");
            ended.check_silent();
            let ended =
                program.start_with(|command| _ = command.env("BY_STD", "1").stdin(std::process::Stdio::null())).end();
            ended.check(0, "main ends\n");
            ended.unfinished(" within 500ms: 1 blocking job");
        }
    });
}

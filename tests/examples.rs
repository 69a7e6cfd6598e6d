//! The examples do what their first paragraphs say. The HTTP server has a file of its own.

#[path = "common/interrupts.rs"]
mod interrupts;
#[path = "common/program.rs"]
mod program;

#[cfg(feature = "hyper")]
use std::io::Read;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use interrupts::heed_interrupts;
#[cfg(feature = "hyper")]
use program::available;
use program::{Running, example, expect, output};
use rustix::process::{Pid, Signal, kill_process};

fn lines(name: &str, args: &[&str]) -> Vec<String> {
    let text = String::from_utf8(output(Command::new(example(name)).args(args))).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn hello_says_hello_twice() {
    assert_eq!(lines("hello", &[]), ["hello (from a callback)", "hello", "world (from a future)"]);
}

#[test]
fn display_date_shows_the_time_in_both_ways() {
    let shown = lines("display_date", &["1"]);
    assert_eq!(shown.len(), 2);
    assert!(shown[0].ends_with("UTC (from a callback)"), "{shown:?}");
    assert!(shown[1].ends_with("UTC (from a future)"), "{shown:?}");
}

#[test]
fn watch_fd_receives_in_both_ways() {
    assert_eq!(lines("watch_fd", &[]), ["received: \"abc\" (by add_reader)", "received: \"abc\\n\" (by a stream)"]);
}

#[test]
fn two_loops_play_to_the_end() {
    let shown = lines("two_loops", &[]);
    assert_eq!(shown.len(), 10);
    assert_eq!(shown[0], "hit 1 by ping");
    assert_eq!(shown[8], "hit 9 by ping");
    assert_eq!(shown[9], "10 hits");
}

#[test]
fn embed_poll_echoes_in_a_foreign_loop() {
    let mut child = Command::new(example("embed_poll"));
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // Some lines at once, of which all are heard while the input stays open.
    let lines: Vec<_> = (100..400).map(|n| format!("line {n}")).collect();
    child.stdin.as_mut().unwrap().write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
    let shown = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut shown: Vec<_> = shown.take(1 + lines.len()).collect();
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    shown.sort();
    assert_eq!(shown.pop().unwrap(), "typed: line 399");
    assert_eq!(shown.remove(0), "our loop: round trip");
    assert!(shown.iter().zip(&lines).all(|(shown, line)| *shown == format!("typed: {line}")), "{shown:?}");
}

#[test]
fn host_epoll_has_a_guest() {
    let expected = ["guest, pipe 0: from us", "guest: timer", "guest: timer", "guest, pipe 1: again", "12 bytes"];
    assert_eq!(lines("host_epoll", &[]), expected);
}

#[cfg(feature = "tokio-rt")]
#[test]
fn embed_tokio_shares_a_thread() {
    let expected = ["echoed: round and round", "the protocol has seen 15 bytes", "awaited: both timers"];
    assert_eq!(lines("embed_tokio", &[]), expected);
}

#[cfg(feature = "async-io")]
#[test]
fn embed_smol_takes_over_what_was_accepted() {
    assert_eq!(lines("embed_smol", &[]), ["hello: HELLO", "again: AGAIN", "served: 2"]);
}

#[cfg(feature = "process-pool")]
#[test]
fn run_in_executor_uses_threads_and_processes() {
    let squares = |limit: u64| (0..limit).map(|number| number * number).sum::<u64>();
    let shown = lines("run_in_executor", &[]);
    let expected = [
        "default thread pool: 100 bytes".to_owned(),
        "custom thread pool: 100 bytes".to_owned(),
        format!("process pool: {}", squares(1_000)),
        format!("process pool: {}", squares(1_000_000)),
    ];
    assert_eq!(shown, expected);
}

#[test]
fn task_group_asks_all_or_none() {
    let expected = [
        "all: ann says hello, bob says hello",
        "with one down: task group failed: down: nobody at home",
        "fastest: Some(\"bob says hello\")",
        "the record is open",
        "the record is closed",
        "with a limit: task group timed out",
        "each: nobody at home, cid says hello",
    ];
    assert_eq!(lines("task_group", &[]), expected);
}

#[test]
fn echo_streams_talks_to_itself() {
    assert_eq!(lines("echo_streams", &[]), ["echoed: one", "echoed: two", "echoed: three"]);
}

#[test]
fn async_generator_says_good_bye() {
    let expected = [
        "item 1",
        "item 2",
        "item 3",
        "(the server says good-bye after 3)",
        "closed",
        "item 1",
        "dropped",
        "(the server says good-bye after 1)",
    ];
    assert_eq!(lines("async_generator", &[]), expected);
}

/// Sends a megabyte and reads it back, in one go and while sending.
fn check_echo(name: &str) {
    let mut server = Running::start(Command::new(example(name)).arg("127.0.0.1:0"));
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(b"hello").unwrap();
    expect(&mut stream, b"hello");

    let data: Vec<u8> = (0..1_000_000_u32).map(|i| i as u8).collect();
    let (mut sender, sent) = (stream.try_clone().unwrap(), data.clone());
    let thread = std::thread::spawn(move || {
        sender.write_all(&sent).unwrap();
        sender.shutdown(Shutdown::Write).unwrap();
    });
    let mut received = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut received).unwrap();
    thread.join().unwrap();
    assert!(received == data, "{} of {} bytes came back", received.len(), data.len());
}

#[test]
fn echo_protocol_echoes() {
    check_echo("echo_protocol");
}

#[test]
fn echo_streams_echoes() {
    check_echo("echo_streams");
}

/// Comes into the room. The kernel keeps tens of kilobytes of what this client is sent, not megabytes.
fn join_chat(address: SocketAddr) -> (TcpStream, BufReader<TcpStream>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_tcp_mss(536).unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    // So that a test of a server that says nothing fails.
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    assert_eq!(line(&mut reader), "* welcome");
    (stream, reader)
}

fn line(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

#[test]
fn chat_lets_all_hear_and_a_slow_reader_holds_nobody_up() {
    let mut server = Running::start(Command::new(example("chat")).arg("127.0.0.1:0"));
    let address = server.address();
    let connect = || join_chat(address);
    let (_slow, _unread) = connect();
    let (mut ann, _) = connect();
    let (_bob, mut bob_reads) = connect();

    // Far more than the slow one's queue may hold.
    let line = [b"x".repeat(4000), b"\n".to_vec()].concat();
    let name = ann.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        for _ in 0..1500 {
            ann.write_all(&line).unwrap();
        }
        ann.write_all(b"the last\n").unwrap();
        ann
    });
    let last = format!("{name}: the last");
    let mut heard = 0;
    for said in (&mut bob_reads).lines() {
        let said = said.unwrap();
        heard += usize::from(said.starts_with(&format!("{name}: xxx")));
        if said == last {
            break;
        }
    }
    assert_eq!(heard, 1500);
    thread.join().unwrap();
    let gone = server.line();
    assert!(gone.contains("the peer does not read"), "{gone}");
}

/// What a flood of short lines is for the others is twenty times as long, and far more than may wait for one client.
#[test]
fn chat_lets_honest_readers_hear_a_flood() {
    const LINES: usize = 160_000;
    let mut server = Running::start(Command::new(example("chat")).arg("127.0.0.1:0"));
    let address = server.address();
    let (mut ann, _unread) = join_chat(address);
    let (mut bob, mut bob_reads) = join_chat(address);
    let (_carol, mut carol_reads) = join_chat(address);
    let (ann_is, bob_is) = (ann.local_addr().unwrap(), bob.local_addr().unwrap());
    assert!(line(&mut bob_reads).ends_with("has come"));

    let thread = std::thread::spawn(move || {
        ann.write_all(&vec![b'\n'; LINES]).unwrap();
        // What was said before is heard, although the connection is closed at once.
        ann.write_all(b"the last\n").unwrap();
        ann.shutdown(Shutdown::Write).unwrap();
        ann
    });
    bob.write_all(b"may I\n").unwrap();
    let empty = format!("{ann_is}:");
    let hear = |reads: &mut BufReader<TcpStream>, name: &str| {
        let (mut heard, mut bob_was_heard) = (0, false);
        loop {
            let said = line(reads);
            match said.strip_prefix(&empty) {
                Some("") => heard += 1,
                Some(" the last") => break,
                _ if said == format!("{bob_is}: may I") => bob_was_heard = true,
                _ => panic!("{name} reads {said:?} after {heard} lines"),
            }
        }
        assert_eq!(heard, LINES, "{name}");
        assert_eq!(bob_was_heard, name == "carol");
        assert_eq!(line(reads), format!("* {ann_is} has gone"));
    };
    std::thread::scope(|scope| {
        scope.spawn(|| hear(&mut bob_reads, "bob"));
        hear(&mut carol_reads, "carol");
    });
    let _ann = thread.join().unwrap();
    assert_eq!(server.line(), format!("{ann_is} has gone"));
}

#[test]
fn chat_takes_no_line_that_is_too_long() {
    let mut server = Running::start(Command::new(example("chat")).arg("127.0.0.1:0"));
    let address = server.address();
    let (_bob, mut bob_reads) = join_chat(address);
    for ending in ["", "\nmore\n"] {
        let (mut ann, mut ann_reads) = join_chat(address);
        let ann_is = ann.local_addr().unwrap();
        assert_eq!(line(&mut bob_reads), format!("* {ann_is} has come"));
        let longest = "x".repeat(4096);
        ann.write_all(format!("{longest}\nx{longest}{ending}").as_bytes()).unwrap();
        assert_eq!(line(&mut ann_reads), "* that line is too long");
        assert_eq!(line(&mut bob_reads), format!("{ann_is}: {longest}"));
        assert_eq!(line(&mut bob_reads), format!("* {ann_is} has gone"));
    }
    assert!(server.child.try_wait().unwrap().is_none());
}

/// HE-05: of the addresses of a name one answers, or none: in a small range around two servers those are found, and no more.
#[test]
fn port_scan_local_finds_who_listens() {
    let open = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = open.local_addr().unwrap().port();
    // A neighbour that has the port and does not listen.
    let (first, last) = (port.saturating_sub(100).max(1), port.saturating_add(100));
    let closed = (first..=last).find_map(|port| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into()).ok().map(|()| (port, socket))
    });
    let (closed, _holder) = closed.expect("a port of two hundred is free");
    let shown = lines("port_scan_local", &[&format!("{first}-{last}")]);
    assert!(shown.contains(&format!("{port} is open at 127.0.0.1:{port}")), "{shown:?}");
    assert!(!shown.iter().any(|line| line.starts_with(&format!("{closed} is open at 127.0.0.1"))), "{shown:?}");
    let summary = format!("{} open, 0 silent", shown.len() - 1);
    assert_eq!(shown.last(), Some(&summary));
    // More ports than workers, and none at all.
    assert_eq!(lines("port_scan_local", &["2-1"]), ["0 open, 0 silent"]);
    let refused = Command::new(example("port_scan_local")).arg("all").output().unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("usage: port_scan_local"));
}

/// The client's message comes back, word by word; where nobody is, it says so and gives up.
#[test]
fn udp_echo_asks_and_answers() {
    let mut server = Running::start(Command::new(example("udp_echo")).args(["server", "0"]));
    let port = server.address().port().to_string();
    assert_eq!(lines("udp_echo", &["client", "127.0.0.1", &port, "hello", "there"]), ["echoed: hello there"]);
    assert_eq!(lines("udp_echo", &["client", "localhost", &port, "again"]), ["echoed: again"]);
    drop(server);
    let gone = Command::new(example("udp_echo")).args(["client", "127.0.0.1", &port, "hello"]).output().unwrap();
    assert!(!gone.status.success());
    let said = String::from_utf8(gone.stderr).unwrap();
    assert!(said.contains("no answer: Connection refused") && said.contains("does not answer"), "{said}");
    assert!(!Command::new(example("udp_echo")).arg("nonsense").output().unwrap().status.success());
}

/// To several at once, each of whom gets all of it; one that goes away in the middle bothers nobody.
#[test]
fn sendfile_server_sends_its_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let data: Vec<u8> = (0..5_000_000_u32).map(|i| (i.wrapping_mul(0x9E37_79B9) >> 24) as u8).collect();
    std::fs::write(file.path(), &data).unwrap();
    let mut server = Running::start(Command::new(example("sendfile_server")).arg(file.path()).arg("127.0.0.1:0"));
    let address = server.address();
    let gone = TcpStream::connect(address).unwrap();
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            std::thread::spawn(move || {
                let mut received = Vec::new();
                std::io::Read::read_to_end(&mut stream, &mut received).unwrap();
                received
            })
        })
        .collect();
    for client in clients {
        assert!(client.join().unwrap() == data);
    }
    drop(gone);
    let mut told: Vec<String> = (0..4).map(|_| server.line()).collect();
    told.sort();
    assert_eq!(told[..3], ["5000000 bytes sent"; 3]);
    assert!(told[3].starts_with("not sent: "), "{told:?}");
}

/// By callbacks, as streams, and one program behind the other.
#[test]
fn subprocess_pipe_has_programs_work() {
    let shown = lines("subprocess_pipe", &[]);
    assert_eq!(shown[0], "date has returned Some(0)");
    assert!(shown[1].starts_with("today is 20") && shown[1].len() == "today is 2000-01-01".len(), "{shown:?}");
    assert_eq!(shown[2..], ["sorted: 9 10 100", "6 * 7 = 42", "1 << 20 = 1048576", "FROM ONE TO THE NEXT"]);
}

/// Runs commands; gives what was shown, sorted, and the exit status.
fn shell(args: &[&str], commands: &str) -> (Vec<String>, Option<i32>) {
    let mut shell = Command::new(example("shell"));
    let mut child = shell.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    let mut shown: Vec<String> = String::from_utf8(done.stdout).unwrap().lines().map(str::to_owned).collect();
    shown.sort();
    (shown, done.status.code())
}

#[test]
fn shell_runs_jobs() {
    let (shown, status) = shell(&["2"], "echo one; echo wrong >&2\n\n# no job\nfalse\necho last");
    let expected = [
        "[1] exit status: 0: echo one; echo wrong >&2",
        "[1] one",
        "[1] wrong",
        "[2] exit status: 1: false",
        "[3] exit status: 0: echo last",
        "[3] last",
    ];
    assert_eq!((shown, status), (expected.map(str::to_owned).to_vec(), Some(1)));
    assert_eq!(shell(&[], ""), (vec![], Some(0)));
    assert_eq!(shell(&["1"], "true\ntrue\n").1, Some(0));
    assert_eq!(Command::new(example("shell")).arg("many").output().unwrap().status.code(), Some(2));
}

/// With one at a time the first job has to end before the second one begins; with two they wait for each other.
#[test]
fn shell_runs_as_many_as_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    let path = fifo.display();
    let (shown, status) =
        shell(&["2"], &format!("mkfifo {path}; cat {path}\nuntil [ -p {path} ]; do :; done; echo met > {path}\n"));
    assert_eq!((shown.len(), shown[1].as_str(), status), (3, "[1] met", Some(0)), "{shown:?}");
}

/// Ctrl-C kills what runs.
#[test]
fn shell_is_interrupted() {
    heed_interrupts();
    let mut shell = Command::new(example("shell"));
    let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"echo $$; exec sleep 1000\n").unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let pid = line(&mut stdout).strip_prefix("[1] ").unwrap().to_owned();
    let shell = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(shell, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    drop(stdin);
}

/// It goes on after SIGHUP, and ends after either of the two others.
#[test]
fn signals_ends_when_it_is_told_to() {
    for (end, name) in [(Signal::INT, "SIGINT"), (Signal::TERM, "SIGTERM")] {
        let mut program = Running::start(&mut Command::new(example("signals")));
        assert_eq!(program.line(), "the loop runs for an hour, press Ctrl-C to stop it");
        assert!(program.line().starts_with(&format!("pid {}: send SIGINT", program.child.id())));
        let pid = Pid::from_child(&program.child);
        kill_process(pid, Signal::HUP).unwrap();
        assert_eq!(program.line(), "got signal SIGHUP: go on");
        kill_process(pid, end).unwrap();
        assert_eq!(program.line(), format!("got signal {name}: exit"));
        assert_eq!(program.line(), "the loop was stopped");
        assert!(program.child.wait().unwrap().success());
    }
}

#[test]
fn tracing_tells_which_task_speaks() {
    let said = |filter: &str| {
        let text = String::from_utf8(output(Command::new(example("tracing")).env("RUST_LOG", filter))).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let with_spans = said("info,roundelay::task=debug");
    for name in ["alice", "bob"] {
        let answered = format!("tracing: answered answer=hello {name}");
        let line =
            with_spans.iter().find(|line| line.ends_with(&answered)).unwrap_or_else(|| panic!("{with_spans:#?}"));
        let span = "visit{of=\"two friends\"}:task{id=";
        assert!(
            line.contains(span) && line.contains(&format!("name=\"{name}\" spawned_at=examples/tracing.rs:")),
            "{line}"
        );
    }
    assert_eq!(with_spans.iter().filter(|line| line.contains("library: parsed a name")).count(), 2, "{with_spans:#?}");
    assert!(with_spans.iter().all(|line| line.contains(":task{id=") || line.contains(" task{id=")), "{with_spans:#?}");

    let without = said("info");
    assert_eq!(without.len(), with_spans.len(), "{without:#?}");
    assert!(without.iter().all(|line| !line.contains("task{")), "{without:#?}");

    let verbose = said("debug");
    assert!(
        verbose.iter().any(|line| line.contains("roundelay::io: ") && line.ends_with(": connection made")),
        "{verbose:#?}"
    );
    assert!(verbose.iter().any(|line| line.contains("roundelay::loop: close <EventLoop")), "{verbose:#?}");

    let of_bob = said("[task{name=bob}]=trace");
    assert!(of_bob.iter().any(|line| line.contains("answered answer=hello bob")), "{of_bob:#?}");
    assert!(of_bob.iter().all(|line| line.contains("name=\"bob\"")), "{of_bob:#?}");
}

#[test]
fn timeline_shows_the_stall() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("timeline.json");
    let told = String::from_utf8(output(Command::new(example("timeline")).arg(&path))).unwrap();
    assert!(told.contains(" events in ") && told.contains("ui.perfetto.dev"), "{told}");
    let events: Vec<serde_json::Value> = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();

    let is_item = |event: &&serde_json::Value| {
        event["ph"] == "X" && !["turn", "io", "post"].contains(&event["cat"].as_str().unwrap())
    };
    let items: Vec<&serde_json::Value> = events.iter().filter(is_item).collect();
    let time = |event: &serde_json::Value, name: &str| event[name].as_f64().unwrap();
    let of_eve = items.iter().filter(|item| item["name"] == "serve eve");
    let longest = of_eve.max_by(|a, b| time(a, "dur").total_cmp(&time(b, "dur"))).unwrap();
    assert!(time(longest, "dur") >= 140_000.0, "{longest}");
    assert_eq!(longest["args"]["slow"], true, "{longest}");
    assert!(longest["args"]["at"].as_str().unwrap().starts_with("examples/timeline.rs:"), "{longest}");
    let (begin, end) = (time(longest, "ts"), time(longest, "ts") + time(longest, "dur"));

    // What had to wait for it: a timer, and what the sensor has posted meanwhile.
    let late = events.iter().filter(|event| event["cat"] == "late" && time(event, "ts") >= end);
    assert!(late.filter(|event| time(&event["args"], "late_us") > 20_000.0).count() > 0);
    let posted = events.iter().filter(|event| event["ph"] == "s" && (begin..end).contains(&time(event, "ts")));
    assert!(posted.count() >= 1, "the sensor has posted during the stall");
    let names: Vec<&str> = items.iter().map(|item| item["name"].as_str().unwrap()).collect();
    for name in ["ticker", "ann", "bob", "cid", "eve", "serve ann", "serve eve"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    let threads: Vec<&str> = events.iter().filter_map(|event| event["args"]["name"].as_str()).collect();
    assert!(threads.contains(&"thread sensor"), "{threads:?}");
}

/// By curl, and at the end as it should be: the idle connection is closed, the request that has begun is answered.
#[cfg(feature = "hyper")]
#[test]
fn hyper_server_answers_and_stops() {
    if !available("curl") {
        return;
    }
    let mut child = Command::new(example("hyper_server"))
        .arg("127.0.0.1:0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let mut server = Running { child, stdout };
    let address = server.address();
    let url = |path: &str| format!("http://{address}{path}");
    let curl = || {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "60"]);
        command
    };
    // Two requests on one connection.
    assert_eq!(output(curl().args([url("/"), url("/")])), b"hello, request 1\nhello, request 2\n");
    let data: Vec<u8> = (0..1_000_000_u32).map(|i| (i / 7) as u8).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &data).unwrap();
    let mut echo = curl();
    // A body whose length nobody has said comes back in the same way.
    echo.args(["--header", "Transfer-Encoding: chunked", "--data-binary"]).arg(format!("@{}", file.path().display()));
    assert!(output(echo.arg(url("/echo"))) == data);
    let status = output(curl().args(["--output", "/dev/null", "--write-out", "%{http_code}"]).arg(url("/nothing")));
    assert_eq!(status, b"404");

    let mut idle = TcpStream::connect(address).unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n").unwrap();
    expect(&mut idle, b"HTTP/1.1 200 OK\r\n");
    let mut busy = TcpStream::connect(address).unwrap();
    busy.write_all(b"POST /echo HTTP/1.1\r\nhost: here\r\ncontent-length: 6\r\n\r\nhal").unwrap();
    expect(&mut busy, b"HTTP/1.1 200 OK\r\n");
    stdin.write_all(b"\n").unwrap();
    let mut rest = String::new();
    idle.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("hello, request 5\n"), "{rest}");
    busy.write_all(b"ves").unwrap();
    rest.clear();
    busy.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("\r\n\r\nhalves"), "{rest}");
    assert_eq!(server.line(), "6 requests were answered");
    assert!(server.child.wait().unwrap().success());
}

//! The examples do what their first paragraphs say. The HTTP server has a file of its own.

#[path = "common/program.rs"]
mod program;

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;

use program::{Running, example, expect, output};

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
fn echo_streams_talks_to_itself() {
    assert_eq!(lines("echo_streams", &[]), ["echoed: one", "echoed: two", "echoed: three"]);
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

#[test]
fn chat_lets_all_hear_and_a_slow_reader_holds_nobody_up() {
    let mut server = Running::start(Command::new(example("chat")).arg("127.0.0.1:0"));
    let address = server.address();
    let connect = || {
        let stream = TcpStream::connect(address).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut welcome = String::new();
        reader.read_line(&mut welcome).unwrap();
        assert_eq!(welcome, "* welcome\n");
        (stream, reader)
    };
    let (_slow, _unread) = connect();
    let (mut ann, _) = connect();
    let (_bob, mut bob_reads) = connect();

    // Far more than the slow one's queue may hold.
    let line = [b"x".repeat(4000), b"\n".to_vec()].concat();
    let name = ann.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        for _ in 0..3000 {
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
    assert_eq!(heard, 3000);
    thread.join().unwrap();
    let gone = server.line();
    assert!(gone.contains("the peer does not read"), "{gone}");
}

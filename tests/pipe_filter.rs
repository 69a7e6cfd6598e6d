//! The example `pipe_filter` between real programs, files and terminals.

#[path = "common/program.rs"]
mod program;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Output, Stdio};

use program::example;
use rustix::fs::{Mode, OFlags, fcntl_getfl, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// Runs a command line in which `$FILTER` is the example.
fn shell(line: &str) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", line]).env("FILTER", example("pipe_filter")).stdin(Stdio::null());
    command.output().unwrap()
}

/// What it prints, if it succeeded and complained of nothing.
#[track_caller]
fn printed(line: &str) -> String {
    let Output { status, stdout, stderr } = shell(line);
    let text = String::from_utf8_lossy(&stderr);
    assert!(status.success() && stderr.is_empty(), "{line}: {status}\n{text}");
    String::from_utf8(stdout).unwrap()
}

fn start(stdin: impl Into<Stdio>, stdout: impl Into<Stdio>) -> Child {
    Command::new(example("pipe_filter")).stdin(stdin).stdout(stdout).spawn().unwrap()
}

#[test]
fn a_pipeline() {
    assert_eq!(printed("printf 'one\\ntwo\\nthree' | $FILTER | cat"), "ONE\nTWO\nTHREE");
    assert_eq!(printed("printf 'one\\ntwo\\nthree\\n' | $FILTER e | $FILTER EE"), "THREE\n");
}

#[test]
fn nothing_to_read() {
    assert_eq!(printed("$FILTER </dev/null"), "");
    assert_eq!(printed("$FILTER <&-"), "");
    assert_eq!(printed(": | $FILTER"), "");
    assert_eq!(printed("echo one | $FILTER >/dev/null"), "");
    assert_eq!(printed("echo one | $FILTER >&-"), "");
}

/// A reader that has seen enough ends the filter without a complaint.
#[test]
fn a_reader_that_goes_away() {
    assert_eq!(printed("yes | $FILTER | head -2"), "Y\nY\n");
}

#[test]
fn errors_are_told() {
    let full = shell("echo one | $FILTER >/dev/full");
    assert!(!full.status.success() && String::from_utf8_lossy(&full.stderr).contains("StorageFull"));
    let folder = shell("$FILTER </");
    assert!(!folder.status.success() && String::from_utf8_lossy(&folder.stderr).contains("IsADirectory"));
}

/// Files on both sides, of which each is written and read from where it stands.
#[test]
fn files() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let lines: String = (0..100_000).map(|i| format!("line {i}\n")).collect();
    std::fs::write(path("from"), &lines).unwrap();
    let from = File::open(path("from")).unwrap();
    let to = File::create(path("to")).unwrap();
    assert!(start(from, to).wait().unwrap().success());
    assert!(std::fs::read_to_string(path("to")).unwrap() == lines.to_uppercase());
    let line =
        format!("cd {} && {{ read line; echo first; $FILTER 99999; }} <from >>to; tail -2 to", folder.path().display());
    assert_eq!(printed(&line), "first\nLINE 99999\n");
}

/// Ten megabytes into a reader that is slow to begin: the writer is held back, nothing is lost, and memory does not grow with
/// what waits.
#[test]
fn a_slow_reader() {
    const LINES: usize = 10_000;
    let mut child = start(Stdio::piped(), Stdio::piped());
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        let line = [&[b'x'; 999][..], b"\n"].concat();
        (0..LINES).for_each(|_| input.write_all(&line).unwrap());
    });
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert!(!writer.is_finished());
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: usize = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 20_000, "{peak} KiB for a megabyte at most that waits");
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).unwrap();
    writer.join().unwrap();
    assert_eq!(line.len() + rest.len(), LINES * 1000);
    assert!(rest.iter().all(|byte| matches!(byte, b'X' | b'\n')));
    assert!(child.wait().unwrap().success());
}

/// A terminal on both sides, whose flags are left alone while it is in use.
#[test]
fn a_terminal() {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave: OwnedFd = open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let mut child = start(slave.try_clone().unwrap(), slave.try_clone().unwrap());
    let mut typing = File::from(master.try_clone().unwrap());
    let mut screen = BufReader::new(File::from(master));
    let mut line = String::new();
    for text in ["one", "two"] {
        writeln!(typing, "{text}").unwrap();
        for expected in [format!("{text}\r\n"), format!("{}\r\n", text.to_uppercase())] {
            line.clear();
            screen.read_line(&mut line).unwrap();
            assert_eq!(line, expected);
        }
    }
    assert!(!fcntl_getfl(&slave).unwrap().contains(OFlags::NONBLOCK));
    typing.write_all(b"\x04").unwrap();
    assert!(child.wait().unwrap().success());
}

/// One socket as both, as from a super-server: its client ends its side, and reads the answer.
#[test]
fn a_socket() {
    let (own, mut peer) = UnixStream::pair().unwrap();
    let mut child = start(OwnedFd::from(own.try_clone().unwrap()), OwnedFd::from(own));
    peer.write_all(b"one\ntwo\n").unwrap();
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    peer.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "ONE\nTWO\n");
    assert!(child.wait().unwrap().success());
}

/// A line that is too long is left out, and said so.
#[test]
fn a_line_that_is_too_long() {
    let Output { status, stdout, stderr } = shell("{ head -c 200000 /dev/zero; echo; echo short; } | $FILTER");
    assert!(status.success());
    assert!(stdout.ends_with(b"SHORT\n"));
    assert!(String::from_utf8_lossy(&stderr).contains("a line of more than 65536 bytes is left out"));
}

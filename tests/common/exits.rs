//! Programs that end: a test that is run once more, in a process of its own, as a `main`.
//!
//! Used by `#[path]` in the files that need it.

#![allow(dead_code, unreachable_pub)]

use std::io::{BufRead, BufReader, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio, Termination};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use roundelay::{Runner, RunnerBuilder};
use rustix::process::{Pid, Signal, kill_process};

use crate::common::heed_interrupts;

/// How long a program may take that is to end by itself: only one that hangs takes so long.
const LIMIT: Duration = Duration::from_secs(180);

const PROGRAM: &str = "ROUNDELAY_TEST_PROGRAM";

/// What the program itself prints begins behind this line.
const BEGIN: &str = "-- main --";

/// A runner whose end waits for half a second.
pub fn brief() -> RunnerBuilder {
    Runner::builder().shutdown_bound(Duration::from_millis(500))
}

/// A test that is a program, too.
#[derive(Clone, Copy)]
pub struct Program {
    test: &'static str,
    debug: bool,
}

impl Program {
    /// Called first by the test. In the process that is the program this runs `main`, and ends the process as the runtime
    /// does at the end of a `main`: this thread's locals are dropped, and other threads are not waited for. So it returns in
    /// the test only.
    pub fn new<T: Termination>(test: &'static str, main: impl FnOnce() -> T) -> Self {
        if std::env::var(PROGRAM).is_ok_and(|program| program == test) {
            println!("{BEGIN}");
            match catch_unwind(AssertUnwindSafe(main)) {
                Ok(value) => {
                    // Its type says nothing of how it is to be seen.
                    let code = format!("{:?}", value.report());
                    let number = code.chars().filter(char::is_ascii_digit).collect::<String>();
                    std::process::exit(number.parse().unwrap_or_else(|_| panic!("no number in {code}")))
                }
                // As the runtime does.
                Err(_) => std::process::exit(101),
            }
        }
        Self { test, debug: false }
    }

    /// Starts it with debug mode off and on, one after the other.
    pub fn each(self) -> [Self; 2] {
        [self, Self { debug: true, ..self }]
    }

    /// Runs it with debug mode off and on: it ends with this status and this text, and the crate writes nothing to stderr.
    #[track_caller]
    pub fn ends_silently(self, code: i32, stdout: &str) {
        for program in self.each() {
            let ended = program.end();
            ended.check(code, stdout);
            ended.check_silent();
        }
    }

    /// Starts it with pipes in the place of the standard streams.
    pub fn start(self) -> Started {
        self.start_with(|_| {})
    }

    pub fn start_with(self, set: impl FnOnce(&mut Command)) -> Started {
        heed_interrupts();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([self.test, "--exact", "--nocapture", "--test-threads=1"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env(PROGRAM, self.test).env("ROUNDELAY_DEBUG", if self.debug { "1" } else { "" });
        command.env("RUST_BACKTRACE", "0");
        // What is abandoned is still there at the end, on purpose.
        for (options, add) in [("TSAN_OPTIONS", "report_thread_leaks=0"), ("ASAN_OPTIONS", "detect_leaks=0")] {
            let before = std::env::var(options).unwrap_or_default();
            command.env(options, format!("{before} {add}"));
        }
        set(&mut command);
        let mut child = command.spawn().unwrap();
        let pid = Pid::from_child(&child);
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (tell, status) = mpsc::channel();
        thread::spawn(move || tell.send(child.wait().unwrap()));
        let mut started = Started {
            test: self.test,
            pid,
            status,
            stdin,
            stdout: stdout.map(BufReader::new),
            stderr: stderr.map(Text::read),
        };
        while started.stdout.is_some() && !started.line().ends_with(BEGIN) {}
        started
    }

    /// Runs it to its end.
    pub fn end(self) -> Ended {
        self.start().end()
    }
}

/// What comes from the program, when that is at its end.
struct Text(mpsc::Receiver<String>);

impl Text {
    fn read(mut from: impl Read + Send + 'static) -> Self {
        let (tell, text) = mpsc::channel();
        thread::spawn(move || {
            let mut text = Vec::new();
            from.read_to_end(&mut text).unwrap();
            tell.send(String::from_utf8_lossy(&text).into_owned())
        });
        Self(text)
    }

    #[track_caller]
    fn get(self) -> String {
        self.0.recv_timeout(LIMIT).expect("somebody else has kept the program's output open")
    }
}

/// A program that runs. Killed if it is dropped.
pub struct Started {
    test: &'static str,
    pid: Pid,
    status: mpsc::Receiver<ExitStatus>,
    /// Where it reads from, if that is a pipe.
    pub stdin: Option<ChildStdin>,
    pub stdout: Option<BufReader<ChildStdout>>,
    stderr: Option<Text>,
}

impl Started {
    /// The next line that it prints.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        let n = self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        if n == 0 {
            let stderr = self.stderr.take().map(Text::get);
            panic!("{} has ended its output: {}", self.test, stderr.unwrap_or_default());
        }
        line.trim_end().to_owned()
    }

    /// Gives it a line to read.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        let stdout = self.stdout.take().map(Text::read);
        let status = self.status.recv_timeout(LIMIT);
        if status.is_err() {
            self.signal(Signal::KILL);
        }
        let [stdout, stderr] = [stdout, self.stderr.take()].map(|text| text.map_or_else(String::new, Text::get));
        match status {
            Ok(status) => Ended { status, stdout, stderr },
            Err(_) => panic!("{} hangs\nstdout: {stdout}\nstderr: {stderr}", self.test),
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.stderr.is_some() {
            // It may have ended, and not been waited for yet.
            let _ = kill_process(self.pid, Signal::KILL);
        }
    }
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// Whether a line begins a report. That something was slow is none, for it is the machine's doing, nor is that a task waits for
/// ever, as some do on purpose.
fn is_report(line: &str) -> bool {
    let is_slow =
        |text: &str| text.starts_with("Executing <") || text.starts_with("Turn ") || text.contains(" seconds late: ");
    let is_lost = |text: &str| text.starts_with("task ") && text.contains(" waits for ever: ");
    line.strip_prefix("roundelay: ").is_some_and(|text| !is_slow(text) && !is_lost(text))
}

impl Ended {
    /// Checks how it ended and what it printed.
    #[track_caller]
    pub fn check(&self, code: i32, stdout: &str) {
        assert_eq!(self.status.code(), Some(code), "{self:#?}");
        assert_eq!(self.stdout, stdout, "{self:#?}");
    }

    /// Checks that the crate has written nothing to stderr.
    #[track_caller]
    pub fn check_silent(&self) {
        assert_eq!(self.reports(), [""; 0], "{self:#?}");
    }

    /// What the crate has written to stderr, without the lines that go on.
    pub fn reports(&self) -> Vec<&str> {
        self.stderr.lines().filter(|line| is_report(line)).collect()
    }

    /// Checks that there is one report on stderr, of what has not ended; gives its lines.
    #[track_caller]
    pub fn unfinished(&self, what: &str) -> Vec<&str> {
        assert_eq!(self.reports().len(), 1, "{self:#?}");
        let mut lines = self.stderr.lines().skip_while(|line| !is_report(line));
        let first = lines.next().unwrap();
        assert!(first.contains("not everything has ended") && first.ends_with(what), "{first}");
        lines.take_while(|line| line.starts_with("  ")).collect()
    }
}

//! Child processes: what is told of them, and when.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::rc::Rc;

use roundelay::{
    CreateSubprocess, EventLoop, ProcessHandle, Stdio, SubprocessProtocol, create_subprocess_shell, yield_now,
};

use crate::common::Log;
use crate::support::{connected, connected_differs, describe, settle, yes};

/// Ends, and leaves a child that has its pipes until it has read a line.
const LEAVES_A_CHILD: &str = "exec 3<&0; (read x <&3; echo late $x) & exit 4";

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        yield_now().await;
    }
}

/// What a protocol has heard and not told yet.
#[derive(Clone)]
struct Told {
    log: Log,
    kept: Rc<RefCell<Kept>>,
}

#[derive(Default)]
struct Kept {
    data: [Vec<u8>; 2],
    rest: Vec<String>,
    is_over: bool,
}

/// Leaves a line for what has an order of its own, and keeps the rest: the ends of pipes and of the process, which may come
/// in any order.
struct Recorder {
    told: Told,
    made: fn(&ProcessHandle),
}

impl Told {
    fn new(log: &Log) -> Self {
        Self { log: log.clone(), kept: Rc::default() }
    }

    fn recorder(&self) -> Recorder {
        Recorder { told: self.clone(), made: |_| {} }
    }

    /// Leaves the lines that were kept, in any order.
    fn tell(&self) {
        self.kept.borrow_mut().rest.sort();
        self.tell_in_order();
    }

    fn tell_in_order(&self) {
        let mut kept = self.kept.borrow_mut();
        for (fd, data) in (1..).zip(&mut kept.data) {
            if !data.is_empty() {
                self.log.push(format!("data {fd} {}", describe(data)));
                data.clear();
            }
        }
        kept.rest.drain(..).for_each(|line| self.log.push(line));
    }

    fn keep(&self, line: String) {
        self.kept.borrow_mut().rest.push(line);
    }

    async fn over(&self) {
        until(|| self.kept.borrow().is_over).await;
    }
}

impl SubprocessProtocol for Recorder {
    fn connection_made(&mut self, process: &ProcessHandle) {
        self.told.log.push("made");
        (self.made)(process);
    }

    fn pipe_data_received(&mut self, _: &ProcessHandle, fd: i32, data: &[u8]) {
        self.told.kept.borrow_mut().data[fd as usize - 1].extend_from_slice(data);
    }

    fn pipe_connection_lost(&mut self, _: &ProcessHandle, fd: i32, error: Option<io::Error>) {
        self.told.keep(format!("pipe {fd} lost {}", kind(error)));
    }

    fn pause_writing(&mut self, _: &ProcessHandle) {
        self.told.log.push("pause");
    }

    fn resume_writing(&mut self, _: &ProcessHandle) {
        self.told.log.push("resume");
    }

    fn process_exited(&mut self, process: &ProcessHandle) {
        self.told.keep(format!("exited {}", process.returncode().unwrap()));
    }

    fn connection_lost(&mut self, _: &ProcessHandle, error: Option<io::Error>) {
        self.told.tell();
        self.told.log.push(format!("lost {}", kind(error)));
        self.told.kept.borrow_mut().is_over = true;
    }
}

fn kind(error: Option<io::Error>) -> &'static str {
    match error.map(|error| error.kind()) {
        None => "None",
        Some(ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => "broken",
        Some(_) => "error",
    }
}

/// Leaves a line with the outcome of sending a signal.
fn attempt(log: &Log, what: &str, sent: io::Result<()>) {
    match sent {
        Ok(()) => log.push(format!("{what} is sent")),
        Err(error) if error.kind() == ErrorKind::NotFound => log.push(format!("{what} finds no process")),
        Err(error) => panic!("{error}"),
    }
}

async fn shell(el: &EventLoop, log: &Log, command: &str) -> (ProcessHandle, Told) {
    let told = Told::new(log);
    let recorder = told.recorder();
    (el.subprocess_shell(move || recorder, command).await.unwrap().0, told)
}

fn piped(command: &str) -> CreateSubprocess {
    create_subprocess_shell(command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped())
}

fn stdin(process: &ProcessHandle) -> roundelay::Transport {
    process.pipe_transport(0).unwrap()
}

/// SP-05, P28: made first, lost last, everything else between them.
#[test]
fn process_from_beginning_to_end() {
    connected("process_from_beginning_to_end", async |el, log| {
        let (process, told) = shell(&el, &log, "echo out; echo err >&2; exit 3").await;
        told.over().await;
        log.push(format!("returncode {}", process.returncode().unwrap()));
    });
}

/// SP-06, P29: exited comes at once, lost when the pipes are free.
#[test]
fn process_whose_pipes_are_held() {
    connected("process_whose_pipes_are_held", async |el, log| {
        let (process, told) = shell(&el, &log, LEAVES_A_CHILD).await;
        until(|| process.returncode().is_some()).await;
        settle().await;
        told.tell();
        yes(&log, "closing", process.is_closing());
        stdin(&process).write(b"word\n");
        told.over().await;
    });
}

/// SP-06, P44: a wait that is pending ends with the process.
#[test]
fn process_waited_for_while_a_pipe_is_held() {
    let here = ["waited yes", "later 4", "waited 4", "read 'late word\\n'"];
    connected_differs(
        "process_waited_for_while_a_pipe_is_held",
        "waiting-for-the-process-alone",
        &here,
        async |el, log| {
            let mut process = piped(&format!("read y; {LEAVES_A_CHILD}")).await.unwrap();
            let wait = el.create_task(process.wait());
            settle().await;
            process.stdin.as_mut().unwrap().write(b"\n");
            until(|| process.returncode().is_some()).await;
            settle().await;
            yes(&log, "waited", wait.is_done());
            log.push(format!("later {}", process.wait().await.unwrap().code().unwrap()));
            process.stdin.as_mut().unwrap().write(b"word\n");
            log.push(format!("waited {}", wait.await.unwrap().unwrap().code().unwrap()));
            let read = process.stdout.as_mut().unwrap().read_to_end().await.unwrap();
            log.push(format!("read {}", describe(&read)));
        },
    );
}

/// SP-03: what the signals give.
#[test]
fn process_signals() {
    connected("process_signals", async |_, log| {
        for what in ["kill", "terminate", "hangup"] {
            let mut process = piped("echo ready; exec cat").await.unwrap();
            log.push(describe(&process.stdout.as_mut().unwrap().readline().await.unwrap()));
            yes(&log, "ended", process.returncode().is_some());
            match what {
                "kill" => process.kill(),
                "terminate" => process.terminate(),
                _ => process.send_signal(libc::SIGHUP),
            }
            .unwrap();
            process.wait().await.unwrap();
            let code = process.returncode().unwrap();
            log.push(format!("{what} {code} {code}"));
        }
    });
}

/// SP-09: the pipes are lost first, then the killed process.
#[test]
fn process_is_closed() {
    connected("process_is_closed", async |el, log| {
        let (process, told) = shell(&el, &log, "exec cat").await;
        log.push("started");
        process.close();
        yes(&log, "closing", process.is_closing());
        process.close();
        el.call_soon(log.entry("soon"));
        until(|| process.returncode().is_some()).await;
        told.tell_in_order();
        told.over().await;
        log.push(format!("returncode {}", process.returncode().unwrap()));
        process.close();
        settle().await;
    });
}

/// SP-16: what was written comes through, and then the end.
#[test]
fn process_whose_input_ends() {
    connected("process_whose_input_ends", async |el, log| {
        let (process, told) = shell(&el, &log, "cat; echo end; exit 7").await;
        let stdin = stdin(&process);
        stdin.write(b"input ");
        yes(&log, "can", stdin.can_write_eof());
        stdin.write_eof();
        yes(&log, "closing", stdin.is_closing());
        stdin.write(b"too late");
        told.over().await;
    });
}

/// SP-01, SP-02: there is one pipe.
#[test]
fn process_whose_errors_go_to_its_output() {
    connected("process_whose_errors_go_to_its_output", async |el, log| {
        let told = Told::new(&log);
        let recorder = told.recorder();
        let start = el.subprocess_shell(move || recorder, "echo out; echo err >&2; echo out again");
        let (process, _) = start.stdin(Stdio::inherit()).stderr(Stdio::to_stdout()).await.unwrap();
        for fd in 0..4 {
            yes(&log, &format!("pipe {fd}"), process.pipe_transport(fd).is_some());
        }
        told.over().await;
    });
}

/// SP-01, SP-02: there is none.
#[test]
fn process_without_pipes() {
    connected("process_without_pipes", async |el, log| {
        let told = Told::new(&log);
        let recorder = told.recorder();
        let start = el.subprocess_shell(move || recorder, "cat; echo out; exit 1").stdin(Stdio::null());
        let (process, _) = start.stdout(Stdio::null()).stderr(Stdio::null()).await.unwrap();
        yes(&log, "pipe", (0..3).any(|fd| process.pipe_transport(fd).is_some()));
        told.over().await;
    });
}

/// SP-20: what is not read yet comes after the end of the process, and lost after that.
#[test]
fn process_is_paused() {
    connected("process_is_paused", async |el, log| {
        let told = Told::new(&log);
        let made = |process: &ProcessHandle| process.pipe_transport(1).unwrap().pause_reading();
        let recorder = Recorder { made, ..told.recorder() };
        let start = el.subprocess_shell(move || recorder, "read x; echo out; echo err >&2; exit 3");
        let (process, _) = start.await.unwrap();
        stdin(&process).write(b"\n");
        until(|| told.kept.borrow().rest.len() == 3).await;
        settle().await;
        told.tell();
        log.push("resumed");
        process.pipe_transport(1).unwrap().resume_reading();
        told.over().await;
    });
}

/// SP-24: one pipe is closed, the others go on.
#[test]
fn process_whose_output_we_close() {
    connected("process_whose_output_we_close", async |el, log| {
        let command = "trap '' PIPE; read x; (echo lost) 2>/dev/null || echo failed >&2; read x; exit 6";
        let (process, told) = shell(&el, &log, command).await;
        process.pipe_transport(1).unwrap().close();
        settle().await;
        told.tell();
        stdin(&process).write(b"\n");
        until(|| told.kept.borrow().data[1].ends_with(b"\n")).await;
        told.tell();
        stdin(&process).write(b"\n");
        told.over().await;
    });
}

/// SP-18: the loss of the pipe is told while the process runs.
#[test]
fn process_that_closes_its_input() {
    connected("process_that_closes_its_input", async |el, log| {
        let (process, told) = shell(&el, &log, "exec <&-; echo closed; exec sleep 1000").await;
        until(|| {
            let kept = told.kept.borrow();
            !kept.data[0].is_empty() && !kept.rest.is_empty()
        })
        .await;
        told.tell();
        let stdin = stdin(&process);
        yes(&log, "closing", stdin.is_closing());
        stdin.write(b"too late");
        process.kill().unwrap();
        told.over().await;
    });
}

/// FC-14: the process's protocol is told of the queue for its input.
#[test]
fn process_that_reads_slowly() {
    connected("process_that_reads_slowly", async |el, log| {
        let (process, told) = shell(&el, &log, "read x; wc -c; exit 2").await;
        let stdin = stdin(&process);
        stdin.write(&[b'x'; 1_000_000]);
        settle().await;
        log.push("begins");
        stdin.write(b"\n1234567");
        stdin.write_eof();
        told.over().await;
    });
}

/// SP-16, SP-17: with input, without, for nobody, and for one who does not want it.
#[test]
fn process_that_communicates() {
    connected("process_that_communicates", async |_, log| {
        let line = |out: &[u8], err: &[u8], code: Option<i32>| {
            log.push(format!("{} {} {}", describe(out), describe(err), code.unwrap()));
        };
        for given in [&b"data"[..], b""] {
            let mut process = piped("cat; echo err >&2; exit 5").await.unwrap();
            let (out, err) = process.communicate(Some(given)).await.unwrap();
            line(&out.unwrap(), &err.unwrap(), process.returncode());
        }
        let mut process = create_subprocess_shell("exit 4").await.unwrap();
        let (out, err) = process.communicate(None).await.unwrap();
        log.push(format!("{out:?} {err:?} {}", process.returncode().unwrap()));
        for command in ["echo out; exit 3", "cat; kill -TERM $$"] {
            let mut process = piped(command).await.unwrap();
            let (out, err) = process.communicate(Some(&[b'x'; 1_000_000])).await.unwrap();
            line(&out.unwrap(), &err.unwrap(), process.returncode());
        }
    });
}

/// SP-16: where there is nothing to say the input ends at once.
#[test]
fn process_that_communicates_without_input() {
    connected("process_that_communicates_without_input", async |_, log| {
        let mut process = piped("cat; exit 5").await.unwrap();
        let (out, err) = process.communicate(None).await.unwrap();
        let code = process.returncode().unwrap();
        log.push(format!("{} {} {code}", describe(&out.unwrap()), describe(&err.unwrap())));
    });
}

/// Nobody has closed it, and it is gone.
#[test]
fn process_after_its_end() {
    let here = ["made", "exited 2", "lost None", "closing yes"];
    connected_differs("process_after_its_end", "a-process-that-is-gone-is-closed", &here, async |el, log| {
        let told = Told::new(&log);
        let recorder = told.recorder();
        let start = el.subprocess_shell(move || recorder, "exit 2").stdin(Stdio::inherit());
        let (process, _) = start.stdout(Stdio::inherit()).stderr(Stdio::inherit()).await.unwrap();
        told.over().await;
        settle().await;
        yes(&log, "closing", process.is_closing());
    });
}

/// SP-08: no signal gets to one that is gone.
#[test]
fn process_that_is_gone() {
    connected("process_that_is_gone", async |el, log| {
        let (process, told) = shell(&el, &log, "exit 2").await;
        told.over().await;
        settle().await;
        attempt(&log, "signal", process.send_signal(libc::SIGUSR1));
        attempt(&log, "terminate", process.terminate());
        attempt(&log, "kill", process.kill());
        let mut process = piped("exit 2").await.unwrap();
        process.communicate(None).await.unwrap();
        settle().await;
        attempt(&log, "kill", process.kill());
        log.push(format!("wait {}", process.wait().await.unwrap().code().unwrap()));
    });
}

/// SP-11: whoever gives up waiting changes nothing for the others.
#[test]
fn process_whose_wait_is_cancelled() {
    connected("process_whose_wait_is_cancelled", async |el, log| {
        let mut process = piped("exec cat").await.unwrap();
        let [first, second, third] = [(); 3].map(|()| el.create_task(process.wait()));
        settle().await;
        first.cancel();
        settle().await;
        yes(&log, "cancelled", first.await.is_err_and(|error| error.is_cancelled()));
        yes(&log, "ended", process.returncode().is_some());
        process.stdin.as_mut().unwrap().close();
        let codes = [second.await.unwrap(), third.await.unwrap(), process.wait().await];
        log.push(codes.map(|status| status.unwrap().code().unwrap().to_string()).join(" "));
    });
}

/// SP-12: the call fails, the protocol was made and hears nothing.
#[test]
fn process_that_cannot_be_started() {
    connected("process_that_cannot_be_started", async |el, log| {
        let programs = [("/no/such/program", None), ("/bin/sh", Some("/no/such/directory")), ("/dev/null", None)];
        for (program, directory) in programs {
            let (own, told) = (log.clone(), Told::new(&log));
            let factory = move || {
                own.push("factory");
                told.recorder()
            };
            let mut start = el.subprocess_exec(factory, program, [""; 0]);
            if let Some(directory) = directory {
                start = start.current_dir(directory);
            }
            match start.await.unwrap_err().kind() {
                ErrorKind::NotFound => log.push("not found"),
                ErrorKind::PermissionDenied => log.push("not permitted"),
                other => panic!("{other}"),
            }
        }
        settle().await;
    });
}

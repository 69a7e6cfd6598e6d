//! Child processes as streams.

mod common;

#[path = "common/collector.rs"]
mod collector;
#[path = "common/processes.rs"]
mod processes;

use std::io::ErrorKind;
use std::pin::pin;

use collector::collect;
use common::{Kind, alone, complete, open_descriptors, poll_times, run_until, settle};
use futures::FutureExt;
use futures::future::poll_immediate as poll_once;
use processes::{NONE, children, gate, is_reaped};
use roundelay::{
    EventLoop, Process, Runner, StartError, Stdio, block_on, create_subprocess_exec, create_subprocess_shell, spawn,
    yield_now,
};
use rustix::process::Signal;

/// A process with three pipes.
async fn piped(command: &str) -> Process {
    let shell = create_subprocess_shell(command);
    shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).await.unwrap()
}

/// What becomes of a process that is given input and read to its end.
fn communicate(el: &EventLoop, command: &'static str, input: Option<&'static [u8]>) -> (String, String, i32) {
    complete(el, async move {
        let mut process = piped(command).await;
        let (out, err) = process.communicate(input).await.unwrap();
        let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap()).unwrap();
        (text(out), text(err), process.returncode().unwrap())
    })
}

on_every_loop! {
    /// SP-16: input goes in, is ended, and both outputs come back, with how the process has ended.
    fn communicate_with_all_pipes(el) {
        let command = "read line; echo $line; cat >&2; exit 3";
        let told = communicate(el, command, Some(b"first\nrest"));
        assert_eq!(told, ("first\n".into(), "rest".into(), 3));
        assert_eq!(communicate(el, "cat", None), (String::new(), String::new(), 0));
        assert_eq!(communicate(el, "cat; echo x >&2", Some(b"")), (String::new(), "x\n".into(), 0));
    }

    /// SP-16: what is no pipe gives nothing, and takes no input.
    fn communicate_without_pipes(el) {
        complete(el, async {
            let mut process = create_subprocess_exec("true", NONE).await.unwrap();
            assert!(process.stdin.is_none() && process.stdout.is_none() && process.stderr.is_none());
            assert_eq!(process.communicate(None).await.unwrap(), (None, None));
            let null = create_subprocess_shell("cat; echo x").stdin(Stdio::null()).stdout(Stdio::null());
            let mut null = null.stderr(Stdio::piped()).await.unwrap();
            let error = null.communicate(Some(b"x")).await.unwrap_err();
            let text = "Process::communicate(): there is input, and stdin is no pipe, or is closed";
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidInput, text));
            assert_eq!(null.communicate(None).await.unwrap(), (None, Some(Vec::new())));
            // A second time there is nothing new.
            assert_eq!(null.communicate(None).await.unwrap(), (None, Some(Vec::new())));
            let output = null.output().await.unwrap();
            assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty());
        });
    }

    /// SP-16: much in every direction at once holds nothing up.
    fn communicate_much(el) {
        let command = "head -c 1000000 /dev/zero >&2; head -c 1000000 /dev/zero; wc -c";
        let input = &[7; 1_000_000];
        complete(el, async move {
            let mut process = piped(command).await;
            let (out, err) = process.communicate(Some(input)).await.unwrap();
            let out = out.unwrap();
            assert_eq!((out.len(), err.unwrap().len()), (1_000_008, 1_000_000));
            assert_eq!(out[1_000_000..], *b"1000000\n");
        });
    }

    /// SP-17: a process that does not read its input is no error.
    fn communicate_with_one_that_does_not_read(el) {
        let input: &[u8] = &[b'x'; 1_000_000];
        assert_eq!(communicate(el, "echo never mind", Some(input)).0, "never mind\n");
        assert_eq!(communicate(el, "exec 0<&-; echo closed", Some(input)).0, "closed\n");
    }

    /// SP-16: given up, it has lost nothing: another call goes on.
    fn communicate_is_given_up(el) {
        let (gate, theirs) = gate();
        let command = format!("cat; echo err >&2; exec 2>&-; cat {}", gate.path);
        let mut process = complete(el, async move {
            let shell = create_subprocess_shell(command).pass_fds([theirs]);
            shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).await.unwrap()
        });
        let errors = process.handle().pipe_transport(2).unwrap();
        let first = async {
            let mut first = pin!(process.communicate(Some(b"once")));
            // Until its errors are at their end, which its output is not.
            while !errors.is_closing() {
                assert!(poll_once(first.as_mut()).await.is_none());
                yield_now().await;
            }
            assert!(poll_once(first).await.is_none());
        };
        complete(el, first);
        drop(gate);
        let (out, err) = complete(el, process.communicate(None)).unwrap();
        assert_eq!((out.unwrap(), err.unwrap()), (b"once".to_vec(), b"err\n".to_vec()));
    }

    /// SP-11: several wait, some give up, and all others hear how it has ended; so does whoever comes late.
    fn several_wait(el) {
        let process = complete(el, piped("exec cat"));
        let waits: Vec<_> = (0..4).map(|_| el.create_task(process.wait())).collect();
        let given_up = el.create_task(process.wait());
        settle(el);
        given_up.cancel();
        assert!(complete(el, poll_once(process.wait())).is_none());
        settle(el);
        assert_eq!(process.returncode(), None);
        process.send_signal(Signal::USR2.as_raw()).unwrap();
        for wait in waits {
            let status = complete(el, wait).unwrap().unwrap();
            assert_eq!(process.status(), Some(status));
        }
        assert!(complete(el, given_up).unwrap_err().is_cancelled());
        assert_eq!(process.returncode(), Some(-Signal::USR2.as_raw()));
        assert!(process.wait().now_or_never().unwrap().is_ok());
    }

    /// P44, gh-119710: whoever waits hears of the end though a child of the process still has its pipes.
    fn waiting_does_not_wait_for_pipes(el) {
        let (gate, theirs) = gate();
        let command = format!("cat {} & exit 5", gate.path);
        let mut process = complete(el, async move {
            create_subprocess_shell(command).pass_fds([theirs]).stdout(Stdio::piped()).await.unwrap()
        });
        assert_eq!(complete(el, process.wait()).unwrap().code(), Some(5));
        let stdout = process.stdout.as_mut().unwrap();
        settle(el);
        assert!(complete(el, async { poll_once(pin!(stdout.read(1))).await.is_none() }));
        drop(gate);
        assert_eq!(complete(el, stdout.read_to_end()).unwrap(), b"");
    }

    /// SP-18: writing to a process that has ended is a broken pipe.
    fn writing_to_one_that_has_ended(el) {
        let mut process = complete(el, piped("exec 0<&-; read line"));
        complete(el, process.wait()).unwrap();
        let stdin = process.stdin.as_mut().unwrap();
        let error = complete(el, async {
            loop {
                stdin.write(&[b'x'; 100_000]);
                if let Err(error) = stdin.drain().await {
                    return error;
                }
            }
        });
        assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error:?}");
        common::take_reports();
    }

    /// Lines back and forth, until the input is dropped.
    fn line_by_line(el) {
        complete(el, async {
            let mut process = piped("while read line; do echo got $line; done; echo over >&2").await;
            let (mut stdin, mut stdout) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
            for i in 0..10 {
                stdin.write(format!("{i}\n").as_bytes());
                stdin.drain().await.unwrap();
                assert_eq!(stdout.readline().await.unwrap(), format!("got {i}\n").into_bytes());
            }
            let wait = process.wait();
            drop(stdin);
            assert!(wait.await.unwrap().success());
            assert_eq!(stdout.read_to_end().await.unwrap(), b"");
            assert_eq!(process.stderr.as_mut().unwrap().readline().await.unwrap(), b"over\n");
        });
    }

    /// SP-20: what a process has written can be read when it is long gone, and its transport with it.
    fn output_outlives_the_process(el) {
        let mut process = complete(el, piped("head -c 50000 /dev/zero; echo x >&2"));
        complete(el, process.wait()).unwrap();
        run_until(el, || process.handle().protocol().is_none());
        let (out, err) = complete(el, process.communicate(None)).unwrap();
        assert_eq!((out.unwrap().len(), err.unwrap()), (50_000, b"x\n".to_vec()));
    }

    /// SP-10: a start that is given up, at whichever point, leaves neither a process nor a descriptor.
    fn a_start_that_is_given_up(el) {
        let before = open_descriptors();
        for polls in 0.. {
            let start = || create_subprocess_exec("cat", NONE).stdin(Stdio::piped()).stdout(Stdio::piped());
            let started = complete(el, async { poll_times(start().into_future(), polls).await });
            if let Some(process) = started {
                assert!(polls > 1, "there is nothing to give up");
                let process = process.unwrap();
                let wait = process.wait();
                // Drops its input, which ends it.
                drop(process);
                assert!(complete(el, wait).unwrap().success());
                break;
            }
            run_until(el, || el.stats().transports.live() == 0);
        }
        settle(el);
        assert_eq!((open_descriptors(), children()), (before, vec![]));
    }

    /// api.md 9: the process goes on when it is dropped, and is reaped by the loop.
    fn dropped_it_goes_on(el) {
        let (gate, theirs) = gate();
        let command = format!("cat {}; exit 2", gate.path);
        let process = complete(el, async { create_subprocess_shell(command).pass_fds([theirs]).await }).unwrap();
        let (pid, wait) = (process.pid(), process.wait());
        drop(process);
        settle(el);
        assert!(!is_reaped(pid));
        drop(gate);
        assert_eq!(complete(el, wait).unwrap().code(), Some(2));
        assert!(is_reaped(pid));
    }

    /// api.md 9: it is killed when it is dropped, if that was asked for.
    fn killed_on_drop(el) {
        let process = complete(el, async { create_subprocess_exec("sleep", ["1000"]).kill_on_drop(true).await }).unwrap();
        let wait = process.wait();
        drop(process);
        assert!(!complete(el, wait).unwrap().success());
    }

    /// The readers' limit is that of the start.
    fn limit(el) {
        let (limit, error) = complete(el, async {
            let mut process = create_subprocess_shell("echo 12345678901").stdout(Stdio::piped()).limit(10).await.unwrap();
            let mut stdout = process.stdout.take().unwrap();
            (stdout.limit(), stdout.readline().await.unwrap_err())
        });
        assert_eq!(limit, 10);
        assert!(matches!(error, roundelay::ReadError::Overrun(_)), "{error:?}");
        run_until(el, || el.stats().transports.live() == 0);
    }
}

/// SP-09, gh-125502: the end of a program kills what is left, whatever has become of the start, reaps it, and does not take
/// long.
#[test]
fn the_end_of_a_program() {
    let _alone = alone();
    let before = open_descriptors();
    let (pid, stopped) = block_on(async {
        let left = create_subprocess_exec("cat", NONE).stdin(Stdio::piped()).await.unwrap();
        // Would take no other signal.
        let stopped = piped("exec cat").await;
        stopped.send_signal(Signal::STOP.as_raw()).unwrap();
        for polls in 1..4 {
            drop(spawn(async move {
                let start = create_subprocess_exec("cat", NONE).stdin(Stdio::piped()).stdout(Stdio::piped());
                drop(poll_times(start.into_future(), polls).await);
            }));
        }
        let waits = spawn(async move { left.wait().await.map(|_| left) });
        let task = spawn(async { create_subprocess_exec("cat", NONE).await.unwrap().wait().await });
        yield_now().await;
        task.cancel();
        drop(waits);
        (stopped.pid(), stopped.handle().clone())
    });
    assert!(is_reaped(pid));
    assert_eq!((stopped.returncode(), children()), (Some(-9), vec![]));
    assert_eq!(open_descriptors(), before);
}

/// A process that cannot be heard of in time is left to others when a runner's bound is over: the program still ends, and
/// its protocols have heard of that.
#[test]
fn the_end_does_not_wait_for_ever() {
    let _alone = alone();
    let before = open_descriptors();
    let mut runner = Runner::builder().shutdown_bound(std::time::Duration::ZERO).build();
    let told = processes::Told::new();
    let process = runner.run(async {
        let el = roundelay::get_running_loop().unwrap();
        common::watch_reports(&el);
        el.subprocess_exec(told.protocol(), "cat", NONE).await.unwrap().0
    });
    let process = process.unwrap();
    runner.close();
    assert!(told.is_over(), "{:?}", told.take());
    let reports = common::take_reports();
    assert!(reports[0].contains("1 child process"), "{reports:?}");
    assert!(reports[0].contains(&format!(" pid={} ", process.pid())), "{reports:?}");
    let deadline = std::time::Instant::now() + common::PATIENCE;
    // It is reaped before its descriptor is closed.
    while !is_reaped(process.pid()) || open_descriptors() != before {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
}

/// RW-01, RW-02: a process that is there when its loop is closed gives one warning, beside that of the task that waits for
/// it; its streams give none, nor does one that could not be started.
#[test]
fn unclosed_processes() {
    let (_, written) = collect(|| {
        common::run(Kind::Epoll, true, |el| {
            let process = complete(el, piped("exec cat"));
            let task = el.create_task(async move { process.wait().await.map(|_| process) });
            settle(el);
            drop(task);
            let error = complete(el, async { create_subprocess_exec("no-such-program", NONE).await.map(drop) });
            assert!(error.unwrap_err().get_ref().unwrap().is::<StartError>());
        });
    });
    let texts: Vec<_> = written.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(texts[0].starts_with("resource warning: the loop is closed while a task is pending: "), "{texts:?}");
    assert!(texts[1].starts_with("resource warning: unclosed transport <SubprocessTransport "), "{texts:?}");
}

/// Awaited in another loop, or when it is closed, a start is refused.
#[test]
fn elsewhere() {
    let _alone = alone();
    let el = EventLoop::new().unwrap();
    let told = processes::Told::new();
    let here = el.subprocess_exec(told.protocol(), "true", NONE);
    let error = block_on(async { here.await.map(drop) }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().starts_with("subprocess_exec: a future of loop "), "{error}");
    let late = el.subprocess_exec(told.protocol(), "true", NONE);
    el.close();
    let error = block_on(async { late.await.map(drop) }).unwrap_err();
    assert!(error.get_ref().unwrap().is::<roundelay::LoopClosed>(), "{error}");
    assert!(children().is_empty());
}

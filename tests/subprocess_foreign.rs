//! Child processes of the loop beside those of others, and beside others who wait for them; processes that are stopped,
//! crash, or outlive the loop.

mod common;

#[path = "common/children.rs"]
mod children;
#[path = "common/collector.rs"]
mod collector;
#[path = "common/namespace.rs"]
mod namespace;
#[path = "common/processes.rs"]
mod processes;
#[path = "common/seccomp.rs"]
mod seccomp;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio as StdStdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use common::{Kind, complete, on_loop, run_on, run_until, settle};
use roundelay::{EventLoop, Process, SignalKind, create_subprocess_shell, start_server};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, waitid, waitpid};

use children::unsafe_calls::system;
use children::{
    descriptors_of, eventually, exec, is_running, many_descriptors, no_child_is_left, shell, signals, state,
};
use collector::collect;
use namespace::among_no_other_processes;
use processes::{NONE, Told, inherited};

/// Runs a test where children are watched by threads.
fn without_descriptors(test: &str, body: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let refused = scope.spawn(|| match seccomp::refuse(libc::SYS_pidfd_open, libc::ENOSYS) {
            Ok(()) => body(),
            Err(error) => seccomp::skip(test, &error),
        });
        if let Err(payload) = refused.join() {
            std::panic::resume_unwind(payload);
        }
    });
}

fn pid(process: &Process) -> Pid {
    Pid::from_raw(process.pid() as i32).unwrap()
}

fn code(el: &EventLoop, command: &str) -> Option<i32> {
    complete(el, async { create_subprocess_shell(command).await.unwrap().wait().await.unwrap().code() })
}

/// Waits until the program runs. A process was started when the old one is gone from its memory; its descriptors are closed
/// and its signals reset a moment later.
fn has_begun(el: &EventLoop, cat: &mut Process) {
    complete(el, async {
        cat.stdin.as_mut().unwrap().write(b"x");
        cat.stdout.as_mut().unwrap().readexactly(1).await.unwrap();
    });
}

on_every_loop! {
    /// SP-03: what a process has returned, or the signal that has ended it, with a core or without.
    fn codes(el) {
        let (_, warnings) = collect(|| {
            for (command, expected) in [
                ("exit 0", 0), ("exit 1", 1), ("exit 42", 42), ("exit 255", 255), ("kill -KILL $$", -9),
                ("kill -TERM $$", -15), ("ulimit -c 0; kill -QUIT $$", -3), ("ulimit -c 0; kill -ABRT $$", -6),
                ("ulimit -c 0; kill -SEGV $$", -11), ("kill -HUP $$", -1),
            ] {
                complete(el, async {
                    let process = create_subprocess_shell(command).await.unwrap();
                    let status = process.wait().await.unwrap();
                    assert_eq!(process.returncode(), Some(expected), "{command}");
                    assert_eq!(process.status(), Some(status));
                    let (code, signal) = if expected < 0 { (None, Some(-expected)) } else { (Some(expected), None) };
                    assert_eq!((status.code(), status.signal()), (code, signal), "{command}");
                });
            }
        });
        assert_eq!(warnings, []);
        no_child_is_left();
    }

    /// A process that is stopped has not exited, and one that is continued has not either.
    fn stopped_and_continued(el) {
        let told = Told::new();
        let (process, _) = complete(el, el.subprocess_exec(told.protocol(), "cat", NONE)).unwrap();
        for round in 0..3 {
            process.send_signal(libc::SIGSTOP).unwrap();
            eventually("it is stopped", || state(process.pid()) == Some('T'));
            let text = format!("round {round}\n");
            process.pipe_transport(0).unwrap().write(text.as_bytes());
            for _ in 0..5 {
                el.run_once(Some(Duration::from_millis(1))).unwrap();
            }
            assert_eq!(process.returncode(), None);
            assert!(!told.received().ends_with(&text));
            process.send_signal(libc::SIGCONT).unwrap();
            run_until(el, || told.received().ends_with(&text));
        }
        assert!(told.so_far().iter().all(|event| !event.starts_with("exited")));
        // Killed while it is stopped, it has ended.
        process.send_signal(libc::SIGSTOP).unwrap();
        eventually("it is stopped", || state(process.pid()) == Some('T'));
        process.kill().unwrap();
        run_until(el, || told.is_over());
        assert!(told.has("exited -9"));
        no_child_is_left();
    }

    /// SP-27: children of the standard library's that were started before, and while, the loop has children, and are
    /// waited for after: each owner gets its own status.
    fn children_of_the_standard_library(el) {
        let foreign = |code: i32| {
            Command::new("sh").args(["-c", &format!("read x; exit {code}")]).stdin(StdStdio::piped()).spawn().unwrap()
        };
        let mut before = foreign(61);
        let mut ours = complete(el, async { shell("read x; exit 62").await.unwrap() });
        let mut during = foreign(63);
        // Ends, and is left alone by the loop.
        drop(during.stdin.take());
        eventually("it is a zombie", || state(during.id()) == Some('Z'));
        assert_eq!(code(el, "exit 64"), Some(64));
        ours.stdin = None;
        assert_eq!(complete(el, ours.wait()).unwrap().code(), Some(62));
        assert_eq!(state(during.id()), Some('Z'));
        assert_eq!(during.wait().unwrap().code(), Some(63));
        assert!(is_running(before.id()));
        drop(before.stdin.take());
        assert_eq!(before.wait().unwrap().code(), Some(61));
        no_child_is_left();
    }

    /// SP-27: `system()` beside ours: both hear of their own children.
    fn the_c_library_waits_too(el) {
        let theirs = thread::spawn(|| (1..=10).map(|n| system(&format!("exit {n}")).code()).collect::<Vec<_>>());
        let ours: Vec<_> = (21..=30).map(|n| code(el, &format!("exit {n}"))).collect();
        assert_eq!(ours, (21..=30).map(Some).collect::<Vec<_>>());
        assert_eq!(theirs.join().unwrap(), (1..=10).map(Some).collect::<Vec<_>>());
        // On the loop's own thread, while it has children.
        let mut process = complete(el, async { shell("read x; exit 8").await.unwrap() });
        assert_eq!(system("exit 9").code(), Some(9));
        process.stdin = None;
        assert_eq!(complete(el, process.wait()).unwrap().code(), Some(8));
        no_child_is_left();
    }

    /// Closing the loop under running children: they come to the end of their input, are reaped, and their handles say that
    /// there is nothing to be had any more.
    fn loop_closed_under_children(el) {
        let mut processes: Vec<Process> =
            (0..5).map(|_| complete(el, async { exec("cat", &[]).await.unwrap() })).collect();
        let pending = processes[0].wait();
        let ((), _warnings) = collect(|| el.close());
        for process in &mut processes {
            assert_eq!((process.returncode(), process.status()), (None, None));
            let error = process.kill().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(error.to_string().contains("its loop is closed"), "{error}");
            process.stdin.as_mut().unwrap().write(b"nobody writes this");
            assert!(process.stdin.as_ref().unwrap().is_closing());
        }
        // Though the handles are still there.
        no_child_is_left();
        assert!(roundelay::block_on(pending).is_err());
    }

    /// SP-14, SP-34: a process has its three streams and what was passed to it, and nothing of the hundreds that are open
    /// here: files, sockets and pipes of the loop, of other children, and its selector.
    fn descriptors_of_a_child(el) {
        let files = many_descriptors(100);
        let server = complete(el, async { start_server(async |_, _| {}, ("127.0.0.1", 0)).await }).unwrap();
        let others: Vec<Process> =
            (0..3).map(|_| complete(el, async { exec("cat", &[]).await.unwrap() })).collect();
        let expected: BTreeSet<i32> = inherited().into_iter().chain(0..3).collect();

        let mut plain = complete(el, async { exec("cat", &[]).await.unwrap() });
        has_begun(el, &mut plain);
        assert_eq!(descriptors_of(plain.pid()), expected);

        let passed: Vec<_> = files[10..13].iter().map(|fd| fd.try_clone().unwrap()).collect();
        let numbers = passed.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>();
        let mut given = complete(el, async { exec("cat", &[]).pass_fds(passed).await.unwrap() });
        has_begun(el, &mut given);
        assert_eq!(descriptors_of(given.pid()), expected.iter().copied().chain(numbers).collect());
        // One that comes later hears nothing of what was passed to another one.
        let mut later = complete(el, async { exec("cat", &[]).await.unwrap() });
        has_begun(el, &mut later);
        assert_eq!(descriptors_of(later.pid()), expected);

        server.close();
        drop((others, plain, given, later));
        run_until(el, || el.stats().transports.live() == 0);
        no_child_is_left();
    }

    /// SP-33: the loop's handlers of signals are not the child's: nothing is caught, blocked, or ignored there, and such a
    /// signal ends it as any other, without being told here.
    fn signals_of_a_child(el) {
        let heard = Rc::new(Cell::new(0));
        let kinds = [libc::SIGTERM, libc::SIGUSR1, libc::SIGHUP, libc::SIGCHLD, libc::SIGPIPE];
        for kind in kinds {
            let heard = heard.clone();
            el.add_signal_handler(SignalKind::from(kind), move || heard.set(heard.get() + 1)).unwrap();
        }
        let mut process = complete(el, async { exec("cat", &[]).await.unwrap() });
        has_begun(el, &mut process);
        let status = fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
        assert_eq!((signals(&status, "SigBlk"), signals(&status, "SigCgt")), (0, 0));
        for kind in kinds {
            assert_eq!(signals(&status, "SigIgn") & (1 << (kind - 1)), 0, "signal {kind} is ignored");
        }
        // That of the end of a child comes, and disturbs nobody.
        el.remove_signal_handler(SignalKind::from(libc::SIGCHLD));
        settle(el);
        let before = heard.get();
        process.terminate().unwrap();
        complete(el, process.wait()).unwrap();
        assert_eq!(process.returncode(), Some(-15));
        assert_eq!(heard.get(), before);
        no_child_is_left();
    }
}

/// The same of processes that are stopped, and of others' children, where threads watch.
#[test]
fn stopped_and_others_where_threads_watch() {
    without_descriptors("stopped_and_others_where_threads_watch", || {
        run_on(
            || Kind::Epoll.builder(),
            |el| {
                stopped_and_continued::body(el);
                children_of_the_standard_library::body(el);
                the_c_library_waits_too::body(el);
                codes::body(el);
            },
        );
    });
}

/// Reaps whatever ends, as a careless library might, until it is told to stop.
fn reap_everything(is_over: &AtomicBool, stolen: &AtomicUsize) {
    while !is_over.load(SeqCst) {
        match waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Ok(Some(_)) => drop(stolen.fetch_add(1, SeqCst)),
            _ => thread::yield_now(),
        }
    }
}

/// Beside somebody who reaps every child that ends, each of ours has its own status or 255, with one warning for each
/// of these; no wait hangs, and nothing is left.
fn beside_a_thief(el: &EventLoop) {
    let (is_over, stolen) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (unknown, warnings) = thread::scope(|scope| {
        scope.spawn(|| reap_everything(&is_over, &stolen));
        let (unknown, warnings) = collect(|| {
            let mut unknown = 0;
            for n in 0..40 {
                match code(el, &format!("exit {n}")).unwrap() {
                    255 => unknown += 1,
                    code => assert_eq!(code, n),
                }
            }
            // One that certainly is stolen: the loop looks when it is gone.
            let mut process = complete(el, async { shell("read x; exit 1").await.unwrap() });
            process.stdin.as_mut().unwrap().write(b"\n");
            eventually("it was stolen", || state(process.pid()).is_none());
            let status = complete(el, process.wait()).unwrap();
            assert_eq!(status.code(), Some(255));
            assert_eq!(process.send_signal(0).unwrap_err().kind(), ErrorKind::NotFound);
            unknown + 1
        });
        is_over.store(true, SeqCst);
        (unknown, warnings)
    });
    assert_eq!(stolen.load(SeqCst), unknown);
    assert_eq!(warnings.len(), unknown, "{warnings:?}");
    assert!(warnings.iter().all(|(_, text)| text.contains("reaped by somebody else")), "{warnings:?}");
    // The loop lives on.
    assert_eq!(code(el, "exit 5"), Some(5));
    no_child_is_left();
}

/// SP-28: somebody else reaps every child that ends, as fast as it can.
#[test]
fn a_thief() {
    for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
        run_on(|| kind.builder(), beside_a_thief);
    }
}

/// SP-28: so it is where threads watch.
#[test]
fn a_thief_where_threads_watch() {
    without_descriptors("a_thief_where_threads_watch", || run_on(|| Kind::Epoll.builder(), beside_a_thief));
}

/// SP-08: a child that was reaped by somebody else, and whose number another process has got since: no signal of ours hits
/// that one, neither before the loop has heard of it nor after.
#[test]
fn a_number_that_is_used_again() {
    const LAST: &str = "/proc/sys/kernel/ns_last_pid";
    among_no_other_processes("a_number_that_is_used_again", || {
        on_loop(|el| {
            let process = complete(el, async { exec("cat", &[]).await.unwrap() });
            kill_process(pid(&process), Signal::KILL).unwrap();
            waitpid(Some(pid(&process)), WaitOptions::empty()).unwrap();
            let mut other = loop {
                if let Err(error) = fs::write(LAST, (process.pid() - 1).to_string()) {
                    return eprintln!("SKIPPED: the next number cannot be chosen: {error}");
                }
                let mut other = Command::new("cat").stdin(StdStdio::piped()).spawn().unwrap();
                if other.id() == process.pid() {
                    break other;
                }
                other.kill().unwrap();
                other.wait().unwrap();
            };
            let error = process.kill().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(error.to_string().contains("reaped by somebody else"), "{error}");
            assert_eq!(process.terminate().unwrap_err().kind(), ErrorKind::NotFound);
            process.handle().close();
            let (status, warnings) = collect(|| complete(el, process.wait()).unwrap());
            assert_eq!((status.code(), warnings.len()), (Some(255), 1));
            assert_eq!(process.kill().unwrap_err().kind(), ErrorKind::NotFound);
            drop(process);
            el.close();
            // It was neither killed nor reaped.
            drop(other.stdin.take());
            assert_eq!(other.wait().unwrap().code(), Some(0));
        });
    });
}

/// SP-08, SP-09: the same where there is no descriptor of the child: a process that has got its number and is no child of
/// this one is not hit.
#[test]
fn a_number_that_is_used_again_by_a_stranger() {
    const LAST: &str = "/proc/sys/kernel/ns_last_pid";
    const TEST: &str = "a_number_that_is_used_again_by_a_stranger";
    among_no_other_processes(TEST, || {
        without_descriptors(TEST, || {
            on_loop(|el| {
                let process = complete(el, async { exec("cat", &[]).await.unwrap() });
                kill_process(pid(&process), Signal::KILL).unwrap();
                waitpid(Some(pid(&process)), WaitOptions::empty()).unwrap();
                let mut shell = Command::new("sh")
                    .args(["-c", "exec 3<&0; read go; cat <&3 & echo $!; wait $!; echo $?"])
                    .stdin(StdStdio::piped())
                    .stdout(StdStdio::piped())
                    .spawn()
                    .unwrap();
                let (mut stdin, mut number) = (shell.stdin.take().unwrap(), String::new());
                let mut other = BufReader::new(shell.stdout.take().unwrap());
                let chosen = fs::write(LAST, (process.pid() - 1).to_string());
                stdin.write_all(b"go\n").unwrap();
                other.read_line(&mut number).unwrap();
                if let Err(error) = chosen {
                    drop(stdin);
                    shell.wait().unwrap();
                    return eprintln!("SKIPPED: the next number cannot be chosen: {error}");
                }
                assert_eq!(number.trim(), process.pid().to_string());
                let error = process.kill().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::NotFound);
                process.handle().close();
                let (status, warnings) = collect(|| complete(el, process.wait()).unwrap());
                assert_eq!((status.code(), warnings.len()), (Some(255), 1));
                drop(stdin);
                let mut status = String::new();
                other.read_line(&mut status).unwrap();
                assert_eq!(status, "0\n");
                shell.wait().unwrap();
            });
        });
    });
}

/// SP-29: a child may be killed and waited for by a loop on one thread while others have theirs on other threads, and one of
/// these loops is closed under its children.
#[test]
fn many_loops_one_of_which_ends() {
    let _alone = common::alone();
    let threads: Vec<_> = (0..4_i32)
        .map(|number| {
            thread::spawn(move || {
                let el = EventLoop::new().unwrap();
                let processes: Vec<Process> =
                    (0..5).map(|_| complete(&el, async { exec("cat", &[]).await.unwrap() })).collect();
                if number == 0 {
                    el.close();
                    return;
                }
                for round in 0..10 {
                    assert_eq!(code(&el, &format!("exit {}", number * 10 + round)), Some(number * 10 + round));
                }
                for process in &processes {
                    process.kill().unwrap();
                    complete(&el, process.wait()).unwrap();
                    assert_eq!(process.returncode(), Some(-9));
                }
                drop(processes);
                el.close();
                assert!(el.stats().is_balanced());
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    no_child_is_left();
}

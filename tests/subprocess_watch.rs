//! How a loop hears of the end of its children: by their descriptors, or by threads where there are none.

mod common;

#[path = "common/collector.rs"]
mod collector;
#[path = "common/fork.rs"]
mod fork;
#[path = "common/processes.rs"]
mod processes;
#[path = "common/seccomp.rs"]
mod seccomp;

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use collector::{collect, in_a_child};
use common::{Kind, PATIENCE, complete, on_loop, run_alone, run_on, run_until, settle};
use processes::{NONE, Told, await_zombie, gate, is_reaped, unsafe_calls};
use roundelay::selector::{Epoll, Interest, Mode, Selector};
use roundelay::{EventLoop, ProcessHandle, Stdio, block_on, create_subprocess_exec, create_subprocess_shell};
use rustix::process::{WaitOptions, waitpid};

/// How many threads wait for the end of a child.
fn waiters() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().filter_map(Result::ok);
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.trim_end() == "roundelay_child").count()
}

/// Waits, without a loop, for what happens by itself.
#[track_caller]
fn await_that(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "the condition did not come true in time");
        std::thread::yield_now();
    }
}

/// Runs a test on a thread to which the kernel refuses a system call with this error.
fn with_refused(test: &str, call: std::ffi::c_long, errno: i32, body: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let refused = scope.spawn(|| match seccomp::refuse(call, errno) {
            Ok(()) => body(),
            Err(error) => seccomp::skip(test, &error),
        });
        if let Err(payload) = refused.join() {
            std::panic::resume_unwind(payload);
        }
    });
}

fn start(el: &EventLoop, told: &Told, program: &str, args: &[&str]) -> ProcessHandle {
    complete(el, el.subprocess_exec(told.protocol(), program, args)).unwrap().0
}

/// What has to hold however children are watched.
fn exercise(el: &EventLoop) {
    // Ends by itself.
    let status = complete(el, async { create_subprocess_shell("exit 3").await?.wait().await }).unwrap();
    assert_eq!(status.code(), Some(3));

    // Killed, terminated, closed; and several at once.
    let told: Vec<Told> = (0..10).map(|_| Told::new()).collect();
    let all: Vec<ProcessHandle> = told.iter().map(|told| start(el, told, "cat", &[])).collect();
    all[0].kill().unwrap();
    all[1].terminate().unwrap();
    all[2].close();
    for process in &all[3..] {
        process.pipe_transport(0).unwrap().close();
    }
    run_until(el, || told.iter().all(Told::is_over));
    let expected = [-9, -15, -9].into_iter().chain([0; 7]).map(Some);
    assert!(all.iter().map(ProcessHandle::returncode).eq(expected));
    assert!(all.iter().all(|process| is_reaped(process.pid())));
    assert_eq!(all[3].kill().unwrap_err().kind(), ErrorKind::NotFound);

    // Its input and its output.
    let (out, _) = complete(el, async {
        let cat = create_subprocess_exec("cat", NONE).stdin(Stdio::piped()).stdout(Stdio::piped());
        cat.await?.communicate(Some(b"through")).await
    })
    .unwrap();
    assert_eq!(out.unwrap(), b"through");

    // Given up before anybody has heard of it.
    let told = Told::new();
    let given_up = el.subprocess_exec(told.protocol(), "cat", NONE).into_future();
    assert!(complete(el, common::poll_times(given_up, 1)).is_none());
    run_until(el, || el.stats().transports.live() == 0);
}

/// SP-27: where the system has descriptors of processes, no thread is made.
#[test]
fn by_descriptor() {
    for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
        run_on(
            || kind.builder(),
            |el| {
                // Those of other tests may be about to end.
                await_that(|| waiters() == 0);
                let told = Told::new();
                let process = start(el, &told, "cat", &[]);
                assert_eq!(waiters(), 0);
                process.close();
                run_until(el, || told.is_over());
                exercise(el);
            },
        );
    }
}

/// Where the system has no descriptors of processes, or gives none just now, a thread waits for each child, and only then.
#[test]
fn by_thread() {
    for errno in [libc::ENOSYS, libc::EPERM, libc::EMFILE] {
        with_refused("by_thread", libc::SYS_pidfd_open, errno, move || {
            for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
                run_on(
                    || kind.builder(),
                    |el| {
                        let told = Told::new();
                        let process = start(el, &told, "cat", &[]);
                        await_that(|| waiters() == 1);
                        process.close();
                        run_until(el, || told.is_over());
                        await_that(|| waiters() == 0);
                        exercise(el);
                        await_that(|| waiters() == 0);
                    },
                );
            }
        });
    }
}

/// A signal gets to the process though the system does not send it by a descriptor.
#[test]
fn signals_without_descriptors() {
    for errno in [libc::ENOSYS, libc::EPERM] {
        let test = "signals_without_descriptors";
        with_refused(test, libc::SYS_pidfd_send_signal, errno, || run_on(EventLoop::builder, exercise));
    }
}

/// A selector that knows no descriptors of processes.
struct Choosy(Epoll);

impl Selector for Choosy {
    fn name(&self) -> &'static str {
        "choosy"
    }
    fn add(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest, mode: Mode) -> io::Result<()> {
        let target = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
        if target.to_string_lossy().contains("pidfd") {
            return Err(ErrorKind::InvalidInput.into());
        }
        self.0.add(fd, key, interest, mode)
    }
    left_to_the_inner_one! { supports_edge modify delete wait notifier backend_fd }
}

/// A selector of the application's that does not take such a descriptor is no obstacle.
#[test]
fn a_selector_without_them() {
    run_on(
        || EventLoop::builder().selector(Choosy(Epoll::new().unwrap())),
        |el| {
            let told = Told::new();
            let process = start(el, &told, "cat", &[]);
            await_that(|| waiters() == 1);
            process.close();
            run_until(el, || told.is_over());
            exercise(el);
        },
    );
}

/// SP-08: signals to processes that are about to end hit nobody else, and change nothing about what the others have
/// returned.
#[test]
fn signals_race_with_the_end() {
    let race = || {
        run_on(EventLoop::builder, |el| {
            for _ in 0..50 {
                let told = Told::new();
                let process = start(el, &told, "true", &[]);
                let error = complete(el, async {
                    loop {
                        if let Err(error) = process.terminate() {
                            return error;
                        }
                        roundelay::yield_now().await;
                    }
                });
                assert_eq!(error.kind(), ErrorKind::NotFound);
                assert!(matches!(process.returncode(), Some(0 | -15)), "{process:?}");
                run_until(el, || told.is_over());
            }
        });
    };
    race();
    with_refused("signals_race_with_the_end", libc::SYS_pidfd_open, libc::ENOSYS, race);
}

/// SP-06: who waits for a process by a waker that panics takes its end from nobody: the others are woken, the protocol is
/// told, and the panic is reported.
#[test]
fn a_waker_that_panics() {
    struct Panics;
    impl std::task::Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("this waker is broken");
        }
    }
    on_loop(|el| {
        let told = Told::new();
        let process = start(el, &told, "cat", &[]);
        let waker = Arc::new(Panics).into();
        let mut first = process.wait();
        assert!(std::pin::Pin::new(&mut first).poll(&mut std::task::Context::from_waker(&waker)).is_pending());
        let second = el.create_task(process.wait());
        settle(el);
        process.kill().unwrap();
        assert_eq!(complete(el, second).unwrap().unwrap().signal(), Some(9));
        run_until(el, || told.is_over());
        assert!(told.has("exited -9"), "{:?}", told.take());
        let reports = common::take_reports();
        assert!(reports.len() == 1 && reports[0].contains("this waker is broken"), "{reports:#?}");
    });
}

on_every_loop! {
    /// SP-27: a child of the standard library's is left to it, and its status with it; no handler of SIGCHLD is installed.
    fn others_are_left_alone(el) {
        let mut other = Command::new("sh").args(["-c", "exit 9"]).spawn().unwrap();
        exercise(el);
        await_zombie(other.id());
        exercise(el);
        assert_eq!(other.wait().unwrap().code(), Some(9));
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        assert_eq!(u64::from_str_radix(caught.trim(), 16).unwrap() & (1 << (libc::SIGCHLD - 1)), 0);
    }

    /// A child that outlives its loop goes on, and is reaped when it ends.
    fn outliving_the_loop(el) {
        let (gate, theirs) = gate();
        let command = format!("cat {}", gate.path);
        let process = complete(el, async { create_subprocess_shell(command).pass_fds([theirs]).await }).unwrap();
        let pid = process.pid();
        el.close();
        assert_eq!(process.returncode(), None);
        drop(process);
        assert!(!is_reaped(pid));
        drop(gate);
        await_that(|| is_reaped(pid));
        await_that(|| waiters() == 0);
    }

    /// One that has ended when its loop is closed is reaped at once.
    fn ending_before_the_loop(el) {
        let (gate, theirs) = gate();
        let command = format!("cat {}", gate.path);
        let process = complete(el, async { create_subprocess_shell(command).pass_fds([theirs]).await }).unwrap();
        drop(gate);
        await_zombie(process.pid());
        el.close();
        assert!(is_reaped(process.pid()));
    }
}

/// The same where threads watch.
#[test]
fn outliving_the_loop_by_thread() {
    with_refused("outliving_the_loop_by_thread", libc::SYS_pidfd_open, libc::ENOSYS, || {
        run_on(EventLoop::builder, |el| {
            let (gate, theirs) = gate();
            let command = format!("cat {}", gate.path);
            let start = || create_subprocess_shell(command).pass_fds([theirs]);
            let process = complete(el, async { start().await }).unwrap();
            let killed = complete(el, async { create_subprocess_exec("cat", NONE).kill_on_drop(true).await }).unwrap();
            el.close();
            await_that(|| is_reaped(killed.pid()));
            assert!(!is_reaped(process.pid()));
            drop(gate);
            await_that(|| is_reaped(process.pid()));
            await_that(|| waiters() == 0);
        });
    });
}

/// SP-28: a child that somebody else has reaped has returned 255, and a warning says so; the rest is as usual.
#[test]
fn reaped_by_somebody_else() {
    let body = || {
        run_on(EventLoop::builder, |el| {
            let told = Told::new();
            let (gate, theirs) = gate();
            let command = format!("cat {}; exit 1", gate.path);
            let start = el.subprocess_shell(told.protocol(), command).pass_fds([theirs]);
            let process = complete(el, start).unwrap().0;
            drop(gate);
            let pid = rustix::process::Pid::from_raw(process.pid() as i32);
            waitpid(pid, WaitOptions::empty()).unwrap();
            let ((), written) = collect(|| run_until(el, || told.is_over()));
            assert_eq!(process.returncode(), Some(255));
            assert!(told.has("exited 255"));
            let text =
                format!("process {} was reaped by somebody else: its returncode is taken to be 255", process.pid());
            assert_eq!(written.iter().map(|(_, text)| text).collect::<Vec<_>>(), [&text]);
        });
    };
    body();
    with_refused("reaped_by_somebody_else", libc::SYS_pidfd_open, libc::ENOSYS, body);
}

/// SP-28: so it is where the process ignores SIGCHLD, and the system reaps its children itself.
#[test]
fn reaped_by_the_system() {
    let body = || {
        unsafe_calls::ignore_sigchld();
        on_loop(|el| {
            let (status, written) = collect(|| {
                complete(el, async { create_subprocess_shell("exit 1").await.unwrap().wait().await.unwrap() })
            });
            assert_eq!(status.code(), Some(255));
            assert_eq!(written.len(), 1, "{written:?}");
        });
    };
    in_a_child("reaped_by_the_system", body);
}

/// SP-29: loops on several threads have children at the same time, each its own.
#[test]
fn loops_on_several_threads() {
    let _alone = common::alone();
    let threads: Vec<_> = (0..4)
        .map(|number| {
            std::thread::spawn(move || {
                for round in 0..5 {
                    let returned = block_on(async move {
                        let code = number * 10 + round;
                        let process = create_subprocess_shell(format!("exit {code}")).await.unwrap();
                        let mut cat = create_subprocess_exec("cat", NONE)
                            .stdin(Stdio::piped())
                            .stdout(Stdio::piped())
                            .await
                            .unwrap();
                        let (out, _) = cat.communicate(Some(code.to_string().as_bytes())).await.unwrap();
                        (process.wait().await.unwrap().code(), String::from_utf8(out.unwrap()).unwrap())
                    });
                    assert_eq!(returned, (Some(number * 10 + round), (number * 10 + round).to_string()));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(processes::children().is_empty());
}

/// A handle may outlive its loop, be dropped on the way out of a thread, and be used in a destructor.
#[test]
fn handles_that_outlive_the_loop() {
    let _alone = common::alone();
    let told = Told::new();
    let kept: Rc<std::cell::RefCell<Option<ProcessHandle>>> = Rc::default();
    let keep = kept.clone();
    run_alone(EventLoop::builder, |el| {
        *keep.borrow_mut() = Some(start(el, &told, "cat", &[]));
        settle(el);
    });
    let process = kept.take().unwrap();
    assert_eq!((process.returncode(), process.is_closing()), (None, true));
    // Its input is closed with the loop.
    await_that(|| is_reaped(process.pid()));
    assert!(process.pipe_transport(0).unwrap().is_closing());
    assert_eq!(block_on(process.wait()).unwrap_err().kind(), ErrorKind::Other);
}

/// In a child of `fork` the processes of its parent are left alone, whatever becomes of the loop there: neither killed nor
/// reaped; and those that it starts itself are its own.
#[test]
fn a_child_of_fork() {
    fork::in_own_process(|| {
        let el = EventLoop::new().unwrap();
        let (told, kept) = (Told::new(), Told::new());
        let started = complete(&el, el.subprocess_exec(told.protocol(), "sleep", ["1000"]).kill_on_drop(true));
        let process = started.unwrap().0;
        let ended = start(&el, &kept, "cat", &[]);
        let returned = || block_on(async { create_subprocess_shell("exit 3").await?.wait().await }).unwrap().code();

        let mut left_alone = fork::fork(|| {
            assert!(process.kill().is_err());
            process.close();
            drop((process.clone(), el.clone()));
            el.close();
            assert_eq!(returned(), Some(3));
        });
        await_that(|| left_alone.has_ended());
        left_alone.wait();
        settle(&el);
        assert_eq!((process.returncode(), process.is_closing()), (None, false));

        let mut goes_on = fork::fork(|| {
            el.after_fork_child().unwrap();
            assert!(process.kill().is_err());
            // How it ends is not to be found out here.
            run_until(&el, || process.returncode() == Some(255));
            process.close();
            complete(&el, async {
                assert!(create_subprocess_exec("true", NONE).await?.wait().await?.success());
                io::Result::Ok(())
            })
            .unwrap();
            el.close();
        });
        await_that(|| goes_on.has_ended());
        goes_on.wait();
        settle(&el);
        assert_eq!(process.returncode(), None);

        drop(process);
        ended.pipe_transport(0).unwrap().close();
        run_until(&el, || told.is_over() && kept.is_over());
        assert!(told.has("exited -9") && kept.has("exited 0"));
    });
}

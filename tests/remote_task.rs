//! Tasks that other threads spawn on a loop (behaviours TS).

mod common;
#[path = "common/threads.rs"]
mod threads;

use std::cell::Cell;
use std::future::pending;
use std::panic::panic_any;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Wake, Waker};
use std::thread::{self};
use std::time::Duration;

use common::{PATIENCE, on_loop, settle, take_reports};
use roundelay::{JoinError, get_running_loop};
use threads::{Drops, join};

/// TS-08: the closure goes to the loop, its future need not be `Send`, and the result comes back.
#[test]
fn spawn_brings_the_result_back() {
    on_loop(|el| {
        let (remote, home) = (el.remote(), thread::current().id());
        let thread = thread::spawn(move || {
            let task = remote.spawn(move || {
                assert_eq!(thread::current().id(), home);
                let not_send = Rc::new(Cell::new(0));
                async move {
                    for _ in 0..3 {
                        not_send.set(not_send.get() + 1);
                        roundelay::yield_now().await;
                    }
                    assert_eq!(thread::current().id(), home);
                    not_send.get()
                }
            });
            task.unwrap().wait()
        });
        assert_eq!(join(el, thread).unwrap(), 3);
    });
}

/// TS-08: a panic of the task crosses over with its payload, and is not reported besides.
#[test]
fn a_panic_crosses_over() {
    on_loop(|el| {
        let remote = el.remote();
        let thread = thread::spawn(move || {
            let task = remote.spawn(|| async {
                roundelay::yield_now().await;
                panic_any(17_u8)
            });
            let result: Result<(), JoinError> = task.unwrap().wait();
            *result.unwrap_err().into_panic().downcast::<u8>().unwrap()
        });
        assert_eq!(join(el, thread), 17);
        assert_eq!(take_reports(), [""; 0]);
    });
}

/// TS-09: a thread that has waited long enough cancels, and the task in the loop is cancelled.
#[test]
fn a_thread_that_gives_up_cancels_the_task() {
    on_loop(|el| {
        let (remote, drops) = (el.remote(), Drops::default());
        let guard = drops.guard();
        let thread = thread::spawn(move || {
            let (begun, has_begun) = mpsc::channel();
            let task = remote.spawn(move || async move {
                let _guard = guard;
                begun.send(()).unwrap();
                pending::<()>().await
            });
            let task = task.unwrap();
            has_begun.recv_timeout(PATIENCE).unwrap();
            assert!(task.wait_timeout(Duration::ZERO).is_none());
            assert!(!task.is_done());
            assert!(task.cancel());
            let error = task.wait_timeout(PATIENCE).unwrap().unwrap_err();
            assert!(error.is_cancelled());
            assert!(task.is_done() && !task.cancel());
        });
        join(el, thread);
        assert_eq!(drops.take(), [thread::current().id()]);
        assert_eq!(el.all_tasks().len(), 0);
    });
}

/// TS-09: cancelled before the loop got to it, the task is never made.
#[test]
fn a_task_cancelled_early_is_never_made() {
    on_loop(|el| {
        let drops = Drops::default();
        let guard = drops.guard();
        let task = el.remote().spawn(move || {
            let _guard = guard;
            panic!("the closure was called");
            #[allow(unreachable_code)]
            async {}
        });
        let task = task.unwrap();
        assert!(task.cancel());
        settle(el);
        assert!(task.wait().unwrap_err().is_cancelled());
        assert_eq!(drops.take().len(), 1);
        assert_eq!(el.stats().tasks.opened, 0);
    });
}

/// TS-10: a task that is cancelled inside of the loop: the thread that waits gets the error.
#[test]
fn a_task_cancelled_on_the_loop_ends_the_wait() {
    on_loop(|el| {
        let remote = el.remote();
        let thread = thread::spawn(move || {
            let task = remote.spawn(|| async {
                assert!(get_running_loop().unwrap().current_task().unwrap().cancel());
                pending::<()>().await
            });
            task.unwrap().wait().unwrap_err().is_cancelled()
        });
        assert!(join(el, thread));
    });
}

/// TS-11: a task factory that panics: the waiting thread gets that panic, and the exception handler hears of it once.
#[test]
fn a_failing_task_factory_crosses_over() {
    on_loop(|el| {
        el.set_task_factory(Some(Rc::new(|_, _, _| panic!("no tasks today"))));
        let remote = el.remote();
        let thread = thread::spawn(move || remote.spawn(|| async {}).unwrap().wait().unwrap_err());
        let error = join(el, thread);
        assert!(error.is_panic(), "{error}");
        assert_eq!(error.to_string(), "panicked: no tasks today");
        let reports = take_reports();
        assert_eq!(reports.len(), 1, "{reports:#?}");
        assert!(reports[0].contains("no tasks today"));
        el.set_task_factory(None);
    });
}

/// TS-11: the same for a closure that panics before there is a future.
#[test]
fn a_failing_closure_crosses_over() {
    on_loop(|el| {
        let remote = el.remote();
        let thread = thread::spawn(move || {
            let make = || -> std::future::Ready<()> { panic!("no future") };
            remote.spawn(make).unwrap().wait().unwrap_err()
        });
        let error = join(el, thread);
        assert!(error.is_panic(), "{error}");
        let reports = take_reports();
        assert_eq!(reports.len(), 1, "{reports:#?}");
        assert!(reports[0].contains("no future"));
    });
}

/// EH-07: a task that panics when nobody holds its `RemoteTask` any more is reported.
#[test]
fn a_forgotten_task_that_panics_is_reported() {
    on_loop(|el| {
        drop(el.remote().spawn(|| async { panic!("nobody saw it") }).unwrap());
        settle(el);
        let reports = take_reports();
        assert_eq!(reports.len(), 1, "{reports:#?}");
        assert!(reports[0].contains("nobody saw it"), "{reports:#?}");
    });
}

/// EH-07: so is one whose `RemoteTask` is dropped after it has panicked, on whichever thread that happens.
#[test]
fn a_panic_that_was_not_looked_at_is_reported() {
    on_loop(|el| {
        let here = el.remote().spawn(|| async { panic!("not looked at here") }).unwrap();
        let there = el.remote().spawn(|| async { panic!("not looked at there") }).unwrap();
        settle(el);
        assert!(here.is_done() && there.is_done());
        assert_eq!(take_reports(), [""; 0]);
        drop(here);
        thread::spawn(move || drop(there)).join().unwrap();
        settle(el);
        let reports = take_reports();
        assert_eq!(reports.len(), 2, "{reports:#?}");
        assert!(reports[0].contains("not looked at here") && reports[1].contains("not looked at there"));
    });
}

/// EH-07: also where the loop is closed before it gets to the report.
#[test]
fn a_panic_that_was_not_looked_at_is_reported_by_a_closing_loop() {
    on_loop(|el| {
        let there = el.remote().spawn(|| async { panic!("almost lost") }).unwrap();
        settle(el);
        thread::spawn(move || drop(there)).join().unwrap();
        el.close();
        let reports = take_reports();
        assert_eq!(reports.len(), 1, "{reports:#?}");
        assert!(reports[0].contains("almost lost"));
    });
}

/// TS-08: what the closure of a task that never came to be has captured is dropped before its awaiter hears of the end: of a
/// cancelled one, and of one that close finds.
#[test]
fn what_was_captured_goes_before_the_awaiter_is_told() {
    /// Notes what had been dropped when it was woken.
    struct Notes(Arc<AtomicBool>, Arc<AtomicBool>);
    impl Wake for Notes {
        fn wake(self: Arc<Self>) {
            self.1.store(self.0.load(Ordering::SeqCst), Ordering::SeqCst);
        }
    }
    struct Captured(Arc<AtomicBool>);
    impl Drop for Captured {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    on_loop(|el| {
        let post = || {
            let (dropped, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
            let captured = Captured(dropped.clone());
            let mut task = el.remote().spawn(move || {
                let _captured = &captured;
                pending::<()>()
            });
            let waker = Waker::from(Arc::new(Notes(dropped, seen.clone())));
            assert!(Pin::new(task.as_mut().unwrap()).poll(&mut Context::from_waker(&waker)).is_pending());
            (task.unwrap(), seen)
        };
        let (task, seen) = post();
        assert!(task.cancel());
        settle(el);
        assert!(seen.load(Ordering::SeqCst));
        assert!(task.wait().unwrap_err().is_cancelled());
        let (task, seen) = post();
        el.close();
        assert!(seen.load(Ordering::SeqCst));
        assert!(task.wait().unwrap_err().is_closed());
    });
}

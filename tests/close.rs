//! Closing and dropping a loop (behaviours LR).

mod common;

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use common::{DropCounter, Kind, Log, alone, on_loop, open_descriptors, take_reports, watch_reports};
use futures::FutureExt;
use roundelay::{EventLoop, JoinError, LoopClosed, ManualClock, get_running_loop, sleep};

const ZERO: Option<Duration> = Some(Duration::ZERO);

/// A callback that keeps something until it is dropped.
fn holding<T: 'static>(value: T) -> impl FnOnce() + 'static {
    move || drop(value)
}

/// The text of the panic of `f`.
fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)) {
        Ok(_) => panic!("no panic"),
        Err(payload) => *payload.downcast::<String>().expect("a text"),
    }
}

/// Asserts on the first lines of what was reported.
#[track_caller]
fn assert_reported(expected: &[&str]) {
    let reports = take_reports();
    let first: Vec<&str> = reports.iter().map(|report| report.lines().next().unwrap()).collect();
    assert_eq!(first, expected);
}

fn is_closed<T>(result: Option<Result<T, JoinError>>) -> bool {
    result.is_some_and(|result| result.is_err_and(|error| error.is_closed()))
}

/// LR-01: a loop is closed once and for good.
#[test]
fn closing_is_final_and_can_be_repeated() {
    on_loop(|el| {
        assert!(!el.is_closed());
        for _ in 0..3 {
            el.close();
            assert!(el.is_closed() && !el.is_running());
        }
        assert!(el.clone().is_closed());
        assert_eq!(el.selector_name(), "");
    });
}

/// LR-02: on a closed loop nothing runs: running it panics.
#[test]
fn a_closed_loop_does_not_run() {
    on_loop(|el| {
        el.close();
        let dropped = DropCounter::new();
        let guard = dropped.guard();
        let future = async move {
            let _guard = guard;
            unreachable!()
        };
        assert_eq!(panic_of(|| el.run_until_complete(future)), "EventLoop::run_until_complete(): event loop is closed");
        assert_eq!(dropped.count(), 1);
        assert_eq!(panic_of(|| el.run_forever()), "EventLoop::run_forever(): event loop is closed");
        assert_eq!(panic_of(|| el.run_once(ZERO)), "EventLoop::run_once(): event loop is closed");
    });
}

/// LR-02: what is scheduled on a closed loop is dropped at once, the handle says so, and each call is reported, once.
#[test]
fn scheduling_on_a_closed_loop_is_refused() {
    on_loop(|el| {
        el.close();
        let dropped = DropCounter::new();
        let context = roundelay::Context::new();
        assert!(is_closed(el.call_soon(holding(dropped.guard())).now_or_never()));
        assert!(is_closed(el.call_soon_in(&context, holding(dropped.guard())).now_or_never()));
        assert_eq!(dropped.count(), 2);
        assert_reported(&["EventLoop::call_soon(): event loop is closed"; 2]);

        let timer = el.call_later(Duration::ZERO, holding(dropped.guard()));
        assert!(timer.is_done() && !timer.is_cancelled() && !timer.cancel());
        assert!(is_closed(timer.now_or_never()));
        assert!(is_closed(el.call_later_in(&context, Duration::MAX, holding(dropped.guard())).now_or_never()));
        assert_eq!(dropped.count(), 4);
        assert_reported(&["EventLoop::call_later(): event loop is closed"; 2]);

        assert!(is_closed(el.call_at(el.time(), holding(dropped.guard())).now_or_never()));
        assert!(is_closed(el.call_at_in(&context, el.time(), holding(dropped.guard())).now_or_never()));
        assert_eq!(dropped.count(), 6);
        assert_reported(&["EventLoop::call_at(): event loop is closed"; 2]);

        let guard = dropped.guard();
        let task = el.create_task(async move { drop(guard) });
        assert!(task.is_done() && !task.cancel());
        assert!(is_closed(task.now_or_never()));
        assert_eq!(dropped.count(), 7);
        assert_reported(&["EventLoop::create_task(): event loop is closed"]);

        let work = el.run_in_executor(None, || unreachable!());
        assert!(is_closed(work.now_or_never()));
        assert_reported(&["EventLoop::run_in_executor(): event loop is closed"]);
    });
}

/// LR-02: a report from a closed loop names the place of the call.
#[test]
fn a_refusal_names_the_place_of_the_call() {
    on_loop(|el| {
        el.close();
        let line = line!() + 1;
        drop(el.call_soon(|| ()));
        let report = take_reports().remove(0);
        assert!(report.contains(&format!("created at {}:{line}:", file!())), "{report}");
    });
}

/// LR-02: what returns a result anyway returns the error, and reports nothing.
#[test]
fn a_closed_loop_gives_errors() {
    on_loop(|el| {
        let remote = el.remote();
        el.close();
        let (socket, _peer) = UnixStream::pair().unwrap();
        for error in [el.add_reader(&socket, || ()).unwrap_err(), el.add_writer(&socket, || ()).unwrap_err()] {
            assert!(error.get_ref().unwrap().is::<LoopClosed>(), "{error:?}");
        }
        let held = Arc::new(());
        let captured = held.clone();
        assert_eq!(el.call_soon_threadsafe(|| ()).unwrap_err(), LoopClosed);
        assert_eq!(remote.call_soon_threadsafe(move || drop(captured)).unwrap_err(), LoopClosed);
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!(remote.spawn(|| async {}).unwrap_err(), LoopClosed);
        assert_eq!(remote.stop().unwrap_err(), LoopClosed);
        // From another thread as well.
        let other = remote.clone();
        let refused = std::thread::spawn(move || other.call_soon_threadsafe(|| ()).is_err()).join().unwrap();
        assert!(refused);
        assert_eq!(LoopClosed.to_string(), "event loop is closed");
    });
}

/// LR-02: a future can be made and completed on a closed loop.
#[test]
fn a_closed_loop_makes_futures() {
    on_loop(|el| {
        el.close();
        let future = el.create_future();
        let called = Rc::new(Cell::new(false));
        let flag = called.clone();
        future.add_done_callback(move |_| flag.set(true));
        future.set_result(5).unwrap();
        assert_eq!(future.result().unwrap(), 5);
        assert!(!called.get(), "there is no turn to call it in");
    });
}

/// LR-04: on a closed loop there is no reader and no writer to remove.
#[test]
fn a_closed_loop_has_nothing_to_remove() {
    on_loop(|el| {
        let (socket, _peer) = UnixStream::pair().unwrap();
        el.add_reader(&socket, || ()).unwrap();
        el.add_writer(&socket, || ()).unwrap();
        el.close();
        assert!(!el.remove_reader(&socket) && !el.remove_writer(&socket));
    });
}

/// What can still be asked of a closed loop is answered.
#[test]
fn a_closed_loop_answers_questions() {
    on_loop(|el| {
        el.call_later(Duration::from_secs(1), || ());
        el.close();
        assert_eq!(el.next_deadline(), None);
        assert!(el.current_task().is_none() && el.all_tasks().is_empty());
        el.stop();
        el.set_debug(true);
        assert!(el.debug());
        assert!(el.stats().timers.opened == 1 && el.stats().is_balanced());
        assert!(panic_of(|| std::os::fd::AsFd::as_fd(el)).contains("event loop is closed"));
    });
}

/// LR-05: `close` drops what is ready, what is armed and what is watched, and runs none of it.
#[test]
fn close_discards_what_is_scheduled() {
    on_loop(|el| {
        let (log, dropped) = (Log::new(), DropCounter::new());
        let held = |entry: &str| {
            let (log, guard, entry) = (log.clone(), dropped.guard(), entry.to_owned());
            move || {
                log.push(&*entry);
                drop(guard);
            }
        };
        let mut handles = vec![el.call_soon(held("ready")), el.call_soon(held("ready"))];
        handles.push(el.call_soon_in(&roundelay::Context::new(), held("ready")));
        let timers = [el.call_at(el.time(), held("due")), el.call_later(Duration::from_secs(9), held("armed"))];
        let (readable, mut peer) = UnixStream::pair().unwrap();
        peer.write_all(b"x").unwrap();
        let (guard, on_read) = (dropped.guard(), log.clone());
        el.add_reader(&readable, move || {
            let _ = &guard;
            on_read.push("event");
        })
        .unwrap();
        el.close();
        assert_eq!((log.len(), dropped.count()), (0, 6));
        for handle in handles {
            assert!(handle.is_done() && !handle.is_cancelled() && !handle.cancel());
            assert!(is_closed(handle.now_or_never()));
        }
        for timer in timers {
            assert!(is_closed(timer.now_or_never()));
        }
    });
}

/// LR-05: what was posted is discarded, too, and whoever waits for it is told.
#[test]
fn close_refuses_what_was_posted() {
    on_loop(|el| {
        let remote = el.remote();
        let posted = std::thread::spawn(move || {
            let callback = remote.call_soon_threadsafe(|| unreachable!()).unwrap();
            let task = remote.spawn(|| async { unreachable!() }).unwrap();
            (callback, task)
        });
        let (callback, task): (roundelay::RemoteHandle<()>, roundelay::RemoteTask<()>) = posted.join().unwrap();
        el.close();
        assert!(callback.wait().unwrap_err().is_closed());
        assert!(task.wait().unwrap_err().is_closed());
    });
}

/// LR-05: all tasks are dropped before `close` returns, started or not, and their handles say why.
#[test]
fn close_drops_all_tasks() {
    on_loop(|el| {
        let dropped = DropCounter::new();
        let (waiting, sleeping, unstarted) = (dropped.guard(), dropped.guard(), dropped.guard());
        let waiting = el.create_task(async move {
            let _guard = waiting;
            pending::<()>().await;
        });
        drop(el.create_task(async move {
            let _guard = sleeping;
            sleep(Duration::from_secs(9)).await;
        }));
        el.run_once(None).unwrap();
        let unstarted = el.create_task(async move {
            let _guard = unstarted;
            unreachable!()
        });
        el.close();
        assert_eq!(dropped.count(), 3);
        assert!(waiting.is_done() && !waiting.is_cancelled());
        assert!(is_closed(waiting.now_or_never()) && is_closed::<()>(unstarted.now_or_never()));
    });
}

/// LR-05: the default executor is told to end and not waited for.
#[test]
fn close_does_not_wait_for_the_executor() {
    on_loop(|el| {
        let (started, has_started) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let (ended, has_ended) = mpsc::channel();
        let job = el.run_in_executor(None, move || {
            started.send(()).unwrap();
            released.recv().unwrap();
            ended.send(()).unwrap();
        });
        has_started.recv().unwrap();
        el.close();
        // Only now it may go on: had `close` waited, it would not have returned.
        release.send(()).unwrap();
        has_ended.recv().unwrap();
        drop(job);
    });
}

/// LR-05: jobs that the default executor has not begun never begin; what they captured is gone when `close` returns.
#[test]
fn close_drops_the_jobs_that_wait() {
    on_loop(|el| {
        // More than there may be threads.
        const JOBS: usize = 64;
        let (began, held) = (Arc::new(AtomicUsize::new(0)), Arc::new(()));
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(Mutex::new(released));
        for _ in 0..JOBS {
            let (began, held, released) = (began.clone(), held.clone(), released.clone());
            drop(el.run_in_executor(None, move || {
                began.fetch_add(1, Ordering::SeqCst);
                // Until the sender is dropped.
                let _ = released.lock().unwrap().recv();
                drop(held);
            }));
        }
        el.close();
        let waited = JOBS + 1 - Arc::strong_count(&held);
        assert!(waited >= JOBS - 32, "{waited} jobs were let go of");
        drop(release);
        let deadline = std::time::Instant::now() + common::PATIENCE;
        while Arc::strong_count(&held) > 1 {
            assert!(std::time::Instant::now() < deadline, "a job is stuck");
            std::thread::yield_now();
        }
        assert_eq!(began.load(Ordering::SeqCst), JOBS - waited);
    });
}

/// LR-06: a loop needs few descriptors, and closing it gives them back, though handles of all kinds outlive it.
#[test]
fn close_gives_the_descriptors_back() {
    for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
        let _alone = alone();
        let before = open_descriptors();
        let clock = ManualClock::new();
        let el = kind.builder().clock(clock.clone()).build().unwrap();
        watch_reports(&el);
        let own = open_descriptors() - before;
        assert!((1..=3).contains(&own), "{own} descriptors");
        let (remote, handle, timer) = (el.remote(), el.call_soon(|| ()), el.call_later(Duration::from_secs(1), || ()));
        let waker = Rc::new(RefCell::new(None));
        let kept = waker.clone();
        let task = el.create_task(std::future::poll_fn(move |cx| {
            *kept.borrow_mut() = Some(cx.waker().clone());
            std::task::Poll::<()>::Pending
        }));
        let future = el.create_future::<()>();
        el.set_wake_hook(Some(Arc::new(|| ())));
        el.run_once(ZERO).unwrap();
        el.close();
        assert_eq!(open_descriptors(), before);
        // All of them are inert.
        clock.advance(Duration::from_secs(5));
        waker.take().unwrap().wake();
        assert!(remote.stop().is_err() && !timer.cancel() && handle.is_done() && task.is_done());
        assert!(future.cancel());
        drop(future);
        assert!(el.stats().is_balanced());
        assert!(take_reports().is_empty());
    }
}

/// A wake hook is let go of when the loop is closed, and cannot be set afterwards.
#[test]
fn close_lets_go_of_the_wake_hook() {
    on_loop(|el| {
        let held = Arc::new(());
        let hook = || {
            let held = held.clone();
            Some(Arc::new(move || drop(held.clone())) as Arc<dyn Fn() + Send + Sync>)
        };
        let _remote = el.remote();
        el.set_wake_hook(hook());
        assert_eq!(Arc::strong_count(&held), 2);
        el.close();
        assert_eq!(Arc::strong_count(&held), 1);
        el.set_wake_hook(hook());
        assert_eq!(Arc::strong_count(&held), 1);
    });
}

/// LR-28: dropping the owner closes the loop, whatever handles there are; dropping a handle does not.
#[test]
fn dropping_the_owner_closes() {
    on_loop(|_| {
        let el = EventLoop::new().unwrap();
        let dropped = DropCounter::new();
        el.call_soon(holding(dropped.guard()));
        let handle = el.clone();
        drop(el.clone());
        assert!(!handle.is_closed());
        drop(el);
        assert!(handle.is_closed());
        assert_eq!(dropped.count(), 1);
    });
}

/// LR-28: an owner that is dropped by one of its own callbacks closes its loop when the turn is over.
#[test]
fn an_owner_dropped_in_a_callback_closes_afterwards() {
    on_loop(|_| {
        let el = EventLoop::new().unwrap();
        let (handle, log) = (el.clone(), Log::new());
        let (inner, at_end) = (log.clone(), handle.clone());
        handle.call_soon(move || {
            drop(el);
            assert!(get_running_loop().unwrap().is_running());
            inner.push("dropped");
        });
        handle.call_soon({
            let log = log.clone();
            move || log.push(format!("closed: {}", at_end.is_closed()))
        });
        handle.run_forever();
        assert!(handle.is_closed());
        assert_eq!(log.take(), ["dropped", "closed: false"]);
    });
}

/// `close` ends although other threads post without a pause, and it refuses what they post.
#[test]
fn a_flood_does_not_hold_close_up() {
    on_loop(|el| {
        let (accepted, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let ready = Arc::new(std::sync::Barrier::new(5));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (remote, ready) = (el.remote(), ready.clone());
                let (accepted, refused) = (accepted.clone(), refused.clone());
                std::thread::spawn(move || {
                    ready.wait();
                    // Only the loop's end ends this.
                    while let Ok(handle) = remote.call_soon_threadsafe(|| ()) {
                        drop(handle);
                        accepted.fetch_add(1, Ordering::Relaxed);
                    }
                    refused.fetch_add(1, Ordering::Relaxed);
                })
            })
            .collect();
        ready.wait();
        el.close();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(refused.load(Ordering::Relaxed), 4);
    });
}

/// LR-28, debug: a loop that is dropped unclosed is warned of in debug mode, once, and otherwise not.
#[test]
fn an_unclosed_loop_is_warned_of_in_debug_mode() {
    /// Where the log goes.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);
    impl Write for Written {
        fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(data);
            Ok(data.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let dropped = |debug: bool, close: bool| {
        let _alone = alone();
        let written = Written::default();
        let to = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || to.clone())
            .with_ansi(false)
            .with_max_level(tracing::Level::WARN)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let el = EventLoop::builder().debug(debug).name("forgotten").build().unwrap();
            if close {
                el.close();
            }
            drop(el);
        });
        String::from_utf8(std::mem::take(&mut *written.0.lock().unwrap())).unwrap()
    };
    let warning = dropped(true, false);
    assert_eq!(warning.lines().count(), 2, "{warning}");
    assert!(warning.contains("WARN roundelay: resource warning: unclosed event loop <EventLoop"), "{warning}");
    assert!(warning.contains("\"forgotten\" running=false closed=false"), "{warning}");
    assert!(warning.contains("\n  created at tests/close.rs:"), "{warning}");
    assert_eq!(dropped(true, true), "");
    assert_eq!(dropped(false, false), "");
}

//! Waking a loop from other threads: what it costs, and what is left of it when the loop is gone (behaviours TS).

mod common;
#[path = "common/heard.rs"]
mod heard;
#[path = "common/threads.rs"]
mod threads;

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::Poll;
use std::thread::{self};
use std::time::Duration;

use common::{Kind, PATIENCE, on_loop, on_manual_clock, on_strict_loop, open_descriptors, run, run_on, settle};
use heard::{CountedBell, Heard};
use roundelay::EventLoop;
use roundelay::selector::{Epoll, Event, Selector};
use threads::{Drops, StopOnDrop};

/// A selector that tells when it is about to sleep without end, and what counts its calls.
fn telling() -> (Heard, mpsc::Receiver<()>, Arc<CountedBell>) {
    let (asleep, sleeps) = mpsc::channel();
    let (selector, bell) = Heard::new(move |timeout| {
        if timeout.is_none() {
            let _ = asleep.send(());
        }
    });
    (selector, sleeps, bell)
}

/// LR-06: closing the loop closes its descriptors, though remotes, handles and wakers are left.
#[test]
fn what_outlives_the_loop_keeps_no_descriptor() {
    for kind in [Kind::Epoll, Kind::Polling] {
        // Dropped after the harness has counted descriptors.
        let mut kept = None;
        run(kind, false, |el| {
            let (remote, waker) = (el.remote(), Arc::new(Mutex::new(None)));
            let slot = waker.clone();
            let task = remote.spawn(move || {
                poll_fn(move |cx| {
                    *slot.lock().unwrap() = Some(cx.waker().clone());
                    Poll::<()>::Pending
                })
            });
            settle(el);
            let handle = remote.call_soon_threadsafe(|| 1);
            let before = open_descriptors();
            el.close();
            assert!(open_descriptors() < before);
            assert!(waker.lock().unwrap().is_some());
            kept = Some((remote, task.unwrap(), handle.unwrap(), waker));
        });
        let (remote, task, handle, waker) = kept.unwrap();
        assert!(task.is_done() && handle.is_done() && remote.stop().is_err());
        let waker = waker.lock().unwrap().take().unwrap();
        waker.wake();
    }
}

/// TS-01, trap 1: a loop that really sleeps is called once, by whoever comes first; one that is awake is not called.
#[test]
fn a_sleeping_loop_is_called_once_and_one_that_is_awake_never() {
    let made = Cell::new(None);
    run_on(
        || {
            let (selector, sleeps, bell) = telling();
            made.set(Some((sleeps, bell)));
            EventLoop::builder().selector(selector)
        },
        |el| {
            let (sleeps, bell) = made.take().unwrap();
            let remote = el.remote();
            let poster = remote.clone();
            let thread = thread::spawn(move || {
                let _stop = StopOnDrop(poster.clone());
                sleeps.recv_timeout(PATIENCE).unwrap();
                let (begun, has_begun) = mpsc::channel();
                let (go_on, goes_on) = mpsc::channel::<()>();
                let before = bell.calls();
                let busy = poster.call_soon_threadsafe(move || {
                    begun.send(()).unwrap();
                    goes_on.recv_timeout(PATIENCE).unwrap();
                });
                has_begun.recv_timeout(PATIENCE).unwrap();
                assert_eq!(bell.calls() - before, 1, "asleep: one call");
                // The loop is in a callback now.
                let posted: Vec<_> = (0..100).map(|i| poster.call_soon_threadsafe(move || i).unwrap()).collect();
                assert_eq!(bell.calls() - before, 1, "awake: no call");
                go_on.send(()).unwrap();
                busy.unwrap().wait().unwrap();
                for (i, handle) in posted.into_iter().enumerate() {
                    assert_eq!(handle.wait().unwrap(), i);
                }
            });
            el.run_forever();
            thread.join().unwrap();
        },
    );
}

/// TS-12: posts to a loop that is busy are run, all of them, by few waits.
#[test]
fn posts_to_a_busy_loop_are_coalesced() {
    on_strict_loop(|el| {
        const POSTS: usize = 1000;
        let ran = Arc::new(AtomicUsize::new(0));
        let (remote, counter) = (el.remote(), ran.clone());
        el.call_soon(move || {
            let poster = thread::spawn(move || {
                for _ in 0..POSTS {
                    let counter = counter.clone();
                    remote.call_soon_threadsafe(move || counter.fetch_add(1, Ordering::SeqCst)).unwrap();
                }
            });
            poster.join().unwrap();
        });
        assert_eq!(el.run_once(None).unwrap(), 1);
        let waits = el.stats().waits;
        // All of them are there, so one turn takes them all, and asks the selector once at most.
        assert_eq!(el.run_once(None).unwrap(), POSTS);
        assert_eq!(ran.load(Ordering::SeqCst), POSTS);
        assert!(el.stats().waits - waits <= 1);
    });
}

/// TS-03: a notifier that can take no more loses nothing, and is no error.
mod full_notifier {
    use super::*;

    /// Fills up the counters of all eventfds of this process. The harness sees to it that they are this loop's.
    #[allow(unsafe_code)]
    fn fill_eventfds() -> usize {
        let mut filled = 0;
        for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
            let entry = entry.unwrap();
            let Ok(target) = std::fs::read_link(entry.path()) else { continue };
            if !target.to_string_lossy().contains("[eventfd]") {
                continue;
            }
            let fd: i32 = entry.file_name().to_str().unwrap().parse().unwrap();
            // SAFETY: the descriptor was just listed, and belongs to a loop that is alive.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            // Empty it, then write the largest number that it takes.
            let mut count = [0; 8];
            let _ = rustix::io::read(fd, &mut count);
            rustix::io::write(fd, &(u64::MAX - 1).to_ne_bytes()).unwrap();
            filled += 1;
        }
        filled
    }

    on_every_loop! {
        fn is_no_error(el) {
            assert_eq!(fill_eventfds(), 1);
            let remote = el.remote();
            let thread = thread::spawn(move || {
                let _stop = StopOnDrop(remote.clone());
                let handles: Vec<_> = (0..3).map(|i| remote.call_soon_threadsafe(move || i).unwrap()).collect();
                let results: Vec<i32> = handles.into_iter().map(|handle| handle.wait().unwrap()).collect();
                assert_eq!(results, [0, 1, 2]);
                // Once more, with the loop asleep or about to be.
                remote.call_soon_threadsafe(|| ()).unwrap().wait().unwrap();
            });
            el.run_forever();
            thread.join().unwrap();
        }
    }
}

/// TS-04: a wait that a signal interrupts is an early return, not an error.
#[test]
fn an_interrupted_wait_is_an_early_return() {
    struct Interrupted(Epoll, Rc<Cell<u32>>);
    impl Selector for Interrupted {
        fn name(&self) -> &'static str {
            "interrupted"
        }
        fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
            let left = self.1.get();
            if left > 0 {
                self.1.set(left - 1);
                return Err(io::ErrorKind::Interrupted.into());
            }
            self.0.wait(timeout, events)
        }
        left_to_the_inner_one! { supports_edge add modify delete notifier backend_fd }
    }
    let left = Rc::new(Cell::new(3));
    let counter = left.clone();
    run_on(
        move || EventLoop::builder().selector(Interrupted(Epoll::new().unwrap(), counter)),
        |el| {
            for left_over in [2, 1, 0] {
                assert_eq!(el.run_once(None).unwrap(), 0);
                assert_eq!(left.get(), left_over);
            }
            let remote = el.remote();
            let thread = thread::spawn(move || {
                let _stop = StopOnDrop(remote.clone());
                remote.call_soon_threadsafe(|| ()).unwrap().wait().unwrap();
            });
            el.run_forever();
            thread.join().unwrap();
        },
    );
}

/// Trap 14: a post to a loop that is between two turns of its host calls the wake hook, once until the next turn.
#[test]
fn the_wake_hook_is_called_once_for_each_idle_time() {
    on_loop(|el| {
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = calls.clone();
        el.set_wake_hook(Some(Arc::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        })));
        for round in 1..=3 {
            let remote = el.remote();
            let poster = thread::spawn(move || {
                (0..10).map(|i| remote.call_soon_threadsafe(move || i).unwrap()).collect::<Vec<_>>()
            });
            let handles = poster.join().unwrap();
            assert_eq!(calls.load(Ordering::SeqCst), round);
            assert_eq!(el.next_deadline().map(|deadline| deadline <= el.time()), Some(true));
            assert_eq!(el.run_once(Some(Duration::ZERO)).unwrap(), 10);
            for (i, handle) in handles.into_iter().enumerate() {
                assert_eq!(handle.wait().unwrap(), i);
            }
        }
    });
}

/// LR-06: close lets go of the wake hook, and of what it captured, though remotes are left.
#[test]
fn close_lets_go_of_the_wake_hook() {
    on_loop(|el| {
        let (remote, drops) = (el.remote(), Drops::default());
        let guard = drops.guard();
        el.set_wake_hook(Some(Arc::new(move || {
            let _ = &guard;
        })));
        el.close();
        assert_eq!(drops.take().len(), 1);
        assert!(remote.stop().is_err());
    });
}

/// A clock that is turned by another thread wakes a loop that sleeps until the deadline.
#[test]
fn a_clock_turned_elsewhere_wakes_the_loop() {
    on_manual_clock(|el, clock| {
        let (clock, begun) = (clock.clone(), mpsc::channel());
        let thread = thread::spawn(move || {
            begun.1.recv_timeout(PATIENCE).unwrap();
            clock.advance(Duration::from_secs(3600));
        });
        el.call_soon(move || begun.0.send(()).unwrap());
        let stop = el.clone();
        el.call_later(Duration::from_secs(3600), move || stop.stop());
        el.run_forever();
        thread.join().unwrap();
    });
}

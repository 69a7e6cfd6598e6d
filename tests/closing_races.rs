//! A loop that closes while other threads post, spawn and wait: nothing crashes, leaks or is lost.

mod common;
#[path = "common/races.rs"]
mod races;
#[path = "common/threads.rs"]
mod threads;

use std::collections::VecDeque;
use std::future::pending;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::Waker;
use std::thread;
use std::time::Duration;

use common::{PATIENCE, on_loop, run, run_until, settle, take_reports};
use races::{ROUNDS, Results, THREADS, Wakers, at_once, rounds, run_a_little_and_close, scatter};
use roundelay::{EventLoop, JoinError, Remote, RemoteHandle, RemoteTask};
use threads::{Bomb, join, panic_text, wait_until};

/// Counts what was made, what ran, and what was dropped.
#[derive(Default)]
struct Tally {
    made: AtomicUsize,
    ran: AtomicUsize,
    dropped: AtomicUsize,
}

struct Counted(Arc<Tally>);

impl Counted {
    fn new(tally: &Arc<Tally>) -> Self {
        tally.made.fetch_add(1, Ordering::SeqCst);
        Self(tally.clone())
    }

    fn run(&self) {
        self.0.ran.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// What a thread has posted and not looked at yet. It waits for the oldest where the loop does not keep up, so that the
/// queue stays short.
struct Window<H> {
    handles: VecDeque<H>,
    wait: fn(H) -> Result<(), JoinError>,
    results: Results,
}

impl<H> Window<H> {
    fn new(wait: fn(H) -> Result<(), JoinError>) -> Self {
        Self { handles: VecDeque::new(), wait, results: Results::default() }
    }

    fn push(&mut self, handle: H) {
        self.handles.push_back(handle);
        if self.handles.len() > 100 {
            self.settle_next();
        }
    }

    fn settle_next(&mut self) -> bool {
        let Some(handle) = self.handles.pop_front() else { return false };
        self.results.count((self.wait)(handle));
        true
    }

    /// Waits for all of them.
    fn results(mut self) -> Results {
        while self.settle_next() {}
        self.results
    }
}

/// LR-02, LR-05, TS-08: threads post and spawn until they are refused. Each closure is run or dropped, once; each handle
/// is resolved, and says what really happened.
#[test]
fn posting_while_the_loop_closes() {
    for (kind, round) in rounds() {
        run(kind, round % 2 == 0, |el| post_and_spawn(el, round));
    }

    fn post_and_spawn(el: &EventLoop, round: u64) {
        let (posted, spawned, finished) =
            (Arc::new(Tally::default()), Arc::new(Tally::default()), Arc::new(Tally::default()));
        let remote = el.remote();
        let (p, s, f) = (posted.clone(), spawned.clone(), finished.clone());
        let (barrier, threads) = at_once(move |i, barrier| {
            let (mut handles, mut tasks) = (Window::new(RemoteHandle::wait), Window::new(RemoteTask::wait));
            barrier.wait();
            for n in 0.. {
                let (callback, make, body) = (Counted::new(&p), Counted::new(&s), Counted::new(&f));
                let Ok(handle) = remote.call_soon_threadsafe(move || callback.run()) else { break };
                if n % 5 == 0 {
                    handle.cancel();
                }
                handles.push(handle);
                let make = move || {
                    make.run();
                    async move {
                        for _ in 0..(n + i) % 3 {
                            roundelay::yield_now().await;
                        }
                        body.run();
                    }
                };
                let Ok(task) = remote.spawn(make) else { break };
                if n % 7 == 0 {
                    task.cancel();
                }
                tasks.push(task);
            }
            (handles.results(), tasks.results())
        });
        barrier.wait();
        run_a_little_and_close(el, round);
        let results: Vec<(Results, Results)> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let callbacks_ok: usize = results.iter().map(|(callbacks, _)| callbacks.ok).sum();
        let tasks_ok: usize = results.iter().map(|(_, tasks)| tasks.ok).sum();
        for tally in [&posted, &spawned, &finished] {
            assert_eq!(tally.dropped.load(Ordering::SeqCst), tally.made.load(Ordering::SeqCst));
        }
        assert_eq!(posted.ran.load(Ordering::SeqCst), callbacks_ok);
        assert_eq!(finished.ran.load(Ordering::SeqCst), tasks_ok);
        assert!(spawned.ran.load(Ordering::SeqCst) >= tasks_ok);
    }
}

/// TS-08: threads that wait by blocking are all let go, whatever they wait for.
#[test]
fn waiting_while_the_loop_closes() {
    for round in 0..ROUNDS {
        on_loop(|el| {
            let remote = el.remote();
            let (barrier, threads) = at_once(move |i, barrier| {
                barrier.wait();
                let mut waits = 0;
                loop {
                    let result = match (i + waits) % 3 {
                        0 => remote.call_soon_threadsafe(|| ()).map(RemoteHandle::wait),
                        1 => remote.spawn(|| async {}).map(RemoteTask::wait),
                        _ => remote.spawn(pending::<()>).map(|task| {
                            while task.wait_timeout(Duration::ZERO).is_none() && !task.cancel() {}
                            Ok(())
                        }),
                    };
                    waits += 1;
                    match result {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => assert!(error.is_closed() || error.is_cancelled(), "{error}"),
                        Err(_) => return waits,
                    }
                }
            });
            barrier.wait();
            run_a_little_and_close(el, round);
            for thread in threads {
                assert!(thread.join().unwrap() > 0);
            }
        });
    }
}

/// Threads that never stop posting do not keep the loop from closing.
#[test]
fn a_flood_does_not_hold_the_close_up() {
    on_loop(|el| {
        let refused = Arc::new(AtomicU64::new(0));
        for _ in 0..5 {
            drop(el.create_task(pending::<()>()));
        }
        let (remote, seen) = (el.remote(), refused.clone());
        let (barrier, threads) = at_once(move |_, barrier| {
            barrier.wait();
            // Nothing but the refusal ends this.
            while let Ok(handle) = remote.call_soon_threadsafe(|| ()) {
                drop(handle);
            }
            seen.fetch_add(1, Ordering::SeqCst);
        });
        barrier.wait();
        el.close();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(refused.load(Ordering::SeqCst), THREADS as u64);
    });
}

/// TK-36: destructors that run while the loop closes may use it: they are told that it is closed, and what they give is
/// dropped.
#[test]
fn destructors_may_use_the_closing_loop() {
    struct Uses(EventLoop, Remote, Arc<AtomicUsize>);
    impl Drop for Uses {
        fn drop(&mut self) {
            assert!(self.0.is_closed());
            assert!(self.1.call_soon_threadsafe(|| unreachable!()).is_err());
            assert!(self.1.spawn(pending::<()>).is_err());
            assert!(self.1.stop().is_err());
            assert!(self.0.call_soon(|| unreachable!()).is_done());
            assert!(self.0.call_later(Duration::ZERO, || unreachable!()).is_done());
            assert!(self.0.create_task(pending::<()>()).is_done());
            assert!(self.0.run_in_executor(None, || unreachable!()).is_done());
            self.0.close();
            self.2.fetch_add(1, Ordering::SeqCst);
        }
    }
    /// A `Remote` is all that a closure for another thread may hold.
    struct Posts(Remote, Arc<AtomicUsize>);
    impl Drop for Posts {
        fn drop(&mut self) {
            assert!(self.0.call_soon_threadsafe(|| unreachable!()).is_err());
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
    on_loop(|el| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let uses = || Uses(el.clone(), el.remote(), dropped.clone());
        let (in_task, in_callback, in_timer) = (uses(), uses(), uses());
        drop(el.create_task(async move {
            let _uses = in_task;
            pending::<()>().await
        }));
        settle(el);
        el.call_soon(move || drop(in_callback));
        el.call_later(Duration::from_secs(100), move || drop(in_timer));
        let posts = || Posts(el.remote(), dropped.clone());
        let (in_post, in_spawn) = (posts(), posts());
        let poster = el.remote();
        let posted = thread::spawn(move || {
            let handle = poster.call_soon_threadsafe(move || drop(in_post)).unwrap();
            let task = poster.spawn(move || async move { drop(in_spawn) }).unwrap();
            (handle, task)
        });
        let (handle, task) = posted.join().unwrap();
        el.close();
        assert_eq!(dropped.load(Ordering::SeqCst), 5);
        assert!(handle.is_done() && task.is_done());
        let reports = take_reports();
        // Four refusals for each of the three that use the loop itself.
        assert_eq!(reports.len(), 12, "{reports:#?}");
        assert!(reports.iter().all(|report| report.contains("event loop is closed")), "{reports:#?}");
    });
}

/// Trap 11: destructors that panic while the loop closes are reported, and the close comes to its end all the same.
#[test]
fn destructors_that_panic_do_not_stop_the_close() {
    on_loop(|el| {
        let remote = el.remote();
        let bomb = Bomb;
        drop(el.create_task(async move {
            let _bomb = bomb;
            pending::<()>().await
        }));
        settle(el);
        let (a, b, c, d) = (Bomb, Bomb, Bomb, Bomb);
        let callback = el.call_soon(move || drop(a));
        let timer = el.call_later(Duration::from_secs(100), move || drop(b));
        let (handle, task) = thread::spawn(move || {
            let handle = remote.call_soon_threadsafe(move || drop(c)).unwrap();
            let make = move || {
                let _bomb = &d;
                async {}
            };
            (handle, remote.spawn(make).unwrap())
        })
        .join()
        .unwrap();
        let after = el.call_soon(|| ());
        el.close();
        let reports = take_reports();
        assert_eq!(reports.len(), 5, "{reports:#?}");
        assert!(reports.iter().all(|report| report.contains("boom")), "{reports:#?}");
        assert!(callback.is_done() && timer.is_done() && after.is_done());
        assert!(handle.wait().unwrap_err().is_closed());
        assert!(task.wait().unwrap_err().is_closed());
        assert!(el.remote().stop().is_err());
    });
}

/// API section 9: a loop dropped from within one of its own callbacks, while others post: it closes when the turn ends.
#[test]
fn a_loop_dropped_in_its_own_callback() {
    let _alone = common::alone();
    for round in 0..ROUNDS {
        let el = EventLoop::new().unwrap();
        let handle = el.clone();
        let (tally, remote) = (Arc::new(Tally::default()), el.remote());
        let counted = tally.clone();
        let (barrier, threads) = at_once(move |_, barrier| {
            let mut handles = Window::new(RemoteHandle::wait);
            barrier.wait();
            loop {
                let callback = Counted::new(&counted);
                match remote.call_soon_threadsafe(move || callback.run()) {
                    Ok(handle) => handles.push(handle),
                    Err(_) => return handles.results().ok,
                }
            }
        });
        barrier.wait();
        for _ in 0..scatter(round) % 16 {
            handle.run_once(Some(Duration::ZERO)).unwrap();
        }
        handle.call_soon(move || drop(el));
        handle.run_forever();
        assert!(handle.is_closed());
        let ok: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(tally.ran.load(Ordering::SeqCst), ok);
        assert_eq!(tally.made.load(Ordering::SeqCst), tally.dropped.load(Ordering::SeqCst));
        assert!(handle.stats().is_balanced());
    }
}

/// A loop that is kept in a thread-local is closed when its thread ends, while others post to it.
#[test]
fn a_loop_that_ends_with_its_thread() {
    let _alone = common::alone();
    for round in 0..ROUNDS {
        let (send, receive) = mpsc::channel();
        let owner = thread::spawn(move || {
            let el = roundelay::policy::get_event_loop().unwrap();
            let wakers = Wakers::default();
            drop(el.create_task(wakers.waiting()));
            el.run_once(Some(Duration::ZERO)).unwrap();
            send.send((el.remote(), wakers.take())).unwrap();
            for _ in 0..scatter(round) % 16 {
                el.run_once(Some(Duration::ZERO)).unwrap();
            }
        });
        let (remote, wakers) = receive.recv_timeout(PATIENCE).unwrap();
        let (barrier, threads) = at_once(move |_, barrier| {
            barrier.wait();
            let mut handles = Window::new(RemoteHandle::wait);
            while let Ok(handle) = remote.call_soon_threadsafe(|| ()) {
                handles.push(handle);
                wakers.iter().for_each(Waker::wake_by_ref);
            }
            handles.results()
        });
        barrier.wait();
        owner.join().unwrap();
        for thread in threads {
            thread.join().unwrap();
        }
    }
}

/// FU-21, EX-08: jobs that end while the loop closes: each result is there or was given to the loop, and none wakes what
/// is gone.
#[test]
fn jobs_end_while_the_loop_closes() {
    for round in 0..ROUNDS {
        on_loop(|el| {
            let tally = Arc::new(Tally::default());
            let mut kept = Vec::new();
            for i in 0..40 {
                let counted = Counted::new(&tally);
                let job = el.run_in_executor(None, move || {
                    counted.run();
                    counted
                });
                match i % 3 {
                    0 => drop(el.create_task(job)),
                    1 => kept.push(job),
                    _ => drop(job),
                }
            }
            run_a_little_and_close(el, round);
            for job in kept {
                let result = futures::executor::block_on(job);
                assert!(result.is_ok() || result.is_err_and(|error| error.is_closed()));
            }
            wait_until(|| tally.dropped.load(Ordering::SeqCst) == 40);
        });
    }
}

/// A run that a panic leaves closes nothing; the loop still gets what was posted meanwhile.
#[test]
fn a_fatal_panic_loses_no_posts() {
    on_loop(|el| {
        let (remote, handle) = (el.remote(), el.clone());
        let tally = Arc::new(Tally::default());
        let counted = tally.clone();
        let (barrier, threads) = at_once(move |_, barrier| {
            barrier.wait();
            (0..100).for_each(|_| {
                let callback = Counted::new(&counted);
                drop(remote.call_soon_threadsafe(move || callback.run()).unwrap());
            });
        });
        for _ in 0..3 {
            el.call_soon(|| std::panic::panic_any(roundelay::Fatal::new(())));
        }
        barrier.wait();
        for _ in 0..3 {
            panic_or_fatal(|| handle.run_forever());
        }
        for thread in threads {
            join(el, thread);
        }
        run_until(el, || tally.ran.load(Ordering::SeqCst) == THREADS * 100);
    });

    fn panic_or_fatal(f: impl FnOnce()) {
        let payload = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_err();
        assert!(payload.is::<roundelay::Fatal>());
    }
}

/// LR-03: closing a running loop is refused, also when another thread has just asked for it, and the loop goes on.
#[test]
fn close_of_a_running_loop_is_refused() {
    on_loop(|el| {
        let handle = el.clone();
        let text = el.call_soon(move || panic_text(|| handle.close()));
        let remote = el.remote();
        settle(el);
        let text = common::complete(el, text).unwrap();
        assert!(text.contains("cannot close a running event loop"), "{text}");
        assert!(!el.is_closed());
        assert!(remote.stop().is_ok());
        el.run_forever();
    });
}

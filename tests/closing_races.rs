//! A loop that closes while other threads post, spawn, wake and wait: nothing crashes, leaks or is lost.

mod common;
#[path = "common/threads.rs"]
mod threads;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use common::{Kind, PATIENCE, on_loop, run, run_until, settle, take_reports};
use roundelay::{EventLoop, JoinError, Remote, RemoteHandle, RemoteTask};
use threads::{Bomb, Drops, join, panic_text, wait_until};

/// How often a race is run: each time with the close at another moment.
const ROUNDS: u64 = 40;
/// How many threads take part in it.
const THREADS: usize = 3;

/// A number that looks random and is the same in each run.
fn scatter(seed: u64) -> u64 {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x ^= x >> 29;
    x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^ (x >> 32)
}

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

/// How results came out.
#[derive(Default, Debug, PartialEq, Eq)]
struct Results {
    ok: usize,
    closed: usize,
    cancelled: usize,
}

impl Results {
    fn count(&mut self, result: Result<(), JoinError>) {
        match result {
            Ok(()) => self.ok += 1,
            Err(error) if error.is_closed() => self.closed += 1,
            Err(error) if error.is_cancelled() => self.cancelled += 1,
            Err(error) => panic!("{error}"),
        }
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

/// Threads that do something again and again, from the same moment on, until it says that it is over.
fn at_once<T: Send + 'static>(
    each: impl Fn(usize, &Barrier) -> T + Send + Sync + 'static,
) -> (Arc<Barrier>, Vec<JoinHandle<T>>) {
    let (barrier, each) = (Arc::new(Barrier::new(THREADS + 1)), Arc::new(each));
    let threads = (0..THREADS).map(|i| {
        let (barrier, each) = (barrier.clone(), each.clone());
        thread::spawn(move || each(i, &barrier))
    });
    let threads = threads.collect();
    (barrier, threads)
}

/// Makes some turns, a different number in each round, and closes.
fn run_a_little_and_close(el: &EventLoop, round: u64) {
    for _ in 0..scatter(round) % 16 {
        el.run_once(Some(Duration::ZERO)).unwrap();
    }
    el.close();
}

/// Every kind of loop, each as often as `ROUNDS` says.
fn rounds() -> impl Iterator<Item = (Kind, u64)> {
    [Kind::Epoll, Kind::Polling, Kind::Level].into_iter().flat_map(|kind| (0..ROUNDS).map(move |round| (kind, round)))
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

/// Futures that wait for ever and let everybody wake them.
#[derive(Clone, Default)]
struct Wakers(Arc<Mutex<Vec<Waker>>>);

impl Wakers {
    /// A future that hands its waker out and never ends.
    fn waiting(&self) -> impl Future<Output = ()> + use<> {
        let wakers = self.0.clone();
        poll_fn(move |cx| {
            wakers.lock().unwrap().push(cx.waker().clone());
            Poll::Pending
        })
    }

    fn take(&self) -> Vec<Waker> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// Trap 3: tasks whose wakers are called by other threads at the very moment of the close: a task that is marked as
/// scheduled and in no queue yet is waited for, and its future is dropped on the loop's thread.
#[test]
fn waking_while_the_loop_closes() {
    for (kind, round) in rounds() {
        run(kind, false, |el| {
            const TASKS: usize = 20;
            let (wakers, drops) = (Wakers::default(), Drops::default());
            for _ in 0..TASKS {
                let (guard, waiting) = (drops.guard(), wakers.waiting());
                drop(el.create_task(async move {
                    let _guard = guard;
                    waiting.await
                }));
            }
            settle(el);
            let first: Vec<Waker> = wakers.take();
            assert_eq!(first.len(), TASKS);
            let closed = Arc::new(AtomicBool::new(false));
            let over = closed.clone();
            let (barrier, threads) = at_once(move |i, barrier| {
                let own: Vec<Waker> = first.iter().skip(i).chain(first.iter().take(i)).cloned().collect();
                barrier.wait();
                // A little longer than the loop lives, and by reference and by value.
                while !over.load(Ordering::SeqCst) {
                    own.iter().for_each(Waker::wake_by_ref);
                    own.iter().cloned().for_each(Waker::wake);
                }
                own.iter().for_each(Waker::wake_by_ref);
            });
            barrier.wait();
            run_a_little_and_close(el, round);
            assert_eq!(drops.take(), [thread::current().id(); TASKS]);
            assert_eq!(el.stats().tasks.live(), 0);
            closed.store(true, Ordering::SeqCst);
            for thread in threads {
                thread.join().unwrap();
            }
        });
    }
}

/// Trap 3: each task is woken exactly once, by one of several threads, while the loop closes: no wake-up repeats one that
/// was lost.
#[test]
fn the_only_wake_up_of_each_task_races_with_close() {
    for round in 0..ROUNDS {
        run(Kind::Epoll, false, |el| {
            const TASKS: usize = 30;
            let (wakers, drops) = (Wakers::default(), Drops::default());
            for _ in 0..TASKS {
                let (guard, waiting) = (drops.guard(), wakers.waiting());
                drop(el.create_task(async move {
                    let _guard = guard;
                    waiting.await
                }));
            }
            settle(el);
            let wakers = Arc::new(Mutex::new(wakers.take()));
            let (barrier, threads) = at_once(move |_, barrier| {
                barrier.wait();
                while let Some(waker) = { wakers.lock().unwrap().pop() } {
                    waker.wake();
                }
            });
            barrier.wait();
            run_a_little_and_close(el, round);
            assert_eq!(drops.take(), [thread::current().id(); TASKS]);
            for thread in threads {
                thread.join().unwrap();
            }
        });
    }
}

/// Trap 3: wakers that outlive the loop are inert, and the last one may be dropped on another thread when everything is
/// gone.
#[test]
fn wakers_outlive_the_loop() {
    let (wakers, remotes) = (Wakers::default(), RefCell::new(Vec::new()));
    for kind in [Kind::Epoll, Kind::Polling] {
        run(kind, false, |el| {
            let waiting = wakers.waiting();
            drop(el.create_task(waiting));
            let finished = wakers.waiting();
            let finished = el.create_task(async move {
                // Ends with its waker still out there.
                futures::future::select(std::pin::pin!(finished), std::pin::pin!(std::future::ready(()))).await;
            });
            settle(el);
            assert!(finished.is_done());
            // The root's waker, too.
            let waiting = wakers.waiting();
            el.call_soon({
                let el = el.clone();
                move || el.stop()
            });
            assert!(el.run_until_complete(waiting).is_err());
            remotes.borrow_mut().push(el.remote());
        });
    }
    let taken = wakers.take();
    assert_eq!(taken.len(), 6);
    for waker in &taken {
        waker.wake_by_ref();
        assert!(waker.will_wake(&waker.clone()));
    }
    let threads = taken.into_iter().map(|waker| {
        thread::spawn(move || {
            waker.wake_by_ref();
            let clone = waker.clone();
            drop(waker);
            clone.wake();
        })
    });
    threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
    assert!(remotes.take().iter().all(|remote| remote.stop().is_err()));
}

/// Trap 3: a waker of a live task is dropped on another thread, as the very last thing: the task is freed there, its
/// future and its output were freed here.
#[test]
fn the_last_waker_is_dropped_elsewhere() {
    let (wakers, drops, kept) = (Wakers::default(), Drops::default(), Rc::new(RefCell::new(Vec::new())));
    on_loop(|el| {
        let (in_future, in_output) = (drops.guard(), drops.guard());
        let (waiting, once) = (wakers.waiting(), Rc::new(()));
        let alive = once.clone();
        drop(el.create_task(async move {
            let _kept = (in_future, alive);
            waiting.await
        }));
        let waiting = wakers.waiting();
        let with_output = el.create_task(async move {
            futures::future::select(std::pin::pin!(waiting), std::pin::pin!(std::future::ready(()))).await;
            in_output
        });
        settle(el);
        assert_eq!(Rc::strong_count(&once), 2);
        el.close();
        assert_eq!(Rc::strong_count(&once), 1);
        kept.borrow_mut().push(with_output);
    });
    let home = thread::current().id();
    assert_eq!(drops.take(), [home]);
    // The handle outlives the loop with the output inside.
    drop(kept.take());
    assert_eq!(drops.take(), [home]);
    let taken = wakers.take();
    assert_eq!(taken.len(), 2);
    thread::spawn(move || drop(taken)).join().unwrap();
}

/// Trap 2: two loops on one thread, run alternately, whose tasks wake each other: each task is run by its own loop.
#[test]
fn two_loops_on_one_thread() {
    on_loop(|a| {
        let b = EventLoop::new().unwrap();
        const ROUND_TRIPS: usize = 100;
        let (to_b, from_a) = async_channel();
        let (to_a, from_b) = async_channel();
        let play = |el: &EventLoop, to: Sender, from: Receiver, serves: bool| {
            let own = el.id();
            el.create_task(async move {
                let mut hits = 0;
                if serves {
                    to.send();
                }
                while hits < ROUND_TRIPS {
                    from.recv().await;
                    assert_eq!(roundelay::get_running_loop().unwrap().id(), own);
                    hits += 1;
                    to.send();
                }
                hits
            })
        };
        let one = play(a, to_b, from_b, true);
        let other = play(&b, to_a, from_a, false);
        let mut turns = 0;
        while !(one.is_done() && other.is_done()) {
            a.run_once(Some(Duration::ZERO)).unwrap();
            b.run_once(Some(Duration::ZERO)).unwrap();
            turns += 1;
            assert!(turns < 10 * ROUND_TRIPS, "a wake-up across the loops was lost");
        }
        assert_eq!(a.run_until_complete(one).unwrap().unwrap(), ROUND_TRIPS);
        assert_eq!(b.run_until_complete(other).unwrap().unwrap(), ROUND_TRIPS);
        assert!(b.stats().tasks.opened == 1 && a.stats().tasks.opened == 1);
        b.close();
        assert!(b.stats().is_balanced());
    });
}

/// Trap 2: what one of two loops on a thread is told while the other one runs, and while it closes.
#[test]
fn two_loops_on_one_thread_post_to_each_other() {
    on_loop(|a| {
        let b = EventLoop::new().unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let (remote, log) = (b.remote(), order.clone());
        let handle = a
            .call_soon_threadsafe(move || {
                log.lock().unwrap().push("a");
                let log = log.clone();
                remote.call_soon_threadsafe(move || log.lock().unwrap().push("b"))
            })
            .unwrap();
        assert_eq!(a.run_once(Some(Duration::ZERO)).unwrap(), 1);
        assert_eq!(*order.lock().unwrap(), ["a"]);
        assert_eq!(b.run_once(Some(Duration::ZERO)).unwrap(), 1);
        assert_eq!(*order.lock().unwrap(), ["a", "b"]);
        handle.wait().unwrap().unwrap().wait().unwrap();

        // Closing the one, from within the other as well.
        let remote = b.remote();
        a.call_soon(move || {
            b.close();
            assert!(b.remote().stop().is_err());
        });
        assert_eq!(a.run_once(Some(Duration::ZERO)).unwrap(), 1);
        assert!(remote.stop().is_err());
    });
}

/// A channel of units for one receiver, which knows of no loop.
fn async_channel() -> (Sender, Receiver) {
    let shared = Arc::new(Mutex::new((0, None)));
    (Sender(shared.clone()), Receiver(shared))
}

struct Sender(Arc<Mutex<(usize, Option<Waker>)>>);
struct Receiver(Arc<Mutex<(usize, Option<Waker>)>>);

impl Sender {
    fn send(&self) {
        let waker = {
            let mut shared = self.0.lock().unwrap();
            shared.0 += 1;
            shared.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Receiver {
    async fn recv(&self) {
        poll_fn(|cx| {
            let mut shared = self.0.lock().unwrap();
            if shared.0 > 0 {
                shared.0 -= 1;
                return Poll::Ready(());
            }
            shared.1 = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// Two loops on two threads spawn on each other, as deep as they are told.
#[test]
fn two_loops_on_two_threads() {
    fn bounce(here: Remote, there: Remote, left: usize) -> std::pin::Pin<Box<dyn Future<Output = usize>>> {
        Box::pin(async move {
            assert_eq!(roundelay::get_running_loop().unwrap().id(), here.loop_id());
            if left == 0 {
                return 0;
            }
            let (next, back) = (there.clone(), here.clone());
            let task = there.spawn(move || bounce(next, back, left - 1)).unwrap();
            task.await.unwrap() + 1
        })
    }
    on_loop(|el| {
        let (send, receive) = mpsc::channel();
        let other = thread::spawn(move || {
            let el = EventLoop::new().unwrap();
            send.send(el.remote()).unwrap();
            el.run_forever();
            el.close();
            assert!(el.stats().is_balanced(), "{:#?}", el.stats());
        });
        let (here, there) = (el.remote(), receive.recv_timeout(PATIENCE).unwrap());
        let depth = common::complete(el, bounce(here, there.clone(), 200));
        assert_eq!(depth, 200);
        there.stop().unwrap();
        join(el, other);
    });
}

/// Two loops that spawn on each other are closed at about the same time: every handle is resolved, on both sides.
#[test]
fn two_loops_on_two_threads_close() {
    type Kept = Arc<Mutex<Vec<RemoteTask<()>>>>;
    /// Spawns on the other loop, turn after turn, until it is refused.
    async fn keep_spawning(there: Remote, kept: Kept) {
        while let Ok(task) = there.spawn(|| async { roundelay::yield_now().await }) {
            kept.lock().unwrap().push(task);
            roundelay::yield_now().await;
        }
    }
    let mut outcomes = Results::default();
    for round in 0..ROUNDS {
        let kept = Kept::default();
        on_loop(|el| {
            let (send, receive) = mpsc::channel();
            let (back, there) = mpsc::channel::<Remote>();
            let others = kept.clone();
            let other = thread::spawn(move || {
                let el = EventLoop::new().unwrap();
                send.send(el.remote()).unwrap();
                drop(el.create_task(keep_spawning(there.recv_timeout(PATIENCE).unwrap(), others)));
                run_a_little_and_close(&el, round * 7 + 1);
                assert!(el.stats().is_balanced(), "{:#?}", el.stats());
            });
            let there = receive.recv_timeout(PATIENCE).unwrap();
            back.send(el.remote()).unwrap();
            drop(el.create_task(keep_spawning(there, kept.clone())));
            run_a_little_and_close(el, round);
            other.join().unwrap();
        });
        for task in kept.lock().unwrap().drain(..) {
            outcomes.count(task.wait_timeout(PATIENCE).expect("resolved, for both loops are closed"));
        }
    }
    assert!(outcomes.ok > 0 && outcomes.closed > 0 && outcomes.cancelled == 0, "{outcomes:?}");
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

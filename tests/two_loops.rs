//! Two loops that talk to each other, on one thread and on two.

mod common;
#[path = "common/races.rs"]
mod races;
#[path = "common/threads.rs"]
mod threads;

use std::future::poll_fn;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use common::{PATIENCE, on_loop};
use races::{ROUNDS, Results, run_a_little_and_close};
use roundelay::{EventLoop, Remote, RemoteTask};
use threads::{join, panic_text};

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

/// LR-18: what is done may be awaited wherever it is: there is nobody to be woken. Until then it may not.
#[test]
fn what_is_done_belongs_to_nobody() {
    on_loop(|a| {
        let b = EventLoop::new().unwrap();
        let (finished, mut closed) = (b.create_task(async { 1 }), b.create_task(std::future::pending::<()>()));
        let future = b.create_future();
        future.set_result(2).unwrap();
        let mut pending = b.create_future::<i32>();
        assert_eq!(b.run_until_complete(roundelay::yield_now()), Ok(()));
        let elsewhere = a.run_until_complete(async {
            assert_eq!((finished.await.unwrap(), future.await.unwrap()), (1, 2));
            (&mut pending).await
        });
        assert!(elsewhere.unwrap().unwrap_err().to_string().contains("was awaited in loop"));
        let early = panic_text(|| drop(a.run_until_complete(&mut closed)));
        assert!(early.contains("was awaited in loop"), "{early}");
        b.close();
        assert!(a.run_until_complete(closed).unwrap().unwrap_err().is_closed());
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

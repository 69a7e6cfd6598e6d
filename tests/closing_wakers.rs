//! Wakers that are called while their loop closes, and wakers that outlive it.

mod common;
#[path = "common/races.rs"]
mod races;
#[path = "common/threads.rs"]
mod threads;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::thread;

use common::{Kind, on_loop, run, settle};
use races::{ROUNDS, Wakers, at_once, rounds, run_a_little_and_close};
use threads::Drops;

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

//! Large numbers: memory stays flat, the stack does not grow, nobody starves. Each number is one that a loop may meet.
//!
//! Memory is measured as the live bytes of the process's allocator, which the harness keeps to one test at a time.

mod common;
#[path = "common/counting.rs"]
mod counting;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use common::{on_loop, on_manual_clock};
use counting::live_bytes;
use roundelay::{EventLoop, LoopFuture, Task, get_running_loop, sleep, yield_now};

const ZERO: Option<Duration> = Some(Duration::ZERO);

/// How many bytes memory may be off and still count as flat: what the loop and the harness keep for themselves.
const FLAT: isize = 256 * 1024;

/// The stack of a test that must not need one: a hundredth of what a chain of a million frames would take.
const STACK: usize = 512 * 1024;

/// The loop, in a callback.
fn running() -> EventLoop {
    get_running_loop().unwrap()
}

/// Runs a test on a thread with a small stack. An overflow ends the process.
fn on_small_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(test).unwrap();
    if let Err(payload) = thread.join() {
        std::panic::resume_unwind(payload);
    }
}

#[track_caller]
fn assert_flat(before: isize) {
    let grown = live_bytes() - before;
    assert!(grown < FLAT, "{grown} bytes more than before");
}

/// Trap 4, TM-10: ten million timers armed and cancelled, a thousand at a time, leave memory flat all along.
#[test]
fn ten_million_cancelled_timers_leave_memory_flat() {
    on_loop(|el| {
        let mut timers = Vec::with_capacity(1000);
        let before = live_bytes();
        for round in 0..10_000_u64 {
            for n in 0..1000 {
                timers.push(el.call_later(Duration::from_secs(1 + (n * 7919 + round) % 5000), || unreachable!()));
            }
            for timer in timers.drain(..) {
                assert!(timer.cancel());
            }
            if round % 1000 == 0 {
                assert_flat(before);
            }
        }
        assert_flat(before);
        assert_eq!(el.stats().timers.opened, 10_000_000);
        assert_eq!(el.stats().timers.live(), 0);
        assert_eq!(el.next_deadline(), None);
    });
}

/// TM-10: a burst of timers that are all armed at once gives its memory back when they are cancelled. Those that fire
/// stand in the queue together, whose room is used again.
#[test]
fn a_burst_of_timers_gives_its_memory_back() {
    on_manual_clock(|el, clock| {
        let burst =
            || -> Vec<_> { (0..200_000).map(|n| el.call_later(Duration::from_millis(n % 1000), || ())).collect() };
        let before = live_bytes();
        assert!(burst().iter().rev().all(|timer| timer.cancel()));
        assert_flat(before);
        assert_eq!(el.stats().timers.live(), 0);
        let mut after_first = None;
        for _ in 0..3 {
            drop(burst());
            clock.advance(Duration::from_secs(1));
            assert_eq!(el.run_once(ZERO).unwrap(), 200_000);
            assert_flat(*after_first.get_or_insert_with(live_bytes));
        }
    });
}

/// Likewise sleeps that are dropped.
#[test]
fn a_million_dropped_sleeps_leave_memory_flat() {
    on_loop(|el| {
        el.run_until_complete(async {
            let before = live_bytes();
            for n in 0..1_000_000 {
                let mut sleep = sleep(Duration::from_secs(n % 5000 + 1));
                poll_fn(|cx| {
                    assert!(Pin::new(&mut sleep).poll(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
            }
            assert_flat(before);
        })
        .unwrap();
    });
}

/// A million callbacks in one turn, and the socket that is ready gets its turn with them.
#[test]
fn a_million_callbacks_do_not_starve_a_socket() {
    on_loop(|el| {
        let (mut socket, mut peer) = UnixStream::pair().unwrap();
        let (calls, read_after) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(None)));
        let (seen, read, registered) = (calls.clone(), read_after.clone(), socket.try_clone().unwrap());
        el.add_reader(&registered, move || {
            assert_eq!(socket.read(&mut [0; 8]).unwrap(), 1);
            read.set(Some(seen.get()));
        })
        .unwrap();
        // Each of them schedules another one, so that there is no end to them.
        fn link(calls: Rc<Cell<u32>>) {
            calls.set(calls.get() + 1);
            if calls.get() < 2_000_000 {
                running().call_soon(move || link(calls));
            }
        }
        for _ in 0..1_000_000 {
            let calls = calls.clone();
            el.call_soon(move || link(calls));
        }
        peer.write_all(b"x").unwrap();
        assert_eq!(el.run_once(None).unwrap(), 1_000_001);
        assert_eq!((calls.get(), read_after.get()), (1_000_000, Some(1_000_000)));
        // And between two turns, within the pace of the selector.
        read_after.set(None);
        peer.write_all(b"x").unwrap();
        el.call_soon(|| running().stop());
        el.run_forever();
        assert!(read_after.get().is_some());
        assert!(el.remove_reader(&registered));
    });
}

/// A million tasks are spawned and joined, a thousand at a time: memory stays flat.
#[test]
fn a_million_tasks_leave_memory_flat() {
    on_loop(|el| {
        el.run_until_complete(async {
            let mut tasks = Vec::with_capacity(1000);
            let before = live_bytes();
            for round in 0..1000_u64 {
                tasks.extend((0..1000).map(|n| running().create_task(async move { n + round })));
                for (n, task) in tasks.drain(..).enumerate() {
                    assert_eq!(task.await.unwrap(), n as u64 + round);
                }
            }
            assert_flat(before);
        })
        .unwrap();
        assert_eq!(el.stats().tasks.opened, 1_000_000);
        assert_eq!(el.stats().tasks.live(), 0);
    });
}

/// What a burst of tasks that are all alive at once needs is used again by the next.
#[test]
fn bursts_of_tasks_share_their_memory() {
    on_loop(|el| {
        let (sum, mut after_first) = (Rc::new(Cell::new(0_u64)), None);
        for _ in 0..4 {
            for n in 0..100_000 {
                let sum = sum.clone();
                drop(el.create_task(async move {
                    yield_now().await;
                    sum.set(sum.get() + n);
                }));
            }
            assert_eq!(el.all_tasks().len(), 100_000);
            common::settle(el);
            assert_eq!(sum.take(), 99_999 * 50_000);
            assert_flat(*after_first.get_or_insert_with(live_bytes));
        }
    });
}

/// A chain of a million callbacks, each scheduled by the one before, needs no stack and no memory.
#[test]
fn a_chain_of_callbacks_does_not_grow_the_stack() {
    on_small_stack(|| {
        on_loop(|el| {
            fn link(left: u32) {
                match left {
                    0 => running().stop(),
                    _ => drop(running().call_soon(move || link(left - 1))),
                }
            }
            let before = live_bytes();
            el.call_soon(|| link(1_000_000));
            el.run_forever();
            assert_flat(before);
        });
    });
}

/// A million tasks, each waking the next: neither their wake-ups nor their ends nest.
#[test]
fn a_chain_of_wakes_does_not_grow_the_stack() {
    const TASKS: usize = 1_000_000;
    on_small_stack(|| {
        on_loop(|el| {
            #[derive(Default)]
            struct Link {
                waker: Option<Waker>,
                woken: bool,
            }
            let links: Rc<RefCell<Vec<Link>>> = Rc::default();
            links.borrow_mut().resize_with(TASKS + 1, Link::default);
            let ended = Rc::new(Cell::new(0));
            for n in 0..TASKS {
                let (links, ended) = (links.clone(), ended.clone());
                drop(el.create_task(async move {
                    poll_fn(|cx| {
                        let link = &mut links.borrow_mut()[n];
                        link.waker = Some(cx.waker().clone());
                        if link.woken { Poll::Ready(()) } else { Poll::Pending }
                    })
                    .await;
                    ended.set(ended.get() + 1);
                    let next = &mut links.borrow_mut()[n + 1];
                    next.woken = true;
                    if let Some(waker) = next.waker.take() {
                        waker.wake();
                    }
                }));
            }
            el.run_once(ZERO).unwrap();
            assert_eq!(ended.get(), 0);
            links.borrow_mut()[0].woken = true;
            let first = links.borrow_mut()[0].waker.take().unwrap();
            first.wake();
            let handle = el.clone();
            let all = ended.clone();
            el.run_until_complete(poll_fn(move |cx| {
                if all.get() == TASKS {
                    return Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            }))
            .unwrap();
            assert_eq!(handle.stats().tasks.live(), 0);
        });
    });
}

/// A chain of tasks of which each awaits the one before: the first one's end comes through to the last.
#[test]
fn a_chain_of_awaits_does_not_grow_the_stack() {
    on_small_stack(|| {
        on_loop(|el| {
            let mut last: Task<u32> = el.create_task(async {
                yield_now().await;
                0
            });
            for _ in 0..100_000 {
                let before = last;
                last = el.create_task(async move { before.await.unwrap() + 1 });
            }
            assert_eq!(el.run_until_complete(last).unwrap().unwrap(), 100_000);
        });
    });
}

/// Cancelling the last of a chain of tasks that own each other takes them all down, one by one; so does closing.
#[test]
fn a_chain_of_owners_does_not_grow_the_stack() {
    for close in [false, true] {
        on_small_stack(move || {
            on_loop(|el| {
                let mut last: Task<()> = el.create_task(std::future::pending());
                for _ in 0..100_000 {
                    let before = last.cancel_on_drop();
                    last = el.create_task(async move { before.await.unwrap() });
                }
                el.run_once(ZERO).unwrap();
                if close {
                    el.close();
                } else {
                    last.cancel();
                    el.run_until_complete(poll_fn(|cx| {
                        cx.waker().wake_by_ref();
                        if running().stats().tasks.live() == 0 { Poll::Ready(()) } else { Poll::Pending }
                    }))
                    .unwrap();
                }
                assert!(last.is_done());
                assert_eq!(el.stats().tasks.live(), 0);
            });
        });
    }
}

/// A chain of futures whose done callbacks complete the next one.
#[test]
fn a_chain_of_done_callbacks_does_not_grow_the_stack() {
    on_small_stack(|| {
        on_loop(|el| {
            let first: LoopFuture<u32> = el.create_future();
            let mut last = first.clone();
            for _ in 0..100_000 {
                let next = el.create_future();
                let done = next.clone();
                last.add_done_callback(move |before| done.set_result(before.result().unwrap() + 1).unwrap());
                last = next;
            }
            first.set_result(0).unwrap();
            assert_eq!(el.run_until_complete(last).unwrap().unwrap(), 100_000);
        });
    });
}

/// LR-05: closing a loop with a hundred thousand of each kind drops them all, and keeps no room for them.
#[test]
fn a_full_loop_is_closed() {
    on_small_stack(|| {
        on_loop(|el| {
            let before = live_bytes();
            let alive = Rc::new(());
            for n in 0..100_000 {
                let (a, b, c) = (alive.clone(), alive.clone(), alive.clone());
                el.call_soon(move || drop(a));
                el.call_later(Duration::from_secs(n), move || drop(b));
                drop(el.create_task(async move { drop(c) }));
            }
            assert_eq!(Rc::strong_count(&alive), 300_001);
            el.close();
            assert_eq!(Rc::strong_count(&alive), 1);
            assert_flat(before);
        });
    });
}

//! Async generators: what iterating and closing them does, who closes them, who hears of what goes wrong (behaviours AG).

#[path = "common/collector.rs"]
mod collector;
mod common;

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use collector::collect;
use common::{CountingWaker, DropCounter, Log, complete, finish, on_loop, on_manual_clock, settle, take_reports};
use futures::future::{join, join3, select};
use futures::stream::{FusedStream, FuturesUnordered};
use futures::{FutureExt, StreamExt, TryStreamExt};
use roundelay::{
    AsyncGen, Closed, ContextVar, Emitter, EventLoop, Fatal, Runner, async_gen, block_on, get_running_loop, sleep,
    spawn, try_async_gen, yield_now,
};

const SECOND: Duration = Duration::from_secs(1);

/// Emits numbers from one on; cleans up with a wait, and notes how far it comes.
fn numbers(log: &Log) -> AsyncGen<u32> {
    let log = log.clone();
    async_gen(async move |y| {
        log.push("begins");
        let result = async {
            for n in 1.. {
                y.emit(n).await?;
            }
            Ok(())
        }
        .await;
        log.push(format!("{result:?}"));
        yield_now().await;
        log.push("cleaned up");
        result
    })
}

const CLOSED: [&str; 2] = ["Err(Closed)", "cleaned up"];

/// The items come in order, then the end, again and again. The body begins when the first one is asked for, and goes on
/// when the next is.
#[test]
fn iterated_to_its_end() {
    on_loop(|el| {
        let log = Log::new();
        let own = log.clone();
        let mut items = async_gen(|y| async move {
            own.push("begins");
            for n in 1..=2 {
                own.push(format!("emits {n}"));
                y.emit(n).await?;
            }
            own.push("ends");
            Ok(())
        });
        assert_eq!(log.len(), 0);
        assert!(!items.is_terminated());
        let told = log.clone();
        complete(el, async {
            for _ in 0..4 {
                let item = items.next().await;
                told.push(format!("{item:?}"));
            }
        });
        assert_eq!(log.take(), ["begins", "emits 1", "Some(1)", "emits 2", "Some(2)", "ends", "None", "None"]);
        assert!(items.is_terminated());
    });
}

/// A body may wait between its items: whoever iterates waits for it, and is woken by what the body waits for.
#[test]
fn a_body_that_waits() {
    on_manual_clock(|el, clock| {
        let items = async_gen(async |y| {
            for n in 0..3 {
                sleep(SECOND).await;
                y.emit(n).await?;
            }
            Ok(())
        });
        let task = el.create_task(items.collect::<Vec<_>>());
        for _ in 0..3 {
            settle(el);
            assert!(!task.is_done());
            clock.advance(SECOND);
        }
        assert_eq!(finish(el, task).unwrap(), [0, 1, 2]);
    });
}

/// The items are those of a stream: combinators, `?` and `select!` work on it.
#[test]
fn it_is_a_stream() {
    on_loop(|el| {
        let log = Log::new();
        let (mut a, mut b) = (numbers(&log).take(2).fuse(), numbers(&log).skip(5).take(2).fuse());
        let mut sum = 0;
        complete(el, async {
            loop {
                futures::select! {
                    n = a.next() => sum += n.unwrap_or(0),
                    n = b.next() => sum += n.unwrap_or(0),
                    complete => break,
                }
            }
        });
        assert_eq!(sum, 1 + 2 + 6 + 7);
        let doubled = numbers(&log).map(|n| n * 2).take(3).collect::<Vec<_>>();
        assert_eq!(complete(el, doubled), [2, 4, 6]);
    });
}

/// `aclose` runs the body on, which hears of it where it emits, and waits until it has cleaned up. After that the stream
/// is over; closing again changes nothing.
#[test]
fn closed_on_its_way() {
    on_loop(|el| {
        let log = Log::new();
        let mut items = numbers(&log);
        complete(el, async {
            assert_eq!(items.next().await, Some(1));
            items.aclose().await;
        });
        assert_eq!(log.take(), ["begins", CLOSED[0], CLOSED[1]]);
        complete(el, async {
            assert_eq!(items.next().await, None);
            items.aclose().await;
            assert_eq!(items.next().await, None);
        });
        assert!(items.is_terminated());
        assert_eq!(log.len(), 0);
    });
}

/// Closed before it has begun, the body is dropped and never begins; closed after its end, nothing happens.
#[test]
fn closed_before_and_after() {
    on_loop(|el| {
        let drops = DropCounter::new();
        let guard = drops.guard();
        let mut new = async_gen(async move |y: Emitter<()>| {
            let _guard = guard;
            let _ = y.emit(()).await;
            unreachable!("it never begins")
        });
        complete(el, async {
            new.aclose().await;
            assert_eq!(drops.count(), 1);
            assert_eq!(new.next().await, None);
            let mut done = async_gen(async |y| y.emit(1).await);
            assert_eq!(done.next().await, Some(1));
            assert_eq!(done.next().await, None);
            done.aclose().await;
        });
        let never = numbers(&Log::new());
        drop(never);
        settle(el);
        assert_eq!(el.stats().tasks.opened, 0, "nothing was to be closed");
    });
}

/// Whoever emits again once it was told is told again, and again; others have their turns meanwhile.
#[test]
fn emitting_after_the_end() {
    on_loop(|el| {
        let log = Log::new();
        let (own, ticker) = (log.clone(), log.clone());
        let mut items = async_gen(async move |y| {
            for n in 0..4 {
                own.push(format!("{:?} {}", y.emit(n).await, y.is_closed()));
            }
            Ok(())
        });
        complete(el, async {
            items.next().await;
            let tick = async {
                for _ in 0..2 {
                    yield_now().await;
                    ticker.push("tick");
                }
            };
            join(items.aclose(), tick).await;
        });
        let told = "Err(Closed) true";
        assert_eq!(log.take(), [told, told, "tick", told, "tick", told]);
    });
}

/// A body that never ends, whatever it is told, does not hold up the loop: whoever closes it may give up.
#[test]
fn a_body_that_does_not_end() {
    on_manual_clock(|el, clock| {
        let drops = DropCounter::new();
        let guard = drops.guard();
        let mut items = async_gen(async move |y| {
            let _guard = guard;
            loop {
                let _ = y.emit(1).await;
            }
        });
        let task = el.create_task(async move {
            items.next().await;
            assert!(roundelay::timeout(SECOND, items.aclose()).await.is_err());
            items
        });
        for _ in 0..100 {
            el.run_once(Some(Duration::ZERO)).unwrap();
        }
        assert!(!task.is_done());
        clock.advance(SECOND);
        let items = finish(el, task).unwrap();
        assert!(!items.is_terminated());
        drop(items);
        for _ in 0..100 {
            el.run_once(Some(Duration::ZERO)).unwrap();
        }
        assert_eq!(drops.count(), 0, "its close goes on in a task");
        el.close();
        assert_eq!(drops.count(), 1);
    });
}

/// A close that is given up is gone on with by the next one, or by asking for an item, which gives the end.
#[test]
fn a_close_that_is_given_up() {
    on_manual_clock(|el, clock| {
        for again in [true, false] {
            let log = Log::new();
            let own = log.clone();
            let mut items = async_gen(async move |y| {
                let result = y.emit(1).await;
                sleep(2 * SECOND).await;
                own.push("cleaned up");
                result
            });
            let task = el.create_task(async move {
                items.next().await;
                assert!(roundelay::timeout(SECOND, items.aclose()).await.is_err());
                if again {
                    items.aclose().await;
                }
                assert_eq!(items.next().await, None);
            });
            for _ in 0..2 {
                settle(el);
                assert_eq!(log.len(), 0);
                clock.advance(SECOND);
            }
            finish(el, task).unwrap();
            assert_eq!(log.take(), ["cleaned up"]);
        }
    });
}

/// Dropping one that has not ended spawns its close: a task of the loop's runs the body on.
#[test]
fn dropped_on_its_way() {
    on_loop(|el| {
        let log = Log::new();
        let own = log.clone();
        complete(el, async move {
            let mut items = numbers(&own);
            assert_eq!(items.next().await, Some(1));
            drop(items);
            let closing = get_running_loop().unwrap().all_tasks().pop().unwrap();
            assert_eq!(&*closing.name, "aclose");
            assert!(closing.spawned_at.file().ends_with("async_generators.rs"));
            assert_eq!(own.take(), ["begins"]);
        });
        settle(el);
        assert_eq!(log.take(), CLOSED);
        assert!(el.all_tasks().is_empty());
    });
}

/// The same outside of a run, and inside of another loop: the loop it was first iterated in closes it, in its next run.
#[test]
fn dropped_outside_of_the_loop() {
    on_loop(|el| {
        let log = Log::new();
        let mut items = numbers(&log);
        complete(el, items.next());
        drop(items);
        assert_eq!(log.take(), ["begins"]);
        settle(el);
        assert_eq!(log.take(), CLOSED);

        let mut items = numbers(&log);
        complete(el, items.next());
        let other = EventLoop::new().unwrap();
        assert_eq!(complete(&other, async move { items.next().await }), Some(2));
        settle(&other);
        assert_eq!(log.take(), ["begins"]);
        settle(el);
        assert_eq!(log.take(), CLOSED);
        other.close();
    });
}

/// Without a loop, and where the loop is closed, it is dropped where it stands, as any future.
#[test]
fn dropped_without_a_loop() {
    on_loop(|el| {
        let log = Log::new();
        let mut items = numbers(&log);
        assert_eq!(futures::executor::block_on(items.next()), Some(1));
        drop(items);
        assert_eq!(log.take(), ["begins"]);

        let (mut items, mut closed) = (numbers(&log), numbers(&log));
        complete(el, join(items.next(), closed.next()));
        el.close();
        drop(items);
        // Closing it still works: this body needs no loop for that.
        futures::executor::block_on(closed.aclose());
        assert_eq!(log.take(), ["begins", "begins", CLOSED[0], CLOSED[1]]);
    });
}

/// A task that dies with a generator in it: the generator is closed all the same.
#[test]
fn dropped_with_its_task() {
    on_loop(|el| {
        let log = Log::new();
        let own = log.clone();
        let task = el.create_task(async move {
            let mut items = pin!(numbers(&own));
            items.next().await;
            pending::<()>().await
        });
        settle(el);
        task.cancel();
        settle(el);
        assert!(task.is_cancelled());
        assert_eq!(log.take(), ["begins", CLOSED[0], CLOSED[1]]);
    });
}

/// Whoever iterates is cancelled while the body waits for something else: the body goes on when it is closed, or hears of
/// it where it waits for that, too.
#[test]
fn cancelled_while_the_body_waits() {
    on_manual_clock(|el, clock| {
        let log = Log::new();
        let (deaf, listening) = (log.clone(), log.clone());
        let mut deaf = async_gen(async move |y| {
            sleep(SECOND).await;
            deaf.push("slept");
            let result = y.emit(1).await;
            deaf.push(format!("{result:?}"));
            result
        });
        let mut listening = async_gen(async move |y: Emitter<u32>| {
            select(pin!(y.closed()), pin!(sleep(100 * SECOND))).await;
            listening.push("told");
            Ok(())
        });
        complete_polls(el, async {
            assert!(deaf.next().now_or_never().is_none());
            assert!(listening.next().now_or_never().is_none());
        });
        drop((deaf, listening));
        settle(el);
        assert_eq!(log.take(), ["told"]);
        clock.advance(SECOND);
        settle(el);
        assert_eq!(log.take(), ["slept", "Err(Closed)"]);
        assert_eq!(el.next_deadline(), None);
    });
}

fn complete_polls<T>(el: &EventLoop, future: impl Future<Output = T>) -> T {
    el.run_until_complete(future).unwrap()
}

/// A panic of the body is one of whoever asks for the item; the stream is over then, and the loop closes nothing.
#[test]
fn the_body_panics() {
    on_loop(|el| {
        let drops = DropCounter::new();
        let guard = drops.guard();
        let items = Rc::new(RefCell::new(async_gen(async move |y| {
            let _guard = guard;
            y.emit(1).await?;
            panic!("broken");
        })));
        let own = items.clone();
        #[allow(clippy::await_holding_refcell_ref)]
        let next = move || {
            let own = own.clone();
            el.create_task(async move { own.borrow_mut().next().await })
        };
        assert_eq!(finish(el, next()).unwrap(), Some(1));
        let payload = finish(el, next()).unwrap_err().into_panic();
        assert_eq!(payload.downcast_ref(), Some(&"broken"));
        assert_eq!(drops.count(), 1);
        assert_eq!(finish(el, next()).unwrap(), None);
        assert!(items.borrow().is_terminated());
    });
}

/// A panic in what a body cleans up is one of whoever awaits its `aclose`.
#[test]
fn the_cleanup_panics() {
    on_loop(|el| {
        let mut items = async_gen(async |y| {
            let _ = y.emit(1).await;
            panic!("cannot clean up");
        });
        let task = el.create_task(async move {
            items.next().await;
            items.aclose().await
        });
        let payload = finish(el, task).unwrap_err().into_panic();
        assert_eq!(payload.downcast_ref(), Some(&"cannot clean up"));
    });
}

/// AG-02: closed because it was dropped, nobody awaits it: its panic is reported, with the generator.
#[test]
fn the_cleanup_of_a_dropped_one_panics() {
    on_loop(|el| {
        let found = Rc::new(Cell::new(None));
        let note = found.clone();
        let mut items = async_gen(async |y| {
            let _ = y.emit(1).await;
            panic!("cannot clean up");
        });
        let place = items.info().created_at;
        complete(el, items.next());
        el.set_exception_handler(Some(Rc::new(move |_, context| {
            let info = *context.asyncgen().unwrap();
            assert_eq!(context.created_at, Some(info.created_at));
            note.set(Some((info, context.to_string())));
        })));
        drop(items);
        settle(el);
        let (info, text) = found.take().unwrap();
        assert_eq!((info.created_at, info.item), (place, "i32"));
        assert!(
            text.contains("cleanup of an async generator: cannot clean up")
                && text.contains("<AsyncGen of i32 created at ")
        );
    });
}

/// A fatal one unwinds out of the run.
#[test]
fn the_cleanup_fails_fatally() {
    on_loop(|el| {
        let mut items = async_gen(async |y| {
            let _ = y.emit(1).await;
            std::panic::panic_any(Fatal::new("out"));
        });
        complete(el, items.next());
        drop(items);
        let payload = catch_unwind(AssertUnwindSafe(|| settle(el))).unwrap_err();
        assert!(payload.is::<Fatal>());
        settle(el);
    });
}

/// `shutdown_asyncgens` closes all that have begun, at the same time, and waits for them; whoever iterates one sees its end.
/// Those that have not begun, or have ended, are left alone.
#[test]
fn all_are_closed() {
    on_manual_clock(|el, clock| {
        let log = Log::new();
        let slow = |n: u32| {
            let log = log.clone();
            async_gen(async move |y| {
                let _ = y.emit(n).await;
                sleep(SECOND).await;
                log.push(format!("cleaned up {n}"));
                Ok(())
            })
        };
        let (mut a, mut b, mut new, mut done) = (slow(1), slow(2), slow(3), async_gen(async |_: Emitter<u32>| Ok(())));
        complete_polls(el, async { join3(a.next(), b.next(), done.next()).await });
        let handle = el.clone();
        let waits = el.create_task(async move { a.next().await });
        let task = el.create_task(async move { handle.shutdown_asyncgens().await });
        settle(el);
        assert!(!task.is_done());
        clock.advance(SECOND);
        settle(el);
        assert!(task.is_done());
        assert_eq!(log.take(), ["cleaned up 1", "cleaned up 2"]);
        assert!(waits.is_done());
        // It had asked for the next item before: the body was on its way out by itself.
        assert_eq!(finish(el, waits).unwrap(), None);
        assert_eq!(complete_polls(el, async { (b.next().await, new.next().await) }), (None, Some(3)));
        drop(new);
        settle(el);
        clock.advance(SECOND);
        settle(el);
    });
}

/// One that waits for an item is told of the end when another closes the generator.
#[test]
fn who_waits_for_an_item_is_told() {
    on_loop(|el| {
        let mut items = async_gen(async |y: Emitter<u32>| {
            y.closed().await;
            Err(Closed)
        });
        let waits = el.create_task(async move { items.next().await });
        settle(el);
        assert!(!waits.is_done());
        complete(el, el.shutdown_asyncgens());
        settle(el);
        assert!(waits.is_done());
        assert_eq!(finish(el, waits).unwrap(), None);
    });
}

/// AG-02: a panic or an error in the cleanup of one is reported, with the generator; the others are closed all the same.
#[test]
fn one_of_all_fails() {
    on_loop(|el| {
        let log = Log::new();
        let mut panics = async_gen(async |y| {
            let _ = y.emit(1).await;
            panic!("cannot clean up");
        });
        let mut errs = try_async_gen(async |y| {
            let _ = y.emit(1_u8).await;
            Err(io::Error::other("disk full"))
        });
        let mut fine = numbers(&log);
        complete(el, async {
            let _ = join3(panics.next(), errs.next(), fine.next()).await;
            el.shutdown_asyncgens().await;
        });
        assert_eq!(log.take(), ["begins", CLOSED[0], CLOSED[1]]);
        let reports = take_reports();
        assert_eq!(reports.len(), 2, "{reports:?}");
        for (report, parts) in
            reports.iter().zip([["cannot clean up", "<AsyncGen of i32 created at "], ["disk full", "<AsyncGen of"]])
        {
            assert!(report.starts_with("Exception in the cleanup of an async generator: "), "{report}");
            assert!(parts.iter().all(|part| report.contains(part)), "{report}");
            assert!(report.contains("tests/async_generators.rs:"), "{report}");
        }
    });
}

/// A shutdown that is given up leaves the rest to the next one, and to the generators' own drops.
#[test]
fn a_shutdown_that_is_given_up() {
    on_manual_clock(|el, clock| {
        let log = Log::new();
        let own = log.clone();
        let mut items = async_gen(async move |y| {
            let _ = y.emit(1).await;
            sleep(2 * SECOND).await;
            own.push("cleaned up");
            Ok(())
        });
        complete_polls(el, items.next());
        let handle = el.clone();
        let task = el.create_task(async move {
            assert!(roundelay::timeout(SECOND, handle.shutdown_asyncgens()).await.is_err());
            handle.shutdown_asyncgens().await;
        });
        for _ in 0..2 {
            settle(el);
            assert_eq!(log.len(), 0);
            clock.advance(SECOND);
        }
        finish(el, task).unwrap();
        assert_eq!(log.take(), ["cleaned up"]);
    });
}

/// Nor does one that is given up leave behind who waits for an item, and whose place by the body it has taken.
#[test]
fn an_iteration_under_a_shutdown_that_is_given_up() {
    on_manual_clock(|el, clock| {
        let mut items = async_gen(async |y| {
            sleep(2 * SECOND).await;
            y.emit(1).await
        });
        let iteration = el.create_task(async move { items.next().await });
        let handle = el.clone();
        let shutdown = el.create_task(roundelay::timeout(SECOND, async move { handle.shutdown_asyncgens().await }));
        for _ in 0..2 {
            settle(el);
            clock.advance(SECOND);
        }
        settle(el);
        assert!(finish(el, shutdown).unwrap().is_err());
        assert!(iteration.is_done());
        assert_eq!(finish(el, iteration).unwrap(), None);
    });
}

/// Several may close one at the same time: those who give up take nothing along that wakes the others, and those who wait
/// hear of the end, whoever has brought it about.
#[test]
fn closed_by_several() {
    on_manual_clock(|el, clock| {
        let is_over = Rc::new(Cell::new(false));
        let look = is_over.clone();
        let mut items = async_gen(async move |y| {
            let result = y.emit(1).await;
            sleep(SECOND).await;
            // Nobody wakes it.
            poll_fn(|_| if look.get() { Poll::Ready(()) } else { Poll::Pending }).await;
            result
        });
        complete_polls(el, items.next());
        let handle = el.clone();
        let shutdown = el.create_task(async move { handle.shutdown_asyncgens().await });
        settle(el);
        complete_polls(el, async {
            assert!(items.aclose().now_or_never().is_none());
            assert!(items.next().now_or_never().is_none());
        });
        let polls = || el.all_tasks()[0].polls;
        let before = polls();
        clock.advance(SECOND);
        settle(el);
        assert!(polls() > before, "what the body waits for wakes the shutdown");
        is_over.set(true);
        complete_polls(el, items.aclose());
        settle(el);
        assert!(shutdown.is_done());
    });
}

/// A body may close all of its loop's generators: it is not waited for itself.
#[test]
fn shut_down_by_a_body() {
    on_loop(|el| {
        let log = Log::new();
        let mut other = numbers(&log);
        let own = log.clone();
        let mut items = async_gen(async move |y| {
            get_running_loop().unwrap().shutdown_asyncgens().await;
            own.push(format!("{:?}", y.emit(1).await));
            Ok(())
        });
        complete(el, async {
            other.next().await;
            assert_eq!(items.next().await, None);
        });
        assert_eq!(log.take(), ["begins", CLOSED[0], CLOSED[1], "Err(Closed)"]);
    });
}

/// What a generator holds and drops on its way out is closed, too.
#[test]
fn generators_inside_of_generators() {
    on_loop(|el| {
        let log = Log::new();
        let own = log.clone();
        let mut outer = async_gen(async move |y| {
            let mut inner = numbers(&own);
            while let Some(n) = inner.next().await {
                y.emit(n * 10).await?;
            }
            Ok(())
        });
        complete(el, async {
            assert_eq!((outer.next().await, outer.next().await), (Some(10), Some(20)));
            el.shutdown_asyncgens().await;
            assert_eq!(log.take(), ["begins", CLOSED[0], CLOSED[1]]);
        });
    });
}

/// AG-04: one that begins after the shutdown is warned of, in debug mode; it is closed as any other.
#[test]
fn begun_after_the_shutdown() {
    for debug in [true, false] {
        let ((), written) = collect(|| {
            common::run_on(
                || EventLoop::builder().debug(debug).slow_callback_duration(Duration::MAX),
                |el| {
                    let log = Log::new();
                    complete(el, el.shutdown_asyncgens());
                    let mut items = numbers(&log);
                    assert_eq!(complete(el, items.next()), Some(1));
                    drop(items);
                    settle(el);
                    assert_eq!(log.take(), ["begins", CLOSED[0], CLOSED[1]]);
                },
            );
        });
        let texts: Vec<_> = written.iter().map(|(_, text)| &**text).collect();
        assert_eq!(texts.len(), usize::from(debug), "{texts:?}");
        for text in texts {
            assert!(text.starts_with("resource warning: <AsyncGen of u32 created at "), "{text}");
            assert!(
                text.contains("tests/async_generators.rs:") && text.contains("after shutdown_asyncgens()"),
                "{text}"
            );
        }
    }
}

/// On a closed loop there is nothing to close.
#[test]
fn shut_down_after_the_loop() {
    on_loop(|el| {
        let log = Log::new();
        let mut items = numbers(&log);
        complete(el, items.next());
        el.close();
        futures::executor::block_on(el.shutdown_asyncgens());
        assert_eq!(log.take(), ["begins"]);
    });
}

/// AG-05, PO-06: the end of a run closes the generators, after the tasks, of which some may have failed; what the main
/// future and the tasks have dropped is among them.
#[test]
fn the_end_of_a_run_closes_them() {
    let _alone = common::alone();
    let log = Log::new();
    let kept = Rc::new(RefCell::new(None));
    let (own, keep) = (log.clone(), kept.clone());
    let result = catch_unwind(AssertUnwindSafe(|| {
        block_on(async move {
            let el = get_running_loop().unwrap();
            common::watch_reports(&el);
            let (of_task, of_failed) = (numbers(&own), numbers(&own));
            drop(spawn(async move {
                let mut items = of_task;
                items.next().await;
                pending::<()>().await
            }));
            struct Panics;
            impl Drop for Panics {
                fn drop(&mut self) {
                    panic!("on the way out");
                }
            }
            drop(spawn(async move {
                let (_panics, mut items) = (Panics, of_failed);
                items.next().await;
                pending::<()>().await
            }));
            let (mut mine, mut global) = (numbers(&own), numbers(&own));
            join(mine.next(), global.next()).await;
            *keep.borrow_mut() = Some(global);
            yield_now().await;
            panic!("main fails");
        })
    }));
    assert_eq!(result.unwrap_err().downcast_ref(), Some(&"main fails"));
    let mut all = log.take();
    all.sort();
    let expected = ["Err(Closed)", "begins", "cleaned up"].map(|entry| [entry; 4]).concat();
    assert_eq!(all, expected);
    let reports = take_reports();
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert!(reports[0].contains("on the way out"));
    assert!(kept.take().unwrap().is_terminated());
}

/// One that does not end holds up the end of the run for its bound, and is named in its report.
#[test]
fn the_end_of_a_run_has_its_bound() {
    let _alone = common::alone();
    let drops = DropCounter::new();
    let guard = drops.guard();
    let mut runner = Runner::builder().shutdown_bound(Duration::from_millis(20)).build();
    let mut items = async_gen(async move |y| {
        let _guard = guard;
        let _ = y.emit(1).await;
        pending().await
    });
    let el = runner.get_loop().unwrap();
    common::watch_reports(&el);
    runner.run(items.next()).unwrap();
    runner.close();
    let reports = take_reports();
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert!(
        reports[0].contains("1 async generator\n") && reports[0].contains("<AsyncGen of i32 created at "),
        "{}",
        reports[0]
    );
    assert_eq!(drops.count(), 0);
    drop(items);
    assert_eq!(drops.count(), 1);
    assert!(el.stats().is_balanced());
}

/// A dropped generator whose close is cancelled with the other tasks is still there for the shutdown.
#[test]
fn a_close_that_is_cancelled() {
    on_loop(|el| {
        let log = Log::new();
        let mut items = numbers(&log);
        complete(el, items.next());
        drop(items);
        for task in el.all_tasks() {
            task.cancel();
        }
        settle(el);
        assert_eq!(log.take(), ["begins"]);
        complete(el, el.shutdown_asyncgens());
        assert_eq!(log.take(), CLOSED);
    });
}

/// A task factory that panics does so in nobody's destructor: it is reported, and the generator closed with the others.
#[test]
fn a_task_factory_panics() {
    on_loop(|el| {
        let log = Log::new();
        let mut items = numbers(&log);
        complete(el, items.next());
        el.set_task_factory(Some(Rc::new(|_, _, _| panic!("no tasks today"))));
        drop(items);
        el.set_task_factory(None);
        let reports = take_reports();
        assert_eq!(reports.len(), 1, "{reports:?}");
        assert!(reports[0].contains("no tasks today"));
        complete(el, el.shutdown_asyncgens());
        assert_eq!(log.take(), ["begins", CLOSED[0], CLOSED[1]]);
    });
}

/// On a loop of eager tasks, too, nothing of the body runs inside of the drop.
#[test]
fn dropped_on_a_loop_of_eager_tasks() {
    on_loop(|el| {
        el.set_eager_tasks(true);
        let log = Log::new();
        let own = log.clone();
        complete(el, async move {
            let mut items = numbers(&own);
            items.next().await;
            drop(items);
            assert_eq!(own.take(), ["begins"]);
        });
        settle(el);
        assert_eq!(log.take(), CLOSED);
    });
}

/// The loop is closed with generators in it that were dropped and are not closed yet: their bodies are dropped, and what
/// their destructors say is reported.
#[test]
fn the_loop_is_closed_before() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("in the body");
        }
    }
    on_loop(|el| {
        let drops = DropCounter::new();
        let all = [false, true, true].map(|panics| {
            let guard = drops.guard();
            let mut items = async_gen(async move |y| {
                let (_guard, _panics) = (guard, panics.then(|| Panics));
                y.emit(1).await
            });
            complete(el, items.next());
            items
        });
        drop(all);
        assert_eq!(drops.count(), 0);
        el.close();
        assert_eq!(drops.count(), 3);
        let reports = take_reports();
        assert_eq!(reports.len(), 2, "{reports:?}");
        assert!(reports.iter().all(|report| report.contains("in the body")), "{reports:?}");
    });
}

/// The body runs in the context of whoever asks for its items.
#[test]
fn the_context_is_that_of_who_asks() {
    static VAR: ContextVar<u32> = ContextVar::with_default("var", || 0);
    on_loop(|el| {
        let mut items = async_gen(async |y| {
            loop {
                y.emit(VAR.get()).await?;
            }
        });
        let task = el.create_task(async move {
            VAR.set(1);
            let first = items.next().await;
            let (second, mut items) = spawn(async move {
                VAR.set(2);
                (items.next().await, items)
            })
            .await
            .unwrap();
            (first, second, items.next().await)
        });
        let (first, second, third) = finish(el, task).unwrap();
        assert_eq!((first, second, third), (Some(Some(1)), Some(Some(2)), Some(Some(1))));
    });
}

/// A body may emit from several places at once, each polled for itself: every item comes out once, none is passed over.
#[test]
fn several_emit_at_once() {
    on_loop(|el| {
        let items = async_gen(async |y: Emitter<u32>| {
            let y = &y;
            let all = FuturesUnordered::new();
            for n in 0..3 {
                all.push(async move {
                    for m in 0..3 {
                        y.emit(10 * n + m).await.unwrap();
                    }
                });
            }
            all.collect::<()>().await;
            Ok(())
        });
        let mut items = complete(el, items.collect::<Vec<_>>());
        items.sort();
        assert_eq!(items, [0, 1, 2, 10, 11, 12, 20, 21, 22]);
    });
}

/// The emitter may go to another task: whoever iterates is woken by what comes from there, and it goes on when the next item
/// is asked for.
#[test]
fn emitted_by_another_task() {
    on_loop(|el| {
        let log = Log::new();
        let own = log.clone();
        let items = async_gen(async move |y| {
            let task = spawn(async move {
                for n in 0..3 {
                    yield_now().await;
                    own.push(format!("emits {n}"));
                    if y.emit(n).await.is_err() {
                        own.push("closed");
                    }
                }
            });
            task.await.unwrap();
            Ok(())
        });
        let told = log.clone();
        let mut items = items.take(2);
        complete(el, async {
            while let Some(n) = items.next().await {
                told.push(format!("got {n}"));
                yield_now().await;
                yield_now().await;
            }
        });
        assert_eq!(log.take(), ["emits 0", "got 0", "emits 1", "got 1"]);
        drop(items);
        settle(el);
        assert_eq!(log.take(), ["closed", "emits 2", "closed"]);
    });
}

/// An item that is emitted and not waited for still comes out, also after the end of the body.
#[test]
fn emitted_without_waiting() {
    on_loop(|el| {
        let items = async_gen(async |y| {
            assert!(y.emit(1).now_or_never().is_none());
            let never = y.emit(2);
            drop(never);
            Ok(())
        });
        assert_eq!(complete(el, items.collect::<Vec<_>>()), [1]);
        let with_error = try_async_gen(async |y| {
            assert!(y.emit(1).now_or_never().is_none());
            Err(io::Error::other("after it"))
        });
        let got = complete(el, with_error.map_err(|error| error.to_string()).collect::<Vec<_>>());
        assert_eq!(got, [Ok(1), Err("after it".to_owned())]);
    });
}

/// Nobody is woken in vain: not whoever iterates by his own body's items.
#[test]
fn no_wakes_in_vain() {
    let (counter, waker) = CountingWaker::new();
    let mut items = async_gen(async |y| {
        for n in 0..3 {
            y.emit(n).await?;
        }
        Ok(())
    });
    let mut cx = Context::from_waker(&waker);
    for n in 0..3 {
        assert_eq!(Pin::new(&mut items).poll_next_unpin(&mut cx), Poll::Ready(Some(n)));
    }
    assert_eq!(Pin::new(&mut items).poll_next_unpin(&mut cx), Poll::Ready(None));
    assert_eq!(counter.count(), 0);
    drop(waker);
    assert_eq!(std::sync::Arc::strong_count(&counter), 1);
}

/// What a body holds is dropped at its end, before the stream says that it is over.
#[test]
fn the_body_is_gone_at_the_end() {
    on_loop(|el| {
        let drops = DropCounter::new();
        let guard = drops.guard();
        let mut items = async_gen(async move |y| {
            let _guard = &guard;
            y.emit(1).await
        });
        complete(el, async {
            items.next().await;
            assert_eq!(drops.count(), 0);
            assert_eq!(items.next().await, None);
            assert_eq!(drops.count(), 1);
        });
    });
}

/// The error of a body is the last item; what the body holds is gone by then, and nothing is left to be closed.
#[test]
fn an_error_is_the_last_item() {
    on_loop(|el| {
        let drops = DropCounter::new();
        let guard = drops.guard();
        let mut items = try_async_gen(async move |y| {
            let _guard = guard;
            y.emit(1).await?;
            Err(io::Error::other("broken"))
        });
        complete(el, async {
            assert_eq!(items.next().await.unwrap().unwrap(), 1);
            let error = items.next().await.unwrap().unwrap_err();
            assert_eq!((error.to_string(), drops.count()), ("broken".to_owned(), 1));
            assert!(items.next().await.is_none());
        });
        let tasks = el.stats().tasks.opened;
        drop(items);
        assert_eq!(el.stats().tasks.opened, tasks);
    });
}

/// An error that only passes on that the generator is closed is none, whatever it is made into; one that does not is
/// reported.
#[test]
fn errors_of_being_closed() {
    #[derive(Debug)]
    enum Own {
        Closed(Closed),
        Broken,
    }
    impl fmt::Display for Own {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(if let Own::Broken = self { "broken" } else { "over" })
        }
    }
    impl Error for Own {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            match self {
                Own::Closed(closed) => Some(closed),
                Own::Broken => None,
            }
        }
    }
    impl From<Closed> for Own {
        fn from(closed: Closed) -> Self {
            Own::Closed(closed)
        }
    }

    async fn close<T: 'static, E: 'static>(mut items: AsyncGen<Result<T, E>>) {
        assert!(items.next().await.is_some_and(|item| item.is_ok()));
        items.aclose().await;
        assert!(items.next().await.is_none());
    }

    on_loop(|el| {
        complete(el, async {
            close(try_async_gen(async |y| Ok::<(), io::Error>(y.emit(1).await?))).await;
            close(try_async_gen(async |y| Ok::<(), Own>(y.emit(1).await?))).await;
            close(try_async_gen(async |y| Ok::<(), Box<dyn Error>>(y.emit(1).await?))).await;
            close(try_async_gen(async |y| {
                let result: io::Result<()> = async { Ok(y.emit(1).await?) }.await;
                result.map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error))
            }))
            .await;
            close(try_async_gen(async |y| y.emit(1).await)).await;
        });
        assert_eq!(take_reports(), [""; 0]);
        complete(
            el,
            close(try_async_gen(async |y| {
                let _ = y.emit(1).await;
                Err(Own::Broken)
            })),
        );
        let reports = take_reports();
        assert_eq!(reports.len(), 1);
        assert!(reports[0].starts_with("Exception in the cleanup of an async generator: broken"), "{reports:?}");
    });
}

/// What it says of itself.
#[test]
fn its_texts() {
    on_loop(|el| {
        let mut items = async_gen(async |y| {
            let text = format!("{y:?}");
            y.emit(text).await
        });
        assert!(format!("{items:?}").starts_with("<AsyncGen of alloc::string::String new created at tests/async_"));
        assert_eq!(complete(el, items.next()).unwrap(), "Emitter { closed: false }");
        assert!(format!("{items:?}").contains(" open "));
        complete(el, items.aclose());
        assert!(format!("{items:?}").contains(" done "));
        assert_eq!(Closed.to_string(), "the async generator is being closed");
        assert_eq!(io::Error::from(Closed).get_ref().unwrap().downcast_ref(), Some(&Closed));
    });
}

/// Many of them, closed at once: each is looked at when it has something to do.
#[test]
fn many_are_closed_at_once() {
    on_manual_clock(|el, clock| {
        let count = Rc::new(Cell::new(0));
        let mut all = Vec::new();
        for n in 0..1000 {
            let count = count.clone();
            let mut items = async_gen(async move |y| {
                let _ = y.emit(n).await;
                sleep(n * Duration::from_millis(1)).await;
                count.set(count.get() + 1);
                Ok(())
            });
            complete_polls(el, items.next());
            all.push(items);
        }
        // Half of them are dropped before.
        all.truncate(500);
        let handle = el.clone();
        let task = el.create_task(async move { handle.shutdown_asyncgens().await });
        settle(el);
        clock.advance(SECOND);
        settle(el);
        assert!(task.is_done());
        assert_eq!(count.get(), 1000);
        assert!(all.iter().all(FusedStream::is_terminated));
    });
}

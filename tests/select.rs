//! futures' macros beside our names (feature `macros`): with the prelude, and with nothing else.
#![cfg(feature = "macros")]

mod common;

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use common::{DropCounter, Log, complete, on_loop, on_manual_clock, run_until, settle};
use roundelay::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

/// Of two timers the one that is due first wins; the other one is left, and no timer stays when it is dropped.
#[test]
fn over_timers() {
    on_manual_clock(|el, clock| {
        let log = Log::new();
        let noted = log.clone();
        let task = el.create_task(async move {
            let (mut long, mut short) = (sleep(3 * SECOND), sleep(SECOND));
            for _ in 0..2 {
                select! {
                    () = long => noted.push("long"),
                    () = short => noted.push("short"),
                }
            }
            // A sleep that was seen to end is left out; one that is set anew is in again.
            select! {
                () = long => unreachable!(),
                () = short => unreachable!(),
                complete => noted.push("complete"),
            }
            short.reset(get_running_loop().unwrap().time() + SECOND);
            select! {
                () = long => unreachable!(),
                () = short => noted.push("again"),
            }
            // By itself.
            select! {
                () = sleep(SECOND).fuse() => noted.push("one"),
                () = sleep(2 * SECOND) => unreachable!(),
            }
        });
        settle(el);
        for expected in [&["short"][..], &[], &["long", "complete"], &["again"], &["one"]] {
            assert!(log.take().is_empty());
            clock.advance(SECOND);
            settle(el);
            assert_eq!(log.take(), expected);
        }
        assert!(task.is_done());
        assert_eq!(el.stats().timers.live(), 0);
    });
}

/// A task is given by name, also again and again; what is not chosen goes on, and its output is there in the next round.
#[test]
fn over_tasks() {
    on_loop(|el| {
        let output = complete(el, async {
            let mut slow = spawn(async {
                for _ in 0..5 {
                    yield_now().await;
                }
                "slow"
            });
            let mut fast = spawn(async { "fast" });
            let mut order = Vec::new();
            loop {
                select! {
                    output = slow => order.push(output.unwrap()),
                    output = fast => order.push(output.unwrap()),
                    complete => break,
                }
            }
            let mut cancelled = spawn(pending::<()>()).cancel_on_drop();
            cancelled.cancel();
            select! {
                ended = cancelled => assert!(ended.unwrap_err().is_cancelled()),
            }
            select! {
                _ = cancelled => unreachable!(),
                complete => order.push("complete"),
            }
            let mut endless = spawn(pending::<()>()).cancel_on_drop();
            select! {
                _ = endless => unreachable!(),
                default => order.push("default"),
            }
            order
        });
        assert_eq!(output, ["fast", "slow", "complete", "default"]);
    });
}

/// What is not chosen is dropped with the macro if it was given by value, and stays if by name; a `select!` that is cancelled
/// drops all of it, and runs no branch.
#[test]
fn cancellation() {
    on_loop(|el| {
        let drops = DropCounter::new();
        let held = |guard: common::DropGuard| async move {
            let _guard = guard;
            pending::<()>().await
        };
        complete(el, async {
            let mut by_name = std::pin::pin!(held(drops.guard()).fuse());
            select! {
                () = held(drops.guard()).fuse() => unreachable!(),
                () = by_name => unreachable!(),
                () = yield_now().fuse() => {}
            }
            assert_eq!(drops.count(), 1);
            let task = spawn({
                let (one, two) = (held(drops.guard()), held(drops.guard()));
                async move {
                    select! {
                        () = one.fuse() => unreachable!(),
                        () = two.fuse() => unreachable!(),
                    }
                }
            });
            yield_now().await;
            assert_eq!(drops.count(), 1);
            assert!(task.cancel_and_wait().await.unwrap_err().is_cancelled());
            assert_eq!(drops.count(), 3);
        });
        assert_eq!(drops.count(), 4);
    });
}

/// Among branches that are always ready none is starved, and no other task either: each round takes one of them by chance,
/// `select_biased!` always the first.
#[test]
fn fairness() {
    on_loop(|el| {
        complete(el, async {
            let mut counts = [0; 3];
            for _ in 0..600 {
                select! {
                    () = async {}.fuse() => counts[0] += 1,
                    () = async {}.fuse() => counts[1] += 1,
                    () = async {}.fuse() => counts[2] += 1,
                }
            }
            assert!(counts.iter().all(|&count| count > 100), "{counts:?}");
            let mut first = 0;
            for _ in 0..100 {
                select_biased! {
                    () = async {}.fuse() => first += 1,
                    () = async {}.fuse() => unreachable!(),
                }
            }
            assert_eq!(first, 100);
        });
        // A task that selects for ever over what is always ready at the second look lets the others run.
        let rounds = Rc::new(Cell::new(0));
        let counted = rounds.clone();
        let selecting = el.create_task(async move {
            loop {
                select! {
                    () = yield_now().fuse() => counted.set(counted.get() + 1),
                    () = yield_now().fuse() => counted.set(counted.get() + 1),
                }
            }
        });
        let other = el.create_task(async {
            for _ in 0..100 {
                yield_now().await;
            }
        });
        run_until(el, || other.is_done());
        assert!((90..=110).contains(&rounds.get()), "{}", rounds.get());
        selecting.cancel();
        run_until(el, || selecting.is_done());
    });
}

/// `join!` and `try_join!` poll side by side, in one task; at the first error the others are dropped.
#[test]
fn join_and_try_join() {
    on_loop(|el| {
        let log = RefCell::new(Vec::new());
        let drops = DropCounter::new();
        let step = async |name: &str, turns: usize| {
            for turn in 0..turns {
                log.borrow_mut().push(format!("{name}{turn}"));
                yield_now().await;
            }
            turns
        };
        complete(el, async {
            assert_eq!(join!(step("a", 2), step("b", 1)), (2, 1));
            assert_eq!(log.take(), ["a0", "b0", "a1"]);
            let failing = async {
                yield_now().await;
                Err::<(), _>("failed")
            };
            let guard = drops.guard();
            let endless = async move {
                let _guard = guard;
                pending::<Result<(), &str>>().await
            };
            assert_eq!(try_join!(failing, endless), Err("failed"));
            assert_eq!(drops.count(), 1);
            assert_eq!(try_join!(async { Ok::<_, ()>(1) }, async { Ok(2) }), Ok((1, 2)));
        });
    });
}

/// The macros need no other name than their own, by path, and get along with those of the crate `futures`, and with items
/// of the same names.
#[test]
fn hygiene() {
    mod by_path {
        pub(super) async fn both() -> (i32, i32) {
            let joined = roundelay::join!(async { 1 }, async { 2 });
            let tried: Result<(i32, i32), ()> = roundelay::try_join!(async { Ok(1) }, async { Ok(2) });
            assert_eq!(tried, Ok(joined));
            let mut task = roundelay::spawn(async move { joined });
            roundelay::select! {
                output = task => output.unwrap(),
            }
        }
    }
    mod with_futures {
        // Both of them are the same.
        use futures::prelude::*;
        use futures::{join, select};
        use roundelay::prelude::*;

        pub(super) async fn both() -> (i32, i32) {
            select! {
                one = ready_soon().fuse() => join!(async { one }, async { 2 }),
            }
        }

        async fn ready_soon() -> i32 {
            yield_now().await;
            1
        }
    }
    mod with_functions {
        use futures::future::{join, select, try_join};
        use roundelay::prelude::*;

        pub(super) async fn both() -> (i32, i32) {
            let (one, two) = (async { Ok::<_, ()>(1) }.boxed_local(), async { Ok(2) }.boxed_local());
            let _unused = (join(async {}, async {}), select(pending(), pending()));
            assert!(try_join(one, two).await.is_ok());
            join!(async { 1 }, async { 2 })
        }

        fn pending() -> futures::future::Pending<()> {
            futures::future::pending()
        }
    }
    mod with_own_names {
        #![allow(dead_code, non_camel_case_types)]
        use roundelay::prelude::*;

        // What the macros' insides might be called.
        struct Poll;
        struct Option;
        struct Some;
        struct None;
        mod futures {}
        mod futures_util {}
        mod std {}
        mod core {}

        pub(super) async fn both() -> (i32, i32) {
            let (one, two) = join!(async { 1 }, async { 2 });
            let mut task = spawn(async move { (one, two) });
            select! {
                output = task => output.unwrap(),
            }
        }
    }
    on_loop(|el| {
        complete(el, async {
            assert_eq!(by_path::both().await, (1, 2));
            assert_eq!(with_futures::both().await, (1, 2));
            assert_eq!(with_functions::both().await, (1, 2));
            assert_eq!(with_own_names::both().await, (1, 2));
        });
    });
}

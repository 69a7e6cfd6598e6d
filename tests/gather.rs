//! `gather` and `try_gather`: outputs in order, who is told of what, and who is cancelled (behaviours CB).

mod common;

use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use common::{DropCounter, Log, complete, finish, on_loop, on_manual_clock, on_strict_loop, settle, take_reports};
use roundelay::{
    ContextVar, EventLoop, Fatal, FutureError, JoinError, gather, get_running_loop, shield, sleep, spawn, try_gather,
    yield_now,
};

async fn turns(n: usize) {
    for _ in 0..n {
        yield_now().await;
    }
}

/// One that gives its number after some turns.
async fn number(n: usize, after: usize) -> usize {
    turns(after).await;
    n
}

/// One that never ends, and counts its drop.
fn counted(drops: &DropCounter) -> impl Future<Output = usize> + 'static {
    let guard = drops.guard();
    async move {
        let _guard = guard;
        pending().await
    }
}

/// Cancels the task that is running.
async fn cancel_itself() -> usize {
    get_running_loop().unwrap().current_task().unwrap().cancel();
    pending().await
}

/// CB-12: the outputs stand in the order of the futures, whichever was done first; of none there are none.
#[test]
fn outputs_in_order() {
    on_loop(|el| {
        complete(el, async {
            assert_eq!(gather([number(1, 5), number(2, 0), number(3, 3)]).await.unwrap(), [1, 2, 3]);
            assert_eq!(gather(Vec::<std::future::Ready<u8>>::new()).await.unwrap(), [0; 0]);
            assert_eq!(gather((0..100).map(|n| number(n, 100 - n))).await.unwrap(), (0..100).collect::<Vec<_>>());
            // What is made into a future, as builders are, and what is one already.
            assert_eq!(gather([sleep(Duration::ZERO)]).await.unwrap(), [()]);
            assert_eq!(try_gather([spawn(number(4, 2)), spawn(number(5, 1))]).await.unwrap(), [4, 5]);
        });
    });
}

/// CB-12: the children are tasks of their own, which run before anybody awaits, each in a copy of the context.
#[test]
fn children_run_by_themselves() {
    static NAME: ContextVar<&str> = ContextVar::new("name");
    on_strict_loop(|el| {
        let log = Log::new();
        complete(el, async {
            NAME.set("parent");
            let children = gather((0..2).map(|n| {
                let log = log.clone();
                async move {
                    log.push(format!("{n} {}", NAME.get().unwrap()));
                    NAME.set("child");
                }
            }));
            assert_eq!(get_running_loop().unwrap().all_tasks().len(), 3);
            assert!(get_running_loop().unwrap().all_tasks()[1].spawned_at.file().ends_with("gather.rs"));
            turns(1).await;
            assert_eq!(log.take(), ["0 parent", "1 parent"]);
            assert_eq!(NAME.get(), Some("parent"));
            children.await.unwrap();
        });
    });
}

/// CB-13: the first error is that of the whole, at once. The others go on, and what they say is not reported.
#[test]
fn the_first_error_comes_at_once() {
    on_loop(|el| {
        let log = Log::new();
        let children = |log: &Log| {
            let log = log.clone();
            (0..4).map(move |n| {
                let log = log.clone();
                async move {
                    turns(2 * n).await;
                    log.push(format!("{n}"));
                    if n % 2 == 1 { Err(io::Error::other(format!("error {n}"))) } else { Ok(n) }
                }
            })
        };
        complete(el, async {
            let error = try_gather(children(&log)).await.unwrap_err();
            assert_eq!(error.to_string(), "error 1");
            assert_eq!(log.take(), ["0", "1"]);
            turns(10).await;
            assert_eq!(log.take(), ["2", "3"]);

            let panicking = |n: usize| async move {
                turns(n).await;
                panic!("panic {n}") as ()
            };
            let error = gather([panicking(5), panicking(1), panicking(3)]).await.unwrap_err();
            assert_eq!(error.into_panic().downcast_ref::<String>().unwrap(), "panic 1");
            turns(10).await;
        });
        assert_eq!(take_reports(), [""; 0]);
    });
}

/// CB-13: an error that is there when the whole is awaited for the first time is the earliest, not that of the first future.
#[test]
fn the_earliest_error_counts() {
    on_loop(|el| {
        complete(el, async {
            let children = gather([5, 1, 3].map(|n| async move {
                turns(n).await;
                panic_any(n)
            }));
            turns(10).await;
            let error = children.await.map(|_: Vec<()>| ()).unwrap_err();
            assert_eq!(error.into_panic().downcast_ref(), Some(&1_usize));
        });
    });
}

/// CB-14: with `return_exceptions` errors, panics and cancellations stand in their places.
#[test]
fn exceptions_in_place() {
    on_loop(|el| {
        complete(el, async {
            let children = gather((0..4).map(|n| async move {
                match n {
                    1 => cancel_itself().await,
                    2 => panic!("loud"),
                    n => number(n, 5 - n).await,
                }
            }));
            let results = children.return_exceptions().await;
            assert_eq!(results.len(), 4);
            assert_eq!((results[0].as_ref().unwrap(), results[3].as_ref().unwrap()), (&0, &3));
            assert!(results[1].as_ref().unwrap_err().is_cancelled());
            assert_eq!(results[2].as_ref().unwrap_err().to_string(), "panicked: loud");

            let results = gather((0..2).map(|n| async move { if n == 0 { Err("no") } else { Ok(n) } }));
            let results: Vec<_> = results.return_exceptions().await.into_iter().map(Result::unwrap).collect();
            assert_eq!(results, [Err("no"), Ok(1)]);
        });
    });
}

/// CB-15: a child that is cancelled is an error of the whole, which is not cancelled itself; `try_gather` makes its own
/// error of it.
#[test]
fn a_cancelled_child() {
    on_loop(|el| {
        complete(el, async {
            let drops = DropCounter::new();
            let guard = drops.guard();
            let other = async move {
                let _guard = guard;
                number(7, 5).await
            };
            let children: [std::pin::Pin<Box<dyn Future<Output = usize>>>; 2] =
                [Box::pin(cancel_itself()), Box::pin(other)];
            let task = spawn(gather(children));
            turns(4).await;
            assert!(task.is_done() && !task.is_cancelled());
            assert!(task.await.unwrap().unwrap_err().is_cancelled());
            turns(5).await;
            assert_eq!(drops.count(), 1, "the other went on to its end");

            let error = try_gather([async { Ok::<_, io::Error>(cancel_itself().await) }]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::Interrupted);
            assert!(error.get_ref().unwrap().is::<JoinError>());
        });
    });
}

/// CB-16, P45: dropping the whole cancels every child that is not done.
#[test]
fn dropping_cancels_the_children() {
    on_loop(|el| {
        let drops = DropCounter::new();
        let (first, second) = (counted(&drops), counted(&drops));
        let task = el.create_task(async { gather([first, second]).await });
        settle(el);
        assert!(task.cancel());
        settle(el);
        assert!(task.is_cancelled());
        assert_eq!((drops.count(), el.stats().tasks.live()), (2, 0));

        // Before they have begun; with exceptions; of those that may fail.
        complete(el, async {
            drop(gather([counted(&drops)]));
            drop(gather([counted(&drops)]).return_exceptions());
            let child = counted(&drops);
            drop(try_gather([async { Ok::<_, JoinError>(child.await) }]));
            turns(1).await;
        });
        assert_eq!((drops.count(), el.stats().tasks.live()), (5, 0));
    });
}

/// CB-16: `cancel` cancels every child that is not done, and the whole is cancelled when all of them have ended; with
/// `return_exceptions` each has its result.
#[test]
fn cancelling_the_whole() {
    on_strict_loop(|el| {
        complete(el, async {
            let drops = DropCounter::new();
            let children = || -> [std::pin::Pin<Box<dyn Future<Output = usize>>>; 3] {
                [Box::pin(counted(&drops)), Box::pin(number(1, 0)), Box::pin(counted(&drops))]
            };
            let mut whole = gather(children());
            turns(2).await;
            assert!(whole.cancel());
            let first = poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut whole).poll(cx).is_pending())).await;
            assert!(first && drops.count() == 0, "the children have not ended yet");
            assert!(whole.cancel());
            assert!((&mut whole).await.unwrap_err().is_cancelled());
            assert_eq!(drops.count(), 2);
            assert!(!whole.cancel());

            let whole = gather(children()).return_exceptions();
            turns(2).await;
            assert!(whole.cancel());
            let results = whole.await;
            assert_eq!(results[1].as_ref().unwrap(), &1);
            assert!([0, 2].iter().all(|&n: &usize| results[n].as_ref().unwrap_err().is_cancelled()));

            let child = counted(&drops);
            let whole = try_gather([async { Ok::<_, JoinError>(child.await) }]);
            turns(1).await;
            assert!(whole.cancel());
            assert!(whole.await.unwrap_err().is_cancelled());
        });
    });
}

/// CB-17: when all children are done, `cancel` says false, and the outputs stay.
#[test]
fn cancelling_what_is_done() {
    on_loop(|el| {
        complete(el, async {
            let whole = gather([number(1, 0), number(2, 1)]);
            turns(5).await;
            assert!(!whole.cancel());
            assert_eq!(whole.await.unwrap(), [1, 2]);
            assert!(!gather(Vec::<std::future::Ready<u8>>::new()).cancel());
        });
    });
}

/// CB-19: what belongs to another loop is no child of a gather of this one: a task panics in its child, a future says so.
#[test]
fn children_of_another_loop() {
    on_loop(|el| {
        let other = EventLoop::new().unwrap();
        let task = other.create_task(async { 1 });
        let future = other.create_future::<u8>();
        complete(el, async {
            let error = gather([task]).await.unwrap_err();
            assert!(error.to_string().contains("was awaited in loop"), "{error}");
            let results = gather([future.take()]).await.unwrap();
            assert!(matches!(&results[0], Err(FutureError::InvalidState(_))), "{results:?}");
        });
        settle(&other);
        other.close();
    });
}

/// CB-21: what is shielded in a gather outlives it; a gather that is shielded outlives whoever awaits it.
#[test]
fn gather_and_shield() {
    on_manual_clock(|el, clock| {
        let done = Rc::new(Cell::new(0));
        let saving = || {
            let done = done.clone();
            async move {
                sleep(Duration::from_secs(1)).await;
                done.set(done.get() + 1);
                done.get()
            }
        };
        let inner = [saving(), saving()].map(|future| el.create_task(future));
        let task = el.create_task(async { gather(inner.map(shield)).await });
        settle(el);
        task.cancel();
        settle(el);
        assert!(task.is_cancelled() && done.get() == 0);
        clock.advance(Duration::from_secs(1));
        settle(el);
        assert_eq!(done.get(), 2);

        let (a, b) = (saving(), saving());
        let whole = el.create_task(async { gather([a, b]).await });
        let log = Log::new();
        let told = log.clone();
        whole.add_done_callback(move |outcome| told.push(format!("{outcome:?}")));
        let outer = el.create_task(shield(whole));
        settle(el);
        outer.cancel();
        settle(el);
        assert!(outer.is_cancelled());
        clock.advance(Duration::from_secs(1));
        settle(el);
        assert_eq!((done.get(), log.take()), (4, vec!["Finished".to_owned()]));
    });
}

/// CB-13, P43: a panic that the whole had, but gave to nobody before it was dropped, is reported.
#[test]
fn a_panic_that_nobody_asked_for() {
    on_loop(|el| {
        let drops = DropCounter::new();
        complete(el, async {
            let panicking = async { panic!("unheard") as usize };
            let children: [std::pin::Pin<Box<dyn Future<Output = usize>>>; 2] =
                [Box::pin(panicking), Box::pin(counted(&drops))];
            let whole = gather(children);
            turns(3).await;
            drop(whole);
            turns(1).await;
        });
        let reports = take_reports();
        assert_eq!(reports.len(), 1, "{reports:?}");
        assert!(
            reports[0].starts_with("Task exception was never retrieved: unheard\n  <Task ended name="),
            "{reports:?}"
        );
        assert_eq!(drops.count(), 1);

        // A child that drops the whole itself, and then panics.
        let slot = Rc::new(std::cell::RefCell::new(None));
        let kept = slot.clone();
        complete(el, async move {
            let child = async move {
                drop(kept.take());
                panic!("alone")
            };
            slot.replace(Some(gather([child])));
            turns(2).await;
        });
        let reports = take_reports();
        assert_eq!(reports.len(), 1);
        assert!(reports[0].starts_with("Exception in a task that nobody awaits: alone"), "{reports:?}");
    });
}

/// A fatal panic of a child leaves the loop's run at once, and whoever awaits the whole hears of it.
#[test]
fn a_fatal_panic_of_a_child() {
    on_loop(|el| {
        let task = el.create_task(async { gather([async { panic_any(Fatal::new(3)) as () }]).await });
        assert!(catch_unwind(AssertUnwindSafe(|| settle(el))).unwrap_err().is::<Fatal>());
        assert!(finish(el, task).unwrap().unwrap_err().is_panic());
    });
}

/// On a closed loop the children say so, and outside of a loop there can be none.
#[test]
fn where_nothing_can_be_gathered() {
    on_loop(|el| {
        let text = |result: std::thread::Result<()>| match result.unwrap_err().downcast::<String>() {
            Ok(text) => *text,
            Err(text) => text.downcast_ref::<&str>().unwrap().to_string(),
        };
        let outside = text(catch_unwind(|| drop(gather([async {}]))));
        assert_eq!(outside, "roundelay::gather() was called outside of a running event loop");
        let outside = text(catch_unwind(|| drop(try_gather([async { Ok::<_, JoinError>(()) }]))));
        assert_eq!(outside, "roundelay::try_gather() was called outside of a running event loop");

        let (mut whole,) = complete(el, async { (gather([async {}]),) });
        complete(el, &mut whole).unwrap();
        let again = text(catch_unwind(AssertUnwindSafe(|| drop(complete(el, &mut whole)))));
        assert_eq!(again, "gather(): polled after it was ready");

        let (whole,) = complete(el, async { (gather([pending::<()>()]).return_exceptions(),) });
        el.close();
        let results = futures::executor::block_on(whole);
        assert!(results[0].as_ref().unwrap_err().is_closed());
    });
}

/// TK-36: a task factory that panics half-way leaves nobody behind.
#[test]
fn a_factory_that_panics() {
    on_loop(|el| {
        let made = Cell::new(0);
        el.set_task_factory(Some(Rc::new(move |_, future, _| {
            made.set(made.get() + 1);
            assert!(made.get() < 3, "no more");
            future
        })));
        let drops = DropCounter::new();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            el.run_until_complete(async { gather((0..4).map(|_| counted(&drops))).await }).unwrap()
        }));
        assert!(panicked.is_err());
        settle(el);
        assert_eq!((drops.count(), el.stats().tasks.live()), (4, 0));
        el.set_task_factory(None);
    });
}

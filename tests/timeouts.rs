//! Limits of time that can be changed, and those that wait for what a task still has to do (behaviours CB). What is simpler
//! is in time.rs.

mod common;

use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use common::{DropCounter, Log, complete, finish, on_loop, on_manual_clock, settle};
use roundelay::{
    EventLoop, ManualClock, Task, TimeLimit, TimedOut, cancel_requested, get_running_loop, is_cancel_requested, sleep,
    spawn, timeout, timeout_at, timeout_scope, wait_for, yield_now,
};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

async fn turns(n: usize) {
    for _ in 0..n {
        yield_now().await;
    }
}

/// Advances the clock in steps of a millisecond; says after how many of them the task was done.
fn steps<T>(el: &EventLoop, clock: &ManualClock, task: &Task<T>) -> u64 {
    settle(el);
    for n in 0..100 {
        if task.is_done() {
            return n;
        }
        clock.advance(ms(1));
        settle(el);
    }
    panic!("{task:?} is not done after 100 ms");
}

/// CB-34: `None` is no limit, for a time and for a moment; there is no timer, and no deadline.
#[test]
fn no_limit() {
    on_manual_clock(|el, clock| {
        let task = el.create_task(async {
            let mut limited = pin!(timeout(None, sleep(ms(50))));
            assert!(poll_fn(|cx| Poll::Ready(limited.as_mut().poll(cx).is_pending())).await);
            assert_eq!(limited.deadline(), None);
            let before = get_running_loop().unwrap().next_deadline();
            limited.await.unwrap();
            timeout_at(None::<Instant>, turns(3)).await.unwrap();
            timeout_scope(None, async |limit| assert_eq!(limit.deadline(), None)).await.unwrap();
            before
        });
        assert_eq!(steps(el, clock, &task), 50);
        finish(el, task).unwrap();
    });
}

/// CB-34: what a timeout says of itself: when it is over, and whether it is.
#[test]
fn what_a_timeout_says() {
    on_manual_clock(|el, clock| {
        let task = el.create_task(async {
            let el = get_running_loop().unwrap();
            let start = el.time();
            let mut limited = pin!(timeout(ms(10), pending::<()>()));
            assert_eq!((limited.deadline(), limited.expired()), (None, false));
            assert!(poll_fn(|cx| Poll::Ready(limited.as_mut().poll(cx).is_pending())).await);
            assert_eq!((limited.deadline(), limited.expired()), (Some(start + ms(10)), false));
            assert_eq!(limited.as_mut().await, Err(TimedOut));
            assert!(limited.expired());
            assert_eq!(limited.await, Err(TimedOut));

            let mut in_time = pin!(timeout(ms(10), async { 5 }));
            assert_eq!(in_time.as_mut().await, Ok(5));
            assert!(!in_time.expired());
        });
        assert_eq!(steps(el, clock, &task), 10);
        finish(el, task).unwrap();
    });
}

/// CB-40: a timeout is given a limit that it had not, another one, and none.
#[test]
fn a_timeout_is_rescheduled() {
    on_manual_clock(|el, clock| {
        let task = el.create_task(async {
            let el = get_running_loop().unwrap();
            let start = el.time();
            let mut limited = pin!(timeout(None, pending::<()>()));
            let poll = async |deadline: Option<Instant>, limited: &mut Pin<&mut _>| {
                let limited: &mut Pin<&mut roundelay::Timeout<std::future::Pending<()>>> = limited;
                limited.as_mut().reschedule(deadline);
                assert_eq!(limited.deadline(), deadline);
                poll_fn(|cx| Poll::Ready(limited.as_mut().poll(cx).is_pending())).await
            };
            assert!(poll(Some(start + ms(5)), &mut limited).await);
            assert_eq!(el.next_deadline(), Some(start + ms(5)));
            assert!(poll(None, &mut limited).await);
            assert_eq!(el.next_deadline(), None);
            sleep(ms(10)).await;
            assert!(poll(Some(start + ms(20)), &mut limited).await);
            assert_eq!(limited.await, Err(TimedOut));
        });
        assert_eq!(steps(el, clock, &task), 20);
        finish(el, task).unwrap();
    });
}

/// CB-34, CB-40: a body looks at its own limit, extends it, shortens it and makes an end of it.
#[test]
fn a_limit_is_changed_from_the_inside() {
    type Change = fn(TimeLimit, Instant);
    let changes: [(Change, Option<u64>); 4] = [
        (|limit, start| limit.reschedule(start + ms(30)).unwrap(), Some(30)),
        (|limit, start| limit.reschedule(start + ms(8)).unwrap(), Some(8)),
        (|limit, start| limit.reschedule(start).unwrap(), Some(5)),
        (|limit, _| limit.reschedule(None).unwrap(), None),
    ];
    on_manual_clock(|el, clock| {
        for (change, over) in changes {
            let drops = DropCounter::new();
            let guard = drops.guard();
            let task = el.create_task(async move {
                let start = get_running_loop().unwrap().time();
                let scope = timeout_scope(ms(10), async |limit| {
                    let _guard = guard;
                    assert_eq!((limit.deadline(), limit.expired()), (Some(start + ms(10)), false));
                    sleep(ms(5)).await;
                    change(limit, start);
                    sleep(ms(50)).await;
                });
                scope.await
            });
            assert_eq!(steps(el, clock, &task), over.unwrap_or(55));
            assert_eq!(finish(el, task).unwrap(), if over.is_some() { Err(TimedOut) } else { Ok(()) });
            assert_eq!((drops.count(), el.next_deadline()), (1, None));
        }
    });
}

/// CB-40: whoever has the handle may change the limit, from another task, too, until the time is over or the body is done.
#[test]
fn a_limit_is_changed_from_the_outside() {
    on_manual_clock(|el, clock| {
        let handle = Rc::new(Cell::new(None));
        let scope = |work: Duration| {
            let give = handle.clone();
            el.create_task(timeout_scope(ms(10), async move |limit| {
                give.set(Some(limit));
                sleep(work).await
            }))
        };
        let refused = |limit: &TimeLimit| limit.reschedule(None).unwrap_err().to_string();

        let task = scope(ms(50));
        settle(el);
        let limit = handle.take().unwrap();
        limit.reschedule(None).unwrap();
        limit.reschedule(el.time() + ms(20)).unwrap();
        assert_eq!(steps(el, clock, &task), 20);
        assert_eq!(finish(el, task).unwrap(), Err(TimedOut));
        assert!(limit.expired());
        assert_eq!(refused(&limit), "TimeLimit::reschedule(): the time is over");

        let task = scope(ms(50));
        settle(el);
        handle.take().unwrap().reschedule(el.time() + ms(4)).unwrap();
        assert_eq!(steps(el, clock, &task), 4);

        let task = scope(ms(3));
        assert_eq!(steps(el, clock, &task), 3);
        assert_eq!(finish(el, task).unwrap(), Ok(()));
        let limit = handle.take().unwrap();
        assert!(!limit.expired());
        assert_eq!(refused(&limit), "TimeLimit::reschedule(): the body is done");
        assert!(format!("{limit:?}").contains("Finished"), "{limit:?}");

        let task = scope(ms(50));
        settle(el);
        let limit = handle.take().unwrap();
        task.cancel();
        settle(el);
        assert!(!limit.clone().expired());
        assert_eq!(refused(&limit), "TimeLimit::reschedule(): the body is done");
    });
}

/// CB-40: outside of a loop there is nothing to limit, and what is done cannot be asked again.
#[test]
fn where_a_limit_cannot_be_polled() {
    on_loop(|el| {
        let mut cx = Context::from_waker(Waker::noop());
        let mut outside = pin!(timeout_scope(ms(1), async |_| ()));
        let text = catch_unwind(AssertUnwindSafe(|| outside.as_mut().poll(&mut cx))).unwrap_err();
        let text = text.downcast::<String>().unwrap();
        assert_eq!(*text, "roundelay::timeout_scope() was called outside of a running event loop");

        let mut done = pin!(timeout_scope(ms(1), async |_| 5));
        assert_eq!(complete(el, done.as_mut()), Ok(5));
        let text = catch_unwind(AssertUnwindSafe(|| done.as_mut().poll(&mut cx))).unwrap_err();
        assert_eq!(text.downcast_ref(), Some(&"timeout_scope(): polled after it was ready"));
    });
}

/// CB-37: limits in limits that are over together, after a long blocking call: the inner one first, then the outer one,
/// which interrupts what comes after.
#[test]
fn nested_limits() {
    on_manual_clock(|el, clock| {
        let log = Log::new();
        let (told, turned) = (log.clone(), clock.clone());
        let task = el.create_task(async move {
            let outer = timeout_scope(ms(10), async |outer| {
                let inner = timeout_scope(ms(1), async |_| {
                    turned.advance(ms(10));
                    pending::<()>().await
                });
                told.push(format!("inner {:?}, outer expired: {}", inner.await, outer.expired()));
                pending::<()>().await
            });
            told.push(format!("outer {:?}", outer.await));
        });
        settle(el);
        finish(el, task).unwrap();
        assert_eq!(log.take(), ["inner Err(TimedOut), outer expired: false", "outer Err(TimedOut)"]);
    });
}

/// CB-38: a task that is cancelled by somebody inside of a limit is cancelled, and did not time out.
#[test]
fn a_foreign_cancel() {
    on_manual_clock(|el, clock| {
        let handle = Rc::new(Cell::new(None));
        let give = handle.clone();
        let task = el.create_task(timeout_scope(ms(10), async move |limit| {
            give.set(Some(limit));
            pending::<()>().await
        }));
        settle(el);
        task.cancel();
        clock.advance(ms(10));
        settle(el);
        assert!(task.is_cancelled());
        assert!(!handle.take().unwrap().expired());
    });
}

/// CB-26: with no time at all a task that is done gives its output, and one that has not begun never does.
#[test]
fn waiting_no_time() {
    on_loop(|el| {
        complete(el, async {
            let task = spawn(async { 5 });
            turns(1).await;
            assert_eq!(wait_for(Duration::ZERO, task).await.unwrap().unwrap(), 5);
            let begun = Rc::new(Cell::new(false));
            let flag = begun.clone();
            let task = spawn(async move { flag.set(true) });
            assert_eq!(wait_for(Duration::ZERO, task).await.unwrap_err(), TimedOut);
            turns(2).await;
            assert!(!begun.get());
        });
    });
}

/// A task that takes some time to end when it is asked to, and gives this then.
fn stubborn<T: 'static>(el: &EventLoop, log: &Log, time: Duration, end: impl FnOnce() -> T + 'static) -> Task<T> {
    let log = log.clone();
    el.create_task(async move {
        cancel_requested().await;
        log.push("asked");
        sleep(time).await;
        log.push("clean");
        end()
    })
}

/// CB-27: when the time is over, the task is asked to end, and waited for: the error comes when its cleaning up is done.
#[test]
fn waiting_for_the_end() {
    on_manual_clock(|el, clock| {
        let log = Log::new();
        let told = log.clone();
        let inner = el.create_task(async move {
            cancel_requested().await;
            told.push("asked");
            sleep(ms(10)).await;
            told.push("clean");
            // It was asked to end, and does.
            get_running_loop().unwrap().current_task().unwrap().cancel();
        });
        let task = el.create_task(wait_for(ms(5), inner));
        assert_eq!(steps(el, clock, &task), 15);
        assert_eq!(finish(el, task).unwrap().unwrap_err(), TimedOut);
        assert_eq!(log.take(), ["asked", "clean"]);

        // One that does not look is dropped at once; with a grace, the others are dropped when that is over.
        let drops = DropCounter::new();
        let guard = drops.guard();
        let inner = el.create_task(async move {
            let _guard = guard;
            pending::<()>().await
        });
        let task = el.create_task(wait_for(ms(5), inner));
        assert_eq!(steps(el, clock, &task), 5);
        assert!(finish(el, task).unwrap().is_err() && drops.count() == 1);
        let task = el.create_task(wait_for(ms(5), stubborn(el, &log, ms(10), || ())).grace(ms(2)));
        assert_eq!(steps(el, clock, &task), 7);
        assert_eq!(finish(el, task).unwrap().unwrap_err(), TimedOut);
        assert_eq!((log.take(), el.next_deadline()), (vec!["asked".to_owned()], None));
    });
}

/// CB-28: a value that the task gives although its time was over is the output.
#[test]
fn a_value_in_spite_of_it() {
    on_manual_clock(|el, clock| {
        let log = Log::new();
        let task = el.create_task(wait_for(ms(5), stubborn(el, &log, ms(10), || "value")));
        assert_eq!(steps(el, clock, &task), 15);
        assert_eq!(finish(el, task).unwrap().unwrap().unwrap(), "value");

        // One that ends in the turn in which it is asked.
        let inner = el.create_task(async {
            sleep(ms(5)).await;
            is_cancel_requested()
        });
        let task = el.create_task(wait_for(ms(5), inner));
        steps(el, clock, &task);
        assert!(finish(el, task).unwrap().unwrap().is_ok());
    });
}

/// CB-29: an error or a panic of the task while it ends is the output.
#[test]
fn an_error_in_spite_of_it() {
    on_manual_clock(|el, clock| {
        let log = Log::new();
        let task = el.create_task(wait_for(ms(5), stubborn(el, &log, ms(1), || Err::<(), _>("broken"))));
        steps(el, clock, &task);
        assert_eq!(finish(el, task).unwrap().unwrap().unwrap(), Err("broken"));
        let task = el.create_task(wait_for(ms(5), stubborn(el, &log, ms(1), || panic!("loud"))));
        steps(el, clock, &task);
        assert_eq!(finish(el, task).unwrap().unwrap().map(|(): ()| ()).unwrap_err().to_string(), "panicked: loud");
    });
}

/// CB-30, CB-31: cancelling whoever waits cancels the task; also in the turn in which it ends, when its output is lost with
/// the handle.
#[test]
fn cancelling_whoever_waits() {
    on_loop(|el| {
        let drops = DropCounter::new();
        let guard = drops.guard();
        let inner = el.create_task(async move {
            let _guard = guard;
            pending::<()>().await
        });
        let task = el.create_task(wait_for(None, inner));
        settle(el);
        task.cancel();
        settle(el);
        assert!(task.is_cancelled() && drops.count() == 1);

        let inner = el.create_task(async { turns(3).await });
        let task = el.create_task(wait_for(ms(1000), inner));
        let canceller = task.canceller();
        drop(el.create_task(async move {
            turns(3).await;
            canceller.cancel();
        }));
        settle(el);
        assert!(task.is_cancelled());
    });
}

/// CB-31: an output that must not be lost with whoever waits stays with a task that is only lent.
#[test]
fn an_output_that_is_not_lost() {
    on_loop(|el| {
        complete(el, async {
            let mut task = spawn(async {
                turns(2).await;
                "value"
            });
            {
                let mut waiting = pin!(timeout(ms(1000), &mut task));
                assert!(poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await);
                turns(3).await;
            }
            assert!(task.is_done());
            assert_eq!(task.await.unwrap(), "value");
        });
    });
}

/// CB-32: a limit without end limits nothing, and leaves no timer behind.
#[test]
fn a_limit_without_end() {
    on_manual_clock(|el, clock| {
        for limit in [Some(Duration::MAX), None] {
            let task = el.create_task(wait_for(limit, el.create_task(async { sleep(ms(50)).await })));
            assert_eq!(steps(el, clock, &task), 50);
            finish(el, task).unwrap().unwrap().unwrap();
            let task = el.create_task(timeout_scope(limit, async |_| sleep(ms(50)).await));
            assert_eq!(steps(el, clock, &task), 50);
            finish(el, task).unwrap().unwrap();
            assert_eq!(el.next_deadline(), None);
        }
    });
}

//! `as_completed`: one after the other, as they come (behaviours CB).

mod common;

use std::cell::RefCell;
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt};

use common::{DropCounter, complete, finish, on_loop, on_manual_clock, on_strict_loop, settle};
use roundelay::{TimedOut, as_completed, get_running_loop, sleep, spawn, timeout, yield_now};

async fn turns(n: usize) {
    for _ in 0..n {
        yield_now().await;
    }
}

async fn number(n: usize) -> usize {
    turns(n).await;
    n
}

/// CB-23: outputs come in the order in which the futures are done, each with the number of its future; then there is
/// nothing more.
#[test]
fn in_order_of_completion() {
    on_loop(|el| {
        complete(el, async {
            let mut completed = as_completed([5, 1, 3].map(number));
            assert_eq!(completed.size_hint(), (3, Some(3)));
            let mut order = Vec::new();
            while let Some(next) = completed.next().await {
                order.push(next);
            }
            assert_eq!(order, [(1, 1), (2, 3), (0, 5)]);
            assert_eq!((completed.next().await, completed.size_hint()), (None, (0, Some(0))));
            assert!(as_completed(Vec::<std::future::Ready<()>>::new()).next().await.is_none());
            // As a stream.
            let all: Vec<_> = StreamExt::collect::<Vec<_>>(as_completed([2, 0].map(number))).await;
            assert_eq!(all, [(1, 0), (0, 2)]);
        });
    });
}

/// CB-23: those that are done in one turn come in the order in which they ended, and of those that are done at the first
/// look, in their own.
#[test]
fn those_of_one_turn() {
    on_strict_loop(|el| {
        complete(el, async {
            let futures: Vec<_> = (0..3).map(|_| get_running_loop().unwrap().create_future::<()>()).collect();
            let setters = futures.clone();
            let mut completed = as_completed(futures);
            assert!(completed.next().now_or_never().is_none());
            for n in [2, 0, 1] {
                setters[n].set_result(()).unwrap();
            }
            let mut order = Vec::new();
            while let Some((number, result)) = completed.next().await {
                result.unwrap();
                order.push(number);
            }
            assert_eq!(order, [2, 0, 1]);
            let order: Vec<_> = as_completed([number(0), number(0)]).map(|(number, _)| number).collect().await;
            assert_eq!(order, [0, 1]);
        });
    });
}

/// CB-25: tasks go on while nobody asks, and what is done meanwhile is there when the stream is taken up again.
#[test]
fn taken_up_again() {
    on_loop(|el| {
        complete(el, async {
            let mut completed = as_completed([4, 2, 6].map(|n| spawn(number(n))));
            assert_eq!(completed.next().await.unwrap().0, 1);
            turns(10).await;
            let rest = [completed.next().now_or_never(), completed.next().now_or_never()];
            let rest: Vec<_> = rest.into_iter().map(|next| next.flatten().unwrap()).collect();
            assert_eq!(rest.into_iter().map(|(n, output)| (n, output.unwrap())).collect::<Vec<_>>(), [(0, 4), (2, 6)]);
        });
    });
}

/// CB-24: when the time is over the stream says so, once, and ends; what it gave before stays, and tasks are not cancelled.
/// In time it leaves no timer behind.
#[test]
fn with_a_limit() {
    let secs = Duration::from_secs;
    on_manual_clock(|el, clock| {
        let given = Rc::new(RefCell::new(Vec::new()));
        let kept = given.clone();
        let task = el.create_task(async move {
            let tasks = [1, 3, 5].map(|n| spawn(async move { sleep(secs(n)).await }));
            let mut completed = as_completed(tasks).timeout(secs(2));
            while let Some(next) = completed.next().await {
                kept.borrow_mut().push(next.map(|(number, result)| {
                    result.unwrap();
                    number
                }));
            }
            assert_eq!(completed.size_hint(), (0, Some(0)));
            completed.next().await.is_none()
        });
        for _ in 0..2 {
            settle(el);
            clock.advance(secs(1));
        }
        assert!(finish(el, task).unwrap());
        assert_eq!(given.take(), [Ok(0), Err(TimedOut)]);
        assert_eq!(el.stats().tasks.live(), 2);
        clock.advance(secs(3));
        settle(el);
        assert_eq!((el.stats().tasks.live(), el.next_deadline()), (0, None));

        let task = el.create_task(async move {
            let mut completed = as_completed([1].map(|n| sleep(secs(n)))).timeout(secs(20));
            let first = completed.next().await;
            (first, get_running_loop().unwrap().next_deadline(), completed.next().await)
        });
        settle(el);
        clock.advance(secs(1));
        assert_eq!(finish(el, task).unwrap(), (Some(Ok((0, ()))), None, None));
    });
}

/// CB-24: the time counts from when the first output is asked for, also where that is there at once.
#[test]
fn when_the_limit_begins() {
    let secs = Duration::from_secs;
    on_manual_clock(|el, clock| {
        let task = el.create_task(async move {
            let tasks = [0, 4].map(|n| spawn(async move { sleep(secs(n)).await }));
            turns(3).await;
            let mut completed = as_completed(tasks).timeout(secs(3));
            assert!(matches!(completed.next().await, Some(Ok((0, Ok(()))))));
            sleep(secs(2)).await;
            completed.next().await.unwrap().unwrap_err()
        });
        for n in [2, 1] {
            settle(el);
            clock.advance(secs(n));
        }
        settle(el);
        assert!(task.is_done());
        assert_eq!(finish(el, task).unwrap(), TimedOut);
        clock.advance(secs(1));
        settle(el);
    });
}

/// What is no task is dropped with the stream; a task goes on, unless it is `cancel_on_drop`.
#[test]
fn what_is_dropped_with_it() {
    on_loop(|el| {
        complete(el, async {
            let drops = DropCounter::new();
            let waiting = || {
                let guard = drops.guard();
                async move {
                    let _guard = guard;
                    pending::<()>().await
                }
            };
            let mut completed = as_completed([waiting(), waiting()]);
            assert!(completed.next().now_or_never().is_none());
            drop(completed);
            assert_eq!(drops.count(), 2);
            let task = spawn(waiting());
            let canceller = task.canceller();
            drop(as_completed([task]));
            drop(as_completed([spawn(waiting()).cancel_on_drop()]));
            turns(2).await;
            assert_eq!(drops.count(), 3);
            assert!(canceller.cancel());
        });
    });
}

/// A future that panics is out of it; the others are still there.
#[test]
fn a_future_that_panics() {
    on_loop(|el| {
        let futures: [Pin<Box<dyn Future<Output = usize>>>; 2] =
            [Box::pin(async { panic!("loud") }), Box::pin(number(3))];
        let mut completed = as_completed(futures);
        assert!(catch_unwind(AssertUnwindSafe(|| complete(el, completed.next()))).is_err());
        assert_eq!(completed.size_hint(), (1, Some(1)));
        assert_eq!(complete(el, completed.next()), Some((1, 3)));
        assert_eq!(complete(el, completed.next()), None);
    });
}

/// One that is always ready to go on does not keep the others, nor the loop, from their turns.
#[test]
fn one_that_wakes_itself() {
    on_strict_loop(|el| {
        complete(el, async {
            let busy = poll_fn(|cx| {
                cx.waker().wake_by_ref();
                Poll::<usize>::Pending
            });
            let futures: [Pin<Box<dyn Future<Output = usize>>>; 2] = [Box::pin(busy), Box::pin(number(5))];
            let mut completed = as_completed(futures);
            assert_eq!(completed.next().await, Some((1, 5)));
            assert!(timeout(Duration::ZERO, completed.next()).await.is_err());
        });
    });
}

/// Of many, only those are looked at that have something to say.
#[test]
fn many_futures() {
    on_loop(|el| {
        complete(el, async {
            const MANY: usize = 1000;
            let polls = Rc::new(RefCell::new(0));
            let tasks = (0..MANY).map(|n| {
                let (polls, mut task) = (polls.clone(), spawn(number(n)));
                poll_fn(move |cx| {
                    *polls.borrow_mut() += 1;
                    Pin::new(&mut task).poll(cx)
                })
            });
            let order: Vec<_> = as_completed(tasks).map(|(number, _)| number).collect().await;
            assert_eq!(order, (0..MANY).collect::<Vec<_>>());
            assert!(*polls.borrow() <= 2 * MANY, "{}", polls.borrow());
        });
    });
}

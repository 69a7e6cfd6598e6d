//! `wait`: until enough is done, cancelling nobody (behaviours CB).

mod common;

use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use common::{DropCounter, Log, complete, finish, on_loop, on_manual_clock, on_strict_loop, settle, take_reports};
use roundelay::{EventLoop, Task, Waited, get_running_loop, sleep, spawn, timeout, wait, yield_now};

async fn turns(n: usize) {
    for _ in 0..n {
        yield_now().await;
    }
}

fn numbers(numbers: &[usize]) -> Vec<Task<usize>> {
    let number = |&n: &usize| {
        spawn(async move {
            turns(n).await;
            n
        })
    };
    numbers.iter().map(number).collect()
}

/// The names of those that are done, and of the others.
fn names<T>(waited: &Waited<T>) -> (Vec<String>, Vec<String>) {
    let names = |tasks: &[Task<T>]| tasks.iter().map(|task| task.name().to_string()).collect();
    (names(&waited.done), names(&waited.pending))
}

/// CB-05: all tasks come back, in their order, those that are done and those that are not; awaiting the former waits no
/// more.
#[test]
fn all_are_done() {
    on_loop(|el| {
        complete(el, async {
            let waited = wait(numbers(&[5, 0, 2])).await;
            assert!(waited.pending.is_empty());
            let mut outputs = Vec::new();
            for task in waited.done {
                assert!(task.is_done());
                outputs.push(task.await.unwrap());
            }
            assert_eq!(outputs, [5, 0, 2]);

            // Those that are done already, that panic and that are cancelled count as well.
            let tasks = [spawn(async { 1 }), spawn(async { panic!("seen") }), spawn(pending::<usize>())];
            turns(2).await;
            tasks[2].cancel();
            let waited = wait(tasks).await;
            assert_eq!((waited.done.len(), waited.pending.len()), (3, 0));
            let [one, panicked, cancelled] = <[Task<usize>; 3]>::try_from(waited.done).unwrap();
            assert_eq!(one.await.unwrap(), 1);
            assert!(panicked.await.unwrap_err().is_panic() && cancelled.await.unwrap_err().is_cancelled());
        });
    });
}

/// CB-05: to wait for nothing is a mistake, and so is to wait on a loop for the tasks of another one.
#[test]
fn what_cannot_be_waited_for() {
    on_loop(|el| {
        let panicked = catch_unwind(|| wait(Vec::<Task<()>>::new())).unwrap_err();
        assert_eq!(panicked.downcast_ref(), Some(&"wait(): there is no task to wait for"));

        let other = EventLoop::new().unwrap();
        let task = other.create_task(async {});
        let waiting = catch_unwind(AssertUnwindSafe(|| el.run_until_complete(wait([task]))));
        let text = *waiting.unwrap_err().downcast::<String>().unwrap();
        assert!(text.contains("was awaited in loop"), "{text}");
        settle(&other);
        other.close();

        let mut waiting = wait([el.create_task(async {})]);
        complete(el, &mut waiting);
        let again = catch_unwind(AssertUnwindSafe(|| complete(el, &mut waiting))).unwrap_err();
        assert_eq!(again.downcast_ref(), Some(&"wait(): polled after it was ready"));
    });
}

/// CB-06: `first_completed` ends with the first; the others go on.
#[test]
fn the_first_one_is_done() {
    on_loop(|el| {
        complete(el, async {
            let log = Log::new();
            let tasks = [6, 2, 4].map(|n| {
                let log = log.clone();
                get_running_loop().unwrap().task_builder().name(n.to_string()).spawn(async move {
                    turns(n).await;
                    log.push(n.to_string());
                })
            });
            let waited = wait(tasks).first_completed().await;
            assert_eq!(names(&waited), (vec!["2".to_owned()], vec!["6".to_owned(), "4".to_owned()]));
            assert_eq!(log.take(), ["2"]);
            let waited = wait(waited.pending).first_completed().await;
            assert_eq!(names(&waited), (vec!["4".to_owned()], vec!["6".to_owned()]));
            wait(waited.pending).await;
            assert_eq!(log.take(), ["4", "6"]);
        });
    });
}

/// CB-07: all that are done when the wait goes on are among the done ones, not only the one that has ended it.
#[test]
fn whatever_is_done_counts() {
    on_strict_loop(|el| {
        complete(el, async {
            let waited = wait(numbers(&[3, 3, 4, 9])).first_completed().await;
            assert_eq!((waited.done.len(), waited.pending.len()), (2, 2));

            // One that is woken by the other, and so has its turn before the waiter has.
            let future = get_running_loop().unwrap().create_future::<()>();
            let setter = future.clone();
            let last = spawn(async move { future.await.unwrap() });
            turns(1).await;
            let first = spawn(async move { setter.set_result(()).unwrap() });
            let waited = wait([last, first]).first_completed().await;
            assert_eq!((waited.done.len(), waited.pending.len()), (2, 0));
        });
    });
}

type Failing = Pin<Box<dyn Future<Output = Result<usize, String>>>>;

/// CB-08: `first_exception` ends with the first error or panic; an output that is looked at on the way is there afterwards.
#[test]
fn the_first_one_has_failed() {
    async fn after(n: usize, fails: bool) -> Result<usize, String> {
        turns(n).await;
        if fails { Err(format!("error {n}")) } else { Ok(n) }
    }
    on_loop(|el| {
        complete(el, async {
            let tasks = [after(6, false), after(1, false), after(3, true)].map(spawn);
            let waited = wait(tasks).first_exception().await;
            assert_eq!((waited.done.len(), waited.pending.len()), (2, 1));
            let [good, bad] = <[_; 2]>::try_from(waited.done).unwrap();
            assert_eq!((good.await.unwrap(), bad.await.unwrap()), (Ok(1), Err("error 3".to_owned())));
            let waited = wait(waited.pending).first_exception().await;
            assert_eq!((waited.done.len(), waited.pending.len()), (1, 0));

            let panicking: Failing = Box::pin(async {
                turns(2).await;
                panic!("loud")
            });
            let others: [Failing; 2] = [Box::pin(after(1, false)), Box::pin(after(9, false))];
            let mut waited = wait(others.into_iter().chain([panicking]).map(spawn)).first_exception().await;
            assert_eq!((waited.done.len(), waited.pending.len()), (2, 1));
            assert_eq!(waited.done.pop().unwrap().await.unwrap_err().to_string(), "panicked: loud");
        });
        // A panic that was looked at, and then not asked for, is reported as any other.
        complete(el, async {
            let panicking: Failing = Box::pin(async { panic!("looked at") });
            wait([spawn(panicking)]).first_exception().await;
        });
        let reports = take_reports();
        assert_eq!(reports.len(), 1);
        assert!(
            reports[0].starts_with("Task exception was never retrieved: looked at\n  <Task ended name="),
            "{reports:?}"
        );
    });
}

/// CB-08: a task that is cancelled has not failed.
#[test]
fn a_cancelled_task_has_not_failed() {
    on_loop(|el| {
        complete(el, async {
            let cancelled: Failing = Box::pin(pending());
            let other: Failing = Box::pin(async {
                turns(5).await;
                Ok(5)
            });
            let tasks = [cancelled, other].map(spawn);
            turns(1).await;
            tasks[0].cancel();
            let waited = wait(tasks).first_exception().await;
            assert_eq!((waited.done.len(), waited.pending.len()), (2, 0));
        });
    });
}

/// CB-09: when the time is over the wait ends, without an error, and cancels nobody; in time it leaves no timer behind.
#[test]
fn a_wait_with_a_limit() {
    let secs = Duration::from_secs;
    on_manual_clock(|el, clock| {
        let sleeping = |n: u64| el.create_task(async move { sleep(secs(n)).await });
        let task = el.create_task(wait([sleeping(1), sleeping(3)]).timeout(secs(2)));
        for _ in 0..2 {
            settle(el);
            clock.advance(secs(1));
        }
        let waited = finish(el, task).unwrap();
        assert_eq!((waited.done.len(), waited.pending.len()), (1, 1));
        assert!(!waited.pending[0].is_done());
        let task = el.create_task(wait(waited.pending).timeout(secs(100)));
        settle(el);
        clock.advance(secs(1));
        let waited = finish(el, task).unwrap();
        assert_eq!((waited.done.len(), waited.pending.len()), (1, 0));
        assert_eq!(el.next_deadline(), None);
        let task = el.create_task(wait([el.create_task(pending::<()>())]).timeout(Duration::ZERO));
        let waited = finish(el, task).unwrap();
        assert!(waited.pending[0].cancel());
    });
}

/// CB-10: cancelling whoever waits does not cancel the tasks.
#[test]
fn cancelling_a_wait() {
    on_loop(|el| {
        let log = Log::new();
        let tasks: Vec<_> = (3..5)
            .map(|n| {
                let log = log.clone();
                el.create_task(async move {
                    turns(n).await;
                    log.push("done");
                })
            })
            .collect();
        let waiting = el.create_task(wait(tasks));
        el.run_once(Some(Duration::ZERO)).unwrap();
        waiting.cancel();
        settle(el);
        assert!(waiting.is_cancelled());
        assert_eq!(log.take(), ["done", "done"]);
    });
}

/// Holds what must be let go of.
struct Held(#[allow(dead_code)] Arc<()>);

impl Wake for Held {
    fn wake(self: Arc<Self>) {}
}

/// CB-11: a wait that has ended, or was dropped, leaves nothing of whoever waited with tasks that go on.
#[test]
fn a_wait_forgets_its_waker() {
    on_loop(|el| {
        complete(el, async {
            let held = Arc::new(());
            let weak: Weak<()> = Arc::downgrade(&held);
            let waker: Waker = Arc::new(Held(held)).into();
            let mut tasks = vec![spawn(pending::<()>()), spawn(async {})];
            for ends in [false, true] {
                let mut waiting = wait(std::mem::take(&mut tasks)).first_completed();
                if ends {
                    turns(1).await;
                }
                let polled = Pin::new(&mut waiting).poll(&mut Context::from_waker(&waker));
                match polled {
                    Poll::Ready(waited) => {
                        assert!(ends);
                        drop(waker);
                        drop(waiting);
                        assert!(weak.upgrade().is_none());
                        assert!(waited.pending[0].cancel());
                        return;
                    }
                    Poll::Pending => assert!(!ends),
                }
                assert!(weak.strong_count() > 1 || Arc::strong_count(&weak.upgrade().unwrap()) > 1);
                drop(waiting);
                tasks = vec![spawn(pending::<()>()), spawn(async {})];
            }
            unreachable!("the second wait ends");
        });
    });
}

/// CB-05: a timeout around a wait drops it; the tasks go on.
#[test]
fn a_timeout_around_a_wait() {
    on_manual_clock(|el, clock| {
        let drops = DropCounter::new();
        let guard = drops.guard();
        let task = el.create_task(async move {
            let _guard = guard;
            sleep(Duration::from_secs(2)).await;
        });
        let limited = el.create_task(timeout(Duration::from_secs(1), wait([task])));
        settle(el);
        clock.advance(Duration::from_secs(1));
        assert!(finish(el, limited).unwrap().is_err());
        assert_eq!(drops.count(), 0);
        clock.advance(Duration::from_secs(1));
        settle(el);
        assert_eq!(drops.count(), 1);
    });
}

/// To wait for many looks at each of them a few times, not once for each that is done.
#[test]
fn many_tasks() {
    on_loop(|el| {
        complete(el, async {
            const MANY: usize = 10_000;
            let waiting = wait((0..MANY).map(|n| spawn(turns(n % 100))));
            let mut waiting = Box::pin(waiting);
            let mut polls = 0;
            let waited = poll_fn(|cx| {
                polls += 1;
                waiting.as_mut().poll(cx)
            })
            .await;
            assert_eq!(waited.done.len(), MANY);
            assert!(polls <= 110, "{polls}");
        });
    });
}

//! How a task group ends before its time: cancelled, timed out, dropped; and that nothing outlives it (behaviours CB).

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use common::{DropCounter, Log, complete, finish, on_loop, on_manual_clock, on_strict_loop, settle, take_reports};
use roundelay::{
    ContextVar, EventLoop, GroupError, JoinError, TaskGroup, TimedOut, cancel_requested, get_running_loop, sleep,
    spawn, timeout, yield_now,
};

/// What was reported, without the places.
fn heads() -> Vec<String> {
    take_reports().iter().filter_map(|report| report.lines().next()).map(str::to_owned).collect()
}

fn turn(el: &EventLoop) {
    el.run_once(Some(Duration::ZERO)).unwrap();
}

async fn turns(n: usize) {
    for _ in 0..n {
        yield_now().await;
    }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Says in a log that it is dropped, and where.
struct Tell(Log, &'static str);

static NAME: ContextVar<&str> = ContextVar::new("name");

impl Drop for Tell {
    fn drop(&mut self) {
        let task = get_running_loop().unwrap().current_task().map(|task| task.name.to_string());
        self.0.push(format!("{} in {} of {}", self.1, task.unwrap_or_default(), NAME.get().unwrap_or("nobody")));
    }
}

async fn waiting(tell: Tell) {
    let _tell = tell;
    pending().await
}

/// A child that never ends, and counts its drop.
fn counted(drops: &DropCounter) -> impl Future<Output = ()> + 'static {
    let guard = drops.guard();
    async move {
        let _guard = guard;
        pending().await
    }
}

/// CB-43: dropping the scope drops the body, and then the children in the order in which they came, there and then, each in
/// its own context, as the current task.
#[test]
fn dropping_the_scope_drops_the_children() {
    on_loop(|el| {
        let log = Log::new();
        let told = log.clone();
        let parent = el.task_builder().name("parent").spawn(async move {
            NAME.set("parent");
            let mut scope = Box::pin(TaskGroup::scope(async |group| {
                let _tell = Tell(told.clone(), "body");
                for name in ["a", "b", "c"] {
                    NAME.set(name);
                    drop(group.task_builder().name(name).spawn(waiting(Tell(told.clone(), name))));
                }
                pending::<()>().await
            }));
            let mut first = Some(());
            poll_fn(|cx| {
                let polled = scope.as_mut().poll(cx).map(drop);
                if first.take().is_some() { Poll::Pending } else { polled }
            })
            .await;
            unreachable!("it is polled twice only");
        });
        settle(el);
        NAME.set("test");
        let mut done = parent.cancel_on_drop();
        assert_eq!(log.take(), [""; 0]);
        done.cancel();
        turn(el);
        assert!(done.is_done());
        assert_eq!(
            log.take(),
            ["body in parent of c", "a in a of a", "b in b of b", "c in c of c"],
            "all in the turn in which the parent was dropped"
        );
        settle(el);
        assert_eq!(el.stats().tasks.live(), 0);
        let task = el.run_until_complete(&mut done).unwrap();
        assert!(task.unwrap_err().is_cancelled());
    });
}

/// CB-43: the futures of children are gone when the drop returns, though no turn of the loop was made; their handles say that
/// they were cancelled.
#[test]
fn nothing_outlives_the_scope() {
    on_loop(|el| {
        complete(el, async {
            let drops = DropCounter::new();
            let mut children = Vec::new();
            {
                let mut scope = Box::pin(TaskGroup::scope(async |group| {
                    for _ in 0..5 {
                        children.push(group.spawn(counted(&drops)));
                    }
                    // One is there that was never polled.
                    turns(2).await;
                    children.push(group.spawn(counted(&drops)));
                    pending::<()>().await
                }));
                assert!(poll_fn(|cx| Poll::Ready(scope.as_mut().poll(cx).is_pending())).await);
                turns(1).await;
                assert!(poll_fn(|cx| Poll::Ready(scope.as_mut().poll(cx).is_pending())).await);
                turns(1).await;
                assert!(poll_fn(|cx| Poll::Ready(scope.as_mut().poll(cx).is_pending())).await);
            }
            assert_eq!((drops.count(), children.len()), (6, 6));
            for child in children {
                assert!(child.await.unwrap_err().is_cancelled());
            }
        });
    });
}

/// CB-43: groups in groups go together, from the outside in; in time for the parent's own values, too.
#[test]
fn nested_groups_are_dropped_together() {
    on_loop(|el| {
        let log = Log::new();
        let told = log.clone();
        let parent = el.create_task(async move {
            let _last = Tell(told.clone(), "parent's");
            TaskGroup::scope(async |outer| {
                outer.task_builder().name("inner").spawn(TaskGroup::scope(async move |inner| {
                    inner.task_builder().name("innermost").spawn(waiting(Tell(told, "innermost")));
                    pending::<()>().await
                }));
            })
            .await
        });
        parent.set_name("parent");
        settle(el);
        parent.cancel();
        turn(el);
        assert_eq!(log.take(), ["innermost in innermost of nobody", "parent's in parent of nobody"]);
        settle(el);
        assert_eq!(el.stats().tasks.live(), 0);
    });
}

/// A destructor that panics stops nobody: it is reported, as that of any task.
#[test]
fn destructors_that_panic() {
    struct Loud;
    impl Drop for Loud {
        fn drop(&mut self) {
            panic!("loud");
        }
    }
    let child = || async {
        let _loud = Loud;
        pending::<()>().await
    };
    on_loop(|el| {
        let drops = DropCounter::new();
        let fill = async |group: TaskGroup| {
            group.task_builder().name("loud").spawn(child());
            group.spawn(counted(&drops));
        };
        complete(el, async {
            let mut scope = Box::pin(TaskGroup::scope(fill));
            assert!(poll_fn(|cx| Poll::Ready(scope.as_mut().poll(cx).is_pending())).await);
            turns(1).await;
        });
        assert_eq!(drops.count(), 1);
        let report = take_reports().remove(0);
        assert!(report.starts_with("Exception in the destructor of a task's future: loud"), "{report}");
        assert!(report.contains("loud"), "{report}");

        // The same where they are cancelled.
        let scope = TaskGroup::scope(async |group| {
            fill(group.clone()).await;
            turns(1).await;
            group.cancel();
        });
        complete(el, scope).unwrap();
        assert_eq!(drops.count(), 2);
        assert_eq!(take_reports().len(), 1);

        // And where there is nobody else whose end would wake the scope.
        let scope = TaskGroup::scope(async |group| {
            group.spawn(child());
            turns(1).await;
            group.cancel();
        });
        complete(el, scope).unwrap();
        assert_eq!(take_reports().len(), 1);

        // A child that is done, and whose future's rest panics.
        let scope = TaskGroup::scope(async |group| {
            let mut loud = Some(Loud);
            let child = poll_fn(move |_| {
                let _keep = &mut loud;
                Poll::Ready(5)
            });
            (group.spawn_infallible(child),)
        });
        let (done,) = complete(el, scope).unwrap();
        assert_eq!(complete(el, done).unwrap(), 5);
        assert_eq!(take_reports().len(), 1);
    });
}

/// A panic of the body that waits for the children is not lost when the scope is dropped meanwhile.
#[test]
fn a_panic_that_nobody_hears() {
    on_manual_clock(|el, _| {
        let scope = TaskGroup::scope(async |group| {
            group.spawn(cleaning_up(Log::new(), "child", ()));
            turns(1).await;
            panic!("unheard")
        });
        let task = el.create_task(scope.grace(ms(100)));
        settle(el);
        assert!(!task.is_done());
        task.cancel();
        settle(el);
        assert!(task.is_cancelled());
        assert_eq!(heads(), ["Exception in the body of a task group whose scope was dropped: unheard"]);
    });
}

/// A child that drops its own scope while it is being polled goes on until it gives way. What it then has to say is
/// reported.
#[test]
fn a_child_that_drops_its_own_scope() {
    type Slot = Rc<RefCell<Option<Pin<Box<dyn Future<Output = Result<(), GroupError>>>>>>>;
    /// Begins a scope with a child that drops it and then does the rest.
    fn begin<F: Future<Output = Result<(), &'static str>> + 'static>(el: &EventLoop, drops: &DropCounter, rest: F) {
        let slot = Slot::default();
        let (scope, sibling, log) = (slot.clone(), counted(drops), Log::new());
        let told = log.clone();
        let child = async move {
            turns(1).await;
            drop(scope.take().unwrap());
            told.push("goes on");
            rest.await
        };
        slot.replace(Some(Box::pin(TaskGroup::scope(async |group| {
            group.spawn(sibling);
            group.task_builder().name("child").spawn(child);
        }))));
        let polled = el.run_until_complete(poll_fn(|cx| {
            Poll::Ready(slot.borrow_mut().as_mut().unwrap().as_mut().poll(cx).is_pending())
        }));
        assert!(polled.unwrap());
        settle(el);
        assert_eq!(log.take(), ["goes on"]);
        assert_eq!(el.stats().tasks.live(), 0);
    }
    on_loop(|el| {
        let drops = DropCounter::new();
        let guard = drops.guard();
        begin(el, &drops, async move {
            let _guard = guard;
            turns(1).await;
            unreachable!("it has given way");
        });
        assert_eq!(drops.count(), 2);
        assert_eq!(take_reports(), [""; 0]);
        begin(el, &drops, async { Ok(()) });
        assert_eq!((drops.count(), take_reports().len()), (3, 0));
        begin(el, &drops, async { Err("unheard") });
        let report = "Exception in a task group whose scope was dropped: child: unheard";
        assert_eq!((drops.count(), heads()), (4, vec![report.to_owned()]));
        begin(el, &drops, async { panic!("unheard") });
        let report = "Exception in a task group whose scope was dropped: child: panicked: unheard";
        assert_eq!((drops.count(), heads()), (5, vec![report.to_owned()]));
    });
}

/// CB-43: a group that is cancelled ends its children; if the body has returned, that is no error.
#[test]
fn a_cancelled_group() {
    on_loop(|el| {
        complete(el, async {
            let drops = DropCounter::new();
            let scope = TaskGroup::scope(async |group| {
                group.spawn(counted(&drops));
                let canceller = group.clone();
                group.spawn(async move {
                    turns(2).await;
                    canceller.cancel();
                    canceller.cancel();
                });
                "body"
            });
            assert_eq!(scope.await.unwrap(), "body");
            assert_eq!(drops.count(), 1);

            // By the body itself, which returns without another await.
            let scope = TaskGroup::scope(async |group| {
                group.spawn(counted(&drops));
                group.cancel();
                assert!(!group.is_open());
                7
            });
            assert_eq!(scope.await.unwrap(), 7);
            assert_eq!(drops.count(), 2);

            // Or with one.
            let scope = TaskGroup::scope(async |group| {
                let _guard = drops.guard();
                group.spawn(counted(&drops));
                group.cancel();
                turns(1).await;
                unreachable!("it is cancelled");
            });
            let error: GroupError = scope.await.unwrap_err();
            assert!(error.is_cancelled() && !error.is_timed_out());
            assert_eq!((error.to_string().as_str(), error.iter().count()), ("task group was cancelled", 0));
            assert_eq!(io::Error::from(error).kind(), io::ErrorKind::Interrupted);
            assert_eq!(drops.count(), 4);
        });
    });
}

/// A scope with a limit: when the time is over, body and children are cancelled, and the error says so. In time it leaves
/// no timer behind.
#[test]
fn a_limit_for_all() {
    on_manual_clock(|el, clock| {
        let drops = DropCounter::new();
        let run = |limit: Duration, body_waits: bool, child: Duration| {
            let (guard, counter) = (drops.guard(), drops.clone());
            let scope = TaskGroup::scope(async move |group| {
                let _guard = guard;
                let inner = counter.guard();
                group.spawn(async move {
                    let _inner = inner;
                    sleep(child).await
                });
                if body_waits {
                    pending::<()>().await;
                }
                "body"
            });
            let task = el.create_task(scope.timeout(limit));
            settle(el);
            clock.advance(ms(10));
            settle(el);
            task
        };
        assert_eq!(finish(el, run(ms(20), false, ms(10))).unwrap().unwrap(), "body");
        assert_eq!((drops.count(), el.next_deadline()), (2, None));
        for body_waits in [true, false] {
            let error = finish(el, run(ms(10), body_waits, ms(20))).unwrap().unwrap_err();
            assert!(error.is_timed_out() && !error.is_cancelled());
            assert_eq!((error.to_string().as_str(), error.iter().count()), ("task group timed out", 0));
            assert_eq!(io::Error::from(error).kind(), io::ErrorKind::TimedOut);
        }
        assert_eq!((drops.count(), el.next_deadline()), (6, None));

        let deadline = el.time() + ms(5);
        let task = el.create_task(TaskGroup::scope(async |_| pending::<()>().await).deadline(deadline));
        settle(el);
        assert_eq!(el.next_deadline(), Some(deadline));
        clock.advance(ms(5));
        assert!(finish(el, task).unwrap().unwrap_err().is_timed_out());
    });
}

/// CB-30, CB-43: a timeout around a scope drops it, and with it the children.
#[test]
fn a_timeout_around_a_scope() {
    on_manual_clock(|el, clock| {
        let drops = DropCounter::new();
        let child = counted(&drops);
        let scope = TaskGroup::scope(async |group| drop(group.spawn(child)));
        let task = el.create_task(timeout(ms(10), scope));
        settle(el);
        clock.advance(ms(10));
        assert_eq!(finish(el, task).unwrap().unwrap_err(), TimedOut);
        assert_eq!(drops.count(), 1);
    });
}

/// A child that cleans up when it is asked to, and ends as it is told.
async fn cleaning_up<T>(log: Log, name: &str, result: T) -> T {
    cancel_requested().await;
    log.push(format!("{name} was asked"));
    sleep(ms(10)).await;
    log.push(format!("{name} is clean"));
    result
}

/// CB-43: with a grace children may clean up; those that do not look are dropped at once. An error that comes of it wins.
#[test]
fn children_clean_up() {
    on_manual_clock(|el, clock| {
        let (log, drops) = (Log::new(), DropCounter::new());
        for (result, grace) in [(Ok(()), 20), (Err("broken"), 20), (Ok(()), 5)] {
            let (told, sibling) = (log.clone(), counted(&drops));
            let scope = TaskGroup::scope(async move |group| {
                group.task_builder().name("clean").spawn(cleaning_up(told, "child", result));
                group.spawn(sibling);
                turns(1).await;
                group.cancel();
                "body"
            });
            let task = el.create_task(scope.grace(ms(grace)));
            settle(el);
            assert_eq!((log.take(), task.is_done()), (vec!["child was asked".to_owned()], false));
            assert_eq!(drops.count(), 1);
            drops.reset();
            clock.advance(ms(10));
            let output = finish(el, task).unwrap();
            assert_eq!(log.take(), if grace == 5 { vec![] } else { vec!["child is clean"] });
            match result {
                Ok(()) => assert_eq!(output.unwrap(), "body"),
                Err(_) => assert_eq!(output.unwrap_err().to_string(), "task group was cancelled: clean: broken"),
            }
            assert_eq!(el.next_deadline(), None);
        }
    });
}

/// CB-43: with a grace, a scope hears that its task was asked to end: it asks the children, waits for them, and says that it
/// was cancelled; an error of theirs is there, too. Without one it goes with its task.
#[test]
fn a_parent_that_is_asked_to_end() {
    on_manual_clock(|el, clock| {
        let log = Log::new();
        for result in [Ok(()), Err("broken")] {
            let told = log.clone();
            let parent = el.create_task(async move {
                let scope = TaskGroup::scope(async |group| {
                    group.task_builder().name("child").spawn(cleaning_up(told, "child", result));
                    pending::<()>().await
                });
                scope.grace(ms(20)).await
            });
            settle(el);
            assert!(parent.cancel_gracefully(ms(50)));
            settle(el);
            assert_eq!((log.take(), parent.is_done()), (vec!["child was asked".to_owned()], false));
            clock.advance(ms(10));
            let error = finish(el, parent).unwrap().unwrap_err();
            assert!(error.is_cancelled());
            assert_eq!(error.iter().count(), usize::from(result.is_err()));
            assert_eq!(log.take(), ["child is clean"]);
        }
        let told = log.clone();
        let parent = el.create_task(async move {
            TaskGroup::scope(async |group| drop(group.spawn(cleaning_up(told, "child", ())))).await
        });
        settle(el);
        parent.cancel_gracefully(ms(50));
        settle(el);
        assert!(parent.is_cancelled());
        assert_eq!(log.take(), [""; 0]);
    });
}

/// A loop that is closed takes a group and its children along.
#[test]
fn a_loop_that_is_closed() {
    on_loop(|el| {
        let drops = DropCounter::new();
        let child = counted(&drops);
        let handle = Rc::new(RefCell::new(None));
        let kept = handle.clone();
        let task = el.create_task(async move {
            let scope = TaskGroup::scope(async |group| {
                kept.replace(Some(group.spawn(child)));
                pending::<()>().await
            });
            scope.await
        });
        settle(el);
        el.close();
        assert_eq!(drops.count(), 1);
        let child = handle.take().unwrap();
        assert!(child.is_done());
        assert!(task.is_done());
    });
}

/// P8, CB-44: what a child awaits may be the end of its own sibling: nobody waits for ever.
#[test]
fn children_that_await_each_other() {
    on_strict_loop(|el| {
        complete(el, async {
            let scope = TaskGroup::scope(async |group| {
                let slow = group.spawn_infallible(async {
                    turns(3).await;
                    3
                });
                let first = group.spawn(async move { slow.await.map(|n| n + 1) });
                let second = group.spawn(async move { first.await.map(|n| n + 1) });
                second.await.unwrap()
            });
            assert_eq!(scope.await.unwrap(), 5);

            // The one that is awaited fails: the one that awaits is cancelled with all others, and has no error of its own.
            let scope = TaskGroup::scope(async |group| {
                let failing = group.spawn(async {
                    turns(1).await;
                    Err::<(), _>("the only one")
                });
                group.spawn(async move {
                    match failing.await {
                        Err(error) if error.is_failed() => pending::<Result<(), JoinError>>().await,
                        other => other,
                    }
                });
            });
            assert_eq!(scope.await.unwrap_err().iter().count(), 1);
        });
    });
}

/// What is spawned aside of the group is none of its business.
#[test]
fn others_are_left_alone() {
    on_loop(|el| {
        let done = Rc::new(Cell::new(false));
        let flag = done.clone();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            complete(el, async {
                let scope = TaskGroup::scope(async |group| {
                    drop(spawn(async move {
                        turns(5).await;
                        flag.set(true);
                    }));
                    group.spawn(async { Err::<(), _>("no") });
                    pending::<()>().await
                });
                scope.await.unwrap()
            })
        }));
        assert!(panicked.is_err());
        settle(el);
        assert!(done.get());
    });
}

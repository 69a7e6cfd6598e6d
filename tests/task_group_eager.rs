//! Children that begin, and may end, inside of `spawn` (behaviours TF).

mod common;

use std::cell::RefCell;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use common::{DropCounter, Log, complete, on_loop, settle, take_reports};
use roundelay::{EventLoop, TaskGroup, gather, get_running_loop, yield_now};

fn counted(drops: &DropCounter) -> impl Future<Output = ()> + 'static {
    let guard = drops.guard();
    async move {
        let _guard = guard;
        pending().await
    }
}

/// TF-14: a child that fails inside of `spawn` ends the group: nobody else may come, those who are there are cancelled, and
/// the body is dropped at its next await.
#[test]
fn a_failure_inside_of_spawn() {
    on_loop(|el| {
        complete(el, async {
            for panics in [false, true] {
                let drops = DropCounter::new();
                let scope = TaskGroup::scope(async |group| {
                    let _guard = drops.guard();
                    group.task_builder().eager(true).spawn(counted(&drops));
                    let failed = group.task_builder().name("failed").eager(true).spawn(async move {
                        assert!(!panics, "no");
                        Err::<(), _>("no")
                    });
                    assert!(failed.is_done() && !group.is_open());
                    assert!(group.spawn(counted(&drops)).is_cancelled());
                    assert_eq!(drops.count(), 1);
                    yield_now().await;
                    unreachable!("it is dropped");
                });
                let error = scope.await.unwrap_err();
                let text = if panics { "panicked: no" } else { "no" };
                assert_eq!(error.to_string(), format!("task group failed: failed: {text}"));
                assert_eq!(drops.count(), 3);
            }
        });
    });
}

/// TF-08, TF-14: in its step a child is the current task, and it may start siblings, which are done before it is; all of them
/// in one poll of the scope.
#[test]
fn all_in_one_poll() {
    on_loop(|el| {
        el.set_eager_tasks(true);
        complete(el, async {
            let log = Log::new();
            let turns = get_running_loop().unwrap().stats().turns;
            let scope = TaskGroup::scope(async |group| {
                let (told, sibling) = (log.clone(), group.clone());
                let parent = get_running_loop().unwrap().current_task().unwrap().id;
                group.task_builder().name("child").spawn(async move {
                    let task = get_running_loop().unwrap().current_task().unwrap();
                    told.push(&*task.name);
                    let inner = told.clone();
                    sibling.task_builder().name("sibling").spawn(async move { inner.push("sibling") });
                    told.push("child ends");
                });
                assert_eq!(get_running_loop().unwrap().current_task().unwrap().id, parent);
                // Or in the next turn all the same.
                let late = log.clone();
                group.task_builder().eager(false).spawn(async move { late.push("late") });
                log.push("body ends");
            });
            scope.await.unwrap();
            assert_eq!(log.take(), ["child", "sibling", "child ends", "body ends", "late"]);
            assert_eq!(get_running_loop().unwrap().stats().turns - turns, 2);
        });
        el.set_eager_tasks(false);
    });
}

/// A child that takes its own scope away inside of `spawn`, on the stack of another one: both go on until they give way.
#[test]
fn the_scope_goes_inside_of_spawn() {
    type Slot = Rc<RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>>>;
    on_loop(|el| {
        let (slot, log, drops) = (Slot::default(), Log::new(), DropCounter::new());
        let (scope, told, guards) = (slot.clone(), log.clone(), drops.clone());
        slot.replace(Some(Box::pin(async move {
            let scope = TaskGroup::scope(async |group| {
                let sibling = group.clone();
                group.spawn(async move {
                    let _guard = guards.guard();
                    yield_now().await;
                    let (inner, guard) = (told.clone(), guards.guard());
                    let eager = sibling.task_builder().eager(true).spawn(async move {
                        let _guard = guard;
                        drop(scope.take());
                        inner.push("eager goes on");
                        yield_now().await;
                        inner.push("and never here");
                    });
                    assert!(eager.is_done() && eager.is_cancelled());
                    told.push("child goes on");
                    yield_now().await;
                    told.push("and never here");
                });
                pending::<()>().await
            });
            drop(scope.await);
        })));
        let first = poll_fn(|cx| Poll::Ready(slot.borrow_mut().as_mut().unwrap().as_mut().poll(cx).is_pending()));
        assert!(el.run_until_complete(first).unwrap());
        settle(el);
        assert_eq!(log.take(), ["eager goes on", "child goes on"]);
        assert_eq!((drops.count(), el.stats().tasks.live()), (2, 0));
        assert_eq!(take_reports(), [""; 0]);
    });
}

type Counted = Pin<Box<dyn Future<Output = u64>>>;

fn gathers(depth: u8) -> Counted {
    Box::pin(async move {
        if depth == 0 {
            return 1;
        }
        gather((0..5).map(|_| gathers(depth - 1))).await.unwrap().into_iter().sum()
    })
}

fn groups(depth: u8) -> Counted {
    Box::pin(async move {
        if depth == 0 {
            return 1;
        }
        let children = TaskGroup::scope(async |group| {
            (0..5).map(|_| group.spawn_infallible(groups(depth - 1))).collect::<Vec<_>>()
        });
        let mut sum = 0;
        for child in children.await.unwrap() {
            sum += child.await.unwrap();
        }
        sum
    })
}

/// TF-13: trees of gathers and of groups, 5 wide and 4 deep, are done inside of the call that makes their root: 781 tasks,
/// none of which was ever in the queue. Where tasks begin in the next turn, all of them were.
#[test]
fn trees_that_need_no_turn() {
    on_loop(|el| {
        let grow = |el: &EventLoop, tree: fn(u8) -> Counted, eager: bool| {
            el.set_eager_tasks(eager);
            let before = el.stats();
            let handle = el.clone();
            let root = el.call_soon(move || {
                let task = handle.create_task(tree(4));
                (task.is_done(), task)
            });
            let (at_once, task) = complete(el, root).unwrap();
            assert_eq!(at_once, eager);
            assert_eq!(complete(el, task).unwrap(), 625);
            el.set_eager_tasks(false);
            let after = el.stats();
            (after.tasks.opened - before.tasks.opened, after.turns - before.turns)
        };
        for tree in [gathers as fn(u8) -> Counted, groups] {
            let (lazy, eager) = (grow(el, tree, false), grow(el, tree, true));
            assert_eq!((lazy.0, eager.0), (781, 781));
            assert!(eager.1 < lazy.1, "{eager:?} {lazy:?}");
        }
    });
}

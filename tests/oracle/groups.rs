//! Task groups.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use roundelay::{GroupError, TaskGroup, yield_now};

use crate::bodies::{after, endless, failing, until_asked};
use crate::common::Log;
use crate::oracle::differs;
use crate::support::{Guard, connected, connected_differs, settle, turns, yes};

/// Tells how a group has ended.
pub fn tell<T>(log: &Log, what: &str, result: Result<T, GroupError>) {
    log.push(match result {
        Ok(_) => format!("{what} is done"),
        Err(error) => format!("{what} has failed: {}", error.iter().count()),
    });
}

/// A child, whatever it gives.
pub async fn child<T>(body: impl Future<Output = T>) {
    body.await;
}

/// CB-41: a group waits for its children, also for late ones.
#[test]
fn group_waits_for_its_children() {
    connected("group_waits_for_its_children", |_, log| async move {
        let group = TaskGroup::scope(async |group| {
            group.spawn(child(after(&log, "a", 2)));
            let (own, siblings) = (log.clone(), group.clone());
            group.spawn(async move {
                yield_now().await;
                siblings.spawn(child(after(&own, "late", 2)));
                own.push("child ends");
            });
            log.push("body ends");
        });
        tell(&log, "group", group.await);
    });
}

/// CB-41, CB-43: an error in the second child ends the body and the first one.
#[test]
fn group_with_an_error_in_the_second_child() {
    let here = ["b is left", "body is left", "a is left", "group has failed: 1", "a cancelled yes", "b cancelled no"];
    connected_differs("group_with_an_error_in_the_second_child", "the-body-goes-first", &here, |_, log| async move {
        let cancelled = [false; 2].map(|_| Rc::new(Cell::new(false)));
        let group = TaskGroup::scope(async |group| {
            let a = group.spawn(child(endless(&log, "a")));
            let b = group.spawn(child(failing(&log, "b", 2)));
            for (child, cancelled) in [a, b].iter().zip(cancelled.clone()) {
                child.add_done_callback(move |outcome| cancelled.set(outcome == roundelay::Outcome::Cancelled));
            }
            endless(&log, "body").await;
        });
        tell(&log, "group", group.await);
        settle().await;
        yes(&log, "a cancelled", cancelled[0].get());
        yes(&log, "b cancelled", cancelled[1].get());
    });
}

/// CB-41: all errors are kept.
#[test]
fn group_with_two_errors() {
    connected("group_with_two_errors", |_, log| async move {
        let group = TaskGroup::scope(async |group| {
            group.spawn(child(failing(&log, "a", 2)));
            group.spawn(child(failing(&log, "b", 2)));
            group.spawn(child(endless(&log, "c")));
        });
        tell(&log, "group", group.await);
    });
}

/// CB-41: a child that somebody cancels has not failed.
#[test]
fn group_with_a_cancelled_child() {
    connected("group_with_a_cancelled_child", |_, log| async move {
        let group = TaskGroup::scope(async |group| {
            let a = group.spawn(child(endless(&log, "a")));
            group.spawn(child(after(&log, "b", 5)));
            yield_now().await;
            a.cancel();
        });
        tell(&log, "group", group.await);
    });
}

/// CB-43: cancelling whoever awaits the group ends the body, and then the children.
#[test]
fn group_cancelled_from_outside() {
    connected("group_cancelled_from_outside", |el, log| async move {
        let own = log.clone();
        let task = el.create_task(async move {
            let group = TaskGroup::scope(async |group| {
                group.spawn(child(endless(&own, "a")));
                endless(&own, "body").await;
            });
            tell(&own, "group", group.await);
        });
        settle().await;
        task.cancel();
        settle().await;
        yes(&log, "cancelled", task.is_cancelled());
    });
}

/// CB-41: an error of the body ends the children.
#[test]
fn group_whose_body_fails() {
    connected("group_whose_body_fails", |_, log| async move {
        let group = TaskGroup::try_scope(async |group| {
            group.spawn(child(endless(&log, "a")));
            after(&log, "body", 1).await;
            Err::<(), _>("on purpose".into())
        });
        tell(&log, "group", group.await);
    });
}

/// CB-41, CB-43: the error of a group that is a child in another one.
#[test]
fn group_within_a_group() {
    connected("group_within_a_group", |_, log| async move {
        let group = TaskGroup::scope(async |group| {
            group.spawn(child(endless(&log, "outer a")));
            let own = log.clone();
            group.spawn(async move {
                TaskGroup::scope(async |group| {
                    group.spawn(child(endless(&own, "inner a")));
                    group.spawn(child(failing(&own, "inner b", 1)));
                })
                .await
            });
        });
        tell(&log, "outer", group.await);
    });
}

/// CB-45: a group that is ending takes no more children.
#[test]
fn group_that_is_ending_takes_no_more() {
    connected("group_that_is_ending_takes_no_more", |_, log| async move {
        let group = TaskGroup::scope(async |group| {
            let (own, siblings) = (log.clone(), group.clone());
            group.spawn(async move {
                until_asked(&own).await;
                yield_now().await;
                let refused = siblings.spawn_infallible(async { unreachable!() });
                if refused.is_cancelled() {
                    own.push("refused");
                }
            });
            group.spawn(child(failing(&log, "b", 2)));
        });
        tell(&log, "group", group.grace(Duration::MAX).await);
    });
}

/// CB-41: the turns in which a child begins, and the group is done.
#[test]
fn group_turn_by_turn() {
    let here =
        ["-- turn 1", "body is left", "-- turn 2", "a is left", "-- turn 3", "group is done", "-- turn 4", "done yes"];
    differs("group_turn_by_turn", "one-turn-sooner", &here, |el, log, _| {
        let own = log.clone();
        let task = el.create_task(async move {
            let group = TaskGroup::scope(async |group| {
                let _guard = Guard::new(&own, "body", "is left");
                group.spawn(child(after(&own, "a", 0)));
            });
            group.await.unwrap();
            own.push("group is done");
        });
        turns(el, log, 4);
        yes(log, "done", task.is_done());
    });
}

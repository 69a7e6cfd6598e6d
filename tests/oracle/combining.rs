//! Waiting for several things at once, and for one within a time.

use std::future::pending;
use std::time::Duration;

use futures::future::FutureExt;
use roundelay::{
    EventLoop, JoinError, ManualClock, Task, TimedOut, Wait, as_completed, gather, get_running_loop, shield, sleep,
    spawn, timeout, wait, wait_for, yield_now,
};

use crate::bodies::{Body, after, endless, failing, told, until_asked};
use crate::common::Log;
use crate::oracle::{differs, timed};
use crate::support::{Guard, SECOND, connected, fail, settle, trace_reports, turn, turns, yes};

/// Cancels the task that it is in, and waits.
fn cancelled(log: &Log, name: &'static str) -> Body<&'static str> {
    let body = endless(log, name);
    async move {
        get_running_loop().unwrap().current_task().unwrap().cancel();
        body.await
    }
    .boxed_local()
}

fn some_turns(el: &EventLoop) {
    (0..5).for_each(|_| turn(el));
}

/// CB-12: results in the order of the futures.
#[test]
fn gather_in_order() {
    connected("gather_in_order", |_, log| async move {
        let results = gather([("a", 3), ("b", 0), ("c", 1)].map(|(name, count)| after(&log, name, count)));
        log.push(results.await.unwrap().join(" "));
        log.push(gather([(); 0].map(|()| pending::<()>())).await.unwrap().len().to_string());
    });
}

/// CB-12: who awaits several is woken by the end of the last one.
#[test]
fn gather_turn_by_turn() {
    let here = [
        "-- turn 1",
        "begins",
        "-- turn 2",
        "a is left",
        "-- turn 3",
        "b is left",
        "-- turn 4",
        "a b",
        "-- turn 5",
        "-- turn 6",
        "done yes",
    ];
    differs("gather_turn_by_turn", "one-turn-sooner", &here, |el, log, _| {
        let own = log.clone();
        let task = el.create_task(async move {
            own.push("begins");
            own.push(gather([after(&own, "a", 0), after(&own, "b", 1)]).await.unwrap().join(" "));
        });
        turns(el, log, 6);
        yes(log, "done", task.is_done());
    });
}

/// CB-13: the first error comes at once; the others go on, and what they say is not reported.
#[test]
fn gather_with_an_error() {
    connected("gather_with_an_error", |el, log| async move {
        trace_reports(&el, &log);
        let whole = gather([after(&log, "a", 9), failing(&log, "b", 1), failing(&log, "c", 5)]);
        assert!(whole.await.unwrap_err().is_panic());
        log.push("error");
        settle().await;
        settle().await;
        log.push("end");
    });
}

/// CB-14: errors and cancellations in their places.
#[test]
fn gather_of_results_and_errors() {
    connected("gather_of_results_and_errors", |_, log| async move {
        let whole = gather([after(&log, "a", 3), failing(&log, "b", 1), cancelled(&log, "c")]);
        for result in whole.return_exceptions().await {
            log.push(match result {
                Ok(name) => name,
                Err(error) if error.is_cancelled() => "cancelled",
                Err(_) => "error",
            });
        }
    });
}

/// Leaves a line for a task that was cancelled under whoever awaits it.
fn tell_of_error<T>(log: &Log, result: Result<T, JoinError>) {
    assert!(result.err().unwrap().is_cancelled());
    log.push("error: cancelled");
}

/// CB-15: a child that is cancelled is an error of the whole, which is not cancelled itself.
#[test]
fn gather_with_a_cancelled_child() {
    connected("gather_with_a_cancelled_child", |el, log| async move {
        let child = el.create_task(endless(&log, "a"));
        let canceller = child.canceller();
        let own = log.clone();
        let task = el.create_task(async move {
            let child = async move { child.await.map(|_| ()) };
            let other = after(&own, "b", 9).map(|_| Ok(()));
            let result = roundelay::try_gather([child.boxed_local(), other.boxed_local()]).await;
            tell_of_error(&own, result);
        });
        settle().await;
        canceller.cancel();
        settle().await;
        yes(&log, "done", task.is_done());
        yes(&log, "cancelled", task.is_cancelled());
    });
}

/// CB-16, P45: a gather that is cancelled cancels its children, and is done when they are.
#[test]
fn gather_that_is_cancelled() {
    connected("gather_that_is_cancelled", |_, log| async move {
        let whole = gather([endless(&log, "a"), after(&log, "b", 0), endless(&log, "c")]);
        settle().await;
        yes(&log, "cancel", whole.cancel());
        yes(&log, "cancel again", whole.cancel());
        log.push("children go first");
        let mut whole = whole;
        tell_of_error(&log, (&mut whole).await);
        yes(&log, "cancel when done", whole.cancel());
    });
}

/// CB-17: a gather whose children are done cannot be cancelled any more.
#[test]
fn gather_cancelled_when_all_is_done() {
    connected("gather_cancelled_when_all_is_done", |_, log| async move {
        let whole = gather([after(&log, "a", 0), after(&log, "b", 1)]);
        settle().await;
        yes(&log, "cancel", whole.cancel());
        log.push(whole.await.unwrap().join(" "));
    });
}

type Named = Task<&'static str>;

fn named<const N: usize>(names: [&'static str; N], bodies: [Body<&'static str>; N]) -> [Named; N] {
    let el = get_running_loop().unwrap();
    let mut bodies = bodies.into_iter();
    names.map(|name| el.task_builder().name(name).spawn(bodies.next().unwrap()))
}

/// Waits, and tells who was done: all of them, in their order.
async fn waiting<T>(log: &Log, wait: Wait<T>) -> Vec<Task<T>> {
    let waited = wait.await;
    let tell = |what: &str, tasks: &[Task<T>]| {
        let mut words = vec![what.to_owned()];
        words.extend(tasks.iter().map(|task| task.name().to_string()));
        log.push(words.join(" "));
    };
    tell("done:", &waited.done);
    tell("pending:", &waited.pending);
    let mut tasks = waited.done;
    tasks.extend(waited.pending);
    tasks.sort_by_key(|task| task.name());
    tasks
}

/// CB-05: waiting until all are done, in whichever way.
#[test]
fn wait_for_all() {
    connected("wait_for_all", |el, log| async move {
        let tasks = named(["a", "b", "c"], [after(&log, "a", 2), failing(&log, "b", 1), endless(&log, "c")]);
        let canceller = tasks[2].canceller();
        el.call_soon(move || canceller.cancel());
        for task in waiting(&log, wait(tasks)).await {
            drop(task.await);
        }
    });
}

/// CB-06, CB-07: waiting for the first; all that are done by then are.
#[test]
fn wait_for_the_first() {
    connected("wait_for_the_first", |_, log| async move {
        let bodies = [after(&log, "a", 12), after(&log, "b", 1), after(&log, "c", 1), endless(&log, "d")];
        let tasks = named(["a", "b", "c", "d"], bodies);
        let tasks = waiting(&log, wait(tasks).first_completed()).await;
        tasks[3].cancel();
        let [a, b, c, d] = tasks.try_into().unwrap();
        let [a, d] = waiting(&log, wait([a, d]).first_completed()).await.try_into().unwrap();
        waiting(&log, wait([a, b, c, d]).first_completed()).await;
    });
}

/// CB-08: waiting for the first error, which a cancellation is not.
#[test]
fn wait_for_the_first_error() {
    connected("wait_for_the_first_error", |el, log| async move {
        let bodies = [after(&log, "a", 1), endless(&log, "b"), failing(&log, "c", 4), endless(&log, "d")];
        let mut bodies = bodies.into_iter();
        let tasks = ["a", "b", "c", "d"].map(|name| {
            let body = bodies.next().unwrap();
            el.task_builder().name(name).spawn(async { Ok::<_, ()>(body.await) })
        });
        let canceller = tasks[1].canceller();
        el.call_soon(move || canceller.cancel());
        let tasks = waiting(&log, wait(tasks).first_exception()).await;
        tasks[3].cancel();
        for task in tasks {
            drop(task.await);
        }
    });
}

/// CB-09: a wait that takes too long fails nobody and cancels nobody.
#[test]
fn wait_with_a_timeout() {
    timed("wait_with_a_timeout", |el, log, clock| {
        let own = log.clone();
        let task = el.create_task(async move {
            let tasks = named(["a", "b"], [after(&own, "a", 1), endless(&own, "b")]);
            let tasks = waiting(&own, wait(tasks).timeout(SECOND)).await;
            yes(&own, "cancelled", tasks[1].is_cancelled());
            tasks
        });
        some_turns(el);
        yes(log, "done", task.is_done());
        clock.advance(SECOND);
        some_turns(el);
        yes(log, "done", task.is_done());
        task.now_or_never().unwrap().unwrap()[1].cancel();
        some_turns(el);
    });
}

/// CB-10: who waits is cancelled, and the tasks are not.
#[test]
fn waiting_is_cancelled() {
    connected("waiting_is_cancelled", |el, log| async move {
        let tasks = named(["a", "b"], ["a", "b"].map(|name| after(&log, name, 15)));
        tasks[0].add_done_callback(told(&log, "a"));
        let own = log.clone();
        let waiter = el.create_task(async move { drop(waiting(&own, wait(tasks)).await) });
        settle().await;
        waiter.cancel();
        settle().await;
        yes(&log, "cancelled", waiter.is_cancelled());
        settle().await;
    });
}

/// CB-20: who awaits a shield is cancelled, and the task goes on to its end.
#[test]
fn shield_of_a_task() {
    connected("shield_of_a_task", |el, log| async move {
        let inner = el.create_task(after(&log, "inner", 5));
        inner.add_done_callback(told(&log, "inner"));
        let own = log.clone();
        let task = el.create_task(async move {
            let _guard = Guard::new(&own, "outer", "is left");
            shield(inner).await
        });
        yield_now().await;
        task.cancel();
        settle().await;
        yes(&log, "outer cancelled", task.is_cancelled());
        log.push(shield(el.create_task(after(&log, "another", 0))).await.unwrap());
    });
}

/// CB-20: a task that is cancelled inside of a shield is cancelled for whoever awaits it.
#[test]
fn shield_of_a_task_that_is_cancelled() {
    connected("shield_of_a_task_that_is_cancelled", |el, log| async move {
        let inner = el.create_task(endless(&log, "inner"));
        let canceller = inner.canceller();
        let own = log.clone();
        let task = el.create_task(async move { tell_of_error(&own, shield(inner).await) });
        settle().await;
        canceller.cancel();
        task.await.unwrap();
    });
}

/// CB-22, P43: an error that comes when nobody waits at the shield any more is reported.
#[test]
fn error_behind_a_shield() {
    connected("error_behind_a_shield", |el, log| async move {
        trace_reports(&el, &log);
        let (own, inner) = (log.clone(), el.create_task(failing(&log, "inner", 3)));
        let task = el.create_task(async move {
            let _guard = Guard::new(&own, "outer", "is left");
            drop(shield(inner).await);
        });
        yield_now().await;
        yield_now().await;
        task.cancel();
        settle().await;
        log.push("end");
    });
}

/// CB-23: one after the other, as they come.
#[test]
fn completed_in_order() {
    connected("completed_in_order", |el, log| async move {
        let tasks = [("a", 8), ("b", 0), ("c", 4)].map(|(name, count)| el.create_task(after(&log, name, count)));
        let mut completed = as_completed(tasks);
        while let Some((_, name)) = completed.next().await {
            log.push(format!("next {}", name.unwrap()));
        }
    });
}

/// CB-24: those that come in time, and the end of the time.
#[test]
fn completed_within_a_time() {
    timed("completed_within_a_time", |el, log, clock| {
        let own = log.clone();
        let task = el.create_task(async move {
            let tasks = [endless(&own, "a"), after(&own, "b", 1)].map(spawn);
            let late = tasks[0].canceller();
            tasks[0].add_done_callback(told(&own, "a"));
            let mut completed = as_completed(tasks).timeout(SECOND);
            while let Some(next) = completed.next().await {
                match next {
                    Ok((_, name)) => own.push(format!("next {}", name.unwrap())),
                    Err(TimedOut) => own.push("timeout"),
                }
            }
            yes(&own, "cancel", late.cancel());
        });
        some_turns(el);
        clock.advance(SECOND);
        some_turns(el);
        yes(log, "done", task.is_done());
    });
}

/// Waits for a task for a second, and has it run half a minute.
fn limited(el: &EventLoop, log: &Log, clock: &ManualClock, body: Body<&'static str>) {
    let own = log.clone();
    let task = el.create_task(async move {
        own.push(match wait_for(SECOND, spawn(body)).await {
            Err(TimedOut) => "timeout",
            Ok(Err(error)) if error.is_cancelled() => "error: cancelled",
            Ok(Err(_)) => "error",
            Ok(Ok(value)) => value,
        });
    });
    some_turns(el);
    clock.advance(SECOND);
    some_turns(el);
    yes(log, "done", task.is_done());
    clock.advance(29 * SECOND);
    some_turns(el);
    yes(log, "done", task.is_done());
}

/// CB-26: a task that is done in time.
#[test]
fn wait_for_in_time() {
    timed("wait_for_in_time", |el, log, clock| limited(el, log, clock, after(log, "body", 1)));
}

/// CB-27: a task that takes too long is cancelled.
#[test]
fn wait_for_too_long() {
    timed("wait_for_too_long", |el, log, clock| limited(el, log, clock, endless(log, "body")));
}

/// What a task does that cleans up when it is asked to end.
async fn clean_up(log: Log) {
    until_asked(&log).await;
    sleep(20 * SECOND).await;
    log.push("cleaned up");
}

/// CB-27, CB-28: a task that takes too long is waited for while it cleans up, and its value counts.
#[test]
fn wait_for_a_value_in_spite_of_it() {
    timed("wait_for_a_value_in_spite_of_it", |el, log, clock| {
        limited(el, log, clock, clean_up(log.clone()).map(|()| "value").boxed_local());
    });
}

/// CB-29: so does its error.
#[test]
fn wait_for_an_error_in_spite_of_it() {
    timed("wait_for_an_error_in_spite_of_it", |el, log, clock| {
        let body = clean_up(log.clone()).map(|()| {
            fail();
            "not reached"
        });
        limited(el, log, clock, body.boxed_local());
    });
}

/// CB-30: a task that is cancelled in time.
#[test]
fn wait_for_a_cancelled_task() {
    timed("wait_for_a_cancelled_task", |el, log, clock| limited(el, log, clock, cancelled(log, "body")));
}

/// CB-26, CB-33: without any time a fresh task never begins, one that is done is, and a shield protects.
#[test]
fn wait_for_without_time() {
    connected("wait_for_without_time", |el, log| async move {
        let own = log.clone();
        let fresh = el.create_task(async move { own.push("not reached") });
        assert_eq!(wait_for(Duration::ZERO, fresh).await.unwrap_err(), TimedOut);
        log.push("timeout");
        let done = el.create_task(after(&log, "done", 0));
        settle().await;
        log.push(wait_for(Duration::ZERO, done).await.unwrap().unwrap());
        let mut shielded = el.create_task(after(&log, "shielded", 3));
        assert_eq!(timeout(Duration::ZERO, &mut shielded).await.err(), Some(TimedOut));
        log.push("timeout");
        log.push(shielded.await.unwrap());
    });
}

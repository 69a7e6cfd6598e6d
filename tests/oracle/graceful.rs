//! Cancelling a task that has a word in it.

use std::time::Duration;

use roundelay::{cancel_requested, get_running_loop, is_cancel_requested, sleep, yield_now};

use crate::bodies::{endless, told, until_asked};
use crate::oracle::{differs, timed};
use crate::support::{Guard, SECOND, connected, fail, settle, turn, turns, yes};

const EVER: Duration = Duration::MAX;

/// TK-09, TK-12: a task that is asked to end is not cancelled by that; it hears of it in the next turn.
#[test]
fn asked_to_end_turn_by_turn() {
    timed("asked_to_end_turn_by_turn", |el, log, _| {
        let own = log.clone();
        let task = el.create_task(async move {
            until_asked(&own).await;
            yield_now().await;
            own.push("cleaned up");
        });
        task.add_done_callback(told(log, "task"));
        turns(el, log, 1);
        el.call_soon(log.entry("before"));
        yes(log, "cancel", task.cancel_gracefully(EVER));
        yes(log, "cancelled", task.is_cancelled());
        el.call_soon(log.entry("after"));
        turns(el, log, 3);
        yes(log, "done", task.is_done());
        yes(log, "cancelled", task.is_cancelled());
        yes(log, "cancel when done", task.cancel_gracefully(EVER));
    });
}

/// TK-12: its value counts.
#[test]
fn asked_to_end_gives_a_value() {
    connected("asked_to_end_gives_a_value", |el, log| async move {
        let own = log.clone();
        let mut task = el.create_task(async move {
            until_asked(&own).await;
            "value"
        });
        settle().await;
        task.cancel_gracefully(EVER);
        log.push((&mut task).await.unwrap());
        yes(&log, "cancelled", task.is_cancelled());
    });
}

/// TK-13: it may wait for something else, which is left alone.
#[test]
fn asked_to_end_and_goes_on() {
    connected("asked_to_end_and_goes_on", |el, log| async move {
        let future = el.create_future();
        let (own, waited) = (log.clone(), future.clone());
        let task = el.create_task(async move {
            until_asked(&own).await;
            own.push(waited.await.unwrap());
            "value"
        });
        settle().await;
        task.cancel_gracefully(EVER);
        settle().await;
        yes(&log, "future cancelled", future.is_cancelled());
        future.set_result("result").unwrap();
        log.push(task.await.unwrap());
    });
}

/// TK-19, P12: asked twice, it hears of it once.
#[test]
fn asked_to_end_twice() {
    connected("asked_to_end_twice", |el, log| async move {
        let own = log.clone();
        let task = el.create_task(async move {
            until_asked(&own).await;
            yield_now().await;
            own.push("goes on");
            "value"
        });
        settle().await;
        task.cancel_gracefully(EVER);
        task.cancel_gracefully(EVER);
        log.push(task.await.unwrap());
    });
}

/// TK-25: its error is its result, too.
#[test]
fn asked_to_end_and_fails() {
    connected("asked_to_end_and_fails", |el, log| async move {
        let own = log.clone();
        let mut task = el.create_task(async move {
            until_asked(&own).await;
            fail();
        });
        settle().await;
        task.cancel_gracefully(EVER);
        assert!((&mut task).await.unwrap_err().is_panic());
        log.push("error");
        yes(&log, "cancelled", task.is_cancelled());
    });
}

/// TK-14: a task that asks itself goes on to where it listens.
#[test]
fn asked_to_end_in_itself() {
    connected("asked_to_end_in_itself", |el, log| async move {
        let own = log.clone();
        let task = el.create_task(async move {
            // It is one that listens.
            assert!(!is_cancel_requested());
            let current = get_running_loop().unwrap().current_task().unwrap();
            yes(&own, "cancel", current.cancel_gracefully(EVER));
            own.push("goes on");
            until_asked(&own).await;
            "value"
        });
        log.push(task.await.unwrap());
    });
}

/// TK-15: a task that asks itself to end, and returns without having listened again, gives its value. In asyncio it is
/// cancelled.
#[test]
fn asked_to_end_at_its_end() {
    let here = ["cancel yes", "task is done"];
    differs("asked_to_end_at_its_end", "asking-takes-no-value", &here, |el, log, _| {
        let own = log.clone();
        let task = el.create_task(async move {
            assert!(!is_cancel_requested());
            let current = get_running_loop().unwrap().current_task().unwrap();
            yes(&own, "cancel", current.cancel_gracefully(EVER));
        });
        task.add_done_callback(told(log, "task"));
        turn(el);
        turn(el);
    });
}

/// TK-08: before its start it is cancelled.
#[test]
fn asked_to_end_before_it_begins() {
    connected("asked_to_end_before_it_begins", |el, log| async move {
        let own = log.clone();
        let task = el.create_task(async move { until_asked(&own).await });
        task.add_done_callback(told(&log, "task"));
        task.cancel_gracefully(EVER);
        settle().await;
    });
}

/// TK-26: one that does not listen is cancelled, from the inside out.
#[test]
fn asked_to_end_but_does_not_hear() {
    connected("asked_to_end_but_does_not_hear", |el, log| async move {
        let own = log.clone();
        let task = el.create_task(async move {
            let _guard = Guard::new(&own, "outer", "is left");
            endless(&own, "inner").await;
        });
        task.add_done_callback(told(&log, "task"));
        settle().await;
        task.cancel_gracefully(EVER);
        settle().await;
    });
}

/// TK-12, CB-04: a timer asks, and the task takes its time.
#[test]
fn asked_to_end_from_a_timer() {
    timed("asked_to_end_from_a_timer", |el, log, clock| {
        let own = log.clone();
        let task = el.create_task(async move {
            cancel_requested().await;
            own.push("asked");
            sleep(20 * SECOND).await;
            own.push("cleaned up");
        });
        task.add_done_callback(told(log, "task"));
        let canceller = task.canceller();
        el.call_later(SECOND, move || canceller.cancel_gracefully(EVER));
        for seconds in [1, 10, 10] {
            turn(el);
            clock.advance(seconds * SECOND);
            log.push(format!("clock {seconds}"));
            (0..4).for_each(|_| turn(el));
        }
    });
}

//! Deadlines.

use std::time::{Duration, Instant};

use roundelay::{EventLoop, sleep, timeout, yield_now};

use crate::common::Log;
use crate::oracle::{differs, same, timed};
use crate::support::{Guard, SECOND, turn, turns, yes};

/// TM-03: deadlines count, not the order of creation.
#[test]
fn deadlines_in_order() {
    same("deadlines_in_order", |el, log| {
        let now = el.time();
        for ago in [3, 7, 1, 9, 5, 8, 2, 6, 4] {
            el.call_at(now - ago * SECOND, log.entry(ago.to_string()));
        }
        el.call_at(now + 1000 * SECOND, log.entry("never"));
        turns(el, log, 2);
    });
}

/// TM-01, TM-15: delays count from the call.
#[test]
fn delays_in_order() {
    timed("delays_in_order", |el, log, clock| {
        for delay in [3, 1, 4, 2] {
            el.call_later(delay * SECOND, log.entry(delay.to_string()));
        }
        clock.advance(3 * SECOND / 2);
        el.call_later(SECOND, log.entry("2.5"));
        turns(el, log, 1);
        clock.advance(3 * SECOND / 2);
        turns(el, log, 1);
        clock.advance(3 * SECOND / 2);
        turns(el, log, 1);
    });
}

/// TM-16, P9: a delay of zero comes after what is ready.
#[test]
fn delay_of_zero() {
    same("delay_of_zero", |el, log| {
        el.call_soon(log.entry("a"));
        el.call_later(Duration::ZERO, log.entry("timer"));
        el.call_soon(log.entry("b"));
        let (handle, own) = (el.clone(), log.clone());
        el.call_soon(move || {
            handle.call_later(Duration::ZERO, own.entry("timer too"));
            handle.call_soon(own.entry("c"));
        });
        turns(el, log, 2);
    });
}

/// TM-20: a timer that a batch makes waits for the next turn, though its deadline has passed.
#[test]
fn timers_made_in_a_batch() {
    same("timers_made_in_a_batch", |el, log| {
        let past = el.time() - 10 * SECOND;
        let (handle, own) = (el.clone(), log.clone());
        el.call_at(past, move || {
            own.push("first");
            handle.call_at(past - 5 * SECOND, own.entry("before it all"));
            handle.call_soon(own.entry("soon"));
        });
        el.call_at(past + SECOND, log.entry("second"));
        turns(el, log, 2);
    });
}

/// TM-20: the same for one that arms itself.
#[test]
fn timer_that_arms_itself() {
    same("timer_that_arms_itself", |el, log| {
        fn fire(el: EventLoop, log: Log, past: Instant, left: u32) {
            log.push(format!("fires {left}"));
            if left > 0 {
                el.clone().call_at(past, move || fire(el, log, past, left - 1));
            }
        }
        let past = el.time() - 10 * SECOND;
        let (handle, own) = (el.clone(), log.clone());
        el.call_at(past, move || fire(handle, own, past, 3));
        turns(el, log, 5);
    });
}

/// TM-02, TM-09: cancelled timers do not fire and keep their deadline.
#[test]
fn cancelled_timers() {
    same("cancelled_timers", |el, log| {
        let now = el.time();
        let handles: Vec<_> = (0..9).map(|ago| el.call_at(now - ago * SECOND, log.entry(ago.to_string()))).collect();
        for handle in handles.iter().step_by(2) {
            handle.cancel();
        }
        yes(log, "cancelled", handles[0].is_cancelled());
        yes(log, "cancelled", handles[1].is_cancelled());
        yes(log, "same deadline", handles[0].when() == now);
        turns(el, log, 1);
        yes(log, "cancelled", handles[1].is_cancelled());
    });
}

/// TM-08, P6: timers of equal deadline fire in the order in which they were made.
#[test]
fn equal_deadlines() {
    let here = ["-- turn 1", "0", "1", "2", "3", "4", "5", "6", "7"];
    differs("equal_deadlines", "equal-deadlines", &here, |el, log, _| {
        let past = el.time() - SECOND;
        for number in 0..8 {
            el.call_at(past, log.entry(number.to_string()));
        }
        turns(el, log, 1);
    });
}

fn sleeper(log: &Log, delay: u32) -> impl Future<Output = ()> + 'static {
    let own = log.clone();
    async move {
        sleep(delay * SECOND).await;
        own.push(format!("awake {delay}"));
    }
}

/// CB-01: sleeping tasks wake by deadline.
#[test]
fn sleepers_by_deadline() {
    let here =
        ["-- turn 1", "-- turn 1", "awake 1", "awake 2", "-- turn 2", "-- turn 1", "awake 3", "awake 4", "-- turn 2"];
    differs("sleepers_by_deadline", "woken-in-the-turn-of-the-event", &here, |el, log, clock| {
        let tasks = [3, 1, 4, 2].map(|delay| el.create_task(sleeper(log, delay)));
        turns(el, log, 1);
        clock.advance(2 * SECOND);
        turns(el, log, 2);
        clock.advance(2 * SECOND);
        turns(el, log, 2);
        assert!(tasks.iter().all(|task| task.is_done()));
    });
}

/// CB-01: and among callbacks they have the place of their deadline.
#[test]
fn sleeper_beside_callbacks() {
    let here = ["-- turn 1", "-- turn 1", "before", "awake 2", "after", "-- turn 2", "done yes"];
    differs("sleeper_beside_callbacks", "woken-in-the-turn-of-the-event", &here, |el, log, clock| {
        let task = el.create_task(sleeper(log, 2));
        el.call_later(SECOND, log.entry("before"));
        el.call_later(3 * SECOND, log.entry("after"));
        turns(el, log, 1);
        clock.advance(5 * SECOND);
        turns(el, log, 2);
        yes(log, "done", task.is_done());
    });
}

/// CB-02, CS-13: a sleep of zero is one turn.
#[test]
fn sleep_of_zero() {
    same("sleep_of_zero", |el, log| {
        let tasks = ["a", "b"].map(|name| {
            let own = log.clone();
            el.create_task(async move {
                for number in 0..3 {
                    own.push(format!("{name} {number}"));
                    sleep(Duration::ZERO).await;
                }
            })
        });
        el.call_soon(log.entry("soon"));
        turns(el, log, 4);
        yes(log, "done", tasks[0].is_done());
    });
}

fn guarded(log: &Log, name: &'static str, delay: u32) -> impl Future<Output = &'static str> + 'static {
    let guard = Guard::new(log, name, "dropped");
    async move {
        let _guard = guard;
        sleep(delay * SECOND).await;
        "result"
    }
}

fn limited(log: &Log, name: &'static str, limit: u32, delay: u32) -> impl Future<Output = ()> + 'static {
    let own = log.clone();
    async move {
        match timeout(limit * SECOND, guarded(&own, name, delay)).await {
            Ok(result) => own.push(format!("{name} {result}")),
            Err(_) => own.push(format!("{name} timed out")),
        }
    }
}

/// CB-34: what is in time gives its result; what is not is dropped first.
#[test]
fn timeouts() {
    timed("timeouts", |el, log, clock| {
        let tasks = [
            el.create_task(limited(log, "in time", 3, 1)),
            el.create_task(limited(log, "too late", 2, 1000)),
            el.create_task(limited(log, "not needed", 1000, 0)),
            el.create_task(limited(log, "first", 1, 1000)),
        ];
        turns(el, log, 3);
        for _ in 0..3 {
            log.push("-- advance");
            clock.advance(SECOND);
            for _ in 0..3 {
                turn(el);
            }
        }
        yes(log, "all done", tasks.iter().all(|task| task.is_done()));
    });
}

/// CB-26: no time at all is enough for what needs none.
#[test]
fn timeout_of_zero() {
    same("timeout_of_zero", |el, log| {
        let own = log.clone();
        let at_once = async move {
            timeout(Duration::ZERO, async { own.push("result") }).await.unwrap();
        };
        let tasks = [el.create_task(at_once), el.create_task(limited(log, "sleep", 0, 1000))];
        for _ in 0..4 {
            turn(el);
        }
        yes(log, "all done", tasks.iter().all(|task| task.is_done()));
    });
}

/// CB-37: of two timeouts around one future, the one that is over first ends its own.
#[test]
fn nested_timeouts() {
    timed("nested_timeouts", |el, log, clock| {
        let nested = |name: &'static str, outer: u32, inner: u32| {
            let own = log.clone();
            el.create_task(async move {
                let body = async {
                    limited(&own, name, inner, 1000).await;
                    own.push(format!("{name} goes on"));
                };
                if timeout(outer * SECOND, body).await.is_err() {
                    own.push(format!("{name} outer timed out"));
                }
            })
        };
        let tasks = [nested("inner first", 3, 1), nested("outer first", 2, 1000)];
        turn(el);
        for _ in 0..3 {
            log.push("-- advance");
            clock.advance(SECOND);
            for _ in 0..4 {
                turn(el);
            }
        }
        yes(log, "all done", tasks.iter().all(|task| task.is_done()));
    });
}

/// TM-01: a timer's callback that completes a future wakes the awaiting task in the next turn.
#[test]
fn timer_turned_into_a_wake_up() {
    timed("timer_turned_into_a_wake_up", |el, log, clock| {
        let future = el.create_future();
        let (own, waited) = (log.clone(), future.clone());
        let task = el.create_task(async move {
            own.push(waited.await.unwrap());
            yield_now().await;
        });
        el.call_later(SECOND, move || future.set_result("set by a timer").unwrap());
        el.call_later(2 * SECOND, log.entry("timer"));
        turns(el, log, 1);
        clock.advance(3 * SECOND);
        turns(el, log, 3);
        yes(log, "done", task.is_done());
    });
}

/// CB-27: a timeout around a task leaves the task running.
#[test]
fn timeout_of_a_task() {
    let here = ["-- advance", "timed out", "-- advance", "-- advance", "task dropped", "-- advance", "done yes"];
    differs("timeout_of_a_task", "cancel-reaches-one-task", &here, |el, log, clock| {
        let task = el.create_task(guarded(log, "task", 3));
        let own = log.clone();
        let waiting = el.create_task(async move {
            if timeout(SECOND, task).await.is_err() {
                own.push("timed out");
            }
        });
        for _ in 0..4 {
            for _ in 0..4 {
                turn(el);
            }
            log.push("-- advance");
            clock.advance(SECOND);
        }
        for _ in 0..4 {
            turn(el);
        }
        yes(log, "done", waiting.is_done());
    });
}

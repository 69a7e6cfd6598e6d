//! Futures that somebody completes.

use std::error::Error;

use roundelay::{FutureError, InvalidState, LoopFuture};

use crate::common::Log;
use crate::oracle::same;
use crate::support::{fail, trace_reports, turns, yes};

/// CS-14, FU-14, P8: awaiting a done future takes no turn.
#[test]
fn awaiting_a_done_future_takes_no_turn() {
    same("awaiting_a_done_future_takes_no_turn", |el, log| {
        let done = el.create_future();
        done.set_result("value").unwrap();
        let own = log.clone();
        let task = el.create_task(async move {
            own.push("begins");
            own.push(done.clone().await.unwrap());
            own.push(done.await.unwrap());
        });
        turns(el, log, 2);
        yes(log, "done", task.is_done());
    });
}

/// FU-08, FU-10, P10: done callbacks run a turn after completion, in order.
#[test]
fn done_callbacks_of_a_future() {
    same("done_callbacks_of_a_future", |el, log| {
        let future = el.create_future();
        let own = log.clone();
        future.add_done_callback(move |future| {
            own.push(format!("first {}", future.result().unwrap()));
            future.add_done_callback(move |_| own.push("added meanwhile"));
        });
        let told = |text: &'static str| {
            let own = log.clone();
            move |_: &LoopFuture<&str>| own.push(text)
        };
        future.add_done_callback(told("second"));
        future.set_result("value").unwrap();
        el.call_soon(log.entry("soon"));
        future.add_done_callback(told("late"));
        turns(el, log, 2);
    });
}

/// FU-11, P7: a done callback that fails is reported, and the next one runs.
#[test]
fn failing_done_callback() {
    same("failing_done_callback", |el, log| {
        trace_reports(el, log);
        let future = el.create_future();
        future.add_done_callback(|_| fail());
        let own = log.clone();
        future.add_done_callback(move |_| own.push("second"));
        future.set_result(()).unwrap();
        turns(el, log, 1);
    });
}

/// FU-09, FU-10: a done callback can be taken back until the future is done.
#[test]
fn removed_done_callbacks() {
    same("removed_done_callbacks", |el, log| {
        let future = el.create_future();
        let told = |text: &'static str| {
            let own = log.clone();
            move |_: &LoopFuture<()>| own.push(text)
        };
        let last = std::rc::Rc::new(std::cell::Cell::new(None));
        let (own, known) = (log.clone(), last.clone());
        future.add_done_callback(move |future| {
            own.push("a");
            // It is on its way already.
            yes(&own, "removed", future.remove_done_callback(known.get().unwrap()));
        });
        let middle = future.add_done_callback(told("b"));
        last.set(Some(future.add_done_callback(told("c"))));
        yes(log, "removed", future.remove_done_callback(middle));
        yes(log, "removed again", future.remove_done_callback(middle));
        future.set_result(()).unwrap();
        turns(el, log, 1);
    });
}

/// FU-14: several awaiters go on in the order in which they came.
#[test]
fn awaiters_of_a_future() {
    same("awaiters_of_a_future", |el, log| {
        let future = el.create_future();
        let tasks = ["x", "y", "z"].map(|name| {
            let (own, waited) = (log.clone(), future.clone());
            el.create_task(async move {
                own.push(format!("{name} waits"));
                own.push(format!("{name} {}", waited.await.unwrap()));
            })
        });
        turns(el, log, 1);
        el.call_soon(log.entry("before"));
        future.set_result("value").unwrap();
        el.call_soon(log.entry("after"));
        turns(el, log, 2);
        yes(log, "all done", tasks.iter().all(|task| task.is_done()));
    });
}

/// FU-08: awaiters and done callbacks are told in one order, that in which they came.
#[test]
fn awaiters_and_callbacks_of_a_future() {
    same("awaiters_and_callbacks_of_a_future", |el, log| {
        let future = el.create_future();
        let wait = |text: &'static str| {
            let (own, waited) = (log.clone(), future.clone());
            el.create_task(async move {
                waited.await.unwrap();
                own.push(text);
            })
        };
        let told = |text: &'static str| {
            let own = log.clone();
            move |_: &LoopFuture<()>| own.push(text)
        };
        future.add_done_callback(told("callback 1"));
        let first = wait("task 1");
        turns(el, log, 1);
        future.add_done_callback(told("callback 2"));
        let second = wait("task 2");
        turns(el, log, 1);
        future.add_done_callback(told("callback 3"));
        future.set_result(()).unwrap();
        turns(el, log, 1);
        yes(log, "all done", first.is_done() && second.is_done());
    });
}

/// FU-01 to FU-05: what each state allows.
#[test]
fn states_of_a_future() {
    same("states_of_a_future", |el, log| {
        let set = |log: &Log, what: &str, result: Result<(), InvalidState>| {
            log.push(format!("{what} {}", if result.is_ok() { "taken" } else { "refused" }));
        };
        let result = |log: &Log, future: &LoopFuture<&str>| {
            let said = match future.result() {
                Ok(_) => "taken",
                Err(FutureError::Cancelled) => "cancelled",
                Err(FutureError::Exception(_)) => "error",
                Err(_) => "refused",
            };
            log.push(format!("result {said}"));
        };
        let examine = |name: &str, future: &LoopFuture<&'static str>| {
            log.push(name);
            yes(log, "done", future.is_done());
            yes(log, "cancelled", future.is_cancelled());
            result(log, future);
            set(log, "set_result", future.set_result("other"));
            set(log, "set_exception", future.set_exception("other"));
            yes(log, "cancel", future.cancel());
            result(log, future);
        };
        let [with_result, with_error, cancelled, pending] = [(); 4].map(|()| el.create_future());
        with_result.set_result("value").unwrap();
        with_error.set_exception("on purpose").unwrap();
        yes(log, "cancel", cancelled.cancel());
        examine("result", &with_result);
        examine("error", &with_error);
        examine("cancelled", &cancelled);
        yes(log, "done", pending.is_done());
        result(log, &pending);
    });
}

/// FU-03, FU-04, TK-17: an awaiter hears of an error and of a cancellation.
#[test]
fn awaiting_what_ends_badly() {
    same("awaiting_what_ends_badly", |el, log| {
        let futures = [el.create_future::<()>(), el.create_future()];
        let tasks = futures.clone().map(|waited| {
            let own = log.clone();
            el.create_task(async move {
                match waited.await {
                    Err(FutureError::Exception(_)) => own.push("error gives an error"),
                    Err(FutureError::Cancelled) => own.push("cancelled is cancelled"),
                    _ => own.push("not reached"),
                }
            })
        });
        turns(el, log, 1);
        futures[1].cancel();
        futures[0].set_exception("on purpose").unwrap();
        turns(el, log, 1);
        yes(log, "all done", tasks.iter().all(|task| task.is_done()));
    });
}

/// FU-12, FU-13: an error that nobody has seen is reported when the future goes.
#[test]
fn error_of_a_future_that_nobody_sees() {
    same("error_of_a_future_that_nobody_sees", |el, log| {
        trace_reports(el, log);
        let [seen, unseen, cancelled] = [(); 3].map(|()| el.create_future::<()>());
        for future in [&seen, &unseen, &cancelled] {
            future.set_exception(Box::<dyn Error>::from("on purpose")).unwrap();
        }
        seen.exception().unwrap();
        cancelled.cancel();
        for (future, name) in [(seen, "seen"), (unseen, "unseen"), (cancelled, "cancelled")] {
            log.push(name);
            drop(future);
        }
        log.push("end");
    });
}

//! Tasks.

use futures::FutureExt;
use roundelay::{ContextVar, Outcome, get_running_loop, sleep, yield_now};

use crate::bodies::told;
use crate::common::Log;
use crate::oracle::{differs, same, timed};
use crate::support::{Guard, SECOND, fail, trace_reports, turn, turns, yes};

/// TK-01: a task starts in the next turn, in its place among the callbacks.
#[test]
fn tasks_start_in_order() {
    same("tasks_start_in_order", |el, log| {
        let body = |name: &'static str| {
            let own = log.clone();
            async move { own.push(format!("task {name}")) }
        };
        el.call_soon(log.entry("a"));
        drop(el.create_task(body("x")));
        el.call_soon(log.entry("b"));
        drop(el.create_task(body("y")));
        log.push("made");
        turns(el, log, 2);
    });
}

/// CS-13: tasks that yield take turns.
#[test]
fn yielding_tasks_take_turns() {
    same("yielding_tasks_take_turns", |el, log| {
        let tasks = [("x", 3), ("y", 1), ("z", 2)].map(|(name, count)| {
            let own = log.clone();
            el.create_task(async move {
                for number in 0..count {
                    own.push(format!("{name} {number}"));
                    yield_now().await;
                }
                own.push(format!("{name} ends"));
            })
        });
        let (handle, own) = (el.clone(), log.clone());
        el.call_soon(move || {
            own.push("soon");
            handle.call_soon(own.entry("soon too"));
        });
        turns(el, log, 4);
        yes(log, "all done", tasks.iter().all(|task| task.is_done()));
    });
}

/// CS-14, P8: awaiting a fresh task takes two turns.
#[test]
fn awaiting_a_fresh_task_takes_two_turns() {
    same("awaiting_a_fresh_task_takes_two_turns", |el, log| {
        let (handle, own) = (el.clone(), log.clone());
        let task = el.create_task(async move {
            own.push("begins");
            let child = own.clone();
            let value = handle.create_task(async move {
                child.push("child");
                "value"
            });
            own.push(value.await.unwrap());
        });
        turns(el, log, 4);
        yes(log, "done", task.is_done());
    });
}

fn link(log: Log, below: u32) -> std::pin::Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(async move {
        if below > 0 {
            roundelay::spawn(link(log.clone(), below - 1)).await.unwrap();
        }
        log.push(format!("link {below}"));
    })
}

/// CS-14: a chain of tasks unwinds by one link a turn.
#[test]
fn chain_of_tasks() {
    same("chain_of_tasks", |el, log| {
        let task = el.create_task(link(log.clone(), 3));
        turns(el, log, 8);
        yes(log, "done", task.is_done());
    });
}

/// CS-14: awaiting a task that is done takes no turn.
#[test]
fn awaiting_a_task_that_is_done() {
    same("awaiting_a_task_that_is_done", |el, log| {
        let child = el.create_task(async { "value" });
        let own = log.clone();
        let task = el.create_task(async move {
            yield_now().await;
            yield_now().await;
            yes(&own, "child done", child.is_done());
            own.push(child.await.unwrap());
        });
        turns(el, log, 3);
        yes(log, "done", task.is_done());
    });
}

/// FU-08, TK-09: done callbacks of tasks run in the turn after the end, in order, whichever way the task ends.
#[test]
fn done_callbacks_of_tasks() {
    same("done_callbacks_of_tasks", |el, log| {
        let told = |name: &'static str| {
            let (handle, own) = (el.clone(), log.clone());
            move |outcome| match outcome {
                Outcome::Cancelled => own.push(format!("{name} was cancelled")),
                Outcome::Panicked => own.push(format!("{name} has failed")),
                _ => {
                    own.push(format!("{name} is done"));
                    handle.call_soon(own.entry("soon"));
                }
            }
        };
        let tasks = ["failing", "good", "cancelled"].map(|name| {
            let own = log.clone();
            let task = el.create_task(async move {
                yield_now().await;
                own.push(format!("{name} ends"));
                if name == "failing" {
                    fail();
                }
            });
            task.add_done_callback(told(name));
            let own = log.clone();
            task.add_done_callback(move |_| own.push(format!("{name} again")));
            task
        });
        turns(el, log, 1);
        tasks[2].cancel();
        turns(el, log, 3);
        tasks[1].add_done_callback(told("good, late"));
        turns(el, log, 1);
        let [failing, ..] = tasks;
        failing.now_or_never().unwrap().unwrap_err();
    });
}

/// FU-08: whoever awaits a task hears of its end in one order with its done callbacks.
#[test]
fn awaiter_after_callbacks_of_a_task() {
    same("awaiter_after_callbacks_of_a_task", |el, log| {
        let own = log.clone();
        let task = el.create_task(async move {
            yield_now().await;
            own.push("child ends");
        });
        for text in ["callback 1", "callback 2"] {
            let own = log.clone();
            task.add_done_callback(move |_| own.push(text));
        }
        let own = log.clone();
        let waiter = el.create_task(async move {
            task.await.unwrap();
            own.push("awaiter");
        });
        turns(el, log, 3);
        yes(log, "done", waiter.is_done());
    });
}

/// TK-08, P11: a task that is cancelled before its start never runs, and ends in its turn.
#[test]
fn cancel_before_the_start() {
    same("cancel_before_the_start", |el, log| {
        let own = log.clone();
        let task = el.create_task(async move { own.push("not reached") });
        task.add_done_callback(told(log, "task"));
        yes(log, "cancel", task.cancel());
        yes(log, "done", task.is_done());
        turns(el, log, 2);
        yes(log, "done", task.is_done());
        yes(log, "cancel", task.cancel());
    });
}

/// TK-09, TK-10, TK-19, CB-03: a sleeping task is left in the turn after the call; its end is told in the next one.
#[test]
fn cancel_of_a_sleeping_task() {
    same("cancel_of_a_sleeping_task", |el, log| {
        let guard = Guard::new(log, "body", "is left");
        let own = log.clone();
        let task = el.create_task(async move {
            let _guard = guard;
            sleep(1000 * SECOND).await;
            own.push("not reached");
        });
        task.add_done_callback(told(log, "task"));
        let canceller = task.canceller();
        let own = log.clone();
        let waiter = el.create_task(async move {
            assert!(task.await.unwrap_err().is_cancelled());
            own.push("awaiter hears of it");
        });
        turns(el, log, 1);
        el.call_soon(log.entry("before"));
        yes(log, "cancel", canceller.cancel());
        yes(log, "cancel twice", canceller.cancel());
        yes(log, "done", waiter.is_done());
        el.call_soon(log.entry("after"));
        turns(el, log, 3);
        yes(log, "done", waiter.is_done());
        yes(log, "cancel when done", canceller.cancel());
    });
}

/// CB-04: a timer that cancels a task.
#[test]
fn cancel_from_a_timer() {
    timed("cancel_from_a_timer", |el, log, clock| {
        let guard = Guard::new(log, "body", "is left");
        let task = el.create_task(async move {
            let _guard = guard;
            sleep(1000 * SECOND).await;
        });
        task.add_done_callback(told(log, "task"));
        turns(el, log, 1);
        let canceller = task.canceller();
        el.call_later(SECOND, move || canceller.cancel());
        el.call_later(2 * SECOND, log.entry("later timer"));
        clock.advance(3 * SECOND);
        turns(el, log, 3);
    });
}

/// TK-18: what a task waited for is there, but it was cancelled in the same turn.
#[test]
fn cancel_of_a_task_that_is_ready() {
    same("cancel_of_a_task_that_is_ready", |el, log| {
        let future = el.create_future();
        let (own, waited) = (log.clone(), future.clone());
        let task = el.create_task(async move {
            let _guard = Guard::new(&own, "body", "is left");
            waited.await.unwrap();
            own.push("not reached");
        });
        task.add_done_callback(told(log, "task"));
        turns(el, log, 1);
        future.set_result(()).unwrap();
        yes(log, "cancel", task.cancel());
        turns(el, log, 2);
    });
}

/// TK-14, TK-15: a task that cancels itself goes on to its next await; without one its result is lost.
#[test]
fn cancel_of_itself() {
    same("cancel_of_itself", |el, log| {
        let tasks = ["x", "y"].map(|name| {
            let own = log.clone();
            let task = el.create_task(async move {
                let _guard = Guard::new(&own, name, "is left");
                let current = get_running_loop().unwrap().current_task().unwrap();
                yes(&own, "cancel", current.cancel());
                own.push(format!("{name} goes on"));
                if name == "y" {
                    yield_now().await;
                    own.push("not reached");
                }
                own.push(format!("{name} ends"));
            });
            task.add_done_callback(told(log, name));
            task
        });
        turns(el, log, 4);
        assert!(tasks.iter().all(|task| task.is_cancelled()));
    });
}

/// TK-16: cancelling who awaits leaves alone what is awaited.
#[test]
fn cancel_of_what_is_awaited() {
    let here = [
        "-- turn 1",
        "-- turn 2",
        "-- turn 1",
        "parent is left",
        "-- turn 2",
        "-- turn 3",
        "-- turn 4",
        "outer cancelled yes",
        "inner cancelled no",
        "future cancelled no",
        "child is left",
    ];
    differs("cancel_of_what_is_awaited", "cancel-reaches-one-task", &here, |el, log, _| {
        let future = el.create_future::<()>();
        let (own, waited) = (log.clone(), future.clone());
        let inner = el.create_task(async move {
            let _guard = Guard::new(&own, "child", "is left");
            waited.await.unwrap();
        });
        let inner_state = inner.canceller();
        let guard = Guard::new(log, "parent", "is left");
        let outer = el.create_task(async move {
            let _guard = guard;
            inner.await.unwrap();
        });
        turns(el, log, 2);
        outer.cancel();
        turns(el, log, 4);
        yes(log, "outer cancelled", outer.is_cancelled());
        // It can be cancelled still where it was not.
        yes(log, "inner cancelled", !inner_state.cancel());
        yes(log, "future cancelled", future.is_cancelled());
    });
}

/// CB-13: who awaits a failing task hears of it, and nobody else.
#[test]
fn failing_task_that_is_awaited() {
    same("failing_task_that_is_awaited", |el, log| {
        trace_reports(el, log);
        let child = el.create_task(async {
            yield_now().await;
            fail();
        });
        let own = log.clone();
        let waiter = el.create_task(async move {
            assert!(child.await.unwrap_err().is_panic());
            own.push("awaiter hears of it");
        });
        el.call_soon(log.entry("soon"));
        turns(el, log, 4);
        yes(log, "done", waiter.is_done());
    });
}

/// EH-07: a failure that nobody can hear of any more is reported at once.
#[test]
fn failing_task_that_nobody_awaits() {
    same("failing_task_that_nobody_awaits", |el, log| {
        trace_reports(el, log);
        let body = |name: &'static str| {
            let own = log.clone();
            async move {
                own.push(name);
                yield_now().await;
                own.push(format!("{name} fails"));
                fail();
            }
        };
        drop(el.create_task(body("forgotten")));
        let kept = el.create_task(body("kept"));
        turn(el);
        el.call_soon(log.entry("soon"));
        turns(el, log, 2);
        log.push("let go");
        drop(kept);
        log.push("end");
    });
}

/// CX-01, CX-02, CX-04: callbacks and tasks run in a copy of the context they were made in.
#[test]
fn contexts_are_copied() {
    same("contexts_are_copied", |el, log| {
        static VARIABLE: ContextVar<&str> = ContextVar::with_default("variable", || "default");
        let say = |log: &Log, who: &str| log.push(format!("{who} {}", VARIABLE.get().unwrap()));
        let (handle, own) = (el.clone(), log.clone());
        el.call_soon(|| drop(VARIABLE.set("callback's")));
        let task = el.create_task(async move {
            drop(VARIABLE.set("parent's"));
            let (inner, child) = (handle.clone(), own.clone());
            let task = handle.create_task(async move {
                say(&child, "child");
                drop(VARIABLE.set("child's"));
                yield_now().await;
                say(&child, "child");
                inner.call_soon(move || say(&child, "child's callback"));
            });
            drop(VARIABLE.set("parent's second"));
            let future = handle.create_future();
            let told = own.clone();
            future.add_done_callback(move |_| say(&told, "done callback"));
            drop(VARIABLE.set("parent's third"));
            handle.call_soon(move || future.set_result(()).unwrap());
            task.await.unwrap();
            say(&own, "parent");
        });
        turns(el, log, 6);
        say(log, "outside");
        yes(log, "done", task.is_done());
    });
}

/// TK-02, TK-04, TK-06: who is current, who is live, and what they are called.
#[test]
fn who_is_current() {
    same("who_is_current", |el, log| {
        let say = |log: &Log, place: &str| {
            let current = get_running_loop().ok().and_then(|el| el.current_task());
            log.push(format!("{place} {}", current.map_or("none".into(), |task| task.name.to_string())));
        };
        let live = |el: &roundelay::EventLoop| {
            let mut names: Vec<String> = el.all_tasks().iter().map(|task| task.name.to_string()).collect();
            names.sort();
            format!("live: {}", names.join(" "))
        };
        say(log, "outside");
        let tasks = ["x", "y"].map(|name| {
            let (own, handle) = (log.clone(), el.clone());
            el.task_builder().name(name).spawn(async move {
                say(&own, name);
                yield_now().await;
                say(&own, name);
                own.push(live(&handle));
            })
        });
        let own = log.clone();
        el.call_soon(move || say(&own, "callback"));
        turns(el, log, 2);
        tasks[0].set_name("z");
        log.push(format!("{} {}", tasks[0].name(), live(el)));
    });
}

/// TK-27: dropping the handle detaches.
#[test]
fn task_that_goes_on_without_a_handle() {
    same("task_that_goes_on_without_a_handle", |el, log| {
        let own = log.clone();
        drop(el.create_task(async move {
            for number in 0..3 {
                own.push(format!("step {number}"));
                yield_now().await;
            }
        }));
        turns(el, log, 4);
    });
}

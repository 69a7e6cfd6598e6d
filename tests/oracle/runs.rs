//! Runs of the loop: how they end, and what is left.

use std::panic::{AssertUnwindSafe, catch_unwind};

use roundelay::yield_now;

use crate::oracle::{differs, same};
use crate::order::SharedLog;
use crate::support::{
    SECOND, add_reader, fail, fail_fatally, line, remove_reader, socket_pair, trace_reports, turn, turns, yes,
};

/// LR-08, P1: the batch in which `stop` was called runs to its end, and what it schedules waits for the next run.
#[test]
fn stop_lets_the_batch_finish() {
    same("stop_lets_the_batch_finish", |el, log| {
        let (handle, own) = (el.clone(), log.clone());
        el.call_soon(move || {
            own.push("stop");
            handle.stop();
            handle.call_soon(own.entry("late"));
        });
        el.call_soon(log.entry("after"));
        el.run_forever();
        log.push("returned");
        turn(el);
        log.push("returned");
    });
}

/// LR-09, LR-11, LR-30, P2: a loop that was stopped before makes one turn, timers and descriptors included.
#[test]
fn stop_before_run() {
    same("stop_before_run", |el, log| {
        let (own, peer) = socket_pair();
        peer.send(b"x");
        add_reader(el, &own, line(log, "reader"));
        let (handle, nested) = (el.clone(), log.entry("nested"));
        el.call_soon(move || drop(handle.call_soon(nested)));
        el.call_at(el.time() - SECOND, log.entry("timer"));
        el.stop();
        el.run_forever();
        log.push("returned");
        remove_reader(el, &own);
        let handle = el.clone();
        el.call_soon(move || handle.stop());
        el.run_forever();
        log.push("returned");
    });
}

/// LR-11: two calls of `stop` end one run.
#[test]
fn stop_counts_once() {
    same("stop_counts_once", |el, log| {
        for _ in 0..2 {
            let handle = el.clone();
            el.call_soon(move || handle.stop());
        }
        el.call_at(el.time() - SECOND, log.entry("timer"));
        let (handle, own) = (el.clone(), log.clone());
        el.call_soon(move || {
            let inner = handle.clone();
            handle.call_soon(move || {
                own.push("second turn");
                inner.stop();
            });
        });
        el.run_forever();
        log.push("returned");
        el.run_forever();
        log.push("returned");
    });
}

/// LR-08, LR-10: `stop` from a reader or a timer ends the run after the batch, too.
#[test]
fn stop_by_reader_and_by_timer() {
    same("stop_by_reader_and_by_timer", |el, log| {
        let (own, peer) = socket_pair();
        peer.send(b"x");
        let stopping = |name: &'static str| {
            let (handle, own) = (el.clone(), log.clone());
            move || {
                own.push(name);
                handle.stop();
                handle.call_soon(own.entry(format!("after {name}")));
            }
        };
        add_reader(el, &own, stopping("reader"));
        el.call_at(el.time() - SECOND, stopping("timer"));
        el.run_forever();
        log.push("returned");
        remove_reader(el, &own);
        turn(el);
    });
}

/// LR-22: running within callbacks only.
#[test]
fn running_or_not() {
    same("running_or_not", |el, log| {
        yes(log, "before", el.is_running());
        let (handle, own) = (el.clone(), log.clone());
        el.call_soon(move || yes(&own, "within", handle.is_running()));
        turn(el);
        yes(log, "after", el.is_running());
        el.close();
        yes(log, "closed", el.is_closed());
    });
}

/// LR-16, LR-17: a fatal error leaves the run at once and unreported; the rest of the batch waits for the next one.
#[test]
fn fatal_error_leaves_the_batch() {
    same("fatal_error_leaves_the_batch", |el, log| {
        trace_reports(el, log);
        el.call_soon(log.entry("a"));
        let (handle, own) = (el.clone(), log.clone());
        el.call_soon(move || {
            own.push("fatal");
            handle.call_soon(own.entry("after"));
            fail_fatally();
        });
        el.call_soon(log.entry("b"));
        if catch_unwind(AssertUnwindSafe(|| el.run_forever())).is_err() {
            log.push("escaped");
        }
        yes(log, "running", el.is_running());
        turns(el, log, 2);
    });
}

/// LR-14, LR-29: what was scheduled by the end of the future still runs, and what that schedules waits.
#[test]
fn what_is_left_at_the_end_of_a_run() {
    same("what_is_left_at_the_end_of_a_run", |el, log| {
        el.run_until_complete(async {
            log.push("main");
            let (handle, own) = (el.clone(), log.clone());
            el.call_soon(move || {
                own.push("soon");
                handle.call_soon(own.entry("second"));
            });
        })
        .unwrap();
        log.push("returned");
        turns(el, log, 1);
    });
}

/// LR-29: so do timers that are due and descriptors that are ready.
#[test]
fn timers_and_io_at_the_end_of_a_run() {
    same("timers_and_io_at_the_end_of_a_run", |el, log| {
        let (own, peer) = socket_pair();
        peer.send(b"x");
        el.run_until_complete(async {
            let (handle, trace, own2) = (el.clone(), log.clone(), own.clone());
            add_reader(el, &own, move || {
                trace.push("reader");
                remove_reader(&handle, &own2);
                handle.call_soon(trace.entry("after reader"));
            });
            el.call_at(el.time() - SECOND, log.entry("timer"));
            el.call_later(1000 * SECOND, log.entry("never"));
            log.push("main");
        })
        .unwrap();
        log.push("returned");
        turns(el, log, 1);
    });
}

/// LR-29: so do descriptors alone.
#[test]
fn io_at_the_end_of_a_run() {
    same("io_at_the_end_of_a_run", |el, log| {
        let (own, peer) = socket_pair();
        peer.send(b"x");
        el.run_until_complete(async {
            let (handle, trace, watched) = (el.clone(), log.clone(), own.clone());
            add_reader(el, &own, move || {
                trace.push("reader");
                remove_reader(&handle, &watched);
            });
            log.push("main");
        })
        .unwrap();
        log.push("returned");
        turns(el, log, 1);
    });
}

/// LR-29: tasks that are left go on in the next run.
#[test]
fn tasks_left_at_the_end_of_a_run() {
    same("tasks_left_at_the_end_of_a_run", |el, log| {
        let endless = |name: &'static str| {
            let own = log.clone();
            async move {
                for number in 1.. {
                    own.push(format!("{name} {number}"));
                    yield_now().await;
                }
            }
        };
        el.run_until_complete(async {
            drop(el.create_task(endless("x")));
            yield_now().await;
            drop(el.create_task(endless("y")));
            log.push("main ends");
        })
        .unwrap();
        log.push("returned");
        turns(el, log, 2);
    });
}

/// LR-13: a run that is stopped leaves the task pending, and a later one goes on with it.
#[test]
fn stopped_and_resumed() {
    same("stopped_and_resumed", |el, log| {
        let (handle, own) = (el.clone(), log.clone());
        let mut task = el.create_task(async move {
            own.push("begins");
            handle.stop();
            yield_now().await;
            own.push("goes on");
            yield_now().await;
            "result"
        });
        if el.run_until_complete(&mut task).is_err() {
            log.push("stopped");
        }
        yes(log, "done", task.is_done());
        log.push(el.run_until_complete(async { (&mut task).await }).unwrap().unwrap());
    });
}

/// LR-29: a future that is run itself, and not awaited by another, returns one turn later than on asyncio.
#[test]
fn run_until_complete_of_a_future() {
    let here = ["soon", "second", "third", "result", "-- turn 1", "-- turn 2"];
    differs("run_until_complete_of_a_future", "one-future-that-is-run", &here, |el, log, _| {
        let future = el.create_future();
        let (handle, setter, own) = (el.clone(), future.clone(), log.clone());
        let chain = move || {
            own.push("soon");
            setter.set_result("result").unwrap();
            let (inner, second) = (handle.clone(), own.clone());
            handle.call_soon(move || {
                second.push("second");
                inner.call_soon(second.entry("third"));
            });
        };
        let handle = el.clone();
        el.call_soon(move || drop(handle.call_soon(chain)));
        log.push(el.run_until_complete(future).unwrap().unwrap());
        turns(el, log, 2);
    });
}

/// LR-01, LR-05: closing, twice, runs nothing.
#[test]
fn close_discards_what_waits() {
    same("close_discards_what_waits", |el, log| {
        let shared = SharedLog::default();
        el.call_soon(shared.entry("soon"));
        el.call_at(el.time() - SECOND, shared.entry("timer"));
        drop(el.call_soon_threadsafe(shared.entry("posted")).unwrap());
        el.close();
        el.close();
        shared.turns(el, log, 0);
        yes(log, "closed", el.is_closed());
    });
}

/// LR-02: a closed loop drops callbacks and tells the handler; the calls that return a result refuse.
#[test]
fn scheduled_on_a_closed_loop() {
    let here = ["reported EventLoop::call_soon(): event loop is closed", "refused", "end"];
    differs("scheduled_on_a_closed_loop", "scheduling-on-a-closed-loop", &here, |el, log, _| {
        trace_reports(el, log);
        el.close();
        el.call_soon(log.entry("soon"));
        if el.call_soon_threadsafe(|| ()).is_err() {
            log.push("refused");
        }
        el.create_future().set_result(()).unwrap();
        log.push("end");
    });
}

/// LR-12, LR-29: a future that fails ends the run as one that does not, and then the failure comes out.
#[test]
fn failing_main() {
    same("failing_main", |el, log| {
        let (handle, beside) = (el.clone(), log.entry("beside"));
        el.call_soon(move || drop(handle.call_soon(beside)));
        let main = async {
            log.push("main");
            let (handle, own) = (el.clone(), log.clone());
            el.call_soon(move || {
                own.push("soon");
                handle.call_soon(own.entry("second"));
            });
            fail();
        };
        if catch_unwind(AssertUnwindSafe(|| el.run_until_complete(main))).is_err() {
            log.push("error");
        }
        yes(log, "running", el.is_running());
        turns(el, log, 1);
    });
}

/// LR-13: a future that is done in the turn in which the loop is stopped gives its result.
#[test]
fn stopped_when_done() {
    same("stopped_when_done", |el, log| {
        let result = el.run_until_complete(async {
            el.call_soon(log.entry("soon"));
            el.stop();
            "result"
        });
        log.push(result.unwrap());
    });
}

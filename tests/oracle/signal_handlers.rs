//! Signal handlers, by the turn.

use roundelay::SignalKind;

use crate::common::Log;
use crate::dispositions::{DEFAULT, disposition, raise, wait_until_asleep};
use crate::oracle::{differs, same, timed};
use crate::support::{SECOND, fail, line, trace_reports, turn, turns, yes};

const USR1: SignalKind = SignalKind::user_defined1();
const USR2: SignalKind = SignalKind::user_defined2();
const WINCH: SignalKind = SignalKind::window_change();

fn some_turns(el: &roundelay::EventLoop, count: usize) {
    (0..count).for_each(|_| turn(el));
}

fn add(el: &roundelay::EventLoop, kind: SignalKind, callback: impl FnMut() + 'static) {
    el.add_signal_handler(kind, callback).unwrap();
}

/// A handler for each of three signals.
fn add_three(el: &roundelay::EventLoop, log: &Log) {
    for kind in [USR1, WINCH, USR2] {
        let own = log.clone();
        add(el, kind, move || own.push(kind.to_string()));
    }
}

/// SG-01: a handler is a callback, which waits for the batch that runs and for what is due.
#[test]
fn signal_among_callbacks_and_timers() {
    timed("signal_among_callbacks_and_timers", |el, log, clock| {
        let (own, handle) = (log.clone(), el.clone());
        add(el, USR1, move || {
            own.push("handler");
            handle.call_soon(own.entry("scheduled by the handler"));
        });
        let own = log.clone();
        el.call_later(SECOND, log.entry("timer"));
        clock.advance(2 * SECOND);
        el.call_soon(move || {
            raise(USR1);
            own.push("raised");
        });
        el.call_soon(log.entry("beside"));
        some_turns(el, 5);
        log.push("end");
    });
}

/// SG-01: the turn in which a handler is called.
#[test]
fn signal_turn_by_turn() {
    timed("signal_turn_by_turn", |el, log, clock| {
        add(el, USR1, line(log, "handler"));
        raise(USR1);
        let (own, handle) = (log.clone(), el.clone());
        el.call_later(SECOND, move || {
            own.push("timer");
            handle.call_soon(own.entry("soon"));
        });
        clock.advance(2 * SECOND);
        el.call_soon(log.entry("before"));
        turns(el, log, 3);
    });
}

/// SG-01: several signals, in the order in which they came, which is that of their numbers.
#[test]
fn signals_sent_in_order() {
    same("signals_sent_in_order", |el, log| {
        add_three(el, log);
        [USR1, USR2, WINCH].into_iter().for_each(raise);
        some_turns(el, 4);
    });
}

/// SG-01: several signals in another order, and one of them twice.
#[test]
fn signals_out_of_order() {
    same("signals_out_of_order", |el, log| {
        add_three(el, log);
        [WINCH, USR2, USR1, WINCH].into_iter().for_each(raise);
        some_turns(el, 4);
    });
}

/// SG-02, P32: of two signals the new handler hears, twice.
#[test]
fn handler_of_a_signal_is_replaced() {
    same("handler_of_a_signal_is_replaced", |el, log| {
        add(el, USR1, line(log, "old"));
        add(el, USR1, line(log, "new"));
        [USR1, USR1].into_iter().for_each(raise);
        some_turns(el, 4);
        yes(log, "removed", el.remove_signal_handler(USR1));
    });
}

/// SG-11, SG-15: a handler that removes that of another signal which has come, too.
#[test]
fn handler_removes_another() {
    let here = ["removing", "removed yes"];
    differs("handler_removes_another", "removed-signal-handlers", &here, |el, log, _| {
        add(el, USR2, line(log, "not reached"));
        let (own, handle) = (log.clone(), el.clone());
        add(el, USR1, move || {
            own.push("removing");
            yes(&own, "removed", handle.remove_signal_handler(USR2));
        });
        [USR1, USR2].into_iter().for_each(raise);
        some_turns(el, 4);
    });
}

/// SG-11: a handler that removes itself has heard of the signal once.
#[test]
fn handler_removes_itself() {
    same("handler_removes_itself", |el, log| {
        let (own, handle) = (log.clone(), el.clone());
        add(el, WINCH, move || {
            own.push("once");
            handle.remove_signal_handler(WINCH);
        });
        for _ in 0..2 {
            // Window changes are ignored where nobody handles them.
            raise(WINCH);
            some_turns(el, 4);
        }
    });
}

/// SG-03: removing says whether there was a handler.
#[test]
fn handlers_are_removed_twice() {
    same("handlers_are_removed_twice", |el, log| {
        yes(log, "never added", el.remove_signal_handler(USR1));
        yes(log, "one that cannot be", el.remove_signal_handler(libc::SIGKILL));
        add(el, USR1, line(log, "not reached"));
        yes(log, "another one", el.remove_signal_handler(USR2));
        yes(log, "removed", el.remove_signal_handler(USR1));
        yes(log, "removed again", el.remove_signal_handler(USR1));
    });
}

/// SG-04: what is no signal, and what cannot be caught, is refused.
#[test]
fn signals_that_cannot_be_handled() {
    same("signals_that_cannot_be_handled", |el, log| {
        for number in [0, -1, 65, 1000, libc::SIGKILL, libc::SIGSTOP] {
            let error = el.add_signal_handler(number, line(log, "not reached")).unwrap_err().to_string();
            let why = if error.contains("is not a valid signal number") { "is not valid" } else { "cannot be caught" };
            log.push(format!("{number} {why}"));
        }
    });
}

/// SG-01, SG-18: a signal wakes a loop that waits, in the first run and in the second.
#[test]
fn signal_while_the_loop_waits() {
    same("signal_while_the_loop_waits", |el, log| {
        let (own, handle) = (log.clone(), el.clone());
        add(el, USR1, move || {
            own.push("handler");
            handle.stop();
        });
        let here = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        for _ in 0..2 {
            let sender = std::thread::spawn(move || {
                wait_until_asleep(here);
                raise(USR1);
            });
            el.run_forever();
            log.push("returned");
            sender.join().unwrap();
        }
    });
}

/// SG-07: closing the loop removes its handlers.
#[test]
fn handlers_of_a_closed_loop() {
    same("handlers_of_a_closed_loop", |el, log| {
        add(el, USR1, line(log, "not reached"));
        add(el, WINCH, line(log, "not reached"));
        raise(WINCH);
        el.close();
        yes(log, "default", disposition(USR1).handler == DEFAULT);
        yes(log, "removed", el.remove_signal_handler(USR1));
        raise(WINCH);
    });
}

/// SG-18: a handler that stops the loop lets its batch finish.
#[test]
fn handler_stops_the_loop() {
    same("handler_stops_the_loop", |el, log| {
        let (own, handle) = (log.clone(), el.clone());
        add(el, USR1, move || {
            own.push("stop");
            handle.call_soon(own.entry("late"));
            handle.stop();
        });
        add(el, USR2, line(log, "the other"));
        [USR1, USR2].into_iter().for_each(raise);
        el.run_forever();
        log.push("returned");
        some_turns(el, 2);
    });
}

/// SG-01: a handler that fails is reported, and is called for the next signal all the same.
#[test]
fn handler_that_fails() {
    same("handler_that_fails", |el, log| {
        trace_reports(el, log);
        let own = log.clone();
        add(el, USR1, move || {
            own.push("fails");
            fail();
        });
        for _ in 0..2 {
            raise(USR1);
            some_turns(el, 3);
        }
    });
}

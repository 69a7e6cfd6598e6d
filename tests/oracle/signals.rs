//! Signals.

use roundelay::{EventLoop, SignalKind};

use crate::common::Log;
use crate::dispositions::raise;
use crate::oracle::{differs, same};
use crate::support::{fail, line, trace_reports, turns, yes};

const ONE: SignalKind = SignalKind::user_defined1();
const TWO: SignalKind = SignalKind::user_defined2();
const WINDOW: SignalKind = SignalKind::window_change();

fn log_all(el: &EventLoop, log: &Log, kinds: &[SignalKind]) {
    for kind in kinds.iter().copied() {
        let own = log.clone();
        el.add_signal_handler(kind, move || own.push(kind.to_string())).unwrap();
    }
}

fn send(kinds: &[SignalKind]) {
    kinds.iter().copied().for_each(raise);
}

/// SG-01: signals of several kinds, in the order in which they came.
#[test]
fn signals_in_order() {
    same("signals_in_order", |el, log| {
        log_all(el, log, &[ONE, TWO, WINDOW]);
        send(&[TWO, ONE, WINDOW, TWO, TWO, ONE]);
        turns(el, log, 3);
        send(&[WINDOW, ONE]);
        turns(el, log, 3);
    });
}

/// SG-01: a handler runs a turn after the one in which the loop has heard of its signal.
#[test]
fn signals_among_callbacks() {
    same("signals_among_callbacks", |el, log| {
        log_all(el, log, &[ONE, TWO]);
        let (handle, own) = (el.clone(), log.clone());
        el.call_soon(move || {
            own.push("first");
            raise(TWO);
            handle.call_soon(own.entry("scheduled by the first"));
        });
        raise(ONE);
        el.call_soon(log.entry("second"));
        turns(el, log, 5);
    });
}

/// SG-02, P32: a handler that is added again.
#[test]
fn signal_handler_is_replaced() {
    same("signal_handler_is_replaced", |el, log| {
        el.add_signal_handler(ONE, line(log, "old")).unwrap();
        el.add_signal_handler(ONE, line(log, "new")).unwrap();
        send(&[ONE, ONE]);
        turns(el, log, 3);
        el.add_signal_handler(ONE, line(log, "newest")).unwrap();
        raise(ONE);
        turns(el, log, 3);
    });
}

/// SG-03, SG-10: removing, also of what is under way.
#[test]
fn signal_handler_is_removed() {
    same("signal_handler_is_removed", |el, log| {
        log_all(el, log, &[ONE, TWO]);
        for kind in [ONE, ONE, WINDOW, SignalKind::from_raw(9)] {
            yes(log, "removed", el.remove_signal_handler(kind));
        }
        raise(TWO);
        turns(el, log, 2);
        raise(TWO);
        yes(log, "removed", el.remove_signal_handler(TWO));
        turns(el, log, 3);
    });
}

/// SG-15: one that is removed while it is queued does not run any more.
#[test]
fn signal_handler_is_removed_while_it_is_queued() {
    let here = ["-- turn 1", "-- turn 2", "removed yes", "-- turn 3"];
    differs("signal_handler_is_removed_while_it_is_queued", "removed-signal-handlers", &here, |el, log, _| {
        let (handle, own) = (el.clone(), log.clone());
        el.add_signal_handler(ONE, move || yes(&own, "removed", handle.remove_signal_handler(TWO))).unwrap();
        log_all(el, log, &[TWO]);
        send(&[ONE, TWO]);
        turns(el, log, 3);
    });
}

/// SG-01: one that fails is reported, and stays.
#[test]
fn signal_handler_fails() {
    same("signal_handler_fails", |el, log| {
        trace_reports(el, log);
        let own = log.clone();
        el.add_signal_handler(ONE, move || {
            own.push("called");
            fail();
        })
        .unwrap();
        log_all(el, log, &[TWO]);
        send(&[ONE, TWO, ONE]);
        turns(el, log, 3);
        yes(log, "removed", el.remove_signal_handler(ONE));
    });
}

/// SG-04: what is no signal, and what nobody can catch.
#[test]
fn signals_that_cannot_be_caught() {
    same("signals_that_cannot_be_caught", |el, log| {
        for kind in [0, -1, 1000, 9, 19] {
            let added = el.add_signal_handler(kind, line(log, "called"));
            log.push(if added.is_ok() { "added" } else { "refused" });
        }
    });
}

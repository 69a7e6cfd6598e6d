//! Callbacks and turns.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use roundelay::{Context, ContextVar, EventLoop, ExceptionHandler, Handle, TimerHandle, yield_now};

use crate::common::Log;
use crate::oracle::{differs, same};
use crate::support::{SECOND, add_reader, fail, line, remove_reader, socket_pair, trace_reports, turn, turns, yes};

/// CS-01: first in, first out; what callbacks schedule runs a turn later.
#[test]
fn call_soon_in_order() {
    same("call_soon_in_order", |el, log| {
        el.call_soon(log.entry("a"));
        let (handle, own) = (el.clone(), log.clone());
        el.call_soon(move || {
            own.push("b");
            let (inner, own2) = (handle.clone(), own.clone());
            handle.call_soon(move || {
                own2.push("b1");
                inner.call_soon(own2.entry("b1a"));
            });
            handle.call_soon(own.entry("b2"));
        });
        el.call_soon(log.entry("c"));
        turns(el, log, 4);
    });
}

/// LR-24, TM-16, P3: what is ready, then descriptors, then timers by deadline.
#[test]
fn ready_then_io_then_timers() {
    same("ready_then_io_then_timers", |el, log| {
        let (own, peer) = socket_pair();
        peer.send(b"x");
        let now = el.time();
        el.call_at(now - SECOND, log.entry("late timer"));
        el.call_at(now - 2 * SECOND, log.entry("early timer"));
        el.call_at(now, log.entry("timer of zero"));
        add_reader(el, &own, line(log, "reader"));
        el.call_soon(log.entry("soon"));
        el.call_soon(log.entry("soon too"));
        turns(el, log, 1);
        remove_reader(el, &own);
    });
}

/// LR-24: descriptors and timers are looked at in every turn, however busy the callbacks are.
#[test]
fn io_and_timers_are_not_starved() {
    same("io_and_timers_are_not_starved", |el, log| {
        let (own, peer) = socket_pair();
        fn again(el: EventLoop, log: Log, feed: Rc<dyn Fn()>, left: u32) {
            log.push(format!("busy {left}"));
            if left == 3 {
                feed();
                el.call_at(el.time(), log.entry("timer"));
            }
            if left > 0 {
                el.clone().call_soon(move || again(el, log, feed, left - 1));
            }
        }
        let (handle, own_log, own2) = (el.clone(), log.clone(), own.clone());
        add_reader(el, &own, move || {
            own_log.push("reader");
            remove_reader(&handle, &own2);
        });
        let (handle, log2) = (el.clone(), log.clone());
        el.call_soon(move || again(handle, log2, Rc::new(move || peer.send(b"x")), 5));
        turns(el, log, 6);
    });
}

type Handles = Rc<RefCell<Vec<(&'static str, Handle<()>)>>>;

fn cancel(handles: &Handles, name: &str) {
    handles.borrow().iter().find(|(other, _)| *other == name).unwrap().1.cancel();
}

fn cancelled(handles: &Handles, name: &str) -> bool {
    handles.borrow().iter().find(|(other, _)| *other == name).unwrap().1.is_cancelled()
}

/// CS-03, CS-04, P4: a handle that is cancelled in its own batch does not run.
#[test]
fn cancel_within_the_batch() {
    same("cancel_within_the_batch", |el, log| {
        let handles: Handles = Rc::default();
        let (known, handle, own) = (handles.clone(), el.clone(), log.clone());
        let first = el.call_soon(move || {
            own.push("first");
            cancel(&known, "second");
            cancel(&known, "self");
            let next = handle.call_soon(own.entry("next"));
            known.borrow_mut().push(("next", next));
        });
        let second = el.call_soon(log.entry("second"));
        handles.borrow_mut().extend([("self", first), ("second", second)]);
        let (known, own) = (handles.clone(), log.clone());
        el.call_soon(move || {
            own.push("third");
            cancel(&known, "next");
        });
        turns(el, log, 2);
        yes(log, "second cancelled", cancelled(&handles, "second"));
        yes(log, "next cancelled", cancelled(&handles, "next"));
    });
}

/// CS-05, P5: the same for a timer that has expired and waits in the batch.
#[test]
fn cancel_expired_timers_within_the_batch() {
    same("cancel_expired_timers_within_the_batch", |el, log| {
        let now = el.time();
        let a = el.call_at(now - 4 * SECOND, log.entry("a"));
        let c = Rc::new(RefCell::new(None));
        let soon = Rc::new(RefCell::new(None));
        let (handle, own, other, made) = (el.clone(), log.clone(), c.clone(), soon.clone());
        el.call_at(now - 3 * SECOND, move || {
            own.push("b");
            let other: TimerHandle = other.take().unwrap();
            assert!(other.cancel());
            *made.borrow_mut() = Some(handle.call_soon(own.entry("soon too")));
        });
        *c.borrow_mut() = Some(el.call_at(now - 2 * SECOND, log.entry("c")));
        let (own, made) = (log.clone(), soon.clone());
        el.call_at(now - SECOND, move || {
            own.push("d");
            assert!(made.take().unwrap().cancel());
        });
        let own = log.clone();
        el.call_soon(move || {
            own.push("soon");
            a.cancel();
        });
        turns(el, log, 2);
    });
}

/// CS-10, EH-02: a callback that fails is reported in its turn, and the others run.
#[test]
fn failing_callback_in_the_batch() {
    same("failing_callback_in_the_batch", |el, log| {
        trace_reports(el, log);
        el.call_soon(log.entry("a"));
        el.call_soon(fail);
        el.call_soon(log.entry("b"));
        el.call_at(el.time() - SECOND, fail);
        el.call_soon(log.entry("c"));
        turns(el, log, 2);
    });
}

/// EH-04: an exception handler that fails itself disturbs nobody.
#[test]
fn failing_handler_of_exceptions() {
    same("failing_handler_of_exceptions", |el, log| {
        let own = log.clone();
        el.set_exception_handler(Some(Rc::new(move |_, _| {
            own.push("handler");
            fail();
        })));
        el.call_soon(fail);
        el.call_soon(log.entry("b"));
        // What the default handler has to say does not belong on stderr.
        let nowhere = tracing_subscriber::fmt().with_writer(std::io::sink).finish();
        tracing::subscriber::with_default(nowhere, || turns(el, log, 1));
    });
}

/// EH-03: an exception handler may schedule, replace itself, and stop the loop.
#[test]
fn handler_of_exceptions_that_uses_the_loop() {
    same("handler_of_exceptions_that_uses_the_loop", |el, log| {
        let (first, second) = (log.clone(), log.clone());
        let replacement: ExceptionHandler = Rc::new(move |el, _| {
            second.push("second handler");
            el.stop();
        });
        el.set_exception_handler(Some(Rc::new(move |el, _| {
            first.push("first handler");
            el.call_soon(first.entry("scheduled"));
            el.set_exception_handler(Some(replacement.clone()));
        })));
        el.call_soon(fail);
        el.call_soon(log.entry("a"));
        el.call_soon(fail);
        el.call_soon(log.entry("b"));
        el.run_forever();
        log.push("stopped");
        turns(el, log, 1);
    });
}

/// EH-02: an exception handler is called in the context of what has failed.
#[test]
fn handler_of_exceptions_in_a_context() {
    static VAR: ContextVar<&str> = ContextVar::new("var");
    same("handler_of_exceptions_in_a_context", |el, log| {
        let own = log.clone();
        el.set_exception_handler(Some(Rc::new(move |_, _| {
            own.push(format!("reported in {}", VAR.get().unwrap_or("none")));
        })));
        let context = Context::current().copy();
        context.run(|| VAR.set("the callback's"));
        el.call_soon_in(&context, fail);
        el.call_soon_in(&context.copy(), || {
            VAR.set("the callback's own");
            fail();
        });
        el.call_soon(fail);
        turns(el, log, 1);
    });
}

/// A log that threads share, and that goes into the loop's own line by line.
#[derive(Clone, Default)]
pub struct SharedLog(Arc<Mutex<Vec<String>>>);

impl SharedLog {
    pub fn entry(&self, text: &str) -> impl FnOnce() + Send + 'static {
        let (own, text) = (self.0.clone(), text.to_owned());
        move || own.lock().unwrap().push(text)
    }

    fn push(&self, text: &str) {
        self.entry(text)();
    }

    /// Makes turns; the lines go to the other log.
    pub fn turns(&self, el: &EventLoop, log: &Log, count: usize) {
        for number in 1..=count {
            self.push(&format!("-- turn {number}"));
            turn(el);
        }
        for line in self.0.lock().unwrap().drain(..) {
            log.push(line);
        }
    }
}

/// Calls a function on another thread, and waits for its end.
fn elsewhere(function: impl FnOnce() + Send + 'static) {
    std::thread::spawn(function).join().unwrap();
}

/// TS-02: on the loop's own thread, one order with `call_soon`.
#[test]
fn threadsafe_on_the_own_thread() {
    same("threadsafe_on_the_own_thread", |el, log| {
        let shared = SharedLog::default();
        el.call_soon(shared.entry("a"));
        el.call_soon_threadsafe(shared.entry("b")).unwrap();
        el.call_soon(shared.entry("c"));
        let (handle, own) = (el.clone(), shared.clone());
        el.call_soon(move || {
            handle.call_soon_threadsafe(own.entry("e")).unwrap();
            handle.call_soon(own.entry("f"));
            own.push("d");
        });
        shared.turns(el, log, 2);
    });
}

/// TS-01: what other threads post runs in the order of the posts, in the next turn.
#[test]
fn threadsafe_from_another_thread() {
    same("threadsafe_from_another_thread", |el, log| {
        let shared = SharedLog::default();
        let post = |names: &'static [&str]| {
            let (remote, own) = (el.remote(), shared.clone());
            move || {
                for name in names {
                    remote.call_soon_threadsafe(own.entry(name)).unwrap();
                }
            }
        };
        elsewhere(post(&["a", "b"]));
        elsewhere(post(&["c"]));
        shared.turns(el, log, 1);
        let (own, posting) = (shared.clone(), post(&["d", "e"]));
        el.call_soon(move || {
            own.push("within");
            elsewhere(posting);
        });
        shared.turns(el, log, 2);
    });
}

/// TS-01: a post of another thread takes its place when the turn collects it.
#[test]
fn posts_among_callbacks_and_timers() {
    let here = ["-- turn 1", "within", "-- turn 2", "soon", "timer", "posted"];
    differs("posts_among_callbacks_and_timers", "posts-of-other-threads", &here, |el, log, _| {
        let shared = SharedLog::default();
        let (handle, own) = (el.clone(), shared.clone());
        el.call_soon(move || {
            own.push("within");
            let (remote, posted) = (handle.remote(), own.entry("posted"));
            elsewhere(move || drop(remote.call_soon_threadsafe(posted).unwrap()));
            handle.call_soon(own.entry("soon"));
            handle.call_at(handle.time() - SECOND, own.entry("timer"));
        });
        shared.turns(el, log, 2);
    });
}

/// TS-08: a task that another thread posts starts a turn after it has arrived.
#[test]
fn tasks_from_another_thread() {
    same("tasks_from_another_thread", |el, log| {
        let shared = SharedLog::default();
        let (remote, own) = (el.remote(), shared.clone());
        elsewhere(move || {
            for name in ["a", "b"] {
                let own = own.clone();
                let body = move || async move {
                    own.push(&format!("begin {name}"));
                    yield_now().await;
                    own.push(&format!("end {name}"));
                };
                drop(remote.spawn(body).unwrap());
            }
        });
        shared.turns(el, log, 4);
    });
}

/// CS-07: a handle whose callback has run is not cancelled by a cancel that comes too late.
#[test]
fn cancel_of_a_handle_that_has_run() {
    let here = ["runs", "cancelled no", "cancelled no"];
    differs("cancel_of_a_handle_that_has_run", "cancel-after-the-run", &here, |el, log, _| {
        let handle = el.call_soon(log.entry("runs"));
        turn(el);
        yes(log, "cancelled", handle.is_cancelled());
        handle.cancel();
        yes(log, "cancelled", handle.is_cancelled());
    });
}

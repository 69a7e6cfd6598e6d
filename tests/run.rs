//! Running and stopping (behaviours LR).

mod common;
#[path = "common/recording.rs"]
mod recording;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use common::{DropCounter, Log, on_loop, on_manual_clock, on_strict_loop, run_on, settle, take_reports};
use recording::{StillClock, Tape, builder};
use roundelay::{EventLoop, Fatal, Stopped, get_running_loop, yield_now};

const ZERO: Option<Duration> = Some(Duration::ZERO);

/// The loop, in a callback.
fn running() -> EventLoop {
    get_running_loop().unwrap()
}

/// The text of the panic of `f`.
fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("no panic"),
        Err(payload) => match payload.downcast::<String>() {
            Ok(text) => *text,
            Err(payload) => (*payload.downcast::<&str>().expect("a text")).to_owned(),
        },
    }
}

/// The number in the fatal panic of `f`.
fn fatal_of<R>(f: impl FnOnce() -> R) -> i32 {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("no panic"),
        Err(payload) => *payload.downcast::<Fatal>().expect("a fatal one").0.downcast::<i32>().expect("a number"),
    }
}

/// LR-03: a running loop cannot be closed, and the attempt leaves it running.
#[test]
fn a_running_loop_cannot_be_closed() {
    on_loop(|el| {
        let handle = el.clone();
        let text = el.run_until_complete(async move {
            let text = panic_of(|| handle.close());
            assert!(handle.is_running() && !handle.is_closed());
            yield_now().await;
            text
        });
        assert_eq!(text.unwrap(), "EventLoop::close(): cannot close a running event loop");
        assert!(!el.is_closed());
    });
}

/// LR-08: after `stop` the rest of the batch runs; what the batch schedules runs in the next run, once.
#[test]
fn stop_lets_the_batch_finish() {
    on_strict_loop(|el| {
        let log = Log::new();
        let inner = log.clone();
        el.call_soon(move || {
            inner.push("a");
            running().stop();
            running().call_soon(inner.entry("late"));
        });
        el.call_soon(log.entry("b"));
        el.run_forever();
        assert_eq!(log.take(), ["a", "b"]);
        el.call_soon(|| running().stop());
        el.run_forever();
        assert_eq!(log.take(), ["late"]);
    });
}

/// LR-09, LR-30: stopped before its run, a loop makes one turn: it looks for events, runs what is ready and due, returns.
#[test]
fn a_loop_stopped_before_makes_one_turn() {
    on_strict_loop(|el| {
        let log = Log::new();
        let (socket, mut peer) = UnixStream::pair().unwrap();
        peer.write_all(b"x").unwrap();
        let on_read = log.clone();
        el.add_reader(&socket, move || on_read.push("event")).unwrap();
        let inner = log.clone();
        el.call_soon(move || {
            inner.push("soon");
            running().call_soon(inner.entry("too late"));
        });
        el.call_at(el.time(), log.entry("timer"));
        el.stop();
        el.run_forever();
        assert_eq!(log.take(), ["soon", "event", "timer"]);
        assert_eq!(el.stats().turns, 1);
        assert!(el.remove_reader(&socket));
    });
}

/// LR-10: an event of the stopping turn is delivered in it, and not once more by the next run.
#[test]
fn an_event_of_the_stopping_turn_is_delivered_once() {
    on_strict_loop(|el| {
        let (mut socket, mut peer) = UnixStream::pair().unwrap();
        peer.write_all(b"x").unwrap();
        let (calls, seen) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (counter, registered) = (calls.clone(), socket.try_clone().unwrap());
        let bytes = seen.clone();
        el.add_reader(registered, move || {
            counter.set(counter.get() + 1);
            bytes.set(bytes.get() + socket.read(&mut [0; 8]).unwrap());
            running().stop();
        })
        .unwrap();
        // Stopped before and again by the event: both end the same run.
        el.stop();
        el.run_forever();
        assert_eq!((calls.get(), seen.get()), (1, 1));
        el.run_once(ZERO).unwrap();
        assert_eq!((calls.get(), seen.get()), (1, 1));
        peer.write_all(b"yz").unwrap();
        el.run_forever();
        assert_eq!((calls.get(), seen.get()), (2, 3));
    });
}

/// LR-11: the flag of `stop` lasts for one run, however that ends.
#[test]
fn a_stop_lasts_for_one_run() {
    on_loop(|el| {
        el.stop();
        el.stop();
        el.run_forever();
        let turns = el.stats().turns;
        el.run_until_complete(async {
            for _ in 0..5 {
                yield_now().await;
            }
        })
        .unwrap();
        assert_eq!(el.stats().turns - turns, 6);
        // An end by a panic clears it, too.
        el.call_soon(|| {
            running().stop();
            panic_any(Fatal::new(1));
        });
        assert_eq!(fatal_of(|| el.run_forever()), 1);
        assert_eq!(el.run_until_complete(async { yield_now().await }), Ok(()));
        // And so does one single turn.
        el.stop();
        el.run_once(None).unwrap();
        assert_eq!(el.run_until_complete(async { yield_now().await }), Ok(()));
    });
}

/// LR-12: `run_until_complete` returns the future's output, which may be an error.
#[test]
fn the_output_of_the_future_is_returned() {
    on_loop(|el| {
        // The future may borrow.
        let text = String::from("borrowed");
        assert_eq!(el.run_until_complete(async { text.len() }), Ok(8));
        let failed = el.run_until_complete(async { Err::<(), _>(io::Error::from(ErrorKind::NotFound)) });
        assert_eq!(failed.unwrap().unwrap_err().kind(), ErrorKind::NotFound);
    });
}

/// LR-12: a panic of the future unwinds to the caller with its payload, is not reported, and leaves the loop usable.
#[test]
fn a_panic_of_the_future_unwinds() {
    on_loop(|el| {
        let (log, dropped) = (Log::new(), DropCounter::new());
        el.call_soon(log.entry("before"));
        let guard = dropped.guard();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            el.run_until_complete(async {
                let _guard = guard;
                el.call_soon(log.entry("after"));
                yield_now().await;
                panic_any(7_u64);
            })
        }));
        assert_eq!(*panicked.unwrap_err().downcast::<u64>().unwrap(), 7);
        assert_eq!(dropped.count(), 1);
        assert!(!el.is_running() && el.current_task().is_none() && el.all_tasks().is_empty());
        settle(el);
        assert_eq!(log.take(), ["before", "after"]);
        assert_eq!(el.run_until_complete(async { 1 }), Ok(1));
        assert!(take_reports().is_empty());
    });
}

/// LR-13: a loop stopped before the future is done says so, and the task can be gone on with.
#[test]
fn a_run_that_was_stopped_can_be_resumed() {
    on_loop(|el| {
        let mut task = el.create_task(async {
            running().stop();
            yield_now().await;
            running().stop();
            yield_now().await;
            5
        });
        for _ in 0..2 {
            let error = el.run_until_complete(&mut task).unwrap_err();
            assert_eq!(error, Stopped);
            assert_eq!(error.to_string(), "event loop stopped before the future completed");
            assert!(!task.is_done());
        }
        assert_eq!(el.run_until_complete(&mut task).unwrap().unwrap(), 5);
    });
}

/// LR-13: the future that was given by value is dropped when the loop is stopped under it.
#[test]
fn a_stopped_run_drops_its_future() {
    on_loop(|el| {
        let dropped = DropCounter::new();
        let guard = dropped.guard();
        let end = el.run_until_complete(async move {
            let _guard = guard;
            running().stop();
            std::future::pending::<()>().await;
        });
        assert_eq!((end, dropped.count()), (Err(Stopped), 1));
        assert!(el.all_tasks().is_empty());
    });
}

/// A future that is done in the turn in which the loop is stopped gives its output.
#[test]
fn done_and_stopped_is_done() {
    on_loop(|el| {
        el.stop();
        assert_eq!(el.run_until_complete(async { 3 }), Ok(3));
        let output = el.run_until_complete(async {
            running().stop();
            4
        });
        assert_eq!(output, Ok(4));
    });
}

/// LR-14: a future that a stopped run has left behind cannot end a later run when it is done.
#[test]
fn an_orphan_cannot_stop_a_later_run() {
    on_manual_clock(|el, clock| {
        let orphan = el.create_future::<()>();
        let waits = orphan.clone();
        el.call_soon(|| running().stop());
        assert_eq!(el.run_until_complete(waits).unwrap_err(), Stopped);
        // In the next run it gets done first, and something else has to end that run.
        let (log, clock) = (Log::new(), clock.clone());
        let steps = log.clone();
        el.call_soon(move || {
            orphan.set_result(()).unwrap();
            steps.push("orphan done");
            clock.advance(Duration::from_secs(1));
        });
        el.call_later(Duration::from_secs(1), {
            let steps = log.clone();
            move || {
                steps.push("stop");
                running().stop();
            }
        });
        el.run_forever();
        assert_eq!(log.take(), ["orphan done", "stop"]);
    });
}

/// LR-14: a waker of an earlier root wakes no later one.
#[test]
fn a_waker_of_an_earlier_root_is_inert() {
    on_strict_loop(|el| {
        let kept = RefCell::new(None);
        el.run_until_complete(poll_fn(|cx| {
            *kept.borrow_mut() = Some(cx.waker().clone());
            Poll::Ready(())
        }))
        .unwrap();
        let old = kept.take().unwrap();
        let mut polls = 0;
        let second = poll_fn(|cx| {
            polls += 1;
            match polls {
                1 => {
                    old.wake_by_ref();
                    let waker = cx.waker().clone();
                    // Its own comes two turns later.
                    running().call_soon(|| running().call_soon(|| waker.wake()));
                    Poll::Pending
                }
                _ => Poll::Ready(running().stats().turns),
            }
        });
        let turns = el.stats().turns;
        assert_eq!(el.run_until_complete(second).unwrap() - turns, 4);
        assert_eq!(polls, 2);
    });
}

/// LR-16, LR-17: a fatal panic of a callback leaves `run_*`, is not reported, and the loop goes on where it was.
#[test]
fn a_fatal_panic_leaves_the_run() {
    on_strict_loop(|el| {
        let log = Log::new();
        let fatal = el.call_soon(|| panic_any(Fatal::new(1)));
        el.call_soon(log.entry("same batch"));
        assert_eq!(fatal_of(|| el.run_forever()), 1);
        assert!(!el.is_closed() && !el.is_running());
        assert!(get_running_loop().is_err());
        assert!(fatal.is_done());
        drop(fatal);
        assert_eq!(log.take(), [""; 0]);
        settle(el);
        assert_eq!(log.take(), ["same batch"]);
        assert!(take_reports().is_empty());
    });
}

/// LR-16: from wherever it comes: a timer, a task, a reader, a post, the root.
#[test]
fn a_fatal_panic_leaves_the_run_from_wherever() {
    on_strict_loop(|el| {
        el.call_at(el.time(), || panic_any(Fatal::new(1)));
        assert_eq!(fatal_of(|| el.run_once(None)), 1);

        let task = el.create_task(async { panic_any(Fatal::new(2)) });
        assert_eq!(fatal_of(|| el.run_once(None)), 2);
        drop::<roundelay::Task<()>>(task);

        drop(el.create_task(async { panic_any(Fatal::new(3)) }));
        assert_eq!(fatal_of(|| el.run_once(None)), 3);

        let (socket, mut peer) = UnixStream::pair().unwrap();
        peer.write_all(b"x").unwrap();
        el.add_reader(&socket, || panic_any(Fatal::new(4))).unwrap();
        assert_eq!(fatal_of(|| el.run_once(None)), 4);
        assert!(el.remove_reader(&socket));

        let remote = el.remote();
        std::thread::spawn(move || drop(remote.call_soon_threadsafe(|| panic_any(Fatal::new(5))))).join().unwrap();
        assert_eq!(fatal_of(|| el.run_once(None)), 5);

        assert_eq!(fatal_of(|| el.run_until_complete(async { panic_any(Fatal::new(6)) })), 6);
        assert_eq!(el.run_until_complete(async { "usable" }), Ok("usable"));
        assert!(take_reports().is_empty());
    });
}

/// LR-17: a fatal payload that a task passes on from what it awaited is fatal again.
#[test]
fn a_fatal_payload_may_be_passed_on() {
    on_loop(|el| {
        let fatal = catch_unwind(|| panic_any(Fatal::new(9))).unwrap_err();
        drop(el.create_task(async move { resume_unwind(fatal) }));
        assert_eq!(fatal_of(|| el.run_forever()), 9);
    });
}

/// LR-18, LR-21: what belongs to another loop cannot be run on this one.
#[test]
fn what_belongs_to_another_loop_is_refused() {
    on_loop(|el| {
        let other = EventLoop::new().unwrap();
        let mut task = other.create_task(async { 1 });
        let text = panic_of(|| el.run_until_complete(&mut task));
        let (own, foreign) = (el.id(), other.id());
        assert!(text.contains(&format!("loop {foreign}")) && text.contains(&format!("loop {own}")), "{text}");
        let future = other.create_future::<()>();
        let error = el.run_until_complete(future).unwrap().unwrap_err().to_string();
        assert!(error.contains(&format!("loop {foreign}")) && error.contains(&format!("loop {own}")), "{error}");
        // It is unharmed.
        assert_eq!(other.run_until_complete(task).unwrap().unwrap(), 1);
        other.close();
    });
}

/// LR-20: a loop cannot be run from inside of itself; what was to be run there is never started.
#[test]
fn a_loop_does_not_run_inside_of_itself() {
    on_loop(|el| {
        let started = Rc::new(Cell::new(false));
        let (flag, handle) = (started.clone(), el.clone());
        let dropped = DropCounter::new();
        let guard = dropped.guard();
        let texts = el.run_until_complete(async move {
            let inner = async move {
                let _guard = guard;
                flag.set(true);
            };
            [
                panic_of(|| handle.run_until_complete(inner)),
                panic_of(|| handle.run_forever()),
                panic_of(|| handle.run_once(ZERO)),
            ]
        });
        let expected = ["run_until_complete", "run_forever", "run_once"]
            .map(|method| format!("EventLoop::{method}(): this event loop is already running"));
        assert_eq!(texts.unwrap(), expected);
        assert!(!started.get());
        assert_eq!(dropped.count(), 1);
        // Also from a callback, whose own panic it then is.
        el.call_soon(|| running().run_forever());
        settle(el);
        let reports = take_reports();
        assert!(reports.len() == 1 && reports[0].contains("already running"), "{reports:?}");
    });
}

/// LR-21: another loop of this thread cannot be run meanwhile, either; on its own it can.
#[test]
fn a_loop_does_not_run_inside_of_another() {
    on_loop(|el| {
        let other = EventLoop::new().unwrap();
        let text = el.run_until_complete(async { panic_of(|| other.run_forever()) }).unwrap();
        let (outer, inner) = (el.id(), other.id());
        let expected = format!("EventLoop::run_forever(): cannot run loop {inner} while loop {outer} is running");
        assert!(text.starts_with(&expected), "{text}");
        assert!(!other.is_running());
        assert_eq!(other.run_until_complete(async { running().id() }), Ok(inner));
    });
}

/// LR-22: `is_running` is true in callbacks and tasks, and false before and after, however the run ends.
#[test]
fn is_running_tells() {
    on_loop(|el| {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let (log, handle) = (seen.clone(), el.clone());
        assert!(!el.is_running());
        el.call_soon(move || {
            log.borrow_mut().push(handle.is_running());
            handle.stop();
        });
        el.run_forever();
        assert!(!el.is_running());
        assert_eq!(el.run_until_complete(async { el.is_running() }), Ok(true));
        panic_of(|| el.run_until_complete(async { panic!("main") }));
        assert!(!el.is_running());
        assert_eq!(*seen.borrow(), [true]);
    });
}

/// LR-23: step by step: each turn asks the selector once, and the loop is the running one inside of a step only.
#[test]
fn a_loop_can_be_driven_step_by_step() {
    let tape = Tape::new();
    let build = || builder(&tape, &StillClock::new());
    run_on(build, |el| {
        let (socket, mut peer) = UnixStream::pair().unwrap();
        peer.write_all(b"x").unwrap();
        let log = Log::new();
        let (on_read, id) = (log.clone(), el.id());
        el.add_reader(&socket, move || on_read.push(format!("event in own loop: {}", running().id() == id))).unwrap();
        for _ in 0..3 {
            assert!(get_running_loop().is_err());
            assert_eq!(el.run_once(None).unwrap(), 1);
            assert_eq!(log.take(), ["event in own loop: true"]);
            assert_eq!(tape.waits(), [None]);
        }
        assert!(get_running_loop().is_err() && !el.is_running());
        assert!(el.remove_reader(&socket));
    });
}

/// LR-27: the text of a loop says which it is and what state it is in.
#[test]
fn the_text_of_a_loop() {
    on_loop(|el| {
        el.set_debug(false);
        let id = el.id();
        assert_eq!(format!("{el:?}"), format!("<EventLoop {id} running=false closed=false debug=false>"));
        let text = el.run_until_complete(async { format!("{:?}", running()) }).unwrap();
        assert_eq!(text, format!("<EventLoop {id} running=true closed=false debug=false>"));
        let named = EventLoop::builder().name("worker").debug(true).build().unwrap();
        named.close();
        let id = named.id();
        assert_eq!(format!("{named:?}"), format!("<EventLoop {id} \"worker\" running=false closed=true debug=true>"));
    });
}

/// LR-29: a future that is done already takes one turn, which runs what was ready before; a done future can be run again.
#[test]
fn a_done_future_takes_one_turn() {
    on_loop(|el| {
        let log = Log::new();
        let done = el.create_future::<i32>();
        done.set_result(4).unwrap();
        for turn in 1..4 {
            el.call_soon(log.entry("before"));
            assert_eq!(el.run_until_complete(done.clone()).unwrap().unwrap(), 4);
            assert_eq!(el.stats().turns, turn);
            assert_eq!(log.take(), ["before"]);
        }
    });
}

/// What the future has scheduled by its end runs before `run_until_complete` returns, and what that schedules does not.
#[test]
fn what_the_future_left_behind_runs() {
    on_strict_loop(|el| {
        let log = Log::new();
        let inner = log.clone();
        el.run_until_complete(async move {
            running().call_soon(move || {
                inner.push("left behind");
                running().call_soon(inner.entry("next run"));
            });
        })
        .unwrap();
        assert_eq!(log.take(), ["left behind"]);
        settle(el);
        assert_eq!(log.take(), ["next run"]);
    });
}

/// A selector that fails: `run_once` says so, the others panic with its text, and the loop stays usable.
#[test]
fn a_failing_selector_is_told_of() {
    let tape = Tape::new();
    let build = || builder(&tape, &StillClock::new());
    run_on(build, |el| {
        let log = Log::new();
        el.call_soon(log.entry("kept"));
        tape.answer(|_| Err(io::Error::other("out of order")));
        let error = el.run_once(None).unwrap_err();
        assert_eq!(error.to_string(), "out of order");
        assert_eq!(panic_of(|| el.run_forever()), "the event loop's selector failed: out of order");
        assert!(!el.is_running());
        assert_eq!(log.len(), 0);
        // An interruption by a signal is no failure.
        tape.answer(|_| Err(ErrorKind::Interrupted.into()));
        assert_eq!(el.run_once(None).unwrap(), 1);
        assert_eq!(log.take(), ["kept"]);
        tape.answer(|_| Ok(ZERO));
    });
}

//! What debug mode says is slow.

use std::cell::RefCell;
use std::time::Duration;

use roundelay::{EventLoop, ManualClock, yield_now};
use tracing::Level;

use crate::collector::Hears;
use crate::common::Log;
use crate::oracle::timed;
use crate::support::{SECOND, turn, yes};

thread_local! {
    /// Where the warnings of this thread are written.
    static LOG: RefCell<Option<Log>> = const { RefCell::new(None) };
}

/// Writes of a warning the kind of what was slow, and how long it took.
fn write(_: Level, text: String) {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, what, .., time, unit] = words[..] else { panic!("{text}") };
    let line = format!("slow: {} {time} {unit}", what.trim_start_matches('<'));
    LOG.with_borrow(|log| log.as_ref().expect("a scenario runs").push(line));
}

/// What advances the clock.
fn advance(clock: &ManualClock, millis: u64) -> impl FnOnce() + 'static {
    let clock = clock.clone();
    move || clock.advance(Duration::from_micros(millis * 1000))
}

/// A scenario in debug mode.
fn watched(scenario: impl Fn(&EventLoop, &Log, &ManualClock)) -> impl Fn(&EventLoop, &Log, &ManualClock) {
    move |el, log, clock| {
        // The loops of tests call nothing slow.
        el.set_slow_callback_duration(EventLoop::new().unwrap().slow_callback_duration());
        LOG.set(Some(log.clone()));
        el.set_debug(true);
        tracing::subscriber::with_default(Hears(Level::WARN, write), || scenario(el, log, clock));
        el.set_debug(false);
        LOG.set(None);
    }
}

/// DB-03: callbacks, timers and done callbacks that take too long are warned of, and nothing else is.
#[test]
fn slow_callbacks() {
    let scenario = watched(|el, log, clock| {
        log.push(format!("limit {}", el.slow_callback_duration().as_secs_f64()));
        el.call_soon(advance(clock, 62));
        el.call_soon(log.entry("quick"));
        el.call_soon(advance(clock, 250));
        el.call_soon(advance(clock, 500)).cancel();
        el.call_soon(log.entry("last"));
        turn(el);
        el.call_later(SECOND, advance(clock, 125));
        clock.advance(SECOND);
        turn(el);
        let (future, hand) = (el.create_future::<()>(), clock.clone());
        future.add_done_callback(move |_| hand.advance(Duration::from_millis(375)));
        future.set_result(()).unwrap();
        turn(el);
    });
    timed("slow_callbacks", scenario);
}

/// DB-03: each step of a task counts for itself.
#[test]
fn slow_steps_of_a_task() {
    let scenario = watched(|el, log, clock| {
        let hand = clock.clone();
        let task = el.create_task(async move {
            hand.advance(Duration::from_millis(250));
            yield_now().await;
            hand.advance(Duration::from_millis(62));
            yield_now().await;
            hand.advance(Duration::from_millis(500));
        });
        for _ in 0..3 {
            log.push("-- turn");
            turn(el);
        }
        yes(log, "done", task.is_done());
    });
    timed("slow_steps_of_a_task", scenario);
}

/// DB-04: the limit is settable, reaching it is enough, and with zero everything counts.
#[test]
fn a_limit_for_what_is_slow() {
    let scenario = watched(|el, log, clock| {
        el.set_slow_callback_duration(Duration::from_millis(250));
        el.call_soon(advance(clock, 125));
        el.call_soon(advance(clock, 250));
        turn(el);
        el.set_slow_callback_duration(Duration::ZERO);
        el.call_soon(log.entry("a"));
        el.call_soon(log.entry("b"));
        turn(el);
    });
    timed("a_limit_for_what_is_slow", scenario);
}

/// DB-02: debug mode is turned on and off at any time.
#[test]
fn debug_mode_turned_on_and_off() {
    let scenario = watched(|el, _, clock| {
        el.set_debug(false);
        for (time, on) in [(250, true), (500, false)] {
            el.call_soon(advance(clock, time));
            let handle = el.clone();
            el.call_soon(move || handle.set_debug(on));
        }
        el.call_soon(advance(clock, 750));
        turn(el);
    });
    timed("debug_mode_turned_on_and_off", scenario);
}

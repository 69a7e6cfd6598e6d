//! Timers (behaviours TM).

mod common;
#[path = "common/recording.rs"]
mod recording;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Wake};
use std::time::{Duration, Instant};

use common::{
    DropCounter, Log, complete, on_loop, on_manual_clock, on_strict_loop, run_on, run_until, settle, take_reports,
};
use futures::FutureExt;
use proptest::prelude::*;
use recording::{StillClock, Tape, builder, let_time_pass};
use roundelay::{Clock, EventLoop, ManualClock, TimerHandle, get_running_loop, sleep, sleep_until};

const ZERO: Option<Duration> = Some(Duration::ZERO);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The loop, in a callback.
fn running() -> EventLoop {
    get_running_loop().unwrap()
}

/// TM-01: a timer does not run before its time; its handle knows when that is.
#[test]
fn a_timer_runs_at_its_time() {
    on_manual_clock(|el, clock| {
        let before = el.time();
        let timer = el.call_later(secs(10), || running().time());
        assert_eq!(timer.when(), before + secs(10));
        clock.advance(secs(10) - Duration::from_nanos(2));
        settle(el);
        assert!(!timer.is_done(), "two nanoseconds early, which is more than the resolution");
        clock.advance(Duration::from_nanos(2));
        settle(el);
        assert_eq!(complete(el, timer).unwrap(), before + secs(10));
    });
}

/// TM-01: on the operating system's clock, too, it runs at its time or later.
#[test]
fn a_timer_is_not_early() {
    for kind in [common::Kind::Epoll, common::Kind::Polling, common::Kind::Level] {
        run_on(
            || kind.builder(),
            |el| {
                let start = Instant::now();
                let micros = [0, 1, 999, 1000, 1001, 1500, 2000, 3700];
                for delay in micros.map(Duration::from_micros) {
                    let timer = el.call_later(delay, Instant::now);
                    let when = timer.when();
                    assert!(when >= start + delay);
                    let ran_at = complete(el, timer).unwrap();
                    assert!(ran_at + el.clock_resolution() >= when, "early by {:?}", when - ran_at);
                }
            },
        );
    }
}

/// TM-02: `when` says the same after the timer has fired, after it was cancelled, and after the end of the loop.
#[test]
fn when_stays_the_same() {
    on_manual_clock(|el, clock| {
        let start = el.time();
        let (fired, cancelled, closed) =
            (el.call_later(secs(1), || ()), el.call_later(secs(2), || ()), el.call_at(start + secs(3), || ()));
        clock.advance(secs(1));
        settle(el);
        cancelled.cancel();
        el.close();
        assert!(fired.is_done() && cancelled.is_cancelled() && closed.is_done());
        for (timer, seconds) in [(fired, 1), (cancelled, 2), (closed, 3)] {
            assert_eq!(timer.when(), start + secs(seconds));
        }
    });
}

/// TM-03: deadlines that are past are due at once and keep their order among each other.
#[test]
fn past_deadlines_keep_their_order() {
    on_manual_clock(|el, clock| {
        clock.advance(secs(10));
        let (log, now) = (Log::new(), el.time());
        el.call_at(now - secs(1), log.entry("a second ago"));
        el.call_at(now - secs(2), log.entry("two seconds ago"));
        el.call_later(Duration::ZERO, log.entry("now"));
        el.run_once(ZERO).unwrap();
        assert_eq!(log.take(), ["two seconds ago", "a second ago", "now"]);
    });
}

/// TM-08: timers of equal deadline run in the order in which they were made, however many there are and whichever of
/// them are cancelled.
#[test]
fn equal_deadlines_run_in_order_of_creation() {
    on_manual_clock(|el, clock| {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let when = el.time() + secs(1);
        let timers: Vec<TimerHandle> = (0..1000)
            .map(|n| {
                let seen = seen.clone();
                el.call_at(when, move || seen.borrow_mut().push(n))
            })
            .collect();
        for timer in timers.iter().step_by(3) {
            assert!(timer.cancel());
        }
        clock.advance(secs(1));
        settle(el);
        assert_eq!(*seen.borrow(), (0..1000).filter(|n| n % 3 != 0).collect::<Vec<_>>());
    });
}

/// TM-09: a timer that was cancelled does not fire; cancelling again changes nothing.
#[test]
fn a_cancelled_timer_does_not_fire() {
    on_manual_clock(|el, clock| {
        let log = Log::new();
        let (a, b) = (el.call_later(secs(1), log.entry("a")), el.call_at(el.time() + secs(1), log.entry("b")));
        el.call_later(secs(1), log.entry("c"));
        assert!(a.cancel() && b.cancel());
        assert!(!a.cancel() && a.is_cancelled() && a.is_done());
        assert_eq!(el.stats().timers.live(), 1);
        clock.advance(secs(1));
        settle(el);
        assert_eq!(log.take(), ["c"]);
        assert!(a.now_or_never().unwrap().unwrap_err().is_cancelled());
    });
}

/// TM-11: cancelling a timer that has fired, or another's successor in its place, leaves the others alone.
#[test]
fn cancelling_a_fired_timer_leaves_others_alone() {
    on_manual_clock(|el, clock| {
        let log = Log::new();
        let old = el.call_later(secs(1), log.entry("old"));
        clock.advance(secs(1));
        settle(el);
        // It may well stand where the old one stood.
        let new = el.call_later(secs(1), log.entry("new"));
        assert!(!old.cancel() && !old.is_cancelled());
        assert_eq!(el.stats().timers.live(), 1);
        clock.advance(secs(1));
        settle(el);
        assert_eq!(log.take(), ["old", "new"]);
        assert!(!new.cancel());
    });
}

/// TM-12: delays and deadlines beyond everything are taken, do not fire, and can be cancelled.
#[test]
fn huge_delays_never_come() {
    let (tape, clock) = (Tape::new(), StillClock::new());
    let build = || builder(&tape, &clock);
    run_on(build, |el| {
        let huge = [u64::MAX, i64::MAX as u64, 1 << 55, 1 << 54, 1 << 33].map(secs);
        let mut timers: Vec<TimerHandle> = huge.iter().map(|&delay| el.call_later(delay, || ())).collect();
        timers.push(el.call_later(Duration::MAX, || ()));
        let mut far = el.time();
        while let Some(further) = far.checked_add(secs(1 << 60)) {
            far = further;
        }
        timers.push(el.call_at(far, || ()));
        drop(el.create_task(sleep(Duration::MAX)));
        drop(el.create_task(sleep_until(far)));
        drop(el.create_task(roundelay::timeout(Duration::MAX, std::future::pending::<()>())));
        drop(el.create_task(async {
            let mut interval = roundelay::interval(Duration::MAX);
            interval.tick().await;
            interval.tick().await;
        }));
        assert_eq!(el.run_once(None).unwrap(), 4);
        assert_eq!(tape.waits(), [ZERO]);
        // Years go by, a day in each turn.
        let_time_pass(&tape, &clock);
        for _ in 0..3 * 365 {
            assert_eq!(el.run_once(None).unwrap(), 0);
        }
        assert!(timers.iter().all(|timer| !timer.is_done()));
        assert!(timers.iter().all(|timer| timer.cancel()));
        assert_eq!(el.all_tasks().len(), 4);
        // Those of the tasks are left, decades ahead.
        assert!(el.next_deadline().unwrap() > el.time() + secs(1 << 29));
        tape.answer(|_| Ok(ZERO));
    });
}

/// TM-14: the loop's time goes on during a callback.
#[test]
fn time_goes_on_during_a_callback() {
    on_manual_clock(|el, clock| {
        let clock = clock.clone();
        let passed = el.call_soon(move || {
            let before = running().time();
            clock.advance(millis(50));
            running().time() - before
        });
        assert_eq!(complete(el, passed).unwrap(), millis(50));
    });
}

/// TM-15: a delay counts from the call, also in a callback that has taken its time.
#[test]
fn a_delay_counts_from_the_call() {
    on_manual_clock(|el, clock| {
        let log = Log::new();
        let (time, inner) = (clock.clone(), log.clone());
        el.call_soon(move || {
            time.advance(secs(5));
            running().call_later(secs(1), inner.entry("a second after the call"));
        });
        settle(el);
        assert_eq!(log.len(), 0, "five seconds of the callback do not count");
        clock.advance(secs(1));
        settle(el);
        assert_eq!(log.len(), 1);
    });
}

/// TM-16: a timer without delay runs after what is in the queue, and after what comes into it in that turn.
#[test]
fn a_timer_without_delay_comes_after_the_queue() {
    on_strict_loop(|el| {
        let log = Log::new();
        el.call_soon(log.entry("soon"));
        el.call_later(Duration::ZERO, log.entry("timer"));
        el.call_soon(log.entry("soon, too"));
        el.run_once(None).unwrap();
        assert_eq!(log.take(), ["soon", "soon, too", "timer"]);
    });
}

/// TM-19: what a timer captured is dropped when it has fired, or at once when it is cancelled, though its handle lives.
#[test]
fn a_fired_timer_keeps_nothing() {
    on_manual_clock(|el, clock| {
        let dropped = DropCounter::new();
        let held = || {
            let guard = dropped.guard();
            move || {
                let _captured = &guard;
            }
        };
        let (fired, cancelled) = (el.call_later(secs(1), held()), el.call_later(secs(100), held()));
        let queued = Rc::new(el.call_later(secs(1), held()));
        // Cancelled when it stands in the queue already.
        let canceller = queued.clone();
        el.call_at(el.time(), move || assert!(canceller.cancel()));
        assert_eq!(dropped.count(), 0);
        assert!(cancelled.cancel());
        assert_eq!(dropped.count(), 1, "at once, not when its time comes");
        clock.advance(secs(1));
        el.run_once(ZERO).unwrap();
        assert_eq!(dropped.count(), 3);
        assert!(fired.is_done() && queued.is_cancelled());
    });
}

/// TM-20: a timer that arms itself again for a moment that is past runs in the next turn, and does not hold up its own.
#[test]
fn a_timer_that_rearms_itself_runs_once_a_turn() {
    on_manual_clock(|el, _| {
        let count = Rc::new(Cell::new(0));
        fn rearm(count: Rc<Cell<u32>>) {
            count.set(count.get() + 1);
            let el = running();
            el.call_at(el.time() - secs(1), move || rearm(count));
        }
        let counter = count.clone();
        el.call_later(Duration::ZERO, move || rearm(counter));
        for turn in 1..=20 {
            assert_eq!(el.run_once(None).unwrap(), 1);
            assert_eq!(count.get(), turn);
        }
    });
}

/// TM-21: while other threads post without a pause, timers that are made and cancelled stay consistent.
#[test]
fn timers_stand_a_flood_of_posts() {
    on_loop(|el| {
        const POSTS: usize = 4096;
        let ran = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (remote, ran) = (el.remote(), ran.clone());
                std::thread::spawn(move || {
                    for _ in 0..POSTS / 4 {
                        let ran = ran.clone();
                        drop(remote.call_soon_threadsafe(move || ran.fetch_add(1, Ordering::Relaxed)).unwrap());
                    }
                })
            })
            .collect();
        let fired = Rc::new(Cell::new(0));
        let mut made = 0;
        run_until(el, || {
            let counter = fired.clone();
            el.call_later(Duration::ZERO, move || counter.set(counter.get() + 1));
            for seconds in 1..10 {
                assert!(el.call_later(secs(seconds), || unreachable!()).cancel());
            }
            made += 1;
            ran.load(Ordering::Relaxed) == POSTS
        });
        for thread in threads {
            thread.join().unwrap();
        }
        settle(el);
        assert_eq!((ran.load(Ordering::Relaxed), fired.get()), (POSTS, made));
        assert_eq!(el.stats().timers.opened, made * 10);
    });
}

/// TM-22: a far timer neither delays an earlier one nor runs with it.
#[test]
fn a_far_timer_stays_where_it_is() {
    on_manual_clock(|el, clock| {
        let log = Log::new();
        el.call_later(secs(1000), log.entry("far"));
        el.call_later(millis(1), || running().stop());
        clock.advance(millis(1));
        el.run_forever();
        assert_eq!(log.len(), 0);
        assert_eq!(el.next_deadline(), Some(el.time() + secs(1000) - millis(1)));
    });
}

/// TM-23: the loop's time never goes back, and is the one of its clock.
#[test]
fn the_time_never_goes_back() {
    on_loop(|el| {
        let mut last = Instant::now();
        for _ in 0..1000 {
            let now = el.time();
            assert!(now >= last);
            last = now;
        }
        assert!(Instant::now() >= last, "on the same scale as the standard library's");
        assert_eq!(el.clock_resolution(), Duration::from_nanos(1));
    });
}

/// A clock that is advanced by another thread wakes the loops that sleep on it, and they run what is due.
#[test]
fn a_clock_advanced_elsewhere_wakes_the_loop() {
    let clock = ManualClock::new();
    for kind in [common::Kind::Epoll, common::Kind::Polling] {
        let given = clock.clone();
        run_on(
            move || kind.builder().clock(given),
            |el| {
                let (timer, elsewhere) = (el.call_later(secs(3600), || ()), clock.clone());
                let thread = std::thread::spawn(move || elsewhere.advance(secs(3600)));
                el.run_until_complete(timer).unwrap().unwrap();
                thread.join().unwrap();
            },
        );
    }
}

/// A sleep's timer is armed by its first poll and gone when it is dropped; it can be set to another moment.
#[test]
fn a_sleep_is_a_timer() {
    on_manual_clock(|el, clock| {
        let start = el.time();
        let idle = sleep(secs(1));
        assert_eq!((idle.deadline(), el.next_deadline()), (None, None));
        drop(idle);
        let (time, handle) = (clock.clone(), el.clone());
        el.run_until_complete(async {
            let mut nap = pin!(sleep(secs(5)));
            assert!(nap.as_mut().now_or_never().is_none());
            assert_eq!(nap.deadline(), Some(start + secs(5)));
            nap.reset(start + secs(2));
            assert!(nap.as_mut().now_or_never().is_none() && !nap.is_elapsed());
            handle.call_soon(move || time.advance(secs(2)));
            nap.as_mut().await;
            assert!(nap.is_elapsed());
            assert_eq!(running().time(), start + secs(2));
            // A moment that is past takes a turn and no time.
            sleep_until(start).await;
        })
        .unwrap();
        assert_eq!(el.next_deadline(), None, "dropped with the future");
    });
}

#[derive(Clone, Debug)]
enum Step {
    /// Arms a timer so many ticks ahead.
    Arm(u8),
    /// Cancels the timer of this number, whatever has become of it.
    Cancel(u8),
    /// Lets ticks pass, and makes a turn.
    Pass(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => any::<u8>().prop_map(Step::Arm),
        2 => any::<u8>().prop_map(Step::Cancel),
        1 => (0_u8..40).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// TM-08, TM-09: any mixture of arming, cancelling and firing agrees with a list sorted by (deadline, creation).
    #[test]
    fn timers_agree_with_a_sorted_list(steps in steps()) {
        on_manual_clock(|el, clock| {
            let fired = Rc::new(RefCell::new(Vec::new()));
            let (mut timers, mut model, mut now) = (Vec::new(), Vec::<(u32, usize)>::new(), 0);
            for step in &steps {
                match *step {
                    Step::Arm(ahead) => {
                        let (log, id) = (fired.clone(), timers.len());
                        timers.push(el.call_later(millis(ahead.into()), move || log.borrow_mut().push(id)));
                        let when = now + u32::from(ahead);
                        let place = model.partition_point(|&(other, _)| other <= when);
                        model.insert(place, (when, id));
                    }
                    Step::Cancel(n) if !timers.is_empty() => {
                        let id = usize::from(n) % timers.len();
                        let place = model.iter().position(|&(_, other)| other == id);
                        assert_eq!(timers[id].cancel(), place.is_some());
                        place.map(|place| model.remove(place));
                    }
                    Step::Cancel(_) => {}
                    Step::Pass(ticks) => {
                        now += u32::from(ticks);
                        clock.advance(millis(ticks.into()));
                        el.run_once(ZERO).unwrap();
                        let due = model.partition_point(|&(when, _)| when <= now);
                        let expected: Vec<usize> = model.drain(..due).map(|(_, id)| id).collect();
                        assert_eq!(fired.take(), expected);
                    }
                }
                assert_eq!(el.stats().timers.live(), model.len() as u64);
                let next = model.first().map(|&(when, _)| clock.now() + millis((when - now).into()));
                assert_eq!(el.next_deadline(), next);
            }
        });
    }
}

/// A waker of the application's own that panics is reported, and takes nothing from the others that were due with it.
#[test]
fn a_waker_that_panics() {
    struct Bomb;
    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {
            panic!("a waker's bomb");
        }
    }

    on_manual_clock(|el, clock| {
        let log = Log::new();
        let mut slept = Box::pin(sleep(secs(1)));
        complete(el, async {
            assert!(slept.as_mut().poll(&mut Context::from_waker(&Arc::new(Bomb).into())).is_pending());
        });
        el.call_later(secs(1), log.entry("timer"));
        clock.advance(secs(1));
        el.run_once(ZERO).unwrap();
        assert_eq!(log.take(), ["timer"]);
        let reports = take_reports();
        assert!(reports.len() == 1 && reports[0].contains("Exception in a waker"), "{reports:?}");
        assert!(reports[0].contains("a waker's bomb"), "{reports:?}");
        complete(el, async { slept.as_mut().await });
    });
}

/// TM-10: a delay that no clock can hold is never over, however far a clock is turned, and comes behind any other.
#[test]
fn a_delay_without_end() {
    on_manual_clock(|el, clock| {
        let log = Log::new();
        let never = el.call_later(Duration::MAX, log.entry("never"));
        let century = secs(100 * 365 * 24 * 3600);
        el.call_later(century, log.entry("a century"));
        clock.advance(century);
        el.run_once(ZERO).unwrap();
        assert_eq!(log.take(), ["a century"]);
        clock.advance(4 * century);
        el.run_once(ZERO).unwrap();
        assert!(log.take().is_empty());
        assert!(never.cancel());
    });
}

/// A clock outlives its loops, and keeps nothing of those that are closed.
#[test]
fn a_clock_forgets_closed_loops() {
    type Wake = Weak<dyn Fn() + Send + Sync>;
    #[derive(Clone, Default)]
    struct Own(Rc<RefCell<Vec<Wake>>>);
    impl Clock for Own {
        fn now(&self) -> Instant {
            Instant::now()
        }
        fn attach(&self, wake: Wake) {
            self.0.borrow_mut().push(wake);
        }
    }

    let clock = Own::default();
    let given = clock.clone();
    run_on(
        move || EventLoop::builder().clock(given),
        |el| {
            let wake = clock.0.borrow()[0].clone();
            wake.upgrade().unwrap()();
            el.close();
            assert!(wake.upgrade().is_none());
        },
    );
}

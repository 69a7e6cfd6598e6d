//! Waiting for time to pass: `sleep`, `timeout`, `interval`, `yield_now` (behaviours CB, as far as they are about time).

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use common::{
    CountingWaker, DropCounter, Log, alone, complete, on_loop, on_manual_clock, on_strict_loop, run_until, settle,
};
use futures::StreamExt;
use roundelay::{
    EventLoop, JoinError, ManualClock, MissedTicks, Sleep, Task, TimedOut, get_running_loop, interval, interval_at,
    sleep, sleep_until, timeout, timeout_at, yield_now,
};

const MS: Duration = Duration::from_millis(1);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Moves the clock to the loop's next deadline, again and again, until nothing waits for the time any more.
fn run_out(el: &EventLoop, clock: &ManualClock) {
    for _ in 0..100_000 {
        settle(el);
        let Some(deadline) = el.next_deadline() else { return };
        clock.advance(deadline - el.time());
    }
    panic!("timers without end");
}

/// The output of a task that must be done by now: where the test turns the clock, nobody's patience ends.
#[track_caller]
fn output<T>(el: &EventLoop, task: Task<T>) -> Result<T, JoinError> {
    assert!(task.is_done());
    complete(el, task)
}

/// The text of a panic.
fn panic_of(f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("it must panic");
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload.downcast::<&str>().expect("a text").to_string(),
    }
}

// ---------------------------------------------------------------- sleep

/// CB-01: a sleep ends when its time is over and not before; two halves are as long as the whole.
#[test]
fn sleep_ends_when_its_time_is_over() {
    on_manual_clock(|el, clock| {
        let start = el.time();
        let handle = el.clone();
        let task = el.create_task(async move {
            sleep(ms(50)).await;
            let half = handle.time();
            sleep(ms(50)).await;
            (half, handle.time())
        });
        settle(el);
        clock.advance(ms(50) - Duration::from_nanos(2));
        settle(el);
        assert_eq!(el.next_deadline(), Some(start + ms(50)), "it is still the first half");
        clock.advance(Duration::from_nanos(2));
        settle(el);
        assert_eq!(el.next_deadline(), Some(start + ms(100)), "the second half counts from the first one's end");
        clock.advance(ms(50));
        settle(el);
        assert!(task.is_done());
        assert_eq!(output(el, task).unwrap(), (start + ms(50), start + ms(100)));
    });
}

/// CB-01: sleeping in a loop keeps to the clock, and arms one timer at a time.
#[test]
fn sleeping_in_a_loop() {
    on_manual_clock(|el, clock| {
        let start = el.time();
        let rounds = Rc::new(Cell::new(0));
        let count = rounds.clone();
        let task = el.create_task(async move {
            for _ in 0..1000 {
                sleep(7 * MS).await;
                count.set(count.get() + 1);
            }
        });
        settle(el);
        for round in 1..=1000 {
            assert_eq!(el.next_deadline(), Some(start + round * 7 * MS));
            clock.advance(7 * MS);
            settle(el);
            assert_eq!(rounds.get(), round);
        }
        assert!(task.is_done());
        assert_eq!(el.next_deadline(), None);
    });
}

/// CB-01: on the real clock a sleep is never too short.
#[test]
fn a_real_sleep_is_not_too_short() {
    on_loop(|el| {
        for micros in [1, 50, 1500] {
            let time = Duration::from_micros(micros);
            let start = Instant::now();
            complete(el, sleep(time));
            assert!(start.elapsed() >= time);
        }
    });
}

/// A sleep below a millisecond is neither rounded down nor spun away: the loop asks once, and sleeps.
#[test]
fn a_short_sleep_does_not_spin() {
    on_loop(|el| {
        for micros in [200, 300, 900] {
            let (waits, turns) = (el.stats().waits, el.stats().turns);
            complete(el, sleep(Duration::from_micros(micros)));
            let (waits, turns) = (el.stats().waits - waits, el.stats().turns - turns);
            assert!(waits <= 4 && turns <= 8, "{waits} waits in {turns} turns");
        }
    });
}

/// CB-02: a sleep of zero resumes in the next turn, after everything that is ready.
#[test]
fn sleep_of_zero_lets_the_others_run() {
    on_strict_loop(|el| {
        let log = Log::new();
        let own = log.clone();
        let task = el.create_task(async move {
            own.push("before");
            sleep(Duration::ZERO).await;
            own.push("after");
        });
        el.call_soon(log.entry("other"));
        el.run_once(Some(Duration::ZERO)).unwrap();
        assert_eq!(log.take(), ["before", "other"]);
        el.run_once(Some(Duration::ZERO)).unwrap();
        assert_eq!(log.take(), ["after"]);
        assert!(task.is_done());
    });
}

/// CB-02: a moment in the past and the present one are over at once, but not without a turn of the loop.
#[test]
fn sleep_until_the_past() {
    on_manual_clock(|el, clock| {
        clock.advance(ms(100));
        let now = el.time();
        for deadline in [now - ms(50), now] {
            let mut sleep = pin!(sleep_until(deadline));
            let polls = Cell::new(0);
            complete(
                el,
                poll_fn(|cx| {
                    polls.set(polls.get() + 1);
                    sleep.as_mut().poll(cx)
                }),
            );
            assert_eq!(polls.get(), 2);
            assert_eq!(sleep.deadline(), Some(deadline));
        }
    });
}

/// CB-02: a time that the clock cannot add never ends, and is no error.
#[test]
fn sleep_without_end() {
    on_manual_clock(|el, clock| {
        let task = el.create_task(sleep(Duration::MAX));
        settle(el);
        clock.advance(Duration::from_secs(10 * 365 * 24 * 3600));
        settle(el);
        assert!(!task.is_done());
        task.cancel();
        settle(el);
        assert_eq!(el.next_deadline(), None);
    });
}

/// CB-03: dropping a sleep, by itself or with its task, takes its timer out of the loop at once.
#[test]
fn a_dropped_sleep_disarms_its_timer() {
    on_manual_clock(|el, _| {
        let mut first = Box::pin(sleep(ms(100)));
        let mut second = Box::pin(sleep(ms(200)));
        let start = el.time();
        complete(
            el,
            poll_fn(|cx| {
                assert!(first.as_mut().poll(cx).is_pending());
                assert!(second.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            }),
        );
        assert_eq!(el.next_deadline(), Some(start + ms(100)));
        drop(first);
        assert_eq!(el.next_deadline(), Some(start + ms(200)));
        drop(second);
        assert_eq!(el.next_deadline(), None);

        let task = el.create_task(sleep(ms(100)));
        settle(el);
        assert!(el.next_deadline().is_some());
        task.cancel();
        settle(el);
        assert!(task.is_cancelled());
        assert_eq!(el.next_deadline(), None, "a cancelled task's timer is gone long before its deadline");
    });
}

/// CB-03: a sleep that was never polled has armed nothing, and its time counts from the first poll.
#[test]
fn the_time_counts_from_the_first_poll() {
    on_manual_clock(|el, clock| {
        let mut sleep = pin!(sleep(ms(10)));
        assert_eq!(sleep.deadline(), None);
        assert_eq!(el.next_deadline(), None);
        clock.advance(ms(1000));
        let deadline = el.time() + ms(10);
        complete(
            el,
            poll_fn(|cx| {
                assert!(sleep.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            }),
        );
        assert_eq!(sleep.deadline(), Some(deadline));
        assert_eq!(el.next_deadline(), Some(deadline));
        assert!(!sleep.is_elapsed());
    });
}

/// CB-04: a timer that cancels a task interrupts its long sleep when that timer is due.
#[test]
fn a_timer_interrupts_a_long_sleep() {
    on_manual_clock(|el, clock| {
        let task = el.create_task(sleep(Duration::from_secs(5000)));
        let canceller = task.canceller();
        el.call_later(ms(10), move || canceller.cancel());
        settle(el);
        clock.advance(ms(9));
        settle(el);
        assert!(!task.is_done());
        clock.advance(ms(1));
        settle(el);
        assert!(task.is_cancelled());
        assert!(output(el, task).unwrap_err().is_cancelled());
        assert_eq!(el.next_deadline(), None);
    });
}

/// CB-01: sleeps and timers of one deadline come in the order in which they were armed.
#[test]
fn sleeps_of_one_deadline_keep_their_order() {
    on_manual_clock(|el, clock| {
        let log = Log::new();
        let deadline = el.time() + ms(10);
        for n in 0..20 {
            if n % 2 == 0 {
                let log = log.clone();
                drop(el.create_task(async move {
                    sleep_until(deadline).await;
                    log.push(n.to_string());
                }));
                // The task arms its timer when it first runs.
                settle(el);
            } else {
                el.call_at(deadline, log.entry(n.to_string()));
            }
        }
        clock.advance(ms(10));
        settle(el);
        let expected: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        assert_eq!(log.take(), expected);
    });
}

/// CB-01: whoever polled a sleep last is the one that is woken.
#[test]
fn the_last_poller_is_woken() {
    on_manual_clock(|el, clock| {
        let (first, first_waker) = CountingWaker::new();
        let (second, second_waker) = CountingWaker::new();
        let mut sleep = pin!(sleep(ms(10)));
        complete(
            el,
            poll_fn(|_| {
                assert!(sleep.as_mut().poll(&mut Context::from_waker(&first_waker)).is_pending());
                assert!(sleep.as_mut().poll(&mut Context::from_waker(&second_waker)).is_pending());
                Poll::Ready(())
            }),
        );
        clock.advance(ms(10));
        settle(el);
        assert_eq!((first.count(), second.count()), (0, 1));
        assert!(sleep.as_mut().poll(&mut Context::from_waker(&first_waker)).is_ready());
        assert!(sleep.is_elapsed());
        assert!(sleep.as_mut().poll(&mut Context::from_waker(&first_waker)).is_ready(), "it stays over");
    });
}

/// CB-40: a sleep can be given another moment, earlier or later, before it was polled, while it waits, and once it is
/// over.
#[test]
fn reset_moves_the_end() {
    on_manual_clock(|el, clock| {
        let start = el.time();
        let mut sleep = Box::pin(sleep(ms(100)));
        sleep.reset(start + ms(80));
        assert_eq!(sleep.deadline(), Some(start + ms(80)));
        assert_eq!(el.next_deadline(), None, "nobody waits yet");

        let (wakes, waker) = CountingWaker::new();
        let poll = |sleep: &mut Pin<Box<roundelay::Sleep>>| {
            let mut polled = Poll::Pending;
            complete(
                el,
                poll_fn(|_| {
                    polled = sleep.as_mut().poll(&mut Context::from_waker(&waker));
                    Poll::Ready(())
                }),
            );
            polled
        };
        assert!(poll(&mut sleep).is_pending());
        assert_eq!(el.next_deadline(), Some(start + ms(80)));

        // Later and earlier, without another poll: whoever waits is woken at the new moment, and only then.
        sleep.reset(start + ms(120));
        assert_eq!(el.next_deadline(), Some(start + ms(120)));
        clock.advance(ms(100));
        settle(el);
        assert_eq!(wakes.count(), 0);
        sleep.reset(start + ms(110));
        clock.advance(ms(10));
        settle(el);
        assert_eq!(wakes.count(), 1);
        assert!(!sleep.is_elapsed(), "nobody has asked yet");
        assert!(poll(&mut sleep).is_ready());

        sleep.reset(start + ms(200));
        assert!(!sleep.is_elapsed());
        assert!(poll(&mut sleep).is_pending());
        clock.advance(ms(90));
        settle(el);
        assert_eq!(wakes.count(), 2);

        // Due, but not looked at: the new moment counts.
        sleep.reset(start + ms(300));
        assert!(poll(&mut sleep).is_pending());
        assert_eq!(el.next_deadline(), Some(start + ms(300)));
        drop(sleep);
        assert_eq!(el.next_deadline(), None);
    });
}

/// CB-40: a sleep that outlives its loop does nothing, whatever is asked of it.
#[test]
fn a_sleep_outlives_its_loop() {
    on_loop(|el| {
        let mut sleep = Box::pin(sleep(Duration::from_secs(1000)));
        complete(
            el,
            poll_fn(|cx| {
                assert!(sleep.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            }),
        );
        el.close();
        sleep.reset(Instant::now() + ms(1));
        assert_eq!(el.next_deadline(), None);
        drop(sleep);
    });
}

/// Polls a sleep once, in a run of the loop.
fn poll_in(el: &EventLoop, sleep: &mut Pin<Box<Sleep>>) -> Poll<()> {
    el.run_until_complete(poll_fn(|cx| Poll::Ready(sleep.as_mut().poll(cx)))).unwrap()
}

/// CB-01: a sleep that was armed in a loop that is closed since waits for its deadline in the next one; it is over at once
/// if its own loop has seen the deadline.
#[test]
fn a_sleep_goes_on_after_its_loop() {
    on_manual_clock(|el, clock| {
        let first = EventLoop::builder().clock(clock.clone()).build().unwrap();
        let (mut long, mut short) = (Box::pin(sleep(ms(100))), Box::pin(sleep(ms(10))));
        assert!(poll_in(&first, &mut long).is_pending());
        assert!(poll_in(&first, &mut short).is_pending());
        let deadline = long.deadline();
        clock.advance(ms(40));
        first.close();
        assert!(poll_in(el, &mut long).is_pending());
        assert_eq!((long.deadline(), el.next_deadline()), (deadline, deadline));
        assert!(short.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        assert!(short.is_elapsed());
        clock.advance(ms(59));
        assert!(poll_in(el, &mut long).is_pending());
        clock.advance(ms(1));
        settle(el);
        assert!(poll_in(el, &mut long).is_ready());

        // With no loop that could fire it, nothing else is left.
        let first = EventLoop::builder().clock(clock.clone()).build().unwrap();
        let mut sleep = Box::pin(sleep(ms(100)));
        assert!(poll_in(&first, &mut sleep).is_pending());
        first.close();
        let text = panic_of(|| _ = sleep.as_mut().poll(&mut Context::from_waker(Waker::noop())));
        assert!(text.contains("outside of a running"), "{text}");
        drop(sleep);
        assert_eq!(el.next_deadline(), None);
    });
}

/// CB-01: a sleep that moves to another loop is armed there, and there alone: for the same deadline, also by a clock of the
/// new loop's own.
#[test]
fn a_sleep_moves_to_another_loop() {
    on_manual_clock(|el, clock| {
        let other = EventLoop::builder().clock(clock.clone()).build().unwrap();
        let mut moving = Box::pin(sleep(ms(20)));
        assert!(poll_in(&other, &mut moving).is_pending());
        let deadline = moving.deadline();
        assert_eq!(other.next_deadline(), deadline);
        let task = el.create_task(moving);
        settle(el);
        assert_eq!((other.next_deadline(), el.next_deadline()), (None, deadline));
        clock.advance(ms(20));
        settle(el);
        output(el, task).unwrap();

        // One that has fired is over, wherever it is polled.
        let mut fired = Box::pin(sleep(ms(20)));
        assert!(poll_in(&other, &mut fired).is_pending());
        clock.advance(ms(20));
        settle(&other);
        assert!(poll_in(el, &mut fired).is_ready());

        // Outside of any run it stays where it is.
        let mut stays = Box::pin(sleep(ms(20)));
        assert!(poll_in(&other, &mut stays).is_pending());
        assert!(stays.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(other.next_deadline().is_some());
        drop(stays);

        let slow = ManualClock::new();
        let third = EventLoop::builder().clock(slow.clone()).build().unwrap();
        let mut moving = Box::pin(sleep(ms(1_000_000)));
        assert!(poll_in(el, &mut moving).is_pending());
        let deadline = moving.deadline().unwrap();
        clock.advance(ms(2_000_000));
        assert!(poll_in(&third, &mut moving).is_pending());
        assert_eq!((el.next_deadline(), third.next_deadline()), (None, Some(deadline)));
        slow.advance(deadline - third.time());
        settle(&third);
        assert!(poll_in(&third, &mut moving).is_ready());
        third.close();
        other.close();
    });
}

/// A waker's own code may use the timers of the loop: when it is replaced by another one.
#[test]
fn a_sleeps_waker_may_use_the_timers() {
    thread_local! {
        static LOOP: RefCell<Option<EventLoop>> = const { RefCell::new(None) };
    }
    struct Arms;
    impl Wake for Arms {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Arms {
        fn drop(&mut self) {
            let el = LOOP.with(|el| el.take()).unwrap();
            el.call_later(ms(5), || ()).cancel();
        }
    }
    on_manual_clock(|el, _| {
        LOOP.with(|place| *place.borrow_mut() = Some(el.clone()));
        let mut sleep = Box::pin(sleep(ms(20)));
        let poll = |sleep: &mut Pin<Box<Sleep>>, waker: &Waker| {
            assert!(sleep.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
        };
        el.run_until_complete(async {
            poll(&mut sleep, &Waker::from(Arc::new(Arms)));
            poll(&mut sleep, Waker::noop());
        })
        .unwrap();
        assert!(LOOP.with(|el| el.borrow().is_none()));
    });
}

/// CB-01: outside of a running loop the panic says what is missing.
#[test]
fn time_needs_a_running_loop() {
    let _alone = alone();
    let mut cx = Context::from_waker(Waker::noop());
    let text = panic_of(|| {
        let _ = pin!(sleep(MS)).poll(&mut cx);
    });
    assert!(text.contains("outside of a running") && text.contains("sleep"), "{text}");
    let text = panic_of(|| {
        let _ = pin!(timeout(MS, std::future::pending::<()>())).poll(&mut cx);
    });
    assert!(text.contains("outside of a running"), "{text}");
    let text = panic_of(|| {
        let _ = pin!(interval(MS).tick()).poll(&mut cx);
    });
    assert!(text.contains("outside of a running") && text.contains("interval"), "{text}");
    // A future that is done at once needs no loop.
    assert_eq!(pin!(timeout(MS, async { 5 })).poll(&mut cx), Poll::Ready(Ok(5)));
}

/// CB-01: `yield_now` resumes in the very next turn, each time.
#[test]
fn yield_now_takes_one_turn() {
    on_strict_loop(|el| {
        let log = Log::new();
        for name in ["a", "b"] {
            let log = log.clone();
            drop(el.create_task(async move {
                for n in 0..3 {
                    log.push(format!("{name}{n}"));
                    yield_now().await;
                }
            }));
        }
        for n in 0..3 {
            el.run_once(Some(Duration::ZERO)).unwrap();
            assert_eq!(log.take(), [format!("a{n}"), format!("b{n}")]);
        }
        settle(el);
    });
}

// ---------------------------------------------------------------- timeout

/// CB-34: when the time is over the future is dropped there and then, not with the timeout itself; the error is
/// `TimedOut`; the deadline can be asked for.
#[test]
fn timeout_drops_the_future_at_once() {
    on_manual_clock(|el, clock| {
        let drops = DropCounter::new();
        let guard = drops.guard();
        let deadline = el.time() + ms(10);
        let mut limited = Box::pin(timeout(ms(10), async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        }));
        assert_eq!(limited.deadline(), None, "the time counts from the first poll");
        let mut poll = || complete(el, poll_fn(|cx| Poll::Ready(limited.as_mut().poll(cx))));
        assert_eq!((poll(), drops.count()), (Poll::Pending, 0));
        assert_eq!(el.next_deadline(), Some(deadline));
        clock.advance(ms(10));
        assert_eq!((poll(), drops.count()), (Poll::Ready(Err(TimedOut)), 1));
        assert_eq!(poll(), Poll::Ready(Err(TimedOut)), "it stays over");
        assert_eq!(limited.deadline(), Some(deadline));
        assert_eq!(TimedOut.to_string(), "timed out");
        assert_eq!(std::io::Error::from(TimedOut).kind(), std::io::ErrorKind::TimedOut);
    });
}

/// CB-34: a future that is done in time gives its output, and the timer is gone.
#[test]
fn timeout_in_time() {
    on_manual_clock(|el, clock| {
        let task = el.create_task(async {
            let output = timeout(ms(10), async {
                sleep(ms(9)).await;
                7
            })
            .await;
            std::future::pending::<()>().await;
            output
        });
        settle(el);
        clock.advance(ms(9));
        settle(el);
        assert_eq!(el.next_deadline(), None, "the limit is disarmed although the task goes on");
        task.cancel();
        settle(el);
    });
}

/// CB-28: a future that is done when the time is over has made it.
#[test]
fn done_at_the_last_moment() {
    on_manual_clock(|el, clock| {
        let task = el.create_task(timeout(ms(10), async {
            sleep(ms(10)).await;
            "made it"
        }));
        settle(el);
        clock.advance(ms(500));
        settle(el);
        assert_eq!(output(el, task).unwrap(), Ok("made it"));
    });
}

/// CB-26: with no time at all, what is done already is given out, and what is not is dropped in the next turn.
#[test]
fn timeout_of_zero() {
    on_manual_clock(|el, _| {
        assert_eq!(complete(el, timeout(Duration::ZERO, async { 1 })), Ok(1));
        let task = el.create_task(async { 2 });
        settle(el);
        assert_eq!(complete(el, timeout(Duration::ZERO, task)).unwrap().unwrap(), 2);

        let drops = DropCounter::new();
        let guard = drops.guard();
        let never = async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        };
        let mut limited = pin!(timeout(Duration::ZERO, never));
        assert_eq!(complete(el, limited.as_mut()), Err(TimedOut));
        assert_eq!(drops.count(), 1);
        let past = el.time() - ms(5);
        assert_eq!(complete(el, timeout_at(past, std::future::pending::<()>())), Err(TimedOut));
        assert_eq!(complete(el, timeout_at(past, async { 3 })), Ok(3));
    });
}

/// CB-32: a limit without end limits nothing.
#[test]
fn timeout_without_end() {
    on_manual_clock(|el, clock| {
        let task = el.create_task(timeout(Duration::MAX, async {
            sleep(Duration::from_secs(3600)).await;
            "late"
        }));
        settle(el);
        clock.advance(Duration::from_secs(3600));
        settle(el);
        assert_eq!(output(el, task).unwrap(), Ok("late"));
    });
}

/// CB-30: dropping a timeout drops the future in it and disarms the timer.
#[test]
fn a_cancelled_timeout_drops_its_future() {
    on_manual_clock(|el, _| {
        let drops = DropCounter::new();
        let guard = drops.guard();
        let task = el.create_task(timeout(ms(10), async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        }));
        settle(el);
        assert_eq!(drops.count(), 0);
        task.cancel();
        settle(el);
        assert_eq!(drops.count(), 1);
        assert_eq!(el.next_deadline(), None);
    });
}

/// CB-40: a timeout can be given more time or less; once it is over, no more.
#[test]
fn reschedule_moves_the_limit() {
    on_manual_clock(|el, clock| {
        let start = el.time();
        let limited = Rc::new(RefCell::new(Box::pin(timeout(ms(10), std::future::pending::<()>()))));
        let polled = limited.clone();
        let task = el.create_task(poll_fn(move |cx| polled.borrow_mut().as_mut().poll(cx)));
        settle(el);
        limited.borrow_mut().as_mut().reschedule(start + ms(30));
        assert_eq!(limited.borrow().deadline(), Some(start + ms(30)));
        clock.advance(ms(20));
        settle(el);
        assert!(!task.is_done());
        limited.borrow_mut().as_mut().reschedule(start + ms(25));
        clock.advance(ms(5));
        settle(el);
        assert_eq!(output(el, task).unwrap(), Err(TimedOut));
        limited.borrow_mut().as_mut().reschedule(start + ms(1000));
        let again = complete(el, poll_fn(|cx| Poll::Ready(limited.borrow_mut().as_mut().poll(cx))));
        assert_eq!(again, Poll::Ready(Err(TimedOut)));
        assert_eq!(el.next_deadline(), None);
    });
}

/// CB-37: after a long blocking call both limits are over: the inner one is seen first, and the outer one ends
/// whatever is awaited next.
#[test]
fn nested_timeouts_after_a_blocking_call() {
    on_manual_clock(|el, clock| {
        let log = Log::new();
        let (own, clock) = (log.clone(), clock.clone());
        let task = el.create_task(timeout(ms(100), async move {
            let inner = timeout(ms(10), async {
                yield_now().await;
                clock.advance(ms(500));
                std::future::pending::<()>().await;
            });
            own.push(format!("inner {:?}", inner.await));
            std::future::pending::<()>().await;
            own.push("not reached");
        }));
        settle(el);
        assert_eq!(log.take(), ["inner Err(TimedOut)"]);
        assert_eq!(output(el, task).unwrap(), Err(TimedOut));
        assert_eq!(el.next_deadline(), None);
    });
}

/// CB-38: a task that is cancelled inside of a timeout is cancelled, not timed out.
#[test]
fn a_foreign_cancel_is_no_timeout() {
    on_manual_clock(|el, clock| {
        let log = Log::new();
        let own = log.clone();
        let task = el.create_task(async move {
            let result = timeout(ms(10), std::future::pending::<()>()).await;
            own.push(format!("{result:?}"));
        });
        settle(el);
        task.cancel();
        clock.advance(ms(50));
        settle(el);
        assert!(output(el, task).unwrap_err().is_cancelled());
        assert_eq!(log.take(), [""; 0]);
    });
}

/// CB-39: an error or a panic of the future passes through a timeout.
#[test]
fn errors_pass_through_a_timeout() {
    on_loop(|el| {
        let failing = timeout(Duration::from_secs(60), async { Err::<(), _>("its own error") });
        assert_eq!(complete(el, failing), Ok(Err("its own error")));
        let task = el.create_task(timeout(Duration::from_secs(60), async {
            yield_now().await;
            panic!("its own panic");
        }));
        let error = complete(el, task).unwrap_err();
        assert_eq!(error.to_string(), "panicked: its own panic");
    });
}

// ---------------------------------------------------------------- interval

/// What an interval gave: the moment a tick was due and the moment it came, in ms since the start.
fn ticks(missed: MissedTicks, delays: &'static [u64]) -> Vec<(u128, u128)> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = seen.clone();
    on_manual_clock(move |el, clock| {
        let start = el.time();
        let (handle, own_clock) = (el.clone(), clock.clone());
        drop(el.create_task(async move {
            let mut interval = interval(ms(10)).missed_ticks(missed);
            for delay in delays {
                let due = interval.tick().await;
                log.borrow_mut().push(((due - start).as_millis(), (handle.time() - start).as_millis()));
                // Something that keeps the loop for so long.
                own_clock.advance(ms(*delay));
            }
        }));
        run_out(el, clock);
    });
    Rc::into_inner(seen).unwrap().into_inner()
}

/// api 1: an interval ticks at once and then once in each period, however long each tick is worked on, as long as that
/// is less than the period.
#[test]
fn interval_keeps_its_pace() {
    for missed in [MissedTicks::Burst, MissedTicks::Delay, MissedTicks::Skip] {
        assert_eq!(ticks(missed, &[0, 3, 9, 1, 0]), [(0, 0), (10, 10), (20, 20), (30, 30), (40, 40)]);
    }
}

/// api 1: a tick that is less than a period late is not a missed one: the pace stays.
#[test]
fn a_little_late_is_not_missed() {
    for missed in [MissedTicks::Burst, MissedTicks::Delay, MissedTicks::Skip] {
        on_manual_clock(|el, clock| {
            let start = el.time();
            let task = el.create_task(async move {
                let mut interval = interval_at(start + ms(10), ms(10)).missed_ticks(missed);
                (interval.tick().await - start, interval.tick().await - start)
            });
            settle(el);
            clock.advance(ms(19));
            settle(el);
            assert_eq!(el.next_deadline(), Some(start + ms(20)), "{missed:?}");
            clock.advance(ms(1));
            settle(el);
            assert_eq!(output(el, task).unwrap(), (ms(10), ms(20)));
        });
    }
}

/// api 1: missed ticks are made up for at once, and the pace stays.
#[test]
fn interval_bursts() {
    let expected = [(0, 0), (10, 35), (20, 35), (30, 35), (40, 40), (50, 50)];
    assert_eq!(ticks(MissedTicks::Burst, &[35, 0, 0, 0, 0, 0]), expected);
}

/// api 1: after a late tick a new pace begins.
#[test]
fn interval_delays() {
    assert_eq!(ticks(MissedTicks::Delay, &[35, 0, 0, 0]), [(0, 0), (10, 35), (45, 45), (55, 55)]);
}

/// api 1: missed ticks are left out, and the pace stays.
#[test]
fn interval_skips() {
    assert_eq!(ticks(MissedTicks::Skip, &[35, 0, 0, 0]), [(0, 0), (10, 35), (40, 40), (50, 50)]);
    assert_eq!(
        ticks(MissedTicks::Skip, &[40, 0, 0]),
        [(0, 0), (10, 40), (50, 50)],
        "one that is just due is not left out twice"
    );
}

/// api 1: an interval can start at a moment of one's choice, and is a stream of the moments it was due.
#[test]
fn interval_is_a_stream() {
    on_manual_clock(|el, clock| {
        let start = el.time();
        let task = el.create_task(async move {
            let moments: Vec<_> = interval_at(start + ms(25), ms(10)).take(3).collect().await;
            moments.into_iter().map(|moment| (moment - start).as_millis()).collect::<Vec<_>>()
        });
        run_out(el, clock);
        assert_eq!(output(el, task).unwrap(), [25, 35, 45]);
    });
}

/// api 1: cancelling a tick loses none, and dropping the interval leaves no timer.
#[test]
fn a_cancelled_tick_is_not_lost() {
    on_manual_clock(|el, clock| {
        let start = el.time();
        let task = el.create_task(async move {
            let mut interval = interval(ms(10));
            interval.tick().await;
            assert_eq!(timeout(ms(4), interval.tick()).await, Err(TimedOut));
            assert_eq!(timeout(ms(4), interval.tick()).await, Err(TimedOut));
            (interval.tick().await, interval.period())
        });
        run_out(el, clock);
        assert_eq!(output(el, task).unwrap(), (start + ms(10), ms(10)));
        assert_eq!(el.next_deadline(), None);
    });
}

/// api 1: a period of zero is refused, and the panic points at the caller.
#[test]
fn an_interval_of_zero_is_refused() {
    let _alone = alone();
    let place = Arc::new(Mutex::new(None));
    let seen = place.clone();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        *seen.lock().unwrap() = info.location().map(|place| place.file().to_owned());
    }));
    let refusals: [&dyn Fn(); 2] =
        [&|| drop(interval(Duration::ZERO)), &|| drop(interval_at(Instant::now(), Duration::ZERO))];
    let seen = refusals.map(|refused| (panic_of(refused), place.lock().unwrap().take()));
    std::panic::set_hook(hook);
    for (text, place) in seen {
        assert!(text.contains("longer than zero"), "{text}");
        assert_eq!(place.as_deref(), Some(file!()));
    }
}

/// Architecture 3: an interval that is always late does not keep the others waiting: its task yields.
#[test]
fn a_late_interval_lets_the_others_run() {
    on_loop(|el| {
        let called = Rc::new(Cell::new(false));
        let flag = called.clone();
        let task = el.create_task(async move {
            let mut interval = interval(Duration::from_nanos(1));
            interval.tick().await;
            get_running_loop().unwrap().call_soon(move || flag.set(true));
            let mut ticks = 1_u64;
            // Without yielding it would never be called.
            while !called.get() && ticks < 100_000 {
                interval.tick().await;
                ticks += 1;
            }
            ticks
        });
        run_until(el, || task.is_done());
        let ticks = output(el, task).unwrap();
        assert!((128..100_000).contains(&ticks), "{ticks} ticks");
    });
}

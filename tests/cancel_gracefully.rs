//! Asking a task to end by itself: how its body hears of it, how long it may take, what comes of it (behaviours TK).

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::{CountingWaker, DropCounter, Log, complete, finish, on_loop, on_manual_clock, settle, take_reports};
use futures::future::{Either, join, select};
use roundelay::{
    EventLoop, Fatal, RunError, Runner, Task, TaskInfo, TaskState, cancel_requested, get_running_loop,
    is_cancel_requested, sleep, spawn, yield_now,
};

const SECOND: Duration = Duration::from_secs(1);

fn turn(el: &EventLoop) {
    el.run_once(Some(Duration::ZERO)).unwrap();
}

fn current() -> TaskInfo {
    get_running_loop().unwrap().current_task().unwrap()
}

/// A task that waits to be asked, takes so long to clean up, and then gives a value.
fn cleaner(el: &EventLoop, drops: &DropCounter, takes: Duration) -> Task<&'static str> {
    let guard = drops.guard();
    let task = el.create_task(async move {
        let _guard = guard;
        cancel_requested().await;
        sleep(takes).await;
        "cleaned"
    });
    turn(el);
    task
}

/// TK-09, TK-12: the call says true, and the task is not cancelled: its body is resumed, cleans up with `await`, and what
/// it returns is its output.
#[test]
fn the_body_cleans_up() {
    on_manual_clock(|el, clock| {
        let drops = DropCounter::new();
        let task = cleaner(el, &drops, SECOND);
        assert!(task.cancel_gracefully(5 * SECOND));
        assert!(!task.is_done() && !task.is_cancelled());
        settle(el);
        assert!(!task.is_done());
        clock.advance(SECOND);
        settle(el);
        assert!(task.is_done() && !task.is_cancelled());
        assert!(!task.cancel_gracefully(SECOND), "it is done");
        assert_eq!(drops.count(), 1);
        assert_eq!(el.next_deadline(), None, "the end of the grace is not waited for any more");
        assert_eq!(finish(el, task).unwrap(), "cleaned");
    });
}

/// TK-09: what is not done when the grace is over is dropped, and is cancelled then, not before.
#[test]
fn the_grace_ends() {
    on_manual_clock(|el, clock| {
        let drops = DropCounter::new();
        let task = cleaner(el, &drops, 100 * SECOND);
        assert!(task.cancel_gracefully(5 * SECOND));
        settle(el);
        assert!(task.cancel_gracefully(7 * SECOND), "it is not done");
        clock.advance(5 * SECOND - Duration::from_nanos(2));
        settle(el);
        assert_eq!((task.is_done(), drops.count()), (false, 0));
        clock.advance(Duration::from_nanos(2));
        settle(el);
        assert!(task.is_cancelled());
        assert_eq!(drops.count(), 1);
        assert_eq!(el.next_deadline(), None);
        assert!(finish(el, task).unwrap_err().is_cancelled());
    });
}

/// TK-13: the body may take note and go on with something else; the future it then waits for is its own affair, and its
/// end is a normal one.
#[test]
fn the_body_goes_on() {
    on_manual_clock(|el, _| {
        let later = el.create_future::<u32>();
        let awaited = later.clone();
        let task = el.create_task(async move {
            cancel_requested().await;
            awaited.await.unwrap()
        });
        settle(el);
        assert!(task.cancel_gracefully(Duration::MAX));
        settle(el);
        assert_eq!(el.next_deadline(), None, "a grace without end has no timer");
        assert!(!task.is_done() && !later.is_cancelled());
        later.set_result(3).unwrap();
        settle(el);
        assert!(!task.is_cancelled());
        assert_eq!(finish(el, task).unwrap(), 3);
    });
}

/// TK-19, P12: two calls before the task has its turn are one request: the body is resumed once, and may go on.
#[test]
fn asked_twice() {
    on_manual_clock(|el, _| {
        let log = Log::new();
        let (own, told) = (log.clone(), log.clone());
        let task = el.create_task(async move {
            cancel_requested().await;
            own.push("asked");
            yield_now().await;
            own.push("went on");
            "value"
        });
        settle(el);
        task.add_done_callback(move |outcome| told.push(format!("{outcome:?}")));
        assert!(task.cancel_gracefully(SECOND) && task.cancel_gracefully(SECOND));
        settle(el);
        assert_eq!(log.take(), ["asked", "went on", "Finished"]);
        assert!(!task.cancel_gracefully(SECOND) && !task.is_cancelled());
        assert_eq!(finish(el, task).unwrap(), "value");
    });
}

/// The request stays: whoever awaits it again, or anew, is told again.
#[test]
fn the_request_stays() {
    on_manual_clock(|el, _| {
        let task = el.create_task(async {
            let mut requested = pin!(cancel_requested());
            let before = is_cancel_requested();
            requested.as_mut().await;
            requested.as_mut().await;
            cancel_requested().await;
            (before, is_cancel_requested())
        });
        settle(el);
        task.cancel_gracefully(SECOND);
        settle(el);
        assert_eq!(finish(el, task).unwrap(), (false, true));
    });
}

/// A task that has never looked whether it was asked would not hear of it: it is dropped at once, and so is one that has
/// never been polled (TK-08).
#[test]
fn who_does_not_look_is_cancelled_at_once() {
    on_manual_clock(|el, _| {
        let drops = DropCounter::new();
        let (deaf, new) = (drops.guard(), drops.guard());
        let deaf = el.create_task(async move {
            let _guard = deaf;
            pending::<()>().await
        });
        settle(el);
        let new = el.create_task(async move {
            let _guard = new;
            cancel_requested().await
        });
        assert!(deaf.cancel_gracefully(Duration::MAX) && new.cancel_gracefully(Duration::MAX));
        assert!(!deaf.is_done() && !new.is_done());
        turn(el);
        assert!(deaf.is_cancelled() && new.is_cancelled());
        assert_eq!(drops.count(), 2);
    });
}

/// `is_cancel_requested` is enough: a body that looks from time to time has its grace.
#[test]
fn a_body_that_looks_from_time_to_time() {
    on_manual_clock(|el, clock| {
        let task = el.create_task(async {
            let mut rounds = 0;
            while !is_cancel_requested() {
                rounds += 1;
                sleep(SECOND).await;
            }
            rounds
        });
        for _ in 0..3 {
            settle(el);
            clock.advance(SECOND);
        }
        assert!(task.cancel_gracefully(60 * SECOND));
        settle(el);
        assert!(!task.is_cancelled());
        assert_eq!(finish(el, task).unwrap(), 3);
        assert_eq!(el.next_deadline(), None);
    });
}

/// Of several graces the one that ends first counts, whichever was given first; none is left behind.
#[test]
fn the_shorter_grace_counts() {
    on_manual_clock(|el, clock| {
        let graces = [
            [5 * SECOND, SECOND],
            [SECOND, 5 * SECOND],
            [SECOND, Duration::MAX],
            [Duration::MAX, SECOND],
            [SECOND, SECOND],
        ];
        for graces in graces {
            let drops = DropCounter::new();
            let task = cleaner(el, &drops, 100 * SECOND);
            for grace in graces {
                assert!(task.cancel_gracefully(grace));
            }
            settle(el);
            clock.advance(SECOND - Duration::from_nanos(2));
            settle(el);
            assert!(!task.is_done(), "{graces:?}");
            clock.advance(Duration::from_nanos(2));
            settle(el);
            assert!(task.is_cancelled(), "{graces:?}");
            assert_eq!(el.next_deadline(), None, "{graces:?}");
        }
    });
}

/// A plain `cancel`, or a grace of no time, drops the future in the next turn, also while the body cleans up.
#[test]
fn cancelled_during_the_grace() {
    on_manual_clock(|el, _| {
        let end: [fn(&Task<&str>) -> bool; 2] = [|task| task.cancel(), |task| task.cancel_gracefully(Duration::ZERO)];
        for end in end {
            let drops = DropCounter::new();
            let task = cleaner(el, &drops, SECOND);
            task.cancel_gracefully(5 * SECOND);
            settle(el);
            assert!(end(&task));
            assert!(task.cancel_gracefully(5 * SECOND), "a grace that comes later changes nothing");
            assert_eq!(drops.count(), 0);
            turn(el);
            assert!(task.is_cancelled());
            assert_eq!((drops.count(), el.next_deadline()), (1, None));
        }
    });
}

/// TK-14, TK-15: a task that asks itself and listens goes on as any other that was asked: its value is not lost; one that
/// does not listen is cancelled at its next await.
#[test]
fn asking_oneself() {
    on_manual_clock(|el, _| {
        let listens = el.create_task(async {
            let before = is_cancel_requested();
            assert!(current().cancel_gracefully(SECOND));
            yield_now().await;
            cancel_requested().await;
            (before, is_cancel_requested())
        });
        let deaf = el.create_task(async {
            assert!(current().cancel_gracefully(SECOND));
            assert!(is_cancel_requested());
            yield_now().await;
            unreachable!("dropped at the await")
        });
        let at_the_end = el.create_task(async { current().cancel_gracefully(SECOND) });
        settle(el);
        assert_eq!(finish(el, listens).unwrap(), (false, true));
        assert!(deaf.is_cancelled() && at_the_end.is_cancelled());
        let _: Result<(), _> = finish(el, deaf);
        assert_eq!(el.next_deadline(), None);
    });
}

/// TK-16: a task that awaits another one hands the request on, and the whole chain ends in its own way; what is
/// `cancel_on_drop` ends with it when the grace is over.
#[test]
fn handed_on_along_a_chain() {
    on_manual_clock(|el, clock| {
        let log = Log::new();
        for takes in [1, 100] {
            let (inner_log, outer_log) = (log.clone(), log.clone());
            let outer = el.create_task(async move {
                let inner = spawn(async move {
                    cancel_requested().await;
                    sleep(takes * SECOND).await;
                    inner_log.push("inner");
                });
                let mut inner = inner.cancel_on_drop();
                let ended = match select(pin!(cancel_requested()), &mut inner).await {
                    Either::Left(_) => None,
                    Either::Right((ended, _)) => Some(ended),
                };
                let ended = match ended {
                    Some(ended) => ended,
                    None => {
                        inner.cancel_gracefully(60 * SECOND);
                        inner.await
                    }
                };
                outer_log.push("outer");
                ended.unwrap();
            });
            settle(el);
            outer.cancel_gracefully(10 * SECOND);
            settle(el);
            clock.advance(SECOND);
            settle(el);
            clock.advance(9 * SECOND);
            settle(el);
            assert_eq!(outer.is_cancelled(), takes == 100);
            assert_eq!(log.take().join(" "), if takes == 1 { "inner outer" } else { "" });
            assert!(el.all_tasks().is_empty());
            assert_eq!(el.next_deadline(), None);
        }
    });
}

/// TK-25: a body that fails while it cleans up has that as its result, and is not cancelled: an error it returns, a panic.
#[test]
fn the_body_fails_while_it_cleans_up() {
    on_manual_clock(|el, _| {
        let errs = el.create_task(async {
            cancel_requested().await;
            Err::<(), _>("cannot save")
        });
        let panics: Task<()> = el.create_task(async {
            cancel_requested().await;
            panic!("cannot save either")
        });
        settle(el);
        assert!(errs.cancel_gracefully(SECOND) && panics.cancel_gracefully(SECOND));
        settle(el);
        assert!(!errs.is_cancelled() && !panics.is_cancelled());
        assert_eq!(finish(el, errs).unwrap(), Err("cannot save"));
        let payload = finish(el, panics).unwrap_err().into_panic();
        assert_eq!(payload.downcast_ref(), Some(&"cannot save either"));
        assert_eq!(el.next_deadline(), None);
    });
}

/// TK-25: a fatal panic while cleaning up unwinds out of the run; the loop goes on.
#[test]
fn the_body_fails_fatally_while_it_cleans_up() {
    on_manual_clock(|el, _| {
        let task: Task<()> = el.create_task(async {
            cancel_requested().await;
            std::panic::panic_any(Fatal::new("out"))
        });
        settle(el);
        task.cancel_gracefully(SECOND);
        let payload = catch_unwind(AssertUnwindSafe(|| settle(el))).unwrap_err();
        assert!(payload.is::<Fatal>());
        settle(el);
        assert!(task.is_done() && !task.is_cancelled());
        assert_eq!(el.next_deadline(), None);
    });
}

/// TK-26: an inner future hears of it first, ends, and then the outer one sees it.
#[test]
fn from_the_inside_out() {
    on_manual_clock(|el, _| {
        let log = Log::new();
        let own = log.clone();
        let task = el.create_task(async move {
            let inner = async {
                cancel_requested().await;
                own.push("inner");
                Err::<(), _>("asked to end")
            };
            if let Err(error) = inner.await {
                own.push(format!("outer: {error}"));
            }
        });
        settle(el);
        task.cancel_gracefully(SECOND);
        settle(el);
        assert_eq!(log.take(), ["inner", "outer: asked to end"]);
        assert!(finish(el, task).is_ok());
    });
}

/// All that wait in one task are told, each through its own waker, in the order in which they came.
#[test]
fn several_wait_in_one_task() {
    on_manual_clock(|el, _| {
        let log = Log::new();
        let own = log.clone();
        let task = el.create_task(async move {
            // Each has a waker of its own in it, and is polled only if that was woken.
            let all = futures::stream::FuturesUnordered::new();
            for n in 0..3 {
                let log = own.clone();
                all.push(async move {
                    cancel_requested().await;
                    log.push(format!("{n}"));
                });
            }
            futures::StreamExt::collect::<Vec<()>>(all).await
        });
        settle(el);
        task.cancel_gracefully(SECOND);
        settle(el);
        assert_eq!(log.take(), ["0", "1", "2"]);
        assert_eq!(finish(el, task).unwrap().len(), 3);
    });
}

/// Whoever gave up waiting is not woken, and its waker is not kept.
#[test]
fn who_gave_up_is_not_told() {
    on_manual_clock(|el, _| {
        let (counter, waker) = CountingWaker::new();
        let (one, other) = (waker.clone(), waker.clone());
        let task = el.create_task(async move {
            let mut given_up = Box::pin(cancel_requested());
            let polled = poll_with(given_up.as_mut(), &one);
            assert!(polled.is_pending());
            // Twice with the same waker, and once with another: the latest counts.
            let mut kept = Box::pin(cancel_requested());
            assert!(poll_with(kept.as_mut(), Waker::noop()).is_pending());
            assert!(poll_with(kept.as_mut(), &other).is_pending());
            assert!(poll_with(kept.as_mut(), &other).is_pending());
            drop(given_up);
            join(kept, cancel_requested()).await;
        });
        settle(el);
        task.cancel_gracefully(SECOND);
        settle(el);
        assert!(finish(el, task).is_ok());
        // `join` has polled it with the task's waker after that.
        assert_eq!(counter.count(), 0);
        drop(waker);
        assert_eq!(std::sync::Arc::strong_count(&counter), 1);
    });
}

/// A future that outlives its task is let go of by the task's end, and forgets it.
#[test]
fn it_outlives_its_task() {
    on_manual_clock(|el, _| {
        let (counter, waker) = CountingWaker::new();
        let task = el.create_task(async move {
            let mut requested = Box::pin(cancel_requested());
            assert!(poll_with(requested.as_mut(), &waker).is_pending());
            (requested,)
        });
        settle(el);
        assert_eq!(std::sync::Arc::strong_count(&counter), 1);
        let next = cleaner(el, &DropCounter::new(), Duration::ZERO);
        let (mut requested,) = finish(el, task).unwrap();
        assert!(poll_with(requested.as_mut(), Waker::noop()).is_pending());
        drop(requested);
        next.cancel_gracefully(SECOND);
        assert_eq!(finish(el, next).unwrap(), "cleaned");
    });
}

fn poll_with<F: Future>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

/// A future that goes from one task to another asks for the one that polls it; where there is none, nobody asks.
#[test]
fn it_concerns_the_task_that_polls_it() {
    on_manual_clock(|el, _| {
        let shared = Rc::new(RefCell::new(Box::pin(cancel_requested())));
        assert!(poll_with(shared.borrow_mut().as_mut(), Waker::noop()).is_pending());
        assert!(!is_cancel_requested());
        let (first, second) = (shared.clone(), shared.clone());
        let gives_away = el.create_task(async move {
            poll_fn(|cx| {
                assert!(first.borrow_mut().as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            pending::<()>().await
        });
        settle(el);
        let takes = el.create_task(poll_fn(move |cx| second.borrow_mut().as_mut().poll(cx)));
        settle(el);
        assert!(gives_away.cancel_gracefully(Duration::MAX));
        settle(el);
        assert!(!takes.is_done() && !gives_away.is_done());
        let polls = |id| el.all_tasks().iter().find(|info| info.id == id).unwrap().polls;
        assert_eq!((polls(gives_away.id()), polls(takes.id())), (1, 1), "it was taken along");
        assert!(takes.cancel_gracefully(SECOND));
        settle(el);
        assert!(takes.is_done() && !takes.is_cancelled());
        gives_away.cancel();
        let in_callback = el.call_soon(move || {
            let polled = poll_with(shared.borrow_mut().as_mut(), Waker::noop());
            (polled.is_pending(), is_cancel_requested())
        });
        assert_eq!(complete(el, in_callback).unwrap(), (true, false));
    });
}

/// A waker that panics is reported; the others are woken all the same.
#[test]
fn a_waker_panics() {
    struct Panics;
    impl std::task::Wake for Panics {
        fn wake(self: std::sync::Arc<Self>) {
            panic!("no waking here");
        }
    }
    on_manual_clock(|el, _| {
        let waker = Waker::from(std::sync::Arc::new(Panics));
        let task = el.create_task(async move {
            let mut first = Box::pin(cancel_requested());
            assert!(poll_with(first.as_mut(), &waker).is_pending());
            cancel_requested().await;
            "told"
        });
        settle(el);
        assert!(task.cancel_gracefully(SECOND));
        let reports = take_reports();
        assert_eq!(reports.len(), 1);
        assert!(reports[0].contains("no waking here"), "{reports:?}");
        assert_eq!(finish(el, task).unwrap(), "told");
    });
}

/// While the body cleans up, the task says that it is being cancelled; its own view is that it runs.
#[test]
fn what_is_seen_of_it() {
    on_manual_clock(|el, _| {
        let own = Rc::new(Cell::new(None));
        let seen = own.clone();
        let task = el.task_builder().name("cleaner").spawn(async move {
            cancel_requested().await;
            seen.set(Some(current().state));
            pending::<()>().await
        });
        let state = || el.all_tasks()[0].state;
        settle(el);
        assert_eq!(state(), TaskState::Pending);
        task.cancel_gracefully(SECOND);
        assert_eq!(state(), TaskState::Cancelling);
        settle(el);
        assert_eq!(state(), TaskState::Cancelling);
        assert_eq!(own.get(), Some(TaskState::Running));
        assert!(format!("{task:?}").starts_with("<Task cancelling name=\"cleaner\""), "{task:?}");
        assert_eq!(format!("{:?}", cancel_requested()), "CancelRequested { task: None }");
    });
}

/// Everything that can cancel can ask: a canceller, what is known of a task, `cancel_on_drop`'s handle, and the call that
/// waits for the end.
#[test]
fn whoever_can_cancel_can_ask() {
    on_manual_clock(|el, _| {
        let drops = DropCounter::new();
        let asks: [fn(&EventLoop, &Task<&'static str>) -> bool; 2] = [
            |_, task| task.canceller().cancel_gracefully(SECOND),
            |el, task| el.all_tasks().iter().find(|info| info.id == task.id()).unwrap().cancel_gracefully(SECOND),
        ];
        for ask in asks {
            let task = cleaner(el, &drops, Duration::ZERO);
            let canceller = task.canceller();
            assert!(ask(el, &task));
            assert_eq!(finish(el, task).unwrap(), "cleaned");
            assert!(!canceller.cancel_gracefully(SECOND));
        }
        let held = cleaner(el, &drops, Duration::ZERO).cancel_on_drop();
        assert!(held.cancel_gracefully(SECOND));
        assert_eq!(finish(el, held.detach_on_drop()).unwrap(), "cleaned");

        let task = cleaner(el, &drops, Duration::ZERO);
        let waits = el.create_task(task.cancel_gracefully_and_wait(SECOND));
        assert_eq!(finish(el, waits).unwrap().unwrap(), "cleaned");

        let done = el.create_task(async { "in time" });
        settle(el);
        let waits = el.create_task(done.cancel_gracefully_and_wait(SECOND));
        assert_eq!(finish(el, waits).unwrap().unwrap(), "in time");
    });
}

/// A detached task is asked, too, and forgets all of it at its end.
#[test]
fn a_detached_task() {
    on_manual_clock(|el, clock| {
        let drops = DropCounter::new();
        for takes in [SECOND, 100 * SECOND] {
            let task = cleaner(el, &drops, takes);
            let canceller = task.canceller();
            drop(task);
            assert!(canceller.cancel_gracefully(10 * SECOND));
            settle(el);
            clock.advance(SECOND);
            settle(el);
            clock.advance(9 * SECOND);
            settle(el);
            assert!(!canceller.cancel_gracefully(SECOND));
            assert_eq!(el.next_deadline(), None);
        }
        assert_eq!(drops.count(), 2);
    });
}

/// The place of a task that was asked is used again for another one, which was not.
#[test]
fn the_next_task_in_its_place() {
    on_manual_clock(|el, clock| {
        let drops = DropCounter::new();
        let mut asked = cleaner(el, &drops, Duration::ZERO);
        asked.cancel_gracefully(5 * SECOND);
        settle(el);
        drop(el.run_until_complete(&mut asked));
        drop(asked);
        let next = cleaner(el, &drops, Duration::ZERO);
        clock.advance(60 * SECOND);
        settle(el);
        assert!(!next.is_done());
        next.cancel();
        settle(el);
        assert!(next.is_cancelled());
    });
}

/// The loop is closed under a task that cleans up: it is dropped then, and the timer goes; a handle that is left asks
/// nobody.
#[test]
fn the_loop_is_closed_meanwhile() {
    on_manual_clock(|el, _| {
        let drops = DropCounter::new();
        let task = cleaner(el, &drops, SECOND);
        let waiting = cleaner(el, &drops, SECOND);
        let canceller = task.canceller();
        task.cancel_gracefully(60 * SECOND);
        settle(el);
        el.close();
        assert_eq!(drops.count(), 2);
        assert!(task.is_done() && !task.is_cancelled());
        assert!(!task.cancel_gracefully(SECOND) && !waiting.cancel_gracefully(SECOND));
        assert!(!canceller.cancel_gracefully(SECOND));
    });
}

/// A destructor that asks while the loop is being closed harms nobody, and no timer is left.
#[test]
fn asked_by_a_destructor_at_the_end() {
    struct Asks(Vec<roundelay::Canceller>);
    impl Drop for Asks {
        fn drop(&mut self) {
            for canceller in &self.0 {
                canceller.cancel_gracefully(SECOND);
            }
        }
    }
    on_manual_clock(|el, _| {
        let drops = DropCounter::new();
        let (first, third) = (cleaner(el, &drops, SECOND), cleaner(el, &drops, SECOND));
        let asks = Asks(vec![first.canceller(), third.canceller()]);
        let second = el.create_task(async move {
            let _asks = asks;
            pending::<()>().await
        });
        settle(el);
        el.close();
        assert!(first.is_done() && second.is_done() && third.is_done());
        assert_eq!(drops.count(), 2);
    });
}

/// From another thread: the loop asks in its turn, and what the task returns comes back.
#[test]
fn from_another_thread() {
    on_loop(|el| {
        let remote = el.remote();
        let thread = std::thread::spawn(move || {
            let (ready, is_ready) = std::sync::mpsc::channel();
            let task = remote
                .spawn(move || async move {
                    let first = poll_fn(|cx| Poll::Ready(poll_with(pin!(cancel_requested()), cx.waker()).is_pending()));
                    assert!(first.await);
                    ready.send(()).unwrap();
                    cancel_requested().await;
                    sleep(Duration::from_millis(1)).await;
                    "cleaned"
                })
                .unwrap();
            is_ready.recv().unwrap();
            assert!(task.cancel_gracefully(Duration::from_secs(60)));
            let output = task.wait_timeout(common::PATIENCE).unwrap();
            assert!(!task.cancel_gracefully(Duration::from_secs(60)));
            remote.stop().unwrap();
            output
        });
        el.run_forever();
        assert_eq!(thread.join().unwrap().unwrap(), "cleaned");
    });
}

/// From another thread, before the task has begun: it never does.
#[test]
fn from_another_thread_before_it_began() {
    on_loop(|el| {
        let remote = el.remote();
        let thread = std::thread::spawn(move || {
            let task = remote.spawn(|| async { unreachable!("never made") }).unwrap();
            let _: &roundelay::RemoteTask<()> = &task;
            assert!(task.cancel_gracefully(Duration::MAX));
            (task, remote)
        });
        let (task, _) = thread.join().unwrap();
        settle(el);
        assert!(task.is_done());
        assert!(complete(el, task).unwrap_err().is_cancelled());
    });
}

/// The future of a runner can be asked; what it returns is the run's output. If it takes too long, it was cancelled. The
/// future of `run_until_complete` cannot: there is nobody to tell.
#[test]
fn the_future_of_a_runner() {
    let _alone = common::alone();
    let mut runner = Runner::new();
    let ask = |grace| {
        let main = current();
        assert!(main.is_root);
        get_running_loop().unwrap().call_soon(move || main.cancel_gracefully(grace));
    };
    let cleaned = runner.run(async {
        ask(Duration::from_secs(60));
        cancel_requested().await;
        sleep(Duration::from_millis(1)).await;
        "cleaned"
    });
    assert_eq!(cleaned, Ok("cleaned"));
    let too_long = runner.run(async {
        ask(Duration::from_millis(1));
        cancel_requested().await;
        pending::<()>().await
    });
    assert_eq!(too_long, Err(RunError::Cancelled));
    let deaf = runner.run(async {
        ask(Duration::MAX);
        pending::<()>().await
    });
    assert_eq!(deaf, Err(RunError::Cancelled));
    // The one before was asked; this one was not.
    assert_eq!(runner.run(async { is_cancel_requested() }), Ok(false));
    let el = runner.get_loop().unwrap();
    assert_eq!(el.next_deadline(), None);
    let refused = el.run_until_complete(async {
        let mut requested = pin!(cancel_requested());
        assert!(poll_with(requested.as_mut(), Waker::noop()).is_pending());
        !current().cancel_gracefully(Duration::from_secs(1)) && !is_cancel_requested()
    });
    assert_eq!(refused, Ok(true));
    runner.close();
    assert!(el.stats().is_balanced());
}

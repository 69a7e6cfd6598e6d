//! Cancelling tasks: when it takes effect, what it drops, who hears of it (behaviours TK).

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::time::Duration;

use common::{DropCounter, Log, complete, on_loop, on_manual_clock, on_strict_loop, settle, take_reports};
use roundelay::{
    Canceller, EventLoop, FutureError, JoinError, Outcome, RunError, Runner, Task, get_running_loop, sleep, spawn,
    timeout, yield_now,
};

fn turn(el: &EventLoop) {
    el.run_once(Some(Duration::ZERO)).unwrap();
}

/// A task that waits for ever and counts its drop.
fn waiting(el: &EventLoop, drops: &DropCounter) -> Task<()> {
    let guard = drops.guard();
    el.create_task(async move {
        let _guard = guard;
        pending().await
    })
}

/// TK-09: `cancel` says true while the task is not done, and the task is not cancelled yet: its future is dropped in its
/// turn.
#[test]
fn cancelling_takes_effect_in_the_next_turn() {
    on_strict_loop(|el| {
        let drops = DropCounter::new();
        let task = waiting(el, &drops);
        turn(el);
        assert!(task.cancel());
        assert!(!task.is_done() && !task.is_cancelled());
        assert_eq!(drops.count(), 0);
        turn(el);
        assert!(task.is_done() && task.is_cancelled());
        assert_eq!(drops.count(), 1);
        let error = complete(el, task).unwrap_err();
        assert!(error.is_cancelled() && !error.is_panic() && !error.is_closed());
    });
}

/// A cancelled task takes its place in the queue: what was scheduled before the call runs before.
#[test]
fn cancelling_keeps_the_order() {
    struct Logs(Log);
    impl Drop for Logs {
        fn drop(&mut self) {
            self.0.push("dropped");
        }
    }
    on_strict_loop(|el| {
        let log = Log::new();
        let guard = Logs(log.clone());
        let task = el.create_task(async move {
            let _guard = guard;
            pending::<()>().await
        });
        turn(el);
        el.call_soon(log.entry("before"));
        task.cancel();
        el.call_soon(log.entry("after"));
        turn(el);
        assert_eq!(log.take(), ["before", "dropped", "after"]);
    });
}

/// TK-08: a task that is cancelled before it has begun never begins: its future is dropped unpolled.
#[test]
fn cancelled_before_it_began() {
    on_loop(|el| {
        let drops = DropCounter::new();
        let guard = drops.guard();
        let task: Task<()> = el.create_task(async move {
            let _guard = guard;
            unreachable!("never polled")
        });
        assert!(task.cancel());
        assert_eq!(drops.count(), 0);
        settle(el);
        assert!(task.is_cancelled());
        assert_eq!(drops.count(), 1);
        assert!(complete(el, task).unwrap_err().is_cancelled());
    });
}

/// TK-10: cancelling a task that is done says false and changes nothing.
#[test]
fn cancelling_a_done_task() {
    on_loop(|el| {
        let (finished, cancelled) = (el.create_task(async { 3 }), el.create_task(pending::<()>()));
        let panicked: Task<()> = el.create_task(async { panic!("seen") });
        cancelled.cancel();
        settle(el);
        assert!(!finished.cancel() && !cancelled.cancel() && !panicked.cancel());
        assert!(!finished.is_cancelled() && cancelled.is_cancelled() && !panicked.is_cancelled());
        assert_eq!(complete(el, finished).unwrap(), 3);
        assert!(complete(el, panicked).unwrap_err().is_panic());
    });
}

/// TK-18, TK-19, P12: two calls are one cancellation, in one turn or in two: one drop, one done callback.
#[test]
fn cancelling_twice() {
    on_loop(|el| {
        let (drops, log) = (DropCounter::new(), Log::new());
        let task = waiting(el, &drops);
        let told = log.clone();
        task.add_done_callback(move |outcome| told.push(format!("{outcome:?}")));
        turn(el);
        assert!(task.cancel());
        assert!(task.cancel(), "it is not done yet");
        settle(el);
        assert!(!task.cancel());
        assert_eq!(drops.count(), 1);
        assert_eq!(log.take(), ["Cancelled"]);
    });
}

/// TK-14: a task that cancels itself is not ended on the spot, but at its next await.
#[test]
fn cancelling_oneself() {
    on_loop(|el| {
        let log = Log::new();
        let own = log.clone();
        let task = el.create_task(async move {
            let me = get_running_loop().unwrap().current_task().unwrap();
            assert!(me.cancel());
            own.push("still running");
            yield_now().await;
            own.push("never here");
        });
        settle(el);
        assert_eq!(log.take(), ["still running"]);
        assert!(task.is_cancelled());
        assert!(complete(el, task).unwrap_err().is_cancelled());
    });
}

/// TK-14: even where that await would be ready later than everything else: nothing else has to happen.
#[test]
fn cancelling_oneself_needs_no_wake() {
    on_loop(|el| {
        let task = el.create_task(async {
            get_running_loop().unwrap().current_task().unwrap().cancel();
            pending::<()>().await
        });
        settle(el);
        assert!(task.is_cancelled());
    });
}

/// TK-15: a task that cancels itself and comes to its end without another await is cancelled: its value is lost.
#[test]
fn cancelling_oneself_at_the_end() {
    on_loop(|el| {
        let (drops, log) = (DropCounter::new(), Log::new());
        let guard = drops.guard();
        let task = el.create_task(async move {
            get_running_loop().unwrap().current_task().unwrap().cancel();
            guard
        });
        let told = log.clone();
        task.add_done_callback(move |outcome| told.push(format!("{outcome:?}")));
        settle(el);
        assert_eq!(drops.count(), 1);
        assert!(task.is_cancelled());
        assert_eq!(log.take(), ["Cancelled"]);
        assert!(complete(el, task).is_err_and(|error| error.is_cancelled()));
    });
}

/// A task that cancels itself and then panics has panicked: that is not to be lost.
#[test]
fn cancelling_oneself_and_panicking() {
    on_loop(|el| {
        let task: Task<()> = el.create_task(async {
            get_running_loop().unwrap().current_task().unwrap().cancel();
            panic!("on the way out")
        });
        settle(el);
        assert!(!task.is_cancelled());
        let error = complete(el, task).unwrap_err();
        assert_eq!(error.into_panic().downcast_ref::<&str>(), Some(&"on the way out"));
    });
}

/// TK-16: cancelling a task that awaits another leaves the other running; with `cancel_on_drop` the whole chain ends.
#[test]
fn cancelling_a_chain() {
    on_loop(|el| {
        for chained in [false, true] {
            let drops = DropCounter::new();
            let innermost = waiting(el, &drops);
            let watch = innermost.canceller();
            let outer = el.create_task(async move {
                let middle = async move { if chained { innermost.cancel_on_drop().await } else { innermost.await } };
                spawn(middle).cancel_on_drop().await
            });
            settle(el);
            outer.cancel();
            settle(el);
            assert!(outer.is_cancelled());
            assert_eq!(drops.count(), usize::from(chained));
            assert_eq!(watch.cancel(), !chained);
            settle(el);
            assert_eq!(drops.count(), 1);
        }
    });
}

/// TK-17: cancelling the future that a task awaits does not cancel the task: it gets the error, and may go on.
#[test]
fn cancelling_the_inner_future() {
    on_loop(|el| {
        let future = el.create_future::<u32>();
        let awaited = future.clone();
        let task = el.create_task(async move {
            match awaited.await {
                Err(FutureError::Cancelled) => "told",
                other => panic!("{other:?}"),
            }
        });
        settle(el);
        future.cancel();
        assert_eq!(complete(el, task).unwrap(), "told");
    });
}

/// TK-18: cancelling the task and the future that it awaits at the same time cancels the task, once.
#[test]
fn cancelling_task_and_inner_future() {
    on_loop(|el| {
        for task_first in [true, false] {
            let (future, log) = (el.create_future::<()>(), Log::new());
            let (awaited, own, told) = (future.clone(), log.clone(), log.clone());
            let task = el.create_task(async move {
                let _ = awaited.await;
                own.push("went on");
            });
            task.add_done_callback(move |outcome| told.push(format!("{outcome:?}")));
            settle(el);
            if task_first {
                assert!(task.cancel() && future.cancel());
            } else {
                assert!(future.cancel() && task.cancel());
            }
            settle(el);
            assert_eq!(log.take(), ["Cancelled"]);
        }
    });
}

/// A task that is woken and cancelled in the same turn is cancelled: it does not see what woke it.
#[test]
fn woken_and_cancelled() {
    on_loop(|el| {
        let future = el.create_future();
        let task = el.create_task(future.clone());
        settle(el);
        future.set_result(1).unwrap();
        assert!(task.cancel());
        settle(el);
        assert!(task.is_cancelled());
    });
}

/// TK-25: a destructor that panics while its task is being cancelled is reported, with the task; the task is cancelled
/// all the same, and what else it holds is dropped.
#[test]
fn a_destructor_panics_while_cancelling() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("cleaning up failed");
        }
    }
    on_loop(|el| {
        let drops = DropCounter::new();
        let guard = drops.guard();
        let task = el.task_builder().name("cleaner").spawn(async move {
            let _guard = guard;
            let _panics = Panics;
            pending::<()>().await
        });
        settle(el);
        task.cancel();
        settle(el);
        assert!(task.is_cancelled());
        assert_eq!(drops.count(), 1);
        let reports = take_reports();
        assert_eq!(reports.len(), 1, "{reports:?}");
        for part in ["destructor of a task's future", "cleaning up failed", "cleaner", "tests/cancellation.rs:"] {
            assert!(reports[0].contains(part), "{}", reports[0]);
        }
        assert!(complete(el, task).unwrap_err().is_cancelled());
    });
}

/// TK-26: what is cancelled is dropped from the inside out: first the future that is being awaited, then what stands
/// around it.
#[test]
fn dropped_from_the_inside_out() {
    struct Logs(Log, &'static str);
    impl Drop for Logs {
        fn drop(&mut self) {
            self.0.push(self.1);
        }
    }
    on_loop(|el| {
        let log = Log::new();
        let (outer, inner) = (Logs(log.clone(), "outer"), Logs(log.clone(), "inner"));
        let task = el.create_task(async move {
            let _outer = outer;
            async move {
                let _inner = inner;
                pending::<()>().await
            }
            .await
        });
        settle(el);
        task.cancel();
        settle(el);
        assert_eq!(log.take(), ["inner", "outer"]);
    });
}

/// `cancel_and_wait` ends when the future is dropped; it gives the output of a task that was done before.
#[test]
fn cancel_and_wait() {
    on_loop(|el| {
        let drops = DropCounter::new();
        let task = waiting(el, &drops);
        settle(el);
        let count = || drops.count();
        let (error, dropped) = complete(el, async { (task.cancel_and_wait().await.unwrap_err(), count()) });
        assert!(error.is_cancelled());
        assert_eq!(dropped, 1);

        let done = el.create_task(async { "in time" });
        settle(el);
        assert_eq!(complete(el, done.cancel_and_wait()).unwrap(), "in time");
    });
}

/// `cancel_and_wait` that is itself given up has cancelled the task all the same.
#[test]
fn cancel_and_wait_given_up() {
    on_loop(|el| {
        let drops = DropCounter::new();
        let task = waiting(el, &drops);
        settle(el);
        let mut waits = Box::pin(task.cancel_and_wait());
        let first = complete(el, poll_fn(|cx| Poll::Ready(waits.as_mut().poll(cx).is_pending())));
        assert!(first);
        drop(waits);
        settle(el);
        assert_eq!(drops.count(), 1);
        assert!(el.all_tasks().is_empty());
    });
}

/// A canceller can be cloned into a timer; it keeps nothing alive and is of no use once the task is done or the loop is
/// gone.
#[test]
fn a_canceller_in_a_timer() {
    on_manual_clock(|el, clock| {
        let drops = DropCounter::new();
        let task = waiting(el, &drops);
        let canceller = task.canceller();
        let (in_timer, said) = (canceller.clone(), Rc::new(Cell::new(None)));
        let note = said.clone();
        el.call_later(Duration::from_secs(10), move || note.set(Some(in_timer.cancel())));
        settle(el);
        clock.advance(Duration::from_secs(9));
        settle(el);
        assert_eq!((said.get(), task.is_done()), (None, false));
        clock.advance(Duration::from_secs(1));
        settle(el);
        assert_eq!((said.get(), task.is_cancelled()), (Some(true), true));
        assert!(!canceller.cancel());
        assert_eq!(format!("{canceller:?}"), format!("Canceller({:?})", task.id()));
    });
}

/// A canceller outlives its loop, and then does nothing.
#[test]
fn a_canceller_outlives_its_loop() {
    on_loop(|el| {
        let other = EventLoop::new().unwrap();
        let task = other.create_task(pending::<()>());
        let canceller: Canceller = task.canceller();
        drop(other);
        assert!(!canceller.cancel());
        assert!(task.is_done() && !task.is_cancelled());
        assert!(!task.canceller().cancel());
        let closed = {
            el.close();
            el.create_task(async {})
        };
        assert_eq!(take_reports().len(), 1);
        assert!(!closed.canceller().cancel());
    });
}

/// Dropping a `cancel_on_drop` handle cancels; it is awaited as the task is, and lets go of it by `detach_on_drop`.
#[test]
fn cancel_on_drop() {
    on_loop(|el| {
        let drops = DropCounter::new();
        let handle = waiting(el, &drops).cancel_on_drop();
        settle(el);
        assert!(!handle.is_done());
        drop(handle);
        assert_eq!(drops.count(), 0, "not on the spot");
        settle(el);
        assert_eq!(drops.count(), 1);

        let value = el.create_task(async { 4 }).cancel_on_drop();
        assert_eq!(complete(el, value).unwrap(), 4);

        let detached = waiting(el, &drops).cancel_on_drop().detach_on_drop();
        let canceller = detached.canceller();
        drop(detached);
        settle(el);
        assert_eq!(drops.count(), 1);
        assert!(canceller.cancel());
        settle(el);
        assert_eq!(drops.count(), 2);
    });
}

/// A `cancel_on_drop` handle in a future that times out takes its task with it.
#[test]
fn cancel_on_drop_in_a_timeout() {
    on_manual_clock(|el, clock| {
        let drops = DropCounter::new();
        let inner = waiting(el, &drops).cancel_on_drop();
        let outer = el.create_task(timeout(Duration::from_secs(1), inner));
        settle(el);
        clock.advance(Duration::from_secs(1));
        settle(el);
        assert!(outer.is_done());
        assert_eq!(drops.count(), 1);
    });
}

/// TK-23: a timeout cancels only what it is about: the code around it goes on, and nothing of it is left behind.
#[test]
fn a_timeout_cancels_its_own_part_only() {
    on_manual_clock(|el, clock| {
        let log = Log::new();
        let own = log.clone();
        let task = el.create_task(async move {
            let timed_out = timeout(Duration::from_secs(1), sleep(Duration::from_secs(100))).await;
            own.push(format!("{timed_out:?}"));
            own.push(format!("{:?}", timeout(Duration::from_secs(1), yield_now()).await));
            yield_now().await;
            "went on"
        });
        settle(el);
        clock.advance(Duration::from_secs(1));
        assert_eq!(complete(el, task).unwrap(), "went on");
        assert_eq!(log.take(), ["Err(TimedOut)", "Ok(())"]);
        assert_eq!(el.next_deadline(), None, "no timer is left");
    });
}

/// A done callback, a destructor and another task may cancel, too.
#[test]
fn cancelled_from_elsewhere() {
    struct CancelsOnDrop(Canceller);
    impl Drop for CancelsOnDrop {
        fn drop(&mut self) {
            self.0.cancel();
        }
    }
    on_loop(|el| {
        let drops = DropCounter::new();
        let (a, b, c) = (waiting(el, &drops), waiting(el, &drops), waiting(el, &drops));
        let by_callback = b.canceller();
        a.add_done_callback(move |outcome| {
            assert_eq!(outcome, Outcome::Cancelled);
            by_callback.cancel();
        });
        let by_destructor = CancelsOnDrop(c.canceller());
        b.add_done_callback(move |_| drop(by_destructor));
        let by_task = a.canceller();
        drop(el.create_task(async move { by_task.cancel() }));
        settle(el);
        assert_eq!(drops.count(), 3);
        assert!(a.is_cancelled() && b.is_cancelled() && c.is_cancelled());
    });
}

/// A cancelled task gives back what it waits for: a timer, a place among the awaiters.
#[test]
fn a_cancelled_task_leaves_nothing_behind() {
    on_loop(|el| {
        let future = el.create_future::<()>();
        let (sleeps, awaits) = (el.create_task(sleep(Duration::from_secs(5000))), el.create_task(future.clone()));
        settle(el);
        assert!(el.next_deadline().is_some());
        sleeps.cancel();
        awaits.cancel();
        settle(el);
        assert_eq!(el.next_deadline(), None);
        future.set_result(()).unwrap();
        assert_eq!(el.run_once(Some(Duration::ZERO)).unwrap(), 0, "nobody is woken");
    });
}

/// A task that goes on making tasks from its destructor does not keep the loop from closing.
#[test]
fn a_destructor_that_makes_tasks() {
    struct Spawns(EventLoop, Rc<RefCell<Vec<Task<()>>>>);
    impl Drop for Spawns {
        fn drop(&mut self) {
            let task = self.0.create_task(pending());
            self.1.borrow_mut().push(task);
        }
    }
    on_loop(|el| {
        let made = Rc::new(RefCell::new(Vec::new()));
        for _ in 0..2 {
            let guard = Spawns(el.clone(), made.clone());
            let task = el.create_task(async move {
                let _guard = guard;
                pending::<()>().await
            });
            turn(el);
            if made.borrow().is_empty() {
                task.cancel();
                settle(el);
            }
        }
        assert!(!made.borrow()[0].is_done());
        el.close();
        assert_eq!(made.borrow().len(), 2);
        assert!(made.borrow().iter().all(Task::is_done));
        assert_eq!(take_reports().len(), 1, "the second one came too late");
        made.borrow_mut().clear();
    });
}

/// The main future of a runner can be cancelled, by its `TaskInfo`; the runner says so and runs the next one.
#[test]
fn cancelling_a_runners_main_future() {
    let _alone = common::alone();
    let drops = DropCounter::new();
    let mut runner = Runner::new();
    let guard = drops.guard();
    let cancelled = runner.run(async move {
        let _guard = guard;
        let el = get_running_loop().unwrap();
        let me = el.current_task().unwrap();
        assert!(me.is_root);
        el.call_soon(move || assert!(me.cancel()));
        pending::<()>().await
    });
    assert_eq!(cancelled, Err(RunError::Cancelled));
    assert_eq!(drops.count(), 1);
    assert_eq!(runner.run(async { 5 }), Ok(5));
    runner.close();
}

/// What a `JoinError` says, as a text and as an `io::Error`.
#[test]
fn join_errors() {
    fn is_send_and_sync<T: Send + Sync>(_: &T) {}
    on_loop(|el| {
        let cancelled: Task<()> = el.create_task(pending());
        cancelled.cancel();
        let cancelled = complete(el, cancelled).unwrap_err();
        is_send_and_sync(&cancelled);
        assert_eq!(
            (cancelled.to_string(), format!("{cancelled:?}")),
            ("cancelled".into(), "JoinError(cancelled)".into())
        );
        let kept: JoinError = cancelled.try_into_panic().unwrap_err();
        assert_eq!(io::Error::from(kept).kind(), io::ErrorKind::Interrupted);

        let panicked: Task<()> = el.create_task(async { panic!("number {}", 5) });
        let panicked = complete(el, panicked).unwrap_err();
        assert!(panicked.is_panic() && !panicked.is_cancelled() && !panicked.is_closed());
        assert_eq!(panicked.to_string(), "panicked: number 5");
        let as_io = io::Error::from(panicked);
        assert_eq!((as_io.kind(), as_io.to_string()), (io::ErrorKind::Other, "panicked: number 5".into()));

        let live: Task<()> = el.create_task(pending());
        el.close();
        assert!(live.is_done());
        let into_panic = catch_unwind(AssertUnwindSafe(|| poll_ready(live).unwrap_err().into_panic()));
        let text = into_panic.unwrap_err().downcast::<String>().unwrap();
        assert!(text.contains("event loop is closed"), "{text}");
    });
}

/// The output of a future that is ready.
fn poll_ready<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it is not ready"),
    }
}

/// A posted callback that another thread cancels while it runs: it has run, and `cancel` is back only after it has
/// ended. Cancelling it from within itself does not wait.
#[test]
fn cancelling_a_posted_callback_that_runs() {
    on_loop(|el| {
        let ended = Arc::new(AtomicBool::new(false));
        let (begun, has_begun) = mpsc::channel::<()>();
        let (cancels, is_cancelling) = mpsc::channel::<()>();
        let end = ended.clone();
        let handle = el.call_soon_threadsafe(move || {
            begun.send(()).unwrap();
            is_cancelling.recv_timeout(common::PATIENCE).unwrap();
            // Time for a `cancel` that does not wait to come back too early.
            for _ in 0..1000 {
                std::thread::yield_now();
            }
            end.store(true, Ordering::SeqCst);
        });
        let handle = handle.unwrap();
        let canceller = std::thread::spawn(move || {
            has_begun.recv_timeout(common::PATIENCE).unwrap();
            cancels.send(()).unwrap();
            let cancelled = handle.cancel();
            (cancelled, ended.load(Ordering::SeqCst), handle.is_cancelled())
        });
        settle(el);
        assert_eq!(canceller.join().unwrap(), (false, true, false));
    });
}

/// A task that another thread cancels ends in a turn of its loop, on the loop's thread.
#[test]
fn cancelled_from_another_thread() {
    on_loop(|el| {
        let (here, dropped_on) = (std::thread::current().id(), Arc::new(std::sync::Mutex::new(None)));
        struct Notes(Arc<std::sync::Mutex<Option<std::thread::ThreadId>>>);
        impl Drop for Notes {
            fn drop(&mut self) {
                *self.0.lock().unwrap() = Some(std::thread::current().id());
            }
        }
        let (remote, notes) = (el.remote(), Notes(dropped_on.clone()));
        let canceller = std::thread::spawn(move || {
            let task = remote.spawn(move || async move {
                let _notes = notes;
                pending::<()>().await
            });
            let task = task.unwrap();
            assert!(task.cancel());
            task.wait().unwrap_err().is_cancelled()
        });
        common::run_until(el, || canceller.is_finished());
        assert!(canceller.join().unwrap());
        assert_eq!(*dropped_on.lock().unwrap(), Some(here));
    });
}

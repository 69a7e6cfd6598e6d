//! Tasks: their life, their names and places, who hears of their end (behaviours TK).

mod common;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::{DropCounter, Log, complete, on_loop, on_strict_loop, settle, take_reports};
use roundelay::{EventLoop, Outcome, Task, TaskId, TaskState, get_running_loop, spawn, yield_now};

fn turn(el: &EventLoop) {
    el.run_once(Some(Duration::ZERO)).unwrap();
}

/// The text of a panic.
fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).err().expect("a panic");
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast::<&str>().expect("a text")).to_string(),
    }
}

/// TK-01: a task does not begin inside of `create_task`, but in the next turn, behind what was scheduled before.
#[test]
fn a_task_starts_in_the_next_turn() {
    on_strict_loop(|el| {
        let log = Log::new();
        el.call_soon(log.entry("before"));
        let own = log.clone();
        let task = el.create_task(async move { own.push("task") });
        el.call_soon(log.entry("after"));
        assert_eq!(log.len(), 0);
        turn(el);
        assert_eq!(log.take(), ["before", "task", "after"]);
        assert!(task.is_done() && !task.is_cancelled());
        assert!(complete(el, task).is_ok());
    });
}

/// TK-01: a task made by a task begins in the turn after, too.
#[test]
fn a_task_made_by_a_task_waits_for_its_turn() {
    on_strict_loop(|el| {
        let log = Log::new();
        let own = log.clone();
        drop(el.create_task(async move {
            let inner = own.clone();
            drop(spawn(async move { inner.push("inner") }));
            own.push("outer");
        }));
        turn(el);
        assert_eq!(log.take(), ["outer"]);
        turn(el);
        assert_eq!(log.take(), ["inner"]);
    });
}

/// CS-14: awaiting a fresh task that ends at once takes two turns: its start and the wake-up.
#[test]
fn awaiting_a_fresh_task_takes_two_turns() {
    on_strict_loop(|el| {
        let outer = el.create_task(async { spawn(async { 1 }).await.unwrap() });
        turn(el);
        turn(el);
        assert!(!outer.is_done());
        turn(el);
        assert!(outer.is_done());
        assert_eq!(complete(el, outer).unwrap(), 1);
    });
}

/// TK-02: ids grow strictly, over all loops of the process; a task without a name is called after its id.
#[test]
fn ids_grow_and_give_names() {
    on_loop(|el| {
        let other = EventLoop::new().unwrap();
        let tasks = [el.create_task(async {}), other.create_task(async {}), el.create_task(async {})];
        let ids: Vec<u64> = tasks.iter().map(|task| task.id().as_u64()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
        for (task, id) in tasks.iter().zip(&ids) {
            assert_eq!(*task.name(), format!("Task-{id}"));
            assert_eq!(task.id().to_string(), id.to_string());
        }
        settle(el);
        settle(&other);
        assert_eq!(*tasks[0].name(), format!("Task-{}", ids[0]), "the name stays after the end");
    });
}

/// TK-02, TK-30: a name that was given is kept, can be changed, and stays after the task's end.
#[test]
fn names_that_are_given() {
    on_loop(|el| {
        let task = el.task_builder().name("first").spawn(async { el_name().unwrap() });
        assert_eq!(&*task.name(), "first");
        task.set_name(String::from("second"));
        assert_eq!(&*task.name(), "second");
        settle(el);
        assert!(task.is_done());
        assert_eq!(&*task.name(), "second");
        task.set_name("third");
        assert_eq!(&*task.name(), "third");
        assert_eq!(&*complete(el, task).unwrap(), "second", "what the task itself saw");
    });
}

fn el_name() -> Option<Rc<str>> {
    Some(get_running_loop().unwrap().current_task()?.name)
}

/// TK-02: the name of a task is there for its handle after the loop was closed, too.
#[test]
fn names_outlive_the_loop() {
    on_loop(|el| {
        let ended = el.task_builder().name("ended").spawn(async {});
        settle(el);
        let live = el.task_builder().name("live").spawn(pending::<()>());
        el.close();
        assert_eq!((&*ended.name(), &*live.name()), ("ended", "live"));
        assert!(format!("{live:?}").contains("\"live\""), "{live:?}");
    });
}

/// TK-04: `current_task` is the task that is being polled: the outer one again after the inner one was polled in
/// between, none in callbacks and outside of a run.
#[test]
fn the_current_task() {
    on_strict_loop(|el| {
        let log = Log::new();
        let name_now = |el: &EventLoop| el.current_task().map_or("none".to_string(), |task| task.name.to_string());
        assert_eq!(name_now(el), "none");
        for name in ["a", "b"] {
            let (el2, log) = (el.clone(), log.clone());
            let task = el.task_builder().name(name).spawn(async move {
                log.push(format!("{name}1={}", name_now(&el2)));
                yield_now().await;
                log.push(format!("{name}2={}", name_now(&el2)));
            });
            drop(task);
        }
        let (el2, callback) = (el.clone(), log.clone());
        el.call_soon(move || callback.push(format!("callback={}", name_now(&el2))));
        settle(el);
        assert_eq!(log.take(), ["a1=a", "b1=b", "callback=none", "a2=a", "b2=b"]);
        assert_eq!(name_now(el), "none");
    });
}

/// TK-04: the future of `run_until_complete` is a current task, too, which nobody can cancel.
#[test]
fn the_root_is_a_current_task() {
    on_loop(|el| {
        let line = line!() + 1;
        let info = el.run_until_complete(async {
            let info = el.current_task().unwrap();
            assert_eq!(info.state, TaskState::Running);
            assert!(!info.cancel());
            yield_now().await;
            el.current_task().unwrap()
        });
        let info = info.unwrap();
        assert!(info.is_root);
        assert_eq!(info.polls, 2);
        assert_eq!(info.spawned_at.line(), line);
        assert!(el.current_task().is_none());
        assert!(!info.cancel(), "it is done");
    });
}

/// TK-04: without a running loop there is no loop to ask.
#[test]
fn no_current_task_without_a_loop() {
    on_loop(|el| {
        assert!(get_running_loop().is_err());
        assert!(panic_of(|| spawn(async {})).contains("roundelay::spawn() was called outside of a running event loop"));
        assert!(el.current_task().is_none());
    });
}

/// TK-05: a task cannot be entered from within another: running the loop inside of it is refused, and the current task
/// is the same afterwards.
#[test]
fn a_task_cannot_be_entered_from_within_another() {
    on_loop(|el| {
        let (handle, drops) = (el.clone(), DropCounter::new());
        let guard = drops.guard();
        let task = el.task_builder().name("outer").spawn(async move {
            let inner = async move {
                drop(guard);
                unreachable!("never started")
            };
            let text = panic_of(|| handle.run_until_complete(inner));
            assert!(text.contains("already running"), "{text}");
            let other = EventLoop::new().unwrap();
            let text = panic_of(|| other.run_until_complete(async {}));
            assert!(text.contains("cannot run loop") && text.contains("while loop"), "{text}");
            drop(other);
            assert!(handle.is_running());
            handle.current_task().unwrap().name
        });
        assert_eq!(&*complete(el, task).unwrap(), "outer");
        assert_eq!(drops.count(), 1);
    });
}

/// TK-06: `all_tasks` has the tasks of its own loop that are not done, in order of creation, with the root among them.
#[test]
fn all_tasks() {
    on_loop(|el| {
        let other = EventLoop::new().unwrap();
        let foreign = other.create_task(async {});
        let names = |el: &EventLoop| el.all_tasks().iter().map(|task| task.name.to_string()).collect::<Vec<_>>();
        assert!(names(el).is_empty());
        let done = el.task_builder().name("done").spawn(async {});
        let waiting = el.task_builder().name("waiting").spawn(pending::<()>());
        assert_eq!(names(el), ["done", "waiting"]);
        settle(el);
        assert_eq!(names(el), ["waiting"]);
        let late = el.task_builder().name("late").spawn(pending::<()>());
        let seen = el.run_until_complete(async { el.all_tasks() }).unwrap();
        assert_eq!(seen.len(), 3);
        assert_eq!(seen.iter().map(|task| task.is_root).collect::<Vec<_>>(), [false, false, true]);
        assert!(seen.windows(2).all(|pair| pair[0].id < pair[1].id));
        waiting.cancel();
        settle(el);
        assert_eq!(names(el), ["late"]);
        drop(done);
        drop(late);
        assert_eq!(names(el), ["late"], "a detached task is still there");
        assert_eq!(names(&other), [foreign.name().to_string()]);
        settle(&other);
    });
}

/// The place of a task that has ended is used again; its id is not, and what referred to it finds nothing.
#[test]
fn places_are_reused_and_ids_are_not() {
    on_loop(|el| {
        let first = el.create_task(async {});
        let (old, canceller) = (el.all_tasks().remove(0), first.canceller());
        settle(el);
        let second = el.create_task(pending::<()>());
        assert!(second.id() > first.id());
        assert!(!old.cancel() && !canceller.cancel() && !first.cancel());
        settle(el);
        assert!(!second.is_done());
        first.set_name("changed after the end");
        assert_eq!(*second.name(), format!("Task-{}", second.id()));
    });
}

/// `TaskInfo` tells the number, the name, the place, how often the task was polled, and what it is doing.
#[test]
fn task_info() {
    on_loop(|el| {
        let line = line!() + 1;
        let task = el.task_builder().name("subject").spawn(async {
            yield_now().await;
            let own = get_running_loop().unwrap().current_task().unwrap();
            pending::<()>().await;
            drop(own);
        });
        let info = || el.all_tasks().into_iter().find(|info| info.id == task.id()).unwrap();
        assert_eq!((info().state, info().polls), (TaskState::Pending, 0));
        turn(el);
        assert_eq!((info().state, info().polls), (TaskState::Pending, 1));
        turn(el);
        let seen = info();
        assert_eq!((seen.state, seen.polls), (TaskState::Pending, 2));
        assert_eq!((&*seen.name, seen.is_root), ("subject", false));
        assert_eq!((seen.spawned_at.file(), seen.spawned_at.line()), ("tests/tasks.rs", line));
        let text = format!("{seen:?}");
        assert!(text.contains("subject") && text.contains(&format!("tests/tasks.rs:{line}:")), "{text}");
        assert!(seen.cancel());
        assert_eq!(info().state, TaskState::Cancelling);
        assert!(info().cancel(), "still not done");
        settle(el);
        assert!(task.is_cancelled());
        assert!(!seen.cancel());
    });
}

/// TK-27: dropping the handle of a pending task neither cancels nor ends it: it runs to its end.
#[test]
fn dropping_the_handle_detaches() {
    on_loop(|el| {
        let (log, gate) = (Log::new(), el.create_future::<()>());
        let (own, waits) = (log.clone(), gate.clone());
        let task = el.create_task(async move {
            waits.await.unwrap();
            own.push("ran on");
        });
        settle(el);
        drop(task);
        settle(el);
        assert_eq!(el.all_tasks().len(), 1);
        gate.set_result(()).unwrap();
        settle(el);
        assert_eq!(log.take(), ["ran on"]);
        assert!(el.all_tasks().is_empty());
    });
}

/// The output of a detached task is dropped on the spot, that of a done one with its handle, that of an awaited one by
/// the awaiter.
#[test]
fn who_drops_the_output() {
    on_loop(|el| {
        let drops = DropCounter::new();
        let make = || {
            let guard = drops.guard();
            el.create_task(async move { guard })
        };
        drop(make());
        settle(el);
        assert_eq!(drops.count(), 1);
        let held = make();
        settle(el);
        assert_eq!(drops.count(), 1);
        drop(held);
        assert_eq!(drops.count(), 2);
        let output = complete(el, make()).unwrap();
        assert_eq!(drops.count(), 2);
        drop(output);
        assert_eq!(drops.count(), 3);
    });
}

/// A task's future is dropped, with all that it holds, before its end is seen by others.
#[test]
fn the_future_is_dropped_before_its_end_is_seen() {
    on_loop(|el| {
        let drops = Rc::new(DropCounter::new());
        let guard = drops.guard();
        let task = el.create_task(async move {
            let _guard = guard;
            yield_now().await;
        });
        let (seen, at_end) = (drops.clone(), Rc::new(Cell::new(0)));
        let note = at_end.clone();
        task.add_done_callback(move |_| note.set(seen.count()));
        complete(el, task).unwrap();
        settle(el);
        assert_eq!(at_end.get(), 1);
    });
}

/// TK-28: on a closed loop the future is dropped unpolled, the task is done and says why, it is not listed, and the
/// exception handler hears of each call once.
#[test]
fn create_task_on_a_closed_loop() {
    on_loop(|el| {
        el.close();
        let drops = DropCounter::new();
        for round in 1..=2 {
            let guard = drops.guard();
            let line = line!() + 1;
            let task: Task<()> = el.create_task(async move {
                let _guard = guard;
                unreachable!("never polled")
            });
            assert_eq!(drops.count(), round);
            let reports = take_reports();
            assert_eq!(reports.len(), 1, "{reports:?}");
            assert!(reports[0].contains("EventLoop::create_task(): event loop is closed"), "{}", reports[0]);
            assert!(reports[0].contains(&format!("tests/tasks.rs:{line}:")), "{}", reports[0]);
            assert!(task.is_done() && !task.is_cancelled());
            assert!(!task.cancel());
            assert!(el.all_tasks().is_empty());
            let mut task = task;
            let polled = Pin::new(&mut task).poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(polled, Poll::Ready(Err(error)) if error.is_closed()));
        }
    });
}

/// The other ways of scheduling on a closed loop are told about, too: once per call, with the place of the call.
#[test]
fn scheduling_on_a_closed_loop() {
    on_loop(|el| {
        let task = el.create_task(async {});
        el.close();
        let drops = DropCounter::new();
        let guards: Vec<_> = (0..5).map(|_| drops.guard()).collect();
        let mut guards = guards.into_iter();
        let mut take = || {
            let guard = guards.next().unwrap();
            move || drop(guard)
        };
        let handle = el.call_soon(take());
        let later = el.call_later(Duration::ZERO, take());
        let at = el.call_at(el.time(), take());
        assert!(handle.is_done() && later.is_done() && at.is_done());
        assert!(!handle.is_cancelled() && !handle.cancel() && !later.cancel());
        let call = take();
        task.add_done_callback(move |_| call());
        let call = take();
        el.run_in_executor(None, || ());
        let closed: Task<()> = el.create_task(pending());
        closed.add_done_callback(move |_| call());
        assert_eq!(drops.count(), 5);
        let reports = take_reports();
        let methods = [
            "call_soon",
            "call_later",
            "call_at",
            "add_done_callback",
            "run_in_executor",
            "create_task",
            "add_done_callback",
        ];
        assert_eq!(reports.len(), methods.len(), "{reports:#?}");
        for (report, method) in reports.iter().zip(methods) {
            assert!(report.contains(&format!("{method}(): event loop is closed")), "{report}");
            assert!(report.contains("created at tests/tasks.rs:"), "{report}");
        }
        let mut handle = handle;
        let polled = Pin::new(&mut handle).poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Ready(Err(error)) if error.is_closed()));
    });
}

/// TK-27: closing the loop drops the tasks that are pending: their handles say that the loop was closed.
#[test]
fn closing_the_loop_ends_its_tasks() {
    on_loop(|el| {
        let drops = DropCounter::new();
        let tasks: Vec<Task<()>> = (0..3)
            .map(|_| {
                let guard = drops.guard();
                el.create_task(async move {
                    let _guard = guard;
                    pending().await
                })
            })
            .collect();
        turn(el);
        tasks[2].add_done_callback(|_| unreachable!("nobody is left to call it"));
        el.close();
        assert_eq!(drops.count(), 3);
        for mut task in tasks {
            assert!(task.is_done() && !task.is_cancelled());
            assert!(format!("{task:?}").starts_with("<Task closed "), "{task:?}");
            let polled = Pin::new(&mut task).poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(polled, Poll::Ready(Err(error)) if error.is_closed()));
        }
    });
}

/// TK-36: destructors that run while the loop is being closed may schedule, cancel and set: they get closed handles, and
/// no borrow is in their way.
#[test]
fn destructors_may_use_the_loop_that_is_closing() {
    struct Busy {
        el: EventLoop,
        sibling: Rc<RefCell<Option<Task<()>>>>,
        future: roundelay::LoopFuture<()>,
        closed: Rc<Cell<u32>>,
    }
    impl Drop for Busy {
        fn drop(&mut self) {
            assert!(self.el.call_soon(|| unreachable!()).is_done());
            assert!(self.el.call_later(Duration::ZERO, || unreachable!()).is_done());
            assert!(self.el.create_task(async { unreachable!() }).is_done());
            if let Some(sibling) = self.sibling.take() {
                sibling.cancel();
            }
            let _ = self.future.set_result(());
            assert!(self.el.is_closed() && self.el.all_tasks().len() < 10);
            self.closed.set(self.closed.get() + 1);
        }
    }
    on_loop(|el| {
        let closed = Rc::new(Cell::new(0));
        let sibling = Rc::new(RefCell::new(Some(el.create_task(pending()))));
        let busy =
            || Busy { el: el.clone(), sibling: sibling.clone(), future: el.create_future(), closed: closed.clone() };
        let (a, b, c, d) = (busy(), busy(), busy(), busy());
        el.call_soon(move || drop(a));
        el.call_later(Duration::from_secs(1000), move || drop(b));
        drop(el.create_task(async move {
            let _c = c;
            pending::<()>().await
        }));
        let ended = el.create_task(pending::<()>());
        ended.add_done_callback(move |_| drop(d));
        drop(ended);
        el.close();
        assert_eq!(closed.get(), 4);
        assert_eq!(take_reports().len(), 4 * 3);
    });
}

/// TK-29: a waker that is called after its task has ended does nothing, from whichever thread, and also after the loop's
/// end.
#[test]
fn a_late_wake_does_nothing() {
    struct Leak(Rc<RefCell<Option<Waker>>>, u32);
    impl Future for Leak {
        type Output = ();
        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            *self.0.borrow_mut() = Some(cx.waker().clone());
            self.1 += 1;
            assert!(self.1 <= 2, "polled after its end");
            if self.1 == 2 { Poll::Ready(()) } else { Poll::Pending }
        }
    }
    on_loop(|el| {
        let leaked = Rc::new(RefCell::new(None));
        let task = el.create_task(Leak(leaked.clone(), 0));
        settle(el);
        let waker: Waker = leaked.take().unwrap();
        waker.wake_by_ref();
        waker.wake_by_ref();
        settle(el);
        assert!(task.is_done());
        assert_eq!(el.stats().tasks.live(), 0);
        let ran = |el: &EventLoop| el.run_once(Some(Duration::ZERO)).unwrap();
        waker.wake_by_ref();
        assert_eq!(ran(el), 0);
        let from_afar = waker.clone();
        std::thread::spawn(move || from_afar.wake()).join().unwrap();
        assert_eq!(ran(el), 0);
        complete(el, task).unwrap();
        el.close();
        waker.wake_by_ref();
        std::thread::spawn(move || waker.wake()).join().unwrap();
    });
}

/// TK-32, DB-05: the text form has the state, the name and the place; a task that was told to end is cancelling until it
/// has.
#[test]
fn the_text_form() {
    on_loop(|el| {
        let place = format!("spawned at tests/tasks.rs:{}:", line!() + 1);
        let task = el.task_builder().name("shown").spawn(pending::<()>());
        let text = format!("{task:?}");
        assert!(text.starts_with("<Task pending name=\"shown\" ") && text.contains(&place), "{text}");
        task.cancel();
        assert!(format!("{task:?}").starts_with("<Task cancelling name=\"shown\""));
        settle(el);
        let text = format!("{task:?}");
        assert!(text.starts_with("<Task cancelled name=\"shown\" ") && text.contains(&place), "{text}");
        let done = el.task_builder().name("n").spawn(async {});
        let panicked = el.task_builder().name("n").spawn(async { panic!("seen below") });
        settle(el);
        assert!(format!("{done:?}").starts_with("<Task finished name=\"n\" spawned at tests/tasks.rs:"));
        assert!(format!("{panicked:?}").starts_with("<Task panicked name=\"n\" "));
        let guarded = done.cancel_on_drop();
        assert!(format!("{guarded:?}").starts_with("CancelOnDrop(Some(<Task finished name=\"n\" "));
        assert!(complete(el, panicked).unwrap_err().is_panic());
    });
}

/// TK-33: the output need not be `Debug`, and is never formatted.
#[test]
fn the_output_is_never_formatted() {
    struct Unspeakable;
    impl fmt::Debug for Unspeakable {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            unreachable!("nobody asked for it")
        }
    }
    on_loop(|el| {
        let task = el.create_task(async { Unspeakable });
        settle(el);
        let _ = format!("{task:?} {:?}", el.all_tasks());
        let _output: Unspeakable = complete(el, task).unwrap();
    });
}

/// Done callbacks run in the order of their registration, in the turn after the end, and are told how the task ended.
#[test]
fn done_callbacks() {
    on_strict_loop(|el| {
        let log = Log::new();
        let watch = |task: &Task<()>, name: &'static str| {
            for i in 1..=2 {
                let log = log.clone();
                task.add_done_callback(move |outcome| log.push(format!("{name}{i} {outcome:?}")));
            }
        };
        let finished = el.create_task(async {});
        let panicked: Task<()> = el.create_task(async { panic!("told to the awaiter") });
        let cancelled = el.create_task(pending());
        watch(&finished, "f");
        watch(&panicked, "p");
        watch(&cancelled, "c");
        cancelled.cancel();
        turn(el);
        assert!(finished.is_done() && panicked.is_done() && cancelled.is_done());
        assert_eq!(log.len(), 0);
        turn(el);
        let expected = ["f1 Finished", "f2 Finished", "p1 Panicked", "p2 Panicked", "c1 Cancelled", "c2 Cancelled"];
        assert_eq!(log.take(), expected);
        watch(&finished, "late");
        assert_eq!(log.len(), 0);
        turn(el);
        assert_eq!(log.take(), ["late1 Finished", "late2 Finished"]);
        assert!(complete(el, panicked).is_err());
    });
}

/// A done callback can be taken back, once, and only while the task is not done.
#[test]
fn removing_a_done_callback() {
    on_loop(|el| {
        let (log, drops) = (Log::new(), DropCounter::new());
        let (task, other) = (el.create_task(async {}), el.create_task(async {}));
        let guard = drops.guard();
        let removed = task.add_done_callback(move |_| drop(guard));
        let kept_entry = log.entry("kept");
        let kept = task.add_done_callback(move |_| kept_entry());
        assert!(!other.remove_done_callback(removed));
        assert!(task.remove_done_callback(removed));
        assert_eq!(drops.count(), 1);
        assert!(!task.remove_done_callback(removed));
        turn(el);
        assert!(!task.remove_done_callback(kept), "it is in the queue");
        settle(el);
        assert_eq!(log.take(), ["kept"]);
    });
}

/// A done callback that panics is reported, and the next one runs.
#[test]
fn a_panicking_done_callback() {
    on_loop(|el| {
        let log = Log::new();
        let task = el.create_task(async {});
        task.add_done_callback(|_: Outcome| panic!("bad callback"));
        let entry = log.entry("next");
        task.add_done_callback(move |_| entry());
        drop(task);
        settle(el);
        assert_eq!(log.take(), ["next"]);
        let reports = take_reports();
        assert_eq!(reports.len(), 1);
        assert!(reports[0].contains("bad callback"), "{}", reports[0]);
    });
}

/// Awaiting a task of another loop panics, with the numbers of both; the task itself is none the worse for it.
#[test]
fn a_task_of_another_loop() {
    on_loop(|el| {
        let other = EventLoop::new().unwrap();
        let mut foreign = other.create_task(async { 11 });
        let text = panic_of(|| el.run_until_complete(&mut foreign));
        assert!(text.contains(&format!("a task of loop {}", other.id())), "{text}");
        assert!(text.contains(&format!("awaited in loop {}", el.id())), "{text}");
        assert_eq!(complete(&other, foreign).unwrap(), 11);
    });
}

/// A task whose output was taken must not be polled again, and says so.
#[test]
fn polled_after_the_output_was_taken() {
    on_loop(|el| {
        let mut task = el.create_task(async { 1 });
        assert_eq!(complete(el, &mut task).unwrap(), 1);
        let text = panic_of(|| el.run_until_complete(&mut task));
        assert!(text.contains("output was taken"), "{text}");
        assert!(task.is_done());
    });
}

/// LR-13: a task that was stopped in the middle goes on in the next run.
#[test]
fn a_stopped_task_goes_on() {
    on_loop(|el| {
        let handle = el.clone();
        let mut task = el.create_task(async move {
            handle.stop();
            yield_now().await;
            yield_now().await;
            5
        });
        assert!(el.run_until_complete(&mut task).is_err());
        assert!(!task.is_done());
        assert_eq!(el.run_until_complete(&mut task).unwrap().unwrap(), 5);
    });
}

/// Ids are numbers that can be compared and hashed.
#[test]
fn ids_are_keys() {
    on_loop(|el| {
        let tasks: Vec<Task<()>> = (0..3).map(|_| el.create_task(async {})).collect();
        let set: std::collections::HashSet<TaskId> = tasks.iter().map(Task::id).collect();
        assert_eq!(set.len(), 3);
        settle(el);
    });
}

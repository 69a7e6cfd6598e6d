//! Destructors of the application that panic while the loop runs them: each is reported, and nothing else is hurt.

mod common;

#[path = "common/collector.rs"]
mod collector;

use std::cell::RefCell;
use std::panic::panic_any;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use collector::collect;
use common::{DropCounter, Log, complete, on_loop, settle, take_reports};
use roundelay::{ContextVar, EventLoop, Task, yield_now};

/// Panics when it is dropped.
struct Bomb(&'static str);

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("{}", self.0);
    }
}

/// Checks that there are as many reports as texts, each with its text, and that the loop goes on.
#[track_caller]
fn check(el: &EventLoop, texts: &[&str]) {
    let reports = take_reports();
    assert_eq!(reports.len(), texts.len(), "{reports:#?}");
    for (report, text) in reports.iter().zip(texts) {
        assert!(report.contains(text), "{report}");
    }
    assert_eq!(complete(el, async { 1 }), 1);
}

/// The future of a task: when it is done, when it has panicked, when it is cancelled.
#[test]
fn of_a_future() {
    on_loop(|el| {
        /// A future that is done at its first poll, or panics in it, and drops the bomb with itself.
        struct Holds(Bomb, bool);
        impl Future for Holds {
            type Output = u32;
            fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u32> {
                assert!(self.1, "in poll {}", self.0.0);
                Poll::Ready(5)
            }
        }
        let done = el.create_task(Holds(Bomb("of a done future"), true));
        settle(el);
        assert_eq!(complete(el, done).unwrap(), 5, "its output is none the worse");
        check(el, &["Exception in the destructor of a task's future: of a done future"]);

        let panicked = el.create_task(Holds(Bomb("with its bomb"), false));
        settle(el);
        assert_eq!(complete(el, panicked).unwrap_err().to_string(), "panicked: in poll with its bomb");
        check(el, &["Exception in the destructor of a task's future: with its bomb"]);

        let cancelled = Bomb("of a cancelled future");
        let task = el.create_task(async move {
            let _bomb = cancelled;
            std::future::pending::<()>().await
        });
        task.cancel();
        settle(el);
        assert!(task.is_cancelled());
        check(el, &["Exception in the destructor of a task's future: of a cancelled future"]);
    });
}

/// An output that nobody takes: of a detached task, of a task whose handle is dropped, of one that cancelled itself, of
/// callbacks.
#[test]
fn of_an_output() {
    on_loop(|el| {
        drop(el.create_task(async { Bomb("detached") }));
        settle(el);
        check(el, &["Exception in the destructor of a task's output: detached"]);
        let held = el.create_task(async { Bomb("held") });
        settle(el);
        drop(held);
        check(el, &["held"]);
        let cancelled = el.create_task(async {
            roundelay::get_running_loop().unwrap().current_task().unwrap().cancel();
            Bomb("cancelled")
        });
        settle(el);
        assert!(cancelled.is_cancelled());
        check(el, &["cancelled"]);
        drop(el.call_soon(|| Bomb("callback")));
        settle(el);
        check(el, &["callback"]);
        let handle = el.call_soon(|| Bomb("handle"));
        settle(el);
        drop(handle);
        check(el, &["handle"]);
    });
}

/// What a callback captures is dropped in its call: the panic is the callback's own.
#[test]
fn of_a_capture() {
    on_loop(|el| {
        let (soon, later, done) = (Bomb("soon"), Bomb("later"), Bomb("done"));
        let future = el.create_future();
        el.call_soon(move || drop(soon));
        el.call_later(Duration::ZERO, move || drop(later));
        future.add_done_callback(move |_| drop(done));
        future.set_result(()).unwrap();
        settle(el);
        check(el, &[": soon", ": done", ": later"]);
    });
}

/// A descriptor's callback that removes itself is dropped by the loop.
#[test]
fn of_a_reader() {
    on_loop(|el| {
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        std::io::Write::write_all(&mut &a, b"x").unwrap();
        let (handle, watched, bomb) = (el.clone(), Rc::new(b), Bomb("removed reader"));
        let own = watched.clone();
        let removes_itself = move || {
            let _ = &bomb;
            assert!(handle.remove_reader(&*own));
        };
        el.add_reader(&*watched, removes_itself).unwrap();
        settle(el);
        check(el, &["removed reader"]);
    });
}

/// A value of a context variable, which goes with the task or callback that had it last.
#[test]
fn of_a_context() {
    static VAR: ContextVar<Rc<Bomb>> = ContextVar::new("bomb");
    on_loop(|el| {
        el.call_soon(|| _ = VAR.set(Rc::new(Bomb("of a callback"))));
        settle(el);
        check(el, &["of a callback"]);
        let task = el.create_task(async { drop(VAR.set(Rc::new(Bomb("of a task")))) });
        settle(el);
        check(el, &["of a task"]);
        assert!(complete(el, task).is_ok());
    });
}

/// A context that goes with its task and has the task's own handle: the output is then nobody's, and is dropped as any
/// other.
#[test]
fn of_a_context_that_holds_the_handle() {
    type Handle = Rc<RefCell<Option<Task<Bomb>>>>;
    static HANDLE: ContextVar<Handle> = ContextVar::new("handle");
    on_loop(|el| {
        let handle = Handle::default();
        let own = handle.clone();
        let task = el.create_task(async move {
            drop(HANDLE.set(own));
            yield_now().await;
            Bomb("of its output")
        });
        handle.replace(Some(task));
        drop(handle);
        settle(el);
        check(el, &["Exception in the destructor of a task's output: of its output"]);
        assert_eq!(el.all_tasks().len(), 0);
    });
}

/// The payload of a panic, wherever the loop is the last to hold it.
#[test]
fn of_a_payload() {
    on_loop(|el| {
        el.call_soon(|| panic_any(Bomb("callback")));
        settle(el);
        check(el, &["Exception in callback", "callback"]);
        let handle = el.call_soon(|| panic_any(Bomb("handle")));
        settle(el);
        drop(handle);
        check(el, &["Exception in callback", "handle"]);
        drop(el.create_task(async { panic_any(Bomb("detached")) }));
        settle(el);
        check(el, &["nobody awaits", "detached"]);
        let held: Task<()> = el.create_task(async { panic_any(Bomb("held")) });
        settle(el);
        drop(held);
        check(el, &["never retrieved", "held"]);
        let task: Task<()> = el.create_task(async { panic_any(Bomb("join error")) });
        drop(el.create_task(async move {
            // Dropped by the awaiter: that is its own panic.
            drop(task.await.unwrap_err());
        }));
        settle(el);
        check(el, &["nobody awaits: join error"]);
    });
}

/// The payload of something posted that nobody waits for: of a callback, of a closure that was to make a task, of a task.
#[test]
fn of_a_posted_payload() {
    on_loop(|el| {
        drop(el.call_soon_threadsafe(|| panic_any(Bomb("posted"))).unwrap());
        settle(el);
        check(el, &["Exception in callback", "destructor of a task's output: posted"]);
        let never = |text| move || -> std::future::Ready<()> { panic_any(Bomb(text)) };
        drop(el.remote().spawn(never("maker")).unwrap());
        settle(el);
        check(el, &["Exception in callback", "destructor of a task's output: maker"]);
        drop(el.remote().spawn(|| async { panic_any(Bomb("spawned")) }).unwrap());
        settle(el);
        check(el, &["nobody awaits", "spawned"]);

        // With the loop gone, it is the log that hears of the panic.
        let task = el.remote().spawn(|| async { panic_any(Bomb("late")) }).unwrap();
        settle(el);
        el.close();
        let ((), written) = collect(|| drop(task));
        assert_eq!(written.len(), 1, "{written:#?}");
        assert!(written[0].1.contains("Task exception was never retrieved"), "{written:#?}");
    });
}

/// The payload of the exception handler's own panic: the handler hears of that, too, and the default one puts an end to
/// it.
#[test]
fn of_the_handlers_payload() {
    on_loop(|el| {
        el.set_exception_handler(Some(Rc::new(|_, _| panic_any(Bomb("handler")))));
        let ((), written) = collect(|| {
            el.call_soon(|| panic!("the original"));
            settle(el);
        });
        assert!((2..20).contains(&written.len()), "{written:#?}");
        assert!(written[0].1.contains("the original"), "{written:#?}");
        common::watch_reports(el);
        check(el, &[]);
    });
}

/// A payload whose destructor panics with such a payload, and so on: it comes to an end.
#[test]
fn of_payloads_without_end() {
    struct Endless;
    impl Drop for Endless {
        fn drop(&mut self) {
            panic_any(Endless);
        }
    }
    on_loop(|el| {
        el.call_soon(|| panic_any(Endless));
        drop(el.create_task(async { panic_any(Endless) }));
        settle(el);
        let reports = take_reports();
        assert!((4..=8).contains(&reports.len()), "{reports:#?}");
        check(el, &[]);
    });
}

/// What closing the loop drops: tasks, callbacks, timers, readers, done callbacks, posted and blocking jobs, factories.
/// Each panic is reported, everything else is dropped as well, and the loop is closed.
#[test]
fn while_closing() {
    on_loop(|el| {
        let (drops, log) = (DropCounter::new(), Log::new());
        let pair = |text: &'static str| (Bomb(text), drops.guard());
        let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
        let held = pair("task");
        drop(el.create_task(async move {
            let _held = held;
            std::future::pending::<()>().await
        }));
        settle(el);
        let held = pair("soon");
        el.call_soon(move || drop(held));
        let held = pair("timer");
        el.call_later(Duration::from_secs(1000), move || drop(held));
        let held = pair("reader");
        el.add_reader(&a, move || _ = &held).unwrap();
        let held = pair("done callback");
        el.create_task(std::future::pending::<()>()).add_done_callback(move |_| drop(held));
        let held = pair("posted");
        drop(el.remote().call_soon_threadsafe({
            // `Rc` is not `Send`: the bomb alone goes across.
            let (bomb, guard) = held;
            drop(guard);
            move || drop(bomb)
        }));
        let held = pair("factory");
        el.set_task_factory(Some(Rc::new(move |_, future, _| {
            let _ = &held;
            future
        })));
        let entry = log.entry("never called");
        el.call_soon(entry);
        el.close();
        assert!(el.is_closed());
        assert_eq!(drops.count(), 7);
        assert_eq!(log.len(), 0);
        let mut reports = take_reports();
        reports.sort();
        assert_eq!(reports.len(), 7, "{reports:#?}");
        for text in ["task", "soon", "timer", "reader", "done callback", "posted", "factory"] {
            assert!(reports.iter().any(|report| report.contains(&format!(": {text}"))), "{text}: {reports:#?}");
        }
    });
}

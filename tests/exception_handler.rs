//! The exception handler: what it is told, in which words, and what happens where it fails itself (behaviours EH).

mod common;

#[path = "common/collector.rs"]
mod collector;

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::io::{Read, Write};
use std::panic::panic_any;
use std::rc::Rc;
use std::time::Duration;

use collector::{BrokenSubscriber, child, collect, in_a_child};
use common::{DropCounter, Log, complete, on_loop, settle, take_reports};
use roundelay::{
    EventLoop, Exception, ExceptionContext, ExceptionHandler, LoopClosed, Runner, Task, TaskState, spawn,
    spawn_blocking, yield_now,
};
use tracing::Level;

/// The one report there is.
#[track_caller]
fn one_report() -> String {
    let mut reports = take_reports();
    assert_eq!(reports.len(), 1, "{reports:#?}");
    reports.remove(0)
}

/// EH-01: without a handler a report goes to `tracing` as one error: the message with what was thrown, then a line for
/// what it is about, the place, and the other entries in the order of their names.
#[test]
fn the_default_handler_writes_an_error() {
    on_loop(|el| {
        let context = ExceptionContext::new("Something failed")
            .with_exception(Exception::Error(&fmt::Error))
            .with_subject(Rc::new("the subject"))
            .with_extra("zeta", 26)
            .with_extra("alpha", "first");
        let ((), written) = collect(|| el.default_exception_handler(&context));
        let text = format!("Something failed: {}\n  \"the subject\"\n  alpha: \"first\"\n  zeta: 26", fmt::Error);
        assert_eq!(written, [(Level::ERROR, text)]);

        el.set_exception_handler(None);
        let line = line!() + 2;
        let ((), written) = collect(|| {
            el.call_soon(|| panic!("oh no"));
            settle(el);
        });
        let [(Level::ERROR, text)] = &written[..] else { panic!("{written:?}") };
        assert!(text.starts_with("Exception in callback exception_handler::"), "{text}");
        assert!(text.contains(": oh no\n  <Handle exception_handler::"), "{text}");
        assert!(
            text.ends_with(&format!(" at tests/exception_handler.rs:{line}:16>")),
            "the place is said once: {text}"
        );
        common::watch_reports(el);
    });
}

/// EH-01: where no subscriber is set it goes to stderr: never silence.
#[test]
fn the_default_handler_writes_to_stderr() {
    let stderr = in_a_child("the_default_handler_writes_to_stderr", || {
        let el = EventLoop::new().unwrap();
        el.call_soon(|| panic!("nobody listens"));
        drop(el.create_task(async { panic!("nobody awaits") }));
        el.call_exception_handler(&ExceptionContext::new("told by hand").with_extra("key", 5));
        settle(&el);
    });
    let Some(stderr) = stderr else { return };
    let lines: Vec<&str> = stderr.lines().filter(|line| line.starts_with("roundelay: ")).collect();
    assert_eq!(lines.len(), 3, "{stderr}");
    assert_eq!(lines[0], "roundelay: told by hand");
    assert!(lines[1].ends_with(": nobody listens"), "{stderr}");
    assert_eq!(lines[2], "roundelay: Exception in a task that nobody awaits: nobody awaits");
    assert!(stderr.contains("roundelay: told by hand\n  key: 5\n"), "{stderr}");
}

/// A stderr that nobody reads any more is no reason to fail.
#[test]
fn a_closed_stderr_is_no_reason_to_fail() {
    const NAME: &str = "a_closed_stderr_is_no_reason_to_fail";
    if std::env::var_os("ROUNDELAY_TEST_CHILD").is_some() {
        let el = EventLoop::new().unwrap();
        // Waits until the other end of stderr is closed.
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        assert!(std::io::stderr().write_all(b"x").is_err());
        el.call_exception_handler(&ExceptionContext::new("told to nobody"));
        assert_eq!(el.run_until_complete(async { 1 }), Ok(1));
        return;
    }
    let _alone = common::alone();
    let mut process = child(NAME).stdin(std::process::Stdio::piped()).spawn().unwrap();
    drop(process.stderr.take());
    drop(process.stdin.take());
    assert!(process.wait().unwrap().success());
}

/// EH-02: a report about a callback has its message, what was thrown, and the callback with its place.
#[test]
fn a_report_about_a_callback() {
    on_loop(|el| {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let log = seen.clone();
        el.set_exception_handler(Some(Rc::new(move |_, context| {
            let handle = context.handle().expect("the callback concerned");
            assert!(context.message.starts_with("Exception in callback ") && context.message.contains(handle.name));
            assert_eq!(context.created_at, Some(handle.created_at));
            assert!(context.task().is_none() && context.future().is_none() && context.transport().is_none());
            let Some(Exception::Panic(payload)) = context.exception else { panic!("no panic") };
            let number = payload.downcast_ref::<i32>().copied();
            let line = handle.created_at.line();
            log.borrow_mut().push((line, handle.when, number, context.exception.unwrap().to_string()));
        })));
        let line = line!() + 1;
        el.call_soon(|| panic!("a text"));
        el.call_soon(|| panic!("a {}", "String"));
        el.call_soon(|| panic_any(5));
        let timer = el.call_later(Duration::ZERO, || panic!("a timer"));
        settle(el);
        let expected = [
            (line, None, None, "a text".to_string()),
            (line + 1, None, None, "a String".to_string()),
            (line + 2, None, Some(5), "a panic without a text".to_string()),
            (line + 3, Some(timer.when()), None, "a timer".to_string()),
        ];
        assert_eq!(*seen.borrow(), expected);
        common::watch_reports(el);
    });
}

/// EH-02: the report comes at once, whoever holds the handle, and the awaiter gets the panic, too.
#[test]
fn a_callbacks_panic_goes_to_the_awaiter_too() {
    on_loop(|el| {
        let handle = el.call_soon(|| -> u32 { panic!("for both") });
        settle(el);
        assert!(one_report().contains("for both"));
        let error = complete(el, handle).unwrap_err();
        assert_eq!(error.into_panic().downcast_ref::<&str>(), Some(&"for both"));
    });
}

/// The place of creation is the line of the application that scheduled, by whichever way.
#[test]
fn the_place_of_creation() {
    on_loop(|el| {
        let first = line!() + 1;
        el.call_soon(|| panic!());
        el.call_later(Duration::ZERO, || panic!());
        el.call_at(el.time(), || panic!());
        drop(el.call_soon_threadsafe(|| panic!()));
        drop(el.create_task(async { panic!() }));
        drop(el.task_builder().spawn(async { panic!() }));
        el.call_soon(|| _ = spawn(async { panic!() }));
        let last = line!() - 1;
        settle(el);
        let (task, future) = (el.create_task(async {}), el.create_future());
        let of_callbacks = line!() + 1;
        task.add_done_callback(|_| panic!());
        future.add_done_callback(|_| panic!());
        future.set_result(()).unwrap();
        settle(el);
        let reports = take_reports();
        for line in (first..=last).chain([of_callbacks, of_callbacks + 1]) {
            let place = format!(" at tests/exception_handler.rs:{line}:");
            assert_eq!(reports.iter().filter(|report| report.contains(&place)).count(), 1, "{line}: {reports:#?}");
        }
        assert_eq!(reports.len(), 9);
    });
}

/// EH-03: a handler is replaced by the next, `None` brings the default back, the getter says which it is.
#[test]
fn setting_the_handler() {
    on_loop(|el| {
        let log = Log::new();
        let handler = |name: &'static str| -> ExceptionHandler {
            let log = log.clone();
            Rc::new(move |_, context| log.push(format!("{name}: {}", context.message)))
        };
        let tell = || el.call_exception_handler(&ExceptionContext::new("told"));
        let (a, b) = (handler("a"), handler("b"));
        el.set_exception_handler(Some(a.clone()));
        assert!(Rc::ptr_eq(&el.exception_handler().unwrap(), &a));
        tell();
        el.set_exception_handler(Some(b.clone()));
        assert!(Rc::ptr_eq(&el.clone().exception_handler().unwrap(), &b));
        tell();
        assert_eq!(log.take(), ["a: told", "b: told"]);
        el.set_exception_handler(None);
        assert!(el.exception_handler().is_none());
        let ((), written) = collect(tell);
        assert_eq!(written, [(Level::ERROR, "told".to_string())]);
        assert_eq!(log.len(), 0);
        assert_eq!((Rc::strong_count(&a), Rc::strong_count(&b)), (1, 1));
        common::watch_reports(el);
    });
}

/// EH-03: a handler may replace itself while it runs, and is called with its loop.
#[test]
fn a_handler_that_replaces_itself() {
    on_loop(|el| {
        let (log, drops, id) = (Log::new(), DropCounter::new(), el.id());
        let (told, guard) = (log.clone(), drops.guard());
        el.set_exception_handler(Some(Rc::new(move |el, context| {
            let _guard = &guard;
            assert_eq!(el.id(), id);
            common::watch_reports(el);
            told.push(context.message.to_string());
        })));
        el.call_exception_handler(&ExceptionContext::new("first"));
        assert_eq!(drops.count(), 1, "its last handle went with the call");
        el.call_exception_handler(&ExceptionContext::new("second"));
        assert_eq!(log.take(), ["first"]);
        assert_eq!(one_report(), "second");
    });
}

/// A handler that has captured its loop does not keep it alive for ever.
#[test]
fn a_handler_that_holds_its_loop() {
    on_loop(|_| {
        let drops = DropCounter::new();
        let other = EventLoop::new().unwrap();
        let (handle, guard) = (other.clone(), drops.guard());
        other.set_exception_handler(Some(Rc::new(move |_, _| {
            let _ = (&handle, &guard);
        })));
        drop(other);
        assert_eq!(drops.count(), 1);
    });
}

/// EH-04: a handler that panics: the default one hears of that panic and, nested, of what the handler was told.
#[test]
fn a_broken_handler() {
    on_loop(|el| {
        let log = Log::new();
        el.set_exception_handler(Some(Rc::new(|_, _| panic!("the handler is broken"))));
        let ((), written) = collect(|| {
            el.call_soon(|| panic!("the original"));
            el.call_soon(log.entry("the loop goes on"));
            settle(el);
        });
        assert_eq!(log.take(), ["the loop goes on"]);
        let [(Level::ERROR, text)] = &written[..] else { panic!("{written:?}") };
        assert!(text.starts_with("Unhandled error in exception handler: the handler is broken\n"), "{text}");
        let nested = text.split_once("context: ").expect("the original context").1;
        assert!(nested.starts_with("Exception in callback ") && nested.contains(": the original\n"), "{text}");
        assert!(text.contains("created at tests/exception_handler.rs:"), "{text}");
        common::watch_reports(el);
    });
}

/// EH-05: where the default handler fails as well, a last line on stderr has both errors, and the loop goes on; also if
/// the handler before was broken, too.
#[test]
fn a_broken_default_handler() {
    let stderr = in_a_child("a_broken_default_handler", || {
        let el = EventLoop::new().unwrap();
        let log = Log::new();
        tracing::subscriber::with_default(BrokenSubscriber, || {
            el.call_soon(|| panic!("the original"));
            el.call_soon(log.entry("went on"));
            settle(&el);
            el.set_exception_handler(Some(Rc::new(|_, _| panic!("the handler is broken, too"))));
            el.call_soon(|| panic!("another one"));
            el.call_soon(log.entry("went on"));
            settle(&el);
        });
        assert_eq!(log.take(), ["went on", "went on"]);
    });
    let Some(stderr) = stderr else { return };
    let last = "roundelay: Error in the default exception handler: the subscriber is broken\nwhile handling: ";
    let told: Vec<&str> = stderr.split(last).skip(1).collect();
    assert_eq!(told.len(), 2, "{stderr}");
    assert!(told[0].starts_with("Exception in callback ") && told[0].contains(": the original\n"), "{stderr}");
    assert!(told[1].starts_with("Unhandled error in exception handler: the handler is broken, too\n"), "{stderr}");
    assert!(told[1].contains("another one"), "{stderr}");
}

/// Neither do a subject and an error that cannot be shown stop the loop: with a broken handler, with a broken text, and
/// with both.
#[test]
fn a_context_that_cannot_be_shown() {
    struct Unspeakable;
    impl fmt::Debug for Unspeakable {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("no words")
        }
    }
    impl fmt::Display for Unspeakable {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("no words")
        }
    }
    impl Error for Unspeakable {}
    let stderr = in_a_child("a_context_that_cannot_be_shown", || {
        let el = EventLoop::new().unwrap();
        let error = Unspeakable;
        let tell = || {
            el.call_exception_handler(&ExceptionContext::new("with a subject").with_subject(Unspeakable));
            let context = ExceptionContext::new("with an error").with_exception(Exception::Error(&error));
            el.call_exception_handler(&context);
        };
        tell();
        el.set_exception_handler(Some(Rc::new(|_, _| panic!("the handler is broken"))));
        tell();
        drop(el.create_future::<()>().set_exception(Unspeakable));
        assert_eq!(el.run_until_complete(async { 1 }), Ok(1));
    });
    let Some(stderr) = stderr else { return };
    for message in ["with a subject", "with an error", "Future exception was never retrieved"] {
        assert!(stderr.contains(message), "{message}: {stderr}");
    }
    assert_eq!(stderr.matches("Unhandled error in exception handler: the handler is broken").count(), 3, "{stderr}");
}

/// A handler may do what is reported itself: the report goes to the handler, too. One that never comes to an end that way
/// does not overflow the stack: the default handler takes over.
#[test]
fn a_handler_that_causes_reports() {
    on_loop(|el| {
        let log = Log::new();
        let told = log.clone();
        el.set_exception_handler(Some(Rc::new(move |el, context| {
            told.push(context.message.to_string());
            // Reported, for the loop is closed.
            drop(el.create_task(async {}));
        })));
        el.close();
        let ((), written) = collect(|| el.call_exception_handler(&ExceptionContext::new("the first")));
        let messages = log.take();
        assert_eq!(messages[0], "the first");
        assert!((2..100).contains(&messages.len()), "{}", messages.len());
        assert_eq!(written.len(), 1, "{written:?}");
        assert!(written[0].1.contains("EventLoop::create_task()"), "{written:?}");
        collect(|| el.call_exception_handler(&ExceptionContext::new("and again")));
        assert_eq!(log.take().len(), messages.len());
        common::watch_reports(el);
    });
}

/// EH-07: a task that panics with nobody to await it is reported when it happens, by its name and place.
#[test]
fn a_detached_task_that_panics() {
    on_loop(|el| {
        let seen = Rc::new(Cell::new(None));
        let line = line!() + 1;
        let task = el.task_builder().name("forgotten").spawn(async {
            yield_now().await;
            panic!("seen by nobody")
        });
        let (id, note) = (task.id(), seen.clone());
        el.set_exception_handler(Some(Rc::new(move |_, context| {
            let task = context.task().expect("the task concerned");
            assert_eq!((&*task.name, task.state, task.polls), ("forgotten", TaskState::Ended, 2));
            assert_eq!((task.spawned_at.line(), context.created_at.unwrap().line()), (line, line));
            note.set(Some(task.id));
            assert!(context.to_string().contains(": seen by nobody\n"));
        })));
        drop::<Task<()>>(task);
        settle(el);
        assert_eq!(seen.get(), Some(id));
        common::watch_reports(el);
    });
}

/// EH-07: a task that panicked while somebody held its handle is reported when the handle is dropped, once, by the name it
/// has then; not if its end was looked at.
#[test]
fn a_panic_that_nobody_looked_at() {
    on_loop(|el| {
        let panicking = || -> Task<()> { el.create_task(async { panic!("held") }) };
        let line = line!() + 1;
        let held: Task<()> = el.task_builder().name("before").spawn(async { panic!("held") });
        let id = held.id();
        settle(el);
        assert!(take_reports().is_empty());
        assert!(held.is_done());
        drop(held);
        let report = one_report();
        assert!(report.starts_with("Task exception was never retrieved: held\n"), "{report}");
        let task =
            format!("\n  <Task ended name=\"before\" id={id} polls=1 spawned at tests/exception_handler.rs:{line}:");
        assert!(report.contains(&task), "{report}");

        let awaited = panicking();
        assert!(complete(el, awaited).unwrap_err().is_panic());
        let waited = panicking().cancel_and_wait();
        settle(el);
        assert!(complete(el, waited).unwrap_err().is_panic());
        assert!(take_reports().is_empty());

        let guarded = panicking().cancel_on_drop();
        settle(el);
        drop(guarded);
        assert!(one_report().contains("never retrieved"));
    });
}

/// EH-07: also after the loop was closed; and where the loop is gone altogether, in the log.
#[test]
fn a_panic_that_outlives_the_loop() {
    on_loop(|el| {
        let other = EventLoop::new().unwrap();
        let make = |el: &EventLoop| -> Task<()> {
            let task = el.task_builder().name("survivor").spawn(async { panic!("late") });
            settle(el);
            task
        };
        let (of_closed, of_gone) = (make(el), make(&other));
        el.close();
        drop(of_closed);
        let report = one_report();
        assert!(report.starts_with("Task exception was never retrieved: late\n"), "{report}");
        assert!(report.contains("survivor"), "{report}");

        let another = EventLoop::new().unwrap();
        let future = another.create_future::<()>();
        future.set_exception("late, too").unwrap();
        drop(other);
        drop(another);
        let ((), written) = collect(|| {
            drop(of_gone);
            drop(future);
        });
        let [(Level::ERROR, of_task), (Level::ERROR, of_future)] = &written[..] else { panic!("{written:?}") };
        assert!(of_task.starts_with("Task exception was never retrieved: late\n"), "{of_task}");
        assert!(of_task.contains("survivor"), "{of_task}");
        assert!(of_future.starts_with("Future exception was never retrieved: late, too\n"), "{of_future}");
        assert!(of_future.contains("created at tests/exception_handler.rs:"), "{of_future}");
    });
}

/// EH-16: leftovers of a runner that fail while it ends are reported, and the end goes on.
#[test]
fn failures_while_a_runner_ends() {
    struct Panics(&'static str);
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("{}", self.0);
        }
    }
    let _alone = common::alone();
    let make = || {
        let el = EventLoop::new()?;
        common::watch_reports(&el);
        Ok(el)
    };
    let drops = DropCounter::new();
    let guard = drops.guard();
    let mut runner = Runner::builder().loop_factory(make).build();
    let main = async move {
        for text in ["first", "second"] {
            drop(spawn(async move {
                let _panics = Panics(text);
                std::future::pending::<()>().await
            }));
        }
        drop(spawn(async move {
            let _guard = guard;
            std::future::pending::<()>().await
        }));
        yield_now().await;
    };
    runner.run(main).unwrap();
    runner.close();
    let reports = take_reports();
    assert_eq!(reports.len(), 2, "{reports:?}");
    for (report, text) in reports.iter().zip(["first", "second"]) {
        let expected = format!("Exception in the destructor of a task's future: {text}\n");
        assert!(report.starts_with(&expected) && report.contains("\n  <Task running name=\"Task-"), "{report}");
    }
    assert_eq!(drops.count(), 1);
}

/// EH-17: an application may tell the handler things of its own; what it adds is there by its type and by its name.
#[test]
fn contexts_of_ones_own() {
    #[derive(Debug, PartialEq)]
    struct Job(u32);
    on_loop(|el| {
        let called = Rc::new(Cell::new(false));
        let flag = called.clone();
        el.set_exception_handler(Some(Rc::new(move |_, context| {
            flag.set(true);
            assert_eq!(context.message, "job failed");
            assert_eq!(context.subject::<Job>(), Some(&Job(4)));
            assert_eq!(context.subject::<String>().unwrap(), "queue");
            assert!(context.subject::<u8>().is_none());
            assert_eq!(context.subjects().count(), 2);
            let attempts = context.extra("attempts").unwrap();
            assert_eq!(attempts.as_any().downcast_ref::<u64>(), Some(&3));
            assert!(context.extra("unknown").is_none());
            let Some(Exception::Error(error)) = context.exception else { panic!("no error") };
            assert!(error.is::<fmt::Error>());
            assert!(context.handle().is_none() && context.socket().is_none() && context.protocol().is_none());
            let text = format!("{context:?}");
            assert!(text.contains("Job(4)") && text.contains("attempts"), "{text}");
        })));
        let context = ExceptionContext::new("job failed")
            .with_exception(Exception::Error(&fmt::Error))
            .with_created_at(std::panic::Location::caller())
            .with_subject(Job(4))
            .with_subject("queue".to_string())
            .with_extra("attempts", 3_u64);
        el.call_exception_handler(&context);
        assert!(called.get());
        common::watch_reports(el);
    });
}

/// EH-17: a message that ends with its reason is not followed by it once more; one that ends with the same word is.
#[test]
fn a_reason_is_said_once() {
    let text = |message: &'static str, exception| ExceptionContext::new(message).with_exception(exception).to_string();
    assert_eq!(text("f(): event loop is closed", Exception::Error(&LoopClosed)), "f(): event loop is closed");
    assert_eq!(text("f()", Exception::Error(&LoopClosed)), "f(): event loop is closed");
    assert_eq!(text("Exception in callback", Exception::Panic(&"callback")), "Exception in callback: callback");
    on_loop(|el| {
        el.close();
        let line = line!() + 1;
        drop(el.call_soon(|| ()));
        let place = format!("created at tests/exception_handler.rs:{line}:17");
        assert_eq!(one_report(), format!("EventLoop::call_soon(): event loop is closed\n  {place}"));
    });
}

/// A blocking job that panics with nobody to await it is reported on the loop.
#[test]
fn a_blocking_job_that_panics() {
    on_loop(|el| {
        complete(el, async {
            drop(spawn_blocking(|| panic!("on another thread")));
            assert!(spawn_blocking(|| panic!("awaited")).await.unwrap_err().is_panic());
        });
        complete(el, el.shutdown_default_executor(None));
        settle(el);
        let report = one_report();
        assert!(report.contains("on another thread") && report.contains("nobody awaits"), "{report}");
    });
}

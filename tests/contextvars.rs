//! Context variables: what tasks and callbacks inherit, what stays with them, who else sees it (behaviours CX).

mod common;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::time::Duration;

use common::{Log, complete, on_loop, settle, take_reports};
use roundelay::{Context, ContextVar, EventLoop, Runner, Token, sleep, spawn, spawn_blocking, yield_now};

static VAR: ContextVar<&str> = ContextVar::new("var");
static NUMBER: ContextVar<u32> = ContextVar::with_default("number", || 7);

fn var() -> &'static str {
    VAR.get().unwrap_or("unset")
}

/// Sets the exception handler to one that notes the message's first word and the value of `VAR`.
fn note_reports(el: &EventLoop) -> Log {
    let log = Log::new();
    let noted = log.clone();
    el.set_exception_handler(Some(Rc::new(move |_, context| {
        let word = context.message.split(' ').next().unwrap();
        noted.push(format!("{word}: {}", var()));
    })));
    log
}

/// CX-01: a task runs in a copy of the context that is current where it is made: what it sets stays with it, and what
/// the maker sets afterwards does not reach it.
#[test]
fn a_task_has_a_copy() {
    on_loop(|el| {
        let seen = complete(el, async {
            VAR.set("parent");
            let child = spawn(async {
                let before = var();
                VAR.set("child");
                yield_now().await;
                (before, var())
            });
            VAR.set("parent, later");
            let seen = child.await.unwrap();
            (seen, var())
        });
        assert_eq!(seen, (("parent", "child"), "parent, later"));
        assert_eq!(var(), "unset", "the root had a copy, too");
    });
}

/// CX-02: every step of a task runs in its own context, also when something wakes it that has changed the variable; a
/// hundred tasks that take turns keep theirs apart.
#[test]
fn every_step_runs_in_the_tasks_context() {
    on_loop(|el| {
        let gates: Vec<_> = (0..100).map(|_| el.create_future::<()>()).collect();
        let tasks: Vec<_> = (0..100_u32)
            .map(|i| {
                let gate = gates[i as usize].clone();
                el.create_task(async move {
                    assert_eq!(NUMBER.get(), Some(7));
                    NUMBER.set(i);
                    // So that the order in which they wake differs from the one in which they were made.
                    for _ in 0..(i * 37 % 11) {
                        yield_now().await;
                        assert_eq!(NUMBER.get(), Some(i));
                    }
                    sleep(Duration::from_micros(u64::from(i * 53 % 17))).await;
                    assert_eq!(NUMBER.get(), Some(i));
                    gate.await.unwrap();
                    NUMBER.get().unwrap()
                })
            })
            .collect();
        let waker = el.create_task(async move {
            for (i, gate) in gates.iter().enumerate().rev() {
                NUMBER.set(1000 + i as u32);
                gate.set_result(()).unwrap();
                yield_now().await;
            }
        });
        for (i, task) in tasks.into_iter().enumerate() {
            assert_eq!(complete(el, task).unwrap(), i as u32);
        }
        complete(el, waker).unwrap();
        assert_eq!(NUMBER.get(), Some(7));
    });
}

/// CX-03: tasks that are given a context share it: each sees what the other sets, and so does its owner.
#[test]
fn tasks_that_share_a_context() {
    on_loop(|el| {
        let context = Context::new();
        context.run(|| VAR.set("owner"));
        let gate = el.create_future::<()>();
        let waits = gate.clone();
        let first = el.task_builder().context(&context).spawn(async move {
            let before = var();
            VAR.set("first");
            waits.await.unwrap();
            (before, var())
        });
        let second = el.task_builder().context(&context).spawn(async move {
            let before = var();
            VAR.set("second");
            gate.set_result(()).unwrap();
            before
        });
        assert_eq!(complete(el, first).unwrap(), ("owner", "second"));
        assert_eq!(complete(el, second).unwrap(), "first");
        assert_eq!(context.run(var), "second");
        assert_eq!(var(), "unset");
    });
}

/// CX-03: `Context::current` is the running task's own context: what is done in it is seen by the task.
#[test]
fn the_current_context_is_shared() {
    on_loop(|el| {
        let seen = complete(el, async {
            VAR.set("before");
            let own = Context::current();
            spawn_in(&own, async { VAR.set("by the other") }).await;
            let copy = own.copy();
            copy.run(|| VAR.set("in the copy"));
            (var(), copy.run(var))
        });
        assert_eq!(seen, ("by the other", "in the copy"));
    });
}

async fn spawn_in<T: 'static>(context: &Context, future: impl Future<Output = T> + 'static) -> T {
    let el = roundelay::get_running_loop().unwrap();
    el.task_builder().context(context).spawn(future).await.unwrap()
}

/// CX-04: a callback, a timer and a done callback run in a copy of the context that is current where they are made.
#[test]
fn callbacks_have_a_copy() {
    on_loop(|el| {
        let log = Log::new();
        let (future, done) = (el.create_future(), el.create_task(async {}));
        let note = |what: &'static str| {
            let log = log.clone();
            move || {
                log.push(format!("{what} {}", var()));
                VAR.set("set by a callback");
            }
        };
        Context::new().run(|| {
            VAR.set("registered");
            el.call_soon(note("soon"));
            el.call_later(Duration::ZERO, note("later"));
            el.call_at(el.time(), note("at"));
            let (of_future, of_task) = (note("future"), note("task"));
            future.add_done_callback(move |_| of_future());
            done.add_done_callback(move |_| of_task());
            VAR.set("changed since");
        });
        el.call_soon(|| VAR.set("elsewhere"));
        future.set_result(()).unwrap();
        settle(el);
        let mut entries = log.take();
        entries.sort();
        assert_eq!(
            entries,
            ["at registered", "future registered", "later registered", "soon registered", "task registered"]
        );
        assert_eq!(var(), "unset");
    });
}

/// CX-04: the `_in` forms run in the given context itself: what is set there stays set in it.
#[test]
fn callbacks_in_a_given_context() {
    on_loop(|el| {
        let (context, log) = (Context::new(), Log::new());
        context.run(|| NUMBER.set(0));
        let (future, task) = (el.create_future(), el.create_task(async {}));
        let count = |what: &'static str| {
            let log = log.clone();
            move || {
                let number = NUMBER.get().unwrap();
                NUMBER.set(number + 1);
                log.push(format!("{what} {number}"));
            }
        };
        el.call_soon_in(&context, count("soon"));
        el.call_later_in(&context, Duration::ZERO, count("later"));
        el.call_at_in(&context, el.time(), count("at"));
        settle(el);
        let (of_future, of_task) = (count("future"), count("task"));
        future.add_done_callback_in(&context, move |_| of_future());
        task.add_done_callback_in(&context, move |_| of_task());
        future.set_result(()).unwrap();
        settle(el);
        assert_eq!(log.take(), ["soon 0", "later 1", "at 2", "task 3", "future 4"].map(String::from));
        assert_eq!(context.run(|| NUMBER.get()), Some(5));
        assert_eq!(NUMBER.get(), Some(7));
    });
}

/// CX-04: the callback of a descriptor runs in one context for all its calls.
#[test]
fn a_readers_context() {
    on_loop(|el| {
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        let log = Log::new();
        let (noted, mut reader) = (log.clone(), b.try_clone().unwrap());
        Context::new().run(|| {
            NUMBER.set(0);
            let read = move || {
                let number = NUMBER.get().unwrap();
                NUMBER.set(number + 1);
                reader.read_exact(&mut [0]).unwrap();
                noted.push(number.to_string());
            };
            el.add_reader(&b, read).unwrap();
            NUMBER.set(100);
        });
        for _ in 0..3 {
            (&a).write_all(b"x").unwrap();
            settle(el);
        }
        assert_eq!(log.take(), ["0", "1", "2"]);
        assert!(el.remove_reader(&b));
    });
}

/// CX-05: the exception handler runs in the context of what failed: of a callback, a timer, a done callback, a task.
#[test]
fn the_exception_handler_runs_in_the_context_of_what_failed() {
    on_loop(|el| {
        let log = note_reports(el);
        fn fail(value: &'static str) -> impl FnOnce() {
            move || {
                VAR.set(value);
                panic!("{value}")
            }
        }
        el.call_soon(fail("callback"));
        settle(el);
        el.call_later(Duration::ZERO, fail("timer"));
        settle(el);
        let done = fail("done callback");
        el.create_task(async {}).add_done_callback(move |_| done());
        settle(el);
        drop(el.create_task(async {
            VAR.set("task");
            yield_now().await;
            panic!("task")
        }));
        settle(el);
        let expected = ["Exception: callback", "Exception: timer", "Exception: done callback", "Exception: task"];
        assert_eq!(log.take(), expected);
        assert_eq!(var(), "unset");
        common::watch_reports(el);
    });
}

/// CX-05: so does the report about a task whose handle was dropped later, and the one about a destructor that a
/// cancelled task runs.
#[test]
fn late_reports_run_in_the_tasks_context() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("destructor");
        }
    }
    on_loop(|el| {
        let log = note_reports(el);
        let task = el.create_task(async {
            VAR.set("held task");
            panic!("not looked at")
        });
        settle(el);
        assert_eq!(log.len(), 0);
        Context::new().run(|| {
            VAR.set("somebody else");
            drop::<roundelay::Task<()>>(task);
            assert_eq!(var(), "somebody else");
        });
        assert_eq!(log.take(), ["Task: held task"]);
        let cancelled = el.create_task(async {
            VAR.set("cancelled task");
            let _panics = Panics;
            std::future::pending::<()>().await
        });
        settle(el);
        cancelled.cancel();
        settle(el);
        assert_eq!(log.take(), ["Exception: cancelled task"]);
        common::watch_reports(el);
    });
}

/// CX-13: a value is released when the last task or callback that has it is gone: run, cancelled, awaited or dropped.
#[test]
fn contexts_are_released() {
    static KEPT: ContextVar<Rc<()>> = ContextVar::new("kept");
    on_loop(|el| {
        let in_context = |f: &dyn Fn()| -> Weak<()> {
            let value = Rc::new(());
            let weak = Rc::downgrade(&value);
            Context::new().run(|| {
                KEPT.set(value);
                f();
            });
            weak
        };
        let future = el.create_future::<()>();
        let held: RefCell<Vec<Box<dyn std::any::Any>>> = RefCell::default();
        let keep = |thing: Box<dyn std::any::Any>| held.borrow_mut().push(thing);
        let kept = [
            in_context(&|| keep(Box::new(el.call_soon(|| assert!(KEPT.get().is_some()))))),
            in_context(&|| keep(Box::new(el.call_later(Duration::ZERO, || assert!(KEPT.get().is_some()))))),
            in_context(&|| keep(Box::new(el.create_task(async { yield_now().await })))),
            in_context(&|| drop(el.create_task(async { drop(spawn(yield_now())) }))),
            in_context(&|| _ = future.add_done_callback(|_| assert!(KEPT.get().is_some()))),
        ];
        assert!(kept.iter().all(|weak| weak.strong_count() > 0));
        future.set_result(()).unwrap();
        settle(el);
        assert!(kept.iter().all(|weak| weak.strong_count() == 0), "{kept:?}");
        held.take();

        let handle = Rc::new(RefCell::new(None));
        let slot = handle.clone();
        let cancelled = in_context(&move || *slot.borrow_mut() = Some(el.call_soon(|| ())));
        let timer = Rc::new(RefCell::new(None));
        let slot = timer.clone();
        let disarmed = in_context(&move || *slot.borrow_mut() = Some(el.call_later(Duration::from_secs(1000), || ())));
        let pending = in_context(&|| drop(el.create_task(std::future::pending::<()>())));
        assert!(handle.borrow().as_ref().unwrap().cancel() && timer.borrow().as_ref().unwrap().cancel());
        assert_eq!((cancelled.strong_count(), disarmed.strong_count()), (0, 0), "at once");
        let never = in_context(&|| drop(el.call_soon(|| unreachable!("discarded"))));
        assert!(pending.strong_count() > 0 && never.strong_count() > 0);
        el.close();
        assert_eq!((pending.strong_count(), never.strong_count()), (0, 0));
    });
}

/// CX-13: a task that has panicked keeps a copy of its context for the report, and no longer than until its handle goes.
#[test]
fn a_panicked_task_releases_its_context() {
    static KEPT: ContextVar<Rc<()>> = ContextVar::new("kept");
    on_loop(|el| {
        let value = Rc::new(());
        let weak = Rc::downgrade(&value);
        let task: roundelay::Task<()> = el.create_task(async move {
            KEPT.set(value);
            panic!("looked at")
        });
        settle(el);
        assert!(complete(el, task).unwrap_err().is_panic());
        assert_eq!(weak.strong_count(), 0);
    });
}

/// CX-14: a blocking job runs on a thread of its own, where the caller's values are not.
#[test]
fn a_blocking_job_has_no_values() {
    on_loop(|el| {
        let seen = complete(el, async {
            NUMBER.set(1);
            let default = spawn_blocking(|| NUMBER.get()).await.unwrap();
            (default, NUMBER.get())
        });
        assert_eq!(seen, (Some(7), Some(1)));
        complete(el, el.shutdown_default_executor(None));
    });
}

/// What another thread posts runs in a copy of the loop's base context, whatever is current on the thread that posts.
#[test]
fn posted_work_runs_in_the_base_context() {
    on_loop(|el| {
        let remote = el.remote();
        let thread = std::thread::spawn(move || {
            NUMBER.set(3);
            let callback = remote.call_soon_threadsafe(|| (NUMBER.get(), drop(NUMBER.set(4))).0).unwrap();
            (callback, remote.spawn(|| async { NUMBER.get() }).unwrap(), NUMBER.get())
        });
        let (callback, task, own) = thread.join().unwrap();
        settle(el);
        assert_eq!((callback.wait().unwrap(), task.wait().unwrap(), own), (Some(7), Some(7), Some(3)));
        assert_eq!(NUMBER.get(), Some(7));
    });
}

/// CX-15: a runner keeps one context over all its runs; `run_until_complete` makes a copy for each.
#[test]
fn a_runner_keeps_its_context() {
    let _alone = common::alone();
    let mut runner = Runner::new();
    runner.run(async { drop(VAR.set("first run")) }).unwrap();
    let seen = runner.run(async { (var(), spawn(async { var() }).await.unwrap()) });
    assert_eq!(seen.unwrap(), ("first run", "first run"));
    assert_eq!(var(), "unset");
    runner.close();

    let el = EventLoop::new().unwrap();
    el.run_until_complete(async { drop(VAR.set("gone")) }).unwrap();
    assert_eq!(el.run_until_complete(async { var() }), Ok("unset"));
}

/// A panic leaves the context that was current before: of a root, of `Context::run`, of callbacks and tasks.
#[test]
fn a_panic_restores_the_context() {
    on_loop(|el| {
        Context::new().run(|| {
            VAR.set("outer");
            let _ = catch_unwind(AssertUnwindSafe(|| {
                Context::new().run(|| {
                    VAR.set("inner");
                    panic!("out")
                })
            }));
            assert_eq!(var(), "outer");
            let _ = catch_unwind(AssertUnwindSafe(|| {
                el.run_until_complete(async {
                    assert_eq!(var(), "outer");
                    VAR.set("root");
                    panic!("out")
                })
            }));
            assert_eq!(var(), "outer");
            el.call_soon(|| {
                VAR.set("callback");
                panic!("out")
            });
            settle(el);
            assert_eq!(var(), "outer");
        });
        assert_eq!(take_reports().len(), 1);
    });
}

/// Values, defaults and tokens of a variable.
#[test]
fn variables_and_tokens() {
    on_loop(|_| {
        Context::new().run(|| {
            assert_eq!((VAR.name(), VAR.get(), NUMBER.get()), ("var", None, Some(7)));
            let first = NUMBER.set(1);
            let second = NUMBER.set(2);
            assert_eq!((first.old_value(), second.old_value()), (None, Some(1)));
            assert_eq!(Context::current().len(), 1);
            NUMBER.reset(second);
            assert_eq!(NUMBER.get(), Some(1));
            NUMBER.reset(first);
            assert_eq!(NUMBER.get(), Some(7));
            assert!(Context::current().is_empty());
            static OTHER: ContextVar<u32> = ContextVar::new("other");
            let token = NUMBER.set(3);
            let text = catch_unwind(AssertUnwindSafe(|| OTHER.reset(token))).unwrap_err();
            assert!(text.downcast_ref::<String>().unwrap().contains("\"other\""));
        });
    });
}

/// A token is good in the context that it was made in, in whichever turn that is entered again, and in no other: a copy, a
/// task, a callback, the context around.
#[test]
fn a_token_belongs_to_its_context() {
    #[track_caller]
    fn refused(token: Token<u32>) {
        let before = NUMBER.get();
        let payload = catch_unwind(AssertUnwindSafe(|| NUMBER.reset(token))).unwrap_err();
        let text = payload.downcast_ref::<String>().unwrap();
        assert!(text.contains("\"number\" was made in another context"), "{text}");
        assert_eq!(NUMBER.get(), before);
    }
    on_loop(|el| {
        // A context of its own, before anything was set in it and afterwards.
        let context = Context::new();
        let token = context.run(|| NUMBER.set(1));
        refused(token);
        let token = context.run(|| NUMBER.set(2));
        Context::new().run(|| NUMBER.set(9));
        let copy = context.copy();
        copy.run(|| refused(token));
        assert_eq!((context.run(|| NUMBER.get()), copy.run(|| NUMBER.get())), (Some(2), Some(2)));
        let token = context.run(|| NUMBER.set(3));
        context.run(|| NUMBER.reset(token));
        assert_eq!(context.run(|| NUMBER.get()), Some(2));

        // Of a root and of a task, over all their turns; what they start has another.
        let scope = async {
            let outer = NUMBER.set(4);
            roundelay::yield_now().await;
            let (inner, given) = (NUMBER.set(5), NUMBER.set(6));
            let child = roundelay::spawn(async move { refused(given) });
            child.await.unwrap();
            let given = NUMBER.set(7);
            roundelay::get_running_loop().unwrap().call_soon(move || refused(given)).await.unwrap();
            NUMBER.reset(inner);
            assert_eq!(NUMBER.get(), Some(4));
            roundelay::yield_now().await;
            // Somebody has asked for the context meanwhile.
            assert_eq!(Context::current().run(|| NUMBER.get()), Some(4));
            NUMBER.reset(outer);
            assert_eq!(NUMBER.get(), Some(7));
            NUMBER.set(8)
        };
        let task = el.create_task(scope);
        let token = complete(el, task).unwrap();
        refused(token);
        complete(el, async {
            let token = NUMBER.set(1);
            roundelay::yield_now().await;
            NUMBER.reset(token);
        });
    });
}

/// The destructor of a task that is dropped runs in the task's context, where its tokens are good: cancelled, or closed
/// with its loop.
#[test]
fn a_scope_ends_with_its_task() {
    struct Scope(Option<Token<u32>>, Log);
    impl Drop for Scope {
        fn drop(&mut self) {
            NUMBER.reset(self.0.take().unwrap());
            self.1.push(format!("{:?}", NUMBER.get()));
        }
    }
    on_loop(|el| {
        let log = Log::new();
        let task = || {
            let log = log.clone();
            el.create_task(async move {
                let _outer = Scope(Some(NUMBER.set(1)), log.clone());
                let _inner = Scope(Some(NUMBER.set(2)), log);
                std::future::pending::<()>().await
            })
        };
        let (cancelled, _closed) = (task(), task());
        settle(el);
        cancelled.cancel();
        settle(el);
        assert_eq!(log.take(), ["Some(1)", "Some(7)"]);
        el.close();
        assert_eq!(log.take(), ["Some(1)", "Some(7)"]);
    });
}

/// A token of another context in a destructor, while the thread panics: that is not made worse.
#[test]
fn a_misplaced_token_while_panicking() {
    struct Scope(Option<Token<u32>>);
    impl Drop for Scope {
        fn drop(&mut self) {
            NUMBER.reset(self.0.take().unwrap());
        }
    }
    on_loop(|_| {
        let scope = Scope(Some(Context::new().run(|| NUMBER.set(1))));
        let payload = catch_unwind(AssertUnwindSafe(|| {
            let _scope = scope;
            panic!("the first");
        }));
        assert_eq!(*payload.unwrap_err().downcast_ref::<&str>().unwrap(), "the first");
        assert_eq!(NUMBER.get(), Some(7));
    });
}

/// So does that of a root that a stop ends.
#[test]
fn a_scope_ends_with_its_root() {
    struct Scope(Option<Token<u32>>);
    impl Drop for Scope {
        fn drop(&mut self) {
            NUMBER.reset(self.0.take().unwrap());
            assert_eq!(NUMBER.get(), Some(5));
        }
    }
    on_loop(|el| {
        Context::new().run(|| {
            let _outer = NUMBER.set(5);
            let handle = el.clone();
            let root = async move {
                let _scope = Scope(Some(NUMBER.set(1)));
                handle.stop();
                std::future::pending::<()>().await
            };
            assert!(el.run_until_complete(root).is_err());
            assert_eq!(NUMBER.get(), Some(5));
        });
    });
}

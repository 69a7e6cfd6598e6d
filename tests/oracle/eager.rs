//! Tasks that begin where they are made.

use std::future::{Future, pending};

use roundelay::{ContextVar, EventLoop, TaskGroup, gather, yield_now};

use crate::bodies::{after, endless, failing, told};
use crate::common::Log;
use crate::groups::{child, tell};
use crate::oracle::{differs, same};
use crate::support::{Guard, settle, trace_reports, yes};

/// A scenario that runs in a coroutine whose tasks are eager.
#[track_caller]
fn eager<F: Future<Output = ()> + 'static>(name: &str, scenario: impl Fn(EventLoop, Log) -> F) {
    same(name, |el, log| run(el, scenario(el.clone(), log.clone())));
}

fn run(el: &EventLoop, main: impl Future<Output = ()> + 'static) {
    let main = el.create_task(main);
    el.set_eager_tasks(true);
    el.run_until_complete(main).unwrap().unwrap();
}

/// TF-07, TF-10: a task that never waits is done when it is made.
#[test]
fn eager_task_ends_at_once() {
    eager("eager_task_ends_at_once", |el, log| async move {
        el.call_soon(log.entry("soon"));
        let own = log.clone();
        let mut task = el.create_task(async move {
            own.push("body");
            "value"
        });
        yes(&log, "done", task.is_done());
        task.add_done_callback(told(&log, "task"));
        log.push((&mut task).await.unwrap());
        yes(&log, "cancel", task.cancel());
        settle().await;
    });
}

/// TF-07, TF-09: a task that waits goes on as any other.
#[test]
fn eager_task_that_waits() {
    eager("eager_task_that_waits", |el, log| async move {
        el.call_soon(log.entry("soon"));
        let tasks = ["x", "y"].map(|name| {
            let own = log.clone();
            el.create_task(async move {
                for number in 0..2 {
                    own.push(format!("{name} {number}"));
                    yield_now().await;
                }
                own.push(format!("{name} ends"));
            })
        });
        log.push("made");
        for task in tasks {
            yes(&log, "done", task.is_done());
            task.await.unwrap();
        }
    });
}

/// TF-08: who is current, and who is live.
#[test]
fn eager_tasks_one_in_the_other() {
    eager("eager_tasks_one_in_the_other", |el, log| async move {
        let main = el.current_task().unwrap().id;
        let (own, handle) = (log.clone(), el.clone());
        let say = move |place: &str| {
            yes(&own, &format!("{place}: is main's"), handle.current_task().unwrap().id == main);
            // asyncio counts no future that is run itself.
            let count = handle.all_tasks().iter().filter(|task| !task.is_root).count();
            own.push(format!("tasks: {count}"));
        };
        let (told, inner, handle) = (say.clone(), say.clone(), el.clone());
        let task = el.create_task(async move {
            told("outer");
            drop(handle.create_task(async move { inner("inner") }));
            told("outer");
            yield_now().await;
            told("outer");
        });
        say("main");
        task.await.unwrap();
        say("main");
    });
}

/// TF-11: the first step is in the task's own context.
#[test]
fn eager_tasks_and_contexts() {
    static VARIABLE: ContextVar<&str> = ContextVar::with_default("variable", || "default");
    eager("eager_tasks_and_contexts", |el, log| async move {
        let say = |log: &Log, who: &str| log.push(format!("{who} {}", VARIABLE.get().unwrap()));
        drop(VARIABLE.set("main's"));
        let own = log.clone();
        let task = el.create_task(async move {
            say(&own, "body");
            drop(VARIABLE.set("body's"));
            yield_now().await;
            say(&own, "body");
        });
        say(&log, "main");
        drop(VARIABLE.set("main's second"));
        task.await.unwrap();
        say(&log, "main");
    });
}

/// TF-09: a task that has begun is cancelled as any other.
#[test]
fn eager_task_is_cancelled() {
    eager("eager_task_is_cancelled", |el, log| async move {
        let task = el.create_task(endless(&log, "body"));
        task.add_done_callback(told(&log, "task"));
        yes(&log, "cancel", task.cancel());
        yes(&log, "done", task.is_done());
        settle().await;
    });
}

/// TF-07: the error of a first step is the task's.
#[test]
fn eager_task_that_fails() {
    eager("eager_task_that_fails", |el, log| async move {
        trace_reports(&el, &log);
        let task = el.create_task(failing(&log, "body", 0));
        yes(&log, "done", task.is_done());
        assert!(task.await.unwrap_err().is_panic());
        log.push("error");
    });
}

/// TF-14: a child that fails in its first step ends the group.
#[test]
fn eager_children_of_a_group() {
    let here = ["a is left", "c is left", "body goes on", "body is left", "b is left", "group has failed: 1"];
    differs("eager_children_of_a_group", "the-body-goes-first", &here, |el, log, _| {
        let own = log.clone();
        run(el, async move {
            let group = TaskGroup::scope(async |group| {
                group.spawn(child(after(&own, "a", 0)));
                group.spawn(child(endless(&own, "b")));
                group.spawn(child(failing(&own, "c", 0)));
                own.push("body goes on");
                let _guard = Guard::new(&own, "body", "is left");
                pending::<()>().await;
            });
            tell(&own, "group", group.await);
        });
    });
}

/// TF-13: gathered tasks that never wait.
#[test]
fn eager_children_of_a_gather() {
    eager("eager_children_of_a_gather", |_, log| async move {
        let whole = gather([after(&log, "a", 1), after(&log, "b", 0)]);
        log.push("made");
        log.push(whole.await.unwrap().join(" "));
        log.push(gather([after(&log, "c", 0), after(&log, "d", 0)]).await.unwrap().join(" "));
    });
}

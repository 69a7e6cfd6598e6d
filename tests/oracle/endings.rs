//! The orderly end of `asyncio.run()`, and of `Runner`.

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;

use futures::StreamExt;
use roundelay::{AsyncGen, EventLoop, ManualClock, Runner, yield_now};

use crate::bodies::{endless, failing, told, until_asked};
use crate::common::Log;
use crate::generators::numbers;
use crate::oracle::{differs, same};
use crate::support::{fail, yes};

thread_local! {
    /// What is to be there until the end of a run.
    static LEFT: RefCell<Vec<AsyncGen<i32>>> = const { RefCell::new(Vec::new()) };
}

fn keep(items: AsyncGen<i32>) {
    LEFT.with_borrow_mut(|left| left.push(items));
}

/// Runs a future on the loop, and ends that.
fn run<F: Future<Output = &'static str>>(el: &EventLoop, log: &Log, main: F) {
    let given = el.clone();
    let mut runner = Runner::builder().loop_factory(move || Ok(given)).build();
    match catch_unwind(AssertUnwindSafe(|| runner.run(main))) {
        Ok(result) => log.push(result.unwrap()),
        Err(_) => log.push("error"),
    }
    runner.close();
    yes(log, "closed", el.is_closed());
    LEFT.take();
}

/// A scenario that is the main future of a run.
#[track_caller]
fn ending<F: Future<Output = &'static str>>(name: &str, scenario: impl Fn(EventLoop, Log) -> F) {
    same(name, |el, log| run(el, log, scenario(el.clone(), log.clone())));
}

/// PO-06: a task that is left is cancelled.
#[test]
fn end_with_a_task() {
    ending("end_with_a_task", |el, log| async move {
        let task = el.create_task(endless(&log, "left"));
        task.add_done_callback(told(&log, "left"));
        yield_now().await;
        el.call_soon(log.entry("soon"));
        log.push("main ends");
        "result"
    });
}

/// PO-06: a task that was made in the last step has its first one yet.
#[test]
fn end_with_a_task_that_just_begins() {
    ending("end_with_a_task_that_just_begins", |el, log| async move {
        let task = el.create_task(endless(&log, "left"));
        task.add_done_callback(told(&log, "left"));
        log.push("main ends");
        "result"
    });
}

/// PO-06: a task that listens has the time to clean up.
#[test]
fn end_with_a_task_that_cleans_up() {
    ending("end_with_a_task_that_cleans_up", |el, log| async move {
        let own = log.clone();
        let task = el.create_task(async move {
            until_asked(&own).await;
            yield_now().await;
            own.push("cleaned up");
        });
        task.add_done_callback(told(&log, "left"));
        yield_now().await;
        log.push("main ends");
        "result"
    });
}

/// EH-16, AG-05: a task that fails in its cleanup is reported, and generators are closed all the same.
#[test]
fn end_with_a_task_that_fails() {
    ending("end_with_a_task_that_fails", |el, log| async move {
        let own = log.clone();
        el.set_exception_handler(Some(Rc::new(move |_, _| own.push("reported"))));
        let mut items = numbers(&log, "generator", || ());
        log.push(items.next().await.unwrap().to_string());
        keep(items);
        let own = log.clone();
        drop(el.create_task(async move {
            until_asked(&own).await;
            fail();
        }));
        yield_now().await;
        log.push("main ends");
        "result"
    });
}

/// PO-06: what a task starts in its cleanup is cancelled, too. asyncio leaves it where it is.
#[test]
fn end_with_a_task_that_starts_another() {
    let here = ["main ends", "result", "asked", "cleaned up", "second is left", "second was cancelled", "closed yes"];
    let scenario = |el: &EventLoop, log: &Log, _: &ManualClock| {
        let (own, handle) = (log.clone(), el.clone());
        run(el, log, async move {
            let (told_of, inner) = (own.clone(), handle.clone());
            drop(handle.create_task(async move {
                until_asked(&told_of).await;
                let second = inner.create_task(endless(&told_of, "second"));
                second.add_done_callback(told(&told_of, "second"));
                yield_now().await;
                yield_now().await;
                told_of.push("cleaned up");
            }));
            yield_now().await;
            own.push("main ends");
            "result"
        });
    };
    differs("end_with_a_task_that_starts_another", "tasks-made-at-the-end", &here, scenario);
}

/// PO-06: generators are closed behind the tasks.
#[test]
fn end_with_a_generator() {
    ending("end_with_a_generator", |el, log| async move {
        let mut items = numbers(&log, "generator", || ());
        log.push(items.next().await.unwrap().to_string());
        keep(items);
        drop(el.create_task(endless(&log, "task")));
        yield_now().await;
        log.push("main ends");
        "result"
    });
}

/// EX-05, PO-06: and the default executor's jobs are waited for behind them.
#[test]
fn end_with_a_job() {
    same("end_with_a_job", |el, log| {
        let (hold, held) = channel::<()>();
        let ended = Arc::new(AtomicBool::new(false));
        let (own, handle, told) = (log.clone(), el.clone(), ended.clone());
        run(el, log, async move {
            let job = move || {
                let _ = held.recv();
                told.store(true, Ordering::SeqCst);
            };
            drop(handle.run_in_executor(None, job));
            let mut items = numbers(&own, "generator", move || drop(hold));
            own.push(items.next().await.unwrap().to_string());
            keep(items);
            own.push("main ends");
            "result"
        });
        yes(log, "job ended", ended.load(Ordering::SeqCst));
    });
}

/// PO-06: the end of a main future that fails is as orderly.
#[test]
fn end_of_a_main_that_fails() {
    ending("end_of_a_main_that_fails", |el, log| async move {
        drop(el.create_task(endless(&log, "task")));
        failing(&log, "main", 1).await
    });
}

//! Work on other threads.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, mpsc};
use std::thread;

use roundelay::{ThreadPoolExecutor, yield_now};

use crate::support::{Guard, connected, connected_differs, fail, settle, yes};

/// Holds up whoever waits for the other end, until it is dropped.
fn hold() -> (mpsc::Sender<()>, impl FnOnce() + Send + 'static) {
    let (hold, held) = channel();
    (hold, move || _ = held.recv())
}

fn pool() -> ThreadPoolExecutor {
    ThreadPoolExecutor::new(1)
}

/// The name of the thread without its number.
fn where_it_runs() -> String {
    let name = thread::current().name().unwrap_or_default().to_owned();
    name.trim_end_matches(|c: char| c.is_ascii_digit() || "_-".contains(c)).to_owned()
}

/// EX-01: a job runs on another thread, and gives its result or its error.
#[test]
fn jobs_give_what_they_give() {
    connected("jobs_give_what_they_give", |el, log| async move {
        let there = el.run_in_executor(None, || thread::current().id()).await.unwrap();
        yes(&log, "another thread", there != thread::current().id());
        log.push(el.run_in_executor(None, || "result").await.unwrap());
        assert!(el.run_in_executor(None, fail).await.unwrap_err().is_panic());
        log.push("error");
    });
}

/// EX-01: one worker does one job after the other, and so they are done in order, whoever waits first.
#[test]
fn jobs_of_one_worker() {
    connected("jobs_of_one_worker", |el, log| async move {
        let (pool, (hold, wait)) = (pool(), hold());
        let held = el.run_in_executor(Some(&pool), wait);
        let jobs = ["a", "b", "c"].map(|name| el.run_in_executor(Some(&pool), move || name));
        let tasks: Vec<_> = jobs
            .into_iter()
            .zip(["x", "y", "z"])
            .rev()
            .map(|(job, name)| {
                let own = log.clone();
                el.create_task(async move { own.push(format!("{} for {name}", job.await.unwrap())) })
            })
            .collect();
        settle().await;
        log.push("settled");
        drop(hold);
        held.await.unwrap();
        for task in tasks.into_iter().rev() {
            task.await.unwrap();
        }
        assert!(pool.shutdown(None).await);
    });
}

/// EX-04, EX-11: a job that waits in the queue is taken back, and never begins.
#[test]
fn job_cancelled_before_it_begins() {
    connected("job_cancelled_before_it_begins", |el, log| async move {
        let (pool, (hold, wait)) = (pool(), hold());
        let began = Arc::new(AtomicBool::new(false));
        let first = el.run_in_executor(Some(&pool), wait);
        let told = began.clone();
        let second = el.run_in_executor(Some(&pool), move || told.store(true, Ordering::SeqCst));
        let third = el.run_in_executor(Some(&pool), || "third");
        yes(&log, "cancel", second.cancel());
        yes(&log, "cancelled", second.is_cancelled());
        settle().await;
        drop(hold);
        first.await.unwrap();
        assert!(second.await.unwrap_err().is_cancelled());
        log.push("was cancelled");
        log.push(third.await.unwrap());
        assert!(pool.shutdown(None).await);
        yes(&log, "began", began.load(Ordering::SeqCst));
    });
}

/// EX-03, EX-11: a job that has begun cannot be taken back, and says so.
#[test]
fn job_cancelled_while_it_runs() {
    let here = ["cancel no", "cancelled no", "result"];
    connected_differs("job_cancelled_while_it_runs", "jobs-that-have-begun", &here, |el, log| async move {
        let (pool, (hold, wait)) = (pool(), hold());
        let (begin, began) = channel();
        let job = el.run_in_executor(Some(&pool), move || {
            begin.send(()).unwrap();
            wait();
            "result"
        });
        began.recv().unwrap();
        yes(&log, "cancel", job.cancel());
        yes(&log, "cancelled", job.is_cancelled());
        drop(hold);
        log.push(job.await.unwrap());
        assert!(pool.shutdown(None).await);
    });
}

/// EX-03: who waits for a job may be cancelled, and the job goes on.
#[test]
fn waiting_for_a_job_is_cancelled() {
    connected("waiting_for_a_job_is_cancelled", |el, log| async move {
        let (pool, (hold, wait)) = (pool(), hold());
        let (begin, began) = channel();
        let ended = Arc::new(AtomicBool::new(false));
        let (own, handle, worker, told) = (log.clone(), el.clone(), pool.clone(), ended.clone());
        let task = el.create_task(async move {
            let _guard = Guard::new(&own, "wait", "is left");
            let job = move || {
                begin.send(()).unwrap();
                wait();
                told.store(true, Ordering::SeqCst);
            };
            handle.run_in_executor(Some(&worker), job).await.unwrap();
        });
        yield_now().await;
        began.recv().unwrap();
        task.cancel();
        settle().await;
        yes(&log, "cancelled", task.is_cancelled());
        yes(&log, "ended", ended.load(Ordering::SeqCst));
        drop(hold);
        log.push(el.run_in_executor(Some(&pool), || "next").await.unwrap());
        yes(&log, "ended", ended.load(Ordering::SeqCst));
        assert!(pool.shutdown(None).await);
    });
}

/// EX-05, P33: after its shutdown the default executor takes nothing more; others do.
#[test]
fn job_after_the_shutdown() {
    let here = ["result", "reported", "submitted", "refused", "a pool of its own"];
    connected_differs("job_after_the_shutdown", "jobs-that-nobody-takes", &here, |el, log| async move {
        log.push(el.run_in_executor(None, || "result").await.unwrap());
        assert!(el.shutdown_default_executor(None).await);
        let own = log.clone();
        el.set_exception_handler(Some(Rc::new(move |_, _| own.push("reported"))));
        let job = el.run_in_executor(None, || ());
        log.push("submitted");
        assert!(job.await.unwrap_err().is_closed());
        log.push("refused");
        let pool = pool();
        log.push(el.run_in_executor(Some(&pool), || "a pool of its own").await.unwrap());
        assert!(pool.shutdown(None).await);
    });
}

/// EX-07, EX-10: the default executor that was set, and one for a single job.
#[test]
fn default_executor_that_is_set() {
    connected("default_executor_that_is_set", |el, log| async move {
        let named = |name: &str| ThreadPoolExecutor::builder().max_threads(1).name_prefix(name).build();
        let (mine, other) = (named("mine"), named("other"));
        el.set_default_executor(Some(Rc::new(mine.clone())));
        log.push(el.run_in_executor(None, where_it_runs).await.unwrap());
        log.push(el.run_in_executor(Some(&other), where_it_runs).await.unwrap());
        log.push(el.run_in_executor(None, where_it_runs).await.unwrap());
        assert!(mine.shutdown(None).await);
        assert!(other.shutdown(None).await);
    });
}

/// EX-05: the shutdown waits for what runs, and the loop goes on meanwhile.
#[test]
fn shutdown_waits_for_the_jobs() {
    connected("shutdown_waits_for_the_jobs", |el, log| async move {
        let (hold, wait) = hold();
        let (own, handle) = (log.clone(), el.clone());
        let job = el.create_task(async move {
            let job = move || {
                wait();
                "result"
            };
            own.push(handle.run_in_executor(None, job).await.unwrap());
        });
        let (own, handle) = (log.clone(), el.clone());
        let shutdown = el.create_task(async move {
            assert!(handle.shutdown_default_executor(None).await);
            own.push("shut down");
        });
        settle().await;
        log.push("the loop goes on");
        drop(hold);
        job.await.unwrap();
        shutdown.await.unwrap();
    });
}

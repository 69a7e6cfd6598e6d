//! Jobs that go well: results, order, workers on demand, cancelling.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use roundelay::{EventLoop, ProcessJob, ProcessPoolExecutor};

use crate::common::{Kind, complete, on_loop, run, run_until, settle, take_reports};
use crate::functions::{Record, Shape};
use crate::support::{Gate, has_no_children, is_alive, with_pool};
use crate::tests;
use crate::threads::wait_until;

tests!(
    the_result_comes_back_to_every_loop,
    a_worker_is_another_process,
    arguments_are_serialised_at_once,
    serde_has_its_way,
    a_result_passes_as_it_is,
    large_arguments_and_results,
    workers_are_started_on_demand,
    one_worker_keeps_the_order,
    a_hundred_jobs,
    a_cancelled_job_never_starts,
    a_running_job_cannot_be_cancelled,
    a_forgotten_job_runs,
    many_threads_share_a_pool,
    a_job_is_awaited_anywhere,
    a_worker_has_done_enough,
    workers_have_workers,
);

/// API section 7: a registered function runs in a worker, and its result wakes the loop, whichever selector that has.
fn the_result_comes_back_to_every_loop() {
    for (kind, debug) in [(Kind::Epoll, true), (Kind::Epoll, false), (Kind::Polling, false), (Kind::Level, false)] {
        run(kind, debug, |el| {
            let pool = ProcessPoolExecutor::new(1).unwrap();
            assert_eq!(complete(el, pool.run::<i64>("add", (40, 2))).unwrap(), 42);
            assert!(complete(el, pool.shutdown(None)));
            assert!(has_no_children());
        });
    }
}

/// API section 7: a worker is a real process, and is kept.
fn a_worker_is_another_process() {
    with_pool(2, |el, pool| {
        let worker = complete(el, pool.run::<u32>("pid", ())).unwrap();
        assert_ne!(worker, std::process::id());
        assert!(is_alive(worker));
        wait_until(|| format!("{pool:?}").contains("workers: 1, idle: 1"));
        assert_eq!(complete(el, pool.run::<u32>("pid", ())).unwrap(), worker);
    });
}

/// Arguments may be borrowed, and need not be of the function's own types.
fn arguments_are_serialised_at_once() {
    with_pool(1, |el, pool| {
        let text = String::from("seven b");
        let job = pool.run::<u8>("length", &text[..]);
        drop(text);
        assert_eq!(complete(el, job).unwrap(), 7);
        assert_eq!(complete(el, pool.run::<i32>("add", [1_u8, 2])).unwrap(), 3);
    });
}

/// What is sent says of itself what it is: untagged enums, flattened and skipped fields come through.
fn serde_has_its_way() {
    with_pool(1, |el, pool| {
        let shapes =
            [Shape::Circle(0.5), Shape::Named { name: "square".into() }, Shape::Points(vec![(1, -2), (i32::MAX, 0)])];
        for (shape, note) in shapes.into_iter().zip([None, Some("noted".to_owned()), Some(String::new())]) {
            let rest = BTreeMap::from([("a".to_owned(), i64::MIN), ("b".to_owned(), 2)]);
            let record = Record { shape, rest, note, last: ('ß', f64::INFINITY) };
            assert_eq!(complete(el, pool.run::<Record>("record", &record)).unwrap(), record);
        }
    });
}

/// A function's own error is part of its result.
fn a_result_passes_as_it_is() {
    with_pool(1, |el, pool| {
        let parse = |text: &str| complete(el, pool.run::<Result<i32, String>>("parse", text)).unwrap();
        assert_eq!(parse("-5"), Ok(-5));
        assert_eq!(parse("five"), Err("invalid digit found in string".to_owned()));
    });
}

/// Twenty megabytes go there and come back. (Of bytes fewer: serde takes them one by one.)
fn large_arguments_and_results() {
    with_pool(1, |el, pool| {
        let text: String = (0..4_000_000_u32).map(|i| ["seven", "bytes", "other"][i as usize % 3]).collect();
        let echoed = complete(el, pool.run::<String>("text", &text)).unwrap();
        assert!(echoed == text, "{} of {} bytes", echoed.len(), text.len());
        let bytes: Vec<u8> = (0..300_000_u32).map(|i| i as u8).collect();
        assert!(complete(el, pool.run::<Vec<u8>>("echo", &bytes)).unwrap() == bytes);
        assert_eq!(complete(el, pool.run::<Vec<u8>>("echo", [0_u8; 0])).unwrap(), [0; 0]);
    });
}

/// EX-02: workers are started when they are needed, up to the limit; an idle one is used again.
fn workers_are_started_on_demand() {
    with_pool(2, |el, pool| {
        let gate = Gate::new();
        assert_eq!(pool.workers(), 0);
        let first = gate.job(pool, 1);
        let first_waits = gate.arrived();
        assert_eq!(pool.workers(), 1);
        let second = gate.job(pool, 2);
        let second_waits = gate.arrived();
        assert_ne!(first_waits.pid, second_waits.pid);
        // Two are all: the third waits until one is free.
        let third = gate.job(pool, 3);
        assert_eq!(pool.workers(), 2);
        assert!(gate.is_empty());
        let free = second_waits.pid;
        second_waits.let_go();
        assert_eq!(complete(el, second).unwrap(), 2);
        let third_waits = gate.arrived();
        assert_eq!(third_waits.pid, free);
        for (waits, job, number) in [(first_waits, first, 1), (third_waits, third, 3)] {
            waits.let_go();
            assert_eq!(complete(el, job).unwrap(), number);
        }
        assert_eq!(pool.workers(), 2);
    });
}

/// Jobs begin in the order in which they were given.
fn one_worker_keeps_the_order() {
    with_pool(1, |el, pool| {
        let gate = Gate::new();
        let jobs: Vec<_> = (0..5).map(|number| gate.job(pool, number)).collect();
        for (number, job) in (0..5).zip(jobs) {
            let waits = gate.arrived();
            assert!(!job.is_done());
            waits.let_go();
            assert_eq!(complete(el, job).unwrap(), number);
        }
    });
}

/// EX-01: of many jobs each gets its own result.
fn a_hundred_jobs() {
    with_pool(3, |el, pool| {
        let jobs: Vec<_> = (0..100_i64).map(|i| pool.run::<i64>("add", (i, 1000))).collect();
        for (i, job) in (0..).zip(jobs) {
            assert_eq!(complete(el, job).unwrap(), i + 1000);
        }
        assert_eq!(pool.workers(), 3);
    });
}

/// EX-04, EX-11: a job that has not begun can be taken back though all workers are busy.
fn a_cancelled_job_never_starts() {
    with_pool(1, |el, pool| {
        let gate = Gate::new();
        let first = gate.job(pool, 1);
        let waits = gate.arrived();
        let (second, third) = (gate.job(pool, 2), pool.run::<i64>("add", (3, 0)));
        assert!(second.cancel());
        assert!(second.is_cancelled() && second.is_done() && !second.cancel());
        assert_eq!(format!("{second:?}"), "ProcessJob { done: true, cancelled: true }");
        assert!(complete(el, second).unwrap_err().is_cancelled());
        waits.let_go();
        assert_eq!(complete(el, first).unwrap(), 1);
        assert_eq!(complete(el, third).unwrap(), 3);
        assert!(gate.is_empty());
    });
}

/// EX-03, EX-11: a job that has begun cannot be taken back; its result is kept.
fn a_running_job_cannot_be_cancelled() {
    with_pool(1, |el, pool| {
        let gate = Gate::new();
        let job = gate.job(pool, 9);
        let mut waits = gate.arrived();
        assert!(!job.cancel());
        assert!(!job.is_cancelled() && !job.is_done() && waits.answers());
        waits.let_go();
        wait_until(|| job.is_done());
        assert_eq!(complete(el, job).unwrap(), 9);
    });
}

/// API section 9: a job that nobody awaits runs all the same, also one that had not begun when it was forgotten.
fn a_forgotten_job_runs() {
    with_pool(1, |el, pool| {
        let gate = Gate::new();
        let task = el.create_task(gate.job(pool, 1));
        settle(el);
        let first = gate.arrived();
        drop(gate.job(pool, 2));
        task.cancel();
        assert!(complete(el, task).unwrap_err().is_cancelled());
        first.let_go();
        gate.arrived().let_go();
    });
}

/// A pool is `Send + Sync`: loops on several threads share it.
fn many_threads_share_a_pool() {
    with_pool(2, |_, pool| {
        let threads: Vec<_> = (0..4_i64)
            .map(|number| {
                let pool = pool.clone();
                thread::spawn(move || {
                    let el = EventLoop::new().unwrap();
                    (0..10).map(|i| complete(&el, pool.run::<i64>("add", (number, i))).unwrap()).sum::<i64>()
                })
            })
            .collect();
        let sums: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(sums, [45, 55, 65, 75]);
    });
}

/// A job's future is `Send` and belongs to no loop.
fn a_job_is_awaited_anywhere() {
    with_pool(1, |el, pool| {
        let job: ProcessJob<i64> = pool.run("add", (1, 2));
        assert_eq!(thread::spawn(move || futures::executor::block_on(job)).join().unwrap().unwrap(), 3);
        // Made outside of a loop, awaited in a task.
        let job = Arc::new(pool.clone()).run::<i64>("add", (3, 4));
        assert_eq!(complete(el, el.create_task(job)).unwrap().unwrap(), 7);
        assert_eq!(take_reports(), [""; 0]);
    });
}

/// `max_jobs_per_worker`: another process takes the place of one that has done so many.
fn a_worker_has_done_enough() {
    on_loop(|el| {
        let pool = ProcessPoolExecutor::builder().max_workers(1).max_jobs_per_worker(2).build().unwrap();
        let pids: Vec<u32> = (0..5).map(|_| complete(el, pool.run("pid", ())).unwrap()).collect();
        assert!(pids[0] == pids[1] && pids[1] != pids[2] && pids[2] == pids[3] && pids[3] != pids[4], "{pids:?}");
        run_until(el, || !is_alive(pids[0]) && !is_alive(pids[2]));
        assert!(complete(el, pool.shutdown(None)));
        assert!(has_no_children());
    });
}

/// The function may itself have a pool.
fn workers_have_workers() {
    with_pool(1, |el, pool| {
        assert_eq!(complete(el, pool.run::<i64>("nested", (20, 3))).unwrap(), 23);
    });
}

//! The end of a pool.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use roundelay::ProcessPoolExecutor;
use rustix::process::Signal;

use crate::common::{alone, complete, on_loop, on_manual_clock, run_until, settle};
use crate::program::Running;
use crate::support::{Gate, has_no_children, is_alive, kill};
use crate::threads::wait_until;
use crate::{roles, tests};

tests!(
    shutdown_waits_for_all_jobs,
    shutdown_of_an_unused_pool,
    shutdown_with_a_bound_kills,
    shutdown_kills_what_is_stopped,
    a_dropped_pool_finishes_its_work,
    a_job_holds_up_no_exit,
);

/// EX-05: shutting down waits for what runs and for what is queued, while the loop goes on; then nothing is taken, and no
/// process is left.
fn shutdown_waits_for_all_jobs() {
    on_loop(|el| {
        let (pool, gate) = (ProcessPoolExecutor::new(1).unwrap(), Gate::new());
        let (first, second) = (gate.job(&pool, 1), gate.job(&pool, 2));
        let waits = gate.arrived();
        let ended = Rc::new(Cell::new(0));
        for _ in 0..2 {
            let (pool, ended) = (pool.clone(), ended.clone());
            drop(el.create_task(async move {
                assert!(pool.shutdown(None).await);
                ended.set(ended.get() + 1);
            }));
        }
        settle(el);
        let refused = pool.run::<i64>("add", (1, 2));
        assert!(refused.is_done() && !refused.is_cancelled());
        let error = complete(el, refused).unwrap_err();
        assert!(error.is_closed() && error.to_string().contains("shut down"), "{error}");

        waits.let_go();
        assert_eq!(complete(el, first).unwrap(), 1);
        let waits = gate.arrived();
        assert_eq!(ended.get(), 0);
        waits.let_go();
        run_until(el, || ended.get() == 2);
        assert!(second.is_done() && has_no_children());
        assert_eq!(complete(el, second).unwrap(), 2);
    });
}

/// EX-05: a pool that was never used is shut down at once.
fn shutdown_of_an_unused_pool() {
    on_loop(|el| {
        let pool = ProcessPoolExecutor::new(1).unwrap();
        assert!(complete(el, pool.shutdown(Some(Duration::ZERO))));
        assert!(complete(el, pool.run::<i64>("add", (1, 2))).unwrap_err().is_closed());
    });
}

/// EX-06: with a bound it waits no longer than that; what is queued never begins, and what runs is killed.
fn shutdown_with_a_bound_kills() {
    on_manual_clock(|el, clock| {
        let (pool, gate) = (ProcessPoolExecutor::new(1).unwrap(), Gate::new());
        let (first, second) = (gate.job(&pool, 1), gate.job(&pool, 2));
        let waits = gate.arrived();
        let ended = Rc::new(Cell::new(None));
        let (handle, result) = (pool.clone(), ended.clone());
        drop(el.create_task(async move { result.set(Some(handle.shutdown(Some(Duration::from_secs(5))).await)) }));
        settle(el);
        clock.advance(Duration::from_millis(4999));
        settle(el);
        assert!(ended.get().is_none() && is_alive(waits.pid));
        clock.advance(Duration::from_millis(1));
        run_until(el, || ended.get().is_some());
        assert_eq!(ended.get(), Some(false));
        assert!(!is_alive(waits.pid) && has_no_children());
        for job in [first, second] {
            assert!(futures::executor::block_on(job).unwrap_err().is_closed());
        }
        assert!(gate.is_empty());
    });
}

/// EX-06: the same where a worker does not even take what it is sent, or does not end when it is told to.
fn shutdown_kills_what_is_stopped() {
    on_loop(|el| {
        for bytes in [8 * 1024 * 1024, 0] {
            let pool = ProcessPoolExecutor::new(1).unwrap();
            let worker = complete(el, pool.run::<u32>("pid", ())).unwrap();
            kill(worker, Signal::STOP);
            let text = "x".repeat(bytes);
            let jobs: Vec<_> = (0..usize::from(bytes > 0)).map(|_| pool.run::<String>("text", &text)).collect();
            assert!(!complete(el, pool.shutdown(Some(Duration::from_millis(1)))));
            assert!(has_no_children());
            for job in jobs {
                assert!(complete(el, job).unwrap_err().is_closed());
            }
        }
    });
}

/// API section 9: dropping a pool lets what is queued or running go on; then its processes end.
fn a_dropped_pool_finishes_its_work() {
    on_loop(|el| {
        let (pool, gate) = (ProcessPoolExecutor::new(1).unwrap(), Gate::new());
        let (first, second) = (gate.job(&pool, 1), gate.job(&pool, 2));
        let waits = gate.arrived();
        drop(pool);
        waits.let_go();
        assert_eq!(complete(el, first).unwrap(), 1);
        gate.arrived().let_go();
        assert_eq!(complete(el, second).unwrap(), 2);
        wait_until(has_no_children);
        // And one with an idle worker.
        let pool = ProcessPoolExecutor::new(1).unwrap();
        complete(el, pool.run::<u32>("pid", ())).unwrap();
        drop(pool);
        wait_until(has_no_children);
    });
}

/// PO-06: a worker that is busy holds up nobody's exit, and ends when its function returns.
fn a_job_holds_up_no_exit() {
    let _alone = alone();
    let gate = Gate::new();
    let mut program = Running::start(roles::command("leaves a job").arg(gate.path()));
    let mut waiting = [gate.arrived(), gate.arrived()];
    waiting.sort_by_key(|waits| waits.number);
    let [mut busy, free] = waiting;
    let (pid, idle) = (busy.pid, free.pid);
    free.let_go();
    assert!(program.child.wait().unwrap().success());
    wait_until(|| !is_alive(idle));
    assert!(busy.answers());
    busy.let_go();
    wait_until(|| !is_alive(pid));
}

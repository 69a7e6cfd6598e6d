//! The scheduler: tasks, callbacks, the ready queue.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};
use roundelay::EventLoop;

use crate::runtimes::{Roundelay, Runtime, Smol, Tokio, work};
use crate::{BATCH, group};

/// `sched/spawn_join` guards making a task, its first poll, and the delivery of its output.
fn spawn_join(criterion: &mut Criterion) {
    let mut group = group(criterion, "sched/spawn_join", BATCH);
    fn run<R: Runtime>(group: &mut BenchmarkGroup<'_, WallTime>) {
        let runtime = R::new();
        group.bench_function(R::NAME, |bencher| bencher.iter(|| runtime.block_on(work::spawn_join::<R>(BATCH))));
    }
    run::<Roundelay>(&mut group);
    run::<Tokio>(&mut group);
    run::<Smol>(&mut group);
}

/// `sched/spawn_detached` guards the end of a task whose handle is gone.
fn spawn_detached(criterion: &mut Criterion) {
    let mut group = group(criterion, "sched/spawn_detached", BATCH);
    fn run<R: Runtime>(group: &mut BenchmarkGroup<'_, WallTime>) {
        let runtime = R::new();
        group.bench_function(R::NAME, |bencher| bencher.iter(|| runtime.block_on(work::spawn_detached::<R>(BATCH))));
    }
    run::<Roundelay>(&mut group);
    run::<Tokio>(&mut group);
    run::<Smol>(&mut group);
}

/// `sched/spawn_await` guards the wake-up of a task by the end of another.
fn spawn_await(criterion: &mut Criterion) {
    let mut group = group(criterion, "sched/spawn_await", BATCH);
    fn run<R: Runtime>(group: &mut BenchmarkGroup<'_, WallTime>) {
        let runtime = R::new();
        let one_by_one = || async {
            for i in 0..BATCH {
                R::spawn(async move { black_box(i) }).await;
            }
            0
        };
        group.bench_function(R::NAME, |bencher| {
            bencher.iter(|| runtime.block_on(async { R::spawn(one_by_one()).await }));
        });
    }
    run::<Roundelay>(&mut group);
    run::<Tokio>(&mut group);
    run::<Smol>(&mut group);
}

/// `sched/yield` guards waking a task from its own poll, the ready queue, and the turn.
fn yields(criterion: &mut Criterion) {
    const TASKS: u64 = 100;
    let mut group = group(criterion, "sched/yield", BATCH);
    fn run<R: Runtime>(group: &mut BenchmarkGroup<'_, WallTime>) {
        let runtime = R::new();
        group.bench_function(R::NAME, |bencher| {
            bencher.iter(|| runtime.block_on(work::yields::<R>(TASKS, BATCH / TASKS)));
        });
    }
    run::<Roundelay>(&mut group);
    run::<Tokio>(&mut group);
    run::<Smol>(&mut group);
}

/// `callbacks/call_soon` guards scheduling and running of callbacks, many in a turn.
fn call_soon(criterion: &mut Criterion) {
    let mut group = group(criterion, "callbacks/call_soon", BATCH);
    let el = EventLoop::new().expect("a loop can be made");
    group.bench_function("roundelay", |bencher| {
        bencher.iter(|| {
            for i in 0..BATCH {
                el.call_soon(move || black_box(i));
            }
            el.run_once(Some(Duration::ZERO))
        });
    });
}

/// `callbacks/call_soon_chain` guards the turn: one callback that schedules itself again, and one turn for each.
fn call_soon_chain(criterion: &mut Criterion) {
    let mut group = group(criterion, "callbacks/call_soon_chain", BATCH);
    let el = EventLoop::new().expect("a loop can be made");
    fn link(el: EventLoop, left: u64) {
        match left {
            0 => el.stop(),
            _ => drop(el.clone().call_soon(move || link(el, left - 1))),
        }
    }
    group.bench_function("roundelay", |bencher| {
        bencher.iter(|| {
            link(el.clone(), BATCH);
            el.run_forever();
        });
    });
}

pub(crate) fn benches(criterion: &mut Criterion) {
    for bench in [spawn_join, spawn_detached, spawn_await, yields, call_soon, call_soon_chain] {
        bench(criterion);
    }
}

//! Timers: arming, disarming, firing.

use std::time::Duration;

use criterion::{BenchmarkGroup, BenchmarkId, Criterion, measurement::WallTime};
use roundelay::EventLoop;

use crate::runtimes::{Roundelay, Runtime, Smol, Tokio, work};
use crate::{BATCH, group};

/// How many other timers are alive meanwhile.
const ALIVE: [u64; 3] = [10, 10_000, 1_000_000];

/// `timers/insert_cancel` guards arming and disarming a timer, at 10, 10 000 and 1 000 000 live ones: a sleep that is
/// polled once and dropped.
fn insert_cancel(criterion: &mut Criterion) {
    let mut group = group(criterion, "timers/insert_cancel", BATCH);
    fn run<R: Runtime>(group: &mut BenchmarkGroup<'_, WallTime>, count: u64) {
        let runtime = R::new();
        let alive = runtime.block_on(work::alive::<R>(count));
        group.bench_function(BenchmarkId::new(R::NAME, count), |bencher| {
            runtime.block_on(async { bencher.iter(|| work::insert_cancel::<R>(BATCH)) });
        });
        runtime.block_on(async { drop(alive) });
    }
    for count in ALIVE {
        run::<Roundelay>(&mut group, count);
        run::<Tokio>(&mut group, count);
        run::<Smol>(&mut group, count);
    }
}

/// `timers/call_later_cancel` guards the same by a callback, which has a handle.
fn call_later_cancel(criterion: &mut Criterion) {
    let mut group = group(criterion, "timers/call_later_cancel", BATCH);
    for count in ALIVE {
        let el = EventLoop::new().expect("a loop can be made");
        let alive: Vec<_> = (0..count).map(|i| el.call_later(work::far(i), || ())).collect();
        group.bench_function(BenchmarkId::new("roundelay", count), |bencher| {
            bencher.iter(|| {
                for i in 0..BATCH {
                    el.call_later(work::far(i), || ()).cancel();
                }
            });
        });
        drop(alive);
        el.close();
    }
}

/// `timers/fire` guards what happens when timers are due: ten thousand tasks are woken and run.
fn fire(criterion: &mut Criterion) {
    const TIMERS: u64 = 10_000;
    let mut group = group(criterion, "timers/fire", TIMERS);
    // Most of the time is spent waiting for the timers to be due, which is not measured.
    group.warm_up_time(Duration::from_millis(20)).measurement_time(Duration::from_millis(100)).sample_size(10);
    fn run<R: Runtime>(group: &mut BenchmarkGroup<'_, WallTime>) {
        let runtime = R::new();
        group.bench_function(R::NAME, |bencher| {
            bencher.iter_custom(|times| (0..times).map(|_| runtime.block_on(work::fire::<R>(TIMERS))).sum());
        });
    }
    run::<Roundelay>(&mut group);
    run::<Tokio>(&mut group);
    run::<Smol>(&mut group);
}

pub(crate) fn benches(criterion: &mut Criterion) {
    for bench in [insert_cancel, call_later_cancel, fire] {
        bench(criterion);
    }
}

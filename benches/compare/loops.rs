//! The loop itself: made, entered, turned.

use std::future::ready;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};
use roundelay::EventLoop;

use crate::group;
use crate::runtimes::{Roundelay, Runtime, Smol, Tokio};

const ZERO: Option<Duration> = Some(Duration::ZERO);

/// `turn/empty` guards the turn in which nothing happens, which costs one system call.
fn turn(criterion: &mut Criterion) {
    let mut group = group(criterion, "turn/empty", 1);
    let el = EventLoop::new().expect("a loop can be made");
    group.bench_function(el.selector_name(), |bencher| bencher.iter(|| el.run_once(ZERO)));
    let selector = roundelay::selector::Polling::new().expect("a selector can be made");
    let el = EventLoop::builder().selector(selector).build().expect("a loop can be made");
    group.bench_function(el.selector_name(), |bencher| bencher.iter(|| el.run_once(ZERO)));
}

/// `block_on/ready` guards entering and leaving a loop.
fn block_on(criterion: &mut Criterion) {
    let mut group = group(criterion, "block_on/ready", 1);
    fn run<R: Runtime>(group: &mut BenchmarkGroup<'_, WallTime>) {
        let runtime = R::new();
        group.bench_function(R::NAME, |bencher| bencher.iter(|| runtime.block_on(ready(black_box(1)))));
    }
    run::<Roundelay>(&mut group);
    run::<Tokio>(&mut group);
    run::<Smol>(&mut group);
}

/// `loop/new` guards making a loop and closing it. smol's reactor is made once for the whole process, and is left out.
fn new(criterion: &mut Criterion) {
    let mut group = group(criterion, "loop/new", 1);
    group.bench_function(Roundelay::NAME, |bencher| bencher.iter(|| Roundelay::new().0.close()));
    group.bench_function(Tokio::NAME, |bencher| bencher.iter(Tokio::new));
}

pub(crate) fn benches(criterion: &mut Criterion) {
    for bench in [turn, block_on, new] {
        bench(criterion);
    }
}

//! The loop's own paths beside tokio's `current_thread` and smol's `LocalExecutor`, measured in one run.
//!
//! `cargo bench --bench compare` runs all; `cargo bench --bench compare -- timers/` those whose names contain `timers/`.
//! Only the ratios within one run mean something: machines differ, and so do their moods.
//!
//! A group's name is the path that it guards.

mod loops;
mod remote;
mod sched;
mod tcp;
mod timers;

#[path = "../runtimes/mod.rs"]
mod runtimes;

use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};

/// Operations in one measured run.
const BATCH: u64 = 1000;

fn group<'a>(criterion: &'a mut Criterion, name: &str, operations: u64) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(operations));
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(30);
    group
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for benches in [sched::benches, timers::benches, remote::benches, loops::benches, tcp::benches] {
        benches(&mut criterion);
    }
    criterion.final_summary();
}

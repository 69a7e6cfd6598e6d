//! The machine: its processors, its limits, its clocks.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// Keeps this thread, and those that it starts, on one of the processors that it may use. Where there is but one, all
/// share it.
fn pin(choose: impl Fn(&[usize]) -> usize) {
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    if allowed.is_empty() {
        return;
    }
    let mut one = CpuSet::new();
    one.set(choose(&allowed));
    let _ = sched_setaffinity(None, &one);
}

pub(crate) fn pin_to_first_cpu() {
    pin(|allowed| allowed[0]);
}

pub(crate) fn pin_to_last_cpu() {
    pin(|allowed| allowed[allowed.len() - 1]);
}

/// Raises the limit of descriptors as far as it goes, and says how far that is.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The time that this process's threads have had, in nanoseconds. That of a thread that runs just now is a little old.
pub(crate) fn process_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

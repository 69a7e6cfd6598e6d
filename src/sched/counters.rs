//! What is counted of a loop: by its own thread alone, and readable on every other one.
//!
//! Each number is an atomic that only one thread writes. So it is changed by a load and a store, which are plain
//! instructions of the processor and lock nothing; whoever reads on another thread sees each number as it was a moment
//! ago, and two of them not of the very same moment.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::sched::clock::ClockSource;

/// A number.
#[derive(Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    #[inline(always)]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub(crate) fn set(&self, number: u64) {
        self.0.store(number, Ordering::Relaxed);
    }

    #[inline(always)]
    pub(crate) fn add(&self, number: u64) {
        self.set(self.get().wrapping_add(number));
    }

    /// The larger one of it and `number` from now on.
    #[inline(always)]
    pub(crate) fn raise_to(&self, number: u64) {
        if number > self.get() {
            self.set(number);
        }
    }
}

/// How many of a kind were made and how many have gone.
#[derive(Default)]
pub(crate) struct Counter {
    opened: Count,
    closed: Count,
}

impl Counter {
    #[inline]
    pub(crate) fn opened(&self) {
        self.opened.add(1);
    }

    #[inline]
    pub(crate) fn closed(&self) {
        self.closed.add(1);
    }

    #[inline]
    pub(crate) fn live(&self) -> u64 {
        let (opened, closed) = self.get();
        opened.saturating_sub(closed)
    }

    /// Those that have gone are read first: another thread does not see one that has gone and was not made.
    pub(crate) fn get(&self) -> (u64, u64) {
        let closed = self.closed.get();
        (self.opened.get(), closed)
    }
}

/// How long something is the case, in sum, in nanoseconds since the loop was made.
///
/// One number tells both how long it was and whether it is: twice the sum while it is not; while it is, twice the moment
/// at which it would have begun if it had been so without a break, and one. So no reader sees half of a change.
#[derive(Default)]
pub(crate) struct Stopwatch(Count);

impl Stopwatch {
    #[inline(always)]
    pub(crate) fn is_running(&self) -> bool {
        self.0.get() & 1 == 1
    }

    /// It is the case from `now` on.
    #[inline(always)]
    pub(crate) fn start(&self, now: u64) {
        let sum = self.0.get();
        if sum & 1 == 0 {
            self.0.set((now << 1).saturating_sub(sum) | 1);
        }
    }

    /// It is the case no more.
    #[inline(always)]
    pub(crate) fn stop(&self, now: u64) {
        let began = self.0.get();
        if began & 1 == 1 {
            self.0.set((now << 1).saturating_sub(began & !1));
        }
    }

    /// The sum, at `now`.
    pub(crate) fn read(&self, now: u64) -> u64 {
        let state = self.0.get();
        if state & 1 == 1 { now.saturating_sub(state >> 1) } else { state >> 1 }
    }
}

/// How many durations there were of each order of magnitude: the n-th number counts those from 2^n ns up to twice that,
/// and the first one those below, too.
pub(crate) struct Magnitudes {
    counts: [Count; 64],
    longest: Count,
}

impl Default for Magnitudes {
    fn default() -> Self {
        Self { counts: [const { Count(AtomicU64::new(0)) }; 64], longest: Count::default() }
    }
}

impl Magnitudes {
    #[inline(always)]
    pub(crate) fn record(&self, nanos: u64) {
        self.counts[(nanos | 1).ilog2() as usize].add(1);
        self.longest.raise_to(nanos);
    }

    pub(crate) fn counts(&self) -> [u64; 64] {
        std::array::from_fn(|place| self.counts[place].get())
    }

    pub(crate) fn longest(&self) -> u64 {
        self.longest.get()
    }
}

/// All that is counted of a loop, also by those who stand above the scheduler.
pub(crate) struct Counters {
    /// When the loop was made: what nanoseconds are counted from.
    began: Instant,
    /// The same by a [`ManualClock`](crate::ManualClock), which has nanoseconds of its own.
    began_manually: u64,
    /// Whether other threads can read its clock.
    pub(crate) is_monotonic: bool,
    pub(crate) handles: Counter,
    pub(crate) timers: Counter,
    pub(crate) tasks: Counter,
    pub(crate) futures: Counter,
    pub(crate) transports: Counter,
    pub(crate) servers: Counter,
    pub(crate) turns: Count,
    /// Times the selector was asked.
    pub(crate) waits: Count,
    pub(crate) polls: Count,
    pub(crate) callbacks: Count,
    pub(crate) timers_fired: Count,
    pub(crate) events: Count,
    pub(crate) posts: Count,
    pub(crate) bytes_in: Count,
    pub(crate) bytes_out: Count,
    /// What the latest turn found ready.
    pub(crate) ready: Count,
    pub(crate) longest_ready: Count,
    /// Timers of every kind that were armed when the selector was asked.
    pub(crate) armed: Count,
    /// Descriptors that were registered when the selector was asked.
    pub(crate) descriptors: Count,
    /// When the loop was last seen to be alive: it asked the selector, or was about to sleep.
    pub(crate) looked_at: Count,
    /// The turn in which that was.
    pub(crate) looked_in: Count,
    /// Asleep in the selector.
    pub(crate) asleep: Stopwatch,
    /// Not being run.
    pub(crate) away: Stopwatch,
    /// The end of the loop; zero before.
    pub(crate) ended_at: Count,
    /// Between two looks at the selector.
    pub(crate) lag: Magnitudes,
    /// Of timers.
    pub(crate) lateness: Magnitudes,
}

impl Counters {
    pub(crate) fn new(clock: &ClockSource) -> Self {
        let (began, began_manually) = match clock {
            ClockSource::Manual(clock) => {
                let nanos = clock.nanos();
                (clock.at(nanos), nanos)
            }
            other => (other.now(), 0),
        };
        let counters = Self {
            began,
            began_manually,
            is_monotonic: matches!(clock, ClockSource::Monotonic),
            handles: Counter::default(),
            timers: Counter::default(),
            tasks: Counter::default(),
            futures: Counter::default(),
            transports: Counter::default(),
            servers: Counter::default(),
            turns: Count::default(),
            waits: Count::default(),
            polls: Count::default(),
            callbacks: Count::default(),
            timers_fired: Count::default(),
            events: Count::default(),
            posts: Count::default(),
            bytes_in: Count::default(),
            bytes_out: Count::default(),
            ready: Count::default(),
            longest_ready: Count::default(),
            armed: Count::default(),
            descriptors: Count::default(),
            looked_at: Count::default(),
            looked_in: Count::default(),
            asleep: Stopwatch::default(),
            away: Stopwatch::default(),
            ended_at: Count::default(),
            lag: Magnitudes::default(),
            lateness: Magnitudes::default(),
        };
        counters.away.start(0);
        counters
    }

    /// The time of the loop's clock, in nanoseconds since the loop was made.
    #[inline]
    pub(crate) fn read(&self, clock: &ClockSource) -> u64 {
        match clock {
            ClockSource::Manual(clock) => clock.nanos() - self.began_manually,
            other => self.nanos(other.now()),
        }
    }

    /// The same, and as it is.
    #[inline]
    pub(crate) fn read_both(&self, clock: &ClockSource) -> (Instant, u64) {
        if let ClockSource::Manual(clock) = clock {
            let nanos = clock.nanos();
            return (clock.at(nanos), nanos - self.began_manually);
        }
        let now = clock.now();
        (now, self.nanos(now))
    }

    /// The loop is run for the first time. This and all others are told the time in nanoseconds since the loop was made.
    #[cold]
    pub(crate) fn begin(&self, now: u64) {
        self.away.stop(now);
        self.looked_at.set(now);
    }

    /// The loop is about to sleep in the selector.
    #[inline]
    pub(crate) fn fall_asleep(&self, now: u64, most_turns: u32) {
        self.look(now, most_turns);
        self.asleep.start(now);
    }

    /// It slept.
    #[inline]
    pub(crate) fn wake_up(&self, now: u64) {
        self.asleep.stop(now);
        self.looked_at.set(now);
    }

    /// The loop looks at the selector: notes how long it has not done so. A loop that watches nothing may not look for more than `most_turns` turns: what
    /// comes from other threads it has taken in each of them.
    #[inline(always)]
    pub(crate) fn look(&self, now: u64, most_turns: u32) {
        let (turn, before) = (self.turns.get(), self.looked_in.get());
        if self.away.is_running() {
            self.away.stop(now);
        } else {
            let (lag, turns) = (now.saturating_sub(self.looked_at.get()), turn - before);
            self.lag.record(if turns > u64::from(most_turns) { lag / turns } else { lag });
        }
        self.looked_in.set(turn);
        self.looked_at.set(now);
    }

    /// Nobody runs the loop from now on.
    pub(crate) fn leave(&self, now: u64, most_turns: u32) {
        self.look(now, most_turns);
        self.away.start(now);
    }

    /// The loop is closed: no time passes any more.
    pub(crate) fn end(&self, now: u64) {
        // Zero stands for a loop that is open.
        self.ended_at.set(now.max(1));
    }

    /// A moment, in nanoseconds since the loop was made.
    #[inline(always)]
    pub(crate) fn nanos(&self, at: Instant) -> u64 {
        whole_nanos(at.saturating_duration_since(self.began))
    }
}

/// A duration of less than 584 years in nanoseconds.
#[inline(always)]
pub(crate) fn whole_nanos(duration: Duration) -> u64 {
    duration.as_secs().wrapping_mul(1_000_000_000).wrapping_add(duration.subsec_nanos().into())
}

/// A duration in nanoseconds; more than 584 years are as much as these.
pub(crate) fn saturating_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Magnitudes, Stopwatch};

    #[test]
    fn a_stopwatch_adds_up() {
        let watch = Stopwatch::default();
        assert_eq!(watch.read(7), 0);
        watch.start(10);
        assert!(watch.is_running());
        assert_eq!((watch.read(10), watch.read(15)), (0, 5));
        // A second start changes nothing.
        watch.start(12);
        watch.stop(20);
        assert!(!watch.is_running());
        assert_eq!(watch.read(1000), 10);
        watch.stop(30);
        assert_eq!(watch.read(1000), 10);
        watch.start(100);
        assert_eq!((watch.read(100), watch.read(101)), (10, 11));
        // A clock that goes back takes nothing away for good.
        assert_eq!(watch.read(50), 0);
        watch.stop(103);
        assert_eq!(watch.read(0), 13);
    }

    #[test]
    fn magnitudes_are_powers_of_two() {
        let magnitudes = Magnitudes::default();
        for nanos in [0, 1, 2, 3, 4, 1023, 1024, u64::MAX] {
            magnitudes.record(nanos);
        }
        let counts = magnitudes.counts();
        let found: Vec<_> = (0..64).filter(|&place| counts[place] > 0).map(|place| (place, counts[place])).collect();
        assert_eq!(found, [(0, 2), (1, 2), (2, 1), (9, 1), (10, 1), (63, 1)]);
        assert_eq!(magnitudes.longest(), u64::MAX);
    }
}

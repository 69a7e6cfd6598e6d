//! Ticks.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_core::Stream;

use crate::event_loop::running;
use crate::event_loop::timer::Sleep;
use crate::sched::clock::deadline;

/// What an [`Interval`] does about ticks that nobody was there for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissedTicks {
    /// Makes up for them at once, one after the other, and keeps to the schedule.
    #[default]
    Burst,
    /// Starts a new schedule at the late tick.
    Delay,
    /// Leaves them out, and keeps to the schedule.
    Skip,
}

impl MissedTicks {
    /// The tick after one that was due at `due` and came at `now`.
    fn next(self, due: Instant, now: Instant, period: Duration) -> Instant {
        match self {
            Self::Burst => deadline(due, period),
            _ if deadline(due, period) > now => deadline(due, period),
            Self::Delay => deadline(now, period),
            Self::Skip => {
                let late = now.saturating_duration_since(due);
                let into_period = late.as_nanos() % period.as_nanos();
                let rest = period - Duration::from_nanos(u64::try_from(into_period).unwrap_or(0));
                deadline(now, rest)
            }
        }
    }
}

/// Ticks once every `period`, for the first time at once.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// roundelay::block_on(async {
///     let mut interval = roundelay::interval(Duration::from_millis(1));
///     let first = interval.tick().await;
///     let second = interval.tick().await;
///     assert_eq!(second - first, Duration::from_millis(1));
/// });
/// ```
///
/// # Panics
///
/// If `period` is zero, or when it is polled outside of a running event loop.
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    Interval::new(None, period)
}

/// As [`interval`], for the first time at `start`.
///
/// # Panics
///
/// As [`interval`].
#[track_caller]
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    Interval::new(Some(start), period)
}

/// Ticks at a steady pace. Made by [`interval`]; also a `Stream` of the moments at which its ticks were due.
pub struct Interval {
    /// When the next tick is due; `None` for at once.
    due: Option<Instant>,
    period: Duration,
    missed_ticks: MissedTicks,
    sleep: Option<Sleep>,
}

impl Interval {
    #[track_caller]
    fn new(due: Option<Instant>, period: Duration) -> Self {
        assert!(!period.is_zero(), "interval(): the period must be longer than zero");
        Self { due, period, missed_ticks: MissedTicks::default(), sleep: None }
    }

    /// Says what to do about missed ticks.
    pub fn missed_ticks(mut self, missed_ticks: MissedTicks) -> Self {
        self.missed_ticks = missed_ticks;
        self
    }

    /// The time between two ticks.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// Waits for the next tick, and gives the moment at which it was due.
    ///
    /// # Panics
    ///
    /// Outside of a running event loop.
    pub async fn tick(&mut self) -> Instant {
        poll_fn(|cx| self.poll_tick(cx)).await
    }

    /// As [`tick`](Self::tick), for whoever polls.
    ///
    /// # Panics
    ///
    /// Outside of a running event loop.
    pub fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Instant> {
        let Some(core) = running::current() else {
            panic!("an interval was polled outside of a running roundelay event loop");
        };
        let due = *self.due.get_or_insert_with(|| core.now());
        if due > core.now() || self.sleep.is_some() {
            let sleep = self.sleep.get_or_insert_with(|| Sleep::until(due));
            std::task::ready!(Pin::new(sleep).poll(cx));
            self.sleep = None;
        }
        // Many missed ticks, or a period that is shorter than what is done in it, must not keep the others waiting.
        std::task::ready!(core.poll_budget(cx));
        core.spend_budget();
        self.due = Some(self.missed_ticks.next(due, core.now(), self.period));
        Poll::Ready(due)
    }
}

impl Stream for Interval {
    type Item = Instant;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Instant>> {
        self.poll_tick(cx).map(Some)
    }
}

impl fmt::Debug for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interval").field("period", &self.period).field("missed_ticks", &self.missed_ticks).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_late_tick() {
        let due = Instant::now();
        let ms = Duration::from_millis;
        let next = |missed: MissedTicks, late| missed.next(due, due + ms(late), ms(10)) - due;
        // In time: all agree.
        for missed in [MissedTicks::Burst, MissedTicks::Delay, MissedTicks::Skip] {
            assert_eq!(next(missed, 0), ms(10));
            assert_eq!(next(missed, 9), ms(10));
        }
        assert_eq!(next(MissedTicks::Burst, 25), ms(10));
        assert_eq!(next(MissedTicks::Delay, 25), ms(35));
        assert_eq!(next(MissedTicks::Skip, 25), ms(30));
        assert_eq!(next(MissedTicks::Skip, 20), ms(30));
    }
}

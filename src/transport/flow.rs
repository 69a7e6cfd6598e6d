//! When to tell a protocol to stop writing. Pure: takes sizes, gives decisions.

use std::io;

use crate::constants::{TLS_WRITE_HIGH_WATER, WATER_RATIO, WRITE_HIGH_WATER};
use crate::error::invalid_input;
use crate::protocol::WaterMarks;

/// What a change of size means for whoever writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Change {
    /// Nothing.
    None,
    /// Stop: there is more than the high-water mark.
    Pause,
    /// Go on: there is no more than the low-water mark.
    Resume,
}

/// Whose rules hold: asyncio's TLS transports pause at the high mark already, and look at both marks when they are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rules {
    Plain,
    #[cfg_attr(not(feature = "__tls"), allow(dead_code))]
    Tls,
}

/// The flow control of one write queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    marks: WaterMarks,
    paused: bool,
    rules: Rules,
}

impl Flow {
    pub(crate) fn new() -> Self {
        Self::with_rules(Rules::Plain)
    }

    /// That of TLS.
    #[cfg(feature = "__tls")]
    pub(crate) fn of_tls() -> Self {
        Self::with_rules(Rules::Tls)
    }

    fn with_rules(rules: Rules) -> Self {
        let high = Self::default_high(rules);
        Self { marks: WaterMarks { low: high / WATER_RATIO, high }, paused: false, rules }
    }

    fn default_high(rules: Rules) -> usize {
        match rules {
            Rules::Plain => WRITE_HIGH_WATER,
            Rules::Tls => TLS_WRITE_HIGH_WATER,
        }
    }

    pub(crate) fn marks(&self) -> WaterMarks {
        self.marks
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// The queue has grown to `size`.
    pub(crate) fn grown(&mut self, size: usize) -> Change {
        let is_high = match self.rules {
            Rules::Plain => size > self.marks.high,
            Rules::Tls => size >= self.marks.high && size > 0,
        };
        if self.paused || !is_high {
            return Change::None;
        }
        self.paused = true;
        Change::Pause
    }

    /// The queue has shrunk to `size`.
    pub(crate) fn shrunk(&mut self, size: usize) -> Change {
        if !self.paused || size > self.marks.low {
            return Change::None;
        }
        self.paused = false;
        Change::Resume
    }

    /// Sets the marks. A queue above a lowered mark pauses at once; one below a raised mark is not resumed, only
    /// draining does that, except by the rules of TLS.
    pub(crate) fn set_marks(&mut self, high: Option<usize>, low: Option<usize>, size: usize) -> io::Result<Change> {
        let high = match (high, low) {
            (Some(high), _) => high,
            (None, Some(low)) => low.saturating_mul(WATER_RATIO),
            (None, None) => Self::default_high(self.rules),
        };
        let low = low.unwrap_or(high / WATER_RATIO);
        if low > high {
            return Err(invalid_input(format!(
                "Transport::set_write_buffer_limits(): the low mark ({low}) is above the high one ({high})"
            )));
        }
        self.marks = WaterMarks { low, high };
        Ok(match (self.grown(size), self.rules) {
            (Change::None, Rules::Tls) => self.shrunk(size),
            (change, _) => change,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u16),
        Drain(u16),
        Marks(Option<u16>, Option<u16>),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => any::<u16>().prop_map(Step::Write),
            4 => any::<u16>().prop_map(Step::Drain),
            1 => (any::<Option<u16>>(), any::<Option<u16>>()).prop_map(|(high, low)| Step::Marks(high, low)),
        ]
    }

    proptest! {
        /// Pause and resume alternate; a pause comes as soon as the size is above the high mark, a resume only from a
        /// drain to the low mark or below; refused marks change nothing.
        #[test]
        fn pause_and_resume_alternate_at_the_marks(steps in proptest::collection::vec(step(), 1..300)) {
            let (mut flow, mut size, mut told) = (Flow::new(), 0_usize, false);
            flow.set_marks(Some(40_000), Some(10_000), 0).map(|_| ()).unwrap();
            for step in steps {
                let (change, drained) = match step {
                    Step::Write(n) => {
                        size += usize::from(n);
                        (flow.grown(size), false)
                    }
                    Step::Drain(n) => {
                        size = size.saturating_sub(n.into());
                        (flow.shrunk(size), true)
                    }
                    Step::Marks(high, low) => {
                        let before = flow.marks();
                        match flow.set_marks(high.map(Into::into), low.map(Into::into), size) {
                            Ok(change) => (change, false),
                            Err(_) => {
                                prop_assert_eq!(before, flow.marks());
                                (Change::None, false)
                            }
                        }
                    }
                };
                match change {
                    Change::Pause => {
                        prop_assert!(!told && size > flow.marks().high);
                        told = true;
                    }
                    Change::Resume => {
                        prop_assert!(told && drained && size <= flow.marks().low);
                        told = false;
                    }
                    Change::None => {
                        prop_assert!(told || size <= flow.marks().high);
                        prop_assert!(!(told && drained && size <= flow.marks().low));
                    }
                }
                prop_assert_eq!(told, flow.is_paused());
            }
        }
    }

    #[test]
    fn one_mark_gives_the_other() {
        let mut flow = Flow::new();
        assert_eq!(flow.marks(), WaterMarks { low: 16 * 1024, high: 64 * 1024 });
        let mut set = |high, low| {
            flow.set_marks(high, low, 0).map(|_| ()).unwrap();
            (flow.marks().low, flow.marks().high)
        };
        assert_eq!(set(None, Some(100)), (100, 400));
        assert_eq!(set(Some(100), None), (25, 100));
        assert_eq!(set(Some(0), None), (0, 0));
        assert_eq!(set(Some(100), Some(10)), (10, 100));
        assert_eq!(set(None, None), (16 * 1024, 64 * 1024));
    }
}

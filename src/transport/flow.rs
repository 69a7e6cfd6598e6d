//! When to tell a protocol to stop writing. Pure: takes sizes, gives decisions.

use std::io;

use crate::constants::{WATER_RATIO, WRITE_HIGH_WATER};
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

/// The flow control of one write queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    marks: WaterMarks,
    paused: bool,
}

impl Flow {
    pub(crate) fn new() -> Self {
        Self { marks: WaterMarks { low: WRITE_HIGH_WATER / WATER_RATIO, high: WRITE_HIGH_WATER }, paused: false }
    }

    pub(crate) fn marks(&self) -> WaterMarks {
        self.marks
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// The queue has grown to `size`.
    pub(crate) fn grown(&mut self, size: usize) -> Change {
        if self.paused || size <= self.marks.high {
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
    /// draining does that.
    pub(crate) fn set_marks(&mut self, high: Option<usize>, low: Option<usize>, size: usize) -> io::Result<Change> {
        let high = match (high, low) {
            (Some(high), _) => high,
            (None, Some(low)) => low.saturating_mul(WATER_RATIO),
            (None, None) => WRITE_HIGH_WATER,
        };
        let low = low.unwrap_or(high / WATER_RATIO);
        if low > high {
            return Err(invalid_input(format!(
                "Transport::set_write_buffer_limits(): the low mark ({low}) is above the high one ({high})"
            )));
        }
        self.marks = WaterMarks { low, high };
        Ok(self.grown(size))
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

//! The life of a connection. Pure: events go in, decisions come out.
//!
//! ```text
//!          close, queue empty / abort / error
//!   Open ------------------------------------> Losing --(connection_lost)--> Gone
//!     \                                          ^
//!      close, something queued                   | flushed / abort / error
//!       \--------------------> Flushing ---------/
//! ```
//!
//! The reading side and the writing side each have a state of their own, which matters while the phase is `Open` (and,
//! for writing, `Flushing`). A file that is being sent holds up both, and counts as something queued.

/// How far the connection is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// Closed by this side; what is queued is still being sent. Excludes reading.
    Flushing,
    /// `connection_lost` is on its way. Excludes reading and writing.
    Losing,
    /// `connection_lost` was called.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    On,
    Paused,
    /// The peer has ended its side.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    Open,
    /// To be ended when the queue is empty. Excludes writing more.
    Ending,
    /// Ended.
    Ended,
}

/// What to do about a call of `close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Close {
    /// Nothing: it is closing already.
    Already,
    /// Stop reading and send what is queued.
    Flush,
    /// Stop reading and let `connection_lost` come.
    Lose,
}

/// What to do about a call of `write_eof`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum WriteEof {
    /// Nothing: it is ended, ending or closing already.
    Already,
    /// Wait for the queue to be empty.
    AfterFlush,
    /// Shut the writing side down.
    Shutdown,
}

/// What to do when the queue has become empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Flushed {
    /// Nothing.
    GoOn,
    /// Shut the writing side down.
    Shutdown,
    /// Let `connection_lost` come.
    Lose,
}

/// What to do with bytes that are to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Verdict {
    Write,
    /// Misuse: the writing side was ended by `write_eof`.
    AfterEof,
    /// Misuse: a file is being sent.
    WithinFile,
    /// Drop them.
    Closing,
}

/// What to do about a file that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum BeginFile {
    /// Stop reading and send it when the queue is empty.
    Begin,
    /// Nothing: the connection is closing or gone.
    Closing,
    /// Nothing: the writing side was ended by `write_eof`.
    AfterEof,
    /// Nothing: another one is being sent.
    Busy,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifecycle {
    phase: Phase,
    reading: Reading,
    writing: Writing,
    /// Whether a file is being sent. Excludes reading and writing; their states are those of afterwards.
    file: bool,
}

impl Lifecycle {
    pub(crate) fn new() -> Self {
        Self { phase: Phase::Open, reading: Reading::On, writing: Writing::Open, file: false }
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.phase != Phase::Open
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.phase == Phase::Gone
    }

    /// Whether `connection_lost` is on its way or was called.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.phase, Phase::Losing | Phase::Gone)
    }

    pub(crate) fn is_reading(&self) -> bool {
        self.phase == Phase::Open && self.reading == Reading::On && !self.file
    }

    /// True if it was not paused before.
    pub(crate) fn pause(&mut self) -> bool {
        let changes = self.is_reading();
        if self.phase == Phase::Open && self.reading == Reading::On {
            self.reading = Reading::Paused;
        }
        changes
    }

    /// True if it was paused, and reading goes on now.
    pub(crate) fn resume(&mut self) -> bool {
        let was_paused = self.phase == Phase::Open && self.reading == Reading::Paused;
        if was_paused {
            self.reading = Reading::On;
        }
        was_paused && !self.file
    }

    /// The peer has ended its side: true for the first time.
    pub(crate) fn end_reading(&mut self) -> bool {
        let changes = self.phase == Phase::Open && self.reading != Reading::Ended;
        self.reading = Reading::Ended;
        changes
    }

    pub(crate) fn write(&self) -> Verdict {
        match (self.writing, self.phase) {
            (Writing::Ending | Writing::Ended, _) => Verdict::AfterEof,
            (Writing::Open, Phase::Open | Phase::Flushing) if self.file => Verdict::WithinFile,
            (Writing::Open, Phase::Open) => Verdict::Write,
            (Writing::Open, _) => Verdict::Closing,
        }
    }

    pub(crate) fn write_eof(&mut self, queue_is_empty: bool) -> WriteEof {
        if self.phase != Phase::Open || self.writing != Writing::Open {
            return WriteEof::Already;
        }
        if queue_is_empty && !self.file {
            self.writing = Writing::Ended;
            WriteEof::Shutdown
        } else {
            self.writing = Writing::Ending;
            WriteEof::AfterFlush
        }
    }

    pub(crate) fn close(&mut self, queue_is_empty: bool) -> Close {
        if self.phase != Phase::Open {
            return Close::Already;
        }
        if queue_is_empty && !self.file {
            self.phase = Phase::Losing;
            Close::Lose
        } else {
            self.phase = Phase::Flushing;
            Close::Flush
        }
    }

    /// The queue has become empty.
    pub(crate) fn flushed(&mut self) -> Flushed {
        match self.phase {
            _ if self.file => Flushed::GoOn,
            Phase::Flushing => {
                self.phase = Phase::Losing;
                Flushed::Lose
            }
            Phase::Open if self.writing == Writing::Ending => {
                self.writing = Writing::Ended;
                Flushed::Shutdown
            }
            _ => Flushed::GoOn,
        }
    }

    /// Whether a file is being sent.
    pub(crate) fn is_sending_file(&self) -> bool {
        self.file
    }

    /// A file is to be sent.
    pub(crate) fn begin_file(&mut self) -> BeginFile {
        if self.phase != Phase::Open {
            return BeginFile::Closing;
        }
        if self.writing != Writing::Open {
            return BeginFile::AfterEof;
        }
        if self.file {
            return BeginFile::Busy;
        }
        self.file = true;
        BeginFile::Begin
    }

    /// It is sent, or given up.
    pub(crate) fn end_file(&mut self, queue_is_empty: bool) -> Flushed {
        self.file = false;
        if queue_is_empty { self.flushed() } else { Flushed::GoOn }
    }

    /// An abort or an error: true if `connection_lost` is to come now, false if it is on its way or was called.
    #[must_use]
    pub(crate) fn lose(&mut self) -> bool {
        let changes = !self.is_lost();
        if changes {
            self.phase = Phase::Losing;
        }
        changes
    }

    /// `connection_lost` is about to be called: true once.
    #[must_use]
    pub(crate) fn gone(&mut self) -> bool {
        let changes = self.phase != Phase::Gone;
        self.phase = Phase::Gone;
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Close(bool),
        WriteEof(bool),
        Flushed,
        Lose,
        Pause,
        Resume,
        EndReading,
        BeginFile,
        EndFile(bool),
    }

    fn note(flushed: Flushed, losses: &mut i32, shutdowns: &mut i32) {
        match flushed {
            Flushed::GoOn => {}
            Flushed::Shutdown => *shutdowns += 1,
            Flushed::Lose => *losses += 1,
        }
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            any::<bool>().prop_map(Step::Close),
            any::<bool>().prop_map(Step::WriteEof),
            Just(Step::Flushed),
            Just(Step::Lose),
            Just(Step::Pause),
            Just(Step::Resume),
            Just(Step::EndReading),
            Just(Step::BeginFile),
            any::<bool>().prop_map(Step::EndFile),
        ]
    }

    proptest! {
        /// However the calls are mixed: `connection_lost` is set on its way once at most, the writing side is shut down
        /// once at most, what is closing neither reads nor writes, and what sends a file neither reads nor writes nor ends
        /// but by being lost.
        #[test]
        fn one_end_whatever_happens(steps in proptest::collection::vec(step(), 1..60)) {
            let mut life = Lifecycle::new();
            let (mut losses, mut shutdowns) = (0, 0);
            for step in steps {
                match step {
                    Step::Close(empty) => losses += i32::from(life.close(empty) == Close::Lose),
                    Step::WriteEof(empty) => shutdowns += i32::from(life.write_eof(empty) == WriteEof::Shutdown),
                    Step::Flushed => note(life.flushed(), &mut losses, &mut shutdowns),
                    Step::BeginFile => {
                        let may = life.write() == Verdict::Write;
                        prop_assert_eq!(life.begin_file() == BeginFile::Begin, may);
                    }
                    Step::EndFile(empty) => note(life.end_file(empty), &mut losses, &mut shutdowns),
                    Step::Lose => losses += i32::from(life.lose()),
                    Step::Pause => {
                        let was = life.is_reading();
                        prop_assert_eq!(life.pause(), was);
                    }
                    Step::Resume => {
                        let changed = life.resume();
                        prop_assert!(!changed || life.is_reading());
                    }
                    Step::EndReading => {
                        let first = life.end_reading();
                        prop_assert!(!first || !life.is_closing());
                    }
                }
                prop_assert!(losses <= 1 && shutdowns <= 1);
                if life.is_sending_file() {
                    prop_assert!(!life.is_reading() && life.write() != Verdict::Write && shutdowns == 0);
                }
                prop_assert_eq!(losses == 1, life.is_lost());
                prop_assert!(!(life.is_closing() && life.is_reading()));
                prop_assert!(!(life.is_closing() && life.write() == Verdict::Write));
            }
        }
    }
}

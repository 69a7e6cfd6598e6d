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
//! for writing, `Flushing`). One end of a pipe has one side only. A file that is being sent holds up both, and counts as
//! something queued.

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
    /// There is no such side; how the reader of what is written is watched.
    None(Watch),
}

/// How a writing end finds out that nobody reads any more, without writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Not at all.
    No,
    /// When the selector reports a hang-up or an error, as it does unasked.
    Hangup,
    /// When the peer of a socket sends no more, too.
    EndOfFile,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    /// There is no such side.
    None,
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
    /// Misuse: there is no writing side.
    NoSide,
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
    /// Nothing: there is no writing side.
    NoSide,
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

    /// That of a reading end.
    pub(crate) fn of_read_end() -> Self {
        Self { writing: Writing::None, ..Self::new() }
    }

    /// That of a writing end.
    pub(crate) fn of_write_end(watch: Watch) -> Self {
        Self { reading: Reading::None(watch), ..Self::new() }
    }

    /// Whether it has no writing side.
    pub(crate) fn is_read_end(&self) -> bool {
        self.writing == Writing::None
    }

    /// Whether it has no reading side; how the reader is watched.
    #[inline]
    pub(crate) fn write_end(&self) -> Option<Watch> {
        match self.reading {
            Reading::None(watch) => Some(watch),
            _ => None,
        }
    }

    /// What a writing end gets to read is for others: from now on it waits for hang-ups only.
    pub(crate) fn watch_less(&mut self) {
        if matches!(self.reading, Reading::None(Watch::EndOfFile)) {
            self.reading = Reading::None(Watch::Hangup);
        }
    }

    /// Whether something to read is to be reported.
    #[inline]
    pub(crate) fn wants_readable(&self) -> bool {
        self.is_reading() || (matches!(self.reading, Reading::None(Watch::EndOfFile)) && !self.is_lost())
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
        self.phase == Phase::Open && matches!(self.reading, Reading::On) && !self.file
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
        let was_paused = self.phase == Phase::Open && matches!(self.reading, Reading::Paused);
        if was_paused {
            self.reading = Reading::On;
        }
        was_paused && !self.file
    }

    /// The peer has ended its side: true for the first time.
    pub(crate) fn end_reading(&mut self) -> bool {
        let changes = self.phase == Phase::Open && matches!(self.reading, Reading::On | Reading::Paused);
        if changes {
            self.reading = Reading::Ended;
        }
        changes
    }

    /// As `end_reading`, of a connection that this side has closed.
    pub(crate) fn end_reading_late(&mut self) -> bool {
        let changes = self.phase == Phase::Flushing && matches!(self.reading, Reading::On | Reading::Paused);
        if changes {
            self.reading = Reading::Ended;
        }
        changes
    }

    /// A protocol begins that was told nothing yet, also not that the peer has ended its side.
    pub(crate) fn restart_reading(&mut self) {
        if self.write_end().is_none() {
            self.reading = Reading::On;
        }
    }

    /// Whether the writing side is to be ended as soon as everything is sent.
    pub(crate) fn ends_when_flushed(&self) -> bool {
        !self.file && (self.phase == Phase::Flushing || self.phase == Phase::Open && self.writing == Writing::Ending)
    }

    pub(crate) fn write(&self) -> Verdict {
        match (self.writing, self.phase) {
            (Writing::Open, Phase::Open | Phase::Flushing) if self.file => Verdict::WithinFile,
            (Writing::Open, Phase::Open) => Verdict::Write,
            (Writing::Ending | Writing::Ended, _) => Verdict::AfterEof,
            (Writing::None, Phase::Open) => Verdict::NoSide,
            (Writing::Open | Writing::None, _) => Verdict::Closing,
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
        match self.writing {
            Writing::None => BeginFile::NoSide,
            Writing::Ending | Writing::Ended => BeginFile::AfterEof,
            Writing::Open if self.file => BeginFile::Busy,
            Writing::Open => {
                self.file = true;
                BeginFile::Begin
            }
        }
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
        Restart,
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
            Just(Step::Restart),
            Just(Step::BeginFile),
            any::<bool>().prop_map(Step::EndFile),
        ]
    }

    proptest! {
        /// However the calls are mixed: `connection_lost` is set on its way once at most, the writing side is shut down
        /// once at most, what is closing neither reads nor writes, and what sends a file neither reads nor writes nor ends
        /// but by being lost.
        #[test]
        fn one_end_whatever_happens(
            life in prop_oneof![
                Just(Lifecycle::new()),
                Just(Lifecycle::of_read_end()),
                Just(Lifecycle::of_write_end(Watch::EndOfFile)),
            ],
            steps in proptest::collection::vec(step(), 1..60),
        ) {
            let mut life = life;
            let (is_read_end, write_end) = (life.is_read_end(), life.write_end());
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
                    Step::Restart => {
                        life.restart_reading();
                        let free = write_end.is_none() && !life.is_closing() && !life.is_sending_file();
                        prop_assert_eq!(life.is_reading(), free);
                    }
                }
                prop_assert!(losses <= 1 && shutdowns <= 1);
                if life.is_sending_file() {
                    prop_assert!(!life.ends_when_flushed());
                    prop_assert!(!life.is_reading() && life.write() != Verdict::Write && shutdowns == 0);
                }
                prop_assert_eq!(losses == 1, life.is_lost());
                prop_assert!(!(life.is_closing() && life.is_reading()));
                prop_assert!(!(life.is_closing() && life.write() == Verdict::Write));
                prop_assert_eq!((life.is_read_end(), life.write_end()), (is_read_end, write_end));
                prop_assert!(!(is_read_end && life.write() == Verdict::Write));
                prop_assert!(!(write_end.is_some() && life.is_reading()));
                prop_assert!(!(life.is_lost() && life.wants_readable()));
            }
        }
    }
}

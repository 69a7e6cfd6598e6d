//! The timeline: what the loop has done when, in a file that Perfetto and chrome://tracing open.

mod format;
mod recorder;
mod sink;

use std::cell::RefCell;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::rc::{Rc, Weak};

use crate::constants::{TRACE_LIMIT, TRACE_LIMIT_LEAST};
use crate::error::{LoopClosed, invalid_input};
use crate::event_loop::services::Service;
use crate::event_loop::timeline::recorder::Timeline;
use crate::event_loop::{Core, EventLoop};
use crate::note::quietly;

impl EventLoop {
    /// Writes down what the loop does from now on, in the Trace Event format, which <https://ui.perfetto.dev> and
    /// chrome://tracing open: to see where its time goes, and what stalls it.
    ///
    /// The file begins anew if it exists. The timeline ends with [`Trace::finish`], when the [`Trace`] is dropped, with the
    /// loop, or when the file has 64 MiB, which is some 300 000 callbacks and polls: see
    /// [`trace_builder`](Self::trace_builder) for another bound. The guide's chapter on stalls shows what to look for.
    ///
    /// In the file, on the track of the loop's thread:
    ///
    /// * `turn`: each turn of the loop, with its number, how many items ran, how many of them were posted by other threads,
    ///   how many timers were due, and how late the latest of them was.
    /// * Inside of a turn, each item that ran, by the category of its kind: `task` and `root` (a poll; named as the
    ///   task, with its id, where it was spawned and how often it was polled), `callback`, `timer` (with how late it was),
    ///   `post` (of another thread), `event` (of a transport). An [eager](Self::set_eager_tasks) task is a poll inside of
    ///   what has spawned it. `at` is where the application has made what ran; `slow` marks what took as long as
    ///   [debug mode](Self::set_slow_callback_duration) reports.
    /// * `wait`, before a turn: the loop sleeps in the selector; `poll`, at the beginning of a turn: it asks without waiting.
    ///   With the limit of the wait, and how many descriptors had something to say.
    /// * Marks: timers that were at least a millisecond late, and what was reported to the
    ///   [exception handler](Self::set_exception_handler).
    /// * Counters: `ready`, the items that wait for their turn, and `tasks`, those that are alive.
    ///
    /// For each post of another thread, and each task that one wakes, there is an arrow from that thread's track to what runs
    /// because of it. Times are those of the loop's clock; a loop with a [`clock`](crate::Builder::clock) of its own has no
    /// arrows.
    ///
    /// The loop never waits for the disk: a thread writes. What a slow disk has not taken yet waits in memory, up to the
    /// bound of the file. The thread is given something every 64 KiB, and when a second has passed; a process that dies leaves
    /// a file that opens and lacks the latest of it. An error of the disk ends the timeline with a warning, and the loop goes
    /// on. While a timeline is written, an item costs the loop about a microsecond more; otherwise nothing.
    ///
    /// A loop can have several timelines at a time, in different files, and each loop of a process its own. In a child of
    /// `fork` a timeline of the parent writes nothing.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`] as an `io::Error`; `ResourceBusy` if a timeline of this loop is being written to the same file; the
    /// operating system's where the file or the thread cannot be made.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("timeline.json");
    /// let el = roundelay::EventLoop::new()?;
    /// let trace = el.trace_to(&path)?;
    /// let answer = el.task_builder().name("think").spawn(async { 42 });
    /// el.run_until_complete(answer).unwrap().unwrap();
    /// let summary = trace.finish()?;
    /// assert_eq!(summary.end, roundelay::TraceEnd::Finished);
    /// assert!(std::fs::read_to_string(&path)?.contains("think"));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn trace_to(&self, path: impl AsRef<Path>) -> io::Result<Trace> {
        self.trace_builder().begin(path)
    }

    /// A timeline with settings of your own: see [`trace_to`](Self::trace_to).
    pub fn trace_builder(&self) -> TraceBuilder<'_> {
        TraceBuilder { el: self, limit_bytes: TRACE_LIMIT, keep_latest: false }
    }
}

/// Settings for a timeline, made by [`EventLoop::trace_builder`].
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("timeline.json");
/// let el = roundelay::EventLoop::new()?;
/// // The last megabyte of events before something went wrong.
/// let trace = el.trace_builder().limit_bytes(1 << 20).keep_latest(true).begin(&path)?;
/// # drop(trace);
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
#[must_use = "nothing happens before begin()"]
pub struct TraceBuilder<'a> {
    el: &'a EventLoop,
    limit_bytes: usize,
    keep_latest: bool,
}

impl TraceBuilder<'_> {
    /// The most bytes that the file may have (64 MiB). When they are reached the timeline ends, in a file that is complete
    /// and says so, and with a warning.
    pub fn limit_bytes(mut self, limit: usize) -> Self {
        self.limit_bytes = limit;
        self
    }

    /// Keeps the latest events in memory, as many as the limit allows, and writes them when the timeline ends (false): for
    /// a program that runs for long before what one wants to see happens. If the process dies, they are lost.
    pub fn keep_latest(mut self, keep_latest: bool) -> Self {
        self.keep_latest = keep_latest;
        self
    }

    /// Makes the file, and begins with the next item that the loop runs.
    ///
    /// # Errors
    ///
    /// As [`EventLoop::trace_to`]; `InvalidInput` for a limit below 4 KiB.
    pub fn begin(self, path: impl AsRef<Path>) -> io::Result<Trace> {
        let core = &self.el.core;
        if !core.is_open() {
            return Err(LoopClosed.into());
        }
        if self.limit_bytes < TRACE_LIMIT_LEAST {
            let text =
                format!("TraceBuilder::begin(): a limit of {} bytes is below {TRACE_LIMIT_LEAST}", self.limit_bytes);
            return Err(invalid_input(text));
        }
        let path = path.as_ref();
        let timelines = core.service::<Timelines>(self.el);
        timelines.list.borrow_mut().retain(|other| other.upgrade().is_some_and(|other| other.is_writing()));
        // It may have several names.
        let real = fs::canonicalize(path).ok();
        let is_same = |other: &Path| other == path || (real.is_some() && fs::canonicalize(other).ok() == real);
        let same = |other: &Weak<Timeline>| other.upgrade().is_some_and(|other| is_same(other.path()));
        if timelines.list.borrow().iter().any(same) {
            let text = format!("EventLoop::trace_to(): a timeline is being written to {} already", path.display());
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
        let timeline = Timeline::new(core, path, self.limit_bytes, self.keep_latest)?;
        timelines.list.borrow_mut().push(Rc::downgrade(&timeline));
        core.local.shared_ref().stamp(true);
        core.observe(timeline.clone());
        Ok(Trace { core: core.me.clone(), timeline })
    }
}

/// A timeline that is being written; made by [`EventLoop::trace_to`].
///
/// Dropping it ends the timeline, as [`finish`](Self::finish) does, and writes an error to the log.
#[must_use = "dropping it ends the timeline"]
pub struct Trace {
    core: Weak<Core>,
    timeline: Rc<Timeline>,
}

impl Trace {
    /// Ends the timeline, and waits until the file is complete.
    ///
    /// # Errors
    ///
    /// The operating system's, also one that has ended the timeline before; `Unsupported` in a child of `fork`, for a
    /// timeline of its parent.
    pub fn finish(self) -> io::Result<TraceSummary> {
        self.end();
        // There is one once it has ended, and nobody else takes it.
        self.timeline.take_outcome().unwrap_or_else(|| Err(io::Error::other("the timeline was never ended")))
    }

    /// Whether it is still being written: not if it has reached its limit, if the loop was closed, or after an error.
    pub fn is_writing(&self) -> bool {
        self.timeline.is_writing()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.timeline.path()
    }

    fn end(&self) {
        // It ends with the loop, so that there is one if it has not ended.
        if let Some(core) = self.core.upgrade() {
            self.timeline.end(&core, TraceEnd::Finished);
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let was_writing = self.timeline.is_writing();
        // In a child of `fork`, where it does not write, it lets go of what is the parent's.
        self.end();
        if was_writing {
            // It may be dropped by a panic, and a second one ends the process.
            quietly(|| _ = self.timeline.tell_error());
        }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("path", &self.path()).field("is_writing", &self.is_writing()).finish()
    }
}

/// What was written: see [`Trace::finish`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceSummary {
    /// Events in the file.
    pub events: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Earlier events that were dropped to [keep the latest](TraceBuilder::keep_latest).
    pub dropped: u64,
    /// Why it ended.
    pub end: TraceEnd,
}

/// Why a timeline has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceEnd {
    /// By [`Trace::finish`], or because the [`Trace`] was dropped.
    Finished,
    /// The file had the [most bytes](TraceBuilder::limit_bytes) that it may have.
    LimitReached,
    /// The loop was closed.
    LoopClosed,
}

/// The timelines of a loop, which end with it.
struct Timelines {
    core: Weak<Core>,
    list: RefCell<Vec<Weak<Timeline>>>,
}

impl Timelines {
    fn end(&self) {
        let Some(core) = self.core.upgrade() else { return };
        for timeline in self.list.take().iter().filter_map(Weak::upgrade) {
            let was_writing = timeline.is_writing();
            timeline.end(&core, TraceEnd::LoopClosed);
            if was_writing {
                timeline.tell_error();
            }
        }
    }
}

impl Service for Timelines {
    fn new(el: &EventLoop) -> Self {
        Self { core: el.core.me.clone(), list: RefCell::default() }
    }

    fn after_fork_child(&self, _: &EventLoop) -> io::Result<()> {
        self.end();
        Ok(())
    }

    fn close(&self) {
        self.end();
    }
}

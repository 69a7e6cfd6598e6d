//! What a timeline makes of what it sees.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use crate::constants::{LATE_TIMER, TRACE_FLUSH};
use crate::event_loop::exception::emit;
use crate::event_loop::json::{Json, Shown};
use crate::event_loop::observe::{Observer, Timer, Turn, Waited};
use crate::event_loop::timeline::format::{Depth, Moment, Names, Page, micros, name_event};
use crate::event_loop::timeline::sink::{Room, Sink};
use crate::event_loop::timeline::{TraceEnd, TraceSummary};
use crate::event_loop::{Core, program_name};
use crate::os::fork::Home;
use crate::sched::counters::saturating_nanos;
use crate::sched::ran::Ran;
use crate::sched::ready::thread_token;
use crate::sched::stamp::Stamp;

/// How long what posts something is shown to take: it has to have a length, so that an arrow can begin at it, and be over
/// before the next one.
const POST: Moment = 50;

/// An observer that writes down what it sees.
pub(super) struct Timeline {
    path: PathBuf,
    limit: usize,
    /// The beginning of the file's time.
    origin: Instant,
    /// In a child of `fork` the file is the parent's.
    home: Home,
    me: Weak<Timeline>,
    state: RefCell<State>,
    /// How it has ended, until somebody asks.
    outcome: RefCell<Option<io::Result<TraceSummary>>>,
}

enum State {
    Writing(Box<Recording>),
    Ended,
}

/// What is being written.
struct Recording {
    page: Page,
    sink: Sink,
    /// The counters as they were written last: ready items, live tasks.
    counters: [Option<u64>; 2],
    /// Arrows so far.
    arrows: u64,
    /// Threads that have a name in the file.
    threads: HashSet<u64>,
    flushed_at: Moment,
}

impl Timeline {
    pub(super) fn new(core: &Core, path: &Path, limit: usize, keeps_latest: bool) -> io::Result<Rc<Self>> {
        let mut sink = Sink::new(File::create(path)?, limit, keeps_latest)?;
        let (pid, tid) = (std::process::id(), thread_token());
        let program = program_name();
        let thread = format!("loop {}", LoopName(core));
        for event in [name_event(pid, Names::Process, &*program), name_event(pid, Names::Thread(tid), &*thread)] {
            // Names of any length.
            let _ = sink.push_lasting(&event);
        }
        let recording = Recording {
            page: Page::new(pid, tid),
            sink,
            counters: [None; 2],
            arrows: 0,
            threads: HashSet::from([tid]),
            flushed_at: 0,
        };
        Ok(Rc::new_cyclic(|me| Self {
            path: path.to_owned(),
            limit,
            origin: core.now(),
            home: Home::here(),
            me: me.clone(),
            state: RefCell::new(State::Writing(Box::new(recording))),
            outcome: RefCell::new(None),
        }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_writing(&self) -> bool {
        self.home.is_here() && matches!(&*self.state.borrow(), State::Writing(_))
    }

    /// How it has ended, for the first who asks.
    pub(super) fn take_outcome(&self) -> Option<io::Result<TraceSummary>> {
        self.outcome.borrow_mut().take()
    }

    fn moment(&self, at: Instant) -> Moment {
        saturating_nanos(at.saturating_duration_since(self.origin))
    }

    /// Writes something, in which `write` calls no code of the application's.
    fn record(&self, write: impl FnOnce(&mut Recording)) {
        if !self.home.is_here() {
            return;
        }
        // It may have ended just now, while this was being shown.
        if let State::Writing(recording) = &mut *self.state.borrow_mut() {
            write(recording);
        }
    }

    /// Hands on what is complete.
    fn commit(&self, core: &Core, now: Moment) {
        let mut room = Room::Enough;
        let mut failed = false;
        self.record(|recording| {
            room = recording.turn_over();
            let late = now.saturating_sub(recording.flushed_at) >= saturating_nanos(TRACE_FLUSH);
            if recording.sink.is_full() || late {
                recording.flushed_at = now;
                failed = !recording.sink.flush();
            }
        });
        if failed {
            self.end(core, TraceEnd::Finished);
            self.tell_error();
        } else if room == Room::None {
            self.end(core, TraceEnd::LimitReached);
            if !self.tell_error() {
                let (path, limit) = (self.path.display(), self.limit);
                emit(
                    tracing::Level::WARN,
                    &format!("the timeline {path} ends: it has reached its limit of {limit} bytes"),
                );
            }
        }
    }

    /// Writes an error to the log, and leaves it for who asks.
    pub(super) fn tell_error(&self) -> bool {
        let text = match &*self.outcome.borrow() {
            Some(Err(error)) => format!("the timeline {} ends early: {error}", self.path.display()),
            _ => return false,
        };
        emit(tracing::Level::WARN, &text);
        true
    }

    /// Completes the file, and waits for that. A second call does nothing.
    pub(super) fn end(&self, core: &Core, how: TraceEnd) {
        let State::Writing(recording) = self.state.replace(State::Ended) else { return };
        if let Some(me) = self.me.upgrade() {
            let me: Rc<dyn Observer> = me;
            core.unobserve(&me);
        }
        core.local.shared_ref().stamp(false);
        let outcome = if self.home.is_here() {
            let now = self.moment(core.now());
            recording.end(now, how)
        } else {
            let text = "the timeline is that of a process that has forked this one";
            Err(io::Error::new(io::ErrorKind::Unsupported, text))
        };
        *self.outcome.borrow_mut() = Some(outcome);
    }
}

impl Recording {
    fn turn_over(&mut self) -> Room {
        let (mut room, sink) = (Room::Enough, &mut self.sink);
        self.page.turn_over(|event| {
            if room == Room::Enough {
                room = sink.push(event);
            }
        });
        room
    }

    /// Writes a number, if it is another one than before.
    fn count(&mut self, place: usize, name: &str, at: Moment, value: u64) {
        if self.counters[place].replace(value) != Some(value) {
            self.page.counter(name, at, value);
        }
    }

    fn end(mut self: Box<Self>, now: Moment, mut how: TraceEnd) -> io::Result<TraceSummary> {
        if self.turn_over() == Room::None {
            how = TraceEnd::LimitReached;
        }
        let Self { mut page, sink, .. } = *self;
        let written = sink.end(|dropped| {
            let reason = match how {
                TraceEnd::Finished => "finished",
                TraceEnd::LimitReached => "the limit of bytes was reached",
                TraceEnd::LoopClosed => "the loop was closed",
            };
            page.instant("trace", "the timeline ends", now, |json| {
                json.field("reason", reason);
                json.field("earlier_events_dropped", dropped);
            });
            let mut text = String::new();
            page.turn_over(|event| event.clone_into(&mut text));
            text
        })?;
        Ok(TraceSummary { events: written.events, bytes: written.bytes, dropped: written.dropped, end: how })
    }

    /// Gives a thread's track a name, once.
    fn name_thread(&mut self, stamp: &Stamp) {
        if !self.threads.insert(stamp.thread) {
            return;
        }
        let event = name_event(std::process::id(), Names::Thread(stamp.thread), Shown(stamp));
        // Without room the next event ends it all, or the thread has a number only.
        let _ = self.sink.push_name(&event);
    }
}

impl Observer for Timeline {
    fn item(&self, core: &Core, ran: &Ran, began: Instant, ended: Instant) {
        self.ran(core, Depth::Item, ran, began, ended);
    }

    fn nested(&self, core: &Core, ran: &Ran, began: Instant, ended: Instant) {
        self.ran(core, Depth::Nested, ran, began, ended);
    }

    fn posted(&self, core: &Core, stamp: &Stamp, ran: &Ran, began: Instant) {
        // The clock of other threads is the operating system's.
        let at = (!core.has_own_clock()).then(|| self.moment(stamp.at));
        let name = if matches!(ran, Ran::Task(_)) { "wake" } else { "post" };
        let began = self.moment(began);
        self.record(|recording| {
            let Some(at) = at else { return };
            recording.name_thread(stamp);
            recording.arrows += 1;
            recording.page.complete_on(stamp.thread, Depth::Item, "post", name, (at, POST), |_| ());
            recording.page.arrow(name, recording.arrows, (stamp.thread, at), began);
        });
    }

    fn waited(&self, core: &Core, wait: &Waited) {
        let (asked_at, until) = (self.moment(wait.asked_at), self.moment(wait.until));
        let name = if wait.timeout == Some(Duration::ZERO) { "poll" } else { "wait" };
        self.record(|recording| {
            recording.page.complete(Depth::Item, "io", name, (asked_at, until - asked_at), |json| {
                json.field("timeout_us", wait.timeout.map(|timeout| micros(saturating_nanos(timeout))));
                json.field("events", wait.events);
            });
        });
        self.commit(core, until);
    }

    fn timer(&self, core: &Core, timer: &Timer) {
        let late = timer.late();
        if late < LATE_TIMER {
            return;
        }
        let what = timer.what.as_ref().map(|what| Described::new(core, what));
        let found_at = self.moment(timer.found_at);
        self.record(|recording| {
            let millis = late.as_secs_f64() * 1e3;
            let name = Shown(format!("late by {millis:.1} ms"));
            recording.page.instant("late", name, found_at, |json| {
                json.field("late_us", micros(saturating_nanos(late)));
                if let Some(what) = &what {
                    json.field("timer", &*what.name);
                    what.place(json);
                }
            });
        });
    }

    fn turn(&self, core: &Core, turn: &Turn) {
        let (began, ended) = (self.moment(turn.began), self.moment(turn.ended));
        let (ready, tasks) = (core.local.ready.len() as u64, core.local.counters.tasks.live());
        self.record(|recording| {
            if turn.items > 0 {
                recording.page.complete(Depth::Turn, "turn", "turn", (began, ended - began), |json| {
                    json.field("number", turn.number);
                    json.field("items", turn.items);
                    json.field("posts", turn.posts);
                    json.field("timers", turn.timers);
                    json.field("latest_us", micros(saturating_nanos(turn.latest)));
                });
                recording.count(0, "ready", began, turn.items as u64);
            }
            recording.count(0, "ready", ended, ready);
            recording.count(1, "tasks", ended, tasks);
        });
        self.commit(core, ended);
    }

    fn reported(&self, core: &Core, message: &str) {
        let now = self.moment(core.now());
        self.record(|recording| {
            recording.page.instant("report", message, now, |_| ());
        });
    }
}

impl Timeline {
    fn ran(&self, core: &Core, depth: Depth, ran: &Ran, began: Instant, ended: Instant) {
        let what = Described::new(core, ran);
        let late = match ran {
            Ran::Callback(info) => info.when.map(|when| began.saturating_duration_since(when)),
            _ => None,
        };
        let is_slow = ended.saturating_duration_since(began) >= core.slow_duration();
        let (began, ended) = (self.moment(began), self.moment(ended));
        self.record(|recording| {
            recording.page.complete(depth, ran.kind(), &*what.name, (began, ended - began), |json| {
                what.place(json);
                if let Ran::Task(step) = ran {
                    json.field("id", step.task.id.as_u64());
                    let active = core.local.active.borrow();
                    match active.get_live(step.task) {
                        Some(entry) => json.field("polls", entry.polls()),
                        None => json.field("done", true),
                    }
                }
                if is_slow {
                    json.field("slow", true);
                }
                if let Some(late) = late {
                    json.field("late_us", micros(saturating_nanos(late)));
                }
            });
        });
    }
}

/// What is said of something that ran, found out while nothing is borrowed.
struct Described {
    name: String,
    place: Option<String>,
}

impl Described {
    fn new(core: &Core, ran: &Ran) -> Self {
        let name = match ran {
            Ran::Task(step) if step.is_root => format!("{} (main future)", step.name()),
            Ran::Task(step) => step.name().to_string(),
            Ran::Callback(info) => info.name.to_owned(),
            Ran::Posted(post) => post.origin.map_or(post.method, |(name, _)| name).to_owned(),
            // A transport's, which may be the application's own.
            Ran::Event(event) => catch_unwind(AssertUnwindSafe(|| format!("{event:?}"))).unwrap_or_else(|payload| {
                core.local.dispose(payload);
                "something whose Debug text panics".to_owned()
            }),
        };
        Self { name, place: ran.created_at().map(|place| place.to_string()) }
    }

    fn place(&self, json: &mut Json) {
        if let Some(place) = &self.place {
            json.field("at", &**place);
        }
    }
}

/// A loop as its track is called.
struct LoopName<'a>(&'a Core);

impl fmt::Display for LoopName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = self.0;
        write!(f, "{}", core.local.loop_id())?;
        if let Some(name) = &core.name {
            write!(f, " {name:?}")?;
        }
        match std::thread::current().name() {
            Some(thread) => write!(f, " (thread {thread})"),
            None => Ok(()),
        }
    }
}

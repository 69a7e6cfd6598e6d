//! The Trace Event format: what a line of the file says.
//!
//! It is the JSON that Perfetto and chrome://tracing open: an array of events, each with a phase (`ph`), a time and a track,
//! which is a thread (`tid`) of a process (`pid`). Times are microseconds. Events need no order, but for those that begin
//! at the same moment: of them the one that encloses the others comes first. The array's end may be missing, so that the
//! file of a process that has died opens, too.

use std::cmp::Reverse;
use std::ops::Range;

use crate::event_loop::json::{Json, Value};

/// Nanoseconds since the trace began.
pub(super) type Moment = u64;

/// Events that are not written yet, because what encloses them is not over.
pub(super) struct Page {
    pid: u32,
    /// The track of the loop's thread.
    tid: u64,
    json: Json,
    marks: Vec<Mark>,
}

/// Where an event is in the text of the page.
struct Mark {
    begins: Moment,
    lasts: Moment,
    depth: Depth,
    text: Range<usize>,
}

/// What encloses what: of two events of the same time the earlier one here does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Depth {
    Turn,
    Item,
    Nested,
}

/// What metadata is about.
#[derive(Clone, Copy)]
pub(super) enum Names {
    Process,
    Thread(u64),
}

impl Page {
    pub(super) fn new(pid: u32, tid: u64) -> Self {
        Self { pid, tid, json: Json::new(), marks: Vec::new() }
    }

    /// Something that began and lasted, on the loop's track. `args` is what is known of it.
    pub(super) fn complete(
        &mut self,
        depth: Depth,
        category: &str,
        name: impl Value,
        time: (Moment, Moment),
        args: impl FnOnce(&mut Json),
    ) {
        self.complete_on(self.tid, depth, category, name, time, args);
    }

    /// The same on another thread's track.
    pub(super) fn complete_on(
        &mut self,
        tid: u64,
        depth: Depth,
        category: &str,
        name: impl Value,
        (begins, lasts): (Moment, Moment),
        args: impl FnOnce(&mut Json),
    ) {
        self.event("X", tid, depth, (begins, lasts), |json| {
            json.field("name", name);
            json.field("cat", category);
            json.field("dur", micros(lasts));
            json.key("args");
            json.object(args);
        });
    }

    /// A moment on the loop's track.
    pub(super) fn instant(&mut self, category: &str, name: impl Value, at: Moment, args: impl FnOnce(&mut Json)) {
        self.event("i", self.tid, Depth::Item, (at, 0), |json| {
            json.field("name", name);
            json.field("cat", category);
            json.field("s", "t");
            json.key("args");
            json.object(args);
        });
    }

    /// A number that changes with time.
    pub(super) fn counter(&mut self, name: &str, at: Moment, value: u64) {
        self.event("C", self.tid, Depth::Item, (at, 0), |json| {
            json.field("name", name);
            json.key("args");
            json.object(|json| json.field("value", value));
        });
    }

    /// An arrow from what encloses the one moment on a thread's track to what encloses the other on the loop's.
    pub(super) fn arrow(&mut self, name: &str, id: u64, from: (u64, Moment), to: Moment) {
        for (phase, tid, at) in [("s", from.0, from.1), ("f", self.tid, to)] {
            self.event(phase, tid, Depth::Item, (at, 0), |json| {
                json.field("name", name);
                json.field("cat", "post");
                json.field("id", id);
                if phase == "f" {
                    json.field("bp", "e");
                }
            });
        }
    }

    fn event(
        &mut self,
        phase: &str,
        tid: u64,
        depth: Depth,
        (begins, lasts): (Moment, Moment),
        rest: impl FnOnce(&mut Json),
    ) {
        let (pid, json) = (self.pid, &mut self.json);
        let start = json.as_str().len();
        json.object(|json| {
            json.field("ph", phase);
            json.field("pid", pid);
            json.field("tid", tid);
            json.field("ts", micros(begins));
            rest(json);
        });
        let text = start..json.as_str().len();
        self.marks.push(Mark { begins, lasts, depth, text });
    }

    /// Gives the events away, in order, and is empty then.
    pub(super) fn turn_over(&mut self, mut event: impl FnMut(&str)) {
        self.marks.sort_by_key(|mark| (mark.begins, Reverse(mark.lasts), mark.depth));
        for mark in self.marks.drain(..) {
            // Its comma belongs to the place that it had.
            event(self.json.as_str()[mark.text].trim_start_matches(','));
        }
        self.json.clear();
    }
}

/// An event that says what a process or a thread is called.
pub(super) fn name_event(pid: u32, names: Names, name: impl Value) -> String {
    let mut json = Json::new();
    json.object(|json| {
        json.field("ph", "M");
        json.field("pid", pid);
        match names {
            Names::Process => json.field("name", "process_name"),
            Names::Thread(tid) => {
                json.field("tid", tid);
                json.field("name", "thread_name");
            }
        }
        json.key("args");
        json.object(|json| json.field("name", name));
    });
    json.into_string()
}

/// Microseconds, with the nanoseconds behind the point.
#[allow(clippy::cast_precision_loss)]
pub(super) fn micros(nanos: u64) -> f64 {
    // Exact for a hundred days.
    nanos as f64 / 1000.0
}

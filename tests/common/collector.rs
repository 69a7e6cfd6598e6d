//! What is written to `tracing`, and what a process of its own writes to stderr.
//!
//! Used by `#[path]` in the files that need it.

#![allow(dead_code, unreachable_pub)]

use std::fmt;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Keeps what the crate writes of this level, or of worse ones.
#[derive(Clone)]
struct Collector(Arc<Mutex<Vec<(Level, String)>>>, Level);

struct Message<'a>(&'a mut String);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            *self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "roundelay" && *metadata.level() <= self.1
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut text = String::new();
        event.record(&mut Message(&mut text));
        self.0.lock().unwrap().push((*event.metadata().level(), text));
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Calls `f`, and gives what it wrote to `tracing` on this thread: warnings and errors, with their level.
pub fn collect<R>(f: impl FnOnce() -> R) -> (R, Vec<(Level, String)>) {
    collect_level(Level::WARN, f)
}

/// As [`collect`], of this level too.
pub fn collect_level<R>(level: Level, f: impl FnOnce() -> R) -> (R, Vec<(Level, String)>) {
    let collector = Collector(Arc::default(), level);
    let result = tracing::subscriber::with_default(collector.clone(), f);
    let written = std::mem::take(&mut *collector.0.lock().unwrap());
    (result, written)
}

/// A subscriber that fails.
pub struct BrokenSubscriber;

impl Subscriber for BrokenSubscriber {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "roundelay" && *metadata.level() <= Level::WARN
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {
        panic!("the subscriber is broken")
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

const CHILD: &str = "ROUNDELAY_TEST_CHILD";

/// Runs `body` in a process of its own: the test calls this function alone, and is run again by its name. In the parent
/// the result is what the child wrote to stderr; in the child there is none.
pub fn in_a_child(test: &str, body: impl FnOnce()) -> Option<String> {
    if std::env::var(CHILD).is_ok_and(|child| child == test) {
        body();
        return None;
    }
    let _alone = super::common::alone();
    let Output { status, stderr, .. } = child(test).output().unwrap();
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    assert!(status.success(), "{stderr}");
    Some(stderr)
}

/// The process in which a test runs its body.
pub fn child(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, test);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

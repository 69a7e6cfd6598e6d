//! What is written to `tracing`, and what a process of its own writes to stderr.
//!
//! Used by `#[path]` in the files that need it.

#![allow(dead_code, unreachable_pub)]

use std::fmt;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::NoSubscriber;
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

/// Gives what the crate writes to `tracing`, of this level or of worse ones, to a function.
pub struct Hears<F>(pub Level, pub F);

struct Message<'a>(&'a mut String);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            *self.0 = format!("{value:?}");
        }
    }
}

impl<F: Fn(Level, String) + 'static> Subscriber for Hears<F> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("roundelay") && *metadata.level() <= self.0
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut text = String::new();
        event.record(&mut Message(&mut text));
        (self.1)(*event.metadata().level(), text);
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
    // While there is but one subscriber, tracing asks that of the thread on which a place is first reached whether anybody
    // wants what is told there, and remembers the answer. Another test's thread has none.
    static OTHERS: OnceLock<[Dispatch; 2]> = OnceLock::new();
    OTHERS.get_or_init(|| [Dispatch::new(NoSubscriber::new()), Dispatch::new(NoSubscriber::new())]);
    let written = Arc::new(Mutex::new(Vec::new()));
    let writes = written.clone();
    let hears = Hears(level, move |level, text| writes.lock().unwrap().push((level, text)));
    let result = tracing::subscriber::with_default(hears, f);
    let written = std::mem::take(&mut *written.lock().unwrap());
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

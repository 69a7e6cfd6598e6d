//! What is known of a blocking job that is not done.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

/// What is known of a blocking job that an executor has not finished: the subject of a report about it.
#[derive(Clone)]
#[non_exhaustive]
pub struct JobInfo {
    /// The type name of the closure, which tells the function it was written in.
    pub name: &'static str,
    /// Where it was given to the executor.
    pub submitted_at: &'static Location<'static>,
    /// How long it has been running; `None` if it has not begun.
    pub running_for: Option<Duration>,
}

impl fmt::Debug for JobInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, submitted_at, running_for } = self;
        match running_for {
            Some(time) => write!(f, "<Job running for {time:.1?} {name} at {submitted_at}>"),
            None => write!(f, "<Job not begun {name} at {submitted_at}>"),
        }
    }
}

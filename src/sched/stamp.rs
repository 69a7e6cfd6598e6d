//! When and by which thread something was posted: recorded only while somebody looks at the loop who wants to know.

use std::fmt;
use std::panic::catch_unwind;
use std::time::Instant;

use crate::sched::ready::{Injected, thread_token};

/// Says where a post comes from.
#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    /// By the operating system's clock: another one cannot be read on other threads.
    pub(crate) at: Instant,
    /// The thread's token.
    pub(crate) thread: u64,
    name: Option<Box<str>>,
}

impl Stamp {
    /// Here and now.
    fn new() -> Self {
        // A waker may be woken at the very end of a thread, where it has no name any more, but panics.
        let name = catch_unwind(|| std::thread::current().name().map(Box::from)).unwrap_or_default();
        Self { at: Instant::now(), thread: thread_token(), name }
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "thread {name}"),
            None => write!(f, "thread {}", self.thread),
        }
    }
}

/// A post with its stamp.
pub(crate) struct Stamped {
    pub(crate) stamp: Stamp,
    pub(crate) item: Injected,
}

impl Injected {
    #[cold]
    pub(crate) fn stamped(self) -> Self {
        Self::Stamped(Box::new(Stamped { stamp: Stamp::new(), item: self }))
    }

    /// What was posted.
    pub(crate) fn unstamped(self) -> Self {
        match self {
            Self::Stamped(stamped) => stamped.item,
            other => other,
        }
    }

    /// What was posted, and its stamp if it has one.
    pub(crate) fn open(&self) -> (&Self, Option<&Stamp>) {
        match self {
            Self::Stamped(stamped) => (&stamped.item, Some(&stamped.stamp)),
            other => (other, None),
        }
    }
}

//! What an item of the ready queue is, for those who look at the loop at work.

use std::fmt;
use std::panic::Location;
use std::rc::Rc;

use crate::sched::Local;
use crate::sched::active::{Kind, TaskRef, default_name};
use crate::sched::handle::HandleInfo;

/// What ran, found out before it did: it may be gone afterwards. Cheap to make; its text is made when it is asked for.
#[derive(Clone)]
pub(crate) enum Ran {
    /// A task, or the root.
    Task(Step),
    /// A callback of this thread's; that of a timer has a deadline.
    Callback(HandleInfo),
    /// What another thread has posted.
    Posted(Post),
    /// A descriptor's event, or what a transport has to tell its protocol; the text is that of the transport.
    Event(Rc<dyn fmt::Debug>),
}

/// One poll of a task.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) task: TaskRef,
    /// `None` if it was given none.
    name: Option<Rc<str>>,
    pub(crate) spawned_at: &'static Location<'static>,
    /// Whether it is the future of a `run_*` method.
    pub(crate) is_root: bool,
}

/// What another thread has posted.
#[derive(Clone, Copy)]
pub(crate) struct Post {
    /// The method that has posted it.
    pub(crate) method: &'static str,
    /// The name of the closure's type, if it is one of the application's, and where it was posted.
    pub(crate) origin: Option<(&'static str, &'static Location<'static>)>,
}

impl Step {
    /// The task's name: `Task-<id>` if it was given none.
    pub(crate) fn name(&self) -> Rc<str> {
        self.name.clone().unwrap_or_else(|| default_name(self.task.id))
    }
}

impl Ran {
    /// Which kind it is, in one word.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Task(step) if step.is_root => "root",
            Self::Task(_) => "task",
            Self::Callback(info) if info.when.is_some() => "timer",
            Self::Callback(_) => "callback",
            Self::Posted(_) => "post",
            Self::Event(_) => "event",
        }
    }

    /// Where it was made by the application, if that is known.
    pub(crate) fn created_at(&self) -> Option<&'static Location<'static>> {
        match self {
            Self::Task(step) => Some(step.spawned_at),
            Self::Callback(info) => Some(info.created_at),
            Self::Posted(post) => post.origin.map(|(_, place)| place),
            Self::Event(_) => None,
        }
    }
}

impl fmt::Display for Ran {
    /// In pointed brackets, as the `Debug` text of what it is; with the place where it was made.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task(step) if step.is_root => write!(f, "<Root name={:?} run at {}>", step.name(), step.spawned_at),
            Self::Task(step) => write!(f, "<Task name={:?} spawned at {}>", step.name(), step.spawned_at),
            Self::Callback(info) => write!(f, "{info:?}"),
            Self::Posted(Post { method, origin: Some((name, place)) }) => write!(f, "<{method}() {name} at {place}>"),
            Self::Posted(Post { method, origin: None }) => write!(f, "<{method}()>"),
            Self::Event(event) => event.fmt(f),
        }
    }
}

impl Local {
    /// The next poll of a live task.
    pub(crate) fn step_of(&self, task: TaskRef) -> Option<Ran> {
        let active = self.active.borrow();
        let entry = active.get_live(task)?;
        Some(Ran::Task(Step {
            task,
            name: entry.own_name(),
            spawned_at: entry.spawned_at(),
            is_root: entry.kind() != Kind::Task,
        }))
    }
}

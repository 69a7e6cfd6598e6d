//! The live tasks of a loop: what each is called, where it was made, which context it runs in, how to wake it.
//!
//! It is also the list of what `close()` must end: a task stands here from its creation until its future is dropped.

use std::fmt;
use std::panic::Location;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use crate::sched::context::Slot;
use crate::sched::join::{Canceller, Outcome};

/// Marks the end of the list of free places.
const NONE: u32 = u32::MAX;

/// The number of a task: unique in the process, in order of creation, starting at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub(crate) u64);

impl TaskId {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The number itself.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a live task: where its entry is, and its id, which tells it from a later one in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskRef {
    pub(crate) place: u32,
    pub(crate) id: TaskId,
}

/// How a task was asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It was not.
    No,
    /// By a call to `cancel`.
    Cancelled,
    /// By the loop's end.
    Closed,
}

/// What an entry stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Task,
    /// The future of `run_until_complete`, which cannot be cancelled: there is nobody to tell.
    Root,
    /// The future of a runner, which can.
    Main,
}

/// A function to be called when a task is done.
pub(crate) struct DoneCallback {
    pub(crate) id: u64,
    /// The context it was registered in, and runs in.
    pub(crate) context: Slot,
    pub(crate) created_at: &'static Location<'static>,
    pub(crate) call: Box<dyn FnOnce(Outcome)>,
}

/// What the loop keeps of a live task.
pub(crate) struct Entry {
    pub(crate) id: TaskId,
    /// Schedules the task; `None` only while it is being made.
    pub(crate) waker: Option<Waker>,
    /// The context it runs in; empty while it runs, because then it is the current one.
    pub(crate) context: Slot,
    pub(crate) name: Option<Rc<str>>,
    pub(crate) spawned_at: &'static Location<'static>,
    /// How often it was polled.
    pub(crate) polls: u64,
    pub(crate) ending: Ending,
    /// Whether nobody can await it any more.
    pub(crate) detached: bool,
    pub(crate) kind: Kind,
    pub(crate) done_callbacks: Vec<DoneCallback>,
}

impl Entry {
    pub(crate) fn new(
        id: TaskId,
        context: Slot,
        name: Option<Rc<str>>,
        spawned_at: &'static Location<'static>,
    ) -> Self {
        Self {
            id,
            waker: None,
            context,
            name,
            spawned_at,
            polls: 0,
            ending: Ending::No,
            detached: false,
            kind: Kind::Task,
            done_callbacks: Vec::new(),
        }
    }

    pub(crate) fn name(&self) -> Rc<str> {
        self.name.clone().unwrap_or_else(|| default_name(self.id))
    }
}

/// The name of a task that was given none: `Task-<n>`.
pub(crate) fn default_name(id: TaskId) -> Rc<str> {
    format!("Task-{id}").into()
}

enum Place {
    Taken(Entry),
    Free { next: u32 },
}

/// All live tasks.
pub(crate) struct Active {
    places: Vec<Place>,
    /// First free place.
    free: u32,
    live: usize,
}

impl Active {
    pub(crate) fn new() -> Self {
        Self { places: Vec::new(), free: NONE, live: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.live
    }

    pub(crate) fn insert(&mut self, entry: Entry) -> TaskRef {
        let id = entry.id;
        self.live += 1;
        let place = self.free;
        if place == NONE {
            let place = u32::try_from(self.places.len()).expect("fewer than 2^32 tasks");
            self.places.push(Place::Taken(entry));
            return TaskRef { place, id };
        }
        match std::mem::replace(&mut self.places[place as usize], Place::Taken(entry)) {
            Place::Free { next } => self.free = next,
            Place::Taken(_) => unreachable!("the free list holds free places"),
        }
        TaskRef { place, id }
    }

    pub(crate) fn get(&self, task: TaskRef) -> Option<&Entry> {
        match self.places.get(task.place as usize) {
            Some(Place::Taken(entry)) if entry.id == task.id => Some(entry),
            _ => None,
        }
    }

    pub(crate) fn get_mut(&mut self, task: TaskRef) -> Option<&mut Entry> {
        match self.places.get_mut(task.place as usize) {
            Some(Place::Taken(entry)) if entry.id == task.id => Some(entry),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, task: TaskRef) -> Option<Entry> {
        self.get(task)?;
        let freed = std::mem::replace(&mut self.places[task.place as usize], Place::Free { next: self.free });
        self.free = task.place;
        self.live -= 1;
        match freed {
            Place::Taken(entry) => Some(entry),
            Place::Free { .. } => unreachable!("the place was looked at above"),
        }
    }

    /// All live tasks with their entries, in order of place.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (TaskRef, &Entry)> {
        self.places.iter().enumerate().filter_map(|(place, content)| match content {
            Place::Taken(entry) => Some((TaskRef { place: place as u32, id: entry.id }, entry)),
            Place::Free { .. } => None,
        })
    }

    /// Forgets the free places, for the end of the loop.
    pub(crate) fn shrink(&mut self) {
        if self.live == 0 {
            *self = Self::new();
        }
    }
}

/// What a live task is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskState {
    /// It is being polled just now.
    Running,
    /// It is in the queue for the first time, or waits for something.
    Pending,
    /// It was asked to end and will be dropped when its turn comes.
    Cancelling,
}

/// What is known of a live task. A snapshot, except for [`cancel`](Self::cancel), which acts on the task itself.
#[derive(Clone)]
#[non_exhaustive]
pub struct TaskInfo {
    /// The task's number.
    pub id: TaskId,
    /// Its name: the one given to it, or `Task-<id>`.
    pub name: Rc<str>,
    /// Where it was spawned.
    pub spawned_at: &'static Location<'static>,
    /// What it is doing.
    pub state: TaskState,
    /// How often it was polled.
    pub polls: u64,
    /// Whether it is the future given to `run_until_complete` or `block_on`, which cannot be cancelled, or to a
    /// [`Runner`](crate::Runner), which can.
    pub is_root: bool,
    pub(crate) canceller: Canceller,
}

impl TaskInfo {
    /// Cancels the task, as [`Task::cancel`](crate::Task::cancel) does: true if it was not done yet.
    pub fn cancel(&self) -> bool {
        self.canceller.cancel()
    }
}

/// What is kept of a task that has panicked, until somebody has looked at its end.
pub(crate) struct Panicked {
    pub(crate) info: TaskInfo,
    /// A copy of the context it ended in, for the report.
    pub(crate) context: Slot,
}

impl fmt::Debug for TaskInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskInfo")
            .field("id", &self.id.0)
            .field("name", &self.name)
            .field("spawned_at", &format_args!("{}", self.spawned_at))
            .field("state", &self.state)
            .field("polls", &self.polls)
            .finish_non_exhaustive()
    }
}

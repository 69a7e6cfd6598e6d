//! The tasks of a loop: what each is called, where it was made, which context it runs in, how to wake it.
//!
//! It is also the list of what `close()` must end: a task is live from its creation until its future is dropped. Its
//! entry stays until its handle is dropped, too, which finds there how the task ended.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::num::NonZeroU64;
use std::panic::Location;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{RawWakerVTable, Waker};

use tracing::Span;

use crate::sched::Local;
use crate::sched::branch::BranchKey;
use crate::sched::context::Slot;
use crate::sched::grace::Grace;
use crate::sched::info::{AwaitKind, TaskInfo};
use crate::sched::join::Outcome;
use crate::sched::unasked::Unasked;
use crate::sched::watch::Details;

/// Marks the end of the list of free places.
const NONE: u64 = u64::MAX;

/// Task numbers that a thread takes at a time.
const ID_BLOCK: u64 = 64;

thread_local! {
    /// The numbers this thread has taken and not given out: the next one, and the one behind the last.
    static IDS: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// The number of a task: unique in the process, and among the tasks of a thread in order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(NonZeroU64);

impl TaskId {
    #[inline]
    pub(crate) fn next() -> Self {
        let (next, end) = IDS.get();
        if next == end {
            return Self::of_new_block();
        }
        IDS.set((next + 1, end));
        Self::new(next)
    }

    #[cold]
    fn of_new_block() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let first = NEXT.fetch_add(ID_BLOCK, Ordering::Relaxed);
        IDS.set((first + 1, first + ID_BLOCK));
        Self::new(first)
    }

    fn new(number: u64) -> Self {
        Self(NonZeroU64::new(number).expect("numbers begin at one and never wrap"))
    }

    /// The number itself.
    pub fn as_u64(self) -> u64 {
        self.0.get()
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
    /// It was not, and each of its polls is looked at closely: see [`watch`](super::watch).
    Watched,
    /// By a call to `cancel`.
    Cancelled,
    /// By the loop's end.
    Closed,
}

impl Ending {
    /// Whether it was asked.
    #[inline]
    pub(crate) fn is_asked(self) -> bool {
        matches!(self, Self::Cancelled | Self::Closed)
    }
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
    /// The name of the application's closure.
    pub(crate) name: &'static str,
    pub(crate) call: Box<dyn FnOnce(Outcome)>,
}

/// What only some tasks have.
#[derive(Default)]
pub(crate) struct Extra {
    pub(crate) name: Option<Rc<str>>,
    pub(crate) done_callbacks: Vec<DoneCallback>,
    pub(crate) panicked: Option<Panicked>,
    /// `None` for a task that never looks whether it was asked to end.
    pub(crate) grace: Option<Grace>,
    /// `None` where no subscriber of `tracing` wants it, and while the task is polled.
    pub(crate) span: Option<Box<Span>>,
    /// An [`Unasked`] of the output's type, for a task that is detached.
    pub(crate) unasked: Option<Box<dyn Any>>,
    /// What is noted while the loop is inspected.
    pub(crate) details: Option<Box<Details>>,
}

impl Extra {
    fn is_empty(&self) -> bool {
        self.name.is_none()
            && self.done_callbacks.is_empty()
            && self.panicked.is_none()
            && self.grace.is_none()
            && self.span.is_none()
            && self.unasked.is_none()
            && self.details.is_none()
    }
}

/// Who has polled a task's handle last and was told to wait.
#[derive(Clone, Copy)]
pub(crate) struct Awaiter {
    /// The number of that task; zero for nobody, or for what is no task.
    pub(crate) id: u64,
    /// The lower half of the number of that task's poll, by which is known whether it has been polled since; or `IS_TOLD`.
    pub(crate) poll: u32,
}

impl Awaiter {
    pub(crate) const NOBODY: Self = Self { id: 0, poll: 0 };

    /// It was [`wait`](crate::wait), which need not ask again.
    pub(crate) const IS_TOLD: u32 = u32::MAX;
}

/// What the loop keeps of a task. It stays where it is for as long as the loop's local part is there, and is used again
/// for other tasks: the task's own memory and its handle hold no more than a pointer to it.
pub(crate) struct Entry {
    /// Zero while the place is free.
    id: Cell<u64>,
    /// The loop. Never changes, and is all that other threads may look at.
    pub(crate) local: *const Local,
    /// The context it runs in; empty while it runs, because then it is the current one.
    pub(crate) context: Cell<Slot>,
    spawned_at: Cell<&'static Location<'static>>,
    /// When: what the loop's clock showed when it was last looked at before; see `Counters::nanos`.
    spawned: Cell<u64>,
    pub(crate) awaiter: Cell<Awaiter>,
    /// By what it was awaited, if it was [`wait`](crate::wait) or the loop is inspected.
    pub(crate) awaited_in: Cell<AwaitKind>,
    /// What it belongs to: a group, a gather.
    pub(crate) branch: Cell<BranchKey>,
    /// How to schedule it, once it has been polled. It is no counted waker, see `task::wake`.
    pub(crate) wake: Cell<Option<WakeParts>>,
    /// How often it was polled; the next free place while this one is free.
    polls: Cell<u64>,
    extra: Cell<Option<Box<Extra>>>,
    place: u32,
    pub(crate) ending: Cell<Ending>,
    /// How it ended; `None` while its future is there.
    outcome: Cell<Option<Outcome>>,
    pub(crate) handle: Cell<Handle>,
    /// Whether `wake` is counted after all, because the handle is gone, and whether there is something to do after the
    /// next poll.
    pub(crate) kept: Cell<Kept>,
    kind: Cell<Kind>,
    /// Whether there is an `extra`.
    has_extra: Cell<bool>,
    /// Whether there is a span in it.
    has_span: Cell<bool>,
}

/// Who can ask for a task's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handle {
    /// The one who holds the handle.
    Held,
    /// He has got it.
    Answered,
    /// Nobody: the task is detached.
    Dropped,
}

/// Whether a task is kept by its entry.
///
/// Two bits in a byte, for both are set at once when a task is made, and each is looked at alone when it is polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept(u8);

impl Kept {
    pub(crate) const NO: Self = Self(0);
    const YES: u8 = 1;
    const UNSETTLED: u8 = 2;

    #[inline]
    pub(crate) fn is_kept(self) -> bool {
        self.0 & Self::YES != 0
    }

    pub(crate) fn kept(self) -> Self {
        Self(self.0 | Self::YES)
    }

    /// Whether there is something to do after the next poll.
    #[inline]
    pub(crate) fn is_unsettled(self) -> bool {
        self.0 & Self::UNSETTLED != 0
    }

    pub(crate) fn unsettled(self) -> Self {
        Self(self.0 | Self::UNSETTLED)
    }

    pub(crate) fn settled(self) -> Self {
        Self(self.0 & !Self::UNSETTLED)
    }
}

/// A waker taken to pieces.
#[derive(Clone, Copy)]
pub(crate) struct WakeParts {
    pub(crate) data: *const (),
    pub(crate) vtable: &'static RawWakerVTable,
}

impl WakeParts {
    pub(crate) fn of(waker: &Waker) -> Self {
        Self { data: waker.data(), vtable: waker.vtable() }
    }
}

impl Entry {
    fn free(local: *const Local, place: u32) -> Self {
        Self {
            id: Cell::new(0),
            local,
            context: Cell::new(Slot::EMPTY),
            spawned_at: Cell::new(Location::caller()),
            spawned: Cell::new(0),
            awaiter: Cell::new(Awaiter::NOBODY),
            awaited_in: Cell::new(AwaitKind::Handle),
            branch: Cell::new(BranchKey::NONE),
            wake: Cell::new(None),
            polls: Cell::new(NONE),
            extra: Cell::new(None),
            place,
            ending: Cell::new(Ending::No),
            outcome: Cell::new(None),
            handle: Cell::new(Handle::Dropped),
            kept: Cell::new(Kept::NO),
            kind: Cell::new(Kind::Task),
            has_extra: Cell::new(false),
            has_span: Cell::new(false),
        }
    }

    /// Gives a new entry what it has beyond the rest.
    #[inline(always)]
    pub(crate) fn begin(&self, context: Slot, name: Option<Rc<str>>, span: Option<Box<Span>>) {
        if !context.is_empty() {
            self.context.set(context);
        }
        if let Some(name) = name {
            self.set_name(name);
        }
        if let Some(span) = span {
            self.set_span(span);
        }
    }

    pub(crate) fn id(&self) -> TaskId {
        TaskId::new(self.id.get())
    }

    pub(crate) fn task(&self) -> TaskRef {
        TaskRef { place: self.place, id: self.id() }
    }

    /// How it ended, if it has.
    #[inline]
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.outcome.get()
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind.get()
    }

    pub(crate) fn spawned_at(&self) -> &'static Location<'static> {
        self.spawned_at.get()
    }

    pub(crate) fn spawned(&self) -> u64 {
        self.spawned.get()
    }

    pub(crate) fn polls(&self) -> u64 {
        self.polls.get()
    }

    /// Counts a poll, and gives its number.
    #[inline]
    pub(crate) fn count_poll(&self) -> u64 {
        let polls = self.polls.get() + 1;
        self.polls.set(polls);
        polls
    }

    pub(crate) fn name(&self) -> Rc<str> {
        self.own_name().unwrap_or_else(|| default_name(self.id()))
    }

    /// The name that it was given.
    pub(crate) fn own_name(&self) -> Option<Rc<str>> {
        if self.has_extra() { self.with_extra(|extra| extra.name.clone()) } else { None }
    }

    pub(crate) fn set_name(&self, name: Rc<str>) -> Option<Rc<str>> {
        self.with_extra(|extra| extra.name.replace(name))
    }

    pub(crate) fn set_panicked(&self, panicked: Panicked) {
        self.with_extra(|extra| extra.panicked = Some(panicked));
    }

    pub(crate) fn take_panicked(&self) -> Option<Panicked> {
        self.with_extra(|extra| extra.panicked.take())
    }

    /// Says what is to be done with an output that nobody asks for.
    pub(crate) fn set_unasked<T: 'static>(&self, unasked: Unasked<T>) {
        self.with_extra(|extra| extra.unasked = Some(Box::new(unasked)));
    }

    /// What was said, of an output of this type.
    pub(crate) fn unasked<T: 'static>(&self) -> Option<Unasked<T>> {
        self.with_extra(|extra| extra.unasked.as_ref()?.downcast_ref().copied())
    }

    pub(crate) fn add_done_callback(&self, callback: DoneCallback) {
        self.with_extra(|extra| extra.done_callbacks.push(callback));
    }

    pub(crate) fn take_done_callbacks(&self) -> Vec<DoneCallback> {
        self.with_extra(|extra| std::mem::take(&mut extra.done_callbacks))
    }

    pub(crate) fn remove_done_callback(&self, id: u64) -> Option<DoneCallback> {
        self.with_extra(|extra| {
            let place = extra.done_callbacks.iter().position(|callback| callback.id == id)?;
            Some(extra.done_callbacks.remove(place))
        })
    }

    /// Whether it has a name, callbacks, the record of a panic, looks whether it was asked to end, or reports errors.
    #[inline]
    pub(crate) fn has_extra(&self) -> bool {
        self.has_extra.get()
    }

    /// Whether it has a span, and is not just being polled in it.
    #[inline]
    pub(crate) fn has_span(&self) -> bool {
        self.has_span.get()
    }

    pub(crate) fn take_span(&self) -> Option<Box<Span>> {
        if self.has_span.replace(false) { self.with_extra(|extra| extra.span.take()) } else { None }
    }

    pub(crate) fn set_span(&self, span: Box<Span>) {
        self.has_span.set(true);
        self.with_extra(|extra| extra.span = Some(span));
    }

    /// `f` runs no code of the application's.
    #[cold]
    pub(crate) fn with_extra<R>(&self, f: impl FnOnce(&mut Extra) -> R) -> R {
        let mut boxed = self.extra.take();
        let mut none = Extra::default();
        let result = f(boxed.as_deref_mut().unwrap_or(&mut none));
        if !none.is_empty() {
            boxed = Some(Box::new(none));
        }
        self.has_extra.set(boxed.is_some());
        self.extra.set(boxed);
        result
    }
}

/// The name of a task that was given none: `Task-<n>`.
pub(crate) fn default_name(id: TaskId) -> Rc<str> {
    format!("Task-{id}").into()
}

/// Entries that are made at a time.
const CHUNK: usize = 32;

/// All tasks that are live or have a handle.
pub(crate) struct Active {
    /// What the entries point to.
    local: *const Local,
    /// `Rc`, because others point into them.
    chunks: Vec<Rc<[Entry]>>,
    /// First free place.
    free: Cell<u64>,
    /// What new tasks begin with: whether their polls are looked at closely.
    pub(crate) begin: Ending,
}

impl Active {
    pub(crate) fn new() -> Self {
        Self { local: std::ptr::null(), chunks: Vec::new(), free: Cell::new(NONE), begin: Ending::No }
    }

    /// Says whose tasks they are, before the first one.
    pub(crate) fn belong_to(&mut self, local: &Rc<Local>) {
        self.local = Rc::as_ptr(local);
    }

    /// A new entry, `spawned` at that time. What few have, or is not in registers, it is given by the caller.
    pub(crate) fn insert(
        &mut self,
        id: TaskId,
        kind: Kind,
        spawned_at: &'static Location<'static>,
        spawned: u64,
    ) -> &Entry {
        if self.free.get() == NONE {
            self.grow();
        }
        let place = self.free.get() as usize;
        let entry = &self.chunks[place / CHUNK][place % CHUNK];
        self.free.set(entry.polls.replace(0));
        entry.id.set(id.as_u64());
        entry.spawned_at.set(spawned_at);
        entry.spawned.set(spawned);
        entry.awaiter.set(Awaiter::NOBODY);
        entry.branch.set(BranchKey::NONE);
        entry.wake.set(None);
        entry.outcome.set(None);
        entry.kept.set(Kept::NO);
        entry.kind.set(kind);
        entry.ending.set(self.begin);
        entry.handle.set(if kind == Kind::Task { Handle::Held } else { Handle::Dropped });
        entry
    }

    #[cold]
    fn grow(&mut self) {
        let first = self.chunks.len() * CHUNK;
        let place = |place: usize| u32::try_from(place).expect("fewer than 2^32 tasks");
        let chunk: Rc<[Entry]> = (first..first + CHUNK).map(|number| Entry::free(self.local, place(number))).collect();
        for entry in chunk.iter().rev() {
            entry.polls.set(self.free.replace(entry.place.into()));
        }
        self.chunks.push(chunk);
    }

    #[inline]
    pub(crate) fn get(&self, task: TaskRef) -> Option<&Entry> {
        let place = task.place as usize;
        let entry = self.chunks.get(place / CHUNK)?.get(place % CHUNK)?;
        (entry.id.get() == task.id.as_u64()).then_some(entry)
    }

    /// As `get`, for a live task.
    pub(crate) fn get_live(&self, task: TaskRef) -> Option<&Entry> {
        self.get(task).filter(|entry| entry.outcome.get().is_none())
    }

    /// The future is dropped: the task is not live any more. Says who can ask for the output; if nobody, the entry is
    /// another's from now on.
    #[inline]
    pub(crate) fn end(&self, entry: &Entry, outcome: Outcome) -> (Handle, Option<Box<Extra>>) {
        entry.outcome.set(Some(outcome));
        let handle = entry.handle.get();
        (handle, if handle == Handle::Dropped { self.free(entry) } else { None })
    }

    /// Nobody looks at a task that is not live any more. Returns what is to be dropped, with nothing borrowed.
    #[inline]
    pub(crate) fn free(&self, entry: &Entry) -> Option<Box<Extra>> {
        entry.id.set(0);
        entry.polls.set(self.free.replace(entry.place.into()));
        if entry.has_extra.replace(false) { entry.extra.take() } else { None }
    }

    /// All live tasks with their entries, in order of place.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        let all = self.chunks.iter().flat_map(|chunk| chunk.iter());
        all.filter(|entry| entry.id.get() != 0 && entry.outcome.get().is_none())
    }

    /// Gives the memory back, for the end of the loop, unless somebody still has a handle.
    pub(crate) fn shrink(&mut self) {
        if self.chunks.iter().flat_map(|chunk| chunk.iter()).all(|entry| entry.id.get() == 0) {
            *self = Self { local: self.local, begin: self.begin, ..Self::new() };
        }
    }
}

/// What is kept of a task that has panicked, until somebody has looked at its end.
pub(crate) struct Panicked {
    pub(crate) info: TaskInfo,
    /// A copy of the context it ended in, for the report.
    pub(crate) context: Slot,
}

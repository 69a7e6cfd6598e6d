//! Tasks: the only file that calls `async_task`.
//!
//! async-task gives one allocation per task, a waker for any thread and a handle to await. Left alone it aborts the
//! process when a future's destructor panics, swallows the panic of a detached task, has no `cancel(&self)` and leaves
//! it to the schedule function on which thread a future is dropped. So each future is wrapped in [`Guarded`], which
//! catches panics in poll, in the future's drop and in the drop of an output that nobody awaits, and which ends a
//! cancelled future when the loop polls it for the last time.
//!
//! What is stored in the task itself is seen by every thread that holds a waker and is dropped on whichever thread
//! drops the last reference. Therefore the metadata is one atomic word: where the task's [`Entry`] is in the loop's
//! [`Active`](super::active::Active) list, which belongs to the loop's thread, or, once the future is dropped, how it
//! ended. No reference is counted for it: a live task cannot outlive its loop, for `close()` waits for all of them.
//!
//! Nor does the entry hold a counted waker. Whoever may have to schedule a task by its entry (a cancellation, a timer)
//! uses the parts of the waker that the task was last polled with. They are good for as long as the future is not
//! dropped, because the task's memory is: the [`Task`] keeps it, and where that was dropped, a count taken for it.

#![allow(unsafe_code)]

use std::future::Future;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::task::{Context, Poll, Waker};

use crate::error::{JoinError, PanicPayload};
use crate::sched::active::{Ending, Entry, Kind, NewEntry, Panicked, TaskId, TaskInfo, TaskRef, WakeParts};
use crate::sched::context::{self, Slot};
use crate::sched::join::{Outcome, Task};
use crate::sched::ready::{Injected, Item};
use crate::sched::report::Subject;
use crate::sched::{Local, Shared};

/// A task in the ready queue.
pub(crate) type Runnable = async_task::Runnable<Meta>;

/// async-task's side of a [`Task`].
pub(crate) type Joinable<T> = async_task::Task<Result<T, JoinError>, Meta>;

/// What is stored in the task's own memory: the address of its entry, or, as a small number, its end. Changed by the
/// loop's thread only; read by others while they hold a `Runnable`, during which it does not change.
pub(crate) struct Meta(AtomicPtr<Entry>);

/// The mark, beside the [`Outcome`], that the loop has kept a record of the task: its name, or its panic.
const RECORD: usize = 8;

impl Meta {
    fn new(entry: &Entry) -> Self {
        Self(AtomicPtr::new(ptr::from_ref(entry).cast_mut()))
    }

    /// How the task ended, if it has.
    #[inline]
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        let address = self.0.load(Ordering::Relaxed).addr();
        if address > RECORD | 7 { None } else { Outcome::from_u8((address & 7) as u8) }
    }

    /// Whether the task has ended and something is kept of it.
    #[inline]
    pub(crate) fn has_record(&self) -> bool {
        let address = self.0.load(Ordering::Relaxed).addr();
        address <= RECORD | 7 && address & RECORD != 0
    }

    /// Something is kept of the task, which has ended.
    pub(crate) fn note_record(&self) {
        if let Some(outcome) = self.outcome() {
            self.end(outcome, RECORD);
        }
    }

    fn end(&self, outcome: Outcome, record: usize) {
        self.0.store(ptr::without_provenance_mut(outcome as usize | record), Ordering::Relaxed);
    }

    /// The entry of a task whose future is not dropped.
    #[inline]
    fn entry(&self) -> *const Entry {
        self.0.load(Ordering::Relaxed)
    }

    /// Where the task is listed while it is live.
    pub(crate) fn task(&self) -> Option<TaskRef> {
        // SAFETY: called on the loop's thread (a `Task` is not `Send`); the entry of a live task is where it was made.
        self.outcome().is_none().then(|| unsafe { (*self.entry()).task() })
    }
}

/// What is known of a task before it exists.
pub(crate) struct NewTask {
    pub(crate) id: TaskId,
    pub(crate) name: Option<Rc<str>>,
    pub(crate) context: Slot,
    pub(crate) spawned_at: &'static Location<'static>,
}

pin_project_lite::pin_project! {
    /// A future that always has an output, as `spawn_fallible` takes it.
    struct Always<F> {
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Always<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().future.poll(cx).map(Some)
    }
}

/// Makes a task and puts it at the tail of the ready queue. The loop must be open.
pub(crate) fn spawn<F>(local: &Rc<Local>, new: NewTask, future: F) -> Task<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    spawn_fallible(local, new, Always { future })
}

/// As `spawn`, of a future that ends with `None` to say that the task is to count as cancelled.
pub(crate) fn spawn_fallible<F, T>(local: &Rc<Local>, new: NewTask, future: F) -> Task<T>
where
    F: Future<Output = Option<T>> + 'static,
    T: 'static,
{
    let NewTask { id, name, context, spawned_at } = new;
    let meta = {
        let mut active = local.active.borrow_mut();
        Meta::new(active.insert(NewEntry { id, context, name, spawned_at, kind: Kind::Task }))
    };
    local.counters.tasks.opened();
    // SAFETY: `spawn_unchecked` asks four things.
    // - A future that is not `Send` must be polled and dropped on the thread that made it. Both happen through the
    //   `Runnable` alone. `schedule` puts it into the queue of the loop the task belongs to, and only that loop, which
    //   cannot leave its thread, takes it out and runs it. It never drops a `Runnable` unrun: `close` runs what is left,
    //   which makes `Guarded` drop the future, and waits until no task is live before it closes the queue for other
    //   threads; only then could `schedule` fail, and then no future is left and async-task calls it no more.
    // - A future that is not `'static` must not outlive what it borrows. The user's future is `'static`; `Guarded`
    //   borrows the metadata, which async-task keeps in the same allocation and drops after the future.
    // - A schedule function that is not `Send + Sync` must stay on its thread. It captures nothing.
    // - A schedule function that is not `'static` must outlive the wakers. It is a function item.
    // The output, which need not be `Send` either, is taken or dropped by `Task`, which is `!Send`, or by `Guarded`.
    let (runnable, joinable) = unsafe {
        async_task::Builder::new()
            .metadata(meta)
            .spawn_unchecked(|meta| Guarded { meta, future: ManuallyDrop::new(future) }, schedule)
    };
    local.push(Item::Task(runnable));
    Task::new(local, joinable, id)
}

/// Puts a woken task where its loop will find it. Called by wakers, on any thread.
fn schedule(runnable: Runnable) {
    let entry = runnable.metadata().entry();
    // SAFETY: there is a `Runnable`, so the future is not dropped, and neither the entry nor the loop's shared part goes
    // before that: `close` waits for it. The field is never written once the entry exists, and others are not read here.
    let shared: *const Shared = unsafe { *(&raw const (*entry).shared) };
    // SAFETY: as said; `is_here` looks at what every thread may look at.
    if unsafe { (*shared).is_here() } {
        // SAFETY: this is the loop's thread, and it is not closed for good.
        let local = unsafe { (*shared).local.get_unchecked() };
        local.push(Item::Task(runnable));
        return;
    }
    // SAFETY: the pointer is that of an `Arc`, which is alive, see above. The count keeps it so: once pushed, the task may
    // be run and freed by the other thread, and the loop be closed, before the wake-up call is made.
    let shared = unsafe {
        Arc::increment_strong_count(shared);
        Arc::from_raw(shared)
    };
    if let Err(Injected::Task(refused)) = shared.inject(Injected::Task(runnable)) {
        // Cannot happen, see the proof in `spawn`. Were it wrong, leaking is what keeps memory safe.
        std::mem::forget(refused);
    }
}

/// A waker of a live task; `None` if it was never polled, and is in the queue.
pub(crate) fn waker(entry: &Entry) -> Option<Waker> {
    // SAFETY: the parts came from a waker of the task, whose memory lives as long as the entry is its own, see the head
    // of the file. What is made of them is not dropped, so that no count is given up that was not taken.
    entry.wake.get().map(|parts| unsafe { (*borrowed(&parts)).clone() })
}

/// Schedules a live task, if it waits.
#[inline]
pub(crate) fn wake(entry: &Entry) {
    if let Some(parts) = entry.wake.get() {
        // SAFETY: as in `waker`.
        unsafe { borrowed(&parts) }.wake_by_ref();
    }
}

/// A waker that gives up no count.
///
/// # Safety
///
/// The task must be live, or the root not gone.
unsafe fn borrowed(parts: &WakeParts) -> ManuallyDrop<Waker> {
    // SAFETY: the parts belong together, and the caller promises the rest.
    ManuallyDrop::new(unsafe { Waker::new(parts.data, parts.vtable) })
}

/// The handle of a task that is not done goes: from now on a count taken for the entry keeps the task.
pub(crate) fn detach<T>(local: Option<&Local>, joinable: Joinable<T>) {
    if let Some((local, task)) = local.zip(joinable.metadata().task()) {
        let active = local.active.borrow();
        if let Some(entry) = active.get(task) {
            entry.detached.set(true);
            keep(entry);
        }
    }
    joinable.detach();
}

/// Takes a count for the entry, unless the task is yet to be polled.
fn keep(entry: &Entry) {
    if !entry.kept.get() {
        if let Some(waker) = waker(entry) {
            entry.kept.set(true);
            std::mem::forget(waker);
        }
    }
}

/// Polls a task. Called by the loop only.
#[inline]
pub(crate) fn step(local: &Local, runnable: Runnable) {
    let outer = local.current.replace(runnable.metadata().task());
    // Does not unwind: `Guarded` catches everything.
    runnable.run();
    local.current.set(outer);
}

/// A future whose panics stay inside, and which runs in the task's context.
struct Guarded<'a, F> {
    meta: &'a Meta,
    /// Dropped when `meta` says how the task ended.
    future: ManuallyDrop<F>,
}

impl<F, T> Future for Guarded<'_, F>
where
    F: Future<Output = Option<T>>,
{
    type Output = Result<T, JoinError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: the future is pinned by being inside of the pinned `Guarded`: it is never moved out, and dropped in
        // place. `meta` is a reference and not pinned.
        let this = unsafe { self.get_unchecked_mut() };
        let (entry, local) = this.place();
        entry.count_poll();
        let outer = context::swap(entry.context.replace(Slot::EMPTY));
        let polled = this.poll_inside(entry, local, cx);
        let slot = context::swap(outer);
        if polled.is_pending() {
            if !slot.is_empty() {
                entry.context.set(slot);
            }
        } else if !slot.is_empty() {
            // It may hold values of the user's.
            local.dispose(slot);
        }
        polled
    }
}

impl<F> Guarded<'_, F> {
    /// The entry of the task, whose future is not dropped, and the loop.
    #[inline]
    fn place<'b>(&self) -> (&'b Entry, &'b Local) {
        // SAFETY: a future is polled and dropped on the loop's thread only, before the loop is closed for good, and its
        // entry is its own until `finish`. Neither reference is used for more than cells after that, and both, being
        // in memory of the loop's, outlive the poll.
        unsafe {
            let entry = &*self.meta.entry();
            (entry, (*entry.shared).local.get_unchecked())
        }
    }

    #[inline]
    fn poll_inside<T>(&mut self, entry: &Entry, local: &Local, cx: &mut Context<'_>) -> Poll<Result<T, JoinError>>
    where
        F: Future<Output = Option<T>>,
    {
        let ending = entry.ending.get();
        if ending != Ending::No {
            return Poll::Ready(Err(self.end_early(local, ending)));
        }
        // SAFETY: see `poll`.
        let future = unsafe { Pin::new_unchecked(&mut *self.future) };
        match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(Poll::Pending) => {
                if entry.wake.get().is_none() {
                    entry.wake.set(Some(WakeParts::of(cx.waker())));
                    if entry.ending.get() != Ending::No {
                        // It was told to end during its first poll, when nobody knew how to schedule it.
                        cx.waker().wake_by_ref();
                    }
                }
                if entry.detached.get() {
                    keep(entry);
                }
                Poll::Pending
            }
            Ok(Poll::Ready(output)) => {
                self.drop_future(local);
                // A task that cancelled itself and then came to its end without another await was still cancelled.
                let ending = entry.ending.get();
                if ending != Ending::No {
                    drop_output(local, output);
                    return Poll::Ready(Err(self.end_early_dropped(local, ending)));
                }
                let Some(output) = output else {
                    return Poll::Ready(Err(self.end_early_dropped(local, Ending::Cancelled)));
                };
                if self.finish(local, Outcome::Finished, 0) == Handle::Dropped {
                    drop_output(local, output);
                    return Poll::Ready(Err(JoinError::cancelled()));
                }
                Poll::Ready(Ok(output))
            }
            Err(payload) => {
                self.drop_future(local);
                Poll::Ready(Err(self.end_panicked(local, payload)))
            }
        }
    }

    /// Drops the future in place, once; a panic of its destructor is reported. `finish` comes next.
    #[inline]
    fn drop_future(&mut self, local: &Local) {
        if !std::mem::needs_drop::<F>() {
            return;
        }
        // SAFETY: `finish` follows in each case, after which the future is neither polled nor dropped.
        let dropped = catch_unwind(AssertUnwindSafe(|| unsafe { ManuallyDrop::drop(&mut self.future) }));
        if let Err(payload) = dropped {
            let info = self.meta.task().and_then(|task| local.task_info(task));
            let (subject, spawned_at) = subject(info);
            local.caught("Exception in the destructor of a task's future", payload, subject, spawned_at);
        }
    }

    #[cold]
    fn end_early(&mut self, local: &Local, ending: Ending) -> JoinError {
        self.drop_future(local);
        self.end_early_dropped(local, ending)
    }

    fn end_early_dropped(&mut self, local: &Local, ending: Ending) -> JoinError {
        if ending == Ending::Closed {
            self.finish(local, Outcome::Closed, 0);
            JoinError::closed()
        } else {
            self.finish(local, Outcome::Cancelled, 0);
            JoinError::cancelled()
        }
    }

    #[cold]
    fn end_panicked(&mut self, local: &Local, payload: PanicPayload) -> JoinError {
        let info = self.meta.task().and_then(|task| local.task_info(task));
        let Some(payload) = local.take_fatal(payload) else {
            self.finish(local, Outcome::Panicked, 0);
            return JoinError::fatal();
        };
        if self.finish(local, Outcome::Panicked, RECORD) == Handle::Dropped {
            let (subject, spawned_at) = subject(info);
            local.caught("Exception in a task that nobody awaits", payload, subject, spawned_at);
            return JoinError::cancelled();
        }
        if let Some(info) = info {
            let panicked = Panicked { context: context::fork_current(), info };
            local.panicked.borrow_mut().insert(panicked.info.id, panicked);
        }
        JoinError::panic(payload)
    }

    /// Takes the task off the list of live ones and calls what waits for its end.
    #[inline]
    fn finish(&mut self, local: &Local, outcome: Outcome, mut record: usize) -> Handle {
        let (entry, _) = self.place();
        let task = entry.task();
        let kept = entry.kept.get().then(|| entry.wake.get()).flatten();
        let Some(removed) = local.active.borrow_mut().remove(task) else {
            unreachable!("a future that is not dropped has its entry");
        };
        local.counters.tasks.closed();
        if let Some(parts) = kept {
            // SAFETY: gives up the count that `keep` took; this poll has another one.
            drop(unsafe { ManuallyDrop::into_inner(borrowed(&parts)) });
        }
        let handle = if removed.detached { Handle::Dropped } else { Handle::Held };
        if let Some(extra) = removed.extra {
            if let (Some(name), Handle::Held) = (extra.name, handle) {
                local.names.borrow_mut().insert(task.id, name);
                record = RECORD;
            }
            self.meta.end(outcome, record);
            for callback in extra.done_callbacks {
                local.schedule_done(callback, outcome);
            }
        } else {
            self.meta.end(outcome, record);
        }
        handle
    }
}

/// Whether anybody can take a task's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handle {
    Held,
    Dropped,
}

/// What a report says of the task it is about.
pub(crate) fn subject(info: Option<TaskInfo>) -> (Option<Rc<dyn Subject>>, Option<&'static Location<'static>>) {
    let spawned_at = info.as_ref().map(|info| info.spawned_at);
    (info.map(|info| Rc::new(info) as _), spawned_at)
}

impl<F> Drop for Guarded<'_, F> {
    #[inline]
    fn drop(&mut self) {
        if self.meta.outcome().is_none() {
            // A `Runnable` that was dropped without being run.
            let (entry, local) = self.place();
            let outer = context::swap(entry.context.replace(Slot::EMPTY));
            self.end_early(local, Ending::Cancelled);
            local.dispose(context::swap(outer));
        }
    }
}

/// Drops an output that nobody will take; a panic of its destructor is reported.
pub(crate) fn drop_output<T>(local: &Local, output: T) {
    drop_caught(local, output, "Exception in the destructor of a task's output");
}

/// Drops a value of the application's; a panic of its destructor is reported.
pub(crate) fn drop_caught<T>(local: &Local, value: T, message: &str) {
    if !std::mem::needs_drop::<T>() {
        return;
    }
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        local.caught(message, payload, None, None);
    }
}

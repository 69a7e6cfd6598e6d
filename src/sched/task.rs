//! Tasks: the only file that calls `async_task`.
//!
//! async-task gives one allocation per task, a waker for any thread and a handle to await. Left alone it aborts the
//! process when a future's destructor panics, swallows the panic of a detached task, has no `cancel(&self)` and leaves
//! it to the schedule function on which thread a future is dropped. So each future is wrapped in [`Guarded`], which
//! catches panics in poll, in the future's drop and in the drop of an output that nobody awaits, and which ends a
//! cancelled future when the loop polls it for the last time.
//!
//! What is stored in the task itself is seen by every thread that holds a waker and is dropped on whichever thread
//! drops the last reference. Therefore the metadata is atomics, plain numbers and an `Arc`; everything else about a
//! task stands in the loop's [`Active`](super::active::Active) list, which only the loop's thread can reach.

#![allow(unsafe_code)]

use std::future::Future;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use crate::error::{JoinError, PanicPayload};
use crate::sched::active::{Ending, Entry, Panicked, TaskId, TaskInfo, TaskRef};
use crate::sched::context::{self, Slot};
use crate::sched::join::{Outcome, Task};
use crate::sched::ready::{Injected, Item};
use crate::sched::report::Subject;
use crate::sched::{Local, Shared};

/// A task in the ready queue.
pub(crate) type Runnable = async_task::Runnable<Meta>;

/// async-task's side of a [`Task`].
pub(crate) type Joinable<T> = async_task::Task<Result<T, JoinError>, Meta>;

/// What is stored in the task's own memory.
pub(crate) struct Meta {
    /// The loop the task belongs to.
    shared: Arc<Shared>,
    pub(crate) task: TaskRef,
    /// [`Outcome`] as a number; zero until the future was dropped.
    outcome: AtomicU8,
}

impl Meta {
    /// How the task ended, if it has.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        Outcome::from_u8(self.outcome.load(Ordering::Relaxed))
    }

    /// The loop's own part, for a task that is still live.
    fn local(&self) -> Rc<Local> {
        self.shared.local().expect("a live task is touched on its loop's thread only, and before the loop's end")
    }

    pub(crate) fn loop_id(&self) -> u64 {
        self.shared.id()
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
    let task = local.active.borrow_mut().insert(Entry::new(id, context, name, spawned_at));
    local.counters.tasks.opened();
    let meta = Meta { shared: local.shared(), task, outcome: AtomicU8::new(0) };
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
            .spawn_unchecked(|meta| Guarded { meta, future: Some(ManuallyDrop::new(future)) }, schedule)
    };
    let waker = runnable.waker();
    if let Some(entry) = local.active.borrow_mut().get_mut(task) {
        entry.waker = Some(waker);
    }
    local.push(Item::Task(runnable));
    Task::new(local, joinable, task.id)
}

/// Puts a woken task where its loop will find it. Called by wakers, on any thread.
fn schedule(runnable: Runnable) {
    // The clone keeps the loop's shared part alive: once pushed, the task may be run and freed by the other thread.
    let shared = runnable.metadata().shared.clone();
    match shared.local() {
        Some(local) => local.push(Item::Task(runnable)),
        None => {
            if let Err(Injected::Task(refused)) = shared.inject(Injected::Task(runnable)) {
                // Cannot happen, see the proof in `spawn`. Were it wrong, leaking is what keeps memory safe.
                std::mem::forget(refused);
            }
        }
    }
}

/// Polls a task in its own context. Called by the loop only.
pub(crate) fn step(local: &Local, runnable: Runnable) {
    let task = runnable.metadata().task;
    let slot = match local.active.borrow_mut().get_mut(task) {
        Some(entry) => {
            entry.polls += 1;
            std::mem::replace(&mut entry.context, Slot::EMPTY)
        }
        None => Slot::EMPTY,
    };
    let outer_context = context::swap(slot);
    let outer_task = local.current.replace(Some(task));
    // Does not unwind: `Guarded` catches everything.
    runnable.run();
    local.current.set(outer_task);
    let mut slot = context::swap(outer_context);
    if let Some(entry) = local.active.borrow_mut().get_mut(task) {
        std::mem::swap(&mut entry.context, &mut slot);
    }
    // What is left in `slot` may hold values of the user's: they are dropped here, with nothing borrowed.
    local.dispose(slot);
}

/// A future whose panics stay inside.
struct Guarded<'a, F> {
    meta: &'a Meta,
    /// `None` once it was dropped.
    future: Option<ManuallyDrop<F>>,
}

impl<F, T> Future for Guarded<'_, F>
where
    F: Future<Output = Option<T>>,
{
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: the future is pinned by being inside of the pinned `Guarded`: it is never moved out, and `end` drops
        // it in place. `meta` is a reference and not pinned.
        let this = unsafe { self.get_unchecked_mut() };
        let local = this.meta.local();
        let ending = local.active.borrow().get(this.meta.task).map_or(Ending::No, |entry| entry.ending);
        if ending != Ending::No {
            return Poll::Ready(Err(this.end_early(&local, ending)));
        }
        let Some(future) = &mut this.future else {
            unreachable!("async-task does not poll a future again after it was ready");
        };
        // SAFETY: see above.
        let future = unsafe { Pin::new_unchecked(&mut **future) };
        match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => {
                this.drop_future(&local);
                // A task that cancelled itself and then came to its end without another await was still cancelled.
                let ending = local.active.borrow().get(this.meta.task).map_or(Ending::No, |entry| entry.ending);
                if ending != Ending::No {
                    drop_output(&local, output);
                    return Poll::Ready(Err(this.end_early(&local, ending)));
                }
                let Some(output) = output else {
                    return Poll::Ready(Err(this.end_early(&local, Ending::Cancelled)));
                };
                if this.finish(&local, Outcome::Finished) == Handle::Dropped {
                    drop_output(&local, output);
                    return Poll::Ready(Err(JoinError::cancelled()));
                }
                Poll::Ready(Ok(output))
            }
            Err(payload) => {
                this.drop_future(&local);
                Poll::Ready(Err(this.end_panicked(&local, payload)))
            }
        }
    }
}

impl<F> Guarded<'_, F> {
    /// Drops the future in place; a panic of its destructor is reported.
    fn drop_future(&mut self, local: &Local) {
        if let Some(future) = &mut self.future {
            // SAFETY: the future is dropped once: `self.future` becomes `None` right after, whatever happens, for the
            // panic is caught.
            let dropped = catch_unwind(AssertUnwindSafe(|| unsafe { ManuallyDrop::drop(future) }));
            self.future = None;
            if let Err(payload) = dropped {
                let (subject, spawned_at) = subject(local.task_info(self.meta.task));
                local.caught("Exception in the destructor of a task's future", payload, subject, spawned_at);
            }
        }
    }

    fn end_early(&mut self, local: &Local, ending: Ending) -> JoinError {
        self.drop_future(local);
        if ending == Ending::Closed {
            self.finish(local, Outcome::Closed);
            JoinError::closed()
        } else {
            self.finish(local, Outcome::Cancelled);
            JoinError::cancelled()
        }
    }

    fn end_panicked(&mut self, local: &Local, payload: PanicPayload) -> JoinError {
        let info = local.task_info(self.meta.task);
        let Some(payload) = local.take_fatal(payload) else {
            self.finish(local, Outcome::Panicked);
            return JoinError::fatal();
        };
        if self.finish(local, Outcome::Panicked) == Handle::Dropped {
            let (subject, spawned_at) = subject(info);
            local.caught("Exception in a task that nobody awaits", payload, subject, spawned_at);
            return JoinError::cancelled();
        }
        if let Some(info) = info {
            let panicked = Panicked { info, context: context::fork_current() };
            local.panicked.borrow_mut().insert(self.meta.task.id, panicked);
        }
        JoinError::panic(payload)
    }

    /// Takes the task off the list of live ones and calls what waits for its end.
    fn finish(&mut self, local: &Local, outcome: Outcome) -> Handle {
        self.meta.outcome.store(outcome as u8, Ordering::Relaxed);
        let Some(entry) = local.active.borrow_mut().remove(self.meta.task) else {
            return Handle::Held;
        };
        local.counters.tasks.closed();
        if !entry.detached {
            if let Some(name) = entry.name {
                local.names.borrow_mut().insert(entry.id, name);
            }
        }
        for callback in entry.done_callbacks {
            local.schedule_done(callback, outcome);
        }
        if entry.detached { Handle::Dropped } else { Handle::Held }
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
    fn drop(&mut self) {
        if self.future.is_some() {
            // A `Runnable` that was dropped without being run.
            let local = self.meta.local();
            self.end_early(&local, Ending::Cancelled);
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

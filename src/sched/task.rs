//! Tasks: the only file that calls `async_task`.
//!
//! async-task gives one allocation per task, a waker for any thread and a handle to await. Left alone it aborts the
//! process when a future's destructor panics, swallows the panic of a detached task, has no `cancel(&self)` and leaves
//! it to the schedule function on which thread a future is dropped. So each future is wrapped in [`Guarded`], which
//! catches panics in poll, in the future's drop and in the drop of an output that nobody awaits, and which ends a
//! cancelled future when the loop polls it for the last time.
//!
//! What is stored in the task itself is seen by every thread that holds a waker and is dropped on whichever thread
//! drops the last reference. Therefore the metadata is one word: where the task's [`Entry`] is in the loop's
//! [`Active`](super::active::Active) list, which belongs to the loop's thread. No reference is counted for it: a live
//! task cannot outlive its loop, for `close()` waits for all of them, and a handle, which can, keeps the loop's local
//! part, in which the entry is.
//!
//! Nor does the entry hold a counted waker. Whoever may have to schedule a task by its entry (a cancellation, a timer)
//! uses the parts of the waker that the task is polled with. They are good for as long as the future is not
//! dropped, because the task's memory is: the handle keeps it, and where that was dropped, a count taken for it.

#![allow(unsafe_code)]

use std::future::Future;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::ptr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;

use tracing::Span;

use crate::error::{JoinError, PanicPayload};
use crate::sched::active::{Ending, Entry, Handle, Kind, Panicked, TaskId, TaskRef, WakeParts};
use crate::sched::context::{self, Slot};
use crate::sched::info::{TaskInfo, TaskState};
use crate::sched::join::{Outcome, Task};
use crate::sched::ready::{Injected, Item, prefetch};
use crate::sched::report::Subject;
use crate::sched::unasked::Unasked;
use crate::sched::{Local, Shared, span};

/// A task in the ready queue.
pub(crate) type Runnable = async_task::Runnable<Meta>;

/// async-task's side of a [`Task`].
pub(crate) type Joinable<T> = async_task::Task<Result<T, JoinError>, Meta>;

/// What is stored in the task's own memory: the address of its entry, which never changes. Good while the task is live
/// or has its handle.
pub(crate) struct Meta(AtomicPtr<Entry>);

impl Meta {
    #[inline]
    fn entry(&self) -> *const Entry {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a task's handle is made of. It cannot leave the loop's thread, as the entry cannot.
pub(crate) struct Held<T> {
    /// Taken in the end only.
    joinable: ManuallyDrop<Joinable<T>>,
    /// A task belongs to its loop's thread.
    not_send: PhantomData<Rc<()>>,
}

impl<T> Held<T> {
    /// Counts a reference to the loop's local part, which the drop gives up.
    fn new(local: &Rc<Local>, joinable: Joinable<T>) -> Self {
        std::mem::forget(local.clone());
        Self { joinable: ManuallyDrop::new(joinable), not_send: PhantomData }
    }

    #[inline]
    pub(crate) fn entry(&self) -> &Entry {
        // SAFETY: the entry is not freed before the drop of this, and the count keeps its memory.
        unsafe { &*self.joinable.metadata().entry() }
    }

    #[inline]
    pub(crate) fn local(&self) -> &Local {
        // SAFETY: the count that this holds keeps it.
        unsafe { &*self.entry().local }
    }

    pub(crate) fn weak_local(&self) -> Weak<Local> {
        // SAFETY: the pointer is that of an `Rc`, as it was given to `belong_to`, and is kept by the count that this
        // holds; another one is made of it for a moment.
        unsafe {
            let local = ManuallyDrop::new(Rc::from_raw(self.entry().local));
            Rc::downgrade(&local)
        }
    }

    #[inline]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, JoinError>> {
        Pin::new(&mut *self.joinable).poll(cx)
    }

    /// Lets `look`, which is none of the application's code, see the output of a task that is done. It was not taken yet.
    /// `None` if it is not there.
    pub(crate) fn look<R>(&mut self, look: impl FnOnce(&Result<T, JoinError>) -> R) -> Option<R> {
        let Poll::Ready(result) = self.poll(&mut Context::from_waker(Waker::noop())) else { return None };
        let seen = look(&result);
        // async-task shows an output to nobody but gives it away: another one holds it from now on.
        let joinable = ManuallyDrop::new(done(self.entry(), result));
        let emptied = std::mem::replace(&mut self.joinable, joinable);
        ManuallyDrop::into_inner(emptied).detach();
        Some(seen)
    }

    /// The handle of a live task goes: from now on a count taken for the entry keeps the task.
    fn detach(&self) {
        let entry = self.entry();
        entry.handle.set(Handle::Dropped);
        keep(entry);
    }
}

impl<T> Drop for Held<T> {
    #[inline]
    fn drop(&mut self) {
        let entry = self.entry();
        let mut left = None;
        if entry.outcome().is_none() {
            self.detach();
        } else {
            left = self.local().active.borrow().free(entry);
        }
        // SAFETY: the pointer is that of an `Rc`, and this the count that `new` took.
        let local = unsafe { Rc::from_raw(entry.local) };
        // SAFETY: this is the drop, and nothing below looks at it.
        unsafe { ManuallyDrop::take(&mut self.joinable) }.detach();
        if left.is_some() {
            local.dispose(left);
        }
    }
}

/// What is known of a task before it exists.
pub(crate) struct NewTask {
    pub(crate) id: TaskId,
    pub(crate) name: Option<Rc<str>>,
    pub(crate) context: Slot,
    pub(crate) spawned_at: &'static Location<'static>,
    /// What the task is polled in, for `tracing`.
    pub(crate) span: Option<Box<Span>>,
}

pin_project_lite::pin_project! {
    /// A future that always has an output, as `spawn` takes it.
    pub(crate) struct Always<F> {
        #[pin]
        future: F,
    }
}

impl<F> Always<F> {
    pub(crate) fn new(future: F) -> Self {
        Self { future }
    }
}

impl<F: Future> Future for Always<F> {
    type Output = Result<F::Output, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().future.poll(cx).map(Ok)
    }
}

/// Makes a task, which is to be put into the ready queue or polled here and now. The loop must be open.
///
/// The future ends with an error where its owner has taken the output, or to say that the task is to count as cancelled.
#[inline(always)]
pub(crate) fn spawn<F, T>(local: &Rc<Local>, new: NewTask, future: F) -> (Runnable, Task<T>)
where
    F: Future<Output = Result<T, JoinError>> + 'static,
    T: 'static,
{
    let NewTask { id, name, context, spawned_at, span } = new;
    let meta = {
        let mut active = local.active.borrow_mut();
        let entry = active.insert(id, Kind::Task, spawned_at, local.looked_at.get());
        entry.begin(context, name, span);
        Meta(AtomicPtr::new(ptr::from_ref(entry).cast_mut()))
    };
    local.counters.tasks.opened();
    // SAFETY: `spawn_unchecked` asks four things.
    // - A future that is not `Send` must be polled and dropped on the thread that made it. Both happen through the
    //   `Runnable` alone. The first one is given to the caller, who is on the thread of `local`, and leaves it to the
    //   loop: to its queue, or to `step`, at once. After that `schedule` puts it into the queue of the loop the task
    //   belongs to, and only that loop, which cannot leave its thread, takes it out and runs it. It never drops a
    //   `Runnable` unrun: `close` runs what is left, which makes `Guarded` drop the future, and waits until no task is
    //   live before it closes the queue for other threads; only then could `schedule` fail, and then no future is left
    //   and async-task calls it no more.
    // - A future that is not `'static` must not outlive what it borrows. The user's future is `'static`; `Guarded`
    //   borrows the metadata, which async-task keeps in the same allocation and drops after the future.
    // - A schedule function that is not `Send + Sync` must stay on its thread. It captures nothing.
    // - A schedule function that is not `'static` must outlive the wakers. It is a function item.
    // The output, which need not be `Send` either, is taken or dropped by `Task`, which is `!Send`, or by `Guarded`.
    let (runnable, joinable) = unsafe {
        async_task::Builder::new()
            .metadata(meta)
            .spawn_unchecked(|meta| Guarded { meta, future: ManuallyDrop::new(future), dropped: false }, schedule)
    };
    (runnable, Task::new(Held::new(local, joinable)))
}

/// A task that is done from the beginning, with this error: that of a closed loop, or of a group that takes nobody.
pub(crate) fn ended<T>(local: &Rc<Local>, new: NewTask, error: JoinError) -> Task<T> {
    let NewTask { id, name, context, spawned_at, span } = new;
    span::close(span, local);
    let entry = {
        let mut active = local.active.borrow_mut();
        let entry = active.insert(id, Kind::Task, spawned_at, local.looked_at.get());
        entry.begin(context, name, None);
        let entry = ptr::from_ref(entry);
        // SAFETY: it was just made.
        active.end(unsafe { &*entry }, outcome_of(&error));
        entry
    };
    Task::new(Held::new(local, done(entry, Err(error))))
}

/// What a handle holds of a task that is done.
fn done<T>(entry: *const Entry, result: Result<T, JoinError>) -> Joinable<T> {
    let meta = Meta(AtomicPtr::new(entry.cast_mut()));
    // SAFETY: as in `spawn`; the future is run to its end here, so that it is never scheduled, and the output leaves by
    // the handle.
    let (runnable, joinable) = unsafe {
        async_task::Builder::new()
            .metadata(meta)
            .spawn_unchecked(|_| std::future::ready(result), std::mem::forget::<Runnable>)
    };
    runnable.run();
    joinable
}

/// Puts a woken task where its loop will find it. Called by wakers, on any thread.
fn schedule(runnable: Runnable) {
    // SAFETY: there is a `Runnable`, so the future is not dropped, and neither the entry nor the loop goes before that:
    // `close` waits for it. Both fields are set before there is a task and never written after, and nothing else of
    // the entry or of the local part is looked at before the thread is known to be the loop's own.
    let (local, shared) = unsafe {
        let local = (*runnable.metadata().entry()).local;
        (local, &(*local).shared)
    };
    if shared.local.is_own_thread() {
        // SAFETY: this is the loop's thread, and as said it is not closed for good.
        unsafe { (*local).push_with(|| Item::Task(runnable)) };
        return;
    }
    // The clone keeps the loop's shared part alive: once pushed, the task may be run and freed by the other thread, and
    // the loop be closed, before the wake-up call is made.
    let shared: Arc<Shared> = shared.clone();
    if let Err(Injected::Task(refused)) = shared.inject(Injected::Task(runnable)) {
        // Happens in a child of `fork` alone, which does not have the loop's thread: see the proof in `spawn`. Leaking is what
        // keeps memory safe.
        std::mem::forget(refused);
    }
}

/// A waker of a live task; `None` if it was never polled, and is in the queue.
pub(crate) fn waker(entry: &Entry) -> Option<Waker> {
    // SAFETY: the parts came from a waker of the task, whose memory lives as long as the entry is its own, see the head
    // of the file. What is made of them is not dropped, so that no count is given up that was not taken.
    entry.wake.get().map(|parts| unsafe { (*borrowed(&parts)).clone() })
}

/// Schedules a live task, if it waits. In two steps: `find` begins to fetch the task's memory, so that those of several
/// tasks are fetched at once, and `Waiting::wake` uses it.
pub(crate) struct Waiting(WakeParts);

impl Waiting {
    #[inline]
    pub(crate) fn find(entry: &Entry) -> Option<Self> {
        let parts = entry.wake.get()?;
        prefetch(parts.data);
        Some(Self(parts))
    }

    /// The task must still be live: no code of the application's may have run since `find`.
    #[inline]
    pub(crate) fn wake(self) {
        // SAFETY: as in `waker`; this module's users keep the promise above.
        unsafe { borrowed(&self.0) }.wake_by_ref();
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

/// Takes a count for the entry. If the task is yet to be polled, it is taken after that.
fn keep(entry: &Entry) {
    let kept = entry.kept.get();
    if kept.is_kept() {
        return;
    }
    match waker(entry) {
        Some(waker) => {
            entry.kept.set(kept.kept());
            std::mem::forget(waker);
        }
        None => entry.kept.set(kept.unsettled()),
    }
}

/// Polls a future with a waker that is watched. By its address, so that its code need not be there twice.
fn poll_watched<R>(entry: &Entry, local: &Local, future: Pin<&mut dyn Future<Output = R>>) -> thread::Result<Poll<R>> {
    let parts = entry.wake.get().expect("a task that is polled has a waker");
    // SAFETY: the task is live: it is being polled.
    let usual = unsafe { borrowed(&parts) };
    let parts = entry.begin_watched(local, &usual);
    // SAFETY: the entry holds a waker of these parts until the poll is over, and this one is not dropped.
    let waker = unsafe { borrowed(&parts) };
    catch_unwind(AssertUnwindSafe(|| future.poll(&mut Context::from_waker(&waker))))
}

/// Does what is left to be done after a poll that has not ended the task.
#[cold]
fn settle(entry: &Entry) {
    entry.kept.set(entry.kept.get().settled());
    if entry.handle.get() == Handle::Dropped {
        keep(entry);
    }
    entry.end_watched();
}

/// The entry of a task that is about to be polled. On the loop's thread only.
#[inline(always)]
fn entry_of(runnable: &Runnable) -> &Entry {
    // SAFETY: there is a `Runnable`, so the task is live.
    unsafe { &*runnable.metadata().entry() }
}

/// Which task it is. On the loop's thread only.
#[inline(always)]
pub(crate) fn task_of(runnable: &Runnable) -> TaskRef {
    entry_of(runnable).task()
}

/// Polls a task. Called by the loop only.
#[inline]
pub(crate) fn step(local: &Local, runnable: Runnable) {
    let entry = entry_of(&runnable);
    let (task, has_span) = (entry.task(), entry.has_span());
    let outer = local.current.replace(Some(task));
    // Does not unwind: `Guarded` catches everything.
    if has_span {
        span::around(task, local, || _ = runnable.run());
    } else {
        runnable.run();
    }
    local.current.set(outer);
    let left = local.left.replace(Slot::EMPTY);
    if !left.is_empty() {
        // It may hold values of the application's.
        local.dispose(left);
    }
}

/// Polls a new task inside of whatever runs just now, which may be another task.
#[cold]
pub(crate) fn step_inside(local: &Local, runnable: Runnable) {
    local.interrupted.borrow_mut().push(local.current.get());
    // What has just ended may be waking whoever spawns.
    let left = local.left.replace(Slot::EMPTY);
    let poll = local.poll.get();
    step(local, runnable);
    local.poll.set(poll);
    local.left.set(left);
    local.interrupted.borrow_mut().pop();
}

/// A future whose panics stay inside, and which runs in the task's context.
struct Guarded<'a, F> {
    meta: &'a Meta,
    future: ManuallyDrop<F>,
    /// Whether it was dropped. From then on the entry may be another's.
    dropped: bool,
}

impl<F, T> Future for Guarded<'_, F>
where
    F: Future<Output = Result<T, JoinError>>,
    T: 'static,
{
    type Output = Result<T, JoinError>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: the future is pinned by being inside of the pinned `Guarded`: it is never moved out, and dropped in
        // place. `meta` is a reference and not pinned.
        let this = unsafe { self.get_unchecked_mut() };
        let (entry, local) = this.place();
        local.poll.set(entry.count_poll());
        local.counters.polls.add(1);
        let outer = context::swap(entry.context.replace(Slot::EMPTY));
        let polled = this.poll_inside(entry, local, cx);
        let slot = context::swap(outer);
        if polled.is_pending() {
            if !slot.is_empty() {
                entry.context.set(slot);
            }
        } else if !slot.is_empty() {
            // Not dropped here: the entry says that the task is done, but its output is yet to be stored, and one of the
            // values may hold the handle.
            local.left.set(slot);
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
            (entry, &*entry.local)
        }
    }

    #[inline(always)]
    fn poll_inside<T: 'static>(
        &mut self,
        entry: &Entry,
        local: &Local,
        cx: &mut Context<'_>,
    ) -> Poll<Result<T, JoinError>>
    where
        F: Future<Output = Result<T, JoinError>>,
    {
        if entry.wake.get().is_none() {
            entry.wake.set(Some(WakeParts::of(cx.waker())));
        }
        match entry.ending.get() {
            Ending::No => {}
            Ending::Watched => return self.poll_inside_watched(entry, local),
            ending => return Poll::Ready(Err(self.end_early(entry, local, ending))),
        }
        // SAFETY: see `poll`.
        let future = unsafe { Pin::new_unchecked(&mut *self.future) };
        let polled = catch_unwind(AssertUnwindSafe(|| future.poll(cx)));
        self.take_in(entry, local, polled)
    }

    /// The same by a waker that is watched. Apart, and not given the usual one: so the compiler knows elsewhere which waker
    /// that is, and what is polled with it.
    #[cold]
    #[inline(never)]
    fn poll_inside_watched<T: 'static>(&mut self, entry: &Entry, local: &Local) -> Poll<Result<T, JoinError>>
    where
        F: Future<Output = Result<T, JoinError>>,
    {
        // SAFETY: see `poll`.
        let future = unsafe { Pin::new_unchecked(&mut *self.future) };
        let polled = poll_watched(entry, local, future);
        self.take_in(entry, local, polled)
    }

    /// Does what a poll has brought about.
    #[inline(always)]
    fn take_in<T: 'static>(
        &mut self,
        entry: &Entry,
        local: &Local,
        polled: thread::Result<Poll<Result<T, JoinError>>>,
    ) -> Poll<Result<T, JoinError>> {
        match polled {
            Ok(Poll::Pending) => {
                if entry.kept.get().is_unsettled() {
                    settle(entry);
                }
                Poll::Pending
            }
            Ok(Poll::Ready(output)) => {
                self.drop_future(entry, local);
                // A task that cancelled itself and then came to its end without another await was still cancelled.
                let ending = entry.ending.get();
                if ending != Ending::No && ending.is_asked() {
                    drop_output(local, output);
                    return Poll::Ready(Err(self.end_early_dropped(entry, local, ending)));
                }
                let output = match output {
                    Ok(output) => output,
                    Err(error) => return Poll::Ready(Err(self.end_owned(entry, local, error))),
                };
                let unasked = if entry.has_extra() { unasked(entry, local) } else { None };
                if self.finish(entry, local, Outcome::Finished) == Handle::Dropped {
                    match unasked {
                        None => drop_output(local, output),
                        Some((unasked, info)) => unasked(local, info, output),
                    }
                    return Poll::Ready(Err(JoinError::cancelled()));
                }
                Poll::Ready(Ok(output))
            }
            Err(payload) => {
                self.drop_future(entry, local);
                Poll::Ready(Err(self.end_panicked(entry, local, payload)))
            }
        }
    }

    /// Drops the future in place, once; a panic of its destructor is reported.
    #[inline]
    fn drop_future(&mut self, entry: &Entry, local: &Local) {
        self.dropped = true;
        if !std::mem::needs_drop::<F>() {
            return;
        }
        // SAFETY: called once, at the end, after which the future is neither polled nor dropped: see `dropped`.
        let dropped = catch_unwind(AssertUnwindSafe(|| unsafe { ManuallyDrop::drop(&mut self.future) }));
        if let Err(payload) = dropped {
            let (subject, spawned_at) = subject(local.task_info(entry.task()));
            local.caught("Exception in the destructor of a task's future", payload, subject, spawned_at);
        }
    }

    #[cold]
    fn end_early(&mut self, entry: &Entry, local: &Local, ending: Ending) -> JoinError {
        entry.stop_watching();
        self.drop_future(entry, local);
        self.end_early_dropped(entry, local, ending)
    }

    fn end_early_dropped(&mut self, entry: &Entry, local: &Local, ending: Ending) -> JoinError {
        if ending == Ending::Closed {
            self.finish(entry, local, Outcome::Closed);
            JoinError::closed()
        } else {
            self.finish(entry, local, Outcome::Cancelled);
            JoinError::cancelled()
        }
    }

    /// Its owner has taken the output, or counts it as cancelled.
    #[cold]
    fn end_owned(&mut self, entry: &Entry, local: &Local, error: JoinError) -> JoinError {
        self.finish(entry, local, outcome_of(&error));
        error
    }

    #[cold]
    fn end_panicked(&mut self, entry: &Entry, local: &Local, payload: PanicPayload) -> JoinError {
        let info = ended_info(entry, local);
        let Some(payload) = local.take_fatal(payload) else {
            self.finish(entry, local, Outcome::Panicked);
            return JoinError::fatal();
        };
        if self.finish(entry, local, Outcome::Panicked) == Handle::Dropped {
            let (subject, spawned_at) = subject(info);
            local.caught("Exception in a task that nobody awaits", payload, subject, spawned_at);
            return JoinError::cancelled();
        }
        if let Some(info) = info {
            entry.set_panicked(Panicked { info, context: context::fork_current() });
        }
        JoinError::panic(payload)
    }

    /// Takes the task off the list of live ones and calls what waits for its end. Says whether anybody can take the
    /// output; if not, the entry is another's from now on.
    #[inline(always)]
    fn finish(&mut self, entry: &Entry, local: &Local, outcome: Outcome) -> Handle {
        local.counters.tasks.closed();
        if entry.has_extra() || entry.kept.get().is_kept() {
            return Self::finish_rare(entry, local, outcome);
        }
        local.active.borrow().end(entry, outcome).0
    }

    #[cold]
    fn finish_rare(entry: &Entry, local: &Local, outcome: Outcome) -> Handle {
        if let (true, Some(parts)) = (entry.kept.get().is_kept(), entry.wake.get()) {
            // SAFETY: gives up the count that `keep` took; this poll has another one.
            drop(unsafe { ManuallyDrop::into_inner(borrowed(&parts)) });
        }
        let done_callbacks = entry.take_done_callbacks();
        entry.stop_watching();
        entry.end_watched();
        if let Some(grace) = entry.take_grace() {
            local.end_grace(grace);
        }
        let (handle, extra) = local.active.borrow().end(entry, outcome);
        drop(extra);
        for callback in done_callbacks {
            local.schedule_done(callback, outcome);
        }
        handle
    }
}

/// What is known of a task that is about to end.
fn ended_info(entry: &Entry, local: &Local) -> Option<TaskInfo> {
    local.task_info(entry.task()).map(|info| TaskInfo { state: TaskState::Ended, ..info })
}

/// What is to be done with the output of a task that is about to end, and for that what is known of the task.
#[cold]
fn unasked<T: 'static>(entry: &Entry, local: &Local) -> Option<(Unasked<T>, Option<TaskInfo>)> {
    entry.unasked().map(|unasked| (unasked, ended_info(entry, local)))
}

/// How a task has ended whose future gave this error.
fn outcome_of(error: &JoinError) -> Outcome {
    if error.is_cancelled() {
        Outcome::Cancelled
    } else if error.is_panic() {
        Outcome::Panicked
    } else if error.is_failed() {
        Outcome::Failed
    } else {
        Outcome::Closed
    }
}

/// Lets go of something that belongs to a live task as the task itself would: in its context, as the current task. A
/// panic is reported. Not for a task that is being polled.
pub(crate) fn release(local: &Local, task: TaskRef, release: impl FnOnce()) {
    let context = |slot| match local.active.borrow().get_live(task) {
        Some(entry) => entry.context.replace(slot),
        None => slot,
    };
    let outer = local.current.replace(Some(task));
    let (released, left) = context::enter(context(Slot::EMPTY), || catch_unwind(AssertUnwindSafe(release)));
    local.current.set(outer);
    // Empty, unless the task has ended meanwhile.
    local.dispose(context(left));
    if let Err(payload) = released {
        let (subject, spawned_at) = subject(local.task_info(task));
        local.caught("Exception in the destructor of a task's future", payload, subject, spawned_at);
    }
}

/// What a report says of the task it is about.
pub(crate) fn subject(info: Option<TaskInfo>) -> (Option<Rc<dyn Subject>>, Option<&'static Location<'static>>) {
    let spawned_at = info.as_ref().map(|info| info.spawned_at);
    (info.map(|info| Rc::new(info) as _), spawned_at)
}

impl<F> Drop for Guarded<'_, F> {
    #[inline]
    fn drop(&mut self) {
        if !self.dropped {
            // A `Runnable` that was dropped without being run.
            let (entry, local) = self.place();
            span::around(entry.task(), local, || {
                let outer = context::swap(entry.context.replace(Slot::EMPTY));
                self.end_early(entry, local, Ending::Cancelled);
                local.dispose(context::swap(outer));
            });
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

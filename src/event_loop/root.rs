//! The root: the future of `run_until_complete`, polled in place and in its turn.

use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::task::{Context, Poll, Wake, Waker};

use tracing::Span;

use crate::error::{Fatal, PanicPayload};
use crate::event_loop::Core;
use crate::event_loop::run::{Run, or_panic};
use crate::sched::active::{Ending, Kind, TaskId, TaskRef, WakeParts};
use crate::sched::context::{self, Slot};
use crate::sched::join::Outcome;
use crate::sched::ready::{Injected, Item};
use crate::sched::{Local, Shared, span};

/// A root, not known by its type.
pub(crate) trait RootFuture {
    /// Polls it if the id is its own.
    fn poll(&mut self, core: &Core, id: u64);

    /// Its task, if the id is its own and it is not done.
    fn task(&self, id: u64) -> Option<TaskRef>;

    fn is_done(&self) -> bool;
}

/// Wakes the root. Wakers of an earlier root carry another id and wake nobody.
struct RootWaker {
    shared: Arc<Shared>,
    /// That of the root; changed only while nobody else holds a waker.
    id: AtomicU64,
    /// Whether it is in the queue already.
    queued: AtomicBool,
}

impl Wake for RootWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            // A loop that is closed or closing has no root any more.
            let _ = self.shared.post(Injected::Root(self.id.load(Ordering::Relaxed)));
        }
    }
}

/// A root's waker, and what is behind it.
struct Wakers {
    handle: Arc<RootWaker>,
    waker: Waker,
}

impl Wakers {
    fn new(shared: Arc<Shared>) -> Self {
        let handle = Arc::new(RootWaker { shared, id: AtomicU64::new(0), queued: AtomicBool::new(false) });
        Self { waker: handle.clone().into(), handle }
    }

    /// Whether nobody has kept a waker.
    fn is_unshared(&self) -> bool {
        Arc::strong_count(&self.handle) == 2
    }
}

/// The wakers of the latest root, for the next one, if nobody has kept one.
#[derive(Default)]
pub(super) struct RootWakers {
    spare: Cell<Option<Wakers>>,
}

impl RootWakers {
    fn take(&self, local: &Local) -> Wakers {
        let spare = self.spare.take().filter(Wakers::is_unshared);
        // What another thread did with its waker, before it dropped it, is done.
        fence(Ordering::Acquire);
        spare.unwrap_or_else(|| Wakers::new(local.shared()))
    }
}

struct Root<'a, P: FnMut(Option<&mut Context<'_>>) -> Poll<()>> {
    poll: P,
    core: &'a Core,
    task: TaskRef,
    id: u64,
    /// `None` after the drop only.
    waker: Option<Wakers>,
    span: Option<Box<Span>>,
    done: bool,
}

impl<'a, P: FnMut(Option<&mut Context<'_>>) -> Poll<()>> Root<'a, P> {
    /// `poll` polls the future, or drops it where it is given no context.
    fn new(core: &'a Core, how: RunRoot, poll: P) -> Self {
        let local = &core.local;
        let id = TaskId::next();
        let span = span::of_new_task(local, id, None, how.spawned_at);
        let waker = core.root_waker.take(local);
        // Now and not before: what is made in the beginning of the run takes its age from it.
        let spawned = core.nanos();
        local.looked_at.set(spawned);
        let RunRoot { context, spawned_at, kind, .. } = how;
        let task = {
            let mut active = local.active.borrow_mut();
            let entry = active.insert(id, kind, spawned_at, spawned);
            entry.begin(context, None, None);
            // The root holds the waker for longer than the entry.
            entry.wake.set(Some(WakeParts::of(&waker.waker)));
            entry.task()
        };
        // Woken for the first time. Nobody else has the waker yet.
        let id = id.as_u64();
        waker.handle.id.store(id, Ordering::Relaxed);
        waker.handle.queued.store(true, Ordering::Relaxed);
        local.push(Item::Root(id));
        Self { poll, core, task, id, waker: Some(waker), span, done: false }
    }
}

impl<P: FnMut(Option<&mut Context<'_>>) -> Poll<()>> RootFuture for Root<'_, P> {
    fn poll(&mut self, core: &Core, id: u64) {
        let Some(waker) = self.waker.as_ref().filter(|_| id == self.id && !self.done) else { return };
        waker.handle.queued.store(false, Ordering::Release);
        let local = &core.local;
        let mut watched = None;
        let (slot, cancelled) = match local.active.borrow().get(self.task) {
            Some(entry) => {
                local.poll.set(entry.count_poll());
                local.counters.polls.add(1);
                let ending = entry.ending.get();
                if ending == Ending::Watched {
                    watched = Some(entry.watched_waker(local, &waker.waker));
                }
                (entry.context.replace(Slot::EMPTY), ending.is_asked())
            }
            None => (Slot::EMPTY, false),
        };
        let mut current = CurrentRoot { core, outer: local.current.replace(Some(self.task)), span: None };
        if self.span.is_some() {
            current.enter(&mut self.span);
        }
        let mut cx = Context::from_waker(watched.as_ref().unwrap_or(&waker.waker));
        let (polled, slot) = context::enter(slot, || (self.poll)((!cancelled).then_some(&mut cx)));
        self.done = polled.is_ready();
        if let Some(watched) = watched {
            end_watched(local, self.task, watched, self.done);
        }
        // What the entry has is empty.
        if !slot.is_empty() {
            put_back(local, self.task, slot);
        }
        if current.span.is_some() {
            self.span = current.leave();
        }
    }

    fn task(&self, id: u64) -> Option<TaskRef> {
        (id == self.id && !self.done).then_some(self.task)
    }

    fn is_done(&self) -> bool {
        self.done
    }
}

impl<P: FnMut(Option<&mut Context<'_>>) -> Poll<()>> Drop for Root<'_, P> {
    fn drop(&mut self) {
        let local = &self.core.local;
        let mut grace = None;
        let ended = {
            let active = local.active.borrow();
            active.get(self.task).map(|entry| {
                let context = entry.context.replace(Slot::EMPTY);
                entry.stop_watching();
                grace = entry.take_grace();
                (active.end(entry, Outcome::Finished), context)
            })
        };
        if let Some(grace) = grace {
            local.end_grace(grace);
        }
        if let (Some((_, context)), false) = (ended, self.done) {
            // Its destructors run in its context, as a task's do.
            let (_, left) = span::inside(self.span.take(), local, || context::enter(context, || (self.poll)(None)));
            drop(left);
        }
        span::close(self.span.take(), local);
        self.core.root_waker.spare.set(self.waker.take());
    }
}

/// Gives the entry back what the root runs in.
#[cold]
#[inline(never)]
fn put_back(local: &Local, root: TaskRef, context: Slot) {
    if let Some(entry) = local.active.borrow().get(root) {
        entry.context.set(context);
    }
}

/// A poll of the root is over that was watched.
#[cold]
#[inline(never)]
fn end_watched(local: &Local, root: TaskRef, watched: Waker, is_done: bool) {
    if let Some(entry) = local.active.borrow().get(root) {
        if is_done {
            entry.stop_watching();
        }
        // Not the last one.
        entry.end_watched();
    }
    drop(watched);
}

/// Brings the current task back, also when the root panics.
struct CurrentRoot<'a> {
    core: &'a Core,
    outer: Option<TaskRef>,
    /// What it is polled in.
    span: Option<Box<Span>>,
}

impl CurrentRoot<'_> {
    #[cold]
    #[inline(never)]
    fn enter(&mut self, span: &mut Option<Box<Span>>) {
        self.span = span.take().and_then(|span| span::enter(span, &self.core.local));
    }

    #[cold]
    #[inline(never)]
    fn leave(&mut self) -> Option<Box<Span>> {
        self.span.take().and_then(|span| span::leave(span, &self.core.local))
    }
}

impl Drop for CurrentRoot<'_> {
    fn drop(&mut self) {
        if self.span.is_some() {
            span::close(self.leave(), &self.core.local);
        }
        self.core.local.current.set(self.outer);
        self.core.local.budget.set(None);
    }
}

/// How a root is run.
pub(crate) struct RunRoot {
    /// What was called, for the panics.
    pub(crate) method: &'static str,
    pub(crate) kind: Kind,
    pub(crate) context: Slot,
    /// Where it was called.
    pub(crate) spawned_at: &'static Location<'static>,
}

impl RunRoot {
    /// A future that cannot be cancelled, in a copy of the current context.
    #[track_caller]
    pub(crate) fn plain(method: &'static str) -> Self {
        Self { method, kind: Kind::Root, context: context::fork_current(), spawned_at: Location::caller() }
    }
}

/// Why a root gave no output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RootEnd {
    Stopped,
    Cancelled,
}

/// What a root gives: its value, or the panic that it has ended with. `None` if it was cancelled, or not polled to its end.
pub(crate) type RootOutput<T> = Option<Result<T, PanicPayload>>;

impl Core {
    /// A root of which the future is polled in place, and dropped as soon as it is done.
    #[inline]
    pub(crate) fn root<'a, F: Future>(
        &'a self,
        how: RunRoot,
        mut future: Pin<&'a mut Option<F>>,
        output: &'a mut RootOutput<F::Output>,
    ) -> impl RootFuture + use<'a, F> {
        Root::new(self, how, move |cx: Option<&mut Context<'_>>| {
            let polled = match (cx, future.as_mut().as_pin_mut()) {
                (Some(cx), Some(pinned)) => catch_unwind(AssertUnwindSafe(|| pinned.poll(cx))),
                // Cancelled.
                _ => {
                    future.set(None);
                    return Poll::Ready(());
                }
            };
            let ended = match polled {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(value)) => Ok(value),
                Err(payload) if payload.is::<Fatal>() => resume_unwind(payload),
                Err(payload) => Err(payload),
            };
            // What it holds is released before its end is seen, as a task's is.
            let released = catch_unwind(AssertUnwindSafe(|| future.set(None)));
            *output = Some(match (ended, released) {
                (ended, Ok(())) => ended,
                (Ok(_), Err(payload)) => Err(payload),
                (Err(payload), Err(second)) => {
                    // Only one can unwind.
                    self.local.caught("Exception in the destructor of the root future", second, None, None);
                    Err(payload)
                }
            });
            Poll::Ready(())
        })
    }

    /// Runs until the future, which is polled in place, is done.
    #[track_caller]
    pub(crate) fn run_root<F: Future>(self: &Rc<Self>, how: RunRoot, future: F) -> Result<F::Output, RootEnd> {
        let run = Run::enter(self, how.method);
        let mut future = pin!(Some(future));
        let mut output = None;
        let mut root = self.root(how, future.as_mut(), &mut output);
        let result = self.make_turns(|limit| {
            self.turn_of_run(limit, Some(&mut root))?;
            if self.stopping.get() || root.is_done() && !self.has_more() {
                return Ok(true);
            }
            if root.is_done() {
                // As asyncio's own done callback: what is scheduled, due or ready by now still runs.
                self.stopping.set(true);
            }
            Ok(false)
        });
        or_panic(result);
        let end = if root.is_done() { RootEnd::Cancelled } else { RootEnd::Stopped };
        drop(root);
        run.end();
        match output {
            Some(Ok(value)) => Ok(value),
            Some(Err(payload)) => resume_unwind(payload),
            None => Err(end),
        }
    }
}

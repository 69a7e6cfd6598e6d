//! The root: the future of `run_until_complete`, polled in place and in its turn.

use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::task::{Context, Poll, Wake, Waker};

use crate::error::Fatal;
use crate::event_loop::Core;
use crate::event_loop::run::Run;
use crate::sched::active::{Ending, Kind, NewEntry, TaskId, TaskRef, WakeParts};
use crate::sched::context::{self, Slot};
use crate::sched::join::Outcome;
use crate::sched::ready::{Injected, Item};
use crate::sched::{Local, Shared};

/// A root, not known by its type.
pub(super) trait RootFuture {
    /// Polls it if the id is its own.
    fn poll(&mut self, core: &Core, id: u64);
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
    done: bool,
}

impl<'a, P: FnMut(Option<&mut Context<'_>>) -> Poll<()>> Root<'a, P> {
    /// `poll` polls the future, or drops it where it is given no context.
    fn new(core: &'a Core, how: RunRoot, poll: P) -> Self {
        let local = &core.local;
        let id = TaskId::next();
        let waker = core.root_waker.take(local);
        let new = NewEntry { id, context: how.context, name: None, spawned_at: how.spawned_at, kind: how.kind };
        let task = {
            let mut active = local.active.borrow_mut();
            let entry = active.insert(new);
            // The root holds the waker for longer than the entry.
            entry.wake.set(Some(WakeParts::of(&waker.waker)));
            entry.task()
        };
        // Woken for the first time. Nobody else has the waker yet.
        let id = id.as_u64();
        waker.handle.id.store(id, Ordering::Relaxed);
        waker.handle.queued.store(true, Ordering::Relaxed);
        local.push(Item::Root(id));
        Self { poll, core, task, id, waker: Some(waker), done: false }
    }
}

impl<P: FnMut(Option<&mut Context<'_>>) -> Poll<()>> RootFuture for Root<'_, P> {
    fn poll(&mut self, core: &Core, id: u64) {
        let Some(waker) = self.waker.as_ref().filter(|_| id == self.id && !self.done) else { return };
        waker.handle.queued.store(false, Ordering::Release);
        let local = &core.local;
        let (slot, cancelled) = match local.active.borrow().get(self.task) {
            Some(entry) => {
                entry.count_poll();
                (entry.context.replace(Slot::EMPTY), entry.ending.get() != Ending::No)
            }
            None => (Slot::EMPTY, false),
        };
        let _current = CurrentRoot { core, outer: local.current.replace(Some(self.task)) };
        let mut cx = Context::from_waker(&waker.waker);
        let (polled, slot) = context::enter(slot, || (self.poll)((!cancelled).then_some(&mut cx)));
        self.done = polled.is_ready();
        if let Some(entry) = local.active.borrow().get(self.task) {
            entry.context.set(slot);
        }
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
                grace = entry.take_grace();
                (active.end(entry, Outcome::Finished), context)
            })
        };
        if let Some(grace) = grace {
            local.end_grace(grace);
        }
        if let (Some((_, context)), false) = (ended, self.done) {
            // Its destructors run in its context, as a task's do.
            let (_, left) = context::enter(context, || (self.poll)(None));
            drop(left);
        }
        self.core.root_waker.spare.set(self.waker.take());
    }
}

/// Brings the current task back, also when the root panics.
struct CurrentRoot<'a> {
    core: &'a Core,
    outer: Option<TaskRef>,
}

impl Drop for CurrentRoot<'_> {
    fn drop(&mut self) {
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

impl Core {
    /// Runs until the future, which is polled in place, is done.
    #[track_caller]
    pub(crate) fn run_root<F: Future>(self: &Rc<Self>, how: RunRoot, future: F) -> Result<F::Output, RootEnd> {
        let _run = Run::enter(self, how.method);
        let mut future = pin!(Some(future));
        let mut output = None;
        let mut root = Root::new(self, how, |cx: Option<&mut Context<'_>>| {
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
            output = Some(match (ended, released) {
                (ended, Ok(())) => ended,
                (Ok(_), Err(payload)) => Err(payload),
                (Err(payload), Err(second)) => {
                    // Only one can unwind.
                    self.local.caught("Exception in the destructor of the root future", second, None, None);
                    Err(payload)
                }
            });
            Poll::Ready(())
        });
        loop {
            self.turn_or_panic(Some(&mut root));
            if self.stopping.get() {
                break;
            }
            if root.done {
                if !self.has_more() {
                    break;
                }
                // As asyncio's own done callback: what is scheduled, due or ready by now still runs.
                self.stopping.set(true);
            }
        }
        let end = if root.done { RootEnd::Cancelled } else { RootEnd::Stopped };
        drop(root);
        match output {
            Some(Ok(value)) => Ok(value),
            Some(Err(payload)) => resume_unwind(payload),
            None => Err(end),
        }
    }
}

//! The local queue: one first-in-first-out line for everything that runs, so that order is one fact.

#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use crate::sched::Local;
use crate::sched::task::Runnable;

/// Something in the queue that runs on the loop's thread and is no task.
pub(crate) trait Ready {
    /// Runs it. Catches and reports its own panics.
    fn run(self: Rc<Self>);

    /// The loop was closed before its turn came.
    fn close(self: Rc<Self>) {}

    /// It is not to run any more, queued or not, and lets go of what it captured.
    fn cancel(&self) {}
}

/// What another thread posted.
pub(crate) trait RemoteJob: Send + Sync {
    /// Runs it on the loop's thread. Catches and reports its own panics.
    fn run(self: Arc<Self>);

    /// The loop, which is `local`'s, was closed before its turn came. Called on the loop's thread.
    fn close(self: Arc<Self>, local: &Local);
}

/// One item of the ready queue.
pub(crate) enum Item {
    /// A task to poll.
    Task(Runnable),
    /// A callback, or a transport with something to tell its protocol.
    Callback(Rc<dyn Ready>),
    /// A descriptor is ready: the reactor's key for it, and what for.
    Event { key: u64, readiness: u8 },
    /// The future of `run_until_complete`, if the id is still its own.
    Root(u64),
    /// A job from another thread.
    Job(Arc<dyn RemoteJob>),
}

/// What can be pushed from another thread.
pub(crate) enum Injected {
    Task(Runnable),
    Root(u64),
    Job(Arc<dyn RemoteJob>),
}

impl From<Injected> for Item {
    fn from(injected: Injected) -> Self {
        match injected {
            Injected::Task(runnable) => Item::Task(runnable),
            Injected::Root(id) => Item::Root(id),
            Injected::Job(job) => Item::Job(job),
        }
    }
}

/// The queue of one loop.
pub(crate) struct ReadyQueue {
    items: RefCell<VecDeque<Item>>,
}

impl ReadyQueue {
    pub(crate) fn new() -> Self {
        Self { items: RefCell::new(VecDeque::new()) }
    }

    /// Inlined into each caller, so that an item is written once, where it is to be, and not copied as a whole just after
    /// its parts were written: the processor would have to wait for those.
    #[inline(always)]
    pub(crate) fn push(&self, item: Item) {
        self.items.borrow_mut().push_back(item);
    }

    #[inline]
    pub(crate) fn pop(&self) -> Option<Item> {
        self.items.borrow_mut().pop_front()
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.items.borrow().len()
    }

    /// Gives the memory back; for the end of the loop.
    pub(crate) fn shrink(&self) {
        self.items.borrow_mut().shrink_to_fit();
    }
}

/// A number for this thread that no other thread has, also not after this one has ended.
pub(crate) fn thread_token() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static TOKEN: Cell<u64> = const { Cell::new(0) };
    }
    TOKEN.with(|token| {
        if token.get() == 0 {
            token.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        token.get()
    })
}

/// A value that everybody may refer to and only the thread that made it can reach.
pub(crate) struct ThreadBound<T> {
    /// The token of the thread that made it.
    owner: u64,
    /// Holds one strong count of an `Rc<T>`; null before `fill` and after `clear`.
    value: AtomicPtr<T>,
}

impl<T> ThreadBound<T> {
    /// Of this thread, and nothing yet.
    pub(crate) fn empty() -> Self {
        Self { owner: thread_token(), value: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// Takes the value, once. Does nothing on another thread.
    pub(crate) fn fill(&self, value: Rc<T>) {
        if self.is_own_thread() && self.value.load(Ordering::Relaxed).is_null() {
            self.value.store(Rc::into_raw(value).cast_mut(), Ordering::Relaxed);
        }
    }

    /// Whether this is the thread that made it.
    #[inline]
    pub(crate) fn is_own_thread(&self) -> bool {
        thread_token() == self.owner
    }

    /// The value: on the thread that made it, until it was cleared.
    #[inline]
    pub(crate) fn get(&self) -> Option<Rc<T>> {
        if !self.is_own_thread() {
            return None;
        }
        let value = self.value.load(Ordering::Relaxed);
        // SAFETY: tokens are never given to a second thread, so this is the thread on which the `Rc` was made, and its
        // count is not touched by another one. A pointer that is not null came from `Rc::into_raw` and stands for a
        // count that `clear` alone gives up, on this thread, too.
        (!value.is_null()).then(|| unsafe {
            Rc::increment_strong_count(value);
            Rc::from_raw(value)
        })
    }

    /// Gives the value up. Does nothing on another thread.
    pub(crate) fn clear(&self) {
        if !self.is_own_thread() {
            return;
        }
        let value = self.value.swap(std::ptr::null_mut(), Ordering::Relaxed);
        if !value.is_null() {
            // SAFETY: as in `get`; the swap makes sure that the count is given up once.
            drop(unsafe { Rc::from_raw(value) });
        }
    }
}

impl<T> Drop for ThreadBound<T> {
    fn drop(&mut self) {
        // On another thread the value is leaked rather than touched. The loop clears it when it is closed, so that
        // only a loop that was leaked itself gets here with something left.
        self.clear();
    }
}

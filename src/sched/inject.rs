//! What other threads give to the loop, and how they wake it.
//!
//! The problem: a post must cost no system call while the loop is awake, exactly one wake-up when it sleeps, and none
//! for the second post; and no post may be missed by a loop that is just falling asleep.
//!
//! The items, and whether the loop sleeps, stand behind one lock. Whoever posts finds there whether it has to call; the
//! loop, before it sleeps, finds there whether something was posted. The lock is held for some instructions only, and by
//! the loop once a sleep and once for a whole batch of posts, which it takes by leaving an empty queue behind; while
//! it is awake and nothing is posted, it looks at a number beside the lock. That it is awake again it says without the
//! lock: whoever has not heard of it yet makes a call too many, which ends the next sleep early, and nothing else.
//!
//! A queue without locks (`concurrent-queue`) was here before. It took three atomic operations and a fence for each post,
//! where this takes two operations; and its blocks, made by the one thread and freed by the other, had both of them
//! wait for the allocator's lock. docs/performance.md has the figures.
//!
//! The file stands alone: `tests/loom_inject.rs` includes it and tries every interleaving of small cases.

use std::collections::VecDeque;

#[cfg(loom)]
use loom::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
#[cfg(loom)]
use loom::sync::{Mutex, MutexGuard};
use std::sync::TryLockError;
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
#[cfg(not(loom))]
use std::sync::{Mutex, MutexGuard};

/// What has to be done to get the loop's attention.
mod state {
    /// Nothing: it is inside a turn and will look at the queue before it sleeps.
    pub(super) const AWAKE: u8 = 0;
    /// It sleeps, is about to, or is left to a foreign loop: it has to be called.
    pub(super) const ASLEEP: u8 = 1;
    /// The same, and somebody has called it already.
    pub(super) const CALLED: u8 = 2;
}

/// Whether the poster has to make the wake-up call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Wake {
    /// The loop is awake, or somebody else has called already.
    NotNeeded,
    /// The caller is the one who has to call the notifier, once.
    Needed,
}

struct Inner<T> {
    items: VecDeque<T>,
    /// Whether no more items are taken.
    closed: bool,
}

/// The queue from other threads to the loop.
pub(crate) struct Inject<T> {
    inner: Mutex<Inner<T>>,
    /// One of [`state`]. Others than `AWAKE` are written under the lock.
    state: AtomicU8,
    /// How many items there are. Written under the lock; read without, where what comes a moment later may wait.
    len: AtomicUsize,
}

impl<T> Inject<T> {
    /// A queue whose loop need not be called yet.
    pub(crate) fn new() -> Self {
        let inner = Inner { items: VecDeque::new(), closed: false };
        Self { inner: Mutex::new(inner), state: AtomicU8::new(state::AWAKE), len: AtomicUsize::new(0) }
    }

    /// Under this lock runs no code of the application's, so that a poisoned one holds nothing broken.
    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    /// Posts an item, from any thread. A closed queue gives it back.
    #[inline]
    pub(crate) fn push(&self, item: T) -> Result<Wake, T> {
        let mut inner = self.lock();
        if inner.closed {
            drop(inner);
            return Err(item);
        }
        inner.items.push_back(item);
        self.len.store(inner.items.len(), Ordering::Relaxed);
        Ok(self.claim_locked(inner))
    }

    /// Asks for a wake-up without an item: true for one caller per sleep.
    pub(crate) fn claim_wake(&self) -> Wake {
        self.claim_locked(self.lock())
    }

    fn claim_locked(&self, _locked: MutexGuard<'_, Inner<T>>) -> Wake {
        if self.state.load(Ordering::Relaxed) != state::ASLEEP {
            return Wake::NotNeeded;
        }
        // If it has just woken up, this comes too late, and says the same.
        self.state.store(state::CALLED, Ordering::Relaxed);
        Wake::Needed
    }

    /// The loop is about to sleep. False if something was posted meanwhile: then it stays awake.
    pub(crate) fn prepare_sleep(&self) -> bool {
        let inner = self.lock();
        let sleeps = inner.items.is_empty();
        if sleeps {
            self.state.store(state::ASLEEP, Ordering::Relaxed);
        }
        sleeps
    }

    /// The loop is awake: posts need no wake-up call until the next `prepare_sleep` or `leave`.
    pub(crate) fn wake_up(&self) {
        self.state.store(state::AWAKE, Ordering::Relaxed);
    }

    /// The loop is not being run, and somebody waits for it: whatever comes has to be told. True if something is waiting already.
    pub(crate) fn leave(&self) -> bool {
        let inner = self.lock();
        self.state.store(state::ASLEEP, Ordering::Relaxed);
        !inner.items.is_empty()
    }

    /// Whether anything is waiting. What another thread is just posting may not be seen yet.
    #[inline]
    pub(crate) fn has_items(&self) -> bool {
        self.len() > 0
    }

    /// How many are waiting, as `has_items` sees it.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Takes everything, in the order of posting, and leaves `batch` behind, which must be empty, for its memory.
    pub(crate) fn take(&self, batch: &mut VecDeque<T>) {
        debug_assert!(batch.is_empty());
        let mut inner = self.lock();
        std::mem::swap(&mut inner.items, batch);
        self.len.store(0, Ordering::Relaxed);
    }

    /// Whether no thread holds the lock: for a child of `fork`, in which the one that holds it may not be.
    pub(crate) fn is_free(&self) -> bool {
        !matches!(self.inner.try_lock(), Err(TryLockError::WouldBlock))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// From now on every push is refused. What was pushed before can still be taken.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }
}

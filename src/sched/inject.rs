//! What other threads give to the loop, and how they wake it.
//!
//! The problem: a post must cost no system call while the loop is awake, exactly one wake-up when it sleeps, and none
//! for the second post; and no post may be missed by a loop that is just falling asleep.
//!
//! The loop, before it sleeps, announces it (`ASLEEP`) and then looks at the queue once more. A poster first pushes and
//! then looks at the announcement. Both steps are sequentially consistent, so at least one side sees the other's
//! (Dekker's argument): either the loop sees the item, or the poster sees `ASLEEP`. Whoever turns `ASLEEP` into
//! `NOTIFIED` makes the wake-up call; everyone else saves it.
//!
//! The file stands alone: `tests/loom_inject.rs` includes it and tries every interleaving of small cases.

#[cfg(loom)]
use loom::sync::atomic::{AtomicU8, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU8, Ordering, fence};

/// The loop is inside a turn and will look at the queue before it sleeps.
const AWAKE: u8 = 0;
/// The loop sleeps, is about to, or is not being run: it has to be told.
const ASLEEP: u8 = 1;
/// The loop sleeps and somebody has told it already.
const NOTIFIED: u8 = 2;

/// A queue for the model: loom would explore the inside of the real one, which has its own tests. The length is counted
/// beside the lock and without any order of its own, so that what the model finds in order is the fences' doing.
#[cfg(loom)]
mod queue {
    use loom::sync::Mutex;
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use std::collections::VecDeque;

    pub(super) struct Queue<T> {
        /// The items, and whether no more are taken.
        items: Mutex<(VecDeque<T>, bool)>,
        len: AtomicUsize,
    }

    impl<T> Queue<T> {
        pub(super) fn new() -> Self {
            Self { items: Mutex::new((VecDeque::new(), false)), len: AtomicUsize::new(0) }
        }
        pub(super) fn push(&self, item: T) -> Result<(), T> {
            let mut items = self.items.lock().unwrap();
            if items.1 {
                return Err(item);
            }
            items.0.push_back(item);
            self.len.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
        pub(super) fn pop(&self) -> Option<T> {
            let item = self.items.lock().unwrap().0.pop_front()?;
            self.len.fetch_sub(1, Ordering::Relaxed);
            Some(item)
        }
        pub(super) fn len(&self) -> usize {
            self.len.load(Ordering::Relaxed)
        }
        pub(super) fn close(&self) {
            self.items.lock().unwrap().1 = true;
        }
    }
}

#[cfg(not(loom))]
mod queue {
    use concurrent_queue::ConcurrentQueue;

    pub(super) struct Queue<T>(ConcurrentQueue<T>);

    impl<T> Queue<T> {
        pub(super) fn new() -> Self {
            Self(ConcurrentQueue::unbounded())
        }
        pub(super) fn push(&self, item: T) -> Result<(), T> {
            self.0.push(item).map_err(|refused| refused.into_inner())
        }
        pub(super) fn pop(&self) -> Option<T> {
            self.0.pop().ok()
        }
        pub(super) fn len(&self) -> usize {
            // Far cheaper to say than the length, and what it says nearly always.
            if self.0.is_empty() { 0 } else { self.0.len() }
        }
        pub(super) fn close(&self) {
            self.0.close();
        }
    }
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

/// The queue from other threads to the loop.
pub(crate) struct Inject<T> {
    queue: queue::Queue<T>,
    /// `AWAKE`, `ASLEEP` or `NOTIFIED`.
    state: AtomicU8,
}

impl<T> Inject<T> {
    /// A queue whose loop is not being run yet.
    pub(crate) fn new() -> Self {
        Self { queue: queue::Queue::new(), state: AtomicU8::new(ASLEEP) }
    }

    /// Posts an item, from any thread. A closed queue gives it back.
    pub(crate) fn push(&self, item: T) -> Result<Wake, T> {
        self.queue.push(item)?;
        Ok(self.claim_wake())
    }

    /// Asks for a wake-up without an item: true for one caller per sleep.
    pub(crate) fn claim_wake(&self) -> Wake {
        // Orders the push before the look at the state, against `prepare_sleep`.
        fence(Ordering::SeqCst);
        let claimed = self.state.load(Ordering::Relaxed) == ASLEEP
            && self.state.compare_exchange(ASLEEP, NOTIFIED, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if claimed { Wake::Needed } else { Wake::NotNeeded }
    }

    /// The loop is about to sleep. False if something was posted meanwhile: then it stays awake.
    pub(crate) fn prepare_sleep(&self) -> bool {
        self.state.store(ASLEEP, Ordering::Relaxed);
        // Orders the announcement before the look at the queue, against `push`.
        fence(Ordering::SeqCst);
        if self.queue.len() == 0 {
            return true;
        }
        self.wake_up();
        false
    }

    /// The loop is awake again: posts need no wake-up call until the next `prepare_sleep` or `leave`.
    pub(crate) fn wake_up(&self) {
        self.state.store(AWAKE, Ordering::Relaxed);
    }

    /// The loop begins to be run. True if the wake-up call was made meanwhile, and may still be to be heard.
    pub(crate) fn enter(&self) -> bool {
        // One that comes in between is not noted: then the next sleep ends early.
        let called = self.state.load(Ordering::Relaxed) == NOTIFIED;
        self.wake_up();
        called
    }

    /// As `leave`, where nobody is told what waits: the next run will see it.
    pub(crate) fn rest(&self) {
        self.state.store(ASLEEP, Ordering::Relaxed);
    }

    /// The loop is not being run any more: whatever comes has to be told. True if something is waiting already.
    pub(crate) fn leave(&self) -> bool {
        !self.prepare_sleep() && {
            self.state.store(ASLEEP, Ordering::Relaxed);
            true
        }
    }

    /// The next item in the order of posting. Called by the loop only.
    pub(crate) fn pop(&self) -> Option<T> {
        self.queue.pop()
    }

    /// How many items are waiting.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// From now on every push is refused. What was pushed before can still be popped.
    pub(crate) fn close(&self) {
        self.queue.close();
    }
}

//! Several who wait for the same thing. Whoever gives up is forgotten.
//!
//! A descriptor's direction knows one waker, which is enough for a stream: reading takes `&mut self`. What is shared,
//! such as a listener, gives it a waker that stands for all who wait; each of them looks again when it is woken.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::error::give_up_payload;

/// All who wait.
pub(crate) struct Waiters {
    together: Arc<Together>,
    next_key: Cell<u64>,
}

/// A waker is `Send`, so what it wakes stands behind a lock, which nobody ever waits for.
struct Together {
    wakers: Mutex<Vec<(u64, Waker)>>,
}

impl Together {
    fn with<R>(&self, f: impl FnOnce(&mut Vec<(u64, Waker)>) -> R) -> R {
        f(&mut self.wakers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn enter(&self, key: u64, cx: &Context<'_>) {
        // A waker may be the application's: it is cloned and dropped with nothing locked.
        let waker = cx.waker().clone();
        let before = self.with(|wakers| match wakers.iter_mut().find(|(other, _)| *other == key) {
            Some((_, before)) => Some(std::mem::replace(before, waker)),
            None => {
                wakers.push((key, waker));
                None
            }
        });
        drop(before);
    }

    fn leave(&self, key: u64) {
        let waker = self.with(|wakers| {
            let place = wakers.iter().position(|(other, _)| *other == key)?;
            Some(wakers.swap_remove(place))
        });
        drop(waker);
    }

    fn poll_at<R>(
        self: &Arc<Self>,
        key: u64,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<R>,
    ) -> Poll<R> {
        let all = Waker::from(self.clone());
        let polled = poll(&mut Context::from_waker(&all));
        match polled {
            Poll::Ready(_) => self.leave(key),
            Poll::Pending => self.enter(key, cx),
        }
        polled
    }
}

impl Wake for Together {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut woken = Ok(());
        for (_, waker) in self.with(std::mem::take) {
            // One that panics leaves nobody else to wait for ever.
            match catch_unwind(AssertUnwindSafe(|| waker.wake())) {
                Err(payload) if woken.is_err() => give_up_payload(payload),
                Err(payload) => woken = Err(payload),
                Ok(()) => {}
            }
        }
        if let Err(payload) = woken {
            resume_unwind(payload);
        }
    }
}

/// The place of whoever polls without having joined.
const POLLS: u64 = 0;

impl Waiters {
    pub(crate) fn new() -> Self {
        Self { together: Arc::new(Together { wakers: Mutex::default() }), next_key: Cell::new(POLLS + 1) }
    }

    /// A place for one who may have to wait.
    pub(crate) fn join(&self) -> Waiter {
        let key = self.next_key.get();
        self.next_key.set(key + 1);
        Waiter { together: self.together.clone(), key }
    }

    /// What wakes them all. Those who poll with it have to [`wait`](Waiter::wait) before.
    pub(crate) fn waker(&self) -> Waker {
        self.together.clone().into()
    }

    /// Wakes them all.
    pub(crate) fn wake(&self) {
        self.together.wake_by_ref();
    }

    /// Polls with the waker that stands for all. Of those who poll in this way the latest is woken. `poll` must not wake
    /// it itself.
    pub(crate) fn poll<R>(&self, cx: &mut Context<'_>, poll: impl FnOnce(&mut Context<'_>) -> Poll<R>) -> Poll<R> {
        self.together.poll_at(POLLS, cx, poll)
    }
}

/// One who waits; forgotten when it is dropped.
pub(crate) struct Waiter {
    together: Arc<Together>,
    key: u64,
}

impl Waiter {
    /// Remembers whom to wake.
    pub(crate) fn wait(&self, cx: &Context<'_>) {
        self.together.enter(self.key, cx);
    }

    /// As [`Waiters::poll`], for one who has joined.
    pub(crate) fn poll<R>(&self, cx: &mut Context<'_>, poll: impl FnOnce(&mut Context<'_>) -> Poll<R>) -> Poll<R> {
        self.together.poll_at(self.key, cx, poll)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.together.leave(self.key);
    }
}

//! Those who are waited for together, each with a waker of its own, so that nobody is looked at in vain.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

/// Who is to be looked at, by number.
pub(crate) struct Lineup {
    called: Arc<Mutex<Called>>,
    wakers: Vec<Arc<Number>>,
}

#[derive(Default)]
struct Called {
    /// In the order in which they were woken.
    numbers: VecDeque<usize>,
    /// Wakes whoever looks at them; taken out when it is used.
    waker: Option<Waker>,
}

struct Number {
    number: usize,
    /// Whether it is among those who are called.
    is_called: AtomicBool,
    called: Arc<Mutex<Called>>,
}

fn with<R>(called: &Mutex<Called>, f: impl FnOnce(&mut Called) -> R) -> R {
    f(&mut called.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Wake for Number {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_called.swap(true, Ordering::AcqRel) {
            return;
        }
        let waker = with(&self.called, |called| {
            called.numbers.push_back(self.number);
            called.waker.take()
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Lineup {
    /// So many, all of whom are to be looked at first.
    pub(crate) fn new(count: usize) -> Self {
        let called = Arc::new(Mutex::new(Called { numbers: (0..count).collect(), waker: None }));
        let number = |number| Number { number, is_called: AtomicBool::new(true), called: called.clone() };
        let wakers = (0..count).map(|n| Arc::new(number(n))).collect();
        Self { called, wakers }
    }

    /// How many are called. From now on this one is woken when there is another.
    pub(crate) fn wait(&self, cx: &Context<'_>) -> usize {
        // A waker may be the application's: it is cloned and dropped with nothing locked.
        let waker = cx.waker().clone();
        let (before, count) = with(&self.called, |called| (called.waker.replace(waker), called.numbers.len()));
        drop(before);
        count
    }

    /// The next one who is called, and what wakes it.
    pub(crate) fn next(&self) -> Option<(usize, Waker)> {
        let number = with(&self.called, |called| called.numbers.pop_front())?;
        let waker = &self.wakers[number];
        // Before it is looked at: it may be called again while it is.
        waker.is_called.store(false, Ordering::Release);
        Some((number, waker.clone().into()))
    }
}

impl Drop for Lineup {
    fn drop(&mut self) {
        // Those who are waited for may live on, and with them their wakers.
        drop(with(&self.called, |called| called.waker.take()));
    }
}

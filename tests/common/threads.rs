//! What the tests of several threads share. Included by path, beside `common`.

#![allow(dead_code, unreachable_pub)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Instant;

use roundelay::{EventLoop, Remote};

use crate::common::{PATIENCE, run_until};

/// Runs the loop until the thread has ended, and gives what it returned.
#[track_caller]
pub fn join<T>(el: &EventLoop, thread: JoinHandle<T>) -> T {
    run_until(el, || thread.is_finished());
    thread.join().unwrap()
}

/// Stops the loop when it is dropped: when its thread has done its part, or has failed.
pub struct StopOnDrop(pub Remote);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        let _ = self.0.stop();
    }
}

/// Stops the loop when its thread has failed, for a loop that what the thread does will stop otherwise.
pub struct StopOnPanic(pub Remote);

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.0.stop();
        }
    }
}

/// Waits, on a thread without a loop, until something that another thread is about to do is done.
#[track_caller]
pub fn wait_until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "the condition did not come true in time");
        thread::yield_now();
    }
}

/// Remembers the threads on which its guards were dropped.
#[derive(Clone, Default)]
pub struct Drops(Arc<Mutex<Vec<ThreadId>>>);

impl Drops {
    /// Something to be captured, whose drop is remembered.
    pub fn guard(&self) -> DropPlace {
        DropPlace(self.0.clone())
    }

    /// Where guards were dropped since the last call.
    pub fn take(&self) -> Vec<ThreadId> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

pub struct DropPlace(Arc<Mutex<Vec<ThreadId>>>);

impl Drop for DropPlace {
    fn drop(&mut self) {
        self.0.lock().unwrap().push(thread::current().id());
    }
}

/// Something whose destructor panics.
pub struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("boom");
    }
}

/// The text of the panic that `f` ends with.
#[track_caller]
pub fn panic_text(f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).unwrap_err();
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload.downcast_ref::<&str>().unwrap().to_string(),
    }
}

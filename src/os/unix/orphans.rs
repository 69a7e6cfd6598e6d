//! Children that nobody owns any more, such as those that outlive their loop: each is reaped when it ends.
//!
//! A thread for each blocks until then. They are few: a loop in use reaps its own, and an orderly end of it leaves none.

use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::os::unix::child::wait_on_thread;

/// Those for which no thread could be made: they are looked at whenever another one comes.
static LEFT: Mutex<Vec<Child>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether it is still to be reaped.
fn is_left(child: &mut Child) -> bool {
    matches!(child.try_wait(), Ok(None))
}

/// Reaps those that have ended of the ones that nobody waits for.
pub(super) fn reap() {
    lock(&LEFT).retain_mut(is_left);
}

/// Reaps a child, when it ends.
pub(super) fn adopt(mut child: Child) {
    reap();
    if !is_left(&mut child) {
        return;
    }
    let pid = child.id();
    let child = Arc::new(Mutex::new(Some(child)));
    let adopted = child.clone();
    let waits = wait_on_thread(pid, move || {
        if let Some(mut child) = { lock(&adopted).take() } {
            let _ = child.wait();
        }
    });
    let Err(error) = waits else { return };
    tracing::warn!(target: "roundelay", "process {pid} is reaped late: no thread can be made: {error}");
    let child = lock(&child).take();
    lock(&LEFT).extend(child);
}

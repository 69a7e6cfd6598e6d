//! Children that nobody owns any more, such as those that outlive their loop: each is reaped when it ends.
//!
//! A thread for each blocks until then. They are few: a loop in use reaps its own, and an orderly end of it leaves none.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::os::unix::child::{Orphan, wait_on_thread};

/// Those for which no thread could be made: they are looked at whenever another one comes.
static LEFT: Mutex<Vec<Orphan>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reaps those that have ended of the ones that nobody waits for.
pub(super) fn reap() {
    // Another thread may be at it; in a child of `fork`, for ever.
    if let Ok(mut left) = LEFT.try_lock() {
        left.retain_mut(Orphan::is_left);
    }
}

/// Reaps a child, when it ends.
pub(super) fn adopt(mut child: Orphan) {
    reap();
    if !child.is_left() {
        return;
    }
    let pid = child.pid();
    let child = Arc::new(Mutex::new(Some(child)));
    let adopted = child.clone();
    let waits = wait_on_thread(pid, move || {
        if let Some(child) = { lock(&adopted).take() } {
            child.reap();
        }
    });
    let Err(error) = waits else { return };
    note!(WARN, "roundelay", "process {pid} is reaped late: no thread can be made: {error}");
    let child = lock(&child).take();
    lock(&LEFT).extend(child);
}

//! What the tasks of several scenarios do: the counterpart of the first functions in `reference/combining.py` and
//! `reference/graceful.py`.

use std::future::pending;

use futures::future::{FutureExt, LocalBoxFuture};
use roundelay::{Outcome, cancel_requested, yield_now};

use crate::common::Log;
use crate::support::{Guard, fail};

/// Of several kinds side by side.
pub type Body<T> = LocalBoxFuture<'static, T>;

/// Ends after some turns.
pub fn after(log: &Log, name: &'static str, count: usize) -> Body<&'static str> {
    let log = log.clone();
    async move {
        let _guard = Guard::new(&log, name, "is left");
        for _ in 0..count {
            yield_now().await;
        }
        name
    }
    .boxed_local()
}

/// Fails after some turns.
pub fn failing(log: &Log, name: &'static str, count: usize) -> Body<&'static str> {
    let body = after(log, name, count);
    async move {
        body.await;
        fail();
        name
    }
    .boxed_local()
}

pub fn endless(log: &Log, name: &'static str) -> Body<&'static str> {
    let log = log.clone();
    async move {
        let _guard = Guard::new(&log, name, "is left");
        pending().await
    }
    .boxed_local()
}

/// Waits until the task is asked to end, which asyncio tells by an exception that may be caught.
pub async fn until_asked(log: &Log) {
    cancel_requested().await;
    log.push("asked");
}

/// A done callback that tells of the end of a task.
pub fn told(log: &Log, name: &'static str) -> impl FnOnce(Outcome) + 'static {
    let own = log.clone();
    move |outcome| {
        own.push(format!("{name} {}", if outcome == Outcome::Cancelled { "was cancelled" } else { "is done" }))
    }
}

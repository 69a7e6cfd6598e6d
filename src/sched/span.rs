//! The spans of tasks: how `tracing` knows which task says something.
//!
//! A task has one if a subscriber wants it when the task is spawned, and none otherwise: then a spawn costs a look at a
//! number and a poll a look at a flag. A subscriber is code of the application's, which may panic or call back into the
//! loop at every place: nothing is borrowed while it runs, and a task whose span makes it panic goes on without.

use std::panic::{AssertUnwindSafe, Location, catch_unwind};

use tracing::{Level, Span};

use crate::note::is_taken;
use crate::sched::Local;
use crate::sched::active::{Entry, TaskId, TaskRef, default_name};

/// What spans of tasks are of.
const LEVEL: Level = Level::DEBUG;

/// The span of a task that is about to be made. The one that is current here is its parent.
#[inline]
pub(crate) fn of_new_task(
    local: &Local,
    id: TaskId,
    name: Option<&str>,
    spawned_at: &'static Location<'static>,
) -> Option<Box<Span>> {
    if is_taken(&LEVEL) { make(local, id, name, spawned_at) } else { None }
}

#[cold]
#[inline(never)]
fn make(local: &Local, id: TaskId, name: Option<&str>, spawned_at: &'static Location<'static>) -> Option<Box<Span>> {
    let default = if name.is_none() { Some(default_name(id)) } else { None };
    let name = name.or(default.as_deref());
    let made = guarded(
        local,
        || tracing::span!(target: "roundelay::task", LEVEL, "task", id = id.as_u64(), name, spawned_at = %spawned_at),
    );
    made.filter(|span| !span.is_disabled()).map(Box::new)
}

/// The span that is current on this thread, for a task that another one makes.
#[inline]
pub(crate) fn current() -> Option<Box<Span>> {
    if !is_taken(&LEVEL) {
        return None;
    }
    let span = catch_unwind(Span::current).ok()?;
    (!span.is_disabled()).then(|| Box::new(span))
}

/// Polls or drops a task's future, by `f`, inside of the task's span, if it has one.
#[cold]
#[inline(never)]
pub(crate) fn around(task: TaskRef, local: &Local, f: impl FnOnce()) {
    let span = local.active.borrow().get_live(task).and_then(Entry::take_span);
    let span = span.and_then(|span| enter(span, local));
    f();
    let mut span = span.and_then(|span| leave(span, local));
    if let Some(entry) = local.active.borrow().get_live(task) {
        span.take().into_iter().for_each(|span| entry.set_span(span));
    }
    close(span, local);
}

/// Enters a span. It comes back, to be given to `leave`.
#[cold]
pub(crate) fn enter(span: Box<Span>, local: &Local) -> Option<Box<Span>> {
    let entered = guarded(local, || span.with_subscriber(|(id, dispatch)| dispatch.enter(id)));
    keep_if(entered.is_some(), span, local)
}

/// Leaves a span. It comes back if the subscriber has not panicked.
#[cold]
pub(crate) fn leave(span: Box<Span>, local: &Local) -> Option<Box<Span>> {
    let left = guarded(local, || span.with_subscriber(|(id, dispatch)| dispatch.exit(id)));
    keep_if(left.is_some(), span, local)
}

/// Lets go of a span.
pub(crate) fn close(span: Option<Box<Span>>, local: &Local) {
    if let Some(span) = span {
        guarded(local, || drop(span));
    }
}

/// Calls `f` inside of a span.
pub(crate) fn inside<R>(span: Option<Box<Span>>, local: &Local, f: impl FnOnce() -> R) -> R {
    let span = span.and_then(|span| enter(span, local));
    let result = f();
    if let Some(span) = span {
        close(leave(span, local), local);
    }
    result
}

fn keep_if(keep: bool, span: Box<Span>, local: &Local) -> Option<Box<Span>> {
    if keep {
        return Some(span);
    }
    close(Some(span), local);
    None
}

/// Calls the subscriber. A panic is reported.
fn guarded<R>(local: &Local, f: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => Some(result),
        Err(payload) => {
            local.caught("Exception in the tracing subscriber, at the span of a task", payload, None, None);
            None
        }
    }
}

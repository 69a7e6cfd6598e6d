//! The child of a group: a future that both its task and its group can let go of.

use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::error::{Fatal, JoinError};
use crate::group::error::{BoxError, ChildError, Failure};
use crate::group::state::Group;
use crate::sched::task::drop_caught;

/// What a group can do with the future of a child.
pub(super) trait Revoke {
    /// Drops it; if it is being polled, as soon as it gives way.
    fn revoke(&self);
}

/// Where the future of a child is.
enum Place<F> {
    Here(Pin<Box<F>>),
    /// With the task, which polls it.
    Polled,
    /// It is done or was dropped.
    Gone,
}

/// The future of a child.
pub(super) struct ChildFuture<F> {
    place: Cell<Place<F>>,
}

impl<F> ChildFuture<F> {
    pub(super) fn new(future: F) -> Rc<Self> {
        Rc::new(Self { place: Cell::new(Place::Here(Box::pin(future))) })
    }
}

impl<F> Revoke for ChildFuture<F> {
    fn revoke(&self) {
        drop(self.place.replace(Place::Gone));
    }
}

/// What the task of a child runs.
pub(super) struct ChildTask<F: Future, T> {
    future: Rc<ChildFuture<F>>,
    into_result: fn(F::Output) -> Result<T, BoxError>,
    membership: Membership,
}

/// A child's place in its group, given up when its future is gone.
struct Membership {
    group: Rc<Group>,
    key: u64,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.group.leave(self.key);
    }
}

impl<F: Future, T> ChildTask<F, T> {
    pub(super) fn new(
        future: Rc<ChildFuture<F>>,
        into_result: fn(F::Output) -> Result<T, BoxError>,
        group: Rc<Group>,
        key: u64,
    ) -> Self {
        Self { future, into_result, membership: Membership { group, key } }
    }

    /// Tells the group.
    fn fail(&self, failure: Failure) {
        let group = &self.membership.group;
        let (id, name) = match group.el().current_task() {
            Some(task) => (Some(task.id), task.name.to_string()),
            None => (None, "a child".into()),
        };
        group.fail(ChildError::new(id, name, failure));
    }
}

impl<F: Future, T> Future for ChildTask<F, T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Place::Here(mut future) = self.future.place.replace(Place::Polled) else {
            self.future.revoke();
            return Poll::Ready(Err(JoinError::cancelled()));
        };
        // What makes an error of the child's is the application's, too.
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx).map(self.into_result)));
        let place = &self.future.place;
        if let (Ok(Poll::Pending), Place::Polled) = (&polled, place.replace(Place::Gone)) {
            place.set(Place::Here(future));
            return Poll::Pending;
        }
        // What it holds is released before its end is seen, as any task's is.
        drop_caught(self.membership.group.local(), future, "Exception in the destructor of a task's future");
        match polled {
            // Its scope went while it was on the stack.
            Ok(Poll::Pending) => Poll::Ready(Err(JoinError::cancelled())),
            Ok(Poll::Ready(result)) => Poll::Ready(result.map_err(|error| {
                self.fail(Failure::Error(error));
                JoinError::failed()
            })),
            Err(payload) if payload.is::<Fatal>() => {
                self.fail(Failure::Panic(JoinError::fatal()));
                // Not ours: it unwinds out of the loop's run.
                resume_unwind(payload)
            }
            Err(payload) => {
                let error = JoinError::panic_of_child(&*payload);
                self.fail(Failure::Panic(JoinError::panic(payload)));
                Poll::Ready(Err(error))
            }
        }
    }
}

impl<F: Future, T> Drop for ChildTask<F, T> {
    fn drop(&mut self) {
        // Before the membership ends, also where it panics.
        self.future.revoke();
    }
}

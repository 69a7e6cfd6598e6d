//! Callbacks: in the next turn, or at a time.

use std::any::type_name;
use std::panic::Location;
use std::time::{Duration, Instant};

use crate::event_loop::EventLoop;
use crate::sched::clock::deadline;
use crate::sched::context::{self, Context, Slot};
use crate::sched::handle::{Handle, NewCallback, TimerHandle, schedule};

impl EventLoop {
    /// Calls `callback` in the next turn, in the order of these calls, in a copy of the current
    /// [`Context`](crate::Context).
    ///
    /// On a closed loop the callback is dropped, the handle says so, and the exception handler is told.
    ///
    /// ```
    /// let el = roundelay::EventLoop::new()?;
    /// let answer = el.call_soon(|| 42);
    /// assert_eq!(el.run_until_complete(answer).unwrap().unwrap(), 42);
    /// # std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub fn call_soon<T: 'static>(&self, callback: impl FnOnce() -> T + 'static) -> Handle<T> {
        self.soon(context::fork_current(), Location::caller(), callback)
    }

    /// As [`call_soon`](Self::call_soon), in a context of your choice.
    #[track_caller]
    pub fn call_soon_in<T: 'static>(&self, context: &Context, callback: impl FnOnce() -> T + 'static) -> Handle<T> {
        self.soon(Slot::Shared(context.clone()), Location::caller(), callback)
    }

    fn soon<F, T>(&self, context: Slot, created_at: &'static Location<'static>, callback: F) -> Handle<T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let new = NewCallback { method: "call_soon", name: type_name::<F>(), context, created_at, when: None };
        schedule(&self.core.local, new, callback)
    }

    /// Calls `callback` once `delay` is over, counted from now.
    ///
    /// Timers of equal deadline fire in the order in which they were made. A delay that the clock cannot add, such as
    /// `Duration::MAX`, is a timer that never fires. On a closed loop: as [`call_soon`](Self::call_soon).
    #[track_caller]
    pub fn call_later<T: 'static>(&self, delay: Duration, callback: impl FnOnce() -> T + 'static) -> TimerHandle<T> {
        let when = deadline(self.time(), delay);
        self.at("call_later", when, context::fork_current(), Location::caller(), callback)
    }

    /// As [`call_later`](Self::call_later), in a context of your choice.
    #[track_caller]
    pub fn call_later_in<T: 'static>(
        &self,
        context: &Context,
        delay: Duration,
        callback: impl FnOnce() -> T + 'static,
    ) -> TimerHandle<T> {
        let when = deadline(self.time(), delay);
        self.at("call_later", when, Slot::Shared(context.clone()), Location::caller(), callback)
    }

    /// Calls `callback` at a moment of the loop's clock; one that is past is due in the next turn, and past moments
    /// keep their order, too.
    ///
    /// On a closed loop: as [`call_soon`](Self::call_soon).
    #[track_caller]
    pub fn call_at<T: 'static>(&self, when: Instant, callback: impl FnOnce() -> T + 'static) -> TimerHandle<T> {
        self.at("call_at", when, context::fork_current(), Location::caller(), callback)
    }

    /// As [`call_at`](Self::call_at), in a context of your choice.
    #[track_caller]
    pub fn call_at_in<T: 'static>(
        &self,
        context: &Context,
        when: Instant,
        callback: impl FnOnce() -> T + 'static,
    ) -> TimerHandle<T> {
        self.at("call_at", when, Slot::Shared(context.clone()), Location::caller(), callback)
    }

    fn at<F, T>(
        &self,
        method: &'static str,
        when: Instant,
        context: Slot,
        created_at: &'static Location<'static>,
        callback: F,
    ) -> TimerHandle<T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let new = NewCallback { method, name: type_name::<F>(), context, created_at, when: Some(when) };
        TimerHandle::new(schedule(&self.core.local, new, callback), when)
    }
}

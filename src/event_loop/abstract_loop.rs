//! The core of a loop as a trait, for code that is to work with a loop that is not ours.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::{Duration, Instant};

use crate::event_loop::EventLoop;
use crate::event_loop::exception::ExceptionContext;
use crate::os::fd::BorrowedFd;
use crate::sched::handle::{Handle, TimerHandle};

/// A scheduled callback of an [`AbstractEventLoop`].
pub trait AbstractHandle: fmt::Debug {
    /// Takes the callback back: true if it had not run yet.
    fn cancel(&self) -> bool;

    /// Whether it was cancelled before it ran.
    fn is_cancelled(&self) -> bool;

    /// Whether nothing more will happen.
    fn is_done(&self) -> bool;

    /// Its deadline, if it is a timer.
    fn when(&self) -> Option<Instant>;
}

impl AbstractHandle for Handle<()> {
    fn cancel(&self) -> bool {
        self.cancel()
    }

    fn is_cancelled(&self) -> bool {
        self.is_cancelled()
    }

    fn is_done(&self) -> bool {
        self.is_done()
    }

    fn when(&self) -> Option<Instant> {
        None
    }
}

impl AbstractHandle for TimerHandle<()> {
    fn cancel(&self) -> bool {
        self.cancel()
    }

    fn is_cancelled(&self) -> bool {
        self.is_cancelled()
    }

    fn is_done(&self) -> bool {
        self.is_done()
    }

    fn when(&self) -> Option<Instant> {
        Some(self.when())
    }
}

/// The object-safe core of an event loop: running, scheduling, time, descriptors, and the exception handler.
///
/// [`EventLoop`] implements it, by its methods of the same names. Implement it for another loop, and code that takes a
/// `&dyn AbstractEventLoop` runs on that one, too.
///
/// ```
/// use roundelay::{AbstractEventLoop, EventLoop};
/// use std::time::Duration;
///
/// fn greet_later(el: &dyn AbstractEventLoop) {
///     el.call_later(Duration::from_millis(1), Box::new(|| println!("hello")));
/// }
///
/// let el = EventLoop::new()?;
/// greet_later(&el);
/// # el.run_once(Some(Duration::from_millis(50)))?;
/// # std::io::Result::Ok(())
/// ```
pub trait AbstractEventLoop {
    /// Runs until [`stop`](Self::stop) is called.
    fn run_forever(&self);

    /// Makes one turn, waiting at most this long; returns how many items ran.
    ///
    /// # Errors
    ///
    /// The loop's own.
    fn run_once(&self, timeout: Option<Duration>) -> io::Result<usize>;

    /// Ends the current run after its turn.
    fn stop(&self);

    /// Closes the loop.
    fn close(&self);

    /// Whether it is running.
    fn is_running(&self) -> bool;

    /// Whether it is closed.
    fn is_closed(&self) -> bool;

    /// The time of its clock.
    fn time(&self) -> Instant;

    /// Calls a function in the next turn.
    fn call_soon(&self, callback: Box<dyn FnOnce()>) -> Box<dyn AbstractHandle>;

    /// Calls a function after a delay.
    fn call_later(&self, delay: Duration, callback: Box<dyn FnOnce()>) -> Box<dyn AbstractHandle>;

    /// Calls a function at a time.
    fn call_at(&self, when: Instant, callback: Box<dyn FnOnce()>) -> Box<dyn AbstractHandle>;

    /// Calls a function in a turn of the loop, from any thread; false if the loop is closed.
    fn call_soon_threadsafe(&self, callback: Box<dyn FnOnce() + Send>) -> bool;

    /// Runs a future as a detached task.
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()>>>);

    /// Calls a function whenever a descriptor is readable.
    ///
    /// # Errors
    ///
    /// As [`EventLoop::add_reader`].
    fn add_reader(&self, fd: BorrowedFd<'_>, callback: Box<dyn FnMut()>) -> io::Result<()>;

    /// Removes the reader of a descriptor: true if there was one.
    fn remove_reader(&self, fd: BorrowedFd<'_>) -> bool;

    /// Calls a function whenever a descriptor is writable.
    ///
    /// # Errors
    ///
    /// As [`EventLoop::add_writer`].
    fn add_writer(&self, fd: BorrowedFd<'_>, callback: Box<dyn FnMut()>) -> io::Result<()>;

    /// Removes the writer of a descriptor: true if there was one.
    fn remove_writer(&self, fd: BorrowedFd<'_>) -> bool;

    /// Tells the exception handler.
    fn call_exception_handler(&self, context: &ExceptionContext<'_>);

    /// Does what the loop does where no handler is set.
    fn default_exception_handler(&self, context: &ExceptionContext<'_>);

    /// Whether debug mode is on.
    fn debug(&self) -> bool;

    /// Turns debug mode on or off.
    fn set_debug(&self, debug: bool);
}

impl AbstractEventLoop for EventLoop {
    #[track_caller]
    fn run_forever(&self) {
        self.run_forever();
    }

    #[track_caller]
    fn run_once(&self, timeout: Option<Duration>) -> io::Result<usize> {
        self.run_once(timeout)
    }

    fn stop(&self) {
        self.stop();
    }

    #[track_caller]
    fn close(&self) {
        self.close();
    }

    fn is_running(&self) -> bool {
        self.is_running()
    }

    fn is_closed(&self) -> bool {
        self.is_closed()
    }

    fn time(&self) -> Instant {
        self.time()
    }

    #[track_caller]
    fn call_soon(&self, callback: Box<dyn FnOnce()>) -> Box<dyn AbstractHandle> {
        Box::new(self.call_soon(callback))
    }

    #[track_caller]
    fn call_later(&self, delay: Duration, callback: Box<dyn FnOnce()>) -> Box<dyn AbstractHandle> {
        Box::new(self.call_later(delay, callback))
    }

    #[track_caller]
    fn call_at(&self, when: Instant, callback: Box<dyn FnOnce()>) -> Box<dyn AbstractHandle> {
        Box::new(self.call_at(when, callback))
    }

    #[track_caller]
    fn call_soon_threadsafe(&self, callback: Box<dyn FnOnce() + Send>) -> bool {
        self.call_soon_threadsafe(callback).is_ok()
    }

    #[track_caller]
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()>>>) {
        drop(self.create_task(future));
    }

    #[track_caller]
    fn add_reader(&self, fd: BorrowedFd<'_>, callback: Box<dyn FnMut()>) -> io::Result<()> {
        self.add_reader(fd, callback)
    }

    fn remove_reader(&self, fd: BorrowedFd<'_>) -> bool {
        self.remove_reader(fd)
    }

    #[track_caller]
    fn add_writer(&self, fd: BorrowedFd<'_>, callback: Box<dyn FnMut()>) -> io::Result<()> {
        self.add_writer(fd, callback)
    }

    fn remove_writer(&self, fd: BorrowedFd<'_>) -> bool {
        self.remove_writer(fd)
    }

    fn call_exception_handler(&self, context: &ExceptionContext<'_>) {
        self.call_exception_handler(context);
    }

    fn default_exception_handler(&self, context: &ExceptionContext<'_>) {
        self.default_exception_handler(context);
    }

    fn debug(&self) -> bool {
        self.debug()
    }

    fn set_debug(&self, debug: bool) {
        self.set_debug(debug);
    }
}

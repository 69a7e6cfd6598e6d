//! The loop as a future inside of another loop, which waits for it: with no thread of its own.
//!
//! The problem: while the host waits, something may come from four sides, and none may be missed. What the loop watches
//! makes the selector's descriptor readable, and a timer has a deadline; for these the host waits, in its own way
//! ([`HostLoop`]). What other threads post, and what the host's other tasks schedule on this very thread, wakes the future
//! itself, by its own waker, which costs no system call where it is not needed. The future says whom to wake before it
//! leaves the loop, and the loop, when it is left, looks once more whether anything has come.

#[cfg(feature = "async-io")]
mod async_io;
mod driver;
mod error;
#[cfg(feature = "tokio-rt")]
mod tokio;

#[cfg(feature = "async-io")]
pub use async_io::AsyncIoHost;
pub use error::DriveError;
#[cfg(feature = "tokio-rt")]
pub use tokio::TokioHost;

use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::io;
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Instant;

use crate::drive::driver::{Driver, InLoop};
use crate::event_loop::EventLoop;
use crate::event_loop::root::RunRoot;
use crate::os::fd::BorrowedFd;

/// How a foreign loop waits for one of ours, for [`EventLoop::drive`].
///
/// Two are there: [`TokioHost`](crate::TokioHost) and [`AsyncIoHost`](crate::AsyncIoHost), each with the feature
/// that it needs. One of your own is a few lines where the host has something that makes a future of a descriptor and of a
/// moment.
///
/// ```
/// use roundelay::{EventLoop, HostLoop, sleep};
/// use std::os::fd::{AsRawFd, BorrowedFd};
/// use std::task::{Context, Poll};
/// use std::time::{Duration, Instant};
///
/// /// A host that can only wait for moments: it looks at the descriptor every millisecond. Better ones register it.
/// struct Impatient(smol::Timer);
///
/// impl HostLoop for Impatient {
///     fn poll_wait(
///         &mut self,
///         _fd: BorrowedFd<'_>,
///         _deadline: Option<Instant>,
///         cx: &mut Context<'_>,
///     ) -> Poll<std::io::Result<()>> {
///         std::pin::Pin::new(&mut self.0).poll(cx).map(|_| {
///             self.0.set_after(Duration::from_millis(1));
///             Ok(())
///         })
///     }
/// }
/// ```
pub trait HostLoop {
    /// Ready when the descriptor is readable or the deadline is reached. Otherwise it has the task woken when that comes
    /// true.
    ///
    /// It is called after turns that have left nothing to do, with the same descriptor each time, and with another deadline
    /// whenever that has changed: what was armed for an earlier one need wake nobody any more. The descriptor is level
    /// triggered, and what was known of it before the turns is outdated: a host that is told of edges finds out by a `poll`
    /// of no time whether it is readable now, forgets what it knew if not, and waits for the next edge. To be ready too
    /// early is harmless and costs a turn.
    ///
    /// To keep the descriptor registered between two calls, duplicate it
    /// ([`try_clone_to_owned`](BorrowedFd::try_clone_to_owned)): the future may outlive the loop.
    ///
    /// # Errors
    ///
    /// What the host cannot wait for. It ends the future.
    fn poll_wait(
        &mut self,
        fd: BorrowedFd<'_>,
        deadline: Option<Instant>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>>;
}

/// A loop inside of another one, as a future of that: see [`EventLoop::drive`] and [`EventLoop::drive_until`].
#[must_use = "the loop makes no turn unless this is awaited"]
pub struct Drive<'a, T> {
    /// The method, for people.
    name: &'static str,
    driving: Pin<Box<dyn Future<Output = Result<T, DriveError>> + 'a>>,
}

impl<T> Future for Drive<'_, T> {
    type Output = Result<T, DriveError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.driving.as_mut().poll(cx)
    }
}

impl<T> fmt::Debug for Drive<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drive").field("method", &self.name).finish_non_exhaustive()
    }
}

impl EventLoop {
    /// Runs the loop inside of another one, as a future of that, until [`stop`](Self::stop) is called: `run_forever` for
    /// those who have a loop already, of another kind. It needs no thread, and costs nothing while there is nothing to do.
    ///
    /// `host` is how the other loop waits: [`TokioHost`](crate::TokioHost) within tokio,
    /// [`AsyncIoHost`](crate::AsyncIoHost) wherever async-io is used, as in smol; or a [`HostLoop`] of your own. The future
    /// is `!Send`, as the loop is: it is awaited on the loop's thread, in the host's `block_on` or as one of its local tasks.
    ///
    /// Whatever else runs on that thread may use the loop meanwhile: schedule on it, and await its tasks.
    ///
    /// ```
    /// # #[cfg(feature = "tokio-rt")] {
    /// use roundelay::{EventLoop, TokioHost};
    /// use std::time::Duration;
    ///
    /// let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    /// let el = EventLoop::new()?;
    /// tokio::task::LocalSet::new().block_on(&runtime, async {
    ///     let driving = tokio::task::spawn_local(el.drive(TokioHost::new()));
    ///     // A task of ours, which is awaited by one of tokio's.
    ///     let task = el.create_task(async {
    ///         roundelay::sleep(Duration::from_millis(1)).await;
    ///         "slept"
    ///     });
    ///     assert_eq!(task.await.unwrap(), "slept");
    ///     el.stop();
    ///     driving.await.unwrap().unwrap();
    /// });
    /// # }
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # How it shares the thread
    ///
    /// Each time it is polled it makes one turn, or some more if there is more to do: 16 at most, and none that begins
    /// later than 250 microseconds after the first; then the host's other tasks have theirs. In between the loop is not
    /// running: [`get_running_loop`](crate::get_running_loop) knows it within its turns only, and its `run_*` methods can be
    /// called. Our own tasks are polled within the host's task, so they find there what that has, a tokio context for one.
    ///
    /// Deadlines are as exact as the host's timers, which tokio has in steps of a millisecond: ours are never early there, and
    /// may be a millisecond late. A loop with a [clock](crate::Builder::clock) of its own, and one
    /// under virtual time, has time pass when that is moved; [`spin`](crate::Builder::spin) does nothing here.
    ///
    /// # How it ends
    ///
    /// Dropping the future leaves the loop as it is, with all of its tasks: it can be driven again, by this host or another
    /// one, or run. Nothing is closed in an orderly way by that, as [`block_on`](crate::block_on) does it: stop servers and
    /// await what has to be done before.
    ///
    /// # Errors
    ///
    /// [`DriveError::Closed`] if the loop is closed, also if it is meanwhile, between two turns; [`DriveError::Io`] with the
    /// host's error, as when the tokio runtime is shut down that waits, the selector's, or for want of a descriptor. The
    /// loop stays usable.
    ///
    /// # Panics
    ///
    /// When it is polled: if the loop is running or another one of this crate runs on the thread, so that loops do not nest;
    /// if another such future of the loop is under way; with what the host panics with; and with the payload of a
    /// [`Fatal`](crate::Fatal) panic of a callback.
    #[track_caller]
    pub fn drive<'a>(&self, host: impl HostLoop + 'a) -> Drive<'a, ()> {
        const NAME: &str = "EventLoop::drive";
        let core = self.core.clone();
        let driving = async move {
            let mut driver = Driver::begin(core, NAME, host)?;
            poll_fn(|cx| driver.poll(cx, None)).await
        };
        Drive { name: NAME, driving: Box::pin(driving) }
    }

    /// Runs the loop inside of another one until `future` is done, and gives its output: `run_until_complete` as a future
    /// of the other loop. For all that this and [`drive`](Self::drive) have in common, see there.
    ///
    /// `future` is one of *our* loop's: it is polled in its turn, `get_running_loop` works in it, and it need not be
    /// `'static`. What is scheduled, due or ready at its end runs before its output is given.
    ///
    /// Dropping what this returns drops the future; pass `&mut task` to go on with it later.
    ///
    /// ```
    /// # #[cfg(feature = "async-io")] {
    /// use roundelay::{AsyncIoHost, EventLoop};
    ///
    /// let el = EventLoop::new()?;
    /// let answer = async_io::block_on(el.drive_until(AsyncIoHost::new(), async {
    ///     roundelay::yield_now().await;
    ///     42
    /// }));
    /// assert_eq!(answer.unwrap(), 42);
    /// # }
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`DriveError::Stopped`] if [`stop`](Self::stop) was called before the future was done, which is dropped then; and
    /// those of `drive`.
    ///
    /// # Panics
    ///
    /// As [`drive`](Self::drive), and with the panic of the future itself, once what was scheduled has run.
    #[track_caller]
    pub fn drive_until<'a, F>(&self, host: impl HostLoop + 'a, future: F) -> Drive<'a, F::Output>
    where
        F: IntoFuture,
        F::IntoFuture: 'a,
    {
        const NAME: &str = "EventLoop::drive_until";
        let core = self.core.clone();
        let (how, future) = (RunRoot::plain(NAME), future.into_future());
        let driving = async move {
            let mut driver = Driver::begin(core.clone(), NAME, host)?;
            let mut future = pin!(Some(future));
            let mut output = None;
            let mut root = InLoop::new(&core, core.root(how, future.as_mut(), &mut output));
            let driven = poll_fn(|cx| driver.poll(cx, root.get())).await;
            drop(root);
            match (output, driven) {
                (Some(Ok(output)), _) => Ok(output),
                (Some(Err(payload)), _) => resume_unwind(payload),
                (None, Err(error)) => Err(error),
                (None, Ok(())) => Err(DriveError::Stopped),
            }
        };
        Drive { name: NAME, driving: Box::pin(driving) }
    }
}

//! tokio as the host.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Sleep, sleep_until};

use crate::drive::HostLoop;
use crate::os::fd::{BorrowedFd, OwnedFd, is_readable};

/// How far ahead a timer is put that is not to fire: tokio's own measure of a time that never comes.
const NEVER: Duration = Duration::from_secs(86400 * 365 * 30);

/// tokio's way to wait, for [`EventLoop::drive`](crate::EventLoop::drive): the loop's descriptor is registered with the
/// runtime's I/O driver, its deadline with the runtime's timers.
///
/// It is used within a runtime, current-thread or multi-thread: in its `block_on`, or in a local task. The runtime must have
/// I/O enabled, and time if the loop has timers; `enable_all` has both. Otherwise tokio panics. With a runtime that is
/// dropped before the loop, driving ends with an error, and the loop can be driven by another one.
///
/// ```
/// use roundelay::{EventLoop, TokioHost};
///
/// let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
/// let el = EventLoop::new()?;
/// let answer = runtime.block_on(el.drive_until(TokioHost::new(), async {
///     // tokio's own and ours side by side.
///     tokio::time::sleep(std::time::Duration::from_millis(1)).await;
///     roundelay::sleep(std::time::Duration::from_millis(1)).await;
///     42
/// }));
/// assert_eq!(answer.unwrap(), 42);
/// # std::io::Result::Ok(())
/// ```
#[derive(Default)]
pub struct TokioHost {
    /// Registered when it is first waited for.
    fd: Option<AsyncFd<OwnedFd>>,
    /// Made for the first deadline, and used again for the others.
    timer: Option<Pin<Box<Sleep>>>,
    /// What the timer is set to.
    deadline: Option<Instant>,
}

impl TokioHost {
    /// A host that joins the runtime in which it is first used.
    pub fn new() -> Self {
        Self::default()
    }

    fn poll_readable(&mut self, fd: BorrowedFd<'_>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let registered = match &self.fd {
            Some(registered) => registered,
            None => self.fd.insert(register(fd.try_clone_to_owned()?)?),
        };
        loop {
            let mut guard = ready!(registered.poll_read_ready(cx))?;
            if is_readable(fd)? {
                return Poll::Ready(Ok(()));
            }
            // What tokio was told of before the look, and not what it is told from then on.
            guard.clear_ready();
        }
    }

    fn poll_deadline(&mut self, deadline: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let changed = std::mem::replace(&mut self.deadline, deadline) != deadline;
        match (&mut self.timer, deadline) {
            (Some(timer), _) if changed => {
                let until = deadline.map_or_else(|| tokio::time::Instant::now() + NEVER, Into::into);
                timer.as_mut().reset(until);
            }
            (None, Some(deadline)) => self.timer = Some(Box::pin(sleep_until(deadline.into()))),
            _ => {}
        }
        match &mut self.timer {
            Some(timer) if deadline.is_some() => timer.as_mut().poll(cx),
            _ => Poll::Pending,
        }
    }
}

/// Registers the descriptor. What tokio has in place of this function is younger than the oldest tokio that will do.
#[allow(deprecated)]
fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

impl HostLoop for TokioHost {
    fn poll_wait(
        &mut self,
        fd: BorrowedFd<'_>,
        deadline: Option<Instant>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        match self.poll_readable(fd, cx) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => self.poll_deadline(deadline, cx).map(Ok),
        }
    }
}

impl fmt::Debug for TokioHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokioHost").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

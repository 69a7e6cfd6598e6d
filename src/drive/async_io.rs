//! async-io, and with it smol, as the host.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use async_io::{Async, Timer};

use crate::drive::HostLoop;
use crate::os::fd::{BorrowedFd, OwnedFd, is_readable};

/// async-io's way to wait, for [`EventLoop::drive`](crate::EventLoop::drive): the loop's descriptor and its deadline are
/// registered with async-io's reactor.
///
/// It fits whatever polls futures: `smol::block_on`, `async_io::block_on`, a `LocalExecutor`, another crate's executor.
/// Where nobody is in a `block_on` of async-io's, that crate's own thread waits.
///
/// ```
/// use roundelay::{AsyncIoHost, EventLoop};
///
/// let el = EventLoop::new()?;
/// let answer = async_io::block_on(el.drive_until(AsyncIoHost::new(), async {
///     async_io::Timer::after(std::time::Duration::from_millis(1)).await;
///     roundelay::sleep(std::time::Duration::from_millis(1)).await;
///     42
/// }));
/// assert_eq!(answer.unwrap(), 42);
/// # std::io::Result::Ok(())
/// ```
#[derive(Default)]
pub struct AsyncIoHost {
    /// Registered when it is first waited for.
    fd: Option<Async<OwnedFd>>,
    timer: Option<Timer>,
    /// What the timer is set to.
    deadline: Option<Instant>,
}

impl AsyncIoHost {
    /// A host that is registered when it is first waited for.
    pub fn new() -> Self {
        Self::default()
    }

    fn poll_readable(&mut self, fd: BorrowedFd<'_>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let registered = match &self.fd {
            Some(registered) => registered,
            None => self.fd.insert(Async::new_nonblocking(fd.try_clone_to_owned()?)?),
        };
        loop {
            ready!(registered.poll_readable(cx))?;
            if is_readable(fd)? {
                return Poll::Ready(Ok(()));
            }
            // The event for which the latest turns were made.
        }
    }

    fn poll_deadline(&mut self, deadline: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let changed = std::mem::replace(&mut self.deadline, deadline) != deadline;
        if changed {
            match (deadline, &mut self.timer) {
                (Some(deadline), Some(timer)) => timer.set_at(deadline),
                (deadline, timer) => *timer = deadline.map(Timer::at),
            }
        }
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        let fired = Pin::new(timer).poll(cx).map(drop);
        if fired.is_ready() {
            // It fires once: the same deadline is set anew if it is not due yet.
            self.deadline = None;
            self.timer = None;
        }
        fired
    }
}

impl HostLoop for AsyncIoHost {
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

impl fmt::Debug for AsyncIoHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncIoHost").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

//! Any descriptor that can be waited for.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::AsyncWrite;

use crate::constants::READ_SIZE;
use crate::error::invalid_input;
use crate::event_loop::source::Source;
use crate::executor::required_loop;
use crate::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use crate::os::room::Room;
use crate::os::socket::would_block;
use crate::reactor::slot::Direction;
use crate::reactor::{Interest, Readiness};
use crate::stream::shared::SharedSource;
use crate::stream::traits::{ReadInto, impl_read_traits, impl_write_traits};

/// A descriptor of any kind that can be waited for: what a library of another language, a device or a kernel facility gives.
///
/// It waits, and the calls are yours: [`readable`](Self::readable) and [`writable`](Self::writable) say when one is worth a
/// try, and [`async_io`](Self::async_io) tries until it does not block. Several tasks may wait at once. The descriptor must
/// be non-blocking, unless each call is made only once it was said to be worth it.
///
/// What it is ready for is remembered: a call that would have blocked has to be told, by `async_io`,
/// [`ReadyGuard::try_io`] or [`ReadyGuard::clear_ready`], and the next event has to tell otherwise. So call until it blocks,
/// or keep to `async_io`.
///
/// Where `T` reads and writes in the way of std, this is a stream of the `futures` traits (and of tokio's and hyper's, with
/// these features): `AsyncRead` if `T: Read`, `AsyncWrite` if `T: Write`, and so is a reference to it if `&T` is one of them,
/// for several tasks: of those who poll in one direction the last one is woken. The descriptor must be non-blocking then.
///
/// Dropping it drops the descriptor, and closes it if `T` does that; so does an error of [`new`](Self::new). For a descriptor
/// that is to live on pass a reference, or an `Rc`.
///
/// ```
/// use roundelay::AsyncFd;
/// use roundelay::selector::Interest;
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
///
/// roundelay::block_on(async {
///     let (a, mut b) = UnixStream::pair()?;
///     a.set_nonblocking(true)?;
///     let a = AsyncFd::new(a)?;
///     b.write_all(b"hello")?;
///     let mut data = [0; 16];
///     let n = a.async_io(Interest::READABLE, |mut stream| stream.read(&mut data)).await?;
///     assert_eq!(&data[..n], b"hello");
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
///
/// The same by the traits, in two tasks' worth of directions:
///
/// ```
/// use futures::{AsyncReadExt, AsyncWriteExt};
/// use roundelay::AsyncFd;
/// use std::os::unix::net::UnixStream;
///
/// roundelay::block_on(async {
///     let (a, b) = UnixStream::pair()?;
///     a.set_nonblocking(true)?;
///     b.set_nonblocking(true)?;
///     let (a, mut b) = (AsyncFd::new(a)?, AsyncFd::new(b)?);
///     let (mut reader, mut writer) = (&a, &a);
///     let (mut question, mut answer) = ([0; 5], [0; 5]);
///     futures::try_join!(
///         async { writer.write_all(b"hello").await },
///         async { reader.read_exact(&mut answer).await },
///         async {
///             b.read_exact(&mut question).await?;
///             b.write_all(&question).await
///         },
///     )?;
///     assert_eq!(&answer, b"hello");
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
pub struct AsyncFd<T: AsFd> {
    shared: SharedSource<T>,
    interest: Interest,
}

impl<T: AsFd> AsyncFd<T> {
    /// Watches a descriptor, for reading and writing.
    ///
    /// # Errors
    ///
    /// As [`with_interest`](Self::with_interest).
    ///
    /// # Panics
    ///
    /// Outside of a running event loop.
    #[track_caller]
    pub fn new(io: T) -> io::Result<Self> {
        Self::watch("new", io, Interest::BOTH)
    }

    /// Watches a descriptor for some directions only.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` for what cannot be waited for, such as a regular file, which never blocks for long;
    /// `AlreadyExists` if the running loop watches the descriptor already; `InvalidInput` for no direction at all; the
    /// operating system's; [`LoopClosed`](crate::LoopClosed) as an `io::Error`.
    ///
    /// # Panics
    ///
    /// Outside of a running event loop.
    #[track_caller]
    pub fn with_interest(io: T, interest: Interest) -> io::Result<Self> {
        Self::watch("with_interest", io, interest)
    }

    #[track_caller]
    fn watch(function: &str, io: T, interest: Interest) -> io::Result<Self> {
        let el = required_loop(&format!("AsyncFd::{function}"));
        let fd = io.as_fd().as_raw_fd();
        if interest == Interest::NONE {
            return Err(invalid_input(format!("AsyncFd::{function}(): there is no direction to wait for")));
        }
        // Nothing is ready before the selector says so: the first call of a blocking descriptor must not block.
        let source = Source::with_interest(&el.core, io, interest, Readiness::NONE).map_err(|error| {
            let reason = match error.kind() {
                io::ErrorKind::PermissionDenied => "cannot be waited for: is it a regular file?",
                io::ErrorKind::AlreadyExists => "is watched already",
                _ => return error,
            };
            io::Error::new(error.kind(), format!("AsyncFd::{function}(): descriptor {fd} {reason}"))
        })?;
        Ok(Self { shared: SharedSource::new(source), interest })
    }

    /// Waits until reading is worth a try: there is something, or an end, or an error.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it is not watched for reading; [`LoopClosed`](crate::LoopClosed) as an `io::Error`.
    pub async fn readable(&self) -> io::Result<ReadyGuard<'_, T>> {
        self.ready_in("readable", Interest::READABLE).await
    }

    /// Waits until writing is worth a try: there is room, or an error.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it is not watched for writing; [`LoopClosed`](crate::LoopClosed) as an `io::Error`.
    pub async fn writable(&self) -> io::Result<ReadyGuard<'_, T>> {
        self.ready_in("writable", Interest::WRITABLE).await
    }

    /// Waits until one of several directions is worth a try.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a direction that it is not watched for, and for none; [`LoopClosed`](crate::LoopClosed) as an
    /// `io::Error`.
    pub async fn ready(&self, interest: Interest) -> io::Result<ReadyGuard<'_, T>> {
        self.ready_in("ready", interest).await
    }

    async fn ready_in(&self, method: &str, interest: Interest) -> io::Result<ReadyGuard<'_, T>> {
        self.check(method, interest)?;
        let (reader, writer) =
            (self.shared.waiters(Direction::Read).join(), self.shared.waiters(Direction::Write).join());
        poll_fn(|cx| {
            std::task::ready!(self.source().core().poll_budget(cx));
            let polled = |direction, waiter: &crate::event_loop::waiters::Waiter, cx: &mut Context<'_>| {
                waiter.poll(cx, |cx| self.source().poll_ready(direction, cx))
            };
            let read = if interest.readable { polled(Direction::Read, &reader, cx) } else { Poll::Pending };
            let write = if interest.writable { polled(Direction::Write, &writer, cx) } else { Poll::Pending };
            match (read, write) {
                (Poll::Pending, Poll::Pending) => return Poll::Pending,
                (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => return Poll::Ready(Err(error)),
                _ => self.source().core().spend_budget(),
            }
            Poll::Ready(Ok(self.guard(interest)))
        })
        .await
    }

    /// As [`readable`](Self::readable), for whoever polls: the one who polled last is woken.
    ///
    /// # Errors
    ///
    /// As [`readable`](Self::readable).
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<ReadyGuard<'_, T>>> {
        self.poll_ready("poll_read_ready", Direction::Read, cx)
    }

    /// As [`writable`](Self::writable), for whoever polls: the one who polled last is woken.
    ///
    /// # Errors
    ///
    /// As [`writable`](Self::writable).
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<ReadyGuard<'_, T>>> {
        self.poll_ready("poll_write_ready", Direction::Write, cx)
    }

    fn poll_ready(
        &self,
        method: &str,
        direction: Direction,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<ReadyGuard<'_, T>>> {
        let interest = match direction {
            Direction::Read => Interest::READABLE,
            Direction::Write => Interest::WRITABLE,
        };
        self.check(method, interest)?;
        std::task::ready!(self.source().core().poll_budget(cx));
        std::task::ready!(self.shared.waiters(direction).poll(cx, |cx| self.source().poll_ready(direction, cx)))?;
        self.source().core().spend_budget();
        Poll::Ready(Ok(self.guard(interest)))
    }

    /// Calls `io` when it is worth a try, and again for as long as it would have blocked (`WouldBlock`).
    ///
    /// # Errors
    ///
    /// What `io` returns; otherwise as [`ready`](Self::ready).
    pub async fn async_io<R>(&self, interest: Interest, mut io: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        loop {
            match self.ready_in("async_io", interest).await?.try_io(&mut io) {
                Err(error) if would_block(&error) => {}
                result => return result,
            }
        }
    }

    /// As [`async_io`](Self::async_io), with a mutable reference.
    ///
    /// # Errors
    ///
    /// As [`async_io`](Self::async_io).
    pub async fn async_io_mut<R>(
        &mut self,
        interest: Interest,
        mut io: impl FnMut(&mut T) -> io::Result<R>,
    ) -> io::Result<R> {
        loop {
            let seen = self.ready_in("async_io_mut", interest).await?.seen;
            match io(self.get_mut()) {
                Err(error) if would_block(&error) => self.clear(interest, seen),
                result => return result,
            }
        }
    }

    /// Calls `io` if it is worth a try, as far as is known.
    ///
    /// # Errors
    ///
    /// What `io` returns; `WouldBlock` if it was not called; `InvalidInput` for a direction that it is not watched for.
    pub fn try_io<R>(&self, interest: Interest, io: impl FnOnce(&T) -> io::Result<R>) -> io::Result<R> {
        self.check("try_io", interest)?;
        let mut guard = self.guard(interest);
        let worth =
            interest.readable && guard.readiness.is_readable() || interest.writable && guard.readiness.is_writable();
        if !worth {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        guard.try_io(io)
    }

    /// Counts the bytes of one call as a part of the task's share.
    fn spend(&self, n: usize) {
        self.source().core().spend_bytes(n);
    }

    /// Pending where reading is known not to be worth a try.
    fn poll_worth_reading(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check("poll_read", Interest::READABLE)?;
        self.shared.waiters(Direction::Read).poll(cx, |cx| self.source().poll_ready(Direction::Read, cx))
    }

    fn source(&self) -> &Source<T> {
        self.shared.source()
    }

    fn check(&self, method: &str, interest: Interest) -> io::Result<()> {
        let unwatched = match interest {
            Interest::NONE => {
                return Err(invalid_input(format!("AsyncFd::{method}(): there is no direction to wait for")));
            }
            Interest { readable: true, .. } if !self.interest.readable => "reading",
            Interest { writable: true, .. } if !self.interest.writable => "writing",
            _ => return Ok(()),
        };
        Err(invalid_input(format!("AsyncFd::{method}(): the descriptor is not watched for {unwatched}")))
    }

    fn guard(&self, interest: Interest) -> ReadyGuard<'_, T> {
        let (readiness, seen) = self.source().readiness();
        ReadyGuard { fd: self, interest, readiness, seen }
    }

    /// A call would have blocked: waits for an event, unless there was one since.
    fn clear(&self, interest: Interest, seen: u32) {
        if self.source().readiness().1 != seen {
            return;
        }
        if interest.readable {
            self.source().clear_ready(Direction::Read);
        }
        if interest.writable {
            self.source().clear_ready(Direction::Write);
        }
    }

    /// What was given to [`new`](Self::new).
    pub fn get_ref(&self) -> &T {
        self.shared.io()
    }

    /// The same, mutably. It must go on to have the same descriptor.
    pub fn get_mut(&mut self) -> &mut T {
        self.shared.io_mut()
    }

    /// Gives it back, unwatched.
    pub fn into_inner(self) -> T {
        self.shared.into_io()
    }
}

/// An `AsyncFd`, or a reference to one.
trait Holds<T: AsFd> {
    fn of(&self) -> &AsyncFd<T>;
}

impl<T: AsFd> Holds<T> for AsyncFd<T> {
    fn of(&self) -> &AsyncFd<T> {
        self
    }
}

impl<T: AsFd> Holds<T> for &AsyncFd<T> {
    fn of(&self) -> &AsyncFd<T> {
        self
    }
}

/// Calls `io` when it is worth a try, until it does not block. Nothing else says that there is no more: a short read may be
/// that of a terminal's line, a device's record or an end of file.
fn poll_io<F: Holds<T>, T: AsFd, R>(
    fd: &mut F,
    direction: Direction,
    cx: &mut Context<'_>,
    mut io: impl FnMut(&mut F) -> io::Result<R>,
) -> Poll<io::Result<R>> {
    let (method, interest) = match direction {
        Direction::Read => ("poll_read", Interest::READABLE),
        Direction::Write => ("poll_write", Interest::WRITABLE),
    };
    loop {
        let seen = std::task::ready!(fd.of().poll_ready(method, direction, cx))?.seen;
        match io(fd) {
            Err(error) if would_block(&error) => fd.of().clear(interest, seen),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return Poll::Ready(result),
        }
    }
}

/// The traits, for an `AsyncFd` or a reference to one, whose method `$io` gives what std reads from and writes to.
macro_rules! impl_io {
    (([$($generics:tt)*] $name:ty where [$($inner:tt)*]), $io:ident) => {
        impl<$($generics)*> ReadInto for $name where T: AsFd, $($inner)*: Read {
            fn poll_read_into(&mut self, cx: &mut Context<'_>, room: &mut Room<'_>) -> Poll<io::Result<()>> {
                if room.left() == 0 {
                    return Poll::Ready(Ok(()));
                }
                let polled = poll_io(self, Direction::Read, cx, |fd| room.fill(READ_SIZE, |buf| fd.$io().read(buf)));
                polled.map_ok(|n| self.of().spend(n))
            }

            fn poll_worth_reading(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.of().poll_worth_reading(cx)
            }
        }

        impl_read_traits!(([$($generics)*] $name where [T: AsFd, $($inner)*: Read]));

        impl<$($generics)*> AsyncWrite for $name where T: AsFd, $($inner)*: Write {
            fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                let polled = poll_io(&mut *self, Direction::Write, cx, |fd| fd.$io().write(buf));
                polled.map_ok(|n| {
                    self.of().spend(n);
                    n
                })
            }

            fn poll_write_vectored(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                let polled = poll_io(&mut *self, Direction::Write, cx, |fd| fd.$io().write_vectored(bufs));
                polled.map_ok(|n| {
                    self.of().spend(n);
                    n
                })
            }

            /// Flushes what `T` itself may keep; it waits only if that would block.
            fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                let this = &mut *self;
                match this.$io().flush() {
                    Err(error) if would_block(&error) => {}
                    result => return Poll::Ready(result),
                }
                poll_io(this, Direction::Write, cx, |fd| fd.$io().flush())
            }

            /// Flushes; nothing is ended before it is dropped, for std has no word for that.
            fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_flush(cx)
            }
        }

        impl_write_traits!(([$($generics)*] $name where [T: AsFd, $($inner)*: Write]), vectored: true);
    };
}

impl_io!(([T] AsyncFd<T> where [T]), get_mut);
impl_io!((['b, T] &'b AsyncFd<T> where [for<'a> &'a T]), get_ref);

// What is in it is never pinned.
impl<T: AsFd> Unpin for AsyncFd<T> {}

impl<T: AsFd> AsFd for AsyncFd<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.get_ref().as_fd()
    }
}

impl<T: AsFd> AsRawFd for AsyncFd<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl<T: AsFd + fmt::Debug> fmt::Debug for AsyncFd<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (readiness, _) = self.source().readiness();
        f.debug_struct("AsyncFd").field("io", self.get_ref()).field("readiness", &readiness).finish()
    }
}

/// An [`AsyncFd`] that is ready, until a call says otherwise.
#[must_use = "what the descriptor is ready for is to be used, and cleared when it is used up"]
pub struct ReadyGuard<'a, T: AsFd> {
    fd: &'a AsyncFd<T>,
    interest: Interest,
    readiness: Readiness,
    /// The number of events when it was made.
    seen: u32,
}

impl<T: AsFd> ReadyGuard<'_, T> {
    /// What it is ready for, in any direction.
    pub fn readiness(&self) -> Readiness {
        self.readiness
    }

    /// What was given to [`AsyncFd::new`].
    pub fn get_ref(&self) -> &T {
        self.fd.get_ref()
    }

    /// Says that a call would have blocked, in the directions that were waited for: the next one waits for an event. If
    /// there was one since the guard was made, nothing is cleared.
    pub fn clear_ready(&mut self) {
        self.fd.clear(self.interest, self.seen);
    }

    /// Makes a call, and [clears](Self::clear_ready) if it would have blocked.
    ///
    /// # Errors
    ///
    /// What the call returns; `WouldBlock` among it.
    pub fn try_io<R>(&mut self, io: impl FnOnce(&T) -> io::Result<R>) -> io::Result<R> {
        let result = io(self.fd.get_ref());
        if result.as_ref().is_err_and(would_block) {
            self.clear_ready();
        }
        result
    }
}

impl<T: AsFd> fmt::Debug for ReadyGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadyGuard").field("readiness", &self.readiness).finish_non_exhaustive()
    }
}

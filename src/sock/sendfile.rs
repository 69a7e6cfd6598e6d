//! Files to sockets, and what is awaited for it.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::error::invalid_input;
use crate::event_loop::EventLoop;
use crate::event_loop::wait::Wait;
use crate::os::fd::AsFd;
use crate::os::socket;
use crate::reactor::slot::Direction;
use crate::sock::check;
use crate::sock::file::{Call, Request, Sink, send};

/// A file that is about to be sent: see [`EventLoop::sendfile`] and [`EventLoop::sock_sendfile`]. Await it.
#[must_use = "nothing happens before it is awaited"]
pub struct Sendfile<'a> {
    el: EventLoop,
    method: &'static str,
    request: Request,
    sink: Box<dyn Sink + 'a>,
}

impl<'a> Sendfile<'a> {
    pub(crate) fn new(el: &EventLoop, method: &'static str, file: impl AsFd, sink: impl Sink + 'a) -> Self {
        Self { el: el.clone(), method, request: Request::new(file), sink: Box::new(sink) }
    }

    /// Begins at this byte of the file: at the first one unless this is called, wherever the file's position is.
    pub fn offset(mut self, offset: u64) -> Self {
        self.request.offset = offset;
        self
    }

    /// Sends at most so many bytes, which must not be zero: up to the file's end unless this is called.
    pub fn count(mut self, count: impl Into<Option<u64>>) -> Self {
        self.request.count = count.into();
        self
    }

    /// Whether the file is read and written where the system cannot send it by itself, instead of giving
    /// [`SendfileNotAvailable`](crate::SendfileNotAvailable): true unless this is called.
    pub fn fallback(mut self, fallback: bool) -> Self {
        self.request.fallback = fallback;
        self
    }
}

impl fmt::Debug for Sendfile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sendfile").field("method", &self.method).field("request", &self.request).finish_non_exhaustive()
    }
}

impl<'a> IntoFuture for Sendfile<'a> {
    type Output = io::Result<u64>;
    type IntoFuture = SendingFile<'a>;

    fn into_future(self) -> SendingFile<'a> {
        let Self { el, method, request, sink } = self;
        SendingFile { method, future: Box::pin(send(el, method, request, sink)) }
    }
}

/// The future of [`Sendfile`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct SendingFile<'a> {
    method: &'static str,
    future: Pin<Box<dyn Future<Output = io::Result<u64>> + 'a>>,
}

impl Future for SendingFile<'_> {
    type Output = io::Result<u64>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

impl fmt::Debug for SendingFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SendingFile<{}>", self.method)
    }
}

impl EventLoop {
    /// Sends a file over a connected stream socket that must be non-blocking, and gives the number of bytes. See
    /// [`sock_recv`](Self::sock_recv) for what a socket may be.
    ///
    /// The system's `sendfile` does it where it can: see [`sendfile`](Self::sendfile), which this is like in all that
    /// concerns the file. Dropping the future ends it, and the socket stays usable.
    ///
    /// # Errors
    ///
    /// As [`sendfile`](Self::sendfile), but that no error does anything to the socket. `InvalidInput` if it is no stream
    /// socket. Otherwise as [`sock_sendall`](Self::sock_sendall).
    ///
    /// ```
    /// use std::io::Read;
    /// use std::os::unix::net::UnixStream;
    ///
    /// let el = roundelay::EventLoop::new()?;
    /// let (socket, mut peer) = UnixStream::pair()?;
    /// socket.set_nonblocking(true)?;
    /// let file = std::fs::File::open("Cargo.toml")?;
    /// let sent = el.run_until_complete(el.sock_sendfile(&socket, &file).count(9)).unwrap()?;
    /// assert_eq!(sent, 9);
    /// let mut received = [0; 9];
    /// peer.read_exact(&mut received)?;
    /// assert_eq!(&received, b"[package]");
    /// # std::io::Result::Ok(())
    /// ```
    pub fn sock_sendfile<'a, S: AsFd + 'a>(&self, sock: S, file: impl AsFd) -> Sendfile<'a> {
        let wait = Wait::new(&self.core, "sock_sendfile", Direction::Write, sock);
        Sendfile::new(self, "sock_sendfile", file, SocketSink { el: self.clone(), wait })
    }
}

/// A socket of the application's.
struct SocketSink<S> {
    el: EventLoop,
    wait: Wait<S>,
}

impl<S: AsFd> Sink for SocketSink<S> {
    fn begin(&mut self, method: &str) -> io::Result<()> {
        if !socket::is_stream(self.wait.io())? {
            return Err(invalid_input(format!("EventLoop::{method}(): only stream sockets are supported")));
        }
        check(&self.el, &self.wait)
    }

    fn is_native(&self) -> bool {
        true
    }

    fn poll_call(&mut self, cx: &mut Context<'_>, call: &mut Call<'_>) -> Poll<io::Result<usize>> {
        let sent = ready!(self.wait.poll_io(cx, call));
        // The completion itself is counted already.
        Poll::Ready(sent.inspect(|&n| self.el.core.sent(n)))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_call(cx, &mut |socket| socket::send(socket, data))
    }
}

//! Files to sockets, and what is awaited for it.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::error::invalid_input;
use crate::event_loop::source::Source;
use crate::event_loop::tasks::BoxFuture;
use crate::event_loop::{Core, EventLoop};
use crate::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use crate::os::sendfile::duplicate;
use crate::os::socket;
use crate::reactor::slot::{Direction, Listener};
use crate::reactor::{Interest, Readiness};
use crate::sock::file::{Call, Request, Sink, send};

/// A file that is about to be sent: see [`EventLoop::sendfile`] and [`EventLoop::sock_sendfile`]. Await it.
#[must_use = "nothing happens before it is awaited"]
pub struct Sendfile {
    el: EventLoop,
    method: &'static str,
    request: Request,
    sink: Box<dyn Sink>,
}

impl Sendfile {
    pub(crate) fn new(el: &EventLoop, method: &'static str, file: impl AsFd, sink: impl Sink + 'static) -> Self {
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

impl fmt::Debug for Sendfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sendfile").field("method", &self.method).field("request", &self.request).finish_non_exhaustive()
    }
}

impl IntoFuture for Sendfile {
    type Output = io::Result<u64>;
    type IntoFuture = SendingFile;

    fn into_future(self) -> SendingFile {
        let Self { el, method, request, sink } = self;
        SendingFile { method, future: Box::pin(send(el, method, request, sink)) }
    }
}

/// The future of [`Sendfile`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct SendingFile {
    method: &'static str,
    future: BoxFuture<io::Result<u64>>,
}

impl Future for SendingFile {
    type Output = io::Result<u64>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

impl fmt::Debug for SendingFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SendingFile<{}>", self.method)
    }
}

impl EventLoop {
    /// Sends a file over a connected stream socket, which has to be non-blocking, and gives the number of bytes.
    ///
    /// The system's `sendfile` does it where it can: see [`sendfile`](Self::sendfile), which this is like in all that
    /// concerns the file. The socket is whatever has one: of `std`, of `socket2`, or a [`TcpStream`](crate::TcpStream).
    /// Nothing keeps others from writing to it meanwhile.
    ///
    /// Dropping the future ends it; the socket stays usable.
    ///
    /// # Errors
    ///
    /// As [`sendfile`](Self::sendfile), but that the socket is left alone by every error. `InvalidInput` if it is not a
    /// stream socket or, in debug mode, not non-blocking; `AlreadyExists` if a transport of this loop has it.
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
    pub fn sock_sendfile(&self, sock: impl AsFd, file: impl AsFd) -> Sendfile {
        let socket = claim(self, sock.as_fd());
        let sink = SocketSink { core: self.core.clone(), debug: self.debug(), socket, source: None };
        Sendfile::new(self, "sock_sendfile", file, sink)
    }
}

/// A descriptor of our own for a socket that no transport has.
fn claim(el: &EventLoop, sock: BorrowedFd<'_>) -> io::Result<Arc<OwnedFd>> {
    let fd = sock.as_raw_fd();
    let listener = el.core.reactor.borrow_mut().find(fd).map(|(_, slot)| matches!(slot.listener, Listener::Handler(_)));
    if listener == Some(true) {
        let text = format!("EventLoop::sock_sendfile(): descriptor {fd} is used by a transport: see sendfile()");
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    duplicate(sock).map(Arc::new)
}

/// A socket of the application's.
struct SocketSink {
    core: Rc<Core>,
    debug: bool,
    socket: io::Result<Arc<OwnedFd>>,
    /// Made when the socket is full for the first time.
    source: Option<Source<Arc<OwnedFd>>>,
}

impl SocketSink {
    fn socket(&self) -> &Arc<OwnedFd> {
        self.socket.as_ref().expect("begin() has looked at it")
    }
}

impl Sink for SocketSink {
    fn begin(&mut self, method: &str) -> io::Result<()> {
        let socket = match &mut self.socket {
            Ok(socket) => socket,
            Err(error) => return Err(std::mem::replace(error, io::ErrorKind::Other.into())),
        };
        if !socket::is_stream(socket.as_fd())? {
            return Err(invalid_input(format!("EventLoop::{method}(): only stream sockets are supported")));
        }
        if self.debug && !socket::is_nonblocking(socket.as_fd())? {
            return Err(invalid_input(format!("EventLoop::{method}(): the socket must be non-blocking")));
        }
        Ok(())
    }

    fn is_native(&self) -> bool {
        true
    }

    fn poll_call(&mut self, cx: &mut Context<'_>, call: &mut Call<'_>) -> Poll<io::Result<usize>> {
        if self.source.is_none() {
            ready!(self.core.poll_budget(cx));
            match call(self.socket().as_fd()) {
                Err(error) if socket::would_block(&error) => {
                    let socket = self.socket().clone();
                    let source = Source::with_interest(&self.core, socket, Interest::WRITABLE, Readiness::NONE)?;
                    self.source = Some(source);
                }
                result => return Poll::Ready(spent(&self.core, result)),
            }
        }
        let source = self.source.as_ref().expect("it was made above");
        let result = ready!(source.poll_io(Direction::Write, cx, |socket| call(socket.as_fd())));
        // `poll_io` has counted the completion.
        Poll::Ready(result.inspect(|&n| self.core.spend_bytes(n)))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_call(cx, &mut |socket| socket::send(socket, data))
    }
}

fn spent(core: &Core, result: io::Result<usize>) -> io::Result<usize> {
    core.spend_budget();
    result.inspect(|&n| core.spend_bytes(n))
}

//! TCP sockets as plain async types: no transport, no protocol, no buffer but the caller's.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_io::{AsyncBufRead, AsyncRead, AsyncWrite};
use socket2::{SockAddr, Socket};

use crate::constants::BUF_READ_SIZE;
use crate::error::LoopClosed;
use crate::event_loop::EventLoop;
use crate::event_loop::source::Source;
use crate::event_loop::tasks::BoxFuture;
use crate::executor::{LaterLoop, required_loop};
use crate::net::{ConnectOptions, Endpoint, connected_socket, set_nodelay};
use crate::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use crate::os::socket::{recv, send, send_vectored};
use crate::protocol::{Protocol, ProtocolRef, Transport};
use crate::reactor::slot::Direction;
use crate::transport::stream::{Parts, SocketTransport};

/// The buffer behind `AsyncBufRead`; it has memory only while it holds something.
#[derive(Default)]
struct ReadBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl ReadBuffer {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.bytes.len());
        if self.start == self.bytes.len() {
            *self = Self::default();
        }
    }
}

/// What the stream and its halves share.
struct Connection {
    source: Source<Socket>,
    /// Whether the writing side was ended.
    write_closed: Cell<bool>,
}

impl Connection {
    fn new(source: Source<Socket>) -> Rc<Self> {
        Rc::new(Self { source, write_closed: Cell::new(false) })
    }

    fn socket(&self) -> &Socket {
        self.source.io()
    }

    fn poll_receive(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let received = self.source.poll_io(Direction::Read, cx, |socket| recv(socket, buf));
        if let Poll::Ready(Ok(n)) = received {
            self.source.core().spend_bytes(n);
            // A short read means that the socket is drained: the next one need not be tried before an event.
            if n > 0 && n < buf.len() && !self.source.is_hangup() {
                self.source.clear_ready(Direction::Read);
            }
        }
        received
    }

    fn poll_read(&self, buffer: &mut ReadBuffer, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let n = buffer.rest().len().min(buf.len());
        if n > 0 {
            buf[..n].copy_from_slice(&buffer.rest()[..n]);
            buffer.consume(n);
            return Poll::Ready(Ok(n));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.poll_receive(cx, buf)
    }

    /// Fills the buffer if it is empty; it stays so at the end of the stream.
    fn poll_fill(&self, buffer: &mut ReadBuffer, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if buffer.rest().is_empty() {
            // Whoever merely waits needs no memory.
            std::task::ready!(self.source.poll_ready(Direction::Read, cx))?;
            let mut bytes = vec![0; BUF_READ_SIZE];
            let n = std::task::ready!(self.poll_receive(cx, &mut bytes))?;
            bytes.truncate(n);
            *buffer = ReadBuffer { bytes, start: 0 };
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(
        &self,
        cx: &mut Context<'_>,
        len: usize,
        send: impl Fn(&Socket) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if len == 0 {
            return Poll::Ready(Ok(0));
        }
        let sent = self.source.poll_io(Direction::Write, cx, |socket| send(socket));
        if let Poll::Ready(Ok(n)) = sent {
            self.source.core().spend_bytes(n);
            if n < len {
                self.source.clear_ready(Direction::Write);
            }
        }
        sent
    }

    fn close_write(&self) -> io::Result<()> {
        if self.write_closed.replace(true) {
            return Ok(());
        }
        match self.socket().shutdown(Shutdown::Write) {
            // The peer is gone already.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        internet(self.socket().peer_addr()?)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        internet(self.socket().local_addr()?)
    }
}

/// An address as one of the internet's.
pub(crate) fn internet(address: socket2::SockAddr) -> io::Result<SocketAddr> {
    address.as_socket().ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "not an internet address"))
}

/// A TCP connection as a plain async type.
///
/// It implements `AsyncRead`, `AsyncBufRead` and `AsyncWrite` of the `futures` crate: flushing has nothing to do, for
/// what was written is with the kernel; closing ends the writing half. Dropping it closes the connection.
///
/// ```
/// use futures::{AsyncReadExt, AsyncWriteExt};
/// use roundelay::{TcpListener, TcpStream};
///
/// roundelay::block_on(async {
///     let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
///     let mut client = TcpStream::connect(listener.local_addr()?).await?;
///     let (mut server, _) = listener.accept().await?;
///     client.write_all(b"ping").await?;
///     let mut data = [0; 4];
///     server.read_exact(&mut data).await?;
///     assert_eq!(&data, b"ping");
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
pub struct TcpStream {
    connection: Rc<Connection>,
    buffer: ReadBuffer,
}

impl TcpStream {
    /// Connects; see [`EventLoop::create_connection`] for what an endpoint is and how it is connected to.
    ///
    /// # Errors
    ///
    /// As [`EventLoop::create_connection`].
    ///
    /// # Panics
    ///
    /// If it is awaited outside of a running event loop.
    #[track_caller]
    pub fn connect(endpoint: impl Into<Endpoint>) -> TcpConnecting {
        let el = LaterLoop::new("TcpStream::connect");
        let options = ConnectOptions::new(endpoint.into());
        TcpConnecting { future: Box::pin(async move { Self::open(&el.get(), options).await }) }
    }

    async fn open(el: &EventLoop, options: ConnectOptions) -> io::Result<Self> {
        let connected = connected_socket(el, "TcpStream::connect", options).await?;
        let source = match connected.registration {
            Some(registration) => Source::adopt(&el.core, registration, connected.socket)?,
            None => Source::new(&el.core, connected.socket)?,
        };
        Ok(Self::over(source))
    }

    pub(crate) fn over(source: Source<Socket>) -> Self {
        Self { connection: Connection::new(source), buffer: ReadBuffer::default() }
    }

    /// Takes over a connected socket, which becomes non-blocking and sends small writes at once.
    ///
    /// # Errors
    ///
    /// The operating system's; `AlreadyExists` if the running loop watches the descriptor already.
    ///
    /// # Panics
    ///
    /// Outside of a running event loop.
    #[track_caller]
    pub fn from_std(stream: std::net::TcpStream) -> io::Result<Self> {
        let el = required_loop("TcpStream::from_std");
        stream.set_nonblocking(true)?;
        let socket = Socket::from(stream);
        set_nodelay(&socket);
        Ok(Self::over(Source::new(&el.core, socket)?))
    }

    fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Whether small writes are sent at once (`TCP_NODELAY`): yes, unless it was changed.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.connection.socket().tcp_nodelay()
    }

    /// Says whether small writes are sent at once.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.connection.socket().set_tcp_nodelay(nodelay)
    }

    /// Ends one direction or both.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.connection.socket().shutdown(how)
    }

    /// Goes on with a protocol: a transport over this connection. `factory` is called here and now, `connection_made` in a
    /// turn of its own, and in the current [`Context`](crate::Context). What was read ahead by `AsyncBufRead` and not consumed
    /// the protocol gets first. If the writing half was closed, it stays so.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`] as an `io::Error`; the selector's. The connection is closed.
    ///
    /// ```
    /// use futures::io::{AsyncBufReadExt, AsyncWriteExt};
    /// use roundelay::{Protocol, TcpListener, TcpStream, Transport};
    ///
    /// struct Echo;
    /// impl Protocol for Echo {
    ///     fn data_received(&mut self, transport: &Transport, data: &[u8]) {
    ///         transport.write(data);
    ///     }
    /// }
    ///
    /// roundelay::block_on(async {
    ///     let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    ///     let mut client = TcpStream::connect(listener.local_addr()?).await?;
    ///     let (mut server, _) = listener.accept().await?;
    ///     client.write_all(b"hello\nagain\n").await?;
    ///     let mut line = String::new();
    ///     server.read_line(&mut line).await?;
    ///     let (transport, _) = server.into_transport(|| Echo)?;
    ///     line.clear();
    ///     client.read_line(&mut line).await?;
    ///     assert_eq!(line, "again\n");
    ///     transport.close();
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn into_transport<F, P>(self, factory: F) -> io::Result<(Transport, ProtocolRef<P>)>
    where
        F: FnOnce() -> P,
        P: Protocol,
    {
        let Self { connection, buffer } = self;
        let connection = Rc::into_inner(connection).expect("a stream that is whole has its connection for itself");
        let Connection { source, write_closed } = connection;
        source_into_transport(source, buffer.rest(), write_closed.get(), factory)
    }

    /// The two halves, each a type of its own, for two tasks.
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        let read = OwnedReadHalf { connection: self.connection.clone(), buffer: self.buffer };
        (read, OwnedWriteHalf { connection: Some(self.connection) })
    }
}

/// A transport over the socket of a plain stream that has read so much ahead.
fn source_into_transport<F, P>(
    source: Source<Socket>,
    first: &[u8],
    write_ended: bool,
    factory: F,
) -> io::Result<(Transport, ProtocolRef<P>)>
where
    F: FnOnce() -> P,
    P: Protocol,
{
    let core = source.core().clone();
    if !core.is_open() {
        return Err(LoopClosed.into());
    }
    let (registration, socket) = source.into_parts();
    let address = |address: io::Result<SockAddr>| address.ok().and_then(|address| address.as_socket());
    let (local_addr, peer_addr) = (address(socket.local_addr()), address(socket.peer_addr()));
    let protocol = ProtocolRef::new(factory());
    let parts = Parts::new(protocol.clone().into(), local_addr, peer_addr);
    let transport = SocketTransport::take_over(&core, registration, socket, parts, first, write_ended)?;
    Ok((transport, protocol))
}

/// The future of [`TcpStream::connect`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct TcpConnecting {
    future: BoxFuture<io::Result<TcpStream>>,
}

impl Future for TcpConnecting {
    type Output = io::Result<TcpStream>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

impl fmt::Debug for TcpConnecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TcpConnecting")
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, "TcpStream", &self.connection)
    }
}

fn describe(f: &mut fmt::Formatter<'_>, name: &str, connection: &Connection) -> fmt::Result {
    let mut debug = f.debug_struct(name);
    if let Ok(address) = connection.local_addr() {
        debug.field("local", &address);
    }
    if let Ok(address) = connection.peer_addr() {
        debug.field("peer", &address);
    }
    debug.field("fd", &connection.socket().as_raw_fd()).finish()
}

/// The addresses and the descriptor, for a type with a `connection()`.
macro_rules! impl_socket {
    ($name:ident) => {
        impl $name {
            /// The address of the peer.
            ///
            /// # Errors
            ///
            /// The operating system's, if the peer is gone.
            pub fn peer_addr(&self) -> io::Result<SocketAddr> {
                self.connection().peer_addr()
            }

            /// The address of this end.
            ///
            /// # Errors
            ///
            /// The operating system's.
            pub fn local_addr(&self) -> io::Result<SocketAddr> {
                self.connection().local_addr()
            }
        }

        impl AsFd for $name {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.connection().socket().as_fd()
            }
        }

        impl AsRawFd for $name {
            fn as_raw_fd(&self) -> RawFd {
                self.connection().socket().as_raw_fd()
            }
        }
    };
}

/// Reading, for a type with a `connection` and a `buffer`.
macro_rules! impl_read {
    ($name:ident) => {
        impl AsyncRead for $name {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
                let this = self.get_mut();
                this.connection.poll_read(&mut this.buffer, cx, buf)
            }
        }

        impl AsyncBufRead for $name {
            fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
                let this = self.get_mut();
                std::task::ready!(this.connection.poll_fill(&mut this.buffer, cx))?;
                Poll::Ready(Ok(this.buffer.rest()))
            }

            fn consume(self: Pin<&mut Self>, n: usize) {
                self.get_mut().buffer.consume(n);
            }
        }
    };
}

/// Writing, for a type with a `connection()`.
macro_rules! impl_write {
    ($name:ident) => {
        impl AsyncWrite for $name {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                self.connection().poll_write(cx, buf.len(), |socket| send(socket, buf))
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                let bufs = &bufs[..bufs.len().min(crate::constants::MAX_IOVECS)];
                let len = bufs.iter().map(|buf| buf.len()).sum();
                self.connection().poll_write(cx, len, |socket| send_vectored(socket, bufs))
            }

            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(self.connection().close_write())
            }
        }
    };
}

impl_read!(TcpStream);
impl_write!(TcpStream);
impl_socket!(TcpStream);

/// The reading half of a [`TcpStream`].
pub struct OwnedReadHalf {
    connection: Rc<Connection>,
    buffer: ReadBuffer,
}

impl_read!(OwnedReadHalf);

impl OwnedReadHalf {
    /// The whole stream again.
    ///
    /// # Errors
    ///
    /// [`ReuniteError`], with both halves, if they are not of the same stream.
    pub fn reunite(self, write: OwnedWriteHalf) -> Result<TcpStream, ReuniteError> {
        if !Rc::ptr_eq(&self.connection, write.shared()) {
            return Err(ReuniteError { read: self, write });
        }
        let mut write = write;
        drop(write.connection.take());
        Ok(TcpStream { connection: self.connection, buffer: self.buffer })
    }

    fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl_socket!(OwnedReadHalf);

impl fmt::Debug for OwnedReadHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, "OwnedReadHalf", &self.connection)
    }
}

/// The writing half of a [`TcpStream`]. Dropping it ends that direction: the peer sees an end of file.
pub struct OwnedWriteHalf {
    /// `None` once it was reunited.
    connection: Option<Rc<Connection>>,
}

impl_write!(OwnedWriteHalf);

impl OwnedWriteHalf {
    fn shared(&self) -> &Rc<Connection> {
        self.connection.as_ref().expect("it is there until the half is reunited, which takes it")
    }

    fn connection(&self) -> &Connection {
        self.shared()
    }
}

impl_socket!(OwnedWriteHalf);

impl Drop for OwnedWriteHalf {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            // There is nobody to tell.
            let _ = connection.close_write();
        }
    }
}

impl fmt::Debug for OwnedWriteHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, "OwnedWriteHalf", self.connection())
    }
}

/// The halves given to [`OwnedReadHalf::reunite`] are of two streams. They are here again.
#[derive(Debug)]
pub struct ReuniteError {
    /// The reading half.
    pub read: OwnedReadHalf,
    /// The writing half.
    pub write: OwnedWriteHalf,
}

impl fmt::Display for ReuniteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the halves are not of the same stream")
    }
}

impl std::error::Error for ReuniteError {}

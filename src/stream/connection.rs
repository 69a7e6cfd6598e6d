//! What the plain stream types are made of: a registered socket, and a buffer for those who read lines.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::panic::Location;
use std::rc::Rc;
use std::task::{Context, Poll};

use socket2::Socket;

use crate::constants::BUF_READ_SIZE;
#[cfg(feature = "__tls")]
use crate::error::InvalidState;
use crate::error::{LoopClosed, invalid_input};
use crate::event_loop::source::Source;
use crate::os::fd::AsRawFd;
use crate::os::room::Room;
use crate::os::socket::{local_addr, peer_addr, shutdown};
use crate::protocol::{Protocol, ProtocolRef, Transport};
use crate::reactor::slot::Direction;
use crate::transport::stream::{Parts, SocketTransport};

/// The buffer behind `AsyncBufRead`; it has memory only while it holds something.
#[derive(Default)]
pub(super) struct ReadBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl ReadBuffer {
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(super) fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.bytes.len());
        if self.start == self.bytes.len() {
            *self = Self::default();
        }
    }
}

/// A stream cannot be given away as a socket alone: it has read ahead. It is here again.
///
/// ```
/// use futures::io::{AsyncBufReadExt, AsyncWriteExt};
/// use roundelay::UnixStream;
///
/// roundelay::block_on(async {
///     let (mut a, mut b) = UnixStream::pair()?;
///     b.write_all(b"one\ntwo").await?;
///     let mut line = String::new();
///     a.read_line(&mut line).await?;
///     let mut a = a.into_std().unwrap_err().stream;
///     assert_eq!(a.buffer(), b"two");
///     a.consume_unpin(3);
///     let _socket: std::os::unix::net::UnixStream = a.into_std()?;
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
#[derive(Debug)]
pub struct ReadAhead<S> {
    /// The stream.
    pub stream: S,
}

impl<S> fmt::Display for ReadAhead<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("into_std(): the stream has read ahead, and what is in its buffer would be lost")
    }
}

impl<S: fmt::Debug> std::error::Error for ReadAhead<S> {}

impl<S> From<ReadAhead<S>> for io::Error {
    /// The stream is closed.
    fn from(error: ReadAhead<S>) -> Self {
        invalid_input(error.to_string())
    }
}

/// What kind of connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tcp,
    /// Bytes may come with descriptors.
    Unix,
}

/// What the stream and its halves share.
pub(super) struct Connection {
    source: Source<Socket>,
    kind: Kind,
    /// Whether the writing side was ended.
    write_closed: Cell<bool>,
}

impl Connection {
    pub(super) fn new(source: Source<Socket>, kind: Kind) -> Rc<Self> {
        Rc::new(Self { source, kind, write_closed: Cell::new(false) })
    }

    pub(super) fn socket(&self) -> &Socket {
        self.source.io()
    }

    /// The socket, unwatched.
    pub(super) fn into_socket(self) -> Socket {
        let (registration, socket) = self.source.into_parts();
        drop(registration);
        socket
    }

    #[inline]
    fn poll_receive(&self, cx: &mut Context<'_>, room: &mut Room<'_>) -> Poll<io::Result<()>> {
        let received = self.source.poll_io(Direction::Read, cx, |socket| match self.kind {
            Kind::Tcp => room.recv(socket).map(|n| (n, false)),
            Kind::Unix => room.recv_local(socket),
        });
        received.map_ok(|(n, stopped_short)| {
            self.source.core().received(n);
            // A short read means that the socket is drained: the next one need not be tried before an event.
            if n > 0 && room.left() > 0 && !stopped_short && !self.source.is_hangup() {
                self.source.clear_ready(Direction::Read);
            }
        })
    }

    #[inline]
    pub(super) fn poll_read(
        &self,
        buffer: &mut ReadBuffer,
        cx: &mut Context<'_>,
        room: &mut Room<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.rest().is_empty() && room.left() > 0 {
            return self.poll_receive(cx, room);
        }
        let n = room.put(buffer.rest());
        buffer.consume(n);
        Poll::Ready(Ok(()))
    }

    /// Pending while there is known to be nothing to read.
    pub(super) fn poll_readable(&self, buffer: &ReadBuffer, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !buffer.rest().is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.source.poll_ready(Direction::Read, cx)
    }

    /// Fills the buffer if it is empty; it stays so at the end of the stream.
    pub(super) fn poll_fill(&self, buffer: &mut ReadBuffer, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if buffer.rest().is_empty() {
            // Whoever merely waits needs no memory.
            std::task::ready!(self.source.poll_ready(Direction::Read, cx))?;
            let mut bytes = vec![0; BUF_READ_SIZE];
            let mut room = Room::new(&mut bytes);
            std::task::ready!(self.poll_receive(cx, &mut room))?;
            let n = room.filled();
            bytes.truncate(n);
            *buffer = ReadBuffer { bytes, start: 0 };
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_write(
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
            self.source.core().sent(n);
            if n < len {
                self.source.clear_ready(Direction::Write);
            }
        }
        sent
    }

    pub(super) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if self.source.core().is_inherited() {
            // Of both processes it would be the end.
            return Err(LoopClosed.into());
        }
        shutdown(self.socket(), how)?;
        if how != Shutdown::Read {
            self.write_closed.set(true);
        }
        Ok(())
    }

    pub(super) fn close_write(&self) -> io::Result<()> {
        if self.write_closed.get() {
            return Ok(());
        }
        match self.shutdown(Shutdown::Write) {
            // The peer is gone already.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                self.write_closed.set(true);
                Ok(())
            }
            result => result,
        }
    }
}

impl Connection {
    /// Whether TLS can begin over it.
    ///
    /// # Errors
    ///
    /// Why not.
    #[cfg(feature = "__tls")]
    pub(super) fn check_carrying(&self, method: &str) -> io::Result<()> {
        if self.write_closed.get() {
            return Err(InvalidState::new(format!("{method}: the writing half was closed")).into());
        }
        Ok(())
    }

    /// A transport over the socket of a plain stream that has read so much ahead.
    pub(super) fn into_transport<F, P>(
        self,
        buffer: ReadBuffer,
        created_at: &'static Location<'static>,
        factory: F,
    ) -> io::Result<(Transport, ProtocolRef<P>)>
    where
        F: FnOnce() -> P,
        P: Protocol,
    {
        let core = self.source.core().clone();
        if !core.is_open() {
            return Err(LoopClosed.into());
        }
        let write_ended = self.write_closed.get();
        let (registration, socket) = self.source.into_parts();
        let protocol = ProtocolRef::new(factory());
        let parts = Parts::of_socket(protocol.clone().into(), &socket, created_at);
        let transport = SocketTransport::take_over(&core, registration, socket, parts, buffer.rest(), write_ended)?;
        Ok((transport, protocol))
    }
}

/// What a stream or a half of it is, for debugging.
pub(super) fn describe(f: &mut fmt::Formatter<'_>, name: &str, connection: &Connection) -> fmt::Result {
    let mut debug = f.debug_struct(name);
    if let Ok(address) = local_addr(connection.socket()) {
        debug.field("local", &format_args!("{address}"));
    }
    if let Ok(address) = peer_addr(connection.socket()) {
        debug.field("peer", &format_args!("{address}"));
    }
    debug.field("fd", &connection.socket().as_raw_fd()).finish()
}

/// Reading, for a type with a `connection` and a `buffer`.
macro_rules! impl_read {
    ($name:ident $(<$kind:ident>)?) => {
        impl $(<$kind>)? ReadInto for $name $(<$kind>)? {
            fn poll_read_into(&mut self, cx: &mut Context<'_>, room: &mut Room<'_>) -> Poll<io::Result<()>> {
                self.connection.poll_read(&mut self.buffer, cx, room)
            }

            fn poll_worth_reading(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.connection.poll_readable(&self.buffer, cx)
            }
        }

        impl_read_traits!(([$($kind)?] $name $(<$kind>)?));
        impl_buf_read_traits!(([$($kind)?] $name $(<$kind>)?));

        impl $(<$kind>)? futures_io::AsyncBufRead for $name $(<$kind>)? {
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
pub(super) use impl_read;

/// Writing, for a type with a `connection()`.
macro_rules! impl_write {
    ($name:ident $(<$kind:ident>)?) => {
        impl_write_traits!(([$($kind)?] $name $(<$kind>)?), vectored: true);

        impl $(<$kind>)? futures_io::AsyncWrite for $name $(<$kind>)? {
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
pub(super) use impl_write;

/// The descriptor, for a type with a `connection()`.
macro_rules! impl_descriptor {
    ($name:ident $(<$kind:ident>)?) => {
        impl $(<$kind>)? AsFd for $name $(<$kind>)? {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.connection().socket().as_fd()
            }
        }

        impl $(<$kind>)? AsRawFd for $name $(<$kind>)? {
            fn as_raw_fd(&self) -> RawFd {
                self.connection().socket().as_raw_fd()
            }
        }
    };
}
pub(super) use impl_descriptor;

/// The addresses of both ends, for a type with a `connection()`.
macro_rules! impl_addresses {
    ($name:ty, $address:ty, $of_kind:path) => {
        impl $name {
            /// The address of the peer.
            ///
            /// # Errors
            ///
            /// The operating system's, if the peer is gone.
            pub fn peer_addr(&self) -> io::Result<$address> {
                $of_kind(peer_addr(self.connection().socket())?)
            }

            /// The address of this end.
            ///
            /// # Errors
            ///
            /// The operating system's.
            pub fn local_addr(&self) -> io::Result<$address> {
                $of_kind(local_addr(self.connection().socket())?)
            }
        }
    };
}
pub(super) use impl_addresses;

/// What streams of every kind have beside how they are made: a `connection` and a `buffer`.
macro_rules! impl_stream {
    ($name:ident, $kind:expr, $address:ty, $of_kind:path, $std:ty) => {
        impl $name {
            pub(crate) fn over(source: Source<Socket>) -> Self {
                Self { connection: Connection::new(source, $kind), buffer: ReadBuffer::default() }
            }

            fn connection(&self) -> &Connection {
                &self.connection
            }

            /// Ends one direction or both.
            ///
            /// # Errors
            ///
            /// The operating system's.
            pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
                self.connection.shutdown(how)
            }

            /// Goes on with a protocol: a transport over this connection. `factory` is called here and now, `connection_made` in a
            /// turn of its own, and in the current [`Context`](crate::Context). What was read ahead by `AsyncBufRead` and not
            /// consumed the protocol gets first. If the writing half was closed, it stays so.
            ///
            /// # Errors
            ///
            /// [`LoopClosed`](crate::LoopClosed) as an `io::Error`; the selector's. The connection is closed.
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
            #[track_caller]
            pub fn into_transport<F, P>(self, factory: F) -> io::Result<(Transport, ProtocolRef<P>)>
            where
                F: FnOnce() -> P,
                P: Protocol,
            {
                self.into_transport_at(Location::caller(), factory)
            }

            fn into_transport_at<F, P>(
                self,
                created_at: &'static Location<'static>,
                factory: F,
            ) -> io::Result<(Transport, ProtocolRef<P>)>
            where
                F: FnOnce() -> P,
                P: Protocol,
            {
                let connection = Rc::into_inner(self.connection);
                connection.expect("a stream that is whole has its connection for itself").into_transport(
                    self.buffer,
                    created_at,
                    factory,
                )
            }

            /// Goes on with TLS.
            #[cfg(feature = "__tls")]
            pub(super) fn carry(
                self,
                method: &str,
                created_at: &'static Location<'static>,
                tls: crate::tls::TlsProtocol,
            ) -> io::Result<Transport> {
                self.connection.check_carrying(method)?;
                Ok(self.into_transport_at(created_at, || tls)?.0)
            }

            /// What was read ahead by `AsyncBufRead` and not consumed.
            pub fn buffer(&self) -> &[u8] {
                self.buffer.rest()
            }

            /// Gives the socket away, unwatched. It stays non-blocking. An `OwnedFd` can be made of it.
            ///
            /// # Errors
            ///
            /// [`ReadAhead`] if the stream has a [`buffer`](Self::buffer): those bytes would be lost. The stream is in it;
            /// consume them first.
            pub fn into_std(self) -> Result<$std, ReadAhead<Self>> {
                if !self.buffer.rest().is_empty() {
                    return Err(ReadAhead { stream: self });
                }
                let connection = Rc::into_inner(self.connection);
                let connection = connection.expect("a stream that is whole has its connection for itself");
                Ok(connection.into_socket().into())
            }

            /// The two halves, each a type of its own, for two tasks.
            pub fn into_split(self) -> (OwnedReadHalf<Self>, OwnedWriteHalf<Self>) {
                halves(self.connection, self.buffer)
            }
        }

        impl OwnedReadHalf<$name> {
            /// The whole stream again.
            ///
            /// # Errors
            ///
            /// [`ReuniteError`], with both halves, if they are not of the same stream.
            pub fn reunite(self, write: OwnedWriteHalf<$name>) -> Result<$name, ReuniteError<$name>> {
                let (connection, buffer) = self.join(write)?;
                Ok($name { connection, buffer })
            }
        }

        impl TryFrom<$name> for OwnedFd {
            type Error = ReadAhead<$name>;

            /// As `into_std`.
            fn try_from(stream: $name) -> Result<Self, ReadAhead<$name>> {
                Ok(stream.into_std()?.into())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                describe(f, stringify!($name), &self.connection)
            }
        }

        impl_read!($name);
        impl_write!($name);
        impl_descriptor!($name);
        impl_addresses!($name, $address, $of_kind);
        impl_addresses!(OwnedReadHalf<$name>, $address, $of_kind);
        impl_addresses!(OwnedWriteHalf<$name>, $address, $of_kind);
    };
}
pub(super) use impl_stream;

//! Both directions of a transport as one stream of the `futures` traits.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_io::{AsyncBufRead, AsyncWrite};

use crate::os::room::Room;
use crate::protocol::{ExtraInfo, Protocol, ProtocolRef, Transport};
use crate::stream::bridge::UnrelatedHalves;
use crate::stream::compat::{CompatReader, CompatWriter};
use crate::stream::reader::StreamReader;
use crate::stream::traits::{ReadInto, impl_buf_read_traits, impl_read_traits, impl_write_traits};
use crate::stream::writer::StreamWriter;

/// A connection over any transport as a plain async type: over TLS, where it is called [`TlsStream`](crate::TlsStream), a
/// stream of the application's, a tunnel, or what a test has in memory.
///
/// It implements `AsyncRead`, `AsyncBufRead` and `AsyncWrite` of the `futures` crate. What arrives is read ahead, up to
/// about 128 KiB unless the reader's [limit](StreamReader::set_limit) was another; then the transport is paused. Writing
/// waits while more is queued than the transport's [high mark](Transport::write_buffer_limits) (64 KiB), and takes at most
/// 256 KiB at a time. Flushing waits until everything is with the kernel. Closing flushes and ends the writing half, after
/// which the reading half goes on; over TLS it sends a `close_notify`. Dropping it closes the connection, and what is
/// queued is sent by the loop.
///
/// For plain sockets there are [`TcpStream`](crate::TcpStream) and [`UnixStream`](crate::UnixStream), which read into the
/// caller's buffer and queue nothing.
///
/// Made by [`TlsConnector::connect`](crate::TlsConnector::connect) and [`TlsAcceptor::accept`](crate::TlsAcceptor::accept),
/// of the halves that [`open_connection`](crate::open_connection) and [`start_server`](crate::start_server) give, by
/// [`StreamReader::reunite`], and of a transport:
///
/// ```
/// use futures::io::{AsyncBufReadExt, AsyncWriteExt};
///
/// roundelay::block_on(async {
///     let server = roundelay::start_server(
///         async |reader: roundelay::StreamReader, writer| {
///             let mut stream = reader.reunite(writer)?;
///             let mut line = String::new();
///             stream.read_line(&mut line).await?;
///             stream.write_all(line.to_uppercase().as_bytes()).await?;
///             stream.close().await
///         },
///         ("127.0.0.1", 0),
///     )
///     .await?;
///     let (reader, writer) = roundelay::open_connection(server.local_addrs()[0]).await?;
///     let mut stream = reader.reunite(writer)?;
///     stream.write_all(b"hello\n").await?;
///     let mut line = String::new();
///     stream.read_line(&mut line).await?;
///     assert_eq!(line, "HELLO\n");
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
pub struct TransportStream {
    reader: CompatReader,
    writer: CompatWriter,
}

impl TransportStream {
    /// Goes on with a stream in the place of a transport's protocol, as [`Transport::into_stream`] does.
    ///
    /// # Errors
    ///
    /// `NotConnected` if the connection is gone.
    ///
    /// # Panics
    ///
    /// Outside of a running event loop.
    #[track_caller]
    pub fn new(transport: Transport) -> io::Result<Self> {
        let (reader, writer) = transport.into_stream()?;
        Ok(Self::of(reader, writer))
    }

    /// Of halves that belong together.
    pub(super) fn of(reader: StreamReader, writer: StreamWriter) -> Self {
        writer.connection().allow_dropping();
        writer.transport().allow_half_close();
        Self { reader: reader.compat(), writer: writer.compat() }
    }

    /// The transport below: to abort the connection, or to set its water marks.
    pub fn transport(&self) -> Transport {
        self.writer.get_ref().transport()
    }

    /// What is known of the connection.
    pub fn extra_info(&self) -> ExtraInfo {
        self.transport().extra_info()
    }

    /// What was agreed on with the peer, over TLS: version, ALPN protocol, certificates. `None` otherwise, and once the
    /// connection is gone.
    #[cfg(feature = "__tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn tls_info(&self) -> Option<crate::protocol::TlsInfo> {
        self.extra_info().tls
    }

    /// The address of the peer, of the socket that is below all else.
    ///
    /// # Errors
    ///
    /// `Unsupported` if it has none of the internet's: see [`extra_info`](Self::extra_info) for others.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        known("peer_addr", self.extra_info().peer_addr)
    }

    /// The address of this end, of the socket that is below all else.
    ///
    /// # Errors
    ///
    /// As [`peer_addr`](Self::peer_addr).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        known("local_addr", self.extra_info().local_addr)
    }

    /// The two halves, each a type of its own, for two tasks. The connection is closed when both are dropped; to end one
    /// direction, close the writing half.
    pub fn into_split(self) -> (CompatReader, CompatWriter) {
        (self.reader, self.writer)
    }

    /// The two halves with asyncio's methods, such as [`readuntil`](StreamReader::readuntil) and
    /// [`drain`](StreamWriter::drain). What was read ahead is in the reader. Over TLS their
    /// [`write_eof`](StreamWriter::write_eof) is possible, as it is not otherwise.
    pub fn into_inner(self) -> (StreamReader, StreamWriter) {
        (self.reader.into_inner(), self.writer.into_inner())
    }

    /// Goes on with a protocol: see [`StreamWriter::into_protocol`]. What was read ahead the protocol gets first. Over TLS
    /// its [`KeepOpen::Yes`](crate::KeepOpen) has an effect, as it has not otherwise.
    pub fn into_transport<F, P>(self, factory: F) -> (Transport, ProtocolRef<P>)
    where
        F: FnOnce() -> P,
        P: Protocol,
    {
        let (reader, writer) = self.into_inner();
        writer.into_protocol(reader, factory).expect("they are of one connection")
    }

    /// Waits until the connection is gone. Closing the stream ends one direction; where that was done, this waits for the
    /// end of the other one, and then closes the connection: what has arrived can still be read. More than is read ahead is
    /// not received meanwhile, so read first from a peer that may have much to say.
    ///
    /// # Errors
    ///
    /// What ended it, if that was no orderly end; [`LoopClosed`](crate::LoopClosed) as an `io::Error` if the loop was
    /// closed before.
    pub async fn wait_closed(&self) -> io::Result<()> {
        if self.writer.has_ended() {
            poll_fn(|cx| self.reader.get_ref().poll_end(cx)).await;
            self.transport().close();
        }
        self.writer.get_ref().wait_closed().await
    }
}

fn known(method: &str, address: Option<SocketAddr>) -> io::Result<SocketAddr> {
    let unknown = || {
        let text = format!("TransportStream::{method}(): the connection has no address of the internet's");
        io::Error::new(io::ErrorKind::Unsupported, text)
    };
    address.ok_or_else(unknown)
}

impl StreamReader {
    /// Both halves of a connection as one stream of the `futures` traits.
    ///
    /// # Errors
    ///
    /// [`UnrelatedHalves`], with both, if the writer is not of the same connection.
    pub fn reunite(self, writer: StreamWriter) -> Result<TransportStream, UnrelatedHalves> {
        match self.connection().is_some_and(|connection| Rc::ptr_eq(connection, writer.connection())) {
            true => Ok(TransportStream::of(self, writer)),
            false => Err(UnrelatedHalves { reader: self, writer, method: "StreamReader::reunite" }),
        }
    }
}

impl CompatReader {
    /// Both halves of a connection as one stream.
    ///
    /// # Errors
    ///
    /// [`UnrelatedHalves`], with both, if the writer is not of the same connection.
    #[allow(clippy::result_large_err, reason = "the stream is of that size, too")]
    pub fn reunite(self, writer: CompatWriter) -> Result<TransportStream, UnrelatedHalves<Self, CompatWriter>> {
        let (mine, its) = (self.get_ref().connection(), writer.get_ref().connection());
        if !mine.is_some_and(|connection| Rc::ptr_eq(connection, its)) {
            return Err(UnrelatedHalves { reader: self, writer, method: "CompatReader::reunite" });
        }
        its.allow_dropping();
        writer.get_ref().transport().allow_half_close();
        Ok(TransportStream { reader: self, writer })
    }
}

impl ReadInto for TransportStream {
    fn poll_read_into(&mut self, cx: &mut Context<'_>, room: &mut Room<'_>) -> Poll<io::Result<()>> {
        self.reader.poll_read_into(cx, room)
    }

    fn poll_worth_reading(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.reader.poll_worth_reading(cx)
    }
}

impl_read_traits!(([] TransportStream));
impl_buf_read_traits!(([] TransportStream));
impl_write_traits!(([] TransportStream), vectored: true);

impl AsyncBufRead for TransportStream {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        Pin::new(&mut self.get_mut().reader).poll_fill_buf(cx)
    }

    fn consume(mut self: Pin<&mut Self>, n: usize) {
        Pin::new(&mut self.reader).consume(n);
    }
}

impl AsyncWrite for TransportStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_close(cx)
    }
}

impl fmt::Debug for TransportStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransportStream").field("reader", &self.reader).field("writer", &self.writer).finish()
    }
}

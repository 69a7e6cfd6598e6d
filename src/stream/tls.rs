//! TLS as a plain async type.

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::Location;

use futures_io::{AsyncRead, AsyncWrite};

use crate::constants::STREAM_LIMIT;
use crate::error::LoopClosed;
use crate::event_loop::EventLoop;
use crate::executor::LaterLoop;
use crate::protocol::{ProtocolRef, Transport};
use crate::stream::protocol::StreamProtocol;
use crate::stream::tcp::TcpStream;
use crate::stream::transport_stream::TransportStream;
use crate::stream::unix::UnixStream;
use crate::tls::{Standing, StartingTls, TlsAcceptor, TlsConnector, TlsOptions, TlsProtocol, TlsSide};

/// A TLS connection as a plain async type: what [`TlsConnector::connect`] and [`TlsAcceptor::accept`] give.
///
/// [`tls_info`](TransportStream::tls_info) tells what was agreed on. Closing it sends a `close_notify`, and reading goes on
/// until the peer has sent its own; as with [`TcpStream`], a peer that says no more may be written to. An end of the carrier
/// without a `close_notify` is an end of file, unless the configuration requires one:
/// then it is an error of kind `UnexpectedEof`.
pub type TlsStream = TransportStream;

/// A TLS handshake that is about to be made: see [`TlsConnector::connect`] and [`TlsAcceptor::accept`]. Await it.
#[must_use = "nothing happens before it is awaited"]
pub struct TlsHandshake<S> {
    el: LaterLoop,
    stream: S,
    method: &'static str,
    options: TlsOptions,
    created_at: &'static Location<'static>,
}

impl TlsConnector {
    /// Speaks TLS over a stream, as the client. The server's certificate has to be for `server_name`, a name or an IP
    /// address, which is sent to the server, too, if it is a name (SNI). Empty it stands for any name, which only a connector
    /// takes that does not check names.
    ///
    /// The stream may be of any type with the traits of the `futures` crate: a [`TcpStream`] or a [`UnixStream`], which work
    /// on the socket as [`open_connection`](crate::open_connection) does with TLS; a [`TlsStream`] again; one through a
    /// tunnel, of another library's, or in memory. It is used up, also where this fails: then it is closed. What was read
    /// ahead by `AsyncBufRead` and not consumed is taken for the server's first words.
    ///
    /// # Errors
    ///
    /// Why the handshake has failed: `InvalidData`, with the error of [`rustls`], for what the peer has done or has not
    /// shown; `ConnectionAborted` where it took too long; `ConnectionReset` where the peer is gone. `InvalidInput` for a name
    /// that is none; what is wrong with the configuration; [`InvalidState`](crate::InvalidState) as an `io::Error` for a
    /// stream that is closing or whose writing half was ended; [`LoopClosed`](crate::LoopClosed) as an `io::Error`.
    ///
    /// # Panics
    ///
    /// If it is awaited outside of a running event loop.
    ///
    /// ```
    /// use futures::{AsyncReadExt, AsyncWriteExt};
    /// use roundelay::{TcpListener, TcpStream, TlsAcceptor, TlsConnector, TlsIdentity};
    ///
    /// // A certificate that signs itself, and a client that trusts it.
    /// let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    /// let identity = TlsIdentity::from_pem(made.cert.pem(), made.signing_key.serialize_pem())?;
    /// let acceptor = TlsAcceptor::builder().identity(identity).alpn(["echo"]).build()?;
    /// let connector = TlsConnector::builder().roots_from_pem(made.cert.pem()).alpn(["echo"]).build()?;
    ///
    /// roundelay::block_on(async {
    ///     let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    ///     let address = listener.local_addr()?;
    ///     let echo = roundelay::spawn(async move {
    ///         let (stream, _) = listener.accept().await?;
    ///         let mut stream = acceptor.accept(stream).await?;
    ///         let mut data = String::new();
    ///         stream.read_to_string(&mut data).await?;
    ///         stream.write_all(data.as_bytes()).await?;
    ///         stream.close().await
    ///     });
    ///
    ///     let stream = TcpStream::connect(address).await?;
    ///     let mut stream = connector.connect(stream, "localhost").await?;
    ///     assert_eq!(stream.tls_info().unwrap().alpn_protocol.as_deref(), Some(&b"echo"[..]));
    ///     stream.write_all(b"round and round").await?;
    ///     // The peer sees an end, and its answer is still read.
    ///     stream.close().await?;
    ///     let mut data = String::new();
    ///     stream.read_to_string(&mut data).await?;
    ///     assert_eq!(data, "round and round");
    ///     echo.await.unwrap()
    /// })
    /// # ?; std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub fn connect<S>(&self, stream: S, server_name: impl Into<String>) -> TlsHandshake<S>
    where
        S: AsyncRead + AsyncWrite + 'static,
    {
        let options = TlsOptions { server_hostname: Some(server_name.into()), ..TlsOptions::of(self.clone().into()) };
        TlsHandshake::new("TlsConnector::connect", stream, options)
    }
}

impl TlsAcceptor {
    /// Speaks TLS over a stream, as the server. See [`TlsConnector::connect`] for what it may be, and for an example.
    ///
    /// Await it in a task of the connection's own, so that a slow client does not keep others from being accepted.
    ///
    /// # Errors
    ///
    /// As [`TlsConnector::connect`].
    ///
    /// # Panics
    ///
    /// If it is awaited outside of a running event loop.
    #[track_caller]
    pub fn accept<S>(&self, stream: S) -> TlsHandshake<S>
    where
        S: AsyncRead + AsyncWrite + 'static,
    {
        TlsHandshake::new("TlsAcceptor::accept", stream, TlsOptions::of(TlsSide::from(self.clone())))
    }
}

impl<S> TlsHandshake<S> {
    #[track_caller]
    fn new(method: &'static str, stream: S, options: TlsOptions) -> Self {
        Self { el: LaterLoop::new(method), stream, method, options, created_at: Location::caller() }
    }

    crate::tls::tls_limits!(options);
}

impl<S> fmt::Debug for TlsHandshake<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsHandshake").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + 'static> IntoFuture for TlsHandshake<S> {
    type Output = io::Result<TlsStream>;
    type IntoFuture = StartingTls<TlsStream>;

    fn into_future(self) -> StartingTls<TlsStream> {
        StartingTls::new(shake_hands(self))
    }
}

async fn shake_hands<S: AsyncRead + AsyncWrite + 'static>(handshake: TlsHandshake<S>) -> io::Result<TlsStream> {
    let TlsHandshake { el, stream, method, options, created_at } = handshake;
    let el = el.get();
    if el.is_closed() {
        return Err(LoopClosed.into());
    }
    let start = options.check(method, None)?.expect("it has a side");
    let engine = start.engine(method)?;
    let protocol = ProtocolRef::new(StreamProtocol::new(&el, STREAM_LIMIT, None));
    let tls = start.protocol(&el.core, engine, Standing::New, protocol.clone().into());
    let handshake = tls.handshake();
    let lower = carry(&el, method, stream, created_at, tls)?;
    handshake.begin(&lower);
    let transport = handshake.done().await?;
    let (reader, writer) = protocol.with(|protocol| protocol.halves(&transport));
    Ok(TransportStream::of(reader, writer))
}

/// A transport for TLS to stand on: for the crate's own streams what is below them, else one over the stream.
fn carry<S: AsyncRead + AsyncWrite + 'static>(
    el: &EventLoop,
    method: &str,
    stream: S,
    created_at: &'static Location<'static>,
    tls: TlsProtocol,
) -> io::Result<Transport> {
    let mut stream = Some(stream);
    if let Some(stream) = take::<_, TcpStream>(&mut stream) {
        return stream.carry(method, created_at, tls);
    }
    if let Some(stream) = take::<_, UnixStream>(&mut stream) {
        return stream.carry(method, created_at, tls);
    }
    if let Some(stream) = take::<_, TransportStream>(&mut stream) {
        stream.transport().check_carrying(method)?;
        return Ok(stream.into_transport(|| tls).0);
    }
    let stream = stream.expect("it was of none of these types");
    Ok(el.connect_stream_at(created_at, || tls, stream)?.0)
}

/// A stream of this type, if it is one.
fn take<S: 'static, T: 'static>(stream: &mut Option<S>) -> Option<T> {
    (stream as &mut dyn Any).downcast_mut::<Option<T>>()?.take()
}

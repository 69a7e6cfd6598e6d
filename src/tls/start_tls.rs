//! TLS over a connection that stands already.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::LoopClosed;
use crate::event_loop::tasks::BoxFuture;
use crate::event_loop::{EventLoop, running};
use crate::protocol::{AnyProtocol, Transport};
use crate::tls::engine::Engine;
use crate::tls::options::{TlsOptions, TlsSide, TlsStart};
use crate::tls::transport::{Handshake, Standing};

/// A connection that is about to change to TLS: see [`EventLoop::start_tls`]. Await it.
#[must_use = "nothing happens before it is awaited"]
pub struct StartTls {
    el: EventLoop,
    held: Held,
    protocol: AnyProtocol,
    options: TlsOptions,
}

/// A transport that does not read until somebody takes it.
struct Held {
    transport: Transport,
    was_reading: bool,
}

impl Held {
    fn new(transport: Transport) -> Self {
        let was_reading = transport.is_reading();
        if was_reading {
            transport.pause_reading();
        }
        Self { transport, was_reading }
    }

    /// Somebody has taken it, and sees to its reading.
    fn give(mut self) {
        self.was_reading = false;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.was_reading {
            self.transport.resume_reading();
        }
    }
}

impl EventLoop {
    /// Changes a connection to TLS, as either side: that of a [`TlsConnector`](crate::TlsConnector), which needs a
    /// [`server_hostname`](StartTls::server_hostname), or of a [`TlsAcceptor`](crate::TlsAcceptor). Gives the transport
    /// to use from then on, of which `protocol` hears; it knows the connection, so `connection_made` is not called again.
    ///
    /// Nothing more is read from the call on, before it is awaited: so call it as soon as it is decided, in the callback
    /// in which the peer has agreed, and await it where that is possible. What was read already belongs to TLS, too, if it
    /// is given back by [`unread`](Transport::unread) before. What was written before is sent in clear. The old transport
    /// must not be used any more. What arrives together with the last of the handshake is delivered when whoever awaits
    /// this has had its turn.
    ///
    /// It works over every transport with two directions, and so over TLS, too.
    ///
    /// If the handshake fails, or takes too long, or the future is dropped before it is done, the connection is aborted, and
    /// the protocol hears of its end.
    ///
    /// # Errors
    ///
    /// Why the handshake has failed: `InvalidData`, with the error of [`rustls`], for what the peer has done or has not
    /// shown; `ConnectionAborted` where it took too long; `ConnectionReset` where the peer is gone. And why it cannot begin,
    /// after which the connection goes on as it was: [`InvalidState`](crate::InvalidState) as an `io::Error` if the transport
    /// is closing, after `write_eof`, while a file is sent, during another handshake, and where TLS was started over this
    /// transport before; `Unsupported` for a transport of one direction; `InvalidInput` for what does not go together, and
    /// where it is awaited in another loop; [`LoopClosed`] as an `io::Error`.
    ///
    /// ```
    /// use roundelay::{Protocol, TlsAcceptor, TlsConnector, TlsIdentity, Transport};
    ///
    /// /// Reads in clear, up to the end of a line, who it is; what follows is TLS.
    /// struct Preamble(TlsAcceptor);
    ///
    /// impl Protocol for Preamble {
    ///     fn data_received(&mut self, transport: &Transport, data: &[u8]) {
    ///         let Some(end) = data.iter().position(|&byte| byte == b'\n') else { return transport.unread(data) };
    ///         // The first words of TLS may have come together with the line.
    ///         transport.unread(&data[end + 1..]);
    ///         let user = String::from_utf8_lossy(&data[..end]).into_owned();
    ///         let el = roundelay::get_running_loop().unwrap();
    ///         let starting = el.start_tls(transport.clone(), Greet, self.0.clone());
    ///         roundelay::spawn(async move {
    ///             let transport = starting.await?;
    ///             transport.write(format!("hello, {user}\n").as_bytes());
    ///             std::io::Result::Ok(())
    ///         });
    ///     }
    /// }
    /// struct Greet;
    /// impl Protocol for Greet {}
    ///
    /// // A certificate that signs itself, and a client that trusts it.
    /// let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    /// let identity = TlsIdentity::from_pem(made.cert.pem(), made.signing_key.serialize_pem())?;
    /// let acceptor = TlsAcceptor::builder().identity(identity).build()?;
    /// let connector = TlsConnector::builder().roots_from_pem(made.cert.pem()).build()?;
    ///
    /// roundelay::block_on(async {
    ///     let el = roundelay::get_running_loop().unwrap();
    ///     let server = el.create_server(move || Preamble(acceptor.clone()), ("127.0.0.1", 0)).await?;
    ///     let (mut reader, mut writer) = roundelay::open_connection(server.local_addrs()[0]).await?;
    ///     writer.write(b"alice\n");
    ///     writer.start_tls(connector).server_hostname("localhost").await?;
    ///     assert_eq!(reader.readline().await?, b"hello, alice\n");
    ///     writer.close();
    ///     writer.wait_closed().await
    /// })
    /// # ?; std::io::Result::Ok(())
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn start_tls(
        &self,
        transport: Transport,
        protocol: impl Into<AnyProtocol>,
        side: impl Into<TlsSide>,
    ) -> StartTls {
        let options = TlsOptions::of(side.into());
        StartTls { el: self.clone(), held: Held::new(transport), protocol: protocol.into(), options }
    }
}

impl StartTls {
    crate::tls::start_tls_settings!();
}

impl fmt::Debug for StartTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartTls").field("transport", &self.held.transport).field("options", &self.options).finish()
    }
}

impl IntoFuture for StartTls {
    type Output = io::Result<Transport>;
    type IntoFuture = StartingTls;

    fn into_future(self) -> StartingTls {
        StartingTls::new(start(self))
    }
}

/// A change to TLS of which nothing is wrong.
pub(crate) struct Prepared {
    el: EventLoop,
    transport: Transport,
    start: TlsStart,
    engine: Engine,
}

impl Prepared {
    /// Looks whether this connection can be changed to TLS. Nothing happens to it yet.
    pub(crate) fn new(el: EventLoop, method: &str, transport: Transport, options: TlsOptions) -> io::Result<Self> {
        running::refuse_elsewhere(&el, "start_tls")?;
        if el.is_closed() {
            return Err(LoopClosed.into());
        }
        let start = options.check(method, None)?.expect("it has a side");
        let engine = start.engine(method)?;
        transport.check_carrying(method)?;
        Ok(Self { el, transport, start, engine })
    }

    /// Begins the handshake. The protocol, which knows the connection, is that of another transport from now on.
    pub(crate) fn begin(self, protocol: AnyProtocol) -> Handshake {
        let Self { el, transport, start, engine } = self;
        let was_told_to_pause = transport.is_writing_paused();
        let tls = start.protocol(&el.core, engine, Standing::Known { was_told_to_pause }, protocol);
        let handshake = tls.handshake();
        handshake.begin_over(&transport, AnyProtocol::new(tls));
        handshake
    }
}

async fn start(starting: StartTls) -> io::Result<Transport> {
    let StartTls { el, held, protocol, options } = starting;
    let prepared = Prepared::new(el, "start_tls", held.transport.clone(), options)?;
    held.give();
    prepared.begin(protocol).done().await
}

/// The future of [`StartTls`], of [`StartStreamTls`](crate::StartStreamTls) and of [`TlsHandshake`](crate::TlsHandshake).
#[must_use = "futures do nothing unless they are awaited"]
pub struct StartingTls<T = Transport> {
    future: BoxFuture<io::Result<T>>,
}

impl<T> StartingTls<T> {
    pub(crate) fn new(future: impl Future<Output = io::Result<T>> + 'static) -> Self {
        Self { future: Box::pin(future) }
    }
}

impl<T> Future for StartingTls<T> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

impl<T> fmt::Debug for StartingTls<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StartingTls")
    }
}

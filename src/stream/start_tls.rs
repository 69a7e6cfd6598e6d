//! TLS over a stream that stands already.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::rc::Rc;

use crate::error::LoopClosed;
use crate::stream::buffer::{Buffer, change};
use crate::stream::protocol::Connection;
use crate::stream::writer::StreamWriter;
use crate::tls::{Prepared, StartingTls, TlsOptions, TlsSide};

/// A stream that is about to change to TLS: see [`StreamWriter::start_tls`]. Await it.
#[must_use = "nothing happens before it is awaited"]
pub struct StartStreamTls {
    connection: Rc<Connection>,
    held: HeldReader,
    options: TlsOptions,
}

/// A reader whose transport does not read.
struct HeldReader(Rc<RefCell<Buffer>>);

impl HeldReader {
    fn new(buffer: &Rc<RefCell<Buffer>>) -> Self {
        buffer.borrow_mut().hold();
        Self(buffer.clone())
    }
}

impl Drop for HeldReader {
    fn drop(&mut self) {
        change(&self.0, Buffer::let_go);
    }
}

impl StreamWriter {
    /// Changes the stream to TLS, as either side: that of a [`TlsConnector`](crate::TlsConnector), which needs a
    /// [`server_hostname`](StartStreamTls::server_hostname), or of a [`TlsAcceptor`](crate::TlsAcceptor). The reader and the
    /// writer go on over TLS.
    ///
    /// What was written before is sent in clear, and what is written from when this is first polled on, encrypted. Nothing
    /// more arrives in clear from the call on, before it is awaited; and what has arrived and was not read when it is first
    /// polled is taken for the peer's first words of TLS: no reader gets it, so nobody can put commands behind the one that
    /// starts TLS. Whoever waits for a read goes on waiting, for what comes by TLS.
    ///
    /// It works over every kind of stream with two directions, and so over TLS, too. The
    /// [`transport`](StreamWriter::transport) is another one afterwards.
    ///
    /// If it cannot begin, the stream goes on as it was, and so it does where this is dropped before it was polled. If the
    /// handshake fails, or takes too long, or the future is dropped before it is done, the connection is gone: reads give the
    /// error, or the end of the stream where it was dropped.
    ///
    /// # Errors
    ///
    /// As [`EventLoop::start_tls`](crate::EventLoop::start_tls).
    ///
    /// ```
    /// use roundelay::{TlsAcceptor, TlsConnector, TlsIdentity};
    ///
    /// // A certificate that signs itself, and a client that trusts it.
    /// let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    /// let identity = TlsIdentity::from_pem(made.cert.pem(), made.signing_key.serialize_pem())?;
    /// let acceptor = TlsAcceptor::builder().identity(identity).build()?;
    /// let connector = TlsConnector::builder().roots_from_pem(made.cert.pem()).build()?;
    ///
    /// roundelay::block_on(async {
    ///     let server = roundelay::start_server(
    ///         async move |mut reader, mut writer| {
    ///             assert_eq!(reader.readline().await?, b"STARTTLS\n");
    ///             // Nothing is read from here on.
    ///             let starting = writer.start_tls(acceptor.clone());
    ///             writer.write(b"go ahead\n");
    ///             starting.await?;
    ///             writer.write(b"nobody else can read this\n");
    ///             writer.close();
    ///             writer.wait_closed().await
    ///         },
    ///         ("127.0.0.1", 0),
    ///     )
    ///     .await?;
    ///
    ///     let (mut reader, mut writer) = roundelay::open_connection(server.local_addrs()[0]).await?;
    ///     writer.write(b"STARTTLS\n");
    ///     assert_eq!(reader.readline().await?, b"go ahead\n");
    ///     writer.start_tls(connector).server_hostname("localhost").await?;
    ///     assert_eq!(reader.readline().await?, b"nobody else can read this\n");
    ///     writer.close();
    ///     writer.wait_closed().await
    /// })
    /// # ?; std::io::Result::Ok(())
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn start_tls(&mut self, side: impl Into<TlsSide>) -> StartStreamTls {
        StartStreamTls {
            connection: self.connection().clone(),
            held: HeldReader::new(self.buffer()),
            options: TlsOptions::of(side.into()),
        }
    }
}

impl StartStreamTls {
    crate::tls::start_tls_settings!();
}

impl fmt::Debug for StartStreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = self.connection.transport();
        f.debug_struct("StartStreamTls").field("transport", &transport).field("options", &self.options).finish()
    }
}

impl IntoFuture for StartStreamTls {
    type Output = io::Result<()>;
    type IntoFuture = StartingTls<()>;

    fn into_future(self) -> StartingTls<()> {
        StartingTls::new(start(self))
    }
}

async fn start(starting: StartStreamTls) -> io::Result<()> {
    let StartStreamTls { connection, held, options } = starting;
    let transport = connection.transport();
    let prepared = Prepared::new(connection.el().clone(), "StreamWriter::start_tls", transport.clone(), options)?;
    let Some(protocol) = transport.protocol() else { return Err(LoopClosed.into()) };
    let buffer = held.0.clone();
    let unread = buffer.borrow_mut().divert();
    transport.unread(&unread);
    let handshake = prepared.begin(protocol);
    // What is written meanwhile waits for the end of the handshake.
    connection.set_transport(handshake.transport());
    buffer.borrow_mut().set_transport(handshake.transport());
    drop(held);
    handshake.done().await.map(drop)
}

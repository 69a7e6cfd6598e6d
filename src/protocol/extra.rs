//! What a transport knows about its connection besides the bytes.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Weak;

use socket2::SockRef;

use crate::os::address::UnixAddr;
use crate::os::credentials::PeerCredentials;
use crate::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// Something that has a descriptor for as long as it is open.
pub(crate) trait Holder {
    /// Calls `f` with the descriptor, if it is still open.
    fn with_fd(&self, f: &mut dyn FnMut(BorrowedFd<'_>));
}

fn with_fd<R>(holder: &Weak<dyn Holder>, f: impl FnOnce(BorrowedFd<'_>) -> R) -> Option<R> {
    let (mut f, mut result) = (Some(f), None);
    holder.upgrade()?.with_fd(&mut |fd| result = f.take().map(|f| f(fd)));
    result
}

/// A look at a socket that belongs to somebody else: to read or set its options. It keeps nothing open.
#[derive(Clone)]
pub struct SocketView {
    holder: Weak<dyn Holder>,
}

impl SocketView {
    pub(crate) fn new(holder: Weak<dyn Holder>) -> Self {
        Self { holder }
    }

    /// Calls `f` with the socket; `None` once it is closed.
    ///
    /// ```
    /// use roundelay::{EventLoop, Protocol};
    ///
    /// struct Idle;
    /// impl Protocol for Idle {}
    ///
    /// let el = EventLoop::new()?;
    /// let server = el.run_until_complete(el.create_server(|| Idle, ("127.0.0.1", 0))).unwrap()?;
    /// let size = server.sockets()[0].with(|socket| socket.recv_buffer_size()).unwrap()?;
    /// assert!(size > 0);
    /// server.close();
    /// assert!(server.sockets().is_empty());
    /// # std::io::Result::Ok(())
    /// ```
    pub fn with<R>(&self, f: impl FnOnce(SockRef<'_>) -> R) -> Option<R> {
        with_fd(&self.holder, |fd| f(SockRef::from(&fd)))
    }

    /// The socket's descriptor, if it is open. It must not be closed, and not be read or written.
    pub fn raw_fd(&self) -> Option<RawFd> {
        with_fd(&self.holder, |fd| fd.as_raw_fd())
    }
}

impl fmt::Debug for SocketView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.raw_fd() {
            Some(fd) => write!(f, "<socket fd={fd}>"),
            None => f.write_str("<socket closed>"),
        }
    }
}

/// A look at the end of a pipe, or at a device, that belongs to a transport. It keeps nothing open.
#[derive(Clone)]
pub struct PipeView {
    holder: Weak<dyn Holder>,
}

impl PipeView {
    pub(crate) fn new(holder: Weak<dyn Holder>) -> Self {
        Self { holder }
    }

    /// Calls `f` with the descriptor; `None` once it is closed. It must not be read or written.
    ///
    /// ```
    /// use roundelay::Protocol;
    ///
    /// struct Idle;
    /// impl Protocol for Idle {}
    ///
    /// # let terminal = std::fs::File::open("/dev/null")?;
    /// roundelay::block_on(async {
    ///     let el = roundelay::get_running_loop().unwrap();
    ///     let (transport, _) = el.connect_read_pipe(|| Idle, terminal).await?;
    ///     let pipe = transport.extra_info().pipe.unwrap();
    ///     let is_terminal = pipe.with(|fd| std::io::IsTerminal::is_terminal(&fd));
    ///     assert_eq!(is_terminal, Some(false));
    ///     std::io::Result::Ok(())
    /// })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn with<R>(&self, f: impl FnOnce(BorrowedFd<'_>) -> R) -> Option<R> {
        with_fd(&self.holder, f)
    }

    /// The descriptor, if it is open. It must not be closed, and not be read or written.
    pub fn raw_fd(&self) -> Option<RawFd> {
        with_fd(&self.holder, |fd| fd.as_raw_fd())
    }
}

impl fmt::Debug for PipeView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.raw_fd() {
            Some(fd) => write!(f, "<pipe fd={fd}>"),
            None => f.write_str("<pipe closed>"),
        }
    }
}

/// What a transport knows about its connection. Addresses and credentials stay known after the connection is gone.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ExtraInfo {
    /// The address of this end (asyncio's `sockname`); `None` where it has none or was gone too soon.
    #[doc(alias = "sockname")]
    pub local_addr: Option<SocketAddr>,
    /// The address of the peer (asyncio's `peername`); `None` where it has none or was gone too soon.
    #[doc(alias = "peername")]
    pub peer_addr: Option<SocketAddr>,
    /// The address of this end of a unix connection; often an unnamed one. `None` of others.
    #[doc(alias = "sockname")]
    pub unix_local_addr: Option<UnixAddr>,
    /// The address of the peer of a unix connection; often an unnamed one. `None` of others.
    #[doc(alias = "peername")]
    pub unix_peer_addr: Option<UnixAddr>,
    /// Who the peer of a unix connection is. `None` of others, and where the system does not tell.
    pub peer_credentials: Option<PeerCredentials>,
    /// The socket, for its options; `None` where there is none.
    pub socket: Option<SocketView>,
    /// The descriptor of a pipe transport, whatever it is of; `None` where there is none.
    pub pipe: Option<PipeView>,
    /// The number of the process, of a child; `None` of others.
    #[doc(alias = "subprocess")]
    pub process: Option<u32>,
    /// What was agreed on with the peer of a TLS connection, from the handshake until `connection_lost` has returned; `None`
    /// of others.
    #[cfg(feature = "__tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub tls: Option<TlsInfo>,
}

impl ExtraInfo {
    /// What holds of a connection that is gone, too.
    pub(crate) fn of_the_past(self) -> Self {
        Self {
            socket: None,
            pipe: None,
            #[cfg(feature = "__tls")]
            tls: None,
            ..self
        }
    }
}

/// A version of TLS. Older ones are not spoken. As text it is `TLSv1.2` or `TLSv1.3`.
#[cfg(feature = "__tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

#[cfg(feature = "__tls")]
impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        })
    }
}

/// What two sides of a TLS connection have agreed on, and know of each other.
#[cfg(feature = "__tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsInfo {
    /// The version.
    pub version: TlsVersion,
    /// The name of the cipher suite, as the IANA registers it: `TLS13_AES_128_GCM_SHA256`.
    #[doc(alias = "cipher")]
    pub cipher_suite: &'static str,
    /// The protocol that both chose by ALPN.
    pub alpn_protocol: Option<Vec<u8>>,
    /// The name of the server that the client has asked for; of a server's connection, what it was told of it (SNI).
    pub server_name: Option<String>,
    /// The certificates that the peer has shown, in DER, its own first; none of a client that was not asked.
    #[doc(alias = "peercert")]
    pub peer_certificates: Vec<rustls::pki_types::CertificateDer<'static>>,
    /// Whether an earlier session was resumed.
    pub is_resumed: bool,
}

#[cfg(feature = "__tls")]
impl fmt::Debug for TlsInfo {
    /// With the certificates' sizes only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes: Vec<usize> = self.peer_certificates.iter().map(|certificate| certificate.len()).collect();
        f.debug_struct("TlsInfo")
            .field("version", &self.version)
            .field("cipher_suite", &self.cipher_suite)
            .field("alpn_protocol", &self.alpn_protocol.as_deref().map(String::from_utf8_lossy))
            .field("server_name", &self.server_name)
            .field("peer_certificates", &format_args!("{sizes:?} bytes"))
            .field("is_resumed", &self.is_resumed)
            .finish()
    }
}

//! What a transport knows about its connection besides the bytes.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Weak;

use socket2::SockRef;

use crate::os::address::UnixAddr;
use crate::os::credentials::PeerCredentials;
use crate::os::fd::RawFd;

/// Something that has a socket for as long as it is open.
pub(crate) trait SocketHolder {
    /// Calls `f` with the socket, if it is still open.
    fn with_socket(&self, f: &mut dyn FnMut(SockRef<'_>, RawFd));
}

/// A look at a socket that belongs to somebody else: to read or set its options. It keeps nothing open.
#[derive(Clone)]
pub struct SocketView {
    holder: Weak<dyn SocketHolder>,
}

impl SocketView {
    pub(crate) fn new(holder: Weak<dyn SocketHolder>) -> Self {
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
        let (mut f, mut result) = (Some(f), None);
        self.holder.upgrade()?.with_socket(&mut |socket, _| result = f.take().map(|f| f(socket)));
        result
    }

    /// The socket's descriptor, if it is open. It must not be closed, and not be read or written.
    pub fn raw_fd(&self) -> Option<RawFd> {
        let mut number = None;
        self.holder.upgrade()?.with_socket(&mut |_, fd| number = Some(fd));
        number
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

/// What a transport knows about its connection. Addresses and credentials stay known after the connection is gone.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ExtraInfo {
    /// The address of this end (asyncio's `sockname`); `None` where it has none or was gone too soon.
    pub local_addr: Option<SocketAddr>,
    /// The address of the peer (asyncio's `peername`); `None` where it has none or was gone too soon.
    pub peer_addr: Option<SocketAddr>,
    /// The address of this end of a unix connection; often an unnamed one. `None` of others.
    pub unix_local_addr: Option<UnixAddr>,
    /// The address of the peer of a unix connection; often an unnamed one. `None` of others.
    pub unix_peer_addr: Option<UnixAddr>,
    /// Who the peer of a unix connection is. `None` of others, and where the system does not tell.
    pub peer_credentials: Option<PeerCredentials>,
    /// The socket, for its options; `None` where there is none.
    pub socket: Option<SocketView>,
}

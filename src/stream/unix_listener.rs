//! A listening unix socket as a plain async type.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use socket2::Socket;

use crate::constants::BACKLOG;
use crate::executor::required_loop;
use crate::net::{SocketOptions, UnixServerEndpoint, buffer_settings, plain_listener};
use crate::os::address::UnixAddr;
use crate::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use crate::os::socket::{local_addr, peer_addr, set_nonblocking};
use crate::stream::listening::{Accepted, Incoming, Listening, impl_listener};
use crate::stream::unix::{UnixStream, of_unix};

/// A listening unix socket as a plain async type. Dropping it closes the socket.
///
/// It leaves files alone, as that of std does: whatever stands at its path when it binds makes the address one that is in
/// use, and its own file stays when it is dropped. A [server](crate::EventLoop::create_unix_server) replaces what is stale
/// and removes what is its own.
///
/// See [`UnixStream`] for an example.
pub struct UnixListener {
    listening: Listening,
}

impl UnixListener {
    /// Listens on an address, or on a bound socket that is given.
    ///
    /// # Errors
    ///
    /// The operating system's, with an [`UnixAddressError`](crate::UnixAddressError): `AddrInUse` where something stands
    /// at the path, `NotFound` where its folder is missing. `InvalidInput` for what is no address, and for a socket that is
    /// no unix stream socket; [`LoopClosed`](crate::LoopClosed) as an `io::Error`.
    ///
    /// # Panics
    ///
    /// Outside of a running event loop.
    #[track_caller]
    pub fn bind(endpoint: impl Into<UnixServerEndpoint>) -> io::Result<Self> {
        Self::builder(endpoint).bind()
    }

    /// As [`bind`](Self::bind), with settings.
    ///
    /// ```
    /// use roundelay::UnixListener;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("few");
    /// roundelay::block_on(async {
    ///     let listener = UnixListener::builder(&path).backlog(5).bind()?;
    ///     assert_eq!(listener.local_addr()?.as_pathname(), Some(&*path));
    ///     std::io::Result::Ok(())
    /// })
    /// # ?; std::io::Result::Ok(())
    /// ```
    pub fn builder(endpoint: impl Into<UnixServerEndpoint>) -> UnixListenerBuilder {
        UnixListenerBuilder { endpoint: endpoint.into(), backlog: BACKLOG, options: SocketOptions::default() }
    }

    /// Takes over a listening socket, which becomes non-blocking.
    ///
    /// # Errors
    ///
    /// The operating system's; `AlreadyExists` if the running loop watches the descriptor already.
    ///
    /// # Panics
    ///
    /// Outside of a running event loop.
    #[track_caller]
    pub fn from_std(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        let el = required_loop("UnixListener::from_std");
        let socket = Socket::from(listener);
        set_nonblocking(&socket)?;
        Ok(Self { listening: Listening::new(&el, socket, SocketOptions::default())? })
    }
}

impl_listener!(UnixListener, UnixStream, UnixAddr, of_unix, std::os::unix::net::UnixListener);

/// Settings of a listening unix socket: see [`UnixListener::builder`].
#[must_use = "nothing happens before bind() is called"]
#[derive(Debug)]
pub struct UnixListenerBuilder {
    endpoint: UnixServerEndpoint,
    backlog: u32,
    options: SocketOptions,
}

impl UnixListenerBuilder {
    /// How many connections the system holds until they are accepted (100).
    pub fn backlog(mut self, backlog: u32) -> Self {
        self.backlog = backlog;
        self
    }

    buffer_settings!(options);

    /// Listens.
    ///
    /// # Errors
    ///
    /// As [`UnixListener::bind`]; `InvalidInput` for a size of zero, and the system's for one that cannot be set, with a
    /// [`SocketOptionError`](crate::SocketOptionError).
    ///
    /// # Panics
    ///
    /// Outside of a running event loop.
    #[track_caller]
    pub fn bind(self) -> io::Result<UnixListener> {
        let el = required_loop("UnixListener::bind");
        let Self { endpoint, backlog, options } = self;
        let socket = plain_listener("UnixListener::bind", endpoint, backlog, &options)?;
        Ok(UnixListener { listening: Listening::new(&el, socket, options)? })
    }
}

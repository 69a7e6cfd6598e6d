//! A listening unix socket as a plain async type.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use socket2::Socket;

use crate::executor::required_loop;
use crate::net::{UnixServerEndpoint, plain_listener};
use crate::os::address::UnixAddr;
use crate::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
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
        let el = required_loop("UnixListener::bind");
        let socket = plain_listener("UnixListener::bind", endpoint.into())?;
        Ok(Self { listening: Listening::new(&el, socket)? })
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
        Ok(Self { listening: Listening::new(&el, socket)? })
    }
}

impl_listener!(UnixListener, UnixStream, UnixAddr, of_unix);

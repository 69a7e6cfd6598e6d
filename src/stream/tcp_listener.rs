//! A listening TCP socket as a plain async type.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use socket2::Socket;

use crate::event_loop::EventLoop;
use crate::event_loop::tasks::BoxFuture;
use crate::executor::{LaterLoop, required_loop};
use crate::net::{ServerEndpoint, ServerOptions, first_listener};
use crate::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use crate::os::socket::{local_addr, peer_addr, set_nodelay, set_nonblocking};
use crate::stream::listening::{Accepted, Incoming, Listening, impl_listener};
use crate::stream::tcp::{TcpStream, internet};

/// A listening TCP socket as a plain async type. Dropping it closes the socket.
///
/// See [`TcpStream`] for an example.
pub struct TcpListener {
    listening: Listening,
}

impl TcpListener {
    /// Listens on one address: the first of the endpoint's that is free and of this machine. See
    /// [`EventLoop::create_server`] for what an endpoint is, and for a server that listens on all of its addresses.
    ///
    /// The empty host, `("", port)`, means all interfaces of IPv4 here; those of IPv6 only if that cannot be.
    ///
    /// # Errors
    ///
    /// The resolver's; that of the first address, with an [`AddressError`](crate::AddressError), if none can be listened
    /// on; `AddrNotAvailable` if none is of this machine; [`LoopClosed`](crate::LoopClosed) as an `io::Error`.
    ///
    /// # Panics
    ///
    /// If it is awaited outside of a running event loop.
    #[track_caller]
    pub fn bind(endpoint: impl Into<ServerEndpoint>) -> TcpBinding {
        let el = LaterLoop::new("TcpListener::bind");
        let options = ServerOptions::new(endpoint.into());
        TcpBinding {
            future: Box::pin(async move {
                let el = el.get();
                let socket = first_listener(&el, "TcpListener::bind", options).await?;
                Self::over(&el, socket)
            }),
        }
    }

    fn over(el: &EventLoop, socket: Socket) -> io::Result<Self> {
        // Connections inherit it.
        set_nodelay(&socket)?;
        Ok(Self { listening: Listening::new(el, socket)? })
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
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<Self> {
        let el = required_loop("TcpListener::from_std");
        let socket = Socket::from(listener);
        set_nonblocking(&socket)?;
        Self::over(&el, socket)
    }
}

impl_listener!(TcpListener, TcpStream, SocketAddr, internet);

/// The future of [`TcpListener::bind`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct TcpBinding {
    future: BoxFuture<io::Result<TcpListener>>,
}

impl Future for TcpBinding {
    type Output = io::Result<TcpListener>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

impl fmt::Debug for TcpBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TcpBinding")
    }
}

//! A listening TCP socket as a plain async type.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use socket2::Socket;

use crate::dns::addr::Family;
use crate::dns::hints::AddrInfoFlags;
use crate::event_loop::tasks::BoxFuture;
use crate::executor::{LaterLoop, required_loop};
use crate::net::{Domain, ServerEndpoint, ServerOptions, SocketOptions, first_listener, listener_settings};
use crate::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use crate::os::socket::{local_addr, peer_addr, set_nonblocking};
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
    /// [`EventLoop::create_server`](crate::EventLoop::create_server) for what an endpoint is, and for a server that listens on all of its addresses.
    ///
    /// The empty host, `("", port)`, means all interfaces of IPv4 here; those of IPv6 only if that cannot be.
    ///
    /// # Errors
    ///
    /// The resolver's; that of the first address, with an [`AddressError`](crate::AddressError), if none can be listened
    /// on; `AddrNotAvailable` if none is of this machine; `InvalidInput` for options that do not go together; what is wrong
    /// with an option, with a [`SocketOptionError`](crate::SocketOptionError); [`LoopClosed`](crate::LoopClosed) as an
    /// `io::Error`.
    ///
    /// # Panics
    ///
    /// If it is awaited outside of a running event loop.
    ///
    /// ```
    /// use roundelay::TcpListener;
    ///
    /// roundelay::block_on(async {
    ///     let one = TcpListener::bind(("127.0.0.1", 0)).reuse_port(true).backlog(5).await?;
    ///     // The system spreads the connections over both.
    ///     let other = TcpListener::bind(one.local_addr()?).reuse_port(true).backlog(5).await?;
    ///     assert_eq!(one.local_addr()?, other.local_addr()?);
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    #[track_caller]
    pub fn bind(endpoint: impl Into<ServerEndpoint>) -> BindTcp {
        BindTcp { el: LaterLoop::new("TcpListener::bind"), options: ServerOptions::new(endpoint.into()) }
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
        let options = SocketOptions::default();
        // Connections inherit it.
        options.apply_to_stream("TcpListener::from_std", &socket, Domain::of(&socket))?;
        Ok(Self { listening: Listening::new(&el, socket, options)? })
    }
}

impl_listener!(TcpListener, TcpStream, SocketAddr, internet, std::net::TcpListener);

/// A listening socket that is about to be made: see [`TcpListener::bind`]. Await it.
#[must_use = "nothing happens before it is awaited"]
pub struct BindTcp {
    el: LaterLoop,
    options: ServerOptions,
}

impl BindTcp {
    listener_settings!();

    /// How many connections the system holds until they are accepted (100).
    pub fn backlog(mut self, backlog: u32) -> Self {
        self.options.serving.backlog = backlog;
        self
    }
}

impl fmt::Debug for BindTcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BindTcp").field("options", &self.options).finish_non_exhaustive()
    }
}

impl IntoFuture for BindTcp {
    type Output = io::Result<TcpListener>;
    type IntoFuture = TcpBinding;

    fn into_future(self) -> TcpBinding {
        let Self { el, options } = self;
        TcpBinding {
            future: Box::pin(async move {
                let (el, socket_options) = (el.get(), options.serving.socket.clone());
                let socket = first_listener(&el, "TcpListener::bind", options).await?;
                Ok(TcpListener { listening: Listening::new(&el, socket, socket_options)? })
            }),
        }
    }
}

/// The future of [`BindTcp`].
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

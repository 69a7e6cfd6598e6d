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
use crate::event_loop::source::Source;
use crate::event_loop::tasks::BoxFuture;
use crate::event_loop::waiters::{Waiter, Waiters};
use crate::executor::{LaterLoop, required_loop};
use crate::net::{ServerEndpoint, ServerOptions, first_listener};
use crate::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use crate::os::socket::{accept, is_lost_connection};
use crate::reactor::slot::Direction;
use crate::reactor::{Interest, Readiness};
use crate::stream::tcp::{TcpStream, internet};

/// A listening TCP socket as a plain async type. Dropping it closes the socket.
///
/// See [`TcpStream`] for an example.
pub struct TcpListener {
    source: Source<Socket>,
    waiters: Waiters,
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
        socket.set_tcp_nodelay(true)?;
        let source = Source::with_interest(&el.core, socket, Interest::READABLE, Readiness::READABLE)?;
        Ok(Self { source, waiters: Waiters::new() })
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
        listener.set_nonblocking(true)?;
        Self::over(&el, listener.into())
    }

    /// Waits for a connection. May be dropped before: no connection is lost. Several tasks may accept at once.
    ///
    /// # Errors
    ///
    /// The operating system's, most often a shortage of descriptors, after which waiting a while helps. A connection that
    /// was given up before it was accepted is skipped.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let waiter = self.waiters.join();
        std::future::poll_fn(|cx| {
            // With the task's own waker, which is woken at once where the budget is used up.
            std::task::ready!(self.source.core().poll_budget(cx));
            waiter.poll(cx, |cx| self.poll_source(cx))
        })
        .await
    }

    /// As [`accept`](Self::accept), for whoever polls: the one who polled last is woken.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept).
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        std::task::ready!(self.source.core().poll_budget(cx));
        self.waiters.poll(cx, |cx| self.poll_source(cx))
    }

    fn poll_source(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let accepted = self.source.poll_io(Direction::Read, cx, |listener| {
            loop {
                match accept(listener.as_fd()) {
                    Err(error) if is_lost_connection(&error) => {}
                    result => return result,
                }
            }
        });
        let (socket, peer_addr) = std::task::ready!(accepted)?;
        let peer_addr = match peer_addr.and_then(|address| address.as_ip()) {
            Some(peer_addr) => peer_addr,
            None => internet(socket.peer_addr()?)?,
        };
        Poll::Ready(Ok((TcpStream::over(Source::new(self.source.core(), socket)?), peer_addr)))
    }

    /// The connections as a stream that never ends.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self, waiter: self.waiters.join() }
    }

    /// The address that it listens on.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        internet(self.source.io().local_addr()?)
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.io().as_fd()
    }
}

impl AsRawFd for TcpListener {
    fn as_raw_fd(&self) -> RawFd {
        self.source.io().as_raw_fd()
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListener").field("local", &self.local_addr().ok()).field("fd", &self.as_raw_fd()).finish()
    }
}

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

/// The stream of [`TcpListener::incoming`].
#[must_use = "streams do nothing unless they are polled"]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
    waiter: Waiter,
}

impl Stream for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let listener = self.listener;
        std::task::ready!(listener.source.core().poll_budget(cx));
        let accepted = self.waiter.poll(cx, |cx| listener.poll_source(cx));
        accepted.map(|accepted| Some(accepted.map(|(stream, _)| stream)))
    }
}

impl fmt::Debug for Incoming<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("listener", &self.listener).finish()
    }
}

//! TCP connections as a plain async type: no transport, no protocol, no buffer but the caller's.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::Socket;

use crate::dns::addr::Family;
use crate::dns::hints::AddrInfoFlags;
use crate::event_loop::source::Source;
use crate::event_loop::tasks::BoxFuture;
use crate::executor::{LaterLoop, required_loop};
use crate::net::{ConnectOptions, Endpoint, connect_settings, connected_socket, set_nodelay};
use crate::os::address::Address;
use crate::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use crate::os::room::Room;
use crate::os::socket::{local_addr, option, peer_addr, send, send_vectored, set_nonblocking};
use crate::protocol::{Protocol, ProtocolRef, Transport};
use crate::stream::connection::{
    Connection, Kind, ReadAhead, ReadBuffer, describe, impl_addresses, impl_descriptor, impl_read, impl_stream,
    impl_write,
};
use crate::stream::halves::{OwnedReadHalf, OwnedWriteHalf, ReuniteError, halves};
use crate::stream::traits::{ReadInto, impl_buf_read_traits, impl_read_traits, impl_write_traits};

/// An address as one of the internet's.
pub(super) fn internet(address: Address) -> io::Result<SocketAddr> {
    let unsupported = || io::Error::new(io::ErrorKind::Unsupported, format!("not an internet address: {address}"));
    address.as_ip().ok_or_else(unsupported)
}

/// A TCP connection as a plain async type.
///
/// It implements `AsyncRead`, `AsyncBufRead` and `AsyncWrite` of the `futures` crate: flushing has nothing to do, for
/// what was written is with the kernel; closing ends the writing half. Dropping it closes the connection.
///
/// ```
/// use futures::{AsyncReadExt, AsyncWriteExt};
/// use roundelay::{TcpListener, TcpStream};
///
/// roundelay::block_on(async {
///     let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
///     let mut client = TcpStream::connect(listener.local_addr()?).await?;
///     let (mut server, _) = listener.accept().await?;
///     client.write_all(b"ping").await?;
///     let mut data = [0; 4];
///     server.read_exact(&mut data).await?;
///     assert_eq!(&data, b"ping");
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
pub struct TcpStream {
    connection: Rc<Connection>,
    buffer: ReadBuffer,
}

impl TcpStream {
    /// Connects; see [`EventLoop::create_connection`](crate::EventLoop::create_connection) for what an endpoint is and how it is connected to.
    ///
    /// # Errors
    ///
    /// As [`EventLoop::create_connection`](crate::EventLoop::create_connection).
    ///
    /// # Panics
    ///
    /// If it is awaited outside of a running event loop.
    ///
    /// ```
    /// use std::time::Duration;
    /// use roundelay::{Family, TcpListener, TcpStream};
    ///
    /// roundelay::block_on(async {
    ///     let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    ///     let port = listener.local_addr()?.port();
    ///     let connecting = TcpStream::connect(("localhost", port)).family(Family::V4);
    ///     let stream = connecting.happy_eyeballs_delay(Duration::from_millis(250)).await?;
    ///     assert_eq!(stream.peer_addr()?.port(), port);
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    #[track_caller]
    pub fn connect(endpoint: impl Into<Endpoint>) -> ConnectTcp {
        ConnectTcp { el: LaterLoop::new("TcpStream::connect"), options: ConnectOptions::new(endpoint.into()) }
    }

    /// Takes over a connected socket, which becomes non-blocking and sends small writes at once.
    ///
    /// # Errors
    ///
    /// The operating system's; `AlreadyExists` if the running loop watches the descriptor already.
    ///
    /// # Panics
    ///
    /// Outside of a running event loop.
    #[track_caller]
    pub fn from_std(stream: std::net::TcpStream) -> io::Result<Self> {
        let el = required_loop("TcpStream::from_std");
        let socket = Socket::from(stream);
        set_nonblocking(&socket)?;
        set_nodelay(&socket);
        Ok(Self::over(Source::new(&el.core, socket)?))
    }

    /// Whether small writes are sent at once (`TCP_NODELAY`): yes, unless it was changed.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn nodelay(&self) -> io::Result<bool> {
        option(self.connection.socket(), Socket::tcp_nodelay)
    }

    /// Says whether small writes are sent at once.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        option(self.connection.socket(), |socket| socket.set_tcp_nodelay(nodelay))
    }
}

impl_stream!(TcpStream, Kind::Tcp, SocketAddr, internet, std::net::TcpStream);

/// A plain connection that is about to be made: see [`TcpStream::connect`]. Await it.
#[must_use = "nothing happens before it is awaited"]
pub struct ConnectTcp {
    el: LaterLoop,
    options: ConnectOptions,
}

impl ConnectTcp {
    connect_settings!(options);
}

impl fmt::Debug for ConnectTcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectTcp").field("options", &self.options).finish_non_exhaustive()
    }
}

impl IntoFuture for ConnectTcp {
    type Output = io::Result<TcpStream>;
    type IntoFuture = TcpConnecting;

    fn into_future(self) -> TcpConnecting {
        let Self { el, options } = self;
        TcpConnecting {
            future: Box::pin(async move {
                let el = el.get();
                let connected = connected_socket(&el, "TcpStream::connect", options).await?;
                Ok(TcpStream::over(connected.into_source(&el)?))
            }),
        }
    }
}

/// The future of [`ConnectTcp`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct TcpConnecting {
    future: BoxFuture<io::Result<TcpStream>>,
}

impl Future for TcpConnecting {
    type Output = io::Result<TcpStream>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

impl fmt::Debug for TcpConnecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TcpConnecting")
    }
}

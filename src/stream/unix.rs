//! Unix connections as a plain async type.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use socket2::{Socket, Type};

use crate::event_loop::source::Source;
use crate::event_loop::tasks::BoxFuture;
use crate::executor::{LaterLoop, required_loop};
use crate::net::{SocketOptions, UnixEndpoint, buffer_settings, connected_unix_socket};
use crate::os::address::{Address, UnixAddr};
use crate::os::credentials::{PeerCredentials, peer_credentials};
use crate::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use crate::os::local;
use crate::os::room::Room;
use crate::os::socket::{local_addr, peer_addr, send, send_vectored, set_nonblocking};
use crate::protocol::{Protocol, ProtocolRef, Transport};
use crate::stream::connection::{
    Connection, Kind, ReadAhead, ReadBuffer, describe, impl_addresses, impl_descriptor, impl_read, impl_stream,
    impl_write,
};
use crate::stream::halves::{OwnedReadHalf, OwnedWriteHalf, ReuniteError, halves};
use crate::stream::traits::{ReadInto, impl_buf_read_traits, impl_read_traits, impl_write_traits};

/// An address as one of a unix socket.
pub(super) fn of_unix(address: Address) -> io::Result<UnixAddr> {
    match address {
        Address::Unix(address) => Ok(address),
        other => Err(io::Error::new(io::ErrorKind::Unsupported, format!("not an address of a unix socket: {other}"))),
    }
}

/// A unix connection as a plain async type.
///
/// It implements `AsyncRead`, `AsyncBufRead` and `AsyncWrite` of the `futures` crate: flushing has nothing to do, for
/// what was written is with the kernel; closing ends the writing half. Dropping it closes the connection. Descriptors that
/// a peer sends along are closed.
///
/// ```
/// use futures::{AsyncReadExt, AsyncWriteExt};
/// use roundelay::{UnixListener, UnixStream};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("ping");
/// roundelay::block_on(async {
///     let listener = UnixListener::bind(&path)?;
///     let mut client = UnixStream::connect(&path).await?;
///     let (mut server, _) = listener.accept().await?;
///     client.write_all(b"ping").await?;
///     let mut data = [0; 4];
///     server.read_exact(&mut data).await?;
///     assert_eq!(&data, b"ping");
///     assert_eq!(server.peer_cred()?.pid, Some(std::process::id() as i32));
///     std::io::Result::Ok(())
/// })
/// # ?; std::io::Result::Ok(())
/// ```
pub struct UnixStream {
    connection: Rc<Connection>,
    buffer: ReadBuffer,
}

impl UnixStream {
    /// Connects; see [`EventLoop::create_unix_connection`](crate::EventLoop::create_unix_connection) for what an endpoint
    /// is and how it is connected to.
    ///
    /// # Errors
    ///
    /// As [`EventLoop::create_unix_connection`](crate::EventLoop::create_unix_connection).
    ///
    /// # Panics
    ///
    /// If it is awaited outside of a running event loop.
    #[track_caller]
    pub fn connect(endpoint: impl Into<UnixEndpoint>) -> ConnectUnix {
        let (el, endpoint) = (LaterLoop::new("UnixStream::connect"), endpoint.into());
        ConnectUnix { el, endpoint, options: SocketOptions::default() }
    }

    /// Two streams that are connected with each other.
    ///
    /// # Errors
    ///
    /// The operating system's; [`LoopClosed`](crate::LoopClosed) as an `io::Error`.
    ///
    /// # Panics
    ///
    /// Outside of a running event loop.
    #[track_caller]
    pub fn pair() -> io::Result<(Self, Self)> {
        let el = required_loop("UnixStream::pair");
        let (one, other) = local::pair(Type::STREAM)?;
        let one = Self::over(Source::new(&el.core, one)?);
        Ok((one, Self::over(Source::new(&el.core, other)?)))
    }

    /// Takes over a connected socket, which becomes non-blocking.
    ///
    /// # Errors
    ///
    /// The operating system's; `AlreadyExists` if the running loop watches the descriptor already.
    ///
    /// # Panics
    ///
    /// Outside of a running event loop.
    #[track_caller]
    pub fn from_std(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        let el = required_loop("UnixStream::from_std");
        let socket = Socket::from(stream);
        set_nonblocking(&socket)?;
        Ok(Self::over(Source::new(&el.core, socket)?))
    }

    /// Who is at the other end: as it was when the connection was made.
    ///
    /// # Errors
    ///
    /// The operating system's; `Unsupported` where it does not tell.
    pub fn peer_cred(&self) -> io::Result<PeerCredentials> {
        peer_credentials(self.as_fd())
    }
}

impl_stream!(UnixStream, Kind::Unix, UnixAddr, of_unix, std::os::unix::net::UnixStream);

/// A plain connection to a unix socket that is about to be made: see [`UnixStream::connect`]. Await it.
#[must_use = "nothing happens before it is awaited"]
pub struct ConnectUnix {
    el: LaterLoop,
    endpoint: UnixEndpoint,
    options: SocketOptions,
}

impl ConnectUnix {
    buffer_settings!(options);
}

impl fmt::Debug for ConnectUnix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectUnix").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl IntoFuture for ConnectUnix {
    type Output = io::Result<UnixStream>;
    type IntoFuture = UnixConnecting;

    fn into_future(self) -> UnixConnecting {
        let Self { el, endpoint, options } = self;
        UnixConnecting {
            future: Box::pin(async move {
                let el = el.get();
                let connected = connected_unix_socket(&el, "UnixStream::connect", endpoint, &options).await?;
                Ok(UnixStream::over(connected.into_source(&el)?))
            }),
        }
    }
}

/// The future of [`ConnectUnix`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct UnixConnecting {
    future: BoxFuture<io::Result<UnixStream>>,
}

impl Future for UnixConnecting {
    type Output = io::Result<UnixStream>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

impl fmt::Debug for UnixConnecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnixConnecting")
    }
}

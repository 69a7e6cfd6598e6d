//! Unix datagram sockets as a plain async type.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::task::{Context, Poll};

use bytes::Bytes;
use socket2::{Domain, Socket, Type};

use crate::event_loop::EventLoop;
use crate::event_loop::source::Source;
use crate::executor::required_loop;
use crate::net::UnixAddressError;
use crate::os::address::{Address, UnixAddr};
use crate::os::datagram::{self, peek, peek_from, recv, recv_from, send, send_to};
use crate::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use crate::os::local;
use crate::os::socket::{self, local_addr, peer_addr, set_nonblocking, take_error, would_block};
use crate::reactor::slot::Direction;
use crate::sock::backoff::Backoff;
use crate::stream::datagram::impl_datagrams;
use crate::stream::datagrams::Datagrams;
use crate::stream::shared::SharedSource;

/// A unix datagram socket as a plain async type. Dropping it closes the socket; the file of one that was bound to a path
/// stays.
///
/// Everything takes `&self`: several tasks may send and receive at once, each datagram as a whole. Unlike those of UDP,
/// datagrams are neither lost nor reordered: whoever sends waits for room.
///
/// ```
/// use roundelay::UnixDatagram;
///
/// roundelay::block_on(async {
///     let (a, b) = UnixDatagram::pair()?;
///     a.send(b"hello").await?;
///     let mut data = [0; 16];
///     assert_eq!(b.recv(&mut data).await?, 5);
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
pub struct UnixDatagram {
    shared: SharedSource<Socket>,
    /// Where whoever polls waits for a queue that is full.
    full: Cell<Option<Backoff>>,
}

/// An address of a unix socket; one that is not bound has none.
fn unix(address: Option<Address>) -> io::Result<UnixAddr> {
    match address {
        Some(Address::Unix(address)) => Ok(address),
        None => Ok(UnixAddr::unnamed()),
        Some(Address::Ip(_)) => Err(io::Error::new(io::ErrorKind::Unsupported, "not the address of a unix socket")),
    }
}

impl_datagrams!(UnixDatagram, UnixAddr, unix);

impl UnixDatagram {
    /// A socket that is bound to a path or an abstract name. The path must not exist.
    ///
    /// # Errors
    ///
    /// The operating system's, with an [`UnixAddressError`]; `InvalidInput` for what is no address;
    /// [`LoopClosed`](crate::LoopClosed) as an `io::Error`.
    ///
    /// # Panics
    ///
    /// Outside of a running event loop.
    #[track_caller]
    pub fn bind(address: impl Into<UnixAddr>) -> io::Result<Self> {
        let el = required_loop("UnixDatagram::bind");
        let address = address.into();
        let socket = datagram::socket(Domain::UNIX, 0)?;
        socket::bind(&socket, address.to_sock_addr()?)
            .map_err(|error| UnixAddressError::wrap("bind on", &address, error))?;
        Self::over(&el, socket)
    }

    /// A socket without an address: it can send, and receive once it is connected.
    ///
    /// # Errors
    ///
    /// The operating system's; [`LoopClosed`](crate::LoopClosed) as an `io::Error`.
    ///
    /// # Panics
    ///
    /// Outside of a running event loop.
    #[track_caller]
    pub fn unbound() -> io::Result<Self> {
        let el = required_loop("UnixDatagram::unbound");
        Self::over(&el, datagram::socket(Domain::UNIX, 0)?)
    }

    /// Two sockets that are connected with each other.
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
        let el = required_loop("UnixDatagram::pair");
        let (a, b) = local::pair(Type::DGRAM)?;
        Ok((Self::over(&el, a)?, Self::over(&el, b)?))
    }

    fn over(el: &EventLoop, socket: Socket) -> io::Result<Self> {
        Ok(Self { shared: SharedSource::new(Source::new(&el.core, socket)?), full: Cell::new(None) })
    }

    /// Takes over a socket, which becomes non-blocking.
    ///
    /// # Errors
    ///
    /// The operating system's; `AlreadyExists` if the running loop watches the descriptor already.
    ///
    /// # Panics
    ///
    /// Outside of a running event loop.
    #[track_caller]
    pub fn from_std(socket: std::os::unix::net::UnixDatagram) -> io::Result<Self> {
        let el = required_loop("UnixDatagram::from_std");
        let socket = Socket::from(socket);
        set_nonblocking(&socket)?;
        Self::over(&el, socket)
    }

    /// Gives the socket away, unwatched. It stays non-blocking.
    pub fn into_std(self) -> std::os::unix::net::UnixDatagram {
        self.shared.into_io().into()
    }

    /// Connects it: it sends to this peer, and receives from it only. May be called again, for another peer.
    ///
    /// # Errors
    ///
    /// The operating system's, with an [`UnixAddressError`]; `InvalidInput` for what is no address.
    pub fn connect(&self, address: impl Into<UnixAddr>) -> io::Result<()> {
        let address = address.into();
        let connected = datagram::connect(self.socket(), &address.to_sock_addr()?);
        connected.map_err(|error| UnixAddressError::wrap("connect to", &address, error))
    }

    /// Sends a datagram to an address, and gives its length. May be dropped before: then nothing is sent. Several tasks may
    /// send at once.
    ///
    /// Where the receiver's queue is full, and the socket is not connected, the system does not tell when there is room: it
    /// is tried again in the next turn, and then after a few milliseconds each.
    ///
    /// # Errors
    ///
    /// The operating system's, most often that nobody has that address, or that the datagram is too long; `InvalidInput`
    /// for what is no address; [`LoopClosed`](crate::LoopClosed) as an `io::Error`.
    pub async fn send_to(&self, data: &[u8], target: impl Into<UnixAddr>) -> io::Result<usize> {
        let (target, mut full) = (target.into().into(), Backoff::default());
        poll_fn(|cx| self.poll_full(cx, data, &target, &mut full)).await
    }

    /// As [`send_to`](Self::send_to), if there is room now.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is none, which [`writable`](Self::writable) knows nothing of; otherwise as
    /// [`send_to`](Self::send_to).
    pub fn try_send_to(&self, data: &[u8], target: impl Into<UnixAddr>) -> io::Result<usize> {
        let target = target.into().into();
        let sent = self.shared.once(|socket| send_to(socket, data, &target));
        sent.inspect(|&n| self.core().count_out(n))
    }

    /// As [`send_to`](Self::send_to), for whoever polls: the one who polled last is woken.
    ///
    /// # Errors
    ///
    /// As [`send_to`](Self::send_to).
    pub fn poll_send_to(&self, cx: &mut Context<'_>, data: &[u8], target: &UnixAddr) -> Poll<io::Result<usize>> {
        let target = Address::Unix(target.clone());
        let mut full = self.full.take().unwrap_or_default();
        let polled = self.poll_full(cx, data, &target, &mut full);
        if polled.is_pending() {
            self.full.set(Some(full));
        }
        polled
    }

    /// Sends to somebody else than the peer.
    pub(super) fn poll_letter(&self, cx: &mut Context<'_>, data: &[u8], to: &UnixAddr) -> Poll<io::Result<usize>> {
        self.poll_send_to(cx, data, to)
    }

    fn poll_full(
        &self,
        cx: &mut Context<'_>,
        data: &[u8],
        target: &Address,
        full: &mut Backoff,
    ) -> Poll<io::Result<usize>> {
        loop {
            std::task::ready!(full.poll_pause(cx));
            std::task::ready!(self.shared.source().core().poll_budget(cx));
            match self.shared.once(|socket| send_to(socket, data, target)) {
                Err(error) if would_block(&error) => full.pause(),
                result => {
                    self.shared.source().core().spend_budget();
                    return Poll::Ready(result.map(|n| self.sent(n)));
                }
            }
        }
    }

    /// Ends one direction or both.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        socket::shutdown(self.socket(), how)
    }
}

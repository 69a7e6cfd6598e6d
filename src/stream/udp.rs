//! UDP sockets as a plain async type.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use socket2::{Domain, SockAddr, Socket};

use crate::dns::addr::Family;
use crate::dns::hints::{Hints, SocketType};
use crate::dns::resolve;
use crate::error::{AddressError, LoopClosed, invalid_input};
use crate::event_loop::EventLoop;
use crate::event_loop::source::Source;
use crate::event_loop::tasks::BoxFuture;
use crate::executor::{LaterLoop, required_loop};
use crate::net::{
    self, Endpoint, EndpointKind, SocketOptions, bind_device_setting, buffer_settings, malformed, tos_setting,
};
use crate::os::address::Address;
use crate::os::datagram::{self, peek, peek_from, recv, recv_from, send, send_to};
use crate::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use crate::os::socket::{self, local_addr, option, peer_addr, set_nonblocking, set_reuse_port, take_error};
use crate::reactor::slot::Direction;
use crate::stream::datagram::impl_datagrams;
use crate::stream::datagrams::Datagrams;
use crate::stream::shared::SharedSource;

/// A UDP socket as a plain async type: no transport, no protocol, no queue but the system's. Dropping it closes the socket.
///
/// Everything takes `&self`: several tasks may send and receive at once, each datagram as a whole.
/// What is not here is there by `socket2::SockRef::from(&socket)`.
///
/// ```
/// use roundelay::UdpSocket;
///
/// roundelay::block_on(async {
///     let server = UdpSocket::bind(("127.0.0.1", 0)).await?;
///     let client = UdpSocket::bind(("127.0.0.1", 0)).await?;
///     client.connect(server.local_addr()?).await?;
///     client.send(b"ping").await?;
///     let mut data = [0; 1500];
///     let (n, from) = server.recv_from(&mut data).await?;
///     assert_eq!(&data[..n], b"ping");
///     server.send_to(b"pong", from).await?;
///     assert_eq!(client.recv(&mut data).await?, 4);
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
pub struct UdpSocket {
    shared: SharedSource<Socket>,
}

/// An address of the internet, which each peer of a UDP socket has.
fn internet(address: Option<Address>) -> io::Result<SocketAddr> {
    let address = address.as_ref().and_then(Address::as_ip);
    address.ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "not an internet address"))
}

impl_datagrams!(UdpSocket, SocketAddr, internet);

impl UdpSocket {
    /// A socket that is bound to an address: the first of the endpoint's that can be bound. A socket that only sends is
    /// bound to `("0.0.0.0", 0)` or `("::", 0)`.
    ///
    /// # Errors
    ///
    /// The resolver's; that of the first address, with an [`AddressError`], if none can be bound; `InvalidInput` for an
    /// endpoint that is a socket; what is wrong with an option, with a [`SocketOptionError`](crate::SocketOptionError);
    /// [`LoopClosed`] as an `io::Error`.
    ///
    /// # Panics
    ///
    /// If it is awaited outside of a running event loop.
    #[track_caller]
    pub fn bind(endpoint: impl Into<Endpoint>) -> BindUdp {
        let (el, endpoint) = (LaterLoop::new(BIND), endpoint.into());
        BindUdp { el, endpoint, options: SocketOptions::default(), reuse_port: false, broadcast: false }
    }

    fn over(el: &EventLoop, socket: Socket) -> io::Result<Self> {
        Ok(Self { shared: SharedSource::new(Source::new(&el.core, socket)?) })
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
    pub fn from_std(socket: std::net::UdpSocket) -> io::Result<Self> {
        let el = required_loop("UdpSocket::from_std");
        let socket = Socket::from(socket);
        set_nonblocking(&socket)?;
        Self::over(&el, socket)
    }

    /// Gives the socket away, unwatched. It stays non-blocking.
    pub fn into_std(self) -> std::net::UdpSocket {
        self.shared.into_io().into()
    }

    /// Connects it: it sends to this peer, and receives from it only. Of several addresses of the socket's family the first
    /// one that can be connected to is taken. May be called again, for another peer.
    ///
    /// # Errors
    ///
    /// The resolver's; the operating system's, with an [`AddressError`]; `InvalidInput` for an endpoint that is a socket, or
    /// of another family.
    pub async fn connect(&self, endpoint: impl Into<Endpoint>) -> io::Result<()> {
        let family = if self.local_addr()?.is_ipv4() { Family::V4 } else { Family::V6 };
        let el = EventLoop::handle(self.shared.source().core().clone());
        let mut failure = None;
        let targets = addresses(&el, "UdpSocket::connect", endpoint.into(), family).await?;
        for address in targets {
            match datagram::connect(self.socket(), &SockAddr::from(address)) {
                Ok(()) => return Ok(()),
                Err(error) => _ = failure.get_or_insert(AddressError::wrap("connect to", address, error)),
            }
        }
        Err(failure.unwrap_or_else(|| invalid_input("UdpSocket::connect: there is no address to connect to")))
    }

    /// Sends a datagram to an address, and gives its length. May be dropped before: then nothing is sent. Several tasks may
    /// send at once.
    ///
    /// # Errors
    ///
    /// The operating system's, most often that the datagram is too long, or the network cannot be reached;
    /// [`LoopClosed`] as an `io::Error`.
    pub async fn send_to(&self, data: &[u8], target: impl Into<SocketAddr>) -> io::Result<usize> {
        let target = target.into().into();
        let n = self.shared.io_loop(Direction::Write, |socket| send_to(socket, data, &target)).await?;
        Ok(self.sent(n))
    }

    /// As [`send_to`](Self::send_to), if there is room now.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is none; otherwise as [`send_to`](Self::send_to).
    pub fn try_send_to(&self, data: &[u8], target: impl Into<SocketAddr>) -> io::Result<usize> {
        let target = target.into().into();
        let sent = self.shared.try_io(Direction::Write, |socket| send_to(socket, data, &target));
        sent.inspect(|&n| self.core().count_out(n))
    }

    /// As [`send_to`](Self::send_to), for whoever polls: the one who polled last is woken.
    ///
    /// # Errors
    ///
    /// As [`send_to`](Self::send_to).
    pub fn poll_send_to(&self, cx: &mut Context<'_>, data: &[u8], target: SocketAddr) -> Poll<io::Result<usize>> {
        let target = target.into();
        let polled = self.shared.poll_io(Direction::Write, cx, |socket| send_to(socket, data, &target));
        polled.map_ok(|n| self.sent(n))
    }

    /// Sends to somebody else than the peer.
    pub(super) fn poll_letter(&self, cx: &mut Context<'_>, data: &[u8], to: &SocketAddr) -> Poll<io::Result<usize>> {
        self.poll_send_to(cx, data, *to)
    }
}

macro_rules! options {
    ($($(#[$doc:meta])* $get:ident -> $type:ty, $set:ident($value:ident) by $getter:ident, $setter:ident;)*) => {
        impl UdpSocket {
            $($(#[$doc])*
            ///
            /// # Errors
            ///
            /// The operating system's.
            pub fn $get(&self) -> io::Result<$type> {
                option(self.socket(), |socket| socket.$getter())
            }

            #[doc = concat!("Sets what [`", stringify!($get), "`](Self::", stringify!($get), ") tells.")]
            ///
            /// # Errors
            ///
            /// The operating system's.
            pub fn $set(&self, $value: $type) -> io::Result<()> {
                option(self.socket(), |socket| socket.$setter($value))
            })*
        }
    };
}

options! {
    /// Whether it may send to broadcast addresses (`SO_BROADCAST`): no, unless it was allowed.
    broadcast -> bool, set_broadcast(broadcast) by broadcast, set_broadcast;
    /// How many hops a datagram over IPv4 may take (`IP_TTL`).
    ttl -> u32, set_ttl(hops) by ttl_v4, set_ttl_v4;
    /// How many hops a datagram to an IPv4 group may take (`IP_MULTICAST_TTL`): 1, unless it was changed.
    multicast_ttl_v4 -> u32, set_multicast_ttl_v4(hops) by multicast_ttl_v4, set_multicast_ttl_v4;
    /// Whether what is sent to an IPv4 group comes back to this machine (`IP_MULTICAST_LOOP`).
    multicast_loop_v4 -> bool, set_multicast_loop_v4(back) by multicast_loop_v4, set_multicast_loop_v4;
    /// Whether what is sent to an IPv6 group comes back to this machine (`IPV6_MULTICAST_LOOP`).
    multicast_loop_v6 -> bool, set_multicast_loop_v6(back) by multicast_loop_v6, set_multicast_loop_v6;
}

impl UdpSocket {
    /// Joins a group of IPv4, on the interface with this address; any, for an unspecified one.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn join_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        option(self.socket(), |socket| socket.join_multicast_v4(&group, &interface))
    }

    /// Leaves a group that was joined.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn leave_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        option(self.socket(), |socket| socket.leave_multicast_v4(&group, &interface))
    }

    /// Joins a group of IPv6, on the interface with this number; any, for 0.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        option(self.socket(), |socket| socket.join_multicast_v6(group, interface))
    }

    /// Leaves a group that was joined.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        option(self.socket(), |socket| socket.leave_multicast_v6(group, interface))
    }
}

/// The addresses of an endpoint.
async fn addresses(el: &EventLoop, method: &str, endpoint: Endpoint, family: Family) -> io::Result<Vec<SocketAddr>> {
    if el.is_closed() {
        return Err(LoopClosed.into());
    }
    let addresses = match endpoint.kind {
        EndpointKind::Host(host, port) => {
            let hints = Hints { family, ..Hints::of(SocketType::Datagram) };
            resolve(el, &host, &port, hints).await?
        }
        EndpointKind::Addresses(addresses) => addresses,
        EndpointKind::Malformed(text) => return Err(malformed(method, &text)),
        EndpointKind::Socket(_) => return Err(invalid_input(format!("{method}: takes an address, not a socket"))),
    };
    family.select(method, addresses)
}

const BIND: &str = "UdpSocket::bind";

/// A UDP socket that is about to be made: see [`UdpSocket::bind`]. Await it.
#[must_use = "nothing happens before it is awaited"]
pub struct BindUdp {
    el: LaterLoop,
    endpoint: Endpoint,
    options: SocketOptions,
    reuse_port: bool,
    broadcast: bool,
}

impl BindUdp {
    /// Lets other sockets bind the same port; the system spreads what arrives over them.
    pub fn reuse_port(mut self, reuse_port: bool) -> Self {
        self.reuse_port = reuse_port;
        self
    }

    /// Whether it may send to broadcast addresses (no).
    pub fn allow_broadcast(mut self, allow_broadcast: bool) -> Self {
        self.broadcast = allow_broadcast;
        self
    }

    /// Whether a socket of IPv6 has to do with IPv6 only. Without it that is as the system has it; on Linux, most often not.
    pub fn v6only(mut self, v6only: bool) -> Self {
        self.options.v6only = Some(v6only);
        self
    }

    buffer_settings!(options);
    tos_setting!(options);
    bind_device_setting!(options);

    async fn open(self) -> io::Result<UdpSocket> {
        self.options.check(BIND)?;
        let Self { el, endpoint, options, reuse_port, broadcast } = self;
        let (el, mut failure) = (el.get(), None);
        for address in addresses(&el, BIND, endpoint, Family::Any).await? {
            match bound(address, &options, reuse_port, broadcast) {
                Ok(socket) => return UdpSocket::over(&el, socket),
                Err(error) => _ = failure.get_or_insert(error),
            }
        }
        Err(failure.unwrap_or_else(|| invalid_input(format!("{BIND}: there is no address to bind"))))
    }
}

fn bound(address: SocketAddr, options: &SocketOptions, reuse_port: bool, broadcast: bool) -> io::Result<Socket> {
    let failed = |error| AddressError::wrap("bind on", address, error);
    let socket = datagram::socket(Domain::for_address(address), 0).map_err(failed)?;
    if reuse_port {
        set_reuse_port(&socket).map_err(failed)?;
    }
    if broadcast {
        datagram::set_broadcast(&socket).map_err(failed)?;
    }
    let family = if address.is_ipv6() { net::Domain::V6 } else { net::Domain::V4 };
    options.apply(BIND, &socket, family)?;
    socket::bind(&socket, address).map_err(failed)?;
    Ok(socket)
}

impl fmt::Debug for BindUdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BindUdp")
            .field("endpoint", &self.endpoint)
            .field("options", &self.options)
            .field("reuse_port", &self.reuse_port)
            .field("broadcast", &self.broadcast)
            .finish_non_exhaustive()
    }
}

impl IntoFuture for BindUdp {
    type Output = io::Result<UdpSocket>;
    type IntoFuture = UdpBinding;

    fn into_future(self) -> UdpBinding {
        UdpBinding { future: Box::pin(self.open()) }
    }
}

/// The future of [`BindUdp`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct UdpBinding {
    future: BoxFuture<io::Result<UdpSocket>>,
}

impl Future for UdpBinding {
    type Output = io::Result<UdpSocket>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

impl fmt::Debug for UdpBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UdpBinding")
    }
}

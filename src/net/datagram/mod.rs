//! Datagram endpoints.

mod address;
mod socket;

pub use address::DatagramAddr;

use std::any::type_name;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use socket2::Socket;

use crate::dns::addr::Family;
use crate::dns::hints::{AddrInfoFlags, Hints, SocketType};
use crate::error::{LoopClosed, invalid_input};
use crate::event_loop::tasks::BoxFuture;
use crate::event_loop::timer::yield_once;
use crate::event_loop::{EventLoop, running};
use crate::net::datagram::socket::{Opened, Settings};
use crate::os::fd::OwnedFd;
use crate::protocol::{BaseTransport, DatagramHandle, DatagramProtocol, ProtocolRef};
use crate::sched::context;
use crate::transport::datagram::{DatagramSocket, Parts};

/// The method's name, for errors.
const METHOD: &str = "create_datagram_endpoint";

#[derive(Debug)]
struct Options {
    local_addr: Option<DatagramAddr>,
    remote_addr: Option<DatagramAddr>,
    hints: Hints,
    settings: Settings,
    reuse_address: bool,
    socket: Option<Socket>,
    /// Where the application asks for it.
    created_at: &'static Location<'static>,
}

impl Options {
    #[track_caller]
    fn new() -> Self {
        Self {
            local_addr: None,
            remote_addr: None,
            hints: Hints::of(SocketType::Datagram),
            settings: Settings::default(),
            reuse_address: false,
            socket: None,
            created_at: Location::caller(),
        }
    }

    /// Options that do not go together.
    fn check(&self) -> io::Result<()> {
        if self.reuse_address {
            return Err(invalid_input(format!(
                "{METHOD}: reuse_address(true) is refused: it lets any process of the same user take an address that is \
                 in use, and the datagrams with it; see reuse_port()"
            )));
        }
        self.settings.socket.check(METHOD)?;
        if self.hints.family == Family::V4 && self.settings.socket.v6only.is_some() {
            return Err(invalid_input(format!("{METHOD}: v6only() cannot be used with family(V4)")));
        }
        if self.socket.is_none() {
            return Ok(());
        }
        let modifiers = [
            ("local_addr()", self.local_addr.is_some()),
            ("remote_addr()", self.remote_addr.is_some()),
            ("family()", self.hints.family != Family::Any),
            ("proto()", self.hints.proto != 0),
            ("flags()", !self.hints.flags.is_empty()),
            ("reuse_port()", self.settings.reuse_port),
            ("allow_broadcast()", self.settings.allow_broadcast),
        ];
        let given = modifiers.iter().filter(|(_, given)| *given).map(|(name, _)| *name);
        let problems: Vec<&str> = given.chain(self.settings.socket.first_too_late()).collect();
        if problems.is_empty() {
            return Ok(());
        }
        Err(invalid_input(format!("{METHOD}: {} cannot be used with sock()", problems.join(", "))))
    }
}

/// A datagram endpoint that is about to be made: see [`EventLoop::create_datagram_endpoint`]. Await it.
#[must_use = "nothing happens before it is awaited"]
pub struct CreateDatagramEndpoint<F> {
    el: EventLoop,
    factory: F,
    options: Options,
}

impl EventLoop {
    /// Makes a datagram endpoint, and lets a protocol hear of it: `factory` is called when the socket is there.
    ///
    /// With [`local_addr`](CreateDatagramEndpoint::local_addr) it receives what is sent to that address, from anybody; with
    /// [`remote_addr`](CreateDatagramEndpoint::remote_addr) it is connected: it sends to that address, and receives from
    /// there only. Names are resolved off the loop; of two names with several addresses, those of one family are paired,
    /// and the pairs tried in order. `connection_made` has been called when the future is ready. Dropping the future before
    /// closes whatever was opened.
    ///
    /// The file of a unix socket is made by binding and stays when the endpoint is closed. One that is left of a socket that
    /// is closed is replaced; one of a socket in use, or what is no socket, is not.
    ///
    /// # Errors
    ///
    /// The resolver's; that of the first pair, if none can be used, of the operating system's kind.
    /// `InvalidInput` without addresses, family and socket, where the addresses have no family in common, for options that
    /// do not go together, and where it is awaited in another loop; [`LoopClosed`] as an `io::Error`.
    ///
    /// ```
    /// use roundelay::{Address, DatagramHandle, DatagramProtocol};
    ///
    /// struct Echo;
    /// impl DatagramProtocol for Echo {
    ///     fn datagram_received(&mut self, transport: &DatagramHandle, data: &[u8], from: Option<&Address>) {
    ///         transport.sendto(data, from);
    ///     }
    /// }
    ///
    /// #[derive(Default)]
    /// struct Answer(Vec<u8>);
    /// impl DatagramProtocol for Answer {
    ///     fn datagram_received(&mut self, transport: &DatagramHandle, data: &[u8], _: Option<&Address>) {
    ///         self.0.extend_from_slice(data);
    ///         transport.close();
    ///     }
    /// }
    ///
    /// roundelay::block_on(async {
    ///     let el = roundelay::get_running_loop()?;
    ///     let (server, _) = el.create_datagram_endpoint(|| Echo).local_addr(("127.0.0.1", 0)).await?;
    ///     let address = server.extra_info().local_addr.unwrap();
    ///
    ///     let (client, protocol) = el.create_datagram_endpoint(Answer::default).remote_addr(address).await?;
    ///     client.sendto(b"hello", None);
    ///     while !client.is_closing() {
    ///         roundelay::yield_now().await;
    ///     }
    ///     protocol.with(|answer| assert_eq!(answer.0, b"hello"));
    ///     server.close();
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    #[track_caller]
    pub fn create_datagram_endpoint<F, P>(&self, factory: F) -> CreateDatagramEndpoint<F>
    where
        F: FnOnce() -> P + 'static,
        P: DatagramProtocol,
    {
        CreateDatagramEndpoint { el: self.clone(), factory, options: Options::new() }
    }
}

impl<F> CreateDatagramEndpoint<F> {
    /// Receives at this address. Port 0 is for any free one, which
    /// [`extra_info`](DatagramHandle::extra_info) tells.
    pub fn local_addr(mut self, local_addr: impl Into<DatagramAddr>) -> Self {
        self.options.local_addr = Some(local_addr.into());
        self
    }

    /// Sends to this address, and receives from there only.
    pub fn remote_addr(mut self, remote_addr: impl Into<DatagramAddr>) -> Self {
        self.options.remote_addr = Some(remote_addr.into());
        self
    }

    /// Uses addresses of this family only. Without any address it says of which family the socket is; it is bound by the
    /// first datagram that it sends.
    pub fn family(mut self, family: Family) -> Self {
        self.options.hints.family = family;
        self
    }

    /// Uses another protocol than UDP, by its number: the resolver is asked for it, and the socket is made with it.
    pub fn proto(mut self, proto: i32) -> Self {
        self.options.hints.proto = proto;
        self.options.settings.proto = proto;
        self
    }

    /// What the resolver is told: see [`EventLoop::getaddrinfo`](crate::EventLoop::getaddrinfo).
    pub fn flags(mut self, flags: AddrInfoFlags) -> Self {
        self.options.hints.flags = flags;
        self
    }

    /// Lets other endpoints with the same setting, of the same user, bind the same address: the system shares out what
    /// arrives.
    pub fn reuse_port(mut self, reuse_port: bool) -> Self {
        self.options.settings.reuse_port = reuse_port;
        self
    }

    /// Lets it send to broadcast addresses. Datagrams go to `remote_addr` then as before, and may come from anybody.
    pub fn allow_broadcast(mut self, allow_broadcast: bool) -> Self {
        self.options.settings.allow_broadcast = allow_broadcast;
        self
    }

    /// Whether a socket of IPv6 is one of IPv6 only. Without this it is as the system has it: on Linux not, and then one that
    /// is bound to `::` hears of IPv4, too. A socket of IPv4 has no such option, and does without.
    pub fn v6only(mut self, v6only: bool) -> Self {
        self.options.settings.socket.v6only = Some(v6only);
        self
    }

    crate::net::buffer_settings!(options.settings.socket);
    crate::net::tos_setting!(options.settings.socket);
    crate::net::bind_device_setting!(options.settings.socket);

    /// `true` is refused, as in asyncio: with `SO_REUSEADDR` several processes may be bound to one address, and it is not
    /// said which of them gets a datagram. It is never set.
    pub fn reuse_address(mut self, reuse_address: bool) -> Self {
        self.options.reuse_address = reuse_address;
        self
    }

    /// Uses a socket that is there already (`std::net::UdpSocket`, `std::os::unix::net::UnixDatagram`,
    /// `socket2::Socket`, `OwnedFd`), bound and connected or not. It becomes non-blocking. Of the other settings only the
    /// sizes of the buffers and [`tos`](Self::tos) can be used then.
    pub fn sock(mut self, socket: impl Into<OwnedFd>) -> Self {
        self.options.socket = Some(socket.into().into());
        self
    }
}

impl<F> fmt::Debug for CreateDatagramEndpoint<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateDatagramEndpoint").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<F, P> IntoFuture for CreateDatagramEndpoint<F>
where
    F: FnOnce() -> P + 'static,
    P: DatagramProtocol,
{
    type Output = io::Result<(DatagramHandle, ProtocolRef<P>)>;
    type IntoFuture = OpeningDatagrams<P>;

    fn into_future(self) -> OpeningDatagrams<P> {
        let Self { el, factory, options } = self;
        OpeningDatagrams { future: Box::pin(open(el, factory, options)) }
    }
}

/// The future of [`CreateDatagramEndpoint`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct OpeningDatagrams<P> {
    future: BoxFuture<io::Result<(DatagramHandle, ProtocolRef<P>)>>,
}

impl<P> Future for OpeningDatagrams<P> {
    type Output = io::Result<(DatagramHandle, ProtocolRef<P>)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

impl<P> fmt::Debug for OpeningDatagrams<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpeningDatagrams<{}>", type_name::<P>())
    }
}

/// Aborts an endpoint that nobody has taken over.
struct Unclaimed(Option<Rc<DatagramSocket>>);

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(transport) = self.0.take() {
            transport.abort();
        }
    }
}

async fn open<F, P>(el: EventLoop, factory: F, options: Options) -> io::Result<(DatagramHandle, ProtocolRef<P>)>
where
    F: FnOnce() -> P,
    P: DatagramProtocol,
{
    running::refuse_elsewhere(&el, METHOD)?;
    options.check()?;
    if el.is_closed() {
        return Err(LoopClosed.into());
    }
    let created_at = options.created_at;
    let Opened { socket, peer, is_unix } = opened(&el, options).await?;
    let protocol = ProtocolRef::new(factory());
    let parts =
        Parts { protocol: protocol.clone().into(), context: context::fork_current(), peer, is_unix, created_at };
    let transport = DatagramSocket::open(&el, socket, parts)?;
    // `connection_made` has a turn of its own, which comes before this task's next one.
    let mut unclaimed = Unclaimed(Some(transport.clone()));
    transport.make_connection_soon();
    while !transport.is_made() {
        yield_once().await;
    }
    // What `connection_made` has scheduled comes first, too; and then this, before anything that arrives.
    yield_once().await;
    unclaimed.0 = None;
    Ok((transport.handle(), protocol))
}

/// The first socket that can be had.
async fn opened(el: &EventLoop, options: Options) -> io::Result<Opened> {
    let Options { local_addr, remote_addr, hints, settings, socket: given, .. } = options;
    if let Some(given) = given {
        return socket::given(METHOD, given, &settings);
    }
    if local_addr.is_none() && remote_addr.is_none() {
        return socket::unbound(METHOD, hints.family, &settings);
    }
    let mut failure = None;
    for pair in address::pairs(el, METHOD, local_addr, remote_addr, hints).await? {
        match socket::with_addresses(pair, &settings) {
            Ok(opened) => return Ok(opened),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(|| invalid_input(format!("{METHOD}: there was no address"))))
}

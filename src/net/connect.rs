//! Client connections.

use std::any::type_name;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockAddr, Socket};

use crate::dns::addr::{Family, interleave};
use crate::dns::hints::{AddrInfoFlags, Hints, SocketType};
use crate::dns::resolve;
use crate::error::{AddressError, ConnectErrors, LoopClosed, invalid_input};
use crate::event_loop::source::Source;
use crate::event_loop::tasks::BoxFuture;
use crate::event_loop::timer::yield_once;
use crate::event_loop::{Core, EventLoop, LoopRegistration, running};
use crate::net::endpoint::{Endpoint, EndpointKind, malformed, take_socket};
use crate::net::happy_eyeballs::first_success;
use crate::net::options::{Domain, SocketOptions};
use crate::net::security::Security;
use crate::os::fd::OwnedFd;
use crate::os::socket;
use crate::protocol::{AnyProtocol, Protocol, ProtocolRef, Transport};
use crate::reactor::slot::Direction;
use crate::reactor::{Interest, Readiness};
use crate::transport::address::KeptAddress;
use crate::transport::stream::{Parts, SocketTransport, local_addr_of};

/// Settings of a client connection, apart from the protocol.
#[derive(Debug)]
pub(crate) struct ConnectOptions {
    pub(crate) endpoint: Endpoint,
    pub(crate) hints: Hints,
    pub(crate) local_addr: Option<Endpoint>,
    /// After how long the next attempt begins beside the one before.
    pub(crate) happy_eyeballs_delay: Option<Duration>,
    /// How many addresses of the first family come before the families take turns; zero leaves the order. `None`: one if
    /// attempts overlap, else zero.
    pub(crate) interleave: Option<usize>,
    pub(crate) all_errors: bool,
    pub(crate) socket: SocketOptions,
    pub(crate) security: Security,
    /// Where the application connects.
    pub(crate) created_at: &'static Location<'static>,
}

impl ConnectOptions {
    #[track_caller]
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            hints: Hints::of(SocketType::Stream),
            local_addr: None,
            happy_eyeballs_delay: None,
            interleave: None,
            all_errors: false,
            socket: SocketOptions::default(),
            security: Security::default(),
            created_at: Location::caller(),
        }
    }

    /// Options that do not go together.
    fn check(&self, method: &str) -> io::Result<()> {
        self.socket.check(method)?;
        if matches!(self.endpoint.kind, EndpointKind::Socket(_)) {
            // What is decided before there is a socket comes too late.
            let given = [
                ("local_addr()", self.local_addr.is_some()),
                ("happy_eyeballs_delay()", self.happy_eyeballs_delay.is_some()),
                ("interleave()", self.interleave.is_some()),
            ];
            let given = given.into_iter().find(|(_, given)| *given).map(|(option, _)| option);
            if let Some(option) = given.or(self.hints.first_given()).or(self.socket.first_too_late()) {
                return Err(invalid_input(format!("{method}: {option} cannot be used with a socket")));
            }
        }
        if matches!(&self.local_addr, Some(Endpoint { kind: EndpointKind::Socket(_) })) {
            return Err(invalid_input(format!("{method}: local_addr() takes an address, not a socket")));
        }
        Ok(())
    }
}

/// A connected socket, and its registration if it has one already.
pub(crate) struct Connected {
    /// Before the socket: it has to end first.
    pub(crate) registration: Option<LoopRegistration>,
    pub(crate) socket: Socket,
    pub(crate) peer_addr: KeptAddress,
}

impl Connected {
    /// One that was there before.
    pub(super) fn given(method: &str, socket: Socket, options: &SocketOptions) -> io::Result<Self> {
        if options.nodelay.is_none() {
            set_nodelay(&socket);
        }
        options.apply(method, &socket, Domain::of(&socket))?;
        let peer_addr = socket::peer_addr(&socket).ok().into();
        Ok(Self { socket, registration: None, peer_addr })
    }

    /// As a descriptor that tasks wait for.
    pub(crate) fn into_source(self, el: &EventLoop) -> io::Result<Source<Socket>> {
        match self.registration {
            Some(registration) => Source::adopt(&el.core, registration, self.socket),
            None => Source::new(&el.core, self.socket),
        }
    }
}

/// Connects: resolves, tries every address in order, and gives the first socket that connects.
pub(crate) async fn connected_socket(el: &EventLoop, method: &str, options: ConnectOptions) -> io::Result<Connected> {
    options.check(method)?;
    if el.is_closed() {
        return Err(LoopClosed.into());
    }
    let ConnectOptions {
        endpoint,
        hints,
        local_addr,
        happy_eyeballs_delay: delay,
        interleave: turns,
        all_errors,
        socket: socket_options,
        ..
    } = options;
    let targets = match endpoint.kind {
        EndpointKind::Socket(given) => {
            let socket = take_socket(method, given)?;
            return Connected::given(method, socket, &socket_options);
        }
        EndpointKind::Addresses(addresses) => addresses,
        EndpointKind::Host(host, port) => resolve(el, &host, &port, hints).await?,
        EndpointKind::Malformed(text) => return Err(malformed(method, &text)),
    };
    let mut targets = hints.family.select(method, targets)?;
    let locals = match local_addr.map(|local| local.kind) {
        None | Some(EndpointKind::Socket(_)) => None,
        Some(EndpointKind::Addresses(addresses)) => Some(addresses),
        Some(EndpointKind::Host(host, port)) => Some(resolve(el, &host, &port, hints).await?),
        Some(EndpointKind::Malformed(text)) => return Err(malformed(&format!("{method}: local_addr()"), &text)),
    };
    let turns = turns.unwrap_or(usize::from(delay.is_some()));
    if turns > 0 {
        targets = interleave(&targets, turns);
    }
    let set = |socket: &Socket, domain| socket_options.apply_to_stream(method, socket, domain);
    let connect_to = |target| attempt(&el.core, target, hints.proto, &set, locals.as_deref());
    first_success(&targets, delay, connect_to).await.map_err(|errors| merge(errors, all_errors))
}

/// Sets `TCP_NODELAY` on a socket that somebody else has made, if it is one of the internet's.
pub(crate) fn set_nodelay(socket: &Socket) {
    let of_internet = socket::local_addr(socket).is_ok_and(|address| address.as_ip().is_some());
    if of_internet {
        // Some systems refuse it where the peer is gone already, which the first read will tell.
        if let Err(error) = socket::set_nodelay(socket) {
            note!(DEBUG, "roundelay::io", "cannot set TCP_NODELAY on a given socket: {error}");
        }
    }
}

/// Connects to one address. Dropping the future closes the socket.
async fn attempt(
    core: &Rc<Core>,
    target: SocketAddr,
    proto: i32,
    set_options: &impl Fn(&Socket, Domain) -> io::Result<()>,
    locals: Option<&[SocketAddr]>,
) -> io::Result<Connected> {
    let failed = |error| AddressError::wrap("connect to", target, error);
    let socket = socket::stream(&target, proto).map_err(failed)?;
    set_options(&socket, if target.is_ipv6() { Domain::V6 } else { Domain::V4 })?;
    if let Some(locals) = locals {
        bind_local(&socket, &target, locals)?;
    }
    if socket::connect(&socket, &SockAddr::from(target)).map_err(failed)? {
        return Ok(Connected { socket, registration: None, peer_addr: target.into() });
    }
    let source = Source::with_interest(core, socket, Interest::WRITABLE, Readiness::NONE).map_err(failed)?;
    source.io_loop(Direction::Write, |socket| socket::connect_result(socket)).await.map_err(failed)?;
    let (registration, socket) = source.into_parts();
    Ok(Connected { socket, registration: Some(registration), peer_addr: target.into() })
}

/// Binds to the first local address of the target's family that can be bound.
fn bind_local(socket: &Socket, target: &SocketAddr, locals: &[SocketAddr]) -> io::Result<()> {
    let mut failure = None;
    for local in locals.iter().filter(|local| local.is_ipv4() == target.is_ipv4()) {
        match socket::bind(socket, *local) {
            Ok(()) => return Ok(()),
            Err(error) => failure = Some(AddressError::wrap("bind on", *local, error)),
        }
    }
    Err(failure.unwrap_or_else(|| {
        let family = if target.is_ipv4() { "IPv4" } else { "IPv6" };
        let text = format!("no matching local address with family {family} found for {target}");
        io::Error::new(io::ErrorKind::AddrNotAvailable, text)
    }))
}

/// One error for all attempts.
fn merge(mut errors: Vec<io::Error>, all: bool) -> io::Error {
    let kind = errors.first().map_or(io::ErrorKind::AddrNotAvailable, io::Error::kind);
    if all && !errors.is_empty() {
        return io::Error::new(kind, ConnectErrors { errors });
    }
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    match texts.as_slice() {
        [] => io::Error::new(kind, "there was no address to connect to"),
        [first, rest @ ..] if rest.iter().all(|text| text == first) => errors.swap_remove(0),
        texts => io::Error::new(kind, format!("Multiple exceptions: {}", texts.join(", "))),
    }
}

/// A client connection that is about to be made: see [`EventLoop::create_connection`]. Await it.
#[must_use = "nothing happens before it is awaited"]
pub struct CreateConnection<F> {
    el: EventLoop,
    factory: F,
    options: ConnectOptions,
}

impl EventLoop {
    /// Connects to a TCP endpoint (`host` and `port`, addresses, or a connected socket) and lets a protocol hear of
    /// it: `factory` is called when the connection stands.
    ///
    /// Names, also those of services, are resolved off the loop; every address is tried in the resolver's order, one after
    /// the other unless there is a [`happy_eyeballs_delay`](CreateConnection::happy_eyeballs_delay). `connection_made` has been called when the future is ready. Dropping the future before closes whatever was opened. `TCP_NODELAY` is set.
    ///
    /// # Errors
    ///
    /// The resolver's, with a [`ResolveError`](crate::ResolveError); the error of the only attempt, or of all if they are the same; else one that names them all.
    /// Those of attempts are of the operating system's kind and carry an [`AddressError`](crate::AddressError).
    /// `InvalidInput` for options that do not go together, and where it is awaited in another loop; [`LoopClosed`] as an
    /// `io::Error`.
    ///
    /// ```
    /// use roundelay::{Protocol, Transport};
    ///
    /// #[derive(Default)]
    /// struct Collect(Vec<u8>);
    /// impl Protocol for Collect {
    ///     fn data_received(&mut self, transport: &Transport, data: &[u8]) {
    ///         self.0.extend_from_slice(data);
    ///         transport.close();
    ///     }
    /// }
    /// struct Greet;
    /// impl Protocol for Greet {
    ///     fn connection_made(&mut self, transport: &Transport) {
    ///         transport.write(b"hello");
    ///     }
    /// }
    ///
    /// roundelay::block_on(async {
    ///     let el = roundelay::get_running_loop().unwrap();
    ///     let server = el.create_server(|| Greet, ("127.0.0.1", 0)).await?;
    ///     let (transport, protocol) = el.create_connection(Collect::default, server.local_addrs()[0]).await?;
    ///     while !transport.is_closing() {
    ///         roundelay::yield_now().await;
    ///     }
    ///     protocol.with(|collect| assert_eq!(collect.0, b"hello"));
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    #[track_caller]
    pub fn create_connection<F, P>(&self, factory: F, endpoint: impl Into<Endpoint>) -> CreateConnection<F>
    where
        F: FnOnce() -> P + 'static,
        P: Protocol,
    {
        CreateConnection { el: self.clone(), factory, options: ConnectOptions::new(endpoint.into()) }
    }
}

/// The settings that connections of protocols and connections of streams share. `$place` is where the options are.
macro_rules! connect_settings {
    ($($place:ident).+) => {
        /// Uses addresses of this family only. One that is given as such and is of the other is refused.
        pub fn family(mut self, family: Family) -> Self {
            self.$($place).+.hints.family = family;
            self
        }

        /// Uses another protocol than TCP, by its number: the resolver is asked for it, and sockets are made with it.
        pub fn proto(mut self, proto: i32) -> Self {
            self.$($place).+.hints.proto = proto;
            self
        }

        /// What the resolver is told: see [`EventLoop::getaddrinfo`](crate::EventLoop::getaddrinfo).
        pub fn flags(mut self, flags: AddrInfoFlags) -> Self {
            self.$($place).+.hints.flags = flags;
            self
        }

        /// Connects from this address; of a host with several, from one of the target's family.
        pub fn local_addr(mut self, local_addr: impl Into<Endpoint>) -> Self {
            self.$($place).+.local_addr = Some(local_addr.into());
            self
        }

        /// Of a host with several addresses, does not wait for an attempt to fail before the next one begins, but only so
        /// long (Happy Eyeballs, RFC 8305, which recommends 250 milliseconds). The first that succeeds wins, and the others
        /// are closed. Without it an address that does not answer holds up the next one until the system gives up on it,
        /// which takes minutes.
        pub fn happy_eyeballs_delay(mut self, delay: Duration) -> Self {
            self.$($place).+.happy_eyeballs_delay = Some(delay);
            self
        }

        /// Tries the families of addresses in turns, after so many of the first address' family. Zero leaves the resolver's
        /// order. One if there is a [`happy_eyeballs_delay`](Self::happy_eyeballs_delay), else zero.
        pub fn interleave(mut self, first_family_count: usize) -> Self {
            self.$($place).+.interleave = Some(first_family_count);
            self
        }

        /// If every attempt fails, gives an error that carries [`ConnectErrors`](crate::ConnectErrors), with one error for
        /// each attempt.
        pub fn all_errors(mut self, all_errors: bool) -> Self {
            self.$($place).+.all_errors = all_errors;
            self
        }

        $crate::net::tcp_settings!($($place).+.socket);
        $crate::net::bind_device_setting!($($place).+.socket);
    };
}
pub(crate) use connect_settings;

impl<F> CreateConnection<F> {
    #[cfg(feature = "__tls")]
    crate::tls::tls_client_settings!(options.security.tls);

    connect_settings!(options);
}

impl<F> fmt::Debug for CreateConnection<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateConnection").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<F, P> IntoFuture for CreateConnection<F>
where
    F: FnOnce() -> P + 'static,
    P: Protocol,
{
    type Output = io::Result<(Transport, ProtocolRef<P>)>;
    type IntoFuture = Connecting<P>;

    fn into_future(self) -> Connecting<P> {
        let Self { el, factory, options } = self;
        Connecting::new(connect(el, "create_connection", factory, options))
    }
}

/// An accepted connection that is about to get its protocol: see [`EventLoop::connect_accepted_socket`]. Await it.
#[must_use = "nothing happens before it is awaited"]
pub struct ConnectAcceptedSocket<F> {
    el: EventLoop,
    factory: F,
    socket: Socket,
    socket_options: SocketOptions,
    security: Security,
    created_at: &'static Location<'static>,
}

impl EventLoop {
    /// Lets a protocol hear of a connection that was accepted elsewhere than by a [`Server`](crate::Server): by a
    /// listener of your own, or by another process that has handed the socket over.
    ///
    /// Otherwise as [`create_connection`](Self::create_connection) with a socket.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it is no stream socket, and for an option that it does not have; the operating system's; [`LoopClosed`] as an `io::Error`.
    ///
    /// ```
    /// use roundelay::{Protocol, Transport};
    ///
    /// struct Greet;
    /// impl Protocol for Greet {
    ///     fn connection_made(&mut self, transport: &Transport) {
    ///         transport.write(b"hello");
    ///         transport.close();
    ///     }
    /// }
    ///
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let mut client = std::net::TcpStream::connect(listener.local_addr()?)?;
    /// let (accepted, _) = listener.accept()?;
    /// roundelay::block_on(async {
    ///     let el = roundelay::get_running_loop().unwrap();
    ///     el.connect_accepted_socket(|| Greet, accepted).await.map(drop)
    /// })?;
    /// assert_eq!(std::io::read_to_string(&mut client)?, "hello");
    /// # std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub fn connect_accepted_socket<F, P>(&self, factory: F, socket: impl Into<OwnedFd>) -> ConnectAcceptedSocket<F>
    where
        F: FnOnce() -> P + 'static,
        P: Protocol,
    {
        let (socket, created_at) = (socket.into().into(), Location::caller());
        let (socket_options, security) = (SocketOptions::default(), Security::default());
        ConnectAcceptedSocket { el: self.clone(), factory, socket, socket_options, security, created_at }
    }
}

impl<F> ConnectAcceptedSocket<F> {
    crate::net::tcp_settings!(socket_options);

    #[cfg(feature = "__tls")]
    crate::tls::tls_server_settings!(security.tls);
}

impl<F> fmt::Debug for ConnectAcceptedSocket<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectAcceptedSocket").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl<F, P> IntoFuture for ConnectAcceptedSocket<F>
where
    F: FnOnce() -> P + 'static,
    P: Protocol,
{
    type Output = io::Result<(Transport, ProtocolRef<P>)>;
    type IntoFuture = Connecting<P>;

    fn into_future(self) -> Connecting<P> {
        let Self { el, factory, socket, socket_options, security, created_at } = self;
        let options =
            ConnectOptions { socket: socket_options, security, created_at, ..ConnectOptions::new(socket.into()) };
        Connecting::new(connect(el, "connect_accepted_socket", factory, options))
    }
}

/// The future of [`CreateConnection`], [`ConnectAcceptedSocket`], [`CreateUnixConnection`](crate::CreateUnixConnection) and
/// [`ConnectPipe`](crate::ConnectPipe).
#[must_use = "futures do nothing unless they are awaited"]
pub struct Connecting<P> {
    future: BoxFuture<io::Result<(Transport, ProtocolRef<P>)>>,
}

impl<P> Connecting<P> {
    pub(crate) fn new(future: impl Future<Output = io::Result<(Transport, ProtocolRef<P>)>> + 'static) -> Self {
        Self { future: Box::pin(future) }
    }
}

impl<P> Future for Connecting<P> {
    type Output = io::Result<(Transport, ProtocolRef<P>)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

impl<P> fmt::Debug for Connecting<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connecting<{}>", type_name::<P>())
    }
}

/// Aborts a connection that nobody has taken over.
struct Unclaimed(Option<Transport>);

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(transport) = self.0.take() {
            transport.abort();
        }
    }
}

/// Connects, for whichever method it is.
pub(crate) async fn connect<F, P>(
    el: EventLoop,
    method: &'static str,
    factory: F,
    mut options: ConnectOptions,
) -> io::Result<(Transport, ProtocolRef<P>)>
where
    F: FnOnce() -> P,
    P: Protocol,
{
    let security = std::mem::take(&mut options.security);
    let origin = Origin { security, host: options.endpoint.kind.host(), created_at: options.created_at };
    establish(&el, method, factory, origin, connected_socket(&el, method, options)).await
}

/// How a connection came about.
pub(super) struct Origin {
    /// What is to be between.
    pub(super) security: Security,
    /// The name of the peer's host, if it has one.
    pub(super) host: Option<String>,
    pub(super) created_at: &'static Location<'static>,
}

/// Connects, and lets a protocol hear of it.
pub(super) async fn establish<F, P>(
    el: &EventLoop,
    method: &'static str,
    factory: F,
    origin: Origin,
    connecting: impl Future<Output = io::Result<Connected>>,
) -> io::Result<(Transport, ProtocolRef<P>)>
where
    F: FnOnce() -> P,
    P: Protocol,
{
    running::refuse_elsewhere(el, method)?;
    let Origin { security, host, created_at } = origin;
    let secured = security.begin(method, host.as_deref())?;
    let connected = connecting.await?;
    let protocol = ProtocolRef::new(factory());
    let open = |protocol| open_transport(&el.core, connected, protocol, created_at);
    let transport = secured.introduce(&el.core, protocol.clone().into(), open).await?;
    Ok((transport, protocol))
}

/// Lets the protocol hear of its transport, which is aborted if this is dropped before it is done.
pub(crate) async fn introduce(transport: Rc<SocketTransport>) -> Transport {
    // `connection_made` has a turn of its own, which comes before this task's next one.
    let mut unclaimed = Unclaimed(Some(transport.transport()));
    transport.make_connection_soon();
    while !transport.is_made() {
        yield_once().await;
    }
    // What `connection_made` has scheduled comes first, too; and then this, before anything that arrives.
    yield_once().await;
    drop(transport);
    unclaimed.0.take().expect("it was put there above")
}

/// A transport over a connected socket.
fn open_transport(
    core: &Rc<Core>,
    connected: Connected,
    protocol: AnyProtocol,
    created_at: &'static Location<'static>,
) -> io::Result<Rc<SocketTransport>> {
    let Connected { socket, registration, peer_addr } = connected;
    let local_addr = local_addr_of(&socket);
    let parts = Parts::new(protocol, local_addr, peer_addr, Some(created_at));
    match registration {
        Some(registration) => SocketTransport::adopt(core, registration, socket, parts),
        None => SocketTransport::open(core, socket, parts),
    }
}

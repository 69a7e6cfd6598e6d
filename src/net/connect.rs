//! Client connections.

use std::any::type_name;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use socket2::{SockAddr, Socket};

use crate::dns::addr::Family;
use crate::dns::resolve;
use crate::error::{AddressError, ConnectErrors, LoopClosed, invalid_input};
use crate::event_loop::source::Source;
use crate::event_loop::tasks::BoxFuture;
use crate::event_loop::timer::yield_once;
use crate::event_loop::{Core, EventLoop, LoopRegistration, running};
use crate::net::endpoint::{Endpoint, EndpointKind, take_socket};
use crate::os::fd::OwnedFd;
use crate::os::socket;
use crate::protocol::{Protocol, ProtocolRef, Transport};
use crate::reactor::slot::Direction;
use crate::reactor::{Interest, Readiness};
use crate::sched::context;
use crate::transport::stream::{Parts, SocketTransport};

/// Settings of a client connection, apart from the protocol.
#[derive(Debug)]
pub(crate) struct ConnectOptions {
    pub(crate) endpoint: Endpoint,
    pub(crate) family: Family,
    pub(crate) local_addr: Option<Endpoint>,
    pub(crate) all_errors: bool,
}

impl ConnectOptions {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, family: Family::Any, local_addr: None, all_errors: false }
    }

    /// Options that do not go together.
    fn check(&self, method: &str) -> io::Result<()> {
        let given = matches!(self.endpoint.kind, EndpointKind::Socket(_));
        let clash = |option: &str| Err(invalid_input(format!("{method}: {option} cannot be used with a socket")));
        if given && self.local_addr.is_some() {
            return clash("local_addr()");
        }
        if given && self.family != Family::Any {
            return clash("family()");
        }
        if matches!(&self.local_addr, Some(Endpoint { kind: EndpointKind::Socket(_) })) {
            return Err(invalid_input(format!("{method}: local_addr() takes an address, not a socket")));
        }
        Ok(())
    }
}

/// A connected socket, and its registration if it has one already.
pub(crate) struct Connected {
    pub(crate) socket: Socket,
    pub(crate) registration: Option<LoopRegistration>,
    pub(crate) peer_addr: Option<SocketAddr>,
}

/// Connects: resolves, tries every address in order, and gives the first socket that connects.
pub(crate) async fn connected_socket(el: &EventLoop, method: &str, options: ConnectOptions) -> io::Result<Connected> {
    options.check(method)?;
    if el.is_closed() {
        return Err(LoopClosed.into());
    }
    let ConnectOptions { endpoint, family, local_addr, all_errors } = options;
    let targets = match endpoint.kind {
        EndpointKind::Socket(given) => {
            let socket = take_socket(method, given)?;
            return Ok(given_socket(socket));
        }
        EndpointKind::Addresses(addresses) => addresses,
        EndpointKind::Host(host, port) => resolve(el, host, port, family).await?,
    };
    let targets = family.select(method, targets)?;
    let locals = match local_addr.map(|local| local.kind) {
        None | Some(EndpointKind::Socket(_)) => None,
        Some(EndpointKind::Addresses(addresses)) => Some(addresses),
        Some(EndpointKind::Host(host, port)) => Some(resolve(el, host, port, family).await?),
    };
    let mut errors = Vec::new();
    for target in targets {
        match attempt(&el.core, target, locals.as_deref()).await {
            Ok(connected) => return Ok(connected),
            Err(error) => errors.push(error),
        }
    }
    Err(merge(errors, all_errors))
}

/// A connected socket that was there before.
fn given_socket(socket: Socket) -> Connected {
    set_nodelay(&socket);
    let peer_addr = socket.peer_addr().ok().and_then(|address| address.as_socket());
    Connected { socket, registration: None, peer_addr }
}

/// Sets `TCP_NODELAY` on a socket that somebody else has made, if it is one of the internet's.
pub(crate) fn set_nodelay(socket: &Socket) {
    let of_internet = socket.local_addr().is_ok_and(|address| address.as_socket().is_some());
    if of_internet {
        // Some systems refuse it where the peer is gone already, which the first read will tell.
        if let Err(error) = socket.set_tcp_nodelay(true) {
            tracing::debug!(target: "roundelay", "cannot set TCP_NODELAY on a given socket: {error}");
        }
    }
}

/// Connects to one address. Dropping the future closes the socket.
async fn attempt(core: &Rc<Core>, target: SocketAddr, locals: Option<&[SocketAddr]>) -> io::Result<Connected> {
    let failed = |error| AddressError::wrap("connect to", target, error);
    let socket = socket::tcp(&target).map_err(failed)?;
    if let Some(locals) = locals {
        bind_local(&socket, &target, locals)?;
    }
    socket.set_tcp_nodelay(true).map_err(failed)?;
    if socket::connect(&socket, &SockAddr::from(target)).map_err(failed)? {
        return Ok(Connected { socket, registration: None, peer_addr: Some(target) });
    }
    let source = Source::with_interest(core, socket, Interest::WRITABLE, Readiness::NONE)?;
    source
        .io_loop(Direction::Write, |socket| match socket.take_error()? {
            Some(error) => Err(error),
            // A wake-up without cause: not connected yet, and not failed.
            None if socket.peer_addr().is_err() => Err(io::ErrorKind::WouldBlock.into()),
            None => Ok(()),
        })
        .await
        .map_err(failed)?;
    let (registration, socket) = source.into_parts();
    Ok(Connected { socket, registration: Some(registration), peer_addr: Some(target) })
}

/// Binds to the first local address of the target's family that can be bound.
fn bind_local(socket: &Socket, target: &SocketAddr, locals: &[SocketAddr]) -> io::Result<()> {
    let mut failure = None;
    for local in locals.iter().filter(|local| local.is_ipv4() == target.is_ipv4()) {
        match socket.bind(&SockAddr::from(*local)) {
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
    /// Names are resolved off the loop; every address is tried in the resolver's order. `connection_made` has been
    /// called when the future is ready. Dropping the future before closes whatever was opened. `TCP_NODELAY` is set.
    ///
    /// # Errors
    ///
    /// The resolver's; the error of the only attempt, or of all if they are the same; else one that names them all.
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
    pub fn create_connection<F, P>(&self, factory: F, endpoint: impl Into<Endpoint>) -> CreateConnection<F>
    where
        F: FnOnce() -> P + 'static,
        P: Protocol,
    {
        CreateConnection { el: self.clone(), factory, options: ConnectOptions::new(endpoint.into()) }
    }
}

impl<F> CreateConnection<F> {
    /// The same with another protocol.
    pub(crate) fn with_factory<G>(self, factory: G) -> CreateConnection<G> {
        CreateConnection { el: self.el, factory, options: self.options }
    }

    /// Uses addresses of this family only. One that is given as such and is of the other is refused.
    pub fn family(mut self, family: Family) -> Self {
        self.options.family = family;
        self
    }

    /// Connects from this address; of a host with several, from one of the target's family.
    pub fn local_addr(mut self, local_addr: impl Into<Endpoint>) -> Self {
        self.options.local_addr = Some(local_addr.into());
        self
    }

    /// If every attempt fails, gives an error that carries [`ConnectErrors`], with one error for each attempt.
    pub fn all_errors(mut self, all_errors: bool) -> Self {
        self.options.all_errors = all_errors;
        self
    }
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
}

impl EventLoop {
    /// Lets a protocol hear of a connection that was accepted elsewhere than by a [`Server`](crate::Server): by a
    /// listener of your own, or by another process that has handed the socket over.
    ///
    /// Otherwise as [`create_connection`](Self::create_connection) with a socket.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it is no stream socket; the operating system's; [`LoopClosed`] as an `io::Error`.
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
    pub fn connect_accepted_socket<F, P>(&self, factory: F, socket: impl Into<OwnedFd>) -> ConnectAcceptedSocket<F>
    where
        F: FnOnce() -> P + 'static,
        P: Protocol,
    {
        ConnectAcceptedSocket { el: self.clone(), factory, socket: socket.into().into() }
    }
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
        let Self { el, factory, socket } = self;
        let options = ConnectOptions::new(socket.into());
        Connecting::new(connect(el, "connect_accepted_socket", factory, options))
    }
}

/// The future of [`CreateConnection`], of [`ConnectAcceptedSocket`] and of [`ConnectPipe`](crate::ConnectPipe).
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

async fn connect<F, P>(
    el: EventLoop,
    method: &'static str,
    factory: F,
    options: ConnectOptions,
) -> io::Result<(Transport, ProtocolRef<P>)>
where
    F: FnOnce() -> P,
    P: Protocol,
{
    check_loop(&el, method)?;
    let connected = connected_socket(&el, method, options).await?;
    let protocol = ProtocolRef::new(factory());
    let transport = open_transport(&el.core, connected, protocol.clone())?;
    Ok((introduce(transport).await, protocol))
}

/// Refuses a future of one loop that is awaited in another.
pub(crate) fn check_loop(el: &EventLoop, method: &str) -> io::Result<()> {
    let elsewhere = running::current().filter(|core| el.core.is_open() && !Rc::ptr_eq(core, &el.core));
    if let Some(running) = elsewhere {
        let (here, there) = (running.local.loop_id(), el.id());
        return Err(invalid_input(format!(
            "EventLoop::{method}(): a future of loop {there} is awaited in loop {here}"
        )));
    }
    Ok(())
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
fn open_transport<P: Protocol>(
    core: &Rc<Core>,
    connected: Connected,
    protocol: ProtocolRef<P>,
) -> io::Result<Rc<SocketTransport>> {
    let Connected { socket, registration, peer_addr } = connected;
    let local_addr = socket.local_addr().ok().and_then(|address| address.as_socket());
    let parts = Parts { protocol: protocol.into(), context: context::fork_current(), local_addr, peer_addr };
    match registration {
        Some(registration) => SocketTransport::adopt(core, registration, socket, parts),
        None => SocketTransport::open(core, socket, parts),
    }
}

//! Making a server: names to addresses, addresses to listening sockets.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::Socket;

use crate::constants::{BACKLOG, COMMON_PORT_ATTEMPTS};
use crate::dns::addr::Family;
use crate::dns::hints::{AddrInfoFlags, Hints, SocketType};
use crate::dns::{port_number, resolve};
use crate::error::{AddressError, LoopClosed, invalid_input};
use crate::event_loop::EventLoop;
use crate::event_loop::tasks::BoxFuture;
use crate::net::endpoint::{ServerEndpoint, ServerEndpointKind, malformed, take_socket};
use crate::net::options::{Domain, SocketOptions};
use crate::net::security::Security;
use crate::net::server::{Factory, Server};
use crate::os::local::SocketFile;
use crate::os::socket::{
    REUSE_ADDRESS, bind, is_foreign_address, is_unsupported_family, listen, local_addr, set_reuse_address,
    set_reuse_port, stream,
};
use crate::protocol::{AnyProtocol, Protocol};
use crate::sched::context;
use crate::transport::address::KeptAddress;

/// Settings of every server: how it serves.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) backlog: u32,
    pub(crate) start_serving: bool,
    pub(crate) max_connections: Option<usize>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) security: Security,
    /// Of the listening sockets, and so of the connections.
    pub(crate) socket: SocketOptions,
    /// Where the application makes the server.
    pub(crate) created_at: &'static Location<'static>,
}

impl Serving {
    #[track_caller]
    pub(crate) fn new() -> Self {
        Self {
            backlog: BACKLOG,
            start_serving: true,
            max_connections: None,
            idle_timeout: None,
            security: Security::default(),
            socket: SocketOptions::default(),
            created_at: Location::caller(),
        }
    }

    fn check(&self, method: &str) -> io::Result<()> {
        self.socket.check(method)?;
        if self.max_connections == Some(0) {
            return Err(invalid_input(format!("{method}: max_connections() must be at least 1")));
        }
        if self.idle_timeout == Some(Duration::ZERO) {
            return Err(invalid_input(format!("{method}: idle_timeout() must be longer than zero")));
        }
        Ok(())
    }
}

/// A bound socket that is to be a server's.
pub(crate) struct Bound {
    pub(crate) socket: Socket,
    pub(crate) local_addr: KeptAddress,
    /// What is to be removed with it.
    pub(crate) file: Option<SocketFile>,
}

impl Bound {
    pub(super) fn new(socket: Socket) -> io::Result<Self> {
        let local_addr = match local_addr(&socket) {
            Ok(address) => address.into(),
            // One of another family can serve as well.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => KeptAddress::Unknown,
            Err(error) => return Err(error),
        };
        Ok(Self { socket, local_addr, file: None })
    }
}

/// Settings of a server of the internet, apart from the protocol.
#[derive(Debug)]
pub(crate) struct ServerOptions {
    pub(crate) endpoint: ServerEndpoint,
    pub(crate) hints: Hints,
    /// `None`: yes on Unix.
    pub(crate) reuse_address: Option<bool>,
    pub(crate) reuse_port: bool,
    pub(crate) serving: Serving,
}

impl ServerOptions {
    #[track_caller]
    pub(crate) fn new(endpoint: ServerEndpoint) -> Self {
        Self {
            endpoint,
            hints: Hints::of(SocketType::Stream),
            reuse_address: None,
            reuse_port: false,
            serving: Serving::new(),
        }
    }

    fn check(&self, method: &str) -> io::Result<()> {
        if matches!(self.endpoint.kind, ServerEndpointKind::Socket(_)) {
            // What is decided when a socket is made or bound comes too late.
            let given = [("reuse_address()", self.reuse_address.is_some()), ("reuse_port()", self.reuse_port)];
            let given = given.into_iter().find(|(_, given)| *given).map(|(option, _)| option);
            let too_late = given.or(self.serving.socket.first_too_late());
            if let Some(option) = self.hints.first_given().or(too_late) {
                return Err(invalid_input(format!("{method}: {option} cannot be used with a socket")));
            }
        }
        if self.hints.family == Family::V4 && self.serving.socket.v6only.is_some() {
            return Err(invalid_input(format!("{method}: v6only() cannot be used with family(V4)")));
        }
        Ok(())
    }

    /// Makes the server.
    pub(crate) fn start(
        mut self,
        el: EventLoop,
        method: &'static str,
        factory: Box<dyn Fn() -> AnyProtocol>,
    ) -> Starting {
        let serving = std::mem::replace(&mut self.serving, Serving::new());
        self.serving.socket = serving.socket.clone();
        let handle = el.clone();
        let bind = async move { bind_listeners(&handle, method, self).await };
        Starting::new(el, method, serving, bind, factory)
    }
}

/// What an endpoint comes to.
enum Targets {
    /// A bound socket that was given.
    Socket(Socket),
    /// Distinct addresses to bind.
    Addresses(Vec<SocketAddr>),
}

/// Bound sockets for an endpoint, which do not listen yet.
async fn bind_listeners(el: &EventLoop, method: &str, mut options: ServerOptions) -> io::Result<Vec<Bound>> {
    let sockets = match targets(el, method, &mut options).await? {
        Targets::Socket(socket) => vec![socket],
        Targets::Addresses(addresses) => bind_all(method, &addresses, &options)?,
    };
    sockets.into_iter().map(Bound::new).collect()
}

/// A socket that listens on the first address of an endpoint on which that is possible.
pub(crate) async fn first_listener(el: &EventLoop, method: &str, mut options: ServerOptions) -> io::Result<Socket> {
    options.serving.socket.check(method)?;
    let backlog = options.serving.backlog;
    let addresses = match targets(el, method, &mut options).await? {
        Targets::Socket(socket) => {
            listen(&socket, backlog)?;
            return Ok(socket);
        }
        Targets::Addresses(addresses) => addresses,
    };
    let mut first_error = None;
    for address in &addresses {
        let bound = bind_one(method, *address, &options).and_then(|socket| {
            if let Some(socket) = &socket {
                // That an address is taken may show only now.
                listen(socket, backlog).map_err(|error| AddressError::wrap("listen on", *address, error))?;
            }
            Ok(socket)
        });
        match bound {
            Ok(Some(socket)) => return Ok(socket),
            Ok(None) => {}
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    Err(first_error.unwrap_or_else(|| nowhere(method, &addresses)))
}

async fn targets(el: &EventLoop, method: &str, options: &mut ServerOptions) -> io::Result<Targets> {
    options.check(method)?;
    if el.is_closed() {
        return Err(LoopClosed.into());
    }
    let endpoint = std::mem::replace(&mut options.endpoint.kind, ServerEndpointKind::Addresses(Vec::new()));
    let addresses = match endpoint {
        ServerEndpointKind::Socket(socket) => {
            let socket = take_socket(method, socket)?;
            options.serving.socket.apply_to_stream(method, &socket, Domain::of(&socket))?;
            return Ok(Targets::Socket(socket));
        }
        ServerEndpointKind::Addresses(addresses) => addresses,
        ServerEndpointKind::Malformed(text) => return Err(malformed(method, &text)),
        ServerEndpointKind::Everywhere(port) => {
            let port = port_number(el, &port, options.hints).await?;
            let mut everywhere = vec![
                SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port),
                SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port),
            ];
            if options.serving.socket.v6only == Some(false) {
                // The one of IPv6 serves both, where there is one.
                everywhere.reverse();
            }
            everywhere
        }
        ServerEndpointKind::Hosts(hosts, port) => {
            let mut addresses = Vec::new();
            for host in hosts {
                addresses.extend(resolve(el, &host, &port, options.hints).await?);
            }
            addresses
        }
    };
    let addresses = options.hints.family.select(method, addresses)?;
    let mut distinct = Vec::new();
    for address in addresses {
        if !distinct.contains(&address) {
            distinct.push(address);
        }
    }
    // The IPv4 side has a socket of its own.
    options.serving.socket.v6only.get_or_insert(true);
    Ok(Targets::Addresses(distinct))
}

/// Binds every address that can be; those without a port share the one that the system chose for the first.
fn bind_all(method: &str, addresses: &[SocketAddr], options: &ServerOptions) -> io::Result<Vec<Socket>> {
    let shares_port = addresses.len() > 1 && addresses.iter().all(|address| address.port() == 0);
    let attempts = if shares_port { COMMON_PORT_ATTEMPTS } else { 1 };
    let mut result = Ok(Vec::new());
    for _ in 0..attempts {
        result = bind_once(method, addresses, options, shares_port);
        // The port that was free for one address was taken for another.
        if !matches!(&result, Err(error) if error.kind() == io::ErrorKind::AddrInUse) {
            break;
        }
    }
    match result {
        Ok(sockets) if sockets.is_empty() => Err(nowhere(method, addresses)),
        result => result,
    }
}

fn nowhere(method: &str, addresses: &[SocketAddr]) -> io::Error {
    let text = format!("{method}: could not bind on any address out of {addresses:?}");
    io::Error::new(io::ErrorKind::AddrNotAvailable, text)
}

fn bind_once(
    method: &str,
    addresses: &[SocketAddr],
    options: &ServerOptions,
    shares_port: bool,
) -> io::Result<Vec<Socket>> {
    let mut sockets: Vec<Socket> = Vec::new();
    let mut port = None;
    // The port of a socket of IPv6 that serves all addresses of IPv4 as well.
    let mut of_both = None;
    for address in addresses {
        let mut address = *address;
        if let (true, Some(port)) = (shares_port, port) {
            address.set_port(port);
        }
        if address.is_ipv4() && address.ip().is_unspecified() && of_both == Some(address.port()) {
            continue;
        }
        let Some(socket) = bind_one(method, address, options)? else { continue };
        if port.is_none() {
            let bound = local_addr(&socket).map_err(|error| AddressError::wrap("bind on", address, error))?;
            port = bound.as_ip().map(|address| address.port());
        }
        if address.is_ipv6() && address.ip().is_unspecified() && options.serving.socket.v6only == Some(false) {
            of_both = if shares_port { port } else { Some(address.port()) };
        }
        sockets.push(socket);
    }
    Ok(sockets)
}

/// A socket that is bound to an address; `None` if it is of a family that the system does not have, or not of this machine.
fn bind_one(method: &str, address: SocketAddr, options: &ServerOptions) -> io::Result<Option<Socket>> {
    let failed = |error| AddressError::wrap("bind on", address, error);
    let socket = match stream(&address, options.hints.proto) {
        Ok(socket) => socket,
        // A kernel without IPv6 serves what it has.
        Err(error) if is_unsupported_family(&error) => {
            note!(DEBUG, "roundelay::io", "no socket of the family of {address}: {error}");
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    if options.reuse_address.unwrap_or(REUSE_ADDRESS) {
        set_reuse_address(&socket).map_err(failed)?;
    }
    if options.reuse_port {
        set_reuse_port(&socket).map_err(failed)?;
    }
    let domain = if address.is_ipv6() { Domain::V6 } else { Domain::V4 };
    options.serving.socket.apply_to_stream(method, &socket, domain)?;
    match bind(&socket, address) {
        Ok(()) => Ok(Some(socket)),
        Err(error) if is_foreign_address(&error) => {
            note!(WARN, "roundelay", "cannot bind on {address}: {error}");
            Ok(None)
        }
        Err(error) => Err(failed(error)),
    }
}

/// A server that is about to be made: see [`EventLoop::create_server`]. Await it.
#[must_use = "nothing happens before it is awaited"]
pub struct CreateServer<F> {
    el: EventLoop,
    factory: F,
    options: ServerOptions,
}

impl EventLoop {
    /// Listens on a TCP endpoint and lets a protocol of its own hear of each connection.
    ///
    /// A host that has several addresses, or a list of hosts, gives several sockets; an empty host listens on all
    /// interfaces, of IPv4 and IPv6, on one port. `factory` is called for each connection, in the context that is
    /// current when this is awaited, and so are all callbacks of its protocol. A panic of the factory closes that
    /// connection and is reported.
    ///
    /// # Errors
    ///
    /// The resolver's; that of the first address that cannot be bound, with an [`AddressError`](crate::AddressError)
    /// (addresses that are not of this machine are skipped while others are left); `InvalidInput` for options that do
    /// not go together; [`LoopClosed`] as an `io::Error`.
    ///
    /// ```no_run
    /// use roundelay::{Protocol, Transport};
    ///
    /// struct Echo;
    /// impl Protocol for Echo {
    ///     fn data_received(&mut self, transport: &Transport, data: &[u8]) {
    ///         transport.write(data);
    ///     }
    /// }
    ///
    /// roundelay::block_on(async {
    ///     let el = roundelay::get_running_loop()?;
    ///     let server = el.create_server(|| Echo, ("127.0.0.1", 8888)).await?;
    ///     server.serve_forever().await
    /// })
    /// # .unwrap();
    /// ```
    #[track_caller]
    pub fn create_server<F, P>(&self, factory: F, endpoint: impl Into<ServerEndpoint>) -> CreateServer<F>
    where
        F: Fn() -> P + 'static,
        P: Protocol,
    {
        CreateServer { el: self.clone(), factory, options: ServerOptions::new(endpoint.into()) }
    }
}

/// The settings that all servers share.
macro_rules! serving_settings {
    () => {
        /// How many connections the system holds until they are accepted (100); also the most that are accepted in one
        /// event.
        pub fn backlog(mut self, backlog: u32) -> Self {
            self.options.serving.backlog = backlog;
            self
        }

        /// Whether to accept connections at once (yes); otherwise [`Server::start_serving`] begins.
        pub fn start_serving(mut self, start_serving: bool) -> Self {
            self.options.serving.start_serving = start_serving;
            self
        }

        /// Accepts no more while there are so many connections; more wait in the system's queue.
        pub fn max_connections(mut self, max_connections: usize) -> Self {
            self.options.serving.max_connections = Some(max_connections);
            self
        }

        /// Ends a connection, with an error of kind `TimedOut`, on which nothing was received or sent for so long.
        pub fn idle_timeout(mut self, idle_timeout: Duration) -> Self {
            self.options.serving.idle_timeout = Some(idle_timeout);
            self
        }

        #[cfg(feature = "__tls")]
        $crate::tls::tls_server_settings!(options.serving.security.tls);
    };
}
pub(crate) use serving_settings;

/// The settings of what listens on TCP.
macro_rules! listener_settings {
    () => {
        /// Listens on addresses of this family only. One that is given as such and is of the other is refused, if none is
        /// left.
        pub fn family(mut self, family: Family) -> Self {
            self.options.hints.family = family;
            self
        }

        /// Uses another protocol than TCP, by its number: the resolver is asked for it, and sockets are made with it.
        pub fn proto(mut self, proto: i32) -> Self {
            self.options.hints.proto = proto;
            self
        }

        /// What the resolver is told: see [`EventLoop::getaddrinfo`](crate::EventLoop::getaddrinfo).
        pub fn flags(mut self, flags: AddrInfoFlags) -> Self {
            self.options.hints.flags = flags;
            self
        }

        /// Binds an address though connections of an earlier server linger on it (yes, on Unix).
        pub fn reuse_address(mut self, reuse_address: bool) -> Self {
            self.options.reuse_address = Some(reuse_address);
            self
        }

        /// Lets other servers bind the same port; the system spreads connections over them.
        pub fn reuse_port(mut self, reuse_port: bool) -> Self {
            self.options.reuse_port = reuse_port;
            self
        }

        /// Whether a socket of IPv6 serves IPv6 only (yes). With `false` the one that listens on `::` takes connections of
        /// IPv4, too, whose addresses are written as ones of IPv6 then (`::ffff:127.0.0.1`), and all interfaces of both need
        /// one socket instead of two.
        pub fn v6only(mut self, v6only: bool) -> Self {
            self.options.serving.socket.v6only = Some(v6only);
            self
        }

        $crate::net::tcp_settings!(options.serving.socket);
        $crate::net::bind_device_setting!(options.serving.socket);
    };
}
pub(crate) use listener_settings;

/// The settings that servers of protocols and servers of streams share.
macro_rules! server_settings {
    () => {
        $crate::net::listener_settings!();
        $crate::net::serving_settings!();
    };
}
pub(crate) use server_settings;

impl<F> CreateServer<F> {
    server_settings!();
}

impl<F> fmt::Debug for CreateServer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateServer").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<F, P> IntoFuture for CreateServer<F>
where
    F: Fn() -> P + 'static,
    P: Protocol,
{
    type Output = io::Result<Server>;
    type IntoFuture = Starting;

    fn into_future(self) -> Starting {
        let Self { el, factory, options } = self;
        options.start(el, "create_server", Box::new(move || AnyProtocol::new(factory())))
    }
}

/// The future of what makes a server: [`CreateServer`], [`CreateUnixServer`](crate::CreateUnixServer),
/// [`start_server`](crate::start_server) and [`start_unix_server`](crate::start_unix_server).
#[must_use = "futures do nothing unless they are awaited"]
pub struct Starting {
    future: BoxFuture<io::Result<Server>>,
}

impl Starting {
    /// A server that serves what `bind` binds.
    pub(super) fn new(
        el: EventLoop,
        method: &'static str,
        mut serving: Serving,
        bind: impl Future<Output = io::Result<Vec<Bound>>> + 'static,
        factory: Box<dyn Fn() -> AnyProtocol>,
    ) -> Self {
        let future = Box::pin(async move {
            serving.check(method)?;
            let factory = std::mem::take(&mut serving.security).wrap(&el.core, method, factory)?;
            let factory: Factory = Box::new(move || catch_unwind(AssertUnwindSafe(&factory)));
            if el.is_closed() {
                return Err(LoopClosed.into());
            }
            let bound = bind.await?;
            let server = Server::new(&el, bound, &serving, factory, context::fork_current());
            if serving.start_serving {
                server.start("start_serving")?;
            }
            Ok(server)
        });
        Self { future }
    }

    /// A server that something has to be known for first.
    pub(crate) fn later(server: impl Future<Output = io::Result<Server>> + 'static) -> Self {
        Self { future: Box::pin(server) }
    }
}

impl Future for Starting {
    type Output = io::Result<Server>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

impl fmt::Debug for Starting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Starting")
    }
}

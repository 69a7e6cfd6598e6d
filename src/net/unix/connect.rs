//! Client connections to unix sockets.

use std::fmt;
use std::io;
use std::panic::Location;

use crate::constants::{CONNECT_RETRY_DELAY, LONGEST_CONNECT_RETRY_DELAY};
use crate::error::LoopClosed;
use crate::event_loop::EventLoop;
use crate::event_loop::timer::Sleep;
use crate::net::connect::{Connected, Connecting, Origin, establish};
use crate::net::options::{Domain, SocketOptions};
use crate::net::security::Security;
use crate::net::unix::endpoint::{UnixAddressError, UnixEndpoint, UnixEndpointKind, system_address, take_unix_socket};
use crate::os::local;
use crate::protocol::{Protocol, ProtocolRef, Transport};

/// A connected unix socket. Dropping the future before closes what it has opened.
pub(crate) async fn connected_unix_socket(
    el: &EventLoop,
    method: &str,
    endpoint: UnixEndpoint,
    options: &SocketOptions,
) -> io::Result<Connected> {
    options.check(method)?;
    if el.is_closed() {
        return Err(LoopClosed.into());
    }
    let address = match endpoint.kind {
        UnixEndpointKind::Socket(socket) | UnixEndpointKind::Inherited(socket) => {
            let socket = take_unix_socket(method, socket)?;
            return Connected::given(method, socket, options);
        }
        UnixEndpointKind::Address(address) => address,
    };
    let failed = |error| UnixAddressError::wrap("connect to", &address, error);
    let target = system_address(method, &address)?;
    let socket = local::stream().map_err(failed)?;
    options.apply(method, &socket, Domain::Other)?;
    let mut delay = CONNECT_RETRY_DELAY;
    while !local::connect(&socket, &target).map_err(failed)? {
        // The server's queue is full. Who blocks would be woken when there is room; others have to ask again.
        Sleep::after(delay).await;
        delay = (delay * 2).min(LONGEST_CONNECT_RETRY_DELAY);
    }
    Ok(Connected { socket, registration: None, peer_addr: address.into() })
}

/// A connection to a unix socket that is about to be made: see [`EventLoop::create_unix_connection`]. Await it.
#[must_use = "nothing happens before it is awaited"]
pub struct CreateUnixConnection<F> {
    el: EventLoop,
    factory: F,
    options: UnixConnectOptions,
}

/// Where to connect, and how.
#[derive(Debug)]
pub(crate) struct UnixConnectOptions {
    endpoint: UnixEndpoint,
    pub(crate) socket: SocketOptions,
    pub(crate) security: Security,
    created_at: &'static Location<'static>,
}

impl UnixConnectOptions {
    #[track_caller]
    pub(crate) fn new(endpoint: UnixEndpoint) -> Self {
        let (socket, security) = (SocketOptions::default(), Security::default());
        Self { endpoint, socket, security, created_at: Location::caller() }
    }
}

impl EventLoop {
    /// Connects to a unix socket (a path, bytes, an abstract name, or a connected socket) and lets a protocol hear of it:
    /// `factory` is called when the connection stands.
    ///
    /// `connection_made` has been called when the future is ready. Dropping the future before closes whatever was opened.
    /// While the server's queue is full this waits, as a blocking `connect` does: the system tells nobody when there is
    /// room, so it asks again after a millisecond, and then less and less often, but every 50 milliseconds at least. A
    /// [`timeout`](crate::timeout) gives up.
    ///
    /// # Errors
    ///
    /// The operating system's, with an [`UnixAddressError`](crate::UnixAddressError): `NotFound` where there is no such
    /// file, `ConnectionRefused` where nobody listens. `InvalidInput` for what is no address, for a socket that is no
    /// unix stream socket, and where it is awaited in another loop; `Unsupported` for an abstract name elsewhere than on
    /// Linux; [`LoopClosed`] as an `io::Error`.
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
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("greet");
    /// let server = std::os::unix::net::UnixListener::bind(&path)?;
    /// roundelay::block_on(async {
    ///     let el = roundelay::get_running_loop().unwrap();
    ///     let (transport, _) = el.create_unix_connection(|| Greet, &path).await?;
    ///     assert_eq!(transport.extra_info().unix_peer_addr, Some(path.into()));
    ///     std::io::Result::Ok(())
    /// })?;
    /// assert_eq!(std::io::read_to_string(server.accept()?.0)?, "hello");
    /// # std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub fn create_unix_connection<F, P>(&self, factory: F, endpoint: impl Into<UnixEndpoint>) -> CreateUnixConnection<F>
    where
        F: FnOnce() -> P + 'static,
        P: Protocol,
    {
        CreateUnixConnection { el: self.clone(), factory, options: UnixConnectOptions::new(endpoint.into()) }
    }
}

impl<F> CreateUnixConnection<F> {
    crate::net::buffer_settings!(options.socket);

    #[cfg(feature = "__tls")]
    crate::tls::tls_client_settings!(options.security.tls);
}

impl<F> fmt::Debug for CreateUnixConnection<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateUnixConnection").field("endpoint", &self.options.endpoint).finish_non_exhaustive()
    }
}

impl<F, P> IntoFuture for CreateUnixConnection<F>
where
    F: FnOnce() -> P + 'static,
    P: Protocol,
{
    type Output = <Connecting<P> as Future>::Output;
    type IntoFuture = Connecting<P>;

    fn into_future(self) -> Connecting<P> {
        let Self { el, factory, options } = self;
        Connecting::new(connect_unix(el, "create_unix_connection", factory, options))
    }
}

/// Connects, for whichever method it is.
pub(crate) async fn connect_unix<F, P>(
    el: EventLoop,
    method: &'static str,
    factory: F,
    options: UnixConnectOptions,
) -> io::Result<(Transport, ProtocolRef<P>)>
where
    F: FnOnce() -> P,
    P: Protocol,
{
    let UnixConnectOptions { endpoint, socket, security, created_at } = options;
    let connecting = connected_unix_socket(&el, method, endpoint, &socket);
    let origin = Origin { security, host: None, created_at };
    establish(&el, method, factory, origin, connecting).await
}

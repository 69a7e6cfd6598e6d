//! Making a server on a unix socket.

use std::fmt;
use std::io;
use std::time::Duration;

use socket2::Socket;

use crate::constants::BIND_ATTEMPTS;
use crate::event_loop::EventLoop;
use crate::net::Server;
use crate::net::options::{Domain, SocketOptions};
use crate::net::serve::{Bound, Serving, Starting};
use crate::net::unix::endpoint::{
    UnixAddressError, UnixEndpointKind, UnixServerEndpoint, system_address, take_unix_socket,
};
use crate::os::address::UnixAddr;
use crate::os::local::{self, Occupant, SocketFile};
use crate::os::socket::{bind, listen};
use crate::protocol::{AnyProtocol, Protocol};

/// Settings of a unix server, apart from the protocol.
#[derive(Debug)]
pub(crate) struct UnixServerOptions {
    pub(crate) endpoint: UnixServerEndpoint,
    pub(crate) serving: Serving,
    pub(crate) cleanup_socket: bool,
}

impl UnixServerOptions {
    #[track_caller]
    pub(crate) fn new(endpoint: UnixServerEndpoint) -> Self {
        Self { endpoint, serving: Serving::new(), cleanup_socket: true }
    }

    /// Makes the server.
    pub(crate) fn start(self, el: EventLoop, method: &'static str, factory: Box<dyn Fn() -> AnyProtocol>) -> Starting {
        let Self { endpoint, serving, cleanup_socket } = self;
        let options = serving.socket.clone();
        let bind = async move { bound(method, endpoint, &options, cleanup_socket).map(|bound| vec![bound]) };
        Starting::new(el, method, serving, bind, factory)
    }
}

/// A bound socket, which does not listen yet, and its file if that is to be removed with it.
fn bound(method: &str, endpoint: UnixServerEndpoint, options: &SocketOptions, cleanup: bool) -> io::Result<Bound> {
    let cleanup = cleanup && !matches!(endpoint.kind, UnixEndpointKind::Inherited(_));
    let address = match endpoint.kind {
        UnixEndpointKind::Socket(socket) | UnixEndpointKind::Inherited(socket) => {
            let socket = take_unix_socket(method, socket)?;
            options.apply(method, &socket, Domain::Other)?;
            return with_file(socket, cleanup);
        }
        UnixEndpointKind::Address(address) => address,
    };
    let socket = local::stream().map_err(|error| UnixAddressError::wrap("bind on", &address, error))?;
    options.apply(method, &socket, Domain::Other)?;
    bind_anew(method, &socket, &address)?;
    with_file(socket, cleanup).inspect_err(|_| {
        if let Some(path) = address.as_pathname() {
            local::discard(path);
        }
    })
}

fn with_file(socket: Socket, cleanup: bool) -> io::Result<Bound> {
    let mut bound = Bound::new(socket)?;
    let address = bound.local_addr.unix().filter(|_| cleanup);
    bound.file = address.as_ref().and_then(UnixAddr::as_pathname).map_or(Ok(None), SocketFile::at)?;
    Ok(bound)
}

/// Binds, and replaces the file of a socket that is closed.
///
/// Only what is in the way is looked at, and only a file that nobody has a socket for, and that is still the same when
/// that is known, is removed. Two servers that start at the same time may still both find the same stale file, and one of
/// them remove what the other has put there a moment before: between the last look and the removal there is no lock.
pub(crate) fn bind_anew(method: &str, socket: &Socket, address: &UnixAddr) -> io::Result<()> {
    let failed = |error| UnixAddressError::wrap("bind on", address, error);
    let target = system_address(method, address)?;
    let mut attempts = 0;
    loop {
        let error = match bind(socket, target.clone()) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        attempts += 1;
        let path = address.as_pathname().filter(|_| error.kind() == io::ErrorKind::AddrInUse);
        let Some(path) = path.filter(|_| attempts < BIND_ATTEMPTS) else {
            return Err(failed(error));
        };
        let taken = |by: &str| {
            let text = format!("Address {address} is already in use: {by}");
            failed(io::Error::new(io::ErrorKind::AddrInUse, text))
        };
        match local::occupant(path, &target).map_err(failed)? {
            Occupant::Gone => {}
            Occupant::Stale(file) => {
                if file.remove_stale().map_err(failed)? {
                    note!(DEBUG, "roundelay::io", "the stale socket file {address} is replaced");
                }
            }
            Occupant::Socket => return Err(taken("a socket that is open is bound to it")),
            Occupant::NoSocket => return Err(taken("what is there is no socket")),
        }
    }
}

/// A listening socket of a plain type, which takes no file away and leaves its own, as std's does.
pub(crate) fn plain_listener(
    method: &str,
    endpoint: UnixServerEndpoint,
    backlog: u32,
    options: &SocketOptions,
) -> io::Result<Socket> {
    options.check(method)?;
    let socket = match endpoint.kind {
        UnixEndpointKind::Socket(socket) | UnixEndpointKind::Inherited(socket) => {
            let socket = take_unix_socket(method, socket)?;
            options.apply(method, &socket, Domain::Other)?;
            socket
        }
        UnixEndpointKind::Address(address) => {
            let target = system_address(method, &address)?;
            let socket = local::stream()?;
            options.apply(method, &socket, Domain::Other)?;
            bind(&socket, target).map_err(|error| UnixAddressError::wrap("bind on", &address, error))?;
            socket
        }
    };
    listen(&socket, backlog)?;
    Ok(socket)
}

/// A server on a unix socket that is about to be made: see [`EventLoop::create_unix_server`]. Await it.
#[must_use = "nothing happens before it is awaited"]
pub struct CreateUnixServer<F> {
    el: EventLoop,
    factory: F,
    options: UnixServerOptions,
}

impl EventLoop {
    /// Listens on a unix socket (a path, bytes, an abstract name, or a bound socket) and lets a protocol of its own hear of
    /// each connection.
    ///
    /// The file of a socket that was closed without removing it is replaced. Whatever else stands at the path is left
    /// alone, and the address is in use. When the server is closed its file is removed, also one of a socket that was
    /// given, but only if it is still the same: see [`cleanup_socket`](CreateUnixServer::cleanup_socket). Who may connect
    /// is decided by the permissions of the file and of its folder.
    ///
    /// Otherwise as [`create_server`](Self::create_server).
    ///
    /// # Errors
    ///
    /// The operating system's, with an [`UnixAddressError`](crate::UnixAddressError): `AddrInUse` where another socket is
    /// bound to the address, or a file is in the way that is no socket; `NotFound` where the folder is missing.
    /// `InvalidInput` for what is no address, for a socket that is no unix stream socket, and for settings without a
    /// sense; `Unsupported` for an abstract name elsewhere than on Linux; [`LoopClosed`](crate::LoopClosed) as an `io::Error`.
    ///
    /// ```
    /// use roundelay::{Protocol, Transport};
    ///
    /// struct Echo;
    /// impl Protocol for Echo {
    ///     fn data_received(&mut self, transport: &Transport, data: &[u8]) {
    ///         transport.write(data);
    ///     }
    /// }
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("echo");
    /// roundelay::block_on(async {
    ///     let el = roundelay::get_running_loop().unwrap();
    ///     let server = el.create_unix_server(|| Echo, &path).await?;
    ///     let (mut reader, mut writer) = roundelay::open_unix_connection(&path).await?;
    ///     writer.write(b"hello\n");
    ///     assert_eq!(reader.readline().await?, b"hello\n");
    ///
    ///     server.close();
    ///     assert!(!path.exists());
    ///     std::io::Result::Ok(())
    /// })
    /// # ?; std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub fn create_unix_server<F, P>(&self, factory: F, endpoint: impl Into<UnixServerEndpoint>) -> CreateUnixServer<F>
    where
        F: Fn() -> P + 'static,
        P: Protocol,
    {
        CreateUnixServer { el: self.clone(), factory, options: UnixServerOptions::new(endpoint.into()) }
    }
}

/// The settings that unix servers of protocols and of streams share.
macro_rules! unix_server_settings {
    () => {
        $crate::net::buffer_settings!(options.serving.socket);
        $crate::net::serving_settings!();

        /// Whether the socket's file is removed when the server is closed (yes). A file that has taken its place is left.
        pub fn cleanup_socket(mut self, cleanup_socket: bool) -> Self {
            self.options.cleanup_socket = cleanup_socket;
            self
        }
    };
}
pub(crate) use unix_server_settings;

impl<F> CreateUnixServer<F> {
    unix_server_settings!();
}

impl<F> fmt::Debug for CreateUnixServer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateUnixServer").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<F, P> IntoFuture for CreateUnixServer<F>
where
    F: Fn() -> P + 'static,
    P: Protocol,
{
    type Output = io::Result<Server>;
    type IntoFuture = Starting;

    fn into_future(self) -> Starting {
        let Self { el, factory, options } = self;
        options.start(el, "create_unix_server", Box::new(move || AnyProtocol::new(factory())))
    }
}

//! The socket of a datagram endpoint.

use std::io;

use socket2::{Domain, Socket, Type};

use crate::dns::addr::Family;
use crate::error::{AddressError, invalid_input, of_method};
use crate::net::datagram::METHOD;
use crate::net::datagram::address::Pair;
use crate::net::options::{self, SocketOptions};
use crate::net::unix::{UnixAddressError, bind_anew};
use crate::os::address::{Address, UnixAddr};
use crate::os::datagram;
use crate::os::fd::AsFd;
use crate::os::local::discard;
use crate::os::socket::{bind, family, kind, set_nonblocking, set_reuse_port};
use crate::transport::datagram::Peer;

/// What is set on a socket before it gets an address.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) socket: SocketOptions,
    pub(super) reuse_port: bool,
    pub(super) allow_broadcast: bool,
    /// The protocol's number; zero for the usual one.
    pub(super) proto: i32,
}

impl Settings {
    /// On a new socket; `failed` says what is wrong.
    fn apply(
        &self,
        socket: io::Result<Socket>,
        domain: options::Domain,
        failed: impl Fn(io::Error) -> io::Error,
    ) -> io::Result<Socket> {
        let socket = socket.map_err(&failed)?;
        if self.reuse_port {
            set_reuse_port(&socket).map_err(&failed)?;
        }
        if self.allow_broadcast {
            datagram::set_broadcast(&socket).map_err(&failed)?;
        }
        self.socket.apply(METHOD, &socket, domain)?;
        Ok(socket)
    }
}

/// A socket that is ready for use.
pub(super) struct Opened {
    pub(super) socket: Socket,
    pub(super) peer: Peer,
    pub(super) is_unix: bool,
}

/// A socket of a family, without an address.
pub(super) fn unbound(method: &str, family: Family, settings: &Settings) -> io::Result<Opened> {
    let (domain, kind) = match family {
        Family::V4 => (Domain::IPV4, options::Domain::V4),
        Family::V6 => (Domain::IPV6, options::Domain::V6),
        Family::Any => {
            let text = format!(
                "{method}: unexpected address family: without local_addr() and remote_addr() it takes family()"
            );
            return Err(invalid_input(text));
        }
    };
    let socket = datagram::socket(domain, settings.proto);
    let socket = settings.apply(socket, kind, |error| of_method(method, error))?;
    Ok(Opened { socket, peer: Peer::None, is_unix: false })
}

/// The system's error, with the address that it is about.
fn failed(action: &'static str, address: &Address, error: io::Error) -> io::Error {
    match address {
        Address::Ip(address) => AddressError::wrap(action, *address, error),
        Address::Unix(address) => UnixAddressError::wrap(action, address, error),
    }
}

/// A socket with these addresses.
pub(super) fn with_addresses((local, remote): Pair, settings: &Settings) -> io::Result<Opened> {
    let (action, any) = match (&local, &remote) {
        (Some(local), _) => ("bind on", local),
        (None, Some(remote)) => ("connect to", remote),
        (None, None) => return Err(invalid_input("there is no address")),
    };
    let is_unix = any.as_unix().is_some();
    let domain = options::Domain::of_address(&any.clone().into());
    let socket = datagram::socket_for(any, settings.proto);
    let socket = settings.apply(socket, domain, |error| failed(action, any, error))?;
    match &local {
        Some(Address::Unix(local)) if local.is_unnamed() => {}
        Some(Address::Unix(local)) => bind_anew(METHOD, &socket, local)?,
        Some(local @ Address::Ip(ip)) => bind(&socket, *ip).map_err(|error| failed("bind on", local, error))?,
        None => {}
    }
    let peer = match remote {
        None => Peer::None,
        // Anybody may answer to a broadcast: the socket must hear them all.
        Some(remote) if settings.allow_broadcast => Peer::Preset(remote),
        Some(remote) => {
            let connected = remote.to_sock_addr().and_then(|address| datagram::connect(&socket, &address));
            if let Err(error) = connected {
                if let Some(path) = local.as_ref().and_then(Address::as_unix).and_then(UnixAddr::as_pathname) {
                    discard(path);
                }
                return Err(failed("connect to", &remote, error));
            }
            Peer::Connected(Some(remote))
        }
    };
    Ok(Opened { socket, peer, is_unix })
}

/// The application's own socket.
pub(super) fn given(method: &str, socket: Socket, settings: &Settings) -> io::Result<Opened> {
    // Others have no datagrams, and an end, which here nobody would hear of.
    if [Type::STREAM, Type::SEQPACKET].contains(&kind(socket.as_fd())?) {
        return Err(invalid_input(format!("{method}: a datagram socket was expected")));
    }
    set_nonblocking(&socket)?;
    settings.socket.apply(method, &socket, options::Domain::of(&socket))?;
    let peer = datagram::peer(&socket).map_or(Peer::None, Peer::Connected);
    let is_unix = family(socket.as_fd())? == Domain::UNIX;
    Ok(Opened { socket, peer, is_unix })
}

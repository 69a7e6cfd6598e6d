//! The socket of a datagram endpoint.

use std::io;

use socket2::{Domain, Socket, Type};

use crate::dns::addr::Family;
use crate::error::{AddressError, invalid_input};
use crate::net::datagram::METHOD;
use crate::net::datagram::address::Pair;
use crate::net::unix::{UnixAddressError, bind_anew};
use crate::os::address::Address;
use crate::os::datagram;
use crate::os::fd::AsFd;
use crate::os::socket::{bind, family, peer_addr, set_reuse_port};
use crate::transport::datagram::Peer;

/// What is set on a socket before it gets an address.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settings {
    pub(super) reuse_port: bool,
    pub(super) allow_broadcast: bool,
    /// The protocol's number; zero for the usual one.
    pub(super) proto: i32,
}

impl Settings {
    fn apply(self, socket: &Socket) -> io::Result<()> {
        if self.reuse_port {
            set_reuse_port(socket)?;
        }
        if self.allow_broadcast {
            datagram::set_broadcast(socket)?;
        }
        Ok(())
    }
}

/// A socket that is ready for use.
pub(super) struct Opened {
    pub(super) socket: Socket,
    pub(super) peer: Peer,
    pub(super) is_unix: bool,
}

/// A socket of a family, without an address.
pub(super) fn unbound(method: &str, family: Family, settings: Settings) -> io::Result<Opened> {
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
        Family::Any => {
            let text = format!(
                "{method}: unexpected address family: without local_addr() and remote_addr() it takes family()"
            );
            return Err(invalid_input(text));
        }
    };
    let socket = datagram::socket(domain, settings.proto)?;
    settings.apply(&socket)?;
    Ok(Opened { socket, peer: Peer::None, is_unix: false })
}

/// A socket with these addresses.
pub(super) fn with_addresses((local, remote): Pair, settings: Settings) -> io::Result<Opened> {
    let Some(any) = local.as_ref().or(remote.as_ref()) else {
        return Err(invalid_input("there is no address"));
    };
    let is_unix = any.as_unix().is_some();
    let socket = datagram::socket_for(any, settings.proto)?;
    settings.apply(&socket)?;
    match &local {
        Some(Address::Unix(local)) if local.is_unnamed() => {}
        Some(Address::Unix(local)) => bind_anew(METHOD, &socket, local)?,
        Some(Address::Ip(local)) => {
            bind(&socket, *local).map_err(|error| AddressError::wrap("bind on", *local, error))?;
        }
        None => {}
    }
    let peer = match remote {
        None => Peer::None,
        // Anybody may answer to a broadcast: the socket must hear them all.
        Some(remote) if settings.allow_broadcast => Peer::Preset(remote),
        Some(remote) => {
            datagram::connect(&socket, &remote.to_sock_addr()?).map_err(|error| match &remote {
                Address::Ip(remote) => AddressError::wrap("connect to", *remote, error),
                Address::Unix(remote) => UnixAddressError::wrap("connect to", remote, error),
            })?;
            Peer::Connected(Some(remote))
        }
    };
    Ok(Opened { socket, peer, is_unix })
}

/// The application's own socket.
pub(super) fn given(method: &str, socket: Socket) -> io::Result<Opened> {
    // Others have no datagrams, and an end, which here nobody would hear of.
    if [Type::STREAM, Type::SEQPACKET].contains(&socket.r#type()?) {
        return Err(invalid_input(format!("{method}: a datagram socket was expected")));
    }
    socket.set_nonblocking(true)?;
    let peer = match peer_addr(&socket) {
        Ok(address) => Peer::Connected(Some(address)),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Peer::Connected(None),
        Err(_) => Peer::None,
    };
    let is_unix = family(socket.as_fd())? == Domain::UNIX;
    Ok(Opened { socket, peer, is_unix })
}

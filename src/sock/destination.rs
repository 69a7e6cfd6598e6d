//! Where a socket of the application's is to be connected to.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::path::{Path, PathBuf};

use socket2::SockAddr;

use crate::dns::addr::{Host, Port};
use crate::os::address::{Address, UnixAddr};

/// What [`sock_connect`](crate::EventLoop::sock_connect) connects a socket to: a host and a port, an address of the internet
/// or of a unix socket, or one of any other family as `socket2` has it.
///
/// Made from a host and a [`Port`] (`(&str, u16)`, `(String, &str)` ..), `(IpAddr, u16)`, `SocketAddr`, [`UnixAddr`], paths, [`Address`] and
/// [`socket2::SockAddr`].
#[derive(Clone, PartialEq)]
pub struct Destination {
    pub(crate) kind: DestinationKind,
}

#[derive(Clone, PartialEq)]
pub(crate) enum DestinationKind {
    Host(Host, Port),
    Address(Address),
    System(SockAddr),
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            DestinationKind::Host(Host::Name(name), port) => write!(f, "Destination({name}:{port})"),
            DestinationKind::Host(Host::Address(IpAddr::V6(ip)), port) => write!(f, "Destination([{ip}]:{port})"),
            DestinationKind::Host(Host::Address(ip), port) => write!(f, "Destination({ip}:{port})"),
            DestinationKind::Address(address) => write!(f, "Destination({address})"),
            DestinationKind::System(address) => write!(f, "Destination({address:?})"),
        }
    }
}

macro_rules! destination_from {
    ($($from:ty, $pattern:pat => $kind:expr;)*) => {
        $(impl From<$from> for Destination {
            fn from($pattern: $from) -> Self {
                Self { kind: $kind }
            }
        })*
    };
}

macro_rules! destination_from_host {
    ($($from:ty),*) => {
        $(impl<P: Into<Port>> From<($from, P)> for Destination {
            fn from((host, port): ($from, P)) -> Self {
                Self { kind: DestinationKind::Host(Host::parse(host.as_ref()), port.into()) }
            }
        })*
    };
}

destination_from_host! { &str, &String, String }

destination_from! {
    SockAddr, address => DestinationKind::System(address);
    Address, address => DestinationKind::Address(address);
    &Address, address => DestinationKind::Address(address.clone());
    &UnixAddr, address => DestinationKind::Address(address.clone().into());
}

macro_rules! destination_from_address {
    ($($from:ty),*) => {
        destination_from! { $($from, address => DestinationKind::Address(address.into());)* }
    };
}

destination_from_address! {
    SocketAddr, SocketAddrV4, SocketAddrV6, (IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16), ([u8; 4], u16), UnixAddr,
    &Path, &PathBuf, PathBuf, &OsStr, OsString
}

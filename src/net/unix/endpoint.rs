//! Where to connect to on this machine, and where to listen.

use std::error::Error;
use std::fmt;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};

use socket2::{SockAddr, Socket};

use crate::error::invalid_input;
use crate::net::endpoint::take_socket;
use crate::os::activation::ListenFd;
use crate::os::address::UnixAddr;
use crate::os::fd::OwnedFd;
use crate::os::socket::local_addr;

/// Where to connect to on this machine: an address, or a connected socket that is there already.
///
/// Made from everything that a [`UnixAddr`] is made from (paths, bytes; a zero byte in front makes an abstract name), from
/// `std::os::unix::net::UnixStream`, `socket2::Socket` and `OwnedFd`.
#[doc(alias("path", "sock"))]
pub struct UnixEndpoint {
    pub(crate) kind: UnixEndpointKind,
}

/// Where to listen on this machine: an address, or a bound socket that is there already.
///
/// Made from everything that a [`UnixAddr`] is made from, from `std::os::unix::net::UnixListener`, `socket2::Socket` and
/// `OwnedFd`, and from a [`ListenFd`], whose file is left to whoever has made it.
#[doc(alias("path", "sock"))]
pub struct UnixServerEndpoint {
    pub(crate) kind: UnixEndpointKind,
}

pub(crate) enum UnixEndpointKind {
    Address(UnixAddr),
    Socket(Socket),
    /// A socket whose file is somebody else's.
    Inherited(Socket),
}

macro_rules! unix_endpoint {
    ($name:ident, $std:ty) => {
        impl<A: Into<UnixAddr>> From<A> for $name {
            fn from(address: A) -> Self {
                Self { kind: UnixEndpointKind::Address(address.into()) }
            }
        }

        impl From<$std> for $name {
            fn from(socket: $std) -> Self {
                OwnedFd::from(socket).into()
            }
        }

        impl From<OwnedFd> for $name {
            fn from(fd: OwnedFd) -> Self {
                Socket::from(fd).into()
            }
        }

        impl From<Socket> for $name {
            fn from(socket: Socket) -> Self {
                Self { kind: UnixEndpointKind::Socket(socket) }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match &self.kind {
                    UnixEndpointKind::Address(address) => write!(f, concat!(stringify!($name), "({})"), address),
                    UnixEndpointKind::Socket(_) | UnixEndpointKind::Inherited(_) => {
                        f.write_str(concat!(stringify!($name), "(the given socket)"))
                    }
                }
            }
        }
    };
}

unix_endpoint!(UnixEndpoint, UnixStream);
unix_endpoint!(UnixServerEndpoint, UnixListener);

impl From<ListenFd> for UnixServerEndpoint {
    fn from(socket: ListenFd) -> Self {
        Self { kind: UnixEndpointKind::Inherited(OwnedFd::from(socket).into()) }
    }
}

/// An address as the system takes it; the error names the method and the address.
pub(super) fn system_address(method: &str, address: &UnixAddr) -> io::Result<SockAddr> {
    address.to_sock_addr().map_err(|error| io::Error::new(error.kind(), format!("{method}: {error}")))
}

/// Takes a unix socket of the application's: it has to be a stream socket, and becomes non-blocking.
pub(super) fn take_unix_socket(method: &str, socket: Socket) -> io::Result<Socket> {
    // Before anything is changed about it.
    let is_unix = local_addr(&socket).is_ok_and(|address| address.as_unix().is_some());
    if !is_unix {
        return Err(invalid_input(format!("{method}: a unix stream socket was expected")));
    }
    take_socket(method, socket)
}

/// What went wrong with a unix address; inside of an `io::Error` of the same kind, from which
/// [`get_ref`](io::Error::get_ref) and a downcast bring it back.
#[derive(Debug)]
pub struct UnixAddressError {
    /// What was tried: `connect to` or `bind on`.
    pub action: &'static str,
    /// The address.
    pub address: UnixAddr,
    /// The operating system's error, or one that says by what an address is taken.
    pub error: io::Error,
}

impl UnixAddressError {
    pub(crate) fn wrap(action: &'static str, address: &UnixAddr, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), Self { action, address: address.clone(), error })
    }
}

impl fmt::Display for UnixAddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.action, self.address, self.error)
    }
}

impl Error for UnixAddressError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

//! What a descriptor is an end of, as far as the system tells.

use std::fmt;

use crate::os::address::Address;
use crate::os::fd::{BorrowedFd, is_not_open};
use crate::os::socket::{is_stream, local_addr, peer_addr};

/// What a descriptor is an end of.
#[derive(Clone, Debug)]
pub(crate) enum Ends {
    /// A socket that accepts connections.
    Listening(Option<Address>),
    /// A stream between two addresses: this end's, the peer's.
    Connected(Address, Address),
    /// A socket for datagrams.
    Datagrams { local: Option<Address>, peer: Option<Address> },
    /// Something else, or a socket that is not connected yet.
    Other,
    /// Nothing: it was closed.
    Closed,
}

/// What a descriptor is an end of.
pub(crate) fn ends_of(fd: BorrowedFd<'_>) -> Ends {
    let (local, peer) = match local_addr(fd) {
        Ok(local) => (Some(local), peer_addr(fd).ok()),
        Err(error) if is_not_open(&error) => return Ends::Closed,
        Err(_) => (None, None),
    };
    match (local, peer) {
        (local, None) if listens(fd) => Ends::Listening(local),
        (Some(local), peer) if !is_stream(fd).unwrap_or(true) => Ends::Datagrams { local: Some(local), peer },
        (Some(local), Some(peer)) => Ends::Connected(local, peer),
        _ => Ends::Other,
    }
}

/// Whether a socket without a peer accepts connections.
#[cfg(not(target_vendor = "apple"))]
fn listens(fd: BorrowedFd<'_>) -> bool {
    rustix::net::sockopt::socket_acceptconn(fd).unwrap_or(false)
}

/// Apple's systems do not tell: there a connection that is being made is taken for a socket that listens.
#[cfg(target_vendor = "apple")]
fn listens(fd: BorrowedFd<'_>) -> bool {
    is_stream(fd).unwrap_or(false)
}

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listening(Some(local)) => write!(f, "a listening socket of {local}"),
            Self::Listening(None) => f.write_str("a listening socket"),
            Self::Connected(local, peer) if local.is_named() || peer.is_named() => {
                write!(f, "a connection from {local} to {peer}")
            }
            Self::Connected(..) => f.write_str("one of a pair of sockets"),
            Self::Datagrams { local: Some(local), peer: Some(peer) } => {
                write!(f, "a socket for datagrams from {local} to {peer}")
            }
            Self::Datagrams { .. } => f.write_str("a socket for datagrams"),
            Self::Other => f.write_str("a pipe, a terminal, a process or a connection that is being made"),
            Self::Closed => f.write_str("which is closed"),
        }
    }
}

//! The addresses of a datagram endpoint: as they are given, and in pairs of a family each.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::dns::hints::Hints;
use crate::dns::resolve;
use crate::error::invalid_input;
use crate::event_loop::EventLoop;
use crate::net::endpoint::{Endpoint, EndpointKind, malformed};
use crate::os::address::{Address, UnixAddr};

/// An address of a datagram endpoint: of the internet, or of a unix socket.
///
/// Made from what an [`Endpoint`] is made of, but for sockets, from an [`Address`], and from what names a unix socket:
/// [`UnixAddr`], `&Path` and `PathBuf`.
pub struct DatagramAddr {
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Internet(EndpointKind),
    Unix(UnixAddr),
}

impl fmt::Debug for DatagramAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Internet(endpoint) => write!(f, "DatagramAddr({})", endpoint.describe()),
            Kind::Unix(address) => write!(f, "DatagramAddr({address})"),
        }
    }
}

impl<E: Into<Endpoint>> From<E> for DatagramAddr {
    fn from(endpoint: E) -> Self {
        Self { kind: Kind::Internet(endpoint.into().kind) }
    }
}

impl From<Address> for DatagramAddr {
    fn from(address: Address) -> Self {
        match address {
            Address::Ip(address) => address.into(),
            Address::Unix(address) => Self { kind: Kind::Unix(address) },
        }
    }
}

macro_rules! unix_from {
    ($($from:ty),*) => {
        $(impl From<$from> for DatagramAddr {
            fn from(address: $from) -> Self {
                Self { kind: Kind::Unix(address.into()) }
            }
        })*
    };
}

unix_from! { UnixAddr, &UnixAddr, &Path, &PathBuf, PathBuf }

impl From<&Address> for DatagramAddr {
    fn from(address: &Address) -> Self {
        address.clone().into()
    }
}

/// Where to bind, and whom to send to. Both are of one family.
pub(super) type Pair = (Option<Address>, Option<Address>);

/// The pairs to try, in order: of each family that both addresses have, as far as they are given.
pub(super) async fn pairs(
    el: &EventLoop,
    method: &str,
    local: Option<DatagramAddr>,
    remote: Option<DatagramAddr>,
    hints: Hints,
) -> io::Result<Vec<Pair>> {
    let (has_local, has_remote) = (local.is_some(), remote.is_some());
    let mut is_unix = false;
    let mut ends: [Vec<Address>; 2] = Default::default();
    for (end, given) in ends.iter_mut().zip([local, remote]) {
        *end = match given.map(|given| given.kind) {
            None => Vec::new(),
            Some(Kind::Unix(address)) => {
                is_unix = true;
                vec![address.into()]
            }
            Some(Kind::Internet(endpoint)) => {
                let found = look_up(el, method, endpoint, hints).await?;
                found.into_iter().map(Address::Ip).collect()
            }
        };
    }
    if let Some(option) = hints.first_given().filter(|_| is_unix) {
        return Err(invalid_input(format!("{method}: {option} cannot be used with the address of a unix socket")));
    }
    let [locals, remotes] = ends;
    let pairs = match (has_local, has_remote) {
        (true, true) => join(&locals, &remotes),
        (true, false) => locals.into_iter().map(|local| (Some(local), None)).collect(),
        (false, _) => remotes.into_iter().map(|remote| (None, Some(remote))).collect(),
    };
    if pairs.is_empty() {
        return Err(invalid_input(format!(
            "{method}: can not get address information: local_addr() and remote_addr() have no family in common"
        )));
    }
    Ok(pairs)
}

async fn look_up(el: &EventLoop, method: &str, given: EndpointKind, hints: Hints) -> io::Result<Vec<SocketAddr>> {
    let found = match given {
        EndpointKind::Addresses(addresses) => addresses,
        EndpointKind::Host(host, port) => resolve(el, &host, &port, hints).await?,
        EndpointKind::Malformed(text) => return Err(malformed(method, &text)),
        EndpointKind::Socket(_) => {
            let text = format!("{method}: local_addr() and remote_addr() take addresses; a socket is for sock()");
            return Err(invalid_input(text));
        }
    };
    hints.family.select(method, found)
}

/// Each local address with each remote one of its family, in the order of the local ones.
fn join(locals: &[Address], remotes: &[Address]) -> Vec<Pair> {
    let of_one_family = |local: &Address, remote: &Address| match (local, remote) {
        (Address::Ip(local), Address::Ip(remote)) => local.is_ipv4() == remote.is_ipv4(),
        (Address::Unix(_), Address::Unix(_)) => true,
        _ => false,
    };
    let mut pairs = Vec::new();
    for local in locals {
        let remotes = remotes.iter().filter(|remote| of_one_family(local, remote));
        pairs.extend(remotes.map(|remote| (Some(local.clone()), Some(remote.clone()))));
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_paired_within_their_family() {
        let ip = |text: &str| Address::Ip(text.parse().unwrap());
        let (v4, v6) = (ip("127.0.0.1:1"), ip("[::1]:2"));
        let (other4, other6) = (ip("127.0.0.1:3"), ip("[::1]:4"));
        let unix = Address::from(Path::new("/x"));
        let pair = |a: &Address, b: &Address| (Some(a.clone()), Some(b.clone()));

        let (internet, others, unixes) = ([v6.clone(), v4.clone()], [other4.clone(), other6.clone()], [unix.clone()]);
        assert_eq!(join(&internet, &others), [pair(&v6, &other6), pair(&v4, &other4)]);
        assert_eq!(join(&internet[..1], &others[..1]), []);
        assert_eq!(join(&unixes, &others), []);
        assert_eq!(join(&unixes, &unixes), [pair(&unix, &unix)]);
    }
}

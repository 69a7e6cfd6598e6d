//! Who is waited for from outside of the loop: for `testing`, whose time stands still meanwhile.
//!
//! Not outstanding is what may be ready at any time or never, and what nobody but this loop can make ready: a listening
//! socket, a datagram socket that is not connected, a connection whose other end is registered here, too.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::os::address::Address;
use crate::os::ends::{Ends, ends_of};
use crate::reactor::registration::borrow;
use crate::reactor::slot::{Direction, Listener, Slot};
use crate::reactor::{Interest, Reactor};

impl<C: Clone> Slot<C> {
    /// What somebody waits for.
    fn awaited(&self) -> Interest {
        match &self.listener {
            Listener::Handler(handler) => handler.clone().awaits(),
            Listener::Wakers(pair) => Interest {
                readable: pair.is_waited_for(Direction::Read),
                writable: pair.is_waited_for(Direction::Write),
            },
            Listener::Watch(watch) => watch.interest(),
        }
    }
}

/// What ends there are, by their addresses.
#[derive(Default)]
struct Here {
    /// Where both ends have a name, this end first.
    connected: HashSet<(Address, Address)>,
    /// Names of unix sockets, of which one end alone has one: how many listen, were accepted there, have connected to them,
    /// and how many of those that were accepted are waited for.
    unix: HashMap<Address, [usize; 4]>,
    /// Where datagrams may come in.
    bound: HashSet<Address>,
}

const LISTENING: usize = 0;
const ACCEPTED: usize = 1;
const CLIENTS: usize = 2;
const AWAITED: usize = 3;

/// An address of the fourth version of the protocol is one, also where a socket of the sixth has it.
fn plain(address: &Address) -> Address {
    match address {
        Address::Ip(address) => SocketAddr::new(address.ip().to_canonical(), address.port()).into(),
        Address::Unix(_) => address.clone(),
    }
}

impl Here {
    fn add(&mut self, ends: &Ends, is_awaited: bool) {
        match ends {
            Ends::Listening(Some(local)) => self.count(local, LISTENING),
            Ends::Connected(local, peer) => match (local.is_named(), peer.is_named()) {
                (true, true) => {
                    self.connected.insert((plain(local), plain(peer)));
                }
                (true, false) => {
                    self.count(local, ACCEPTED);
                    if is_awaited {
                        self.count(local, AWAITED);
                    }
                }
                (false, true) => self.count(peer, CLIENTS),
                (false, false) => {}
            },
            Ends::Datagrams { local: Some(local), .. } if local.is_named() => {
                self.bound.insert(plain(local));
            }
            _ => {}
        }
    }

    fn count(&mut self, address: &Address, kind: usize) {
        self.unix.entry(address.clone()).or_default()[kind] += 1;
    }

    /// Whether a socket takes what comes to any address of this machine, and `peer` is one of them.
    fn is_bound_to_all(&self, local: Option<&Address>, peer: &Address) -> bool {
        let (Some(Address::Ip(local)), Address::Ip(peer)) = (local.map(plain), plain(peer)) else { return false };
        let is_bound = |all: IpAddr| self.bound.contains(&SocketAddr::new(all, peer.port()).into());
        (peer.ip().is_loopback() || peer.ip() == local.ip())
            && (is_bound(Ipv6Addr::UNSPECIFIED.into()) || peer.is_ipv4() && is_bound(Ipv4Addr::UNSPECIFIED.into()))
    }

    /// Whether nobody but this loop can make such a descriptor ready, or nobody need ever do so.
    fn holds_both(&self, ends: &Ends) -> bool {
        let [listening, accepted, clients, awaited] = match ends {
            Ends::Connected(local, peer) => {
                let named = if local.is_named() { local } else { peer };
                self.unix.get(named).copied().unwrap_or_default()
            }
            _ => [0; 4],
        };
        match ends {
            Ends::Listening(_) | Ends::Datagrams { peer: None, .. } | Ends::Closed => true,
            Ends::Datagrams { local, peer: Some(peer) } => {
                self.bound.contains(&plain(peer)) || self.is_bound_to_all(local.as_ref(), peer)
            }
            // As many as have connected from here were accepted here, or will be: there are no others.
            Ends::Connected(local, peer) => match (local.is_named(), peer.is_named()) {
                (true, true) => self.connected.contains(&(plain(peer), plain(local))),
                // Without those that nobody reads any more, for their client has gone.
                (true, false) => clients >= awaited,
                (false, true) => listening > 0 || accepted >= clients,
                (false, false) => false,
            },
            Ends::Other => false,
        }
    }
}

impl<C: Clone> Reactor<C> {
    /// The descriptors that are waited for, and that somebody else may make ready: what each is, for people.
    pub(crate) fn outstanding(&self) -> Vec<String> {
        let awaited: Vec<_> = self.slots.iter().map(|slot| (slot.fd, slot.awaited())).collect();
        if awaited.iter().all(|(_, awaited)| *awaited == Interest::NONE) {
            return Vec::new();
        }
        let all: Vec<_> = awaited.into_iter().map(|(fd, awaited)| (fd, awaited, ends_of(borrow(fd)))).collect();
        let mut here = Here::default();
        all.iter().for_each(|(_, awaited, ends)| here.add(ends, *awaited != Interest::NONE));
        let mut found = Vec::new();
        for (fd, awaited, ends) in all {
            let what = match awaited {
                Interest::NONE => continue,
                Interest { readable: true, writable: true } => "to be read or written",
                Interest { writable: true, .. } => "to be written",
                _ => "to be read",
            };
            if !here.holds_both(&ends) {
                found.push(format!("descriptor {fd}, {ends}, waits {what}"));
            }
        }
        found
    }
}

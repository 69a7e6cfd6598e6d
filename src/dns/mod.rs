//! Names to addresses, off the loop.

pub(crate) mod addr;

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use crate::dns::addr::{Family, Host};
use crate::event_loop::EventLoop;

/// The addresses of a host, in the resolver's order. A literal address is answered at once, of whatever family it is: see
/// [`Family::select`]. A name is looked up on a thread of the default executor, and dropping the future leaves the lookup
/// to itself; its addresses are of the family asked for, and it is an error if there is none.
pub(crate) async fn resolve(el: &EventLoop, host: Host, port: u16, family: Family) -> io::Result<Vec<SocketAddr>> {
    let name = match host {
        Host::Address(ip) => return Ok(vec![SocketAddr::new(ip, port)]),
        Host::Name(name) => name,
    };
    let shown = name.clone();
    let lookup = el.run_in_executor(None, move || {
        (name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<SocketAddr>>)
    });
    let found = lookup.await?;
    let mut addresses =
        found.map_err(|error| io::Error::new(error.kind(), format!("cannot resolve {shown:?}: {error}")))?;
    addresses.retain(|address| family.admits(address));
    if addresses.is_empty() {
        let text = format!("cannot resolve {shown:?}: getaddrinfo() returned empty list");
        return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text));
    }
    Ok(addresses)
}

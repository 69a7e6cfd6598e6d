//! Names to addresses, off the loop.

pub(crate) mod addr;

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use crate::dns::addr::{Family, Host};
use crate::event_loop::EventLoop;

/// The addresses of a host, in the resolver's order. A literal address is answered at once; a name is looked up on a
/// thread of the default executor, and dropping the future leaves the lookup to itself.
pub(crate) async fn resolve(el: &EventLoop, host: Host, port: u16, family: Family) -> io::Result<Vec<SocketAddr>> {
    let addresses = match host {
        Host::Address(ip) => vec![SocketAddr::new(ip, port)],
        Host::Name(name) => {
            let shown = name.clone();
            let lookup = el.run_in_executor(None, move || {
                (name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<SocketAddr>>)
            });
            let found = lookup.await?;
            found.map_err(|error| io::Error::new(error.kind(), format!("cannot resolve {shown:?}: {error}")))?
        }
    };
    let fitting: Vec<SocketAddr> = addresses.into_iter().filter(|address| family.admits(address)).collect();
    if fitting.is_empty() {
        return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "getaddrinfo() returned empty list"));
    }
    Ok(fitting)
}

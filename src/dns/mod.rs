//! Names to addresses, off the loop.

pub(crate) mod addr;
pub(crate) mod hints;
pub(crate) mod lookup;

use std::io;
use std::net::SocketAddr;

use crate::dns::addr::{Family, Host, Port};
use crate::dns::hints::{AddrInfoFlags, Hints};
use crate::dns::lookup::look_up;
use crate::event_loop::EventLoop;

/// The addresses of a host, in the resolver's order. A literal address with a port that is a number is answered at once, of
/// whatever family it is: see [`Family::select`]. A name is looked up on a thread of the default executor, and dropping the
/// future leaves the lookup to itself; its addresses are of the family asked for, and it is an error if there is none.
pub(crate) async fn resolve(el: &EventLoop, host: &Host, port: &Port, hints: Hints) -> io::Result<Vec<SocketAddr>> {
    let mut hints = hints;
    if let (Host::Address(ip), true) = (host, hints.flags.is_empty()) {
        if let Some(port) = port.number() {
            return Ok(vec![SocketAddr::new(*ip, port)]);
        }
        // Only the service is in question.
        hints.family = Family::Any;
    }
    let shown = host.to_string();
    let found = look_up(el, Some(&shown), port, hints).await?;
    let mut addresses: Vec<SocketAddr> = found.into_iter().map(|found| found.address).collect();
    addresses.retain(|address| hints.family.admits(address));
    if addresses.is_empty() {
        let text = format!("cannot resolve {shown:?}: getaddrinfo() returned empty list");
        return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text));
    }
    Ok(addresses)
}

/// The number of a port for all interfaces.
pub(crate) async fn port_number(el: &EventLoop, port: &Port, hints: Hints) -> io::Result<u16> {
    if let Some(number) = port.number() {
        return Ok(number);
    }
    let hints = Hints { flags: hints.flags | AddrInfoFlags::PASSIVE, ..hints };
    let found = look_up(el, None, port, hints).await?;
    match found.first() {
        Some(found) => Ok(found.address.port()),
        None => {
            let text = format!("cannot resolve service {port:?}: getaddrinfo() returned empty list");
            Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text))
        }
    }
}

//! What a transport looks like in a report.

use std::fmt;

use crate::os::address::Address;
use crate::os::fd::AsRawFd;
use crate::protocol::{BaseTransport, Transport};
use crate::transport::at_work::AtWork;
use crate::transport::stream::SocketTransport;
use crate::transport::stream::carrier::Carrier;

impl SocketTransport {
    /// With its protocol.
    pub(super) fn at_work(&self) -> AtWork<Transport> {
        // What the application knows of is the one on top.
        let transport = self.transport().uppermost();
        let protocol = transport.protocol().map(|protocol| protocol.type_name());
        AtWork::new(transport, protocol)
    }

    /// Who is at the other end, where that one has a name.
    fn peer(&self) -> Option<Address> {
        let (ip, unix) = if self.is_layered {
            let info = self.extra_info();
            (info.peer_addr, info.unix_peer_addr)
        } else {
            (self.peer_addr.ip(), self.peer_addr.unix())
        };
        ip.map(Address::Ip).or_else(|| unix.filter(|name| !name.is_unnamed()).map(Address::Unix))
    }
}

impl fmt::Debug for SocketTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let life = self.life.get();
        write!(f, "<Transport {}", self.id)?;
        if life.is_closing() {
            f.write_str(if life.is_gone() { " closed" } else { " closing" })?;
        }
        if let Ok(io) = self.io.try_borrow() {
            if let Some(channel) = io.as_ref().and_then(Carrier::channel) {
                write!(f, " fd={}", channel.as_raw_fd())?;
            }
        }
        if let Some(peer) = self.peer() {
            write!(f, " peer={peer}")?;
        }
        if life.is_gone() {
            return f.write_str(">");
        }
        if life.write_end().is_none() {
            write!(f, " read={}", if life.is_reading() { "polling" } else { "idle" })?;
        }
        if life.is_read_end() {
            return f.write_str(">");
        }
        let size = self.queue.try_borrow().map_or(0, |queue| queue.len());
        let write = if size > 0 { "polling" } else { "idle" };
        write!(f, " write=<{write}, bufsize={size}>>")
    }
}

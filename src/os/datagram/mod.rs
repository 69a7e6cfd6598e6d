//! Datagrams, sent and received: one with each system call, or several where the system can do that.

#[cfg(target_os = "linux")]
mod many;
#[cfg(not(target_os = "linux"))]
mod single;

#[cfg(target_os = "linux")]
pub(crate) use many::{Inbox, send_several};
#[cfg(not(target_os = "linux"))]
pub(crate) use single::{Inbox, send_several};

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;

use rustix::net::{RecvAncillaryBuffer, RecvFlags, ReturnFlags};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::os::address::Address;
use crate::os::fault::{Call, retry, retry_io};
use crate::os::fd::AsFd;
use crate::os::socket::{self, SEND_FLAGS};

/// A datagram that was received.
pub(crate) struct Arrived<'a> {
    pub(crate) data: &'a [u8],
    /// `None` where the sender has no address.
    pub(crate) from: Option<Address>,
    /// Whether it was longer than what there was room for, and the rest of it is lost.
    pub(crate) truncated: bool,
}

impl Arrived<'_> {
    /// An error if it is not the whole one.
    pub(crate) fn check_whole(&self) -> io::Result<()> {
        if self.truncated {
            let text = format!("a datagram of more than {} bytes was received, and dropped", self.data.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(())
    }
}

/// A datagram that is to be sent: which of the bytes, and where to.
pub(crate) type Letter = (std::ops::Range<usize>, SocketAddr);

/// A datagram socket of an address' family.
pub(crate) fn socket_for(address: &Address, proto: i32) -> io::Result<Socket> {
    let domain = match address {
        Address::Ip(address) => Domain::for_address(*address),
        Address::Unix(_) => Domain::UNIX,
    };
    socket(domain, proto)
}

/// A datagram socket, non-blocking. Protocol zero is the usual one.
pub(crate) fn socket(domain: Domain, proto: i32) -> io::Result<Socket> {
    socket::new(domain, Type::DGRAM, (proto != 0).then(|| proto.into()))
}

/// Sets the peer. It is a matter of the kernel's own tables: it does not wait.
pub(crate) fn connect(socket: &Socket, address: &SockAddr) -> io::Result<()> {
    retry_io(Call::Connect, || socket.connect(address))
}

/// Lets datagrams go to broadcast addresses.
pub(crate) fn set_broadcast(socket: &Socket) -> io::Result<()> {
    retry_io(Call::Option, || socket.set_broadcast(true))
}

/// The address of the peer, if there is one, which may be of a family that has no addresses here.
pub(crate) fn peer(socket: &Socket) -> Option<Option<Address>> {
    match socket::peer_addr(socket) {
        Ok(address) => Some(Some(address)),
        Err(error) => (error.kind() == io::ErrorKind::Unsupported).then_some(None),
    }
}

// A datagram goes and comes as a whole: there are no short counts.

/// Sends to the peer of a connected socket.
pub(crate) fn send(fd: impl AsFd, data: &[u8]) -> io::Result<usize> {
    retry(Call::SendTo, |_| rustix::net::send(fd.as_fd(), data, SEND_FLAGS))
}

pub(crate) fn send_to(fd: impl AsFd, data: &[u8], address: &Address) -> io::Result<usize> {
    match address {
        Address::Ip(address) => retry(Call::SendTo, |_| rustix::net::sendto(fd.as_fd(), data, SEND_FLAGS, address)),
        Address::Unix(address) => {
            let address = address.to_system()?;
            retry(Call::SendTo, |_| rustix::net::sendto(fd.as_fd(), data, SEND_FLAGS, &address))
        }
    }
}

/// Receives, from whomever.
pub(crate) fn recv(fd: impl AsFd, buf: &mut [u8]) -> io::Result<usize> {
    recv_with(fd, buf, RecvFlags::empty())
}

/// The same, and leaves it where it is.
pub(crate) fn peek(fd: impl AsFd, buf: &mut [u8]) -> io::Result<usize> {
    recv_with(fd, buf, RecvFlags::PEEK)
}

fn recv_with(fd: impl AsFd, buf: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
    retry(Call::ReceiveFrom, |_| rustix::net::recv(fd.as_fd(), &mut *buf, flags)).map(|(n, _)| n)
}

/// Receives, and tells from whom: `None` where the system does not say, as for connections and for unix sockets that are
/// not bound, and where it is of a family that an [`Address`] cannot hold.
pub(crate) fn recv_from(fd: impl AsFd, buf: &mut [u8]) -> io::Result<(usize, Option<Address>)> {
    recv_from_with(fd, buf, RecvFlags::empty())
}

/// The same, and leaves it where it is.
pub(crate) fn peek_from(fd: impl AsFd, buf: &mut [u8]) -> io::Result<(usize, Option<Address>)> {
    recv_from_with(fd, buf, RecvFlags::PEEK)
}

fn recv_from_with(fd: impl AsFd, buf: &mut [u8], flags: RecvFlags) -> io::Result<(usize, Option<Address>)> {
    let (n, _, from) = retry(Call::ReceiveFrom, |_| rustix::net::recvfrom(fd.as_fd(), &mut *buf, flags))?;
    Ok((n, from.and_then(Address::of_any)))
}

/// Receives one datagram. Descriptors that come with one of a unix socket are closed.
pub(crate) fn receive(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<Arrived<'_>> {
    let mut control = RecvAncillaryBuffer::default();
    let message = retry(Call::ReceiveFrom, |_| {
        let mut iov = [IoSliceMut::new(buffer)];
        rustix::net::recvmsg(fd.as_fd(), &mut iov, &mut control, RecvFlags::empty())
    })?;
    let from = message.address.and_then(Address::of_any).filter(Address::is_named);
    let truncated = message.flags.contains(ReturnFlags::TRUNC);
    Ok(Arrived { data: &buffer[..message.bytes.min(buffer.len())], from, truncated })
}

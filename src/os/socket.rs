//! Sockets: made non-blocking and close-on-exec, and called without `SIGPIPE`.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;

use rustix::net::{RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendFlags};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::os::fault::{Call, retry, retry_io};
use crate::os::fd::{AsFd, BorrowedFd};

/// A peer that is gone must be an error, not a signal that ends the process. Apple's systems have a socket option for
/// it instead, which `socket2` sets on each socket it makes.
#[cfg(not(any(target_vendor = "apple", windows)))]
const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL;
#[cfg(any(target_vendor = "apple", windows))]
const SEND_FLAGS: SendFlags = SendFlags::empty();

/// A TCP socket of an address' family.
pub(crate) fn tcp(address: &SocketAddr) -> io::Result<Socket> {
    new(Domain::for_address(*address), Type::STREAM, Some(Protocol::TCP))
}

/// A non-blocking socket.
pub(crate) fn new(domain: Domain, kind: Type, protocol: Option<Protocol>) -> io::Result<Socket> {
    // Folded into the one system call where the platform can.
    #[cfg(not(target_vendor = "apple"))]
    let kind = kind.nonblocking();
    let socket = retry_io(Call::Socket, || Socket::new(domain, kind, protocol))?;
    #[cfg(target_vendor = "apple")]
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Begins to connect: true when the connection stands at once, false when it is under way.
pub(crate) fn connect(socket: &Socket, address: &SockAddr) -> io::Result<bool> {
    // Called again after an interruption it tells how far the connection is that the first call has begun.
    match retry_io(Call::Connect, || socket.connect(address)) {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::EISCONN) => Ok(true),
            Some(libc::EINPROGRESS | libc::EALREADY) => Ok(false),
            _ => Err(error),
        },
    }
}

/// Takes one connection from a listening socket, with the peer's address if it has one of the internet's.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<(Socket, Option<SocketAddr>)> {
    #[cfg(not(target_vendor = "apple"))]
    let (fd, peer) = {
        use rustix::net::SocketFlags;
        retry(Call::Accept, |_| rustix::net::acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC))?
    };
    #[cfg(target_vendor = "apple")]
    let (fd, peer) = retry(Call::Accept, |_| rustix::net::acceptfrom(listener))?;
    let socket = Socket::from(fd);
    #[cfg(target_vendor = "apple")]
    {
        socket.set_nonblocking(true)?;
        socket.set_cloexec(true)?;
        socket.set_nosigpipe(true)?;
    }
    Ok((socket, peer.and_then(|peer| SocketAddr::try_from(peer).ok())))
}

/// Whether a server's address is bound though connections of an earlier one linger on it: elsewhere than on Unix the
/// option means something else.
pub(crate) const REUSE_ADDRESS: bool = cfg!(unix);

/// Lets other sockets bind the same address.
#[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos"))))]
pub(crate) fn set_reuse_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

/// Lets other sockets bind the same address.
#[cfg(not(all(unix, not(any(target_os = "solaris", target_os = "illumos")))))]
pub(crate) fn set_reuse_port(_: &Socket) -> io::Result<()> {
    Err(crate::error::invalid_input("reuse_port() is not supported on this platform"))
}

pub(crate) fn recv(fd: impl AsFd, buf: &mut [u8]) -> io::Result<usize> {
    retry(Call::Receive, |share| {
        let len = share.of(buf.len());
        rustix::net::recv(fd.as_fd(), &mut buf[..len], RecvFlags::empty())
    })
    .map(|(n, _)| n)
}

/// As `recv`, on a socket that may be a unix one. Its read stops behind bytes that came with descriptors, though more may
/// follow: true if it did. The descriptors are closed.
pub(crate) fn recv_local(fd: impl AsFd, buf: &mut [u8]) -> io::Result<(usize, bool)> {
    let mut control = RecvAncillaryBuffer::default();
    let message = retry(Call::Receive, |share| {
        let len = share.of(buf.len());
        let mut iov = [IoSliceMut::new(&mut buf[..len])];
        rustix::net::recvmsg(fd.as_fd(), &mut iov, &mut control, RecvFlags::empty())
    })?;
    Ok((message.bytes, message.flags.contains(ReturnFlags::CTRUNC)))
}

pub(crate) fn send(fd: impl AsFd, data: &[u8]) -> io::Result<usize> {
    retry(Call::Send, |share| rustix::net::send(fd.as_fd(), &data[..share.of(data.len())], SEND_FLAGS))
}

/// Sends several buffers in one call; at most [`MAX_IOVECS`](crate::constants::MAX_IOVECS) of them.
pub(crate) fn send_vectored(fd: impl AsFd, data: &[IoSlice<'_>]) -> io::Result<usize> {
    retry(Call::Send, |share| {
        let data = &data[..share.buffers(data.len())];
        rustix::net::sendmsg(fd.as_fd(), data, &mut SendAncillaryBuffer::default(), SEND_FLAGS)
    })
}

/// Whether accepting failed because of the one connection that was to be accepted, which is gone: its client gave up, or
/// (on Linux) the network failed it. The next one may be fine.
pub(crate) fn is_lost_connection(error: &io::Error) -> bool {
    #[cfg(target_os = "linux")]
    if error.raw_os_error() == Some(libc::ENONET) {
        return true;
    }
    let of_network = matches!(
        error.raw_os_error(),
        Some(
            libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
        )
    );
    of_network || error.kind() == io::ErrorKind::ConnectionAborted
}

/// Whether an accept failed because the process or the system is short of something.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Whether binding failed because the address is not one of this machine.
pub(crate) fn is_foreign_address(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EADDRNOTAVAIL)
}

/// Whether the kernel lacks the address family.
pub(crate) fn is_unsupported_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT))
}

/// Whether it is a socket of a connection, a stream.
pub(crate) fn is_stream(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let kind = retry(Call::Option, |_| rustix::net::sockopt::socket_type(fd))?;
    Ok(kind == rustix::net::SocketType::STREAM)
}

/// Whether calls return instead of waiting.
pub(crate) fn is_nonblocking(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let flags = retry(Call::Option, |_| rustix::fs::fcntl_getfl(fd))?;
    Ok(flags.contains(rustix::fs::OFlags::NONBLOCK))
}

/// Whether the operation merely has to wait.
pub(crate) fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

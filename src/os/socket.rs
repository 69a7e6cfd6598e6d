//! Sockets: made non-blocking and close-on-exec, and called without `SIGPIPE`.

use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrAny};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use crate::os::address::Address;
use crate::os::fault::{Call, retry, retry_io};
use crate::os::fd::{AsFd, BorrowedFd};
use crate::os::options;

/// A peer that is gone must be an error, not a signal that ends the process. Apple's systems have a socket option for
/// it instead, which `socket2` sets on each socket it makes.
#[cfg(not(any(target_vendor = "apple", windows)))]
pub(super) const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL;
#[cfg(any(target_vendor = "apple", windows))]
pub(super) const SEND_FLAGS: SendFlags = SendFlags::empty();

/// A stream socket of an address' family: of TCP, or of the protocol with this number.
pub(crate) fn stream(address: &SocketAddr, proto: i32) -> io::Result<Socket> {
    new(Domain::for_address(*address), Type::STREAM, Some(stream_protocol(proto)))
}

/// TCP, unless it is another one by its number.
pub(crate) fn stream_protocol(number: i32) -> Protocol {
    if number == 0 { Protocol::TCP } else { Protocol::from(number) }
}

/// A non-blocking socket.
pub(crate) fn new(domain: Domain, kind: Type, protocol: Option<Protocol>) -> io::Result<Socket> {
    // Folded into the one system call where the platform can.
    #[cfg(not(target_vendor = "apple"))]
    let kind = kind.nonblocking();
    let socket = retry_io(Call::Socket, || Socket::new(domain, kind, protocol))?;
    #[cfg(target_vendor = "apple")]
    set_nonblocking(&socket)?;
    Ok(socket)
}

/// Lets no call on it block.
pub(crate) fn set_nonblocking(socket: &Socket) -> io::Result<()> {
    retry_io(Call::Option, || socket.set_nonblocking(true))
}

/// Calls what reads or sets an option.
pub(crate) fn option<R>(socket: &Socket, f: impl Fn(&Socket) -> io::Result<R>) -> io::Result<R> {
    retry_io(Call::Option, || f(socket))
}

/// Binds to an address.
pub(crate) fn bind(socket: &Socket, address: impl Into<SockAddr>) -> io::Result<()> {
    let address = address.into();
    retry_io(Call::Bind, || socket.bind(&address))
}

/// Sends small writes at once. A protocol that does not know of delays is fine.
pub(crate) fn set_nodelay(socket: &Socket) -> io::Result<()> {
    match options::set_nodelay(socket, true) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOPROTOOPT | libc::EOPNOTSUPP)) => Ok(()),
        result => result,
    }
}

/// Begins to connect: true when the connection stands at once, false when it is under way.
pub(crate) fn connect(socket: &Socket, address: &SockAddr) -> io::Result<bool> {
    // Called again after an interruption it tells how far the connection is that the first call has begun.
    let mut interrupted = false;
    let result = retry_io(Call::Connect, || {
        let result = socket.connect(address);
        interrupted |= result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted);
        result
    });
    match result {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::EISCONN) if interrupted => Ok(true),
            Some(libc::EINPROGRESS | libc::EALREADY) => Ok(false),
            _ => Err(error),
        },
    }
}

/// What has become of a connection that was begun; it would block while it is under way.
pub(crate) fn connect_result(fd: impl AsFd) -> io::Result<()> {
    let fd = fd.as_fd();
    let socket = SockRef::from(&fd);
    if let Some(error) = take_error(&socket)? {
        return Err(error);
    }
    match retry_io(Call::Name, || socket.peer_addr()) {
        // A wake-up without cause: not connected yet, and not failed.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Err(io::ErrorKind::WouldBlock.into()),
        result => result.map(drop),
    }
}

/// The error that waits in a socket, which is then gone from there.
pub(crate) fn take_error(socket: &Socket) -> io::Result<Option<io::Error>> {
    retry_io(Call::Option, || socket.take_error())
}

/// The address of this end.
pub(crate) fn local_addr(fd: impl AsFd) -> io::Result<Address> {
    known(retry(Call::Name, |_| rustix::net::getsockname(fd.as_fd()))?)
}

/// The address of the peer.
pub(crate) fn peer_addr(fd: impl AsFd) -> io::Result<Address> {
    let peer = retry(Call::Name, |_| rustix::net::getpeername(fd.as_fd()))?;
    known(peer.ok_or(io::ErrorKind::NotConnected)?)
}

fn known(address: SocketAddrAny) -> io::Result<Address> {
    let family = address.address_family().as_raw();
    Address::of_any(address).ok_or_else(|| {
        io::Error::new(io::ErrorKind::Unsupported, format!("addresses of family {family} are not supported"))
    })
}

/// Lets a bound socket accept connections.
pub(crate) fn listen(socket: &Socket, backlog: u32) -> io::Result<()> {
    retry_io(Call::Listen, || socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX)))
}

/// Ends one direction of a connection, or both.
pub(crate) fn shutdown(socket: &Socket, how: Shutdown) -> io::Result<()> {
    retry_io(Call::Shutdown, || socket.shutdown(how))
}

/// A socket's family.
pub(crate) fn family(socket: BorrowedFd<'_>) -> io::Result<Domain> {
    Ok(retry_io(Call::Name, || SockRef::from(&socket).local_addr())?.domain())
}

/// A socket's type.
pub(crate) fn kind(socket: BorrowedFd<'_>) -> io::Result<Type> {
    retry_io(Call::Option, || SockRef::from(&socket).r#type())
}

pub(crate) fn is_nonblocking(fd: BorrowedFd<'_>) -> io::Result<bool> {
    retry_io(Call::Option, || SockRef::from(&fd).nonblocking())
}

/// Takes one connection from a listening socket, with the peer's address if it has one.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<(Socket, Option<Address>)> {
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
        set_nonblocking(&socket)?;
        retry_io(Call::Option, || socket.set_cloexec(true))?;
        retry_io(Call::Option, || socket.set_nosigpipe(true))?;
    }
    Ok((socket, peer.and_then(Address::of_any)))
}

/// Lets an address be bound on which connections linger.
pub(crate) fn set_reuse_address(socket: &Socket) -> io::Result<()> {
    retry_io(Call::Option, || socket.set_reuse_address(true))
}

/// Whether a server's address is bound though connections of an earlier one linger on it: elsewhere than on Unix the
/// option means something else.
pub(crate) const REUSE_ADDRESS: bool = cfg!(unix);

/// Lets other sockets bind the same address.
#[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos"))))]
pub(crate) fn set_reuse_port(socket: &Socket) -> io::Result<()> {
    retry_io(Call::Option, || socket.set_reuse_port(true))
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

/// As `recv`, on a socket that may be in blocking mode.
pub(crate) fn recv_now(fd: impl AsFd, buf: &mut [u8]) -> io::Result<usize> {
    retry(Call::Receive, |share| {
        let len = share.of(buf.len());
        rustix::net::recv(fd.as_fd(), &mut buf[..len], RecvFlags::DONTWAIT)
    })
    .map(|(n, _)| n)
}

pub(crate) fn send(fd: impl AsFd, data: &[u8]) -> io::Result<usize> {
    retry(Call::Send, |share| rustix::net::send(fd.as_fd(), &data[..share.of(data.len())], SEND_FLAGS))
}

/// As `send`, on a socket that may be in blocking mode.
pub(crate) fn send_now(fd: impl AsFd, data: &[u8]) -> io::Result<usize> {
    let flags = SEND_FLAGS | SendFlags::DONTWAIT;
    retry(Call::Send, |share| rustix::net::send(fd.as_fd(), &data[..share.of(data.len())], flags))
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
    Ok(kind(fd)? == Type::STREAM)
}

/// Whether a socket listens.
#[cfg(not(target_vendor = "apple"))]
pub(crate) fn is_listening(fd: BorrowedFd<'_>) -> io::Result<bool> {
    retry(Call::Option, |_| rustix::net::sockopt::socket_acceptconn(fd))
}

/// Whether a socket listens. Apple's systems do not say: it is one for connections that is none.
#[cfg(target_vendor = "apple")]
pub(crate) fn is_listening(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(is_stream(fd)? && peer_addr(fd).is_err_and(|error| error.kind() == io::ErrorKind::NotConnected))
}

/// Whether the operation merely has to wait.
pub(crate) fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

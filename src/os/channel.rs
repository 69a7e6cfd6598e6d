//! The descriptor of a transport of bytes, and the calls that are made on it.

use std::io::{self, IoSlice};
use std::net::Shutdown;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, OFlags};
#[cfg(not(target_os = "linux"))]
use rustix::net::RecvFlags;
use rustix::time::Timespec;
use socket2::{SockRef, Socket};

use crate::os::fault::{Call, retry, retry_io};
use crate::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use crate::os::lease::Lease;
use crate::os::room::Room;
use crate::os::sigpipe::{beware, is_on_guard, withheld};
use crate::os::socket;

/// Which calls a descriptor takes, and whether it can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A stream socket of the internet's.
    Internet,
    /// A stream socket of another family.
    Local,
    /// One direction of a socket, which may be in blocking mode: it may be somebody else's, too.
    SocketEnd,
    /// One end of a pipe, or a device.
    PipeEnd,
    /// A device that is never waited for: a call on it does not block.
    Device,
    /// What would block whoever calls, and is called elsewhere: see the transport.
    Elsewhere,
}

/// An open descriptor.
#[derive(Debug)]
pub(crate) struct Channel {
    fd: OwnedFd,
    kind: Kind,
    /// For one of the process's standard streams. Behind `fd`, for nobody else may take the stream before that is closed.
    _lease: Option<Lease>,
}

impl Channel {
    pub(crate) fn socket(socket: Socket, is_internet: bool) -> Self {
        let kind = if is_internet { Kind::Internet } else { Kind::Local };
        Self { fd: socket.into(), kind, _lease: None }
    }

    pub(crate) fn new(fd: OwnedFd, kind: Kind, lease: Option<Lease>) -> Self {
        if kind != Kind::SocketEnd {
            beware();
        }
        Self { fd, kind, _lease: lease }
    }

    /// As `new`, for one end of a pipe, of a device or of a socket; it becomes non-blocking.
    pub(crate) fn end(fd: OwnedFd, sort: Sort) -> io::Result<Self> {
        set_nonblocking(fd.as_fd(), true)?;
        Ok(Self::new(fd, if sort == Sort::Socket { Kind::SocketEnd } else { Kind::PipeEnd }, None))
    }

    #[inline]
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The same, of which the selector wants to know nothing.
    pub(crate) fn into_device(self) -> Self {
        Self { kind: Kind::Device, ..self }
    }

    /// Whether the selector says when a call is worth trying.
    #[inline]
    pub(crate) fn is_pollable(&self) -> bool {
        !matches!(self.kind, Kind::Device | Kind::Elsewhere)
    }

    /// Whether it is a socket that the transport has for itself.
    pub(crate) fn is_socket(&self) -> bool {
        matches!(self.kind, Kind::Internet | Kind::Local)
    }

    /// Receives: how much, and whether more may be there though the buffer was not filled.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
        match self.kind {
            Kind::Internet => socket::recv(&self.fd, buffer).map(|n| (n, false)),
            Kind::Local => Room::new(buffer).recv_local(&self.fd),
            // It may be a socket of datagrams, which gives them one at a time.
            Kind::SocketEnd => socket::recv_now(&self.fd, buffer).map(|n| (n, true)),
            // A terminal gives one line at a time, and a pipe one packet if the writer has asked for it.
            Kind::PipeEnd | Kind::Device | Kind::Elsewhere => read(self.fd.as_fd(), buffer).map(|n| (n, true)),
        }
    }

    pub(crate) fn send(&self, data: &[IoSlice<'_>]) -> io::Result<usize> {
        match (self.kind, data) {
            (Kind::Internet | Kind::Local, data) => socket::send_vectored(&self.fd, data),
            (Kind::SocketEnd, data) => data.first().map_or(Ok(0), |first| socket::send_now(&self.fd, first)),
            (_, data) if is_on_guard() => withheld(|| self.write(data)),
            (_, data) => self.write(data),
        }
    }

    fn write(&self, data: &[IoSlice<'_>]) -> io::Result<usize> {
        match data {
            [only] => write(self.fd.as_fd(), only),
            data => retry(Call::Send, |share| rustix::io::writev(&self.fd, &data[..share.buffers(data.len())])),
        }
    }

    /// Ends the writing half of a socket.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        retry_io(Call::Shutdown, || SockRef::from(&self.fd).shutdown(Shutdown::Write))
    }

    /// Whether nobody will read any more what is written. With `end_of_file`, so it is where the peer of a socket will
    /// send no more.
    pub(crate) fn is_reader_gone(&self, end_of_file: bool) -> io::Result<bool> {
        let want = if end_of_file { end_of_file_flags() } else { PollFlags::empty() };
        let mut fds = [PollFd::new(&self.fd, want)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let count = retry(Call::Option, |_| rustix::event::poll(&mut fds, Some(&now)))?;
        let broken = fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP);
        Ok(broken || (count > 0 && self.is_at_end()))
    }

    /// Nothing else was asked for than that.
    #[cfg(target_os = "linux")]
    fn is_at_end(&self) -> bool {
        true
    }

    /// There is something to read: bytes, which are for whoever reads, or the end.
    #[cfg(not(target_os = "linux"))]
    fn is_at_end(&self) -> bool {
        let peek = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peeked = retry(Call::Receive, |_| rustix::net::recv(&self.fd, &mut [0_u8; 1][..], peek));
        matches!(peeked, Ok((0, _)))
    }
}

#[cfg(target_os = "linux")]
fn end_of_file_flags() -> PollFlags {
    PollFlags::RDHUP
}

#[cfg(not(target_os = "linux"))]
fn end_of_file_flags() -> PollFlags {
    PollFlags::IN
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Reads a descriptor, also one that blocks.
pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    retry(Call::Receive, |share| {
        let len = share.of(buffer.len());
        rustix::io::read(fd, &mut buffer[..len])
    })
}

/// Writes to a descriptor, also one that blocks.
pub(crate) fn write(fd: BorrowedFd<'_>, data: &[u8]) -> io::Result<usize> {
    retry(Call::Send, |share| rustix::io::write(fd, &data[..share.of(data.len())]))
}

/// Whether reading failed because nobody has the other side of a terminal open.
pub(crate) fn is_hung_up(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}

/// Says whether calls on a descriptor may block. The flag is the open file's, which other processes may share: true if it
/// has changed.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>, nonblocking: bool) -> io::Result<bool> {
    let before = retry(Call::Option, |_| rustix::fs::fcntl_getfl(fd))?;
    let after = if nonblocking { before | OFlags::NONBLOCK } else { before - OFlags::NONBLOCK };
    if after != before {
        retry(Call::Option, |_| rustix::fs::fcntl_setfl(fd, after))?;
    }
    Ok(after != before)
}

/// Which directions a descriptor was opened for: reading, writing.
pub(crate) fn directions(fd: BorrowedFd<'_>) -> io::Result<(bool, bool)> {
    let mode = retry(Call::Option, |_| rustix::fs::fcntl_getfl(fd))? & OFlags::RWMODE;
    Ok((mode != OFlags::WRONLY, mode != OFlags::RDONLY))
}

/// What a descriptor is open on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Pipe,
    Socket,
    /// A terminal or another character device.
    Character,
    Regular,
    Directory,
    Block,
    /// An event counter, a timer ..
    Other,
}

impl Sort {
    pub(crate) fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let stat = retry(Call::File, |_| rustix::fs::fstat(fd))?;
        Ok(match FileType::from_raw_mode(stat.st_mode as _) {
            FileType::Fifo => Self::Pipe,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice => Self::Character,
            FileType::RegularFile => Self::Regular,
            FileType::Directory => Self::Directory,
            FileType::BlockDevice => Self::Block,
            _ => Self::Other,
        })
    }

    /// For a message.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pipe => "a pipe",
            Self::Socket => "a socket",
            Self::Character => "a character device",
            Self::Regular => "a regular file",
            Self::Directory => "a directory",
            Self::Block => "a block device",
            Self::Other => "something else",
        }
    }
}

//! Stream sockets of the machine itself: unix sockets, and the files that they leave.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::os::fault::{Call, retry_io};
use crate::os::fork::Home;
use crate::os::socket;

/// A unix stream socket.
pub(crate) fn stream() -> io::Result<Socket> {
    socket::new(Domain::UNIX, Type::STREAM, None)
}

/// Sees to it that the file which the socket is about to be bound to is for its owner only, where the system gives it the
/// socket's own mode, as Linux does. Elsewhere [`SocketFile::make_private`] has to do.
#[cfg(feature = "inspector")]
pub(crate) fn make_private(socket: &Socket) -> io::Result<()> {
    use crate::os::fault::retry;
    match retry(Call::Option, |_| rustix::fs::fchmod(socket, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)) {
        // Sockets have no mode there.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

/// Two unix sockets that are connected with each other.
pub(crate) fn pair(kind: Type) -> io::Result<(Socket, Socket)> {
    #[cfg(not(target_vendor = "apple"))]
    let kind = kind.nonblocking();
    let pair = retry_io(Call::Socket, || Socket::pair(Domain::UNIX, kind, None))?;
    #[cfg(target_vendor = "apple")]
    {
        socket::set_nonblocking(&pair.0)?;
        socket::set_nonblocking(&pair.1)?;
    }
    Ok(pair)
}

/// Connects: true if the connection stands, false if the server's queue is full just now. Nothing is under way then, and
/// nothing will tell when there is room.
pub(crate) fn connect(socket: &Socket, address: &SockAddr) -> io::Result<bool> {
    match retry_io(Call::Connect, || socket.connect(address)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// What stands at a path at which no socket could be bound.
#[derive(Debug)]
pub(crate) enum Occupant {
    /// Nothing any more.
    Gone,
    /// The file of a socket that is closed.
    Stale(SocketFile),
    /// A socket that is open, or one that cannot be told from it.
    Socket,
    /// Something else.
    NoSocket,
}

/// Finds out what stands at a path. The owner of an open socket does not notice.
pub(crate) fn occupant(path: &Path, address: &SockAddr) -> io::Result<Occupant> {
    let (file, is_socket) = match look(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Occupant::Gone),
        Err(error) => return Err(error),
    };
    if !is_socket {
        return Ok(Occupant::NoSocket);
    }
    // A datagram socket cannot connect to a stream socket, and learns on the way whether there is one: also one that does
    // not listen yet. A stream socket asks once more, for systems that make no difference.
    for kind in [Type::DGRAM, Type::STREAM] {
        match connect(&socket::new(Domain::UNIX, kind, None)?, address) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Occupant::Gone),
            _ => return Ok(Occupant::Socket),
        }
    }
    Ok(Occupant::Stale(file))
}

/// Removes the file of a socket that was just bound, and of which nothing can be found out.
pub(crate) fn discard(path: &Path) {
    // There is an error already.
    let _ = retry_io(Call::File, || fs::remove_file(path));
}

/// The file of a bound socket, to be removed by whoever has it.
#[derive(Debug)]
pub(crate) struct SocketFile {
    /// Absolute, as the process may change its folder.
    path: PathBuf,
    /// The process that has bound the socket: its children serve it perhaps, and do not end it for the others.
    home: Home,
    identity: Identity,
}

/// What tells a file from one that has taken its place: the number of an inode is soon used again.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

fn look(path: &Path) -> io::Result<(SocketFile, bool)> {
    let path = std::path::absolute(path)?;
    let data = retry_io(Call::File, || fs::symlink_metadata(&path))?;
    let identity = Identity { device: data.dev(), inode: data.ino(), changed: (data.ctime(), data.ctime_nsec()) };
    Ok((SocketFile { path, home: Home::here(), identity }, data.file_type().is_socket()))
}

impl SocketFile {
    /// The file of a socket that is bound to this path; `None` if it has none any more.
    pub(crate) fn at(path: &Path) -> io::Result<Option<Self>> {
        match look(path) {
            Ok((file, is_socket)) => Ok(Some(file).filter(|_| is_socket)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes care that nobody but its owner may connect.
    #[cfg(feature = "inspector")]
    pub(crate) fn make_private(&self) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let mode = retry_io(Call::File, || fs::symlink_metadata(&self.path))?.mode();
        if mode & 0o777 == 0o600 {
            return Ok(());
        }
        retry_io(Call::File, || fs::set_permissions(&self.path, fs::Permissions::from_mode(0o600)))
    }

    /// Removes it, if it was not changed or replaced since: true if it was removed.
    pub(crate) fn remove_stale(&self) -> io::Result<bool> {
        self.remove_if(|now| *now == self.identity)
    }

    /// Removes it if it is still there, while its socket is open: as long as that is so, no other file has its inode. Its
    /// owner and its permissions may have been changed.
    pub(crate) fn remove_own(&self) -> io::Result<bool> {
        if !self.home.is_here() {
            return Ok(false);
        }
        self.remove_if(|now| (now.device, now.inode) == (self.identity.device, self.identity.inode))
    }

    fn remove_if(&self, is_it: impl FnOnce(&Identity) -> bool) -> io::Result<bool> {
        let removed = look(&self.path).and_then(|(now, _)| {
            if !is_it(&now.identity) {
                return Ok(false);
            }
            retry_io(Call::File, || fs::remove_file(&self.path)).map(|()| true)
        });
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            removed => removed,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

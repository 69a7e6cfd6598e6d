//! Who is at the other end of a unix socket.

#![allow(unsafe_code)]

use std::io;

use crate::os::fault::{Call, retry_io};
use crate::os::fd::{AsRawFd, BorrowedFd};

/// Who is at the other end of a unix connection: the process that connected or, seen from the client, that listened, as it
/// was then. The system vouches for it.
///
/// ```
/// use roundelay::UnixStream;
///
/// roundelay::block_on(async {
///     let (one, _other) = UnixStream::pair()?;
///     let peer = one.peer_cred()?;
///     println!("user {}, group {}, process {:?}", peer.uid, peer.gid, peer.pid);
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PeerCredentials {
    /// The process; `None` where the system does not tell, or cannot name it (as one outside of a container).
    pub pid: Option<i32>,
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
}

/// Whether a peer may do what the user of this process may: it is the same one, or the superuser.
#[cfg(feature = "inspector")]
pub(crate) fn is_trusted(peer: &PeerCredentials) -> bool {
    peer.uid == 0 || peer.uid == rustix::process::geteuid().as_raw()
}

/// The credentials of a unix socket's peer.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn peer_credentials(fd: BorrowedFd<'_>) -> io::Result<PeerCredentials> {
    // Not by `rustix`, whose `Pid` cannot be zero, which is what the kernel gives for a process that has no number here.
    let mut given = libc::ucred { pid: 0, uid: 0, gid: 0 };
    retry_io(Call::Option, || {
        let mut len = size_of::<libc::ucred>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes, which is how large `given` is, and any bytes make a `ucred`; the
        // descriptor is open for as long as it is borrowed.
        let result = unsafe {
            let (level, option, place) = (libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut given).cast());
            libc::getsockopt(fd.as_raw_fd(), level, option, place, &raw mut len)
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    })?;
    Ok(PeerCredentials { pid: Some(given.pid).filter(|pid| *pid > 0), uid: given.uid, gid: given.gid })
}

/// The credentials of a unix socket's peer.
#[cfg(any(
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd"
))]
pub(crate) fn peer_credentials(fd: BorrowedFd<'_>) -> io::Result<PeerCredentials> {
    let (mut uid, mut gid) = (0, 0);
    retry_io(Call::Option, || {
        // SAFETY: both places are numbers of the types that are written; the descriptor is open for as long as it is
        // borrowed.
        let result = unsafe { libc::getpeereid(fd.as_raw_fd(), &raw mut uid, &raw mut gid) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    })?;
    Ok(PeerCredentials { pid: None, uid, gid })
}

/// The credentials of a unix socket's peer.
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd"
)))]
pub(crate) fn peer_credentials(_: BorrowedFd<'_>) -> io::Result<PeerCredentials> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "the credentials of a peer are not available on this platform"))
}

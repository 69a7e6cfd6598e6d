//! The process's standard streams: who has which of them, and what becomes of their flags.
//!
//! Whether calls on a descriptor block is a property of the open file, and that of a standard stream is usually shared: with
//! the shell, with the other streams, with the next program of a script. So it is changed only where nothing else helps. A
//! pipe or a terminal is opened anew, by its entry in `/proc`, which makes an open file of its own. A socket takes calls
//! that do not block whatever the flag says. What remains (a pipe of another user's, a terminal of another name space, a
//! system without `/proc`) is made non-blocking, and made blocking again when the last of the streams that need it is gone.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::os::channel::{Channel, Kind, Sort, directions, set_nonblocking};
use crate::os::fd::{AsFd, BorrowedFd, OwnedFd};
use crate::os::fork::Home;

/// One of the standard streams. The number is its descriptor's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standard {
    In = 0,
    Out = 1,
    Err = 2,
}

impl Standard {
    /// The function that opens it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::In => "stdin",
            Self::Out => "stdout",
            Self::Err => "stderr",
        }
    }

    /// A descriptor of our own on the same open file.
    fn duplicate(self) -> io::Result<OwnedFd> {
        match self {
            Self::In => io::stdin().as_fd().try_clone_to_owned(),
            Self::Out => io::stdout().as_fd().try_clone_to_owned(),
            Self::Err => io::stderr().as_fd().try_clone_to_owned(),
        }
    }
}

/// What all leases share.
struct Leased {
    /// The process that these are of.
    home: Option<Home>,
    /// How many forks have emptied this.
    emptied: u8,
    taken: [bool; 3],
    /// Open files that were made non-blocking.
    changed: Vec<OwnedFd>,
    /// How many leases rely on that.
    relying: usize,
}

const NOTHING: Leased = Leased { home: None, emptied: 0, taken: [false; 3], changed: Vec::new(), relying: 0 };

static LEASED: Mutex<Leased> = Mutex::new(NOTHING);

fn leased() -> MutexGuard<'static, Leased> {
    let mut leased = LEASED.lock().unwrap_or_else(PoisonError::into_inner);
    if !leased.home.get_or_insert_with(Home::here).is_here() {
        // A child: the flags are its parent's to give back.
        *leased = Leased { emptied: leased.emptied.wrapping_add(1), ..NOTHING };
    }
    leased
}

/// The right to a standard stream, which one has at a time. Dropped, it gives the flags back.
#[derive(Debug)]
pub(crate) struct Lease {
    standard: Standard,
    /// See `Leased`.
    emptied: u8,
    /// Whether the open file had to be made non-blocking.
    relies: bool,
}

impl Lease {
    fn take(standard: Standard) -> io::Result<Self> {
        let (taken, emptied) = {
            let mut leased = leased();
            (std::mem::replace(&mut leased.taken[standard as usize], true), leased.emptied)
        };
        if taken {
            let text = format!(
                "{0}(): it is in use: by an earlier {0}() that was not dropped, or that has not written everything yet",
                standard.name()
            );
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
        Ok(Self { standard, emptied, relies: false })
    }

    /// Makes an open file non-blocking until the last lease that relies on that is gone.
    fn make_nonblocking(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let mut leased = leased();
        let keep = fd.try_clone_to_owned()?;
        if set_nonblocking(fd, true)? {
            leased.changed.push(keep);
        } else if leased.relying == 0 {
            // It was so before, and stays so.
            return Ok(());
        }
        leased.relying += 1;
        self.relies = true;
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut leased = leased();
        if leased.emptied != self.emptied {
            return;
        }
        leased.taken[self.standard as usize] = false;
        if !self.relies {
            return;
        }
        leased.relying -= 1;
        if leased.relying == 0 {
            for fd in std::mem::take(&mut leased.changed) {
                // There is nobody to tell.
                let _ = set_nonblocking(fd.as_fd(), false);
            }
        }
    }
}

/// A standard stream, opened for the loop.
#[derive(Debug)]
pub(crate) enum Opened {
    /// It can be waited for, or never blocks.
    Channel(Channel, Sort),
    /// A file: to be called on another thread.
    File(OwnedFd, Channel),
}

/// Takes a standard stream.
pub(crate) fn open(standard: Standard) -> io::Result<Opened> {
    let mut lease = Lease::take(standard)?;
    let fd = standard.duplicate()?;
    let sort = Sort::of(fd.as_fd())?;
    let (readable, writable) = directions(fd.as_fd())?;
    let fits = if standard == Standard::In { readable } else { writable };
    if !fits {
        let way = if standard == Standard::In { "reading" } else { "writing" };
        let text = format!("{}(): the descriptor is not open for {way}", standard.name());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let (fd, kind) = match sort {
        Sort::Regular | Sort::Directory | Sort::Block => {
            let own = fd.try_clone()?;
            return Ok(Opened::File(own, Channel::new(fd, Kind::Elsewhere, Some(lease))));
        }
        Sort::Socket => (fd, Kind::SocketEnd),
        Sort::Pipe | Sort::Character => match reopened(standard, sort, fd.as_fd()) {
            Some(own) => (own, Kind::PipeEnd),
            None => {
                lease.make_nonblocking(fd.as_fd())?;
                (fd, Kind::PipeEnd)
            }
        },
        Sort::Other => {
            let text = format!("{}(): it is no file, pipe, socket or device", standard.name());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
    };
    Ok(Opened::Channel(Channel::new(fd, kind, Some(lease)), sort))
}

/// An open file of our own on the same pipe or device, which does not block.
#[cfg(target_os = "linux")]
fn reopened(standard: Standard, sort: Sort, fd: BorrowedFd<'_>) -> Option<OwnedFd> {
    use std::io::IsTerminal;

    use crate::os::fault::{Call, retry};
    use rustix::fs::{Mode, OFlags, fcntl_getfl, fstat, major, minor, open};

    const MEMORY: u32 = 1; // /dev/null and its kin
    const TERMINAL_MASTER: (u32, u32) = (5, 2);

    let before = fstat(fd).ok()?;
    if sort == Sort::Character {
        let device = (major(before.st_rdev), minor(before.st_rdev));
        // Of other devices, opening may do something. That of a terminal's master makes another terminal.
        let harmless = device.0 == MEMORY || (fd.is_terminal() && device != TERMINAL_MASTER);
        if !harmless {
            return None;
        }
    }
    let way = if standard == Standard::In { OFlags::RDONLY } else { OFlags::WRONLY };
    // A pipe that keeps packets apart is to go on doing so.
    let kept = fcntl_getfl(fd).ok()? & (OFlags::DIRECT | OFlags::APPEND);
    let flags = way | kept | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let path = format!("/proc/self/fd/{}", standard as i32);
    let own = retry(Call::File, |_| open(path.as_str(), flags, Mode::empty())).ok()?;
    let after = fstat(&own).ok()?;
    ((after.st_dev, after.st_ino) == (before.st_dev, before.st_ino)).then_some(own)
}

/// Elsewhere the entries of `/dev/fd` are the same open files.
#[cfg(not(target_os = "linux"))]
fn reopened(_: Standard, _: Sort, _: BorrowedFd<'_>) -> Option<OwnedFd> {
    None
}

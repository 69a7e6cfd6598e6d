//! Files that are sent: what they are, whether they are in memory, and the system's call that sends them.

#![allow(unsafe_code)]

use std::io;

use rustix::fs::{FileType, SeekFrom};

use crate::constants::SENDFILE_LOOKS;
use crate::os::fault::{Call, retry, retry_io};
use crate::os::fd::{BorrowedFd, OwnedFd};

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One that is read at any place: a regular file, with its size in bytes, or a block device, whose size is not asked
    /// for.
    Placed { size: Option<u64> },
    /// One that is read from where it is: a pipe, a socket, a terminal or another device.
    Stream,
}

/// What kind of file it is.
pub(crate) fn kind(file: BorrowedFd<'_>) -> io::Result<Kind> {
    let stat = retry(Call::File, |_| rustix::fs::fstat(file))?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::Placed { size: u64::try_from(stat.st_size).ok() },
        FileType::BlockDevice => Kind::Placed { size: None },
        _ => Kind::Stream,
    })
}

/// A descriptor of its own for the same open file or socket.
pub(crate) fn duplicate(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    retry_io(Call::File, || fd.try_clone_to_owned())
}

/// Sets the position of an open file.
pub(crate) fn seek(file: BorrowedFd<'_>, position: u64) -> io::Result<()> {
    retry(Call::File, |_| rustix::fs::seek(file, SeekFrom::Start(position))).map(drop)
}

/// Reads at a place. Blocks.
pub(crate) fn read_at(file: BorrowedFd<'_>, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    retry(Call::File, |share| {
        let len = share.of(buf.len());
        rustix::io::pread(file, &mut buf[..len], offset)
    })
}

/// Reads from where the file is. Blocks.
pub(crate) fn read(file: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    retry(Call::File, |share| {
        let len = share.of(buf.len());
        rustix::io::read(file, &mut buf[..len])
    })
}

/// Whether the pages of a range, which is not empty, are known to be in memory: its first byte and its last are asked for,
/// and some between them, for pages are read ahead by many and are dropped in the order in which they came.
pub(crate) fn is_in_memory(file: BorrowedFd<'_>, start: u64, len: usize) -> bool {
    let mut places = (0..len).step_by(SENDFILE_LOOKS).chain([len - 1]);
    places.all(|place| is_page_in_memory(file, start + place as u64))
}

#[cfg(target_os = "linux")]
fn is_page_in_memory(file: BorrowedFd<'_>, place: u64) -> bool {
    use rustix::io::{Errno, ReadWriteFlags};
    let mut byte = [0];
    let read = retry(Call::File, |_| {
        rustix::io::preadv2(file, &mut [io::IoSliceMut::new(&mut byte)], place, ReadWriteFlags::NOWAIT)
    });
    match read.as_ref().map_err(Errno::from_io_error) {
        Ok(_) => true,
        Err(Some(Errno::AGAIN)) => false,
        // The system does not say.
        Err(Some(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL)) => has_no_disk(file),
        // Whatever it is, the call that sends says it better.
        Err(_) => true,
    }
}

/// The question is not asked where nothing is sent that way.
#[cfg(not(target_os = "linux"))]
fn is_page_in_memory(_: BorrowedFd<'_>, _: u64) -> bool {
    false
}

/// Whether the file is of a file system that has no disk.
#[cfg(target_os = "linux")]
fn has_no_disk(file: BorrowedFd<'_>) -> bool {
    // Of `linux/magic.h`; the type of the field is another one on each processor.
    const TMPFS: u32 = 0x0102_1994;
    const RAMFS: u32 = 0x8584_58F6;
    let magic = retry(Call::File, |_| rustix::fs::fstatfs(file)).map(|system| system.f_type as u32);
    matches!(magic, Ok(TMPFS | RAMFS))
}

/// Reads a range into memory, as far as it can be read, and has what comes behind it read meanwhile. Blocks.
pub(crate) fn load(file: BorrowedFd<'_>, start: u64, len: usize, ahead: usize) {
    #[cfg(target_os = "linux")]
    {
        let range = std::num::NonZeroU64::new(len as u64 + ahead as u64);
        // An advice that is not taken costs time and nothing else.
        let _ = retry(Call::File, |_| rustix::fs::fadvise(file, start, range, rustix::fs::Advice::WillNeed));
    }
    let _ = ahead;
    let mut scratch = vec![0; len.min(64 * 1024)];
    let mut done = 0;
    while done < len {
        let part = scratch.len().min(len - done);
        match read_at(file, &mut scratch[..part], start + done as u64) {
            // The call that sends says what it is.
            Ok(0) | Err(_) => return,
            Ok(n) => done += n,
        }
    }
}

/// Whether there is a call that sends a file.
pub(crate) const IS_AVAILABLE: bool = cfg!(target_os = "linux");

/// Sends from a file to a socket what the socket takes, without a copy. Zero is the end of the file.
#[cfg(target_os = "linux")]
pub(crate) fn sendfile(socket: BorrowedFd<'_>, file: BorrowedFd<'_>, offset: u64, len: usize) -> io::Result<usize> {
    retry(Call::Sendfile, |share| {
        let mut offset = offset;
        rustix::fs::sendfile(socket, file, Some(&mut offset), share.of(len))
    })
}

/// The calls of the other systems differ in each detail, and none of them can be tried here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn sendfile(_: BorrowedFd<'_>, _: BorrowedFd<'_>, _: u64, _: usize) -> io::Result<usize> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "no sendfile() on this platform"))
}

/// Whether an error of `sendfile` is the connection's, not the file's or that of the two together.
pub(crate) fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EPIPE
                | libc::ECONNRESET
                | libc::ECONNABORTED
                | libc::ENOTCONN
                | libc::ETIMEDOUT
                | libc::EHOSTUNREACH
                | libc::EHOSTDOWN
                | libc::ENETUNREACH
                | libc::ENETDOWN
        )
    )
}

//! Memory that is filled from its front, whether it was initialised before or not.
//!
//! tokio's and hyper's buffers lend memory that nobody has written yet; to write zeros into it before each read would cost
//! more than a small read itself.

#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::os::fault::{Call, retry};
use crate::os::fd::{AsFd, AsRawFd};

/// At most so many bytes that nobody has written are made zeros for a read.
pub(crate) const ZEROED: usize = 16 * 1024;

/// Memory to be filled. Nothing in here takes back that a byte was initialised, so it may be made of memory that was.
pub(crate) struct Room<'a> {
    bytes: &'a mut [MaybeUninit<u8>],
    /// So many bytes at the front are initialised, and what was to be read.
    filled: usize,
    /// Whether the rest is initialised, too.
    initialized: bool,
}

impl<'a> Room<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a mut [u8]) -> Self {
        let (start, len) = (bytes.as_mut_ptr().cast(), bytes.len());
        // SAFETY: the same memory, for as long; a `Room` writes initialised bytes only.
        let bytes = unsafe { std::slice::from_raw_parts_mut(start, len) };
        Self { bytes, filled: 0, initialized: true }
    }

    #[cfg(feature = "hyper")]
    pub(crate) fn uninit(bytes: &'a mut [MaybeUninit<u8>]) -> Self {
        Self { bytes, filled: 0, initialized: false }
    }

    /// How many bytes were filled: those are initialised.
    #[inline]
    pub(crate) fn filled(&self) -> usize {
        self.filled
    }

    /// How many bytes fit yet.
    #[inline]
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.filled
    }

    /// Copies as much as fits; gives how much that was.
    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.left());
        // SAFETY: `n` bytes of either, which are not the same memory, for this one is borrowed mutably.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.bytes[self.filled..].as_mut_ptr().cast(), n) };
        self.filled += n;
        n
    }

    /// For a reader that needs memory which is initialised: at most `most` bytes, and what it says that it has read of
    /// them is filled. Of memory that is not, at most [`ZEROED`] bytes are made so.
    pub(crate) fn fill(&mut self, most: usize, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
        let len = self.left().min(if self.initialized { most } else { most.min(ZEROED) });
        let free = &mut self.bytes[self.filled..][..len];
        if !self.initialized {
            free.fill(MaybeUninit::new(0));
        }
        // SAFETY: all of it is initialised, either all along or since just now.
        let free = unsafe { std::slice::from_raw_parts_mut(free.as_mut_ptr().cast::<u8>(), len) };
        let n = read(free)?.min(len);
        self.filled += n;
        Ok(n)
    }

    /// Receives from a socket.
    #[inline]
    pub(crate) fn recv(&mut self, fd: impl AsFd) -> io::Result<usize> {
        let free = &mut self.bytes[self.filled..];
        let n = retry(Call::Receive, |share| {
            let len = share.of(free.len());
            let ((received, _), _) = rustix::net::recv(fd.as_fd(), &mut free[..len], RecvFlags::empty())?;
            Ok(received.len())
        })?;
        self.filled += n;
        Ok(n)
    }

    /// As `recv`, on a socket that may be a unix one. Its read stops behind bytes that came with descriptors, though more may
    /// follow: true if it did. The descriptors are closed.
    pub(crate) fn recv_local(&mut self, fd: impl AsFd) -> io::Result<(usize, bool)> {
        let free = &mut self.bytes[self.filled..];
        let raw = fd.as_fd().as_raw_fd();
        let (n, stopped_short) = retry(Call::Receive, |share| {
            let mut iov = libc::iovec { iov_base: free.as_mut_ptr().cast(), iov_len: share.of(free.len()) };
            // SAFETY: null pointers, zero lengths and padding are a valid header. There is no room for descriptors.
            let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
            header.msg_iov = &raw mut iov;
            header.msg_iovlen = 1;
            // SAFETY: the header and what it points to outlive the call, which writes at most as many bytes as are free.
            let n = unsafe { libc::recvmsg(raw, &raw mut header, 0) };
            match usize::try_from(n) {
                Ok(n) => Ok((n, header.msg_flags & libc::MSG_CTRUNC != 0)),
                Err(_) => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)),
            }
        })?;
        self.filled += n;
        Ok((n, stopped_short))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_filled_from_its_front() {
        let mut bytes = [1; 6];
        let mut room = Room::new(&mut bytes);
        assert_eq!((room.put(b"ab"), room.left()), (2, 4));
        let read = |free: &mut [u8]| {
            assert_eq!(free, [1; 3], "what was initialised is not written anew");
            free[0] = b'c';
            Ok(1)
        };
        assert_eq!(room.fill(3, read).unwrap(), 1);
        assert!(room.fill(9, |_| Err(io::ErrorKind::WouldBlock.into())).is_err());
        assert_eq!((room.put(b"defgh"), room.left(), room.filled()), (3, 0, 6));
        assert_eq!(&bytes, b"abcdef");
    }

    #[cfg(feature = "hyper")]
    #[test]
    fn what_was_not_initialised_is() {
        let mut bytes = [MaybeUninit::uninit(); 4];
        let mut room = Room::uninit(&mut bytes);
        assert_eq!(room.put(b"a"), 1);
        let read = |free: &mut [u8]| {
            assert_eq!(free, [0; 3]);
            // Whoever boasts is not believed.
            Ok(100)
        };
        assert_eq!(room.fill(100, read).unwrap(), 3);
        assert_eq!(room.filled(), 4);
        let mut bytes = vec![MaybeUninit::uninit(); 2 * ZEROED];
        let mut room = Room::uninit(&mut bytes);
        assert_eq!(room.fill(usize::MAX, |free| Ok(free.len())).unwrap(), ZEROED);
    }

    #[test]
    fn it_receives() {
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        io::Write::write_all(&mut &a, b"hello").unwrap();
        let mut bytes = [0; 5];
        let mut room = Room::new(&mut bytes);
        room.put(b"[");
        let mut small = Room::new(&mut []);
        assert_eq!(small.recv(&b).unwrap(), 0);
        assert_eq!(room.recv(&b).unwrap(), 4);
        assert_eq!(&bytes, b"[hell");
        let mut room = Room::new(&mut bytes);
        assert_eq!(room.recv_local(&b).unwrap(), (1, false));
        drop(a);
        assert_eq!(room.recv_local(&b).unwrap(), (0, false));
        assert_eq!(room.filled(), 1);
    }
}

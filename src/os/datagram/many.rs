//! Several datagrams with one system call.
//!
//! `recvmmsg` that gets fewer than it has room for has found the socket empty, or in error: the event that told of the
//! error tells it, and the next call gives it. `sendmmsg` that fails behind the first message says nothing of the error:
//! the next call, which begins with the message that has failed, gives it, unless it was one that waited in the socket to
//! be told. Hence it is for sockets that have no peer, whose errors are those of the message itself.

#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ptr;

use rustix::io::Errno;

use crate::constants::DATAGRAMS_PER_CALL;
use crate::os::address::Address;
use crate::os::datagram::{Arrived, Letter, send_to};
use crate::os::fault::{Call, retry};
use crate::os::fd::{AsFd, AsRawFd};

/// The most bytes of a datagram of the internet's.
const LONGEST: usize = 64 * 1024;

/// From one place to the next: not a power of two, so that the first lines of all do not compete for the same place in
/// the processor's caches.
const STRIDE: usize = LONGEST + 192;

/// An address of the internet's, as the system takes and gives it.
#[derive(Clone, Copy)]
#[repr(C)]
union Name {
    any: libc::sockaddr,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Name {
    fn new(address: &SocketAddr) -> (Self, libc::socklen_t) {
        match address {
            SocketAddr::V4(address) => {
                let v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                    sin_zero: [0; 8],
                };
                (Self { v4 }, size_of_val(&v4) as libc::socklen_t)
            }
            SocketAddr::V6(address) => {
                let v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: address.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                    sin6_scope_id: address.scope_id(),
                };
                (Self { v6 }, size_of_val(&v6) as libc::socklen_t)
            }
        }
    }
}

/// An address that the kernel has written; `None` if it is of another family.
fn address_of(name: &MaybeUninit<Name>, len: libc::socklen_t) -> Option<SocketAddr> {
    let (len, name) = (len as usize, name.as_ptr());
    if len < size_of::<libc::sockaddr_in>() {
        return None;
    }
    // SAFETY: the kernel has written `len` bytes, which are at least those of the smallest of the union's fields; the
    // larger one is read only if it was written in full. Every pattern of bits is a value of these fields.
    unsafe {
        match i32::from((*name).any.sa_family) {
            libc::AF_INET => {
                let v4 = (*name).v4;
                let ip = v4.sin_addr.s_addr.to_ne_bytes().into();
                Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 if len >= size_of::<libc::sockaddr_in6>() => {
                let v6 = (*name).v6;
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                Some(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), v6.sin6_flowinfo, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

/// What is known of a datagram beside its bytes.
#[derive(Clone, Copy, Default)]
struct Header {
    len: usize,
    from: Option<SocketAddr>,
    truncated: bool,
}

/// Room for several datagrams.
pub(crate) struct Inbox {
    /// A place for each, of which the kernel touches only what it fills.
    memory: Box<[u8]>,
    headers: [Header; DATAGRAMS_PER_CALL],
}

/// A message without anything.
const EMPTY: libc::mmsghdr = libc::mmsghdr {
    // SAFETY: null pointers, zero lengths and padding are a valid header.
    msg_hdr: unsafe { MaybeUninit::zeroed().assume_init() },
    msg_len: 0,
};

impl Inbox {
    pub(crate) fn new() -> Self {
        Self {
            memory: vec![0; DATAGRAMS_PER_CALL * STRIDE].into_boxed_slice(),
            headers: [Header::default(); DATAGRAMS_PER_CALL],
        }
    }

    /// Receives: how many, and whether there were no more.
    pub(crate) fn receive(&mut self, fd: impl AsFd) -> io::Result<(usize, bool)> {
        let mut names = [MaybeUninit::<Name>::uninit(); DATAGRAMS_PER_CALL];
        let mut iovs = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; DATAGRAMS_PER_CALL];
        let mut messages = [EMPTY; DATAGRAMS_PER_CALL];
        for (place, iov) in self.memory.chunks_exact_mut(STRIDE).zip(&mut iovs) {
            *iov = libc::iovec { iov_base: place.as_mut_ptr().cast(), iov_len: LONGEST };
        }
        for ((message, iov), name) in messages.iter_mut().zip(&mut iovs).zip(&mut names) {
            message.msg_hdr.msg_name = name.as_mut_ptr().cast();
            message.msg_hdr.msg_namelen = size_of::<Name>() as libc::socklen_t;
            message.msg_hdr.msg_iov = iov;
            message.msg_hdr.msg_iovlen = 1;
        }
        let raw = fd.as_fd().as_raw_fd();
        let (received, asked) = retry(Call::ReceiveFrom, |share| {
            let count = share.buffers(DATAGRAMS_PER_CALL);
            // SAFETY: the headers and all that they point to, which is on this stack and in `memory`, outlive the call,
            // and nothing else looks at it meanwhile. Lengths are those of the places. No time limit is given.
            let n = unsafe { libc::recvmmsg(raw, messages.as_mut_ptr(), count as _, 0, ptr::null_mut()) };
            usize::try_from(n).map(|n| (n, count)).map_err(|_| last_error())
        })?;
        for ((header, message), name) in self.headers.iter_mut().zip(&messages[..received]).zip(&names) {
            *header = Header {
                len: message.msg_len as usize,
                from: address_of(name, message.msg_hdr.msg_namelen),
                truncated: message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            };
        }
        Ok((received, received < asked))
    }

    /// One of those that the latest `receive` has got.
    pub(crate) fn get(&self, i: usize) -> Arrived<'_> {
        let Header { len, from, truncated } = self.headers[i];
        let start = i * STRIDE;
        Arrived { data: &self.memory[start..start + len.min(LONGEST)], from: from.map(Address::Ip), truncated }
    }
}

/// Sends some of the letters, from the first on; gives how many. An error is the first one's.
pub(crate) fn send_several(fd: impl AsFd, bytes: &[u8], letters: &[Letter]) -> io::Result<usize> {
    if let [(range, address)] = letters {
        return send_to(fd, &bytes[range.clone()], &(*address).into()).map(|_| 1);
    }
    let letters = &letters[..letters.len().min(DATAGRAMS_PER_CALL)];
    let mut names = [MaybeUninit::<Name>::uninit(); DATAGRAMS_PER_CALL];
    let mut iovs = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; DATAGRAMS_PER_CALL];
    let mut messages = [EMPTY; DATAGRAMS_PER_CALL];
    for ((((range, address), message), iov), name) in letters.iter().zip(&mut messages).zip(&mut iovs).zip(&mut names) {
        let data = &bytes[range.clone()];
        let (address, len) = Name::new(address);
        *iov = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
        message.msg_hdr.msg_name = name.write(address) as *mut Name as *mut libc::c_void;
        message.msg_hdr.msg_namelen = len;
        message.msg_hdr.msg_iov = iov;
        message.msg_hdr.msg_iovlen = 1;
    }
    let raw = fd.as_fd().as_raw_fd();
    retry(Call::SendTo, |share| {
        let count = share.buffers(letters.len());
        // SAFETY: the headers and all that they point to, which is on this stack and in `bytes`, outlive the call. The
        // kernel writes nothing but the headers' own lengths.
        let n = unsafe { libc::sendmmsg(raw, messages.as_mut_ptr(), count as _, libc::MSG_NOSIGNAL as _) };
        usize::try_from(n).map_err(|_| last_error())
    })
}

fn last_error() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_from_the_system() {
        for text in ["127.0.0.1:80", "[fe80::1%3]:65535", "[::]:0"] {
            let address: SocketAddr = text.parse().unwrap();
            let (name, len) = Name::new(&address);
            assert_eq!(address_of(&MaybeUninit::new(name), len), Some(address));
            assert_eq!(address_of(&MaybeUninit::new(name), 2), None);
        }
    }
}

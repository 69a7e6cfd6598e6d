//! Names to addresses and back, by the C library. Whatever has to be looked up blocks.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};
use std::io;
use std::net::SocketAddr;
use std::ptr;

use socket2::{SockAddr, SockAddrStorage};

use crate::error::ResolveErrorKind;

pub(crate) use libc::{
    AF_INET, AF_INET6, AF_UNSPEC, AI_ADDRCONFIG, AI_ALL, AI_CANONNAME, AI_NUMERICHOST, AI_NUMERICSERV, AI_PASSIVE,
    AI_V4MAPPED, NI_DGRAM, NI_NAMEREQD, NI_NOFQDN, NI_NUMERICHOST, NI_NUMERICSERV, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM,
};

/// The most that `getnameinfo` says of a host, and of a service, with the zero at the end: `NI_MAXHOST` and `NI_MAXSERV` of
/// `<netdb.h>`.
const MAX_HOST: usize = 1025;
const MAX_SERVICE: usize = 32;

/// What is asked for; zero leaves it open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query {
    pub(crate) family: i32,
    pub(crate) socket_type: i32,
    pub(crate) proto: i32,
    pub(crate) flags: i32,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) socket_type: i32,
    pub(crate) proto: i32,
    pub(crate) canonical_name: Option<String>,
    pub(crate) address: SocketAddr,
}

/// Why there is none.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: i32,
    pub(crate) kind: ResolveErrorKind,
    /// What `errno` said, where the code says to look there.
    pub(crate) system: Option<io::Error>,
    pub(crate) message: String,
}

impl Failure {
    /// Of the call that was just made on this thread.
    fn new(code: i32) -> Self {
        let system = (code == libc::EAI_SYSTEM).then(io::Error::last_os_error);
        let message = match &system {
            Some(error) => error.to_string(),
            // SAFETY: the C library gives a constant text for every number.
            None => unsafe { CStr::from_ptr(libc::gai_strerror(code)) }.to_string_lossy().into_owned(),
        };
        Self { code, kind: kind(code), system, message }
    }
}

fn kind(code: i32) -> ResolveErrorKind {
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    if code == libc::EAI_NODATA {
        return ResolveErrorKind::UnknownName;
    }
    // The number is not in POSIX any more, and glibc still gives it.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if code == EAI_ADDRFAMILY {
        return ResolveErrorKind::UnknownName;
    }
    match code {
        libc::EAI_NONAME => ResolveErrorKind::UnknownName,
        libc::EAI_SERVICE => ResolveErrorKind::UnknownService,
        libc::EAI_AGAIN => ResolveErrorKind::Temporary,
        libc::EAI_FAIL => ResolveErrorKind::Failed,
        libc::EAI_FAMILY | libc::EAI_SOCKTYPE | libc::EAI_BADFLAGS => ResolveErrorKind::Unsupported,
        libc::EAI_MEMORY => ResolveErrorKind::OutOfMemory,
        libc::EAI_SYSTEM => ResolveErrorKind::System,
        _ => ResolveErrorKind::Other,
    }
}

/// "Address family for hostname not supported" of glibc's `<netdb.h>`.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const EAI_ADDRFAMILY: i32 = -9;

/// The list that `getaddrinfo` has made; freed when it is dropped.
struct List(*mut libc::addrinfo);

impl Drop for List {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: it came from `getaddrinfo`, and nothing points into it any more.
            unsafe { libc::freeaddrinfo(self.0) };
        }
    }
}

/// The addresses of a host and a service, in the order in which they are to be tried. Others than the internet's are left
/// out.
pub(crate) fn getaddrinfo(host: Option<&CStr>, service: Option<&CStr>, query: Query) -> Result<Vec<Answer>, Failure> {
    // SAFETY: zero is a good value for each of its fields: no flag, nothing asked for, no pointer.
    let mut hints: libc::addrinfo = unsafe { std::mem::zeroed() };
    hints.ai_family = query.family;
    hints.ai_socktype = query.socket_type;
    hints.ai_protocol = query.proto;
    hints.ai_flags = query.flags;
    let text = |text: Option<&CStr>| text.map_or(ptr::null(), CStr::as_ptr);
    let mut list = List(ptr::null_mut());
    // SAFETY: the texts end with a zero or are null, the hints are filled in, and all of them outlive the call.
    let code = unsafe { libc::getaddrinfo(text(host), text(service), &raw const hints, &raw mut list.0) };
    if code != 0 {
        // What is in the place of the list after a failure is nobody's.
        std::mem::forget(list);
        return Err(Failure::new(code));
    }
    let mut answers = Vec::new();
    let mut next = list.0.cast_const();
    // SAFETY: null ends the list, and what it points to lives until `list` is dropped.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ai_next;
        let canonical_name = (!entry.ai_canonname.is_null()).then(|| {
            // SAFETY: it ends with a zero, and lives as long as the list.
            unsafe { CStr::from_ptr(entry.ai_canonname) }.to_string_lossy().into_owned()
        });
        let Some(address) = address_of(entry) else { continue };
        let (socket_type, proto) = (entry.ai_socktype, entry.ai_protocol);
        answers.push(Answer { socket_type, proto, canonical_name, address });
    }
    Ok(answers)
}

/// The address of an entry of the list, if it is one of the internet's.
fn address_of(entry: &libc::addrinfo) -> Option<SocketAddr> {
    let length = usize::try_from(entry.ai_addrlen).ok()?;
    if entry.ai_addr.is_null() || length > size_of::<SockAddrStorage>() {
        return None;
    }
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `ai_addr` points to `ai_addrlen` bytes, which fit into the storage; those are two different places. What is
    // in the storage is then an address of that length, for any bytes make up a `sockaddr`.
    let address = unsafe {
        ptr::copy_nonoverlapping(entry.ai_addr.cast::<u8>(), (&raw mut storage).cast::<u8>(), length);
        SockAddr::new(storage, entry.ai_addrlen)
    };
    address.as_socket()
}

/// The names of a host and of a service at an address.
pub(crate) fn getnameinfo(address: &SocketAddr, flags: i32) -> Result<(String, String), Failure> {
    let address = SockAddr::from(*address);
    let (mut host, mut service): ([c_char; MAX_HOST], [c_char; MAX_SERVICE]) = ([0; MAX_HOST], [0; MAX_SERVICE]);
    // The lengths are of another type on FreeBSD.
    // SAFETY: the address and the room for both texts outlive the call, and their lengths are as given.
    let code = unsafe {
        libc::getnameinfo(
            address.as_ptr().cast(),
            address.len(),
            host.as_mut_ptr(),
            MAX_HOST as _,
            service.as_mut_ptr(),
            MAX_SERVICE as _,
            flags,
        )
    };
    if code != 0 {
        return Err(Failure::new(code));
    }
    Ok((text(&host), text(&service)))
}

/// What stands before the first zero.
fn text(characters: &[c_char]) -> String {
    let bytes: Vec<u8> = characters.iter().take_while(|character| **character != 0).map(|byte| *byte as u8).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

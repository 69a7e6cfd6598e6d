//! Addresses of sockets: of the internet, and of the machine's own.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix};
use socket2::SockAddr;

use crate::error::invalid_input;

/// The address of a unix socket: a path, on Linux also an abstract name, or none at all.
///
/// Made from a path in any of its types, or from bytes; what begins with a zero byte is an abstract name, as in Python. It
/// is checked when it is used.
///
/// ```
/// use roundelay::UnixAddr;
/// use std::path::Path;
///
/// assert_eq!(UnixAddr::from("/run/it.sock").as_pathname(), Some(Path::new("/run/it.sock")));
/// assert_eq!(UnixAddr::from(&b"\0it"[..]), UnixAddr::from_abstract_name(b"it"));
/// assert!(UnixAddr::unnamed().is_unnamed());
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UnixAddr {
    name: Name,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Name {
    Unnamed,
    Path(PathBuf),
    /// Without the zero byte in front.
    Abstract(Box<[u8]>),
}

impl UnixAddr {
    /// The address of a socket that was not bound.
    pub fn unnamed() -> Self {
        Self { name: Name::Unnamed }
    }

    /// A name in Linux' abstract namespace, without the zero byte that stands in front of it there.
    pub fn from_abstract_name(name: impl AsRef<[u8]>) -> Self {
        Self { name: Name::Abstract(name.as_ref().into()) }
    }

    /// Whether it is the address of a socket that was not bound.
    pub fn is_unnamed(&self) -> bool {
        matches!(self.name, Name::Unnamed)
    }

    /// The path, if it is one.
    pub fn as_pathname(&self) -> Option<&Path> {
        match &self.name {
            Name::Path(path) => Some(path),
            _ => None,
        }
    }

    /// The abstract name, if it is one, without the zero byte in front.
    pub fn as_abstract_name(&self) -> Option<&[u8]> {
        match &self.name {
            Name::Abstract(name) => Some(name),
            _ => None,
        }
    }

    fn of_bytes(bytes: Vec<u8>) -> Self {
        match bytes.as_slice() {
            [] => Self::unnamed(),
            [0, name @ ..] => Self::from_abstract_name(name),
            _ => Self { name: Name::Path(OsString::from_vec(bytes).into()) },
        }
    }

    /// The address as the system takes it.
    pub(crate) fn to_system(&self) -> io::Result<SocketAddrUnix> {
        let made = match &self.name {
            Name::Unnamed => return Err(invalid_input("a unix address is needed, and an empty one was given")),
            Name::Path(path) => SocketAddrUnix::new(path.as_path()),
            #[cfg(target_os = "linux")]
            Name::Abstract(name) => SocketAddrUnix::new_abstract_name(name),
            #[cfg(not(target_os = "linux"))]
            Name::Abstract(_) => {
                let text = format!("{self}: abstract names are a feature of Linux");
                return Err(io::Error::new(io::ErrorKind::Unsupported, text));
            }
        };
        made.map_err(|error| {
            let reason = match error {
                rustix::io::Errno::NAMETOOLONG => "is longer than the system takes",
                _ => "contains a zero byte",
            };
            invalid_input(format!("the unix address {self} {reason}"))
        })
    }

    /// What the system has written behind the family.
    ///
    /// Not by `rustix`, which takes an unnamed address for an abstract one, and panics at the longest path, for which there
    /// is no room to end in a zero byte.
    fn of_system(name: &[u8]) -> Self {
        match name {
            [0, name @ ..] if cfg!(any(target_os = "linux", target_os = "android")) => Self::from_abstract_name(name),
            // Elsewhere the rest of the field is given as well.
            path => Self::of_bytes(path.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()),
        }
    }
}

impl fmt::Display for UnixAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Name::Unnamed => f.write_str("(unnamed)"),
            Name::Path(path) => fmt::Debug::fmt(path, f),
            Name::Abstract(name) => write!(f, "\"\\0{}\"", name.escape_ascii()),
        }
    }
}

impl fmt::Debug for UnixAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnixAddr({self})")
    }
}

/// The address of a peer, or of this end: of the internet or of a unix socket.
///
/// ```
/// use roundelay::Address;
///
/// assert_eq!(Address::from(([127, 0, 0, 1], 53)).to_string(), "127.0.0.1:53");
/// assert_eq!(Address::from(std::path::Path::new("/run/it")).to_string(), "\"/run/it\"");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// Of the internet.
    Ip(SocketAddr),
    /// Of a unix socket.
    Unix(UnixAddr),
}

impl Address {
    /// The address, if it is one of the internet's.
    pub fn as_ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// The address, if it is one of a unix socket.
    pub fn as_unix(&self) -> Option<&UnixAddr> {
        match self {
            Self::Unix(address) => Some(address),
            Self::Ip(_) => None,
        }
    }

    /// Whether it says who somebody is: a unix socket that was not bound has no name.
    pub(crate) fn is_named(&self) -> bool {
        self.as_unix().is_none_or(|address| !address.is_unnamed())
    }

    /// The address as `socket2` takes it.
    pub(crate) fn to_sock_addr(&self) -> io::Result<SockAddr> {
        match self {
            Self::Ip(address) => Ok((*address).into()),
            Self::Unix(address) => address.to_sock_addr(),
        }
    }

    /// An address that the system gave; `None` if it is of another family.
    pub(crate) fn of_any(address: SocketAddrAny) -> Option<Self> {
        if address.address_family() == AddressFamily::UNIX {
            let name = whole(&address).get(offset_of!(libc::sockaddr_un, sun_path)..).unwrap_or_default();
            return Some(Self::Unix(UnixAddr::of_system(name)));
        }
        SocketAddr::try_from(address).ok().map(Self::Ip)
    }
}

/// An address as the system wrote it.
#[allow(unsafe_code)]
fn whole(address: &SocketAddrAny) -> &[u8] {
    // SAFETY: by the invariants of `SocketAddrAny` so many of its bytes are initialized. They live as long as it does, and
    // nobody changes them meanwhile.
    unsafe { std::slice::from_raw_parts(address.as_ptr().cast(), address.addr_len() as usize) }
}

impl UnixAddr {
    /// The address as `socket2` takes it; an error that names it if it is none.
    pub(crate) fn to_sock_addr(&self) -> io::Result<SockAddr> {
        // The checks, with their reasons; `socket2` takes an abstract name as a path that begins with a zero byte.
        self.to_system()?;
        match &self.name {
            Name::Abstract(name) => {
                let path: Vec<u8> = std::iter::once(0).chain(name.iter().copied()).collect();
                SockAddr::unix(OsStr::from_bytes(&path))
            }
            Name::Path(path) => SockAddr::unix(path),
            Name::Unnamed => SockAddr::unix(""),
        }
    }

    /// An address that the system gave; `None` if it is none of a unix socket.
    pub(crate) fn of_sock_addr(address: &SockAddr) -> Option<Self> {
        if !address.is_unix() {
            return None;
        }
        if let Some(path) = address.as_pathname() {
            return Some(Self { name: Name::Path(path.into()) });
        }
        Some(address.as_abstract_namespace().map_or(Self::unnamed(), Self::from_abstract_name))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(address) => address.fmt(f),
        }
    }
}

macro_rules! unix_from {
    ($($from:ty, $name:pat => $bytes:expr;)*) => {
        $(impl From<$from> for UnixAddr {
            fn from($name: $from) -> Self {
                Self::of_bytes($bytes)
            }
        }

        impl From<$from> for Address {
            fn from(name: $from) -> Self {
                Self::Unix(name.into())
            }
        })*
    };
}

unix_from! {
    &Path, path => path.as_os_str().as_bytes().to_vec();
    &PathBuf, path => path.as_os_str().as_bytes().to_vec();
    PathBuf, path => path.into_os_string().into_vec();
    &OsStr, path => path.as_bytes().to_vec();
    OsString, path => path.into_vec();
    &[u8], bytes => bytes.to_vec();
    Vec<u8>, bytes => bytes;
}

// Not for `Address`, where a text could as well be meant as one of the internet's.
impl From<&str> for UnixAddr {
    fn from(path: &str) -> Self {
        Self::of_bytes(path.as_bytes().to_vec())
    }
}

impl From<String> for UnixAddr {
    fn from(path: String) -> Self {
        Self::of_bytes(path.into_bytes())
    }
}

impl<const N: usize> From<&[u8; N]> for UnixAddr {
    fn from(bytes: &[u8; N]) -> Self {
        Self::of_bytes(bytes.to_vec())
    }
}

impl From<UnixAddr> for Address {
    fn from(address: UnixAddr) -> Self {
        Self::Unix(address)
    }
}

impl From<&UnixAddr> for UnixAddr {
    fn from(address: &UnixAddr) -> Self {
        address.clone()
    }
}

macro_rules! ip_from {
    ($($from:ty),*) => {
        $(impl From<$from> for Address {
            fn from(address: $from) -> Self {
                Self::Ip(address.into())
            }
        })*
    };
}

ip_from! { SocketAddr, SocketAddrV4, SocketAddrV6, (IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16), ([u8; 4], u16) }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_to_the_system_comes_back() {
        let mut addresses = vec![Address::from(([1, 2, 3, 4], 5)), Address::from(Path::new("/tmp/x"))];
        #[cfg(target_os = "linux")]
        addresses.push(UnixAddr::from_abstract_name(b"a\0b").into());
        for address in addresses {
            let system = address.to_sock_addr().unwrap();
            let unix = UnixAddr::of_sock_addr(&system).map(Address::Unix);
            assert_eq!(system.as_socket().map(Address::Ip).or(unix), Some(address));
        }
    }

    /// A path that fills its field to the end comes back.
    #[test]
    #[allow(unsafe_code)]
    fn the_longest_path_comes_back() {
        use std::os::fd::AsRawFd;

        let folder = tempfile::Builder::new().prefix("rdl").tempdir().unwrap();
        // SAFETY: all bytes of it may be zero.
        let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
        address.sun_family = libc::AF_UNIX as _;
        let room = address.sun_path.len() - folder.path().as_os_str().len() - 1;
        let path = folder.path().join("x".repeat(room));
        for (place, byte) in address.sun_path.iter_mut().zip(path.as_os_str().as_bytes()) {
            *place = *byte as _;
        }
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        // SAFETY: the address is as long as it says.
        let bound = unsafe {
            libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as libc::socklen_t)
        };
        assert_eq!(bound, 0);
        let name = rustix::net::getsockname(&socket).unwrap();
        assert_eq!(Address::of_any(name), Some(path.as_path().into()));
    }

    #[test]
    fn a_socket_without_a_name_is_unnamed() {
        let (one, other) = socket2::Socket::pair(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        assert_eq!(Address::of_any(rustix::net::getsockname(&one).unwrap()), Some(UnixAddr::unnamed().into()));
        let peer = rustix::net::getpeername(&other).unwrap().unwrap();
        assert_eq!(Address::of_any(peer), Some(UnixAddr::unnamed().into()));
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        let text = |address: UnixAddr| address.to_sock_addr().unwrap_err().to_string();
        assert_eq!(text("".into()), "a unix address is needed, and an empty one was given");
        assert_eq!(text("a\0b".into()), "the unix address \"a\\0b\" contains a zero byte");
        assert!(text("x".repeat(200).into()).ends_with("is longer than the system takes"));
    }
}

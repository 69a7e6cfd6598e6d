//! An address as each connection keeps it.

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::rc::Rc;

use crate::os::address::{Address, UnixAddr};

/// An address in two words: one of IPv4, or none, needs no memory of its own, and the connections of a unix server share
/// theirs.
#[derive(Clone, Debug, Default)]
pub(crate) enum KeptAddress {
    #[default]
    Unknown,
    V4(SocketAddrV4),
    V6(Box<SocketAddrV6>),
    /// Of a unix socket without a name.
    Unnamed,
    Unix(Rc<UnixAddr>),
}

impl KeptAddress {
    /// The address, if it is one of the internet's.
    pub(crate) fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::V4(address) => Some(SocketAddr::V4(*address)),
            Self::V6(address) => Some(SocketAddr::V6(**address)),
            Self::Unknown | Self::Unnamed | Self::Unix(_) => None,
        }
    }

    /// The address, if it is one of a unix socket.
    pub(crate) fn unix(&self) -> Option<UnixAddr> {
        match self {
            Self::Unnamed => Some(UnixAddr::unnamed()),
            Self::Unix(address) => Some(UnixAddr::clone(address)),
            Self::Unknown | Self::V4(_) | Self::V6(_) => None,
        }
    }

    pub(crate) fn is_known(&self) -> bool {
        !matches!(self, Self::Unknown)
    }

    #[inline]
    pub(crate) fn is_ip(&self) -> bool {
        matches!(self, Self::V4(_) | Self::V6(_))
    }

    pub(crate) fn is_unix(&self) -> bool {
        matches!(self, Self::Unnamed | Self::Unix(_))
    }
}

impl From<SocketAddr> for KeptAddress {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Self::V4(address),
            SocketAddr::V6(address) => Self::V6(Box::new(address)),
        }
    }
}

impl From<UnixAddr> for KeptAddress {
    fn from(address: UnixAddr) -> Self {
        if address.is_unnamed() { Self::Unnamed } else { Self::Unix(Rc::new(address)) }
    }
}

impl From<Address> for KeptAddress {
    fn from(address: Address) -> Self {
        match address {
            Address::Ip(address) => address.into(),
            Address::Unix(address) => address.into(),
        }
    }
}

impl<A: Into<Self>> From<Option<A>> for KeptAddress {
    fn from(address: Option<A>) -> Self {
        address.map_or(Self::Unknown, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_what_it_was_made_of() {
        assert_eq!(size_of::<KeptAddress>(), 2 * size_of::<usize>());
        for text in ["127.0.0.1:80", "[::1]:65535"] {
            let address: SocketAddr = text.parse().unwrap();
            let kept = KeptAddress::from(address);
            assert_eq!((kept.ip(), kept.unix()), (Some(address), None));
        }
        for address in [UnixAddr::unnamed(), "/run/it".into(), b"\0it".into()] {
            let kept = KeptAddress::from(Address::from(address.clone()));
            assert_eq!((kept.ip(), kept.unix()), (None, Some(address)));
        }
        assert_eq!((KeptAddress::default().ip(), KeptAddress::default().unix()), (None, None));
    }
}

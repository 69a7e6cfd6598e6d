//! An address as each connection keeps it.

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

/// An address in two words: one of IPv4 needs no memory of its own.
#[derive(Clone, Debug, Default)]
pub(crate) enum Address {
    #[default]
    Unknown,
    V4(SocketAddrV4),
    V6(Box<SocketAddrV6>),
}

impl Address {
    pub(crate) fn get(&self) -> Option<SocketAddr> {
        match self {
            Self::Unknown => None,
            Self::V4(address) => Some(SocketAddr::V4(*address)),
            Self::V6(address) => Some(SocketAddr::V6(**address)),
        }
    }

    pub(crate) fn is_known(&self) -> bool {
        !matches!(self, Self::Unknown)
    }
}

impl From<Option<SocketAddr>> for Address {
    fn from(address: Option<SocketAddr>) -> Self {
        match address {
            None => Self::Unknown,
            Some(SocketAddr::V4(address)) => Self::V4(address),
            Some(SocketAddr::V6(address)) => Self::V6(Box::new(address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_what_it_was_made_of() {
        assert_eq!(size_of::<Address>(), 2 * size_of::<usize>());
        for text in ["127.0.0.1:80", "[::1]:65535"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Address::from(Some(address)).get(), Some(address));
        }
        assert_eq!(Address::default().get(), None);
    }
}

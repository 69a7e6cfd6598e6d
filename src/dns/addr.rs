//! Hosts as they are written. Pure: no lookup in here.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::error::invalid_input;

/// A family of addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4 and IPv6.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

impl Family {
    /// Whether an address is of the family.
    pub(crate) fn admits(self, address: &SocketAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }

    /// Those of the addresses that are of the family. It is a contradiction if addresses were given and none is.
    pub(crate) fn select(self, method: &str, mut addresses: Vec<SocketAddr>) -> io::Result<Vec<SocketAddr>> {
        if addresses.is_empty() || addresses.iter().any(|address| self.admits(address)) {
            addresses.retain(|address| self.admits(address));
            return Ok(addresses);
        }
        let given: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        Err(invalid_input(format!("{method}: {} is not of the family asked for by family()", given.join(", "))))
    }
}

/// A host: an address, or a name to be looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Address(IpAddr),
    Name(String),
}

impl Host {
    /// A literal address, in brackets or not, is taken as one; anything else is a name.
    pub(crate) fn parse(text: &str) -> Self {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        match bare.parse() {
            Ok(address) => Self::Address(address),
            Err(_) => Self::Name(text.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn literals_are_not_looked_up() {
        assert_eq!(Host::parse("127.0.0.1"), Host::Address(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(Host::parse("::1"), Host::Address(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(Host::parse("[::1]"), Host::Address(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(Host::parse("localhost"), Host::Name("localhost".into()));
        assert_eq!(Host::parse("127.0.0.1."), Host::Name("127.0.0.1.".into()));
    }

    #[test]
    fn a_family_admits_its_own() {
        let (v4, v6) = ("1.2.3.4:5".parse().unwrap(), "[::1]:5".parse().unwrap());
        assert!(Family::Any.admits(&v4) && Family::Any.admits(&v6));
        assert!(Family::V4.admits(&v4) && !Family::V4.admits(&v6));
        assert!(!Family::V6.admits(&v4) && Family::V6.admits(&v6));
    }
}

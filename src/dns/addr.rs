//! Hosts and ports as they are written, and the order of addresses. Pure: no lookup in here.

use std::fmt;
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

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip) => ip.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
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

/// A port: a number, the name of a service, or none at all.
///
/// Made from `u16`, from text and from `Option<u16>`. Text is a number, or is looked up among the services that the system
/// knows ("http"); nothing in it is port zero.
///
/// ```
/// use roundelay::Port;
///
/// assert_eq!(Port::from("80"), Port::from(80));
/// assert_eq!(Port::from(""), Port::from(0));
/// assert_eq!(Port::from("http").to_string(), "http");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    kind: PortKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PortKind {
    None,
    Number(u16),
    Service(String),
}

impl Port {
    pub(crate) fn kind(&self) -> &PortKind {
        &self.kind
    }

    /// The number, if no service has to be looked up for it.
    pub(crate) fn number(&self) -> Option<u16> {
        match self.kind {
            PortKind::None => Some(0),
            PortKind::Number(port) => Some(port),
            PortKind::Service(_) => None,
        }
    }

    fn parse(text: String) -> Self {
        let kind = match text.parse() {
            Ok(port) => PortKind::Number(port),
            Err(_) if text.is_empty() => PortKind::Number(0),
            Err(_) => PortKind::Service(text),
        };
        Self { kind }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            PortKind::None => f.write_str("no port"),
            PortKind::Number(port) => port.fmt(f),
            PortKind::Service(name) => name.fmt(f),
        }
    }
}

impl From<u16> for Port {
    fn from(port: u16) -> Self {
        Self { kind: PortKind::Number(port) }
    }
}

impl From<Option<u16>> for Port {
    fn from(port: Option<u16>) -> Self {
        Self { kind: port.map_or(PortKind::None, PortKind::Number) }
    }
}

impl From<&str> for Port {
    fn from(text: &str) -> Self {
        Self::parse(text.to_owned())
    }
}

impl From<&String> for Port {
    fn from(text: &String) -> Self {
        Self::parse(text.clone())
    }
}

impl From<String> for Port {
    fn from(text: String) -> Self {
        Self::parse(text)
    }
}

/// The host and the port of a text such as `example.org:80`, `[::1]:80` or `:80`. `None` where it names no port, and where
/// it is an address of IPv6 without brackets, the end of which is no port.
pub(crate) fn host_and_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    let has_end = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
    // `http://example.org` is an address of something else.
    (has_end && !port.is_empty() && !port.contains('/')).then_some((host, port))
}

/// The addresses in turns, one of each family, so that a family that does not work costs one attempt and not many. The
/// family of the first address comes first, with so many of its addresses before the turns begin; within a family the order
/// stays.
pub(crate) fn interleave(addresses: &[SocketAddr], first_family_count: usize) -> Vec<SocketAddr> {
    let Some(first) = addresses.first() else { return Vec::new() };
    let (own, other): (Vec<SocketAddr>, Vec<SocketAddr>) =
        addresses.iter().partition(|address| address.is_ipv4() == first.is_ipv4());
    let ahead = first_family_count.saturating_sub(1).min(own.len());
    let mut ordered = own[..ahead].to_vec();
    let (mut own, mut other) = (own[ahead..].iter(), other.iter());
    loop {
        let turn = [own.next(), other.next()];
        if turn == [None, None] {
            return ordered;
        }
        ordered.extend(turn.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

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

    /// TC-04: a number however it is written, nothing as zero, and anything else for the resolver.
    #[test]
    fn ports_are_numbers_or_names() {
        assert_eq!(Port::from("8080").number(), Some(8080));
        assert_eq!(Port::from(String::from("0080")).number(), Some(80));
        assert_eq!(Port::from("").number(), Some(0));
        assert_eq!(Port::from(None).number(), Some(0));
        for name in ["http", "65536", "-1", " 80", "8080x"] {
            assert_eq!(Port::from(name).kind(), &PortKind::Service(name.into()));
        }
    }

    /// TC-04: where a host and a port are one text.
    #[test]
    fn a_text_has_a_host_and_a_port() {
        assert_eq!(host_and_port("example.org:80"), Some(("example.org", "80")));
        assert_eq!(host_and_port("127.0.0.1:http"), Some(("127.0.0.1", "http")));
        assert_eq!(host_and_port("[::1]:80"), Some(("[::1]", "80")));
        assert_eq!(host_and_port(":80"), Some(("", "80")));
        for text in [
            "",
            "example.org",
            "example.org:",
            "::1",
            "::1:80",
            "[::1]",
            "[::1",
            "http://example.org:80",
            "http://example.org",
        ] {
            assert_eq!(host_and_port(text), None, "{text}");
        }
    }

    fn address(is_v4: bool, n: u16) -> SocketAddr {
        let ip = if is_v4 { IpAddr::from(Ipv4Addr::LOCALHOST) } else { Ipv6Addr::LOCALHOST.into() };
        SocketAddr::new(ip, n)
    }

    /// HE-01: the turns, written out.
    #[test]
    fn families_take_turns() {
        let [six, four] = [false, true].map(|is_v4| (0..4).map(|n| address(is_v4, n)).collect::<Vec<_>>());
        let given = [&six[..], &four[..2]].concat();
        for count in [0, 1] {
            assert_eq!(interleave(&given, count), [six[0], four[0], six[1], four[1], six[2], six[3]]);
        }
        assert_eq!(interleave(&given, 2), [six[0], six[1], four[0], six[2], four[1], six[3]]);
        assert_eq!(interleave(&given, 3), [six[0], six[1], six[2], four[0], six[3], four[1]]);
        assert_eq!(interleave(&given, 9), given);
        assert_eq!(interleave(&[four[0], six[0], six[1]], 1), [four[0], six[0], six[1]]);
        assert!(interleave(&[], 1).is_empty());
    }

    proptest! {
        /// HE-01: no address is lost or made up, a family keeps its order, and one family alone is left as it is. Behind the
        /// head start no family comes twice in a row while the other has something left.
        #[test]
        fn interleaving_is_a_fair_order(families in proptest::collection::vec(any::<bool>(), 0..40), count in 0_usize..12) {
            let given: Vec<SocketAddr> = (0..).zip(&families).map(|(n, is_v4)| address(*is_v4, n)).collect();
            let ordered = interleave(&given, count);
            for is_v4 in [true, false] {
                let of_family = |list: &[SocketAddr]| -> Vec<SocketAddr> {
                    list.iter().filter(|address| address.is_ipv4() == is_v4).copied().collect()
                };
                prop_assert_eq!(of_family(&ordered), of_family(&given));
            }
            prop_assert_eq!(ordered.len(), given.len());
            prop_assert_eq!(ordered.first(), given.first());
            let Some(first) = given.first() else { return Ok(()) };
            let own = given.iter().filter(|address| address.is_ipv4() == first.is_ipv4()).count();
            let ahead = count.saturating_sub(1).min(own);
            prop_assert!(ordered[..ahead].iter().all(|address| address.is_ipv4() == first.is_ipv4()));
            let turns = &ordered[ahead..];
            for (n, pair) in turns.windows(2).enumerate() {
                if pair[0].is_ipv4() == pair[1].is_ipv4() {
                    prop_assert!(turns[n..].iter().all(|address| address.is_ipv4() == pair[0].is_ipv4()));
                }
            }
        }
    }
}

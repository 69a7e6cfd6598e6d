//! The names of servers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustls::pki_types::{DnsName, ServerName};

use crate::error::invalid_input;

/// What stands for no name at all: an address is not sent to the server.
pub(super) fn unnamed() -> ServerName<'static> {
    IpAddr::from(Ipv4Addr::UNSPECIFIED).into()
}

/// The name of a server: a DNS name, with or without the dot of the root, or an address, with or without brackets and
/// zone.
pub(super) fn server_name(method: &str, given: &str) -> io::Result<ServerName<'static>> {
    let refused = |reason: &str| Err(invalid_input(format!("{method}: server_hostname({given:?}): {reason}")));
    if given.is_empty() {
        return refused(
            "without a name the certificate cannot be checked; only a connector that was built by dangerous() can do \
             without",
        );
    }
    if let Some(address) = address(given) {
        return Ok(address.into());
    }
    if !given.is_ascii() {
        return refused("not ASCII: a name in another script is given in its xn-- form");
    }
    match dns_name(given) {
        Some(name) => Ok(name.into()),
        None => refused("neither a DNS name nor an IP address"),
    }
}

/// A DNS name without the dot of the root, which neither certificates nor the server name indication have.
pub(super) fn dns_name(given: &str) -> Option<DnsName<'static>> {
    let relative = given.strip_suffix('.').unwrap_or(given);
    // What remains may have no further dot at its end.
    let name = DnsName::try_from(relative.to_owned()).ok()?;
    (!relative.ends_with('.')).then_some(name)
}

fn address(given: &str) -> Option<IpAddr> {
    let bracketed = given.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let bare = bracketed.unwrap_or(given);
    let is_v6_only = bracketed.is_some();
    let (without_zone, has_zone) = match bare.split_once('%') {
        Some((address, zone)) if !zone.is_empty() => (address, true),
        Some(_) => return None,
        None => (bare, false),
    };
    if is_v6_only || has_zone {
        return without_zone.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    without_zone.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(given: &str) -> Result<String, String> {
        server_name("connect", given).map(|name| name.to_str().into_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn names_and_addresses_in_all_their_forms() {
        let known = [
            ("example.org", "example.org"),
            ("example.org.", "example.org"),
            ("Example.ORG", "Example.ORG"),
            ("localhost", "localhost"),
            ("a_b.example", "a_b.example"),
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
            ("[::1]", "::1"),
            ("fe80::1%eth0", "fe80::1"),
            ("[fe80::1%25]", "fe80::1"),
        ];
        for (given, name) in known {
            assert_eq!(of(given).as_deref(), Ok(name));
        }
    }

    #[test]
    fn what_is_no_name_is_refused_and_the_error_says_why() {
        let none = ["a b", "a..b", "a..", ".", "-a", "a-", "127.0.0.1.", "[127.0.0.1]", "1.2.3", "[::1", "::1%", "a\0"];
        for given in none {
            let error = of(given).unwrap_err();
            assert_eq!(error, format!("connect: server_hostname({given:?}): neither a DNS name nor an IP address"));
        }
        assert!(of("").unwrap_err().contains("without a name the certificate cannot be checked"));
        assert!(of("bücher.example").unwrap_err().ends_with("in its xn-- form"));
    }
}

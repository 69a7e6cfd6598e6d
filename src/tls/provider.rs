//! The cryptography, and the versions of the protocol that it is used in.

use std::io;
use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;
#[cfg(feature = "aws-lc-rs")]
use rustls::crypto::aws_lc_rs as chosen;
#[cfg(all(feature = "tls", not(feature = "aws-lc-rs")))]
use rustls::crypto::ring as chosen;
use rustls::server::ProducesTickets;
use rustls::{SupportedProtocolVersion, version};

use crate::error::invalid_input;
use crate::protocol::TlsVersion;

/// With neither of the two features the library merely type-checks, for systems whose compilers are not at hand.
#[cfg(not(any(feature = "tls", feature = "aws-lc-rs")))]
mod chosen {
    use super::{Arc, CryptoProvider, ProducesTickets};

    pub(super) fn default_provider() -> CryptoProvider {
        panic!("TLS needs the feature `tls` or `aws-lc-rs`")
    }

    pub(super) enum Ticketer {}

    impl Ticketer {
        pub(super) fn new() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
            Err(rustls::Error::FailedToGetRandomBytes)
        }
    }
}

/// What all configurations use, whatever the process's default is.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(chosen::default_provider())).clone()
}

/// What makes session tickets, with keys that are replaced every six hours.
pub(super) fn ticketer() -> io::Result<Arc<dyn ProducesTickets>> {
    chosen::Ticketer::new().map_err(io::Error::other)
}

/// What clients and servers have in common.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) alpn: Vec<Vec<u8>>,
    pub(super) min_version: TlsVersion,
    pub(super) max_version: TlsVersion,
    pub(super) resumption: bool,
    pub(super) require_close_notify: bool,
    pub(super) key_log: bool,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            alpn: Vec::new(),
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
            resumption: true,
            require_close_notify: false,
            key_log: false,
        }
    }
}

/// The most that the length of a list of protocols can say.
const LONGEST_ALPN: usize = u16::MAX as usize;

impl Common {
    pub(super) fn set_alpn<P: AsRef<[u8]>>(&mut self, protocols: impl IntoIterator<Item = P>) {
        self.alpn = protocols.into_iter().map(|protocol| protocol.as_ref().to_owned()).collect();
    }

    /// Settings that cannot be, or do not go together.
    pub(super) fn check(&self, builder: &str) -> io::Result<()> {
        if let Some(wrong) = self.alpn.iter().find(|protocol| !(1..=255).contains(&protocol.len())) {
            let length = wrong.len();
            return Err(invalid_input(format!("{builder}: alpn(): a name of {length} bytes: it takes 1 to 255")));
        }
        if self.alpn.iter().map(|protocol| protocol.len() + 1).sum::<usize>() > LONGEST_ALPN {
            return Err(invalid_input(format!("{builder}: alpn(): the names do not fit into {LONGEST_ALPN} bytes")));
        }
        let (min, max) = (self.min_version, self.max_version);
        if min > max {
            return Err(invalid_input(format!("{builder}: min_version({min}) is above max_version({max})")));
        }
        Ok(())
    }

    pub(super) fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        let known = [(TlsVersion::Tls12, &version::TLS12), (TlsVersion::Tls13, &version::TLS13)];
        let wanted = known.into_iter().filter(|(name, _)| (self.min_version..=self.max_version).contains(name));
        wanted.map(|(_, version)| version).collect()
    }
}

/// The names of protocols, for people.
pub(super) fn readable(alpn: &[Vec<u8>]) -> Vec<String> {
    alpn.iter().map(|protocol| protocol.escape_ascii().to_string()).collect()
}

/// The settings that mean the same on both sides, for a builder that has a `common`.
macro_rules! common_settings {
    () => {
        /// Speaks no older version than this (TLS 1.2).
        pub fn min_version(mut self, version: TlsVersion) -> Self {
            self.common.min_version = version;
            self
        }

        /// Speaks no newer version than this (TLS 1.3).
        pub fn max_version(mut self, version: TlsVersion) -> Self {
            self.common.max_version = version;
            self
        }

        /// Whether the keys of connections are appended to the file that the environment variable `SSLKEYLOGFILE` names, if it
        /// names one (`false`). With them tools such as Wireshark read what was recorded, and so does everybody else who has
        /// the file.
        pub fn key_log(mut self, logged: bool) -> Self {
            self.common.key_log = logged;
            self
        }
    };
}
pub(super) use common_settings;

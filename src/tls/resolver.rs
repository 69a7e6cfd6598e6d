//! Which of a server's identities a client gets to see.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::tls::identity::TlsIdentity;

/// What a client says first: whom it wants to speak to, and in which protocols.
///
/// Given to the function that chooses an identity: [`TlsAcceptorBuilder::resolver`](crate::TlsAcceptorBuilder::resolver).
pub struct TlsClientHello<'a>(&'a ClientHello<'a>);

impl TlsClientHello<'_> {
    /// The name of the server that the client wants (SNI), as the client has sent it. Clients that connect to an address
    /// send none.
    pub fn server_name(&self) -> Option<&str> {
        self.0.server_name()
    }

    /// The protocols that the client offers (ALPN), the one that it likes best first.
    pub fn alpn(&self) -> impl Iterator<Item = &[u8]> {
        self.0.alpn().into_iter().flatten()
    }
}

impl fmt::Debug for TlsClientHello<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alpn: Vec<String> = self.alpn().map(|protocol| protocol.escape_ascii().to_string()).collect();
        f.debug_struct("TlsClientHello").field("server_name", &self.server_name()).field("alpn", &alpn).finish()
    }
}

/// A function that chooses.
pub(super) type Choice = Arc<dyn Fn(&TlsClientHello<'_>) -> Option<TlsIdentity> + Send + Sync>;

/// All the identities of a server, and how one of them is chosen.
#[derive(Clone, Default)]
pub(super) struct Identities {
    /// Asked first.
    pub(super) choice: Option<Choice>,
    /// By name, in lower case.
    pub(super) names: HashMap<String, TlsIdentity>,
    /// By what comes behind the star and its dot.
    pub(super) wildcards: HashMap<String, TlsIdentity>,
    /// For everybody else.
    pub(super) default: Option<TlsIdentity>,
}

impl Identities {
    pub(super) fn is_empty(&self) -> bool {
        self.choice.is_none() && self.names.is_empty() && self.wildcards.is_empty() && self.default.is_none()
    }

    fn of_name(&self, name: &str) -> Option<TlsIdentity> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let of_wildcard = || self.wildcards.get(name.split_once('.')?.1);
        self.names.get(&name).or_else(of_wildcard).cloned()
    }
}

impl ResolvesServerCert for Identities {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let chosen = self.choice.as_ref().and_then(|choice| choice(&TlsClientHello(&hello)));
        let chosen = chosen.or_else(|| self.of_name(hello.server_name()?)).or_else(|| self.default.clone());
        chosen.map(|identity| identity.certified)
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<String> = self.names.keys().cloned().collect();
        names.extend(self.wildcards.keys().map(|parent| format!("*.{parent}")));
        names.sort();
        f.debug_struct("Identities")
            .field("resolver", &self.choice.is_some())
            .field("names", &names)
            .field("default", &self.default)
            .finish()
    }
}

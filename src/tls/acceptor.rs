//! The server's side of a TLS configuration.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{Connection, KeyLogFile, RootCertStore, ServerConfig, ServerConnection};

use crate::error::invalid_input;
use crate::protocol::TlsVersion;
use crate::tls::hostname::dns_name;
use crate::tls::identity::TlsIdentity;
use crate::tls::provider::{Common, common_settings, provider, readable, ticketer};
use crate::tls::resolver::{Identities, TlsClientHello};
use crate::tls::roots::{Roots, no_roots};

/// How servers speak TLS: who they are, whom they let in, which protocols they offer.
///
/// Clones share one configuration, and with it the sessions that can be resumed.
///
/// A server whose certificate and key are files:
///
/// ```no_run
/// use roundelay::{TlsAcceptor, TlsIdentity};
///
/// let identity = TlsIdentity::from_pem_files("/etc/ssl/example.org.pem", "/etc/ssl/private/example.org.key")?;
/// let acceptor = TlsAcceptor::builder().identity(identity).alpn(["h2", "http/1.1"]).build()?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct TlsAcceptor {
    config: Arc<ServerConfig>,
    require_close_notify: bool,
}

impl TlsAcceptor {
    /// Settings for an acceptor. It needs an identity at least.
    pub fn builder() -> TlsAcceptorBuilder {
        TlsAcceptorBuilder::default()
    }

    /// The TLS side of a new connection.
    pub(crate) fn connection(&self) -> io::Result<Connection> {
        // Only a configuration of somebody else's making can be wrong here.
        ServerConnection::new(self.config.clone())
            .map(Connection::from)
            .map_err(|error| invalid_input(format!("TlsAcceptor: {error}")))
    }

    /// Whether a connection that ends without a `close_notify` is an error.
    pub(crate) fn requires_close_notify(&self) -> bool {
        self.require_close_notify
    }
}

impl From<Arc<ServerConfig>> for TlsAcceptor {
    /// A configuration made with rustls itself, of which nothing is changed. A client that ends without a `close_notify`
    /// is no error, as by default.
    fn from(config: Arc<ServerConfig>) -> Self {
        Self { config, require_close_notify: false }
    }
}

impl fmt::Debug for TlsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsAcceptor")
            .field("alpn", &readable(&self.config.alpn_protocols))
            .field("identities", &self.config.cert_resolver)
            .field("require_close_notify", &self.require_close_notify)
            .finish_non_exhaustive()
    }
}

/// Whether a server asks its clients for a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClientAuth {
    /// It does not ask.
    #[default]
    None,
    /// It asks, and takes clients that have none. One that is shown has to be good.
    Optional,
    /// It asks, and refuses clients that have none.
    Required,
}

/// Settings for a [`TlsAcceptor`], made by [`TlsAcceptor::builder`].
///
/// Several identities, of which each client gets the one for the name that it asks for:
///
/// ```
/// use roundelay::{TlsAcceptor, TlsIdentity};
///
/// # let made = |name: &str| {
/// #     let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
/// #     TlsIdentity::from_pem(made.cert.pem(), made.signing_key.serialize_pem())
/// # };
/// # let (of_example, of_sites, of_address) = (made("example.org")?, made("*.sites.example")?, made("192.0.2.1")?);
/// let acceptor = TlsAcceptor::builder()
///     .identity_for("example.org", of_example)
///     .identity_for("*.sites.example", of_sites)
///     .identity(of_address) // for everybody else
///     .build()?;
/// # std::io::Result::Ok(())
/// ```
///
/// A server that knows its clients by their certificates:
///
/// ```
/// use roundelay::{ClientAuth, TlsAcceptor, TlsIdentity};
///
/// # let authority = rcgen::generate_simple_self_signed(["authority".to_owned()]).unwrap().cert.pem();
/// # let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
/// # let identity = TlsIdentity::from_pem(made.cert.pem(), made.signing_key.serialize_pem())?;
/// let acceptor = TlsAcceptor::builder()
///     .identity(identity)
///     .client_auth(ClientAuth::Required)
///     .client_roots_from_pem(authority)
///     .build()?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing before build()"]
pub struct TlsAcceptorBuilder {
    common: Common,
    identities: Identities,
    /// In the order in which they were given.
    named: Vec<(String, TlsIdentity)>,
    client_auth: ClientAuth,
    client_roots: Roots,
    /// `None`: as many as rustls sends.
    tls13_tickets: Option<u8>,
}

impl TlsAcceptorBuilder {
    /// Who the server is, to every client for which nothing else is said.
    pub fn identity(mut self, identity: TlsIdentity) -> Self {
        self.identities.default = Some(identity);
        self
    }

    /// Who the server is to clients that ask for this name (SNI). A star may stand for the first label: `*.example.org`
    /// is for `www.example.org`, neither for `example.org` nor for `a.b.example.org`. A name itself goes before the star.
    ///
    /// A certificate that is not made out to a name is refused by [`build`](Self::build); with a star it is not looked at,
    /// for the certificate may have the names one by one.
    ///
    /// A client that asks for a name that is not known, or for none, gets [`identity`](Self::identity), or is refused if
    /// there is none.
    pub fn identity_for(mut self, name: impl Into<String>, identity: TlsIdentity) -> Self {
        self.named.push((name.into(), identity));
        self
    }

    /// Asks this function who the server is to a client. Where it gives `None`, [`identity_for`](Self::identity_for) and
    /// [`identity`](Self::identity) follow.
    ///
    /// It runs within the handshake, on the loop's thread: it should look up and not read files.
    ///
    /// ```
    /// use std::sync::{Arc, RwLock};
    ///
    /// use roundelay::{TlsAcceptor, TlsIdentity};
    ///
    /// # let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    /// # let identity = TlsIdentity::from_pem(made.cert.pem(), made.signing_key.serialize_pem())?;
    /// // Whoever renews the certificate puts the new one here; connections from then on see it.
    /// let current = Arc::new(RwLock::new(identity));
    /// let acceptor = TlsAcceptor::builder()
    ///     .resolver({
    ///         let current = current.clone();
    ///         move |_| Some(current.read().unwrap().clone())
    ///     })
    ///     .build()?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn resolver<F>(mut self, resolver: F) -> Self
    where
        F: Fn(&TlsClientHello<'_>) -> Option<TlsIdentity> + Send + Sync + 'static,
    {
        self.identities.choice = Some(Arc::new(resolver));
        self
    }

    /// Whether clients are asked for a certificate (`None`). [Roots](Self::client_roots_from_pem_file) are needed for it.
    pub fn client_auth(mut self, client_auth: ClientAuth) -> Self {
        self.client_auth = client_auth;
        self
    }

    /// Trusts clients for which one of the authorities vouches whose certificates are in this file in PEM, besides those
    /// given already. [`build`](Self::build) reads it. The platform's authorities are never trusted here.
    pub fn client_roots_from_pem_file(mut self, path: impl AsRef<Path>) -> Self {
        self.client_roots.add_pem_file(path.as_ref());
        self
    }

    /// The same, with the certificates themselves, in PEM.
    pub fn client_roots_from_pem(mut self, certificates: impl AsRef<[u8]>) -> Self {
        self.client_roots.add_pem(certificates.as_ref());
        self
    }

    /// The same, with one certificate, in DER.
    pub fn client_root_from_der(mut self, certificate: impl AsRef<[u8]>) -> Self {
        self.client_roots.add_der(certificate.as_ref());
        self
    }

    /// Speaks these protocols (ALPN), the one that is liked best first: it is chosen if the client offers it, too. A client
    /// that offers only others is refused; one that offers none is taken.
    pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.common.set_alpn(protocols);
        self
    }

    common_settings!();

    /// Whether clients can resume sessions (`true`): by tickets, whose keys are replaced every six hours and which are
    /// worth nothing after twice that, and with TLS 1.2 by the identifiers of the last 256 sessions, too.
    pub fn resumption(mut self, resumed: bool) -> Self {
        self.common.resumption = resumed;
        self
    }

    /// How many tickets a client gets after a handshake with TLS 1.3 (2). A client uses each for one connection, but the
    /// server, which keeps nothing of them, does not see to it. With 0 such clients cannot resume.
    pub fn tls13_tickets(mut self, count: u8) -> Self {
        self.tls13_tickets = Some(count);
        self
    }

    /// Whether a connection that ends without the client's `close_notify` ends with an error (`false`, as in asyncio).
    ///
    /// Without it somebody in between can cut the connection, and what has arrived looks like the whole. Most protocols say
    /// themselves where their messages end, and many clients just hang up.
    pub fn require_close_notify(mut self, required: bool) -> Self {
        self.common.require_close_notify = required;
        self
    }

    /// Makes the acceptor. Reads the files of roots, which blocks for a moment.
    ///
    /// # Errors
    ///
    /// * `InvalidInput`: there is no identity; a name given to [`identity_for`](Self::identity_for) is no DNS name, or was
    ///   given twice; [`client_auth`](Self::client_auth) without roots, or roots without it; tickets without
    ///   [`resumption`](Self::resumption); a protocol's name is empty or longer than 255 bytes; the versions exclude each
    ///   other.
    /// * A [`TlsConfigError`](crate::TlsConfigError): a file of roots cannot be read, is no PEM, has no certificate in it,
    ///   or one that cannot be a root; a certificate is not made out to the name that it was given for.
    pub fn build(mut self) -> io::Result<TlsAcceptor> {
        self.common.check(BUILDER)?;
        if !self.common.resumption && self.tls13_tickets.is_some_and(|count| count > 0) {
            return Err(invalid_input(format!("{BUILDER}: tls13_tickets() cannot be used with resumption(false)")));
        }
        self.name_identities()?;
        let versions = self.common.versions();
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&versions)
            .map_err(io::Error::other)?
            .with_client_cert_verifier(self.client_verifier()?);
        let mut config = config.with_cert_resolver(Arc::new(self.identities));
        config.alpn_protocols = self.common.alpn;
        if self.common.resumption {
            config.ticketer = ticketer()?;
            if let Some(count) = self.tls13_tickets {
                config.send_tls13_tickets = usize::from(count);
            }
        } else {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        if self.common.key_log {
            config.key_log = Arc::new(KeyLogFile::new());
        }
        Ok(TlsAcceptor { config: Arc::new(config), require_close_notify: self.common.require_close_notify })
    }

    /// Puts the identities with names where they are looked up.
    fn name_identities(&mut self) -> io::Result<()> {
        for (given, identity) in std::mem::take(&mut self.named) {
            let refused = |reason: &str| Err(invalid_input(format!("{BUILDER}: identity_for({given:?}): {reason}")));
            let parent = given.strip_prefix("*.");
            let Some(name) = dns_name(parent.unwrap_or(&given)) else { return refused("not a DNS name") };
            let table = match parent {
                Some(_) => &mut self.identities.wildcards,
                None => {
                    identity.check_name(&name)?;
                    &mut self.identities.names
                }
            };
            if table.insert(name.as_ref().to_ascii_lowercase(), identity).is_some() {
                return refused("given twice");
            }
        }
        if self.identities.is_empty() {
            let needed = "it needs an identity(), an identity_for() or a resolver()";
            return Err(invalid_input(format!("{BUILDER}: nobody knows who the server is: {needed}")));
        }
        Ok(())
    }

    fn client_verifier(&self) -> io::Result<Arc<dyn ClientCertVerifier>> {
        if self.client_auth == ClientAuth::None {
            return match self.client_roots.is_empty() {
                true => Ok(WebPkiClientVerifier::no_client_auth()),
                false => Err(invalid_input(format!(
                    "{BUILDER}: roots for clients are of no use without client_auth(Optional) or client_auth(Required)"
                ))),
            };
        }
        if self.client_roots.is_empty() {
            let reason = format!("client_auth({:?}) needs roots for clients, and none were given", self.client_auth);
            return Err(no_roots(BUILDER, &reason).into());
        }
        let mut store = RootCertStore::empty();
        self.client_roots.load_into(&mut store)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider());
        let verifier = match self.client_auth {
            ClientAuth::Required => verifier,
            _ => verifier.allow_unauthenticated(),
        };
        verifier.build().map_err(io::Error::other)
    }
}

/// What the builder is called in errors.
const BUILDER: &str = "TlsAcceptor::builder";

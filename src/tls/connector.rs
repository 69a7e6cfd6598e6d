//! The client's side of a TLS configuration.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ClientConnection, Connection, KeyLogFile, RootCertStore};

use crate::error::invalid_input;
use crate::protocol::TlsVersion;
use crate::tls::error::TlsConfigError;
use crate::tls::hostname::{server_name, unnamed};
use crate::tls::identity::TlsIdentity;
use crate::tls::provider::{Common, common_settings, provider, readable};
use crate::tls::roots::{Roots, no_roots, platform_roots};
use crate::tls::verify::Lenient;

/// How clients speak TLS: whom they trust, who they are, which protocols they offer.
///
/// The default trusts whom the platform trusts, speaks TLS 1.2 and 1.3, and offers no protocol. Everything else is
/// [built](Self::builder). Clones share one configuration, and with it the sessions that can be resumed: make one
/// connector and clone it, rather than one for each connection.
///
/// A client that trusts an authority of its own:
///
/// ```
/// use roundelay::TlsConnector;
///
/// # let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
/// # let authority = made.cert.pem();
/// let connector = TlsConnector::builder().roots_from_pem(authority).alpn(["h2", "http/1.1"]).build()?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct TlsConnector {
    /// The error is that of the platform's trust store, which a default cannot give.
    config: Result<Arc<ClientConfig>, Box<TlsConfigError>>,
    checked: Checked,
    require_close_notify: bool,
}

/// How much of a server's certificate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checked {
    /// As far as the configuration does, which is somebody else's.
    AsConfigured,
    /// Its chain, its days, its names.
    Everything,
    /// All but the names.
    NotNames,
    /// Whether the server has its key, and no more.
    Nothing,
}

impl Checked {
    /// Whether a name is needed for it.
    fn needs_name(self) -> bool {
        matches!(self, Self::AsConfigured | Self::Everything)
    }
}

impl TlsConnector {
    /// The default configuration: trusts whom the platform trusts.
    ///
    /// The platform's trust store is read once per process, which blocks for some milliseconds. The environment variables
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR` name another one. All default connectors share one configuration.
    ///
    /// # Errors
    ///
    /// A [`TlsConfigError`](crate::TlsConfigError) of kind `NoRoots`: there is no certificate in the store, or none that
    /// could be used.
    pub fn new() -> io::Result<Self> {
        let config = default_config()?;
        Ok(Self { config: Ok(config), checked: Checked::Everything, require_close_notify: false })
    }

    /// Settings for a connector.
    pub fn builder() -> TlsConnectorBuilder {
        TlsConnectorBuilder::default()
    }

    /// The TLS side of a new connection to a server of that name.
    pub(crate) fn connection(&self, method: &str, server_hostname: &str) -> io::Result<Connection> {
        let config = self.config.as_ref().map_err(|error| TlsConfigError::clone(error))?;
        let name = if server_hostname.is_empty() && !self.checked.needs_name() {
            unnamed()
        } else {
            server_name(method, server_hostname)?
        };
        // Only a configuration of somebody else's making can be wrong here.
        ClientConnection::new(config.clone(), name)
            .map(Connection::from)
            .map_err(|error| invalid_input(format!("{method}: tls(): {error}")))
    }

    /// Whether a connection that ends without a `close_notify` is an error.
    pub(crate) fn requires_close_notify(&self) -> bool {
        self.require_close_notify
    }
}

impl Default for TlsConnector {
    /// As [`new`](TlsConnector::new), but what is wrong with the platform's trust store is told by whatever connects.
    fn default() -> Self {
        let config = default_config().map_err(Box::new);
        Self { config, checked: Checked::Everything, require_close_notify: false }
    }
}

impl From<Arc<ClientConfig>> for TlsConnector {
    /// A configuration made with rustls itself, of which nothing is changed. A server that ends without a `close_notify`
    /// is no error, as by default.
    fn from(config: Arc<ClientConfig>) -> Self {
        Self { config: Ok(config), checked: Checked::AsConfigured, require_close_notify: false }
    }
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut output = f.debug_struct("TlsConnector");
        match &self.config {
            Ok(config) => output.field("alpn", &readable(&config.alpn_protocols)),
            Err(error) => output.field("error", &error.to_string()),
        };
        output.field("checked", &self.checked).field("require_close_notify", &self.require_close_notify);
        output.finish_non_exhaustive()
    }
}

/// The configuration of all default connectors, which so can resume each other's sessions.
fn default_config() -> Result<Arc<ClientConfig>, TlsConfigError> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config.clone());
    }
    let roots = platform_roots()?;
    let made = || {
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has ciphers for every version");
        Arc::new(config.with_root_certificates(roots).with_no_client_auth())
    };
    Ok(CONFIG.get_or_init(made).clone())
}

/// Settings for a [`TlsConnector`], made by [`TlsConnector::builder`].
///
/// ```
/// use roundelay::{TlsConnector, TlsIdentity, TlsVersion};
///
/// # let authority = rcgen::generate_simple_self_signed(["authority".to_owned()]).unwrap().cert.pem();
/// # let made = rcgen::generate_simple_self_signed(["client".to_owned()]).unwrap();
/// # let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
/// let connector = TlsConnector::builder()
///     .roots_from_pem(authority)
///     .identity(TlsIdentity::from_pem(certificate, key)?)
///     .min_version(TlsVersion::Tls13)
///     .require_close_notify(true)
///     .build()?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing before build()"]
pub struct TlsConnectorBuilder {
    common: Common,
    roots: Roots,
    /// `None`: if there are none of one's own.
    platform_roots: Option<bool>,
    identity: Option<TlsIdentity>,
}

impl TlsConnectorBuilder {
    /// Trusts the authorities whose certificates are in this file in PEM, besides those given already, and in the place of
    /// the platform's. [`build`](Self::build) reads it.
    ///
    /// It may be a server's own certificate, which signs itself, but none that says to be an authority's: no server may show
    /// such a one, and the handshake fails with `CaUsedAsEndEntity`. `openssl req -x509` makes those, unless it is told
    /// `-addext basicConstraints=critical,CA:FALSE`.
    pub fn roots_from_pem_file(mut self, path: impl AsRef<Path>) -> Self {
        self.roots.add_pem_file(path.as_ref());
        self
    }

    /// Trusts the authorities whose certificates these are, in PEM, as [`roots_from_pem_file`](Self::roots_from_pem_file).
    pub fn roots_from_pem(mut self, certificates: impl AsRef<[u8]>) -> Self {
        self.roots.add_pem(certificates.as_ref());
        self
    }

    /// Trusts the authority whose certificate this is, in DER, as [`roots_from_pem_file`](Self::roots_from_pem_file).
    pub fn root_from_der(mut self, certificate: impl AsRef<[u8]>) -> Self {
        self.roots.add_der(certificate.as_ref());
        self
    }

    /// Whether the platform's authorities are trusted: by default if no others were given; `true`: besides them.
    pub fn platform_roots(mut self, trusted: bool) -> Self {
        self.platform_roots = Some(trusted);
        self
    }

    /// Who the client is, for servers that want to know.
    pub fn identity(mut self, identity: TlsIdentity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Offers these protocols (ALPN), the one that is liked best first. A server that speaks none of them refuses the
    /// handshake, unless it does not know of protocols at all.
    pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.common.set_alpn(protocols);
        self
    }

    common_settings!();

    /// Whether sessions are kept, in memory, and resumed by later connections to the same server (`true`). That saves a
    /// good part of the handshake; but the server, and with TLS 1.2 whoever listens, can tell that it is the same client.
    pub fn resumption(mut self, resumed: bool) -> Self {
        self.common.resumption = resumed;
        self
    }

    /// Whether a connection that ends without the server's `close_notify` ends with an error (`false`, as in asyncio).
    ///
    /// Without it somebody in between can cut the connection, and what has arrived looks like the whole. Most protocols say
    /// themselves where their messages end, and many servers just hang up.
    pub fn require_close_notify(mut self, required: bool) -> Self {
        self.common.require_close_notify = required;
        self
    }

    /// Settings that make connections less secure. They come last.
    pub fn dangerous(self) -> DangerousTlsConnectorBuilder {
        DangerousTlsConnectorBuilder { builder: self, checked: Checked::Everything }
    }

    /// Makes the connector. Reads the files of roots, and the platform's trust store if it is used and was not read
    /// before: both block for a moment.
    ///
    /// # Errors
    ///
    /// * `InvalidInput`: a protocol's name is empty or longer than 255 bytes, or the versions exclude each other.
    /// * A [`TlsConfigError`](crate::TlsConfigError): a file of roots cannot be read, is no PEM, has no certificate in it,
    ///   or one that cannot be a root; or there are no roots.
    pub fn build(self) -> io::Result<TlsConnector> {
        self.build_checking(Checked::Everything)
    }

    fn build_checking(self, checked: Checked) -> io::Result<TlsConnector> {
        const BUILDER: &str = "TlsConnector::builder";
        self.common.check(BUILDER)?;
        let provider = provider();
        let versions = self.common.versions();
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)
            .map_err(io::Error::other)?;
        let config = match checked {
            Checked::AsConfigured | Checked::Everything => config.with_root_certificates(self.trusted()?),
            Checked::NotNames => {
                let verifier = Lenient::any_name(provider, self.trusted()?);
                config.dangerous().with_custom_certificate_verifier(verifier)
            }
            Checked::Nothing => config.dangerous().with_custom_certificate_verifier(Lenient::anything(provider)),
        };
        let mut config = match self.identity {
            Some(identity) => config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified))),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = self.common.alpn;
        if !self.common.resumption {
            config.resumption = Resumption::disabled();
        }
        if self.common.key_log {
            config.key_log = Arc::new(KeyLogFile::new());
        }
        let require_close_notify = self.common.require_close_notify;
        Ok(TlsConnector { config: Ok(Arc::new(config)), checked, require_close_notify })
    }

    /// Whom the client trusts.
    fn trusted(&self) -> Result<Arc<RootCertStore>, TlsConfigError> {
        let with_platform = self.platform_roots.unwrap_or(self.roots.is_empty());
        if self.roots.is_empty() {
            return match with_platform {
                true => platform_roots(),
                false => Err(no_roots(
                    "TlsConnector::builder",
                    "there are no roots: none were given, and platform_roots(false) excludes the platform's",
                )),
            };
        }
        let mut store = RootCertStore::empty();
        self.roots.load_into(&mut store)?;
        if with_platform {
            store.roots.extend(platform_roots()?.roots.iter().cloned());
        }
        Ok(Arc::new(store))
    }
}

/// Settings for a [`TlsConnector`] that checks less than it should, made by [`TlsConnectorBuilder::dangerous`].
///
/// TLS without a check of who the server is keeps secrets from those who only listen. Whoever can answer in the server's
/// place, on the same wireless network say, reads and changes everything. For a test, or for a server with a certificate
/// of its own making, it is better to trust that certificate: by
/// [`roots_from_pem_file`](TlsConnectorBuilder::roots_from_pem_file). What remains is a look at servers whose certificates
/// are not known or known to be wrong.
///
/// ```
/// use roundelay::TlsConnector;
///
/// let probe = TlsConnector::builder().dangerous().accept_any_certificate().build()?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before build()"]
pub struct DangerousTlsConnectorBuilder {
    builder: TlsConnectorBuilder,
    checked: Checked,
}

impl DangerousTlsConnectorBuilder {
    /// Takes every certificate: from whomever, for whatever name, expired or not. That the server has its key is still
    /// checked. Roots are not needed; those that were given are not read.
    pub fn accept_any_certificate(mut self) -> Self {
        self.checked = Checked::Nothing;
        self
    }

    /// Takes every certificate that an authority one trusts has given to anybody: the chain and the days are checked, the
    /// names are not.
    ///
    /// With the platform's authorities this means nearly as much as no check; with one's own it can be right, where
    /// certificates are given to machines that have no names. `server_hostname` is still sent to the server, unless it is
    /// empty, which is permitted then.
    pub fn without_hostname_check(mut self) -> Self {
        if self.checked == Checked::Everything {
            self.checked = Checked::NotNames;
        }
        self
    }

    /// Makes the connector, as [`TlsConnectorBuilder::build`].
    ///
    /// # Errors
    ///
    /// As [`TlsConnectorBuilder::build`].
    pub fn build(self) -> io::Result<TlsConnector> {
        self.builder.build_checking(self.checked)
    }
}

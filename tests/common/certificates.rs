//! Certificates for the tests of TLS, made as they are needed: an authority, and whom it vouches for.
//!
//! Used by `#[path]` in the files that need it.

#![allow(dead_code, unreachable_pub)]

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use roundelay::{TlsAcceptor, TlsConnector, TlsIdentity};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tempfile::TempDir;

/// A year, a month and a day.
pub type Day = (i32, u8, u8);

/// Who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// One that stands for itself.
    pub fn new(name: &str) -> Self {
        Self(CertifiedIssuer::self_signed(Self::parameters(name), KeyPair::generate().unwrap()).unwrap())
    }

    /// One that this one vouches for.
    pub fn intermediate(&self, name: &str) -> Self {
        Self(CertifiedIssuer::signed_by(Self::parameters(name), KeyPair::generate().unwrap(), &self.0).unwrap())
    }

    fn parameters(name: &str) -> CertificateParams {
        let mut parameters = parameters(name, &[], None);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// A server's certificate for these names and addresses; a star may stand for the first label.
    pub fn server(&self, names: &[&str]) -> Certified {
        self.issue(parameters(names[0], names, Some(ExtendedKeyUsagePurpose::ServerAuth)))
    }

    /// A server's certificate that is valid from one day to another.
    pub fn server_valid(&self, names: &[&str], from: Day, to: Day) -> Certified {
        let mut parameters = parameters(names[0], names, Some(ExtendedKeyUsagePurpose::ServerAuth));
        parameters.not_before = date_time_ymd(from.0, from.1, from.2);
        parameters.not_after = date_time_ymd(to.0, to.1, to.2);
        self.issue(parameters)
    }

    /// A server's certificate that was valid in the year 2001.
    pub fn expired(&self, names: &[&str]) -> Certified {
        self.server_valid(names, (2001, 1, 1), (2001, 12, 31))
    }

    /// A server's certificate that is valid in the year 2999.
    pub fn not_yet_valid(&self, names: &[&str]) -> Certified {
        self.server_valid(names, (2999, 1, 1), (2999, 12, 31))
    }

    /// A client's certificate.
    pub fn client(&self, name: &str) -> Certified {
        self.issue(parameters(name, &[name], Some(ExtendedKeyUsagePurpose::ClientAuth)))
    }

    fn issue(&self, parameters: CertificateParams) -> Certified {
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.0).unwrap();
        Certified {
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            chain: vec![certificate.der().clone()],
            key: key.serialize_der(),
        }
    }
}

fn parameters(name: &str, names: &[&str], purpose: Option<ExtendedKeyUsagePurpose>) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = CertificateParams::new(names).unwrap();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.extended_key_usages = Vec::from_iter(purpose);
    parameters.use_authority_key_identifier_extension = true;
    parameters
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Certified {
    /// The certificate, and those of the authorities between it and the root.
    pub pem: String,
    /// The key in PKCS#8.
    pub key_pem: String,
    pub chain: Vec<CertificateDer<'static>>,
    /// The key in PKCS#8, as DER.
    pub key: Vec<u8>,
}

impl Certified {
    /// With the certificate of an authority in between appended to the chain.
    pub fn with(mut self, between: &Authority) -> Self {
        self.pem.push_str(&between.pem());
        self.chain.push(between.der());
        self
    }

    /// As a server or a client has it.
    pub fn identity(&self) -> TlsIdentity {
        TlsIdentity::from_pem(&self.pem, &self.key_pem).unwrap()
    }

    /// The chain and the key as rustls has them.
    pub fn rustls(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.chain.clone(), PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone())))
    }
}

/// The files of a server: for what reads them, and for other programs.
pub struct Files {
    /// Holds them, and goes with them when it is dropped.
    pub folder: TempDir,
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The server's chain.
    pub cert: PathBuf,
    /// The server's key.
    pub key: PathBuf,
    /// The chain and then the key.
    pub both: PathBuf,
}

impl Files {
    pub fn new(authority: &Authority, certified: &Certified) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let ca = write("ca.pem", &authority.pem());
        let cert = write("cert.pem", &certified.pem);
        let key = write("key.pem", &certified.key_pem);
        let both = write("both.pem", &format!("{}{}", certified.pem, certified.key_pem));
        Self { folder, ca, cert, key, both }
    }

    /// A further file in the folder.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// The authority that the tests of this process trust.
pub fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| Authority::new("roundelay's tests"))
}

/// The certificate of the server that most tests have: "localhost", 127.0.0.1 and ::1.
pub fn localhost() -> &'static Certified {
    static LOCALHOST: OnceLock<Certified> = OnceLock::new();
    LOCALHOST.get_or_init(|| authority().server(&["localhost", "127.0.0.1", "::1"]))
}

/// The cryptography that the crate uses.
pub fn provider() -> Arc<CryptoProvider> {
    #[cfg(feature = "aws-lc-rs")]
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(not(feature = "aws-lc-rs"))]
    let provider = rustls::crypto::ring::default_provider();
    Arc::new(provider)
}

/// [`authority`], as rustls wants it.
pub fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(authority().der()).unwrap();
    roots
}

/// A client that trusts [`authority`] alone, as rustls has it.
pub fn client_config() -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots()).with_no_client_auth())
}

/// A server that is "localhost", as rustls has it.
pub fn server_config() -> Arc<ServerConfig> {
    let (chain, key) = localhost().rustls();
    let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap())
}

/// A client that trusts [`authority`] alone.
pub fn connector() -> TlsConnector {
    TlsConnector::builder().roots_from_pem(authority().pem()).build().unwrap()
}

/// A server that is [`localhost`].
pub fn acceptor() -> TlsAcceptor {
    TlsAcceptor::builder().identity(localhost().identity()).build().unwrap()
}

/// A client and a server that trust each other: for "localhost", 127.0.0.1 and ::1.
pub fn tls_pair() -> (TlsConnector, TlsAcceptor) {
    (connector(), acceptor())
}

//! Whom one trusts: root certificates.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls_native_certs::{ErrorKind, load_native_certs};

use crate::tls::error::{Origin, TlsConfigError, TlsConfigErrorKind};
use crate::tls::pem::Pem;

/// What roots given as bytes are called in errors.
const GIVEN: &str = "the root certificates given";

/// Roots of one's own, not read yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Roots(Vec<Source>);

#[derive(Clone)]
enum Source {
    PemFile(PathBuf),
    Pem(Vec<u8>),
    Der(Vec<u8>),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PemFile(path) => path.fmt(f),
            Self::Pem(bytes) | Self::Der(bytes) => write!(f, "[{} bytes]", bytes.len()),
        }
    }
}

impl Roots {
    pub(super) fn add_pem_file(&mut self, path: &Path) {
        self.0.push(Source::PemFile(path.to_owned()));
    }

    pub(super) fn add_pem(&mut self, text: &[u8]) {
        self.0.push(Source::Pem(text.to_owned()));
    }

    pub(super) fn add_der(&mut self, der: &[u8]) {
        self.0.push(Source::Der(der.to_owned()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads them, and adds them to those that are there.
    pub(super) fn load_into(&self, store: &mut RootCertStore) -> Result<(), TlsConfigError> {
        for source in &self.0 {
            let (origin, certificates) = match source {
                Source::PemFile(path) => {
                    let pem = Pem::read(path)?;
                    (pem.origin().clone(), pem.certificates()?)
                }
                Source::Pem(text) => {
                    let pem = Pem::given(GIVEN, text);
                    (pem.origin().clone(), pem.certificates()?)
                }
                Source::Der(der) => (Origin::Given(GIVEN), vec![CertificateDer::from(der.clone())]),
            };
            let count = certificates.len();
            for (index, certificate) in certificates.into_iter().enumerate() {
                store.add(certificate).map_err(|error| {
                    let reason = format!("certificate {} of {count} cannot be a root: {error}", index + 1);
                    TlsConfigError::new(TlsConfigErrorKind::UnusableRoot, &origin, reason)
                })?;
            }
        }
        Ok(())
    }
}

/// Nobody would be trusted, for no roots were given.
pub(super) fn no_roots(origin: &'static str, reason: &str) -> TlsConfigError {
    let error = TlsConfigError::new(TlsConfigErrorKind::NoRoots, &Origin::Given(origin), reason);
    error.with_io_kind(io::ErrorKind::InvalidInput)
}

/// The roots that the platform trusts, read once per process; again where it did not work.
pub(super) fn platform_roots() -> Result<Arc<RootCertStore>, TlsConfigError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(roots.clone());
    }
    let loaded = load_native_certs();
    let mut store = RootCertStore::empty();
    // Stores hold certificates that nobody can read any more. They are only missed where they are all there is.
    let (_, unusable) = store.add_parsable_certificates(loaded.certs);
    if store.is_empty() {
        return Err(empty_platform(unusable, &loaded.errors));
    }
    Ok(ROOTS.get_or_init(|| Arc::new(store)).clone())
}

fn empty_platform(unusable: usize, errors: &[rustls_native_certs::Error]) -> TlsConfigError {
    let path = errors.iter().find_map(|error| match &error.kind {
        ErrorKind::Io { path, .. } => Some(path.clone()),
        _ => None,
    });
    let origin = path.map_or(Origin::Given("the platform's trust store"), Origin::File);
    let mut reason = "the platform's trust store has no certificate that could be used".to_owned();
    if unusable > 0 {
        reason.push_str(&format!(" ({unusable} could not)"));
    }
    for error in errors {
        reason.push_str(&format!("; {error}"));
    }
    reason.push_str("; SSL_CERT_FILE and SSL_CERT_DIR say where else it is, own roots can be given instead");
    let error = TlsConfigError::new(TlsConfigErrorKind::NoRoots, &origin, reason);
    error.with_io_kind(io::ErrorKind::NotFound)
}

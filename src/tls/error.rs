//! What is wrong with a certificate, a key or a trust store, and in which file; and errors of connections, looked at.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{LastingError, invalid_data};

/// What kind of thing is wrong with what a TLS configuration is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsConfigErrorKind {
    /// The file cannot be read.
    Unreadable,
    /// It is no PEM: a section without an end, a bad first line, bad base64.
    Malformed,
    /// There is no certificate in it.
    NoCertificate,
    /// There is no private key in it.
    NoKey,
    /// The private key is encrypted.
    EncryptedKey,
    /// The private key is of no known kind, or damaged.
    UnusableKey,
    /// The certificate cannot be understood.
    UnusableCertificate,
    /// The private key is not the certificate's.
    KeyMismatch,
    /// The certificate has expired.
    Expired,
    /// The certificate is not valid yet.
    NotYetValid,
    /// The certificate does not name the host that it is meant for.
    NameMismatch,
    /// The root certificate cannot be used as one.
    UnusableRoot,
    /// There are no roots: nobody would be trusted.
    NoRoots,
}

/// A certificate, a key or a trust store cannot be used. The text says why, and which file it is about.
///
/// Found inside of an [`io::Error`] by [`get_ref`](io::Error::get_ref) and a downcast. That one is of the system's kind
/// (`NotFound`, `PermissionDenied` ..) for a file that cannot be read, `NotFound` where the platform has no roots,
/// `InvalidInput` where none were given, else `InvalidData`.
///
/// ```
/// use roundelay::{TlsConfigError, TlsConfigErrorKind, TlsIdentity};
///
/// let error = TlsIdentity::from_pem_files("no/such/cert.pem", "no/such/key.pem").unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
/// let error: &TlsConfigError = error.get_ref().unwrap().downcast_ref().unwrap();
/// assert_eq!(error.kind(), TlsConfigErrorKind::Unreadable);
/// assert_eq!(error.path().unwrap(), std::path::Path::new("no/such/cert.pem"));
/// assert!(error.to_string().starts_with("no/such/cert.pem: "));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfigError {
    kind: TlsConfigErrorKind,
    io_kind: io::ErrorKind,
    origin: Origin,
    reason: String,
}

impl TlsConfigError {
    pub(super) fn new(kind: TlsConfigErrorKind, origin: &Origin, reason: impl Into<String>) -> Self {
        Self { kind, io_kind: io::ErrorKind::InvalidData, origin: origin.clone(), reason: reason.into() }
    }

    /// A file that cannot be read.
    pub(super) fn unreadable(path: &Path, error: &io::Error) -> Self {
        let origin = Origin::File(path.to_owned());
        Self { io_kind: error.kind(), ..Self::new(TlsConfigErrorKind::Unreadable, &origin, error.to_string()) }
    }

    /// The same error, in an [`io::Error`] of this kind.
    pub(super) fn with_io_kind(self, io_kind: io::ErrorKind) -> Self {
        Self { io_kind, ..self }
    }

    /// What is wrong.
    pub fn kind(&self) -> TlsConfigErrorKind {
        self.kind
    }

    /// The file that it is about; `None` for what was given as bytes.
    pub fn path(&self) -> Option<&Path> {
        self.origin.path()
    }

    /// Why it cannot be used, without what it is about.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for TlsConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.reason)
    }
}

impl Error for TlsConfigError {}

impl From<TlsConfigError> for io::Error {
    fn from(error: TlsConfigError) -> Self {
        io::Error::new(error.io_kind, error)
    }
}

/// Where certificates and keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    File(PathBuf),
    /// What was given as bytes, by what it is.
    Given(&'static str),
}

impl Origin {
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Given(_) => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Given(what) => f.write_str(what),
        }
    }
}

/// The same error for somebody else.
pub(crate) fn copy_of(error: &io::Error) -> io::Error {
    match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        Some(error) => invalid_data(error.clone()),
        None => LastingError::new(error).get(),
    }
}

/// Whether the peer has gone without a word.
pub(crate) fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

//! Reading certificates and keys, with errors that say what is wrong.

use std::fs;
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::tls::error::{Origin, TlsConfigError, TlsConfigErrorKind};

/// A text in PEM, and where it is from.
pub(super) struct Pem {
    origin: Origin,
    text: Vec<u8>,
}

impl Pem {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Self, TlsConfigError> {
        let text = fs::read(path).map_err(|error| TlsConfigError::unreadable(path, &error))?;
        Ok(Self::new(Origin::File(path.to_owned()), text))
    }

    pub(super) fn given(what: &'static str, text: &[u8]) -> Self {
        Self::new(Origin::Given(what), text.to_owned())
    }

    fn new(origin: Origin, mut text: Vec<u8>) -> Self {
        // With it in front the first section would not be seen, and the others would be taken for all there are.
        if text.starts_with(BYTE_ORDER_MARK) {
            text.drain(..BYTE_ORDER_MARK.len());
        }
        Self { origin, text }
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    fn error(&self, kind: TlsConfigErrorKind, reason: impl Into<String>) -> TlsConfigError {
        TlsConfigError::new(kind, &self.origin, reason)
    }

    /// Every certificate in it, of which there is at least one.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
        let mut certificates = Vec::new();
        for section in self.sections() {
            let (kind, der) = section?;
            certificates.extend(CertificateDer::from_pem(kind, der));
        }
        if certificates.is_empty() {
            let reason = format!("there is no certificate in it{}", self.contents());
            return Err(self.error(TlsConfigErrorKind::NoCertificate, reason));
        }
        Ok(certificates)
    }

    /// The first private key in it.
    pub(super) fn key(&self) -> Result<PrivateKeyDer<'static>, TlsConfigError> {
        if self.has_encrypted_key() {
            return Err(encrypted_key(&self.origin));
        }
        for section in self.sections() {
            let (kind, der) = section?;
            if let Some(key) = PrivateKeyDer::from_pem(kind, der) {
                return Ok(key);
            }
        }
        Err(self.error(TlsConfigErrorKind::NoKey, format!("there is no private key in it{}", self.contents())))
    }

    fn sections(&self) -> impl Iterator<Item = Result<(SectionKind, Vec<u8>), TlsConfigError>> + '_ {
        let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(&self.text);
        let sections = sections.map(|section| section.map_err(|error| self.malformed(&error)));
        self.indented().map(Err).into_iter().chain(sections)
    }

    /// A section that is indented would be passed over without a word.
    fn indented(&self) -> Option<TlsConfigError> {
        let mut lines = self.text.split(|byte| matches!(byte, b'\n' | b'\r'));
        let line = lines.find(|line| {
            matches!(line.first(), Some(b' ' | b'\t')) && line.trim_ascii_start().starts_with(b"-----BEGIN ")
        })?;
        let reason = format!("a section is indented: {:?}", String::from_utf8_lossy(line));
        Some(self.error(TlsConfigErrorKind::Malformed, reason))
    }

    fn malformed(&self, error: &pem::Error) -> TlsConfigError {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let reason = match error {
            pem::Error::MissingSectionEnd { end_marker } => {
                format!("a section has no end: {:?} is missing", format!("-----END {}-----", text(end_marker)))
            }
            pem::Error::IllegalSectionStart { line } => format!("bad first line of a section: {:?}", text(line)),
            error => error.to_string(),
        };
        self.error(TlsConfigErrorKind::Malformed, reason)
    }

    /// The names of the sections, known or not.
    fn labels(&self) -> impl Iterator<Item = &str> {
        let lines = self.text.split(|byte| matches!(byte, b'\n' | b'\r'));
        let lines = lines.filter_map(|line| std::str::from_utf8(line).ok());
        lines.filter_map(|line| line.trim_end().strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
    }

    /// What there is instead of what was looked for.
    fn contents(&self) -> String {
        let mut labels: Vec<&str> = self.labels().collect();
        labels.dedup();
        if !labels.is_empty() {
            format!(", only: {}", labels.join(", "))
        } else if self.text.first() == Some(&SEQUENCE) {
            ", nor anything else in PEM: it could be DER".to_owned()
        } else {
            ", nor anything else in PEM".to_owned()
        }
    }

    /// In one of the two forms: in a section of its own, or with a header that says so.
    fn has_encrypted_key(&self) -> bool {
        let header = b"Proc-Type: 4,ENCRYPTED";
        let first_key = self.labels().find(|label| label.ends_with("PRIVATE KEY"));
        first_key == Some("ENCRYPTED PRIVATE KEY") || self.text.windows(header.len()).any(|window| window == header)
    }
}

/// Some editors put it in front of texts in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The first byte of everything that is looked for here, in DER.
const SEQUENCE: u8 = 0x30;

/// A private key in DER: in PKCS#8, SEC1 or PKCS#1.
pub(super) fn key_of_der(origin: &Origin, der: &[u8]) -> Result<PrivateKeyDer<'static>, TlsConfigError> {
    PrivateKeyDer::try_from(der.to_owned()).map_err(|reason| {
        if is_encrypted_pkcs8(der) {
            encrypted_key(origin)
        } else {
            TlsConfigError::new(TlsConfigErrorKind::UnusableKey, origin, reason)
        }
    })
}

/// A sequence that begins with a sequence, which names the cipher; all the others begin with a version.
fn is_encrypted_pkcs8(der: &[u8]) -> bool {
    let (Some(&SEQUENCE), Some(&length)) = (der.first(), der.get(1)) else { return false };
    // A long length is preceded by how many bytes it takes.
    let more = if length & 0x80 == 0 { 0 } else { usize::from(length & 0x7f) };
    der.get(2 + more) == Some(&SEQUENCE)
}

fn encrypted_key(origin: &Origin) -> TlsConfigError {
    let reason = "the private key is encrypted, which is not supported: decrypt it (openssl pkey -in .. -out ..) and \
                  protect the file by its permissions";
    TlsConfigError::new(TlsConfigErrorKind::EncryptedKey, origin, reason)
}

//! Who one is: a chain of certificates, and the key of the first.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::{CertificateDer, DnsName, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, InconsistentKeys, RootCertStore};

use crate::tls::error::{Origin, TlsConfigError, TlsConfigErrorKind};
use crate::tls::pem::{Pem, key_of_der};
use crate::tls::provider::provider;

/// A certificate with its private key: who a server is, or a client that has to say so.
///
/// The chain begins with one's own certificate; those of the authorities between it and the root follow, each the issuer
/// of the one before; the root may be missing. Keys are in PKCS#8, SEC1 or PKCS#1: RSA, ECDSA (P-256, P-384; P-521 with
/// `aws-lc-rs`) or Ed25519. Encrypted keys are refused.
///
/// Everything is checked when it is made: that the key fits the certificate, and that today is one of the days on which
/// the certificate is valid. What fails is a [`TlsConfigError`](crate::TlsConfigError) inside of the [`io::Error`], which
/// says which file it is about. Clones share what they hold; the key appears in no output.
///
/// ```
/// use roundelay::TlsIdentity;
///
/// let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
/// let identity = TlsIdentity::from_pem(made.cert.pem(), made.signing_key.serialize_pem())?;
/// assert_eq!(identity.chain().len(), 1);
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct TlsIdentity {
    pub(super) certified: Arc<CertifiedKey>,
    /// Where the certificates are from.
    origin: Origin,
}

impl TlsIdentity {
    /// Reads the chain from one file in PEM and the key from another. Reading blocks: do it before the loop runs, or in
    /// [`spawn_blocking`](crate::spawn_blocking).
    ///
    /// # Errors
    ///
    /// A [`TlsConfigError`](crate::TlsConfigError): one of the files cannot be read, is no PEM, or does not hold what it
    /// should; the key is encrypted, of no known kind, or not the certificate's; the certificate has expired or is not
    /// valid yet.
    ///
    /// ```no_run
    /// use roundelay::{TlsAcceptor, TlsIdentity};
    ///
    /// let identity = TlsIdentity::from_pem_files("/etc/ssl/example.org.pem", "/etc/ssl/private/example.org.key")?;
    /// let acceptor = TlsAcceptor::builder().identity(identity).build()?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn from_pem_files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> io::Result<Self> {
        Self::of_pem(&Pem::read(chain.as_ref())?, &Pem::read(key.as_ref())?)
    }

    /// Reads chain and key from the same file in PEM, in any order. Reading blocks.
    ///
    /// # Errors
    ///
    /// As [`from_pem_files`](Self::from_pem_files).
    pub fn from_pem_file(path: impl AsRef<Path>) -> io::Result<Self> {
        let pem = Pem::read(path.as_ref())?;
        Self::of_pem(&pem, &pem)
    }

    /// From a chain and a key in PEM. What else there is in the texts is passed over: they may be the same.
    ///
    /// # Errors
    ///
    /// As [`from_pem_files`](Self::from_pem_files), apart from files.
    pub fn from_pem(chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> io::Result<Self> {
        Self::of_pem(&Pem::given("the certificates given", chain.as_ref()), &Pem::given("the key given", key.as_ref()))
    }

    /// From the certificates of a chain and a key in DER.
    ///
    /// # Errors
    ///
    /// As [`from_pem_files`](Self::from_pem_files), apart from files.
    ///
    /// ```
    /// use roundelay::TlsIdentity;
    ///
    /// let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    /// let identity = TlsIdentity::from_der([made.cert.der()], made.signing_key.serialize_der())?;
    /// assert_eq!(identity.chain().next(), Some(&made.cert.der()[..]));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn from_der<C: AsRef<[u8]>>(chain: impl IntoIterator<Item = C>, key: impl AsRef<[u8]>) -> io::Result<Self> {
        let chain: Vec<_> = chain.into_iter().map(|der| CertificateDer::from(der.as_ref().to_owned())).collect();
        let (chain_origin, key_origin) = (Origin::Given("the certificates given"), Origin::Given("the key given"));
        if chain.is_empty() {
            let none = TlsConfigError::new(TlsConfigErrorKind::NoCertificate, &chain_origin, "there are none");
            return Err(none.into());
        }
        let key = key_of_der(&key_origin, key.as_ref())?;
        Ok(Self::check(chain, &chain_origin, key, &key_origin)?)
    }

    /// The certificates, one's own first, in DER.
    pub fn chain(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.certified.cert.iter().map(AsRef::as_ref)
    }

    fn of_pem(chain: &Pem, key: &Pem) -> io::Result<Self> {
        // The key first: an encrypted one in the same file would look like a damaged section.
        let of_key = key.key()?;
        Ok(Self::check(chain.certificates()?, chain.origin(), of_key, key.origin())?)
    }

    fn check(
        chain: Vec<CertificateDer<'static>>,
        origin: &Origin,
        key: PrivateKeyDer<'static>,
        key_origin: &Origin,
    ) -> Result<Self, TlsConfigError> {
        let key = provider().key_provider.load_private_key(key).map_err(|error| {
            // A general error says no more than its text.
            let reason = if let Error::General(text) = error { text } else { error.to_string() };
            TlsConfigError::new(TlsConfigErrorKind::UnusableKey, key_origin, reason)
        })?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            // Of a key that cannot tell its public half nothing is known.
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => return Err(key_mismatch(&certified, origin, key_origin)),
            Err(error) => return Err(unusable(origin, &error)),
        }
        check_validity(&certified.cert[0], origin)?;
        Ok(Self { certified: Arc::new(certified), origin: origin.clone() })
    }

    /// Whether the certificate is made out to this name.
    pub(super) fn check_name(&self, name: &DnsName<'static>) -> Result<(), TlsConfigError> {
        let server_name = ServerName::DnsName(name.clone());
        let checked = ParsedCertificate::try_from(&self.certified.cert[0])
            .and_then(|certificate| verify_server_name(&certificate, &server_name));
        checked.map_err(|error| {
            let reason = match &error {
                Error::InvalidCertificate(error) => error.to_string(),
                error => error.to_string(),
            };
            TlsConfigError::new(TlsConfigErrorKind::NameMismatch, &self.origin, reason)
        })
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity")
            .field("path", &self.origin.path())
            .field("certificates", &self.certified.cert.len())
            .field("algorithm", &self.certified.key.algorithm())
            .finish_non_exhaustive()
    }
}

fn unusable(origin: &Origin, error: &Error) -> TlsConfigError {
    TlsConfigError::new(
        TlsConfigErrorKind::UnusableCertificate,
        origin,
        format!("the certificate is unusable: {error}"),
    )
}

/// The key is not the first certificate's. It may be that of another, which would have to come first.
fn key_mismatch(certified: &CertifiedKey, origin: &Origin, key_origin: &Origin) -> TlsConfigError {
    let fits = |certificate: &CertificateDer<'static>| {
        CertifiedKey::new(vec![certificate.clone()], certified.key.clone()).keys_match().is_ok()
    };
    let holder = if origin == key_origin { "the file".to_owned() } else { origin.to_string() };
    let reason = match certified.cert.iter().position(fits) {
        Some(index) => format!(
            "the private key does not fit the first certificate in {holder}, but number {}: that one has to come first",
            index + 1
        ),
        None => format!("the private key does not fit the certificate in {holder}"),
    };
    TlsConfigError::new(TlsConfigErrorKind::KeyMismatch, key_origin, reason)
}

/// Today is one of the days on which the certificate is valid. Those of its issuers are the peer's business, which may
/// know another way to a root.
fn check_validity(certificate: &CertificateDer<'_>, origin: &Origin) -> Result<(), TlsConfigError> {
    let parsed = ParsedCertificate::try_from(certificate).map_err(|error| unusable(origin, &error))?;
    let nobody = RootCertStore::empty();
    let algorithms = provider().signature_verification_algorithms.all;
    // Where nobody is trusted this fails in any case, but the days are looked at first.
    let checked = verify_server_cert_signed_by_trust_anchor(&parsed, &nobody, &[], UnixTime::now(), algorithms);
    let Err(Error::InvalidCertificate(error)) = checked else { return Ok(()) };
    let (kind, reason) = match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            let reason = format!("the certificate has expired: it was valid until {}", date(not_after));
            (TlsConfigErrorKind::Expired, reason)
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            let reason = format!("the certificate is not valid yet: it will be from {}", date(not_before));
            (TlsConfigErrorKind::NotYetValid, reason)
        }
        // It would begin after it ends.
        CertificateError::Expired => (TlsConfigErrorKind::Expired, "the certificate is never valid".to_owned()),
        _ => return Ok(()),
    };
    Err(TlsConfigError::new(kind, origin, reason))
}

/// A time for people: the day and the hour, of Greenwich.
fn date(time: UnixTime) -> String {
    let (days, seconds) = (time.as_secs() / 86_400, time.as_secs() % 86_400);
    // Years that begin in March have the leap day at their end, and 400 of them have always as many days.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let known = [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_800, "2000-03-01 00:00:00 UTC"),
            (1_009_843_199, "2001-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
            (253_402_300_799, "9999-12-31 23:59:59 UTC"),
        ];
        for (seconds, text) in known {
            assert_eq!(date(UnixTime::since_unix_epoch(Duration::from_secs(seconds))), text);
        }
    }
}

//! Who is trusted, who one is: what TLS is configured with, and what is wrong with it.

#![cfg(feature = "__tls")]

#[path = "common/certificates.rs"]
mod certificates;

use std::io::{self, ErrorKind};
use std::path::Path;
use std::process::Command;

use certificates::{Authority, Certified, Files, authority, localhost};
use roundelay::{ClientAuth, TlsAcceptor, TlsConfigError, TlsConfigErrorKind, TlsConnector, TlsIdentity, TlsVersion};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// The error inside of an `io::Error`.
#[track_caller]
fn wrong<T: std::fmt::Debug>(result: io::Result<T>, kind: TlsConfigErrorKind, io_kind: ErrorKind) -> TlsConfigError {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), io_kind, "{error}");
    let inner: &TlsConfigError = error.get_ref().unwrap().downcast_ref().unwrap_or_else(|| panic!("{error:?}"));
    assert_eq!(inner.kind(), kind, "{error}");
    assert_eq!(error.to_string(), inner.to_string());
    inner.clone()
}

/// The same, of one file; gives why it is wrong.
#[track_caller]
fn wrong_file<T: std::fmt::Debug>(result: io::Result<T>, kind: TlsConfigErrorKind, path: &Path) -> String {
    let error = wrong(result, kind, ErrorKind::InvalidData);
    assert_eq!(error.path(), Some(path));
    assert_eq!(error.to_string(), format!("{}: {}", path.display(), error.reason()));
    error.reason().to_owned()
}

fn files() -> Files {
    Files::new(authority(), localhost())
}

/// The section of this name around these bytes.
fn section(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in der.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            let is_padding = digit > group.len();
            text.push(if is_padding { '=' } else { char::from(DIGITS[(bits >> (18 - 6 * digit)) as usize & 63]) });
        }
    }
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[test]
fn an_identity_is_read_from_files_texts_and_bytes() {
    let files = files();
    let certified = localhost();
    let all = [
        TlsIdentity::from_pem_files(&files.cert, &files.key),
        TlsIdentity::from_pem_files(&files.both, &files.both),
        TlsIdentity::from_pem_file(&files.both),
        TlsIdentity::from_pem_file(files.write("turned.pem", certified.key_pem.clone() + &certified.pem)),
        TlsIdentity::from_pem(&certified.pem, &certified.key_pem),
        TlsIdentity::from_pem(certified.pem.replace('\n', "\r\n"), certified.key_pem.replace('\n', "\r\n")),
        TlsIdentity::from_der(&certified.chain, &certified.key),
    ];
    for identity in all {
        let identity = identity.unwrap();
        assert_eq!(identity.chain().collect::<Vec<_>>(), [&certified.chain[0][..]]);
        TlsAcceptor::builder().identity(identity.clone()).build().unwrap();
        TlsConnector::builder().roots_from_pem_file(&files.ca).identity(identity).build().unwrap();
    }
}

#[test]
fn a_chain_of_several_is_kept_in_its_order() {
    let root = Authority::new("root");
    let between = root.intermediate("between");
    let certified = between.server(&["localhost"]).with(&between);
    let identity = certified.identity();
    assert_eq!(identity.chain().collect::<Vec<_>>(), [&certified.chain[0][..], &between.der()[..]]);
}

#[test]
fn what_is_printed_of_an_identity_does_not_have_the_key() {
    let files = files();
    let identity = TlsIdentity::from_pem_files(&files.cert, &files.key).unwrap();
    let text = format!("{identity:?}");
    assert!(text.contains("cert.pem"), "{text}");
    assert!(text.contains("ECDSA"), "{text}");
    let acceptor = TlsAcceptor::builder().identity(identity.clone()).identity_for("localhost", identity.clone());
    let connector = TlsConnector::builder().roots_from_pem(authority().pem()).identity(identity);
    let all = [
        format!("{acceptor:?}"),
        format!("{:?}", acceptor.build().unwrap()),
        format!("{connector:?}"),
        format!("{:?}", connector.build().unwrap()),
        text,
    ];
    // As bytes of a list, which is how it would be printed.
    let key = &localhost().key;
    let secret = format!("{:?}", &key[key.len() / 2..key.len() / 2 + 6]);
    let secret = secret.trim_matches(['[', ']']);
    for text in all {
        assert!(!text.contains(secret), "{text}");
        assert!(text.len() < 1_000, "{text}");
    }
}

/// PKCS#8 is what the other tests have. The key of the others stands in it: at its end, in SEC1.
#[test]
fn keys_in_sec1_and_in_pkcs1_are_read() {
    let files = files();
    let certified = localhost();
    let sec1 = sec1_of(&certified.key);
    // The curve is named by a section of its own before the key, as by openssl.
    let text = section("EC PARAMETERS", &[6, 8, 42, 134, 72, 206, 61, 3, 1, 7]) + &section("EC PRIVATE KEY", &sec1);
    let key = files.write("sec1.pem", text);
    assert!(matches!(PrivateKeyDer::from_pem_file(&key).unwrap(), PrivateKeyDer::Sec1(_)));
    TlsIdentity::from_pem_files(&files.cert, &key).unwrap();
    TlsIdentity::from_der(&certified.chain, &sec1).unwrap();

    // Of a number of 2048 bits there is no quick one: that the form is known shows in what is said of its contents.
    let pkcs1 = [0x30, 6, 2, 1, 0, 2, 1, 5];
    let key = files.write("pkcs1.pem", section("RSA PRIVATE KEY", &pkcs1));
    let reason = wrong_file(TlsIdentity::from_pem_files(&files.cert, &key), TlsConfigErrorKind::UnusableKey, &key);
    assert!(reason.contains("private key"), "{reason}");
}

/// The key within PKCS#8, with the curve appended that PKCS#8 names outside of it.
fn sec1_of(pkcs8: &[u8]) -> Vec<u8> {
    let at = pkcs8.windows(5).position(|window| window[0] == 4 && window[2] == 0x30 && window[4] == 2).unwrap();
    let inner = &pkcs8[at + 4..at + 2 + usize::from(pkcs8[at + 1])];
    // Version and number; then the curve, P-256; then the public half.
    let (numbers, public) = inner.split_at(3 + 34);
    let curve = [0xa0, 10, 6, 8, 42, 134, 72, 206, 61, 3, 1, 7];
    let body = [numbers, &curve, public].concat();
    [&[0x30, u8::try_from(body.len()).unwrap()], &body[..]].concat()
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let files = files();
    let missing = files.folder.path().join("missing.pem");
    let roots = || TlsConnector::builder().roots_from_pem_file(&missing).build();
    let clients = || {
        let builder = TlsAcceptor::builder().identity(localhost().identity());
        builder.client_auth(ClientAuth::Required).client_roots_from_pem_file(&missing).build()
    };
    let all = [
        wrong(TlsIdentity::from_pem_file(&missing), TlsConfigErrorKind::Unreadable, ErrorKind::NotFound),
        wrong(TlsIdentity::from_pem_files(&missing, &files.key), TlsConfigErrorKind::Unreadable, ErrorKind::NotFound),
        wrong(TlsIdentity::from_pem_files(&files.cert, &missing), TlsConfigErrorKind::Unreadable, ErrorKind::NotFound),
        wrong(roots(), TlsConfigErrorKind::Unreadable, ErrorKind::NotFound),
        wrong(clients(), TlsConfigErrorKind::Unreadable, ErrorKind::NotFound),
    ];
    for error in all {
        assert_eq!(error.path(), Some(&*missing));
        assert!(error.to_string().starts_with(&format!("{}: ", missing.display())), "{error}");
    }
    // A folder is no file.
    let error = TlsIdentity::from_pem_file(files.folder.path()).unwrap_err();
    assert!(error.to_string().starts_with(&files.folder.path().display().to_string()), "{error}");
}

#[test]
fn a_file_without_what_it_should_hold_is_named_and_what_it_holds_instead() {
    let files = files();
    let of_cert = |path: &Path| TlsIdentity::from_pem_files(path, &files.key);
    let of_key = |path: &Path| TlsIdentity::from_pem_files(&files.cert, path);
    let reason = wrong_file(of_cert(&files.key), TlsConfigErrorKind::NoCertificate, &files.key);
    assert_eq!(reason, "there is no certificate in it, only: PRIVATE KEY");
    let reason = wrong_file(of_key(&files.cert), TlsConfigErrorKind::NoKey, &files.cert);
    assert_eq!(reason, "there is no private key in it, only: CERTIFICATE");

    let empty = files.write("empty.pem", "");
    let reason = wrong_file(of_cert(&empty), TlsConfigErrorKind::NoCertificate, &empty);
    assert_eq!(reason, "there is no certificate in it, nor anything else in PEM");
    let der = files.write("cert.der", &localhost().chain[0]);
    let reason = wrong_file(of_cert(&der), TlsConfigErrorKind::NoCertificate, &der);
    assert_eq!(reason, "there is no certificate in it, nor anything else in PEM: it could be DER");
    let openssh = files.write("id", section("OPENSSH PRIVATE KEY", b"openssh-key-v1\0"));
    let reason = wrong_file(of_key(&openssh), TlsConfigErrorKind::NoKey, &openssh);
    assert_eq!(reason, "there is no private key in it, only: OPENSSH PRIVATE KEY");

    let roots = |path: &Path| TlsConnector::builder().roots_from_pem_file(path).build();
    wrong_file(roots(&files.key), TlsConfigErrorKind::NoCertificate, &files.key);
    let none = TlsIdentity::from_der([] as [&[u8]; 0], &localhost().key);
    let error = wrong(none, TlsConfigErrorKind::NoCertificate, ErrorKind::InvalidData);
    assert_eq!((error.path(), error.to_string().as_str()), (None, "the certificates given: there are none"));
}

/// Nothing in a file is passed over for what stands in front of it: a mark that editors put there is taken away, a section
/// that is indented is an error.
#[test]
fn no_section_is_passed_over_for_what_stands_in_front_of_it() {
    let certified = localhost();
    let other = authority().pem();
    let chain = format!("\u{feff}{}{other}", certified.pem);
    let identity = TlsIdentity::from_pem(chain, format!("\u{feff}{}", certified.key_pem)).unwrap();
    assert_eq!(identity.chain().len(), 2);

    for blank in [" ", "\t"] {
        let indented = format!("{other}{blank}{}", certified.pem);
        let roots = TlsConnector::builder().roots_from_pem(indented).build();
        let error = wrong(roots, TlsConfigErrorKind::Malformed, ErrorKind::InvalidData);
        assert_eq!(
            error.reason(),
            format!("a section is indented: {:?}", format!("{blank}-----BEGIN CERTIFICATE-----"))
        );
    }
    let key = TlsIdentity::from_pem(&certified.pem, format!(" {}", certified.key_pem));
    wrong(key, TlsConfigErrorKind::Malformed, ErrorKind::InvalidData);
}

#[test]
fn bad_pem_is_named_and_why_it_is_bad() {
    let files = files();
    let certified = localhost();
    let of_cert = |path: &Path| TlsIdentity::from_pem_files(path, &files.key);

    let digits = files.write("digits.pem", certified.pem.replacen("MII", "M*I", 1));
    let reason = wrong_file(of_cert(&digits), TlsConfigErrorKind::Malformed, &digits);
    assert!(reason.contains("base64"), "{reason}");
    let endless = files.write("endless.pem", certified.pem.split("-----END").next().unwrap());
    let reason = wrong_file(of_cert(&endless), TlsConfigErrorKind::Malformed, &endless);
    assert_eq!(reason, "a section has no end: \"-----END CERTIFICATE-----\" is missing");
    let start = files.write("start.pem", certified.pem.replacen("CERTIFICATE-----", "CERTIFICATE----", 1));
    let reason = wrong_file(of_cert(&start), TlsConfigErrorKind::Malformed, &start);
    assert_eq!(reason, "bad first line of a section: \"-----BEGIN CERTIFICATE----\"");

    let key = files.write("key.pem", certified.key_pem.replacen("MIG", "M*G", 1));
    wrong_file(TlsIdentity::from_pem_files(&files.cert, &key), TlsConfigErrorKind::Malformed, &key);
    let error = wrong(
        TlsIdentity::from_pem(&certified.pem, certified.key_pem.replacen("MIG", "M*G", 1)),
        TlsConfigErrorKind::Malformed,
        ErrorKind::InvalidData,
    );
    assert!(error.to_string().starts_with("the key given: "), "{error}");
    let roots = TlsConnector::builder().roots_from_pem_file(&digits).build();
    wrong_file(roots, TlsConfigErrorKind::Malformed, &digits);
}

#[test]
fn encrypted_keys_are_refused_with_a_clear_text() {
    let files = files();
    let certified = localhost();
    // Sequence of what it is encrypted by, and of what is encrypted.
    let der = [0x30, 0x81, 12, 0x30, 5, 6, 1, 42, 5, 0, 4, 3, 1, 2, 3];
    let pkcs8 = section("ENCRYPTED PRIVATE KEY", &der);
    let header = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n\
                  -----END RSA PRIVATE KEY-----\n";
    for text in [pkcs8.as_str(), header] {
        let key = files.write("encrypted.pem", text);
        let both = files.write("both.pem", certified.pem.clone() + text);
        let found = TlsIdentity::from_pem_files(&files.cert, &key);
        let reason = wrong_file(found, TlsConfigErrorKind::EncryptedKey, &key);
        assert!(reason.starts_with("the private key is encrypted, which is not supported"), "{reason}");
        wrong_file(TlsIdentity::from_pem_file(&both), TlsConfigErrorKind::EncryptedKey, &both);
    }
    let of_der = |key: &[u8]| TlsIdentity::from_der(&certified.chain, key);
    wrong(of_der(&der), TlsConfigErrorKind::EncryptedKey, ErrorKind::InvalidData);
    for garbage in [&b""[..], b"\x30", b"\x30\xff", b"\x30\x81", b"\x30\x81\x01\x02", b"no key"] {
        wrong(of_der(garbage), TlsConfigErrorKind::UnusableKey, ErrorKind::InvalidData);
    }
}

#[test]
fn a_key_that_does_not_fit_is_named_and_the_certificate() {
    let files = files();
    let other = authority().server(&["localhost"]);
    let key = files.write("other.key", &other.key_pem);
    let reason = wrong_file(TlsIdentity::from_pem_files(&files.cert, &key), TlsConfigErrorKind::KeyMismatch, &key);
    let cert = files.cert.display();
    assert_eq!(reason, format!("the private key does not fit the certificate in {cert}"));

    // The frequent mistake: the chain is upside down.
    let certified = localhost();
    let chain = files.write("chain.pem", authority().pem() + &certified.pem);
    let found = TlsIdentity::from_pem_files(&chain, &files.key);
    let reason = wrong_file(found, TlsConfigErrorKind::KeyMismatch, &files.key);
    assert!(reason.ends_with("but number 2: that one has to come first"), "{reason}");
}

#[test]
fn keys_and_certificates_that_are_none_are_named() {
    let files = files();
    let key = files.write("garbage.key", section("PRIVATE KEY", b"garbage"));
    let reason = wrong_file(TlsIdentity::from_pem_files(&files.cert, &key), TlsConfigErrorKind::UnusableKey, &key);
    assert!(reason.contains("failed to parse private key"), "{reason}");
    let cert = files.write("garbage.pem", section("CERTIFICATE", b"garbage"));
    let found = TlsIdentity::from_pem_files(&cert, &files.key);
    let reason = wrong_file(found, TlsConfigErrorKind::UnusableCertificate, &cert);
    assert!(reason.starts_with("the certificate is unusable: "), "{reason}");

    let roots = files.write("roots.pem", authority().pem() + &section("CERTIFICATE", b"garbage"));
    let found = TlsConnector::builder().roots_from_pem_file(&roots).build();
    let reason = wrong_file(found, TlsConfigErrorKind::UnusableRoot, &roots);
    assert!(reason.starts_with("certificate 2 of 2 cannot be a root: "), "{reason}");
    let found = TlsConnector::builder().root_from_der(b"garbage").build();
    let error = wrong(found, TlsConfigErrorKind::UnusableRoot, ErrorKind::InvalidData);
    assert!(error.to_string().starts_with("the root certificates given: certificate 1 of 1 "), "{error}");
}

#[test]
fn an_identity_that_is_not_valid_today_is_refused_and_the_error_has_the_day() {
    let of = |certified: &Certified| {
        let files = Files::new(authority(), certified);
        let result = TlsIdentity::from_pem_files(&files.cert, &files.key);
        (result, files)
    };
    let (expired, files) = of(&authority().expired(&["localhost"]));
    let reason = wrong_file(expired, TlsConfigErrorKind::Expired, &files.cert);
    assert_eq!(reason, "the certificate has expired: it was valid until 2001-12-31 00:00:00 UTC");
    let (early, files) = of(&authority().not_yet_valid(&["localhost"]));
    let reason = wrong_file(early, TlsConfigErrorKind::NotYetValid, &files.cert);
    assert_eq!(reason, "the certificate is not valid yet: it will be from 2999-01-01 00:00:00 UTC");
    let (never, files) = of(&authority().server_valid(&["localhost"], (2030, 1, 1), (2020, 1, 1)));
    let reason = wrong_file(never, TlsConfigErrorKind::Expired, &files.cert);
    assert_eq!(reason, "the certificate is never valid");

    // What is behind it in the chain may have ended: many servers send such on purpose.
    let mut certified = localhost().clone();
    let old = authority().expired(&["old authority"]);
    certified.pem.push_str(&old.pem);
    assert_eq!(certified.identity().chain().len(), 2);
    // So may what one has oneself: a self-signed certificate is nobody's but its own.
    let own = Authority::new("own");
    TlsConnector::builder().root_from_der(own.der()).build().unwrap();
}

#[test]
fn nobody_to_trust_is_an_error() {
    let found = TlsConnector::builder().platform_roots(false).build();
    let error = wrong(found, TlsConfigErrorKind::NoRoots, ErrorKind::InvalidInput);
    assert!(error.to_string().starts_with("TlsConnector::builder: there are no roots: "), "{error}");
    let builder = TlsAcceptor::builder().identity(localhost().identity()).client_auth(ClientAuth::Optional);
    let error = wrong(builder.build(), TlsConfigErrorKind::NoRoots, ErrorKind::InvalidInput);
    assert!(error.to_string().contains("client_auth(Optional) needs roots for clients"), "{error}");
    // Who checks nothing needs nobody.
    TlsConnector::builder().platform_roots(false).dangerous().accept_any_certificate().build().unwrap();
    let names_only = TlsConnector::builder().platform_roots(false).dangerous().without_hostname_check();
    wrong(names_only.build(), TlsConfigErrorKind::NoRoots, ErrorKind::InvalidInput);
}

/// Settings that cannot be, or do not go together, are `InvalidInput` and name the builder and what is wrong.
#[test]
fn settings_that_cannot_be_are_refused() {
    #[track_caller]
    fn refused<T: std::fmt::Debug>(result: io::Result<T>, text: &str) {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(text), "{error}");
    }
    let client = || TlsConnector::builder().roots_from_pem(authority().pem());
    let server = || TlsAcceptor::builder().identity(localhost().identity());
    refused(client().alpn([""]).build(), "TlsConnector::builder: alpn(): a name of 0 bytes: it takes 1 to 255");
    refused(server().alpn(["x".repeat(256)]).build(), "TlsAcceptor::builder: alpn(): a name of 256 bytes");
    refused(client().alpn((0..300).map(|_| "x".repeat(255))).build(), "alpn(): the names do not fit into 65535 bytes");
    let swapped = client().min_version(TlsVersion::Tls13).max_version(TlsVersion::Tls12);
    refused(swapped.build(), "min_version(TLSv1.3) is above max_version(TLSv1.2)");
    let swapped = server().min_version(TlsVersion::Tls13).max_version(TlsVersion::Tls12);
    refused(swapped.build(), "min_version(TLSv1.3) is above max_version(TLSv1.2)");
    refused(
        server().resumption(false).tls13_tickets(1).build(),
        "tls13_tickets() cannot be used with resumption(false)",
    );
    server().resumption(false).tls13_tickets(0).build().unwrap();
    refused(TlsAcceptor::builder().build(), "nobody knows who the server is");
    let roots = server().client_roots_from_pem(authority().pem());
    refused(roots.build(), "without client_auth(Optional) or client_auth(Required)");

    let identity = localhost().identity();
    for name in ["", "*", "*.", "a b", "*.*.example", "127.0.0.1", "example..", "bücher.example"] {
        let text = format!("TlsAcceptor::builder: identity_for({name:?}): not a DNS name");
        refused(server().identity_for(name, identity.clone()).build(), &text);
    }
    let twice = server().identity_for("localhost", identity.clone()).identity_for("LOCALHOST.", identity.clone());
    refused(twice.build(), "identity_for(\"LOCALHOST.\"): given twice");
    let named = server().identity_for("elsewhere.example", identity);
    let error = wrong(named.build(), TlsConfigErrorKind::NameMismatch, ErrorKind::InvalidData);
    assert!(error.reason().contains("elsewhere.example") && error.reason().contains("localhost"), "{error}");
}

#[test]
fn a_configuration_of_rustls_is_taken_as_it_is() {
    let (chain, key) = localhost().rustls();
    let provider = std::sync::Arc::new(chosen::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider.clone());
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let acceptor = TlsAcceptor::from(std::sync::Arc::new(config.with_single_cert(chain, key).unwrap()));
    assert!(format!("{acceptor:?}").contains("require_close_notify: false"));
    let config = rustls::ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let connector = TlsConnector::from(std::sync::Arc::new(config));
    assert!(format!("{connector:?}").contains("AsConfigured"));
    // The process has no cryptography of its own that all this would have needed.
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
}

#[cfg(feature = "aws-lc-rs")]
use rustls::crypto::aws_lc_rs as chosen;
#[cfg(not(feature = "aws-lc-rs"))]
use rustls::crypto::ring as chosen;

/// Runs one of the tests below in a process of its own, with the platform's trust store where it is said.
fn with_trust_store(test: &str, file: &Path) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env("ROUNDELAY_TLS_CHILD", "1")
        .env("SSL_CERT_FILE", file)
        .env_remove("SSL_CERT_DIR")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn is_child() -> bool {
    std::env::var_os("ROUNDELAY_TLS_CHILD").is_some()
}

/// TL-05: the default trusts whom the platform trusts; what is wrong there is told when it is used.
#[test]
fn the_platforms_trust_store_is_used_by_default() {
    if !is_child() {
        return with_trust_store("the_platforms_trust_store_is_used_by_default", &files().ca);
    }
    TlsConnector::new().unwrap();
    assert!(format!("{:?}", TlsConnector::default()).contains("Everything"));
    TlsConnector::builder().build().unwrap();
    TlsConnector::builder().roots_from_pem(authority().pem()).platform_roots(true).build().unwrap();
}

#[test]
fn an_empty_trust_store_of_the_platform_is_an_error_that_says_where_it_is() {
    if !is_child() {
        let files = files();
        let missing = files.folder.path().join("missing.pem");
        return with_trust_store("an_empty_trust_store_of_the_platform_is_an_error_that_says_where_it_is", &missing);
    }
    let path = std::env::var_os("SSL_CERT_FILE").unwrap();
    let error = wrong(TlsConnector::new(), TlsConfigErrorKind::NoRoots, ErrorKind::NotFound);
    assert_eq!(error.path(), Some(Path::new(&path)));
    assert!(error.to_string().contains("the platform's trust store has no certificate"), "{error}");
    let also = TlsConnector::builder().roots_from_pem(authority().pem()).platform_roots(true).build();
    wrong(also, TlsConfigErrorKind::NoRoots, ErrorKind::NotFound);
    // The default fails later.
    let connector = TlsConnector::default();
    assert!(format!("{connector:?}").contains("missing.pem"), "{connector:?}");
    let el = roundelay::EventLoop::new().unwrap();
    struct Idle;
    impl roundelay::Protocol for Idle {}
    let connected = el
        .run_until_complete(async { el.create_connection(|| Idle, ("localhost", 1)).tls(connector).await.map(|_| ()) });
    wrong(connected.unwrap(), TlsConfigErrorKind::NoRoots, ErrorKind::NotFound);
    el.close();
}

/// A key that only PKCS#8 has room for is not mistaken for another.
#[test]
fn keys_of_other_kinds_than_the_certificate_do_not_fit() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let found = TlsIdentity::from_der(&localhost().chain, der.secret_der());
    wrong(found, TlsConfigErrorKind::KeyMismatch, ErrorKind::InvalidData);
}

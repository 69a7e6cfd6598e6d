//! TLS, the same for every contestant that speaks it by rustls: one certificate, which `load cert` makes anew for a run, and
//! one suite, which is the only one that the load generator offers.

use crate::Cli;
use rustls::crypto::{ring, CryptoProvider};
use rustls::pki_types::{pem::PemObject, CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Writes cert.pem and key.pem, of "localhost", into a folder.
pub fn make(folder: &str) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_string()]).unwrap();
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(Path::new(folder).join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(Path::new(folder).join("key.pem"), made.signing_key.serialize_pem()).unwrap();
}

fn file(cli: &Cli, name: &str) -> PathBuf {
    let folder = cli.opts.get("cert").unwrap_or_else(|| crate::die("--cert FOLDER is missing: see `load cert`"));
    Path::new(folder).join(name)
}

pub fn server(cli: &Cli) -> Arc<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_file(file(cli, "cert.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(file(cli, "key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    Arc::new(config.with_single_cert(chain, key).unwrap())
}

pub fn client(cli: &Cli) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file(cli, "cert.pem")).unwrap()).unwrap();
    let provider = CryptoProvider {
        cipher_suites: vec![ring::cipher_suite::TLS13_AES_256_GCM_SHA384],
        ..ring::default_provider()
    };
    let config = ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&[&rustls::version::TLS13]);
    Arc::new(config.unwrap().with_root_certificates(roots).with_no_client_auth())
}

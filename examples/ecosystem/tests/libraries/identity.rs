//! Who a server is, behind TLS.

use std::fs;

use roundelay::{TlsAcceptor, TlsConnector, TlsIdentity};
use tempfile::TempDir;

/// A certificate for `localhost`, and a folder with `cert.pem` and `key.pem`.
pub struct Identity {
    pub folder: TempDir,
}

impl Identity {
    pub fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
        fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        Self { folder }
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    pub fn acceptor(&self, alpn: &[&str]) -> TlsAcceptor {
        let identity = TlsIdentity::from_pem_files(self.path("cert.pem"), self.path("key.pem")).unwrap();
        TlsAcceptor::builder().identity(identity).alpn(alpn).build().unwrap()
    }

    pub fn connector(&self, alpn: &[&str]) -> TlsConnector {
        TlsConnector::builder().roots_from_pem_file(self.path("cert.pem")).alpn(alpn).build().unwrap()
    }
}

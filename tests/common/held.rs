//! The files of certificates, for programs that want files; made and dropped while no test counts descriptors.

#![allow(dead_code, unreachable_pub)]

use std::path::PathBuf;

use roundelay::TlsIdentity;

use crate::certificates::{Files, authority, localhost};
use crate::common::alone;

/// The files of an authority, of a server, and of a client, in a folder that is there as long as they are.
pub struct Held {
    /// `None` at the end.
    files: Option<Files>,
    client: TlsIdentity,
}

/// Makes them.
pub fn files() -> Held {
    // Files and folders take descriptors for a moment.
    let _alone = alone();
    let files = Files::new(authority(), localhost());
    let client = authority().client("somebody");
    let (cert, key) = (files.write("client.pem", client.pem), files.write("client.key", client.key_pem));
    Held { files: Some(files), client: TlsIdentity::from_pem_files(cert, key).unwrap() }
}

impl std::ops::Deref for Held {
    type Target = Files;
    fn deref(&self) -> &Files {
        self.files.as_ref().unwrap()
    }
}

impl Held {
    /// The name of a file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Who the client is.
    pub fn client(&self) -> TlsIdentity {
        self.client.clone()
    }

    /// A further file.
    pub fn add(&self, name: &str, text: &str) -> PathBuf {
        let _alone = alone();
        self.write(name, text)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _alone = alone();
        drop(self.files.take());
    }
}

/// Who the server is.
pub fn identity() -> TlsIdentity {
    TlsIdentity::from_pem(&localhost().pem, &localhost().key_pem).unwrap()
}

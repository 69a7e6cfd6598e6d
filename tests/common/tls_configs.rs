//! Configurations of both sides of TLS, as rustls has them: for what looks below the transports.
//!
//! Used by `#[path]` beside `certificates`, in the unit tests of the engine and in fuzz/.

#![allow(dead_code, unreachable_pub)]

use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::{
    CipherSuiteCommon, ClientConfig, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion, Tls12CipherSuite,
    version,
};

pub use super::certificates::provider;
use super::certificates::{authority, localhost, roots};

pub type Config = (Arc<ClientConfig>, Arc<ServerConfig>);

pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

/// TLS 1.2 and 1.3, and both with a certificate of the client's. Each handshake is a full one.
pub fn configs() -> &'static [Config; 4] {
    static CONFIGS: OnceLock<[Config; 4]> = OnceLock::new();
    CONFIGS.get_or_init(|| {
        let [a, b] = VERSIONS.map(|version| config_with(provider(), version));
        let [c, d] = VERSIONS.map(mutual);
        [a, b, c, d].map(|(mut client, server)| {
            client.resumption = Resumption::disabled();
            (Arc::new(client), Arc::new(server))
        })
    })
}

/// A client and a server that speak one version, with the cryptography of a provider.
pub fn config_with(
    provider: Arc<CryptoProvider>,
    version: &'static SupportedProtocolVersion,
) -> (ClientConfig, ServerConfig) {
    let client = ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[version]).unwrap();
    let server = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let (chain, key) = localhost().rustls();
    (
        client.with_root_certificates(roots()).with_no_client_auth(),
        server.with_no_client_auth().with_single_cert(chain, key).unwrap(),
    )
}

/// In which the server asks for a certificate, too.
fn mutual(version: &'static SupportedProtocolVersion) -> (ClientConfig, ServerConfig) {
    let client = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[version]).unwrap();
    let server = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[version]).unwrap();
    let (chain, key) = authority().client("somebody").rustls();
    let client = client.with_root_certificates(roots()).with_client_auth_cert(chain, key).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots().into(), provider()).build().unwrap();
    let (chain, key) = localhost().rustls();
    (client, server.with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap())
}

/// Suites whose keys are used up after twenty records of TLS 1.2.
pub fn few_records() -> Arc<CryptoProvider> {
    // rustls wants them for ever, so they are made once.
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| with_limit(20)).clone()
}

fn with_limit(limit: u64) -> Arc<CryptoProvider> {
    let mut provider = CryptoProvider::clone(&provider());
    for suite in &mut provider.cipher_suites {
        if let SupportedCipherSuite::Tls12(tls12) = *suite {
            let common = CipherSuiteCommon { confidentiality_limit: limit, ..tls12.common };
            let Tls12CipherSuite { prf_provider, kx, sign, aead_alg, .. } = *tls12;
            let tls12 = Tls12CipherSuite { common, prf_provider, kx, sign, aead_alg };
            *suite = SupportedCipherSuite::Tls12(Box::leak(Box::new(tls12)));
        }
    }
    Arc::new(provider)
}

//! TLS, on rustls: over whatever a transport carries.

mod acceptor;
mod connector;
mod engine;
mod error;
mod hostname;
mod identity;
mod options;
mod pem;
mod provider;
mod resolver;
mod roots;
mod start_tls;
mod transport;
mod verify;

pub use acceptor::{ClientAuth, TlsAcceptor, TlsAcceptorBuilder};
pub use connector::{DangerousTlsConnectorBuilder, TlsConnector, TlsConnectorBuilder};
pub(crate) use engine::Engine;
#[cfg(fuzzing)]
pub(crate) use engine::script;
pub use error::{TlsConfigError, TlsConfigErrorKind};
pub use identity::TlsIdentity;
pub use options::TlsSide;
pub(crate) use options::{
    TlsOptions, TlsStart, start_tls_settings, tls_client_settings, tls_limits, tls_server_settings,
};
pub use resolver::TlsClientHello;
pub(crate) use start_tls::Prepared;
pub use start_tls::{StartTls, StartingTls};
pub(crate) use transport::{Standing, TlsProtocol};

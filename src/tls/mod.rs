//! TLS, on rustls: over whatever a transport carries.

mod acceptor;
mod connector;
mod engine;
mod options;
mod start_tls;
mod transport;

pub use acceptor::TlsAcceptor;
pub use connector::TlsConnector;
pub(crate) use engine::Engine;
pub use options::TlsSide;
pub(crate) use options::{
    TlsOptions, TlsStart, start_tls_settings, tls_client_settings, tls_limits, tls_server_settings,
};
pub(crate) use start_tls::Prepared;
pub use start_tls::{StartTls, StartingTls};
pub(crate) use transport::Standing;

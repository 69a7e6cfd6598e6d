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
#[cfg(fuzzing)]
pub(crate) use engine::script;
pub use options::TlsSide;
pub(crate) use options::{TlsOptions, TlsStart, tls_client_settings, tls_limits, tls_server_settings};
pub use start_tls::{StartTls, StartingTls};
pub(crate) use transport::Standing;

//! TLS, on rustls: over whatever a transport carries.

mod acceptor;
mod connector;

pub use acceptor::TlsAcceptor;
pub use connector::TlsConnector;

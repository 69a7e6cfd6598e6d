//! The server's side of a TLS configuration.

use std::io;
use std::sync::Arc;

use rustls::{Connection, ServerConfig, ServerConnection};

/// How servers speak TLS: who they are, whom they let in, which protocols they offer.
#[derive(Clone, Debug)]
pub struct TlsAcceptor {
    config: Arc<ServerConfig>,
}

impl TlsAcceptor {
    /// The TLS side of a new connection.
    pub(crate) fn connection(&self) -> io::Result<Connection> {
        ServerConnection::new(self.config.clone()).map(Connection::from).map_err(io::Error::other)
    }

    /// Whether a connection that ends without a `close_notify` is an error.
    pub(crate) fn requires_close_notify(&self) -> bool {
        false
    }
}

impl From<Arc<ServerConfig>> for TlsAcceptor {
    fn from(config: Arc<ServerConfig>) -> Self {
        Self { config }
    }
}

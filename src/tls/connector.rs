//! The client's side of a TLS configuration.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection};

use crate::error::invalid_input;

/// How clients speak TLS: whom they trust, who they are, which protocols they offer.
#[derive(Clone, Debug)]
pub struct TlsConnector {
    config: Arc<ClientConfig>,
}

impl TlsConnector {
    /// The TLS side of a new connection to a server of that name.
    pub(crate) fn connection(&self, method: &str, server_hostname: &str) -> io::Result<Connection> {
        let name = ServerName::try_from(server_hostname.to_owned())
            .map_err(|error| invalid_input(format!("{method}: server_hostname({server_hostname:?}): {error}")))?;
        ClientConnection::new(self.config.clone(), name).map(Connection::from).map_err(io::Error::other)
    }

    /// Whether a connection that ends without a `close_notify` is an error.
    pub(crate) fn requires_close_notify(&self) -> bool {
        false
    }
}

impl From<Arc<ClientConfig>> for TlsConnector {
    fn from(config: Arc<ClientConfig>) -> Self {
        Self { config }
    }
}

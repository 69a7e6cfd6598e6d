//! TLS, on rustls: over whatever a transport carries.

mod acceptor;
mod connector;
mod error;
mod hostname;
mod identity;
mod pem;
mod provider;
mod resolver;
mod roots;
mod verify;

pub use acceptor::{ClientAuth, TlsAcceptor, TlsAcceptorBuilder};
pub use connector::{DangerousTlsConnectorBuilder, TlsConnector, TlsConnectorBuilder};
pub use error::{TlsConfigError, TlsConfigErrorKind};
pub use identity::TlsIdentity;
pub use provider::TlsVersion;
pub use resolver::TlsClientHello;

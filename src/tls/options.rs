//! What builders of connections and servers know of TLS before there is a connection.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::constants::{TLS_HANDSHAKE_TIMEOUT, TLS_SHUTDOWN_TIMEOUT};
use crate::error::invalid_input;
use crate::event_loop::Core;
use crate::protocol::AnyProtocol;
use crate::tls::engine::Engine;
use crate::tls::transport::{Limits, Standing, TlsProtocol};
use crate::tls::{TlsAcceptor, TlsConnector};

/// Which side of a TLS connection this is, and how it speaks: see [`EventLoop::start_tls`](crate::EventLoop::start_tls).
#[derive(Clone, Debug)]
pub enum TlsSide {
    /// The client, which begins.
    Client(TlsConnector),
    /// The server.
    Server(TlsAcceptor),
}

impl From<TlsConnector> for TlsSide {
    fn from(connector: TlsConnector) -> Self {
        Self::Client(connector)
    }
}

impl From<TlsAcceptor> for TlsSide {
    fn from(acceptor: TlsAcceptor) -> Self {
        Self::Server(acceptor)
    }
}

/// What was set.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsOptions {
    pub(crate) side: Option<TlsSide>,
    pub(crate) server_hostname: Option<String>,
    pub(crate) handshake_timeout: Option<Duration>,
    pub(crate) shutdown_timeout: Option<Duration>,
}

impl TlsOptions {
    pub(crate) fn of(side: TlsSide) -> Self {
        Self { side: Some(side), ..Self::default() }
    }

    /// How the connections begin; `None` if there is no TLS. A client's are to a host of that name, unless another was set.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for what does not go together.
    pub(crate) fn check(self, method: &str, host: Option<&str>) -> io::Result<Option<TlsStart>> {
        let timeouts =
            [("tls_handshake_timeout()", self.handshake_timeout), ("tls_shutdown_timeout()", self.shutdown_timeout)];
        let Some(side) = self.side else {
            let given = timeouts.into_iter().find(|(_, timeout)| timeout.is_some()).map(|(option, _)| option);
            let given = given.or(self.server_hostname.map(|_| "server_hostname()"));
            return match given {
                Some(option) => Err(invalid_input(format!("{method}: {option} has no meaning without tls()"))),
                None => Ok(None),
            };
        };
        if let Some((option, _)) = timeouts.into_iter().find(|(_, timeout)| *timeout == Some(Duration::ZERO)) {
            return Err(invalid_input(format!("{method}: {option} must be longer than zero")));
        }
        let limits = Limits {
            handshake: self.handshake_timeout.unwrap_or(TLS_HANDSHAKE_TIMEOUT),
            shutdown: self.shutdown_timeout.unwrap_or(TLS_SHUTDOWN_TIMEOUT),
        };
        let server_name = match (&side, self.server_hostname) {
            (TlsSide::Server(_), None) => String::new(),
            (TlsSide::Server(_), Some(_)) => {
                return Err(invalid_input(format!("{method}: server_hostname() is for the client's side of TLS")));
            }
            (TlsSide::Client(_), Some(name)) => name,
            (TlsSide::Client(_), None) => match host.filter(|host| !host.is_empty()) {
                Some(host) => host.to_owned(),
                None => {
                    let text =
                        format!("{method}: the client's side of TLS needs server_hostname() where there is no host");
                    return Err(invalid_input(text));
                }
            },
        };
        Ok(Some(TlsStart { side, server_name, limits }))
    }
}

/// How TLS connections begin.
#[derive(Debug)]
pub(crate) struct TlsStart {
    side: TlsSide,
    server_name: String,
    limits: Limits,
}

impl TlsStart {
    /// One that is about to begin.
    pub(crate) fn engine(&self, method: &str) -> io::Result<Engine> {
        Ok(match &self.side {
            TlsSide::Client(connector) => {
                let connection = connector.connection(method, &self.server_name)?;
                let name = Some(self.server_name.clone()).filter(|name| !name.is_empty());
                Engine::new(connection, connector.requires_close_notify(), name)
            }
            TlsSide::Server(acceptor) => Engine::new(acceptor.connection()?, acceptor.requires_close_notify(), None),
        })
    }

    /// The protocol for the transport below.
    pub(crate) fn protocol(
        &self,
        core: &Rc<Core>,
        engine: Engine,
        standing: Standing,
        upper: AnyProtocol,
    ) -> TlsProtocol {
        TlsProtocol::new(core, engine, self.limits, standing, upper)
    }
}

/// The timeouts, for every builder. `$place` is where the options are.
macro_rules! tls_limits {
    ($($place:ident).+) => {
        /// How long the TLS handshake may take (60 seconds); then the connection is aborted.
        #[doc(alias("ssl_handshake_timeout", "SSL_HANDSHAKE_TIMEOUT"))]
        #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
        pub fn tls_handshake_timeout(mut self, timeout: std::time::Duration) -> Self {
            self.$($place).+.handshake_timeout = Some(timeout);
            self
        }

        /// How long a TLS connection that is closed may stay without anything being sent, and for the peer's last word
        /// (30 seconds); then it is aborted, with an error of kind `TimedOut`.
        #[doc(alias("ssl_shutdown_timeout", "SSL_SHUTDOWN_TIMEOUT"))]
        #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
        pub fn tls_shutdown_timeout(mut self, timeout: std::time::Duration) -> Self {
            self.$($place).+.shutdown_timeout = Some(timeout);
            self
        }
    };
}
pub(crate) use tls_limits;

/// The settings of clients. `$place` is where the options are.
macro_rules! tls_client_settings {
    ($($place:ident).+) => {
        /// Speaks TLS. The connection stands when the handshake is done; why it fails is the error.
        #[doc(alias = "ssl")]
        #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
        pub fn tls(mut self, connector: impl Into<$crate::tls::TlsConnector>) -> Self {
            self.$($place).+.side = Some($crate::tls::TlsSide::Client(connector.into()));
            self
        }

        /// The name, or the IP address, that the server's certificate has to be for; it is sent to the server, too, if it
        /// is a name (SNI). The host that is connected to, unless this sets another; needed where there is none. Empty it
        /// stands for any name, which only a [connector](crate::TlsConnector) takes that does not check names.
        #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
        pub fn server_hostname(mut self, server_hostname: impl Into<String>) -> Self {
            self.$($place).+.server_hostname = Some(server_hostname.into());
            self
        }

        $crate::tls::tls_limits!($($place).+);
    };
}
pub(crate) use tls_client_settings;

/// The settings of servers. `$place` is where the options are.
macro_rules! tls_server_settings {
    ($($place:ident).+) => {
        /// Speaks TLS. A protocol hears of its connection when the handshake is done, and nothing of one whose handshake
        /// fails; debug mode reports those. Handshakes do not hold up each other, nor the accepting.
        #[doc(alias = "ssl")]
        #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
        pub fn tls(mut self, acceptor: impl Into<$crate::tls::TlsAcceptor>) -> Self {
            self.$($place).+.side = Some($crate::tls::TlsSide::Server(acceptor.into()));
            self
        }

        $crate::tls::tls_limits!($($place).+);
    };
}
pub(crate) use tls_server_settings;

/// The settings of a change to TLS. `options` is where they are.
macro_rules! start_tls_settings {
    () => {
        /// The name, or the IP address, that the server's certificate has to be for; it is sent to the server, too, if it is a
        /// name (SNI). Clients need one. Empty it stands for any name, which only a [connector](crate::TlsConnector) takes
        /// that does not check names.
        pub fn server_hostname(mut self, server_hostname: impl Into<String>) -> Self {
            self.options.server_hostname = Some(server_hostname.into());
            self
        }

        $crate::tls::tls_limits!(options);
    };
}
pub(crate) use start_tls_settings;

//! What is between a connection's socket and its protocol: nothing, or TLS.

use std::io;
use std::rc::Rc;

use crate::event_loop::Core;
use crate::net::connect::introduce;
use crate::protocol::{AnyProtocol, Transport};
#[cfg(feature = "__tls")]
use crate::tls::{Engine, Standing, TlsOptions, TlsStart};
use crate::transport::stream::SocketTransport;

/// What was set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Security {
    #[cfg(feature = "__tls")]
    pub(crate) tls: TlsOptions,
}

impl Security {
    /// For a client's connection to a host of that name, if there is one.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for what does not go together, and for a name that is none; what is wrong with the configuration.
    #[cfg_attr(not(feature = "__tls"), allow(unused_variables, clippy::unnecessary_wraps))]
    pub(crate) fn begin(self, method: &'static str, host: Option<&str>) -> io::Result<Secured> {
        Ok(Secured {
            #[cfg(feature = "__tls")]
            tls: match self.tls.check(method, host)? {
                Some(start) => Some((start.engine(method)?, start)),
                None => None,
            },
        })
    }

    /// For a server's connections: what makes their protocols.
    ///
    /// # Errors
    ///
    /// As `begin`.
    #[cfg_attr(not(feature = "__tls"), allow(unused_variables, clippy::unnecessary_wraps))]
    pub(crate) fn wrap(
        self,
        core: &Rc<Core>,
        method: &'static str,
        factory: Box<dyn Fn() -> AnyProtocol>,
    ) -> io::Result<Box<dyn Fn() -> AnyProtocol>> {
        #[cfg(feature = "__tls")]
        if let Some(start) = self.tls.check(method, None)? {
            // What is wrong with it is known before anybody connects.
            start.engine(method)?;
            let core = Rc::downgrade(core);
            return Ok(Box::new(move || {
                let core = core.upgrade().expect("a server is called by its loop");
                let engine = start.engine(method).unwrap_or_else(|error| panic!("{method}: {error}"));
                AnyProtocol::new(start.protocol(&core, engine, Standing::New, factory()))
            }));
        }
        Ok(factory)
    }
}

/// One connection of a client's that is to be made.
pub(crate) struct Secured {
    #[cfg(feature = "__tls")]
    tls: Option<(Engine, TlsStart)>,
}

impl Secured {
    /// Lets a protocol hear of the transport that `open` makes for it, when the connection stands. It is aborted if this is
    /// dropped before.
    #[cfg_attr(not(feature = "__tls"), allow(unused_variables))]
    pub(crate) async fn introduce(
        self,
        core: &Rc<Core>,
        protocol: AnyProtocol,
        open: impl FnOnce(AnyProtocol) -> io::Result<Rc<SocketTransport>>,
    ) -> io::Result<Transport> {
        #[cfg(feature = "__tls")]
        if let Some((engine, start)) = self.tls {
            let tls = start.protocol(core, engine, Standing::New, protocol);
            let handshake = tls.handshake();
            open(AnyProtocol::new(tls))?.make_connection_soon();
            return handshake.done().await;
        }
        Ok(introduce(open(protocol)?).await)
    }
}

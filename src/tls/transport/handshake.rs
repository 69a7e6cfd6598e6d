//! The handshake, for whoever waits for it.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;

use crate::protocol::{AnyProtocol, Transport};
use crate::tls::transport::{Phase, Standing, TlsLayer};
use crate::transport::stream::SocketTransport;

/// The handshake of a connection, for whoever waits for it. Dropped before it is done it ends the connection.
pub(crate) struct Handshake {
    layer: Rc<TlsLayer>,
    upper: Rc<SocketTransport>,
}

impl Handshake {
    pub(super) fn new(layer: Rc<TlsLayer>, upper: Rc<SocketTransport>) -> Self {
        Self { layer, upper }
    }

    /// Begins it over a transport that has another protocol so far.
    pub(crate) fn begin_over(&self, lower: &Transport, tls: AnyProtocol) {
        lower.start_protocol(tls);
        self.begin(lower);
    }

    /// Begins it over a transport whose protocol is that of TLS already.
    pub(crate) fn begin(&self, lower: &Transport) {
        // Not every transport tells of a beginning that is none.
        self.layer.begin(lower);
    }

    /// The transport that the protocol is to hear of.
    pub(crate) fn transport(&self) -> Transport {
        self.upper.transport()
    }

    /// Waits until the connection stands. Its transport is told of nothing before whoever waits goes on.
    ///
    /// # Errors
    ///
    /// Why it does not.
    pub(crate) async fn done(self) -> io::Result<Transport> {
        poll_fn(|cx| {
            if self.layer.outcome.borrow().is_some() {
                return Poll::Ready(());
            }
            drop(self.layer.waker.replace(Some(cx.waker().clone())));
            Poll::Pending
        })
        .await;
        match self.layer.outcome.take() {
            Some(Err(error)) => Err(error),
            _ => Ok(self.transport()),
        }
    }
}

impl Drop for Handshake {
    /// Nobody waits for the connection any more, or has taken it.
    fn drop(&mut self) {
        match (self.layer.phase.get(), self.layer.standing) {
            (Phase::New | Phase::Handshake, Standing::New) => self.upper.discard(),
            (Phase::New | Phase::Handshake, Standing::Known { .. }) => self.upper.abort_layered(),
            _ if matches!(*self.layer.outcome.borrow(), Some(Ok(()))) => self.upper.abort_layered(),
            _ => {}
        }
    }
}

//! Protocols of datagrams whose type a transport does not know.

use std::any::{Any, type_name};
use std::fmt;
use std::io;
use std::rc::Rc;

use crate::event_loop::exception::ExceptionContext;
use crate::os::address::Address;
use crate::protocol::ProtocolRef;
use crate::protocol::datagram::{DatagramHandle, DatagramProtocol};
use crate::protocol::erased::{Cell, call};

trait Erased {
    fn connection_made(&self, transport: &DatagramHandle);
    fn datagram_received(&self, transport: &DatagramHandle, data: &[u8], from: Option<&Address>);
    fn error_received(&self, transport: &DatagramHandle, error: io::Error);
    fn pause_writing(&self, transport: &DatagramHandle);
    fn resume_writing(&self, transport: &DatagramHandle);
    fn connection_lost(&self, transport: &DatagramHandle, error: Option<io::Error>);
    fn type_name(&self) -> &'static str;
    fn into_any(self: Rc<Self>) -> Rc<dyn Any>;
}

impl<P: DatagramProtocol> Erased for Cell<P> {
    fn connection_made(&self, transport: &DatagramHandle) {
        self.lend().connection_made(transport);
    }

    fn datagram_received(&self, transport: &DatagramHandle, data: &[u8], from: Option<&Address>) {
        self.lend().datagram_received(transport, data, from);
    }

    fn error_received(&self, transport: &DatagramHandle, error: io::Error) {
        self.lend().error_received(transport, error);
    }

    fn pause_writing(&self, transport: &DatagramHandle) {
        self.lend().pause_writing(transport);
    }

    fn resume_writing(&self, transport: &DatagramHandle) {
        self.lend().resume_writing(transport);
    }

    fn connection_lost(&self, transport: &DatagramHandle, error: Option<io::Error>) {
        self.lend().connection_lost(transport, error);
    }

    fn type_name(&self) -> &'static str {
        type_name::<P>()
    }

    fn into_any(self: Rc<Self>) -> Rc<dyn Any> {
        self
    }
}

/// A protocol of datagrams, of any type, as a transport holds it.
///
/// Its methods are the protocol's callbacks, for whoever implements a transport: a panic comes back as the error, to
/// be reported by the transport.
#[derive(Clone)]
pub struct AnyDatagramProtocol {
    erased: Rc<dyn Erased>,
}

impl AnyDatagramProtocol {
    /// A protocol without its type.
    pub fn new<P: DatagramProtocol>(protocol: P) -> Self {
        ProtocolRef::new(protocol).into()
    }

    /// The protocol, if it is of this type.
    pub fn downcast<P: DatagramProtocol>(&self) -> Option<ProtocolRef<P>> {
        self.erased.clone().into_any().downcast().ok().map(|cell| ProtocolRef { cell })
    }

    /// Whether the two are one and the same protocol, not two of a kind.
    pub fn is_same(&self, other: &Self) -> bool {
        Rc::as_ptr(&self.erased).cast::<()>() == Rc::as_ptr(&other.erased).cast::<()>()
    }

    /// The name of the protocol's type.
    pub fn type_name(&self) -> &'static str {
        self.erased.type_name()
    }

    /// Whether nobody else has this protocol, so that dropping this drops it.
    pub(crate) fn is_last(&self) -> bool {
        Rc::strong_count(&self.erased) == 1
    }

    /// Calls [`DatagramProtocol::connection_made`].
    ///
    /// # Errors
    ///
    /// The payload of a panic.
    pub fn connection_made(&self, transport: &DatagramHandle) -> Result<(), Box<dyn Any + Send>> {
        call(|| self.erased.connection_made(transport))
    }

    /// Calls [`DatagramProtocol::datagram_received`].
    ///
    /// # Errors
    ///
    /// The payload of a panic.
    pub fn datagram_received(
        &self,
        transport: &DatagramHandle,
        data: &[u8],
        from: Option<&Address>,
    ) -> Result<(), Box<dyn Any + Send>> {
        call(|| self.erased.datagram_received(transport, data, from))
    }

    /// Calls [`DatagramProtocol::error_received`].
    ///
    /// # Errors
    ///
    /// The payload of a panic.
    pub fn error_received(&self, transport: &DatagramHandle, error: io::Error) -> Result<(), Box<dyn Any + Send>> {
        call(|| self.erased.error_received(transport, error))
    }

    /// Calls [`DatagramProtocol::pause_writing`].
    ///
    /// # Errors
    ///
    /// The payload of a panic.
    pub fn pause_writing(&self, transport: &DatagramHandle) -> Result<(), Box<dyn Any + Send>> {
        call(|| self.erased.pause_writing(transport))
    }

    /// Calls [`DatagramProtocol::resume_writing`].
    ///
    /// # Errors
    ///
    /// The payload of a panic.
    pub fn resume_writing(&self, transport: &DatagramHandle) -> Result<(), Box<dyn Any + Send>> {
        call(|| self.erased.resume_writing(transport))
    }

    /// Calls [`DatagramProtocol::connection_lost`].
    ///
    /// # Errors
    ///
    /// The payload of a panic.
    pub fn connection_lost(
        &self,
        transport: &DatagramHandle,
        error: Option<io::Error>,
    ) -> Result<(), Box<dyn Any + Send>> {
        call(|| self.erased.connection_lost(transport, error))
    }
}

impl<P: DatagramProtocol> From<ProtocolRef<P>> for AnyDatagramProtocol {
    fn from(reference: ProtocolRef<P>) -> Self {
        Self { erased: reference.cell }
    }
}

impl<P: DatagramProtocol> From<P> for AnyDatagramProtocol {
    fn from(protocol: P) -> Self {
        Self::new(protocol)
    }
}

impl fmt::Debug for AnyDatagramProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<protocol {}>", self.type_name())
    }
}

impl ExceptionContext<'_> {
    /// The protocol of datagrams concerned.
    pub fn datagram_protocol(&self) -> Option<&AnyDatagramProtocol> {
        self.subject()
    }

    /// The transport of datagrams concerned.
    pub fn datagram_transport(&self) -> Option<&DatagramHandle> {
        self.subject()
    }
}

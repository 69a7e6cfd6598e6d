//! Protocols of child processes whose type a transport does not know.

use std::any::{Any, type_name};
use std::fmt;
use std::io;
use std::rc::Rc;

use crate::event_loop::exception::ExceptionContext;
use crate::protocol::ProtocolRef;
use crate::protocol::erased::{Cell, call};
use crate::protocol::subprocess::{ProcessHandle, SubprocessProtocol};

trait Erased {
    fn connection_made(&self, transport: &ProcessHandle);
    fn pipe_data_received(&self, transport: &ProcessHandle, fd: i32, data: &[u8]);
    fn pipe_connection_lost(&self, transport: &ProcessHandle, fd: i32, error: Option<io::Error>);
    fn pause_writing(&self, transport: &ProcessHandle);
    fn resume_writing(&self, transport: &ProcessHandle);
    fn process_exited(&self, transport: &ProcessHandle);
    fn connection_lost(&self, transport: &ProcessHandle, error: Option<io::Error>);
    fn type_name(&self) -> &'static str;
    fn into_any(self: Rc<Self>) -> Rc<dyn Any>;
}

impl<P: SubprocessProtocol> Erased for Cell<P> {
    fn connection_made(&self, transport: &ProcessHandle) {
        self.lend().connection_made(transport);
    }

    fn pipe_data_received(&self, transport: &ProcessHandle, fd: i32, data: &[u8]) {
        self.lend().pipe_data_received(transport, fd, data);
    }

    fn pipe_connection_lost(&self, transport: &ProcessHandle, fd: i32, error: Option<io::Error>) {
        self.lend().pipe_connection_lost(transport, fd, error);
    }

    fn pause_writing(&self, transport: &ProcessHandle) {
        self.lend().pause_writing(transport);
    }

    fn resume_writing(&self, transport: &ProcessHandle) {
        self.lend().resume_writing(transport);
    }

    fn process_exited(&self, transport: &ProcessHandle) {
        self.lend().process_exited(transport);
    }

    fn connection_lost(&self, transport: &ProcessHandle, error: Option<io::Error>) {
        self.lend().connection_lost(transport, error);
    }

    fn type_name(&self) -> &'static str {
        type_name::<P>()
    }

    fn into_any(self: Rc<Self>) -> Rc<dyn Any> {
        self
    }
}

/// A protocol of a child process, of any type, as a transport holds it.
///
/// Its methods are the protocol's callbacks, for whoever implements a transport: a panic comes back as the error, to
/// be reported by the transport.
#[derive(Clone)]
pub struct AnySubprocessProtocol {
    erased: Rc<dyn Erased>,
}

impl AnySubprocessProtocol {
    /// A protocol without its type.
    pub fn new<P: SubprocessProtocol>(protocol: P) -> Self {
        ProtocolRef::new(protocol).into()
    }

    /// The protocol, if it is of this type.
    pub fn downcast<P: SubprocessProtocol>(&self) -> Option<ProtocolRef<P>> {
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

    /// Calls [`SubprocessProtocol::connection_made`].
    ///
    /// # Errors
    ///
    /// The payload of a panic.
    pub fn connection_made(&self, transport: &ProcessHandle) -> Result<(), Box<dyn Any + Send>> {
        call(|| self.erased.connection_made(transport))
    }

    /// Calls [`SubprocessProtocol::pipe_data_received`].
    ///
    /// # Errors
    ///
    /// The payload of a panic.
    pub fn pipe_data_received(
        &self,
        transport: &ProcessHandle,
        fd: i32,
        data: &[u8],
    ) -> Result<(), Box<dyn Any + Send>> {
        call(|| self.erased.pipe_data_received(transport, fd, data))
    }

    /// Calls [`SubprocessProtocol::pipe_connection_lost`].
    ///
    /// # Errors
    ///
    /// The payload of a panic.
    pub fn pipe_connection_lost(
        &self,
        transport: &ProcessHandle,
        fd: i32,
        error: Option<io::Error>,
    ) -> Result<(), Box<dyn Any + Send>> {
        call(|| self.erased.pipe_connection_lost(transport, fd, error))
    }

    /// Calls [`SubprocessProtocol::pause_writing`].
    ///
    /// # Errors
    ///
    /// The payload of a panic.
    pub fn pause_writing(&self, transport: &ProcessHandle) -> Result<(), Box<dyn Any + Send>> {
        call(|| self.erased.pause_writing(transport))
    }

    /// Calls [`SubprocessProtocol::resume_writing`].
    ///
    /// # Errors
    ///
    /// The payload of a panic.
    pub fn resume_writing(&self, transport: &ProcessHandle) -> Result<(), Box<dyn Any + Send>> {
        call(|| self.erased.resume_writing(transport))
    }

    /// Calls [`SubprocessProtocol::process_exited`].
    ///
    /// # Errors
    ///
    /// The payload of a panic.
    pub fn process_exited(&self, transport: &ProcessHandle) -> Result<(), Box<dyn Any + Send>> {
        call(|| self.erased.process_exited(transport))
    }

    /// Calls [`SubprocessProtocol::connection_lost`].
    ///
    /// # Errors
    ///
    /// The payload of a panic.
    pub fn connection_lost(
        &self,
        transport: &ProcessHandle,
        error: Option<io::Error>,
    ) -> Result<(), Box<dyn Any + Send>> {
        call(|| self.erased.connection_lost(transport, error))
    }
}

impl<P: SubprocessProtocol> From<ProtocolRef<P>> for AnySubprocessProtocol {
    fn from(reference: ProtocolRef<P>) -> Self {
        Self { erased: reference.cell }
    }
}

impl<P: SubprocessProtocol> From<P> for AnySubprocessProtocol {
    fn from(protocol: P) -> Self {
        Self::new(protocol)
    }
}

impl fmt::Debug for AnySubprocessProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<protocol {}>", self.type_name())
    }
}

impl ExceptionContext<'_> {
    /// The protocol of a child process concerned.
    pub fn subprocess_protocol(&self) -> Option<&AnySubprocessProtocol> {
        self.subject()
    }

    /// The child process concerned.
    pub fn process(&self) -> Option<&ProcessHandle> {
        self.subject()
    }
}

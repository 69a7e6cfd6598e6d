//! Protocols whose type a transport does not know.

use std::any::{Any, type_name};
use std::cell::{RefCell, RefMut};
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use crate::error::PanicPayload;
use crate::event_loop::exception::ExceptionContext;
use crate::protocol::{KeepOpen, Protocol, ProtocolRef, Transport};

/// Where a protocol stands while it is in use.
pub(crate) struct Cell<P> {
    pub(crate) protocol: RefCell<P>,
}

/// How a receive into a protocol's own buffer ended.
pub(crate) enum Received {
    /// The protocol is not a buffered one.
    NotBuffered,
    /// So many bytes of its buffer were filled; zero is the end of file.
    Bytes(usize),
    /// The receive failed, or would have blocked.
    Failed(io::Error),
    /// The buffer was empty.
    NoRoom,
}

trait Erased {
    fn connection_made(&self, transport: &Transport);
    fn data_received(&self, transport: &Transport, data: &[u8]);
    fn receive(&self, transport: &Transport, receive: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>) -> Received;
    fn eof_received(&self, transport: &Transport) -> KeepOpen;
    fn pause_writing(&self, transport: &Transport);
    fn resume_writing(&self, transport: &Transport);
    fn connection_lost(&self, transport: &Transport, error: Option<io::Error>);
    fn is_buffered(&self) -> Option<bool>;
    fn type_name(&self) -> &'static str;
    fn into_any(self: Rc<Self>) -> Rc<dyn Any>;
}

impl<P> Cell<P> {
    /// The protocol, for a callback.
    pub(crate) fn lend(&self) -> RefMut<'_, P> {
        let Ok(protocol) = self.protocol.try_borrow_mut() else {
            panic!("the {} is in use: its loop was run from within ProtocolRef::with()", type_name::<P>());
        };
        protocol
    }
}

impl<P: Protocol> Erased for Cell<P> {
    fn connection_made(&self, transport: &Transport) {
        self.lend().connection_made(transport);
    }

    fn data_received(&self, transport: &Transport, data: &[u8]) {
        self.lend().data_received(transport, data);
    }

    fn receive(&self, transport: &Transport, receive: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>) -> Received {
        let mut protocol = self.lend();
        let Some(buffered) = protocol.as_buffered() else { return Received::NotBuffered };
        let buffer = buffered.get_buffer(0);
        if buffer.is_empty() {
            return Received::NoRoom;
        }
        match receive(buffer) {
            Ok(n) => {
                if n > 0 {
                    buffered.buffer_updated(transport, n);
                }
                Received::Bytes(n)
            }
            Err(error) => Received::Failed(error),
        }
    }

    fn eof_received(&self, transport: &Transport) -> KeepOpen {
        self.lend().eof_received(transport)
    }

    fn pause_writing(&self, transport: &Transport) {
        self.lend().pause_writing(transport);
    }

    fn resume_writing(&self, transport: &Transport) {
        self.lend().resume_writing(transport);
    }

    fn connection_lost(&self, transport: &Transport, error: Option<io::Error>) {
        self.lend().connection_lost(transport, error);
    }

    fn is_buffered(&self) -> Option<bool> {
        self.protocol.try_borrow_mut().ok().map(|mut protocol| protocol.as_buffered().is_some())
    }

    fn type_name(&self) -> &'static str {
        type_name::<P>()
    }

    fn into_any(self: Rc<Self>) -> Rc<dyn Any> {
        self
    }
}

/// A protocol of any type, as a transport holds it.
///
/// Its methods are the protocol's callbacks, for whoever implements a transport: a panic comes back as the error, to
/// be reported by the transport.
#[derive(Clone)]
pub struct AnyProtocol {
    erased: Rc<dyn Erased>,
}

/// What a callback gave, or the payload of its panic.
pub(crate) type Called<R> = Result<R, PanicPayload>;

pub(crate) fn call<R>(f: impl FnOnce() -> R) -> Called<R> {
    catch_unwind(AssertUnwindSafe(f))
}

/// Erases the type of protocols whose callbacks give nothing back: all but what they are called is the same for each kind.
macro_rules! erased_protocol {
    (
        $(#[$docs:meta])*
        $any:ident of $protocol:ident over $handle:ident {
            $(fn $callback:ident($($name:ident: $type:ty),*);)*
        }
    ) => {
        trait Erased {
            $(fn $callback(&self, transport: &$handle, $($name: $type),*);)*
            fn type_name(&self) -> &'static str;
            fn into_any(self: Rc<Self>) -> Rc<dyn Any>;
        }

        impl<P: $protocol> Erased for Cell<P> {
            $(fn $callback(&self, transport: &$handle, $($name: $type),*) {
                self.lend().$callback(transport, $($name),*);
            })*

            fn type_name(&self) -> &'static str {
                type_name::<P>()
            }

            fn into_any(self: Rc<Self>) -> Rc<dyn Any> {
                self
            }
        }

        $(#[$docs])*
        ///
        /// Its methods are the protocol's callbacks, for whoever implements a transport: a panic comes back as the error, to
        /// be reported by the transport.
        #[derive(Clone)]
        pub struct $any {
            erased: Rc<dyn Erased>,
        }

        impl $any {
            /// A protocol without its type.
            pub fn new<P: $protocol>(protocol: P) -> Self {
                ProtocolRef::new(protocol).into()
            }

            /// The protocol, if it is of this type.
            pub fn downcast<P: $protocol>(&self) -> Option<ProtocolRef<P>> {
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

            $(
                #[doc = concat!("Calls [`", stringify!($protocol), "::", stringify!($callback), "`].")]
                ///
                /// # Errors
                ///
                /// The payload of a panic.
                pub fn $callback(&self, transport: &$handle, $($name: $type),*) -> Result<(), Box<dyn Any + Send>> {
                    call(|| self.erased.$callback(transport, $($name),*))
                }
            )*
        }

        impl<P: $protocol> From<ProtocolRef<P>> for $any {
            fn from(reference: ProtocolRef<P>) -> Self {
                Self { erased: reference.cell }
            }
        }

        impl<P: $protocol> From<P> for $any {
            fn from(protocol: P) -> Self {
                Self::new(protocol)
            }
        }

        impl fmt::Debug for $any {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "<protocol {}>", self.type_name())
            }
        }
    };
}
pub(in crate::protocol) use erased_protocol;

impl AnyProtocol {
    /// A protocol without its type.
    pub fn new<P: Protocol>(protocol: P) -> Self {
        ProtocolRef::new(protocol).into()
    }

    /// The protocol, if it is of this type.
    pub fn downcast<P: Protocol>(&self) -> Option<ProtocolRef<P>> {
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

    /// Whether it receives into a buffer of its own; `None` while somebody looks into it.
    pub(crate) fn is_buffered(&self) -> Option<bool> {
        self.erased.is_buffered()
    }

    /// Calls [`Protocol::connection_made`].
    ///
    /// # Errors
    ///
    /// The payload of a panic.
    pub fn connection_made(&self, transport: &Transport) -> Result<(), Box<dyn Any + Send>> {
        call(|| self.erased.connection_made(transport))
    }

    /// Calls [`Protocol::data_received`].
    ///
    /// # Errors
    ///
    /// The payload of a panic.
    pub fn data_received(&self, transport: &Transport, data: &[u8]) -> Result<(), Box<dyn Any + Send>> {
        call(|| self.erased.data_received(transport, data))
    }

    /// Receives into the buffer of a buffered protocol.
    pub(crate) fn receive(
        &self,
        transport: &Transport,
        mut receive: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> Called<Received> {
        call(|| self.erased.receive(transport, &mut receive))
    }

    /// Calls [`Protocol::eof_received`].
    ///
    /// # Errors
    ///
    /// The payload of a panic.
    pub fn eof_received(&self, transport: &Transport) -> Result<KeepOpen, Box<dyn Any + Send>> {
        call(|| self.erased.eof_received(transport))
    }

    /// Calls [`Protocol::pause_writing`].
    ///
    /// # Errors
    ///
    /// The payload of a panic.
    pub fn pause_writing(&self, transport: &Transport) -> Result<(), Box<dyn Any + Send>> {
        call(|| self.erased.pause_writing(transport))
    }

    /// Calls [`Protocol::resume_writing`].
    ///
    /// # Errors
    ///
    /// The payload of a panic.
    pub fn resume_writing(&self, transport: &Transport) -> Result<(), Box<dyn Any + Send>> {
        call(|| self.erased.resume_writing(transport))
    }

    /// Calls [`Protocol::connection_lost`].
    ///
    /// # Errors
    ///
    /// The payload of a panic.
    pub fn connection_lost(&self, transport: &Transport, error: Option<io::Error>) -> Result<(), Box<dyn Any + Send>> {
        call(|| self.erased.connection_lost(transport, error))
    }
}

impl<P: Protocol> From<ProtocolRef<P>> for AnyProtocol {
    fn from(reference: ProtocolRef<P>) -> Self {
        Self { erased: reference.cell }
    }
}

impl<P: Protocol> From<P> for AnyProtocol {
    fn from(protocol: P) -> Self {
        Self::new(protocol)
    }
}

impl fmt::Debug for AnyProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<protocol {}>", self.type_name())
    }
}

impl ExceptionContext<'_> {
    /// The protocol concerned.
    pub fn protocol(&self) -> Option<&AnyProtocol> {
        self.subject()
    }

    /// The transport concerned.
    pub fn transport(&self) -> Option<&Transport> {
        self.subject()
    }
}

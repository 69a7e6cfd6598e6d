//! Protocols of datagrams whose type a transport does not know.

use std::any::{Any, type_name};
use std::fmt;
use std::io;
use std::rc::Rc;

use crate::event_loop::exception::ExceptionContext;
use crate::os::address::Address;
use crate::protocol::ProtocolRef;
use crate::protocol::datagram::{DatagramHandle, DatagramProtocol};
use crate::protocol::erased::{Cell, call, erased_protocol};

erased_protocol! {
    /// A protocol of datagrams, of any type, as a transport holds it.
    AnyDatagramProtocol of DatagramProtocol over DatagramHandle {
        fn connection_made();
        fn datagram_received(data: &[u8], from: Option<&Address>);
        fn error_received(error: io::Error);
        fn pause_writing();
        fn resume_writing();
        fn connection_lost(error: Option<io::Error>);
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

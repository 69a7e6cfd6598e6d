//! Protocols of child processes whose type a transport does not know.

use std::any::{Any, type_name};
use std::fmt;
use std::io;
use std::rc::Rc;

use crate::event_loop::exception::ExceptionContext;
use crate::protocol::ProtocolRef;
use crate::protocol::erased::{Cell, call, erased_protocol};
use crate::protocol::subprocess::{ProcessHandle, SubprocessProtocol};

erased_protocol! {
    /// A protocol of a child process, of any type, as a transport holds it.
    AnySubprocessProtocol of SubprocessProtocol over ProcessHandle {
        fn connection_made();
        fn pipe_data_received(fd: i32, data: &[u8]);
        fn pipe_connection_lost(fd: i32, error: Option<io::Error>);
        fn pause_writing();
        fn resume_writing();
        fn process_exited();
        fn connection_lost(error: Option<io::Error>);
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

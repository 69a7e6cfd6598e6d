//! The pipes of a child, as the protocols of their transports.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use crate::process::transport::ChildTransport;
use crate::protocol::{KeepOpen, Protocol, Transport};

/// Passes on what happens on one pipe.
pub(super) struct PipeProtocol {
    child: Rc<ChildTransport>,
    /// The number of the pipe in the child.
    fd: i32,
    is_lost: Cell<bool>,
}

impl PipeProtocol {
    pub(super) fn new(child: Rc<ChildTransport>, fd: i32) -> Self {
        Self { child, fd, is_lost: Cell::new(false) }
    }
}

impl Protocol for PipeProtocol {
    fn data_received(&mut self, _: &Transport, data: &[u8]) {
        self.child.tell("pipe_data_received", |protocol, handle| protocol.pipe_data_received(handle, self.fd, data));
    }

    fn eof_received(&mut self, _: &Transport) -> KeepOpen {
        KeepOpen::No
    }

    fn pause_writing(&mut self, _: &Transport) {
        self.child.tell("pause_writing", |protocol, handle| protocol.pause_writing(handle));
    }

    fn resume_writing(&mut self, _: &Transport) {
        self.child.tell("resume_writing", |protocol, handle| protocol.resume_writing(handle));
    }

    fn connection_lost(&mut self, _: &Transport, error: Option<io::Error>) {
        self.is_lost.set(true);
        self.child
            .tell("pipe_connection_lost", |protocol, handle| protocol.pipe_connection_lost(handle, self.fd, error));
        self.child.pipe_lost(self.fd);
    }
}

impl Drop for PipeProtocol {
    fn drop(&mut self) {
        // Somebody else has the pipe now, or the loop was closed.
        if !self.is_lost.get() {
            self.child.pipe_lost(self.fd);
        }
    }
}

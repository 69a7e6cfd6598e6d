//! What the datagram endpoints of a loop share: room for what arrives, and for the answers to it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;

use crate::constants::{DATAGRAMS_PER_CALL, OUTBOX_BYTES};
use crate::event_loop::EventLoop;
use crate::event_loop::services::Service;
use crate::os::datagram::{Inbox, Letter};

/// What is sent while datagrams are delivered, until it is sent with one system call.
#[derive(Default)]
pub(super) struct Outbox {
    pub(super) bytes: Vec<u8>,
    pub(super) letters: Vec<Letter>,
}

impl Outbox {
    /// Whether there is room for a datagram.
    pub(super) fn has_room(&self, len: usize) -> bool {
        self.letters.len() < DATAGRAMS_PER_CALL && self.bytes.len() + len <= OUTBOX_BYTES
    }

    pub(super) fn push(&mut self, data: &[u8], to: SocketAddr) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(data);
        self.letters.push((start..self.bytes.len(), to));
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.letters.clear();
    }
}

#[derive(Default)]
pub(super) struct Mail {
    /// Made when first used, and lent to whoever receives.
    inbox: Cell<Option<Box<Inbox>>>,
    /// Borrowed for a moment only, while no code of the application's runs.
    pub(super) outbox: RefCell<Outbox>,
}

impl Mail {
    /// Lends the inbox. As with the loop's receive buffer, calls do not nest.
    pub(super) fn with_inbox<R>(&self, f: impl FnOnce(&mut Inbox) -> R) -> R {
        let mut inbox = self.inbox.take().unwrap_or_else(|| Box::new(Inbox::new()));
        let result = f(&mut inbox);
        self.inbox.set(Some(inbox));
        result
    }
}

impl Service for Mail {
    fn new(_: &EventLoop) -> Self {
        Self::default()
    }
}

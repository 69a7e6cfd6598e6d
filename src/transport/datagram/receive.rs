//! The receiving side.

use std::io;

use crate::constants::{DATAGRAMS_PER_EVENT, READ_SIZE};
use crate::os::datagram::{self, Arrived};
use crate::os::socket::would_block;
use crate::transport::datagram::DatagramSocket;

/// What an event has had of its share.
#[derive(Default)]
struct Share {
    /// Datagrams, and errors in place of one.
    datagrams: usize,
    bytes: usize,
}

impl DatagramSocket {
    /// Takes reading up again in the next turn, by an event as if something had just arrived.
    pub(super) fn read_on(&self) {
        if self.reads_on.get() {
            return;
        }
        match &*self.io.borrow() {
            Some(io) => io.registration.report_again(),
            None => return,
        }
        self.reads_on.set(true);
        self.core.local.nudge();
    }

    /// Receives until the socket is drained, or this event has had its share.
    pub(super) fn read(&self) {
        let mut share = Share::default();
        while self.readable.get() && self.receives() {
            if share.datagrams >= DATAGRAMS_PER_EVENT || share.bytes >= READ_SIZE {
                // The others first. A level-triggered selector reports the socket again by itself.
                if self.is_edge() {
                    self.read_on();
                }
                return;
            }
            let received = if self.is_unix { self.receive_one(&mut share) } else { self.receive_several(&mut share) };
            if let Err(error) = received {
                if would_block(&error) {
                    self.readable.set(false);
                    self.more.set(false);
                } else {
                    share.datagrams += 1;
                    self.note_error(error);
                }
            }
            self.tell();
        }
    }

    /// Of a unix socket: its datagrams may be longer than the places of an inbox.
    fn receive_one(&self, share: &mut Share) -> io::Result<()> {
        self.core.with_receive_buffer(|buffer| {
            let arrived = match &*self.io.borrow() {
                Some(io) => datagram::receive(&io.socket, buffer)?,
                None => return Err(io::ErrorKind::WouldBlock.into()),
            };
            self.deliver(arrived, share);
            Ok(())
        })
    }

    fn receive_several(&self, share: &mut Share) -> io::Result<()> {
        self.mail.with_inbox(|inbox| {
            let (count, is_drained) = match &*self.io.borrow() {
                Some(io) => inbox.receive(&io.socket)?,
                None => return Err(io::ErrorKind::WouldBlock.into()),
            };
            if is_drained && !self.more.get() {
                self.readable.set(false);
            }
            self.gathering.set(count > 1);
            for i in 0..count {
                if !self.life.get().is_reading() {
                    break;
                }
                self.deliver(inbox.get(i), share);
                self.tell();
            }
            self.send_gathered();
            self.gathering.set(false);
            Ok(())
        })
    }

    fn deliver(&self, arrived: Arrived<'_>, share: &mut Share) {
        share.datagrams += 1;
        share.bytes += arrived.data.len();
        self.core.count_in(arrived.data.len());
        if let Err(error) = arrived.check_whole() {
            return self.note_error(error);
        }
        let Arrived { data, from, .. } = arrived;
        let called = self.call(|protocol, handle| protocol.datagram_received(handle, data, from.as_ref()));
        if let Some(Err(payload)) = called {
            // As in asyncio, the endpoint goes on.
            self.report("Exception in callback datagram_received", payload);
        }
    }
}

//! The reading side: what arrives, what was given back, the end of file.

use std::cell::Cell;
use std::io;

use crate::constants::{READ_SIZE, READS_PER_EVENT};
use crate::os::channel::Kind;
use crate::os::socket::{recv, would_block};
use crate::protocol::{AnyProtocol, BaseTransport, KeepOpen, ReadTransport, Received, StreamTransport};
use crate::transport::actions::Action;
use crate::transport::lifecycle::Lifecycle;
use crate::transport::stream::carrier::Carrier;
use crate::transport::stream::{SocketTransport, Takes};

/// How one attempt to read ended.
enum ReadStep {
    /// So many bytes were delivered, and there may be more.
    More(usize),
    /// Nothing is left, or nothing is to be read any more.
    Done,
}

impl SocketTransport {
    /// Takes reading up again in the next turn, by an event as if something had just arrived.
    pub(super) fn read_on(&self) {
        if self.reads_on.get() {
            return;
        }
        match &*self.io.borrow() {
            Some(Carrier::Channel(io)) => io.registration.report_again(),
            Some(Carrier::Layer(_)) => self.enqueue(Action::Read),
            None => return,
        }
        self.reads_on.set(true);
        self.core.local.nudge();
    }

    /// Reads if there is something to read, or in the next turn if the protocol has just begun.
    #[inline(always)]
    pub(super) fn take_up_reading(&self) {
        if self.has_begun() {
            if self.life.get().write_end().is_some() { self.look_for_reader() } else { self.read() }
        } else if self.has_more_to_read() {
            // Whoever waits for the connection comes first.
            self.read_on();
        }
    }

    /// Reads until the socket is drained, the protocol pauses, or this event has had its share.
    pub(super) fn read(&self) {
        let (mut reads, mut bytes) = (0, 0);
        while self.has_more_to_read() && self.life.get().is_reading() && self.is_made() {
            if reads >= READS_PER_EVENT || bytes >= READ_SIZE {
                // The others first. A level-triggered selector reports the socket again by itself.
                if self.is_edge() || self.unseen.get() > 0 {
                    self.read_on();
                }
                return;
            }
            match self.read_once() {
                ReadStep::More(n) => bytes += n,
                ReadStep::Done => {}
            }
            reads += 1;
            self.tell();
        }
    }

    /// Reading was resumed: what is there already is not reported again.
    pub(super) fn go_on_reading(&self) {
        if self.life.get().is_reading() && self.has_more_to_read() {
            self.read_on();
        }
    }

    fn read_once(&self) -> ReadStep {
        if self.takes() == Takes::Buffered {
            return self.read_into_protocol();
        }
        if self.unread_len() > 0 {
            return self.read_behind_unread();
        }
        self.core.with_receive_buffer(|buffer| match self.receive(buffer) {
            Ok(0) => self.end_of_file(),
            Ok(n) => {
                self.deliver(&buffer[..n]);
                ReadStep::More(n)
            }
            Err(error) => self.read_failed(error),
        })
    }

    /// How the protocol takes what arrives. It is asked once.
    fn takes(&self) -> Takes {
        if self.takes.get() == Takes::Unknown {
            let buffered = self.protocol.borrow().as_ref().and_then(AnyProtocol::is_buffered);
            match buffered {
                Some(true) => self.takes.set(Takes::Buffered),
                Some(false) => self.takes.set(Takes::Lent),
                // Somebody looks into it just now.
                None => {}
            }
        }
        self.takes.get()
    }

    /// How many bytes were given back and not delivered again.
    pub(super) fn unread_len(&self) -> usize {
        self.if_rare(|rare| rare.unread.len()).unwrap_or(0)
    }

    /// Receives, and notes whether that has drained the socket.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = match &*self.io.borrow() {
            Some(Carrier::Channel(io)) if io.channel.kind() == Kind::Internet => {
                let n = recv(&io.channel, buffer)?;
                self.core.count_in(n);
                n
            }
            Some(Carrier::Layer(layer)) => {
                // Where the layer does not know, only a read that would block says that nothing is left.
                self.more.set(true);
                let n = layer.recv(buffer)?;
                self.more.set(!layer.is_drained());
                if self.life.get().is_closing() {
                    // Its own code has ended it.
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                n
            }
            Some(Carrier::Channel(io)) => {
                let (n, stopped_short) = self.receive_otherwise(&io.channel, buffer)?;
                self.core.count_in(n);
                if stopped_short {
                    self.more.set(true);
                }
                n
            }
            None => return Err(io::ErrorKind::WouldBlock.into()),
        };
        if n > 0 {
            self.note_activity();
            if n < buffer.len() && !self.more.get() {
                self.readable.set(false);
            }
        }
        Ok(n)
    }

    /// What was given back goes first: at once to a protocol that has not seen it, else in one piece with what arrives.
    fn read_behind_unread(&self) -> ReadStep {
        if self.unseen.take() == 0 {
            let received = self.core.with_receive_buffer(|buffer| {
                let n = self.receive(buffer)?;
                self.rare(|rare| rare.unread.extend_from_slice(&buffer[..n]));
                Ok(n)
            });
            match received {
                // The protocol has seen these bytes and did not want them: there is no next one.
                Ok(0) => return self.end_of_file(),
                Ok(_) => {}
                Err(error) => return self.read_failed(error),
            }
        }
        let data = self.take_unread();
        self.deliver(&data);
        ReadStep::More(data.len())
    }

    fn read_into_protocol(&self) -> ReadStep {
        let (has_buffer, has_room) = (Cell::new(false), Cell::new(true));
        let received = self.call(|protocol, transport| {
            protocol.receive(transport, |buffer| {
                has_buffer.set(true);
                has_room.set(self.unseen.get() > 0 || self.unread_len() < buffer.len());
                if has_room.get() { self.fill(buffer) } else { Ok(0) }
            })
        });
        match received {
            Some(Ok(Received::NoRoom)) => self.no_room("get_buffer() returned an empty buffer"),
            Some(Ok(_)) if !has_room.get() => {
                self.no_room("get_buffer() returned a buffer that has room for no more than unread() gave back")
            }
            Some(Ok(Received::Bytes(0))) => self.end_of_file(),
            Some(Ok(Received::Bytes(n))) => ReadStep::More(n),
            Some(Ok(Received::Failed(error))) => self.read_failed(error),
            Some(Ok(Received::NotBuffered)) | None => ReadStep::Done,
            Some(Err(payload)) => {
                let callback = if has_buffer.get() { "protocol.buffer_updated()" } else { "protocol.get_buffer()" };
                self.fail_by_panic(callback, payload);
                ReadStep::Done
            }
        }
    }

    /// A protocol's own buffer is too small for anything to go on.
    fn no_room(&self, text: &str) -> ReadStep {
        let error = io::Error::other(text);
        self.report_error("Fatal error: protocol.get_buffer() call failed.", &error);
        self.fail(error);
        ReadStep::Done
    }

    /// Fills a protocol's own buffer: with what was given back, then with what has arrived. Zero is the end of file.
    fn fill(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let given_back = self.if_rare(|rare| {
            let n = rare.unread.len().min(buffer.len());
            buffer[..n].copy_from_slice(&rare.unread[..n]);
            n
        });
        let given_back = given_back.unwrap_or(0);
        let mut received = 0;
        if self.unseen.get() == 0 {
            received = self.receive(&mut buffer[given_back..])?;
            if received == 0 {
                return Ok(0);
            }
        }
        if given_back > 0 {
            self.rare(|rare| drop(rare.unread.drain(..given_back)));
            self.unseen.set(self.unread_len());
        }
        self.fresh.set(false);
        Ok(given_back + received)
    }

    pub(super) fn take_unread(&self) -> Vec<u8> {
        self.if_rare(|rare| std::mem::take(&mut rare.unread)).unwrap_or_default()
    }

    pub(super) fn deliver(&self, data: &[u8]) {
        self.fresh.set(false);
        if let Some(Err(payload)) = self.call(|protocol, transport| protocol.data_received(transport, data)) {
            self.fail_by_panic("protocol.data_received()", payload);
        }
    }

    fn end_of_file(&self) -> ReadStep {
        self.readable.set(false);
        if self.life.get().is_read_end() {
            self.pipe_ended();
        } else if self.update_life(Lifecycle::end_reading) {
            note!(TRACE, "roundelay::io", "{self:?}: received EOF");
            self.read_interest(false);
            match self.call(|protocol, transport| protocol.eof_received(transport)) {
                // A transport that stands on it closes it, when what has arrived is taken.
                Some(Ok(KeepOpen::Yes)) if self.half_closes() || self.carried().is_some() => {}
                Some(Ok(KeepOpen::Yes)) => {
                    note!(WARN, "roundelay", "{self:?} is closed: KeepOpen::Yes has no effect over TLS");
                    self.close();
                }
                Some(Ok(KeepOpen::No)) | None => self.close(),
                Some(Err(payload)) => self.fail_by_panic("protocol.eof_received()", payload),
            }
        }
        ReadStep::Done
    }

    fn read_failed(&self, error: io::Error) -> ReadStep {
        self.readable.set(false);
        self.more.set(false);
        if self.life.get().is_read_end() {
            self.pipe_failed(error);
        } else if !would_block(&error) {
            self.fail(error);
        }
        ReadStep::Done
    }
}

impl ReadTransport for SocketTransport {
    fn is_reading(&self) -> bool {
        self.life.get().is_reading()
    }

    fn pause_reading(&self) {
        if self.refuse_reading("pause_reading") {
            return;
        }
        if self.update_life(Lifecycle::pause) {
            note!(TRACE, "roundelay::io", "{self:?}: pauses reading");
            self.read_interest(false);
        }
    }

    fn resume_reading(&self) {
        if self.refuse_reading("resume_reading") {
            return;
        }
        if self.update_life(Lifecycle::resume) {
            note!(TRACE, "roundelay::io", "{self:?}: resumes reading");
            self.read_interest(true);
            self.go_on_reading();
        }
    }

    fn unread(&self, data: &[u8]) {
        if self.life.get().is_closing() || data.is_empty() || self.refuse_reading("unread") {
            return;
        }
        self.rare(|rare| drop(rare.unread.splice(0..0, data.iter().copied())));
        if self.fresh.get() {
            self.unseen.set(self.unseen.get() + data.len());
            self.read_on();
        }
    }
}

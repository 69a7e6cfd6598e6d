//! TLS without I/O: bytes of records go in and out on one side, those of the application on the other.
//!
//! What rustls is given it decrypts at once, a record's bytes into a buffer of their own. So it is given records only while
//! somebody takes what comes of them; the others wait here as they came.

use std::io::{self, IoSlice, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustls::{Connection, HandshakeKind, InvalidMessage, IoState, ProtocolVersion};

use crate::error::invalid_data;
use crate::protocol::{TlsInfo, TlsVersion};

/// What the peer has sent last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// It may send more.
    Open,
    /// It has said that nothing follows. Whatever does counts for nothing.
    Closed,
    /// The carrier has ended, which says nothing about who ended it.
    EndOfFile,
}

/// One side of a TLS connection.
pub(crate) struct Engine {
    connection: Connection,
    peer: Peer,
    /// Whether only a `close_notify` is an end of file.
    strict: bool,
    /// The name that a client has asked for.
    server_name: Option<String>,
    /// Records, or parts of them, that rustls was not given.
    waiting: Vec<u8>,
    /// How many bytes of them it was given meanwhile.
    given: usize,
    /// What is wrong with the connection. What came before it is delivered first, and nothing after it.
    error: Option<rustls::Error>,
    /// Whether this side has said that nothing follows.
    has_closed: bool,
    /// Whether a client may have sent something before the handshake was done.
    may_be_early: bool,
    /// How many bytes rustls was given to encrypt since the last flush.
    unflushed: usize,
}

impl Engine {
    /// A connection ends by a `close_notify`, or, if it is not `strict`, by the end of its carrier. A client's has the name
    /// of the server that it asks for.
    pub(crate) fn new(mut connection: Connection, strict: bool, server_name: Option<String>) -> Self {
        // Nothing is held back here: the transport below queues, and the one above stops writing.
        connection.set_buffer_limit(None);
        let may_be_early = matches!(connection, Connection::Server(_));
        Self {
            connection,
            peer: Peer::Open,
            strict,
            server_name,
            waiting: Vec::new(),
            given: 0,
            error: None,
            has_closed: false,
            may_be_early,
            unflushed: 0,
        }
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking() && self.error.is_none()
    }

    /// How many bytes wait to be decrypted.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len() - self.given
    }

    /// Takes what has arrived, as far as it is worth decrypting just now; `records` is left with the rest.
    pub(crate) fn take(&mut self, records: &mut &[u8]) {
        if self.waiting() > 0 {
            self.keep(records);
            *records = &[];
        } else {
            self.decrypt(records);
        }
    }

    /// Keeps what has arrived for later.
    pub(crate) fn keep(&mut self, records: &[u8]) {
        if self.is_deaf() {
            return;
        }
        if self.given > 0 {
            self.waiting.drain(..self.given);
            self.given = 0;
        }
        self.waiting.extend_from_slice(records);
    }

    /// The carrier has ended.
    pub(crate) fn end(&mut self) {
        if self.peer == Peer::Open {
            self.peer = Peer::EndOfFile;
        }
    }

    /// Whether nothing that arrives counts any more.
    fn is_deaf(&self) -> bool {
        self.peer == Peer::Closed || self.error.is_some()
    }

    /// Gives rustls records until there is something for somebody.
    fn decrypt(&mut self, records: &mut &[u8]) {
        while !records.is_empty() && !self.is_deaf() {
            let was_handshaking = self.connection.is_handshaking();
            match self.connection.read_tls(records) {
                Ok(_) => {}
                // Without this it would be asked again for ever: it has no room for so long a message.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    self.error = Some(InvalidMessage::HandshakePayloadTooLarge.into());
                    break;
                }
                // It has decrypted enough for now.
                Err(_) => return,
            }
            match self.process() {
                Ok(state) if state.peer_has_closed() => self.peer = Peer::Closed,
                Ok(state) if state.plaintext_bytes_to_read() > 0 => return,
                Ok(_) if was_handshaking && !self.connection.is_handshaking() => return,
                Ok(_) => {}
                Err(error) => self.error = Some(error),
            }
        }
        *records = &[];
    }

    fn process(&mut self) -> Result<IoState, rustls::Error> {
        let connection = &mut self.connection;
        if !self.has_closed {
            return connection.process_new_packets();
        }
        // With debug assertions rustls takes it for a bug of its own to have an alert to send behind a close_notify.
        let processed = catch_unwind(AssertUnwindSafe(|| connection.process_new_packets()));
        processed.unwrap_or_else(|_| Err(rustls::Error::General("bad records behind the end of the connection".into())))
    }

    /// Goes on with the handshake: ready when it is done.
    ///
    /// # Errors
    ///
    /// Why it has failed. What is to be sent then is an alert.
    pub(crate) fn handshake(&mut self) -> io::Result<bool> {
        while self.is_handshaking() && self.waiting() > 0 {
            self.decrypt_waiting();
        }
        // What is wrong behind it is for whoever reads.
        if !self.connection.is_handshaking() {
            return Ok(true);
        }
        if let Some(error) = self.error.clone() {
            return Err(invalid_data(error));
        }
        if self.peer == Peer::EndOfFile {
            let text = "the connection was closed during the TLS handshake";
            return Err(io::Error::new(io::ErrorKind::ConnectionReset, text));
        }
        Ok(false)
    }

    fn decrypt_waiting(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        let mut records = &waiting[self.given..];
        self.decrypt(&mut records);
        self.given = waiting.len() - records.len();
        if records.is_empty() {
            // A connection that is idle keeps no memory.
            self.given = 0;
        } else {
            self.waiting = waiting;
        }
    }

    /// What the peer has said; no bytes are its end.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is nothing yet; `InvalidData` for what is no TLS, or was tampered with; `UnexpectedEof` for a
    /// connection that was cut off, if that is to be an error.
    pub(crate) fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut received = self.recv_early(buffer);
        while received < buffer.len() {
            match self.connection.reader().read(&mut buffer[received..]) {
                // The peer has said so.
                Ok(0) => break,
                Ok(n) => received += n,
                Err(_) if self.waiting() > 0 => self.decrypt_waiting(),
                Err(_) if received > 0 => break,
                Err(_) => return self.recv_nothing(),
            }
        }
        Ok(received)
    }

    /// What a client has sent before the handshake was done, which rustls keeps by itself.
    fn recv_early(&mut self, buffer: &mut [u8]) -> usize {
        let Connection::Server(server) = &mut self.connection else { return 0 };
        if !self.may_be_early {
            return 0;
        }
        let received = server.early_data().and_then(|mut early| early.read(buffer).ok()).unwrap_or(0);
        self.may_be_early = received > 0;
        received
    }

    fn recv_nothing(&self) -> io::Result<usize> {
        if let Some(error) = self.error.clone() {
            return Err(invalid_data(error));
        }
        match self.peer {
            Peer::Open => Err(io::ErrorKind::WouldBlock.into()),
            Peer::EndOfFile if self.strict => {
                let text = "the connection was cut off: there was no close_notify";
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, text))
            }
            Peer::EndOfFile | Peer::Closed => Ok(0),
        }
    }

    /// Whether, when a read was short, nothing is left for another.
    pub(crate) fn is_drained(&self) -> bool {
        self.waiting() == 0 && self.peer == Peer::Open && self.error.is_none()
    }

    /// Whether something is decrypted that nobody has taken.
    pub(crate) fn has_plaintext(&mut self) -> bool {
        self.connection.reader().into_first_chunk().is_ok_and(|chunk| !chunk.is_empty())
    }

    /// Encrypts.
    pub(crate) fn send(&mut self, data: &[u8]) -> io::Result<usize> {
        let sent = self.connection.writer().write(data)?;
        self.unflushed += sent;
        Ok(sent)
    }

    /// Encrypts several pieces, as many as go into one record where they are small.
    pub(crate) fn send_vectored(&mut self, data: &[IoSlice<'_>]) -> io::Result<usize> {
        let sent = self.connection.writer().write_vectored(data)?;
        self.unflushed += sent;
        Ok(sent)
    }

    /// Says that nothing follows.
    pub(crate) fn close(&mut self) {
        if !std::mem::replace(&mut self.has_closed, true) {
            self.connection.send_close_notify();
        }
    }

    /// Whether both sides have said that nothing follows.
    pub(crate) fn is_over(&self) -> bool {
        self.has_closed && self.peer == Peer::Closed
    }

    /// Whether nothing is to be sent.
    pub(crate) fn is_flushed(&self) -> bool {
        !self.connection.wants_write() && self.unflushed == 0
    }

    /// Hands over what is to be sent.
    ///
    /// # Errors
    ///
    /// If something was not encrypted: with TLS 1.2 keys last for so many records only, and then rustls closes the connection
    /// without a word to whoever writes.
    pub(crate) fn flush(&mut self, send: impl FnMut(&[IoSlice<'_>])) -> io::Result<()> {
        let mut sink = Sink { send, flushed: 0 };
        while self.connection.wants_write() {
            // The sink takes everything.
            let _ = self.connection.write_tls(&mut sink);
        }
        if std::mem::take(&mut self.unflushed) > sink.flushed {
            return Err(io::Error::other("the keys of the TLS connection are used up"));
        }
        Ok(())
    }

    /// What was agreed on, once the handshake is done.
    pub(crate) fn info(&self) -> Option<TlsInfo> {
        let connection = &self.connection;
        if connection.is_handshaking() {
            return None;
        }
        let server_name = match connection {
            Connection::Client(_) => self.server_name.clone(),
            Connection::Server(server) => server.server_name().map(str::to_owned),
        };
        Some(TlsInfo {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => TlsVersion::Tls12,
                _ => TlsVersion::Tls13,
            },
            cipher_suite: connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or(""),
            alpn_protocol: connection.alpn_protocol().map(<[u8]>::to_vec),
            server_name,
            peer_certificates: connection.peer_certificates().unwrap_or_default().to_vec(),
            is_resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        })
    }
}

/// The first byte of a record that has data in it.
const DATA: u8 = 23;

/// Takes everything that it is given, record by record.
struct Sink<F> {
    send: F,
    /// The length of those that have data in them.
    flushed: usize,
}

impl<F: FnMut(&[IoSlice<'_>])> Write for Sink<F> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(data)])
    }

    fn write_vectored(&mut self, data: &[IoSlice<'_>]) -> io::Result<usize> {
        let records = data.iter().filter(|record| record.first() == Some(&DATA));
        self.flushed += records.map(|record| record.len()).sum::<usize>();
        (self.send)(data);
        Ok(data.iter().map(|record| record.len()).sum())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod script;
#[cfg(test)]
mod tests;

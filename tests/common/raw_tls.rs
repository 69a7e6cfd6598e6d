//! The other end of a TLS connection: rustls over a socket, driven by hand, which never blocks.
//!
//! Used by `#[path]` beside `certificates` and `wire`.

#![allow(dead_code, unreachable_pub)]

use std::cell::{Cell, RefCell, RefMut};
use std::io::{self, Read, Write};

use roundelay::{EventLoop, Protocol, Transport};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection, ServerConnection};
use socket2::Socket;

use crate::certificates::connector;
pub use crate::certificates::{client_config, server_config};
use crate::common::run_until;
use crate::wire::{Net, sockets};

/// See the module.
pub struct RawTls {
    pub socket: Socket,
    tls: RefCell<Connection>,
    received: RefCell<Vec<u8>>,
    end: Cell<Option<Result<(), io::ErrorKind>>>,
    /// How many bytes of records have come, and how many were sent.
    records: Cell<usize>,
    sent: Cell<usize>,
}

impl RawTls {
    pub fn new(socket: Socket, tls: impl Into<Connection>) -> Self {
        socket.set_nonblocking(true).unwrap();
        let mut tls = tls.into();
        tls.set_buffer_limit(None);
        let (received, tls) = (RefCell::default(), RefCell::new(tls));
        Self { socket, tls, received, end: Cell::new(None), records: Cell::new(0), sent: Cell::new(0) }
    }

    pub fn server(socket: Socket) -> Self {
        Self::new(socket, ServerConnection::new(server_config()).unwrap())
    }

    pub fn client(socket: Socket) -> Self {
        let name = ServerName::try_from("localhost").unwrap();
        Self::new(socket, ClientConnection::new(client_config(), name).unwrap())
    }

    pub fn tls(&self) -> RefMut<'_, Connection> {
        self.tls.borrow_mut()
    }

    /// Sends what there is to be sent, as far as the kernel takes it. True if that was all.
    pub fn flush(&self) -> bool {
        let mut tls = self.tls.borrow_mut();
        while tls.wants_write() {
            match tls.write_tls(&mut &self.socket) {
                Ok(n) => self.sent.set(self.sent.get() + n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(_) => return true,
            }
        }
        true
    }

    /// Encrypts, and sends as much as the kernel takes; the rest goes with the next `flush` or `pump`.
    pub fn send(&self, data: &[u8]) {
        self.tls.borrow_mut().writer().write_all(data).unwrap();
        self.flush();
    }

    /// Reads at most so many bytes of records, once; what comes of them is kept.
    pub fn sip(&self, n: usize) -> usize {
        let mut buffer = vec![0; n];
        match (&self.socket).read(&mut buffer) {
            Ok(0) => {
                self.end.set(self.end.get().or(Some(Err(io::ErrorKind::UnexpectedEof))));
                0
            }
            Ok(n) => {
                self.records.set(self.records.get() + n);
                self.take(&buffer[..n]);
                n
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => {
                self.end.set(self.end.get().or(Some(Err(error.kind()))));
                0
            }
        }
    }

    fn take(&self, mut records: &[u8]) {
        let mut tls = self.tls.borrow_mut();
        while !records.is_empty() && tls.read_tls(&mut records).unwrap() > 0 {
            let state = match tls.process_new_packets() {
                Ok(state) => state,
                Err(error) => {
                    self.end.set(self.end.get().or(Some(Err(io::ErrorKind::InvalidData))));
                    eprintln!("the peer: {error}");
                    return;
                }
            };
            let mut plain = vec![0; state.plaintext_bytes_to_read()];
            tls.reader().read_exact(&mut plain).unwrap();
            self.received.borrow_mut().extend_from_slice(&plain);
            if state.peer_has_closed() {
                self.end.set(self.end.get().or(Some(Ok(()))));
            }
        }
    }

    /// Reads and sends what there is.
    pub fn pump(&self) {
        while self.sip(64 * 1024) > 0 {}
        self.flush();
    }

    /// How many bytes of the application's have come, after reading what is there.
    pub fn count(&self) -> usize {
        self.pump();
        self.received.borrow().len()
    }

    /// How many bytes of records have come so far.
    pub fn records(&self) -> usize {
        self.records.get()
    }

    /// How many bytes of records the kernel has taken.
    pub fn sent(&self) -> usize {
        self.sent.get()
    }

    /// What has come so far.
    pub fn received(&self) -> Vec<u8> {
        self.received.borrow().clone()
    }

    /// How reading has ended: well, by a `close_notify`, or otherwise.
    pub fn end(&self) -> Option<Result<(), io::ErrorKind>> {
        self.pump();
        self.end.get()
    }

    /// Says that nothing follows.
    pub fn close_notify(&self) {
        self.tls.borrow_mut().send_close_notify();
        self.flush();
    }
}

/// A client's transport with its handshake done, and its peer.
pub fn connect<P: Protocol>(el: &EventLoop, net: Net, protocol: P) -> (Transport, RawTls) {
    connect_over(el, sockets(net), protocol)
}

/// The same between sockets whose buffers are small.
pub fn connect_narrow<P: Protocol>(el: &EventLoop, net: Net, protocol: P) -> (Transport, RawTls) {
    let (near, far) = sockets(net);
    near.set_send_buffer_size(8 * 1024).unwrap();
    // Smaller than this, TCP waits for its timers.
    far.set_recv_buffer_size(32 * 1024).unwrap();
    connect_over(el, (near, far), protocol)
}

pub fn connect_over<P: Protocol>(el: &EventLoop, (near, far): (Socket, Socket), protocol: P) -> (Transport, RawTls) {
    let peer = RawTls::server(far);
    let connecting = el.create_connection(|| protocol, near).tls(connector()).server_hostname("localhost");
    let task = el.create_task(connecting.into_future());
    run_until(el, || {
        peer.pump();
        task.is_done()
    });
    let (transport, _) = crate::common::finish(el, task).unwrap().unwrap();
    peer.pump();
    (transport, peer)
}

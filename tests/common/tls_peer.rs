//! A TLS peer that is no part of the loop: rustls over a socket that is driven by hand and never blocks.
//!
//! Used by `#[path]` in the files that need it, beside `common`, `certificates` and `wire`.

#![allow(dead_code, unreachable_pub)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use roundelay::{Connecting, EventLoop, Protocol, Task, TlsAcceptor, TlsConnector, Transport};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection, ServerConnection};
use socket2::Socket;

use crate::certificates::{acceptor, connector};
pub use crate::certificates::{client_config, server_config};
use crate::common::{finish, run_until, settle};
use crate::wire::{Net, sockets};

/// Which side of a connection is the loop's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

pub const SIDES: [Side; 2] = [Side::Client, Side::Server];

/// How the loop's side of a connection is made.
#[derive(Clone)]
pub struct Setup {
    side: Side,
    net: Net,
    narrow: bool,
    handshake: Option<Duration>,
    shutdown: Option<Duration>,
    connector: TlsConnector,
    acceptor: TlsAcceptor,
}

impl Setup {
    pub fn new(side: Side) -> Self {
        let (connector, acceptor) = (connector(), acceptor());
        Self { side, net: Net::Tcp, narrow: false, handshake: None, shutdown: None, connector, acceptor }
    }

    /// Over a unix socket.
    pub fn unix(mut self) -> Self {
        self.net = Net::Unix;
        self
    }

    /// With small buffers in the kernel: some hundred KiB stay queued in part.
    pub fn narrow(mut self) -> Self {
        self.narrow = true;
        self
    }

    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake = Some(timeout);
        self
    }

    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown = Some(timeout);
        self
    }

    /// The two configurations, of which one is used.
    pub fn configured(mut self, connector: TlsConnector, acceptor: TlsAcceptor) -> Self {
        (self.connector, self.acceptor) = (connector, acceptor);
        self
    }

    /// A connection whose handshake waits for the peer.
    pub fn begin<P: Protocol>(self, el: &EventLoop, protocol: P) -> (Task<io::Result<Transport>>, TlsPeer) {
        let (near, far) = sockets(self.net);
        if self.narrow {
            near.set_send_buffer_size(8 * 1024).unwrap();
            far.set_recv_buffer_size(32 * 1024).unwrap();
        }
        let peer = TlsPeer::new(self.side, far);
        let task = self.over(el, near, protocol);
        settle(el);
        (task, peer)
    }

    /// The loop's side over a socket, in a task.
    pub fn over<P: Protocol>(self, el: &EventLoop, socket: Socket, protocol: P) -> Task<io::Result<Transport>> {
        let connecting = self.connecting(el, socket, protocol);
        el.create_task(async move { connecting.await.map(|(transport, _)| transport) })
    }

    /// The loop's side over a socket.
    pub fn connecting<P: Protocol>(self, el: &EventLoop, socket: Socket, protocol: P) -> Connecting<P> {
        let factory = move || protocol;
        match self.side {
            Side::Client => {
                let mut builder =
                    el.create_connection(factory, socket).tls(self.connector).server_hostname("localhost");
                if let Some(timeout) = self.handshake {
                    builder = builder.tls_handshake_timeout(timeout);
                }
                if let Some(timeout) = self.shutdown {
                    builder = builder.tls_shutdown_timeout(timeout);
                }
                builder.into_future()
            }
            Side::Server => {
                let mut builder = el.connect_accepted_socket(factory, socket).tls(self.acceptor);
                if let Some(timeout) = self.handshake {
                    builder = builder.tls_handshake_timeout(timeout);
                }
                if let Some(timeout) = self.shutdown {
                    builder = builder.tls_shutdown_timeout(timeout);
                }
                builder.into_future()
            }
        }
    }

    /// A connection that stands on both sides.
    #[track_caller]
    pub fn open<P: Protocol>(self, el: &EventLoop, protocol: P) -> (Transport, TlsPeer) {
        let (task, mut peer) = self.begin(el, protocol);
        run_until(el, || {
            peer.pump();
            task.is_done() && !peer.tls.is_handshaking()
        });
        let transport = finish(el, task).unwrap().unwrap();
        settle(el);
        // Session tickets.
        peer.pump();
        (transport, peer)
    }
}

/// A connection of the loop's with a peer that is not.
#[track_caller]
pub fn open<P: Protocol>(el: &EventLoop, side: Side, protocol: P) -> (Transport, TlsPeer) {
    Setup::new(side).open(el, protocol)
}

/// A connection both sides of which are the loop's: the client's, and the server's.
#[track_caller]
pub fn pair<P: Protocol, Q: Protocol>(el: &EventLoop, client: P, server: Q) -> (Transport, Transport) {
    let (near, far) = sockets(Net::Tcp);
    let client = Setup::new(Side::Client).over(el, near, client);
    let server = Setup::new(Side::Server).over(el, far, server);
    (finish(el, client).unwrap().unwrap(), finish(el, server).unwrap().unwrap())
}

/// Records in which a bit has changed on the way.
pub fn corrupted(mut records: Vec<u8>) -> Vec<u8> {
    *records.last_mut().unwrap() ^= 1;
    records
}

/// The peer.
pub struct TlsPeer {
    pub socket: Socket,
    pub tls: Connection,
    /// What it has received.
    pub received: Vec<u8>,
    /// Records that the kernel has not taken yet.
    outgoing: Vec<u8>,
    /// Whether the other side has said that nothing follows.
    pub notified: bool,
    /// How reading from the socket has ended.
    pub end: Option<Result<(), ErrorKind>>,
    /// What was wrong with what has arrived.
    pub error: Option<rustls::Error>,
}

impl TlsPeer {
    /// The peer of the loop's side.
    pub fn new(of: Side, socket: Socket) -> Self {
        socket.set_nonblocking(true).unwrap();
        let tls = match of {
            Side::Client => ServerConnection::new(server_config()).unwrap().into(),
            Side::Server => {
                ClientConnection::new(client_config(), ServerName::try_from("localhost").unwrap()).unwrap().into()
            }
        };
        let (received, outgoing) = (Vec::new(), Vec::new());
        Self { socket, tls, received, outgoing, notified: false, end: None, error: None }
    }

    /// Sends and receives what can be sent and received now.
    pub fn pump(&mut self) {
        self.push();
        self.pull(usize::MAX);
        self.push();
    }

    /// Sends what can be sent now. A peer that can send no more drops what there is.
    pub fn push(&mut self) {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.outgoing).unwrap();
        }
        self.push_raw();
    }

    /// Whether everything is sent, after sending what can be.
    pub fn has_said_all(&mut self) -> bool {
        self.push();
        self.outgoing.is_empty()
    }

    fn push_raw(&mut self) {
        let mut sent = 0;
        while sent < self.outgoing.len() {
            match (&self.socket).write(&self.outgoing[sent..]) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => sent = self.outgoing.len(),
            }
        }
        self.outgoing.drain(..sent);
    }

    /// Receives what is there, at most about so many bytes. Says how many there were.
    pub fn pull(&mut self, most: usize) -> usize {
        let mut total = 0;
        let mut buffer = [0; 16 * 1024];
        while self.end.is_none() && total < most {
            let room = buffer.len().min(most - total);
            match (&self.socket).read(&mut buffer[..room]) {
                Ok(0) => self.end = Some(Ok(())),
                Ok(n) => {
                    total += n;
                    self.take(&buffer[..n]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => self.end = Some(Err(error.kind())),
            }
        }
        total
    }

    fn take(&mut self, mut records: &[u8]) {
        while !records.is_empty() && self.error.is_none() && !self.notified {
            self.tls.read_tls(&mut records).unwrap();
            match self.tls.process_new_packets() {
                Ok(state) => self.notified = state.peer_has_closed(),
                Err(error) => self.error = Some(error),
            }
            // It ends with `WouldBlock`.
            let _ = self.tls.reader().read_to_end(&mut self.received);
        }
    }

    /// Sends as much as the kernel takes at once; the rest goes by `push`.
    pub fn send(&mut self, data: &[u8]) {
        self.tls.set_buffer_limit(None);
        self.tls.writer().write_all(data).unwrap();
        self.push();
    }

    /// The records that say this, which are not sent.
    pub fn encrypt(&mut self, data: &[u8]) -> Vec<u8> {
        self.tls.set_buffer_limit(None);
        self.tls.writer().write_all(data).unwrap();
        self.take_records()
    }

    /// The record that says that nothing follows, which is not sent.
    pub fn goodbye(&mut self) -> Vec<u8> {
        self.tls.send_close_notify();
        self.take_records()
    }

    fn take_records(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut records).unwrap();
        }
        records
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.outgoing.extend_from_slice(bytes);
        self.push_raw();
    }

    /// Says that nothing follows.
    pub fn close_notify(&mut self) {
        self.tls.send_close_notify();
        self.push();
    }

    /// Ends the socket's writing side.
    pub fn fin(&self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        self.socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Whether the socket is at its end, after reading what is there. Nothing new is said.
    pub fn is_at_end(&mut self) -> bool {
        self.push_raw();
        self.pull(usize::MAX);
        self.end.is_some()
    }

    /// Reads to the end of the socket.
    #[track_caller]
    pub fn until_end(&mut self, el: &EventLoop) -> Result<(), ErrorKind> {
        run_until(el, || self.is_at_end());
        self.end.unwrap()
    }

    /// Answers a goodbye as soon as it has come, and reads to the end of the socket.
    #[track_caller]
    pub fn part(&mut self, el: &EventLoop) -> Result<(), ErrorKind> {
        run_until(el, || {
            self.pump();
            self.notified || self.end.is_some()
        });
        self.close_notify();
        self.until_end(el)
    }
}

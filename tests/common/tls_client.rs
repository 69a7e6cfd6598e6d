//! A TLS client that is driven by hand, over a socket that is no part of the loop: it decides what goes into one segment.
//!
//! Used by `#[path]` in the files that need it, beside `certificates`.

#![allow(dead_code, unreachable_pub)]

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use roundelay::EventLoop;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::certificates::authority;
use crate::common::run_until;

pub struct HandClient {
    pub connection: ClientConnection,
    pub socket: TcpStream,
    /// What the server has said.
    pub received: Vec<u8>,
    /// How reading has ended.
    pub end: Option<io::Result<()>>,
}

impl HandClient {
    /// A client of "localhost".
    pub fn new(socket: TcpStream) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority().der()).unwrap();
        #[cfg(feature = "aws-lc-rs")]
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        #[cfg(not(feature = "aws-lc-rs"))]
        let provider = rustls::crypto::ring::default_provider();
        let config =
            ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions().unwrap();
        let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
        let connection = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.set_nodelay(true).unwrap();
        Self { connection, socket, received: Vec::new(), end: None }
    }

    /// The records that are to be sent.
    pub fn records(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut records).unwrap();
        }
        records
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Sends the records that are to be sent.
    pub fn flush(&mut self) {
        let records = self.records();
        self.send_raw(&records);
    }

    /// Says something, behind whatever is to be sent yet.
    pub fn say(&mut self, words: &[u8]) {
        self.connection.writer().write_all(words).unwrap();
        self.flush();
    }

    /// Takes what is there.
    pub fn pump(&mut self) {
        let mut buffer = [0; 16 * 1024];
        while self.end.is_none() {
            match self.socket.read(&mut buffer) {
                Ok(0) => self.end = Some(Ok(())),
                Ok(n) => self.take(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => self.end = Some(Err(error)),
            }
        }
    }

    fn take(&mut self, mut records: &[u8]) {
        while !records.is_empty() {
            self.connection.read_tls(&mut records).unwrap();
            self.connection.process_new_packets().unwrap();
            let mut buffer = [0; 16 * 1024];
            while let Ok(n @ 1..) = self.connection.reader().read(&mut buffer) {
                self.received.extend_from_slice(&buffer[..n]);
            }
        }
    }

    /// Reads so many bytes in clear.
    #[track_caller]
    pub fn read_clear(&mut self, el: &EventLoop, n: usize) -> Vec<u8> {
        crate::tcp::receive(el, &mut self.socket, n)
    }

    /// Goes on until this side's last words of the handshake are ready to be sent.
    #[track_caller]
    pub fn shake_hands(&mut self, el: &EventLoop) {
        self.flush();
        run_until(el, || {
            self.pump();
            !self.connection.is_handshaking()
        });
    }

    /// Goes on until it has received so many bytes.
    #[track_caller]
    pub fn receive(&mut self, el: &EventLoop, n: usize) -> Vec<u8> {
        run_until(el, || {
            self.pump();
            self.received.len() >= n || self.end.is_some()
        });
        std::mem::take(&mut self.received)
    }
}

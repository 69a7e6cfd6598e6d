//! OpenSSL's `s_client` and a server for it, its `s_server` and a client for that.

#![allow(dead_code, unreachable_pub)]

use std::io;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use roundelay::{EventLoop, KeepOpen, Protocol, Server, TlsAcceptor, TlsConnector, TlsVersion, Transport};

use crate::certificates::Files;
use crate::common::{Log, run_until};
use crate::peers::aside;
use crate::talk::Talk;
use crate::tcp::{LOOPBACK, Recorder, complete};
use crate::witness::Witness;

/// The versions, how OpenSSL's options are called, and how it calls them.
pub const VERSIONS: [(TlsVersion, &str, &str); 2] =
    [(TlsVersion::Tls12, "-tls1_2", "TLSv1.2"), (TlsVersion::Tls13, "-tls1_3", "TLSv1.3")];

/// What is sent as a whole. It has no letters, which may be commands.
pub fn digits() -> Bytes {
    (0..5_000_000).map(|i| b'0' + (i % 7) as u8).collect()
}

/// Sends back what it gets. `bye` ends the connection, `give` asks for much and the end.
pub struct Echo(Recorder);

impl Protocol for Echo {
    fn connection_made(&mut self, transport: &Transport) {
        self.0.connection_made(transport);
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        match data {
            b"bye\n" => transport.close(),
            b"give\n" => {
                transport.write_owned(digits());
                transport.close();
            }
            _ => transport.write(data),
        }
    }
    fn eof_received(&mut self, transport: &Transport) -> KeepOpen {
        self.0.eof_received(transport)
    }
    fn connection_lost(&mut self, transport: &Transport, error: Option<io::Error>) {
        self.0.connection_lost(transport, error);
    }
}

/// An echo server; with what is told to its protocols, and what their connections have agreed on.
pub struct Served {
    pub server: Server,
    pub heard: Log,
    pub agreed: Witness,
    pub port: u16,
}

pub fn serve(el: &EventLoop, acceptor: TlsAcceptor) -> Served {
    let (recorder, agreed) = (Recorder::new(), Witness::new());
    let heard = recorder.0.clone();
    let factory = agreed.around(move || Echo(recorder.clone()));
    let server = complete(el, el.create_server(factory, LOOPBACK).tls(acceptor)).unwrap();
    let port = server.local_addrs()[0].port();
    Served { server, heard, agreed, port }
}

impl Served {
    /// A client that trusts the authority of the files alone.
    pub fn s_client(&self, files: &Files, args: &[&str]) -> Command {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &format!("127.0.0.1:{}", self.port), "-servername", "localhost"]);
        command.args(["-verify_return_error", "-verify_hostname", "localhost", "-CAfile"]).arg(&files.ca);
        command.args(args);
        command
    }

    /// What was told to the protocols, when the last of them has heard of its end.
    #[track_caller]
    pub fn heard(&self, el: &EventLoop) -> Vec<String> {
        run_until(el, || self.server.connections() == 0);
        self.heard.take()
    }
}

/// OpenSSL's server, at a port that it has said.
pub struct SServer {
    talk: Talk,
    pub port: u16,
}

pub fn s_server(el: &EventLoop, files: &Files, args: &[&str]) -> SServer {
    s_server_with(el, &files.cert, &files.key, args)
}

pub fn s_server_with(el: &EventLoop, cert: &Path, key: &Path, args: &[&str]) -> SServer {
    // What it says is heard at once.
    let mut command = Command::new("stdbuf");
    command.args(["-o0", "openssl"]);
    command.args(["s_server", "-accept", "127.0.0.1:0", "-cert"]).arg(cert).arg("-key").arg(key).args(args);
    let (talk, line) = aside(el, || {
        let mut talk = Talk::start(command);
        talk.hear("ACCEPT 127.0.0.1:");
        let line = talk.hear("\n");
        (talk, line)
    });
    SServer { talk, port: line.trim().parse().unwrap() }
}

impl SServer {
    /// Something is done to it, on another thread.
    pub fn aside(self, el: &EventLoop, job: impl FnOnce(&mut Talk) + Send + 'static) -> Self {
        let Self { mut talk, port } = self;
        let talk = aside(el, move || {
            job(&mut talk);
            talk
        });
        Self { talk, port }
    }

    pub fn end(self, el: &EventLoop) {
        self.aside(el, |talk| {
            talk.kill();
            talk.child.wait().unwrap();
        });
    }

    /// A connection to it.
    #[track_caller]
    pub fn connect(&self, el: &EventLoop, connector: &TlsConnector) -> (Transport, Recorder) {
        let recorder = Recorder::new();
        let given = recorder.clone();
        let connecting = el.create_connection(move || given, ("127.0.0.1", self.port)).tls(connector.clone());
        let (transport, _) = complete(el, connecting.server_hostname("localhost")).unwrap();
        (transport, recorder)
    }
}

pub fn connector(files: &Files, version: TlsVersion) -> TlsConnector {
    let builder = TlsConnector::builder().roots_from_pem_file(&files.ca).require_close_notify(true);
    builder.min_version(version).max_version(version).build().unwrap()
}

#[track_caller]
pub fn gone(el: &EventLoop, transport: &Transport) {
    run_until(el, || transport.protocol().is_none());
}

/// Waits until something was heard.
#[track_caller]
pub fn heard(el: &EventLoop, recorder: &Recorder, expected: &str) {
    run_until(el, || recorder.0.len() > 1);
    assert_eq!(recorder.take(), ["made", expected]);
}

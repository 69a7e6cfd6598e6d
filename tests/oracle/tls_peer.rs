//! The other end of a TLS connection, by hand: the counterpart of `reference/tls_peer.py`.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use roundelay::{EventLoop, ProtocolRef, Task, TlsAcceptor, TlsConnector, TlsVersion, Transport};
use rustls::pki_types::ServerName;
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection,
};

use crate::certificates::{Authority, authority, localhost, provider};
use crate::common::Log;
use crate::support::{Peer, Recorder, describe, settle, socket_pair};

pub const NAME: &str = "localhost";
pub const VERSIONS: [TlsVersion; 2] = [TlsVersion::Tls12, TlsVersion::Tls13];

/// What a side is configured with.
#[derive(Clone, Copy)]
pub struct Config {
    /// The only one; both if there is none.
    pub version: Option<TlsVersion>,
    pub is_trusting: bool,
    pub alpn: &'static [&'static str],
}

pub const DEFAULT: Config = Config { version: None, is_trusting: true, alpn: &[] };

impl Config {
    fn roots(self) -> &'static Authority {
        static STRANGER: OnceLock<Authority> = OnceLock::new();
        if self.is_trusting { authority() } else { STRANGER.get_or_init(|| Authority::new("a stranger")) }
    }

    /// For the loop's side.
    pub fn connector(self) -> TlsConnector {
        let [oldest, newest] = VERSIONS.map(|version| self.version.unwrap_or(version));
        let builder = TlsConnector::builder().roots_from_pem(self.roots().pem()).alpn(self.alpn);
        builder.min_version(oldest).max_version(newest).build().unwrap()
    }

    /// For the loop's side.
    pub fn acceptor(self) -> TlsAcceptor {
        let [oldest, newest] = VERSIONS.map(|version| self.version.unwrap_or(version));
        let builder = TlsAcceptor::builder().identity(localhost().identity()).alpn(self.alpn);
        builder.min_version(oldest).max_version(newest).build().unwrap()
    }

    /// For the other side, which takes any version.
    fn client(self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.roots().der()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        builder.with_root_certificates(roots).with_no_client_auth().into()
    }

    /// For the other side, which takes any version.
    fn server(self) -> Arc<ServerConfig> {
        let (chain, key) = localhost().rustls();
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config.into()
    }
}

/// What carries records.
trait Below {
    fn give(&self, records: &[u8]);

    /// True if there was room for all of it.
    fn try_give(&self, records: &[u8]) -> bool {
        self.give(records);
        true
    }

    fn take(&self) -> (Vec<u8>, String);
}

impl Below for Peer {
    fn give(&self, records: &[u8]) {
        match self.with(|mut socket| socket.write(records)) {
            Ok(sent) => assert_eq!(sent, records.len()),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}")
            }
        }
    }

    fn try_give(&self, records: &[u8]) -> bool {
        self.with(|mut socket| socket.write(records)).is_ok_and(|sent| sent == records.len())
    }

    fn take(&self) -> (Vec<u8>, String) {
        let (records, end) = self.receive();
        (records, end.into())
    }
}

impl Below for TlsPeer {
    fn give(&self, records: &[u8]) {
        self.send(records);
    }

    fn take(&self) -> (Vec<u8>, String) {
        self.receive()
    }
}

/// TLS by hand over what is below: a plain socket, or TLS again.
#[derive(Clone)]
pub struct TlsPeer {
    below: Rc<dyn Below>,
    state: Rc<RefCell<State>>,
}

struct State {
    tls: Connection,
    /// What nobody has taken yet.
    plain: Vec<u8>,
    /// How what is below has ended.
    end: String,
    error: Option<rustls::Error>,
    /// What is to be sent.
    out: Vec<u8>,
}

impl State {
    /// Takes what has arrived.
    fn feed(&mut self, mut records: &[u8]) {
        while !records.is_empty() && self.error.is_none() {
            if self.tls.read_tls(&mut records).unwrap() == 0 {
                break;
            }
            match self.tls.process_new_packets() {
                Ok(state) => {
                    let start = self.plain.len();
                    self.plain.resize(start + state.plaintext_bytes_to_read(), 0);
                    self.tls.reader().read_exact(&mut self.plain[start..]).unwrap();
                }
                Err(error) => self.error = Some(error),
            }
        }
    }

    fn records(&mut self) -> Vec<u8> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.out).unwrap();
        }
        std::mem::take(&mut self.out)
    }

    fn has_said_goodbye(&mut self) -> bool {
        self.error.is_none() && self.tls.process_new_packets().is_ok_and(|state| state.peer_has_closed())
    }

    fn error(&self) -> Option<&'static str> {
        match self.error.as_ref()? {
            rustls::Error::AlertReceived(description) => {
                assert_ne!(*description, AlertDescription::CloseNotify);
                Some("alert")
            }
            _ => Some("error"),
        }
    }
}

impl TlsPeer {
    fn new(below: Rc<dyn Below>, tls: impl Into<Connection>) -> Self {
        let mut tls = tls.into();
        tls.set_buffer_limit(None);
        let state = State { tls, plain: Vec::new(), end: String::new(), error: None, out: Vec::new() };
        Self { below, state: Rc::new(RefCell::new(state)) }
    }

    fn client_over(below: Rc<dyn Below>, config: Config) -> Self {
        let name = ServerName::try_from(NAME).unwrap();
        Self::new(below, ClientConnection::new(config.client(), name).unwrap())
    }

    fn server_over(below: Rc<dyn Below>, config: Config) -> Self {
        Self::new(below, ServerConnection::new(config.server()).unwrap())
    }

    pub fn client(socket: &Peer, config: Config) -> Self {
        Self::client_over(Rc::new(socket.clone()), config)
    }

    pub fn server(socket: &Peer, config: Config) -> Self {
        Self::server_over(Rc::new(socket.clone()), config)
    }

    /// The other side's.
    pub fn of(socket: &Peer, own: Side) -> Self {
        match own {
            Side::Client => Self::server(socket, DEFAULT),
            Side::Server => Self::client(socket, DEFAULT),
        }
    }

    /// As [`of`](Self::of), over TLS.
    pub fn within(outer: &TlsPeer, own: Side) -> Self {
        let below = Rc::new(outer.clone());
        match own {
            Side::Client => Self::server_over(below, DEFAULT),
            Side::Server => Self::client_over(below, DEFAULT),
        }
    }

    /// As [`send`](Self::send), over a socket that may be full. True if there was room for all of it.
    pub fn try_send(&self, data: &[u8]) -> bool {
        self.write(data);
        let records = self.state.borrow_mut().records();
        self.below.try_give(&records)
    }

    fn flush(&self) {
        let records = self.state.borrow_mut().records();
        if !records.is_empty() {
            self.below.give(&records);
        }
    }

    pub fn feed(&self) {
        let (records, end) = self.below.take();
        let mut state = self.state.borrow_mut();
        state.feed(&records);
        if state.end.is_empty() {
            state.end = end;
        }
    }

    /// Goes on with the handshake, and says how that has ended if it has.
    pub fn step(&self) -> Option<String> {
        self.feed();
        self.flush();
        let state = self.state.borrow();
        match state.error() {
            Some(error) => Some(error.into()),
            None if !state.tls.is_handshaking() => Some("done".into()),
            None if !state.end.is_empty() => Some(state.end.trim().into()),
            None => None,
        }
    }

    pub async fn handshake(&self) -> String {
        for _ in 0..5 {
            let how = self.step();
            settle().await;
            if let Some(how) = how {
                return how;
            }
        }
        "nothing".into()
    }

    pub fn send(&self, data: &[u8]) {
        self.write(data);
        self.flush();
    }

    /// As [`send`](Self::send), but that it goes out with what is sent next.
    pub fn write(&self, data: &[u8]) {
        self.state.borrow_mut().tls.writer().write_all(data).unwrap();
    }

    /// What has arrived, and how it ended if it did.
    pub fn receive(&self) -> (Vec<u8>, String) {
        self.feed();
        let mut state = self.state.borrow_mut();
        let goodbye = if state.has_said_goodbye() { " close_notify" } else { "" };
        let error = state.error().map(|error| format!(" {error}")).unwrap_or_default();
        let end = format!("{goodbye}{error}{}", state.end);
        (std::mem::take(&mut state.plain), end)
    }

    /// As a text.
    pub fn received(&self) -> String {
        let (data, end) = self.receive();
        describe(&data) + &end
    }

    /// What arrives until nothing more comes, as a text.
    pub async fn collect(&self) -> String {
        let (mut total, mut end, mut idle) = (0, String::new(), 0);
        while idle < 2 && end.is_empty() {
            let (data, now) = self.receive();
            end = now;
            total += data.len();
            idle = if data.is_empty() { idle + 1 } else { 0 };
            settle().await;
        }
        format!("{total} bytes{end}")
    }

    /// Says that nothing follows.
    pub fn goodbye(&self) {
        self.state.borrow_mut().tls.send_close_notify();
        self.flush();
    }
}

/// Which side the loop has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

pub const SIDES: [Side; 2] = [Side::Client, Side::Server];

/// A connection that is to be made.
#[derive(Clone)]
pub struct Setup {
    side: Side,
    config: Config,
    name: &'static str,
    handshake_timeout: Duration,
    shutdown_timeout: Duration,
}

impl Setup {
    pub fn new(side: Side) -> Self {
        let (handshake_timeout, shutdown_timeout) = (Duration::from_secs(60), Duration::from_secs(30));
        Self { side, config: DEFAULT, name: NAME, handshake_timeout, shutdown_timeout }
    }

    pub fn client() -> Self {
        Self::new(Side::Client)
    }

    pub fn server() -> Self {
        Self::new(Side::Server)
    }

    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    pub fn version(mut self, version: TlsVersion) -> Self {
        self.config.version = Some(version);
        self
    }

    pub fn server_hostname(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// In seconds.
    pub fn handshake_timeout(mut self, seconds: u64) -> Self {
        self.handshake_timeout = Duration::from_secs(seconds);
        self
    }

    pub fn shutdown_timeout(mut self, seconds: u64) -> Self {
        self.shutdown_timeout = Duration::from_secs(seconds);
        self
    }

    /// A task that makes the connection over one of two sockets.
    pub fn connecting(&self, el: &EventLoop, own: &Peer, recorder: Recorder) -> Task<io::Result<Transport>> {
        let this = self.clone();
        let (el, own, factory) = (el.clone(), own.take(), move || recorder);
        el.clone().create_task(async move {
            let made: io::Result<(Transport, ProtocolRef<Recorder>)> = match this.side {
                Side::Client => {
                    let connection = el.create_connection(factory, own).tls(this.config.connector());
                    let connection = connection.server_hostname(this.name);
                    let connection = connection.tls_handshake_timeout(this.handshake_timeout);
                    connection.tls_shutdown_timeout(this.shutdown_timeout).await
                }
                Side::Server => {
                    let connection = el.connect_accepted_socket(factory, own).tls(this.config.acceptor());
                    let connection = connection.tls_handshake_timeout(this.handshake_timeout);
                    connection.tls_shutdown_timeout(this.shutdown_timeout).await
                }
            };
            made.map(|(transport, _)| transport)
        })
    }

    /// A connection over the first of two sockets: its transport and its other end.
    pub async fn connect_over(&self, el: &EventLoop, pair: &(Peer, Peer), recorder: Recorder) -> (Transport, TlsPeer) {
        let task = self.connecting(el, &pair.0, recorder);
        let peer = TlsPeer::of(&pair.1, self.side);
        assert_eq!(peer.handshake().await, "done");
        let transport = task.await.unwrap().unwrap();
        // What a server sends of its own accord, so that nothing is left unread.
        peer.feed();
        settle().await;
        (transport, peer)
    }

    pub async fn connect(&self, el: &EventLoop, recorder: Recorder) -> (Transport, TlsPeer) {
        self.connect_over(el, &socket_pair(), recorder).await
    }
}

/// A recorder that tells of no sizes: asyncio's count what is encrypted.
pub fn recorder(log: &Log) -> Recorder {
    Recorder::new(log).without_sizes()
}

/// What a connection has failed with.
pub fn failure(error: &io::Error) -> &'static str {
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(_)) => return "certificate",
        Some(_) => return "tls",
        None => {}
    }
    match error.kind() {
        ErrorKind::ConnectionReset => "reset",
        ErrorKind::ConnectionAborted => "aborted",
        _ => "error",
    }
}

/// Says what has become of a task.
pub async fn outcome(log: &Log, task: Task<io::Result<Transport>>) {
    log.push(match task.await {
        Err(_) => "cancelled".to_owned(),
        Ok(Err(error)) => format!("failed {}", failure(&error)),
        Ok(Ok(_)) => "connected".to_owned(),
    });
}

//! Protocols and peers that the tests of TCP share. Peers are std's sockets, which are no part of the loop.

#![allow(dead_code, unreachable_pub)]

use std::cell::RefCell;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use roundelay::{AddressError, EventLoop, KeepOpen, Protocol, Server, Transport};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::common::{Log, run_until, settle};

/// Any port of the IPv4 loopback.
pub const LOOPBACK: (&str, u16) = ("127.0.0.1", 0);

/// A protocol that notes what it hears.
#[derive(Clone, Default)]
pub struct Recorder(pub Log);

impl Recorder {
    pub fn new() -> Self {
        Self::default()
    }

    /// What was heard since the last call.
    pub fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

impl Protocol for Recorder {
    fn connection_made(&mut self, _: &Transport) {
        self.0.push("made");
    }
    fn data_received(&mut self, _: &Transport, data: &[u8]) {
        self.0.push(format!("data {}", String::from_utf8_lossy(data)));
    }
    fn eof_received(&mut self, _: &Transport) -> KeepOpen {
        self.0.push("eof");
        KeepOpen::No
    }
    fn connection_lost(&mut self, _: &Transport, error: Option<io::Error>) {
        match error {
            None => self.0.push("lost"),
            Some(error) => self.0.push(format!("lost {:?}", error.kind())),
        }
    }
}

/// A protocol that does nothing.
pub struct Idle;

impl Protocol for Idle {}

/// Makes such protocols; its type has a name.
pub fn idle() -> fn() -> Idle {
    || Idle
}

/// A protocol that sends back what it gets.
pub struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        transport.write(data);
    }
}

/// The transports of a server's connections, in the order in which they came.
#[derive(Clone, Default)]
pub struct Connections(Rc<RefCell<Vec<Transport>>>);

impl Connections {
    pub fn new() -> Self {
        Self::default()
    }

    /// A protocol that adds its transport, and sends back what it gets.
    pub fn protocol(&self) -> Connection {
        Connection(self.clone())
    }

    /// A factory of such protocols.
    pub fn factory(&self) -> impl Fn() -> Connection + 'static {
        let this = self.clone();
        move || this.protocol()
    }

    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    pub fn get(&self, i: usize) -> Transport {
        self.0.borrow()[i].clone()
    }
}

pub struct Connection(Connections);

impl Protocol for Connection {
    fn connection_made(&mut self, transport: &Transport) {
        self.0.0.borrow_mut().push(transport.clone());
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        transport.write(data);
    }
}

/// A listener that is no part of the loop. Whoever connects to it waits in the kernel, and costs no descriptor.
pub fn plain_listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Two ends of one connection.
pub fn plain_pair() -> (TcpStream, TcpStream) {
    let (listener, address) = plain_listener();
    let client = TcpStream::connect(address).unwrap();
    (client, listener.accept().unwrap().0)
}

/// A socket that has a port and does not listen: who connects is refused for as long as it lives.
pub fn closed_port() -> (Socket, SocketAddr) {
    closed_port_on("127.0.0.1:0")
}

pub fn closed_port_on(address: &str) -> (Socket, SocketAddr) {
    let address: SocketAddr = address.parse().unwrap();
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.bind(&SockAddr::from(address)).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// A listener that answers nobody: its queue is full, so the kernel lets whoever connects wait.
pub struct BlackHole {
    pub address: SocketAddr,
    _listener: Socket,
    _clients: Vec<Socket>,
}

impl BlackHole {
    /// Takes out what fills the queue: who knocks again, which is within a second or so, is let in.
    pub fn open(self) -> TcpListener {
        let Self { _listener: listener, _clients: clients, .. } = self;
        drop(clients);
        let listener = TcpListener::from(listener);
        while take_client(&listener).is_some() {}
        listener
    }

    /// Closes the port: who knocks again is refused.
    pub fn refuse(self) {}
}

pub fn black_hole() -> BlackHole {
    black_hole_on("127.0.0.1:0")
}

pub fn black_hole_on(address: &str) -> BlackHole {
    let (listener, address) = closed_port_on(address);
    listener.listen(0).unwrap();
    let mut clients = Vec::new();
    // The queue takes one more than its length; a spare one in case that another system counts otherwise.
    for _ in 0..2 {
        let client = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        let _ = client.connect(&SockAddr::from(address));
        clients.push(client);
    }
    BlackHole { address, _listener: listener, _clients: clients }
}

/// Ends the connection with a reset.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Whether this machine has an IPv6 loopback. Says so where it has none.
pub fn has_ipv6() -> bool {
    let has = TcpListener::bind("[::1]:0").is_ok();
    if !has {
        eprintln!("SKIPPED: this machine has no IPv6 loopback");
    }
    has
}

/// Whether somebody waits in a plain listener's queue; takes it.
pub fn take_client(listener: &TcpListener) -> Option<TcpStream> {
    listener.set_nonblocking(true).unwrap();
    match listener.accept() {
        Ok((client, _)) => Some(client),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

/// Reads from a peer that is no part of the loop until it has so many bytes, or is at its end.
#[track_caller]
pub fn receive(el: &EventLoop, peer: &mut TcpStream, most: usize) -> Vec<u8> {
    peer.set_nonblocking(true).unwrap();
    let mut received = Vec::new();
    let mut at_end = false;
    run_until(el, || {
        let mut buffer = vec![0; 64 * 1024];
        while received.len() < most && !at_end {
            let room = buffer.len().min(most - received.len());
            match peer.read(&mut buffer[..room]) {
                Ok(0) => at_end = true,
                Ok(n) => received.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) => panic!("{error}"),
            }
        }
        true
    });
    received
}

/// Reads a peer to its end.
#[track_caller]
pub fn receive_all(el: &EventLoop, peer: &mut TcpStream) -> Vec<u8> {
    receive(el, peer, usize::MAX)
}

/// Closes a connection and waits for its end.
#[track_caller]
pub fn close(el: &EventLoop, transport: &Transport) {
    transport.close();
    run_until(el, || transport.protocol().is_none());
}

/// Awaits something to its end, also a builder; fails after the harness' patience.
#[track_caller]
pub fn complete<F: IntoFuture>(el: &EventLoop, future: F) -> F::Output {
    crate::common::complete(el, future.into_future())
}

/// Makes turns until nothing happens any more, twice: what one turn has sent, the other may still receive.
pub fn calm(el: &EventLoop) {
    settle(el);
    settle(el);
}

/// A server whose connections are kept.
#[track_caller]
pub fn serve(el: &EventLoop) -> (Server, Connections, SocketAddr) {
    let connections = Connections::new();
    let server = complete(el, el.create_server(connections.factory(), LOOPBACK)).unwrap();
    let address = server.local_addrs()[0];
    (server, connections, address)
}

/// A client that is no part of the loop, and the server's side of its connection.
#[track_caller]
pub fn connect(el: &EventLoop, connections: &Connections, address: SocketAddr) -> (TcpStream, Transport) {
    let count = connections.len();
    let client = TcpStream::connect(address).unwrap();
    run_until(el, || connections.len() > count);
    (client, connections.get(count))
}

/// Ends a server and whatever it has.
#[track_caller]
pub fn end(el: &EventLoop, server: &Server) {
    server.close();
    server.abort_clients();
    complete(el, server.wait_closed());
    assert_eq!(server.connections(), 0);
}

/// What went wrong with an address, from inside of an error.
#[track_caller]
pub fn address_error(error: &io::Error) -> &AddressError {
    error.get_ref().expect("it carries an error").downcast_ref().expect("it is about an address")
}

/// A stream, and its peer, which is no part of the loop.
pub async fn stream() -> (roundelay::TcpStream, TcpStream) {
    let (ours, peer) = plain_pair();
    (roundelay::TcpStream::from_std(ours).unwrap(), peer)
}

/// Two streams that are connected with each other.
pub async fn pair() -> (roundelay::TcpStream, roundelay::TcpStream) {
    let (a, b) = plain_pair();
    (roundelay::TcpStream::from_std(a).unwrap(), roundelay::TcpStream::from_std(b).unwrap())
}

/// Bytes of which each tells its place.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

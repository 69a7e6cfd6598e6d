//! Protocols and peers that the tests of datagrams share. Peers are std's sockets, which are no part of the loop.

#![allow(dead_code, unreachable_pub)]

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use roundelay::{Address, DatagramHandle, DatagramProtocol, EventLoop, ProtocolRef};

use crate::common::{Log, complete, run_until};

/// A datagram endpoint as tests have it.
pub type Endpoint<P> = (DatagramHandle, ProtocolRef<P>);

/// What a test does when a callback comes.
type Then = Box<dyn FnMut(&DatagramHandle, &[u8], Option<&Address>)>;

/// A protocol that notes what it hears.
#[derive(Default)]
pub struct Recorder {
    log: Log,
    then: Vec<(&'static str, Then)>,
}

impl Recorder {
    pub fn new(log: &Log) -> Self {
        Self { log: log.clone(), then: Vec::new() }
    }

    /// What to do in a callback: made, datagram, error, pause, resume, lost.
    pub fn then(
        mut self,
        callback: &'static str,
        f: impl FnMut(&DatagramHandle, &[u8], Option<&Address>) + 'static,
    ) -> Self {
        self.then.push((callback, Box::new(f)));
        self
    }

    fn note(&mut self, callback: &str, detail: String, t: &DatagramHandle, data: &[u8], from: Option<&Address>) {
        self.log.push(if detail.is_empty() { callback.to_owned() } else { format!("{callback} {detail}") });
        if let Some((_, then)) = self.then.iter_mut().find(|(name, _)| *name == callback) {
            then(t, data, from);
        }
    }
}

impl DatagramProtocol for Recorder {
    fn connection_made(&mut self, t: &DatagramHandle) {
        self.note("made", String::new(), t, b"", None);
    }
    fn datagram_received(&mut self, t: &DatagramHandle, data: &[u8], from: Option<&Address>) {
        let text = String::from_utf8_lossy(&data[..data.len().min(40)]).into_owned();
        let text = if data.len() > 40 { format!("of {} bytes", data.len()) } else { format!("{text:?}") };
        self.note("datagram", text, t, data, from);
    }
    fn error_received(&mut self, t: &DatagramHandle, error: io::Error) {
        let detail = error.raw_os_error().map_or_else(|| error.to_string(), errno_name);
        self.note("error", detail, t, b"", None);
    }
    fn pause_writing(&mut self, t: &DatagramHandle) {
        self.note("pause", String::new(), t, b"", None);
    }
    fn resume_writing(&mut self, t: &DatagramHandle) {
        self.note("resume", String::new(), t, b"", None);
    }
    fn connection_lost(&mut self, t: &DatagramHandle, error: Option<io::Error>) {
        let detail = error.map(|error| format!("{:?}", error.kind())).unwrap_or_default();
        self.note("lost", detail, t, b"", None);
    }
}

fn errno_name(code: i32) -> String {
    match code {
        libc::ECONNREFUSED => "ECONNREFUSED".into(),
        libc::EMSGSIZE => "EMSGSIZE".into(),
        libc::EDESTADDRREQ => "EDESTADDRREQ".into(),
        libc::EAFNOSUPPORT => "EAFNOSUPPORT".into(),
        libc::EINVAL => "EINVAL".into(),
        other => io::Error::from_raw_os_error(other).to_string(),
    }
}

/// Sends back what it gets.
pub struct Echo;

impl DatagramProtocol for Echo {
    fn datagram_received(&mut self, transport: &DatagramHandle, data: &[u8], from: Option<&Address>) {
        transport.sendto(data, from);
    }
}

/// Does nothing.
pub struct Idle;

impl DatagramProtocol for Idle {}

/// Makes such protocols; its type has a name.
pub fn idle() -> fn() -> Idle {
    || Idle
}

/// Any port of the IPv4 loopback.
pub const LOOPBACK: (&str, u16) = ("127.0.0.1", 0);

/// An endpoint that is bound to the loopback, and its address.
#[track_caller]
pub fn bound<P: DatagramProtocol>(el: &EventLoop, protocol: P) -> (DatagramHandle, SocketAddr) {
    let (handle, _) = complete(el, el.create_datagram_endpoint(move || protocol).local_addr(LOOPBACK)).unwrap();
    let address = local(&handle);
    (handle, address)
}

/// An endpoint that is connected.
#[track_caller]
pub fn connected<P: DatagramProtocol>(el: &EventLoop, protocol: P, to: SocketAddr) -> DatagramHandle {
    complete(el, el.create_datagram_endpoint(move || protocol).remote_addr(to)).unwrap().0
}

/// An endpoint over a socket that is there.
#[track_caller]
pub fn over<P: DatagramProtocol>(
    el: &EventLoop,
    protocol: P,
    socket: impl Into<std::os::fd::OwnedFd>,
) -> DatagramHandle {
    complete(el, el.create_datagram_endpoint(move || protocol).sock(socket)).unwrap().0
}

/// The endpoint's own address.
#[track_caller]
pub fn local(handle: &DatagramHandle) -> SocketAddr {
    handle.extra_info().local_addr.expect("it has an address")
}

/// A socket that is no part of the loop, and its address.
pub fn plain() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(LOOPBACK).unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// An address at which nobody receives: its socket was closed. Another process may take it in time, which none here does.
pub fn dead() -> SocketAddr {
    plain().1
}

/// Two unix sockets that are connected with each other.
pub fn unix_pair() -> (UnixDatagram, UnixDatagram) {
    let (one, other) = UnixDatagram::pair().unwrap();
    other.set_nonblocking(true).unwrap();
    (one, other)
}

/// A folder for the files of unix sockets, and a path in it.
pub fn unix_path(name: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    (folder, path)
}

/// The datagram that a plain socket has got; waits for it.
#[track_caller]
pub fn receive(el: &EventLoop, socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let (mut buffer, mut received) = (vec![0; 70_000], None);
    run_until(el, || match socket.recv_from(&mut buffer) {
        Ok(found) => {
            received = Some(found);
            true
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => panic!("{error}"),
    });
    let (n, from) = received.unwrap();
    (buffer[..n].to_vec(), from)
}

/// All datagrams that a unix socket has got so far.
pub fn drain(socket: &UnixDatagram) -> Vec<Vec<u8>> {
    let mut buffer = vec![0; 300_000];
    let mut all = Vec::new();
    loop {
        match socket.recv(&mut buffer) {
            Ok(n) => all.push(buffer[..n].to_vec()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return all,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Closes an endpoint and waits for its end.
#[track_caller]
pub fn close(el: &EventLoop, handle: &DatagramHandle) {
    handle.close();
    run_until(el, || handle.protocol().is_none());
}

/// Waits until so much was noted, and takes it.
#[track_caller]
pub fn wait_for(el: &EventLoop, log: &Log, count: usize) -> Vec<String> {
    run_until(el, || log.len() >= count);
    log.take()
}

//! What the tests of transports share: a protocol that writes down what it hears, and a raw socket as its peer.

#![allow(dead_code, unreachable_pub)]

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use roundelay::{EventLoop, KeepOpen, Protocol, ProtocolRef, Transport};
use socket2::{Domain, Socket, Type};

use crate::common::{complete, run_until, settle};

/// The two kinds of stream sockets that a transport may stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Net {
    Tcp,
    Unix,
}

pub const NETS: [Net; 2] = [Net::Tcp, Net::Unix];

/// Two connected sockets.
pub fn sockets(net: Net) -> (Socket, Socket) {
    match net {
        Net::Unix => Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap(),
        Net::Tcp => {
            let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (far, _) = listener.accept().unwrap();
            far.set_nodelay(true).unwrap();
            (near.into(), far.into())
        }
    }
}

/// A transport over a connected socket.
pub fn attach<P: Protocol>(el: &EventLoop, socket: Socket, protocol: P) -> (Transport, ProtocolRef<P>) {
    complete(el, el.create_connection(|| protocol, socket).into_future()).unwrap()
}

/// A transport and its peer.
pub fn connect<P: Protocol>(el: &EventLoop, net: Net, protocol: P) -> (Transport, Peer) {
    let (near, far) = sockets(net);
    let peer = Peer::new(far);
    let (transport, _) = attach(el, near, protocol);
    (transport, peer)
}

/// A transport whose kernel buffers are small, and its peer: so that a write of some hundred KiB stays queued in part.
pub fn connect_narrow<P: Protocol>(el: &EventLoop, net: Net, protocol: P) -> (Transport, Peer) {
    let (near, far) = sockets(net);
    near.set_send_buffer_size(8 * 1024).unwrap();
    // Smaller than this, TCP waits for its timers.
    far.set_recv_buffer_size(32 * 1024).unwrap();
    let peer = Peer::new(far);
    let (transport, _) = attach(el, near, protocol);
    (transport, peer)
}

/// The other end of a connection: a socket that is driven by hand and never blocks.
pub struct Peer {
    pub socket: Socket,
    /// What has been read.
    received: RefCell<Vec<u8>>,
    /// How reading has ended.
    end: Cell<Option<Result<(), io::ErrorKind>>>,
}

impl Peer {
    pub fn new(socket: Socket) -> Self {
        socket.set_nonblocking(true).unwrap();
        Self { socket, received: RefCell::default(), end: Cell::new(None) }
    }

    /// Sends what must go into the kernel's buffers at once.
    pub fn send(&self, data: &[u8]) {
        (&self.socket).write_all(data).unwrap();
    }

    /// Sends as much as the kernel takes.
    pub fn send_some(&self, data: &[u8]) -> usize {
        match (&self.socket).write(data) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => panic!("the peer cannot send: {error}"),
        }
    }

    /// Reads what is there.
    pub fn pump(&self) {
        let mut buffer = [0; 64 * 1024];
        while self.end.get().is_none() {
            match (&self.socket).read(&mut buffer) {
                Ok(0) => self.end.set(Some(Ok(()))),
                Ok(n) => self.received.borrow_mut().extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => self.end.set(Some(Err(error.kind()))),
            }
        }
    }

    /// Reads at most so many bytes, once.
    pub fn sip(&self, n: usize) -> usize {
        let mut buffer = vec![0; n];
        match (&self.socket).read(&mut buffer) {
            Ok(n) => {
                self.received.borrow_mut().extend_from_slice(&buffer[..n]);
                n
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => panic!("the peer cannot read: {error}"),
        }
    }

    /// How many bytes have been read, after reading what is there.
    pub fn count(&self) -> usize {
        self.pump();
        self.received.borrow().len()
    }

    /// What has been read, after reading what is there.
    pub fn received(&self) -> Vec<u8> {
        self.pump();
        self.received.borrow().clone()
    }

    /// How reading has ended, after reading what is there.
    pub fn end(&self) -> Option<Result<(), io::ErrorKind>> {
        self.pump();
        self.end.get()
    }

    pub fn at_eof(&self) -> bool {
        self.end() == Some(Ok(()))
    }

    pub fn send_eof(&self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    /// Closes the connection with a reset. For TCP.
    pub fn reset(self) {
        self.socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    pub fn close(self) {}
}

#[derive(Default)]
struct Records {
    events: RefCell<Vec<String>>,
    bytes: RefCell<Vec<u8>>,
    chunks: RefCell<Vec<usize>>,
    lost: Cell<usize>,
    /// Whether a callback is on the stack.
    inside: Cell<bool>,
}

/// What a protocol has heard. Clones refer to the same records.
#[derive(Clone, Default)]
pub struct Record(Rc<Records>);

impl Record {
    pub fn new() -> Self {
        Self::default()
    }

    /// What was heard since the last call; bytes in a row are one entry.
    pub fn take(&self) -> Vec<String> {
        self.0.events.take()
    }

    pub fn has(&self, event: &str) -> bool {
        self.0.events.borrow().iter().any(|other| other == event)
    }

    pub fn count(&self, event: &str) -> usize {
        self.0.events.borrow().iter().filter(|other| *other == event).count()
    }

    /// An entry of the test's own.
    pub fn note(&self, event: impl Into<String>) {
        self.0.events.borrow_mut().push(event.into());
    }

    /// Whether nothing was heard since the last `take`.
    pub fn is_silent(&self) -> bool {
        self.0.events.borrow().is_empty()
    }

    /// All bytes received.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.bytes.borrow().clone()
    }

    pub fn len(&self) -> usize {
        self.0.bytes.borrow().len()
    }

    /// The sizes of the pieces in which they came.
    pub fn chunks(&self) -> Vec<usize> {
        self.0.chunks.borrow().clone()
    }

    /// How often `connection_lost` was called.
    pub fn lost(&self) -> usize {
        self.0.lost.get()
    }

    pub fn is_lost(&self) -> bool {
        self.lost() > 0
    }

    fn data(&self, data: &[u8]) {
        self.0.bytes.borrow_mut().extend_from_slice(data);
        self.0.chunks.borrow_mut().push(data.len());
        let mut events = self.0.events.borrow_mut();
        let before = events.last().and_then(|last| last.strip_prefix("data ")?.parse::<usize>().ok());
        match before {
            Some(n) => *events.last_mut().unwrap() = format!("data {}", n + data.len()),
            None => events.push(format!("data {}", data.len())),
        }
    }

    /// Runs a callback's body; one within another one is written down.
    pub fn callback<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Leave<'a>(&'a Record);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.0.inside.set(false);
            }
        }
        if self.0.inside.replace(true) {
            self.note("NESTED");
        }
        let _leave = Leave(self);
        f()
    }
}

type Hook = Option<Box<dyn FnMut(&Transport)>>;
/// Does something with the bytes that were received.
pub type DataAct = Box<dyn FnMut(&Transport, &[u8])>;
type EofHook = Option<Box<dyn FnMut(&Transport) -> KeepOpen>>;

/// A protocol that writes down what it hears, and then does what the test wants.
#[derive(Default)]
pub struct Tap {
    record: Record,
    made: Hook,
    data: Option<DataAct>,
    eof: EofHook,
    pause: Hook,
    resume: Hook,
    lost: Hook,
    dropped: Option<Box<dyn FnOnce()>>,
}

impl Tap {
    pub fn new(record: &Record) -> Self {
        let mut tap = Self::default();
        tap.record = record.clone();
        tap
    }

    /// One that keeps the connection open after the end of file.
    pub fn half_open(record: &Record) -> Self {
        Self::new(record).on_eof(|_| KeepOpen::Yes)
    }

    pub fn on_made(mut self, f: impl FnMut(&Transport) + 'static) -> Self {
        self.made = Some(Box::new(f));
        self
    }

    pub fn on_data(mut self, f: impl FnMut(&Transport, &[u8]) + 'static) -> Self {
        self.data = Some(Box::new(f));
        self
    }

    pub fn on_eof(mut self, f: impl FnMut(&Transport) -> KeepOpen + 'static) -> Self {
        self.eof = Some(Box::new(f));
        self
    }

    pub fn on_pause(mut self, f: impl FnMut(&Transport) + 'static) -> Self {
        self.pause = Some(Box::new(f));
        self
    }

    pub fn on_resume(mut self, f: impl FnMut(&Transport) + 'static) -> Self {
        self.resume = Some(Box::new(f));
        self
    }

    pub fn on_lost(mut self, f: impl FnMut(&Transport) + 'static) -> Self {
        self.lost = Some(Box::new(f));
        self
    }

    pub fn on_drop(mut self, f: impl FnOnce() + 'static) -> Self {
        self.dropped = Some(Box::new(f));
        self
    }
}

fn run(hook: &mut Hook, transport: &Transport) {
    if let Some(hook) = hook {
        hook(transport);
    }
}

impl Protocol for Tap {
    fn connection_made(&mut self, transport: &Transport) {
        self.record.callback(|| {
            self.record.note("made");
            run(&mut self.made, transport);
        });
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        self.record.callback(|| {
            self.record.data(data);
            if let Some(hook) = &mut self.data {
                hook(transport, data);
            }
        });
    }

    fn eof_received(&mut self, transport: &Transport) -> KeepOpen {
        self.record.callback(|| {
            self.record.note("eof");
            self.eof.as_mut().map_or(KeepOpen::No, |hook| hook(transport))
        })
    }

    fn pause_writing(&mut self, transport: &Transport) {
        self.record.callback(|| {
            self.record.note("pause");
            run(&mut self.pause, transport);
        });
    }

    fn resume_writing(&mut self, transport: &Transport) {
        self.record.callback(|| {
            self.record.note("resume");
            run(&mut self.resume, transport);
        });
    }

    fn connection_lost(&mut self, transport: &Transport, error: Option<io::Error>) {
        self.record.callback(|| {
            self.record.0.lost.set(self.record.lost() + 1);
            self.record.note(match error {
                None => "lost".into(),
                Some(error) => format!("lost {:?}", error.kind()),
            });
            run(&mut self.lost, transport);
        });
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        if let Some(dropped) = self.dropped.take() {
            dropped();
        }
    }
}

/// Runs the loop until the connection is lost.
#[track_caller]
pub fn until_lost(el: &EventLoop, record: &Record) {
    run_until(el, || record.is_lost());
}

/// Closes a transport that the test is done with.
#[track_caller]
pub fn finish(el: &EventLoop, transport: &Transport, record: &Record) {
    transport.abort();
    until_lost(el, record);
}

/// The loop sleeps when it has nothing to do: it asks the selector a few times at most until a timer is due.
#[track_caller]
pub fn assert_sleeps(el: &EventLoop) {
    settle(el);
    let before = el.stats();
    let timer = el.call_later(Duration::from_millis(5), || ());
    run_until(el, || timer.is_done());
    let (waits, turns) = (el.stats().waits - before.waits, el.stats().turns - before.turns);
    assert!(waits < 20 && turns < 20, "the loop does not sleep: {waits} waits in {turns} turns");
}

/// Bytes that do not repeat soon, so that a piece which is lost or swapped shows.
pub fn pattern(len: usize) -> Vec<u8> {
    /// A prime, so that it is no multiple of any buffer's size.
    const PERIOD: usize = 65_521;
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(next).take(len.min(PERIOD)).collect();
    // Made one by one, megabytes of them take most of a test's time.
    while bytes.len() < len {
        let more = PERIOD.min(len - bytes.len());
        bytes.extend_from_within(..more);
    }
    bytes
}

//! What the scenarios share: the counterpart of `reference/support.py`.

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::panic::panic_any;
use std::rc::Rc;
use std::time::Duration;

use roundelay::{EventLoop, ExceptionContext, KeepOpen, ManualClock, Protocol, ProtocolRef, Transport, yield_now};
use socket2::{SockRef, Socket};

use crate::common::Log;
use crate::oracle::{differs, same};

pub const SECOND: Duration = Duration::from_secs(1);

/// A line that says whether something is so.
pub fn yes(log: &Log, what: &str, value: bool) {
    log.push(format!("{what} {}", if value { "yes" } else { "no" }));
}

/// Makes one turn.
pub fn turn(el: &EventLoop) {
    el.stop();
    el.run_forever();
}

/// Makes turns, with a line before each.
pub fn turns(el: &EventLoop, log: &Log, count: usize) {
    for number in 1..=count {
        log.push(format!("-- turn {number}"));
        turn(el);
    }
}

/// Lets come to rest what needs no more than what is there.
pub async fn settle() {
    for _ in 0..10 {
        yield_now().await;
    }
}

/// A scenario that runs in a coroutine.
#[track_caller]
pub fn connected<F: Future<Output = ()>>(name: &str, scenario: impl Fn(EventLoop, Log) -> F) {
    same(name, |el, log| el.run_until_complete(scenario(el.clone(), log.clone())).unwrap());
}

/// As `connected`, for one that differs on purpose.
#[track_caller]
pub fn connected_differs<F: Future<Output = ()>>(
    name: &str,
    difference: &str,
    here: &[&str],
    scenario: impl Fn(EventLoop, Log) -> F,
) {
    let run = |el: &EventLoop, log: &Log, _: &ManualClock| {
        el.run_until_complete(scenario(el.clone(), log.clone())).unwrap();
    };
    differs(name, difference, here, run);
}

/// Leaves a line when it is dropped.
pub struct Guard(Log, String);

impl Guard {
    pub fn new(log: &Log, name: &str, what: &str) -> Self {
        Self(log.clone(), format!("{name} {what}"))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.push(self.1.as_str());
    }
}

/// What a call of the exception handler is about.
fn kind(context: &ExceptionContext<'_>) -> String {
    let kinds = [
        ("Exception in callback", "callback"),
        ("Task exception was never retrieved", "task"),
        ("Exception in a task that nobody awaits", "task"),
        ("Future exception was never retrieved", "future"),
        ("Fatal error: protocol.data_received()", "data_received"),
        ("Fatal error: protocol.eof_received()", "eof_received"),
        ("Fatal error: protocol.get_buffer()", "get_buffer"),
        ("protocol.pause_writing() failed", "pause_writing"),
        ("protocol.resume_writing() failed", "resume_writing"),
    ];
    let found = kinds.iter().find(|(start, _)| context.message.starts_with(start));
    found.map_or_else(|| context.message.to_string(), |(_, kind)| kind.to_string())
}

/// Lets the log have a line for each call of the exception handler.
pub fn trace_reports(el: &EventLoop, log: &Log) {
    let log = log.clone();
    el.set_exception_handler(Some(Rc::new(move |_, context| log.push(format!("reported {}", kind(context))))));
}

/// Panics, without the message that would go to stderr.
pub fn fail() {
    std::panic::resume_unwind(Box::new("on purpose"));
}

/// As [`fail`], with a payload that leaves the run.
pub fn fail_fatally() {
    panic_any(roundelay::Fatal::new("on purpose"));
}

thread_local! {
    /// Sockets stay open until the scenario has ended, unless it closes them.
    static KEPT: RefCell<Vec<Peer>> = const { RefCell::new(Vec::new()) };
}

pub fn close_kept() {
    drop(KEPT.take());
}

/// The other end of a connection: a plain socket that does not block.
#[derive(Clone)]
pub struct Peer(Rc<RefCell<Option<Socket>>>);

impl Peer {
    pub fn keep(socket: impl Into<Socket>) -> Self {
        let socket = socket.into();
        socket.set_nonblocking(true).unwrap();
        let peer = Self(Rc::new(RefCell::new(Some(socket))));
        KEPT.with(|kept| kept.borrow_mut().push(peer.clone()));
        peer
    }

    /// Uses the socket; it must be open.
    pub fn with<R>(&self, f: impl FnOnce(&Socket) -> R) -> R {
        f(self.0.borrow().as_ref().expect("the socket is open"))
    }

    pub fn send(&self, data: &[u8]) {
        assert_eq!(self.with(|mut socket| socket.write(data)).unwrap(), data.len());
    }

    pub fn shutdown(&self) {
        self.with(|socket| socket.shutdown(Shutdown::Write)).unwrap();
    }

    pub fn close(&self) {
        drop(self.0.take());
    }

    /// Ends a TCP connection without a farewell.
    pub fn reset(&self) {
        self.with(|socket| SockRef::from(socket).set_linger(Some(Duration::ZERO))).unwrap();
        self.close();
    }

    /// Gives the socket away.
    pub fn take(&self) -> OwnedFd {
        self.0.take().expect("the socket is open").into()
    }

    /// Sends until there is no room.
    pub fn fill(&self) {
        self.with(|mut socket| while socket.write(&[b'x'; 65536]).is_ok() {});
    }

    /// What has arrived, and how it ended if it did.
    pub fn receive(&self) -> (Vec<u8>, &'static str) {
        let (mut data, mut piece) = (Vec::new(), vec![0; 1 << 20]);
        loop {
            match self.with(|mut socket| socket.read(&mut piece)) {
                Ok(0) => return (data, " eof"),
                Ok(n) => data.extend_from_slice(&piece[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return (data, ""),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return (data, " reset"),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// As a text.
    pub fn received(&self) -> String {
        let (data, end) = self.receive();
        describe(&data) + end
    }

    /// What arrives until nothing more comes, as a text.
    pub async fn collect(&self) -> String {
        let (mut total, mut end, mut idle) = (0, "", 0);
        while idle < 2 && end.is_empty() {
            let (data, now) = self.receive();
            end = now;
            total += data.len();
            idle = if data.is_empty() { idle + 1 } else { 0 };
            settle().await;
        }
        format!("{total} bytes{end}")
    }
}

/// Two connected stream sockets that do not block.
pub fn socket_pair() -> (Peer, Peer) {
    let (one, other) = UnixStream::pair().unwrap();
    (Peer::keep(OwnedFd::from(one)), Peer::keep(OwnedFd::from(other)))
}

/// As `socket_pair`, over TCP.
pub fn tcp_pair() -> (Peer, Peer) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (other, _) = listener.accept().unwrap();
    (Peer::keep(one), Peer::keep(other))
}

/// Watches a socket for reading.
pub fn add_reader(el: &EventLoop, peer: &Peer, callback: impl FnMut() + 'static) {
    peer.with(|socket| el.add_reader(socket, callback)).unwrap();
}

/// Watches a socket for writing.
pub fn add_writer(el: &EventLoop, peer: &Peer, callback: impl FnMut() + 'static) {
    peer.with(|socket| el.add_writer(socket, callback)).unwrap();
}

pub fn remove_reader(el: &EventLoop, peer: &Peer) -> bool {
    peer.with(|socket| el.remove_reader(socket))
}

pub fn remove_writer(el: &EventLoop, peer: &Peer) -> bool {
    peer.with(|socket| el.remove_writer(socket))
}

/// A callback that leaves a line as often as it is called.
pub fn line(log: &Log, text: &'static str) -> impl FnMut() + 'static {
    let log = log.clone();
    move || log.push(text)
}

/// The bytes, or how many there are.
pub fn describe(data: &[u8]) -> String {
    if data.len() > 40 {
        return format!("{} bytes", data.len());
    }
    format!("'{}'", String::from_utf8_lossy(data).replace('\n', "\\n"))
}

pub fn error_kind(error: Option<io::Error>) -> &'static str {
    match error {
        None => "None",
        Some(error) if error.kind() == ErrorKind::ConnectionReset => "reset",
        Some(_) => "error",
    }
}

type Then = Box<dyn FnMut(&Transport, &[u8])>;

/// Leaves a line for each callback, and then calls what was given for it.
pub struct Recorder {
    log: Log,
    name: String,
    keep_open: bool,
    /// Whether to tell of the sizes of queues.
    sizes: bool,
    /// How much data has come that was not told of; `None` where each piece is.
    untold: Option<usize>,
    then: Vec<(&'static str, Then)>,
}

impl Recorder {
    pub fn new(log: &Log) -> Self {
        Self { log: log.clone(), name: String::new(), keep_open: false, sizes: true, untold: None, then: Vec::new() }
    }

    pub fn name(mut self, name: &str) -> Self {
        self.name = format!("{name} ");
        self
    }

    pub fn keep_open(mut self) -> Self {
        self.keep_open = true;
        self
    }

    /// Tells of no sizes of queues.
    #[cfg(feature = "__tls")]
    pub fn without_sizes(mut self) -> Self {
        self.sizes = false;
        self
    }

    /// Tells only how much data has come before anything else.
    #[cfg(feature = "__tls")]
    pub fn total(mut self) -> Self {
        self.untold = Some(0);
        self
    }

    /// What to do in a callback: made, data, eof, pause, resume, lost.
    pub fn then(self, callback: &'static str, mut f: impl FnMut(&Transport) + 'static) -> Self {
        self.then_with(callback, move |transport, _| f(transport))
    }

    pub fn then_with(mut self, callback: &'static str, f: impl FnMut(&Transport, &[u8]) + 'static) -> Self {
        self.then.push((callback, Box::new(f)));
        self
    }

    fn note(&mut self, callback: &str, detail: &str, transport: &Transport, data: &[u8]) {
        if let Some(untold) = &mut self.untold {
            if callback == "data" {
                *untold += data.len();
                return;
            }
            match std::mem::take(untold) {
                0 => {}
                untold => self.log.push(format!("{}data {untold} bytes", self.name)),
            }
        }
        let space = if detail.is_empty() { "" } else { " " };
        self.log.push(format!("{}{callback}{space}{detail}", self.name));
        if let Some((_, then)) = self.then.iter_mut().find(|(name, _)| *name == callback) {
            then(transport, data);
        }
    }
}

impl Recorder {
    fn size(&self, transport: &Transport) -> String {
        if self.sizes { transport.write_buffer_size().to_string() } else { String::new() }
    }
}

impl Protocol for Recorder {
    fn connection_made(&mut self, transport: &Transport) {
        self.note("made", "", transport, b"");
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        self.note("data", &describe(data), transport, data);
    }

    fn eof_received(&mut self, transport: &Transport) -> KeepOpen {
        self.note("eof", "", transport, b"");
        self.keep_open.into()
    }

    fn pause_writing(&mut self, transport: &Transport) {
        self.note("pause", &self.size(transport), transport, b"");
    }

    fn resume_writing(&mut self, transport: &Transport) {
        self.note("resume", &self.size(transport), transport, b"");
    }

    fn connection_lost(&mut self, transport: &Transport, error: Option<io::Error>) {
        self.note("lost", error_kind(error), transport, b"");
    }
}

/// A connection of a protocol over the first of two sockets.
pub async fn connect_over<P: Protocol>(el: &EventLoop, own: &Peer, protocol: P) -> (Transport, ProtocolRef<P>) {
    el.create_connection(move || protocol, own.take()).await.unwrap()
}

/// A recorded connection: its transport and the other socket.
pub async fn connect(el: &EventLoop, recorder: Recorder) -> (Transport, Peer) {
    let (own, peer) = socket_pair();
    (connect_over(el, &own, recorder).await.0, peer)
}

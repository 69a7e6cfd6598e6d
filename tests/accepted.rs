//! A connection that a server has just accepted: the selector hears of it when `connection_made` has been called, and
//! whatever that does to the transport holds.

mod common;
#[path = "common/recording.rs"]
mod recording;
#[path = "common/seccomp.rs"]
mod seccomp;
#[path = "common/tcp.rs"]
mod tcp;

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use common::{Log, complete, on_loop, run_on, run_until, settle, take_reports};
use roundelay::selector::{Epoll, Event, Interest, Mode, Notify, Selector};
use roundelay::{EventLoop, Protocol, Server, Transport};
use tcp::{LOOPBACK, receive};

/// Does something in `connection_made`, and notes what it hears.
struct Made<F> {
    act: F,
    log: Log,
}

impl<F: Fn(&Transport) + 'static> Protocol for Made<F> {
    fn connection_made(&mut self, transport: &Transport) {
        self.log.push("made");
        (self.act)(transport);
    }
    fn data_received(&mut self, _: &Transport, data: &[u8]) {
        self.log.push(format!("data {}", String::from_utf8_lossy(data)));
    }
    fn connection_lost(&mut self, _: &Transport, error: Option<io::Error>) {
        self.log.push(match error {
            None => "lost".to_string(),
            Some(error) => format!("lost {error}"),
        });
    }
}

/// A server whose protocols do this in `connection_made`, and its log.
fn serve(el: &EventLoop, act: impl Fn(&Transport) + Clone + 'static) -> (Server, Log) {
    let log = Log::new();
    let noted = log.clone();
    let factory = move || Made { act: act.clone(), log: noted.clone() };
    (complete(el, el.create_server(factory, LOOPBACK)).unwrap(), log)
}

fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.local_addrs()[0]).unwrap()
}

#[track_caller]
fn end(el: &EventLoop, server: &Server) {
    server.close();
    run_until(el, || server.connections() == 0);
    settle(el);
}

/// One that is turned down in `connection_made` costs the selector nothing; any other is registered once, and
/// deregistered once.
#[test]
fn the_selector_hears_of_those_that_stay() {
    let tape = recording::Tape::new();
    run_on(
        || EventLoop::builder().selector(tape.selector()),
        |el| {
            for (act, changes) in
                [(Transport::abort as fn(&Transport), 0), (Transport::close, 0), (|_: &Transport| {}, 2)]
            {
                let (server, log) = serve(el, act);
                settle(el);
                tape.changes();
                let peers: Vec<TcpStream> = (0..3).map(|_| connect(&server)).collect();
                run_until(el, || log.len() >= 3 && (changes > 0 || log.len() == 6));
                drop(peers);
                run_until(el, || log.len() == 6);
                settle(el);
                assert_eq!(tape.changes(), 3 * changes);
                end(el, &server);
            }
        },
    );
}

on_every_loop! {
    /// Paused in `connection_made`, nothing is delivered until it is resumed, though it had arrived before.
    fn paused_when_made(el) {
        let transports: Rc<RefCell<Vec<Transport>>> = Rc::default();
        let made = transports.clone();
        let (server, log) = serve(el, move |transport| {
            transport.pause_reading();
            made.borrow_mut().push(transport.clone());
        });
        let mut peer = connect(&server);
        peer.write_all(b"early").unwrap();
        run_until(el, || log.len() == 1);
        settle(el);
        assert_eq!(log.take(), ["made"]);
        transports.borrow()[0].resume_reading();
        run_until(el, || log.len() == 1);
        assert_eq!(log.take(), ["data early"]);
        drop(peer);
        run_until(el, || log.len() == 1);
        transports.take();
        end(el, &server);
    }

    /// What is written in `connection_made` arrives in full, also more than the kernel takes at once, and also where the
    /// transport was closed behind it.
    fn much_written_when_made(el) {
        const MUCH: usize = 8 * 1024 * 1024;
        for closes in [false, true] {
            let (server, log) = serve(el, move |transport| {
                transport.write(&vec![b'x'; MUCH]);
                assert!(transport.write_buffer_size() > 0, "the kernel took it all: the test needs more");
                if closes {
                    transport.close();
                }
            });
            let mut peer = connect(&server);
            assert_eq!(receive(el, &mut peer, MUCH).len(), MUCH);
            if closes {
                run_until(el, || log.len() == 2);
                assert_eq!(peer.read(&mut [0]).unwrap(), 0);
            } else {
                drop(peer);
                run_until(el, || log.len() == 2);
            }
            assert_eq!(log.take(), ["made", "lost"]);
            end(el, &server);
        }
    }

    /// What is given back in `connection_made` is delivered, with nothing from the peer.
    fn given_back_when_made(el) {
        let (server, log) = serve(el, |transport| transport.unread(b"known"));
        let peer = connect(&server);
        run_until(el, || log.len() == 2);
        assert_eq!(log.take(), ["made", "data known"]);
        drop(peer);
        end(el, &server);
    }

    /// Its descriptor belongs to the transport in `connection_made` already.
    fn no_reader_of_its_own_when_made(el) {
        let (server, log) = serve(el, |transport| {
            let fd = transport.extra_info().socket.unwrap().raw_fd().unwrap();
            let el = roundelay::get_running_loop().unwrap();
            let error = el.add_reader(seccomp::borrow(fd), || {}).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        });
        let peer = connect(&server);
        run_until(el, || log.len() == 1);
        assert_eq!(take_reports(), [""; 0]);
        drop(peer);
        end(el, &server);
    }
}

/// The address of a connection over a listener on all interfaces is known after its end, to whoever kept a handle.
#[test]
fn the_address_outlives_the_connection() {
    on_loop(|el| {
        let transports: Rc<RefCell<Vec<Transport>>> = Rc::default();
        let made = transports.clone();
        let log = Log::new();
        let noted = log.clone();
        let factory = move || {
            let made = made.clone();
            Made { act: move |transport: &Transport| made.borrow_mut().push(transport.clone()), log: noted.clone() }
        };
        let server = complete(el, el.create_server(factory, ("0.0.0.0", 0))).unwrap();
        let address = (std::net::Ipv4Addr::LOCALHOST, server.local_addrs()[0].port()).into();
        let peer = TcpStream::connect(address).unwrap();
        drop(peer);
        run_until(el, || log.len() == 2);
        settle(el);
        let transport = transports.borrow_mut().pop().unwrap();
        assert!(transport.protocol().is_none());
        assert_eq!(transport.extra_info().local_addr, Some(address));
        end(el, &server);
    });
}

/// A selector that may refuse descriptors.
struct Refuses {
    below: Epoll,
    refuses: Rc<Cell<bool>>,
}

impl Selector for Refuses {
    fn name(&self) -> &'static str {
        "refuses"
    }
    fn supports_edge(&self) -> bool {
        self.below.supports_edge()
    }
    fn add(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest, mode: Mode) -> io::Result<()> {
        if self.refuses.get() {
            return Err(io::Error::other("no room for another one"));
        }
        self.below.add(fd, key, interest, mode)
    }
    fn modify(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest, mode: Mode) -> io::Result<()> {
        self.below.modify(fd, key, interest, mode)
    }
    fn delete(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.below.delete(fd)
    }
    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        self.below.wait(timeout, events)
    }
    fn notifier(&self) -> Arc<dyn Notify> {
        self.below.notifier()
    }
    fn backend_fd(&self) -> Option<BorrowedFd<'_>> {
        self.below.backend_fd()
    }
}

/// One that the selector refuses is lost with its error, and the server goes on.
#[test]
fn one_that_cannot_be_watched_is_lost() {
    let refuses = Rc::new(Cell::new(false));
    run_on(
        || EventLoop::builder().selector(Refuses { below: Epoll::new().unwrap(), refuses: refuses.clone() }),
        |el| {
            let (server, log) = serve(el, |_| {});
            settle(el);
            refuses.set(true);
            let first = connect(&server);
            run_until(el, || log.len() == 2);
            assert_eq!(log.take(), ["made", "lost no room for another one"]);
            refuses.set(false);
            let mut second = connect(&server);
            second.write_all(b"hello").unwrap();
            run_until(el, || log.len() == 2);
            assert_eq!(log.take(), ["made", "data hello"]);
            drop((first, second));
            end(el, &server);
        },
    );
}

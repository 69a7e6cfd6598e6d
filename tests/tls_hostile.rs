//! Peers of TLS that do not mean well, and many of them (behaviours TL-06, TL-20, EH-15): what they cost, and that nobody
//! else notices.

#![cfg(feature = "__tls")]

#[path = "common/certificates.rs"]
mod certificates;
mod common;
#[path = "common/counting.rs"]
mod counting;
#[path = "common/raw_tls.rs"]
mod raw_tls;
#[path = "common/tcp.rs"]
mod tcp;
mod wire;

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use certificates::{acceptor, connector};
use common::{finish as finish_task, on_loop, on_manual_clock, open_descriptors, run_until, settle, take_reports};
use counting::live_bytes;
use raw_tls::{RawTls, client_config, connect};
use roundelay::{EventLoop, KeepOpen, Protocol, Server, TlsAcceptor, Transport};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use tcp::{LOOPBACK, complete};
use wire::{Net, Record, Tap, assert_sleeps, finish, pattern};

/// Sends back what it gets; how many there are is counted.
struct Echo(Rc<Cell<usize>>);

impl Protocol for Echo {
    fn connection_made(&mut self, _: &Transport) {
        self.0.set(self.0.get() + 1);
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        transport.write(data);
    }
}

/// An echo server with TLS, where it is, and how many connections its protocols have heard of.
fn serve(el: &EventLoop) -> (Server, SocketAddr, Rc<Cell<usize>>) {
    let made = Rc::new(Cell::new(0));
    let count = made.clone();
    let server = el.create_server(move || Echo(count.clone()), LOOPBACK).tls(acceptor());
    let server = complete(el, server);
    let server = server.unwrap();
    let address = server.local_addrs()[0];
    (server, address, made)
}

/// A good client is served, and goes.
fn assert_serves(el: &EventLoop, address: SocketAddr) {
    let peer = RawTls::client(TcpStream::connect(address).unwrap().into());
    peer.send(b"hello");
    run_until(el, || peer.count() == 5);
    assert_eq!(peer.received(), b"hello");
    peer.close_notify();
    run_until(el, || peer.end().is_some());
    assert_eq!(peer.end(), Some(Ok(())));
}

/// The first thing that a client says.
fn client_hello() -> Vec<u8> {
    let mut hello = Vec::new();
    let mut client = ClientConnection::new(client_config(), ServerName::try_from("localhost").unwrap()).unwrap();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// A record of a handshake.
fn handshake_record(body: &[u8]) -> Vec<u8> {
    let mut record = vec![22, 3, 1];
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

/// What is no TLS, or none that anybody would speak.
fn nonsense() -> Vec<(&'static str, Vec<u8>)> {
    let hello = client_hello();
    let mut broken = hello.clone();
    broken[5 + 4 + 2 + 32] = 255;
    vec![
        ("garbage", pattern(100_000)),
        ("zeros", vec![0; 5]),
        ("plain HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("a record that is too large", [&[22, 3, 1, 255, 255][..], &[0; 70_000]].concat()),
        ("an empty record", vec![22, 3, 1, 0, 0]),
        ("a message that is too long", handshake_record(&[1, 255, 255, 255, 3, 3])),
        ("a message that does not follow", handshake_record(&[20, 0, 0, 0])),
        ("a broken hello", broken),
        ("data", vec![23, 3, 3, 0, 5, 1, 2, 3, 4, 5]),
        ("an alert", vec![21, 3, 3, 0, 2, 2, 40]),
        ("two hellos", [&hello[..], &hello].concat()),
    ]
}

on_every_loop! {
    /// TL-02, EH-15: a peer that speaks no TLS gets an alert and the end; no protocol hears of it; debug mode reports it,
    /// else nobody does; and all others are served.
    fn nonsense_ends_its_connection_only(el) {
        let (server, address, made) = serve(el);
        for (what, bytes) in nonsense() {
            let mut peer = TcpStream::connect(address).unwrap();
            peer.set_nonblocking(true).unwrap();
            let mut sent = 0;
            let mut answer = Vec::new();
            let mut ended = false;
            run_until(el, || {
                // It may be gone before it has taken everything.
                sent += peer.write(&bytes[sent..]).unwrap_or(0);
                match peer.read_to_end(&mut answer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    _ => ended = true,
                }
                ended
            });
            run_until(el, || server.connections() == 0);
            if el.debug() {
                let reports = take_reports();
                assert_eq!(reports.len(), 1, "{what}: {reports:?}");
                assert!(reports[0].starts_with("Error on transport creation for incoming connection"), "{reports:?}");
            }
            assert_serves(el, address);
        }
        assert_eq!(made.get(), nonsense().len());
        run_until(el, || server.connections() == 0);
        tcp::end(el, &server);
    }

    /// A client whose hello comes byte by byte is served as any other.
    fn byte_by_byte(el) {
        let (server, address, made) = serve(el);
        let peer = RawTls::client(TcpStream::connect(address).unwrap().into());
        let mut hello = Vec::new();
        peer.tls().write_tls(&mut hello).unwrap();
        for byte in hello {
            (&peer.socket).write_all(&[byte]).unwrap();
            settle(el);
        }
        run_until(el, || {
            peer.pump();
            made.get() == 1
        });
        // So are the records, and one byte in each of them.
        for byte in b"hello" {
            let mut record = Vec::new();
            peer.tls().writer().write_all(&[*byte]).unwrap();
            while peer.tls().wants_write() {
                peer.tls().write_tls(&mut record).unwrap();
            }
            for byte in record {
                (&peer.socket).write_all(&[byte]).unwrap();
                settle(el);
            }
        }
        run_until(el, || peer.count() == 5);
        assert_eq!(peer.received(), b"hello");
        drop(peer);
        tcp::end(el, &server);
    }

    /// TL-20: records that were tampered with end the connection with an error, of which the protocol hears behind what
    /// came before.
    fn a_corrupted_record(el) {
        let record = Record::new();
        let (transport, peer) = connect(el, Net::Tcp, Tap::new(&record));
        peer.tls().writer().write_all(b"good").unwrap();
        let mut records = Vec::new();
        peer.tls().write_tls(&mut records).unwrap();
        peer.tls().writer().write_all(b"evil").unwrap();
        let good = records.len();
        peer.tls().write_tls(&mut records).unwrap();
        records[good + 7] ^= 1;
        (&peer.socket).write_all(&records).unwrap();
        run_until(el, || record.is_lost());
        assert_eq!(record.take(), ["made", "data 4", "lost InvalidData"]);
        assert!(transport.is_closing());
        run_until(el, || peer.end().is_some());
        // It is told by an alert.
        assert_eq!(peer.end(), Some(Err(io::ErrorKind::InvalidData)));
    }

    /// TL-10, TL-15: a connection that is lost while it changes to TLS: whoever waits for that hears of it, and so does the
    /// protocol, once, which knew of the connection.
    fn lost_while_it_changes_to_tls(el) {
        for ours in [false, true] {
            let (before, after) = (Record::new(), Record::new());
            let (transport, peer) = wire::connect(el, Net::Tcp, Tap::new(&before));
            let starting = el.start_tls(transport.clone(), Tap::new(&after), connector()).server_hostname("localhost");
            let task = el.create_task(starting.into_future());
            run_until(el, || peer.count() > 0);
            if ours {
                transport.abort();
            } else {
                peer.reset();
            }
            let error = finish_task(el, task).unwrap().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            run_until(el, || after.is_lost());
            settle(el);
            assert_eq!(before.take(), ["made"]);
            assert_eq!(after.take(), ["lost ConnectionReset"]);
        }
    }

    /// A peer that changes its keys again and again, and asks for the same, is kept up with in both directions.
    fn keys_that_change(el) {
        let record = Record::new();
        let tap = Tap::new(&record).on_data(|transport, data| transport.write(data));
        let (transport, peer) = connect(el, Net::Unix, tap);
        let data = pattern(200_000);
        for (n, piece) in data.chunks(1000).enumerate() {
            peer.tls().refresh_traffic_keys().unwrap();
            peer.send(piece);
            if n % 7 == 0 {
                run_until(el, || peer.count() >= n * 1000);
            }
        }
        run_until(el, || peer.count() == data.len());
        assert!(peer.received() == data && record.bytes() == data);
        finish(el, &transport, &record);
    }

    /// One that only ever does so, and reads no answer, is an error before it costs memory.
    fn keys_that_only_change(el) {
        let record = Record::new();
        let (transport, peer) = connect(el, Net::Tcp, Tap::new(&record));
        let before = live_bytes();
        for _ in 0..1000 {
            peer.tls().refresh_traffic_keys().unwrap();
            peer.flush();
            settle(el);
            if record.is_lost() {
                break;
            }
        }
        assert!(live_bytes() - before < 100_000);
        run_until(el, || record.is_lost());
        assert_eq!(record.take(), ["made", "lost InvalidData"]);
        assert!(transport.is_closing());
    }
}

/// TL-06: half a hello and then silence: its connection is ended when the time for handshakes is up, and not before.
#[test]
fn half_a_hello_and_silence() {
    on_manual_clock(|el, clock| {
        let (server, address, made) = serve(el);
        let hello = client_hello();
        let peers: Vec<_> = [0, 1, 5, hello.len() / 2, hello.len() - 1]
            .into_iter()
            .map(|n| {
                let mut peer = TcpStream::connect(address).unwrap();
                peer.set_nonblocking(true).unwrap();
                peer.write_all(&hello[..n]).unwrap();
                peer
            })
            .collect();
        run_until(el, || server.connections() == peers.len());
        assert_sleeps_by_hand(el);
        clock.advance(Duration::from_millis(59_999));
        settle(el);
        assert_eq!(server.connections(), peers.len());
        assert_serves(el, address);
        clock.advance(Duration::from_millis(1));
        run_until(el, || server.connections() == 0);
        for mut peer in peers {
            // By an end or a reset, as the bytes lay.
            let end = peer.read(&mut [0; 100]);
            assert!(!matches!(&end, Err(error) if error.kind() == io::ErrorKind::WouldBlock), "{end:?}");
        }
        assert_eq!(made.get(), 1);
        tcp::end(el, &server);
    });
}

/// As `assert_sleeps`, where the clock stands still.
fn assert_sleeps_by_hand(el: &EventLoop) {
    settle(el);
    let before = el.stats().turns;
    settle(el);
    assert!(el.stats().turns - before < 5);
}

/// A megabyte of a handshake in pieces, and what would need as much to be understood, is refused before it costs more than
/// some tens of kilobytes.
#[test]
fn pieces_of_a_handshake() {
    on_loop(|el| {
        let (server, address, made) = serve(el);
        assert_serves(el, address);
        run_until(el, || server.connections() == 0);
        // A message that is as long as one may be, then one that never ends, in records of several sizes.
        let long = [&[1, 0, 255, 255][..], &vec![0; 65_535]].concat();
        let kinds = [16_384, 1000, 1].map(|size| {
            let mut bytes = Vec::new();
            for piece in long.iter().copied().cycle().take(1 << 20).collect::<Vec<u8>>().chunks(size) {
                bytes.extend(handshake_record(piece));
            }
            bytes
        });
        for bytes in kinds {
            let before = live_bytes();
            let mut peer = TcpStream::connect(address).unwrap();
            peer.set_nonblocking(true).unwrap();
            run_until(el, || server.connections() == 1);
            let (mut sent, mut most) = (0, 0);
            run_until(el, || {
                let end = bytes.len().min(sent + 1000);
                match peer.write(&bytes[sent..end]) {
                    Ok(n) => sent += n,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return true,
                }
                most = most.max(live_bytes() - before);
                sent == bytes.len() || server.connections() == 0
            });
            assert!(most < 500_000, "{most} bytes for a handshake");
            run_until(el, || server.connections() == 0);
        }
        assert_eq!(made.get(), 1);
        tcp::end(el, &server);
    });
}

/// The most descriptors that there may be.
fn most_descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    limit.maximum.map_or(usize::MAX, |most| most as usize)
}

/// How many connections there may be, with both ends in this process.
fn room(most: usize) -> usize {
    most.min((most_descriptors() - open_descriptors() - 100) / 2)
}

/// A handshake that has stalled costs a timer and a buffer, and holds up nobody.
#[test]
fn stalled_handshakes() {
    on_loop(|el| {
        let (server, address, _made) = serve(el);
        let hello = client_hello();
        let mut peers = Vec::new();
        let mut stall = |count: usize| {
            while peers.len() < count {
                let mut peer = TcpStream::connect(address).unwrap();
                peer.write_all(&hello[..hello.len() / 2]).unwrap();
                peers.push(peer);
                if peers.len() % 50 == 0 || peers.len() == count {
                    run_until(el, || server.connections() == peers.len());
                }
            }
            settle(el);
        };
        let count = room(500);
        stall(50);
        let before = live_bytes();
        stall(count);
        let bytes = (live_bytes() - before) / (count - 50) as isize;
        println!("{bytes} bytes for each of {count} stalled handshakes");
        assert!((1000..20_000).contains(&bytes), "{bytes} bytes");
        assert_serves(el, address);
        assert_sleeps(el);
        drop(peers);
        run_until(el, || server.connections() == 0);
        tcp::end(el, &server);
    });
}

/// What many clients have in common.
#[derive(Default)]
struct Crowd {
    transports: RefCell<Vec<Transport>>,
    received: Cell<usize>,
    lost: Cell<usize>,
}

struct Member(Rc<Crowd>);

impl Protocol for Member {
    fn connection_made(&mut self, transport: &Transport) {
        self.0.transports.borrow_mut().push(transport.clone());
    }
    fn data_received(&mut self, _: &Transport, data: &[u8]) {
        assert_eq!(data, b"hello");
        self.0.received.set(self.0.received.get() + 1);
    }
    fn eof_received(&mut self, _: &Transport) -> KeepOpen {
        KeepOpen::No
    }
    fn connection_lost(&mut self, _: &Transport, error: Option<io::Error>) {
        assert!(error.is_none(), "{error:?}");
        self.0.lost.set(self.0.lost.get() + 1);
    }
}

/// TL-13: a thousand handshakes at the same time, both ends on this loop, and what such a connection costs while it is
/// idle. All are served, and all end well.
#[test]
fn a_thousand_handshakes_at_once() {
    on_loop(|el| {
        let (server, address, made) = serve(el);
        let crowd = Rc::new(Crowd::default());
        let join = |count: usize| {
            let tasks: Vec<_> = (0..count)
                .map(|_| {
                    let crowd = crowd.clone();
                    let connecting = el.create_connection(move || Member(crowd), address);
                    el.create_task(connecting.tls(connector()).server_hostname("localhost").into_future())
                })
                .collect();
            for task in tasks {
                finish_task(el, task).unwrap().unwrap();
            }
            let count = crowd.transports.borrow().len();
            run_until(el, || made.get() == count);
            settle(el);
        };
        let (first, count) = (20, room(1000));
        join(first);
        let before = live_bytes();
        join(count);
        let bytes = (live_bytes() - before) / count as isize;
        println!("{bytes} bytes for each of {count} idle connections, both ends of it together");
        assert!((5000..60_000).contains(&bytes), "{bytes} bytes");
        assert_sleeps(el);
        let all = first + count;
        crowd.transports.borrow().iter().for_each(|transport| transport.write(b"hello"));
        run_until(el, || crowd.received.get() == all);
        crowd.transports.borrow().iter().for_each(Transport::close);
        run_until(el, || crowd.lost.get() == all);
        crowd.transports.take();
        run_until(el, || server.connections() == 0);
        tcp::end(el, &server);
    });
}

/// The same where every handshake fails: no descriptor and no memory is left.
#[test]
fn many_handshakes_that_fail() {
    on_loop(|el| {
        let stranger = certificates::Authority::new("a stranger").server(&["localhost"]);
        let acceptor = TlsAcceptor::builder().identity(stranger.identity()).build().unwrap();
        let made = Rc::new(Cell::new(0));
        let count = made.clone();
        let server = el.create_server(move || Echo(count.clone()), LOOPBACK).tls(acceptor);
        let server = complete(el, server).unwrap();
        let address = server.local_addrs()[0];
        let fail = |count: usize| {
            let connect = || el.create_connection(|| Member(Rc::default()), address).tls(connector());
            let tasks: Vec<_> =
                (0..count).map(|_| el.create_task(connect().server_hostname("localhost").into_future())).collect();
            for task in tasks {
                let error = finish_task(el, task).unwrap().map(|_| ()).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            }
            run_until(el, || server.connections() == 0);
            settle(el);
        };
        fail(100);
        let before = live_bytes();
        fail(100);
        let left = live_bytes() - before;
        assert!(left < 20_000, "{left} bytes are left");
        assert_eq!(made.get(), 0);
        tcp::end(el, &server);
    });
}

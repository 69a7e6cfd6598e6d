//! TLS connections whose server or whose loop comes to its end, in each of their phases (behaviours TL, SV, RW).

#![cfg(feature = "__tls")]

#[path = "common/certificates.rs"]
mod certificates;
#[path = "common/collector.rs"]
mod collector;
mod common;
#[path = "common/tls_peer.rs"]
mod tls_peer;
mod wire;

use std::cell::RefCell;
use std::net::TcpStream;
use std::rc::Rc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use certificates::{acceptor, connector};
use collector::collect;
use common::{
    Kind, PATIENCE, alone, complete, finish, open_descriptors, run_on, run_until, settle, take_reports, watch_reports,
};
use roundelay::{EventLoop, ManualClock, Runner, Server, TlsSide, Transport};
use tls_peer::{SIDES, Setup, Side, TlsPeer, pair};
use wire::{Net, Record, Tap, pattern, sockets};

/// More than the kernel holds for a connection.
const MUCH: usize = 12_000_000;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The peer says nothing.
    Handshake,
    Open,
    /// There is more to be sent than the kernel holds.
    Writing,
    /// The same, and it is closed.
    Flushing,
    /// The peer owes its last word.
    Ending,
}

const PHASES: [Phase; 5] = [Phase::Handshake, Phase::Open, Phase::Writing, Phase::Flushing, Phase::Ending];

impl Phase {
    /// Brings a connection that stands here.
    #[track_caller]
    fn reach(self, el: &EventLoop, transport: &Transport, peer: &mut TlsPeer) {
        if matches!(self, Phase::Writing | Phase::Flushing) {
            transport.write(&pattern(MUCH));
        }
        if matches!(self, Phase::Flushing | Phase::Ending) {
            transport.close();
        }
        settle(el);
        if self == Phase::Ending {
            run_until(el, || {
                peer.pump();
                peer.notified
            });
        }
    }

    /// How much the peer gets of a connection that is ended in an orderly way.
    fn backlog(self) -> usize {
        if matches!(self, Phase::Writing | Phase::Flushing) { MUCH } else { 0 }
    }
}

/// One of a server's connections.
struct Client {
    phase: Phase,
    record: Record,
    peer: TlsPeer,
}

/// A server with one connection in each phase.
#[track_caller]
fn serve(el: &EventLoop) -> (Server, Vec<Client>) {
    let made: Rc<RefCell<Option<(Record, Transport)>>> = Rc::default();
    let kept = made.clone();
    let factory = move || {
        let (record, kept) = (Record::new(), kept.clone());
        let own = record.clone();
        Tap::new(&record).on_made(move |transport| *kept.borrow_mut() = Some((own.clone(), transport.clone())))
    };
    let server = complete(el, el.create_server(factory, ("127.0.0.1", 0)).tls(acceptor())).unwrap();
    let clients = PHASES.map(|phase| {
        let before = server.connections();
        let socket = TcpStream::connect(server.local_addrs()[0]).unwrap();
        let mut peer = TlsPeer::new(Side::Server, socket.into());
        run_until(el, || server.connections() > before);
        if phase == Phase::Handshake {
            return Client { phase, record: Record::new(), peer };
        }
        run_until(el, || {
            peer.pump();
            made.borrow().is_some() && !peer.tls.is_handshaking()
        });
        let (record, transport) = made.take().unwrap();
        phase.reach(el, &transport, &mut peer);
        Client { phase, record, peer }
    });
    (server, clients.into())
}

/// All peers answer, and read to the end.
#[track_caller]
fn part_all(el: &EventLoop, clients: &mut [Client]) {
    let mut answered = vec![false; clients.len()];
    run_until(el, || {
        let mut done = true;
        for (client, answered) in clients.iter_mut().zip(&mut answered) {
            client.peer.is_at_end();
            if client.peer.notified && !std::mem::replace(answered, true) {
                client.peer.close_notify();
            }
            done &= client.peer.end.is_some();
        }
        done
    });
}

#[track_caller]
fn check_orderly(clients: &[Client]) {
    for Client { phase, record, peer } in clients {
        let mut heard = record.take();
        heard.retain(|event| event != "pause" && event != "resume");
        let expected = if *phase == Phase::Handshake { &[][..] } else { &["made", "eof", "lost"] };
        assert_eq!(heard, expected, "{phase:?}");
        assert_eq!(peer.received.len(), phase.backlog(), "{phase:?}");
        assert_eq!(peer.notified, *phase != Phase::Handshake, "{phase:?}");
    }
}

#[track_caller]
fn check_aborted(clients: &mut [Client]) {
    for Client { phase, record, peer } in clients {
        let heard = record.take();
        match phase {
            Phase::Handshake => assert!(heard.is_empty()),
            _ => assert_eq!((heard.last().unwrap().as_str(), record.lost()), ("lost", 1), "{phase:?}"),
        }
        let deadline = Instant::now() + PATIENCE;
        while !peer.is_at_end() {
            assert!(Instant::now() < deadline);
        }
        assert_eq!(peer.notified, *phase == Phase::Ending, "{phase:?}");
    }
}

/// Ends a server that has no connections any more.
#[track_caller]
fn close(el: &EventLoop, server: &Server) {
    server.close();
    complete(el, server.wait_closed());
    assert_eq!((server.connections(), el.stats().transports.live(), el.stats().timers.live()), (0, 0, 0));
}

on_every_loop! {
    /// TL-11, SV-16: closing a server's clients ends the handshakes, and has each connection send what it has, say that
    /// nothing follows, and wait for the same.
    fn close_clients(el) {
        let (server, mut clients) = serve(el);
        server.close_clients();
        part_all(el, &mut clients);
        run_until(el, || server.connections() == 0);
        check_orderly(&clients);
        close(el, &server);
    }

    /// TL-34, SV-17: aborting them ends all of them at once, without a word and without an error.
    fn abort_clients(el) {
        let (server, mut clients) = serve(el);
        server.abort_clients();
        settle(el);
        assert_eq!(server.connections(), 0);
        check_aborted(&mut clients);
        close(el, &server);
    }

    /// A shutdown is orderly where the peers play along in time.
    fn shutdown(el) {
        let (server, mut clients) = serve(el);
        let ending = server.clone();
        let task = el.create_task(async move { ending.shutdown(PATIENCE).await });
        part_all(el, &mut clients);
        assert!(finish(el, task).unwrap());
        check_orderly(&clients);
        close(el, &server);
    }

    /// The same from a callback of one of the connections, whatever it is told just now.
    fn from_within_a_callback(el) {
        for aborts in [false, true] {
            for at in ["made", "data", "eof", "lost"] {
                let acting: Rc<RefCell<Option<Server>>> = Rc::default();
                let (given, record) = (acting.clone(), Record::new());
                let end = move || {
                    let server = given.borrow().clone().unwrap();
                    server.close();
                    if aborts { server.abort_clients() } else { server.close_clients() }
                };
                let own = record.clone();
                let factory = move || {
                    let end = end.clone();
                    match at {
                        "made" => Tap::new(&own).on_made(move |_| end()),
                        "data" => Tap::new(&own).on_data(move |_, _| end()),
                        "eof" => Tap::new(&own).on_eof(move |_| {
                            end();
                            roundelay::KeepOpen::No
                        }),
                        _ => Tap::new(&own).on_lost(move |_| end()),
                    }
                };
                let server = complete(el, el.create_server(factory, ("127.0.0.1", 0)).tls(acceptor())).unwrap();
                *acting.borrow_mut() = Some(server.clone());
                let mut peers: Vec<TlsPeer> = (0..3).map(|_| {
                    let socket = TcpStream::connect(server.local_addrs()[0]).unwrap();
                    TlsPeer::new(Side::Server, socket.into())
                }).collect();
                run_until(el, || server.connections() == 3);
                // The last of them stays in its handshake.
                let (silent, speaking) = peers.split_last_mut().unwrap();
                let mut said = [false; 2];
                run_until(el, || {
                    for (peer, said) in speaking.iter_mut().zip(&mut said) {
                        peer.pump();
                        if !peer.tls.is_handshaking() && !std::mem::replace(said, true) {
                            peer.send(b"hello");
                            if at != "data" {
                                peer.close_notify();
                            }
                        }
                        if peer.notified {
                            peer.close_notify();
                        }
                    }
                    server.connections() == 0
                });
                assert!(silent.is_at_end());
                let heard = record.take();
                let count = |name: &str| heard.iter().filter(|event| event.starts_with(name)).count();
                assert_eq!(count("made"), count("lost"), "{at} {heard:?}");
                assert!(count("made") >= 1 && count("NESTED") == 0, "{at} {heard:?}");
                close(el, &server);
                acting.take();
            }
        }
    }

    /// A connection counts from the first byte of its handshake, and the next one is accepted when it is gone.
    fn max_connections(el) {
        let record = Record::new();
        let own = record.clone();
        let server = el.create_server(move || Tap::new(&own), ("127.0.0.1", 0)).tls(acceptor()).max_connections(1);
        let server = complete(el, server).unwrap();
        let connect = || TlsPeer::new(Side::Server, TcpStream::connect(server.local_addrs()[0]).unwrap().into());
        let (silent, mut next) = (connect(), connect());
        for _ in 0..5 {
            settle(el);
            next.pump();
        }
        assert!(server.connections() == 1 && next.tls.is_handshaking());
        drop(silent);
        run_until(el, || {
            next.pump();
            record.has("made")
        });
        drop(take_reports());
        server.close();
        server.close_clients();
        next.part(el).unwrap();
        close(el, &server);
    }

    /// TL-12: TLS over TLS ends from either of the two, here and there, with one end each and nothing reported.
    fn tls_over_tls(el) {
        for which in ["upper", "lower", "peer's upper", "peer's lower", "abort upper", "abort lower"] {
            let (client, server) = (Record::new(), Record::new());
            let (a, b) = pair(el, Tap::new(&Record::new()), Tap::new(&Record::new()));
            let starting = el.start_tls(a.clone(), Tap::new(&client), TlsSide::Client(connector())).server_hostname("localhost");
            let accepting = el.start_tls(b.clone(), Tap::new(&server), TlsSide::Server(acceptor()));
            let (starting, accepting) = (el.create_task(starting), el.create_task(accepting));
            let upper = finish(el, starting).unwrap().unwrap();
            let peers = finish(el, accepting).unwrap().unwrap();
            upper.write(b"hello");
            run_until(el, || server.has("data 5"));
            match which {
                "upper" => upper.close(),
                "lower" => a.close(),
                "peer's upper" => peers.close(),
                "peer's lower" => b.close(),
                "abort upper" => upper.abort(),
                _ => a.abort(),
            }
            run_until(el, || client.is_lost() && server.is_lost());
            settle(el);
            for record in [&client, &server] {
                let heard = record.take();
                assert_eq!(heard.last().unwrap(), "lost", "{which}: {heard:?}");
                assert_eq!(record.lost(), 1);
            }
            assert_eq!((el.stats().transports.live(), el.stats().timers.live()), (0, 0), "{which}");
        }
    }

    /// A loop that is closed under its connections lets go of them without a word, in every phase.
    fn a_closed_loop(el) {
        let mut kept = Vec::new();
        for side in SIDES {
            for phase in PHASES {
                let record = Record::new();
                if phase == Phase::Handshake {
                    let (task, peer) = Setup::new(side).begin(el, Tap::new(&record));
                    kept.push((record, None, Some(task), peer));
                    continue;
                }
                let (transport, mut peer) = Setup::new(side).open(el, Tap::new(&record));
                phase.reach(el, &transport, &mut peer);
                kept.push((record, Some(transport), None, peer));
            }
        }
        el.close();
        for (record, transport, task, mut peer) in kept {
            assert!(!record.is_lost());
            drop(task);
            while !peer.is_at_end() {}
            if let Some(transport) = transport {
                assert!(transport.is_closing() && transport.protocol().is_none());
                assert!(transport.extra_info().tls.is_none());
                transport.write(b"nothing");
                transport.close();
                transport.abort();
            }
        }
    }
}

/// A shutdown whose peers do not play along aborts what is left when its time is over.
#[test]
fn a_shutdown_that_takes_too_long() {
    for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
        let clock = ManualClock::new();
        let given = clock.clone();
        run_on(
            move || kind.builder().clock(given),
            |el| {
                let (server, mut clients) = serve(el);
                let ending = server.clone();
                let task = el.create_task(async move { ending.shutdown(Duration::from_secs(5)).await });
                settle(el);
                // The handshake is over at once.
                assert_eq!(server.connections(), clients.len() - 1);
                clock.advance(Duration::from_secs(5));
                assert!(!finish(el, task).unwrap());
                check_aborted_late(&mut clients);
                assert_eq!((server.connections(), el.stats().timers.live()), (0, 0));
            },
        );
    }
}

/// As `check_aborted`, of connections that were closed before.
#[track_caller]
fn check_aborted_late(clients: &mut [Client]) {
    for Client { phase, record, peer } in clients {
        let heard = record.take();
        assert_eq!(heard.last().map(String::as_str), (*phase != Phase::Handshake).then_some("lost"), "{phase:?}");
        assert!(record.lost() <= 1);
        while !peer.is_at_end() {}
        assert_eq!(peer.notified, matches!(phase, Phase::Open | Phase::Ending), "{phase:?}");
    }
}

/// A server's time of silence counts over TLS, too, in the handshake and after it.
#[test]
fn a_silent_connection() {
    for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
        for debug in [false, true] {
            let clock = ManualClock::new();
            let given = clock.clone();
            run_on(
                move || kind.builder().clock(given).debug(debug),
                |el| {
                    let second = Duration::from_secs(1);
                    let record = Record::new();
                    let own = record.clone();
                    let server = el.create_server(move || Tap::new(&own), ("127.0.0.1", 0)).tls(acceptor());
                    let server = complete(el, server.idle_timeout(second * 10)).unwrap();
                    let connect =
                        || TlsPeer::new(Side::Server, TcpStream::connect(server.local_addrs()[0]).unwrap().into());
                    let mut silent = connect();
                    let mut speaking = connect();
                    run_until(el, || {
                        speaking.pump();
                        record.has("made")
                    });
                    assert_eq!(server.connections(), 2);
                    clock.advance(second * 9);
                    speaking.send(b"hello");
                    run_until(el, || record.has("data 5"));
                    clock.advance(second);
                    settle(el);
                    assert_eq!(server.connections(), 1);
                    let _ = silent.until_end(el);
                    assert_eq!(take_reports().len(), usize::from(debug));
                    clock.advance(second * 9);
                    settle(el);
                    assert_eq!(record.take(), ["made", "data 5", "lost TimedOut"]);
                    let _ = speaking.until_end(el);
                    close(el, &server);
                },
            );
        }
    }
}

/// A peer on a thread of its own: it answers what it is told, and reads to the end.
fn elsewhere(mut peer: TlsPeer, answers: bool) -> JoinHandle<TlsPeer> {
    thread::spawn(move || {
        let deadline = Instant::now() + PATIENCE;
        let mut answered = false;
        while !peer.is_at_end() {
            assert!(Instant::now() < deadline, "the connection does not end");
            if answers && peer.notified && !std::mem::replace(&mut answered, true) {
                peer.close_notify();
            }
            thread::yield_now();
        }
        peer
    })
}

/// A program that ends gives its TLS connections a proper end: what is queued is sent, then close_notify, and
/// the protocol hears of it; a handshake is given up.
#[test]
fn the_end_of_a_program() {
    for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
        for side in SIDES {
            for phase in PHASES {
                end_of_program(kind, side, phase);
            }
        }
    }
}

fn end_of_program(kind: Kind, side: Side, phase: Phase) {
    let _alone = alone();
    let before = open_descriptors();
    let record = Record::new();
    let mut runner = Runner::builder().loop_factory(move || kind.builder().debug(true).build()).build();
    let el = runner.get_loop().unwrap();
    watch_reports(&el);
    let peer = if phase == Phase::Handshake {
        let (near, far) = sockets(Net::Tcp);
        drop(Setup::new(side).over(&el, near, Tap::new(&record)));
        TlsPeer::new(side, far)
    } else {
        let (transport, mut peer) = Setup::new(side).open(&el, Tap::new(&record));
        phase.reach(&el, &transport, &mut peer);
        peer
    };
    let ((), written) = collect(|| {
        let peer = elsewhere(peer, true);
        runner.run(roundelay::yield_now()).unwrap();
        runner.close();
        let peer = peer.join().unwrap();
        assert_eq!(peer.received.len(), phase.backlog(), "{phase:?}");
        assert_eq!(peer.notified, phase != Phase::Handshake, "{phase:?}");
    });
    assert!(written.is_empty(), "{written:?}");
    let mut heard = record.take();
    heard.retain(|event| event != "pause" && event != "resume");
    assert_eq!(heard, if phase == Phase::Handshake { &[][..] } else { &["made", "eof", "lost"] }, "{side:?} {phase:?}");
    assert!(el.is_closed() && el.stats().is_balanced(), "{:#?}", el.stats());
    drop((el, runner));
    assert!(take_reports().is_empty());
    assert_eq!(open_descriptors(), before);
}

/// It waits no longer than its bound for peers that do not play along; each protocol hears of the end, and one report names
/// the connection.
#[test]
fn the_end_of_a_program_without_answers() {
    for side in SIDES {
        for phase in [Phase::Open, Phase::Ending] {
            let _alone = alone();
            let before = open_descriptors();
            let record = Record::new();
            let mut runner = Runner::builder().shutdown_bound(Duration::from_millis(20)).build();
            let el = runner.get_loop().unwrap();
            watch_reports(&el);
            let (transport, mut peer) = Setup::new(side).open(&el, Tap::new(&record));
            phase.reach(&el, &transport, &mut peer);
            let peer = elsewhere(peer, false);
            runner.close();
            assert!(peer.join().unwrap().notified);
            assert_eq!(record.take(), ["made", "lost"]);
            assert!(el.stats().is_balanced());
            drop((el, runner, transport));
            let reports = take_reports();
            assert_eq!(reports.len(), 1, "{reports:?}");
            assert!(reports[0].contains("not everything has ended within 20ms: 1 connection"), "{reports:?}");
            assert_eq!(open_descriptors(), before);
        }
    }
}

/// RW-01: a loop that is dropped under an open connection warns once of it, and closes it.
#[test]
fn an_unclosed_transport() {
    for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
        for side in SIDES {
            let _alone = alone();
            let before = open_descriptors();
            let record = Record::new();
            let (mut peer, written) = collect(|| {
                let el = kind.builder().debug(true).build().unwrap();
                watch_reports(&el);
                let (_, peer) = Setup::new(side).open(&el, Tap::new(&record));
                el.close();
                peer
            });
            assert_eq!(written.len(), 1, "{written:?}");
            assert!(written[0].1.starts_with("resource warning: unclosed transport <Transport "), "{written:?}");
            while !peer.is_at_end() {}
            assert_eq!(record.take(), ["made"]);
            drop(peer);
            assert_eq!(open_descriptors(), before);
        }
    }
}

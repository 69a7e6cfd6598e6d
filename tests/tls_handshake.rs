//! How TLS connections begin, and how they fail to: timeouts, ends and cancellation in the handshake (behaviours TL, RW).

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
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use certificates::tls_pair;
use collector::{collect, collect_level};
use common::{Kind, complete, finish, on_loop, open_descriptors, poll_times, run_on, run_until, settle, take_reports};
use roundelay::{Context, ContextVar, EventLoop, ManualClock, Server};
use tls_peer::{SIDES, Setup, Side, TlsPeer, client_config, open, server_config};
use tracing::Level;
use wire::{Net, Record, Tap, finish as end, pattern, sockets, until_lost};

/// Runs a test on every selector, with a clock that it turns by hand.
fn on_every_clock(body: impl Fn(&EventLoop, &ManualClock)) {
    for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
        for debug in [false, true] {
            let clock = ManualClock::new();
            let given = clock.clone();
            run_on(move || kind.builder().debug(debug).clock(given), |el| body(el, &clock));
        }
    }
}

/// A server whose connections speak TLS, and tell this record what they hear.
#[track_caller]
fn serve(el: &EventLoop, record: &Record) -> Server {
    let (record, (_, acceptor)) = (record.clone(), tls_pair());
    complete(el, el.create_server(move || Tap::new(&record), ("127.0.0.1", 0)).tls(acceptor)).unwrap()
}

/// A client that is no part of the loop and that has not said anything yet.
#[track_caller]
fn knock(el: &EventLoop, server: &Server) -> TlsPeer {
    let before = server.connections();
    let client = std::net::TcpStream::connect(server.local_addrs()[0]).unwrap();
    run_until(el, || server.connections() > before);
    TlsPeer::new(Side::Server, client.into())
}

/// Ends a server that has no connections any more.
#[track_caller]
fn close(el: &EventLoop, server: &Server) {
    server.close();
    complete(el, server.wait_closed());
}

/// The beginning of a handshake: what the peer says first, or the half of it.
fn first_words(peer: &mut TlsPeer) -> Vec<u8> {
    let mut words = Vec::new();
    while peer.tls.wants_write() {
        peer.tls.write_tls(&mut words).unwrap();
    }
    words
}

/// The text of the reports of failed handshakes.
const REPORT: &str = "Error on transport creation for incoming connection";

/// Makes a connection, and gives up after so many polls. True if it was done by then.
fn cancelled_after(el: &EventLoop, side: Side, polls: usize) -> bool {
    let record = Record::new();
    let (near, far) = sockets(Net::Tcp);
    let peer = Rc::new(RefCell::new(TlsPeer::new(side, far)));
    let pumped = peer.clone();
    // Between two polls the peer has all the time that it needs.
    let pumping = el.create_task(async move {
        loop {
            pumped.borrow_mut().pump();
            roundelay::yield_now().await;
        }
    });
    let connecting = Setup::new(side).connecting(el, near, Tap::new(&record));
    let output = complete(el, poll_times(connecting, polls));
    let is_done = output.is_some();
    if let Some(output) = output {
        output.unwrap().0.abort();
    }
    run_until(el, || el.stats().transports.live() == 0);
    run_until(el, || peer.borrow_mut().is_at_end());
    pumping.cancel();
    assert!(finish(el, pumping).is_err());
    let heard = record.take();
    assert!(heard.is_empty() || heard == ["made", "lost"], "{heard:?} after {polls} polls");
    let stats = el.stats();
    assert_eq!((stats.timers.live(), stats.descriptors.live()), (0, 0), "after {polls} polls");
    is_done
}

on_every_loop! {
    /// TL-01: when the protocol begins, all is known that was agreed on, and what is known of the socket.
    fn what_is_known_when_it_begins(el) {
        for side in SIDES {
            let infos = Rc::new(RefCell::new(Vec::new()));
            let (seen, record) = (infos.clone(), Record::new());
            let tap = Tap::new(&record).on_made(move |transport| seen.borrow_mut().push(transport.extra_info()));
            let (transport, peer) = open(el, side, tap);
            let info = infos.borrow_mut().pop().unwrap();
            let tls = info.tls.unwrap();
            assert_eq!(tls.version, roundelay::TlsVersion::Tls13);
            assert!(tls.cipher_suite.starts_with("TLS13_"), "{tls:?}");
            assert_eq!(tls.server_name.as_deref(), Some("localhost"));
            assert_eq!(tls.peer_certificates.len(), if side == Side::Client { 1 } else { 0 });
            assert_eq!(info.peer_addr, Some(peer.socket.local_addr().unwrap().as_socket().unwrap()));
            assert_eq!(info.local_addr, Some(peer.socket.peer_addr().unwrap().as_socket().unwrap()));
            assert!(info.socket.unwrap().raw_fd().is_some());
            // TL-35 has the rest.
            end(el, &transport, &record);
            assert!(transport.extra_info().tls.is_none());
        }
    }

    /// TL-02: the protocol hears of the connection when the handshake is done, and before whoever waits for it does; of one
    /// that fails it hears nothing, neither a beginning nor an end.
    fn the_protocol_hears_of_what_stands(el) {
        for side in SIDES {
            let record = Record::new();
            let (task, mut peer) = Setup::new(side).begin(el, Tap::new(&record));
            assert!(record.is_silent() && !task.is_done());
            run_until(el, || {
                peer.pump();
                !record.is_silent()
            });
            let transport = finish(el, task).unwrap().unwrap();
            assert_eq!(record.take(), ["made"]);
            end(el, &transport, &record);

            let record = Record::new();
            let (task, mut peer) = Setup::new(side).begin(el, Tap::new(&record));
            peer.send_raw(b"SSH-2.0-OpenSSH_9.2\r\n");
            let error = finish(el, task).unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
            assert!(error.get_ref().unwrap().downcast_ref::<rustls::Error>().is_some(), "{error:?}");
            settle(el);
            assert!(record.is_silent());
            assert!(peer.is_at_end());
        }
    }

    /// TL-09: an end of file in the handshake is a reset for whoever waits, wherever it comes.
    fn an_end_of_file(el) {
        for side in SIDES {
            for half in [false, true] {
                let record = Record::new();
                let (task, mut peer) = Setup::new(side).begin(el, Tap::new(&record));
                if half {
                    peer.pull(usize::MAX);
                    let words = first_words(&mut peer);
                    peer.send_raw(&words[..words.len() / 2]);
                }
                peer.fin();
                let error = finish(el, task).unwrap().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                assert_eq!(error.to_string(), "the connection was closed during the TLS handshake");
                assert!(peer.until_end(el).is_ok() && record.is_silent());
            }
        }
    }

    /// TL-10: a connection that is lost in the handshake is that error for whoever waits.
    fn a_reset(el) {
        for side in SIDES {
            let record = Record::new();
            let (task, peer) = Setup::new(side).begin(el, Tap::new(&record));
            peer.reset();
            let error = finish(el, task).unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            assert!(error.raw_os_error().is_some(), "{error:?}");
            assert!(record.is_silent());
        }
    }

    /// TL-08: giving up in the handshake ends the connection, which the peer sees; nobody is told anything.
    fn giving_up(el) {
        for side in SIDES {
            let record = Record::new();
            let (near, far) = sockets(Net::Tcp);
            let mut peer = TlsPeer::new(side, far);
            let task = Setup::new(side).over(el, near, Tap::new(&record));
            let late = roundelay::timeout(Duration::from_millis(1), task.cancel_on_drop());
            assert!(complete(el, late).is_err());
            assert_eq!(peer.until_end(el), Ok(()));
            settle(el);
            assert!(record.is_silent());
            assert_eq!(el.stats().transports.live(), 0);
        }
    }

    /// TL-08, TL-38, RW-02: cancelled at every await point, `create_connection` leaves nothing behind, and no warning.
    fn cancelled_everywhere(el) {
        for side in SIDES {
            let before = open_descriptors();
            let mut polls = 0;
            let ((), written) = collect(|| {
                while !cancelled_after(el, side, polls) {
                    polls += 1;
                    assert!(polls < 50);
                    assert_eq!(open_descriptors(), before, "after {polls} polls");
                }
            });
            assert!(polls > 1 && written.is_empty(), "{written:?}");
        }
    }

    /// TL-11: closing a connection in the handshake aborts it: there is nobody to say goodbye to.
    fn closed_in_the_handshake(el) {
        let record = Record::new();
        let server = serve(el, &record);
        let mut peer = knock(el, &server);
        server.close_clients();
        assert_eq!(peer.until_end(el), Ok(()));
        assert!(!peer.notified);
        run_until(el, || server.connections() == 0);
        assert!(record.is_silent());
        close(el, &server);
    }

    /// EH-15, TL-02: on a server a handshake that fails is reported in debug mode only, never to the protocol; the server
    /// goes on.
    fn a_server_goes_on(el) {
        let record = Record::new();
        let server = serve(el, &record);
        for words in [&b"GET / HTTP/1.0\r\n\r\n"[..], &[22, 3, 1, 255, 255], b""] {
            let mut peer = knock(el, &server);
            peer.send_raw(words);
            peer.fin();
            run_until(el, || server.connections() == 0);
            let reports = take_reports();
            if el.debug() {
                assert_eq!(reports.len(), 1, "{reports:?}");
                assert!(reports[0].contains(REPORT), "{reports:?}");
            } else {
                assert!(reports.is_empty(), "{reports:?}");
            }
        }
        assert!(record.is_silent());
        let mut peer = knock(el, &server);
        run_until(el, || {
            peer.pump();
            record.has("made")
        });
        server.close();
        server.close_clients();
        peer.part(el).unwrap();
        complete(el, server.wait_closed());
        assert_eq!(record.take(), ["made", "eof", "lost"]);
    }

    /// TL-13: many clients at once, with much to say in pieces of all sizes, get everything back in order.
    fn many_at_once(el) {
        let (connector, acceptor) = tls_pair();
        let echo = || Tap::new(&Record::new()).on_data(|transport, data| transport.write(data));
        let server = complete(el, el.create_server(echo, ("127.0.0.1", 0)).tls(acceptor)).unwrap();
        let address = server.local_addrs()[0];
        let data = Rc::new(pattern(200_000));
        let records: Vec<Record> = (0..25).map(|_| Record::new()).collect();
        let tasks: Vec<_> = records.iter().enumerate().map(|(n, record)| {
            let (said, length) = (data.clone(), data.len());
            let so_far = record.clone();
            let tap = Tap::new(record)
                .on_made(move |transport| {
                    if n % 2 == 0 {
                        for piece in said.chunks(1 + n * 2_777) {
                            transport.write(piece);
                        }
                    } else {
                        let (a, b) = said.split_at(n * 1_000);
                        transport.writelines(&[a, b"", b].map(io::IoSlice::new));
                    }
                })
                .on_data(move |transport, _| {
                    if so_far.len() == length {
                        transport.close();
                    }
                });
            let connecting = el.create_connection(move || tap, address).tls(connector.clone());
            el.create_task(connecting.server_hostname("localhost"))
        }).collect();
        for (task, record) in tasks.into_iter().zip(&records) {
            finish(el, task).unwrap().unwrap();
            until_lost(el, record);
            assert!(record.bytes() == **data);
        }
        run_until(el, || server.connections() == 0);
        close(el, &server);
    }

    /// TL-25: the timers of the handshake and of the end are gone as soon as they are not needed.
    fn no_timer_is_left(el) {
        for side in SIDES {
            let record = Record::new();
            let (transport, mut peer) = open(el, side, Tap::new(&record));
            assert_eq!(el.stats().timers.live(), 0);
            transport.close();
            assert_eq!(el.stats().timers.live(), 1);
            peer.part(el).unwrap();
            until_lost(el, &record);
            assert_eq!(el.stats().timers.live(), 0);
            let (task, mut peer) = Setup::new(side).begin(el, Tap::new(&record));
            assert_eq!(el.stats().timers.live(), 1);
            peer.send_raw(b"no");
            peer.fin();
            assert!(finish(el, task).unwrap().is_err());
            assert_eq!(el.stats().timers.live(), 0);
        }
    }

    /// TL-39: when a connection is over, or its handshake has failed, nothing holds its configuration any more, nor its
    /// protocol.
    fn configurations_are_let_go(el) {
        for side in SIDES {
            let (client, server) = (client_config(), server_config());
            let drops = common::DropCounter::new();
            let setup = || Setup::new(side).configured(client.clone().into(), server.clone().into());
            let before = (Arc::strong_count(&client), Arc::strong_count(&server));
            let tap = |record: &Record| {
                let guard = drops.guard();
                Tap::new(record).on_drop(move || drop(guard))
            };
            let record = Record::new();
            let (transport, mut peer) = setup().open(el, tap(&record));
            transport.close();
            peer.part(el).unwrap();
            until_lost(el, &record);
            assert_eq!(drops.count(), 1);
            let (task, peer) = setup().begin(el, tap(&record));
            drop(peer);
            assert!(finish(el, task).unwrap().is_err());
            settle(el);
            assert_eq!(drops.count(), 2);
            // Also where somebody holds the transport yet.
            assert_eq!((Arc::strong_count(&client), Arc::strong_count(&server)), before);
            drop(transport);
        }
    }

    /// TL-35: what is known of a connection that is gone is what is known of none.
    fn what_is_known_when_it_is_gone(el) {
        for side in SIDES {
            let record = Record::new();
            let (transport, _peer) = open(el, side, Tap::new(&record));
            end(el, &transport, &record);
            let info = transport.extra_info();
            assert!(info.tls.is_none() && info.socket.is_none() && info.pipe.is_none());
        }
    }

    /// CX-08: callbacks run in the context in which the connection was made, whoever resumes reading.
    fn callbacks_stay_in_their_context(el) {
        static PLACE: ContextVar<&str> = ContextVar::new("place");
        fn noting(record: &Record) -> impl Fn() + 'static {
            let record = record.clone();
            move || record.note(PLACE.get().unwrap_or("nowhere"))
        }
        for side in SIDES {
            let record = Record::new();
            let (made, data, lost) = (noting(&record), noting(&record), noting(&record));
            let tap = Tap::new(&record).on_made(move |_| made()).on_data(move |_, _| data()).on_lost(move |_| lost());
            let (task, mut peer) = Context::new().run(|| {
                PLACE.set("connecting");
                Setup::new(side).begin(el, tap)
            });
            run_until(el, || {
                peer.pump();
                task.is_done() && !peer.tls.is_handshaking()
            });
            let transport = finish(el, task).unwrap().unwrap();
            transport.pause_reading();
            peer.send(b"hello");
            settle(el);
            let resumed = transport.clone();
            let task = el.create_task(async move {
                PLACE.set("a task");
                resumed.resume_reading();
                roundelay::yield_now().await;
            });
            complete(el, task).unwrap();
            run_until(el, || record.has("data 5"));
            end(el, &transport, &record);
            assert_eq!(record.take(), ["made", "connecting", "data 5", "connecting", "lost", "connecting"]);
        }
    }
}

/// TL-06: a handshake that takes too long is aborted: an error for whoever waits, an end for the peer, nothing for the
/// protocol, and nothing is reported.
#[test]
fn a_handshake_takes_too_long() {
    for timeout in [None, Some(Duration::from_millis(1500))] {
        on_every_clock(|el, clock| {
            for side in SIDES {
                let record = Record::new();
                let mut setup = Setup::new(side);
                if let Some(timeout) = timeout {
                    setup = setup.handshake_timeout(timeout);
                }
                let (task, mut peer) = setup.begin(el, Tap::new(&record));
                // What the peer says meanwhile gives it no more time.
                peer.pull(usize::MAX);
                let words = first_words(&mut peer);
                peer.send_raw(&words[..10]);
                clock.advance(timeout.unwrap_or(Duration::from_secs(60)) - Duration::from_millis(1));
                settle(el);
                assert!(!task.is_done());
                clock.advance(Duration::from_millis(1));
                settle(el);
                let error = finish(el, task).unwrap().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
                let time = if timeout.is_some() { "1.5s" } else { "60s" };
                let text = format!("TLS handshake is taking longer than {time}: aborting the connection");
                assert_eq!(error.to_string(), text);
                assert!(peer.until_end(el).is_ok() && record.is_silent());
                assert!(take_reports().is_empty());
            }
        });
    }
}

/// TL-06, EH-15: on a server the handshake that takes too long ends alone, and is reported in debug mode.
#[test]
fn a_handshake_with_a_server_takes_too_long() {
    on_every_clock(|el, clock| {
        let record = Record::new();
        let server = serve(el, &record);
        let mut slow = knock(el, &server);
        clock.advance(Duration::from_secs(30));
        let mut quick = knock(el, &server);
        run_until(el, || {
            quick.pump();
            record.has("made")
        });
        clock.advance(Duration::from_secs(30));
        settle(el);
        assert_eq!(server.connections(), 1);
        assert!(slow.is_at_end());
        let reports = take_reports();
        assert_eq!(reports.len(), usize::from(el.debug()), "{reports:?}");
        assert!(
            reports.iter().all(|report| report.contains(REPORT) && report.contains("longer than 60s")),
            "{reports:?}"
        );
        server.close_clients();
        quick.part(el).unwrap();
        run_until(el, || server.connections() == 0);
        close(el, &server);
    });
}

/// TL-07: a timeout of zero is refused, by whatever takes one, before anything is connected.
#[test]
fn no_timeout_is_zero() {
    on_loop(|el| {
        let zero = Duration::ZERO;
        let error = |side, handshake: bool| {
            let (near, _far) = sockets(Net::Tcp);
            let setup = Setup::new(side);
            let setup = if handshake { setup.handshake_timeout(zero) } else { setup.shutdown_timeout(zero) };
            finish(el, setup.over(el, near, Tap::new(&Record::new()))).unwrap().unwrap_err()
        };
        for (side, method) in [(Side::Client, "create_connection"), (Side::Server, "connect_accepted_socket")] {
            for (handshake, option) in [(true, "tls_handshake_timeout()"), (false, "tls_shutdown_timeout()")] {
                let error = error(side, handshake);
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert_eq!(error.to_string(), format!("{method}: {option} must be longer than zero"));
            }
        }
        let (_, acceptor) = tls_pair();
        let factory = || Tap::new(&Record::new());
        let server = el.create_server(factory, ("127.0.0.1", 0)).tls(acceptor).tls_handshake_timeout(zero);
        let error = complete(el, server).unwrap_err();
        assert_eq!(error.to_string(), "create_server: tls_handshake_timeout() must be longer than zero");
    });
}

/// DB-14: how long a handshake took is logged, at the level of debugging.
#[test]
fn the_time_of_a_handshake_is_logged() {
    on_loop(|el| {
        for side in SIDES {
            let record = Record::new();
            let ((transport, _peer), written) = collect_level(Level::DEBUG, || open(el, side, Tap::new(&record)));
            let lines: Vec<_> = written.iter().filter(|(_, text)| text.contains("the TLS handshake took ")).collect();
            assert_eq!(lines.len(), 1, "{written:?}");
            assert_eq!(lines[0].0, Level::DEBUG);
            end(el, &transport, &record);
        }
    });
}

/// TL-38, RW-02: connections whose making was given up, or has failed, are no unclosed ones when the loop is dropped.
#[test]
fn what_failed_is_not_unclosed() {
    for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
        let _alone = common::alone();
        let before = open_descriptors();
        let ((), written) = collect(|| {
            let el = kind.builder().debug(true).build().unwrap();
            common::watch_reports(&el);
            for side in SIDES {
                let record = Record::new();
                let (task, _peer) = Setup::new(side).begin(&el, Tap::new(&record));
                task.cancel();
                assert!(finish(&el, task).is_err());
                let (task, peer) = Setup::new(side).begin(&el, Tap::new(&record));
                drop(peer);
                assert!(finish(&el, task).unwrap().is_err());
            }
            el.close();
        });
        assert!(written.is_empty(), "{written:?}");
        assert_eq!(open_descriptors(), before);
    }
}

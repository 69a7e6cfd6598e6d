//! TLS connections: how they begin, and how they do not.

use std::cell::RefCell;
use std::io::IoSlice;
use std::net::TcpStream;
use std::rc::Rc;

use roundelay::{AnyProtocol, ContextVar, EventLoop, ProtocolRef, TlsVersion, Transport};

use crate::common::Log;
use crate::oracle::timed;
use crate::support::{Peer, Recorder, SECOND, connected, connected_differs, settle, socket_pair, tcp_pair, yes};
use crate::tls_peer::{Config, DEFAULT, NAME, SIDES, Setup, TlsPeer, VERSIONS, outcome, recorder};

async fn round_trip(el: &EventLoop, log: &Log, setup: Setup) {
    let (transport, peer) = setup.connect(el, recorder(log)).await;
    transport.write(b"hello");
    transport.writelines(&["one ", "two ", "three"].map(|data| IoSlice::new(data.as_bytes())));
    log.push(format!("peer {}", peer.received()));
    peer.write(b"good ");
    peer.send(b"day");
    settle().await;
    transport.close();
    yes(log, "closing", transport.is_closing());
    settle().await;
    log.push(format!("peer {}", peer.received()));
    peer.goodbye();
    settle().await;
    log.push(format!("peer {}", peer.received()));
}

/// TL-01, TL-02: the order of things, with both versions.
#[test]
fn tls_round_trip_of_a_client() {
    connected("tls_round_trip_of_a_client", async |el, log| {
        for version in VERSIONS {
            round_trip(&el, &log, Setup::client().version(version)).await;
        }
    });
}

/// TL-01, TC-21: so it is on the server's side.
#[test]
fn tls_round_trip_of_a_server() {
    connected("tls_round_trip_of_a_server", async |el, log| {
        for version in VERSIONS {
            round_trip(&el, &log, Setup::server().version(version)).await;
        }
    });
}

/// TL-01: a server and a client in one loop, each with its own order.
#[test]
fn tls_on_both_sides() {
    connected("tls_on_both_sides", async |el, log| {
        let logs = [Log::new(), Log::new()];
        let lost = [el.create_future(), el.create_future()];
        let ending = |number: usize| {
            let lost = lost[number].clone();
            recorder(&logs[number]).then("lost", move |_| lost.set_result(()).unwrap())
        };
        let answer = |transport: &Transport, data: &[u8]| transport.write(&data.to_ascii_uppercase());
        let (server, client) = (ending(0).then_with("data", answer), ending(1).then("data", Transport::close));
        let server = RefCell::new(Some(server));
        let factory = move || server.take().unwrap();
        let server = el.create_server(factory, ("127.0.0.1", 0)).tls(DEFAULT.acceptor()).await.unwrap();
        let address = server.local_addrs()[0];
        let connection = el.create_connection(|| client, address).tls(DEFAULT.connector()).server_hostname(NAME);
        connection.await.unwrap().0.write(b"hello");
        for lost in lost {
            lost.await.unwrap();
        }
        server.close();
        for (name, lines) in ["server", "client"].iter().zip(logs) {
            log.push(*name);
            lines.take().into_iter().for_each(|line| log.push(line));
        }
    });
}

/// TL-02: what `connection_made` writes is sent.
#[test]
fn tls_writes_as_it_is_made() {
    connected("tls_writes_as_it_is_made", async |el, log| {
        for side in SIDES {
            let made = recorder(&log).then("made", |transport| transport.write(b"at once"));
            let (_transport, peer) = Setup::new(side).connect(&el, made).await;
            log.push(format!("peer {}", peer.received()));
        }
    });
}

/// TL-17: what comes together with the last of the handshake.
#[test]
fn tls_data_behind_the_handshake() {
    connected("tls_data_behind_the_handshake", async |el, log| {
        let (own, socket) = socket_pair();
        let task = Setup::client().version(VERSIONS[0]).connecting(&el, &own, recorder(&log));
        let line = log.clone();
        let waiting = el.create_task(async move {
            let transport = task.await.unwrap().unwrap();
            line.push("connected");
            transport
        });
        let peer = TlsPeer::server(&socket, DEFAULT);
        settle().await;
        peer.step();
        settle().await;
        peer.step();
        peer.send(b"early");
        settle().await;
        waiting.await.unwrap();
    });
}

/// TL-04, P35: a certificate for somebody else.
#[test]
fn tls_wrong_host_name() {
    let here = ["failed certificate", "peer alert '' alert eof"];
    connected_differs("tls_wrong_host_name", "tls-errors-are-told", &here, async |el, log| {
        let (own, socket) = socket_pair();
        let task = Setup::client().server_hostname("wrong.example").connecting(&el, &own, recorder(&log));
        let peer = TlsPeer::server(&socket, DEFAULT);
        let how = peer.handshake().await;
        outcome(&log, task).await;
        log.push(format!("peer {how} {}", peer.received()));
    });
}

/// TL-03, P35: a certificate of nobody that is trusted.
#[test]
fn tls_untrusted_certificate() {
    let here = ["failed certificate", "peer alert '' alert eof", "failed certificate", "peer alert '' alert eof"];
    connected_differs("tls_untrusted_certificate", "tls-errors-are-told", &here, async |el, log| {
        for version in VERSIONS {
            let config = Config { is_trusting: false, ..DEFAULT };
            let (own, socket) = socket_pair();
            let task = Setup::client().config(config).version(version).connecting(&el, &own, recorder(&log));
            let peer = TlsPeer::server(&socket, DEFAULT);
            let how = peer.handshake().await;
            outcome(&log, task).await;
            log.push(format!("peer {how} {}", peer.received()));
        }
    });
}

/// TL-03: the server hears of it from the client, and its protocol does not.
#[test]
fn tls_client_that_does_not_trust_a_server() {
    connected("tls_client_that_does_not_trust_a_server", async |el, log| {
        let (own, socket) = socket_pair();
        let task = Setup::server().version(VERSIONS[0]).connecting(&el, &own, recorder(&log));
        let peer = TlsPeer::client(&socket, Config { is_trusting: false, ..DEFAULT });
        log.push(format!("peer {}", peer.handshake().await));
        outcome(&log, task).await;
    });
}

/// What a plain socket was told, and whether that was the end.
fn tell_end(log: &Log, socket: &Peer) {
    let (data, end) = socket.receive();
    yes(log, "alert", data.first() == Some(&0x15));
    yes(log, "ended", !end.is_empty());
}

/// P37, EH-15: the factory is called, and that is all.
#[test]
fn tls_plain_text_to_a_server() {
    let here = ["factory", "alert yes", "ended yes", "reported no"];
    connected_differs("tls_plain_text_to_a_server", "tls-errors-are-told", &here, async |el, log| {
        let reports = Rc::new(RefCell::new(Vec::new()));
        let own = reports.clone();
        el.set_exception_handler(Some(Rc::new(move |_, context| own.borrow_mut().push(context.message.to_string()))));
        let own = log.clone();
        let factory = move || {
            own.push("factory");
            recorder(&own)
        };
        let server = el.create_server(factory, ("127.0.0.1", 0)).tls(DEFAULT.acceptor()).await.unwrap();
        let socket = Peer::keep(TcpStream::connect(server.local_addrs()[0]).unwrap());
        socket.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        settle().await;
        tell_end(&log, &socket);
        yes(&log, "reported", !reports.borrow().is_empty());
        server.close();
    });
}

/// P37: who hears of what is no TLS.
#[test]
fn tls_garbage_in_the_handshake() {
    let here = ["failed tls", "alert yes", "ended yes", "failed tls", "alert yes", "ended yes"];
    connected_differs("tls_garbage_in_the_handshake", "tls-errors-are-told", &here, async |el, log| {
        for side in SIDES {
            let (own, socket) = socket_pair();
            let task = Setup::new(side).connecting(&el, &own, recorder(&log));
            settle().await;
            socket.receive();
            socket.send(b"220 this is no TLS\r\n");
            outcome(&log, task).await;
            settle().await;
            tell_end(&log, &socket);
        }
    });
}

/// TL-09, TL-10: so it is where the peer goes.
#[test]
fn tls_peer_hangs_up_in_the_handshake() {
    connected("tls_peer_hangs_up_in_the_handshake", async |el, log| {
        for side in SIDES {
            let (own, socket) = socket_pair();
            let task = Setup::new(side).connecting(&el, &own, recorder(&log));
            settle().await;
            socket.close();
            outcome(&log, task).await;
            settle().await;
        }
    });
}

/// TL-06: a peer that is silent.
#[test]
fn tls_handshake_takes_too_long() {
    timed("tls_handshake_takes_too_long", |el, log, clock| {
        let scenario = async {
            for side in SIDES {
                let (own, socket) = socket_pair();
                let task = Setup::new(side).handshake_timeout(5).connecting(el, &own, recorder(log));
                settle().await;
                socket.receive();
                clock.advance(SECOND * 9 / 2);
                settle().await;
                yes(log, "done", task.is_done());
                clock.advance(SECOND);
                outcome(log, task).await;
                log.push(format!("peer {}", socket.receive().1));
            }
        };
        el.run_until_complete(scenario).unwrap();
    });
}

/// TL-25: the time is not counted any more when the connection stands.
#[test]
fn tls_handshake_in_time() {
    timed("tls_handshake_in_time", |el, log, clock| {
        let scenario = async {
            let (transport, peer) = Setup::client().handshake_timeout(5).connect(el, recorder(log)).await;
            clock.advance(SECOND * 100);
            settle().await;
            peer.send(b"still here");
            settle().await;
            yes(log, "closing", transport.is_closing());
        };
        el.run_until_complete(scenario).unwrap();
    });
}

/// TL-08, TL-38: the peer sees the end, and the protocol nothing.
#[test]
fn tls_cancelled_in_the_handshake() {
    connected("tls_cancelled_in_the_handshake", async |el, log| {
        for side in SIDES {
            let (own, socket) = socket_pair();
            let task = Setup::new(side).connecting(&el, &own, recorder(&log));
            settle().await;
            socket.receive();
            task.cancel();
            outcome(&log, task).await;
            settle().await;
            log.push(format!("peer {}", socket.receive().1));
        }
    });
}

/// TL-08: before anything was done.
#[test]
fn tls_cancelled_at_once() {
    connected("tls_cancelled_at_once", async |el, log| {
        let (own, _socket) = socket_pair();
        let task = Setup::client().connecting(&el, &own, recorder(&log));
        task.cancel();
        outcome(&log, task).await;
        settle().await;
        settle().await;
    });
}

fn tell_info(log: &Log, transport: &Transport) {
    let Some(tls) = transport.extra_info().tls else {
        log.push("no TLS");
        return;
    };
    let version = match tls.version {
        TlsVersion::Tls12 => "TLSv1.2",
        TlsVersion::Tls13 => "TLSv1.3",
        _ => "unknown",
    };
    let peer = if tls.peer_certificates.is_empty() { "nobody" } else { "certificate" };
    let protocol = tls.alpn_protocol.map_or("None".into(), |name| String::from_utf8(name).unwrap());
    log.push(format!("{version} {peer} {protocol}"));
}

/// TL-01, TL-35: what is known of a connection, and of one that is over.
#[test]
fn tls_info() {
    let here = [
        "made",
        "TLSv1.2 certificate None",
        "peername yes",
        "TLSv1.2 certificate None",
        "eof",
        "lost None",
        "no TLS",
        "peername yes",
        "made",
        "TLSv1.3 certificate None",
        "peername yes",
        "TLSv1.3 certificate None",
        "eof",
        "lost None",
        "no TLS",
        "peername yes",
        "made",
        "TLSv1.2 nobody None",
        "peername yes",
        "TLSv1.2 nobody None",
        "eof",
        "lost None",
        "no TLS",
        "peername yes",
        "made",
        "TLSv1.3 nobody None",
        "peername yes",
        "TLSv1.3 nobody None",
        "eof",
        "lost None",
        "no TLS",
        "peername yes",
    ];
    connected_differs("tls_info", "known-after-the-end", &here, async |el, log| {
        for side in SIDES {
            for version in VERSIONS {
                let setup = Setup::new(side).version(version);
                let (transport, peer) = setup.connect_over(&el, &tcp_pair(), recorder(&log)).await;
                tell_info(&log, &transport);
                yes(&log, "peername", transport.extra_info().peer_addr.is_some());
                transport.close();
                tell_info(&log, &transport);
                peer.goodbye();
                settle().await;
                tell_info(&log, &transport);
                yes(&log, "peername", transport.extra_info().peer_addr.is_some());
            }
        }
    });
}

/// TL-01, TL-35: what callbacks see.
#[test]
fn tls_info_in_callbacks() {
    connected("tls_info_in_callbacks", async |el, log| {
        let tell = || {
            let log = log.clone();
            move |transport: &Transport| tell_info(&log, transport)
        };
        let recorder = recorder(&log).then("made", tell()).then("lost", tell());
        let (_transport, peer) = Setup::client().connect(&el, recorder).await;
        peer.goodbye();
        settle().await;
    });
}

/// TL-01: a protocol chosen by ALPN.
#[test]
fn tls_chosen_protocol() {
    connected("tls_chosen_protocol", async |el, log| {
        let offers: [&'static [&'static str]; 3] = [&["h2", "http/1.1"], &["http/1.1"], &[]];
        for alpn in offers {
            let (own, socket) = socket_pair();
            let task = Setup::client().config(Config { alpn, ..DEFAULT }).connecting(&el, &own, recorder(&log));
            let peer = TlsPeer::server(&socket, Config { alpn: &["http/1.1", "h2"], ..DEFAULT });
            peer.handshake().await;
            tell_info(&log, &task.await.unwrap().unwrap());
        }
    });
}

/// CX-11: the contexts of callbacks.
#[test]
fn tls_contexts() {
    connected("tls_contexts", async |el, log| {
        static VARIABLE: ContextVar<&str> = ContextVar::with_default("variable", || "default");
        let tell = |recorder: Recorder, callback| {
            let log = log.clone();
            recorder.then(callback, move |_| log.push(format!("in {}", VARIABLE.get().unwrap())))
        };
        let recorder = ["made", "data", "eof", "lost"].into_iter().fold(recorder(&log), tell);
        let own = el.clone();
        let make = async move {
            VARIABLE.set("connecting");
            Setup::client().connect(&own, recorder).await
        };
        VARIABLE.set("outside");
        let (_transport, peer) = el.create_task(make).await.unwrap();
        peer.send(b"data");
        settle().await;
        peer.goodbye();
        settle().await;
    });
}

/// TL-36: a protocol that takes over.
#[test]
fn tls_another_protocol() {
    connected("tls_another_protocol", async |el, log| {
        let (transport, peer) = Setup::client().connect(&el, recorder(&log).name("first")).await;
        peer.send(b"one");
        settle().await;
        let second = ProtocolRef::new(recorder(&log).name("second"));
        transport.set_protocol(second.clone());
        let found = transport.protocol().unwrap();
        yes(&log, "second", found.is_same(&AnyProtocol::from(second)));
        peer.send(b"two");
        settle().await;
        peer.goodbye();
        settle().await;
    });
}

//! Connections that change to TLS, and TLS over TLS.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use roundelay::{AnyProtocol, ContextVar, EventLoop, ProtocolRef, StartTls, Task, Transport};

use crate::common::Log;
use crate::oracle::differs;
use crate::support::{Recorder, SECOND, connect as connect_plain, connected, connected_differs, settle, yes};
use crate::tls_peer::{DEFAULT, NAME, SIDES, Setup, Side, TlsPeer, failure, recorder};

fn starting(el: &EventLoop, transport: &Transport, protocol: impl Into<AnyProtocol>, side: Side) -> StartTls {
    match side {
        Side::Client => el.start_tls(transport.clone(), protocol, DEFAULT.connector()).server_hostname(NAME),
        Side::Server => el.start_tls(transport.clone(), protocol, DEFAULT.acceptor()),
    }
}

/// A task that changes to TLS.
fn start(
    el: &EventLoop,
    transport: &Transport,
    protocol: impl Into<AnyProtocol>,
    side: Side,
) -> Task<io::Result<Transport>> {
    el.create_task(starting(el, transport, protocol, side).into_future())
}

fn new(log: &Log) -> ProtocolRef<Recorder> {
    ProtocolRef::new(recorder(log).name("new"))
}

/// Says what has become of it, if that is nothing good.
async fn changed(log: &Log, task: Task<io::Result<Transport>>) -> Option<Transport> {
    match task.await {
        Ok(Ok(transport)) => return Some(transport),
        Ok(Err(error)) => log.push(format!("failed {}", failure(&error))),
        Err(_) => log.push("cancelled"),
    }
    None
}

/// What a plain socket was told, and whether that was the end.
fn tell_end(log: &Log, socket: &crate::support::Peer) {
    let (data, end) = socket.receive();
    yes(log, "alert", data.first() == Some(&0x15));
    yes(log, "ended", !end.is_empty());
}

/// TL-15: what was written before goes in clear, what is written afterwards does not, and nothing is made twice.
#[test]
fn tls_started() {
    connected("tls_started", async |el, log| {
        for side in SIDES {
            let (plain, socket) = connect_plain(&el, Recorder::new(&log).name("old")).await;
            socket.send(b"ready?");
            settle().await;
            plain.write(b"ready");
            let task = start(&el, &plain, new(&log), side);
            settle().await;
            // No more than was said in clear.
            let mut clear = [0; 5];
            socket.with(|mut socket| io::Read::read_exact(&mut socket, &mut clear)).unwrap();
            log.push(format!("peer {}", String::from_utf8_lossy(&clear)));
            let peer = TlsPeer::of(&socket, side);
            log.push(format!("peer {}", peer.handshake().await));
            let transport = changed(&log, task).await.unwrap();
            transport.write(b"hello");
            log.push(format!("peer {}", peer.received()));
            peer.send(b"good day");
            settle().await;
            yes(&log, "old one is closing", plain.is_closing());
            transport.close();
            settle().await;
            peer.goodbye();
            settle().await;
            log.push(format!("peer {}", peer.received()));
            yes(&log, "old one is closing", plain.is_closing());
        }
    });
}

/// TL-15: the protocol may be the one that there is.
#[test]
fn tls_started_with_the_same_protocol() {
    connected("tls_started_with_the_same_protocol", async |el, log| {
        let (plain, socket) = connect_plain(&el, recorder(&log).name("same")).await;
        let task = start(&el, &plain, plain.protocol().unwrap(), Side::Client);
        let peer = TlsPeer::server(&socket, DEFAULT);
        settle().await;
        log.push(format!("peer {}", peer.handshake().await));
        changed(&log, task).await;
        peer.send(b"hello");
        settle().await;
        peer.goodbye();
        settle().await;
    });
}

/// TL-15: what is no TLS.
#[test]
fn tls_started_and_the_peer_is_no_friend() {
    let here = [
        "old made",
        "new lost error",
        "failed tls",
        "alert yes",
        "ended yes",
        "old made",
        "new lost error",
        "failed tls",
        "alert yes",
        "ended yes",
    ];
    connected_differs("tls_started_and_the_peer_is_no_friend", "tls-errors-are-told", &here, async |el, log| {
        for side in SIDES {
            let (plain, socket) = connect_plain(&el, Recorder::new(&log).name("old")).await;
            let task = start(&el, &plain, new(&log), side);
            settle().await;
            socket.receive();
            socket.send(b"500 what is this?\r\n");
            settle().await;
            changed(&log, task).await;
            settle().await;
            tell_end(&log, &socket);
        }
    });
}

/// TL-09: a peer that goes instead.
#[test]
fn tls_started_and_the_peer_goes() {
    let here = ["old made", "new lost reset", "failed reset", "old made", "new lost reset", "failed reset"];
    connected_differs("tls_started_and_the_peer_goes", "start-tls-tells-of-its-end", &here, async |el, log| {
        for side in SIDES {
            let (plain, socket) = connect_plain(&el, Recorder::new(&log).name("old")).await;
            let task = start(&el, &plain, new(&log), side);
            settle().await;
            socket.close();
            settle().await;
            changed(&log, task).await;
            settle().await;
        }
    });
}

/// TL-18: cancelled while the peer is silent.
#[test]
fn tls_started_and_cancelled() {
    let here =
        ["old made", "new lost None", "cancelled", "peer  eof", "old made", "new lost None", "cancelled", "peer  eof"];
    connected_differs("tls_started_and_cancelled", "start-tls-tells-of-its-end", &here, async |el, log| {
        for side in SIDES {
            let (plain, socket) = connect_plain(&el, Recorder::new(&log).name("old")).await;
            let task = start(&el, &plain, new(&log), side);
            settle().await;
            task.cancel();
            settle().await;
            changed(&log, task).await;
            log.push(format!("peer {}", socket.receive().1));
        }
    });
}

/// TL-18, TL-06: too slow a peer.
#[test]
fn tls_started_and_too_slow() {
    let here = [
        "old made",
        "new lost error",
        "failed aborted",
        "peer  eof",
        "old made",
        "new lost error",
        "failed aborted",
        "peer  eof",
    ];
    differs("tls_started_and_too_slow", "start-tls-tells-of-its-end", &here, |el, log, clock| {
        let scenario = async {
            for side in SIDES {
                let (plain, socket) = connect_plain(el, Recorder::new(log).name("old")).await;
                let starting = starting(el, &plain, new(log), side).tls_handshake_timeout(SECOND * 5);
                let task = el.create_task(starting.into_future());
                settle().await;
                socket.receive();
                clock.advance(SECOND * 6);
                settle().await;
                changed(log, task).await;
                settle().await;
                log.push(format!("peer {}", socket.receive().1));
            }
        };
        el.run_until_complete(scenario).unwrap();
    });
}

/// TL-19: nothing begins where everything ends.
#[test]
fn tls_started_on_a_closing_transport() {
    let here = ["old made", "old lost None", "done yes", "failed error", "peer '' eof"];
    connected_differs("tls_started_on_a_closing_transport", "start-tls-tells-of-its-end", &here, async |el, log| {
        let (plain, socket) = connect_plain(&el, Recorder::new(&log).name("old")).await;
        plain.close();
        let task = start(&el, &plain, new(&log), Side::Client);
        settle().await;
        yes(&log, "done", task.is_done());
        task.cancel();
        changed(&log, task).await;
        log.push(format!("peer {}", socket.received()));
    });
}

/// TL-17: what comes with the last of the handshake finds its answer encrypted.
#[test]
fn tls_started_with_data_behind_the_handshake() {
    let here = ["old made", "changed", "new data 'early'", "peer 'EARLY'"];
    connected_differs("tls_started_with_data_behind_the_handshake", "start-tls-then-data", &here, async |el, log| {
        let (plain, socket) = connect_plain(&el, Recorder::new(&log).name("old")).await;
        let current = Rc::new(RefCell::new(plain.clone()));
        let answering = current.clone();
        let answer = move |_: &Transport, data: &[u8]| answering.borrow().write(&data.to_ascii_uppercase());
        let new = ProtocolRef::new(recorder(&log).name("new").then_with("data", answer));
        let change = starting(&el, &plain, new, Side::Server).into_future();
        let own = log.clone();
        let task = el.create_task(async move {
            let transport = change.await.unwrap();
            *current.borrow_mut() = transport;
            own.push("changed");
        });
        settle().await;
        let peer = TlsPeer::client(&socket, DEFAULT);
        peer.step();
        settle().await;
        peer.feed();
        peer.send(b"early");
        settle().await;
        task.await.unwrap();
        log.push(format!("peer {}", peer.received()));
    });
}

/// CX-11: the contexts of callbacks.
#[test]
fn tls_started_where_it_is() {
    let here = [
        "made",
        "data 'data'",
        "in connecting",
        "new data 'data'",
        "in connecting",
        "new eof",
        "in connecting",
        "new lost None",
        "in connecting",
    ];
    connected_differs("tls_started_where_it_is", "start-tls-keeps-the-context", &here, async |el, log| {
        static VARIABLE: ContextVar<&str> = ContextVar::with_default("variable", || "default");
        let tell = |recorder: Recorder, callback| {
            let log = log.clone();
            recorder.then(callback, move |_| log.push(format!("in {}", VARIABLE.get().unwrap())))
        };
        let (own, old) = (el.clone(), tell(Recorder::new(&log), "data"));
        let make = async move {
            VARIABLE.set("connecting");
            connect_plain(&own, old).await
        };
        let (plain, socket) = el.create_task(make).await.unwrap();
        socket.send(b"data");
        settle().await;
        let new = ["data", "eof", "lost"].into_iter().fold(recorder(&log).name("new"), tell);
        let own = el.clone();
        let change = async move {
            VARIABLE.set("changing");
            starting(&own, &plain, ProtocolRef::new(new), Side::Client).await.unwrap()
        };
        let task = el.create_task(change);
        settle().await;
        let peer = TlsPeer::server(&socket, DEFAULT);
        peer.handshake().await;
        let _transport = task.await.unwrap();
        peer.send(b"data");
        settle().await;
        peer.goodbye();
        settle().await;
    });
}

/// TL-12, TL-14: a connection within another.
#[test]
fn tls_over_tls() {
    connected("tls_over_tls", async |el, log| {
        for side in SIDES {
            let (outer, below) = Setup::new(side).connect(&el, recorder(&log).name("outer")).await;
            let inner = ProtocolRef::new(recorder(&log).name("inner"));
            let task = start(&el, &outer, inner, side);
            settle().await;
            let peer = TlsPeer::within(&below, side);
            log.push(format!("peer {}", peer.handshake().await));
            let inner = changed(&log, task).await.unwrap();
            inner.write(b"hello");
            settle().await;
            log.push(format!("peer {}", peer.received()));
            peer.send(b"good day");
            settle().await;
            inner.close();
            settle().await;
            log.push(format!("peer {}", peer.received()));
            peer.goodbye();
            settle().await;
            below.goodbye();
            settle().await;
            log.push(format!("below {}", below.received()));
        }
    });
}

/// TL-12: ended by the peer.
#[test]
fn tls_over_tls_ended_by_the_peer() {
    let here = [
        "outer made",
        "peer done",
        "inner data 'last words'",
        "inner eof",
        "inner lost None",
        "peer '' close_notify close_notify",
        "below '' close_notify eof",
    ];
    connected_differs("tls_over_tls_ended_by_the_peer", "tls-within-tls", &here, async |el, log| {
        let (outer, below) = Setup::client().connect(&el, recorder(&log).name("outer")).await;
        let task = start(&el, &outer, ProtocolRef::new(recorder(&log).name("inner")), Side::Client);
        settle().await;
        let peer = TlsPeer::within(&below, Side::Client);
        log.push(format!("peer {}", peer.handshake().await));
        let _inner = changed(&log, task).await;
        peer.send(b"last words");
        peer.goodbye();
        settle().await;
        log.push(format!("peer {}", peer.received()));
        below.goodbye();
        settle().await;
        log.push(format!("below {}", below.received()));
    });
}

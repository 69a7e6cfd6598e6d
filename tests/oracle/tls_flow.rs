//! Flow control of TLS, in both directions.

use roundelay::Transport;

use crate::common::Log;
use crate::support::{connected, connected_differs, settle, socket_pair, yes};
use crate::tls_peer::{DEFAULT, SIDES, Setup, TlsPeer, outcome, recorder};

static MEGABYTE: [u8; 1_000_000] = [b'x'; 1_000_000];

/// So that writing is paused, and was not by the first half.
fn write_much(transport: &Transport) {
    transport.write(&MEGABYTE[..600_000]);
    transport.write(&MEGABYTE[..600_000]);
}

fn limits(log: &Log, transport: &Transport) {
    let marks = transport.write_buffer_limits();
    log.push(format!("limits {} {}", marks.low, marks.high));
}

/// FC-07, P34: the marks of TLS are its own.
#[test]
fn tls_marks_as_told() {
    connected("tls_marks_as_told", async |el, log| {
        let (transport, _peer) = Setup::client().connect(&el, recorder(&log)).await;
        limits(&log, &transport);
        let given = [(Some(100), Some(10)), (Some(100), None), (None, Some(100)), (Some(7), Some(7)), (None, None)];
        for (high, low) in given {
            transport.set_write_buffer_limits(high, low).unwrap();
            limits(&log, &transport);
        }
        if transport.set_write_buffer_limits(10, 100).is_err() {
            log.push("refused");
        }
        limits(&log, &transport);
        settle().await;
    });
}

/// FC-07: paused and resumed, more than once.
#[test]
fn tls_pause_and_resume() {
    connected("tls_pause_and_resume", async |el, log| {
        for side in SIDES {
            let (transport, peer) = Setup::new(side).connect(&el, recorder(&log)).await;
            for _ in 0..2 {
                for half in ["first", "second"] {
                    log.push(half);
                    transport.write(&MEGABYTE[..600_000]);
                    settle().await;
                }
                log.push("drained");
                log.push(format!("peer {}", peer.collect().await));
                log.push(format!("size {}", transport.write_buffer_size()));
            }
        }
    });
}

/// FC-07: what is written at once counts, too.
#[test]
fn tls_much_in_one_write() {
    let here = ["made", "queued yes", "pause", "resume", "peer 5000000 bytes", "size 0"];
    connected_differs("tls_much_in_one_write", "one-queue-of-tls", &here, async |el, log| {
        let (transport, peer) = Setup::client().connect(&el, recorder(&log)).await;
        transport.write(&MEGABYTE.repeat(5));
        yes(&log, "queued", transport.write_buffer_size() > 0);
        settle().await;
        log.push(format!("peer {}", peer.collect().await));
        log.push(format!("size {}", transport.write_buffer_size()));
    });
}

/// TT-24: what `resume_writing` writes is sent, and may pause again.
#[test]
fn tls_written_when_resumed() {
    connected("tls_written_when_resumed", async |el, log| {
        let mut left = 2;
        let resume = move |transport: &Transport| {
            if left > 0 {
                left -= 1;
                transport.write(&MEGABYTE.repeat(2));
                transport.write(&MEGABYTE.repeat(2));
            }
        };
        let (transport, peer) = Setup::client().connect(&el, recorder(&log).then("resume", resume)).await;
        transport.write(&MEGABYTE.repeat(2));
        transport.write(&MEGABYTE.repeat(2));
        settle().await;
        log.push(format!("peer {}", peer.collect().await));
    });
}

/// CL-08: a close while writing is paused sends everything, resumes, and ends.
#[test]
fn tls_closed_while_paused() {
    connected("tls_closed_while_paused", async |el, log| {
        let (transport, peer) = Setup::client().connect(&el, recorder(&log)).await;
        write_much(&transport);
        settle().await;
        transport.close();
        settle().await;
        log.push(format!("peer {}", peer.collect().await));
        peer.goodbye();
        settle().await;
    });
}

/// TT-25: closing in `resume_writing` gives one loss.
#[test]
fn tls_closed_when_resumed() {
    connected("tls_closed_when_resumed", async |el, log| {
        for (name, step) in [("close", Transport::close as fn(&Transport)), ("abort", Transport::abort)] {
            let (transport, peer) = Setup::client().connect(&el, recorder(&log).then("resume", step)).await;
            write_much(&transport);
            settle().await;
            let total = peer.collect().await;
            if name == "close" {
                log.push(format!("peer {total}"));
            }
            peer.goodbye();
            settle().await;
            log.push(format!("peer {}", peer.received()));
        }
    });
}

/// FC-08: an abort while writing is paused: no resumption.
#[test]
fn tls_aborted_while_paused() {
    connected("tls_aborted_while_paused", async |el, log| {
        let (transport, _peer) = Setup::client().connect(&el, recorder(&log)).await;
        write_much(&transport);
        settle().await;
        transport.abort();
        settle().await;
        log.push(format!("size {}", transport.write_buffer_size()));
    });
}

/// FC-08: so it is with a peer that goes.
#[test]
fn tls_peer_goes_while_paused() {
    connected("tls_peer_goes_while_paused", async |el, log| {
        let pair = socket_pair();
        let (transport, _peer) = Setup::client().connect_over(&el, &pair, recorder(&log)).await;
        write_much(&transport);
        settle().await;
        pair.1.close();
        settle().await;
        log.push(format!("size {}", transport.write_buffer_size()));
    });
}

/// FC-01: reading goes on while writing is paused.
#[test]
fn tls_reading_while_writing_is_paused() {
    connected("tls_reading_while_writing_is_paused", async |el, log| {
        let (transport, peer) = Setup::client().connect(&el, recorder(&log)).await;
        write_much(&transport);
        settle().await;
        peer.send(b"hello");
        settle().await;
        log.push(format!("peer {}", peer.collect().await));
    });
}

/// TL-37: what comes while nobody reads is kept.
#[test]
fn tls_reading_paused() {
    connected("tls_reading_paused", async |el, log| {
        let (transport, peer) = Setup::client().connect(&el, recorder(&log)).await;
        yes(&log, "reading", transport.is_reading());
        transport.pause_reading();
        yes(&log, "reading", transport.is_reading());
        peer.send(b"one ");
        settle().await;
        peer.send(b"two");
        settle().await;
        log.push("resume");
        transport.resume_reading();
        yes(&log, "reading", transport.is_reading());
        settle().await;
        peer.send(b"three");
        settle().await;
    });
}

/// TL-37: paused by the protocol itself, for a moment.
#[test]
fn tls_reading_paused_in_a_callback() {
    connected("tls_reading_paused_in_a_callback", async |el, log| {
        let own = el.clone();
        let data = move |transport: &Transport| {
            transport.pause_reading();
            let transport = transport.clone();
            own.call_soon(move || transport.resume_reading());
        };
        let (_transport, peer) = Setup::client().connect(&el, recorder(&log).then("data", data)).await;
        peer.send(b"one");
        settle().await;
        peer.send(b"two");
        settle().await;
    });
}

/// TL-37: paused before there is anything.
#[test]
fn tls_paused_as_it_is_made() {
    connected("tls_paused_as_it_is_made", async |el, log| {
        let pausing = recorder(&log).then("made", Transport::pause_reading);
        let (transport, peer) = Setup::server().connect(&el, pausing).await;
        peer.send(b"hello");
        settle().await;
        log.push("resume");
        transport.resume_reading();
        settle().await;
    });
}

/// TL-02: the last word of the handshake is the client's, and is sent.
#[test]
fn tls_client_paused_as_it_is_made() {
    let here = ["made", "peer done", "connected"];
    connected_differs("tls_client_paused_as_it_is_made", "handshakes-are-finished", &here, async |el, log| {
        let (own, socket) = socket_pair();
        let pausing = recorder(&log).then("made", Transport::pause_reading);
        let task = Setup::client().connecting(&el, &own, pausing);
        let peer = TlsPeer::server(&socket, DEFAULT);
        log.push(format!("peer {}", peer.handshake().await));
        outcome(&log, task).await;
    });
}

/// TL-37: what nobody reads stops the peer.
#[test]
fn tls_peer_is_held_up() {
    connected("tls_peer_is_held_up", async |el, log| {
        let pair = socket_pair();
        let (transport, peer) = Setup::client().connect_over(&el, &pair, recorder(&log).total()).await;
        transport.pause_reading();
        let mut sent = 0;
        while sent < 100 && peer.try_send(&MEGABYTE[..10_000]) {
            sent += 1;
            settle().await;
        }
        yes(&log, "held up", sent < 100);
    });
}

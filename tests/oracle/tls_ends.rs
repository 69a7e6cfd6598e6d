//! How TLS connections end.

use std::io::IoSlice;
use std::rc::Rc;

use roundelay::Transport;

use crate::common::Log;
use crate::oracle::{differs, timed};
use crate::support::{Peer, SECOND, connected, connected_differs, settle, socket_pair, tcp_pair, yes};
use crate::tls_peer::{DEFAULT, NAME, SIDES, Setup, Side, TlsPeer, recorder};

static MEGABYTE: [u8; 1_000_000] = [b'x'; 1_000_000];

fn tell(log: &Log, peer: &TlsPeer) {
    log.push(format!("peer {}", peer.received()));
}

fn write_five_million(transport: &Transport) {
    transport.set_write_buffer_limits(1 << 30, None).unwrap();
    transport.write(&MEGABYTE.repeat(5));
}

/// CL-10, TL-31: what was written first comes first, and both sides say goodbye.
#[test]
fn tls_closed_by_this_side() {
    connected("tls_closed_by_this_side", async |el, log| {
        for side in SIDES {
            let (transport, peer) = Setup::new(side).connect(&el, recorder(&log)).await;
            transport.write(b"last words");
            transport.close();
            yes(&log, "closing", transport.is_closing());
            transport.close();
            settle().await;
            tell(&log, &peer);
            peer.goodbye();
            settle().await;
            tell(&log, &peer);
        }
    });
}

/// TL-27: the answer to a goodbye is one.
#[test]
fn tls_closed_by_the_peer() {
    connected("tls_closed_by_the_peer", async |el, log| {
        for side in SIDES {
            let (transport, peer) = Setup::new(side).connect(&el, recorder(&log)).await;
            peer.send(b"last words");
            peer.goodbye();
            settle().await;
            yes(&log, "closing", transport.is_closing());
            tell(&log, &peer);
        }
    });
}

/// TL-29: both at the same time, and data between.
#[test]
fn tls_closed_by_both() {
    let here = ["made", "eof", "lost None", "peer 'last words' close_notify eof"];
    connected_differs("tls_closed_by_both", "once-everything-is-said", &here, async |el, log| {
        let (transport, peer) = Setup::client().connect(&el, recorder(&log)).await;
        peer.send(b"unheard");
        peer.goodbye();
        transport.write(b"last words");
        transport.close();
        settle().await;
        tell(&log, &peer);
    });
}

/// TL-33: a peer that answers a goodbye by going.
#[test]
fn tls_closed_by_a_peer_that_goes() {
    connected("tls_closed_by_a_peer_that_goes", async |el, log| {
        let pair = socket_pair();
        let (transport, peer) = Setup::client().connect_over(&el, &pair, recorder(&log)).await;
        transport.close();
        settle().await;
        tell(&log, &peer);
        pair.1.close();
        settle().await;
    });
}

/// TL-27: what `eof_received` writes.
#[test]
fn tls_answer_to_the_end() {
    connected("tls_answer_to_the_end", async |el, log| {
        let answering = recorder(&log).then("eof", |transport| transport.write(b"goodbye"));
        let (_transport, peer) = Setup::client().connect(&el, answering).await;
        peer.goodbye();
        settle().await;
        tell(&log, &peer);
    });
}

/// P34: all of it arrives, and then the goodbye.
#[test]
fn tls_five_million_and_close() {
    connected("tls_five_million_and_close", async |el, log| {
        for side in SIDES {
            let (transport, peer) = Setup::new(side).connect(&el, recorder(&log)).await;
            write_five_million(&transport);
            transport.close();
            log.push(format!("peer {}", peer.collect().await));
            peer.goodbye();
            settle().await;
            tell(&log, &peer);
        }
    });
}

/// P34: in the other direction.
#[test]
fn tls_five_million_from_the_peer() {
    connected("tls_five_million_from_the_peer", async |el, log| {
        for side in SIDES {
            let (_transport, peer) = Setup::new(side).connect(&el, recorder(&log).total()).await;
            for _ in 0..100 {
                peer.send(&MEGABYTE[..50_000]);
                settle().await;
            }
            peer.goodbye();
            settle().await;
            tell(&log, &peer);
        }
    });
}

/// P34: with both sides in one loop, each with its own order.
#[test]
fn tls_five_million_both_in_the_loop() {
    connected("tls_five_million_both_in_the_loop", async |el, log| {
        for sender in SIDES {
            let (logs, lost) = ([Log::new(), Log::new()], [el.create_future(), el.create_future()]);
            let ending = |number: usize| {
                let lost = lost[number].clone();
                recorder(&logs[number]).total().then("lost", move |_| lost.set_result(()).unwrap())
            };
            let (one, other) = socket_pair();
            let (client, server) = (ending(0), ending(1));
            let client = el.create_connection(|| client, one.take()).tls(DEFAULT.connector()).server_hostname(NAME);
            let server = el.connect_accepted_socket(|| server, other.take()).tls(DEFAULT.acceptor());
            let client = el.create_task(client.into_future());
            let server = server.await.unwrap().0;
            let client = client.await.unwrap().unwrap().0;
            let transport = if sender == Side::Client { client } else { server };
            write_five_million(&transport);
            transport.close();
            for lost in lost {
                lost.await.unwrap();
            }
            for (name, lines) in ["client", "server"].iter().zip(logs) {
                log.push(format!("{name} {}", lines.take().join(", ")));
            }
        }
    });
}

/// TL-34, P35: an abort is heard of once.
#[test]
fn tls_aborted() {
    connected("tls_aborted", async |el, log| {
        for side in SIDES {
            let (transport, peer) = Setup::new(side).connect_over(&el, &tcp_pair(), recorder(&log)).await;
            transport.write(b"on its way");
            transport.abort();
            yes(&log, "closing", transport.is_closing());
            transport.abort();
            transport.close();
            settle().await;
            tell(&log, &peer);
        }
    });
}

/// TL-34: an abort does not wait for what is queued, nor for an end that has begun.
#[test]
fn tls_aborted_with_a_queue() {
    connected("tls_aborted_with_a_queue", async |el, log| {
        let (transport, peer) = Setup::client().connect(&el, recorder(&log)).await;
        write_five_million(&transport);
        transport.close();
        settle().await;
        transport.abort();
        settle().await;
        yes(&log, "all of it", peer.receive().0.len() == 5_000_000);
    });
}

/// TL-34, P35: a peer that aborts.
#[test]
fn tls_reset_by_the_peer() {
    connected("tls_reset_by_the_peer", async |el, log| {
        for side in SIDES {
            let pair = tcp_pair();
            let (transport, _peer) = Setup::new(side).connect_over(&el, &pair, recorder(&log)).await;
            pair.1.reset();
            settle().await;
            yes(&log, "closing", transport.is_closing());
        }
    });
}

/// TL-34: a peer that aborts when everything is said.
#[test]
fn tls_reset_while_closing() {
    let here = ["made", "lost None"];
    connected_differs("tls_reset_while_closing", "once-everything-is-said", &here, async |el, log| {
        let pair = tcp_pair();
        let (transport, peer) = Setup::client().connect_over(&el, &pair, recorder(&log)).await;
        transport.close();
        settle().await;
        peer.received();
        pair.1.reset();
        settle().await;
    });
}

/// TL-33, P36: an end without a goodbye.
#[test]
fn tls_cut_off() {
    connected("tls_cut_off", async |el, log| {
        for side in SIDES {
            let pair = socket_pair();
            let (transport, peer) = Setup::new(side).connect_over(&el, &pair, recorder(&log)).await;
            peer.send(b"last words");
            pair.1.close();
            settle().await;
            yes(&log, "closing", transport.is_closing());
        }
    });
}

/// TL-33: an end without a goodbye, of one direction.
#[test]
fn tls_half_closed_below() {
    let here = ["made", "eof", "lost None", "closing yes", "peer '' close_notify eof"];
    connected_differs("tls_half_closed_below", "close-notify-to-everybody", &here, async |el, log| {
        let pair = socket_pair();
        let (transport, peer) = Setup::client().connect_over(&el, &pair, recorder(&log)).await;
        pair.1.shutdown();
        settle().await;
        yes(&log, "closing", transport.is_closing());
        tell(&log, &peer);
    });
}

/// TL-21: there is no half-open connection.
#[test]
fn tls_kept_open() {
    connected("tls_kept_open", async |el, log| {
        let (_transport, peer) = Setup::client().connect(&el, recorder(&log).keep_open()).await;
        peer.goodbye();
        settle().await;
        tell(&log, &peer);
    });
}

/// TL-22, CL-04: nor can one be made.
#[test]
fn tls_half_close() {
    connected("tls_half_close", async |el, log| {
        let own = log.clone();
        el.set_exception_handler(Some(Rc::new(move |_, _| own.push("refused"))));
        let (transport, peer) = Setup::client().connect(&el, recorder(&log)).await;
        yes(&log, "can", transport.can_write_eof());
        transport.write_eof();
        transport.write(b"goes on");
        settle().await;
        tell(&log, &peer);
    });
}

/// TL-26: data, a goodbye and the end while nobody reads.
#[test]
fn tls_end_while_reading_is_paused() {
    connected("tls_end_while_reading_is_paused", async |el, log| {
        let pair = socket_pair();
        let (transport, peer) = Setup::client().connect_over(&el, &pair, recorder(&log)).await;
        transport.pause_reading();
        peer.send(b"last words");
        peer.goodbye();
        pair.1.close();
        settle().await;
        log.push("resume");
        transport.resume_reading();
        settle().await;
    });
}

/// TL-26, TL-33: so it is without a goodbye.
#[test]
fn tls_cut_off_while_reading_is_paused() {
    connected("tls_cut_off_while_reading_is_paused", async |el, log| {
        let pair = socket_pair();
        let (transport, peer) = Setup::client().connect_over(&el, &pair, recorder(&log)).await;
        transport.pause_reading();
        peer.send(b"last words");
        pair.1.close();
        settle().await;
        log.push("resume");
        transport.resume_reading();
        settle().await;
    });
}

/// TL-26: and where the peer waits for an answer.
#[test]
fn tls_goodbye_while_reading_is_paused() {
    connected("tls_goodbye_while_reading_is_paused", async |el, log| {
        let (transport, peer) = Setup::client().connect(&el, recorder(&log)).await;
        transport.pause_reading();
        peer.send(b"last words");
        peer.goodbye();
        settle().await;
        tell(&log, &peer);
        log.push("resume");
        transport.resume_reading();
        settle().await;
        tell(&log, &peer);
    });
}

/// TL-28: a connection that nobody reads can be closed.
#[test]
fn tls_closed_while_reading_is_paused() {
    let here = ["made", "peer '' close_notify", "eof", "lost None", "peer '' close_notify eof"];
    connected_differs("tls_closed_while_reading_is_paused", "once-everything-is-said", &here, async |el, log| {
        let (transport, peer) = Setup::client().connect(&el, recorder(&log)).await;
        transport.pause_reading();
        peer.send(b"unheard");
        settle().await;
        transport.close();
        settle().await;
        tell(&log, &peer);
        peer.goodbye();
        settle().await;
        tell(&log, &peer);
    });
}

/// TL-29: a peer that says more after our goodbye.
#[test]
fn tls_data_behind_the_end() {
    let here = ["made", "eof", "lost None", "peer '' close_notify eof"];
    connected_differs("tls_data_behind_the_end", "once-everything-is-said", &here, async |el, log| {
        let (transport, peer) = Setup::client().connect(&el, recorder(&log)).await;
        transport.close();
        settle().await;
        peer.send(b"too late");
        settle().await;
        peer.send(&MEGABYTE[..50_000]);
        settle().await;
        peer.goodbye();
        settle().await;
        tell(&log, &peer);
    });
}

/// TL-29: a peer that did not know of it yet.
#[test]
fn tls_data_as_it_is_closed() {
    let here = ["made", "eof", "lost None", "peer '' close_notify eof"];
    connected_differs("tls_data_as_it_is_closed", "once-everything-is-said", &here, async |el, log| {
        let (transport, peer) = Setup::client().connect(&el, recorder(&log)).await;
        peer.send(b"crossing");
        transport.close();
        settle().await;
        peer.goodbye();
        settle().await;
        tell(&log, &peer);
    });
}

/// TL-31, TL-30: nothing is sent that is written too late, and nothing is queued.
#[test]
fn tls_written_behind_the_end() {
    connected("tls_written_behind_the_end", async |el, log| {
        let (transport, peer) = Setup::client().connect(&el, recorder(&log)).await;
        transport.close();
        transport.write(b"too late");
        transport.writelines(&[IoSlice::new(b"too "), IoSlice::new(b"late")]);
        settle().await;
        tell(&log, &peer);
        peer.goodbye();
        settle().await;
        for _ in 0..25 {
            transport.write(b"far too late");
        }
        log.push(format!("size {}", transport.write_buffer_size()));
        tell(&log, &peer);
    });
}

/// TL-30: writing to nobody.
#[test]
fn tls_written_to_a_peer_that_is_gone() {
    connected("tls_written_to_a_peer_that_is_gone", async |el, log| {
        let pair: (Peer, Peer) = tcp_pair();
        let (transport, _peer) = Setup::client().connect_over(&el, &pair, recorder(&log)).await;
        pair.1.reset();
        for _ in 0..25 {
            transport.write(b"into the void");
        }
        settle().await;
        log.push(format!("size {}", transport.write_buffer_size()));
        yes(&log, "closing", transport.is_closing());
    });
}

/// TL-24: a peer that does not answer a goodbye.
#[test]
fn tls_end_takes_too_long() {
    timed("tls_end_takes_too_long", |el, log, clock| {
        let scenario = async {
            for side in SIDES {
                let (transport, peer) = Setup::new(side).shutdown_timeout(5).connect(el, recorder(log)).await;
                transport.close();
                settle().await;
                clock.advance(SECOND * 9 / 2);
                settle().await;
                log.push("later");
                clock.advance(SECOND);
                settle().await;
                tell(log, &peer);
            }
        };
        el.run_until_complete(scenario).unwrap();
    });
}

/// TL-25: one that does in time.
#[test]
fn tls_end_in_time() {
    timed("tls_end_in_time", |el, log, clock| {
        let scenario = async {
            let (transport, peer) = Setup::client().shutdown_timeout(5).connect(el, recorder(log)).await;
            transport.close();
            settle().await;
            peer.goodbye();
            clock.advance(SECOND * 9 / 2);
            settle().await;
            clock.advance(SECOND * 10);
            settle().await;
        };
        el.run_until_complete(scenario).unwrap();
    });
}

/// TL-24: a peer that reads slowly is no peer that does not answer.
#[test]
fn tls_end_of_a_slow_reader() {
    let here = ["made", "all of it yes"];
    differs("tls_end_of_a_slow_reader", "slow-readers-get-everything", &here, |el, log, clock| {
        let scenario = async {
            let (transport, peer) = Setup::client().shutdown_timeout(5).connect(el, recorder(log)).await;
            write_five_million(&transport);
            transport.close();
            let mut total = 0;
            for _ in 0..3 {
                settle().await;
                total += peer.receive().0.len();
                settle().await;
                clock.advance(SECOND * 4);
            }
            settle().await;
            total += peer.collect().await.split(' ').next().unwrap().parse::<usize>().unwrap();
            yes(log, "all of it", total == 5_000_000);
        };
        el.run_until_complete(scenario).unwrap();
    });
}

/// CL-10: ended from within a callback.
#[test]
fn tls_ended_in_callbacks() {
    let here = [
        "made",
        "data 'data'",
        "eof",
        "lost None",
        "closing yes",
        "peer '' close_notify eof",
        "made",
        "data 'data'",
        "eof",
        "lost None",
        "closing yes",
        "peer '' close_notify eof",
        "made",
        "data 'data'",
        "lost None",
        "closing yes",
        "peer '' eof",
        "made",
        "data 'data'",
        "eof",
        "lost None",
        "closing yes",
        "peer '' eof",
    ];
    connected_differs("tls_ended_in_callbacks", "nothing-behind-an-abort", &here, async |el, log| {
        for step in [Transport::close, Transport::abort] {
            for callback in ["data", "eof"] {
                let (transport, peer) = Setup::client().connect(&el, recorder(&log).then(callback, step)).await;
                peer.send(b"data");
                peer.goodbye();
                settle().await;
                yes(&log, "closing", transport.is_closing());
                tell(&log, &peer);
            }
        }
    });
}

/// CL-10: ended before anything was said.
#[test]
fn tls_closed_as_it_is_made() {
    connected("tls_closed_as_it_is_made", async |el, log| {
        for side in SIDES {
            let (_transport, peer) = Setup::new(side).connect(&el, recorder(&log).then("made", Transport::close)).await;
            settle().await;
            tell(&log, &peer);
            peer.goodbye();
            settle().await;
            tell(&log, &peer);
        }
    });
}

/// TL-20: what was tampered with is an error, and what came before is heard.
#[test]
fn tls_broken_record() {
    let here = ["made", "data 'heard'", "lost error", "peer '' alert eof"];
    connected_differs("tls_broken_record", "tls-errors-are-told", &here, async |el, log| {
        let pair = socket_pair();
        let (_transport, peer) = Setup::client().connect_over(&el, &pair, recorder(&log)).await;
        peer.send(b"heard");
        pair.1.send(&[b"\x17\x03\x03\x00\x20".as_slice(), &[0; 32]].concat());
        settle().await;
        tell(&log, &peer);
    });
}

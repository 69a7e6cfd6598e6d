//! How TLS connections are closed, from either side (behaviours TL, CL, FC).

#![cfg(feature = "__tls")]

#[path = "common/certificates.rs"]
mod certificates;
#[path = "common/collector.rs"]
mod collector;
mod common;
#[path = "common/tls_peer.rs"]
mod tls_peer;
mod wire;

use certificates::{authority, localhost};
use collector::collect;
use common::{run_until, settle, take_reports};
use roundelay::{EventLoop, KeepOpen, TlsAcceptor, TlsConnector};
use tls_peer::{SIDES, Setup, TlsPeer, corrupted, open, pair};
use tracing::Level;
use wire::{Record, Tap, finish, pattern, until_lost};

/// Connections whose end without a close_notify is an error.
fn strict(setup: Setup) -> Setup {
    let connector = TlsConnector::builder().roots_from_pem(authority().pem()).require_close_notify(true);
    let acceptor = TlsAcceptor::builder().identity(localhost().identity()).require_close_notify(true);
    setup.configured(connector.build().unwrap(), acceptor.build().unwrap())
}

/// What was heard, but for `resume`, which may come before or after the end of file.
fn heard(record: &Record) -> Vec<String> {
    let mut heard = record.take();
    heard.retain(|event| event != "resume");
    heard
}

/// Waits until the peer has been told that nothing follows.
#[track_caller]
fn until_notified(el: &EventLoop, peer: &mut TlsPeer) {
    run_until(el, || {
        peer.pump();
        peer.notified
    });
}

on_every_loop! {
    /// TL-01: bytes go both ways, and a close is an end on both sides, said by close_notify and not by a reset.
    fn there_and_back(el) {
        for side in SIDES {
            let record = Record::new();
            let tap = Tap::new(&record).on_data(|transport, data| transport.write(data));
            let (transport, mut peer) = open(el, side, tap);
            peer.send(b"hello");
            run_until(el, || {
                peer.pump();
                peer.received == b"hello"
            });
            transport.close();
            assert!(transport.is_closing());
            assert_eq!(peer.part(el), Ok(()));
            until_lost(el, &record);
            assert_eq!(record.take(), ["made", "data 5", "eof", "lost"]);
            assert!(peer.notified && transport.protocol().is_none());
        }
    }

    /// TL-27: a large backlog is written and closed: it arrives whole, whatever the peer has said meanwhile.
    fn a_backlog_arrives_whole(el) {
        enum Says { Nothing, Goodbye, Fin, Both }
        let data = pattern(3_000_000);
        for side in SIDES {
            for says in [Says::Nothing, Says::Goodbye, Says::Fin, Says::Both] {
                let record = Record::new();
                let (transport, mut peer) = Setup::new(side).narrow().open(el, Tap::new(&record));
                transport.write(&data);
                match says {
                    Says::Nothing => {}
                    Says::Goodbye => peer.close_notify(),
                    Says::Fin => peer.fin(),
                    Says::Both => {
                        peer.close_notify();
                        peer.fin();
                    }
                }
                settle(el);
                assert!(transport.write_buffer_size() > 0);
                transport.close();
                let end = peer.part(el);
                assert_eq!(peer.received.len(), data.len());
                assert!(peer.received == data && peer.notified);
                assert_eq!(end, Ok(()));
                until_lost(el, &record);
                assert_eq!(heard(&record), ["made", "pause", "eof", "lost"], "{side:?}");
            }
        }
    }

    /// TL-27: both sides write much and close: each discards what the other says, and both come to their end.
    fn both_close_with_a_backlog(el) {
        let (client, server) = (Record::new(), Record::new());
        let (a, b) = pair(el, Tap::new(&client), Tap::new(&server));
        let data = pattern(20_000_000);
        for transport in [&a, &b] {
            transport.write(&data);
            transport.close();
        }
        run_until(el, || client.is_lost() && server.is_lost());
        for record in [client, server] {
            assert!(!record.has("lost TimedOut"), "{:?}", record.take());
        }
    }

    /// TL-21: the end of the peer closes the connection, also where the protocol would keep it open: of that there is a
    /// warning.
    fn nothing_is_kept_open(el) {
        for side in SIDES {
            for keep in [KeepOpen::Yes, KeepOpen::No] {
                let record = Record::new();
                let (transport, mut peer) = open(el, side, Tap::new(&record).on_eof(move |_| keep));
                let ((), written) = collect(|| {
                    peer.close_notify();
                    run_until(el, || record.has("eof"));
                });
                assert!(transport.is_closing());
                assert_eq!(peer.until_end(el), Ok(()));
                assert!(peer.notified);
                until_lost(el, &record);
                assert_eq!(record.take(), ["made", "eof", "lost"]);
                if keep == KeepOpen::Yes {
                    assert_eq!(written.len(), 1, "{written:?}");
                    assert_eq!(written[0].0, Level::WARN);
                    assert!(written[0].1.ends_with("KeepOpen::Yes has no effect over TLS"), "{written:?}");
                } else {
                    assert!(written.is_empty(), "{written:?}");
                }
            }
        }
    }

    /// TL-22, CL-04: one direction cannot be ended alone; trying is misuse, and changes nothing.
    fn one_direction_does_not_end_alone(el) {
        for side in SIDES {
            let record = Record::new();
            let (transport, mut peer) = open(el, side, Tap::new(&record));
            assert!(!transport.can_write_eof());
            transport.write_eof();
            let reports = take_reports();
            assert_eq!(reports.len(), 1, "{reports:?}");
            assert!(reports[0].contains("TLS cannot end one direction alone"), "{reports:?}");
            transport.write(b"goes on");
            run_until(el, || {
                peer.pump();
                peer.received == b"goes on"
            });
            assert!(!transport.is_closing() && !peer.notified);
            finish(el, &transport, &record);
        }
    }

    /// TL-26: what the peer has said before its end is delivered when reading is resumed, and then the end; no timer runs
    /// until then.
    fn the_end_waits_for_a_reader(el) {
        for side in SIDES {
            for with_goodbye in [true, false] {
                let record = Record::new();
                let (transport, mut peer) = open(el, side, Tap::new(&record));
                transport.pause_reading();
                let data = pattern(600_000);
                peer.send(&data);
                if with_goodbye {
                    peer.close_notify();
                }
                for _ in 0..5 {
                    settle(el);
                    peer.push();
                }
                assert_eq!(record.take(), ["made"]);
                assert_eq!(el.stats().timers.live(), 0);
                assert!(!transport.is_closing());
                transport.resume_reading();
                run_until(el, || {
                    peer.push();
                    record.len() == data.len()
                });
                peer.fin();
                until_lost(el, &record);
                assert!(record.bytes() == data);
                assert_eq!(record.take(), ["data 600000", "eof", "lost"]);
            }
        }
    }

    /// TL-28: a connection that does not read can be closed all the same: what arrives is thrown away, and the end is told.
    fn closed_without_reading(el) {
        for side in SIDES {
            let record = Record::new();
            let (transport, mut peer) = open(el, side, Tap::new(&record));
            transport.pause_reading();
            peer.send(&pattern(5_000_000));
            for _ in 0..5 {
                settle(el);
                peer.push();
            }
            transport.close();
            assert_eq!(peer.part(el), Ok(()));
            assert!(peer.notified);
            until_lost(el, &record);
            assert_eq!(record.take(), ["made", "eof", "lost"]);
        }
    }

    /// TL-28: also where there is much to be sent yet, and the peer reads when it has said everything.
    fn closed_without_reading_but_writing(el) {
        for side in SIDES {
            let record = Record::new();
            let (transport, mut peer) = open(el, side, Tap::new(&record));
            transport.pause_reading();
            peer.send(&pattern(20_000_000));
            for _ in 0..5 {
                settle(el);
                peer.push();
            }
            let data = pattern(10_000_000);
            transport.write(&data);
            transport.close();
            run_until(el, || peer.has_said_all());
            assert_eq!(peer.part(el), Ok(()));
            assert!(peer.notified && peer.received == data);
            until_lost(el, &record);
            assert_eq!(heard(&record), ["made", "pause", "eof", "lost"]);
        }
    }

    /// TL-29, TL-31: what arrives after this side has said its last word is thrown away, and is no error.
    fn what_arrives_after_the_last_word(el) {
        for side in SIDES {
            let record = Record::new();
            let (transport, mut peer) = open(el, side, Tap::new(&record));
            transport.close();
            until_notified(el, &mut peer);
            peer.send(&pattern(1_000_000));
            settle(el);
            assert!(!record.is_lost());
            assert_eq!(peer.part(el), Ok(()));
            until_lost(el, &record);
            assert_eq!(record.take(), ["made", "eof", "lost"]);
        }
    }

    /// TL-30: writing to a peer that is gone is no error, queues nothing, and does not hang.
    fn writing_to_nobody(el) {
        for side in SIDES {
            let record = Record::new();
            let (transport, peer) = open(el, side, Tap::new(&record));
            peer.reset();
            until_lost(el, &record);
            for _ in 0..25 {
                transport.write(b"hello");
                settle(el);
                assert_eq!(transport.write_buffer_size(), 0);
            }
            assert_eq!(record.take(), ["made", "lost ConnectionReset"]);
        }
    }

    /// TL-30: also while the loop has not heard of it yet, which the write itself finds out.
    fn writing_to_somebody_who_is_gone(el) {
        for side in SIDES {
            let record = Record::new();
            let (transport, peer) = open(el, side, Tap::new(&record));
            peer.reset();
            for _ in 0..25 {
                transport.write(b"hello");
                assert_eq!(transport.write_buffer_size(), 0);
            }
            assert!(transport.is_closing(), "it follows the socket");
            until_lost(el, &record);
            let heard = record.take();
            assert!(heard == ["made", "lost ConnectionReset"] || heard == ["made", "lost BrokenPipe"], "{heard:?}");
        }
    }

    /// TL-31: after close nothing more is written, and nothing is delivered, though it had arrived before.
    fn nothing_after_close(el) {
        for side in SIDES {
            let record = Record::new();
            let tap = Tap::new(&record).on_data(|transport, _| {
                transport.close();
                transport.write(b"too late");
            });
            let (transport, mut peer) = open(el, side, tap);
            peer.send(&pattern(1_000_000));
            run_until(el, || record.len() > 0);
            let delivered = record.chunks();
            transport.write(b"too late");
            assert_eq!(transport.write_buffer_size(), 0);
            assert_eq!(peer.part(el), Ok(()));
            until_lost(el, &record);
            assert!(peer.received.is_empty());
            assert!(delivered.len() == 1 && record.chunks() == delivered && record.len() < 1_000_000);
            assert_eq!(record.take()[2..], ["eof", "lost"]);
        }
    }

    /// TL-33: a peer that ends without a close_notify has ended like any other; where that is to be an error it is one,
    /// after what has arrived before.
    fn an_end_without_a_word(el) {
        for side in SIDES {
            for (setup, end) in [
                (Setup::new(side), &["eof", "lost"][..]),
                (strict(Setup::new(side)), &["lost UnexpectedEof"]),
            ] {
                let record = Record::new();
                let (transport, mut peer) = setup.open(el, Tap::new(&record));
                peer.send(b"hello");
                peer.fin();
                until_lost(el, &record);
                assert_eq!(record.take(), [&["made", "data 5"], end].concat());
                assert!(transport.is_closing());
                assert!(peer.until_end(el).is_ok());
            }
        }
    }

    /// TL-33: nor is there anything wrong with a peer that says it, if that is asked for.
    fn an_end_with_a_word(el) {
        for side in SIDES {
            let record = Record::new();
            let (_transport, mut peer) = strict(Setup::new(side)).open(el, Tap::new(&record));
            peer.close_notify();
            peer.fin();
            until_lost(el, &record);
            assert_eq!(record.take(), ["made", "eof", "lost"]);
            assert!(peer.until_end(el).is_ok() && peer.notified);
        }
    }

    /// TL-33: half a record is cut off like a whole one: the end of file, or the error.
    fn cut_off_within_a_record(el) {
        for side in SIDES {
            for (setup, end) in [
                (Setup::new(side), &["eof", "lost"][..]),
                (strict(Setup::new(side)), &["lost UnexpectedEof"]),
            ] {
                let record = Record::new();
                let (_transport, mut peer) = setup.open(el, Tap::new(&record));
                let records = [peer.encrypt(b"hello"), peer.encrypt(b"never")].concat();
                peer.send_raw(&records[..records.len() - 1]);
                peer.fin();
                until_lost(el, &record);
                assert_eq!(record.take(), [&["made", "data 5"], end].concat());
            }
        }
    }

    /// TL-34: an abort is an end without an error here, and one without a word there; what is queued is dropped.
    fn an_abort(el) {
        for side in SIDES {
            let record = Record::new();
            let (transport, mut peer) = Setup::new(side).narrow().open(el, Tap::new(&record));
            let data = pattern(1_000_000);
            transport.write(&data);
            transport.abort();
            until_lost(el, &record);
            assert_eq!(record.take(), ["made", "lost"]);
            let _ = peer.until_end(el);
            assert!(!peer.notified && peer.received.len() < data.len());
            assert_eq!(el.stats().timers.live(), 0);
        }
    }

    /// TL-36: another protocol takes over, and hears of what comes from then on, and of the end.
    fn another_protocol(el) {
        for side in SIDES {
            let (first, second) = (Record::new(), Record::new());
            let (transport, mut peer) = open(el, side, Tap::new(&first));
            peer.send(b"one");
            run_until(el, || first.has("data 3"));
            transport.set_protocol(Tap::new(&second));
            peer.send(b"three");
            peer.close_notify();
            until_lost(el, &second);
            assert_eq!(first.take(), ["made", "data 3"]);
            assert_eq!(second.take(), ["data 5", "eof", "lost"]);
        }
    }

    /// TL-20: a record that was tampered with is an error, after what came before it; the peer is told what it was.
    fn a_record_was_tampered_with(el) {
        for side in SIDES {
            for paused in [false, true] {
                let record = Record::new();
                let (transport, mut peer) = open(el, side, Tap::new(&record));
                if paused {
                    transport.pause_reading();
                }
                let (hello, bad, after) = (peer.encrypt(b"hello"), peer.encrypt(b"bad"), peer.encrypt(b"after"));
                peer.send_raw(&[hello, corrupted(bad), after].concat());
                if paused {
                    settle(el);
                    assert_eq!(record.take(), ["made"]);
                    record.note("made");
                    transport.resume_reading();
                }
                until_lost(el, &record);
                assert_eq!(record.take(), ["made", "data 5", "lost InvalidData"]);
                let _ = peer.until_end(el);
                let told = rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac);
                assert_eq!(peer.error, Some(told));
            }
        }
    }

    /// TL-20: also while this side sends its backlog, or waits for the peer's last word.
    fn a_record_was_tampered_with_at_the_end(el) {
        for side in SIDES {
            for backlog in [3_000_000, 0] {
                let record = Record::new();
                let (transport, mut peer) = Setup::new(side).narrow().open(el, Tap::new(&record));
                transport.write(&pattern(backlog));
                transport.close();
                if backlog == 0 {
                    until_notified(el, &mut peer);
                }
                let bad = peer.encrypt(b"bad");
                peer.send_raw(&corrupted(bad));
                until_lost(el, &record);
                assert_eq!(heard(&record).last().unwrap(), "lost InvalidData");
                let _ = peer.until_end(el);
            }
        }
    }

    /// What follows a close_notify does not count, be it records or anything else.
    fn behind_the_goodbye(el) {
        for side in SIDES {
            for garbage in [false, true] {
                let record = Record::new();
                let (transport, mut peer) = open(el, side, Tap::new(&record));
                let hello = peer.encrypt(b"hello");
                let goodbye = peer.goodbye();
                let behind = if garbage { vec![b'x'; 100_000] } else { peer.encrypt(b"behind") };
                assert!(!behind.is_empty());
                peer.send_raw(&[hello, goodbye, behind].concat());
                until_lost(el, &record);
                assert_eq!(record.take(), ["made", "data 5", "eof", "lost"]);
                assert!(transport.is_closing());
                let _ = peer.until_end(el);
            }
        }
    }

    /// CL-10: however often it is closed and aborted, there is one end.
    fn one_end(el) {
        for side in SIDES {
            for calls in [&["close", "close"][..], &["close", "abort"], &["abort", "close"], &["abort", "abort"]] {
                for at_once in [true, false] {
                    let record = Record::new();
                    let (transport, mut peer) = open(el, side, Tap::new(&record));
                    for call in calls {
                        match *call {
                            "close" => transport.close(),
                            _ => transport.abort(),
                        }
                        if !at_once {
                            settle(el);
                        }
                    }
                    let _ = peer.part(el);
                    until_lost(el, &record);
                    settle(el);
                    let aborted = calls.contains(&"abort");
                    assert_eq!(record.take(), if aborted { &["made", "lost"][..] } else { &["made", "eof", "lost"] });
                }
            }
        }
    }

    /// A reset is an error while there is something to be said or heard, and none when all is said.
    fn a_reset(el) {
        for side in SIDES {
            // Open; open and writing; closed and writing; closed and waiting.
            for (backlog, closed) in [(0, false), (1_000_000, false), (1_000_000, true), (0, true)] {
                let record = Record::new();
                let (transport, mut peer) = Setup::new(side).narrow().open(el, Tap::new(&record));
                transport.write(&pattern(backlog));
                if closed {
                    transport.close();
                }
                settle(el);
                if backlog == 0 && closed {
                    until_notified(el, &mut peer);
                }
                peer.reset();
                until_lost(el, &record);
                let end = heard(&record).pop().unwrap();
                assert_eq!(end, if backlog == 0 && closed { "lost" } else { "lost ConnectionReset" });
                assert!(transport.is_closing() && transport.write_buffer_size() == 0);
                assert_eq!(el.stats().timers.live(), 0);
            }
        }
    }

    /// TL-30: who writes until there is no room, and waits for room, is let go when the connection is lost, by an error or by `is_closing`.
    fn a_drain_loop_ends(el) {
        for side in SIDES {
            let record = Record::new();
            let (transport, peer) = Setup::new(side).narrow().open(el, Tap::new(&record));
            let draining = transport.clone();
            let task = el.create_task(async move {
                while !draining.is_closing() {
                    draining.write(&[b'-'; 10_000]);
                    if draining.ready().await.is_err() {
                        break;
                    }
                    roundelay::yield_now().await;
                }
            });
            run_until(el, || record.has("pause"));
            peer.reset();
            common::finish(el, task).unwrap();
            assert!(transport.is_closing());
            until_lost(el, &record);
            assert_eq!(heard(&record), ["made", "pause", "lost ConnectionReset"]);
        }
    }
}

//! Protocols over TLS that close, abort or panic in their callbacks: there is one end, and the loop goes on (behaviours TL,
//! CL, EH).

#![cfg(feature = "__tls")]

#[path = "common/certificates.rs"]
mod certificates;
mod common;
#[path = "common/tls_peer.rs"]
mod tls_peer;
mod wire;

use std::cell::Cell;

use common::{finish, run_until, settle, take_reports};
use roundelay::{EventLoop, KeepOpen, Transport};
use tls_peer::{SIDES, Setup, Side};
use wire::{Record, Tap, pattern};

/// The callbacks of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Made,
    Data,
    Eof,
    Pause,
    Resume,
    Lost,
}

const EVERYWHERE: [At; 6] = [At::Made, At::Data, At::Eof, At::Pause, At::Resume, At::Lost];

/// How much is written: more than a connection holds.
const MUCH: usize = 2_000_000;

fn acting(record: &Record, at: At, act: fn(&Transport)) -> Tap {
    let tap = Tap::new(record);
    match at {
        At::Made => tap.on_made(act),
        At::Data => tap.on_data(move |transport, _| act(transport)),
        At::Eof => tap.on_eof(move |transport| {
            act(transport);
            KeepOpen::No
        }),
        At::Pause => tap.on_pause(act),
        At::Resume => tap.on_resume(act),
        At::Lost => tap.on_lost(act),
    }
}

/// A life in which every callback comes, unless the protocol ends it before: what was heard, and what the peer has got, and
/// whether it was told that nothing follows.
#[track_caller]
fn live(el: &EventLoop, side: Side, at: At, act: fn(&Transport)) -> (Vec<String>, usize, bool) {
    let record = Record::new();
    let (task, mut peer) = Setup::new(side).narrow().begin(el, acting(&record, at, act));
    run_until(el, || {
        peer.pump();
        task.is_done() && !peer.tls.is_handshaking()
    });
    let transport = finish(el, task).unwrap().unwrap();
    peer.send(b"hello");
    let (written, answered) = (Cell::new(false), Cell::new(false));
    run_until(el, || {
        if record.len() == 5 && !written.replace(true) {
            transport.write(&pattern(MUCH));
        }
        if !transport.is_closing() && transport.write_buffer_size() > 0 && !record.has("pause") {
            // It is told of the pause first.
            return false;
        }
        peer.pump();
        if (peer.received.len() == MUCH || peer.notified) && !answered.replace(true) {
            peer.close_notify();
        }
        record.is_lost() && peer.is_at_end()
    });
    settle(el);
    assert_eq!(el.stats().timers.live(), 0);
    assert_eq!(el.stats().transports.live(), 0);
    let heard = record.take();
    let count = |name: &str| heard.iter().filter(|event| event.starts_with(name)).count();
    assert_eq!((count("made"), count("lost"), count("NESTED")), (1, 1, 0), "{heard:?}");
    assert!(count("eof") <= 1, "{heard:?}");
    assert_eq!(heard[0], "made");
    assert!(heard.last().unwrap().starts_with("lost"), "{heard:?}");
    (heard, peer.received.len(), peer.notified)
}

const WHOLE: [&str; 6] = ["made", "data 5", "pause", "resume", "eof", "lost"];

on_every_loop! {
    /// CL-10, TL-27: a protocol that closes its connection in a callback: what it has written before is sent, and then
    /// close_notify.
    fn closing(el) {
        for side in SIDES {
            for at in EVERYWHERE {
                let (heard, received, notified) = live(el, side, at, Transport::close);
                let expected = match at {
                    At::Made => &["made", "eof", "lost"][..],
                    At::Data => &["made", "data 5", "eof", "lost"],
                    _ => &WHOLE,
                };
                assert_eq!(heard, expected, "{side:?} {at:?}");
                assert_eq!(received, if expected == WHOLE { MUCH } else { 0 }, "{side:?} {at:?}");
                assert!(notified);
            }
        }
    }

    /// CL-10, TL-34: one that aborts it.
    fn aborting(el) {
        for side in SIDES {
            for at in EVERYWHERE {
                let (heard, received, notified) = live(el, side, at, Transport::abort);
                let last = match at {
                    At::Made => "made",
                    At::Data => "data 5",
                    At::Pause => "pause",
                    At::Resume => "resume",
                    At::Eof => "eof",
                    At::Lost => "eof",
                };
                assert_eq!(heard[heard.len() - 2..], [last, "lost"], "{side:?} {at:?}");
                if matches!(at, At::Made | At::Data | At::Pause) {
                    assert!(!notified && received < MUCH, "{side:?} {at:?}");
                }
            }
        }
    }

    /// EH-11, EH-12, EH-13: one that panics: it is reported once, and has the effect that it has over any other transport.
    fn panicking(el) {
        for side in SIDES {
            for at in EVERYWHERE {
                let (heard, _, _) = live(el, side, at, |_| panic!("boom"));
                let (text, expected) = match at {
                    At::Made => ("Exception in callback connection_made", &WHOLE[..]),
                    At::Data => ("Fatal error: protocol.data_received() call failed.", &["made", "data 5", "lost Other"][..]),
                    At::Eof => (
                        "Fatal error: protocol.eof_received() call failed.",
                        &["made", "data 5", "pause", "resume", "eof", "lost Other"][..],
                    ),
                    At::Pause => ("protocol.pause_writing() failed", &WHOLE[..]),
                    At::Resume => ("protocol.resume_writing() failed", &WHOLE[..]),
                    At::Lost => ("Exception in callback connection_lost", &WHOLE[..]),
                };
                let reports = take_reports();
                assert_eq!(reports.len(), 1, "{side:?} {at:?}: {reports:?}");
                assert!(reports[0].contains(text) && reports[0].contains("boom"), "{reports:?}");
                assert_eq!(heard, expected, "{side:?} {at:?}");
            }
        }
    }

    /// EH-12: a protocol that panics when it hears of the end that it has brought about itself.
    fn panicking_at_the_end(el) {
        for side in SIDES {
            let record = Record::new();
            let tap = Tap::new(&record).on_eof(|_| panic!("boom"));
            let (transport, mut peer) = Setup::new(side).open(el, tap);
            transport.close();
            assert_eq!(peer.part(el), Ok(()));
            wire::until_lost(el, &record);
            let reports = take_reports();
            assert_eq!(reports.len(), 1);
            assert!(reports[0].contains("Exception in callback eof_received"), "{reports:?}");
            assert_eq!(record.take(), ["made", "eof", "lost"]);
        }
    }
}

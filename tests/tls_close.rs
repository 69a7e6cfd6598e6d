//! How TLS connections are closed, from either side (behaviours TL, CL, FC).

#![cfg(feature = "__tls")]

#[path = "common/certificates.rs"]
mod certificates;
mod common;
#[path = "common/tls_peer.rs"]
mod tls_peer;
mod wire;

use std::io::ErrorKind;

use common::{run_until, settle, take_reports};
use tls_peer::{SIDES, Setup, open, pair};
use wire::{Record, Tap, pattern, until_lost};

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
                let mut heard = record.take();
                heard.retain(|event| event != "resume");
                assert_eq!(heard, ["made", "pause", "eof", "lost"], "{side:?}");
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
}

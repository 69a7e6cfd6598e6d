//! TLS connections of a loop that a child of `fork` has inherited.

#![cfg(feature = "__tls")]

#[path = "common/certificates.rs"]
mod certificates;
mod common;
#[path = "common/fork.rs"]
mod fork;
#[path = "common/tls_peer.rs"]
mod tls_peer;
mod wire;

use common::run_until;
use fork::fork;
use tls_peer::{SIDES, open};
use wire::{Record, Tap, until_lost};

forked! {
    /// PO-01: a child that closes, aborts or drops what it has inherited says no goodbye in its parent's name; records that are
    /// sent once have the numbers that the peer waits for.
    fn a_child_says_no_goodbye(el) {
        for side in SIDES {
            let record = Record::new();
            let tap = Tap::new(&record).on_data(|transport, data| transport.write(data));
            let (transport, mut peer) = open(el, side, tap);
            for end in 0..4 {
                fork(|| {
                    match end {
                        0 => transport.close(),
                        1 => transport.abort(),
                        2 => transport.write(b"twice"),
                        _ => {}
                    }
                    el.close();
                    drop(transport.clone());
                })
                .wait();
            }
            peer.send(b"hello");
            run_until(el, || {
                peer.pump();
                peer.received == b"hello"
            });
            assert!(!peer.notified);
            transport.close();
            assert_eq!(peer.part(el), Ok(()));
            until_lost(el, &record);
            assert!(peer.notified);
        }
    }
}

//! Flow control over TLS (behaviours FC-07, TL-37): one queue in each direction, from end to end.

#![cfg(feature = "__tls")]

#[path = "common/certificates.rs"]
mod certificates;
mod common;
#[path = "common/raw_tls.rs"]
mod raw_tls;
mod wire;

use std::rc::Rc;

use common::{Kind, run_on, run_until};
use raw_tls::{connect, connect_narrow};
use wire::{NETS, Net, Record, Tap, finish, pattern};

const KIB: usize = 1024;

/// FC-07: what waits goes on when the carrier has sent what it was given, also where it has done so before anybody could
/// be told to pause.
#[test]
fn a_carrier_that_is_full_for_a_moment_does_not_stall() {
    for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
        // Asks the selector in every turn.
        run_on(
            || kind.builder().event_interval(1),
            |el| {
                for net in NETS {
                    let record = Record::new();
                    let (transport, peer) = connect(el, net, Tap::new(&record));
                    let peer = Rc::new(peer);
                    for _ in 0..3 {
                        let (writer, reader) = (transport.clone(), peer.clone());
                        // What arrives is reported in the turn in which this runs, and dealt with behind it.
                        peer.send(b"hello");
                        el.call_soon(move || {
                            while writer.write_buffer_size() == 0 {
                                writer.write(&[b'-'; 1000]);
                            }
                            reader.pump();
                        });
                        run_until(el, || transport.write_buffer_size() > 0);
                        run_until(el, || transport.write_buffer_size() == 0);
                    }
                    finish(el, &transport, &record);
                }
            },
        );
    }
}

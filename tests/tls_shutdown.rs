//! How long the end of a TLS connection may take, and what ends it otherwise: its own loop, a transport below that is one
//! of TLS itself, the last handle (behaviours TL, RW, SR).

#![cfg(feature = "__tls")]

#[path = "common/certificates.rs"]
mod certificates;
mod common;
#[path = "common/tls_peer.rs"]
mod tls_peer;
mod wire;

use std::io;
use std::time::Duration;

use common::{Kind, Log, run_on, settle};
use roundelay::{EventLoop, ManualClock, Protocol, Transport};
use tls_peer::{SIDES, Setup, Side, open};
use wire::{Record, Tap, pattern, until_lost};

const DEFAULT: Duration = Duration::from_secs(30);
const MOMENT: Duration = Duration::from_millis(1);

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

/// TL-24: a peer that does not say its last word is waited for so long, and then the connection is aborted, with an error
/// for its protocol.
#[test]
fn a_peer_without_a_last_word() {
    on_every_clock(|el, clock| {
        for side in SIDES {
            for timeout in [None, Some(Duration::from_millis(500))] {
                let record = Record::new();
                let setup = Setup::new(side);
                let setup = timeout.map_or(setup.clone(), |timeout| setup.shutdown_timeout(timeout));
                let (transport, mut peer) = setup.open(el, Tap::new(&record));
                clock.advance(DEFAULT * 10);
                transport.write(b"last words");
                transport.close();
                settle(el);
                // What it has to say counts for nothing but its last word.
                peer.send(b"and another thing");
                clock.advance(timeout.unwrap_or(DEFAULT) - MOMENT);
                settle(el);
                assert_eq!(record.take(), ["made"]);
                clock.advance(MOMENT);
                settle(el);
                assert_eq!(record.take(), ["lost TimedOut"]);
                let _ = peer.until_end(el);
                assert!(peer.notified && peer.received == b"last words");
                assert_eq!(el.stats().timers.live(), 0);
            }
        }
    });
}

/// TL-24: what that error says.
#[test]
fn what_the_error_says() {
    struct Says(Log);
    impl Protocol for Says {
        fn connection_lost(&mut self, _: &Transport, error: Option<io::Error>) {
            self.0.push(error.unwrap().to_string());
        }
    }
    on_every_clock(|el, clock| {
        let log = Log::new();
        let (transport, _peer) = open(el, Side::Server, Says(log.clone()));
        transport.close();
        settle(el);
        clock.advance(DEFAULT);
        settle(el);
        assert_eq!(log.take(), ["TLS shutdown timed out"]);
    });
}

/// TL-24: a peer that takes nothing of a backlog is waited for so long, counted from the last that it has taken.
#[test]
fn a_stuck_peer() {
    on_every_clock(|el, clock| {
        for side in SIDES {
            let record = Record::new();
            let (transport, mut peer) = Setup::new(side).unix().open(el, Tap::new(&record));
            transport.write(&pattern(3_000_000));
            transport.close();
            settle(el);
            clock.advance(DEFAULT - MOMENT);
            settle(el);
            // It takes some, just in time.
            assert!(peer.pull(500_000) > 100_000);
            settle(el);
            clock.advance(DEFAULT - MOMENT);
            settle(el);
            assert!(!record.is_lost());
            clock.advance(MOMENT);
            settle(el);
            assert_eq!(record.take().last().unwrap(), "lost TimedOut");
            let _ = peer.until_end(el);
            assert!(!peer.notified && peer.received.len() < 3_000_000);
        }
    });
}

/// TL-24, TL-27: a peer that takes a backlog slowly gets all of it, however long that takes.
#[test]
fn a_slow_peer() {
    on_every_clock(|el, clock| {
        for side in SIDES {
            let record = Record::new();
            let (transport, mut peer) = Setup::new(side).unix().narrow().open(el, Tap::new(&record));
            let data = pattern(1_000_000);
            transport.write(&data);
            transport.close();
            settle(el);
            let mut rounds = 0;
            // What the kernel has is out of sight.
            while peer.received.len() < data.len() - 100_000 {
                // A little each time, much less than what is handed down at once.
                assert!(peer.pull(20_000) > 0, "after {} bytes", peer.received.len());
                settle(el);
                clock.advance(DEFAULT - MOMENT);
                settle(el);
                assert!(
                    !record.is_lost(),
                    "after {} bytes in {rounds} rounds: {:?}",
                    peer.received.len(),
                    record.take()
                );
                rounds += 1;
            }
            peer.part(el).unwrap();
            assert!(rounds > 25 && peer.received == data && peer.notified);
            until_lost(el, &record);
            assert_eq!(record.take().last().unwrap(), "lost");
        }
    });
}

//! Flow control of writing on every selector (behaviours FC and the golden probe P21; the sizes and the order of its
//! callbacks are compared with asyncio's in `oracle`).

mod common;
mod wire;

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use common::{on_loop, run_until, settle};
use proptest::prelude::*;
use roundelay::{EventLoop, Transport, WaterMarks};
use wire::{NETS, Net, Peer, Record, Tap, connect, connect_narrow, finish, pattern, until_lost};

const KIB: usize = 1024;

fn marks(transport: &Transport) -> (usize, usize) {
    let WaterMarks { low, high } = transport.write_buffer_limits();
    (low, high)
}

/// Fills the kernel's buffers, so that from now on everything is queued until the peer reads. Gives how much is queued.
fn fill(transport: &Transport) -> usize {
    transport.set_write_buffer_limits(1 << 30, None).unwrap();
    while transport.write_buffer_size() == 0 {
        transport.write(&[b'-'; 10 * KIB]);
    }
    transport.write_buffer_size()
}

/// Lets the peer read what the kernel has, again and again, until the queue is at most so long. Gives its length.
#[track_caller]
fn drain_to(el: &EventLoop, transport: &Transport, peer: &Peer, size: usize) -> usize {
    run_until(el, || {
        if transport.write_buffer_size() <= size {
            return true;
        }
        peer.pump();
        false
    });
    settle(el);
    transport.write_buffer_size()
}

on_every_loop! {
    /// FC-01: without being told, the marks are 16 KiB and 64 KiB.
    fn the_marks_by_default(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, _peer) = connect(el, net, Tap::new(&record));
            assert_eq!(marks(&transport), (16 * KIB, 64 * KIB));
            assert_eq!(transport.write_buffer_size(), 0);
            finish(el, &transport, &record);
        }
    }

    /// FC-02, FC-03: one mark gives the other, neither gives the defaults; a low mark above the high one is refused and
    /// changes nothing.
    fn one_mark_gives_the_other(el) {
        let record = Record::new();
        let (transport, _peer) = connect(el, Net::Unix, Tap::new(&record));
        let set = |high: Option<usize>, low: Option<usize>| transport.set_write_buffer_limits(high, low);
        let given = [
            (Some(100), Some(10), (10, 100)),
            (Some(100), Some(100), (100, 100)),
            (None, Some(100), (100, 400)),
            (Some(100), None, (25, 100)),
            (Some(0), None, (0, 0)),
            (None, Some(0), (0, 0)),
            (None, Some(usize::MAX), (usize::MAX, usize::MAX)),
            (None, None, (16 * KIB, 64 * KIB)),
        ];
        for (high, low, expected) in given {
            set(high, low).unwrap();
            assert_eq!(marks(&transport), expected, "high {high:?}, low {low:?}");
        }
        for (high, low) in [(10, 100), (0, 1)] {
            let error = set(Some(high), Some(low)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(&format!("({low})")), "{error}");
            assert_eq!(marks(&transport), (16 * KIB, 64 * KIB));
        }
        finish(el, &transport, &record);
    }

    /// P21: a queue of exactly the high mark does not pause; one byte more does, and more still does not do so again.
    fn paused_above_the_high_mark_once(el) {
        // Of a unix socket: nothing drains by itself. TCP may take some more when its timers are due.
        let record = Record::new();
        let (transport, _peer) = connect_narrow(el, Net::Unix, Tap::new(&record));
        let size = fill(&transport);
        transport.set_write_buffer_limits(size + 100, 0).unwrap();
        transport.write(&[b'-'; 100]);
        settle(el);
        assert_eq!(record.take(), ["made"]);
        transport.write(b"-");
        settle(el);
        assert_eq!(record.take(), ["pause"]);
        transport.write(&[b'-'; 10_000]);
        settle(el);
        assert!(record.is_silent());
        finish(el, &transport, &record);
    }

    /// FC-05: writing is resumed when no more than the low mark is queued, not before, and once.
    fn resumed_at_the_low_mark_once(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
            transport.set_write_buffer_limits(200 * KIB, 50 * KIB).unwrap();
            transport.write(&pattern(600 * KIB));
            settle(el);
            assert_eq!(record.take(), ["made", "pause"]);
            let mut size = transport.write_buffer_size();
            while size > 0 {
                size = drain_to(el, &transport, &peer, size - 1);
                match record.take().as_slice() {
                    [] => {}
                    [resume] => {
                        assert_eq!(resume, "resume");
                        assert!(size <= 50 * KIB, "resumed with {size} bytes queued");
                        break;
                    }
                    more => panic!("{more:?}"),
                }
                assert!(size > 50 * KIB, "still paused with {size} bytes queued");
            }
            run_until(el, || peer.count() == 600 * KIB);
            assert!(record.is_silent());
            finish(el, &transport, &record);
        }
    }

    /// FC-06, FC-09: marks that are lowered below what is queued pause at once; marks that are raised above it do not
    /// resume, which only draining does.
    fn marks_that_move(el) {
        // Of a unix socket: nothing drains by itself. TCP may take some more when its timers are due.
        let record = Record::new();
        let (transport, peer) = connect_narrow(el, Net::Unix, Tap::new(&record));
        let size = fill(&transport);
        transport.set_write_buffer_limits(size, 0).unwrap();
        settle(el);
        assert_eq!(record.take(), ["made"]);
        transport.set_write_buffer_limits(size - 1, 0).unwrap();
        settle(el);
        assert_eq!(record.take(), ["pause"]);
        transport.set_write_buffer_limits(10 * size, 5 * size).unwrap();
        settle(el);
        assert!(record.is_silent());
        assert_eq!(transport.write_buffer_size(), size);
        drain_to(el, &transport, &peer, size - 1);
        assert_eq!(record.take(), ["resume"]);
        finish(el, &transport, &record);
    }

    /// FC-02: with marks of zero whatever is queued pauses, and only an empty queue resumes.
    fn marks_of_zero(el) {
        let record = Record::new();
        let (transport, peer) = connect_narrow(el, Net::Unix, Tap::new(&record));
        fill(&transport);
        transport.set_write_buffer_limits(0, None).unwrap();
        settle(el);
        assert_eq!(record.take(), ["made", "pause"]);
        drain_to(el, &transport, &peer, 1);
        drain_to(el, &transport, &peer, 0);
        assert_eq!(record.take(), ["resume"]);
        // What the kernel takes at once is not queued, and pauses nobody.
        run_until(el, || peer.sip(64 * KIB) == 0);
        transport.write(b"-");
        settle(el);
        assert!(record.is_silent());
        finish(el, &transport, &record);
    }

    /// FC-08: an abort while writing is paused, by this side or by the peer, resumes nobody.
    fn an_abort_does_not_resume(el) {
        for by_peer in [false, true] {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, Net::Tcp, Tap::new(&record));
            transport.write(&pattern(600 * KIB));
            settle(el);
            assert_eq!(record.take(), ["made", "pause"]);
            if by_peer {
                peer.reset();
            } else {
                transport.abort();
            }
            until_lost(el, &record);
            settle(el);
            assert_eq!(record.take(), [if by_peer { "lost ConnectionReset" } else { "lost" }]);
        }
    }

    /// FC-11: the size is the sum of what is queued, in whatever pieces; none after an abort.
    fn the_size_is_the_sum(el) {
        let record = Record::new();
        let (transport, _peer) = connect_narrow(el, Net::Unix, Tap::new(&record));
        let size = fill(&transport);
        transport.write(&[b'-'; 7]);
        transport.write_owned(vec![b'-'; 20_000]);
        transport.writelines(&[io::IoSlice::new(&[b'-'; 300]), io::IoSlice::new(b""), io::IoSlice::new(b"-")]);
        assert_eq!(transport.write_buffer_size(), size + 7 + 20_000 + 300 + 1);
        transport.abort();
        assert_eq!(transport.write_buffer_size(), 0);
        until_lost(el, &record);
        assert_eq!(transport.write_buffer_size(), 0);
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Writes so many bytes.
    Write(usize),
    /// The peer reads so many bytes at most.
    Read(usize),
    /// Sets the marks.
    Marks(usize, usize),
    /// Makes turns until nothing happens.
    Turn,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..16 * KIB).prop_map(Step::Write),
        4 => (1..16 * KIB).prop_map(Step::Read),
        2 => (0..60 * KIB, 0..30 * KIB).prop_map(|(high, low)| Step::Marks(high, low)),
        4 => Just(Step::Turn),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// FC-05, FC-06: whatever is written and read, and however the marks are moved: pause and resume alternate; when the
    /// loop has come to rest, writing is paused if more than the high mark is queued, and never paused with less than the
    /// low mark queued unless the marks were moved since; and all bytes arrive.
    #[test]
    fn the_protocol_knows_what_is_queued(steps in prop::collection::vec(step(), 1..60)) {
        on_loop(|el| {
            let record = Record::new();
            let (paused, count) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
            let told = |to: bool| {
                let (paused, count) = (paused.clone(), count.clone());
                move |_: &Transport| {
                    assert_ne!(paused.replace(to), to, "told twice");
                    count.set(count.get() + 1);
                }
            };
            let tap = Tap::new(&record).on_pause(told(true)).on_resume(told(false));
            let (transport, peer) = connect_narrow(el, Net::Unix, tap);
            let mut written = 0;
            let mut moved = false;
            for step in steps {
                let before = transport.write_buffer_size();
                match step {
                    Step::Write(n) => {
                        transport.write(&pattern(n));
                        written += n;
                    }
                    Step::Read(n) => drop(peer.sip(n)),
                    Step::Marks(high, low) => moved |= transport.set_write_buffer_limits(high, low).is_ok(),
                    Step::Turn => {
                        settle(el);
                        let (size, (low, high)) = (transport.write_buffer_size(), marks(&transport));
                        // Draining looks at the marks anew.
                        moved &= size == before;
                        assert!(size <= high || paused.get(), "{size} bytes are queued, above {high}, and not paused");
                        assert!(size > low || moved || !paused.get(), "{size} bytes, at most {low}, and paused");
                    }
                }
            }
            run_until(el, || peer.count() == written);
            settle(el);
            assert_eq!(transport.write_buffer_size(), 0);
            assert!(!paused.get() || moved);
            finish(el, &transport, &record);
        });
    }
}

//! Protocols with a receive buffer of their own (behaviours BP).

mod common;
mod wire;

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use common::{complete, run_until, settle, take_reports};
use roundelay::{Buffered, BufferedProtocol, KeepOpen, Protocol, ProtocolRef, Transport};
use wire::{NETS, Net, Peer, Record, Tap, assert_sleeps, attach, connect, pattern, sockets};

/// A buffered protocol that writes down every call.
struct Own {
    record: Record,
    buffer: Vec<u8>,
    received: Rc<Cell<Vec<u8>>>,
    /// Does something else than giving the buffer or taking the bytes.
    get: Box<dyn FnMut()>,
    update: wire::DataAct,
    keep_open: bool,
}

impl Own {
    fn new(record: &Record, room: usize) -> Self {
        Self {
            record: record.clone(),
            buffer: vec![0; room],
            received: Rc::default(),
            get: Box::new(|| ()),
            update: Box::new(|_, _| ()),
            keep_open: false,
        }
    }

    fn on_get(mut self, f: impl FnMut() + 'static) -> Self {
        self.get = Box::new(f);
        self
    }

    fn on_update(mut self, f: impl FnMut(&Transport, &[u8]) + 'static) -> Self {
        self.update = Box::new(f);
        self
    }
}

impl BufferedProtocol for Own {
    fn connection_made(&mut self, _: &Transport) {
        self.record.note("made");
    }

    fn get_buffer(&mut self, size_hint: usize) -> &mut [u8] {
        self.record.note(format!("get {size_hint}"));
        (self.get)();
        &mut self.buffer
    }

    fn buffer_updated(&mut self, transport: &Transport, n: usize) {
        self.record.callback(|| {
            self.record.note(format!("updated {n}"));
            let mut received = self.received.take();
            received.extend_from_slice(&self.buffer[..n]);
            self.received.set(received);
            (self.update)(transport, &self.buffer[..n]);
        });
    }

    fn eof_received(&mut self, _: &Transport) -> KeepOpen {
        self.record.callback(|| self.record.note("eof"));
        self.keep_open.into()
    }

    fn pause_writing(&mut self, _: &Transport) {
        self.record.callback(|| self.record.note("pause"));
    }

    fn resume_writing(&mut self, _: &Transport) {
        self.record.callback(|| self.record.note("resume"));
    }

    fn connection_lost(&mut self, _: &Transport, error: Option<io::Error>) {
        self.record
            .callback(|| self.record.note(error.map_or("lost".into(), |error| format!("lost {:?}", error.kind()))));
    }
}

fn is_lost(record: &Record) -> bool {
    ["lost", "lost Other", "lost ConnectionReset"].iter().any(|event| record.has(event))
}

/// What was heard, without the calls of `get_buffer`: how often it is tried depends on the selector.
fn heard(record: &Record) -> Vec<String> {
    record.take().into_iter().filter(|event| !event.starts_with("get")).collect()
}

on_every_loop! {
    /// BP-01: `get_buffer`, the receive into it, `buffer_updated`, in this order.
    fn get_buffer_then_buffer_updated(el) {
        for net in NETS {
            let record = Record::new();
            let own = Own::new(&record, 100);
            let received = own.received.clone();
            let (transport, peer) = connect(el, net, Buffered(own));
            peer.send(b"hello");
            run_until(el, || record.has("updated 5"));
            let events = record.take();
            assert_eq!(events[..3], ["made", "get 0", "updated 5"]);
            assert_eq!(received.take(), b"hello");
            transport.abort();
            run_until(el, || is_lost(&record));
        }
    }

    /// BP-01: the protocol of a `Buffered` is reached through its reference.
    fn the_protocol_is_reached_through_its_reference(el) {
        let record = Record::new();
        let (near, far) = sockets(Net::Unix);
        let peer = Peer::new(far);
        let (transport, protocol) = attach(el, near, Buffered(Own::new(&record, 100)));
        peer.send(b"abc");
        run_until(el, || record.has("updated 3"));
        protocol.with(|Buffered(own)| assert_eq!(own.received.take(), b"abc"));
        assert!(transport.protocol().unwrap().downcast::<Buffered<Own>>().is_some());
        transport.close();
        run_until(el, || is_lost(&record));
    }

    /// BP-02, LU-13: an empty buffer is a fatal error, which is reported; `buffer_updated` is not called.
    fn an_empty_buffer_is_an_error(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect(el, net, Buffered(Own::new(&record, 0)));
            peer.send(b"x");
            run_until(el, || is_lost(&record));
            assert_eq!(record.take(), ["made", "get 0", "lost Other"]);
            let reports = take_reports();
            assert_eq!(reports.len(), 1);
            let text = "Fatal error: protocol.get_buffer() call failed.: get_buffer() returned an empty buffer";
            assert!(reports[0].starts_with(text), "{reports:?}");
            assert!(reports[0].contains("<protocol") && reports[0].contains("<Transport"), "{reports:?}");
            assert!(transport.is_closing());
        }
    }

    /// BP-03: a panic in `get_buffer` is reported under its name and ends the connection.
    fn a_panic_in_get_buffer(el) {
        let record = Record::new();
        let (_, peer) = connect(el, Net::Unix, Buffered(Own::new(&record, 10).on_get(|| panic!("none left"))));
        peer.send(b"x");
        run_until(el, || is_lost(&record));
        assert_eq!(record.take(), ["made", "get 0", "lost Other"]);
        let reports = take_reports();
        assert_eq!(reports.len(), 1);
        assert!(reports[0].starts_with("Fatal error: protocol.get_buffer() call failed.: none left"), "{reports:?}");
    }

    /// BP-03: so is one in `buffer_updated`.
    fn a_panic_in_buffer_updated(el) {
        let record = Record::new();
        let own = Own::new(&record, 10).on_update(|_, _| panic!("bad bytes"));
        let (_, peer) = connect(el, Net::Unix, Buffered(own));
        peer.send(b"x");
        run_until(el, || is_lost(&record));
        assert_eq!(record.take(), ["made", "get 0", "updated 1", "lost Other"]);
        let reports = take_reports();
        assert_eq!(reports.len(), 1);
        assert!(reports[0].starts_with("Fatal error: protocol.buffer_updated() call failed.: bad bytes"), "{reports:?}");
    }

    /// BP-04: where the receive would have blocked, `buffer_updated` is not called.
    fn not_updated_by_a_receive_that_would_block(el) {
        for net in NETS {
            // Whichever of the two is told first takes the bytes of the other one.
            let record = Record::new();
            let ends: Vec<_> = (0..2).map(|_| sockets(net)).collect();
            let dups: Vec<_> = ends.iter().map(|(near, _)| near.try_clone().unwrap()).collect();
            let (mut transports, mut peers) = (Vec::new(), Vec::new());
            for ((near, far), stolen) in ends.into_iter().zip(dups.into_iter().rev()) {
                let own = Own::new(&record, 10).on_update(move |_, _| {
                    let _ = io::Read::read(&mut &stolen, &mut [0; 16]).unwrap();
                });
                peers.push(Peer::new(far));
                transports.push(attach(el, near, Buffered(own)).0);
            }
            record.take();
            peers.iter().for_each(|peer| peer.send(b"abc"));
            run_until(el, || record.has("updated 3"));
            settle(el);
            let events = record.take();
            assert!(events.iter().filter(|event| *event == "get 0").count() >= 2, "{events:?}");
            assert_eq!(events.iter().filter(|event| event.starts_with("updated")).count(), 1, "{events:?}");
            transports.iter().for_each(Transport::abort);
            run_until(el, || record.count("lost") == 2);
        }
    }

    /// BP-05: the end of file calls `eof_received`, and never `buffer_updated` with nothing.
    fn the_end_of_file_is_eof_received(el) {
        for net in NETS {
            let record = Record::new();
            let (_, peer) = connect(el, net, Buffered(Own::new(&record, 10)));
            peer.send(b"abc");
            peer.close();
            run_until(el, || is_lost(&record));
            assert_eq!(heard(&record), ["made", "updated 3", "eof", "lost"]);
        }
    }

    /// BP-05: kept open after it, the connection can still be written to.
    fn kept_open_after_the_end_of_file(el) {
        let record = Record::new();
        let mut own = Own::new(&record, 10);
        own.keep_open = true;
        let (transport, peer) = connect(el, Net::Unix, Buffered(own));
        peer.send_eof();
        run_until(el, || record.has("eof"));
        transport.write(b"answer");
        assert_eq!(peer.received(), b"answer");
        transport.close();
        run_until(el, || is_lost(&record));
        assert_eq!(heard(&record), ["made", "eof", "lost"]);
    }

    /// BP-06: five bytes through a buffer of 1, 2, 4 or 100 arrive in pieces, all of them.
    fn pieces_of_the_buffers_size(el) {
        for net in NETS {
            for (room, pieces) in [(1, vec![1; 5]), (2, vec![2, 2, 1]), (4, vec![4, 1]), (5, vec![5]), (100, vec![5])] {
                let record = Record::new();
                let own = Own::new(&record, room);
                let received = own.received.clone();
                let (transport, peer) = connect(el, net, Buffered(own));
                peer.send(b"12345");
                let expected: Vec<String> = pieces.iter().map(|n| format!("updated {n}")).collect();
                run_until(el, || record.count("updated 1") + record.count("updated 2") + record.count("updated 4")
                    + record.count("updated 5") == expected.len());
                assert_eq!(heard(&record)[1..], expected);
                assert_eq!(received.take(), b"12345");
                assert_sleeps(el);
                transport.abort();
                run_until(el, || is_lost(&record));
            }
        }
    }

    /// BP-06: as are many bytes through a small buffer, while the other callbacks get their turns.
    fn many_bytes_through_a_small_buffer(el) {
        let record = Record::new();
        let own = Own::new(&record, 100);
        let received = own.received.clone();
        let (transport, peer) = connect(el, Net::Unix, Buffered(own));
        let data = pattern(100_000);
        peer.send(&data);
        let most = Rc::new(Cell::new(0));
        let mut seen = 0;
        run_until(el, || {
            let updates = record.take().iter().filter(|event| event.starts_with("updated")).count();
            most.set(most.get().max(updates));
            seen += updates;
            seen == 1000
        });
        assert!(most.get() <= 2 * 16, "{} pieces in one turn", most.get());
        assert!(received.take() == data);
        transport.abort();
        run_until(el, || is_lost(&record));
    }

    /// BP-06: bytes that somebody else has read already come in pieces, too, and an empty buffer is an error there.
    fn bytes_from_elsewhere_come_in_pieces(el) {
        let record = Record::new();
        let (transport, _peer) = connect(el, Net::Unix, Tap::new(&Record::new()));
        for room in [1, 2, 4, 100] {
            let own = Own::new(&record, room);
            let received = own.received.clone();
            Buffered(own).data_received(&transport, b"12345");
            assert_eq!(received.take(), b"12345");
        }
        let empty = std::panic::AssertUnwindSafe(|| Buffered(Own::new(&record, 0)).data_received(&transport, b"1"));
        assert!(std::panic::catch_unwind(empty).is_err());
        transport.abort();
        run_until(el, || transport.protocol().is_none());
    }

    /// BP-08, TT-22: from plain to buffered and back in mid-stream, from within callbacks and from a task, without
    /// another `connection_made`.
    fn between_plain_and_buffered(el) {
        for net in NETS {
            let (plain, buffered, last) = (Record::new(), Record::new(), Record::new());
            let third = ProtocolRef::new(Tap::new(&last));
            let next = third.clone();
            let own = Own::new(&buffered, 4).on_update(move |transport, _| transport.set_protocol(next.clone()));
            let mut second = Some(Buffered(own));
            let tap = Tap::new(&plain).on_data(move |transport, _| {
                second.take().into_iter().for_each(|second| transport.set_protocol(second));
            });
            let (transport, peer) = connect(el, net, tap);
            peer.send(b"one");
            run_until(el, || plain.len() == 3);
            assert!(transport.protocol().unwrap().downcast::<Buffered<Own>>().is_some());
            peer.send(b"twothree");
            run_until(el, || last.len() == 4);
            assert!(transport.protocol().unwrap().is_same(&third.clone().into()));
            assert_eq!(plain.take(), ["made", "data 3"]);
            assert_eq!(heard(&buffered), ["updated 4"]);
            assert_eq!(last.bytes(), b"hree");

            let (task_transport, own) = (transport.clone(), Buffered(Own::new(&buffered, 100)));
            complete(el, el.create_task(async move { task_transport.set_protocol(own) })).unwrap();
            peer.send(b"four");
            peer.close();
            run_until(el, || is_lost(&buffered));
            assert_eq!(heard(&buffered), ["updated 4", "eof", "lost"]);
            assert_eq!(last.take(), ["data 4"]);
        }
    }

    /// TT-07: reading can be paused within `buffer_updated`, and what comes then waits.
    fn paused_within_buffer_updated(el) {
        for net in NETS {
            let record = Record::new();
            let own = Own::new(&record, 3).on_update(|transport, _| transport.pause_reading());
            let (transport, peer) = connect(el, net, Buffered(own));
            peer.send(b"abcdef");
            peer.close();
            assert_sleeps(el);
            assert_eq!(heard(&record), ["made", "updated 3"]);
            transport.resume_reading();
            run_until(el, || record.has("updated 3"));
            assert_sleeps(el);
            transport.resume_reading();
            run_until(el, || is_lost(&record));
            assert_eq!(heard(&record), ["updated 3", "eof", "lost"]);
        }
    }

    /// CL-11: closed within `buffer_updated`, nothing more is received.
    fn closed_within_buffer_updated(el) {
        let record = Record::new();
        let own = Own::new(&record, 3).on_update(|transport, _| transport.close());
        let (_, peer) = connect(el, Net::Unix, Buffered(own));
        peer.send(b"abcdef");
        run_until(el, || is_lost(&record));
        assert_eq!(record.take(), ["made", "get 0", "updated 3", "lost"]);
    }

    /// FC-05: a buffered protocol hears of flow control, too.
    fn flow_control_of_a_buffered_protocol(el) {
        let record = Record::new();
        let (transport, peer) = wire::connect_narrow(el, Net::Unix, Buffered(Own::new(&record, 10)));
        transport.write(&pattern(300_000));
        run_until(el, || record.has("pause"));
        run_until(el, || {
            peer.pump();
            record.has("resume")
        });
        transport.close();
        run_until(el, || is_lost(&record));
        assert_eq!(heard(&record), ["made", "pause", "resume", "lost"]);
    }

    /// TT-27: urgent data is no obstacle to a buffered protocol.
    fn urgent_data_into_an_own_buffer(el) {
        let record = Record::new();
        let own = Own::new(&record, 100);
        let received = own.received.clone();
        let (_, peer) = connect(el, Net::Tcp, Buffered(own));
        peer.send(b"before");
        peer.socket.send_out_of_band(b"!").unwrap();
        peer.send(b"after");
        run_until(el, || record.count("updated 5") == 1);
        peer.close();
        run_until(el, || is_lost(&record));
        assert_eq!(received.take(), b"beforeafter");
    }
}

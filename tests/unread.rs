//! Bytes that a protocol gives back: to the next protocol, or to itself with what comes next.

mod common;
mod wire;

use std::cell::Cell;
use std::rc::Rc;

use common::{complete, run_until, settle, take_reports};
use roundelay::{AnyProtocol, Buffered, BufferedProtocol, Transport};
use wire::{NETS, Net, Peer, Record, Tap, assert_sleeps, attach, connect, finish, sockets, until_lost};

/// A protocol that reads up to the first line break, and then sets the next one and gives back what is behind it.
fn preamble(record: &Record, order: Order, next: impl Into<AnyProtocol>) -> Tap {
    let mut next = Some(next.into());
    Tap::new(record).on_data(move |transport, data| {
        let Some(end) = data.iter().position(|&byte| byte == b'\n') else {
            return transport.unread(data);
        };
        let next = next.take().expect("a preamble comes once");
        match order {
            Order::UnreadFirst => {
                transport.unread(&data[end + 1..]);
                transport.set_protocol(next);
            }
            Order::ProtocolFirst => {
                transport.set_protocol(next);
                transport.unread(&data[end + 1..]);
            }
        }
    })
}

#[derive(Clone, Copy, Debug)]
enum Order {
    UnreadFirst,
    ProtocolFirst,
}

/// A buffered protocol with a small buffer, which writes down what it hears.
struct Small {
    record: Record,
    buffer: Vec<u8>,
    /// What to do with each piece.
    act: wire::DataAct,
}

impl Small {
    fn new(record: &Record, room: usize, act: impl FnMut(&Transport, &[u8]) + 'static) -> Buffered<Self> {
        Buffered(Self { record: record.clone(), buffer: vec![0; room], act: Box::new(act) })
    }
}

impl BufferedProtocol for Small {
    fn get_buffer(&mut self, _: usize) -> &mut [u8] {
        &mut self.buffer
    }

    fn buffer_updated(&mut self, transport: &Transport, n: usize) {
        self.record.callback(|| {
            self.record.note(String::from_utf8_lossy(&self.buffer[..n]));
            (self.act)(transport, &self.buffer[..n]);
        });
    }

    fn connection_lost(&mut self, _: &Transport, error: Option<std::io::Error>) {
        self.record.note(error.map_or("lost".into(), |error| format!("lost {:?}", error.kind())));
    }
}

on_every_loop! {
    /// What is given back within a callback that sets the next protocol goes to that one first, and at once, though
    /// nothing more arrives; and it makes no difference which of the two calls comes first.
    fn the_next_protocol_gets_it_first(el) {
        for net in NETS {
            for order in [Order::UnreadFirst, Order::ProtocolFirst] {
                let (first, second) = (Record::new(), Record::new());
                let (transport, peer) = connect(el, net, preamble(&first, order, Tap::new(&second)));
                peer.send(b"UPGRADE\nand the first bytes");
                run_until(el, || second.len() > 0);
                assert_eq!(second.bytes(), b"and the first bytes");
                peer.send(b", and more");
                peer.close();
                until_lost(el, &second);
                assert_eq!(second.bytes(), b"and the first bytes, and more");
                assert_eq!(first.take(), ["made", "data 27"], "{net:?} {order:?}");
                assert_eq!(second.take(), ["data 29", "eof", "lost"]);
                assert!(transport.is_closing());
            }
        }
    }

    /// A protocol that stays gets it together with what arrives next, in one piece: a header (PROXY's, say) that comes
    /// in drops is seen whole.
    fn a_protocol_that_stays_gets_it_with_more(el) {
        for net in NETS {
            let (first, second) = (Record::new(), Record::new());
            let (transport, peer) = connect(el, net, preamble(&first, Order::UnreadFirst, Tap::new(&second)));
            let header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET /";
            for (place, byte) in header.iter().enumerate() {
                peer.send(&[*byte]);
                run_until(el, || first.chunks().len() + second.len() == place + 1);
                assert_sleeps(el);
            }
            // Each time all that came so far, up to the end of the line, and the rest byte by byte.
            assert_eq!(first.chunks(), (1..=36).collect::<Vec<_>>());
            assert_eq!(second.bytes(), b"GET /");
            finish(el, &transport, &second);
        }
    }

    /// At the end of file a protocol does not get again what it has given back.
    fn not_again_at_the_end_of_file(el) {
        for net in NETS {
            let record = Record::new();
            let (_, peer) = connect(el, net, Tap::new(&record).on_data(|transport, data| transport.unread(data)));
            peer.send(b"half a line");
            settle(el);
            peer.close();
            until_lost(el, &record);
            assert_eq!(record.take(), ["made", "data 11", "eof", "lost"]);
        }
    }

    /// Given back from a task, with reading paused meanwhile: the next protocol gets it when reading resumes, before
    /// what has arrived since.
    fn given_back_while_reading_is_paused(el) {
        for net in NETS {
            for order in [Order::UnreadFirst, Order::ProtocolFirst] {
                let (first, second) = (Record::new(), Record::new());
                let tap = Tap::new(&first).on_data(|transport, _| transport.pause_reading());
                let (transport, peer) = connect(el, net, tap);
                peer.send(b"line\nrest");
                run_until(el, || first.len() == 9);
                peer.send(b" and more");
                let (inner, next) = (transport.clone(), Tap::new(&second));
                let task = el.create_task(async move {
                    match order {
                        Order::UnreadFirst => {
                            inner.unread(b"rest");
                            inner.set_protocol(next);
                        }
                        Order::ProtocolFirst => {
                            inner.set_protocol(next);
                            inner.unread(b"rest");
                        }
                    }
                });
                complete(el, task).unwrap();
                assert_sleeps(el);
                assert!(second.is_silent());
                transport.resume_reading();
                run_until(el, || second.len() == 13);
                assert_eq!(second.bytes(), b"rest and more");
                finish(el, &transport, &second);
            }
        }
    }

    /// Given back in several parts: the last one given comes first, for it was in front.
    fn parts_are_put_in_front(el) {
        let (first, second) = (Record::new(), Record::new());
        let mut next = Some(Tap::new(&second));
        let tap = Tap::new(&first).on_data(move |transport, _| {
            transport.unread(b"def");
            transport.unread(b"");
            transport.unread(b"abc");
            next.take().into_iter().for_each(|next| transport.set_protocol(next));
        });
        let (transport, peer) = connect(el, Net::Unix, tap);
        peer.send(b"x");
        run_until(el, || second.len() > 0);
        peer.send(b"ghi");
        run_until(el, || second.len() == 9);
        assert_eq!(second.bytes(), b"abcdefghi");
        assert_eq!(second.chunks()[0], 6);
        finish(el, &transport, &second);
    }

    /// Through a chain of protocols, each of which takes one line, nothing is lost and everything comes in order.
    fn through_a_chain_of_protocols(el) {
        for net in NETS {
            let records: Vec<Record> = (0..6).map(|_| Record::new()).collect();
            let mut next: AnyProtocol = Tap::new(&records[5]).into();
            for (place, record) in records[..5].iter().enumerate().rev() {
                let order = if place % 2 == 0 { Order::UnreadFirst } else { Order::ProtocolFirst };
                next = preamble(record, order, next).into();
            }
            let (transport, peer) = connect(el, net, Tap::new(&Record::new()));
            transport.set_protocol(next);
            peer.send(b"one\ntwo\nthree\nfour\nfive\nand the rest");
            run_until(el, || records[5].len() > 0);
            let lens: Vec<usize> = records.iter().map(Record::len).collect();
            assert_eq!(lens, [36, 32, 28, 22, 17, 12]);
            assert_eq!(records[5].bytes(), b"and the rest");
            finish(el, &transport, &records[5]);
        }
    }

    /// The next protocol may be a buffered one: it gets it in pieces of its own buffer's size, and what arrives behind.
    fn the_next_protocol_is_buffered(el) {
        for net in NETS {
            for order in [Order::UnreadFirst, Order::ProtocolFirst] {
                let (first, second) = (Record::new(), Record::new());
                let (transport, peer) = connect(el, net, preamble(&first, order, Small::new(&second, 4, |_, _| ())));
                peer.send(b"\nabcdefghij");
                run_until(el, || second.has("ij"));
                peer.send(b"kl");
                run_until(el, || second.has("kl"));
                assert_eq!(second.take(), ["abcd", "efgh", "ij", "kl"]);
                finish_small(el, &transport, &second);
            }
        }
    }

    /// A buffered protocol that pauses, closes or is replaced between two pieces gets no more of them.
    fn a_buffered_protocol_that_pauses_between_two_pieces(el) {
        let (first, second) = (Record::new(), Record::new());
        let next = Small::new(&second, 4, |transport, _| transport.pause_reading());
        let (transport, peer) = connect(el, Net::Unix, preamble(&first, Order::UnreadFirst, next));
        peer.send(b"\nabcdefghij");
        run_until(el, || second.has("abcd"));
        assert_sleeps(el);
        assert_eq!(second.take(), ["abcd"]);
        transport.resume_reading();
        settle(el);
        assert_eq!(second.take(), ["efgh"]);
        transport.close();
        run_until(el, || second.has("lost"));
        assert_eq!(second.take(), ["lost"]);
    }

    /// A buffered protocol in the middle of a chain: it takes a piece, and gives back the rest of it.
    fn a_buffered_protocol_gives_back(el) {
        for net in NETS {
            let (first, second, third) = (Record::new(), Record::new(), Record::new());
            let mut last = Some(Tap::new(&third));
            let middle = Small::new(&second, 4, move |transport, data| {
                transport.unread(&data[1..]);
                last.take().into_iter().for_each(|last| transport.set_protocol(last));
            });
            let (transport, peer) = connect(el, net, preamble(&first, Order::ProtocolFirst, middle));
            peer.send(b"\nabcdefghij");
            run_until(el, || third.len() > 0);
            peer.send(b"k");
            run_until(el, || third.len() == 10);
            assert_eq!(second.take(), ["abcd"]);
            assert_eq!(third.bytes(), b"bcdefghijk");
            finish(el, &transport, &third);
        }
    }

    /// A buffered protocol that stays gets what it gave back in front of what arrives, in one buffer.
    fn a_buffered_protocol_that_stays(el) {
        for net in NETS {
            let record = Record::new();
            let waits = |transport: &Transport, data: &[u8]| {
                if data.len() < 4 {
                    transport.unread(data);
                }
            };
            let (near, far) = sockets(net);
            let peer = Peer::new(far);
            let (transport, _) = attach(el, near, Small::new(&record, 8, waits));
            for byte in b"abcdefgh" {
                peer.send(&[*byte]);
                assert_sleeps(el);
            }
            run_until(el, || record.has("efgh"));
            assert_eq!(record.take(), ["a", "ab", "abc", "abcd", "e", "ef", "efg", "efgh"]);
            peer.send(b"xy");
            run_until(el, || record.has("xy"));
            peer.close();
            run_until(el, || record.has("lost"));
            assert_eq!(record.take(), ["xy", "lost"]);
            assert!(transport.is_closing());
        }
    }

    /// A buffered protocol whose buffer has no room beside what it gave back cannot go on: an error, and no endless loop.
    fn a_buffer_without_room_for_more(el) {
        let record = Record::new();
        let (near, far) = sockets(Net::Unix);
        let peer = Peer::new(far);
        attach(el, near, Small::new(&record, 4, |transport, data| transport.unread(data)));
        peer.send(b"abcd");
        run_until(el, || record.has("lost Other"));
        assert_eq!(record.take(), ["abcd", "lost Other"]);
        let reports = take_reports();
        assert_eq!(reports.len(), 1);
        assert!(reports[0].contains("has room for no more than unread() gave back"), "{reports:?}");
    }

    /// A protocol that has received nothing yet may be given bytes by whoever has them: they are delivered at once.
    fn bytes_for_a_protocol_that_has_seen_none(el) {
        for net in NETS {
            let record = Record::new();
            let tap = Tap::new(&record).on_made(|transport| transport.unread(b"peeked "));
            let (transport, peer) = connect(el, net, tap);
            run_until(el, || record.len() == 7);
            peer.send(b"and read");
            run_until(el, || record.len() == 15);
            assert_eq!(record.bytes(), b"peeked and read");
            finish(el, &transport, &record);
        }
    }

    /// What was given back before an end of file that is there already comes before that end.
    fn before_an_end_of_file_that_is_there(el) {
        for net in NETS {
            let (first, second) = (Record::new(), Record::new());
            let (_, peer) = connect(el, net, preamble(&first, Order::ProtocolFirst, Tap::new(&second)));
            peer.send(b"line\nrest");
            peer.close();
            until_lost(el, &second);
            assert_eq!(first.take(), ["made", "data 9"]);
            assert_eq!(second.take(), ["data 4", "eof", "lost"]);
        }
    }

    /// Giving back more than one event may bring does not keep others waiting, and comes whole.
    fn much_is_given_back(el) {
        let (first, second) = (Record::new(), Record::new());
        let ran = Rc::new(Cell::new(false));
        let (flag, handle) = (ran.clone(), el.clone());
        let mut next = Some(Small::new(&second, 1000, |_, _| ()));
        let tap = Tap::new(&first).on_data(move |transport, _| {
            if let Some(next) = next.take() {
                transport.set_protocol(next);
                transport.unread(&[b'-'; 1_000_000]);
                let flag = flag.clone();
                handle.call_soon(move || flag.set(true));
            }
        });
        let (transport, peer) = connect(el, Net::Unix, tap);
        peer.send(b"x");
        run_until(el, || ran.get());
        assert!(second.take().len() <= 64);
        let mut pieces = 0;
        run_until(el, || {
            pieces += second.take().len();
            pieces >= 900
        });
        settle(el);
        finish_small(el, &transport, &second);
    }

    /// On a transport that is closing or gone nothing is taken back.
    fn on_a_closing_transport(el) {
        let record = Record::new();
        let tap = Tap::new(&record).on_data(|transport, data| {
            transport.close();
            transport.unread(data);
        });
        let (transport, peer) = connect(el, Net::Unix, tap);
        peer.send(b"x");
        until_lost(el, &record);
        transport.unread(b"y");
        transport.set_protocol(Tap::new(&record));
        settle(el);
        assert_eq!(record.take(), ["made", "data 1", "lost"]);
    }

    /// Setting the protocol that is there already changes nothing: it has seen what it gave back, and knows of its pause.
    fn setting_the_same_protocol_changes_nothing(el) {
        let record = Record::new();
        let tap = Tap::new(&record).on_data(|transport, data| {
            transport.unread(data);
            transport.set_protocol(transport.protocol().unwrap());
        });
        let (transport, peer) = connect(el, Net::Unix, tap);
        peer.send(b"ab");
        assert_sleeps(el);
        assert_eq!(record.take(), ["made", "data 2"]);
        transport.write(&[b'-'; 2_000_000]);
        settle(el);
        transport.set_protocol(transport.protocol().unwrap());
        settle(el);
        assert_eq!(record.take(), ["pause"]);
        finish(el, &transport, &record);
    }
}

/// Closes a transport of a `Small`.
fn finish_small(el: &roundelay::EventLoop, transport: &Transport, record: &Record) {
    transport.abort();
    run_until(el, || record.has("lost"));
}

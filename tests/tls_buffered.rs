//! What stands on TLS: protocols with a buffer of their own, bytes that are given back, streams (behaviours BP, SR).

#![cfg(feature = "__tls")]

#[path = "common/certificates.rs"]
mod certificates;
mod common;
#[path = "common/raw_tls.rs"]
mod raw_tls;
mod wire;

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use certificates::{connector, tls_pair};
use common::{complete, finish as finish_task, run_until, settle, take_reports};
use raw_tls::{RawTls, connect};
use roundelay::{
    Buffered, BufferedProtocol, EventLoop, KeepOpen, StreamReader, StreamWriter, Transport, open_connection,
    start_server,
};
use wire::{NETS, Net, Record, Tap, assert_sleeps, finish, pattern, sockets, until_lost};

/// A buffered protocol that writes down what it is given.
struct Own {
    record: Record,
    buffer: Vec<u8>,
    update: wire::DataAct,
}

impl Own {
    fn new(record: &Record, room: usize) -> Self {
        Self { record: record.clone(), buffer: vec![0; room], update: Box::new(|_, _| ()) }
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
    fn get_buffer(&mut self, _: usize) -> &mut [u8] {
        &mut self.buffer
    }
    fn buffer_updated(&mut self, transport: &Transport, n: usize) {
        self.record.note(format!("updated {n}"));
        (self.update)(transport, &self.buffer[..n]);
    }
    fn eof_received(&mut self, _: &Transport) -> KeepOpen {
        self.record.note("eof");
        KeepOpen::No
    }
    fn connection_lost(&mut self, _: &Transport, error: Option<io::Error>) {
        self.record.note(error.map_or("lost".into(), |error| format!("lost {:?}", error.kind())));
    }
}

fn is_lost(record: &Record) -> bool {
    record.has("lost") || record.has("lost Other")
}

on_every_loop! {
    /// BP-06: five bytes through a buffer of 1, 2, 4 or 100 arrive in pieces, all of them, though they are decrypted in
    /// one go.
    fn pieces_of_the_buffers_size(el) {
        for net in NETS {
            for (room, pieces) in [(1, vec![1; 5]), (2, vec![2, 2, 1]), (4, vec![4, 1]), (5, vec![5]), (100, vec![5])] {
                let record = Record::new();
                let received = Rc::new(Cell::new(Vec::new()));
                let sink = received.clone();
                let own = Own::new(&record, room).on_update(move |_, data| {
                    let mut all = sink.take();
                    all.extend_from_slice(data);
                    sink.set(all);
                });
                let (transport, peer) = connect(el, net, Buffered(own));
                settle(el);
                assert_eq!(record.take(), ["made"]);
                peer.send(b"12345");
                let mut heard = Vec::new();
                run_until(el, || {
                    heard.extend(record.take());
                    heard.len() == pieces.len()
                });
                assert_eq!(heard, pieces.iter().map(|n| format!("updated {n}")).collect::<Vec<_>>());
                assert_eq!(received.take(), b"12345");
                assert_sleeps(el);
                transport.abort();
                run_until(el, || is_lost(&record));
            }
        }
    }

    /// BP-06: many records through a small buffer, while others get their turns.
    fn many_bytes_through_a_small_buffer(el) {
        let record = Record::new();
        let (count, sum) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0_u64)));
        let (counted, summed) = (count.clone(), sum.clone());
        let own = Own::new(&record, 100).on_update(move |_, data| {
            counted.set(counted.get() + data.len());
            data.iter().for_each(|&byte| summed.set(summed.get().wrapping_mul(31).wrapping_add(byte.into())));
        });
        let (transport, peer) = connect(el, Net::Unix, Buffered(own));
        let data = pattern(100_000);
        peer.send(&data);
        let mut most = 0;
        run_until(el, || {
            most = most.max(record.take().len());
            peer.flush();
            count.get() == data.len()
        });
        assert!(most <= 3 * 16, "{most} pieces in one turn");
        let expected = data.iter().fold(0_u64, |sum, &byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        assert_eq!(sum.get(), expected);
        transport.abort();
        run_until(el, || is_lost(&record));
    }

    /// BP-02: an empty buffer ends the connection, and is reported.
    fn an_empty_buffer_is_an_error(el) {
        let record = Record::new();
        let (transport, peer) = connect(el, Net::Tcp, Buffered(Own::new(&record, 0)));
        peer.send(b"x");
        run_until(el, || is_lost(&record));
        assert_eq!(record.take(), ["made", "lost Other"]);
        let reports = take_reports();
        assert_eq!(reports.len(), 1);
        assert!(reports[0].contains("get_buffer() returned an empty buffer"), "{reports:?}");
        assert!(transport.is_closing());
    }

    /// BP-05: the peer's end is `eof_received`, behind all bytes; nothing is updated by nothing.
    fn the_end_of_file_is_eof_received(el) {
        for word in [true, false] {
            let record = Record::new();
            let (_, peer) = connect(el, Net::Unix, Buffered(Own::new(&record, 2)));
            peer.send(b"abc");
            if word {
                peer.close_notify();
            }
            peer.socket.shutdown(std::net::Shutdown::Write).unwrap();
            run_until(el, || is_lost(&record));
            assert_eq!(record.take(), ["made", "updated 2", "updated 1", "eof", "lost"], "close_notify: {word}");
        }
    }

    /// BP-08: from plain to buffered and back in mid-stream, without another `connection_made`.
    fn between_plain_and_buffered(el) {
        let (plain, buffered, last) = (Record::new(), Record::new(), Record::new());
        let third = last.clone();
        let own = Own::new(&buffered, 4).on_update(move |transport, _| transport.set_protocol(Tap::new(&third)));
        let mut second = Some(Buffered(own));
        let tap = Tap::new(&plain).on_data(move |transport, _| {
            second.take().into_iter().for_each(|second| transport.set_protocol(second));
        });
        let (transport, peer) = connect(el, Net::Tcp, tap);
        peer.send(b"one");
        run_until(el, || plain.len() == 3);
        peer.send(b"twothree");
        run_until(el, || last.len() == 4);
        assert_eq!((plain.take(), buffered.take()), (vec!["made".into(), "data 3".into()], vec!["updated 4".into()]));
        assert_eq!(last.bytes(), b"hree");
        finish(el, &transport, &last);
    }

    /// Bytes that are given back are delivered again, before those that are decrypted already and those that are not: to
    /// the same protocol with what comes next, to another one at once.
    fn bytes_that_are_given_back(el) {
        for net in NETS {
            let (first, second) = (Record::new(), Record::new());
            let mut next = Some(Tap::new(&second));
            let tap = Tap::new(&first).on_data(move |transport, data| {
                let Some(end) = data.iter().position(|&byte| byte == b'\n') else { return transport.unread(data) };
                transport.unread(&data[end + 1..]);
                next.take().into_iter().for_each(|next| transport.set_protocol(next));
            });
            let (transport, peer) = connect(el, net, tap);
            for piece in [&b"UPG"[..], b"RA", b"DE\nfirst"] {
                peer.send(piece);
                settle(el);
                assert_sleeps(el);
            }
            run_until(el, || second.len() == 5);
            assert_eq!(first.chunks(), [3, 5, 13]);
            let data = pattern(200_000);
            peer.send(&data);
            run_until(el, || {
                peer.flush();
                second.len() == 5 + data.len()
            });
            assert!(second.bytes() == [b"first", &data[..]].concat());
            finish(el, &transport, &second);
        }
    }

    /// TL-37: many records in one segment, to a protocol that pauses in each callback: they come one by one, each once.
    fn pauses_in_every_callback(el) {
        let record = Record::new();
        let (transport, peer) = connect(el, Net::Unix, Tap::new(&record).on_data(|transport, _| transport.pause_reading()));
        // More than is decrypted in one go.
        (0..20_u8).for_each(|n| peer.send(&[n; 5000]));
        peer.close_notify();
        let mut rounds = 0;
        while !record.has("eof") {
            let before = record.len();
            settle(el);
            assert!(!transport.is_reading() || record.has("eof"), "it was not told to pause");
            assert!(record.len() > before || record.has("eof"), "nothing more comes");
            transport.resume_reading();
            rounds += 1;
        }
        assert!(rounds > 1, "{rounds} rounds");
        assert_eq!(record.bytes(), (0..20).flat_map(|n| [n; 5000]).collect::<Vec<u8>>());
        until_lost(el, &record);
    }

    /// SR-16, FC-07: a stream's writer drains over TLS as its queue does, and waits while nobody reads.
    fn drain_waits_for_the_low_mark(el) {
        let (near, far) = sockets(Net::Tcp);
        near.set_send_buffer_size(8 * 1024).unwrap();
        far.set_recv_buffer_size(32 * 1024).unwrap();
        let peer = RawTls::server(far);
        let (_reader, mut writer) = open(el, near, &peer);
        let data = pattern(1_000_000);
        writer.write(&data);
        let draining = el.create_task(async move {
            writer.drain().await.unwrap();
            writer
        });
        settle(el);
        assert!(!draining.is_done());
        assert_sleeps(el);
        run_until(el, || {
            peer.sip(16 * 1024);
            draining.is_done()
        });
        let mut writer = finish_task(el, draining).unwrap();
        let size = writer.transport().write_buffer_size();
        assert!(size > 0 && size <= 128 * 1024, "{size}");
        run_until(el, || peer.count() == data.len());
        assert!(peer.received() == data);
        writer.close();
        peer.close_notify();
        complete(el, writer.wait_closed()).unwrap();
    }

    /// SR-10, TL-37: a reader that nobody reads from stops the peer: what is kept is twice the limit, what TLS keeps and
    /// the kernel's; afterwards all of it is there.
    fn a_reader_that_is_full_stops_the_peer(el) {
        let (near, far) = sockets(Net::Tcp);
        near.set_recv_buffer_size(32 * 1024).unwrap();
        far.set_send_buffer_size(8 * 1024).unwrap();
        let peer = RawTls::server(far);
        let (mut reader, writer) = open(el, near, &peer);
        let data = pattern(5_000_000);
        peer.send(&data);
        let mut sent = 0;
        loop {
            peer.flush();
            settle(el);
            if peer.sent() == sent {
                break;
            }
            sent = peer.sent();
        }
        assert!(sent < 1_500_000, "{sent} bytes were taken");
        let mut received = Vec::new();
        while received.len() < data.len() {
            let read = el.create_task(async move {
                let read = reader.read(100_000).await.unwrap();
                (reader, read)
            });
            run_until(el, || {
                peer.flush();
                read.is_done()
            });
            let (same, read) = finish_task(el, read).unwrap();
            reader = same;
            received.extend(read);
        }
        assert!(received == data);
        writer.transport().abort();
        settle(el);
    }

    /// SR-16, TL-13: 5 MB there and back over streams of TLS, with small limits, in pieces that are drained.
    fn streams_echo(el) {
        let (connector, acceptor) = tls_pair();
        let data = pattern(5_000_000);
        let back = complete(el, async {
            let handler = async |mut reader: StreamReader, mut writer: StreamWriter| {
                loop {
                    let data = reader.read(50_000).await?;
                    if data.is_empty() {
                        writer.close();
                        return writer.wait_closed().await;
                    }
                    writer.write(&data);
                    writer.drain().await?;
                }
            };
            let server = start_server(handler, ("127.0.0.1", 0)).tls(acceptor).limit(10_000).await.unwrap();
            let address = server.local_addrs()[0];
            let opening = open_connection(address).tls(connector).server_hostname("localhost").limit(20_000);
            let (mut reader, mut writer) = opening.await.unwrap();
            writer.transport().set_write_buffer_limits(30_000, None).unwrap();
            let sent = data.clone();
            let writing = roundelay::spawn(async move {
                for piece in sent.chunks(77_777) {
                    writer.write(piece);
                    writer.drain().await.unwrap();
                }
                writer
            });
            let back = reader.readexactly(data.len()).await.unwrap();
            let mut writer = writing.await.unwrap();
            writer.close();
            writer.wait_closed().await.unwrap();
            server.shutdown(Duration::from_secs(5)).await;
            back
        });
        assert!(back == data);
    }
}

/// A client's stream over a socket.
fn open(el: &EventLoop, near: socket2::Socket, peer: &RawTls) -> (StreamReader, StreamWriter) {
    let opening =
        el.create_task(async move { open_connection(near).tls(connector()).server_hostname("localhost").await });
    run_until(el, || {
        peer.pump();
        opening.is_done()
    });
    let opened = finish_task(el, opening).unwrap().unwrap();
    peer.pump();
    opened
}

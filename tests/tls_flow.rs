//! Flow control over TLS (behaviours FC-07, TL-37): one queue in each direction, from end to end.

#![cfg(feature = "__tls")]

#[path = "common/certificates.rs"]
mod certificates;
mod common;
#[path = "common/duplex.rs"]
mod duplex;
#[path = "common/raw_tls.rs"]
mod raw_tls;
mod wire;

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use certificates::tls_pair;
use common::{complete, finish as finish_task, on_loop, poll_times, run_until, settle};
use duplex::{End, duplex};
use futures::{AsyncRead, AsyncWrite};
use raw_tls::{RawTls, connect, connect_narrow, connect_over};
use roundelay::{EventLoop, Protocol, Transport, WaterMarks};
use wire::{NETS, Net, Record, Tap, finish, pattern, sockets, until_lost};

const KIB: usize = 1024;

fn marks(transport: &Transport) -> (usize, usize) {
    let WaterMarks { low, high } = transport.write_buffer_limits();
    (low, high)
}

/// Fills what is below, so that from now on everything is queued until the peer reads.
fn fill(transport: &Transport) -> usize {
    while transport.write_buffer_size() == 0 {
        transport.write(&[b'-'; 10 * KIB]);
    }
    transport.write_buffer_size()
}

/// Lets the peer read little by little, until the queue is at most so long. Gives its length.
#[track_caller]
fn drain_to(el: &EventLoop, transport: &Transport, peer: &RawTls, size: usize) -> usize {
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
    /// FC-07: the marks are 128 KiB and 512 KiB, and again after both are given as none; one gives the other.
    fn the_marks_by_default(el) {
        let record = Record::new();
        let (transport, _peer) = connect(el, Net::Tcp, Tap::new(&record));
        assert_eq!(marks(&transport), (128 * KIB, 512 * KIB));
        transport.set_write_buffer_limits(100, None).unwrap();
        assert_eq!(marks(&transport), (25, 100));
        let refused = transport.set_write_buffer_limits(10, 100).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(marks(&transport), (25, 100));
        transport.set_write_buffer_limits(None, None).unwrap();
        assert_eq!(marks(&transport), (128 * KIB, 512 * KIB));
        finish(el, &transport, &record);
    }

    /// FC-07: a queue of exactly the high mark pauses, one byte less does not; it resumes at the low mark, once.
    fn pauses_at_the_high_mark_and_resumes_at_the_low_one(el) {
        let record = Record::new();
        // Of which the kernel takes nothing more before the peer reads.
        let (transport, peer) = connect_narrow(el, Net::Unix, Tap::new(&record));
        fill(&transport);
        settle(el);
        let size = transport.write_buffer_size();
        transport.write(&vec![b'-'; 512 * KIB - 1 - size]);
        settle(el);
        assert_eq!(record.take(), ["made"]);
        transport.write(b"-");
        settle(el);
        assert_eq!(record.take(), ["pause"]);
        transport.write(b"--");
        settle(el);
        assert!(record.is_silent());
        let mut size = transport.write_buffer_size();
        assert_eq!(size, 512 * KIB + 2);
        while size > 0 {
            let before = size;
            size = drain_to(el, &transport, &peer, size - 1);
            if before > 128 * KIB && size <= 128 * KIB {
                assert_eq!(record.take(), ["resume"]);
            }
            assert!(record.is_silent());
        }
        finish(el, &transport, &record);
    }

    /// FC-07: marks that are set look at the queue in both directions: lowered ones pause, raised ones resume.
    fn marks_that_are_set_look_at_the_queue(el) {
        let record = Record::new();
        let (transport, peer) = connect_narrow(el, Net::Unix, Tap::new(&record));
        fill(&transport);
        transport.write(&pattern(100_000));
        settle(el);
        let size = transport.write_buffer_size();
        assert_eq!(record.take(), ["made"]);
        transport.set_write_buffer_limits(size, 0).unwrap();
        settle(el);
        assert_eq!(record.take(), ["pause"]);
        transport.set_write_buffer_limits(size + 1, size - 1).unwrap();
        settle(el);
        assert!(record.is_silent(), "between the marks nothing changes");
        transport.set_write_buffer_limits(size + 1, size).unwrap();
        settle(el);
        assert_eq!(record.take(), ["resume"]);
        transport.set_write_buffer_limits(0, None).unwrap();
        settle(el);
        assert_eq!(record.take(), ["pause"]);
        drain_to(el, &transport, &peer, 0);
        assert_eq!(record.take(), ["resume"]);
        finish(el, &transport, &record);
    }

    /// FC-07, FC-11: one queue: its size is what was written and is not encrypted yet, and what is encrypted is little
    /// beside it.
    fn one_queue_for_what_is_written(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
            let data = pattern(4_000_000);
            for piece in data.chunks(100_000) {
                transport.write(piece);
            }
            settle(el);
            // The kernel's buffers, and what is encrypted in one go.
            let below = data.len() - transport.write_buffer_size();
            assert!(below < 700 * KIB, "{below} bytes are below the queue");
            drain_to(el, &transport, &peer, 0);
            run_until(el, || peer.count() == data.len());
            assert!(peer.received() == data);
            finish(el, &transport, &record);
        }
    }

    /// FC-11, TL-34: an abort empties the queue, and nobody is told to resume.
    fn an_abort_empties_the_queue(el) {
        let record = Record::new();
        let (transport, peer) = connect_narrow(el, Net::Tcp, Tap::new(&record));
        transport.write(&pattern(2_000_000));
        settle(el);
        assert_eq!(record.take(), ["made", "pause"]);
        transport.abort();
        assert_eq!(transport.write_buffer_size(), 0);
        until_lost(el, &record);
        assert_eq!(record.take(), ["lost"]);
        run_until(el, || peer.end().is_some());
    }

    /// The cap ends a connection whose peer does not read, as it does without TLS.
    fn the_cap_ends_the_connection(el) {
        let record = Record::new();
        let (transport, _peer) = connect_narrow(el, Net::Unix, Tap::new(&record));
        transport.set_write_buffer_cap(1_000_000);
        fill(&transport);
        settle(el);
        // A unix socket takes nothing more while nobody reads; TCP may.
        transport.write(&vec![0; 1_000_000 - transport.write_buffer_size()]);
        assert!(!transport.is_closing());
        transport.write(b"-");
        assert!(transport.is_closing());
        until_lost(el, &record);
        assert!(record.take().contains(&"lost WriteZero".to_owned()));
    }

    /// FC-07: `ready` waits for room, `flushed` until all is with the carrier, also what is encrypted already; an end of
    /// the connection is an error of both.
    fn ready_and_flushed(el) {
        let record = Record::new();
        let (transport, peer) = connect_narrow(el, Net::Tcp, Tap::new(&record));
        complete(el, transport.ready()).unwrap();
        complete(el, transport.flushed()).unwrap();
        let data = pattern(1_000_000);
        transport.write(&data);
        let mut ready = el.create_task(transport.ready());
        let mut flushed = el.create_task(transport.flushed());
        settle(el);
        assert!(!ready.is_done() && !flushed.is_done());
        drain_to(el, &transport, &peer, 128 * KIB);
        run_until(el, || ready.is_done());
        assert!(transport.write_buffer_size() > 0 && !flushed.is_done());
        run_until(el, || {
            peer.pump();
            flushed.is_done()
        });
        assert_eq!(transport.write_buffer_size(), 0);
        run_until(el, || peer.count() == data.len());
        complete(el, async { ((&mut ready).await.unwrap().unwrap(), (&mut flushed).await.unwrap().unwrap()) });

        // One that gives up is not in the way of another one.
        transport.write(&data);
        assert_eq!(complete(el, poll_times(transport.flushed(), 1)).map(|_| ()), None);
        let ready = el.create_task(transport.ready());
        let flushed = el.create_task(transport.flushed());
        settle(el);
        transport.abort();
        assert!(finish_task(el, ready).unwrap().is_err() && finish_task(el, flushed).unwrap().is_err());
        until_lost(el, &record);
    }

    /// TL-13, FC-07: pieces of all sizes around those of a record and of what is encrypted in one go, by all the ways of
    /// writing, with empty ones between: all arrive in order.
    fn pieces_of_all_sizes(el) {
        let sizes = [0, 1, 2, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 1_048_575, 1_048_577];
        let data = pattern(1_048_577);
        for narrow in [false, true] {
            let record = Record::new();
            let (transport, peer) = if narrow {
                connect_narrow(el, Net::Tcp, Tap::new(&record))
            } else {
                connect(el, Net::Unix, Tap::new(&record))
            };
            let mut expected = Vec::new();
            for n in sizes {
                let piece = &data[data.len() - n..];
                transport.write(piece);
                transport.write_owned(piece.to_vec());
                transport.write(b"");
                transport.writelines(&[]);
                transport.writelines(&[IoSlice::new(b""), IoSlice::new(b"")]);
                let (a, b) = piece.split_at(n / 3);
                transport.writelines(&[
                    IoSlice::new(b""), IoSlice::new(a), IoSlice::new(b""), IoSlice::new(b), IoSlice::new(b"")
                ]);
                (0..3).for_each(|_| expected.extend_from_slice(piece));
            }
            run_until(el, || peer.count() == expected.len());
            assert!(peer.received() == expected);
            finish(el, &transport, &record);
        }
    }

    /// FC-07: many small pieces in one call are few records.
    fn small_pieces_are_gathered(el) {
        let record = Record::new();
        let (transport, peer) = connect(el, Net::Unix, Tap::new(&record));
        let data = pattern(100_000);
        let pieces: Vec<_> = data.chunks(100).map(IoSlice::new).collect();
        let before = peer.records();
        transport.writelines(&pieces);
        run_until(el, || peer.count() == data.len());
        assert!(peer.received() == data);
        // A record has 22 bytes beside its own, and as many bytes of its own as 16 384.
        let added = peer.records() - before - data.len();
        assert!(added <= 22 * 10, "{added} bytes were added");
        finish(el, &transport, &record);
    }

    /// FC-07, TL-37: a peer that writes 20 MB to a transport which is paused is held up, and what is kept here is no more
    /// than 256 KiB and one receive; afterwards all of it arrives.
    fn pausing_reading_reaches_the_socket(el) {
        for net in NETS {
            let record = Record::new();
            let (near, far) = sockets(net);
            near.set_recv_buffer_size(32 * KIB).unwrap();
            far.set_send_buffer_size(8 * KIB).unwrap();
            let (transport, peer) = connect_over(el, (near, far), Tap::new(&record));
            transport.pause_reading();
            let data = pattern(20_000_000);
            peer.tls().writer().write_all(&data).unwrap();
            let mut sent = 0;
            // Until nothing moves any more.
            loop {
                peer.flush();
                settle(el);
                if peer.sent() == sent {
                    break;
                }
                sent = peer.sent();
            }
            assert_eq!(record.len(), 0);
            // The kernel has some of it.
            assert!((256 * KIB..(256 + 256 + 128) * KIB).contains(&sent), "{sent} bytes were taken");
            wire::assert_sleeps(el);
            transport.resume_reading();
            run_until(el, || {
                peer.flush();
                record.len() == data.len()
            });
            assert!(record.bytes() == data);
            finish(el, &transport, &record);
        }
    }

    /// TL-37: reading goes on when there are no more than 64 KiB, and not before: as seen from the peer.
    fn reading_goes_on_at_the_low_mark(el) {
        let record = Record::new();
        let tap = Tap::new(&record).on_data(|transport, _| transport.pause_reading());
        let (transport, peer) = connect(el, Net::Unix, tap);
        let data = pattern(3_000_000);
        peer.tls().writer().write_all(&data).unwrap();
        let mut sent = 0;
        let mut rounds = 0;
        while record.len() < data.len() {
            peer.flush();
            settle(el);
            assert!(!transport.is_reading() || record.len() == 0);
            // One piece at a time.
            transport.resume_reading();
            let before = record.len();
            run_until(el, || {
                peer.flush();
                record.len() > before
            });
            assert!(record.len() - before <= 256 * KIB);
            rounds += 1;
            assert!(peer.sent() >= sent);
            sent = peer.sent();
        }
        assert!(rounds > 10 && record.bytes() == data);
        finish(el, &transport, &record);
    }
}

/// What is done once.
type Hook = Rc<RefCell<Option<Box<dyn FnMut()>>>>;

/// A stream whose every call lets the test do something with the transport that stands on it.
struct Meddling {
    end: End,
    on_write: Hook,
}

impl AsyncRead for Meddling {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.end).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Meddling {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let hook = self.on_write.borrow_mut().take();
        if let Some(mut hook) = hook {
            hook();
        }
        Pin::new(&mut self.end).poll_write(cx, data)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.end).poll_flush(cx)
    }
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.end).poll_close(cx)
    }
}

struct Nothing;

impl Protocol for Nothing {}

/// Two transports of TLS over streams of the application's, and what is done within a call of the first one's.
fn over_streams(
    el: &EventLoop,
    (seed, most): (u64, usize),
    client: Tap,
    server: Tap,
) -> ((Transport, Transport), Hook) {
    let (a, b) = duplex(seed, most, 1 << 20);
    let on_write = Hook::default();
    let a = Meddling { end: a, on_write: on_write.clone() };
    let (a, b) = (el.connect_stream(|| Nothing, a).unwrap().0, el.connect_stream(|| Nothing, b).unwrap().0);
    let (connector, acceptor) = tls_pair();
    let client = el.create_task(el.start_tls(a, client, connector).server_hostname("localhost").into_future());
    let server = el.create_task(el.start_tls(b, server, acceptor).into_future());
    let client = finish_task(el, client).unwrap().unwrap();
    ((client, finish_task(el, server).unwrap().unwrap()), on_write)
}

/// FC-07: what waits goes on when the carrier has sent what it was given, also where it has done so before anybody could
/// be told to pause.
#[test]
fn a_carrier_that_is_full_for_a_moment_does_not_stall() {
    on_loop(|el| {
        for seed in 0..20 {
            let (here, there) = (Record::new(), Record::new());
            let ((client, _server), _) = over_streams(el, (seed, 40_000), Tap::new(&here), Tap::new(&there));
            let data = pattern(1_000_000);
            client.write(&data);
            run_until(el, || there.len() == data.len());
            assert!(there.bytes() == data);
            finish(el, &client, &here);
            until_lost(el, &there);
        }
    });
}

/// The stream below may use the transport in its turn: what it writes is queued behind what it is given, and it may ask,
/// close and abort.
#[test]
fn a_stream_may_use_the_transport_that_stands_on_it() {
    on_loop(|el| {
        let (here, there) = (Record::new(), Record::new());
        let ((client, server), on_write) = over_streams(el, (1, 1 << 20), Tap::new(&here), Tap::new(&there));
        let asked = Rc::new(Cell::new(0));
        let (within, count) = (client.clone(), asked.clone());
        *on_write.borrow_mut() = Some(Box::new(move || {
            within.write(b"behind");
            within.writelines(&[IoSlice::new(b" it"), IoSlice::new(b"!")]);
            assert!(within.extra_info().tls.is_some());
            count.set(count.get() + 1);
        }));
        client.write(b"first, ");
        run_until(el, || there.len() == 17);
        assert_eq!((asked.get(), there.bytes()), (1, b"first, behind it!".to_vec()));
        assert!(client.extra_info().tls.is_some());

        let within = client.clone();
        *on_write.borrow_mut() = Some(Box::new(move || within.close()));
        client.write(b" The end");
        until_lost(el, &here);
        until_lost(el, &there);
        assert_eq!(there.bytes(), b"first, behind it! The end");
        assert_eq!(there.take(), ["data 25", "eof", "lost"]);
        assert_eq!(here.take(), ["eof", "lost"]);
        drop(server);

        let (here, there) = (Record::new(), Record::new());
        let ((client, _server), on_write) = over_streams(el, (1, 1 << 20), Tap::new(&here), Tap::new(&there));
        let within = client.clone();
        *on_write.borrow_mut() = Some(Box::new(move || within.abort()));
        client.write(b"nothing");
        until_lost(el, &here);
        until_lost(el, &there);
        assert_eq!(here.take(), ["lost"]);
    });
}

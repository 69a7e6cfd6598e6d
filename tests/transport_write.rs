//! How a stream transport writes (behaviours TT, the golden probes P14, P15, P38 and P41, and asyncio's bugs gh-127655 and gh-136234).

mod common;
mod wire;

use std::cell::Cell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use common::{CountingWaker, complete, on_loop, run_until, settle, take_reports};
use roundelay::{EventLoop, Transport};
use wire::{
    NETS, Net, Peer, Record, Tap, assert_sleeps, attach, connect, connect_narrow, finish, pattern, sockets, until_lost,
};

/// Each way to write.
const WAYS: [fn(&Transport, &[u8]); 3] = [
    |transport, data| transport.write(data),
    |transport, data| transport.write_owned(Bytes::copy_from_slice(data)),
    |transport, data| {
        let (head, tail) = data.split_at(data.len() / 3);
        transport.writelines(&[IoSlice::new(head), IoSlice::new(&[]), IoSlice::new(tail)]);
    },
];

/// The kinds of error of a connection that the peer has ended.
fn is_broken(record: &Record) -> bool {
    record.has("lost ConnectionReset") || record.has("lost BrokenPipe")
}

/// Runs the loop until the peer has read so many bytes.
#[track_caller]
fn until_received(el: &EventLoop, peer: &Peer, n: usize) {
    run_until(el, || peer.count() >= n);
}

on_every_loop! {
    /// TT-08: what the kernel takes is sent at once; nothing is queued and nothing is waited for.
    fn sends_at_once(el) {
        for net in NETS {
            for way in WAYS {
                let record = Record::new();
                let (transport, peer) = connect(el, net, Tap::new(&record));
                way(&transport, b"no turn needed");
                assert_eq!(peer.received(), b"no turn needed");
                assert_eq!(transport.write_buffer_size(), 0);
                assert!(format!("{transport:?}").contains("write=<idle, bufsize=0>"), "{transport:?}");
                assert_sleeps(el);
                finish(el, &transport, &record);
            }
        }
    }

    /// TT-09: what the kernel does not take is queued, and sent as the peer reads.
    fn keeps_the_rest_of_a_partial_send(el) {
        for net in NETS {
            for way in WAYS {
                let record = Record::new();
                let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
                let data = pattern(400_000);
                way(&transport, &data);
                let queued = transport.write_buffer_size();
                assert!(queued > 0 && queued < data.len(), "{queued} bytes are queued");
                let text = format!("write=<polling, bufsize={queued}>");
                assert!(format!("{transport:?}").contains(&text), "{transport:?}");
                // Nobody reads: nothing happens, and nothing spins.
                assert_sleeps(el);
                until_received(el, &peer, data.len());
                assert!(peer.received() == data);
                assert_eq!(transport.write_buffer_size(), 0);
                assert_sleeps(el);
                finish(el, &transport, &record);
            }
        }
    }

    /// TT-09: a send of which the kernel takes nothing keeps all of it.
    fn keeps_all_of_a_send_that_would_block(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
            // A handle of the same socket, to fill the kernel's buffer behind the transport's back.
            let dup = transport.extra_info().socket.unwrap().with(|socket| socket.try_clone().unwrap()).unwrap();
            let full = Peer::new(dup);
            let mut filled = 0;
            loop {
                match full.send_some(&[b'-'; 10_000]) {
                    0 => break,
                    n => filled += n,
                }
            }
            transport.write(b"behind");
            assert_eq!(transport.write_buffer_size(), 6);
            until_received(el, &peer, filled + 6);
            assert!(peer.received().ends_with(b"-behind"));
            finish(el, &transport, &record);
        }
    }

    /// TT-10: with something queued a write only appends, though the kernel would take it just now.
    fn appends_behind_what_is_queued(el) {
        for net in NETS {
            for way in WAYS {
                let record = Record::new();
                let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
                let data = pattern(300_000);
                transport.write(&data);
                let queued = transport.write_buffer_size();
                // There is room again, which the transport has not heard of.
                let read = peer.count();
                assert!(read > 0);
                way(&transport, b"behind");
                assert_eq!(transport.write_buffer_size(), queued + 6);
                until_received(el, &peer, data.len() + 6);
                assert!(peer.received() == [&data[..], b"behind"].concat());
                finish(el, &transport, &record);
            }
        }
    }

    /// TT-11: an empty write does nothing, also with something queued.
    fn empty_writes_do_nothing(el) {
        let record = Record::new();
        let (transport, peer) = connect_narrow(el, Net::Unix, Tap::new(&record));
        WAYS.iter().for_each(|way| way(&transport, b""));
        transport.writelines(&[]);
        assert_eq!((transport.write_buffer_size(), peer.count()), (0, 0));
        let data = pattern(300_000);
        transport.write(&data);
        let queued = transport.write_buffer_size();
        WAYS.iter().for_each(|way| way(&transport, b""));
        transport.writelines(&[]);
        assert_eq!(transport.write_buffer_size(), queued);
        until_received(el, &peer, data.len());
        assert!(peer.received() == data);
        finish(el, &transport, &record);
    }

    /// TT-12: what the caller does to its buffer afterwards does not change what is queued.
    fn queued_bytes_are_a_copy(el) {
        let record = Record::new();
        let (transport, peer) = connect_narrow(el, Net::Unix, Tap::new(&record));
        let data = pattern(300_000);
        let mut buffer = data.clone();
        transport.write(&buffer);
        buffer.fill(0);
        let mut lines = data.clone();
        transport.writelines(&[IoSlice::new(&lines)]);
        lines.fill(0);
        until_received(el, &peer, 600_000);
        assert!(peer.received() == data.repeat(2));
        finish(el, &transport, &record);
    }

    /// TT-13, TT-14: more queued pieces than one system call takes are all sent, in order, whatever the kernel takes of
    /// them at a time.
    fn more_pieces_than_one_call_takes(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
            let data = pattern(350_000);
            // Given pieces are not gathered: each one is an entry of its own.
            data.chunks(100).for_each(|piece| transport.write_owned(Bytes::copy_from_slice(piece)));
            assert!(transport.write_buffer_size() > 1024 * 100);
            let mut last = transport.write_buffer_size();
            let mut sips = 0;
            while transport.write_buffer_size() > 150_000 {
                // Not a multiple of a piece.
                peer.sip(1_777);
                settle(el);
                assert!(transport.write_buffer_size() <= last);
                last = transport.write_buffer_size();
                sips += 1;
                assert!(sips < 10_000);
            }
            until_received(el, &peer, data.len());
            assert!(peer.received() == data);
            finish(el, &transport, &record);
        }
    }

    /// TT-15: `writelines` sends at once what it can, and queues the rest, however many pieces there are.
    fn writelines_of_many_pieces(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::new(&record));
            let data = pattern(9_000);
            let pieces: Vec<IoSlice<'_>> = data.chunks(3).map(IoSlice::new).collect();
            assert!(pieces.len() > 1024);
            transport.writelines(&pieces);
            // One call takes the first 1024 pieces; the others follow in the loop's time.
            assert_eq!(peer.count(), 3 * 1024);
            until_received(el, &peer, data.len());
            assert_eq!(peer.received(), data);
            finish(el, &transport, &record);
        }
    }

    /// TT-16: `writelines` heeds the water marks as `write` does (gh-127655 of asyncio, CVE-2024-12254).
    fn every_way_of_writing_pauses_the_protocol(el) {
        for way in WAYS {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, Net::Unix, Tap::new(&record));
            record.take();
            way(&transport, &pattern(400_000));
            settle(el);
            assert_eq!(record.take(), ["pause"]);
            until_received(el, &peer, 400_000);
            settle(el);
            assert_eq!(record.take(), ["resume"]);
            finish(el, &transport, &record);
        }
    }

    /// TT-16: every way of writing is harmless on a connection that is lost (gh-136234), at any stage of it.
    fn every_way_of_writing_is_harmless_after_the_end(el) {
        for net in NETS {
            let record = Record::new();
            let within = |transport: &Transport| WAYS.iter().for_each(|way| way(transport, b"too late"));
            let (transport, peer) = connect(el, net, Tap::new(&record).on_lost(within));
            transport.abort();
            within(&transport);
            until_lost(el, &record);
            within(&transport);
            assert_eq!(transport.write_buffer_size(), 0);
            settle(el);
            assert_eq!(peer.count(), 0);
            assert_eq!(record.take(), ["made", "lost"]);
        }
    }

    /// TT-17: a send that fails drops what is queued and ends the connection with the error; `write` itself is silent.
    fn a_send_that_fails_ends_the_connection(el) {
        for net in NETS {
            for way in WAYS {
                let record = Record::new();
                let (transport, peer) = connect(el, net, Tap::half_open(&record));
                match net {
                    Net::Tcp => peer.reset(),
                    Net::Unix => peer.close(),
                }
                record.take();
                way(&transport, b"anybody there?");
                assert!(transport.is_closing() && record.is_silent());
                assert_eq!(transport.write_buffer_size(), 0);
                until_lost(el, &record);
                assert!(is_broken(&record), "{:?}", record.take());
            }
        }
    }

    /// TT-17: the same for what was queued when the peer went.
    fn a_flush_that_fails_ends_the_connection(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, net, Tap::half_open(&record));
            transport.pause_reading();
            transport.write(&pattern(300_000));
            settle(el);
            assert_eq!(record.take(), ["made", "pause"]);
            peer.close();
            until_lost(el, &record);
            assert!(is_broken(&record), "{:?}", record.take());
            assert!(!record.has("resume"));
            assert_eq!(transport.write_buffer_size(), 0);
        }
    }

    /// TT-19: writing after `write_eof` is reported, also after `close`, and sends nothing (P14).
    fn writing_after_write_eof_is_reported(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::half_open(&record));
            transport.write(b"all");
            transport.write_eof();
            for way in WAYS {
                way(&transport, b"and more");
                let reports = take_reports();
                assert_eq!(reports.len(), 1, "{reports:?}");
                assert!(reports[0].starts_with("Transport::write(): cannot write after write_eof()"), "{reports:?}");
                assert!(reports[0].contains("<Transport"), "{reports:?}");
            }
            assert!(!transport.is_closing());
            transport.close();
            transport.write(b"and more");
            assert_eq!(take_reports().len(), 1);
            until_lost(el, &record);
            assert!(peer.at_eof());
            assert_eq!(peer.received(), b"all");
            assert_eq!(record.take(), ["made", "lost"]);
        }
    }

    /// TT-19: writing after `close` alone is silent (P15), and sends nothing.
    fn writing_after_close_is_silent(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::new(&record));
            transport.close();
            (0..8).for_each(|_| transport.write(b"x"));
            until_lost(el, &record);
            assert!(peer.at_eof());
            assert_eq!(peer.count(), 0);
            assert_eq!(record.take(), ["made", "lost"]);
        }
    }

    /// TT-21: a thousand writes of ten KiB arrive completely, without waiting in between.
    fn many_writes_without_drain(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::new(&record));
            let data = pattern(10 * 1024 * 1000);
            for (piece, way) in data.chunks(10 * 1024).zip(WAYS.iter().cycle()) {
                way(&transport, piece);
            }
            until_received(el, &peer, data.len());
            assert!(peer.received() == data);
            finish(el, &transport, &record);
        }
    }

    /// TT-21: and so they do with waiting, and then no more is queued than the high-water mark and one write.
    fn many_writes_with_drain(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::new(&record));
            let data = Rc::new(pattern(10 * 1024 * 1000));
            let most = Rc::new(Cell::new(0));
            let task = el.create_task({
                let (transport, data, most) = (transport.clone(), data.clone(), most.clone());
                async move {
                    for (piece, way) in data.chunks(10 * 1024).zip(WAYS.iter().cycle()) {
                        way(&transport, piece);
                        most.set(most.get().max(transport.write_buffer_size()));
                        transport.ready().await.unwrap();
                    }
                }
            });
            until_received(el, &peer, data.len());
            assert!(peer.received() == *data);
            assert!(most.get() <= 64 * 1024 + 10 * 1024, "{} bytes were queued", most.get());
            complete(el, task).unwrap();
            finish(el, &transport, &record);
        }
    }

    /// TT-24: a `resume_writing` that writes fills the queue anew: nothing is lost, and the writer goes on.
    fn resume_writing_that_writes(el) {
        for net in NETS {
            let record = Record::new();
            let data = Rc::new(pattern(2_000_000));
            let at = Rc::new(Cell::new(0));
            let more = move |transport: &Transport| {
                let end = data.len().min(at.get() + 250_000);
                transport.write(&data[at.replace(end)..end]);
            };
            let tap = Tap::new(&record).on_made(more.clone()).on_resume(more);
            let (transport, peer) = connect_narrow(el, net, tap);
            until_received(el, &peer, 2_000_000);
            assert!(peer.received() == pattern(2_000_000));
            settle(el);
            let events = record.take();
            assert_eq!(events.len(), 17, "{events:?}");
            assert!(events[1..].chunks(2).all(|pair| pair == ["pause", "resume"]), "{events:?}");
            finish(el, &transport, &record);
        }
    }

    /// TT-26: the text of a transport in each state.
    fn text_of_a_transport(el) {
        let record = Record::new();
        let (transport, peer) = connect_narrow(el, Net::Unix, Tap::new(&record));
        let fd = transport.extra_info().socket.unwrap().raw_fd().unwrap();
        let id = transport.id();
        let text = || format!("{transport:?}");
        assert_eq!(text(), format!("<Transport {id} fd={fd} read=polling write=<idle, bufsize=0>>"));
        transport.pause_reading();
        assert_eq!(text(), format!("<Transport {id} fd={fd} read=idle write=<idle, bufsize=0>>"));
        transport.write(&pattern(300_000));
        let size = transport.write_buffer_size();
        assert_eq!(text(), format!("<Transport {id} fd={fd} read=idle write=<polling, bufsize={size}>>"));
        transport.close();
        assert_eq!(text(), format!("<Transport {id} closing fd={fd} read=idle write=<polling, bufsize={size}>>"));
        until_received(el, &peer, 300_000);
        until_lost(el, &record);
        assert_eq!(text(), format!("<Transport {id} closed>"));
    }

    /// TT-28: many writes in a row of every kind and size arrive in order, written in `connection_made` and after it.
    fn many_writes_in_a_row_keep_their_order(el) {
        for net in NETS {
            let record = Record::new();
            let data = Rc::new(pattern(1_200_000));
            let write = |transport: &Transport, mut data: &[u8]| {
                let (mut size, mut turn) = (1, 0);
                while !data.is_empty() {
                    let (piece, rest) = data.split_at(size.min(data.len()));
                    WAYS[turn % 3](transport, piece);
                    (data, size, turn) = (rest, size * 7 % 10_007, turn + 1);
                }
            };
            let early = data.clone();
            let tap = Tap::new(&record).on_made(move |transport| write(transport, &early[..600_000]));
            let (transport, peer) = connect_narrow(el, net, tap);
            write(&transport, &data[600_000..]);
            until_received(el, &peer, data.len());
            assert!(peer.received() == *data);
            finish(el, &transport, &record);
        }
    }

    /// TT-29: writing to a half-open connection whose peer is gone ends in an error, and never hangs.
    fn writing_to_a_peer_that_is_gone(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::half_open(&record));
            peer.close();
            run_until(el, || record.has("eof"));
            assert!(!transport.is_closing());
            assert_sleeps(el);
            run_until(el, || {
                transport.write(b"still there?");
                record.is_lost()
            });
            assert!(is_broken(&record), "{:?}", record.take());
        }
    }

    /// P38: a stream whose peer has closed: a write or two succeed, then `drain` and `wait_closed` tell the error.
    fn a_stream_writer_learns_that_its_peer_is_gone(el) {
        let drains = complete(el, async {
            let server = roundelay::start_server(async |_, mut writer| writer.close(), ("127.0.0.1", 0)).await?;
            let (mut reader, mut writer) = roundelay::open_connection(server.local_addrs()[0]).await?;
            assert_eq!(reader.read(1).await?, b"");
            let mut drains = 0;
            let error = loop {
                writer.write(b"0123456789");
                match writer.drain().await {
                    Ok(()) => drains += 1,
                    Err(error) => break error,
                }
            };
            let gone = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
            assert!(gone.contains(&error.kind()), "{error:?}");
            let error = writer.wait_closed().await.unwrap_err();
            assert!(gone.contains(&error.kind()), "{error:?}");
            server.close();
            server.wait_closed().await;
            io::Result::Ok(drains)
        });
        assert!((1..=2).contains(&drains.unwrap()));
    }

    /// P41: ten bytes and `close`: the end comes after `close` has returned; the other side gets bytes, end of file, end.
    fn write_and_close_between_two_transports(el) {
        for net in NETS {
            let (near, far) = sockets(net);
            let (a_record, b_record) = (Record::new(), Record::new());
            let (a, _) = attach(el, near, Tap::new(&a_record));
            attach(el, far, Tap::new(&b_record));
            a.write(b"0123456789");
            a.close();
            a_record.note("close returned");
            run_until(el, || a_record.is_lost() && b_record.is_lost());
            assert_eq!(a_record.take(), ["made", "close returned", "lost"]);
            assert_eq!(b_record.take(), ["made", "data 10", "eof", "lost"]);
        }
    }

    /// Past the cap the connection is ended with an error instead of queueing more.
    fn the_cap_ends_a_connection_whose_peer_does_not_read(el) {
        for way in WAYS {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, Net::Unix, Tap::new(&record));
            transport.set_write_buffer_cap(500_000);
            transport.write(&pattern(400_000));
            assert!(!transport.is_closing());
            way(&transport, &pattern(400_000));
            assert!(transport.is_closing());
            assert_eq!(transport.write_buffer_size(), 0);
            until_lost(el, &record);
            assert_eq!(record.take(), ["made", "lost WriteZero"]);
            assert!(peer.count() < 400_000);
        }
    }

    /// The cap counts at once for what is queued; without one there is no limit.
    fn the_cap_can_be_set_and_taken_back(el) {
        let record = Record::new();
        let (transport, _peer) = connect_narrow(el, Net::Unix, Tap::new(&record));
        transport.set_write_buffer_cap(500_000);
        transport.set_write_buffer_cap(None);
        transport.write(&pattern(1_000_000));
        assert!(!transport.is_closing());
        let size = transport.write_buffer_size();
        transport.set_write_buffer_cap(size);
        assert!(!transport.is_closing());
        transport.set_write_buffer_cap(size - 1);
        assert!(transport.is_closing());
        until_lost(el, &record);
        transport.set_write_buffer_cap(0);
        assert_eq!(record.take(), ["made", "lost WriteZero"]);
    }

    /// A peer that asks for much and reads nothing: a protocol that heeds `pause_writing` holds no more than the
    /// high-water mark and one answer.
    fn a_greedy_peer_costs_no_memory_with_pause_writing(el) {
        for net in NETS {
            let (record, most) = (Record::new(), Rc::new(Cell::new(0)));
            let seen = most.clone();
            let tap = Tap::new(&record)
                .on_data(move |transport, requests| {
                    // Each byte asks for 8 KiB. Reading is paused with writing; what one read brought is answered.
                    for _ in requests.iter().take(8) {
                        transport.write(&[b'-'; 8 * 1024]);
                    }
                    seen.set(seen.get().max(transport.write_buffer_size()));
                })
                .on_pause(Transport::pause_reading)
                .on_resume(Transport::resume_reading);
            let (transport, peer) = connect_narrow(el, net, tap);
            for _ in 0..500 {
                peer.send_some(b"gimme");
                settle(el);
            }
            assert!(!transport.is_reading());
            assert!(most.get() > 64 * 1024, "the queue never filled");
            assert!(most.get() <= (64 + 64) * 1024, "{} bytes were queued", most.get());
            finish(el, &transport, &record);
        }
    }

    /// TT-24: whoever gives up waiting for room is forgotten, and those who wait beside it are told.
    fn a_wait_for_room_that_is_given_up(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
            transport.write(&pattern(1024 * 1024));
            let (wakes, waker) = CountingWaker::new();
            let mut cx = Context::from_waker(&waker);
            let [mut stays, mut goes] = [Box::pin(transport.ready()), Box::pin(transport.ready())];
            assert!(stays.as_mut().poll(&mut cx).is_pending() && goes.as_mut().poll(&mut cx).is_pending());
            let held = Arc::strong_count(&wakes);
            drop(goes);
            assert_eq!(Arc::strong_count(&wakes), held - 1);
            assert!(stays.as_mut().poll(&mut cx).is_pending());
            assert_eq!(Arc::strong_count(&wakes), held - 1);
            run_until(el, || {
                peer.pump();
                wakes.count() > 0
            });
            assert_eq!(wakes.count(), 1);
            assert!(matches!(stays.as_mut().poll(&mut cx), Poll::Ready(Ok(()))));
            finish(el, &transport, &record);
        }
    }

    /// The same for a task that awaits `ready()`.
    fn a_greedy_peer_costs_no_memory_with_ready(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, net, Tap::half_open(&record));
            let (writes, inner) = (Rc::new(Cell::new(0)), transport.clone());
            let counter = writes.clone();
            let task = el.create_task(async move {
                while inner.ready().await.is_ok() {
                    inner.write(&[b'-'; 8 * 1024]);
                    counter.set(counter.get() + 1);
                    assert!(inner.write_buffer_size() <= (64 + 8) * 1024);
                }
            });
            assert_sleeps(el);
            let stalled = writes.get();
            assert!(stalled >= 8 && !task.is_done());
            run_until(el, || {
                peer.pump();
                writes.get() > stalled
            });
            transport.abort();
            until_lost(el, &record);
            complete(el, task).unwrap();
        }
    }

    /// Writing to a transport whose loop is closed does nothing.
    fn writing_after_the_loop_is_closed(el) {
        let record = Record::new();
        let (transport, peer) = connect_narrow(el, Net::Unix, Tap::new(&record));
        transport.write(&pattern(300_000));
        el.close();
        WAYS.iter().for_each(|way| way(&transport, b"too late"));
        assert_eq!(transport.write_buffer_size(), 0);
        assert!(transport.is_closing());
        peer.pump();
        assert_eq!(record.take(), ["made", "pause"][..1]);
    }
}

/// TT-18: from the fifth write to a lost connection on, a warning is logged.
#[test]
fn writes_to_a_lost_connection_are_warned_of() {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Lines {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(data)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    on_loop(|el| {
        // Not before the test is alone: a place that writes to `tracing` and is met for the first time on another thread,
        // at the moment at which a subscriber is made, would stay without it.
        tracing::subscriber::with_default(subscriber, || {
            let record = Record::new();
            let (transport, _peer) = connect(el, Net::Unix, Tap::new(&record));
            transport.abort();
            let count = || String::from_utf8_lossy(&lines.0.lock().unwrap()).matches("connection that is gone").count();
            for (done, way) in WAYS.iter().cycle().take(8).enumerate() {
                assert_eq!(count(), done.saturating_sub(4));
                way(&transport, b"x");
            }
            assert_eq!(count(), 4);
            until_lost(el, &record);
            transport.write(b"x");
            assert_eq!(count(), 5);
        });
    });
}

/// TT-09: bytes that were given are let go of as soon as they are sent, and those of a lost connection at once.
#[test]
fn given_bytes_are_let_go_of() {
    on_loop(|el| {
        let record = Record::new();
        let (transport, peer) = connect_narrow(el, Net::Unix, Tap::new(&record));
        let alive = Arc::new(());
        let owned = |size: usize| {
            struct Guarded(Vec<u8>, #[allow(dead_code)] Arc<()>);
            impl AsRef<[u8]> for Guarded {
                fn as_ref(&self) -> &[u8] {
                    &self.0
                }
            }
            Bytes::from_owner(Guarded(pattern(size), alive.clone()))
        };
        transport.write_owned(owned(10));
        assert_eq!(Arc::strong_count(&alive), 1);
        transport.write_owned(owned(300_000));
        transport.write_owned(owned(300_000));
        assert_eq!(Arc::strong_count(&alive), 3);
        run_until(el, || peer.count() > 350_000);
        assert!(Arc::strong_count(&alive) <= 2);
        transport.abort();
        assert_eq!(Arc::strong_count(&alive), 1);
        until_lost(el, &record);
    });
}

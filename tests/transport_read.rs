//! How a stream transport reads (behaviours TT, and the golden probes P16, P18, P22 and P23).

mod common;
mod wire;

use std::cell::Cell;
use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::rc::Rc;
use std::time::Duration;

use common::{Kind, complete, run_on, run_until, settle, take_reports};
use roundelay::{ContextVar, EventLoop, Transport};
use wire::{NETS, Net, Record, Tap, assert_sleeps, attach, connect, finish, pattern, sockets, until_lost};

on_every_loop! {
    /// TT-01: `connection_made` comes first, then whoever asked for the connection goes on, then bytes arrive that were
    /// there before.
    fn made_before_creator_before_data(el) {
        for net in NETS {
            let (near, far) = sockets(net);
            let peer = wire::Peer::new(far);
            peer.send(b"early");
            let record = Record::new();
            let (creator, handle) = (record.clone(), el.clone());
            let tap = Tap::new(&record);
            let task = el.create_task(async move {
                let (transport, _) = handle.create_connection(move || tap, near).await.unwrap();
                creator.note("creator");
                transport
            });
            run_until(el, || record.len() == 5);
            assert_eq!(record.take(), ["made", "creator", "data 5"], "{net:?}");
            let transport = complete(el, task).unwrap();
            finish(el, &transport, &record);
        }
    }

    /// TT-02: what is longer than 256 KiB comes in several pieces of at most that, complete and in order.
    fn pieces_of_at_most_256_kib(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::new(&record));
            let data = pattern(3_000_000);
            let mut sent = 0;
            run_until(el, || {
                sent += peer.send_some(&data[sent..]);
                record.len() == data.len()
            });
            assert!(record.bytes() == data);
            assert!(record.chunks().into_iter().all(|n| n <= 256 * 1024));
            finish(el, &transport, &record);
        }
    }

    /// TT-03: a read that would block is no error: somebody else took the bytes between the event and the read.
    fn a_read_that_would_block_is_silent(el) {
        for net in NETS {
            // Whichever of the two is told first takes the bytes of the other one.
            let record = Record::new();
            let (mut transports, mut peers) = (Vec::new(), Vec::new());
            let ends: Vec<_> = (0..2).map(|_| sockets(net)).collect();
            let dups: Vec<_> = ends.iter().map(|(near, _)| near.try_clone().unwrap()).collect();
            for ((near, far), stolen) in ends.into_iter().zip(dups.into_iter().rev()) {
                peers.push(wire::Peer::new(far));
                let tap = Tap::new(&record).on_data(move |_, _| {
                    let _ = (&stolen).read(&mut [0; 16]).unwrap();
                });
                transports.push(attach(el, near, tap).0);
            }
            record.take();
            peers.iter().for_each(|peer| peer.send(b"abc"));
            run_until(el, || record.len() > 0);
            settle(el);
            assert_eq!(record.take(), ["data 3"]);
            assert!(transports.iter().all(|transport| !transport.is_closing() && transport.is_reading()));
            transports.iter().for_each(Transport::abort);
            run_until(el, || record.lost() == 2);
        }
    }

    /// TT-04: a reset gives `connection_lost` with the error, and no end of file (P16).
    fn a_reset_is_an_error_and_no_eof(el) {
        let record = Record::new();
        let (_, peer) = connect(el, Net::Tcp, Tap::new(&record));
        peer.reset();
        until_lost(el, &record);
        assert_eq!(record.take(), ["made", "lost ConnectionReset"]);
    }

    /// TT-04: a unix peer that goes and has not read everything resets the connection as well.
    fn a_unix_peer_that_leaves_bytes_unread_resets(el) {
        let record = Record::new();
        let (transport, peer) = connect(el, Net::Unix, Tap::new(&record));
        transport.write(b"never read");
        peer.close();
        until_lost(el, &record);
        assert_eq!(record.take(), ["made", "lost ConnectionReset"]);
    }

    /// TT-04: bytes that came before the reset are delivered first.
    fn bytes_before_a_reset_are_delivered(el) {
        let record = Record::new();
        let (_, peer) = connect(el, Net::Tcp, Tap::new(&record));
        peer.send(b"last words");
        peer.reset();
        until_lost(el, &record);
        assert_eq!(record.take(), ["made", "data 10", "lost ConnectionReset"]);
    }

    /// TT-05: pausing and resuming twice is as good as once, `is_reading` follows, and both do nothing on a transport
    /// that is closing or gone.
    fn pause_and_resume_are_idempotent(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::new(&record));
            assert!(transport.is_reading());
            transport.pause_reading();
            transport.pause_reading();
            assert!(!transport.is_reading());
            peer.send(b"one");
            settle(el);
            assert_eq!(record.take(), ["made"]);
            transport.resume_reading();
            transport.resume_reading();
            assert!(transport.is_reading());
            run_until(el, || record.len() == 3);

            transport.close();
            assert!(!transport.is_reading());
            transport.pause_reading();
            transport.resume_reading();
            assert!(!transport.is_reading());
            until_lost(el, &record);
            transport.resume_reading();
            transport.pause_reading();
            transport.resume_reading();
            assert!(!transport.is_reading());
            settle(el);
            assert_eq!(record.take(), ["data 3", "lost"]);
        }
    }

    /// TT-05: what arrives while reading is paused again and again is neither lost nor delivered twice.
    fn nothing_is_lost_over_many_pauses(el) {
        for net in NETS {
            let record = Record::new();
            let tap = Tap::new(&record).on_data(|transport, _| transport.pause_reading());
            let (transport, peer) = connect(el, net, tap);
            let data = pattern(500_000);
            let mut sent = 0;
            run_until(el, || {
                let part = data.len().min(sent + 3_000);
                sent += peer.send_some(&data[sent..part]);
                transport.resume_reading();
                record.len() == data.len()
            });
            assert!(record.bytes() == data);
            finish(el, &transport, &record);
        }
    }

    /// TT-07: with reading paused, a peer that sends and closes is not heard of, and the loop sleeps; resumed, bytes,
    /// end of file and end come in that order (P23).
    fn a_peer_that_closes_while_paused_waits_for_resume(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::new(&record));
            transport.pause_reading();
            peer.send(b"ab");
            peer.close();
            assert_sleeps(el);
            assert_eq!(record.take(), ["made"]);
            transport.resume_reading();
            until_lost(el, &record);
            assert_eq!(record.take(), ["data 2", "eof", "lost"], "{net:?}");
        }
    }

    /// TT-07: the same when both halves are down, which is a hang-up that level-triggered selectors report for ever.
    fn a_hang_up_while_paused_does_not_spin(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::new(&record));
            transport.write_eof();
            transport.pause_reading();
            peer.send(b"abc");
            run_until(el, || peer.at_eof());
            peer.close();
            assert_sleeps(el);
            assert_sleeps(el);
            assert_eq!(record.take(), ["made"]);
            transport.resume_reading();
            until_lost(el, &record);
            assert_eq!(record.take(), ["data 3", "eof", "lost"], "{net:?}");
        }
    }

    /// TT-07: a reset while paused is not heard of, does not spin, and is an error once reading resumes.
    fn a_reset_while_paused_does_not_spin(el) {
        let record = Record::new();
        let (transport, peer) = connect(el, Net::Tcp, Tap::new(&record));
        transport.pause_reading();
        peer.reset();
        assert_sleeps(el);
        assert_eq!(record.take(), ["made"]);
        transport.resume_reading();
        until_lost(el, &record);
        assert_eq!(record.take(), ["lost ConnectionReset"]);
    }

    /// TT-27: an urgent byte neither breaks the stream nor spins the loop, and what follows it arrives though nothing
    /// comes after.
    fn urgent_data_leaves_the_stream_whole(el) {
        let record = Record::new();
        let (transport, peer) = connect(el, Net::Tcp, Tap::new(&record));
        for round in 1..=3 {
            peer.send(b"before");
            peer.socket.send_out_of_band(b"!").unwrap();
            peer.send(b"after");
            run_until(el, || record.len() == 11 * round);
            assert_sleeps(el);
        }
        assert_eq!(record.bytes(), b"beforeafter".repeat(3));
        peer.socket.send_out_of_band(b"!").unwrap();
        assert_sleeps(el);
        peer.send(b"end");
        peer.close();
        until_lost(el, &record);
        assert_eq!(record.take(), ["made", "data 36", "eof", "lost"]);
        assert!(transport.is_closing());
    }

    /// TT-27: a unix peer may pass descriptors, at which a read stops short: what follows arrives, and the descriptors
    /// are closed.
    fn passed_descriptors_leave_the_stream_whole(el) {
        let record = Record::new();
        let (transport, peer) = connect(el, Net::Unix, Tap::new(&record));
        let before = common::open_descriptors();
        for round in 1..=3 {
            send_descriptor(peer.socket.as_fd(), b"with", peer.socket.as_fd());
            peer.send(b"without");
            send_descriptor(peer.socket.as_fd(), b"x", peer.socket.as_fd());
            peer.send(b"y");
            run_until(el, || record.len() == 13 * round);
            assert_sleeps(el);
        }
        assert_eq!(record.bytes(), b"withwithoutxy".repeat(3));
        assert_eq!(common::open_descriptors(), before);
        finish(el, &transport, &record);
    }

    /// TT-30: with reading stopped, neither bytes nor a hang-up reach the protocol, and closing then is an orderly end.
    fn stopped_reading_hears_nothing_at_all(el) {
        for net in NETS {
            let record = Record::new();
            let tap = Tap::new(&record).on_data(|transport, _| transport.pause_reading());
            let (transport, peer) = connect(el, net, tap);
            peer.send(b"first");
            run_until(el, || record.len() == 5);
            peer.send(b"second");
            peer.close();
            assert_sleeps(el);
            assert_eq!(record.take(), ["made", "data 5"]);
            transport.close();
            until_lost(el, &record);
            assert_eq!(record.take(), ["lost"]);
        }
    }

    /// TT-31: a peer that sends 51 bytes and closes at once: the bytes, the end of file, the end.
    fn bytes_before_a_hang_up_all_arrive(el) {
        for net in NETS {
            let record = Record::new();
            let (_, peer) = connect(el, net, Tap::new(&record));
            peer.send(&pattern(51));
            peer.close();
            until_lost(el, &record);
            assert_eq!(record.bytes(), pattern(51));
            assert_eq!(record.take(), ["made", "data 51", "eof", "lost"], "{net:?}");
        }
    }

    /// TT-31: so do as many bytes as the kernel holds.
    fn a_full_buffer_before_a_hang_up_arrives(el) {
        for net in NETS {
            let record = Record::new();
            let (_, peer) = connect(el, net, Tap::new(&record));
            let data = pattern(8 << 20);
            let mut sent = 0;
            loop {
                let n = peer.send_some(&data[sent..]);
                sent += n;
                if n == 0 {
                    break;
                }
            }
            assert!(sent > 100_000);
            peer.close();
            until_lost(el, &record);
            assert!(record.bytes() == data[..sent]);
            assert_eq!(record.take(), ["made".into(), format!("data {sent}"), "eof".into(), "lost".into()]);
        }
    }

    /// TT-31: bytes and end of file that were there before the transport was.
    fn a_peer_that_was_gone_before(el) {
        for net in NETS {
            let (near, far) = sockets(net);
            let peer = wire::Peer::new(far);
            peer.send(b"hello");
            peer.close();
            let record = Record::new();
            attach(el, near, Tap::new(&record));
            until_lost(el, &record);
            assert_eq!(record.take(), ["made", "data 5", "eof", "lost"]);
        }
    }

    /// P22: paused in `connection_made`, bytes that are there already are delivered after resuming, and only then.
    fn paused_in_connection_made(el) {
        for net in NETS {
            let (near, far) = sockets(net);
            let peer = wire::Peer::new(far);
            peer.send(b"early");
            let record = Record::new();
            let (transport, _) = attach(el, near, Tap::new(&record).on_made(Transport::pause_reading));
            assert!(!transport.is_reading());
            assert_sleeps(el);
            assert_eq!(record.take(), ["made"]);
            transport.resume_reading();
            assert!(record.is_silent());
            run_until(el, || record.len() == 5);
            assert_eq!(record.take(), ["data 5"]);
            finish(el, &transport, &record);
        }
    }

    /// P17: a panic in `data_received` is reported and ends the connection with that error.
    fn a_panic_in_data_received_ends_the_connection(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::new(&record).on_data(|_, _| panic!("bad bytes")));
            peer.send(b"x");
            until_lost(el, &record);
            assert_eq!(record.take(), ["made", "data 1", "lost Other"]);
            let reports = take_reports();
            assert_eq!(reports.len(), 1);
            assert!(reports[0].starts_with("Fatal error: protocol.data_received() call failed.: bad bytes"), "{reports:?}");
            assert!(reports[0].contains("<protocol") && reports[0].contains("<Transport"), "{reports:?}");
            assert!(transport.is_closing());
        }
    }

    /// P17: so does a panic in `eof_received`.
    fn a_panic_in_eof_received_ends_the_connection(el) {
        let record = Record::new();
        let (_, peer) = connect(el, Net::Unix, Tap::new(&record).on_eof(|_| panic!("no end")));
        peer.send_eof();
        until_lost(el, &record);
        assert_eq!(record.take(), ["made", "eof", "lost Other"]);
        let reports = take_reports();
        assert_eq!(reports.len(), 1);
        assert!(reports[0].starts_with("Fatal error: protocol.eof_received() call failed.: no end"), "{reports:?}");
    }

    /// P18: a panic in `connection_made` is reported, and the connection goes on.
    fn a_panic_in_connection_made_is_survived(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::new(&record).on_made(|_| panic!("not today")));
            assert!(!transport.is_closing());
            let reports = take_reports();
            assert_eq!(reports.len(), 1);
            assert!(reports[0].starts_with("Exception in callback connection_made: not today"), "{reports:?}");
            peer.send(b"data");
            run_until(el, || record.len() == 4);
            transport.write(b"back");
            run_until(el, || peer.received() == b"back");
            assert_eq!(record.take(), ["made", "data 4"]);
            finish(el, &transport, &record);
        }
    }

    /// Whatever happens in a callback that panics: what was written before it is sent, and the loop goes on.
    fn a_panic_does_not_disturb_the_others(el) {
        let (first, second) = (Record::new(), Record::new());
        let tap = Tap::new(&first).on_data(|transport, _| {
            transport.write(b"so far");
            panic!("no further");
        });
        let (_, one) = connect(el, Net::Unix, tap);
        let (other, two) = connect(el, Net::Unix, Tap::new(&second));
        one.send(b"x");
        two.send(b"y");
        run_until(el, || first.is_lost() && second.len() == 1);
        assert_eq!(one.received(), b"so far");
        assert_eq!(take_reports().len(), 1);
        finish(el, &other, &second);
    }

    /// CX-08, gh-140947 of asyncio: whoever resumes reading, callbacks run in the context in which the connection was made.
    fn the_context_of_whoever_resumes_does_not_leak(el) {
        static WHO: ContextVar<&str> = ContextVar::new("who");
        for net in NETS {
            let record = Record::new();
            let (seen, seen_lost) = (record.clone(), record.clone());
            let tap = Tap::new(&record)
                .on_made(Transport::pause_reading)
                .on_data(move |_, _| seen.note(WHO.get().unwrap_or("nobody")))
                .on_lost(move |_| seen_lost.note(WHO.get().unwrap_or("nobody")));
            let (near, far) = sockets(net);
            let (peer, handle) = (wire::Peer::new(far), el.clone());
            let task = el.create_task(async move {
                WHO.set("creator");
                handle.create_connection(|| tap, near).await.unwrap().0
            });
            let transport = complete(el, task).unwrap();
            peer.send(b"x");
            settle(el);
            let resumed = transport.clone();
            let task = el.create_task(async move {
                WHO.set("resumer");
                resumed.resume_reading();
                resumed.write(b"y");
            });
            complete(el, task).unwrap();
            run_until(el, || record.len() == 1);
            transport.close();
            until_lost(el, &record);
            assert_eq!(record.take(), ["made", "data 1", "creator", "lost", "creator"]);
            assert_eq!(WHO.get(), None);
        }
    }

    /// A context variable that one callback sets is there in the next one of the same connection, and nowhere else.
    fn callbacks_of_a_connection_share_a_context(el) {
        static COUNT: ContextVar<u32> = ContextVar::new("count");
        let record = Record::new();
        let log = record.clone();
        let tap = Tap::new(&record).on_made(|_| drop(COUNT.set(1))).on_data(move |_, _| {
            let count = COUNT.get().unwrap();
            log.note(count.to_string());
            COUNT.set(count + 1);
        });
        let (transport, peer) = connect(el, Net::Unix, tap);
        for _ in 0..2 {
            peer.send(b"x");
            settle(el);
        }
        assert_eq!(record.take(), ["made", "data 1", "1", "data 1", "2"]);
        assert_eq!(COUNT.get(), None);
        finish(el, &transport, &record);
    }

    /// TT-22: a protocol that is replaced within its own callback hears nothing more; the new one hears the rest, without
    /// `connection_made`, and `protocol()` tells at once.
    fn the_protocol_can_be_replaced_within_its_callback(el) {
        for net in NETS {
            let (first, second) = (Record::new(), Record::new());
            let next = roundelay::ProtocolRef::new(Tap::new(&second));
            let tap = Tap::new(&first).on_data(move |transport, _| {
                transport.set_protocol(next.clone());
                assert!(transport.protocol().unwrap().downcast::<Tap>().is_some());
                assert!(transport.protocol().unwrap().is_same(&next.clone().into()));
            });
            let (transport, peer) = connect(el, net, tap);
            peer.send(b"old");
            run_until(el, || first.len() == 3);
            peer.send(b"new!");
            peer.close();
            until_lost(el, &second);
            assert_eq!(first.take(), ["made", "data 3"]);
            assert_eq!(second.take(), ["data 4", "eof", "lost"]);
            assert!(transport.protocol().is_none());
        }
    }

    /// TT-22: replaced from a task, and from every kind of callback.
    fn the_protocol_can_be_replaced_from_anywhere(el) {
        let records: Vec<Record> = (0..5).map(|_| Record::new()).collect();
        let last = Tap::new(&records[4]);
        let fourth = Tap::new(&records[3]).on_resume(once(move |transport| transport.set_protocol(last)));
        let third = Tap::new(&records[2]).on_pause(once(move |transport| transport.set_protocol(fourth)));
        let second = Tap::new(&records[1]).on_data({
            let mut third = Some(third);
            move |transport, _| third.take().into_iter().for_each(|third| transport.set_protocol(third))
        });
        let (transport, peer) = wire::connect_narrow(el, Net::Unix, Tap::new(&records[0]));
        let task_transport = transport.clone();
        complete(el, el.create_task(async move { task_transport.set_protocol(second) })).unwrap();
        peer.send(b"x");
        run_until(el, || records[1].len() == 1);
        transport.write(&pattern(200_000));
        run_until(el, || {
            peer.pump();
            records[3].has("resume")
        });
        transport.close();
        run_until(el, || {
            peer.pump();
            records[4].is_lost()
        });
        assert_eq!(records[0].take(), ["made"]);
        assert_eq!(records[1].take(), ["data 1"]);
        assert_eq!(records[2].take(), ["pause"]);
        // It has not been told, so it is.
        assert_eq!(records[3].take(), ["pause", "resume"]);
        assert_eq!(records[4].take(), ["lost"]);
        assert!(peer.received() == pattern(200_000));
    }

    /// A protocol whose destructor panics, replaced or let go of at the end: reported, and the loop goes on.
    fn a_panic_in_a_protocols_destructor_is_reported(el) {
        let record = Record::new();
        let next = Tap::new(&record).on_drop(|| panic!("last"));
        let tap = Tap::new(&record)
            .on_data({
                let mut next = Some(next);
                move |transport, _| next.take().into_iter().for_each(|next| transport.set_protocol(next))
            })
            .on_drop(|| panic!("first"));
        let (near, far) = sockets(Net::Unix);
        let peer = wire::Peer::new(far);
        let handle = el.clone();
        let transport = complete(el, async move {
            // The reference to the protocol is dropped, so that the transport has the only one.
            handle.create_connection(|| tap, near).await.unwrap().0
        });
        peer.send(b"x");
        run_until(el, || record.len() == 1);
        settle(el);
        let reports = take_reports();
        assert_eq!(reports.len(), 1);
        assert!(reports[0].starts_with("Exception in the destructor of a protocol: first"), "{reports:?}");
        transport.close();
        until_lost(el, &record);
        let reports = take_reports();
        assert_eq!(reports.len(), 1);
        assert!(reports[0].starts_with("Exception in the destructor of a protocol: last"), "{reports:?}");
        assert_eq!(transport.extra_info().socket.unwrap().raw_fd(), None);
    }
}

/// A callback that runs once, of a closure that gives something away.
fn once(f: impl FnOnce(&Transport) + 'static) -> impl FnMut(&Transport) + 'static {
    let mut f = Some(f);
    move |transport| f.take().into_iter().for_each(|f| f(transport))
}

/// Sends bytes and a descriptor along with them.
fn send_descriptor(socket: BorrowedFd<'_>, bytes: &[u8], fd: BorrowedFd<'_>) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    assert_eq!(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap(), bytes.len());
}

/// An endless stream: whenever some of it was read, there is more.
fn endless(record: &Record, far: Rc<wire::Peer>, reads: Rc<Cell<usize>>) -> Tap {
    let block = vec![7; 64 * 1024];
    Tap::new(record).on_data(move |_, _| {
        reads.set(reads.get() + 1);
        far.send_some(&block);
    })
}

on_every_loop! {
    /// LU-01: a peer that sends without end does not keep timers and callbacks from running: between two turns of a
    /// callback that schedules itself the transport reads 16 times at most.
    fn an_endless_stream_starves_nobody(el) {
        for net in NETS {
            let (record, reads) = (Record::new(), Rc::new(Cell::new(0)));
            let (near, far) = sockets(net);
            let far = Rc::new(wire::Peer::new(far));
            let (transport, _) = attach(el, near, endless(&record, far.clone(), reads.clone()));
            let (turns, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
            tick(el.clone(), reads.clone(), turns.clone(), most.clone(), 0);
            let timer = el.call_later(Duration::from_millis(2), || ());
            far.send(&[1; 1000]);
            run_until(el, || turns.get() > 300 && reads.get() > 100);
            run_until(el, || timer.is_done());
            assert!(most.get() <= 16, "{} reads in one turn", most.get());
            transport.abort();
            until_lost(el, &record);
        }
    }

    /// LU-01: two endless streams get the same share, nearly.
    fn endless_streams_share(el) {
        let (record, mut all) = (Record::new(), Vec::new());
        for _ in 0..2 {
            let reads = Rc::new(Cell::new(0));
            let (near, far) = sockets(Net::Unix);
            let far = Rc::new(wire::Peer::new(far));
            let (transport, _) = attach(el, near, endless(&record, far.clone(), reads.clone()));
            far.send(&[1; 1000]);
            all.push((transport, reads, far));
        }
        run_until(el, || all.iter().any(|(_, reads, _)| reads.get() >= 1600));
        assert!(all.iter().all(|(_, reads, _)| reads.get() >= 1400));
        all.iter().for_each(|(transport, _, _)| transport.abort());
        run_until(el, || record.lost() == 2);
    }
}

/// Counts the turns, and the most reads between two of them, until the loop is left.
fn tick(el: EventLoop, reads: Rc<Cell<usize>>, turns: Rc<Cell<usize>>, most: Rc<Cell<usize>>, before: usize) {
    if turns.get() > 300 && reads.get() > 100 {
        return;
    }
    turns.set(turns.get() + 1);
    let now = reads.get();
    most.set(most.get().max(now - before));
    let again = el.clone();
    el.call_soon(move || tick(again, reads, turns, most, now));
}

/// TT-01: on a loop that asks the selector in each turn, the bytes come in a turn of their own behind the creator's.
#[test]
fn order_of_creation_on_a_strict_loop() {
    for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
        run_on(
            || kind.builder().event_interval(1),
            |el| {
                let (near, far) = sockets(Net::Unix);
                let peer = wire::Peer::new(far);
                peer.send(b"x");
                let record = Record::new();
                let (handle, log, tap) = (el.clone(), record.clone(), Tap::new(&record));
                let task = el.create_task(async move {
                    log.note("begin");
                    let (transport, _) = handle.create_connection(|| tap, near).await.unwrap();
                    log.note("creator");
                    transport
                });
                run_until(el, || record.len() == 1);
                assert_eq!(record.take(), ["begin", "made", "creator", "data 1"]);
                let transport = complete(el, task).unwrap();
                finish(el, &transport, &record);
            },
        );
    }
}

/// The transport's descriptor is the one that it was given.
#[test]
fn the_given_socket_is_used() {
    common::on_loop(|el| {
        let (near, _far) = sockets(Net::Tcp);
        let fd = near.as_raw_fd();
        let record = Record::new();
        let (transport, _) = attach(el, near, Tap::new(&record));
        assert_eq!(transport.extra_info().socket.unwrap().raw_fd(), Some(fd));
        finish(el, &transport, &record);
        assert_eq!(transport.extra_info().socket.unwrap().raw_fd(), None);
    });
}

//! Files over transports (behaviours SF): what goes out, in which order, and what the transport does meanwhile.

#[path = "common/files.rs"]
mod files;

mod common;
mod wire;

use std::cell::{Cell, OnceCell};
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::Duration;

use common::{complete, on_loop, on_manual_clock, run_until, settle, take_reports};
use files::{drain, file, position, set_position};
use roundelay::{EventLoop, InvalidState, Transport};
use wire::{NETS, Net, Peer, Record, Tap, assert_sleeps, connect, connect_narrow, finish, pattern, until_lost};

/// More than any pair of sockets here buffers.
const LARGE: usize = 3_000_000;

/// Runs the loop until the peer has read so many bytes.
#[track_caller]
fn until_received(el: &EventLoop, peer: &Peer, n: usize) {
    run_until(el, || peer.count() >= n);
}

/// What a misuse says.
#[track_caller]
fn assert_misuse(error: &io::Error, text: &str) {
    assert!(error.get_ref().is_some_and(|error| error.is::<InvalidState>()), "{error:?}");
    assert!(error.to_string().contains(text), "{error}");
    assert!(error.to_string().starts_with("EventLoop::sendfile(): "), "{error}");
}

on_every_loop! {
    /// SF-10: what was written before comes before the file, what is written afterwards behind it.
    fn keeps_the_order_of_what_is_written_around_it(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::new(&record));
            let data = pattern(LARGE);
            let file = file(&data);
            transport.write(b"before ");
            let sending = el.create_task(el.sendfile(&transport, &file).into_future());
            until_received(el, &peer, 7 + LARGE);
            assert_eq!(complete(el, sending).unwrap().unwrap(), LARGE as u64);
            assert_eq!(position(&file), LARGE as u64);
            transport.write(b" behind");
            until_received(el, &peer, 14 + LARGE);
            assert!(peer.received() == [b"before ", &data[..], b" behind"].concat());
            assert_eq!(record.take(), ["made"]);
            assert_sleeps(el);
            finish(el, &transport, &record);
        }
    }

    /// SF-17: with something queued the file waits until it is sent, whole; nothing overtakes.
    fn waits_for_what_is_queued(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
            let (queued, data) = (pattern(400_000), pattern(100_000));
            let file = file(&data);
            transport.write(&queued);
            let sending = el.create_task(el.sendfile(&transport, &file).into_future());
            settle(el);
            assert!(transport.write_buffer_size() > 0);
            // Nobody reads: nothing happens, and nothing spins.
            assert_sleeps(el);
            assert!(!sending.is_done());
            until_received(el, &peer, queued.len() + data.len());
            assert_eq!(complete(el, sending).unwrap().unwrap(), data.len() as u64);
            assert!(peer.received() == [queued, data].concat());
            // The queue has drained before the file went.
            assert_eq!(record.take(), ["made", "pause", "resume"]);
            finish(el, &transport, &record);
        }
    }

    /// SF-17: a queue that takes more than one event's share to send.
    fn waits_for_a_long_queue(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::new(&record));
            let head = pattern(8_000_000);
            transport.write(&head);
            assert!(transport.write_buffer_size() > 0);
            // Pieces that are never joined: one system call takes a thousand of them.
            let pieces = 40_000;
            for _ in 0..pieces {
                transport.write_owned(&b"+"[..]);
            }
            let file = file(b"a file");
            let sending = el.create_task(el.sendfile(&transport, &file).into_future());
            until_received(el, &peer, head.len() + pieces + 6);
            assert_eq!(complete(el, sending).unwrap().unwrap(), 6);
            assert!(peer.received().ends_with(b"++a file"));
            finish(el, &transport, &record);
        }
    }

    /// SF-02: `offset` and `count` choose the part, and the position is behind it; a count beyond the end sends what
    /// there is.
    fn sends_a_part(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::new(&record));
            let data = pattern(10_000);
            let file = file(&data);
            assert_eq!(complete(el, el.sendfile(&transport, &file).offset(1000).count(2000).into_future()).unwrap(), 2000);
            assert_eq!(position(&file), 3000);
            // Without an offset it begins at the first byte, wherever the position is.
            assert_eq!(complete(el, el.sendfile(&transport, &file).count(500).into_future()).unwrap(), 500);
            assert_eq!(position(&file), 500);
            assert_eq!(complete(el, el.sendfile(&transport, &file).offset(9000).count(5000).into_future()).unwrap(), 1000);
            assert_eq!(position(&file), 10_000);
            let sent = [&data[1000..3000], &data[..500], &data[9000..]].concat();
            until_received(el, &peer, sent.len());
            assert!(peer.received() == sent);
            finish(el, &transport, &record);
        }
    }

    /// SF-03: an empty file, and what is behind the end of one, is zero bytes; the transport goes on.
    fn sends_nothing(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::new(&record));
            for (file, offset) in [(file(b""), 0), (file(b"abc"), 3), (file(b"abc"), 1_000_000)] {
                assert_eq!(complete(el, el.sendfile(&transport, &file).offset(offset).into_future()).unwrap(), 0);
                assert_eq!(position(&file), offset);
            }
            transport.write(b"on");
            assert_eq!(peer.received(), b"on");
            finish(el, &transport, &record);
        }
    }

    /// SF-05: a count of zero and an offset that no file has are refused before anything is touched.
    fn refuses_what_cannot_be(el) {
        let record = Record::new();
        let (transport, peer) = connect(el, Net::Tcp, Tap::new(&record));
        let file = file(b"abc");
        set_position(&file, 2);
        let error = complete(el, el.sendfile(&transport, &file).count(0).into_future()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "EventLoop::sendfile(): count() must be a positive number of bytes");
        let error = complete(el, el.sendfile(&transport, &file).offset(u64::MAX).into_future()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), format!("EventLoop::sendfile(): no file has an offset of {}", u64::MAX));
        assert_eq!(position(&file), 2);
        assert_eq!(peer.count(), 0);
        finish(el, &transport, &record);
    }

    /// SF-12: a transport that is closing or gone takes no file, and neither does one behind `write_eof`.
    fn refuses_a_transport_that_is_closing(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
            let file = file(b"abc");
            set_position(&file, 1);
            transport.write(&pattern(300_000));
            transport.close();
            for _ in 0..2 {
                let error = complete(el, el.sendfile(&transport, &file).into_future()).unwrap_err();
                assert_misuse(&error, "Transport is closing");
                assert_eq!(position(&file), 1);
                run_until(el, || peer.at_eof() && record.is_lost());
            }
            assert_eq!(peer.count(), 300_000);

            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::half_open(&record));
            transport.write_eof();
            let error = complete(el, el.sendfile(&transport, &file).into_future()).unwrap_err();
            assert_misuse(&error, "cannot send a file after write_eof()");
            assert!(peer.at_eof());
            // It is as it was otherwise.
            peer.send(b"still");
            run_until(el, || record.len() == 5);
            finish(el, &transport, &record);
        }
    }

    /// While a file is sent nothing else can be written: it is reported each time and dropped. A second file is
    /// refused.
    fn refuses_writes_meanwhile(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
            let data = pattern(LARGE);
            let (first, second) = (file(&data), file(b"second"));
            let sending = el.create_task(el.sendfile(&transport, &first).into_future());
            run_until(el, || peer.sip(10_000) > 0);
            transport.write(b"no");
            transport.write_owned(&b"no"[..]);
            transport.writelines(&[IoSlice::new(b"n"), IoSlice::new(b"o")]);
            let reports = take_reports();
            assert_eq!(reports.len(), 3, "{reports:?}");
            for report in reports {
                assert!(report.contains("Transport::write(): unable to write; sendfile is in progress"), "{report}");
            }
            let error = complete(el, el.sendfile(&transport, &second).into_future()).unwrap_err();
            assert_misuse(&error, "another sendfile is in progress on this transport");
            assert_eq!(position(&second), 0);
            until_received(el, &peer, LARGE);
            assert_eq!(complete(el, sending).unwrap().unwrap(), LARGE as u64);
            transport.write(b"yes");
            until_received(el, &peer, LARGE + 3);
            assert!(peer.received() == [&data[..], b"yes"].concat());
            finish(el, &transport, &record);
        }
    }

    /// SF-16: nothing is received while a file is sent; afterwards all that came, and the end of file.
    fn holds_up_reading(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, net, Tap::half_open(&record));
            let file = file(&pattern(LARGE));
            let sending = el.create_task(el.sendfile(&transport, &file).into_future());
            settle(el);
            assert!(!transport.is_reading());
            peer.send(b"hello");
            peer.send_eof();
            assert_sleeps(el);
            assert_eq!(record.take(), ["made"]);
            until_received(el, &peer, LARGE);
            complete(el, sending).unwrap().unwrap();
            run_until(el, || record.has("eof"));
            assert_eq!(record.take(), ["data 5", "eof"]);
            finish(el, &transport, &record);
        }
    }

    /// SF-16: reading that was paused before stays paused; what is asked for meanwhile counts afterwards.
    fn restores_reading_to_what_was_asked_for(el) {
        // Whether reading is paused before, what is done meanwhile, and whether it is on afterwards.
        type Act = fn(&Transport);
        let cases: [(bool, Act, bool); 5] = [
            (true, |_| (), false),
            (true, |transport| transport.resume_reading(), true),
            (false, |transport| transport.pause_reading(), false),
            (false, |transport| { transport.pause_reading(); transport.resume_reading(); }, true),
            (true, |transport| { transport.resume_reading(); transport.pause_reading(); }, false),
        ];
        for net in NETS {
            for (paused, meanwhile, on) in cases {
                let record = Record::new();
                let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
                if paused {
                    transport.pause_reading();
                }
                let file = file(&pattern(LARGE));
                let sending = el.create_task(el.sendfile(&transport, &file).into_future());
                settle(el);
                meanwhile(&transport);
                peer.send(b"hello");
                settle(el);
                assert!(!transport.is_reading() && record.len() == 0);
                until_received(el, &peer, LARGE);
                complete(el, sending).unwrap().unwrap();
                assert_eq!(transport.is_reading(), on);
                settle(el);
                assert_eq!(record.len(), if on { 5 } else { 0 });
                transport.resume_reading();
                run_until(el, || record.len() == 5);
                finish(el, &transport, &record);
            }
        }
    }

    /// `close` waits for the file as for what is queued; then the connection is lost without an error.
    fn closes_behind_the_file(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
            let data = pattern(LARGE);
            let file = file(&data);
            let sending = el.create_task(el.sendfile(&transport, &file).into_future());
            run_until(el, || peer.sip(10_000) > 0);
            transport.close();
            assert!(transport.is_closing());
            assert_sleeps(el);
            assert!(!record.is_lost());
            until_received(el, &peer, LARGE);
            assert_eq!(complete(el, sending).unwrap().unwrap(), LARGE as u64);
            run_until(el, || record.is_lost() && peer.at_eof());
            assert!(peer.received() == data);
            assert_eq!(record.take(), ["made", "lost"]);
        }
    }

    /// `write_eof` comes behind the file, too, and the connection goes on in the other direction.
    fn ends_writing_behind_the_file(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
            let data = pattern(LARGE);
            let file = file(&data);
            let sending = el.create_task(el.sendfile(&transport, &file).into_future());
            run_until(el, || peer.sip(10_000) > 0);
            transport.write_eof();
            run_until(el, || peer.at_eof());
            assert!(peer.received() == data);
            assert_eq!(complete(el, sending).unwrap().unwrap(), LARGE as u64);
            peer.send(b"thanks");
            run_until(el, || record.len() == 6);
            finish(el, &transport, &record);
        }
    }

    /// Dropped half-way, the position tells how far it came, and the transport is as it was.
    fn gives_up_when_it_is_dropped(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
            let data = pattern(LARGE);
            let file = file(&data);
            let sending = el.create_task(el.sendfile(&transport, &file).into_future());
            settle(el);
            assert!(sending.cancel());
            settle(el);
            let sent = position(&file) as usize;
            assert!(sent > 0 && sent < LARGE, "{sent}");
            assert!(transport.is_reading());
            transport.write(b"on");
            peer.send(b"hello");
            until_received(el, &peer, sent + 2);
            assert!(peer.received() == [&data[..sent], b"on"].concat());
            run_until(el, || record.len() == 5);
            assert_sleeps(el);
            finish(el, &transport, &record);
        }
    }

    /// Dropped while it still waits for what is queued, nothing of it is sent; `close` and `write_eof` that were
    /// called meanwhile take effect.
    fn gives_up_before_it_has_begun(el) {
        type Act = fn(&Transport);
        let acts: [Act; 3] = [|_| (), |transport| transport.close(), |transport| transport.write_eof()];
        for net in NETS {
            for (i, act) in acts.into_iter().enumerate() {
                let record = Record::new();
                let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
                let queued = pattern(300_000);
                let file = file(b"abc");
                set_position(&file, 3);
                transport.write(&queued);
                let sending = el.create_task(el.sendfile(&transport, &file).into_future());
                settle(el);
                act(&transport);
                drop(sending.cancel_on_drop());
                settle(el);
                assert_eq!(position(&file), 0);
                if i == 0 {
                    transport.write(b"on");
                    until_received(el, &peer, queued.len() + 2);
                } else {
                    run_until(el, || peer.at_eof());
                }
                assert!(peer.received().starts_with(&queued));
                assert_eq!(peer.count(), queued.len() + if i == 0 { 2 } else { 0 });
                if i == 1 {
                    until_lost(el, &record);
                } else {
                    finish(el, &transport, &record);
                }
            }
        }
    }

    /// A file to a peer that takes everything at once does not keep the others waiting.
    fn is_fair(el) {
        for net in NETS {
            let record = Record::new();
            let (near, far) = wire::sockets(net);
            let (transport, _) = wire::attach(el, near, Tap::new(&record));
            let file = tempfile::tempfile().unwrap();
            file.set_len(64 << 20).unwrap();
            let drained = drain(far);
            let turns = Rc::new(Cell::new(0));
            let counted = turns.clone();
            let others = el.create_task(async move {
                loop {
                    counted.set(counted.get() + 1);
                    roundelay::yield_now().await;
                }
            });
            // In a task, and where there is no task that has a budget.
            let sending = el.create_task(el.sendfile(&transport, &file).count(32 << 20).into_future());
            assert_eq!(complete(el, sending).unwrap().unwrap(), 32 << 20);
            assert!(turns.take() >= 7, "in a task");
            let sending = el.sendfile(&transport, &file).count(32 << 20);
            assert_eq!(el.run_until_complete(sending).unwrap().unwrap(), 32 << 20);
            assert!(turns.take() >= 7, "in the main future");
            drop(others.cancel_on_drop());
            transport.close();
            until_lost(el, &record);
            assert_eq!(drained.join().unwrap().unwrap(), 64 << 20);
        }
    }
}

/// SF-16: a protocol that was told to pause writing is told to resume as soon as what it wrote is sent, and hears nothing
/// of the file.
#[test]
fn tells_of_the_queue_and_not_of_the_file() {
    on_loop(|el| {
        let record = Record::new();
        let (transport, peer) = connect_narrow(el, Net::Tcp, Tap::new(&record));
        transport.set_write_buffer_limits(1000, 500).unwrap();
        transport.write(&pattern(300_000));
        settle(el);
        assert_eq!(record.take(), ["made", "pause"]);
        let file = file(&pattern(LARGE));
        for fallback in [false, true] {
            let sending = el.create_task(el.sendfile(&transport, &file).fallback(fallback).into_future());
            until_received(el, &peer, 300_000);
            run_until(el, || fallback || record.has("resume"));
            assert!(!sending.is_done());
            run_until(el, || peer.count() > 0 && sending.is_done());
            complete(el, sending).unwrap().unwrap();
        }
        assert_eq!(record.take(), ["resume"]);
        finish(el, &transport, &record);
    });
}

/// A connection on which a file moves is not an idle one; one on which it does not move is, and the sender hears of it.
#[test]
fn counts_as_activity() {
    on_manual_clock(|el, clock| {
        let (record, transport) = (Record::new(), Rc::new(OnceCell::new()));
        let (made, kept) = (record.clone(), transport.clone());
        let factory = move || {
            let kept = kept.clone();
            Tap::new(&made).on_made(move |transport| kept.set(transport.clone()).unwrap())
        };
        let limit = Duration::from_secs(10);
        let server = el.create_server(factory, ("127.0.0.1", 0)).idle_timeout(limit);
        let server = complete(el, server.into_future()).unwrap();
        let client = std::net::TcpStream::connect(server.local_addrs()[0]).unwrap();
        let peer = Peer::new(client.into());
        run_until(el, || record.has("made"));
        // The kernel would give it more and more.
        peer.socket.set_recv_buffer_size(1 << 20).unwrap();
        let file = file(&pattern(64 << 20));
        let sending = el.create_task(el.sendfile(transport.get().unwrap(), &file).into_future());
        for _ in 0..4 {
            settle(el);
            clock.advance(Duration::from_secs(6));
            // More than the kernel holds, so that the transport has to send on.
            let mut taken = 0;
            run_until(el, || {
                taken += peer.sip(1 << 20);
                taken >= 12 << 20
            });
            assert!(!record.is_lost());
        }
        // What the peer has taken last may still move something.
        run_until(el, || {
            clock.advance(limit);
            sending.is_done()
        });
        let error = complete(el, sending).unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        until_lost(el, &record);
        assert_eq!(record.take(), ["made", "lost TimedOut"]);
        server.close();
        complete(el, server.wait_closed());
    });
}

/// The loop of the transport is the one to await it in, and it must be open.
#[test]
fn belongs_to_its_loop() {
    on_loop(|el| {
        let record = Record::new();
        let (transport, _peer) = connect(el, Net::Tcp, Tap::new(&record));
        let file = file(b"abc");
        let other = EventLoop::new().unwrap();
        let error = other.run_until_complete(other.sendfile(&transport, &file)).unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let text = format!("a transport of loop {} is used in loop {}", el.id(), other.id());
        assert!(error.to_string().ends_with(&text), "{error}");
        other.close();
        let error = complete(el, other.sendfile(&transport, &file).into_future()).unwrap_err();
        assert!(error.get_ref().is_some_and(|error| error.is::<roundelay::LoopClosed>()), "{error}");
        assert!(transport.is_reading());
        finish(el, &transport, &record);
    });
}

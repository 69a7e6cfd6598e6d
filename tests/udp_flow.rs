//! Datagrams that wait to be sent: order, flow control, the end. And many at once: nobody is kept waiting by them.
//!
//! Unix sockets have a queue that can be filled; on the loopback of the internet nothing ever waits.

mod common;
#[path = "common/datagrams.rs"]
mod datagrams;

use std::cell::{Cell, RefCell};
use std::os::unix::net::UnixDatagram;
use std::rc::Rc;
use std::time::Duration;

use common::{DropCounter, Log, complete, on_manual_clock, run_until, settle, take_reports};
use datagrams::{
    Echo, Idle, LOOPBACK, Recorder, bound, close, drain, local, over, plain, receive, unix_pair, unix_path,
};
use roundelay::{Address, DatagramHandle, DatagramProtocol, EventLoop, WaterMarks};

/// Sends numbered datagrams until some wait, and then so many more; gives how many there are.
fn fill(handle: &DatagramHandle, to: Option<&Address>, more: usize) -> usize {
    let mut sent = 0;
    while handle.write_buffer_size() == 0 {
        handle.sendto(format!("{sent}").as_bytes(), to);
        sent += 1;
        assert!(sent < 10_000, "there is no end to the room");
    }
    for _ in 0..more {
        handle.sendto(format!("{sent}").as_bytes(), to);
        sent += 1;
    }
    sent
}

fn numbers(upto: usize) -> Vec<Vec<u8>> {
    (0..upto).map(|n| n.to_string().into_bytes()).collect()
}

/// Reads until so many datagrams have come.
#[track_caller]
fn collect(el: &EventLoop, peer: &UnixDatagram, count: usize) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    run_until(el, || {
        all.extend(drain(peer));
        all.len() >= count
    });
    settle(el);
    all.extend(drain(peer));
    all
}

on_every_loop! {
    /// UD-11: what waits keeps its boundaries, its order and its content, whatever becomes of the sender's buffer; datagrams
    /// that are empty wait, too.
    fn boundaries_and_order(el) {
        let (own, peer) = unix_pair();
        let handle = over(el, Idle, own);
        let mut expected = numbers(fill(&handle, None, 0));
        let mut buffer = [b'a'; 100];
        for n in [100, 0, 1, 99, 0] {
            handle.sendto(&buffer[..n], None);
            expected.push(buffer[..n].to_vec());
            buffer.iter_mut().for_each(|byte| *byte += 1);
        }
        assert_eq!(collect(el, &peer, expected.len()), expected);
        assert_eq!(handle.write_buffer_size(), 0);
        close(el, &handle);
    }

    /// FC-12: each datagram that waits counts 8 bytes besides its own, when it comes and when it goes: the size is zero when
    /// all have gone, and does not drift.
    fn headers_count(el) {
        let (own, peer) = unix_pair();
        let handle = over(el, Idle, own);
        for _ in 0..3 {
            let sent = fill(&handle, None, 0);
            let one = (sent - 1).to_string().len() + 8;
            assert_eq!(handle.write_buffer_size(), one);
            handle.sendto(b"", None);
            assert_eq!(handle.write_buffer_size(), one + 8);
            handle.sendto(b"12345", None);
            assert_eq!(handle.write_buffer_size(), one + 8 + 13);
            collect(el, &peer, sent + 2);
            assert_eq!(handle.write_buffer_size(), 0);
        }
        close(el, &handle);
    }

    /// FC-12: the protocol pauses when more waits than the high mark allows, and resumes at the low one, counted with
    /// headers; whoever waits for `ready` goes on with it.
    fn pause_and_resume(el) {
        let (log, (own, peer)) = (Log::new(), unix_pair());
        let handle = over(el, Recorder::new(&log), own);
        assert_eq!(handle.write_buffer_limits(), WaterMarks { low: 16 * 1024, high: 64 * 1024 });
        assert!(handle.set_write_buffer_limits(1, 2).is_err());
        handle.set_write_buffer_limits(100, 20).unwrap();
        assert_eq!(handle.write_buffer_limits(), WaterMarks { low: 20, high: 100 });
        complete(el, handle.ready()).unwrap();

        let sent = fill(&handle, None, 0);
        let left = 100 - handle.write_buffer_size();
        handle.sendto(&vec![b'x'; left - 8], None);
        settle(el);
        assert_eq!(log.take(), ["made"], "100 is not more than 100");
        handle.sendto(b"", None);
        settle(el);
        assert_eq!(log.take(), ["pause"]);
        let ready = el.create_task(handle.ready());
        settle(el);
        assert!(!ready.is_done());
        collect(el, &peer, sent + 2);
        complete(el, ready).unwrap().unwrap();
        assert_eq!(log.take(), ["resume"]);

        // A mark that is lowered counts at once.
        fill(&handle, None, 0);
        handle.set_write_buffer_limits(0, None).unwrap();
        settle(el);
        assert_eq!(log.take(), ["pause"]);
        let ready = el.create_task(handle.ready());
        settle(el);
        handle.abort();
        assert!(complete(el, ready).unwrap().is_err());
        assert_eq!(log.take(), ["lost"], "nobody resumes on an endpoint that is lost");
    }

    /// UD-16: a datagram that cannot be sent when its turn comes does not keep the others, nor is one of them lost.
    fn an_error_in_the_queue(el) {
        let (log, (own, peer)) = (Log::new(), unix_pair());
        let handle = over(el, Recorder::new(&log), own);
        handle.set_write_buffer_limits(1 << 30, None).unwrap();
        let mut expected = numbers(fill(&handle, None, 0));
        for text in ["one", "two", "three"] {
            handle.sendto(text.as_bytes(), None);
            expected.push(text.into());
            // Longer than a unix socket takes.
            handle.sendto(&vec![0; 1 << 22], None);
        }
        assert_eq!(log.take(), ["made"]);
        assert_eq!(collect(el, &peer, expected.len()), expected);
        run_until(el, || handle.write_buffer_size() == 0 && log.len() == 3);
        assert_eq!(log.take(), ["error EMSGSIZE", "error EMSGSIZE", "error EMSGSIZE"]);
        assert!(!handle.is_closing());
        handle.sendto(b"more", None);
        assert_eq!(collect(el, &peer, 1), [b"more"]);
        close(el, &handle);
    }

    /// UD-17: `close` sends what waits, and then the end comes; what is sent after it is dropped.
    fn close_sends_what_waits(el) {
        let (log, (own, peer)) = (Log::new(), unix_pair());
        let handle = over(el, Recorder::new(&log), own);
        let sent = fill(&handle, None, 20);
        handle.close();
        handle.sendto(b"late", None);
        peer.send(b"unheard").unwrap();
        settle(el);
        assert!(handle.is_closing() && handle.protocol().is_some());
        assert_eq!(log.take(), ["made"]);
        assert_eq!(collect(el, &peer, sent), numbers(sent));
        run_until(el, || handle.protocol().is_none());
        assert_eq!(log.take(), ["lost"]);
    }

    /// UD-17: `abort` drops what waits, also behind a `close`.
    fn abort_drops_what_waits(el) {
        for closes in [false, true] {
            let (log, (own, peer)) = (Log::new(), unix_pair());
            let handle = over(el, Recorder::new(&log), own);
            let sent = fill(&handle, None, 20);
            if closes {
                handle.close();
                settle(el);
            }
            handle.abort();
            assert_eq!(handle.write_buffer_size(), 0);
            settle(el);
            assert_eq!(log.take(), ["made", "lost"]);
            assert_eq!(drain(&peer).len(), sent - 21);
        }
    }

    /// UD-11, UD-19: what waits for a peer that is not connected is sent when that has room, though the system says all the
    /// while that there is some; and the loop sleeps meanwhile.
    fn a_full_peer_that_is_not_connected(el) {
        let (folder, path) = unix_path("peer");
        let peer = UnixDatagram::bind(&path).unwrap();
        peer.set_nonblocking(true).unwrap();
        let own = UnixDatagram::bind(folder.path().join("own")).unwrap();
        let handle = over(el, Idle, own);
        let to = Address::from(path.as_path());
        let sent = fill(&handle, Some(&to), 50);
        let turns = el.stats().turns;
        let over = Rc::new(Cell::new(false));
        let set = over.clone();
        el.call_later(Duration::from_millis(10), move || set.set(true));
        run_until(el, || over.get());
        assert!(el.stats().turns - turns < 100, "{} turns", el.stats().turns - turns);
        assert_eq!(collect(el, &peer, sent), numbers(sent));
        close(el, &handle);
    }

    /// UD-11: a peer that was filled by somebody else has no room for a long time, and nothing of what waits is forgotten.
    fn a_peer_that_others_have_filled(el) {
        let (_folder, path) = unix_path("peer");
        let peer = UnixDatagram::bind(&path).unwrap();
        peer.set_nonblocking(true).unwrap();
        let others = UnixDatagram::unbound().unwrap();
        others.set_nonblocking(true).unwrap();
        while others.send_to(b"filler", &path).is_ok() {}
        let (to, own) = (Address::from(path.as_path()), UnixDatagram::unbound().unwrap());
        let unconnected = over(el, Idle, own);
        let own = UnixDatagram::unbound().unwrap();
        own.connect(&path).unwrap();
        let connected = over(el, Idle, own);
        unconnected.sendto(b"unconnected", Some(&to));
        connected.sendto(b"connected", None);
        assert!(unconnected.write_buffer_size() > 0 && connected.write_buffer_size() > 0);
        settle(el);
        let mut all = Vec::new();
        run_until(el, || {
            all.extend(drain(&peer).into_iter().filter(|data| data != b"filler"));
            all.len() == 2
        });
        all.sort();
        assert_eq!(all, [&b"connected"[..], b"unconnected"]);
        close(el, &unconnected);
        close(el, &connected);
    }

    /// UD-22: datagrams that wait are delivered one by one, in their order, several in one event; but not so many that they
    /// keep others waiting.
    fn many_at_once(el) {
        let (log, counts) = (Log::new(), Rc::new(RefCell::new(Vec::new())));
        let (handle, address) = bound(el, Recorder::new(&log));
        settle(el);
        log.take();
        let (peer, _) = plain();
        let numbers = (0..200).map(|n| format!("datagram \"{n}\""));
        for n in 0..200 {
            peer.send_to(n.to_string().as_bytes(), address).unwrap();
        }
        let mut heard = Vec::new();
        while heard.len() < 200 {
            el.run_once(Some(Duration::ZERO)).unwrap();
            let now = log.take();
            counts.borrow_mut().push(now.len());
            heard.extend(now);
        }
        assert_eq!(heard, numbers.collect::<Vec<_>>());
        let counts = counts.borrow();
        assert_eq!(counts.iter().max(), Some(&64), "{counts:?}");
        close(el, &handle);
    }

    /// UD-22: answers go out in the order of the questions, whichever way they are sent: short ones together, long ones at
    /// once; and before anything that is sent when the event is over.
    fn answers_keep_their_order(el) {
        struct Answers(u8);
        impl DatagramProtocol for Answers {
            fn datagram_received(&mut self, t: &DatagramHandle, data: &[u8], from: Option<&Address>) {
                self.0 += 1;
                let len = [1, 3000, 20_000, 40_000, 0, 5][usize::from(self.0) % 6];
                t.sendto(&[&[data[0]], vec![b'x'; len].as_slice()].concat(), from);
                if self.0 == 30 {
                    // From here on they would be sent with the time-to-live that is set here.
                    let socket = t.extra_info().socket.unwrap();
                    assert!(socket.with(|socket| socket.set_ttl_v4(9)).unwrap().is_ok());
                }
                t.sendto(&[data[0]], from);
            }
        }
        let (handle, address) = bound(el, Answers(0));
        let (peer, _) = plain();
        socket2::SockRef::from(&peer).set_recv_buffer_size(1 << 22).unwrap();
        for n in 0..60 {
            peer.send_to(&[n], address).unwrap();
            if n % 20 == 19 {
                // The room for answers is limited.
                for answered in n - 19..=n {
                    for _ in 0..2 {
                        assert_eq!(receive(el, &peer).0[0], answered);
                    }
                }
            }
        }
        close(el, &handle);
    }

    /// UD-12, UD-16: what goes wrong between the answers to several datagrams (a panic, an answer that cannot be sent, another
    /// protocol that takes over) costs no other answer, and is told once.
    fn answers_that_fail(el) {
        let (log, heir) = (Log::new(), Log::new());
        let (other, elsewhere) = bound(el, Recorder::new(&heir));
        let heard = heir.clone();
        let recorder = Recorder::new(&log).then("datagram", move |t, data, from| {
            t.sendto(data, from);
            match data {
                b"1" => t.sendto(b"to no port", Some(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())),
                b"2" => panic!("on purpose"),
                b"3" => t.sendto(&[b'x'; 66_000], from),
                b"4" => other.sendto(b"from another one", Some(&elsewhere.into())),
                b"6" => t.set_protocol(Recorder::new(&heard).then("datagram", |t, data, from| t.sendto(data, from))),
                _ => {}
            }
        });
        let (handle, address) = bound(el, recorder);
        settle(el);
        let (peer, _) = plain();
        for n in 0..9 {
            peer.send_to(n.to_string().as_bytes(), address).unwrap();
        }
        for n in 0..9 {
            assert_eq!(receive(el, &peer).0, n.to_string().as_bytes());
        }
        run_until(el, || heir.len() >= 4);
        let (told, taken) = (log.take(), heir.take());
        let count = |entries: &[String], what: &str| entries.iter().filter(|entry| entry.contains(what)).count();
        assert_eq!((count(&told, "datagram"), count(&taken, "datagram")), (7, 3), "{told:?} {taken:?}");
        assert_eq!((count(&told, "EINVAL"), count(&told, "EMSGSIZE")), (1, 1), "{told:?}");
        assert_eq!(count(&taken, "error"), 0, "{taken:?}");
        let reports = take_reports();
        assert!(reports.len() == 1 && reports[0].contains("on purpose"), "{reports:?}");
        close(el, &handle);
        assert_eq!(heir.take(), ["lost"]);
    }

    /// UD-17: an endpoint that is closed in the middle of what has arrived delivers nothing more, and sends its answers.
    fn closed_in_the_middle(el) {
        for (end, name) in [(DatagramHandle::close as fn(&DatagramHandle), "close"), (DatagramHandle::abort, "abort")] {
            let log = Log::new();
            let recorder = Recorder::new(&log).then("datagram", move |t, data, from| {
                t.sendto(data, from);
                if data == b"5" {
                    end(t);
                    t.sendto(b"late", from);
                }
            });
            let (handle, address) = bound(el, recorder);
            settle(el);
            let (peer, _) = plain();
            for n in 0..10 {
                peer.send_to(n.to_string().as_bytes(), address).unwrap();
            }
            run_until(el, || handle.protocol().is_none());
            let heard = log.take();
            assert_eq!(heard.len(), 8, "{name}: {heard:?}");
            assert_eq!(heard[6..], ["datagram \"5\"", "lost"]);
            for n in 0..=5 {
                assert_eq!(receive(el, &peer).0, n.to_string().as_bytes(), "{name}");
            }
            settle(el);
            assert!(peer.recv(&mut [0; 9]).is_err());
        }
    }

    /// UD-23: an endpoint that always sends, and always has something to receive, keeps nobody waiting.
    fn a_flood(el) {
        let (one, address) = bound(el, Echo);
        let (other, _) = bound(el, Echo);
        // Each of them goes to and fro without end.
        for _ in 0..100 {
            other.sendto(b"to and fro", Some(&address.into()));
        }
        let fired = Rc::new(Cell::new(false));
        let (set, callbacks) = (fired.clone(), Rc::new(Cell::new(0)));
        el.call_later(Duration::from_millis(5), move || set.set(true));
        fn again(el: &EventLoop, count: &Rc<Cell<u32>>) {
            count.set(count.get() + 1);
            let (next, counted) = (el.clone(), count.clone());
            el.call_soon(move || again(&next, &counted));
        }
        again(el, &callbacks);
        run_until(el, || fired.get() && callbacks.get() > 100);
        close(el, &one);
        close(el, &other);
    }

    /// UD-23: nor does a protocol that fills its queue whenever it may.
    fn a_flood_that_waits(el) {
        fn pour(t: &DatagramHandle) {
            while t.write_buffer_size() < 1000 {
                t.sendto(b"more and more", None);
            }
        }
        let (log, (own, peer)) = (Log::new(), unix_pair());
        let recorder = Recorder::new(&log).then("made", |t, _, _| pour(t)).then("resume", |t, _, _| pour(t));
        let builder = over(el, recorder, own);
        builder.set_write_buffer_limits(900, None).unwrap();
        let fired = Rc::new(Cell::new(false));
        let set = fired.clone();
        el.call_later(Duration::from_millis(5), move || set.set(true));
        let mut received = 0;
        run_until(el, || {
            received += drain(&peer).len();
            fired.get() && log.len() > 10
        });
        let heard = log.take();
        assert_eq!(heard[..5], ["made", "pause", "resume", "pause", "resume"]);
        assert!(received > 100);
        builder.abort();
        settle(el);
    }

    /// UD-11: what waits belongs to the endpoint, and goes with it.
    fn the_loop_ends_under_it(el) {
        let (own, peer) = unix_pair();
        let handle = over(el, Idle, own);
        let sent = fill(&handle, None, 5);
        assert!(handle.write_buffer_size() > 0);
        el.set_debug(false);
        el.close();
        assert_eq!(handle.write_buffer_size(), 0);
        assert_eq!(drain(&peer).len(), sent - 6);
    }
}

/// UD-11: an attempt to send that is due on its own is none of a closed endpoint's: the timer goes with it.
#[test]
fn the_timer_goes_with_the_endpoint() {
    on_manual_clock(|el, clock| {
        let (own, peer) = unix_pair();
        let drops = DropCounter::new();
        struct Kept(#[allow(dead_code)] common::DropGuard);
        impl DatagramProtocol for Kept {}
        let handle = over(el, Kept(drops.guard()), own);
        let sent = fill(&handle, None, 0);
        assert_eq!(el.stats().timers.live(), 1);
        assert_eq!(drain(&peer).len(), sent - 1);
        clock.advance(Duration::from_millis(8));
        run_until(el, || handle.write_buffer_size() == 0);
        assert_eq!(drain(&peer).len(), 1);
        assert_eq!(el.stats().timers.live(), 0);
        fill(&handle, None, 0);
        assert_eq!(el.stats().timers.live(), 1);
        handle.abort();
        settle(el);
        assert_eq!((el.stats().timers.live(), drops.count()), (0, 1));
    });
}

/// UD-23: tasks that wait for `ready` in turn share the budget of their I/O with the others.
#[test]
fn a_task_that_is_always_ready() {
    common::on_loop(|el| {
        let (handle, address) = bound(el, Idle);
        let to = Address::from(address);
        let sender = handle.clone();
        let endless = el.create_task(async move {
            loop {
                sender.ready().await.unwrap();
                sender.sendto(b"x", Some(&to));
            }
        });
        let fired = Rc::new(Cell::new(false));
        let set = fired.clone();
        el.call_later(Duration::from_millis(5), move || set.set(true));
        run_until(el, || fired.get());
        endless.cancel();
        settle(el);
        assert_eq!(local(&handle).ip().to_string(), LOOPBACK.0);
        close(el, &handle);
    });
}

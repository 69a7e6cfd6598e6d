//! `add_reader` and its kin (behaviours SK, and P45 of the golden probes).

mod common;
mod wire;

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use common::{DropCounter, Log, complete, on_loop, run_until, settle, take_reports};
use roundelay::{ContextVar, EventLoop, LoopClosed, TcpListener, TcpStream};
use wire::{Net, Record, Tap, assert_sleeps, connect, finish, sockets, until_lost};

/// Two connected sockets that do not block, to be shared with callbacks.
fn pair() -> (Rc<UnixStream>, UnixStream) {
    let (a, b) = UnixStream::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    b.set_nonblocking(true).unwrap();
    (Rc::new(a), b)
}

/// How many descriptors the loop has registered.
fn registered(el: &EventLoop) -> u64 {
    el.stats().descriptors.live()
}

/// A counter, and a callback that counts.
fn counting() -> (Rc<Cell<usize>>, impl FnMut() + 'static) {
    let count = Rc::new(Cell::new(0));
    let counter = count.clone();
    (count, move || counter.set(counter.get() + 1))
}

on_every_loop! {
    /// SK-01: a reader is called in each turn for as long as there is something to read, and not once it was removed;
    /// removing is true once.
    fn a_reader_is_called_while_readable(el) {
        let (a, mut b) = pair();
        let (count, callback) = counting();
        el.add_reader(&a, callback).unwrap();
        assert_sleeps(el);
        assert_eq!(count.get(), 0);
        b.write_all(b"xy").unwrap();
        for turn in 1..=5 {
            el.run_once(None).unwrap();
            assert_eq!(count.get(), turn);
        }
        assert_eq!((&*a).read(&mut [0; 16]).unwrap(), 2);
        settle(el);
        assert_eq!(count.get(), 5);
        b.write_all(b"z").unwrap();
        el.run_once(None).unwrap();
        assert_eq!(count.get(), 6);
        assert!(el.remove_reader(&a));
        assert!(!el.remove_reader(&a));
        settle(el);
        assert_eq!(count.get(), 6);
    }

    /// SK-01: a writer is called in each turn for as long as there is room, and again when there is room anew.
    fn a_writer_is_called_while_writable(el) {
        let (a, mut b) = pair();
        let (count, callback) = counting();
        el.add_writer(&a, callback).unwrap();
        for turn in 1..=5 {
            el.run_once(None).unwrap();
            assert_eq!(count.get(), turn);
        }
        while (&*a).write(&[0; 64 * 1024]).is_ok() {}
        assert_sleeps(el);
        count.set(0);
        assert_sleeps(el);
        assert_eq!(count.get(), 0);
        while b.read(&mut [0; 64 * 1024]).is_ok() {}
        el.run_once(None).unwrap();
        assert_eq!(count.get(), 1);
        assert!(el.remove_writer(&a));
        assert!(!el.remove_writer(&a));
        settle(el);
        assert_eq!(count.get(), 1);
    }

    /// LU-10: a peer that is gone makes a descriptor readable, a pipe's as well as a socket's, until the reader is
    /// removed; and the other end of a pipe is writable, for its error.
    fn a_hang_up_is_readable(el) {
        let (a, b) = pair();
        let ((read, write), (broken_read, broken_write)) = (pipe(), pipe());
        let (socket, pipe, broken) = (counting(), counting(), counting());
        el.add_reader(&a, socket.1).unwrap();
        el.add_reader(&read, pipe.1).unwrap();
        while (&broken_write).write(&[0; 4096]).is_ok() {}
        el.add_writer(&broken_write, broken.1).unwrap();
        assert_sleeps(el);
        drop((b, write, broken_read));
        for turn in 1..=3 {
            el.run_once(None).unwrap();
            assert_eq!((socket.0.get(), pipe.0.get(), broken.0.get()), (turn, turn, turn));
        }
        assert!(el.remove_reader(&a) && el.remove_reader(&read) && el.remove_writer(&broken_write));
        assert_sleeps(el);
    }

    /// SK-02: one call replaces a reader: the old one does not run any more though it is queued, what it captured is
    /// dropped at once, and the writer is untouched (P45).
    fn replacing_a_reader_that_is_queued(el) {
        let ((a, mut a_peer), (b, mut b_peer)) = (pair(), pair());
        let (log, drops) = (Log::new(), DropCounter::new());
        // Whichever is told first replaces the reader of the other one, which is queued in the same turn.
        for (own, other) in [(&a, &b), (&b, &a)] {
            let (handle, other, log, guard) = (el.clone(), other.clone(), log.clone(), drops.guard());
            el.add_reader(own, move || {
                let _captured = &guard;
                log.push("old");
                handle.add_reader(&other, log_entry(&log, "new")).unwrap();
                log.push("replaced");
            })
            .unwrap();
        }
        let (writes, callback) = counting();
        el.add_writer(&b, callback).unwrap();
        a_peer.write_all(b"x").unwrap();
        b_peer.write_all(b"x").unwrap();
        el.run_once(None).unwrap();
        assert_eq!(log.take(), ["old", "replaced"]);
        assert_eq!(drops.count(), 1);
        assert_eq!(writes.get(), 1);
        assert_eq!(registered(el), 2);
        assert!(el.remove_reader(&a) && el.remove_reader(&b));
        assert_eq!(drops.count(), 2);
        el.run_once(None).unwrap();
        assert_eq!(writes.get(), 2);
        assert!(el.remove_writer(&b));
    }

    /// SK-02: after replacing, the new reader is the one that runs.
    fn the_new_reader_runs(el) {
        let (a, mut b) = pair();
        let (old, new) = (counting(), counting());
        el.add_reader(&a, old.1).unwrap();
        b.write_all(b"x").unwrap();
        el.run_once(None).unwrap();
        el.add_reader(&a, new.1).unwrap();
        el.run_once(None).unwrap();
        el.run_once(None).unwrap();
        assert_eq!((old.0.get(), new.0.get()), (1, 2));
        assert!(el.remove_reader(&a));
    }

    /// SK-03: readable and writable in one event calls both, reading first; removing one direction keeps the other; and
    /// removing the last forgets the descriptor.
    fn each_direction_is_removed_alone(el) {
        let (a, mut b) = pair();
        let log = Log::new();
        el.add_writer(&a, log_entry(&log, "write")).unwrap();
        el.add_reader(&a, log_entry(&log, "read")).unwrap();
        assert_eq!(registered(el), 1);
        b.write_all(b"x").unwrap();
        el.run_once(None).unwrap();
        assert_eq!(log.take(), ["read", "write"]);
        assert!(el.remove_reader(&a));
        assert_eq!(registered(el), 1);
        el.run_once(None).unwrap();
        assert_eq!(log.take(), ["write"]);
        assert!(!el.remove_reader(&a));
        el.add_reader(&a, log_entry(&log, "read again")).unwrap();
        assert!(el.remove_writer(&a));
        el.run_once(None).unwrap();
        assert_eq!(log.take(), ["read again"]);
        assert!(el.remove_reader(&a));
        assert_eq!(registered(el), 0);
        assert_sleeps(el);
        // It can be registered anew.
        el.add_writer(&a, log_entry(&log, "anew")).unwrap();
        el.run_once(None).unwrap();
        assert_eq!(log.take(), ["anew"]);
        assert!(el.remove_writer(&a));
    }

    /// SK-26: a reader that removes the writer of the same descriptor, queued in the same turn, keeps it from running
    /// (P45).
    fn removing_the_other_direction_while_it_is_queued(el) {
        let (a, mut b) = pair();
        let log = Log::new();
        let (handle, own, entry) = (el.clone(), a.clone(), log.clone());
        el.add_reader(&a, move || {
            entry.push("read");
            assert!(handle.remove_writer(&own));
        })
        .unwrap();
        el.add_writer(&a, log_entry(&log, "write")).unwrap();
        b.write_all(b"x").unwrap();
        el.run_once(None).unwrap();
        assert_eq!(log.take(), ["read"]);
        assert!(el.remove_reader(&a));
    }

    /// SK-04: nothing is removed where nothing is.
    fn removing_what_is_not_there(el) {
        let (a, _b) = pair();
        assert!(!el.remove_reader(&a) && !el.remove_writer(&a));
        el.add_reader(&a, || ()).unwrap();
        assert!(!el.remove_writer(&a));
        assert!(el.remove_reader(&a));
    }

    /// LR-04: on a closed loop nothing can be added, and removing is false; what was captured is dropped by closing.
    fn on_a_closed_loop(el) {
        let (a, _b) = pair();
        let drops = DropCounter::new();
        let guard = drops.guard();
        el.add_reader(&a, move || _ = &guard).unwrap();
        el.close();
        assert_eq!(drops.count(), 1);
        assert!(!el.remove_reader(&a) && !el.remove_writer(&a));
        for result in [el.add_reader(&a, || ()), el.add_writer(&a, || ())] {
            assert!(result.unwrap_err().get_ref().unwrap().is::<LoopClosed>());
        }
        assert_eq!(registered(el), 0);
    }

    /// SK-05: whatever lends the descriptor will do, for adding as for removing.
    fn any_lender_will_do(el) {
        let (a, _b) = pair();
        el.add_reader(a.as_fd(), || ()).unwrap();
        assert!(el.remove_reader(&a));
        el.add_writer(&a, || ()).unwrap();
        assert!(el.remove_writer(a.as_fd()));
        // Another descriptor of the same socket is another one.
        let dup = a.try_clone().unwrap();
        el.add_reader(&a, || ()).unwrap();
        assert!(!el.remove_reader(&dup));
        el.add_reader(&dup, || ()).unwrap();
        assert!(el.remove_reader(&dup) && el.remove_reader(&a));
    }

    /// SK-07: the descriptor of a transport is refused by all four operations for as long as it is the transport's.
    fn a_transports_descriptor_is_refused(el) {
        for net in wire::NETS {
            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::new(&record));
            let view = transport.extra_info().socket.unwrap();
            let refused = |result: io::Result<()>, method: &str| {
                let error = result.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::AlreadyExists);
                let text = format!("EventLoop::{method}(): descriptor {} is used by", view.raw_fd().unwrap());
                assert!(error.to_string().starts_with(&text), "{error}");
            };
            view.with(|socket| {
                refused(el.add_reader(&*socket, || ()), "add_reader");
                refused(el.add_writer(&*socket, || ()), "add_writer");
                assert!(!el.remove_reader(&*socket) && !el.remove_writer(&*socket));
            })
            .unwrap();
            // It was not disturbed.
            peer.send(b"x");
            run_until(el, || record.len() == 1);
            finish(el, &transport, &record);
            assert!(view.with(|_| ()).is_none());
        }
    }

    /// SK-07: the number is free for others once the transport is gone.
    fn the_number_of_a_gone_transport_is_free(el) {
        let record = Record::new();
        let (transport, _peer) = connect(el, Net::Unix, Tap::new(&record));
        let number = transport.extra_info().socket.unwrap().raw_fd().unwrap();
        finish(el, &transport, &record);
        let (a, mut b) = pair();
        let ours = if a.as_raw_fd() == number { a } else { Rc::new(take_number(&a, number)) };
        let (count, callback) = counting();
        el.add_reader(&ours, callback).unwrap();
        b.write_all(b"x").unwrap();
        el.run_once(None).unwrap();
        assert_eq!(count.get(), 1);
        assert!(el.remove_reader(&ours));
    }

    /// SK-07: so are the descriptors of plain streams and listeners.
    fn a_streams_descriptor_is_refused(el) {
        complete(el, async {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            assert_eq!(el.add_reader(&stream, || ()).unwrap_err().kind(), ErrorKind::AlreadyExists);
            assert_eq!(el.add_writer(&listener, || ()).unwrap_err().kind(), ErrorKind::AlreadyExists);
            assert!(!el.remove_reader(&stream) && !el.remove_writer(&listener));
        });
    }

    /// TC-25: and a descriptor with a reader is refused as a transport's; the reader goes with the socket.
    fn a_watched_descriptor_is_refused_to_a_transport(el) {
        let (near, _far) = sockets(Net::Unix);
        el.add_reader(&near, || ()).unwrap();
        let record = Record::new();
        let tap = Tap::new(&record);
        let error = complete(el, el.create_connection(|| tap, near).into_future()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert!(record.is_silent());
        assert_sleeps(el);
    }

    /// SK-08: a reader that is removed and its descriptor closed at once leaves nothing behind: no error, and the number
    /// can be registered anew.
    fn removed_and_closed_at_once(el) {
        for round in 0..3 {
            let (a, mut b) = pair();
            let (count, callback) = counting();
            el.add_reader(&a, callback).unwrap();
            el.add_writer(&a, || ()).unwrap();
            b.write_all(b"x").unwrap();
            if round > 0 {
                el.run_once(None).unwrap();
            }
            assert!(el.remove_reader(&a) && el.remove_writer(&a));
            let number = a.as_raw_fd();
            drop(a);
            settle(el);
            assert_eq!(count.get(), usize::from(round > 0));
            assert_eq!(registered(el), 0);
            let (next, _peer) = pair();
            assert_eq!(next.as_raw_fd(), number);
            el.add_reader(&next, || ()).unwrap();
            assert!(el.remove_reader(&next));
        }
        assert_sleeps(el);
    }

    /// SK-08: a descriptor that is closed though it is watched is forgotten by the kernel; the loop sleeps, and whoever
    /// gets the number next can be watched, by the same call.
    fn closed_behind_the_loops_back(el) {
        // The loop's timer for short sleeps is there: it takes no number that becomes free below.
        assert_sleeps(el);
        let (a, mut b) = pair();
        let (old, new) = (counting(), counting());
        el.add_reader(&a, old.1).unwrap();
        b.write_all(b"x").unwrap();
        el.run_once(None).unwrap();
        let number = a.as_raw_fd();
        drop(a);
        assert_sleeps(el);
        let (next, mut peer) = pair();
        assert_eq!(next.as_raw_fd(), number);
        peer.write_all(b"y").unwrap();
        settle(el);
        el.add_reader(&next, new.1).unwrap();
        assert_eq!(registered(el), 1);
        el.run_once(None).unwrap();
        assert_eq!((old.0.get(), new.0.get()), (1, 1));
        assert!(el.remove_reader(&next));
        assert!(!el.remove_reader(&next));
        assert_sleeps(el);
    }

    /// SK-08: the number of a watched descriptor that was closed may become a transport's: the stale reader is let go of.
    fn closed_behind_the_loops_back_and_used_by_a_transport(el) {
        let (a, _b) = pair();
        let drops = DropCounter::new();
        let (count, mut callback) = counting();
        let guard = drops.guard();
        el.add_reader(&a, move || {
            let _captured = &guard;
            callback();
        })
        .unwrap();
        let number = a.as_raw_fd();
        drop(a);
        let (near, far) = sockets(Net::Unix);
        assert_eq!(near.as_raw_fd(), number);
        let (record, peer) = (Record::new(), wire::Peer::new(far));
        let (transport, _) = wire::attach(el, near, Tap::new(&record));
        assert_eq!(drops.count(), 1);
        assert_eq!(registered(el), 1);
        peer.send(b"for the transport");
        run_until(el, || record.len() == 17);
        assert_eq!(count.get(), 0);
        transport.extra_info().socket.unwrap().with(|socket| assert!(!el.remove_reader(&*socket))).unwrap();
        finish(el, &transport, &record);
    }

    /// SK-08: where the number has become something that cannot be watched, the error leaves nothing behind.
    fn closed_behind_the_loops_back_and_now_a_file(el) {
        let ((a, mut a_peer), (first, mut first_peer)) = (pair(), pair());
        let drops = DropCounter::new();
        let (count, mut callback) = counting();
        let guard = drops.guard();
        el.add_writer(&a, move || {
            let _captured = &guard;
            callback();
        })
        .unwrap();
        // In the same turn, the descriptor is closed, its number becomes a file's, and somebody wants to read that.
        let (handle, slot) = (el.clone(), RefCell::new(Some(a)));
        el.add_reader(&first, move || {
            let Some(a) = slot.take() else { return };
            let number = a.as_raw_fd();
            drop(a);
            let file = tempfile::tempfile().unwrap();
            assert_eq!(file.as_raw_fd(), number);
            let error = handle.add_reader(&file, || ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            assert!(!handle.remove_reader(&file) && !handle.remove_writer(&file));
        })
        .unwrap();
        first_peer.write_all(b"x").unwrap();
        let _ = a_peer.write_all(b"x");
        el.run_once(None).unwrap();
        let ran = count.get();
        assert!(ran <= 1, "it may have been told before");
        settle_while_readable(el);
        assert_eq!(count.get(), ran);
        assert_eq!(drops.count(), 1);
        assert!(el.remove_reader(&first));
        assert_eq!(registered(el), 0);
    }

    /// SK-24: of many descriptors that are ready in one turn, the first one that is told closes all the others.
    fn closing_many_from_the_callback_of_one(el) {
        let all: Rc<RefCell<Vec<Option<Rc<UnixStream>>>>> = Rc::default();
        let (mut peers, calls) = (Vec::new(), Rc::new(Cell::new(0)));
        for _ in 0..200 {
            let (a, mut b) = pair();
            b.write_all(b"x").unwrap();
            let (handle, everyone, calls) = (el.clone(), all.clone(), calls.clone());
            el.add_reader(&a, move || {
                calls.set(calls.get() + 1);
                for one in everyone.borrow_mut().iter_mut() {
                    let one = one.take().unwrap();
                    assert!(handle.remove_reader(&one));
                }
            })
            .unwrap();
            all.borrow_mut().push(Some(a));
            peers.push(b);
        }
        el.run_once(None).unwrap();
        assert_eq!(calls.get(), 1);
        assert_sleeps(el);
        assert_eq!(calls.get(), 1);
        assert_eq!(registered(el), 0);
        assert!(peers.iter_mut().all(|peer| matches!(peer.read(&mut [0; 4]), Ok(0) | Err(_))));
    }

    /// SK-24: each of many descriptors that are ready stops the next one, and the one after that is told.
    fn each_stops_the_next(el) {
        let all: Rc<RefCell<Vec<Rc<UnixStream>>>> = Rc::default();
        let (mut peers, calls) = (Vec::new(), Rc::new(Cell::new(0)));
        for place in 0..100 {
            let (a, b) = pair();
            let (handle, everyone, calls) = (el.clone(), all.clone(), calls.clone());
            el.add_reader(&a, move || {
                calls.set(calls.get() + 1);
                let everyone = everyone.borrow();
                assert!(handle.remove_reader(&everyone[place]));
                assert!(handle.remove_reader(&everyone[place ^ 1]));
            })
            .unwrap();
            all.borrow_mut().push(a);
            peers.push(b);
        }
        peers.iter_mut().for_each(|peer| peer.write_all(b"x").unwrap());
        el.run_once(None).unwrap();
        settle(el);
        assert_eq!(calls.get(), 50);
        assert_eq!(registered(el), 0);
    }

    /// SK-25: a regular file cannot be watched; what was captured may be a stream of this very loop, and its number is
    /// free for others.
    fn a_regular_file_is_refused(el) {
        let file = tempfile::tempfile().unwrap();
        let stream = complete(el, async {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            TcpStream::connect(listener.local_addr().unwrap()).await.unwrap()
        });
        // The refused callback is dropped, and a descriptor of this loop goes with it.
        let error = el.add_reader(&file, move || drop(format!("{stream:?}"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert_eq!(el.add_writer(&file, || ()).unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert!(!el.remove_reader(&file) && !el.remove_writer(&file));
        assert_eq!(registered(el), 0);
    }

    /// LU-11: the descriptor of another selector can be watched: here, a loop's.
    fn a_nested_selector(el) {
        let inner = EventLoop::new().unwrap();
        let (a, mut b) = pair();
        inner.add_reader(&a, || ()).unwrap();
        let (count, callback) = counting();
        el.add_reader(&inner, callback).unwrap();
        assert_sleeps(el);
        assert_eq!(count.get(), 0);
        b.write_all(b"x").unwrap();
        el.run_once(None).unwrap();
        assert_eq!(count.get(), 1);
        (&*a).read_exact(&mut [0]).unwrap();
        assert_sleeps(el);
        assert!(el.remove_reader(&inner));
        inner.close();
    }

    /// TT-27: an urgent byte alone is nothing to read, and does not spin.
    fn urgent_data_on_a_watched_descriptor(el) {
        let (near, far) = sockets(Net::Tcp);
        let near = Rc::new(near);
        let (log, reader) = (Log::new(), near.clone());
        let seen = log.clone();
        el.add_reader(&near, move || {
            let mut buffer = [0; 64];
            let n = (&*reader).read(&mut buffer).unwrap();
            seen.push(String::from_utf8_lossy(&buffer[..n]));
        })
        .unwrap();
        (&far).write_all(b"before").unwrap();
        far.send_out_of_band(b"!").unwrap();
        (&far).write_all(b"after").unwrap();
        let all = Rc::new(RefCell::new(String::new()));
        run_until(el, || {
            all.borrow_mut().extend(log.take());
            *all.borrow() == "beforeafter"
        });
        assert_sleeps(el);
        if el.selector_name() == "polling" {
            // It asks for urgent data whenever it asks for any, and so reports it until something follows.
            assert!(el.remove_reader(&near));
            return;
        }
        far.send_out_of_band(b"!").unwrap();
        assert_sleeps(el);
        (&far).write_all(b"end").unwrap();
        run_until(el, || log.take().concat() == "end");
        assert!(el.remove_reader(&near));
    }

    /// EH-02: a panic in a callback is reported with its handle, and the callback stays.
    fn a_panic_is_reported_and_the_callback_stays(el) {
        let (a, mut b) = pair();
        el.add_reader(&a, || panic!("cannot read")).unwrap();
        b.write_all(b"x").unwrap();
        el.run_once(None).unwrap();
        el.run_once(None).unwrap();
        let reports = take_reports();
        assert_eq!(reports.len(), 2);
        assert!(reports[0].starts_with("Exception in callback watch::"), "{reports:?}");
        assert!(reports[0].contains(": cannot read") && reports[0].contains("tests/watch.rs"), "{reports:?}");
        assert!(el.remove_reader(&a));
    }

    /// EH-02: a panic in a destructor of what a callback captured, which removes itself, is reported.
    fn a_panic_in_what_was_captured_is_reported(el) {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("cannot go");
            }
        }
        let (a, mut b) = pair();
        let (handle, own, bomb) = (el.clone(), a.clone(), Bomb);
        el.add_reader(&a, move || {
            let _captured = &bomb;
            assert!(handle.remove_reader(&own));
        })
        .unwrap();
        b.write_all(b"x").unwrap();
        el.run_once(None).unwrap();
        let reports = take_reports();
        assert_eq!(reports.len(), 1);
        assert!(reports[0].contains("in the destructor of callback") && reports[0].contains("cannot go"), "{reports:?}");
        assert_eq!(registered(el), 0);
    }

    /// A callback may remove and replace itself; what it captured lives until it returns.
    fn a_callback_that_removes_or_replaces_itself(el) {
        let (a, mut b) = pair();
        let (log, drops) = (Log::new(), DropCounter::new());
        let (handle, own, entry, guard) = (el.clone(), a.clone(), log.clone(), drops.guard());
        el.add_reader(&a, move || {
            let next = entry.clone();
            handle.add_reader(&own, move || next.push("second")).unwrap();
            entry.push("first");
            let _captured = &guard;
        })
        .unwrap();
        b.write_all(b"x").unwrap();
        el.run_once(None).unwrap();
        assert_eq!(drops.count(), 1);
        el.run_once(None).unwrap();
        assert_eq!(log.take(), ["first", "second"]);
        assert!(el.remove_reader(&a));

        let (handle, own, guard) = (el.clone(), a.clone(), drops.guard());
        el.add_reader(&a, move || {
            assert!(handle.remove_reader(&own));
            assert!(!handle.remove_reader(&own));
            let _captured = &guard;
        })
        .unwrap();
        el.run_once(None).unwrap();
        settle(el);
        assert_eq!(drops.count(), 2);
    }

    /// Callbacks run in the context in which they were added.
    fn callbacks_run_in_the_context_of_adding(el) {
        static WHO: ContextVar<&str> = ContextVar::new("who");
        let (a, mut b) = pair();
        let log = Log::new();
        let (entry, handle, watched) = (log.clone(), el.clone(), a.clone());
        complete(el, el.create_task(async move {
            WHO.set("adder");
            handle.add_reader(&watched, move || entry.push(WHO.get().unwrap_or("nobody"))).unwrap();
            WHO.set("changed since");
        }))
        .unwrap();
        b.write_all(b"x").unwrap();
        el.run_once(None).unwrap();
        assert_eq!(log.take(), ["adder"]);
        assert!(el.remove_reader(&a));
    }

    /// A callback may add and remove others, and start connections, while it runs.
    fn a_callback_may_do_anything_with_the_loop(el) {
        let (a, mut b) = pair();
        let record = Record::new();
        let (handle, own, log) = (el.clone(), a.clone(), record.clone());
        el.add_reader(&a, move || {
            assert!(handle.remove_reader(&own));
            let (near, far) = sockets(Net::Unix);
            let (tap, again) = (Tap::new(&log), handle.clone());
            drop(handle.create_task(async move {
                let (transport, _) = again.create_connection(|| tap, near).await.unwrap();
                transport.close();
                drop(far);
            }));
        })
        .unwrap();
        b.write_all(b"x").unwrap();
        until_lost(el, &record);
        assert_eq!(record.take(), ["made", "lost"]);
    }
}

/// The reading and the writing end of a pipe.
fn pipe() -> (File, File) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
    let open = |options: &mut OpenOptions| options.custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    (open(OpenOptions::new().read(true)), open(OpenOptions::new().write(true)))
}

fn log_entry(log: &Log, entry: &'static str) -> impl FnMut() + 'static {
    let log = log.clone();
    move || log.push(entry)
}

/// A duplicate of a socket that has this number.
fn take_number(socket: &UnixStream, number: i32) -> UnixStream {
    let mut spare: Vec<OwnedFd> = Vec::new();
    loop {
        let dup: OwnedFd = socket.try_clone().unwrap().into();
        if dup.as_raw_fd() == number {
            return dup.into();
        }
        assert!(dup.as_raw_fd() < number, "the number is in use");
        spare.push(dup);
    }
}

/// Some turns of a loop that has a reader which does not read.
fn settle_while_readable(el: &EventLoop) {
    for _ in 0..10 {
        el.run_once(Some(std::time::Duration::ZERO)).unwrap();
    }
}

/// SK-01: readers and writers keep a loop from ending its wait early: none of them, and it waits for its timer.
#[test]
fn a_descriptor_that_is_never_ready_does_not_wake_the_loop() {
    on_loop(|el| {
        let (a, _b) = pair();
        while (&*a).write(&[0; 64 * 1024]).is_ok() {}
        el.add_reader(&a, || panic!("nothing to read")).unwrap();
        el.add_writer(&a, || panic!("no room")).unwrap();
        assert_sleeps(el);
        assert!(el.remove_reader(&a) && el.remove_writer(&a));
    });
}

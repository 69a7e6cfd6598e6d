//! What goes wrong with datagrams, and what becomes of the endpoint.

mod common;
#[path = "common/datagrams.rs"]
mod datagrams;

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use common::{DropCounter, Log, complete, on_loop, poll_times, run_on, run_until, settle, take_reports};
use datagrams::{
    Echo, Idle, LOOPBACK, Recorder, bound, close, connected, dead, local, over, plain, receive, unix_pair, wait_for,
};
use roundelay::selector::{Epoll, Interest, Mode, Selector};
use roundelay::{Address, ContextVar, DatagramHandle, DatagramProtocol, EventLoop, LoopClosed, get_running_loop};

on_every_loop! {
    /// UD-13, P30: that nobody was there for a datagram is told on a connected endpoint, each time, and the endpoint goes on.
    fn nobody_is_there(el) {
        let log = Log::new();
        let handle = connected(el, Recorder::new(&log), dead());
        assert_eq!(log.take(), ["made"]);
        for _ in 0..2 {
            handle.sendto(b"anybody?", None);
            assert_eq!(wait_for(el, &log, 1), ["error ECONNREFUSED"]);
            assert!(!handle.is_closing());
        }
        close(el, &handle);
        assert_eq!(log.take(), ["lost"]);
    }

    /// UD-13: answers of a connected endpoint are refused one by one, though they are given at once: of each two the second
    /// is told of the first.
    fn nobody_is_there_for_answers(el) {
        let log = Log::new();
        let (peer, address) = plain();
        let recorder = Recorder::new(&log).then("datagram", |t, data, _| t.sendto(data, None));
        let handle = connected(el, recorder, address);
        for n in 0..10_u8 {
            peer.send_to(&[b'0' + n], local(&handle)).unwrap();
        }
        drop(peer);
        let heard = wait_for(el, &log, 16);
        assert_eq!(heard.iter().filter(|line| *line == "error ECONNREFUSED").count(), 5, "{heard:?}");
        close(el, &handle);
    }

    /// UD-12, UD-13: an endpoint that was refused hears its peer when that has come.
    fn the_peer_comes_later(el) {
        let log = Log::new();
        let (socket, address) = plain();
        drop(socket);
        let handle = connected(el, Recorder::new(&log), address);
        handle.sendto(b"anybody?", None);
        assert_eq!(wait_for(el, &log, 2), ["made", "error ECONNREFUSED"]);
        // In time some other process may have taken the address.
        if let Ok(peer) = std::net::UdpSocket::bind(address) {
            handle.sendto(b"and now?", None);
            peer.set_nonblocking(true).unwrap();
            assert_eq!(receive(el, &peer), (b"and now?".to_vec(), local(&handle)));
            peer.send_to(b"here", local(&handle)).unwrap();
            assert_eq!(wait_for(el, &log, 1), ["datagram \"here\""]);
        }
        close(el, &handle);
    }

    /// UD-14, P31: a datagram that is too long is told of, and what is sent before and after it arrives.
    fn too_long(el) {
        let log = Log::new();
        let (handle, address) = bound(el, Recorder::new(&log));
        let to = Some(Address::from(address));
        handle.sendto(b"before", to.as_ref());
        handle.sendto(&[0; 70_000], to.as_ref());
        handle.sendto(b"after", to.as_ref());
        let mut heard = wait_for(el, &log, 4);
        heard.sort();
        assert_eq!(heard, ["datagram \"after\"", "datagram \"before\"", "error EMSGSIZE", "made"]);
        assert!(!handle.is_closing());
        // The longest one.
        handle.sendto(&[b'x'; 65_507], to.as_ref());
        assert_eq!(wait_for(el, &log, 1), ["datagram of 65507 bytes"]);
        close(el, &handle);
    }

    /// UD-12, UD-14: answers that are sent together do not share their errors: those that can be sent are, in their order.
    fn errors_among_answers(el) {
        let log = Log::new();
        let answered = Cell::new(0_u32);
        let recorder = Recorder::new(&log).then("datagram", move |t, data, from| {
            let n = answered.replace(answered.get() + 1);
            if n % 3 == 1 {
                t.sendto(&[0; 70_000], from);
            } else if n % 3 == 2 {
                t.sendto(data, Some(&"[::1]:9".parse::<std::net::SocketAddr>().unwrap().into()));
            }
            t.sendto(data, from);
        });
        let (handle, address) = bound(el, recorder);
        let (peer, _) = plain();
        for n in 0..10_u8 {
            peer.send_to(&[b'0' + n], address).unwrap();
        }
        let answers: Vec<u8> = (0..10).map(|_| receive(el, &peer).0[0]).collect();
        assert_eq!(answers, b"0123456789");
        let heard = wait_for(el, &log, 17);
        let count = |what: &str| heard.iter().filter(|line| *line == what).count();
        assert_eq!((count("error EMSGSIZE"), count("error EAFNOSUPPORT"), heard.len()), (3, 3, 17), "{heard:?}");
        close(el, &handle);
    }

    /// UD-15: what an unconnected endpoint sends to nobody does not disturb what it sends to somebody.
    fn nobody_is_there_for_one_of_many(el) {
        let log = Log::new();
        let (handle, address) = bound(el, Recorder::new(&log));
        let (peer, to) = plain();
        let nobody = Address::from(dead());
        for n in 0..5_u8 {
            handle.sendto(b"anybody?", Some(&nobody));
            handle.sendto(&[n], Some(&to.into()));
            assert_eq!(receive(el, &peer), (vec![n], address));
        }
        peer.send_to(b"fine", address).unwrap();
        assert_eq!(wait_for(el, &log, 2), ["made", "datagram \"fine\""]);
        close(el, &handle);
    }

    /// UD-12: an error that is told while another one is told comes in a later turn: a protocol that answers each error with
    /// the same mistake keeps nobody waiting.
    fn an_error_for_each_error(el) {
        let (log, left) = (Log::new(), Cell::new(20));
        let recorder = Recorder::new(&log).then("error", move |t, _, _| {
            if left.get() > 0 {
                left.set(left.get() - 1);
                t.sendto(b"no address", None);
            }
        });
        let (handle, _) = bound(el, recorder);
        let turns = el.stats().turns;
        handle.sendto(b"no address", None);
        run_until(el, || log.len() == 22);
        assert!(el.stats().turns - turns > 20);
        close(el, &handle);
    }

    /// UD-17, UD-18: what was amiss before the end is told before the end, and nothing after it.
    fn errors_before_the_end(el) {
        for end in [DatagramHandle::close, DatagramHandle::abort] {
            let log = Log::new();
            let (handle, _) = bound(el, Recorder::new(&log));
            handle.sendto(b"no address", None);
            end(&handle);
            run_until(el, || handle.protocol().is_none());
            assert_eq!(log.take(), ["made", "error EDESTADDRREQ", "lost"]);
            handle.sendto(b"no address", None);
            settle(el);
            assert_eq!(log.len(), 0);
        }
    }

    /// UD-12, UD-17: also what goes amiss while an error is told is told before the end that comes then.
    fn an_error_just_before_the_end(el) {
        let (log, first) = (Log::new(), Cell::new(true));
        let recorder = Recorder::new(&log).then("error", move |t, _, _| {
            if first.replace(false) {
                t.sendto(b"no address", None);
                t.close();
            }
        });
        let (handle, _) = bound(el, recorder);
        handle.sendto(b"no address", None);
        run_until(el, || handle.protocol().is_none());
        assert_eq!(log.take(), ["made", "error EDESTADDRREQ", "error EDESTADDRREQ", "lost"]);
    }

    /// UD-18: sending from an endpoint that is closing or gone does nothing, of whichever kind it is.
    fn sending_after_the_end(el) {
        let (peer, to) = plain();
        let unconnected = bound(el, Idle).0;
        for handle in [connected(el, Idle, to), unconnected] {
            let target = Address::from(to);
            handle.close();
            assert!(handle.is_closing());
            handle.sendto(b"late", Some(&target));
            run_until(el, || handle.protocol().is_none());
            for _ in 0..8 {
                handle.sendto(b"later", Some(&target));
            }
            handle.close();
            handle.abort();
            settle(el);
            assert_eq!(peer.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
            assert_eq!(handle.write_buffer_size(), 0);
            assert!(complete(el, handle.ready()).is_err());
        }
    }

    /// UD-12, EH-13: a panic in any callback is reported with the endpoint and the protocol, and the endpoint goes on.
    fn panics(el) {
        struct Panics;
        impl DatagramProtocol for Panics {
            fn connection_made(&mut self, _: &DatagramHandle) {
                panic!("in made")
            }
            fn datagram_received(&mut self, _: &DatagramHandle, _: &[u8], _: Option<&Address>) {
                panic!("in datagram")
            }
            fn error_received(&mut self, _: &DatagramHandle, _: io::Error) {
                panic!("in error")
            }
            fn connection_lost(&mut self, _: &DatagramHandle, _: Option<io::Error>) {
                panic!("in lost")
            }
        }
        let handler_saw = Rc::new(Cell::new(0));
        let (own, (handle, address)) = (handler_saw.clone(), bound(el, Panics));
        let before = el.exception_handler().unwrap();
        el.set_exception_handler(Some(Rc::new(move |el, context| {
            assert!(context.datagram_transport().is_some() && context.datagram_protocol().is_some());
            assert!(context.transport().is_none());
            own.set(own.get() + 1);
            before(el, context);
        })));
        handle.sendto(b"x", Some(&address.into()));
        handle.sendto(b"x", None);
        run_until(el, || handler_saw.get() == 2);
        assert!(!handle.is_closing());
        handle.sendto(b"x", Some(&address.into()));
        run_until(el, || handler_saw.get() == 3);
        close(el, &handle);
        let mut reports = take_reports();
        assert_eq!(reports.len(), 5, "{reports:?}");
        assert!(reports.remove(0).starts_with("Exception in callback connection_made: in made\n"));
        assert!(reports.pop().unwrap().starts_with("Exception in callback connection_lost: in lost\n"));
        reports.sort();
        assert!(reports[0].starts_with("Exception in callback datagram_received: in datagram\n"), "{reports:?}");
        assert!(reports[2].starts_with("Exception in callback error_received: in error\n"), "{reports:?}");
        assert!(reports[2].contains("<DatagramTransport ") && reports[2].contains("Panics"), "{reports:?}");
    }

    /// EH-11: neither does a panic in `pause_writing` or `resume_writing` end it.
    fn panics_about_flow(el) {
        struct Panics(Rc<Cell<u32>>);
        impl DatagramProtocol for Panics {
            fn pause_writing(&mut self, _: &DatagramHandle) {
                panic!("in pause")
            }
            fn resume_writing(&mut self, _: &DatagramHandle) {
                self.0.set(self.0.get() + 1);
                panic!("in resume")
            }
        }
        let (resumed, (own, peer)) = (Rc::new(Cell::new(0)), unix_pair());
        let handle = over(el, Panics(resumed.clone()), own);
        handle.set_write_buffer_limits(0, None).unwrap();
        while handle.write_buffer_size() == 0 {
            handle.sendto(b"x", None);
        }
        run_until(el, || {
            datagrams::drain(&peer);
            resumed.get() == 1
        });
        assert!(!handle.is_closing());
        close(el, &handle);
        let reports = take_reports();
        assert_eq!(reports.len(), 2, "{reports:?}");
        assert!(reports[0].starts_with("protocol.pause_writing() failed: in pause\n"), "{reports:?}");
        assert!(reports[1].starts_with("protocol.resume_writing() failed: in resume\n"), "{reports:?}");
    }

    /// CX-12: each callback of an endpoint runs in a copy of the context that it was made in.
    fn context(el) {
        thread_local! {
            static WHO: ContextVar<&'static str> = const { ContextVar::new("who") };
        }
        struct Asks(Log);
        impl Asks {
            fn note(&self, what: &str) {
                let who = WHO.with(|who| who.get()).unwrap_or("nobody");
                self.0.push(format!("{what} {who}"));
            }
        }
        impl DatagramProtocol for Asks {
            fn connection_made(&mut self, _: &DatagramHandle) {
                self.note("made");
                WHO.with(|who| who.set("the protocol"));
            }
            fn datagram_received(&mut self, _: &DatagramHandle, _: &[u8], _: Option<&Address>) {
                self.note("datagram");
            }
            fn error_received(&mut self, _: &DatagramHandle, _: io::Error) {
                self.note("error");
            }
            fn pause_writing(&mut self, _: &DatagramHandle) {
                self.note("pause");
            }
            fn connection_lost(&mut self, _: &DatagramHandle, _: Option<io::Error>) {
                self.note("lost");
            }
        }
        let (log, (own, peer)) = (Log::new(), unix_pair());
        let protocol = Asks(log.clone());
        let handle = complete(el, async {
            let el = get_running_loop().unwrap();
            WHO.with(|who| who.set("the maker"));
            let made = el.create_datagram_endpoint(move || protocol).sock(own).await.unwrap().0;
            assert_eq!(WHO.with(|who| who.get()), Some("the maker"));
            made
        });
        peer.send(b"x").unwrap();
        run_until(el, || log.len() == 2);
        handle.set_write_buffer_limits(0, None).unwrap();
        handle.sendto(&vec![0; 1 << 22], None);
        while handle.write_buffer_size() == 0 {
            handle.sendto(b"x", None);
        }
        run_until(el, || log.len() == 4);
        handle.abort();
        run_until(el, || log.len() == 5);
        let expected = ["made the maker", "datagram the protocol", "error the protocol", "pause the protocol"];
        assert_eq!(log.take(), [&expected[..], &["lost the protocol"]].concat());
        assert_eq!(WHO.with(|who| who.get()), None);
    }

    /// UD-06, RW-02: an endpoint whose making is given up at any point leaves nothing behind, and nobody is told more than
    /// that it is over.
    fn given_up(el) {
        for times in 0.. {
            let log = Log::new();
            let recorder = Recorder::new(&log);
            let creating = el.create_datagram_endpoint(move || recorder).local_addr(LOOPBACK);
            match complete(el, poll_times(creating.into_future(), times)) {
                None => settle(el),
                Some(made) => {
                    close(el, &made.unwrap().0);
                    assert!(times >= 2);
                    break;
                }
            }
            let heard = log.take();
            assert!(heard.is_empty() || heard == ["made", "lost"], "{heard:?}");
            assert_eq!(el.stats().transports.live(), 0);
            assert_eq!(el.stats().descriptors.live(), 0);
        }
    }

    /// UD-18: what outlives its loop does nothing: the protocol hears of nothing, and is gone.
    fn after_the_loop(el) {
        struct Kept(#[allow(dead_code)] common::DropGuard);
        impl DatagramProtocol for Kept {
            fn connection_lost(&mut self, _: &DatagramHandle, _: Option<io::Error>) {
                panic!("the loop's own end is no end of a connection")
            }
        }
        let drops = DropCounter::new();
        let (handle, address) = bound(el, Kept(drops.guard()));
        el.set_debug(false);
        el.close();
        assert_eq!(drops.count(), 1);
        assert!(handle.is_closing() && handle.protocol().is_none());
        assert_eq!(handle.extra_info().local_addr, Some(address));
        assert_eq!(handle.extra_info().socket.unwrap().raw_fd(), None);
        handle.sendto(b"x", Some(&address.into()));
        handle.close();
        handle.abort();
        assert_eq!(format!("{handle:?}"), format!("<DatagramTransport {} closed>", handle.id()));

        let other = EventLoop::new().unwrap();
        let error = complete(&other, el.create_datagram_endpoint(|| Idle).local_addr(LOOPBACK)).unwrap_err();
        assert!(error.get_ref().unwrap().is::<LoopClosed>(), "{error}");
        other.close();
    }
}

/// A selector that changes nothing any more when it is told so.
struct Stubborn(Epoll, Rc<Cell<bool>>);

impl Selector for Stubborn {
    fn name(&self) -> &'static str {
        "stubborn"
    }
    fn modify(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest, mode: Mode) -> io::Result<()> {
        if self.1.get() {
            return Err(io::Error::new(ErrorKind::OutOfMemory, "no memory"));
        }
        self.0.modify(fd, key, interest, mode)
    }
    left_to_the_inner_one! { supports_edge add delete wait notifier backend_fd }
}

/// UD-12: what is no datagram's error ends the endpoint, and `connection_lost` tells it.
#[test]
fn a_selector_that_fails() {
    let fails = Rc::new(Cell::new(false));
    let given = fails.clone();
    run_on(
        || EventLoop::builder().selector(Stubborn(Epoll::new().unwrap(), given)),
        |el| {
            let (log, (own, _peer)) = (Log::new(), unix_pair());
            let handle = over(el, Recorder::new(&log), own);
            fails.set(true);
            while !handle.is_closing() {
                handle.sendto(b"x", None);
            }
            run_until(el, || handle.protocol().is_none());
            assert_eq!(log.take(), ["made", "lost OutOfMemory"]);
            assert_eq!(complete(el, handle.ready()).unwrap_err().kind(), ErrorKind::OutOfMemory);
        },
    );
}

/// UD-12: the orderly end of a program closes its endpoints, and tells their protocols.
#[test]
fn the_end_of_a_program() {
    let _alone = common::alone();
    let log = Log::new();
    let heard = log.clone();
    roundelay::block_on(async move {
        let el = get_running_loop().unwrap();
        let (server, _) = el.create_datagram_endpoint(|| Echo).local_addr(LOOPBACK).await.unwrap();
        let recorder = Recorder::new(&heard);
        let (client, _) = el.create_datagram_endpoint(move || recorder).remote_addr(local(&server)).await.unwrap();
        client.sendto(b"x", None);
        while heard.len() < 2 {
            roundelay::yield_now().await;
        }
    });
    assert_eq!(log.take(), ["made", "datagram \"x\"", "lost"]);
}

/// UD-12: a `ProtocolRef` gives access to the protocol, and another protocol can take its place.
#[test]
fn another_protocol() {
    on_loop(|el| {
        let (first, second) = (Log::new(), Log::new());
        let recorder = Recorder::new(&first);
        let (handle, protocol) =
            complete(el, el.create_datagram_endpoint(move || recorder).local_addr(LOOPBACK)).unwrap();
        assert!(handle.protocol().unwrap().downcast::<Recorder>().is_some());
        assert!(handle.protocol().unwrap().is_same(&protocol.clone().into()));
        assert!(protocol.try_with(|_| ()).is_some());
        handle.set_protocol(Recorder::new(&second));
        assert!(!handle.protocol().unwrap().is_same(&protocol.into()));
        let seen = Rc::new(RefCell::new(None));
        handle.sendto(b"x", Some(&local(&handle).into()));
        run_until(el, || second.len() == 1);
        *seen.borrow_mut() = Some(handle.clone());
        close(el, &handle);
        assert_eq!(first.take(), ["made"]);
        assert_eq!(second.take(), ["datagram \"x\"", "lost"]);
    });
}

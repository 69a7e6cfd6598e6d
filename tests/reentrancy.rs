//! Every method of a transport from everywhere: none calls a protocol inline, none panics, and there is one end.

mod common;
mod wire;

use std::cell::{Cell, RefCell};
use std::io::IoSlice;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use bytes::Bytes;
use common::{complete, run_until, settle, take_reports};
use roundelay::{EventLoop, KeepOpen, Protocol, ProtocolRef, Transport};
use wire::{NETS, Net, Peer, Record, Tap, attach, connect, connect_narrow, finish, sockets, until_lost};

/// A method of a transport with arguments.
type Act = fn(&Transport);
/// The same with a name.
type Method = (&'static str, Act);

const METHODS: &[Method] = &[
    ("write", |transport| transport.write(b"word")),
    ("write much", |transport| transport.write(&[b'-'; 300_000])),
    ("write_owned", |transport| transport.write_owned(Bytes::from_static(b"word"))),
    ("write_owned much", |transport| transport.write_owned(vec![b'-'; 300_000])),
    ("writelines", |transport| transport.writelines(&[IoSlice::new(b"wo"), IoSlice::new(b"rd")])),
    ("write_eof", Transport::write_eof),
    ("can_write_eof", |transport| assert!(transport.can_write_eof())),
    ("close", Transport::close),
    ("abort", Transport::abort),
    ("close, abort, close", |transport| {
        transport.close();
        transport.abort();
        transport.close();
    }),
    ("is_closing", |transport| _ = transport.is_closing()),
    ("pause_reading", Transport::pause_reading),
    ("resume_reading", Transport::resume_reading),
    ("pause and resume", |transport| {
        transport.pause_reading();
        transport.resume_reading();
    }),
    ("is_reading", |transport| _ = transport.is_reading()),
    ("unread", |transport| transport.unread(b"again")),
    ("write_buffer_size", |transport| _ = transport.write_buffer_size()),
    ("write_buffer_limits", |transport| _ = transport.write_buffer_limits()),
    ("set_write_buffer_limits", |transport| transport.set_write_buffer_limits(0, 0).unwrap()),
    ("set_write_buffer_limits high", |transport| transport.set_write_buffer_limits(1 << 30, None).unwrap()),
    ("set_write_buffer_cap", |transport| transport.set_write_buffer_cap(1)),
    ("ready", |transport| {
        let mut ready = Box::pin(transport.ready());
        let _ = ready.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }),
    ("set_protocol", |transport| transport.set_protocol(Tap::new(&Record::new()).on_eof(|_| KeepOpen::Yes))),
    ("set_protocol, the same", |transport| {
        if let Some(protocol) = transport.protocol() {
            transport.set_protocol(protocol);
        }
    }),
    ("protocol", |transport| drop(transport.protocol())),
    ("extra_info", |transport| {
        let info = transport.extra_info();
        info.socket.unwrap().with(|_| transport.write(b"from within"));
    }),
    ("text", |transport| drop(format!("{transport:?} {:?}", transport.protocol()))),
    ("clone", |transport| assert_eq!(transport.clone(), *transport)),
];

/// The callbacks of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Made,
    Data,
    Eof,
    Pause,
    Resume,
    Lost,
}

const EVERYWHERE: [At; 6] = [At::Made, At::Data, At::Eof, At::Pause, At::Resume, At::Lost];

/// A protocol that does something in one of its callbacks.
fn acting(record: &Record, at: At, act: impl Fn(&Transport) + 'static) -> Tap {
    let tap = Tap::half_open(record);
    match at {
        At::Made => tap.on_made(act),
        At::Data => tap.on_data(move |transport, _| act(transport)),
        At::Eof => tap.on_eof(move |transport| {
            act(transport);
            KeepOpen::Yes
        }),
        At::Pause => tap.on_pause(act),
        At::Resume => tap.on_resume(act),
        At::Lost => tap.on_lost(act),
    }
}

/// The callbacks of one connection are in the order that is promised.
#[track_caller]
fn check_order(events: &[String], what: &str) {
    let count = |name: &str| events.iter().filter(|event| *event == name).count();
    assert_eq!(count("NESTED"), 0, "{what}: {events:?}");
    assert_eq!(count("made"), 1, "{what}: {events:?}");
    assert_eq!(events.first().map(String::as_str), Some("made"), "{what}: {events:?}");
    assert!(count("eof") <= 1, "{what}: {events:?}");
    let mut paused = false;
    for (place, event) in events.iter().enumerate() {
        match event.as_str() {
            "pause" | "resume" => {
                assert_eq!(paused, event == "resume", "{what}: {events:?}");
                paused = !paused;
            }
            lost if lost.starts_with("lost") => assert_eq!(place, events.len() - 1, "{what}: {events:?}"),
            data if data.starts_with("data") => {
                assert!(!events[..place].iter().any(|event| event == "eof"), "{what}: {events:?}");
            }
            _ => {}
        }
    }
}

/// Makes everything happen to a connection that can: data, a queue that fills and drains, an end of file, the end.
fn live_through_everything(el: &EventLoop, transport: &Transport, peer: &Peer, record: &Record) {
    let _ = peer.socket.send(b"data");
    settle(el);
    transport.write(&[b'-'; 200_000]);
    for _ in 0..100 {
        settle(el);
        peer.pump();
    }
    let _ = peer.socket.shutdown(std::net::Shutdown::Write);
    for _ in 0..20 {
        settle(el);
        peer.pump();
    }
    transport.close();
    for _ in 0..100 {
        settle(el);
        peer.pump();
    }
    transport.abort();
    run_until(el, || record.is_lost() || transport.protocol().is_none());
}

/// The only thing that may be reported: a write behind `write_eof`.
#[track_caller]
fn check_reports(what: &str) {
    let reports = take_reports();
    let misuse = "Transport::write(): cannot write after write_eof()";
    assert!(reports.iter().all(|report| report.starts_with(misuse)), "{what}: {reports:?}");
}

on_every_loop! {
    /// LU-12: every method within every callback of the transport's own protocol.
    fn every_method_within_every_callback(el) {
        for at in EVERYWHERE {
            for &(name, method) in METHODS {
                let (record, acted) = (Record::new(), Rc::new(Cell::new(0)));
                let counter = acted.clone();
                let tap = acting(&record, at, move |transport| {
                    // Not without end: what is done in a callback may be what leads to the next one.
                    if counter.get() < 3 {
                        counter.set(counter.get() + 1);
                        method(transport);
                    }
                });
                let (transport, peer) = connect_narrow(el, Net::Unix, tap);
                live_through_everything(el, &transport, &peer, &record);
                let what = format!("{name} in {at:?}");
                assert!(acted.get() > 0, "{what}: it was never called: {:?}", record.take());
                assert!(record.lost() == 1 || name == "set_protocol", "{what}: {:?}", record.take());
                assert!(transport.is_closing() && transport.protocol().is_none(), "{what}");
                check_order(&record.take(), &what);
                check_reports(&what);
            }
        }
    }

    /// LU-12: every method from a task that looks into the protocol just then.
    fn every_method_while_a_task_is_in_the_protocol(el) {
        for net in NETS {
            for &(name, method) in METHODS {
                let record = Record::new();
                let (near, far) = sockets(net);
                let peer = Peer::new(far);
                let (transport, protocol) = attach(el, near, Tap::half_open(&record));
                let (inner, log) = (transport.clone(), record.clone());
                let task = el.create_task(async move {
                    protocol.with(|_| {
                        log.callback(|| {
                            let before = log.take();
                            method(&inner);
                            assert!(log.is_silent(), "{name} called the protocol");
                            before.into_iter().for_each(|event| log.note(event));
                        });
                    });
                });
                complete(el, task).unwrap();
                live_through_everything(el, &transport, &peer, &record);
                check_order(&record.take(), name);
                check_reports(name);
            }
        }
    }

    /// LU-12: every method within a callback of another transport: nothing is called inline there, either.
    fn every_method_within_another_transports_callback(el) {
        for &(name, method) in METHODS {
            // One record for both, so that a callback within a callback would show.
            let record = Record::new();
            let own = Record::new();
            let (near, far) = sockets(Net::Unix);
            let other = Peer::new(far);
            let (target, peer) = connect_narrow(el, Net::Unix, Both(Tap::half_open(&own), record.clone()));
            let act = target.clone();
            let (source, _) = attach(el, near, Tap::new(&record).on_data(move |_, _| method(&act)));
            other.send(b"go");
            run_until(el, || record.has("data 2"));
            live_through_everything(el, &target, &peer, &own);
            assert!(!source.is_closing());
            assert_eq!(record.count("NESTED"), 0, "{name}");
            check_order(&own.take(), name);
            check_reports(name);
            finish(el, &source, &record);
        }
    }

    /// LU-12: every method from the destructor of a protocol that is replaced, and of one whose connection is gone.
    fn every_method_from_a_protocols_destructor(el) {
        for &(name, method) in METHODS {
            let record = Record::new();
            let kept: Rc<RefCell<Option<Transport>>> = Rc::default();
            let dropped = Rc::new(Cell::new(0));
            let destructor = || {
                let (kept, dropped) = (kept.clone(), dropped.clone());
                move || {
                    dropped.set(dropped.get() + 1);
                    kept.borrow().iter().for_each(method);
                }
            };
            let next = Tap::half_open(&record).on_drop(destructor());
            let tap = Tap::half_open(&record).on_drop(destructor()).on_data({
                let mut next = Some(next);
                move |transport, _| next.take().into_iter().for_each(|next| transport.set_protocol(next))
            });
            let (transport, peer) = connect_narrow(el, Net::Unix, tap);
            *kept.borrow_mut() = Some(transport.clone());
            live_through_everything(el, &transport, &peer, &record);
            settle(el);
            assert_eq!(dropped.get(), 2, "{name}");
            check_order(&record.take(), name);
            check_reports(name);
            kept.take();
        }
    }

    /// LU-12: every method from the destructor of bytes that were given, when they are sent and when they are dropped.
    fn every_method_from_the_destructor_of_given_bytes(el) {
        thread_local! {
            static ACT: RefCell<Option<(Transport, Act)>> = const { RefCell::new(None) };
            static DROPPED: Cell<usize> = const { Cell::new(0) };
        }
        struct Owner(Vec<u8>);
        impl AsRef<[u8]> for Owner {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        impl Drop for Owner {
            fn drop(&mut self) {
                DROPPED.set(DROPPED.get() + 1);
                if let Some((transport, method)) = ACT.with_borrow(Clone::clone) {
                    method(&transport);
                }
            }
        }
        for &(name, method) in METHODS {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, Net::Unix, Tap::half_open(&record));
            for _ in 0..4 {
                transport.write_owned(Bytes::from_owner(Owner(vec![b'-'; 100_000])));
            }
            ACT.set(Some((transport.clone(), method)));
            DROPPED.set(0);
            run_until(el, || {
                peer.pump();
                DROPPED.get() > 0
            });
            live_through_everything(el, &transport, &peer, &record);
            assert_eq!(DROPPED.get(), 4, "{name}");
            ACT.set(None);
            check_order(&record.take(), name);
            check_reports(name);
        }
    }

    /// LU-12: every method from a waker of `ready()`.
    fn every_method_from_a_waker(el) {
        thread_local! {
            static ACT: RefCell<Option<(Transport, Act)>> = const { RefCell::new(None) };
            static WOKEN: Cell<usize> = const { Cell::new(0) };
        }
        struct Acting;
        impl Wake for Acting {
            fn wake(self: Arc<Self>) {
                WOKEN.set(WOKEN.get() + 1);
                if let Some((transport, method)) = ACT.take() {
                    method(&transport);
                }
            }
        }
        for &(name, method) in METHODS {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, Net::Unix, Tap::half_open(&record));
            transport.write(&[b'-'; 300_000]);
            let waker = Waker::from(Arc::new(Acting));
            let mut ready = Box::pin(transport.ready());
            assert!(ready.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            ACT.set(Some((transport.clone(), method)));
            WOKEN.set(0);
            live_through_everything(el, &transport, &peer, &record);
            assert_eq!(WOKEN.get(), 1, "{name}");
            check_order(&record.take(), name);
            check_reports(name);
        }
    }

    /// LU-12: every method from the exception handler that hears of a panic in a callback.
    fn every_method_from_the_exception_handler(el) {
        let reports = el.exception_handler();
        for at in [At::Made, At::Data, At::Eof, At::Pause, At::Resume, At::Lost] {
            for &(name, method) in METHODS {
                let record = Record::new();
                let heard = Rc::new(Cell::new(0));
                let counter = heard.clone();
                el.set_exception_handler(Some(Rc::new(move |_, context| {
                    // What it does itself may be misuse, which is reported in its turn.
                    counter.set(counter.get() + 1);
                    if counter.get() == 1 {
                        assert!(context.protocol().is_some());
                        method(context.transport().unwrap());
                    }
                })));
                let tap = acting(&record, at, |_| panic!("in the middle of it"));
                let (transport, peer) = connect_narrow(el, Net::Unix, tap);
                live_through_everything(el, &transport, &peer, &record);
                let what = format!("{name} after a panic in {at:?}");
                assert!(heard.get() >= 1, "{what}");
                check_order(&record.take(), &what);
            }
        }
        el.set_exception_handler(reports);
    }

    /// `with` from within the protocol's own callback panics and says why; `try_with` gives nothing there.
    fn with_from_within_its_own_callback(el) {
        for net in NETS {
            let record = Record::new();
            let own: Rc<RefCell<Option<ProtocolRef<Tap>>>> = Rc::default();
            let (inner, log) = (own.clone(), record.clone());
            let tap = Tap::new(&record).on_data(move |_, _| {
                let own = inner.take().unwrap();
                assert!(own.try_with(|_| ()).is_none());
                let payload = catch_unwind(AssertUnwindSafe(|| own.with(|_| ()))).unwrap_err();
                log.note(*payload.downcast::<String>().unwrap());
            });
            let (near, far) = sockets(net);
            let peer = Peer::new(far);
            let (transport, protocol) = attach(el, near, tap);
            *own.borrow_mut() = Some(protocol.clone());
            assert!(protocol.try_with(|_| ()).is_some());
            peer.send(b"x");
            run_until(el, || record.len() == 1);
            let events = record.take();
            assert!(events[2].starts_with("ProtocolRef::with(): the "), "{events:?}");
            assert!(events[2].ends_with("called from within one of its own callbacks"), "{events:?}");
            protocol.with(|_| ());
            finish(el, &transport, &record);
            // It can be looked into after the end, too.
            protocol.with(|_| ());
        }
    }

    /// `with` in a callback of another protocol is fine, and `with` within `with` is the same misuse.
    fn with_from_within_another_callback(el) {
        let (first, second) = (Record::new(), Record::new());
        let (near, far) = sockets(Net::Unix);
        let (target, protocol) = attach(el, near, Tap::new(&first));
        let inner = protocol.clone();
        let tap = Tap::new(&second).on_data(move |_, _| assert!(inner.with(|_| inner.try_with(|_| ()).is_none())));
        let (source, peer) = connect(el, Net::Unix, tap);
        peer.send(b"x");
        run_until(el, || second.len() == 1);
        assert!(take_reports().is_empty());
        drop(far);
        until_lost(el, &first);
        assert!(target.is_closing());
        finish(el, &source, &second);
    }

    /// Running the loop from within `with` is misuse that is told of: the connection ends, the loop goes on.
    fn running_the_loop_from_within_with(el) {
        let record = Record::new();
        let (near, far) = sockets(Net::Unix);
        let peer = Peer::new(far);
        let (_, protocol) = attach(el, near, Tap::new(&record));
        peer.send(b"x");
        protocol.with(|_| settle(el));
        let reports = take_reports();
        assert!(reports[0].contains("is in use: its loop was run from within ProtocolRef::with()"), "{reports:?}");
        settle(el);
        // Both the bytes and the end found the protocol in use.
        assert_eq!(reports.len(), 2);
        assert_eq!(record.take(), ["made"]);
    }

    /// A protocol may be shared by several transports, each of which knows who is meant.
    fn a_protocol_may_have_several_transports(el) {
        let record = Record::new();
        let (mut transports, mut peers) = (Vec::new(), Vec::new());
        let heard: Rc<RefCell<Vec<roundelay::TransportId>>> = Rc::default();
        let log = heard.clone();
        let all: Rc<RefCell<Vec<Transport>>> = Rc::default();
        let others = all.clone();
        let shared = ProtocolRef::new(Tap::new(&record).on_data(move |transport, data| {
            log.borrow_mut().push(transport.id());
            // Whatever one of them is sent goes to all.
            others.borrow().iter().for_each(|other| other.write(data));
        }));
        for _ in 0..3 {
            let (transport, peer) = connect(el, Net::Unix, Tap::new(&Record::new()));
            transport.set_protocol(shared.clone());
            all.borrow_mut().push(transport.clone());
            transports.push(transport);
            peers.push(peer);
        }
        peers.iter().for_each(|peer| peer.send(b"x"));
        run_until(el, || peers.iter().all(|peer| peer.count() == 3));
        let mut ids = heard.take();
        ids.sort();
        assert_eq!(ids, transports.iter().map(Transport::id).collect::<Vec<_>>());
        all.take();
        transports.iter().for_each(Transport::close);
        run_until(el, || record.lost() == 3);
        assert_eq!(record.count("NESTED"), 0);
    }

    /// Whoever hears of the end may begin anew: connect, write, close others.
    fn connecting_anew_from_connection_lost(el) {
        let (first, second) = (Record::new(), Record::new());
        let (near, far) = sockets(Net::Unix);
        let far = Peer::new(far);
        let (handle, next, near) = (el.clone(), second.clone(), RefCell::new(Some(near)));
        let tap = Tap::new(&first).on_lost(move |_| {
            let (near, tap, again) = (near.take().unwrap(), Tap::new(&next), handle.clone());
            drop(handle.create_task(async move {
                let (transport, _) = again.create_connection(|| tap, near).await.unwrap();
                transport.write(b"anew");
                transport.close();
            }));
        });
        let (transport, _peer) = connect(el, Net::Unix, tap);
        transport.close();
        until_lost(el, &second);
        assert_eq!(far.received(), b"anew");
        assert_eq!(second.take(), ["made", "lost"]);
    }

    /// Stopping the loop within a callback: what is to be told is told in the next run.
    fn stopping_within_a_callback(el) {
        let record = Record::new();
        let handle = el.clone();
        let tap = Tap::new(&record).on_data(move |transport, _| {
            transport.close();
            handle.stop();
        });
        let (_, peer) = connect(el, Net::Unix, tap);
        peer.send(b"x");
        el.run_forever();
        assert_eq!(record.take(), ["made", "data 1"]);
        until_lost(el, &record);
        assert_eq!(record.take(), ["lost"]);
    }
}

/// A tap whose callbacks are also marked in the record of another one.
struct Both(Tap, Record);

impl Protocol for Both {
    fn connection_made(&mut self, transport: &Transport) {
        self.1.callback(|| self.0.connection_made(transport));
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        self.1.callback(|| self.0.data_received(transport, data));
    }
    fn eof_received(&mut self, transport: &Transport) -> KeepOpen {
        self.1.callback(|| self.0.eof_received(transport))
    }
    fn pause_writing(&mut self, transport: &Transport) {
        self.1.callback(|| self.0.pause_writing(transport));
    }
    fn resume_writing(&mut self, transport: &Transport) {
        self.1.callback(|| self.0.resume_writing(transport));
    }
    fn connection_lost(&mut self, transport: &Transport, error: Option<std::io::Error>) {
        self.1.callback(|| self.0.connection_lost(transport, error));
    }
}

/// A transport that outlives its loop does nothing, whichever method is called.
#[test]
fn every_method_after_the_loop_is_gone() {
    let _alone = common::alone();
    for &(name, method) in METHODS {
        let record = Record::new();
        let el = EventLoop::new().unwrap();
        common::watch_reports(&el);
        let (transport, peer) = connect_narrow(&el, Net::Unix, Tap::half_open(&record));
        transport.write(&[b'-'; 300_000]);
        drop(el);
        let before = common::open_descriptors();
        method(&transport);
        peer.pump();
        assert!(peer.end().is_some(), "{name}: the socket is still open");
        assert_eq!(common::open_descriptors(), before, "{name}");
        assert_eq!(record.take(), ["made"], "{name}");
        assert!(take_reports().is_empty(), "{name}");
    }
}

/// Closing a loop lets go of its protocols; their destructors may call any method of any transport of it.
#[test]
fn every_method_from_a_destructor_while_the_loop_closes() {
    for &(name, method) in METHODS {
        common::on_loop(|el| {
            let record = Record::new();
            let all: Rc<RefCell<Vec<Transport>>> = Rc::default();
            let dropped = Rc::new(Cell::new(0));
            let mut peers = Vec::new();
            for _ in 0..3 {
                let (others, counter) = (all.clone(), dropped.clone());
                let tap = Tap::half_open(&record).on_drop(move || {
                    counter.set(counter.get() + 1);
                    others.borrow().iter().for_each(method);
                });
                let (transport, peer) = connect_narrow(el, Net::Unix, tap);
                transport.write(&[b'-'; 300_000]);
                all.borrow_mut().push(transport);
                peers.push(peer);
            }
            record.take();
            el.close();
            assert_eq!(dropped.get(), 3, "{name}");
            assert!(record.is_silent(), "{name}: {:?}", record.take());
            all.take();
            check_reports(name);
        });
    }
}

/// A destructor that panics while the loop closes does not keep the others from being closed.
#[test]
fn a_panicking_destructor_while_the_loop_closes() {
    common::on_loop(|el| {
        let record = Record::new();
        let mut all = Vec::new();
        for _ in 0..3 {
            all.push(connect(el, Net::Unix, Tap::new(&record).on_drop(|| panic!("at the very end"))));
        }
        el.close();
        let reports = take_reports();
        assert_eq!(reports.len(), 3);
        assert!(reports.iter().all(|report| report.starts_with("Exception in the destructor of a protocol")));
        assert!(all.iter().all(|(transport, peer)| transport.is_closing() && peer.at_eof()));
    });
}

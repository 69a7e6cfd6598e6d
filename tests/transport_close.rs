//! How a stream transport ends, on every selector (behaviours CL; the order of its callbacks is compared with asyncio's
//! in `oracle`).

mod common;
mod wire;

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use common::{DropCounter, complete, run_until, settle, take_reports};
use futures::io::{AsyncReadExt, AsyncWriteExt};
use roundelay::{
    EventLoop, Protocol, StreamReader, StreamWriter, TcpStream, Transport, open_connection, spawn, start_server,
};
use wire::{NETS, Net, Record, Tap, assert_sleeps, connect, connect_narrow, finish, pattern, sockets, until_lost};

/// How many descriptors the loop has registered.
fn registered(el: &EventLoop) -> u64 {
    el.stats().descriptors.live()
}

on_every_loop! {
    /// CL-01: the peer's end of file is told, and then, unless the protocol wants to go on, the connection ends by itself.
    fn the_end_of_file_ends_the_connection(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::new(&record));
            peer.send_eof();
            until_lost(el, &record);
            assert!(transport.is_closing());
            run_until(el, || peer.at_eof());
            assert_eq!(record.take(), ["made", "eof", "lost"]);
        }
    }

    /// CL-04: `write_eof` with nothing queued ends this side at once, a second one does nothing; the other side goes on.
    fn the_end_of_this_side(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::new(&record));
            assert!(transport.can_write_eof());
            transport.write_eof();
            assert!(peer.at_eof(), "no turn is needed");
            transport.write_eof();
            peer.send(b"answer");
            run_until(el, || record.len() == 6);
            assert!(transport.is_reading() && !transport.is_closing());
            peer.close();
            until_lost(el, &record);
            assert_eq!(record.take(), ["made", "data 6", "eof", "lost"]);
        }
    }

    /// CL-06: `write_eof` after `close` does nothing: what is queued is sent, and there is one end.
    fn write_eof_after_close(el) {
        let record = Record::new();
        let (transport, peer) = connect_narrow(el, Net::Unix, Tap::new(&record));
        let data = pattern(300_000);
        transport.write(&data);
        transport.close();
        transport.write_eof();
        run_until(el, || peer.at_eof());
        assert!(peer.received() == data);
        until_lost(el, &record);
        transport.write_eof();
        settle(el);
        assert_eq!(record.take(), ["made", "pause", "resume", "lost"]);
    }

    /// CL-07: neither `close` nor `abort` calls the protocol: the end comes in a turn of its own, behind what was ready.
    fn the_end_is_not_told_inline(el) {
        for close in [Transport::close, Transport::abort] {
            let record = Record::new();
            let (transport, _peer) = connect(el, Net::Unix, Tap::new(&record));
            settle(el);
            let noted = record.clone();
            el.call_soon(move || noted.note("ready before"));
            close(&transport);
            assert!(transport.is_closing());
            assert_eq!(record.take(), ["made"]);
            until_lost(el, &record);
            assert_eq!(record.take(), ["ready before", "lost"]);
        }
    }

    /// CL-08: a close with something queued stops reading at once, sends everything, resumes the writer and ends.
    fn a_close_sends_what_is_queued(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
            let data = pattern(600_000);
            transport.write(&data);
            settle(el);
            transport.close();
            assert!(transport.is_closing() && !transport.is_reading());
            peer.send(b"too late");
            settle(el);
            assert_eq!(record.take(), ["made", "pause"]);
            assert!(transport.write_buffer_size() > 0);
            run_until(el, || peer.count() == data.len());
            until_lost(el, &record);
            assert!(peer.received() == data);
            assert_eq!(record.take(), ["resume", "lost"]);
        }
    }

    /// CL-09: an abort drops what is queued, also while a close waits for it; the end has no error.
    fn an_abort_drops_what_is_queued(el) {
        for net in NETS {
            for closed_before in [false, true] {
                let record = Record::new();
                let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
                transport.write(&pattern(600_000));
                if closed_before {
                    transport.close();
                }
                settle(el);
                transport.abort();
                assert_eq!(transport.write_buffer_size(), 0);
                until_lost(el, &record);
                run_until(el, || peer.end().is_some());
                assert!(peer.count() < 600_000);
                assert_eq!(record.take(), ["made", "pause", "lost"]);
            }
        }
    }

    /// CL-11: nothing is received any more after a close or an abort within `data_received`, not even an end of file.
    fn nothing_is_received_after_a_close(el) {
        for net in NETS {
            for close in [Transport::close, Transport::abort] {
                let record = Record::new();
                let (transport, peer) = connect(el, net, Tap::new(&record).on_data(move |it, _| close(it)));
                peer.send(b"one");
                settle(el);
                let _ = peer.socket.send(b"two");
                drop(peer);
                until_lost(el, &record);
                settle(el);
                assert!(transport.is_closing());
                assert_eq!(record.take(), ["made", "data 3", "lost"]);
            }
        }
    }

    /// CL-14: an event that waits in the queue when its transport is closed, by somebody else's callback, does nothing.
    fn a_queued_event_of_a_closed_transport(el) {
        for net in NETS {
            let records = [Record::new(), Record::new()];
            let others: Rc<RefCell<Vec<Transport>>> = Rc::default();
            let connections = records.each_ref().map(|record| {
                let others = others.clone();
                let close_all = move |_: &Transport, _: &[u8]| others.borrow().iter().for_each(Transport::close);
                connect(el, net, Tap::new(record).on_data(close_all))
            });
            settle(el);
            // Both are ready in one turn; whichever is first closes both.
            for (transport, peer) in &connections {
                others.borrow_mut().push(transport.clone());
                peer.send(b"x");
            }
            run_until(el, || records.iter().all(Record::is_lost));
            let told = records.map(|record| record.take());
            assert_eq!(told.iter().filter(|told| told.iter().any(|event| event == "data 1")).count(), 1, "{told:?}");
            others.borrow_mut().clear();
        }
    }
}

on_every_loop! {
    /// CL-10: close and abort in any combination, with and without a queue: one `connection_lost`, and without an error.
    fn one_end_however_it_is_closed(el) {
        const WAYS: [fn(&Transport); 3] = [Transport::close, Transport::abort, Transport::write_eof];
        for net in NETS {
            for code in 0..27 {
                for queued in [0, 300_000] {
                    let calls = [WAYS[code % 3], WAYS[code / 3 % 3], WAYS[code / 9]];
                    let record = Record::new();
                    let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
                    transport.write(&pattern(queued));
                    calls.iter().for_each(|call| call(&transport));
                    assert!(!record.is_lost(), "called inline");
                    // Only a `write_eof` leaves it open.
                    if code == 26 {
                        assert!(!transport.is_closing());
                        transport.close();
                    }
                    run_until(el, || {
                        peer.pump();
                        record.is_lost()
                    });
                    settle(el);
                    assert_eq!(record.lost(), 1);
                    assert!(record.has("lost"), "{:?}", record.take());
                    calls.iter().for_each(|call| call(&transport));
                    settle(el);
                    assert_eq!(record.lost(), 1);
                }
            }
        }
    }

    /// CL-12: after the end the transport keeps neither its protocol nor its socket, whoever holds handles of it.
    fn nothing_is_kept_after_the_end(el) {
        for net in NETS {
            let (record, drops) = (Record::new(), DropCounter::new());
            let guard = drops.guard();
            let (transport, peer) = connect(el, net, Tap::new(&record).on_drop(move || drop(guard)));
            let socket = transport.extra_info().socket.unwrap();
            transport.close();
            assert_eq!(drops.count(), 0);
            until_lost(el, &record);
            settle(el);
            assert_eq!(drops.count(), 1);
            assert!(transport.protocol().is_none());
            assert!(socket.raw_fd().is_none());
            assert!(peer.at_eof());
        }
    }

    /// CL-13: closing ends the registration for writing as well, also with nothing queued any more: a duplicate of the
    /// socket, which keeps the kernel's side of it alive, makes no event.
    fn closing_ends_the_registration(el) {
        for net in NETS {
            for close in [Transport::close, Transport::abort] {
                let before = registered(el);
                let record = Record::new();
                let (transport, peer) = connect_narrow(el, net, Tap::half_open(&record));
                let duplicate = transport.extra_info().socket.unwrap().with(|socket| socket.try_clone().unwrap());
                // It has waited for room, and waits no more.
                transport.write(&pattern(300_000));
                assert!(transport.write_buffer_size() > 0);
                run_until(el, || peer.count() == 300_000);
                assert_eq!(transport.write_buffer_size(), 0);
                close(&transport);
                until_lost(el, &record);
                assert_eq!(registered(el), before);
                // Writable all along, and readable again and again.
                for _ in 0..3 {
                    peer.send(b"is anybody there?");
                    assert_sleeps(el);
                }
                assert_eq!(record.take(), ["made", "pause", "resume", "lost"]);
                drop(duplicate);
            }
        }
    }

    /// CL-15: a hundred clients at once, and a server that ends each conversation with two `write_eof`, a `drain` and a
    /// `close`: all come to their end, and all bytes arrive.
    fn a_hundred_ends_at_once(el) {
        const CLIENTS: usize = 100;
        let answer = Rc::new(pattern(20_000));
        let expected = answer.clone();
        let server = complete(el, async {
            start_server(
                move |mut reader: StreamReader, mut writer: StreamWriter| {
                    let answer = answer.clone();
                    async move {
                        let line = reader.readline().await?;
                        assert_eq!(line, b"go\n");
                        writer.write(&answer);
                        writer.write_eof();
                        writer.write_eof();
                        writer.drain().await?;
                        writer.close();
                        writer.wait_closed().await
                    }
                },
                ("127.0.0.1", 0),
            )
            .await
        })
        .unwrap();
        let address = server.local_addrs()[0];
        complete(el, async {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    spawn(async move {
                        let (mut reader, mut writer) = open_connection(address).await?;
                        writer.write(b"go\n");
                        let answer = reader.read_to_end().await?;
                        writer.close();
                        writer.wait_closed().await?;
                        io::Result::Ok(answer)
                    })
                })
                .collect();
            for client in clients {
                assert!(client.await.unwrap().unwrap() == *expected);
            }
            server.close();
            server.wait_closed().await;
        });
        assert_eq!(el.stats().transports.live(), 0);
    }

    /// CL-16: a second `write_eof` changes nothing, whether the first is still waiting for the queue or done; a `close`
    /// that comes meanwhile comes after it: all bytes, then the end of file, then the end.
    fn shut_down_twice_and_closed(el) {
        for net in NETS {
            for queued in [1000, 300_000] {
                let record = Record::new();
                let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
                let data = pattern(queued);
                transport.write(&data);
                transport.write_eof();
                transport.write_eof();
                transport.close();
                assert!(transport.is_closing() && !record.is_lost());
                run_until(el, || {
                    peer.pump();
                    record.is_lost()
                });
                assert!(peer.received() == data);
                assert!(peer.at_eof());
                let told = record.take();
                assert_eq!((told.first().unwrap().as_str(), told.last().unwrap().as_str()), ("made", "lost"));
            }
        }
    }

    /// CL-16: a plain stream may be closed for writing twice, too.
    fn a_stream_shut_down_twice(el) {
        let (near, far) = sockets(Net::Tcp);
        complete(el, async {
            let mut near = TcpStream::from_std(near.into()).unwrap();
            near.close().await.unwrap();
            near.close().await.unwrap();
            let mut far = TcpStream::from_std(far.into()).unwrap();
            assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
            far.write_all(b"still open").await.unwrap();
            let mut data = [0; 10];
            near.read_exact(&mut data).await.unwrap();
            assert_eq!(&data, b"still open");
        });
    }

    /// CL-17: both ends shut down at the same moment: each gets the other's bytes and end of file, and each is lost once.
    fn both_ends_shut_down_at_once(el) {
        for net in NETS {
            let (near, far) = sockets(net);
            let records = [Record::new(), Record::new()];
            let (a, _) = wire::attach(el, near, Tap::half_open(&records[0]));
            let (b, _) = wire::attach(el, far, Tap::half_open(&records[1]));
            for transport in [&a, &b] {
                transport.write(b"bye");
                transport.write_eof();
            }
            run_until(el, || records.iter().all(|record| record.has("eof")));
            settle(el);
            for (transport, record) in [(&a, &records[0]), (&b, &records[1])] {
                transport.close();
                until_lost(el, record);
                assert_eq!(record.take(), ["made", "data 3", "eof", "lost"]);
            }
        }
    }

    /// CL-02, P42: one side ends its writing, the other keeps the connection, answers and closes: each event once, and in
    /// this order. The one whose peer has ended does not say that it reads.
    fn a_half_close_between_two_transports(el) {
        for net in NETS {
            let (near, far) = sockets(net);
            let (a_record, b_record) = (Record::new(), Record::new());
            let (a, _) = wire::attach(el, near, Tap::new(&a_record));
            let (b, _) = wire::attach(el, far, Tap::half_open(&b_record));
            a.write_eof();
            run_until(el, || b_record.has("eof"));
            assert!(!b.is_reading() && !b.is_closing());
            b.write(b"answer");
            run_until(el, || a_record.len() == 6);
            b.close();
            run_until(el, || a_record.is_lost() && b_record.is_lost());
            assert_eq!(a_record.take(), ["made", "data 6", "eof", "lost"]);
            assert_eq!(b_record.take(), ["made", "eof", "lost"]);
        }
    }

    /// TT-25, gh-156512 of asyncio: flow control that ends the connection, in whichever way and whether or not it was
    /// closing already, ends it once.
    fn flow_control_that_ends_the_connection(el) {
        for net in NETS {
            for end in [Transport::close, Transport::abort, Transport::write_eof] {
                for closing in [false, true] {
                    for at_pause in [false, true] {
                        let record = Record::new();
                        let tap = Tap::new(&record);
                        let tap = if at_pause { tap.on_pause(end) } else { tap.on_resume(end) };
                        let (transport, peer) = connect_narrow(el, net, tap);
                        transport.write(&pattern(300_000));
                        if closing {
                            transport.close();
                        }
                        run_until(el, || {
                            peer.pump();
                            // What has only ended its writing side is still open.
                            record.is_lost() || peer.at_eof() && !transport.is_closing()
                        });
                        transport.close();
                        until_lost(el, &record);
                        settle(el);
                        assert_eq!(record.lost(), 1);
                        assert_eq!(record.take().last().unwrap(), "lost");
                    }
                }
            }
        }
    }

    /// CL-18: with `SO_LINGER` of zero set on the transport's socket, an end is a reset for the peer.
    fn a_reset_on_purpose(el) {
        for close in [Transport::close, Transport::abort] {
            let record = Record::new();
            let (transport, peer) = connect(el, Net::Tcp, Tap::new(&record));
            let socket = transport.extra_info().socket.unwrap();
            socket.with(|socket| socket.set_linger(Some(Duration::ZERO)).unwrap()).unwrap();
            close(&transport);
            until_lost(el, &record);
            run_until(el, || peer.end().is_some());
            assert_eq!(peer.end(), Some(Err(ErrorKind::ConnectionReset)));
            assert_eq!(record.take(), ["made", "lost"]);
        }
    }

    /// CL-19: after `write_eof` nothing can be written; that is reported, and reading goes on.
    fn not_writable_after_its_end(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::new(&record));
            transport.write(b"last");
            transport.write_eof();
            transport.write(b"words");
            let reports = take_reports();
            assert_eq!(reports.len(), 1, "{reports:?}");
            assert!(reports[0].contains("write_eof"), "{reports:?}");
            run_until(el, || peer.at_eof());
            assert_eq!(peer.received(), b"last");
            peer.send(b"heard");
            run_until(el, || record.len() == 5);
            assert!(transport.is_reading());
            finish(el, &transport, &record);
        }
        // A plain stream says so by the error.
        let (near, _far) = sockets(Net::Tcp);
        complete(el, async {
            let mut near = TcpStream::from_std(near.into()).unwrap();
            near.close().await.unwrap();
            assert_eq!(near.write(b"words").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        });
    }

    /// CL-19: after an error in reading a transport is neither readable nor writable: it is closing at once, and nothing
    /// brings it back.
    fn neither_readable_nor_writable_after_an_error(el) {
        let record = Record::new();
        let seen = Rc::new(RefCell::new(None));
        let inside = seen.clone();
        let state = |transport: &Transport| (transport.is_closing(), transport.is_reading());
        let tap = Tap::half_open(&record).on_lost(move |transport| *inside.borrow_mut() = Some(state(transport)));
        let (transport, peer) = connect(el, Net::Tcp, tap);
        assert_eq!(state(&transport), (false, true));
        peer.reset();
        until_lost(el, &record);
        assert_eq!(seen.take(), Some((true, false)));
        transport.resume_reading();
        transport.write(b"anybody there?");
        assert_eq!(state(&transport), (true, false));
        assert_eq!(transport.write_buffer_size(), 0);
        assert_eq!(complete(el, transport.ready()).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(record.take(), ["made", "lost ConnectionReset"]);
    }

    /// CL-20: the loop owns an open transport: with all handles dropped it goes on, and belongs to its server. Closing
    /// the loop under it closes the descriptor, and detaches it from the server.
    fn the_loop_owns_the_transport(el) {
        let record = Record::new();
        let told = record.clone();
        // Not even the protocol keeps a handle.
        let factory = move || Tap::new(&told).on_data(|transport, data| transport.write(data));
        let server = complete(el, el.create_server(factory, ("127.0.0.1", 0))).unwrap();
        let peer = std::net::TcpStream::connect(server.local_addrs()[0]).unwrap();
        let peer = wire::Peer::new(peer.into());
        run_until(el, || server.connections() == 1);
        peer.send(b"hello");
        run_until(el, || peer.count() == 5);
        settle(el);
        assert_eq!((server.connections(), peer.end()), (1, None));
        el.close();
        assert_eq!(server.connections(), 0);
        assert!(peer.end().is_some());
        assert_eq!(record.take(), ["made", "data 5"]);
    }
}

/// Keeps its own transport.
#[derive(Default)]
struct Keeps(Rc<RefCell<Option<Transport>>>);

impl Protocol for Keeps {
    fn connection_made(&mut self, transport: &Transport) {
        *self.0.borrow_mut() = Some(transport.clone());
    }
}

on_every_loop! {
    /// CL-12: a protocol that keeps its transport makes a circle: the end of the connection opens it.
    fn a_circle_is_opened(el) {
        let drops = DropCounter::new();
        struct Guarded(Keeps, #[allow(dead_code)] common::DropGuard);
        impl Protocol for Guarded {
            fn connection_made(&mut self, transport: &Transport) {
                self.0.connection_made(transport);
            }
        }
        let (near, far) = sockets(Net::Tcp);
        drop(wire::attach(el, near, Guarded(Keeps::default(), drops.guard())));
        far.shutdown(Shutdown::Write).unwrap();
        run_until(el, || el.stats().transports.live() == 0);
        settle(el);
        assert_eq!(drops.count(), 1);
    }
}

/// A look at a transport's socket may do anything, also end the loop: the socket is open until the look is over.
#[test]
fn the_loop_is_closed_within_a_look() {
    common::on_loop(|_| {
        let el = EventLoop::new().unwrap();
        common::watch_reports(&el);
        let (near, _far) = sockets(Net::Tcp);
        let (transport, _) = wire::attach(&el, near, Keeps::default());
        let socket = transport.extra_info().socket.unwrap();
        let address = socket.with(|socket| {
            transport.abort();
            el.close();
            socket.local_addr().unwrap()
        });
        assert!(address.is_some() && socket.raw_fd().is_none());
        assert!(el.stats().is_balanced());
        assert_eq!(take_reports(), Vec::<String>::new());
    });
}

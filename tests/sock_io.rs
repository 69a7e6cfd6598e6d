//! `sock_recv`, `sock_sendall` and their kin on sockets of every kind (behaviours SK).

mod common;
mod wire;

use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::rc::Rc;
use std::time::Duration;

use common::{Kind, complete, run, run_until, settle};
use roundelay::{Address, EventLoop, LoopClosed, TcpStream, UnixAddr, timeout, yield_now};
use socket2::{Domain, SockRef, Socket, Type};
use wire::{Net, Record, Tap, assert_sleeps, connect, finish, pattern, sockets};

/// Two connected sockets that do not block.
fn pair(net: Net) -> (Rc<Socket>, Rc<Socket>) {
    let (a, b) = sockets(net);
    a.set_nonblocking(true).unwrap();
    b.set_nonblocking(true).unwrap();
    (Rc::new(a), Rc::new(b))
}

/// Two bound UDP sockets that do not block.
fn udp_pair() -> (UdpSocket, UdpSocket) {
    let bound = || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    (bound(), bound())
}

/// How many descriptors the loop has registered so far, and now.
fn registrations(el: &EventLoop) -> (u64, u64) {
    let descriptors = el.stats().descriptors;
    (descriptors.opened, descriptors.live())
}

/// The error must be of this kind, and say this.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: io::Result<T>, kind: ErrorKind, text: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(text), "{error}");
}

on_every_loop! {
    /// SK-10: what can be done at once is done in the first poll, and nothing is registered for it.
    fn what_does_not_block_is_done_at_once(el) {
        let made = registrations(el).0;
        for net in wire::NETS {
            let (a, b) = pair(net);
            complete(el, async {
                let turn = el.stats().turns;
                el.sock_sendall(&*a, b"hello").await.unwrap();
                if net == Net::Unix {
                    assert_eq!(el.sock_recv(&*b, 3).await.unwrap(), b"hel");
                    let mut rest = [0; 8];
                    assert_eq!(el.sock_recv_into(&*b, &mut rest).await.unwrap(), 2);
                    assert_eq!(&rest[..2], b"lo");
                }
                assert_eq!(el.stats().turns, turn);
            });
        }
        let (a, b) = udp_pair();
        complete(el, async {
            let turn = el.stats().turns;
            let sent = el.sock_sendto(&a, b"datagram", b.local_addr().unwrap()).await.unwrap();
            assert_eq!(sent, 8);
            assert_eq!(el.stats().turns, turn);
        });
        assert_eq!(registrations(el), (made, 0));
    }

    /// SK-10: what would block is registered while it waits, and only then.
    fn what_would_block_is_registered_while_it_waits(el) {
        for net in wire::NETS {
            let (a, b) = pair(net);
            let task = el.create_task(el.sock_recv(a.clone(), 100));
            settle(el);
            assert_eq!(registrations(el).1, 1);
            assert_sleeps(el);
            complete(el, el.sock_sendall(&*b, "hello")).unwrap();
            assert_eq!(complete(el, task).unwrap().unwrap(), b"hello");
            assert_eq!(registrations(el).1, 0);
            // The end of the stream, waited for.
            let task = el.create_task(el.sock_recv(a, 100));
            settle(el);
            drop(b);
            assert_eq!(complete(el, task).unwrap().unwrap(), b"");
            assert_eq!(registrations(el).1, 0);
        }
    }

    /// SK-19: one megabyte each way at once over one socket: one task sends while another one receives.
    fn a_megabyte_echoed_over_one_socket(el) {
        for net in wire::NETS {
            let (near, far) = pair(net);
            let bytes = pattern(1 << 20);
            let echo = el.create_task({
                let el = el.clone();
                async move {
                    let mut total = 0;
                    while total < 1 << 20 {
                        let data = el.sock_recv(&*far, 100_000).await.unwrap();
                        assert!(!data.is_empty());
                        total += data.len();
                        el.sock_sendall(&*far, data).await.unwrap();
                    }
                }
            });
            let sender = el.create_task(el.sock_sendall(near.clone(), bytes.clone()));
            let received = complete(el, async {
                let (mut received, mut into) = (Vec::new(), vec![0; 70_000]);
                while received.len() < 1 << 20 {
                    // Both ways of receiving by turns.
                    let data = el.sock_recv(&*near, 50_000).await.unwrap();
                    received.extend_from_slice(&data);
                    if received.len() < 1 << 20 {
                        let n = el.sock_recv_into(&*near, &mut into).await.unwrap();
                        received.extend_from_slice(&into[..n]);
                    }
                }
                received
            });
            complete(el, async { (sender.await.unwrap().unwrap(), echo.await.unwrap()) });
            assert!(received == bytes, "bytes were lost, doubled or swapped");
            assert_eq!(registrations(el).1, 0);
        }
    }

    /// SK-20: a datagram received into a part of a buffer leaves the rest alone, and is cut off.
    fn a_datagram_into_a_part_of_a_buffer(el) {
        let (a, b) = udp_pair();
        let from = Some(Address::from(a.local_addr().unwrap()));
        complete(el, async {
            for _ in 0..2 {
                el.sock_sendto(&a, "0123456789", b.local_addr().unwrap()).await.unwrap();
            }
            let mut buffer = [b'-'; 12];
            let received = el.sock_recvfrom_into(&b, &mut buffer[..4]).await.unwrap();
            assert_eq!(received, (4, from.clone()));
            assert_eq!(&buffer, b"0123--------");
            let received = el.sock_recvfrom_into(&b, &mut buffer).await.unwrap();
            assert_eq!(received, (10, from));
            assert_eq!(&buffer, b"0123456789--");
        });
    }

    /// SK-20: datagrams as new memory, empty ones among them, with the sender's address; waited for, too.
    fn datagrams_with_their_senders(el) {
        let (a, b) = udp_pair();
        let b = Rc::new(b);
        let receiver = el.create_task({
            let (el, b) = (el.clone(), b.clone());
            async move {
                let mut all = Vec::new();
                for _ in 0..3 {
                    all.push(el.sock_recvfrom(&*b, 4).await.unwrap());
                }
                all
            }
        });
        settle(el);
        let to = b.local_addr().unwrap();
        let received = complete(el, async {
            for data in ["one", "", "three"] {
                yield_now().await;
                assert_eq!(el.sock_sendto(&a, data, to).await.unwrap(), data.len());
            }
            receiver.await.unwrap()
        });
        let from = Some(Address::from(a.local_addr().unwrap()));
        let wanted = ["one", "", "thre"].map(|text| (text.as_bytes().to_vec(), from.clone()));
        assert_eq!(received, wanted);
    }

    /// SK-10: of a connection, and of a unix socket that is not bound, there is no address of the sender.
    fn senders_without_an_address(el) {
        let (a, b) = pair(Net::Tcp);
        let (c, d) = UnixDatagram::pair().unwrap();
        d.set_nonblocking(true).unwrap();
        complete(el, async {
            el.sock_sendall(&*a, b"x").await.unwrap();
            assert_eq!(el.sock_recvfrom(&*b, 10).await.unwrap(), (b"x".to_vec(), None));
            c.send(b"y").unwrap();
            assert_eq!(el.sock_recvfrom(&d, 10).await.unwrap(), (b"y".to_vec(), None));
        });
    }

    /// SK-10: more than the loop's own buffer holds, in one piece: a datagram is not cut in two.
    fn a_large_datagram_in_one_piece(el) {
        let (a, b) = UnixDatagram::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        b.set_nonblocking(true).unwrap();
        SockRef::from(&a).set_send_buffer_size(1 << 20).unwrap();
        let bytes = pattern(150_000);
        complete(el, async {
            el.sock_sendall(&a, &bytes).await.unwrap();
            assert!(el.sock_recv(&b, 300_000).await.unwrap() == bytes);
            // An empty one is one, too.
            el.sock_sendall(&a, b"").await.unwrap();
            assert_eq!(el.sock_recv(&b, 10).await.unwrap(), b"");
        });
        let too_much = complete(el, el.sock_recv(&b, usize::MAX >> 1));
        assert_eq!(too_much.unwrap_err().kind(), ErrorKind::OutOfMemory);
    }

    /// SK-21: a datagram that finds no room waits, and is sent when there is some.
    fn a_datagram_waits_for_room(el) {
        let (a, b) = UnixDatagram::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        b.set_nonblocking(true).unwrap();
        let mut sent = 0_u32;
        while a.send(&sent.to_le_bytes()).is_ok() {
            sent += 1;
        }
        let (a, number) = (Rc::new(a), sent);
        let task = el.create_task(el.sock_sendall(a.clone(), number.to_le_bytes()));
        settle(el);
        assert!(!task.is_done());
        assert_sleeps(el);
        complete(el, async {
            for number in 0..=number {
                assert_eq!(el.sock_recv(&b, 10).await.unwrap(), number.to_le_bytes());
            }
            task.await.unwrap().unwrap();
        });
    }

    /// SK-21: also where the socket is not connected, and the system does not tell when there is room: it waits without
    /// spinning, until there is.
    fn a_datagram_to_a_full_queue_waits(el) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("receiver");
        let (a, b) = (UnixDatagram::unbound().unwrap(), UnixDatagram::bind(&path).unwrap());
        a.set_nonblocking(true).unwrap();
        b.set_nonblocking(true).unwrap();
        let mut sent = 0_u32;
        while a.send_to(&sent.to_le_bytes(), &path).is_ok() {
            sent += 1;
        }
        let a = Rc::new(a);
        let task = el.create_task(el.sock_sendto(a.clone(), "last", path.as_path()));
        settle(el);
        assert!(!task.is_done());
        assert_sleeps(el);
        complete(el, async {
            for number in 0..sent {
                assert_eq!(el.sock_recv(&b, 10).await.unwrap(), number.to_le_bytes());
            }
            assert_eq!(el.sock_recv(&b, 10).await.unwrap(), b"last");
            assert_eq!(task.await.unwrap().unwrap(), 4);
        });
    }

    /// SK-10: whatever lends the descriptor will do, and one that is owned goes with the future.
    fn any_lender_will_do(el) {
        let (a, b) = UnixStream::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        b.set_nonblocking(true).unwrap();
        complete(el, async {
            el.sock_sendall(a.as_fd(), b"x").await.unwrap();
            assert_eq!(el.sock_recv(&b, 10).await.unwrap(), b"x");
            let owned: OwnedFd = a.into();
            el.sock_sendall(owned, vec![b'y']).await.unwrap();
            assert_eq!(el.sock_recv(&b, 10).await.unwrap(), b"y");
            assert_eq!(el.sock_recv(b, 10).await.unwrap(), b"");
        });
    }

    /// SK-22: a future that owns its socket, or a share of it, keeps it open until it is done, whoever else lets go of it.
    fn a_future_keeps_what_it_owns(el) {
        let (a, b) = pair(Net::Tcp);
        let task = el.create_task(el.sock_recv(a.clone(), 10));
        settle(el);
        drop(a);
        settle(el);
        assert!(!task.is_done());
        complete(el, el.sock_sendall(&*b, b"late")).unwrap();
        assert_eq!(complete(el, task).unwrap().unwrap(), b"late");
        // And then it is closed.
        assert_eq!(complete(el, el.sock_recv(&*b, 10)).unwrap(), b"");
    }

    /// SK-10: two who wait for the same direction are refused, and the first one is not disturbed; the other direction
    /// is free.
    fn a_second_reader_or_writer_is_refused(el) {
        for net in wire::NETS {
            let (a, b) = pair(net);
            let reader = el.create_task(el.sock_recv(a.clone(), 10));
            settle(el);
            let text = "waited for by sock_recv()";
            refused(complete(el, el.sock_recv(&*a, 10)), ErrorKind::ResourceBusy, text);
            refused(complete(el, el.sock_recv_into(&*a, &mut [0])), ErrorKind::ResourceBusy, text);
            refused(complete(el, el.sock_recvfrom(&*a, 10)), ErrorKind::ResourceBusy, text);
            refused(complete(el, el.sock_recvfrom_into(&*a, &mut [0])), ErrorKind::ResourceBusy, text);
            refused(complete(el, el.sock_accept(&*a)), ErrorKind::ResourceBusy, text);
            refused(el.add_reader(&*a, || ()), ErrorKind::ResourceBusy, text);
            assert!(!el.remove_reader(&*a));
            b.send(b"first").unwrap();
            assert_eq!(complete(el, reader).unwrap().unwrap(), b"first");

            // Writing, while reading goes on.
            while a.send(&[0; 65536]).is_ok() {}
            let writer = el.create_task(el.sock_sendall(a.clone(), b"last"));
            let reader = el.create_task(el.sock_recv(a.clone(), 10));
            settle(el);
            assert_eq!(registrations(el).1, 1);
            let text = "EventLoop::sock_sendall(): descriptor";
            refused(complete(el, el.sock_sendall(&*a, b"x")), ErrorKind::ResourceBusy, text);
            refused(el.add_writer(&*a, || ()), ErrorKind::ResourceBusy, "waited for by sock_sendall()");
            b.send(b"x").unwrap();
            assert_eq!(complete(el, reader).unwrap().unwrap(), b"x");
            complete(el, async {
                while !writer.is_done() {
                    el.sock_recv(&*b, 1 << 20).await.unwrap();
                }
                writer.await.unwrap().unwrap();
            });
            assert_eq!(registrations(el).1, 0);
        }
    }

    /// SK-02: a descriptor with a callback is refused in that direction; the other one is free, and both are told.
    fn a_callback_and_an_operation_on_one_descriptor(el) {
        let (a, b) = pair(Net::Unix);
        let calls = Rc::new(std::cell::Cell::new(0));
        let count = calls.clone();
        el.add_reader(&*a, move || count.set(count.get() + 1)).unwrap();
        refused(complete(el, el.sock_recv(&*a, 10)), ErrorKind::AlreadyExists, "has a callback of add_reader()");
        while a.send(&[0; 65536]).is_ok() {}
        let writer = el.create_task(el.sock_sendall(a.clone(), b"x"));
        settle(el);
        assert_eq!(calls.get(), 0);
        assert_sleeps(el);
        b.send(b"x").unwrap();
        el.run_once(None).unwrap();
        assert_eq!(calls.get(), 1);
        assert!(!writer.is_done());
        // The callback goes, the operation stays, and another callback comes beside it.
        assert!(el.remove_reader(&*a));
        assert_sleeps(el);
        let count = calls.clone();
        el.add_reader(&*a, move || count.set(count.get() + 1)).unwrap();
        el.run_once(None).unwrap();
        assert!(calls.get() >= 2);
        assert_eq!(a.recv(&mut [std::mem::MaybeUninit::uninit(); 4]).unwrap(), 1);
        complete(el, async {
            while !writer.is_done() {
                el.sock_recv(&*b, 1 << 20).await.unwrap();
            }
            writer.await.unwrap().unwrap();
        });
        assert_eq!(registrations(el).1, 1);
        assert!(el.remove_reader(&*a));
        // An operation may be dropped beside a callback, too.
        let reader = el.create_task(el.sock_recv(a.clone(), 10));
        settle(el);
        let count = calls.clone();
        calls.set(0);
        el.add_writer(&*a, move || count.set(count.get() + 1)).unwrap();
        reader.cancel();
        settle_some(el);
        assert!(reader.is_done() && calls.get() > 0);
        assert!(el.remove_writer(&*a));
        assert_eq!(registrations(el).1, 0);
    }

    /// SK-07: the descriptor of a transport or of a stream is refused, and nothing is taken from it.
    fn what_a_transport_owns_is_refused(el) {
        for net in wire::NETS {
            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::new(&record));
            transport.pause_reading();
            peer.send(b"for the transport");
            let view = transport.extra_info().socket.unwrap();
            view.with(|socket| {
                let text = "is used by a transport or stream";
                refused(complete(el, el.sock_recv(&*socket, 10)), ErrorKind::AlreadyExists, text);
                refused(complete(el, el.sock_sendall(&*socket, b"x")), ErrorKind::AlreadyExists, text);
                let address = UnixAddr::from("/nowhere");
                refused(complete(el, el.sock_connect(&*socket, address)), ErrorKind::AlreadyExists, text);
            })
            .unwrap();
            transport.resume_reading();
            run_until(el, || record.len() == 17);
            finish(el, &transport, &record);
        }
        let (a, b) = pair(Net::Tcp);
        complete(el, async {
            let stream = TcpStream::from_std(Rc::into_inner(a).unwrap().into()).unwrap();
            b.send(b"x").unwrap();
            refused(el.sock_recv(&stream, 10).await, ErrorKind::AlreadyExists, "EventLoop::sock_recv(): descriptor");
        });
    }

    /// SK-22: closing the loop ends what waits, with an error; so does beginning on a closed one.
    fn on_a_closed_loop(el) {
        let (a, b) = pair(Net::Tcp);
        let closed = |result: io::Result<()>| assert!(result.unwrap_err().get_ref().unwrap().is::<LoopClosed>());
        let mut waiting = Box::pin(el.sock_recv(&*a, 10));
        let (counter, waker) = common::CountingWaker::new();
        let mut cx = std::task::Context::from_waker(&waker);
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        el.close();
        assert_eq!(counter.count(), 1);
        let std::task::Poll::Ready(result) = waiting.as_mut().poll(&mut cx) else { panic!("it goes on waiting") };
        closed(result.map(drop));
        b.send(b"x").unwrap();
        let mut late = Box::pin(el.sock_recv(&*a, 10));
        let std::task::Poll::Ready(result) = late.as_mut().poll(&mut cx) else { panic!("it waits") };
        closed(result.map(drop));
        let mut late = Box::pin(el.sock_connect(&*a, ("localhost", 1)));
        let std::task::Poll::Ready(result) = late.as_mut().poll(&mut cx) else { panic!("it waits") };
        closed(result);
    }

    /// SK-10: a task that has its share of I/O lets the others come first.
    fn a_flood_lets_others_run(el) {
        let (a, b) = udp_pair();
        let (a, b) = (Rc::new(a), Rc::new(b));
        let to = b.local_addr().unwrap();
        let flood = el.create_task({
            let (el, a) = (el.clone(), a.clone());
            async move {
                for _ in 0..1000 {
                    el.sock_sendto(&*a, b"x", to).await.unwrap();
                }
            }
        });
        let turns = complete(el, async {
            let mut turns = 0;
            while !flood.is_done() {
                turns += 1;
                yield_now().await;
            }
            turns
        });
        assert!(turns >= 5, "{turns}");
    }

    /// SK-10: it can be polled by whatever wraps it: a timeout that is over ends it, and one that is not does not.
    fn within_a_timeout(el) {
        let (a, b) = pair(Net::Tcp);
        complete(el, async {
            let over = timeout(Duration::from_millis(2), el.sock_recv(&*a, 10)).await;
            assert!(over.is_err());
            el.sock_sendall(&*b, b"x").await.unwrap();
            let data = timeout(Duration::from_secs(60), el.sock_recv(&*a, 10)).await;
            assert_eq!(data.unwrap().unwrap(), b"x");
        });
        assert_eq!(registrations(el).1, 0);
    }

    /// SK-10: an operation that was told, and is not polled, does not keep the loop from sleeping.
    fn an_operation_that_is_not_polled(el) {
        let (a, b) = pair(Net::Tcp);
        let (counter, waker) = common::CountingWaker::new();
        let mut waiting = Box::pin(el.sock_recv(&*a, 10));
        assert!(waiting.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
        b.send(b"x").unwrap();
        run_until(el, || counter.count() == 1);
        assert_sleeps(el);
        assert_eq!(counter.count(), 1);
        assert_eq!(complete(el, waiting).unwrap(), b"x");
    }

    /// SK-10: whoever has polled it last is woken.
    fn an_operation_that_changes_hands(el) {
        let (a, b) = pair(Net::Tcp);
        let ((first, first_waker), (second, second_waker)) = (common::CountingWaker::new(), common::CountingWaker::new());
        let mut waiting = Box::pin(el.sock_recv(&*a, 10));
        for waker in [&first_waker, &second_waker] {
            assert!(waiting.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_pending());
        }
        b.send(b"x").unwrap();
        run_until(el, || second.count() == 1);
        assert_eq!(first.count(), 0);
    }

    /// SK-22: a socket that is none, or is not connected, is the system's error, and leaves nothing behind.
    fn errors_of_the_system(el) {
        let file = tempfile::tempfile().unwrap();
        let unconnected = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).unwrap();
        complete(el, async {
            let error = el.sock_recv(&unconnected, 10).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotConnected);
            if !el.debug() {
                let error = el.sock_recv(&file, 10).await.unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK));
            }
            let (a, b) = udp_pair();
            let error = el.sock_sendto(&a, vec![0; 70_000], b.local_addr().unwrap()).await.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
            let (a, b) = pair(Net::Tcp);
            drop(b);
            while el.sock_sendall(&*a, b"x").await.is_ok() {}
        });
        assert_eq!(registrations(el).1, 0);
    }
}

/// Some turns of a loop that has always something to do.
fn settle_some(el: &EventLoop) {
    for _ in 0..10 {
        el.run_once(Some(Duration::ZERO)).unwrap();
    }
}

/// SK-10: a socket that blocks is refused in debug mode, by every method, by its name; otherwise it is tried.
#[test]
fn a_blocking_socket() {
    run(Kind::Epoll, true, |el| {
        let (a, b) = UnixStream::pair().unwrap();
        let kind = ErrorKind::InvalidInput;
        let says = |method: &str| format!("EventLoop::{method}(): the socket must be non-blocking");
        refused(complete(el, el.sock_recv(&a, 1)), kind, &says("sock_recv"));
        refused(complete(el, el.sock_recv_into(&a, &mut [0])), kind, &says("sock_recv_into"));
        refused(complete(el, el.sock_recvfrom(&a, 1)), kind, &says("sock_recvfrom"));
        refused(complete(el, el.sock_recvfrom_into(&a, &mut [0])), kind, &says("sock_recvfrom_into"));
        refused(complete(el, el.sock_sendall(&a, b"x")), kind, &says("sock_sendall"));
        let address = UnixAddr::from("/nowhere");
        refused(complete(el, el.sock_sendto(&a, b"x", address.clone())), kind, &says("sock_sendto"));
        refused(complete(el, el.sock_connect(&a, address)), kind, &says("sock_connect"));
        refused(complete(el, el.sock_accept(&a)), kind, &says("sock_accept"));
        drop(b);
    });
    run(Kind::Epoll, false, |el| {
        let (a, b) = UnixStream::pair().unwrap();
        complete(el, el.sock_sendall(&a, b"x")).unwrap();
        assert_eq!(complete(el, el.sock_recv(&b, 10)).unwrap(), b"x");
    });
}

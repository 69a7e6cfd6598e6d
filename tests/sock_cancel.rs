//! Cancelling what `sock_recv` and its kin do (behaviours SK).

mod common;
#[path = "common/tcp.rs"]
mod tcp;
mod wire;

use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::task::Context;

use common::{CountingWaker, complete, poll_times, run_until, settle};
use roundelay::EventLoop;
use socket2::{Domain, Socket, Type};
use tcp::black_hole;
use wire::{Net, assert_sleeps, pattern, sockets};

fn pair(net: Net) -> (Rc<Socket>, Rc<Socket>) {
    let (a, b) = sockets(net);
    a.set_nonblocking(true).unwrap();
    b.set_nonblocking(true).unwrap();
    (Rc::new(a), Rc::new(b))
}

fn registered(el: &EventLoop) -> u64 {
    el.stats().descriptors.live()
}

on_every_loop! {
    /// SK-11: a cancelled receive takes its interest back at once; the next one gets what arrives, whole.
    fn a_cancelled_receive_loses_nothing(el) {
        for net in wire::NETS {
            let (a, b) = pair(net);
            for when in ["before", "told"] {
                let task = el.create_task(el.sock_recv(a.clone(), 100));
                settle(el);
                assert_eq!(registered(el), 1);
                if when == "told" {
                    // Queued behind the cancellation, or before it.
                    b.send(b"data").unwrap();
                }
                task.cancel();
                el.run_once(Some(std::time::Duration::ZERO)).unwrap();
                settle(el);
                assert!(complete(el, task).unwrap_err().is_cancelled());
                assert_eq!(registered(el), 0);
                assert_sleeps(el);
                if when == "before" {
                    b.send(b"data").unwrap();
                }
                assert_eq!(complete(el, el.sock_recv(&*a, 100)).unwrap(), b"data");
            }
        }
    }

    /// SK-11: cancelled at each of its await points, over and over, while the peer sends: what is received in the end is
    /// what was sent.
    fn cancelled_again_and_again(el) {
        for net in wire::NETS {
            let (a, b) = pair(net);
            let bytes = pattern(200_000);
            let sender = el.create_task(el.sock_sendall(b.clone(), bytes.clone()));
            let received = complete(el, async {
                let (mut received, mut buffer, mut given_up) = (Vec::new(), [0; 700], 0);
                while received.len() < bytes.len() {
                    match poll_times(el.sock_recv_into(&*a, &mut buffer), 1).await {
                        Some(n) => received.extend_from_slice(&buffer[..n.unwrap()]),
                        None => {
                            given_up += 1;
                            roundelay::yield_now().await;
                        }
                    }
                }
                (received, given_up)
            });
            complete(el, sender).unwrap().unwrap();
            assert!(received.0 == bytes);
            assert_eq!(registered(el), 0);
        }
    }

    /// SK-12: what is left of a cancelled operation does not take the interest of the next one away: neither when the old
    /// future goes after the new one has begun, nor at any time later.
    fn the_old_one_does_not_disturb_the_new_one(el) {
        for net in wire::NETS {
            let (a, b) = pair(net);
            let (_, waker) = CountingWaker::new();
            let mut old = Box::pin(el.sock_recv(a.clone(), 100));
            assert!(old.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            // Told, and not polled any more: its place is its own until it goes.
            b.send(b"first").unwrap();
            el.run_once(None).unwrap();
            let error = complete(el, el.sock_recv(&*a, 100)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ResourceBusy);
            drop(old);
            assert_eq!(complete(el, el.sock_recv(&*a, 100)).unwrap(), b"first");

            // Done, and dropped only when the new one waits.
            let mut old = Box::pin(el.sock_recv(a.clone(), 100));
            assert!(old.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            b.send(b"second").unwrap();
            el.run_once(None).unwrap();
            let std::task::Poll::Ready(data) = old.as_mut().poll(&mut Context::from_waker(&waker)) else { panic!() };
            assert_eq!(data.unwrap(), b"second");
            let new = el.create_task(el.sock_recv(a.clone(), 100));
            settle(el);
            drop(old);
            assert_eq!(registered(el), 1);
            b.send(b"third").unwrap();
            assert_eq!(complete(el, new).unwrap().unwrap(), b"third");
        }
    }

    /// SK-12: the next one may begin right after the cancellation, before the old one is gone; and is refused where that
    /// was not cancelled.
    fn right_after_the_cancellation(el) {
        for net in wire::NETS {
            let (a, b) = pair(net);
            for arrives in ["before", "after"] {
                let old = el.create_task(el.sock_recv(a.clone(), 100));
                settle(el);
                let received = complete(el, async {
                    old.cancel();
                    if arrives == "before" {
                        b.send(b"data").unwrap();
                    } else {
                        let b = b.clone();
                        el.call_later(std::time::Duration::from_millis(1), move || b.send(b"data").unwrap());
                    }
                    el.sock_recv(&*a, 100).await
                });
                assert_eq!(received.unwrap(), b"data");
                assert!(old.is_done());
            }
        }
        assert_eq!(registered(el), 0);
    }

    /// SK-12: nor the callback that has come to the same descriptor since.
    fn a_cancelled_one_does_not_disturb_a_callback(el) {
        let (a, b) = pair(Net::Unix);
        let task = el.create_task(el.sock_recv(a.clone(), 100));
        settle(el);
        b.send(b"x").unwrap();
        task.cancel();
        el.run_once(None).unwrap();
        let calls = Rc::new(std::cell::Cell::new(0));
        let count = calls.clone();
        el.add_reader(&*a, move || count.set(count.get() + 1)).unwrap();
        drop(task);
        el.run_once(None).unwrap();
        el.run_once(None).unwrap();
        assert!(calls.get() > 0);
        assert!(el.remove_reader(&*a));
    }

    /// SK-13: of a cancelled send a part may have gone; what is sent next stands whole behind it.
    fn a_cancelled_send(el) {
        for net in wire::NETS {
            let (a, b) = pair(net);
            // Many times what the kernel takes.
            let task = el.create_task(el.sock_sendall(a.clone(), vec![b'0'; 32 << 20]));
            settle(el);
            assert!(!task.is_done());
            assert_eq!(registered(el), 1);
            task.cancel();
            settle(el);
            assert_eq!(registered(el), 0);
            let sender = el.create_task(el.sock_sendall(a, pattern(1 << 20)));
            let received = complete(el, async {
                let mut received = Vec::new();
                loop {
                    let data = el.sock_recv(&*b, 1 << 18).await.unwrap();
                    if data.is_empty() {
                        break received;
                    }
                    received.extend_from_slice(&data);
                }
            });
            complete(el, sender).unwrap().unwrap();
            assert!(received.len() > 1 << 20);
            let (prefix, last) = received.split_at(received.len() - (1 << 20));
            assert!(prefix.iter().all(|byte| *byte == b'0') && last == pattern(1 << 20));
        }
    }

    /// SK-14: a cancelled connect can be tried again, whether or not the first attempt has come to its end.
    fn a_cancelled_connect(el) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for settled in [false, true] {
            let client = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).unwrap();
            assert!(complete(el, poll_times(el.sock_connect(&client, address), 1)).is_none_or(|done| done.is_ok()));
            if settled {
                settle(el);
            }
            match complete(el, el.sock_connect(&client, address)) {
                Ok(()) => (),
                // The first attempt had connected it.
                Err(error) => assert!(error.to_string().contains("already connected"), "{error}"),
            }
            let (mut server, _) = listener.accept().unwrap();
            complete(el, el.sock_sendall(&client, b"x")).unwrap();
            server.read_exact(&mut [0]).unwrap();
        }
        assert_eq!(registered(el), 0);
    }

    /// SK-14: one that goes nowhere is given up at once, and its socket can be closed.
    fn a_connect_that_goes_nowhere(el) {
        let hole = black_hole();
        let client = Rc::new(Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).unwrap());
        let task = el.create_task(el.sock_connect(client.clone(), hole.address));
        settle(el);
        assert!(!task.is_done());
        assert_sleeps(el);
        task.cancel();
        settle(el);
        assert_eq!((registered(el), Rc::strong_count(&client)), (0, 1));
        let again = el.create_task(el.sock_connect(client.clone(), hole.address));
        settle(el);
        assert!(!again.is_done());
        again.cancel();
        settle(el);
    }

    /// SK-15: after a cancelled accept the listener can be closed, and refuses whoever connects.
    fn a_cancelled_accept(el) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = Rc::new(listener);
        let task = el.create_task(el.sock_accept(listener.clone()));
        settle(el);
        task.cancel();
        settle(el);
        assert!(complete(el, task).unwrap_err().is_cancelled());
        // A connection that comes now is not lost.
        let client = TcpStream::connect(address).unwrap();
        let (_, peer) = complete(el, el.sock_accept(&*listener)).unwrap();
        assert_eq!(peer.as_ip(), Some(client.local_addr().unwrap()));
        drop(Rc::into_inner(listener).unwrap());
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }

    /// SK-22: a socket that is closed after the cancellation, in the same turn, leaves nothing behind: its number can be
    /// used by the next one.
    fn closed_right_after(el) {
        for _ in 0..5 {
            let (a, b) = pair(Net::Tcp);
            let task = el.create_task(el.sock_recv(a, 10));
            settle(el);
            b.send(b"x").unwrap();
            task.cancel();
            settle(el);
            drop(b);
            let (a, b) = pair(Net::Tcp);
            let task = el.create_task(el.sock_recv(a, 10));
            settle(el);
            b.send(b"y").unwrap();
            assert_eq!(complete(el, task).unwrap().unwrap(), b"y");
        }
        assert_eq!(registered(el), 0);
    }

    /// SK-23: a task that is cancelled while it receives ends in the next turn, without waiting for anything.
    fn cancelling_is_prompt(el) {
        let (a, _b) = pair(Net::Tcp);
        let task = el.create_task(el.sock_recv(a, 10));
        settle(el);
        let turn = el.stats().turns;
        let handle = el.clone();
        let canceller = task.canceller();
        el.call_soon(move || {
            canceller.cancel();
            handle.call_soon(|| ());
        });
        run_until(el, || task.is_done());
        assert!(el.stats().turns - turn <= 2);
        assert!(complete(el, task).unwrap_err().is_cancelled());
    }
}

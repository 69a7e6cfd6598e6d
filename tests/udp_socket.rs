//! `UdpSocket` as a plain async type (behaviours SK).

mod common;

use std::cell::Cell;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use common::{CountingWaker, complete, on_loop, poll_times, settle};
use futures::{SinkExt, StreamExt};
use roundelay::{AddressError, EventLoop, LoopClosed, UdpSocket, yield_now};
use socket2::SockRef;

const LOOPBACK: (&str, u16) = ("127.0.0.1", 0);

/// Two sockets that are connected with each other.
async fn pair() -> (UdpSocket, UdpSocket) {
    let (a, b) = (UdpSocket::bind(LOOPBACK).await.unwrap(), UdpSocket::bind(LOOPBACK).await.unwrap());
    a.connect(b.local_addr().unwrap()).await.unwrap();
    b.connect(a.local_addr().unwrap()).await.unwrap();
    (a, b)
}

fn registered(el: &EventLoop) -> u64 {
    el.stats().descriptors.live()
}

on_every_loop! {
    /// SK-20: datagrams to an address and from one, empty ones among them; what does not fit is cut off.
    fn to_and_from_addresses(el) {
        complete(el, async {
            let (a, b) = (UdpSocket::bind(LOOPBACK).await.unwrap(), UdpSocket::bind(("localhost", 0)).await.unwrap());
            let to = b.local_addr().unwrap();
            let Ok(_) = a.send_to(b"one", to).await else {
                assert!(to.is_ipv6(), "localhost may be one of IPv6 only");
                return;
            };
            assert_eq!(a.send_to(b"", to).await.unwrap(), 0);
            assert_eq!(a.send_to(b"three", (to.ip(), to.port())).await.unwrap(), 5);
            let (mut data, from) = ([0; 4], a.local_addr().unwrap());
            assert_eq!(b.peek_from(&mut data).await.unwrap(), (3, from));
            assert_eq!(b.recv_from(&mut data).await.unwrap(), (3, from));
            assert_eq!(b.recv_from(&mut data).await.unwrap(), (0, from));
            assert_eq!(b.recv_from(&mut data).await.unwrap(), (4, from));
            assert_eq!(&data, b"thre");
            assert!(poll_times(b.recv_from(&mut data), 1).await.is_none());
        });
        assert_eq!(registered(el), 0);
    }

    /// SK-10: connected, it sends to its peer, hears of it alone, and of the error that a datagram found nobody.
    fn connected(el) {
        complete(el, async {
            let (a, b) = pair().await;
            let other = UdpSocket::bind(LOOPBACK).await.unwrap();
            other.send_to(b"not for you", b.local_addr().unwrap()).await.unwrap();
            assert_eq!(a.send(b"ping").await.unwrap(), 4);
            let mut data = [0; 16];
            assert_eq!(b.peek(&mut data).await.unwrap(), 4);
            assert_eq!(b.recv(&mut data).await.unwrap(), 4);
            assert_eq!(a.peer_addr().unwrap(), b.local_addr().unwrap());
            assert_eq!(other.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
            assert!(other.send(b"x").await.is_err());
            // It can be connected to somebody else.
            a.connect(other.local_addr().unwrap()).await.unwrap();
            a.send(b"x").await.unwrap();
            assert_eq!(other.recv_from(&mut data).await.unwrap(), (1, a.local_addr().unwrap()));
            drop(other);
            a.send(b"x").await.unwrap();
            assert_eq!(a.recv(&mut data).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
            // The error was told once; the socket goes on.
            assert!(poll_times(a.recv(&mut data), 1).await.is_none());
            assert!(a.take_error().unwrap().is_none());
        });
    }

    /// SK-11: several tasks receive and send at once; each datagram comes once, as a whole, and of those who gave up none
    /// is missing.
    fn several_tasks(el) {
        complete(el, async {
            let (a, b) = pair().await;
            let (a, b) = (Rc::new(a), Rc::new(b));
            let receivers: Vec<_> = (0..6)
                .map(|_| {
                    let b = b.clone();
                    el.create_task(async move {
                        let mut data = [0; 16];
                        let n = b.recv(&mut data).await.unwrap();
                        data[..n].to_vec()
                    })
                })
                .collect();
            yield_now().await;
            receivers[0].cancel();
            receivers[3].cancel();
            let senders: Vec<_> = (0..4_u8)
                .map(|number| {
                    let a = a.clone();
                    el.create_task(async move { a.send(&[number; 4]).await.unwrap() })
                })
                .collect();
            for sender in senders {
                assert_eq!(sender.await.unwrap(), 4);
            }
            let mut received = Vec::new();
            for receiver in receivers {
                received.extend(receiver.await);
            }
            received.sort_unstable();
            assert_eq!(received, [[0; 4], [1; 4], [2; 4], [3; 4]]);
        });
    }

    /// SK-10: what is tried without waiting, and the waiting before it.
    fn trying(el) {
        complete(el, async {
            let (a, b) = pair().await;
            let mut data = [0; 8];
            assert_eq!(b.try_recv(&mut data).unwrap_err().kind(), ErrorKind::WouldBlock);
            assert_eq!(b.try_recv_from(&mut data).unwrap_err().kind(), ErrorKind::WouldBlock);
            assert!(poll_times(b.readable(), 1).await.is_none());
            a.writable().await.unwrap();
            assert_eq!(a.try_send(b"one").unwrap(), 3);
            assert_eq!(a.try_send_to(b"two", b.local_addr().unwrap()).unwrap(), 3);
            b.readable().await.unwrap();
            assert_eq!(b.try_recv(&mut data).unwrap(), 3);
            b.readable().await.unwrap();
            assert_eq!(b.try_recv_from(&mut data).unwrap(), (3, a.local_addr().unwrap()));
        });
    }

    /// SK-10: by polling, the one who polled last is woken.
    fn by_polling(el) {
        let (a, b) = complete(el, pair());
        let ((first, first_waker), (second, second_waker)) = (CountingWaker::new(), CountingWaker::new());
        let mut data = [0; 8];
        assert!(b.poll_recv(&mut Context::from_waker(&first_waker), &mut data).is_pending());
        assert!(b.poll_recv_from(&mut Context::from_waker(&second_waker), &mut data).is_pending());
        let mut cx = Context::from_waker(&first_waker);
        assert!(matches!(a.poll_send(&mut cx, b"one"), Poll::Ready(Ok(3))));
        let to = b.local_addr().unwrap();
        assert!(matches!(a.poll_send_to(&mut cx, b"four", to), Poll::Ready(Ok(4))));
        settle(el);
        assert_eq!((first.count(), second.count()), (0, 1));
        assert!(matches!(b.poll_recv(&mut cx, &mut data), Poll::Ready(Ok(3))));
        let Poll::Ready(Ok((4, from))) = b.poll_recv_from(&mut cx, &mut data) else { panic!("it is there") };
        assert_eq!(from, a.local_addr().unwrap());
        assert!(b.poll_recv(&mut cx, &mut data).is_pending());
        el.close();
        assert_eq!(first.count(), 1);
        let Poll::Ready(Err(error)) = b.poll_recv(&mut cx, &mut data) else { panic!("it waits") };
        assert!(error.get_ref().unwrap().is::<LoopClosed>());
        assert!(b.try_recv(&mut data).unwrap_err().get_ref().unwrap().is::<LoopClosed>());
    }

    /// SK-10: from std's socket, and back.
    fn from_std_and_back(el) {
        complete(el, async {
            let a = UdpSocket::from_std(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
            let b = UdpSocket::bind(LOOPBACK).await.unwrap();
            b.send_to(b"x", a.local_addr().unwrap()).await.unwrap();
            assert_eq!(a.recv(&mut [0; 4]).await.unwrap(), 1);
            let number = a.as_raw_fd();
            let a = a.into_std();
            assert_eq!(a.as_raw_fd(), number);
            assert_eq!(registered(el), 1);
            assert_eq!(a.recv(&mut [0; 4]).unwrap_err().kind(), ErrorKind::WouldBlock);
            // And it is free for others.
            assert_eq!(el.add_reader(&b, || ()).unwrap_err().kind(), ErrorKind::AlreadyExists);
            el.add_reader(&a, || ()).unwrap();
            assert_eq!(UdpSocket::from_std(a.try_clone().unwrap()).unwrap().local_addr().unwrap(), a.local_addr().unwrap());
            assert!(el.remove_reader(&a));
        });
    }

    /// SK-17: what cannot be bound or connected to names its address; a socket is no address.
    fn what_cannot_be(el) {
        complete(el, async {
            let a = UdpSocket::bind(LOOPBACK).await.unwrap();
            let address = a.local_addr().unwrap();
            let error = UdpSocket::bind(address).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            let inner: &AddressError = error.get_ref().unwrap().downcast_ref().unwrap();
            assert_eq!((inner.action, inner.address), ("bind on", address));
            // Of several addresses the first one that can be bound is.
            let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
            let b = UdpSocket::bind(vec![address, free]).await.unwrap();
            assert_ne!(b.local_addr().unwrap(), address);

            let error = a.connect("[::1]:9".parse::<SocketAddr>().unwrap()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let error = UdpSocket::bind(socket2::Socket::from(b.into_std())).await.unwrap_err();
            assert_eq!(error.to_string(), "UdpSocket::bind: takes an address, not a socket");
            let error = UdpSocket::bind(("name.invalid", 0)).await.unwrap_err();
            assert!(error.to_string().contains("name.invalid"), "{error}");
            let error = a.send_to(&[0; 70_000], address).await.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        });
        assert_eq!(registered(el), 0);
    }

    /// As a stream and a sink: datagrams of all sizes with their senders, to addresses and to the peer.
    fn as_stream_and_sink(el) {
        complete(el, async {
            let mut server = UdpSocket::bind(LOOPBACK).await.unwrap().into_datagrams();
            let mut client = UdpSocket::bind(LOOPBACK).await.unwrap().into_datagrams();
            let (to, from) = (server.get_ref().local_addr().unwrap(), client.get_ref().local_addr().unwrap());
            assert!(poll_times(server.next(), 1).await.is_none());
            for size in [0, 1, 1400, 60_000] {
                let data = Bytes::from(vec![size as u8; size]);
                client.send((data.clone(), to)).await.unwrap();
                assert_eq!(server.next().await.unwrap().unwrap(), (data, from));
            }
            // What is fed waits for room at most, and goes with the next one.
            client.feed(("one".into(), to)).await.unwrap();
            assert!(format!("{client:?}").contains("unsent: true"));
            assert!(poll_times(server.next(), 1).await.is_none());
            client.feed(("two".into(), to)).await.unwrap();
            assert_eq!(server.next().await.unwrap().unwrap().0, "one");
            client.close().await.unwrap();
            assert_eq!(server.next().await.unwrap().unwrap().0, "two");

            let (a, b) = pair().await;
            let peer = b.local_addr().unwrap();
            let (mut a, mut b) = (a.into_datagrams(), b.into_datagrams());
            a.send(("to the peer".into(), peer)).await.unwrap();
            let echoed = b.next().await.unwrap().unwrap();
            b.send(echoed).await.unwrap();
            assert_eq!(a.next().await.unwrap().unwrap(), ("to the peer".into(), peer));
            // Both halves by the combinator, in two tasks.
            let (mut sink, mut stream) = server.split();
            let task = roundelay::spawn(async move { stream.next().await.unwrap().unwrap() });
            sink.send(("answer".into(), from)).await.unwrap();
            client.send(("question".into(), to)).await.unwrap();
            assert_eq!(task.await.unwrap().0, "question");
            assert_eq!(client.next().await.unwrap().unwrap().0, "answer");
            assert_eq!(client.into_inner().local_addr().unwrap(), from);
        });
        assert_eq!(registered(el), 0);
    }

    /// Errors are items, and the stream goes on; one that cannot be sent is dropped, and the sink goes on.
    fn errors_of_stream_and_sink(el) {
        complete(el, async {
            let (a, b) = pair().await;
            let (to, mut a) = (b.local_addr().unwrap(), a.into_datagrams());
            drop(b);
            a.send(("nobody is there".into(), to)).await.unwrap();
            assert_eq!(a.next().await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionRefused);
            let b = UdpSocket::bind(to).await.unwrap();
            let error = a.send((vec![0; 70_000].into(), to)).await.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
            a.send(("now".into(), to)).await.unwrap();
            let mut data = [0; 10];
            assert_eq!(b.recv(&mut data).await.unwrap(), 3);
            b.send_to(b"then", a.get_ref().local_addr().unwrap()).await.unwrap();
            assert_eq!(a.next().await.unwrap().unwrap().0, "then");
            // Where an earlier one found nobody, the one at hand is kept.
            drop(b);
            a.send(("lost".into(), to)).await.unwrap();
            let error = a.send(("kept".into(), to)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            let b = UdpSocket::bind(to).await.unwrap();
            a.flush().await.unwrap();
            assert_eq!(b.recv(&mut data).await.unwrap(), 4);
            assert_eq!(&data[..4], b"kept");
        });
        assert_eq!(registered(el), 0);
    }

    /// A stream that always has something lets others run; a closed loop is an error and then the end.
    fn a_flood_of_a_stream(el) {
        let (mut sink, mut stream) = complete(el, async {
            let (a, b) = pair().await;
            let to = b.local_addr().unwrap();
            let (mut sink, mut stream) = (a.into_datagrams(), b.into_datagrams());
            // Fewer than the kernel has room for, and more than a task may have at once.
            let numbers: Vec<_> = (0..200_u32).map(|i| Bytes::from(i.to_le_bytes().to_vec())).collect();
            let sent = numbers.iter().map(|number| Ok((number.clone(), to)));
            sink.send_all(&mut futures::stream::iter(sent)).await.unwrap();
            let others = Rc::new(Cell::new(0));
            let turns = others.clone();
            let ticks = roundelay::spawn(async move {
                loop {
                    turns.set(turns.get() + 1);
                    yield_now().await;
                }
            });
            let received: Vec<_> = (&mut stream).take(200).map(|item| item.unwrap().0).collect().await;
            assert!(received == numbers);
            assert!((1..=10).contains(&others.get()), "{}", others.get());
            ticks.cancel();
            (sink, stream)
        });
        el.close();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let Poll::Ready(Some(Err(error))) = stream.poll_next_unpin(&mut cx) else { panic!("no error") };
        assert!(error.get_ref().unwrap().is::<LoopClosed>());
        assert!(matches!(stream.poll_next_unpin(&mut cx), Poll::Ready(None)));
        sink.start_send_unpin(("x".into(), stream.get_ref().local_addr().unwrap())).unwrap();
        let Poll::Ready(Err(error)) = sink.poll_flush_unpin(&mut cx) else { panic!("no error") };
        assert!(error.get_ref().unwrap().is::<LoopClosed>());
    }

    /// SK-19: a flood to a task that answers, back and forth; a task that always has something to do lets others run.
    fn a_flood(el) {
        complete(el, async {
            let (a, b) = pair().await;
            let echo = el.create_task(async move {
                let mut data = [0; 64];
                for _ in 0..2000 {
                    let n = b.recv(&mut data).await.unwrap();
                    b.send(&data[..n]).await.unwrap();
                }
            });
            let mut data = [0; 64];
            for number in 0..2000_u32 {
                a.send(&number.to_le_bytes()).await.unwrap();
                assert_eq!(a.recv(&mut data).await.unwrap(), 4);
                assert_eq!(data[..4], number.to_le_bytes());
            }
            echo.await.unwrap();
            let (a, b) = pair().await;
            let flood = el.create_task(async move {
                for _ in 0..1000 {
                    a.send(b"x").await.unwrap();
                }
            });
            let mut turns = 0;
            while !flood.is_done() {
                yield_now().await;
                turns += 1;
            }
            assert!(turns >= 5, "{turns}");
            drop(b);
        });
    }
}

/// Its options are the system's.
#[test]
fn options() {
    on_loop(|el| {
        complete(el, async {
            let a = UdpSocket::bind(LOOPBACK).await.unwrap();
            assert!(!a.broadcast().unwrap());
            let error = a.send_to(b"x", (Ipv4Addr::BROADCAST, 9)).await.unwrap_err();
            // Without a network it cannot be reached either.
            assert!(matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::NetworkUnreachable), "{error}");
            a.set_broadcast(true).unwrap();
            assert!(a.broadcast().unwrap());
            a.set_ttl(7).unwrap();
            a.set_multicast_ttl_v4(3).unwrap();
            a.set_multicast_loop_v4(false).unwrap();
            assert_eq!((a.ttl().unwrap(), a.multicast_ttl_v4().unwrap()), (7, 3));
            assert!(!a.multicast_loop_v4().unwrap());
            assert_eq!(SockRef::from(&a).ttl_v4().unwrap(), 7);
            let text = format!("{a:?}");
            assert!(text.starts_with("UdpSocket { local: 127.0.0.1:"), "{text}");
        });
    });
}

/// Groups, where the machine has an interface for them.
#[test]
fn groups() {
    on_loop(|el| {
        complete(el, async {
            let (group, any) = (Ipv4Addr::new(224, 0, 0, 251), Ipv4Addr::LOCALHOST);
            let a = UdpSocket::bind(("0.0.0.0", 0)).await.unwrap();
            if let Err(error) = a.join_multicast_v4(group, any) {
                eprintln!("SKIPPED: {error}");
            } else {
                SockRef::from(&a).set_multicast_if_v4(&any).unwrap();
                a.send_to(b"x", (group, a.local_addr().unwrap().port())).await.unwrap();
                assert_eq!(a.recv(&mut [0; 4]).await.unwrap(), 1);
                a.leave_multicast_v4(group, any).unwrap();
                assert!(a.leave_multicast_v4(group, any).is_err());
            }
            let Ok(a) = UdpSocket::bind(("::", 0)).await else {
                eprintln!("SKIPPED: this machine has no IPv6");
                return;
            };
            let group = Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 0x42);
            a.set_multicast_loop_v6(true).unwrap();
            assert!(a.multicast_loop_v6().unwrap());
            if let Err(error) = a.join_multicast_v6(&group, 1) {
                eprintln!("SKIPPED: {error}");
            } else {
                a.leave_multicast_v6(&group, 1).unwrap();
            }
        });
    });
}

/// Outside of a loop there is nobody to wait.
#[test]
#[should_panic(expected = "roundelay::UdpSocket::from_std() was called outside of a running event loop")]
fn outside_of_a_loop() {
    let _alone = common::alone();
    drop(UdpSocket::from_std(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()));
}

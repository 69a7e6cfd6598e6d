//! `UnixDatagram` as a plain async type (behaviours SK).

mod common;
mod wire;

use std::io::ErrorKind;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use common::{CountingWaker, complete, on_manual_clock, poll_times, run_until, settle};
use futures::{FutureExt, SinkExt, StreamExt};
use roundelay::{EventLoop, UnixAddr, UnixAddressError, UnixDatagram, yield_now};
use wire::assert_sleeps;

fn registered(el: &EventLoop) -> u64 {
    el.stats().descriptors.live()
}

/// Numbers until there is no room, by `send`; gives how many.
fn fill(send: impl Fn(&[u8]) -> std::io::Result<usize>) -> u32 {
    let mut count = 0_u32;
    while send(&count.to_le_bytes()).is_ok() {
        count += 1;
    }
    count
}

on_every_loop! {
    /// To and from paths and abstract names; who is not bound has no address.
    fn to_and_from_addresses(el) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("receiver");
        complete(el, async {
            let a = UnixDatagram::bind(path.as_path()).unwrap();
            assert_eq!(a.local_addr().unwrap(), UnixAddr::from(&path));
            let name = UnixAddr::from_abstract_name(format!("roundelay {path:?}"));
            let b = UnixDatagram::bind(&name).unwrap();
            let c = UnixDatagram::unbound().unwrap();
            assert!(c.local_addr().unwrap().is_unnamed());
            b.send_to(b"named", path.as_path()).await.unwrap();
            c.send_to(b"", path.as_path()).await.unwrap();
            assert_eq!(c.try_send_to(b"unnamed", &path).unwrap(), 7);
            let mut data = [0; 16];
            assert_eq!(a.peek_from(&mut data).await.unwrap(), (5, name.clone()));
            assert_eq!(a.recv_from(&mut data).await.unwrap(), (5, name.clone()));
            assert_eq!(a.recv_from(&mut data).await.unwrap(), (0, UnixAddr::unnamed()));
            assert_eq!(a.try_recv_from(&mut data).unwrap(), (7, UnixAddr::unnamed()));
            a.send_to(b"back", &name).await.unwrap();
            assert_eq!(b.recv(&mut data).await.unwrap(), 4);
            // The file is the application's.
            drop(a);
            assert!(path.exists());
            let error = UnixDatagram::bind(path.as_path()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            assert!(error.to_string().starts_with(&format!("cannot bind on {path:?}: ")), "{error}");
            let inner = error.get_ref().unwrap().downcast_ref::<UnixAddressError>().unwrap();
            assert_eq!((inner.action, &inner.address), ("bind on", &path.as_path().into()));
            let error = c.send_to(b"x", path.as_path()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            assert_eq!(c.send_to(b"x", UnixAddr::unnamed()).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        });
        assert_eq!(registered(el), 0);
    }

    /// Connected with each other, or to a path; another one can be connected to later.
    fn connected(el) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("receiver");
        complete(el, async {
            let (a, b) = UnixDatagram::pair().unwrap();
            let mut data = [0; 16];
            a.send(b"ping").await.unwrap();
            assert_eq!(b.peek(&mut data).await.unwrap(), 4);
            assert_eq!(b.recv(&mut data).await.unwrap(), 4);
            assert!(poll_times(b.recv(&mut data), 1).await.is_none());
            assert_eq!(b.try_recv(&mut data).unwrap_err().kind(), ErrorKind::WouldBlock);

            let c = UnixDatagram::unbound().unwrap();
            let error = c.connect(UnixAddr::from(&path)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(error.to_string().starts_with(&format!("cannot connect to {path:?}: ")), "{error}");
            assert_eq!(c.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
            let receiver = UnixDatagram::bind(path.as_path()).unwrap();
            c.connect(path.as_path()).unwrap();
            assert_eq!(c.peer_addr().unwrap(), UnixAddr::from(&path));
            c.writable().await.unwrap();
            assert_eq!(c.try_send(b"x").unwrap(), 1);
            receiver.readable().await.unwrap();
            assert_eq!(receiver.recv(&mut data).await.unwrap(), 1);
            receiver.shutdown(Shutdown::Read).unwrap();
            assert_eq!(c.send(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
            let text = format!("{receiver:?}");
            assert!(text.starts_with("UnixDatagram { local: UnixAddr(\""), "{text}");
        });
    }

    /// SK-21: connected, whoever sends to a full queue waits until there is room, and is woken.
    fn a_full_queue_of_a_peer(el) {
        let (a, b) = complete(el, async { UnixDatagram::pair().unwrap() });
        let count = fill(|data| a.try_send(data));
        let sender = el.create_task(async move { a.send(&count.to_le_bytes()).await });
        settle(el);
        assert!(!sender.is_done());
        assert_sleeps(el);
        complete(el, async {
            let mut data = [0; 16];
            for number in 0..=count {
                assert_eq!(b.recv(&mut data).await.unwrap(), 4);
                assert_eq!(data[..4], number.to_le_bytes());
            }
            assert_eq!(sender.await.unwrap().unwrap(), 4);
        });
    }

    /// SK-21: not connected, too, though the system tells nobody; it sleeps meanwhile, and what else is sent to somebody
    /// with room is not held up.
    fn a_full_queue_of_somebody(el) {
        let folder = tempfile::tempdir().unwrap();
        let (full, free) = (folder.path().join("full"), folder.path().join("free"));
        let (a, b, c) = complete(el, async {
            let a = Rc::new(UnixDatagram::unbound().unwrap());
            (a, UnixDatagram::bind(full.as_path()).unwrap(), UnixDatagram::bind(free.as_path()).unwrap())
        });
        let count = fill(|data| a.try_send_to(data, full.as_path()));
        let senders: Vec<_> = (count..count + 3)
            .map(|number| {
                let (a, full) = (a.clone(), full.clone());
                el.create_task(async move { a.send_to(&number.to_le_bytes(), full).await })
            })
            .collect();
        settle(el);
        assert!(senders.iter().all(|sender| !sender.is_done()));
        assert_sleeps(el);
        senders[2].cancel();
        complete(el, async {
            let mut data = [0; 16];
            a.writable().await.unwrap();
            a.send_to(b"other", free.as_path()).await.unwrap();
            assert_eq!(c.recv(&mut data).await.unwrap(), 5);
            let mut received = Vec::new();
            for _ in 0..count + 2 {
                assert_eq!(b.recv(&mut data).await.unwrap(), 4);
                received.push(u32::from_le_bytes(data[..4].try_into().unwrap()));
            }
            // Of those who wait whoever tries first comes first.
            received[count as usize..].sort_unstable();
            assert_eq!(received, (0..count + 2).collect::<Vec<_>>());
            let mut ends = Vec::new();
            for sender in senders {
                ends.push(sender.await.is_ok());
            }
            assert_eq!(ends, [true, true, false]);
        });
    }

    /// SK-21: and for whoever polls.
    fn a_full_queue_by_polling(el) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("full");
        let (a, b) = complete(el, async { (UnixDatagram::unbound().unwrap(), UnixDatagram::bind(path.as_path()).unwrap()) });
        let to = UnixAddr::from(&path);
        let count = fill(|data| a.try_send_to(data, &to));
        let polling = el.create_task(async move {
            std::future::poll_fn(|cx| a.poll_send_to(cx, b"last", &to)).await
        });
        settle(el);
        assert_sleeps(el);
        assert!(!polling.is_done());
        complete(el, async {
            let mut data = [0; 16];
            for _ in 0..=count {
                assert_eq!(b.recv(&mut data).await.unwrap(), 4);
            }
            assert_eq!(polling.await.unwrap().unwrap(), 4);
        });
    }

    /// SK-11: several tasks receive at once; each datagram comes once.
    fn several_tasks(el) {
        complete(el, async {
            let (a, b) = UnixDatagram::pair().unwrap();
            let b = Rc::new(b);
            let receivers: Vec<_> = (0..4)
                .map(|_| {
                    let b = b.clone();
                    el.create_task(async move {
                        let mut data = [0; 16];
                        b.recv(&mut data).await.unwrap();
                        data[0]
                    })
                })
                .collect();
            yield_now().await;
            receivers[2].cancel();
            for number in 1..=3 {
                a.send(&[number]).await.unwrap();
            }
            let mut received = Vec::new();
            for receiver in receivers {
                received.extend(receiver.await);
            }
            received.sort_unstable();
            assert_eq!(received, [1, 2, 3]);
        });
    }

    /// As a stream and a sink: what a pair's end has sent has no name to be sent back to, and goes back all the same; a full
    /// queue is waited for; what is longer than can be received is an error, and not cut.
    fn as_stream_and_sink(el) {
        let folder = tempfile::tempdir().unwrap();
        let path = UnixAddr::from(folder.path().join("receiver"));
        complete(el, async {
            let (a, b) = UnixDatagram::pair().unwrap();
            let (mut a, mut b) = (a.into_datagrams(), b.into_datagrams());
            a.send((vec![7; 100_000].into(), UnixAddr::unnamed())).await.unwrap();
            let (data, from) = b.next().await.unwrap().unwrap();
            assert!(data.len() == 100_000 && from.is_unnamed());
            b.send((data, from)).await.unwrap();
            assert_eq!(a.next().await.unwrap().unwrap().0.len(), 100_000);

            let mut server = UnixDatagram::bind(&path).unwrap().into_datagrams();
            let mut client = UnixDatagram::unbound().unwrap().into_datagrams();
            let (mut sent, numbers) = (0, 0..100_u32);
            let all = numbers.clone().map(|i| Ok((i.to_le_bytes().to_vec().into(), path.clone())));
            let mut all = futures::stream::iter(all).inspect(|_| sent += 1);
            assert!(poll_times(client.send_all(&mut all), 1).await.is_none(), "the peer's queue is never full");
            drop(all);
            // Those that the sink had, and no more, are gone with the future or still in the sink.
            assert!(sent < 100, "{sent}");
            client.flush().now_or_never();
            let mut got = 0;
            while let Some(item) = poll_times(server.next(), 1).await {
                assert_eq!(item.unwrap().unwrap().0[..], u32::to_le_bytes(got)[..]);
                got += 1;
            }
            client.flush().await.unwrap();
            assert_eq!(server.next().await.unwrap().unwrap().0[..], u32::to_le_bytes(got)[..]);

            let error = client.send(("x".into(), UnixAddr::unnamed())).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::NotConnected), "{error:?}");
            let big = UnixDatagram::unbound().unwrap();
            socket2::SockRef::from(&big).set_send_buffer_size(1 << 20).unwrap();
            if big.send_to(&[0; 300_000], &path).await.is_ok() {
                let error = server.next().await.unwrap().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidData);
            }
            big.send_to(b"goes on", &path).await.unwrap();
            assert_eq!(server.next().await.unwrap().unwrap().0, "goes on");
        });
        assert_eq!(registered(el), 0);
    }

    /// SK-10: from std's socket, and back.
    fn from_std_and_back(el) {
        let (a, b) = std::os::unix::net::UnixDatagram::pair().unwrap();
        complete(el, async {
            let a = UnixDatagram::from_std(a).unwrap();
            assert_eq!(b.send(b"x").unwrap(), 1);
            assert_eq!(a.recv(&mut [0; 4]).await.unwrap(), 1);
            let number = a.as_raw_fd();
            let a = a.into_std();
            assert_eq!((a.as_raw_fd(), registered(el)), (number, 0));
            assert_eq!(a.recv(&mut [0; 4]).unwrap_err().kind(), ErrorKind::WouldBlock);
        });
    }

    /// SK-10: by polling, the one who polled last is woken.
    fn by_polling(el) {
        let (a, b) = complete(el, async { UnixDatagram::pair().unwrap() });
        let ((first, first_waker), (second, second_waker)) = (CountingWaker::new(), CountingWaker::new());
        let mut data = [0; 8];
        assert!(b.poll_recv(&mut Context::from_waker(&first_waker), &mut data).is_pending());
        assert!(b.poll_recv_from(&mut Context::from_waker(&second_waker), &mut data).is_pending());
        assert!(matches!(a.poll_send(&mut Context::from_waker(&first_waker), b"one"), Poll::Ready(Ok(3))));
        run_until(el, || second.count() == 1);
        assert_eq!(first.count(), 0);
        assert!(matches!(b.poll_recv(&mut Context::from_waker(&first_waker), &mut data), Poll::Ready(Ok(3))));
    }
}

/// SK-21: a full queue is tried again in the next turn, then after 1, 2, 4 .. 32 milliseconds.
#[test]
fn a_full_queue_is_tried_after_growing_pauses() {
    on_manual_clock(|el, clock| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("full");
        let (a, b) =
            complete(el, async { (UnixDatagram::unbound().unwrap(), UnixDatagram::bind(path.as_path()).unwrap()) });
        fill(|data| a.try_send_to(data, path.as_path()));
        let sender = el.create_task(async move { a.send_to(b"last", path).await });
        let mut pauses = Vec::new();
        for _ in 0..8 {
            settle(el);
            let pause = el.next_deadline().unwrap() - el.time();
            pauses.push(pause.as_millis());
            clock.advance(pause);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 32, 32]);
        settle(el);
        while b.try_recv(&mut [0; 8]).is_ok() {}
        assert!(!sender.is_done());
        clock.advance(Duration::from_millis(32));
        settle(el);
        assert!(sender.is_done());
        assert_eq!(b.try_recv(&mut [0; 8]).unwrap(), 4);
    });
}

/// Outside of a loop there is nobody to wait.
#[test]
#[should_panic(expected = "roundelay::UnixDatagram::pair() was called outside of a running event loop")]
fn outside_of_a_loop() {
    let _alone = common::alone();
    drop(UnixDatagram::pair());
}

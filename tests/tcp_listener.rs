//! `TcpListener` as a plain async type.

mod common;
#[path = "common/tcp.rs"]
mod tcp;

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::{AsyncReadExt, StreamExt};
use roundelay::{LoopClosed, TcpListener, spawn, yield_now};
use socket2::SockRef;

use common::{CountingWaker, on_loop, open_descriptors, poll_times, run_until, settle};
use tcp::{LOOPBACK, calm, closed_port, complete, plain_listener, reset};

async fn bind() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Sends a number over a new connection, for the other side to tell connections apart.
fn client(address: SocketAddr, number: u8) -> TcpStream {
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(&[number]).unwrap();
    client
}

async fn number(stream: &mut roundelay::TcpStream) -> u8 {
    let mut number = [0];
    stream.read_exact(&mut number).await.unwrap();
    number[0]
}

on_every_loop! {
    /// Connections come in the order in which they were made, each with the address of its peer.
    fn connections_come_in_order(el) {
        complete(el, async {
            let (listener, address) = bind().await;
            let clients: Vec<_> = (0..5).map(|i| client(address, i)).collect();
            for (i, client) in (0..).zip(&clients) {
                let (mut stream, peer) = listener.accept().await.unwrap();
                assert_eq!(peer, client.local_addr().unwrap());
                assert_eq!(stream.local_addr().unwrap(), address);
                assert_eq!(number(&mut stream).await, i);
            }
            // And those for whom somebody waits already.
            let waiting = spawn(async move { listener.accept().await.map(|(_, peer)| peer) });
            yield_now().await;
            let late = client(address, 0);
            assert_eq!(waiting.await.unwrap().unwrap(), late.local_addr().unwrap());
        });
    }

    /// Whoever gives up waiting loses no connection, wherever he gives up.
    fn a_cancelled_accept_loses_nothing(el) {
        let (listener, address) = complete(el, bind());
        let mut clients = Vec::new();
        let mut seen = Vec::new();
        for i in 0..10 {
            for _ in 0..2 {
                // Given up while nobody is there.
                assert!(complete(el, poll_times(listener.accept(), 1)).is_none());
            }
            // Given up when it has been woken, and not looked.
            {
                let (counter, waker) = CountingWaker::new();
                let mut accept = pin!(listener.accept());
                assert!(accept.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
                clients.push(client(address, i));
                run_until(el, || counter.count() == 1);
            }
            let (mut stream, _) = complete(el, listener.accept()).unwrap();
            seen.push(complete(el, number(&mut stream)));
        }
        assert_eq!(seen, (0..10).collect::<Vec<u8>>());
    }

    /// Several tasks may accept from one listener: each gets its connections, and none is forgotten.
    fn several_tasks_accept(el) {
        let (listener, address) = complete(el, bind());
        let listener = Rc::new(listener);
        let seen = Rc::new(RefCell::new(Vec::new()));
        let accepts = |_| {
            let (listener, seen) = (listener.clone(), seen.clone());
            el.create_task(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let number = number(&mut stream).await;
                seen.borrow_mut().push(number);
            })
        };
        let mut tasks: Vec<_> = (0..4).map(accepts).collect();
        calm(el);
        // One who is gone stands in nobody's way.
        assert!(tasks.remove(1).cancel());
        calm(el);
        let mut clients = Vec::new();
        for i in 0..3 {
            clients.push(client(address, i));
            run_until(el, || seen.borrow().len() == usize::from(i) + 1);
        }
        assert!(tasks.iter().all(|task| task.is_done()));

        // All at once.
        let tasks: Vec<_> = (0..4).map(accepts).collect();
        calm(el);
        clients.extend((3..7).map(|i| client(address, i)));
        run_until(el, || tasks.iter().all(|task| task.is_done()));
        seen.borrow_mut().sort_unstable();
        assert_eq!(*seen.borrow(), (0..7).collect::<Vec<u8>>());
    }

    /// A task that accepts and one that goes through the stream of connections do not forget each other.
    fn a_stream_and_a_task_accept(el) {
        let (listener, address) = complete(el, bind());
        let listener = Rc::new(listener);
        let (one, other) = (listener.clone(), listener.clone());
        let streamed = el.create_task(async move { one.incoming().next().await.unwrap().map(drop) });
        let accepted = el.create_task(async move { other.accept().await.map(drop) });
        calm(el);
        let _clients = [client(address, 0), client(address, 1)];
        complete(el, streamed).unwrap().unwrap();
        complete(el, accepted).unwrap().unwrap();
    }

    /// Of those who poll by hand the one who polled last is woken; those who await are woken besides.
    fn who_polls_last_is_woken(el) {
        let (listener, address) = complete(el, bind());
        let (first, second, third) = (CountingWaker::new(), CountingWaker::new(), CountingWaker::new());
        for waker in [&first.1, &second.1] {
            assert!(listener.poll_accept(&mut Context::from_waker(waker)).is_pending());
        }
        let mut accept = pin!(listener.accept());
        assert!(accept.as_mut().poll(&mut Context::from_waker(&third.1)).is_pending());
        let _client = client(address, 0);
        run_until(el, || second.0.count() == 1);
        assert_eq!((first.0.count(), third.0.count()), (0, 1));
        assert!(listener.poll_accept(&mut Context::from_waker(&second.1)).is_ready());
        assert!(accept.as_mut().poll(&mut Context::from_waker(&third.1)).is_pending());
    }

    /// Connections as a stream.
    fn connections_are_a_stream(el) {
        complete(el, async {
            let (listener, address) = bind().await;
            let mut clients: Vec<_> = (0..3).map(|i| client(address, i)).collect();
            let mut streams: Vec<_> = listener.incoming().take(3).map(Result::unwrap).collect().await;
            for (i, stream) in (0..).zip(&mut streams) {
                assert_eq!(number(stream).await, i);
            }
            // The stream of connections is given up and begun again.
            clients.push(client(address, 3));
            let mut stream = listener.incoming().next().await.unwrap().unwrap();
            assert_eq!(number(&mut stream).await, 3);
        });
    }

    /// Dropping a listener closes it at once; what it has accepted stays.
    fn dropping_closes(el) {
        let before = open_descriptors();
        complete(el, async {
            let (listener, address) = bind().await;
            let client = client(address, 7);
            let (mut stream, _) = listener.accept().await.unwrap();
            let waits = TcpStream::connect(address).unwrap();
            drop(listener);
            assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
            assert_eq!(number(&mut stream).await, 7);
            drop((stream, client, waits));
            assert_eq!(open_descriptors(), before);
            assert_eq!(el.stats().descriptors.live(), 0);
        });
    }

    /// A listener of std's, of either kind, is taken over; so is one that is given as a socket.
    fn a_listener_may_be_given(el) {
        complete(el, async {
            for kind in 0..4 {
                let (given, address) = plain_listener();
                let number = given.as_raw_fd();
                let listener = match kind {
                    0 => TcpListener::from_std(given).unwrap(),
                    1 => {
                        given.set_nonblocking(true).unwrap();
                        TcpListener::from_std(given).unwrap()
                    }
                    2 => TcpListener::bind(given).await.unwrap(),
                    _ => TcpListener::bind(OwnedFd::from(given)).await.unwrap(),
                };
                assert_eq!((listener.as_raw_fd(), listener.local_addr().unwrap()), (number, address));
                assert!(SockRef::from(&listener.as_fd()).nonblocking().unwrap());
                let _client = client(address, 9);
                let (mut stream, _) = listener.accept().await.unwrap();
                assert_eq!(self::number(&mut stream).await, 9);
                let text = format!("{listener:?}");
                assert!(text.contains("TcpListener") && text.contains(&address.to_string()), "{text}");
            }
        });
    }

    /// Who was there and is gone is accepted all the same, and its end is read from the stream.
    fn a_client_that_is_gone_is_accepted(el) {
        complete(el, async {
            let (listener, address) = bind().await;
            let gone = client(address, 1);
            let was = gone.local_addr().unwrap();
            gone.shutdown(Shutdown::Both).unwrap();
            drop(gone);
            let (mut stream, peer) = listener.accept().await.unwrap();
            assert_eq!(peer, was);
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, [1]);

            let torn = client(address, 2);
            let was = torn.local_addr().unwrap();
            reset(torn);
            let (mut stream, peer) = listener.accept().await.unwrap();
            assert_eq!(peer, was);
            let mut all = Vec::new();
            assert_eq!(stream.read_to_end(&mut all).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        });
    }

    /// Whoever waits leaves the loop at rest.
    fn a_waiting_listener_rests(el) {
        let (listener, address) = complete(el, bind());
        let task = el.create_task(async move {
            listener.accept().await.unwrap();
            listener.accept().await.map(drop)
        });
        for i in 0..2 {
            settle(el);
            for _ in 0..10 {
                assert_eq!(el.run_once(Some(Duration::ZERO)).unwrap(), 0, "the loop does not rest");
            }
            drop(client(address, i));
            run_until(el, || true);
        }
        complete(el, task).unwrap().unwrap();
    }

    /// Nobody accepts, and clients come: the loop rests.
    fn an_idle_listener_rests(el) {
        let (listener, address) = complete(el, bind());
        let _clients = [client(address, 0), client(address, 1)];
        settle(el);
        for _ in 0..10 {
            assert_eq!(el.run_once(Some(Duration::ZERO)).unwrap(), 0, "the loop does not rest");
        }
        complete(el, listener.accept()).unwrap();
    }

    /// A listener that outlives its loop gives an error; whoever waits for it ends.
    fn a_listener_outlives_its_loop(el) {
        let (listener, address) = complete(el, bind());
        let (counter, waker) = CountingWaker::new();
        let mut cx = Context::from_waker(&waker);
        let mut accept = pin!(listener.accept());
        assert!(accept.as_mut().poll(&mut cx).is_pending());
        el.close();
        assert_eq!(counter.count(), 1);
        let Poll::Ready(Err(error)) = accept.as_mut().poll(&mut cx) else { panic!("no error") };
        assert!(error.get_ref().is_some_and(|inner| inner.is::<LoopClosed>()), "{error}");
        // It still holds its port.
        assert!(std::net::TcpListener::bind(address).is_err());
    }

    /// LU-01: a task for which connections are always waiting yields after 128 of them.
    fn a_flood_of_connections_yields(el) {
        complete(el, async {
            let (given, address) = plain_listener();
            SockRef::from(&given).listen(300).unwrap();
            let listener = TcpListener::from_std(given).unwrap();
            let clients: Vec<_> = (0..200).map(|_| TcpStream::connect(address).unwrap()).collect();
            let count = Rc::new(std::cell::Cell::new(0));
            let (counted, seen) = (count.clone(), Rc::new(RefCell::new(Vec::new())));
            let log = seen.clone();
            let other = spawn(async move {
                while counted.get() < 200 {
                    log.borrow_mut().push(counted.get());
                    yield_now().await;
                }
            });
            for _ in 0..200 {
                listener.accept().await.unwrap();
                count.set(count.get() + 1);
            }
            other.await.unwrap();
            drop(clients);
            let seen = seen.borrow();
            assert!(seen.iter().any(|&n| (1..=128).contains(&n)), "{seen:?}");
            assert!(seen.windows(2).all(|two| two[1] - two[0] <= 128), "{seen:?}");
        });
    }
}

/// A listener is bound to the first address of what it is given.
#[test]
fn it_is_bound_to_the_first_address() {
    on_loop(|el| {
        complete(el, async {
            for listener in [
                TcpListener::bind((["127.0.0.3", "127.0.0.4"], 0)).await.unwrap(),
                TcpListener::bind(SocketAddr::from(([127, 0, 0, 3], 0))).await.unwrap(),
                TcpListener::bind((IpAddr::from([127, 0, 0, 3]), 0)).await.unwrap(),
            ] {
                assert_eq!(listener.local_addr().unwrap().ip(), IpAddr::from([127, 0, 0, 3]));
            }
            let everywhere = TcpListener::bind(("", 0)).await.unwrap();
            let port = everywhere.local_addr().unwrap().port();
            let _client = TcpStream::connect((Ipv4Addr::from([127, 0, 0, 6]), port)).unwrap();
            let (stream, _) = everywhere.accept().await.unwrap();
            assert_eq!(stream.local_addr().unwrap(), SocketAddr::from(([127, 0, 0, 6], port)));
            let named = TcpListener::bind(("localhost", 0)).await.unwrap();
            assert!(named.local_addr().unwrap().ip().is_loopback());
            let (_holder, taken) = closed_port();
            assert_eq!(TcpListener::bind(taken).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
            let error = TcpListener::bind(Vec::<SocketAddr>::new()).await.unwrap_err();
            assert!(error.to_string().starts_with("TcpListener::bind: could not bind"), "{error}");
        });
        assert!(complete(el, el.shutdown_default_executor(None)));
    });
}

/// Of several addresses the first that is free is listened on, whatever is the matter with the others; the error is that of
/// the first.
#[test]
fn it_is_bound_to_the_first_address_that_can_be() {
    on_loop(|el| {
        complete(el, async {
            let (_holder, taken) = closed_port();
            let free = SocketAddr::from(([127, 0, 0, 5], taken.port()));
            let foreign = SocketAddr::from(([192, 0, 2, 1], taken.port()));
            for addresses in [vec![free, taken], vec![taken, free], vec![foreign, taken, free], vec![free, foreign]] {
                let listener = TcpListener::bind(addresses).await.unwrap();
                assert_eq!(listener.local_addr().unwrap(), free);
            }
            let error = TcpListener::bind(vec![foreign, taken]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            assert!(error.to_string().contains(&taken.to_string()), "{error}");
            let error = TcpListener::bind(vec![foreign]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
            // The empty host: a port that is taken on IPv6 only is free.
            if let Ok(other) = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None) {
                other.set_only_v6(true).unwrap();
                if other.bind(&SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0)).into()).is_ok() {
                    other.listen(1).unwrap();
                    let port = other.local_addr().unwrap().as_socket().unwrap().port();
                    let listener = TcpListener::bind(("", port)).await.unwrap();
                    assert_eq!(listener.local_addr().unwrap(), SocketAddr::from(([0, 0, 0, 0], port)));
                }
            }
        });
    });
}

/// A listener in a task goes with the loop.
#[test]
fn a_loop_takes_its_listeners_with_it() {
    on_loop(|el| {
        let (listener, address) = complete(el, bind());
        let task = el.create_task(async move { listener.accept().await.map(drop) });
        settle(el);
        let mut waits = TcpStream::connect(address).unwrap();
        el.close();
        assert!(task.is_done());
        assert!(TcpStream::connect(address).is_err());
        assert!(matches!(waits.read(&mut [0; 1]), Ok(0) | Err(_)));
    });
}

/// A listener is made within a running loop only, and says so.
#[test]
fn outside_of_a_loop_it_panics() {
    let _alone = common::alone();
    let text = |f: &mut dyn FnMut()| {
        let payload = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_err();
        payload.downcast_ref::<String>().expect("it has a text").clone()
    };
    let from_std = text(&mut || drop(TcpListener::from_std(plain_listener().0)));
    assert!(from_std.contains("TcpListener::from_std() was called outside of a running event loop"));
}

/// A waker that is replaced by another one may use the listener in its destructor.
#[test]
fn a_wakers_destructor_may_accept() {
    thread_local! {
        static LISTENER: RefCell<Option<Rc<TcpListener>>> = const { RefCell::new(None) };
    }
    struct Accepts(Arc<AtomicUsize>);
    impl Wake for Accepts {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Accepts {
        fn drop(&mut self) {
            if let Some(listener) = LISTENER.with(|listener| listener.take()) {
                assert!(listener.poll_accept(&mut Context::from_waker(Waker::noop())).is_pending());
                assert!(pin!(listener.accept()).poll(&mut Context::from_waker(Waker::noop())).is_pending());
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
    on_loop(|el| {
        complete(el, async {
            let listener = Rc::new(bind().await.0);
            let accepted = Arc::new(AtomicUsize::new(0));
            let waker = Waker::from(Arc::new(Accepts(accepted.clone())));
            assert!(listener.poll_accept(&mut Context::from_waker(&waker)).is_pending());
            drop(waker);
            LISTENER.with(|place| *place.borrow_mut() = Some(listener.clone()));
            assert!(listener.poll_accept(&mut Context::from_waker(Waker::noop())).is_pending());
            assert_eq!(accepted.load(Ordering::SeqCst), 1);
        });
    });
}

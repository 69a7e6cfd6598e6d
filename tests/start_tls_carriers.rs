//! Changing to TLS over all that carries bytes: unix sockets, streams of the application's, transports of its own; and
//! what else may happen to a connection during the handshake.

#![cfg(feature = "__tls")]

#[path = "common/certificates.rs"]
mod certificates;
mod common;
#[path = "common/own_transport.rs"]
mod own_transport;
#[path = "common/tcp.rs"]
mod tcp;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::io::{AsyncRead, AsyncWrite};
use futures::{join, poll};
use roundelay::{
    AnyProtocol, Buffered, BufferedProtocol, EventLoop, KeepOpen, LoopClosed, Protocol, StartTls, TcpStream, Transport,
};

use certificates::{acceptor, connector};
use common::{alone, on_loop, on_manual_clock, run_until};
use own_transport::Own;
use tcp::{Recorder, calm, complete, idle, pattern, plain_pair, receive_all};

/// Counts bytes.
#[derive(Clone, Default)]
struct Count(Rc<RefCell<Vec<u8>>>);

impl Protocol for Count {
    fn data_received(&mut self, _: &Transport, data: &[u8]) {
        self.0.borrow_mut().extend_from_slice(data);
    }
}

/// As `Count`, but reads no more after that.
struct Pausing(Count);

impl Protocol for Pausing {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        self.0.data_received(transport, data);
        transport.pause_reading();
    }
}

/// Takes some bytes at a time.
struct Little {
    taken: [u8; 512],
    received: Count,
    heard: Recorder,
}

impl BufferedProtocol for Little {
    fn get_buffer(&mut self, _: usize) -> &mut [u8] {
        &mut self.taken
    }
    fn buffer_updated(&mut self, _: &Transport, len: usize) {
        self.received.0.borrow_mut().extend_from_slice(&self.taken[..len]);
    }
    fn connection_lost(&mut self, transport: &Transport, error: Option<io::Error>) {
        self.heard.connection_lost(transport, error);
    }
}

/// Notes what comes beside bytes.
struct Both(Count, Recorder);

impl Protocol for Both {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        self.0.data_received(transport, data);
    }
    fn eof_received(&mut self, transport: &Transport) -> KeepOpen {
        self.1.eof_received(transport)
    }
    fn connection_lost(&mut self, transport: &Transport, error: Option<io::Error>) {
        self.1.connection_lost(transport, error);
    }
}

fn as_client(el: &EventLoop, transport: &Transport) -> StartTls {
    el.start_tls(transport.clone(), transport.protocol().unwrap(), connector()).server_hostname("localhost")
}

fn as_server(el: &EventLoop, transport: &Transport) -> StartTls {
    el.start_tls(transport.clone(), transport.protocol().unwrap(), acceptor())
}

/// Both change to TLS.
fn join_tls(el: &EventLoop, client: &Transport, server: &Transport) -> (Transport, Transport) {
    let (near, far) = (as_client(el, client).into_future(), as_server(el, server).into_future());
    let (near, far) = complete(el, async { join!(near, far) });
    (near.unwrap(), far.unwrap())
}

/// Both change to TLS, a megabyte goes each way, and both end.
fn check(el: &EventLoop, client: &Transport, server: &Transport) {
    let received = [Count::default(), Count::default()];
    let near = el.start_tls(client.clone(), received[0].clone(), connector()).server_hostname("localhost");
    let far = el.start_tls(server.clone(), received[1].clone(), acceptor());
    let (near, far) = complete(el, async { join!(near.into_future(), far.into_future()) });
    let (near, far) = (near.unwrap(), far.unwrap());
    let data = pattern(1_000_000);
    near.write(&data);
    far.write(&data);
    run_until(el, || received.iter().all(|received| received.0.borrow().len() == data.len()));
    assert!(received.iter().all(|received| *received.0.borrow() == data));
    near.close();
    run_until(el, || [&near, &far, client, server].iter().all(|transport| transport.protocol().is_none()));
}

/// A stream that takes everything, and is never done with its end, nor, if it is told so, with what it was given.
struct Clogged {
    stream: TcpStream,
    keeps: Rc<Cell<bool>>,
}

impl AsyncRead for Clogged {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Clogged {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.keeps.get() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

/// Two transports over two sockets.
fn transports(el: &EventLoop) -> (Transport, Transport) {
    let (near, far) = plain_pair();
    let (near, _) = complete(el, el.create_connection(idle(), near)).unwrap();
    let (far, _) = complete(el, el.connect_accepted_socket(idle(), far)).unwrap();
    (near, far)
}

on_every_loop! {
    /// TL-15: over unix sockets.
    fn over_unix_sockets(el) {
        let (near, far) = UnixStream::pair().unwrap();
        let (near, _) = complete(el, el.create_unix_connection(idle(), near)).unwrap();
        let (far, _) = complete(el, el.connect_accepted_socket(idle(), far)).unwrap();
        check(el, &near, &far);
    }

    /// TL-15: over streams of the application's, one that is slow to take bytes among them.
    fn over_foreign_streams(el) {
        let (near, far) = plain_pair();
        socket2::SockRef::from(&far).set_send_buffer_size(8 * 1024).unwrap();
        let (near, far) = complete(el, async {
            let el = roundelay::get_running_loop().unwrap();
            let near = el.connect_stream(idle(), TcpStream::from_std(near).unwrap()).unwrap().0;
            (near, el.connect_stream(idle(), TcpStream::from_std(far).unwrap()).unwrap().0)
        });
        check(el, &near, &far);
    }

    /// TL-19: over a transport of the application's own, which is told nothing that other transports are not told.
    fn over_a_transport_of_ones_own(el) {
        let (near, far) = transports(el);
        check(el, &Own::over(&near), &Own::over(&far));
    }

    /// TL-19: one that was closed is refused, whatever it is.
    fn a_closed_transport_of_ones_own(el) {
        let (near, far) = transports(el);
        let own = Own::over(&near);
        let starting = as_client(el, &own);
        near.close();
        assert_eq!(complete(el, starting).unwrap_err().to_string(), "start_tls: Transport is closing");
        run_until(el, || near.protocol().is_none() && far.protocol().is_none());
    }

    /// TL-37: a protocol that pauses with every piece gets the next one when it goes on, though nothing more arrives.
    fn pausing_with_every_piece(el) {
        for layers in 0..3 {
            let received = Count::default();
            let (mut near, mut far) = transports(el);
            for _ in 0..layers {
                (near, far) = join_tls(el, &near, &far);
            }
            far.set_protocol(AnyProtocol::new(Pausing(received.clone())));
            let data = pattern(64_000);
            near.write(&data);
            calm(el);
            run_until(el, || {
                far.resume_reading();
                received.0.borrow().len() == data.len()
            });
            assert!(*received.0.borrow() == data, "{layers} layers");
            far.resume_reading();
            near.close();
            run_until(el, || near.protocol().is_none() && far.protocol().is_none());
            calm(el);
        }
    }

    /// TL-17: what has arrived before the end of the transports below is delivered when it is asked for, also over TLS, which
    /// cannot end one direction alone.
    fn paused_at_the_end(el) {
        for layers in 0..3 {
            let (received, heard) = (Count::default(), Recorder::new());
            let (mut near, mut far) = transports(el);
            for _ in 0..layers {
                (near, far) = join_tls(el, &near, &far);
            }
            far.set_protocol(AnyProtocol::new(Both(received.clone(), heard.clone())));
            far.pause_reading();
            near.write(&pattern(100_000));
            complete(el, near.flushed()).unwrap();
            near.abort();
            calm(el);
            assert!(heard.take().is_empty());
            far.resume_reading();
            run_until(el, || far.protocol().is_none());
            assert_eq!(heard.take(), ["eof", "lost"]);
            assert!(*received.0.borrow() == pattern(100_000), "{layers} layers");
            calm(el);
        }
    }

    /// TL-17: what has arrived before a reset is delivered first, also to a protocol that takes little at a time.
    fn reset_behind_much(el) {
        for layers in 0..3 {
            let (received, heard) = (Count::default(), Recorder::new());
            let (socket, far) = transports(el);
            let (mut near, mut far) = (socket.clone(), far);
            for _ in 0..layers {
                (near, far) = join_tls(el, &near, &far);
            }
            calm(el);
            let little = Little { taken: [0; 512], received: received.clone(), heard: heard.clone() };
            far.set_protocol(AnyProtocol::new(Buffered(little)));
            // Less than what the kernel takes from the other end at once.
            let data = pattern(50_000);
            near.write(&data);
            assert_eq!(near.write_buffer_size(), 0);
            let view = socket.extra_info().socket.unwrap();
            view.with(|socket| socket.set_linger(Some(Duration::ZERO)).unwrap()).unwrap();
            socket.abort();
            run_until(el, || far.protocol().is_none());
            assert_eq!(heard.take(), ["lost ConnectionReset"]);
            assert!(*received.0.borrow() == data, "{layers} layers: {}", received.0.borrow().len());
            calm(el);
        }
    }

    /// TL-11: the old transport closed or aborted during the handshake ends it; the protocol hears of it once.
    fn the_old_transport_is_closed_during_the_handshake(el) {
        for aborts in [false, true] {
            let (mut peer, near) = plain_pair();
            let heard = Recorder::new();
            let given = heard.clone();
            let (transport, _) = complete(el, el.create_connection(move || given, near)).unwrap();
            let task = el.create_task(as_client(el, &transport).into_future());
            calm(el);
            if aborts {
                transport.abort();
            } else {
                transport.close();
            }
            let error = complete(el, task).unwrap().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            calm(el);
            assert_eq!(heard.take(), ["made", "lost ConnectionReset"]);
            assert!(!receive_all(el, &mut peer).is_empty());
        }
    }

    /// TL-15: another protocol on the old transport takes the connection away: the one above hears of the end.
    fn another_protocol_on_the_old_transport(el) {
        let (mut peer, near) = plain_pair();
        let (heard, other) = (Recorder::new(), Recorder::new());
        let given = heard.clone();
        let (transport, _) = complete(el, el.create_connection(move || given, near)).unwrap();
        let task = el.create_task(as_client(el, &transport).into_future());
        calm(el);
        transport.set_protocol(other.clone());
        complete(el, task).unwrap().unwrap_err();
        calm(el);
        let heard = heard.take();
        assert!(heard.len() == 2 && heard[1].starts_with("lost "), "{heard:?}");
        assert_eq!(other.take(), ["lost"]);
        assert!(!receive_all(el, &mut peer).is_empty());
    }

    /// TL-18: a server that is closed with its clients in the middle of a change ends those connections.
    fn the_server_ends_during_the_handshake(el) {
        for aborts in [false, true] {
            let (server, connections, address) = tcp::serve(el);
            let (mut client, transport) = tcp::connect(el, &connections, address);
            let mut starting = as_server(el, &transport).into_future();
            assert!(complete(el, async { poll!(&mut starting) }).is_pending());
            server.close();
            if aborts {
                server.abort_clients();
            } else {
                server.close_clients();
            }
            let task = el.create_task(starting);
            assert!(complete(el, task).unwrap().is_err());
            complete(el, server.wait_closed());
            let _ = client.set_nonblocking(true);
            run_until(el, || !matches!(io::Read::read(&mut client, &mut [0; 10]), Err(error) if error.kind() == io::ErrorKind::WouldBlock));
        }
    }
}

/// TL-11, TL-24: what takes too long is ended at once, also over a stream that never comes to an end of its own.
#[test]
fn timeouts_over_a_stream_without_an_end() {
    on_manual_clock(|el, clock| {
        for stands in [true, false] {
            let (near, far) = plain_pair();
            let heard = Recorder::new();
            let (given, keeps) = (heard.clone(), Rc::new(Cell::new(false)));
            let kept = keeps.clone();
            let near = complete(el, async move {
                let el = roundelay::get_running_loop().unwrap();
                let stream = Clogged { stream: TcpStream::from_std(near).unwrap(), keeps: kept };
                el.connect_stream(move || given, stream).unwrap().0
            });
            let (far, _) = complete(el, el.connect_accepted_socket(idle(), far)).unwrap();
            if stands {
                let (client, server) = join_tls(el, &near, &far);
                server.pause_reading();
                keeps.set(true);
                client.close();
                calm(el);
                clock.advance(Duration::from_secs(30));
                calm(el);
                assert_eq!(heard.take(), ["made", "lost TimedOut"]);
            } else {
                keeps.set(true);
                let task = el.create_task(as_client(el, &near).into_future());
                calm(el);
                clock.advance(Duration::from_secs(60));
                let error = complete(el, task).unwrap().unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
                calm(el);
                assert_eq!(heard.take(), ["made", "lost ConnectionAborted"]);
            }
            assert!(near.protocol().is_none(), "{near:?}");
            far.abort();
            calm(el);
        }
    });
}

/// TL-18: a loop that is closed in the middle of a change lets go of everything; what is awaited in it afterwards says so.
#[test]
fn the_loop_is_closed_during_the_handshake() {
    on_loop(|el| {
        let (near, far) = transports(el);
        let late = as_client(el, &near);
        let mut starting = as_server(el, &far).into_future();
        assert!(complete(el, async { poll!(&mut starting) }).is_pending());
        el.close();
        drop(starting);
        let mut late = Box::pin(late.into_future());
        let waker = std::task::Waker::noop();
        match late.as_mut().poll(&mut Context::from_waker(waker)) {
            Poll::Ready(Err(error)) => assert!(error.get_ref().unwrap().is::<LoopClosed>(), "{error}"),
            other => panic!("{other:?}"),
        }
    });
}

/// TL-18: a loop that is closed before a protocol has heard of its end lets go of it, with whatever it keeps.
#[test]
fn the_loop_is_closed_with_an_end_on_its_way() {
    /// Keeps its transport.
    struct Keeping(#[allow(dead_code)] Rc<()>, Option<Transport>);
    impl Protocol for Keeping {
        fn data_received(&mut self, transport: &Transport, _: &[u8]) {
            self.1 = Some(transport.clone());
        }
    }
    let kept = Rc::new(());
    let given = kept.clone();
    on_loop(|el| {
        let (near, far) = transports(el);
        near.set_protocol(AnyProtocol::new(Keeping(given, None)));
        let (_, above) = join_tls(el, &near, &far);
        above.write(b"hello");
        calm(el);
        near.set_protocol(AnyProtocol::new(Recorder::new()));
        el.close();
    });
    assert_eq!(Rc::strong_count(&kept), 1);
}

/// TL-19: awaited in another loop than the transport's it is refused.
#[test]
fn another_loop() {
    let _alone = alone();
    let (one, other) = (EventLoop::new().unwrap(), EventLoop::new().unwrap());
    let (near, far) = transports(&one);
    let error = complete(&other, as_client(&one, &near)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().starts_with("start_tls: a future of loop "), "{error}");
    assert!(near.is_reading());
    near.close();
    run_until(&one, || far.protocol().is_none());
    one.close();
    other.close();
}

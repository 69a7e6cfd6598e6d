//! Datagram endpoints as streams and sinks, and the pause that holds them back.

mod common;
#[path = "common/datagrams.rs"]
mod datagrams;

use std::cell::RefCell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use common::{Log, complete, run_until, settle};
use datagrams::{Idle, Recorder, bound, close, connected, dead, drain, local, over, plain, unix_pair};
use futures::{FutureExt, SinkExt, StreamExt};
use roundelay::{Address, DatagramHandle, EndpointDatagrams, EventLoop, LoopClosed};

fn datagrams_of(el: &EventLoop, handle: DatagramHandle) -> EndpointDatagrams {
    complete(el, async { handle.into_datagrams().unwrap() })
}

/// A stream that is bound to the loopback, and its address.
fn bound_stream(el: &EventLoop) -> (EndpointDatagrams, Address) {
    let (handle, address) = bound(el, Idle);
    (datagrams_of(el, handle), address.into())
}

on_every_loop! {
    /// Datagrams of all sizes with their senders, sent back as they came; both halves by the combinator, in two tasks.
    fn as_stream_and_sink(el) {
        let (mut server, address) = bound_stream(el);
        let mut client = datagrams_of(el, connected(el, Idle, address.as_ip().unwrap()));
        let from = Address::from(local(client.get_ref()));
        complete(el, async {
            assert!(server.next().now_or_never().is_none());
            for size in [0, 1, 1400, 60_000] {
                let data = Bytes::from(vec![size as u8; size]);
                client.send((data.clone(), None)).await.unwrap();
                let arrived = server.next().await.unwrap().unwrap();
                assert!(arrived == (data.clone(), Some(from.clone())));
                server.send(arrived).await.unwrap();
                assert!(client.next().await.unwrap().unwrap() == (data, Some(address.clone())));
            }
            assert!(format!("{client:?}").contains("waiting: 0"), "{client:?}");
            let (mut sink, mut stream) = server.split();
            let task = roundelay::spawn(async move { stream.next().await.unwrap().unwrap() });
            sink.send(("answer".into(), Some(from))).await.unwrap();
            client.send(("question".into(), Some(address.clone()))).await.unwrap();
            assert_eq!(task.await.unwrap().0, "question");
            assert_eq!(client.next().await.unwrap().unwrap().0, "answer");
            client.close().await.unwrap();
            client.send(("closing it is flushing it".into(), None)).await.unwrap();
        });
    }

    /// What nobody takes is left to the kernel, but for some: nothing is lost, and it comes in order.
    fn what_nobody_takes(el) {
        let (mut server, address) = bound_stream(el);
        let (socket, _) = plain();
        let sent: Vec<_> = (0..200_u32).map(|n| n.to_string()).collect();
        for text in &sent {
            socket.send_to(text.as_bytes(), address.as_ip().unwrap()).unwrap();
        }
        run_until(el, || !server.get_ref().is_reading());
        settle(el);
        let waiting = format!("{server:?}");
        assert!((16..32).any(|n| waiting.contains(&format!("waiting: {n} "))), "{waiting}");
        for text in sent {
            assert_eq!(complete(el, server.next()).unwrap().unwrap().0, text);
        }
        assert!(server.get_ref().is_reading());
    }

    /// The sink waits while the peer has no room, and holds one datagram at most.
    fn the_sink_waits(el) {
        let (own, peer) = unix_pair();
        let mut datagrams = datagrams_of(el, over(el, Idle, own));
        let mut sent = 0;
        while complete(el, async { datagrams.feed((sent.to_string().into(), None)).now_or_never() }).is_some() {
            sent += 1;
            assert!(sent < 10_000, "there is no end to the room");
        }
        assert!(datagrams.get_ref().write_buffer_size() > 0);
        assert!(complete(el, async { datagrams.flush().now_or_never() }).is_none());
        let mut arrived = drain(&peer);
        complete(el, datagrams.flush()).unwrap();
        assert_eq!(datagrams.get_ref().write_buffer_size(), 0);
        arrived.extend(drain(&peer));
        let expected: Vec<_> = (0..sent).map(|n| n.to_string().into_bytes()).collect();
        assert_eq!(arrived, expected);
        assert_eq!(complete(el, async { peer.send(b"back").unwrap(); datagrams.next().await }).unwrap().unwrap(), ("back".into(), None));
    }

    /// Errors are items, and it goes on.
    fn errors_are_items(el) {
        let mut datagrams = datagrams_of(el, connected(el, Idle, dead()));
        complete(el, async {
            datagrams.send(("nobody is there".into(), None)).await.unwrap();
            assert_eq!(datagrams.next().await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionRefused);
            datagrams.send((vec![0; 70_000].into(), None)).await.unwrap();
            assert_eq!(datagrams.next().await.unwrap().unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
            assert!(datagrams.next().now_or_never().is_none());
        });
    }

    /// It ends with its endpoint, whoever ends that, behind what has arrived; and dropping it ends the endpoint.
    fn the_end(el) {
        let (mut datagrams, address) = bound_stream(el);
        let handle = datagrams.get_ref().clone();
        let (socket, _) = plain();
        socket.send_to(b"last", address.as_ip().unwrap()).unwrap();
        run_until(el, || format!("{datagrams:?}").contains("waiting: 1"));
        close(el, &handle);
        complete(el, async {
            assert_eq!(datagrams.next().await.unwrap().unwrap().0, "last");
            assert!(datagrams.next().await.is_none());
            assert!(datagrams.next().await.is_none());
            let error = datagrams.send(("x".into(), Some(address.clone()))).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        });
        let error = complete(el, async { handle.into_datagrams().unwrap_err() });
        assert_eq!(error.kind(), ErrorKind::NotConnected);
        assert_eq!(error.to_string(), "DatagramHandle::into_datagrams(): the endpoint is closed");

        let (datagrams, _) = bound_stream(el);
        let handle = datagrams.get_ref().clone();
        drop(datagrams);
        assert!(handle.is_closing());
        run_until(el, || handle.protocol().is_none());

        // Another protocol takes it over.
        let (mut datagrams, _) = bound_stream(el);
        let log = Log::default();
        let handle = datagrams.get_ref().clone();
        handle.set_protocol(roundelay::AnyDatagramProtocol::new(Recorder::new(&log)));
        assert!(complete(el, datagrams.next()).is_none());
        drop(datagrams);
        run_until(el, || handle.protocol().is_none());
        assert_eq!(log.take(), ["lost"]);
    }

    /// A closed loop is an error, and then the end.
    fn a_closed_loop(el) {
        let (mut datagrams, address) = bound_stream(el);
        el.close();
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Some(Err(error))) = datagrams.poll_next_unpin(&mut cx) else { panic!("no error") };
        assert!(error.get_ref().unwrap().is::<LoopClosed>());
        assert!(matches!(datagrams.poll_next_unpin(&mut cx), Poll::Ready(None)));
        assert!(datagrams.start_send_unpin(("x".into(), Some(address))).is_err());
    }

    /// A protocol that pauses its endpoint gets what was received together with that datagram, and then nothing until it
    /// resumes; also where it was paused before it began.
    fn a_paused_endpoint(el) {
        let log = Log::default();
        let seen = Rc::new(RefCell::new(0));
        let count = seen.clone();
        let pausing = Recorder::new(&Log::default()).then("made", |handle, _, _| handle.pause_reading()).then(
            "datagram",
            move |handle, _, _| {
                *count.borrow_mut() += 1;
                handle.pause_reading();
            },
        );
        let (handle, address) = bound(el, pausing);
        assert!(!handle.is_reading());
        assert!(format!("{handle:?}").contains("read=idle"), "{handle:?}");
        let (socket, _) = plain();
        for n in 0..100_u32 {
            socket.send_to(&n.to_le_bytes(), address).unwrap();
        }
        settle(el);
        assert_eq!(*seen.borrow(), 0);
        while *seen.borrow() < 100 {
            let before = *seen.borrow();
            handle.resume_reading();
            handle.resume_reading();
            assert!(handle.is_reading());
            run_until(el, || !handle.is_reading());
            settle(el);
            let got = *seen.borrow() - before;
            assert!((1..=16).contains(&got), "{got}");
        }
        close(el, &handle);
        assert!(!handle.is_reading());
        handle.resume_reading();
        assert!(!handle.is_reading() && log.take().is_empty());
    }
}

/// Endpoints in memory cannot be paused: what nobody takes is kept up to a bound.
#[cfg(feature = "test-util")]
#[test]
fn in_memory() {
    use roundelay::testing::{DatagramLink, datagram_pair};
    common::on_loop(|el| {
        let ((near, _), (far, _)) = datagram_pair(el, &DatagramLink::new(), || Idle, || Idle).unwrap();
        settle(el);
        let (near, mut far) = (datagrams_of(el, near), datagrams_of(el, far));
        for n in 0..1100_u32 {
            near.get_ref().sendto(&n.to_le_bytes(), None);
        }
        settle(el);
        let mut numbers = 0..;
        complete(el, async {
            while let Some(item) = far.next().now_or_never() {
                let number: u32 = numbers.next().unwrap();
                assert_eq!(item.unwrap().unwrap().0, number.to_le_bytes()[..]);
            }
        });
        assert_eq!(numbers.next(), Some(1024));
    });
}

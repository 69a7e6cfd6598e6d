//! How streams end: another protocol takes over, waits are given up, the loop is closed, handlers fail.

mod common;

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use common::{CountingWaker, Log, complete, run_until, settle, take_reports};
use roundelay::{
    EventLoop, LoopClosed, Protocol, StreamReader, StreamWriter, Transport, open_connection, start_server,
};

/// A connection to a peer that the test works by hand, with a reader of this limit.
fn connect(el: &EventLoop, limit: usize) -> (StreamReader, StreamWriter, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (reader, writer) = complete(el, async { open_connection(address).limit(limit).await }).unwrap();
    let (peer, _) = listener.accept().unwrap();
    peer.set_read_timeout(Some(common::PATIENCE)).unwrap();
    (reader, writer, peer)
}

/// Polls once, with a waker that is not needed.
fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Writes more than the kernel takes while the peer reads nothing.
fn jam(writer: &mut StreamWriter) {
    writer.write(&vec![0; 30_000_000]);
    assert!(writer.transport().write_buffer_size() > 0);
}

/// A protocol that takes all that comes.
#[derive(Clone, Default)]
struct Collect(Rc<RefCell<Vec<u8>>>);

impl Protocol for Collect {
    fn data_received(&mut self, _: &Transport, data: &[u8]) {
        self.0.borrow_mut().extend_from_slice(data);
    }
}

/// Sends what makes a reader with a limit of 10 pause its transport.
fn pause(el: &EventLoop, writer: &StreamWriter, peer: &mut TcpStream) {
    peer.write_all(&[b'x'; 21]).unwrap();
    run_until(el, || !writer.transport().is_reading());
}

/// Checks that it failed because the loop was closed.
#[track_caller]
fn closed<T: std::fmt::Debug>(polled: Poll<io::Result<T>>) {
    match polled {
        Poll::Ready(Err(error)) if error.get_ref().is_some_and(|error| error.is::<LoopClosed>()) => {}
        other => panic!("{other:?}"),
    }
}

on_every_loop! {
    /// SR-16, SR-19: a wait that is given up is forgotten at once, and those that go on are woken.
    fn a_wait_given_up_is_forgotten(el) {
        let (_reader, mut writer, _peer) = connect(el, 100);
        let (counter, waker) = CountingWaker::new();
        let wakers = Arc::strong_count(&counter);
        let (staying, stays) = CountingWaker::new();
        let mut stay = Box::pin(writer.wait_closed());
        assert!(stay.as_mut().poll(&mut Context::from_waker(&stays)).is_pending());
        for _ in 0..10 {
            assert!(pin!(writer.wait_closed()).poll(&mut Context::from_waker(&waker)).is_pending());
            assert_eq!(Arc::strong_count(&counter), wakers);
        }
        drop(stay);
        jam(&mut writer);
        for _ in 0..10 {
            assert!(pin!(writer.drain()).poll(&mut Context::from_waker(&waker)).is_pending());
            assert_eq!(Arc::strong_count(&counter), wakers);
        }
        let transport = writer.transport().clone();
        let mut stay = Box::pin(writer.wait_closed());
        assert!(stay.as_mut().poll(&mut Context::from_waker(&stays)).is_pending());
        transport.abort();
        settle(el);
        assert!(matches!(poll(stay.as_mut()), Poll::Ready(Ok(()))));
        assert_eq!((counter.count(), staying.count()), (0, 1));
    }

    /// api 4: a transport that the reader has paused reads for the protocol that takes it over, though the reader is
    /// there and has what had arrived before.
    fn a_paused_transport_is_taken_over(el) {
        let (mut reader, mut writer, mut peer) = connect(el, 10);
        pause(el, &writer, &mut peer);
        let collected = Collect::default();
        writer.transport().set_protocol(collected.clone());
        peer.write_all(b"for the new one").unwrap();
        run_until(el, || collected.0.borrow().len() == 15);
        assert_eq!(complete(el, reader.read_to_end()).unwrap(), [b'x'; 21]);
        assert!(reader.at_eof());
        writer.close();
    }

    /// api 4: the halves that are left of a stream do not meddle with what the new protocol does to its transport.
    fn what_is_left_of_a_stream_resumes_nothing(el) {
        for reads in [true, false] {
            let (mut reader, mut writer, mut peer) = connect(el, 10);
            pause(el, &writer, &mut peer);
            let transport = writer.transport().clone();
            transport.set_protocol(Collect::default());
            assert!(transport.is_reading());
            transport.pause_reading();
            if reads {
                complete(el, reader.read_to_end()).unwrap();
                assert!(!transport.is_reading(), "a read has resumed it");
            }
            drop(reader);
            assert!(!transport.is_reading(), "the reader's end has resumed it");
            writer.close();
        }
    }

    /// SR-19: a loop that is closed while bytes wait to be sent, or might still come, is no orderly end of the stream.
    fn a_loop_closed_under_a_stream_is_an_error(el) {
        let (mut reader, mut writer, _peer) = connect(el, 100);
        jam(&mut writer);
        assert!(poll(pin!(reader.read(1))).is_pending());
        assert!(poll(pin!(writer.wait_closed())).is_pending());
        el.close();
        closed(poll(pin!(reader.read(1))));
        closed(poll(pin!(reader.read_to_end())));
        closed(poll(pin!(writer.drain())));
        closed(poll(pin!(writer.wait_closed())));
        let error = reader.exception().unwrap();
        assert!(error.get_ref().unwrap().is::<LoopClosed>(), "{error:?}");
    }

    /// SR-19: what has ended in an orderly way before the loop is closed stays so: both halves, or the peer's only.
    fn what_had_ended_before_the_loop_stays_ended(el) {
        let (mut reader, mut writer, _peer) = connect(el, 100);
        writer.close();
        complete(el, writer.wait_closed()).unwrap();
        let (mut half_reader, half_writer, mut peer) = connect(el, 100);
        peer.write_all(b"all of it").unwrap();
        drop(peer);
        assert_eq!(complete(el, half_reader.read(3)).unwrap(), b"all");
        settle(el);
        el.close();
        assert!(matches!(poll(pin!(reader.read(1))), Poll::Ready(Ok(bytes)) if bytes.is_empty()));
        assert!(matches!(poll(pin!(writer.wait_closed())), Poll::Ready(Ok(()))));
        assert!(matches!(poll(pin!(half_reader.read_to_end())), Poll::Ready(Ok(bytes)) if bytes == b" of it"));
        closed(poll(pin!(half_writer.wait_closed())));
    }

    /// SR-01: a handler's lost connection to somebody else is reported: its own one stands, or has ended in an orderly way.
    fn the_loss_of_another_connection_is_reported(el) {
        for kind in [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::ConnectionAborted] {
            let handler = async move |mut reader: StreamReader, mut writer: StreamWriter| {
                let keep = reader.readline().await.unwrap() == b"keep\n";
                if !keep {
                    writer.close();
                    writer.wait_closed().await.unwrap();
                }
                Err::<(), _>(io::Error::new(kind, "the database is gone"))
            };
            let server = complete(el, async { start_server(handler, ("127.0.0.1", 0)).await }).unwrap();
            for request in ["keep\n", "close\n"] {
                let mut client = TcpStream::connect(server.local_addrs()[0]).unwrap();
                client.write_all(request.as_bytes()).unwrap();
                let mut reports = Vec::new();
                run_until(el, || {
                    reports.extend(take_reports());
                    !reports.is_empty()
                });
                assert!(reports.len() == 1 && reports[0].contains("the database is gone"), "{reports:?}");
            }
            server.close();
            complete(el, server.wait_closed());
        }
    }

    /// SR-01: a handler that hears of the loss of its own connection from a write, before its protocol does, is silent.
    fn the_loss_of_its_own_connection_is_not_reported(el) {
        let ended = Log::new();
        let log = ended.clone();
        let handler = async move |mut reader: StreamReader, mut writer: StreamWriter| {
            reader.readline().await.unwrap();
            // The reset is found by a write, in this turn.
            while !writer.is_closing() {
                writer.write(&[0; 1000]);
            }
            let result = writer.transport().ready().await;
            log.push(format!("{:?}", result.as_ref().unwrap_err().kind()));
            result
        };
        let server = complete(el, async { start_server(handler, ("127.0.0.1", 0)).await }).unwrap();
        let mut client = TcpStream::connect(server.local_addrs()[0]).unwrap();
        run_until(el, || server.connections() == 1);
        settle(el);
        // What it sends can be read, though a reset follows it.
        client.write_all(b"go\n").unwrap();
        drop(client);
        run_until(el, || ended.len() == 1);
        assert_eq!(ended.take().len(), 1);
        server.close();
        complete(el, server.wait_closed());
        settle(el);
        assert_eq!(take_reports(), [""; 0]);
    }
}

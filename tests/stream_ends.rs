//! How streams end: another protocol takes over, waits are given up, the loop is closed, handlers fail.

mod common;

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::{CountingWaker, Log, complete, run_until, settle, take_reports};
use roundelay::{EventLoop, LoopClosed, Protocol, StreamReader, StreamWriter, Transport, open_connection, start_server};
use socket2::SockRef;

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

/// Ends the peer's side with a reset.
fn reset(peer: TcpStream) {
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
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
}

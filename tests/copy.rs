//! Copying from stream to stream.

mod common;
#[path = "common/tcp.rs"]
mod tcp;

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use common::{complete, on_loop, poll_times, settle};
use futures::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Cursor};
use roundelay::{EventLoop, Task, copy, copy_bidirectional};
use tcp::{pattern, plain_pair, receive, receive_all, reset};

type Totals = io::Result<(u64, u64)>;

/// Two peers that are connected with each other through a task that copies.
fn relay(el: &EventLoop) -> (TcpStream, TcpStream, Task<Totals>) {
    let ((near, a), (far, b)) = (plain_pair(), plain_pair());
    let task = el.create_task(async move {
        let mut near = roundelay::TcpStream::from_std(near).unwrap();
        let mut far = roundelay::TcpStream::from_std(far).unwrap();
        copy_bidirectional(&mut near, &mut far).await
    });
    (a, b, task)
}

on_every_loop! {
    /// The end of one direction ends the other's writing half, and that goes on: a request that is ended is answered.
    fn half_close_in_each_direction(el) {
        for a_first in [true, false] {
            let (mut a, mut b, task) = relay(el);
            let (first, second) = if a_first { (&mut a, &mut b) } else { (&mut b, &mut a) };
            first.write_all(b"request").unwrap();
            first.shutdown(Shutdown::Write).unwrap();
            assert_eq!(receive_all(el, second), b"request");
            settle(el);
            assert!(!task.is_done());
            second.set_nonblocking(false).unwrap();
            second.write_all(b"the answer").unwrap();
            assert_eq!(receive(el, first, 10), b"the answer");
            second.shutdown(Shutdown::Write).unwrap();
            assert_eq!(receive_all(el, first), b"");
            let totals = complete(el, task).unwrap().unwrap();
            assert_eq!(totals, if a_first { (7, 10) } else { (10, 7) });
        }
    }

    /// Five megabytes in each direction at once, to readers that take them slowly: all of it arrives in order, and no more
    /// than a little is read ahead.
    fn much_in_both_directions(el) {
        const MUCH: usize = 5 * 1024 * 1024;
        let (mut a, mut b, task) = relay(el);
        let data = pattern(MUCH);
        for stream in [&a, &b] {
            stream.set_nonblocking(true).unwrap();
        }
        let (mut sent, mut received) = ([0, 0], [Vec::new(), Vec::new()]);
        let mut buffer = vec![0; 10_000];
        let began = std::time::Instant::now();
        while received.iter().any(|bytes| bytes.len() < MUCH) {
            assert!(began.elapsed() < common::PATIENCE, "{} and {} bytes", received[0].len(), received[1].len());
            // Never blocking: the kernel has room again when a reader has made some.
            el.run_once(Some(std::time::Duration::ZERO)).unwrap();
            for (side, stream) in [&mut a, &mut b].into_iter().enumerate() {
                if sent[side] < MUCH {
                    sent[side] += stream.write(&data[sent[side]..]).unwrap_or(0);
                    if sent[side] == MUCH {
                        stream.shutdown(Shutdown::Write).unwrap();
                    }
                }
                if let Ok(n) = stream.read(&mut buffer) {
                    received[side].extend_from_slice(&buffer[..n]);
                }
            }
        }
        assert!(received.iter().all(|bytes| *bytes == data));
        assert_eq!(complete(el, task).unwrap().unwrap(), (MUCH as u64, MUCH as u64));
    }

    /// A connection that fails ends both directions with its error.
    fn the_first_error_ends_both(el) {
        let (a, mut b, task) = relay(el);
        settle(el);
        reset(a);
        let error = complete(el, task).unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(receive_all(el, &mut b), b"");
    }

    /// Given up and taken up again with nothing on its way it loses nothing; the streams are the caller's all the time.
    fn given_up_and_taken_up_again(el) {
        let ((near, mut a), (far, mut b)) = (plain_pair(), plain_pair());
        let (mut near, mut far) = complete(el, async {
            (roundelay::TcpStream::from_std(near).unwrap(), roundelay::TcpStream::from_std(far).unwrap())
        });
        for _ in 0..5 {
            a.write_all(b"there").unwrap();
            let given_up = complete(el, poll_times(copy_bidirectional(&mut near, &mut far), 1));
            assert!(given_up.is_none());
            b.set_nonblocking(false).unwrap();
            b.write_all(b"back").unwrap();
        }
        a.shutdown(Shutdown::Write).unwrap();
        b.shutdown(Shutdown::Write).unwrap();
        complete(el, copy_bidirectional(&mut near, &mut far)).unwrap();
        drop((near, far));
        assert_eq!(receive_all(el, &mut a), b"back".repeat(5));
        assert_eq!(receive_all(el, &mut b), b"there".repeat(5));
    }

    /// The halves of asyncio's streams copy, too, with their back-pressure.
    fn between_halves_of_streams(el) {
        let ((near, mut a), (far, mut b)) = (plain_pair(), plain_pair());
        let data = pattern(3_000_000);
        let task = el.create_task(async move {
            let (from, _kept) = roundelay::open_connection(near).await.unwrap();
            let (_also, to) = roundelay::open_connection(far).await.unwrap();
            let mut to = to.compat();
            let n = copy(&mut from.compat(), &mut to).await.unwrap();
            to.close().await.unwrap();
            n
        });
        let sent = data.clone();
        let thread = std::thread::spawn(move || {
            a.write_all(&sent).unwrap();
            a
        });
        assert!(receive(el, &mut b, data.len()) == data);
        drop(thread.join().unwrap());
        assert_eq!(receive_all(el, &mut b), b"");
        assert_eq!(complete(el, task).unwrap(), data.len() as u64);
    }
}

/// A writer that takes a few bytes at a time and waits in between, and may come to its end.
struct Stubborn {
    taken: Rc<RefCell<Vec<u8>>>,
    /// The most bytes that it takes.
    room: usize,
    waits: bool,
    flushes: Rc<Cell<usize>>,
}

impl Stubborn {
    fn new(room: usize) -> Self {
        Self { taken: Rc::default(), room, waits: false, flushes: Rc::default() }
    }
}

impl AsyncWrite for Stubborn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.waits = !self.waits;
        if self.waits {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let n = buf.len().min(777).min(self.room);
        self.room -= n;
        self.taken.borrow_mut().extend_from_slice(&buf[..n]);
        Poll::Ready(Ok(n))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushes.set(self.flushes.get() + 1);
        Poll::Ready(Ok(()))
    }
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        panic!("copy() closes nothing");
    }
}

/// A writer that takes little at a time gets all of it, is flushed, and is not closed; one that takes no more is an error.
#[test]
fn a_writer_that_takes_little() {
    on_loop(|el| {
        let data = pattern(200_000);
        let mut writer = Stubborn::new(usize::MAX);
        let n = complete(el, copy(&mut &data[..], &mut writer)).unwrap();
        assert_eq!(n, 200_000);
        assert!(*writer.taken.borrow() == data);
        assert!(writer.flushes.get() > 0);

        let mut writer = Stubborn::new(1000);
        let error = complete(el, copy(&mut &data[..], &mut writer)).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (io::ErrorKind::WriteZero, "copy: the writer takes no more bytes".into())
        );
        assert!(*writer.taken.borrow() == data[..1000]);
        assert_eq!(complete(el, copy(&mut &b""[..], &mut Stubborn::new(0))).unwrap(), 0);
    });
}

/// Bytes without end, which are always ready.
struct Endless;

impl AsyncRead for Endless {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        buf.fill(b'x');
        Poll::Ready(Ok(buf.len()))
    }
}

/// Streams that are always ready, of whatever library, keep nobody from his turn: a copy without end is cut short by
/// somebody else.
#[test]
fn endless_streams_leave_the_others_their_turns() {
    on_loop(|el| {
        let task = el.create_task(async { copy(&mut Endless, &mut futures::io::sink()).await.map(drop) });
        let canceller = task.canceller();
        let other = el.create_task(async move {
            for _ in 0..3 {
                roundelay::yield_now().await;
            }
            canceller.cancel();
        });
        complete(el, other).unwrap();
        assert!(complete(el, task).unwrap_err().is_cancelled());
    });
}

/// Without a loop of ours it works as well.
#[test]
fn on_a_foreign_executor() {
    let data = pattern(300_000);
    let mut out = Cursor::new(Vec::new());
    let n = futures::executor::block_on(copy(&mut &data[..], &mut out)).unwrap();
    assert_eq!(n, 300_000);
    assert!(out.into_inner() == data);
}

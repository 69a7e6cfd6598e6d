//! `AsyncFd`: any descriptor that can be waited for (behaviours SK, LU).

mod common;
mod wire;

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures::{AsyncReadExt, AsyncWriteExt};

use common::{CountingWaker, complete, on_loop, poll_times, settle};
use roundelay::selector::Interest;
use roundelay::{AsyncFd, EventLoop, LoopClosed, TcpListener, TcpStream, spawn, yield_now};
use wire::{Net, Record, Tap, assert_sleeps, connect, finish, pattern};

/// Two connected sockets that do not block.
fn pair() -> (UnixStream, UnixStream) {
    let (a, b) = UnixStream::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    b.set_nonblocking(true).unwrap();
    (a, b)
}

/// The reading and the writing end of a pipe, which block.
fn pipe() -> (File, File) {
    let (read, write) = rustix::pipe::pipe().unwrap();
    (read.into(), write.into())
}

fn registered(el: &EventLoop) -> u64 {
    el.stats().descriptors.live()
}

on_every_loop! {
    /// SK-01: reading waits until there is something, and writing until there is room.
    fn reading_and_writing(el) {
        let (a, mut b) = pair();
        complete(el, async {
            let a = AsyncFd::new(a).unwrap();
            assert!(poll_times(a.readable(), 1).await.is_none());
            b.write_all(b"hello").unwrap();
            let mut guard = a.readable().await.unwrap();
            assert!(guard.readiness().is_readable());
            let mut data = [0; 16];
            assert_eq!(guard.try_io(|mut stream| stream.read(&mut data)).unwrap(), 5);
            // More may be there: so it stays ready until a call says otherwise.
            let mut guard = a.readable().await.unwrap();
            let error = guard.try_io(|mut stream| stream.read(&mut data)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            assert!(poll_times(a.readable(), 1).await.is_none());

            let mut guard = a.writable().await.unwrap();
            while guard.try_io(|mut stream| stream.write(&[0; 65536])).is_ok() {}
            assert!(poll_times(a.writable(), 1).await.is_none());
            while b.read(&mut [0; 65536]).is_ok() {}
            drop(a.writable().await.unwrap());
            drop(b);
            let n = a.async_io(Interest::READABLE, |mut stream| stream.read(&mut data)).await.unwrap();
            assert_eq!(n, 0);
        });
        assert_eq!(registered(el), 0);
    }

    /// What reads and writes in the way of std is a stream of the `futures` traits; a reference to it, too, in either
    /// direction of which a task may wait.
    fn a_stream_of_the_traits(el) {
        let (a, b) = pair();
        let bytes = pattern(1 << 20);
        complete(el, async {
            let (a, b) = (AsyncFd::new(a).unwrap(), AsyncFd::new(b).unwrap());
            let sent = bytes.clone();
            let echo = spawn(async move {
                let (mut reader, mut writer) = (&b, &b);
                let copied = roundelay::copy(&mut reader, &mut writer).await.unwrap();
                // Closing flushes, and no more: a descriptor has no other word for it.
                writer.close().await.unwrap();
                b.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
                copied
            });
            let (mut reader, mut writer) = (&a, &a);
            let mut received = Vec::new();
            let sending = async {
                writer.write_all(&sent).await?;
                writer.flush().await?;
                a.get_ref().shutdown(std::net::Shutdown::Write)
            };
            futures::future::try_join(sending, reader.read_to_end(&mut received)).await.unwrap();
            assert!(received == bytes);
            assert_eq!(echo.await.unwrap(), 1 << 20);
        });
        assert_eq!(registered(el), 0);
    }

    /// A read that is short says nothing about what is left, and one that would block waits without a second call.
    fn only_would_block_says_that_there_is_no_more(el) {
        /// Reads a byte at a time, and counts the calls.
        struct Slow(UnixStream, Rc<Cell<u32>>);
        impl AsFd for Slow {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.0.as_fd()
            }
        }
        impl Read for Slow {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                self.1.set(self.1.get() + 1);
                let most = buf.len().min(1);
                self.0.read(&mut buf[..most])
            }
        }
        let (a, mut b) = pair();
        let calls = Rc::new(Cell::new(0));
        let mut slow = complete(el, async { AsyncFd::new(Slow(a, calls.clone())).unwrap() });
        b.write_all(b"abc").unwrap();
        let mut data = [0; 100];
        for expected in b"abc" {
            assert_eq!(complete(el, slow.read(&mut data)).unwrap(), 1);
            assert_eq!(data[0], *expected);
        }
        assert_eq!(calls.get(), 3);
        let (counter, waker) = CountingWaker::new();
        let mut cx = Context::from_waker(&waker);
        for _ in 0..5 {
            let polled = futures::AsyncRead::poll_read(std::pin::Pin::new(&mut slow), &mut cx, &mut data);
            assert!(polled.is_pending());
        }
        assert_eq!(calls.get(), 4, "it is known that there is nothing");
        assert_sleeps(el);
        b.write_all(b"d").unwrap();
        common::run_until(el, || counter.count() == 1);
        assert_eq!(complete(el, slow.read(&mut data)).unwrap(), 1);
        // Nothing to read into is no question.
        assert_eq!(complete(el, slow.read(&mut [])).unwrap(), 0);
        assert_eq!(calls.get(), 5);
        drop(b);
        assert_eq!(complete(el, slow.read(&mut data)).unwrap(), 0);
        drop(slow);
        assert_eq!(registered(el), 0);
    }

    /// A write that would block waits for room, in the middle of a long one; several pieces go in one call.
    fn writing_by_the_traits_waits(el) {
        let (a, mut b) = pair();
        complete(el, async {
            let mut a = AsyncFd::with_interest(a, Interest::WRITABLE).unwrap();
            let bytes = pattern(2_000_000);
            let task = spawn(async move {
                let pieces = [io::IoSlice::new(b"one"), io::IoSlice::new(b"two")];
                assert_eq!(a.write_vectored(&pieces).await.unwrap(), 6);
                a.write_all(&bytes).await.unwrap();
                // It is not watched for this.
                let error = a.read(&mut [0]).await.unwrap_err();
                assert_eq!(error.to_string(), "AsyncFd::poll_read(): the descriptor is not watched for reading");
                bytes
            });
            let mut received = Vec::new();
            while !task.is_done() {
                let _ = b.read_to_end(&mut received);
                yield_now().await;
            }
            let _ = b.read_to_end(&mut received);
            let bytes = task.await.unwrap();
            assert!(received[..6] == *b"onetwo" && received[6..] == bytes);
        });
    }

    /// SK-19: a megabyte each way at once through `async_io`.
    fn a_megabyte_both_ways(el) {
        let (a, b) = pair();
        let bytes = pattern(1 << 20);
        complete(el, async {
            let (a, b) = (Rc::new(AsyncFd::new(a).unwrap()), AsyncFd::new(b).unwrap());
            let sender = el.create_task({
                let (a, bytes) = (a.clone(), bytes.clone());
                async move {
                    let mut sent = 0;
                    while sent < bytes.len() {
                        sent += a.async_io(Interest::WRITABLE, |mut stream| stream.write(&bytes[sent..])).await.unwrap();
                    }
                }
            });
            let echo = el.create_task(async move {
                let (mut buffer, mut total) = (vec![0; 30_000], 0);
                while total < 1 << 20 {
                    let n = b.async_io(Interest::READABLE, |mut stream| stream.read(&mut buffer)).await.unwrap();
                    total += n;
                    let mut sent = 0;
                    while sent < n {
                        sent += b.async_io(Interest::WRITABLE, |mut stream| stream.write(&buffer[sent..n])).await.unwrap();
                    }
                }
            });
            let (mut received, mut buffer) = (Vec::new(), vec![0; 50_000]);
            while received.len() < bytes.len() {
                let n = a.async_io(Interest::READABLE, |mut stream| stream.read(&mut buffer)).await.unwrap();
                received.extend_from_slice(&buffer[..n]);
            }
            assert!(received == bytes);
            sender.await.unwrap();
            echo.await.unwrap();
        });
    }

    /// SK-10: a descriptor that blocks is called only once it was said to be ready, also the first time.
    fn a_descriptor_that_blocks(el) {
        let (read, mut write) = pipe();
        complete(el, async {
            let read = AsyncFd::with_interest(read, Interest::READABLE).unwrap();
            let error = read.try_io(Interest::READABLE, |_| -> io::Result<()> { panic!("it would block") }).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            assert!(poll_times(read.readable(), 1).await.is_none());
            write.write_all(b"x").unwrap();
            let mut data = [0; 8];
            let mut guard = read.readable().await.unwrap();
            assert_eq!(guard.try_io(|mut file| file.read(&mut data)).unwrap(), 1);
            guard.clear_ready();
            assert!(poll_times(read.readable(), 1).await.is_none());
            write.write_all(b"y").unwrap();
            drop(read.readable().await.unwrap());
            assert_eq!(read.try_io(Interest::READABLE, |mut file| file.read(&mut data)).unwrap(), 1);
        });
    }

    /// SK-10: an event that comes between the try and the clearing is not lost.
    fn an_event_before_the_clearing(el) {
        let (a, mut b) = pair();
        let a = complete(el, async { AsyncFd::new(a).unwrap() });
        b.write_all(b"x").unwrap();
        let mut guard = complete(el, a.readable()).unwrap();
        assert_eq!(a.get_ref().read(&mut [0; 8]).unwrap(), 1);
        assert_eq!(a.get_ref().read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        b.write_all(b"y").unwrap();
        settle(el);
        guard.clear_ready();
        let mut data = [0; 8];
        let n = complete(el, a.async_io(Interest::READABLE, |mut stream| stream.read(&mut data))).unwrap();
        assert_eq!((n, data[0]), (1, b'y'));
    }

    /// SK-11: several tasks wait at once; all are woken, and those that are given up are forgotten.
    fn several_tasks_wait(el) {
        let (a, mut b) = pair();
        complete(el, async {
            let a = Rc::new(AsyncFd::new(a).unwrap());
            let got = Rc::new(RefCell::new(Vec::new()));
            let tasks: Vec<_> = (0..5)
                .map(|number| {
                    let (a, got) = (a.clone(), got.clone());
                    el.create_task(async move {
                        let mut byte = [0];
                        a.async_io(Interest::READABLE, |mut stream| stream.read(&mut byte)).await.unwrap();
                        got.borrow_mut().push((number, byte[0]));
                    })
                })
                .collect();
            yield_now().await;
            tasks[1].cancel();
            tasks[3].cancel();
            yield_now().await;
            b.write_all(b"abc").unwrap();
            for (number, task) in tasks.into_iter().enumerate() {
                assert_eq!(task.await.is_err(), number % 2 == 1);
            }
            let mut bytes: Vec<u8> = got.borrow().iter().map(|(_, byte)| *byte).collect();
            bytes.sort_unstable();
            assert_eq!(bytes, b"abc");
            // The other direction waits for itself.
            assert!(a.writable().await.unwrap().readiness().is_writable());
        });
    }

    /// SK-10: for either direction: whichever comes first.
    fn either_direction(el) {
        let (a, mut b) = pair();
        complete(el, async {
            while (&a).write(&[0; 65536]).is_ok() {}
            let a = AsyncFd::new(a).unwrap();
            assert!(poll_times(a.ready(Interest::BOTH), 1).await.is_none());
            b.write_all(b"x").unwrap();
            let guard = a.ready(Interest::BOTH).await.unwrap();
            assert!(guard.readiness().is_readable() && !guard.readiness().is_writable());
            let calls = Cell::new(0);
            let n = a
                .async_io(Interest::BOTH, |mut stream| {
                    calls.set(calls.get() + 1);
                    stream.read(&mut [0; 8])
                })
                .await
                .unwrap();
            assert_eq!((n, calls.get()), (1, 1));
        });
    }

    /// SK-10: `async_io_mut` lends it mutably.
    fn lent_mutably(el) {
        struct Counted(UnixStream, u32);
        impl AsFd for Counted {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.0.as_fd()
            }
        }
        let (a, mut b) = pair();
        complete(el, async {
            let mut a = AsyncFd::new(Counted(a, 0)).unwrap();
            assert_eq!(a.as_raw_fd(), a.get_ref().0.as_raw_fd());
            let mut data = [0; 8];
            let mut read = Box::pin(a.async_io_mut(Interest::READABLE, |io| {
                io.1 += 1;
                io.0.read(&mut data)
            }));
            assert!(futures::poll!(read.as_mut()).is_pending());
            b.write_all(b"x").unwrap();
            assert_eq!(read.await.unwrap(), 1);
            assert_eq!(a.get_mut().1, 1);
            // And given back, unwatched.
            let Counted(stream, _) = a.into_inner();
            assert_eq!(registered(el), 0);
            el.sock_sendall(&stream, b"y").await.unwrap();
        });
    }

    /// SK-10: by polling, the one who polled last is woken.
    fn by_polling(el) {
        let (a, mut b) = pair();
        let a = complete(el, async { AsyncFd::new(a).unwrap() });
        let ((first, first_waker), (second, second_waker)) = (CountingWaker::new(), CountingWaker::new());
        assert!(a.poll_read_ready(&mut Context::from_waker(&first_waker)).is_pending());
        assert!(a.poll_read_ready(&mut Context::from_waker(&second_waker)).is_pending());
        b.write_all(b"x").unwrap();
        settle(el);
        assert_eq!((first.count(), second.count()), (0, 1));
        let Poll::Ready(guard) = a.poll_read_ready(&mut Context::from_waker(&first_waker)) else { panic!("it waits") };
        assert_eq!(guard.unwrap().get_ref().as_raw_fd(), a.as_raw_fd());
        assert!(a.poll_write_ready(&mut Context::from_waker(&first_waker)).is_ready());
        el.close();
        let Poll::Ready(closed) = a.poll_read_ready(&mut Context::from_waker(&first_waker)) else { panic!("it waits") };
        assert!(closed.unwrap_err().get_ref().unwrap().is::<LoopClosed>());
    }

    /// SK-25: a regular file is refused, with the reason; so is what is watched already, and no direction at all.
    fn what_is_refused(el) {
        let (a, _b) = pair();
        complete(el, async {
            let error = AsyncFd::new(tempfile::tempfile().unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            assert!(error.to_string().contains("AsyncFd::new(): descriptor"), "{error}");
            assert!(error.to_string().contains("regular file"), "{error}");

            let stream = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let error = AsyncFd::new(&stream).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            el.add_reader(&a, || ()).unwrap();
            let error = AsyncFd::with_interest(&a, Interest::WRITABLE).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            assert!(error.to_string().contains("AsyncFd::with_interest(): descriptor"), "{error}");
            assert!(el.remove_reader(&a));
            let error = AsyncFd::with_interest(&a, Interest::NONE).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);

            // And the other way round.
            let fd = AsyncFd::with_interest(&a, Interest::WRITABLE).unwrap();
            assert_eq!(el.add_reader(&a, || ()).unwrap_err().kind(), ErrorKind::AlreadyExists);
            assert_eq!(el.sock_recv(&a, 10).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
            assert!(!el.remove_writer(&fd));
            for error in [fd.readable().await.err(), fd.ready(Interest::BOTH).await.err(), fd.ready(Interest::NONE).await.err()] {
                let error = error.unwrap();
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            }
            let error = fd.readable().await.err().unwrap();
            assert!(error.to_string().contains("AsyncFd::readable(): the descriptor is not watched for reading"), "{error}");
            drop(fd.writable().await.unwrap());
        });
        assert_eq!(registered(el), 0);
    }

    /// SK-07: what belongs to somebody else is refused also while the selector does not know of it.
    fn refused_while_nothing_is_watched(el) {
        let record = Record::new();
        let (transport, peer) = connect(el, Net::Tcp, Tap::new(&record).on_eof(|_| roundelay::KeepOpen::Yes));
        // Where there are no edges, a hang-up that nobody wants to hear of is taken out of the selector.
        transport.pause_reading();
        peer.send(b"rest");
        peer.send_eof();
        settle(el);
        let view = transport.extra_info().socket.unwrap();
        view.with(|socket| {
            let error = complete(el, async { AsyncFd::new(&*socket).map(drop) }).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        })
        .unwrap();
        transport.resume_reading();
        common::run_until(el, || record.len() == 4);
        finish(el, &transport, &record);

        let (a, b) = pair();
        let mut waiting = Box::pin(el.sock_recv(&a, 10));
        let (counter, waker) = CountingWaker::new();
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        (&b).write_all(b"x").unwrap();
        settle(el);
        assert_eq!(counter.count(), 1);
        complete(el, async {
            assert_eq!(AsyncFd::new(&a).unwrap_err().kind(), ErrorKind::AlreadyExists);
            assert_eq!(waiting.await.unwrap(), b"x");
        });
    }

    /// LU-10: the end of a pipe whose writer is gone is readable, and its end; it does not spin where nobody waits.
    fn a_hang_up(el) {
        let (read, write) = pipe();
        let read = complete(el, async {
            let read = AsyncFd::with_interest(read, Interest::READABLE).unwrap();
            assert!(poll_times(read.readable(), 1).await.is_none());
            drop(write);
            let n = read.async_io(Interest::READABLE, |mut file| file.read(&mut [0; 8])).await.unwrap();
            assert_eq!(n, 0);
            read
        });
        assert_sleeps(el);
        drop(read);
    }

    /// LU-11: a selector of somebody else's, which is watched, and a timer of the system's.
    fn a_nested_selector(el) {
        let epoll = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap();
        let (a, mut b) = pair();
        let data = rustix::event::epoll::EventData::new_u64(7);
        rustix::event::epoll::add(&epoll, &a, data, rustix::event::epoll::EventFlags::IN).unwrap();
        complete(el, async {
            let epoll = AsyncFd::with_interest(epoll, Interest::READABLE).unwrap();
            assert!(poll_times(epoll.readable(), 1).await.is_none());
            b.write_all(b"x").unwrap();
            drop(epoll.readable().await.unwrap());
        });
    }

    /// SK-22: dropping it closes what it owns, and unwatches what it borrows; `into_inner` unwatches alone.
    fn dropping(el) {
        let (a, b) = pair();
        complete(el, async {
            drop(AsyncFd::new(&a).unwrap());
            assert_eq!(registered(el), 0);
            let owned: OwnedFd = AsyncFd::new(OwnedFd::from(a)).unwrap().into_inner();
            assert_eq!(registered(el), 0);
            let b = AsyncFd::new(b).unwrap();
            drop(AsyncFd::new(owned).unwrap());
            assert_eq!(b.async_io(Interest::READABLE, |mut stream| stream.read(&mut [0; 8])).await.unwrap(), 0);
        });
    }

    /// LR-04: on a closed loop there is an error.
    fn what_waits_when_the_loop_is_closed(el) {
        let (a, _b) = pair();
        let fd = complete(el, async { AsyncFd::new(&a).unwrap() });
        let mut waiting = Box::pin(fd.readable());
        let (counter, waker) = CountingWaker::new();
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        el.close();
        assert_eq!(counter.count(), 1);
        let Poll::Ready(result) = waiting.as_mut().poll(&mut Context::from_waker(&waker)) else { panic!("it waits") };
        assert!(result.unwrap_err().get_ref().unwrap().is::<LoopClosed>());
    }
}

/// Outside of a loop there is nobody to wait.
#[test]
#[should_panic(expected = "roundelay::AsyncFd::new() was called outside of a running event loop")]
fn outside_of_a_loop() {
    let _alone = common::alone();
    drop(AsyncFd::new(pair().0));
}

/// It can be shown.
#[test]
fn it_can_be_shown() {
    on_loop(|el| {
        complete(el, async {
            let fd = AsyncFd::new(pair().0).unwrap();
            assert!(format!("{fd:?}").starts_with("AsyncFd { io: UnixStream"), "{fd:?}");
            assert_eq!(format!("{:?}", fd.writable().await.unwrap()).split(' ').next(), Some("ReadyGuard"));
        });
        complete(el, async {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            drop(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        });
    });
}

/// A task whose descriptor is always ready lets the others have their turns.
#[test]
fn the_others_have_their_turns() {
    on_loop(|el| {
        let (a, mut b) = pair();
        let mut a = complete(el, async { AsyncFd::new(a).unwrap() });
        let task = el.create_task(async move {
            for _ in 0..2000 {
                a.write_all(b"x").await.unwrap();
                b.read_exact(&mut [0]).unwrap();
            }
        });
        let mut turns = 0;
        while !task.is_done() {
            el.run_once(Some(std::time::Duration::ZERO)).unwrap();
            turns += 1;
        }
        assert!((10..1000).contains(&turns), "{turns} turns");
    });
}

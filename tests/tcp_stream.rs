//! `TcpStream` and its halves as plain async types.

mod common;
#[path = "common/tcp.rs"]
mod tcp;

use std::cell::RefCell;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use roundelay::{EventLoop, LoopClosed, TcpListener, TcpStream, spawn, timeout, yield_now};
use socket2::SockRef;

use common::{CountingWaker, on_loop, on_manual_clock, open_descriptors, run_until, settle};
use tcp::{LOOPBACK, calm, complete, pair, pattern, plain_pair, receive, reset, stream};

on_every_loop! {
    /// A stream connects, reads and writes, and both ends know their addresses.
    fn bytes_go_both_ways(el) {
        complete(el, async {
            let listener = TcpListener::bind(LOOPBACK).await.unwrap();
            let address = listener.local_addr().unwrap();
            let mut client = TcpStream::connect(address).await.unwrap();
            let (mut server, peer) = listener.accept().await.unwrap();
            assert_eq!(client.peer_addr().unwrap(), address);
            assert_eq!(client.local_addr().unwrap(), peer);
            assert_eq!((server.peer_addr().unwrap(), server.local_addr().unwrap()), (peer, address));
            client.write_all(b"question").await.unwrap();
            let mut buffer = [0; 8];
            server.read_exact(&mut buffer).await.unwrap();
            assert_eq!(&buffer, b"question");
            server.write_all(b"answer").await.unwrap();
            server.flush().await.unwrap();
            server.close().await.unwrap();
            let mut all = Vec::new();
            client.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, b"answer");
            // The other direction is open still.
            client.write_all(b"thanks").await.unwrap();
            drop(client);
            let mut all = String::new();
            server.read_to_string(&mut all).await.unwrap();
            assert_eq!(all, "thanks");
            let text = format!("{server:?}");
            assert!(text.contains("TcpStream") && text.contains(&address.to_string()), "{text}");
        });
    }

    /// Megabytes in both directions at once, with both sides waiting for each other.
    fn much_goes_both_ways_at_once(el) {
        let data = pattern(3 << 20);
        complete(el, async {
            let (a, b) = pair().await;
            let side = async |stream: TcpStream, piece: usize| {
                let (mut read, mut write) = stream.into_split();
                let send = async {
                    for piece in data.chunks(piece) {
                        write.write_all(piece).await.unwrap();
                    }
                    write.close().await.unwrap();
                };
                let mut all = Vec::new();
                let (received, ()) = futures::join!(read.read_to_end(&mut all), send);
                received.unwrap();
                assert!(all == data, "the bytes are others");
            };
            futures::join!(side(a, 100_000), side(b, 7_777));
        });
    }

    /// Several buffers go in one call, also more of them than a call takes.
    fn buffers_go_together(el) {
        complete(el, async {
            let (mut ours, mut peer) = stream().await;
            let pieces = [IoSlice::new(b"one "), IoSlice::new(b""), IoSlice::new(b"two")];
            assert_eq!(ours.write_vectored(&pieces).await.unwrap(), 7);
            let many: Vec<IoSlice<'_>> = (0..2000).map(|_| IoSlice::new(b".")).collect();
            let sent = ours.write_vectored(&many).await.unwrap();
            assert!((1..=1024).contains(&sent), "{sent}");
            assert_eq!(ours.write_vectored(&[]).await.unwrap(), 0);
            assert_eq!(ours.write(b"").await.unwrap(), 0);
            let mut got = vec![0; 7 + sent];
            peer.read_exact(&mut got).unwrap();
            assert!(got.starts_with(b"one two..."));
        });
    }

    /// Reading by lines and by buffers; what is buffered goes first, and goes with the reading half.
    fn what_is_buffered_goes_first(el) {
        complete(el, async {
            let (mut ours, mut peer) = stream().await;
            peer.write_all(b"first\nsecond\nthird").unwrap();
            let mut line = String::new();
            ours.read_line(&mut line).await.unwrap();
            assert_eq!(line, "first\n");
            let mut few = [0; 3];
            assert_eq!(ours.read(&mut few).await.unwrap(), 3);
            assert_eq!(&few, b"sec");
            assert!(ours.fill_buf().await.unwrap().starts_with(b"ond\n"));
            ours.consume_unpin(1);

            let (mut read, write) = ours.into_split();
            assert_eq!(read.read(&mut few[..2]).await.unwrap(), 2);
            assert_eq!(&few[..2], b"nd");
            let mut ours = read.reunite(write).unwrap();
            peer.write_all(b"!\n").unwrap();
            drop(peer);
            let lines: Vec<String> = (&mut ours).lines().map(Result::unwrap).collect().await;
            assert_eq!(lines, ["", "third!"]);
            // The end stays the end.
            assert_eq!(ours.read(&mut few).await.unwrap(), 0);
            assert!(ours.fill_buf().await.unwrap().is_empty());
        });
    }

    /// A read into no room at all is done at once, and so it is where nothing has arrived.
    fn no_room_is_no_wait(el) {
        complete(el, async {
            let (mut ours, _peer) = stream().await;
            assert_eq!(ours.read(&mut []).await.unwrap(), 0);
        });
    }

    /// The writing half, dropped or closed, ends that direction; the reading half goes on, and neither needs the other.
    fn halves_live_apart(el) {
        complete(el, async {
            let (ours, mut peer) = stream().await;
            let address = ours.peer_addr().unwrap();
            let (mut read, mut write) = ours.into_split();
            assert_eq!((read.peer_addr().unwrap(), write.peer_addr().unwrap()), (address, address));
            write.write_all(b"bye").await.unwrap();
            drop(write);
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            assert_eq!(all, b"bye");
            peer.write_all(b"still").unwrap();
            let mut buffer = [0; 5];
            read.read_exact(&mut buffer).await.unwrap();
            assert_eq!(&buffer, b"still");

            let (ours, mut peer) = stream().await;
            let (read, mut write) = ours.into_split();
            drop(read);
            write.write_all(b"on").await.unwrap();
            for _ in 0..2 {
                write.close().await.unwrap();
            }
            assert_eq!(write.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            assert_eq!(all, b"on");
        });
    }

    /// Halves of one stream make that stream again, and it can still write; halves of two come back in the error.
    fn halves_come_together(el) {
        complete(el, async {
            let ((a, mut a_peer), (b, mut b_peer)) = (stream().await, stream().await);
            let ((a_read, a_write), (b_read, b_write)) = (a.into_split(), b.into_split());
            let error = a_read.reunite(b_write).unwrap_err();
            assert_eq!(error.to_string(), "the halves are not of the same stream");
            let (a_read, b_write) = (error.read, error.write);
            let mut a = a_read.reunite(a_write).unwrap();
            let mut b = b_read.reunite(b_write).unwrap();
            a.write_all(b"a").await.unwrap();
            b.write_all(b"b").await.unwrap();
            drop((a, b));
            for (peer, data) in [(&mut a_peer, b"a"), (&mut b_peer, b"b")] {
                let mut all = Vec::new();
                peer.read_to_end(&mut all).unwrap();
                assert_eq!(all, data);
            }
        });
    }

    /// Each half knows both addresses and the socket, as the whole does; also when the other half is gone.
    fn halves_know_their_socket(el) {
        complete(el, async {
            let (ours, peer) = stream().await;
            let (fd, addresses) = (ours.as_raw_fd(), (ours.local_addr().unwrap(), ours.peer_addr().unwrap()));
            assert_eq!(addresses, (peer.peer_addr().unwrap(), peer.local_addr().unwrap()));
            let (read, write) = ours.into_split();
            assert_eq!((read.local_addr().unwrap(), read.peer_addr().unwrap()), addresses);
            assert_eq!((write.local_addr().unwrap(), write.peer_addr().unwrap()), addresses);
            assert_eq!([read.as_raw_fd(), write.as_raw_fd(), read.as_fd().as_raw_fd()], [fd; 3]);
            drop(read);
            assert_eq!(write.local_addr().unwrap(), addresses.0);
            SockRef::from(&write).set_keepalive(true).unwrap();
            assert!(SockRef::from(&write).keepalive().unwrap());
        });
    }

    /// The halves may wait in two tasks at once, one for bytes and one for room, and each is woken for its own.
    fn halves_wait_in_two_tasks(el) {
        let (ours, mut peer) = plain_pair();
        let data = pattern(8 << 20);
        let sent = data.clone();
        let (reader, writer) = complete(el, async {
            let (mut read, mut write) = TcpStream::from_std(ours).unwrap().into_split();
            let reader = spawn(async move {
                let mut all = Vec::new();
                read.read_to_end(&mut all).await.unwrap();
                all
            });
            let writer = spawn(async move {
                write.write_all(&sent).await.unwrap();
                write
            });
            (reader, writer)
        });
        calm(el);
        assert!(!reader.is_done() && !writer.is_done());
        peer.write_all(b"ping").unwrap();
        calm(el);
        assert!(!writer.is_done());
        assert!(receive(el, &mut peer, data.len()) == data);
        drop(complete(el, writer).unwrap());
        drop(peer);
        assert_eq!(complete(el, reader).unwrap(), b"ping");
    }

    /// What was sent before the peer closed is read before the end is seen, whatever the sizes of the reads.
    fn bytes_come_before_the_end(el) {
        for size in [1, 3, 64, 10_000] {
            complete(el, async {
                let (mut ours, mut peer) = stream().await;
                let data = pattern(1000);
                peer.write_all(&data).unwrap();
                drop(peer);
                let (mut all, mut buffer) = (Vec::new(), vec![0; size]);
                loop {
                    match ours.read(&mut buffer).await.unwrap() {
                        0 => break,
                        n => all.extend_from_slice(&buffer[..n]),
                    }
                }
                assert_eq!(all, data);
            });
        }
    }

    /// An end of file that comes while somebody waits, behind bytes that a short read has taken, is seen.
    fn the_end_is_seen_after_a_short_read(el) {
        let (ours, mut peer) = plain_pair();
        let got = Rc::new(RefCell::new(Vec::new()));
        let log = got.clone();
        let reader = el.create_task(async move {
            let mut ours = TcpStream::from_std(ours).unwrap();
            let mut buffer = [0; 100];
            loop {
                let n = ours.read(&mut buffer).await.unwrap();
                log.borrow_mut().push(n);
                if n == 0 {
                    return;
                }
            }
        });
        for n in 1..4 {
            peer.write_all(&vec![0; n]).unwrap();
            run_until(el, || got.borrow().len() == n);
        }
        peer.shutdown(Shutdown::Write).unwrap();
        complete(el, reader).unwrap();
        assert_eq!(*got.borrow(), [1, 2, 3, 0]);
    }

    /// TT-27: a byte out of band neither breaks the stream nor holds up what comes behind it.
    fn a_byte_out_of_band_is_harmless(el) {
        complete(el, async {
            let (mut ours, peer) = stream().await;
            let peer = SockRef::from(&peer);
            peer.send(b"before").unwrap();
            peer.send_out_of_band(b"!").unwrap();
            peer.send(b"behind").unwrap();
            let mut all = Vec::new();
            let mut buffer = [0; 100];
            while all.len() < 12 {
                let n = ours.read(&mut buffer).await.unwrap();
                assert!(n > 0);
                all.extend_from_slice(&buffer[..n]);
            }
            assert_eq!(all, b"beforebehind");
            // And once more, while somebody waits.
            let waiting = spawn(async move {
                ours.read_exact(&mut buffer[..4]).await.unwrap();
                buffer[..4].to_vec()
            });
            yield_now().await;
            peer.send(b"12").unwrap();
            yield_now().await;
            peer.send_out_of_band(b"!").unwrap();
            peer.send(b"34").unwrap();
            assert_eq!(waiting.await.unwrap(), b"1234");
        });
    }

    /// TT-04, TT-29: a reset is an error of whoever reads or writes, and nobody hangs.
    fn a_reset_is_an_error(el) {
        complete(el, async {
            let (mut ours, peer) = stream().await;
            reset(peer);
            let error = ours.read(&mut [0; 1]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            assert!(ours.peer_addr().is_err());
            assert!(ours.write(b"x").await.is_err());
            // Its side is closed twice over: that is no error.
            ours.close().await.unwrap();

            let (ours, peer) = stream().await;
            let (mut read, mut write) = ours.into_split();
            let reader = spawn(async move { read.read(&mut [0; 1]).await });
            let writer = spawn(async move {
                loop {
                    write.write_all(&[0; 100_000]).await?;
                }
                #[allow(unreachable_code)]
                io::Result::Ok(())
            });
            yield_now().await;
            reset(peer);
            // Which of the two is told of the reset is the kernel's affair; both end.
            let (read, written) = (reader.await.unwrap(), writer.await.unwrap());
            assert!(matches!(read, Ok(0) | Err(_)));
            assert!(written.is_err());
        });
    }

    /// Each direction can be shut down alone.
    fn directions_are_shut_down(el) {
        complete(el, async {
            let (mut ours, mut peer) = stream().await;
            ours.shutdown(Shutdown::Read).unwrap();
            assert_eq!(ours.read(&mut [0; 1]).await.unwrap(), 0);
            ours.write_all(b"x").await.unwrap();
            ours.shutdown(Shutdown::Write).unwrap();
            assert_eq!(ours.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
            ours.close().await.unwrap();
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            assert_eq!(all, b"x");
        });
    }

    /// Dropping a stream closes its descriptor at once, and the peer sees the end.
    fn dropping_closes(el) {
        let before = open_descriptors();
        complete(el, async {
            let (ours, mut peer) = stream().await;
            assert_eq!(el.stats().descriptors.live(), 1);
            let (read, write) = ours.into_split();
            drop(write);
            assert_eq!(el.stats().descriptors.live(), 1);
            drop(read);
            assert_eq!(el.stats().descriptors.live(), 0);
            assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
            drop(peer);
            assert_eq!(open_descriptors(), before);
        });
    }

    /// Whoever gives up waiting loses no bytes.
    fn a_cancelled_read_loses_nothing(el) {
        let (ours, mut peer) = plain_pair();
        let data = pattern(2000);
        let mut ours = complete(el, async { TcpStream::from_std(ours).unwrap() });
        let mut all = Vec::new();
        for piece in data.chunks(100) {
            for _ in 0..2 {
                let polled = el.run_until_complete(common::poll_times(ours.read(&mut [0; 10]), 1)).unwrap();
                assert!(polled.is_none());
            }
            peer.write_all(piece).unwrap();
            let mut buffer = [0; 100];
            complete(el, ours.read_exact(&mut buffer)).unwrap();
            all.extend_from_slice(&buffer);
        }
        assert_eq!(all, data);
    }

    /// A stream that moves from one task to another wakes the one that has it now.
    fn the_latest_who_waits_is_woken(el) {
        let (ours, mut peer) = plain_pair();
        let mut ours = complete(el, async { TcpStream::from_std(ours).unwrap() });
        let (first, second) = (CountingWaker::new(), CountingWaker::new());
        let mut poll = |waker: &Waker| {
            let mut buffer = [0; 10];
            Pin::new(&mut ours).poll_read(&mut Context::from_waker(waker), &mut buffer).map(Result::unwrap)
        };
        for waker in [&first.1, &first.1, &second.1] {
            assert!(poll(waker).is_pending());
        }
        peer.write_all(b"x").unwrap();
        run_until(el, || second.0.count() == 1);
        assert_eq!(first.0.count(), 0);
        assert_eq!(poll(&second.1), Poll::Ready(1));
    }

    /// A stream that outlives its loop gives an error, and closes its descriptor when it is dropped. Whoever waited is
    /// woken to see it.
    fn a_stream_outlives_its_loop(el) {
        let (ours, mut peer) = plain_pair();
        let mut ours = complete(el, async { TcpStream::from_std(ours).unwrap() });
        let (counter, waker) = CountingWaker::new();
        let mut cx = Context::from_waker(&waker);
        assert!(Pin::new(&mut ours).poll_read(&mut cx, &mut [0; 1]).is_pending());
        el.close();
        assert_eq!(counter.count(), 1);
        let is_closed = |error: &io::Error| error.get_ref().is_some_and(|inner| inner.is::<LoopClosed>());
        let Poll::Ready(Err(error)) = Pin::new(&mut ours).poll_read(&mut cx, &mut [0; 1]) else { panic!("no error") };
        assert!(is_closed(&error), "{error}");
        let Poll::Ready(Err(error)) = Pin::new(&mut ours).poll_write(&mut cx, b"x") else { panic!("no error") };
        assert!(is_closed(&error), "{error}");
        drop(ours);
        assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
    }

    /// TT-03: a stream whose readiness was a false alarm waits again: two tasks' worth of events in one turn lose
    /// nothing, and nobody spins.
    fn a_waiting_stream_rests(el) {
        let (ours, mut peer) = plain_pair();
        let reader = el.create_task(async move {
            let mut ours = TcpStream::from_std(ours).unwrap();
            let mut all = Vec::new();
            ours.read_to_end(&mut all).await.unwrap();
            all
        });
        for _ in 0..3 {
            settle(el);
            for _ in 0..10 {
                assert_eq!(el.run_once(Some(Duration::ZERO)).unwrap(), 0, "the loop does not rest");
            }
            peer.write_all(b"x").unwrap();
            run_until(el, || true);
        }
        drop(peer);
        assert_eq!(complete(el, reader).unwrap(), b"xxx");
    }

    /// Nobody reads, and the peer sends and closes: the loop rests all the same.
    fn an_unread_stream_rests(el) {
        let (ours, mut peer) = plain_pair();
        let mut ours = complete(el, async { TcpStream::from_std(ours).unwrap() });
        peer.write_all(b"unread").unwrap();
        drop(peer);
        settle(el);
        for _ in 0..10 {
            assert_eq!(el.run_once(Some(Duration::ZERO)).unwrap(), 0, "the loop does not rest");
        }
        let mut all = Vec::new();
        complete(el, ours.read_to_end(&mut all)).unwrap();
        assert_eq!(all, b"unread");
    }
}

/// What is connected to or bound is taken at once: the futures may outlive it, and go to a task.
#[test]
fn an_endpoint_need_not_live_on() {
    on_loop(|el| {
        complete(el, async {
            let host = String::from("127.0.0.1");
            let bound = roundelay::spawn(TcpListener::bind((host.as_str(), 0)));
            drop(host);
            let listener = bound.await.unwrap().unwrap();
            let host = String::from("127.0.0.1");
            let connected = TcpStream::connect((host.as_str(), listener.local_addr().unwrap().port()));
            drop(host);
            let stream = roundelay::spawn(connected).await.unwrap().unwrap();
            let (accepted, peer) = listener.accept().await.unwrap();
            assert_eq!((accepted.peer_addr().unwrap(), peer), (stream.local_addr().unwrap(), peer));
        });
    });
}

/// A stream is made within a running loop only, and says so.
#[test]
fn outside_of_a_loop_it_panics() {
    let _alone = common::alone();
    let text = |f: &mut dyn FnMut()| {
        let payload = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_err();
        payload.downcast_ref::<String>().expect("it has a text").clone()
    };
    let text_of_stream = text(&mut || drop(TcpStream::from_std(plain_pair().0)));
    assert!(text_of_stream.contains("TcpStream::from_std() was called outside of a running event loop"));
}

/// CB-19, TC-10: a timeout around a read gives the stream back as it was.
#[test]
fn a_timeout_gives_the_stream_back() {
    on_manual_clock(|el, clock| {
        let (ours, mut peer) = plain_pair();
        let task = el.create_task(async move {
            let mut ours = TcpStream::from_std(ours).unwrap();
            let mut buffer = [0; 10];
            let result = timeout(Duration::from_secs(1), ours.read(&mut buffer)).await;
            assert!(result.is_err());
            ours.read(&mut buffer).await.unwrap()
        });
        settle(el);
        clock.advance(Duration::from_secs(1));
        settle(el);
        peer.write_all(b"late").unwrap();
        assert_eq!(complete(el, task).unwrap(), 4);
    });
}

/// A stream in a task goes with the loop.
#[test]
fn a_loop_takes_its_streams_with_it() {
    on_loop(|el: &EventLoop| {
        let (ours, mut peer) = plain_pair();
        let task = el.create_task(async move {
            let mut ours = TcpStream::from_std(ours).unwrap();
            ours.read(&mut [0; 1]).await
        });
        settle(el);
        el.close();
        assert!(task.is_done());
        assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
    });
}

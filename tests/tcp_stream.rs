//! `TcpStream` and its halves as plain async types.

mod common;
#[path = "common/tcp.rs"]
mod tcp;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use roundelay::{EventLoop, LoopClosed, Protocol, TcpListener, TcpStream, Transport, spawn, timeout, yield_now};
use socket2::SockRef;

use common::{CountingWaker, on_loop, on_manual_clock, open_descriptors, run_until, settle};
use tcp::{LOOPBACK, calm, complete, plain_pair, receive, reset};

/// Completions that a task may have in one poll.
const BUDGET: usize = 128;

/// A stream, and its peer, which is no part of the loop.
async fn stream() -> (TcpStream, std::net::TcpStream) {
    let (ours, peer) = plain_pair();
    (TcpStream::from_std(ours).unwrap(), peer)
}

/// Two streams that are connected with each other.
async fn pair() -> (TcpStream, TcpStream) {
    let (a, b) = plain_pair();
    (TcpStream::from_std(a).unwrap(), TcpStream::from_std(b).unwrap())
}

/// Bytes of which each tells its place.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

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

    /// LU-01: a task whose reads are always ready yields after 128 of them: others have their turn in between. So does
    /// the future that the loop runs.
    fn a_flood_of_reads_yields(el) {
        complete(el, async {
            let flood = async || {
                let (mut ours, mut peer) = stream().await;
                peer.write_all(&pattern(1000)).unwrap();
                let reads = async {
                    let mut buffer = [0; 1];
                    for _ in 0..1000 {
                        ours.read_exact(&mut buffer).await.unwrap();
                        tick();
                    }
                };
                assert_shares_turns(reads, 1000).await;
            };
            flood().await;
            spawn(flood()).await.unwrap();
        });
    }

    /// LU-01: an executor inside of a task, which polls on whatever it is told, gets through all the same.
    fn the_budget_leaves_nobody_stuck(el) {
        complete(el, async {
            let (mut ours, mut peer) = stream().await;
            peer.write_all(&pattern(1000)).unwrap();
            let mut polls = 0;
            let mut all = vec![0; 1000];
            for byte in all.chunks_mut(1) {
                let mut read = ours.read_exact(byte);
                let mut read = pin!(&mut read);
                while read.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
                    polls += 1;
                    assert!(polls < 10_000, "it is stuck");
                }
            }
            assert_eq!(all, pattern(1000));
        });
    }

    /// LU-01: the same for writes, and for both mixed.
    fn a_flood_of_writes_yields(el) {
        complete(el, async {
            let (mut ours, mut peer) = stream().await;
            let writes = async {
                for _ in 0..500 {
                    ours.write_all(b"x").await.unwrap();
                    tick();
                }
                ours.close().await.unwrap();
            };
            assert_shares_turns(writes, 500).await;
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            assert_eq!(all.len(), 500);

            let (mut a, mut b) = pair().await;
            let both = async {
                let mut buffer = [0; 1];
                for _ in 0..300 {
                    a.write_all(b"x").await.unwrap();
                    tick();
                    b.read_exact(&mut buffer).await.unwrap();
                    tick();
                }
            };
            assert_shares_turns(both, 600).await;
        });
    }

    /// LU-01: what has been spent in one poll is there again in the next, and a task that polls several streams of its
    /// own goes on with all of them.
    fn the_budget_is_a_tasks(el) {
        complete(el, async {
            let (mut streams, mut peers) = (Vec::new(), Vec::new());
            for _ in 0..3 {
                let (ours, mut peer) = stream().await;
                peer.write_all(&pattern(400)).unwrap();
                streams.push(ours);
                peers.push(peer);
            }
            let all = futures::future::join_all(streams.iter_mut().map(async |stream| {
                let mut buffer = [0; 1];
                for _ in 0..400 {
                    stream.read_exact(&mut buffer).await.unwrap();
                    tick();
                }
            }));
            assert_shares_turns(async { drop(all.await) }, 1200).await;
        });
    }
}

thread_local! {
    /// Completions of the flood under test.
    static TICKS: Cell<usize> = const { Cell::new(0) };
}

fn tick() {
    TICKS.set(TICKS.get() + 1);
}

/// Runs a flood in a task beside another one, and checks that the other one is never kept waiting for longer than a
/// budget's worth of completions.
async fn assert_shares_turns(flood: impl Future<Output = ()>, completions: usize) {
    TICKS.set(0);
    let mut flood = pin!(flood);
    let done = Rc::new(Cell::new(false));
    let seen = Rc::new(RefCell::new(vec![0]));
    let (log, over) = (seen.clone(), done.clone());
    let other = spawn(async move {
        while !over.get() {
            log.borrow_mut().push(TICKS.get());
            yield_now().await;
        }
    });
    poll_fn(|cx| flood.as_mut().poll(cx)).await;
    done.set(true);
    other.await.unwrap();
    assert_eq!(TICKS.get(), completions);
    let seen = seen.borrow();
    let longest = seen.windows(2).map(|two| two[1] - two[0]).max().unwrap();
    // Some of the flood's operations are no ticks of their own.
    assert!(longest <= BUDGET, "{longest} completions without a turn of the other task");
    assert!(seen.len() > completions / BUDGET, "{} turns for {completions} completions", seen.len());
}

/// A peer that never stops sending, on a thread of its own, until the connection is closed.
struct Flood {
    thread: Option<std::thread::JoinHandle<u64>>,
}

impl Flood {
    /// So many bytes are the end in any case.
    const MOST: u64 = 1 << 32;

    fn new(mut peer: std::net::TcpStream) -> Self {
        let send = move || {
            let piece = vec![0; 256 * 1024];
            let mut sent = 0;
            while sent < Self::MOST {
                match peer.write(&piece) {
                    Ok(n) => sent += n as u64,
                    Err(_) => break,
                }
            }
            sent
        };
        Self { thread: Some(std::thread::spawn(send)) }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// LU-01: a task that reads from a peer that never stops sending does not delay a timer for longer than two of its
/// turns. The timer is due in the midst of one; what the task completes until it fires is counted.
#[test]
fn a_flooded_task_lets_a_timer_fire() {
    on_manual_clock(|el, clock| {
        let (ours, peer) = plain_pair();
        let flood = Flood::new(peer);
        let fired = Rc::new(Cell::new(false));
        let timer = fired.clone();
        el.call_later(Duration::from_millis(1), move || timer.set(true));
        let reads = complete(el, async {
            let mut ours = TcpStream::from_std(ours).unwrap();
            let mut buffer = vec![0; 1024];
            let mut since_due = 0;
            for read in 0.. {
                assert!(ours.read(&mut buffer).await.unwrap() > 0);
                assert!(since_due > 0 || !fired.get(), "it fires too early");
                if fired.get() {
                    break;
                }
                // Somewhere in the midst of a turn.
                if read == 1000 {
                    clock.advance(Duration::from_millis(1));
                }
                if read >= 1000 {
                    since_due += 1;
                }
            }
            since_due
        });
        assert!(reads <= 2 * BUDGET, "{reads} reads before the timer");
        drop(flood);
    });
}

/// LU-01: the same for a protocol: no more than two events' worth of bytes.
#[test]
fn a_flooded_protocol_lets_a_timer_fire() {
    /// What one event may deliver: it ends with the read that brings it to 256 KiB, which may itself be as large.
    const EVENT: usize = 2 * 256 * 1024;
    struct Counts {
        total: Rc<Cell<usize>>,
        fired: Rc<Cell<bool>>,
        due: Rc<Cell<Option<usize>>>,
        clock: roundelay::ManualClock,
    }
    impl Protocol for Counts {
        fn data_received(&mut self, transport: &Transport, data: &[u8]) {
            if self.fired.get() {
                return transport.abort();
            }
            self.total.set(self.total.get() + data.len());
            if self.total.get() > 4 << 20 && self.due.get().is_none() {
                self.due.set(Some(self.total.get()));
                self.clock.advance(Duration::from_millis(1));
            }
        }
    }
    on_manual_clock(|el, clock| {
        let (ours, peer) = plain_pair();
        let flood = Flood::new(peer);
        let (total, fired, due) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)), Rc::new(Cell::new(None)));
        let counts = Counts { total: total.clone(), fired: fired.clone(), due: due.clone(), clock: clock.clone() };
        let (timer, at, now) = (fired.clone(), Rc::new(Cell::new(0)), total.clone());
        let fired_at = at.clone();
        el.call_later(Duration::from_millis(1), move || {
            timer.set(true);
            fired_at.set(now.get());
        });
        let (transport, _) = complete(el, el.create_connection(|| counts, ours)).unwrap();
        run_until(el, || transport.protocol().is_none());
        let late = at.get() - due.get().expect("enough has arrived");
        assert!(late <= 2 * EVENT, "{late} bytes before the timer");
        drop(flood);
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
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let text_of_connect = text(&mut || {
        let future = pin!(TcpStream::connect(address));
        let _ = future.poll(&mut Context::from_waker(Waker::noop()));
    });
    assert!(text_of_connect.contains("TcpStream::connect() was called outside of a running event loop"));
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

//! The writing half of a stream: flow control, the end in all orders, what dropping does (behaviours SR-16 to SR-21,
//! SR-25, SR-26, RW-01, RW-02).

mod common;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::{Kind, alone, complete, on_loop, poll_times, run_alone, run_until, settle, take_reports};
use roundelay::{EventLoop, Protocol, StreamReader, StreamWriter, Transport, open_connection, yield_now};
use socket2::SockRef;

/// A connection to a peer that the test works by hand.
fn connect(el: &EventLoop) -> (StreamReader, StreamWriter, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (reader, writer) = complete(el, async { open_connection(address).await }).unwrap();
    let (peer, _) = listener.accept().unwrap();
    peer.set_read_timeout(Some(common::PATIENCE)).unwrap();
    (reader, writer, peer)
}

/// Polls once, with a waker that is not needed.
fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Writes more than the kernel takes while the peer reads nothing; gives what was written.
fn jam(writer: &mut StreamWriter) -> Vec<u8> {
    let mut written = Vec::new();
    while writer.transport().write_buffer_size() <= 256 * 1024 {
        let piece: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        writer.write(&piece);
        written.extend(piece);
        assert!(written.len() < 64 << 20, "the kernel takes everything");
    }
    written
}

/// Reads the peer's side to its end, in a thread.
fn read_all(mut peer: TcpStream) -> std::thread::JoinHandle<io::Result<Vec<u8>>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).map(|_| all)
    })
}

/// Ends the peer's side with a reset.
fn reset(peer: TcpStream) {
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
}

on_every_loop! {
    /// SR-16: without anything queued there is nothing to wait for.
    fn drain_of_nothing_is_ready(el) {
        let (_reader, mut writer, mut peer) = connect(el);
        let polls = Cell::new(0);
        complete(el, async {
            writer.write(b"data");
            let mut drain = pin!(writer.drain());
            std::future::poll_fn(|cx| {
                polls.set(polls.get() + 1);
                drain.as_mut().poll(cx)
            })
            .await
        })
        .unwrap();
        assert_eq!(polls.get(), 1);
        let mut data = [0; 4];
        peer.read_exact(&mut data).unwrap();
        assert_eq!(&data, b"data");
    }

    /// SR-16: a drain waits while writing is paused, until the queue is at the low mark.
    fn drain_waits_for_the_low_mark(el) {
        let (_reader, mut writer, peer) = connect(el);
        let written = jam(&mut writer);
        let size = Rc::new(Cell::new(None));
        let seen = size.clone();
        let drained = el.create_task(async move {
            let result = writer.drain().await;
            seen.set(Some(writer.transport().write_buffer_size()));
            result.map(|()| writer)
        });
        settle(el);
        assert!(!drained.is_done());
        let reading = read_all(peer);
        let mut writer = complete(el, drained).unwrap().unwrap();
        assert!(size.get().unwrap() <= writer.transport().write_buffer_limits().low);
        writer.close();
        complete(el, writer.wait_closed()).unwrap();
        assert!(reading.join().unwrap().unwrap() == written, "the peer got something else");
    }

    /// SR-17: one resume releases all who drain, however many.
    fn many_drains_are_released_together(el) {
        let (_reader, mut writer, peer) = connect(el);
        jam(&mut writer);
        let writer = Rc::new(writer);
        let tasks = [(); 10].map(|()| {
            let writer = writer.clone();
            el.create_task(async move { writer.drain().await })
        });
        settle(el);
        assert!(tasks.iter().all(|task| !task.is_done()));
        let reading = read_all(peer);
        for task in tasks {
            complete(el, task).unwrap().unwrap();
        }
        writer.transport().close();
        complete(el, writer.wait_closed()).unwrap();
        reading.join().unwrap().unwrap();
    }

    /// SR-16, SR-19: writing to a peer that has gone succeeds at first, then every drain fails, and waiting for the end
    /// gives the error that ended the connection: a broken pipe.
    fn writing_to_a_peer_that_has_gone(el) {
        let (reader, mut writer, peer) = connect(el);
        drop(peer);
        let successes = complete(el, async {
            let mut successes = 0;
            loop {
                writer.write(b"anybody?");
                if let Err(error) = writer.drain().await {
                    assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
                    return successes;
                }
                successes += 1;
            }
        });
        assert!(successes >= 1, "the first write has found nobody out yet");
        for _ in 0..2 {
            assert_eq!(complete(el, writer.drain()).unwrap_err().kind(), ErrorKind::BrokenPipe);
            let error = complete(el, writer.wait_closed()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            assert!(error.raw_os_error().is_some(), "the system's code is kept");
        }
        assert_eq!(reader.exception().unwrap().kind(), ErrorKind::BrokenPipe);
        assert!(writer.is_closing());
    }

    /// SR-16: after the end of the connection a drain fails, though nothing went wrong before.
    fn drain_after_the_end(el) {
        let (_reader, mut writer, _peer) = connect(el);
        writer.close();
        // Closing is seen by a loop of write and drain: the drain lets the end come first.
        writer.write(b"too late");
        let error = complete(el, writer.drain()).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::ConnectionReset, "Connection lost"));
        complete(el, writer.wait_closed()).unwrap();
        assert_eq!(complete(el, writer.drain()).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }

    /// SR-16: while the connection is closing, a drain lets the others run once, though it need not wait.
    fn drain_while_closing_yields(el) {
        let (_reader, mut writer, peer) = connect(el);
        writer.transport().set_write_buffer_limits(1 << 30, None).unwrap();
        jam(&mut writer);
        writer.close();
        let mut polls = 0;
        let drained = complete(el, async {
            let mut drain = pin!(writer.drain());
            std::future::poll_fn(|cx| {
                polls += 1;
                drain.as_mut().poll(cx)
            })
            .await
        });
        drained.unwrap();
        assert_eq!(polls, 2);
        let reading = read_all(peer);
        complete(el, writer.wait_closed()).unwrap();
        reading.join().unwrap().unwrap();
    }

    /// SR-16: an error of the connection is what the next drain gives.
    fn drain_raises_the_readers_error(el) {
        let (reader, writer, _peer) = connect(el);
        reader.set_exception(&io::Error::other("seen by the reader"));
        let error = complete(el, writer.drain()).unwrap_err();
        assert_eq!(error.to_string(), "seen by the reader");
    }

    /// SR-18: who drains while this side aborts is released without an error; later drains fail.
    fn abort_releases_who_drains(el) {
        let (_reader, mut writer, _peer) = connect(el);
        jam(&mut writer);
        let writer = Rc::new(writer);
        let tasks = [(); 3].map(|()| {
            let writer = writer.clone();
            el.create_task(async move { writer.drain().await })
        });
        settle(el);
        assert!(tasks.iter().all(|task| !task.is_done()));
        writer.transport().abort();
        for task in tasks {
            complete(el, task).unwrap().unwrap();
        }
        assert_eq!(complete(el, writer.drain()).unwrap_err().kind(), ErrorKind::ConnectionReset);
        complete(el, writer.wait_closed()).unwrap();
    }

    /// SR-18: who drains when the peer resets the connection gets the error, and so does who waits for the end.
    fn a_reset_fails_who_drains(el) {
        let (_reader, mut writer, peer) = connect(el);
        jam(&mut writer);
        let writer = Rc::new(writer);
        let drains = [(); 3].map(|()| {
            let writer = writer.clone();
            el.create_task(async move { writer.drain().await })
        });
        let ends = [(); 3].map(|()| {
            let writer = writer.clone();
            el.create_task(async move { writer.wait_closed().await })
        });
        settle(el);
        reset(peer);
        for task in drains.into_iter().chain(ends) {
            let error = complete(el, task).unwrap().unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
        }
    }

    /// SR-19: waiting for the end works before, during and after the close, for many at once and again and again.
    fn wait_closed_in_all_orders(el) {
        let (_reader, mut writer, peer) = connect(el);
        let written = jam(&mut writer);
        let writer = Rc::new(writer);
        let wait = || {
            let writer = writer.clone();
            el.create_task(async move { writer.wait_closed().await })
        };
        let before = [wait(), wait()];
        settle(el);
        writer.transport().close();
        let after = [wait(), wait()];
        settle(el);
        assert!(before.iter().chain(&after).all(|task| !task.is_done()), "what is queued is not sent yet");
        assert!(writer.is_closing());
        let reading = read_all(peer);
        for task in before.into_iter().chain(after) {
            complete(el, task).unwrap().unwrap();
        }
        complete(el, writer.wait_closed()).unwrap();
        assert!(reading.join().unwrap().unwrap() == written, "close sends what is queued first");
    }

    /// SR-19: bytes that nobody has read do not stand in the way of the end.
    fn wait_closed_with_unread_bytes(el) {
        let (mut reader, mut writer, mut peer) = connect(el);
        peer.write_all(b"unread").unwrap();
        run_until(el, || format!("{reader:?}").contains("6 bytes"));
        writer.close();
        complete(el, writer.wait_closed()).unwrap();
        assert_eq!(complete(el, reader.read_to_end()).unwrap(), b"unread");
    }

    /// SR-19: an abort is an end without an error.
    fn wait_closed_after_an_abort(el) {
        let (mut reader, mut writer, _peer) = connect(el);
        jam(&mut writer);
        writer.transport().abort();
        complete(el, writer.wait_closed()).unwrap();
        assert_eq!(complete(el, reader.read(10)).unwrap(), b"");
    }

    /// SR-20: closing the writer ends the reader's stream, also for the read that waits.
    fn closing_ends_the_readers_stream(el) {
        let (mut reader, mut writer, _peer) = connect(el);
        let task = el.create_task(async move { (reader.read(10).await, reader) });
        settle(el);
        writer.close();
        let (read, mut reader) = complete(el, task).unwrap();
        assert_eq!(read.unwrap(), b"");
        assert!(reader.at_eof());
        assert_eq!(complete(el, reader.readline()).unwrap(), b"");
        writer.close();
        complete(el, writer.wait_closed()).unwrap();
    }

    /// SR-21: the end of the peer's stream leaves the writing half open.
    fn the_peers_end_keeps_the_writer_open(el) {
        let (mut reader, mut writer, mut peer) = connect(el);
        peer.write_all(b"question").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(complete(el, reader.read_to_end()).unwrap(), b"question");
        settle(el);
        assert!(!writer.is_closing());
        writer.write(b"answer");
        complete(el, writer.drain()).unwrap();
        writer.close();
        let mut answer = Vec::new();
        complete(el, writer.wait_closed()).unwrap();
        peer.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"answer");
    }

    /// SR-21: `write_eof` ends this side's stream after what is queued; reading goes on. A connection whose two streams
    /// have ended comes to rest.
    fn write_eof_leaves_the_reader_open(el) {
        let (mut reader, mut writer, peer) = connect(el);
        assert!(writer.can_write_eof());
        let written = jam(&mut writer);
        writer.write_eof();
        assert!(!writer.is_closing());
        let mut answering = peer.try_clone().unwrap();
        let reading = read_all(peer);
        run_until(el, || reading.is_finished());
        assert!(reading.join().unwrap().unwrap() == written);
        answering.write_all(b"answer").unwrap();
        drop(answering);
        assert_eq!(complete(el, reader.read_to_end()).unwrap(), b"answer");
        settle(el);
        assert!(!writer.is_closing());
        writer.write_eof();
        writer.close();
        complete(el, writer.wait_closed()).unwrap();
    }

    /// SR-21: writing after `write_eof` is reported, and ends nothing.
    fn writing_after_write_eof_is_reported(el) {
        let (mut reader, mut writer, mut peer) = connect(el);
        writer.write(b"all");
        writer.write_eof();
        writer.write(b"too late");
        let reports = take_reports();
        assert_eq!(reports.len(), 1);
        assert!(reports[0].contains("cannot write after write_eof()"), "{}", reports[0]);
        let mut got = Vec::new();
        peer.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"all");
        peer.write_all(b"fine").unwrap();
        drop(peer);
        assert_eq!(complete(el, reader.read_to_end()).unwrap(), b"fine");
    }

    /// api 5: the three ways to write keep their order, and what is known of the connection can be asked for.
    fn pieces_keep_their_order(el) {
        let (_reader, mut writer, peer) = connect(el);
        let local: SocketAddr = peer.peer_addr().unwrap();
        assert_eq!(writer.extra_info().local_addr, Some(local));
        assert_eq!(writer.extra_info().peer_addr, Some(peer.local_addr().unwrap()));
        let mut expected = jam(&mut writer);
        writer.write_owned(vec![b'o'; 1000]);
        writer.writelines(&[IoSlice::new(b"one "), IoSlice::new(b""), IoSlice::new(b"two")]);
        writer.write(b" end");
        writer.writelines(&[]);
        expected.extend([b'o'; 1000]);
        expected.extend(b"one two end");
        writer.close();
        let reading = read_all(peer);
        complete(el, writer.wait_closed()).unwrap();
        assert!(reading.join().unwrap().unwrap() == expected);
    }

    // ------------------------------------------------------------ dropping

    /// api 9: dropping both halves closes the connection, after what is queued was sent; the order does not matter.
    fn dropping_both_halves_closes_and_flushes(el) {
        for writer_first in [false, true] {
            let (reader, mut writer, peer) = connect(el);
            let written = jam(&mut writer);
            if writer_first {
                drop(writer);
                drop(reader);
            } else {
                drop(reader);
                drop(writer);
            }
            let reading = read_all(peer);
            run_until(el, || el.stats().transports.live() == 0);
            assert!(reading.join().unwrap().unwrap() == written, "the peer got something else");
        }
    }

    /// api 9: one half keeps the connection open.
    fn one_half_keeps_the_connection_open(el) {
        let (mut reader, writer, mut peer) = connect(el);
        drop(writer);
        settle(el);
        peer.write_all(b"still here\n").unwrap();
        assert_eq!(complete(el, reader.readline()).unwrap(), b"still here\n");
        drop(reader);
        run_until(el, || el.stats().transports.live() == 0);
        assert_eq!(peer.read(&mut [0; 10]).unwrap(), 0);

        let (reader, mut writer, mut peer) = connect(el);
        drop(reader);
        settle(el);
        writer.write(b"here, too");
        let mut got = [0; 9];
        peer.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"here, too");
        drop(writer);
        run_until(el, || el.stats().transports.live() == 0);
        assert_eq!(peer.read(&mut [0; 10]).unwrap(), 0);
    }

    /// RW-02: giving a connection up at any of its await points leaves nothing open.
    fn opening_given_up_at_each_await(el) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let port = address.port();
        let mut opened = 0;
        for polls in 0..40 {
            // By address, and by a name that has to be looked up.
            let by_address = complete(el, async { poll_times(open_connection(address).into_future(), polls).await });
            let by_name =
                complete(el, async { poll_times(open_connection(("localhost", port)).into_future(), polls).await });
            for halves in [by_address, by_name].into_iter().flatten() {
                halves.unwrap();
                opened += 1;
            }
            run_until(el, || el.stats().transports.live() == 0);
        }
        assert!(opened >= 1, "with enough patience it opens");
        // Lookups that were given up go on in their threads, with descriptors of their own.
        assert!(complete(el, el.shutdown_default_executor(None)));
    }

    /// SR-19: who closes the loop under a stream ends it: reads fail, and waiting for the end is over.
    fn a_stream_outlives_its_loop(el) {
        let (mut reader, mut writer, _peer) = connect(el);
        jam(&mut writer);
        assert!(poll(pin!(writer.drain())).is_pending());
        assert!(poll(pin!(writer.wait_closed())).is_pending());
        el.close();
        assert!(matches!(poll(pin!(reader.read(10))), Poll::Ready(Err(_))));
        assert!(matches!(poll(pin!(writer.wait_closed())), Poll::Ready(Err(_))));
        writer.write(b"to nobody");
        writer.close();
        assert!(writer.is_closing());
    }

    /// api 4: when another protocol takes the connection over, the stream is at its end for the halves.
    fn another_protocol_takes_over(el) {
        struct Collect(Rc<RefCell<Vec<u8>>>);
        impl Protocol for Collect {
            fn data_received(&mut self, _: &Transport, data: &[u8]) {
                self.0.borrow_mut().extend_from_slice(data);
            }
        }
        let (mut reader, mut writer, mut peer) = connect(el);
        let collected = Rc::new(RefCell::new(Vec::new()));
        writer.transport().set_protocol(Collect(collected.clone()));
        assert_eq!(complete(el, reader.read(10)).unwrap(), b"");
        complete(el, writer.wait_closed()).unwrap();
        peer.write_all(b"for the new one").unwrap();
        run_until(el, || collected.borrow().len() == 15);
        writer.close();
    }
}

/// Architecture 3: a task that writes to a peer who takes everything at once does not keep the others waiting.
#[test]
fn draining_lets_the_others_run() {
    on_loop(|el| {
        let (_reader, mut writer, _peer) = connect(el);
        let task = el.create_task(async move {
            let called = Rc::new(Cell::new(false));
            let flag = called.clone();
            yield_now().await;
            roundelay::get_running_loop().unwrap().call_soon(move || flag.set(true));
            let mut rounds = 0;
            while !called.get() && rounds < 10_000 {
                // So little that the kernel takes it though the peer never reads.
                writer.write(b".");
                writer.drain().await.unwrap();
                rounds += 1;
            }
            rounds
        });
        let rounds = complete(el, task).unwrap();
        assert!((100..10_000).contains(&rounds), "{rounds} rounds");
    });
}

/// SR-26: a writer's text names its transport.
#[test]
fn a_writer_as_text() {
    on_loop(|el| {
        let (reader, writer, _peer) = connect(el);
        let transport = format!("{:?}", writer.transport());
        assert_eq!(format!("{writer:?}"), format!("<StreamWriter {transport}>"));
        assert_eq!(format!("{reader:?}"), format!("<StreamReader transport={transport}>"));
    });
}

// ---------------------------------------------------------------- warnings

/// Text that a subscriber writes.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is warned of while the test runs on a loop, in debug mode or not.
fn warnings(debug: bool, body: impl FnOnce(&EventLoop)) -> Vec<String> {
    let sink = Sink::default();
    let writer = sink.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // Alone before: a place that writes to `tracing` and is met for the first time on another thread, at the moment at
    // which a subscriber is made, would stay without it.
    let _alone = alone();
    let build = || Kind::Epoll.builder().debug(debug);
    tracing::subscriber::with_default(subscriber, || run_alone(build, body));
    let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    // A line that is indented belongs to the one before.
    text.lines().filter(|line| !line.starts_with("  ")).map(str::to_owned).collect()
}

/// SR-26, RW-01: in debug mode, dropping a connection that was never closed warns once and names it; and it is closed.
#[test]
fn an_unclosed_writer_is_warned_of() {
    let unclosed = |el: &EventLoop| {
        let (reader, writer, mut peer) = connect(el);
        drop(writer);
        drop(reader);
        run_until(el, || el.stats().transports.live() == 0);
        assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
    };
    let warned = warnings(true, unclosed);
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(warned[0].contains("unclosed StreamWriter of <Transport"), "{warned:?}");
    assert_eq!(warnings(false, unclosed), [""; 0]);
}

/// SR-26: a connection that was closed, or has ended by itself, is not warned of.
#[test]
fn a_closed_writer_is_not_warned_of() {
    let warned = warnings(true, |el| {
        let (_reader, mut writer, _peer) = connect(el);
        writer.close();
        drop(writer);
        let (_reader, writer, peer) = connect(el);
        reset(peer);
        complete(el, writer.wait_closed()).unwrap_err();
    });
    assert_eq!(warned, [""; 0]);
}

/// SR-26: closing the loop under a stream is warned of once, as an unclosed transport; the halves say no more.
#[test]
fn a_loop_closed_under_a_stream_is_warned_of() {
    let warned = warnings(true, |el| {
        let (_reader, _writer, _peer) = connect(el);
        el.close();
    });
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(warned[0].contains("unclosed transport <Transport"), "{warned:?}");
}

/// RW-02: what could not be opened, or was given up before it was, is not warned of.
#[test]
fn a_failed_opening_is_not_warned_of() {
    let warned = warnings(true, |el| {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        for polls in 0..10 {
            if let Some(opened) =
                complete(el, async { poll_times(open_connection(address).into_future(), polls).await })
            {
                opened.unwrap().1.close();
            }
            run_until(el, || el.stats().transports.live() == 0);
        }
        drop(listener);
        let refused = complete(el, async { open_connection(address).await }).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    });
    assert_eq!(warned, [""; 0]);
}

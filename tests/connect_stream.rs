//! Protocols over streams that are no sockets of the loop's: any stream of the `futures` traits, and plain TCP streams.

mod common;
#[path = "common/tcp.rs"]
mod tcp;
mod wire;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::{DropCounter, DropGuard, complete, on_loop, run_until, settle, take_reports};
use futures::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use roundelay::{Buffered, BufferedProtocol, EventLoop, KeepOpen, Runner, Transport};
use wire::{Record, Tap, assert_sleeps, finish, pattern, until_lost};

/// What a test does with a stream that a transport has.
#[derive(Default)]
struct Ends {
    /// What the stream gives when it is read.
    incoming: VecDeque<u8>,
    incoming_ended: bool,
    /// How much a read gives at most; zero for as much as there is.
    piece: usize,
    /// What was written to it.
    outgoing: Vec<u8>,
    /// How much more it takes.
    room: usize,
    /// Whether a flush, or a close, is kept waiting.
    holds_flush: bool,
    holds_close: bool,
    flushes: usize,
    closed: bool,
    read_fails: Option<Failure>,
    write_fails: Option<Failure>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// What the stream does of itself when it is next read, written or flushed.
    meddles: [Option<Box<dyn FnOnce()>>; 3],
}

#[derive(Clone, Copy)]
enum Failure {
    Error(io::ErrorKind),
    Panic,
    TakesNothing,
}

impl Failure {
    fn happen(self) -> Poll<io::Result<usize>> {
        match self {
            Failure::Error(kind) => Poll::Ready(Err(kind.into())),
            Failure::Panic => panic!("the stream is broken"),
            Failure::TakesNothing => Poll::Ready(Ok(0)),
        }
    }
}

/// A stream in memory. Clones are the test's hands on it.
#[derive(Clone, Default)]
struct Memory(Rc<RefCell<Ends>>);

impl Memory {
    fn new() -> Self {
        let this = Self::default();
        this.0.borrow_mut().room = usize::MAX;
        this
    }

    /// Changes something, and wakes who waits.
    fn change(&self, f: impl FnOnce(&mut Ends)) {
        let (reader, writer) = {
            let mut ends = self.0.borrow_mut();
            f(&mut ends);
            (ends.reader.take(), ends.writer.take())
        };
        reader.into_iter().chain(writer).for_each(Waker::wake);
    }

    fn send(&self, data: &[u8]) {
        self.change(|ends| ends.incoming.extend(data));
    }

    fn send_eof(&self) {
        self.change(|ends| ends.incoming_ended = true);
    }

    fn received(&self) -> Vec<u8> {
        self.0.borrow().outgoing.clone()
    }

    fn is_closed(&self) -> bool {
        self.0.borrow().closed
    }

    fn meddle(&self, when: When) {
        let meddles = self.0.borrow_mut().meddles[when as usize].take();
        if let Some(meddle) = meddles {
            meddle();
        }
    }

    /// The stream itself, whose drop is counted.
    fn stream(&self, drops: &DropCounter) -> Stream {
        Stream { memory: self.clone(), _guard: drops.guard(), panics_at_drop: false }
    }
}

/// When a stream does something of itself.
#[derive(Clone, Copy, Debug)]
enum When {
    Read,
    Written,
    Flushed,
}

struct Stream {
    memory: Memory,
    _guard: DropGuard,
    panics_at_drop: bool,
}

impl Drop for Stream {
    fn drop(&mut self) {
        assert!(!self.panics_at_drop, "no good end");
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.memory.meddle(When::Read);
        let ends = &mut *self.memory.0.borrow_mut();
        if let Some(failure) = ends.read_fails {
            return failure.happen();
        }
        let most = if ends.piece == 0 { buf.len() } else { ends.piece };
        let n = ends.incoming.len().min(buf.len()).min(most);
        if n == 0 && !ends.incoming_ended {
            ends.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        for (place, byte) in buf.iter_mut().zip(ends.incoming.drain(..n)) {
            *place = byte;
        }
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.memory.meddle(When::Written);
        let ends = &mut *self.memory.0.borrow_mut();
        assert!(!ends.closed, "nothing is written to what is closed");
        if let Some(failure) = ends.write_fails {
            return failure.happen();
        }
        let n = buf.len().min(ends.room);
        if n == 0 {
            ends.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        ends.room -= n;
        ends.outgoing.extend_from_slice(&buf[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.memory.meddle(When::Flushed);
        let ends = &mut *self.memory.0.borrow_mut();
        if ends.holds_flush {
            ends.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        ends.flushes += 1;
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ends = &mut *self.memory.0.borrow_mut();
        if ends.holds_close {
            ends.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        assert!(!std::mem::replace(&mut ends.closed, true), "closed twice");
        Poll::Ready(Ok(()))
    }
}

/// A transport over a stream in memory.
fn open(el: &EventLoop, tap: Tap) -> (Transport, Memory, DropCounter) {
    let (memory, drops) = (Memory::new(), DropCounter::new());
    let (transport, _) = el.connect_stream(|| tap, memory.stream(&drops)).unwrap();
    (transport, memory, drops)
}

on_every_loop! {
    /// The order of callbacks is that of every connection; the transport is counted, and knows no address.
    fn a_protocol_over_any_stream(el) {
        let record = Record::new();
        let before = el.stats().transports;
        let (transport, memory, drops) = open(el, Tap::new(&record).on_data(|transport, data| transport.write(data)));
        memory.send(b"hello");
        assert!(record.is_silent(), "nothing is told inline");
        run_until(el, || record.len() == 5);
        assert_eq!(memory.received(), b"hello");
        memory.send(b" world");
        run_until(el, || record.len() == 11);
        assert_sleeps(el);
        let info = transport.extra_info();
        assert!(info.local_addr.is_none() && info.peer_addr.is_none() && info.socket.is_none());
        assert!(format!("{transport:?}").contains("read=polling write=<idle, bufsize=0>"), "{transport:?}");
        assert_eq!(el.stats().transports.live(), before.live() + 1);
        memory.send_eof();
        until_lost(el, &record);
        assert_eq!(record.take(), ["made", "data 11", "eof", "lost"]);
        assert_eq!(memory.received(), b"hello world");
        assert!(memory.is_closed() && memory.0.borrow().flushes > 0);
        assert_eq!((drops.count(), el.stats().transports.live()), (1, before.live()));
        assert!(transport.protocol().is_none());
    }

    /// What the stream does not take is queued: pause above the high mark, resume at the low one, and everything arrives in
    /// order, in whatever pieces it is taken.
    fn flow_control(el) {
        let record = Record::new();
        let (transport, memory, _) = open(el, Tap::new(&record));
        memory.change(|ends| ends.room = 1000);
        let data = pattern(200_000);
        transport.write(&data[..30_000]);
        transport.write_owned(data[30_000..60_000].to_vec());
        settle(el);
        assert_eq!(transport.write_buffer_size(), 59_000);
        assert_eq!(record.take(), ["made"]);
        transport.writelines(&[io::IoSlice::new(&data[60_000..61_000]), io::IoSlice::new(&data[61_000..])]);
        settle(el);
        assert_eq!(record.take(), ["pause"]);
        for _ in 0..182 {
            memory.change(|ends| ends.room = 1000);
            settle(el);
        }
        assert_eq!(transport.write_buffer_size(), 17_000);
        assert!(record.is_silent());
        memory.change(|ends| ends.room = 1000);
        run_until(el, || record.has("resume"));
        memory.change(|ends| ends.room = usize::MAX);
        run_until(el, || transport.write_buffer_size() == 0);
        assert!(memory.received() == data);
        assert_sleeps(el);
        finish(el, &transport, &record);
        assert_eq!(record.take(), ["resume", "lost"]);
    }

    /// Ending the writing half waits for what is queued, flushes and closes the stream; reading goes on.
    fn half_close(el) {
        let record = Record::new();
        let (transport, memory, drops) = open(el, Tap::half_open(&record));
        memory.change(|ends| (ends.room, ends.holds_flush, ends.holds_close) = (3, true, true));
        transport.write(b"request");
        transport.write_eof();
        settle(el);
        assert_eq!(memory.received(), b"req");
        memory.change(|ends| ends.room = 100);
        settle(el);
        assert_eq!(memory.received(), b"request");
        memory.change(|ends| ends.holds_flush = false);
        settle(el);
        assert!(!memory.is_closed() && memory.0.borrow().flushes == 1);
        memory.change(|ends| ends.holds_close = false);
        run_until(el, || memory.is_closed());
        transport.write(b"too late");
        assert_eq!(take_reports().len(), 1);
        memory.send(b"answer");
        run_until(el, || record.len() == 6);
        memory.send_eof();
        run_until(el, || record.has("eof"));
        assert_eq!(drops.count(), 0);
        transport.close();
        until_lost(el, &record);
        assert_eq!(record.take(), ["made", "data 6", "eof", "lost"]);
        assert_eq!(drops.count(), 1);
    }

    /// Closing sends what is queued and closes the stream, however long it takes; aborting drops it as it is.
    fn close_and_abort(el) {
        for aborts in [false, true] {
            let record = Record::new();
            let (transport, memory, drops) = open(el, Tap::new(&record));
            memory.change(|ends| (ends.room, ends.holds_close) = (2, true));
            transport.write(b"bye");
            transport.close();
            memory.send(b"not read any more");
            settle(el);
            assert!(!record.is_lost() && transport.is_closing());
            memory.change(|ends| ends.room = 1);
            settle(el);
            assert_eq!(memory.received(), b"bye");
            assert_eq!((record.lost(), drops.count()), (0, 0));
            if aborts {
                transport.abort();
            } else {
                memory.change(|ends| ends.holds_close = false);
            }
            until_lost(el, &record);
            settle(el);
            assert_eq!(record.take(), ["made", "lost"]);
            assert_eq!((drops.count(), memory.is_closed()), (1, !aborts));
        }
    }

    /// A stream may use its own transport while it is called: what it writes comes behind what it is given, and when it ends
    /// the connection, it is ended.
    fn a_stream_that_meddles(el) {
        type Deed = fn(&Transport);
        let write: Deed = |transport| transport.write(b"meddled");
        let write_and_close: Deed = |transport| {
            transport.write(b"meddled");
            transport.close();
        };
        let write_and_end: Deed = |transport| {
            transport.write(b"meddled");
            transport.write_eof();
        };
        for when in [When::Read, When::Written, When::Flushed] {
            for (deed, loses, closes) in [
                (write, false, false),
                (write_and_end, false, true),
                (write_and_close, true, true),
                (Transport::abort as Deed, true, false),
            ] {
                for (queued, room) in [("", 3), ("", 100), ("queued ", 3), ("queued ", 100)] {
                    let record = Record::new();
                    let (transport, memory, _) = open(el, Tap::half_open(&record));
                    settle(el);
                    let meddles = {
                        let transport = transport.clone();
                        move || deed(&transport)
                    };
                    if !queued.is_empty() {
                        memory.change(|ends| ends.room = 0);
                        transport.write(queued.as_bytes());
                        settle(el);
                    }
                    memory.change(|ends| {
                        ends.room = room;
                        ends.meddles[when as usize] = Some(Box::new(meddles));
                    });
                    transport.write(b"written ");
                    memory.send(b"arrives");
                    settle(el);
                    memory.change(|ends| ends.room = 1000);
                    settle(el);
                    let case = format!("{when:?} {queued:?} {room} {loses} {closes}");
                    if !loses || closes {
                        assert_eq!(memory.received(), [queued, "written meddled"].concat().as_bytes(), "{case}");
                    }
                    assert_eq!((record.is_lost(), memory.is_closed()), (loses, closes), "{case}");
                    assert!(!record.has("pause") && !record.has("resume"), "{case}");
                    finish(el, &transport, &record);
                    assert_eq!(record.take().last().unwrap(), "lost", "{case}");
                }
            }
        }
    }

    /// An error of the stream's ends the connection with it, a panic of its likewise, and that is reported.
    fn failures(el) {
        let cases = [
            (Failure::Error(io::ErrorKind::ConnectionReset), "lost ConnectionReset", 0),
            (Failure::Error(io::ErrorKind::WouldBlock), "lost Other", 0),
            (Failure::Panic, "lost Other", 1),
        ];
        for (failure, end, reported) in cases {
            for reads in [true, false] {
                let record = Record::new();
                let (transport, memory, drops) = open(el, Tap::new(&record));
                settle(el);
                if reads {
                    memory.change(|ends| ends.read_fails = Some(failure));
                } else {
                    memory.change(|ends| ends.write_fails = Some(failure));
                    transport.write(b"x");
                    assert!(!record.is_lost(), "nothing is told inline");
                }
                until_lost(el, &record);
                assert_eq!(record.take(), ["made", end]);
                assert_eq!(drops.count(), 1);
                let reports = take_reports();
                assert_eq!(reports.len(), reported, "{reports:?}");
                if let Some(report) = reports.first() {
                    assert!(report.contains("the stream is broken"), "{report}");
                    let method = if reads { "the stream's poll_read()" } else { "the stream's poll_write()" };
                    assert!(report.contains(method), "{report}");
                }
            }
        }
        let record = Record::new();
        let (transport, memory, _) = open(el, Tap::new(&record));
        memory.change(|ends| ends.write_fails = Some(Failure::TakesNothing));
        transport.write(b"x");
        until_lost(el, &record);
        assert_eq!(record.take(), ["made", "lost WriteZero"]);
    }

    /// A panic in the stream's destructor is reported, and the loop goes on.
    fn a_panic_at_the_end(el) {
        let (record, memory, drops) = (Record::new(), Memory::new(), DropCounter::new());
        let mut stream = memory.stream(&drops);
        stream.panics_at_drop = true;
        let (transport, _) = el.connect_stream(|| Tap::new(&record), stream).unwrap();
        finish(el, &transport, &record);
        let reports = take_reports();
        assert_eq!(reports.len(), 1);
        assert!(reports[0].contains("no good end"), "{}", reports[0]);
        assert_eq!(el.stats().transports.live(), 0);
    }

    /// A stream that is always ready, a byte at a time, keeps nobody from his turn, and everything arrives.
    fn a_flood_of_drops(el) {
        let record = Record::new();
        let (transport, memory, _) = open(el, Tap::new(&record));
        let data = pattern(20_000);
        memory.change(|ends| ends.piece = 1);
        memory.send(&data);
        let mut turns = 0;
        while record.len() < data.len() {
            let before = record.len();
            el.run_once(Some(Duration::ZERO)).unwrap();
            assert!(record.len() - before <= 64, "{} bytes in one turn", record.len() - before);
            turns += 1;
        }
        assert!(turns >= 20_000 / 64);
        assert!(record.bytes() == data);
        finish(el, &transport, &record);
    }

    /// Paused it reads nothing, resumed it goes on; what is given back comes first, and the end of file is not missed.
    fn pausing_and_giving_back(el) {
        let record = Record::new();
        let (transport, memory, _) = open(el, Tap::new(&record));
        settle(el);
        transport.pause_reading();
        memory.send(b"later");
        settle(el);
        assert_eq!(record.take(), ["made"]);
        transport.resume_reading();
        run_until(el, || record.len() == 5);
        transport.pause_reading();
        transport.unread(b"er");
        memory.send(b" on");
        memory.send_eof();
        settle(el);
        let next = Record::new();
        transport.set_protocol(Tap::new(&next));
        settle(el);
        assert!(next.is_silent());
        transport.resume_reading();
        until_lost(el, &next);
        assert_eq!(next.bytes(), b"er on");
        assert_eq!(next.take(), ["data 5", "eof", "lost"]);
        assert_eq!(record.take(), ["data 5"]);
    }

    /// A buffered protocol reads into its own buffer.
    fn a_buffered_protocol(el) {
        let (record, memory, drops) = (Record::new(), Memory::new(), DropCounter::new());
        let small = Small { record: record.clone(), buffer: [0; 3] };
        let (transport, _) = el.connect_stream(|| Buffered(small), memory.stream(&drops)).unwrap();
        memory.send(b"12345");
        memory.send_eof();
        run_until(el, || transport.protocol().is_none());
        assert_eq!(record.take(), ["123", "45", "eof"]);
    }

    /// A stream of the loop's own carries another transport: a tunnel. Bytes in both directions, and the end passes through.
    fn over_a_stream_of_the_loops_own(el) {
        let (ours, mut peer) = tcp::plain_pair();
        let record = Record::new();
        let (transport, _) = complete(el, async {
            let stream = roundelay::TcpStream::from_std(ours).unwrap();
            let tap = Tap::new(&record).on_data(|transport, data| transport.write(data));
            el.connect_stream(|| tap, stream).unwrap()
        });
        let data = pattern(3_000_000);
        let sent = data.clone();
        let mut writes = peer.try_clone().unwrap();
        let thread = std::thread::spawn(move || {
            writes.write_all(&sent).unwrap();
            writes.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let received = tcp::receive_all(el, &mut peer);
        thread.join().unwrap();
        assert!(received == data, "{} of {} bytes", received.len(), data.len());
        until_lost(el, &record);
        assert_eq!(record.lost(), 1);
        assert!(transport.is_closing());
    }

    /// Streams on top of it, and a protocol again.
    fn streams_over_any_stream(el) {
        let (first, second) = (Record::new(), Record::new());
        let (transport, memory, drops) = open(el, Tap::half_open(&first));
        memory.send(b"line\nrest");
        let (mut reader, mut writer) = complete(el, async { transport.into_stream().unwrap() });
        assert_eq!(complete(el, reader.readline()).unwrap(), b"line\n");
        writer.write(b"answer");
        complete(el, writer.drain()).unwrap();
        memory.send_eof();
        assert_eq!(complete(el, reader.read(2)).unwrap(), b"re");
        writer.into_protocol(reader, || Tap::new(&second)).unwrap();
        until_lost(el, &second);
        assert_eq!(second.take(), ["made", "data 2", "eof", "lost"]);
        assert_eq!(memory.received(), b"answer");
        assert_eq!(drops.count(), 1);
    }

    /// `flushed` waits for the last byte and the stream's flush, of a socket for the last byte; it gives why the connection
    /// is gone. Whoever gives up is forgotten.
    fn flushed(el) {
        let record = Record::new();
        let (transport, memory, _) = open(el, Tap::new(&record));
        memory.change(|ends| (ends.room, ends.holds_flush) = (0, true));
        transport.write(b"data");
        let (waits, waits_too) = (el.create_task(transport.flushed()), el.create_task(transport.flushed()));
        settle(el);
        drop(waits_too.cancel_on_drop());
        memory.change(|ends| ends.room = 4);
        settle(el);
        assert!(!waits.is_done());
        memory.change(|ends| ends.holds_flush = false);
        complete(el, waits).unwrap().unwrap();
        finish(el, &transport, &record);
        assert_eq!(complete(el, transport.flushed()).unwrap_err().kind(), io::ErrorKind::ConnectionReset);

        let (transport, peer) = wire::connect_narrow(el, wire::Net::Tcp, Tap::new(&record));
        transport.write(&pattern(500_000));
        let waits = el.create_task(transport.flushed());
        settle(el);
        assert!(!waits.is_done());
        run_until(el, || peer.count() == 500_000);
        complete(el, waits).unwrap().unwrap();
        assert_eq!(transport.write_buffer_size(), 0);
        transport.abort();
        run_until(el, || record.lost() == 2);
    }

    /// A plain TCP stream becomes a transport: what was read ahead comes first, then what has arrived and what arrives, and
    /// the end of file.
    fn a_plain_stream_becomes_a_transport(el) {
        let (ours, mut peer) = tcp::plain_pair();
        let (address, peer_address) = (ours.local_addr().unwrap(), peer.local_addr().unwrap());
        let record = Record::new();
        let descriptors = el.stats().descriptors.live();
        peer.write_all(b"line\nahead ").unwrap();
        let (transport, protocol) = complete(el, async {
            let mut stream = roundelay::TcpStream::from_std(ours).unwrap();
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            assert_eq!(line, "line\n");
            peer.write_all(b"waits ").unwrap();
            let made = stream.into_transport(|| Tap::half_open(&record)).unwrap();
            assert!(record.is_silent(), "nothing is told inline");
            made
        });
        assert!(transport.protocol().unwrap().is_same(&protocol.into()));
        run_until(el, || record.len() == 12);
        peer.write_all(b"comes").unwrap();
        run_until(el, || record.len() == 17);
        assert_eq!(record.bytes(), b"ahead waits comes");
        let info = transport.extra_info();
        assert_eq!((info.local_addr, info.peer_addr), (Some(address), Some(peer_address)));
        assert_eq!(el.stats().descriptors.live(), descriptors + 1);
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        run_until(el, || record.has("eof"));
        assert_sleeps(el);
        transport.write(b"bye");
        transport.close();
        until_lost(el, &record);
        assert_eq!(record.take(), ["made", "data 17", "eof", "lost"]);
        assert_eq!(tcp::receive_all(el, &mut peer), b"bye");
    }

    /// One whose writing half was closed stays so; one that is at its end tells it.
    fn a_plain_stream_at_its_ends(el) {
        let (ours, mut peer) = tcp::plain_pair();
        let record = Record::new();
        let transport = complete(el, async {
            let mut stream = roundelay::TcpStream::from_std(ours).unwrap();
            stream.close().await.unwrap();
            peer.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
            stream.into_transport(|| Tap::half_open(&record)).unwrap().0
        });
        run_until(el, || record.has("eof"));
        transport.write(b"x");
        assert_eq!(take_reports().len(), 1);
        finish(el, &transport, &record);
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
        assert_eq!(record.take(), ["made", "eof", "lost"]);
    }

    /// It is the same where the writing half was ended by `shutdown`.
    fn a_plain_stream_that_was_shut_down(el) {
        for how in [std::net::Shutdown::Read, std::net::Shutdown::Write] {
            let (ours, mut peer) = tcp::plain_pair();
            let record = Record::new();
            let transport = complete(el, async {
                let stream = roundelay::TcpStream::from_std(ours).unwrap();
                stream.shutdown(how).unwrap();
                stream.into_transport(|| Tap::half_open(&record)).unwrap().0
            });
            settle(el);
            transport.write(b"x");
            let ended = how == std::net::Shutdown::Write;
            assert_eq!(take_reports().len(), usize::from(ended));
            assert_eq!(peer.read(&mut [0]).unwrap(), usize::from(!ended));
            assert!(!transport.is_closing());
            finish(el, &transport, &record);
        }
    }

    /// Halves that were reunited are as good as one that was never split.
    fn reunited_halves_become_a_transport(el) {
        let (ours, mut peer) = tcp::plain_pair();
        let record = Record::new();
        let transport = complete(el, async {
            let (read, write) = roundelay::TcpStream::from_std(ours).unwrap().into_split();
            read.reunite(write).unwrap().into_transport(|| Tap::new(&record)).unwrap().0
        });
        peer.write_all(b"hello").unwrap();
        run_until(el, || record.len() == 5);
        finish(el, &transport, &record);
    }
}

struct Small {
    record: Record,
    buffer: [u8; 3],
}

impl BufferedProtocol for Small {
    fn get_buffer(&mut self, _: usize) -> &mut [u8] {
        &mut self.buffer
    }
    fn buffer_updated(&mut self, _: &Transport, n: usize) {
        self.record.note(String::from_utf8_lossy(&self.buffer[..n]));
    }
    fn eof_received(&mut self, _: &Transport) -> KeepOpen {
        self.record.note("eof");
        KeepOpen::No
    }
}

/// A stream that another thread feeds.
struct Channel(Arc2);

type Arc2 = std::sync::Arc<std::sync::Mutex<(VecDeque<u8>, bool, Option<Waker>)>>;

impl AsyncRead for Channel {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let (bytes, ended, waker) = &mut *self.0.lock().unwrap();
        if bytes.is_empty() && !*ended {
            *waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        bytes.read(buf).into()
    }
}

impl AsyncWrite for Channel {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

on_every_loop! {
    /// A stream that is woken by another thread wakes the loop.
    fn woken_by_another_thread(el) {
        let (shared, record) = (Arc2::default(), Record::new());
        el.connect_stream(|| Tap::new(&record), Channel(shared.clone())).unwrap();
        let (go, went) = mpsc::channel::<()>();
        let data = pattern(5000);
        let bytes = data.clone();
        let thread = std::thread::spawn(move || {
            for (place, piece) in bytes.chunks(10).enumerate() {
                went.recv().unwrap();
                let mut shared = shared.lock().unwrap();
                shared.0.extend(piece);
                shared.1 = place == 499;
                let waker = shared.2.take();
                drop(shared);
                waker.into_iter().for_each(Waker::wake);
            }
        });
        for n in 1..=500 {
            go.send(()).unwrap();
            run_until(el, || record.len() == n * 10);
        }
        until_lost(el, &record);
        thread.join().unwrap();
        assert!(record.bytes() == data);
        assert_eq!(record.take(), ["made", "data 5000", "eof", "lost"]);
    }
}

/// A loop that is closed lets go of the protocol and of the stream in silence; one that is closed already makes none.
#[test]
fn the_loop_is_closed() {
    on_loop(|el| {
        let (record, dropped) = (Record::new(), DropCounter::new());
        let guard = dropped.guard();
        let (transport, memory, drops) = open(el, Tap::new(&record).on_drop(move || drop(guard)));
        settle(el);
        let waker = memory.0.borrow().reader.clone().unwrap();
        el.close();
        assert_eq!((dropped.count(), drops.count()), (1, 1));
        assert_eq!(record.take(), ["made"]);
        // What outlives the loop is inert.
        waker.wake();
        transport.write(b"x");
        transport.close();
        let error = el.connect_stream(|| Tap::new(&record), memory.stream(&drops)).unwrap_err();
        assert!(error.get_ref().unwrap().is::<roundelay::LoopClosed>());
        assert_eq!(drops.count(), 2);
        assert!(record.is_silent());
    });
}

/// The orderly end of a loop sends what is queued, closes the stream and tells the protocol; one that takes too long is
/// aborted.
#[test]
fn the_end_of_a_runner() {
    let _alone = common::alone();
    for stuck in [false, true] {
        let (record, memory, drops) = (Record::new(), Memory::new(), DropCounter::new());
        let bound = if stuck { Duration::from_millis(10) } else { common::PATIENCE };
        let mut runner = Runner::builder().shutdown_bound(bound).build();
        let (tap, stream) = (Tap::new(&record), memory.stream(&drops));
        let hands = memory.clone();
        runner
            .run(async move {
                let el = roundelay::get_running_loop().unwrap();
                hands.change(|ends| ends.room = 0);
                let (transport, _) = el.connect_stream(|| tap, stream).unwrap();
                transport.write(b"last words");
                let open = hands.clone();
                if !stuck {
                    el.call_later(Duration::from_millis(5), move || open.change(|ends| ends.room = 100));
                }
            })
            .unwrap();
        runner.close();
        assert_eq!(record.take(), ["made", "lost"]);
        assert_eq!(memory.received(), if stuck { &b""[..] } else { b"last words" });
        assert_eq!((memory.is_closed(), drops.count()), (!stuck, 1));
    }
}

/// A transport that waits for nothing keeps no loop busy, and many of them come and go.
#[test]
fn many_come_and_go() {
    on_loop(|el| {
        let record = Record::new();
        let all: Vec<_> = (0..500).map(|_| open(el, Tap::new(&record))).collect();
        assert_sleeps(el);
        for (place, (transport, memory, _)) in all.iter().enumerate() {
            match place % 3 {
                0 => memory.send_eof(),
                1 => transport.close(),
                _ => transport.abort(),
            }
        }
        run_until(el, || record.lost() == 500);
        assert!(all.iter().all(|(_, _, drops)| drops.count() == 1));
        assert_eq!(el.stats().transports.live(), 0);
    });
}

//! The reading half of a stream, fed by hand and by connections (behaviours SR-02 to SR-15, SR-24, SR-27, SR-29, SR-30).

mod common;

use std::future::Future;
use std::io::{self, ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use common::{CountingWaker, complete, on_loop, run_until, settle};
use futures::StreamExt;
use roundelay::{
    EventLoop, IncompleteRead, LimitOverrun, ReadError, StreamReader, StreamWriter, open_connection, start_server,
};
use socket2::SockRef;

/// The output of a future that must be ready at once.
#[track_caller]
fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

/// Polls once; a waker that is not needed.
fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// A reader that was fed this.
fn fed(limit: usize, data: &[u8]) -> StreamReader {
    let reader = StreamReader::new(limit);
    reader.feed_data(data);
    reader
}

/// A connection to a peer that the test works by hand.
fn connect(el: &EventLoop, limit: usize) -> (StreamReader, StreamWriter, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (reader, writer) = complete(el, async { open_connection(address).limit(limit).await }).unwrap();
    let (peer, _) = listener.accept().unwrap();
    peer.set_read_timeout(Some(common::PATIENCE)).unwrap();
    (reader, writer, peer)
}

/// How many bytes the reader holds, by its own account.
fn held(reader: &StreamReader) -> usize {
    let text = format!("{reader:?}");
    match text.split(' ').collect::<Vec<_>>().as_slice() {
        [_, n, word, ..] if word.starts_with("bytes") => n.parse().unwrap(),
        _ => 0,
    }
}

fn overrun(result: Result<Vec<u8>, ReadError>) -> LimitOverrun {
    match result {
        Err(ReadError::Overrun(overrun)) => overrun,
        other => panic!("{other:?}"),
    }
}

fn incomplete(result: Result<Vec<u8>, ReadError>) -> IncompleteRead {
    match result {
        Err(ReadError::Incomplete(incomplete)) => incomplete,
        other => panic!("{other:?}"),
    }
}

// ---------------------------------------------------------------- read

/// SR-02: `read(n)` gives what is there, at most `n`, whatever the limit, and waits only for the first byte.
#[test]
fn read_gives_what_is_there() {
    let mut reader = fed(3, b"twelve bytes");
    assert_eq!(now(reader.read(6)).unwrap(), b"twelve");
    assert_eq!(now(reader.read(100)).unwrap(), b" bytes");
    let feeder = reader.feeder();
    let mut read = pin!(reader.read(100));
    assert!(poll(read.as_mut()).is_pending());
    feeder.feed_data(b"");
    assert!(poll(read.as_mut()).is_pending(), "no bytes are no data");
    feeder.feed_data(b"x");
    assert!(matches!(poll(read), Poll::Ready(Ok(bytes)) if bytes == b"x"));
}

/// SR-02: `read(0)` is empty at once, also while nothing is there.
#[test]
fn read_of_nothing() {
    let mut reader = StreamReader::new(10);
    assert_eq!(now(reader.read(0)).unwrap(), b"");
    reader.feed_data(b"data");
    assert_eq!(now(reader.read(0)).unwrap(), b"");
    assert_eq!(now(reader.read(10)).unwrap(), b"data");
    reader.feed_eof();
    assert_eq!(now(reader.read(0)).unwrap(), b"");
    assert_eq!(now(reader.read(10)).unwrap(), b"", "at the end of the stream there is nothing to wait for");
}

/// SR-02: reading to the end gives all that comes until then, whatever the limit.
#[test]
fn read_to_the_end() {
    let mut reader = fed(1, b"line1\nli");
    let feeder = reader.feeder();
    {
        let mut read = pin!(reader.read_to_end());
        assert!(poll(read.as_mut()).is_pending());
        feeder.feed_data(b"ne2");
        assert!(poll(read.as_mut()).is_pending());
        feeder.feed_eof();
        assert!(matches!(poll(read), Poll::Ready(Ok(bytes)) if bytes == b"line1\nline2"));
    }
    assert_eq!(now(reader.read_to_end()).unwrap(), b"");
}

/// SR-02: bytes after the end of the stream are nobody's.
#[test]
fn nothing_comes_after_the_end() {
    let mut reader = fed(10, b"a");
    reader.feed_eof();
    reader.feed_data(b"b");
    reader.feed_eof();
    assert_eq!(now(reader.read_to_end()).unwrap(), b"a");
}

// ---------------------------------------------------------------- lines and separators

/// SR-03: a line comes with its end; the last one may lack it; after it comes an empty one.
#[test]
fn readline_gives_lines() {
    let mut reader = fed(100, b"chunk1 ");
    let feeder = reader.feeder();
    {
        let mut line = pin!(reader.readline());
        assert!(poll(line.as_mut()).is_pending());
        feeder.feed_data(b"chunk2 ");
        assert!(poll(line.as_mut()).is_pending());
        feeder.feed_data(b"chunk3\nnext\n\nlast");
        assert!(matches!(poll(line), Poll::Ready(Ok(line)) if line == b"chunk1 chunk2 chunk3\n"));
    }
    assert_eq!(now(reader.readline()).unwrap(), b"next\n");
    assert_eq!(now(reader.readline()).unwrap(), b"\n");
    feeder.feed_eof();
    assert_eq!(now(reader.readline()).unwrap(), b"last");
    assert_eq!(now(reader.readline()).unwrap(), b"");
    assert_eq!(now(reader.readline()).unwrap(), b"");
}

/// SR-04: a line of exactly the limit is fine, its end not counted; of a longer one whose end is there the whole line
/// goes, and the rest stays.
#[test]
fn readline_over_the_limit_with_its_end() {
    let mut reader = fed(4, b"four\nfive5\nrest\n");
    assert_eq!(now(reader.readline()).unwrap(), b"four\n");
    assert_eq!(overrun(now(reader.readline())), LimitOverrun { consumed: 5, found: true });
    assert_eq!(now(reader.readline()).unwrap(), b"rest\n");
    assert_eq!(held(&reader), 0);
}

/// SR-04: of a line that is too long and has no end yet, all that has arrived goes.
#[test]
fn readline_over_the_limit_without_its_end() {
    let mut reader = fed(3, b"li");
    let feeder = reader.feeder();
    {
        let mut line = pin!(reader.readline());
        assert!(poll(line.as_mut()).is_pending());
        feeder.feed_data(b"n");
        assert!(poll(line.as_mut()).is_pending(), "three bytes are within the limit");
        feeder.feed_data(b"e1");
        let Poll::Ready(result) = poll(line) else { panic!("it waits") };
        let text = result.as_ref().unwrap_err().to_string();
        assert!(text.contains("separator is not found"), "{text}");
        assert_eq!(overrun(result), LimitOverrun { consumed: 5, found: false });
    }
    assert_eq!(held(&reader), 0);
    feeder.feed_data(b"1\nli\n");
    assert_eq!(now(reader.readline()).unwrap(), b"1\n");
    assert_eq!(now(reader.readline()).unwrap(), b"li\n");
}

/// SR-04: the error of a long line is data that is not valid, and says how much there was.
#[test]
fn a_long_line_as_an_io_error() {
    let error = now(fed(3, b"long line\n").readline()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("separator is found") && text.contains('9'), "{text}");
    let error = io::Error::from(error);
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert_eq!(error.get_ref().unwrap().downcast_ref(), Some(&LimitOverrun { consumed: 9, found: true }));
}

/// SR-05: a separator is found though it comes in pieces, and what looks like one is not.
#[test]
fn readuntil_over_several_pieces() {
    let mut reader = fed(100, b"aa");
    let feeder = reader.feeder();
    {
        let mut piece = pin!(reader.readuntil("XYZ"));
        for part in [&b"aX"[..], b"YX", b"Y"] {
            assert!(poll(piece.as_mut()).is_pending());
            feeder.feed_data(part);
        }
        assert!(poll(piece.as_mut()).is_pending());
        feeder.feed_data(b"Zrest");
        assert!(matches!(poll(piece), Poll::Ready(Ok(piece)) if piece == b"aaaXYXYZ"));
    }
    assert_eq!(now(reader.read(100)).unwrap(), b"rest");
}

/// SR-06: past the limit `readuntil` gives an error and takes nothing, however often it is called.
#[test]
fn readuntil_over_the_limit_keeps_the_bytes() {
    let mut reader = fed(3, b"some dataAA");
    for _ in 0..2 {
        let found = now(reader.readuntil("AA"));
        let text = found.as_ref().unwrap_err().to_string();
        assert!(text.contains("separator is found, but chunk of 9 bytes is longer than limit"), "{text}");
        assert_eq!(overrun(found), LimitOverrun { consumed: 9, found: true });
    }
    assert_eq!(overrun(now(reader.readuntil("BBB"))), LimitOverrun { consumed: 9, found: false });
    assert_eq!(now(reader.readexactly(11)).unwrap(), b"some dataAA", "nothing was lost");
}

/// SR-06: at the limit exactly, the separator not counted, all is well.
#[test]
fn readuntil_at_the_limit() {
    let mut reader = fed(4, b"four--fives--");
    assert_eq!(now(reader.readuntil("--")).unwrap(), b"four--");
    assert_eq!(overrun(now(reader.readuntil("--"))), LimitOverrun { consumed: 5, found: true });
    let mut reader = fed(4, b"fives");
    assert!(poll(pin!(reader.readuntil("--"))).is_pending(), "the last byte could begin a separator");
    reader.feed_data(b"s");
    assert_eq!(overrun(now(reader.readuntil("--"))), LimitOverrun { consumed: 5, found: false });
}

/// SR-07: without a separator before the end of the stream, the error has what there was, and the reader is empty.
#[test]
fn readuntil_at_the_end_of_the_stream() {
    let mut reader = fed(100, b"some dataA");
    reader.feed_eof();
    let result = now(reader.readuntil("AA"));
    let text = result.as_ref().unwrap_err().to_string();
    assert!(text.starts_with("10 bytes read"), "{text}");
    assert_eq!(incomplete(result), IncompleteRead { partial: b"some dataA".to_vec(), expected: None });
    assert!(reader.at_eof());
    assert_eq!(incomplete(now(reader.readuntil("AA"))).partial, b"");
}

/// SR-05: of several separators the one that ends first counts, and of two that end together the shorter one.
#[test]
fn readuntil_with_several_separators() {
    let mut reader = fed(100, b"a;b,c;;d\r\ne");
    assert_eq!(now(reader.readuntil([",", ";;"])).unwrap(), b"a;b,");
    assert_eq!(now(reader.readuntil([&b";;"[..], b";"])).unwrap(), b"c;");
    assert_eq!(now(reader.readuntil(vec!["\n".to_owned(), "\r\n".to_owned()])).unwrap(), b";d\r\n");
    // The shorter one begins later: past the limit, where the longer one would not be.
    let mut reader = fed(1, b"xab");
    assert_eq!(overrun(now(reader.readuntil(["ab", "b"]))), LimitOverrun { consumed: 2, found: true });
}

/// SR-09: no separator, and an empty one, are refused; nothing is read.
#[test]
fn empty_separators_are_refused() {
    let mut reader = fed(100, b"data");
    let refused = |result: Result<Vec<u8>, ReadError>| match result {
        Err(ReadError::Io(error)) => {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("readuntil"), "{error}");
        }
        other => panic!("{other:?}"),
    };
    refused(now(reader.readuntil(b"")));
    refused(now(reader.readuntil("")));
    refused(now(reader.readuntil(["a", ""])));
    refused(now(reader.readuntil(Vec::<Vec<u8>>::new())));
    assert_eq!(held(&reader), 4);
}

/// SR-24: the lines of a stream are a `Stream`; it goes on after a line that was too long, and ends with the stream.
#[test]
fn lines_are_a_stream() {
    let mut reader = fed(10, b"line1\nlonger than the limit\nli");
    let feeder = reader.feeder();
    let mut lines = reader.lines();
    assert_eq!(now(lines.next()).unwrap().unwrap(), b"line1\n");
    assert_eq!(overrun(now(lines.next()).unwrap()).consumed, 21);
    let (wakes, waker) = CountingWaker::new();
    assert!(lines.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
    feeder.feed_data(b"ne2");
    assert_eq!(wakes.count(), 1);
    assert!(lines.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
    feeder.feed_eof();
    assert_eq!(now(lines.next()).unwrap().unwrap(), b"line2");
    assert!(now(lines.next()).is_none());
    assert!(now(lines.next()).is_none());
}

/// SR-24: a failed connection ends the stream of lines, after the lines that had arrived for whoever waited.
#[test]
fn an_error_ends_the_lines() {
    let mut reader = fed(100, b"be");
    let feeder = reader.feeder();
    let mut lines = reader.lines();
    assert!(poll(pin!(lines.next())).is_pending());
    feeder.feed_data(b"fore\nafter");
    feeder.set_exception(&ErrorKind::ConnectionReset.into());
    assert_eq!(now(lines.next()).unwrap().unwrap(), b"before\n");
    assert!(matches!(now(lines.next()), Some(Err(ReadError::Io(error))) if error.kind() == ErrorKind::ConnectionReset));
    assert!(now(lines.next()).is_none());
}

// ---------------------------------------------------------------- exact reads

/// SR-10: `readexactly` waits for all, whatever the limit, and leaves the rest; nothing is nothing.
#[test]
fn readexactly_waits_for_all() {
    let mut reader = fed(1, b"some ");
    assert_eq!(now(reader.readexactly(0)).unwrap(), b"");
    let feeder = reader.feeder();
    {
        let mut read = pin!(reader.readexactly(9));
        assert!(poll(read.as_mut()).is_pending());
        feeder.feed_data(b"dat");
        assert!(poll(read.as_mut()).is_pending());
        feeder.feed_data(b"a and more");
        assert!(matches!(poll(read), Poll::Ready(Ok(bytes)) if bytes == b"some data"));
    }
    assert_eq!(now(reader.readexactly(9)).unwrap(), b" and more");
    assert_eq!(now(reader.readexactly(0)).unwrap(), b"");
}

/// SR-10: at the end of the stream the error has what there was and says how much was asked for.
#[test]
fn readexactly_at_the_end_of_the_stream() {
    let mut reader = fed(1, b"eighteen bytes are");
    reader.feed_eof();
    let error = now(reader.readexactly(36)).unwrap_err();
    assert_eq!(error.to_string(), "18 bytes read on a total of 36 expected bytes");
    let expected = IncompleteRead { partial: b"eighteen bytes are".to_vec(), expected: Some(36) };
    assert_eq!(std::error::Error::source(&error).unwrap().downcast_ref(), Some(&expected));
    let error = io::Error::from(error);
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(error.get_ref().unwrap().downcast_ref(), Some(&expected));
    assert!(reader.at_eof());
    assert_eq!(now(reader.readexactly(0)).unwrap(), b"");
}

// ---------------------------------------------------------------- errors, ends, cancelling

/// SR-11: an error is given by every kind of read from then on, though bytes are there.
#[test]
fn an_error_fails_every_read() {
    let mut reader = fed(100, b"data\n");
    assert!(reader.exception().is_none());
    reader.set_exception(&io::Error::from_raw_os_error(104));
    let is_it = |error: io::Error| assert_eq!(error.raw_os_error(), Some(104), "{error:?}");
    is_it(reader.exception().unwrap());
    is_it(now(reader.read(2)).unwrap_err());
    is_it(now(reader.read(0)).unwrap_err());
    is_it(now(reader.read_to_end()).unwrap_err());
    for result in [
        now(reader.readline()),
        now(reader.readuntil("a")),
        now(reader.readexactly(2)),
        now(reader.readexactly(0)),
        now(reader.lines().next()).unwrap(),
    ] {
        let Err(ReadError::Io(error)) = result else { panic!("{result:?}") };
        is_it(error);
    }
}

/// SR-11: an error of one's own keeps its kind and its text.
#[test]
fn an_error_keeps_its_text() {
    let mut reader = StreamReader::new(10);
    reader.set_exception(&io::Error::new(ErrorKind::TimedOut, "the cat was faster"));
    for _ in 0..2 {
        let error = now(reader.read(1)).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::TimedOut, "the cat was faster"));
    }
}

/// SR-11: an error wakes the one who waits, and so does the end of the stream.
#[test]
fn ends_wake_the_one_who_waits() {
    for end_with_error in [false, true] {
        let mut reader = fed(100, b"par");
        let feeder = reader.feeder();
        let (wakes, waker) = CountingWaker::new();
        let mut cx = Context::from_waker(&waker);
        let mut read = pin!(reader.readexactly(10));
        assert!(read.as_mut().poll(&mut cx).is_pending());
        feeder.feed_data(b"t");
        assert_eq!(wakes.count(), 1);
        assert!(read.as_mut().poll(&mut cx).is_pending());
        if end_with_error {
            feeder.set_exception(&ErrorKind::ConnectionAborted.into());
        }
        // After an error it changes nothing.
        feeder.feed_eof();
        assert_eq!(wakes.count(), 2);
        match read.as_mut().poll(&mut cx) {
            Poll::Ready(Err(ReadError::Io(error))) if end_with_error => {
                assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
            }
            Poll::Ready(Err(ReadError::Incomplete(read))) if !end_with_error => assert_eq!(read.partial, b"part"),
            other => panic!("{other:?}"),
        }
    }
}

/// SR-11: what arrived before the error is given to the one who waited for it.
#[test]
fn what_came_before_an_error_counts() {
    let mut reader = StreamReader::new(100);
    let feeder = reader.feeder();
    {
        let mut read = pin!(reader.read(100));
        assert!(poll(read.as_mut()).is_pending());
        feeder.feed_data(b"last words");
        feeder.set_exception(&ErrorKind::ConnectionReset.into());
        feeder.feed_data(b"too late");
        feeder.feed_eof();
        assert!(matches!(poll(read), Poll::Ready(Ok(bytes)) if bytes == b"last words"));
    }
    assert_eq!(now(reader.read(100)).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

/// SR-11: a read that was given up is not woken for nothing to be lost, and the error is there for the next one.
#[test]
fn an_error_after_a_cancelled_read() {
    let mut reader = StreamReader::new(100);
    assert!(poll(pin!(reader.read(1))).is_pending());
    reader.set_exception(&ErrorKind::BrokenPipe.into());
    assert_eq!(now(reader.read(1)).unwrap_err().kind(), ErrorKind::BrokenPipe);
}

/// api 5: no read loses what has arrived when it is given up.
#[test]
fn a_cancelled_read_loses_nothing() {
    let mut reader = fed(100, b"ab");
    assert!(poll(pin!(reader.readexactly(4))).is_pending());
    reader.feed_data(b"c");
    assert!(poll(pin!(reader.readline())).is_pending());
    assert!(poll(pin!(reader.read_to_end())).is_pending());
    assert!(poll(pin!(reader.lines().next())).is_pending());
    assert!(poll(pin!(reader.readuntil("--"))).is_pending());
    reader.feed_data(b"d");
    assert_eq!(now(reader.read(100)).unwrap(), b"abcd");
}

/// SR-12: the stream is at its end when that has come *and* everything was read.
#[test]
fn at_eof_when_all_is_read() {
    let mut reader = StreamReader::new(100);
    assert!(!reader.at_eof());
    reader.feed_data(b"some data\n");
    assert!(!reader.at_eof());
    reader.feed_eof();
    assert!(!reader.at_eof());
    assert_eq!(now(reader.readline()).unwrap(), b"some data\n");
    assert!(reader.at_eof());
}

/// SR-13: a limit of zero is refused, by each of the ways to set one.
#[test]
fn a_limit_of_zero_is_refused() {
    on_loop(|el| {
        let payload = catch_unwind(AssertUnwindSafe(|| StreamReader::new(0))).unwrap_err();
        let text = payload.downcast_ref::<&str>().unwrap();
        assert!(text.contains("the limit must be above zero"), "{text}");
        let refused = complete(el, async { open_connection(("127.0.0.1", 1)).limit(0).await }).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        assert!(refused.to_string().contains("open_connection"), "{refused}");
        let refused = complete(el, async { start_server(async |_, _| (), ("127.0.0.1", 0)).limit(0).await });
        assert!(refused.unwrap_err().to_string().contains("start_server"));
    });
}

/// SR-29: the text of a reader says what it holds and what it waits for.
#[test]
fn a_reader_as_text() {
    let text = |reader: &StreamReader| format!("{reader:?}");
    let mut reader = StreamReader::new(64 * 1024);
    assert_eq!(text(&reader), "<StreamReader>");
    reader.feed_data(b"data");
    assert_eq!(text(&reader), "<StreamReader 4 bytes>");
    assert!(poll(pin!(reader.readexactly(5))).is_pending());
    assert_eq!(text(&reader), "<StreamReader 4 bytes waiter>");
    reader.feed_eof();
    assert_eq!(text(&reader), "<StreamReader 4 bytes eof>");
    reader = StreamReader::new(123);
    assert_eq!((text(&reader), reader.limit()), ("<StreamReader limit=123>".to_owned(), 123));
    reader.set_exception(&io::Error::other("oh"));
    assert_eq!(text(&reader), "<StreamReader limit=123 exception=oh>");
    assert_eq!(format!("{:?}", reader.feeder()), "<StreamFeeder limit=123 exception=oh>");
}

/// SR-15, P40: two reads at once are no question of run time: a read takes the reader by `&mut`. A feeder may work meanwhile,
/// also from a protocol of the application's own.
///
/// (That the second read does not compile is shown by the signature: `read(&mut self)`.)
#[test]
fn a_feeder_works_while_a_task_reads() {
    on_loop(|el| {
        let mut reader = StreamReader::new(10);
        let feeder = reader.feeder();
        let task = el.create_task(async move {
            let first = reader.readline().await.unwrap();
            (first, reader.read_to_end().await.unwrap())
        });
        settle(el);
        feeder.feed_data(b"one\ntw");
        settle(el);
        feeder.clone().feed_data(b"o");
        feeder.feed_eof();
        let (first, rest) = complete(el, task).unwrap();
        assert_eq!((first.as_slice(), rest.as_slice()), (&b"one\n"[..], &b"two"[..]));
        feeder.feed_data(b"to nobody");
        assert_eq!(format!("{feeder:?}"), "<StreamFeeder eof limit=10>");
    });
}

/// SR-25: what is fed to a reader that is gone is dropped.
#[test]
fn a_reader_that_is_gone_holds_nothing() {
    let reader = fed(10, b"data");
    let feeder = reader.feeder();
    drop(reader);
    feeder.feed_data(&[0; 100_000]);
    assert_eq!(format!("{feeder:?}"), "<StreamFeeder limit=10>");
}

/// api 4: a burst's memory is not kept by the reader, nor handed out with small reads.
#[test]
fn a_burst_leaves_no_memory_behind() {
    let mut reader = fed(1024, &[7; 1_000_000]);
    for _ in 0..100 {
        assert!(now(reader.read(10_000)).unwrap().capacity() < 20_000);
    }
    reader.feed_data(b"small");
    let small = now(reader.read(100)).unwrap();
    assert!(small.capacity() < 16_000, "{} bytes for {}", small.capacity(), small.len());
}

// ---------------------------------------------------------------- connections

on_every_loop! {
    /// SR-14: the transport is paused when more than twice the limit is held, and resumed when no more than the limit
    /// is. With a limit of 10: 20 bytes are fine, 21 pause, 11 left stay paused, 10 left resume.
    fn paused_above_twice_the_limit(el) {
        let (mut reader, writer, mut peer) = connect(el, 10);
        let is_reading = || writer.transport().is_reading();
        peer.write_all(&[1; 20]).unwrap();
        run_until(el, || held(&reader) == 20);
        assert!(is_reading());
        peer.write_all(&[2; 1]).unwrap();
        run_until(el, || !is_reading());
        assert_eq!(held(&reader), 21);
        assert!(format!("{reader:?}").ends_with(" paused>"));

        // What comes now stays with the kernel.
        peer.write_all(&[3; 5]).unwrap();
        settle(el);
        assert_eq!(held(&reader), 21);
        assert_eq!(now(reader.read(10)).unwrap(), [1; 10]);
        assert!(!is_reading(), "11 are left");
        assert_eq!(now(reader.read(1)).unwrap(), [1]);
        assert!(is_reading(), "10 are left");
        run_until(el, || held(&reader) == 15);
        assert_eq!(now(reader.read(100)).unwrap(), [1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 3, 3, 3, 3, 3]);
    }

    /// SR-14: whoever asks for more than twice the limit gets it: the wait resumes the transport.
    fn asking_for_more_resumes(el) {
        let (mut reader, writer, mut peer) = connect(el, 10);
        peer.write_all(&[1; 30]).unwrap();
        run_until(el, || !writer.transport().is_reading());
        let task = el.create_task(async move { (reader.readexactly(1000).await, reader) });
        settle(el);
        for _ in 0..10 {
            peer.write_all(&[1; 100]).unwrap();
        }
        let (read, mut reader) = complete(el, task).unwrap();
        assert_eq!(read.unwrap(), [1; 1000]);
        drop(peer);
        assert_eq!(complete(el, reader.read_to_end()).unwrap(), [1; 30]);
    }

    /// SR-14: a peer that sends more than is read is stopped by the kernel's buffers; nothing is lost.
    fn back_pressure_reaches_the_peer(el) {
        let (mut reader, _writer, mut peer) = connect(el, 1000);
        SockRef::from(&peer).set_send_buffer_size(16 * 1024).unwrap();
        peer.set_nonblocking(true).unwrap();
        let mut sent: usize = 0;
        let piece: Vec<u8> = (0..=255).cycle().take(256 * 37).collect();
        // Sends until nothing more goes, though the loop has had its chance.
        loop {
            match peer.write(&piece[sent % 256..]) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let before = held(&reader);
                    settle(el);
                    if held(&reader) == before {
                        break;
                    }
                }
                Err(error) => panic!("{error}"),
            }
            assert!(sent < 64 << 20, "nothing stops the peer");
        }
        assert!(held(&reader) <= 2 * 1000 + 256 * 1024, "{} bytes are held", held(&reader));
        drop(peer);
        let all = complete(el, reader.read_to_end()).unwrap();
        assert_eq!(all.len(), sent);
        assert!(all.iter().enumerate().all(|(i, &byte)| byte == i as u8));
    }

    /// SR-14: a line that is longer than twice the limit is an error, not a deadlock, and the stream goes on.
    fn an_endless_line_is_no_deadlock(el) {
        let (mut reader, writer, mut peer) = connect(el, 100);
        peer.write_all(&[b'x'; 5000]).unwrap();
        run_until(el, || !writer.transport().is_reading());
        assert!(!overrun(complete(el, reader.readline())).found);
        peer.write_all(b"x\nnext\n").unwrap();
        let next = complete(el, async {
            loop {
                match reader.readline().await {
                    Err(ReadError::Overrun(_)) => {}
                    Ok(line) if line.starts_with(b"x") => {}
                    line => return line,
                }
            }
        });
        assert_eq!(next.unwrap(), b"next\n");
    }

    /// SR-27: with a limit of one byte everything is read all the same.
    fn a_limit_of_one_byte(el) {
        let (mut reader, _writer, mut peer) = connect(el, 1);
        let data: Vec<u8> = (0..100_000).map(|i| (i % 251) as u8).collect();
        let expected = data.clone();
        let sender = std::thread::spawn(move || peer.write_all(&data).unwrap());
        assert_eq!(complete(el, reader.read_to_end()).unwrap(), expected);
        sender.join().unwrap();
    }

    /// SR-05, SR-10: over a connection the pieces do not matter either.
    fn a_conversation_in_pieces(el) {
        let (mut reader, _writer, mut peer) = connect(el, 100);
        let stream = b"first line\nkey: value\r\n\r\n12345rest";
        let task = el.create_task(async move {
            let line = reader.readline().await.unwrap();
            let head = reader.readuntil("\r\n\r\n").await.unwrap();
            let body = reader.readexactly(5).await.unwrap();
            [line, head, body, reader.read_to_end().await.unwrap()]
        });
        for byte in stream {
            peer.write_all(&[*byte]).unwrap();
            settle(el);
        }
        drop(peer);
        let expected: [&[u8]; 4] = [b"first line\n", b"key: value\r\n\r\n", b"12345", b"rest"];
        assert_eq!(complete(el, task).unwrap(), expected);
    }

    /// SR-30: a reset of the connection is given to the read that waits, with the system's code, and to every later one.
    fn a_reset_fails_the_waiting_read(el) {
        let (mut reader, writer, peer) = connect(el, 100);
        let task = el.create_task(async move { ([reader.read(10).await, reader.read(10).await], reader) });
        settle(el);
        SockRef::from(&peer).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(peer);
        let (results, reader) = complete(el, task).unwrap();
        for result in results {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            assert!(error.raw_os_error().is_some(), "the system's code is kept");
        }
        assert_eq!(reader.exception().unwrap().kind(), ErrorKind::ConnectionReset);
        let error = complete(el, writer.wait_closed()).unwrap_err();
        assert_eq!(error.raw_os_error(), reader.exception().unwrap().raw_os_error());
    }

    /// SR-25: a reader that was dropped does not hold the peer up: what comes is taken and dropped, and the writing half
    /// goes on and hears of the end.
    fn a_dropped_reader_takes_all(el) {
        let (reader, mut writer, mut peer) = connect(el, 10);
        peer.write_all(&[1; 100]).unwrap();
        run_until(el, || !writer.transport().is_reading());
        drop(reader);
        let sender = std::thread::spawn(move || {
            peer.write_all(&vec![1; 16 << 20]).unwrap();
            peer
        });
        run_until(el, || sender.is_finished());
        let mut peer = sender.join().unwrap();
        writer.write(b"still here");
        let mut answer = [0; 10];
        io::Read::read_exact(&mut peer, &mut answer).unwrap();
        assert_eq!(&answer, b"still here");
        SockRef::from(&peer).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(peer);
        assert_eq!(complete(el, writer.wait_closed()).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

//! Streams: readers, writers.

use std::io;
use std::rc::Rc;

use roundelay::{EventLoop, ReadError, StreamReader, StreamWriter, open_connection};

use crate::common::Log;
use crate::oracle::same;
use crate::support::{Peer, SECOND, connected, describe, settle, socket_pair, tcp_pair, turns, yes};

/// Says what came of a read.
fn tell<E: Into<ReadError>>(log: &Log, what: &str, read: Result<Vec<u8>, E>) {
    let said = match read.map_err(Into::into) {
        Ok(data) => describe(&data),
        Err(ReadError::Incomplete(error)) => {
            let expected = error.expected.map_or("None".into(), |expected| expected.to_string());
            format!("incomplete {} {expected}", describe(&error.partial))
        }
        Err(ReadError::Overrun(error)) if what == "line" => {
            assert!(error.consumed > 0);
            "overrun".into()
        }
        Err(ReadError::Overrun(error)) => format!("overrun {}", error.consumed),
        Err(_) => "error".into(),
    };
    log.push(format!("{what} {said}"));
}

/// SR-03, SR-12: lines, an empty one, one without an end, and none.
#[test]
fn lines() {
    connected("lines", async |_, log| {
        let mut reader = StreamReader::new(100);
        reader.feed_data(b"one\ntwo\n\nthree");
        for _ in 0..3 {
            tell(&log, "line", reader.readline().await);
        }
        yes(&log, "at eof", reader.at_eof());
        reader.feed_eof();
        yes(&log, "at eof", reader.at_eof());
        tell(&log, "line", reader.readline().await);
        tell(&log, "line", reader.readline().await);
        yes(&log, "at eof", reader.at_eof());
    });
}

/// SR-02, SR-10: so many bytes, at most and exactly.
#[test]
fn pieces() {
    connected("pieces", async |_, log| {
        let mut reader = StreamReader::new(100);
        reader.feed_data(b"0123456789");
        tell(&log, "exactly", reader.readexactly(3).await);
        tell(&log, "exactly", reader.readexactly(0).await);
        tell(&log, "read", reader.read(0).await);
        tell(&log, "read", reader.read(2).await);
        tell(&log, "read", reader.read(100).await);
        reader.feed_data(b"abc");
        reader.feed_eof();
        tell(&log, "exactly", reader.readexactly(5).await);
        tell(&log, "exactly", reader.readexactly(1).await);
        tell(&log, "read", reader.read(1).await);
    });
}

/// A stream over a pair of sockets.
async fn open_stream(limit: usize) -> (StreamReader, StreamWriter, Peer) {
    let (own, peer) = socket_pair();
    let (reader, writer) = open_connection(own.take()).limit(limit).await.unwrap();
    (reader, writer, peer)
}

async fn close(mut writer: StreamWriter) {
    writer.close();
    writer.wait_closed().await.unwrap();
}

/// Sends pieces, one a turn, and the end.
fn send_in_turns(el: &EventLoop, peer: &Peer, pieces: &'static [&'static str]) {
    let Some((piece, rest)) = pieces.split_first() else {
        return peer.shutdown();
    };
    peer.send(piece.as_bytes());
    let (handle, peer) = (el.clone(), peer.clone());
    el.call_soon(move || send_in_turns(&handle, &peer, rest));
}

/// SR-02: everything until the end, also more than the limit.
#[test]
fn rest() {
    connected("rest", async |el, log| {
        let mut reader = StreamReader::new(100);
        reader.feed_data(b"0123456789");
        reader.feed_eof();
        tell(&log, "rest", reader.read_to_end().await);
        tell(&log, "rest", reader.read_to_end().await);
        let (mut reader, writer, peer) = open_stream(3).await;
        send_in_turns(&el, &peer, &["01234567", "89", "abcdefgh"]);
        tell(&log, "rest", reader.read_to_end().await);
        tell(&log, "rest", reader.read_to_end().await);
        close(writer).await;
    });
}

/// SR-05, SR-07: up to a separator.
#[test]
fn separators() {
    connected("separators", async |_, log| {
        let mut reader = StreamReader::new(100);
        reader.feed_data(b"a--b-c---d-");
        for _ in 0..2 {
            tell(&log, "until", reader.readuntil("--").await);
        }
        reader.feed_data(b"-e-");
        tell(&log, "until", reader.readuntil("--").await);
        reader.feed_eof();
        tell(&log, "until", reader.readuntil("--").await);
        tell(&log, "until", reader.readuntil("--").await);
    });
}

/// SR-05: a separator that arrives in parts.
#[test]
fn separator_in_parts() {
    connected("separator_in_parts", async |el, log| {
        let (mut reader, writer, peer) = open_stream(65536).await;
        send_in_turns(&el, &peer, &["abc<en<e", "nd", ">rest"]);
        tell(&log, "until", reader.readuntil("<end>").await);
        tell(&log, "exactly", reader.readexactly(4).await);
        tell(&log, "until", reader.readuntil("<end>").await);
        close(writer).await;
    });
}

/// SR-06, SR-07: what is over the limit, by how much, and that it stays in the reader.
#[test]
fn limits_of_readuntil() {
    connected("limits_of_readuntil", async |_, log| {
        for fed in ["0123456789;", "0123456789a;", "0123456789", "0123456789a", "0123456789abc"] {
            let mut reader = StreamReader::new(10);
            reader.feed_data(fed.as_bytes());
            reader.feed_eof();
            tell(&log, fed, reader.readuntil(";").await);
            tell(&log, "then", reader.read(100).await);
        }
        for fed in ["012345678<>", "0123456789<>", "0123456789a<>", "0123456789a", "0123456789ab"] {
            let mut reader = StreamReader::new(10);
            reader.feed_data(fed.as_bytes());
            reader.feed_eof();
            tell(&log, fed, reader.readuntil("<>").await);
            tell(&log, "then", reader.read(100).await);
        }
    });
}

/// SR-04: a line that is too long is dropped, and what follows it stays.
#[test]
fn limits_of_readline() {
    connected("limits_of_readline", async |_, log| {
        for fed in ["0123456789\nnext\n", "0123456789a\nnext\n", "0123456789abc"] {
            let mut reader = StreamReader::new(10);
            reader.feed_data(fed.as_bytes());
            reader.feed_eof();
            tell(&log, "line", reader.readline().await);
            tell(&log, "then", reader.read(100).await);
        }
    });
}

/// SR-03: whoever waits for data goes on in the turn after its arrival.
#[test]
fn reader_wakes_in_the_next_turn() {
    same("reader_wakes_in_the_next_turn", |el, log| {
        let (mut reader, writer, peer) = el.run_until_complete(open_stream(65536)).unwrap();
        let own = log.clone();
        let task = el.create_task(async move {
            own.push("waits");
            tell(&own, "line", reader.readline().await);
            tell(&own, "line", reader.readline().await);
        });
        turns(el, log, 1);
        peer.send(b"one\ntwo\n");
        let next = |now: &'static str, then: &'static str| {
            let (handle, own) = (el.clone(), log.clone());
            move || {
                own.push(now);
                handle.call_soon(own.entry(then));
            }
        };
        el.call_soon(next("before", "next turn, first"));
        el.call_at(el.time() - SECOND, next("after", "next turn, last"));
        turns(el, log, 2);
        yes(log, "done", task.is_done());
        drop(writer);
    });
}

/// SR-11: an error is given to every read, though there is data.
#[test]
fn error_of_a_reader() {
    connected("error_of_a_reader", async |_, log| {
        let mut reader = StreamReader::new(100);
        reader.feed_data(b"data");
        reader.set_exception(&io::ErrorKind::ConnectionReset.into());
        tell(&log, "exactly", reader.readexactly(2).await);
        tell(&log, "read", reader.read(1).await);
        tell(&log, "line", reader.readline().await);
    });
}

/// SR-11, SR-19, SR-30: a reset is told to every read, to `drain` and to `wait_closed`.
#[test]
fn reset_of_a_stream() {
    connected("reset_of_a_stream", async |el, log| {
        let (own, peer) = tcp_pair();
        let (mut reader, mut writer) = open_connection(own.take()).await.unwrap();
        peer.send(b"data");
        tell(&log, "exactly", reader.readexactly(2).await);
        let own = log.clone();
        let task = el.create_task(async move {
            tell(&own, "exactly", reader.readexactly(10).await);
            reader
        });
        settle().await;
        peer.reset();
        let mut reader = task.await.unwrap();
        tell(&log, "read", reader.read(1).await);
        yes(&log, "closing", writer.is_closing());
        if writer.drain().await.is_err() {
            log.push("drain error");
        }
        writer.close();
        if writer.wait_closed().await.is_err() {
            log.push("wait_closed error");
        }
    });
}

/// SR-14, P39: the transport is paused above twice the limit and resumed at the limit.
#[test]
fn reader_pauses_its_transport() {
    connected("reader_pauses_its_transport", async |_, log| {
        let (mut reader, writer, peer) = open_stream(10).await;
        let transport = writer.transport().clone();
        for count in [20, 1, 1] {
            peer.send(&vec![b'x'; count]);
            settle().await;
            yes(&log, "reading", transport.is_reading());
        }
        for count in [10, 1, 1] {
            tell(&log, "read", reader.read(count).await);
            yes(&log, "reading", transport.is_reading());
        }
        settle().await;
        tell(&log, "read", reader.read(100).await);
        peer.send(&[b'x'; 50]);
        settle().await;
        yes(&log, "reading", transport.is_reading());
        tell(&log, "exactly", reader.readexactly(40).await);
        yes(&log, "reading", transport.is_reading());
        close(writer).await;
    });
}

/// SR-10, SR-14: so many bytes that the transport has to be resumed for them.
#[test]
fn more_than_the_limit_exactly() {
    connected("more_than_the_limit_exactly", async |el, log| {
        let (mut reader, writer, peer) = open_stream(10).await;
        peer.send(&[b'x'; 30]);
        settle().await;
        let own = log.clone();
        let task = el.create_task(async move {
            tell(&own, "exactly", reader.readexactly(35).await);
            reader
        });
        settle().await;
        peer.send(&[b'y'; 30]);
        let mut reader = task.await.unwrap();
        settle().await;
        tell(&log, "read", reader.read(100).await);
        close(writer).await;
    });
}

/// SR-12, SR-21: after the end of file the writing half goes on.
#[test]
fn end_of_a_stream() {
    connected("end_of_a_stream", async |_, log| {
        let (mut reader, mut writer, peer) = open_stream(65536).await;
        peer.send(b"last");
        peer.shutdown();
        settle().await;
        yes(&log, "at eof", reader.at_eof());
        tell(&log, "read", reader.read(100).await);
        yes(&log, "at eof", reader.at_eof());
        tell(&log, "read", reader.read(100).await);
        yes(&log, "closing", writer.is_closing());
        writer.write(b"answer");
        writer.drain().await.unwrap();
        log.push(peer.received());
        writer.close();
        yes(&log, "closing", writer.is_closing());
        writer.wait_closed().await.unwrap();
        log.push("closed");
        log.push(peer.received());
    });
}

/// SR-20: closing the writer ends the reader.
#[test]
fn close_wakes_a_reader() {
    connected("close_wakes_a_reader", async |el, log| {
        let (mut reader, mut writer, _peer) = open_stream(65536).await;
        let own = log.clone();
        let task = el.create_task(async move { tell(&own, "read", reader.read(100).await) });
        settle().await;
        writer.close();
        el.call_soon(log.entry("soon"));
        task.await.unwrap();
        writer.wait_closed().await.unwrap();
        log.push("closed");
    });
}

/// SR-16: `drain` takes no turn where there is room, and an error one while the connection is closing.
#[test]
fn drain_takes_no_turn() {
    connected("drain_takes_no_turn", async |el, log| {
        let (_reader, mut writer, _peer) = open_stream(65536).await;
        el.call_soon(log.entry("soon"));
        writer.write(b"small");
        writer.drain().await.unwrap();
        log.push("drained");
        settle().await;
        writer.close();
        el.call_soon(log.entry("soon too"));
        log.push(if writer.drain().await.is_ok() { "drained" } else { "error" });
        writer.wait_closed().await.unwrap();
    });
}

/// SR-17: several that drain go on in the order in which they came.
#[test]
fn drains_in_order() {
    connected("drains_in_order", async |el, log| {
        let (_reader, mut writer, peer) = open_stream(65536).await;
        writer.write(&[b'x'; 1_000_000]);
        let writer = Rc::new(writer);
        let tasks = ["x", "y", "z"].map(|name| {
            let (own, writer) = (log.clone(), writer.clone());
            el.create_task(async move {
                own.push(format!("{name} waits"));
                writer.drain().await.unwrap();
                own.push(format!("{name} goes on {}", writer.transport().write_buffer_size()));
            })
        });
        settle().await;
        log.push(peer.collect().await);
        for task in tasks {
            task.await.unwrap();
        }
        close(Rc::into_inner(writer).unwrap()).await;
    });
}

/// SR-18: whoever waits in `drain` when the connection is aborted goes on; whoever drains after that hears of it.
#[test]
fn drain_of_a_lost_connection() {
    connected("drain_of_a_lost_connection", async |el, log| {
        let (_reader, mut writer, _peer) = open_stream(65536).await;
        writer.write(&[b'x'; 1_000_000]);
        let writer = Rc::new(writer);
        let drain = |name: &'static str| {
            let (own, writer) = (log.clone(), writer.clone());
            async move {
                let said = if writer.drain().await.is_ok() { "drained" } else { "error" };
                own.push(format!("{name} {said}"));
            }
        };
        let task = el.create_task(drain("waiting"));
        settle().await;
        writer.transport().abort();
        el.call_soon(log.entry("soon"));
        task.await.unwrap();
        drain("late").await;
    });
}

/// SR-19: `wait_closed` waits for what is queued.
#[test]
fn flush_before_close() {
    connected("flush_before_close", async |el, log| {
        let (_reader, mut writer, peer) = open_stream(65536).await;
        writer.write(&[b'x'; 1_000_000]);
        let closing = el.create_task(close(writer));
        let (mut total, mut end) = (0, "");
        while !closing.is_done() {
            let (data, now) = peer.receive();
            (total, end) = (total + data.len(), now);
            settle().await;
        }
        log.push("closed");
        let (data, now) = peer.receive();
        assert!(end.is_empty());
        log.push(format!("{} bytes{now}", total + data.len()));
    });
}

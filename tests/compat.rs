//! The halves of a stream as types of the `futures` traits.

mod common;
mod wire;

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use common::{CountingWaker, complete, run_until, settle};
use futures::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use roundelay::{CompatReader, CompatWriter, EventLoop, StreamReader};
use wire::{NETS, Net, Peer, Record, Tap, connect_narrow, pattern};

fn halves(el: &EventLoop, net: Net) -> (CompatReader, CompatWriter, Peer) {
    let (transport, peer) = connect_narrow(el, net, Tap::new(&Record::new()));
    let (reader, writer) = complete(el, async { transport.into_stream().unwrap() });
    (reader.compat(), writer.compat(), peer)
}

on_every_loop! {
    /// Reading in all ways that the traits know, to the end of the stream.
    fn reading(el) {
        for net in NETS {
            let (mut reader, writer, peer) = halves(el, net);
            peer.send(b"one\ntwo\nthree");
            let mut line = String::new();
            complete(el, reader.read_line(&mut line)).unwrap();
            assert_eq!(line, "one\n");
            let mut some = [0; 2];
            complete(el, reader.read_exact(&mut some)).unwrap();
            assert_eq!(&some, b"tw");
            assert_eq!(complete(el, reader.read(&mut [])).unwrap(), 0);
            let data = pattern(400_000);
            let mut rest = Vec::new();
            let mut sent = 0;
            let task = el.create_task(async move {
                reader.read_to_end(&mut rest).await.unwrap();
                assert!(reader.get_ref().at_eof() && reader.fill_buf().await.unwrap().is_empty());
                rest
            });
            run_until(el, || {
                sent += peer.send_some(&data[sent..]);
                sent == data.len()
            });
            peer.send_eof();
            let rest = complete(el, task).unwrap();
            assert_eq!(&rest[..7], b"o\nthree");
            assert!(rest[7..] == data);
            drop(writer);
        }
    }

    /// Writing waits while the queue is above its mark, and goes on at the low one; flushing waits for the last byte.
    fn writing_waits(el) {
        for net in NETS {
            let (_reader, mut writer, peer) = halves(el, net);
            let data = pattern(1_000_000);
            let (counter, waker) = CountingWaker::new();
            let mut cx = Context::from_waker(&waker);
            let mut written = 0;
            while let Poll::Ready(n) = Pin::new(&mut writer).poll_write(&mut cx, &data[written..]) {
                let n = n.unwrap();
                assert!(n <= 256 * 1024, "{n} at once");
                written += n;
                assert!(written < data.len(), "the kernel took it all: the test needs more");
            }
            let transport = writer.get_ref().transport().clone();
            assert!(transport.write_buffer_size() > 64 * 1024);
            assert!(Pin::new(&mut writer).poll_flush(&mut cx).is_pending());
            assert_eq!(counter.count(), 0);
            run_until(el, || peer.count() > 0 && counter.count() > 0);
            assert!(transport.write_buffer_size() <= 16 * 1024);
            let rest = data[written..].to_vec();
            let task = el.create_task(async move {
                writer.write_all(&rest).await.unwrap();
                writer.flush().await.unwrap();
                assert_eq!(writer.get_ref().transport().write_buffer_size(), 0);
                writer
            });
            run_until(el, || peer.count() == data.len());
            assert!(peer.received() == data);
            complete(el, task).unwrap();
        }
    }

    /// Closing flushes, and ends the writing half; reading goes on, a second close does nothing, and a write is an error
    /// that nobody else hears of.
    fn closing_ends_the_writing_half(el) {
        for net in NETS {
            let (mut reader, mut writer, peer) = halves(el, net);
            let data = pattern(500_000);
            let sent = data.clone();
            let task = el.create_task(async move {
                writer.write_all(&sent).await.unwrap();
                writer.close().await.unwrap();
                assert_eq!(writer.get_ref().transport().write_buffer_size(), 0);
                writer.close().await.unwrap();
                writer
            });
            run_until(el, || peer.at_eof());
            assert!(peer.received() == data);
            let mut writer = complete(el, task).unwrap();
            let error = complete(el, writer.write(b"x")).unwrap_err();
            assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::BrokenPipe, "the writing half was closed".into()));
            let pieces = [IoSlice::new(b"x")];
            assert_eq!(complete(el, writer.write_vectored(&pieces)).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
            peer.send(b"answer");
            let mut answer = [0; 6];
            complete(el, reader.read_exact(&mut answer)).unwrap();
            assert_eq!(&answer, b"answer");
            let mut writer = writer.into_inner();
            writer.close();
            let mut writer = writer.compat();
            let error = complete(el, writer.write(b"x")).unwrap_err();
            assert!(
                matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset),
                "{error:?}"
            );
        }
    }

    /// Several pieces go in one call, at most 256 KiB of them.
    fn several_pieces(el) {
        for net in NETS {
            let (_reader, mut writer, peer) = halves(el, net);
            let n = complete(el, writer.write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"c")]));
            assert_eq!(n.unwrap(), 3);
            assert_eq!(complete(el, writer.write_vectored(&[])).unwrap(), 0);
            let much = pattern(300_000);
            let n = complete(el, writer.write_vectored(&[IoSlice::new(&much), IoSlice::new(b"x")])).unwrap();
            assert_eq!(n, 256 * 1024);
            run_until(el, || peer.count() == 3 + n);
            let n = complete(el, writer.write_vectored(&[IoSlice::new(b"y"), IoSlice::new(&much)])).unwrap();
            assert_eq!(n, 1);
            run_until(el, || peer.count() == 4 + 256 * 1024);
        }
    }

    /// What arrived before the connection failed is read before the error; a write that waits gets it, too.
    fn the_connection_fails(el) {
        let (mut reader, mut writer, peer) = halves(el, Net::Tcp);
        peer.send(b"before");
        run_until(el, || format!("{reader:?}").contains("6 bytes"));
        let data = pattern(2_000_000);
        let task = el.create_task(async move {
            let error = writer.write_all(&data).await.unwrap_err();
            (error, writer)
        });
        settle(el);
        assert!(!task.is_done());
        peer.reset();
        let (error, mut writer) = complete(el, task).unwrap();
        let gone = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
        assert!(gone.contains(&error.kind()), "{error:?}");
        assert!(gone.contains(&complete(el, writer.flush()).unwrap_err().kind()));
        assert!(gone.contains(&complete(el, writer.close()).unwrap_err().kind()));
        assert!(gone.contains(&complete(el, writer.write(b"x")).unwrap_err().kind()));
        let mut data = [0; 6];
        complete(el, reader.read_exact(&mut data)).unwrap();
        assert_eq!(&data, b"before");
        assert!(gone.contains(&complete(el, reader.read(&mut data)).unwrap_err().kind()));
    }

    /// A task that writes to a peer that takes everything leaves the others their turns.
    fn a_writer_within_its_budget(el) {
        for net in NETS {
            let (_reader, mut writer, peer) = halves(el, net);
            let others = std::rc::Rc::new(std::cell::Cell::new(0));
            let (counts, log) = (others.clone(), common::Log::new());
            let done = log.clone();
            let task = el.create_task(async move {
                for _ in 0..1000 {
                    writer.write_all(b"x").await.unwrap();
                }
                done.push("done");
                writer
            });
            let other = el.create_task(async move {
                loop {
                    counts.set(counts.get() + 1);
                    roundelay::yield_now().await;
                }
            });
            run_until(el, || {
                peer.pump();
                log.len() == 1
            });
            assert!(others.get() >= 4, "{} turns for the others", others.get());
            drop((complete(el, task).unwrap(), other.cancel_on_drop()));
        }
    }
}

/// What was lent and not consumed is in the reader again, before all others; and reads of both kinds mix.
#[test]
fn back_to_the_reader() {
    common::on_loop(|el| {
        let reader = StreamReader::new(1024);
        reader.feed_data(b"0123456789");
        let feeder = reader.feeder();
        let mut reader = reader.compat();
        assert_eq!(complete(el, reader.fill_buf()).unwrap(), b"0123456789");
        reader.consume_unpin(3);
        feeder.feed_data(b"abc");
        let mut two = [0; 2];
        complete(el, reader.read_exact(&mut two)).unwrap();
        assert_eq!(&two, b"34");
        assert!(format!("{reader:?}").contains("lent: 5"), "{reader:?}");
        let mut reader = reader.into_inner();
        feeder.feed_eof();
        assert_eq!(complete(el, reader.read_to_end()).unwrap(), b"56789abc");
        let reader = reader.compat();
        assert!(reader.into_inner().at_eof());
    });
}

/// A read that is given up takes nothing.
#[test]
fn a_read_that_is_given_up() {
    common::on_loop(|el| {
        let mut reader = StreamReader::new(1024).compat();
        let feeder = reader.get_ref().feeder();
        let mut bytes = [0; 4];
        let (counter, waker) = CountingWaker::new();
        let mut cx = Context::from_waker(&waker);
        assert!(Pin::new(&mut reader.read(&mut bytes)).poll(&mut cx).is_pending());
        feeder.feed_data(b"data");
        assert_eq!(counter.count(), 1);
        complete(el, reader.read_exact(&mut bytes)).unwrap();
        assert_eq!(&bytes, b"data");
    });
}

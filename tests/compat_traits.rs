//! The traits of others: one stream type has all of them, and each does the same.
#![cfg(all(feature = "tokio", feature = "hyper"))]

mod common;
mod wire;

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use common::{CountingWaker, complete, run_until, settle};
use roundelay::compat::ThreadBound;
use roundelay::{
    AsyncFd, CompatReader, CompatWriter, EventLoop, LoopClosed, OwnedReadHalf, OwnedWriteHalf, TcpStream,
    TransportStream, UnixStream,
};
use wire::{Net, Peer, Record, Tap, pattern, sockets};

/// Which type has which trait.
#[test]
fn every_type_has_every_trait() {
    fn reads<T: futures::AsyncRead + tokio::io::AsyncRead + hyper::rt::Read + Unpin>() {}
    fn reads_buffered<T: futures::AsyncBufRead + tokio::io::AsyncBufRead>() {}
    fn writes<T: futures::AsyncWrite + tokio::io::AsyncWrite + hyper::rt::Write + Unpin>() {}
    fn is_sent<T: Send + Sync>() {}
    macro_rules! check {
        ($($check:ident: $($type:ty)*;)*) => { $($($check::<$type>();)*)* };
    }
    check! {
        reads: TcpStream UnixStream OwnedReadHalf OwnedReadHalf<UnixStream> CompatReader TransportStream;
        reads: AsyncFd<std::fs::File> &AsyncFd<std::fs::File> ThreadBound<TcpStream>;
        reads_buffered: TcpStream UnixStream OwnedReadHalf OwnedReadHalf<UnixStream> CompatReader TransportStream;
        reads_buffered: ThreadBound<TcpStream>;
        writes: TcpStream UnixStream OwnedWriteHalf OwnedWriteHalf<UnixStream> CompatWriter TransportStream;
        writes: AsyncFd<std::fs::File> &AsyncFd<std::fs::File> ThreadBound<TcpStream>;
        is_sent: ThreadBound<TcpStream> ThreadBound<std::rc::Rc<()>>;
    }
}

/// How a family of traits reads and writes.
#[derive(Clone, Copy, Debug)]
enum Family {
    Futures,
    Tokio,
    /// Into memory that nobody has written.
    TokioUninit,
    Hyper,
    HyperUninit,
}

const FAMILIES: [Family; 5] = [Family::Futures, Family::Tokio, Family::TokioUninit, Family::Hyper, Family::HyperUninit];

trait Reads: futures::AsyncRead + tokio::io::AsyncRead + hyper::rt::Read + Unpin + 'static {}
impl<T: futures::AsyncRead + tokio::io::AsyncRead + hyper::rt::Read + Unpin + 'static> Reads for T {}

trait Writes: futures::AsyncWrite + tokio::io::AsyncWrite + hyper::rt::Write + Unpin + 'static {}
impl<T: futures::AsyncWrite + tokio::io::AsyncWrite + hyper::rt::Write + Unpin + 'static> Writes for T {}

impl Family {
    /// Reads at most `most` bytes, with something in the buffer already, where a buffer can have that.
    fn poll_read<R: Reads>(self, reader: &mut R, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<Vec<u8>>> {
        let reader = Pin::new(reader);
        let mut memory: Box<[MaybeUninit<u8>]> = Box::new_uninit_slice(most + 2);
        match self {
            Self::Futures => {
                let mut memory = vec![0; most];
                futures::AsyncRead::poll_read(reader, cx, &mut memory).map_ok(|n| memory[..n].to_vec())
            }
            Self::Tokio | Self::TokioUninit => {
                let mut zeros = vec![0; most + 2];
                let mut buf = match self {
                    Self::Tokio => tokio::io::ReadBuf::new(&mut zeros),
                    _ => tokio::io::ReadBuf::uninit(&mut memory),
                };
                buf.put_slice(b"<>");
                let polled = tokio::io::AsyncRead::poll_read(reader, cx, &mut buf);
                let filled = buf.filled().strip_prefix(b"<>").expect("what was there is overwritten");
                assert!(!polled.is_pending() || filled.is_empty());
                polled.map_ok(|()| filled.to_vec())
            }
            Self::Hyper | Self::HyperUninit => {
                let mut zeros = vec![0; most + 2];
                let mut buf = match self {
                    Self::Hyper => hyper::rt::ReadBuf::new(&mut zeros),
                    _ => hyper::rt::ReadBuf::uninit(&mut memory),
                };
                buf.unfilled().put_slice(b"<>");
                let polled = hyper::rt::Read::poll_read(reader, cx, buf.unfilled());
                let filled = buf.filled().strip_prefix(b"<>").expect("what was there is overwritten");
                assert!(!polled.is_pending() || filled.is_empty());
                polled.map_ok(|()| filled.to_vec())
            }
        }
    }

    async fn read<R: Reads>(self, reader: &mut R, most: usize) -> io::Result<Vec<u8>> {
        std::future::poll_fn(|cx| self.poll_read(reader, cx, most)).await
    }

    async fn read_to_end<R: Reads>(self, reader: &mut R, most: usize) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            match self.read(reader, most).await? {
                piece if piece.is_empty() => return Ok(all),
                piece => all.extend(piece),
            }
        }
    }

    fn poll_write<W: Writes>(self, writer: &mut W, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let writer = Pin::new(writer);
        match self {
            Self::Futures => futures::AsyncWrite::poll_write(writer, cx, data),
            Self::Tokio | Self::TokioUninit => tokio::io::AsyncWrite::poll_write(writer, cx, data),
            Self::Hyper | Self::HyperUninit => hyper::rt::Write::poll_write(writer, cx, data),
        }
    }

    async fn write_all<W: Writes>(self, writer: &mut W, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let n = std::future::poll_fn(|cx| self.poll_write(writer, cx, data)).await?;
            data = &data[n..];
        }
        Ok(())
    }

    async fn write_vectored<W: Writes>(self, writer: &mut W, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        std::future::poll_fn(|cx| {
            let writer = Pin::new(&mut *writer);
            match self {
                Self::Futures => futures::AsyncWrite::poll_write_vectored(writer, cx, bufs),
                Self::Tokio | Self::TokioUninit => {
                    assert!(tokio::io::AsyncWrite::is_write_vectored(&*writer));
                    tokio::io::AsyncWrite::poll_write_vectored(writer, cx, bufs)
                }
                Self::Hyper | Self::HyperUninit => {
                    assert!(hyper::rt::Write::is_write_vectored(&*writer));
                    hyper::rt::Write::poll_write_vectored(writer, cx, bufs)
                }
            }
        })
        .await
    }

    async fn flush<W: Writes>(self, writer: &mut W) -> io::Result<()> {
        std::future::poll_fn(|cx| {
            let writer = Pin::new(&mut *writer);
            match self {
                Self::Futures => futures::AsyncWrite::poll_flush(writer, cx),
                Self::Tokio | Self::TokioUninit => tokio::io::AsyncWrite::poll_flush(writer, cx),
                Self::Hyper | Self::HyperUninit => hyper::rt::Write::poll_flush(writer, cx),
            }
        })
        .await
    }

    async fn end<W: Writes>(self, writer: &mut W) -> io::Result<()> {
        std::future::poll_fn(|cx| {
            let writer = Pin::new(&mut *writer);
            match self {
                Self::Futures => futures::AsyncWrite::poll_close(writer, cx),
                Self::Tokio | Self::TokioUninit => tokio::io::AsyncWrite::poll_shutdown(writer, cx),
                Self::Hyper | Self::HyperUninit => hyper::rt::Write::poll_shutdown(writer, cx),
            }
        })
        .await
    }
}

/// What is done with a reader, a writer and the socket at the other end, whatever their types.
trait Check {
    fn check<R: Reads, W: Writes>(&self, name: &str, reader: R, writer: W, peer: Peer);
}

fn tcp(net: Net) -> (TcpStream, Peer) {
    let (near, far) = sockets(net);
    near.set_send_buffer_size(8 * 1024).unwrap();
    far.set_recv_buffer_size(32 * 1024).unwrap();
    (TcpStream::from_std(near.into()).unwrap(), Peer::new(far))
}

fn unix() -> (UnixStream, Peer) {
    let (near, far) = sockets(Net::Unix);
    (UnixStream::from_std(near.into()).unwrap(), Peer::new(far))
}

/// Does it with each type.
fn with_each_type(el: &EventLoop, check: &impl Check) {
    let (stream, peer) = complete(el, async { tcp(Net::Tcp) });
    let (read, write) = stream.into_split();
    check.check("TCP halves", read, write, peer);
    let (stream, peer) = complete(el, async { unix() });
    let (read, write) = stream.into_split();
    check.check("unix halves", read, write, peer);
    let (stream, peer) = complete(el, async { tcp(Net::Tcp) });
    let (read, write) = stream.into_split();
    check.check("bound to the thread", ThreadBound::new(read), ThreadBound::new(write), peer);
    for net in wire::NETS {
        let (transport, peer) = wire::connect_narrow(el, net, Tap::new(&Record::new()));
        let (reader, writer) = complete(el, async { transport.into_stream().unwrap() });
        check.check(&format!("{net:?} transport"), reader.compat(), writer.compat(), peer);
    }
}

on_every_loop! {
    /// Reads of all sizes give all bytes and then the end, again and again.
    fn reading_to_the_end(el) {
        struct ToTheEnd<'a>(&'a EventLoop, Family, usize);
        impl Check for ToTheEnd<'_> {
            fn check<R: Reads, W: Writes>(&self, name: &str, mut reader: R, _writer: W, peer: Peer) {
                let &Self(el, family, most) = self;
                let data = pattern(40_000);
                let read = async {
                    let all = family.read_to_end(&mut reader, most).await.unwrap();
                    assert!(family.read(&mut reader, most).await.unwrap().is_empty());
                    all
                };
                let send = async {
                    let mut sent = 0;
                    while sent < data.len() {
                        sent += peer.send_some(&data[sent..]);
                        roundelay::yield_now().await;
                    }
                    peer.send_eof();
                };
                let (all, ()) = complete(el, async { futures::join!(read, send) });
                assert!(all == data, "{name}, {family:?}, {most}");
            }
        }
        for family in FAMILIES {
            for most in [3_000, 1 << 20] {
                with_each_type(el, &ToTheEnd(el, family, most));
            }
        }
    }

    /// A read of nothing does not wait. One that waits and is given up loses nothing, and leaves no wake-up behind that matters; what comes wakes the latest.
    fn giving_up(el) {
        struct GivingUp<'a>(&'a EventLoop, Family);
        impl Check for GivingUp<'_> {
            fn check<R: Reads, W: Writes>(&self, name: &str, mut reader: R, _writer: W, peer: Peer) {
                let &Self(el, family) = self;
                let (early, waker) = CountingWaker::new();
                complete(el, async {
                    let mut cx = Context::from_waker(&waker);
                    let Poll::Ready(nothing) = family.poll_read(&mut reader, &mut cx, 0) else { panic!("{name} waits") };
                    assert!(nothing.unwrap().is_empty());
                    assert!(family.poll_read(&mut reader, &mut cx, 100).is_pending(), "{name}");
                });
                let (late, waker) = CountingWaker::new();
                complete(el, async {
                    let mut cx = Context::from_waker(&waker);
                    assert!(Family::Futures.poll_read(&mut reader, &mut cx, 5).is_pending());
                    assert!(family.poll_read(&mut reader, &mut cx, 5).is_pending());
                });
                peer.send(b"something");
                run_until(el, || late.count() > 0);
                assert_eq!(early.count(), 0);
                complete(el, async {
                    assert_eq!(family.read(&mut reader, 4).await.unwrap(), b"some");
                    assert_eq!(family.read(&mut reader, 100).await.unwrap(), b"thing");
                    assert!(family.poll_read(&mut reader, &mut Context::from_waker(Waker::noop()), 100).is_pending());
                });
            }
        }
        for family in FAMILIES {
            with_each_type(el, &GivingUp(el, family));
        }
    }

    /// Writing waits for the peer; several buffers go in one call; ending ends the writing half only, and twice is once.
    fn writing_and_ending(el) {
        struct Writing<'a>(&'a EventLoop, Family);
        impl Check for Writing<'_> {
            fn check<R: Reads, W: Writes>(&self, name: &str, mut reader: R, mut writer: W, peer: Peer) {
                let &Self(el, family) = self;
                let data = pattern(300_000);
                complete(el, async {
                    let bufs = [IoSlice::new(b"one"), IoSlice::new(b""), IoSlice::new(b"two")];
                    assert_eq!(family.write_vectored(&mut writer, &bufs).await.unwrap(), 6, "{name}");
                    let write = async {
                        // What comes first may be empty, and what follows more than goes at once.
                        let bufs = [IoSlice::new(b""), IoSlice::new(&data)];
                        let n = family.write_vectored(&mut writer, &bufs).await.unwrap();
                        assert!(n > 0, "{name}");
                        family.write_all(&mut writer, &data[n..]).await.unwrap();
                        family.flush(&mut writer).await.unwrap();
                        family.end(&mut writer).await.unwrap();
                        family.end(&mut writer).await.unwrap();
                    };
                    let pump = async {
                        while !peer.at_eof() {
                            roundelay::yield_now().await;
                        }
                    };
                    futures::join!(write, pump);
                    let error = family.write_all(&mut writer, b"more").await.unwrap_err();
                    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe, "{name}");
                    peer.send(b"still here");
                    assert_eq!(family.read(&mut reader, 100).await.unwrap(), b"still here");
                });
                let received = peer.received();
                assert!(received.starts_with(b"onetwo") && received[6..] == data, "{name}, {family:?}");
            }
        }
        for family in [Family::Futures, Family::Tokio, Family::Hyper] {
            with_each_type(el, &Writing(el, family));
        }
    }

    /// After the loop is closed reading and writing say so, and what has arrived at a transport before is read first.
    fn closed(el) {
        type Later = Box<dyn FnOnce()>;
        struct Closed<'a>(&'a EventLoop, Family, std::cell::RefCell<Vec<Later>>);
        impl Check for Closed<'_> {
            fn check<R: Reads, W: Writes>(&self, name: &str, reader: R, writer: W, peer: Peer) {
                let family = self.1;
                settle(self.0);
                let name = name.to_owned();
                let (mut reader, mut writer) = (reader, writer);
                self.2.borrow_mut().push(Box::new(move || {
                    let mut cx = Context::from_waker(Waker::noop());
                    let Poll::Ready(read) = family.poll_read(&mut reader, &mut cx, 10) else { panic!("{name} waits") };
                    assert!(is_closed(&read.unwrap_err()), "{name}");
                    let Poll::Ready(written) = family.poll_write(&mut writer, &mut cx, b"x") else { panic!("{name} waits") };
                    assert!(written.is_err(), "{name}");
                    drop((reader, writer, peer));
                }));
            }
        }
        let closed = Closed(el, Family::Futures, Default::default());
        with_each_type(el, &closed);
        let mut later = closed.2.into_inner();
        for family in [Family::Tokio, Family::Hyper] {
            let closed = Closed(el, family, Default::default());
            with_each_type(el, &closed);
            later.extend(closed.2.into_inner());
        }
        el.close();
        later.into_iter().for_each(|check| check());
        drop(common::take_reports());
    }
}

fn is_closed(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<LoopClosed>())
}

//! TLS as a plain async type, over whatever is a stream.

#![cfg(feature = "__tls")]

#[path = "common/certificates.rs"]
mod certificates;
mod common;
#[path = "common/duplex.rs"]
mod duplex;
#[path = "common/peers.rs"]
mod peers;
#[path = "common/tcp.rs"]
mod tcp;
#[path = "common/tls_peer.rs"]
mod tls_peer;
mod wire;

use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{join, try_join};
use futures::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use roundelay::{
    EventLoop, KeepOpen, Protocol, TcpStream, TlsAcceptor, TlsConnector, TlsStream, Transport, TransportStream,
    UnixStream, open_connection, spawn, start_server,
};
use socket2::Socket;

use certificates::{acceptor, authority, connector, localhost};
use common::{CountingWaker, complete, finish, on_manual_clock, open_descriptors, poll_times, run_until, settle};
use peers::{has, on_each_selector, python, run_program};
use tcp::{Idle, LOOPBACK, pattern};
use tls_peer::{Side, TlsPeer};
use wire::{Net, sockets};

/// A stream over a socket.
fn plain(socket: Socket) -> TcpStream {
    TcpStream::from_std(socket.into()).unwrap()
}

/// Both ends of a TLS connection: the client's and the server's.
async fn secured<C, S>(client: C, server: S) -> (TlsStream, TlsStream)
where
    C: AsyncRead + AsyncWrite + 'static,
    S: AsyncRead + AsyncWrite + 'static,
{
    let client = connector().connect(client, "localhost").into_future();
    try_join(client, acceptor().accept(server).into_future()).await.unwrap()
}

/// The same over TCP.
async fn pair() -> (TlsStream, TlsStream) {
    let (near, far) = sockets(Net::Tcp);
    secured(plain(near), plain(far)).await
}

/// The loop's side of a connection that stands, and a peer that is driven by hand.
fn with_peer(el: &EventLoop, side: Side) -> (TlsStream, TlsPeer) {
    let (near, far) = sockets(Net::Tcp);
    standing(el, side, complete(el, async { plain(near) }), far)
}

/// The same with so little room in the kernel that some hundred KiB do not fit.
fn with_narrow_peer(el: &EventLoop, side: Side) -> (TlsStream, TlsPeer) {
    let (near, far) = sockets(Net::Unix);
    near.set_send_buffer_size(16 * 1024).unwrap();
    far.set_send_buffer_size(16 * 1024).unwrap();
    standing(el, side, complete(el, async { UnixStream::from_std(near.into()).unwrap() }), far)
}

fn standing<S>(el: &EventLoop, side: Side, near: S, far: Socket) -> (TlsStream, TlsPeer)
where
    S: AsyncRead + AsyncWrite + 'static,
{
    let mut peer = TlsPeer::new(side, far);
    let task = el.create_task(match side {
        Side::Client => connector().connect(near, "localhost").into_future(),
        Side::Server => acceptor().accept(near).into_future(),
    });
    run_until(el, || {
        peer.pump();
        task.is_done() && !peer.tls.is_handshaking()
    });
    let stream = finish(el, task).unwrap().unwrap();
    settle(el);
    peer.pump();
    (stream, peer)
}

/// Sends a lot in both directions at once, each of which is ended by itself, and looks at the ends.
async fn exchange(client: TlsStream, server: TlsStream) {
    let data = pattern(150_000);
    let back = async {
        let (mut reader, mut writer) = server.into_split();
        assert_eq!(roundelay::copy(&mut reader, &mut writer).await.unwrap(), 150_000);
        writer.close().await.unwrap();
        reader.reunite(writer).unwrap()
    };
    let there = async {
        let (mut reader, mut writer) = client.into_split();
        let mut received = Vec::new();
        let sending = async {
            writer.write_all(&data).await?;
            writer.close().await
        };
        try_join(sending, reader.read_to_end(&mut received)).await.unwrap();
        assert!(received == data);
        reader.reunite(writer).unwrap()
    };
    let (server, client) = join(back, there).await;
    // Both have ended, and neither is gone before it is dropped.
    let (client_end, server_end) = (client.transport(), server.transport());
    assert!(!client_end.is_closing() && !server_end.is_closing());
    drop((client, server));
    while client_end.protocol().is_some() || server_end.protocol().is_some() {
        roundelay::yield_now().await;
    }
}

/// A stream of somebody else's: not one of the crate's own types.
struct Foreign<S>(S);

impl<S: AsyncRead + Unpin> AsyncRead for Foreign<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Foreign<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

on_every_loop! {
    /// Whatever carries it: a socket of either kind, a stream of somebody else's, TLS again, a transport.
    fn over_streams_of_all_kinds(el) {
        complete(el, async {
            let (near, far) = sockets(Net::Tcp);
            let address = near.local_addr().unwrap().as_socket();
            let (client, server) = secured(plain(near), plain(far)).await;
            assert_eq!(server.peer_addr().ok(), address);
            assert_eq!(client.local_addr().ok(), address);
            exchange(client, server).await;

            let (near, far) = UnixStream::pair().unwrap();
            let (client, server) = secured(near, far).await;
            assert_eq!(client.peer_addr().unwrap_err().kind(), ErrorKind::Unsupported);
            assert!(client.extra_info().unix_peer_addr.is_some());
            exchange(client, server).await;

            let (near, far) = sockets(Net::Tcp);
            let (client, server) = secured(Foreign(plain(near)), Foreign(plain(far))).await;
            exchange(client, server).await;

            let (near, far) = duplex::duplex(7, 5000, 60_000);
            let (client, server) = secured(near, far).await;
            exchange(client, server).await;

            let (near, far) = pair().await;
            let (client, server) = secured(near, far).await;
            assert_eq!(client.tls_info().unwrap().server_name.as_deref(), Some("localhost"));
            exchange(client, server).await;

            let (near, far) = pair().await;
            let (client, server) = secured(Foreign(near), far).await;
            exchange(client, server).await;
        });
    }

    /// The halves that builders of connections and servers give are one stream, too, over TLS and without it.
    fn of_halves(el) {
        complete(el, async {
            for tls in [true, false] {
                let handler = async |reader: roundelay::StreamReader, writer| {
                    let mut stream = reader.reunite(writer)?;
                    let mut data = Vec::new();
                    stream.read_to_end(&mut data).await?;
                    stream.write_all(&data).await?;
                    stream.close().await
                };
                let server = start_server(handler, LOOPBACK);
                let server = if tls { server.tls(acceptor()) } else { server }.await.unwrap();
                let client = open_connection(server.local_addrs()[0]);
                let client = if tls { client.tls(connector()).server_hostname("localhost") } else { client };
                let (reader, writer) = client.await.unwrap();
                let mut stream = reader.reunite(writer).unwrap();
                stream.write_all(b"all of it").await.unwrap();
                stream.close().await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                assert_eq!(answer, "all of it");
                drop(stream);
                server.shutdown(Duration::from_secs(10)).await;
            }
            // Of two connections there is no stream; both halves come back.
            let server = start_server(async |_, _| (), LOOPBACK).await.unwrap();
            let (one, _one) = open_connection(server.local_addrs()[0]).await.unwrap();
            let (_other, other) = open_connection(server.local_addrs()[0]).await.unwrap();
            let error = one.reunite(other).unwrap_err();
            assert_eq!(error.to_string(), "StreamReader::reunite(): the reader is not of the writer's connection");
            let error = error.reader.compat().reunite(error.writer.compat()).unwrap_err();
            let error = io::Error::from(error);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(error.to_string(), "CompatReader::reunite(): the reader is not of the writer's connection");
            server.shutdown(Duration::from_secs(10)).await;
        });
        settle(el);
    }

    /// A peer that has said all is still told something: its `close_notify` ends one direction.
    fn the_peer_ends_first(el) {
        for side in [Side::Client, Side::Server] {
            let (mut stream, mut peer) = with_peer(el, side);
            peer.send(b"question");
            peer.close_notify();
            let mut text = String::new();
            complete(el, stream.read_to_string(&mut text)).unwrap();
            assert_eq!(text, "question");
            assert!(!stream.transport().is_closing());
            // The answer is long.
            let answer = pattern(500_000);
            let expected = answer.clone();
            let task = el.create_task(async move {
                stream.write_all(&answer).await.unwrap();
                stream.close().await.unwrap();
                stream
            });
            run_until(el, || {
                peer.pull(usize::MAX);
                task.is_done() && peer.notified
            });
            assert!(peer.received == expected && peer.error.is_none());
            let stream = finish(el, task).unwrap();
            drop(stream);
            assert_eq!(peer.until_end(el), Ok(()));
        }
    }

    /// Whoever has closed its direction and waits until the connection is gone need not drop it: it goes when the peer has
    /// ended, too. What has arrived is still read.
    fn both_ends_are_the_end(el) {
        complete(el, async {
            let (near, far) = sockets(Net::Tcp);
            let (near, far) = (plain(near).into_transport(|| Idle).unwrap(), plain(far).into_transport(|| Idle).unwrap());
            let over_tcp = (TransportStream::new(near.0).unwrap(), TransportStream::new(far.0).unwrap());
            for (mut near, mut far) in [pair().await, over_tcp] {
                near.close().await.unwrap();
                assert!(futures::poll!(pin!(near.wait_closed())).is_pending());
                far.write_all(b"last words").await.unwrap();
                far.close().await.unwrap();
                try_join(near.wait_closed(), far.wait_closed()).await.unwrap();
                let mut words = String::new();
                near.read_to_string(&mut words).await.unwrap();
                assert_eq!(words, "last words");
            }
        });
    }

    /// This side ends first: a `close_notify` goes out, and what the peer says yet is read, also much of it.
    fn this_side_ends_first(el) {
        let (mut stream, mut peer) = with_peer(el, Side::Client);
        complete(el, async {
            stream.write_all(b"question").await.unwrap();
            stream.close().await.unwrap();
            // Once is enough.
            stream.close().await.unwrap();
            let error = stream.write(b"more").await.unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::BrokenPipe, "the writing half was closed"));
        });
        run_until(el, || {
            peer.pump();
            peer.notified
        });
        assert_eq!(peer.received, b"question");
        assert!(peer.end.is_none(), "the connection itself goes on");
        let answer = pattern(500_000);
        peer.send(&answer);
        let task = el.create_task(async move {
            let mut received = Vec::new();
            stream.read_to_end(&mut received).await.unwrap();
            (stream, received)
        });
        run_until(el, || peer.has_said_all());
        peer.close_notify();
        let (stream, received) = finish(el, task).unwrap();
        assert!(received == answer);
        drop(stream);
        assert_eq!(peer.until_end(el), Ok(()));
    }

    /// A reset in the middle of what the peer has to say is an error, also where this side has said its last; behind the
    /// ends of both it is nothing.
    fn reset_behind_the_end(el) {
        for over in [false, true] {
            let (mut stream, mut peer) = with_peer(el, Side::Client);
            complete(el, stream.close()).unwrap();
            run_until(el, || {
                peer.pump();
                peer.notified
            });
            peer.send(b"the first half");
            let mut data = [0; 14];
            complete(el, stream.read_exact(&mut data)).unwrap();
            if over {
                peer.close_notify();
                assert_eq!(complete(el, stream.read(&mut data)).unwrap(), 0);
            }
            peer.reset();
            let (read, closed) = complete(el, async {
                let closed = stream.wait_closed().await.map_err(|error| error.kind());
                (stream.read(&mut data).await.map_err(|error| error.kind()), closed)
            });
            let expected = if over { (Ok(0), Ok(())) } else { (Err(ErrorKind::ConnectionReset), Err(ErrorKind::ConnectionReset)) };
            assert_eq!((read, closed), expected);
        }
    }

    /// A connection that is cut off ends like one that was closed, unless a `close_notify` is required.
    fn cut_off(el) {
        for strict in [false, true] {
            let (near, far) = sockets(Net::Tcp);
            let mut peer = TlsPeer::new(Side::Client, far);
            let builder = TlsConnector::builder().roots_from_pem(authority().pem());
            let connector = builder.require_close_notify(strict).build().unwrap();
            let task = el.create_task(async move {
                let mut stream = connector.connect(plain(near), "localhost").await.unwrap();
                let mut text = String::new();
                let read = stream.read_to_string(&mut text).await;
                (read.map_err(|error| error.kind()), stream)
            });
            run_until(el, || {
                peer.pump();
                !peer.tls.is_handshaking()
            });
            peer.send(b"some");
            peer.fin();
            let (read, mut stream) = finish(el, task).unwrap();
            if strict {
                assert_eq!(read, Err(ErrorKind::UnexpectedEof));
                complete(el, stream.write(b"more")).unwrap_err();
            } else {
                assert_eq!(read, Ok(4));
                complete(el, stream.write_all(b"more")).unwrap();
                run_until(el, || {
                    peer.pull(usize::MAX);
                    peer.received == b"more"
                });
            }
            drop(stream);
            run_until(el, || peer.is_at_end());
        }
    }

    /// Dropped, it is closed: what was written is sent first, then the `close_notify`.
    fn dropped_with_something_to_send(el) {
        let (mut stream, mut peer) = with_narrow_peer(el, Side::Server);
        let data = pattern(60_000);
        let given = data.clone();
        complete(el, async move { stream.write_all(&given).await.unwrap() });
        run_until(el, || {
            peer.pull(16 * 1024);
            peer.notified
        });
        assert!(peer.received == data);
        peer.close_notify();
        assert_eq!(peer.until_end(el), Ok(()));
    }

    /// Dropped at every point, from before the handshake to behind the end, with the peer at any: nothing is left open.
    fn dropped_in_each_state(el) {
        let (before, mut times) = (open_descriptors(), 0);
        loop {
            times += 1;
            let done = complete(el, async {
                let (near, far) = sockets(Net::Tcp);
                let whole = async {
                    let (mut client, mut server) = secured(plain(near), plain(far)).await;
                    server.write_all(b"hello").await.unwrap();
                    let mut data = [0; 5];
                    client.read_exact(&mut data).await.unwrap();
                    client.close().await.unwrap();
                    assert_eq!(server.read(&mut data).await.unwrap(), 0);
                    server.close().await.unwrap();
                    assert_eq!(client.read(&mut data).await.unwrap(), 0);
                };
                poll_times(whole, times).await
            });
            settle(el);
            run_until(el, || open_descriptors() == before);
            if done.is_some() {
                break;
            }
            assert!(times < 200);
        }
        assert!(times > 3, "{times}");
        // Never awaited at all.
        complete(el, async {
            let (near, far) = sockets(Net::Tcp);
            drop(connector().connect(plain(near), "localhost"));
            drop(acceptor().accept(plain(far)).into_future());
        });
        assert_eq!(open_descriptors(), before);
    }

    /// Neither direction takes more than its share of memory from a peer that is faster, or slower.
    fn flow_is_controlled(el) {
        let (mut stream, mut peer) = with_narrow_peer(el, Side::Client);
        let (counter, waker) = CountingWaker::new();
        let mut cx = Context::from_waker(&waker);
        let data = pattern(800_000);
        let mut written = 0;
        while let Poll::Ready(n) = Pin::new(&mut stream).poll_write(&mut cx, &data[written..]) {
            written += n.unwrap();
        }
        assert!(written < 1_000_000, "{written} bytes were taken");
        assert!(Pin::new(&mut stream).poll_flush(&mut cx).is_pending());
        run_until(el, || {
            peer.pull(32 * 1024);
            counter.count() > 0
        });
        // The other way round: what is not read is with the peer.
        peer.send(&data);
        run_until(el, || {
            peer.push();
            !stream.transport().is_reading()
        });
        assert!(!peer.has_said_all(), "all of it was taken in although nobody read");
        let task = el.create_task(async move {
            let mut chunk = stream.fill_buf().await.unwrap().to_vec();
            // A piece, as it has arrived.
            assert!(!chunk.is_empty() && chunk.len() < 500_000, "{}", chunk.len());
            stream.consume_unpin(chunk.len());
            let mut rest = vec![0; 800_000 - chunk.len()];
            stream.read_exact(&mut rest).await.unwrap();
            chunk.append(&mut rest);
            (chunk, stream)
        });
        run_until(el, || {
            peer.pump();
            task.is_done()
        });
        let (received, stream) = finish(el, task).unwrap();
        assert!(received == data);
        stream.transport().abort();
        complete(el, stream.wait_closed()).unwrap();
    }

    /// What was read ahead of the handshake belongs to it, and what comes with its last words to the stream.
    fn nothing_is_lost_around_the_handshake(el) {
        complete(el, async {
            let (near, far) = sockets(Net::Tcp);
            let (mut near, mut far) = (plain(near), plain(far));
            near.write_all(b"STARTTLS\n").await.unwrap();
            let client = async {
                let mut line = String::new();
                near.read_line(&mut line).await.unwrap();
                assert_eq!(line, "go ahead\n");
                let mut stream = connector().connect(near, "localhost").await.unwrap();
                let pieces = [IoSlice::new(b"at "), IoSlice::new(b"once")];
                assert_eq!(stream.write_vectored(&pieces).await.unwrap(), 7);
                stream.close().await.unwrap();
                let mut text = String::new();
                stream.read_to_string(&mut text).await.unwrap();
                assert_eq!(text, "bye");
            };
            let server = async {
                let mut line = String::new();
                far.read_line(&mut line).await.unwrap();
                far.write_all(b"go ahead\n").await.unwrap();
                // The client's hello is in the stream's own buffer.
                assert!(!far.fill_buf().await.unwrap().is_empty());
                let mut stream = acceptor().accept(far).await.unwrap();
                let mut text = String::new();
                stream.read_to_string(&mut text).await.unwrap();
                assert_eq!(text, "at once");
                stream.write_all(b"bye").await.unwrap();
                stream.close().await.unwrap();
            };
            join(client, server).await;
        });
    }

    /// A protocol takes over, with what was read ahead, and asyncio's halves do.
    fn other_kinds_go_on(el) {
        #[derive(Default)]
        struct Last(Vec<u8>, bool);
        impl Protocol for Last {
            fn data_received(&mut self, transport: &Transport, data: &[u8]) {
                self.0.extend_from_slice(data);
                transport.write(data);
            }
            fn eof_received(&mut self, transport: &Transport) -> KeepOpen {
                transport.write(b"!");
                transport.write_eof();
                self.1 = true;
                KeepOpen::Yes
            }
        }
        complete(el, async {
            let (mut client, mut server) = pair().await;
            client.write_all(b"one\ntwo").await.unwrap();
            let mut line = String::new();
            server.read_line(&mut line).await.unwrap();
            let (transport, last) = server.into_transport(Last::default);
            let (mut reader, mut writer) = client.into_inner();
            assert!(writer.can_write_eof());
            writer.write_eof();
            assert_eq!(reader.read_to_end().await.unwrap(), b"two!");
            assert!(last.with(|last| last.0 == b"two" && last.1));
            writer.close();
            transport.close();
            writer.wait_closed().await.unwrap();
        });
    }

    /// What cannot begin says why, and what is wrong with the peer, too; the carrier is closed in any case.
    fn failures(el) {
        let before = open_descriptors();
        complete(el, async {
            let kind = |error: io::Error| (error.kind(), error.to_string());
            let (near, far) = sockets(Net::Tcp);
            let error = connector().connect(plain(near), "no name!").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            let (kind_of, text) = kind(acceptor().accept(plain(far)).await.unwrap_err());
            assert_eq!(kind_of, ErrorKind::ConnectionReset, "{text}");

            let (near, _far) = sockets(Net::Tcp);
            let near = plain(near);
            near.shutdown(Shutdown::Write).unwrap();
            let (_, text) = kind(connector().connect(near, "localhost").await.unwrap_err());
            assert_eq!(text, "TlsConnector::connect: the writing half was closed");

            let (mut client, server) = pair().await;
            client.close().await.unwrap();
            let (_, text) = kind(acceptor().accept(client).await.unwrap_err());
            assert_eq!(text, "TlsAcceptor::accept: the writing side was ended by write_eof()");
            drop(server);

            let (near, far) = sockets(Net::Tcp);
            let early = connector().connect(plain(near), "localhost").tls_handshake_timeout(Duration::ZERO);
            let (_, text) = kind(early.await.unwrap_err());
            assert_eq!(text, "TlsConnector::connect: tls_handshake_timeout() must be longer than zero");
            drop(far);

            // The certificate is for another name, of which both hear.
            let (near, far) = sockets(Net::Tcp);
            let client = connector().connect(plain(near), "example.org").into_future();
            let (client, server) = join(client, acceptor().accept(plain(far)).into_future()).await;
            assert_eq!(kind(client.unwrap_err()).0, ErrorKind::InvalidData);
            assert_eq!(kind(server.unwrap_err()).0, ErrorKind::InvalidData);

            // That is no TLS.
            let (near, far) = sockets(Net::Tcp);
            (&far).write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            let error = acceptor().accept(plain(near)).await.unwrap_err();
            assert!(error.kind() == ErrorKind::InvalidData && error.get_ref().unwrap().is::<rustls::Error>());

            // The peer is gone in the middle.
            let (near, far) = sockets(Net::Tcp);
            drop(far);
            let (kind_of, text) = kind(connector().connect(plain(near), "localhost").await.unwrap_err());
            assert!(matches!(kind_of, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{text}");
        });
        settle(el);
        run_until(el, || open_descriptors() == before);
    }

    /// Records that were tampered with end the connection with an error, behind what came before them.
    fn bad_records(el) {
        let (mut stream, mut peer) = with_peer(el, Side::Server);
        let good = peer.encrypt(b"good");
        let bad = tls_peer::corrupted(peer.encrypt(b"bad"));
        peer.send_raw(&[good, bad].concat());
        let mut text = String::new();
        let error = complete(el, stream.read_to_string(&mut text)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        complete(el, stream.write(b"more")).unwrap_err();
        complete(el, stream.wait_closed()).unwrap_err();
    }
}

/// A handshake takes so long and no longer; nothing of it is left.
#[test]
fn the_handshake_is_limited() {
    on_manual_clock(|el, clock| {
        let before = open_descriptors();
        let (near, far) = sockets(Net::Tcp);
        let limit = Duration::from_secs(7);
        let task =
            el.create_task(async move { acceptor().accept(plain(near)).tls_handshake_timeout(limit).await.map(drop) });
        settle(el);
        clock.advance(limit - Duration::from_millis(1));
        settle(el);
        assert!(!task.is_done());
        clock.advance(Duration::from_millis(1));
        let error = finish(el, task).unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        settle(el);
        drop(far);
        assert_eq!(open_descriptors(), before);
    });
}

/// A peer that never agrees to the end is waited for so long, when the stream is dropped; an end of one direction alone has
/// no limit.
#[test]
fn the_end_is_limited() {
    on_manual_clock(|el, clock| {
        let (near, far) = sockets(Net::Tcp);
        let mut peer = TlsPeer::new(Side::Server, far);
        let limit = Duration::from_secs(3);
        let task =
            el.create_task(async move { acceptor().accept(plain(near)).tls_shutdown_timeout(limit).await.unwrap() });
        run_until(el, || {
            peer.pump();
            task.is_done() && !peer.tls.is_handshaking()
        });
        let mut stream = finish(el, task).unwrap();
        complete(el, stream.close()).unwrap();
        settle(el);
        clock.advance(Duration::from_secs(1000));
        settle(el);
        peer.send(b"late");
        let mut data = [0; 4];
        complete(el, stream.read_exact(&mut data)).unwrap();
        let transport = stream.transport();
        drop(stream);
        settle(el);
        clock.advance(limit - Duration::from_millis(1));
        settle(el);
        assert!(transport.protocol().is_some());
        clock.advance(Duration::from_millis(1));
        settle(el);
        assert!(transport.protocol().is_none());
        peer.pump();
        assert!(peer.notified && peer.is_at_end());
    });
}

/// The loop is closed under a stream: whoever uses it hears of that.
#[test]
fn the_loop_is_closed() {
    common::on_loop(|el| {
        let (mut client, mut server) = complete(el, pair());
        let (_, waker) = CountingWaker::new();
        let mut cx = Context::from_waker(&waker);
        assert!(Pin::new(&mut client).poll_read(&mut cx, &mut [0; 9]).is_pending());
        el.close();
        let Poll::Ready(Err(error)) = Pin::new(&mut client).poll_read(&mut cx, &mut [0; 9]) else { panic!() };
        assert!(error.get_ref().unwrap().is::<roundelay::LoopClosed>());
        assert!(matches!(Pin::new(&mut server).poll_write(&mut cx, b"x"), Poll::Ready(Err(_))));
        drop((client, server));
    });
}

/// ALPN, versions and names are those of the configuration.
#[test]
fn what_was_agreed_on() {
    common::on_loop(|el| {
        complete(el, async {
            let acceptor = TlsAcceptor::builder().identity(localhost().identity()).alpn(["b", "c"]).build().unwrap();
            let connector = TlsConnector::builder().roots_from_pem(authority().pem()).alpn(["a", "b"]).build().unwrap();
            let (near, far) = UnixStream::pair().unwrap();
            let server = spawn(acceptor.accept(near).into_future());
            let client = connector.connect(far, "localhost").await.unwrap();
            let server = server.await.unwrap().unwrap();
            for stream in [&client, &server] {
                let info = stream.tls_info().unwrap();
                assert_eq!(info.alpn_protocol.as_deref(), Some(&b"b"[..]));
                assert_eq!(info.server_name.as_deref(), Some("localhost"));
            }
            assert!(format!("{client:?}").starts_with("TransportStream"));
        });
    });
}

/// A task whose stream is always ready lets the others have their turns.
#[test]
fn the_others_have_their_turns() {
    common::on_loop(|el| {
        let (mut stream, _peer) = complete(el, pair());
        let flood = el.create_task(async move {
            for _ in 0..100_000 {
                poll_fn(|cx| Pin::new(&mut stream).poll_flush(cx)).await.unwrap();
            }
        });
        let mut turns = 0;
        while !flood.is_done() {
            el.run_once(Some(Duration::ZERO)).unwrap();
            turns += 1;
        }
        assert!(turns > 100, "{turns} turns");
    });
}

/// Python's client ends its direction first, as `unwrap` does, and reads on; and its server is left first.
#[test]
fn against_python() {
    if !has("python3") {
        return;
    }
    const CLIENT: &str = r#"
import socket, ssl, sys
context = ssl.create_default_context(cadata=sys.stdin.read())
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as plain:
    with context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as tls:
        tls.sendall(b"question\n")
        answer = b""
        while data := tls.recv(65536):
            answer += data
        print(len(answer), answer[:6].decode(), tls.version())
        tls.unwrap()
"#;
    on_each_selector(|el| {
        let port = complete(el, async {
            let listener = roundelay::TcpListener::bind(LOOPBACK).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let serving = spawn(async move {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = acceptor().accept(stream).await.unwrap();
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                assert_eq!(line, "question\n");
                stream.write_all(&b"answer".repeat(100_000)).await.unwrap();
                // It sees an end that is none of the socket's, and then says goodbye itself.
                stream.close().await.unwrap();
                assert_eq!(stream.read(&mut [0; 9]).await.unwrap(), 0);
            });
            drop(serving);
            port
        });
        let mut command = python(CLIENT);
        command.arg(port.to_string());
        let said = run_program(el, command, authority().pem().into_bytes());
        assert_eq!(String::from_utf8(said).unwrap(), "600000 answer TLSv1.3\n");
        settle(el);
    });
}

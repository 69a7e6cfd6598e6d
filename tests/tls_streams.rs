//! Streams over TLS, and streams that change to TLS.

#![cfg(feature = "__tls")]

#[path = "common/certificates.rs"]
mod certificates;
mod common;
#[path = "common/tcp.rs"]
mod tcp;
#[path = "common/tls_client.rs"]
mod tls_client;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use futures::{AsyncBufReadExt, AsyncReadExt, join, poll};
use roundelay::{
    EventLoop, InvalidState, LoopFuture, Server, StreamReader, StreamWriter, open_connection, spawn, start_server,
    yield_now,
};
use socket2::SockRef;

use certificates::{acceptor, connector};
use common::{on_manual_clock, poll_times, settle, take_reports};
use tcp::{LOOPBACK, calm, complete, pattern, plain_pair, receive_all};
use tls_client::HandClient;

/// The two halves of a stream.
type Halves = (StreamReader, StreamWriter);

/// A stream's two ends, and the server that one of them is of.
async fn pair() -> (Halves, Halves, Server) {
    let accepted: LoopFuture<Halves> = roundelay::get_running_loop().unwrap().create_future();
    let slot = accepted.clone();
    let server = start_server(
        async move |reader, writer| {
            slot.set_result((reader, writer)).unwrap();
        },
        LOOPBACK,
    )
    .await
    .unwrap();
    let client = open_connection(server.local_addrs()[0]).await.unwrap();
    (client, accepted.take().await.unwrap(), server)
}

/// Both change to TLS at once.
async fn change(client: &mut StreamWriter, server: &mut StreamWriter) {
    let server = spawn(server.start_tls(acceptor()).into_future());
    client.start_tls(connector()).server_hostname("localhost").await.unwrap();
    server.await.unwrap().unwrap();
}

/// Both close, and the server ends.
async fn end(mut client: StreamWriter, mut server: StreamWriter, listening: Server) {
    client.close();
    server.close();
    client.wait_closed().await.unwrap();
    server.wait_closed().await.unwrap();
    listening.close();
    listening.wait_closed().await;
}

/// A server's end of a stream, and a client that is driven by hand.
async fn accepted() -> (HandClient, StreamReader, StreamWriter) {
    let (near, far) = plain_pair();
    // So that a write of some hundred KiB stays queued in part.
    SockRef::from(&far).set_send_buffer_size(8 * 1024).unwrap();
    SockRef::from(&near).set_recv_buffer_size(32 * 1024).unwrap();
    let (reader, writer) = open_connection(far).await.unwrap();
    (HandClient::new(near), reader, writer)
}

/// The client goes, and with it the stream.
fn leave(el: &EventLoop, mut client: HandClient, mut writer: StreamWriter) {
    client.pump();
    drop(client);
    complete(el, async {
        writer.close();
        writer.wait_closed().await.unwrap();
    });
}

/// Bytes that no record begins with come in place of a handshake: what start_tls gives.
async fn refused(starting: roundelay::StartStreamTls) -> io::Error {
    starting.await.unwrap_err()
}

on_every_loop! {
    /// SR-22: both sides of a stream change to TLS, after words in clear; the same halves go on.
    fn a_stream_changes_to_tls(el) {
        complete(el, async {
            let ((mut reader, mut writer), (mut server_reader, mut server_writer), server) = pair().await;
            writer.write(b"in clear\n");
            assert_eq!(server_reader.readline().await.unwrap(), b"in clear\n");
            let before = writer.transport();
            change(&mut writer, &mut server_writer).await;

            assert_ne!(writer.transport(), before);
            let tls = writer.extra_info().tls.unwrap();
            assert_eq!(tls.server_name.as_deref(), Some("localhost"));
            assert_eq!(server_writer.extra_info().tls.unwrap().server_name.as_deref(), Some("localhost"));
            writer.write(b"hidden\n");
            assert_eq!(server_reader.readline().await.unwrap(), b"hidden\n");
            server_writer.write(b"hidden, too\n");
            server_writer.drain().await.unwrap();
            assert_eq!(reader.readline().await.unwrap(), b"hidden, too\n");
            end(writer, server_writer, server).await;
        });
    }

    /// SR-22, TL-16: what the reader has and nobody has read is TLS's: a header, the command and the first record may come
    /// in one segment.
    fn what_the_reader_has_belongs_to_tls(el) {
        let (mut client, mut reader, mut writer) = complete(el, accepted());
        let mut segment = b"PROXY\r\nSTARTTLS\r\n".to_vec();
        segment.extend(client.records());
        client.send_raw(&segment);
        calm(el);
        assert_eq!(complete(el, reader.readline()).unwrap(), b"PROXY\r\n");
        assert_eq!(complete(el, reader.readline()).unwrap(), b"STARTTLS\r\n");
        let starting = el.create_task(writer.start_tls(acceptor()).into_future());
        client.shake_hands(el);
        client.say(b"EHLO\r\n");
        complete(el, starting).unwrap().unwrap();
        assert_eq!(complete(el, reader.readline()).unwrap(), b"EHLO\r\n");
        leave(el, client, writer);
    }

    /// SR-22: commands in clear behind the one that starts TLS are never read: they are no TLS, and end the stream.
    fn commands_cannot_be_injected(el) {
        let (mut client, mut reader, mut writer) = complete(el, accepted());
        client.send_raw(b"STARTTLS\r\nMAIL FROM:<mallory@example.org>\r\n");
        calm(el);
        assert_eq!(complete(el, reader.readline()).unwrap(), b"STARTTLS\r\n");
        let error = complete(el, refused(writer.start_tls(acceptor())));
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let error = complete(el, reader.readline()).unwrap_err();
        assert!(matches!(&error, roundelay::ReadError::Io(error) if error.kind() == io::ErrorKind::InvalidData), "{error}");
        assert_eq!(complete(el, writer.drain()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(complete(el, writer.wait_closed()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(writer.is_closing());
    }

    /// SR-22: nor are those that an `AsyncBufRead` has lent, and that were not consumed.
    fn what_was_lent_belongs_to_tls(el) {
        let (mut client, reader, mut writer) = complete(el, accepted());
        let mut segment = b"STARTTLS\r\n".to_vec();
        segment.extend(client.records());
        client.send_raw(&segment);
        calm(el);
        let mut reader = reader.compat();
        let mut line = Vec::new();
        complete(el, reader.read_until(b'\n', &mut line)).unwrap();
        assert_eq!(line, b"STARTTLS\r\n");
        let starting = el.create_task(writer.start_tls(acceptor()).into_future());
        client.shake_hands(el);
        client.say(b"EHLO\r\nQUIT");
        complete(el, starting).unwrap().unwrap();
        let mut received = [0; 6];
        complete(el, reader.read_exact(&mut received)).unwrap();
        assert_eq!(&received, b"EHLO\r\n");
        assert_eq!(complete(el, reader.fill_buf()).unwrap(), b"QUIT");
        reader.consume_unpin(1);
        assert_eq!(complete(el, reader.into_inner().readexactly(3)).unwrap(), b"UIT");
        leave(el, client, writer);
    }

    /// SR-22: whoever waits for a separator while TLS is started finds it in what comes by TLS, from its first byte on.
    fn a_read_that_waits_goes_on(el) {
        let (mut client, mut reader, mut writer) = complete(el, accepted());
        client.flush();
        let reading = el.create_task(async move { (reader.readuntil(b"<this is the end>").await, reader) });
        calm(el);
        let starting = el.create_task(writer.start_tls(acceptor()).into_future());
        client.shake_hands(el);
        client.say(b"it begins<this is the end>and more");
        complete(el, starting).unwrap().unwrap();
        let (read, mut reader) = complete(el, reading).unwrap();
        assert_eq!(read.unwrap(), b"it begins<this is the end>");
        assert_eq!(complete(el, reader.readexactly(8)).unwrap(), b"and more");
        leave(el, client, writer);
    }

    /// SR-22: nothing arrives in clear from the call on, also where what is there is read; dropped before it was awaited
    /// the stream goes on.
    fn dropped_before_it_is_awaited(el) {
        let (mut client, mut reader, mut writer) = complete(el, accepted());
        client.send_raw(b"one");
        calm(el);
        let starting = writer.start_tls(acceptor());
        let other = writer.start_tls(acceptor());
        client.send_raw(b"two");
        assert_eq!(complete(el, reader.read(100)).unwrap(), b"one");
        assert!(complete(el, poll_times(reader.read(100), 1)).is_none());
        calm(el);
        drop(starting);
        assert!(complete(el, poll_times(reader.read(100), 1)).is_none());
        assert!(!writer.transport().is_reading());
        drop(other);
        assert_eq!(complete(el, reader.read(100)).unwrap(), b"two");
        // One that the application has paused stays so.
        writer.transport().pause_reading();
        drop(writer.start_tls(acceptor()));
        assert!(!writer.transport().is_reading());
        leave(el, client, writer);
    }

    /// SR-22: more than the reader takes is there; the rest comes when TLS is not started after all.
    fn dropped_while_the_reader_is_full(el) {
        let ((reader, mut writer), (other, mut sender), server) = complete(el, pair());
        let data = pattern(1_000_000);
        sender.write(&data);
        calm(el);
        assert!(!writer.transport().is_reading());
        let starting = writer.start_tls(connector());
        let mut reader = reader;
        assert!(!complete(el, reader.read(1_000_000)).unwrap().is_empty());
        assert!(!writer.transport().is_reading());
        drop(starting);
        let mut rest = 0;
        complete(el, async {
            sender.close();
            while !reader.at_eof() {
                rest += reader.read(1_000_000).await.unwrap().len();
            }
        });
        assert!(rest > 0 && rest < data.len());
        drop(other);
        complete(el, end(writer, sender, server));
    }

    /// TC-15: what cannot begin is refused, and the stream goes on as it was.
    fn what_cannot_begin(el) {
        let ((mut reader, mut writer), (mut server_reader, mut server_writer), server) = complete(el, pair());
        let error = complete(el, refused(writer.start_tls(connector())));
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().starts_with("StreamWriter::start_tls: "), "{error}");
        assert!(error.to_string().contains("server_hostname()"), "{error}");
        let error = complete(el, refused(writer.start_tls(acceptor()).tls_handshake_timeout(Duration::ZERO)));
        assert!(error.to_string().contains("tls_handshake_timeout() must be longer than zero"), "{error}");
        server_writer.write(b"still in clear");
        assert_eq!(complete(el, reader.readexactly(14)).unwrap(), b"still in clear");
        writer.write_eof();
        let error = complete(el, refused(writer.start_tls(connector()).server_hostname("localhost")));
        assert!(error.get_ref().unwrap().is::<InvalidState>());
        assert_eq!(error.to_string(), "StreamWriter::start_tls: the writing side was ended by write_eof()");
        server_writer.write(b"still in clear");
        assert_eq!(complete(el, reader.readexactly(14)).unwrap(), b"still in clear");
        assert!(complete(el, server_reader.read(1)).unwrap().is_empty());
        complete(el, async {
            server_writer.close();
            server_writer.wait_closed().await.unwrap();
        });
        let error = complete(el, refused(server_writer.start_tls(acceptor())));
        assert_eq!(error.to_string(), "StreamWriter::start_tls: Transport is closing");
        complete(el, end(writer, server_writer, server));
    }

    /// TC-15: TLS that is started twice at a time is refused the second time, and stands by the first.
    fn started_twice(el) {
        let (mut client, _reader, mut writer) = complete(el, accepted());
        client.flush();
        let mut starting = writer.start_tls(acceptor()).into_future();
        let second = writer.start_tls(acceptor());
        assert!(complete(el, async { poll!(&mut starting) }).is_pending());
        for second in [second, writer.start_tls(acceptor())] {
            let error = complete(el, refused(second));
            assert!(error.get_ref().unwrap().is::<InvalidState>());
            assert_eq!(error.to_string(), "StreamWriter::start_tls: a TLS handshake is in progress");
        }
        let starting = el.create_task(starting);
        client.shake_hands(el);
        client.say(b"");
        complete(el, starting).unwrap().unwrap();
        writer.write(b"by the first");
        assert_eq!(client.receive(el, 12), b"by the first");
        leave(el, client, writer);
    }

    /// SR-22: given up in the middle of the handshake the stream is gone, at any moment, and nothing is left.
    fn given_up(el) {
        for answers in [false, true] {
            let (mut client, mut reader, mut writer) = complete(el, accepted());
            client.flush();
            let mut starting = writer.start_tls(acceptor()).into_future();
            assert!(complete(el, async { poll!(&mut starting) }).is_pending());
            if answers {
                // It has answered, and may even be done, but nobody was told.
                client.shake_hands(el);
                client.say(b"hello");
                calm(el);
            }
            drop(starting);
            assert!(writer.is_closing());
            // What was said by TLS was said, and behind it is nothing.
            let said = complete(el, reader.read_to_end()).unwrap();
            assert_eq!(said, if answers { &b"hello"[..] } else { b"" });
            assert_eq!(complete(el, writer.drain()).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            complete(el, writer.wait_closed()).unwrap();
        }
    }

    /// SR-22: what is written while the handshake goes on is sent behind it, encrypted and in order.
    fn written_during_the_handshake(el) {
        for len in [1, 600_000] {
            let (mut client, _reader, mut writer) = complete(el, accepted());
            let data = pattern(len);
            writer.write(b"in clear\n");
            let mut starting = writer.start_tls(acceptor()).into_future();
            assert!(complete(el, async { poll!(&mut starting) }).is_pending());
            let (first, second) = data.split_at(len / 2);
            writer.write(first);
            assert_eq!(client.read_clear(el, 9), b"in clear\n");
            let starting = el.create_task(starting);
            client.shake_hands(el);
            writer.write(second);
            client.say(b"");
            complete(el, starting).unwrap().unwrap();
            assert!(client.receive(el, len) == data);
            leave(el, client, writer);
        }
    }

    /// SR-22: whatever is queued in clear before TLS is sent in clear, and TLS behind it.
    fn much_is_queued_before(el) {
        let (mut client, mut reader, mut writer) = complete(el, accepted());
        let data = pattern(700_000);
        writer.write(&data);
        let starting = el.create_task(writer.start_tls(acceptor()).into_future());
        assert!(client.read_clear(el, data.len()) == data);
        client.shake_hands(el);
        client.say(b"hello");
        complete(el, starting).unwrap().unwrap();
        assert_eq!(complete(el, reader.readexactly(5)).unwrap(), b"hello");
        writer.write(&data);
        assert!(client.receive(el, data.len()) == data);
        leave(el, client, writer);
    }

    /// SR-22: TLS over TLS, by streams; five megabytes go each way.
    fn twice(el) {
        complete(el, async {
            let ((mut reader, mut writer), (mut server_reader, mut server_writer), server) = pair().await;
            change(&mut writer, &mut server_writer).await;
            change(&mut writer, &mut server_writer).await;
            let data = pattern(5_000_000);
            let send = async |writer: &mut StreamWriter| {
                for chunk in data.chunks(100_000) {
                    writer.write(chunk);
                    writer.drain().await.unwrap();
                }
            };
            let ((), (), there, back) = join!(
                send(&mut writer),
                send(&mut server_writer),
                server_reader.readexactly(data.len()),
                reader.readexactly(data.len()),
            );
            assert!(there.unwrap() == data && back.unwrap() == data);
            end(writer, server_writer, server).await;
        });
    }

    /// SR-21: over TLS the peer's end closes the writer, too.
    fn the_peers_end_closes_the_writer(el) {
        complete(el, async {
            let ((mut reader, mut writer), (_reader, mut server_writer), server) = pair().await;
            assert!(writer.can_write_eof());
            change(&mut writer, &mut server_writer).await;
            assert!(!writer.can_write_eof());
            server_writer.write(b"the last");
            server_writer.close();
            assert_eq!(reader.read_to_end().await.unwrap(), b"the last");
            assert!(writer.is_closing());
            writer.wait_closed().await.unwrap();
            end(writer, server_writer, server).await;
        });
    }

    /// SR-22: when a handler has dropped both halves after it started TLS, the connection is closed, and what it has written
    /// is sent; an error that the connection's end explains is not reported, another one is.
    fn a_handler_that_starts_tls(el) {
        for is_lost in [true, false] {
            let shown = Rc::new(RefCell::new(String::new()));
            let name = shown.clone();
            let handler = async move |mut reader: StreamReader, mut writer: StreamWriter| {
                writer.start_tls(acceptor()).await?;
                *name.borrow_mut() = format!("<Transport {} ", writer.transport().id());
                writer.write(b"welcome");
                let line = reader.readline().await;
                match is_lost {
                    true => line.map(drop).map_err(io::Error::from),
                    false => Err(io::Error::other("the handler's own")),
                }
            };
            let server = complete(el, async { start_server(handler, LOOPBACK).await }).unwrap();
            let mut client = HandClient::new(std::net::TcpStream::connect(server.local_addrs()[0]).unwrap());
            client.shake_hands(el);
            client.say(b"");
            assert_eq!(client.receive(el, 7), b"welcome");
            if is_lost {
                tcp::reset(client.socket);
            } else {
                client.say(b"a line\n");
                calm(el);
                drop(client);
            }
            complete(el, async {
                server.close();
                server.wait_closed().await;
            });
            calm(el);
            let reports = take_reports();
            assert_eq!(reports.len(), usize::from(!is_lost), "{reports:?}");
            assert!(is_lost || reports[0].contains("the handler's own"), "{reports:?}");
            // It is about the transport that speaks TLS.
            assert!(is_lost || reports[0].contains(&*shown.borrow()), "{reports:?}");
        }
    }

    /// SR-22: dropping the stream after it has changed closes it; debug mode warns of it, as of every other.
    fn dropped_after_the_change(el) {
        complete(el, async {
            let ((reader, mut writer), (mut server_reader, mut server_writer), server) = pair().await;
            change(&mut writer, &mut server_writer).await;
            writer.write(b"sent all the same");
            drop((reader, writer));
            assert_eq!(server_reader.read_to_end().await.unwrap(), b"sent all the same");
            server_writer.wait_closed().await.unwrap();
            server.close();
            server.wait_closed().await;
        });
    }
}

/// TL-18: a handshake that takes too long is an error for whoever reads, too.
#[test]
fn the_handshake_takes_too_long() {
    on_manual_clock(|el, clock| {
        let (mut peer, near) = plain_pair();
        let opening = el.create_task(async move { open_connection(near).await.unwrap() });
        let (mut reader, mut writer) = common::finish(el, opening).unwrap();
        let starting = writer.start_tls(connector()).server_hostname("localhost");
        let starting =
            starting.tls_handshake_timeout(Duration::from_secs(3)).tls_shutdown_timeout(Duration::from_secs(1));
        let starting = el.create_task(starting.into_future());
        let reading = el.create_task(async move { reader.read(1).await });
        settle(el);
        clock.advance(Duration::from_secs(3));
        let error = common::finish(el, starting).unwrap().unwrap_err();
        assert_eq!(error.to_string(), "TLS handshake is taking longer than 3s: aborting the connection");
        let error = common::finish(el, reading).unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        let ended = el.create_task(async move {
            yield_now().await;
            writer.wait_closed().await
        });
        assert_eq!(common::finish(el, ended).unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert!(!receive_all(el, &mut peer).is_empty());
    });
}

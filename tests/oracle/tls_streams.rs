//! Streams and files over TLS.

use std::fs::File;
use std::io::{Seek, Write};

use roundelay::{EventLoop, ReadError, StreamReader, StreamWriter, open_connection, start_server};

use crate::common::Log;
use crate::support::{Peer, connected, settle, socket_pair, yes};
use crate::tls_peer::{DEFAULT, NAME, Setup, TlsPeer, recorder};

fn large() -> Vec<u8> {
    b"0123456789".repeat(300_000)
}

async fn open_stream(el: &EventLoop, limit: usize) -> (StreamReader, StreamWriter, TlsPeer, Peer) {
    let (own, socket) = socket_pair();
    let opening = open_connection(own.take()).tls(DEFAULT.connector()).server_hostname(NAME).limit(limit);
    let task = el.create_task(opening.into_future());
    settle().await;
    let peer = TlsPeer::server(&socket, DEFAULT);
    assert_eq!(peer.handshake().await, "done");
    let (reader, writer) = task.await.unwrap().unwrap();
    (reader, writer, peer, socket)
}

async fn line(log: &Log, reader: &mut StreamReader) {
    let line = reader.readline().await.unwrap();
    log.push(format!("line {}", String::from_utf8_lossy(&line).trim()));
}

/// SR-21: lines, and an end that closes the writer.
#[test]
fn tls_lines() {
    connected("tls_lines", async |el, log| {
        let (mut reader, mut writer, peer, _) = open_stream(&el, 65536).await;
        peer.send(b"one\ntwo");
        line(&log, &mut reader).await;
        peer.send(b"\nthree");
        line(&log, &mut reader).await;
        yes(&log, "at eof", reader.at_eof());
        peer.goodbye();
        line(&log, &mut reader).await;
        yes(&log, "at eof", reader.at_eof());
        settle().await;
        yes(&log, "closing", writer.is_closing());
        writer.close();
        writer.wait_closed().await.unwrap();
        log.push("closed");
    });
}

/// SR-21: `wait_closed` waits for the peer's goodbye.
#[test]
fn tls_stream_closed() {
    connected("tls_stream_closed", async |el, log| {
        let (mut reader, mut writer, peer, _) = open_stream(&el, 65536).await;
        writer.write(b"hello");
        writer.drain().await.unwrap();
        yes(&log, "can write eof", writer.can_write_eof());
        writer.close();
        let closing = el.create_task(async move { writer.wait_closed().await });
        settle().await;
        yes(&log, "closed", closing.is_done());
        log.push(format!("peer {}", peer.received()));
        peer.goodbye();
        settle().await;
        yes(&log, "closed", closing.is_done());
        closing.await.unwrap().unwrap();
        log.push(format!("peer {}", peer.received()));
        log.push(format!("read {}", reader.read_to_end().await.unwrap().len()));
    });
}

/// TL-33: an end without a goodbye is an end.
#[test]
fn tls_stream_cut_off() {
    connected("tls_stream_cut_off", async |el, log| {
        let (mut reader, mut writer, peer, socket) = open_stream(&el, 65536).await;
        peer.send(b"half");
        socket.close();
        match reader.readexactly(10).await {
            Err(ReadError::Incomplete(error)) => {
                let partial = String::from_utf8_lossy(&error.partial).into_owned();
                log.push(format!("incomplete {partial} {}", error.expected.unwrap()));
            }
            other => panic!("{other:?}"),
        }
        writer.close();
        writer.wait_closed().await.unwrap();
        log.push("closed");
    });
}

/// SR-21: `drain` waits for the peer.
#[test]
fn tls_stream_drained() {
    connected("tls_stream_drained", async |el, log| {
        let (_reader, mut writer, peer, _) = open_stream(&el, 65536).await;
        writer.write(&large()[..600_000]);
        writer.write(&large()[..600_000]);
        let draining = el.create_task(async move { writer.drain().await.map(|()| writer) });
        settle().await;
        yes(&log, "drained", draining.is_done());
        log.push(format!("peer {}", peer.collect().await));
        yes(&log, "drained", draining.is_done());
        draining.await.unwrap().unwrap();
    });
}

/// SR-21: reading stops where nobody takes what has come, and goes on.
#[test]
fn tls_stream_with_a_small_limit() {
    connected("tls_stream_with_a_small_limit", async |el, log| {
        let (mut reader, _writer, peer, _) = open_stream(&el, 1000).await;
        for _ in 0..10 {
            peer.send(&[[b'x'; 999].as_slice(), b"\n"].concat());
            settle().await;
        }
        peer.goodbye();
        settle().await;
        for _ in 0..11 {
            log.push(format!("line {}", reader.readline().await.unwrap().len()));
        }
    });
}

/// SR-21: an abort is an end for whoever reads.
#[test]
fn tls_stream_aborted() {
    connected("tls_stream_aborted", async |el, log| {
        let (mut reader, writer, _peer, _) = open_stream(&el, 65536).await;
        let reading = el.create_task(async move { reader.read(10).await.unwrap().len() });
        settle().await;
        writer.transport().abort();
        settle().await;
        log.push(format!("read {}", reading.await.unwrap()));
        writer.wait_closed().await.unwrap();
        log.push("closed");
    });
}

/// SR-21: a server of streams.
#[test]
fn tls_stream_server() {
    connected("tls_stream_server", async |el, log| {
        let (ended, own) = (el.create_future(), log.clone());
        let ending = ended.clone();
        let serve = move |mut reader: StreamReader, mut writer: StreamWriter| {
            let (log, ended) = (own.clone(), ending.clone());
            async move {
                let line = reader.readline().await.unwrap();
                log.push(format!("server {}", String::from_utf8_lossy(&line).trim()));
                writer.write(&line.to_ascii_uppercase());
                log.push(format!("server {}", reader.read_to_end().await.unwrap().len()));
                writer.close();
                writer.wait_closed().await.unwrap();
                ended.set_result(()).unwrap();
            }
        };
        let server = start_server(serve, ("127.0.0.1", 0)).tls(DEFAULT.acceptor()).await.unwrap();
        let address = server.local_addrs()[0];
        let opening = open_connection(address).tls(DEFAULT.connector()).server_hostname(NAME);
        let (mut reader, mut writer) = opening.await.unwrap();
        writer.write(b"hello\n");
        let line = reader.readline().await.unwrap();
        log.push(format!("client {}", String::from_utf8_lossy(&line).trim()));
        writer.close();
        writer.wait_closed().await.unwrap();
        ended.await.unwrap();
        server.close();
    });
}

fn make_file(data: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(data).unwrap();
    file.rewind().unwrap();
    file
}

/// SF-13: a file goes encrypted, in its place.
#[test]
fn tls_file() {
    connected("tls_file", async |el, log| {
        let (transport, peer) = Setup::client().connect(&el, recorder(&log)).await;
        let file = make_file(&large());
        transport.write(b"before ");
        let sending = el.create_task(el.sendfile(&transport, &file).offset(10).count(2_000_000).into_future());
        settle().await;
        yes(&log, "reading", transport.is_reading());
        let mut total = 0;
        while !sending.is_done() {
            total += peer.receive().0.len();
            settle().await;
        }
        log.push(format!("sent {}", sending.await.unwrap().unwrap()));
        yes(&log, "reading", transport.is_reading());
        log.push(format!("position {}", (&file).stream_position().unwrap()));
        transport.write(b" behind");
        settle().await;
        let rest = peer.collect().await;
        log.push(format!("peer {}", total + rest.split(' ').next().unwrap().parse::<usize>().unwrap()));
    });
}

/// SF-12: there is no `sendfile` over TLS but the fallback.
#[test]
fn tls_file_without_the_fallback() {
    connected("tls_file_without_the_fallback", async |el, log| {
        let (transport, _peer) = Setup::client().connect(&el, recorder(&log)).await;
        let file = make_file(b"a file");
        if el.sendfile(&transport, &file).fallback(false).await.is_err() {
            log.push("refused");
        }
        log.push(format!("position {}", (&file).stream_position().unwrap()));
        yes(&log, "closing", transport.is_closing());
    });
}

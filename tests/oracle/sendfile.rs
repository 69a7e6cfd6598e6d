//! Files over transports and sockets.

use std::fs::File;
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::rc::Rc;

use roundelay::{EventLoop, Sendfile, SendingFile};

use crate::common::Log;
use crate::support::{Peer, Recorder, connect, connected, connected_differs, settle, socket_pair, yes};

/// A file at its beginning.
fn make_file(data: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(data).unwrap();
    file.rewind().unwrap();
    file
}

fn large() -> Vec<u8> {
    b"0123456789".repeat(300_000)
}

fn position(log: &Log, mut file: &File) -> u64 {
    let position = file.stream_position().unwrap();
    log.push(format!("position {position}"));
    position
}

/// Awaits it, with a line.
async fn sent(log: &Log, sending: Sendfile<'_>) {
    log.push(format!("sent {}", sending.await.unwrap()));
}

fn sock_sendfile(el: &EventLoop, own: &Peer, file: &File, offset: u64, count: Option<u64>) -> SendingFile<'static> {
    let socket = own.with(|socket| socket.try_clone().unwrap());
    el.sock_sendfile(socket, file).offset(offset).count(count).into_future()
}

/// SF-10: what is written before and afterwards stays where it is.
#[test]
fn sendfile_then_write() {
    connected("sendfile_then_write", async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log)).await;
        let file = make_file(b"a file");
        transport.write(b"before ");
        sent(&log, el.sendfile(&transport, &file)).await;
        position(&log, &file);
        transport.write(b" behind");
        settle().await;
        log.push(format!("peer {}", peer.received()));
    });
}

/// SF-17: the queue goes first, and the protocol is told when it has drained.
#[test]
fn sendfile_behind_a_queue() {
    connected("sendfile_behind_a_queue", async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log)).await;
        let file = make_file(&large());
        transport.write(&[b'x'; 1_000_000]);
        let sending = el.create_task(el.sendfile(&transport, &file).into_future());
        settle().await;
        yes(&log, "done", sending.is_done());
        yes(&log, "reading", transport.is_reading());
        log.push(format!("peer {}", peer.collect().await));
        log.push(format!("sent {}", sending.await.unwrap().unwrap()));
        yes(&log, "reading", transport.is_reading());
        position(&log, &file);
    });
}

/// SF-02: parts, and the position behind each; without an offset it begins at the first byte.
#[test]
fn sendfile_of_a_part() {
    connected("sendfile_of_a_part", async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log)).await;
        let file = make_file(b"0123456789");
        for (offset, count) in [(2, Some(3)), (0, Some(4)), (7, Some(100)), (9, None)] {
            sent(&log, el.sendfile(&transport, &file).offset(offset).count(count)).await;
            position(&log, &file);
        }
        sent(&log, el.sendfile(&transport, &file)).await;
        position(&log, &file);
        settle().await;
        log.push(format!("peer {}", peer.received()));
    });
}

/// SF-12: a transport that is closing takes no file.
#[test]
fn sendfile_on_a_closing_transport() {
    connected("sendfile_on_a_closing_transport", async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log)).await;
        let mut file = make_file(b"a file");
        file.seek(SeekFrom::Start(3)).unwrap();
        transport.close();
        let error = el.sendfile(&transport, &file).await.unwrap_err().to_string();
        log.push(format!("error {}", error.strip_prefix("EventLoop::sendfile(): ").unwrap()));
        position(&log, &file);
        settle().await;
        log.push(format!("peer {}", peer.received()));
    });
}

/// SF-16: what arrives meanwhile is delivered afterwards.
#[test]
fn sendfile_while_the_peer_talks() {
    connected("sendfile_while_the_peer_talks", async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log)).await;
        let file = make_file(&large());
        let sending = el.create_task(el.sendfile(&transport, &file).into_future());
        settle().await;
        peer.send(b"hello");
        settle().await;
        log.push(format!("peer {}", peer.collect().await));
        log.push(format!("sent {}", sending.await.unwrap().unwrap()));
        settle().await;
    });
}

/// SF-16: a transport that was paused before stays paused.
#[test]
fn sendfile_while_reading_is_paused() {
    connected("sendfile_while_reading_is_paused", async |el, log| {
        let (transport, peer) = connect(&el, Recorder::new(&log)).await;
        let file = make_file(&large());
        transport.pause_reading();
        let sending = el.create_task(el.sendfile(&transport, &file).into_future());
        settle().await;
        peer.send(b"hello");
        log.push(format!("peer {}", peer.collect().await));
        log.push(format!("sent {}", sending.await.unwrap().unwrap()));
        settle().await;
        log.push("resume");
        transport.resume_reading();
        settle().await;
    });
}

/// SF-10: nothing is written into the middle of a file.
#[test]
fn write_while_a_file_is_sent() {
    connected("write_while_a_file_is_sent", async |el, log| {
        let own = log.clone();
        el.set_exception_handler(Some(Rc::new(move |_, context| {
            own.push(format!("refused {}", context.message.strip_prefix("Transport::write(): ").unwrap()));
        })));
        let (transport, peer) = connect(&el, Recorder::new(&log)).await;
        let file = make_file(&large());
        let sending = el.create_task(el.sendfile(&transport, &file).into_future());
        settle().await;
        transport.write(b"in between");
        log.push(format!("peer {}", peer.collect().await));
        log.push(format!("sent {}", sending.await.unwrap().unwrap()));
        transport.write(b"behind");
        settle().await;
        log.push(format!("peer {}", peer.received()));
    });
}

/// SF-14: a peer that goes away half-way.
#[test]
fn sendfile_and_the_peer_goes_away() {
    let here = ["made", "something came yes", "lost error", "the connection is broken", "half-way yes", "closing yes"];
    connected_differs(
        "sendfile_and_the_peer_goes_away",
        "a-file-that-fails-ends-the-connection",
        &here,
        async |el, log| {
            let (transport, peer) = connect(&el, Recorder::new(&log)).await;
            let file = make_file(&large());
            let sending = el.create_task(el.sendfile(&transport, &file).into_future());
            settle().await;
            yes(&log, "something came", !peer.receive().0.is_empty());
            settle().await;
            peer.close();
            let error = sending.await.unwrap().unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
            log.push("the connection is broken");
            let at = (&file).stream_position().unwrap();
            yes(&log, "half-way", 0 < at && at < large().len() as u64);
            settle().await;
            yes(&log, "closing", transport.is_closing());
        },
    );
}

/// SF-01, SF-02: over a socket.
#[test]
fn sendfile_over_a_socket() {
    connected("sendfile_over_a_socket", async |el, log| {
        let (own, peer) = socket_pair();
        let file = make_file(&large());
        let sending = el.create_task(sock_sendfile(&el, &own, &file, 10, Some(2_000_000)));
        settle().await;
        yes(&log, "done", sending.is_done());
        log.push(format!("peer {}", peer.collect().await));
        log.push(format!("sent {}", sending.await.unwrap().unwrap()));
        position(&log, &file);
    });
}

/// SF-09: cancelled half-way, and gone on with.
#[test]
fn sendfile_over_a_socket_cancelled() {
    let here = ["half-way yes", "peer 3000000 bytes", "all of it yes", "position 3000000"];
    connected_differs(
        "sendfile_over_a_socket_cancelled",
        "the-position-tells-how-far-it-came",
        &here,
        async |el, log| {
            let (own, peer) = socket_pair();
            let file = make_file(&large());
            let sending = el.create_task(sock_sendfile(&el, &own, &file, 0, None));
            settle().await;
            sending.cancel();
            settle().await;
            let at = (&file).stream_position().unwrap();
            yes(&log, "half-way", 0 < at && at < large().len() as u64);
            let rest = el.create_task(sock_sendfile(&el, &own, &file, at, None));
            log.push(format!("peer {}", peer.collect().await));
            yes(&log, "all of it", at + rest.await.unwrap().unwrap() == large().len() as u64);
            position(&log, &file);
        },
    );
}

/// SF-03: behind the end of a file there is nothing.
#[test]
fn sendfile_of_nothing() {
    let here = ["made", "sent 0", "position 20"];
    connected_differs("sendfile_of_nothing", "the-position-tells-how-far-it-came", &here, async |el, log| {
        let (transport, _peer) = connect(&el, Recorder::new(&log)).await;
        let mut file = make_file(b"0123456789");
        file.seek(SeekFrom::Start(3)).unwrap();
        sent(&log, el.sendfile(&transport, &file).offset(20)).await;
        position(&log, &file);
    });
}

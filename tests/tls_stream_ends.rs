//! How streams over TLS end (behaviours SR, RW, TL).

#![cfg(feature = "__tls")]

#[path = "common/certificates.rs"]
mod certificates;
#[path = "common/collector.rs"]
mod collector;
mod common;
#[path = "common/tls_peer.rs"]
mod tls_peer;
mod wire;

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::rc::Rc;

use certificates::{acceptor, connector};
use collector::collect;
use common::{complete, finish, run_until};
use roundelay::{StreamReader, StreamWriter, open_connection, start_server};
use socket2::Socket;
use tls_peer::{Side, TlsPeer, corrupted};
use wire::{Net, sockets};

on_every_loop! {
    /// SR-21: the end of the peer closes a stream over TLS, what was written is sent, and nothing more can be.
    fn the_end_of_a_stream(el) {
        let (near, far) = sockets(Net::Tcp);
        let mut peer = TlsPeer::new(Side::Client, far);
        let task = el.create_task(async move {
            let connecting = open_connection(near).tls(connector()).server_hostname("localhost");
            let (mut reader, mut writer) = connecting.await.unwrap();
            assert_eq!(reader.read(100).await.unwrap(), b"hello");
            writer.write(b"an answer");
            assert_eq!(reader.read(100).await.unwrap(), b"");
            assert!(writer.is_closing());
            writer.write(b"too late");
            writer.wait_closed().await.unwrap();
            assert_eq!(reader.read(100).await.unwrap(), b"");
        });
        run_until(el, || {
            peer.pump();
            !peer.tls.is_handshaking()
        });
        peer.send(b"hello");
        run_until(el, || {
            peer.pump();
            peer.received == b"an answer"
        });
        peer.close_notify();
        assert_eq!(peer.until_end(el), Ok(()));
        finish(el, task).unwrap();
        assert!(peer.notified && peer.received == b"an answer");
    }

    /// gh-118950: a stream whose carrier has failed is closing, and a loop of write and drain over it comes to its end.
    fn a_loop_of_writes_ends(el) {
        let (near, far) = sockets(Net::Tcp);
        let mut peer = TlsPeer::new(Side::Client, far);
        let task = el.create_task(async move {
            let connecting = open_connection(near).tls(connector()).server_hostname("localhost");
            let (mut reader, mut writer) = connecting.await.unwrap();
            assert_eq!(reader.read(100).await.unwrap(), b"hello");
            let mut error = None;
            while error.is_none() && !writer.is_closing() {
                writer.write(&[7; 1000]);
                error = writer.drain().await.err();
            }
            let kind = writer.wait_closed().await.unwrap_err().kind();
            assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{kind:?}");
        });
        run_until(el, || {
            peer.pump();
            !peer.tls.is_handshaking()
        });
        peer.send(b"hello");
        peer.reset();
        finish(el, task).unwrap();
    }

    /// TL-20: a peer that speaks TLS badly is no fault of the server's handler, which nobody needs to be told of.
    fn the_error_of_a_handler(el) {
        let ended = Rc::new(Cell::new(false));
        let told = ended.clone();
        let handler = async move |mut reader: StreamReader, _writer: StreamWriter| -> io::Result<()> {
            let read = reader.read_to_end().await;
            told.set(read.is_err());
            read.map(drop)
        };
        let server = complete(el, async move { start_server(handler, ("127.0.0.1", 0)).tls(acceptor()).await }).unwrap();
        let far = Socket::from(std::net::TcpStream::connect(server.local_addrs()[0]).unwrap());
        let mut peer = TlsPeer::new(Side::Server, far);
        run_until(el, || {
            peer.pump();
            !peer.tls.is_handshaking()
        });
        peer.pump();
        let bad = peer.encrypt(b"bad");
        peer.send_raw(&corrupted(bad));
        run_until(el, || ended.get());
        server.close();
        complete(el, async move { server.wait_closed().await });
    }

    /// SR-21, TL-20: what is wrong with a stream over TLS is for its reader, after what came before.
    fn the_error_of_a_stream(el) {
        let (near, far) = sockets(Net::Tcp);
        let mut peer = TlsPeer::new(Side::Client, far);
        let task = el.create_task(async move {
            let connecting = open_connection(near).tls(connector()).server_hostname("localhost");
            let (mut reader, writer) = connecting.await.unwrap();
            assert_eq!(reader.readexactly(5).await.unwrap(), b"hello");
            let error = reader.read(100).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            assert_eq!(error.to_string(), "cannot decrypt peer's message");
            assert!(writer.is_closing());
            assert_eq!(writer.wait_closed().await.unwrap_err().kind(), ErrorKind::InvalidData);
        });
        run_until(el, || {
            peer.pump();
            !peer.tls.is_handshaking()
        });
        let (hello, bad) = (peer.encrypt(b"hello"), peer.encrypt(b"bad"));
        peer.send_raw(&[hello, corrupted(bad)].concat());
        finish(el, task).unwrap();
    }

    /// RW-01: a stream over TLS that is dropped is closed, in an orderly way; in debug mode there is one warning.
    fn a_dropped_stream(el) {
        let (near, far) = sockets(Net::Tcp);
        let mut peer = TlsPeer::new(Side::Client, far);
        let task = el.create_task(async move {
            let connecting = open_connection(near).tls(connector()).server_hostname("localhost");
            let (_reader, mut writer) = connecting.await.unwrap();
            writer.write(b"last words");
        });
        let (end, written) = collect(|| peer.part(el));
        finish(el, task).unwrap();
        assert_eq!(end, Ok(()));
        assert!(peer.notified && peer.received == b"last words");
        run_until(el, || el.stats().transports.live() == 0);
        assert_eq!(written.len(), usize::from(el.debug()), "{written:?}");
        assert!(written.iter().all(|(_, text)| text.starts_with("resource warning: unclosed StreamWriter")), "{written:?}");
    }
}

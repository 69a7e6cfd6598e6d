//! Files over transports (behaviours SF): peers that go away, other programs as peers, connections that end.

#[path = "common/files.rs"]
mod files;

mod common;
mod wire;

use std::io;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use common::{complete, on_loop, run_until, settle};
use files::{file, position};
use wire::{NETS, Net, Record, Tap, connect, connect_narrow, finish, pattern, until_lost};

/// More than any pair of sockets here buffers.
const LARGE: usize = 3_000_000;

/// The kinds of error of a connection that the peer has ended.
fn is_broken(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

on_every_loop! {
    /// SF-14: a peer that goes away in the middle is an error of the connection, which ends it; the position tells how far
    /// it came.
    fn peer_closes_in_the_middle(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
            let file = file(&pattern(LARGE));
            let sending = el.create_task(el.sendfile(&transport, &file).fallback(false).into_future());
            let mut read = 0;
            run_until(el, || {
                read += peer.sip(10_000);
                read >= 10_000
            });
            peer.close();
            let error = complete(el, sending).unwrap().unwrap_err();
            assert!(is_broken(error.kind()), "{error:?}");
            assert!(transport.is_closing());
            until_lost(el, &record);
            assert_eq!(record.take(), ["made".to_owned(), format!("lost {:?}", error.kind())]);
            let sent = position(&file) as usize;
            assert!((10_000..LARGE).contains(&sent), "{sent}");
        }
    }

    /// SF-14: a peer that is gone already is the same error, and nothing is reported as sent.
    fn peer_is_gone_before(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::new(&record));
            transport.pause_reading();
            let file = file(b"abc");
            match net {
                Net::Tcp => peer.reset(),
                Net::Unix => peer.close(),
            }
            let error = complete(el, el.sendfile(&transport, &file).into_future()).unwrap_err();
            assert!(is_broken(error.kind()), "{error:?}");
            assert_eq!(position(&file), 0);
            until_lost(el, &record);
        }
    }

    /// SF-15: a peer that goes away when it has everything is no error of the sending.
    fn peer_closes_behind_the_file(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::new(&record));
            let file = file(&pattern(LARGE));
            let sending = el.create_task(el.sendfile(&transport, &file).into_future());
            run_until(el, || peer.count() == LARGE);
            peer.close();
            assert_eq!(complete(el, sending).unwrap().unwrap(), LARGE as u64);
            assert_eq!(position(&file), LARGE as u64);
            until_lost(el, &record);
            assert_eq!(record.take(), ["made", "eof", "lost"]);
        }
    }

    /// `abort` does not wait for the file: whoever sends it hears that the connection is lost.
    fn abort_in_the_middle(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
            let file = file(&pattern(LARGE));
            let sending = el.create_task(el.sendfile(&transport, &file).into_future());
            settle(el);
            transport.abort();
            let error = complete(el, sending).unwrap().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            assert_eq!(error.to_string(), "Connection lost");
            until_lost(el, &record);
            assert_eq!(record.take(), ["made", "lost"]);
            assert_eq!(position(&file), peer.count() as u64);
        }
    }

    /// The loop is closed with a file on its way: no word, the position is right, and no descriptor is left.
    fn the_loop_is_closed_in_the_middle(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
            let file = file(&pattern(LARGE));
            let mut sending = Box::pin(el.sendfile(&transport, &file).into_future());
            assert!(complete(el, common::poll_times(&mut sending, 1)).is_none());
            if net == Net::Tcp {
                drop(sending);
                finish(el, &transport, &record);
            } else {
                el.close();
                drop(sending);
            }
            assert_eq!(position(&file), peer.count() as u64);
        }
    }
}

/// SF-10: Python's socket receives what another program sends it: head, file, tail.
#[test]
fn python_receives_a_file() {
    const PROGRAM: &str = "
import hashlib, socket, sys
with socket.create_connection(('127.0.0.1', int(sys.argv[1]))) as sock:
    digest, size = hashlib.sha256(), 0
    while data := sock.recv(100_000):
        digest.update(data)
        size += len(data)
print(size, digest.hexdigest())
";
    on_loop(|el| {
        let data = pattern(5_000_000);
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), [b"head", &data[1000..], b"tail"].concat()).unwrap();
        let expected = Command::new("sha256sum").arg(path.path()).output().unwrap().stdout;
        let expected = String::from_utf8(expected).unwrap();
        let expected = format!("{} {}", data.len() - 1000 + 8, expected.split(' ').next().unwrap());

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let python = Command::new("python3").args(["-c", PROGRAM, &port]).stdout(Stdio::piped()).spawn().unwrap();
        let record = Record::new();
        let (transport, _) = wire::attach(el, listener.accept().unwrap().0.into(), Tap::new(&record));
        let file = file(&data);
        transport.write(b"head");
        let sent = complete(el, el.sendfile(&transport, &file).offset(1000).into_future()).unwrap();
        assert_eq!(sent, data.len() as u64 - 1000);
        transport.write(b"tail");
        transport.close();
        until_lost(el, &record);
        let output = python.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), expected);
        drop(listener);
    });
}

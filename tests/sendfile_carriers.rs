//! Files over transports of the loop's own that have no socket for themselves: pipes, and streams of the application's
//! (behaviours SF). They keep everybody else away as those of sockets do.

#[path = "common/files.rs"]
mod files;
#[path = "common/pipes.rs"]
mod pipes;

mod common;
mod wire;

use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use common::{complete, on_loop, run_until, settle, take_reports};
use files::{file, position};
use pipes::{pipe, read_pipe, receive, until_gone, write_pipe};
use roundelay::{EventLoop, SendfileNotAvailable, Task, Transport};
use wire::{Net, Peer, Record, Tap, assert_sleeps, pattern, sockets, until_lost};

/// More than any pair of sockets or pipe here buffers.
const LARGE: usize = 3_000_000;

/// What carries a transport here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    Pipe,
    /// One direction of a socket.
    SocketEnd,
    /// A plain stream, given to `connect_stream`.
    Stream,
}

const CARRIERS: [Carrier; 3] = [Carrier::Pipe, Carrier::SocketEnd, Carrier::Stream];

/// A transport on such a carrier that is narrow, and its peer.
fn open(el: &EventLoop, carrier: Carrier, tap: Tap) -> (Transport, Far) {
    let (near, far) = sockets(Net::Unix);
    near.set_send_buffer_size(8 * 1024).unwrap();
    match carrier {
        Carrier::Pipe => {
            let (reader, writer) = pipe();
            let (transport, _) = complete(el, el.connect_write_pipe(|| tap, writer)).unwrap();
            (transport, Far::Pipe(reader))
        }
        Carrier::SocketEnd => {
            let (transport, _) = complete(el, el.connect_write_pipe(|| tap, OwnedFd::from(near))).unwrap();
            (transport, Far::Socket(Peer::new(far)))
        }
        Carrier::Stream => {
            near.set_nonblocking(true).unwrap();
            let std = UnixStream::from(OwnedFd::from(near));
            let (transport, _) = complete(el, async {
                el.connect_stream(|| tap, roundelay::UnixStream::from_std(std).unwrap()).unwrap()
            });
            (transport, Far::Socket(Peer::new(far)))
        }
    }
}

enum Far {
    Pipe(std::fs::File),
    Socket(Peer),
}

impl Far {
    /// So many bytes, or those up to the end.
    fn take(&mut self, el: &EventLoop, n: usize) -> Vec<u8> {
        match self {
            Far::Pipe(reader) => receive(el, reader, n),
            Far::Socket(peer) => {
                run_until(el, || peer.count() >= n || peer.end().is_some());
                peer.received()
            }
        }
    }
}

fn send(el: &EventLoop, transport: &Transport, file: &std::fs::File) -> Task<io::Result<u64>> {
    el.create_task(el.sendfile(transport, file).into_future())
}

on_every_loop! {
    /// SF-06: without a fallback they are refused, and nothing is changed or reported by that.
    fn refused_without_fallback(el) {
        for carrier in CARRIERS {
            let record = Record::new();
            let (transport, _far) = open(el, carrier, Tap::new(&record));
            let file = file(b"abc");
            let error = complete(el, el.sendfile(&transport, &file).fallback(false).into_future()).unwrap_err();
            assert!(error.get_ref().is_some_and(|error| error.is::<SendfileNotAvailable>()), "{carrier:?}: {error:?}");
            transport.write(b"on");
            transport.close();
            until_lost(el, &record);
        }
    }

    /// SF-04, SF-08: behind what was queued and before all else; what is written meanwhile is refused, and closing waits.
    fn nobody_comes_between(el) {
        for carrier in CARRIERS {
            let record = Record::new();
            let (transport, mut far) = open(el, carrier, Tap::new(&record));
            let data = pattern(LARGE);
            let file = file(&data);
            transport.write(&data[..500_000]);
            let sending = send(el, &transport, &file);
            settle(el);
            assert_eq!(record.take(), ["made", "pause"], "{carrier:?}");
            transport.write(b"between");
            let reports = take_reports();
            assert!(reports.len() == 1 && reports[0].contains("sendfile is in progress"), "{carrier:?}: {reports:?}");
            let error = complete(el, el.sendfile(&transport, &file).into_future()).unwrap_err();
            assert!(error.to_string().contains("another sendfile is in progress"), "{error}");
            transport.close();
            settle(el);
            assert_eq!(record.lost(), 0, "{carrier:?}");
            let received = far.take(el, usize::MAX);
            assert!(received == [&data[..500_000], &data[..]].concat(), "{carrier:?}: {}", received.len());
            assert_eq!(complete(el, sending).unwrap().unwrap(), LARGE as u64);
            assert_eq!(position(&file), LARGE as u64);
            until_lost(el, &record);
            assert_eq!(record.take(), ["resume", "lost"], "{carrier:?}");
        }
    }

    /// The protocol is not told to pause because of a file, and the cap of the queue does not count it.
    fn not_the_protocols_queue(el) {
        for carrier in CARRIERS {
            let record = Record::new();
            let (transport, mut far) = open(el, carrier, Tap::new(&record));
            transport.set_write_buffer_cap(10_000);
            let data = pattern(LARGE);
            let file = file(&data);
            let sending = send(el, &transport, &file);
            settle(el);
            assert_sleeps(el);
            assert!(far.take(el, LARGE) == data, "{carrier:?}");
            assert_eq!(complete(el, sending).unwrap().unwrap(), LARGE as u64);
            transport.write(b"behind");
            transport.close();
            until_lost(el, &record);
            assert_eq!(record.take(), ["made", "lost"], "{carrier:?}");
        }
    }

    /// SF-09: given up in the middle it goes as far as its position says, and the transport stays usable.
    fn dropped_half_way(el) {
        for carrier in CARRIERS {
            let record = Record::new();
            let (transport, mut far) = open(el, carrier, Tap::new(&record));
            let data = pattern(LARGE);
            let file = file(&data);
            let sending = send(el, &transport, &file);
            run_until(el, || transport.write_buffer_size() > 0);
            sending.cancel();
            run_until(el, || sending.is_done());
            let sent = position(&file) as usize;
            assert!((1..LARGE).contains(&sent), "{carrier:?}: {sent}");
            transport.write(b"behind");
            transport.write_eof();
            let received = far.take(el, usize::MAX);
            assert!(received == [&data[..sent], b"behind"].concat(), "{carrier:?}: {} of {sent}", received.len());
            transport.close();
            until_lost(el, &record);
        }
    }

    /// SF-14: the peer goes away in the middle: an error of the sending and of the connection.
    fn the_peer_goes_away(el) {
        for carrier in CARRIERS {
            let record = Record::new();
            let (transport, far) = open(el, carrier, Tap::new(&record));
            let sending = send(el, &transport, &file(&pattern(LARGE)));
            run_until(el, || transport.write_buffer_size() > 0);
            drop(far);
            let error = complete(el, sending).unwrap().unwrap_err();
            assert!(matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset), "{error:?}");
            until_lost(el, &record);
            assert_eq!(record.take(), ["made".to_owned(), format!("lost {:?}", error.kind())], "{carrier:?}");
        }
    }

    /// Reading is held up while a file goes out over a stream, as it was asked for meanwhile afterwards.
    fn reading_of_a_stream(el) {
        for pauses in [false, true] {
            let record = Record::new();
            let (transport, mut far) = open(el, Carrier::Stream, Tap::half_open(&record));
            let data = pattern(LARGE);
            let sending = send(el, &transport, &file(&data));
            run_until(el, || transport.write_buffer_size() > 0);
            assert!(!transport.is_reading());
            let Far::Socket(peer) = &far else { unreachable!() };
            peer.send(b"meanwhile");
            peer.socket.shutdown(Shutdown::Write).unwrap();
            if pauses {
                transport.pause_reading();
            }
            settle(el);
            assert_eq!(record.take(), ["made"]);
            assert!(far.take(el, LARGE) == data);
            complete(el, sending).unwrap().unwrap();
            settle(el);
            if pauses {
                assert!(record.is_silent() && !transport.is_reading());
                transport.resume_reading();
            }
            run_until(el, || record.has("eof"));
            assert_eq!(record.take(), ["data 9", "eof"]);
            transport.abort();
            until_lost(el, &record);
        }
    }

    /// A reading end takes no file.
    fn a_reading_end(el) {
        let (reader, _writer) = pipe();
        let (transport, recorder) = read_pipe(el, reader);
        let file = file(b"abc");
        let error = complete(el, el.sendfile(&transport, &file).into_future()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert_eq!(error.to_string(), "EventLoop::sendfile(): the transport has the reading end of a pipe");
        assert!(transport.is_reading());
        transport.close();
        until_gone(el, &transport);
        assert_eq!(recorder.log.take(), ["made", "lost"]);
    }

    /// A device takes everything at once.
    fn a_device(el) {
        let null = std::fs::File::options().write(true).open("/dev/null").unwrap();
        let (transport, recorder) = write_pipe(el, null);
        let sending = send(el, &transport, &file(&pattern(LARGE)));
        assert_eq!(complete(el, sending).unwrap().unwrap(), LARGE as u64);
        transport.write_eof();
        until_gone(el, &transport);
        assert_eq!(recorder.log.take(), ["made", "lost"]);
    }
}

/// The loop is closed while a file goes out.
#[test]
fn the_loop_is_closed() {
    for carrier in CARRIERS {
        on_loop(|el| {
            let record = Record::new();
            let (transport, _far) = open(el, carrier, Tap::new(&record));
            let sending = send(el, &transport, &file(&pattern(LARGE)));
            run_until(el, || transport.write_buffer_size() > 0);
            el.close();
            assert!(sending.is_done());
            assert!(transport.protocol().is_none());
        });
    }
}

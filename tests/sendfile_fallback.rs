//! Files that the system does not send by itself (behaviours SF): read on a thread and written, or refused.

#[path = "common/faults.rs"]
mod faults;
#[path = "common/files.rs"]
mod files;
#[path = "common/seccomp.rs"]
mod seccomp;

mod common;
mod wire;

use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Kind, alone, complete, on_loop, run_alone, run_until, settle};
use faults::with_faults;
use files::{drain, file, pipe, position, set_position};
use roundelay::{EventLoop, SendfileNotAvailable};
use wire::{NETS, Net, Record, Tap, assert_sleeps, connect, connect_narrow, finish, pattern, until_lost};

/// More than any pair of sockets here buffers.
const LARGE: usize = 3_000_000;

const KINDS: [Kind; 3] = [Kind::Epoll, Kind::Polling, Kind::Level];

#[track_caller]
fn assert_not_available(error: &io::Error, reason: &str) {
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    assert!(error.get_ref().is_some_and(|error| error.is::<SendfileNotAvailable>()), "{error:?}");
    assert!(error.to_string().contains(reason), "{error}");
}

/// Runs a test on each selector where `sendfile` fails with `errno`, on a thread of its own.
fn without_sendfile(test: &str, errno: i32, body: fn(&EventLoop)) {
    let _alone = alone();
    let thread = std::thread::spawn({
        let test = test.to_owned();
        move || match seccomp::refuse(libc::SYS_sendfile, errno) {
            Ok(()) => KINDS.into_iter().for_each(|kind| run_alone(|| kind.builder(), body)),
            Err(error) => seccomp::skip(&test, &error),
        }
    });
    if let Err(payload) = thread.join() {
        std::panic::resume_unwind(payload);
    }
}

/// SF-06, SF-07: what the system refuses at the first call is read and written instead, with the same result, on
/// transports and sockets; with the fallback off it is an error that has the system's in it.
#[test]
fn reads_and_writes_what_the_system_refuses() {
    for errno in [libc::EINVAL, libc::ENOSYS, libc::EIO] {
        without_sendfile("reads_and_writes_what_the_system_refuses", errno, |el| {
            for net in NETS {
                let record = Record::new();
                let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
                let data = pattern(LARGE);
                let file = file(&data);
                transport.write(b"before");
                let sending = el.create_task(el.sendfile(&transport, &file).offset(5).into_future());
                run_until(el, || peer.count() == 6 + LARGE - 5);
                assert_eq!(complete(el, sending).unwrap().unwrap(), LARGE as u64 - 5);
                assert_eq!(position(&file), LARGE as u64);
                transport.write(b"behind");
                run_until(el, || peer.count() == 12 + LARGE - 5);
                assert!(peer.received() == [b"before", &data[5..], b"behind"].concat());
                assert_eq!(complete(el, el.sendfile(&transport, &file).count(7).into_future()).unwrap(), 7);
                assert_eq!(position(&file), 7);

                let error = complete(el, el.sendfile(&transport, &file).fallback(false).into_future()).unwrap_err();
                assert_not_available(&error, "sendfile is not available: the sendfile call failed: ");
                let source = error.get_ref().unwrap().source().unwrap().downcast_ref::<io::Error>().unwrap();
                assert!(matches!(source.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EIO)), "{source}");
                assert_eq!(position(&file), 0);
                assert!(transport.is_reading() && !transport.is_closing());
                finish(el, &transport, &record);
            }
            let (socket, peer) = UnixStream::pair().unwrap();
            socket.set_nonblocking(true).unwrap();
            let data = pattern(LARGE);
            let file = file(&data);
            let received = files::reader(peer, LARGE as u64);
            assert_eq!(complete(el, el.sock_sendfile(&socket, &file).into_future()).unwrap(), LARGE as u64);
            assert!(received.join().unwrap() == data);
            let error = complete(el, el.sock_sendfile(&socket, &file).fallback(false).into_future()).unwrap_err();
            assert!(error.get_ref().is_some_and(|error| error.is::<SendfileNotAvailable>()), "{error:?}");
        });
    }
}

/// SF-14: a peer that goes away in the middle of the fallback: the same error, the same end, the position in between.
#[test]
fn peer_closes_in_the_middle() {
    without_sendfile("peer_closes_in_the_middle", libc::EINVAL, |el| {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect_narrow(el, net, Tap::new(&record));
            let file = file(&pattern(LARGE));
            let sending = el.create_task(el.sendfile(&transport, &file).into_future());
            let mut read = 0;
            run_until(el, || {
                read += peer.sip(10_000);
                read >= 10_000
            });
            peer.close();
            let error = complete(el, sending).unwrap().unwrap_err();
            assert!(matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{error:?}");
            assert!(transport.is_closing());
            until_lost(el, &record);
            assert_eq!(record.take(), ["made".to_owned(), format!("lost {:?}", error.kind())]);
            let sent = position(&file) as usize;
            assert!((10_000..LARGE).contains(&sent), "{sent}");
        }
    });
}

/// SF-16: the fallback does not show to the protocol, which hears of its own bytes only; nothing is received meanwhile.
#[test]
fn is_not_seen_by_the_protocol() {
    without_sendfile("is_not_seen_by_the_protocol", libc::EINVAL, |el| {
        let record = Record::new();
        let (transport, peer) = connect_narrow(el, Net::Tcp, Tap::new(&record));
        transport.write(&pattern(300_000));
        settle(el);
        assert_eq!(record.take(), ["made", "pause"]);
        let file = file(&pattern(LARGE));
        let sending = el.create_task(el.sendfile(&transport, &file).into_future());
        settle(el);
        peer.send(b"hello");
        run_until(el, || {
            peer.pump();
            record.has("resume")
        });
        let protocol = transport.protocol().unwrap();
        assert!(protocol.downcast::<Tap>().is_some());
        run_until(el, || peer.count() == 300_000 + LARGE);
        complete(el, sending).unwrap().unwrap();
        run_until(el, || record.len() == 5);
        assert_eq!(record.take(), ["resume", "data 5"]);
        finish(el, &transport, &record);
    });
}

/// SF-07: an error at a later call is the error itself; the position tells what was sent. The transport stays open, for
/// it is not the connection's.
#[test]
fn an_error_at_a_later_call_is_given() {
    let _alone = alone();
    let calls = AtomicUsize::new(0);
    let fault = |_: &[u64; 6]| (calls.fetch_add(1, Ordering::SeqCst) == 2).then_some(libc::EIO);
    let ran = with_faults(libc::SYS_sendfile, fault, || {
        for kind in KINDS {
            run_alone(
                || kind.builder(),
                |el| {
                    let record = Record::new();
                    let (transport, peer) = connect_narrow(el, Net::Tcp, Tap::new(&record));
                    let data = pattern(LARGE);
                    let file = file(&data);
                    calls.store(0, Ordering::SeqCst);
                    let sending = el.create_task(el.sendfile(&transport, &file).into_future());
                    run_until(el, || {
                        peer.pump();
                        sending.is_done()
                    });
                    let error = complete(el, sending).unwrap().unwrap_err();
                    assert_eq!(error.raw_os_error(), Some(libc::EIO));
                    let sent = position(&file) as usize;
                    assert!(sent > 0 && sent < LARGE, "{sent}");
                    transport.write(b"on");
                    run_until(el, || peer.count() == sent + 2);
                    assert!(peer.received() == [&data[..sent], b"on"].concat());
                    finish(el, &transport, &record);

                    let (socket, peer) = UnixStream::pair().unwrap();
                    socket.set_nonblocking(true).unwrap();
                    calls.store(0, Ordering::SeqCst);
                    let received = drain(peer);
                    let error = complete(el, el.sock_sendfile(&socket, &file).into_future()).unwrap_err();
                    assert_eq!(error.raw_os_error(), Some(libc::EIO));
                    drop(socket);
                    assert_eq!(position(&file), received.join().unwrap().unwrap());
                },
            );
        }
    });
    assert!(!ran || calls.load(Ordering::SeqCst) > 2);
}

on_every_loop! {
    /// SF-06: a pipe is no regular file: it is read as it fills, on a thread, and its end is the end.
    fn sends_what_comes_out_of_a_pipe(el) {
        for net in NETS {
            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::new(&record));
            let data = pattern(1_000_000);
            let (source, filled) = pipe(&data);
            let error = complete(el, el.sendfile(&transport, &source).fallback(false).into_future()).unwrap_err();
            assert_not_available(&error, "sendfile is not available: not a regular file");
            let error = complete(el, el.sendfile(&transport, &source).offset(1).into_future()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert_eq!(error.to_string(), "EventLoop::sendfile(): offset() needs a file that has places");
            let sending = el.create_task(el.sendfile(&transport, &source).into_future());
            run_until(el, || peer.count() == data.len());
            assert_eq!(complete(el, sending).unwrap().unwrap(), data.len() as u64);
            assert!(peer.received() == data);
            filled.join().unwrap().unwrap();
            finish(el, &transport, &record);
        }
    }

    /// SF-06: a pipe that nobody fills keeps no thread and is given up at once.
    fn waits_for_a_pipe_without_a_thread(el) {
        let record = Record::new();
        let (transport, peer) = connect(el, Net::Tcp, Tap::new(&record));
        let (source, mut write) = rustix::pipe::pipe().map(|(read, write)| (File::from(read), File::from(write))).unwrap();
        let sending = el.create_task(el.sendfile(&transport, &source).count(5).into_future());
        settle(el);
        assert_sleeps(el);
        // Those of the loop before may be about to end.
        run_until(el, || pool_threads() == 0);
        io::Write::write_all(&mut write, b"abc").unwrap();
        run_until(el, || peer.count() == 3);
        assert!(!sending.is_done());
        peer.send(b"meanwhile");
        settle(el);
        assert_eq!(record.len(), 0);
        assert!(sending.cancel());
        run_until(el, || record.len() == 9);
        assert!(transport.is_reading());
        io::Write::write_all(&mut write, b"defghijkl").unwrap();
        assert_eq!(complete(el, el.sendfile(&transport, &source).count(5).into_future()).unwrap(), 5);
        assert_eq!(peer.received(), b"abcdefgh");
        finish(el, &transport, &record);
    }

    /// SF-06: a device that cannot be waited for is read by the pool; a directory is an error.
    fn sends_from_a_device(el) {
        let record = Record::new();
        let (transport, peer) = connect(el, Net::Tcp, Tap::new(&record));
        let zero = File::open("/dev/zero").unwrap();
        let sending = el.create_task(el.sendfile(&transport, &zero).count(1_000_000).into_future());
        run_until(el, || peer.count() == 1_000_000);
        assert_eq!(complete(el, sending).unwrap().unwrap(), 1_000_000);
        assert!(peer.received().iter().all(|&byte| byte == 0));
        let folder = File::open("/").unwrap();
        let error = complete(el, el.sendfile(&transport, &folder).into_future()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EISDIR));
        let null = File::open("/dev/null").unwrap();
        assert_eq!(complete(el, el.sendfile(&transport, &null).into_future()).unwrap(), 0);
        assert!(!transport.is_closing() && transport.is_reading());
        finish(el, &transport, &record);
    }
}

/// How many of this process' threads are an executor's.
fn pool_threads() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let names = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("comm")).ok());
    names.filter(|name| name.contains("roundelay")).count()
}

/// A file that cannot be read is the reader's error, and so is one whose disk fails: nothing ends but the sending.
#[test]
fn a_file_that_cannot_be_read() {
    on_loop(|el| {
        let record = Record::new();
        let (transport, peer) = connect(el, Net::Tcp, Tap::new(&record));
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), b"abc").unwrap();
        let file = File::options().write(true).open(path.path()).unwrap();
        set_position(&file, 2);
        let error = complete(el, el.sendfile(&transport, &file).into_future()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        transport.write(b"on");
        assert_eq!(peer.received(), b"on");
        finish(el, &transport, &record);
    });
}

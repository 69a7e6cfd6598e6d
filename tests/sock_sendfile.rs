//! Files over the application's own sockets (behaviours SF).

#[path = "common/files.rs"]
mod files;

mod common;
mod wire;

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::UdpSocket;
use std::rc::Rc;

use common::{Kind, complete, on_loop, run, run_until, settle};
use files::{drain, file, position, reader, set_position};
use socket2::Socket;
use wire::{NETS, Net, Record, Tap, assert_sleeps, connect, finish, pattern, sockets};

/// More than any pair of sockets here buffers.
const LARGE: usize = 3_000_000;

/// Two sockets that do not block, the first with little room.
fn pair(net: Net) -> (Rc<Socket>, Socket) {
    let (near, far) = sockets(net);
    near.set_send_buffer_size(128 * 1024).unwrap();
    near.set_nonblocking(true).unwrap();
    (Rc::new(near), far)
}

on_every_loop! {
    /// SF-01, SF-08: the whole file, over a socket that fills up again and again; the count, and the position behind what
    /// was sent.
    fn sends_a_file(el) {
        for net in NETS {
            let (socket, peer) = pair(net);
            let data = pattern(LARGE);
            let file = file(&data);
            set_position(&file, 1000);
            let received = reader(peer, LARGE as u64);
            let sent = complete(el, el.sock_sendfile(&socket, &file).fallback(false).into_future()).unwrap();
            assert_eq!(sent, LARGE as u64);
            assert_eq!(position(&file), LARGE as u64);
            assert!(received.join().unwrap() == data);
            assert_sleeps(el);
        }
    }

    /// SF-02, SF-03: parts, nothing, and more than there is.
    fn sends_a_part(el) {
        for net in NETS {
            let (socket, mut peer) = pair(net);
            let data = pattern(3000);
            let file = file(&data);
            let part = |offset, count| el.sock_sendfile(&socket, &file).offset(offset).count(count).into_future();
            assert_eq!(complete(el, part(1000, Some(500))).unwrap(), 500);
            assert_eq!(position(&file), 1500);
            assert_eq!(complete(el, part(2900, Some(5000))).unwrap(), 100);
            assert_eq!(position(&file), 3000);
            assert_eq!(complete(el, part(2990, None)).unwrap(), 10);
            assert_eq!(complete(el, part(3000, None)).unwrap(), 0);
            assert_eq!(complete(el, el.sock_sendfile(&socket, files::file(b"")).into_future()).unwrap(), 0);
            drop(socket);
            let mut received = Vec::new();
            peer.read_to_end(&mut received).unwrap();
            assert!(received == [&data[1000..1500], &data[2900..], &data[2990..]].concat());
        }
    }

    /// SF-04: it goes between what is sent otherwise.
    fn goes_between_other_writes(el) {
        for net in NETS {
            let (socket, peer) = pair(net);
            let data = pattern(LARGE);
            let file = file(&data);
            let received = reader(peer, u64::MAX);
            complete(el, el.sock_sendall(&socket, "before")).unwrap();
            complete(el, el.sock_sendfile(&socket, &file).into_future()).unwrap();
            complete(el, el.sock_sendall(&socket, "behind")).unwrap();
            drop(socket);
            assert!(received.join().unwrap() == [b"before", &data[..], b"behind"].concat());
        }
    }

    /// SF-09: dropped in the middle, nobody waits for the socket any more, the position tells how far it came, and the
    /// socket is as usable as before.
    fn gives_up_when_it_is_dropped(el) {
        for net in NETS {
            let (socket, peer) = pair(net);
            let data = pattern(LARGE);
            let file = file(&data);
            let before = el.stats();
            let sending = el.create_task(el.sock_sendfile(socket.clone(), &file).into_future());
            settle(el);
            assert!(!sending.is_done());
            assert_sleeps(el);
            assert!(sending.cancel());
            settle(el);
            let sent = position(&file);
            assert!(sent > 0 && sent < LARGE as u64, "{sent}");
            assert_eq!(el.stats().descriptors.live(), before.descriptors.live());
            let received = reader(peer, LARGE as u64);
            let rest = complete(el, el.sock_sendfile(&socket, &file).offset(sent).into_future()).unwrap();
            assert_eq!(sent + rest, LARGE as u64);
            assert!(received.join().unwrap() == data);
        }
    }

    /// SF-14: a peer that goes away is the socket's error, and the position tells what was sent before.
    fn peer_closes_in_the_middle(el) {
        for net in NETS {
            let (socket, mut peer) = pair(net);
            let file = file(&pattern(LARGE));
            let sending = el.create_task(el.sock_sendfile(socket.clone(), &file).into_future());
            settle(el);
            peer.read_exact(&mut [0; 5000]).unwrap();
            drop(peer);
            let error = complete(el, sending).unwrap().unwrap_err();
            assert!(matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{error:?}");
            let sent = position(&file) as usize;
            assert!((5000..LARGE).contains(&sent), "{sent}");
        }
    }

    /// What waits to read goes on beside it; what writes is refused, for it would come into the middle of the file, and so
    /// is a socket of a transport.
    fn goes_together_with_readers(el) {
        let (socket, mut peer) = pair(Net::Tcp);
        let data = pattern(LARGE);
        let file = file(&data);
        let heard = Rc::new(Cell::new(0));
        let (count, own) = (heard.clone(), socket.clone());
        el.add_reader(&socket, move || {
            count.set(count.get() + (&*own).read(&mut [0; 100]).unwrap());
        })
        .unwrap();
        let sending = el.create_task(el.sock_sendfile(socket.clone(), &file).into_future());
        settle(el);
        let error = complete(el, el.sock_sendfile(&socket, files::file(b"abc")).into_future()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        assert!(error.to_string().ends_with("is waited for by sock_sendfile()"), "{error}");
        let error = complete(el, el.sock_sendall(&socket, "no")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        peer.write_all(b"hello").unwrap();
        run_until(el, || heard.get() == 5);
        let received = reader(peer.try_clone().unwrap(), LARGE as u64);
        complete(el, sending).unwrap().unwrap();
        assert!(received.join().unwrap() == data);
        peer.write_all(b"again").unwrap();
        run_until(el, || heard.get() == 10);
        assert!(el.remove_reader(&socket));

        let record = Record::new();
        let (transport, _peer) = connect(el, Net::Tcp, Tap::new(&record));
        let own = transport.extra_info().socket.unwrap();
        let refused = own.with(|socket| complete(el, el.sock_sendfile(&*socket, &file).into_future())).unwrap();
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(error.to_string().ends_with("is used by a transport or stream"), "{error}");
        finish(el, &transport, &record);
    }

    /// Files to many sockets at once share the loop.
    fn many_at_once(el) {
        let data = pattern(300_000);
        let file = file(&data);
        let mut tasks = Vec::new();
        let mut readers = Vec::new();
        for i in 0..10 {
            let (socket, peer) = pair(NETS[i % 2]);
            tasks.push(el.create_task(el.sock_sendfile(socket.clone(), &file).into_future()));
            readers.push(reader(peer, data.len() as u64));
        }
        for task in tasks {
            assert_eq!(complete(el, task).unwrap().unwrap(), data.len() as u64);
        }
        for received in readers {
            assert!(received.join().unwrap() == data);
        }
    }
}

/// SF-05: a count of zero, a socket that is no stream, one that blocks (in debug mode), what is no socket, one that is
/// not connected, and a loop that is closed.
#[test]
fn refuses_what_cannot_be() {
    on_loop(|el| {
        let (socket, peer) = pair(Net::Tcp);
        let file = file(b"abc");
        set_position(&file, 2);
        let error = complete(el, el.sock_sendfile(&socket, &file).count(0).into_future()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "EventLoop::sock_sendfile(): count() must be a positive number of bytes");
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let error = complete(el, el.sock_sendfile(&udp, &file).into_future()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "EventLoop::sock_sendfile(): only stream sockets are supported");
        let error = complete(el, el.sock_sendfile(&file, &file).into_future()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK));
        assert_eq!(position(&file), 2);
        let unconnected = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let error = complete(el, el.sock_sendfile(&unconnected, &file).into_future()).unwrap_err();
        assert!(matches!(error.kind(), io::ErrorKind::NotConnected | io::ErrorKind::BrokenPipe), "{error:?}");
        let building = el.sock_sendfile(&socket, &file);
        assert!(format!("{building:?}").contains("sock_sendfile"));
        el.close();
        let error = roundelay::block_on(building.into_future()).unwrap_err();
        assert!(error.get_ref().is_some_and(|error| error.is::<roundelay::LoopClosed>()), "{error}");
        drop(drain(peer));
    });
    for debug in [true, false] {
        run(Kind::Epoll, debug, |el| {
            let (socket, mut peer) = pair(Net::Unix);
            socket.set_nonblocking(false).unwrap();
            let result = complete(el, el.sock_sendfile(&socket, file(b"abc")).into_future());
            if debug {
                let error = result.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
                assert_eq!(error.to_string(), "EventLoop::sock_sendfile(): the socket must be non-blocking");
            } else {
                assert_eq!(result.unwrap(), 3);
                peer.read_exact(&mut [0; 3]).unwrap();
            }
        });
    }
}

/// The loop is closed while it waits for room: the future says so.
#[test]
fn the_loop_is_closed_in_the_middle() {
    on_loop(|el| {
        let (socket, _peer) = pair(Net::Tcp);
        let file = file(&pattern(LARGE));
        let mut sending = Box::pin(el.sock_sendfile(&socket, &file).into_future());
        assert!(complete(el, common::poll_times(&mut sending, 1)).is_none());
        el.close();
        let error = roundelay::block_on(sending).unwrap_err();
        assert!(error.get_ref().is_some_and(|error| error.is::<roundelay::LoopClosed>()), "{error}");
        assert!(position(&file) > 0);
    });
}

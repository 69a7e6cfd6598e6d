//! Connections over unix sockets: by address and by socket, what is known of them, how they end.

mod common;
#[path = "common/tcp.rs"]
mod tcp;
#[path = "common/unix.rs"]
mod unix;

use std::future::IntoFuture;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use roundelay::{
    EventLoop, ExtraInfo, LoopClosed, Protocol, Transport, UnixAddr, UnixEndpoint, open_unix_connection,
    start_unix_server,
};
use socket2::{Domain, SockAddr, Socket, Type};

use common::{DropCounter, Log, on_manual_clock, open_descriptors, poll_times, run_until, settle};
use tcp::{Connections, Recorder, calm, close, complete, end, idle};
use unix::{Folder, abstract_name, leave_stale, serve_echo, unix_error};

/// The error of a connection that cannot be made.
#[track_caller]
fn refusal(el: &EventLoop, endpoint: impl Into<UnixEndpoint>) -> io::Error {
    complete(el, el.create_unix_connection(idle(), endpoint)).map(drop).unwrap_err()
}

/// What this process is to the other end of its own sockets.
#[track_caller]
fn check_own(info: &ExtraInfo) {
    let credentials = info.peer_credentials.expect("the peer is known");
    assert_eq!(credentials.pid, Some(i32::try_from(std::process::id()).unwrap()));
    assert_eq!(credentials.uid, rustix::process::geteuid().as_raw());
    assert_eq!(credentials.gid, rustix::process::getegid().as_raw());
}

/// A server whose queue is full: a listener that accepts nobody yet.
fn full(path: &PathBuf) -> (Socket, Vec<UnixStream>) {
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    listener.bind(&SockAddr::unix(path).unwrap()).unwrap();
    listener.listen(0).unwrap();
    let waiting = UnixStream::connect(path).unwrap();
    (listener, vec![waiting])
}

on_every_loop! {
    /// UN-01: a client by path, in every type that a path has.
    fn connects_by_path(el) {
        let folder = Folder::new();
        let path = folder.path("served");
        let server = serve_echo(el, &path);
        let text = path.to_str().unwrap();
        let endpoints: Vec<UnixEndpoint> = vec![
            path.as_path().into(),
            (&path).into(),
            path.clone().into(),
            text.into(),
            text.to_owned().into(),
            text.as_bytes().into(),
            text.as_bytes().to_vec().into(),
            path.as_os_str().into(),
            path.as_os_str().to_owned().into(),
            UnixAddr::from(&path).into(),
            (&UnixAddr::from(&path)).into(),
        ];
        for endpoint in endpoints {
            assert_eq!(format!("{endpoint:?}"), format!("UnixEndpoint({path:?})"));
            let recorder = Recorder::new();
            let given = recorder.clone();
            let (transport, protocol) = complete(el, el.create_unix_connection(move || given, endpoint)).unwrap();
            assert_eq!(recorder.take(), ["made"]);
            protocol.with(|protocol| assert!(protocol.take().is_empty()));
            transport.write(b"hello");
            transport.write_eof();
            run_until(el, || transport.protocol().is_none());
            assert_eq!(recorder.take(), ["data hello", "eof", "lost"]);
        }
        end(el, &server);
    }

    /// UN-02: a path that is missing is not found; one where nobody listens refuses. Both errors name it.
    fn a_missing_path_is_not_found(el) {
        let folder = Folder::new();
        let (missing, stale, file) = (folder.path("missing"), folder.path("stale"), folder.path("file"));
        leave_stale(&stale);
        std::fs::write(&file, "").unwrap();
        let before = open_descriptors();
        let cases = [
            (&missing, ErrorKind::NotFound, libc::ENOENT),
            (&stale, ErrorKind::ConnectionRefused, libc::ECONNREFUSED),
            (&file, ErrorKind::ConnectionRefused, libc::ECONNREFUSED),
        ];
        for (path, kind, code) in cases {
            let error = refusal(el, path);
            assert_eq!(error.kind(), kind);
            assert_eq!(unix_error(&error).error.raw_os_error(), Some(code));
            assert_eq!((unix_error(&error).action, &unix_error(&error).address), ("connect to", &path.into()));
            assert_eq!(error.to_string(), format!("cannot connect to {path:?}: {}", io::Error::from_raw_os_error(code)));
        }
        assert_eq!(open_descriptors(), before);
        assert_eq!(folder.names(), ["file", "stale"]);
    }

    /// UN-04: what is no address, and what is no unix stream socket, is refused with the reason. A socket that is given is
    /// closed.
    fn other_endpoints_are_refused(el) {
        let text = |endpoint: UnixEndpoint| {
            let error = refusal(el, endpoint);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            error.to_string()
        };
        assert_eq!(text("".into()), "create_unix_connection: a unix address is needed, and an empty one was given");
        assert!(text("x".repeat(200).into()).ends_with("is longer than the system takes"));
        assert!(text("a\0b".into()).ends_with("contains a zero byte"));

        let before = open_descriptors();
        let (one, other) = tcp::plain_pair();
        assert_eq!(text(OwnedFd::from(one).into()), "create_unix_connection: a unix stream socket was expected");
        drop(other);
        let (one, other) = UnixDatagram::pair().unwrap();
        assert_eq!(text(OwnedFd::from(one).into()), "create_unix_connection: a stream socket was expected");
        drop(other);
        assert_eq!(open_descriptors(), before);
    }

    /// UN-04: a connected socket is taken over, whether it blocks or not, in each of its types.
    fn a_connected_socket_is_taken(el) {
        for number in 0..4 {
            let (ours, mut peer) = UnixStream::pair().unwrap();
            ours.set_nonblocking(number % 2 == 0).unwrap();
            let fd = ours.as_raw_fd();
            let endpoint: UnixEndpoint = match number {
                0 | 1 => ours.into(),
                2 => OwnedFd::from(ours).into(),
                _ => Socket::from(OwnedFd::from(ours)).into(),
            };
            assert_eq!(format!("{endpoint:?}"), "UnixEndpoint(the given socket)");
            let recorder = Recorder::new();
            let given = recorder.clone();
            let (transport, _) = complete(el, el.create_unix_connection(move || given, endpoint)).unwrap();
            let info = transport.extra_info();
            let socket = info.socket.as_ref().unwrap();
            assert_eq!(socket.raw_fd(), Some(fd));
            assert_eq!(socket.with(|socket| socket.nonblocking().unwrap()), Some(true));
            check_own(&info);
            peer.write_all(b"hello").unwrap();
            drop(peer);
            run_until(el, || transport.protocol().is_none());
            assert_eq!(recorder.take(), ["made", "data hello", "eof", "lost"]);
        }
    }

    /// UN-10: `create_connection` and `connect_accepted_socket` take a unix stream socket as well, and know as much of it.
    fn the_other_methods_take_one_too(el) {
        let folder = Folder::new();
        let path = folder.path("listening");
        let listener = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let recorder = Recorder::new();
        let (first, second) = (recorder.clone(), recorder.clone());
        let (client, _) = complete(el, el.create_connection(move || first, OwnedFd::from(client))).unwrap();
        let (accepted, _) = complete(el, el.connect_accepted_socket(move || second, accepted)).unwrap();
        assert_eq!(recorder.take(), ["made", "made"]);

        let (ours, theirs) = (client.extra_info(), accepted.extra_info());
        assert_eq!((ours.unix_peer_addr, ours.unix_local_addr), (Some(UnixAddr::from(&path)), Some(UnixAddr::unnamed())));
        assert_eq!((theirs.unix_local_addr, theirs.unix_peer_addr), (Some(UnixAddr::from(&path)), Some(UnixAddr::unnamed())));
        assert_eq!((theirs.local_addr, theirs.peer_addr), (None, None));

        client.write(b"over");
        run_until(el, || recorder.0.len() > 0);
        assert_eq!(recorder.take(), ["data over"]);
        close(el, &client);
        run_until(el, || accepted.protocol().is_none());
        assert_eq!(recorder.take(), ["lost", "eof", "lost"]);
    }

    /// TC-22: both ends are known on both sides, and who the peer is; also after the end, asked before or held until then.
    fn both_ends_are_known(el) {
        let folder = Folder::new();
        let path = folder.path("served");
        let connections = Connections::new();
        let server = complete(el, el.create_unix_server(connections.factory(), &path)).unwrap();
        let (transport, _) = complete(el, el.create_unix_connection(idle(), &path)).unwrap();
        run_until(el, || connections.len() == 1);
        let accepted = connections.get(0);
        let check = |info: ExtraInfo, local: UnixAddr, peer: UnixAddr| {
            assert_eq!((info.unix_local_addr.as_ref(), info.unix_peer_addr.as_ref()), (Some(&local), Some(&peer)));
            assert_eq!((info.local_addr, info.peer_addr), (None, None));
            check_own(&info);
        };
        // Only the one is asked while it is open.
        check(transport.extra_info(), UnixAddr::unnamed(), (&path).into());
        close(el, &transport);
        run_until(el, || accepted.protocol().is_none());
        assert_eq!(accepted.extra_info().socket.unwrap().raw_fd(), None);
        check(transport.extra_info(), UnixAddr::unnamed(), (&path).into());
        check(accepted.extra_info(), (&path).into(), UnixAddr::unnamed());
        end(el, &server);
    }

    /// A client that has bound a name of its own is known by it.
    fn a_bound_client_is_known(el) {
        let folder = Folder::new();
        let (path, own) = (folder.path("served"), folder.path("own"));
        let connections = Connections::new();
        let server = complete(el, el.create_unix_server(connections.factory(), &path)).unwrap();
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&own).unwrap()).unwrap();
        socket.connect(&SockAddr::unix(&path).unwrap()).unwrap();
        let (transport, _) = complete(el, el.create_unix_connection(idle(), socket)).unwrap();
        run_until(el, || connections.len() == 1);
        assert_eq!(connections.get(0).extra_info().unix_peer_addr, Some(UnixAddr::from(&own)));
        assert_eq!(transport.extra_info().unix_local_addr, Some(UnixAddr::from(&own)));
        transport.abort();
        end(el, &server);
        assert_eq!(folder.names(), ["own"], "a client's file is the client's");
    }

    /// TC-22: of a TCP connection nothing of this is known.
    fn a_tcp_connection_has_none_of_it(el) {
        let (ours, _peer) = tcp::plain_pair();
        let (transport, _) = complete(el, el.create_connection(idle(), ours)).unwrap();
        let info = transport.extra_info();
        assert!(info.local_addr.is_some() && info.peer_addr.is_some());
        assert_eq!((info.unix_local_addr, info.unix_peer_addr, info.peer_credentials), (None, None, None));
        close(el, &transport);
    }

    /// UN-08: abstract names, of any bytes.
    fn connects_to_an_abstract_name(el) {
        let address = abstract_name("connected\u{0}to");
        let server = complete(el, el.create_unix_server(|| tcp::Echo, &address)).unwrap();
        let (transport, _) = complete(el, el.create_unix_connection(idle(), &address)).unwrap();
        assert_eq!(transport.extra_info().unix_peer_addr, Some(address.clone()));
        close(el, &transport);
        end(el, &server);
        let error = refusal(el, &address);
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(error.to_string().starts_with(r#"cannot connect to "\0roundelay-"#), "{error}");
    }

    /// UN-09, TC-20: a cancelled connection closes the socket that it was given once, and never another that has its
    /// number since.
    fn a_cancelled_connection_closes_its_socket_once(el) {
        calm(el);
        let before = open_descriptors();
        for polls in 0..10 {
            let (ours, mut peer) = UnixStream::pair().unwrap();
            let future = el.create_unix_connection(idle(), ours).into_future();
            let done = complete(el, poll_times(future, polls));
            // Whoever opens something now may get the number.
            let (mut next, mut other) = UnixStream::pair().unwrap();
            let cancelled = done.is_none();
            if let Some(made) = done {
                made.unwrap().0.abort();
            }
            calm(el);
            assert_eq!(peer.read(&mut [0]).unwrap(), 0, "the socket is open after {polls} polls");
            next.write_all(b"x").unwrap();
            other.read_exact(&mut [0]).unwrap();
            drop((peer, next, other));
            assert_eq!(open_descriptors(), before);
            if !cancelled {
                return;
            }
        }
        panic!("never done");
    }

    /// TC-19: a connection by path is cancelled at each of its await points: nothing is left, and who was told of the
    /// connection is told of its end.
    fn a_connection_is_cancelled_anywhere(el) {
        struct Paired(Log);
        impl Protocol for Paired {
            fn connection_made(&mut self, _: &Transport) {
                self.0.push("made");
            }
            fn connection_lost(&mut self, _: &Transport, error: Option<io::Error>) {
                assert!(error.is_none());
                self.0.push("lost");
            }
        }
        let folder = Folder::new();
        let path = folder.path("served");
        let server = serve_echo(el, &path);
        calm(el);
        let (before, live) = (open_descriptors(), el.stats().transports.live());
        for polls in 0..50 {
            let log = Log::new();
            let given = log.clone();
            let future = el.create_unix_connection(move || Paired(given), &path).into_future();
            let made = complete(el, poll_times(future, polls)).map(|made| made.unwrap().0.abort());
            calm(el);
            assert_eq!((open_descriptors(), el.stats().transports.live()), (before, live), "after {polls} polls");
            let heard = log.take();
            assert!(heard.is_empty() || heard == ["made", "lost"], "{heard:?}");
            if made.is_some() {
                assert_eq!(heard.len(), 2);
                return end(el, &server);
            }
        }
        panic!("never done");
    }

    /// While the server's queue is full a connection waits, without spinning, and stands when there is room.
    fn a_full_queue_is_waited_for(el) {
        let folder = Folder::new();
        let path = folder.path("full");
        let (listener, waiting) = full(&path);
        let recorder = Recorder::new();
        let given = recorder.clone();
        let connection = el.create_unix_connection(move || given, &path).into_future();
        let task = el.create_task(async move { connection.await.unwrap().0 });
        settle(el);
        assert!(!task.is_done() && recorder.take().is_empty());
        drop(listener.accept().unwrap());
        let transport = complete(el, task).unwrap();
        assert_eq!(recorder.take(), ["made"]);
        close(el, &transport);
        drop(waiting);
    }

    /// A connection that waits for a full queue can be cancelled, and ends when the server is gone.
    fn waiting_for_a_full_queue_ends(el) {
        let folder = Folder::new();
        let path = folder.path("full");
        let (listener, waiting) = full(&path);
        calm(el);
        let before = open_descriptors();
        let cancelled = complete(el, poll_times(el.create_unix_connection(idle(), &path).into_future(), 3));
        assert!(cancelled.is_none());
        calm(el);
        assert_eq!((open_descriptors(), el.stats().timers.live()), (before, 0));

        let task = el.create_task(el.create_unix_connection(idle(), &path).into_future());
        settle(el);
        drop(listener);
        let error = complete(el, task).unwrap().map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        drop(waiting);
    }

    /// SR-01: streams over unix sockets, with a handler and its errors as over TCP.
    fn streams_over_a_path(el) {
        let folder = Folder::new();
        let path = folder.path("streams");
        let served = path.clone();
        complete(el, async move {
            let handler = async |mut reader: roundelay::StreamReader, mut writer: roundelay::StreamWriter| {
                let line = reader.readline().await?;
                writer.write(&line.to_ascii_uppercase());
                writer.drain().await?;
                writer.close();
                io::Result::Ok(())
            };
            let server = start_unix_server(handler, &served).limit(1024).backlog(3).await.unwrap();
            let (mut reader, mut writer) = open_unix_connection(&served).limit(100).await.unwrap();
            assert_eq!(writer.extra_info().unix_peer_addr, Some(UnixAddr::from(&served)));
            writer.write(b"quietly\n");
            assert_eq!(reader.readline().await.unwrap(), b"QUIETLY\n");
            assert_eq!(reader.read(1).await.unwrap(), b"");
            writer.close();
            writer.wait_closed().await.unwrap();
            server.close();
            server.wait_closed().await;
        });
        assert!(folder.names().is_empty());
    }

    /// SR-13: a limit of zero is refused, and nothing is opened for it.
    fn a_limit_of_zero_is_refused(el) {
        let folder = Folder::new();
        let path = folder.path("streams");
        complete(el, async move {
            let error = open_unix_connection(&path).limit(0).await.map(drop).unwrap_err();
            assert_eq!(error.to_string(), "open_unix_connection: limit() must be above zero");
            let error = start_unix_server(async |_, _| (), &path).limit(0).await.map(drop).unwrap_err();
            assert_eq!(error.to_string(), "start_unix_server: limit() must be above zero");
        });
        assert!(folder.names().is_empty());
    }

    /// A connection of a closed loop is refused; one that is awaited in another loop, too, by name.
    fn a_closed_loop_connects_nobody(el) {
        let other = EventLoop::new().unwrap();
        let error = complete(&other, el.create_unix_connection(idle(), "unused")).map(drop).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("create_unix_connection: a future of loop "), "{text}");
        el.close();
        let (ours, _peer) = UnixStream::pair().unwrap();
        for endpoint in [UnixEndpoint::from("unused"), ours.into()] {
            let connection = el.create_unix_connection(idle(), endpoint);
            let error = complete(&other, connection).map(drop).unwrap_err();
            assert_eq!(error.to_string(), LoopClosed.to_string());
        }
    }

    /// What a factory captures is dropped when the connection fails, and it is not called.
    fn a_factory_of_a_failed_connection_is_dropped(el) {
        let drops = DropCounter::new();
        let guard = Rc::new(drops.guard());
        let factory = move || -> tcp::Idle {
            let _guard = guard;
            unreachable!("there is no connection")
        };
        assert!(complete(el, el.create_unix_connection(factory, "/missing/socket")).is_err());
        assert_eq!(drops.count(), 1);
    }
}

/// A full queue is asked for again by the loop's clock: after a millisecond, then after twice as long each time, and at
/// last every 50 milliseconds.
#[test]
fn a_full_queue_is_asked_for_by_the_clock() {
    on_manual_clock(|el, clock| {
        let folder = Folder::new();
        let path = folder.path("full");
        let (listener, waiting) = full(&path);
        let task = el.create_task(el.create_unix_connection(idle(), &path).into_future());
        settle(el);
        for delay in [1, 2, 4, 8, 16, 32, 50, 50] {
            let left = el.next_deadline().unwrap().saturating_duration_since(el.time());
            assert_eq!(left, Duration::from_millis(delay));
            clock.advance(left);
            settle(el);
        }
        drop(listener.accept().unwrap());
        clock.advance(Duration::from_millis(50));
        let (transport, _) = complete(el, task).unwrap().unwrap();
        transport.abort();
        settle(el);
        drop(waiting);
    });
}

//! Servers on unix sockets: what stands at their path, what becomes of their file, what they are told.

mod common;
#[path = "common/tcp.rs"]
mod tcp;
#[path = "common/unix.rs"]
mod unix;

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use roundelay::{Server, UnixAddr};
use socket2::{Domain, SockAddr, Socket, Type};

use common::{Kind, open_descriptors, poll_times, run_until, settle, take_reports};
use tcp::{Connections, Echo, calm, complete, end, idle};
use unix::{Folder, abstract_name, echoes, leave_stale, refusal, serve_echo, unix_error};

/// Why an address is taken.
#[track_caller]
fn check_in_use(error: &io::Error, path: &Path, why: &str) {
    assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
    assert_eq!(unix_error(error).address, path.into());
    assert_eq!(unix_error(error).error.to_string(), format!("Address {path:?} is already in use: {why}"));
}

on_every_loop! {
    /// UN-01: a server by path, in every type that a path has; who connects is served, and the server knows where it is.
    fn serves_by_path(el) {
        let folder = Folder::new();
        let path = folder.path("served");
        let text = path.to_str().unwrap();
        let serve = |builder: roundelay::CreateUnixServer<fn() -> Echo>| {
            let server = complete(el, builder).unwrap();
            assert!(server.is_serving());
            assert_eq!((server.unix_addrs(), server.local_addrs()), (vec![UnixAddr::from(&path)], vec![]));
            assert!(echoes(el, &path));
            end(el, &server);
            assert!(server.unix_addrs().is_empty());
        };
        let echo: fn() -> Echo = || Echo;
        serve(el.create_unix_server(echo, path.as_path()));
        serve(el.create_unix_server(echo, &path));
        serve(el.create_unix_server(echo, path.clone()));
        serve(el.create_unix_server(echo, text));
        serve(el.create_unix_server(echo, text.to_owned()));
        serve(el.create_unix_server(echo, text.as_bytes()));
        serve(el.create_unix_server(echo, path.as_os_str()));
        serve(el.create_unix_server(echo, UnixAddr::from(&path)));
        assert!(folder.names().is_empty());
    }

    /// UN-02: a folder that is missing is not found, and the error names the path. Nothing is made.
    fn a_missing_folder_is_not_found(el) {
        let folder = Folder::new();
        let path = folder.path("missing/socket");
        let before = open_descriptors();
        let error = refusal(el, idle(), &path);
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.to_string(), format!("cannot bind on {path:?}: {}", io::Error::from_raw_os_error(libc::ENOENT)));
        assert_eq!(unix_error(&error).error.raw_os_error(), Some(libc::ENOENT));
        assert_eq!(open_descriptors(), before);
        assert!(folder.names().is_empty());
    }

    /// UN-03: the file of a socket that was closed is replaced, however often that happens.
    fn a_stale_file_is_replaced(el) {
        let folder = Folder::new();
        let path = folder.path("stale");
        leave_stale(&path);
        for _ in 0..3 {
            let server = complete(el, el.create_unix_server(|| Echo, &path).cleanup_socket(false)).unwrap();
            assert!(echoes(el, &path));
            end(el, &server);
            assert!(path.exists());
        }
        // A datagram socket leaves the same.
        fs::remove_file(&path).unwrap();
        drop(UnixDatagram::bind(&path).unwrap());
        let server = serve_echo(el, &path);
        assert!(echoes(el, &path));
        end(el, &server);
        assert!(folder.names().is_empty());
    }

    /// UN-03: what is no socket is left alone: the address is in use, and the error says why.
    fn what_is_no_socket_is_left(el) {
        let folder = Folder::new();
        let (file, sub, link, target) = (folder.path("file"), folder.path("sub"), folder.path("link"), folder.path("t"));
        fs::write(&file, "precious").unwrap();
        fs::create_dir(&sub).unwrap();
        leave_stale(&target);
        symlink(&target, &link).unwrap();
        let before = open_descriptors();
        for path in [&file, &sub, &link] {
            check_in_use(&refusal(el, idle(), path), path, "what is there is no socket");
        }
        assert_eq!(open_descriptors(), before);
        assert_eq!(fs::read(&file).unwrap(), b"precious");
        assert_eq!(folder.names(), ["file", "link", "sub", "t"]);
    }

    /// UN-03: a socket that is open is left alone, whoever it belongs to and whether it listens or not, and its owner does
    /// not notice.
    fn a_live_socket_is_left(el) {
        let folder = Folder::new();
        let path = folder.path("live");
        let why = "a socket that is open is bound to it";

        let server = serve_echo(el, &path);
        check_in_use(&refusal(el, idle(), &path), &path, why);
        settle(el);
        assert_eq!(server.connections(), 0);
        assert!(echoes(el, &path));
        end(el, &server);

        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        check_in_use(&refusal(el, idle(), &path), &path, why);
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "somebody has knocked");
        drop(listener);
        fs::remove_file(&path).unwrap();

        let bound = complete(el, el.create_unix_server(idle(), &path).start_serving(false)).unwrap();
        check_in_use(&refusal(el, idle(), &path), &path, why);
        complete(el, bound.start_serving()).unwrap();
        bound.close();

        let datagrams = UnixDatagram::bind(&path).unwrap();
        check_in_use(&refusal(el, idle(), &path), &path, why);
        drop(datagrams);
    }

    /// UN-04: a socket of another kind is refused, with the reason, and closed.
    fn other_sockets_are_refused(el) {
        let folder = Folder::new();
        let before = open_descriptors();
        let internet = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let datagrams = UnixDatagram::bind(folder.path("datagrams")).unwrap();
        let fds = [OwnedFd::from(internet), OwnedFd::from(datagrams), OwnedFd::from(fs::File::open("/dev/null").unwrap())];
        let texts = ["a unix stream socket was expected", "a stream socket was expected", "a unix stream socket was expected"];
        for (fd, text) in fds.into_iter().zip(texts) {
            let error = refusal(el, idle(), fd);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(error.to_string(), format!("create_unix_server: {text}"));
        }
        assert_eq!(open_descriptors(), before);
    }

    /// UN-04: what is no address is refused, and settings that have no sense are.
    fn what_is_no_address_is_refused(el) {
        let long = "x".repeat(200);
        for (path, reason) in [("", "an empty one was given"), (&long, "is longer than the system takes"), ("a\0b", "zero byte")] {
            let error = refusal(el, idle(), path);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let text = error.to_string();
            assert!(text.starts_with("create_unix_server: ") && text.contains(reason), "{text}");
        }
        let error = complete(el, el.create_unix_server(idle(), "unused").max_connections(0)).unwrap_err();
        assert_eq!(error.to_string(), "create_unix_server: max_connections() must be at least 1");
        let error = complete(el, el.create_unix_server(idle(), "unused").idle_timeout(Duration::ZERO)).unwrap_err();
        assert_eq!(error.to_string(), "create_unix_server: idle_timeout() must be longer than zero");
        assert!(!Path::new("unused").exists());
    }

    /// UN-04: a socket that was made non-blocking beforehand is taken like any other, and one that blocks no longer does.
    fn a_given_socket_serves(el) {
        let folder = Folder::new();
        for nonblocking in [false, true] {
            let path = folder.path("given");
            let listener = UnixListener::bind(&path).unwrap();
            listener.set_nonblocking(nonblocking).unwrap();
            let number = listener.as_raw_fd();
            let server = complete(el, el.create_unix_server(|| Echo, listener)).unwrap();
            assert_eq!(server.sockets()[0].raw_fd(), Some(number));
            assert_eq!(server.sockets()[0].with(|socket| socket.nonblocking().unwrap()), Some(true));
            assert_eq!(server.unix_addrs(), [UnixAddr::from(&path)]);
            assert!(echoes(el, &path));
            end(el, &server);
            assert!(!path.exists());
        }
        // One that does not listen yet, in other types.
        let path = folder.path("bound");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        let server = complete(el, el.create_unix_server(|| Echo, OwnedFd::from(socket))).unwrap();
        assert!(echoes(el, &path));
        end(el, &server);
    }

    /// UN-06: any other error of binding closes the socket and comes through.
    fn an_error_of_binding_comes_through(el) {
        let folder = Folder::new();
        let file = folder.path("file");
        fs::write(&file, "").unwrap();
        let path = file.join("below");
        let before = open_descriptors();
        let error = refusal(el, idle(), &path);
        assert_eq!(unix_error(&error).error.raw_os_error(), Some(libc::ENOTDIR));
        assert_eq!((unix_error(&error).action, &unix_error(&error).address), ("bind on", &UnixAddr::from(&path)));
        assert_eq!(open_descriptors(), before);
    }

    /// UN-07: the file goes when the server is closed, at once, also that of a socket that was given.
    fn the_file_goes_with_the_server(el) {
        let folder = Folder::new();
        let path = folder.path("own");
        let server = serve_echo(el, &path);
        assert!(path.exists());
        server.close();
        assert!(!path.exists());

        let server = complete(el, el.create_unix_server(idle(), UnixListener::bind(&path).unwrap())).unwrap();
        assert!(path.exists());
        server.close();
        assert!(!path.exists());

        // Also of one that has not begun to listen.
        let server = complete(el, el.create_unix_server(idle(), &path).start_serving(false)).unwrap();
        assert!(path.exists());
        drop(server);
        assert!(!path.exists());
        let server = complete(el, el.create_unix_server(idle(), &path).start_serving(false)).unwrap();
        el.close();
        assert!(!path.exists());
        drop(server);
    }

    /// UN-07: the loop's own end removes it, too.
    fn the_file_goes_with_the_loop(el) {
        let folder = Folder::new();
        let path = folder.path("own");
        drop(serve_echo(el, &path));
        assert!(path.exists());
        el.close();
        assert!(!path.exists());
    }

    /// UN-07: a file that is gone already is no matter.
    fn a_file_that_is_gone_is_fine(el) {
        let folder = Folder::new();
        let path = folder.path("own");
        let server = serve_echo(el, &path);
        fs::remove_file(&path).unwrap();
        server.close();
        assert!(take_reports().is_empty());
    }

    /// UN-07: what has taken its place is left: another server's socket, or a file.
    fn a_file_that_was_replaced_is_left(el) {
        let folder = Folder::new();
        let path = folder.path("own");
        let first = serve_echo(el, &path);
        fs::remove_file(&path).unwrap();
        let second = serve_echo(el, &path);
        first.close();
        assert!(path.exists());
        assert!(echoes(el, &path));
        end(el, &second);
        assert!(!path.exists());

        let server = serve_echo(el, &path);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another").unwrap();
        server.close();
        assert_eq!(fs::read(&path).unwrap(), b"another");
    }

    /// UN-07: what is still the same socket goes, though its permissions were changed or it has another name as well.
    fn a_file_that_was_changed_goes(el) {
        let folder = Folder::new();
        let (path, other) = (folder.path("own"), folder.path("other"));
        let server = serve_echo(el, &path);
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        fs::hard_link(&path, &other).unwrap();
        server.close();
        assert_eq!(folder.names(), ["other"]);
    }

    /// UN-07: on request the file stays.
    fn the_file_stays_on_request(el) {
        let folder = Folder::new();
        let (own, given) = (folder.path("own"), folder.path("given"));
        let servers: Vec<Server> = vec![
            complete(el, el.create_unix_server(idle(), &own).cleanup_socket(false)).unwrap(),
            complete(el, el.create_unix_server(idle(), UnixListener::bind(&given).unwrap()).cleanup_socket(false)).unwrap(),
        ];
        servers.iter().for_each(Server::close);
        assert_eq!(folder.names(), ["given", "own"]);
    }

    /// UN-07: a relative path is one of the folder in which the server was made, wherever the process is when it is closed.
    fn a_path_may_be_relative(el) {
        let folder = Folder::new();
        let path = folder.path("own");
        let here = std::env::current_dir().unwrap();
        // No other test of this program looks at the folder of the process, and they run one at a time.
        std::env::set_current_dir(path.parent().unwrap()).unwrap();
        let server = serve_echo(el, Path::new("own"));
        std::env::set_current_dir(here).unwrap();
        assert_eq!(server.unix_addrs(), [UnixAddr::from("own")]);
        assert!(path.exists() && echoes(el, &path));
        end(el, &server);
        assert!(!path.exists());
    }

    /// UN-08: an abstract name is served, and no file is looked at: one of the same name stays.
    fn an_abstract_name_is_no_file(el) {
        let address = abstract_name("served");
        let name = String::from_utf8(address.as_abstract_name().unwrap().to_vec()).unwrap();
        for given in [false, true] {
            let server = if given {
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
                socket.bind(&SockAddr::unix(format!("\0{name}")).unwrap()).unwrap();
                complete(el, el.create_unix_server(|| Echo, socket)).unwrap()
            } else {
                complete(el, el.create_unix_server(|| Echo, format!("\0{name}"))).unwrap()
            };
            assert_eq!(server.unix_addrs(), std::slice::from_ref(&address));
            assert!(format!("{server:?}").contains(&format!("[{address}]")), "{server:?}");
            let error = refusal(el, idle(), address.clone());
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            assert_eq!(unix_error(&error).error.raw_os_error(), Some(libc::EADDRINUSE));

            let (transport, _) = complete(el, el.create_unix_connection(idle(), &address)).unwrap();
            assert_eq!(transport.extra_info().unix_peer_addr.as_ref(), Some(&address));
            transport.abort();
            end(el, &server);
        }
    }

    /// SV-13: what was accepted stays when the server is closed, though its path is gone, and another server may have it.
    fn connections_outlive_the_file(el) {
        let folder = Folder::new();
        let path = folder.path("own");
        let connections = Connections::new();
        let server = complete(el, el.create_unix_server(connections.factory(), &path)).unwrap();
        let mut client = UnixStream::connect(&path).unwrap();
        run_until(el, || connections.len() == 1);
        server.close();
        let next = serve_echo(el, &path);

        client.write_all(b"still there").unwrap();
        client.set_nonblocking(true).unwrap();
        let mut answer = Vec::new();
        run_until(el, || {
            let mut piece = [0; 64];
            client.read(&mut piece).map(|n| answer.extend_from_slice(&piece[..n])).is_ok_and(|()| answer.len() == 11)
        });
        assert_eq!(answer, b"still there");
        let info = connections.get(0).extra_info();
        assert_eq!(info.unix_local_addr, Some(UnixAddr::from(&path)));
        end(el, &server);
        end(el, &next);
    }

    /// SV-10: a server that is only bound refuses; then it serves.
    fn a_server_may_begin_later(el) {
        let folder = Folder::new();
        let path = folder.path("later");
        let server = complete(el, el.create_unix_server(|| Echo, &path).start_serving(false)).unwrap();
        assert!(!server.is_serving());
        assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        complete(el, server.start_serving()).unwrap();
        assert!(server.is_serving() && echoes(el, &path));
        end(el, &server);
    }

    /// The settings that servers share hold here, too: no more connections than allowed, and the others wait.
    fn the_shared_settings_hold(el) {
        let folder = Folder::new();
        let path = folder.path("few");
        let connections = Connections::new();
        let builder = el.create_unix_server(connections.factory(), &path).max_connections(1).backlog(5);
        let server = complete(el, builder).unwrap();
        let clients = [UnixStream::connect(&path).unwrap(), UnixStream::connect(&path).unwrap()];
        run_until(el, || connections.len() == 1);
        calm(el);
        assert_eq!((connections.len(), server.connections()), (1, 1));
        let [first, second] = clients;
        drop(first);
        run_until(el, || connections.len() == 2);
        drop(second);
        end(el, &server);
    }

    /// A server that is never awaited, or in a closed loop, leaves nothing.
    fn nothing_is_left_of_what_is_not_made(el) {
        let folder = Folder::new();
        let path = folder.path("none");
        drop(el.create_unix_server(idle(), &path));
        drop(el.create_unix_server(idle(), &path).into_future());
        assert_eq!(complete(el, poll_times(el.create_unix_server(idle(), &path).into_future(), 0)).map(|_| ()), None);
        assert!(folder.names().is_empty());
        let late = el.create_unix_server(idle(), &path).into_future();
        el.close();
        let late = roundelay::EventLoop::new().unwrap().run_until_complete(late).unwrap().unwrap_err();
        assert_eq!(late.to_string(), roundelay::LoopClosed.to_string());
        assert!(folder.names().is_empty());
    }
}

/// A server that the loop closes under whoever has forgotten it is warned of, in debug mode, by its address.
#[test]
fn a_forgotten_server_is_named() {
    // Until the folder is removed, too, which opens it.
    let _alone = common::alone();
    let folder = Folder::new();
    let path = folder.path("forgotten");
    common::run_alone(
        || Kind::Epoll.builder().debug(true),
        |el| {
            let server = serve_echo(el, &path);
            assert_eq!(format!("{server:?}"), format!("<Server Serving addrs=[{path:?}] connections=0>"));
            drop(server);
        },
    );
}

/// UN-03: two servers race for a path that has a stale file, again and again: in the end there is a server that listens, who
/// came too late was told that the address is in use, and no file is left behind.
#[test]
fn racing_servers_leave_one() {
    use std::sync::Barrier;

    let _alone = common::alone();
    let folder = Folder::new();
    let path = folder.path("raced");
    for _ in 0..100 {
        leave_stale(&path);
        let barrier = Barrier::new(3);
        let serve = || {
            let el = roundelay::EventLoop::new().unwrap();
            barrier.wait();
            let made = el.run_until_complete(el.create_unix_server(|| Echo, &path)).unwrap();
            // Until the other thread has connected.
            barrier.wait();
            barrier.wait();
            made.map(drop).map_err(|error| error.kind())
        };
        std::thread::scope(|scope| {
            let servers = [scope.spawn(serve), scope.spawn(serve)];
            barrier.wait();
            barrier.wait();
            let connected = UnixStream::connect(&path);
            barrier.wait();
            let ends = servers.map(|server| server.join().unwrap());
            assert!(connected.is_ok() && ends.iter().any(Result::is_ok), "{ends:?}, {connected:?}");
            assert!(
                ends.iter().flat_map(|end| end.as_ref().err()).all(|kind| *kind == ErrorKind::AddrInUse),
                "{ends:?}"
            );
        });
        assert!(folder.names().is_empty());
    }
}

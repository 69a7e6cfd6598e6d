//! Client connections: endpoints, attempts, errors (behaviours TC).

mod common;
#[path = "common/tcp.rs"]
mod tcp;

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use roundelay::{
    AddrInfoFlags, ConnectErrors, Endpoint, EventLoop, Family, LoopClosed, Protocol, TcpListener, TimedOut, Transport,
    UdpSocket, open_connection, timeout,
};
use socket2::{Domain, Socket, Type};

use common::{on_loop, on_manual_clock, run_on, run_until, settle, take_reports};
use tcp::{
    Connections, Idle, LOOPBACK, Recorder, address_error, black_hole, close, closed_port, closed_port_on, complete,
    has_ipv6, idle, plain_listener, plain_pair, receive, receive_all, reset, take_client,
};

/// The error of a connection that cannot be made.
#[track_caller]
fn refusal(el: &EventLoop, builder: roundelay::CreateConnection<fn() -> Idle>) -> io::Error {
    complete(el, builder).expect_err("nobody is there")
}

on_every_loop! {
    /// TC-01: the transport and the protocol come back, and `connection_made` has been called by then.
    fn a_connection_comes_back_made(el) {
        let (listener, address) = plain_listener();
        let recorder = Recorder::new();
        let given = recorder.clone();
        let (transport, protocol) = complete(el, async {
            let connection = el.create_connection(move || given, address).await.unwrap();
            assert_eq!(recorder.take(), ["made"]);
            connection
        });
        assert!(take_client(&listener).is_some());
        assert!(!transport.is_closing());
        // The protocol that came back is the one that the transport calls.
        protocol.with(|protocol| protocol.0.push("mine"));
        assert_eq!(recorder.take(), ["mine"]);
        assert!(transport.protocol().is_some());
        close(el, &transport);
        assert_eq!(recorder.take(), ["lost"]);
    }

    /// TC-01: bytes go both ways, in order, and the end of one side is the end of the other.
    fn bytes_go_both_ways(el) {
        let (listener, address) = plain_listener();
        let recorder = Recorder::new();
        let given = recorder.clone();
        let (transport, _) = complete(el, el.create_connection(move || given, address)).unwrap();
        let mut peer = take_client(&listener).unwrap();
        transport.write(b"question");
        assert_eq!(receive(el, &mut peer, 8), b"question");
        peer.write_all(b"answer").unwrap();
        run_until(el, || recorder.0.len() == 2);
        drop(peer);
        run_until(el, || transport.protocol().is_none());
        assert_eq!(recorder.take(), ["made", "data answer", "eof", "lost"]);
    }

    /// TC-22: addresses and socket are known, the addresses also after the end.
    fn addresses_stay_known_after_the_end(el) {
        let (listener, address) = plain_listener();
        for abort in [false, true] {
            let (transport, _) = complete(el, el.create_connection(|| Idle, address)).unwrap();
            let peer = take_client(&listener).unwrap();
            let info = transport.extra_info();
            assert_eq!(info.peer_addr, Some(address));
            assert_eq!(info.local_addr, Some(peer.peer_addr().unwrap()));
            let view = info.socket.expect("a socket is behind it");
            assert!(view.raw_fd().is_some());
            if abort { transport.abort() } else { transport.close() }
            for _ in 0..2 {
                let later = transport.extra_info();
                assert_eq!((later.peer_addr, later.local_addr), (info.peer_addr, info.local_addr));
                settle(el);
            }
            assert!(transport.protocol().is_none());
            assert_eq!(view.raw_fd(), None);
            assert!(view.with(|_| ()).is_none());
        }
    }

    /// TC-17: `TCP_NODELAY` is set on both sides of every connection over TCP.
    fn small_writes_go_at_once(el) {
        let nodelay = |transport: &Transport| {
            transport.extra_info().socket.unwrap().with(|socket| socket.tcp_nodelay().unwrap()).unwrap()
        };
        let connections = Connections::new();
        let server = complete(el, el.create_server(connections.factory(), LOOPBACK)).unwrap();
        let address = server.local_addrs()[0];

        let (transport, _) = complete(el, el.create_connection(|| Idle, address)).unwrap();
        assert!(nodelay(&transport));
        let (given, _) = complete(el, el.create_connection(|| Idle, TcpStream::connect(address).unwrap())).unwrap();
        assert!(nodelay(&given));
        let streams = complete(el, async { open_connection(address).await }).unwrap();
        assert!(nodelay(&streams.1.transport()));
        run_until(el, || connections.len() == 3);
        assert!((0..3).all(|i| nodelay(&connections.get(i))));

        complete(el, async {
            let listener = TcpListener::bind(LOOPBACK).await.unwrap();
            let client = roundelay::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (accepted, _) = listener.accept().await.unwrap();
            assert!(client.nodelay().unwrap() && accepted.nodelay().unwrap());
            accepted.set_nodelay(false).unwrap();
            assert!(!accepted.nodelay().unwrap());
            let given = roundelay::TcpStream::connect(plain_pair().0).await.unwrap();
            let taken = roundelay::TcpStream::from_std(plain_pair().0).unwrap();
            assert!(given.nodelay().unwrap() && taken.nodelay().unwrap());
        });
        server.close();
        server.abort_clients();
        drop(streams);
        complete(el, server.wait_closed());
    }

    /// TC-18: a connected socket of each kind is taken over, and made non-blocking.
    fn a_connected_socket_is_taken_over(el) {
        for kind in 0..3 {
            let (ours, mut peer) = plain_pair();
            let address = peer.local_addr().unwrap();
            let recorder = Recorder::new();
            let given = recorder.clone();
            let endpoint = match kind {
                0 => Endpoint::from(ours),
                1 => Endpoint::from(Socket::from(ours)),
                _ => Endpoint::from(OwnedFd::from(ours)),
            };
            let builder = el.create_connection(move || given, endpoint);
            let (transport, _) = complete(el, builder).unwrap();
            let info = transport.extra_info();
            assert_eq!(info.peer_addr, Some(address));
            assert!(info.socket.unwrap().with(|socket| socket.nonblocking().unwrap()).unwrap());
            peer.write_all(b"hello").unwrap();
            run_until(el, || recorder.0.len() == 2);
            transport.write(b"bye");
            transport.close();
            assert_eq!(receive_all(el, &mut peer), b"bye");
            run_until(el, || transport.protocol().is_none());
            assert_eq!(recorder.take(), ["made", "data hello", "lost"]);
        }
    }

    /// TC-21: a connection that was accepted elsewhere gets a protocol, whatever the socket is given as.
    fn an_accepted_socket_gets_a_protocol(el) {
        for kind in 0..3 {
            let (mut peer, ours) = plain_pair();
            let address = peer.local_addr().unwrap();
            let recorder = Recorder::new();
            let given = recorder.clone();
            let factory = move || given;
            let builder = match kind {
                0 => el.connect_accepted_socket(factory, ours),
                1 => el.connect_accepted_socket(factory, Socket::from(ours)),
                _ => el.connect_accepted_socket(factory, OwnedFd::from(ours)),
            };
            let (transport, _) = complete(el, builder).unwrap();
            let info = transport.extra_info();
            assert_eq!(info.peer_addr, Some(address));
            assert!(info.socket.unwrap().with(|socket| socket.tcp_nodelay().unwrap()).unwrap());
            peer.write_all(b"hello").unwrap();
            drop(peer);
            run_until(el, || transport.protocol().is_none());
            assert_eq!(recorder.take(), ["made", "data hello", "eof", "lost"]);
        }
        let datagrams = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        let error = complete(el, el.connect_accepted_socket(|| Idle, datagrams)).unwrap_err();
        assert_eq!(error.to_string(), "connect_accepted_socket: a stream socket was expected");
        // Dropped before it is awaited, the socket is closed.
        let (mut peer, ours) = plain_pair();
        drop(el.connect_accepted_socket(|| Idle, ours));
        assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
    }

    /// TC-18: a socket that was non-blocking before, and what had arrived on it, are taken, too.
    fn what_arrived_before_is_delivered(el) {
        let (ours, mut peer) = plain_pair();
        ours.set_nonblocking(true).unwrap();
        peer.write_all(b"early").unwrap();
        drop(peer);
        let recorder = Recorder::new();
        let given = recorder.clone();
        let (transport, _) = complete(el, el.create_connection(move || given, ours)).unwrap();
        run_until(el, || transport.protocol().is_none());
        assert_eq!(recorder.take(), ["made", "data early", "eof", "lost"]);
    }

    /// TC-17, UN-10: a Unix socket, given as a descriptor, is a stream like others; it has no `TCP_NODELAY` to set.
    fn a_unix_socket_may_be_given(el) {
        let (ours, mut peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let recorder = Recorder::new();
        let given = recorder.clone();
        let (transport, _) = complete(el, el.create_connection(move || given, OwnedFd::from(ours))).unwrap();
        let info = transport.extra_info();
        assert_eq!((info.local_addr, info.peer_addr), (None, None));
        peer.write_all(b"hello").unwrap();
        drop(peer);
        run_until(el, || transport.protocol().is_none());
        assert_eq!(recorder.take(), ["made", "data hello", "eof", "lost"]);
    }

    /// TC-24: a peer that is gone already: the transport is made, without the peer's address, and then lost.
    fn a_peer_that_is_gone_has_no_address(el) {
        let (ours, peer) = plain_pair();
        let local_addr = ours.local_addr().unwrap();
        reset(peer);
        let recorder = Recorder::new();
        let given = recorder.clone();
        let (transport, _) = complete(el, el.create_connection(move || given, ours)).unwrap();
        let info = transport.extra_info();
        assert_eq!(info.peer_addr, None);
        assert_eq!(info.local_addr, Some(local_addr));
        run_until(el, || transport.protocol().is_none());
        assert_eq!(recorder.take(), ["made", "lost ConnectionReset"]);
    }

    /// TC-18: a socket that is not connected is lost with the error of the first read, and nobody spins.
    fn an_unconnected_socket_is_lost(el) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let recorder = Recorder::new();
        let given = recorder.clone();
        let (transport, _) = complete(el, el.create_connection(move || given, socket)).unwrap();
        run_until(el, || transport.protocol().is_none());
        assert_eq!(recorder.take(), ["made", "lost NotConnected"]);
    }

    /// TC-25: the descriptor of a transport or stream cannot be watched by anybody else.
    fn a_descriptor_in_use_is_refused(el) {
        let (listener, address) = plain_listener();
        let (transport, _) = complete(el, el.create_connection(|| Idle, address)).unwrap();
        let view = transport.extra_info().socket.unwrap();
        let error = view.with(|socket| el.add_reader(&*socket, || ())).unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(error.to_string().contains("is used by a transport or stream"), "{error}");
        assert!(!view.with(|socket| el.remove_reader(&*socket)).unwrap());

        complete(el, async {
            let stream = roundelay::TcpStream::connect(address).await.unwrap();
            assert_eq!(el.add_writer(&stream, || ()).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert!(!el.remove_writer(&stream));
        });
        // It still works.
        let mut peer = take_client(&listener).unwrap();
        transport.write(b"x");
        assert_eq!(receive(el, &mut peer, 1), b"x");
        close(el, &transport);
    }

    /// TC-26: a connection that is aborted or closed in `connection_made` comes back closed; nothing hangs.
    fn the_end_in_connection_made_does_not_hang(el) {
        struct Ends { abort: bool, recorder: Recorder }
        impl Protocol for Ends {
            fn connection_made(&mut self, transport: &Transport) {
                self.recorder.connection_made(transport);
                if self.abort { transport.abort() } else { transport.close() }
            }
            fn connection_lost(&mut self, transport: &Transport, error: Option<io::Error>) {
                self.recorder.connection_lost(transport, error);
            }
        }
        for abort in [true, false] {
            let (_listener, address) = plain_listener();
            let recorder = Recorder::new();
            let given = recorder.clone();
            let builder = el.create_connection(move || Ends { abort, recorder: given }, address);
            let (transport, _) = complete(el, builder).unwrap();
            assert!(transport.is_closing());
            run_until(el, || transport.protocol().is_none());
            assert_eq!(recorder.take(), ["made", "lost"]);
        }
    }

    /// TC-14, TC-28: a refused connection is an error of the awaited future, with the system's code and the address.
    fn a_refused_connection_says_where(el) {
        let (_holder, address) = closed_port();
        // Making the builder, or its future, does nothing yet.
        drop(el.create_connection(|| Idle, address));
        drop(el.create_connection(|| Idle, address).into_future());
        let error = refusal(el, el.create_connection(idle(), address));
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let inner = address_error(&error);
        assert_eq!((inner.action, inner.address), ("connect to", address));
        assert_eq!(inner.error.raw_os_error(), Some(libc::ECONNREFUSED));
        assert!(inner.source().is_some());
        assert_eq!(error.to_string(), format!("cannot connect to {address}: {}", inner.error));

        let error = complete(el, async { open_connection(address).await }).unwrap_err();
        assert_eq!(address_error(&error).address, address);
        let error = complete(el, async { roundelay::TcpStream::connect(address).await }).unwrap_err();
        assert_eq!(address_error(&error).address, address);
    }

    /// TC-08: addresses are tried in order until one connects; who comes after that one is left alone.
    fn addresses_are_tried_in_order(el) {
        let (_holder, closed) = closed_port();
        let ((first, open), (second, spare)) = (plain_listener(), plain_listener());
        let before = el.stats().descriptors.live();
        let (transport, _) = complete(el, el.create_connection(|| Idle, vec![closed, open, spare])).unwrap();
        assert_eq!(transport.extra_info().peer_addr, Some(open));
        assert_eq!(el.stats().descriptors.live(), before + 1);
        assert!(take_client(&first).is_some());
        assert!(take_client(&second).is_none());
        close(el, &transport);

        complete(el, async {
            let stream = roundelay::TcpStream::connect(&[closed, open][..]).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), open);
        });
    }

    /// TC-09: one attempt's error is the error; the same text twice is given once; others are all named.
    fn all_attempts_failed(el) {
        let ((_a, first), (_b, second)) = (closed_port(), closed_port());
        let before = el.stats().descriptors.live();

        let error = refusal(el, el.create_connection(idle(), vec![first]));
        assert_eq!(address_error(&error).address, first);

        let error = refusal(el, el.create_connection(idle(), vec![first, first]));
        assert_eq!(address_error(&error).address, first);

        let error = refusal(el, el.create_connection(idle(), vec![first, second]));
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let text = error.to_string();
        let starts = format!("Multiple exceptions: cannot connect to {first}: ");
        assert!(text.starts_with(&starts), "{text}");
        assert!(text.contains(&format!(", cannot connect to {second}: ")), "{text}");
        assert_eq!(el.stats().descriptors.live(), before);
    }

    /// TC-09: with `all_errors` each attempt has its error, also where there was one only.
    fn every_error_is_there_if_wanted(el) {
        let ((_a, first), (_b, second)) = (closed_port(), closed_port());
        for targets in [vec![first], vec![first, first], vec![first, second]] {
            let error = refusal(el, el.create_connection(idle(), targets.clone()).all_errors(true));
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            let all: &ConnectErrors = error.get_ref().unwrap().downcast_ref().unwrap();
            let addresses: Vec<SocketAddr> = all.errors.iter().map(|error| address_error(error).address).collect();
            assert_eq!(addresses, targets);
            assert!(addresses.iter().all(|one| error.to_string().contains(&one.to_string())), "{error}");
        }
        let targets = [first, second];
        let error = complete(el, async { open_connection(&targets[..]).all_errors(true).await }).unwrap_err();
        assert_eq!(error.get_ref().unwrap().downcast_ref::<ConnectErrors>().unwrap().errors.len(), 2);
    }

    /// TC-09, HE-07, gh-135836 of asyncio: without any attempt there is an error, too, and no panic.
    fn no_address_at_all_is_an_error(el) {
        for all_errors in [false, true] {
            let builder = el.create_connection(idle(), Vec::<SocketAddr>::new()).all_errors(all_errors);
            let error = refusal(el, builder);
            assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
            assert_eq!(error.to_string(), "there was no address to connect to");
        }
    }

    /// TC-11: the local address is bound before the connection is made, and the peer sees it.
    fn the_local_address_is_bound_first(el) {
        let (listener, address) = plain_listener();
        let (holder, local) = closed_port_on("127.0.0.2:0");
        drop(holder);
        let (transport, _) = complete(el, el.create_connection(|| Idle, address).local_addr(local)).unwrap();
        assert_eq!(transport.extra_info().local_addr, Some(local));
        assert_eq!(take_client(&listener).unwrap().peer_addr().unwrap(), local);
        close(el, &transport);

        let (reader, writer) =
            complete(el, async { open_connection(address).local_addr(("127.0.0.3", 0)).await }).unwrap();
        let bound = writer.extra_info().local_addr.unwrap();
        assert_eq!(bound.ip(), IpAddr::from([127, 0, 0, 3]));
        assert_eq!(take_client(&listener).unwrap().peer_addr().unwrap(), bound);
        drop((reader, writer));
        settle(el);
    }

    /// TC-12: local addresses of another family than the target's are skipped; if none is left that is the error.
    fn local_addresses_of_another_family_are_skipped(el) {
        let (listener, address) = plain_listener();
        let locals: Vec<SocketAddr> = vec!["[::1]:0".parse().unwrap(), "127.0.0.4:0".parse().unwrap()];
        let (transport, _) = complete(el, el.create_connection(|| Idle, address).local_addr(locals)).unwrap();
        assert_eq!(take_client(&listener).unwrap().peer_addr().unwrap().ip(), IpAddr::from([127, 0, 0, 4]));
        close(el, &transport);

        let error = refusal(el, el.create_connection(idle(), address).local_addr(("::1", 0)));
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        assert_eq!(
            error.to_string(),
            format!("no matching local address with family IPv4 found for {address}")
        );
    }

    /// TC-13: a local address that cannot be bound is named, with the system's code; the next one is tried.
    fn a_local_address_in_use_is_named(el) {
        let (listener, address) = plain_listener();
        let (_taken, in_use) = closed_port();
        let error = refusal(el, el.create_connection(idle(), address).local_addr(in_use));
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let inner = address_error(&error);
        assert_eq!((inner.action, inner.address), ("bind on", in_use));
        assert_eq!(inner.error.raw_os_error(), Some(libc::EADDRINUSE));
        assert!(error.to_string().contains(&in_use.to_string()), "{error}");
        assert!(take_client(&listener).is_none());

        let locals = vec![in_use, SocketAddr::from(([127, 0, 0, 5], 0))];
        let (transport, _) = complete(el, el.create_connection(|| Idle, address).local_addr(locals)).unwrap();
        assert_eq!(transport.extra_info().local_addr.unwrap().ip(), IpAddr::from([127, 0, 0, 5]));
        close(el, &transport);
    }

    /// TC-04, DN-05, DN-06: a name is looked up off the loop, which goes on meanwhile.
    fn a_name_is_looked_up(el) {
        let (_listener, address) = plain_listener();
        let port = address.port();
        let name = String::from("localhost");
        for builder in [
            el.create_connection(idle(), ("localhost", port)),
            el.create_connection(idle(), (&name, port)),
            el.create_connection(idle(), (name.clone(), port)),
        ] {
            let (transport, _) = complete(el, builder.family(Family::V4)).unwrap();
            assert_eq!(transport.extra_info().peer_addr, Some(address));
            close(el, &transport);
        }
        // DN-05: many lookups at once.
        let lookups = (0..10).map(|_| el.create_connection(idle(), ("localhost", port)).into_future());
        for connection in complete(el, futures::future::join_all(lookups)) {
            connection.unwrap().0.abort();
        }
        let error = refusal(el, el.create_connection(idle(), ("no\0name", 1)));
        assert!(error.to_string().starts_with("cannot resolve \"no\\0name\": "), "{error}");
        assert!(complete(el, el.shutdown_default_executor(None)));
    }
}

/// TC-04: a text that names no port is refused by whatever it is given to, with its own words.
#[test]
fn a_text_without_a_port_is_refused() {
    on_loop(|el| {
        for text in ["localhost", "::1", "::1:80", "localhost:", "http://localhost:80", "http://localhost"] {
            let told = |method: &str, error: io::Error| {
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
                let expected =
                    format!("{method}: {text:?} is not a host and a port, such as \"localhost:80\" or \"[::1]:80\"");
                assert_eq!(error.to_string(), expected);
            };
            told("create_connection", refusal(el, el.create_connection(idle(), text)));
            let local = el.create_connection(idle(), "127.0.0.1:1").local_addr(text);
            told("create_connection: local_addr()", refusal(el, local));
            told("create_server", complete(el, el.create_server(|| Idle, text)).unwrap_err());
            told("UdpSocket::bind", complete(el, UdpSocket::bind(text)).unwrap_err());
        }
    });
}

/// TC-04: literal addresses, written in whichever way, need no resolver: none is asked, for none could answer.
#[test]
fn literal_addresses_are_not_looked_up() {
    on_loop(|el| {
        // From now on whoever asks an executor is refused.
        assert!(complete(el, el.shutdown_default_executor(None)));
        let (_listener, address) = plain_listener();
        let port = address.port();
        let text = String::from("127.0.0.1");
        for builder in [
            el.create_connection(idle(), ("127.0.0.1", port)),
            el.create_connection(idle(), (&text, port)),
            el.create_connection(idle(), (text.clone(), port)),
            el.create_connection(idle(), (Ipv4Addr::LOCALHOST, port)),
            el.create_connection(idle(), (IpAddr::from(Ipv4Addr::LOCALHOST), port)),
            el.create_connection(idle(), SocketAddr::from(([127, 0, 0, 1], port))),
            el.create_connection(idle(), ("127.0.0.1", port)).local_addr(("127.0.0.1", 0)),
            el.create_connection(idle(), format!("127.0.0.1:{port}")),
            el.create_connection(idle(), format!("127.0.0.1:{port}").as_str()).local_addr("127.0.0.1:0"),
        ] {
            let (transport, _) = complete(el, builder).unwrap();
            assert_eq!(transport.extra_info().peer_addr, Some(address));
            close(el, &transport);
        }
        if has_ipv6() {
            let listener = std::net::TcpListener::bind("[::1]:0").unwrap();
            let address = listener.local_addr().unwrap();
            for builder in [
                el.create_connection(idle(), ("::1", address.port())),
                el.create_connection(idle(), ("[::1]", address.port())),
                el.create_connection(idle(), address),
                el.create_connection(idle(), address.to_string()),
            ] {
                let (transport, _) = complete(el, builder).unwrap();
                assert_eq!(transport.extra_info().peer_addr, Some(address));
                close(el, &transport);
            }
        }
        let servers = [
            complete(el, el.create_server(|| Idle, ("127.0.0.1", 0))).unwrap(),
            complete(el, el.create_server(|| Idle, "127.0.0.1:0")).unwrap(),
            complete(el, el.create_server(|| Idle, ("", 0))).unwrap(),
            complete(el, el.create_server(|| Idle, (["127.0.0.1", "127.0.0.2"], 0))).unwrap(),
        ];
        servers.iter().for_each(|server| server.close());
        assert!(take_reports().is_empty());

        // That the trap works: a name does ask.
        let error = refusal(el, el.create_connection(idle(), ("localhost", port)));
        assert_eq!(error.to_string(), "event loop is closed");
        assert_eq!(take_reports().len(), 1);
    });
}

/// TC-06, TC-07: an address of another family than the one asked for is not used, however it is written.
#[test]
fn an_address_of_another_family_is_not_used() {
    on_loop(|el| {
        let (listener, address) = plain_listener();
        let port = address.port();
        for (host, family) in [("127.0.0.1", Family::V6), ("::1", Family::V4)] {
            let (ip, written) = (host.parse::<IpAddr>().unwrap(), SocketAddr::new(host.parse().unwrap(), port));
            let text = format!("create_connection: {written} is not of the family asked for by family()");
            for endpoint in [Endpoint::from((host, port)), (ip, port).into(), written.into(), vec![written].into()] {
                let error = refusal(el, el.create_connection(idle(), endpoint).family(family));
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
                assert_eq!(error.to_string(), text);
            }
        }
        // An address to connect from is not that of the target, and is looked at when it comes to be used.
        let six: SocketAddr = "[::1]:0".parse().unwrap();
        for (target, local) in [(address, six), (six, address)] {
            if target.is_ipv6() && !has_ipv6() {
                continue;
            }
            let family = if target.is_ipv4() { "IPv4" } else { "IPv6" };
            let locals = [Endpoint::from((local.ip().to_string(), 0)), (local.ip(), 0).into()];
            for (local, given) in locals.into_iter().zip([false, true]) {
                let mut builder =
                    el.create_connection(idle(), (target.ip().to_string(), target.port())).local_addr(local);
                if given {
                    builder = builder.family(if target.is_ipv4() { Family::V4 } else { Family::V6 });
                }
                let error = refusal(el, builder);
                assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
                let text = format!("no matching local address with family {family} found for {target}");
                assert_eq!(error.to_string(), text);
            }
        }
        assert!(take_client(&listener).is_none());

        // Of a list the fitting ones are used.
        let list = vec!["[::1]:1".parse().unwrap(), address];
        let (transport, _) = complete(el, el.create_connection(|| Idle, list).family(Family::V4)).unwrap();
        assert_eq!(transport.extra_info().peer_addr, Some(address));
        close(el, &transport);
    });
}

/// TC-10: time that runs out ends the attempt and the connection: the next address is not tried.
#[test]
fn a_timeout_does_not_try_the_next_address() {
    on_manual_clock(|el, clock| {
        let hole = black_hole();
        let (listener, address) = plain_listener();
        let before = el.stats().descriptors.live();
        let task = el.create_task(timeout(
            Duration::from_secs(5),
            el.create_connection(|| panic!("no connection was made") as Idle, vec![hole.address, address]),
        ));
        settle(el);
        assert_eq!(el.stats().descriptors.live(), before + 1);
        clock.advance(Duration::from_secs(5));
        let result = complete(el, task).unwrap();
        assert!(matches!(result, Err(TimedOut)));
        assert_eq!(el.stats().descriptors.live(), before);
        settle(el);
        assert!(take_client(&listener).is_none());
    });
}

/// TC-02, TC-03: what does not go together is refused, and both are named.
#[test]
fn options_that_clash_are_refused() {
    on_loop(|el| {
        let refused = |builder: roundelay::CreateConnection<fn() -> Idle>, words: &[&str]| {
            let error = refusal(el, builder);
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            let text = error.to_string();
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        };
        let given = || el.create_connection(idle(), plain_pair().0);
        refused(given().local_addr(("127.0.0.1", 0)), &["create_connection", "local_addr()", "socket"]);
        refused(given().family(Family::V4), &["create_connection", "family()", "socket"]);
        refused(given().proto(6), &["create_connection", "proto()", "socket"]);
        refused(given().flags(AddrInfoFlags::ADDRCONFIG), &["create_connection", "flags()", "socket"]);
        let delay = Duration::from_millis(250);
        refused(given().happy_eyeballs_delay(delay), &["create_connection", "happy_eyeballs_delay()", "socket"]);
        refused(given().interleave(1), &["create_connection", "interleave()", "socket"]);
        let listening = || el.create_server(|| Idle, std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        for (option, builder) in
            [("proto()", listening().proto(6)), ("flags()", listening().flags(AddrInfoFlags::PASSIVE))]
        {
            let error = complete(el, builder).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert_eq!(error.to_string(), format!("create_server: {option} cannot be used with a socket"));
        }
        let (_listener, address) = plain_listener();
        let builder = el.create_connection(idle(), address).local_addr(plain_pair().0);
        refused(builder, &["create_connection", "local_addr()", "an address, not a socket"]);

        let datagrams = || Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        refused(el.create_connection(idle(), datagrams()), &["a stream socket was expected"]);
        refused(el.create_connection(idle(), OwnedFd::from(datagrams())), &["a stream socket was expected"]);
        let error = complete(el, async { roundelay::TcpStream::connect(datagrams()).await }).unwrap_err();
        assert!(error.to_string().starts_with("TcpStream::connect: "), "{error}");

        // What is no socket at all has an error of the system's.
        let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let error = refusal(el, el.create_connection(idle(), file));
        assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK));
    });
}

/// TC-01: on a closed loop there is an error, and a socket that was given is closed.
#[test]
fn a_closed_loop_connects_to_nothing() {
    on_loop(|el| {
        let closed = EventLoop::new().unwrap();
        closed.close();
        let (ours, mut peer) = plain_pair();
        let is_closed = |error: &io::Error| error.get_ref().is_some_and(|inner| inner.is::<LoopClosed>());
        let error = refusal(el, closed.create_connection(idle(), ours));
        assert!(is_closed(&error), "{error}");
        assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
        let error = refusal(el, closed.create_connection(idle(), ("localhost", 1)));
        assert!(is_closed(&error), "{error}");
        let error = complete(el, closed.create_server(|| Idle, LOOPBACK)).unwrap_err();
        assert!(is_closed(&error), "{error}");
    });
}

/// TC-01: the loop may be closed while a connection is being made; nothing is left and nothing is told.
#[test]
fn the_loop_is_closed_meanwhile() {
    on_loop(|el| {
        let hole = black_hole();
        let task = el.create_task(el.create_connection(|| panic!("no connection") as Idle, hole.address));
        settle(el);
        el.close();
        assert!(task.is_done());
    });
}

/// TC-01: a panic of the factory goes to whoever awaits the connection, and leaves nothing open.
#[test]
fn a_factory_that_panics_leaves_nothing_open() {
    on_loop(|el| {
        let (listener, address) = plain_listener();
        let before = el.stats().descriptors.live();
        let factory = || -> Idle { panic!("no protocol today") };
        let task = el.create_task(el.create_connection(factory, address));
        let error = complete(el, task).unwrap_err();
        assert!(error.is_panic());
        assert_eq!(el.stats().descriptors.live(), before);
        assert_eq!(take_client(&listener).unwrap().read(&mut [0; 1]).unwrap(), 0);
    });
}

/// TC-04: a port of zero, which nobody can listen on, is an error of the system's and not one of the loop's.
#[test]
fn port_zero_is_refused_by_the_system() {
    run_on(EventLoop::builder, |el| {
        let error = refusal(el, el.create_connection(idle(), ("127.0.0.1", 0)));
        assert!(address_error(&error).error.raw_os_error().is_some());
    });
}

/// A connection is made by the loop that was asked; awaited in another one it would never be.
#[test]
fn awaited_in_another_loop() {
    on_loop(|el| {
        let (_listener, address) = plain_listener();
        let other = EventLoop::new().unwrap();
        let error = complete(el, other.create_connection(|| Idle, address)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let text = error.to_string();
        assert!(text.starts_with("create_connection: a future of loop"), "{text}");
        other.close();
    });
}

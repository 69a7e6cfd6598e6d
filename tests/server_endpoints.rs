//! Where servers listen, and with which options (behaviours SV).

mod common;
#[path = "common/tcp.rs"]
mod tcp;

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use roundelay::{Family, Server, ServerEndpoint, TcpListener, start_server};
use socket2::{Domain, SockAddr, Socket, Type};

use common::{on_loop, run_until};
use tcp::{
    Connections, Idle, LOOPBACK, address_error, complete, connect, end, has_ipv6, idle, plain_listener, receive_all,
    serve,
};

/// SV-02: several hosts and addresses are bound once each, on one port where the system chooses it.
#[test]
fn several_hosts() {
    on_loop(|el| {
        let ips = |server: &Server| -> Vec<IpAddr> { server.local_addrs().iter().map(SocketAddr::ip).collect() };
        let hosts = vec!["127.0.0.1".to_string(), "127.0.0.2".to_string(), "127.0.0.1".to_string()];
        let strs = ["127.0.0.1", "127.0.0.2", "127.0.0.1"];
        let servers = [
            el.create_server(idle(), (strs, 0)),
            el.create_server(idle(), (&strs[..], 0)),
            el.create_server(idle(), (&hosts[..], 0)),
            el.create_server(idle(), (hosts.clone(), 0)),
        ]
        .map(|builder| complete(el, builder).unwrap());
        for server in servers {
            let addresses = server.local_addrs();
            assert_eq!(ips(&server), [IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2])]);
            assert_eq!(addresses[0].port(), addresses[1].port());
            for address in addresses {
                drop(TcpStream::connect(address).unwrap());
            }
            end(el, &server);
        }
        // Addresses with ports of their own keep them.
        let (first, second) = {
            let (one, other) = (plain_listener(), plain_listener());
            (one.1, other.1)
        };
        let list = [first, second, first];
        for builder in [el.create_server(idle(), &list[..]), el.create_server(idle(), list.to_vec())] {
            let server = complete(el, builder).unwrap();
            assert_eq!(server.local_addrs(), [first, second]);
            end(el, &server);
        }
        // One of each other kind.
        for builder in [
            el.create_server(idle(), (Ipv4Addr::LOCALHOST, 0)),
            el.create_server(idle(), (IpAddr::from(Ipv4Addr::LOCALHOST), 0)),
            el.create_server(idle(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            el.create_server(idle(), (String::from("127.0.0.1"), 0)),
            el.create_server(idle(), (&String::from("127.0.0.1"), 0)),
            el.create_server(idle(), (Some("127.0.0.1"), 0)),
        ] {
            let server = complete(el, builder).unwrap();
            assert_eq!(ips(&server), [IpAddr::from(Ipv4Addr::LOCALHOST)]);
            server.close();
        }
    });
}

/// SV-03: an empty host, or none, stands for all interfaces: a socket of each family, on one port.
#[test]
fn all_interfaces() {
    on_loop(|el| {
        for builder in [
            el.create_server(idle(), ("", 0)),
            el.create_server(idle(), (None, 0)),
            el.create_server(idle(), (["127.0.0.1", ""], 0)),
        ] {
            let server = complete(el, builder).unwrap();
            let addresses = server.local_addrs();
            assert_eq!(addresses[0].ip(), IpAddr::from(Ipv4Addr::UNSPECIFIED));
            assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, addresses[0].port())).is_ok());
            if has_ipv6() {
                assert_eq!(addresses[1].ip(), IpAddr::from(Ipv6Addr::UNSPECIFIED));
                assert_eq!(addresses[0].port(), addresses[1].port());
                let v6_alone = server.sockets()[1].with(|socket| socket.only_v6().unwrap()).unwrap();
                assert!(v6_alone);
                assert!(TcpStream::connect((Ipv6Addr::LOCALHOST, addresses[1].port())).is_ok());
            }
            end(el, &server);
        }
        let server = complete(el, el.create_server(idle(), ("", 0)).family(Family::V4)).unwrap();
        assert_eq!(server.local_addrs().len(), 1);
        assert!(server.local_addrs()[0].is_ipv4());
        server.close();
        // A list of no hosts is not all of them.
        for builder in [
            el.create_server(idle(), (Vec::<String>::new(), 0)),
            el.create_server(idle(), (&[] as &[&str], 0)),
            el.create_server(idle(), Vec::<SocketAddr>::new()),
        ] {
            let error = complete(el, builder).unwrap_err();
            assert!(error.to_string().contains("could not bind on any address"), "{error}");
        }
    });
}

/// SV-04: an address that is not of this machine is left out; if none is left that is the error.
#[test]
fn foreign_addresses_are_left_out() {
    on_loop(|el| {
        let server = complete(el, el.create_server(idle(), (["203.0.113.7", "127.0.0.1"], 0))).unwrap();
        assert_eq!(server.local_addrs().len(), 1);
        assert_eq!(server.local_addrs()[0].ip(), IpAddr::from(Ipv4Addr::LOCALHOST));
        server.close();
        let error = complete(el, el.create_server(idle(), (["203.0.113.7", "203.0.113.8"], 0))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        let text = error.to_string();
        assert!(text.starts_with("create_server: could not bind on any address out of"), "{text}");
        assert!(text.contains("203.0.113.8"), "{text}");
    });
}

/// SV-05: any other failure closes what was bound before, and says where and why.
#[test]
fn an_address_in_use_is_named() {
    on_loop(|el| {
        let (_listener, taken) = plain_listener();
        let before = common::open_descriptors();
        let free = SocketAddr::from(([127, 0, 0, 2], taken.port()));
        let error = complete(el, el.create_server(idle(), vec![free, taken])).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let inner = address_error(&error);
        assert_eq!((inner.action, inner.address), ("bind on", taken));
        assert_eq!(inner.error.raw_os_error(), Some(libc::EADDRINUSE));
        assert!(error.to_string().contains(&taken.to_string()), "{error}");
        assert_eq!(common::open_descriptors(), before);
        // The free one is free still.
        drop(std::net::TcpListener::bind(free).unwrap());
        let error = complete(el, async { TcpListener::bind(taken).await }).unwrap_err();
        assert_eq!(address_error(&error).address, taken);
    });
}

/// SV-07: `reuse_address` is on unless it is turned off; `reuse_port` and `keep_alive` are off unless they are turned on.
#[test]
fn options_of_the_listening_sockets() {
    on_loop(|el| {
        let options = |server: &Server| {
            let read = |socket: socket2::SockRef<'_>| {
                (socket.reuse_address().unwrap(), socket.reuse_port().unwrap(), socket.keepalive().unwrap())
            };
            server.sockets()[0].with(read).unwrap()
        };
        let server = complete(el, el.create_server(idle(), LOOPBACK)).unwrap();
        assert_eq!(options(&server), (true, false, false));
        server.close();
        let connections = Connections::new();
        let builder = el.create_server(connections.factory(), LOOPBACK);
        let server = complete(el, builder.reuse_address(false).reuse_port(true).keep_alive(true)).unwrap();
        assert_eq!(options(&server), (false, true, true));
        // What it is for: its connections.
        let (_client, transport) = connect(el, &connections, server.local_addrs()[0]);
        let socket = transport.extra_info().socket.unwrap();
        assert!(socket.with(|socket| socket.keepalive().unwrap()).unwrap());
        end(el, &server);
        let server = complete(el, async { start_server(async |_, _| (), LOOPBACK).reuse_port(true).await }).unwrap();
        assert_eq!(options(&server), (true, true, false));
        server.close();
    });
}

/// SV-07: a port whose earlier connections linger can be bound again at once.
#[test]
fn a_port_can_be_bound_again_at_once() {
    on_loop(|el| {
        let (server, connections, address) = serve(el);
        let (mut client, transport) = connect(el, &connections, address);
        // The side that closes first lingers: the server's.
        transport.close();
        run_until(el, || transport.protocol().is_none());
        assert_eq!(receive_all(el, &mut client), b"");
        drop(client);
        server.close();
        let error = complete(el, el.create_server(idle(), address).reuse_address(false)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let again = complete(el, el.create_server(idle(), address)).unwrap();
        again.close();
    });
}

/// SV-08: two servers share a port that both want to share, and nobody else gets it.
#[test]
fn two_servers_on_one_port() {
    on_loop(|el| {
        let first = complete(el, el.create_server(idle(), LOOPBACK).reuse_port(true)).unwrap();
        let address = first.local_addrs()[0];
        let second = complete(el, el.create_server(idle(), address).reuse_port(true)).unwrap();
        assert_eq!(second.local_addrs(), [address]);
        let error = complete(el, el.create_server(idle(), address)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let clients: Vec<_> = (0..8).map(|_| TcpStream::connect(address).unwrap()).collect();
        run_until(el, || first.connections() + second.connections() == 8);
        drop(clients);
        first.close();
        // The other one goes on.
        drop(TcpStream::connect(address).unwrap());
        run_until(el, || first.connections() + second.connections() == 0);
        end(el, &second);
        end(el, &first);
    });
}

/// SV-09: what does not go together is refused, and both are named.
#[test]
fn options_that_clash_are_refused() {
    on_loop(|el| {
        let refused = |builder: roundelay::CreateServer<fn() -> Idle>, words: &[&str]| {
            let error = complete(el, builder).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            let text = error.to_string();
            assert!(text.starts_with("create_server: "), "{text}");
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        };
        let given = || el.create_server(idle(), plain_listener().0);
        refused(given().family(Family::V4), &["family()", "socket"]);
        refused(given().reuse_address(true), &["reuse_address()", "socket"]);
        refused(given().reuse_address(false), &["reuse_address()", "socket"]);
        refused(given().reuse_port(true), &["reuse_port()", "socket"]);
        let datagrams = || Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        refused(el.create_server(idle(), datagrams()), &["a stream socket was expected"]);
        refused(el.create_server(idle(), OwnedFd::from(datagrams())), &["a stream socket was expected"]);
        refused(el.create_server(idle(), LOOPBACK).max_connections(0), &["max_connections()", "at least 1"]);
        refused(el.create_server(idle(), LOOPBACK).idle_timeout(Duration::ZERO), &["idle_timeout()"]);

        let error = complete(el, async { start_server(async |_, _| (), datagrams()).await }).unwrap_err();
        assert!(error.to_string().starts_with("start_server: "), "{error}");
        let error = complete(el, async { start_server(async |_, _| (), LOOPBACK).limit(0).await }).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        // Addresses of no family that is wanted leave nothing to bind, however they are written.
        let written: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let words = &["127.0.0.1:0", "family()"];
        refused(el.create_server(idle(), ("127.0.0.1", 0)).family(Family::V6), words);
        refused(el.create_server(idle(), written).family(Family::V6), words);
        refused(el.create_server(idle(), vec![written, written]).family(Family::V6), words);
        refused(el.create_server(idle(), (["127.0.0.1", "127.0.0.2"], 0)).family(Family::V6), words);
        for endpoint in
            [ServerEndpoint::from((["::1", "127.0.0.1"], 0)), vec!["[::1]:0".parse().unwrap(), written].into()]
        {
            let server = complete(el, el.create_server(idle(), endpoint).family(Family::V4)).unwrap();
            assert_eq!(server.local_addrs()[0].ip(), written.ip());
            assert_eq!(server.local_addrs().len(), 1);
            server.close();
        }
    });
}

/// SV-27: a Unix socket may be given as a descriptor; such a server has no address.
#[test]
fn a_unix_socket_may_be_given() {
    on_loop(|el| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        let connections = Connections::new();
        let server = complete(el, el.create_server(connections.factory(), listener)).unwrap();
        assert!(server.local_addrs().is_empty());
        assert_eq!(server.sockets().len(), 1);
        let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        run_until(el, || connections.len() == 1);
        let info = connections.get(0).extra_info();
        assert_eq!((info.local_addr, info.peer_addr), (None, None));
        client.write_all(b"x").unwrap();
        drop(client);
        server.close();
        complete(el, server.wait_closed());
    });
}

/// The first address in one call: of several the first, of a server that is closed or has none an error that says so. And how
/// many connections there have been, which is known after the end, too.
#[test]
fn what_an_operator_asks() {
    on_loop(|el| {
        let connections = Connections::new();
        let builder = el.create_server(connections.factory(), (["127.0.0.1", "127.0.0.2"], 0));
        let server = complete(el, builder).unwrap();
        assert_eq!(server.local_addr().unwrap(), server.local_addrs()[0]);
        assert_eq!(server.accepted(), 0);
        for accepted in 1..=3 {
            let (client, _) = connect(el, &connections, server.local_addr().unwrap());
            assert_eq!((server.accepted(), server.connections()), (accepted, 1));
            drop(client);
            run_until(el, || server.connections() == 0);
        }
        end(el, &server);
        assert_eq!(server.accepted(), 3);
        let error = server.local_addr().unwrap_err();
        assert_eq!(error.to_string(), "Server::local_addr(): the server is closed");

        let folder = tempfile::tempdir().unwrap();
        let server = complete(el, el.create_unix_server(idle(), folder.path().join("it"))).unwrap();
        let error = server.local_addr().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert_eq!(error.to_string(), "Server::local_addr(): the server has no address of the internet");
        server.close();
    });
}

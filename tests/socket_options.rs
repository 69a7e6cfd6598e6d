//! Options of sockets, as the builders set them: read back on both ends (behaviours SV).

mod common;
#[path = "common/tcp.rs"]
mod tcp;
#[path = "common/unix.rs"]
mod unix;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

use roundelay::{
    DatagramHandle, DatagramProtocol, EventLoop, Family, KeepAlive, Server, SocketOptionError, Transport,
    open_connection, open_unix_connection, start_server, start_unix_server,
};
use socket2::{Domain, SockRef, Socket, Type};

use common::{on_loop, run_until};
use tcp::{Connections, Echo, LOOPBACK, complete, connect, end, has_ipv6, idle, plain_listener, plain_pair};
use unix::Folder;

/// What tests ask sockets for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Options {
    nodelay: bool,
    keep_alive: bool,
    tos: u32,
    buffers: (usize, usize),
    times: (Duration, Duration, u32),
}

fn options(socket: SockRef<'_>) -> Options {
    Options {
        nodelay: socket.tcp_nodelay().unwrap(),
        keep_alive: socket.keepalive().unwrap(),
        tos: socket.tos_v4().unwrap(),
        buffers: (socket.send_buffer_size().unwrap(), socket.recv_buffer_size().unwrap()),
        times: (
            socket.tcp_keepalive_time().unwrap(),
            socket.tcp_keepalive_interval().unwrap(),
            socket.tcp_keepalive_retries().unwrap(),
        ),
    }
}

fn of_transport(transport: &Transport) -> Options {
    transport.extra_info().socket.unwrap().with(options).unwrap()
}

fn of_server(server: &Server) -> Options {
    server.sockets()[0].with(options).unwrap()
}

const SECOND: Duration = Duration::from_secs(1);

/// Parts of a second count as a whole one.
const KEEP_ALIVE: KeepAlive =
    KeepAlive::new().idle(Duration::from_millis(59_001)).interval(Duration::from_secs(7)).count(4);

/// What a socket has on which everything is set that `settings!` sets. Linux doubles the sizes.
const ALL: Options = Options {
    nodelay: false,
    keep_alive: true,
    tos: 0x48,
    buffers: (40_000, 60_000),
    times: (Duration::from_secs(60), Duration::from_secs(7), 4),
};

/// Sets everything that TCP has on any builder.
macro_rules! settings {
    ($builder:expr) => {
        $builder.nodelay(false).keep_alive(KEEP_ALIVE).tos(0x48).send_buffer_size(20_000).recv_buffer_size(30_000)
    };
}

/// Waits for the peer of what has just connected.
fn accepted(el: &EventLoop, connections: &Connections) -> Transport {
    run_until(el, || connections.len() > 0);
    connections.get(connections.len() - 1)
}

on_every_loop! {
    /// SV-07: what is set on a server, all of its connections have; what is set on a client's connection, that one has.
    fn on_both_ends(el) {
        let connections = Connections::new();
        let server = complete(el, settings!(el.create_server(connections.factory(), LOOPBACK))).unwrap();
        assert_eq!(of_server(&server), ALL);
        let client = complete(el, settings!(el.create_connection(idle(), server.local_addrs()[0]))).unwrap().0;
        assert_eq!(of_transport(&client), ALL);
        assert_eq!(of_transport(&accepted(el, &connections)), ALL);
        end(el, &server);
        tcp::close(el, &client);
    }

    /// The same of streams, and of the plain type.
    fn of_streams(el) {
        let seen = Rc::new(std::cell::Cell::new(None));
        let report = seen.clone();
        complete(el, async {
            let handler = async move |_, mut writer: roundelay::StreamWriter| {
                report.set(Some(of_transport(&writer.transport())));
                writer.close();
            };
            let server = settings!(start_server(handler, LOOPBACK)).await.unwrap();
            let (_reader, mut writer) = settings!(open_connection(server.local_addrs()[0])).await.unwrap();
            assert_eq!(of_transport(&writer.transport()), ALL);
            let stream = settings!(roundelay::TcpStream::connect(server.local_addrs()[0])).await.unwrap();
            assert_eq!(options(SockRef::from(&stream)), ALL);
            writer.close();
            let _ = writer.wait_closed().await;
            server.close();
            server.wait_closed().await;
        });
        assert_eq!(seen.get(), Some(ALL));
    }

    /// A socket that is given gets them, too: one that listens, one that is connected, one that was accepted.
    fn on_given_sockets(el) {
        let connections = Connections::new();
        let (listener, address) = plain_listener();
        let server = complete(el, settings!(el.create_server(connections.factory(), listener))).unwrap();
        assert_eq!(of_server(&server), ALL);
        let (_client, transport) = connect(el, &connections, address);
        assert_eq!(of_transport(&transport), ALL);
        end(el, &server);

        let (ours, accepted) = plain_pair();
        let ours = complete(el, settings!(el.create_connection(idle(), ours))).unwrap().0;
        assert_eq!(of_transport(&ours), ALL);
        let accepted = complete(el, settings!(el.connect_accepted_socket(idle(), accepted))).unwrap().0;
        assert_eq!(of_transport(&accepted), ALL);
        tcp::close(el, &ours);
        tcp::close(el, &accepted);
    }

    /// Unix sockets have the sizes of buffers, on both ends: on Linux the one that connects makes the other's socket.
    fn of_unix_sockets(el) {
        let folder = Folder::new();
        let path = folder.path("it");
        let sizes = |transport: &Transport| {
            let sizes = |socket: SockRef<'_>| (socket.send_buffer_size().unwrap(), socket.recv_buffer_size().unwrap());
            transport.extra_info().socket.unwrap().with(sizes).unwrap()
        };
        let connections = Connections::new();
        let server = el.create_unix_server(connections.factory(), &path);
        let server = complete(el, server.send_buffer_size(20_000).recv_buffer_size(30_000)).unwrap();
        let client = el.create_unix_connection(idle(), &path).send_buffer_size(25_000).recv_buffer_size(35_000);
        let client = complete(el, client).unwrap().0;
        assert_eq!(sizes(&client), (50_000, 70_000));
        assert_eq!(sizes(&accepted(el, &connections)), (40_000, 60_000));
        end(el, &server);
        tcp::close(el, &client);

        let given = std::os::unix::net::UnixListener::bind(&path).unwrap();
        complete(el, async {
            let server = start_unix_server(async |_, _| (), given).send_buffer_size(20_000).await.unwrap();
            let (_reader, mut writer) = open_unix_connection(&path).send_buffer_size(25_000).await.unwrap();
            assert_eq!(sizes(&writer.transport()).0, 50_000);
            writer.close();
            let _ = writer.wait_closed().await;
            server.close();
            server.wait_closed().await;
        });
    }

    /// The same of datagram endpoints of every kind, those over a given socket among them.
    fn of_datagram_endpoints(el) {
        let read = |handle: &DatagramHandle, f: fn(SockRef<'_>) -> (usize, usize, u32)| {
            handle.extra_info().socket.unwrap().with(f).unwrap()
        };
        let of_v4: fn(SockRef<'_>) -> (usize, usize, u32) = |socket| {
            (socket.send_buffer_size().unwrap(), socket.recv_buffer_size().unwrap(), socket.tos_v4().unwrap())
        };
        let settings = |builder: roundelay::CreateDatagramEndpoint<fn() -> Deaf>| {
            builder.send_buffer_size(20_000).recv_buffer_size(30_000)
        };
        let plain = UdpSocket::bind(LOOPBACK).unwrap();
        let address = plain.local_addr().unwrap();
        for builder in [
            el.create_datagram_endpoint(deaf()).local_addr(LOOPBACK),
            el.create_datagram_endpoint(deaf()).remote_addr(address),
            el.create_datagram_endpoint(deaf()).family(Family::V4),
            el.create_datagram_endpoint(deaf()).sock(plain.try_clone().unwrap()),
        ] {
            let handle = complete(el, settings(builder).tos(0x48)).unwrap().0;
            assert_eq!(read(&handle, of_v4), (40_000, 60_000, 0x48));
            close_endpoint(el, &handle);
        }
        let folder = Folder::new();
        let builder = settings(el.create_datagram_endpoint(deaf()).local_addr(folder.path("it")));
        let handle = complete(el, builder).unwrap().0;
        let of_unix: fn(SockRef<'_>) -> (usize, usize, u32) =
            |socket| (socket.send_buffer_size().unwrap(), socket.recv_buffer_size().unwrap(), 0);
        assert_eq!(read(&handle, of_unix), (40_000, 60_000, 0));
        close_endpoint(el, &handle);
    }
}

struct Deaf;

impl DatagramProtocol for Deaf {}

fn deaf() -> fn() -> Deaf {
    || Deaf
}

fn close_endpoint(el: &EventLoop, handle: &DatagramHandle) {
    handle.close();
    common::settle(el);
}

/// SV-07: without any setting `TCP_NODELAY` is on and nothing else: on what listens, what is accepted, what connects, and
/// also on what was given.
#[test]
fn defaults() {
    on_loop(|el| {
        let plain = options(SockRef::from(&plain_pair().0));
        let of_listener = options(SockRef::from(&plain_listener().0));
        let (connections, (listener, _)) = (Connections::new(), plain_listener());
        for server in [
            complete(el, el.create_server(connections.factory(), LOOPBACK)).unwrap(),
            complete(el, el.create_server(connections.factory(), listener)).unwrap(),
        ] {
            assert_eq!(of_server(&server), Options { nodelay: true, ..of_listener });
            let client = complete(el, el.create_connection(idle(), server.local_addrs()[0])).unwrap().0;
            for transport in [&client, &accepted(el, &connections)] {
                let found = Options { buffers: plain.buffers, ..of_transport(transport) };
                assert_eq!(found, Options { nodelay: true, ..plain });
            }
            end(el, &server);
            tcp::close(el, &client);
        }
        let (_peer, accepted) = plain_pair();
        SockRef::from(&accepted).set_tcp_nodelay(false).unwrap();
        let accepted = complete(el, el.connect_accepted_socket(idle(), accepted)).unwrap().0;
        assert!(of_transport(&accepted).nodelay);
        tcp::close(el, &accepted);
    });
}

/// `keep_alive` is on, with the system's times, off, or on with times of one's own, of which not all need be said; what is
/// not said stays on a socket that was given.
#[test]
fn keep_alive() {
    on_loop(|el| {
        let plain = options(SockRef::from(&plain_pair().0));
        let set = |keep_alive: KeepAlive| {
            let (_peer, given) = plain_pair();
            SockRef::from(&given).set_keepalive(true).unwrap();
            let transport = complete(el, el.create_connection(idle(), given).keep_alive(keep_alive)).unwrap().0;
            let Options { keep_alive, times, .. } = of_transport(&transport);
            tcp::close(el, &transport);
            (keep_alive, times)
        };
        let (idle_time, interval, count) = plain.times;
        assert_eq!(set(true.into()), (true, plain.times));
        assert_eq!(set(false.into()), (false, plain.times));
        assert_eq!(set(KeepAlive::default()), (true, plain.times));
        assert_eq!(set(KeepAlive::new().idle(SECOND)), (true, (SECOND, interval, count)));
        assert_eq!(set(KeepAlive::new().interval(Duration::from_nanos(1))), (true, (idle_time, SECOND, count)));
        assert_eq!(set(KeepAlive::new().count(2)), (true, (idle_time, interval, 2)));
    });
}

/// The type of service of a socket of IPv6 is its traffic class; and one that serves both has both.
#[test]
fn traffic_class() {
    if !has_ipv6() {
        return;
    }
    on_loop(|el| {
        let both = |socket: SockRef<'_>| (socket.tclass_v6().unwrap(), socket.tos_v4().unwrap());
        let connections = Connections::new();
        let builder = el.create_server(connections.factory(), (Ipv6Addr::UNSPECIFIED, 0)).tos(0x48).v6only(false);
        let server = complete(el, builder).unwrap();
        let port = server.local_addrs()[0].port();
        for host in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            let (_client, transport) = connect(el, &connections, (host, port).into());
            assert_eq!(transport.extra_info().socket.unwrap().with(both).unwrap(), (0x48, 0x48));
        }
        let client = complete(el, el.create_connection(idle(), (Ipv6Addr::LOCALHOST, port)).tos(0x20)).unwrap().0;
        assert_eq!(client.extra_info().socket.unwrap().with(both).unwrap().0, 0x20);
        tcp::close(el, &client);
        end(el, &server);
        let builder = el.create_datagram_endpoint(deaf()).local_addr(("::1", 0)).tos(0x48);
        let endpoint = complete(el, builder).unwrap().0;
        assert_eq!(endpoint.extra_info().socket.unwrap().with(both).unwrap().0, 0x48);
        close_endpoint(el, &endpoint);
    });
}

/// SV-03: with `v6only(false)` one socket listens on all interfaces, whatever it is called; whoever comes by IPv4 has an
/// address that is written as one of IPv6.
#[test]
fn one_socket_for_both_families() {
    if !has_ipv6() {
        return;
    }
    on_loop(|el| {
        let free = plain_listener().1.port();
        let connections = Connections::new();
        for builder in [
            el.create_server(connections.factory(), ("", 0)),
            el.create_server(connections.factory(), (None, 0)),
            el.create_server(connections.factory(), ("", free)),
            el.create_server(connections.factory(), (["::", "0.0.0.0"], 0)),
            el.create_server(connections.factory(), ("::", 0)),
        ] {
            let server = complete(el, builder.v6only(false)).unwrap();
            let addresses = server.local_addrs();
            assert_eq!((addresses.len(), addresses[0].ip()), (1, Ipv6Addr::UNSPECIFIED.into()));
            let port = addresses[0].port();
            let (_v6, _) = connect(el, &connections, (Ipv6Addr::LOCALHOST, port).into());
            let (_v4, transport) = connect(el, &connections, (Ipv4Addr::LOCALHOST, port).into());
            let info = transport.extra_info();
            let mapped = IpAddr::from(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
            assert_eq!([info.local_addr, info.peer_addr].map(|address| address.unwrap().ip()), [mapped, mapped]);
            end(el, &server);
        }
        // What is not for all interfaces has a socket of its own.
        let builder = el.create_server(connections.factory(), (["::1", "127.0.0.1"], 0)).v6only(false);
        let server = complete(el, builder).unwrap();
        assert_eq!(server.local_addrs().len(), 2);
        server.close();
        // Said or not, it is on otherwise.
        for builder in [
            el.create_server(connections.factory(), ("::", 0)),
            el.create_server(connections.factory(), ("::", 0)).v6only(true),
        ] {
            let server = complete(el, builder).unwrap();
            assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, server.local_addrs()[0].port())).is_err());
            server.close();
        }
    });
}

/// A datagram endpoint of IPv6 is what the system makes of it, or what is said.
#[test]
fn datagrams_of_both_families() {
    if UdpSocket::bind("[::1]:0").is_err() {
        eprintln!("SKIPPED: this machine has no IPv6 loopback");
        return;
    }
    on_loop(|el| {
        let default = Socket::new(Domain::IPV6, Type::DGRAM, None).unwrap().only_v6().unwrap();
        for (v6only, expected) in [(None, default), (Some(true), true), (Some(false), false)] {
            let builder = el.create_datagram_endpoint(deaf()).local_addr(("::", 0));
            let builder = match v6only {
                Some(v6only) => builder.v6only(v6only),
                None => builder,
            };
            let endpoint = complete(el, builder).unwrap().0;
            assert_eq!(endpoint.extra_info().socket.unwrap().with(|socket| socket.only_v6().unwrap()), Some(expected));
            close_endpoint(el, &endpoint);
        }
        // Sockets of IPv4 have none, and do without.
        let builder = el.create_datagram_endpoint(deaf()).local_addr(LOOPBACK).v6only(true);
        let endpoint = complete(el, builder).unwrap().0;
        close_endpoint(el, &endpoint);
    });
}

/// An interface is what sockets, and the connections that come over them, are bound to.
#[test]
fn bound_to_a_device() {
    on_loop(|el| {
        let device = |socket: SockRef<'_>| socket.device().unwrap();
        let lo = Some(b"lo".to_vec());
        let connections = Connections::new();
        let builder = el.create_server(connections.factory(), LOOPBACK).bind_device("lo");
        let server = complete(el, builder).unwrap();
        assert_eq!(server.sockets()[0].with(device).unwrap(), lo);
        let client = complete(el, el.create_connection(idle(), server.local_addrs()[0]).bind_device("lo")).unwrap().0;
        for transport in [&client, &accepted(el, &connections)] {
            assert_eq!(transport.extra_info().socket.unwrap().with(device).unwrap(), lo);
        }
        tcp::close(el, &client);
        end(el, &server);
        let builder = el.create_datagram_endpoint(deaf()).local_addr(LOOPBACK).bind_device(String::from("lo"));
        let endpoint = complete(el, builder).unwrap().0;
        assert_eq!(endpoint.extra_info().socket.unwrap().with(device).unwrap(), lo);
        close_endpoint(el, &endpoint);
    });
}

/// What the system refuses names the method and the option, with the system's number; nothing is left open.
#[test]
fn what_the_system_refuses() {
    on_loop(|el| {
        let refused = |error: io::Error, text: &str, code: i32| {
            let inner: &SocketOptionError = error.get_ref().unwrap().downcast_ref().unwrap();
            assert_eq!(inner.error.raw_os_error(), Some(code));
            assert_eq!(error.kind(), inner.error.kind());
            let expected = format!("{text}: {}", io::Error::from_raw_os_error(code));
            assert_eq!(error.to_string(), expected);
            assert!(std::error::Error::source(inner).is_some());
        };
        let nobody = "no-such-device";
        let text = "cannot set bind_device(\"no-such-device\")";
        let error = complete(el, el.create_server(idle(), LOOPBACK).bind_device(nobody)).unwrap_err();
        refused(error, &format!("create_server: {text}"), libc::ENODEV);
        // Of several addresses as if it were one: they have it in common.
        let addresses = vec![SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([127, 0, 0, 2], 1))];
        let error = complete(el, el.create_connection(idle(), addresses).bind_device(nobody)).err().unwrap();
        refused(error, &format!("create_connection: {text}"), libc::ENODEV);
        let error = complete(el, async { open_connection(("127.0.0.1", 1)).bind_device(nobody).await }).err().unwrap();
        refused(error, &format!("open_connection: {text}"), libc::ENODEV);
        let error = complete(el, async { roundelay::TcpStream::connect(("127.0.0.1", 1)).bind_device(nobody).await });
        refused(error.err().unwrap(), &format!("TcpStream::connect: {text}"), libc::ENODEV);
        let builder = el.create_datagram_endpoint(deaf()).local_addr(LOOPBACK).bind_device(nobody);
        refused(complete(el, builder).err().unwrap(), &format!("create_datagram_endpoint: {text}"), libc::ENODEV);
        let builder = el.create_datagram_endpoint(deaf()).family(Family::V4).bind_device(nobody);
        refused(complete(el, builder).err().unwrap(), &format!("create_datagram_endpoint: {text}"), libc::ENODEV);
        // More than the system has room for.
        let keep_alive = KeepAlive::new().count(1_000);
        let error = complete(el, el.create_server(idle(), LOOPBACK).keep_alive(keep_alive)).unwrap_err();
        let text = "create_server: cannot set keep_alive(KeepAlive { on: true, idle: None, interval: None, count: Some(1000) })";
        refused(error, text, libc::EINVAL);
    });
}

/// SV-09: what has no sense, or comes too late, or is nothing that such a socket has, is refused before anything is done.
#[test]
fn what_is_refused() {
    on_loop(|el| {
        let refused = |result: io::Result<()>, text: &str| {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert_eq!(error.to_string(), text);
        };
        let server = || el.create_server(idle(), LOOPBACK);
        let size = "must be at least 1, and less than 2 GiB";
        let serve = |builder: roundelay::CreateServer<fn() -> tcp::Idle>| complete(el, builder).map(drop);
        refused(serve(server().send_buffer_size(0)), &format!("create_server: send_buffer_size() {size}"));
        refused(serve(server().recv_buffer_size(1 << 31)), &format!("create_server: recv_buffer_size() {size}"));
        let text = |what: &str| format!("create_server: keep_alive(): {what}");
        let keep_alive = |keep_alive: KeepAlive| serve(server().keep_alive(keep_alive));
        refused(keep_alive(KeepAlive::new().idle(Duration::ZERO)), &text("idle() must be longer than zero"));
        refused(keep_alive(KeepAlive::new().interval(Duration::ZERO)), &text("interval() must be longer than zero"));
        let count = text("count() must be at least 1, and less than 2^31");
        refused(keep_alive(KeepAlive::new().count(0)), &count);
        refused(keep_alive(KeepAlive::new().count(1 << 31)), &count);
        for device in ["", "sixteen-letters-", "l\0o"] {
            let text = format!("create_server: bind_device({device:?}): that is no name of an interface");
            refused(serve(server().bind_device(device)), &text);
        }
        let text = "create_server: v6only() cannot be used with family(V4)";
        refused(serve(server().v6only(true).family(Family::V4)), text);
        let given = || el.create_server(idle(), plain_listener().0);
        refused(serve(given().v6only(true)), "create_server: v6only() cannot be used with a socket");
        refused(serve(given().bind_device("lo")), "create_server: bind_device() cannot be used with a socket");

        let connection = complete(el, el.create_connection(idle(), plain_pair().0).bind_device("lo")).map(drop);
        refused(connection, "create_connection: bind_device() cannot be used with a socket");
        let connection = complete(el, el.create_connection(idle(), LOOPBACK).send_buffer_size(0)).map(drop);
        refused(connection, &format!("create_connection: send_buffer_size() {size}"));
        let pair = || std::os::unix::net::UnixStream::pair().unwrap().0;
        let only = "is for sockets of the internet only";
        let accepted = |builder: roundelay::ConnectAcceptedSocket<fn() -> tcp::Idle>| complete(el, builder).map(drop);
        let on_unix = || el.connect_accepted_socket(idle(), pair());
        refused(accepted(on_unix().nodelay(true)), &format!("connect_accepted_socket: nodelay() {only}"));
        refused(accepted(on_unix().keep_alive(true)), &format!("connect_accepted_socket: keep_alive() {only}"));
        refused(accepted(on_unix().tos(8)), &format!("connect_accepted_socket: tos() {only}"));
        accepted(on_unix().send_buffer_size(20_000)).unwrap();
        let folder = Folder::new();
        let connection = complete(el, el.create_unix_connection(idle(), folder.path("x")).recv_buffer_size(0));
        refused(connection.map(drop), &format!("create_unix_connection: recv_buffer_size() {size}"));
        let server = complete(el, el.create_unix_server(|| Echo, folder.path("x")).recv_buffer_size(0)).map(drop);
        refused(server, &format!("create_unix_server: recv_buffer_size() {size}"));

        let endpoint = |builder: roundelay::CreateDatagramEndpoint<fn() -> Deaf>| complete(el, builder).map(drop);
        let datagrams = || el.create_datagram_endpoint(deaf());
        let method = "create_datagram_endpoint";
        refused(endpoint(datagrams().tos(8).local_addr(folder.path("x"))), &format!("{method}: tos() {only}"));
        let text = format!("{method}: v6only() cannot be used with family(V4)");
        refused(endpoint(datagrams().v6only(true).family(Family::V4)), &text);
        let given = || datagrams().sock(UdpSocket::bind(LOOPBACK).unwrap());
        refused(endpoint(given().v6only(true)), &format!("{method}: v6only() cannot be used with sock()"));
        let text = format!("{method}: reuse_port(), bind_device() cannot be used with sock()");
        refused(endpoint(given().bind_device("lo").reuse_port(true)), &text);
        assert!(folder.names().is_empty());
        common::settle(el);
    });
}

/// The sizes are set before a client connects and a server listens, for what the two sides agree upon then depends on them: who
/// has little room needs no unit for it.
#[test]
fn sizes_are_set_in_time() {
    on_loop(|el| {
        let (listener, address) = plain_listener();
        let scale_of = |client: roundelay::CreateConnection<fn() -> tcp::Idle>| {
            let client = complete(el, client).unwrap().0;
            let scale = scale_of_the_peer(listener.accept().unwrap().0);
            tcp::close(el, &client);
            scale
        };
        assert!(scale_of(el.create_connection(idle(), address)) > 0);
        assert_eq!(scale_of(el.create_connection(idle(), address).recv_buffer_size(4_096)), 0);

        let scale_of = |server: roundelay::CreateServer<fn() -> tcp::Idle>| {
            let server = complete(el, server).unwrap();
            let scale = scale_of_the_peer(TcpStream::connect(server.local_addrs()[0]).unwrap());
            run_until(el, || server.accepted() == 1);
            end(el, &server);
            scale
        };
        assert!(scale_of(el.create_server(idle(), LOOPBACK)) > 0);
        assert_eq!(scale_of(el.create_server(idle(), LOOPBACK).recv_buffer_size(4_096)), 0);
    });
}

/// In which unit, as a power of two, the peer tells how much room it has.
#[allow(unsafe_code)]
fn scale_of_the_peer(stream: TcpStream) -> u8 {
    // SAFETY: all bytes of it may be zero.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = size_of_val(&info) as libc::socklen_t;
    // SAFETY: there is room for so many bytes.
    let result = unsafe {
        libc::getsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut len)
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    info.tcpi_snd_rcv_wscale & 0xf
}

//! TLS in every builder of connections and servers: what each does with it, and what does not go together.

#![cfg(feature = "__tls")]

#[path = "common/certificates.rs"]
mod certificates;
mod common;
#[path = "common/tcp.rs"]
mod tcp;
#[path = "common/unix.rs"]
mod unix;

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use roundelay::{
    Endpoint, EventLoop, Protocol, Server, StreamReader, StreamWriter, TlsAcceptor, TlsInfo, Transport,
    open_connection, open_unix_connection, start_server, start_unix_server,
};
use socket2::{Domain, Socket, Type};

use certificates::{acceptor, authority, connector, localhost};
use common::{run_until, take_reports};
use tcp::{LOOPBACK, Recorder, complete, has_ipv6, idle, plain_listener, plain_pair, take_client};
use unix::Folder;

/// What goes wrong with a builder that is awaited.
type Outcome = Pin<Box<dyn Future<Output = Option<io::Error>>>>;

const SECOND: Duration = Duration::from_secs(1);

/// Sends back what it gets, and notes what was agreed on.
#[derive(Clone, Default)]
struct Told(Rc<Cell<Option<TlsInfo>>>);

impl Protocol for Told {
    fn connection_made(&mut self, transport: &Transport) {
        self.0.set(transport.extra_info().tls);
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        transport.write(data);
    }
}

/// Sends back a line, and ends.
async fn echo_line(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    assert!(writer.extra_info().tls.is_some());
    let line = reader.readline().await?;
    writer.write(&line);
    writer.close();
    writer.wait_closed().await
}

/// A word goes there and comes back, and the connection ends.
fn round_trip(el: &EventLoop, transport: &Transport, heard: &Recorder) {
    assert!(transport.extra_info().tls.is_some());
    assert_eq!(heard.take(), ["made"]);
    transport.write(b"a word\n");
    run_until(el, || heard.0.len() > 0);
    assert_eq!(heard.take(), ["data a word\n"]);
    tcp::close(el, transport);
    assert_eq!(heard.take().last().unwrap(), "lost");
}

/// The same by streams.
async fn stream_round_trip((mut reader, mut writer): (StreamReader, StreamWriter)) {
    assert!(writer.extra_info().tls.is_some());
    writer.write(b"a word\n");
    assert_eq!(reader.read_to_end().await.unwrap(), b"a word\n");
    writer.wait_closed().await.unwrap();
}

/// A server of these protocols that is "localhost", 127.0.0.1 and ::1.
fn serve(el: &EventLoop, acceptor: TlsAcceptor) -> (Server, Told, SocketAddr) {
    let protocol = Told::default();
    let given = protocol.clone();
    let server = complete(el, el.create_server(move || given.clone(), LOOPBACK).tls(acceptor)).unwrap();
    let address = server.local_addrs()[0];
    (server, protocol, address)
}

/// What is told of something that is refused because of this.
#[track_caller]
fn check(error: &io::Error, method: &str, text: &str) {
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    assert_eq!(error.to_string(), format!("{method}: {text}"));
}

/// Each of the options that have no meaning without TLS, set on a builder, with its name.
macro_rules! without_tls {
    ($builder:expr; $($option:ident($value:expr)),*) => {
        [$((concat!(stringify!($option), "()"), {
            let builder = $builder.$option($value);
            Box::pin(async move { builder.await.err() }) as Outcome
        })),*]
    };
}

/// Awaits them, and looks at the errors.
#[track_caller]
fn all_refused<const N: usize>(el: &EventLoop, method: &str, refused: [(&str, Outcome); N]) {
    for (option, future) in refused {
        let error = complete(el, future).expect(option);
        check(&error, method, &format!("{option} has no meaning without tls()"));
    }
}

on_every_loop! {
    /// TL-01: create_connection and create_server.
    fn create_connection_and_create_server(el) {
        let (server, at_server, address) = serve(el, acceptor());
        let heard = Recorder::new();
        let given = heard.clone();
        let connecting = el.create_connection(move || given, ("localhost", address.port())).tls(connector());
        let connecting = connecting.tls_handshake_timeout(20 * SECOND).tls_shutdown_timeout(20 * SECOND);
        let (transport, _) = complete(el, connecting).unwrap();
        assert_eq!(at_server.0.take().unwrap().server_name.as_deref(), Some("localhost"));
        assert_eq!(transport.extra_info().peer_addr, Some(address));
        assert!(transport.extra_info().socket.unwrap().raw_fd().is_some());
        round_trip(el, &transport, &heard);
        tcp::end(el, &server);
    }

    /// TL-01: open_connection and start_server.
    fn open_connection_and_start_server(el) {
        complete(el, async {
            let starting = start_server(echo_line, LOOPBACK).tls(acceptor()).tls_handshake_timeout(20 * SECOND);
            let server = starting.tls_shutdown_timeout(20 * SECOND).await.unwrap();
            let opening = open_connection(server.local_addrs()[0]).tls(connector()).server_hostname("localhost");
            stream_round_trip(opening.await.unwrap()).await;
            server.close();
            server.wait_closed().await;
        });
    }

    /// TL-01, UN-05: create_unix_connection and create_unix_server.
    fn create_unix_connection_and_create_unix_server(el) {
        let folder = Folder::new();
        let path = folder.path("s");
        let server = complete(el, el.create_unix_server(Told::default, &path).tls(acceptor())).unwrap();
        let heard = Recorder::new();
        let given = heard.clone();
        let connecting = el.create_unix_connection(move || given, &path).tls(connector()).server_hostname("localhost");
        let (transport, _) = complete(el, connecting).unwrap();
        assert_eq!(transport.extra_info().unix_peer_addr, Some(path.into()));
        assert!(transport.extra_info().peer_credentials.is_some());
        round_trip(el, &transport, &heard);
        tcp::end(el, &server);
    }

    /// TL-01, UN-05: open_unix_connection and start_unix_server.
    fn open_unix_connection_and_start_unix_server(el) {
        let folder = Folder::new();
        let path = folder.path("s");
        complete(el, async {
            let server = start_unix_server(echo_line, &path).tls(acceptor()).await.unwrap();
            let opening = open_unix_connection(&path).tls(connector()).server_hostname("localhost");
            stream_round_trip(opening.await.unwrap()).await;
            server.close();
            server.wait_closed().await;
        });
    }

    /// TC-21: connect_accepted_socket is the server's side of TLS, over TCP and over a unix socket.
    fn connect_accepted_socket(el) {
        let ((near, far), (unix_near, unix_far)) = (plain_pair(), UnixStream::pair().unwrap());
        let sockets: [(Socket, Socket); 2] = [(near.into(), far.into()), (unix_near.into(), unix_far.into())];
        for (near, far) in sockets {
            let heard = Recorder::new();
            let given = heard.clone();
            let accepting = el.connect_accepted_socket(Told::default, far).tls(acceptor());
            let accepting = el.create_task(accepting.tls_handshake_timeout(SECOND).tls_shutdown_timeout(SECOND).into_future());
            let connecting = el.create_connection(move || given, near).tls(connector()).server_hostname("localhost");
            let (transport, _) = complete(el, connecting).unwrap();
            let (accepted, _) = complete(el, accepting).unwrap().unwrap();
            assert_eq!(accepted.extra_info().tls.unwrap().server_name.as_deref(), Some("localhost"));
            round_trip(el, &transport, &heard);
            run_until(el, || accepted.protocol().is_none());
        }
    }

    /// TC-16: the name is that of the host that is connected to, in all its forms; the server is told of names, not of
    /// addresses.
    fn the_name_is_that_of_the_host(el) {
        let (server, at_server, address) = serve(el, acceptor());
        let port = address.port();
        let endpoints: [(Endpoint, Option<&str>); 5] = [
            (("localhost", port).into(), Some("localhost")),
            (("127.0.0.1", port).into(), None),
            (address.into(), None),
            ((IpAddr::from(Ipv4Addr::LOCALHOST), port).into(), None),
            (vec![address].into(), None),
        ];
        for (endpoint, name) in endpoints {
            let text = format!("{endpoint:?}");
            let (transport, _) = complete(el, el.create_connection(idle(), endpoint).tls(connector())).expect(&text);
            assert_eq!(at_server.0.take().unwrap().server_name.as_deref(), name, "{text}");
            tcp::close(el, &transport);
        }
        // The dot of the root is for resolvers only.
        let connecting = el.create_connection(idle(), address).tls(connector()).server_hostname("localhost.");
        let (transport, _) = complete(el, connecting).unwrap();
        assert_eq!(at_server.0.take().unwrap().server_name.as_deref(), Some("localhost"));
        tcp::close(el, &transport);
        tcp::end(el, &server);
    }

    /// TC-16: of an IPv6 address neither the brackets nor the zone are part of the name.
    fn the_name_of_an_ipv6_address(el) {
        if !has_ipv6() {
            return;
        }
        let server = complete(el, el.create_server(Told::default, ("::1", 0)).tls(acceptor())).unwrap();
        let port = server.local_addrs()[0].port();
        let endpoints: [Endpoint; 4] = [
            ("::1", port).into(),
            ("[::1]", port).into(),
            ("::1%1", port).into(),
            SocketAddrV6::new("::1".parse().unwrap(), port, 0, 1).into(),
        ];
        for endpoint in endpoints {
            let text = format!("{endpoint:?}");
            let (transport, _) = complete(el, el.create_connection(idle(), endpoint).tls(connector())).expect(&text);
            assert_eq!(transport.extra_info().peer_addr.unwrap().ip(), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]));
            tcp::close(el, &transport);
        }
        tcp::end(el, &server);
    }

    /// TC-16: server_hostname is in place of the host, for better or worse.
    fn another_name(el) {
        let certified = authority().server(&["roundelay.example"]);
        let other = TlsAcceptor::builder().identity(certified.identity()).build().unwrap();
        let (server, at_server, address) = serve(el, other);
        let connecting = |host: &str| el.create_connection(idle(), (host, address.port())).tls(connector());
        for host in ["localhost", "127.0.0.1"] {
            let named = connecting(host).server_hostname("roundelay.example");
            let (transport, _) = complete(el, named).unwrap();
            assert_eq!(at_server.0.take().unwrap().server_name.as_deref(), Some("roundelay.example"));
            tcp::close(el, &transport);
            for wrong in [connecting(host), connecting(host).server_hostname("roundelay.test")] {
                assert_eq!(complete(el, wrong).unwrap_err().kind(), io::ErrorKind::InvalidData);
            }
        }
        assert!(at_server.0.take().is_none());
        tcp::end(el, &server);
        // The server hears of it in debug mode.
        let reports = take_reports();
        assert_eq!(reports.len(), if el.debug() { 4 } else { 0 }, "{reports:?}");
        assert!(reports.iter().all(|report| report.contains("BadCertificate")), "{reports:?}");
    }

    /// TC-16, UN-05: where there is no host, or more than one address, the name has to be given; nobody is connected to
    /// before that is known, and no protocol is made.
    fn the_name_is_required_where_there_is_no_host(el) {
        let folder = Folder::new();
        let path = folder.path("nobody");
        let (listener, address) = plain_listener();
        let (near, peer) = plain_pair();
        let (unix_near, unix_peer) = UnixStream::pair().unwrap();
        let text = "the client's side of TLS needs server_hostname() where there is no host";
        let no_protocol = || -> Recorder { panic!("a protocol is made") };
        let endpoints: [Endpoint; 3] = [near.into(), vec![address, address].into(), ("", address.port()).into()];
        for endpoint in endpoints {
            let error = complete(el, el.create_connection(no_protocol, endpoint).tls(connector())).unwrap_err();
            check(&error, "create_connection", text);
        }
        let error = complete(el, el.create_unix_connection(no_protocol, &path).tls(connector())).unwrap_err();
        check(&error, "create_unix_connection", text);
        let error = complete(el, el.create_unix_connection(no_protocol, unix_near).tls(connector())).unwrap_err();
        check(&error, "create_unix_connection", text);
        complete(el, async {
            let error = open_connection(vec![address, address]).tls(connector()).await.unwrap_err();
            check(&error, "open_connection", text);
            let error = open_unix_connection(&path).tls(connector()).await.unwrap_err();
            check(&error, "open_unix_connection", text);
        });
        assert!(take_client(&listener).is_none());
        // The sockets that were given are closed.
        for mut peer in [Box::new(peer) as Box<dyn io::Read>, Box::new(unix_peer)] {
            assert_eq!(peer.read(&mut [0]).unwrap(), 0);
        }
    }

    /// TC-16: what is no name is refused before anybody is connected to; an empty one is for connectors that check none.
    fn what_is_no_name(el) {
        let (listener, address) = plain_listener();
        for name in ["two words", "", "a..b"] {
            let connecting = el.create_connection(idle(), address).tls(connector()).server_hostname(name);
            let error = complete(el, connecting).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().starts_with(&format!("create_connection: server_hostname({name:?}): ")), "{error}");
        }
        assert!(take_client(&listener).is_none());
    }

    /// TC-15, UN-05: of a client's connection, the options of TLS without TLS.
    fn client_options_without_tls(el) {
        let folder = Folder::new();
        let path = folder.path("nobody");
        let (listener, address) = plain_listener();
        all_refused(el, "create_connection", without_tls!(el.create_connection(idle(), address);
            server_hostname("localhost"), tls_handshake_timeout(SECOND), tls_shutdown_timeout(SECOND)));
        all_refused(el, "create_unix_connection", without_tls!(el.create_unix_connection(idle(), &path);
            server_hostname("localhost"), tls_handshake_timeout(SECOND), tls_shutdown_timeout(SECOND)));
        let futures = complete(el, async {
            let tcp = without_tls!(open_connection(address);
                server_hostname("localhost"), tls_handshake_timeout(SECOND), tls_shutdown_timeout(SECOND));
            let unix = without_tls!(open_unix_connection(&path);
                server_hostname("localhost"), tls_handshake_timeout(SECOND), tls_shutdown_timeout(SECOND));
            (tcp, unix)
        });
        all_refused(el, "open_connection", futures.0);
        all_refused(el, "open_unix_connection", futures.1);
        assert!(take_client(&listener).is_none());
    }

    /// SV-09, UN-05: of a server, the options of TLS without TLS; nothing is bound.
    fn server_options_without_tls(el) {
        let folder = Folder::new();
        let path = folder.path("s");
        all_refused(el, "create_server", without_tls!(el.create_server(idle(), LOOPBACK);
            tls_handshake_timeout(SECOND), tls_shutdown_timeout(SECOND)));
        all_refused(el, "create_unix_server", without_tls!(el.create_unix_server(idle(), &path);
            tls_handshake_timeout(SECOND), tls_shutdown_timeout(SECOND)));
        let futures = complete(el, async {
            let tcp = without_tls!(start_server(echo_line, LOOPBACK);
                tls_handshake_timeout(SECOND), tls_shutdown_timeout(SECOND));
            let unix = without_tls!(start_unix_server(echo_line, &path);
                tls_handshake_timeout(SECOND), tls_shutdown_timeout(SECOND));
            (tcp, unix)
        });
        all_refused(el, "start_server", futures.0);
        all_refused(el, "start_unix_server", futures.1);
        assert!(folder.names().is_empty());
    }

    /// TC-21: of an accepted connection, the options of TLS without TLS; and a socket that is no stream's.
    fn accepted_options_without_tls(el) {
        let (_peer, near) = plain_pair();
        all_refused(el, "connect_accepted_socket", without_tls!(
            el.connect_accepted_socket(idle(), near.try_clone().unwrap());
            tls_handshake_timeout(SECOND), tls_shutdown_timeout(SECOND)));
        let datagrams = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        let error = complete(el, el.connect_accepted_socket(idle(), datagrams).tls(acceptor())).unwrap_err();
        check(&error, "connect_accepted_socket", "a stream socket was expected");
    }

    /// TL-07: times of zero are refused everywhere.
    fn times_of_zero(el) {
        let zero = Duration::ZERO;
        let (listener, address) = plain_listener();
        let connecting = || el.create_connection(idle(), address).tls(connector());
        let handshake = "tls_handshake_timeout() must be longer than zero";
        let shutdown = "tls_shutdown_timeout() must be longer than zero";
        let error = complete(el, connecting().tls_handshake_timeout(zero)).unwrap_err();
        check(&error, "create_connection", handshake);
        let error = complete(el, connecting().tls_shutdown_timeout(zero)).unwrap_err();
        check(&error, "create_connection", shutdown);
        let serving = || el.create_server(idle(), LOOPBACK).tls(acceptor());
        check(&complete(el, serving().tls_handshake_timeout(zero)).unwrap_err(), "create_server", handshake);
        check(&complete(el, serving().tls_shutdown_timeout(zero)).unwrap_err(), "create_server", shutdown);
        assert!(take_client(&listener).is_none());
    }

    /// SV-09: a server over TLS takes a socket that is bound already, and several of its options go with TLS.
    fn a_server_on_a_given_socket(el) {
        let (listener, address) = plain_listener();
        let serving = el.create_server(Told::default, Socket::from(listener)).tls(acceptor());
        let server = complete(el, serving.backlog(5).max_connections(1).idle_timeout(100 * SECOND)).unwrap();
        let heard = Recorder::new();
        let given = heard.clone();
        let (transport, _) = complete(el, el.create_connection(move || given, address).tls(connector())).unwrap();
        assert_eq!(server.connections(), 1);
        round_trip(el, &transport, &heard);
        tcp::end(el, &server);
    }

    /// TC-16: a builder whose TLS is set twice has the latter one; its text names what was set.
    fn set_twice(el) {
        let certified = certificates::Authority::new("somebody else").server(&["localhost"]);
        let stranger = TlsAcceptor::builder().identity(certified.identity()).build().unwrap();
        let serving = el.create_server(Told::default, LOOPBACK).tls(stranger).tls(acceptor());
        let server = complete(el, serving).unwrap();
        let connecting = el.create_connection(idle(), server.local_addrs()[0]).tls(connector());
        let connecting = connecting.server_hostname("wrong").server_hostname("localhost");
        assert!(format!("{connecting:?}").contains("localhost"));
        let (transport, _) = complete(el, connecting).unwrap();
        assert_eq!(transport.extra_info().tls.unwrap().peer_certificates, localhost().chain);
        tcp::close(el, &transport);
        tcp::end(el, &server);
    }
}

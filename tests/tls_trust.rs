//! Who is trusted, who one is: what TLS connections make of their configurations.

#![cfg(feature = "__tls")]

#[path = "common/certificates.rs"]
mod certificates;
mod common;
#[path = "common/tcp.rs"]
mod tcp;

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use certificates::{Authority, Certified, acceptor, authority, connector, localhost, tls_pair};
use common::{complete, run_until, take_reports};
use roundelay::{
    ClientAuth, EventLoop, Protocol, TlsAcceptor, TlsAcceptorBuilder, TlsConnector, TlsConnectorBuilder, TlsIdentity,
    TlsInfo, TlsVersion, Transport,
};
use tcp::plain_listener;

/// What one side hears.
#[derive(Clone, Default)]
struct Side(Rc<RefCell<Heard>>);

#[derive(Default)]
struct Heard {
    made: Option<TlsInfo>,
    data: Vec<u8>,
    lost: Option<Option<io::Error>>,
}

/// The server greets, and the client answers with a farewell.
struct Speaker {
    side: Side,
    is_server: bool,
}

impl Protocol for Speaker {
    fn connection_made(&mut self, transport: &Transport) {
        self.side.0.borrow_mut().made = transport.extra_info().tls;
        if self.is_server {
            transport.write(b"hello");
        }
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        self.side.0.borrow_mut().data.extend_from_slice(data);
        if !self.is_server {
            transport.close();
        }
    }
    fn connection_lost(&mut self, _: &Transport, error: Option<io::Error>) {
        self.side.0.borrow_mut().lost = Some(error);
    }
}

/// What became of a connection: what both sides know of it, or why it is not one.
struct Meeting {
    client: Result<TlsInfo, io::Error>,
    server: Option<TlsInfo>,
}

impl Meeting {
    /// Both sides, of a connection that stood.
    #[track_caller]
    fn stood(self) -> (TlsInfo, TlsInfo) {
        (self.client.unwrap(), self.server.unwrap())
    }

    /// Why there is no connection.
    #[track_caller]
    fn refused(self) -> String {
        let error = self.client.unwrap_err();
        assert!(self.server.is_none(), "the server's protocol has heard of a connection that never stood");
        error.to_string()
    }
}

/// Lets a client meet a server.
fn meet(el: &EventLoop, connector: &TlsConnector, acceptor: &TlsAcceptor, name: &str) -> Meeting {
    let (client, served) = (Side::default(), Side::default());
    let factory = {
        let side = served.clone();
        move || Speaker { side: side.clone(), is_server: true }
    };
    let serving = el.create_server(factory, ("127.0.0.1", 0)).tls(acceptor.clone());
    let server = complete(el, serving).unwrap();
    let side = client.clone();
    let connecting = el.create_connection(move || Speaker { side, is_server: false }, server.local_addrs()[0]);
    let connected = complete(el, connecting.tls(connector.clone()).server_hostname(name));
    let client = connected.and_then(|(transport, protocol)| {
        drop(protocol);
        run_until(el, || client.0.borrow().lost.is_some());
        drop(transport);
        let heard = client.0.take();
        // With TLS 1.3 a client knows of its own handshake first, and hears later what the server makes of it.
        if let Some(Some(error)) = heard.lost {
            return Err(error);
        }
        assert_eq!(heard.data, b"hello");
        Ok(heard.made.unwrap())
    });
    let shut = el.run_until_complete(async move { server.shutdown(Duration::from_secs(20)).await });
    assert!(shut.unwrap());
    if client.is_err() {
        // The server reports failed handshakes in debug mode only; that it does is somebody else's test.
        let reports = take_reports();
        assert!(el.debug() || reports.is_empty(), "{reports:?}");
    }
    let server = served.0.take().made;
    Meeting { client, server }
}

fn client() -> TlsConnectorBuilder {
    TlsConnector::builder().roots_from_pem(authority().pem())
}

fn server() -> TlsAcceptorBuilder {
    TlsAcceptor::builder().identity(localhost().identity())
}

fn server_of(certified: &Certified) -> TlsAcceptor {
    TlsAcceptor::builder().identity(certified.identity()).build().unwrap()
}

/// A server with a certificate that `TlsIdentity` would refuse.
fn careless_server(certified: &Certified) -> TlsAcceptor {
    rustls_server(certified).into()
}

fn rustls_server(certified: &Certified) -> Arc<rustls::ServerConfig> {
    let (chain, key) = certified.rustls();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(chosen::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    Arc::new(config.with_single_cert(chain, key).unwrap())
}

fn rustls_client() -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority().der()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(chosen::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

/// Listens until the connection ends.
struct Listener(Side);

impl Protocol for Listener {
    fn data_received(&mut self, _: &Transport, data: &[u8]) {
        self.0.0.borrow_mut().data.extend_from_slice(data);
    }
    fn connection_lost(&mut self, _: &Transport, error: Option<io::Error>) {
        self.0.0.borrow_mut().lost = Some(error);
    }
}

/// A peer that sends something, and then nothing any more, without having said so; and waits for the other side's end.
fn cut_off<T: Read + Write>(mut tls: T, socket: impl Fn(&mut T) -> &mut TcpStream) {
    tls.write_all(b"the whole, perhaps").unwrap();
    tls.flush().unwrap();
    socket(&mut tls).shutdown(Shutdown::Write).unwrap();
    io::copy(socket(&mut tls), &mut io::sink()).unwrap();
}

/// What was sent has arrived, and then the end: as an error, if that was asked for.
#[track_caller]
fn assert_ended(el: &EventLoop, side: &Side, is_error: bool) {
    run_until(el, || side.0.borrow().lost.is_some());
    let heard = side.0.take();
    assert_eq!(heard.data, b"the whole, perhaps");
    let expected = is_error.then_some(ErrorKind::UnexpectedEof);
    assert_eq!(heard.lost.unwrap().map(|error| error.kind()), expected);
}

#[cfg(feature = "aws-lc-rs")]
use rustls::crypto::aws_lc_rs as chosen;
#[cfg(not(feature = "aws-lc-rs"))]
use rustls::crypto::ring as chosen;

fn both_versions() -> [TlsVersion; 2] {
    [TlsVersion::Tls12, TlsVersion::Tls13]
}

on_every_loop! {
    /// TL-01: both sides know what was agreed on, and the client who the server is.
    fn a_client_meets_a_server_that_it_trusts(el) {
        let (connector, acceptor) = tls_pair();
        let (client, server) = meet(el, &connector, &acceptor, "localhost").stood();
        assert_eq!(client.version, TlsVersion::Tls13);
        assert_eq!(client.cipher_suite, server.cipher_suite);
        assert_eq!(client.peer_certificates, localhost().chain);
        assert!(server.peer_certificates.is_empty());
        assert_eq!((client.alpn_protocol, server.alpn_protocol), (None, None));
        assert_eq!(server.server_name.as_deref(), Some("localhost"));
    }

    /// TL-03: a server that no trusted authority vouches for is an error for who connects, and none for its protocol.
    fn an_untrusted_server_is_refused(el) {
        let stranger = Authority::new("stranger");
        let error = meet(el, &connector(), &server_of(&stranger.server(&["localhost"])), "localhost").refused();
        assert!(error.contains("UnknownIssuer"), "{error}");
        // Nor does a server vouch for itself by sending its authority along.
        let certified = stranger.server(&["localhost"]).with(&stranger);
        let error = meet(el, &connector(), &server_of(&certified), "localhost").refused();
        assert!(error.contains("UnknownIssuer"), "{error}");
        // It is trusted where its authority is.
        let trusting = client().root_from_der(stranger.der()).build().unwrap();
        meet(el, &trusting, &server_of(&certified), "localhost").stood();
        // A server that is its own authority is trusted where it is known itself.
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let identity = TlsIdentity::from_pem(own.cert.pem(), own.signing_key.serialize_pem()).unwrap();
        let acceptor = TlsAcceptor::builder().identity(identity).build().unwrap();
        meet(el, &connector(), &acceptor, "localhost").refused();
        let trusting = TlsConnector::builder().root_from_der(own.cert.der()).build().unwrap();
        meet(el, &trusting, &acceptor, "localhost").stood();
    }

    /// TL-03: authorities between a server and the root are found in what the server sends.
    fn an_authority_in_between_comes_from_the_server(el) {
        let between = authority().intermediate("between");
        let certified = between.server(&["localhost"]);
        meet(el, &connector(), &server_of(&certified), "localhost").refused();
        let (client, _) = meet(el, &connector(), &server_of(&certified.clone().with(&between)), "localhost").stood();
        assert_eq!(client.peer_certificates, [certified.chain[0].clone(), between.der()]);
    }

    /// TL-04: the name that is connected to has to be one of the certificate's, an address one of its addresses.
    fn the_name_has_to_be_one_of_the_certificates(el) {
        let (connector, acceptor) = tls_pair();
        for name in ["localhost", "LOCALHOST", "localhost.", "127.0.0.1", "::1", "[::1]", "::1%lo"] {
            meet(el, &connector, &acceptor, name).stood();
        }
        for name in ["other.example", "local", "sub.localhost", "127.0.0.2", "::2"] {
            let error = meet(el, &connector, &acceptor, name).refused();
            assert!(error.contains("certificate not valid for name"), "{name}: {error}");
        }
        let stars = server_of(&authority().server(&["*.example.org"]));
        meet(el, &connector, &stars, "a.example.org").stood();
        for name in ["example.org", "a.b.example.org"] {
            meet(el, &connector, &stars, name).refused();
        }
    }

    /// TC-16: an empty name is refused by a connector that checks names; so is what is no name at all.
    fn what_is_no_name_is_refused_before_anything_is_sent(el) {
        for name in ["", "a b", "host..example", "bücher.example"] {
            let connecting = el.create_connection(|| Speaker { side: Side::default(), is_server: false }, ("127.0.0.1", 1));
            let error = complete(el, connecting.tls(connector()).server_hostname(name)).map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().starts_with("create_connection: server_hostname("), "{error}");
        }
    }

    /// A configuration of rustls that cannot be is refused before anything happens.
    fn a_configuration_that_cannot_be_is_refused(el) {
        let mut config = Arc::unwrap_or_clone(rustls_client());
        config.max_fragment_size = Some(1);
        let connecting = el.create_connection(|| Speaker { side: Side::default(), is_server: false }, ("127.0.0.1", 1));
        let error = complete(el, connecting.tls(Arc::new(config)).server_hostname("a")).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().starts_with("create_connection: tls(): "), "{error}");
        let mut config = Arc::unwrap_or_clone(rustls_server(localhost()));
        config.max_fragment_size = Some(1);
        let serving = el.create_server(|| Listener(Side::default()), ("127.0.0.1", 0)).tls(Arc::new(config));
        let error = complete(el, serving).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("TlsAcceptor: "), "{error}");
    }

    /// TL-03: a certificate that has expired, or is not valid yet, is refused by clients.
    fn a_server_that_is_not_valid_today_is_refused(el) {
        let expired = authority().expired(&["localhost"]);
        let error = meet(el, &connector(), &careless_server(&expired), "localhost").refused();
        assert!(error.contains("certificate expired"), "{error}");
        let early = authority().not_yet_valid(&["localhost"]);
        let error = meet(el, &connector(), &careless_server(&early), "localhost").refused();
        assert!(error.contains("certificate not valid yet"), "{error}");
        // A client's certificate is none for a server.
        let error = meet(el, &connector(), &server_of(&authority().client("localhost")), "localhost").refused();
        assert!(error.contains("certificate"), "{error}");
    }

    /// TL-03: a dangerous connector takes any certificate, with or without a name.
    fn any_certificate_is_accepted_on_demand(el) {
        let certified = Authority::new("stranger").expired(&["elsewhere.example"]);
        for version in both_versions() {
            let probe = TlsConnector::builder().min_version(version).max_version(version);
            let probe = probe.dangerous().accept_any_certificate().build().unwrap();
            let (client, server) = meet(el, &probe, &careless_server(&certified), "localhost").stood();
            assert_eq!((client.version, server.version), (version, version));
            assert_eq!(client.peer_certificates, certified.chain);
            assert_eq!(server.server_name.as_deref(), Some("localhost"));
            let (client, server) = meet(el, &probe, &careless_server(&certified), "").stood();
            assert_eq!((client.server_name, server.server_name), (None, None));
        }
    }

    /// TL-04: without the check of names the chain and the days are checked all the same.
    fn names_are_not_checked_on_demand(el) {
        let lenient = client().dangerous().without_hostname_check().build().unwrap();
        let (_, server) = meet(el, &lenient, &acceptor(), "other.example").stood();
        assert_eq!(server.server_name.as_deref(), Some("other.example"));
        let (_, server) = meet(el, &lenient, &acceptor(), "").stood();
        assert_eq!(server.server_name, None);
        let stranger = Authority::new("stranger").server(&["localhost"]);
        let error = meet(el, &lenient, &server_of(&stranger), "localhost").refused();
        assert!(error.contains("UnknownIssuer"), "{error}");
        let expired = authority().expired(&["localhost"]);
        let error = meet(el, &lenient, &careless_server(&expired), "localhost").refused();
        assert!(error.contains("certificate expired"), "{error}");
        // The order of the two does not matter: the one that checks less wins.
        for turned in [true, false] {
            let builder = TlsConnector::builder().dangerous();
            let builder = match turned {
                true => builder.accept_any_certificate().without_hostname_check(),
                false => builder.without_hostname_check().accept_any_certificate(),
            };
            meet(el, &builder.build().unwrap(), &server_of(&stranger), "other.example").stood();
        }
    }

    /// TL-01: a server that requires certificates takes clients with one that it trusts, and no others.
    fn a_server_may_require_certificates_of_its_clients(el) {
        let builder = server().client_auth(ClientAuth::Required).client_roots_from_pem(authority().pem());
        let acceptor = builder.build().unwrap();
        let known = authority().client("known");
        let unknown = Authority::new("stranger").client("unknown");
        let wrong_purpose = authority().server(&["known"]);
        for version in both_versions() {
            let client = || client().min_version(version).max_version(version);
            let connector = client().identity(known.identity()).build().unwrap();
            let (_, served) = meet(el, &connector, &acceptor, "localhost").stood();
            assert_eq!(served.peer_certificates, known.chain);
            let error = meet(el, &client().build().unwrap(), &acceptor, "localhost").refused();
            assert!(error.contains("CertificateRequired") || error.contains("HandshakeFailure"), "{error}");
            let connector = client().identity(unknown.identity()).build().unwrap();
            let error = meet(el, &connector, &acceptor, "localhost").refused();
            assert!(error.contains("UnknownCA"), "{error}");
            let connector = client().identity(wrong_purpose.identity()).build().unwrap();
            meet(el, &connector, &acceptor, "localhost").refused();
        }
    }

    /// TL-01: a server that asks without insisting takes clients without a certificate, but none with a bad one.
    fn a_server_may_ask_for_certificates(el) {
        let builder = server().client_auth(ClientAuth::Optional).client_root_from_der(authority().der());
        let acceptor = builder.build().unwrap();
        let known = authority().client("known");
        let (_, served) = meet(el, &connector(), &acceptor, "localhost").stood();
        assert!(served.peer_certificates.is_empty());
        let with = client().identity(known.identity()).build().unwrap();
        let (_, served) = meet(el, &with, &acceptor, "localhost").stood();
        assert_eq!(served.peer_certificates, known.chain);
        let bad = client().identity(Authority::new("stranger").client("unknown").identity()).build().unwrap();
        meet(el, &bad, &acceptor, "localhost").refused();
        // Who is not asked shows nothing.
        let (_, served) = meet(el, &with, &certificates::acceptor(), "localhost").stood();
        assert!(served.peer_certificates.is_empty());
    }

    /// TL-01: of several identities a client gets the one for the name that it asks for.
    fn the_name_that_is_asked_for_chooses_the_identity(el) {
        let names = ["one.example", "*.stars.example", "special.stars.example"];
        let certified = names.map(|name| authority().server(&[name]));
        let mut builder = TlsAcceptor::builder();
        for (name, certified) in names.iter().zip(&certified) {
            builder = builder.identity_for(*name, certified.identity());
        }
        let strict = builder.clone().build().unwrap();
        let open = builder.identity(localhost().identity()).build().unwrap();
        let asked = [
            ("one.example", 0),
            ("ONE.example.", 0),
            ("a.stars.example", 1),
            ("special.stars.example", 2),
        ];
        for (name, index) in asked {
            for acceptor in [&strict, &open] {
                let (client, _) = meet(el, &connector(), acceptor, name).stood();
                assert_eq!(client.peer_certificates, certified[index].chain, "{name}");
            }
        }
        // An address is not asked for; the names are those of the certificate, and of nobody else.
        for name in ["localhost", "127.0.0.1"] {
            let (client, _) = meet(el, &connector(), &open, name).stood();
            assert_eq!(client.peer_certificates, localhost().chain);
            let error = meet(el, &connector(), &strict, name).refused();
            assert!(error.contains("alert"), "{error}");
        }
        for name in ["stars.example", "a.b.stars.example"] {
            meet(el, &connector(), &strict, name).refused();
        }
    }

    /// TL-01: a function chooses the identity, by what the client says, and another one when there is a newer.
    fn a_function_chooses_the_identity(el) {
        let first = authority().server(&["localhost"]);
        let second = authority().server(&["localhost"]);
        let of_h2 = authority().server(&["localhost"]);
        let current = Arc::new(RwLock::new(first.identity()));
        let asked = Arc::new(RwLock::new(Vec::new()));
        let acceptor = {
            let (current, asked, of_h2) = (current.clone(), asked.clone(), of_h2.identity());
            TlsAcceptor::builder()
                .resolver(move |hello| {
                    asked.write().unwrap().push(format!("{hello:?}"));
                    match hello.server_name() {
                        Some("nobody.example") | None => None,
                        _ if hello.alpn().any(|protocol| protocol == b"h2") => Some(of_h2.clone()),
                        _ => Some(current.read().unwrap().clone()),
                    }
                })
                .alpn(["h2"])
                .build()
                .unwrap()
        };
        let (client, _) = meet(el, &connector(), &acceptor, "localhost").stood();
        assert_eq!(client.peer_certificates, first.chain);
        *current.write().unwrap() = second.identity();
        let unresumed = certificates::connector();
        let (client, _) = meet(el, &unresumed, &acceptor, "localhost").stood();
        assert_eq!(client.peer_certificates, second.chain);
        let with_alpn = self::client().alpn(["h2", "http/1.1"]).build().unwrap();
        let (client, _) = meet(el, &with_alpn, &acceptor, "localhost").stood();
        assert_eq!(client.peer_certificates, of_h2.chain);
        assert_eq!(client.alpn_protocol.as_deref(), Some(&b"h2"[..]));
        meet(el, &connector(), &acceptor, "nobody.example").refused();
        let asked = asked.read().unwrap();
        assert_eq!(asked[0], r#"TlsClientHello { server_name: Some("localhost"), alpn: [] }"#);
        assert_eq!(asked[2], r#"TlsClientHello { server_name: Some("localhost"), alpn: ["h2", "http/1.1"] }"#);
    }

    /// EH-15: a function that panics costs its connection, and nothing else.
    fn a_function_that_panics_ends_its_connection_only(el) {
        let identity = localhost().identity();
        let acceptor = TlsAcceptor::builder()
            .resolver(move |hello| match hello.server_name() {
                Some("localhost") => Some(identity.clone()),
                _ => std::panic::panic_any("no idea"),
            })
            .build()
            .unwrap();
        let (client, served) = (Side::default(), Side::default());
        let factory = {
            let side = served.clone();
            move || Speaker { side: side.clone(), is_server: true }
        };
        let server = complete(el, el.create_server(factory, ("127.0.0.1", 0)).tls(acceptor)).unwrap();
        let connect = |name: &str| {
            let side = client.clone();
            let connecting = el.create_connection(move || Speaker { side, is_server: false }, server.local_addrs()[0]);
            complete(el, connecting.tls(connector()).server_hostname(name))
        };
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let refused = connect("other.example").map(|_| ());
        std::panic::set_hook(hook);
        refused.unwrap_err();
        let reports = take_reports();
        assert!(reports.iter().any(|report| report.contains("no idea")), "{reports:?}");
        assert!(served.0.borrow().made.is_none());
        drop(connect("localhost").unwrap());
        run_until(el, || client.0.borrow().lost.is_some());
        assert_eq!(client.0.borrow().data, b"hello");
        let shut = el.run_until_complete(async move { server.shutdown(Duration::from_secs(20)).await });
        assert!(shut.unwrap());
    }

    /// TL-01: the server's favourite of the protocols that both speak is agreed on.
    fn a_protocol_is_agreed_on(el) {
        let server = |alpn: &[&str]| server().alpn(alpn).build().unwrap();
        let client = |alpn: &[&str]| client().alpn(alpn).build().unwrap();
        let agreed = [
            (&["h2", "http/1.1"][..], &["http/1.1", "h2"][..], Some("http/1.1")),
            (&["h2"], &["http/1.1", "h2"], Some("h2")),
            (&[], &["h2"], None),
            (&["h2"], &[], None),
            (&[], &[], None),
        ];
        for version in both_versions() {
            for (offered, spoken, protocol) in agreed {
                let connector = self::client().alpn(offered).min_version(version).max_version(version).build().unwrap();
                let (client, served) = meet(el, &connector, &server(spoken), "localhost").stood();
                let protocol = protocol.map(|name| name.as_bytes().to_vec());
                assert_eq!((&client.alpn_protocol, &served.alpn_protocol), (&protocol, &protocol));
            }
        }
        let error = meet(el, &client(&["h2"]), &server(&["http/1.1"]), "localhost").refused();
        assert!(error.contains("NoApplicationProtocol"), "{error}");
    }

    /// TL-01: the newest version that both speak is taken, and none where there is none.
    fn a_version_is_agreed_on(el) {
        let (old, new) = (TlsVersion::Tls12, TlsVersion::Tls13);
        let client = |min, max| client().min_version(min).max_version(max).build().unwrap();
        let server = |min, max| server().min_version(min).max_version(max).build().unwrap();
        let agreed = [
            (client(old, new), server(old, new), new),
            (client(old, old), server(old, new), old),
            (client(old, new), server(old, old), old),
            (client(new, new), server(old, new), new),
            (client(old, new), server(new, new), new),
        ];
        for (connector, acceptor, version) in agreed {
            let (client, served) = meet(el, &connector, &acceptor, "localhost").stood();
            assert_eq!((client.version, served.version), (version, version));
        }
        for (connector, acceptor) in [(client(old, old), server(new, new)), (client(new, new), server(old, old))] {
            let error = meet(el, &connector, &acceptor, "localhost").refused();
            assert!(error.contains("ProtocolVersion"), "{error}");
        }
    }

    /// TL-01: sessions are resumed, by either side's clones, unless one side does not want to.
    fn sessions_are_resumed_unless_that_is_switched_off(el) {
        for version in both_versions() {
            let client = || client().min_version(version).max_version(version);
            let resumed = |connector: &TlsConnector, acceptor: &TlsAcceptor| {
                let (client, served) = meet(el, &connector.clone(), &acceptor.clone(), "localhost").stood();
                assert_eq!(client.is_resumed, served.is_resumed);
                // Who the server is is known from the first time.
                assert_eq!(client.peer_certificates, localhost().chain);
                client.is_resumed
            };
            let (connector, acceptor) = (client().build().unwrap(), acceptor());
            assert!(!resumed(&connector, &acceptor));
            assert!(resumed(&connector, &acceptor));
            assert!(resumed(&connector, &acceptor));
            // Another server has not the same keys, another client not the same sessions.
            assert!(!resumed(&connector, &certificates::acceptor()));
            assert!(!resumed(&client().build().unwrap(), &acceptor));

            let forgetful = client().resumption(false).build().unwrap();
            assert!(!resumed(&forgetful, &acceptor));
            assert!(!resumed(&forgetful, &acceptor));
            let forgetful = server().resumption(false).build().unwrap();
            assert!(!resumed(&connector, &forgetful));
            assert!(!resumed(&connector, &forgetful));
        }
    }

    /// TL-01: of the tickets of TLS 1.3 a client gets as many as the server says, and each is good once.
    fn the_number_of_tickets_can_be_chosen(el) {
        let acceptor = server().tls13_tickets(0).build().unwrap();
        let connector = connector();
        for _ in 0..2 {
            assert!(!meet(el, &connector, &acceptor, "localhost").stood().0.is_resumed);
        }
        let acceptor = server().tls13_tickets(1).build().unwrap();
        let connector = certificates::connector();
        assert!(!meet(el, &connector, &acceptor, "localhost").stood().0.is_resumed);
        assert!(meet(el, &connector, &acceptor, "localhost").stood().0.is_resumed);
    }

    /// TL-03: a resumed session is one of the same client's, with the same trust.
    fn a_session_does_not_outlive_its_trust(el) {
        let acceptor = acceptor();
        let probe = TlsConnector::builder().dangerous().accept_any_certificate().build().unwrap();
        meet(el, &probe, &acceptor, "localhost").stood();
        let stranger = TlsConnector::builder().root_from_der(Authority::new("stranger").der()).build().unwrap();
        meet(el, &stranger, &acceptor, "localhost").refused();
        // By another name it is another server.
        let connector = connector();
        meet(el, &connector, &acceptor, "localhost").stood();
        meet(el, &connector, &acceptor, "other.example").refused();
    }

    /// TL-33: a server that is cut off is an error for a client that requires to hear of the end, and an end for others.
    fn a_client_may_require_to_hear_of_the_end(el) {
        for required in [false, true] {
            let (listener, address) = plain_listener();
            let peer = std::thread::spawn(move || {
                let connection = rustls::ServerConnection::new(rustls_server(localhost())).unwrap();
                cut_off(rustls::StreamOwned::new(connection, listener.accept().unwrap().0), |tls| &mut tls.sock)
            });
            let side = Side::default();
            let listening = Listener(side.clone());
            let connector = client().require_close_notify(required).build().unwrap();
            let connecting = el.create_connection(move || listening, address).tls(connector);
            let connected = complete(el, connecting.server_hostname("localhost")).unwrap();
            assert_ended(el, &side, required);
            drop(connected);
            run_until(el, || peer.is_finished());
            peer.join().unwrap();
        }
    }

    /// TL-33: the same of a server and its clients.
    fn a_server_may_require_to_hear_of_the_end(el) {
        for required in [false, true] {
            let side = Side::default();
            let factory = {
                let side = side.clone();
                move || Listener(side.clone())
            };
            let acceptor = server().require_close_notify(required).build().unwrap();
            let server = complete(el, el.create_server(factory, ("127.0.0.1", 0)).tls(acceptor)).unwrap();
            let address = server.local_addrs()[0];
            let peer = std::thread::spawn(move || {
                let connection = rustls::ClientConnection::new(rustls_client(), "localhost".try_into().unwrap()).unwrap();
                cut_off(rustls::StreamOwned::new(connection, TcpStream::connect(address).unwrap()), |tls| &mut tls.sock)
            });
            assert_ended(el, &side, required);
            run_until(el, || peer.is_finished());
            peer.join().unwrap();
            let shut = el.run_until_complete(async move { server.shutdown(Duration::from_secs(20)).await });
            assert!(shut.unwrap());
        }
    }

    /// TL-04: the files of a server, and the file of its authority, are all that is needed.
    fn files_are_all_that_is_needed(el) {
        let files = certificates::Files::new(authority(), localhost());
        let identity = TlsIdentity::from_pem_files(&files.cert, &files.key).unwrap();
        let acceptor = TlsAcceptor::builder().identity(identity).build().unwrap();
        let connector = TlsConnector::builder().roots_from_pem_file(&files.ca).build().unwrap();
        meet(el, &connector, &acceptor, "127.0.0.1").stood();
        let several = files.write("roots.pem", Authority::new("another").pem() + &authority().pem());
        let connector = TlsConnector::builder().roots_from_pem_file(several).build().unwrap();
        meet(el, &connector, &acceptor, "localhost").stood();
    }
}

/// TL-01: sessions are in the tickets, of which the server keeps nothing: they outlast any number of other clients'.
#[test]
fn sessions_are_in_the_tickets() {
    common::on_loop(|el| {
        let (acceptor, connector) = (acceptor(), connector());
        assert!(!meet(el, &connector, &acceptor, "localhost").stood().0.is_resumed);
        // A server that kept them would have room for 256, of which each client takes two.
        for _ in 0..140 {
            meet(el, &client().build().unwrap(), &acceptor, "localhost").stood();
        }
        assert!(meet(el, &connector, &acceptor, "localhost").stood().0.is_resumed);
    });
}

/// The tests below run in a process of their own, whose environment names a file: here, or in there.
fn in_process(test: &str, variable: &str) -> Option<PathBuf> {
    const FILE: &str = "ROUNDELAY_TEST_FILE";
    if let Some(path) = std::env::var_os(FILE) {
        return Some(path.into());
    }
    // What speaks with the process is open meanwhile.
    let _alone = common::alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(FILE, &path)
        .env_remove("SSL_CERT_DIR")
        .env(variable, &path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    None
}

/// TL-05: by default those are trusted whom the platform trusts; with roots of one's own those alone, or both.
#[test]
fn the_platforms_roots_are_replaced_by_others_or_joined() {
    const TEST: &str = "the_platforms_roots_are_replaced_by_others_or_joined";
    let Some(path) = in_process(TEST, "SSL_CERT_FILE") else { return };
    std::fs::write(path, authority().pem()).unwrap();
    common::on_loop(|el| {
        let of_platform = acceptor();
        let other = Authority::new("other");
        let of_other = server_of(&other.server(&["localhost"]));
        for trusting in [TlsConnector::default(), TlsConnector::new().unwrap()] {
            meet(el, &trusting, &of_platform, "localhost").stood();
            meet(el, &trusting, &of_other, "localhost").refused();
        }
        // All of them are one, as far as sessions go.
        assert!(meet(el, &TlsConnector::default(), &of_platform, "localhost").stood().0.is_resumed);
        let own = TlsConnector::builder().roots_from_pem(other.pem());
        let alone = own.clone().build().unwrap();
        meet(el, &alone, &of_platform, "localhost").refused();
        meet(el, &alone, &of_other, "localhost").stood();
        let both = own.platform_roots(true).build().unwrap();
        meet(el, &both, &of_platform, "localhost").stood();
        meet(el, &both, &of_other, "localhost").stood();
    });
}

/// The keys of connections are written where the environment says, if that is wanted.
#[test]
fn keys_are_logged_only_on_demand() {
    let Some(path) = in_process("keys_are_logged_only_on_demand", "SSLKEYLOGFILE") else { return };
    common::on_loop(|el| {
        let (connector, acceptor) = tls_pair();
        meet(el, &connector, &acceptor, "localhost").stood();
        assert!(!path.exists());
        let logging = client().key_log(true).build().unwrap();
        meet(el, &logging, &acceptor, "localhost").stood();
        let of_client = std::fs::read_to_string(&path).unwrap();
        assert!(of_client.contains("CLIENT_TRAFFIC_SECRET_0 "), "{of_client}");
        let logging = server().key_log(true).build().unwrap();
        meet(el, &connector, &logging, "localhost").stood();
        assert!(std::fs::read_to_string(&path).unwrap().len() > of_client.len());
    });
}

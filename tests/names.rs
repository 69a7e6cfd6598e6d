//! Names, services and addresses (behaviours DN, TC-04). What the resolver says is compared with what Python's `socket`
//! says on the same machine.

mod common;
#[path = "common/tcp.rs"]
mod tcp;

use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::process::Command;
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use roundelay::{
    AddrInfo, AddrInfoFlags, EventLoop, Family, GetAddrInfo, LoopClosed, NameInfoFlags, Port, ResolveError,
    ResolveErrorKind, SocketType, open_connection, start_server,
};

use common::{alone, on_loop, on_manual_clock, run_until, settle, take_reports};
use tcp::{Idle, close, complete, has_ipv6, idle, plain_listener, take_client};

/// Writes what Python's resolver says, in the words of `show`. Each argument is a question: host, port, family, type,
/// protocol and flags, with `-` for nothing.
const PYTHON: &str = r#"
import socket, sys

def none(text):
    return None if text == "-" else text

for question in sys.argv[1:]:
    host, port, family, kind, proto, flags = question.split("|")
    family = {"4": socket.AF_INET, "6": socket.AF_INET6}.get(family, 0)
    host, port = none(host), none(port)
    port = int(port[1:]) if port and port[0] == '#' else port
    try:
        found = socket.getaddrinfo(host and host.encode(), port, family, int(kind), int(proto), int(flags))
    except socket.gaierror as error:
        print(f"error {error.errno} {error.strerror}")
        continue
    for family, kind, proto, name, address in found:
        family = "4" if family == socket.AF_INET else "6"
        print(f"v{family} {int(kind)} {proto} {name or '-'} {address[0]} {address[1]} {address[3] if family == '6' else 0};", end=" ")
    print()
"#;

#[track_caller]
fn python(program: &str, arguments: &[String]) -> Vec<String> {
    // Its pipes are this process's descriptors, which another test may be counting.
    let _alone = alone();
    let output = Command::new("python3").arg("-c").arg(program).args(arguments).output().expect("there is a python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| line.trim_end().to_owned()).collect()
}

/// A question to both.
#[derive(Clone)]
struct Question {
    host: Option<String>,
    port: Port,
    family: Family,
    kind: SocketType,
    proto: i32,
    flags: AddrInfoFlags,
}

fn ask(host: Option<&str>, port: impl Into<Port>) -> Question {
    let (family, kind, flags) = (Family::Any, SocketType::Any, AddrInfoFlags::NONE);
    Question { host: host.map(str::to_owned), port: port.into(), family, kind, proto: 0, flags }
}

fn kind_number(kind: SocketType) -> i32 {
    match kind {
        SocketType::Any => 0,
        SocketType::Stream => 1,
        SocketType::Datagram => 2,
        SocketType::Raw => 3,
        SocketType::Other(number) => number,
        kind => panic!("{kind:?}"),
    }
}

impl Question {
    fn builder(&self, el: &EventLoop) -> GetAddrInfo {
        let builder = el.getaddrinfo(self.host.as_deref(), self.port.clone());
        builder.family(self.family).socket_type(self.kind).proto(self.proto).flags(self.flags)
    }

    fn argument(&self) -> String {
        let host = self.host.as_deref().unwrap_or("-");
        let port = match self.port.to_string().as_str() {
            "no port" => "-".to_owned(),
            port if port.parse::<u16>().is_ok() => format!("#{port}"),
            service => service.to_owned(),
        };
        let family = match self.family {
            Family::Any => "0",
            Family::V4 => "4",
            Family::V6 => "6",
        };
        format!("{host}|{port}|{family}|{}|{}|{}", kind_number(self.kind), self.proto, self.flags.bits())
    }
}

fn show(found: &io::Result<Vec<AddrInfo>>) -> String {
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            let error = resolve_error(error);
            return format!("error {} {}", error.code(), error.message());
        }
    };
    let entry = |info: &AddrInfo| {
        let scope = if let SocketAddr::V6(address) = info.address { address.scope_id() } else { 0 };
        let ip = info.address.ip();
        let family = if info.family == Family::V4 { "v4" } else { "v6" };
        assert_eq!(info.family == Family::V4, info.address.is_ipv4());
        let name = info.canonical_name.as_deref().unwrap_or("-");
        let (kind, port) = (kind_number(info.socket_type), info.address.port());
        format!("{family} {kind} {} {name} {ip} {port} {scope};", info.proto)
    };
    found.iter().map(entry).collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn resolve_error(error: &io::Error) -> &ResolveError {
    error.get_ref().expect("it carries an error").downcast_ref().expect("it is the resolver's")
}

/// All of these have to be the same as Python's.
#[track_caller]
fn compare(questions: &[Question]) {
    let arguments: Vec<String> = questions.iter().map(Question::argument).collect();
    let theirs = python(PYTHON, &arguments);
    assert_eq!(theirs.len(), questions.len());
    on_loop(|el| {
        for ((question, argument), theirs) in questions.iter().zip(&arguments).zip(&theirs) {
            let ours = complete(el, question.builder(el));
            assert_eq!(&show(&ours), theirs, "{argument}");
        }
        assert!(complete(el, el.shutdown_default_executor(None)));
    });
}

/// DN-01: hosts as names, as addresses, as none; ports as numbers, as text, as names, as none; every hint.
#[test]
fn answers_are_those_of_the_blocking_resolver() {
    let flags = [
        AddrInfoFlags::NONE,
        AddrInfoFlags::PASSIVE,
        AddrInfoFlags::CANONNAME,
        AddrInfoFlags::NUMERICHOST,
        AddrInfoFlags::NUMERICSERV,
        AddrInfoFlags::V4MAPPED,
        AddrInfoFlags::V4MAPPED | AddrInfoFlags::ALL,
        AddrInfoFlags::ADDRCONFIG,
        AddrInfoFlags::PASSIVE | AddrInfoFlags::NUMERICHOST | AddrInfoFlags::NUMERICSERV,
    ];
    let hosts = [None, Some("localhost"), Some("127.0.0.1"), Some("::1"), Some("127.1"), Some("fe80::1%lo"), Some("")];
    let ports = || [Port::from(80), "8080".into(), "http".into(), None.into(), 0.into(), "".into()];
    let mut questions = Vec::new();
    for host in hosts {
        for port in ports() {
            for flags in flags {
                questions.push(Question { flags, kind: SocketType::Stream, ..ask(host, port.clone()) });
            }
            for family in [Family::Any, Family::V4, Family::V6] {
                for kind in [SocketType::Any, SocketType::Datagram, SocketType::Raw] {
                    questions.push(Question { family, kind, ..ask(host, port.clone()) });
                }
            }
        }
        for proto in [6, 17, 132] {
            questions.push(Question { proto, ..ask(host, 80) });
        }
    }
    compare(&questions);
}

/// DN-01: `<broadcast>` is a name like others to the resolver, as in Python.
#[test]
fn broadcast_is_no_address() {
    compare(&[Question {
        kind: SocketType::Datagram,
        flags: AddrInfoFlags::NUMERICHOST,
        ..ask(Some("<broadcast>"), 9)
    }]);
}

/// DN-02: errors have the number and the text of the blocking resolver, and a kind of their own.
#[test]
fn errors_are_those_of_the_blocking_resolver() {
    let stream = |question| Question { kind: SocketType::Stream, ..question };
    let questions = [
        stream(ask(Some("localhost"), "no-such-service")),
        stream(ask(Some("localhost"), "-1")),
        Question { family: Family::V4, ..ask(Some("::1"), 80) },
        Question { family: Family::V6, ..ask(Some("127.0.0.1"), 80) },
        Question { kind: SocketType::Other(77), ..ask(Some("localhost"), 80) },
        Question { proto: 17, ..stream(ask(Some("127.0.0.1"), 80)) },
        Question { flags: AddrInfoFlags::from_bits(1 << 30), ..ask(Some("localhost"), 80) },
        Question { flags: AddrInfoFlags::NUMERICHOST, ..ask(Some("localhost"), 80) },
        Question { flags: AddrInfoFlags::NUMERICSERV, ..ask(Some("localhost"), "http") },
        ask(Some(&"a".repeat(64)), 80),
        ask(Some(&format!("{}.test", "a".repeat(64))), 80),
        ask(None, None),
    ];
    compare(&questions);
    on_loop(|el| {
        let kind = |question: &Question| {
            let error = complete(el, question.builder(el)).unwrap_err();
            (resolve_error(&error).kind(), error.kind())
        };
        use ResolveErrorKind::{UnknownName, UnknownService, Unsupported};
        assert_eq!(kind(&questions[0]), (UnknownService, io::ErrorKind::NotFound));
        assert_eq!(kind(&questions[2]), (UnknownName, io::ErrorKind::NotFound));
        assert_eq!(kind(&questions[4]), (Unsupported, io::ErrorKind::Unsupported));
        assert_eq!(kind(&questions[7]), (UnknownName, io::ErrorKind::NotFound));
        assert_eq!(kind(&questions[9]), (UnknownName, io::ErrorKind::NotFound));

        let error = complete(el, questions[0].builder(el)).unwrap_err();
        let text = "cannot resolve \"localhost\" with service \"no-such-service\": ";
        assert!(error.to_string().starts_with(text), "{error}");
        assert_eq!(resolve_error(&error).os_error(), None);
        let error = complete(el, questions[11].builder(el)).unwrap_err();
        assert!(error.to_string().starts_with("cannot resolve neither host nor port: "), "{error}");
        assert!(complete(el, el.shutdown_default_executor(None)));
    });
}

/// DN-02: what the C library would misread is refused before: a zero byte, and a port that does not fit.
#[test]
fn what_cannot_be_asked_is_refused() {
    on_loop(|el| {
        assert!(complete(el, el.shutdown_default_executor(None)));
        for (builder, text) in [
            (el.getaddrinfo("a\0b", 80), "cannot resolve \"a\\0b\": it contains a zero byte"),
            (el.getaddrinfo("a", "b\0"), "cannot resolve \"a\" with service \"b\\0\": it contains a zero byte"),
            (el.getaddrinfo("a", "65536"), "cannot resolve \"a\" with service \"65536\": port 65536 is above 65535"),
        ] {
            let error = complete(el, builder).unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::InvalidInput, text));
        }
    });
}

/// DN-03: names of addresses, of both families and with every flag, are those of the blocking call.
#[test]
fn names_of_addresses() {
    const PROGRAM: &str = r#"
import socket, sys

for question in sys.argv[1:]:
    ip, port, flow, scope, flags = question.split("|")
    address = (ip, int(port)) + ((int(flow), int(scope)) if ":" in ip else ())
    try:
        print(*socket.getnameinfo(address, int(flags)))
    except socket.gaierror as error:
        print(f"error {error.errno} {error.strerror}")
"#;
    let link_local = SocketAddrV6::new("fe80::1".parse().unwrap(), 443, 0xFFFFF, 1);
    let addresses: [SocketAddr; 6] = [
        (Ipv4Addr::LOCALHOST, 80).into(),
        (Ipv6Addr::LOCALHOST, 80).into(),
        (Ipv4Addr::LOCALHOST, 65535).into(),
        (Ipv4Addr::UNSPECIFIED, 0).into(),
        link_local.into(),
        (Ipv4Addr::LOCALHOST, 514).into(),
    ];
    let numeric = NameInfoFlags::NUMERICHOST | NameInfoFlags::NUMERICSERV;
    let mut questions: Vec<(SocketAddr, NameInfoFlags)> = Vec::new();
    for address in addresses {
        for flags in [numeric, NameInfoFlags::NUMERICHOST, NameInfoFlags::NUMERICHOST | NameInfoFlags::DGRAM] {
            questions.push((address, flags));
        }
        questions.push((address, numeric | NameInfoFlags::NAMEREQD));
    }
    // Those are in every machine's files: no name server is asked.
    for flags in [NameInfoFlags::NONE, NameInfoFlags::NUMERICSERV, NameInfoFlags::NOFQDN, NameInfoFlags::NAMEREQD] {
        questions.push((addresses[0], flags));
    }
    let arguments: Vec<String> = questions
        .iter()
        .map(|(address, flags)| {
            let (flow, scope) =
                if let SocketAddr::V6(six) = address { (six.flowinfo(), six.scope_id()) } else { (0, 0) };
            format!("{}|{}|{flow}|{scope}|{}", address.ip(), address.port(), flags.bits())
        })
        .collect();
    let theirs = python(PROGRAM, &arguments);
    on_loop(|el| {
        for ((address, flags), theirs) in questions.iter().zip(&theirs) {
            let ours = match complete(el, el.getnameinfo(*address, *flags)) {
                Ok((host, service)) => format!("{host} {service}"),
                Err(error) => format!("error {} {}", resolve_error(&error).code(), resolve_error(&error).message()),
            };
            assert_eq!(&ours, theirs, "{address} {flags:?}");
        }
        let (host, service) = complete(el, el.getnameinfo(([127, 0, 0, 1], 514), NameInfoFlags::NUMERICHOST)).unwrap();
        let (_, datagrams) =
            complete(el, el.getnameinfo(([127, 0, 0, 1], 514), NameInfoFlags::NUMERICHOST | NameInfoFlags::DGRAM))
                .unwrap();
        assert_eq!((host.as_str(), service != datagrams), ("127.0.0.1", true), "{service} {datagrams}");
        let error = complete(el, el.getnameinfo(addresses[0], numeric | NameInfoFlags::NAMEREQD)).unwrap_err();
        assert!(error.to_string().starts_with("cannot resolve 127.0.0.1:80: "), "{error}");
        assert!(complete(el, el.shutdown_default_executor(None)));
    });
}

/// Keeps all threads of the default executor busy until what it returns is dropped.
fn occupy_executor(el: &EventLoop) -> mpsc::Sender<()> {
    let (release, wait) = mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    // More jobs than the default executor ever has threads.
    for _ in 0..64 {
        let wait = wait.clone();
        drop(el.run_in_executor(None, move || {
            // Ends with an error, when the sender is dropped.
            let _ = wait.lock().unwrap_or_else(|poison| poison.into_inner()).recv();
        }));
    }
    release
}

/// What needs no lookup.
fn immediate(el: &EventLoop) -> Vec<GetAddrInfo> {
    let stream = |builder: GetAddrInfo| builder.socket_type(SocketType::Stream);
    let mut builders = vec![
        el.getaddrinfo("127.0.0.1", 80),
        el.getaddrinfo("127.0.0.1", "80"),
        el.getaddrinfo("127.0.0.1", None),
        el.getaddrinfo(None, 80),
        el.getaddrinfo(None, 80).flags(AddrInfoFlags::PASSIVE),
        el.getaddrinfo("::1", 80),
        el.getaddrinfo("fe80::1%1", 80),
        el.getaddrinfo("127.1", 80).flags(AddrInfoFlags::NUMERICHOST),
        el.getaddrinfo("127.0.0.1", 80).flags(AddrInfoFlags::CANONNAME),
        el.getaddrinfo("127.0.0.1", 80).family(Family::V6).flags(AddrInfoFlags::V4MAPPED),
    ];
    builders = builders.into_iter().map(stream).collect();
    builders
}

/// DN-01, DN-06: what needs no lookup is answered at the first poll: while all threads are busy, and after their end.
#[test]
fn literals_need_no_thread() {
    on_loop(|el| {
        let numeric = NameInfoFlags::NUMERICHOST | NameInfoFlags::NUMERICSERV;
        let check = |polls| {
            for builder in immediate(el) {
                let text = format!("{builder:?}");
                let found = complete(el, common::poll_times(builder.into_future(), polls));
                assert!(found.unwrap_or_else(|| panic!("{text} is looked up")).is_ok_and(|found| !found.is_empty()));
            }
            let names = complete(el, common::poll_times(el.getnameinfo(([1, 2, 3, 4], 5), numeric), polls));
            assert_eq!(names.unwrap().unwrap(), ("1.2.3.4".into(), "5".into()));
        };
        let release = occupy_executor(el);
        check(1);
        // That the trap works: these have to be looked up, and nobody does it.
        let lookups = [
            el.create_task(async { 0 }),
            el.create_task({
                let lookup = el.getaddrinfo("localhost", 80);
                async { lookup.await.unwrap().len() }
            }),
            el.create_task({
                let lookup = el.getaddrinfo("127.0.0.1", "http");
                async { lookup.await.unwrap().len() }
            }),
            el.create_task({
                let lookup = el.getnameinfo(([127, 0, 0, 1], 80), NameInfoFlags::NONE);
                async { lookup.await.unwrap().0.len() }
            }),
        ];
        settle(el);
        assert_eq!(lookups.each_ref().map(|lookup| lookup.is_done()), [true, false, false, false]);
        drop(release);
        run_until(el, || lookups.iter().all(|lookup| lookup.is_done()));
        assert!(complete(el, el.shutdown_default_executor(None)));
        check(1);

        let error = complete(el, el.getaddrinfo("localhost", 80)).unwrap_err();
        assert_eq!(error.to_string(), "event loop is closed");
        let reports = take_reports();
        let text = "EventLoop::run_in_executor(): the default executor was shut down";
        assert!(reports.len() == 1 && reports[0].starts_with(text), "{reports:?}");
    });
}

/// DN-05: ten lookups at once, and as many of names.
#[test]
fn ten_lookups_at_once() {
    on_loop(|el| {
        let lookups =
            (0..10).map(|_| el.getaddrinfo("localhost", "http").socket_type(SocketType::Stream).into_future());
        for found in complete(el, futures::future::join_all(lookups)) {
            assert!(found.unwrap().iter().all(|info| info.address.port() == 80));
        }
        let lookups = (0..10).map(|_| el.getnameinfo(([127, 0, 0, 1], 80), NameInfoFlags::NUMERICHOST));
        for found in complete(el, futures::future::join_all(lookups)) {
            assert_eq!(found.unwrap(), ("127.0.0.1".into(), "http".into()));
        }
        assert!(complete(el, el.shutdown_default_executor(None)));
    });
}

/// DN-06: the loop goes on during a lookup, and nothing is looked up before somebody awaits it.
#[test]
fn the_loop_goes_on_during_a_lookup() {
    on_loop(|el| {
        let release = occupy_executor(el);
        drop(el.getaddrinfo("localhost", 80).into_future());
        let lookup = el.create_task(el.getaddrinfo("localhost", 80));
        let called = Rc::new(Cell::new(false));
        let flag = called.clone();
        el.call_soon(move || flag.set(true));
        run_until(el, || called.get());
        assert!(!lookup.is_done());
        drop(release);
        assert!(!complete(el, lookup).unwrap().unwrap().is_empty());
        assert!(complete(el, el.shutdown_default_executor(None)));
    });
}

/// DN-04, DN-06: who gives a lookup up is back at once, and one that has not begun never does: once those that are busy are
/// done there is nothing to wait for.
#[test]
fn a_lookup_is_given_up() {
    on_manual_clock(|el, clock| {
        let release = occupy_executor(el);
        let lookups: Vec<_> = (0..100).map(|_| el.create_task(el.getaddrinfo("localhost", 80))).collect();
        settle(el);
        assert!(lookups.iter().all(|lookup| lookup.cancel()));
        settle(el);
        assert!(lookups.iter().all(|lookup| lookup.is_done()));
        // The jobs that keep the threads busy are waited for, and those only.
        let limit = Duration::from_secs(5);
        let handle = el.clone();
        let end = el.create_task(async move { handle.shutdown_default_executor(Some(limit)).await });
        settle(el);
        clock.advance(limit);
        assert!(!complete(el, end).unwrap());
        let text = "the default executor did not finish within 5s: 64 job(s) abandoned";
        let reports = take_reports();
        assert!(reports.len() == 1 && reports[0].starts_with(text), "{reports:?}");
        drop(release);
    });
}

/// DN-04: on a closed loop there is an error, and nothing is reported.
#[test]
fn a_closed_loop_looks_nothing_up() {
    on_loop(|el| {
        let closed = EventLoop::new().unwrap();
        closed.close();
        let is_closed = |error: io::Error| error.get_ref().is_some_and(|inner| inner.is::<LoopClosed>());
        assert!(is_closed(complete(el, closed.getaddrinfo("localhost", 80)).unwrap_err()));
        assert!(is_closed(complete(el, closed.getaddrinfo("127.0.0.1", 80)).unwrap_err()));
        let flags = NameInfoFlags::NONE;
        assert!(is_closed(complete(el, closed.getnameinfo(([127, 0, 0, 1], 80), flags)).unwrap_err()));
    });
}

on_every_loop! {
    /// TC-04: a port may be text: a number, which needs no resolver, or the name of a service, which does.
    fn ports_are_text(el) {
        let (listener, address) = plain_listener();
        let text = address.port().to_string();
        for builder in [
            el.create_connection(idle(), ("127.0.0.1", text.as_str())),
            el.create_connection(idle(), (&String::from("127.0.0.1"), &text)),
            el.create_connection(idle(), (String::from("127.0.0.1"), text.clone())),
            el.create_connection(idle(), ("localhost", text.as_str())).family(Family::V4),
        ] {
            let (transport, _) = complete(el, builder).unwrap();
            assert_eq!(transport.extra_info().peer_addr, Some(address));
            close(el, &transport);
            assert!(take_client(&listener).is_some());
        }
        let error = complete(el, el.create_connection(idle(), ("127.0.0.1", "no-such-service"))).unwrap_err();
        assert_eq!(resolve_error(&error).kind(), ResolveErrorKind::UnknownService);
        let error = complete(el, el.create_connection(idle(), ("127.0.0.1", "70000"))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);

        let server = complete(el, el.create_server(|| Idle, ("127.0.0.1", "0"))).unwrap();
        let address = server.local_addrs()[0];
        assert!(address.port() > 0);
        let streams = complete(el, async { open_connection(("127.0.0.1", address.port().to_string())).await }).unwrap();
        drop(streams);
        server.close();
        let server = complete(el, async { start_server(async |_, _| (), ("", "")).await }).unwrap();
        assert!(server.local_addrs().iter().all(|address| address.ip().is_unspecified() && address.port() > 0));
        server.close();
        assert!(complete(el, el.shutdown_default_executor(None)));
    }
}

/// TC-04: the name of a service is a port of an address, of a name and of all interfaces alike; who may not bind it, or finds
/// nobody there, is told of the number.
#[test]
fn services_have_numbers() {
    on_loop(|el| {
        for host in ["127.0.0.1", "localhost"] {
            let builder = el.create_connection(idle(), (host, "discard")).family(Family::V4);
            // Nobody discards here; if somebody should, that is another machine's test.
            let Err(error) = complete(el, builder) else { continue };
            assert_eq!(tcp::address_error(&error).address, "127.0.0.1:9".parse().unwrap());
        }
        // Of all interfaces: the port is that of a server that is there, so that binding fails and says so.
        for host in [None, Some("127.0.0.1")] {
            let builder = el.create_server(|| Idle, (host, "discard")).reuse_address(false);
            match complete(el, builder) {
                Ok(server) => {
                    assert!(server.local_addrs().iter().all(|address| address.port() == 9));
                    server.close();
                }
                Err(error) => assert_eq!(tcp::address_error(&error).address.port(), 9),
            }
        }
        // Of an address that is given nothing but the port is looked up: that it is of another family is said as always.
        let builder = el.create_connection(idle(), ("127.0.0.1", "discard")).family(Family::V6);
        let error = complete(el, builder).unwrap_err();
        assert_eq!(error.to_string(), "create_connection: 127.0.0.1:9 is not of the family asked for by family()");
        let error = complete(el, el.create_server(|| Idle, ("", "no-such-service"))).unwrap_err();
        assert!(error.to_string().starts_with("cannot resolve service \"no-such-service\": "), "{error}");
        assert!(complete(el, el.shutdown_default_executor(None)));
    });
}

/// TC-06: with a flag that asks for it, an address of IPv4 is used where IPv6 is asked for.
#[test]
fn mapped_addresses_are_used_if_asked_for() {
    if !has_ipv6() {
        return;
    }
    on_loop(|el| {
        let (_listener, address) = plain_listener();
        let builder = el.create_connection(idle(), ("127.0.0.1", address.port())).family(Family::V6);
        let (transport, _) = complete(el, builder.flags(AddrInfoFlags::V4MAPPED)).unwrap();
        let mapped = SocketAddr::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), address.port());
        assert_eq!(transport.extra_info().peer_addr, Some(mapped));
        close(el, &transport);
    });
}

/// TC-04, TC-17: another protocol of streams than TCP, where the system has it: `proto` goes to the sockets and the resolver.
#[test]
#[cfg(target_os = "linux")]
fn another_protocol_than_tcp() {
    const MPTCP: i32 = libc::IPPROTO_MPTCP;
    on_loop(|el| {
        let error = complete(el, el.create_connection(idle(), ("localhost", 1)).proto(17)).unwrap_err();
        assert_eq!(resolve_error(&error).kind(), ResolveErrorKind::Unsupported);
        assert!(complete(el, el.shutdown_default_executor(None)));
        let builder = el.create_server(|| Idle, ("127.0.0.1", 0)).proto(MPTCP);
        let server = match complete(el, builder) {
            Ok(server) => server,
            Err(error) => return eprintln!("SKIPPED: this machine has no MPTCP: {error}"),
        };
        let builder = el.create_connection(idle(), server.local_addrs()[0]).proto(MPTCP);
        let (transport, _) = complete(el, builder).unwrap();
        let view = transport.extra_info().socket.unwrap();
        view.with(|socket| {
            assert_eq!(socket.protocol().unwrap(), Some(MPTCP.into()));
            assert!(socket.tcp_nodelay().unwrap());
        });
        close(el, &transport);
        server.close();
        server.abort_clients();
        complete(el, server.wait_closed());
    });
}

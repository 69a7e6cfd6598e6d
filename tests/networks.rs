//! Names, and addresses that do not answer, in networks that the tests make: where the machine allows it.

mod common;
#[path = "common/namespace.rs"]
mod namespace;
#[path = "common/tcp.rs"]
mod tcp;

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use roundelay::{EventLoop, Family, ResolveError, ResolveErrorKind, SocketType, open_connection};

use common::{finish, on_loop, on_manual_clock, open_descriptors, run_until, settle, take_reports};
use namespace::{NameServer, USE_NAME_SERVER, in_a_network};
use tcp::{close, complete, idle, take_client};

const DELAY: Duration = Duration::from_millis(250);

/// Addresses in the loop that belong to nobody: what is sent there is never heard of again. And others to which there is no
/// way, or none that may be taken.
const DEAD_ENDS: [&str; 4] = [
    "ip addr add 10.99.1.1/32 dev lo",
    "ip route add 10.99.2.0/24 dev lo",
    "ip route add unreachable 10.99.3.0/24",
    "ip route add prohibit 10.99.4.0/24",
];

fn resolver_error(error: &io::Error) -> ResolveError {
    error.get_ref().unwrap().downcast_ref::<ResolveError>().unwrap().clone()
}

/// Waits until so many lookups have got as far as the name server.
fn wait_for(el: &EventLoop, server: &NameServer, count: usize) {
    run_until(el, || server.waiting() >= count);
}

/// HE-05, HE-06: addresses that swallow everything, and such as cannot be reached, before one that answers: each of the first
/// costs the delay, the others nothing.
#[test]
fn dead_ends_are_passed_by() {
    in_a_network("dead_ends_are_passed_by", &DEAD_ENDS, || {
        on_manual_clock(|el, clock| {
            let listener = TcpListener::bind("10.99.1.1:0").unwrap();
            let alive = listener.local_addr().unwrap();
            let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), alive.port());
            let targets = [at("10.99.2.1"), at("10.99.3.1"), at("10.99.2.2"), at("10.99.4.1"), alive];
            let before = open_descriptors();
            let task = el.create_task(el.create_connection(idle(), &targets[..]).happy_eyeballs_delay(DELAY));
            for under_way in 1..=2 {
                settle(el);
                assert_eq!(open_descriptors(), before + under_way);
                assert!(take_client(&listener).is_none());
                clock.advance(DELAY);
            }
            let (transport, _) = finish(el, task).unwrap().unwrap();
            assert_eq!(transport.extra_info().peer_addr, Some(alive));
            assert_eq!(open_descriptors(), before + 1);
            close(el, &transport);

            // HE-08: given up, nothing is left.
            let task = el.create_task(el.create_connection(idle(), &targets[..4]).happy_eyeballs_delay(DELAY));
            settle(el);
            clock.advance(DELAY);
            settle(el);
            assert_eq!(open_descriptors(), before + 2);
            assert!(task.cancel());
            settle(el);
            assert_eq!(open_descriptors(), before);
        });
    });
}

/// HE-01, HE-05, DN-01: a name and a service of which most addresses are dead, from the name server to the connection.
#[test]
fn a_name_with_dead_addresses() {
    let commands = [&DEAD_ENDS[..], &[USE_NAME_SERVER]].concat();
    in_a_network("a_name_with_dead_addresses", &commands, || {
        NameServer::start(&[("web.test", &["10.99.2.1", "10.99.3.1", "fd00:99::1", "10.99.1.1"])]);
        on_loop(|el| {
            let _listener = TcpListener::bind("10.99.1.1:80").unwrap();
            let mut found = complete(el, el.getaddrinfo("web.test", "http").socket_type(SocketType::Stream)).unwrap();
            found.sort_by_key(|info| info.address);
            let found: Vec<String> = found.iter().map(|info| info.address.to_string()).collect();
            assert_eq!(found, ["10.99.1.1:80", "10.99.2.1:80", "10.99.3.1:80", "[fd00:99::1]:80"]);

            let delay = Duration::from_millis(1);
            let (reader, mut writer) =
                complete(el, async { open_connection(("web.test", "http")).happy_eyeballs_delay(delay).await })
                    .unwrap();
            assert_eq!(writer.extra_info().peer_addr, Some("10.99.1.1:80".parse().unwrap()));
            writer.close();
            complete(el, async { writer.wait_closed().await }).unwrap();
            drop(reader);

            let sixes = complete(el, el.getaddrinfo("web.test", 80).family(Family::V6)).unwrap();
            assert!(sixes.iter().all(|info| info.address.is_ipv6()) && !sixes.is_empty());
            assert!(complete(el, el.shutdown_default_executor(None)));
        });
    });
}

/// DN-02: a name that nobody knows, a name server that fails, and one that is not there.
#[test]
fn names_that_cannot_be_looked_up() {
    in_a_network("names_that_cannot_be_looked_up", &[USE_NAME_SERVER], || {
        let failure = |el: &EventLoop, name: &str| {
            let error = complete(el, el.getaddrinfo(name, 80)).unwrap_err();
            assert!(error.to_string().starts_with(&format!("cannot resolve {name:?}: ")), "{error}");
            let connecting = el.create_connection(idle(), (name, 80));
            assert_eq!(resolver_error(&complete(el, connecting).unwrap_err()), resolver_error(&error));
            let python = format!(
                "import socket\ntry: socket.getaddrinfo({name:?}, 80)\nexcept OSError as error: print(error.errno)"
            );
            let output = std::process::Command::new("python3").args(["-c", &python]).output().unwrap();
            let theirs = String::from_utf8(output.stdout).unwrap();
            assert_eq!(resolver_error(&error).code().to_string(), theirs.trim());
            (resolver_error(&error).kind(), error.kind())
        };
        on_loop(|el| {
            assert_eq!(failure(el, "known.test"), (ResolveErrorKind::Temporary, io::ErrorKind::Other));
            assert!(complete(el, el.shutdown_default_executor(None)));
        });
        NameServer::start(&[("known.test", &["10.99.1.1"]), ("empty.test", &[])]);
        on_loop(|el| {
            assert_eq!(complete(el, el.getaddrinfo("known.test", 80)).unwrap().len(), 3);
            assert_eq!(failure(el, "unknown.test"), (ResolveErrorKind::UnknownName, io::ErrorKind::NotFound));
            assert_eq!(failure(el, "empty.test"), (ResolveErrorKind::UnknownName, io::ErrorKind::NotFound));
            assert_eq!(failure(el, "broken.test"), (ResolveErrorKind::Temporary, io::ErrorKind::Other));
            let error = complete(el, el.getnameinfo(([10, 99, 1, 1], 80), roundelay::NameInfoFlags::NAMEREQD));
            assert_eq!(resolver_error(&error.unwrap_err()).kind(), ResolveErrorKind::UnknownName);
            assert!(complete(el, el.shutdown_default_executor(None)));
        });
    });
}

/// DN-04, DN-06: a name server that does not answer holds nobody up: neither the loop, nor who gives up, nor the end.
#[test]
fn a_silent_name_server_holds_nobody_up() {
    in_a_network("a_silent_name_server_holds_nobody_up", &[USE_NAME_SERVER], || {
        let server = NameServer::start(&[("known.test", &["10.99.1.1"])]);
        // What the C library has read stays open for good.
        on_loop(|el| assert!(complete(el, el.getaddrinfo("known.test", 80)).is_ok()));
        on_manual_clock(|el, clock| {
            let lookup = el.create_task(el.getaddrinfo("silent.test", 80).family(Family::V4));
            let timed = el.getaddrinfo("silent.test", 80).family(Family::V4);
            let timed = el.create_task(roundelay::timeout(DELAY, timed));
            wait_for(el, &server, 2);
            clock.advance(DELAY);
            assert!(finish(el, timed).unwrap().is_err());
            assert!(!lookup.is_done());
            // Another lookup passes the silent ones.
            assert!(complete(el, el.getaddrinfo("known.test", 80)).is_ok());
            assert!(lookup.cancel());
            assert!(finish(el, lookup).unwrap_err().is_cancelled());
            // Nobody has answered, and yet nothing is waited for, nor abandoned.
            let handle = el.clone();
            let end = el.create_task(async move { handle.shutdown_default_executor(Some(DELAY)).await });
            settle(el);
            assert!(end.is_done() && server.waiting() == 2);
            assert!(finish(el, end).unwrap());
            assert!(take_reports().is_empty());
            server.release();
        });

        // Where every thread waits, an address is still answered at once; and who has not begun never asks.
        on_loop(|el| {
            let threads = 32.min(std::thread::available_parallelism().unwrap().get() + 4);
            let lookups: Vec<_> = (0..threads + 4)
                .map(|_| el.create_task(el.getaddrinfo("silent.test", 80).family(Family::V4)))
                .collect();
            wait_for(el, &server, threads);
            assert!(complete(el, common::poll_times(el.getaddrinfo("10.99.1.1", 80).into_future(), 1)).is_some());
            assert!(lookups.iter().all(|lookup| lookup.cancel()));
            settle(el);
            assert_eq!(server.waiting(), threads);
            server.release();
            // Jobs come in their order: behind the lookups this is the first that anybody wants.
            complete(el, el.run_in_executor(None, || ())).unwrap();
            assert!(complete(el, el.shutdown_default_executor(None)));
            assert_eq!(server.waiting(), 0);
        });

        // One that somebody still wants is waited for, and reported.
        on_manual_clock(|el, clock| {
            let lookup = el.create_task(el.getaddrinfo("silent.test", 80).family(Family::V4));
            wait_for(el, &server, 1);
            let handle = el.clone();
            let end = el.create_task(async move { handle.shutdown_default_executor(Some(DELAY)).await });
            settle(el);
            assert!(!end.is_done());
            clock.advance(DELAY);
            assert!(!finish(el, end).unwrap());
            assert_eq!(take_reports().len(), 1);
            assert!(!lookup.is_done());
            server.release();
            let error = finish(el, lookup).unwrap().unwrap_err();
            assert_eq!(resolver_error(&error).kind(), ResolveErrorKind::UnknownName);
        });

        // The loop may be closed before the answer comes.
        on_loop(|el| {
            let lookup = el.create_task(el.getaddrinfo("silent.test", 80).family(Family::V4));
            wait_for(el, &server, 1);
            el.close();
            assert!(lookup.is_done());
            server.release();
        });
    });
}

/// DN-06: the end of `block_on` does not wait for a lookup that its future has left behind.
#[test]
fn the_end_of_a_program_waits_for_no_lookup() {
    in_a_network("the_end_of_a_program_waits_for_no_lookup", &[USE_NAME_SERVER], || {
        let server = NameServer::start(&[]);
        let reports = Rc::new(RefCell::new(Vec::new()));
        let heard = reports.clone();
        // Whatever it waited for would be abandoned at once, and that reported.
        let mut runner = roundelay::Runner::builder().shutdown_bound(Duration::ZERO).build();
        let run = runner.run(async {
            let el = roundelay::get_running_loop().unwrap();
            el.set_exception_handler(Some(Rc::new(move |_, context| heard.borrow_mut().push(context.to_string()))));
            // A task that is left to itself, and one that is given up.
            drop(roundelay::spawn(el.getaddrinfo("silent.test", 80).family(Family::V4).into_future()));
            drop(roundelay::spawn(async move { open_connection(("silent.test", "http")).await.map(drop) }));
            while server.waiting() < 2 {
                roundelay::yield_now().await;
            }
        });
        run.unwrap();
        drop(runner);
        assert!(reports.borrow().is_empty(), "{reports:?}");
        assert!(server.waiting() >= 2);
        server.release();
    });
}

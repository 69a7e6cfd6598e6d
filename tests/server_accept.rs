//! How servers accept: how many, with which limits, and what they do about errors (behaviours SV).

mod common;
#[path = "common/faults.rs"]
mod faults;
#[path = "common/tcp.rs"]
mod tcp;

use std::fs::File;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use roundelay::{EventLoop, ManualClock, Server, TcpListener};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use common::{Kind, alone, on_manual_clock, on_strict_loop, run_alone, run_on, run_until, settle, take_reports};
use faults::with_faults;
use tcp::{Connections, Echo, Idle, LOOPBACK, Recorder, calm, complete, plain_listener, receive, receive_all};

const SECOND: Duration = Duration::from_secs(1);
const KINDS: [Kind; 3] = [Kind::Epoll, Kind::Polling, Kind::Level];

#[track_caller]
fn serve(el: &EventLoop) -> (Server, SocketAddr) {
    let server = complete(el, el.create_server(|| Echo, LOOPBACK)).unwrap();
    let address = server.local_addrs()[0];
    (server, address)
}

#[track_caller]
fn end(el: &EventLoop, server: &Server) {
    server.close();
    server.abort_clients();
    complete(el, server.wait_closed());
}

/// Runs a test on each selector, on a clock that is turned by hand.
fn on_each_selector(body: impl Fn(&EventLoop, &ManualClock)) {
    for kind in KINDS {
        let clock = ManualClock::new();
        run_on(|| kind.builder().clock(clock.clone()), |el| body(el, &clock));
    }
}

/// The loop has nothing to do, turn after turn.
#[track_caller]
fn assert_idle(el: &EventLoop) {
    // A hang-up that nobody wants to hear of is said once.
    settle(el);
    for _ in 0..20 {
        assert_eq!(el.run_once(Some(Duration::ZERO)).unwrap(), 0, "the loop does not rest");
    }
}

/// Takes all descriptors there are, until it is dropped.
struct Shortage {
    limit: Rlimit,
    taken: Vec<File>,
}

impl Shortage {
    fn new() -> Self {
        let numbers = std::fs::read_dir("/proc/self/fd").unwrap();
        let highest = numbers.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).max();
        let limit = getrlimit(Resource::Nofile);
        let few = Rlimit { current: Some(highest.unwrap_or(0_u64) + 1), maximum: limit.maximum };
        setrlimit(Resource::Nofile, few).unwrap();
        let mut this = Self { limit, taken: Vec::new() };
        loop {
            match File::open("/dev/null") {
                Ok(file) => this.taken.push(file),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                    return this;
                }
            }
        }
    }
}

impl Drop for Shortage {
    fn drop(&mut self) {
        self.taken.clear();
        let before = Rlimit { current: self.limit.current, maximum: self.limit.maximum };
        setrlimit(Resource::Nofile, before).unwrap();
    }
}

/// SV-19: at most `backlog` connections are accepted in one event; the others have their turn after everybody else.
#[test]
fn as_many_as_the_backlog_at_a_time() {
    on_strict_loop(|el| {
        let (listener, address) = plain_listener();
        let _clients: Vec<_> = (0..5).map(|_| TcpStream::connect(address).unwrap()).collect();
        let server = complete(el, el.create_server(|| Idle, listener).backlog(2).start_serving(false)).unwrap();
        complete(el, server.start_serving()).unwrap();
        let mut seen = vec![server.connections()];
        for _ in 0..4 {
            el.run_once(Some(Duration::ZERO)).unwrap();
            seen.push(server.connections());
        }
        assert!(
            seen.ends_with(&[2, 4, 5]) || seen.ends_with(&[2, 4, 5, 5]) || seen.ends_with(&[4, 5, 5, 5]),
            "{seen:?}"
        );
        assert!(seen.windows(2).all(|two| two[1] - two[0] <= 2), "{seen:?}");
        end(el, &server);
    });
}

/// SV-19: a backlog of zero still accepts.
#[test]
fn a_backlog_of_zero_still_accepts() {
    on_strict_loop(|el| {
        let server = complete(el, el.create_server(|| Idle, LOOPBACK).backlog(0)).unwrap();
        let _client = TcpStream::connect(server.local_addrs()[0]).unwrap();
        run_until(el, || server.connections() == 1);
        end(el, &server);
    });
}

/// SV-20, P27, gh-151615 of asyncio: without descriptors the server says so once, rests for a second of the loop's
/// clock, and accepts then who has been waiting.
#[test]
fn a_shortage_of_descriptors_is_a_pause() {
    on_each_selector(|el, clock| {
        let (server, address) = serve(el);
        let mut clients = [TcpStream::connect(address).unwrap(), TcpStream::connect(address).unwrap()];
        let shortage = Shortage::new();
        settle(el);
        let reports = take_reports();
        assert_eq!(reports.len(), 1, "{reports:?}");
        assert!(reports[0].starts_with("socket.accept() out of system resource: "), "{reports:?}");
        assert!(reports[0].contains("<socket fd="), "{reports:?}");
        assert!(server.is_serving() && server.connections() == 0);

        clock.advance(SECOND - Duration::from_millis(1));
        assert_idle(el);
        assert!(take_reports().is_empty());

        // It tries again, once.
        clock.advance(Duration::from_millis(1));
        settle(el);
        assert_eq!(take_reports().len(), 1);
        assert_idle(el);

        drop(shortage);
        assert_idle(el);
        assert_eq!(server.connections(), 0);
        clock.advance(SECOND);
        run_until(el, || server.connections() == 2);
        for client in &mut clients {
            client.write_all(b"echo").unwrap();
            assert_eq!(receive(el, client, 4), b"echo");
        }
        assert!(take_reports().is_empty());
        end(el, &server);
    });
}

/// SV-24: a server that is closed during the pause stays closed, and leaves no timer; so does the loop.
#[test]
fn closed_during_the_pause() {
    on_each_selector(|el, clock| {
        let (server, address) = serve(el);
        let _client = TcpStream::connect(address).unwrap();
        let shortage = Shortage::new();
        settle(el);
        assert_eq!(take_reports().len(), 1);
        assert_eq!(el.stats().timers.live(), 1);
        server.close();
        assert_eq!(el.stats().timers.live(), 0);
        drop(shortage);
        // Somebody else has the descriptor's number now.
        let (_listener, _) = plain_listener();
        clock.advance(SECOND);
        assert_idle(el);
        assert_eq!(server.connections(), 0);
        complete(el, server.wait_closed());

        let (_server, address) = serve(el);
        let _client = TcpStream::connect(address).unwrap();
        let shortage = Shortage::new();
        settle(el);
        assert_eq!(take_reports().len(), 1);
        drop(shortage);
        el.close();
        clock.advance(SECOND);
    });
}

/// SV-20: a plain listener gives the error to whoever accepts, and has lost nothing when there is room again.
#[test]
fn a_plain_listener_gives_the_shortage_away() {
    on_each_selector(|el, _| {
        complete(el, async {
            let listener = TcpListener::bind(LOOPBACK).await.unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let shortage = Shortage::new();
            for _ in 0..3 {
                let error = listener.accept().await.unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
            }
            drop(shortage);
            let (stream, peer) = listener.accept().await.unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
            assert_eq!(stream.peer_addr().unwrap(), peer);
        });
    });
}

/// TC-08, SV-05: a client and a server that find no descriptor say so, leave nothing behind, and succeed later.
#[test]
fn a_shortage_of_descriptors_is_an_error_of_whoever_connects() {
    on_each_selector(|el, _| {
        let (_listener, address) = plain_listener();
        let shortage = Shortage::new();
        let code = |error: &io::Error| {
            let inner: &roundelay::AddressError = error.get_ref().unwrap().downcast_ref().unwrap();
            inner.error.raw_os_error()
        };
        let error = complete(el, el.create_connection(|| Idle, address)).unwrap_err();
        assert_eq!(code(&error), Some(libc::EMFILE));
        let error = complete(el, el.create_server(|| Idle, LOOPBACK)).unwrap_err();
        assert_eq!(code(&error), Some(libc::EMFILE));
        drop(shortage);
        let (transport, _) = complete(el, el.create_connection(|| Idle, address)).unwrap();
        tcp::close(el, &transport);
    });
}

/// SV-20: an error that will not go away, such as that of a listening socket which somebody has shut down, is told once
/// for each pause, and nobody spins.
#[test]
fn an_unknown_error_is_a_pause() {
    on_each_selector(|el, clock| {
        let (server, _) = serve(el);
        server.sockets()[0].with(|socket| socket.shutdown(Shutdown::Both).unwrap()).unwrap();
        settle(el);
        for _ in 0..2 {
            let reports = take_reports();
            assert_eq!(reports.len(), 1, "{reports:?}");
            assert!(reports[0].starts_with("socket.accept() failed: "), "{reports:?}");
            assert_idle(el);
            clock.advance(SECOND);
            settle(el);
        }
        assert_eq!(take_reports().len(), 1);
        // It can be made to listen again.
        let again = |socket: socket2::SockRef<'_>| {
            socket.listen(10).unwrap();
            socket.local_addr().unwrap().as_socket().unwrap()
        };
        let address = server.sockets()[0].with(again).unwrap();
        let _client = TcpStream::connect(address).unwrap();
        clock.advance(SECOND);
        run_until(el, || server.connections() == 1);
        end(el, &server);
    });
}

/// What `accept` is made to say before it works.
#[track_caller]
fn accept_with(errors: &[i32], body: impl Fn(&EventLoop, &ManualClock, &AtomicUsize) + Sync) {
    let _alone = alone();
    let place = AtomicUsize::new(usize::MAX);
    let fault = |_: &[u64; 6]| {
        let at = place.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |at| at.checked_add(1)).ok()?;
        errors.get(at).copied()
    };
    let ran = with_faults(libc::SYS_accept4, fault, || {
        for kind in KINDS {
            let clock = ManualClock::new();
            run_alone(|| kind.builder().clock(clock.clone()), |el| body(el, &clock, &place));
        }
    });
    assert!(!ran || place.load(Ordering::SeqCst) >= errors.len());
}

/// SV-21, SV-22, gh-127529 of asyncio: a connection that was given up, and a wake-up without cause, are
/// skipped without a word, and who comes behind them is accepted in the same turn or the next.
#[test]
fn a_lost_connection_is_skipped() {
    let errors = [libc::ECONNABORTED, libc::EINTR, libc::EPROTO, libc::ENETDOWN, libc::ECONNABORTED];
    accept_with(&errors, |el, _, faults| {
        let (server, address) = serve(el);
        let _clients = [TcpStream::connect(address).unwrap(), TcpStream::connect(address).unwrap()];
        faults.store(0, Ordering::SeqCst);
        // All in one event: it is not given up at the first error.
        el.run_once(None).unwrap();
        assert_eq!(server.connections(), 2);
        end(el, &server);
    });
    accept_with(&[libc::EAGAIN], |el, _, faults| {
        let (server, address) = serve(el);
        let _client = TcpStream::connect(address).unwrap();
        faults.store(0, Ordering::SeqCst);
        run_until(el, || server.connections() == 1);
        end(el, &server);
    });
    accept_with(&[libc::ECONNABORTED, libc::EINTR, libc::ECONNABORTED], |el, _, faults| {
        complete(el, async {
            let listener = TcpListener::bind(LOOPBACK).await.unwrap();
            let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            faults.store(0, Ordering::SeqCst);
            listener.accept().await.unwrap();
        });
    });
}

/// SV-20: whatever the system is short of: one report, one second, and the client is accepted.
#[test]
fn every_shortage_is_a_pause() {
    for error in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
        accept_with(&[error], |el, clock, faults| {
            let (server, address) = serve(el);
            let _client = TcpStream::connect(address).unwrap();
            faults.store(0, Ordering::SeqCst);
            settle(el);
            let reports = take_reports();
            assert_eq!(reports.len(), 1, "{reports:?}");
            assert!(reports[0].starts_with("socket.accept() out of system resource: "), "{reports:?}");
            assert_idle(el);
            clock.advance(SECOND);
            run_until(el, || server.connections() == 1);
            end(el, &server);
        });
    }
}

/// SV-06: a family that the kernel does not have is left out without a word.
#[test]
fn a_family_that_the_kernel_lacks_is_left_out() {
    let _alone = alone();
    let no_ipv6 = |arguments: &[u64; 6]| (arguments[0] == libc::AF_INET6 as u64).then_some(libc::EAFNOSUPPORT);
    let _ran = with_faults(libc::SYS_socket, no_ipv6, || {
        run_alone(EventLoop::builder, |el| {
            let server = complete(el, el.create_server(|| Idle, ("", 0))).unwrap();
            assert_eq!(server.local_addrs().len(), 1);
            assert!(server.local_addrs()[0].is_ipv4());
            server.close();
            let error = complete(el, el.create_server(|| Idle, ("::1", 0))).unwrap_err();
            assert!(error.to_string().contains("could not bind on any address"), "{error}");
            // A client is told so.
            let error = complete(el, el.create_connection(|| Idle, ("::1", 1))).unwrap_err();
            let inner: &roundelay::AddressError = error.get_ref().unwrap().downcast_ref().unwrap();
            assert_eq!(inner.error.raw_os_error(), Some(libc::EAFNOSUPPORT));
        });
    });
}

on_every_loop! {
    /// SV-30: at the limit of connections the others wait in the kernel, the loop rests, and each one that goes makes
    /// room for one.
    fn no_more_than_the_limit(el) {
        let connections = Connections::new();
        let builder = el.create_server(connections.factory(), (["127.0.0.1", "127.0.0.2"], 0)).max_connections(2);
        let server = complete(el, builder).unwrap();
        // The limit is that of both addresses together.
        let addresses = server.local_addrs();
        let mut clients: Vec<_> = (0..5).map(|i| TcpStream::connect(addresses[i % 2]).unwrap()).collect();
        run_until(el, || server.connections() == 2);
        assert_idle(el);
        assert_eq!((server.connections(), connections.len()), (2, 2));
        for done in 3..=5 {
            // By the other side and by this one.
            let oldest = connections.get(done - 3);
            if done % 2 == 0 {
                clients.retain(|client| client.local_addr().ok() != oldest.extra_info().peer_addr);
            } else {
                oldest.close();
            }
            run_until(el, || connections.len() == done);
            assert_idle(el);
            assert_eq!(server.connections(), 2);
            assert_eq!(connections.len(), done);
        }
        drop(clients);
        run_until(el, || server.connections() == 0);
        let _late = TcpStream::connect(addresses[0]).unwrap();
        run_until(el, || server.connections() == 1);
        end(el, &server);
    }

    /// SV-30: a server at its limit can be closed, and started late.
    fn a_full_server_can_be_closed(el) {
        let connections = Connections::new();
        let server = complete(el, el.create_server(connections.factory(), LOOPBACK).max_connections(1)).unwrap();
        let address = server.local_addrs()[0];
        let mut clients = [TcpStream::connect(address).unwrap(), TcpStream::connect(address).unwrap()];
        run_until(el, || server.connections() == 1);
        calm(el);
        server.close();
        clients[0].write_all(b"x").unwrap();
        assert_eq!(receive(el, &mut clients[0], 1), b"x");
        drop(clients);
        complete(el, server.wait_closed());
        assert_eq!(connections.len(), 1);
    }

    /// SV-19: a burst of many connections is accepted whole, and forgotten whole.
    fn a_burst(el) {
        let (server, address) = serve(el);
        for _ in 0..2 {
            let clients: Vec<_> = (0..60).map(|_| TcpStream::connect(address).unwrap()).collect();
            run_until(el, || server.connections() == 60);
            drop(clients);
            run_until(el, || server.connections() == 0);
        }
        assert_eq!(el.stats().transports.opened, 120);
        end(el, &server);
    }
}

/// SV-01: a connection on which nothing goes in either direction is ended after `idle_timeout`; whatever goes sets the
/// time back.
#[test]
fn a_silent_connection_is_ended() {
    on_manual_clock(|el, clock| {
        let recorder = Recorder::new();
        let connections = Connections::new();
        let (given, made) = (recorder.clone(), connections.clone());
        struct Both(Recorder, tcp::Connection);
        impl roundelay::Protocol for Both {
            fn connection_made(&mut self, transport: &roundelay::Transport) {
                self.1.connection_made(transport);
            }
            fn data_received(&mut self, transport: &roundelay::Transport, data: &[u8]) {
                self.0.data_received(transport, data);
            }
            fn connection_lost(&mut self, _: &roundelay::Transport, error: Option<io::Error>) {
                self.0.0.push(error.map_or("lost".to_string(), |error| format!("{:?} {error}", error.kind())));
            }
        }
        let factory = move || Both(given.clone(), made.protocol());
        let builder = el.create_server(factory, LOOPBACK).idle_timeout(Duration::from_secs(10));
        let server = complete(el, builder).unwrap();
        let mut client = TcpStream::connect(server.local_addrs()[0]).unwrap();
        run_until(el, || server.connections() == 1);
        let wait = |seconds| {
            clock.advance(Duration::from_secs(seconds));
            calm(el);
        };
        wait(6);
        client.write_all(b"a").unwrap();
        run_until(el, || recorder.0.len() == 1);
        wait(9);
        assert_eq!(recorder.take(), ["data a"]);
        connections.get(0).write(b"b");
        wait(9);
        assert!(recorder.take().is_empty());
        wait(1);
        assert_eq!(recorder.take(), ["TimedOut nothing was received or sent for 10s"]);
        assert_eq!(server.connections(), 0);
        // What was sent has arrived; whether an end or a reset follows is the system's affair.
        assert_eq!(receive(el, &mut client, 1), b"b");

        // One that ends by itself leaves no timer.
        let client = TcpStream::connect(server.local_addrs()[0]).unwrap();
        run_until(el, || server.connections() == 1);
        assert_eq!(el.stats().timers.live(), 1);
        drop(client);
        run_until(el, || server.connections() == 0);
        assert_eq!(el.stats().timers.live(), 0);
        assert_eq!(recorder.take(), ["lost"]);
        end(el, &server);
    });
}

/// SV-01: a peer that does not read cannot hold a closing connection for longer than `idle_timeout`.
#[test]
fn a_peer_that_does_not_read_is_silent() {
    on_manual_clock(|el, clock| {
        let connections = Connections::new();
        let builder = el.create_server(connections.factory(), LOOPBACK).idle_timeout(Duration::from_secs(10));
        let server = complete(el, builder).unwrap();
        let mut client = TcpStream::connect(server.local_addrs()[0]).unwrap();
        run_until(el, || connections.len() == 1);
        let transport = connections.get(0);
        while transport.write_buffer_size() == 0 {
            transport.write(&[0; 1 << 20]);
            settle(el);
        }
        transport.close();
        clock.advance(Duration::from_secs(10) - Duration::from_nanos(2));
        calm(el);
        assert_eq!(server.connections(), 1);
        clock.advance(Duration::from_nanos(2));
        run_until(el, || server.connections() == 0);
        drop(receive_all(el, &mut client));
        end(el, &server);
    });
}

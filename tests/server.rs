//! Servers: how they begin, how they end, and what becomes of their connections (behaviours SV).

mod common;
#[path = "common/tcp.rs"]
mod tcp;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{self, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use roundelay::{ContextVar, EventLoop, InvalidState, KeepOpen, LoopClosed, Protocol, Server, Transport};

use common::{CountingWaker, Log, on_loop, on_manual_clock, run_until, settle, take_reports};
use tcp::{
    Connections, Echo, Idle, LOOPBACK, Recorder, calm, closed_port, complete, connect, end, has_ipv6, idle,
    plain_listener, receive, receive_all, reset, serve,
};

#[track_caller]
fn assert_refused(address: SocketAddr) {
    let error = TcpStream::connect(address).expect_err("nobody listens");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

fn is_invalid_state(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<InvalidState>())
}

/// Makes a few turns, also where there is nothing to do.
fn turns(el: &EventLoop, n: usize) {
    for _ in 0..n {
        el.run_once(Some(Duration::ZERO)).unwrap();
    }
}

/// Fills a connection until nothing goes any more: something stays queued on its side.
#[track_caller]
fn stuff(el: &EventLoop, transport: &Transport) {
    let piece = vec![7; 1 << 20];
    for _ in 0..64 {
        transport.write(&piece);
        settle(el);
        if transport.write_buffer_size() > 0 {
            return;
        }
    }
    panic!("the kernel takes everything");
}

on_every_loop! {
    /// SV-01: a server listens on its sockets, and its connections know both their addresses.
    fn a_server_listens(el) {
        let (server, connections, address) = serve(el);
        assert_eq!(server.local_addrs(), [address]);
        let sockets = server.sockets();
        assert_eq!(sockets.len(), 1);
        let local = sockets[0].with(|socket| socket.local_addr().unwrap().as_socket()).unwrap();
        assert_eq!(local, Some(address));
        assert!(server.is_serving());
        let (mut client, transport) = connect(el, &connections, address);
        let info = transport.extra_info();
        assert_eq!(info.local_addr, Some(address));
        assert_eq!(info.peer_addr, Some(client.local_addr().unwrap()));
        assert_eq!(server.connections(), 1);
        client.write_all(b"echo").unwrap();
        assert_eq!(receive(el, &mut client, 4), b"echo");
        drop(client);
        run_until(el, || server.connections() == 0);
        assert_eq!(transport.extra_info().local_addr, Some(address));
        end(el, &server);
    }

    /// SV-01, TC-22: a connection to a server on all interfaces has the address that it came in by, also after its end.
    fn a_wildcard_listener_has_connections_with_addresses(el) {
        let connections = Connections::new();
        let server = complete(el, el.create_server(connections.factory(), ("", 0))).unwrap();
        let port = server.local_addrs()[0].port();
        let (asked, client) = {
            let address = SocketAddr::from(([127, 0, 0, 9], port));
            let (client, transport) = connect(el, &connections, address);
            assert_eq!(transport.extra_info().local_addr, Some(address));
            (address, client)
        };
        // This one is asked for its address only when it is gone.
        let late = SocketAddr::from(([127, 0, 0, 8], port));
        let (gone, transport) = connect(el, &connections, late);
        let peer = gone.local_addr().unwrap();
        drop((client, gone));
        run_until(el, || server.connections() == 0);
        let info = transport.extra_info();
        assert_eq!((info.local_addr, info.peer_addr), (Some(late), Some(peer)));
        assert_eq!(connections.get(0).extra_info().local_addr, Some(asked));
        if has_ipv6() {
            let address = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
            let (_client, transport) = connect(el, &connections, address);
            assert_eq!(transport.extra_info().local_addr, Some(address));
            end(el, &server);
        }
        end(el, &server);
    }

    /// SV-10: without serving it is bound and does not listen, until it is told to; twice is as good as once.
    fn serving_may_begin_later(el) {
        let connections = Connections::new();
        let builder = el.create_server(connections.factory(), LOOPBACK).start_serving(false);
        let server = complete(el, builder).unwrap();
        let address = server.local_addrs()[0];
        assert!(!server.is_serving());
        assert_refused(address);
        for _ in 0..2 {
            complete(el, server.start_serving()).unwrap();
            assert!(server.is_serving());
        }
        let _client = connect(el, &connections, address);
        server.close();
        assert!(!server.is_serving());
        let error = complete(el, server.start_serving()).unwrap_err();
        assert!(is_invalid_state(&error), "{error}");
        assert_eq!(error.to_string(), "Server::start_serving(): the server is closed");
        end(el, &server);
    }

    /// SV-13: closing takes effect at once, twice is as good as once, and connections stay.
    fn closing_leaves_the_connections(el) {
        let (server, connections, address) = serve(el);
        let sockets = server.sockets();
        let (mut client, transport) = connect(el, &connections, address);
        for _ in 0..2 {
            server.close();
            assert!(!server.is_serving());
            assert!(server.sockets().is_empty() && server.local_addrs().is_empty());
            assert_eq!(sockets[0].raw_fd(), None);
            assert_refused(address);
        }
        client.write_all(b"still here").unwrap();
        assert_eq!(receive(el, &mut client, 10), b"still here");
        assert!(!transport.is_closing());
        assert_eq!(server.connections(), 1);
        drop(client);
        complete(el, server.wait_closed());
    }

    /// SV-14, gh-79033 of asyncio: `wait_closed` waits for both the server's close and its last
    /// connection's end, in either order; all who wait are told, and who comes late as well.
    fn all_is_waited_for(el) {
        for close_first in [true, false] {
            let (server, connections, address) = serve(el);
            let (client, _) = connect(el, &connections, address);
            let waiters: Vec<_> = (0..3)
                .map(|_| {
                    let server = server.clone();
                    el.create_task(async move { server.wait_closed().await })
                })
                .collect();
            calm(el);
            assert!(waiters.iter().all(|waiter| !waiter.is_done()));
            if close_first {
                server.close();
                calm(el);
                assert!(waiters.iter().all(|waiter| !waiter.is_done()));
                drop(client);
            } else {
                drop(client);
                run_until(el, || server.connections() == 0);
                calm(el);
                assert!(waiters.iter().all(|waiter| !waiter.is_done()));
                server.close();
            }
            run_until(el, || waiters.iter().all(|waiter| waiter.is_done()));
            let polled = Box::pin(server.wait_closed()).as_mut().poll(&mut noop_context());
            assert!(polled.is_ready());
        }
    }

    /// SV-14: whoever gives up waiting is forgotten; nothing of it is kept for as long as the server lives.
    fn who_gives_up_waiting_is_forgotten(el) {
        let (server, connections, address) = serve(el);
        let (_client, transport) = connect(el, &connections, address);
        let (counter, waker) = CountingWaker::new();
        let mut cx = Context::from_waker(&waker);
        for _ in 0..3 {
            assert!(pin!(server.wait_closed()).poll(&mut cx).is_pending());
        }
        stuff(el, &transport);
        complete(el, async {
            assert!(pin!(server.shutdown(Duration::from_secs(3600))).poll(&mut cx).is_pending());
        });
        drop(waker);
        assert_eq!(Arc::strong_count(&counter), 1);
        end(el, &server);
        assert_eq!(counter.count(), 0);
    }

    /// SV-15: the server and its last connection may end in one turn, in any order.
    fn both_ends_in_one_turn(el) {
        for order in 0..3 {
            let (server, connections, address) = serve(el);
            let (_client, transport) = connect(el, &connections, address);
            let waiter = el.create_task({
                let server = server.clone();
                async move { server.wait_closed().await }
            });
            settle(el);
            let closer = server.clone();
            match order {
                0 => drop(el.call_soon(move || { closer.close(); transport.abort(); })),
                1 => drop(el.call_soon(move || { transport.abort(); closer.close(); })),
                _ => {
                    el.call_soon(move || transport.close());
                    el.call_soon(move || closer.close());
                }
            }
            run_until(el, || waiter.is_done());
        }
    }

    /// SV-16: with nothing queued, all is over two turns after `close_clients`.
    fn closing_clients_is_quick(el) {
        let (server, connections, address) = serve(el);
        let clients: Vec<_> = (0..3).map(|_| connect(el, &connections, address)).collect();
        let waiter = el.create_task({
            let server = server.clone();
            async move { server.wait_closed().await }
        });
        settle(el);
        server.close();
        server.close_clients();
        assert!(clients.iter().all(|(_, transport)| transport.is_closing()));
        turns(el, 2);
        assert!(waiter.is_done());
        assert_eq!(server.connections(), 0);
    }

    /// SV-16: what is queued for a client is sent before it is closed.
    fn closing_clients_sends_what_is_queued(el) {
        let (server, connections, address) = serve(el);
        let (mut client, transport) = connect(el, &connections, address);
        stuff(el, &transport);
        transport.write(b"the end");
        server.close();
        server.close_clients();
        let received = receive_all(el, &mut client);
        assert!(received.ends_with(b"the end"));
        complete(el, server.wait_closed());
    }

    /// SV-17: `abort_clients` is not held up by peers that do not read.
    fn aborting_clients_waits_for_nobody(el) {
        let (server, connections, address) = serve(el);
        let (_client, transport) = connect(el, &connections, address);
        stuff(el, &transport);
        server.close();
        server.close_clients();
        calm(el);
        assert_eq!(server.connections(), 1);
        server.abort_clients();
        turns(el, 2);
        assert_eq!(server.connections(), 0);
        assert_eq!(transport.write_buffer_size(), 0);
        complete(el, server.wait_closed());
    }

    /// SV-11: `serve_forever` begins to serve; its end closes the server, and so does dropping it.
    fn serving_forever(el) {
        for cancel in [false, true] {
            let connections = Connections::new();
            let builder = el.create_server(connections.factory(), LOOPBACK).start_serving(false);
            let server = complete(el, builder).unwrap();
            let address = server.local_addrs()[0];
            let forever = el.create_task(server.serve_forever());
            settle(el);
            assert!(server.is_serving());
            let _client = connect(el, &connections, address);
            assert!(!forever.is_done());
            if cancel {
                forever.cancel();
            } else {
                server.close();
            }
            let result = complete(el, forever);
            if cancel {
                assert!(result.unwrap_err().is_cancelled());
            } else {
                result.unwrap().unwrap();
            }
            assert!(!server.is_serving());
            assert_refused(address);
            end(el, &server);
        }
    }

    /// SV-11: a second `serve_forever` is an error and leaves the first one alone, and so is one on a closed server.
    fn serving_forever_twice(el) {
        let (server, _, address) = serve(el);
        // One that is never awaited closes nothing.
        drop(server.serve_forever());
        assert!(server.is_serving());
        let first = el.create_task(server.serve_forever());
        settle(el);
        let error = complete(el, server.serve_forever()).unwrap_err();
        assert!(is_invalid_state(&error), "{error}");
        assert!(error.to_string().contains("being awaited already"), "{error}");
        settle(el);
        assert!(server.is_serving() && !first.is_done());
        drop(TcpStream::connect(address).unwrap());
        run_until(el, || server.connections() == 1);
        run_until(el, || server.connections() == 0);
        server.close();
        complete(el, first).unwrap().unwrap();
        let error = complete(el, server.serve_forever()).unwrap_err();
        assert!(is_invalid_state(&error), "{error}");
        assert_eq!(error.to_string(), "Server::serve_forever(): the server is closed");
    }

    /// SV-25: a server whose handles are all dropped goes on; the loop's close ends it without a word.
    fn a_dropped_handle_leaves_it_serving(el) {
        let connections = Connections::new();
        let server = complete(el, el.create_server(connections.factory(), LOOPBACK)).unwrap();
        let address = server.local_addrs()[0];
        drop(server);
        settle(el);
        let (mut client, _) = connect(el, &connections, address);
        client.write_all(b"x").unwrap();
        assert_eq!(receive(el, &mut client, 1), b"x");
        el.close();
        assert_refused(address);
    }

    /// SV-25: a server that was never started and that nobody can start any more is gone.
    fn a_dropped_server_that_never_served_is_gone(el) {
        let server = complete(el, el.create_server(|| Idle, LOOPBACK).start_serving(false)).unwrap();
        let copy = server.clone();
        drop(server);
        assert_eq!(el.stats().servers.live(), 1);
        drop(copy);
        assert_eq!(el.stats().servers.live(), 0);
    }

    /// SV-18: the guard of `close_on_drop` closes the server; it can be used as the server meanwhile.
    fn a_guard_closes_it(el) {
        let (server, connections, address) = serve(el);
        {
            let guard = server.close_on_drop();
            assert!(guard.is_serving());
            drop(connect(el, &connections, address));
        }
        assert!(!server.is_serving());
        assert_refused(address);
        complete(el, server.wait_closed());
    }

    /// SV-18: `shutdown` sends what is queued, and says that nothing was cut off.
    fn an_orderly_shutdown(el) {
        let (server, connections, address) = serve(el);
        let (mut client, transport) = connect(el, &connections, address);
        let _idle = connect(el, &connections, address);
        transport.write(b"goodbye");
        let shutdown = el.create_task({
            let server = server.clone();
            async move { server.shutdown(Duration::from_secs(3600)).await }
        });
        assert_eq!(receive_all(el, &mut client), b"goodbye");
        assert!(complete(el, shutdown).unwrap());
        assert!(!server.is_serving());
        // A second one has nothing to do.
        assert!(complete(el, server.shutdown(Duration::ZERO)));
    }

    /// SV-18: `shutdown` with no grace at all ends even so, and what had nothing queued counts as in time.
    fn a_shutdown_without_grace(el) {
        let (server, connections, address) = serve(el);
        let (client, _) = connect(el, &connections, address);
        assert!(complete(el, server.shutdown(Duration::ZERO)));
        drop(client);

        let (server, connections, address) = serve(el);
        let (_client, transport) = connect(el, &connections, address);
        stuff(el, &transport);
        assert!(!complete(el, server.shutdown(Duration::ZERO)));
        assert_eq!(server.connections(), 0);
    }

    /// SV-26: a server knows its loop.
    fn a_server_knows_its_loop(el) {
        let (server, ..) = serve(el);
        assert_eq!(server.get_loop().id(), el.id());
        server.close();
        assert_eq!(server.get_loop().id(), el.id());
        // The handle owns nothing.
        drop(server.get_loop());
        assert!(!el.is_closed());
    }

    /// SV-27, SV-31: a given socket of each kind is used as it is, whether it listens already or not.
    fn a_socket_may_be_given(el) {
        for kind in 0..4 {
            let connections = Connections::new();
            let (fd, endpoint) = match kind {
                0 => {
                    let (listener, _) = plain_listener();
                    (listener.as_raw_fd(), roundelay::ServerEndpoint::from(listener))
                }
                1 => {
                    let (listener, _) = plain_listener();
                    (listener.as_raw_fd(), OwnedFd::from(listener).into())
                }
                2 => {
                    let (socket, _) = closed_port();
                    (socket.as_raw_fd(), socket.into())
                }
                _ => {
                    let (socket, _) = closed_port();
                    socket.set_nonblocking(true).unwrap();
                    (socket.as_raw_fd(), OwnedFd::from(socket).into())
                }
            };
            let server = complete(el, el.create_server(connections.factory(), endpoint).keep_alive(true)).unwrap();
            assert_eq!(server.sockets()[0].raw_fd(), Some(fd));
            let of_socket = |f: &dyn Fn(socket2::SockRef<'_>) -> bool| server.sockets()[0].with(f).unwrap();
            assert!(of_socket(&|socket| socket.nonblocking().unwrap()));
            assert!(of_socket(&|socket| socket.keepalive().unwrap()));
            let (_client, transport) = connect(el, &connections, server.local_addrs()[0]);
            assert_eq!(transport.extra_info().local_addr, Some(server.local_addrs()[0]));
            end(el, &server);
        }
    }

    /// SV-28: a factory that panics costs one connection; the server goes on.
    fn a_factory_that_panics_costs_one_connection(el) {
        let count = Rc::new(Cell::new(0));
        let counted = count.clone();
        let factory = move || {
            counted.set(counted.get() + 1);
            assert!(counted.get() != 1, "not today");
            Echo
        };
        let server = complete(el, el.create_server(factory, LOOPBACK)).unwrap();
        let address = server.local_addrs()[0];
        let mut first = TcpStream::connect(address).unwrap();
        assert_eq!(receive_all(el, &mut first), b"");
        let reports = take_reports();
        assert_eq!(reports.len(), 1, "{reports:?}");
        assert!(reports[0].starts_with("Error on transport creation for incoming connection: not today"), "{reports:?}");
        assert_eq!(server.connections(), 0);
        let mut second = TcpStream::connect(address).unwrap();
        second.write_all(b"hello").unwrap();
        assert_eq!(receive(el, &mut second, 5), b"hello");
        end(el, &server);
    }

    /// SV-14, gh-109564 of asyncio: a server that is closed while a connection comes in, by the factory or by
    /// `connection_made`: the connection goes on and is waited for, and the next one is not accepted.
    fn closed_while_a_connection_comes_in(el) {
        struct Closes { server: Rc<RefCell<Option<Server>>>, when_made: bool, recorder: Recorder }
        impl Protocol for Closes {
            fn connection_made(&mut self, transport: &Transport) {
                if self.when_made {
                    self.server.borrow().as_ref().unwrap().close();
                }
                self.recorder.connection_made(transport);
            }
            fn data_received(&mut self, transport: &Transport, data: &[u8]) {
                transport.write(data);
            }
            fn eof_received(&mut self, transport: &Transport) -> KeepOpen {
                self.recorder.eof_received(transport)
            }
            fn connection_lost(&mut self, transport: &Transport, error: Option<io::Error>) {
                self.recorder.connection_lost(transport, error);
            }
        }
        for when_made in [false, true] {
            let (place, recorder) = (Rc::new(RefCell::new(None::<Server>)), Recorder::new());
            let (given, log) = (place.clone(), recorder.clone());
            let factory = move || {
                if !when_made {
                    given.borrow().as_ref().unwrap().close();
                }
                Closes { server: given.clone(), when_made, recorder: log.clone() }
            };
            let server = complete(el, el.create_server(factory, LOOPBACK)).unwrap();
            *place.borrow_mut() = Some(server.clone());
            let address = server.local_addrs()[0];
            let mut clients = [TcpStream::connect(address).unwrap(), TcpStream::connect(address).unwrap()];
            run_until(el, || recorder.0.len() == 1);
            assert!(!server.is_serving());
            assert_eq!(server.connections(), 1);
            let waiter = el.create_task({
                let server = server.clone();
                async move { server.wait_closed().await }
            });
            clients[0].write_all(b"hi").unwrap();
            assert_eq!(receive(el, &mut clients[0], 2), b"hi");
            assert!(!waiter.is_done());
            drop(clients);
            run_until(el, || waiter.is_done());
            assert_eq!(recorder.take(), ["made", "eof", "lost"]);
            place.take();
        }
    }

    /// SV-13: a close by a client's callback, in the turn in which others are waiting, accepts none of them.
    fn closed_by_a_connection(el) {
        let (server, connections, address) = serve(el);
        let (mut client, transport) = connect(el, &connections, address);
        struct CloseServer(Server);
        impl Protocol for CloseServer {
            fn data_received(&mut self, _: &Transport, _: &[u8]) {
                self.0.close();
                self.0.close_clients();
            }
        }
        transport.set_protocol(CloseServer(server.clone()));
        client.write_all(b"stop").unwrap();
        assert_eq!(receive_all(el, &mut client), b"");
        complete(el, server.wait_closed());
        assert_eq!(connections.len(), 1);
    }

    /// SV-14: a connection that ends with an error counts as gone, too.
    fn a_reset_connection_is_gone(el) {
        let (server, connections, address) = serve(el);
        let (client, _) = connect(el, &connections, address);
        reset(client);
        server.close();
        complete(el, server.wait_closed());
    }

    /// RW-02: the loop may close under a server and its connections, also where the server was at its limit.
    fn the_loop_closes_under_a_server(el) {
        // The listener's place in the loop's tables comes after those of its connections.
        let (_plain, elsewhere) = plain_listener();
        let streams = complete(el, async {
            [roundelay::TcpStream::connect(elsewhere).await.unwrap(),
             roundelay::TcpStream::connect(elsewhere).await.unwrap()]
        });
        let connections = Connections::new();
        let server = complete(el, el.create_server(connections.factory(), LOOPBACK).max_connections(2)).unwrap();
        drop(streams);
        let address = server.local_addrs()[0];
        let _clients = [connect(el, &connections, address), connect(el, &connections, address)];
        let _waits = TcpStream::connect(address).unwrap();
        calm(el);
        assert_eq!(server.connections(), 2);
        el.close();
        assert!(!server.is_serving());
        assert_eq!(server.connections(), 0);
        assert!(server.local_addrs().is_empty());
        // All of it is inert.
        server.close();
        server.close_clients();
        server.abort_clients();
        assert!(server.get_loop().is_closed());
    }
}

fn noop_context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// SV-18: what does not end within the grace is aborted, and `shutdown` says so.
#[test]
fn a_shutdown_whose_grace_is_over() {
    on_manual_clock(|el, clock| {
        let (server, connections, address) = serve(el);
        let (_client, transport) = connect(el, &connections, address);
        let (other, _) = connect(el, &connections, address);
        stuff(el, &transport);
        let shutdown = el.create_task({
            let server = server.clone();
            async move { server.shutdown(Duration::from_secs(10)).await }
        });
        calm(el);
        drop(other);
        assert_eq!(server.connections(), 1);
        clock.advance(Duration::from_secs(9));
        calm(el);
        assert!(!shutdown.is_done() && server.connections() == 1);
        clock.advance(Duration::from_secs(1));
        assert!(!complete(el, shutdown).unwrap());
        assert_eq!(server.connections(), 0);
    });
}

/// SV-10: a socket that cannot listen after all closes the server, and nothing else.
#[test]
fn a_server_that_cannot_begin_is_closed() {
    on_loop(|el| {
        let first = complete(el, el.create_server(idle(), LOOPBACK).start_serving(false)).unwrap();
        let address = first.local_addrs()[0];
        // Both may bind, as long as neither listens.
        let second = complete(el, el.create_server(idle(), address).start_serving(false)).unwrap();
        complete(el, first.start_serving()).unwrap();
        let error = complete(el, second.start_serving()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(!second.is_serving() && second.sockets().is_empty());
        assert!(first.is_serving());
        complete(el, second.wait_closed());
        first.close();
    });
}

/// SV-01: the factory and the callbacks of a server's protocols run in the context in which it was made, each
/// connection in a copy of its own.
#[test]
fn callbacks_run_in_the_servers_context() {
    static NAME: ContextVar<String> = ContextVar::with_default("name", || "nobody".to_string());
    struct Notes(Log);
    impl Protocol for Notes {
        fn connection_made(&mut self, _: &Transport) {
            self.0.push(format!("made {}", NAME.get().unwrap()));
            NAME.set("changed".to_string());
        }
        fn connection_lost(&mut self, _: &Transport, _: Option<io::Error>) {
            self.0.push(format!("lost {}", NAME.get().unwrap()));
        }
    }
    on_loop(|el| {
        let log = Log::new();
        let given = log.clone();
        let server = complete(el, async {
            NAME.set("maker".to_string());
            let factory = move || {
                given.push(format!("factory {}", NAME.get().unwrap()));
                Notes(given.clone())
            };
            el.create_server(factory, LOOPBACK).await.unwrap()
        });
        for _ in 0..2 {
            drop(TcpStream::connect(server.local_addrs()[0]).unwrap());
            run_until(el, || log.len() == 3);
            assert_eq!(log.take(), ["factory maker", "made maker", "lost changed"]);
        }
        server.close();
    });
}

/// SV-10: a server that was bound cannot begin on a loop that is closed; it is closed then itself.
#[test]
fn a_closed_loop_serves_nobody() {
    on_loop(|el| {
        let server = complete(el, el.create_server(idle(), LOOPBACK).start_serving(false)).unwrap();
        let address = server.local_addrs()[0];
        el.close();
        let Poll::Ready(Err(error)) = Box::pin(server.start_serving()).as_mut().poll(&mut noop_context()) else {
            panic!("it serves");
        };
        assert!(error.get_ref().is_some_and(|inner| inner.is::<LoopClosed>()), "{error}");
        assert!(!server.is_serving() && server.sockets().is_empty());
        assert_refused(address);
    });
}

/// SV-13: a server shows where it listens, and that it is closed.
#[test]
fn a_server_shows_its_state() {
    on_loop(|el| {
        let (server, _, address) = serve(el);
        let text = format!("{server:?}");
        assert!(text.contains(&address.to_string()) && text.contains("connections=0"), "{text}");
        assert!(format!("{:?}", server.serve_forever()).contains("Server"));
        server.close();
        assert!(format!("{server:?}").contains("Closed"));
    });
}

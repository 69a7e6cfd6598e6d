//! Servers whose end comes from elsewhere: from the loop's, from their factory's, from a shutdown that is given up
//! (behaviours SV).

mod common;
#[path = "common/tcp.rs"]
mod tcp;

use std::cell::RefCell;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use roundelay::{ContextVar, EventLoop, LoopClosed, Protocol, Runner, Server, Transport, spawn, start_server};

use common::{DropCounter, alone, on_loop, open_descriptors, run_until, settle, take_reports};
use tcp::{LOOPBACK, complete, connect, end, idle, receive, receive_all, serve};

/// A server that has its port and does not listen yet.
#[track_caller]
fn bound(el: &EventLoop) -> (Server, SocketAddr) {
    let server = complete(el, el.create_server(idle(), LOOPBACK).start_serving(false)).unwrap();
    let address = server.local_addrs()[0];
    (server, address)
}

/// Whether a socket can be bound and listen there.
fn is_free(address: SocketAddr) -> bool {
    std::net::TcpListener::bind(address).is_ok()
}

on_every_loop! {
    /// SV-10: closing the loop closes a server that has not begun to serve, whoever still holds it; one that has begun
    /// meanwhile, and one that was closed, are not closed twice.
    fn a_bound_server_ends_with_the_loop(el) {
        let (server, address) = bound(el);
        let (started, started_at) = bound(el);
        let (closed, _) = bound(el);
        complete(el, started.start_serving()).unwrap();
        closed.close();
        let view = server.sockets().remove(0);
        assert!(view.raw_fd().is_some());
        el.close();
        assert_eq!(el.stats().servers.live(), 0);
        for server in [&server, &started, &closed] {
            assert!(server.sockets().is_empty() && server.local_addrs().is_empty() && !server.is_serving());
        }
        assert_eq!(view.raw_fd(), None);
        assert!(is_free(address) && is_free(started_at));
    }

    /// SV-10: a server of streams likewise.
    fn a_bound_server_of_streams_ends_with_the_loop(el) {
        let server = complete(el, async {
            let handler = |_, _| async {};
            start_server(handler, LOOPBACK).start_serving(false).await.unwrap()
        });
        let address = server.local_addrs()[0];
        el.close();
        assert!(server.sockets().is_empty() && is_free(address));
    }
}

/// SV-10: the orderly end closes it when it closes those that serve, so that no task that is cancelled then can begin.
#[test]
fn a_bound_server_ends_in_the_orderly_end() {
    /// Tries to serve when it is dropped.
    struct Begins(Server, Rc<RefCell<Vec<String>>>);
    impl Drop for Begins {
        fn drop(&mut self) {
            let begun = futures::FutureExt::now_or_never(self.0.start_serving()).expect("it waits for nothing");
            self.1.borrow_mut().push(begun.unwrap_err().to_string());
        }
    }
    let _alone = alone();
    let descriptors = open_descriptors();
    let errors = Rc::new(RefCell::new(Vec::new()));
    let mut runner = Runner::new();
    let log = errors.clone();
    let server = runner.run(async move {
        let el = roundelay::get_running_loop().unwrap();
        let server = el.create_server(idle(), LOOPBACK).start_serving(false).await.unwrap();
        let begins = Begins(server.clone(), log);
        drop(spawn(async move {
            let _begins = begins;
            std::future::pending::<()>().await
        }));
        roundelay::yield_now().await;
        server
    });
    let server = server.unwrap();
    let address = server.local_addrs()[0];
    runner.close();
    assert_eq!(*errors.borrow(), ["Server::start_serving(): the server is closed"]);
    assert!(is_free(address));
    assert_eq!(open_descriptors(), descriptors);
}

/// SV-10: on a closed loop nobody can begin to serve, neither who was bound nor who was closed.
#[test]
fn nobody_begins_on_a_closed_loop() {
    on_loop(|el| {
        let (bound_one, _) = bound(el);
        let (closed_one, _) = bound(el);
        closed_one.close();
        el.close();
        for server in [bound_one, closed_one] {
            let begun = futures::FutureExt::now_or_never(server.start_serving()).expect("it waits for nothing");
            let error = begun.unwrap_err();
            assert!(error.get_ref().is_some_and(|inner| inner.is::<LoopClosed>()), "{error}");
        }
    });
}

/// Panics when it is dropped.
struct Bomb(&'static str);

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("{}", self.0);
    }
}

/// Sends back what it gets, and is counted when it is dropped.
struct Counted(#[allow(dead_code)] common::DropGuard);

impl Protocol for Counted {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        transport.write(data);
    }
}

/// A server whose factory's destructor panics, and how many of its protocols are gone.
#[track_caller]
fn serve_with_bomb(el: &EventLoop, text: &'static str) -> (Server, Rc<DropCounter>) {
    let drops = Rc::new(DropCounter::new());
    let (bomb, counter) = (Bomb(text), drops.clone());
    let factory = move || {
        let _ = &bomb;
        Counted(counter.guard())
    };
    (complete(el, el.create_server(factory, LOOPBACK)).unwrap(), drops)
}

#[track_caller]
fn assert_reported(text: &str) {
    let reports = take_reports();
    assert_eq!(reports, [format!("Exception in a destructor: {text}")]);
}

on_every_loop! {
    /// CL-10: where the end of the last connection is the end of its server, a factory whose destructor panics hurts
    /// nobody: it is reported, the protocol of the connection is let go of, and other connections go on.
    fn a_factory_that_panics_as_the_last_connection_ends(el) {
        let (other, others, address) = serve(el);
        let (mut neighbour, _transport) = connect(el, &others, address);
        let (server, drops) = serve_with_bomb(el, "factory");
        let mut client = TcpStream::connect(server.local_addrs()[0]).unwrap();
        client.write_all(b"x").unwrap();
        assert_eq!(receive(el, &mut client, 1), b"x");
        server.close();
        drop(server);
        settle(el);
        assert_eq!(el.stats().transports.live(), 2);
        drop(client);
        run_until(el, || el.stats().transports.live() == 1);
        assert_reported("factory");
        assert_eq!(drops.count(), 1);
        neighbour.write_all(b"y").unwrap();
        assert_eq!(receive(el, &mut neighbour, 1), b"y");
        end(el, &other);
    }

    /// CL-10: likewise where the loop's own end is the end of the server.
    fn a_factory_that_panics_as_the_loop_ends(el) {
        let (server, drops) = serve_with_bomb(el, "with the loop");
        let _client = TcpStream::connect(server.local_addrs()[0]).unwrap();
        run_until(el, || server.connections() == 1);
        drop(server);
        el.close();
        assert_reported("with the loop");
        assert_eq!(drops.count(), 1);
    }
}

/// A handle that the application drops is the last one: the panic is reported all the same, and does not unwind into the
/// application. Of a factory and of a value in the server's context both are reported.
#[test]
fn a_factory_that_panics_with_its_last_handle() {
    static VAR: ContextVar<Rc<Bomb>> = ContextVar::new("bomb");
    on_loop(|el| {
        let (server, _) = serve_with_bomb(el, "by hand");
        server.close();
        drop(server);
        assert_reported("by hand");

        let server = complete(el, async {
            let bomb = Bomb("bound");
            let factory = move || {
                let _ = &bomb;
                tcp::Idle
            };
            drop(VAR.set(Rc::new(Bomb("context"))));
            roundelay::get_running_loop().unwrap().create_server(factory, LOOPBACK).start_serving(false).await.unwrap()
        });
        assert!(take_reports().is_empty());
        drop(server);
        let texts = ["bound", "context"].map(|text| format!("Exception in a destructor: {text}"));
        assert_eq!(take_reports(), texts);
    });
}

/// Writes until something stays queued.
#[track_caller]
fn queue_up(el: &EventLoop, transport: &Transport) {
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

/// SV-14: a shutdown that is given up half-way leaves the server closed and its connections closing: none is aborted when
/// the grace is over, and what was queued arrives. One that was never polled has done nothing.
#[test]
fn a_shutdown_that_is_given_up() {
    common::on_manual_clock(|el, clock| {
        let (server, connections, address) = serve(el);
        let (mut client, transport) = connect(el, &connections, address);
        drop(server.shutdown(Duration::ZERO));
        settle(el);
        assert!(server.is_serving() && !transport.is_closing());

        queue_up(el, &transport);
        let task = el.create_task({
            let server = server.clone();
            async move { server.shutdown(Duration::from_secs(1)).await }
        });
        settle(el);
        assert!(!server.is_serving() && transport.is_closing() && server.connections() == 1);
        let queued = transport.write_buffer_size();
        assert!(queued > 0);
        task.cancel();
        settle(el);
        assert!(task.is_cancelled());
        assert_eq!(el.stats().timers.live(), 0);
        clock.advance(Duration::from_secs(3600));
        settle(el);
        assert_eq!(server.connections(), 1);
        assert!((1..=queued).contains(&transport.write_buffer_size()));

        // Another one goes on where it was left, with a grace of its own.
        let again = el.create_task(async move { server.shutdown(Duration::from_secs(1)).await });
        settle(el);
        let received = receive_all(el, &mut client);
        assert!(received.len() >= queued && received.iter().all(|&byte| byte == 7));
        assert!(complete(el, again).unwrap(), "nothing had to be aborted");
    });
}

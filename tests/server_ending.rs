//! Servers whose end comes from elsewhere: from the loop's, from their factory's, from a shutdown that is given up
//! (behaviours SV).

mod common;
#[path = "common/tcp.rs"]
mod tcp;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use roundelay::{EventLoop, LoopClosed, Runner, Server, spawn, start_server};

use common::{alone, on_loop, open_descriptors};
use tcp::{LOOPBACK, complete, idle};

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

//! Datagram endpoints of the internet: made, connected or not, sending and receiving.

mod common;
#[path = "common/datagrams.rs"]
mod datagrams;

use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;

use common::{Log, complete, run_until, settle, take_reports};
use datagrams::{Echo, Idle, LOOPBACK, Recorder, bound, close, connected, dead, local, over, plain, receive, wait_for};
use roundelay::{Address, EventLoop, Family};

/// Whether this machine has an IPv6 loopback. Says so where it has none.
fn has_ipv6() -> bool {
    let has = UdpSocket::bind("[::1]:0").is_ok();
    if !has {
        eprintln!("SKIPPED: this machine has no IPv6 loopback");
    }
    has
}

/// Makes an echo endpoint and a recorded client there, says hello, and checks who has answered.
fn check_echo(el: &EventLoop, host: &str) {
    let (server, _) = complete(el, el.create_datagram_endpoint(|| Echo).local_addr((host, 0))).unwrap();
    let address = local(&server);
    let (log, senders) = (Log::new(), Rc::new(RefCell::new(Vec::new())));
    let recorder = || {
        let senders = senders.clone();
        Recorder::new(&log).then("datagram", move |_, _, from| senders.borrow_mut().push(from.cloned()))
    };

    let client = connected(el, recorder(), address);
    assert_eq!(client.extra_info().peer_addr, Some(address));
    assert_eq!(local(&client).ip(), address.ip());
    client.sendto(b"connected", None);
    assert_eq!(wait_for(el, &log, 2), ["made", "datagram \"connected\""]);

    let protocol = recorder();
    let (other, _) = complete(el, el.create_datagram_endpoint(move || protocol).local_addr((host, 0))).unwrap();
    assert_eq!(other.extra_info().peer_addr, None);
    other.sendto(b"unconnected", Some(&address.into()));
    assert_eq!(wait_for(el, &log, 2), ["made", "datagram \"unconnected\""]);

    assert_eq!(*senders.borrow(), [Some(Address::Ip(address)), Some(Address::Ip(address))]);
    for handle in [server, client, other] {
        close(el, &handle);
    }
    assert_eq!(log.take(), ["lost", "lost"]);
}

on_every_loop! {
    /// UD-02: what an endpoint is sent comes back to a connected and to an unconnected one, whose addresses are known.
    fn echo(el) {
        check_echo(el, "127.0.0.1");
    }

    /// UD-02: of IPv6 as well.
    fn echo_of_ipv6(el) {
        if has_ipv6() {
            check_echo(el, "::1");
        }
    }

    /// UD-01: an endpoint has a local address, a remote one, both, or merely a family; with none of them it is refused.
    fn addresses(el) {
        let (peer, to) = plain();
        let both = complete(el, el.create_datagram_endpoint(|| Idle).local_addr(LOOPBACK).remote_addr(to)).unwrap().0;
        assert!(local(&both).port() != 0);
        assert_eq!(both.extra_info().peer_addr, Some(to));
        both.sendto(b"both", None);
        assert_eq!(receive(el, &peer), (b"both".to_vec(), local(&both)));

        let neither = complete(el, el.create_datagram_endpoint(|| Idle).family(Family::V4)).unwrap().0;
        assert_eq!(local(&neither), SocketAddr::from(([0, 0, 0, 0], 0)));
        neither.sendto(b"neither", Some(&to.into()));
        let (data, from) = receive(el, &peer);
        assert_eq!((data.as_slice(), from.port()), (&b"neither"[..], local(&neither).port()));

        let error = complete(el, el.create_datagram_endpoint(|| Idle)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("unexpected address family"), "{error}");
        close(el, &both);
        close(el, &neither);
    }

    /// P31: a datagram may be empty, in both directions.
    fn empty_datagrams(el) {
        let log = Log::new();
        let (handle, address) = bound(el, Recorder::new(&log));
        handle.sendto(b"", Some(&address.into()));
        handle.sendto(b"x", Some(&address.into()));
        handle.sendto(b"", Some(&address.into()));
        assert_eq!(wait_for(el, &log, 4), ["made", "datagram \"\"", "datagram \"x\"", "datagram \"\""]);
        let (peer, to) = plain();
        handle.sendto(b"", Some(&to.into()));
        assert_eq!(receive(el, &peer), (vec![], address));
        close(el, &handle);
    }
}

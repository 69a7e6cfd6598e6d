//! Datagram endpoints of the internet: made, connected or not, sending and receiving.

mod common;
#[path = "common/datagrams.rs"]
mod datagrams;

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::rc::Rc;

use common::{Log, complete, take_reports};
use datagrams::{Echo, Idle, LOOPBACK, Recorder, bound, close, connected, idle, local, over, plain, receive, wait_for};
use roundelay::{
    AddrInfoFlags, Address, AddressError, DatagramHandle, EventLoop, Family, ResolveError, ResolveErrorKind,
};
use socket2::{SockRef, Socket};

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

    /// UD-03: addresses of two families make no endpoint, and no socket is made to find that out.
    fn no_family_in_common(el) {
        let v4: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let create = || el.create_datagram_endpoint(|| Idle);
        let path = std::path::Path::new("/nowhere/to/be/found");
        for builder in [create().local_addr(("::1", 0)).remote_addr(v4), create().local_addr(path).remote_addr(v4)] {
            let error = complete(el, builder).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("can not get address information"), "{error}");
        }
        for builder in [create().family(Family::V6).local_addr(v4), create().family(Family::V4).local_addr(path)] {
            let error = complete(el, builder).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("family()"), "{error}");
        }
    }

    /// UD-04: literal addresses, written in whichever way, need no resolver: none is asked, for none could answer.
    fn literals_need_no_resolver(el) {
        assert!(complete(el, el.shutdown_default_executor(None)));
        let (peer, to) = plain();
        let text = "127.0.0.1".to_owned();
        let builders = [
            el.create_datagram_endpoint(idle()).remote_addr(("127.0.0.1", to.port())),
            el.create_datagram_endpoint(idle()).remote_addr((text, to.port())).local_addr(("127.0.0.1", 0)),
            el.create_datagram_endpoint(idle()).remote_addr((to.ip(), to.port())),
            el.create_datagram_endpoint(idle()).remote_addr(vec![to]),
            el.create_datagram_endpoint(idle()).remote_addr(Address::from(to)),
        ];
        for builder in builders {
            let (handle, _) = complete(el, builder).unwrap();
            handle.sendto(b"hi", None);
            assert_eq!(receive(el, &peer), (b"hi".to_vec(), local(&handle)));
            close(el, &handle);
        }
        // From now on whoever asks an executor is refused.
        complete(el, el.create_datagram_endpoint(|| Idle).remote_addr(("localhost", 9))).unwrap_err();
        assert!(take_reports().pop().unwrap().contains("run_in_executor()"));
    }

    /// UD-01, UD-04: a name is looked up, and is as good as an address.
    fn a_name(el) {
        let (peer, to) = plain();
        let builder = el.create_datagram_endpoint(|| Idle).family(Family::V4).remote_addr(("localhost", to.port()));
        let (handle, _) = complete(el, builder).unwrap();
        handle.sendto(b"hi", None);
        assert_eq!(receive(el, &peer), (b"hi".to_vec(), local(&handle)));
        close(el, &handle);
        assert!(complete(el, el.shutdown_default_executor(None)));
    }

    /// UD-05: with a socket of the application's nothing else is set, and the error names what was; a stream socket is
    /// refused.
    fn a_given_socket(el) {
        let (socket, address) = plain();
        let log = Log::new();
        let handle = over(el, Recorder::new(&log), socket);
        assert_eq!(local(&handle), address);
        handle.sendto(b"to myself", Some(&address.into()));
        assert_eq!(wait_for(el, &log, 2), ["made", "datagram \"to myself\""]);
        close(el, &handle);

        let builder = el.create_datagram_endpoint(|| Idle).sock(plain().0).local_addr(LOOPBACK).allow_broadcast(true);
        let error = complete(el, builder).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("local_addr(), allow_broadcast() cannot be used with sock()"), "{error}");
        let builder = el.create_datagram_endpoint(|| Idle).sock(plain().0);
        let error = complete(el, builder.family(Family::V4).reuse_port(true).remote_addr(address)).unwrap_err();
        assert!(error.to_string().contains("remote_addr(), family(), reuse_port() cannot"), "{error}");
        let error = complete(el, el.create_datagram_endpoint(|| Idle).local_addr(Socket::from(plain().0))).unwrap_err();
        assert!(error.to_string().contains("a socket is for sock()"), "{error}");

        let stream = TcpListener::bind(LOOPBACK).unwrap();
        let error = complete(el, el.create_datagram_endpoint(|| Idle).sock(stream)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("a datagram socket was expected"), "{error}");
    }

    /// UD-06: addresses are tried in their order, and the error of the first is what is left if none can be used. No
    /// socket stays open.
    fn the_first_error_counts(el) {
        let foreign: SocketAddr = "192.0.2.1:0".parse().unwrap();
        let taken = plain();
        let builder = el.create_datagram_endpoint(|| Idle).local_addr(vec![foreign, taken.1]);
        let error = complete(el, builder).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable, "{error}");
        let inner = error.get_ref().unwrap().downcast_ref::<AddressError>().unwrap();
        assert_eq!((inner.action, inner.address), ("bind on", foreign));
        let builder = el.create_datagram_endpoint(|| Idle).local_addr(vec![taken.1, foreign]);
        assert_eq!(complete(el, builder).unwrap_err().kind(), ErrorKind::AddrInUse);

        let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let builder = el.create_datagram_endpoint(|| Idle).local_addr(vec![foreign, taken.1, free]).remote_addr(taken.1);
        let (handle, _) = complete(el, builder).unwrap();
        assert_eq!(local(&handle).ip(), free.ip());
        close(el, &handle);
    }

    /// UD-07: an endpoint that may broadcast is not connected: it sends to its remote address, and hears anybody.
    fn broadcast_is_not_connected(el) {
        let (peer, to) = plain();
        let log = Log::new();
        let recorder = Recorder::new(&log);
        let builder = el.create_datagram_endpoint(move || recorder).local_addr(LOOPBACK).remote_addr(to);
        let (handle, _) = complete(el, builder.allow_broadcast(true)).unwrap();
        assert_eq!(handle.extra_info().peer_addr, None);
        let socket = handle.extra_info().socket.unwrap();
        assert!(socket.with(|socket| socket.broadcast()).unwrap().unwrap());
        handle.sendto(b"default", None);
        handle.sendto(b"the same", Some(&to.into()));
        assert_eq!(receive(el, &peer).0, b"default");
        assert_eq!(receive(el, &peer).0, b"the same");
        let (stranger, other) = plain();
        stranger.send_to(b"hello", local(&handle)).unwrap();
        assert_eq!(wait_for(el, &log, 2), ["made", "datagram \"hello\""]);
        handle.sendto(b"refused", Some(&other.into()));
        let report = take_reports().pop().unwrap();
        assert!(report.contains("DatagramHandle::sendto()") && report.contains(&other.to_string()), "{report}");
        close(el, &handle);
    }

    /// UD-08: options are set when they are asked for; `SO_REUSEADDR` never is, and asking for it is refused with the
    /// reason.
    fn options(el) {
        let has = |handle: &DatagramHandle, option: fn(SockRef<'_>) -> std::io::Result<bool>| {
            handle.extra_info().socket.unwrap().with(option).unwrap().unwrap()
        };
        let plain = bound(el, Idle).0;
        let builder = el.create_datagram_endpoint(|| Idle).local_addr(LOOPBACK).reuse_address(false);
        let (special, _) = complete(el, builder.reuse_port(true).allow_broadcast(true)).unwrap();
        for (handle, is_set) in [(&plain, false), (&special, true)] {
            assert_eq!(has(handle, |socket| socket.reuse_port()), is_set);
            assert_eq!(has(handle, |socket| socket.broadcast()), is_set);
            assert!(!has(handle, |socket| socket.reuse_address()));
            assert!(has(handle, |socket| socket.nonblocking()));
        }
        // So that a second one may have the same address.
        let again = el.create_datagram_endpoint(|| Idle).local_addr(local(&special)).reuse_port(true);
        let (again, _) = complete(el, again).unwrap();

        let builder = el.create_datagram_endpoint(|| Idle).local_addr(LOOPBACK).reuse_address(true);
        let error = complete(el, builder).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("reuse_address(true) is refused: it lets any process"), "{error}");
        for handle in [plain, special, again] {
            close(el, &handle);
        }
    }

    /// UD-09: a connected endpoint sends to its peer, whether that is named or not, and refuses other addresses; so it is
    /// with a socket that was connected before.
    fn a_connected_endpoint_has_one_peer(el) {
        let ((peer, to), (stranger, other)) = (plain(), plain());
        let socket = UdpSocket::bind(LOOPBACK).unwrap();
        socket.connect(to).unwrap();
        for handle in [connected(el, Idle, to), over(el, Idle, socket)] {
            handle.sendto(b"none", None);
            handle.sendto(b"same", Some(&to.into()));
            handle.sendto(b"other", Some(&other.into()));
            let report = take_reports().pop().unwrap();
            assert!(report.starts_with("DatagramHandle::sendto(): the endpoint sends to"), "{report}");
            assert!(report.contains(&to.to_string()) && report.contains(&other.to_string()), "{report}");
            assert!(!handle.is_closing());
            assert_eq!(receive(el, &peer).0, b"none");
            assert_eq!(receive(el, &peer).0, b"same");
            assert_eq!(stranger.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
            close(el, &handle);
        }
    }

    /// UD-01: the protocol and the resolver's flags are used, and what they make impossible is told with what it is about.
    fn protocol_and_flags(el) {
        let (peer, to) = plain();
        let udp = el.create_datagram_endpoint(idle()).proto(libc::IPPROTO_UDP).flags(AddrInfoFlags::NUMERICHOST);
        let (handle, _) = complete(el, udp.remote_addr(("127.0.0.1", to.port()))).unwrap();
        handle.sendto(b"hi", None);
        assert_eq!(receive(el, &peer), (b"hi".to_vec(), local(&handle)));
        let protocol = handle.extra_info().socket.unwrap().with(|socket| socket.protocol()).unwrap().unwrap();
        assert_eq!(protocol, Some(socket2::Protocol::UDP));
        close(el, &handle);

        // No datagrams by that protocol: by the socket if nothing is looked up, else by the resolver.
        let tcp = || el.create_datagram_endpoint(idle()).proto(libc::IPPROTO_TCP);
        for (builder, action) in [(tcp().local_addr(to), "bind on"), (tcp().remote_addr(to), "connect to")] {
            let error = complete(el, builder).unwrap_err();
            let inner = error.get_ref().unwrap().downcast_ref::<AddressError>().unwrap();
            assert_eq!((inner.action, inner.address), (action, to));
            assert_eq!(inner.error.raw_os_error(), Some(libc::EPROTONOSUPPORT), "{error}");
        }
        let error = complete(el, tcp().family(Family::V4)).unwrap_err().to_string();
        assert!(error.starts_with("create_datagram_endpoint: Protocol not supported"), "{error}");
        let error = complete(el, tcp().local_addr(("localhost", 0))).unwrap_err();
        assert!(error.get_ref().unwrap().is::<ResolveError>(), "{error}");
        let numeric = || el.create_datagram_endpoint(idle()).flags(AddrInfoFlags::NUMERICHOST);
        let error = complete(el, numeric().remote_addr(("localhost", 9))).unwrap_err();
        let inner = error.get_ref().unwrap().downcast_ref::<ResolveError>().unwrap();
        assert_eq!(inner.kind(), ResolveErrorKind::UnknownName);

        let error = complete(el, tcp().flags(AddrInfoFlags::NUMERICHOST).sock(plain().0)).unwrap_err();
        assert!(error.to_string().contains("proto(), flags() cannot be used with sock()"), "{error}");
        for (builder, option) in [(tcp(), "proto()"), (numeric(), "flags()")] {
            let error = complete(el, builder.local_addr(std::path::Path::new("/nowhere"))).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(&format!("{option} cannot be used with the address of a unix")), "{error}");
        }
    }

    /// UD-21: an address is one; of another family than the socket's it is an error of the datagram.
    fn an_address_of_another_kind(el) {
        let log = Log::new();
        let (handle, _) = bound(el, Recorder::new(&log));
        handle.sendto(b"x", Some(&"[::1]:9".parse::<SocketAddr>().unwrap().into()));
        handle.sendto(b"x", Some(&std::path::Path::new("/x").into()));
        handle.sendto(b"x", None);
        let heard = wait_for(el, &log, 4);
        assert_eq!(heard, ["made", "error EAFNOSUPPORT", "error EINVAL", "error EDESTADDRREQ"]);
        assert!(!handle.is_closing());
        close(el, &handle);
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

/// A look at the socket may do anything, also end the loop.
#[test]
fn the_loop_is_closed_within_a_look() {
    common::on_loop(|_| {
        let el = EventLoop::new().unwrap();
        common::watch_reports(&el);
        let (handle, _) = bound(&el, Idle);
        let socket = handle.extra_info().socket.unwrap();
        let fd = socket.with(|socket| {
            handle.abort();
            el.close();
            std::os::fd::AsRawFd::as_raw_fd(&*socket)
        });
        assert!(fd.unwrap() >= 0 && socket.raw_fd().is_none());
        take_reports();
    });
}

/// UD-01: a future of one loop is not for another one.
#[test]
fn awaited_in_another_loop() {
    common::on_loop(|one| {
        let other = EventLoop::new().unwrap();
        let builder = one.create_datagram_endpoint(|| Idle).local_addr(LOOPBACK);
        let error = complete(&other, builder).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("create_datagram_endpoint"), "{error}");
        other.close();
    });
}

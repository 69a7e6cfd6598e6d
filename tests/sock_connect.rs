//! `sock_connect` and `sock_accept` (behaviours SK).

mod common;
#[path = "common/tcp.rs"]
mod tcp;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::rc::Rc;

use common::{complete, on_loop, settle};
use roundelay::{Address, Destination, EventLoop, UnixAddr};
use socket2::{Domain, SockAddr, Socket, Type};
use tcp::{address_error, closed_port, has_ipv6, plain_listener};

/// A stream socket that does not block, and is not connected.
fn client(domain: Domain) -> Socket {
    Socket::new(domain, Type::STREAM.nonblocking(), None).unwrap()
}

fn registered(el: &EventLoop) -> u64 {
    el.stats().descriptors.live()
}

on_every_loop! {
    /// SK-16: an accepted connection is non-blocking, is inherited by no child, and comes with its peer's address; at
    /// once where it is there already, and else when it comes.
    fn accepting(el) {
        let (listener, address) = plain_listener();
        listener.set_nonblocking(true).unwrap();
        let listener = Rc::new(listener);
        let waiting = el.create_task(el.sock_accept(listener.clone()));
        settle(el);
        assert_eq!(registered(el), 1);
        for waiting in [Some(waiting), None] {
            let mut peer = TcpStream::connect(address).unwrap();
            let (connection, from) = match waiting {
                Some(task) => complete(el, task).unwrap().unwrap(),
                None => complete(el, el.sock_accept(&*listener)).unwrap(),
            };
            assert_eq!(from, Address::from(peer.local_addr().unwrap()));
            assert!(connection.nonblocking().unwrap() && rustix::io::fcntl_getfd(&connection).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
            peer.write_all(b"hello").unwrap();
            assert_eq!(complete(el, el.sock_recv(&connection, 10)).unwrap(), b"hello");
            assert_eq!(registered(el), 0);
        }
    }

    /// SK-16: over a unix socket, too, where most peers have no address.
    fn accepting_over_a_unix_socket(el) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("listener");
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let near = client(Domain::UNIX);
        complete(el, async {
            el.sock_connect(&near, path.as_path()).await.unwrap();
            let (far, from) = el.sock_accept(&listener).await.unwrap();
            assert_eq!(from, Address::from(UnixAddr::unnamed()));
            assert!(far.nonblocking().unwrap());
            el.sock_sendall(&near, b"hello").await.unwrap();
            assert_eq!(el.sock_recv(&far, 10).await.unwrap(), b"hello");
            let far: UnixStream = far.into();
            drop(far);
            // And one that has.
            let own = folder.path().join("client");
            let near = client(Domain::UNIX);
            near.bind(&SockAddr::unix(&own).unwrap()).unwrap();
            el.sock_connect(&near, path.as_path()).await.unwrap();
            assert_eq!(el.sock_accept(&listener).await.unwrap().1, Address::from(own));
        });
    }

    /// SK-17: refused, the error is the system's and names the address.
    fn refused(el) {
        let (_port, address) = closed_port();
        let near = client(Domain::IPV4);
        let error = complete(el, el.sock_connect(&near, address)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let inner = address_error(&error);
        assert_eq!((inner.address, inner.error.raw_os_error()), (address, Some(libc::ECONNREFUSED)));
        assert!(error.to_string().starts_with(&format!("cannot connect to {address}: ")), "{error}");
        assert_eq!(registered(el), 0);
    }

    /// SK-17: a unix listener that is not there is named as well; one whose queue is full is waited for.
    fn refused_by_a_unix_socket(el) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nobody");
        let near = client(Domain::UNIX);
        let error = complete(el, el.sock_connect(&near, &path)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().starts_with(&format!("cannot connect to {path:?}: ")), "{error}");

        let listener = client(Domain::UNIX);
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let (mut connected, mut full) = (Vec::new(), None);
        for _ in 0..10 {
            let near = Rc::new(client(Domain::UNIX));
            let mut task = el.create_task(el.sock_connect(near.clone(), &path));
            settle(el);
            if !task.is_done() {
                full = Some(task);
                break;
            }
            complete(el, &mut task).unwrap().unwrap();
            connected.push(near);
        }
        let full = full.expect("a queue of this length is soon full");
        assert_eq!(registered(el), 0);
        drop(listener.accept().unwrap());
        complete(el, full).unwrap().unwrap();
    }

    /// SK-17: a name is resolved for the socket's own family.
    fn a_name_for_the_sockets_family(el) {
        let (listener, address) = plain_listener();
        let near = client(Domain::IPV4);
        complete(el, el.sock_connect(&near, ("localhost", address.port()))).unwrap();
        assert_eq!(near.peer_addr().unwrap().as_socket(), Some(address));
        drop(listener);
        let near = client(Domain::IPV4);
        let error = complete(el, el.sock_connect(&near, (String::from("name.invalid"), 1))).unwrap_err();
        assert!(error.to_string().contains("name.invalid"), "{error}");
        if has_ipv6() {
            let listener = TcpListener::bind("[::1]:0").unwrap();
            let address = listener.local_addr().unwrap();
            let near = client(Domain::IPV6);
            let result = complete(el, el.sock_connect(&near, ("localhost", address.port())));
            match result {
                Ok(()) => assert_eq!(near.peer_addr().unwrap().as_socket(), Some(address)),
                // Where `localhost` is an IPv4 name only: it is not tried with an address of the wrong family.
                Err(error) => assert!(error.to_string().contains("cannot resolve"), "{error}"),
            }
        }
    }

    /// SK-18: addresses of IPv6 with their scope, paths, abstract names, and what `socket2` has of any family: none of
    /// them is looked up.
    fn addresses_of_every_kind(el) {
        if has_ipv6() {
            let listener = TcpListener::bind("[::1]:0").unwrap();
            let SocketAddr::V6(mut address) = listener.local_addr().unwrap() else { panic!("it is one of IPv6") };
            address.set_scope_id(0);
            let near = client(Domain::IPV6);
            complete(el, el.sock_connect(&near, address)).unwrap();
            let near = client(Domain::IPV6);
            complete(el, el.sock_connect(&near, ("[::1]", address.port()))).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("listener");
        let name = UnixAddr::from_abstract_name(format!("roundelay-{}-{:?}", std::process::id(), path));
        let listener = UnixListener::bind(&path).unwrap();
        let hidden = client(Domain::UNIX);
        hidden.bind(&SockAddr::unix(format!("\0{}", text(&name))).unwrap()).unwrap();
        hidden.listen(5).unwrap();
        let destinations = [
            Destination::from(path.as_path()),
            Destination::from(Address::from(&path)),
            Destination::from(SockAddr::unix(&path).unwrap()),
            Destination::from(&name),
        ];
        for destination in destinations {
            let near = client(Domain::UNIX);
            complete(el, el.sock_connect(&near, destination.clone())).unwrap_or_else(|error| panic!("{destination:?}: {error}"));
        }
        drop(listener);
        let error = complete(el, el.sock_connect(client(Domain::UNIX), Destination::from(UnixAddr::unnamed()))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }

    /// SK-17: datagram sockets are connected at once.
    fn datagram_sockets(el) {
        let peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let near = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        near.set_nonblocking(true).unwrap();
        complete(el, async {
            el.sock_connect(&near, peer.local_addr().unwrap()).await.unwrap();
            el.sock_sendall(&near, b"x").await.unwrap();
        });
        assert_eq!(peer.recv(&mut [0; 8]).unwrap(), 1);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peer");
        let peer = UnixDatagram::bind(&path).unwrap();
        let near = UnixDatagram::unbound().unwrap();
        near.set_nonblocking(true).unwrap();
        complete(el, async {
            el.sock_connect(&near, &path).await.unwrap();
            el.sock_sendall(&near, b"xy").await.unwrap();
        });
        assert_eq!(peer.recv(&mut [0; 8]).unwrap(), 2);
    }

    /// SK-17: a socket that is connected already is refused by the system.
    fn connected_already(el) {
        let (listener, address) = plain_listener();
        let near = TcpStream::connect(address).unwrap();
        near.set_nonblocking(true).unwrap();
        let mut far = listener.accept().unwrap().0;
        let error = complete(el, el.sock_connect(&near, address)).unwrap_err();
        assert_eq!(address_error(&error).error.raw_os_error(), Some(libc::EISCONN));
        complete(el, el.sock_sendall(&near, b"x")).unwrap();
        far.read_exact(&mut [0]).unwrap();
    }
}

fn text(name: &UnixAddr) -> String {
    String::from_utf8(name.as_abstract_name().unwrap().to_vec()).unwrap()
}

/// SK-16: what cannot be accepted is the system's error.
#[test]
fn accepting_on_what_does_not_listen() {
    on_loop(|el| {
        let near = client(Domain::IPV4);
        assert_eq!(complete(el, el.sock_accept(&near)).unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

/// SK-17: destinations can be shown and compared.
#[test]
fn destinations_tell_what_they_are() {
    let destinations = [
        (Destination::from(("example.org", 80)), "Destination(example.org:80)"),
        (Destination::from(("::1", 80)), "Destination([::1]:80)"),
        (Destination::from(([127, 0, 0, 1], 80)), "Destination(127.0.0.1:80)"),
        (Destination::from(std::path::Path::new("/run/x")), "Destination(\"/run/x\")"),
    ];
    for (destination, text) in destinations {
        assert_eq!(format!("{destination:?}"), text);
        assert_eq!(destination, destination.clone());
    }
}

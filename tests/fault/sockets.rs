//! Sockets used directly, and the plain datagram types.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::rc::Rc;

use roundelay::selector::Interest;
use roundelay::{AsyncFd, UdpSocket, UnixDatagram, spawn, yield_now};
use socket2::{Domain, Socket, Type};

use crate::sweep::{check_bytes, pattern, sweep};

/// Enough to fill a socket's buffers.
const BYTES: usize = 600_000;

#[test]
fn sockets_used_directly() {
    sweep(|stage| {
        let (el, witness) = (stage.el.clone(), stage.witness.clone());
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        stage.complete(async move {
            let client = Rc::new(Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).unwrap());
            let Some(()) = witness.check("connect", el.sock_connect(&*client, address).await) else { return };
            let Some((server, _)) = witness.check("accept", el.sock_accept(&listener).await) else { return };
            let bytes = pattern(BYTES);
            let (sent, sender, copy, handle) = (witness.clone(), client.clone(), bytes.clone(), el.clone());
            let sending = spawn(async move {
                let all = handle.sock_sendall(&*sender, copy).await;
                sent.check("sendall", all);
                let _ = sender.shutdown(Shutdown::Write);
            });
            let mut arrived = Vec::new();
            loop {
                match el.sock_recv(&server, 100_000).await {
                    Ok(data) if data.is_empty() => break,
                    Ok(data) => arrived.extend(data),
                    Err(error) => break witness.error("recv", &error),
                }
            }
            drop(server);
            drop(sending.await);
            check_bytes(&witness, &bytes, &arrived);
        });
        assert_eq!(stage.el.stats().descriptors.live(), 0);
    });
}

#[test]
fn datagrams_of_udp() {
    sweep(|stage| {
        let witness = stage.witness.clone();
        stage.complete(async move {
            let Some(a) = witness.check("bind", UdpSocket::bind(("127.0.0.1", 0)).await) else { return };
            let Some(b) = witness.check("bind", UdpSocket::bind(("127.0.0.1", 0)).await) else { return };
            let Some(to) = witness.check("local_addr", b.local_addr()) else { return };
            for number in 0..20_u32 {
                let Some(_) = witness.check("send_to", a.send_to(&number.to_le_bytes(), to).await) else { continue };
                let mut data = [0; 8];
                // An error is told, and the datagram is still there.
                let received = loop {
                    match b.recv_from(&mut data).await {
                        Ok((n, _)) => break n,
                        Err(error) => witness.error("recv_from", &error),
                    }
                };
                assert_eq!(data[..received], number.to_le_bytes());
            }
        });
    });
}

#[test]
fn datagrams_of_unix_sockets() {
    sweep(|stage| {
        let witness = stage.witness.clone();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("receiver");
        stage.complete(async move {
            let Some(a) = witness.check("unbound", UnixDatagram::unbound()) else { return };
            let Some(b) = witness.check("bind", UnixDatagram::bind(path.as_path())) else { return };
            let copy = witness.clone();
            // More than the queue takes.
            let sending = spawn(async move {
                for number in 0..30_u32 {
                    while let Err(error) = a.send_to(&number.to_le_bytes(), path.as_path()).await {
                        assert_ne!(error.kind(), ErrorKind::WouldBlock);
                        copy.error("send_to", &error);
                    }
                }
            });
            let mut next = 0_u32;
            while next < 30 {
                let mut data = [0; 8];
                match b.recv_from(&mut data).await {
                    Ok((n, _)) => {
                        assert_eq!(data[..n], next.to_le_bytes());
                        next += 1;
                    }
                    Err(error) => witness.error("recv_from", &error),
                }
            }
            sending.await.unwrap();
        });
    });
}

/// Datagrams of connected sockets, and what is set on them.
#[test]
fn connected_sockets() {
    sweep(|stage| {
        let witness = stage.witness.clone();
        stage.complete(async move {
            let Some(a) = witness.check("bind", UdpSocket::bind(("127.0.0.1", 0)).await) else { return };
            let given = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let to = given.local_addr().unwrap();
            let Some(b) = witness.check("from_std", UdpSocket::from_std(given)) else { return };
            let Some(()) = witness.check("connect", a.connect(to).await) else { return };
            witness.check("peer_addr", a.peer_addr());
            witness.check("set_broadcast", a.set_broadcast(true));
            witness.check("ttl", a.ttl());
            let Some(_) = witness.check("send", a.send(b"question").await) else { return };
            let mut data = [0; 20];
            while let Err(error) = b.peek(&mut data).await {
                witness.error("peek", &error);
            }
            let n = loop {
                match b.recv(&mut data).await {
                    Ok(n) => break n,
                    Err(error) => witness.error("recv", &error),
                }
            };
            assert_eq!(&data[..n], b"question");
            let Some((a, b)) = witness.check("pair", UnixDatagram::pair()) else { return };
            let Some(_) = witness.check("send", a.send(b"answer").await) else { return };
            let n = loop {
                match b.recv(&mut data).await {
                    Ok(n) => break n,
                    Err(error) => witness.error("recv", &error),
                }
            };
            assert_eq!(&data[..n], b"answer");
            witness.check("shutdown", a.shutdown(Shutdown::Both));
        });
    });
}

/// Sockets that are used directly, of datagrams.
#[test]
fn datagrams_used_directly() {
    sweep(|stage| {
        let (el, witness) = (stage.el.clone(), stage.witness.clone());
        let socket = || {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let (a, b) = (socket(), socket());
        let to = b.local_addr().unwrap();
        stage.complete(async move {
            let Some(()) = witness.check("connect", el.sock_connect(&a, ("127.0.0.1", to.port())).await) else {
                return;
            };
            for send in [el.sock_sendall(&a, "x").await.map(|()| 1), el.sock_sendto(&b, "x", to).await] {
                let Some(_) = witness.check("send", send) else { continue };
                loop {
                    match el.sock_recvfrom(&b, 100).await {
                        Ok((data, _)) => break assert_eq!(data, b"x"),
                        Err(error) => witness.error("recvfrom", &error),
                    }
                }
            }
        });
        assert_eq!(stage.el.stats().descriptors.live(), 0);
    });
}

/// A descriptor that is only waited for: its calls are not the crate's.
#[test]
fn descriptors_of_others() {
    sweep(|stage| {
        let witness = stage.witness.clone();
        stage.complete(async move {
            let (a, mut b) = std::os::unix::net::UnixStream::pair().unwrap();
            a.set_nonblocking(true).unwrap();
            let Some(a) = witness.check("new", AsyncFd::new(a)) else { return };
            let waiting = async {
                let mut data = [0; 8];
                let read = a.async_io(Interest::READABLE, |mut stream| stream.read(&mut data)).await;
                witness.check("async_io", read).map(|n| data[..n].to_vec())
            };
            let writing = async {
                yield_now().await;
                b.write_all(b"hello").unwrap();
                drop(b);
            };
            let (read, ()) = futures::join!(waiting, writing);
            assert!(read.is_none_or(|data| data == b"hello"));
            witness.check("writable", a.writable().await.map(drop));
        });
        assert_eq!(stage.el.stats().descriptors.live(), 0);
    });
}

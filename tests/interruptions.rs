//! System calls that signals interrupt (behaviours LU).

mod common;
#[path = "common/storm.rs"]
mod storm;
#[path = "common/tcp.rs"]
mod tcp;
mod wire;

use std::rc::Rc;
use std::time::Duration;

use common::{complete, run_until};
use futures::{AsyncReadExt, AsyncWriteExt};
use roundelay::{AsyncFd, TcpListener, TcpStream, UdpSocket, open_connection, sleep};
use storm::Storm;
use tcp::{Echo, LOOPBACK};
use wire::{Net, pattern, sockets};

on_every_loop! {
    /// LU-04: a sleep lasts as long as it should: it is neither ended nor begun anew by an interruption.
    fn sleeping(el) {
        let storm = Storm::begin();
        for delay in [1, 7, 40] {
            let (delay, before) = (Duration::from_millis(delay), el.time());
            complete(el, sleep(delay));
            assert!(el.time() - before + el.clock_resolution() >= delay);
        }
        run_until(el, || storm.handled() > 10);
    }

    /// LU-04: connections are made and accepted, and what is sent arrives once and in order, through transports and
    /// through plain streams.
    fn connections(el) {
        let storm = Storm::begin();
        let bytes = Rc::new(pattern(1 << 20));
        complete(el, async {
            let server = el.create_server(|| Echo, LOOPBACK).await.unwrap();
            for _ in 0..3 {
                let (mut reader, mut writer) = open_connection(server.local_addrs()[0]).await.unwrap();
                let sent = bytes.clone();
                let sender = el.create_task(async move {
                    for piece in sent.chunks(100_000) {
                        writer.write(piece);
                        writer.drain().await.unwrap();
                    }
                    writer
                });
                assert!(reader.readexactly(1 << 20).await.unwrap() == *bytes);
                let mut writer = sender.await.unwrap();
                writer.close();
                writer.wait_closed().await.unwrap();
            }
            server.close();
            server.wait_closed().await;

            let listener = TcpListener::bind(LOOPBACK).await.unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut accepted, _) = listener.accept().await.unwrap();
            let sent = bytes.clone();
            let sender = el.create_task(async move { client.write_all(&sent).await.map(|()| client) });
            let mut received = vec![0; 1 << 20];
            accepted.read_exact(&mut received).await.unwrap();
            assert!(received == *bytes);
            drop(sender.await.unwrap().unwrap());
        });
        run_until(el, || storm.handled() > 10);
    }

    /// LU-04: sockets used directly, datagrams, and descriptors of any kind.
    fn sockets_and_descriptors(el) {
        let storm = Storm::begin();
        let bytes = pattern(1 << 20);
        complete(el, async {
            for net in wire::NETS {
                let (a, b) = sockets(net);
                a.set_nonblocking(true).unwrap();
                b.set_nonblocking(true).unwrap();
                let sender = el.create_task(el.sock_sendall(a, bytes.clone()));
                let mut received = Vec::new();
                while received.len() < bytes.len() {
                    received.extend(el.sock_recv(&b, 70_000).await.unwrap());
                }
                sender.await.unwrap().unwrap();
                assert!(received == bytes);
            }
            let (a, b) = (UdpSocket::bind(LOOPBACK).await.unwrap(), UdpSocket::bind(LOOPBACK).await.unwrap());
            let mut data = [0; 8];
            for number in 0..500_u32 {
                a.send_to(&number.to_le_bytes(), b.local_addr().unwrap()).await.unwrap();
                assert_eq!(b.recv(&mut data).await.unwrap(), 4);
                assert_eq!(data[..4], number.to_le_bytes());
            }
            let (a, b) = sockets(Net::Unix);
            a.set_nonblocking(true).unwrap();
            let a = AsyncFd::new(a).unwrap();
            drop(b);
            drop(a.readable().await.unwrap());
        });
        run_until(el, || storm.handled() > 10);
    }
}

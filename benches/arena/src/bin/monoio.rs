//! monoio: the io_uring driver (`monoio`) and the epoll driver (`monoio-legacy`).

use arena::{net, pingpong, Cli, Peer, Rt};
use local_sync::{mpsc::unbounded, oneshot};
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::task::JoinHandle;
use monoio::time::TimeDriver;
use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};
use std::future::Future;
use std::time::Duration;

macro_rules! rt {
    ($name:ident, $driver:ty) => {
        struct $name(Runtime<TimeDriver<$driver>>);
        impl Rt for $name {
            type Join = JoinHandle<u64>;
            fn new() -> Self {
                $name(RuntimeBuilder::<$driver>::new().enable_timer().build().unwrap())
            }
            fn block_on<F: Future<Output = u64> + 'static>(&mut self, f: F) -> u64 {
                self.0.block_on(f)
            }
            fn spawn<F: Future<Output = u64> + 'static>(f: F) -> JoinHandle<u64> {
                monoio::spawn(f)
            }
            fn spawn_detached<F: Future<Output = ()> + 'static>(f: F) {
                drop(monoio::spawn(f));
            }
            fn sleep(d: Duration) -> impl Future<Output = ()> + 'static {
                monoio::time::sleep(d)
            }
            fn pingpong(n: u64) -> impl Future<Output = u64> + 'static {
                pingpong!(Self, n, unbounded::channel(), |tx, v| tx.send(v).ok().unwrap(), |rx| rx
                    .recv()
                    .await
                    .unwrap())
            }
            fn oneshot(v: u64) -> impl Future<Output = u64> + 'static {
                let (tx, rx) = oneshot::channel();
                tx.send(v).unwrap();
                async { rx.await.unwrap() }
            }
        }
    };
}
rt!(Uring, IoUringDriver);
rt!(Legacy, LegacyDriver);

async fn echo_conn<S: AsyncReadRent + AsyncWriteRentExt>(mut s: S, buf: usize) {
    let mut b: Vec<u8> = Vec::with_capacity(buf);
    loop {
        b.clear();
        let (r, back) = s.read(b).await;
        match r {
            Ok(n) if n > 0 => {}
            _ => break,
        }
        let (r, back) = s.write_all(back).await;
        b = back;
        if r.is_err() {
            break;
        }
    }
}

fn run(c: &Cli, f: impl Future<Output = ()> + 'static) {
    let legacy = c.opts.get("peer").is_some_and(|p| p == "monoio-legacy");
    if legacy {
        RuntimeBuilder::<LegacyDriver>::new().enable_timer().build().unwrap().block_on(async { monoio::spawn(f).await })
    } else {
        RuntimeBuilder::<IoUringDriver>::new()
            .enable_timer()
            .build()
            .unwrap()
            .block_on(async { monoio::spawn(f).await })
    }
}

fn echo(c: &Cli) {
    let (l, buf) = (net::listen_tcp(c), c.buf);
    run(c, async move {
        let l = monoio::net::TcpListener::from_std(l).unwrap();
        loop {
            let (s, _) = l.accept().await.unwrap();
            monoio::spawn(echo_conn(s, buf));
        }
    })
}

fn echo_unix(c: &Cli) {
    let (l, buf) = (net::listen_unix(c), c.buf);
    run(c, async move {
        let l = monoio::net::UnixListener::from_std(l).unwrap();
        loop {
            let (s, _) = l.accept().await.unwrap();
            monoio::spawn(echo_conn(s, buf));
        }
    })
}

fn udp(c: &Cli) {
    let (s, buf) = (net::bind_udp(c), c.buf);
    run(c, async move {
        let s = monoio::net::udp::UdpSocket::from_std(s).unwrap();
        let mut b: Vec<u8> = Vec::with_capacity(buf);
        loop {
            b.clear();
            let (r, back) = s.recv_from(b).await;
            b = back;
            if let Ok((_, a)) = r {
                b = s.send_to(b, a).await.1;
            }
        }
    })
}

fn accept(c: &Cli) {
    let l = net::listen_tcp(c);
    run(c, async move {
        let l = monoio::net::TcpListener::from_std(l).unwrap();
        loop {
            let (s, _) = l.accept().await.unwrap();
            drop(s);
        }
    })
}

fn with_servers(p: Peer) -> Peer {
    p.serve("echo", echo).serve("echo-unix", echo_unix).serve("udp-echo", udp).serve("accept", accept)
}

fn main() {
    arena::main(vec![
        with_servers(Peer::new("monoio").micro::<Uring>()),
        with_servers(Peer::new("monoio-legacy").micro::<Legacy>()),
    ])
}

//! glommio, one LocalExecutor, unpinned placement (the arena pins).

use arena::{net, pingpong, Cli, Peer, Rt};
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use glommio::channels::local_channel;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, Task};
use std::future::Future;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::time::Duration;

fn ex() -> LocalExecutor {
    LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(1 << 20) // the default of 10 MiB exceeds the memlock limit
        .make()
        .unwrap()
}

struct Glommio(LocalExecutor);
impl Rt for Glommio {
    type Join = Task<u64>;
    fn new() -> Self {
        Glommio(ex())
    }
    fn block_on<F: Future<Output = u64> + 'static>(&mut self, f: F) -> u64 {
        self.0.run(f)
    }
    fn spawn<F: Future<Output = u64> + 'static>(f: F) -> Task<u64> {
        glommio::spawn_local(f)
    }
    fn spawn_detached<F: Future<Output = ()> + 'static>(f: F) {
        glommio::spawn_local(f).detach();
    }
    fn sleep(d: Duration) -> impl Future<Output = ()> + 'static {
        glommio::timer::sleep(d)
    }
    fn pingpong(n: u64) -> impl Future<Output = u64> + 'static {
        pingpong!(Self, n, local_channel::new_unbounded(), |tx, v| tx.try_send(v).unwrap(), |rx| rx
            .recv()
            .await
            .unwrap())
    }
    fn oneshot(v: u64) -> impl Future<Output = u64> + 'static {
        let (tx, rx) = futures_channel::oneshot::channel();
        tx.send(v).unwrap();
        async { rx.await.unwrap() }
    }
}

async fn echo_conn<S: AsyncRead + AsyncWrite + Unpin>(mut s: S, buf: usize) {
    let mut b = vec![0u8; buf];
    while let Ok(n) = s.read(&mut b).await {
        if n == 0 || s.write_all(&b[..n]).await.is_err() {
            break;
        }
    }
}

fn run(f: impl Future<Output = ()> + 'static) {
    ex().run(async { glommio::spawn_local(f).await })
}

fn echo(c: &Cli) {
    let (l, buf) = (net::listen_tcp(c), c.buf);
    l.set_nonblocking(false).unwrap();
    run(async move {
        let l = unsafe { glommio::net::TcpListener::from_raw_fd(l.into_raw_fd()) };
        loop {
            let s = l.accept().await.unwrap();
            glommio::spawn_local(echo_conn(s, buf)).detach();
        }
    })
}

fn accept(c: &Cli) {
    let l = net::listen_tcp(c);
    l.set_nonblocking(false).unwrap();
    run(async move {
        let l = unsafe { glommio::net::TcpListener::from_raw_fd(l.into_raw_fd()) };
        loop {
            let s = l.accept().await.unwrap();
            drop(s);
        }
    })
}

fn main() {
    arena::main(vec![Peer::new("glommio").micro::<Glommio>().serve("echo", echo).serve("accept", accept)])
}

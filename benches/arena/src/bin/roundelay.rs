//! roundelay: `roundelay` serves by a `Protocol`, `roundelay-streams` by tasks over `TcpStream`.

use arena::{net, pingpong, Cli, Job, Peer, Rt};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use roundelay::{get_running_loop, spawn, EventLoop, Protocol, TcpListener, TcpStream, Transport};
use std::future::Future;
use std::pin::Pin;
use std::task::{ready, Context, Poll};
use std::time::Duration;

pub struct Join(roundelay::Task<u64>);
impl Future for Join {
    type Output = u64;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u64> {
        Poll::Ready(ready!(Pin::new(&mut self.0).poll(cx)).unwrap())
    }
}

struct Roundelay(EventLoop);
impl Rt for Roundelay {
    type Join = Join;
    fn new() -> Self {
        Roundelay(EventLoop::new().unwrap())
    }
    fn block_on<F: Future<Output = u64> + 'static>(&mut self, f: F) -> u64 {
        self.0.run_until_complete(f).unwrap()
    }
    fn spawn<F: Future<Output = u64> + 'static>(f: F) -> Join {
        Join(spawn(f))
    }
    fn spawn_detached<F: Future<Output = ()> + 'static>(f: F) {
        drop(spawn(f));
    }
    fn yield_now() -> impl Future<Output = ()> + 'static {
        roundelay::yield_now()
    }
    fn sleep(d: Duration) -> impl Future<Output = ()> + 'static {
        roundelay::sleep(d)
    }
    fn pingpong(n: u64) -> impl Future<Output = u64> + 'static {
        pingpong!(Self, n, async_channel::unbounded(), |tx, v| tx.try_send(v).unwrap(), |rx| rx.recv().await.unwrap())
    }
    fn oneshot(v: u64) -> impl Future<Output = u64> + 'static {
        let future = get_running_loop().unwrap().create_future();
        future.set_result(v).unwrap();
        async move { future.await.unwrap() }
    }
    fn cross_post(n: u64) -> impl Future<Output = u64> + 'static {
        async move {
            let el = get_running_loop().unwrap();
            let remote = el.remote();
            let done = el.create_future();
            let last = done.clone();
            // The jobs come from another thread and share nothing with this task but the thread that runs them.
            thread_local! {
                static SUM: std::cell::Cell<(u64, u64)> = const { std::cell::Cell::new((0, 0)) };
                static DONE: std::cell::RefCell<Option<roundelay::LoopFuture<()>>> = const { std::cell::RefCell::new(None) };
            }
            SUM.set((0, 0));
            DONE.set(Some(last));
            let post = move |job: Job| {
                let _ = remote.call_soon_threadsafe(move || {
                    let value = job();
                    let (count, sum) = SUM.get();
                    SUM.set((count + 1, sum + value));
                    if count + 1 == n {
                        DONE.take().unwrap().set_result(()).unwrap();
                    }
                });
            };
            arena::cross_post_via(n, post, async move {
                done.await.unwrap();
                SUM.get().1
            })
            .await
        }
    }
}

struct Echo;
impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        transport.write(data);
    }
}

struct Hello(Vec<u8>);
impl Protocol for Hello {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        let input = if self.0.is_empty() {
            data
        } else {
            self.0.extend_from_slice(data);
            &self.0
        };
        let (mut used, mut answers) = (0, 0);
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 32];
            match httparse::Request::new(&mut headers).parse(&input[used..]) {
                Ok(httparse::Status::Complete(len)) => used += len,
                Ok(httparse::Status::Partial) => break,
                Err(_) => return transport.close(),
            }
            answers += 1;
        }
        let rest = input[used..].to_vec();
        self.0 = rest;
        match answers {
            0 => {}
            1 => transport.write(net::HTTP_RESPONSE),
            _ => transport.write_owned(net::HTTP_RESPONSE.repeat(answers)),
        }
    }
}

struct Close;
impl Protocol for Close {
    fn connection_made(&mut self, transport: &Transport) {
        transport.abort();
    }
    fn data_received(&mut self, _: &Transport, _: &[u8]) {}
}

fn serve<P: Protocol>(c: &Cli, factory: impl Fn() -> P + 'static) {
    let l = net::listen_tcp(c);
    roundelay::block_on(async move {
        let server = get_running_loop().unwrap().create_server(factory, l).await.unwrap();
        server.serve_forever().await.unwrap();
    })
}

fn echo(c: &Cli) {
    serve(c, || Echo)
}

fn http(c: &Cli) {
    serve(c, || Hello(Vec::new()))
}

fn accept(c: &Cli) {
    serve(c, || Close)
}

async fn echo_conn(mut s: TcpStream, buf: usize) {
    let mut b = vec![0u8; buf];
    while let Ok(n) = s.read(&mut b).await {
        if n == 0 || s.write_all(&b[..n]).await.is_err() {
            break;
        }
    }
}

fn echo_streams(c: &Cli) {
    let (l, buf) = (net::listen_tcp(c), c.buf);
    roundelay::block_on(async move {
        let l = TcpListener::from_std(l).unwrap();
        loop {
            let (s, _) = l.accept().await.unwrap();
            drop(spawn(echo_conn(s, buf)));
        }
    })
}

fn main() {
    arena::main(vec![
        Peer::new("roundelay").micro::<Roundelay>().serve("echo", echo).serve("accept", accept).serve("http", http),
        Peer::new("roundelay-streams").serve("echo", echo_streams),
    ])
}

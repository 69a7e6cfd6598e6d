//! roundelay: `roundelay` serves by a `Protocol`, `roundelay-streams` by tasks over `TcpStream`, `roundelay-readers` by
//! tasks over `StreamReader` and `StreamWriter`; `roundelay-spin` is `roundelay` with `Builder::spin`.

use arena::{net, pingpong, Cli, Job, Peer, Rt};
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use roundelay::{get_running_loop, spawn, start_server};
use roundelay::{Address, DatagramHandle, DatagramProtocol};
use roundelay::{EventLoop, Protocol, StreamReader, StreamWriter, TcpListener, Transport, UnixListener};
use std::future::Future;
use std::io::IoSlice;
use std::mem::MaybeUninit;
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

/// With so many microseconds of `Builder::spin`.
struct Roundelay<const SPIN: u64>(EventLoop);
impl<const SPIN: u64> Rt for Roundelay<SPIN> {
    type Join = Join;
    fn new() -> Self {
        Roundelay(EventLoop::builder().spin(Duration::from_micros(SPIN)).build().unwrap())
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
                let posted = remote.post(move || {
                    let value = job();
                    let (count, sum) = SUM.get();
                    SUM.set((count + 1, sum + value));
                    if count + 1 == n {
                        DONE.take().unwrap().set_result(()).unwrap();
                    }
                });
                posted.unwrap();
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

/// What examples/http/mod.rs takes of a request, with the target as it came.
struct Request {
    method: Method,
    keep_alive: bool,
}

#[derive(PartialEq)]
enum Method {
    Get,
    Head,
}

/// Why a request is refused.
struct Refusal(&'static str);

/// As `parse` of examples/http/mod.rs, with its checks and limits; an answer that needs no file needs no path.
fn parse(input: &[u8]) -> Result<Option<(usize, Request)>, Refusal> {
    const LONGEST_HEAD: usize = 16 * 1024;
    let input = &input[..input.len().min(LONGEST_HEAD)];
    let mut headers = [const { MaybeUninit::uninit() }; 64];
    let mut head = httparse::Request::new(&mut []);
    let len = match head.parse_with_uninit_headers(input, &mut headers) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if input.len() < LONGEST_HEAD => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal("431 Request Header Fields Too Large"));
        }
        Err(_) => return Err(Refusal("400 Bad Request")),
    };
    let method = match head.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        _ => return Err(Refusal("405 Method Not Allowed")),
    };
    let (mut hosts, mut close, mut keep) = (0, false, head.version == Some(1));
    for header in head.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("connection") {
            for token in header.value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                close |= token.eq_ignore_ascii_case(b"close");
                keep |= token.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        hosts += usize::from(is("host"));
        if is("transfer-encoding") || is("content-length") && header.value.trim_ascii() != b"0" {
            return Err(Refusal("413 Content Too Large"));
        }
    }
    if hosts > 1 || hosts == 0 && head.version == Some(1) || head.path.is_none() {
        return Err(Refusal("400 Bad Request"));
    }
    Ok(Some((len, Request { method, keep_alive: keep && !close })))
}

/// Answers every request with the arena's response. What has arrived is copied only where a request is not whole.
#[derive(Default)]
struct Http {
    arrived: Vec<u8>,
}

impl Http {
    /// Answers what is whole; gives how much of the input that was.
    fn answer(transport: &Transport, input: &[u8]) -> usize {
        let (mut used, mut answers) = (0, 0);
        let close = loop {
            match parse(&input[used..]) {
                Ok(Some((len, request))) => {
                    used += len;
                    if request.method == Method::Get {
                        answers += 1;
                    } else {
                        let end = net::HTTP_RESPONSE.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
                        Self::send(transport, std::mem::take(&mut answers));
                        transport.write(&net::HTTP_RESPONSE[..end]);
                    }
                    if !request.keep_alive {
                        break true;
                    }
                }
                Ok(None) => break false,
                Err(Refusal(status)) => {
                    Self::send(transport, std::mem::take(&mut answers));
                    transport.write(format!("HTTP/1.1 {status}\r\nconnection: close\r\n\r\n").as_bytes());
                    break true;
                }
            }
        };
        Self::send(transport, answers);
        if close {
            transport.close();
        }
        used
    }

    /// So many answers in one call.
    fn send(transport: &Transport, answers: usize) {
        match answers {
            0 => {}
            1 => transport.write(net::HTTP_RESPONSE),
            _ => transport.writelines(&vec![IoSlice::new(net::HTTP_RESPONSE); answers]),
        }
    }
}

impl Protocol for Http {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        if self.arrived.is_empty() {
            let used = Self::answer(transport, data);
            self.arrived.extend_from_slice(&data[used..]);
        } else {
            self.arrived.extend_from_slice(data);
            let used = Self::answer(transport, &self.arrived);
            self.arrived.drain(..used);
        }
        if self.arrived.is_empty() {
            // An idle connection keeps no memory.
            self.arrived = Vec::new();
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

/// What `roundelay-spin` spins for before it sleeps.
const SPIN: u64 = 50;

fn serve<P: Protocol>(c: &Cli, factory: impl Fn() -> P + 'static) {
    serve_on(EventLoop::new().unwrap(), c, factory)
}

fn serve_on<P: Protocol>(el: EventLoop, c: &Cli, factory: impl Fn() -> P + 'static) {
    let l = net::listen_tcp(c);
    let served = el.run_until_complete(async move {
        let server = get_running_loop().unwrap().create_server(factory, l).await.unwrap();
        server.serve_forever().await.unwrap();
    });
    served.unwrap()
}

fn echo(c: &Cli) {
    serve(c, || Echo)
}

fn echo_tls(c: &Cli) {
    let (l, tls) = (net::listen_tcp(c), arena::tls::server(c));
    let el = EventLoop::new().unwrap();
    let served = el.run_until_complete(async move {
        let server = get_running_loop().unwrap().create_server(|| Echo, l).tls(tls).await.unwrap();
        server.serve_forever().await.unwrap();
    });
    served.unwrap()
}

fn echo_unix(c: &Cli) {
    let l = net::listen_unix(c);
    let el = EventLoop::new().unwrap();
    let served = el.run_until_complete(async move {
        let server = get_running_loop().unwrap().create_unix_server(|| Echo, l).await.unwrap();
        server.serve_forever().await.unwrap();
    });
    served.unwrap()
}

fn echo_spin(c: &Cli) {
    let el = EventLoop::builder().spin(Duration::from_micros(SPIN)).build();
    serve_on(el.unwrap(), c, || Echo)
}

struct UdpEcho;
impl DatagramProtocol for UdpEcho {
    fn datagram_received(&mut self, transport: &DatagramHandle, data: &[u8], from: Option<&Address>) {
        transport.sendto(data, from);
    }
}

fn udp(c: &Cli) {
    let s = net::bind_udp(c);
    let el = EventLoop::new().unwrap();
    el.run_until_complete(el.create_datagram_endpoint(|| UdpEcho).sock(s)).unwrap().unwrap();
    el.run_forever();
}

fn http(c: &Cli) {
    serve(c, Http::default)
}

fn accept(c: &Cli) {
    serve(c, || Close)
}

async fn echo_conn(mut s: impl AsyncRead + AsyncWrite + Unpin, buf: usize) {
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

fn echo_unix_streams(c: &Cli) {
    let (l, buf) = (net::listen_unix(c), c.buf);
    roundelay::block_on(async move {
        let l = UnixListener::from_std(l).unwrap();
        loop {
            let (s, _) = l.accept().await.unwrap();
            drop(spawn(echo_conn(s, buf)));
        }
    })
}

/// asyncio's streams: a reader, a writer, and `drain` after each answer.
fn echo_readers(c: &Cli) {
    let (l, buf) = (net::listen_tcp(c), c.buf);
    roundelay::block_on(async move {
        let echo = async move |mut reader: StreamReader, mut writer: StreamWriter| {
            while let Ok(data) = reader.read(buf).await {
                if data.is_empty() {
                    break;
                }
                writer.write_owned(data);
                if writer.drain().await.is_err() {
                    break;
                }
            }
            writer.close();
        };
        let server = start_server(echo, l).await.unwrap();
        server.serve_forever().await.unwrap();
    })
}

fn main() {
    arena::main(vec![
        Peer::new("roundelay").micro::<Roundelay<0>>()
            .serve("echo", echo)
            .serve("tls-echo", echo_tls)
            .serve("echo-unix", echo_unix)
            .serve("udp-echo", udp)
            .serve("accept", accept)
            .serve("http", http),
        Peer::new("roundelay-spin").micro::<Roundelay<SPIN>>().serve("echo", echo_spin),
        Peer::new("roundelay-streams").serve("echo", echo_streams).serve("echo-unix", echo_unix_streams),
        Peer::new("roundelay-readers").serve("echo", echo_readers),
    ])
}

//! The loop's own paths beside tokio's `current_thread` and smol's `LocalExecutor`, measured in one run.
//!
//! `cargo bench --bench compare` runs all; `cargo bench --bench compare -- spawn` those whose names contain `spawn`.
//! Only the ratios within one run mean something: machines differ, and so do their moods.
//!
//! Each group says which path it guards.

use std::cell::Cell;
use std::future::Future;
use std::hint::black_box;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread::Thread;
use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use futures::task::AtomicWaker;
use roundelay::{EventLoop, Protocol, Transport};

/// Operations in one measured run.
const BATCH: u64 = 1000;

fn group<'a>(criterion: &'a mut Criterion, name: &str, operations: u64) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(operations));
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(30);
    group
}

/// A runtime that can do what all of them can.
trait Runtime {
    const NAME: &'static str;
    type Join: Future<Output = u64>;

    fn new() -> Self;
    fn block_on<T>(&self, future: impl Future<Output = T>) -> T;
    fn spawn(future: impl Future<Output = u64> + 'static) -> Self::Join;
    fn yield_now() -> impl Future<Output = ()> + 'static;
    fn sleep(time: Duration) -> impl Future<Output = ()> + 'static;
    /// A listening socket and the task that echoes on its first connection, and a client of it.
    fn echo() -> impl Future<Output = io::Result<impl EchoClient>>;
}

trait EchoClient {
    /// Sends the message and waits until it has come back.
    fn round_trip(&mut self, message: &mut [u8]) -> impl Future<Output = io::Result<()>>;
}

const LOOPBACK: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

struct Roundelay(EventLoop);

struct Joined(roundelay::Task<u64>);

impl Future for Joined {
    type Output = u64;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u64> {
        std::pin::Pin::new(&mut self.0).poll(cx).map(|joined| joined.expect("not cancelled"))
    }
}

struct EchoProtocol;

impl Protocol for EchoProtocol {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        transport.write(data);
    }
}

struct Client<S>(S);

impl<S: futures::AsyncRead + futures::AsyncWrite + Unpin> EchoClient for Client<S> {
    async fn round_trip(&mut self, message: &mut [u8]) -> io::Result<()> {
        use futures::{AsyncReadExt, AsyncWriteExt};
        self.0.write_all(message).await?;
        self.0.read_exact(message).await
    }
}

impl Runtime for Roundelay {
    const NAME: &'static str = "roundelay";
    type Join = Joined;

    fn new() -> Self {
        Self(EventLoop::new().expect("a loop can be made"))
    }
    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.0.run_until_complete(future).expect("nobody stops it")
    }
    fn spawn(future: impl Future<Output = u64> + 'static) -> Joined {
        Joined(roundelay::spawn(future))
    }
    fn yield_now() -> impl Future<Output = ()> + 'static {
        roundelay::yield_now()
    }
    fn sleep(time: Duration) -> impl Future<Output = ()> + 'static {
        roundelay::sleep(time)
    }
    async fn echo() -> io::Result<impl EchoClient> {
        let server = roundelay::get_running_loop()?.create_server(|| EchoProtocol, SocketAddr::from(LOOPBACK)).await?;
        Ok(Client(roundelay::TcpStream::connect(server.local_addrs()[0]).await?))
    }
}

struct Tokio(tokio::runtime::Runtime, tokio::task::LocalSet);

impl Runtime for Tokio {
    const NAME: &'static str = "tokio";
    type Join = futures::future::Map<tokio::task::JoinHandle<u64>, fn(Result<u64, tokio::task::JoinError>) -> u64>;

    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it can be made");
        Self(runtime, tokio::task::LocalSet::new())
    }
    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.1.block_on(&self.0, future)
    }
    fn spawn(future: impl Future<Output = u64> + 'static) -> Self::Join {
        use futures::FutureExt;
        tokio::task::spawn_local(future).map(|joined| joined.expect("not cancelled"))
    }
    fn yield_now() -> impl Future<Output = ()> + 'static {
        tokio::task::yield_now()
    }
    fn sleep(time: Duration) -> impl Future<Output = ()> + 'static {
        // Out of budget, it would be pending without having armed its timer.
        tokio::task::unconstrained(tokio::time::sleep(time))
    }
    async fn echo() -> io::Result<impl EchoClient> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        struct TokioClient(tokio::net::TcpStream);
        impl EchoClient for TokioClient {
            async fn round_trip(&mut self, message: &mut [u8]) -> io::Result<()> {
                self.0.write_all(message).await?;
                self.0.read_exact(message).await.map(|_| ())
            }
        }
        let listener = tokio::net::TcpListener::bind(LOOPBACK).await?;
        let client = tokio::net::TcpStream::connect(listener.local_addr()?).await?;
        client.set_nodelay(true)?;
        tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let mut buffer = vec![0; 64 * 1024];
            loop {
                match stream.read(&mut buffer).await? {
                    0 => return io::Result::Ok(()),
                    n => stream.write_all(&buffer[..n]).await?,
                }
            }
        });
        Ok(TokioClient(client))
    }
}

thread_local! {
    static EXECUTOR: Rc<smol::LocalExecutor<'static>> = Rc::new(smol::LocalExecutor::new());
}

struct Smol;

impl Runtime for Smol {
    const NAME: &'static str = "smol";
    type Join = smol::Task<u64>;

    fn new() -> Self {
        Self
    }
    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        EXECUTOR.with(|executor| smol::block_on(executor.run(future)))
    }
    fn spawn(future: impl Future<Output = u64> + 'static) -> smol::Task<u64> {
        EXECUTOR.with(|executor| executor.spawn(future))
    }
    fn yield_now() -> impl Future<Output = ()> + 'static {
        smol::future::yield_now()
    }
    fn sleep(time: Duration) -> impl Future<Output = ()> + 'static {
        let timer = smol::Timer::after(time);
        async move {
            timer.await;
        }
    }
    async fn echo() -> io::Result<impl EchoClient> {
        use futures::{AsyncReadExt, AsyncWriteExt};
        let listener = smol::Async::<std::net::TcpListener>::bind(LOOPBACK)?;
        let client = smol::Async::<std::net::TcpStream>::connect(listener.get_ref().local_addr()?).await?;
        client.get_ref().set_nodelay(true)?;
        EXECUTOR.with(|executor| {
            executor
                .spawn(async move {
                    let (mut stream, _) = listener.accept().await?;
                    stream.get_ref().set_nodelay(true)?;
                    let mut buffer = vec![0; 64 * 1024];
                    loop {
                        match stream.read(&mut buffer).await? {
                            0 => return io::Result::Ok(()),
                            n => stream.write_all(&buffer[..n]).await?,
                        }
                    }
                })
                .detach();
        });
        Ok(Client(client))
    }
}

/// Guards scheduling and running of callbacks: what a spawned task without a handle is elsewhere.
fn call_soon(criterion: &mut Criterion) {
    let mut group = group(criterion, "call_soon", BATCH);
    let el = EventLoop::new().expect("a loop can be made");
    group.bench_function("roundelay", |bencher| {
        bencher.iter(|| {
            for i in 0..BATCH {
                el.call_soon(move || black_box(i));
            }
            el.run_once(Some(Duration::ZERO))
        });
    });
    // One callback that schedules itself again: one turn of the loop for each.
    group.bench_function("roundelay, a chain", |bencher| {
        fn chain(el: EventLoop, left: u64) {
            match left {
                0 => el.stop(),
                _ => drop(el.clone().call_soon(move || chain(el, left - 1))),
            }
        }
        bencher.iter(|| {
            chain(el.clone(), BATCH);
            el.run_forever();
        });
    });
    fn detached<R: Runtime>(group: &mut BenchmarkGroup<'_, WallTime>, detach: fn(R::Join)) {
        let runtime = R::new();
        group.bench_function(R::NAME, |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let done = Rc::new(Cell::new(0));
                    for i in 0..BATCH {
                        let done = done.clone();
                        detach(R::spawn(async move {
                            done.set(done.get() + 1);
                            black_box(i)
                        }));
                    }
                    while done.get() < BATCH {
                        R::yield_now().await;
                    }
                });
            });
        });
    }
    detached::<Tokio>(&mut group, drop);
    detached::<Smol>(&mut group, smol::Task::detach);
}

/// Guards arming and disarming of timers while ten thousand others are alive.
fn timers(criterion: &mut Criterion) {
    let mut group = group(criterion, "call_later and cancel", BATCH);
    let el = EventLoop::new().expect("a loop can be made");
    let delay = |i: u64| Duration::from_millis(10_000 + (i * 7919) % 50_000);
    let alive: Vec<_> = (0..10_000).map(|i| el.call_later(delay(i), || ())).collect();
    group.bench_function("roundelay", |bencher| {
        bencher.iter(|| {
            for i in 0..BATCH {
                el.call_later(delay(i), || ()).cancel();
            }
        });
    });
    drop(alive);
    fn sleeps<R: Runtime>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str) {
        let runtime = R::new();
        let delay = |i: u64| Duration::from_millis(10_000 + (i * 7919) % 50_000);
        group.bench_function(name, |bencher| {
            runtime.block_on(async {
                let mut alive = Vec::new();
                for i in 0..10_000 {
                    let mut sleep = Box::pin(R::sleep(delay(i)));
                    assert!(futures::poll!(&mut sleep).is_pending());
                    alive.push(sleep);
                    if i % 64 == 63 {
                        R::yield_now().await;
                    }
                }
                let mut cx = Context::from_waker(Waker::noop());
                bencher.iter(|| {
                    for i in 0..BATCH {
                        let sleep = std::pin::pin!(R::sleep(delay(i)));
                        assert!(black_box(sleep.poll(&mut cx)).is_pending());
                    }
                });
            });
        });
    }
    sleeps::<Roundelay>(&mut group, "roundelay, sleep polled once");
    sleeps::<Tokio>(&mut group, "tokio, sleep polled once");
    sleeps::<Smol>(&mut group, "smol, sleep polled once");
}

/// Guards making a task, its first poll, and the delivery of its output.
fn spawn_join(criterion: &mut Criterion) {
    let mut group = group(criterion, "spawn and join", BATCH);
    fn run<R: Runtime>(group: &mut BenchmarkGroup<'_, WallTime>) {
        let runtime = R::new();
        group.bench_function(R::NAME, |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let tasks: Vec<_> = (0..BATCH).map(|i| R::spawn(async move { black_box(i) })).collect();
                    let mut sum = 0;
                    for task in tasks {
                        sum += task.await;
                    }
                    sum
                })
            });
        });
    }
    run::<Roundelay>(&mut group);
    run::<Tokio>(&mut group);
    run::<Smol>(&mut group);
}

/// Guards waking a task from its own poll, the ready queue, and the turn.
fn yields(criterion: &mut Criterion) {
    const TASKS: u64 = 100;
    let mut group = group(criterion, "yield", BATCH);
    fn run<R: Runtime>(group: &mut BenchmarkGroup<'_, WallTime>) {
        let runtime = R::new();
        group.bench_function(R::NAME, |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let body = || async {
                        for _ in 0..BATCH / TASKS {
                            R::yield_now().await;
                        }
                        0
                    };
                    let tasks: Vec<_> = (0..TASKS).map(|_| R::spawn(body())).collect();
                    for task in tasks {
                        task.await;
                    }
                });
            });
        });
    }
    run::<Roundelay>(&mut group);
    run::<Tokio>(&mut group);
    run::<Smol>(&mut group);
}

/// What the two sides of `cross_thread_wake` share.
struct Table {
    asked: AtomicU64,
    answered: AtomicU64,
    waker: AtomicWaker,
}

/// Guards the inject queue and the notifier: a round trip between the loop's thread and one that is parked.
fn cross_thread_wake(criterion: &mut Criterion) {
    const TRIPS: u64 = 100;
    let mut group = group(criterion, "cross-thread wake", TRIPS);
    fn run<R: Runtime>(group: &mut BenchmarkGroup<'_, WallTime>) {
        let runtime = R::new();
        let table =
            Arc::new(Table { asked: AtomicU64::new(0), answered: AtomicU64::new(0), waker: AtomicWaker::new() });
        let other = table.clone();
        let thread = std::thread::spawn(move || {
            for trip in 1.. {
                while other.asked.load(Ordering::Acquire) < trip {
                    std::thread::park();
                }
                if other.asked.load(Ordering::Acquire) == u64::MAX {
                    return;
                }
                other.answered.store(trip, Ordering::Release);
                other.waker.wake();
            }
        });
        async fn trip(table: &Table, thread: &Thread, number: u64) {
            table.asked.store(number, Ordering::Release);
            thread.unpark();
            std::future::poll_fn(|cx| {
                table.waker.register(cx.waker());
                if table.answered.load(Ordering::Acquire) >= number { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
        let mut number = 0;
        group.bench_function(R::NAME, |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    for _ in 0..TRIPS {
                        number += 1;
                        trip(&table, thread.thread(), number).await;
                    }
                });
            });
        });
        table.asked.store(u64::MAX, Ordering::Release);
        thread.thread().unpark();
        thread.join().expect("it does not panic");
    }
    run::<Roundelay>(&mut group);
    run::<Tokio>(&mut group);
    run::<Smol>(&mut group);
}

/// Guards the turn itself: one in which nothing happens, which costs one system call.
fn reactor_turn(criterion: &mut Criterion) {
    let mut group = group(criterion, "one reactor turn", 1);
    let el = EventLoop::new().expect("a loop can be made");
    group.bench_function("roundelay, epoll", |bencher| bencher.iter(|| el.run_once(Some(Duration::ZERO))));
    let selector = roundelay::selector::Polling::new().expect("a selector can be made");
    let el = EventLoop::builder().selector(selector).build().expect("a loop can be made");
    group.bench_function("roundelay, polling", |bencher| bencher.iter(|| el.run_once(Some(Duration::ZERO))));
}

/// Guards the path of a request: selector, transport (or stream), protocol (or task), and back. Client and server share
/// the loop.
fn echo(criterion: &mut Criterion) {
    const TRIPS: u64 = 20;
    let mut group = group(criterion, "echo of 64 bytes", TRIPS);
    fn run<R: Runtime>(group: &mut BenchmarkGroup<'_, WallTime>) {
        let runtime = R::new();
        let mut client = runtime.block_on(R::echo()).expect("loopback works");
        group.bench_function(R::NAME, |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let mut message = [7; 64];
                    for _ in 0..TRIPS {
                        client.round_trip(&mut message).await.expect("the other side is there");
                    }
                });
            });
        });
    }
    run::<Roundelay>(&mut group);
    run::<Tokio>(&mut group);
    run::<Smol>(&mut group);
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for group in [call_soon, timers, spawn_join, yields, cross_thread_wake, reactor_turn, echo] {
        group(&mut criterion);
    }
    criterion.final_summary();
}

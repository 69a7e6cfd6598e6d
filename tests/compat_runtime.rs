//! hyper's timer and executor, futures' spawners, and what stays on its thread though a library demands `Send`.
#![cfg(feature = "hyper")]

mod common;
#[path = "common/threads.rs"]
mod threads;

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    CountingWaker, DropCounter, complete, finish, on_loop, on_manual_clock, run_alone, run_until, settle, take_reports,
};
use futures::channel::oneshot;
use futures::io::{AsyncReadExt, AsyncWriteExt};
use futures::task::{LocalSpawn, LocalSpawnExt, Spawn, SpawnExt};
use futures::{SinkExt, Stream, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::rt::{Executor, Sleep, Timer};
use hyper::service::service_fn;
use hyper::{Request, Response};
use roundelay::compat::{HyperExecutor, HyperTimer, ThreadBound};
use roundelay::{EventLoop, ManualClock, TcpListener, TcpStream};
use threads::panic_text;

type Sleeping = Pin<Box<dyn Sleep>>;

const SECOND: Duration = Duration::from_secs(1);

fn poll(sleep: &mut Sleeping, waker: &Waker) -> Poll<()> {
    sleep.as_mut().poll(&mut Context::from_waker(waker))
}

fn live_timers(el: &EventLoop) -> u64 {
    el.metrics().timers
}

/// Sleeps end when the loop's clock shows it, no earlier, and `now` is what it shows.
#[test]
fn the_time_is_the_loops() {
    on_manual_clock(|el, clock| {
        let done = Rc::new(Cell::new(0));
        let (start, first) = complete(el, async { (HyperTimer.now(), HyperTimer.sleep(SECOND)) });
        assert_eq!(start, el.time());
        for sleep in [
            first,
            HyperTimer.sleep_until(start + 2 * SECOND),
            // Nobody knows when this is to end before a loop runs.
            HyperTimer.sleep(3 * SECOND),
        ] {
            let done = done.clone();
            drop(el.create_task(async move {
                sleep.await;
                done.set(done.get() + 1);
            }));
        }
        for seconds in 1..=3 {
            settle(el);
            assert_eq!(done.get(), seconds - 1);
            clock.advance(SECOND - Duration::from_millis(1));
            settle(el);
            assert_eq!(done.get(), seconds - 1);
            clock.advance(Duration::from_millis(1));
            settle(el);
            assert_eq!(done.get(), seconds);
        }
    });
}

/// Moving a sleep, armed or not, earlier or later, over or not; whoever waits for it need not poll again. Another type's
/// sleep is replaced.
#[test]
fn moving() {
    on_manual_clock(|el, clock| {
        let start = el.time();
        let (counter, waker) = CountingWaker::new();
        let mut sleep = HyperTimer.sleep_until(start + SECOND);
        HyperTimer.reset(&mut sleep, start + 2 * SECOND);
        complete(el, async {
            assert!(poll(&mut sleep, &waker).is_pending());
            HyperTimer.reset(&mut sleep, start + 4 * SECOND);
        });
        assert_eq!(live_timers(el), 1);
        clock.advance(3 * SECOND);
        settle(el);
        assert_eq!(counter.count(), 0);
        complete(el, async { HyperTimer.reset(&mut sleep, start + 3 * SECOND) });
        settle(el);
        assert_eq!((counter.count(), live_timers(el)), (1, 0));
        complete(el, async {
            assert!(poll(&mut sleep, &waker).is_ready());
            HyperTimer.reset(&mut sleep, start + 5 * SECOND);
            assert!(poll(&mut sleep, &waker).is_pending());
        });
        // Also from outside of the loop: then it is armed anew by the next poll.
        HyperTimer.reset(&mut sleep, start + 4 * SECOND);
        assert_eq!(live_timers(el), 0);
        complete(el, async { assert!(poll(&mut sleep, &waker).is_pending()) });
        clock.advance(SECOND);
        settle(el);
        complete(el, async { assert!(poll(&mut sleep, &waker).is_ready()) });

        struct Other;
        impl Future for Other {
            type Output = ();
            fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
                Poll::Pending
            }
        }
        impl Sleep for Other {}
        let mut other: Sleeping = Box::pin(Other);
        complete(el, async {
            HyperTimer.reset(&mut other, el.time());
            other.await;
        });
    });
}

/// A sleep may be dropped on any thread, before and after its loop is closed: its timer is disarmed all the same.
#[test]
fn dropping_anywhere() {
    on_loop(|el| {
        let armed = || {
            let mut sleep = HyperTimer.sleep_until(el.time() + 1000 * SECOND);
            complete(el, async { assert!(poll(&mut sleep, Waker::noop()).is_pending()) });
            sleep
        };
        let (here, there, late, later) = (armed(), armed(), armed(), armed());
        assert_eq!(live_timers(el), 4);
        drop(here);
        assert_eq!(live_timers(el), 3);
        thread::spawn(move || drop(there)).join().unwrap();
        run_until(el, || live_timers(el) == 2);
        el.close();
        thread::spawn(move || drop(late)).join().unwrap();
        drop(later);
    });
}

/// Polled by another loop, also one of another thread, it waits there for the same moment.
#[test]
fn another_loop() {
    let _alone = common::alone();
    let clock = ManualClock::new();
    let builder = || EventLoop::builder().clock(clock.clone());
    run_alone(builder, |el| {
        let (early, waker) = CountingWaker::new();
        let start = el.time();
        let mut sleep = HyperTimer.sleep_until(start + SECOND);
        complete(el, async { assert!(poll(&mut sleep, &waker).is_pending()) });
        let (sender, receiver) = mpsc::channel();
        let other_clock = clock.clone();
        let thread = thread::spawn(move || {
            let other = EventLoop::builder().clock(other_clock.clone()).build().unwrap();
            let mut turns = 0;
            other
                .run_until_complete(std::future::poll_fn(|cx| {
                    turns += 1;
                    let polled = sleep.as_mut().poll(cx);
                    if turns == 1 {
                        assert!(polled.is_pending());
                        assert_eq!(other.metrics().timers, 1);
                        other_clock.advance(SECOND);
                        cx.waker().wake_by_ref();
                    }
                    polled
                }))
                .unwrap();
            other.close();
            sender.send(turns).unwrap();
            sleep
        });
        assert!(receiver.recv().unwrap() >= 2);
        let sleep = thread.join().unwrap();
        settle(el);
        // Here it is due, too, unless the word of its being disarmed was first.
        assert!(early.count() <= 1);
        assert_eq!(live_timers(el), 0);
        drop(sleep);
    });
}

/// Outside of a loop polling and executing panic, and say what was called.
#[test]
fn outside_of_a_loop() {
    let mut sleep = HyperTimer.sleep(SECOND);
    let text = panic_text(|| _ = poll(&mut sleep, Waker::noop()));
    assert!(text.contains("HyperTimer") && text.contains("outside of a running roundelay event loop"), "{text}");
    let text = panic_text(|| HyperExecutor.execute(async {}));
    assert!(text.contains("compat::HyperExecutor::execute() was called outside of a running event loop"), "{text}");
    assert!(HyperTimer.now() <= Instant::now());
}

/// What is executed is a task of the running loop's; it need not be `Send`, and its panic is reported.
#[test]
fn executing() {
    on_loop(|el| {
        let count = Rc::new(Cell::new(0));
        let (counted, dropped) = (count.clone(), DropCounter::new());
        let guard = dropped.guard();
        complete(el, async {
            HyperExecutor.execute(async move {
                roundelay::yield_now().await;
                counted.set(counted.get() + 1);
            });
            HyperExecutor.execute(async { panic!("in a stream of its own") });
            HyperExecutor.execute(async move {
                let _guard = guard;
                std::future::pending::<()>().await
            });
        });
        run_until(el, || count.get() == 1);
        let reports = take_reports();
        assert!(reports.len() == 1 && reports[0].contains("in a stream of its own"), "{reports:?}");
        assert_eq!(el.stats().tasks.live(), 1);
        el.close();
        assert_eq!(dropped.count(), 1);
    });
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map_or_else(|_| Bytes::new(), |body| body.to_bytes());
    Ok(Response::new(Full::new(body)))
}

/// hyper's server and client over one stream: bodies of all sizes, on a kept connection.
#[test]
fn hyper_on_both_ends() {
    on_loop(|el| {
        complete(el, async {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (server, _) = listener.accept().await.unwrap();
            let server = roundelay::spawn(
                hyper::server::conn::http1::Builder::new().timer(HyperTimer).serve_connection(server, service_fn(echo)),
            );
            let (mut sender, connection) = hyper::client::conn::http1::handshake(client).await.unwrap();
            let client = roundelay::spawn(connection);
            for size in [0, 1, 10_000, 3_000_000] {
                let body = Bytes::from(vec![b'x'; size]);
                let request = Request::post("/").header("host", "here").body(Full::new(body.clone())).unwrap();
                let response = sender.send_request(request).await.unwrap();
                let echoed = response.into_body().collect().await.unwrap().to_bytes();
                assert!(echoed == body, "{size}");
            }
            drop(sender);
            client.await.unwrap().unwrap();
            server.await.unwrap().unwrap();
        });
    });
}

/// hyper's own limit for a request's header works with the timer: by the loop's clock, and anew for each request.
#[test]
fn a_header_that_does_not_come() {
    on_manual_clock(|el, clock| {
        let (mut client, server) = complete_now(el, async {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            (client, listener.accept().await.unwrap().0)
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(HyperTimer).header_read_timeout(5 * SECOND);
        let serving = el.create_task(builder.serve_connection(server, service_fn(echo)));
        let client = el.create_task(async move {
            let mut buffer = [0; 1000];
            client.write_all(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n").await.unwrap();
            let n = client.read(&mut buffer).await.unwrap();
            assert!(buffer[..n].starts_with(b"HTTP/1.1 200"));
            client.write_all(b"GET / HTTP/1.1\r\nho").await.unwrap();
            client
        });
        let client = finish(el, client).unwrap();
        run_until(el, || live_timers(el) == 1);
        clock.advance(5 * SECOND - Duration::from_millis(1));
        settle(el);
        assert!(!serving.is_done());
        clock.advance(Duration::from_millis(1));
        let error = finish(el, serving).unwrap().unwrap_err();
        assert!(error.is_timeout(), "{error:?}");
        drop(client);
    });
}

/// As `complete`, where the clock stands still.
fn complete_now<T: 'static>(el: &EventLoop, future: impl Future<Output = T> + 'static) -> T {
    let task = el.create_task(future);
    finish(el, task).unwrap()
}

/// Tasks by futures' traits: from the loop, from another thread; with what they give, and with their panics.
#[test]
fn spawning() {
    on_loop(|el| {
        let log = Rc::new(RefCell::new(Vec::new()));
        let of_task = log.clone();
        el.status_local().unwrap();
        Spawn::status(el).unwrap();
        el.spawn_local(async move { of_task.borrow_mut().push("local") }).unwrap();
        let handle = el.spawn_local_with_handle(async { Rc::new(1) }).unwrap();
        let sent = el.spawn_with_handle(async { 2 }).unwrap();
        let remote = el.remote();
        let (sender, far) = oneshot::channel();
        thread::spawn(move || {
            remote.status().unwrap();
            SpawnExt::spawn(&remote, async {}).unwrap();
            sender.send(remote.spawn_with_handle(async { roundelay::get_running_loop().unwrap().id() }).unwrap())
        });
        complete(el, async {
            assert_eq!((*handle.await, sent.await), (1, 2));
            assert_eq!(far.await.unwrap().await, el.id());
        });
        assert_eq!(*log.borrow(), ["local"]);
        el.spawn_local(async { panic!("one that nobody holds") }).unwrap();
        SpawnExt::spawn(&el.remote(), async { panic!("and a posted one") }).unwrap();
        run_until(el, || el.stats().tasks.live() == 0 && el.stats().tasks.opened > 6);
        let reports = take_reports().join("\n");
        assert!(reports.contains("one that nobody holds") && reports.contains("and a posted one"), "{reports}");
    });
}

/// A closed loop says that it is, and what it does not take is dropped.
#[test]
fn spawning_on_a_closed_loop() {
    on_loop(|el| {
        let remote = el.remote();
        let dropped = DropCounter::new();
        let guard = dropped.guard();
        el.close();
        assert!(el.status_local().unwrap_err().is_shutdown() && Spawn::status(el).unwrap_err().is_shutdown());
        assert!(el.spawn_local(async move { drop(guard) }).unwrap_err().is_shutdown());
        assert!(el.spawn_with_handle(async {}).err().unwrap().is_shutdown());
        assert!(remote.status().unwrap_err().is_shutdown());
        assert!(SpawnExt::spawn(&remote, async {}).unwrap_err().is_shutdown());
        assert_eq!(dropped.count(), 1);
        thread::spawn(move || {
            assert!(remote.status().unwrap_err().is_shutdown());
            assert!(SpawnExt::spawn(&remote, async {}).unwrap_err().is_shutdown());
        })
        .join()
        .unwrap();
    });
}

fn demands_send<T: Send + 'static>(value: T) -> T {
    value
}

/// On its thread it is what is in it: a future, a stream, a sink, a value.
#[test]
fn bound_and_here() {
    on_loop(|el| {
        complete(el, async {
            let local = Rc::new(5);
            let held = local.clone();
            let future = demands_send(ThreadBound::new(async move {
                roundelay::yield_now().await;
                *held
            }));
            assert!(future.is_here());
            assert_eq!(roundelay::spawn(future).await.unwrap(), 5);
            let numbers = futures::stream::iter([Rc::new(1), Rc::new(2)]);
            let numbers = demands_send(ThreadBound::new(numbers));
            assert_eq!(numbers.size_hint(), (2, Some(2)));
            assert_eq!(numbers.map(|number| *number).collect::<Vec<i32>>().await, [1, 2]);
            let mut sink = demands_send(ThreadBound::new(Vec::<Rc<i32>>::new()));
            sink.send(local.clone()).await.unwrap();
            sink.push(local.clone());
            sink.close().await.unwrap();
            assert_eq!(format!("{:?}", sink.clone()), "ThreadBound([5, 5])");
            assert_eq!(sink.into_inner().len(), 2);
        });
    });
}

/// Elsewhere it can be moved and printed; whatever else is done panics, and says so, and so does dropping what must not be
/// dropped there.
#[test]
fn bound_and_elsewhere() {
    let bound = |future| demands_send(ThreadBound::new(future));
    let said = |f: Box<dyn FnOnce() + Send>| thread::spawn(move || panic_text(f)).join().unwrap();
    let of_another = "on another thread than the one on which it was made";
    let mut polled = bound(Box::pin(std::future::ready(())));
    let text = said(Box::new(move || _ = Pin::new(&mut polled).poll(&mut Context::from_waker(Waker::noop()))));
    assert!(text.contains("polled") && text.contains(of_another), "{text}");

    let used = ThreadBound::new(7);
    let text = said(Box::new(move || {
        assert!(!used.is_here() && format!("{used:?}").contains("another thread"));
        assert_eq!(*used, 7);
    }));
    assert!(text.contains("used") && text.contains(of_another), "{text}");

    let opened = ThreadBound::new(7);
    let text = said(Box::new(move || _ = opened.into_inner()));
    assert!(text.contains("opened") && text.contains(of_another), "{text}");

    // What is leaked owns no memory.
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    struct Counts;
    impl Drop for Counts {
        fn drop(&mut self) {
            DROPS.fetch_add(1, Ordering::Relaxed);
        }
    }
    let dropped = ThreadBound::new(Counts);
    let text = said(Box::new(move || drop(dropped)));
    assert!(text.contains("Dropped") && text.contains("different to the one"), "{text}");
    assert_eq!(DROPS.load(Ordering::Relaxed), 0);
    drop(ThreadBound::new(Counts));
    assert_eq!(DROPS.load(Ordering::Relaxed), 1);
}

/// A library's task that must be `Send`, with a stream of ours in it.
#[test]
fn a_stream_that_must_be_sent() {
    on_loop(|el| {
        async fn driver<S>(mut stream: S) -> io::Result<Vec<u8>>
        where
            S: futures::AsyncRead + futures::AsyncWrite + Send + Unpin + 'static,
        {
            stream.write_all(b"question").await?;
            stream.close().await?;
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await?;
            Ok(all)
        }
        complete(el, async {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let driver = roundelay::spawn(demands_send(driver(ThreadBound::new(client))));
            let (mut server, _) = listener.accept().await.unwrap();
            let mut question = String::new();
            server.read_to_string(&mut question).await.unwrap();
            assert_eq!(question, "question");
            server.write_all(b"answer").await.unwrap();
            drop(server);
            assert_eq!(driver.await.unwrap().unwrap(), b"answer");
        });
    });
}

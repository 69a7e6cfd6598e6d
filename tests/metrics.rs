//! What is counted of a loop: exactly, of each kind, and readable on every thread.

mod common;

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::{PATIENCE, complete, on_loop, on_manual_clock, run_on, settle};
use futures::io::{AsyncReadExt, AsyncWriteExt};
use roundelay::selector::{Epoll, Event, Selector};
use roundelay::{EventLoop, ManualClock, Metrics, Protocol, TcpListener, TcpStream, Transport, UdpSocket};

const ZERO: Option<Duration> = Some(Duration::ZERO);
const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// A selector in which each sleep takes five seconds, by the clock that the test turns.
struct Slow(Epoll, ManualClock);

impl Selector for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        if timeout != ZERO {
            self.1.advance(5 * SECOND);
        }
        self.0.wait(ZERO, events)
    }

    left_to_the_inner_one! { supports_edge add modify delete notifier backend_fd }
}

fn on_slow_selector(body: impl FnOnce(&EventLoop, &ManualClock)) {
    let clock = ManualClock::new();
    let given = clock.clone();
    let builder = || EventLoop::builder().clock(given.clone()).selector(Slow(Epoll::new().unwrap(), given));
    run_on(builder, |el| body(el, &clock));
}

fn times(metrics: &Metrics) -> [Duration; 3] {
    [metrics.uptime, metrics.idle, metrics.busy]
}

/// Everything that runs is counted once, by its kind; what was cancelled is not.
#[test]
fn each_kind_of_work_is_counted() {
    on_manual_clock(|el, clock| {
        assert_eq!(el.metrics().turns, 0);
        el.call_soon(|| ());
        el.call_soon(|| ());
        el.call_soon(|| ()).cancel();
        let task = el.create_task(async {
            roundelay::yield_now().await;
            roundelay::yield_now().await;
        });
        el.call_later(SECOND, || ());
        let sleeper = el.create_task(roundelay::sleep(SECOND));
        assert_eq!((el.metrics().ready, el.metrics().timers, el.metrics().handles), (5, 1, 2));
        for _ in 0..3 {
            el.run_once(ZERO).unwrap();
        }
        let done = el.metrics();
        assert_eq!((done.turns, done.callbacks, done.polls, done.spawned, done.tasks), (3, 2, 4, 2, 1));
        assert_eq!((done.timers_fired, done.timers, done.handles, done.longest_ready), (0, 2, 0, 5));
        assert!(task.is_done());

        clock.advance(SECOND);
        el.run_once(ZERO).unwrap();
        let since = el.metrics().since(&done);
        assert_eq!((since.turns, since.callbacks, since.polls, since.timers_fired), (1, 1, 1, 2));
        assert_eq!((since.tasks, since.timers, since.ready), (0, 0, 0));
        drop(sleeper);
        assert_eq!(el.metrics().turns, el.stats().turns);
        assert_eq!(el.metrics().waits, el.stats().waits);
    });
}

/// A timer that fires, a done callback, a post and the future of `run_until_complete` count as what they are.
#[test]
fn roots_done_callbacks_and_posts_are_counted() {
    on_loop(|el| {
        let before = el.metrics();
        let task = el.create_task(async {});
        task.add_done_callback(|_| ());
        complete(el, async {
            task.await.unwrap();
            roundelay::yield_now().await;
        });
        let since = el.metrics().since(&before);
        // One poll of the task, and two of the root.
        assert_eq!((since.callbacks, since.spawned, since.polls, since.posts), (1, 1, 3, 0));

        let remote = el.remote();
        let thread = std::thread::spawn(move || {
            remote.post(|| ()).unwrap();
            drop(remote.call_soon_threadsafe(|| ()).unwrap());
        });
        thread.join().unwrap();
        assert_eq!(el.metrics().ready, 2);
        let before = el.metrics();
        settle(el);
        let since = el.metrics().since(&before);
        assert_eq!((since.posts, since.callbacks), (2, 2));
    });
}

/// LU-07: the time asleep in the selector is idle, the time of callbacks is busy, and both are the whole uptime.
#[test]
fn idle_and_busy_are_told_apart() {
    on_slow_selector(|el, clock| {
        clock.advance(SECOND);
        // Before the first run it is neither.
        assert_eq!(times(&el.metrics()), [SECOND, Duration::ZERO, Duration::ZERO]);
        let hand = clock.clone();
        el.call_soon(move || hand.advance(3 * SECOND));
        el.run_once(ZERO).unwrap();
        assert_eq!(times(&el.metrics()), [4 * SECOND, Duration::ZERO, 3 * SECOND]);
        el.run_once(None).unwrap();
        assert_eq!(times(&el.metrics()), [9 * SECOND, 5 * SECOND, 3 * SECOND]);
        // Without a host, what the program does between two turns keeps the loop from turning.
        clock.advance(SECOND);
        el.run_once(None).unwrap();
        let now = el.metrics();
        assert_eq!(times(&now), [15 * SECOND, 10 * SECOND, 4 * SECOND]);
        assert!((now.busy_share() - 4.0 / 14.0).abs() < 1e-9);
        assert_eq!(now.lag.max(), 3 * SECOND);
    });
}

/// Between runs of `run_until_complete` a loop is neither idle nor busy.
#[test]
fn time_between_runs_does_not_count() {
    on_slow_selector(|el, clock| {
        let hand = clock.clone();
        let sleep = |el: &EventLoop| {
            let (hand, handle) = (hand.clone(), el.clone());
            el.run_until_complete(async move {
                roundelay::sleep(SECOND).await;
                handle.call_soon(move || hand.advance(2 * SECOND));
            })
            .unwrap();
        };
        sleep(el);
        let first = el.metrics();
        assert_eq!(times(&first), [7 * SECOND, 5 * SECOND, 2 * SECOND]);
        clock.advance(100 * SECOND);
        sleep(el);
        assert_eq!(times(&el.metrics()), [114 * SECOND, 10 * SECOND, 4 * SECOND]);
        assert_eq!(el.metrics().lag.max(), 2 * SECOND);
    });
}

/// Nor is one that a foreign loop hosts, while that has it wait.
#[test]
fn a_hosted_loop_is_busy_within_its_turns() {
    on_manual_clock(|el, clock| {
        let _ = el.as_fd();
        let hand = clock.clone();
        el.call_soon(move || hand.advance(SECOND));
        el.run_once(ZERO).unwrap();
        clock.advance(50 * SECOND);
        let hand = clock.clone();
        el.call_soon(move || hand.advance(2 * SECOND));
        el.run_once(ZERO).unwrap();
        clock.advance(50 * SECOND);
        assert_eq!(times(&el.metrics()), [103 * SECOND, Duration::ZERO, 3 * SECOND]);
        assert_eq!(el.metrics().lag.max(), 2 * SECOND);
        assert_eq!(el.metrics().blocked, Duration::ZERO);
    });
}

/// What ran between two looks at the selector is how long an event could have waited.
#[test]
fn lag_is_the_time_between_two_looks() {
    on_slow_selector(|el, clock| {
        el.run_once(None).unwrap();
        let before = el.metrics();
        for (milliseconds, times) in [(1, 98), (100, 2)] {
            for _ in 0..times {
                let hand = clock.clone();
                el.call_soon(move || hand.advance(milliseconds * MILLISECOND));
                el.run_once(ZERO).unwrap();
            }
        }
        el.run_once(ZERO).unwrap();
        let lag = el.metrics().since(&before).lag;
        // The selector is the application's: it is asked at least once in 250 microseconds.
        assert_eq!(lag.count(), 101, "{lag:?}");
        assert_eq!(lag.max(), 100 * MILLISECOND);
        let median = lag.percentile(50.0);
        assert!(median >= MILLISECOND && median < 2 * MILLISECOND, "{median:?}");
        assert_eq!(lag.percentile(99.0), 100 * MILLISECOND);
        assert_eq!(lag.percentile(100.0), lag.max());
        let buckets: Vec<_> = lag.buckets().map(|(least, most, count)| (least..=most, count)).collect();
        assert!(buckets.iter().any(|(range, count)| range.contains(&MILLISECOND) && *count == 98), "{buckets:?}");
        assert!(buckets.iter().any(|(range, count)| range.contains(&(100 * MILLISECOND)) && *count == 2));
    });
}

/// A timer that a callback has held up is late by so much; the latest of a turn counts.
#[test]
fn timers_are_late() {
    on_manual_clock(|el, clock| {
        for milliseconds in [10, 20] {
            el.call_later(milliseconds * MILLISECOND, || ());
        }
        let hand = clock.clone();
        el.call_soon(move || hand.advance(SECOND));
        el.run_once(ZERO).unwrap();
        assert_eq!(el.metrics().lateness.count(), 0);
        el.run_once(ZERO).unwrap();
        let late = el.metrics().lateness;
        assert_eq!((late.count(), late.max()), (1, 990 * MILLISECOND));
        // One that is due in time is late by nothing.
        el.call_later(SECOND, || ());
        clock.advance(SECOND);
        el.run_once(ZERO).unwrap();
        let late = el.metrics().lateness;
        assert_eq!((late.count(), late.percentile(50.0)), (2, Duration::from_nanos(1)));
    });
}

/// LU-07: another thread reads the same, also while a callback blocks the loop, and sees for how long.
#[test]
fn another_thread_sees_a_blocked_loop() {
    on_loop(|el| {
        let remote = el.remote();
        let (begun, begin) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            begin.recv_timeout(PATIENCE).unwrap();
            let first = remote.metrics();
            let deadline = Instant::now() + PATIENCE;
            while remote.metrics().blocked <= first.blocked {
                assert!(Instant::now() < deadline, "it is not blocked");
                std::thread::yield_now();
            }
            let second = remote.metrics();
            assert_eq!((first.turns, first.callbacks, first.ready), (1, 1, 1));
            assert_eq!((second.turns, second.idle), (first.turns, first.idle));
            assert!(second.busy > first.busy && second.uptime > first.uptime);
            end.send(()).unwrap();
        });
        el.call_soon(move || {
            begun.send(()).unwrap();
            ended.recv_timeout(PATIENCE).unwrap();
        });
        el.run_once(ZERO).unwrap();
        thread.join().unwrap();
    });
}

/// Another thread sees a sleeping loop idle, and never a sum that goes back.
#[test]
fn another_thread_sees_a_sleeping_loop() {
    on_loop(|el| {
        let remote = el.remote();
        let thread = std::thread::spawn(move || {
            let deadline = Instant::now() + PATIENCE;
            let mut before = remote.metrics();
            let begun = before.idle;
            // It sleeps: time passes, and all of it is idle.
            while before.idle <= begun || before.idle < 5 * MILLISECOND {
                assert!(Instant::now() < deadline, "it does not sleep");
                let now = remote.metrics();
                assert!(now.idle >= before.idle && now.busy + 5 * SECOND > before.busy);
                before = now;
            }
            assert_eq!(before.blocked, Duration::ZERO);
            remote.stop().unwrap();
        });
        el.run_forever();
        thread.join().unwrap();
        let metrics = el.metrics();
        assert!(metrics.idle >= 5 * MILLISECOND);
        assert!(metrics.idle + metrics.busy <= metrics.uptime);
    });
}

/// A clock of the application's is read on the loop's thread alone: others see what it showed at the latest look.
#[test]
fn another_thread_does_not_read_the_clock() {
    on_manual_clock(|el, clock| {
        clock.advance(SECOND);
        el.run_once(ZERO).unwrap();
        clock.advance(SECOND);
        let remote = el.remote();
        assert_eq!(remote.metrics().uptime, SECOND);
        assert_eq!(std::thread::spawn(move || remote.metrics().uptime).join().unwrap(), SECOND);
        assert_eq!(el.metrics().uptime, 2 * SECOND);
    });
}

/// After its end a loop has nothing, and no time passes.
#[test]
fn a_closed_loop_stands_still() {
    on_manual_clock(|el, clock| {
        let remote = el.remote();
        let task = el.create_task(std::future::pending::<()>());
        el.call_later(SECOND, || ());
        el.run_once(ZERO).unwrap();
        clock.advance(SECOND);
        el.close();
        clock.advance(SECOND);
        for metrics in [el.metrics(), remote.metrics()] {
            assert_eq!(times(&metrics), [SECOND, Duration::ZERO, SECOND]);
            assert_eq!((metrics.tasks, metrics.handles, metrics.spawned), (0, 0, 1));
        }
        assert_eq!((el.metrics().timers, el.metrics().descriptors), (0, 0));
        drop(task);
    });
}

/// The JSON has all of it, in whole nanoseconds.
#[test]
fn metrics_as_json() {
    on_manual_clock(|el, clock| {
        let hand = clock.clone();
        el.call_soon(move || hand.advance(SECOND));
        el.run_once(ZERO).unwrap();
        el.run_once(ZERO).unwrap();
        let metrics = el.metrics();
        let json: serde_json::Value = serde_json::from_str(&metrics.to_json()).unwrap();
        assert_eq!(json["turns"], 2);
        assert_eq!(json["callbacks"], 1);
        assert_eq!(json["uptime_ns"], 1_000_000_000);
        assert_eq!(json["busy_ns"], 1_000_000_000);
        assert_eq!(json["idle_ns"], 0);
        assert_eq!(json["lateness"]["buckets"], serde_json::json!([]));
        let lag = &json["lag"];
        assert_eq!(lag["count"], metrics.lag.count());
        let sum: u64 = lag["buckets"].as_array().unwrap().iter().map(|bucket| bucket[1].as_u64().unwrap()).sum();
        assert_eq!(sum, metrics.lag.count());
        let debug = format!("{metrics:?}");
        assert!(debug.contains("lag: Histogram { count: "), "{debug}");
    });
}

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        transport.write(data);
    }
}

on_every_loop! {
    /// Bytes are counted where they cross the border of the process, of transports, streams, datagrams and `sock_*`.
    fn bytes_are_counted(el) {
        let before = el.metrics();
        complete(el, async {
            let server = el.create_server(|| Echo, ("127.0.0.1", 0)).await.unwrap();
            let mut stream = TcpStream::connect(server.local_addrs()[0]).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            stream.read_exact(&mut [0; 5]).await.unwrap();
            server.close();
            drop(stream);
        });
        let done = el.metrics().since(&before);
        // The stream and the transport, each in both directions.
        assert_eq!((done.bytes_in, done.bytes_out), (10, 10));
        assert!(done.events >= 2, "{}", done.events);

        let before = el.metrics();
        complete(el, async {
            let (one, other) = (udp().await, udp().await);
            one.send_to(b"four", other.local_addr().unwrap()).await.unwrap();
            assert_eq!(other.recv(&mut [0; 100]).await.unwrap(), 4);
            assert!(other.try_recv(&mut [0; 100]).is_err());
        });
        let done = el.metrics().since(&before);
        assert_eq!((done.bytes_in, done.bytes_out), (4, 4));

        let before = el.metrics();
        complete(el, async {
            let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
            a.set_nonblocking(true).unwrap();
            b.set_nonblocking(true).unwrap();
            el.sock_sendall(&a, b"abc").await.unwrap();
            assert_eq!(el.sock_recv(&b, 10).await.unwrap(), b"abc");
        });
        let done = el.metrics().since(&before);
        assert_eq!((done.bytes_in, done.bytes_out), (3, 3));
    }

    /// What there is goes up and down with it.
    fn what_there_is_is_counted(el) {
        let before = el.metrics();
        complete(el, async {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let server = el.create_server(|| Echo, ("127.0.0.1", 0)).await.unwrap();
            let (transport, _) = el.create_connection(|| Echo, server.local_addrs()[0]).await.unwrap();
            let now = el.metrics();
            assert_eq!(now.servers, 1);
            assert!(now.transports >= 1);
            assert!(now.descriptors >= before.descriptors + 3, "{} {}", now.descriptors, before.descriptors);
            transport.abort();
            server.close();
            drop(listener);
            roundelay::sleep(MILLISECOND).await;
        });
        settle(el);
        let now = el.metrics();
        assert_eq!((now.servers, now.descriptors), (0, before.descriptors));
    }
}

async fn udp() -> UdpSocket {
    UdpSocket::bind(("127.0.0.1", 0)).await.unwrap()
}

/// A descriptor given to `add_reader` counts its callback.
#[test]
fn readers_are_callbacks() {
    on_loop(|el| {
        let (mut a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        let handle = el.clone();
        let b = Rc::new(b);
        let watched = b.clone();
        el.add_reader(&*b, move || assert!(handle.remove_reader(&*watched))).unwrap();
        io::Write::write_all(&mut a, b"x").unwrap();
        let before = el.metrics();
        el.run_once(Some(PATIENCE)).unwrap();
        let done = el.metrics().since(&before);
        assert_eq!((done.callbacks, done.events), (1, 1));
    });
}

//! The loop inside of others: tokio's, smol's, a loop around `poll`, one that is woken by the hook.

mod common;
#[path = "common/hosts.rs"]
mod hosts;
#[path = "common/threads.rs"]
mod threads;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::net::TcpListener;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;

use common::{CountingWaker, Kind, Log, complete, poll_times, run_alone, settle, take_reports};
use hosts::{DRIVING, HOSTS, Host, alone_with_hosts, runtime};
use roundelay::{
    AsyncIoHost, Drive, DriveError, EventLoop, Fatal, HostLoop, ManualClock, TokioHost, get_running_loop, sleep, spawn,
    yield_now,
};
use rustix::time::{ClockId, clock_gettime};
use threads::panic_text;

/// Runs a test in each of the hosts.
fn in_each(hosts: &[Host], body: impl Fn(Host, &EventLoop)) {
    let _alone = alone_with_hosts();
    for &host in hosts {
        println!("in {host:?}");
        run_alone(EventLoop::builder, |el| body(host, el));
    }
}

/// Runs a test of what driving is, whoever the host.
fn in_tokio(body: impl Fn(&EventLoop)) {
    in_each(&[Host::Tokio], |_, el| body(el));
}

/// The loop, in one of its turns.
fn running() -> EventLoop {
    get_running_loop().unwrap()
}

/// Drives the loop as this host does.
fn drive(host: Host, el: &EventLoop) -> Drive<'static, ()> {
    match host {
        Host::Tokio | Host::TokioThreads | Host::TokioTask => el.drive(TokioHost::new()),
        _ => el.drive(AsyncIoHost::new()),
    }
}

/// Both, until the first is done; the other one is dropped then. Each is polled only when it is woken itself, as in a task
/// of its own.
async fn beside<T>(first: impl Future<Output = T>, second: impl Future) -> T {
    let mut both = FuturesUnordered::<LocalBoxFuture<'_, Option<T>>>::new();
    both.push(Box::pin(async { Some(first.await) }));
    both.push(Box::pin(async {
        second.await;
        None
    }));
    loop {
        if let Some(Some(output)) = both.next().await {
            return output;
        }
    }
}

fn thread_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
}

/// LU-05: a loop inside of another one does everything: callbacks, timers, tasks, posts, connections.
#[test]
fn all_of_it_works() {
    in_each(&HOSTS, |host, el| {
        let remote = el.remote();
        let done = host.complete(el, async move {
            let el = running();
            assert!(el.is_running());
            assert_eq!(el.call_soon(|| 1).await.unwrap(), 1);
            let posted = thread::spawn(move || remote.spawn(|| async { spawn(async { 7 }).await.unwrap() }).unwrap());
            assert_eq!(posted.join().unwrap().await.unwrap(), 7);
            sleep(Duration::from_millis(1)).await;
            8
        });
        assert_eq!(done.unwrap(), 8);
        assert!(!el.is_running() && get_running_loop().is_err(), "the mark is there in turns only");
        if host == Host::Hook {
            // It does not watch the descriptor.
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let echo = thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            std::io::copy(&mut peer.try_clone().unwrap(), &mut peer).unwrap();
        });
        let line = host.complete(el, async move {
            let (mut reader, mut writer) = roundelay::open_connection(address).await.unwrap();
            for n in 0..200 {
                let line = format!("there and back {n}\n");
                writer.write(line.as_bytes());
                assert_eq!(reader.readline().await.unwrap(), line.as_bytes());
            }
            writer.write(b"the end\n");
            let line = reader.readline().await.unwrap();
            writer.close();
            writer.wait_closed().await.unwrap();
            line
        });
        assert_eq!(line.unwrap(), b"the end\n");
        echo.join().unwrap();
    });
}

/// No wake-up is lost over 100 000 posts of two threads: in each host, or, in an unoptimised build, in all of them. Much of the time a thread waits until its latest post
/// has run, so that no later one can stand in for a wake-up that is lost; and it spins for a while in between, so that posts
/// hit every moment of a turn and of the host's sleep.
#[test]
fn no_post_is_missed() {
    const POSTS: u32 = if cfg!(debug_assertions) { 50_000 / HOSTS.len() as u32 } else { 50_000 };
    in_each(&HOSTS, |host, el| {
        let poster = |seed: u32| {
            let remote = el.remote();
            move || {
                let _stop = threads::StopOnPanic(remote.clone());
                let seen = Arc::new(AtomicU32::new(0));
                let mut random = seed.wrapping_mul(0x9E37_79B9);
                for n in 1..=POSTS {
                    random ^= random << 13;
                    random ^= random >> 17;
                    random ^= random << 5;
                    let there = seen.clone();
                    drop(remote.call_soon_threadsafe(move || there.store(n, Ordering::Release)).unwrap());
                    // A handful of posts is waited for only by the last of them.
                    if random & 7 == 0 {
                        threads::wait_until(|| seen.load(Ordering::Acquire) == n);
                    }
                    (0..random >> 24).for_each(|_| std::hint::spin_loop());
                }
                threads::wait_until(|| seen.load(Ordering::Acquire) == POSTS);
            }
        };
        let posters = [1, 2].map(|seed| thread::spawn(poster(seed)));
        let ended = host.complete(el, async {
            let join = || posters.map(|poster| poster.join().is_ok());
            roundelay::spawn_blocking(join).await.unwrap()
        });
        assert_eq!(ended.unwrap(), [true, true], "a wake-up was lost in {host:?}");
        assert!(el.metrics().posts >= u64::from(2 * POSTS));
    });
}

/// While nothing happens the loop makes no turn, and its thread does nothing: also with connections open and timers armed.
#[test]
fn an_idle_loop_costs_nothing() {
    in_each(&DRIVING, |host, el| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connected = Rc::new(Cell::new(false));
        let told = connected.clone();
        let connection = el.create_task(async move {
            let (reader, writer) = roundelay::open_connection(address).await.unwrap();
            told.set(true);
            sleep(Duration::from_secs(3600)).await;
            drop((reader, writer));
        });
        let busy = host.block_on(beside(
            async {
                // It connects to the listener's backlog.
                while !connected.get() {
                    host.sleep(Duration::from_millis(1)).await;
                }
                host.sleep(Duration::from_millis(50)).await;
                let before = (el.stats().turns, el.stats().waits, thread_time());
                host.sleep(Duration::from_millis(200)).await;
                assert_eq!((el.stats().turns, el.stats().waits), (before.0, before.1), "turns are made in {host:?}");
                thread_time() - before.2
            },
            drive(host, el),
        ));
        assert!(busy < Duration::from_millis(20), "{host:?} was busy for {busy:?} of 200 ms");
        connection.cancel();
        settle(el);
    });
}

/// Timers fire in order and never early.
#[test]
fn timers_fire_in_order_and_not_early() {
    in_each(&HOSTS, |host, el| {
        let fired = Rc::new(RefCell::new(Vec::new()));
        let start = el.time();
        for n in 0..40_u64 {
            // Some at the same moment, some armed behind a later one.
            let after = Duration::from_micros((n * 7 % 20) * 700);
            let fired = fired.clone();
            el.call_at(start + after, move || {
                let now = running().time();
                assert!(now >= start + after, "early by {:?}", start + after - now);
                fired.borrow_mut().push((after, n));
            });
        }
        host.complete(el, sleep(Duration::from_millis(16))).unwrap();
        let fired = fired.take();
        assert_eq!(fired.len(), 40);
        assert!(fired.is_sorted_by_key(|(after, _)| *after), "{fired:?}");
    });
}

/// What the host's own tasks do to the loop between two turns is seen: a callback, a wake-up, a timer that is earlier than
/// the one that is waited for, a cancellation; without a descriptor and from the same thread.
#[test]
fn the_hosts_tasks_wake_the_loop() {
    in_each(&DRIVING, |host, el| {
        let far = el.call_later(Duration::from_secs(3600), || ());
        host.block_on(beside(
            async {
                for n in 0..100 {
                    host.sleep(Duration::from_micros(n % 3 * 500)).await;
                    assert!(get_running_loop().is_err() && !el.is_running());
                    assert_eq!(el.call_soon(move || n).await.unwrap(), n);
                    assert_eq!(el.create_task(async move { n }).await.unwrap(), n);
                    let future = el.create_future::<u64>();
                    let waits = future.clone();
                    let task = el.create_task(async move { waits.await.unwrap() });
                    host.sleep(Duration::from_micros(200)).await;
                    future.set_result(n).unwrap();
                    assert_eq!(task.await.unwrap(), n);
                    assert_eq!(el.call_later(Duration::from_micros(300), move || n).await.unwrap(), n);
                    let task = el.create_task(pending::<()>());
                    host.sleep(Duration::from_micros(100)).await;
                    task.cancel();
                    assert!(task.await.unwrap_err().is_cancelled());
                    assert_eq!(el.remote().call_soon_threadsafe(move || n).unwrap().await.unwrap(), n);
                }
            },
            drive(host, el),
        ));
        far.cancel();
    });
}

/// `stop` ends it, from within a turn, from the host's task, from another thread; and a stop before makes one turn.
#[test]
fn stop_ends_it() {
    in_each(&DRIVING, |host, el| {
        let handle = el.clone();
        el.call_later(Duration::from_millis(1), move || handle.stop());
        host.drive(|| drive(host, el)).unwrap();

        // Between two turns: the future is woken by that.
        host.block_on(beside(drive(host, el), async {
            host.sleep(Duration::from_millis(5)).await;
            el.stop();
        }))
        .unwrap();

        let remote = el.remote();
        let thread = thread::spawn(move || remote.stop().unwrap());
        host.drive(|| drive(host, el)).unwrap();
        thread.join().unwrap();

        let log = Log::new();
        el.call_soon(log.entry("once"));
        let (again, handle) = (log.clone(), el.clone());
        el.call_soon(move || drop(handle.call_soon(again.entry("twice"))));
        el.stop();
        host.drive(|| drive(host, el)).unwrap();
        assert_eq!(log.take(), ["once"]);
        settle(el);
        assert_eq!(log.take(), ["twice"]);

        let mut task = el.create_task(async {
            running().stop();
            yield_now().await;
            5
        });
        let stopped = host.block_on(el.drive_until(TokioOrAsyncIo::of(host), &mut task));
        assert!(matches!(stopped, Err(DriveError::Stopped)), "{stopped:?}");
        assert_eq!(host.block_on(el.drive_until(TokioOrAsyncIo::of(host), &mut task)).unwrap().unwrap(), 5);
    });
}

/// Either of the two.
enum TokioOrAsyncIo {
    Tokio(TokioHost),
    AsyncIo(AsyncIoHost),
}

impl TokioOrAsyncIo {
    fn of(host: Host) -> Self {
        match host {
            Host::Tokio | Host::TokioThreads | Host::TokioTask => Self::Tokio(TokioHost::new()),
            _ => Self::AsyncIo(AsyncIoHost::new()),
        }
    }
}

impl HostLoop for TokioOrAsyncIo {
    fn poll_wait(
        &mut self,
        fd: BorrowedFd<'_>,
        deadline: Option<Instant>,
        cx: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self {
            Self::Tokio(host) => host.poll_wait(fd, deadline, cx),
            Self::AsyncIo(host) => host.poll_wait(fd, deadline, cx),
        }
    }
}

/// What is scheduled, due or ready at the end of the future runs before its output is given, as in `run_until_complete`.
#[test]
fn the_end_of_the_future() {
    in_tokio(|el| {
        let log = Log::new();
        let inner = log.clone();
        let value = runtime().block_on(el.drive_until(TokioHost::new(), async move {
            let el = running();
            el.call_soon(inner.entry("scheduled"));
            el.call_later(Duration::ZERO, inner.entry("due"));
            7
        }));
        assert_eq!(value.unwrap(), 7);
        assert_eq!(log.take(), ["scheduled", "due"]);
        // It need not be 'static.
        let borrowed = String::from("borrowed");
        let length = runtime().block_on(el.drive_until(TokioHost::new(), async { borrowed.len() }));
        assert_eq!(length.unwrap(), 8);
    });
}

/// A loop that is closed while it is driven, between two turns, wakes the future, which ends; and so does one in which the
/// owner was dropped in a turn.
#[test]
fn close_ends_it() {
    in_each(&DRIVING, |host, el| {
        let closed = host.block_on(beside(el.drive_until(TokioOrAsyncIo::of(host), pending::<()>()), async {
            host.sleep(Duration::from_millis(2)).await;
            el.close();
        }));
        assert!(matches!(closed, Err(DriveError::Closed)), "{closed:?}");
        let closed = host.drive(|| drive(host, el));
        assert!(matches!(closed, Err(DriveError::Closed)), "{closed:?}");

        let owner = EventLoop::new().unwrap();
        let handle = owner.clone();
        handle.call_soon(move || drop(owner));
        host.drive(|| drive(host, &handle)).unwrap();
        assert!(handle.is_closed());
    });
}

/// Dropping the future, wherever it waits, leaves the loop whole: another host goes on with it, or nobody's.
#[test]
fn dropping_it_leaves_the_loop_whole() {
    in_each(&DRIVING, |host, el| {
        let steps = Rc::new(Cell::new(0));
        let counter = steps.clone();
        let mut task = el.create_task(async move {
            for n in 0..150_u64 {
                counter.set(n + 1);
                sleep(Duration::from_micros(n % 4 * 200)).await;
            }
            "done"
        });
        for times in 0..12 {
            host.block_on(poll_times(drive(host, el), times));
        }
        let reached = steps.get();
        assert!(reached > 0);
        // What comes while nobody drives it is there when somebody does.
        let (remote, log) = (el.remote(), Log::new());
        el.call_soon(log.entry("scheduled in between"));
        thread::spawn(move || drop(remote.call_soon_threadsafe(|| ()).unwrap())).join().unwrap();
        let other = if host == Host::Tokio { Host::AsyncIo } else { Host::Tokio };
        let end = other.block_on(el.drive_until(TokioOrAsyncIo::of(other), &mut task));
        assert_eq!(end.unwrap().unwrap(), "done");
        assert_eq!(steps.get(), 150);
        assert_eq!(log.take(), ["scheduled in between"]);
        assert_eq!(complete(el, async { 3 }), 3, "and by itself");
    });
}

/// The destructors of a future that is dropped with the drive find the running loop, as they do in a turn.
#[test]
fn destructors_run_in_the_loop() {
    struct Spawns(Log);
    impl Drop for Spawns {
        fn drop(&mut self) {
            let log = self.0.clone();
            drop(spawn(async move { log.push("cleaned up") }));
        }
    }
    in_tokio(|el| {
        let log = Log::new();
        let spawns = Spawns(log.clone());
        let dropped = runtime().block_on(poll_times(
            el.drive_until(TokioHost::new(), async move {
                let _spawns = spawns;
                pending::<()>().await;
            }),
            1,
        ));
        assert!(dropped.is_none());
        assert!(get_running_loop().is_err());
        settle(el);
        assert_eq!(log.take(), ["cleaned up"]);
    });
}

/// A panic of the future comes out of the drive, and so does a fatal one of a callback; any other is reported. The loop goes
/// on after each.
#[test]
fn panics() {
    in_each(&DRIVING, |host, el| {
        let text = panic_text(|| {
            host.complete(el, async { panic!("of the future") }).unwrap();
        });
        assert_eq!(text, "of the future");
        el.call_soon(|| panic_any(Fatal(Box::new("of a callback"))));
        let payload = catch_unwind(AssertUnwindSafe(|| host.drive(|| drive(host, el)))).unwrap_err();
        assert!(payload.is::<Fatal>());
        drop(el.call_soon(|| panic!("of a callback")));
        assert_eq!(host.complete(el, async { 4 }).unwrap(), 4);
        let reports = take_reports();
        assert_eq!(reports.len(), 1, "{reports:#?}");
        assert!(reports[0].contains("of a callback"), "{reports:#?}");
    });
}

/// The host is dropped first: driving ends with its error, and the loop goes on in another one.
#[test]
fn the_host_is_dropped_first() {
    in_tokio(|el| {
        let mut task = el.create_task(async {
            sleep(Duration::from_millis(1)).await;
            9
        });
        let first = runtime();
        let mut driving = Box::pin(el.drive(TokioHost::new()));
        first.block_on(poll_fn(|cx| {
            assert!(driving.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        }));
        drop(first);
        let error = futures::executor::block_on(driving).unwrap_err();
        assert!(matches!(error, DriveError::Io(_)), "{error:?}");
        assert_eq!(runtime().block_on(el.drive_until(TokioHost::new(), &mut task)).unwrap().unwrap(), 9);
        // Without any runtime tokio itself says what is missing.
        let text = panic_text(|| drop(futures::executor::block_on(el.drive(TokioHost::new()))));
        assert!(text.contains("no reactor running"), "{text}");
        assert_eq!(complete(el, async { 3 }), 3);
    });
}

/// Two loops in one host, in one task and in two, each with timers, posts, and wake-ups across.
#[test]
fn two_loops_in_one_host() {
    in_each(&DRIVING, |host, el| {
        let other = EventLoop::new().unwrap();
        let (ball, back) = (async_channel::unbounded::<u32>(), async_channel::unbounded::<u32>());
        let (thrown, caught) = (ball.0, back.1);
        let first = async move {
            for n in 0..500 {
                thrown.send(n).await.unwrap();
                assert_eq!(caught.recv().await.unwrap(), n);
                if n % 100 == 0 {
                    sleep(Duration::from_micros(100)).await;
                }
            }
            running().id()
        };
        let second = async move {
            while let Ok(n) = ball.1.recv().await {
                assert_eq!(running().remote().spawn(move || async move { n }).unwrap().await.unwrap(), n);
                back.0.send(n).await.unwrap();
            }
            running().id()
        };
        let ids = host.block_on(async {
            futures::join!(
                el.drive_until(TokioOrAsyncIo::of(host), first),
                other.drive_until(TokioOrAsyncIo::of(host), second)
            )
        });
        assert_eq!((ids.0.unwrap(), ids.1.unwrap()), (el.id(), other.id()));
        other.close();
    });
}

/// Loops do not nest, and a loop is driven by one future at a time: each says so, and nothing is broken by it.
#[test]
fn what_is_refused() {
    in_tokio(|el| {
        let nested = el.clone();
        let task = el.create_task(async move { nested.drive(TokioHost::new()).await });
        let other = EventLoop::new().unwrap();
        let inner = other.clone();
        let foreign = el.create_task(async move { inner.drive(TokioHost::new()).await });
        runtime().block_on(el.drive_until(TokioHost::new(), yield_now())).unwrap();
        settle(el);
        let reports = [task, foreign].map(|task| {
            let payload = complete(el, task).unwrap_err().into_panic();
            *payload.downcast::<String>().unwrap()
        });
        assert!(reports[0].contains("EventLoop::drive(): this event loop is already running"), "{}", reports[0]);
        assert!(reports[1].contains("EventLoop::drive(): cannot run loop"), "{}", reports[1]);
        drop(take_reports());
        assert_eq!(complete(&other, async { 1 }), 1);
        other.close();

        let text = panic_text(|| {
            let both = async { futures::join!(el.drive(TokioHost::new()), el.drive(TokioHost::new())) };
            drop(runtime().block_on(both));
        });
        assert!(text.contains("already driven by another future"), "{text}");
        assert_eq!(runtime().block_on(el.drive_until(TokioHost::new(), async { 2 })).unwrap(), 2);
    });
}

/// A run of its own between two turns of the drive: posts wake that run, and the drive goes on with what it has left.
#[test]
fn a_run_of_its_own_in_between() {
    in_each(&DRIVING, |host, el| {
        host.block_on(beside(
            async {
                host.sleep(Duration::from_millis(1)).await;
                for n in 0..20 {
                    complete(el, async move { roundelay::spawn_blocking(|| ()).await.unwrap() });
                    let early = el.call_later(Duration::from_micros(500), move || n);
                    assert_eq!(early.await.unwrap(), n, "armed after the drive has computed its wait");
                }
            },
            drive(host, el),
        ));
    });
}

/// A loop that is always busy leaves the host's tasks their turns, and the host's busy tasks leave it its own.
#[test]
fn the_thread_is_shared() {
    in_each(&DRIVING, |host, el| {
        fn again(el: EventLoop, count: Rc<Cell<u32>>) {
            count.set(count.get() + 1);
            let handle = el.clone();
            handle.call_soon(move || again(el, count));
        }
        let count = Rc::new(Cell::new(0));
        again(el.clone(), count.clone());
        host.block_on(beside(
            async {
                for _ in 0..50 {
                    let before = count.get();
                    let mut polled = false;
                    poll_fn(|cx| {
                        if std::mem::replace(&mut polled, true) {
                            return Poll::Ready(());
                        }
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    })
                    .await;
                    let made = count.get() - before;
                    assert!((1..=64).contains(&made), "{made} turns between two polls of another task");
                }
                // Timers and descriptors of the host's own come, too.
                host.sleep(Duration::from_millis(1)).await;
            },
            drive(host, el),
        ));
    });
}

/// A clock that only a call can move: the host waits for the call, not for a deadline in real time.
#[test]
fn a_clock_of_its_own() {
    let _alone = alone_with_hosts();
    for host in DRIVING {
        let clock = ManualClock::new();
        run_alone(
            || EventLoop::builder().clock(clock.clone()),
            |el| {
                let timer = el.call_later(Duration::from_millis(1), || 5);
                let turns = host.block_on(beside(
                    async {
                        host.sleep(Duration::from_millis(5)).await;
                        assert_eq!(el.next_timeout(), None);
                        let turns = el.stats().turns;
                        host.sleep(Duration::from_millis(20)).await;
                        assert!(!timer.is_done());
                        let turns = el.stats().turns - turns;
                        clock.advance(Duration::from_millis(1));
                        assert_eq!(timer.await.unwrap(), 5);
                        turns
                    },
                    drive(host, el),
                ));
                assert_eq!(turns, 0, "in {host:?}");
            },
        );
    }
}

/// A loop on each selector is driven; one whose selector has no descriptor is refused with an error.
#[test]
fn on_every_selector() {
    let _alone = alone_with_hosts();
    for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
        run_alone(
            || kind.builder(),
            |el| {
                let (mut socket, peer) = std::os::unix::net::UnixStream::pair().unwrap();
                for host in DRIVING {
                    let peer = peer.try_clone().unwrap();
                    std::io::Write::write_all(&mut socket, b"one\ntwo\n").unwrap();
                    let line = host.complete(el, async move {
                        let fd = std::os::fd::OwnedFd::from(peer);
                        let (mut reader, _writer) = roundelay::open_connection(fd).await.unwrap();
                        (reader.readline().await.unwrap(), reader.readline().await.unwrap())
                    });
                    assert_eq!(line.unwrap(), (b"one\n".to_vec(), b"two\n".to_vec()));
                }
            },
        );
    }
    run_alone(
        || EventLoop::builder().selector(Blind(roundelay::selector::Epoll::new().unwrap())),
        |el| {
            let error = runtime().block_on(el.drive(TokioHost::new())).unwrap_err();
            assert!(error.to_string().contains("the loop's selector \"blind\" has no descriptor"), "{error}");
            let text = panic_text(|| _ = std::os::fd::AsRawFd::as_raw_fd(el));
            assert_eq!(text, "EventLoop::as_fd(): the loop's selector \"blind\" has no descriptor");
        },
    );
}

/// A selector that cannot be waited for by anybody else.
struct Blind(roundelay::selector::Epoll);

impl roundelay::selector::Selector for Blind {
    fn name(&self) -> &'static str {
        "blind"
    }
    fn supports_edge(&self) -> bool {
        self.0.supports_edge()
    }
    fn backend_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    left_to_the_inner_one! { add modify delete wait notifier }
}

/// A host of one's own is asked with the deadline that holds, and its error ends the drive.
#[test]
fn a_host_of_ones_own() {
    struct Notes(Rc<RefCell<Vec<Option<Instant>>>>, u32);
    impl HostLoop for Notes {
        fn poll_wait(
            &mut self,
            _fd: BorrowedFd<'_>,
            deadline: Option<Instant>,
            cx: &mut Context<'_>,
        ) -> Poll<std::io::Result<()>> {
            self.0.borrow_mut().push(deadline);
            self.1 += 1;
            if self.1 == 3 {
                return Poll::Ready(Err(std::io::Error::other("no more")));
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }
    in_tokio(|el| {
        let deadlines = Rc::new(RefCell::new(Vec::new()));
        let (_, waker) = CountingWaker::new();
        let mut cx = Context::from_waker(&waker);
        let mut driving = pin!(el.drive(Notes(deadlines.clone(), 0)));
        assert!(driving.as_mut().poll(&mut cx).is_pending());
        let timer = el.call_later(Duration::from_secs(60), || ());
        assert!(driving.as_mut().poll(&mut cx).is_pending());
        timer.cancel();
        let Poll::Ready(Err(DriveError::Io(error))) = driving.as_mut().poll(&mut cx) else { panic!("it goes on") };
        assert_eq!(error.to_string(), "no more");
        assert_eq!(deadlines.take(), [None, Some(timer.when()), None]);
    });
}

/// One call to the host's waker for each time that the loop is left idle, however much comes: on the thread that brings it.
#[test]
fn the_hosts_task_is_woken_once() {
    in_tokio(|el| {
        let (counter, waker) = CountingWaker::new();
        let mut cx = Context::from_waker(&waker);
        let host = runtime();
        let _entered = host.enter();
        let mut driving = pin!(el.drive(TokioHost::new()));
        let mut rest = || {
            let mut polls = 0;
            loop {
                let before = counter.count();
                assert!(driving.as_mut().poll(&mut cx).is_pending());
                polls += 1;
                if counter.count() == before {
                    return counter.count();
                }
                assert!(polls < 100, "it does not come to rest");
            }
        };
        let before = rest();
        for _ in 0..3 {
            el.call_soon(|| ());
        }
        let remote = el.remote();
        thread::spawn(move || drop(remote.call_soon_threadsafe(|| ()).unwrap())).join().unwrap();
        assert_eq!(counter.count(), before + 1);
        assert_eq!(rest(), before + 1, "one poll does it all, and wakes nobody");
        let remote = el.remote();
        thread::spawn(move || {
            for _ in 0..3 {
                drop(remote.call_soon_threadsafe(|| ()).unwrap());
            }
        })
        .join()
        .unwrap();
        assert_eq!(counter.count(), before + 2);
        assert_eq!(rest(), before + 2);
    });
}

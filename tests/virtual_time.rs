//! Time that jumps: when it does, when it stands still, and what is said where nothing happens.
#![cfg(feature = "test-util")]

mod common;

use std::cell::Cell;
use std::future::Future;
use std::io::{self, Write as _};
use std::mem::ManuallyDrop;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::mpsc;
use std::task::{Context, RawWaker, RawWakerVTable, Waker};
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::OptionFuture;
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt};

use common::{Kind, Log, alone, open_descriptors};
use roundelay::selector::{Epoll, Event, Selector};
use roundelay::testing::{self, advance, elapsed, settle};
use roundelay::{
    EventLoop, Exception, ExceptionContext, Protocol, Stdio, TcpListener, TcpStream, UdpSocket, create_subprocess_exec,
    get_running_loop, open_connection, sleep, spawn, spawn_blocking, start_server, timeout,
};

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

/// Seconds that make up ten hours.
const PERIODS: [u64; 10] = [1, 2, 3, 4, 5, 6, 8, 9, 10, 12];

/// A selector that calls a function before each wait that may sleep.
struct BeforeSleep<F>(Epoll, F);

impl<F: FnMut() + 'static> Selector for BeforeSleep<F> {
    fn name(&self) -> &'static str {
        "before sleep"
    }
    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        if timeout != Some(Duration::ZERO) {
            (self.1)();
        }
        self.0.wait(timeout, events)
    }
    left_to_the_inner_one! { supports_edge add modify delete notifier backend_fd }
}

/// A loop that calls a function when it really waits, once.
fn when_it_waits(f: impl FnOnce() + 'static) -> testing::Builder {
    let mut f = Some(f);
    let wait = move || f.take().map_or((), |f| f());
    testing::Builder::new().selector(BeforeSleep(Epoll::new().unwrap(), wait)).io_grace(Duration::ZERO)
}

/// Runs a test on each selector, and counts descriptors.
fn on_each(test: impl AsyncFn()) {
    let _alone = alone();
    let before = open_descriptors();
    for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
        kind.testing().block_on(test());
    }
    assert_eq!(open_descriptors(), before);
}

/// The text of the panic with which a test fails.
#[track_caller]
fn failure<R>(test: impl FnOnce() -> R) -> String {
    let Err(payload) = catch_unwind(AssertUnwindSafe(test)) else { panic!("it does not fail") };
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast::<&str>().unwrap()).to_owned(),
    }
}

/// Ten hours of timers, without a wait that could sleep.
#[test]
fn hours_pass_without_a_wait() {
    let _alone = alone();
    let (slept, fired) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0_u32)));
    let counted = slept.clone();
    let selector = BeforeSleep(Epoll::new().unwrap(), move || counted.set(counted.get() + 1));
    testing::Builder::new().selector(selector).block_on(async {
        let mut tasks = Vec::new();
        for n in PERIODS {
            let fired = fired.clone();
            tasks.push(spawn(async move {
                while elapsed() < 10 * HOUR {
                    sleep(Duration::from_secs(n)).await;
                    fired.set(fired.get() + 1);
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(elapsed(), 10 * HOUR);
    });
    assert_eq!(slept.get(), 0);
    assert_eq!(fired.get(), PERIODS.map(|n| 36_000 / n as u32).iter().sum::<u32>());
}

/// A loop without descriptors of its own does not even ask the selector.
#[test]
fn a_jump_costs_no_system_call_where_nothing_is_registered() {
    let _alone = alone();
    testing::block_on(async {
        let el = get_running_loop().unwrap();
        let before = el.stats().waits;
        for _ in 0..100 {
            sleep(HOUR).await;
        }
        assert_eq!(el.stats().waits, before);
    });
}

/// Time stands still while there is anything to do, and each timer fires at its own moment.
#[test]
fn timers_fire_at_their_own_times() {
    let _alone = alone();
    testing::Builder::new().start(5 * SECOND).block_on(async {
        let el = get_running_loop().unwrap();
        assert_eq!(elapsed(), 5 * SECOND);
        let began = el.time();
        assert_eq!(testing::now(), began);
        let timers: Vec<_> = [30, 10, 20].map(|n| el.call_later(n * SECOND, elapsed)).into();
        for _ in 0..100 {
            roundelay::yield_now().await;
        }
        assert_eq!(elapsed(), 5 * SECOND);
        for (timer, expected) in timers.into_iter().zip([35, 15, 25]) {
            assert_eq!(timer.await.unwrap(), expected * SECOND);
        }
        assert_eq!(el.time() - began, 30 * SECOND);
    });
}

/// A deadline that is as near as the clock's resolution is reached as any other one.
#[test]
fn a_nanosecond_passes_too() {
    let _alone = alone();
    impatient().block_on(async {
        for n in [1, 2, 1, 3] {
            let before = elapsed();
            sleep(Duration::from_nanos(n)).await;
            assert_eq!(elapsed() - before, Duration::from_nanos(n));
        }
        advance(Duration::from_nanos(1)).await;
        assert_eq!(elapsed(), Duration::from_nanos(8));
    });
}

/// Both ends of a connection are in the loop: nobody else could answer, so timeouts of hours come at once.
#[test]
fn a_client_and_a_server_in_one_loop() {
    on_each(async || {
        let server = start_server(
            async |mut reader, mut writer| {
                while let Ok(line) = reader.readline().await {
                    if line.is_empty() {
                        break;
                    }
                    sleep(HOUR).await;
                    writer.write(&line);
                }
            },
            ("localhost", 0),
        )
        .await
        .unwrap();
        for address in server.local_addrs() {
            let began = elapsed();
            let (mut reader, mut writer) = open_connection(address).await.unwrap();
            writer.write(b"hello\n");
            assert_eq!(timeout(2 * HOUR, reader.readline()).await.unwrap().unwrap(), b"hello\n");
            assert_eq!(elapsed() - began, HOUR);
            writer.write(b"again\n");
            assert!(timeout(HOUR / 2, reader.readline()).await.is_err());
            assert_eq!(elapsed() - began, HOUR + HOUR / 2);
        }
        server.shutdown(SECOND).await;
    });
}

/// The same where an address of the fourth version is spoken to by a socket of the sixth.
#[test]
fn a_server_of_both_families_is_in_the_loop_too() {
    on_each(async || {
        let el = get_running_loop().unwrap();
        let Ok(listener) = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).await else { return };
        let address = (Ipv4Addr::LOCALHOST, listener.local_addr().unwrap().port());
        let silent = spawn(async move {
            let (_stream, _) = listener.accept().await.unwrap();
            std::future::pending::<()>().await;
        });
        // Where sockets of the sixth version take no others.
        if let Ok(mut stream) = TcpStream::connect(address).await {
            let mut buf = [0; 1];
            assert!(timeout(HOUR, stream.read(&mut buf)).await.is_err());
            assert_eq!(elapsed(), HOUR);
        }
        assert!(silent.cancel());
        drop(el);
    });
}

/// A unix socket whose name the loop listens at.
#[test]
fn a_unix_server_in_the_loop() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("it");
    on_each(async || {
        let server = roundelay::start_unix_server(
            async |mut reader, mut writer| {
                let line = reader.readline().await.unwrap();
                sleep(HOUR).await;
                writer.write(&line);
            },
            &path,
        )
        .await
        .unwrap();
        let (mut first, mut to_first) = roundelay::open_unix_connection(&path).await.unwrap();
        let (mut second, _kept) = roundelay::open_unix_connection(&path).await.unwrap();
        to_first.write(b"hello\n");
        assert_eq!(first.readline().await.unwrap(), b"hello\n");
        assert!(timeout(HOUR, second.readline()).await.is_err());
        assert_eq!(elapsed(), 2 * HOUR);
        server.shutdown(SECOND).await;
    });
    // It opens descriptors, which another test would count.
    let _alone = alone();
    drop(dir);
}

/// A client that has gone leaves an end behind that nobody reads. It is no sign of a client that is not in the loop.
#[test]
fn a_unix_server_whose_client_has_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("it");
    on_each(async || {
        let server = roundelay::start_unix_server(
            async |mut reader, mut writer| {
                let line = reader.readline().await.unwrap();
                sleep(HOUR).await;
                writer.write(&line);
                reader.readline().await.unwrap();
            },
            &path,
        )
        .await
        .unwrap();
        let (gone, mut to_gone) = roundelay::open_unix_connection(&path).await.unwrap();
        to_gone.write(b"hello\n");
        to_gone.close();
        to_gone.wait_closed().await.unwrap();
        drop((gone, to_gone));
        let (mut reader, mut writer) = roundelay::open_unix_connection(&path).await.unwrap();
        writer.write(b"hello\n");
        assert_eq!(reader.readline().await.unwrap(), b"hello\n");
        assert_eq!(elapsed(), HOUR);
        server.shutdown(SECOND).await;
    });
    // It opens descriptors, which another test would count.
    let _alone = alone();
    drop(dir);
}

/// Datagrams between sockets of the loop, connected or not.
#[test]
fn datagrams_in_the_loop() {
    on_each(async || {
        let one = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
        let two = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
        one.connect(two.local_addr().unwrap()).await.unwrap();
        let mut buf = [0; 8];
        assert!(timeout(HOUR, one.recv(&mut buf)).await.is_err());
        assert!(timeout(HOUR, two.recv_from(&mut buf)).await.is_err());
        assert_eq!(elapsed(), 2 * HOUR);
        one.send(b"x").await.unwrap();
        assert_eq!(timeout(SECOND, two.recv_from(&mut buf)).await.unwrap().unwrap().0, 1);
    });
}

/// A socket that takes what comes to any address is the peer of those who write to one.
#[test]
fn datagrams_to_any_address_in_the_loop() {
    on_each(async || {
        for all in [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()] {
            let Ok(server) = UdpSocket::bind((all, 0)).await else { continue };
            let port = server.local_addr().unwrap().port();
            let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            client.connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
            let before = elapsed();
            assert!(timeout(HOUR, client.recv(&mut [0; 8])).await.is_err());
            assert_eq!(elapsed() - before, HOUR);
        }
    });
}

/// One of a pair has another end, though neither has a name.
#[test]
fn no_jump_while_the_other_of_a_pair_may_write() {
    let _alone = alone();
    let (end, other) = UnixDatagram::pair().unwrap();
    end.set_nonblocking(true).unwrap();
    when_it_waits(move || assert_eq!(other.send(b"x").unwrap(), 1)).block_on(async {
        let el = get_running_loop().unwrap();
        assert_eq!(timeout(HOUR, el.sock_recv(&end, 8)).await.unwrap().unwrap(), b"x");
        assert_eq!(elapsed(), Duration::ZERO);
    });
}

/// A blocking job holds the time, awaited or not. It is let go when the loop really waits.
#[test]
fn no_jump_while_a_job_is_outstanding() {
    let _alone = alone();
    for is_awaited in [true, false] {
        let (go, gone) = mpsc::channel();
        when_it_waits(move || go.send(()).unwrap()).block_on(async {
            let el = get_running_loop().unwrap();
            let done = Rc::new(Cell::new(None));
            let tell = el.remote();
            let job = spawn_blocking(move || {
                gone.recv().unwrap();
                if !is_awaited {
                    let _ = tell.call_soon_threadsafe(|| ());
                }
            });
            let timer = el.call_later(HOUR, elapsed);
            if is_awaited {
                job.await.unwrap();
                done.set(Some(elapsed()));
            } else {
                drop(job);
                sleep(HOUR / 2).await;
                assert_eq!(elapsed(), HOUR / 2);
            }
            assert_eq!(done.get(), is_awaited.then_some(Duration::ZERO));
            assert_eq!(timer.await.unwrap(), HOUR);
        });
    }
}

/// A job that has not begun, for its only thread is busy, is outstanding; one that was taken back is not.
#[test]
fn a_queued_job_holds_the_time_until_it_is_taken_back() {
    let _alone = alone();
    let (go, gone) = mpsc::channel();
    when_it_waits(move || go.send(()).unwrap()).block_on(async {
        let el = get_running_loop().unwrap();
        let pool = roundelay::ThreadPoolExecutor::new(1);
        let first = el.run_in_executor(Some(&pool), move || gone.recv().unwrap());
        let second = el.run_in_executor(Some(&pool), || ());
        let timer = el.call_later(HOUR, || ());
        first.await.unwrap();
        assert!(second.cancel() || second.is_done());
        assert_eq!(elapsed(), Duration::ZERO);
        timer.await.unwrap();
        assert!(pool.shutdown(None).await);
    });
}

/// What is awaited on a descriptor that somebody else has an end of holds the time, however it is awaited.
#[test]
fn no_jump_while_somebody_else_may_write() {
    let _alone = alone();
    type Wait = fn(UnixStream) -> Pin<Box<dyn Future<Output = ()>>>;
    let waits: [Wait; 4] = [
        |end| {
            Box::pin(async {
                let mut stream = roundelay::UnixStream::from_std(end).unwrap();
                assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 1);
            })
        },
        |end| {
            Box::pin(async {
                let mut reader = roundelay::open_read_pipe(end).await.unwrap();
                assert_eq!(reader.read(8).await.unwrap(), b"x");
            })
        },
        |end| {
            Box::pin(async move {
                let el = get_running_loop().unwrap();
                assert_eq!(el.sock_recv(&end, 8).await.unwrap(), b"x");
            })
        },
        |end| {
            Box::pin(async move {
                let el = get_running_loop().unwrap();
                let readable = el.create_future::<()>();
                let told = readable.clone();
                el.add_reader(&end, move || drop(told.set_result(()))).unwrap();
                readable.await.unwrap();
                el.remove_reader(&end);
            })
        },
    ];
    for wait in waits {
        let (end, mut other) = UnixStream::pair().unwrap();
        end.set_nonblocking(true).unwrap();
        when_it_waits(move || other.write_all(b"x").unwrap()).block_on(async {
            timeout(HOUR, wait(end)).await.unwrap();
            assert_eq!(elapsed(), Duration::ZERO);
        });
    }
}

/// What nobody reads is not waited for, though it is open: time passes.
#[test]
fn an_idle_descriptor_holds_nothing() {
    let _alone = alone();
    let (end, _other) = UnixStream::pair().unwrap();
    let (reader, _writer) = UnixStream::pair().unwrap();
    testing::block_on(async {
        let stream = roundelay::UnixStream::from_std(end).unwrap();
        let el = get_running_loop().unwrap();
        let (transport, _) = el.connect_read_pipe(|| Quiet, reader).await.unwrap();
        transport.pause_reading();
        sleep(HOUR).await;
        sleep(HOUR).await;
        drop(stream);
        assert_eq!(elapsed(), 2 * HOUR);
        transport.close();
    });
}

struct Quiet;

impl Protocol for Quiet {}

/// A child process holds the time until it has ended, though nobody awaits it.
#[test]
fn no_jump_while_a_child_runs() {
    let _alone = alone();
    let (end, other) = UnixStream::pair().unwrap();
    when_it_waits(move || drop(other)).block_on(async {
        let child = create_subprocess_exec("cat", [""; 0]).stdin(end).stdout(Stdio::null()).await.unwrap();
        sleep(HOUR).await;
        assert_eq!(elapsed(), HOUR);
        assert_eq!(child.returncode(), Some(0));
    });
}

/// What a loop of another thread is to give holds the time, what the loop itself is to give does not.
#[test]
fn no_jump_while_another_loop_is_awaited() {
    let _alone = alone();
    let (go, gone) = mpsc::channel::<()>();
    let (remote_to, remote_from) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let el = EventLoop::new().unwrap();
        remote_to.send(el.remote()).unwrap();
        el.run_forever();
    });
    let remote = remote_from.recv().unwrap();
    when_it_waits(move || drop(go)).block_on(async {
        let answer = remote.spawn(move || async move { gone.recv().is_err() }).unwrap();
        assert!(timeout(HOUR, answer).await.unwrap().unwrap());
        assert_eq!(elapsed(), Duration::ZERO);
        let own = get_running_loop().unwrap().remote();
        own.spawn(|| sleep(HOUR)).unwrap().await.unwrap();
        assert_eq!(elapsed(), HOUR);
        remote.stop().unwrap();
    });
    thread.join().unwrap();
}

/// The test's own guard holds the time until it is dropped, on whatever thread.
#[test]
fn a_guard_holds_the_time() {
    let _alone = alone();
    let (go, gone) = mpsc::channel::<()>();
    let thread = when_it_waits(move || drop(go)).block_on(async {
        let (busy, remote) = (testing::busy("a thread"), get_running_loop().unwrap().remote());
        let late = spawn(async {
            sleep(HOUR).await;
            elapsed()
        });
        let (told, at) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let _ = gone.recv();
            let at = remote.call_soon_threadsafe(elapsed).ok().and_then(|at| at.wait().ok());
            let _ = told.send(at);
            drop(busy);
        });
        // Not by the thread's end, which the selector would have to let go.
        assert_eq!(timeout(HOUR, at).await, Ok(Ok(Some(Duration::ZERO))));
        assert_eq!(late.await.unwrap(), HOUR);
        thread
    });
    thread.join().unwrap();
}

/// On demand the time jumps past descriptors and jobs, whose results come later then.
#[test]
fn time_jumps_past_what_is_outstanding_if_asked() {
    let _alone = alone();
    let (end, _other) = UnixStream::pair().unwrap();
    let (go, gone) = mpsc::channel::<()>();
    testing::Builder::new().jump_with_io(true).jump_with_jobs(true).block_on(async {
        let mut stream = roundelay::UnixStream::from_std(end).unwrap();
        assert!(timeout(HOUR, stream.read(&mut [0; 1])).await.is_err());
        let job = spawn_blocking(move || gone.recv().is_err());
        sleep(HOUR).await;
        assert_eq!(elapsed(), 2 * HOUR);
        drop(go);
        job.await.unwrap();
    });
}

/// At the end a job has real time to end all the same: the bound of the end is not jumped to past one that is about to.
#[test]
fn the_end_waits_for_jobs_that_time_jumps_past() {
    let _alone = alone();
    let (go, gone) = mpsc::channel();
    when_it_waits(move || go.send(()).unwrap()).jump_with_jobs(true).block_on(async {
        drop(spawn_blocking(move || gone.recv().is_ok()));
        sleep(HOUR).await;
        assert_eq!(elapsed(), HOUR);
    });
}

/// `advance` stops at each deadline on the way, also at those that were not there when it began.
#[test]
fn advance_goes_from_deadline_to_deadline() {
    let _alone = alone();
    for jump in [false, true] {
        testing::Builder::new().jump(jump).block_on(async {
            let (el, log) = (get_running_loop().unwrap(), Log::new());
            let entry = {
                let log = log.clone();
                move |text: &'static str| log.push(format!("{text} {}", elapsed().as_secs()))
            };
            let (first, el_too) = (entry.clone(), el.clone());
            el.call_later(10 * SECOND, move || {
                first("first");
                el_too.call_later(10 * SECOND, move || first("nested"));
            });
            let ticking = entry.clone();
            let ticks = spawn(async move {
                // Not without end: if the time went past where it is to stop, neither would it.
                for _ in 0..100 {
                    sleep(15 * SECOND).await;
                    ticking("tick");
                }
            });
            advance(SECOND).await;
            assert!(log.take().is_empty());
            advance(39 * SECOND).await;
            assert_eq!(log.take(), ["first 10", "tick 15", "nested 20", "tick 30"]);
            assert_eq!(elapsed(), 40 * SECOND);
            ticks.cancel();
        });
    }
}

/// What runs beside each other may advance, too: each goes on at its own moment. One that is dropped moves nothing.
#[test]
fn several_may_advance() {
    let _alone = alone();
    testing::Builder::new().jump(false).block_on(async {
        let tasks: Vec<_> = [3, 1, 2]
            .map(|n| {
                spawn(async move {
                    advance(n * SECOND).await;
                    elapsed()
                })
            })
            .into();
        let dropped = spawn(advance(HOUR));
        settle().await;
        assert!(dropped.cancel());
        for (task, n) in tasks.into_iter().zip([3, 1, 2]) {
            assert_eq!(task.await.unwrap(), n * SECOND);
        }
        assert_eq!(elapsed(), 3 * SECOND);
    });
}

/// `advance` moves the time though a job is outstanding, and `settle` does not wait for it.
#[test]
fn advance_does_not_wait_for_what_is_outstanding() {
    let _alone = alone();
    let (go, gone) = mpsc::channel::<()>();
    testing::block_on(async {
        let job = spawn_blocking(move || gone.recv().is_err());
        settle().await;
        assert!(timeout(2 * HOUR, async { advance(HOUR).await }).await.is_ok());
        assert!(!job.is_done());
        drop(go);
        job.await.unwrap();
    });
}

/// `settle` is ready when all that can run has run, also what came by a descriptor, and moves no time.
#[test]
fn settle_lets_everything_run() {
    on_each(async || {
        let (mut one, mut two) = roundelay::UnixStream::pair().unwrap();
        let echo = spawn(async move {
            let mut buf = [0; 8];
            let n = two.read(&mut buf).await.unwrap();
            two.write_all(&buf[..n]).await.unwrap();
        });
        one.write_all(b"hello").await.unwrap();
        let timer = get_running_loop().unwrap().call_later(SECOND, || ());
        settle().await;
        assert!(echo.is_done());
        let mut buf = [0; 8];
        assert_eq!(one.read(&mut buf).now_or_never().unwrap().unwrap(), 5);
        assert!(!timer.is_done());
        assert_eq!(elapsed(), Duration::ZERO);
    });
}

fn impatient() -> testing::Builder {
    testing::Builder::new().real_limit(Duration::from_millis(20))
}

/// Nothing outstanding and no timer: the test fails, with the names of the tasks. A sleep without end is no timer.
#[test]
fn a_deadlock_is_reported() {
    let _alone = alone();
    let text = failure(|| {
        impatient().block_on(async {
            let el = get_running_loop().unwrap();
            let never = el.create_future::<()>();
            drop(el.task_builder().name("the waiting one").spawn(never.clone()));
            drop(el.task_builder().name("the sleeping one").spawn(sleep(Duration::MAX)));
            let _ = never.await;
        })
    });
    assert!(text.starts_with("virtual time: nothing has happened for 20ms of real time: a deadlock"), "{text}");
    for named in ["the waiting one", "the sleeping one", file!()] {
        assert!(text.contains(named), "{text}");
    }
}

/// While time stands still because of what is outstanding, it is that which is named.
#[test]
fn what_holds_the_time_is_named() {
    let _alone = alone();
    let (end, _other) = UnixStream::pair().unwrap();
    let text = failure(|| {
        impatient().block_on(async {
            let _busy = testing::busy("my thread");
            let mut stream = roundelay::UnixStream::from_std(end).unwrap();
            let _ = timeout(HOUR, stream.read(&mut [0; 1])).await;
        })
    });
    assert!(
        text.contains("time stands still while something is outstanding:\n  my thread, busy since tests"),
        "{text}"
    );
    assert!(text.contains(", one of a pair of sockets, waits to be read\n"), "{text}");
    assert!(text.contains("jump_with_io"), "{text}");

    let (go, gone) = mpsc::channel::<()>();
    let mut go = Some(go);
    let text = failure(|| {
        impatient().block_on(async {
            let job = spawn_blocking(move || gone.recv().is_err());
            let el = get_running_loop().unwrap();
            // The end of the loop waits for the job, too.
            let go = go.take();
            el.call_later(4 * SECOND, move || drop(go));
            job.await.unwrap();
        })
    });
    assert!(text.contains("\n  a blocking job, "), "{text}");
    assert!(text.contains(", submitted at tests/virtual_time.rs:"), "{text}");
}

/// A time that only the test moves, and nobody moves.
#[test]
fn a_time_that_nobody_moves_is_reported() {
    let _alone = alone();
    let text = failure(|| impatient().jump(false).block_on(sleep(SECOND)));
    assert!(text.contains("time is moved by advance() alone"), "{text}");
}

/// The time has an end. It is not tried to get there for ever.
#[test]
fn the_time_cannot_be_moved_beyond_its_end() {
    let _alone = alone();
    for (by, shown) in [(Duration::MAX, "18446744073709551615.999999999s"), (300 * 365 * 24 * HOUR, "9460800000s")] {
        let text = failure(|| testing::block_on(advance(by)));
        assert_eq!(text, format!("testing::advance(): {shown} from now are more than 292 years from the start"));
        let text = failure(|| testing::Builder::new().start(by));
        assert_eq!(text, format!("testing::Builder::start(): {shown} is more than 292 years"));
    }
    testing::block_on(async {
        advance(290 * 365 * 24 * HOUR).await;
        sleep(HOUR).await;
    });
    // A turn that may take so long is one without a limit.
    let el = impatient().build().unwrap();
    el.call_later(HOUR, || ());
    assert_eq!(el.run_once(Some(Duration::MAX)).unwrap(), 1);
    let text = failure(|| el.run_once(Some(Duration::MAX)));
    assert!(text.contains(": a deadlock, "), "{text}");
    el.close();
}

/// A loop that has given up once has all the time again when it is run again.
#[test]
fn a_loop_that_has_given_up_can_be_run_again() {
    let _alone = alone();
    let (go, gone) = mpsc::channel();
    let mut waits = 0;
    let selector = BeforeSleep(Epoll::new().unwrap(), move || {
        waits += 1;
        // The first one was that of the deadlock.
        if waits > 1 {
            let _ = go.send(());
        }
    });
    // Enough for a thread to begin on a busy machine.
    let limit = Duration::from_secs(3);
    let el = testing::Builder::new().real_limit(limit).selector(selector).build().unwrap();
    let text = failure(|| el.run_until_complete(std::future::pending::<()>()));
    assert!(text.contains(": a deadlock, "), "{text}");
    el.run_until_complete(async { spawn_blocking(move || gone.recv().unwrap()).await.unwrap() }).unwrap();
    assert_eq!(el.run_until_complete(el.shutdown_default_executor(None)), Ok(true));
    el.close();
}

/// A waker is the application's, and may come back when it is cloned or dropped.
#[test]
#[allow(unsafe_code)]
fn a_waker_may_call_back() {
    /// Polls another one that waits.
    fn poll_another() {
        assert!(settle().boxed_local().now_or_never().is_none());
    }
    static CALLS_BACK: RawWakerVTable = RawWakerVTable::new(
        |data| {
            poll_another();
            RawWaker::new(data, &CALLS_BACK)
        },
        |_| poll_another(),
        |_| poll_another(),
        |_| poll_another(),
    );
    let _alone = alone();
    testing::block_on(async {
        // SAFETY: the functions do nothing with the pointer.
        let waker = ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &CALLS_BACK)) });
        let mut settled = settle().boxed_local();
        for _ in 0..2 {
            assert!(settled.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
        }
        settle().await;
        assert!(settled.poll_unpin(&mut Context::from_waker(&waker)).is_ready());
    });
}

/// What passes by a jump is no time in which the loop was busy, or did not look at its descriptors.
#[test]
fn a_jump_is_a_sleep_to_the_metrics() {
    let _alone = alone();
    for is_bare in [true, false] {
        testing::block_on(async {
            let listener = (!is_bare).then(|| TcpListener::bind(("127.0.0.1", 0)).into_future());
            let _listener = OptionFuture::from(listener).await;
            let el = get_running_loop().unwrap();
            for _ in 0..10 {
                sleep(HOUR).await;
            }
            let metrics = el.metrics();
            assert_eq!((metrics.idle, metrics.busy), (10 * HOUR, Duration::ZERO), "{metrics:?}");
            assert_eq!((metrics.lag.max(), metrics.blocked), (Duration::ZERO, Duration::ZERO), "{metrics:?}");
            // Nor is it older than it is.
            let task = spawn(sleep(HOUR));
            advance(HOUR / 2).await;
            assert!(el.dump_tasks().to_string().contains("age 1800.0s"), "{}", el.dump_tasks());
            task.await.unwrap();
        });
    }
}

/// The end of a loop takes virtual time: tasks clean up, and one that never ends is given up at once.
#[test]
fn the_end_of_the_loop_is_virtual_too() {
    let _alone = alone();
    let ended = Rc::new(Cell::new(None));
    let seen = ended.clone();
    testing::block_on(async {
        drop(spawn(async move {
            roundelay::cancel_requested().await;
            sleep(SECOND).await;
            seen.set(Some(elapsed()));
        }));
        sleep(HOUR).await;
    });
    assert_eq!(ended.get(), Some(HOUR + SECOND));

    let text = failure(|| {
        testing::block_on(async {
            drop(spawn(async {
                roundelay::cancel_requested().await;
                std::future::pending::<()>().await;
            }));
            sleep(HOUR).await;
        });
    });
    assert!(text.contains("reported to the exception handler"), "{text}");
    assert!(text.contains("Task"), "{text}");
}

/// A job that is not over holds up the end no longer than the real limit: then it is given up.
#[test]
fn the_end_comes_though_a_job_is_stuck() {
    let _alone = alone();
    let (go, gone) = mpsc::channel::<()>();
    let text = failure(|| {
        impatient().block_on(async {
            drop(spawn_blocking(move || gone.recv().is_err()));
        })
    });
    assert!(text.contains("The loop is closed though not everything has ended within 5s: 1 blocking job"), "{text}");
    drop(go);
}

/// A report fails the test with its text, unless the test hears of it itself or has asked to let it pass.
#[test]
fn a_report_fails_the_test() {
    let _alone = alone();
    async fn lose_a_panic() {
        drop(spawn(async { panic!("lost") }));
        settle().await;
    }
    let text = failure(|| testing::block_on(lose_a_panic()));
    assert!(text.starts_with("testing::block_on(): reported to the exception handler"), "{text}");
    assert!(text.contains("lost"), "{text}");
    testing::Builder::new().strict(false).block_on(lose_a_panic());
    let heard = testing::block_on(async {
        let log = Log::new();
        let logged = log.clone();
        let handler: roundelay::ExceptionHandler = Rc::new(move |_, context| logged.push(context.to_string()));
        get_running_loop().unwrap().set_exception_handler(Some(handler));
        lose_a_panic().await;
        log.take()
    });
    assert_eq!(heard.len(), 1);
}

/// A report that cannot be shown is one all the same.
#[test]
fn a_report_that_cannot_be_shown_fails_the_test_too() {
    #[derive(Debug)]
    struct Unspeakable;
    impl std::fmt::Display for Unspeakable {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("not to be spoken of");
        }
    }
    impl std::error::Error for Unspeakable {}

    let _alone = alone();
    let text = failure(|| {
        testing::block_on(async {
            let context = ExceptionContext::new("it went wrong").with_exception(Exception::Error(&Unspeakable));
            get_running_loop().unwrap().call_exception_handler(&context);
        })
    });
    assert!(text.contains("reported to the exception handler"), "{text}");
    assert!(text.contains("it went wrong"), "{text}");
}

/// The panic of the test itself comes first.
#[test]
fn the_panic_of_the_test_is_its_own() {
    let _alone = alone();
    let text = failure(|| {
        testing::block_on(async {
            drop(spawn(async { panic!("lost") }));
            settle().await;
            panic!("the test's own");
        })
    });
    assert_eq!(text, "the test's own");
}

/// A loop that is run turn by turn: a turn takes no more than its limit, of virtual time.
#[test]
fn a_turn_takes_no_more_than_its_limit() {
    let _alone = alone();
    let el = testing::Builder::new().build().unwrap();
    let began = el.time();
    let timer = el.call_later(HOUR, || ());
    assert_eq!(el.run_once(Some(Duration::ZERO)).unwrap(), 0);
    assert_eq!(el.time(), began);
    assert_eq!(el.run_once(Some(HOUR / 2)).unwrap(), 0);
    assert_eq!(el.time() - began, HOUR / 2);
    assert_eq!(el.run_once(None).unwrap(), 1);
    assert_eq!(el.time() - began, HOUR);
    assert!(timer.is_done());
    assert_eq!(el.run_once(Some(HOUR)).unwrap(), 0);
    assert_eq!(el.time() - began, 2 * HOUR);
    el.close();

    let el = testing::Builder::new().jump(false).build().unwrap();
    let (began, timer) = (el.time(), el.call_later(SECOND, || ()));
    assert_eq!(el.run_once(Some(Duration::from_millis(1))).unwrap(), 0);
    assert_eq!(el.run_until_complete(async { timer.is_done() }), Ok(false));
    assert_eq!(el.time(), began);
    el.run_until_complete(advance(SECOND)).unwrap();
    assert!(timer.is_done());
    el.close();
}

/// Where there is no virtual time, and where there is no loop, the functions say so.
#[test]
fn the_functions_need_a_loop_under_test() {
    let _alone = alone();
    let text = failure(elapsed);
    assert_eq!(text, "roundelay::testing::elapsed() was called outside of a running event loop");
    let text = failure(|| roundelay::block_on(advance(SECOND)));
    assert!(text.starts_with("testing::advance() was called in <EventLoop"), "{text}");
    assert!(text.contains("whose time is not virtual"), "{text}");
    let text = failure(|| testing::block_on(async { testing::block_on(async {}) }));
    assert!(text.starts_with("testing::block_on(): cannot be called while an event loop is running"), "{text}");
}

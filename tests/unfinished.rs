//! The report of what has not ended with the loop, within the bound of `block_on` and `Runner` (behaviours PO-06, api 1).

// Handles are handed out of a run, to be looked at after the end.
#![allow(clippy::async_yields_async)]

mod common;

#[cfg(feature = "__tls")]
#[path = "common/certificates.rs"]
mod certificates;
#[path = "common/collector.rs"]
mod collector;
#[path = "common/runners.rs"]
mod runners;

use std::cell::RefCell;
use std::future::pending;
use std::net::UdpSocket;
use std::os::unix::net::UnixListener;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use collector::collect;
use common::{Log, PATIENCE, take_reports};
use futures::{AsyncRead, AsyncWrite};
use roundelay::{
    Clock, DatagramHandle, DatagramProtocol, EventLoop, ExceptionContext, JobInfo, Protocol, Runner, Subject, TaskInfo,
    TaskState, Transport, cancel_requested, get_running_loop, is_cancel_requested, spawn, spawn_blocking, yield_now,
};
use runners::{OnDrop, hasty, jam, on_runner, patient, told};

/// The one report there is; its first line, and the others.
#[track_caller]
fn take_report() -> (String, Vec<String>) {
    let reports = take_reports();
    assert_eq!(reports.len(), 1, "{reports:#?}");
    let mut lines = reports[0].lines().map(String::from);
    (lines.next().unwrap(), lines.collect())
}

fn head(within: &str, what: &str) -> String {
    format!("The loop is closed though not everything has ended {within}: {what}")
}

/// A task that is asked to end and takes its time.
async fn cleans_up(log: Log, cleaning: impl Future<Output = ()>) {
    let _guard = OnDrop({
        let log = log.clone();
        move || log.push("dropped")
    });
    cancel_requested().await;
    log.push("asked");
    cleaning.await;
    log.push("cleaned up");
}

/// A job that runs until the sender is dropped, and has begun.
async fn busy_job() -> mpsc::Sender<()> {
    let (release, wait) = mpsc::channel::<()>();
    let (begin, mut begun) = futures::channel::oneshot::channel();
    drop(spawn_blocking(move || {
        begin.send(()).unwrap();
        let _ = wait.recv_timeout(PATIENCE);
    }));
    (&mut begun).await.unwrap();
    release
}

/// PO-06: a task that looks whether it was asked to end may clean up, and await; its end is waited for, and nothing is
/// reported. One that does not look is cancelled at once.
#[test]
fn a_task_cleans_up() {
    let log = Log::new();
    on_runner(patient(), |runner, el| {
        let (polite, other, el) = (log.clone(), log.clone(), el.clone());
        let run = runner.run(async move {
            let cleaning = async move {
                // Over several turns, with timers, and with a task of its own.
                roundelay::sleep(Duration::from_millis(2)).await;
                el.create_task(yield_now()).await.expect("what it spawns is not cancelled");
            };
            drop(spawn(cleans_up(polite, cleaning)));
            drop(spawn(async move {
                let _guard = OnDrop(move || other.push("cancelled"));
                pending::<()>().await;
            }));
            yield_now().await;
        });
        run.unwrap();
        runner.close();
        assert_eq!(log.take(), ["asked", "cancelled", "cleaned up", "dropped"]);
    });
}

/// PO-06: a task that cleans up for ever is dropped on the loop when the bound is over; the report names it and where it
/// was spawned. Connections and jobs are waited for within the same bound.
#[test]
fn a_task_that_cleans_up_for_ever() {
    let log = Log::new();
    on_runner(hasty(), |runner, _| {
        let own = log.clone();
        let line = line!() + 2;
        let run = runner.run(async move {
            drop(get_running_loop().unwrap().task_builder().name("tidy").spawn(cleans_up(own, pending())));
            drop(spawn(async {
                while !is_cancel_requested() {
                    yield_now().await;
                }
            }));
            yield_now().await;
        });
        run.unwrap();
        runner.close();
        assert_eq!(log.take(), ["asked", "dropped"]);
        let (first, others) = take_report();
        assert_eq!(first, head("within 200ms", "1 task"));
        assert_eq!(others.len(), 1, "{others:?}");
        let place = format!("spawned at tests/unfinished.rs:{line}:");
        assert!(others[0].contains("name=\"tidy\"") && others[0].contains(&place), "{others:?}");
    });
}

/// PO-06: a task that spawns whenever it ends is named once, and not said to have taken too long.
#[test]
fn a_task_that_is_made_again_and_again() {
    fn again(el: EventLoop) {
        let handle = el.clone();
        let guard = OnDrop(move || {
            if !handle.is_closed() {
                again(handle.clone());
            }
        });
        let body = async move {
            let _guard = guard;
            pending::<()>().await;
        };
        drop(el.task_builder().name("phoenix").spawn(body));
    }
    on_runner(patient(), |runner, el| {
        again(el.clone());
        runner.close();
        let (first, others) = take_report();
        assert_eq!(first, head("in 100 rounds", "1 task"));
        assert!(others.len() == 1 && others[0].contains("phoenix"), "{others:?}");
        // The last one is dropped by a loop that takes no tasks any more, which is reported as ever.
        drop(take_reports());
    });
}

/// PO-06: connections that do not get rid of what is queued are aborted when the bound is over, and the report says to
/// whom they were; those that have nothing to send are closed and not named.
#[test]
fn connections_that_cannot_be_flushed() {
    let log = Log::new();
    on_runner(hasty(), |runner, _| {
        let (peers, addresses) = runner
            .run(async {
                let (mut peers, mut addresses) = (Vec::new(), Vec::new());
                for name in ["one", "two"] {
                    let (transport, peer) = told(&log, name, |_| {}).await;
                    jam(&transport);
                    addresses.push(peer.local_addr().unwrap());
                    peers.push(peer);
                }
                peers.push(told(&log, "idle", |_| {}).await.1);
                (peers, addresses)
            })
            .unwrap();
        runner.close();
        let mut lost = log.take();
        lost.sort();
        assert_eq!(lost, ["idle lost None", "one lost None", "two lost None"]);
        let (first, others) = take_report();
        assert_eq!(first, head("within 200ms", "2 connections"));
        assert_eq!(others.len(), 2, "{others:?}");
        for address in addresses {
            let named = format!(" peer={address}>");
            let line = others.iter().find(|line| line.contains(&named)).expect("each is named");
            assert!(line.contains("<Transport "), "{line}");
        }
        drop(peers);
    });
}

/// A stream that takes nothing.
struct Stuck;

impl AsyncRead for Stuck {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<std::io::Result<usize>> {
        Poll::Pending
    }
}

impl AsyncWrite for Stuck {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Pending
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Pending
    }
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Pending
    }
}

struct Idle;

impl Protocol for Idle {}
impl DatagramProtocol for Idle {}

/// PO-06: so it is with transports of every kind: of unix sockets, pipes, streams of the application's, datagrams, TLS.
#[test]
fn transports_of_every_kind() {
    on_runner(hasty(), |runner, el| {
        // Within, for whoever counts descriptors meanwhile would count the folder while it is removed.
        let folder = tempfile::tempdir().unwrap();
        let [path, full] = ["stream", "datagrams"].map(|name| folder.path().join(name));
        let listener = UnixListener::bind(&path).unwrap();
        // Its queue has no room for long.
        let receiver = std::os::unix::net::UnixDatagram::bind(&full).unwrap();
        let (_reader, writer) = rustix::pipe::pipe().unwrap();
        let open = runner.run(async {
            let (transport, _) = el.create_unix_connection(|| Idle, &path).await.unwrap();
            jam(&transport);
            let (pipe, _) = el.connect_write_pipe(|| Idle, writer).await.unwrap();
            jam(&pipe);
            let (stuck, _) = el.connect_stream(|| Idle, Stuck).unwrap();
            stuck.write(b"never sent");
            let (datagrams, _) = el.create_datagram_endpoint(|| Idle).remote_addr(&*full).await.unwrap();
            while datagrams.write_buffer_size() == 0 {
                datagrams.sendto(&[0; 1000], None);
            }
            (transport.id(), stuck.id(), datagrams.id())
        });
        let (unix, stuck, datagrams) = open.unwrap();
        runner.close();
        let (first, others) = take_report();
        assert_eq!(first, head("within 200ms", "4 connections"));
        let line = |start: String| others.iter().find(|line| line.trim_start().starts_with(&start)).expect("named");
        assert!(line(format!("<Transport {unix} ")).contains(&format!("peer={path:?}")), "{others:?}");
        line(format!("<Transport {stuck} "));
        assert!(line(format!("<DatagramTransport {datagrams} ")).contains(&format!("peer={full:?}")), "{others:?}");
        drop((listener, receiver));
    });
}

/// PO-06: of a connection over TLS the upper transport is named, which is the one that the application knows.
#[cfg(feature = "__tls")]
#[test]
fn connections_over_tls() {
    on_runner(hasty(), |runner, el| {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (socket, _) = listener.accept().unwrap();
            let mut connection = rustls::ServerConnection::new(certificates::server_config()).unwrap();
            let mut blocking = &socket;
            while connection.is_handshaking() {
                connection.complete_io(&mut blocking).unwrap();
            }
            socket
        });
        let connected = runner.run(async {
            let connector = certificates::connector();
            let client = el.create_connection(|| Idle, address).tls(connector).server_hostname("localhost");
            let (transport, _) = client.await.unwrap();
            while transport.write_buffer_size() < 4 << 20 {
                transport.write(&[0; 100_000]);
                yield_now().await;
            }
            transport
        });
        let transport = connected.unwrap();
        let _socket = server.join().unwrap();
        runner.close();
        let (first, others) = take_report();
        assert_eq!(first, head("within 200ms", "1 connection"));
        assert!(others[0].contains(&format!("<Transport {} ", transport.id())), "{others:?}");
        assert!(others[0].contains(&format!("peer={address}")), "{others:?}");
    });
}

/// PO-06: jobs are named by their function, where they were submitted, and how long they have been running; those behind
/// them never begin. What was taken back or has ended is not named.
#[test]
fn jobs_that_do_not_end() {
    on_runner(hasty(), |runner, el| {
        let begun = Arc::new(Mutex::new(0));
        let (count, threads) = (begun.clone(), threads());
        let line = line!() + 4;
        let release = runner.run(async {
            let mut release = Vec::new();
            for _ in 0..threads {
                release.push(busy_job().await);
            }
            drop(el.run_in_executor(None, move || *count.lock().unwrap() += 1));
            assert!(spawn_blocking(|| ()).cancel());
            release
        });
        runner.close();
        let (first, others) = take_report();
        assert_eq!(first, head("within 200ms", &format!("{} blocking jobs", threads + 1)));
        let running: Vec<_> = others.iter().filter(|line| line.starts_with("  <Job running for ")).collect();
        assert!(running.iter().all(|line| line.contains("s unfinished::busy_job::{{closure}}")), "{running:?}");
        assert_eq!(running.len(), threads, "{others:?}");
        let queued = "  <Job not begun unfinished::jobs_that_do_not_end::{{closure}}";
        let place = format!(" at tests/unfinished.rs:{}:", line + 2);
        let queued: Vec<_> = others.iter().filter(|line| line.starts_with(queued)).collect();
        assert!(queued.len() == 1 && queued[0].contains(&place), "{others:?} {place}");
        drop(release);
        assert_eq!(*begun.lock().unwrap(), 0);
    });
}

/// The most threads of a default executor.
fn threads() -> usize {
    32.min(std::thread::available_parallelism().unwrap().get() + 4)
}

/// EX-06: `shutdown_default_executor` names them, too.
#[test]
fn the_executors_own_report() {
    on_runner(patient(), |runner, el| {
        let release = runner.run(async {
            let release = busy_job().await;
            assert!(!el.shutdown_default_executor(Some(Duration::ZERO)).await);
            release
        });
        let (first, others) = take_report();
        assert_eq!(first, "the default executor did not finish within 0ns: 1 job(s) abandoned");
        assert!(others.len() == 1 && others[0].contains("unfinished::busy_job::{{closure}}"), "{others:?}");
        drop(release);
    });
}

/// EX-06: what `shutdown_default_executor` has abandoned is neither waited for nor named again: not by another call, and not
/// at the end of the loop.
#[test]
fn abandoned_once() {
    on_runner(hasty(), |runner, el| {
        let release = runner.run(async {
            let release = busy_job().await;
            assert!(!el.shutdown_default_executor(Some(Duration::ZERO)).await);
            take_report();
            assert!(el.shutdown_default_executor(None).await);
            release
        });
        runner.close();
        assert_eq!(take_reports(), [""; 0]);
        // The job runs on.
        release.unwrap().send(()).unwrap();
    });
}

/// A clock that jumps to the next deadline whenever the loop would sleep, so that a loop which waits shows it.
#[derive(Clone)]
struct Jumping(Arc<AtomicU64>, Instant);

impl Clock for Jumping {
    fn now(&self) -> Instant {
        self.1 + Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
    fn sleep_until(&self, deadline: Instant) -> Option<Duration> {
        let nanos = deadline.saturating_duration_since(self.1).as_nanos() as u64;
        self.0.fetch_max(nanos, Ordering::Relaxed);
        Some(Duration::ZERO)
    }
}

/// api 1: there is one bound for the whole end and one report of it, which comes while the loop is open; its subjects are
/// found by their types.
#[test]
fn one_bound_and_one_report() {
    let clock = Jumping(Arc::default(), Instant::now());
    let given = clock.clone();
    let make = move || EventLoop::builder().clock(given).build();
    on_runner(patient().loop_factory(make), |runner, el| {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let heard = seen.clone();
        el.set_exception_handler(Some(Rc::new(move |el, context| {
            fn all<'a, S: Subject>(context: &'a ExceptionContext<'_>) -> Vec<&'a S> {
                context.subjects().filter_map(|subject| subject.as_any().downcast_ref()).collect()
            }
            assert!(!el.is_closed());
            let tasks = all::<TaskInfo>(context).into_iter().map(|task| (task.name.to_string(), task.state));
            let connections = all::<Transport>(context).into_iter().map(|transport| transport.is_closing());
            let jobs = all::<JobInfo>(context).into_iter().map(|job| (job.running_for.is_some(), job.name));
            assert!(all::<DatagramHandle>(context).is_empty());
            assert!(context.task().is_some() && context.transport().is_some());
            heard.borrow_mut().push((
                context.message.to_string(),
                tasks.collect::<Vec<_>>(),
                connections.collect::<Vec<_>>(),
                jobs.collect::<Vec<_>>(),
            ));
        })));
        let before = el.time();
        let open = runner.run(async {
            drop(el.task_builder().name("tidy").spawn(cleans_up(Log::new(), pending())));
            yield_now().await;
            let (transport, peer) = told(&Log::new(), "jammed", |_| {}).await;
            jam(&transport);
            (peer, busy_job().await)
        });
        assert_eq!(el.time(), before);
        runner.close();
        assert_eq!(el.time() - before, PATIENCE);
        let seen = seen.take();
        assert_eq!(seen.len(), 1, "{seen:?}");
        let (message, tasks, connections, jobs) = &seen[0];
        assert_eq!(*message, head("within 20s", "1 task, 1 connection, 1 blocking job"));
        assert_eq!(*tasks, [("tidy".to_string(), TaskState::Cancelling)]);
        // It was aborted meanwhile.
        assert_eq!(*connections, [true]);
        assert!(jobs.len() == 1 && jobs[0].0 && jobs[0].1.contains("busy_job"), "{jobs:?}");
        drop(open);
    });
}

/// Of very many the first ones are named, and the rest is counted.
#[test]
fn very_many() {
    on_runner(hasty(), |runner, el| {
        runner
            .run(async {
                for _ in 0..100 {
                    drop(el.create_task(cleans_up(Log::new(), pending())));
                }
                yield_now().await;
            })
            .unwrap();
        runner.close();
        let (first, others) = take_report();
        assert_eq!(first, head("within 200ms", "100 tasks"));
        assert_eq!(others.iter().filter(|line| line.starts_with("  <Task ")).count(), 20, "{others:?}");
        assert_eq!(others.last().map(String::as_str), Some("  not named here: 80"));
    });
}

/// A handler that panics at the report keeps nothing from ending.
#[test]
fn a_handler_that_panics_at_the_report() {
    on_runner(hasty(), |runner, el| {
        el.set_exception_handler(Some(Rc::new(|_, _| panic!("no reports, please"))));
        let release = runner.run(busy_job());
        runner.close();
        assert!(el.is_closed());
        drop(release);
    });
}

/// A loop of somebody else's that is closed under the end is no endless source of reports.
#[test]
fn a_loop_that_is_closed_under_its_end() {
    let _alone = common::alone();
    let owner = EventLoop::new().unwrap();
    common::watch_reports(&owner);
    let el = owner.clone();
    let handle = el.clone();
    let mut runner = Runner::builder().loop_factory(move || Ok(handle)).build();
    runner
        .run(async {
            let guard = OnDrop({
                let mut owner = Some(owner);
                move || drop(owner.take())
            });
            drop(spawn(async move {
                let _guard = guard;
                pending::<()>().await;
            }));
            yield_now().await;
        })
        .unwrap();
    // The owner took its exception handler along: what is reported afterwards is written.
    let ((), written) = collect(|| runner.close());
    assert!(el.is_closed());
    assert!(take_reports().is_empty() && written.is_empty(), "{written:?}");
}

/// Nothing is said where everything has ended, however much there was.
#[test]
fn nothing_to_report() {
    on_runner(patient(), |runner, el| {
        let open = runner.run(async {
            let (_, peer) = told(&Log::new(), "idle", |_| {}).await;
            let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
            el.create_datagram_endpoint(|| Idle).remote_addr(socket.local_addr().unwrap()).await.unwrap();
            drop(spawn(pending::<()>()));
            drop(spawn_blocking(|| ()));
            (peer, socket)
        });
        drop(open);
        runner.close();
    });
}

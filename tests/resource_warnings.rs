//! Warnings about what was left open, in debug mode (behaviours RW).

mod common;

#[cfg(feature = "__tls")]
#[path = "common/certificates.rs"]
mod certificates;
#[path = "common/collector.rs"]
mod collector;

use std::any::Any;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use collector::{collect, in_a_child};
use common::{Kind, Log, complete, on_loop, poll_times, run_until, settle};
use roundelay::{
    Clock, EventLoop, Protocol, Runner, StreamReader, StreamWriter, TcpListener, Transport, open_connection,
    open_read_pipe, open_write_pipe, start_server,
};
use rustix::io::{FdFlags, fcntl_getfd};
use tracing::Level;

struct Idle;

impl Protocol for Idle {}

/// Makes a loop of each kind, lets `body` leave things open on it, drops the loop, and gives the warnings that came of it.
/// What `body` returns is held until the loop is gone. Nothing may be left open by then.
fn warnings(debug: bool, body: impl Fn(&EventLoop) -> Box<dyn Any>) -> Vec<Vec<String>> {
    let _alone = common::alone();
    let each = [Kind::Epoll, Kind::Polling, Kind::Level].map(|kind| {
        let descriptors = common::open_descriptors();
        let (kept, written) = collect(|| {
            let el = kind.builder().debug(debug).build().unwrap();
            common::watch_reports(&el);
            body(&el)
        });
        drop(kept);
        assert_eq!(common::open_descriptors(), descriptors, "{kind:?}");
        assert!(common::take_reports().is_empty());
        assert!(written.iter().all(|(level, _)| *level == Level::WARN), "{written:?}");
        written.into_iter().map(|(_, text)| text).collect::<Vec<_>>()
    });
    each.into()
}

/// Checks that there is one warning for each of `expected`, which begins so, and no other, on each kind of loop.
#[track_caller]
fn check(warnings: Vec<Vec<String>>, expected: &[&str]) {
    for warnings in warnings {
        assert_eq!(warnings.len(), expected.len(), "{warnings:#?}");
        for (warning, expected) in warnings.iter().zip(expected) {
            assert!(warning.starts_with(&format!("resource warning: {expected}")), "{warnings:#?}");
        }
    }
}

fn nothing() -> Box<dyn Any> {
    Box::new(())
}

const LOOP: &str = "unclosed event loop <EventLoop ";
const TRANSPORT: &str = "unclosed transport <Transport ";
const SERVER: &str = "unclosed server on [127.0.0.1:";
const WRITER: &str = "unclosed StreamWriter of <Transport ";

/// RW-01: a loop that is dropped unclosed warns once, and is closed; one that was closed does not, nor does any outside of
/// debug mode. Handles do not count.
#[test]
fn an_unclosed_loop() {
    check(warnings(true, |_| nothing()), &[LOOP]);
    check(warnings(false, |_| nothing()), &[]);
    let closed = |el: &EventLoop| {
        drop(el.clone());
        el.close();
        nothing()
    };
    check(warnings(true, closed), &[]);
    let turned_on = |el: &EventLoop| {
        el.set_debug(true);
        nothing()
    };
    check(warnings(false, turned_on), &[LOOP]);
    let kept = |el: &EventLoop| -> Box<dyn Any> { Box::new(el.clone()) };
    check(warnings(true, kept), &[LOOP]);
}

/// RW-01: a loop whose owner is dropped by one of its own callbacks warns once, and is closed after that turn.
#[test]
fn a_loop_dropped_from_within() {
    on_loop(|_| {
        let ((), written) = collect(|| {
            let owner = Kind::Epoll.builder().debug(true).build().unwrap();
            let handle = owner.clone();
            handle.call_soon(move || drop(owner));
            handle.run_forever();
            assert!(handle.is_closed());
        });
        assert_eq!(written.len(), 1, "{written:?}");
        assert!(written[0].1.contains("unclosed event loop") && written[0].1.contains("running=true"), "{written:?}");
    });
}

/// RW-01: where no subscriber listens, the warning is on stderr.
#[test]
fn warnings_go_to_stderr() {
    let stderr = in_a_child("warnings_go_to_stderr", || {
        drop(EventLoop::builder().debug(true).name("forgotten").build().unwrap());
        drop(EventLoop::builder().debug(false).build().unwrap());
    });
    let Some(stderr) = stderr else { return };
    let lines: Vec<&str> = stderr.lines().filter(|line| line.starts_with("roundelay: ")).collect();
    assert_eq!(lines.len(), 1, "{stderr}");
    assert!(lines[0].starts_with("roundelay: resource warning: unclosed event loop <EventLoop"), "{stderr}");
    assert!(lines[0].contains("forgotten"), "{stderr}");
}

/// A server, and a client of it whose two transports stand.
fn connected(el: &EventLoop) -> (roundelay::Server, Transport) {
    let server = complete(el, el.create_server(|| Idle, ("127.0.0.1", 0))).unwrap();
    let (transport, _) = complete(el, el.create_connection(|| Idle, server.local_addrs()[0])).unwrap();
    run_until(el, || server.connections() == 1);
    (server, transport)
}

/// RW-01: transports and servers that are open when the loop is closed warn once each, whoever holds handles.
#[test]
fn unclosed_transports_and_servers() {
    for held in [true, false] {
        let left = warnings(true, |el| {
            let open = connected(el);
            if held {
                el.close();
                Box::new(open)
            } else {
                drop(open);
                el.close();
                nothing()
            }
        });
        for mut warnings in left {
            warnings.sort();
            check(vec![warnings], &[SERVER, TRANSPORT, TRANSPORT]);
        }
    }
    let off = warnings(false, |el| {
        drop(connected(el));
        nothing()
    });
    check(off, &[]);
}

/// RW-01: what is closed, or closing, when the loop is does not warn.
#[test]
fn closed_transports_and_servers() {
    let closed = warnings(true, |el| {
        let (server, transport) = connected(el);
        server.close();
        transport.close();
        run_until(el, || server.connections() == 0);
        settle(el);
        el.close();
        nothing()
    });
    check(closed, &[]);
    let closing = warnings(true, |el| {
        let (server, transport) = connected(el);
        drop(server.close_on_drop());
        // The peer does not read, so that it is still being flushed.
        server.close_clients();
        transport.pause_reading();
        transport.abort();
        el.close();
        nothing()
    });
    check(closing, &[]);
}

/// RW-01: of connections over TLS the ones below are as closed as those above, which have them to say goodbye.
#[cfg(feature = "__tls")]
#[test]
fn transports_over_tls() {
    for closes in [true, false] {
        let left = warnings(true, |el| {
            let server = el.create_server(|| Idle, ("127.0.0.1", 0)).tls(certificates::acceptor());
            let server = complete(el, server.into_future()).unwrap();
            let address = server.local_addrs()[0];
            let client = el.create_connection(|| Idle, address).tls(certificates::connector());
            let (transport, _) = complete(el, client.server_hostname("localhost").into_future()).unwrap();
            drop(server.close_on_drop());
            if closes {
                server.close_clients();
                transport.close();
            }
            el.close();
            nothing()
        });
        check(left, if closes { &[] } else { &[TRANSPORT, TRANSPORT] });
    }
}

/// A server of several sockets warns once; one that never listened does not.
#[test]
fn servers_of_several_sockets() {
    let both = warnings(true, |el| {
        let addresses: Vec<std::net::SocketAddr> = vec!["127.0.0.1:0".parse().unwrap(), "127.0.0.2:0".parse().unwrap()];
        let server = complete(el, el.create_server(|| Idle, addresses)).unwrap();
        assert_eq!(server.sockets().len(), 2);
        el.close();
        Box::new(server)
    });
    for warnings in &both {
        assert!(warnings[0].contains("127.0.0.1:") && warnings[0].contains("127.0.0.2:"), "{warnings:?}");
    }
    check(both, &[SERVER]);
    let bound = warnings(true, |el| {
        let server = complete(el, el.create_server(|| Idle, ("127.0.0.1", 0)).start_serving(false)).unwrap();
        el.close();
        Box::new(server)
    });
    check(bound, &[]);
}

/// RW-01: a stream writer that is dropped unclosed, with its reader, warns once; the connection is closed all the same.
#[test]
fn unclosed_writers() {
    let dropped = warnings(true, |el| {
        let handler = |_: StreamReader, mut writer: StreamWriter| async move { writer.close() };
        complete(el, async {
            let server = start_server(handler, ("127.0.0.1", 0)).await.unwrap();
            let halves = open_connection(server.local_addrs()[0]).await.unwrap();
            server.close();
            drop(halves);
            server.wait_closed().await;
        });
        settle(el);
        el.close();
        nothing()
    });
    check(dropped, &[WRITER]);
    let closed = warnings(true, |el| {
        let handler = |_: StreamReader, mut writer: StreamWriter| async move { writer.close() };
        complete(el, async {
            let server = start_server(handler, ("127.0.0.1", 0)).await.unwrap();
            let (_reader, mut writer) = open_connection(server.local_addrs()[0]).await.unwrap();
            server.close();
            writer.close();
            writer.wait_closed().await.unwrap();
            server.wait_closed().await;
        });
        settle(el);
        el.close();
        nothing()
    });
    check(closed, &[]);
}

/// SR-26: a server's handler that ends without having closed its connection is warned of, once; one that closes it is not.
#[test]
fn handlers_that_do_not_close() {
    for (closes, expected) in [(false, &[WRITER][..]), (true, &[])] {
        let warned = warnings(true, |el| {
            let handler = async move |mut reader: StreamReader, mut writer: StreamWriter| {
                writer.write(&reader.readline().await.unwrap());
                if closes {
                    writer.close();
                }
            };
            complete(el, async {
                let server = start_server(handler, ("127.0.0.1", 0)).await.unwrap();
                let (mut reader, mut writer) = open_connection(server.local_addrs()[0]).await.unwrap();
                writer.write(b"line\n");
                assert_eq!(reader.read_to_end().await.unwrap(), b"line\n", "it is closed in either way");
                writer.close();
                writer.wait_closed().await.unwrap();
                server.close();
                server.wait_closed().await;
            });
            settle(el);
            el.close();
            nothing()
        });
        check(warned, expected);
    }
}

/// The plain types close by being dropped: that is their way, and no mistake.
#[test]
fn plain_types_do_not_warn() {
    let plain = warnings(true, |el| {
        complete(el, async {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            let (client, accepted) = (roundelay::TcpStream::connect(address).await, listener.accept().await);
            drop((client.unwrap(), accepted.unwrap(), listener));
        });
        settle(el);
        el.close();
        nothing()
    });
    check(plain, &[]);
}

/// RW-02: a connection that fails, or is given up at any of its awaits, leaves nothing to warn of; nor does a server that
/// cannot be made.
#[test]
fn what_never_came_about() {
    let failed = warnings(true, |el| {
        let refusing = {
            let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
            listener.local_addr().unwrap()
        };
        let error = complete(el, el.create_connection(|| Idle, refusing)).map(drop).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);

        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let taken = complete(el, el.create_server(|| Idle, address).reuse_address(false)).map(drop).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        for times in 0..3 {
            let connecting = el.create_connection(|| Idle, address).into_future();
            let made = complete(el, poll_times(connecting, times));
            if let Some(made) = made {
                made.unwrap().0.abort();
            }
        }
        settle(el);
        el.close();
        nothing()
    });
    check(failed, &[]);
}

/// A clock that jumps to the next deadline whenever the loop would sleep, so that a loop which waits shows it.
#[derive(Clone)]
struct Jumping(Arc<AtomicU64>, Instant);

impl Jumping {
    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

impl Clock for Jumping {
    fn now(&self) -> Instant {
        self.1 + self.elapsed()
    }
    fn sleep_until(&self, deadline: Instant) -> Option<Duration> {
        let nanos = deadline.saturating_duration_since(self.1).as_nanos() as u64;
        self.0.fetch_max(nanos, Ordering::Relaxed);
        Some(Duration::ZERO)
    }
}

/// PO-06: a runner ends everything in an orderly way: it leaves nothing to warn of, whatever the application has left
/// open. Protocols hear of the end, and nobody waits for connections that have nothing left to send.
#[test]
fn a_runner_closes_everything() {
    struct Told(Log);
    impl Protocol for Told {
        fn connection_lost(&mut self, _: &Transport, error: Option<io::Error>) {
            self.0.push(format!("lost {error:?}"));
        }
    }
    let _alone = common::alone();
    let (clock, log) = (Jumping(Arc::default(), Instant::now()), Log::new());
    let (given, told) = (clock.clone(), log.clone());
    let ((), written) = collect(|| {
        let make = || EventLoop::builder().clock(given).build();
        let mut runner = Runner::builder().debug(true).loop_factory(make).build();
        let main = async move {
            let el = roundelay::get_running_loop().unwrap();
            let of_server = told.clone();
            let server = el.create_server(move || Told(of_server.clone()), ("127.0.0.1", 0)).await.unwrap();
            drop(el.create_connection(|| Told(told), server.local_addrs()[0]).await.unwrap());
            while server.connections() == 0 {
                roundelay::yield_now().await;
            }
        };
        runner.run(main).unwrap();
        runner.close();
    });
    assert!(written.is_empty(), "{written:?}");
    assert_eq!(log.take(), ["lost None", "lost None"]);
    assert_eq!(clock.elapsed(), Duration::ZERO);
}

/// PO-06: tasks that are cancelled by that end drop their writers unclosed, which is no mistake of theirs.
#[test]
fn writers_of_cancelled_tasks() {
    let _alone = common::alone();
    let ((), written) = collect(|| {
        let make = || Kind::Epoll.builder().build();
        let mut runner = Runner::builder().debug(true).loop_factory(make).build();
        let main = async {
            let handler = |mut reader: StreamReader, writer: StreamWriter| async move {
                let _writer = writer;
                let _ = reader.readline().await;
            };
            let server = start_server(handler, ("127.0.0.1", 0)).await.unwrap();
            let halves = open_connection(server.local_addrs()[0]).await.unwrap();
            drop(roundelay::spawn(async move {
                let _halves = halves;
                roundelay::sleep(Duration::from_secs(5000)).await;
            }));
            while server.connections() == 0 {
                roundelay::yield_now().await;
            }
            roundelay::yield_now().await;
        };
        runner.run(main).unwrap();
        runner.close();
    });
    assert!(written.is_empty(), "{written:?}");
}

/// RW-05: the loop leaves the flags of the standard descriptors alone.
#[test]
fn the_standard_descriptors_are_left_alone() {
    let flags = || -> [FdFlags; 3] {
        [fcntl_getfd(io::stdin()).unwrap(), fcntl_getfd(io::stdout()).unwrap(), fcntl_getfd(io::stderr()).unwrap()]
    };
    let before = flags();
    assert!(before.iter().all(|flags| !flags.contains(FdFlags::CLOEXEC)), "{before:?}");
    on_loop(|el| {
        let (server, transport) = connected(el);
        assert_eq!(flags(), before);
        transport.abort();
        server.close();
        run_until(el, || server.connections() == 0);
        settle(el);
    });
    assert_eq!(flags(), before);
}

/// What the kernel knows of this process's signals: which are ignored, which are caught, and which this thread blocks.
fn signals() -> Vec<String> {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let lines: Vec<_> = status.lines().filter(|line| line.starts_with("Sig")).map(String::from).collect();
    assert!(lines.iter().any(|line| line.starts_with("SigCgt:")), "{status}");
    lines.into_iter().filter(|line| !line.starts_with("SigQ:")).collect()
}

/// RW-06: the process's signals are as they were, while a loop runs and after it was closed: none is caught, ignored or
/// blocked, whatever the loop has done, and whichever way it was run.
#[test]
fn signals_are_left_alone() {
    common::heed_interrupts();
    let before = signals();
    on_loop(|el| {
        let (server, transport) = connected(el);
        let job = el.run_in_executor(None, || ());
        let (during, job) = complete(el, async { (signals(), job.await) });
        job.unwrap();
        assert_eq!(during, before);
        transport.abort();
        server.close();
        run_until(el, || server.connections() == 0);
        assert!(complete(el, el.shutdown_default_executor(None)));
        settle(el);
    });
    assert_eq!(signals(), before);
    let _alone = common::alone();
    assert_eq!(roundelay::block_on(async { signals() }), before);
    assert_eq!(signals(), before);
}

/// RW-01: a pipe that is read as a stream is closed by dropping the reader, which has no other way; of one that is written
/// to the writer is to be closed.
#[test]
fn ends_of_pipes_as_streams() {
    let reader = |el: &EventLoop| {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        drop(complete(el, async { open_read_pipe(ours).await.unwrap() }));
        settle(el);
        el.close();
        nothing()
    };
    check(warnings(true, reader), &[]);
    for closes in [false, true] {
        let writer = |el: &EventLoop| {
            let (ours, _theirs) = UnixStream::pair().unwrap();
            let mut writer = complete(el, async { open_write_pipe(ours).await.unwrap() });
            if closes {
                writer.close();
            }
            drop(writer);
            settle(el);
            el.close();
            nothing()
        };
        check(warnings(true, writer), if closes { &[] } else { &[WRITER] });
    }
}

//! Debug mode's warnings of what is left open when a loop is closed, with the line that made it: once each, and nothing
//! else. Outside of debug mode there is none.

use std::any::Any;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use futures::StreamExt;
use roundelay::{
    DatagramProtocol, EventLoop, Protocol, Runner, Sleep, SubprocessProtocol, async_gen, cancel_requested,
    open_connection, open_unix_connection, open_write_pipe, policy, sleep, start_server, yield_now,
};
use tracing::Level;

use crate::collector::collect;
use crate::common::{self, PATIENCE, complete, open_descriptors, run_until, settle, take_reports};
use crate::support::fits;

/// Waits for something that may well come.
fn for_long() -> Sleep {
    sleep(Duration::from_secs(5000))
}

struct Idle;

impl Protocol for Idle {}
impl DatagramProtocol for Idle {}
impl SubprocessProtocol for Idle {}

/// Something that is left open: the text of its warning (`*` is anything, `@` the place that `leave` names), and what leaves
/// it. What that returns with the line is held until the loop is closed.
struct Case {
    text: &'static str,
    leave: fn(&EventLoop) -> (u32, Box<dyn Any>),
}

/// Each case alone, on a loop of its own, gives that one warning in debug mode.
fn check(cases: &[Case]) {
    let _alone = common::alone();
    for Case { text, leave } in cases {
        for debug in [true, false] {
            let descriptors = open_descriptors();
            let (line, written) = collect(|| {
                let el = EventLoop::builder().debug(debug).slow_callback_duration(Duration::MAX).build().unwrap();
                common::watch_reports(&el);
                let (line, held) = leave(&el);
                el.close();
                drop(held);
                line
            });
            // A process that was just killed is let go of by a thread.
            let deadline = Instant::now() + PATIENCE;
            while open_descriptors() != descriptors && Instant::now() < deadline {
                std::thread::yield_now();
            }
            assert_eq!(open_descriptors(), descriptors, "{text}");
            assert!(take_reports().is_empty());
            if !debug {
                assert!(written.is_empty(), "{text}: {written:?}");
                continue;
            }
            let expected = format!("resource warning: {text}").replace('@', &format!("{}:{line}:*", file!()));
            let [(Level::WARN, text)] = &written[..] else { panic!("{expected}: {written:#?}") };
            assert!(fits(text, &expected), "expected\n{expected}\nand not\n{text}");
        }
    }
}

fn left(line: u32, held: impl Any) -> (u32, Box<dyn Any>) {
    (line, Box::new(held))
}

/// A connected pair of which this side is the loop's.
fn peer() -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

const TRANSPORT: &str = "unclosed transport <Transport *>\n  created at @";

/// RW-01: a transport of each kind; the line is that of the call that makes it, also where that is awaited elsewhere.
#[test]
fn transports() {
    check(&[
        Case {
            text: TRANSPORT,
            leave: |el| {
                let (listener, address) = peer();
                let line = line!() + 1;
                let connecting = el.create_connection(|| Idle, address);
                let made = complete(el, connecting).unwrap();
                left(line, (listener, made.0))
            },
        },
        // One that a server has accepted was made by the server.
        Case {
            text: TRANSPORT,
            leave: |el| {
                let line = line!() + 1;
                let server = el.create_server(|| Idle, ("127.0.0.1", 0));
                let server = complete(el, server).unwrap();
                let client = std::net::TcpStream::connect(server.local_addrs()[0]).unwrap();
                run_until(el, || server.connections() == 1);
                server.close();
                left(line, client)
            },
        },
        Case {
            text: TRANSPORT,
            leave: |el| {
                let (ours, theirs) = UnixStream::pair().unwrap();
                let line = line!() + 1;
                let connecting = el.connect_accepted_socket(|| Idle, ours);
                drop(complete(el, connecting).unwrap());
                left(line, theirs)
            },
        },
        Case {
            text: TRANSPORT,
            leave: |el| {
                let (ours, theirs) = UnixStream::pair().unwrap();
                let line = line!() + 1;
                let connecting = el.create_unix_connection(|| Idle, ours);
                drop(complete(el, connecting).unwrap());
                left(line, theirs)
            },
        },
        Case {
            text: TRANSPORT,
            leave: |el| {
                let (ours, theirs) = UnixStream::pair().unwrap();
                let line = line!() + 1;
                let connecting = el.connect_read_pipe(|| Idle, ours);
                drop(complete(el, connecting).unwrap());
                left(line, theirs)
            },
        },
        Case {
            text: TRANSPORT,
            leave: |el| {
                let (ours, theirs) = UnixStream::pair().unwrap();
                let line = line!() + 1;
                let connecting = el.connect_write_pipe(|| Idle, ours);
                drop(complete(el, connecting).unwrap());
                left(line, theirs)
            },
        },
        Case {
            text: TRANSPORT,
            leave: |el| {
                let (listener, address) = peer();
                let stream = complete(el, async move { roundelay::TcpStream::connect(address).await.unwrap() });
                let line = line!() + 1;
                let made = stream.into_transport(|| Idle);
                drop(made.unwrap());
                left(line, listener)
            },
        },
        Case {
            text: "unclosed transport <DatagramTransport *>\n  created at @",
            leave: |el| {
                let line = line!() + 1;
                let endpoint = el.create_datagram_endpoint(|| Idle);
                drop(complete(el, endpoint.local_addr(("127.0.0.1", 0))).unwrap());
                left(line, ())
            },
        },
        Case {
            text: "unclosed transport <SubprocessTransport *>\n  created at @",
            leave: |el| {
                let line = line!() + 1;
                let process = el.subprocess_exec(|| Idle, "cat", [] as [&str; 0]);
                let (process, _) = complete(el, process).unwrap();
                process.kill().unwrap();
                left(line, process)
            },
        },
    ]);
}

/// RW-01: over TLS it is one warning, of the connection, with the line that connects.
#[cfg(feature = "__tls")]
#[test]
fn a_transport_over_tls() {
    use crate::certificates::{acceptor, connector};
    check(&[Case {
        text: TRANSPORT,
        leave: |el| {
            let server = el.create_server(|| Idle, ("127.0.0.1", 0)).tls(acceptor());
            let server = complete(el, server).unwrap();
            let address = server.local_addrs()[0];
            let line = line!() + 1;
            let client = el.create_connection(|| Idle, address).tls(connector());
            let (transport, _) = complete(el, client.server_hostname("localhost")).unwrap();
            assert_eq!(transport.created_at().map(|place| place.line()), Some(line));
            server.close();
            server.abort_clients();
            left(line, transport)
        },
    }]);
}

/// RW-01: servers, and writers that are dropped unclosed, also those of a server's handlers: the line is the server's.
#[test]
fn servers_and_streams() {
    const WRITER: &str = "unclosed StreamWriter of <Transport *>\n  created at @";
    check(&[
        Case {
            text: "unclosed server on [127.0.0.1:*]\n  created at @",
            leave: |el| {
                let line = line!() + 1;
                let server = el.create_server(|| Idle, ("127.0.0.1", 0));
                let server = complete(el, server).unwrap();
                assert_eq!(server.created_at().line(), line);
                left(line, server)
            },
        },
        Case {
            text: "unclosed server on [*]\n  created at @",
            leave: |el| {
                let folder = tempfile::tempdir().unwrap();
                let line = line!() + 1;
                let server = el.create_unix_server(|| Idle, folder.path().join("socket"));
                drop(complete(el, server).unwrap());
                left(line, folder)
            },
        },
        Case {
            text: WRITER,
            leave: |el| {
                let (listener, address) = peer();
                let line = complete(el, async move {
                    let line = line!() + 1;
                    let opening = open_connection(address);
                    drop(opening.await.unwrap());
                    line
                });
                settle(el);
                left(line, listener)
            },
        },
        Case {
            text: WRITER,
            leave: |el| {
                let (ours, theirs) = UnixStream::pair().unwrap();
                let line = complete(el, async move {
                    let line = line!() + 1;
                    let opening = open_unix_connection(ours);
                    drop(opening.await.unwrap());
                    line
                });
                settle(el);
                left(line, theirs)
            },
        },
        Case {
            text: WRITER,
            leave: |el| {
                let (ours, theirs) = UnixStream::pair().unwrap();
                let line = complete(el, async move {
                    let line = line!() + 1;
                    let opening = open_write_pipe(ours);
                    drop(opening.await.unwrap());
                    line
                });
                settle(el);
                left(line, theirs)
            },
        },
        Case {
            text: WRITER,
            leave: |el| {
                let (line, server) = complete(el, async {
                    let line = line!() + 1;
                    let starting = start_server(async |_reader, _writer| (), ("127.0.0.1", 0));
                    (line, starting.await.unwrap())
                });
                let client = std::net::TcpStream::connect(server.local_addrs()[0]).unwrap();
                run_until(el, || server.connections() == 1);
                run_until(el, || server.connections() == 0);
                server.close();
                left(line, client)
            },
        },
    ]);
}

/// A generator that has begun and was not brought to its end: what it would have cleaned up it has not. One that was
/// closed, or has not begun, or was dropped while the loop ran, which closes it, is none of these.
#[test]
fn async_generators() {
    check(&[Case {
        text: "unclosed async generator <AsyncGen of i32 created at @>",
        leave: |el| {
            let line = line!() + 1;
            let mut begun = async_gen(async |y| {
                y.emit(1).await?;
                y.emit(2).await
            });
            let fresh = async_gen(async |y| y.emit(1).await);
            let mut dropped = async_gen(async |y| y.emit(1).await);
            complete(el, async {
                begun.next().await.unwrap();
                dropped.next().await.unwrap();
            });
            drop(dropped);
            settle(el);
            left(line, (begun, fresh))
        },
    }]);
}

/// TK-27: a task that is pending when its loop is closed, and which nobody has asked to end, is named with the line that
/// spawned it.
#[test]
fn pending_tasks() {
    const PENDING: &str =
        "the loop is closed while a task is pending: <Task pending name=\"waits\" id=* polls=* spawned at @>";
    check(&[
        Case {
            text: PENDING,
            leave: |el| {
                drop(el.create_task(async {}));
                let line = line!() + 1;
                let task = el.task_builder().name("waits").spawn(for_long());
                settle(el);
                left(line, task)
            },
        },
        // It was never polled.
        Case {
            text: PENDING,
            leave: |el| {
                let line = line!() + 1;
                drop(el.task_builder().name("waits").spawn(for_long()));
                left(line, ())
            },
        },
        Case {
            text: PENDING,
            leave: |el| {
                let line = line!() + 1;
                drop(el.task_builder().name("waits").spawn(for_long()));
                settle(el);
                el.create_task(for_long()).cancel();
                let asked = el.create_task(async {
                    cancel_requested().await;
                    for_long().await
                });
                settle(el);
                asked.cancel_gracefully(Duration::MAX);
                left(line, ())
            },
        },
    ]);
}

/// TK-27: of very many the first ones are named, and the rest is counted.
#[test]
fn very_many_pending_tasks() {
    let _alone = common::alone();
    let ((), written) = collect(|| {
        let el = EventLoop::builder().debug(true).build().unwrap();
        for _ in 0..1000 {
            drop(el.create_task(for_long()));
        }
        el.close();
    });
    let named = written.iter().filter(|(_, text)| text.contains("a task is pending: <Task pending ")).count();
    assert!((1..100).contains(&named), "{named}");
    let rest = format!("resource warning: the loop is closed while {} more tasks are pending", 1000 - named);
    assert_eq!(written.last().unwrap().1, rest);
    assert_eq!(written.len(), named + 1);
}

/// RW-01, TK-27: a runner ends everything in order, tasks, connections, servers and generators, and there is nothing to
/// warn of.
#[test]
fn after_a_runner() {
    let _alone = common::alone();
    let ((), written) = collect(|| {
        let mut runner = Runner::builder().debug(true).build();
        runner.get_loop().unwrap().set_slow_callback_duration(Duration::MAX);
        runner
            .run(async {
                let el = roundelay::get_running_loop().unwrap();
                drop(roundelay::spawn(for_long()));
                let server = el.create_server(|| Idle, ("127.0.0.1", 0)).await.unwrap();
                drop(el.create_connection(|| Idle, server.local_addrs()[0]).await.unwrap());
                let mut items = Box::new(async_gen(async |y| y.emit(1).await));
                items.next().await.unwrap();
                std::mem::drop(items);
                yield_now().await;
            })
            .unwrap();
        runner.close();
    });
    assert!(written.is_empty(), "{written:#?}");
}

/// RW-01: a loop that is dropped unclosed, by the line that made it, in each of the ways to make one.
#[test]
fn loops() {
    let _alone = common::alone();
    let ways: [fn() -> (u32, EventLoop); 4] = [
        || (line!(), EventLoop::new().unwrap()),
        || (line!(), EventLoop::builder().name("named").build().unwrap()),
        || (line!(), policy::new_event_loop().unwrap()),
        || (line!(), roundelay::SelectorEventLoop::new().unwrap().into()),
    ];
    for way in ways {
        let (line, written) = collect(|| {
            let (line, el) = way();
            el.set_debug(true);
            line
        });
        let expected =
            format!("resource warning: unclosed event loop <EventLoop *>\n  created at {}:{line}:*", file!());
        let [(Level::WARN, text)] = &written[..] else { panic!("{written:#?}") };
        assert!(fits(text, &expected), "{text}");
    }
}

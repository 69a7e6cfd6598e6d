//! A broken contract panics at the caller's place, with a text that names what was called and why it could not be.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;

use common::{alone, complete, on_loop};
#[cfg(any(feature = "tokio", feature = "hyper"))]
use roundelay::compat::ThreadBound;
use roundelay::{
    ContextVar, DatagramProtocol, EventLoop, JoinError, ManualClock, Protocol, ProtocolRef, Runner, StreamReader,
    StreamWriter, Task, TcpListener, TcpStream, ThreadPoolExecutor, Transport, UdpSocket, UnixListener, UnixStream,
    block_on, create_subprocess_exec, create_subprocess_shell, gather, get_running_loop, interval, open_connection,
    open_read_pipe, open_unix_connection, open_write_pipe, spawn, spawn_blocking, start_server, start_unix_server,
    try_gather, wait,
};

/// The text of a panic, which must point at this file.
#[track_caller]
fn refused<R>(f: impl FnOnce() -> R) -> String {
    let place = Arc::new(Mutex::new(None));
    let seen = place.clone();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        *seen.lock().unwrap() = info.location().map(|place| place.file().to_owned());
    }));
    let result = catch_unwind(AssertUnwindSafe(f));
    std::panic::set_hook(hook);
    let Err(payload) = result else { panic!("it is not refused") };
    let text = match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload.downcast::<&str>().expect("a text").to_string(),
    };
    assert_eq!(place.lock().unwrap().as_deref(), Some(file!()), "{text}");
    text
}

/// Checks that a text names what was called and the reason.
#[track_caller]
fn check(text: &str, called: &str, reason: &str) {
    assert!(text.contains(called) && text.contains(reason), "{text:?} does not say {called:?} and {reason:?}");
}

/// What is bound to its thread is used on another.
#[cfg(any(feature = "tokio", feature = "hyper"))]
#[test]
fn on_another_thread() {
    let _alone = alone();
    let (used, opened) = (ThreadBound::new(1), ThreadBound::new(2));
    let elsewhere = "on another thread than the one on which it was made";
    let texts = std::thread::spawn(move || [refused(|| *used), refused(|| opened.into_inner())]).join().unwrap();
    check(&texts[0], "compat::ThreadBound was used", elsewhere);
    check(&texts[1], "compat::ThreadBound was opened", elsewhere);
}

#[test]
fn outside_of_a_loop() {
    let _alone = alone();
    let outside = "outside of a running event loop";
    check(&refused(|| spawn(async {})), "spawn()", outside);
    check(&refused(|| spawn_blocking(|| ())), "spawn_blocking()", outside);
    check(&refused(|| gather([async {}])), "gather()", outside);
    check(&refused(|| try_gather([async { Ok::<_, JoinError>(()) }])), "try_gather()", outside);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    check(&refused(|| UnixListener::builder("/nowhere").bind()), "UnixListener::bind()", outside);
    check(&refused(|| TcpStream::from_std(stream)), "TcpStream::from_std()", outside);
    check(&refused(|| TcpListener::from_std(listener)), "TcpListener::from_std()", outside);
    #[cfg(feature = "hyper")]
    {
        use hyper::rt::Executor;
        use roundelay::compat::HyperExecutor;
        check(&refused(|| HyperExecutor.execute(async {})), "HyperExecutor::execute()", outside);
    }
}

/// A loop that does not run is none.
#[test]
fn outside_of_a_loop_that_runs() {
    struct Idle;
    impl DatagramProtocol for Idle {}
    on_loop(|el| {
        let made = el.create_datagram_endpoint(|| Idle).local_addr("127.0.0.1:0");
        let (handle, _) = complete(el, made).unwrap();
        let text = refused(|| handle.clone().into_datagrams());
        check(&text, "DatagramHandle::into_datagrams()", "outside of a running event loop");
        handle.abort();
    });
}

/// What may be made anywhere and awaited in a loop names, when it is awaited elsewhere, where it was made.
#[test]
fn awaited_outside_of_a_loop() {
    let _alone = alone();
    let text = |future: &mut dyn FnMut()| {
        let payload = catch_unwind(AssertUnwindSafe(future)).expect_err("it is refused");
        *payload.downcast::<String>().unwrap()
    };
    macro_rules! check_each {
        ($($function:literal: $future:expr;)*) => {$(
            let told = text(&mut || drop($future.into_future().now_or_never()));
            check(&told, concat!("roundelay::", $function, "() of tests"), "was awaited outside of a running event loop");
            assert!(told.contains(file!()), "{told}");
        )*};
    }
    let port = ("127.0.0.1", 0);
    let pipe = || rustix::pipe::pipe().unwrap();
    check_each! {
        "TcpStream::connect": TcpStream::connect(("127.0.0.1", 1));
        "TcpListener::bind": TcpListener::bind(port);
        "UdpSocket::bind": UdpSocket::bind(port);
        "UnixStream::connect": UnixStream::connect("/nowhere");
        "open_connection": open_connection(("127.0.0.1", 1));
        "open_unix_connection": open_unix_connection("/nowhere");
        "start_server": start_server(|_, _| async {}, port);
        "start_unix_server": start_unix_server(|_, _| async {}, "/nowhere/it");
        "create_subprocess_exec": create_subprocess_exec("true", [""; 0]);
        "create_subprocess_shell": create_subprocess_shell("true");
        "open_read_pipe": open_read_pipe(pipe().0);
        "open_write_pipe": open_write_pipe(pipe().1);
    }
    #[cfg(feature = "__tls")]
    {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let connector = roundelay::TlsConnector::builder().roots_from_pem(made.cert.pem()).build().unwrap();
        let stream = futures::io::Cursor::new(Vec::new());
        let connect = text(&mut || drop(connector.connect(stream.clone(), "localhost").into_future().now_or_never()));
        check(&connect, "TlsConnector::connect() of tests", "was awaited outside of a running event loop");
    }
}

/// API 1: what asyncio's programs hand to `run` and `run_until_complete` may be made before there is a loop.
#[test]
fn made_before_there_is_a_loop() {
    on_loop(|el| {
        let folder = tempfile::tempdir().unwrap();
        let hello = async |_: StreamReader, mut writer: StreamWriter| {
            writer.write(b"hello");
            writer.close();
        };
        let port = ("127.0.0.1", 0);
        let path = folder.path().join("socket");
        let server = el.run_until_complete(start_server(hello, port)).unwrap().unwrap();
        let unix = el.run_until_complete(start_unix_server(hello, &path)).unwrap().unwrap();
        let tcp = el.run_until_complete(open_connection(server.local_addrs()[0])).unwrap().unwrap();
        let local = el.run_until_complete(open_unix_connection(&path)).unwrap().unwrap();
        for (mut reader, mut writer) in [tcp, local] {
            assert_eq!(complete(el, reader.read_to_end()).unwrap(), b"hello");
            writer.close();
            complete(el, writer.wait_closed()).unwrap();
        }
        for server in [server, unix] {
            server.close();
            complete(el, server.wait_closed());
        }
        let (read, write) = rustix::pipe::pipe().unwrap();
        let mut reader = el.run_until_complete(open_read_pipe(read)).unwrap().unwrap();
        let mut writer = el.run_until_complete(open_write_pipe(write)).unwrap().unwrap();
        writer.write(b"by a pipe");
        writer.close();
        assert_eq!(complete(el, reader.read_to_end()).unwrap(), b"by a pipe");
        complete(el, writer.wait_closed()).unwrap();
        drop(reader);
        common::settle(el);
    });
    let _alone = alone();
    drop(block_on(TcpListener::bind(("127.0.0.1", 0))).unwrap());
    for process in [create_subprocess_exec("true", [""; 0]), create_subprocess_shell("true")] {
        let mut runner = Runner::new();
        let process = runner.run(process).unwrap().unwrap();
        assert!(runner.run(async { process.wait().await }).unwrap().unwrap().success());
        drop(process);
        runner.close();
    }
}

#[test]
fn inside_of_a_loop() {
    on_loop(|el| {
        let (handle, remote) = (el.clone(), el.remote());
        complete(el, async move {
            let nested = "cannot be called while an event loop is running";
            check(&refused(|| block_on(async {})), "block_on()", nested);
            let mut runner = Runner::new();
            check(&refused(|| runner.run(async {})), "Runner::run()", nested);
            let again = "already running";
            check(&refused(|| handle.run_forever()), "EventLoop::run_forever()", again);
            check(&refused(|| handle.run_once(None)), "EventLoop::run_once()", again);
            check(&refused(|| handle.run_until_complete(async {})), "EventLoop::run_until_complete()", again);
            check(&refused(|| handle.close()), "EventLoop::close()", "running");
            let blocks = "would block the event loop";
            check(&refused(|| remote.spawn(|| async {}).unwrap().wait()), "RemoteTask::wait()", blocks);
            let task = remote.spawn(|| async {}).unwrap();
            check(&refused(|| task.wait_timeout(Duration::ZERO)), "RemoteTask::wait_timeout()", blocks);
            let posted = remote.call_soon_threadsafe(|| ()).unwrap();
            check(&refused(|| posted.wait()), "RemoteHandle::wait()", blocks);
            let other = EventLoop::new().unwrap();
            check(&refused(|| other.run_forever()), "EventLoop::run_forever()", "while loop");
        });
    });
}

#[test]
fn after_the_end() {
    let _alone = alone();
    let el = EventLoop::new().unwrap();
    el.close();
    let closed = "event loop is closed";
    check(&refused(|| el.run_forever()), "EventLoop::run_forever()", closed);
    check(&refused(|| el.run_once(None)), "EventLoop::run_once()", closed);
    check(&refused(|| el.run_until_complete(async {})), "EventLoop::run_until_complete()", closed);

    let mut runner = Runner::new();
    runner.close();
    assert_eq!(refused(|| runner.run(async {})), "Runner::run(): the runner is closed");
    assert_eq!(runner.get_loop().unwrap_err().to_string(), "Runner::get_loop(): the runner is closed");

    let mut runner = Runner::builder().loop_factory(|| Err(std::io::Error::other("none today"))).build();
    let text = refused(|| runner.run(async {}));
    assert_eq!(text, "Runner::run(): cannot make an event loop: none today");

    let mut runner = Runner::new();
    runner.get_loop().unwrap().close();
    assert_eq!(refused(|| runner.run(async {})), "Runner::run(): event loop is closed");

    let stopped = refused(|| {
        block_on(async {
            get_running_loop().unwrap().stop();
            std::future::pending::<()>().await
        })
    });
    check(&stopped, "block_on()", "stopped before the future completed");
}

#[test]
fn arguments_and_states() {
    static VAR: ContextVar<u8> = ContextVar::new("var");
    static OTHER: ContextVar<u8> = ContextVar::new("other");
    struct Idle;
    impl Protocol for Idle {
        fn connection_made(&mut self, transport: &Transport) {
            let own: ProtocolRef<Idle> = transport.protocol().unwrap().downcast().unwrap();
            check(&refused(|| own.with(|_| ())), "ProtocolRef::with()", "callback");
            transport.abort();
        }
    }
    on_loop(|el| {
        check(&refused(|| interval(Duration::ZERO)), "interval()", "longer than zero");
        check(&refused(|| wait(Vec::<Task<()>>::new())), "wait()", "no task");
        check(&refused(|| ThreadPoolExecutor::new(0)), "ThreadPoolExecutor::new()", "at least one");
        check(&refused(|| StreamReader::new(0)), "StreamReader::new()", "above zero");
        check(&refused(|| ManualClock::new().advance(Duration::MAX)), "ManualClock::advance()", "exceeds");
        let token = VAR.set(1);
        check(&refused(|| OTHER.reset(token)), "ContextVar::reset()", "another");
        let task = el.create_task(std::future::pending::<()>());
        task.cancel();
        let error = complete(el, task).unwrap_err();
        check(&refused(|| error.into_panic()), "JoinError::into_panic()", "cancelled");
        complete(el, async {
            let el = get_running_loop().unwrap();
            let server = el.create_server(|| Idle, ("127.0.0.1", 0)).await.unwrap();
            let _client = TcpStream::connect(server.local_addrs()[0]).await.unwrap();
            while el.stats().transports.opened == 0 {
                roundelay::yield_now().await;
            }
            server.close();
            server.wait_closed().await;
        });
    });
}

#[cfg(feature = "test-util")]
#[test]
fn misuse_of_what_is_for_tests() {
    use roundelay::testing::{DatagramLink, Link, check_transport, stream_pair};

    on_loop(|el| {
        check(&refused(|| Link::new().capacity(0)), "Link::capacity()", "zero bytes");
        check(&refused(|| Link::new().bandwidth(0)), "Link::bandwidth()", "zero bytes a second");
        check(&refused(|| Link::new().max_read(0)), "Link::max_read()", "zero bytes");
        check(&refused(|| Link::new().max_write(0)), "Link::max_write()", "zero bytes");
        check(&refused(|| Link::new().stutter(1)), "Link::stutter()", "one in 1");
        check(&refused(|| DatagramLink::new().drop_one_in(0)), "DatagramLink::drop_one_in()", "zero");
        check(&refused(|| DatagramLink::new().duplicate_one_in(0)), "DatagramLink::duplicate_one_in()", "zero");
        let unchecked = check_transport(async |_, _, _| Err(std::io::Error::other("nothing to connect")));
        let report = unchecked.run();
        check(&refused(|| report.assert_passed()), "the contract", "nothing to connect");
        check(&refused(|| unchecked.only(["no such item"])), "CheckTransport::only()", "no such item");
        let (stream, _other) = stream_pair(el, &Link::new());
        check(&refused(|| stream.into_stream()), "testing::MemoryStream::into_stream()", "running event loop");
    });
}

/// The place of creation of a future that `block_on` or a runner runs is where that was called.
#[test]
fn the_place_of_a_root() {
    let _alone = alone();
    let place = || {
        let info = get_running_loop().unwrap().current_task().unwrap();
        (info.spawned_at.file(), info.spawned_at.line())
    };
    assert_eq!(block_on(async { place() }), (file!(), line!()));
    assert_eq!(Runner::new().run(async { place() }).unwrap(), (file!(), line!()));
    let el = EventLoop::new().unwrap();
    assert_eq!(el.run_until_complete(async { place() }).unwrap(), (file!(), line!()));
}

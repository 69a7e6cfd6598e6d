//! Children of `fork`, and how they leave the loop of their parent alone.

mod common;
#[path = "common/fork.rs"]
mod fork;
#[path = "common/tcp.rs"]
mod tcp;

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use futures::FutureExt;

use common::{DropCounter, Kind, complete, open_descriptors, run_until, take_reports};
use fork::{exit_with, fork, fork_process, in_own_process};
use roundelay::{EventLoop, Protocol, Runner, ThreadPoolExecutor, Transport, block_on, get_running_loop, policy};
use tcp::{Echo, LOOPBACK};

/// A while that a test waits for in the real world.
const MOMENT: Duration = Duration::from_millis(20);

/// The text of the panic with which something is refused, at the place of the caller.
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
    assert_eq!(place.lock().unwrap().as_deref(), Some(file!()));
    *payload.downcast::<String>().expect("a text")
}

/// Reads from a socket that does not block as much as comes, while the loop runs, until it is enough.
#[track_caller]
fn receive(el: &EventLoop, socket: &TcpStream, is_enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    socket.set_nonblocking(true).unwrap();
    let mut received = Vec::new();
    run_until(el, || {
        match { socket }.read_to_end(&mut received) {
            Ok(_) => return true,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        is_enough(&received)
    });
    received
}

/// Sends a text, and reads it as the answer of an echo server.
#[track_caller]
fn echo(el: &EventLoop, mut client: &TcpStream, text: &[u8]) {
    client.write_all(text).unwrap();
    assert_eq!(receive(el, client, |received| received.len() == text.len()), text);
}

forked! {
    /// PO-01: to close a loop in a child leaves that of the parent as it was: it accepts, reads, watches, keeps the time.
    fn the_parent_goes_on_when_a_child_closes(el) {
        let server = complete(el, el.create_server(|| Echo, LOOPBACK)).unwrap();
        let address = server.local_addrs()[0];
        let client = TcpStream::connect(address).unwrap();
        echo(el, &client, b"before");
        let (watched, mut other) = UnixStream::pair().unwrap();
        let (told, reader) = (Rc::new(Cell::new(0)), watched.try_clone().unwrap());
        let count = told.clone();
        el.add_reader(&watched, move || {
            (&reader).read_exact(&mut [0]).unwrap();
            count.set(count.get() + 1);
        }).unwrap();
        let timer = el.call_later(MOMENT, || ());

        fork(|| {
            assert!(el.is_closed());
            el.close();
            assert!(el.is_closed() && el.stats().is_balanced());
        }).wait();
        // One that lets go of what is registered, piece by piece.
        fork(|| {
            assert!(el.remove_reader(&watched));
            server.close();
            drop(server.clone());
        }).wait();

        echo(el, &client, b"after");
        echo(el, &TcpStream::connect(address).unwrap(), b"another");
        other.write_all(b"x").unwrap();
        run_until(el, || told.get() == 1);
        el.run_until_complete(timer).unwrap().unwrap();
        assert!(el.remove_reader(&watched));
        drop(client);
        assert!(complete(el, server.shutdown(MOMENT)));
    }

    /// PO-01: what is queued is sent once, by the parent; what the child does to its transports, the peer does not see.
    fn what_is_queued_is_sent_once(el) {
        const SIZE: usize = 8 << 20;
        /// Writes much, and answers.
        struct Sender(Rc<RefCell<Option<Transport>>>);
        impl Protocol for Sender {
            fn connection_made(&mut self, transport: &Transport) {
                transport.write_owned(vec![b'x'; SIZE]);
                *self.0.borrow_mut() = Some(transport.clone());
            }
            fn data_received(&mut self, transport: &Transport, data: &[u8]) {
                transport.write(data);
            }
        }
        let made = Rc::new(RefCell::new(None));
        let kept = made.clone();
        let server = complete(el, el.create_server(move || Sender(kept.clone()), LOOPBACK)).unwrap();
        let client = TcpStream::connect(server.local_addrs()[0]).unwrap();
        run_until(el, || made.borrow().is_some());
        let transport = made.take().unwrap();
        assert!(transport.write_buffer_size() > 0);
        fork(|| {
            transport.write(b"twice");
            transport.write_eof();
            transport.close();
            el.close();
            drop(transport.clone());
        }).wait();
        fork(|| {
            transport.abort();
            el.close();
        }).wait();
        transport.write(b"end");
        let received = receive(el, &client, |received| received.ends_with(b"end"));
        assert_eq!(received.len(), SIZE + 3);
        // It is open on both sides still.
        echo(el, &client, b"?");
        fork(|| transport.write_eof()).wait();
        echo(el, &client, b"!");
        transport.close();
        drop(transport);
        assert_eq!(receive(el, &client, |_| false), b"");
        drop(client);
        assert!(complete(el, server.shutdown(MOMENT)));
    }

    /// PO-01: the file of a unix socket stays, as the parent serves there.
    fn the_file_of_a_unix_socket_stays(el) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let server = complete(el, el.create_unix_server(|| Echo, &path)).unwrap();
        let bound = complete(el, el.create_unix_server(|| Echo, folder.path().join("bound")).start_serving(false)).unwrap();
        fork(|| el.close()).wait();
        fork(|| server.close()).wait();
        assert!(path.exists() && folder.path().join("bound").exists());
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(b"x").unwrap();
        let mut answer = [0];
        client.set_nonblocking(true).unwrap();
        run_until(el, || client.read_exact(&mut answer).is_ok());
        drop(client);
        bound.close();
        assert!(complete(el, server.shutdown(MOMENT)));
        assert!(!path.exists());
    }

    /// PO-01: in a child no loop runs, though it was forked inside of a callback. SG-13: it can run one of its own there.
    fn a_child_forked_in_a_callback_has_no_loop_and_can_make_one(el) {
        complete(el, async {
            let own = get_running_loop().unwrap().id();
            let child = fork(|| {
                assert!(get_running_loop().is_err());
                assert!(refused(|| roundelay::spawn(async {})).contains("outside of a running event loop"));
                let answer = block_on(async {
                    assert_ne!(get_running_loop().unwrap().id(), own);
                    let server = get_running_loop().unwrap().create_server(|| Echo, LOOPBACK).await.unwrap();
                    let (mut reader, mut writer) = roundelay::open_connection(server.local_addrs()[0]).await.unwrap();
                    writer.write(b"x");
                    assert_eq!(reader.readexactly(1).await.unwrap(), b"x");
                    roundelay::sleep(Duration::from_millis(1)).await;
                    roundelay::spawn_blocking(|| 42).await.unwrap()
                });
                assert_eq!(answer, 42);
                assert!(get_running_loop().is_err());
            });
            assert_eq!(get_running_loop().unwrap().id(), own);
            child.wait();
        });
    }

    /// PO-01: whatever would run the loop in a child is refused, and says how to go on.
    fn a_child_does_not_run_the_loop_of_its_parent(el) {
        fork(|| {
            let texts = [
                ("EventLoop::run_forever()", refused(|| el.run_forever())),
                ("EventLoop::run_once()", refused(|| el.run_once(Some(Duration::ZERO)))),
                ("EventLoop::run_until_complete()", refused(|| el.run_until_complete(async {}))),
            ];
            for (method, text) in texts {
                assert!(text.starts_with(method) && text.contains("forked") && text.contains("after_fork_child()"), "{text}");
            }
        }).wait();
        assert_eq!(el.run_until_complete(async { 1 }), Ok(1));
    }

    /// PO-01: in a child the loop of the parent is as one that is closed: what is asked of it is refused, and told of.
    fn in_a_child_the_loop_is_as_one_that_is_closed(el) {
        let (a, _b) = UnixStream::pair().unwrap();
        fork(|| {
            assert!(el.call_soon(|| ()).now_or_never().unwrap().unwrap_err().is_closed());
            assert!(el.call_later(MOMENT, || ()).now_or_never().unwrap().unwrap_err().is_closed());
            assert!(el.create_task(async {}).now_or_never().unwrap().unwrap_err().is_closed());
            assert!(el.run_in_executor(None, || ()).now_or_never().unwrap().unwrap_err().is_closed());
            assert_eq!(take_reports().len(), 4);
            assert!(el.add_reader(&a, || ()).is_err());
            assert!(el.call_soon_threadsafe(|| ()).is_err());
            assert!(el.remote().spawn(|| async {}).is_err() && el.remote().post(|| ()).is_err() && el.remote().stop().is_err());
            assert!(complete_on_another(el.create_server(|| Echo, LOOPBACK)).is_err());
            assert!(complete_on_another(el.create_connection(|| Echo, LOOPBACK)).is_err());
            assert!(complete_on_another(el.sock_recv(&a, 1)).is_err());
        }).wait();
        assert!(take_reports().is_empty());
    }

    /// PO-01: a child that returns out of the callback in which it was forked is led out of the run: nothing of what is queued
    /// behind it is done twice.
    fn a_child_that_returns_from_its_callback_leaves_the_run(el) {
        let (child, ran, dropped) = (Rc::new(RefCell::new(None)), Rc::new(Cell::new(0)), DropCounter::new());
        let (forked, count, guard) = (child.clone(), ran.clone(), dropped.guard());
        el.call_soon(move || *forked.borrow_mut() = Some(fork_process()));
        let behind = el.create_task(async move {
            let _guard = guard;
            count.set(count.get() + 1);
        });
        let run = catch_unwind(AssertUnwindSafe(|| el.run_once(Some(Duration::ZERO))));
        match child.take().expect("it has run") {
            None => exit_with(|| {
                let text = *run.unwrap_err().downcast::<String>().unwrap();
                assert!(text.contains("forked inside of a callback of event loop"), "{text}");
                assert_eq!((ran.get(), dropped.count()), (0, 0));
                assert!(!el.is_running() && el.is_closed());
                el.close();
                // What it has left is dropped, not run.
                assert_eq!((ran.get(), dropped.count()), (0, 1));
                assert!(behind.now_or_never().unwrap().unwrap_err().is_closed());
            }),
            Some(child) => {
                assert_eq!(run.unwrap().unwrap(), 2);
                assert_eq!(ran.get(), 1);
                child.wait();
            }
        }
    }
}

/// Awaits what belongs to the parent's loop on a loop of the child's own.
fn complete_on_another<F: IntoFuture>(future: F) -> F::Output {
    let el = EventLoop::new().unwrap();
    let output = complete(&el, future);
    el.close();
    output
}

/// PO-01: a child that comes out of `block_on` does none of what is done at the end of it: its tasks are not cancelled in turns,
/// its connections not ended in order.
#[test]
fn a_child_comes_out_of_block_on_at_once() {
    in_own_process(|| {
        let (child, awaited) = (RefCell::new(None), Rc::new(Cell::new(false)));
        let seen = awaited.clone();
        let ran = catch_unwind(AssertUnwindSafe(|| {
            block_on(async {
                let cleanup = roundelay::spawn(async move {
                    roundelay::yield_now().await;
                    seen.set(true);
                });
                *child.borrow_mut() = Some(fork_process());
                cleanup.await.unwrap();
            })
        }));
        match child.take().unwrap() {
            None => exit_with(|| assert!(ran.is_err() && !awaited.get())),
            Some(child) => {
                ran.unwrap();
                child.wait();
            }
        }
        // The same with a runner that is dropped by the unwinding child.
        let mut runner = Runner::new();
        runner.run(async {}).unwrap();
        fork(move || drop(runner)).wait();
    });
}

/// PO-01: a child that closes the loop, or drops its owner, has none of its descriptors open any more: the peers of the parent's
/// connections see their end when the parent ends them.
#[test]
fn a_child_closes_its_descriptors() {
    in_own_process(|| {
        for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
            let before = open_descriptors();
            let el = kind.builder().build().unwrap();
            let server = complete(&el, el.create_server(|| Echo, LOOPBACK)).unwrap();
            let client = TcpStream::connect(server.local_addrs()[0]).unwrap();
            echo(&el, &client, b"x");
            complete(&el, el.run_in_executor(None, || ())).unwrap();
            let mut stream =
                complete(&el, async { roundelay::TcpStream::connect(server.local_addrs()[0]).await }).unwrap();
            complete(&el, futures::AsyncWriteExt::write_all(&mut stream, b"x")).unwrap();
            let task =
                el.create_task(async move { futures::AsyncReadExt::read_to_end(&mut stream, &mut Vec::new()).await });
            complete(&el, roundelay::sleep(Duration::from_millis(1)));
            let (closes, drops) = (open_descriptors(), open_descriptors());
            assert!(closes > before + 5 && closes == drops);
            let el = RefCell::new(Some(el));
            fork(|| {
                el.borrow().as_ref().unwrap().close();
                // The client's is not the loop's.
                assert_eq!(open_descriptors(), before + 1);
            })
            .wait();
            fork(|| {
                drop(el.take());
                drop(task);
                assert_eq!(open_descriptors(), before + 1);
            })
            .wait();
            let el = el.take().unwrap();
            echo(&el, &client, b"y");
            el.close();
            assert_eq!(receive_end(&client), b"");
        }
    });
}

fn receive_end(mut socket: &TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    socket.set_nonblocking(false).unwrap();
    socket.read_to_end(&mut rest).unwrap();
    rest
}

/// PO-01: the loop of another thread, which a child does not have, is closed for it: it waits for nobody there.
#[test]
fn the_loops_of_other_threads_are_closed_in_a_child() {
    in_own_process(|| {
        let (sender, receiver) = mpsc::channel();
        let other = thread::spawn(move || {
            let el = EventLoop::new().unwrap();
            let wakers = sender.clone();
            let task = el.create_task(std::future::poll_fn(move |cx| {
                wakers.send((None, Some(cx.waker().clone()))).unwrap();
                std::task::Poll::<()>::Pending
            }));
            sender.send((Some(el.remote()), None)).unwrap();
            el.run_forever();
            drop(task);
            el.close();
        });
        let (mut remote, mut waker) = (None, None);
        while remote.is_none() || waker.is_none() {
            let (one, another) = receiver.recv_timeout(common::PATIENCE).unwrap();
            (remote, waker) = (remote.or(one), waker.or(another));
        }
        let (remote, waker) = (remote.unwrap(), waker.unwrap());
        let pool = ThreadPoolExecutor::new(1);
        let el = EventLoop::new().unwrap();
        complete(&el, el.run_in_executor(Some(&pool), || ())).unwrap();
        // The worker is at rest: it has let go of the pool's lock.
        while !format!("{pool:?}").contains("running: 0") {
            thread::yield_now();
        }
        {
            let posted = remote.call_soon_threadsafe(|| ()).unwrap();
            fork(|| {
                assert!(remote.post(|| ()).is_err() && remote.stop().is_err());
                assert!(remote.call_soon_threadsafe(|| ()).is_err() && remote.spawn(|| async {}).is_err());
                waker.wake_by_ref();
                drop(waker.clone());
                // The pool begins anew.
                assert_eq!(pool.threads(), 0);
                let own = EventLoop::new().unwrap();
                assert_eq!(complete(&own, own.run_in_executor(Some(&pool), || 1)).unwrap(), 1);
                assert_eq!(pool.threads(), 1);
            })
            .wait();
            posted.wait().unwrap();
        }
        remote.stop().unwrap();
        other.join().unwrap();
    });
}

/// A timeline is written by the process that has begun it: a child writes nothing into its parent's file, whatever it does
/// with the loop, and one of its own into another.
#[test]
fn a_timeline_is_the_parents() {
    in_own_process(|| {
        common::run(Kind::Epoll, false, |el| {
            let folder = tempfile::tempdir().unwrap();
            let [ours, theirs] = ["parent.json", "child.json"].map(|name| folder.path().join(name));
            let names = |el: &EventLoop, name: &str| {
                drop(el.task_builder().name(name).spawn(async {}));
                common::settle(el);
            };
            let trace = el.trace_to(&ours).unwrap();
            names(el, "before");
            // One that goes on with the loop, and one that closes it.
            for goes_on in [true, false] {
                match fork_process() {
                    Some(child) => child.wait(),
                    None => exit_with(move || {
                        assert!(!trace.is_writing());
                        if goes_on {
                            el.after_fork_child().unwrap();
                            names(el, "in the child");
                            let own = el.trace_to(&theirs).unwrap();
                            names(el, "seen by the child");
                            own.finish().unwrap();
                        } else {
                            el.close();
                        }
                        assert_eq!(trace.finish().unwrap_err().kind(), io::ErrorKind::Unsupported);
                    }),
                }
            }
            names(el, "after");
            trace.finish().unwrap();
            let [ours, theirs] = [ours, theirs].map(|path| std::fs::read_to_string(path).unwrap());
            for name in ["before", "after"] {
                assert!(ours.contains(name) && !theirs.contains(name), "{ours}");
            }
            assert!(!ours.contains("the child") && theirs.contains("seen by the child"), "{ours}\n{theirs}");
        });
    });
}

/// PO-01: `get_event_loop` gives a child a loop of its own, not that which its parent has set.
#[test]
fn a_child_does_not_get_the_loop_that_its_parent_has_set() {
    in_own_process(|| {
        let el = policy::get_event_loop().unwrap();
        fork(|| {
            let own = policy::get_event_loop().unwrap();
            assert_ne!(own.id(), el.id());
            assert_eq!(own.run_until_complete(async { 1 }), Ok(1));
            assert_eq!(policy::get_event_loop().unwrap().id(), own.id());
        })
        .wait();
        assert_eq!(policy::get_event_loop().unwrap().id(), el.id());
        assert_eq!(el.run_until_complete(async { 1 }), Ok(1));
        policy::set_event_loop(None);
    });
}

/// A child that calls `exec`, however it was made, is nobody's concern: the parent's loop goes on.
#[test]
fn children_that_run_other_programs_change_nothing() {
    in_own_process(|| {
        let el = EventLoop::new().unwrap();
        assert!(Command::new("true").status().unwrap().success());
        // What `posix_spawn` cannot do is done by `fork`.
        use std::os::unix::process::CommandExt;
        assert!(
            Command::new("true")
                .current_dir("/")
                .process_group(0)
                .uid(rustix::process::getuid().as_raw())
                .status()
                .unwrap()
                .success()
        );
        assert!(!el.is_closed());
        assert_eq!(el.run_until_complete(async { 1 }), Ok(1));
        el.close();
    });
}

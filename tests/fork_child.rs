//! A child of `fork` that goes on with the loop of its parent.

mod common;
#[path = "common/fork.rs"]
mod fork;
#[path = "common/tcp.rs"]
mod tcp;

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use futures::FutureExt;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use common::{Log, complete, finish, on_loop, run_until, take_reports};
use fork::{fork, in_own_process};
use roundelay::selector::{Epoll, Selector};
use roundelay::{EventLoop, Protocol, SelectorEventLoop, Transport, open_connection, sleep};
use tcp::{Echo, LOOPBACK};

/// A while that a test waits for in the real world.
const MOMENT: Duration = Duration::from_millis(20);

/// Sends a text to an echo server of this thread's loop, and checks the answer.
#[track_caller]
fn echo(el: &EventLoop, mut client: &TcpStream, text: &[u8]) {
    client.write_all(text).unwrap();
    client.set_nonblocking(true).unwrap();
    let mut answer = Vec::new();
    run_until(el, || {
        let error = client.read_to_end(&mut answer).expect_err("it is open");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        answer.len() >= text.len()
    });
    client.set_nonblocking(false).unwrap();
    assert_eq!(answer, text);
}

/// Whether a descriptor is readable now.
fn is_readable(fd: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() > 0
}

forked! {
    /// LU-08: timers, callbacks and tasks go on in the child, and in the parent, in the same order.
    fn timers_callbacks_and_tasks_go_on(el) {
        let log = Log::new();
        el.call_soon(log.entry("soon"));
        let begin = el.time();
        let entries = log.clone();
        let task = el.create_task(async move {
            sleep(MOMENT / 2).await;
            entries.push("slept");
            sleep(3 * MOMENT).await;
            entries.push("slept again");
        });
        // The task has armed its timer.
        el.run_once(Some(Duration::ZERO)).unwrap();
        assert_eq!(log.take(), ["soon"]);
        let armed = el.time();
        el.call_at(armed + 2 * MOMENT, log.entry("late"));
        el.call_at(armed + MOMENT, log.entry("early"));
        el.call_soon(log.entry("next"));
        let task = RefCell::new(Some(task));
        let check = || {
            finish(el, task.take().unwrap()).unwrap();
            let all = log.take();
            let of = |names: [&str; 2]| all.iter().filter(|name| names.contains(&&***name)).cloned().collect::<Vec<_>>();
            assert_eq!((all.len(), &*all[0]), (5, "next"));
            assert_eq!(of(["early", "late"]), ["early", "late"]);
            assert_eq!(of(["slept", "slept again"]), ["slept", "slept again"]);
            assert!(el.time() - begin >= 3 * MOMENT);
        };
        let child = fork(|| {
            el.after_fork_child().unwrap();
            assert!(!el.is_closed() && !el.is_running());
            check();
            el.close();
            assert!(el.stats().is_balanced());
        });
        check();
        child.wait();
    }

    /// LU-08: the child accepts and serves connections of its own, as does the parent; each watches its descriptors.
    fn servers_connections_and_watched_descriptors_go_on(el) {
        let server = complete(el, el.create_server(|| Echo, LOOPBACK)).unwrap();
        let address = server.local_addrs()[0];
        let kept = TcpStream::connect(address).unwrap();
        echo(el, &kept, b"before");
        let (watched, mut other) = UnixStream::pair().unwrap();
        watched.set_nonblocking(true).unwrap();
        let (told, reader) = (Rc::new(Cell::new(0)), watched.try_clone().unwrap());
        let count = told.clone();
        el.add_reader(&watched, move || {
            let read = (&reader).read(&mut [0; 8]).unwrap_or(0);
            count.set(count.get() + read);
        })
        .unwrap();
        fork(|| {
            el.after_fork_child().unwrap();
            // The parent waits, so that all of it comes here.
            echo(el, &kept, b"within");
            echo(el, &TcpStream::connect(address).unwrap(), b"another");
            other.write_all(b"x").unwrap();
            run_until(el, || told.get() == 1);
            complete(el, async {
                let (mut reader, mut writer) = open_connection(address).await.unwrap();
                writer.write(b"streams");
                assert_eq!(reader.readexactly(7).await.unwrap(), b"streams");
                writer.close();
                writer.wait_closed().await.unwrap();
            });
            el.remove_reader(&watched);
            el.close();
            assert!(el.stats().is_balanced());
        })
        .wait();
        echo(el, &kept, b"after");
        echo(el, &TcpStream::connect(address).unwrap(), b"another");
        other.write_all(b"y").unwrap();
        run_until(el, || told.get() == 1);
        assert!(el.remove_reader(&watched));
        drop(kept);
        assert!(complete(el, server.shutdown(MOMENT)));
    }

    /// What was changed before the child made the loop its own counts: what was closed is not served, what was written is
    /// sent, once.
    fn what_was_changed_before_counts(el) {
        let kept = Rc::new(RefCell::new(Vec::new()));
        struct Keep(Rc<RefCell<Vec<Transport>>>);
        impl Protocol for Keep {
            fn connection_made(&mut self, transport: &Transport) {
                self.0.borrow_mut().push(transport.clone());
            }
        }
        let keep = kept.clone();
        let server = complete(el, el.create_server(move || Keep(keep.clone()), LOOPBACK)).unwrap();
        let address = server.local_addrs()[0];
        let mut clients = [TcpStream::connect(address).unwrap(), TcpStream::connect(address).unwrap()];
        run_until(el, || kept.borrow().len() == 2);
        let transports = kept.take();
        let (watched, mut other) = UnixStream::pair().unwrap();
        el.add_reader(&watched, || panic!("it was removed")).unwrap();
        let child = fork(|| {
            transports[0].write(b"one ");
            transports[0].write(b"two");
            transports[1].abort();
            server.close();
            assert!(el.remove_reader(&watched));
            assert_eq!(transports[0].write_buffer_size(), 7);
            el.after_fork_child().unwrap();
            other.write_all(b"x").unwrap();
            run_until(el, || transports[0].write_buffer_size() == 0);
            el.close();
        });
        child.wait();
        let mut received = [0; 7];
        clients[0].read_exact(&mut received).unwrap();
        assert_eq!(&received, b"one two");
        transports[1].write(b"alive");
        let mut received = [0; 5];
        clients[1].read_exact(&mut received).unwrap();
        assert!(el.remove_reader(&watched));
        assert!(server.is_serving());
        drop((clients, transports));
        assert!(complete(el, server.shutdown(MOMENT)));
    }

    /// The threads of the default executor are the parent's: what they were at work on is closed for the child, which has
    /// new ones.
    fn the_default_executor_begins_anew(el) {
        let (go, wait) = mpsc::channel();
        let (begun, began) = mpsc::channel();
        let running = el.run_in_executor(None, move || {
            begun.send(()).unwrap();
            wait.recv_timeout(common::PATIENCE).unwrap()
        });
        let awaits = el.create_task(running);
        began.recv_timeout(common::PATIENCE).unwrap();
        // At work, too: at its beginning or its end it might hold a lock when the process forks.
        let (finish_it, finishes) = mpsc::channel();
        let (begun, began) = mpsc::channel();
        let done = el.run_in_executor(None, move || {
            begun.send(()).unwrap();
            finishes.recv_timeout(common::PATIENCE).unwrap()
        });
        began.recv_timeout(common::PATIENCE).unwrap();
        let awaits = RefCell::new(Some(awaits));
        fork(|| {
            el.after_fork_child().unwrap();
            assert!(finish(el, awaits.take().unwrap()).unwrap().unwrap_err().is_closed());
            assert_eq!(complete(el, el.run_in_executor(None, || 2)).unwrap(), 2);
            assert!(complete(el, el.shutdown_default_executor(None)));
            el.close();
        })
        .wait();
        go.send(3).unwrap();
        finish_it.send(1).unwrap();
        assert_eq!(finish(el, awaits.take().unwrap()).unwrap().unwrap(), 3);
        assert_eq!(complete(el, done).unwrap(), 1);
    }

    /// The child's threads reach the child's loop, and not that of the parent.
    fn remotes_reach_the_loop_of_their_process(el) {
        let remote = el.remote();
        let at_rest = || {
            common::settle(el);
            el.run_once(Some(Duration::ZERO)).unwrap()
        };
        assert_eq!(at_rest(), 0);
        fork(|| {
            assert!(remote.post(|| ()).is_err());
            el.after_fork_child().unwrap();
            let (remote, stop) = (remote.clone(), el.remote());
            let thread = thread::spawn(move || {
                for _ in 0..100 {
                    assert_eq!(remote.spawn(|| async { 7 }).unwrap().wait().unwrap(), 7);
                }
                stop.stop().unwrap();
            });
            el.run_forever();
            thread.join().unwrap();
            el.close();
        })
        .wait();
        assert_eq!(at_rest(), 0);
        let thread = thread::spawn(move || remote.spawn(|| async { 8 }).unwrap().wait().unwrap());
        run_until(el, || thread.is_finished());
        assert_eq!(thread.join().unwrap(), 8);
    }

    /// A host in the child waits for the descriptor that it had before, and hears of the child's loop alone.
    fn a_host_goes_on_in_the_child(el) {
        let fd = el.as_raw_fd();
        let told = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = told.clone();
        el.set_wake_hook(Some(Arc::new(move || {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        })));
        while is_readable(el) || el.next_deadline().is_some() {
            el.run_once(Some(Duration::ZERO)).unwrap();
        }
        fork(|| {
            el.after_fork_child().unwrap();
            assert_eq!(el.as_raw_fd(), fd);
            while is_readable(el) || el.next_deadline().is_some() {
                el.run_once(Some(Duration::ZERO)).unwrap();
            }
            let before = told.load(std::sync::atomic::Ordering::SeqCst);
            el.remote().post(|| ()).unwrap();
            assert_eq!(told.load(std::sync::atomic::Ordering::SeqCst), before + 1);
            assert!(is_readable(el));
            assert_eq!(el.run_once(Some(Duration::ZERO)).unwrap(), 1);
            let (watched, mut other) = UnixStream::pair().unwrap();
            el.add_reader(&watched, || ()).unwrap();
            assert!(!is_readable(el));
            other.write_all(b"x").unwrap();
            assert!(is_readable(el));
            el.close();
        })
        .wait();
        assert!(!is_readable(el) && el.next_deadline().is_none());
        el.remote().post(|| ()).unwrap();
        assert_eq!(el.run_once(Some(Duration::ZERO)).unwrap(), 1);
    }

    /// It is refused while the loop runs and once it is closed, and does nothing in the process that the loop is of, at the
    /// first time and at the second; the child's own children have to ask again.
    fn when_it_is_refused_and_when_it_does_nothing(el) {
        el.after_fork_child().unwrap();
        assert_eq!(el.run_until_complete(async { 1 }), Ok(1));
        complete(el, async {
            el.after_fork_child().unwrap();
            fork(|| {
                let error = el.after_fork_child().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert!(error.to_string().contains("EventLoop::after_fork_child(): "), "{error}");
            })
            .wait();
        });
        fork(|| {
            el.after_fork_child().unwrap();
            el.after_fork_child().unwrap();
            fork(|| {
                assert!(el.is_closed());
                el.after_fork_child().unwrap();
                assert_eq!(el.run_until_complete(async { 2 }), Ok(2));
                el.close();
                assert!(el.after_fork_child().unwrap_err().to_string().contains("closed"));
            })
            .wait();
            assert_eq!(el.run_until_complete(async { 1 }), Ok(1));
            el.close();
        })
        .wait();
        fork(|| {
            el.close();
            assert!(el.after_fork_child().is_err());
        })
        .wait();
    }
}

/// A selector of the application's own that does not know what a fork is.
struct Plain(Epoll);

impl Selector for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }
    left_to_the_inner_one! { supports_edge add modify delete wait notifier backend_fd }
}

/// A loop on a selector that cannot be made anew stays the parent's, and the child leaves it alone.
#[test]
fn a_selector_that_cannot_be_made_anew() {
    in_own_process(|| {
        let el = SelectorEventLoop::with_selector(Plain(Epoll::new().unwrap())).unwrap();
        let server = complete(&el, el.create_server(|| Echo, LOOPBACK)).unwrap();
        let client = TcpStream::connect(server.local_addrs()[0]).unwrap();
        echo(&el, &client, b"x");
        fork(|| {
            let error = el.after_fork_child().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("plain"), "{error}");
            assert!(el.is_closed());
            el.close();
        })
        .wait();
        echo(&el, &client, b"y");
        el.close();
        assert!(el.stats().is_balanced());
    });
}

/// In the process that has made the loop there is nothing to do, on any loop.
#[test]
fn nothing_to_do_without_a_fork() {
    on_loop(|el| {
        el.after_fork_child().unwrap();
        el.close();
        assert!(el.after_fork_child().is_err());
        assert!(el.create_task(async {}).now_or_never().unwrap().unwrap_err().is_closed());
        assert_eq!(take_reports().len(), 1);
    });
}

//! A loop inside of a foreign one, which waits for its descriptor or its hook; and debug mode, statistics, and the loop
//! as a trait object.

mod common;

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::Poll;
use std::time::{Duration, Instant};

use common::{DropCounter, Kind, Log, PATIENCE, alone, complete, on_loop, on_manual_clock, run_on, take_reports};
use roundelay::{AbstractEventLoop, AbstractHandle, EventLoop, ExceptionContext, TimerHandle, get_running_loop, spawn};
use rustix::event::{PollFd, PollFlags, Timespec};

const ZERO: Option<Duration> = Some(Duration::ZERO);

/// The loop, in a callback.
fn running() -> EventLoop {
    get_running_loop().unwrap()
}

/// Whether the loop's descriptor is readable, or gets so within the time.
fn is_readable(el: &EventLoop, timeout: Duration) -> bool {
    let fd = el.as_fd();
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&Timespec::try_from(timeout).unwrap())).unwrap() > 0
}

/// As a foreign loop does it: waits for the descriptor or the deadline, and makes turns that do not block.
fn host(el: &EventLoop, mut until: impl FnMut() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !until() {
        assert!(Instant::now() < patience, "the condition did not come true in time");
        let timeout = match el.next_deadline() {
            Some(deadline) => deadline.saturating_duration_since(Instant::now()).min(PATIENCE),
            None => PATIENCE,
        };
        is_readable(el, timeout);
        el.run_once(ZERO).unwrap();
    }
}

/// Runs a test on every selector.
fn on_each(body: impl Fn(&EventLoop)) {
    for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
        run_on(|| kind.builder(), &body);
    }
}

/// `next_deadline` is the present when anything is ready, else the earliest timer, else nothing.
#[test]
fn the_next_deadline_for_a_host() {
    on_manual_clock(|el, clock| {
        assert_eq!(el.next_deadline(), None);
        let timer = el.call_later(Duration::from_secs(5), || ());
        el.call_later(Duration::from_secs(9), || ());
        assert_eq!(el.next_deadline(), Some(timer.when()));
        el.call_soon(|| ());
        assert_eq!(el.next_deadline(), Some(el.time()));
        el.run_once(ZERO).unwrap();
        assert_eq!(el.next_deadline(), Some(timer.when()));
        // A post of another thread counts as ready.
        let remote = el.remote();
        std::thread::spawn(move || drop(remote.call_soon_threadsafe(|| ()).unwrap())).join().unwrap();
        assert_eq!(el.next_deadline(), Some(el.time()));
        el.run_once(ZERO).unwrap();
        clock.advance(Duration::from_secs(6));
        assert!(el.next_deadline().unwrap() < el.time(), "overdue");
        el.run_once(ZERO).unwrap();
        assert_eq!(el.next_deadline(), Some(timer.when() + Duration::from_secs(4)));
    });
}

/// `next_timeout` is no time when anything is ready, else the time to the earliest timer, which is none where only a call can
/// move the loop's clock.
#[test]
fn the_next_timeout_for_a_host() {
    on_loop(|el| {
        assert_eq!(el.next_timeout(), None);
        let timer = el.call_later(Duration::from_secs(60), || ());
        let time = el.next_timeout().unwrap();
        assert!(time > Duration::from_secs(30) && time <= Duration::from_secs(60), "{time:?}");
        el.call_soon(|| ());
        assert_eq!(el.next_timeout(), ZERO);
        host_settle(el);
        assert!(timer.cancel());
        assert_eq!(el.next_timeout(), None);
        el.stop();
        assert_eq!((el.next_timeout(), el.next_deadline().is_some()), (ZERO, true));
        host_settle(el);
        assert_eq!((el.next_timeout(), el.next_deadline()), (None, None), "used up");
    });
    on_manual_clock(|el, clock| {
        el.call_later(Duration::from_secs(5), || ());
        assert_eq!(el.next_timeout(), None);
        clock.advance(Duration::from_secs(5));
        assert_eq!(el.next_timeout(), ZERO);
        host_settle(el);
    });
}

/// A stop between two turns is told of, and makes one turn; one within a turn is nobody's business but that turn's.
#[test]
fn a_stop_for_a_host() {
    on_each(|el| {
        let told = Arc::new(AtomicUsize::new(0));
        let counter = told.clone();
        el.set_wake_hook(Some(Arc::new(move || _ = counter.fetch_add(1, Ordering::SeqCst))));
        host_settle(el);
        assert!(!is_readable(el, Duration::ZERO));
        el.stop();
        assert!(is_readable(el, PATIENCE));
        assert_eq!((el.run_once(ZERO).unwrap(), told.load(Ordering::SeqCst)), (0, 1));
        assert!(!is_readable(el, Duration::ZERO));
        el.call_soon(|| running().stop());
        assert_eq!(el.run_once(ZERO).unwrap(), 1);
        assert!(!is_readable(el, Duration::ZERO));
        assert_eq!((el.next_timeout(), told.load(Ordering::SeqCst)), (None, 2));
    });
}

/// The owner is dropped in a turn: the loop is closed when that is over, and its descriptor is quiet and still its own.
#[test]
fn the_owner_is_dropped_in_a_turn() {
    on_loop(|_| {
        let owner = EventLoop::new().unwrap();
        let el = owner.clone();
        el.set_debug(false);
        let number = el.as_fd();
        el.call_soon(move || drop(owner));
        assert_eq!(el.run_once(ZERO).unwrap(), 1);
        assert!(el.is_closed());
        let mut fds = [PollFd::new(&number, PollFlags::IN)];
        assert_eq!(rustix::event::poll(&mut fds, Some(&Timespec::default())).unwrap(), 0);
        assert_eq!((el.next_timeout(), el.next_deadline()), (None, None));
    });
}

/// A host that is told of edges alone, as by an edge-triggered epoll: turns until there is nothing more miss nothing.
#[test]
fn a_host_that_is_told_of_edges() {
    use rustix::event::epoll;

    on_each(|el| {
        let outer = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let edges = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&outer, el, epoll::EventData::new_u64(0), edges).unwrap();
        let (mut socket, peer) = UnixStream::pair().unwrap();
        let task = el.create_task(async move {
            let (mut reader, _writer) = roundelay::open_connection(std::os::fd::OwnedFd::from(peer)).await.unwrap();
            let mut lines = 0;
            while !reader.readline().await.unwrap().is_empty() {
                lines += 1;
            }
            lines
        });
        let writer = std::thread::spawn(move || (0..2000).for_each(|_| socket.write_all(b"line\n").unwrap()));
        let patience = Instant::now() + PATIENCE;
        while !task.is_done() {
            assert!(Instant::now() < patience, "an edge was missed");
            let mut events = Vec::with_capacity(4);
            let timeout = el.next_timeout().unwrap_or(PATIENCE);
            let timeout = Timespec::try_from(timeout).unwrap();
            epoll::wait(&outer, rustix::buffer::spare_capacity(&mut events), Some(&timeout)).unwrap();
            host_settle(el);
        }
        writer.join().unwrap();
        assert_eq!(complete(el, task).unwrap(), 2000);
    });
}

/// LU-05: a loop under a host that polls its descriptor does everything: callbacks, timers, tasks, posts, connections.
#[test]
fn a_host_that_polls_the_descriptor() {
    on_each(|el| {
        let log = Log::new();
        el.call_soon(log.entry("callback"));
        el.call_later(Duration::from_millis(3), log.entry("timer"));
        host(el, || log.len() == 2);
        assert_eq!(log.take(), ["callback", "timer"]);

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let echo = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            std::io::copy(&mut peer.try_clone().unwrap(), &mut peer).unwrap();
        });
        let task = el.create_task(async move {
            let (mut reader, mut writer) = roundelay::open_connection(address).await.unwrap();
            writer.write(b"there and back\n");
            let line = reader.readline().await.unwrap();
            roundelay::sleep(Duration::from_millis(1)).await;
            line
        });
        host(el, || task.is_done());
        assert_eq!(complete(el, task).unwrap(), b"there and back\n");
        echo.join().unwrap();

        let (done, is_done) = mpsc::channel();
        let remote = el.remote();
        let thread = std::thread::spawn(move || {
            let value = remote.spawn(|| async { spawn(async { 7 }).await.unwrap() }).unwrap().wait().unwrap();
            // On the loop, so that the host is woken by it.
            drop(remote.call_soon_threadsafe(move || done.send(value).unwrap()).unwrap());
        });
        let mut value = None;
        host(el, || {
            value = value.or(is_done.try_recv().ok());
            value.is_some()
        });
        assert_eq!(value, Some(7));
        thread.join().unwrap();
    });
}

/// Trap 14: what is scheduled between two turns, on the loop's own thread, makes the descriptor readable, whatever it is.
#[test]
fn local_work_between_turns_makes_the_descriptor_readable() {
    on_each(|el| {
        el.as_fd();
        let future = el.create_future::<()>();
        let waits = future.clone();
        let task = el.create_task(async move {
            waits.await.unwrap();
            std::future::pending::<()>().await;
        });
        let settle = || {
            host_settle(el);
            assert!(!is_readable(el, Duration::ZERO), "nothing to do");
        };
        settle();
        el.call_soon(|| ());
        assert!(is_readable(el, PATIENCE), "a callback");
        settle();
        let handle = el.call_later(Duration::from_secs(3600), || ());
        assert!(is_readable(el, PATIENCE), "a timer: the host has computed its wait without it");
        settle();
        handle.cancel();
        drop(el.create_task(async {}));
        assert!(is_readable(el, PATIENCE), "a task");
        settle();
        future.set_result(()).unwrap();
        assert!(is_readable(el, PATIENCE), "a wake-up");
        settle();
        task.cancel();
        assert!(is_readable(el, PATIENCE), "a cancellation");
        settle();
        drop(el.call_soon_threadsafe(|| ()).unwrap());
        assert!(is_readable(el, PATIENCE), "a post of this thread");
        settle();
        let remote = el.remote();
        std::thread::spawn(move || drop(remote.call_soon_threadsafe(|| ()).unwrap())).join().unwrap();
        assert!(is_readable(el, PATIENCE), "a post of another thread");
        settle();
    });
}

/// Turns until there is nothing to do.
fn host_settle(el: &EventLoop) {
    for _ in 0..1000 {
        if el.run_once(ZERO).unwrap() == 0 {
            return;
        }
    }
    panic!("the loop does not come to rest");
}

/// What a turn has left for the next one makes the descriptor readable, and so does what was there before the loop was
/// first asked for it.
#[test]
fn what_a_turn_leaves_makes_the_descriptor_readable() {
    on_each(|el| {
        el.call_soon(|| ());
        assert!(is_readable(el, PATIENCE), "scheduled before there was a host");
        host_settle(el);
        el.call_soon(|| {
            running().call_soon(|| ());
        });
        assert_eq!(el.run_once(ZERO).unwrap(), 1);
        assert!(is_readable(el, PATIENCE), "left for the next turn");
        assert_eq!(el.run_once(ZERO).unwrap(), 1);
        assert!(!is_readable(el, Duration::ZERO));
        // A post that came during the turn.
        el.call_soon(|| {
            let remote = running().remote();
            std::thread::spawn(move || drop(remote.call_soon_threadsafe(|| ()).unwrap())).join().unwrap();
        });
        assert_eq!(el.run_once(ZERO).unwrap(), 1);
        assert!(is_readable(el, PATIENCE), "posted during the turn");
        host_settle(el);
        // More posts than a turn takes.
        let remote = el.remote();
        let post = move || (0..4096 + 1).for_each(|_| drop(remote.call_soon_threadsafe(|| ()).unwrap()));
        std::thread::spawn(post).join().unwrap();
        assert!(is_readable(el, PATIENCE));
        assert_eq!(el.run_once(ZERO).unwrap(), 4096);
        assert!(is_readable(el, PATIENCE), "one post is left");
        assert_eq!(el.run_once(ZERO).unwrap(), 1);
        assert!(!is_readable(el, Duration::ZERO), "and is not told of twice");
    });
}

/// A descriptor that is watched makes the loop's readable, and a turn deals with it.
#[test]
fn events_make_the_descriptor_readable() {
    on_each(|el| {
        let (mut socket, mut peer) = UnixStream::pair().unwrap();
        let (registered, read) = (socket.try_clone().unwrap(), Rc::new(Cell::new(0)));
        let counter = read.clone();
        el.add_reader(&registered, move || counter.set(counter.get() + socket.read(&mut [0; 8]).unwrap())).unwrap();
        host_settle(el);
        assert!(!is_readable(el, Duration::ZERO));
        peer.write_all(b"abc").unwrap();
        assert!(is_readable(el, PATIENCE));
        el.run_once(ZERO).unwrap();
        assert_eq!(read.get(), 3);
        host_settle(el);
        assert!(!is_readable(el, Duration::ZERO), "dealt with");
        assert!(el.remove_reader(&registered));
    });
}

/// A hook is told once for each time that the loop is left idle and gets something to do, on the thread that gave it.
#[test]
fn a_hook_is_told_once_for_each_idle_time() {
    on_each(|el| {
        let (told, is_told) = mpsc::channel();
        el.set_wake_hook(Some(Arc::new(move || told.send(std::thread::current().id()).unwrap())));
        let calls = || is_told.try_iter().count();
        assert_eq!(calls(), 0);
        for _ in 0..3 {
            el.call_soon(|| ());
            assert_eq!(calls(), 1);
            el.call_soon(|| ());
            el.call_later(Duration::ZERO, || ());
            let remote = el.remote();
            std::thread::spawn(move || drop(remote.call_soon_threadsafe(|| ()).unwrap())).join().unwrap();
            assert_eq!(calls(), 0, "told already");
            host_settle(el);
            assert_eq!(calls(), 0);
        }
        // During a turn nobody is told of what it schedules, before it is over.
        el.call_soon(|| {
            for _ in 0..3 {
                running().call_soon(|| ());
            }
        });
        assert_eq!(calls(), 1);
        el.run_once(ZERO).unwrap();
        assert_eq!(calls(), 1);
        host_settle(el);

        let remote = el.remote();
        let poster = std::thread::spawn(move || {
            drop(remote.call_soon_threadsafe(|| ()).unwrap());
            std::thread::current().id()
        });
        let poster = poster.join().unwrap();
        assert_eq!(is_told.try_iter().collect::<Vec<_>>(), [poster]);
        host_settle(el);
        el.set_wake_hook(None);
        el.call_soon(|| ());
        assert_eq!(calls(), 0);
        host_settle(el);
    });
}

/// A hook that panics is reported where the loop's own thread has called it: what was scheduled is, and closing the loop
/// ends all of its tasks, so that a waker that outlives it does nothing.
#[test]
fn a_panicking_hook() {
    on_each(|el| {
        let waits = || {
            let (waker, polled) = mpsc::channel();
            drop(el.create_task(std::future::poll_fn(move |cx| {
                waker.send(cx.waker().clone()).unwrap();
                Poll::<()>::Pending
            })));
            polled
        };
        let (first, second) = (waits(), waits());
        host_settle(el);
        el.set_wake_hook(Some(Arc::new(|| panic!("in the hook"))));
        el.call_soon(|| ());
        assert_eq!(el.run_once(ZERO).unwrap(), 1);
        first.recv().unwrap().wake();
        assert_eq!(el.run_once(ZERO).unwrap(), 1);
        el.call_soon(|| {
            running().call_soon(|| ());
        });
        assert_eq!(el.run_once(ZERO).unwrap(), 1);
        assert_eq!(take_reports().len(), 4, "each time that it was called");
        assert_eq!(el.run_once(ZERO).unwrap(), 1, "what the turn had left");
        el.close();
        let reports = take_reports();
        assert_eq!(reports.len(), 1, "{reports:#?}");
        assert!(
            reports.iter().all(|report| report.contains("Exception in the wake hook: in the hook")),
            "{reports:#?}"
        );
        assert!(el.all_tasks().is_empty());
        for waker in first.try_iter().chain(second.try_iter()) {
            waker.wake();
        }
    });
}

/// What is ready when the hook is set is told of at once: no host has heard of it.
#[test]
fn a_hook_hears_of_what_is_there() {
    on_each(|el| {
        el.call_soon(|| ());
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = calls.clone();
        el.set_wake_hook(Some(Arc::new(move || _ = counter.fetch_add(1, Ordering::SeqCst))));
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        host_settle(el);
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    });
}

/// A clock that is advanced tells the host: what was not due may be so now.
#[test]
fn a_host_hears_of_the_clock() {
    on_manual_clock(|el, clock| {
        let (told, is_told) = mpsc::channel();
        el.set_wake_hook(Some(Arc::new(move || told.send(()).unwrap())));
        let timer = el.call_later(Duration::from_secs(5), || ());
        host_settle(el);
        assert!(!is_readable(el, Duration::ZERO));
        assert_eq!(is_told.try_iter().count(), 1, "of the timer");
        clock.advance(Duration::from_secs(5));
        assert_eq!(is_told.try_iter().count(), 1, "of the time");
        assert!(is_readable(el, PATIENCE));
        assert_eq!(el.run_once(ZERO).unwrap(), 1);
        assert!(timer.is_done());
    });
}

/// A host that waits for nothing but the hook and the deadline keeps the loop going.
#[test]
fn a_host_that_waits_for_the_hook() {
    on_loop(|el| {
        let (wake, woken) = mpsc::channel();
        el.set_wake_hook(Some(Arc::new(move || wake.send(()).unwrap())));
        let (remote, log) = (el.remote(), Log::new());
        let thread = std::thread::spawn(move || {
            for n in 1..=50 {
                assert_eq!(remote.spawn(move || async move { n }).unwrap().wait().unwrap(), n);
            }
        });
        el.call_later(Duration::from_millis(2), log.entry("timer"));
        let patience = Instant::now() + PATIENCE;
        while !(thread.is_finished() && log.len() == 1) {
            assert!(Instant::now() < patience, "not woken in time");
            let now = Instant::now();
            let until = el.next_deadline().unwrap_or(now + Duration::from_millis(20));
            let _ = woken.recv_timeout(until.saturating_duration_since(now));
            el.run_once(ZERO).unwrap();
        }
        thread.join().unwrap();
    });
}

/// Two loops take turns on one thread, under one host.
#[test]
fn two_loops_share_a_thread() {
    on_loop(|el| {
        let other = EventLoop::new().unwrap();
        let (a, b) = (el.clone(), other.clone());
        let (ball, back) = (el.create_future::<u32>(), other.create_future::<u32>());
        let (catch, throw) = (back.clone(), ball.clone());
        // Each completes a future of the other's, which is a wake-up across loops.
        let first = el.create_task(async move {
            assert_eq!(running().id(), a.id());
            catch.set_result(1).unwrap();
            ball.await.unwrap()
        });
        let second = other.create_task(async move {
            assert_eq!(running().id(), b.id());
            let n = back.await.unwrap();
            throw.set_result(n + 1).unwrap();
        });
        let patience = Instant::now() + PATIENCE;
        while !(first.is_done() && second.is_done()) {
            assert!(Instant::now() < patience);
            el.run_once(ZERO).unwrap();
            other.run_once(ZERO).unwrap();
        }
        assert_eq!(complete(el, first).unwrap(), 2);
        complete(&other, second).unwrap();
        other.close();
    });
}

/// The descriptor is the same through both traits, open for as long as there is a handle, and lent until then: a host takes it
/// away after the loop was closed. A loop that was never asked for it has none once it is closed.
#[test]
fn the_descriptor_has_one_number() {
    on_each(|el| {
        let number = el.as_raw_fd();
        assert_eq!(el.as_fd().as_raw_fd(), number);
        let lent = el.as_fd();
        el.close();
        assert_eq!(el.as_raw_fd(), number);
        // Whoever still watches it does not watch something else that has got its number.
        assert!(lent.try_clone_to_owned().is_ok());
    });
    on_each(|el| {
        el.close();
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| el.as_raw_fd())).is_err());
    });
}

// ------------------------------------------------------------------------------------------------- as a trait object

/// Code against the trait runs on our loop.
#[test]
fn the_loop_is_an_object() {
    on_loop(|el| {
        let object: &dyn AbstractEventLoop = el;
        assert!(!object.is_running() && !object.is_closed());
        assert!(object.time() <= Instant::now());
        let log = Log::new();
        let soon = object.call_soon(Box::new(log.entry("soon")));
        let later = object.call_later(Duration::ZERO, Box::new(log.entry("later")));
        let when = object.time() + Duration::from_secs(9);
        let never = object.call_at(when, Box::new(log.entry("never")));
        assert_eq!((soon.when(), never.when()), (None, Some(when)));
        assert!(never.cancel() && never.is_cancelled() && never.is_done() && !never.cancel());
        let inner = log.clone();
        object.spawn(Box::pin(async move { inner.push("task") }));
        assert!(object.call_soon_threadsafe(Box::new(|| running().stop())));
        object.run_forever();
        while !later.is_done() {
            object.run_once(Some(PATIENCE)).unwrap();
        }
        let mut seen = log.take();
        seen.sort();
        assert_eq!(seen, ["later", "soon", "task"]);
        assert!(soon.is_done() && !soon.is_cancelled() && !soon.cancel());

        let (socket, mut peer) = UnixStream::pair().unwrap();
        peer.write_all(b"x").unwrap();
        let (reads, writes) = (log.clone(), log.clone());
        object.add_reader(socket.as_fd(), Box::new(move || reads.push("readable"))).unwrap();
        object.add_writer(socket.as_fd(), Box::new(move || writes.push("writable"))).unwrap();
        object.run_once(ZERO).unwrap();
        assert_eq!(log.take(), ["readable", "writable"]);
        assert!(object.remove_reader(socket.as_fd()) && object.remove_writer(socket.as_fd()));
        assert!(!object.remove_reader(socket.as_fd()) && !object.remove_writer(socket.as_fd()));

        object.call_exception_handler(&ExceptionContext::new("told"));
        assert_eq!(take_reports(), ["told"]);
        object.set_debug(true);
        assert!(object.debug() && el.debug());
        object.stop();
        object.run_forever();
        object.close();
        assert!(object.is_closed() && !object.call_soon_threadsafe(Box::new(|| ())));
    });
}

/// Another loop can stand behind the trait.
#[test]
fn another_loop_stands_behind_the_trait() {
    /// Runs a function twice: what code against the trait may look like.
    fn twice(el: &dyn AbstractEventLoop, f: impl Fn() + Clone + 'static) -> Vec<Box<dyn AbstractHandle>> {
        let again = f.clone();
        vec![el.call_soon(Box::new(f)), el.call_later(Duration::ZERO, Box::new(again))]
    }
    on_loop(|el| {
        let count = Rc::new(Cell::new(0));
        let counter = count.clone();
        let boxed: Box<dyn AbstractEventLoop> = Box::new(el.clone());
        let handles = twice(&*boxed, move || counter.set(counter.get() + 1));
        common::run_until(el, || handles.iter().all(|handle| handle.is_done()));
        assert_eq!(count.get(), 2);
    });
}

// ------------------------------------------------------------------------------------------------ debug mode, counters

/// DB-01: `ROUNDELAY_DEBUG` turns debug mode on, but for the empty value and 0; the builder overrides it.
#[test]
fn the_environment_turns_debug_mode_on() {
    const CHILD: &str = "ROUNDELAY_TEST_PRINTS_DEBUG";
    if std::env::var_os(CHILD).is_some() {
        let (plain, off) = (EventLoop::new().unwrap(), EventLoop::builder().debug(false).build().unwrap());
        println!("plain={} off={}", plain.debug(), off.debug());
        plain.close();
        off.close();
        return;
    }
    let _alone = alone();
    for (value, expected) in
        [(None, false), (Some(""), false), (Some("0"), false), (Some("1"), true), (Some("x"), true)]
    {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "the_environment_turns_debug_mode_on", "--nocapture"]).env(CHILD, "1");
        match value {
            Some(value) => child.env("ROUNDELAY_DEBUG", value),
            None => child.env_remove("ROUNDELAY_DEBUG"),
        };
        let output = child.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{said}");
        assert!(said.contains(&format!("plain={expected} off=false")), "{value:?}: {said}");
    }
}

/// DB-02: debug mode can be turned on and off at any time.
#[test]
fn debug_mode_can_be_turned() {
    run_on(
        || EventLoop::builder().debug(true),
        |el| {
            assert!(el.debug());
            let seen = el.run_until_complete(async {
                running().set_debug(false);
                running().debug()
            });
            assert_eq!((seen, el.debug()), (Ok(false), false));
            el.set_debug(true);
            assert!(el.clone().debug());
        },
    );
}

/// The counters tell what is made and what is gone, of each kind, at each step.
#[test]
fn the_counters_tell() {
    on_loop(|el| {
        let tally = |opened, closed| (opened, closed, opened - closed);
        macro_rules! assert_counts {
            ($kind:ident, $opened:expr, $closed:expr) => {
                let counted = el.stats().$kind;
                assert_eq!((counted.opened, counted.closed, counted.live()), tally($opened, $closed));
            };
        }
        let (a, _b) = (el.call_soon(|| ()), el.call_soon(|| ()));
        assert_counts!(handles, 2, 0);
        a.cancel();
        assert_counts!(handles, 2, 1);
        let timer: TimerHandle = el.call_later(Duration::from_secs(1), || ());
        assert_counts!(timers, 1, 0);
        let dropped = DropCounter::new();
        let guard = dropped.guard();
        let task = el.create_task(async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
        assert_counts!(tasks, 1, 0);
        assert!(!el.stats().is_balanced());
        let future = el.create_future::<()>();
        let clone = future.clone();
        drop(future);
        assert_counts!(futures, 1, 0);
        drop(clone);
        assert_counts!(futures, 1, 1);
        let (socket, _peer) = UnixStream::pair().unwrap();
        el.add_reader(&socket, || ()).unwrap();
        el.add_writer(&socket, || ()).unwrap();
        assert_counts!(descriptors, 1, 0);
        assert_eq!((el.stats().turns, el.stats().waits), (0, 0));
        el.run_once(ZERO).unwrap();
        assert_eq!((el.stats().turns, el.stats().waits), (1, 1));
        assert_counts!(handles, 2, 2);
        task.cancel();
        assert_counts!(tasks, 1, 0);
        el.run_once(ZERO).unwrap();
        assert_counts!(tasks, 1, 1);
        assert_eq!(dropped.count(), 1);
        timer.cancel();
        assert_counts!(timers, 1, 1);
        assert!(el.remove_reader(&socket));
        assert_counts!(descriptors, 1, 0);
        assert!(el.remove_writer(&socket));
        assert_counts!(descriptors, 1, 1);
        assert!(el.stats().is_balanced());
        el.add_reader(&socket, || ()).unwrap();
        el.close();
        assert_counts!(descriptors, 2, 2);
    });
}

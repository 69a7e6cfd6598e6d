//! Selectors: the shipped ones, where the newest system call is missing, and one of the application's own.

mod common;
#[path = "common/recording.rs"]
mod recording;
#[path = "common/seccomp.rs"]
mod seccomp;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Kind, Log, alone, complete, on_loop, run_on, run_until};
use recording::Tape;
use roundelay::selector::{Epoll, Event, Interest, Mode, Notify, Polling, Readiness, Selector};
use roundelay::{EventLoop, LoopKind, SelectorEventLoop, sleep};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};

const ZERO: Option<Duration> = Some(Duration::ZERO);

fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

/// What every selector must be good for: events in both directions, timers, posts, removal.
fn exercise(el: &EventLoop) {
    let log = Log::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let mut registered = ours.try_clone().unwrap();
    let on_read = log.clone();
    el.add_reader(&ours, move || {
        let mut data = [0; 16];
        let n = registered.read(&mut data).unwrap();
        on_read.push(String::from_utf8_lossy(&data[..n]));
    })
    .unwrap();
    theirs.write_all(b"one").unwrap();
    run_until(el, || log.len() == 1);
    theirs.write_all(b"two").unwrap();
    run_until(el, || log.len() == 2);
    assert_eq!(log.take(), ["one", "two"]);

    // Writing, beside the reader of the same descriptor.
    let on_write = log.clone();
    el.add_writer(&ours, move || on_write.push("writable")).unwrap();
    run_until(el, || log.len() > 0);
    assert!(el.remove_writer(&ours) && !el.remove_writer(&ours));
    log.take();
    el.run_once(ZERO).unwrap();
    assert_eq!(log.len(), 0);

    // A timer, to the end of a real sleep.
    let start = Instant::now();
    complete(el, sleep(micros(1500)));
    assert!(start.elapsed() >= micros(1500));

    // A post ends the sleep of a loop that has nothing else to wait for.
    let remote = el.remote();
    let thread = std::thread::spawn(move || remote.call_soon_threadsafe(|| 7).unwrap().wait().unwrap());
    run_until(el, || thread.is_finished());
    assert_eq!(thread.join().unwrap(), 7);

    // The other side's end is readable.
    drop(theirs);
    run_until(el, || log.len() > 0);
    assert_eq!(log.take()[0], "");
    assert!(el.remove_reader(&ours));

    // A connection with its transport, both ways.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let echo = std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        io::copy(&mut peer.try_clone().unwrap(), &mut peer).unwrap();
    });
    let answer = complete(el, async {
        let (mut reader, mut writer) = roundelay::open_connection(address).await.unwrap();
        writer.write(&vec![7; 300_000]);
        writer.write_eof();
        reader.readexactly(300_000).await.unwrap()
    });
    assert_eq!(answer.len(), 300_000);
    echo.join().unwrap();
    common::settle(el);
}

/// Each shipped selector, and the one without edges, does everything.
#[test]
fn shipped_selectors_work() {
    for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
        run_on(|| kind.builder(), exercise);
    }
}

/// The builder says which selector is used, and the loop tells; the default is the platform's own.
#[test]
fn a_selector_is_chosen_by_the_builder() {
    on_loop(|el| {
        assert_eq!((el.selector_name(), el.kind()), ("epoll", LoopKind::Selector));
        let other = EventLoop::builder().selector(Polling::new().unwrap()).build().unwrap();
        assert_eq!(other.selector_name(), "polling");
        other.close();
    });
}

// --------------------------------------------------------------------------------------------- without epoll_pwait2

/// The timeouts that a loop on this selector asks for and gets, and whether it was precise in the end.
fn on_recorded(epoll: impl FnOnce() -> Epoll, body: impl FnOnce(&EventLoop)) -> (Vec<Option<Duration>>, bool) {
    let tape = Tape::new();
    tape.answer(Ok);
    let recorded = tape.clone();
    run_on(move || EventLoop::builder().selector(recorded.selector_on(epoll())), body);
    (tape.waits(), tape.is_precise())
}

/// Timers of fractions of a millisecond, none of which may be early, and none of which may be spun for.
fn sleep_in_fractions(el: &EventLoop) {
    for delay in [1, 400, 1000, 1001, 1999, 2500].map(micros) {
        let timer = el.call_later(delay, || ());
        let turns = el.stats().turns;
        let start = Instant::now();
        complete(el, timer).unwrap();
        assert!(start.elapsed() >= delay);
        // One to begin, one to sleep and fire, one to wake the awaiter, and one to spare for what an interrupted
        // sleep may cost: a rounded-down timeout would need many more.
        assert!(el.stats().turns - turns <= 4, "{} turns for {delay:?}", el.stats().turns - turns);
    }
}

/// Trap 15: without `epoll_pwait2` timeouts are rounded up to milliseconds: no timer is early, and none is spun for.
#[test]
fn without_pwait2_nothing_is_early() {
    let (_, precise) = on_recorded(without_pwait2, sleep_in_fractions);
    assert!(!precise);
    run_on(|| EventLoop::builder().selector(without_pwait2()), exercise);
}

fn without_pwait2() -> Epoll {
    let epoll = Epoll::new().unwrap();
    assert!(epoll.is_precise());
    let epoll = epoll.without_pwait2();
    assert!(!epoll.is_precise());
    epoll
}

/// The longest wait of all is not too long for milliseconds, nor is one without end.
#[test]
fn without_pwait2_long_waits_end_by_notice() {
    let build = || EventLoop::builder().selector(without_pwait2());
    run_on(build, |el| {
        el.call_later(Duration::MAX, || ());
        let remote = el.remote();
        let thread = std::thread::spawn(move || remote.stop().unwrap());
        el.run_forever();
        thread.join().unwrap();
    });
    // Beyond what the call can take, as a selector of one's own may be asked for.
    let _alone = alone();
    for mut epoll in [without_pwait2(), Epoll::new().unwrap()] {
        let (notifier, notified) = (epoll.notifier(), Arc::new(AtomicBool::new(false)));
        let (flag, mut events) = (notified.clone(), Vec::new());
        let thread = std::thread::spawn(move || {
            flag.store(true, Ordering::SeqCst);
            notifier.notify();
        });
        epoll.wait(Some(Duration::MAX), &mut events).unwrap();
        assert!(notified.load(Ordering::SeqCst), "it returned by itself");
        assert!(events.is_empty(), "the notifier makes no event");
        thread.join().unwrap();
    }
}

/// Runs a test on a thread to which the kernel refuses a system call with this error.
fn with_refused(test: &str, call: std::ffi::c_long, errno: i32, body: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let refused = scope.spawn(|| match seccomp::refuse(call, errno) {
            Ok(()) => body(),
            Err(error) => seccomp::skip(test, &error),
        });
        if let Err(payload) = refused.join() {
            std::panic::resume_unwind(payload);
        }
    });
}

/// Trap 15: a kernel that does not know `epoll_pwait2`, or a filter that forbids it, is found out by the first wait that
/// needs it, which waits all the same.
#[test]
fn a_refused_pwait2_is_done_without() {
    for errno in [libc::ENOSYS, libc::EPERM] {
        with_refused("a_refused_pwait2_is_done_without", libc::SYS_epoll_pwait2, errno, || {
            let (waits, precise) = on_recorded(
                || Epoll::new().unwrap(),
                |el| {
                    // Neither a look nor an endless wait needs it.
                    el.run_once(ZERO).unwrap();
                    // Nor does a short sleep, which has a timer of its own.
                    let long = el.call_later(Duration::from_millis(101), || ());
                    complete(el, long).unwrap();
                    sleep_in_fractions(el);
                },
            );
            assert!(!precise, "errno {errno}");
            assert!(waits.iter().flatten().any(|wait| *wait > Duration::ZERO), "{waits:?}");
            run_on(EventLoop::builder, exercise);
        });
    }
}

/// Trap 15: short sleeps end in time where the kernel gives no timer for them, or sets none.
#[test]
fn a_refused_timer_is_done_without() {
    for (call, errno) in [
        (libc::SYS_timerfd_create, libc::EMFILE),
        (libc::SYS_timerfd_create, libc::ENOSYS),
        (libc::SYS_timerfd_settime, libc::EPERM),
    ] {
        with_refused("a_refused_timer_is_done_without", call, errno, || {
            let (_, precise) = on_recorded(|| Epoll::new().unwrap(), sleep_in_fractions);
            assert!(precise);
            run_on(EventLoop::builder, exercise);
        });
    }
}

/// An error that says something else is not taken for a missing call.
#[test]
fn another_error_of_pwait2_is_an_error() {
    with_refused("another_error_of_pwait2_is_an_error", libc::SYS_epoll_pwait2, libc::EBADF, || {
        run_on(EventLoop::builder, |el| {
            el.call_later(Duration::from_secs(1), || ());
            assert_eq!(el.run_once(None).unwrap_err().raw_os_error(), Some(libc::EBADF));
        });
    });
}

// ------------------------------------------------------------------------------------------ a selector of one's own

/// A selector on poll(2): as simple as one can be, and without edges.
struct Poll {
    registered: HashMap<RawFd, (u64, Interest)>,
    notifier: Arc<Bell>,
    calls: Rc<RefCell<Vec<&'static str>>>,
}

struct Bell(OwnedFd);

impl Notify for Bell {
    fn notify(&self) {
        rustix::io::write(&self.0, &1_u64.to_ne_bytes()).unwrap();
    }
}

impl Poll {
    fn new(calls: &Rc<RefCell<Vec<&'static str>>>) -> Self {
        let bell = rustix::event::eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap();
        Self { registered: HashMap::new(), notifier: Arc::new(Bell(bell)), calls: calls.clone() }
    }
}

impl Selector for Poll {
    fn name(&self) -> &'static str {
        "poll"
    }
    fn supports_edge(&self) -> bool {
        false
    }
    fn add(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest, mode: Mode) -> io::Result<()> {
        assert_eq!(mode, Mode::Level, "what knows no edges is asked for none");
        assert_ne!(key, u64::MAX);
        self.calls.borrow_mut().push("add");
        if self.registered.insert(fd.as_raw_fd(), (key, interest)).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(())
    }
    fn modify(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest, mode: Mode) -> io::Result<()> {
        assert_eq!(mode, Mode::Level);
        self.calls.borrow_mut().push("modify");
        let place = self.registered.get_mut(&fd.as_raw_fd()).ok_or(io::ErrorKind::NotFound)?;
        *place = (key, interest);
        Ok(())
    }
    fn delete(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.calls.borrow_mut().push("delete");
        self.registered.remove(&fd.as_raw_fd()).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }
    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let timeout = timeout.map(|timeout| Timespec::try_from(timeout).unwrap());
        let numbers: Vec<RawFd> = self.registered.keys().copied().collect();
        let mut fds = vec![PollFd::new(&self.notifier.0, PollFlags::IN)];
        fds.extend(numbers.iter().map(|&fd| {
            let interest = self.registered[&fd].1;
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, interest.readable);
            flags.set(PollFlags::OUT, interest.writable);
            PollFd::from_borrowed_fd(seccomp::borrow(fd), flags)
        }));
        rustix::event::poll(&mut fds, timeout.as_ref())?;
        let found: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        if !found[0].is_empty() {
            let _ = rustix::io::read(&self.notifier.0, &mut [0; 8]);
        }
        for (fd, flags) in numbers.into_iter().zip(&found[1..]) {
            let mut readiness = Readiness::NONE;
            for (flag, meaning) in [
                (PollFlags::IN, Readiness::READABLE),
                (PollFlags::OUT, Readiness::WRITABLE),
                (PollFlags::HUP, Readiness::HANGUP),
                (PollFlags::ERR | PollFlags::NVAL, Readiness::ERROR),
            ] {
                if flags.intersects(flag) {
                    readiness = readiness.union(meaning);
                }
            }
            if readiness != Readiness::NONE {
                events.push(Event { key: self.registered[&fd].0, readiness });
            }
        }
        Ok(())
    }
    fn notifier(&self) -> Arc<dyn Notify> {
        self.notifier.clone()
    }
    fn backend_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

struct Nobody;

impl roundelay::Protocol for Nobody {
    fn data_received(&mut self, _: &roundelay::Transport, _: &[u8]) {}
}

/// A loop runs on a selector of the application's own, which need not have more than levels, and no descriptor.
#[test]
fn a_selector_of_ones_own() {
    let calls = Rc::default();
    let build = || EventLoop::builder().selector(Poll::new(&calls));
    run_on(build, |el| {
        assert_eq!(el.selector_name(), "poll");
        exercise(el);
        let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| el.as_fd().as_raw_fd())).unwrap_err();
        assert!(refused.downcast_ref::<String>().unwrap().contains("has no descriptor"));
        // What is registered when the loop is closed is deleted, too, before it is closed.
        let (ours, _peer) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        el.add_reader(&ours, || ()).unwrap();
        let server = complete(el, el.create_server(|| Nobody, ("127.0.0.1", 0))).unwrap();
        el.close();
        assert!(server.sockets().is_empty());
    });
    let calls: &Vec<_> = &calls.borrow();
    let count = |name| calls.iter().filter(|call| **call == name).count();
    assert_eq!(count("add"), count("delete"));
    assert!(count("modify") > 0);
}

/// A selector that reports what it was never given, or has given up, is not believed.
#[test]
fn events_with_unknown_keys_are_ignored() {
    struct Liar(Epoll);
    impl Selector for Liar {
        fn name(&self) -> &'static str {
            "liar"
        }
        fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
            let all = Readiness::READABLE.union(Readiness::WRITABLE).union(Readiness::ERROR);
            events.extend([0, 1, 7, u64::MAX, 1 << 32].map(|key| Event { key, readiness: all }));
            self.0.wait(timeout.or(ZERO), events)
        }
        fn backend_fd(&self) -> Option<BorrowedFd<'_>> {
            None
        }
        left_to_the_inner_one! { supports_edge add modify delete notifier }
    }
    let build = || EventLoop::builder().selector(Liar(Epoll::new().unwrap()));
    run_on(build, |el| {
        for _ in 0..3 {
            assert_eq!(el.run_once(ZERO).unwrap(), 0);
        }
    });
}

// ----------------------------------------------------------------------------------------------- SelectorEventLoop

/// `SelectorEventLoop` owns its loop, is used as one, and can be made one.
#[test]
fn a_selector_event_loop_is_a_loop() {
    on_loop(|_| {
        let el = SelectorEventLoop::with_selector(Polling::new().unwrap()).unwrap();
        assert_eq!((el.selector_name(), el.run_until_complete(async { 1 })), ("polling", Ok(1)));
        let handle = (*el).clone();
        drop(el);
        assert!(handle.is_closed());

        let el = SelectorEventLoop::new().unwrap();
        assert_eq!(el.kind(), LoopKind::Selector);
        let plain: EventLoop = el.into();
        let handle = plain.clone();
        assert!(!handle.is_closed(), "handed over, not dropped");
        drop(plain);
        assert!(handle.is_closed());
    });
}

/// A loop that cannot be made says so, and leaves no descriptor behind.
#[test]
fn a_loop_that_cannot_be_made() {
    let _alone = alone();
    let before = common::open_descriptors();
    with_refused("a_loop_that_cannot_be_made", libc::SYS_epoll_create1, libc::EMFILE, || {
        for error in [EventLoop::new().unwrap_err(), Epoll::new().unwrap_err(), Polling::new().unwrap_err()] {
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        }
    });
    with_refused("a_loop_that_cannot_be_made", libc::SYS_eventfd2, libc::EMFILE, || {
        assert_eq!(EventLoop::new().unwrap_err().raw_os_error(), Some(libc::EMFILE));
        assert_eq!(SelectorEventLoop::new().unwrap_err().raw_os_error(), Some(libc::EMFILE));
    });
    assert_eq!(common::open_descriptors(), before);
}

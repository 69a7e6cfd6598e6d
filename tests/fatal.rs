//! Panics that leave the loop: those that carry a `Fatal`, and those of the root future. Each unwinds out of `run_*`
//! once, the loop stays usable, and nothing that was scheduled is lost.

mod common;

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use common::{DropCounter, Log, complete, on_loop, run_until, settle, take_reports};
use roundelay::{EventLoop, Fatal, JoinError, KeepOpen, Outcome, Protocol, Task, Transport, yield_now};

/// Panics with a `Fatal` that carries a number.
fn die(number: i32) -> ! {
    panic_any(Fatal::new(number))
}

/// The number of the `Fatal` that `f` panics with.
#[track_caller]
fn fatal_of<R>(f: impl FnOnce() -> R) -> i32 {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("nothing was thrown"),
        Err(payload) => *payload.downcast::<Fatal>().expect("a Fatal").0.downcast::<i32>().expect("a number"),
    }
}

/// Dies when it is dropped.
struct DiesOnDrop(i32);

impl Drop for DiesOnDrop {
    fn drop(&mut self) {
        die(self.0);
    }
}

/// Checks that an awaiter was told of a panic, and has a text in the place of its payload.
#[track_caller]
fn is_told(error: JoinError) {
    assert!(error.is_panic() && !error.is_cancelled() && !error.is_closed());
    let text = "a fatal panic, which has left the event loop";
    assert_eq!(error.to_string(), format!("panicked: {text}"));
    assert_eq!(error.into_panic().downcast_ref::<&str>(), Some(&text));
}

/// Checks that the loop is none the worse for a panic that has left it.
#[track_caller]
fn is_usable(el: &EventLoop) {
    assert!(!el.is_closed() && !el.is_running());
    assert!(roundelay::get_running_loop().is_err());
    assert!(el.current_task().is_none());
    let ran = Rc::new(Cell::new(false));
    let flag = ran.clone();
    el.call_soon(move || flag.set(true));
    let task = el.create_task(async {
        yield_now().await;
        "alive"
    });
    assert_eq!(complete(el, task).unwrap(), "alive");
    assert!(ran.get());
    assert!(take_reports().is_empty());
}

/// LR-17: a fatal panic of a callback unwinds out of `run_forever`, with its payload, and does not close the loop. What
/// was queued behind it runs in the next run, in order.
#[test]
fn out_of_run_forever() {
    on_loop(|el| {
        let log = Log::new();
        el.call_soon(log.entry("before"));
        let handle = el.call_soon(|| die(1));
        el.call_soon(log.entry("after"));
        el.call_later(Duration::ZERO, log.entry("timer"));
        assert_eq!(fatal_of(|| el.run_forever()), 1);
        assert_eq!(log.take(), ["before"]);
        assert!(handle.is_done() && !handle.is_cancelled());
        el.stop();
        el.run_forever();
        assert_eq!(log.take(), ["after", "timer"]);
        assert!(complete(el, handle).is_err());
        is_usable(el);
    });
}

/// LR-11, LR-17: a stop that was asked for in the turn of the fatal panic is over with that run.
#[test]
fn a_stop_does_not_outlive_the_run() {
    on_loop(|el| {
        el.stop();
        el.call_soon(|| die(2));
        assert_eq!(fatal_of(|| el.run_forever()), 2);
        let handle = el.clone();
        let log = Log::new();
        let entry = log.entry("third turn");
        drop(el.create_task(async move {
            yield_now().await;
            yield_now().await;
            entry();
            handle.stop();
        }));
        el.run_forever();
        assert_eq!(log.take(), ["third turn"]);
    });
}

/// LR-16: out of `run_once` and out of `run_until_complete`, where it drops the root future; a task that was passed by
/// reference goes on in the next run. Nothing is reported, then or later.
#[test]
fn out_of_the_other_runs() {
    on_loop(|el| {
        el.call_soon(|| die(3));
        assert_eq!(fatal_of(|| el.run_once(None)), 3);

        let drops = DropCounter::new();
        let guard = drops.guard();
        el.call_later(Duration::ZERO, || die(4));
        let root = async move {
            let _guard = guard;
            pending::<()>().await
        };
        assert_eq!(fatal_of(|| el.run_until_complete(root)), 4);
        assert_eq!(drops.count(), 1);

        let mut task = el.create_task(async {
            for _ in 0..5 {
                yield_now().await;
            }
            "resumed"
        });
        el.call_soon(|| die(5));
        assert_eq!(fatal_of(|| el.run_until_complete(&mut task)), 5);
        assert_eq!(complete(el, task).unwrap(), "resumed");
        is_usable(el);
    });
}

/// A fatal panic of a task ends the task and leaves the loop, whether or not somebody holds its handle. It is not
/// reported a second time: neither when it happens nor when the handle is dropped.
#[test]
fn of_a_task() {
    on_loop(|el| {
        let drops = DropCounter::new();
        for detached in [true, false] {
            let guard = drops.guard();
            let task = el.create_task(async move {
                let _guard = guard;
                yield_now().await;
                die(6)
            });
            let held = if detached {
                drop(task);
                None
            } else {
                Some(task)
            };
            assert_eq!(fatal_of(|| el.run_forever()), 6);
            assert!(el.all_tasks().is_empty());
            drop(held);
        }
        assert_eq!(drops.count(), 2);
        is_usable(el);
    });
}

/// TK-25: the handle of a task that died, its done callbacks and its awaiter say the same: it panicked.
#[test]
fn a_dead_task_has_panicked() {
    on_loop(|el| {
        let task: Task<()> = el.create_task(async { die(26) });
        let outcome = Rc::new(Cell::new(None));
        let told = outcome.clone();
        task.add_done_callback(move |outcome| told.set(Some(outcome)));
        assert_eq!(fatal_of(|| el.run_forever()), 26);
        settle(el);
        assert_eq!(outcome.get(), Some(Outcome::Panicked));
        assert!(task.is_done() && !task.is_cancelled());
        assert!(format!("{task:?}").starts_with("<Task panicked"), "{task:?}");
        is_told(complete(el, task).unwrap_err());
        is_usable(el);
    });
}

/// An awaiter that passes the panic on passes on one that is not fatal.
#[test]
fn an_awaiter_that_resumes_the_panic() {
    on_loop(|el| {
        let task: Task<()> = el.create_task(async { die(27) });
        let awaiter: Task<()> = el.create_task(async { resume_unwind(task.await.unwrap_err().into_panic()) });
        assert_eq!(fatal_of(|| el.run_forever()), 27);
        let error = complete(el, awaiter).unwrap_err();
        assert!(error.into_panic().is::<&str>());
        is_usable(el);
    });
}

/// Whoever awaits a task or a callback that died is not left waiting.
#[test]
fn the_awaiter_goes_on() {
    on_loop(|el| {
        let task = el.create_task(async { die(7) });
        let handle = el.call_soon(|| die(8));
        let awaiter = el.create_task(async move { (task.await, handle.await) });
        assert_eq!(fatal_of(|| el.run_forever()), 7);
        assert_eq!(fatal_of(|| el.run_forever()), 8);
        let (task, handle): (Result<(), _>, Result<(), _>) = complete(el, awaiter).unwrap();
        is_told(task.unwrap_err());
        is_told(handle.unwrap_err());
        is_usable(el);
    });
}

/// TK-25: a fatal panic of a destructor that cancelling runs leaves the loop; the task is cancelled all the same.
#[test]
fn of_a_cancelled_future() {
    on_loop(|el| {
        let task = el.create_task(async {
            let _guard = DiesOnDrop(9);
            pending::<()>().await
        });
        settle(el);
        task.cancel();
        assert_eq!(fatal_of(|| el.run_forever()), 9);
        assert!(task.is_cancelled());
        is_usable(el);
    });
}

/// Fatal panics of destructors that the loop runs: of an output that nobody takes, of a value that a callback returns or
/// captures.
#[test]
fn of_other_destructors() {
    on_loop(|el| {
        drop(el.create_task(async { DiesOnDrop(10) }));
        assert_eq!(fatal_of(|| el.run_forever()), 10);
        drop(el.call_soon(|| DiesOnDrop(11)));
        assert_eq!(fatal_of(|| el.run_forever()), 11);
        let captured = DiesOnDrop(12);
        el.call_soon(move || drop(captured));
        assert_eq!(fatal_of(|| el.run_forever()), 12);
        is_usable(el);
    });
}

/// Fatal panics of done callbacks, of futures and of tasks.
#[test]
fn of_done_callbacks() {
    on_loop(|el| {
        let log = Log::new();
        let future = el.create_future();
        future.add_done_callback(|_| die(13));
        let entry = log.entry("second");
        future.add_done_callback(|_| entry());
        future.set_result(()).unwrap();
        assert_eq!(fatal_of(|| el.run_forever()), 13);
        settle(el);
        assert_eq!(log.take(), ["second"]);
        let task = el.create_task(async {});
        task.add_done_callback(|_| die(14));
        assert_eq!(fatal_of(|| el.run_forever()), 14);
        is_usable(el);
    });
}

/// A fatal panic of what another thread posted: a callback, and a task.
#[test]
fn of_posted_jobs() {
    on_loop(|el| {
        let remote = el.remote();
        let posted = std::thread::spawn(move || {
            let callback = remote.call_soon_threadsafe(|| die(15)).unwrap();
            (callback, remote.spawn(|| async { die(16) }).unwrap())
        });
        let (callback, task) = posted.join().unwrap();
        assert_eq!(fatal_of(|| el.run_forever()), 15);
        assert_eq!(fatal_of(|| el.run_forever()), 16);
        is_told(callback.wait().unwrap_err());
        is_told(task.wait().unwrap_err());
        is_usable(el);
    });
}

/// A fatal panic of a descriptor's callback; the callback stays registered.
#[test]
fn of_a_reader() {
    on_loop(|el| {
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        io::Write::write_all(&mut &a, b"x").unwrap();
        el.add_reader(&b, || die(17)).unwrap();
        for _ in 0..2 {
            assert_eq!(fatal_of(|| el.run_forever()), 17);
        }
        assert!(el.remove_reader(&b));
        is_usable(el);
    });
}

/// EH-06: a fatal panic of the exception handler is not swallowed, though it is called in the middle of dealing with
/// another one.
#[test]
fn of_the_exception_handler() {
    on_loop(|el| {
        let log = Log::new();
        let told = log.clone();
        el.set_exception_handler(Some(Rc::new(move |_, context| {
            told.push(context.message.split(' ').take(3).collect::<Vec<_>>().join(" "));
            die(18)
        })));
        el.call_soon(|| panic!("ordinary"));
        assert_eq!(fatal_of(|| el.run_forever()), 18);
        drop(el.create_task(async { panic!("ordinary") }));
        assert_eq!(fatal_of(|| el.run_forever()), 18);
        assert_eq!(log.take(), ["Exception in callback", "Exception in a"]);
        common::watch_reports(el);
        is_usable(el);
    });
}

/// Two fatal panics in one step: the first leaves the loop, the second is told to the exception handler.
#[test]
fn two_at_once() {
    on_loop(|el| {
        drop(el.create_task(async {
            let _guard = DiesOnDrop(20);
            yield_now().await;
            // Dropped while the task unwinds it would abort; dropped by the loop it does not.
            roundelay::get_running_loop().unwrap().current_task().unwrap().cancel();
            pending::<()>().await
        }));
        let (first, second) = (el.call_soon(|| DiesOnDrop(21)), el.call_soon(|| DiesOnDrop(22)));
        settle_until_fatal(el, 20);
        el.call_soon(move || {
            drop(first);
            drop(second);
        });
        assert_eq!(fatal_of(|| el.run_forever()), 21);
        let reports = take_reports();
        assert_eq!(reports.len(), 1, "{reports:?}");
        assert!(reports[0].contains("destructor"), "{}", reports[0]);
        is_usable(el);
    });
}

#[track_caller]
fn settle_until_fatal(el: &EventLoop, number: i32) {
    assert_eq!(fatal_of(|| el.run_forever()), number);
}

/// A fatal panic outside of a run, in a destructor that must not unwind, leaves the next run at once, though nothing is
/// ready then.
#[test]
fn outside_of_a_run() {
    on_loop(|el| {
        let task = el.create_task(async { DiesOnDrop(23) });
        settle(el);
        drop(task);
        assert_eq!(fatal_of(|| el.run_forever()), 23);
        is_usable(el);
    });
}

/// A fatal panic while the loop is being closed cannot leave a run any more: it is reported, and the loop is closed.
#[test]
fn while_closing() {
    on_loop(|el| {
        let drops = DropCounter::new();
        let (guard, after) = (DiesOnDrop(24), drops.guard());
        drop(el.create_task(async move {
            let _guard = guard;
            pending::<()>().await
        }));
        drop(el.create_task(async move {
            let _after = after;
            pending::<()>().await
        }));
        el.close();
        assert!(el.is_closed());
        assert_eq!(drops.count(), 1);
        let reports = take_reports();
        assert_eq!(reports, ["Fatal panic while closing: a panic without a text"]);
    });
}

/// After the loop's end nobody can unwind any more either: it is reported.
#[test]
fn after_the_end() {
    on_loop(|el| {
        let task = el.create_task(async { DiesOnDrop(25) });
        settle(el);
        el.close();
        drop(task);
        let reports = take_reports();
        assert_eq!(reports.len(), 1, "{reports:?}");
        assert!(reports[0].contains("destructor"), "{}", reports[0]);
    });
}

/// A panic of the root future unwinds out of `run_until_complete` once what was scheduled has run; what that schedules is
/// kept, and the loop is usable.
#[test]
fn of_the_root() {
    on_loop(|el| {
        let (log, drops) = (Log::new(), DropCounter::new());
        let (guard, later) = (drops.guard(), log.entry("later"));
        let own = log.clone();
        let root = async {
            let _guard = guard;
            yield_now().await;
            el.call_soon(move || {
                own.push("scheduled");
                roundelay::get_running_loop().unwrap().call_soon(later);
            });
            panic!("root panics")
        };
        let payload = catch_unwind(AssertUnwindSafe(|| el.run_until_complete(root))).unwrap_err();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"root panics"));
        assert_eq!(drops.count(), 1);
        assert!(el.all_tasks().is_empty(), "the root is gone");
        assert_eq!(log.take(), ["scheduled"]);
        settle(el);
        assert_eq!(log.take(), ["later"]);
        is_usable(el);
    });
}

/// So does a panic of its destructor. Where it panics and its destructor does so, too, the first unwinds and the second is
/// reported.
#[test]
fn of_the_roots_destructor() {
    struct Root(bool);
    impl Future for Root {
        type Output = ();
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            assert!(self.0, "polled");
            Poll::Ready(())
        }
    }
    impl Drop for Root {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    on_loop(|el| {
        let payload = catch_unwind(AssertUnwindSafe(|| el.run_until_complete(Root(true)))).unwrap_err();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"dropped"));
        is_usable(el);
        let payload = catch_unwind(AssertUnwindSafe(|| el.run_until_complete(Root(false)))).unwrap_err();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"polled"));
        assert_eq!(take_reports(), ["Exception in the destructor of the root future: dropped"]);
        is_usable(el);
    });
}

/// A fatal panic of the root unwinds at once, in the middle of a batch: the rest of it runs in the next run.
#[test]
fn a_fatal_one_of_the_root() {
    on_loop(|el| {
        let log = Log::new();
        let (gate, soon) = (el.create_future::<()>(), log.entry("behind"));
        let waits = gate.clone();
        let root = async move {
            waits.await.unwrap();
            die(26)
        };
        el.call_soon(move || {
            gate.set_result(()).unwrap();
            roundelay::get_running_loop().unwrap().call_soon(soon);
        });
        assert_eq!(fatal_of(|| el.run_until_complete(root)), 26);
        assert_eq!(log.len(), 0);
        settle(el);
        assert_eq!(log.take(), ["behind"]);
        is_usable(el);
    });
}

/// What a protocol does when it is called.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Dies {
    Factory,
    Made,
    Data,
    Eof,
    Lost,
}

struct Mortal {
    dies: Dies,
    log: Log,
}

impl Mortal {
    fn note(&self, at: Dies) {
        self.log.push(format!("{at:?}"));
        if self.dies == at {
            die(30);
        }
    }
}

impl Protocol for Mortal {
    fn connection_made(&mut self, _: &Transport) {
        self.note(Dies::Made);
    }
    fn data_received(&mut self, _: &Transport, _: &[u8]) {
        self.note(Dies::Data);
    }
    fn eof_received(&mut self, _: &Transport) -> KeepOpen {
        self.note(Dies::Eof);
        KeepOpen::No
    }
    fn connection_lost(&mut self, _: &Transport, _: Option<io::Error>) {
        self.note(Dies::Lost);
    }
}

on_every_loop! {
    /// A fatal panic of a protocol's callback, and of a server's factory, unwinds once and is not reported; the
    /// connection comes to the end it would have come to with an ordinary panic, and the server goes on.
    fn of_a_protocol(el) {
        for dies in [Dies::Factory, Dies::Made, Dies::Data, Dies::Eof, Dies::Lost] {
            let log = Log::new();
            let mortal = log.clone();
            let factory = move || {
                if dies == Dies::Factory && mortal.len() == 0 {
                    mortal.push("Factory");
                    die(30);
                }
                Mortal { dies, log: mortal.clone() }
            };
            let server = complete(el, el.create_server(factory, ("127.0.0.1", 0))).unwrap();
            let address = server.local_addrs()[0];
            let client = std::net::TcpStream::connect(address).unwrap();
            io::Write::write_all(&mut &client, b"hello").unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(fatal_of(|| el.run_forever()), 30, "{dies:?}");
            run_until(el, || server.connections() == 0);
            let expected: &[&str] = match dies {
                Dies::Factory => &["Factory"],
                Dies::Data => &["Made", "Data", "Lost"],
                _ => &["Made", "Data", "Eof", "Lost"],
            };
            assert_eq!(log.take(), expected, "{dies:?}");
            assert!(server.is_serving());
            server.close();
            is_usable(el);
        }
    }

    /// A client's protocol dies in `connection_made`: the connection stands all the same.
    fn of_a_client(el) {
        let server = complete(el, el.create_server(|| Quiet, ("127.0.0.1", 0))).unwrap();
        let address = server.local_addrs()[0];
        let connected: Rc<RefCell<Option<Transport>>> = Rc::default();
        let (slot, handle, log) = (connected.clone(), el.clone(), Log::new());
        let mortal = Mortal { dies: Dies::Made, log: log.clone() };
        drop(el.create_task(async move {
            *slot.borrow_mut() = Some(handle.create_connection(|| mortal, address).await.unwrap().0);
        }));
        assert_eq!(fatal_of(|| el.run_forever()), 30);
        run_until(el, || connected.borrow().is_some());
        let transport = connected.take().unwrap();
        assert!(!transport.is_closing());
        transport.close();
        run_until(el, || log.len() == 2);
        run_until(el, || server.connections() == 0);
        server.close();
        is_usable(el);
    }
}

struct Quiet;

impl Protocol for Quiet {}

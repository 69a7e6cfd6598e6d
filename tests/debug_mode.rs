//! Debug mode's reports of what kept the loop from running everything else (behaviours DB-02 to DB-06, EH-08), each on its
//! text. The clock is turned by hand: what is slow is what turns it.

#[path = "common/collector.rs"]
mod collector;
mod common;
#[path = "common/signals.rs"]
mod signals;

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use collector::{BrokenSubscriber, in_a_child};
use common::{Kind, Log, alone, complete, finish, run_alone, run_until, settle, take_reports};
use roundelay::selector::{Epoll, Event, Selector};
use roundelay::{
    EventLoop, ExceptionContext, Fatal, KeepOpen, LoopFuture, ManualClock, Protocol, SignalKind, Stdio,
    SubprocessProtocol, Transport, sleep, yield_now,
};
use signals::raise;
use tracing::Level;

const LIMIT: Duration = Duration::from_millis(100);
const SLOW: Duration = Duration::from_millis(150);
const QUICK: Duration = Duration::from_millis(60);

/// Calls `f`, which is alone, and gives what it wrote to `tracing`.
fn collect_level<R>(level: Level, f: impl FnOnce() -> R) -> (R, Vec<(Level, String)>) {
    let _alone = alone();
    collector::collect_level(level, f)
}

fn collect<R>(f: impl FnOnce() -> R) -> (R, Vec<(Level, String)>) {
    collect_level(Level::WARN, f)
}

/// Runs a test on a loop in debug mode; gives the warnings it has written.
fn in_debug_mode(body: impl FnOnce(&EventLoop, &ManualClock)) -> Vec<String> {
    on_kind(Kind::Epoll, body)
}

fn on_kind(kind: Kind, body: impl FnOnce(&EventLoop, &ManualClock)) -> Vec<String> {
    let clock = ManualClock::new();
    let ((), written) = collect(|| {
        let builder = || kind.builder().debug(true).clock(clock.clone());
        run_alone(builder, |el| {
            el.set_slow_callback_duration(LIMIT);
            body(el, &clock);
        });
    });
    assert!(written.iter().all(|(level, _)| *level == Level::WARN), "{written:?}");
    written.into_iter().map(|(_, text)| text).collect()
}

/// The text of a place in this file.
fn place(line: u32) -> String {
    format!("{}:{line}:", file!())
}

/// Checks the only warning: how it begins and ends, and which line of this file it names.
#[track_caller]
fn check(warnings: &[String], begin: &str, line: u32, end: &str) {
    let [warning] = warnings else { panic!("one warning is expected: {warnings:#?}") };
    let has_all = warning.starts_with(begin) && warning.contains(&place(line)) && warning.ends_with(end);
    assert!(has_all, "{warning}\nis not {begin}..{}..{end}", place(line));
}

/// DB-03: a callback that takes too long is named by its closure, and by the line that has scheduled it.
#[test]
fn a_slow_callback() {
    let mut line = 0;
    let warnings = in_debug_mode(|el, clock| {
        assert_eq!(EventLoop::new().unwrap().slow_callback_duration(), LIMIT);
        let hand = clock.clone();
        line = line!() + 1;
        el.call_soon(move || hand.advance(SLOW));
        el.call_soon(|| {});
        settle(el);
    });
    check(&warnings, "Executing <Handle debug_mode::a_slow_callback::", line, "> took 0.150 seconds");
    assert!(warnings[0].contains("{{closure}} at tests/debug_mode.rs:"), "{warnings:?}");
}

/// DB-03: a step of a task is named by the task's name and the line that has spawned it; each step counts for itself.
#[test]
fn a_slow_step_of_a_task() {
    let mut line = 0;
    let warnings = in_debug_mode(|el, clock| {
        let hand = clock.clone();
        let work = async move {
            hand.advance(QUICK);
            yield_now().await;
            hand.advance(SLOW);
            yield_now().await;
            hand.advance(QUICK);
        };
        line = line!() + 1;
        let task = el.task_builder().name("worker").spawn(work);
        finish(el, task).unwrap();
    });
    check(&warnings, "Executing <Task name=\"worker\" spawned at ", line, "> took 0.150 seconds");
}

/// DB-03: a task without a name of its own, and one that ends in its slow step.
#[test]
fn a_slow_task_without_a_name() {
    let mut start = String::new();
    let warnings = in_debug_mode(|el, clock| {
        let hand = clock.clone();
        let task = el.create_task(async move { hand.advance(SLOW) });
        start = format!("Executing <Task name=\"Task-{}\" spawned at tests/debug_mode.rs:", task.id());
        drop(task);
        settle(el);
    });
    check(&warnings, &start, line!() - 5, "> took 0.150 seconds");
}

/// DB-03: the future of `run_until_complete` is named by the line that runs it.
#[test]
fn a_slow_root() {
    let mut line = 0;
    let warnings = in_debug_mode(|el, clock| {
        line = line!() + 1;
        el.run_until_complete(async { clock.advance(SLOW) }).unwrap();
    });
    check(&warnings, "Executing <Root name=\"Task-", line, "> took 0.150 seconds");
}

/// DB-03: a timer's callback is named as a timer. It is not late itself.
#[test]
fn a_slow_timer() {
    let mut line = 0;
    let warnings = in_debug_mode(|el, clock| {
        let hand = clock.clone();
        line = line!() + 1;
        el.call_later(Duration::from_secs(1), move || hand.advance(SLOW));
        clock.advance(Duration::from_secs(1));
        settle(el);
    });
    check(&warnings, "Executing <TimerHandle debug_mode::a_slow_timer::", line, "> took 0.150 seconds");
}

/// DB-03: done callbacks of tasks and futures have the name of the closure that was given, and its place.
#[test]
fn slow_done_callbacks() {
    for of_task in [true, false] {
        let mut line = 0;
        let warnings = in_debug_mode(|el, clock| {
            let hand = clock.clone();
            let future: LoopFuture<()> = el.create_future();
            let task = el.create_task(async {});
            line = line!() + 2;
            if of_task {
                task.add_done_callback(move |_| hand.advance(SLOW));
            } else {
                future.add_done_callback(move |_| hand.advance(SLOW));
            }
            future.set_result(()).unwrap();
            settle(el);
        });
        let line = if of_task { line } else { line + 2 };
        check(&warnings, "Executing <Handle debug_mode::slow_done_callbacks::", line, "> took 0.150 seconds");
    }
}

/// DB-03: a callback of `add_reader` is named by the line that has added it.
#[test]
fn a_slow_reader() {
    let mut line = 0;
    let warnings = in_debug_mode(|el, clock| {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(b"x").unwrap();
        let (hand, called) = (clock.clone(), Rc::new(Cell::new(false)));
        let theirs = Rc::new(theirs);
        let (handle, fd, flag) = (el.clone(), theirs.clone(), called.clone());
        let reader = move || {
            hand.advance(SLOW);
            flag.set(handle.remove_reader(&fd));
        };
        line = line!() + 1;
        el.add_reader(&theirs, reader).unwrap();
        run_until(el, || called.get());
    });
    check(&warnings, "Executing <Handle debug_mode::a_slow_reader::", line, "> took 0.150 seconds");
}

/// DB-03: so is the callback of a signal.
#[test]
fn a_slow_signal_handler() {
    let mut line = 0;
    let warnings = in_debug_mode(|el, clock| {
        let (hand, called) = (clock.clone(), Rc::new(Cell::new(false)));
        let flag = called.clone();
        let handler = move || {
            hand.advance(SLOW);
            flag.set(true);
        };
        line = line!() + 1;
        el.add_signal_handler(SignalKind::user_defined1(), handler).unwrap();
        raise(SignalKind::user_defined1());
        run_until(el, || called.get());
        assert!(el.remove_signal_handler(SignalKind::user_defined1()));
    });
    check(&warnings, "Executing <Handle debug_mode::a_slow_signal_handler::", line, "> took 0.150 seconds");
}

/// DB-03: what another thread has posted is named by the method, the closure and the place; small closures, which are kept
/// in the queue, and large ones, which are not.
#[test]
fn slow_posts() {
    let mut lines = [0; 4];
    let warnings = in_debug_mode(|el, clock| {
        let (remote, hand) = (el.remote(), clock.clone());
        lines = std::thread::spawn(move || {
            let (one, two, three, four) = (hand.clone(), hand.clone(), hand.clone(), hand);
            let large = [0_u8; 100];
            let line = line!() + 1;
            remote.post(move || one.advance(SLOW)).unwrap();
            remote.post(move || two.advance(SLOW * u32::from(large[0] + 1))).unwrap();
            drop(remote.call_soon_threadsafe(move || three.advance(SLOW)).unwrap());
            let make = move || {
                four.advance(SLOW);
                async {}
            };
            drop(remote.spawn(make).unwrap());
            [line, line + 1, line + 2, line + 7]
        })
        .join()
        .unwrap();
        settle(el);
    });
    assert_eq!(warnings.len(), 4, "{warnings:#?}");
    let methods = ["post", "post", "call_soon_threadsafe", "spawn"];
    for ((warning, line), method) in warnings.chunks(1).zip(lines).zip(methods) {
        let begin = format!("Executing <Remote::{method}() debug_mode::slow_posts::");
        check(warning, &begin, line, "> took 0.150 seconds");
    }
}

/// A protocol whose callbacks are slow.
struct Sluggish {
    hand: ManualClock,
    /// In which callback.
    when: &'static str,
    log: Log,
}

impl Sluggish {
    fn tell(&self, what: &'static str) {
        if what == self.when {
            self.hand.advance(SLOW);
        }
        self.log.push(what);
    }
}

impl Protocol for Sluggish {
    fn connection_made(&mut self, _: &Transport) {
        self.tell("made");
    }
    fn data_received(&mut self, _: &Transport, _: &[u8]) {
        self.tell("data");
    }
    fn eof_received(&mut self, _: &Transport) -> KeepOpen {
        self.tell("eof");
        KeepOpen::No
    }
    fn connection_lost(&mut self, _: &Transport, _: Option<io::Error>) {
        self.tell("lost");
    }
}

/// DB-03: a protocol's callback is named by its transport, with the peer, and by the type of the protocol; the factory and
/// `connection_made` of a server's connection by the listening socket.
#[test]
fn slow_protocols() {
    for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
        for when in ["made", "data", "eof", "lost"] {
            let mut addresses = None;
            let warnings = on_kind(kind, |el, clock| {
                let log = Log::new();
                let (hand, heard) = (clock.clone(), log.clone());
                let factory = move || Sluggish { hand: hand.clone(), when, log: heard.clone() };
                let server = complete(el, el.create_server(factory, ("127.0.0.1", 0))).unwrap();
                let address = server.local_addrs()[0];
                let mut client = TcpStream::connect(address).unwrap();
                client.write_all(b"x").unwrap();
                addresses = Some((address, client.local_addr().unwrap()));
                run_until(el, || log.len() == 2);
                drop(client);
                run_until(el, || log.len() == 4);
                assert_eq!(log.take(), ["made", "data", "eof", "lost"]);
                server.close();
            });
            let [warning] = &warnings[..] else { panic!("{when}: {warnings:#?}") };
            let (address, peer) = addresses.unwrap();
            assert!(warning.ends_with(" took 0.150 seconds"), "{warning}");
            if when == "made" {
                assert!(warning.starts_with(&format!("Executing <listening socket {address}> ")), "{warning}");
            } else {
                assert!(warning.starts_with("Executing <Transport "), "{warning}");
                let with = format!(" peer={peer}");
                assert!(warning.contains(&with), "{warning}");
                assert!(warning.contains("> with <protocol debug_mode::Sluggish> took"), "{warning}");
            }
        }
    }
}

/// DB-04: as long as the limit is too long; with zero everything that runs is reported, each once, and what was cancelled
/// is not.
#[test]
fn the_limit() {
    let warnings = in_debug_mode(|el, clock| {
        el.set_slow_callback_duration(QUICK);
        assert_eq!(el.slow_callback_duration(), QUICK);
        let (one, two) = (clock.clone(), clock.clone());
        el.call_soon(move || one.advance(QUICK - Duration::from_nanos(1)));
        settle(el);
        el.call_soon(move || two.advance(QUICK));
        settle(el);
    });
    check(&warnings, "Executing <Handle debug_mode::the_limit::", line!() - 3, "> took 0.060 seconds");

    let warnings = in_debug_mode(|el, clock| {
        el.set_slow_callback_duration(Duration::ZERO);
        el.call_soon(|| {});
        el.call_soon(|| {}).cancel();
        el.call_later(SLOW, || {});
        clock.advance(SLOW * 2);
        let task = el.create_task(async {});
        settle(el);
        assert!(task.is_done());
    });
    let begins = ["Executing <Handle ", "Executing <Task ", "Executing <TimerHandle "];
    assert_eq!(warnings.len(), 3, "{warnings:#?}");
    for (warning, begin) in warnings.iter().zip(begins) {
        assert!(warning.starts_with(begin) && warning.ends_with("> took 0.000 seconds"), "{warning}");
    }

    let warnings = in_debug_mode(|el, clock| {
        el.set_slow_callback_duration(Duration::MAX);
        let hand = clock.clone();
        el.call_soon(move || hand.advance(SLOW));
        settle(el);
    });
    assert!(warnings.is_empty(), "{warnings:#?}");
}

/// DB-02, DB-04: with debug mode off nothing is reported; turned on or off while something runs it counts from the next
/// item on. The builder sets the limit, too.
#[test]
fn on_and_off() {
    let clock = ManualClock::new();
    let mut line = 0;
    let ((), written) = collect(|| {
        let builder = || EventLoop::builder().clock(clock.clone()).debug(false).slow_callback_duration(QUICK);
        run_alone(builder, |el| {
            assert_eq!(el.slow_callback_duration(), QUICK);
            let (handle, hand) = (el.clone(), clock.clone());
            let work = move |on: bool| {
                let (handle, hand) = (handle.clone(), hand.clone());
                move || {
                    handle.set_debug(on);
                    hand.advance(SLOW);
                }
            };
            el.call_soon(work(true));
            line = line!() + 1;
            el.call_soon(work(true));
            el.call_soon(work(false));
            el.call_soon(work(false));
            settle(el);
            assert!(!el.debug());
            // Twice is once.
            el.set_debug(true);
            el.set_debug(true);
            el.set_debug(false);
            el.call_soon(work(false));
            settle(el);
        });
    });
    let warnings: Vec<_> = written.into_iter().map(|(_, text)| text).collect();
    check(&warnings, "Executing <Handle debug_mode::on_and_off::", line, "> took 0.150 seconds");
}

/// A turn that takes too long though nothing in it does is reported, with the number of items and the longest; one with
/// something slow in it is not, once more, nor one in which too little happens.
#[test]
fn a_slow_turn() {
    let mut line = 0;
    let warnings = in_debug_mode(|el, clock| {
        let (one, two, three) = (clock.clone(), clock.clone(), clock.clone());
        el.call_soon(move || one.advance(QUICK));
        line = line!() + 1;
        el.call_soon(move || two.advance(QUICK + Duration::from_millis(1)));
        el.call_soon(move || three.advance(QUICK));
        settle(el);
    });
    let begin =
        "Turn 1 took 0.181 seconds, with 3 items, none of them slow; the longest, <Handle debug_mode::a_slow_turn::";
    check(&warnings, begin, line, "> took 0.061 seconds");

    let warnings = in_debug_mode(|el, clock| {
        for time in [QUICK, SLOW, QUICK] {
            let hand = clock.clone();
            line = line!() + 1;
            el.call_soon(move || hand.advance(time));
        }
        settle(el);
        for _ in 0..10 {
            let hand = clock.clone();
            el.call_soon(move || hand.advance(QUICK));
            settle(el);
        }
    });
    check(&warnings, "Executing <Handle ", line, "> took 0.150 seconds");
}

/// A timer that a slow callback has held up is explained by that one. What comes on top of it is not.
#[test]
fn late_by_something_slow() {
    let mut line = 0;
    let warnings = in_debug_mode(|el, clock| {
        let hand = clock.clone();
        el.call_later(Duration::from_millis(10), || {});
        line = line!() + 1;
        el.call_soon(move || hand.advance(Duration::from_secs(5)));
        settle(el);
    });
    check(&warnings, "Executing <Handle ", line, "> took 5.000 seconds");

    let warnings = in_debug_mode(|el, clock| {
        let hand = clock.clone();
        line = line!() + 1;
        el.call_later(Duration::from_millis(10), || {});
        el.call_soon(move || hand.advance(Duration::from_secs(5)));
        el.run_once(Some(Duration::ZERO)).unwrap();
        clock.advance(Duration::from_secs(1));
        settle(el);
    });
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
    let begin = "<TimerHandle debug_mode::late_by_something_slow::";
    check(&warnings[1..], begin, line, "> is 5.990 seconds late: the loop did not run for 1.000 seconds");
}

/// A timer that nothing of the loop's has held up: nobody let the loop run. It is said once for all that are late by it.
#[test]
fn late_because_the_loop_did_not_run() {
    let mut line = 0;
    let warnings = in_debug_mode(|el, clock| {
        el.run_once(Some(Duration::ZERO)).unwrap();
        line = line!() + 1;
        el.call_later(Duration::from_secs(1), || {});
        el.call_later(Duration::from_millis(1100), || {});
        clock.advance(Duration::from_secs(3));
        settle(el);
    });
    let begin = "<TimerHandle debug_mode::late_because_the_loop_did_not_run::";
    check(&warnings, begin, line, "> is 2.000 seconds late: the loop did not run for 2.000 seconds");
}

/// A selector whose waits take five seconds.
struct Asleep(Epoll, ManualClock);

impl Selector for Asleep {
    fn name(&self) -> &'static str {
        "asleep"
    }
    fn supports_edge(&self) -> bool {
        true
    }
    fn wait(&mut self, _: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        self.1.advance(Duration::from_secs(5));
        self.0.wait(Some(Duration::ZERO), events)
    }
    left_to_the_inner_one! { add modify delete notifier backend_fd }
}

/// A timer that is late because the wait for events was too long: the machine has slept, say. That of a task is named by the
/// task.
#[test]
fn late_because_of_the_wait() {
    let mut line = 0;
    let clock = ManualClock::new();
    let ((), written) = collect(|| {
        let builder = || {
            let selector = Asleep(Epoll::new().unwrap(), clock.clone());
            EventLoop::builder().selector(selector).clock(clock.clone()).debug(true)
        };
        run_alone(builder, |el| {
            line = line!() + 1;
            let task = el.task_builder().name("sleeper").spawn(sleep(Duration::from_secs(2)));
            finish(el, task).unwrap();
        });
    });
    let warnings: Vec<_> = written.into_iter().map(|(_, text)| text).collect();
    // The first wait does not sleep, as far as the loop knows: the task has not begun.
    let end = "> is 3.000 seconds late: the wait for events was 3.000 seconds longer than it was to be";
    check(&warnings, "<Task name=\"sleeper\" spawned at ", line, end);
}

/// A timer that is late for several reasons, none of which is too much by itself: the greatest is named.
#[test]
fn late_by_a_turn_and_more() {
    let mut lines = [0; 2];
    let warnings = in_debug_mode(|el, clock| {
        let hand = clock.clone();
        lines[0] = line!() + 1;
        el.call_later(Duration::from_millis(1), || {});
        el.call_soon(move || hand.advance(Duration::from_millis(80)));
        el.run_once(Some(Duration::ZERO)).unwrap();
        clock.advance(Duration::from_millis(50));
        settle(el);
    });
    let end = "> took 0.080 seconds";
    check(&warnings, "<TimerHandle debug_mode::late_by_a_turn_and_more::", lines[0], end);
    check(&warnings, "<TimerHandle debug_mode::late_by_a_turn_and_more::", lines[0] + 1, end);
    let cause = "> is 0.129 seconds late: the turn before went on for 0.079 seconds, in which <Handle debug_mode::";
    assert!(warnings[0].contains(cause), "{warnings:?}");
}

/// EH-08: a report that does not know where its subject was made names what was running; in debug mode, and by the default
/// handler. One that knows does not.
#[test]
fn a_report_names_what_was_running() {
    for debug in [true, false] {
        let (line, written) = collect(|| {
            let mut line = 0;
            run_alone(
                || EventLoop::builder().debug(debug).slow_callback_duration(Duration::MAX),
                |el| {
                    el.set_exception_handler(None);
                    let handle = el.clone();
                    line = line!() + 1;
                    el.call_soon(move || handle.call_exception_handler(&ExceptionContext::new("something is wrong")));
                    let handle = el.clone();
                    let here = std::panic::Location::caller();
                    el.call_soon(move || {
                        handle.call_exception_handler(&ExceptionContext::new("placed").with_created_at(here));
                    });
                    settle(el);
                    el.call_exception_handler(&ExceptionContext::new("outside"));
                    common::watch_reports(el);
                },
            );
            line
        });
        let texts: Vec<_> = written.into_iter().map(|(_, text)| text).collect();
        let [first, placed, outside] = &texts[..] else { panic!("{texts:#?}") };
        assert_eq!(outside, "outside");
        assert!(!placed.contains("running"), "{placed}");
        if debug {
            let begin = "something is wrong\n  while running <Handle debug_mode::a_report_names_what_was_running::";
            check(std::slice::from_ref(first), begin, line, ">");
        } else {
            assert_eq!(first, "something is wrong");
        }
    }
}

/// Without a subscriber the warnings go to stderr.
#[test]
fn warnings_on_stderr() {
    let stderr = in_a_child("warnings_on_stderr", || {
        let clock = ManualClock::new();
        let el = EventLoop::builder().debug(true).clock(clock.clone()).build().unwrap();
        let hand = clock.clone();
        el.call_soon(move || hand.advance(SLOW));
        settle(&el);
        el.close();
    });
    let Some(stderr) = stderr else { return };
    let is_there = |line: &str| {
        let begin = "roundelay: Executing <Handle debug_mode::warnings_on_stderr::";
        line.starts_with(begin) && line.ends_with("> took 0.150 seconds")
    };
    assert_eq!(stderr.lines().filter(|line| is_there(line)).count(), 1, "{stderr}");
}

/// A subscriber that panics is reported, and the loop goes on.
#[test]
fn a_subscriber_that_panics() {
    let _alone = alone();
    let clock = ManualClock::new();
    run_alone(
        || EventLoop::builder().debug(true).clock(clock.clone()),
        |el| {
            let (hand, log) = (clock.clone(), Log::new());
            tracing::subscriber::with_default(BrokenSubscriber, || {
                el.call_soon(move || hand.advance(SLOW));
                el.call_soon(log.entry("next"));
                settle(el);
            });
            assert_eq!(log.take(), ["next"]);
            let reports = take_reports();
            assert_eq!(reports.len(), 1, "{reports:?}");
            assert!(reports[0].starts_with("Exception while the loop was looked at: the subscriber is broken"));
        },
    );
}

/// A warning is written with nothing of the loop's in use: a subscriber may call the loop, and turn debug mode off.
#[test]
fn a_subscriber_that_uses_the_loop() {
    let _alone = alone();
    struct Uses;
    thread_local! {
        static LOOP: RefCell<Option<EventLoop>> = const { RefCell::new(None) };
        static SEEN: Cell<usize> = const { Cell::new(0) };
    }
    impl tracing::Subscriber for Uses {
        fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
            *metadata.level() <= Level::WARN
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn event(&self, _: &tracing::Event<'_>) {
            let el = LOOP.with_borrow(|el| el.clone()).unwrap();
            SEEN.set(SEEN.get() + 1);
            el.call_soon(|| {});
            el.set_debug(false);
            let _ = (el.all_tasks(), el.stats(), format!("{el:?}"));
        }
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }

    let clock = ManualClock::new();
    run_alone(
        || EventLoop::builder().debug(true).clock(clock.clone()),
        |el| {
            LOOP.set(Some(el.clone()));
            tracing::subscriber::with_default(Uses, || {
                for _ in 0..3 {
                    let hand = clock.clone();
                    el.call_soon(move || hand.advance(SLOW));
                }
                settle(el);
            });
            assert_eq!(SEEN.get(), 1);
            assert!(!el.debug());
            LOOP.set(None);
        },
    );
}

/// DB-05, DB-06: the text of a callback has its name and the application's line, also once it was cancelled and what it
/// captured is gone.
#[test]
fn the_text_of_a_cancelled_callback() {
    let _alone = alone();
    run_alone(EventLoop::builder, |el| {
        let line = line!() + 1;
        let (soon, later) = (el.call_soon(|| {}), el.call_later(SLOW, || {}));
        for (text, kind) in [(format!("{soon:?}"), "Handle"), (format!("{later:?}"), "TimerHandle")] {
            let begin = format!("<{kind} debug_mode::the_text_of_a_cancelled_callback::");
            check(&[text], &begin, line, ">");
        }
        soon.cancel();
        later.cancel();
        for (text, kind) in [(format!("{soon:?}"), "Handle"), (format!("{later:?}"), "TimerHandle")] {
            let begin = format!("<{kind} cancelled debug_mode::the_text_of_a_cancelled_callback::");
            check(&[text], &begin, line, ">");
        }
    });
}

/// What is slow and ends the run by a fatal panic is not reported, and what runs after it is not taken for it.
#[test]
fn a_fatal_panic() {
    let clock = ManualClock::new();
    let ((), written) = collect(|| {
        run_alone(
            || EventLoop::builder().debug(true).clock(clock.clone()),
            |el| {
                let hand = clock.clone();
                let root = async move {
                    hand.advance(SLOW);
                    std::panic::panic_any(Fatal::new("enough"));
                };
                let run = || el.run_until_complete(root);
                assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
                el.set_exception_handler(None);
                el.call_exception_handler(&ExceptionContext::new("afterwards"));
                common::watch_reports(el);
            },
        );
    });
    let texts: Vec<_> = written.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["afterwards"]);
}

/// Tasks that begin inside of something else, at once, are a part of that: the longest is named, too.
#[test]
fn a_slow_eager_task() {
    let mut line = 0;
    let warnings = in_debug_mode(|el, clock| {
        let (hand, handle) = (clock.clone(), el.clone());
        line = line!() + 1;
        el.call_soon(move || {
            for (name, time) in [("first", QUICK), ("second", SLOW), ("third", Duration::ZERO)] {
                let hand = hand.clone();
                drop(handle.task_builder().name(name).eager(true).spawn(async move { hand.advance(time) }));
            }
        });
        settle(el);
    });
    let end = ", which began inside of it, 0.150 seconds";
    check(&warnings, "Executing <Handle debug_mode::a_slow_eager_task::", line, end);
    let nested = "> took 0.210 seconds, of which <Task name=\"second\" spawned at tests/debug_mode.rs:";
    assert!(warnings[0].contains(nested), "{warnings:?}");
}

/// DB-08: how long a lookup took is logged; as something to know if it was slow.
#[test]
fn lookups_are_logged() {
    for (limit, expected) in [(Duration::ZERO, Level::INFO), (Duration::MAX, Level::DEBUG)] {
        let ((), written) = collect_level(Level::DEBUG, || {
            run_alone(
                || EventLoop::builder().debug(true).slow_callback_duration(limit),
                |el| {
                    complete(el, el.getaddrinfo(Some("localhost"), 80)).unwrap();
                    assert!(complete(el, el.shutdown_default_executor(None)));
                },
            );
        });
        let begin = "Getting address info of \"localhost\" took ";
        let lines: Vec<_> = written.iter().filter(|(_, text)| text.starts_with(begin)).collect();
        let [(level, text)] = lines[..] else { panic!("{written:#?}") };
        assert_eq!(*level, expected);
        assert!(text.contains(" ms: ") && text.contains(":80"), "{text}");
    }
    let ((), written) = collect_level(Level::DEBUG, || {
        run_alone(EventLoop::builder, |el| {
            el.set_debug(false);
            complete(el, el.getaddrinfo(Some("localhost"), 80)).unwrap();
            assert!(complete(el, el.shutdown_default_executor(None)));
        });
    });
    assert!(!written.iter().any(|(_, text)| text.contains("address info")), "{written:#?}");
}

/// DB-10: which selector is used, waits, and the end of the loop are logged. A wait that is long is something to know; a
/// mere look is not logged.
#[test]
fn waits_are_logged() {
    let clock = ManualClock::new();
    let ((), written) = collect_level(Level::DEBUG, || {
        let builder = || {
            let selector = Asleep(Epoll::new().unwrap(), clock.clone());
            EventLoop::builder().selector(selector).clock(clock.clone()).debug(true)
        };
        run_alone(builder, |el| {
            el.set_slow_callback_duration(Duration::MAX);
            el.run_once(Some(Duration::ZERO)).unwrap();
            el.run_once(Some(Duration::from_millis(2500))).unwrap();
            el.run_once(None).unwrap();
            el.set_debug(false);
            el.run_once(None).unwrap();
        });
    });
    let has = |level: Level, begin: &str| written.iter().any(|(of, text)| *of == level && text.starts_with(begin));
    assert!(has(Level::DEBUG, "using selector asleep: <EventLoop "), "{written:#?}");
    assert!(has(Level::DEBUG, "close <EventLoop "), "{written:#?}");
    let polls: Vec<_> = written.iter().filter(|(_, text)| text.starts_with("poll")).collect();
    let expected = ["poll 2500.000 ms took 5000.000 ms: 0 events", "poll took 5000.000 ms: 0 events"];
    assert_eq!(polls.iter().map(|(_, text)| text).collect::<Vec<_>>(), expected);
    assert!(polls.iter().all(|(level, _)| *level == Level::INFO));

    let ((), written) = collect_level(Level::DEBUG, || {
        run_alone(
            || EventLoop::builder().debug(true).slow_callback_duration(Duration::MAX),
            |el| {
                el.run_once(Some(Duration::from_millis(1))).unwrap();
            },
        );
    });
    let polls: Vec<_> = written.iter().filter(|(_, text)| text.starts_with("poll 1.000 ms took ")).collect();
    assert!(polls.len() == 1 && polls[0].0 == Level::DEBUG && polls[0].1.ends_with(": 0 events"), "{written:#?}");
}

/// DB-10: servers, connections and their ends are logged.
#[test]
fn connections_are_logged() {
    let ((), written) = collect_level(Level::TRACE, || {
        run_alone(EventLoop::builder, |el| {
            let log = Log::new();
            let (hand, heard) = (ManualClock::new(), log.clone());
            let factory = move || Sluggish { hand: hand.clone(), when: "never", log: heard.clone() };
            let server = complete(el, el.create_server(factory, ("127.0.0.1", 0))).unwrap();
            drop(TcpStream::connect(server.local_addrs()[0]).unwrap());
            run_until(el, || log.len() == 3);
            server.close();
        });
    });
    let texts: Vec<&str> = written.iter().map(|(_, text)| &text[..]).collect();
    let mut texts = texts.iter();
    for (begin, end) in [
        ("server on ", " is serving"),
        ("server on ", ""),
        ("<Transport ", ": connection made"),
        ("<Transport ", ": received EOF"),
        ("<Transport ", ": connection lost"),
        ("server on ", " closes"),
    ] {
        let is_next = |text: &&&str| text.starts_with(begin) && text.ends_with(end);
        assert!(texts.by_ref().any(|text| is_next(&text)), "{begin}..{end} is missing in its place: {written:#?}");
    }
    assert!(written.iter().any(|(_, text)| text.contains("got a new connection: <Transport ")), "{written:#?}");
}

/// DB-11: what is started is logged with its streams, and not with its arguments. DB-12: a child that is closed while it runs
/// is warned of, in debug mode; one that has exited is not.
#[test]
fn processes_are_logged() {
    struct Idle;
    impl SubprocessProtocol for Idle {}
    let closed = |debug: bool, program: &str| {
        let ((), written) = collect_level(Level::DEBUG, || {
            run_alone(
                || Kind::Epoll.builder().debug(debug),
                |el| {
                    let start = el.subprocess_exec(|| Idle, program, ["3600"]).stdin(Stdio::null());
                    let (process, _) = complete(el, start).unwrap();
                    if program == "true" {
                        complete(el, process.wait()).unwrap();
                    }
                    process.close();
                    run_until(el, || process.protocol().is_none());
                },
            );
        });
        let begin = format!("subprocess_exec \"{program}\" stdin=null stdout=piped stderr=piped: process ");
        assert!(written.iter().any(|(level, text)| *level == Level::DEBUG && text.starts_with(&begin)), "{written:#?}");
        assert!(!written.iter().any(|(_, text)| text.contains("3600")), "{written:#?}");
        let warnings: Vec<_> = written.into_iter().filter(|(level, _)| *level == Level::WARN).collect();
        warnings.into_iter().map(|(_, text)| text).collect::<Vec<_>>()
    };
    let warnings = closed(true, "sleep");
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(warnings[0].starts_with("Close running child process: kill <SubprocessTransport "), "{warnings:?}");
    assert!(warnings[0].contains(" running "), "{warnings:?}");
    for (debug, program) in [(false, "sleep"), (true, "true")] {
        let warnings = closed(debug, program);
        assert!(warnings.is_empty(), "{warnings:#?}");
    }
}

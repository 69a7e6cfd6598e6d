//! The iteration contract at the head of `src/event_loop/mod.rs`: the steps of a turn, a test for each sentence.
//! `contract_pace.rs` has the rest of it.

mod common;
#[path = "common/recording.rs"]
mod recording;

use std::cell::Cell;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Log, complete, on_strict_loop, run_on};
use recording::{StillClock, Tape, builder, let_time_pass};
use roundelay::{EventLoop, Protocol, Transport, yield_now};
use rustix::event::{PollFd, PollFlags};

const ZERO: Option<Duration> = Some(Duration::ZERO);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Runs a test on a loop whose selector is recorded and whose clock stands still.
fn on_tape(body: impl FnOnce(&EventLoop, &Tape, &StillClock)) {
    let (tape, clock) = (Tape::new(), StillClock::new());
    run_on(|| builder(&tape, &clock), |el| body(el, &tape, &clock));
}

/// A log that several threads append to.
#[derive(Clone, Default)]
struct SharedLog(Arc<Mutex<Vec<String>>>);

impl SharedLog {
    fn push(&self, entry: impl Into<String>) {
        self.0.lock().unwrap().push(entry.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    fn entry(&self, entry: impl Into<String>) -> impl FnOnce() + Send + 'static {
        let (log, entry) = (self.clone(), entry.into());
        move || log.push(entry)
    }

    /// Posts entries from another thread, which has ended when this returns.
    fn post(&self, el: &EventLoop, entries: &[String]) {
        let (remote, log, entries) = (el.remote(), self.clone(), entries.to_vec());
        let thread = std::thread::spawn(move || {
            for entry in entries {
                drop(remote.call_soon_threadsafe(log.entry(entry)).unwrap());
            }
        });
        thread.join().unwrap();
    }
}

/// A pair of sockets of which the first is readable.
fn readable() -> (UnixStream, UnixStream) {
    let (a, mut b) = UnixStream::pair().unwrap();
    b.write_all(b"x").unwrap();
    (a, b)
}

/// 1, LR-26: a cancelled timer, were it the first, has no part in the wait.
#[test]
fn cancelled_timers_are_forgotten() {
    on_tape(|el, tape, _| {
        let first = el.call_later(secs(5), || ());
        let second = el.call_later(secs(10), || ());
        el.run_once(None).unwrap();
        first.cancel();
        el.run_once(None).unwrap();
        second.cancel();
        el.run_once(None).unwrap();
        assert_eq!(tape.waits(), [Some(secs(5)), Some(secs(10)), None]);
    });
}

/// 1: the next deadline is the earliest, in whichever order the timers were made.
#[test]
fn the_next_deadline_is_the_earliest() {
    on_tape(|el, tape, clock| {
        for seconds in [7, 3, 9] {
            el.call_later(secs(seconds), || ());
        }
        el.run_once(None).unwrap();
        clock.advance(secs(1));
        el.run_once(None).unwrap();
        assert_eq!(tape.waits(), [Some(secs(3)), Some(secs(2))]);
    });
}

/// 2: with anything ready, the wait is a look.
#[test]
fn ready_work_is_not_kept_waiting() {
    on_tape(|el, tape, _| {
        el.call_later(secs(3), || ());
        el.call_soon(|| ());
        assert_eq!(el.run_once(None).unwrap(), 1);
        assert_eq!(tape.waits(), [ZERO]);
        // A post counts, too, though it is not in the queue yet.
        SharedLog::default().post(el, &["posted".into()]);
        assert_eq!(el.run_once(None).unwrap(), 1);
        assert_eq!(tape.waits(), [ZERO]);
    });
}

/// 2, LR-09: a loop that is stopping does not sleep, whatever it could wait for.
#[test]
fn a_stopping_loop_does_not_sleep() {
    on_tape(|el, tape, _| {
        el.call_later(secs(3), || ());
        el.stop();
        el.run_forever();
        assert_eq!(tape.waits(), [ZERO]);
    });
}

/// 2, TM-13: no wait is longer than a day; then the loop looks again.
#[test]
fn a_wait_lasts_a_day_at_most() {
    on_tape(|el, tape, clock| {
        let_time_pass(tape, clock);
        let timer = el.call_later(DAY * 2 + secs(5), || ());
        for _ in 0..3 {
            assert!(!timer.is_done());
            el.run_once(None).unwrap();
        }
        assert!(timer.is_done());
        assert_eq!(tape.waits(), [Some(DAY), Some(DAY), Some(secs(5))]);
    });
}

/// 2: with nothing to come, the wait has no end, unless the caller of `run_once` gave it one.
#[test]
fn with_nothing_to_come_the_wait_has_no_end() {
    on_tape(|el, tape, _| {
        el.run_once(None).unwrap();
        el.run_once(Some(secs(4))).unwrap();
        el.call_later(secs(3), || ());
        el.run_once(Some(secs(4))).unwrap();
        el.run_once(Some(secs(2))).unwrap();
        el.run_once(ZERO).unwrap();
        assert_eq!(tape.waits(), [None, Some(secs(4)), Some(secs(3)), Some(secs(2)), ZERO]);
    });
}

/// 3, 4 and 5, LR-24: what was ready, then events, then timers, then what other threads have posted.
#[test]
fn the_order_within_a_turn() {
    on_strict_loop(|el| {
        // Made in the opposite order, so that it cannot be the order of making that shows.
        let log = SharedLog::default();
        log.post(el, &["posted 1".into(), "posted 2".into()]);
        el.call_at(el.time(), log.entry("timer"));
        let ((socket, _peer), on_read) = (readable(), log.clone());
        el.add_reader(&socket, move || on_read.push("event")).unwrap();
        el.call_soon(log.entry("ready"));
        assert_eq!(el.run_once(None).unwrap(), 5);
        assert_eq!(log.take(), ["ready", "event", "timer", "posted 1", "posted 2"]);
        assert!(el.remove_reader(&socket));
    });
}

/// 5: a turn takes 4096 posts at most, in order; the rest has its place behind what was ready by the next turn, and the
/// loop does not sleep before it has taken them all.
#[test]
fn a_turn_takes_so_many_posts() {
    on_tape(|el, tape, _| {
        let log = SharedLog::default();
        let posts: Vec<String> = (0..4096 + 2).map(|n| n.to_string()).collect();
        log.post(el, &posts);
        assert_eq!(el.run_once(None).unwrap(), 4096);
        el.call_soon(log.entry("soon"));
        assert_eq!(el.run_once(None).unwrap(), 3);
        let mut expected = posts;
        expected.insert(4096, "soon".into());
        assert_eq!(log.take(), expected);
        assert!(tape.waits().iter().all(|wait| *wait == ZERO));
    });
}

/// 4, TM-08: timers that are due run in order of deadline, and of creation where that is the same.
#[test]
fn due_timers_run_in_order_of_deadline_and_creation() {
    on_tape(|el, _, clock| {
        let log = Log::new();
        let start = el.time();
        for (deadline, name) in [(2, "c"), (1, "a"), (2, "d"), (1, "b"), (3, "later"), (2, "e")] {
            el.call_at(start + secs(deadline), log.entry(name));
        }
        clock.advance(secs(2));
        assert_eq!(el.run_once(None).unwrap(), 5);
        assert_eq!(log.take(), ["a", "b", "c", "d", "e"]);
    });
}

/// 4, TM-05: a timer is due when it is at most the clock's resolution ahead, and not a nanosecond earlier.
#[test]
fn a_timer_is_due_within_the_resolution() {
    let step = Duration::from_micros(10);
    let (tape, clock) = (Tape::new(), StillClock::with_resolution(step));
    let build = || builder(&tape, &clock);
    run_on(build, |el| {
        assert_eq!(el.clock_resolution(), step);
        let near = el.call_at(el.time() + step, || ());
        let far = el.call_at(el.time() + step + Duration::from_nanos(1), || ());
        el.run_once(ZERO).unwrap();
        assert!(near.is_done() && !far.is_done());
    });
}

/// 6: a turn runs what is there when it begins; what that schedules, by whichever way, comes in the next.
#[test]
fn a_turn_runs_what_is_there_when_it_begins() {
    on_strict_loop(|el| {
        let log = SharedLog::default();
        for name in ["a", "b"] {
            let (el_, log_) = (el.clone(), log.clone());
            el.call_soon(move || {
                log_.push(name);
                log_.post(&el_, &[format!("post of {name}")]);
                el_.call_at(el_.time(), log_.entry(format!("timer of {name}")));
                el_.call_soon(log_.entry(format!("callback of {name}")));
                let task = log_.clone();
                drop(el_.create_task(async move { task.push(format!("task of {name}")) }));
            });
        }
        assert_eq!(el.run_once(None).unwrap(), 2);
        assert_eq!(log.take(), ["a", "b"]);
        assert_eq!(el.run_once(None).unwrap(), 8);
        let mut expected = vec!["callback of a", "task of a", "callback of b", "task of b"];
        expected.extend(["timer of a", "timer of b", "post of a", "post of b"]);
        assert_eq!(log.take(), expected);
        assert_eq!(el.run_once(ZERO).unwrap(), 0);
    });
}

/// 7, LR-08: a loop that was told to stop ends its turn first, and makes no other.
#[test]
fn a_stopped_loop_leaves_at_the_end_of_its_turn() {
    on_strict_loop(|el| {
        let log = Log::new();
        let (handle, inner) = (el.clone(), log.clone());
        el.call_soon(move || {
            handle.stop();
            handle.call_soon(inner.entry("next turn"));
        });
        el.call_soon(log.entry("same turn"));
        el.run_forever();
        assert_eq!(log.take(), ["same turn"]);
        assert_eq!(el.stats().turns, 1);
        el.stop();
        el.run_forever();
        assert_eq!(log.take(), ["next turn"]);
    });
}

/// What comes in is noted.
struct Noting(Log);

impl Protocol for Noting {
    fn data_received(&mut self, _: &Transport, data: &[u8]) {
        self.0.push(String::from_utf8_lossy(data));
    }
}

/// There is one queue: a callback, a task, a woken task, the root, a job of this thread and an event for a transport run
/// in the order in which they came, whatever they are.
#[test]
fn one_queue_for_all() {
    on_strict_loop(|el| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let log = Log::new();
        let factory = log.clone();
        let connect = el.create_connection(move || Noting(factory.clone()), listener.local_addr().unwrap());
        let (transport, _protocol) = complete(el, connect.into_future()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();

        // A task that waits, to be woken in between.
        let (go, gone) = (el.create_future::<()>(), log.clone());
        let woken = go.clone();
        let waiting = el.create_task(async move {
            woken.await.unwrap();
            gone.push("woken task");
        });
        common::settle(el);

        peer.write_all(b"event").unwrap();
        let socket = transport.extra_info().socket.unwrap();
        let arrived = socket.with(|socket| {
            let mut fds = [PollFd::new(&*socket, PollFlags::IN)];
            rustix::event::poll(&mut fds, None).unwrap()
        });
        assert_eq!(arrived, Some(1));

        el.call_soon(log.entry("callback 1"));
        let task = log.clone();
        drop(el.create_task(async move { task.push("task") }));
        // On the loop's own thread a post goes to the same queue. What is logged need not be: it runs on this thread.
        let ran = Arc::new(Mutex::new(0));
        let (job, at) = (ran.clone(), log.clone());
        drop(el.call_soon_threadsafe(move || *job.lock().unwrap() += 1).unwrap());
        el.call_soon(move || at.push(format!("jobs so far: {}", ran.lock().unwrap())));
        go.set_result(()).unwrap();
        el.call_soon(log.entry("callback 2"));
        let root = log.clone();
        let end = el.run_until_complete(async move {
            root.push("root");
            yield_now().await;
            root.push("root again");
        });
        end.unwrap();
        let expected =
            ["callback 1", "task", "jobs so far: 1", "woken task", "callback 2", "root", "event", "root again"];
        assert_eq!(log.take(), expected);
        assert!(waiting.is_done());

        transport.abort();
        common::settle(el);
    });
}

/// An idle turn asks the selector once, and asks nothing else of it.
#[test]
fn an_idle_turn_is_one_question() {
    on_tape(|el, tape, _| {
        let (socket, _peer) = UnixStream::pair().unwrap();
        let called = Rc::new(Cell::new(false));
        let flag = called.clone();
        el.add_reader(&socket, move || flag.set(true)).unwrap();
        el.call_later(secs(9), || ());
        tape.changes();
        for _ in 0..100 {
            assert_eq!(el.run_once(ZERO).unwrap(), 0);
        }
        assert_eq!(tape.waits().len(), 100);
        assert_eq!(tape.changes(), 0);
        assert!(!called.get());
        assert!(el.remove_reader(&socket));
    });
}

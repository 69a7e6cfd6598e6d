//! Signals as callbacks and as streams (behaviours SG). What needs a process of its own stands in `signals_process.rs`, what
//! takes several loops in `signals_threads.rs`.

mod common;
#[path = "common/signals.rs"]
mod signals;

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::process::Command;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{DropCounter, Log, PATIENCE, alone, complete, on_loop, run_on, run_until, settle, take_reports};
use futures::StreamExt;
use futures::future::select_all;
use roundelay::{ContextVar, EventLoop, LoopClosed, NoRunningLoop, SignalKind, signal, yield_now};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signals::{
    DEFAULT, IGNORED, Set, Target, caught, disposition, errno_after, foreign_calls, is_caught, raise, read_once, set,
    wait_until_asleep,
};

const ONE: SignalKind = SignalKind::user_defined1();
const TWO: SignalKind = SignalKind::user_defined2();
const WINDOW: SignalKind = SignalKind::window_change();
const URGENT: SignalKind = SignalKind::urgent();

/// A handler that counts.
fn count(el: &EventLoop, kind: SignalKind) -> Rc<Cell<usize>> {
    let counted = Rc::new(Cell::new(0));
    let counter = counted.clone();
    el.add_signal_handler(kind, move || counter.set(counter.get() + 1)).unwrap();
    counted
}

/// A handler that makes an entry in a log.
fn log(el: &EventLoop, kind: SignalKind, log: &Log) {
    let own = log.clone();
    el.add_signal_handler(kind, move || own.push(kind.to_string())).unwrap();
}

on_every_loop! {
    /// SG-01: the handler runs as a callback of the loop's, in one of its turns and on its thread, never in the middle of
    /// something else; and in its place among the callbacks.
    fn a_handler_is_a_callback(el) {
        let seen = Log::new();
        let (here, own, handle) = (thread::current().id(), seen.clone(), el.clone());
        el.add_signal_handler(ONE, move || {
            assert_eq!(thread::current().id(), here);
            assert!(handle.is_running());
            let later = own.entry("what the handler has scheduled");
            handle.call_soon(later);
            own.push("handler");
        })
        .unwrap();
        raise(ONE);
        assert_eq!(seen.len(), 0);
        el.call_soon(seen.entry("callback"));
        run_until(el, || seen.len() == 3);
        assert_eq!(seen.take(), ["callback", "handler", "what the handler has scheduled"]);
    }

    /// SG-01, SG-18: a signal ends the loop's sleep, though there is neither a timer nor anything else to wait for; in a
    /// second run as in the first.
    fn a_signal_wakes_a_sleeping_loop(el) {
        let handle = el.clone();
        el.add_signal_handler(ONE, move || handle.stop()).unwrap();
        let own = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        let (sleeps, told) = mpsc::channel();
        let sender = thread::spawn(move || {
            while told.recv().is_ok() {
                wait_until_asleep(own);
                raise(ONE);
            }
        });
        for _ in 0..2 {
            sleeps.send(()).unwrap();
            el.run_forever();
        }
        drop(sleeps);
        sender.join().unwrap();
        assert!(el.remove_signal_handler(ONE));
    }

    /// SG-02, P32: a handler that is added again replaces the one before: of two signals the new one hears, twice. What
    /// the old one captured is dropped at once.
    fn adding_again_replaces(el) {
        let old = count(el, ONE);
        let new = count(el, ONE);
        assert_eq!(Rc::strong_count(&old), 1);
        raise(ONE);
        raise(ONE);
        run_until(el, || new.get() == 2);
        settle(el);
        assert_eq!((old.get(), new.get()), (0, 2));
    }

    /// SG-02, SG-15: a handler that is replaced while its callback is queued is not called: the new one is.
    fn a_handler_is_replaced_while_it_is_queued(el) {
        let (old, seen) = (count(el, TWO), Log::new());
        let (own, handle) = (seen.clone(), el.clone());
        el.add_signal_handler(ONE, move || {
            let entry = own.clone();
            handle.add_signal_handler(TWO, move || entry.push("new")).unwrap();
        })
        .unwrap();
        raise(ONE);
        raise(TWO);
        run_until(el, || seen.len() > 0);
        settle(el);
        assert_eq!((old.get(), seen.take()), (0, vec!["new".to_owned()]));
    }

    /// SG-03: removing says whether there was a handler; there is none of what was never added, or could not be.
    fn removing_says_whether_there_was_one(el) {
        for kind in [0, -1, 1000, 9, 11, ONE.as_raw()] {
            assert!(!el.remove_signal_handler(kind));
        }
        let _counted = count(el, ONE);
        assert!(!el.remove_signal_handler(TWO));
        assert!(el.remove_signal_handler(ONE));
        assert!(!el.remove_signal_handler(ONE));
    }

    /// SG-04, SG-06: what is no signal, and what cannot be caught, is refused with the reason, and nothing is left behind.
    fn what_cannot_be_caught_is_refused(el) {
        let before = (caught(), el.stats().descriptors);
        let refused = |signal: i32| {
            let captured = DropCounter::new();
            let guard = captured.guard();
            let error = el.add_signal_handler(signal, move || _ = &guard).unwrap_err();
            assert_eq!((error.kind(), captured.count()), (ErrorKind::InvalidInput, 1));
            let of_stream = el.signal(signal).unwrap_err();
            assert_eq!(of_stream.kind(), ErrorKind::InvalidInput);
            let (text, of_stream) = (error.to_string(), of_stream.to_string());
            assert_eq!(of_stream, text.replace("add_signal_handler", "signal"));
            text
        };
        for signal in [0, -1, 65, 1000, i32::MAX, i32::MIN] {
            let expected = format!("EventLoop::add_signal_handler(): sig {signal} is not a valid signal number");
            assert_eq!(refused(signal), expected);
        }
        assert_eq!(refused(9), "EventLoop::add_signal_handler(): sig 9 cannot be caught (SIGKILL)");
        assert_eq!(refused(19), "EventLoop::add_signal_handler(): sig 19 cannot be caught (SIGSTOP)");
        for (signal, name) in [(4, "SIGILL"), (7, "SIGBUS"), (8, "SIGFPE"), (11, "SIGSEGV")] {
            let text = refused(signal);
            assert!(text.contains(&format!("sig {signal} cannot be left to a loop ({name}): ")), "{text}");
        }
        // One that the C library keeps to itself.
        assert!(refused(33).contains("sig 33 cannot be caught"));
        assert_eq!((caught(), el.stats().descriptors.live()), (before.0, before.1.live()));
        // The loop is none the worse for it, and neither is one that listens already.
        let counted = count(el, ONE);
        refused(9);
        refused(33);
        raise(ONE);
        run_until(el, || counted.get() == 1);
    }

    /// SG-05: with the last handler the disposition before comes back as it was: the default one, ignoring, and a function
    /// with its flags and its mask, which is not called meanwhile.
    fn the_disposition_before_comes_back(el) {
        let before = disposition(URGENT);
        assert_eq!(before.handler, DEFAULT);
        let set_before: [fn() -> Option<Set>; 3] =
            [|| None, || Some(Set::ignored(URGENT)), || Some(Set::foreign(URGENT))];
        for set_before in set_before {
            let set_before = set_before();
            let before = disposition(URGENT);
            let (counted, called) = (count(el, URGENT), foreign_calls());
            let streams = [el.signal(URGENT).unwrap(), el.signal(URGENT).unwrap()];
            assert_ne!(disposition(URGENT), before);
            raise(URGENT);
            run_until(el, || counted.get() == 1);
            assert_eq!(foreign_calls(), called);
            assert!(el.remove_signal_handler(URGENT));
            assert!(is_caught(URGENT));
            drop(streams);
            assert_eq!(disposition(URGENT), before);
            raise(URGENT);
            assert_eq!(foreign_calls() - called, usize::from(![DEFAULT, IGNORED].contains(&before.handler)));
            settle(el);
            assert_eq!(counted.get(), 1);
            drop(set_before);
        }
        assert_eq!(disposition(URGENT), before);
    }

    /// SG-05: a handler that somebody else has put in the place of ours stays when the loop's is removed; one that is
    /// there when the loop's is added anew is replaced, and comes back.
    fn a_foreign_handler_in_the_place_of_ours_stays(el) {
        let counted = count(el, URGENT);
        let foreign = Set::foreign(URGENT);
        let theirs = disposition(URGENT);
        assert!(el.remove_signal_handler(URGENT));
        assert_eq!(disposition(URGENT), theirs);
        // What was there before theirs is ours, whose time is over: what comes is nobody's.
        drop(foreign);
        raise(URGENT);
        settle(el);

        let again = count(el, URGENT);
        let foreign = Set::foreign(URGENT);
        let stream = el.signal(URGENT).unwrap();
        raise(URGENT);
        run_until(el, || again.get() == 1);
        drop(stream);
        raise(URGENT);
        run_until(el, || again.get() == 2);
        assert!(el.remove_signal_handler(URGENT));
        assert_eq!(disposition(URGENT), theirs);
        drop(foreign);
        assert_eq!(counted.get(), 0);
        // So is one that is there when a handler is replaced.
        let (_first, foreign) = (count(el, URGENT), Set::foreign(URGENT));
        let second = count(el, URGENT);
        raise(URGENT);
        run_until(el, || second.get() == 1);
        assert!(el.remove_signal_handler(URGENT));
        assert_eq!(disposition(URGENT), theirs);
        drop(foreign);
        // Its own before is ours again. A loop that listens and ends to takes it away.
        drop(el.signal(URGENT).unwrap());
        assert_eq!(disposition(URGENT).handler, DEFAULT);
    }

    /// SG-07: closing the loop removes all its handlers: the dispositions are back, and what they captured is dropped.
    fn closing_removes_all(el) {
        let captured = DropCounter::new();
        for kind in [ONE, TWO, WINDOW] {
            let guard = captured.guard();
            el.add_signal_handler(kind, move || _ = &guard).unwrap();
            assert!(is_caught(kind));
        }
        let mut stream = el.signal(URGENT).unwrap();
        // They are queued, and do not run any more.
        raise(ONE);
        raise(URGENT);
        el.run_once(Some(Duration::ZERO)).unwrap();
        el.close();
        assert_eq!(captured.count(), 3);
        assert!([ONE, TWO, WINDOW, URGENT].into_iter().all(|kind| disposition(kind).handler == DEFAULT));
        let mut rest = Vec::new();
        futures::executor::block_on(async {
            while let Some(kind) = stream.recv().await {
                rest.push(kind);
            }
        });
        assert!(rest.len() <= 1);
    }

    /// LR-02: on a closed loop no handler can be added, and there is none to be removed.
    fn a_closed_loop_takes_no_handler(el) {
        let counted = count(el, ONE);
        el.close();
        let captured = DropCounter::new();
        let guard = captured.guard();
        let error = el.add_signal_handler(ONE, move || _ = &guard).unwrap_err();
        assert!(error.get_ref().unwrap().is::<LoopClosed>());
        assert_eq!(captured.count(), 1);
        assert!(el.signal(ONE).unwrap_err().get_ref().unwrap().is::<LoopClosed>());
        assert!(!el.remove_signal_handler(ONE));
        assert_eq!(counted.get(), 0);
    }

    /// SG-10, SG-15: a handler that is removed while its callback is queued is not called, and nobody else is; nor is one
    /// that is added anew.
    fn a_handler_is_removed_while_it_is_queued(el) {
        let (seen, removed) = (Log::new(), count(el, TWO));
        let (own, handle) = (seen.clone(), el.clone());
        el.add_signal_handler(ONE, move || {
            assert!(handle.remove_signal_handler(TWO));
            let entry = own.clone();
            handle.add_signal_handler(TWO, move || entry.push("another")).unwrap();
            own.push("removed");
        })
        .unwrap();
        raise(ONE);
        raise(TWO);
        run_until(el, || seen.len() > 0);
        settle(el);
        assert_eq!((removed.get(), seen.take()), (0, vec!["removed".to_owned()]));
    }

    /// SG-10, SG-15: a signal that is caught, and not looked at yet, when its handler is removed is ignored.
    fn a_handler_is_removed_while_its_signal_is_under_way(el) {
        let (removed, other) = (count(el, ONE), count(el, TWO));
        raise(ONE);
        raise(TWO);
        assert!(el.remove_signal_handler(ONE));
        run_until(el, || other.get() == 1);
        settle(el);
        assert_eq!(removed.get(), 0);
        raise(TWO);
        // The last one, with the pipe.
        assert!(el.remove_signal_handler(TWO));
        settle(el);
        assert_eq!(other.get(), 1);
    }

    /// SG-11: a handler removes another one: that one's signals take the effect that they had before, while its own still
    /// come.
    fn a_handler_removes_another(el) {
        let _foreign = Set::foreign(TWO);
        let (seen, called) = (Log::new(), foreign_calls());
        log(el, TWO, &seen);
        let (own, handle) = (seen.clone(), el.clone());
        el.add_signal_handler(ONE, move || {
            own.push(if handle.remove_signal_handler(TWO) { "removed" } else { "nothing to remove" });
        })
        .unwrap();
        for kind in [TWO, TWO, ONE, TWO, ONE] {
            let before = (seen.len(), foreign_calls());
            raise(kind);
            run_until(el, || (seen.len(), foreign_calls()) != before);
        }
        assert_eq!(seen.take(), ["SIGUSR2", "SIGUSR2", "removed", "nothing to remove"]);
        assert_eq!(foreign_calls() - called, 1);
    }

    /// SG-12: a system call that the signal interrupts, on whichever thread, is restarted.
    fn system_calls_are_restarted(el) {
        const SIGNALS: usize = 5;
        let counted = count(el, ONE);
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let (tell, told) = mpsc::channel();
        let blocked = thread::spawn(move || {
            tell.send(rustix::thread::gettid().as_raw_nonzero().get() as u32).unwrap();
            read_once(&reader)
        });
        let id = told.recv().unwrap();
        for n in 1..=SIGNALS {
            wait_until_asleep(id);
            Target::of(&blocked).send(ONE);
            run_until(el, || counted.get() == n);
        }
        rustix::io::write(&writer, b"end").unwrap();
        assert_eq!(blocked.join().unwrap().unwrap(), 3);
    }

    /// SG-16: SIGCHLD is a signal as any other; it disturbs nobody who waits for a child.
    fn the_signal_of_children(el) {
        let counted = count(el, SignalKind::child());
        let mut child = Command::new("true").spawn().unwrap();
        run_until(el, || counted.get() > 0);
        assert!(child.wait().unwrap().success());
    }

    /// CX-04: a handler runs in a copy of the context in which it was added, which it keeps from one signal to the next.
    fn a_handler_runs_in_its_context(el) {
        static VARIABLE: ContextVar<usize> = ContextVar::new("variable");
        let seen = Rc::new(RefCell::new(Vec::new()));
        let own = seen.clone();
        VARIABLE.set(1);
        el.add_signal_handler(ONE, move || {
            own.borrow_mut().push(VARIABLE.get());
            VARIABLE.set(7);
        })
        .unwrap();
        VARIABLE.set(2);
        raise(ONE);
        raise(ONE);
        run_until(el, || seen.borrow().len() == 2);
        assert_eq!(*seen.borrow(), [Some(1), Some(7)]);
        assert_eq!(VARIABLE.get(), Some(2));
    }

    /// SG-01: a handler that panics is reported, with its place, and stays; the other callbacks run.
    fn a_handler_that_panics(el) {
        let (calls, other) = (Rc::new(Cell::new(0)), count(el, TWO));
        let own = calls.clone();
        let line = line!() + 1;
        el.add_signal_handler(ONE, move || {
            own.set(own.get() + 1);
            panic!("call {}", own.get());
        })
        .unwrap();
        for _ in 0..2 {
            raise(ONE);
        }
        raise(TWO);
        run_until(el, || other.get() == 1);
        let reports = take_reports();
        assert_eq!((calls.get(), reports.len()), (2, 2));
        for (report, call) in reports.iter().zip(1..) {
            assert!(report.starts_with("Exception in callback signals::a_handler_that_panics::"), "{report}");
            assert!(report.contains(&format!(": call {call}\n  <Handle signals::")), "{report}");
            assert!(report.contains(&format!(" at tests/signals.rs:{line}:")), "{report}");
        }
    }

    /// SG-14: signals of several kinds are handled in the order in which they came, each as often as it came.
    fn signals_are_handled_in_the_order_in_which_they_came(el) {
        let (seen, expected) = (Log::new(), [TWO, ONE, WINDOW, TWO, TWO, URGENT, ONE]);
        for kind in [ONE, TWO, WINDOW, URGENT] {
            log(el, kind, &seen);
        }
        for _ in 0..3 {
            expected.into_iter().for_each(raise);
            run_until(el, || seen.len() == expected.len());
            assert_eq!(seen.take(), expected.map(|kind| kind.to_string()));
        }
    }

    /// SG-14: real-time signals are signals, too.
    fn real_time_signals(el) {
        let (first, last) = (SignalKind::from_raw(libc::SIGRTMIN()), SignalKind::from_raw(libc::SIGRTMAX()));
        let seen = Log::new();
        log(el, first, &seen);
        log(el, last, &seen);
        for kind in [last, first, last] {
            raise(kind);
        }
        run_until(el, || seen.len() == 3);
        assert_eq!(seen.take(), [last, first, last].map(|kind| format!("signal {}", kind.as_raw())));
    }

    /// SG-14: a handler and streams of one loop each get every signal; whoever is dropped hears no more, and the last one
    /// takes the disposition with it.
    fn a_handler_and_streams_side_by_side(el) {
        let counted = count(el, ONE);
        let (mut first, mut second) = (el.signal(ONE).unwrap(), el.signal(ONE).unwrap());
        assert_eq!(first.kind(), ONE);
        raise(ONE);
        complete(el, async { (first.recv().await.unwrap(), second.next().await.unwrap()) });
        drop(first);
        raise(ONE);
        raise(ONE);
        complete(el, async { (second.recv().await.unwrap(), second.recv().await.unwrap()) });
        run_until(el, || counted.get() == 3);
        assert!(el.remove_signal_handler(ONE));
        raise(ONE);
        assert_eq!(complete(el, second.recv()), Some(ONE));
        assert!(is_caught(ONE));
        drop(second);
        assert!(!is_caught(ONE));
        assert_eq!(counted.get(), 3);
    }

    /// RW-06, SG-06: however many listen, for however many signals, the loop has two descriptors for it, one of them
    /// registered; they go with the last one. Nothing is ignored or blocked.
    fn descriptors_come_with_the_first_and_go_with_the_last(el) {
        let before = (set("SigIgn"), set("SigBlk"), caught(), common::open_descriptors());
        for _ in 0..3 {
            let counted = [ONE, TWO, URGENT].map(|kind| count(el, kind));
            let streams = [ONE, WINDOW].map(|kind| el.signal(kind).unwrap());
            assert_eq!(el.stats().descriptors.live(), 1);
            assert_eq!(common::open_descriptors(), before.3 + 2);
            assert_eq!((&set("SigIgn"), &set("SigBlk")), (&before.0, &before.1));
            let mut during: Vec<i32> = [ONE, TWO, URGENT, WINDOW].map(SignalKind::as_raw).into();
            during.extend(&before.2);
            during.sort();
            assert_eq!(caught(), during);
            drop(streams);
            for kind in [ONE, TWO, URGENT] {
                assert_eq!(el.stats().descriptors.live(), 1);
                el.remove_signal_handler(kind);
            }
            assert_eq!(el.stats().descriptors.live(), 0);
            assert_eq!((set("SigIgn"), set("SigBlk"), caught(), common::open_descriptors()), before);
            drop(counted);
        }
    }

    /// SG-10: a stream that waits is woken; one that is dropped while it waits, or while its signal is under way, is
    /// forgotten; cancelling `recv` loses nothing.
    fn streams_wait_and_are_dropped(el) {
        complete(el, async {
            let mut stream = signal(ONE).unwrap();
            assert!(common::poll_times(stream.recv(), 1).await.is_none());
            raise(ONE);
            assert_eq!(stream.recv().await, Some(ONE));
            let task = roundelay::spawn(async move { stream.recv().await });
            yield_now().await;
            task.cancel();
            assert!(task.await.unwrap_err().is_cancelled());

            let stays = signal(TWO).unwrap();
            let gone = signal(ONE).unwrap();
            raise(ONE);
            drop(gone);
            raise(TWO);
            assert_eq!({ stays }.recv().await, Some(TWO));

            let streams = [ONE, TWO, URGENT].map(|kind| signal(kind).unwrap());
            raise(URGENT);
            let next = streams.map(|stream| Box::pin(async { { stream }.recv().await }));
            assert_eq!(select_all(next).await.0, Some(URGENT));
        });
    }

    /// SG-14: what a stream has got is counted while nobody asks, and its task does not keep the others from running.
    fn a_stream_counts_and_shares_its_turn(el) {
        const SIGNALS: usize = 1000;
        let mut stream = el.signal(ONE).unwrap();
        (0..SIGNALS).for_each(|_| raise(ONE));
        let between = Rc::new(Cell::new(0));
        run_until(el, || format!("{stream:?}").contains("received: 1000"));
        let taker = el.create_task(async move {
            for _ in 0..SIGNALS {
                assert_eq!(stream.recv().await, Some(ONE));
            }
            let none = common::poll_times(stream.recv(), 1).await;
            assert!(none.is_none());
        });
        let own = between.clone();
        let other = el.create_task(async move {
            loop {
                own.set(own.get() + 1);
                yield_now().await;
            }
        });
        complete(el, taker).unwrap();
        other.cancel();
        assert!(between.get() > 3, "{}", between.get());
    }

    /// SG-14: more signals than the pipe takes: none is lost, no turn takes more than its share, and who came first is
    /// handled first.
    fn more_than_the_pipe_takes(el) {
        const EACH: usize = 35_000;
        let seen = Rc::new(RefCell::new(Vec::new()));
        for kind in [ONE, TWO] {
            let own = seen.clone();
            el.add_signal_handler(kind, move || own.borrow_mut().push(kind)).unwrap();
        }
        let urgent = count(el, URGENT);
        for _ in 0..EACH {
            raise(TWO);
            raise(ONE);
        }
        // What was interrupted does not notice.
        assert_eq!(errno_after(URGENT), Some(libc::EBADF));
        let (mut most, deadline) = (0, Instant::now() + PATIENCE);
        while seen.borrow().len() < 2 * EACH {
            assert!(Instant::now() < deadline, "{} of {}", seen.borrow().len(), 2 * EACH);
            most = most.max(el.run_once(Some(Duration::ZERO)).unwrap());
        }
        assert!(most <= 1100, "{most} items in a turn");
        settle(el);
        let seen = seen.borrow();
        assert_eq!(seen.len(), 2 * EACH);
        assert_eq!(seen.iter().filter(|kind| **kind == ONE).count(), EACH);
        // As many as any pipe takes.
        assert!(seen[..4000].chunks(2).all(|pair| pair == [TWO, ONE]));
        // The last ones came when there was no room: by number.
        assert_eq!((seen.last(), urgent.get()), (Some(&TWO), 1));
        assert!(seen[2 * EACH - 100..].iter().all(|kind| *kind == TWO));
        // And the order is that of arrival again.
        drop(seen);
        let seen = Log::new();
        log(el, ONE, &seen);
        log(el, TWO, &seen);
        for kind in [TWO, ONE, TWO] {
            raise(kind);
        }
        run_until(el, || seen.len() == 3);
        assert_eq!(seen.take(), ["SIGUSR2", "SIGUSR1", "SIGUSR2"]);
    }

    /// SG-02, SG-03: a handler may add, replace and remove handlers, its own included, and so may the destructor of what
    /// it has captured.
    fn handlers_change_handlers(el) {
        struct Adds(EventLoop, Log);
        impl Drop for Adds {
            fn drop(&mut self) {
                let own = self.1.clone();
                self.0.add_signal_handler(TWO, move || own.push("added by a destructor")).unwrap();
            }
        }
        let seen = Log::new();
        let (adds, own, handle) = (Adds(el.clone(), seen.clone()), seen.clone(), el.clone());
        el.add_signal_handler(ONE, move || {
            let Adds(el, log) = &adds;
            el.call_soon(log.entry("once"));
            assert!(handle.remove_signal_handler(ONE));
            let own = own.clone();
            handle.add_signal_handler(ONE, move || own.push("its own successor")).unwrap();
        })
        .unwrap();
        raise(ONE);
        run_until(el, || is_caught(TWO));
        raise(TWO);
        raise(ONE);
        run_until(el, || seen.len() == 3);
        assert_eq!(seen.take(), ["once", "added by a destructor", "its own successor"]);
        let adds = Adds(el.clone(), seen);
        el.add_signal_handler(TWO, move || _ = &adds).unwrap();
        assert!(el.remove_signal_handler(TWO));
        assert!(el.remove_signal_handler(TWO));
        let adds = Adds(el.clone(), Log::new());
        el.add_signal_handler(ONE, move || _ = &adds).unwrap();
        el.add_signal_handler(ONE, || ()).unwrap();
        assert!(el.remove_signal_handler(TWO));
    }

    /// SG-02: what a handler has captured that replaces or removes itself is dropped when it has returned; what panics on
    /// the way is reported.
    fn a_destructor_that_panics(el) {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("in the destructor");
            }
        }
        for replaces in [true, false] {
            let (bomb, handle, other) = (Bomb, el.clone(), count(el, TWO));
            el.add_signal_handler(ONE, move || {
                let _captured = &bomb;
                if replaces {
                    handle.add_signal_handler(ONE, || {}).unwrap();
                } else {
                    assert!(handle.remove_signal_handler(ONE));
                }
            })
            .unwrap();
            raise(ONE);
            raise(TWO);
            run_until(el, || other.get() == 1);
            let reports = take_reports();
            assert_eq!(reports.len(), 1);
            assert!(reports[0].starts_with("Exception in the destructor of callback signals::"), "{}", reports[0]);
            assert!(reports[0].contains(": in the destructor\n"), "{}", reports[0]);
            assert_eq!(el.remove_signal_handler(ONE), replaces);
        }
    }

    /// SG-05, SP-33: a child of a process with handlers has none of them, ignores nothing of theirs and blocks nothing.
    fn children_inherit_nothing(el) {
        let sets = || {
            let status = Command::new("cat").arg("/proc/self/status").output().unwrap().stdout;
            let status = String::from_utf8(status).unwrap();
            ["SigCgt", "SigIgn", "SigBlk"].map(|which| signals::set_in(&status, which))
        };
        let before = sets();
        let _counted = [ONE, TWO, SignalKind::pipe(), SignalKind::child()].map(|kind| count(el, kind));
        assert_eq!(sets(), before);
        assert_eq!(before[2], [0_i32; 0]);
    }
}

/// SG-06: where the loop's pipe cannot be made nothing is caught, what was given is dropped, and the next try succeeds; a
/// loop that has its pipe needs no other.
#[test]
fn no_descriptor_is_left() {
    on_loop(|el| {
        let before = getrlimit(Resource::Nofile);
        let limit = |current| setrlimit(Resource::Nofile, Rlimit { current, maximum: before.maximum }).unwrap();
        limit(Some(3));
        let captured = DropCounter::new();
        let guard = captured.guard();
        let error = el.add_signal_handler(ONE, move || _ = &guard).unwrap_err();
        let of_stream = el.signal(ONE).unwrap_err();
        limit(before.current);
        assert_eq!([error.raw_os_error(), of_stream.raw_os_error()], [Some(libc::EMFILE); 2]);
        assert_eq!((captured.count(), is_caught(ONE), el.stats().descriptors.live()), (1, false, 0));

        let counted = count(el, ONE);
        limit(Some(3));
        let other = count(el, TWO);
        limit(before.current);
        raise(TWO);
        raise(ONE);
        run_until(el, || (counted.get(), other.get()) == (1, 1));
    });
}

/// SG-07: a loop that is dropped gives back what it had, also where streams outlive it.
#[test]
fn a_loop_is_dropped_with_its_handlers() {
    let _alone = alone();
    let mut left = None;
    {
        let el = EventLoop::new().unwrap();
        let _counted = count(&el, ONE);
        left = left.or(Some(el.signal(TWO).unwrap()));
    }
    assert!(!is_caught(ONE) && !is_caught(TWO));
    let mut left = left.unwrap();
    assert_eq!(futures::executor::block_on(left.recv()), None);
    assert_eq!(futures::executor::block_on(left.next()), None);
}

/// SG-01: where no loop runs there is none to listen.
#[test]
fn no_loop_no_stream() {
    assert!(signal(ONE).unwrap_err().get_ref().unwrap().is::<NoRunningLoop>());
}

/// SG-07: nothing waits for a signal to come: a program that listens ends when its work is done.
#[test]
fn nobody_waits_for_signals_to_come() {
    let _alone = alone();
    roundelay::block_on(async {
        let el = roundelay::get_running_loop().unwrap();
        el.add_signal_handler(ONE, || {}).unwrap();
        let _waits = roundelay::spawn(async { signal(TWO).unwrap().recv().await });
        yield_now().await;
        assert!(is_caught(ONE) && is_caught(TWO));
    });
    assert!(!is_caught(ONE) && !is_caught(TWO));
}

/// SG-01: a loop that looks at its selector in every turn, and one that seldom does, hear of signals while they are busy.
#[test]
fn a_busy_loop_hears_of_signals() {
    for interval in [1, 61] {
        run_on(
            || EventLoop::builder().event_interval(interval),
            |el| {
                let counted = count(el, ONE);
                let busy = el.create_task(async {
                    loop {
                        yield_now().await;
                    }
                });
                raise(ONE);
                run_until(el, || counted.get() == 1);
                busy.cancel();
                settle(el);
            },
        );
    }
}

/// SG-04: signals have their names, and numbers do as well.
#[test]
fn kinds() {
    let named = [
        (SignalKind::hangup(), 1, "SIGHUP"),
        (SignalKind::interrupt(), 2, "SIGINT"),
        (SignalKind::quit(), 3, "SIGQUIT"),
        (SignalKind::user_defined1(), 10, "SIGUSR1"),
        (SignalKind::user_defined2(), 12, "SIGUSR2"),
        (SignalKind::pipe(), 13, "SIGPIPE"),
        (SignalKind::alarm(), 14, "SIGALRM"),
        (SignalKind::terminate(), 15, "SIGTERM"),
        (SignalKind::child(), 17, "SIGCHLD"),
        (SignalKind::resume(), 18, "SIGCONT"),
        (SignalKind::terminal_stop(), 20, "SIGTSTP"),
        (SignalKind::urgent(), 23, "SIGURG"),
        (SignalKind::window_change(), 28, "SIGWINCH"),
        (SignalKind::io(), 29, "SIGIO"),
        (SignalKind::from_raw(40), 40, "signal 40"),
        (SignalKind::from_raw(-1), -1, "signal -1"),
    ];
    for (kind, number, name) in named {
        assert_eq!((kind.as_raw(), kind.to_string()), (number, name.to_owned()));
        assert_eq!((SignalKind::from(number), i32::from(kind)), (kind, number));
        assert_eq!(format!("{kind:?}"), format!("SignalKind({name})"));
    }
}

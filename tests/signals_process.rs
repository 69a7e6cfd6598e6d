//! Signals that end processes, or would (behaviours SG): Ctrl-C, above all.

mod common;
#[path = "common/own_process.rs"]
mod own_process;
#[path = "common/signals.rs"]
mod signals;

use std::cell::Cell;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::rc::Rc;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use common::{alone, run_until};
use own_process::{own_process, prepared, say};
use roundelay::{EventLoop, RunError, Runner, SignalKind, block_on, cancel_requested, get_running_loop, sleep, spawn};
use signals::{DEFAULT, IGNORED, Set, disposition, foreign_calls, is_caught, raise};

const INTERRUPT: SignalKind = SignalKind::interrupt();
const ONE: SignalKind = SignalKind::user_defined1();
const TWO: SignalKind = SignalKind::user_defined2();

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);

fn runner(grace: Duration) -> Runner {
    Runner::builder().cancel_on_interrupt(grace).build()
}

/// Says so when it is dropped.
struct Says(&'static str);

impl Drop for Says {
    fn drop(&mut self) {
        say(self.0);
    }
}

/// SG-18: the first Ctrl-C asks the main task to end; it cleans up with `await`, and what it returns is the result.
#[test]
fn the_main_task_is_asked_to_end() {
    let body = || {
        let result = runner(LONG).run(async {
            say("ready");
            let _other = spawn(async {
                let _says = Says("the others are cancelled at the end");
                pending::<()>().await
            });
            cancel_requested().await;
            say("asked to end");
            sleep(Duration::from_millis(1)).await;
            say("clean");
            7
        });
        say(format_args!("{result:?}"));
    };
    own_process(body, |process| {
        process.says("ready");
        process.send(INTERRUPT);
        process.says("asked to end");
        process.says("clean");
        process.says("the others are cancelled at the end");
        process.says("Ok(7)");
        process.ends();
    });
}

/// SG-18: a main task that does not look whether it was asked is cancelled at once: its destructors run, and `run` says
/// what it was. The runner stays usable, and Ctrl-C does the same in its next run.
#[test]
fn the_main_task_is_cancelled() {
    let body = || {
        let mut runner = runner(LONG);
        for _ in 0..2 {
            let result = runner.run(async {
                let _says = Says("dropped");
                say("ready");
                pending::<()>().await
            });
            assert_eq!(result, Err(RunError::Interrupted));
            assert_eq!(disposition(INTERRUPT).handler, DEFAULT);
        }
        let error = std::io::Error::from(RunError::Interrupted);
        say(format_args!("{:?}: {error}", error.kind()));
        assert_eq!(runner.run(async { 1 }), Ok(1));
        // Cancelled in another way it says so.
        let cancelled = runner.run(async {
            get_running_loop().unwrap().current_task().unwrap().cancel();
            pending::<()>().await
        });
        assert_eq!(cancelled, Err(RunError::Cancelled));
    };
    own_process(body, |process| {
        for _ in 0..2 {
            process.says("ready");
            process.send(INTERRUPT);
            process.says("dropped");
        }
        process.says("Interrupted: the main task was interrupted by SIGINT");
        process.ends();
    });
}

/// SG-18: a main task that takes longer than its grace to clean up is dropped.
#[test]
fn the_grace_is_over() {
    let body = || {
        let result = runner(Duration::from_millis(20)).run(async {
            let _says = Says("dropped");
            say("ready");
            cancel_requested().await;
            say("asked to end");
            pending::<()>().await
        });
        say(result.unwrap_err());
    };
    own_process(body, |process| {
        process.says("ready");
        process.send(INTERRUPT);
        process.says("asked to end");
        process.says("dropped");
        process.says("the main task was interrupted by SIGINT");
        process.ends();
    });
}

/// SG-18: the second Ctrl-C ends the process there and then, and the shell sees what of.
#[test]
fn the_second_one_ends_hard() {
    let body = || {
        let _ = runner(LONG).run(async {
            let _says = Says("dropped");
            say("ready");
            cancel_requested().await;
            say("asked to end");
            pending::<()>().await
        });
        say("not reached");
    };
    own_process(body, |process| {
        process.says("ready");
        process.send(INTERRUPT);
        process.says("asked to end");
        process.send(INTERRUPT);
        process.dies_of(INTERRUPT);
    });
}

/// SG-18: so does it while a callback keeps the loop busy for ever, whatever other handlers there are.
#[test]
fn a_busy_loop_is_ended_by_the_second_one() {
    let body = || {
        let _ = runner(LONG).run(async {
            let el = get_running_loop().unwrap();
            el.add_signal_handler(INTERRUPT, || say("not reached")).unwrap();
            say("ready");
            loop {
                std::hint::spin_loop();
            }
        });
    };
    own_process(body, |process| {
        process.says("ready");
        process.send_and_wait(INTERRUPT);
        process.send(INTERRUPT);
        process.dies_of(INTERRUPT);
    });
}

/// SG-18: when `run` has returned Ctrl-C does what it did before: it ends the process.
#[test]
fn after_the_run_it_ends_the_process() {
    let body = || {
        let mut runner = runner(LONG);
        assert_eq!(runner.run(async { 1 }), Ok(1));
        say("ready");
        loop {
            thread::park();
        }
    };
    own_process(body, |process| {
        process.says("ready");
        process.send(INTERRUPT);
        process.dies_of(INTERRUPT);
    });
}

/// SG-18: `block_on`, and a runner that was not asked to, leave Ctrl-C alone.
#[test]
fn block_on_leaves_it_alone() {
    let body = || {
        Runner::new().run(async { assert!(!is_caught(INTERRUPT)) }).unwrap();
        block_on(async {
            assert!(!is_caught(INTERRUPT));
            let _says = Says("not reached");
            say("ready");
            pending::<()>().await
        });
    };
    own_process(body, |process| {
        process.says("ready");
        process.send(INTERRUPT);
        process.dies_of(INTERRUPT);
    });
}

/// SG-18: in a program that was started with Ctrl-C ignored it stays ignored.
#[test]
fn what_is_ignored_stays_ignored() {
    let body = || {
        let result = runner(LONG).run(async {
            assert_eq!(disposition(INTERRUPT).handler, IGNORED);
            let mut end = roundelay::signal(SignalKind::terminate()).unwrap();
            say("ready");
            end.recv().await;
            "terminated"
        });
        say(result.unwrap());
    };
    let ignoring = |command: &mut Command| {
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"trap "" INT; exec "$0" "$@""#]).arg(command.get_program()).args(command.get_args());
        shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        *command = shell;
    };
    prepared(ignoring, body, |process| {
        process.says("ready");
        for _ in 0..3 {
            process.send_and_wait(INTERRUPT);
        }
        process.send(SignalKind::terminate());
        process.says("terminated");
        process.ends();
    });
}

/// SG-18: one Ctrl-C is for all runners of the process, on whatever threads, and for the loop's own handlers and streams.
#[test]
fn several_runners_hear_of_one() {
    let body = || {
        let ready = Barrier::new(3);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let result = runner(LONG).run(async {
                        let el = get_running_loop().unwrap();
                        el.add_signal_handler(INTERRUPT, || say("a handler")).unwrap();
                        let mut stream = roundelay::signal(INTERRUPT).unwrap();
                        let heard = spawn(async move { stream.recv().await });
                        roundelay::yield_now().await;
                        if ready.wait().is_leader() {
                            say("ready");
                        }
                        cancel_requested().await;
                        heard.await.unwrap()
                    });
                    say(format_args!("{result:?}"));
                });
            }
        });
    };
    own_process(body, |process| {
        process.says("ready");
        process.send(INTERRUPT);
        let mut said: Vec<_> = (0..6).map(|_| process.line()).collect();
        said.sort();
        assert_eq!(said[..3], ["Ok(Some(SignalKind(SIGINT)))"; 3]);
        assert_eq!(said[3..], ["a handler"; 3]);
        process.ends();
    });
}

/// SG-18: a loop that waits for nothing is ended by Ctrl-C, promptly, in its first run and in its second.
#[test]
fn an_idle_loop_is_stopped() {
    let body = || {
        let el = EventLoop::new().unwrap();
        let handle = el.clone();
        el.add_signal_handler(INTERRUPT, move || handle.stop()).unwrap();
        for run in ["first", "second"] {
            el.call_soon(move || say(run));
            el.run_forever();
            say("stopped");
        }
    };
    own_process(body, |process| {
        for run in ["first", "second"] {
            process.says(run);
            process.send(INTERRUPT);
            process.says("stopped");
        }
        process.ends();
    });
}

/// SG-14: ten thousand signals that another process sends as fast as it can: the handler is called, and no more often than
/// that; what the kernel has not merged is not lost.
#[test]
fn a_burst_from_another_process() {
    const SIGNALS: usize = 10_000;
    let body = || {
        let el = EventLoop::new().unwrap();
        let counted = Rc::new(Cell::new(0));
        let (counter, handle) = (counted.clone(), el.clone());
        el.add_signal_handler(ONE, move || counter.set(counter.get() + 1)).unwrap();
        el.add_signal_handler(TWO, move || handle.stop()).unwrap();
        say("ready");
        el.run_forever();
        say(counted.get());
    };
    own_process(body, |process| {
        process.says("ready");
        for _ in 0..SIGNALS {
            process.send(ONE);
        }
        process.send(TWO);
        let counted: usize = process.line().parse().unwrap();
        assert!((1..=SIGNALS).contains(&counted), "{counted}");
        process.ends();
    });
}

/// SG-05: a signal whose last handler was removed has its default effect again.
#[test]
fn without_a_handler_a_signal_has_its_effect() {
    let body = || {
        let el = EventLoop::new().unwrap();
        el.add_signal_handler(ONE, || {}).unwrap();
        raise(ONE);
        assert!(el.remove_signal_handler(ONE));
        say("removed");
        raise(ONE);
        say("not reached");
    };
    own_process(body, |process| {
        process.says("removed");
        process.dies_of(ONE);
    });
}

/// SG-18: the disposition before is there again after the run, however that has ended; and descriptors are not left.
#[test]
fn the_disposition_before_is_back() {
    let _alone = alone();
    let before = disposition(INTERRUPT);
    assert_eq!(before.handler, DEFAULT);
    let mut runner = runner(LONG);
    let during = async {
        assert!(is_caught(INTERRUPT));
    };
    assert_eq!(runner.run(during), Ok(()));
    assert_eq!(disposition(INTERRUPT), before);

    let el = runner.get_loop().unwrap();
    let handle = el.clone();
    let stopped = runner.run(async move {
        handle.stop();
        pending::<()>().await
    });
    assert_eq!(stopped, Err(RunError::Stopped));
    assert_eq!(disposition(INTERRUPT), before);

    let panicked = catch_unwind(AssertUnwindSafe(|| runner.run(async { panic!("ended") })));
    assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"ended"));
    assert_eq!(disposition(INTERRUPT), before);
    assert_eq!(el.stats().descriptors.live(), 0);
    runner.close();
    assert!(el.stats().is_balanced());
}

/// SG-18: where the application has a handler of its own, that is not a loop's, it stays; one of a loop's hears of it, too.
#[test]
fn a_handler_of_the_application_stays() {
    let _alone = alone();
    let mut runner = runner(LONG);
    let foreign = Set::foreign(INTERRUPT);
    let (theirs, called) = (disposition(INTERRUPT), foreign_calls());
    let result = runner.run(async {
        assert_eq!(disposition(INTERRUPT), theirs);
        raise(INTERRUPT);
        raise(INTERRUPT);
        "not cancelled"
    });
    assert_eq!((result, foreign_calls() - called), (Ok("not cancelled"), 2));
    // Ours is in the place of theirs: SIGINT is theirs all the same.
    let other = EventLoop::new().unwrap();
    let heard = Rc::new(Cell::new(0));
    let counter = heard.clone();
    other.add_signal_handler(INTERRUPT, move || counter.set(counter.get() + 1)).unwrap();
    let result = runner.run(async {
        raise(INTERRUPT);
        raise(INTERRUPT);
        "not cancelled"
    });
    assert_eq!(result, Ok("not cancelled"));
    run_until(&other, || heard.get() == 2);
    other.close();
    drop(foreign);

    // A loop that listens before, and whose disposition before is the default one, is no reason to leave it alone.
    let el = runner.get_loop().unwrap();
    let heard = Rc::new(Cell::new(0));
    let counter = heard.clone();
    el.add_signal_handler(INTERRUPT, move || counter.set(counter.get() + 1)).unwrap();
    let result = runner.run(async {
        raise(INTERRUPT);
        pending::<()>().await
    });
    assert_eq!((result, heard.get()), (Err(RunError::Interrupted), 1));
    // After the run any number of them is the handler's alone.
    raise(INTERRUPT);
    raise(INTERRUPT);
    run_until(&el, || heard.get() == 3);
    runner.close();
    assert_eq!(disposition(INTERRUPT).handler, DEFAULT);
}

/// SG-18: the settings can be looked at.
#[test]
fn the_builder_shows_it() {
    let shown = format!("{:?}", Runner::builder().cancel_on_interrupt(Duration::from_secs(5)));
    assert!(shown.contains("cancel_on_interrupt: Some(5s)"), "{shown}");
}

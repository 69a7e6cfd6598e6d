//! Programs end, whatever they leave behind: tasks, callbacks, panics, and the ways out of a `main` (behaviours PO-06,
//! api 1). Each test runs a process of its own, which has to end by itself, with the right status and output.

mod common;

#[path = "common/exits.rs"]
mod exits;
#[path = "common/runners.rs"]
mod runners;

use std::future::pending;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::panic::panic_any;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use exits::{Program, brief};
use roundelay::{
    EventLoop, Fatal, block_on, cancel_requested, get_running_loop, policy, sleep, spawn, spawn_blocking, timeout,
    yield_now,
};
use runners::{OnDrop, forever_with};
use rustix::process::Signal;

const NEVER: Duration = Duration::from_secs(24 * 3600);

// ---------------------------------------------------------------- tasks

/// PO-06: tasks that wait, and timers of a day, hold nothing up.
#[test]
fn tasks_and_timers_that_wait() {
    let program = Program::new("tasks_and_timers_that_wait", || {
        block_on(async {
            let el = get_running_loop().unwrap();
            drop(el.call_later(NEVER, || println!("a day is over")));
            drop(spawn(timeout(NEVER, pending::<()>())));
            drop(forever_with(OnDrop(|| println!("a task is dropped"))));
            drop(spawn(async { roundelay::interval(NEVER).tick().await }));
            let handle = el.clone();
            drop(spawn(async move { handle.create_future::<()>().take().await }));
            yield_now().await;
        });
        println!("main ends");
    });
    program.ends_silently(0, "a task is dropped\nmain ends\n");
}

/// PO-06: a task that cleans up is waited for; one that cleans up for ever is dropped when the bound is over, and named.
#[test]
fn tasks_that_clean_up() {
    let program = Program::new("tasks_that_clean_up", || {
        let mut runner = brief().build();
        let run = runner.run(async {
            let el = get_running_loop().unwrap();
            drop(spawn(async {
                cancel_requested().await;
                sleep(Duration::from_millis(1)).await;
                println!("cleaned up");
            }));
            drop(el.task_builder().name("stubborn").spawn(async {
                let _guard = OnDrop(|| println!("the stubborn one is dropped"));
                cancel_requested().await;
                pending::<()>().await;
            }));
            yield_now().await;
        });
        run.unwrap();
        runner.close();
        println!("main ends");
    });
    for program in program.each() {
        let ended = program.end();
        ended.check(0, "cleaned up\nthe stubborn one is dropped\nmain ends\n");
        let names = ended.unfinished(" within 500ms: 1 task");
        assert!(
            names.len() == 1 && names[0].contains("\"stubborn\"") && names[0].contains("tests/exits.rs"),
            "{names:?}"
        );
    }
}

/// PO-06: the bound of `block_on` itself is the documented one.
#[test]
fn the_bound_of_block_on() {
    let program = Program::new("the_bound_of_block_on", || {
        block_on(async {
            drop(spawn(async {
                cancel_requested().await;
                pending::<()>().await;
            }));
            drop(spawn_blocking(|| std::thread::park_timeout(NEVER)));
            yield_now().await;
        })
    });
    let ended = program.end();
    ended.check(0, "");
    ended.unfinished(" within 5s: 1 task, 1 blocking job");
}

/// PO-06: destructors that spawn do so for a while, and then the end goes on.
#[test]
fn destructors_that_spawn_without_end() {
    fn again(el: EventLoop) {
        let next = el.clone();
        let guard = OnDrop(move || {
            if !next.is_closed() {
                again(next.clone());
            }
        });
        drop(el.create_task(async move {
            let _guard = guard;
            pending::<()>().await;
        }));
    }
    let program = Program::new("destructors_that_spawn_without_end", || {
        block_on(async { again(get_running_loop().unwrap()) });
        println!("main ends");
    });
    for program in program.each() {
        let ended = program.end();
        ended.check(0, "main ends\n");
        assert!(ended.reports()[0].ends_with("not everything has ended in 100 rounds: 1 task"), "{ended:#?}");
    }
}

/// PO-06: destructors that would wait for the loop are told that they cannot: they panic, which is reported, and the end
/// goes on.
#[test]
fn destructors_that_wait_for_the_loop() {
    let program = Program::new("destructors_that_wait_for_the_loop", || {
        block_on(async {
            let el = get_running_loop().unwrap();
            drop(forever_with(OnDrop(|| block_on(async {}))));
            let remote = el.remote();
            drop(forever_with(OnDrop(move || drop(remote.spawn(async || pending::<()>().await).unwrap().wait()))));
            let handle = el.clone();
            drop(forever_with(OnDrop(move || assert!(handle.run_until_complete(pending::<()>()).is_ok()))));
            let handle = el.clone();
            drop(forever_with(OnDrop(move || handle.close())));
            yield_now().await;
        });
        println!("main ends");
    });
    for program in program.each() {
        let ended = program.end();
        ended.check(0, "main ends\n");
        let reports = ended.reports();
        for text in ["block_on()", "RemoteTask::wait()", "EventLoop::run_until_complete()", "EventLoop::close()"] {
            assert!(reports.iter().any(|report| report.contains(text)), "{text}: {ended:#?}");
        }
        assert_eq!(reports.len(), 4, "{ended:#?}");
    }
}

// ---------------------------------------------------------------- callbacks

/// PO-06: callbacks that schedule themselves again and again, at once or by a timer, end with the loop.
#[test]
fn callbacks_that_go_on_for_ever() {
    fn soon(el: &EventLoop) {
        let handle = el.clone();
        el.call_soon(move || soon(&handle));
    }
    fn later(el: &EventLoop) {
        let handle = el.clone();
        el.call_later(Duration::ZERO, move || later(&handle));
    }
    let program = Program::new("callbacks_that_go_on_for_ever", || {
        block_on(async {
            let el = get_running_loop().unwrap();
            soon(&el);
            later(&el);
            drop(spawn(async {
                loop {
                    yield_now().await;
                }
            }));
            yield_now().await;
        });
        println!("main ends");
    });
    program.ends_silently(0, "main ends\n");
}

/// PO-06: so do callbacks that stop the loop in each turn, or panic fatally in each turn, as long as the end takes.
#[test]
fn callbacks_that_disturb_every_turn() {
    fn disturb(el: &EventLoop, fatally: bool) {
        let handle = el.clone();
        el.call_soon(move || {
            disturb(&handle, fatally);
            if fatally {
                panic_any(Fatal::new("again"));
            }
            handle.stop();
        });
    }
    let program = Program::new("callbacks_that_disturb_every_turn", || {
        for fatally in [false, true] {
            let mut runner = brief().build();
            let run = runner.run(async {
                drop(spawn(async {
                    let _guard = OnDrop(|| println!("a task is dropped"));
                    cancel_requested().await;
                    pending::<()>().await;
                }));
                yield_now().await;
                get_running_loop().unwrap().set_exception_handler(Some(Rc::new(|_, _| ())));
            });
            run.unwrap();
            disturb(&runner.get_loop().unwrap(), fatally);
            runner.close();
        }
        println!("main ends");
    });
    for program in program.each() {
        program.end().check(0, "a task is dropped\na task is dropped\nmain ends\n");
    }
}

// ---------------------------------------------------------------- the ways out

/// PO-05: a panic of the main future is the process's: status 101 and its text on stderr, after the orderly end.
#[test]
fn a_panic_of_the_main_future() {
    let program = Program::new("a_panic_of_the_main_future", || {
        block_on(async {
            drop(forever_with(OnDrop(|| println!("a task is dropped"))));
            yield_now().await;
            if true {
                panic!("main has failed");
            }
        });
        println!("never");
    });
    for program in program.each() {
        let ended = program.end();
        ended.check(101, "a task is dropped\n");
        assert!(ended.stderr.contains("main has failed"), "{ended:#?}");
        ended.check_silent();
    }
}

/// LR-17: a fatal panic in a callback or a task leaves `block_on`, after the orderly end.
#[test]
fn a_fatal_panic() {
    let program = Program::new("a_fatal_panic", || {
        block_on(async {
            drop(forever_with(OnDrop(|| println!("a task is dropped"))));
            yield_now().await;
            drop(spawn(async { panic_any(Fatal::new("the end")) }));
            pending::<()>().await;
        });
        println!("never");
    });
    program.ends_silently(101, "a task is dropped\n");
}

/// PO-05: other panics are reported, and main goes on.
#[test]
fn panics_of_tasks() {
    let program = Program::new("panics_of_tasks", || {
        block_on(async {
            drop(spawn(async { panic!("a task has failed") }));
            get_running_loop().unwrap().call_soon(|| panic!("a callback has failed"));
            yield_now().await;
        });
        println!("main ends");
    });
    for program in program.each() {
        let ended = program.end();
        ended.check(0, "main ends\n");
        let reports = ended.reports();
        assert_eq!(reports.len(), 2, "{ended:#?}");
        assert!(reports[0].contains("a task has failed") && reports[1].contains("a callback has failed"), "{ended:#?}");
    }
}

/// `std::process::exit` inside of a task ends the process there and then: no destructor runs, and none is waited for.
#[test]
fn exit_inside_of_a_task() {
    let program = Program::new("exit_inside_of_a_task", || {
        block_on(async {
            drop(forever_with(OnDrop(|| println!("a task is dropped"))));
            drop(spawn_blocking(|| std::thread::park_timeout(NEVER)));
            drop(spawn(async { std::process::exit(7) }));
            pending::<()>().await;
        });
    });
    program.ends_silently(7, "");
}

/// The same on a thread of the executor, while the loop runs.
#[test]
fn exit_on_another_thread() {
    let program = Program::new("exit_on_another_thread", || {
        block_on(async {
            drop(spawn_blocking(|| std::process::exit(8)));
            pending::<()>().await;
        });
    });
    for program in program.each() {
        program.end().check(8, "");
    }
}

/// PO-05: what `main` returns is what `block_on` returns: an error is status 1, an `ExitCode` itself.
#[test]
fn main_returns_an_error() {
    let program = Program::new("main_returns_an_error", || -> io::Result<()> {
        block_on(async {
            drop(spawn(pending::<()>()));
            Err(io::Error::other("it did not work"))
        })
    });
    for program in program.each() {
        let ended = program.end();
        ended.check(1, "");
        assert!(ended.stderr.contains("it did not work"), "{ended:#?}");
    }
}

/// The same.
#[test]
fn main_returns_an_exit_code() {
    let program = Program::new("main_returns_an_exit_code", || block_on(async { ExitCode::from(42) }));
    program.end().check(42, "");
}

/// PO-05: a main task that was cancelled or stopped is an error of `Runner::run`, which `main` may return.
#[test]
fn main_returns_a_run_error() {
    let program = Program::new("main_returns_a_run_error", || -> io::Result<()> {
        let mut runner = brief().build();
        let cancelled = runner.run(async {
            let el = get_running_loop().unwrap();
            el.current_task().unwrap().cancel();
            pending::<()>().await;
        });
        println!("{cancelled:?}");
        Ok(runner.run(async {
            get_running_loop().unwrap().stop();
            pending::<()>().await;
        })?)
    });
    for program in program.each() {
        let ended = program.end();
        ended.check(1, "Err(Cancelled)\n");
        assert!(ended.stderr.contains("Stopped"), "{ended:#?}");
    }
}

/// RW-06: `block_on` leaves SIGTERM and SIGINT alone: both end the process, and whoever waits for it sees by what.
#[test]
fn signals_end_the_process() {
    let program = Program::new("signals_end_the_process", || {
        block_on(async {
            drop(spawn_blocking(|| std::thread::park_timeout(NEVER)));
            println!("ready");
            sleep(NEVER).await;
        })
    });
    for signal in [Signal::TERM, Signal::INT] {
        for program in program.each() {
            let mut started = program.start();
            assert_eq!(started.line(), "ready");
            started.signal(signal);
            let ended = started.end();
            assert_eq!(ended.status.signal(), Some(signal.as_raw()), "{ended:#?}");
            ended.check_silent();
        }
    }
}

// ---------------------------------------------------------------- loops that nobody closes

/// RW-01: a loop that was not closed holds nothing up, wherever it is: dropped, leaked, or the thread's own. Each is warned
/// of in debug mode when it is dropped.
#[test]
fn loops_that_nobody_closes() {
    let program = Program::new("loops_that_nobody_closes", || {
        let started = |name: &str| {
            let el = EventLoop::builder().name(name).build().unwrap();
            drop(el.create_task(async {
                cancel_requested().await;
                pending::<()>().await;
            }));
            drop(el.run_in_executor(None, || std::thread::park_timeout(NEVER)));
            el.call_later(NEVER, || ());
            el.run_once(None).unwrap();
            el
        };
        drop(started("dropped"));
        // For ever, and yet not lost to a checker of leaks.
        thread_local!(static LEAKED: std::cell::Cell<Option<&'static EventLoop>> = const { std::cell::Cell::new(None) });
        LEAKED.set(Some(Box::leak(Box::new(started("leaked")))));
        policy::set_event_loop(Some(started("set")));
        println!("main ends");
    });
    for (debug, program) in program.each().into_iter().enumerate() {
        let ended = program.end();
        ended.check(0, "main ends\n");
        let warned: Vec<_> = ended.reports().into_iter().filter(|it| it.contains("unclosed event loop")).collect();
        for name in ["\"dropped\"", "\"set\""] {
            assert_eq!(warned.iter().filter(|text| text.contains(name)).count(), debug, "{ended:#?}");
        }
        assert!(!warned.iter().any(|text| text.contains("\"leaked\"")), "{ended:#?}");
    }
}

/// PO-05: `block_on` can be called again and again, also after one that has panicked or left something behind.
#[test]
fn block_on_again_and_again() {
    let program = Program::new("block_on_again_and_again", || {
        for n in 0..3 {
            block_on(async { drop(forever_with(OnDrop(move || println!("{n}")))) });
        }
        let failed = std::panic::catch_unwind(|| block_on(async { panic!("once") }));
        assert!(failed.is_err());
        block_on(async { println!("once more") });
    });
    program.ends_silently(0, "0\n1\n2\nonce more\n");
}

/// PO-05: a nested `block_on` is refused with the name of the outer loop, and that is the end of main.
#[test]
fn a_nested_block_on() {
    let program = Program::new("a_nested_block_on", || {
        block_on(async {
            drop(forever_with(OnDrop(|| println!("a task is dropped"))));
            yield_now().await;
            block_on(async { println!("never") });
        })
    });
    for program in program.each() {
        let ended = program.end();
        ended.check(101, "a task is dropped\n");
        let text = "block_on(): cannot be called while an event loop is running on this thread: <EventLoop 1 ";
        assert!(ended.stderr.contains(text), "{ended:#?}");
        assert!(ended.stderr.contains("tests/exits.rs"), "the place of the call: {ended:#?}");
    }
}

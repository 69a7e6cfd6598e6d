//! Jobs that fail: each says why, and harms no other.

use roundelay::{ProcessPoolError, ProcessPoolExecutor};
use rustix::process::Signal;
use std::os::unix::process::ExitStatusExt;

use crate::common::{alone, complete, run_until, take_reports};
use crate::functions::{Explosive, Stubborn};
use crate::program::output;
use crate::support::{Gate, is_alive, kill, with_pool};
use crate::threads::{panic_text, wait_until};
use crate::{roles, tests};

tests!(
    an_unknown_function_is_refused,
    arguments_of_another_type,
    arguments_that_cannot_be_serialised,
    a_result_of_another_type,
    a_result_that_cannot_be_serialised,
    a_panic_comes_back,
    a_worker_that_dies_fails_its_job,
    a_killed_worker_fails_its_job_alone,
    an_idle_worker_that_is_killed_is_missed_at_once,
    a_connection_that_a_child_holds,
    an_error_that_nobody_awaits,
    an_error_that_nobody_awaits_outside_of_a_loop,
    errors_of_use,
    errors_have_kinds,
);

fn check(error: &ProcessPoolError, words: &[&str]) {
    let text = error.to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{text:?} does not say {words:?}");
}

/// A name that nobody has registered is refused before anything is sent.
fn an_unknown_function_is_refused() {
    with_pool(1, |el, pool| {
        let job = pool.run::<i64>("subtract", (1, 2));
        assert!(job.is_done());
        let error = complete(el, job).unwrap_err();
        assert!(matches!(&error, ProcessPoolError::UnknownFunction(name) if name == "subtract"), "{error:?}");
        check(&error, &["\"subtract\"", "ProcessFunctions::init()"]);
        assert_eq!(pool.workers(), 0);
    });
}

/// Arguments that the function cannot read: the error names it and the reason; the worker goes on.
fn arguments_of_another_type() {
    with_pool(1, |el, pool| {
        let worker = complete(el, pool.run::<u32>("pid", ())).unwrap();
        let error = complete(el, pool.run::<usize>("length", 5)).unwrap_err();
        assert!(matches!(error, ProcessPoolError::Arguments(_)));
        check(&error, &["arguments of \"length\"", "integer `5`", "string"]);
        for arguments in [&[1][..], &[1, 2, 3]] {
            let error = complete(el, pool.run::<i64>("add", arguments)).unwrap_err();
            check(&error, &["arguments of \"add\""]);
        }
        check(&complete(el, pool.run::<u32>("pid", 1)).unwrap_err(), &["arguments of \"pid\""]);
        assert_eq!(complete(el, pool.run::<u32>("pid", ())).unwrap(), worker);
    });
}

/// Arguments that cannot be serialised: nothing is sent.
fn arguments_that_cannot_be_serialised() {
    with_pool(1, |el, pool| {
        let error = complete(el, pool.run::<usize>("length", Stubborn)).unwrap_err();
        assert!(matches!(error, ProcessPoolError::Arguments(_)));
        check(&error, &["arguments of \"length\"", "it does not want to"]);
        assert_eq!(pool.workers(), 0);
    });
}

/// A result that is not what was asked for, or that panics when it is read.
fn a_result_of_another_type() {
    with_pool(1, |el, pool| {
        let error = complete(el, pool.run::<String>("add", (1, 2))).unwrap_err();
        assert!(matches!(error, ProcessPoolError::Output(_)));
        check(&error, &["result of \"add\"", "integer `3`", "string"]);
        let error = complete(el, pool.run::<Explosive>("add", (1, 2))).unwrap_err();
        check(&error, &["result of \"add\"", "it went off"]);
        assert_eq!(complete(el, pool.run::<i64>("add", (1, 2))).unwrap(), 3);
    });
}

/// A result that cannot be serialised.
fn a_result_that_cannot_be_serialised() {
    with_pool(1, |el, pool| {
        let error = complete(el, pool.run::<()>("stubborn", ())).unwrap_err();
        assert!(matches!(error, ProcessPoolError::Output(_)));
        check(&error, &["result of \"stubborn\"", "it does not want to"]);
    });
}

/// EX-01: a panic of the function, or of what reads its arguments, comes back with its text; the worker goes on.
fn a_panic_comes_back() {
    with_pool(1, |el, pool| {
        let worker = complete(el, pool.run::<u32>("pid", ())).unwrap();
        let error = complete(el, pool.run::<()>("panic", "no more")).unwrap_err();
        assert!(matches!(&error, ProcessPoolError::Panicked(text) if text == "no more"), "{error:?}");
        check(&complete(el, pool.run::<()>("explosive", ())).unwrap_err(), &["panicked: it went off"]);
        assert_eq!(complete(el, pool.run::<u32>("pid", ())).unwrap(), worker);
    });
}

/// API section 7: a worker that ends, in whatever way, fails its job with an error that says how, and is replaced.
fn a_worker_that_dies_fails_its_job() {
    with_pool(1, |el, pool| {
        for (how, code, signal) in
            [("exit", Some(7), None), ("abort", None, Some(6)), ("-KILL", None, Some(9)), ("-TERM", None, Some(15))]
        {
            let before = complete(el, pool.run::<u32>("pid", ())).unwrap();
            let error = complete(el, pool.run::<()>("die", how)).unwrap_err();
            let status = error.worker_status().unwrap();
            assert_eq!((status.code(), status.signal()), (code, signal), "{error}");
            check(&error, &["worker process ended", &status.to_string()]);
            assert!(!is_alive(before));
            assert_ne!(complete(el, pool.run::<u32>("pid", ())).unwrap(), before);
        }
    });
}

/// A worker that is killed from outside fails the job that it runs and no other.
fn a_killed_worker_fails_its_job_alone() {
    with_pool(2, |el, pool| {
        let gate = Gate::new();
        let (one, other) = (gate.job(pool, 1), gate.job(pool, 2));
        let queued = gate.job(pool, 3);
        let (victim, mut survivor) = (gate.arrived(), gate.arrived());
        kill(victim.pid, Signal::KILL);
        run_until(el, || one.is_done() || other.is_done());
        // Which of them came first is not known.
        let (failed, lives) = if one.is_done() { (one, other) } else { (other, one) };
        assert_eq!(complete(el, failed).unwrap_err().worker_status().unwrap().signal(), Some(9));
        assert!(survivor.answers() && !lives.is_done());
        let next = gate.arrived();
        assert_ne!(next.pid, victim.pid);
        next.let_go();
        assert_eq!(complete(el, queued).unwrap(), 3);
        survivor.let_go();
        assert!(complete(el, lives).is_ok());
    });
}

/// A worker that dies while it has nothing to do is missed at once, and fails no job.
fn an_idle_worker_that_is_killed_is_missed_at_once() {
    with_pool(1, |el, pool| {
        for _ in 0..3 {
            let worker = complete(el, pool.run::<u32>("pid", ())).unwrap();
            wait_until(|| format!("{pool:?}").contains("idle: 1"));
            kill(worker, Signal::KILL);
            wait_until(|| pool.workers() == 0);
            assert!(!is_alive(worker));
        }
        // And where the job comes before that was noticed.
        for _ in 0..20 {
            let worker = complete(el, pool.run::<u32>("pid", ())).unwrap();
            kill(worker, Signal::KILL);
            wait_until(|| !is_alive(worker));
            assert_ne!(complete(el, pool.run::<u32>("pid", ())).unwrap(), worker);
        }
    });
}

/// A worker that dies is missed though a child of its own has its connection open.
fn a_connection_that_a_child_holds() {
    with_pool(1, |el, pool| {
        let gate = Gate::new();
        let job = pool.run::<()>("die_with_child", gate.path());
        let waits = gate.arrived();
        assert_eq!(complete(el, job).unwrap_err().worker_status().unwrap().signal(), Some(6));
        assert!(!is_alive(waits.pid));
    });
}

/// An error that nobody awaits goes to the exception handler of the loop in which the job was made.
fn an_error_that_nobody_awaits() {
    with_pool(1, |el, pool| {
        let forgotten = pool.clone();
        complete(el, async move { drop(forgotten.run::<()>("panic", "unheard")) });
        let mut reports = Vec::new();
        run_until(el, || {
            reports.extend(take_reports());
            !reports.is_empty()
        });
        // One that is there already.
        let late = pool.clone();
        complete(el, async move {
            let job = late.run::<()>("die", "exit");
            wait_until(|| job.is_done());
        });
        reports.extend(take_reports());
        assert_eq!(reports.len(), 2, "{reports:#?}");
        assert!(reports.iter().all(|report| {
            report.contains("process pool's job that nobody awaits") && report.contains("process_pool/errors.rs")
        }));
        assert!(reports[0].contains("\"panic\": the function panicked: unheard"), "{reports:#?}");
        assert!(reports[1].contains("\"die\": the worker process ended too early: exit status: 7"), "{reports:#?}");
    });
}

/// Outside of a loop the log has it; where there is none, the standard error.
fn an_error_that_nobody_awaits_outside_of_a_loop() {
    let _alone = alone();
    let shown = roles::command("log").output().unwrap();
    let text = String::from_utf8(shown.stderr).unwrap();
    assert!(shown.status.success() && text.contains("\"die\": the worker process ended too early"), "{text}");
}

/// What is wrong in the program itself panics, and names the method; a program that does not know of workers is refused.
fn errors_of_use() {
    let _alone = alone();
    let functions = ProcessPoolExecutor::functions;
    assert!(panic_text(|| functions().init()).contains("ProcessFunctions::init(): it was called before"));
    let twice = panic_text(|| drop(functions().add("one", |()| ()).add("one", |()| ())));
    assert!(twice.contains("ProcessFunctions::add(): \"one\" was added before"), "{twice}");
    assert!(panic_text(|| drop(ProcessPoolExecutor::new(0))).contains("ProcessPoolExecutor::new()"));
    let builder = ProcessPoolExecutor::builder;
    assert!(panic_text(|| drop(builder().max_workers(0))).contains("ProcessPoolBuilder::max_workers()"));
    assert!(panic_text(|| drop(builder().max_jobs_per_worker(0))).contains("max_jobs_per_worker()"));
    let shown = format!("{:?}", functions().add("b", |()| ()).add("a", |()| ()));
    assert_eq!(shown, "ProcessFunctions([\"a\", \"b\"])");

    let said = String::from_utf8(output(&mut roles::command("without init"))).unwrap();
    assert!(said.starts_with("InvalidInput: ProcessPoolExecutor: no functions were registered"), "{said}");
    assert!(said.contains(".init() at the top of main"), "{said}");
}

/// As an `io::Error`, by `?`.
fn errors_have_kinds() {
    use std::io::ErrorKind;
    with_pool(1, |el, pool| {
        let kind = |function: &str, arguments: &str| {
            std::io::Error::from(complete(el, pool.run::<()>(function, arguments)).unwrap_err()).kind()
        };
        assert_eq!(kind("none", ""), ErrorKind::InvalidInput);
        assert_eq!(kind("add", ""), ErrorKind::InvalidInput);
        assert_eq!(kind("length", ""), ErrorKind::InvalidData);
        assert_eq!(kind("panic", ""), ErrorKind::Other);
        assert_eq!(kind("die", "exit"), ErrorKind::BrokenPipe);
    });
}

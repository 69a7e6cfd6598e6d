//! Worker processes as the system sees them.

use std::fs;
use std::process::Stdio;

use rustix::process::Signal;

use crate::common::{alone, complete};
use crate::functions::Facts;
use crate::program::{Running, output};
use crate::support::{Gate, inherited, is_alive, kill, with_pool};
use crate::threads::wait_until;
use crate::{roles, tests};

tests!(
    a_worker_has_what_it_needs_and_nothing_else,
    a_ctrl_c_is_not_for_workers,
    what_a_worker_prints_is_seen,
    a_program_that_a_worker_starts_is_no_worker,
    a_worker_without_its_connection_does_nothing,
    a_program_that_does_not_come_to_its_call,
    a_program_whose_file_is_gone,
    workers_that_cannot_be_started,
    workers_end_when_their_parent_is_killed,
    a_forked_process_has_no_workers,
);

/// A worker has an empty standard input, one descriptor besides (and nothing of this process's), and the system's signals.
fn a_worker_has_what_it_needs_and_nothing_else() {
    with_pool(2, |el, pool| {
        // Enough to inherit: the loop's own, a file, sockets, and the connection of a worker that is there.
        let gate = Gate::new();
        let job = gate.job(pool, 1);
        let waits = gate.arrived();
        let _file = fs::File::open("/dev/null").unwrap();
        let _pair = std::os::unix::net::UnixStream::pair().unwrap();
        let mut facts: Facts = complete(el, pool.run("facts", ())).unwrap();
        let inherited = inherited();
        facts.descriptors.retain(|descriptor| !inherited.contains(descriptor));
        assert_ne!(facts.pid, waits.pid);
        assert_eq!(facts.parent as u32, std::process::id());
        assert_eq!(facts.stdin, [0; 0]);
        assert_eq!(facts.descriptors.len(), 1, "{facts:?}");
        assert!(facts.descriptors[0].starts_with("socket:"), "{facts:?}");
        assert_eq!(facts.arguments, [std::env::args().next().unwrap(), "--roundelay-worker".to_owned()]);
        let bit = |signal: Signal| 1_u64 << (signal.as_raw() - 1);
        assert_eq!(facts.blocked, 0, "{facts:?}");
        assert_eq!(facts.ignored & (bit(Signal::INT) | bit(Signal::TERM)), bit(Signal::INT), "{facts:?}");
        waits.let_go();
        complete(el, job).unwrap();
    });
}

/// Workers ignore SIGINT, which a terminal sends to all of its processes; SIGTERM ends them.
fn a_ctrl_c_is_not_for_workers() {
    with_pool(1, |el, pool| {
        let gate = Gate::new();
        let job = gate.job(pool, 1);
        let mut waits = gate.arrived();
        kill(waits.pid, Signal::INT);
        assert!(waits.answers());
        kill(waits.pid, Signal::TERM);
        let error = complete(el, job).unwrap_err();
        assert!(error.to_string().contains("signal: 15"), "{error}");
    });
}

/// Standard output is that of this process.
fn what_a_worker_prints_is_seen() {
    let _alone = alone();
    assert_eq!(output(&mut roles::command("print")), b"from a worker\n");
}

/// A program that a function starts inherits the environment of a worker, and is none, also if it is this very program.
fn a_program_that_a_worker_starts_is_no_worker() {
    with_pool(1, |el, pool| {
        assert_eq!(complete(el, pool.run::<String>("program", "hello")).unwrap(), "hello\n");
    });
}

/// A process that is told to be a worker but was not given a connection by its parent does not go on as the program; one
/// that was told so by somebody else does.
fn a_worker_without_its_connection_does_nothing() {
    let _alone = alone();
    let this = std::process::id();
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    for (parent, stdin, is_refused) in [
        (this.to_string(), Stdio::null(), true),
        (this.to_string(), Stdio::piped(), true),
        // A connection that somebody else has made.
        ("1".to_owned(), std::os::fd::OwnedFd::from(socket).into(), false),
        ("1".to_owned(), Stdio::null(), false),
        ("nobody".to_owned(), Stdio::null(), false),
    ] {
        let mut command = roles::command("hello");
        let shown = command.env("ROUNDELAY_WORKER_OF", &parent).stdin(stdin).output().unwrap();
        let text = String::from_utf8(shown.stderr).unwrap();
        assert_eq!(shown.status.code(), Some(i32::from(is_refused)), "{parent}: {text}");
        assert_eq!(text.contains("started as a worker process that is none"), is_refused, "{parent}: {text}");
        assert_eq!(shown.stdout, if is_refused { &b""[..] } else { b"hello\n" });
    }
}

/// A program that does not come to its call as a worker: the job says so.
fn a_program_that_does_not_come_to_its_call() {
    let _alone = alone();
    let said = String::from_utf8(output(&mut roles::command("sometimes"))).unwrap();
    assert!(said.contains("cannot start a worker process") && said.contains("before it came to"), "{said}");
    assert!(said.contains("exit status: 9"), "{said}");
}

/// Workers are of the program that runs, though its file was replaced or removed since.
fn a_program_whose_file_is_gone() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let said = output(std::process::Command::new(&copy).env(roles::VARIABLE, "without file"));
    assert_eq!(String::from_utf8(said).unwrap(), "42\n");
    assert!(!copy.exists());
}

/// A system that is short of something fails the job, and the pool is as good as before.
fn workers_that_cannot_be_started() {
    let _alone = alone();
    let said = String::from_utf8(output(&mut roles::command("without descriptors"))).unwrap();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert!(lines[0].starts_with("cannot start a worker process:") && lines[0].contains("os error 24"), "{said}");
    assert_eq!(lines[0], lines[1]);
    assert_eq!(lines[2], "3");
}

/// Workers end when their parent does, though it was killed: an idle one at once, a busy one when its function returns.
fn workers_end_when_their_parent_is_killed() {
    let _alone = alone();
    let gate = Gate::new();
    let mut parent = Running::start(roles::command("keeps workers").arg(gate.path()));
    let mut busy = gate.arrived();
    let idle: u32 = parent.line().parse().unwrap();
    assert!(is_alive(idle) && is_alive(busy.pid));
    kill(parent.child.id(), Signal::KILL);
    wait_until(|| !is_alive(idle));
    assert!(busy.answers());
    let pid = busy.pid;
    busy.let_go();
    wait_until(|| !is_alive(pid));
}

/// In a child of `fork` a pool of its parent's is closed; to use it there does its parent no harm.
fn a_forked_process_has_no_workers() {
    let _alone = alone();
    output(&mut roles::command("forks"));
}

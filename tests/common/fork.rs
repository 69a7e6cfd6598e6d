//! Processes that are forked: from a program of a test's own, in which nothing else is at work.

#![allow(dead_code, unreachable_pub, unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};

use rustix::process::{Pid, WaitOptions, WaitStatus, waitpid};

use super::common::{alone, run_until};

/// Names, in the environment, the test that the program is to run.
const INSIDE: &str = "ROUNDELAY_FORK";

/// Runs `body` in a process of its own: the test calls this function alone, and is run again by its name. So no other test's
/// thread holds a lock that a child would wait for.
#[track_caller]
pub fn in_own_process(body: impl FnOnce()) {
    let thread = std::thread::current();
    let test = thread.name().expect("a test has a thread of its own, or its name in the environment");
    if let Ok(inside) = std::env::var(INSIDE) {
        assert!(inside == test || test == "main");
        return body();
    }
    let _alone = alone();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(INSIDE, test).stdin(Stdio::null());
    // A child that makes threads, of a process that has some, is not what ThreadSanitizer is made for.
    let options = std::env::var("TSAN_OPTIONS").unwrap_or_default();
    command.env("TSAN_OPTIONS", format!("{options} die_after_fork=0"));
    let output = command.output().unwrap();
    let [told, errors] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert!(told.contains("running 1 test"), "{test:?} was not found: {told}");
    assert!(output.status.success(), "{told}\n{errors}");
}

/// A child of `fork`. Whoever has it waits for it.
#[must_use]
pub struct Child {
    pid: Pid,
    status: Option<WaitStatus>,
}

/// Forks; the child runs `body` and exits. What panics there is told on stderr, and known by the child's status.
pub fn fork(body: impl FnOnce()) -> Child {
    match fork_process() {
        None => exit_with(body),
        Some(child) => child,
    }
}

/// Forks, and returns in both processes: `None` in the child, which has to end by [`exit_with`].
pub fn fork_process() -> Option<Child> {
    // SAFETY: the child has this thread alone, and the other one of the program, libtest's, waits for it and holds no lock.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "{}", std::io::Error::last_os_error());
    Pid::from_raw(pid).map(|pid| Child { pid, status: None })
}

/// Runs `body` and exits, without a look at what else there is in this process's memory.
pub fn exit_with(body: impl FnOnce()) -> ! {
    // One that hangs is ended by a signal.
    // SAFETY: there is nothing to keep to.
    unsafe { libc::alarm(60) };
    let status = if catch_unwind(AssertUnwindSafe(body)).is_ok() { 0 } else { 1 };
    // SAFETY: ends the process.
    unsafe { libc::_exit(status) }
}

impl Child {
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        if self.status.is_none() {
            self.status = waitpid(Some(self.pid), WaitOptions::NOHANG).unwrap().map(|(_, status)| status);
        }
        self.status.is_some()
    }

    /// Waits until it has ended, as it should.
    #[track_caller]
    pub fn wait(mut self) {
        if self.status.is_none() {
            self.status = waitpid(Some(self.pid), WaitOptions::empty()).unwrap().map(|(_, status)| status);
        }
        self.check();
    }

    /// The same, while a loop runs.
    #[track_caller]
    pub fn wait_on(mut self, el: &roundelay::EventLoop) {
        run_until(el, || self.has_ended());
        self.check();
    }

    /// Waits until a signal has ended it.
    #[track_caller]
    pub fn dies_of(mut self, signal: i32) {
        while !self.has_ended() {
            std::thread::yield_now();
        }
        let ended_by = self.status.and_then(|status| status.terminating_signal());
        assert_eq!(ended_by, Some(signal), "{:?}", self.status);
    }

    #[track_caller]
    fn check(&self) {
        let status = self.status.expect("it has ended");
        assert_eq!(status.exit_status(), Some(0), "the child has failed: see above");
    }
}

/// Makes three tests of each function, each in a process of its own: one on each kind of loop.
#[macro_export]
macro_rules! forked {
    ($($(#[$meta:meta])* fn $name:ident($el:ident) $body:block)*) => {
        $($(#[$meta])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            #[allow(unused_variables)]
            fn body($el: &roundelay::EventLoop) $body
            #[test]
            fn epoll() { $crate::fork::in_own_process(|| $crate::common::run($crate::common::Kind::Epoll, false, body)); }
            #[test]
            fn polling() { $crate::fork::in_own_process(|| $crate::common::run($crate::common::Kind::Polling, true, body)); }
            #[test]
            fn level() { $crate::fork::in_own_process(|| $crate::common::run($crate::common::Kind::Level, false, body)); }
        })*
    };
}

//! A child process, and the one place that reaps it.
//!
//! The number of a process is free for another one as soon as it is reaped, so whoever reaps has to be the one who sends
//! signals: that is [`Child`], which has no clones. What merely waits for the end, a descriptor or a thread, reaps nothing.
//! A child that is still running when its `Child` is dropped goes to the orphans, who reap it when it ends.

#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child as StdChild, ExitStatus};
use std::thread;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::constants::WAITER_STACK;
use crate::os::fd::{AsFd, BorrowedFd, OwnedFd};
use crate::os::fork::Home;
use crate::os::unix::{orphans, pidfd};

pub(crate) use libc::{SIGKILL, SIGTERM};

/// What [`Child::try_reap`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Reaped {
    /// It is running.
    NotYet,
    /// It has ended, and was reaped now.
    Now(ExitStatus),
    /// It has ended, and somebody else was told how.
    Elsewhere,
}

pub(crate) struct Child {
    /// `None` once it was reaped.
    inner: Option<StdChild>,
    pid: u32,
    pidfd: Option<OwnedFd>,
    /// Whether it is killed when this is dropped.
    kill_on_drop: bool,
    /// The process whose child it is: a copy of that one, made by `fork`, has nothing to do with it.
    home: Home,
}

impl Child {
    /// Takes a child that was started just now.
    pub(super) fn new(inner: StdChild, kill_on_drop: bool) -> Self {
        let pid = inner.id();
        let pidfd = match pidfd::open(pid) {
            Ok(fd) => Some(fd),
            Err(error) => {
                note!(DEBUG, "roundelay::io", "no descriptor of process {pid}: {error}");
                None
            }
        };
        Self { inner: Some(inner), pid, pidfd, kill_on_drop, home: Home::here() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// What becomes readable when it has ended, where there is such a descriptor.
    pub(crate) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Reaps it if it has ended. Only to be called until it was reaped.
    pub(crate) fn try_reap(&mut self) -> Reaped {
        let Some(inner) = self.inner.as_mut().filter(|_| self.home.is_here()) else { return Reaped::Elsewhere };
        let reaped = try_reap(inner, self.pidfd.as_ref());
        if reaped != Reaped::NotYet {
            self.inner = None;
        }
        reaped
    }

    /// Whether it runs. One that has ended and was not reaped does not.
    pub(crate) fn is_running(&self) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).filter(|_| self.home.is_here());
        self.inner.is_some() && pid.is_some_and(|pid| matches!(waitid(WaitId::Pid(pid), LOOK), Ok(None)))
    }

    /// Sends it a signal; to one that has ended and was not reaped, in vain. `NotFound` once it was reaped, whoever did.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        if self.inner.is_none() || !self.home.is_here() {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.send(signal).map_err(|error| match error.raw_os_error() {
            Some(libc::ESRCH) => io::ErrorKind::NotFound.into(),
            _ => error,
        })
    }

    fn send(&self, signal: i32) -> io::Result<()> {
        if let Some(result) = self.pidfd().and_then(|fd| pidfd::signal(fd, signal)) {
            return result;
        }
        let pid = i32::try_from(self.pid).map_err(|_| io::ErrorKind::InvalidInput)?;
        if !is_child(pid) {
            return Err(io::ErrorKind::NotFound.into());
        }
        // SAFETY: two numbers. The process was not reaped by us, so that its number is nobody else's; if somebody else has
        // reaped it, that of another child at most.
        match unsafe { libc::kill(pid, signal) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.inner.is_none() || !self.home.is_here() {
            return;
        }
        if self.kill_on_drop {
            // One that has ended meanwhile, or has become somebody else's, is reaped all the same.
            let _ = self.signal(SIGKILL);
        }
        if let Some(inner) = self.inner.take() {
            orphans::adopt(Orphan { inner, pidfd: self.pidfd.take() });
        }
    }
}

/// A child that is nobody's any more, and was not reaped.
pub(super) struct Orphan {
    inner: StdChild,
    pidfd: Option<OwnedFd>,
}

impl Orphan {
    pub(super) fn pid(&self) -> u32 {
        self.inner.id()
    }

    /// Reaps it if it has ended: whether it is still to be reaped.
    pub(super) fn is_left(&mut self) -> bool {
        try_reap(&mut self.inner, self.pidfd.as_ref()) == Reaped::NotYet
    }

    /// Reaps it when it ends, for which this waits.
    pub(super) fn reap(mut self) {
        while self.is_left() {
            wait_for_end(self.pid());
        }
    }
}

/// Reaps a child if it has ended: by its descriptor, where there is one. Its number may be that of another child, if somebody
/// else has reaped it.
fn try_reap(child: &mut StdChild, pidfd: Option<&OwnedFd>) -> Reaped {
    loop {
        let waited = match pidfd.and_then(|fd| pidfd::try_wait(fd.as_fd())) {
            Some(waited) => waited,
            None => child.try_wait(),
        };
        match waited {
            Ok(Some(status)) => return Reaped::Now(status),
            Ok(None) => return Reaped::NotYet,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Nobody else's fault is possible with a number, or a descriptor, that is right.
            Err(_) => return Reaped::Elsewhere,
        }
    }
}

/// How a process has ended whose status somebody else has taken: asyncio says 255, too.
pub(crate) fn unknown_status() -> ExitStatus {
    ExitStatus::from_raw(255 << 8)
}

/// The number that stands for an end: what the process has returned, or the signal that has ended it, negative.
pub(crate) fn returncode(status: ExitStatus) -> i32 {
    match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => -signal,
        (None, None) => status.into_raw(),
    }
}

/// Makes a thread that blocks until the process has ended, reaped or not, and then calls `f`.
pub(crate) fn wait_on_thread(pid: u32, f: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name("roundelay_child".into()).stack_size(WAITER_STACK);
    thread.spawn(move || {
        wait_for_end(pid);
        f();
    })?;
    Ok(())
}

/// Whether a process of this number is a child of this one, ended or not.
fn is_child(pid: i32) -> bool {
    let Some(pid) = Pid::from_raw(pid) else { return false };
    waitid(WaitId::Pid(pid), LOOK).err() != Some(rustix::io::Errno::CHILD)
}

/// How to ask for a child's end that is there or is not, and leave it there.
const LOOK: WaitIdOptions = WaitIdOptions::EXITED.union(WaitIdOptions::NOHANG).union(WaitIdOptions::NOWAIT);

fn wait_for_end(pid: u32) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    // Reaped by somebody else it has ended, too.
    while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {}
}

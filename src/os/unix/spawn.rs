//! Starting a program.

#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
pub(crate) use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

use crate::error::StartError;
use crate::os::fd::{AsFd, AsRawFd, OwnedFd};
use crate::os::unix::child::Child;
use crate::os::unix::orphans;

/// The shell that commands are for.
pub(crate) const SHELL: &str = "/bin/sh";

/// What a child runs between `fork` and `exec`.
pub struct PreExec(Box<dyn FnMut() -> io::Result<()> + Send + Sync>);

impl PreExec {
    /// A function that the child calls when everything else was set up, and before the program is loaded. An error of it is
    /// the error of starting.
    ///
    /// ```
    /// use roundelay::{PreExec, create_subprocess_shell};
    ///
    /// roundelay::block_on(async {
    ///     let new_files = || {
    ///         rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    ///         Ok(())
    ///     };
    ///     // SAFETY: it makes one system call, which may be made after a fork.
    ///     let hook = unsafe { PreExec::new(new_files) };
    ///     let shell = create_subprocess_shell("test $(umask) -eq 77").pre_exec(hook).await?;
    ///     assert!(shell.wait().await?.success());
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    ///
    /// # Safety
    ///
    /// As [`CommandExt::pre_exec`](std::os::unix::process::CommandExt::pre_exec): of the process there is only the thread
    /// that runs it, with the memory as it was at the `fork`. So it must neither allocate nor take a lock, and may call only
    /// what may be called in a signal handler.
    pub unsafe fn new(hook: impl FnMut() -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self(Box::new(hook))
    }
}

impl fmt::Debug for PreExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PreExec")
    }
}

/// Where one of a child's three streams leads to.
pub(crate) enum End {
    Inherit,
    Null,
    Fd(OwnedFd),
}

impl End {
    fn into_std(self) -> Stdio {
        match self {
            Self::Inherit => Stdio::inherit(),
            Self::Null => Stdio::null(),
            Self::Fd(fd) => fd.into(),
        }
    }
}

/// What is to be done about a child besides what the standard library's command says.
pub(crate) struct Extras {
    /// Descriptors that it keeps, under their numbers.
    pub(crate) pass_fds: Vec<OwnedFd>,
    pub(crate) new_session: bool,
    pub(crate) hooks: Vec<PreExec>,
    pub(crate) kill_on_drop: bool,
}

/// Starts a program. The descriptors that were for it are closed here.
pub(crate) fn spawn(mut command: Command, streams: [End; 3], extras: Extras) -> io::Result<Child> {
    orphans::reap();
    let Extras { pass_fds, new_session, hooks, kill_on_drop } = extras;
    let [stdin, stdout, stderr] = streams.map(End::into_std);
    command.stdin(stdin).stdout(stdout).stderr(stderr);
    // Only where they are needed: without a hook the library need not copy the process.
    if blocks_signals() {
        // SAFETY: two calls that may be made after a fork.
        unsafe { command.pre_exec(unblock_signals) };
    }
    if new_session {
        // SAFETY: one system call, which may be made after a fork.
        unsafe { command.pre_exec(|| rustix::process::setsid().map(drop).map_err(Into::into)) };
    }
    if !pass_fds.is_empty() {
        // SAFETY: two system calls for each, which may be made after a fork; they are open as long as the command is.
        unsafe { command.pre_exec(move || pass_fds.iter().try_for_each(keep_open)) };
    }
    for PreExec(hook) in hooks {
        // SAFETY: whoever has made it has said that it may be called there.
        unsafe { command.pre_exec(hook) };
    }
    match command.spawn() {
        Ok(child) => Ok(Child::new(child, kill_on_drop)),
        Err(error) => Err(StartError::wrap(&command, error)),
    }
}

fn no_signals() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the call makes a whole set of it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}

/// Whether this thread blocks a signal, as the standard library would have the child do, too.
fn blocks_signals() -> bool {
    const MOST: i32 = 64; // also of those that bear no name
    let mut blocked = no_signals();
    // SAFETY: with no new set the call writes the present one into ours, which the other one reads.
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), &raw mut blocked);
        (1..=MOST).any(|signal| libc::sigismember(&raw const blocked, signal) == 1)
    }
}

/// In a child, which has no signals pending.
fn unblock_signals() -> io::Result<()> {
    let none = no_signals();
    // SAFETY: a set of ours, and nobody asks what it was before.
    match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Lets a descriptor stay open in the program.
fn keep_open(fd: &OwnedFd) -> io::Result<()> {
    let flags = fcntl_getfd(fd)?;
    Ok(fcntl_setfd(fd, flags - FdFlags::CLOEXEC)?)
}

/// Whether a descriptor has the number of one of the three streams.
pub(crate) fn is_stream(fd: &OwnedFd) -> bool {
    fd.as_raw_fd() < 3
}

/// Another descriptor of what the process's own standard output is.
pub(crate) fn own_stdout() -> io::Result<OwnedFd> {
    io::stdout().as_fd().try_clone_to_owned()
}

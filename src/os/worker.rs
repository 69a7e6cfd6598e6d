//! Processes of the same program, which serve the one that has started them.
//!
//! A worker's standard input is its connection to its parent: so it gets one descriptor and no other, by what the standard
//! library does with that stream and without a moment in which other children could inherit it.

#![allow(unsafe_code)]

use std::env;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::process::Pid;
use rustix::time::Timespec;
use socket2::{Socket, Type};

use crate::os::channel::set_nonblocking;
use crate::os::credentials::peer_credentials;
use crate::os::fault::{Call, retry};
use crate::os::fd::{AsFd, BorrowedFd, OwnedFd};
use crate::os::local;

/// Names the parent to a worker, by its number.
const VARIABLE: &str = "ROUNDELAY_WORKER_OF";

/// A worker's only argument: for whoever looks at the list of processes, and so that a program that does not know of
/// workers refuses to start as one.
const ARGUMENT: &str = "--roundelay-worker";

/// The program that this process runs, also when its file was replaced since.
#[cfg(target_os = "linux")]
fn own_program() -> io::Result<PathBuf> {
    Ok(PathBuf::from("/proc/self/exe"))
}

/// The program that this process runs.
#[cfg(not(target_os = "linux"))]
fn own_program() -> io::Result<PathBuf> {
    env::current_exe()
}

/// Starts a worker: the process, and this end of its connection, which does not block.
pub(crate) fn start() -> io::Result<(Child, Socket)> {
    let (ours, theirs) = local::pair(Type::STREAM)?;
    let mut command = Command::new(own_program()?);
    if let Some(name) = env::args_os().next() {
        command.arg0(name);
    }
    command.arg(ARGUMENT).env(VARIABLE, std::process::id().to_string());
    // The command goes at the end of this, and with it the other end.
    let child = command.stdin(Stdio::from(OwnedFd::from(theirs))).spawn()?;
    Ok((child, ours))
}

/// What this process is.
pub(crate) enum Role {
    /// Started as any other.
    Program,
    /// A worker, with its connection.
    Worker(UnixStream),
    /// Started as a worker, but without a connection that can be trusted, for this reason.
    Stray(String),
}

/// Finds out what this process is. A worker's standard input is empty from then on.
///
/// The variable alone says nothing, for what a worker starts inherits it. What counts is the connection: that it was made
/// by that parent and by the same user. A program that runs with more rights than whoever started it is nobody's worker.
pub(crate) fn role() -> Role {
    let Some(parent) = env::var(VARIABLE).ok().and_then(|number| number.parse::<i32>().ok()) else {
        return Role::Program;
    };
    let is_child = rustix::process::getppid().map(Pid::as_raw_pid) == Some(parent);
    match connection(parent) {
        Ok(stream) => Role::Worker(stream),
        // It must not go on as the program itself: that would start its own workers.
        Err(error) if is_child => Role::Stray(error.to_string()),
        Err(_) => Role::Program,
    }
}

fn connection(parent: i32) -> io::Result<UnixStream> {
    let stdin = io::stdin();
    let peer = peer_credentials(stdin.as_fd())?;
    if peer.pid.is_some_and(|pid| pid != parent) || peer.uid != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("its connection is that of {peer:?}")));
    }
    let fd = stdin.as_fd().try_clone_to_owned()?;
    set_nonblocking(fd.as_fd(), false)?;
    let null = File::open("/dev/null")?;
    retry(Call::Option, |_| rustix::stdio::dup2_stdin(&null))?;
    Ok(UnixStream::from(fd))
}

/// Lets a worker outlive the Ctrl-C that is meant for its parent, and end when it is asked to.
pub(crate) fn set_signals() {
    for (signal, disposition) in [(libc::SIGINT, libc::SIG_IGN), (libc::SIGTERM, libc::SIG_DFL)] {
        // SAFETY: neither disposition is a function of ours, and both signals can be ignored and be set to their default.
        unsafe { libc::signal(signal, disposition) };
    }
}

/// Which way a connection is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Direction {
    Receive,
    Send,
}

/// What a wait has ended for; neither, where the time was over.
#[derive(Debug)]
pub(crate) struct Woken {
    pub(crate) connection: bool,
    pub(crate) bell: bool,
}

/// Blocks until a connection can be used, or a bell is heard, or the time is over.
pub(crate) fn wait(
    connection: Option<(BorrowedFd<'_>, Direction)>,
    bell: &Bell,
    time: Option<Duration>,
) -> io::Result<Woken> {
    let time = time.and_then(|time| Timespec::try_from(time).ok());
    let bell = PollFd::new(&bell.hears, PollFlags::IN);
    let both = connection.map(|(fd, direction)| {
        let flags = match direction {
            Direction::Receive => PollFlags::IN,
            Direction::Send => PollFlags::OUT,
        };
        [bell.clone(), PollFd::from_borrowed_fd(fd, flags)]
    });
    let mut alone = [bell];
    let mut both = both;
    let fds = both.as_mut().map_or(&mut alone[..], |both| &mut both[..]);
    retry(Call::Option, |_| rustix::event::poll(fds, time.as_ref()))?;
    let is_woken = |place: usize| fds.get(place).is_some_and(|fd| !fd.revents().is_empty());
    Ok(Woken { connection: is_woken(1), bell: is_woken(0) })
}

/// Wakes a thread that waits on a connection.
#[derive(Debug)]
pub(crate) struct Bell {
    rings: UnixStream,
    hears: UnixStream,
}

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        let (rings, hears) = local::pair(Type::STREAM)?;
        Ok(Self { rings: OwnedFd::from(rings).into(), hears: OwnedFd::from(hears).into() })
    }

    pub(crate) fn ring(&self) {
        // Where there is no more room it has been rung often enough.
        let _ = crate::os::socket::send(&self.rings, &[0]);
    }

    /// Silent again.
    pub(crate) fn hush(&self) {
        let mut rung = [0; 64];
        while matches!((&self.hears).read(&mut rung), Ok(n) if n > 0) {}
    }
}

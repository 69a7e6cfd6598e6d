//! The interface of child processes, and the handle over whatever implements it.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::Location;
use std::pin::Pin;
use std::process::ExitStatus;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::os::child::{SIGKILL, SIGTERM, returncode};
use crate::protocol::subprocess::AnySubprocessProtocol;
use crate::protocol::{BaseTransport, ExtraInfo, Transport, TransportId};

/// What the transport of a child process can do. Implement it for processes that are started elsewhere, and make a
/// [`ProcessHandle`] of it.
pub trait SubprocessTransport: BaseTransport {
    /// The number of the process.
    #[doc(alias = "get_pid")]
    fn pid(&self) -> u32;

    /// How the process has ended; `None` while it runs.
    #[doc(alias = "get_returncode")]
    fn status(&self) -> Option<ExitStatus>;

    /// The transport of a pipe, by the number that it has in the process; `None` where that is no pipe.
    #[doc(alias = "get_pipe_transport")]
    fn pipe_transport(&self, fd: i32) -> Option<Transport>;

    /// Sends a signal to the process.
    ///
    /// # Errors
    ///
    /// `NotFound` where the process has exited; else the operating system's.
    fn send_signal(&self, signal: i32) -> io::Result<()>;

    /// Ready when the process has exited.
    ///
    /// # Errors
    ///
    /// Why nobody will ever hear of that.
    fn wait(&self) -> Pin<Box<dyn Future<Output = io::Result<ExitStatus>>>>;

    /// The protocol that hears of it; `None` once everything is gone.
    #[doc(alias = "get_protocol")]
    fn protocol(&self) -> Option<AnySubprocessProtocol>;

    /// Lets another protocol hear of it.
    fn set_protocol(&self, protocol: AnySubprocessProtocol);
}

/// A handle to a child process: to ask after it, to signal it, to reach its pipes.
///
/// Clones refer to the same process. The loop owns it: it is watched and reaped though nobody holds a handle, and dropping
/// handles ends nothing, unless [`kill_on_drop`](crate::StartSubprocess::kill_on_drop) was asked for. All methods may be
/// called at any time, from a callback, a task or a destructor, and never call the protocol themselves.
#[derive(Clone)]
pub struct ProcessHandle {
    inner: Rc<dyn SubprocessTransport>,
    /// Dropped with the last handle.
    _guard: Option<Rc<dyn Any>>,
}

impl ProcessHandle {
    /// A handle over an implementation.
    pub fn new(inner: Rc<dyn SubprocessTransport>) -> Self {
        Self { inner, _guard: None }
    }

    /// The same, with something that is dropped with the last of the handles that share it.
    pub(crate) fn with_guard(inner: Rc<dyn SubprocessTransport>, guard: Option<Rc<dyn Any>>) -> Self {
        Self { inner, _guard: guard }
    }

    /// The transport's number: a key for maps.
    pub fn id(&self) -> TransportId {
        self.inner.id()
    }

    /// Where the process was started, as with a [`Transport`](crate::Transport::created_at).
    pub fn created_at(&self) -> Option<&'static Location<'static>> {
        self.inner.created_at()
    }

    /// The number of the process. When it has exited another one may get it, so it is no key for long.
    #[doc(alias = "get_pid")]
    pub fn pid(&self) -> u32 {
        self.inner.pid()
    }

    /// How the process has ended, as asyncio says it: what it has returned, or the signal that has ended it, negative; `None`
    /// while it runs. It is 255 where somebody else in this program has reaped the process and nobody can tell.
    #[doc(alias = "get_returncode")]
    pub fn returncode(&self) -> Option<i32> {
        self.status().map(returncode)
    }

    /// How the process has ended; `None` while it runs.
    pub fn status(&self) -> Option<ExitStatus> {
        self.inner.status()
    }

    /// The transport of a pipe, by the number that it has in the process: 0 to write to its standard input, 1 and 2 for its
    /// output and its errors, to pause and to resume them. `None` where that is no pipe; for 2 also where the errors go to
    /// the output.
    ///
    /// Its protocol may be replaced, by [`Transport::into_stream`] for instance: whoever takes a pipe over hears of it from
    /// then on, and the process's own protocol no more; `connection_lost` does not wait for such a pipe.
    #[doc(alias = "get_pipe_transport")]
    pub fn pipe_transport(&self, fd: i32) -> Option<Transport> {
        self.inner.pipe_transport(fd)
    }

    /// Sends a signal to the process: a [`SignalKind`](crate::SignalKind), or its number.
    ///
    /// Where the system has descriptors of processes (Linux) it hits this process or none. Elsewhere it goes by the number:
    /// if somebody else in this program has reaped the process, and another child of this program has got its number before
    /// the loop has heard of that, that one is hit. A process that is no child of this program never is. The same holds for
    /// [`close`](Self::close) and [`kill_on_drop`](crate::StartSubprocess::kill_on_drop).
    ///
    /// # Errors
    ///
    /// `NotFound` once the process has exited, as far as the loop has heard; `InvalidInput` for what is no signal;
    /// `PermissionDenied` for a process that runs as somebody else now.
    pub fn send_signal(&self, signal: impl Into<i32>) -> io::Result<()> {
        self.inner.send_signal(signal.into())
    }

    /// Asks the process to end: sends `SIGTERM`.
    ///
    /// # Errors
    ///
    /// As [`send_signal`](Self::send_signal).
    pub fn terminate(&self) -> io::Result<()> {
        self.inner.send_signal(SIGTERM)
    }

    /// Ends the process: sends `SIGKILL`.
    ///
    /// # Errors
    ///
    /// As [`send_signal`](Self::send_signal).
    pub fn kill(&self) -> io::Result<()> {
        self.inner.send_signal(SIGKILL)
    }

    /// Waits until the process has exited; also while somebody else still has its pipes. Several may wait, and whoever gives
    /// up changes nothing.
    ///
    /// A process that reads its standard input until the end waits for that to be closed; one that writes much waits for
    /// somebody who reads.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`](crate::LoopClosed) as an `io::Error` if the loop is closed before.
    pub fn wait(&self) -> Exited {
        Exited { future: self.inner.wait() }
    }

    /// Closes the pipes, and kills the process if it is running. `process_exited` and `connection_lost` come as usual. What
    /// is queued for the process's input is for whoever else may read it.
    pub fn close(&self) {
        self.inner.close();
    }

    /// As [`close`](Self::close), and what is queued for the process is dropped.
    pub fn abort(&self) {
        self.inner.abort();
    }

    /// Whether it was closed, or has come to its end.
    pub fn is_closing(&self) -> bool {
        self.inner.is_closing()
    }

    /// Lets another protocol hear of the process from now on; `connection_made` is not called again. Called from within a
    /// callback, it takes effect when that returns.
    pub fn set_protocol(&self, protocol: impl Into<AnySubprocessProtocol>) {
        self.inner.set_protocol(protocol.into());
    }

    /// The protocol that hears of the process; `None` once everything is gone.
    #[doc(alias = "get_protocol")]
    pub fn protocol(&self) -> Option<AnySubprocessProtocol> {
        self.inner.protocol()
    }

    /// What is known of the process.
    #[doc(alias = "get_extra_info")]
    pub fn extra_info(&self) -> ExtraInfo {
        self.inner.extra_info()
    }
}

impl fmt::Debug for ProcessHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PartialEq for ProcessHandle {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for ProcessHandle {}

/// The future of [`ProcessHandle::wait`] and of [`Process::wait`](crate::Process::wait).
#[must_use = "futures do nothing unless they are awaited"]
pub struct Exited {
    future: Pin<Box<dyn Future<Output = io::Result<ExitStatus>>>>,
}

impl Future for Exited {
    type Output = io::Result<ExitStatus>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

impl fmt::Debug for Exited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exited")
    }
}

//! Child processes as streams.

use std::ffi::OsStr;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::process::ExitStatus;
use std::task::{Context, Poll};

use crate::constants::STREAM_LIMIT;
use crate::error::invalid_input;
use crate::event_loop::EventLoop;
use crate::event_loop::tasks::BoxFuture;
use crate::executor::required_loop;
use crate::process::{Settings, Stdio, process_settings, start};
use crate::protocol::{AnySubprocessProtocol, Exited, ProcessHandle, SubprocessProtocol, Transport};
use crate::stream::{StreamProtocol, StreamReader, StreamWriter, check_limit};

/// A child process that is about to be started: see [`create_subprocess_exec`] and [`create_subprocess_shell`]. Await it.
#[must_use = "nothing happens before it is awaited"]
pub struct CreateSubprocess {
    el: EventLoop,
    settings: Settings,
    limit: usize,
}

fn all_inherited() -> [Stdio; 3] {
    [Stdio::inherit(), Stdio::inherit(), Stdio::inherit()]
}

/// Starts a program. Its standard streams are those of this process, unless it is said otherwise.
#[track_caller]
pub fn create_subprocess_exec(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item: AsRef<OsStr>>,
) -> CreateSubprocess {
    let el = required_loop("create_subprocess_exec");
    let settings = Settings::exec("create_subprocess_exec", program, args, all_inherited());
    CreateSubprocess { el, settings, limit: STREAM_LIMIT }
}

/// As [`create_subprocess_exec`], of a command for the shell, `/bin/sh -c`.
#[track_caller]
pub fn create_subprocess_shell(command: impl AsRef<OsStr>) -> CreateSubprocess {
    let el = required_loop("create_subprocess_shell");
    let settings = Settings::shell("create_subprocess_shell", command, all_inherited());
    CreateSubprocess { el, settings, limit: STREAM_LIMIT }
}

impl CreateSubprocess {
    process_settings!(settings);

    /// The limit of the readers, in bytes (64 KiB).
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}

impl fmt::Debug for CreateSubprocess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateSubprocess").field("settings", &self.settings).field("limit", &self.limit).finish()
    }
}

impl IntoFuture for CreateSubprocess {
    type Output = io::Result<Process>;
    type IntoFuture = CreatingSubprocess;

    fn into_future(self) -> CreatingSubprocess {
        let Self { el, settings, limit } = self;
        CreatingSubprocess {
            future: Box::pin(async move {
                check_limit(settings.method, limit)?;
                settings.check(&el)?;
                let handle = start(&el, settings, AnySubprocessProtocol::new(Unheard)).await?;
                Ok(Process::new(&el, handle, limit))
            }),
        }
    }
}

/// The future of [`CreateSubprocess`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct CreatingSubprocess {
    future: BoxFuture<io::Result<Process>>,
}

impl Future for CreatingSubprocess {
    type Output = io::Result<Process>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

impl fmt::Debug for CreatingSubprocess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CreatingSubprocess")
    }
}

/// The pipes have protocols of their own, and the end is waited for.
struct Unheard;

impl SubprocessProtocol for Unheard {}

/// A child process with its standard streams.
pub struct Process {
    /// Writes to the process's standard input, if that is a pipe. Dropped, it is closed, and the process comes to the end of
    /// its input.
    pub stdin: Option<StreamWriter>,
    /// Reads what the process writes to its output, if that is a pipe. Dropped, it is closed.
    pub stdout: Option<StreamReader>,
    /// The same for what it writes to its errors.
    pub stderr: Option<StreamReader>,
    handle: ProcessHandle,
}

impl Process {
    fn new(el: &EventLoop, handle: ProcessHandle, limit: usize) -> Self {
        let halves = |transport: Transport| {
            let protocol = StreamProtocol::new(el, limit, None);
            protocol.attach(&transport);
            let halves = protocol.droppable_halves(&transport);
            transport.start_protocol_with(protocol.into(), &[]);
            halves
        };
        let reader = |fd| Some(halves(handle.pipe_transport(fd)?).0);
        let stdin = handle.pipe_transport(0).map(|transport| halves(transport).1);
        let (stdout, stderr) = (reader(1), reader(2));
        Self { stdin, stdout, stderr, handle }
    }

    /// The process, for those who have callbacks, or no `&mut`.
    pub fn handle(&self) -> &ProcessHandle {
        &self.handle
    }

    /// The number of the process.
    pub fn pid(&self) -> u32 {
        self.handle.pid()
    }

    /// See [`ProcessHandle::returncode`].
    pub fn returncode(&self) -> Option<i32> {
        self.handle.returncode()
    }

    /// How the process has ended; `None` while it runs.
    pub fn status(&self) -> Option<ExitStatus> {
        self.handle.status()
    }

    /// Waits until the process has exited.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`](crate::LoopClosed) as an `io::Error` if the loop is closed before.
    pub fn wait(&self) -> Exited {
        self.handle.wait()
    }

    /// Writes `input` to the process, closes its input, reads its output and its errors to their ends, and waits for it.
    ///
    /// # Errors
    ///
    /// Those of reading.
    pub async fn communicate(&mut self, input: Option<&[u8]>) -> io::Result<(Option<Vec<u8>>, Option<Vec<u8>>)> {
        if input.is_some() && self.stdin.is_none() {
            return Err(invalid_input("Process::communicate(): there is input, and stdin is no pipe, or was taken"));
        }
        if let Some(mut stdin) = self.stdin.take() {
            // The loop goes on with it; a process that does not want it is no error.
            stdin.write(input.unwrap_or_default());
            stdin.close();
        }
        let (out, err) = both(to_end(&mut self.stdout), to_end(&mut self.stderr)).await;
        let (out, err) = (out?, err?);
        self.wait().await?;
        Ok((out, err))
    }

    /// Sends a signal: see [`ProcessHandle::send_signal`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_signal(&self, signal: impl Into<i32>) -> io::Result<()> {
        self.handle.send_signal(signal)
    }

    /// Asks the process to end: sends `SIGTERM`.
    ///
    /// # Errors
    ///
    /// As [`ProcessHandle::send_signal`].
    pub fn terminate(&self) -> io::Result<()> {
        self.handle.terminate()
    }

    /// Ends the process: sends `SIGKILL`.
    ///
    /// # Errors
    ///
    /// As [`ProcessHandle::send_signal`].
    pub fn kill(&self) -> io::Result<()> {
        self.handle.kill()
    }
}

async fn to_end(reader: &mut Option<StreamReader>) -> io::Result<Option<Vec<u8>>> {
    match reader {
        Some(reader) => reader.read_to_end().await.map(Some),
        None => Ok(None),
    }
}

/// The outputs of two futures that make progress side by side.
async fn both<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut a_is, mut b_is) = (None, None);
    poll_fn(|cx| {
        if a_is.is_none() {
            if let Poll::Ready(output) = a.as_mut().poll(cx) {
                a_is = Some(output);
            }
        }
        if b_is.is_none() {
            if let Poll::Ready(output) = b.as_mut().poll(cx) {
                b_is = Some(output);
            }
        }
        match (a_is.take(), b_is.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (a_is, b_is) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Process {:?}>", self.handle)
    }
}

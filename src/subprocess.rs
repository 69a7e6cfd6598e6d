//! Child processes as streams.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::process::{ExitStatus, Output};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::constants::STREAM_LIMIT;
use crate::error::invalid_input;
use crate::event_loop::EventLoop;
use crate::event_loop::tasks::BoxFuture;
use crate::executor::LaterLoop;
use crate::process::{Settings, Stdio, process_settings, start};
use crate::protocol::{AnySubprocessProtocol, Exited, ProcessHandle, SubprocessProtocol};
use crate::stream::{StreamProtocol, StreamReader, StreamWriter, check_limit};

/// A child process that is about to be started: see [`create_subprocess_exec`] and [`create_subprocess_shell`]. Await it.
#[must_use = "nothing happens before it is awaited"]
pub struct CreateSubprocess {
    el: LaterLoop,
    settings: Settings,
    limit: usize,
}

fn all_inherited() -> [Stdio; 3] {
    [Stdio::inherit(), Stdio::inherit(), Stdio::inherit()]
}

/// Starts a program. Its standard streams are those of this process, unless it is said otherwise; those that are
/// [pipes](Stdio::piped) are streams of the [`Process`].
///
/// See [`EventLoop::subprocess_exec`] for how it is started and watched. Dropping the future before it is ready kills the
/// process; the loop reaps it all the same.
///
/// ```
/// use roundelay::{Stdio, create_subprocess_exec};
///
/// roundelay::block_on(async {
///     let mut sort = create_subprocess_exec("sort", ["-n"]).stdin(Stdio::piped()).stdout(Stdio::piped()).await?;
///     let (output, _) = sort.communicate(Some(b"10\n9\n")).await?;
///     assert_eq!(output.unwrap(), b"9\n10\n");
///     assert_eq!(sort.returncode(), Some(0));
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
///
/// Its streams by the traits of the `futures` crate:
///
/// ```
/// use futures::{AsyncReadExt, AsyncWriteExt};
/// use roundelay::{Stdio, create_subprocess_exec};
///
/// roundelay::block_on(async {
///     let mut upper = create_subprocess_exec("tr", ["a-z", "A-Z"]).stdin(Stdio::piped()).stdout(Stdio::piped()).await?;
///     let mut input = upper.stdin.take().unwrap().compat();
///     input.write_all(b"quietly\n").await?;
///     input.close().await?;
///     let mut output = String::new();
///     upper.stdout.take().unwrap().compat().read_to_string(&mut output).await?;
///     assert_eq!(output, "QUIETLY\n");
///     upper.wait().await?;
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
///
/// # Errors
///
/// As [`EventLoop::subprocess_exec`]; `InvalidInput` for a limit of zero.
///
/// # Panics
///
/// If it is awaited outside of a running event loop.
#[track_caller]
pub fn create_subprocess_exec(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item: AsRef<OsStr>>,
) -> CreateSubprocess {
    let el = LaterLoop::new("create_subprocess_exec");
    let settings = Settings::exec("create_subprocess_exec", program, args, all_inherited());
    CreateSubprocess { el, settings, limit: STREAM_LIMIT }
}

/// As [`create_subprocess_exec`], of a command for the shell: `/bin/sh -c`.
///
/// Whoever has a say in a part of the command can have the shell run whatever they like: see
/// [`EventLoop::subprocess_shell`].
///
/// ```
/// use roundelay::{Stdio, create_subprocess_shell};
///
/// roundelay::block_on(async {
///     let mut shell = create_subprocess_shell("echo $((6 * 7)); exit 3").stdout(Stdio::piped()).await?;
///     let line = shell.stdout.as_mut().unwrap().readline().await?;
///     assert_eq!(line, b"42\n");
///     assert_eq!(shell.wait().await?.code(), Some(3));
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
///
/// # Errors
///
/// As [`EventLoop::subprocess_shell`]; `InvalidInput` for a limit of zero.
///
/// # Panics
///
/// If it is awaited outside of a running event loop.
#[track_caller]
pub fn create_subprocess_shell(command: impl AsRef<OsStr>) -> CreateSubprocess {
    let el = LaterLoop::new("create_subprocess_shell");
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
                let el = el.get();
                check_limit(settings.method, limit)?;
                settings.check(&el)?;
                let streams = Rc::<RefCell<Streams>>::default();
                let protocol = Attaching { el: Some(el.clone()), limit, streams: streams.clone() };
                let handle = start(&el, settings, AnySubprocessProtocol::new(protocol)).await?;
                let Streams { stdin, stdout, stderr } = streams.take();
                Ok(Process { stdin, stdout, stderr, handle })
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

/// Gives the pipes protocols of their own before anything is read from them. The rest is waited for.
struct Attaching {
    /// `None` once that is done: the loop has this, and not the other way round.
    el: Option<EventLoop>,
    limit: usize,
    streams: Rc<RefCell<Streams>>,
}

/// Until somebody takes them.
#[derive(Default)]
struct Streams {
    stdin: Option<StreamWriter>,
    stdout: Option<StreamReader>,
    stderr: Option<StreamReader>,
}

impl SubprocessProtocol for Attaching {
    fn connection_made(&mut self, process: &ProcessHandle) {
        let Some(el) = self.el.take() else { return };
        let halves = |fd| {
            let transport = process.pipe_transport(fd)?;
            let protocol = StreamProtocol::new(&el, self.limit, None);
            protocol.attach(&transport);
            let halves = protocol.droppable_halves(&transport);
            transport.start_protocol_with(protocol.into(), &[]);
            Some(halves)
        };
        let stdin = halves(0).map(|(_, writer)| writer);
        let [stdout, stderr] = [1, 2].map(|fd| halves(fd).map(|(reader, _)| reader));
        self.streams.replace(Streams { stdin, stdout, stderr });
    }
}

/// A child process with its standard streams. Made by [`create_subprocess_exec`] and [`create_subprocess_shell`].
///
/// Dropping it closes the streams that were not taken out; the process goes on and is reaped by the loop, unless
/// [`kill_on_drop`](CreateSubprocess::kill_on_drop) was asked for.
pub struct Process {
    /// Writes to the process's standard input, if that is a pipe. When it is closed or dropped, and what is queued was
    /// written, the process comes to the end of its input. Writing to a process that does not read any more gives, by
    /// [`drain`](StreamWriter::drain), a `BrokenPipe`.
    pub stdin: Option<StreamWriter>,
    /// Reads what the process writes to its output, if that is a pipe. Once it is dropped, the process gets a `SIGPIPE` for
    /// what it writes.
    pub stdout: Option<StreamReader>,
    /// The same for what it writes to its errors.
    pub stderr: Option<StreamReader>,
    handle: ProcessHandle,
}

impl Process {
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

    /// Waits until the process has exited; also while somebody else, such as a child of its own, still has its pipes. Several
    /// may wait, and whoever gives up changes nothing. The future borrows nothing, so that the streams can be used meanwhile.
    ///
    /// It does nothing for the process to come to its end: one that reads its input until the end waits for
    /// [`stdin`](Self::stdin) to be closed, and one that writes much for somebody who reads. [`communicate`](Self::communicate)
    /// sees to both.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`](crate::LoopClosed) as an `io::Error` if the loop is closed before.
    pub fn wait(&self) -> Exited {
        self.handle.wait()
    }

    /// Writes `input` to the process and closes its input, reads its output and its errors to their ends, and waits for it.
    /// What is no pipe, or was taken out, gives `None`.
    ///
    /// All that is read is kept in memory. A process that does not read its input, or ends before it has read all of it, is
    /// no error. Dropped before it is ready, the future loses nothing of what was read: another call, without input, goes on.
    ///
    /// # Errors
    ///
    /// Those of reading. `InvalidInput` if there is input for a process whose input is no pipe, or was closed before.
    pub async fn communicate(&mut self, input: Option<&[u8]>) -> io::Result<(Option<Vec<u8>>, Option<Vec<u8>>)> {
        if input.is_some() && self.stdin.is_none() {
            return Err(invalid_input("Process::communicate(): there is input, and stdin is no pipe, or is closed"));
        }
        if let Some(mut stdin) = self.stdin.take() {
            // The loop goes on with it; a process that does not want it is no error.
            stdin.write(input.unwrap_or_default());
            stdin.close();
        }
        // Nothing is taken from the readers before there is nothing more to wait for.
        poll_fn(|cx| {
            let (out, err) = (poll_end(&self.stdout, cx), poll_end(&self.stderr, cx));
            ready!(out)?;
            err
        })
        .await?;
        self.wait().await?;
        Ok((rest(&mut self.stdout).await?, rest(&mut self.stderr).await?))
    }

    /// As [`communicate`](Self::communicate) without input, in the shape of the standard library's
    /// [`Command::output`](std::process::Command::output).
    ///
    /// ```
    /// use roundelay::{Stdio, create_subprocess_exec};
    ///
    /// roundelay::block_on(async {
    ///     let mut echo = create_subprocess_exec("echo", ["hello"]).stdout(Stdio::piped()).await?;
    ///     let output = echo.output().await?;
    ///     assert!(output.status.success());
    ///     assert_eq!(output.stdout, b"hello\n");
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// As [`communicate`](Self::communicate).
    pub async fn output(&mut self) -> io::Result<Output> {
        let (stdout, stderr) = self.communicate(None).await?;
        let status = self.wait().await?;
        Ok(Output { status, stdout: stdout.unwrap_or_default(), stderr: stderr.unwrap_or_default() })
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

/// Ready when everything has arrived that a stream will bring.
fn poll_end(reader: &Option<StreamReader>, cx: &Context<'_>) -> Poll<io::Result<()>> {
    match reader {
        Some(reader) => reader.poll_for(cx, |buffer| buffer.eof.then_some(())),
        None => Poll::Ready(Ok(())),
    }
}

/// What has arrived and was not read.
async fn rest(reader: &mut Option<StreamReader>) -> io::Result<Option<Vec<u8>>> {
    match reader {
        Some(reader) => reader.read_to_end().await.map(Some),
        None => Ok(None),
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Process {:?}>", self.handle)
    }
}

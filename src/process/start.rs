//! Starting a child with a protocol.

use std::any::type_name;
use std::ffi::OsStr;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::event_loop::EventLoop;
use crate::event_loop::tasks::BoxFuture;
use crate::event_loop::timer::yield_once;
use crate::process::settings::{Settings, process_settings};
use crate::process::stdio::Stdio;
use crate::process::transport::ChildTransport;
use crate::protocol::{AnySubprocessProtocol, BaseTransport, ProcessHandle, ProtocolRef, SubprocessProtocol};

/// A child process that is about to be started: see [`EventLoop::subprocess_exec`] and [`EventLoop::subprocess_shell`].
/// Await it.
#[must_use = "nothing happens before it is awaited"]
pub struct StartSubprocess<F> {
    el: EventLoop,
    factory: F,
    settings: Settings,
}

fn all_piped() -> [Stdio; 3] {
    [Stdio::piped(), Stdio::piped(), Stdio::piped()]
}

impl EventLoop {
    /// Starts a program, and lets a protocol hear of its process. Each of its three standard streams is a pipe, unless it is
    /// said otherwise.
    ///
    /// `program` is a path, or a name that is looked for in `PATH`; no shell sees it or its arguments. `connection_made` has
    /// been called when the future is ready. Dropping the future before kills the process; the loop reaps it all the same.
    ///
    /// The loop is blocked while the program is started, as in asyncio: for the time of a `fork` and an `exec`, most often
    /// less than a millisecond. The process begins with no signal blocked; of those that this process ignores only `SIGPIPE`
    /// is not ignored there. Descriptors that are close-on-exec, as all are that Rust opens, stay unknown to it.
    ///
    /// The loop hears of the end by a descriptor of the process where the system has such (Linux), else by a thread that
    /// waits for it; no signal handler is installed, and no child but the loop's own is ever waited for. A process that
    /// outlives its loop goes on, but for [`kill_on_drop`](StartSubprocess::kill_on_drop), and is reaped when it ends;
    /// [`block_on`](crate::block_on) [closes](ProcessHandle::close) what still runs at its end.
    ///
    /// # Errors
    ///
    /// A [`StartError`](crate::StartError) within an `io::Error` of the operating system's kind: where the program is not
    /// found (`NotFound`) or is none (`PermissionDenied`), and of [`pre_exec`](StartSubprocess::pre_exec). The operating
    /// system's for want of descriptors or threads. `InvalidInput` for settings that do not go together, and where it is
    /// awaited in another loop; [`LoopClosed`](crate::LoopClosed) as an `io::Error`.
    ///
    /// ```
    /// use roundelay::{ProcessHandle, SubprocessProtocol};
    ///
    /// #[derive(Default)]
    /// struct Collect(Vec<u8>);
    ///
    /// impl SubprocessProtocol for Collect {
    ///     fn connection_made(&mut self, process: &ProcessHandle) {
    ///         let stdin = process.pipe_transport(0).unwrap();
    ///         stdin.write(b"pears\napples\n");
    ///         stdin.close();
    ///     }
    ///
    ///     fn pipe_data_received(&mut self, _: &ProcessHandle, _: i32, data: &[u8]) {
    ///         self.0.extend_from_slice(data);
    ///     }
    /// }
    ///
    /// roundelay::block_on(async {
    ///     let el = roundelay::get_running_loop()?;
    ///     let (process, protocol) = el.subprocess_exec(Collect::default, "sort", ["-r"]).await?;
    ///     assert!(process.wait().await?.success());
    ///     // What it has written may come after its end.
    ///     while process.protocol().is_some() {
    ///         roundelay::yield_now().await;
    ///     }
    ///     protocol.with(|collect| assert_eq!(collect.0, b"pears\napples\n"));
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    #[track_caller]
    pub fn subprocess_exec<F, P>(
        &self,
        factory: F,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item: AsRef<OsStr>>,
    ) -> StartSubprocess<F>
    where
        F: FnOnce() -> P + 'static,
        P: SubprocessProtocol,
    {
        let settings = Settings::exec("subprocess_exec", program, args, all_piped());
        StartSubprocess { el: self.clone(), factory, settings }
    }

    /// As [`subprocess_exec`](Self::subprocess_exec), of a command for the shell: `/bin/sh -c`.
    ///
    /// Whoever has a say in a part of the command can have the shell run whatever they like: what comes from outside has to
    /// be quoted, for instance by the crate `shlex`, or better be an argument of `subprocess_exec`. A signal goes to the shell,
    /// which may have started others that go on without it.
    ///
    /// # Errors
    ///
    /// As [`subprocess_exec`](Self::subprocess_exec). A program that the shell does not find is no error here: the shell says
    /// so, and returns 127.
    #[track_caller]
    pub fn subprocess_shell<F, P>(&self, factory: F, command: impl AsRef<OsStr>) -> StartSubprocess<F>
    where
        F: FnOnce() -> P + 'static,
        P: SubprocessProtocol,
    {
        let settings = Settings::shell("subprocess_shell", command, all_piped());
        StartSubprocess { el: self.clone(), factory, settings }
    }
}

impl<F> StartSubprocess<F> {
    process_settings!(settings);
}

impl<F> fmt::Debug for StartSubprocess<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartSubprocess").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl<F, P> IntoFuture for StartSubprocess<F>
where
    F: FnOnce() -> P + 'static,
    P: SubprocessProtocol,
{
    type Output = io::Result<(ProcessHandle, ProtocolRef<P>)>;
    type IntoFuture = StartingSubprocess<P>;

    fn into_future(self) -> StartingSubprocess<P> {
        let Self { el, factory, settings } = self;
        StartingSubprocess {
            future: Box::pin(async move {
                settings.check(&el)?;
                let protocol = ProtocolRef::new(factory());
                Ok((start(&el, settings, protocol.clone().into()).await?, protocol))
            }),
        }
    }
}

/// The future of [`StartSubprocess`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct StartingSubprocess<P> {
    future: BoxFuture<io::Result<(ProcessHandle, ProtocolRef<P>)>>,
}

impl<P> Future for StartingSubprocess<P> {
    type Output = io::Result<(ProcessHandle, ProtocolRef<P>)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

impl<P> fmt::Debug for StartingSubprocess<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StartingSubprocess<{}>", type_name::<P>())
    }
}

/// Kills a child that nobody has taken over.
struct Unclaimed(Option<Rc<ChildTransport>>);

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(child) = self.0.take() {
            child.abort();
        }
    }
}

/// Starts a child whose settings were checked, and lets its protocol hear of it. Nothing has been read when this is ready.
pub(crate) async fn start(
    el: &EventLoop,
    settings: Settings,
    protocol: AnySubprocessProtocol,
) -> io::Result<ProcessHandle> {
    let (child, handle) = ChildTransport::open(el, settings, protocol)?;
    // `connection_made` has a turn of its own, which comes before this task's next one.
    let mut unclaimed = Unclaimed(Some(child.clone()));
    child.make_connection_soon();
    while !child.is_made() {
        yield_once().await;
    }
    // What `connection_made` has scheduled comes first, too; and then this, before anything that arrives.
    yield_once().await;
    unclaimed.0 = None;
    Ok(handle)
}

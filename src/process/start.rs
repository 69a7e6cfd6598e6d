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
    /// Starts a program, and lets a protocol hear of its process. Its three standard
    /// streams are pipes, unless it is said otherwise.
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

    /// As [`subprocess_exec`](Self::subprocess_exec), of a command for the shell, `/bin/sh -c`.
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

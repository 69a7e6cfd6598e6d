//! Foreign loops, with one of ours inside. Included by path, beside `common`.

#![allow(dead_code, unreachable_pub)]

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use futures::future::Either;
use roundelay::{AsyncIoHost, Drive, DriveError, EventLoop, TokioHost};
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::common::{PATIENCE, alone};

/// A way to live inside of another loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// A tokio runtime of one thread, in its `block_on`.
    Tokio,
    /// One of several threads: another one than ours may wait for descriptors and timers.
    TokioThreads,
    /// A local task of tokio's.
    TokioTask,
    /// async-io's `block_on`, which is smol's, too.
    AsyncIo,
    /// A local task of smol's.
    SmolTask,
    /// An executor that knows nothing of async-io, whose own thread waits.
    Futures,
    /// A loop around `poll`.
    Poll,
    /// A loop that is woken by the hook.
    Hook,
}

/// Those in which the loop is a future.
pub const DRIVING: [Host; 6] =
    [Host::Tokio, Host::TokioThreads, Host::TokioTask, Host::AsyncIo, Host::SmolTask, Host::Futures];

/// All of them.
pub const HOSTS: [Host; 8] = [
    Host::Tokio,
    Host::TokioThreads,
    Host::TokioTask,
    Host::AsyncIo,
    Host::SmolTask,
    Host::Futures,
    Host::Poll,
    Host::Hook,
];

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// As [`alone`], with what async-io opens for the whole process opened already.
pub fn alone_with_hosts() -> MutexGuard<'static, ()> {
    let guard = alone();
    async_io::block_on(async_io::Timer::after(Duration::from_millis(2)));
    guard
}

impl Host {
    /// Runs our future in our loop in this host.
    pub fn complete<T: 'static>(
        self,
        el: &EventLoop,
        future: impl Future<Output = T> + 'static,
    ) -> Result<T, DriveError> {
        match self {
            Self::Poll | Self::Hook => {
                let stopped = Rc::new(Cell::new(None));
                let task = el.create_task(future);
                let result = stopped.clone();
                drop(el.create_task(async move { result.set(Some(task.await)) }));
                let ended =
                    if self == Self::Poll { by_poll(el, || stopped.take()) } else { by_hook(el, || stopped.take()) };
                ended.map_or(Err(DriveError::Stopped), |result| Ok(result.unwrap()))
            }
            _ => self.drive(|| match self {
                Self::Tokio | Self::TokioThreads | Self::TokioTask => el.drive_until(TokioHost::new(), future),
                _ => el.drive_until(AsyncIoHost::new(), future),
            }),
        }
    }

    /// Awaits what `drive` makes.
    pub fn drive<T: 'static>(self, drive: impl FnOnce() -> Drive<'static, T>) -> Result<T, DriveError> {
        self.block_on(async { drive().await })
    }

    /// The host's own sleep.
    pub async fn sleep(self, time: Duration) {
        match self {
            Self::Tokio | Self::TokioThreads | Self::TokioTask => tokio::time::sleep(time).await,
            _ => _ = async_io::Timer::after(time).await,
        }
    }

    /// Awaits a future of the host's; fails after [`PATIENCE`].
    pub fn block_on<T: 'static>(self, future: impl Future<Output = T>) -> T {
        let future = async {
            match futures::future::select(pin!(future), pin!(self.sleep(PATIENCE))).await {
                Either::Left((output, _)) => output,
                Either::Right(_) => panic!("not done in time in {self:?}"),
            }
        };
        match self {
            Self::Tokio => runtime().block_on(future),
            Self::TokioThreads => {
                let builder = &mut tokio::runtime::Builder::new_multi_thread();
                builder.worker_threads(1).enable_all().build().unwrap().block_on(future)
            }
            Self::TokioTask => tokio::task::LocalSet::new().block_on(&runtime(), future),
            Self::AsyncIo => async_io::block_on(future),
            Self::SmolTask => smol::block_on(smol::LocalExecutor::new().run(future)),
            Self::Futures => futures::executor::block_on(future),
            Self::Poll | Self::Hook => panic!("{self:?} awaits nothing"),
        }
    }
}

/// A loop around `poll`, as a program in C has it, until there is a result; `None` if nothing happens for long.
pub fn by_poll<T>(el: &EventLoop, mut result: impl FnMut() -> Option<T>) -> Option<T> {
    loop {
        let timeout = el.next_timeout().unwrap_or(PATIENCE);
        let fd = std::os::fd::AsFd::as_fd(el);
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        let ready = rustix::event::poll(&mut fds, Some(&Timespec::try_from(timeout).unwrap())).unwrap();
        if ready == 0 && timeout == PATIENCE {
            return None;
        }
        el.run_once(Some(Duration::ZERO)).unwrap();
        if let Some(result) = result() {
            return Some(result);
        }
    }
}

/// A loop that waits for messages.
pub fn by_hook<T>(el: &EventLoop, mut result: impl FnMut() -> Option<T>) -> Option<T> {
    let (wake, woken) = mpsc::channel();
    el.set_wake_hook(Some(Arc::new(move || _ = wake.send(()))));
    let ended = loop {
        let timeout = el.next_timeout().unwrap_or(PATIENCE);
        match woken.recv_timeout(timeout) {
            Err(RecvTimeoutError::Timeout) if timeout == PATIENCE => break None,
            Err(RecvTimeoutError::Disconnected) => panic!("the hook is gone"),
            _ => {}
        }
        el.run_once(Some(Duration::ZERO)).unwrap();
        if let Some(result) = result() {
            break Some(result);
        }
    };
    el.set_wake_hook(None);
    ended
}

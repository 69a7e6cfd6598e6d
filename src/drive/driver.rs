//! Who makes the loop's turns for the host, and waits in between.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::drive::{DriveError, HostLoop};
use crate::event_loop::host::HostedTurns;
use crate::event_loop::root::RootFuture;
use crate::event_loop::running::{self, Running};
use crate::event_loop::{Core, EventLoop};

/// Rounds of turns and of a host that need not wait, before its other tasks have theirs.
const ROUNDS: u32 = 4;

/// A loop that is under way in a future of its host. Dropping it leaves the loop whole.
pub(super) struct Driver<H> {
    core: Rc<Core>,
    method: &'static str,
    host: H,
}

impl<H: HostLoop> Driver<H> {
    /// Has the loop driven by this future, and by no other one.
    pub(super) fn begin(core: Rc<Core>, method: &'static str, host: H) -> Result<Self, DriveError> {
        if !core.is_open() && !core.is_inherited() {
            return Err(DriveError::Closed);
        }
        assert!(!core.is_running(), "{method}(): this event loop is already running");
        assert!(core.begin_driven(), "{method}(): this event loop is already driven by another future");
        note!(DEBUG, "roundelay::loop", "{method}() begins: {:?}", EventLoop::handle(core.clone()));
        Ok(Self { core, method, host })
    }

    /// Makes turns, and then has the host wait. Ready when the loop was stopped, or the root is done.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut root: Option<&mut dyn RootFuture>,
    ) -> Poll<Result<(), DriveError>> {
        let core = &self.core;
        for _ in 0..ROUNDS {
            if !core.is_open() && !core.is_inherited() {
                return Poll::Ready(Err(DriveError::Closed));
            }
            // Before the loop is left: whoever finds it left finds the waker, too.
            core.driven_by(cx.waker());
            let root = root.as_mut().map(|root| &mut **root as &mut dyn RootFuture);
            match core.make_hosted_turns(self.method, root)? {
                HostedTurns::Ended => return Poll::Ready(Ok(())),
                HostedTurns::More => break,
                HostedTurns::Idle => {}
            }
            let fd = core.lend_fd()?;
            ready!(self.host.poll_wait(fd, core.host_deadline(), cx))?;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<H> Drop for Driver<H> {
    fn drop(&mut self) {
        self.core.end_driven();
        note!(DEBUG, "roundelay::loop", "{}() ends: {:?}", self.method, EventLoop::handle(self.core.clone()));
    }
}

/// A root whose future, if it is not done, is dropped as within a turn, for its destructors may ask for the running loop.
pub(super) struct InLoop<'a, R> {
    core: &'a Rc<Core>,
    root: Option<R>,
}

impl<'a, R: RootFuture> InLoop<'a, R> {
    pub(super) fn new(core: &'a Rc<Core>, root: R) -> Self {
        Self { core, root: Some(root) }
    }

    pub(super) fn get(&mut self) -> Option<&mut dyn RootFuture> {
        self.root.as_mut().map(|root| root as &mut dyn RootFuture)
    }
}

impl<R> Drop for InLoop<'_, R> {
    fn drop(&mut self) {
        // It may be dropped anywhere: where another loop is running, that one stays.
        let is_free = self.core.is_open() && running::current().is_none();
        let _running = is_free.then(|| Running::enter(self.core.clone()));
        self.root = None;
    }
}

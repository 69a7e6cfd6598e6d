//! What becomes of a loop in a child of `fork`.
//!
//! The child has the loop in its memory and shares with its parent whatever the loop's descriptors refer to. As long as
//! nobody says otherwise the loop is the parent's: the child must do nothing to it but close descriptors. Everything that
//! would do more asks for [`Core::is_inherited`], or for the [`Home`](crate::os::fork::Home) of what it has at hand, and
//! those who then change a registration change it in the child's memory only. So [`EventLoop::after_fork_child`] finds there
//! what is to be registered with a selector of the child's own.

use std::io;

use crate::error::{LoopClosed, invalid_input};
use crate::event_loop::{Core, EventLoop};
use crate::os::fd::AsFd;
use crate::os::fork::replace;

impl EventLoop {
    /// Makes a loop that this process has inherited, as a child of `fork`, its own.
    ///
    /// Until then such a loop is as one that is closed: [`get_running_loop`](crate::get_running_loop) does not give it,
    /// scheduling and I/O are refused, and the `run_*` methods panic. To drop it, or to [`close`](Self::close) it, closes the
    /// child's descriptors, drops the callbacks and tasks there, and does not disturb the parent: nothing is deregistered,
    /// sent, shut down, unlinked, killed or waited for. A child that returns out of the callback in which it was forked is
    /// led out of the `run_*` method by a panic, so that it does not do the parent's work twice. A child can make a loop of its
    /// own at any time, also within such a callback.
    ///
    /// After this call the loop goes on in the child as well. Its timers, callbacks and tasks are there; its descriptors are
    /// registered with a new selector, whose descriptor [`as_fd`](AsFd::as_fd) lends under the number that it had. Whoever
    /// listens for a signal hears of those that come to the child. What belongs to the parent is not there: work that the
    /// default executor has not done is done with [`is_closed`](crate::JoinError::is_closed), and its threads are made anew;
    /// processes that the parent has started cannot be waited for, so that their end is told with the status 255.
    ///
    /// Nothing is copied but the memory. The two processes accept from the same listening sockets, and *both read from the
    /// same connections*, of which each gets a part. A child that goes on with its parent's loop first closes what it leaves to
    /// the parent: what is closed or written before this call counts, but no peer hears of it until then.
    ///
    /// In the process that has made the loop, and when it was called before, it does nothing.
    ///
    /// # Many processes, one server
    ///
    /// Most often it is better not to fork, or to do it before there is any loop or thread. In the child of a process with
    /// several threads, POSIX allows nothing until `exec` but what a signal handler may do. To allocate memory works with the
    /// C libraries of today; but a lock that another thread has held at the fork is never released. What serves well:
    ///
    /// * **Fork first.** Bind the socket by [`std::net::TcpListener`], fork the workers, and let each of them make its own
    ///   loop, by [`block_on`](crate::block_on), and serve there: `create_server(factory, listener)`. The kernel gives each
    ///   connection to one of them.
    /// * **Start programs instead of forking.** The parent binds, and starts its own program anew for each worker, with the
    ///   listener as the worker's standard input. `examples/prefork.rs` does that without a line of `unsafe`, and replaces
    ///   workers that crash.
    /// * **One socket each.** Processes, or threads, that each bind the same port with
    ///   [`reuse_port`](crate::CreateServer::reuse_port): see `examples/many_loops.rs`.
    ///
    /// A fork is noticed if the C library's `fork` has made it, as those of the crates `libc` and `nix`. A child of a bare
    /// `clone`, or of `_Fork`, must call `exec`.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`]; `InvalidInput` while the loop is running, which is so within the callback in which the process was
    /// forked; `ResourceBusy` if another thread was just posting to the loop, or looking at its executor's work, when the
    /// process was forked, so that a lock is held for ever; `Unsupported` if the loop's selector is one of your own that has no
    /// [`after_fork_child`](crate::selector::Selector::after_fork_child), or if [`as_fd`](AsFd::as_fd) was called before on a
    /// system whose children do not inherit that descriptor (a kqueue); else the operating system's. The loop stays the
    /// parent's then.
    ///
    /// ```
    /// let el = roundelay::EventLoop::new()?;
    /// // In the process that has made it there is nothing to do.
    /// el.after_fork_child()?;
    /// assert_eq!(el.run_until_complete(async { 1 }), Ok(1));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn after_fork_child(&self) -> io::Result<()> {
        let core = &self.core;
        if !core.is_inherited() {
            return if core.is_open() { Ok(()) } else { Err(LoopClosed.into()) };
        }
        if core.reactor.borrow().selector().is_none() {
            return Err(LoopClosed.into());
        }
        if core.is_running() {
            return Err(invalid_input(
                "EventLoop::after_fork_child(): the process was forked inside of a callback of the loop",
            ));
        }
        let notifier = core.reactor.borrow_mut().after_fork_child()?;
        #[cfg(feature = "async-io")]
        core.drive_no_more();
        core.services.after_fork_child(self)?;
        if let Some(lent) = core.backend_fd.get() {
            let reactor = core.reactor.borrow();
            let fd = reactor.selector().and_then(|selector| selector.backend_fd());
            fd.map_or_else(|| Err(io::ErrorKind::Unsupported.into()), |fd| replace(lent.as_fd(), fd))?;
        }
        if !core.wake.replace_notifier(notifier) || !core.local.after_fork_child() {
            return Err(lock_held("EventLoop::after_fork_child(): another thread was posting to the loop"));
        }
        if core.hosted.get() && core.be_hosted() {
            // The call that the parent's host has had was not heard here.
            core.local.shared_ref().wake_if_asleep();
        }
        note!(DEBUG, "roundelay::loop", "{self:?} goes on in a child");
        Ok(())
    }
}

/// A lock will never be released, for its thread is not in this process.
pub(crate) fn lock_held(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, format!("{what} when this process was forked"))
}

impl Core {
    /// Whether the loop belongs to a process that has forked this one.
    #[inline]
    pub(crate) fn is_inherited(&self) -> bool {
        self.local.is_inherited()
    }

    /// A callback returns in a child that was forked in it: the turn is the parent's.
    #[cold]
    #[track_caller]
    pub(super) fn leave_to_parent(&self) -> ! {
        self.unwind();
        let id = self.local.loop_id();
        panic!(
            "this process was forked inside of a callback of event loop {id}, which runs on in the parent: in a child, exit \
             there, or run a loop of its own"
        )
    }
}

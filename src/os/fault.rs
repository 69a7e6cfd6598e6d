//! System calls that are called again when a signal interrupts them, and that can be made to fail.
//!
//! Every system call of the network code goes through [`retry`]. Under `--cfg roundelay_fault`, and only then, a test can
//! let the n-th of them on its thread fail: see [`inject`](plan::inject). What is built without it has none of this.

use std::io;

use rustix::io::Errno;

/// What kind of system call it is.
// Not every system makes each of them by way of this.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Call {
    /// `socket`.
    Socket,
    /// `bind`.
    Bind,
    /// `listen`.
    Listen,
    /// `connect`.
    Connect,
    /// `accept4`.
    Accept,
    /// `shutdown`.
    Shutdown,
    /// `setsockopt`, `getsockopt`, `fcntl`.
    Option,
    /// `getsockname`, `getpeername`.
    Name,
    /// `recv`, `recvmsg`, `read`.
    Receive,
    /// `send`, `sendmsg`, `write`.
    Send,
    /// `recvfrom`, `recvmmsg`.
    ReceiveFrom,
    /// `sendto`, `sendmmsg`.
    SendTo,
    /// `sendfile`.
    Sendfile,
    /// `fstat`, `lseek` and what else is asked of a file.
    File,
    /// `epoll_ctl`.
    Watch,
    /// `pipe2`.
    Pipe,
    /// `pidfd_open`.
    Process,
}

/// How much of its buffer a call may use: all of it, unless a test wants a short count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    #[cfg(roundelay_fault)]
    short: bool,
}

impl Share {
    /// The whole buffer.
    const ALL: Self = Self {
        #[cfg(roundelay_fault)]
        short: false,
    };

    /// How many of `len` bytes.
    #[inline(always)]
    pub(crate) fn of(self, len: usize) -> usize {
        #[cfg(roundelay_fault)]
        if self.short {
            return len.min(1.max(len / 2));
        }
        len
    }

    /// How many of several buffers: one at most where the count is to be short.
    #[inline(always)]
    pub(crate) fn buffers(self, count: usize) -> usize {
        #[cfg(roundelay_fault)]
        if self.short {
            return count.min(1);
        }
        count
    }
}

/// Calls again what a signal interrupted.
#[inline]
pub(crate) fn retry<T>(call: Call, mut f: impl FnMut(Share) -> Result<T, Errno>) -> io::Result<T> {
    loop {
        match attempt(call, &mut f) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

/// As [`retry`], for the calls of `socket2`.
#[inline]
pub(crate) fn retry_io<T>(call: Call, mut f: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        #[cfg(roundelay_fault)]
        let result = plan::next(call).map_err(io::Error::from).and_then(|_| f());
        #[cfg(not(roundelay_fault))]
        let result = f();
        let _ = call;
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[inline(always)]
fn attempt<T>(call: Call, f: &mut impl FnMut(Share) -> Result<T, Errno>) -> Result<T, Errno> {
    #[cfg(roundelay_fault)]
    let share = plan::next(call)?;
    #[cfg(not(roundelay_fault))]
    let share = Share::ALL;
    let _ = call;
    f(share)
}

/// What a test wants to fail. Of each thread its own.
#[cfg(roundelay_fault)]
pub mod plan {
    use std::cell::{Cell, RefCell};

    use rustix::io::Errno;

    use super::{Call, Share};

    /// What becomes of a system call.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum Fault {
        /// It fails with this number of the operating system.
        Error(i32),
        /// It moves fewer bytes or messages than it was asked to, though at least one.
        Short,
    }

    /// One call to fail.
    #[derive(Clone, Copy, Debug)]
    struct Plan {
        /// Only calls of this kind count.
        call: Option<Call>,
        /// How many of them go well before.
        left: u64,
        fault: Fault,
    }

    thread_local! {
        static PLAN: Cell<Option<Plan>> = const { Cell::new(None) };
        static LOG: RefCell<Vec<Call>> = const { RefCell::new(Vec::new()) };
        static WITHHELD: Cell<bool> = const { Cell::new(false) };
    }

    /// Lets the `nth` call of this thread from now on (counted from zero) fail: of one kind, or of any.
    pub fn inject(call: Option<Call>, nth: u64, fault: Fault) {
        PLAN.set(Some(Plan { call, left: nth, fault }));
        LOG.take();
    }

    /// Ends that, and gives the calls that were made since, whether the fault has happened among them.
    pub fn finish() -> (Vec<Call>, bool) {
        (LOG.take(), PLAN.take().is_none())
    }

    /// Whether a call was kept from moving something since the last time this was asked: then what is ready has to be
    /// reported anew, for the kernel has not heard of it.
    pub(crate) fn take_withheld() -> bool {
        WITHHELD.take()
    }

    /// What becomes of the next call.
    pub(super) fn next(call: Call) -> Result<Share, Errno> {
        LOG.with_borrow_mut(|log| log.push(call));
        let Some(mut plan) = PLAN.get() else { return Ok(Share::ALL) };
        if plan.call.is_some_and(|other| other != call) {
            return Ok(Share::ALL);
        }
        if plan.left > 0 {
            plan.left -= 1;
            PLAN.set(Some(plan));
            return Ok(Share::ALL);
        }
        PLAN.set(None);
        WITHHELD.set(true);
        match plan.fault {
            Fault::Short => Ok(Share { short: true }),
            Fault::Error(code) => Err(Errno::from_raw_os_error(code)),
        }
    }
}

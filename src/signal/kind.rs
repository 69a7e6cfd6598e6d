//! Which signal.

use std::fmt;

use crate::os::signal as os;

/// A signal, by its number.
///
/// Wherever one is asked for a number does as well, such as those of the `libc` crate; and it does for a number.
///
/// ```
/// use roundelay::SignalKind;
///
/// assert_eq!(SignalKind::terminate(), SignalKind::from_raw(15));
/// assert_eq!(SignalKind::terminate().to_string(), "SIGTERM");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignalKind(i32);

impl SignalKind {
    /// The signal of this number, which need not be one: whoever is given it says so.
    ///
    /// Real-time signals have no other constructor.
    pub const fn from_raw(number: i32) -> Self {
        Self(number)
    }

    /// The number, which the system gives it.
    pub const fn as_raw(self) -> i32 {
        self.0
    }

    /// `SIGALRM`: a timer of the process's is over.
    pub const fn alarm() -> Self {
        Self(os::SIGALRM)
    }

    /// `SIGCHLD`: a child has ended or stopped.
    pub const fn child() -> Self {
        Self(os::SIGCHLD)
    }

    /// `SIGHUP`: the terminal is gone; for daemons by custom: read the configuration anew.
    pub const fn hangup() -> Self {
        Self(os::SIGHUP)
    }

    /// `SIGINT`: Ctrl-C.
    pub const fn interrupt() -> Self {
        Self(os::SIGINT)
    }

    /// `SIGIO`: a descriptor that was asked to tell so is ready.
    pub const fn io() -> Self {
        Self(os::SIGIO)
    }

    /// `SIGPIPE`: nobody reads what is written. Rust's programs ignore it.
    pub const fn pipe() -> Self {
        Self(os::SIGPIPE)
    }

    /// `SIGQUIT`: Ctrl-\.
    pub const fn quit() -> Self {
        Self(os::SIGQUIT)
    }

    /// `SIGCONT`: the process goes on after it was stopped.
    pub const fn resume() -> Self {
        Self(os::SIGCONT)
    }

    /// `SIGTERM`: a request to end.
    pub const fn terminate() -> Self {
        Self(os::SIGTERM)
    }

    /// `SIGTSTP`: Ctrl-Z.
    pub const fn terminal_stop() -> Self {
        Self(os::SIGTSTP)
    }

    /// `SIGURG`: urgent data on a socket.
    pub const fn urgent() -> Self {
        Self(os::SIGURG)
    }

    /// `SIGUSR1`: whatever the application wants it to be.
    pub const fn user_defined1() -> Self {
        Self(os::SIGUSR1)
    }

    /// `SIGUSR2`: whatever the application wants it to be.
    pub const fn user_defined2() -> Self {
        Self(os::SIGUSR2)
    }

    /// `SIGWINCH`: the terminal's window has another size.
    pub const fn window_change() -> Self {
        Self(os::SIGWINCH)
    }
}

impl From<i32> for SignalKind {
    fn from(number: i32) -> Self {
        Self(number)
    }
}

impl From<SignalKind> for i32 {
    fn from(kind: SignalKind) -> Self {
        kind.0
    }
}

impl fmt::Display for SignalKind {
    /// The name as in C, or the number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match os::name(self.0) {
            Some(name) => f.write_str(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl fmt::Debug for SignalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignalKind({self})")
    }
}

//! The operating system: the only folder that makes system calls, and, but for the choice of a selector and what the
//! crate shows of each, the only one with `cfg(target_os)`.
//!
//! A platform's side provides: descriptors and a table keyed by them (`fd`), addresses (`address`), sockets (`socket`,
//! `options`, `local`, `credentials`, `datagram`), whatever carries bytes (`channel`), memory that is read into (`room`), the
//! standard streams (`lease`), files that are
//! sent (`sendfile`), names (`names`), programs that are started (`spawn`, `child`, `pipe`), processes of the same program
//! (`worker`), signals (`signal`), what becomes of writing to nobody (`sigpipe`), sockets that the
//! process is started with (`activation`), the native readiness facility where it has one (`epoll`), the call of the portable selector
//! that needs `unsafe` (`poller`), and which process is at work (`fork`).

pub(crate) mod address;
pub(crate) mod channel;
pub(crate) mod credentials;
pub(crate) mod datagram;
#[cfg(feature = "test-util")]
pub(crate) mod ends;
// What is public of it is so where tests make calls fail.
#[allow(unreachable_pub)]
pub(crate) mod fault;
pub(crate) mod fd;
pub(crate) mod lease;
pub(crate) mod local;
pub(crate) mod names;
pub(crate) mod options;
pub(crate) mod poller;
pub(crate) mod room;
pub(crate) mod sendfile;
pub(crate) mod sigpipe;
pub(crate) mod socket;
#[cfg(feature = "process-pool")]
pub(crate) mod worker;

#[cfg(unix)]
mod unix;

#[cfg(target_os = "linux")]
pub(crate) use unix::epoll;
#[cfg(unix)]
pub(crate) use unix::{activation, child, fork, pipe, signal, spawn};

#[cfg(not(unix))]
compile_error!("roundelay does not support this platform yet: see the table of platforms in the README");

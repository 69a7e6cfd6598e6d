//! Protocols of child processes, and the interface of their transports.
//!
//! The order of callbacks, as a grammar:
//!
//! ```text
//! process  = connection_made { event } connection_lost
//! event    = pipe_data_received | pipe_connection_lost | pause_writing resume_writing | pause_writing | process_exited
//! ```
//!
//! `process_exited` comes once at most, anywhere between the others: what the process has written before may come after
//! it, and where somebody else has the other end of a pipe, more may. `pipe_connection_lost` comes once for each pipe, and no
//! `pipe_data_received` of that pipe after it. `connection_lost` comes when the process has exited and all pipes are gone.

mod erased;
mod transport;

pub use erased::AnySubprocessProtocol;
pub use transport::{Exited, ProcessHandle, SubprocessTransport};

use std::io;

/// What an application does with a child process.
///
/// The transport comes with each call, so a protocol needs no field for it; it can be cloned and kept, too. Pipes are known
/// by the numbers that they have in the child: 0 for its standard input, 1 for its output, 2 for its errors. A panic in a
/// callback is reported to the exception handler, and the process goes on.
///
/// ```
/// use roundelay::{ProcessHandle, SubprocessProtocol};
///
/// #[derive(Default)]
/// struct Collect(Vec<u8>);
///
/// impl SubprocessProtocol for Collect {
///     fn pipe_data_received(&mut self, _: &ProcessHandle, fd: i32, data: &[u8]) {
///         if fd == 1 {
///             self.0.extend_from_slice(data);
///         }
///     }
///
///     fn process_exited(&mut self, process: &ProcessHandle) {
///         println!("it has returned {:?}", process.returncode());
///     }
/// }
/// ```
#[allow(unused_variables)]
pub trait SubprocessProtocol: 'static {
    /// The process was started, and its pipes are there.
    fn connection_made(&mut self, process: &ProcessHandle) {}

    /// The process has written something to its output (`fd` is 1) or to its errors (2). It is lent from the loop's own
    /// buffer.
    fn pipe_data_received(&mut self, process: &ProcessHandle, fd: i32, data: &[u8]) {}

    /// A pipe is gone: closed by the process, by whoever has inherited it, or by this side (`None`), or by an error.
    fn pipe_connection_lost(&mut self, process: &ProcessHandle, fd: i32, error: Option<io::Error>) {}

    /// More is queued for the process's standard input than the high-water mark of that pipe allows: write no more for now.
    fn pause_writing(&mut self, process: &ProcessHandle) {}

    /// That queue has drained to the low-water mark.
    fn resume_writing(&mut self, process: &ProcessHandle) {}

    /// The process has exited: [`returncode`](ProcessHandle::returncode) says how. What it has written may still come.
    fn process_exited(&mut self, process: &ProcessHandle) {}

    /// The process has exited, and all its pipes are gone. `error` is never one that is known today.
    fn connection_lost(&mut self, process: &ProcessHandle, error: Option<io::Error>) {}
}

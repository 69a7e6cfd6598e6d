//! The process's standard streams.
//!
//! The loop works on a descriptor of its own, never on 0, 1 or 2. So dropping a stream does not close what the process was
//! started with: whoever reads a program's output sees its end when the program ends. How blocking mode is dealt with is
//! told in `os/lease.rs`.

mod file;

use std::io;
use std::panic::Location;
use std::rc::Rc;

use crate::constants::STREAM_LIMIT;
use crate::event_loop::EventLoop;
use crate::executor::required_loop;
use crate::os::channel::Sort;
use crate::os::lease::{self, Opened, Standard};
use crate::protocol::{ProtocolRef, Transport};
use crate::stdio::file::FileCalls;
use crate::stream::{StreamProtocol, StreamReader, StreamWriter};
use crate::transport::lifecycle::Watch;
use crate::transport::stream::{PipeEnd, open_pipe};

/// The process's standard input as a stream, whatever it is: a terminal, a pipe, a socket, a file, `/dev/null`.
///
/// As a stream of the `futures` traits it is had by `stdin()?.compat()`.
///
/// It does not hold the program's end: where `block_on` ends while somebody waits for a line, it just ends. A file is read
/// on a thread of its own, which nobody waits for either. Reading is ahead of whoever reads, by up to twice the reader's
/// [limit](StreamReader::set_limit); what was read ahead is gone when the reader is dropped, and std's own `stdin()` has a
/// buffer that knows nothing of this one.
///
/// The descriptor's blocking mode is left as it is where that can be done (Linux, of pipes and terminals, and sockets
/// everywhere). Where not, it is changed while the stream is in use, also for the other processes that share it, and
/// restored at the stream's end, the loop's, or that of a panic that unwinds; what ends by `std::process::exit` or a
/// signal leaves it changed.
///
/// # Errors
///
/// `ResourceBusy` while an earlier reader of this process is in use, on whichever loop, which it is until the turn after it
/// was dropped; `InvalidInput` if the descriptor is
/// not open for reading, or on what is no file, pipe, socket or device; else the operating system's.
///
/// # Panics
///
/// Outside of a running event loop.
///
/// ```no_run
/// # async fn f() -> std::io::Result<()> {
/// let mut input = roundelay::stdin()?;
/// let mut output = roundelay::stdout()?;
/// loop {
///     let line = input.readline().await?;
///     if line.is_empty() {
///         return Ok(());
///     }
///     output.write(&line.to_ascii_uppercase());
///     output.drain().await?;
/// }
/// # }
/// ```
#[track_caller]
pub fn stdin() -> io::Result<StreamReader> {
    let (transport, protocol) = open(&required_loop("stdin"), Standard::In)?;
    Ok(protocol.with(|protocol| protocol.droppable_halves(&transport).0))
}

/// The process's standard output as a stream. See [`stdin`] for what it may be, and an example. As a stream of the `futures`
/// traits it is had by `stdout()?.compat()`.
///
/// What was written is flushed when the writer is closed or dropped, and when `block_on` or a [`Runner`](crate::Runner)
/// ends: within its bound of 5 seconds or what else it was set to. To be sure earlier, close it and await
/// [`wait_closed`](StreamWriter::wait_closed). When the reader of a pipe goes away, [`drain`](StreamWriter::drain) says
/// so by a `BrokenPipe`. A file is written to on a thread of its own. What `print!` writes goes its own way, and may come
/// before what is still queued here.
///
/// Debug mode does not warn of one that was not closed.
///
/// # Errors
///
/// As [`stdin`], for writing; `ResourceBusy` also while what an earlier writer has left is being written.
///
/// # Panics
///
/// Outside of a running event loop.
#[track_caller]
pub fn stdout() -> io::Result<StreamWriter> {
    let (transport, protocol) = open(&required_loop("stdout"), Standard::Out)?;
    Ok(protocol.with(|protocol| protocol.droppable_halves(&transport).1))
}

/// The process's standard error as a stream. See [`stdout`].
///
/// # Errors
///
/// As [`stdout`].
///
/// # Panics
///
/// Outside of a running event loop.
#[track_caller]
pub fn stderr() -> io::Result<StreamWriter> {
    let (transport, protocol) = open(&required_loop("stderr"), Standard::Err)?;
    Ok(protocol.with(|protocol| protocol.droppable_halves(&transport).1))
}

#[track_caller]
fn open(el: &EventLoop, standard: Standard) -> io::Result<(Transport, ProtocolRef<StreamProtocol>)> {
    let protocol = ProtocolRef::new(StreamProtocol::new(el, STREAM_LIMIT, None));
    let end = |watch| if standard == Standard::In { PipeEnd::Read } else { PipeEnd::Write(watch) };
    // A FIFO that nobody has open for writing any more gives no event; a read that finds its end does not block.
    let try_first = true;
    let created_at = Location::caller();
    let transport = match lease::open(standard)? {
        Opened::Channel(channel, sort) => {
            // The peer of a socket may well have said all it has to say, and wait for what is written.
            let watch = if sort == Sort::Character { Watch::No } else { Watch::Hangup };
            open_pipe(&el.core, channel, end(watch), try_first, protocol.clone().into(), created_at)?
        }
        Opened::File(fd, channel) => {
            let protocol = protocol.clone().into();
            let transport = open_pipe(&el.core, channel, end(Watch::No), try_first, protocol, created_at)?;
            transport.set_elsewhere(Rc::new(FileCalls::new(el, standard, fd, &transport)));
            transport
        }
    };
    transport.make_connection_soon();
    Ok((transport.transport(), protocol))
}

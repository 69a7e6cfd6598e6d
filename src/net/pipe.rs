//! Pipes, and what is used like one: FIFOs, terminals, devices, single directions of sockets.

use std::fmt;
use std::io;
use std::panic::Location;

use crate::error::{LoopClosed, invalid_input};
use crate::event_loop::{EventLoop, running};
use crate::net::connect::{Connecting, introduce};
use crate::os::channel::{Channel, Sort, directions};
use crate::os::fd::{AsFd, OwnedFd};
use crate::protocol::{Protocol, ProtocolRef, Transport};
use crate::transport::lifecycle::Watch;
use crate::transport::stream::{PipeEnd, open_pipe};

/// Which direction of a descriptor is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Read,
    Write,
}

/// A pipe that is about to get its protocol: see [`EventLoop::connect_read_pipe`] and
/// [`EventLoop::connect_write_pipe`]. Await it.
#[must_use = "nothing happens before it is awaited"]
pub struct ConnectPipe<F> {
    el: EventLoop,
    factory: F,
    fd: OwnedFd,
    way: Way,
    created_at: &'static Location<'static>,
}

impl EventLoop {
    /// Lets a protocol hear of what arrives at the reading end of a pipe, of a FIFO, a terminal, another character device, or
    /// a socket. The transport has no writing side.
    ///
    /// `connection_made` has been called when the future is ready. At the end of file `eof_received` is called, and then
    /// `connection_lost(None)`, whatever `eof_received` returns: there is nothing left to do. A terminal whose other side is
    /// gone is at its end, too. A FIFO has an end when the last of its writers has closed it, and not before the first one
    /// has come; one that is opened for reading and writing has none.
    ///
    /// The descriptor is closed with the transport. It becomes non-blocking: a property of the open file, which descriptors
    /// that were duplicated from it, also those of other processes, share. For the process's own standard streams there is
    /// [`stdin`](crate::stdin), which takes care of that.
    ///
    /// Calls of the missing direction are misuse. Those that return a `Result` give an error of kind `Unsupported`; the
    /// others, such as [`Transport::write`], are reported to the exception handler.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a regular file, a directory, or whatever else cannot be waited for, for a descriptor that is not
    /// open for reading, and where it is awaited in another loop; `AlreadyExists` if the loop watches the descriptor
    /// already; [`LoopClosed`] as an `io::Error`; else the operating system's.
    ///
    /// ```
    /// use std::io::Write;
    /// use std::os::unix::net::UnixStream;
    ///
    /// use roundelay::{Protocol, Transport};
    ///
    /// #[derive(Default)]
    /// struct Collect(Vec<u8>);
    /// impl Protocol for Collect {
    ///     fn data_received(&mut self, _: &Transport, data: &[u8]) {
    ///         self.0.extend_from_slice(data);
    ///     }
    /// }
    ///
    /// # // The standard library has pipes from 1.87 on.
    /// # let (reader, mut writer) = UnixStream::pair()?;
    /// writer.write_all(b"through the pipe")?;
    /// drop(writer);
    /// roundelay::block_on(async {
    ///     let el = roundelay::get_running_loop()?;
    ///     let (transport, protocol) = el.connect_read_pipe(Collect::default, reader).await?;
    ///     while !transport.is_closing() {
    ///         roundelay::yield_now().await;
    ///     }
    ///     protocol.with(|collect| assert_eq!(collect.0, b"through the pipe"));
    ///     std::io::Result::Ok(())
    /// })?;
    /// # std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub fn connect_read_pipe<F, P>(&self, factory: F, fd: impl Into<OwnedFd>) -> ConnectPipe<F>
    where
        F: FnOnce() -> P + 'static,
        P: Protocol,
    {
        ConnectPipe { el: self.clone(), factory, fd: fd.into(), way: Way::Read, created_at: Location::caller() }
    }

    /// Lets a protocol write to the writing end of a pipe, of a FIFO, a terminal, another character device, or a socket,
    /// with flow control. The transport has no reading side.
    ///
    /// [`write_eof`](Transport::write_eof) is the same as [`close`](Transport::close): what is queued is written, then the
    /// descriptor is closed. When the reader of a pipe goes away, the connection is lost at once, though nothing is written:
    /// by a `BrokenPipe` if something was queued, else without an error. So it is with a socket whose peer is gone, or sends
    /// no more; a connection of which the one half may end before the other is for
    /// [`connect_accepted_socket`](Self::connect_accepted_socket). A terminal or another device is not watched in this way.
    ///
    /// Descriptor and misuse are as with [`connect_read_pipe`](Self::connect_read_pipe). For the process's own standard
    /// streams there are [`stdout`](crate::stdout) and [`stderr`](crate::stderr). A pipe without a
    /// reader raises no `SIGPIPE`, [whatever the host does about it](crate#hosts-that-do-not-ignore-sigpipe).
    ///
    /// # Errors
    ///
    /// As [`connect_read_pipe`](Self::connect_read_pipe), for writing.
    ///
    /// ```
    /// use std::os::unix::net::UnixStream;
    ///
    /// use roundelay::Protocol;
    ///
    /// struct Idle;
    /// impl Protocol for Idle {}
    ///
    /// # // The standard library has pipes from 1.87 on.
    /// # let (reader, writer) = UnixStream::pair()?;
    /// roundelay::block_on(async {
    ///     let el = roundelay::get_running_loop()?;
    ///     let (transport, _) = el.connect_write_pipe(|| Idle, writer).await?;
    ///     transport.write(b"through the pipe");
    ///     transport.close();
    ///     std::io::Result::Ok(())
    /// })?;
    /// assert_eq!(std::io::read_to_string(reader)?, "through the pipe");
    /// # std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub fn connect_write_pipe<F, P>(&self, factory: F, fd: impl Into<OwnedFd>) -> ConnectPipe<F>
    where
        F: FnOnce() -> P + 'static,
        P: Protocol,
    {
        ConnectPipe { el: self.clone(), factory, fd: fd.into(), way: Way::Write, created_at: Location::caller() }
    }
}

impl<F> fmt::Debug for ConnectPipe<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectPipe").field("fd", &self.fd).field("way", &self.way).finish_non_exhaustive()
    }
}

impl<F, P> IntoFuture for ConnectPipe<F>
where
    F: FnOnce() -> P + 'static,
    P: Protocol,
{
    type Output = io::Result<(Transport, ProtocolRef<P>)>;
    type IntoFuture = Connecting<P>;

    fn into_future(self) -> Connecting<P> {
        let Self { el, factory, fd, way, created_at } = self;
        Connecting::new(async move {
            let method = match way {
                Way::Read => "connect_read_pipe",
                Way::Write => "connect_write_pipe",
            };
            running::refuse_elsewhere(&el, method)?;
            let (channel, end) = take_pipe(&el, &format!("EventLoop::{method}"), fd, way)?;
            let protocol = ProtocolRef::new(factory());
            let transport = open_pipe(&el.core, channel, end, false, protocol.clone().into(), created_at)?;
            Ok((introduce(transport).await, protocol))
        })
    }
}

/// Takes one end of something that can be waited for; it becomes non-blocking.
pub(crate) fn take_pipe(el: &EventLoop, function: &str, fd: OwnedFd, way: Way) -> io::Result<(Channel, PipeEnd)> {
    if el.is_closed() {
        return Err(LoopClosed.into());
    }
    let sort = Sort::of(fd.as_fd())?;
    let watch = match sort {
        Sort::Pipe => Watch::Hangup,
        Sort::Socket => Watch::EndOfFile,
        Sort::Character => Watch::No,
        Sort::Regular | Sort::Directory | Sort::Block | Sort::Other => {
            return Err(invalid_input(format!(
                "{function}(): the descriptor is open on {}, and only pipes, sockets and character devices can be waited for",
                sort.name()
            )));
        }
    };
    let (readable, writable) = directions(fd.as_fd())?;
    let (end, fits, purpose) = match way {
        Way::Read => (PipeEnd::Read, readable, "reading"),
        Way::Write => (PipeEnd::Write(watch), writable, "writing"),
    };
    if !fits {
        return Err(invalid_input(format!("{function}(): the descriptor is not open for {purpose}")));
    }
    Ok((Channel::end(fd, sort)?, end))
}

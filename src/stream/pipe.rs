//! Streams over pipes.

use std::any::type_name;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::constants::STREAM_LIMIT;
use crate::event_loop::EventLoop;
use crate::event_loop::tasks::BoxFuture;
use crate::executor::LaterLoop;
use crate::net::{Way, introduce, take_pipe};
use crate::os::fd::OwnedFd;
use crate::protocol::ProtocolRef;
use crate::stream::open::check_limit;
use crate::stream::protocol::StreamProtocol;
use crate::stream::reader::StreamReader;
use crate::stream::writer::StreamWriter;
use crate::transport::stream::open_pipe;

/// A pipe that is about to be read: see [`open_read_pipe`]. Await it.
#[must_use = "nothing happens before it is awaited"]
#[derive(Debug)]
pub struct OpenReadPipe {
    el: LaterLoop,
    fd: OwnedFd,
    limit: usize,
    created_at: &'static Location<'static>,
}

/// A pipe that is about to be written to: see [`open_write_pipe`]. Await it.
#[must_use = "nothing happens before it is awaited"]
#[derive(Debug)]
pub struct OpenWritePipe {
    el: LaterLoop,
    fd: OwnedFd,
    created_at: &'static Location<'static>,
}

/// Reads the reading end of a pipe as a stream; dropping the reader closes it.
///
/// See [`EventLoop::connect_read_pipe`] for what can be read in this way, and for what becomes of the descriptor. As a
/// stream of the `futures` traits it is had by [`compat`](StreamReader::compat).
///
/// # Errors
///
/// As [`EventLoop::connect_read_pipe`]; `InvalidInput` for a limit of zero.
///
/// # Panics
///
/// If it is awaited outside of a running event loop.
///
/// ```
/// use std::os::unix::net::UnixStream;
///
/// use roundelay::{open_read_pipe, open_write_pipe};
///
/// # // The standard library has pipes from 1.87 on.
/// # let (reader, writer) = UnixStream::pair()?;
/// roundelay::block_on(async {
///     let mut reader = open_read_pipe(reader).await?;
///     let mut writer = open_write_pipe(writer).await?;
///     writer.write(b"one\ntwo\n");
///     writer.close();
///     assert_eq!(reader.readline().await?, b"one\n");
///     assert_eq!(reader.read_to_end().await?, b"two\n");
///     std::io::Result::Ok(())
/// })?;
/// # std::io::Result::Ok(())
/// ```
///
/// By the traits of the `futures` crate:
///
/// ```
/// use futures::{AsyncReadExt, AsyncWriteExt};
/// use roundelay::{open_read_pipe, open_write_pipe};
/// use std::os::unix::net::UnixStream;
///
/// # let (reader, writer) = UnixStream::pair()?;
/// roundelay::block_on(async {
///     let mut reader = open_read_pipe(reader).await?.compat();
///     let mut writer = open_write_pipe(writer).await?.compat();
///     writer.write_all(b"all of it").await?;
///     writer.close().await?;
///     let mut text = String::new();
///     reader.read_to_string(&mut text).await?;
///     assert_eq!(text, "all of it");
///     std::io::Result::Ok(())
/// })?;
/// # std::io::Result::Ok(())
/// ```
#[track_caller]
pub fn open_read_pipe(fd: impl Into<OwnedFd>) -> OpenReadPipe {
    let (el, created_at) = (LaterLoop::new("open_read_pipe"), Location::caller());
    OpenReadPipe { el, fd: fd.into(), limit: STREAM_LIMIT, created_at }
}

/// Writes to the writing end of a pipe as a stream; dropping the writer closes it, when what is queued has been written.
///
/// See [`EventLoop::connect_write_pipe`] for what can be written to in this way, and [`open_read_pipe`] for an example. As a
/// stream of the `futures` traits it is had by [`compat`](StreamWriter::compat); closing that closes the pipe.
///
/// # Errors
///
/// As [`EventLoop::connect_write_pipe`].
///
/// # Panics
///
/// If it is awaited outside of a running event loop.
#[track_caller]
pub fn open_write_pipe(fd: impl Into<OwnedFd>) -> OpenWritePipe {
    OpenWritePipe { el: LaterLoop::new("open_write_pipe"), fd: fd.into(), created_at: Location::caller() }
}

impl OpenReadPipe {
    /// The reader's limit in bytes (64 KiB).
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}

async fn open(
    el: EventLoop,
    function: &str,
    fd: OwnedFd,
    way: Way,
    limit: usize,
    created_at: &'static Location<'static>,
) -> io::Result<(StreamReader, StreamWriter)> {
    let (channel, end) = take_pipe(&el, function, fd, way)?;
    let protocol = ProtocolRef::new(StreamProtocol::new(&el, limit, None));
    let transport = introduce(open_pipe(&el.core, channel, end, false, protocol.clone().into(), created_at)?).await;
    Ok(protocol.with(|protocol| match way {
        Way::Read => protocol.droppable_halves(&transport),
        Way::Write => protocol.halves(&transport),
    }))
}

impl IntoFuture for OpenReadPipe {
    type Output = io::Result<StreamReader>;
    type IntoFuture = OpeningPipe<StreamReader>;

    fn into_future(self) -> OpeningPipe<StreamReader> {
        let Self { el, fd, limit, created_at } = self;
        OpeningPipe {
            future: Box::pin(async move {
                let el = el.get();
                check_limit("open_read_pipe", limit)?;
                Ok(open(el, "open_read_pipe", fd, Way::Read, limit, created_at).await?.0)
            }),
        }
    }
}

impl IntoFuture for OpenWritePipe {
    type Output = io::Result<StreamWriter>;
    type IntoFuture = OpeningPipe<StreamWriter>;

    fn into_future(self) -> OpeningPipe<StreamWriter> {
        let Self { el, fd, created_at } = self;
        OpeningPipe {
            future: Box::pin(async move {
                Ok(open(el.get(), "open_write_pipe", fd, Way::Write, STREAM_LIMIT, created_at).await?.1)
            }),
        }
    }
}

/// The future of [`OpenReadPipe`] and of [`OpenWritePipe`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct OpeningPipe<H> {
    future: BoxFuture<io::Result<H>>,
}

impl<H> Future for OpeningPipe<H> {
    type Output = io::Result<H>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

impl<H> fmt::Debug for OpeningPipe<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpeningPipe<{}>", type_name::<H>())
    }
}

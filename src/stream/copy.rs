//! From one stream to another, in one direction or in both.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};

use crate::constants::{COPY_SIZE, READS_PER_EVENT};
use crate::event_loop::running;

/// Copies all that a reader gives to a writer, which is flushed at the end and not closed. Gives how many bytes it was.
///
/// Works with everything that has the `futures` traits: [`TcpStream`](crate::TcpStream) and its halves, what
/// [`StreamReader::compat`](crate::StreamReader::compat) and [`StreamWriter::compat`](crate::StreamWriter::compat) give,
/// other libraries' streams. A slow writer slows the reader down: at most 64 KiB are on their way, and memory is there
/// only for as long as some are. Others get their turns, however fast both ends are.
///
/// Dropping the future drops what is on its way: bytes that were read and that the writer has not taken yet.
///
/// # Errors
///
/// The reader's or the writer's; `WriteZero` if the writer takes no more. What was copied before is with the writer.
///
/// ```
/// # roundelay::block_on(async {
/// let mut out = Vec::new();
/// assert_eq!(roundelay::copy(&mut &b"some bytes"[..], &mut out).await?, 10);
/// assert_eq!(out, b"some bytes");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
pub async fn copy<R, W>(reader: &mut R, writer: &mut W) -> io::Result<u64>
where
    R: AsyncRead + Unpin + ?Sized,
    W: AsyncWrite + Unpin + ?Sized,
{
    let mut direction = Direction::new();
    poll_fn(|cx| {
        ready!(direction.poll_copy(cx, reader, writer))?;
        ready!(Pin::new(&mut *writer).poll_flush(cx))?;
        Poll::Ready(Ok(direction.copied))
    })
    .await
}

/// Copies in both directions between two streams, until both have come to their end. Gives how many bytes went from `a`
/// to `b`, and from `b` to `a`.
///
/// At the end of one the other's writing half is closed, and the other direction goes on: peers that end one half and
/// wait for an answer get it. Otherwise as [`copy`].
///
/// # Errors
///
/// The first of any side and any direction: then both directions end, nothing is closed by this, and what was on its way
/// is dropped. `WriteZero` if a writer takes no more.
///
/// ```no_run
/// use roundelay::{TcpListener, TcpStream, copy_bidirectional, spawn};
///
/// # async fn f() -> std::io::Result<()> {
/// let listener = TcpListener::bind(("127.0.0.1", 8080)).await?;
/// loop {
///     let (mut client, _) = listener.accept().await?;
///     drop(spawn(async move {
///         let mut upstream = TcpStream::connect(("example.org", 80)).await?;
///         copy_bidirectional(&mut client, &mut upstream).await
///     }));
/// }
/// # }
/// ```
pub async fn copy_bidirectional<A, B>(a: &mut A, b: &mut B) -> io::Result<(u64, u64)>
where
    A: AsyncRead + AsyncWrite + Unpin + ?Sized,
    B: AsyncRead + AsyncWrite + Unpin + ?Sized,
{
    let (mut to_b, mut to_a) = (Direction::new(), Direction::new());
    poll_fn(|cx| {
        let b_has_all = to_b.poll_copy_and_close(cx, a, b)?;
        let a_has_all = to_a.poll_copy_and_close(cx, b, a)?;
        ready!(b_has_all);
        ready!(a_has_all);
        Poll::Ready(Ok((to_b.copied, to_a.copied)))
    })
    .await
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Copying,
    /// The reader has come to its end, and the writer has everything.
    Ended,
    /// The writer was closed.
    Closed,
}

/// Bytes on their way from one stream to another.
struct Direction {
    state: State,
    /// What was read and the writer has not taken, from `start` on. It has memory only while it holds something.
    held: Vec<u8>,
    start: usize,
    copied: u64,
    /// Whether the writer may keep back some of what it has taken.
    unflushed: bool,
}

impl Direction {
    fn new() -> Self {
        Self { state: State::Copying, held: Vec::new(), start: 0, copied: 0, unflushed: false }
    }

    /// Ready when the reader has come to its end and the writer has taken everything.
    fn poll_copy<R, W>(&mut self, cx: &mut Context<'_>, reader: &mut R, writer: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin + ?Sized,
        W: AsyncWrite + Unpin + ?Sized,
    {
        if self.state != State::Copying {
            return Poll::Ready(Ok(()));
        }
        for _ in 0..READS_PER_EVENT {
            while self.start < self.held.len() {
                let n = ready!(Pin::new(&mut *writer).poll_write(cx, &self.held[self.start..]))?;
                self.wrote(n)?;
                self.start += n;
            }
            (self.held, self.start) = (Vec::new(), 0);
            let step = with_buffer(|buffer| self.poll_step(cx, reader, writer, buffer));
            match step {
                Poll::Ready(Ok(0)) => {
                    self.state = State::Ended;
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(result) => drop(result?),
                Poll::Pending => {
                    if self.unflushed && Pin::new(&mut *writer).poll_flush(cx)?.is_ready() {
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
        // Streams that are always ready: the others first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads once and writes as much of it as is taken at once; the rest is held. Zero is the end of the reader.
    fn poll_step<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>>
    where
        R: AsyncRead + Unpin + ?Sized,
        W: AsyncWrite + Unpin + ?Sized,
    {
        let n = ready!(Pin::new(reader).poll_read(cx, buffer))?;
        let mut written = 0;
        while written < n {
            match Pin::new(&mut *writer).poll_write(cx, &buffer[written..n])? {
                Poll::Ready(taken) => {
                    self.wrote(taken)?;
                    written += taken;
                }
                Poll::Pending => {
                    self.held = buffer[written..n].to_vec();
                    break;
                }
            }
        }
        Poll::Ready(Ok(n))
    }

    fn wrote(&mut self, n: usize) -> io::Result<()> {
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::WriteZero, "copy: the writer takes no more bytes"));
        }
        self.copied += n as u64;
        self.unflushed = true;
        Ok(())
    }

    /// As `poll_copy`, and then closes the writer.
    fn poll_copy_and_close<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
    ) -> io::Result<Poll<()>>
    where
        R: AsyncRead + Unpin + ?Sized,
        W: AsyncWrite + Unpin + ?Sized,
    {
        if self.poll_copy(cx, reader, writer)?.is_pending() {
            return Ok(Poll::Pending);
        }
        if self.state == State::Ended {
            if Pin::new(writer).poll_close(cx)?.is_pending() {
                return Ok(Poll::Pending);
            }
            self.state = State::Closed;
        }
        Ok(Poll::Ready(()))
    }
}

/// Lends a buffer for the length of a call: the loop's own where one is running, so that who merely waits owns none.
fn with_buffer<R>(f: impl FnOnce(&mut [u8]) -> R) -> R {
    match running::current() {
        Some(core) => core.with_receive_buffer(|buffer| f(&mut buffer[..COPY_SIZE])),
        None => f(&mut vec![0; COPY_SIZE]),
    }
}

//! The two halves of a stream as types of the `futures` traits.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncBufRead, AsyncWrite};

use crate::constants::READ_SIZE;
use crate::os::room::Room;
use crate::protocol::WriteReady;
use crate::stream::reader::StreamReader;
use crate::stream::traits::{ReadInto, impl_buf_read_traits, impl_read_traits, impl_write_traits};
use crate::stream::writer::StreamWriter;

impl StreamReader {
    /// The reader as `AsyncRead` and `AsyncBufRead` of the `futures` crate, whose methods have the names of its own.
    ///
    /// ```
    /// use futures::AsyncReadExt;
    ///
    /// roundelay::block_on(async {
    ///     let reader = roundelay::StreamReader::new(1024);
    ///     reader.feed_data(b"some text");
    ///     reader.feed_eof();
    ///     let mut text = String::new();
    ///     reader.compat().read_to_string(&mut text).await?;
    ///     assert_eq!(text, "some text");
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn compat(self) -> CompatReader {
        CompatReader { reader: self, chunk: Rc::default() }
    }
}

/// A [`StreamReader`] as `AsyncRead` and `AsyncBufRead`. Made by [`StreamReader::compat`].
///
/// What has arrived before the connection failed is read before the error is given. What `fill_buf` has lent and nobody has
/// consumed is still unread: it goes to TLS if that is started meanwhile.
pub struct CompatReader {
    reader: StreamReader,
    /// What `poll_fill_buf` lends, as far as the reader's buffer says that it is lent.
    chunk: Rc<Vec<u8>>,
}

impl CompatReader {
    /// The reader again; what was lent by `fill_buf` and not consumed is in it.
    pub fn into_inner(self) -> StreamReader {
        self.reader.take_back();
        self.reader
    }

    /// The reader. What was lent by `fill_buf` and not consumed is not in it.
    pub fn get_ref(&self) -> &StreamReader {
        &self.reader
    }

    fn rest(&self) -> &[u8] {
        &self.chunk[self.reader.lent_from(&self.chunk)..]
    }

    fn skip(&mut self, n: usize) {
        if self.reader.skip_lent(n) {
            self.chunk = Rc::default();
        }
    }
}

impl ReadInto for CompatReader {
    fn poll_read_into(&mut self, cx: &mut Context<'_>, room: &mut Room<'_>) -> Poll<io::Result<()>> {
        let lent = room.put(self.rest());
        if lent > 0 {
            self.skip(lent);
        }
        if lent > 0 || room.left() == 0 {
            return Poll::Ready(Ok(()));
        }
        self.reader.poll_for(cx, |buffer| (buffer.copy_to(room) > 0 || buffer.eof).then_some(()))
    }

    fn poll_worth_reading(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.rest().is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.reader.poll_for(cx, |buffer| (buffer.len() > 0 || buffer.eof).then_some(()))
    }
}

impl_read_traits!(([] CompatReader));
impl_buf_read_traits!(([] CompatReader));

impl AsyncBufRead for CompatReader {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.rest().is_empty() {
            // All of it: nothing is copied.
            let lent = this.reader.poll_for(cx, |buffer| (buffer.len() > 0 || buffer.eof).then(|| buffer.lend()));
            this.chunk = ready!(lent)?;
        }
        Poll::Ready(Ok(this.rest()))
    }

    fn consume(self: Pin<&mut Self>, n: usize) {
        self.get_mut().skip(n);
    }
}

impl fmt::Debug for CompatReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompatReader").field("reader", &self.reader).field("lent", &self.rest().len()).finish()
    }
}

impl StreamWriter {
    /// The writer as `AsyncWrite` of the `futures` crate, whose methods have the names of its own.
    ///
    /// ```
    /// use futures::AsyncWriteExt;
    ///
    /// roundelay::block_on(async {
    ///     let server = roundelay::start_server(
    ///         async |reader, writer| {
    ///             let copied = roundelay::copy(&mut reader.compat(), &mut writer.compat()).await;
    ///             assert_eq!(copied?, 5);
    ///             std::io::Result::Ok(())
    ///         },
    ///         ("127.0.0.1", 0),
    ///     )
    ///     .await?;
    ///     let (mut reader, writer) = roundelay::open_connection(server.local_addrs()[0]).await?;
    ///     let mut writer = writer.compat();
    ///     writer.write_all(b"hello").await?;
    ///     writer.close().await?;
    ///     assert_eq!(reader.read_to_end().await?, b"hello");
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn compat(self) -> CompatWriter {
        let (ready, flushed) = (self.transport().ready(), self.transport().flushed());
        CompatWriter { writer: self, ready, flushed, ended: false }
    }
}

/// A [`StreamWriter`] as `AsyncWrite`. Made by [`StreamWriter::compat`].
///
/// Writing waits while the transport's queue is above its mark, and takes at most 256 KiB at a time; flushing waits until
/// everything is with the kernel; closing flushes and ends the writing half, after which the reading half goes on.
pub struct CompatWriter {
    writer: StreamWriter,
    ready: WriteReady,
    flushed: WriteReady,
    /// Whether it was closed.
    ended: bool,
}

impl CompatWriter {
    /// The writer again.
    pub fn into_inner(self) -> StreamWriter {
        self.writer
    }

    /// The writer.
    pub fn get_ref(&self) -> &StreamWriter {
        &self.writer
    }

    /// Whether it was closed.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    fn check(&self) -> io::Result<()> {
        let text = match (self.ended, self.writer.is_closing()) {
            (true, _) => "the writing half was closed",
            (false, true) => "the connection is closing",
            (false, false) => return Ok(()),
        };
        Err(io::Error::new(io::ErrorKind::BrokenPipe, text))
    }
}

impl_write_traits!(([] CompatWriter), vectored: true);

impl AsyncWrite for CompatWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // Why it is gone says more than that it is.
        ready!(Pin::new(&mut this.ready).poll(cx))?;
        this.check()?;
        let n = buf.len().min(READ_SIZE);
        this.writer.write(&buf[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.ready).poll(cx))?;
        this.check()?;
        let mut n = 0;
        // As many as are within the measure; the first one that is not empty may be above it by itself.
        let whole = bufs.iter().take_while(|buf| {
            n += buf.len();
            n <= READ_SIZE
        });
        let count = whole.count();
        match bufs[..count].iter().map(|buf| buf.len()).sum() {
            0 => {
                let first = bufs.get(count).map_or(&[][..], |buf| &buf[..buf.len().min(READ_SIZE)]);
                this.writer.write(first);
                Poll::Ready(Ok(first.len()))
            }
            len => {
                this.writer.writelines(&bufs[..count]);
                Poll::Ready(Ok(len))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().flushed).poll(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut this.flushed).poll(cx))?;
        this.ended = true;
        if this.writer.can_write_eof() {
            this.writer.write_eof();
        } else {
            this.writer.close();
        }
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for CompatWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompatWriter").field("writer", &self.writer).finish_non_exhaustive()
    }
}

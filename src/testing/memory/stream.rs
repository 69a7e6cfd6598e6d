//! One end of a link in memory, and the hand on it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

use crate::event_loop::EventLoop;
use crate::protocol::Protocol;
use crate::stream::{StreamReader, StreamWriter};
use crate::testing::memory::line::{Line, Side};
use crate::testing::memory::link::{Link, Loss};

/// Two streams that are connected with each other, in memory, by this link: what is written to one can be read from the
/// other. The times of the link are those of the loop's clock.
///
/// ```
/// use futures::{AsyncReadExt, AsyncWriteExt};
/// use roundelay::testing::{Link, stream_pair};
///
/// roundelay::block_on(async {
///     let el = roundelay::get_running_loop()?;
///     // Three bytes at a time.
///     let (mut client, mut server) = stream_pair(&el, &Link::new().max_read(3));
///     client.write_all(b"hello").await?;
///     client.close().await?;
///     let mut piece = [0; 16];
///     assert_eq!(server.read(&mut piece).await?, 3);
///     assert_eq!(server.read(&mut piece).await?, 2);
///     assert_eq!(server.read(&mut piece).await?, 0);
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
pub fn stream_pair(el: &EventLoop, link: &Link) -> (MemoryStream, MemoryStream) {
    let line = Line::new(el, link);
    let end = |side| MemoryStream { wire: Wire { line: line.clone(), side } };
    (end(Side::First), end(Side::Second))
}

/// One end of a [`stream_pair`]: a stream of the `futures` traits without a descriptor.
///
/// Its end is that of a socket: closing it (`poll_close`) ends its writing half, and the other end reads what was written
/// and then an end of file; dropping it ends both halves. The other end's writes then fail with `BrokenPipe`, and where bytes
/// were dropped that nobody had read, its reads fail with `ConnectionReset`, behind what was written.
///
/// Whatever takes a stream takes it: a handler of streams by [`into_stream`](Self::into_stream), a protocol by
/// [`connect_stream`](EventLoop::connect_stream), a TLS library.
pub struct MemoryStream {
    wire: Wire,
}

impl MemoryStream {
    /// The hand on the link, as seen from this end.
    pub fn wire(&self) -> Wire {
        self.wire.clone()
    }

    /// This end as the two halves that [`open_connection`](crate::open_connection) gives, and that the handler of
    /// [`start_server`](crate::start_server) is given: to test such a handler without a server.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`](crate::LoopClosed) as an `io::Error`.
    ///
    /// # Panics
    ///
    /// Outside of a running event loop.
    ///
    /// ```
    /// use roundelay::testing::{Link, stream_pair};
    /// use roundelay::{StreamReader, StreamWriter};
    ///
    /// async fn greet(mut reader: StreamReader, mut writer: StreamWriter) -> std::io::Result<()> {
    ///     let name = reader.readline().await.unwrap();
    ///     writer.write(&[b"hello, ", &name[..]].concat());
    ///     writer.drain().await
    /// }
    ///
    /// roundelay::block_on(async {
    ///     let el = roundelay::get_running_loop()?;
    ///     let (near, far) = stream_pair(&el, &Link::new());
    ///     let (reader, writer) = far.into_stream()?;
    ///     let server = roundelay::spawn(greet(reader, writer));
    ///     let (mut reader, mut writer) = near.into_stream()?;
    ///     writer.write(b"world\n");
    ///     assert_eq!(reader.readline().await.unwrap(), b"hello, world\n");
    ///     server.await.unwrap()
    /// })
    /// # .unwrap();
    /// ```
    #[track_caller]
    pub fn into_stream(self) -> io::Result<(StreamReader, StreamWriter)> {
        /// Stands in until the streams take over.
        struct Nobody;
        impl Protocol for Nobody {}

        let el = crate::executor::required_loop("testing::MemoryStream::into_stream");
        let (transport, _) = el.connect_stream(|| Nobody, self)?;
        transport.into_stream()
    }
}

impl AsyncRead for MemoryStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.wire.line.poll_read(self.wire.side, cx, buffer)
    }
}

impl AsyncWrite for MemoryStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.wire.line.poll_write(self.wire.side, cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.wire.line.check_whole())
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.line.close(self.wire.side);
        Poll::Ready(self.wire.line.check_whole())
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        self.wire.line.leave(self.wire.side);
    }
}

impl fmt::Debug for MemoryStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.wire.show("MemoryStream", f)
    }
}

/// The hand on a link in memory, as seen from one of its ends: to break it at the right moment, and to look at what goes.
/// Clones are the same hand.
#[derive(Clone)]
pub struct Wire {
    line: Rc<Line>,
    side: Side,
}

impl Wire {
    /// Breaks the connection now: what is on its way is lost, and both ends get an error of this kind.
    pub fn lose(&self, error: io::ErrorKind) {
        self.line.end(Loss::Broken(error));
    }

    /// Cuts the cable: nothing arrives any more, not even an end of file, and nobody is told.
    pub fn silence(&self) {
        self.line.end(Loss::Silent);
    }

    /// Holds up all that is on its way, until [`release`](Self::release).
    pub fn hold(&self) {
        self.line.hold(true);
    }

    /// Lets go on what was held up.
    pub fn release(&self) {
        self.line.hold(false);
    }

    /// Whether the link was lost, also in silence.
    pub fn is_lost(&self) -> bool {
        self.line.is_lost()
    }

    /// How many bytes this end has written to the link.
    pub fn sent(&self) -> u64 {
        self.line.counts(self.side).0
    }

    /// How many bytes this end has read from the link.
    pub fn received(&self) -> u64 {
        self.line.counts(self.side).1
    }

    /// How many bytes are on their way to this end, or wait to be read by it.
    pub fn in_flight(&self) -> usize {
        self.line.counts(self.side).2
    }

    fn show(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sent, received, in_flight) = self.line.counts(self.side);
        f.debug_struct(name)
            .field("sent", &sent)
            .field("received", &received)
            .field("in_flight", &in_flight)
            .field("is_lost", &self.is_lost())
            .finish()
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show("Wire", f)
    }
}

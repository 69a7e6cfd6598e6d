//! The reading half of a stream.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::error::{IncompleteRead, LimitOverrun, invalid_input};
use crate::event_loop::inspection::waits_for;
use crate::protocol::Transport;
use crate::sched::info::WaitsFor;
use crate::stream::buffer::{Buffer, change};
use crate::stream::feeder::StreamFeeder;
use crate::stream::protocol::Connection;

/// Why a read gave nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// The stream ended before what was asked for had arrived.
    Incomplete(IncompleteRead),
    /// The separator was not found within the limit.
    Overrun(LimitOverrun),
    /// The connection failed.
    Io(io::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incomplete(error) => error.fmt(f),
            Self::Overrun(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Incomplete(error) => Some(error),
            Self::Overrun(error) => Some(error),
            Self::Io(error) => Some(error),
        }
    }
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Incomplete(error) => error.into(),
            ReadError::Overrun(error) => error.into(),
            ReadError::Io(error) => error,
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The reading half of a stream: bytes as they have arrived, in the pieces that are asked for.
///
/// What has arrived and was not read is buffered, up to about twice the limit (64 KiB unless it was set); then the
/// transport is paused until some of it is read. No read loses anything when its future is dropped before it is ready:
/// what has arrived stays in the reader. What arrives after the reader was dropped is dropped, too. Once the connection
/// has failed, every read gives why; when its loop was closed, [`LoopClosed`](crate::LoopClosed) as an `io::Error`.
///
/// Made by [`open_connection`](crate::open_connection) and [`start_server`](crate::start_server); or by
/// [`new`](Self::new), to be fed by hand in a test:
///
/// ```
/// use roundelay::StreamReader;
///
/// roundelay::block_on(async {
///     let mut reader = StreamReader::new(1024);
///     reader.feed_data(b"first line\nrest");
///     reader.feed_eof();
///     assert_eq!(reader.readline().await.unwrap(), b"first line\n");
///     assert_eq!(reader.read(100).await.unwrap(), b"rest");
///     assert!(reader.at_eof());
/// });
/// ```
pub struct StreamReader {
    buffer: Rc<RefCell<Buffer>>,
    /// Keeps the connection open; none for a reader that is fed by hand.
    connection: Option<Rc<Connection>>,
}

impl StreamReader {
    /// A reader without a connection, to be fed by hand.
    ///
    /// # Panics
    ///
    /// If the limit is zero.
    #[track_caller]
    pub fn new(limit: usize) -> Self {
        assert!(limit > 0, "StreamReader::new(): the limit must be above zero");
        Self { buffer: Rc::new(RefCell::new(Buffer::new(limit))), connection: None }
    }

    pub(crate) fn of_connection(buffer: Rc<RefCell<Buffer>>, connection: Rc<Connection>) -> Self {
        Self { buffer, connection: Some(connection) }
    }

    pub(crate) fn connection(&self) -> Option<&Rc<Connection>> {
        self.connection.as_ref()
    }

    /// Has no more to do with its connection; gives what was not read, and the transport if it is to be resumed.
    pub(crate) fn release(self) -> (Vec<u8>, Option<Transport>) {
        let mut buffer = self.buffer.borrow_mut();
        buffer.clear_transport();
        (buffer.take_all(), buffer.take_resumed())
    }

    /// Takes back what was lent, before all else.
    pub(crate) fn take_back(&self) {
        self.buffer.borrow_mut().take_back();
    }

    /// From where on a piece is lent; its end, if it is not.
    pub(crate) fn lent_from(&self, piece: &Rc<Vec<u8>>) -> usize {
        self.buffer.borrow().lent_from(piece)
    }

    /// Of what is lent so much was used. True if that was all.
    pub(crate) fn skip_lent(&self, n: usize) -> bool {
        self.buffer.borrow_mut().skip_lent(n)
    }

    /// A handle that feeds the reader, also while somebody waits for a read.
    pub fn feeder(&self) -> StreamFeeder {
        StreamFeeder::new(self.buffer.clone())
    }

    /// As [`StreamFeeder::feed_data`].
    pub fn feed_data(&self, data: &[u8]) {
        self.feeder().feed_data(data);
    }

    /// As [`StreamFeeder::feed_eof`].
    pub fn feed_eof(&self) {
        self.feeder().feed_eof();
    }

    /// As [`StreamFeeder::set_exception`].
    pub fn set_exception(&self, error: &io::Error) {
        self.feeder().set_exception(error);
    }

    /// The error that every read gives, if there is one.
    pub fn exception(&self) -> Option<io::Error> {
        self.buffer.borrow().error()
    }

    /// Whether the stream has ended and everything was read.
    pub fn at_eof(&self) -> bool {
        let buffer = self.buffer.borrow();
        buffer.eof && buffer.len() == 0
    }

    /// The most bytes that a line or a piece before a separator may have.
    pub fn limit(&self) -> usize {
        self.buffer.borrow().limit
    }

    /// Sets the limit, in bytes, for what is read from now on.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn set_limit(&mut self, limit: usize) {
        assert!(limit > 0, "StreamReader::set_limit(): the limit must be above zero");
        self.buffer.borrow_mut().limit = limit;
    }

    /// Waits until `look` finds what it wants in the buffer. It must find something at the end of the stream.
    async fn wait_for<T>(&mut self, mut look: impl FnMut(&mut Buffer) -> Option<T>) -> io::Result<T> {
        self.buffer.borrow().check()?;
        poll_fn(|cx| self.poll_for(cx, &mut look)).await
    }

    pub(crate) fn poll_for<T>(
        &self,
        cx: &Context<'_>,
        look: impl FnOnce(&mut Buffer) -> Option<T>,
    ) -> Poll<io::Result<T>> {
        let mut before = None;
        let polled = change(&self.buffer, |buffer| {
            // What has arrived before an error is not lost to whoever has waited for it.
            if let Some(found) = look(buffer) {
                return Poll::Ready(Ok(found));
            }
            buffer.check()?;
            // Whoever asks for more than fits would wait for ever.
            buffer.resume();
            before = buffer.waiter.replace(cx.waker().clone());
            Poll::Pending
        });
        drop(before);
        if polled.is_pending() {
            waits_for(|| WaitsFor::Other("a stream to be read"));
        }
        polled
    }

    /// Ready when nothing more comes. Nothing is received for it beyond the limit.
    pub(crate) fn poll_end(&self, cx: &Context<'_>) -> Poll<()> {
        // A waker may be the application's: it is cloned and dropped with nothing borrowed.
        let waker = cx.waker().clone();
        let mut buffer = self.buffer.borrow_mut();
        if buffer.has_ended() {
            return Poll::Ready(());
        }
        let before = buffer.waiter.replace(waker);
        drop(buffer);
        drop(before);
        waits_for(|| WaitsFor::Other("the end of a stream"));
        Poll::Pending
    }

    /// Reads what is there, at most `n` bytes, and waits only if nothing is there. Empty at the end of the stream, and
    /// for an `n` of zero.
    ///
    /// # Errors
    ///
    /// Why the connection failed.
    pub async fn read(&mut self, n: usize) -> io::Result<Vec<u8>> {
        self.wait_for(|buffer| {
            let there = n.min(buffer.len());
            (there > 0 || n == 0 || buffer.eof).then(|| buffer.take(there))
        })
        .await
    }

    /// Reads until the end of the stream, also more than the limit.
    ///
    /// # Errors
    ///
    /// Why the connection failed.
    pub async fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        self.wait_for(|buffer| buffer.eof.then(|| buffer.take_all())).await
    }

    /// Reads exactly `n` bytes, also more than the limit.
    ///
    /// # Errors
    ///
    /// [`ReadError::Incomplete`] with what there was, if the stream ends before; [`ReadError::Io`].
    pub async fn readexactly(&mut self, n: usize) -> Result<Vec<u8>, ReadError> {
        self.wait_for(|buffer| {
            if buffer.len() >= n {
                return Some(Ok(buffer.take(n)));
            }
            let incomplete = |partial| ReadError::Incomplete(IncompleteRead { partial, expected: Some(n) });
            buffer.eof.then(|| Err(incomplete(buffer.take_all())))
        })
        .await?
    }

    /// Reads a line with its `\n`; without one at the end of the stream, and empty after it.
    ///
    /// # Errors
    ///
    /// [`ReadError::Overrun`] if the line is longer than the limit; it is then dropped, as far as it has arrived.
    /// [`ReadError::Io`].
    pub async fn readline(&mut self) -> Result<Vec<u8>, ReadError> {
        let mut searched = 0;
        self.wait_for(|buffer| buffer.line(&mut searched)).await?
    }

    /// The lines up to the end of the stream, as [`readline`](Self::readline) gives them: a `Stream`. It goes on after
    /// a line that was too long, and ends with an error of the connection's.
    ///
    /// ```
    /// use futures::TryStreamExt;
    ///
    /// # roundelay::block_on(async {
    /// let mut reader = roundelay::StreamReader::new(1024);
    /// reader.feed_data(b"one\ntwo\nthree");
    /// reader.feed_eof();
    /// let lines: Vec<_> = reader.lines().try_collect().await.unwrap();
    /// assert_eq!(lines, [&b"one\n"[..], b"two\n", b"three"]);
    /// # });
    /// ```
    pub fn lines(&mut self) -> Lines<'_> {
        Lines { reader: self, state: LinesState::Between }
    }

    /// Reads up to and including a separator; of several, up to the one that ends first.
    ///
    /// ```
    /// # roundelay::block_on(async {
    /// let mut reader = roundelay::StreamReader::new(1024);
    /// reader.feed_data(b"a;b,c");
    /// assert_eq!(reader.readuntil([";", ","]).await.unwrap(), b"a;");
    /// assert_eq!(reader.readuntil(b",").await.unwrap(), b"b,");
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// [`ReadError::Overrun`] if no separator ends within the limit (separator not counted); what has arrived stays in
    /// the reader. [`ReadError::Incomplete`] with what there was, if the stream ends before. [`ReadError::Io`]; of kind
    /// `InvalidInput` for no separator or an empty one.
    pub async fn readuntil(&mut self, separators: impl Separators) -> Result<Vec<u8>, ReadError> {
        let separators = separators.list();
        if separators.is_empty() || separators.iter().any(Vec::is_empty) {
            let text = "StreamReader::readuntil(): it needs a separator, and of at least one byte";
            return Err(invalid_input(text).into());
        }
        let mut searched = 0;
        self.wait_for(|buffer| buffer.until(&separators, &mut searched)).await?
    }
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        change(&self.buffer, Buffer::abandon);
    }
}

/// The lines of a stream. Made by [`StreamReader::lines`].
#[must_use = "streams do nothing unless they are polled"]
#[derive(Debug)]
pub struct Lines<'a> {
    reader: &'a mut StreamReader,
    state: LinesState,
}

#[derive(Debug)]
enum LinesState {
    Between,
    /// No line ends before this place of the buffer.
    Within(usize),
    Ended,
}

impl Stream for Lines<'_> {
    type Item = Result<Vec<u8>, ReadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let mut searched = match this.state {
            LinesState::Ended => return Poll::Ready(None),
            LinesState::Within(searched) => searched,
            LinesState::Between => {
                if let Some(error) = this.reader.exception() {
                    this.state = LinesState::Ended;
                    return Poll::Ready(Some(Err(error.into())));
                }
                0
            }
        };
        let polled = this.reader.poll_for(cx, |buffer| buffer.line(&mut searched));
        let (state, polled) = match polled {
            Poll::Pending => (LinesState::Within(searched), Poll::Pending),
            Poll::Ready(Ok(Ok(line))) if line.is_empty() => (LinesState::Ended, Poll::Ready(None)),
            Poll::Ready(Ok(line)) => (LinesState::Between, Poll::Ready(Some(line))),
            Poll::Ready(Err(error)) => (LinesState::Ended, Poll::Ready(Some(Err(error.into())))),
        };
        this.state = state;
        polled
    }
}

/// One separator or several, for [`StreamReader::readuntil`]: bytes, a text, an array or a list of them.
pub trait Separators {
    /// The separators.
    fn list(self) -> Vec<Vec<u8>>;
}

impl Separators for &[u8] {
    fn list(self) -> Vec<Vec<u8>> {
        vec![self.to_vec()]
    }
}

impl<const N: usize> Separators for &[u8; N] {
    fn list(self) -> Vec<Vec<u8>> {
        vec![self.to_vec()]
    }
}

impl Separators for &str {
    fn list(self) -> Vec<Vec<u8>> {
        vec![self.as_bytes().to_vec()]
    }
}

impl<S: AsRef<[u8]>, const N: usize> Separators for [S; N] {
    fn list(self) -> Vec<Vec<u8>> {
        self.iter().map(|separator| separator.as_ref().to_vec()).collect()
    }
}

impl<S: AsRef<[u8]>> Separators for Vec<S> {
    fn list(self) -> Vec<Vec<u8>> {
        self.iter().map(|separator| separator.as_ref().to_vec()).collect()
    }
}

impl fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<StreamReader{:?}>", self.buffer.borrow())
    }
}

//! The reading half of a stream.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::constants::STREAM_LIMIT;
use crate::error::{IncompleteRead, LimitOverrun};
use crate::protocol::Transport;
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

/// What the reader shares with whoever feeds it.
pub(crate) struct Buffer {
    /// What has arrived and was not read, from `start` on.
    bytes: Vec<u8>,
    start: usize,
    limit: usize,
    eof: bool,
    /// The error that every read gives from now on.
    error: Option<(io::ErrorKind, Rc<str>)>,
    /// Who waits for bytes.
    waiter: Option<Waker>,
    /// Where the bytes come from; none for a reader that is fed by hand.
    transport: Option<Transport>,
    /// Whether the transport was told to pause.
    paused: bool,
}

impl Buffer {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            start: 0,
            limit,
            eof: false,
            error: None,
            waiter: None,
            transport: None,
            paused: false,
        }
    }

    pub(crate) fn set_transport(&mut self, transport: Transport) {
        self.transport = Some(transport);
    }

    pub(crate) fn clear_transport(&mut self) {
        self.transport = None;
    }

    fn unread(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn wake(&mut self) {
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }

    pub(crate) fn feed(&mut self, data: &[u8]) {
        if data.is_empty() || self.eof {
            return;
        }
        if self.start > 0 && self.start >= self.len() {
            // More was read than is left: closing the gap costs less than it frees.
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(data);
        self.wake();
        if !self.paused && self.len() > self.limit.saturating_mul(2) {
            if let Some(transport) = &self.transport {
                transport.pause_reading();
                self.paused = true;
            }
        }
    }

    pub(crate) fn feed_eof(&mut self) {
        self.eof = true;
        self.wake();
    }

    pub(crate) fn set_error(&mut self, error: &io::Error) {
        self.error = Some((error.kind(), error.to_string().into()));
        self.wake();
    }

    pub(crate) fn error(&self) -> Option<io::Error> {
        self.error.as_ref().map(|(kind, text)| io::Error::new(*kind, text.to_string()))
    }

    fn check(&self) -> io::Result<()> {
        self.error().map_or(Ok(()), Err)
    }

    /// Takes `n` bytes from the front.
    fn take(&mut self, n: usize) -> Vec<u8> {
        let taken = if n == self.len() && self.start == 0 {
            std::mem::take(&mut self.bytes)
        } else {
            let taken = self.unread()[..n].to_vec();
            self.skip(n);
            return taken;
        };
        self.resume_if_drained();
        taken
    }

    /// Drops `n` bytes from the front.
    fn skip(&mut self, n: usize) {
        self.start += n;
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
        self.resume_if_drained();
    }

    fn resume_if_drained(&mut self) {
        if self.paused && self.len() <= self.limit {
            self.resume();
        }
    }

    fn resume(&mut self) {
        self.paused = false;
        if let Some(transport) = &self.transport {
            transport.resume_reading();
        }
    }
}

/// The reading half of a stream: bytes as they have arrived, in the pieces that are asked for.
///
/// What has arrived and was not read is buffered, up to about twice the limit (64 KiB unless it was set); then the
/// transport is paused until some of it is read.
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
    _connection: Option<Rc<Connection>>,
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
        Self { buffer: Rc::new(RefCell::new(Buffer::new(limit))), _connection: None }
    }

    pub(crate) fn of_connection(buffer: Rc<RefCell<Buffer>>, connection: Rc<Connection>) -> Self {
        Self { buffer, _connection: Some(connection) }
    }

    /// Appends bytes, as if they had arrived. Bytes after the end of the stream are dropped.
    pub fn feed_data(&self, data: &[u8]) {
        self.buffer.borrow_mut().feed(data);
    }

    /// Ends the stream.
    pub fn feed_eof(&self) {
        self.buffer.borrow_mut().feed_eof();
    }

    /// Makes every read fail from now on, also the one that is waiting.
    pub fn set_exception(&self, error: &io::Error) {
        self.buffer.borrow_mut().set_error(error);
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

    /// Waits until there is more than there is now, or an end.
    async fn wait_for_data(&self) -> io::Result<()> {
        let before = self.buffer.borrow().len();
        poll_fn(|cx| {
            let mut buffer = self.buffer.borrow_mut();
            if buffer.error.is_some() || buffer.eof || buffer.len() > before {
                return Poll::Ready(buffer.check());
            }
            // Whoever asks for more than fits would wait for ever.
            if buffer.paused {
                buffer.resume();
            }
            buffer.waiter = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Reads what is there, at most `n` bytes, and waits only if nothing is there. Empty at the end of the stream, and
    /// for an `n` of zero.
    ///
    /// # Errors
    ///
    /// Why the connection failed.
    pub async fn read(&mut self, n: usize) -> io::Result<Vec<u8>> {
        self.buffer.borrow().check()?;
        if n == 0 {
            return Ok(Vec::new());
        }
        if self.buffer.borrow().len() == 0 && !self.buffer.borrow().eof {
            self.wait_for_data().await?;
        }
        let mut buffer = self.buffer.borrow_mut();
        let n = n.min(buffer.len());
        Ok(buffer.take(n))
    }

    /// Reads until the end of the stream.
    ///
    /// # Errors
    ///
    /// Why the connection failed; what had arrived stays in the reader.
    pub async fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        self.buffer.borrow().check()?;
        let mut all = Vec::new();
        loop {
            {
                let mut buffer = self.buffer.borrow_mut();
                all.extend_from_slice(buffer.unread());
                let n = buffer.len();
                buffer.skip(n);
                if buffer.eof {
                    return Ok(all);
                }
            }
            if let Err(error) = self.wait_for_data().await {
                let mut buffer = self.buffer.borrow_mut();
                buffer.bytes = all;
                buffer.start = 0;
                return Err(error);
            }
        }
    }

    /// Reads exactly `n` bytes, also more than the limit.
    ///
    /// # Errors
    ///
    /// [`ReadError::Incomplete`] with what there was, if the stream ends before; [`ReadError::Io`].
    pub async fn readexactly(&mut self, n: usize) -> Result<Vec<u8>, ReadError> {
        self.buffer.borrow().check()?;
        loop {
            {
                let mut buffer = self.buffer.borrow_mut();
                if buffer.len() >= n {
                    return Ok(buffer.take(n));
                }
                if buffer.eof {
                    let len = buffer.len();
                    let partial = buffer.take(len);
                    return Err(ReadError::Incomplete(IncompleteRead { partial, expected: Some(n) }));
                }
            }
            self.wait_for_data().await?;
        }
    }

    /// Reads a line with its `\n`; without one at the end of the stream, and empty after it.
    ///
    /// # Errors
    ///
    /// [`ReadError::Overrun`] if the line is longer than the limit; it is then dropped, as far as it has arrived.
    /// [`ReadError::Io`].
    pub async fn readline(&mut self) -> Result<Vec<u8>, ReadError> {
        match self.readuntil(b"\n").await {
            Err(ReadError::Incomplete(incomplete)) => Ok(incomplete.partial),
            Err(ReadError::Overrun(overrun)) => {
                let mut buffer = self.buffer.borrow_mut();
                // The whole line goes if its end is there; else everything, which is all of this line.
                let n = if overrun.found { overrun.consumed + 1 } else { buffer.len() };
                buffer.skip(n);
                drop(buffer);
                Err(ReadError::Overrun(overrun))
            }
            result => result,
        }
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
        let shortest = separators.iter().map(Vec::len).min().unwrap_or(0);
        let longest = separators.iter().map(Vec::len).max().unwrap_or(0);
        if shortest == 0 {
            let text = "StreamReader::readuntil(): a separator must have at least one byte";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text).into());
        }
        self.buffer.borrow().check()?;
        // Before this place no separator begins.
        let mut searched = 0;
        loop {
            {
                let mut buffer = self.buffer.borrow_mut();
                let (len, limit) = (buffer.len(), buffer.limit);
                if let Some((begin, end)) = find(buffer.unread(), searched, &separators) {
                    if begin > limit {
                        return Err(ReadError::Overrun(LimitOverrun { consumed: begin, found: true }));
                    }
                    return Ok(buffer.take(end));
                }
                searched = (len + 1).saturating_sub(longest);
                if searched > limit {
                    return Err(ReadError::Overrun(LimitOverrun { consumed: searched, found: false }));
                }
                if buffer.eof {
                    let partial = buffer.take(len);
                    return Err(ReadError::Incomplete(IncompleteRead { partial, expected: None }));
                }
            }
            self.wait_for_data().await?;
        }
    }
}

/// The first separator to end, looked for from `from` on: where it begins and where it ends.
fn find(bytes: &[u8], from: usize, separators: &[Vec<u8>]) -> Option<(usize, usize)> {
    let found = separators.iter().filter_map(|separator| {
        let begin = from + find_one(bytes.get(from..)?, separator)?;
        Some((begin + separator.len(), begin))
    });
    // Of two that end at the same place, the shorter one.
    found.min_by_key(|&(end, begin)| (end, Reverse(begin))).map(|(end, begin)| (begin, end))
}

fn find_one(bytes: &[u8], separator: &[u8]) -> Option<usize> {
    match separator {
        [byte] => bytes.iter().position(|other| other == byte),
        _ => bytes.windows(separator.len()).position(|window| window == separator),
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
        let buffer = self.buffer.borrow();
        write!(f, "<StreamReader")?;
        if buffer.len() > 0 {
            write!(f, " {} bytes", buffer.len())?;
        }
        if buffer.eof {
            f.write_str(" eof")?;
        }
        if buffer.limit != STREAM_LIMIT {
            write!(f, " limit={}", buffer.limit)?;
        }
        if let Some((_, text)) = &buffer.error {
            write!(f, " exception={text}")?;
        }
        if let Some(transport) = &buffer.transport {
            write!(f, " transport={transport:?}")?;
        }
        if buffer.paused {
            f.write_str(" paused")?;
        }
        f.write_str(">")
    }
}

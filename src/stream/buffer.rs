//! What a reader shares with whoever feeds it.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::task::Waker;

use crate::constants::{READER_KEEP, STREAM_LIMIT};
use crate::error::{IncompleteRead, LastingError, LimitOverrun};
use crate::os::room::Room;
use crate::protocol::Transport;
use crate::stream::reader::ReadError;

/// Bytes that have arrived and were not read, and what is known of their source.
pub(crate) struct Buffer {
    /// What has arrived and was not read, from `start` on.
    bytes: Vec<u8>,
    start: usize,
    pub(crate) limit: usize,
    pub(crate) eof: bool,
    /// The error that every read gives from now on.
    error: Option<LastingError>,
    /// Who waits for bytes.
    pub(crate) waiter: Option<Waker>,
    /// Where the bytes come from; none for a reader that is fed by hand.
    transport: Option<Transport>,
    /// Whether the transport was told to pause.
    paused: bool,
    /// The transport, where it is to read on: it is told with nothing borrowed.
    resumed: Option<Transport>,
    /// How many want it to stay so, whatever is read.
    holds: usize,
    /// What was taken out to be used piece by piece, and how much of it was. Nothing else is read meanwhile.
    lent: Option<(Rc<Vec<u8>>, usize)>,
    /// How many bytes somebody else has taken from the front: what is looked for is looked for anew behind them.
    diverted: usize,
    /// Whether the reader was dropped: what arrives is nobody's.
    abandoned: bool,
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
            resumed: None,
            holds: 0,
            lent: None,
            diverted: 0,
            abandoned: false,
        }
    }

    pub(crate) fn set_transport(&mut self, transport: Transport) {
        self.transport = Some(transport);
        if self.holds > 0 {
            self.pause();
        }
    }

    fn pause(&mut self) {
        if self.resumed.take().is_some() {
            self.paused = true;
            return;
        }
        let reading = self.transport.as_ref().filter(|transport| transport.is_reading());
        if let Some(transport) = reading {
            transport.pause_reading();
            self.paused = true;
        }
    }

    /// Has no more to do with the transport, and leaves it reading if it was paused from here: from now on pausing it is
    /// somebody else's.
    pub(crate) fn clear_transport(&mut self) {
        self.resume();
        self.transport = None;
    }

    fn unread(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Appends bytes. Gives who is to be woken, with the buffer no longer borrowed.
    #[must_use]
    pub(crate) fn feed(&mut self, data: &[u8]) -> Option<Waker> {
        if data.is_empty() || self.has_ended() || self.abandoned {
            return None;
        }
        if self.start > 0 && self.start >= self.len() {
            // More was read than is left: closing the gap costs less than it frees.
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(data);
        if !self.paused && self.len() > self.limit.saturating_mul(2) {
            self.pause();
        }
        self.waiter.take()
    }

    /// Ends the stream. Gives who is to be woken.
    #[must_use]
    pub(crate) fn feed_eof(&mut self) -> Option<Waker> {
        if self.has_ended() {
            return None;
        }
        self.eof = true;
        self.waiter.take()
    }

    /// Whether nothing can come any more: after an error not even the end of the stream, which would hide it.
    pub(crate) fn has_ended(&self) -> bool {
        self.eof || self.error.is_some()
    }

    /// Makes every read fail from now on. Gives who is to be woken.
    #[must_use]
    pub(crate) fn set_error(&mut self, error: &io::Error) -> Option<Waker> {
        self.error = Some(LastingError::new(error));
        self.waiter.take()
    }

    pub(crate) fn error(&self) -> Option<io::Error> {
        self.error.as_ref().map(LastingError::get)
    }

    pub(crate) fn check(&self) -> io::Result<()> {
        self.error().map_or(Ok(()), Err)
    }

    /// Takes `n` bytes from the front.
    pub(crate) fn take(&mut self, n: usize) -> Vec<u8> {
        if n == self.bytes.len() && self.bytes.capacity() / 2 <= n {
            // All of it: the memory goes with it.
            let taken = std::mem::take(&mut self.bytes);
            self.resume_if_drained();
            return taken;
        }
        let taken = self.unread()[..n].to_vec();
        self.skip(n);
        taken
    }

    /// Takes all bytes.
    pub(crate) fn take_all(&mut self) -> Vec<u8> {
        self.take(self.len())
    }

    /// Takes as many bytes as there are and fit.
    pub(crate) fn copy_to(&mut self, room: &mut Room<'_>) -> usize {
        let n = room.put(self.unread());
        self.skip(n);
        n
    }

    /// Takes all bytes, and lends them to whoever reads.
    pub(crate) fn lend(&mut self) -> Rc<Vec<u8>> {
        let piece = Rc::new(self.take_all());
        self.lent = (!piece.is_empty()).then(|| (piece.clone(), 0));
        piece
    }

    /// From where on a piece is lent; its end, if it is not.
    pub(crate) fn lent_from(&self, piece: &Rc<Vec<u8>>) -> usize {
        match &self.lent {
            Some((lent, start)) if Rc::ptr_eq(lent, piece) => *start,
            _ => piece.len(),
        }
    }

    /// Of what is lent so much was used. True if nothing is lent any more.
    pub(crate) fn skip_lent(&mut self, n: usize) -> bool {
        if let Some((lent, start)) = &mut self.lent {
            *start += n;
            if *start >= lent.len() {
                self.lent = None;
            }
        }
        self.lent.is_none()
    }

    /// Takes back what was lent and not used.
    pub(crate) fn take_back(&mut self) {
        if let Some((lent, start)) = self.lent.take() {
            let mut bytes = lent[start..].to_vec();
            bytes.extend_from_slice(self.unread());
            (self.bytes, self.start) = (bytes, 0);
        }
    }

    /// Drops `n` bytes from the front.
    fn skip(&mut self, n: usize) {
        self.start += n;
        if self.start == self.bytes.len() {
            self.start = 0;
            self.bytes.clear();
            self.bytes.shrink_to(READER_KEEP);
        }
        self.resume_if_drained();
    }

    fn resume_if_drained(&mut self) {
        if self.len() <= self.limit {
            self.resume();
        }
    }

    pub(crate) fn resume(&mut self) {
        if self.holds > 0 || !std::mem::take(&mut self.paused) {
            return;
        }
        self.resumed.clone_from(&self.transport);
    }

    /// The transport, if somebody has to tell it to read on.
    #[must_use]
    pub(crate) fn take_resumed(&mut self) -> Option<Transport> {
        self.resumed.take()
    }

    /// Keeps the transport from reading until `let_go`, whatever is read here.
    #[cfg(feature = "__tls")]
    pub(crate) fn hold(&mut self) {
        self.holds += 1;
        self.pause();
    }

    #[cfg(feature = "__tls")]
    pub(crate) fn let_go(&mut self) {
        self.holds -= 1;
        self.resume();
    }

    /// What was not read goes to somebody else, who stands between the transport and this from now on.
    #[cfg(feature = "__tls")]
    pub(crate) fn divert(&mut self) -> Vec<u8> {
        self.transport = None;
        self.paused = false;
        self.take_back();
        self.diverted += self.len();
        self.take_all()
    }

    /// Nobody will read any more.
    pub(crate) fn abandon(&mut self) {
        self.abandoned = true;
        self.lent = None;
        self.bytes = Vec::new();
        self.start = 0;
        self.resume();
    }

    /// Takes bytes up to and including a separator, if one is there or cannot come any more. Before `searched` none
    /// begins.
    pub(crate) fn until<S: AsRef<[u8]>>(
        &mut self,
        separators: &[S],
        searched: &mut usize,
    ) -> Option<Result<Vec<u8>, ReadError>> {
        let from = searched.saturating_sub(self.diverted);
        if let Some((begin, end)) = find(self.unread(), from, separators) {
            if begin > self.limit {
                return Some(Err(ReadError::Overrun(LimitOverrun { consumed: begin, found: true })));
            }
            return Some(Ok(self.take(end)));
        }
        let longest = separators.iter().map(|separator| separator.as_ref().len()).max().unwrap_or(0);
        let consumed = (self.len() + 1).saturating_sub(longest);
        *searched = self.diverted + consumed;
        if consumed > self.limit {
            return Some(Err(ReadError::Overrun(LimitOverrun { consumed, found: false })));
        }
        self.eof.then(|| Err(ReadError::Incomplete(IncompleteRead { partial: self.take_all(), expected: None })))
    }

    /// As `until` for the end of a line, with what `readline` makes of the errors.
    pub(crate) fn line(&mut self, searched: &mut usize) -> Option<Result<Vec<u8>, ReadError>> {
        let line = self.until(&[b"\n"], searched)?;
        Some(match line {
            Err(ReadError::Incomplete(incomplete)) => Ok(incomplete.partial),
            Err(ReadError::Overrun(overrun)) => {
                // The whole line goes if its end is there; else everything, which is all of this line.
                self.skip(if overrun.found { overrun.consumed + 1 } else { self.len() });
                Err(ReadError::Overrun(overrun))
            }
            line => line,
        })
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.len() > 0 {
            write!(f, " {} bytes", self.len())?;
        }
        if self.eof {
            f.write_str(" eof")?;
        }
        if self.limit != STREAM_LIMIT {
            write!(f, " limit={}", self.limit)?;
        }
        if self.waiter.is_some() {
            f.write_str(" waiter")?;
        }
        if let Some(error) = self.error() {
            write!(f, " exception={error}")?;
        }
        if let Some(transport) = &self.transport {
            write!(f, " transport={transport:?}")?;
        }
        if self.paused {
            f.write_str(" paused")?;
        }
        Ok(())
    }
}

/// The first separator to end, looked for from `from` on: where it begins and where it ends.
fn find<S: AsRef<[u8]>>(bytes: &[u8], from: usize, separators: &[S]) -> Option<(usize, usize)> {
    let found = separators.iter().filter_map(|separator| {
        let separator = separator.as_ref();
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

/// Changes a buffer, and tells its transport to read on if that has made room: at the end, for a transport of an
/// application's may deliver at once.
pub(crate) fn change<T>(buffer: &RefCell<Buffer>, change: impl FnOnce(&mut Buffer) -> T) -> T {
    let mut borrowed = buffer.borrow_mut();
    let result = change(&mut borrowed);
    let resumed = borrowed.take_resumed();
    drop(borrowed);
    if let Some(transport) = resumed {
        transport.resume_reading();
    }
    result
}

/// Wakes the one who waited for what a feed has brought.
pub(crate) fn wake(waiter: Option<Waker>) {
    if let Some(waiter) = waiter {
        waiter.wake();
    }
}

//! How a file goes out: by the system's own call, or by reading and writing.
//!
//! A disk blocks, and the loop must not. So whoever sends looks first whether the pages are in memory, here and there, and
//! has them read by a thread of the default executor if they are not; the system's call then finds them. Where the system
//! does not say, every part is read beforehand.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::constants::{SENDFILE_AHEAD, SENDFILE_BUFFER, SENDFILE_CHUNK};
use crate::error::{LoopClosed, SendfileNotAvailable, invalid_input};
use crate::event_loop::EventLoop;
use crate::event_loop::source::Source;
use crate::os::fd::{AsFd, BorrowedFd, OwnedFd, is_readable};
use crate::os::sendfile::{self as os, Kind};
use crate::os::sigpipe;
use crate::os::socket::would_block;
use crate::reactor::slot::Direction;
use crate::reactor::{Interest, Readiness};

/// Where a file goes. Dropping it ends the sending.
pub(crate) trait Sink {
    /// Checks that a file can be sent, and keeps others away from here on.
    fn begin(&mut self, method: &str) -> io::Result<()>;

    /// Whether the system can send to it: false where bytes go through code on their way.
    fn is_native(&self) -> bool;

    /// Calls `call` with the descriptor until it does not block, waiting in between.
    fn poll_call(&mut self, cx: &mut Context<'_>, call: &mut Call<'_>) -> Poll<io::Result<usize>>;

    /// Sends some of these bytes.
    fn poll_send(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>>;
}

/// A system call that sends.
pub(crate) type Call<'a> = dyn FnMut(BorrowedFd<'_>) -> io::Result<usize> + 'a;

/// What is to be sent of a file.
#[derive(Debug)]
pub(crate) struct Request {
    /// A descriptor of its own: the application may close the file meanwhile.
    pub(crate) file: io::Result<OwnedFd>,
    pub(crate) offset: u64,
    /// Up to the end if it is `None`.
    pub(crate) count: Option<u64>,
    pub(crate) fallback: bool,
}

impl Request {
    pub(crate) fn new(file: impl AsFd) -> Self {
        Self { file: os::duplicate(file.as_fd()), offset: 0, count: None, fallback: true }
    }
}

/// Sends a file, and says how many bytes that were.
pub(crate) async fn send(
    el: EventLoop,
    method: &'static str,
    request: Request,
    mut sink: Box<dyn Sink + '_>,
) -> io::Result<u64> {
    let Request { file, offset, count, fallback } = request;
    if count == Some(0) {
        return Err(invalid_input(format!("EventLoop::{method}(): count() must be a positive number of bytes")));
    }
    if i64::try_from(offset).is_err() {
        return Err(invalid_input(format!("EventLoop::{method}(): no file has an offset of {offset}")));
    }
    if el.is_closed() {
        return Err(LoopClosed.into());
    }
    let file = file?;
    sink.begin(method)?;
    let kind = os::kind(file.as_fd())?;
    if kind == Kind::Stream && offset > 0 {
        return Err(invalid_input(format!("EventLoop::{method}(): offset() needs a file that has places")));
    }
    let mut outgoing = Outgoing { el, sink, file: Arc::new(file), kind, offset, count, sent: 0 };
    match outgoing.natively().await {
        Ok(()) => {}
        Err(Stopped::NotAvailable(_)) if fallback => outgoing.by_reading().await?,
        Err(Stopped::NotAvailable(error)) => return Err(error.into()),
        Err(Stopped::Failed(error)) => return Err(error),
    }
    Ok(outgoing.sent)
}

/// Why the system does not go on with it.
enum Stopped {
    /// It cannot do it: nothing was sent.
    NotAvailable(SendfileNotAvailable),
    Failed(io::Error),
}

/// A file on its way. Dropped, it leaves the file's position behind what was sent.
struct Outgoing<'a> {
    el: EventLoop,
    sink: Box<dyn Sink + 'a>,
    /// Shared with the thread that reads.
    file: Arc<OwnedFd>,
    kind: Kind,
    offset: u64,
    count: Option<u64>,
    sent: u64,
}

impl Drop for Outgoing<'_> {
    fn drop(&mut self) {
        if let Kind::Placed { .. } = self.kind {
            if let Err(error) = os::seek(self.file.as_fd(), self.place()) {
                note!(DEBUG, "roundelay::io", "the position of a file that was sent: {error}");
            }
        }
    }
}

impl Outgoing<'_> {
    /// Where the next byte is.
    fn place(&self) -> u64 {
        self.offset + self.sent
    }

    /// How many bytes to send next, at most `most`. Zero if all are sent that were asked for.
    fn part(&self, most: usize) -> usize {
        let left = self.count.map_or(u64::MAX, |count| count - self.sent);
        usize::try_from(left).map_or(most, |left| left.min(most))
    }

    /// What keeps the system from sending it.
    fn obstacle(&self) -> Option<&'static str> {
        if !self.sink.is_native() {
            return Some("fallback is disabled, and bytes do not go straight from this transport to a socket");
        }
        if self.kind == Kind::Stream {
            return Some("not a regular file");
        }
        if !os::IS_AVAILABLE {
            return Some("no sendfile() on this platform");
        }
        // Other than `send`, the call has no flag against it.
        sigpipe::would_kill()
            .then_some("SIGPIPE is not ignored in this process, and a peer that goes away would end it")
    }

    /// Sends by the system's call.
    async fn natively(&mut self) -> Result<(), Stopped> {
        if let Some(reason) = self.obstacle() {
            return Err(Stopped::NotAvailable(SendfileNotAvailable::new(reason)));
        }
        // Whether the part that comes next was just read.
        let mut loaded = false;
        loop {
            let len = self.part(SENDFILE_CHUNK);
            if len == 0 {
                return Ok(());
            }
            let (file, place, end) = (self.file.as_fd(), self.place(), self.end_of(len));
            let mut absent = false;
            let mut call = |socket: BorrowedFd<'_>| {
                absent = !loaded && end > place && !os::is_in_memory(file, place, (end - place) as usize);
                if absent { Ok(0) } else { os::sendfile(socket, file, place, len) }
            };
            let sent = poll_fn(|cx| self.sink.poll_call(cx, &mut call)).await;
            match sent {
                Ok(_) if absent => {
                    self.load(len).await.map_err(Stopped::Failed)?;
                    loaded = true;
                    continue;
                }
                Ok(0) => return Ok(()),
                Ok(n) => self.sent += n as u64,
                Err(error) if self.sent == 0 && is_refusal(&error) => {
                    return Err(Stopped::NotAvailable(SendfileNotAvailable::refused(error)));
                }
                Err(error) => return Err(Stopped::Failed(error)),
            }
            loaded = false;
        }
    }

    /// Where the next `len` bytes end, as far as the file goes.
    fn end_of(&self, len: usize) -> u64 {
        let end = self.place() + len as u64;
        match self.kind {
            Kind::Placed { size: Some(size) } => end.min(size),
            _ => end,
        }
    }

    /// Has the next `len` bytes read into memory.
    async fn load(&self, len: usize) -> io::Result<()> {
        let (file, place) = (self.file.clone(), self.place());
        let loaded = self.el.run_in_executor(None, move || os::load(file.as_fd(), place, len, SENDFILE_AHEAD)).await;
        Ok(loaded?)
    }

    /// Sends through a buffer, which is filled by a thread.
    async fn by_reading(&mut self) -> io::Result<()> {
        let source = match self.kind {
            Kind::Placed { .. } => None,
            Kind::Stream => self.source()?,
        };
        let mut buffer = Vec::new();
        loop {
            let len = self.part(SENDFILE_BUFFER);
            if len == 0 {
                return Ok(());
            }
            if let Some(source) = &source {
                let readable = |file: &Arc<OwnedFd>| match is_readable(file.as_fd())? {
                    true => Ok(()),
                    false => Err(io::ErrorKind::WouldBlock.into()),
                };
                source.io_loop(Direction::Read, readable).await?;
            }
            buffer.resize(len, 0);
            let read;
            (buffer, read) = self.read(buffer).await?;
            let n = match read {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                // Somebody else has read it.
                Err(error) if would_block(&error) && source.is_some() => continue,
                Err(error) => return Err(error),
            };
            let mut rest = &buffer[..n];
            while !rest.is_empty() {
                let sent = poll_fn(|cx| self.sink.poll_send(cx, rest)).await?;
                self.sent += sent as u64;
                rest = &rest[sent..];
            }
        }
    }

    /// What tells when a pipe or a terminal has something; `None` for what is always ready, as a device may be.
    fn source(&self) -> io::Result<Option<Source<Arc<OwnedFd>>>> {
        let file = self.file.clone();
        match Source::with_interest(&self.el.core, file, Interest::READABLE, Readiness::READABLE) {
            Ok(source) => Ok(Some(source)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Fills the buffer, on a thread.
    async fn read(&self, mut buffer: Vec<u8>) -> io::Result<(Vec<u8>, io::Result<usize>)> {
        let (file, kind, place) = (self.file.clone(), self.kind, self.place());
        let reading = self.el.run_in_executor(None, move || {
            let read = match kind {
                Kind::Placed { .. } => os::read_at(file.as_fd(), &mut buffer, place),
                Kind::Stream => os::read(file.as_fd(), &mut buffer),
            };
            (buffer, read)
        });
        Ok(reading.await?)
    }
}

/// Whether an error means that the system cannot send this file to this socket. What went wrong with the connection it
/// could not mend by other means.
fn is_refusal(error: &io::Error) -> bool {
    let of_system = error.raw_os_error().is_some() || error.kind() == io::ErrorKind::Unsupported;
    of_system && !os::is_of_connection(error)
}

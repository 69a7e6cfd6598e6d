//! The interface of transports, and the handle over whatever implements it.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;

#[cfg(feature = "__tls")]
use crate::error::InvalidState;
use crate::os::fd::BorrowedFd;
use crate::protocol::{AnyProtocol, DatagramTransport, ExtraInfo};

/// The number of a transport, which no other transport of the process has: a key for maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransportId(u64);

impl TransportId {
    /// A number that was not given out yet, for a transport of your own.
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The number itself.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for TransportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One of those who wait for room to write: see [`WriteTransport::poll_ready`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WaiterId(u64);

impl WaiterId {
    fn next() -> Self {
        thread_local! {
            // Transports stay on their thread, and so do those who wait for them.
            static NEXT: Cell<u64> = const { Cell::new(0) };
        }
        Self(NEXT.with(|next| next.replace(next.get() + 1)))
    }
}

/// The marks of a write queue, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaterMarks {
    /// Writing is resumed when the queue's size is at most this.
    pub low: usize,
    /// Writing is paused when the queue's size is more than this.
    pub high: usize,
}

/// What every transport can do.
pub trait BaseTransport: fmt::Debug {
    /// The transport's number.
    fn id(&self) -> TransportId;

    /// Whether it is closing or closed.
    fn is_closing(&self) -> bool;

    /// Closes it when what is queued has been sent.
    fn close(&self);

    /// Closes it now; what is queued is dropped.
    fn abort(&self);

    /// What is known of the connection.
    #[doc(alias = "get_extra_info")]
    fn extra_info(&self) -> ExtraInfo;

    /// Where the application made it, where that is known.
    fn created_at(&self) -> Option<&'static Location<'static>> {
        None
    }
}

/// What a transport can do that receives.
pub trait ReadTransport: BaseTransport {
    /// Whether bytes are being delivered: not paused, not at the end, not closing.
    fn is_reading(&self) -> bool;

    /// Delivers nothing until `resume_reading`.
    fn pause_reading(&self);

    /// Delivers again.
    fn resume_reading(&self);

    /// Gives bytes back that a protocol does not want: they are delivered again, before all others.
    fn unread(&self, data: &[u8]);
}

/// What a transport can do that sends.
pub trait WriteTransport: BaseTransport {
    /// Sends what can be sent at once, and queues a copy of the rest.
    fn write(&self, data: &[u8]);

    /// As `write`, without a copy.
    fn write_owned(&self, data: Bytes);

    /// As `write` for several pieces, in one system call where that is possible.
    fn writelines(&self, data: &[IoSlice<'_>]);

    /// Ends the writing half when what is queued has been sent.
    fn write_eof(&self);

    /// Whether `write_eof` is possible.
    fn can_write_eof(&self) -> bool;

    /// How many bytes are queued.
    #[doc(alias = "get_write_buffer_size")]
    fn write_buffer_size(&self) -> usize;

    /// The marks in use.
    #[doc(alias = "get_write_buffer_limits")]
    fn write_buffer_limits(&self) -> WaterMarks;

    /// Sets the marks, in bytes. `None` for the high one is four times the low one if that is given, else 64 KiB; for the
    /// low one a quarter of the high one.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the low mark is above the high one; nothing changes.
    fn set_write_buffer_limits(&self, high: Option<usize>, low: Option<usize>) -> io::Result<()>;

    /// Ends the connection, with an error of kind `WriteZero`, when more than this many bytes are queued; `None` for no
    /// such limit.
    fn set_write_buffer_cap(&self, cap: Option<usize>);

    /// Ready when writing is not paused. Several may wait: of each the latest waker counts.
    ///
    /// # Errors
    ///
    /// Why the connection is gone.
    fn poll_ready(&self, waiter: WaiterId, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ready when everything that was written is with the carrier. Otherwise as [`poll_ready`](Self::poll_ready); a
    /// waiter waits for one of the two.
    ///
    /// # Errors
    ///
    /// Why the connection is gone.
    fn poll_flushed(&self, waiter: WaiterId, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// One who waited gives up, or has been told: its waker, if it is still kept, is not needed any more.
    fn forget_waiter(&self, waiter: WaiterId);
}

/// A transport of a stream of bytes in both directions. Implement it for a carrier of your own, and make a
/// [`Transport`] of it; or let [`connect_stream`](crate::EventLoop::connect_stream) do so. With the feature `test-util`,
/// `testing::check_transport` tells whether it keeps the contract.
pub trait StreamTransport: ReadTransport + WriteTransport {
    /// The protocol that hears of it; `None` once the connection is lost.
    #[doc(alias = "get_protocol")]
    fn protocol(&self) -> Option<AnyProtocol>;

    /// Lets another protocol hear of it.
    fn set_protocol(&self, protocol: AnyProtocol);

    /// Lets another protocol hear of the connection from its beginning: see [`Transport::start_protocol`]. What it is to
    /// be given before all else is `first`.
    ///
    /// As provided, it sets the protocol and resumes reading; `connection_made` is not called.
    fn start_protocol(&self, protocol: AnyProtocol, first: &[u8]) {
        self.set_protocol(protocol);
        self.unread(first);
        self.resume_reading();
    }

    /// What sends a file with everybody else kept away. For the loop's own transports; leave it alone.
    #[doc(hidden)]
    fn file_sink(&self) -> Option<&dyn FileSink> {
        None
    }

    /// Whether the protocol was told to pause writing, and not to resume. For the loop's own transports; leave it alone.
    #[doc(hidden)]
    fn is_writing_paused(&self) -> bool {
        false
    }

    /// The protocol knows that it is to pause writing, and needs to be told of the end of that only: true if it will be.
    /// For the loop's own transports; leave it alone.
    #[doc(hidden)]
    fn heed_pause(&self) -> bool {
        false
    }

    /// Why no other transport can stand on this one just now, if that is so. For the loop's own transports; leave it alone.
    #[doc(hidden)]
    fn unfit_to_carry(&self) -> Option<&'static str> {
        self.is_closing().then_some("Transport is closing")
    }

    /// The writing side can end alone from now on, also where it is not to for those who expect asyncio's TLS. For the
    /// loop's own transports; leave it alone.
    #[doc(hidden)]
    fn allow_half_close(&self) {}

    /// Another transport stands on this one, which closes it when the loop or a server closes this one. For the loop's own
    /// transports; leave it alone.
    #[doc(hidden)]
    fn carry(&self, _upper: Transport) {}

    /// The transport that stands on this one.
    #[doc(hidden)]
    fn carried(&self) -> Option<Transport> {
        None
    }
}

/// A transport that a file can be sent over with everybody else kept away.
pub trait FileSink {
    /// Keeps everybody else from writing, and holds up reading, until `end`.
    fn begin(&self, method: &str) -> io::Result<()>;

    /// Whether its bytes go straight to a socket, so that the system can send the file.
    fn is_native(&self) -> bool;

    /// Calls `call` with the socket when what was written before is sent, until it does not block. One waits at a time.
    fn poll_call(
        &self,
        cx: &mut Context<'_>,
        call: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>>;

    /// Takes some of these bytes when what was taken before is sent.
    fn poll_send(&self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>>;

    /// The file is sent, or given up.
    fn end(&self);
}

/// A handle to the transport of a connection: to write to it, to pause it, to close it.
///
/// Clones refer to the same transport. The loop owns an open connection: it lives though nobody holds a handle, and
/// dropping handles closes nothing. All methods may be called at any time, from a callback, a task or a destructor,
/// and never call the protocol themselves. They do nothing on a transport whose connection is gone.
#[derive(Clone)]
pub struct Transport {
    inner: Rc<dyn StreamTransport>,
}

impl Transport {
    /// A handle over an implementation.
    pub fn new(inner: Rc<dyn StreamTransport>) -> Self {
        Self { inner }
    }

    /// The transport's number: a key for maps.
    pub fn id(&self) -> TransportId {
        self.inner.id()
    }

    /// Where the application made it: the call that connects, or that made the server which has accepted it. `None` of
    /// transports that are not the loop's own, and do not say.
    pub fn created_at(&self) -> Option<&'static Location<'static>> {
        self.inner.created_at()
    }

    /// Sends what the kernel takes at once, and queues a copy of the rest.
    ///
    /// Nothing is returned: flow control is by [`pause_writing`](crate::Protocol::pause_writing) and
    /// [`ready`](Self::ready), an error ends the connection. Writing after [`write_eof`](Self::write_eof), and while a
    /// file is sent ([`EventLoop::sendfile`](crate::EventLoop::sendfile)), is reported to the exception handler; writing
    /// to a connection that is closing or gone does nothing.
    pub fn write(&self, data: &[u8]) {
        self.inner.write(data);
    }

    /// As [`write`](Self::write), without a copy of what has to be queued.
    pub fn write_owned(&self, data: impl Into<Bytes>) {
        self.inner.write_owned(data.into());
    }

    /// As [`write`](Self::write) for several pieces, in one system call.
    ///
    /// ```no_run
    /// # fn f(transport: &roundelay::Transport, body: &[u8]) {
    /// use std::io::IoSlice;
    /// transport.writelines(&[IoSlice::new(b"HTTP/1.1 200 OK\r\n\r\n"), IoSlice::new(body)]);
    /// # }
    /// ```
    pub fn writelines(&self, data: &[IoSlice<'_>]) {
        self.inner.writelines(data);
    }

    /// Ends the writing half when what is queued has been sent; the peer sees an end of file. A second call does
    /// nothing.
    pub fn write_eof(&self) {
        self.inner.write_eof();
    }

    /// Whether [`write_eof`](Self::write_eof) is possible.
    pub fn can_write_eof(&self) -> bool {
        self.inner.can_write_eof()
    }

    /// Closes the connection: nothing more is received, what is queued is sent, then `connection_lost(None)` comes.
    pub fn close(&self) {
        self.inner.close();
    }

    /// Closes the connection now: what is queued is dropped, and `connection_lost(None)` comes.
    pub fn abort(&self) {
        self.inner.abort();
    }

    /// Whether the connection is closing or gone.
    pub fn is_closing(&self) -> bool {
        self.inner.is_closing()
    }

    /// Delivers nothing more until [`resume_reading`](Self::resume_reading). A second call does nothing.
    pub fn pause_reading(&self) {
        self.inner.pause_reading();
    }

    /// Delivers again. A second call does nothing.
    pub fn resume_reading(&self) {
        self.inner.resume_reading();
    }

    /// Whether bytes are being delivered: not paused, not at the end of file, not closing.
    pub fn is_reading(&self) -> bool {
        self.inner.is_reading()
    }

    /// Gives bytes back that the protocol does not want. The next protocol gets them first, whether it is set before or
    /// after this call; a protocol that stays gets them together with whatever arrives next, and not again if that is
    /// the end of file. Once `eof_received` was called nothing is read any more, and what was given back is for nobody:
    /// a protocol that means to hand over pauses reading until it has done so.
    ///
    /// ```
    /// use roundelay::{Protocol, Transport};
    ///
    /// /// Reads one line, and leaves the rest to whoever comes next.
    /// struct Preamble(fn(&[u8]) -> roundelay::AnyProtocol);
    ///
    /// impl Protocol for Preamble {
    ///     fn data_received(&mut self, transport: &Transport, data: &[u8]) {
    ///         match data.iter().position(|&byte| byte == b'\n') {
    ///             Some(end) => {
    ///                 transport.set_protocol((self.0)(&data[..end]));
    ///                 transport.unread(&data[end + 1..]);
    ///             }
    ///             // Not there yet: let it come again, with more.
    ///             None => transport.unread(data),
    ///         }
    ///     }
    /// }
    /// ```
    pub fn unread(&self, data: &[u8]) {
        self.inner.unread(data);
    }

    /// How many bytes are queued for writing.
    #[doc(alias = "get_write_buffer_size")]
    pub fn write_buffer_size(&self) -> usize {
        self.inner.write_buffer_size()
    }

    /// The water marks, in bytes: 64 KiB and 16 KiB unless they were set.
    #[doc(alias = "get_write_buffer_limits")]
    pub fn write_buffer_limits(&self) -> WaterMarks {
        self.inner.write_buffer_limits()
    }

    /// Sets the water marks, in bytes. With one of them alone, the high one is four times the low one; with neither,
    /// the defaults come back. They count at once for what is queued.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the low mark is above the high one; nothing changes.
    #[doc(alias = "FLOW_CONTROL_HIGH_WATER_SSL_WRITE")]
    pub fn set_write_buffer_limits(
        &self,
        high: impl Into<Option<usize>>,
        low: impl Into<Option<usize>>,
    ) -> io::Result<()> {
        self.inner.set_write_buffer_limits(high.into(), low.into())
    }

    /// Ends the connection, with an error of kind `WriteZero`, when more than `cap` bytes are queued; `None` for no
    /// such limit. A protection against peers that ask for much and read nothing, for protocols that do not heed
    /// `pause_writing`.
    pub fn set_write_buffer_cap(&self, cap: impl Into<Option<usize>>) {
        self.inner.set_write_buffer_cap(cap.into());
    }

    /// Waits until writing is not paused: flow control for whoever writes outside of a protocol.
    ///
    /// # Errors
    ///
    /// `ConnectionReset` if the connection is gone, or whatever ended it.
    pub fn ready(&self) -> WriteReady {
        WriteReady::of(Awaited::Room(self.inner.clone()))
    }

    /// Waits until everything that was written is with the kernel, or with whatever carries the connection.
    ///
    /// # Errors
    ///
    /// `ConnectionReset` if the connection is gone, or whatever ended it.
    pub fn flushed(&self) -> WriteReady {
        WriteReady::of(Awaited::Emptiness(self.inner.clone()))
    }

    /// Lets another protocol hear of the connection from now on; `connection_made` is not called again. Called from
    /// within a callback, it takes effect when that returns.
    pub fn set_protocol(&self, protocol: impl Into<AnyProtocol>) {
        self.inner.set_protocol(protocol.into());
    }

    /// As [`set_protocol`](Self::set_protocol), for a protocol that is to hear of the connection from its beginning:
    /// `connection_made` is called, in a turn of its own; then it gets what was given back by [`unread`](Self::unread) and
    /// what arrives; and it is told of an end of file, also where another protocol was told of it before. Reading goes on
    /// if it was paused. On a connection that is about to be lost it hears of its beginning and of its end; on one that is
    /// gone, nothing.
    ///
    /// ```
    /// use roundelay::{Protocol, Transport};
    ///
    /// /// Greets whoever comes. It can be used from the beginning, and behind another protocol.
    /// struct Greet;
    ///
    /// impl Protocol for Greet {
    ///     fn connection_made(&mut self, transport: &Transport) {
    ///         transport.write(b"hello\n");
    ///     }
    /// }
    ///
    /// /// Waits for a line break before it lets somebody greet.
    /// struct Knock;
    ///
    /// impl Protocol for Knock {
    ///     fn data_received(&mut self, transport: &Transport, data: &[u8]) {
    ///         if let Some(end) = data.iter().position(|&byte| byte == b'\n') {
    ///             transport.start_protocol(Greet);
    ///             transport.unread(&data[end + 1..]);
    ///         }
    ///     }
    /// }
    /// ```
    pub fn start_protocol(&self, protocol: impl Into<AnyProtocol>) {
        self.start_protocol_with(protocol.into(), &[]);
    }

    /// As `start_protocol`, with bytes that the protocol gets before all else.
    pub(crate) fn start_protocol_with(&self, protocol: AnyProtocol, first: &[u8]) {
        self.inner.start_protocol(protocol, first);
    }

    /// The protocol that hears of the connection; `None` once it is lost.
    #[doc(alias = "get_protocol")]
    pub fn protocol(&self) -> Option<AnyProtocol> {
        self.inner.protocol()
    }

    /// Whether the protocol waits for `resume_writing`.
    #[cfg(feature = "__tls")]
    pub(crate) fn is_writing_paused(&self) -> bool {
        self.inner.is_writing_paused()
    }

    /// The protocol knows that it is to pause writing: whether it will be told to resume.
    #[cfg(feature = "__tls")]
    pub(crate) fn heed_pause(&self) -> bool {
        self.inner.heed_pause()
    }

    /// Whether another transport can stand on this one.
    ///
    /// # Errors
    ///
    /// Why not.
    #[cfg(feature = "__tls")]
    pub(crate) fn check_carrying(&self, method: &str) -> io::Result<()> {
        if self.extra_info().pipe.is_some() {
            let text = format!("{method}: the transport has one end of a pipe, and TLS needs both directions");
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        match self.inner.unfit_to_carry() {
            Some(reason) => Err(InvalidState::new(format!("{method}: {reason}")).into()),
            None => Ok(()),
        }
    }

    /// Has the writing side end alone where it can, as with a socket.
    pub(crate) fn allow_half_close(&self) {
        self.inner.allow_half_close();
    }

    /// Lets another transport stand on this one.
    #[cfg(feature = "__tls")]
    pub(crate) fn carry(&self, upper: Transport) {
        self.inner.carry(upper);
    }

    /// The uppermost of those that stand on this one, or this one.
    pub(crate) fn uppermost(&self) -> Transport {
        let mut top = self.clone();
        while let Some(upper) = top.inner.carried() {
            top = upper;
        }
        top
    }

    /// What sends a file with everybody else kept away, if it is one of the loop's own.
    pub(crate) fn file_sink(&self) -> Option<&dyn FileSink> {
        self.inner.file_sink()
    }

    /// What is known of the connection: addresses, and the socket for its options.
    #[doc(alias = "get_extra_info")]
    pub fn extra_info(&self) -> ExtraInfo {
        self.inner.extra_info()
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PartialEq for Transport {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Transport {}

/// The future of [`Transport::ready`], of [`Transport::flushed`] and of
/// [`DatagramHandle::ready`](crate::DatagramHandle::ready).
#[must_use = "futures do nothing unless they are awaited"]
pub struct WriteReady {
    awaited: Awaited,
    id: WaiterId,
    /// Whether the transport may have a waker of ours.
    waits: bool,
}

/// What a [`WriteReady`] waits for.
enum Awaited {
    /// That writing is not paused.
    Room(Rc<dyn StreamTransport>),
    /// That nothing is queued.
    Emptiness(Rc<dyn StreamTransport>),
    /// As `Room`, of datagrams.
    RoomForDatagrams(Rc<dyn DatagramTransport>),
}

impl WriteReady {
    fn of(awaited: Awaited) -> Self {
        Self { awaited, id: WaiterId::next(), waits: false }
    }

    pub(crate) fn of_datagrams(transport: Rc<dyn DatagramTransport>) -> Self {
        Self::of(Awaited::RoomForDatagrams(transport))
    }
}

impl Future for WriteReady {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = match &self.awaited {
            Awaited::Room(transport) => transport.poll_ready(self.id, cx),
            Awaited::Emptiness(transport) => transport.poll_flushed(self.id, cx),
            Awaited::RoomForDatagrams(transport) => transport.poll_ready(self.id, cx),
        };
        self.waits |= polled.is_pending();
        polled
    }
}

impl Drop for WriteReady {
    fn drop(&mut self) {
        if !self.waits {
            return;
        }
        match &self.awaited {
            Awaited::Room(transport) | Awaited::Emptiness(transport) => transport.forget_waiter(self.id),
            Awaited::RoomForDatagrams(transport) => transport.forget_waiter(self.id),
        }
    }
}

impl fmt::Debug for WriteReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("WriteReady");
        match &self.awaited {
            Awaited::Room(transport) | Awaited::Emptiness(transport) => shown.field("transport", transport),
            Awaited::RoomForDatagrams(transport) => shown.field("transport", transport),
        };
        shown.field("id", &self.id).field("waits", &self.waits).finish()
    }
}

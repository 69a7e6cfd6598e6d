//! The interface of datagram transports, and the handle over whatever implements it.

use std::fmt;
use std::io;
use std::panic::Location;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::os::address::Address;
use crate::protocol::datagram::AnyDatagramProtocol;
use crate::protocol::{BaseTransport, ExtraInfo, TransportId, WaiterId, WaterMarks, WriteReady};

/// What a transport of datagrams can do. Implement it for a carrier of your own, and make a [`DatagramHandle`] of it.
pub trait DatagramTransport: BaseTransport {
    /// Sends a datagram, at once if that is possible, else from a queue. `None` is for the peer of a connected endpoint.
    fn sendto(&self, data: &[u8], addr: Option<&Address>);

    /// The protocol that hears of it; `None` once the endpoint is gone.
    #[doc(alias = "get_protocol")]
    fn protocol(&self) -> Option<AnyDatagramProtocol>;

    /// Lets another protocol hear of it.
    fn set_protocol(&self, protocol: AnyDatagramProtocol);

    /// Whether datagrams are received: not paused, and not closing. As provided: not closing.
    fn is_reading(&self) -> bool {
        !self.is_closing()
    }

    /// Receives nothing more until `resume_reading`. As provided it does nothing: a carrier without a queue of its own
    /// has nowhere to leave them.
    fn pause_reading(&self) {}

    /// Receives again.
    fn resume_reading(&self) {}

    /// How many bytes are queued, with 8 more for each datagram.
    #[doc(alias = "get_write_buffer_size")]
    fn write_buffer_size(&self) -> usize;

    /// The marks in use.
    #[doc(alias = "get_write_buffer_limits")]
    fn write_buffer_limits(&self) -> WaterMarks;

    /// Sets the marks, in bytes: see [`WriteTransport`](crate::WriteTransport::set_write_buffer_limits).
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the low mark is above the high one; nothing changes.
    fn set_write_buffer_limits(&self, high: Option<usize>, low: Option<usize>) -> io::Result<()>;

    /// Ready when sending is not paused. Several may wait: of each the latest waker counts.
    ///
    /// # Errors
    ///
    /// Why the endpoint is gone.
    fn poll_ready(&self, waiter: WaiterId, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// One who waited gives up, or has been told: its waker, if it is still kept, is not needed any more.
    fn forget_waiter(&self, waiter: WaiterId);
}

/// A handle to a datagram endpoint: to send from it, to close it.
///
/// Clones refer to the same endpoint. The loop owns an open endpoint: it lives though nobody holds a handle, and
/// dropping handles closes nothing. All methods may be called at any time, from a callback, a task or a destructor,
/// and never call the protocol themselves. They do nothing on an endpoint that is gone.
#[derive(Clone)]
pub struct DatagramHandle {
    inner: Rc<dyn DatagramTransport>,
}

impl DatagramHandle {
    /// A handle over an implementation.
    pub fn new(inner: Rc<dyn DatagramTransport>) -> Self {
        Self { inner }
    }

    /// The transport's number: a key for maps.
    pub fn id(&self) -> TransportId {
        self.inner.id()
    }

    /// Where the application made it, as that of a [`Transport`](crate::Transport::created_at).
    pub fn created_at(&self) -> Option<&'static Location<'static>> {
        self.inner.created_at()
    }

    /// Sends a datagram, which may be empty. What the kernel does not take at once is copied and queued; datagrams keep
    /// their order and their boundaries.
    ///
    /// An endpoint with a `remote_addr`, or over a connected socket, sends to that with `None`; another address is refused,
    /// and the exception handler told. Other endpoints need an address.
    ///
    /// Nothing is returned: what the operating system says about a datagram (that it is too long, that there is no way to
    /// its address) comes to [`error_received`](crate::DatagramProtocol::error_received). Flow control is by
    /// [`pause_writing`](crate::DatagramProtocol::pause_writing) and [`ready`](Self::ready). Sending from an endpoint that
    /// is closing or gone does nothing.
    ///
    /// Answers that a protocol sends while several datagrams are delivered to it at once leave together, before the loop
    /// does anything else.
    ///
    /// ```no_run
    /// # fn f(transport: &roundelay::DatagramHandle) {
    /// use roundelay::Address;
    /// transport.sendto(b"to the peer of a connected endpoint", None);
    /// transport.sendto(b"to whom it may concern", Some(&Address::from(([127, 0, 0, 1], 9999))));
    /// # }
    /// ```
    pub fn sendto(&self, data: &[u8], addr: Option<&Address>) {
        self.inner.sendto(data, addr);
    }

    /// Closes the endpoint: nothing more is received, what is queued is sent, then `connection_lost(None)` comes.
    pub fn close(&self) {
        self.inner.close();
    }

    /// Closes the endpoint now: what is queued is dropped, and `connection_lost(None)` comes.
    pub fn abort(&self) {
        self.inner.abort();
    }

    /// Whether the endpoint is closing or gone.
    pub fn is_closing(&self) -> bool {
        self.inner.is_closing()
    }

    /// How many bytes are queued for sending, with 8 more for each datagram.
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
    pub fn set_write_buffer_limits(
        &self,
        high: impl Into<Option<usize>>,
        low: impl Into<Option<usize>>,
    ) -> io::Result<()> {
        self.inner.set_write_buffer_limits(high.into(), low.into())
    }

    /// Receives nothing more until [`resume_reading`](Self::resume_reading). What arrives meanwhile waits in the kernel,
    /// which drops what it has no room for; what was received together with a datagram that is being delivered still comes. A
    /// second call does nothing.
    ///
    /// asyncio's datagram transports cannot be paused.
    pub fn pause_reading(&self) {
        self.inner.pause_reading();
    }

    /// Receives again. Does nothing if it was not paused.
    pub fn resume_reading(&self) {
        self.inner.resume_reading();
    }

    /// Whether datagrams are received: not paused, and not closing.
    pub fn is_reading(&self) -> bool {
        self.inner.is_reading()
    }

    /// Waits until sending is not paused: flow control for whoever sends outside of a protocol.
    ///
    /// # Errors
    ///
    /// `ConnectionReset` if the endpoint is gone, or whatever ended it.
    pub fn ready(&self) -> WriteReady {
        WriteReady::of_datagrams(self.inner.clone())
    }

    /// Lets another protocol hear of the endpoint from now on; `connection_made` is not called again. Called from within
    /// a callback, it takes effect when that returns.
    pub fn set_protocol(&self, protocol: impl Into<AnyDatagramProtocol>) {
        self.inner.set_protocol(protocol.into());
    }

    /// The protocol that hears of the endpoint; `None` once it is gone.
    #[doc(alias = "get_protocol")]
    pub fn protocol(&self) -> Option<AnyDatagramProtocol> {
        self.inner.protocol()
    }

    /// What is known of the endpoint: addresses, and the socket for its options. A peer it has only if it is connected.
    #[doc(alias = "get_extra_info")]
    pub fn extra_info(&self) -> ExtraInfo {
        self.inner.extra_info()
    }
}

impl fmt::Debug for DatagramHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PartialEq for DatagramHandle {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for DatagramHandle {}

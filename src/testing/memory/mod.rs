//! Connections in memory: streams without a descriptor, and the loop's own transports over them.
//!
//! The transports are those of [`connect_stream`](EventLoop::connect_stream): what a test tries is the code that runs over
//! sockets, too. All that is made for tests is what lies between, a [`Link`].

mod datagram;
mod line;
mod link;
mod stream;
mod way;

pub use datagram::{DatagramLink, MemoryEndpoint, datagram_pair};
pub use link::Link;
pub use stream::{MemoryStream, Wire, stream_pair};

use std::fmt;
use std::io;
use std::ops::Deref;

use crate::event_loop::EventLoop;
use crate::protocol::{Protocol, ProtocolRef, Transport};

/// Connects two protocols with each other, in memory, by this link. The factories are called here and now, `connection_made`
/// comes to each in a turn of its own, the first one's first.
///
/// # Errors
///
/// [`LoopClosed`](crate::LoopClosed) as an `io::Error`.
///
/// ```
/// use roundelay::testing::{Link, memory_pair};
/// use roundelay::{EventLoop, Protocol, Transport};
/// use std::io::{self, ErrorKind};
///
/// /// What the library makes: it counts lines, and knows how the connection has ended.
/// #[derive(Default)]
/// struct Lines {
///     count: usize,
///     end: Option<Result<(), ErrorKind>>,
/// }
///
/// impl Protocol for Lines {
///     fn data_received(&mut self, _: &Transport, data: &[u8]) {
///         self.count += data.iter().filter(|&&byte| byte == b'\n').count();
///     }
///     fn connection_lost(&mut self, _: &Transport, error: Option<io::Error>) {
///         self.end = Some(error.map_or(Ok(()), |error| Err(error.kind())));
///     }
/// }
///
/// struct Peer;
/// impl Protocol for Peer {
///     fn connection_made(&mut self, transport: &Transport) {
///         transport.write(b"one\ntwo\nthree\n");
///     }
/// }
///
/// // A link that gives a byte or two at a time, and breaks within the third line.
/// let link = Link::new().max_read(2).seed(7).lose_after_bytes(10, ErrorKind::ConnectionReset);
/// let el = EventLoop::new()?;
/// let (lines, _peer) = memory_pair(&el, &link, Lines::default, || Peer)?;
/// while lines.transport.protocol().is_some() {
///     el.run_once(None)?;
/// }
/// lines.protocol.with(|lines| {
///     assert_eq!(lines.count, 2);
///     assert_eq!(lines.end, Some(Err(ErrorKind::ConnectionReset)));
/// });
/// # std::io::Result::Ok(())
/// ```
pub fn memory_pair<A: Protocol, B: Protocol>(
    el: &EventLoop,
    link: &Link,
    first: impl FnOnce() -> A,
    second: impl FnOnce() -> B,
) -> io::Result<(MemoryTransport<A>, MemoryTransport<B>)> {
    let (near, far) = stream_pair(el, link);
    Ok((MemoryTransport::new(el, near, first)?, MemoryTransport::new(el, far, second)?))
}

/// One end of a [`memory_pair`]: a transport, its protocol, and the hand on the link. It is the transport where one is asked
/// for.
#[non_exhaustive]
pub struct MemoryTransport<P> {
    /// The transport.
    pub transport: Transport,
    /// Its protocol, to look into.
    pub protocol: ProtocolRef<P>,
    /// The hand on the link, as seen from this end.
    pub wire: Wire,
}

impl<P: Protocol> MemoryTransport<P> {
    fn new(el: &EventLoop, stream: MemoryStream, factory: impl FnOnce() -> P) -> io::Result<Self> {
        let wire = stream.wire();
        let (transport, protocol) = el.connect_stream(factory, stream)?;
        Ok(Self { transport, protocol, wire })
    }
}

impl<P> Deref for MemoryTransport<P> {
    type Target = Transport;

    fn deref(&self) -> &Transport {
        &self.transport
    }
}

impl<P> Clone for MemoryTransport<P> {
    fn clone(&self) -> Self {
        Self { transport: self.transport.clone(), protocol: self.protocol.clone(), wire: self.wire.clone() }
    }
}

impl<P> fmt::Debug for MemoryTransport<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTransport").field("transport", &self.transport).field("wire", &self.wire).finish()
    }
}

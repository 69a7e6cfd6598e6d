//! The interfaces between the loop's transports and an application's protocols.
//!
//! # The order of callbacks, as a grammar
//!
//! ```text
//! connection  = connection_made { event } connection_lost
//! event       = data_received | pause_writing resume_writing | pause_writing | eof_received
//! ```
//!
//! `connection_made` comes first and once, `connection_lost` last and once. `pause_writing` and `resume_writing`
//! alternate; the last `pause_writing` may lack its counterpart. `eof_received` comes at most once, and no
//! `data_received` after it. A connection that the loop's own `close()` ends is let go of without a word.
//!
//! No method of a transport calls its protocol: what there is to tell is told when no callback of that transport is on
//! the stack, in the loop's turn.

mod datagram;
pub(crate) mod erased;
mod extra;
mod reference;
mod subprocess;
mod transport;

pub use datagram::{AnyDatagramProtocol, DatagramHandle, DatagramProtocol, DatagramTransport};
pub use erased::AnyProtocol;
pub(crate) use erased::Received;
pub(crate) use extra::Holder;
pub use extra::{ExtraInfo, PipeView, SocketView};
#[cfg(feature = "__tls")]
pub use extra::{TlsInfo, TlsVersion};
pub use reference::ProtocolRef;
pub use subprocess::{AnySubprocessProtocol, Exited, ProcessHandle, SubprocessProtocol, SubprocessTransport};
pub(crate) use transport::FileSink;
pub use transport::{
    BaseTransport, ReadTransport, StreamTransport, Transport, TransportId, WaiterId, WaterMarks, WriteReady,
    WriteTransport,
};

use std::io;

/// What to do with a connection whose peer has sent its last byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeepOpen {
    /// Close it: what is queued is sent first.
    #[default]
    No,
    /// Keep the writing half open, until `close` is called.
    Yes,
}

impl From<bool> for KeepOpen {
    fn from(keep: bool) -> Self {
        if keep { Self::Yes } else { Self::No }
    }
}

/// What an application does with a stream of bytes.
///
/// The transport comes with each call, so a protocol needs no field for it; it can be cloned and kept, too. A panic in
/// `data_received` or `eof_received` is reported and ends the connection; in the other callbacks it is reported and
/// the connection goes on.
///
/// ```
/// use roundelay::{Protocol, Transport};
///
/// struct Echo;
///
/// impl Protocol for Echo {
///     fn data_received(&mut self, transport: &Transport, data: &[u8]) {
///         transport.write(data);
///     }
/// }
/// ```
#[doc(alias = "BaseProtocol")]
#[allow(unused_variables)]
pub trait Protocol: 'static {
    /// The connection stands.
    fn connection_made(&mut self, transport: &Transport) {}

    /// Bytes have arrived; at most 256 KiB in one call, besides what was given back by
    /// [`unread`](Transport::unread). They are lent from the loop's own buffer.
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {}

    /// The peer will send no more. What this returns decides whether the connection is closed; that of a
    /// [reading end](crate::EventLoop::connect_read_pipe) is in any case.
    fn eof_received(&mut self, transport: &Transport) -> KeepOpen {
        KeepOpen::No
    }

    /// More is queued for writing than the high-water mark allows: write no more for now.
    fn pause_writing(&mut self, transport: &Transport) {}

    /// The queue has drained to the low-water mark.
    fn resume_writing(&mut self, transport: &Transport) {}

    /// The connection is gone: closed by this side (`None`), by the peer after an end of file (`None`), or by an
    /// error.
    fn connection_lost(&mut self, transport: &Transport, error: Option<io::Error>) {}

    /// The protocol as one that has its own receive buffer. For [`Buffered`]; leave it alone.
    #[doc(hidden)]
    fn as_buffered(&mut self) -> Option<&mut dyn BufferedProtocol> {
        None
    }
}

/// A protocol that receives into a buffer of its own. It goes wherever a protocol goes, inside of [`Buffered`].
///
/// ```
/// use roundelay::{Buffered, BufferedProtocol, Transport};
///
/// struct Upper { buffer: [u8; 1024] }
///
/// impl BufferedProtocol for Upper {
///     fn get_buffer(&mut self, _size_hint: usize) -> &mut [u8] {
///         &mut self.buffer
///     }
///
///     fn buffer_updated(&mut self, transport: &Transport, n: usize) {
///         transport.write(&self.buffer[..n].to_ascii_uppercase());
///     }
/// }
///
/// let factory = || Buffered(Upper { buffer: [0; 1024] });
/// # let _ = factory;
/// ```
#[allow(unused_variables)]
pub trait BufferedProtocol: 'static {
    /// The connection stands.
    fn connection_made(&mut self, transport: &Transport) {}

    /// Where to put what is about to arrive. `size_hint` is how many bytes are waiting, or zero where that is not
    /// known. An empty buffer is an error that ends the connection.
    fn get_buffer(&mut self, size_hint: usize) -> &mut [u8];

    /// The first `n` bytes of the buffer have been filled.
    fn buffer_updated(&mut self, transport: &Transport, n: usize);

    /// See [`Protocol::eof_received`].
    fn eof_received(&mut self, transport: &Transport) -> KeepOpen {
        KeepOpen::No
    }

    /// See [`Protocol::pause_writing`].
    fn pause_writing(&mut self, transport: &Transport) {}

    /// See [`Protocol::resume_writing`].
    fn resume_writing(&mut self, transport: &Transport) {}

    /// See [`Protocol::connection_lost`].
    fn connection_lost(&mut self, transport: &Transport, error: Option<io::Error>) {}
}

/// A [`BufferedProtocol`] as a [`Protocol`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Buffered<P>(
    /// The protocol itself.
    pub P,
);

impl<P: BufferedProtocol> Protocol for Buffered<P> {
    fn connection_made(&mut self, transport: &Transport) {
        self.0.connection_made(transport);
    }

    fn data_received(&mut self, transport: &Transport, mut data: &[u8]) {
        // Somebody who does not know buffered protocols has the bytes already: they are handed over in pieces.
        while !data.is_empty() {
            let buffer = self.0.get_buffer(data.len());
            assert!(!buffer.is_empty(), "get_buffer() returned an empty buffer");
            let n = buffer.len().min(data.len());
            buffer[..n].copy_from_slice(&data[..n]);
            self.0.buffer_updated(transport, n);
            data = &data[n..];
        }
    }

    fn eof_received(&mut self, transport: &Transport) -> KeepOpen {
        self.0.eof_received(transport)
    }

    fn pause_writing(&mut self, transport: &Transport) {
        self.0.pause_writing(transport);
    }

    fn resume_writing(&mut self, transport: &Transport) {
        self.0.resume_writing(transport);
    }

    fn connection_lost(&mut self, transport: &Transport, error: Option<io::Error>) {
        self.0.connection_lost(transport, error);
    }

    fn as_buffered(&mut self) -> Option<&mut dyn BufferedProtocol> {
        Some(&mut self.0)
    }
}

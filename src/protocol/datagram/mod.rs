//! Protocols of datagrams, and the interface of their transports.
//!
//! The order of callbacks, as a grammar:
//!
//! ```text
//! endpoint  = connection_made { event } connection_lost
//! event     = datagram_received | error_received | pause_writing resume_writing | pause_writing
//! ```

mod erased;
mod transport;

pub use erased::AnyDatagramProtocol;
pub use transport::{DatagramHandle, DatagramTransport};

use std::io;

use crate::os::address::Address;

/// What an application does with datagrams.
///
/// The transport comes with each call, so a protocol needs no field for it; it can be cloned and kept, too. A panic in a
/// callback is reported to the exception handler, and the endpoint goes on.
///
/// ```
/// use roundelay::{Address, DatagramHandle, DatagramProtocol};
///
/// struct Echo;
///
/// impl DatagramProtocol for Echo {
///     fn datagram_received(&mut self, transport: &DatagramHandle, data: &[u8], from: Option<&Address>) {
///         transport.sendto(data, from);
///     }
/// }
/// ```
#[allow(unused_variables)]
pub trait DatagramProtocol: 'static {
    /// The endpoint is there.
    fn connection_made(&mut self, transport: &DatagramHandle) {}

    /// A datagram has arrived, whole; it may be empty. It is lent from the loop's own buffer.
    ///
    /// `from` is who has sent it: `None` where the sender has no address, which a unix socket has only if it was bound.
    fn datagram_received(&mut self, transport: &DatagramHandle, data: &[u8], from: Option<&Address>) {}

    /// A datagram could not be sent or received. The endpoint goes on, and so does what is queued.
    ///
    /// On a connected endpoint `ConnectionRefused` tells that an earlier datagram has found nobody.
    fn error_received(&mut self, transport: &DatagramHandle, error: io::Error) {}

    /// More is queued for sending than the high-water mark allows: send no more for now.
    fn pause_writing(&mut self, transport: &DatagramHandle) {}

    /// The queue has drained to the low-water mark.
    fn resume_writing(&mut self, transport: &DatagramHandle) {}

    /// The endpoint is gone: closed by this side (`None`), or by an error that is more than a datagram's.
    fn connection_lost(&mut self, transport: &DatagramHandle, error: Option<io::Error>) {}
}

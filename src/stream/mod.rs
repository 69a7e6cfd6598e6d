//! Streams: bytes without callbacks.
//!
//! Two kinds. [`StreamReader`] and [`StreamWriter`] are asyncio's, over any transport: a bridge protocol
//! buffers what arrives. [`TcpStream`] and [`TcpListener`] work on the socket itself and implement the `futures` traits;
//! [`UdpSocket`] and [`UnixDatagram`] are the same for datagrams, and [`AsyncFd`] for whatever else can be waited for.

mod async_fd;
mod buffer;
mod datagram;
mod feeder;
mod listener;
mod open;
mod protocol;
mod reader;
mod shared;
mod tcp;
mod udp;
mod unix_datagram;
mod writer;

pub use async_fd::{AsyncFd, ReadyGuard};
pub use feeder::StreamFeeder;
pub use listener::{Incoming, TcpBinding, TcpListener};
pub use open::{OpenConnection, Opening, ServeStreams, StreamHandlerOutput, open_connection, start_server};
pub use reader::{Lines, ReadError, Separators, StreamReader};
pub use tcp::{OwnedReadHalf, OwnedWriteHalf, ReuniteError, TcpConnecting, TcpStream};
pub use udp::{UdpBinding, UdpSocket};
pub use unix_datagram::UnixDatagram;
pub use writer::StreamWriter;

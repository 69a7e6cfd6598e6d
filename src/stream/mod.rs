//! Streams: bytes without callbacks.
//!
//! Two kinds. [`StreamReader`] and [`StreamWriter`] are asyncio's, over any transport: a bridge protocol
//! buffers what arrives. [`TcpStream`] and [`TcpListener`] work on the socket itself and implement the `futures` traits.

mod buffer;
mod feeder;
mod listener;
mod open;
mod pipe;
mod protocol;
mod reader;
mod tcp;
mod writer;

pub use feeder::StreamFeeder;
pub use listener::{Incoming, TcpBinding, TcpListener};
pub use open::{OpenConnection, Opening, ServeStreams, StreamHandlerOutput, open_connection, start_server};
pub use pipe::{OpenReadPipe, OpenWritePipe, OpeningPipe, open_read_pipe, open_write_pipe};
pub(crate) use protocol::StreamProtocol;
pub use reader::{Lines, ReadError, Separators, StreamReader};
pub use tcp::{OwnedReadHalf, OwnedWriteHalf, ReuniteError, TcpConnecting, TcpStream};
pub use writer::StreamWriter;

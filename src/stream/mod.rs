//! Streams: bytes without callbacks.
//!
//! Two kinds. [`StreamReader`] and [`StreamWriter`] are asyncio's, over any transport: a bridge protocol
//! buffers what arrives. [`TcpStream`], [`UnixStream`] and their listeners work on the socket itself and implement the
//! `futures` traits, and [`TransportStream`] does so over any transport; [`UdpSocket`] and [`UnixDatagram`] are the same for datagrams, and [`AsyncFd`] for whatever else can be
//! waited for.

mod async_fd;
mod bridge;
mod buffer;
mod compat;
mod connection;
mod copy;
mod datagram;
mod datagrams;
mod endpoint_datagrams;
mod feeder;
mod halves;
mod listening;
mod open;
mod open_unix;
mod pipe;
mod protocol;
mod reader;
mod shared;
#[cfg(feature = "__tls")]
mod start_tls;
mod tcp;
mod tcp_listener;
#[cfg(feature = "__tls")]
mod tls;
mod traits;
mod transport_stream;
mod udp;
mod unix;
mod unix_datagram;
mod unix_listener;
mod writer;

pub use async_fd::{AsyncFd, ReadyGuard};
pub use bridge::UnrelatedHalves;
pub use compat::{CompatReader, CompatWriter};
pub use connection::ReadAhead;
pub use copy::{copy, copy_bidirectional};
pub use datagrams::Datagrams;
pub use endpoint_datagrams::EndpointDatagrams;
pub use feeder::StreamFeeder;
pub use halves::{OwnedReadHalf, OwnedWriteHalf, ReuniteError};
pub use listening::Incoming;
pub(crate) use open::check_limit;
pub use open::{OpenConnection, Opening, ServeStreams, StreamHandlerOutput, open_connection, start_server};
pub use open_unix::{OpenUnixConnection, ServeUnixStreams, open_unix_connection, start_unix_server};
pub use pipe::{OpenReadPipe, OpenWritePipe, OpeningPipe, open_read_pipe, open_write_pipe};
pub(crate) use protocol::StreamProtocol;
pub use reader::{Lines, ReadError, Separators, StreamReader};
#[cfg(feature = "__tls")]
pub use start_tls::StartStreamTls;
pub use tcp::{ConnectTcp, TcpConnecting, TcpStream};
pub use tcp_listener::{BindTcp, TcpBinding, TcpListener};
#[cfg(feature = "__tls")]
pub use tls::{TlsHandshake, TlsStream};
#[cfg(any(feature = "tokio", feature = "hyper"))]
pub(crate) use traits::ReadInto;
pub use transport_stream::TransportStream;
pub use udp::{BindUdp, UdpBinding, UdpSocket};
pub use unix::{ConnectUnix, UnixConnecting, UnixStream};
pub use unix_datagram::UnixDatagram;
pub use unix_listener::{UnixListener, UnixListenerBuilder};
pub use writer::StreamWriter;

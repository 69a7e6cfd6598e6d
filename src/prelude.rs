//! The names that most programs use: `use roundelay::prelude::*`.
//!
//! `Context` is left out, because `std::task` has one.

pub use crate::{
    Address, BaseTransport, Buffered, BufferedProtocol, ContextVar, DatagramHandle, DatagramProtocol, EventLoop,
    Handle, JoinError, KeepOpen, LoopFuture, Protocol, ProtocolRef, Remote, Runner, Server, StreamReader, StreamWriter,
    Task, TaskGroup, TcpListener, TcpStream, TimerHandle, Transport, UdpSocket, UnixDatagram, UnixListener, UnixStream,
    block_on, copy_bidirectional, gather, get_running_loop, interval, open_connection, open_unix_connection, sleep,
    sleep_until, spawn, spawn_blocking, start_server, start_unix_server, stderr, stdin, stdout, timeout, timeout_at,
    yield_now,
};

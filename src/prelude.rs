//! The names that most programs use: `use roundelay::prelude::*`.
//!
//! `Context` is left out, because `std::task` has one.

pub use crate::{
    BaseTransport, Buffered, BufferedProtocol, ContextVar, EventLoop, Handle, JoinError, KeepOpen, LoopFuture,
    Protocol, ProtocolRef, Remote, Runner, Server, StreamReader, StreamWriter, Task, TcpListener, TcpStream,
    TimerHandle, Transport, block_on, get_running_loop, interval, open_connection, sleep, sleep_until, spawn,
    spawn_blocking, start_server, stderr, stdin, stdout, timeout, timeout_at, yield_now,
};

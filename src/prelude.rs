//! The names that most programs use: `use roundelay::prelude::*`.
//!
//! `Context` is left out, because `std::task` has one.
//!
//! With feature `macros` there are futures' macros as well: `join!`, `try_join!`, `select!` and `select_biased!`, and its
//! `FutureExt`, for a future that `select!` is given has to be one that knows its end, which
//! [`fuse`](https://docs.rs/futures/0.3/futures/future/trait.FutureExt.html#method.fuse) makes of any. A [`Task`] and a
//! [`Sleep`](crate::Sleep) do by themselves. They are the same macros as those of the crate `futures`: both may be imported.
#![cfg_attr(
    feature = "macros",
    doc = r#"
```
use roundelay::prelude::*;
use std::time::Duration;

block_on(async {
    let (one, two) = join!(async { 1 }, async { 2 });
    assert_eq!(one + two, 3);

    let mut task = spawn(async { "done" });
    let mut limit = sleep(Duration::from_secs(10));
    let first = select! {
        output = task => output.unwrap(),
        _ = limit => "too late",
    };
    assert_eq!(first, "done");
});
```
"#
)]

pub use crate::{
    Address, BaseTransport, Buffered, BufferedProtocol, ContextVar, DatagramHandle, DatagramProtocol, EventLoop,
    Handle, JoinError, KeepOpen, LoopFuture, Protocol, ProtocolRef, Remote, Runner, Server, SignalKind, StreamReader,
    StreamWriter, Task, TaskGroup, TcpListener, TcpStream, TimedOut, TimerHandle, Transport, UdpSocket, UnixDatagram,
    UnixListener, UnixStream, block_on, copy_bidirectional, gather, get_running_loop, interval, open_connection,
    open_unix_connection, signal, sleep, sleep_until, spawn, spawn_blocking, start_server, start_unix_server, stderr,
    stdin, stdout, timeout, timeout_at, yield_now,
};

#[cfg(feature = "__tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub use crate::{TlsAcceptor, TlsConnector};

#[cfg(feature = "macros")]
#[cfg_attr(docsrs, doc(cfg(feature = "macros")))]
pub use crate::{join, select, select_biased, try_join};
#[cfg(feature = "macros")]
#[cfg_attr(docsrs, doc(cfg(feature = "macros")))]
pub use futures_util::FutureExt as _;

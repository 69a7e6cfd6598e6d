//! **asyncio's event loop for Rust**: its surface and its semantics, on one fast thread.
//!
//! roundelay is a single-threaded executor and reactor. What it has that other runtimes lack: callbacks whose handles
//! are awaitable and cancellable ([`EventLoop::call_soon`], [`EventLoop::call_later`]); transports and protocols with
//! flow control ([`Protocol`], [`Transport`]); a [`Server`] object; a written guarantee of order (below); an exception
//! handler that hears of every panic and every lost error; a clock that tests can turn by hand ([`ManualClock`]); and an
//! exit that never hangs ([`block_on`]).
//!
//! ```
//! use roundelay::{Protocol, Transport};
//! use std::time::Duration;
//!
//! struct Echo;
//!
//! impl Protocol for Echo {
//!     fn data_received(&mut self, transport: &Transport, data: &[u8]) {
//!         transport.write(data);
//!     }
//! }
//!
//! fn main() -> std::io::Result<()> {
//!     roundelay::block_on(async {
//!         let el = roundelay::get_running_loop()?;
//!         let server = el.create_server(|| Echo, ("127.0.0.1", 0)).await?;
//!
//!         let (mut reader, mut writer) = roundelay::open_connection(server.local_addrs()[0]).await?;
//!         writer.write(b"round and round\n");
//!         assert_eq!(reader.readline().await?, b"round and round\n");
//!
//!         server.shutdown(Duration::from_secs(1)).await;
//!         Ok(())
//!     })
//! }
//! ```
//!
//! # Finding your way
//!
//! * An application: [`block_on`] or [`Runner`], [`spawn`], [`TaskGroup`], [`sleep`], [`timeout`],
//!   [`open_connection`], [`start_server`], [`TcpStream`], their unix counterparts, [`stdin`] and [`stdout`],
//!   [`spawn_blocking`], [`create_subprocess_exec`], [`signal()`].
//! * A library: [`spawn`], [`get_running_loop`], protocols that do no I/O themselves.
//! * From asyncio: the names are the same. [`EventLoop`] has the loop's methods; keyword arguments are builders that are
//!   awaited.
//! * Inside another loop: [`EventLoop::drive`] where that runs futures; else [`EventLoop::run_once`],
//!   [`EventLoop::next_deadline`], `AsFd`, [`EventLoop::set_wake_hook`].
//! * Other threads: [`Remote`].
//!
//! # The order of things
//!
//! There is one queue, first in, first out. One turn of the loop:
//!
//! 1. Forgets cancelled timers; finds the next deadline.
//! 2. Takes as the wait's limit: zero if anything is ready or the loop is stopping; else the time to the next deadline,
//!    at most 24 hours; else none.
//! 3. Asks the selector. Each event goes to the tail of the queue.
//! 4. Puts timers that are due to the tail, in order of (deadline, creation).
//! 5. Puts what other threads have posted to the tail, in the order in which it was posted, and at most 4096 of it.
//! 6. Takes the length of the queue, and runs exactly so many items. What they schedule runs in the next turn.
//! 7. If [`EventLoop::stop`] was called, leaves.
//!
//! While there is ready work the selector is asked at least once in 61 turns and once in 250 microseconds, and in every
//! turn if the builder's [`event_interval`](Builder::event_interval) is 1; but where nothing is registered with it, and it
//! is none of the application's, only to sleep. One event lets a transport read at most 16
//! times or 256 KiB, and a task whose I/O is always ready yields after 128 completions or 4 MiB.
//!
//! # Panics
//!
//! A panic in a callback, a task or a protocol never ends the loop: it goes to whoever awaits the handle, and to the
//! [exception handler](EventLoop::set_exception_handler). The exceptions are the future given to
//! [`EventLoop::run_until_complete`], whose panic unwinds to the caller, and a panic that carries [`Fatal`].
//!
//! With `panic = "abort"` in a program's profile nothing of this holds: any panic, also one of a job on another thread,
//! prints its message and ends the process at once, without handler or destructors. Everything else is as ever.
//!
//! # Hosts that do not ignore `SIGPIPE`
//!
//! Rust programs ignore the signal, by which writing where nobody reads would end the process; one whose `main` is C's, say,
//! may not. It makes no difference to what the loop writes, which ends in an error of kind `BrokenPipe`: sockets are
//! told not to raise the signal, and around a write to a pipe (a transport's, a process's input, a standard stream) the thread
//! holds it back, at the price of some system calls, if it would have ended the process when the pipe was opened. As
//! `sendfile(2)` cannot be told so, [`EventLoop::sendfile`] reads and writes there. What is written by other means is the
//! host's concern: by the application's own calls on what it gives to [`AsyncFd`] or [`EventLoop::add_writer`], a
//! [timeline](EventLoop::trace_to) into a FIFO, lines on stderr.
//!
//! # What it says to `tracing`
//!
//! | target | level | what |
//! |---|---|---|
//! | `roundelay` | `ERROR` | what the [exception handler](EventLoop::default_exception_handler) hears of, where it is the default one; wake-ups that may be lost |
//! | `roundelay` | `WARN` | what was not closed, misuse of transports, [debug mode](EventLoop::set_debug)'s reports, a [timeline](EventLoop::trace_to) that ends early |
//! | `roundelay::loop` | `DEBUG` | a loop is made, run, closed, goes on in a child; what its selector lacks; in debug mode its waits (`INFO` from a second on) |
//! | `roundelay::loop` | `TRACE` | each turn |
//! | `roundelay::io` | `DEBUG` | servers and whom they accept, connections made and lost, TLS handshakes, processes; in debug mode lookups of names (slow ones `INFO`) |
//! | `roundelay::io` | `TRACE` | ends of files, reading that is paused and goes on |
//! | `roundelay::task` | `DEBUG` | a span named `task` for each task, with its `id`, its `name` and where it was spawned (`spawned_at`) |
//!
//! The first two, but for misuse of transports, go to stderr where no subscriber takes them. A task is polled, and its future
//! dropped, inside of its span, so that what a library says in there is told apart; the span's parent is the one that was
//! current where the task was spawned, also on another thread ([`Remote::spawn`]). With `tracing-subscriber`'s `EnvFilter`,
//! `RUST_LOG=info,roundelay::task=debug` turns the spans on: see `examples/tracing.rs`. A subscriber that panics is reported
//! and does no harm. What no subscriber takes costs a look at a number.
//!
//! # How it is built
//!
//! In layers, each of which knows the ones below it only: facts (errors, constants, the operating system), engines (the
//! scheduler, the reactor), the loop that joins them, services (executors, transports, servers), conveniences (streams,
//! time, runner).

#![cfg_attr(docsrs, feature(doc_cfg))]
// Where it is said by hand, it is `tls`, which is for people to name.
#![cfg_attr(docsrs, doc(auto_cfg(hide(feature = "__tls"))))]

// The tests' helpers name the crate as its users do.
#[cfg(all(test, feature = "__tls"))]
extern crate self as roundelay;

#[macro_use]
mod note;

mod asyncgen;
mod combine;
pub mod compat;
mod constants;
mod dns;
mod drive;
mod error;
mod event_loop;
mod executor;
mod group;
#[cfg(feature = "inspector")]
#[cfg_attr(docsrs, doc(cfg(feature = "inspector")))]
pub mod inspector;
mod net;
mod os;
pub mod policy;
pub mod prelude;
mod process;
mod protocol;
mod reactor;
mod runner;
mod sched;
mod signal;
mod sock;
mod stdio;
mod stream;
mod subprocess;
#[cfg(feature = "test-util")]
#[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
pub mod testing;
mod time;
#[cfg(feature = "__tls")]
mod tls;
mod transport;

pub use asyncgen::{AsyncGen, AsyncGenInfo, Emitter, async_gen, try_async_gen};
pub use combine::{
    AsCompleted, AsCompletedInTime, Gather, GatherAll, Shield, TryGather, Wait, Waited, as_completed, gather, shield,
    try_gather, wait,
};
pub use dns::addr::{Family, Port};
pub use dns::hints::{AddrInfoFlags, NameInfoFlags, SocketType};
pub use dns::lookup::{AddrInfo, GetAddrInfo, GetNameInfo, Resolving};
#[cfg(feature = "async-io")]
#[cfg_attr(docsrs, doc(cfg(feature = "async-io")))]
pub use drive::AsyncIoHost;
#[cfg(feature = "tokio-rt")]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio-rt")))]
pub use drive::TokioHost;
pub use drive::{Drive, DriveError, HostLoop};
pub use error::{
    AddressError, Cancelled, Closed, ConnectErrors, Fatal, FutureError, IncompleteRead, InvalidState, JoinError,
    LimitOverrun, LoopClosed, NoRunningLoop, ResolveError, ResolveErrorKind, RunError, SendfileNotAvailable,
    StartError, Stopped, TimedOut,
};
pub use event_loop::exception::{ExceptionContext, ExceptionHandler};
pub use event_loop::grace::{CancelRequested, cancel_requested, is_cancel_requested};
pub use event_loop::metrics::{Histogram, Metrics};
pub use event_loop::remote::{Remote, RemoteHandle, RemoteTask};
pub use event_loop::running::get_running_loop;
pub use event_loop::stats::{Stats, Tally};
pub use event_loop::tasks::{TaskBuilder, TaskFactory, TaskFuture, TaskMeta};
pub use event_loop::timeline::{Trace, TraceBuilder, TraceEnd, TraceSummary};
pub use event_loop::{
    AbstractEventLoop, AbstractHandle, Builder, EventLoop, LoopKind, SelectorEventLoop, TaskDump, TaskNode,
};
pub use executor::blocking::Blocking;
pub use executor::job_info::JobInfo;
pub use executor::thread_pool::{ThreadPoolBuilder, ThreadPoolExecutor};
pub use executor::{Executor, Work, spawn_blocking};
pub use group::{Child, ChildBuilder, ChildError, ChildOutput, GroupError, Scope, TaskGroup};
pub use net::{
    CloseOnDrop, ConnectAcceptedSocket, ConnectPipe, Connecting, CreateConnection, CreateDatagramEndpoint,
    CreateServer, CreateUnixConnection, CreateUnixServer, DatagramAddr, Endpoint, KeepAlive, OpeningDatagrams,
    ServeForever, Server, ServerEndpoint, SocketOptionError, Starting, UnixAddressError, UnixEndpoint,
    UnixServerEndpoint,
};
pub use os::activation::{ListenFd, listen_fds};
pub use os::address::{Address, UnixAddr};
pub use os::credentials::PeerCredentials;
pub use os::spawn::PreExec;
pub use process::{StartSubprocess, StartingSubprocess, Stdio};
pub use protocol::{
    AnyDatagramProtocol, AnyProtocol, AnySubprocessProtocol, BaseTransport, Buffered, BufferedProtocol, DatagramHandle,
    DatagramProtocol, DatagramTransport, Exited, ExtraInfo, KeepOpen, PipeView, ProcessHandle, Protocol, ProtocolRef,
    ReadTransport, SocketView, StreamTransport, SubprocessProtocol, SubprocessTransport, Transport, TransportId,
    WaiterId, WaterMarks, WriteReady, WriteTransport,
};
pub use runner::{Runner, RunnerBuilder, block_on, spawn};
pub use sched::active::TaskId;
pub use sched::clock::{Clock, ManualClock, MonotonicClock};
pub use sched::context::{Context, ContextVar, Token};
pub use sched::future::{FutureInfo, LoopFuture, Take};
pub use sched::handle::{Handle, HandleInfo, TimerHandle};
pub use sched::info::{AwaitKind, AwaitedBy, TaskInfo, TaskState, WaitsFor, WokenBy};
pub use sched::join::{CallbackId, CancelOnDrop, Canceller, Outcome, Task};
pub use sched::report::{Exception, Subject};
pub use sched::unasked::ReportableError;
pub use signal::{SignalKind, Signals, signal};
pub use sock::sendfile::{Sendfile, SendingFile};
pub use sock::{Destination, SockConnecting, SockSendingTo};
pub use stdio::{stderr, stdin, stdout};
pub use stream::{
    AsyncFd, BindTcp, BindUdp, CompatReader, CompatWriter, ConnectTcp, ConnectUnix, Datagrams, EndpointDatagrams,
    Incoming, Lines, OpenConnection, OpenReadPipe, OpenUnixConnection, OpenWritePipe, Opening, OpeningPipe,
    OwnedReadHalf, OwnedWriteHalf, ReadAhead, ReadError, ReadyGuard, ReuniteError, Separators, ServeStreams,
    ServeUnixStreams, StreamFeeder, StreamHandlerOutput, StreamReader, StreamWriter, TcpBinding, TcpConnecting,
    TcpListener, TcpStream, TransportStream, UdpBinding, UdpSocket, UnixConnecting, UnixDatagram, UnixListener,
    UnixListenerBuilder, UnixStream, UnrelatedHalves, copy, copy_bidirectional, open_connection, open_read_pipe,
    open_unix_connection, open_write_pipe, start_server, start_unix_server,
};
pub use subprocess::{CreateSubprocess, CreatingSubprocess, Process, create_subprocess_exec, create_subprocess_shell};
pub use time::{
    Interval, MissedTicks, Sleep, TimeLimit, Timeout, TimeoutScope, WaitFor, YieldNow, interval, interval_at, sleep,
    sleep_until, timeout, timeout_at, timeout_scope, wait_for, yield_now,
};

/// The library that TLS is made with: some of its types stand in signatures here, as those of a configuration of one's own.
#[cfg(feature = "__tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub use rustls;

// Macros by name: a `use` of them takes nothing else that is called so.
#[cfg(feature = "macros")]
#[cfg_attr(docsrs, doc(cfg(feature = "macros")))]
pub use futures_util::{join, select, select_biased, try_join};

#[cfg(feature = "process-pool")]
#[cfg_attr(docsrs, doc(cfg(feature = "process-pool")))]
pub use executor::process_pool::{
    ProcessFunctions, ProcessJob, ProcessPoolBuilder, ProcessPoolError, ProcessPoolExecutor,
};

#[cfg(feature = "__tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub use protocol::{TlsInfo, TlsVersion};
#[cfg(feature = "__tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub use stream::{StartStreamTls, TlsHandshake, TlsStream};
#[cfg(feature = "__tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub use tls::{
    ClientAuth, DangerousTlsConnectorBuilder, StartTls, StartingTls, TlsAcceptor, TlsAcceptorBuilder, TlsClientHello,
    TlsConfigError, TlsConfigErrorKind, TlsConnector, TlsConnectorBuilder, TlsIdentity, TlsSide,
};

/// Selectors: how a loop asks the operating system what is ready.
pub mod selector {
    #[cfg(target_os = "linux")]
    pub use crate::reactor::epoll::Epoll;
    pub use crate::reactor::portable::Polling;
    pub use crate::reactor::{Event, Interest, Mode, Notify, Readiness, Selector};
}

/// The README's programs compile and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The guide's programs compile and run.
#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../docs/guide/introduction.md")]
    struct Introduction;
    #[doc = include_str!("../docs/guide/first-program.md")]
    struct FirstProgram;
    #[doc = include_str!("../docs/guide/callbacks-futures-tasks.md")]
    struct CallbacksFuturesTasks;
    #[doc = include_str!("../docs/guide/order.md")]
    struct Order;
    #[doc = include_str!("../docs/guide/timeouts-cancellation.md")]
    struct TimeoutsCancellation;
    #[doc = include_str!("../docs/guide/servers.md")]
    struct Servers;
    #[doc = include_str!("../docs/guide/back-pressure.md")]
    struct BackPressure;
    #[doc = include_str!("../docs/guide/streams.md")]
    struct Streams;
    #[cfg(feature = "__tls")]
    #[doc = include_str!("../docs/guide/tls.md")]
    struct Tls;
    #[doc = include_str!("../docs/guide/processes-signals.md")]
    struct ProcessesSignals;
    #[cfg(feature = "process-pool")]
    #[doc = include_str!("../docs/guide/blocking.md")]
    struct Blocking;
    #[doc = include_str!("../docs/guide/errors.md")]
    struct Errors;
    #[doc = include_str!("../docs/guide/stalls.md")]
    struct Stalls;
    #[cfg(feature = "test-util")]
    #[doc = include_str!("../docs/guide/virtual-time.md")]
    struct VirtualTime;
    #[cfg(feature = "async-io")]
    #[doc = include_str!("../docs/guide/embedding.md")]
    struct Embedding;
    #[doc = include_str!("../docs/guide/many-cores.md")]
    struct ManyCores;
    #[cfg(all(feature = "hyper", feature = "async-io", feature = "tokio-rt"))]
    #[doc = include_str!("../docs/guide/ecosystem.md")]
    struct Ecosystem;
    #[doc = include_str!("../docs/guide/from-asyncio.md")]
    struct FromAsyncio;
    #[cfg(feature = "tokio-rt")]
    #[doc = include_str!("../docs/guide/from-tokio.md")]
    struct FromTokio;
    #[doc = include_str!("../docs/guide/from-smol.md")]
    struct FromSmol;
}

/// Faults for tests: only in a build with `--cfg roundelay_fault`.
#[cfg(roundelay_fault)]
#[doc(hidden)]
pub mod fault {
    pub use crate::os::fault::Call;
    pub use crate::os::fault::plan::{Fault, finish, inject};
}

/// What the targets of fuzz/ do: only in a build with `--cfg fuzzing`.
#[cfg(all(fuzzing, feature = "__tls"))]
#[doc(hidden)]
#[allow(missing_docs)]
pub mod fuzzing {
    use std::sync::Arc;

    use rustls::{ClientConfig, ServerConfig};

    use crate::tls::script;

    pub fn tls_engine(configs: &[(Arc<ClientConfig>, Arc<ServerConfig>)], script: &[u8]) {
        script::run(configs, script);
    }

    pub fn tls_server(configs: &[(Arc<ClientConfig>, Arc<ServerConfig>)], input: &[u8]) {
        script::run_server(configs, input);
    }
}

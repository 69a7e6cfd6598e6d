//! Making streams.

use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::constants::STREAM_LIMIT;
use crate::dns::addr::Family;
use crate::dns::hints::AddrInfoFlags;
use crate::error::{Fatal, PanicPayload, invalid_input};
use crate::event_loop::EventLoop;
use crate::event_loop::exception::ExceptionContext;
use crate::event_loop::tasks::BoxFuture;
use crate::executor::LaterLoop;
use crate::net::{
    ConnectOptions, Endpoint, Server, ServerEndpoint, ServerOptions, Starting, connect, connect_settings,
    server_settings,
};
use crate::protocol::{AnyProtocol, Transport};
use crate::sched::report::Exception;
use crate::stream::protocol::{StartHandler, StreamProtocol};
use crate::stream::reader::StreamReader;
use crate::stream::writer::StreamWriter;

/// A stream that is about to be opened: see [`open_connection`]. Await it.
#[must_use = "nothing happens before it is awaited"]
pub struct OpenConnection {
    el: LaterLoop,
    options: ConnectOptions,
    limit: usize,
}

/// Connects to a TCP endpoint, and gives the two halves of the stream. As one stream of the `futures` traits they are had by
/// [`reunite`](StreamReader::reunite).
///
/// See [`EventLoop::create_connection`] for what an endpoint is and how it is connected to.
///
/// # Errors
///
/// As [`EventLoop::create_connection`]; `InvalidInput` for a limit of zero.
///
/// # Panics
///
/// If it is awaited outside of a running event loop.
#[track_caller]
pub fn open_connection(endpoint: impl Into<Endpoint>) -> OpenConnection {
    let el = LaterLoop::new("open_connection");
    OpenConnection { el, options: ConnectOptions::new(endpoint.into()), limit: STREAM_LIMIT }
}

impl OpenConnection {
    /// The reader's limit in bytes (64 KiB).
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    connect_settings!(options);

    #[cfg(feature = "__tls")]
    crate::tls::tls_client_settings!(options.security.tls);
}

impl fmt::Debug for OpenConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenConnection")
            .field("options", &self.options)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl IntoFuture for OpenConnection {
    type Output = io::Result<(StreamReader, StreamWriter)>;
    type IntoFuture = Opening;

    fn into_future(self) -> Opening {
        let Self { el, options, limit } = self;
        Opening::new(async move {
            let el = el.get();
            check_limit("open_connection", limit)?;
            let handle = el.clone();
            let make = move || StreamProtocol::new(&handle, limit, None);
            let (transport, protocol) = connect(el, "open_connection", make, options).await?;
            Ok(protocol.with(|protocol| protocol.halves(&transport)))
        })
    }
}

pub(crate) fn check_limit(function: &str, limit: usize) -> io::Result<()> {
    if limit == 0 {
        return Err(invalid_input(format!("{function}: limit() must be above zero")));
    }
    Ok(())
}

/// The future of [`OpenConnection`] and of [`OpenUnixConnection`](crate::OpenUnixConnection).
#[must_use = "futures do nothing unless they are awaited"]
pub struct Opening {
    future: BoxFuture<io::Result<(StreamReader, StreamWriter)>>,
}

impl Opening {
    pub(super) fn new(future: impl Future<Output = io::Result<(StreamReader, StreamWriter)>> + 'static) -> Self {
        Self { future: Box::pin(future) }
    }
}

impl Future for Opening {
    type Output = io::Result<(StreamReader, StreamWriter)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opening")
    }
}

/// What the handler of a connection may return: nothing, or a result whose error is reported.
pub trait StreamHandlerOutput {
    /// The error to report, if there is one.
    fn into_error(self) -> Option<io::Error>;
}

impl StreamHandlerOutput for () {
    fn into_error(self) -> Option<io::Error> {
        None
    }
}

impl<E: Into<io::Error>> StreamHandlerOutput for Result<(), E> {
    fn into_error(self) -> Option<io::Error> {
        self.err().map(Into::into)
    }
}

/// A server of streams that is about to be made: see [`start_server`]. Await it.
#[must_use = "nothing happens before it is awaited"]
pub struct ServeStreams<H> {
    el: LaterLoop,
    handler: H,
    options: ServerOptions,
    limit: usize,
}

/// Listens on a TCP endpoint, and runs `handler` in a task of its own for each connection.
///
/// The handler returns nothing or a result; an error is reported to the exception handler, unless it is merely that the
/// peer of this connection has gone away, or speaks TLS badly: a `BrokenPipe`, `ConnectionReset` or `ConnectionAborted`, or
/// an error of rustls, of a connection that
/// was lost by an error. One that never returns has to say what it would: `async |reader, writer| -> () { loop { .. } }`. When the
/// handler has dropped both halves, the connection is closed. See [`EventLoop::create_server`] for endpoints and
/// settings.
///
/// As in asyncio, debug mode warns of a connection that is closed by being dropped, for it is often forgotten: a handler
/// that has come to its end calls [`close`](StreamWriter::close), and the warnings that are left are of those that were cut
/// short, by an error, a panic or a cancellation.
///
/// # Errors
///
/// As [`EventLoop::create_server`]; `InvalidInput` for a limit of zero.
///
/// # Panics
///
/// If it is awaited outside of a running event loop.
///
/// ```no_run
/// # async fn f() -> std::io::Result<()> {
/// let server = roundelay::start_server(
///     async |mut reader, mut writer| {
///         loop {
///             let data = reader.read(1024).await?;
///             if data.is_empty() {
///                 writer.close();
///                 return std::io::Result::Ok(());
///             }
///             writer.write(&data);
///             writer.drain().await?;
///         }
///     },
///     ("127.0.0.1", 8888),
/// )
/// .await?;
/// server.serve_forever().await
/// # }
/// ```
#[track_caller]
pub fn start_server<H, R>(handler: H, endpoint: impl Into<ServerEndpoint>) -> ServeStreams<H>
where
    H: AsyncFn(StreamReader, StreamWriter) -> R + 'static,
    R: StreamHandlerOutput + 'static,
{
    let el = LaterLoop::new("start_server");
    ServeStreams { el, handler, options: ServerOptions::new(endpoint.into()), limit: STREAM_LIMIT }
}

impl<H> ServeStreams<H> {
    server_settings!();

    /// The readers' limit in bytes (64 KiB).
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}

impl<H> fmt::Debug for ServeStreams<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeStreams")
            .field("options", &self.options)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl<H, R> IntoFuture for ServeStreams<H>
where
    H: AsyncFn(StreamReader, StreamWriter) -> R + 'static,
    R: StreamHandlerOutput + 'static,
{
    type Output = io::Result<Server>;
    type IntoFuture = Starting;

    fn into_future(self) -> Starting {
        let Self { el, handler, options, limit } = self;
        Starting::later(async move {
            let el = el.get();
            check_limit("start_server", limit)?;
            let factory = streams_factory(el.clone(), handler, limit, options.serving.created_at);
            options.start(el, "start_server", factory).await
        })
    }
}

/// Makes the protocols of a server of streams, each of which runs the handler in a task. That was spawned where the server
/// was made, as far as the application is concerned.
pub(super) fn streams_factory<H, R>(
    el: EventLoop,
    handler: H,
    limit: usize,
    created_at: &'static Location<'static>,
) -> Box<dyn Fn() -> AnyProtocol>
where
    H: AsyncFn(StreamReader, StreamWriter) -> R + 'static,
    R: StreamHandlerOutput + 'static,
{
    let (handler, handle) = (Rc::new(handler), el.clone());
    let start: StartHandler = Rc::new(move |reader, writer| {
        let (handler, el) = (handler.clone(), handle.clone());
        let handling = async move {
            let (transport, ended) = (writer.transport(), writer.ended().clone());
            let handled = CatchUnwind { future: handler(reader, writer) }.await;
            // The handler may have started TLS.
            let transport = transport.uppermost();
            match handled.map(R::into_error) {
                Ok(None) => {}
                // A peer that goes away is no fault of the handler's; that of another connection may well be.
                Ok(Some(error)) if is_lost_connection(&error) && ended.has_failed(&transport).await => {
                    note!(DEBUG, "roundelay::io", "the handler of {transport:?} ended: {error}");
                }
                Ok(Some(error)) => report(&el, transport, Exception::Error(&error)),
                Err(payload) => {
                    report(&el, transport, Exception::Panic(&*payload));
                    el.core.local.dispose(payload);
                }
            }
        };
        drop(handle.task_builder().spawn_at(created_at, handling));
    });
    Box::new(move || AnyProtocol::new(StreamProtocol::new(&el, limit, Some(start.clone()))))
}

/// Whether an error is what reading or writing gives when the peer has gone away.
fn is_lost_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset) || is_of_tls(error)
}

/// Whether an error is what a peer gives rise to that sends no TLS, or shows no certificate that counts.
#[cfg(feature = "__tls")]
fn is_of_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|error| error.is::<rustls::Error>())
}

#[cfg(not(feature = "__tls"))]
fn is_of_tls(_: &io::Error) -> bool {
    false
}

fn report(el: &EventLoop, transport: Transport, exception: Exception<'_>) {
    let mut context =
        ExceptionContext::new("Unhandled exception in the handler of a stream's connection").with_exception(exception);
    context.created_at = transport.created_at();
    context = context.with_subject(transport);
    if let Some(task) = el.current_task() {
        context = context.with_subject(task);
    }
    el.call_exception_handler(&context);
}

pin_project_lite::pin_project! {
    /// A future of which a panic is an error, but for a fatal one.
    struct CatchUnwind<F> {
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for CatchUnwind<F> {
    type Output = Result<F::Output, PanicPayload>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.project().future;
        match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(payload) if payload.is::<Fatal>() => resume_unwind(payload),
            Err(payload) => Poll::Ready(Err(payload)),
        }
    }
}

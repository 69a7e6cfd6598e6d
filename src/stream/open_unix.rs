//! Making streams over unix sockets.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::constants::STREAM_LIMIT;
use crate::executor::LaterLoop;
use crate::net::{
    Server, Starting, UnixConnectOptions, UnixEndpoint, UnixServerEndpoint, UnixServerOptions, connect_unix,
    unix_server_settings,
};
use crate::stream::open::{Opening, StreamHandlerOutput, check_limit, streams_factory};
use crate::stream::protocol::StreamProtocol;
use crate::stream::reader::StreamReader;
use crate::stream::writer::StreamWriter;

/// A stream over a unix socket that is about to be opened: see [`open_unix_connection`]. Await it.
#[must_use = "nothing happens before it is awaited"]
pub struct OpenUnixConnection {
    el: LaterLoop,
    options: UnixConnectOptions,
    limit: usize,
}

/// Connects to a unix socket, and gives the two halves of the stream.
///
/// See [`EventLoop::create_unix_connection`](crate::EventLoop::create_unix_connection) for what an endpoint is and how it is connected to, and
/// [`start_unix_server`] for an example.
///
/// # Errors
///
/// As [`EventLoop::create_unix_connection`](crate::EventLoop::create_unix_connection); `InvalidInput` for a limit of zero.
///
/// # Panics
///
/// If it is awaited outside of a running event loop.
#[track_caller]
pub fn open_unix_connection(endpoint: impl Into<UnixEndpoint>) -> OpenUnixConnection {
    let el = LaterLoop::new("open_unix_connection");
    OpenUnixConnection { el, options: UnixConnectOptions::new(endpoint.into()), limit: STREAM_LIMIT }
}

impl OpenUnixConnection {
    crate::net::buffer_settings!(options.socket);

    #[cfg(feature = "__tls")]
    crate::tls::tls_client_settings!(options.security.tls);

    /// The reader's limit in bytes (64 KiB).
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}

impl fmt::Debug for OpenUnixConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenUnixConnection")
            .field("options", &self.options)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl IntoFuture for OpenUnixConnection {
    type Output = <Opening as Future>::Output;
    type IntoFuture = Opening;

    fn into_future(self) -> Opening {
        let Self { el, options, limit } = self;
        Opening::new(async move {
            let el = el.get();
            check_limit("open_unix_connection", limit)?;
            let handle = el.clone();
            let make = move || StreamProtocol::new(&handle, limit, None);
            let (transport, protocol) = connect_unix(el, "open_unix_connection", make, options).await?;
            Ok(protocol.with(|protocol| protocol.halves(&transport)))
        })
    }
}

/// A server of streams on a unix socket that is about to be made: see [`start_unix_server`]. Await it.
#[must_use = "nothing happens before it is awaited"]
pub struct ServeUnixStreams<H> {
    el: LaterLoop,
    handler: H,
    options: UnixServerOptions,
    limit: usize,
}

/// Listens on a unix socket, and runs `handler` in a task of its own for each connection.
///
/// See [`start_server`](crate::start_server) for handlers, and [`EventLoop::create_unix_server`](crate::EventLoop::create_unix_server) for endpoints and
/// settings.
///
/// # Errors
///
/// As [`EventLoop::create_unix_server`](crate::EventLoop::create_unix_server); `InvalidInput` for a limit of zero.
///
/// # Panics
///
/// If it is awaited outside of a running event loop.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("upper");
/// roundelay::block_on(async {
///     let server = roundelay::start_unix_server(
///         async |mut reader, mut writer| {
///             let line = reader.readline().await?;
///             writer.write(&line.to_ascii_uppercase());
///             writer.close();
///             std::io::Result::Ok(())
///         },
///         &path,
///     )
///     .await?;
///
///     let (mut reader, mut writer) = roundelay::open_unix_connection(&path).await?;
///     writer.write(b"quietly\n");
///     assert_eq!(reader.readline().await?, b"QUIETLY\n");
///     server.close();
///     std::io::Result::Ok(())
/// })
/// # ?; std::io::Result::Ok(())
/// ```
#[track_caller]
pub fn start_unix_server<H, R>(handler: H, endpoint: impl Into<UnixServerEndpoint>) -> ServeUnixStreams<H>
where
    H: AsyncFn(StreamReader, StreamWriter) -> R + 'static,
    R: StreamHandlerOutput + 'static,
{
    let el = LaterLoop::new("start_unix_server");
    ServeUnixStreams { el, handler, options: UnixServerOptions::new(endpoint.into()), limit: STREAM_LIMIT }
}

impl<H> ServeUnixStreams<H> {
    unix_server_settings!();

    /// The readers' limit in bytes (64 KiB).
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}

impl<H> fmt::Debug for ServeUnixStreams<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeUnixStreams")
            .field("options", &self.options)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl<H, R> IntoFuture for ServeUnixStreams<H>
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
            check_limit("start_unix_server", limit)?;
            let factory = streams_factory(el.clone(), handler, limit, options.serving.created_at);
            options.start(el, "start_unix_server", factory).await
        })
    }
}

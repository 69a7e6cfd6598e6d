//! Where this loop meets the libraries and the loops of others.
//!
//! # One stream, the traits of all
//!
//! A library that does I/O asks for a stream that has its traits. There are three families of them, and no adapter is needed
//! for any: the types of bytes have those of futures always, tokio's under the feature `tokio`, hyper's under `hyper`.
//!
//! | type | `futures_io` | `tokio::io` (feature `tokio`) | `hyper::rt` (feature `hyper`) |
//! |---|---|---|---|
//! | [`TcpStream`](crate::TcpStream), [`UnixStream`](crate::UnixStream) | `AsyncRead`, `AsyncBufRead`, `AsyncWrite` | the same | `Read`, `Write` |
//! | [`OwnedReadHalf`](crate::OwnedReadHalf) | `AsyncRead`, `AsyncBufRead` | the same | `Read` |
//! | [`OwnedWriteHalf`](crate::OwnedWriteHalf) | `AsyncWrite` | the same | `Write` |
//! | [`CompatReader`](crate::CompatReader), of a [`StreamReader`](crate::StreamReader) by [`compat()`](crate::StreamReader::compat) | `AsyncRead`, `AsyncBufRead` | the same | `Read` |
//! | [`CompatWriter`](crate::CompatWriter), of a [`StreamWriter`](crate::StreamWriter) by [`compat()`](crate::StreamWriter::compat) | `AsyncWrite` | the same | `Write` |
//! | [`TransportStream`](crate::TransportStream), which over TLS is [`TlsStream`](crate::TlsStream) | `AsyncRead`, `AsyncBufRead`, `AsyncWrite` | the same | `Read`, `Write` |
//! | [`AsyncFd<T>`](crate::AsyncFd) and `&AsyncFd<T>`, where `T` or `&T` is `Read` or `Write` of std | `AsyncRead`, `AsyncWrite` | the same | `Read`, `Write` |
//! | [`ThreadBound`], around any of them | what its content has | what its content has | what its content has |
//!
//! What a method does is the same by each name: tokio's and hyper's `shutdown` is futures' `close`, which ends the writing
//! half. Several buffers are written by one system call. Pipes, the standard streams and those of a
//! [`Process`](crate::Process) are readers and writers, of which `compat()` makes the types above.
//!
//! Nothing is copied on the way: what a socket receives goes into the caller's memory, as it is. Only tokio's buffers, where
//! nobody has written them yet, are filled with zeros before, up to 16 KiB, which then is the most that one read gives.
//!
//! Beside these:
//!
//! | | trait | feature |
//! |---|---|---|
//! | [`EventLoop`](crate::EventLoop) | `futures::task::{LocalSpawn, Spawn}` | |
//! | [`Remote`](crate::Remote) | `futures::task::Spawn` | |
//! | [`Datagrams`](crate::Datagrams), of a [`UdpSocket`](crate::UdpSocket) or [`UnixDatagram`](crate::UnixDatagram) | `futures::{Stream, Sink}` | |
//! | [`Incoming`](crate::Incoming), [`Lines`](crate::Lines), [`Interval`](crate::Interval), [`Signals`](crate::Signals) | `futures::Stream` | |
//! | [`HyperTimer`], [`HyperExecutor`] | `hyper::rt::{Timer, Executor}` | `hyper` |
//!
//! # hyper
//!
//! ```
//! # #[cfg(feature = "hyper")]
//! # fn main() -> std::io::Result<()> {
//! use std::cell::Cell;
//! use std::convert::Infallible;
//! use std::rc::Rc;
//! use std::time::Duration;
//!
//! use http_body_util::{BodyExt, Empty, Full};
//! use hyper::body::{Bytes, Incoming};
//! use hyper::service::service_fn;
//! use hyper::{Request, Response};
//! use roundelay::compat::HyperTimer;
//! use roundelay::{TcpListener, TcpStream, spawn};
//!
//! roundelay::block_on(async {
//!     let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
//!     let address = listener.local_addr()?;
//!     spawn(async move {
//!         // All on one thread: no lock, no atomic.
//!         let visits = Rc::new(Cell::new(0));
//!         while let Ok((stream, _)) = listener.accept().await {
//!             let visits = visits.clone();
//!             let service = service_fn(move |_: Request<Incoming>| {
//!                 visits.set(visits.get() + 1);
//!                 let text = format!("visit {}", visits.get());
//!                 async move { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(text))) }
//!             });
//!             let mut server = hyper::server::conn::http1::Builder::new();
//!             server.timer(HyperTimer).header_read_timeout(Duration::from_secs(5));
//!             spawn(server.serve_connection(stream, service));
//!         }
//!     });
//!
//!     let stream = TcpStream::connect(address).await?;
//!     let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.map_err(std::io::Error::other)?;
//!     spawn(connection);
//!     for visit in 1..=2 {
//!         let request = Request::get("/").header("host", "localhost").body(Empty::<Bytes>::new()).unwrap();
//!         let response = sender.send_request(request).await.map_err(std::io::Error::other)?;
//!         let body = response.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
//!         assert_eq!(body, format!("visit {visit}"));
//!     }
//!     Ok(())
//! })
//! # }
//! # #[cfg(not(feature = "hyper"))]
//! # fn main() {}
//! ```
//!
//! A server that stops gracefully is in `examples/hyper_server.rs`. HTTP/2 is the same with `http2::Builder::new(HyperExecutor)`.
//!
//! # Libraries with a reactor of their own
//!
//! What opens its sockets itself, by another runtime, needs that runtime's reactor beside this loop.
//!
//! | what it stands on | how it runs here | by which thread it is woken |
//! |---|---|---|
//! | async-io: async-net, zbus and others of the smol family | as it is | async-io's own, `async-io` |
//! | the same, on a loop with `Builder::drive_async_io(true)` (feature `async-io`) | as it is | the loop's own |
//! | tokio: reqwest, for instance | within `compat::tokio(..)` (feature `tokio-rt`) | `roundelay-tokio`, one for the process |
//! | tokio, in an application that has a runtime | within `compat::tokio_with(&handle, ..)` | that runtime's |
//!
//! The other way round, this loop inside of a program of tokio's or smol's, is [`EventLoop::drive`](crate::EventLoop::drive).

#[cfg(feature = "hyper")]
pub(crate) mod hyper;
#[cfg(feature = "hyper")]
mod hyper_executor;
#[cfg(feature = "hyper")]
mod hyper_timer;
mod spawn;
#[cfg(any(feature = "tokio", feature = "hyper"))]
mod thread_bound;
#[cfg(feature = "tokio")]
pub(crate) mod tokio_io;
#[cfg(feature = "tokio-rt")]
mod tokio_rt;

#[cfg(feature = "hyper")]
#[cfg_attr(docsrs, doc(cfg(feature = "hyper")))]
pub use hyper_executor::HyperExecutor;
#[cfg(feature = "hyper")]
#[cfg_attr(docsrs, doc(cfg(feature = "hyper")))]
pub use hyper_timer::HyperTimer;
#[cfg(any(feature = "tokio", feature = "hyper"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "tokio", feature = "hyper"))))]
pub use thread_bound::ThreadBound;
#[cfg(feature = "tokio-rt")]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio-rt")))]
pub use tokio_rt::{Tokio, tokio, tokio_with};

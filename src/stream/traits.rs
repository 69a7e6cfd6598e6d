//! The traits of others that a type of bytes has: futures', tokio's (feature `tokio`), hyper's (feature `hyper`).
//!
//! A type says how it reads into a [`Room`], and has futures' `AsyncWrite` and `AsyncBufRead`; the macros make the rest of
//! that. The header of an implementation is written as `([generics] type)` or `([generics] type where [bounds])`:
//!
//! ```text
//! impl ReadInto for TlsStream { .. }
//! impl_read_traits!(([] TlsStream));
//! impl_buf_read_traits!(([] TlsStream));
//! impl_write_traits!(([] TlsStream), vectored: true);
//!
//! impl_read_traits!(([T] AsyncFd<T> where [T: AsFd, for<'a> &'a T: Read]));
//! ```

use std::io;
use std::task::{Context, Poll};

use crate::os::room::Room;

/// How a type reads, whatever buffer its caller has.
pub(crate) trait ReadInto {
    /// Reads what is there, as much as fits; fills nothing at the end of the stream.
    fn poll_read_into(&mut self, cx: &mut Context<'_>, room: &mut Room<'_>) -> Poll<io::Result<()>>;

    /// Pending while a read is known to have nothing, so that it need not be given memory.
    #[cfg_attr(not(feature = "tokio"), allow(dead_code))]
    fn poll_worth_reading(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// `AsyncRead` of futures and tokio, hyper's `Read`, for a type that has [`ReadInto`].
macro_rules! impl_read_traits {
    (([$($generics:tt)*] $name:ty $(where [$($bounds:tt)*])?)) => {
        impl<$($generics)*> futures_io::AsyncRead for $name $(where $($bounds)*)? {
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &mut [u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let mut room = crate::os::room::Room::new(buf);
                let read = crate::stream::traits::ReadInto::poll_read_into(self.get_mut(), cx, &mut room);
                read.map_ok(|()| room.filled())
            }
        }

        #[cfg(feature = "tokio")]
        #[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
        impl<$($generics)*> tokio::io::AsyncRead for $name $(where $($bounds)*)? {
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                crate::compat::tokio_io::poll_read(self.get_mut(), cx, buf)
            }
        }

        #[cfg(feature = "hyper")]
        #[cfg_attr(docsrs, doc(cfg(feature = "hyper")))]
        impl<$($generics)*> hyper::rt::Read for $name $(where $($bounds)*)? {
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: hyper::rt::ReadBufCursor<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                crate::compat::hyper::poll_read(self.get_mut(), cx, buf)
            }
        }
    };
}
pub(crate) use impl_read_traits;

/// tokio's `AsyncBufRead`, for a type that has futures' and [`ReadInto`].
macro_rules! impl_buf_read_traits {
    (([$($generics:tt)*] $name:ty $(where [$($bounds:tt)*])?)) => {
        #[cfg(feature = "tokio")]
        #[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
        impl<$($generics)*> tokio::io::AsyncBufRead for $name $(where $($bounds)*)? {
            fn poll_fill_buf(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<&[u8]>> {
                futures_io::AsyncBufRead::poll_fill_buf(self, cx)
            }

            fn consume(self: std::pin::Pin<&mut Self>, n: usize) {
                futures_io::AsyncBufRead::consume(self, n);
            }
        }
    };
}
pub(crate) use impl_buf_read_traits;

/// tokio's `AsyncWrite` and hyper's `Write`, for a type that has futures' `AsyncWrite`; `vectored` says whether several
/// buffers go in one call.
macro_rules! impl_write_traits {
    (([$($generics:tt)*] $name:ty $(where [$($bounds:tt)*])?), vectored: $vectored:expr) => {
        #[cfg(feature = "tokio")]
        #[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
        impl<$($generics)*> tokio::io::AsyncWrite for $name $(where $($bounds)*)? {
            crate::stream::traits::write_methods!($vectored);
        }

        #[cfg(feature = "hyper")]
        #[cfg_attr(docsrs, doc(cfg(feature = "hyper")))]
        impl<$($generics)*> hyper::rt::Write for $name $(where $($bounds)*)? {
            crate::stream::traits::write_methods!($vectored);
        }
    };
}
pub(crate) use impl_write_traits;

/// tokio's trait and hyper's have the same methods.
#[cfg(any(feature = "tokio", feature = "hyper"))]
macro_rules! write_methods {
    ($vectored:expr) => {
        fn poll_write(
            self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
            buf: &[u8],
        ) -> std::task::Poll<std::io::Result<usize>> {
            futures_io::AsyncWrite::poll_write(self, cx, buf)
        }

        fn poll_write_vectored(
            self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
            bufs: &[std::io::IoSlice<'_>],
        ) -> std::task::Poll<std::io::Result<usize>> {
            futures_io::AsyncWrite::poll_write_vectored(self, cx, bufs)
        }

        fn is_write_vectored(&self) -> bool {
            $vectored
        }

        fn poll_flush(
            self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            futures_io::AsyncWrite::poll_flush(self, cx)
        }

        fn poll_shutdown(
            self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            futures_io::AsyncWrite::poll_close(self, cx)
        }
    };
}
#[cfg(any(feature = "tokio", feature = "hyper"))]
pub(crate) use write_methods;

//! What stays on its thread, for libraries that demand `Send`.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_sink::Sink;
use send_wrapper::SendWrapper;

pin_project_lite::pin_project! {
    /// A stream or a future that stays on its thread, for libraries that demand `Send` of it all the same.
    ///
    /// Such a library has multi-threaded runtimes in mind; on this loop whatever it is given stays on one thread, and the
    /// bound asks for nothing real. This type has `Send` and `Sync` whatever is in it, and finds out if the promise is
    /// broken: it knows the thread on which it was made.
    ///
    /// It has each of these traits that its content has: `AsyncRead`, `AsyncBufRead` and `AsyncWrite` of futures and (feature
    /// `tokio`) of tokio, hyper's `Read` and `Write` (feature `hyper`), `Stream`, `Sink`, `Future`.
    ///
    /// # Panics
    ///
    /// If it is used on another thread than the one on which it was made, whatever the use; also if it is dropped there, and
    /// its content, which must not be dropped there, is leaked (a thread that panics already only leaks it). What can be
    /// done anywhere is to [ask](Self::is_here), to move it, and to print it.
    ///
    /// ```
    /// use futures::{AsyncReadExt, AsyncWriteExt};
    /// use roundelay::{TcpListener, TcpStream, compat::ThreadBound};
    ///
    /// fn library<S: futures::AsyncRead + futures::AsyncWrite + Send + Unpin + 'static>(stream: S) -> impl Future<Output = u8> + Send {
    ///     let mut stream = stream;
    ///     async move {
    ///         stream.write_all(&[41]).await.unwrap();
    ///         let mut byte = [0];
    ///         stream.read_exact(&mut byte).await.unwrap();
    ///         byte[0]
    ///     }
    /// }
    ///
    /// roundelay::block_on(async {
    ///     let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    ///     let client = TcpStream::connect(listener.local_addr()?).await?;
    ///     let answer = roundelay::spawn(library(ThreadBound::new(client)));
    ///     let (mut server, _) = listener.accept().await?;
    ///     let mut byte = [0];
    ///     server.read_exact(&mut byte).await?;
    ///     server.write_all(&[byte[0] + 1]).await?;
    ///     assert_eq!(answer.await?, 42);
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub struct ThreadBound<T> {
        #[pin]
        content: SendWrapper<T>,
    }
}

impl<T> ThreadBound<T> {
    /// Binds to this thread.
    pub fn new(content: T) -> Self {
        Self { content: SendWrapper::new(content) }
    }

    /// The content.
    ///
    /// # Panics
    ///
    /// On another thread than the one on which it was made.
    #[track_caller]
    pub fn into_inner(self) -> T {
        self.check("opened");
        self.content.take()
    }

    /// Whether this is the thread on which it was made.
    pub fn is_here(&self) -> bool {
        self.content.valid()
    }

    #[track_caller]
    fn check(&self, what: &str) {
        assert!(self.is_here(), "compat::ThreadBound was {what} on another thread than the one on which it was made");
    }
}

impl<T> Deref for ThreadBound<T> {
    type Target = T;

    #[track_caller]
    fn deref(&self) -> &T {
        self.check("used");
        &self.content
    }
}

impl<T> DerefMut for ThreadBound<T> {
    #[track_caller]
    fn deref_mut(&mut self) -> &mut T {
        self.check("used");
        &mut self.content
    }
}

impl<T> From<T> for ThreadBound<T> {
    fn from(content: T) -> Self {
        Self::new(content)
    }
}

impl<T: Clone> Clone for ThreadBound<T> {
    #[track_caller]
    fn clone(&self) -> Self {
        Self::new((**self).clone())
    }
}

impl<T: fmt::Debug> fmt::Debug for ThreadBound<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_here() {
            f.debug_tuple("ThreadBound").field(&**self).finish()
        } else {
            f.write_str("ThreadBound(<of another thread>)")
        }
    }
}

impl<F: Future> Future for ThreadBound<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.check("polled");
        self.project().content.poll(cx)
    }
}

impl<S: Stream> Stream for ThreadBound<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        self.check("polled");
        self.project().content.poll_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (**self).size_hint()
    }
}

/// Methods that the content has under the same names.
macro_rules! pass_on {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $output:ty;)*) => {
        $(fn $name(self: Pin<&mut Self>, cx: &mut Context<'_>, $($arg: $type),*) -> $output {
            Pin::new(&mut **self.get_mut()).$name(cx, $($arg),*)
        })*
    };
}

impl<S: Sink<I> + Unpin, I> Sink<I> for ThreadBound<S> {
    type Error = S::Error;

    pass_on! {
        fn poll_ready() -> Poll<Result<(), S::Error>>;
        fn poll_flush() -> Poll<Result<(), S::Error>>;
        fn poll_close() -> Poll<Result<(), S::Error>>;
    }

    fn start_send(self: Pin<&mut Self>, item: I) -> Result<(), S::Error> {
        Pin::new(&mut **self.get_mut()).start_send(item)
    }
}

impl<T: futures_io::AsyncRead + Unpin> futures_io::AsyncRead for ThreadBound<T> {
    pass_on! {
        fn poll_read(buf: &mut [u8]) -> Poll<io::Result<usize>>;
        fn poll_read_vectored(bufs: &mut [io::IoSliceMut<'_>]) -> Poll<io::Result<usize>>;
    }
}

impl<T: futures_io::AsyncBufRead + Unpin> futures_io::AsyncBufRead for ThreadBound<T> {
    pass_on! {
        fn poll_fill_buf() -> Poll<io::Result<&[u8]>>;
    }

    fn consume(self: Pin<&mut Self>, n: usize) {
        Pin::new(&mut **self.get_mut()).consume(n);
    }
}

impl<T: futures_io::AsyncWrite + Unpin> futures_io::AsyncWrite for ThreadBound<T> {
    pass_on! {
        fn poll_write(buf: &[u8]) -> Poll<io::Result<usize>>;
        fn poll_write_vectored(bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;
        fn poll_flush() -> Poll<io::Result<()>>;
        fn poll_close() -> Poll<io::Result<()>>;
    }
}

#[cfg(feature = "tokio")]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
impl<T: tokio::io::AsyncRead + Unpin> tokio::io::AsyncRead for ThreadBound<T> {
    pass_on! {
        fn poll_read(buf: &mut tokio::io::ReadBuf<'_>) -> Poll<io::Result<()>>;
    }
}

#[cfg(feature = "tokio")]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
impl<T: tokio::io::AsyncBufRead + Unpin> tokio::io::AsyncBufRead for ThreadBound<T> {
    pass_on! {
        fn poll_fill_buf() -> Poll<io::Result<&[u8]>>;
    }

    fn consume(self: Pin<&mut Self>, n: usize) {
        Pin::new(&mut **self.get_mut()).consume(n);
    }
}

#[cfg(feature = "tokio")]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
impl<T: tokio::io::AsyncWrite + Unpin> tokio::io::AsyncWrite for ThreadBound<T> {
    pass_on! {
        fn poll_write(buf: &[u8]) -> Poll<io::Result<usize>>;
        fn poll_write_vectored(bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;
        fn poll_flush() -> Poll<io::Result<()>>;
        fn poll_shutdown() -> Poll<io::Result<()>>;
    }

    fn is_write_vectored(&self) -> bool {
        (**self).is_write_vectored()
    }
}

#[cfg(feature = "hyper")]
#[cfg_attr(docsrs, doc(cfg(feature = "hyper")))]
impl<T: hyper::rt::Read + Unpin> hyper::rt::Read for ThreadBound<T> {
    pass_on! {
        fn poll_read(buf: hyper::rt::ReadBufCursor<'_>) -> Poll<io::Result<()>>;
    }
}

#[cfg(feature = "hyper")]
#[cfg_attr(docsrs, doc(cfg(feature = "hyper")))]
impl<T: hyper::rt::Write + Unpin> hyper::rt::Write for ThreadBound<T> {
    pass_on! {
        fn poll_write(buf: &[u8]) -> Poll<io::Result<usize>>;
        fn poll_write_vectored(bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;
        fn poll_flush() -> Poll<io::Result<()>>;
        fn poll_shutdown() -> Poll<io::Result<()>>;
    }

    fn is_write_vectored(&self) -> bool {
        (**self).is_write_vectored()
    }
}

//! The writing half of a stream.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;

use crate::event_loop::timer::yield_once;
use crate::protocol::{ExtraInfo, Transport};
use crate::stream::buffer::Buffer;
use crate::stream::protocol::{Connection, Ended};

/// The writing half of a stream.
///
/// [`write`](Self::write) takes everything; await [`drain`](Self::drain) after it, so that a peer that reads slowly is
/// waited for. When both halves are dropped, the connection is closed, and the loop sends what is queued first; debug mode
/// warns of it, where [`close`](Self::close) was not called and the connection still stood.
///
/// ```
/// roundelay::block_on(async {
///     let server = roundelay::start_server(
///         async |mut reader, mut writer| {
///             let line = reader.readline().await?;
///             writer.write(&line.to_ascii_uppercase());
///             writer.close();
///             writer.wait_closed().await
///         },
///         ("127.0.0.1", 0),
///     )
///     .await?;
///     let (mut reader, mut writer) = roundelay::open_connection(server.local_addrs()[0]).await?;
///     writer.write(b"hello\n");
///     writer.drain().await?;
///     assert_eq!(reader.readline().await?, b"HELLO\n");
///     writer.close();
///     writer.wait_closed().await
/// })
/// # .unwrap();
/// ```
pub struct StreamWriter {
    connection: Rc<Connection>,
    buffer: Rc<RefCell<Buffer>>,
    ended: Rc<Ended>,
}

impl StreamWriter {
    pub(crate) fn new(connection: Rc<Connection>, buffer: Rc<RefCell<Buffer>>, ended: Rc<Ended>) -> Self {
        Self { connection, buffer, ended }
    }

    pub(crate) fn connection(&self) -> &Rc<Connection> {
        &self.connection
    }

    pub(crate) fn ended(&self) -> &Rc<Ended> {
        &self.ended
    }

    #[cfg(feature = "__tls")]
    pub(crate) fn buffer(&self) -> &Rc<RefCell<Buffer>> {
        &self.buffer
    }

    /// The transport below: another one when TLS was started.
    pub fn transport(&self) -> Transport {
        self.connection.transport()
    }

    /// Sends what the kernel takes at once, and queues a copy of the rest. See [`Transport::write`].
    pub fn write(&mut self, data: &[u8]) {
        self.transport().write(data);
    }

    /// As [`write`](Self::write), without a copy of what has to be queued.
    pub fn write_owned(&mut self, data: impl Into<Bytes>) {
        self.transport().write_owned(data);
    }

    /// As [`write`](Self::write) for several pieces, in one system call.
    pub fn writelines(&mut self, data: &[IoSlice<'_>]) {
        self.transport().writelines(data);
    }

    /// Waits until the queue is short enough to write more. It need not be waited for until everything is sent: closing
    /// and dropping see to that.
    ///
    /// # Errors
    ///
    /// Why the connection failed; `ConnectionReset` if it is gone. A connection that is closed or aborted by this side
    /// during the wait ends the wait without an error.
    pub async fn drain(&self) -> io::Result<()> {
        if let Some(error) = self.buffer.borrow().error() {
            return Err(error);
        }
        if self.transport().is_closing() {
            // So that a loop of write and drain sees the end of the connection.
            yield_once().await;
        }
        let (mut waited, mut waiter) = (false, None);
        let mut ready = self.transport().ready();
        poll_fn(|cx| match Pin::new(&mut ready).poll(cx) {
            Poll::Pending => {
                waited = true;
                Poll::Pending
            }
            // The connection has ended during the wait: how, its protocol is told in this turn or the next.
            Poll::Ready(Err(_)) if waited => self.ended.poll(waiter.get_or_insert_with(|| self.ended.join()), cx),
            ready => ready,
        })
        .await
    }

    /// Ends the writing half when what is queued has been sent. See [`Transport::write_eof`].
    pub fn write_eof(&mut self) {
        self.transport().write_eof();
    }

    /// Whether [`write_eof`](Self::write_eof) is possible.
    pub fn can_write_eof(&self) -> bool {
        self.transport().can_write_eof()
    }

    /// Closes the connection: what is queued is sent first, nothing more is received.
    pub fn close(&mut self) {
        self.transport().close();
    }

    /// Whether the connection is closing or gone.
    pub fn is_closing(&self) -> bool {
        self.transport().is_closing()
    }

    /// Waits until the connection is gone.
    ///
    /// # Errors
    ///
    /// What ended it, if it was not closed by this side or by the peer in an orderly way;
    /// [`LoopClosed`](crate::LoopClosed) as an `io::Error` if the loop was closed before.
    pub async fn wait_closed(&self) -> io::Result<()> {
        let waiter = self.ended.join();
        poll_fn(|cx| self.ended.poll(&waiter, cx)).await
    }

    /// What is known of the connection.
    #[doc(alias = "get_extra_info")]
    pub fn extra_info(&self) -> ExtraInfo {
        self.transport().extra_info()
    }
}

impl fmt::Debug for StreamWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<StreamWriter {:?}>", self.transport())
    }
}

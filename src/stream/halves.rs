//! The two halves of a plain stream, for two tasks.

use std::fmt;
use std::io::{self, IoSlice};
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use crate::os::room::Room;
use crate::os::socket::{send, send_vectored};
use crate::stream::connection::{Connection, ReadBuffer, describe, impl_descriptor, impl_read, impl_write};
use crate::stream::tcp::TcpStream;
use crate::stream::traits::{ReadInto, impl_buf_read_traits, impl_read_traits, impl_write_traits};

/// The reading half of a [`TcpStream`] or of a [`UnixStream`](crate::UnixStream).
pub struct OwnedReadHalf<S = TcpStream> {
    connection: Rc<Connection>,
    buffer: ReadBuffer,
    /// What it is a half of.
    whole: PhantomData<fn() -> S>,
}

/// The writing half of a [`TcpStream`] or of a [`UnixStream`](crate::UnixStream). Dropping it ends that direction: the
/// peer sees an end of file.
pub struct OwnedWriteHalf<S = TcpStream> {
    /// `None` once it was reunited.
    connection: Option<Rc<Connection>>,
    /// What it is a half of.
    whole: PhantomData<fn() -> S>,
}

/// The halves of a connection.
pub(super) fn halves<S>(connection: Rc<Connection>, buffer: ReadBuffer) -> (OwnedReadHalf<S>, OwnedWriteHalf<S>) {
    let read = OwnedReadHalf { connection: connection.clone(), buffer, whole: PhantomData };
    (read, OwnedWriteHalf { connection: Some(connection), whole: PhantomData })
}

impl<S> OwnedReadHalf<S> {
    /// The connection again, if both are halves of the same.
    pub(super) fn join(self, mut write: OwnedWriteHalf<S>) -> Result<(Rc<Connection>, ReadBuffer), ReuniteError<S>> {
        if !Rc::ptr_eq(&self.connection, write.shared()) {
            return Err(ReuniteError { read: self, write });
        }
        drop(write.connection.take());
        Ok((self.connection, self.buffer))
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl_read!(OwnedReadHalf<S>);
impl_descriptor!(OwnedReadHalf<S>);

impl<S> fmt::Debug for OwnedReadHalf<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, "OwnedReadHalf", &self.connection)
    }
}

impl<S> OwnedWriteHalf<S> {
    fn shared(&self) -> &Rc<Connection> {
        self.connection.as_ref().expect("it is there until the half is reunited, which takes it")
    }

    pub(super) fn connection(&self) -> &Connection {
        self.shared()
    }
}

impl_write!(OwnedWriteHalf<S>);
impl_descriptor!(OwnedWriteHalf<S>);

impl<S> Drop for OwnedWriteHalf<S> {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            // There is nobody to tell.
            let _ = connection.close_write();
        }
    }
}

impl<S> fmt::Debug for OwnedWriteHalf<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, "OwnedWriteHalf", self.connection())
    }
}

/// The halves given to [`OwnedReadHalf::reunite`] are of two streams. They are here again.
pub struct ReuniteError<S = TcpStream> {
    /// The reading half.
    pub read: OwnedReadHalf<S>,
    /// The writing half.
    pub write: OwnedWriteHalf<S>,
}

impl<S> fmt::Debug for ReuniteError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReuniteError").field("read", &self.read).field("write", &self.write).finish()
    }
}

impl<S> fmt::Display for ReuniteError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the halves are not of the same stream")
    }
}

impl<S> std::error::Error for ReuniteError<S> {}

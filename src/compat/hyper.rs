//! The traits of `hyper::rt`.

use std::io;
use std::task::{Context, Poll, ready};

use hyper::rt::ReadBufCursor;

use crate::os::room::Room;
use crate::stream::ReadInto;

/// hyper's `poll_read`.
#[allow(unsafe_code)]
pub(crate) fn poll_read(
    this: &mut impl ReadInto,
    cx: &mut Context<'_>,
    mut buf: ReadBufCursor<'_>,
) -> Poll<io::Result<()>> {
    // SAFETY: a `Room` only ever initialises bytes.
    let mut room = Room::uninit(unsafe { buf.as_mut() });
    ready!(this.poll_read_into(cx, &mut room))?;
    let n = room.filled();
    // SAFETY: the room says that so many bytes at the front were filled, and nobody puts another room in its place.
    unsafe { buf.advance(n) };
    Poll::Ready(Ok(()))
}

//! The traits of tokio's I/O.

use std::io;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;

use crate::os::room::{Room, ZEROED};
use crate::stream::ReadInto;

/// tokio's `poll_read`.
pub(crate) fn poll_read(this: &mut impl ReadInto, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    if buf.remaining() == 0 {
        return Poll::Ready(Ok(()));
    }
    ready!(this.poll_worth_reading(cx))?;
    // What is initialised costs nothing.
    let initialized = buf.initialized().len() - buf.filled().len();
    let len = buf.remaining().min(initialized.max(ZEROED));
    let mut room = Room::new(buf.initialize_unfilled_to(len));
    ready!(this.poll_read_into(cx, &mut room))?;
    let n = room.filled();
    buf.advance(n);
    Poll::Ready(Ok(()))
}

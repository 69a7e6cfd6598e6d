//! Bytes for a reader, from wherever they come.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::rc::Rc;

use crate::stream::buffer::{Buffer, wake};

/// Feeds a [`StreamReader`](crate::StreamReader): for a protocol of your own, or a test. Clones feed the same reader.
///
/// ```
/// roundelay::block_on(async {
///     let mut reader = roundelay::StreamReader::new(1024);
///     let feeder = reader.feeder();
///     let line = roundelay::spawn(async move { reader.readline().await });
///     feeder.feed_data(b"one ");
///     feeder.feed_data(b"line\n");
///     assert_eq!(line.await.unwrap().unwrap(), b"one line\n");
/// });
/// ```
#[derive(Clone)]
pub struct StreamFeeder {
    buffer: Rc<RefCell<Buffer>>,
}

impl StreamFeeder {
    pub(crate) fn new(buffer: Rc<RefCell<Buffer>>) -> Self {
        Self { buffer }
    }

    /// Appends bytes, as if they had arrived. Bytes after the end of the stream are dropped, and so are those for a
    /// reader that is gone.
    pub fn feed_data(&self, data: &[u8]) {
        let waiter = self.buffer.borrow_mut().feed(data);
        wake(waiter);
    }

    /// Ends the stream. Does nothing if it has ended already.
    pub fn feed_eof(&self) {
        let waiter = self.buffer.borrow_mut().feed_eof();
        wake(waiter);
    }

    /// Makes every read fail from now on, also the one that is waiting, unless what has arrived before is enough for
    /// it.
    pub fn set_exception(&self, error: &io::Error) {
        let waiter = self.buffer.borrow_mut().set_error(error);
        wake(waiter);
    }
}

impl fmt::Debug for StreamFeeder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<StreamFeeder{:?}>", self.buffer.borrow())
    }
}

//! A carrier that has room again a moment after it was full, though nobody reads, as TCP has behind a late acknowledgement.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::io::{AsyncRead, AsyncWrite};
use roundelay::EventLoop;
use roundelay::testing::{Link, MemoryStream, Probe, check_transport, stream_pair};

use crate::common::alone;

/// The room until it is full for the first time.
const AT_FIRST: usize = 100_000;
/// What its connection holds.
const IN_ALL: usize = 500_000;

struct Room {
    bytes: usize,
    /// Taken when it is full for the first time.
    grows: Option<(EventLoop, Duration)>,
    waker: Waker,
}

struct Growing {
    inner: MemoryStream,
    room: Rc<RefCell<Room>>,
}

impl Growing {
    fn new(el: &EventLoop, inner: MemoryStream, delay: Duration) -> Self {
        let room = Room { bytes: AT_FIRST, grows: Some((el.clone(), delay)), waker: Waker::noop().clone() };
        Self { inner, room: Rc::new(RefCell::new(room)) }
    }
}

impl AsyncRead for Growing {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Growing {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut room = this.room.borrow_mut();
        if room.bytes == 0 {
            room.waker.clone_from(cx.waker());
            if let Some((el, delay)) = room.grows.take() {
                let later = this.room.clone();
                drop(el.call_later(delay, move || {
                    let mut room = later.borrow_mut();
                    room.bytes = usize::MAX;
                    room.waker.wake_by_ref();
                }));
            }
            return Poll::Pending;
        }
        let most = room.bytes.min(data.len());
        let written = Pin::new(&mut this.inner).poll_write(cx, &data[..most]);
        if let Poll::Ready(Ok(n)) = written {
            room.bytes -= n;
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_close(cx)
    }
}

/// No transport is blamed for it, whenever that is.
#[test]
fn room_that_comes_late_is_nobodys_fault() {
    let _alone = alone();
    for micros in [10, 40, 160, 640, 2560] {
        let delay = Duration::from_micros(micros);
        let report = check_transport(async |el: EventLoop, near: Probe, far: Probe| {
            let (a, b) = stream_pair(&el, &Link::new().capacity(IN_ALL));
            let (a, b) = (Growing::new(&el, a, delay), Growing::new(&el, b, delay));
            Ok((el.connect_stream(|| near, a)?.0, el.connect_stream(|| far, b)?.0))
        })
        .only(["counts-what-is-queued", "pauses-above-high", "close-flushes"])
        .run();
        assert!(report.is_passed(), "after {delay:?}\n{report}");
    }
}

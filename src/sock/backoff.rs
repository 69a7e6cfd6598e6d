//! Pauses between tries, where nothing tells when to try again.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::constants::{FULL_QUEUE_DELAY, FULL_QUEUE_LONGEST_DELAY};
use crate::event_loop::timer::Sleep;

/// The first pause is a turn of the loop, in which a receiver of this loop makes room; the next ones grow.
#[derive(Default)]
pub(crate) struct Backoff {
    /// How long the latest pause was.
    delay: Option<Duration>,
    pause: Option<Sleep>,
}

impl Backoff {
    /// Ready when a pause is over. The next poll begins another one.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let pause = self.pause.get_or_insert_with(|| {
            let delay = self
                .delay
                .map_or(Duration::ZERO, |before| (before * 2).clamp(FULL_QUEUE_DELAY, FULL_QUEUE_LONGEST_DELAY));
            self.delay = Some(delay);
            Sleep::after(delay)
        });
        std::task::ready!(Pin::new(pause).poll(cx));
        self.pause = None;
        Poll::Ready(())
    }
}

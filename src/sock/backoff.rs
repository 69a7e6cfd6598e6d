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
    /// Begins a pause.
    pub(crate) fn pause(&mut self) {
        let grown = |before: Duration| (before * 2).clamp(FULL_QUEUE_DELAY, FULL_QUEUE_LONGEST_DELAY);
        let delay = self.delay.map_or(Duration::ZERO, grown);
        self.delay = Some(delay);
        self.pause = Some(Sleep::after(delay));
    }

    /// Ready when there is no pause, or none any more.
    pub(crate) fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(pause) = &mut self.pause {
            std::task::ready!(Pin::new(pause).poll(cx));
            self.pause = None;
        }
        Poll::Ready(())
    }
}

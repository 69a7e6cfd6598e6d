//! Pauses between tries, where nothing tells when to try again.

use std::time::Duration;

use crate::constants::{FULL_QUEUE_DELAY, FULL_QUEUE_LONGEST_DELAY};
use crate::event_loop::timer::Sleep;

/// The first pause is a turn of the loop, in which a receiver of this loop makes room; the next ones grow.
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: Duration::ZERO }
    }

    /// The next pause.
    pub(crate) fn delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = (delay * 2).clamp(FULL_QUEUE_DELAY, FULL_QUEUE_LONGEST_DELAY);
        delay
    }

    pub(crate) async fn pause(&mut self) {
        Sleep::after(self.delay()).await;
    }
}

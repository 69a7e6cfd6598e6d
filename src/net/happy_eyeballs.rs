//! Trying several addresses, one after the other or overlapping (Happy Eyeballs, RFC 8305).
//!
//! An address may be dead in such a way that only a long timeout tells. So the next attempt does not wait for the end of the
//! one before but for a delay, or for its failure if that comes first. The first attempt that succeeds wins.
//!
//! asyncio runs each attempt in a task of its own, and most of what has gone wrong there is about cancelling those and
//! waiting for them. Here one future owns them all and polls them in order: two cannot win, dropping the race drops every
//! attempt and with it its socket, and no task factory has a say.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::event_loop::timer::Sleep;

/// Makes an attempt at each target until one succeeds, or gives all their errors in the order of the targets. With a
/// delay they overlap.
pub(crate) async fn first_success<A, F, T>(
    targets: &[A],
    delay: Option<Duration>,
    mut attempt: impl FnMut(A) -> F,
) -> Result<T, Vec<io::Error>>
where
    A: Copy,
    F: Future<Output = io::Result<T>>,
{
    if let (Some(delay), [_, _, ..]) = (delay, targets) {
        let mut race =
            Race { targets, attempt, delay, started: 0, running: Vec::new(), errors: Vec::new(), next: None };
        return poll_fn(|cx| race.poll(cx)).await;
    }
    let mut errors = Vec::new();
    for target in targets {
        match attempt(*target).await {
            Ok(success) => return Ok(success),
            Err(error) => errors.push(error),
        }
    }
    Err(errors)
}

/// Attempts that overlap.
struct Race<'a, A, M, F> {
    targets: &'a [A],
    attempt: M,
    delay: Duration,
    /// How many attempts were begun.
    started: usize,
    /// Those under way, by the places of their targets.
    running: Vec<(usize, Pin<Box<F>>)>,
    /// Of those that failed, in the order in which they did.
    errors: Vec<(usize, io::Error)>,
    /// When the next one begins, unless the one before fails; `None` where none is left.
    next: Option<Sleep>,
}

impl<A, M, F, T> Race<'_, A, M, F>
where
    A: Copy,
    M: FnMut(A) -> F,
    F: Future<Output = io::Result<T>>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, Vec<io::Error>>> {
        loop {
            // Before another one is begun, for nobody needs it if one of these has succeeded.
            if let Poll::Ready(success) = self.poll_running(cx) {
                return Poll::Ready(Ok(success));
            }
            if !self.is_next_due(cx) {
                break;
            }
            self.start_next();
        }
        if !self.running.is_empty() {
            return Poll::Pending;
        }
        let mut errors = std::mem::take(&mut self.errors);
        errors.sort_by_key(|(place, _)| *place);
        Poll::Ready(Err(errors.into_iter().map(|(_, error)| error).collect()))
    }

    /// Ready with the first success; nothing is under way any more then.
    fn poll_running(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        let mut i = 0;
        while let Some((place, attempt)) = self.running.get_mut(i) {
            match attempt.as_mut().poll(cx) {
                Poll::Ready(Ok(success)) => {
                    self.running.clear();
                    self.next = None;
                    return Poll::Ready(success);
                }
                Poll::Ready(Err(error)) => {
                    self.errors.push((*place, error));
                    self.running.remove(i);
                }
                Poll::Pending => i += 1,
            }
        }
        Poll::Pending
    }

    /// Whether there is a next target, and its attempt may begin.
    fn is_next_due(&mut self, cx: &mut Context<'_>) -> bool {
        if self.started == self.targets.len() {
            return false;
        }
        let newest = self.running.last().map(|(place, _)| *place);
        let newest_has_ended = newest.is_none_or(|place| place + 1 < self.started);
        newest_has_ended || self.next.as_mut().is_none_or(|next| Pin::new(next).poll(cx).is_ready())
    }

    fn start_next(&mut self) {
        let place = self.started;
        self.started += 1;
        self.next = (self.started < self.targets.len()).then(|| Sleep::after(self.delay));
        self.running.push((place, Box::pin((self.attempt)(self.targets[place]))));
    }
}

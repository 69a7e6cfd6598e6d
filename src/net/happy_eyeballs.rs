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

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::*;
    use crate::{EventLoop, ManualClock, sleep};

    /// What an attempt does: it takes so many milliseconds, and succeeds or not.
    type Plan = (u64, bool);

    /// When each attempt begins, as far as any do, and which one wins, by asyncio's rule: one begins when the one before has
    /// failed, or after the delay.
    fn expected(plans: &[Plan], delay: Option<u64>) -> (Vec<u64>, Option<usize>) {
        let (mut starts, mut next, mut best) = (Vec::new(), 0, None::<(u64, usize)>);
        for (place, (time, succeeds)) in plans.iter().enumerate() {
            if best.is_some_and(|(end, _)| next >= end) {
                break;
            }
            starts.push(next);
            let end = next + time;
            if *succeeds {
                best = Some(best.map_or((end, place), |best| best.min((end, place))));
            }
            let failed_at = if *succeeds { u64::MAX } else { end };
            next = delay.map_or(u64::MAX, |delay| next + delay).min(failed_at);
            if next == u64::MAX {
                break;
            }
        }
        (starts, best.map(|(_, place)| place))
    }

    /// The same from a race on a clock that is turned by hand.
    fn observed(plans: &[Plan], delay: Option<u64>) -> (Vec<u64>, Result<usize, Vec<String>>) {
        let clock = ManualClock::new();
        let el = EventLoop::builder().clock(clock.clone()).build().unwrap();
        let (starts, open) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(0)));
        struct Open(Rc<Cell<i32>>);
        impl Drop for Open {
            fn drop(&mut self) {
                self.0.set(self.0.get() - 1);
            }
        }
        let (plans, begun, began, counter) = (plans.to_vec(), starts.clone(), el.time(), open.clone());
        let race = el.create_task(async move {
            let places: Vec<usize> = (0..plans.len()).collect();
            let attempt = |place: usize| {
                let now = crate::get_running_loop().unwrap().time();
                begun.borrow_mut().push((now - began).as_millis() as u64);
                counter.set(counter.get() + 1);
                let (open, (time, succeeds)) = (Open(counter.clone()), plans[place]);
                async move {
                    if time > 0 {
                        sleep(Duration::from_millis(time)).await;
                    }
                    drop(open);
                    if succeeds { Ok(place) } else { Err(io::Error::other(place.to_string())) }
                }
            };
            first_success(&places, delay.map(Duration::from_millis), attempt).await
        });
        for _ in 0..1000 {
            while el.run_once(Some(Duration::ZERO)).unwrap() > 0 {}
            if race.is_done() {
                break;
            }
            clock.advance(Duration::from_millis(1));
        }
        let result = el.run_until_complete(race).unwrap().unwrap();
        assert_eq!(open.get(), 0, "an attempt is still there");
        assert_eq!(el.stats().timers.live(), 0);
        el.close();
        let starts = starts.take();
        (starts, result.map_err(|errors| errors.iter().map(ToString::to_string).collect()))
    }

    fn check(plans: &[Plan], delay: Option<u64>) {
        let (starts, winner) = expected(plans, delay);
        let failures: Vec<String> = (0..plans.len()).map(|place| place.to_string()).collect();
        assert_eq!(observed(plans, delay), (starts, winner.ok_or(failures)), "{plans:?} every {delay:?} ms");
    }

    /// HE-02, HE-03, HE-05, HE-06: nobody runs; the first at once; the first too slow; nobody succeeds.
    #[test]
    fn the_cases_of_asyncio() {
        check(&[], Some(10));
        check(&[(0, true), (0, true)], Some(10));
        check(&[(50, true), (5, true)], Some(10));
        check(&[(5, false), (50, false), (1, false)], Some(10));
        // An older attempt that fails hurries nobody: the newest one has its delay.
        assert_eq!(expected(&[(15, false), (50, true), (0, true)], Some(10)), (vec![0, 10, 20], Some(2)));
        check(&[(15, false), (50, true), (0, true)], Some(10));
        // At the same moment the earlier one wins.
        check(&[(20, true), (10, true)], Some(10));
    }

    proptest! {
        /// HE-05, HE-06, HE-07: whatever attempts do, they begin when they should, the first success wins and there is no
        /// second one, nothing is left over, and if all fail each error is there, in the order of the targets.
        #[test]
        fn races_end_as_they_should(
            plans in proptest::collection::vec((0_u64..30, any::<bool>()), 0..6),
            delay in proptest::option::of(0_u64..15),
        ) {
            check(&plans, delay);
        }
    }
}

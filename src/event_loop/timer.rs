//! The future that waits for a deadline.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_core::FusedFuture;

use crate::event_loop::inspection::waits_for;
#[cfg(feature = "hyper")]
use crate::event_loop::remote::Remote;
use crate::event_loop::{Core, running};
use crate::sched::clock::deadline;
use crate::sched::info::WaitsFor;
use crate::sched::timers::TimerKey;
use crate::sched::{Due, running_loop_id};

/// What a sleep waits for.
#[derive(Clone, Copy)]
enum Target {
    /// So long after the first poll.
    After(Duration),
    At(Instant),
}

/// The armed timer of a sleep.
struct Armed {
    core: Rc<Core>,
    key: TimerKey,
}

/// Waits for a deadline. Made by [`sleep`](crate::sleep) and [`sleep_until`](crate::sleep_until).
///
/// The timer is armed when it is first polled, and disarmed when it is dropped.
///
/// A sleep that is polled by another loop than before, or after its loop was closed, waits for the same
/// [deadline](Self::deadline) in the loop that runs. If their [clocks](crate::Builder::clock) differ, that is the moment at
/// which the new loop's clock shows it.
#[must_use = "futures do nothing unless they are awaited"]
pub struct Sleep {
    target: Target,
    armed: Option<Armed>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// For its deadline, or for the first poll.
    Waiting,
    /// For the next poll, without a timer: a sleep of no time.
    Yielding,
    Done,
}

impl Sleep {
    pub(crate) fn after(delay: Duration) -> Self {
        Self { target: Target::After(delay), armed: None, state: State::Waiting }
    }

    pub(crate) fn until(deadline: Instant) -> Self {
        Self { target: Target::At(deadline), armed: None, state: State::Waiting }
    }

    /// Counts its time from now on, where a loop runs, though nobody waits for it yet.
    pub(crate) fn begin(&mut self) {
        if let (Target::After(delay), Some(core)) = (self.target, running::with_current(|core| core.cloned())) {
            self.target = Target::At(deadline(core.now(), delay));
        }
    }

    /// The moment it ends; `None` for a [`sleep`](crate::sleep) that was not polled yet.
    pub fn deadline(&self) -> Option<Instant> {
        match self.target {
            Target::At(deadline) => Some(deadline),
            Target::After(_) => None,
        }
    }

    /// Waits for another moment from now on. Whoever waits for it already need not poll again.
    pub fn reset(&mut self, deadline: Instant) {
        self.target = Target::At(deadline);
        self.state = State::Waiting;
        let Some(Armed { core, key }) = self.armed.take() else { return };
        // If it has fired, whoever waits was woken, and will poll.
        if let Some(due) = core.local.disarm(key).filter(|_| core.is_open()) {
            let key = core.local.arm(deadline, due);
            self.armed = Some(Armed { core, key });
        }
    }

    /// Whether the deadline has passed: the timer has fired and was polled since.
    pub fn is_elapsed(&self) -> bool {
        self.state == State::Done
    }

    /// How the armed timer stands; `None` if there is none that the loop at hand will fire.
    fn poll_armed(&mut self, cx: &Context<'_>) -> Option<Poll<()>> {
        let deadline = self.deadline();
        let armed = self.armed.as_ref()?;
        let local = &armed.core.local;
        let running = running_loop_id();
        let elsewhere = running != 0 && running != local.loop_id();
        let mut timers = local.timers.borrow_mut();
        match timers.get_mut(armed.key) {
            Some(due) if !elsewhere => {
                if !due.wakes(local, cx.waker()) {
                    drop(timers);
                    // A waker may be the application's: it is cloned and dropped with nothing borrowed.
                    let mut new = Due::of(local, cx.waker());
                    if let Some(due) = local.timers.borrow_mut().get_mut(armed.key) {
                        std::mem::swap(due, &mut new);
                    }
                    drop(new);
                }
                deadline.into_iter().for_each(note);
                Some(Poll::Pending)
            }
            Some(_) => {
                drop(timers);
                self.disarm();
                None
            }
            None => {
                drop(timers);
                // Fired, unless closing the loop has discarded it.
                let fired = armed.core.is_open() || deadline.is_some_and(|deadline| deadline <= armed.core.now());
                self.armed = None;
                if fired {
                    self.state = State::Done;
                }
                fired.then_some(Poll::Ready(()))
            }
        }
    }

    #[inline]
    fn disarm(&mut self) {
        if let Some(armed) = &self.armed {
            let due = armed.core.local.disarm(armed.key);
            self.armed = None;
            drop(due);
        }
    }
}

/// A sleep between two polls, without its loop, so that it may be sent.
#[cfg(feature = "hyper")]
pub(crate) struct Asleep {
    target: Target,
    /// The armed timer, whose loop somebody else knows.
    key: Option<TimerKey>,
    state: State,
}

#[cfg(feature = "hyper")]
impl Asleep {
    pub(crate) fn is_armed(&self) -> bool {
        self.key.is_some()
    }

    /// The timer, which from now on is somebody else's.
    pub(crate) fn take_key(&mut self) -> Option<TimerKey> {
        self.key.take()
    }

    /// The sleep again, as one of the loop in which its timer is armed, if it is.
    pub(crate) fn wake(&mut self, core: &Rc<Core>) -> Sleep {
        let armed = self.key.take().map(|key| Armed { core: core.clone(), key });
        Sleep { target: self.target, armed, state: self.state }
    }
}

#[cfg(feature = "hyper")]
impl Sleep {
    pub(crate) fn into_asleep(mut self) -> Asleep {
        Asleep { target: self.target, key: self.armed.take().map(|armed| armed.key), state: self.state }
    }
}

#[cfg(feature = "hyper")]
impl Remote {
    /// Disarms a timer of the loop: now on its thread, soon on another. A closed loop has none any more.
    pub(crate) fn disarm(&self, key: TimerKey) {
        match self.own_local() {
            Some(local) => drop(local.disarm(key)),
            None => {
                let disarm = move || running::with_current(|core| core.map(|core| core.local.disarm(key)));
                let _ = self.post(move || drop(disarm()));
            }
        }
    }
}

impl FusedFuture for Sleep {
    /// Whether its end was seen, as [`is_elapsed`](Sleep::is_elapsed) says: `select!` leaves it out then, until it is
    /// [`reset`](Sleep::reset).
    fn is_terminated(&self) -> bool {
        self.is_elapsed()
    }
}

impl Future for Sleep {
    type Output = ();

    /// # Panics
    ///
    /// If it is polled outside of a running event loop, and its timer is not armed in an open one.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.state != State::Waiting {
            self.state = State::Done;
            return Poll::Ready(());
        }
        if let Some(polled) = self.poll_armed(cx) {
            return polled;
        }
        let Some(core) = running::with_current(|core| core.cloned()) else {
            panic!("a sleep was polled outside of a running roundelay event loop");
        };
        let when = match self.target {
            Target::After(Duration::ZERO) => {
                // For one turn: whoever is ready comes first.
                self.target = Target::At(core.now());
                self.state = State::Yielding;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Target::After(delay) => deadline(core.now(), delay),
            Target::At(deadline) => deadline,
        };
        self.target = Target::At(when);
        let key = core.local.arm(when, Due::of(&core.local, cx.waker()));
        self.armed = Some(Armed { core, key });
        note(when);
        Poll::Pending
    }
}

/// Notes what is waited for, if anybody wants to know.
fn note(until: Instant) {
    waits_for(|| WaitsFor::Timer { until, left: Duration::ZERO });
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.disarm();
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").field("armed", &self.armed.is_some()).field("done", &self.is_elapsed()).finish()
    }
}

/// Pending once, with a wake-up: whoever is in the queue comes first.
pub(crate) async fn yield_once() {
    let mut yielded = false;
    poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

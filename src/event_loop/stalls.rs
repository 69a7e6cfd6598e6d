//! Debug mode's reports of what kept the loop from running everything else: slow items, slow turns, late timers.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use crate::constants::LONG_WAIT;
use crate::event_loop::Core;
use crate::event_loop::exception::emit;
use crate::event_loop::observe::{Observer, Timer, Turn, Waited};
use crate::sched::ran::Ran;

/// Looks for stalls, and reports each of them once.
#[derive(Default)]
pub(super) struct Stalls {
    /// The end of the last one that was reported: what began before it is explained.
    told_until: Cell<Option<Instant>>,
    /// What took longest in this turn.
    longest: RefCell<Option<Longest>>,
    /// The longest of the tasks that have begun inside of what runs, and when it did.
    nested: RefCell<Option<(Ran, Instant, Duration)>>,
    /// The turn before, as far as a timer may have been late by it.
    before: RefCell<Option<Before>>,
    /// When the selector was asked and answered after that, if it was.
    wait: Cell<Option<(Instant, Instant)>>,
}

struct Longest {
    /// The number of the turn.
    turn: u64,
    ran: Ran,
    took: Duration,
}

struct Before {
    ended: Instant,
    /// What took longest in it, if it took long enough to matter.
    longest: Option<String>,
}

impl Stalls {
    /// Since when a stall that lasts from `began` to `ended` is not explained by what was reported before; `None` if that is
    /// no stall.
    fn unexplained(&self, core: &Core, began: Instant, ended: Instant) -> Option<Instant> {
        let limit = core.slow_duration();
        let since = self.told_until.get().map_or(began, |told| told.max(began));
        (!limit.is_zero() && ended.saturating_duration_since(since) >= limit).then_some(since)
    }

    fn tell(&self, until: Instant, text: &str) {
        self.told_until.set(Some(until));
        emit(tracing::Level::WARN, text);
    }

    /// What was most of the time from `since` to `until`, in which the loop got nothing done.
    fn cause(&self, since: Instant, until: Instant) -> String {
        let before = self.before.borrow();
        let ended = before.as_ref().map_or(since, |before| before.ended);
        let (asked_at, answered_at) = self.wait.get().unwrap_or((until, until));
        let time = |from: Instant, to: Instant| to.saturating_duration_since(from.max(since));
        let (in_turn, outside, waiting) = (time(since, ended), time(ended, asked_at), time(asked_at, answered_at));
        let longest = in_turn.max(outside).max(waiting);
        if longest == waiting {
            format!("the wait for events was {} longer than it was to be", seconds(waiting))
        } else if longest == outside {
            format!("the loop did not run for {}", seconds(outside))
        } else {
            let longest = before.as_ref().and_then(|before| before.longest.as_deref());
            let longest = longest.map(|longest| format!(", in which {longest}")).unwrap_or_default();
            format!("the turn before went on for {}{longest}", seconds(in_turn))
        }
    }
}

impl Observer for Stalls {
    fn item(&self, core: &Core, ran: &Ran, began: Instant, ended: Instant) {
        let took = ended.saturating_duration_since(began);
        let nested = self.nested.take().filter(|(_, nested_began, _)| *nested_began >= began);
        if took >= core.slow_duration() {
            let mut text = format!("Executing {ran} took {}", seconds(took));
            if let Some((nested, _, took)) = &nested {
                text.push_str(&format!(", of which {nested}, which began inside of it, {}", seconds(*took)));
            }
            self.tell(ended, &text);
        }
        core.local.dispose(nested);
        let turn = core.turn_number();
        let is_longest = match &*self.longest.borrow() {
            Some(longest) => longest.turn != turn || took > longest.took,
            None => true,
        };
        if is_longest {
            let shorter = self.longest.replace(Some(Longest { turn, ran: ran.clone(), took }));
            core.local.dispose(shorter);
        }
    }

    fn nested(&self, _: &Core, ran: &Ran, began: Instant, ended: Instant) {
        let took = ended.saturating_duration_since(began);
        let mut nested = self.nested.borrow_mut();
        if nested.as_ref().is_none_or(|(_, _, longest)| took > *longest) {
            *nested = Some((ran.clone(), began, took));
        }
    }

    fn timer(&self, core: &Core, timer: &Timer) {
        let Timer { what, when, found_at } = timer;
        if let Some(since) = self.unexplained(core, *when, *found_at) {
            let what = what.as_ref().map_or_else(|| "A timer".to_owned(), Ran::to_string);
            let cause = self.cause(since, *found_at);
            self.tell(*found_at, &format!("{what} is {} late: {cause}", seconds(timer.late())));
        }
    }

    fn turn(&self, core: &Core, turn: &Turn) {
        let longest = self.longest.take().filter(|longest| longest.turn == turn.number);
        let took = turn.ended.saturating_duration_since(turn.began);
        let text = longest.as_ref().filter(|_| took >= core.slow_duration() / 2).map(|longest| {
            let Longest { ran, took, .. } = longest;
            format!("{ran} took {}", seconds(*took))
        });
        core.local.dispose(longest);
        // One in which something was slow is explained as a whole.
        if self.unexplained(core, turn.began, turn.ended) == Some(turn.began) {
            let what = match (&text, turn.items) {
                (Some(longest), 1) => format!("one item, {longest}"),
                (Some(longest), items) => format!("{items} items, none of them slow; the longest, {longest}"),
                (None, _) => "nothing that has a name".to_owned(),
            };
            self.tell(turn.ended, &format!("Turn {} took {}, with {what}", turn.number, seconds(took)));
        }
        self.before.replace(Some(Before { ended: turn.ended, longest: text }));
        self.wait.set(None);
    }

    fn waited(&self, _: &Core, wait: &Waited) {
        self.wait.set(Some((wait.asked_at, wait.until)));
        log_wait(wait);
    }
}

/// Logs a wait, as asyncio does: louder if it was long, and not if it was a mere look.
fn log_wait(wait: &Waited) {
    if wait.timeout == Some(Duration::ZERO) {
        return;
    }
    let millis = |duration: Duration| format!("{:.3} ms", duration.as_secs_f64() * 1e3);
    let took = wait.until.saturating_duration_since(wait.asked_at);
    let limit = wait.timeout.map(|timeout| format!(" {}", millis(timeout))).unwrap_or_default();
    let (took, events, is_long) = (millis(took), wait.events, took >= LONG_WAIT);
    if is_long {
        note!(INFO, "roundelay::loop", "poll{limit} took {took}: {events} events");
    } else {
        note!(DEBUG, "roundelay::loop", "poll{limit} took {took}: {events} events");
    }
}

/// A time for people to read.
fn seconds(time: Duration) -> String {
    format!("{:.3} seconds", time.as_secs_f64())
}

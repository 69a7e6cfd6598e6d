//! Another order of what is ready, by a seed: for `testing`.
//!
//! What may be turned around is what a program should not rely on though it always comes out the same: which of several
//! tasks goes first that are ready at the same time. What the crate promises stays as it is, unless it is asked for: a
//! callback runs before what was queued behind it and after what was queued before, timers of equal deadline are first in,
//! first out. Events, what transports tell their protocols and what other threads have posted always keep their places.
//!
//! A shuffle takes one number for each place, from the last one to the second: on every platform, and in every release,
//! the same ones.

use std::cell::RefCell;
use std::time::Instant;

use crate::sched::dice::Dice;
use crate::sched::ran::Ran;
use crate::sched::ready::{Item, ReadyQueue};

/// An order by a seed.
pub(crate) struct Order {
    dice: RefCell<Dice>,
    /// Whether callbacks are turned around with the tasks.
    pub(crate) callbacks: bool,
    /// Whether the callbacks of timers of equal deadline are.
    pub(crate) timers: bool,
    /// Kept for their memory.
    places: RefCell<Vec<usize>>,
}

impl Order {
    pub(crate) fn new(seed: u64, callbacks: bool, timers: bool) -> Self {
        Self { dice: RefCell::new(Dice::new(seed)), callbacks, timers, places: RefCell::default() }
    }

    /// Turns the first `batch` items of the queue around.
    pub(crate) fn permute(&self, ready: &ReadyQueue, batch: usize) {
        let mut places = self.places.borrow_mut();
        if self.timers && !self.callbacks {
            self.permute_timers(ready, batch);
        }
        for place in 0..batch {
            match kind(ready, place) {
                Kind::Task => places.push(place),
                Kind::Callback(_) if self.callbacks => places.push(place),
                // What it stands behind and before is promised.
                Kind::Callback(_) | Kind::Fixed if !self.callbacks => self.shuffle(ready, &mut places),
                _ => {}
            }
        }
        self.shuffle(ready, &mut places);
    }

    fn permute_timers(&self, ready: &ReadyQueue, batch: usize) {
        let mut timers: Vec<(Instant, usize)> = Vec::new();
        for place in 0..batch {
            if let Kind::Callback(Some(when)) = kind(ready, place) {
                timers.push((when, place));
            }
        }
        timers.sort_by_key(|(when, _)| *when);
        for same in timers.chunk_by(|(a, _), (b, _)| a == b) {
            self.shuffle(ready, &mut same.iter().map(|(_, place)| *place).collect());
        }
    }

    /// Shuffles what is at these places, and forgets them.
    fn shuffle(&self, ready: &ReadyQueue, places: &mut Vec<usize>) {
        let mut dice = self.dice.borrow_mut();
        for last in (1..places.len()).rev() {
            let other = dice.below(last as u64 + 1) as usize;
            ready.swap(places[last], places[other]);
        }
        places.clear();
    }
}

/// What an item is to a permutation.
enum Kind {
    Task,
    /// A callback of the application's; a timer's has a deadline.
    Callback(Option<Instant>),
    Fixed,
}

fn kind(ready: &ReadyQueue, place: usize) -> Kind {
    ready.look(place, |item| match item {
        Item::Task(_) | Item::Root(_) => Kind::Task,
        Item::Callback(callback) => match callback.clone().about() {
            Some(Ran::Callback(info)) => Kind::Callback(info.when),
            _ => Kind::Fixed,
        },
        Item::Event { .. } | Item::Job(_) | Item::Posted(_) | Item::Taken => Kind::Fixed,
    })
}

//! Every interleaving of small cases of the inject queue, the way from other threads into the loop.
//!
//! Empty but under `--cfg loom`; `ci/loom.sh` runs it. A wake-up that is lost shows as a deadlock, which loom reports.

#![cfg(loom)]

#[allow(dead_code, unreachable_pub)]
#[path = "../src/sched/inject.rs"]
mod inject;

use std::collections::VecDeque;

use inject::{Inject, Wake};
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread::{self, JoinHandle};

/// The eventfd: it ends the sleep that is under way, or the next one.
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
    rings: AtomicUsize,
}

/// A loop as far as sleeping and waking go.
struct Model {
    inject: Inject<u32>,
    bell: Bell,
}

impl Model {
    fn new() -> Arc<Self> {
        let bell = Bell { rung: Mutex::new(false), changed: Condvar::new(), rings: AtomicUsize::new(0) };
        Arc::new(Self { inject: Inject::new(), bell })
    }

    /// A model whose loop is in a turn.
    fn awake() -> Arc<Self> {
        let model = Self::new();
        model.inject.wake_up();
        model
    }

    /// What is waiting.
    fn take(&self) -> Vec<u32> {
        let mut items = VecDeque::new();
        self.inject.take(&mut items);
        items.into()
    }

    fn ring(&self) {
        self.bell.rings.fetch_add(1, Ordering::Relaxed);
        *self.bell.rung.lock().unwrap() = true;
        self.bell.changed.notify_one();
    }

    fn rings(&self) -> usize {
        self.bell.rings.load(Ordering::Relaxed)
    }

    /// What `Shared::inject` does. True if this poster was the one to call.
    fn post(&self, item: u32) -> Result<bool, u32> {
        let needed = self.inject.push(item)? == Wake::Needed;
        if needed {
            self.ring();
        }
        Ok(needed)
    }

    /// Sleeps until the bell rings.
    fn sleep(&self) {
        let mut rung = self.bell.rung.lock().unwrap();
        while !*rung {
            rung = self.bell.changed.wait(rung).unwrap();
        }
        *rung = false;
    }

    /// What the loop does, until it has got so many items: its first sleeps may end by themselves, as with a timer.
    /// Returns the items and how often it slept.
    fn drive(&self, items: usize, mut short_sleeps: usize) -> (Vec<u32>, usize) {
        let (mut got, mut sleeps) = (Vec::new(), 0);
        loop {
            if self.inject.has_items() {
                got.extend(self.take());
            }
            if got.len() == items {
                return (got, sleeps);
            }
            if self.inject.prepare_sleep() {
                sleeps += 1;
                if short_sleeps > 0 {
                    short_sleeps -= 1;
                } else {
                    self.sleep();
                }
            }
            self.inject.wake_up();
        }
    }
}

/// For the larger cases: every interleaving with at most three preemptions. All of them would take minutes.
fn bounded(case: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(case);
}

fn poster(model: &Arc<Model>, items: &'static [u32]) -> JoinHandle<usize> {
    let model = model.clone();
    thread::spawn(move || items.iter().filter(|&&item| model.post(item) == Ok(true)).count())
}

/// TS-01: a post against a loop that is falling asleep: whoever comes second sees the other.
#[test]
fn a_sleeping_loop_is_told_of_every_post() {
    loom::model(|| {
        let model = Model::awake();
        let poster = poster(&model, &[1]);
        let sleeps = model.inject.prepare_sleep();
        let called = poster.join().unwrap() == 1;
        assert!(called || !sleeps, "asleep, with an item in the queue and nobody to tell");
        // A loop that stayed awake may have been called all the same, but never twice.
        assert_eq!(model.rings(), usize::from(called));
        assert_eq!(model.take(), [1]);
        assert!(!model.inject.has_items());
    });
}

/// TS-01, TS-12: a loop that turns and sleeps gets all that one thread posts, in order.
#[test]
fn a_turning_loop_gets_everything_in_order() {
    loom::model(|| {
        let model = Model::awake();
        let poster = poster(&model, &[1, 2]);
        let (got, sleeps) = model.drive(2, 0);
        let calls = poster.join().unwrap();
        assert_eq!(got, [1, 2]);
        assert!(calls >= sleeps, "a sleep ended without a call");
        assert_eq!(model.rings(), calls);
    });
}

/// TS-03, TS-12: two posters and one sleep: exactly one of them makes the call, the other saves it.
#[test]
fn two_posters_make_one_call() {
    loom::model(|| {
        let model = Model::awake();
        assert!(model.inject.prepare_sleep());
        let posters = [poster(&model, &[1]), poster(&model, &[2])];
        let calls: usize = posters.into_iter().map(|poster| poster.join().unwrap()).sum();
        assert_eq!(calls, 1);
        model.sleep();
        model.inject.wake_up();
        let mut got = model.take();
        got.sort();
        assert_eq!(got, [1, 2]);
    });
}

/// TS-03: two posters against a loop that turns and sleeps: nothing is lost, and no sleep is ended by two calls.
#[test]
fn two_posters_against_a_turning_loop() {
    bounded(|| {
        let model = Model::awake();
        let posters = [poster(&model, &[1]), poster(&model, &[2])];
        let (mut got, _) = model.drive(2, 0);
        got.sort();
        assert_eq!(got, [1, 2]);
        for poster in posters {
            poster.join().unwrap();
        }
    });
}

/// A call that comes when the sleep it was meant for is over: it may end the next sleep early, and does no harm.
#[test]
fn a_late_call_does_no_harm() {
    bounded(|| {
        let model = Model::awake();
        let poster = poster(&model, &[1, 2]);
        // The first sleep ends by itself, with the poster anywhere between its push and its call.
        let (got, _) = model.drive(2, 1);
        assert_eq!(got, [1, 2]);
        poster.join().unwrap();
    });
}

/// `claim_wake` without an item, as `wake_if_asleep` uses it: one call for each sleep, and none for a loop that is awake.
#[test]
fn a_claim_is_granted_once() {
    loom::model(|| {
        let model = Model::awake();
        assert_eq!(model.inject.claim_wake(), Wake::NotNeeded);
        assert!(model.inject.prepare_sleep());
        let claimers: Vec<_> = (0..2)
            .map(|_| {
                let model = model.clone();
                thread::spawn(move || model.inject.claim_wake() == Wake::Needed)
            })
            .collect();
        let granted = claimers.into_iter().map(|claimer| claimer.join().unwrap());
        assert_eq!(granted.filter(|&granted| granted).count(), 1);
    });
}

/// A claim against a loop that wakes by itself: it is granted or not, and the next sleep is announced anew either way.
#[test]
fn a_claim_against_a_loop_that_wakes_up() {
    loom::model(|| {
        let model = Model::awake();
        assert!(model.inject.prepare_sleep());
        let claimer = {
            let model = model.clone();
            thread::spawn(move || {
                if model.inject.claim_wake() == Wake::Needed {
                    model.ring();
                }
            })
        };
        model.inject.wake_up();
        assert!(model.inject.prepare_sleep(), "nothing was posted");
        claimer.join().unwrap();
        // Whatever became of the claim, somebody has been or will be called for the second sleep.
        let called = model.post(1) == Ok(true);
        assert!(called || model.rings() == 1);
        model.sleep();
    });
}

/// Architecture, trap 14: a loop that is left between two turns is told of what comes, or says that it came before.
#[test]
fn a_post_against_a_loop_that_is_left() {
    loom::model(|| {
        let model = Model::awake();
        let poster = poster(&model, &[1]);
        let waiting = model.inject.leave();
        // What the end of a run does for the foreign loop.
        let told = waiting && model.inject.claim_wake() == Wake::Needed;
        let called = poster.join().unwrap() == 1;
        assert!(told || called, "an item is in the queue and the foreign loop does not know");
        assert_eq!(model.take(), [1]);
        // Whoever did not have to call relied on the call that was made: the next one has nothing to add.
        assert_eq!(model.inject.claim_wake(), Wake::NotNeeded);
    });
}

/// LR-02: a post against `close`: refused and given back, or found by the last look at the queue.
#[test]
fn a_post_against_a_closing_queue() {
    loom::model(|| {
        let model = Model::awake();
        let poster = {
            let model = model.clone();
            thread::spawn(move || [model.post(1), model.post(2)])
        };
        model.inject.close();
        let got = model.take();
        let posted = poster.join().unwrap();
        let taken: Vec<u32> = (1..).zip(&posted).filter(|(_, posted)| posted.is_ok()).map(|(item, _)| item).collect();
        let refused: Vec<u32> = posted.iter().filter_map(|posted| posted.err()).collect();
        assert_eq!(got, taken, "accepted but not found, or found but not accepted");
        assert_eq!([taken, refused].concat(), [1, 2], "lost, or refused and then taken");
        assert_eq!(model.post(3), Err(3));
        assert!(model.take().is_empty());
    });
}

/// Architecture, trap 3: `close` waits for what is in flight: a waker that was about to push when the loop looked at its
/// empty queue is waited for, by its call.
#[test]
fn a_closing_loop_waits_for_what_is_in_flight() {
    loom::model(|| {
        let model = Model::new();
        let poster = poster(&model, &[1]);
        // One live task, known to be on its way.
        let (got, _) = model.drive(1, 0);
        assert_eq!(got, [1]);
        model.inject.close();
        assert!(model.take().is_empty());
        poster.join().unwrap();
        assert_eq!(model.post(2), Err(2));
    });
}

//! Deadlines in order of (when, sequence of creation).
//!
//! An indexed four-ary heap: each timer knows its place, so that cancelling takes it out at once, with what it
//! captured. Nothing is left behind to be swept later, and ten million timers armed and cancelled leave no trace.

use std::time::Instant;

/// Children of each node: four share a cache line, and the heap is half as deep as a binary one.
const ARITY: usize = 4;

/// Marks the end of the list of free slots.
const NONE: u32 = u32::MAX;

/// Names a timer for as long as it is armed; afterwards it names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey {
    slot: u32,
    generation: u32,
}

/// One deadline in the heap.
struct Node {
    when: Instant,
    /// Breaks ties: timers of equal deadline fire in order of creation.
    seq: u64,
    /// Where the payload is.
    slot: u32,
}

impl Node {
    fn precedes(&self, other: &Node) -> bool {
        (self.when, self.seq) < (other.when, other.seq)
    }
}

struct Slot<T> {
    /// The low half of the timer's sequence number: tells a key from that of another timer in the same slot.
    generation: u32,
    state: SlotState<T>,
}

enum SlotState<T> {
    Armed {
        /// Index of the timer's node in the heap.
        place: u32,
        payload: T,
    },
    Free {
        next: u32,
    },
}

/// The armed timers of a loop.
pub(crate) struct Timers<T> {
    heap: Vec<Node>,
    slots: Vec<Slot<T>>,
    /// First free slot.
    free: u32,
    /// Sequence number of the next timer.
    seq: u64,
}

impl<T> Timers<T> {
    pub(crate) fn new() -> Self {
        Self { heap: Vec::new(), slots: Vec::new(), free: NONE, seq: 0 }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.heap.len()
    }

    /// The earliest deadline.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.heap.first().map(|node| node.when)
    }

    /// Arms a timer.
    pub(crate) fn insert(&mut self, when: Instant, payload: T) -> TimerKey {
        let place = self.heap.len();
        let generation = self.seq as u32;
        let armed = Slot { generation, state: SlotState::Armed { place: place as u32, payload } };
        let slot = self.free;
        let slot = if slot == NONE {
            let slot = u32::try_from(self.slots.len()).expect("fewer than 2^32 timers");
            self.slots.push(armed);
            slot
        } else {
            let entry = &mut self.slots[slot as usize];
            let SlotState::Free { next } = entry.state else { unreachable!("the free list holds free slots") };
            self.free = next;
            *entry = armed;
            slot
        };
        self.heap.push(Node { when, seq: self.seq, slot });
        self.seq += 1;
        self.sift_up(place);
        TimerKey { slot, generation }
    }

    /// Disarms a timer: its payload, or `None` if it has fired or was removed before.
    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<T> {
        let slot = self.slots.get(key.slot as usize).filter(|slot| slot.generation == key.generation)?;
        let SlotState::Armed { place, .. } = slot.state else {
            return None;
        };
        Some(self.take(place as usize))
    }

    /// Whether the key still names an armed timer.
    pub(crate) fn get_mut(&mut self, key: TimerKey) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.slot as usize).filter(|slot| slot.generation == key.generation)?;
        match &mut slot.state {
            SlotState::Armed { payload, .. } => Some(payload),
            SlotState::Free { .. } => None,
        }
    }

    /// Takes out the earliest timer if it is due at `limit`.
    pub(crate) fn pop_due(&mut self, limit: Instant) -> Option<T> {
        (self.next_deadline()? <= limit).then(|| self.take(0))
    }

    /// Takes out all timers, in no order.
    pub(crate) fn clear(&mut self) -> Vec<T> {
        let mut payloads = Vec::with_capacity(self.heap.len());
        while let Some(place) = self.heap.len().checked_sub(1) {
            payloads.push(self.take(place));
        }
        self.heap = Vec::new();
        self.slots = Vec::new();
        self.free = NONE;
        payloads
    }

    /// Takes out the node at `place` and frees its slot.
    fn take(&mut self, place: usize) -> T {
        let node = self.heap.swap_remove(place);
        if place < self.heap.len() {
            self.note(place);
            // The node that filled the gap may belong above or below it.
            if place > 0 && self.heap[place].precedes(&self.heap[(place - 1) / ARITY]) {
                self.sift_up(place);
            } else {
                self.sift_down(place);
            }
        }
        let slot = &mut self.slots[node.slot as usize];
        let state = std::mem::replace(&mut slot.state, SlotState::Free { next: self.free });
        self.free = node.slot;
        if self.heap.is_empty() {
            self.shrink();
        }
        match state {
            SlotState::Armed { payload, .. } => payload,
            SlotState::Free { .. } => unreachable!("a node's slot is armed"),
        }
    }

    /// Gives most of a burst's memory back, when no timer is left.
    fn shrink(&mut self) {
        const KEEP: usize = 1024;
        if self.slots.capacity() > 4 * KEEP {
            self.heap.shrink_to(KEEP);
            self.slots.clear();
            self.slots.shrink_to(KEEP);
            self.free = NONE;
        }
    }

    /// Tells the slot of the node at `place` where it is now.
    fn note(&mut self, place: usize) {
        match &mut self.slots[self.heap[place].slot as usize].state {
            SlotState::Armed { place: noted, .. } => *noted = place as u32,
            SlotState::Free { .. } => unreachable!("a node's slot is armed"),
        }
    }

    fn sift_up(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / ARITY;
            if !self.heap[place].precedes(&self.heap[parent]) {
                break;
            }
            self.heap.swap(place, parent);
            self.note(place);
            place = parent;
        }
        self.note(place);
    }

    fn sift_down(&mut self, mut place: usize) {
        loop {
            let first = place * ARITY + 1;
            let last = (first + ARITY).min(self.heap.len());
            let mut least = place;
            for child in first..last {
                if self.heap[child].precedes(&self.heap[least]) {
                    least = child;
                }
            }
            if least == place {
                break;
            }
            self.heap.swap(place, least);
            self.note(place);
            place = least;
        }
        self.note(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u8),
        Remove(u8),
        Pop(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => any::<u8>().prop_map(Step::Insert),
            1 => any::<u8>().prop_map(Step::Remove),
            1 => any::<u8>().prop_map(Step::Pop),
        ]
    }

    proptest! {
        /// Against a list kept sorted by (when, creation): same pops, same next deadline, same answers to removals.
        #[test]
        fn agrees_with_a_sorted_list(steps in proptest::collection::vec(step(), 1..400)) {
            let start = Instant::now();
            let at = |when: u8| start + Duration::from_micros(when.into());
            let mut timers = Timers::new();
            let mut model: Vec<(Instant, usize)> = Vec::new();
            let mut keys = Vec::new();
            for step in steps {
                match step {
                    Step::Insert(when) => {
                        let id = keys.len();
                        keys.push(timers.insert(at(when), id));
                        let place = model.partition_point(|&(other, _)| other <= at(when));
                        model.insert(place, (at(when), id));
                    }
                    Step::Remove(which) if !keys.is_empty() => {
                        let id = usize::from(which) % keys.len();
                        let expected = model.iter().position(|&(_, other)| other == id);
                        prop_assert_eq!(timers.get_mut(keys[id]).is_some(), expected.is_some());
                        prop_assert_eq!(timers.remove(keys[id]), expected.map(|place| model.remove(place).1));
                    }
                    Step::Remove(_) => {}
                    Step::Pop(limit) => {
                        let due = model.first().is_some_and(|&(when, _)| when <= at(limit));
                        let expected = due.then(|| model.remove(0).1);
                        prop_assert_eq!(timers.pop_due(at(limit)), expected);
                    }
                }
                prop_assert_eq!(timers.len(), model.len());
                prop_assert_eq!(timers.next_deadline(), model.first().map(|&(when, _)| when));
            }
            let far = start + Duration::from_secs(1);
            let rest: Vec<usize> = std::iter::from_fn(|| timers.pop_due(far)).collect();
            prop_assert_eq!(rest, model.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_key_does_not_name_its_successor() {
        let now = Instant::now();
        let mut timers = Timers::new();
        let old = timers.insert(now, 'a');
        assert_eq!(timers.remove(old), Some('a'));
        let new = timers.insert(now, 'b');
        assert_eq!(timers.remove(old), None);
        assert_eq!(timers.clear(), ['b']);
        assert_eq!(timers.remove(new), None);
    }

    #[test]
    fn a_burst_leaves_no_slots_and_its_keys_name_nothing() {
        let now = Instant::now();
        let mut timers = Timers::new();
        let old: Vec<TimerKey> = (0..10_000).map(|n| timers.insert(now, n)).collect();
        assert!(old.iter().all(|&key| timers.remove(key).is_some()));
        assert!(timers.slots.capacity() < 5000 && timers.heap.capacity() < 5000);
        let new: Vec<TimerKey> = (0..10_000).map(|n| timers.insert(now, n)).collect();
        assert!(old.iter().all(|&key| timers.remove(key).is_none()));
        assert_eq!(timers.len(), new.len());
    }
}

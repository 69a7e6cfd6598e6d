//! Deadlines in order of (when, sequence of creation).
//!
//! Three structures, and each timer is in one of them. A few timers, and those that are due soon, stand in a heap. When
//! there are many, those that are not due soon stand in the buckets of a [`wheel`], into which they are put and out of
//! which they are taken in constant time. When time comes to a bucket, it is sorted, and becomes the *run*, which is
//! worked off from its end. So order is exact, to the nanosecond and to the sequence of creation, and the next deadline
//! is always known exactly: a bucket is sorted as soon as the next deadline is asked for and is in it.
//!
//! Each timer's payload is in a slot. Cancelling takes it out and frees the slot at once, with what the payload captured;
//! the 24 bytes of the node in the heap, the run or the bucket stay until they would be looked at, or until those that
//! name nothing outnumber the others. Ten million timers armed and cancelled leave no trace.
//!
//! Rejected: an indexed heap for all of them, which is as fast for arming and cancelling but looks at a hundred megabytes
//! in no order when a million timers fire; a wheel whose buckets are linked lists, the links of which are cache misses
//! that wait for each other. docs/performance.md has the figures.

mod wheel;

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use crate::constants::{TIMER_BIAS, TIMERS_IN_HEAP};
use crate::sched::timers::wheel::{Place, Wheel, tick};

/// Marks the end of the list of free slots.
const NONE: u32 = u32::MAX;

/// Nodes that name nothing which heap and run may hold, beyond as many as name something.
const SLACK: usize = 64;

/// Names a timer for as long as it is armed; afterwards it names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey {
    slot: u32,
    /// The low half of the sequence number.
    seq: u32,
}

/// A timer as it is put in order. One whose slot has another sequence number names nothing any more.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Node {
    /// Nanoseconds, see [`Timers::nanos`].
    when: u64,
    /// Breaks ties: timers of equal deadline fire in order of creation.
    seq: u64,
    /// Where the payload is.
    slot: u32,
}

impl Ord for Node {
    /// The earlier one is the greater: the standard heap gives the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.when, other.seq).cmp(&(self.when, self.seq))
    }
}

impl PartialOrd for Node {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

struct Slot<T> {
    when: u64,
    /// That of the timer that is or was here.
    seq: u64,
    /// In the wheel, or else in the heap or the run.
    place: Option<Place>,
    content: Content<T>,
}

enum Content<T> {
    Armed(T),
    Free { next: u32 },
}

/// The armed timers of a loop.
pub(crate) struct Timers<T> {
    /// What nanoseconds are counted from.
    base: Instant,
    slots: Vec<Slot<T>>,
    /// First free slot.
    free: u32,
    /// How many are armed.
    len: usize,
    /// Those that came when their bucket's time had come already, or when there were few.
    heap: BinaryHeap<Node>,
    /// A bucket, sorted: the earliest is the last.
    run: Vec<Node>,
    /// How many nodes of the two name a timer.
    near: usize,
    /// The others, which are all later.
    wheel: Wheel,
    /// How many more come into the heap before it is worth a look whether some of them can go to the wheel.
    patience: usize,
    /// The earliest deadline, if it is known; `u64::MAX` for none.
    next: Option<u64>,
    /// Sequence number of the next timer.
    seq: u64,
    /// How many timers `spread` has looked at.
    #[cfg(test)]
    looks: usize,
}

impl<T> Timers<T> {
    pub(crate) fn new() -> Self {
        Self {
            base: Instant::now(),
            slots: Vec::new(),
            free: NONE,
            len: 0,
            heap: BinaryHeap::new(),
            run: Vec::new(),
            near: 0,
            wheel: Wheel::new(),
            patience: 0,
            next: Some(u64::MAX),
            seq: 0,
            #[cfg(test)]
            looks: 0,
        }
    }

    /// How many are armed.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A moment as a number that is as good, from 36 years before the loop to 548 years after it. What is outside counts
    /// as the nearest one inside; nothing is ever due at the last one.
    #[inline]
    fn nanos(&self, when: Instant) -> u64 {
        let nanos = |duration: Duration| {
            duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos().into())
        };
        match when.checked_duration_since(self.base) {
            Some(after) => TIMER_BIAS.saturating_add(nanos(after)),
            None => TIMER_BIAS.saturating_sub(nanos(self.base.saturating_duration_since(when))),
        }
    }

    fn instant(&self, nanos: u64) -> Instant {
        match nanos.checked_sub(TIMER_BIAS) {
            Some(after) => self.base + Duration::from_nanos(after),
            None => self.base.checked_sub(Duration::from_nanos(TIMER_BIAS - nanos)).unwrap_or(self.base),
        }
    }

    /// The earliest deadline.
    #[inline]
    pub(crate) fn next_deadline(&mut self) -> Option<Instant> {
        if self.len == 0 {
            return None;
        }
        let next = self.next_nanos();
        Some(self.instant(next))
    }

    /// The earliest deadline; `u64::MAX` for none.
    #[inline]
    fn next_nanos(&mut self) -> u64 {
        match self.next {
            Some(next) => next,
            None => {
                let next = self.first().map_or(u64::MAX, |(node, _)| node.when);
                self.next = Some(next);
                next
            }
        }
    }

    /// Arms a timer.
    #[inline]
    pub(crate) fn insert(&mut self, when: Instant, payload: T) -> TimerKey {
        let (when, seq) = (self.nanos(when), self.seq);
        self.seq += 1;
        let slot = self.free;
        let new = Slot { when, seq, place: None, content: Content::Armed(payload) };
        let slot = if slot == NONE {
            let slot = u32::try_from(self.slots.len()).expect("fewer than 2^32 timers");
            self.slots.push(new);
            slot
        } else {
            let place = &mut self.slots[slot as usize];
            let Content::Free { next } = place.content else { unreachable!("the free list holds free slots") };
            self.free = next;
            *place = new;
            slot
        };
        self.len += 1;
        if let Some(next) = &mut self.next {
            *next = when.min(*next);
        }
        let node = Node { when, seq, slot };
        if !self.wheel.is_empty() && tick(when) >= self.wheel.horizon() {
            self.slots[slot as usize].place = Some(self.wheel.push(node));
        } else {
            self.near += 1;
            self.heap.push(node);
            if self.near > TIMERS_IN_HEAP {
                match self.patience.checked_sub(1) {
                    Some(left) => self.patience = left,
                    None => self.spread(),
                }
            }
        }
        TimerKey { slot, seq: seq as u32 }
    }

    /// There are too many for the heap: those that are not due soon go to the wheel, which begins anew at the first one
    /// of all. (Its horizon may be far ahead, where the loop had only far timers when it asked for the next one.)
    ///
    /// It may be none, where all are due at nearly the same moment. Therefore as many have to come as were looked at,
    /// before the next look.
    #[cold]
    fn spread(&mut self) {
        let Some((first, _)) = self.first() else { return };
        let mut nodes = self.wheel.drain();
        self.wheel.begin_at(tick(first.when) + 1);
        nodes.extend(self.heap.drain());
        nodes.append(&mut self.run);
        self.near = 0;
        for node in nodes {
            if !names(&self.slots, &node) {
                continue;
            }
            let place = if tick(node.when) < self.wheel.horizon() {
                self.near += 1;
                self.heap.push(node);
                None
            } else {
                Some(self.wheel.push(node))
            };
            self.slots[node.slot as usize].place = place;
        }
        self.patience = self.len;
        #[cfg(test)]
        {
            self.looks += self.len;
        }
    }

    fn armed(&mut self, key: TimerKey) -> Option<&mut Slot<T>> {
        self.slots.get_mut(key.slot as usize).filter(|slot| slot.seq as u32 == key.seq)
    }

    /// Disarms a timer: its payload, or `None` if it has fired or was removed before.
    #[inline]
    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<T> {
        let slot = self.armed(key)?;
        if let Content::Free { .. } = slot.content {
            return None;
        }
        let (when, place) = (slot.when, slot.place);
        let payload = self.release(key.slot);
        if self.next == Some(when) {
            self.next = None;
        }
        let slots = &self.slots;
        match place {
            Some(place) => self.wheel.forget(place, |node| names(slots, node)),
            None => {
                self.near -= 1;
                if self.heap.len() + self.run.len() > 2 * self.near + SLACK {
                    self.heap.retain(|node| names(slots, node));
                    self.run.retain(|node| names(slots, node));
                }
            }
        }
        if self.len == 0 {
            self.shrink();
        }
        payload
    }

    /// Whether the key still names an armed timer.
    pub(crate) fn get_mut(&mut self, key: TimerKey) -> Option<&mut T> {
        match &mut self.armed(key)?.content {
            Content::Armed(payload) => Some(payload),
            Content::Free { .. } => None,
        }
    }

    /// All that are armed, with their deadlines, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Instant, &T)> {
        self.slots.iter().filter_map(|slot| match &slot.content {
            Content::Armed(payload) => Some((self.instant(slot.when), payload)),
            Content::Free { .. } => None,
        })
    }

    /// Whether a timer is due at `limit`.
    #[inline]
    pub(crate) fn has_due(&mut self, limit: Instant) -> bool {
        self.len > 0 && self.next_nanos() <= self.nanos(limit).min(u64::MAX - 1)
    }

    /// Takes out the earliest timer if it is due at `limit`.
    pub(crate) fn pop_due(&mut self, limit: Instant) -> Option<T> {
        if !self.has_due(limit) {
            return None;
        }
        let (node, from_run) = self.first()?;
        if from_run {
            self.run.pop();
        } else {
            self.heap.pop();
        }
        self.near -= 1;
        self.next = None;
        let payload = self.release(node.slot);
        if self.len == 0 {
            self.shrink();
        }
        payload
    }

    /// The earliest timer, and whether it is the last of the run or the first of the heap.
    fn first(&mut self) -> Option<(Node, bool)> {
        loop {
            while self.run.last().is_some_and(|node| !names(&self.slots, node)) {
                self.run.pop();
            }
            while self.heap.peek().is_some_and(|node| !names(&self.slots, node)) {
                self.heap.pop();
            }
            match (self.run.last(), self.heap.peek()) {
                (Some(run), Some(heap)) => return Some(if run > heap { (*run, true) } else { (*heap, false) }),
                (Some(run), None) => return Some((*run, true)),
                (None, Some(heap)) => return Some((*heap, false)),
                (None, None) if self.wheel.is_empty() => return None,
                (None, None) => self.begin_run(),
            }
        }
    }

    /// Takes the next bucket of the wheel for the run.
    fn begin_run(&mut self) {
        let slots = &mut self.slots;
        let nodes = self.wheel.take_first(|node, place| {
            let named = names(slots, node);
            if named {
                slots[node.slot as usize].place = place;
            }
            named
        });
        let before = std::mem::replace(&mut self.run, nodes);
        self.wheel.recycle(before);
        self.run.retain(|node| {
            let named = names(slots, node);
            if named {
                slots[node.slot as usize].place = None;
            }
            named
        });
        self.run.sort_unstable();
        self.near += self.run.len();
    }

    /// Frees a slot: what was in it.
    #[inline]
    fn release(&mut self, slot: u32) -> Option<T> {
        let content = std::mem::replace(&mut self.slots[slot as usize].content, Content::Free { next: self.free });
        self.free = slot;
        self.len -= 1;
        match content {
            Content::Armed(payload) => Some(payload),
            Content::Free { .. } => None,
        }
    }

    /// Takes out all timers, in no order.
    pub(crate) fn clear(&mut self) -> Vec<T> {
        let slots = std::mem::take(&mut self.slots);
        *self = Self { base: self.base, seq: self.seq, ..Self::new() };
        let payloads = slots.into_iter().filter_map(|slot| match slot.content {
            Content::Armed(payload) => Some(payload),
            Content::Free { .. } => None,
        });
        payloads.collect()
    }

    /// No timer is left: gives most of a burst's memory back.
    #[cold]
    fn shrink(&mut self) {
        const KEEP: usize = 1024;
        self.patience = 0;
        self.heap.clear();
        self.run.clear();
        if self.slots.capacity() > 4 * KEEP {
            self.heap.shrink_to(KEEP);
            self.run.shrink_to(KEEP);
            self.slots.clear();
            self.slots.shrink_to(KEEP);
            self.free = NONE;
        }
    }
}

/// Whether a node names an armed timer.
#[inline]
fn names<T>(slots: &[Slot<T>], node: &Node) -> bool {
    // A run or bucket may be older than the slots.
    let slot = slots.get(node.slot as usize);
    slot.is_some_and(|slot| slot.seq == node.seq && matches!(slot.content, Content::Armed(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    /// A moment: so many nanoseconds as two to a power, and a little more.
    #[derive(Clone, Copy, Debug)]
    struct Moment {
        power: u8,
        more: u32,
    }

    fn moment() -> impl Strategy<Value = Moment> {
        (10_u8..61, any::<u32>()).prop_map(|(power, more)| Moment { power, more })
    }

    impl Moment {
        fn after(self, start: Instant) -> Instant {
            start + Duration::from_nanos((1 << self.power) + u64::from(self.more) % (1 << (self.power / 2)))
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(Moment),
        /// A hundred of them, a little apart, and some at the same moment.
        Many(Moment),
        Remove(usize),
        /// Half of the keys there ever were.
        RemoveMany(usize),
        Pop(Moment),
        PopAll(Moment),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => moment().prop_map(Step::Insert),
            3 => moment().prop_map(Step::Many),
            1 => any::<usize>().prop_map(Step::Remove),
            1 => any::<usize>().prop_map(Step::RemoveMany),
            1 => moment().prop_map(Step::Pop),
            1 => moment().prop_map(Step::PopAll),
        ]
    }

    /// The timers and a list of (when, creation), which is sorted when it is asked for the earliest.
    struct Model {
        timers: Timers<usize>,
        list: std::collections::BTreeSet<(Instant, usize)>,
        keys: Vec<(Instant, TimerKey)>,
    }

    impl Model {
        fn insert(&mut self, when: Instant) {
            let id = self.keys.len();
            self.keys.push((when, self.timers.insert(when, id)));
            self.list.insert((when, id));
        }

        fn remove(&mut self, id: usize) {
            let (when, key) = self.keys[id];
            let expected = self.list.remove(&(when, id));
            assert_eq!(self.timers.get_mut(key).is_some(), expected);
            assert_eq!(self.timers.remove(key), expected.then_some(id));
        }

        /// True if one was due.
        fn pop(&mut self, limit: Instant) -> bool {
            let expected = self.list.first().copied().filter(|&(when, _)| when <= limit);
            assert_eq!(self.timers.pop_due(limit), expected.map(|(_, id)| id));
            expected.is_some_and(|expected| self.list.remove(&expected))
        }
    }

    proptest! {
        /// Same pops, same next deadline, same answers to removals, on every level of the wheel and with the heap alone.
        #[test]
        fn agrees_with_a_sorted_list(steps in proptest::collection::vec(step(), 1..60)) {
            let start = Instant::now();
            let mut model = Model { timers: Timers::new(), list: Default::default(), keys: Vec::new() };
            for step in steps {
                match step {
                    Step::Insert(moment) => model.insert(moment.after(start)),
                    Step::Many(moment) => {
                        for n in 0..100 {
                            let apart = (1 << moment.power) / 64;
                            model.insert(moment.after(start) + Duration::from_nanos(n % 60 * apart));
                        }
                    }
                    Step::Remove(which) if !model.keys.is_empty() => model.remove(which % model.keys.len()),
                    Step::Remove(_) => {}
                    Step::RemoveMany(first) => {
                        (first % 2..model.keys.len()).step_by(2).for_each(|id| model.remove(id));
                    }
                    Step::Pop(moment) => {
                        model.pop(moment.after(start));
                    }
                    Step::PopAll(moment) => while model.pop(moment.after(start)) {},
                }
                prop_assert_eq!(model.timers.len(), model.list.len());
                prop_assert_eq!(model.timers.next_deadline(), model.list.first().map(|&(when, _)| when));
            }
            let far = start + Duration::from_nanos(1 << 62);
            while model.pop(far) {}
            prop_assert!(model.list.is_empty() && model.timers.len() == 0);
        }
    }

    /// Moments outside of what 64 bits of nanoseconds hold are past or never due.
    #[test]
    fn the_ends_of_time() {
        let now = Instant::now();
        let mut timers = Timers::new();
        let years = |n: u64| Duration::from_secs(n * 365 * 24 * 3600);
        timers.insert(now + years(1000), 'z');
        timers.insert(now, 'b');
        if let Some(past) = now.checked_sub(years(100)) {
            timers.insert(past, 'a');
            assert_eq!(timers.pop_due(now), Some('a'));
        }
        assert_eq!(timers.pop_due(now + years(2000)), Some('b'));
        assert_eq!(timers.pop_due(now + years(2000)), None);
        assert!(timers.next_deadline().is_some_and(|deadline| deadline > now + years(500)));
        assert_eq!(timers.clear(), ['z']);
    }

    /// Whatever is armed and cancelled, near or far, in whichever order: no memory is kept beyond what is in use.
    #[test]
    fn timers_that_come_and_go_leave_no_nodes() {
        let now = Instant::now();
        let mut timers = Timers::new();
        let stays: Vec<TimerKey> = (0..1000).map(|n| timers.insert(now + Duration::from_millis(10 * n), 0)).collect();
        for n in 0..100_000 {
            let far = timers.insert(now + Duration::from_secs(30), 1);
            let near = timers.insert(now + Duration::from_micros(n % 700), 2);
            assert_eq!((timers.remove(near), timers.remove(far)), (Some(2), Some(1)));
            if n % 1000 == 0 {
                timers.next_deadline();
            }
        }
        assert!(timers.slots.len() <= 1002 && timers.heap.len() + timers.run.len() <= 3 * SLACK + 2 * TIMERS_IN_HEAP);
        assert!(timers.wheel.nodes() <= 2 * 1000 + 64 * 32, "{}", timers.wheel.nodes());
        assert!(stays.iter().all(|&key| timers.remove(key) == Some(0)));
        assert_eq!((timers.heap.len(), timers.run.len(), timers.wheel.nodes()), (0, 0, 0));
    }

    /// Many timers of nearly the same moment cannot go to the wheel, and are not looked at again and again.
    #[test]
    fn a_crowd_is_not_looked_at_for_each_that_joins_it() {
        const N: usize = 100_000;
        let now = Instant::now();
        let mut timers = Timers::new();
        for n in 0..N {
            timers.insert(now, n);
        }
        assert!(timers.looks <= 2 * N, "{}", timers.looks);
        for n in 0..N {
            assert_eq!(timers.pop_due(now), Some(n));
            timers.insert(now, N + n);
        }
        assert!(timers.looks <= 4 * N, "{}", timers.looks);
        // It is over: the next ones are spread as soon as they are many.
        while timers.pop_due(now).is_some() {}
        for n in 0..2000 {
            timers.insert(now + Duration::from_millis(10 * n), 0);
        }
        assert!(timers.heap.len() <= TIMERS_IN_HEAP + 1 && !timers.wheel.is_empty());
    }

    /// Timers that come before those in the wheel, which was asked for its first one when there were no others, go to
    /// the wheel all the same.
    #[test]
    fn near_timers_behind_far_ones_are_spread() {
        let now = Instant::now();
        let mut timers = Timers::new();
        for n in 0..2000 {
            timers.insert(now + Duration::from_secs(60) + Duration::from_millis(n), 0);
        }
        assert_eq!(timers.next_deadline(), Some(now + Duration::from_secs(60)));
        for n in 0..100_000 {
            timers.insert(now + Duration::from_micros(5_000_000 + 100 * n), 1);
        }
        assert!(timers.looks <= 300_000, "{}", timers.looks);
        assert!(timers.heap.len() < 10_000, "{}", timers.heap.len());
        assert_eq!(timers.next_deadline(), Some(now + Duration::from_secs(5)));
        let mut left = 100_000;
        while timers.pop_due(now + Duration::from_secs(59)).is_some() {
            left -= 1;
        }
        assert_eq!((left, timers.len()), (0, 2000));
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
        assert!(timers.slots.capacity() < 5000 && timers.heap.capacity() < 5000 && timers.run.capacity() < 5000);
        let new: Vec<TimerKey> = (0..10_000).map(|n| timers.insert(now, n)).collect();
        assert!(old.iter().all(|&key| timers.remove(key).is_none()));
        assert_eq!(timers.len(), new.len());
    }
}

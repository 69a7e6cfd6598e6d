//! The timers that are not due soon, in buckets: near ones finely, far ones coarsely.
//!
//! Time is counted in ticks. Level 0 has 64 buckets of one tick each, level 1 64 buckets of 64 ticks, and so on. A timer
//! stands at the level of the highest digit, to the base of 64, in which its tick differs from the *horizon*: the tick
//! before which the wheel holds nothing. So whatever is at a lower level comes before whatever is at a higher one, and
//! within a level the buckets are in order. When the horizon reaches a bucket of a higher level, its timers move down.
//!
//! A bucket is a plain vector. A timer that is cancelled leaves its node there, which then names nothing; once those are
//! more than the others, the bucket is cleaned, so that arming and cancelling leaves no more memory than is in use.

use crate::constants::{TIMER_SPARE_BUCKETS, TIMER_TICK_BITS};
use crate::sched::timers::Node;

/// Binary digits of a level.
const DIGIT: u32 = 6;
const BUCKETS: usize = 1 << DIGIT;
/// Enough for all ticks.
const LEVELS: usize = (64 - TIMER_TICK_BITS).div_ceil(DIGIT) as usize;
/// Nodes that name nothing which a bucket may hold, beyond as many as name something.
const SLACK: usize = 32;

/// Where in the wheel a timer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    level: u8,
    bucket: u8,
}

/// The tick of a time in nanoseconds.
pub(super) fn tick(when: u64) -> u64 {
    when >> TIMER_TICK_BITS
}

#[derive(Default)]
struct Bucket {
    nodes: Vec<Node>,
    /// How many of them name an armed timer.
    live: usize,
}

struct Level {
    /// A bit for each bucket that has a live timer.
    occupied: u64,
    buckets: [Bucket; BUCKETS],
}

impl Level {
    #[cold]
    fn new() -> Box<Self> {
        Box::new(Self { occupied: 0, buckets: std::array::from_fn(|_| Bucket::default()) })
    }
}

pub(super) struct Wheel {
    /// Made when they are first used.
    levels: [Option<Box<Level>>; LEVELS],
    /// The tick before which the wheel holds nothing.
    horizon: u64,
    live: usize,
    /// Empty vectors, for their memory.
    spare: Vec<Vec<Node>>,
}

impl Wheel {
    pub(super) fn new() -> Self {
        Self { levels: Default::default(), horizon: 0, live: 0, spare: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// How many nodes there are, of whichever kind.
    #[cfg(test)]
    pub(super) fn nodes(&self) -> usize {
        let buckets = self.levels.iter().flatten().flat_map(|level| &level.buckets);
        buckets.map(|bucket| bucket.nodes.len()).sum()
    }

    /// The tick before which the wheel holds nothing, and takes nothing.
    pub(super) fn horizon(&self) -> u64 {
        self.horizon
    }

    /// Lets an empty wheel begin at another tick.
    pub(super) fn begin_at(&mut self, tick: u64) {
        debug_assert!(self.is_empty());
        self.horizon = tick;
    }

    /// Takes a timer that is not before the horizon.
    #[inline]
    pub(super) fn push(&mut self, node: Node) -> Place {
        let tick = tick(node.when);
        debug_assert!(tick >= self.horizon);
        let level = (tick ^ self.horizon).checked_ilog2().unwrap_or(0) / DIGIT;
        let bucket = (tick >> (level * DIGIT)) as usize % BUCKETS;
        let place = Place { level: level as u8, bucket: bucket as u8 };
        let level = self.levels[level as usize].get_or_insert_with(Level::new);
        level.occupied |= 1 << bucket;
        let bucket = &mut level.buckets[bucket];
        if bucket.nodes.capacity() == 0 {
            bucket.nodes = self.spare.pop().unwrap_or_default();
        }
        bucket.nodes.push(node);
        bucket.live += 1;
        self.live += 1;
        place
    }

    /// A timer that stands there was cancelled. `is_live` tells of a node whether it names a timer.
    #[inline]
    pub(super) fn forget(&mut self, place: Place, is_live: impl Fn(&Node) -> bool) {
        let Some(level) = &mut self.levels[usize::from(place.level)] else { return };
        let bucket = &mut level.buckets[usize::from(place.bucket)];
        bucket.live -= 1;
        self.live -= 1;
        if bucket.live == 0 {
            level.occupied &= !(1 << place.bucket);
            let nodes = std::mem::take(&mut bucket.nodes);
            self.recycle(nodes);
        } else if bucket.nodes.len() > 2 * bucket.live + SLACK {
            bucket.nodes.retain(is_live);
        }
    }

    /// Moves the horizon behind the first timers, and gives their nodes, in no order. Some may name nothing.
    ///
    /// `place` is told of each timer that moves where it is now; it says no of a node that names nothing.
    pub(super) fn take_first(&mut self, mut place: impl FnMut(&Node, Option<Place>) -> bool) -> Vec<Node> {
        while !self.is_empty() {
            let Some((level, bucket)) = self.first() else { break };
            if level == 0 {
                let nodes = self.take(0, bucket);
                self.horizon = (self.horizon & !(BUCKETS as u64 - 1)) + bucket as u64 + 1;
                self.enter(&mut place);
                return nodes;
            }
            let shift = level as u32 * DIGIT;
            let above = self.horizon >> shift & !(BUCKETS as u64 - 1);
            self.horizon = (above + bucket as u64) << shift;
            self.enter(&mut place);
        }
        Vec::new()
    }

    /// The first bucket that has a timer.
    fn first(&self) -> Option<(usize, usize)> {
        let occupied = |level: &Option<Box<Level>>| level.as_ref().map_or(0, |level| level.occupied);
        let level = self.levels.iter().position(|level| occupied(level) != 0)?;
        Some((level, occupied(&self.levels[level]).trailing_zeros() as usize))
    }

    /// The horizon was moved: what stands in a higher level's bucket that it has come to moves down.
    fn enter(&mut self, place: &mut impl FnMut(&Node, Option<Place>) -> bool) {
        for level in (1..LEVELS).rev() {
            let shift = level as u32 * DIGIT;
            let bucket = (self.horizon >> shift) as usize % BUCKETS;
            let at_start = self.horizon & ((1 << shift) - 1) == 0;
            let occupied = self.levels[level].as_ref().is_some_and(|level| level.occupied & (1 << bucket) != 0);
            if !at_start || !occupied {
                continue;
            }
            let nodes = self.take(level, bucket);
            for node in &nodes {
                if place(node, None) {
                    let new = self.push(*node);
                    place(node, Some(new));
                }
            }
            self.recycle(nodes);
        }
    }

    fn take(&mut self, level: usize, bucket: usize) -> Vec<Node> {
        let Some(level) = &mut self.levels[level] else { return Vec::new() };
        level.occupied &= !(1 << bucket);
        let bucket = std::mem::take(&mut level.buckets[bucket]);
        self.live -= bucket.live;
        bucket.nodes
    }

    /// Takes out everything. Some nodes may name nothing.
    pub(super) fn drain(&mut self) -> Vec<Node> {
        let mut nodes = Vec::new();
        for level in self.levels.iter_mut().flatten() {
            level.occupied = 0;
            for bucket in &mut level.buckets {
                bucket.live = 0;
                nodes.append(&mut bucket.nodes);
            }
        }
        self.live = 0;
        nodes
    }

    /// Keeps a vector's memory, unless it is much or there is enough.
    pub(super) fn recycle(&mut self, mut nodes: Vec<Node>) {
        if self.spare.len() < TIMER_SPARE_BUCKETS && nodes.capacity() <= BUCKETS {
            nodes.clear();
            self.spare.push(nodes);
        }
    }
}

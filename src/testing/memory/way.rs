//! One direction of a link: what is on its way. Pure: takes bytes and times, gives bytes and times.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::sched::clock::deadline;
use crate::sched::dice::Dice;
use crate::testing::memory::link::{Link, When};

/// How many bytes arrive together where they do not all arrive at once: what a packet of TCP holds.
const PACKET: usize = 1460;

/// How the sender's side has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// With an end of file.
    Eof,
    /// It was dropped with bytes that it had not read.
    Reset,
}

/// What there is to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum There {
    /// So many bytes at least.
    Bytes(usize),
    End(Ending),
    /// Nothing before this moment.
    Later(Instant),
    Nothing,
}

/// Bytes that arrive together.
struct Packet {
    /// At once, without a time.
    at: Option<Instant>,
    len: usize,
}

pub(super) struct Way {
    pub(super) link: Link,
    bytes: VecDeque<u8>,
    packets: VecDeque<Packet>,
    /// When the line has sent all that it was given.
    free_at: Option<Instant>,
    /// When the latest packet arrives.
    last_at: Option<Instant>,
    end: Option<(Ending, Option<Instant>)>,
    /// The receiver is gone; when the sender knows.
    gone: Option<Option<Instant>>,
    /// How many bytes were written, and read.
    pub(super) sent: u64,
    pub(super) received: u64,
    /// Whether the next read has to wait for a turn of its own.
    pub(super) rests: bool,
    dice: Dice,
}

impl Way {
    pub(super) fn new(link: Link, salt: u64) -> Self {
        let dice = Dice::new(link.seed.unwrap_or(0).wrapping_mul(2).wrapping_add(salt));
        Self {
            link,
            bytes: VecDeque::new(),
            packets: VecDeque::new(),
            free_at: None,
            last_at: None,
            end: None,
            gone: None,
            sent: 0,
            received: 0,
            rests: false,
            dice,
        }
    }

    /// How many bytes are on their way, or wait to be read.
    pub(super) fn in_flight(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether this call is to wait for nothing.
    pub(super) fn stutters(&mut self) -> bool {
        self.link.stutter.is_some_and(|one_in| self.dice.below(one_in.into()) == 0)
    }

    /// How many bytes there is room for.
    pub(super) fn room(&self) -> usize {
        if self.gone.is_some() { usize::MAX } else { self.link.capacity.saturating_sub(self.bytes.len()) }
    }

    /// Takes bytes, not more than there is room for, and says how many.
    pub(super) fn send(&mut self, data: &[u8], now: Option<Instant>) -> usize {
        let most = data.len().min(self.room());
        let n = limit(&mut self.dice, &self.link, self.link.max_write, most);
        self.sent += n as u64;
        if self.gone.is_some() {
            return n;
        }
        self.bytes.extend(&data[..n]);
        let Some(now) = now else {
            self.packets.push_back(Packet { at: None, len: n });
            return n;
        };
        for start in (0..n).step_by(PACKET) {
            let len = PACKET.min(n - start);
            let mut leaves = now;
            if let Some(bandwidth) = self.link.bandwidth {
                let nanos = len as u128 * 1_000_000_000 / u128::from(bandwidth);
                let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
                leaves = deadline(self.free_at.map_or(now, |free_at| free_at.max(now)), takes);
                self.free_at = Some(leaves);
            }
            let at = self.arrival(leaves);
            self.packets.push_back(Packet { at: Some(at), len });
        }
        n
    }

    /// When something arrives that leaves now: not before what has left earlier.
    fn arrival(&mut self, leaves: Instant) -> Instant {
        let at = deadline(leaves, self.link.latency.saturating_add(self.dice.up_to(self.link.jitter)));
        let at = self.last_at.map_or(at, |last_at| last_at.max(at));
        self.last_at = Some(at);
        at
    }

    /// The sender ends its side; only the first time counts, but that a reset takes the place of an end.
    pub(super) fn end(&mut self, ending: Ending, now: Option<Instant>) {
        match self.end {
            None => {
                let leaves = now.map(|now| self.free_at.map_or(now, |free_at| free_at.max(now)));
                let at = leaves.map(|leaves| self.arrival(leaves));
                self.end = Some((ending, at));
            }
            Some((Ending::Eof, at)) if ending == Ending::Reset => self.end = Some((ending, at)),
            Some(_) => {}
        }
    }

    /// The receiver is gone: what is on its way is for nobody, and the sender hears of it by `back`, the other direction.
    pub(super) fn receiver_gone(&mut self, at: Option<Instant>) {
        self.bytes.clear();
        self.packets.clear();
        self.gone = Some(at);
    }

    /// When the latest that was sent arrives.
    pub(super) fn last_at(&self) -> Option<Instant> {
        self.last_at
    }

    /// Whether the sender knows by now that the receiver is gone.
    pub(super) fn is_known_gone(&self, now: Option<Instant>) -> bool {
        self.gone.is_some_and(|at| has_come(at, now))
    }

    /// What there is to read.
    pub(super) fn there(&self, now: Option<Instant>) -> There {
        let mut arrived = 0;
        for packet in &self.packets {
            if !has_come(packet.at, now) {
                break;
            }
            arrived += packet.len;
        }
        match (self.packets.front(), self.end) {
            _ if arrived > 0 => There::Bytes(arrived),
            (Some(packet), _) => packet.at.map_or(There::Nothing, There::Later),
            (None, Some((ending, at))) if has_come(at, now) => There::End(ending),
            (None, Some((_, Some(at)))) => There::Later(at),
            (None, _) => There::Nothing,
        }
    }

    /// Gives bytes of those that have arrived, and says how many. What is left of them comes in another turn, where it was
    /// this link that left it.
    pub(super) fn receive(&mut self, arrived: usize, buffer: &mut [u8]) -> usize {
        let mut most = arrived.min(buffer.len());
        if let Some(left) = self.left_until_loss() {
            most = most.min(usize::try_from(left).unwrap_or(usize::MAX));
        }
        let next = self.link.cuts.partition_point(|&cut| cut <= self.received);
        if let Some(cut) = self.link.cuts.get(next) {
            most = most.min(usize::try_from(cut - self.received).unwrap_or(usize::MAX));
        }
        let n = limit(&mut self.dice, &self.link, self.link.max_read, most);
        let (front, behind) = self.bytes.as_slices();
        let from_front = front.len().min(n);
        buffer[..from_front].copy_from_slice(&front[..from_front]);
        buffer[from_front..n].copy_from_slice(&behind[..n - from_front]);
        self.bytes.drain(..n);
        let mut left = n;
        while let Some(packet) = self.packets.front_mut().filter(|_| left > 0) {
            let part = packet.len.min(left);
            packet.len -= part;
            left -= part;
            if packet.len == 0 {
                self.packets.pop_front();
            }
        }
        self.received += n as u64;
        self.rests = n < arrived.min(buffer.len()) || self.link.cuts.binary_search(&self.received).is_ok();
        n
    }

    /// How many bytes are received yet before the link is lost.
    pub(super) fn left_until_loss(&self) -> Option<u64> {
        match self.link.loss {
            Some((When::Received(bytes), _)) => Some(bytes.saturating_sub(self.received)),
            _ => None,
        }
    }

    /// What is on its way is lost.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.packets.clear();
    }
}

/// At most so many, and not always so many.
fn limit(dice: &mut Dice, link: &Link, most: Option<usize>, n: usize) -> usize {
    let Some(most) = most.filter(|_| n > 0) else { return n };
    if link.seed.is_none() {
        return n.min(most);
    }
    n.min(1 + dice.below(most as u64) as usize)
}

fn has_come(at: Option<Instant>, now: Option<Instant>) -> bool {
    match (at, now) {
        (Some(at), Some(now)) => at <= now,
        _ => true,
    }
}

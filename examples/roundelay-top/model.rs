//! What is known of the loop: the latest two answers, and what they say together.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer};

use crate::keys::Key;

/// How many intervals the history goes back.
const HISTORY: usize = 200;

/// An answer of the inspector.
#[derive(Deserialize)]
pub(crate) struct Snapshot {
    #[serde(deserialize_with = "harmless")]
    pub(crate) roundelay: String,
    pub(crate) pid: u32,
    #[serde(deserialize_with = "harmless")]
    pub(crate) program: String,
    #[serde(rename = "loop")]
    pub(crate) loop_id: u64,
    pub(crate) name: Option<String>,
    pub(crate) metrics: Metrics,
    pub(crate) tasks: Tasks,
}

#[derive(Deserialize)]
pub(crate) struct Metrics {
    pub(crate) turns: u64,
    pub(crate) polls: u64,
    pub(crate) callbacks: u64,
    pub(crate) events: u64,
    pub(crate) posts: u64,
    pub(crate) timers_fired: u64,
    pub(crate) spawned: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) ready: u64,
    pub(crate) longest_ready: u64,
    pub(crate) timers: u64,
    pub(crate) descriptors: u64,
    pub(crate) transports: u64,
    pub(crate) servers: u64,
    pub(crate) uptime_ns: u64,
    pub(crate) idle_ns: u64,
    pub(crate) busy_ns: u64,
    pub(crate) lag: Histogram,
    pub(crate) lateness: Histogram,
}

/// How many durations there were, by their least length in nanoseconds.
#[derive(Deserialize)]
pub(crate) struct Histogram {
    pub(crate) max_ns: u64,
    pub(crate) buckets: Vec<(u64, u64)>,
}

#[derive(Deserialize)]
pub(crate) struct Tasks {
    pub(crate) tasks: Vec<Task>,
    #[serde(default)]
    pub(crate) gatherings: Vec<Gathering>,
}

#[derive(Deserialize)]
pub(crate) struct Task {
    pub(crate) id: u64,
    #[serde(deserialize_with = "harmless")]
    pub(crate) name: String,
    #[serde(deserialize_with = "harmless")]
    pub(crate) state: String,
    #[serde(deserialize_with = "harmless")]
    pub(crate) spawned_at: String,
    #[serde(default)]
    pub(crate) age: f64,
    pub(crate) polls: u64,
    pub(crate) busy: Option<f64>,
    #[serde(default)]
    pub(crate) waits_for: Vec<Text>,
    pub(crate) awaited_by: Option<Awaited>,
    pub(crate) gathering: Option<u64>,
}

#[derive(Deserialize)]
pub(crate) struct Text {
    #[serde(deserialize_with = "harmless")]
    pub(crate) text: String,
}

#[derive(Deserialize)]
pub(crate) struct Awaited {
    pub(crate) task: u64,
}

/// A gather or a task group.
#[derive(Deserialize)]
pub(crate) struct Gathering {
    pub(crate) id: u64,
    pub(crate) task: Option<u64>,
}

/// A text without characters that terminals act on: the names of tasks are made of anything.
fn harmless<'de, D: Deserializer<'de>>(text: D) -> Result<String, D::Error> {
    let text = String::deserialize(text)?;
    Ok(text.chars().map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char }).collect())
}

impl Snapshot {
    pub(crate) fn read(answer: &str) -> io::Result<Self> {
        #[derive(Deserialize)]
        struct Refusal {
            #[serde(deserialize_with = "harmless")]
            error: String,
        }
        if let Ok(Refusal { error }) = serde_json::from_str(answer) {
            return Err(io::Error::other(error));
        }
        let wrong = |error| io::Error::new(io::ErrorKind::InvalidData, format!("an answer of another kind: {error}"));
        serde_json::from_str(answer).map_err(wrong)
    }
}

/// Numbers per second.
#[derive(Default)]
pub(crate) struct Rates {
    pub(crate) turns: f64,
    pub(crate) polls: f64,
    pub(crate) callbacks: f64,
    pub(crate) events: f64,
    pub(crate) posts: f64,
    pub(crate) timers: f64,
    pub(crate) spawned: f64,
    pub(crate) bytes_in: f64,
    pub(crate) bytes_out: f64,
    /// From 0 to 1.
    pub(crate) busy: f64,
    /// 50 %, 99 % and the longest, in seconds, of the interval.
    pub(crate) lag: [f64; 3],
    pub(crate) late: [f64; 3],
}

/// What is not known of an interval: its longest duration is no longer than this, nor is the longest of all.
impl Histogram {
    fn since(&self, earlier: &Self) -> [f64; 3] {
        let before: HashMap<u64, u64> = earlier.buckets.iter().copied().collect();
        let counts: Vec<(u64, u64)> = self
            .buckets
            .iter()
            .map(|(least, count)| (*least, count.saturating_sub(before.get(least).copied().unwrap_or(0))))
            .filter(|(_, count)| *count > 0)
            .collect();
        let all: u64 = counts.iter().map(|(_, count)| count).sum();
        let upper = |least: u64| (2 * least.max(1)).min(self.max_ns) as f64 / 1e9;
        let percentile = |share: f64| {
            let rank = (share * all as f64).ceil() as u64;
            let mut below = 0;
            let bucket = counts.iter().find(|(_, count)| {
                below += count;
                below >= rank
            });
            bucket.map_or(0.0, |(least, _)| upper(*least))
        };
        let longest = match counts.last() {
            None => 0.0,
            Some(_) if self.max_ns > earlier.max_ns => self.max_ns as f64 / 1e9,
            Some((least, _)) => upper(*least),
        };
        [percentile(0.5), percentile(0.99), longest]
    }
}

impl Rates {
    fn of(now: &Metrics, before: &Metrics) -> Self {
        let seconds = now.uptime_ns.saturating_sub(before.uptime_ns) as f64 / 1e9;
        let rate =
            |now: u64, before: u64| if seconds > 0.0 { now.saturating_sub(before) as f64 / seconds } else { 0.0 };
        let (busy, idle) = (now.busy_ns.saturating_sub(before.busy_ns), now.idle_ns.saturating_sub(before.idle_ns));
        Self {
            turns: rate(now.turns, before.turns),
            polls: rate(now.polls, before.polls),
            callbacks: rate(now.callbacks, before.callbacks),
            events: rate(now.events, before.events),
            posts: rate(now.posts, before.posts),
            timers: rate(now.timers_fired, before.timers_fired),
            spawned: rate(now.spawned, before.spawned),
            bytes_in: rate(now.bytes_in, before.bytes_in),
            bytes_out: rate(now.bytes_out, before.bytes_out),
            busy: if busy + idle > 0 { busy as f64 / (busy + idle) as f64 } else { 0.0 },
            lag: now.lag.since(&before.lag),
            late: now.lateness.since(&before.lateness),
        }
    }
}

/// A line of the table.
#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) age: f64,
    /// Per second, of the interval; `None` for a task that is new.
    pub(crate) polls: Option<f64>,
    /// From 0 to 1, of the interval.
    pub(crate) busy: Option<f64>,
    pub(crate) waits_for: String,
    pub(crate) spawned_at: String,
    /// How many stand above it in the tree.
    pub(crate) depth: usize,
    parent: Option<u64>,
}

/// What rows are sorted by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Busy,
    Polls,
    Age,
    Id,
    Name,
}

pub(crate) struct Model {
    pub(crate) interval: Duration,
    pub(crate) latest: Option<Snapshot>,
    pub(crate) rates: Rates,
    /// The share of the time in which the loop was busy, in thousandths, the oldest first.
    pub(crate) history: VecDeque<u64>,
    pub(crate) order: Order,
    pub(crate) reversed: bool,
    pub(crate) tree: bool,
    pub(crate) paused: bool,
    /// Which row is marked.
    pub(crate) selected: usize,
    /// Since when there was no answer, and what has gone wrong if something has.
    pub(crate) answered_at: Instant,
    pub(crate) trouble: Option<String>,
    rows: Vec<Row>,
}

impl Model {
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            interval,
            latest: None,
            rates: Rates::default(),
            history: VecDeque::new(),
            order: Order::Busy,
            reversed: false,
            tree: false,
            paused: false,
            selected: 0,
            answered_at: Instant::now(),
            trouble: None,
            rows: Vec::new(),
        }
    }

    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// For how long there was no answer, if that is longer than it should be.
    pub(crate) fn silence(&self) -> Option<Duration> {
        let silence = self.answered_at.elapsed();
        (silence > self.interval + Duration::from_millis(750)).then_some(silence)
    }

    /// An answer has come.
    pub(crate) fn update(&mut self, snapshot: Snapshot) {
        self.answered_at = Instant::now();
        self.trouble = None;
        if self.paused {
            return;
        }
        // Of another process, after a new start, there is nothing to compare with.
        let same = |before: &Snapshot| (before.pid, before.loop_id) == (snapshot.pid, snapshot.loop_id);
        let before = self.latest.take().filter(same);
        self.rows = rows(&snapshot, before.as_ref());
        match before {
            Some(before) => {
                self.rates = Rates::of(&snapshot.metrics, &before.metrics);
                self.history.push_back((self.rates.busy * 1000.0) as u64);
                while self.history.len() > HISTORY {
                    self.history.pop_front();
                }
            }
            None => {
                self.rates = Rates::default();
                self.history.clear();
            }
        }
        self.latest = Some(snapshot);
        self.sort();
    }

    pub(crate) fn lost(&mut self, error: &io::Error) {
        self.trouble = Some(error.to_string());
    }

    /// A key was pressed. True if it was the last one.
    pub(crate) fn press(&mut self, key: Key, page: usize) -> bool {
        let last = self.rows.len().saturating_sub(1);
        match key {
            Key::Char('q') => return true,
            Key::Up | Key::Char('k') => self.selected = self.selected.saturating_sub(1),
            Key::Down | Key::Char('j') => self.selected += 1,
            Key::PageUp => self.selected = self.selected.saturating_sub(page),
            Key::PageDown => self.selected += page,
            Key::Home | Key::Char('g') => self.selected = 0,
            Key::End | Key::Char('G') => self.selected = last,
            Key::Char('b') => self.order = Order::Busy,
            Key::Char('p') => self.order = Order::Polls,
            Key::Char('a') => self.order = Order::Age,
            Key::Char('i') => self.order = Order::Id,
            Key::Char('n') => self.order = Order::Name,
            Key::Char('r') => self.reversed = !self.reversed,
            Key::Char('t') => self.tree = !self.tree,
            Key::Char(' ') => self.paused = !self.paused,
            Key::Char('+') => self.interval = (self.interval * 2).min(Duration::from_secs(60)),
            Key::Char('-') => self.interval = (self.interval / 2).max(Duration::from_millis(125)),
            Key::Char(_) => {}
        }
        self.selected = self.selected.min(last);
        self.sort();
        false
    }

    fn sort(&mut self) {
        let (order, reversed) = (self.order, self.reversed);
        self.rows.sort_by(|a, b| {
            // What there is most of comes first, and names and numbers as one reads them.
            let by = match order {
                Order::Busy => b.busy.unwrap_or(0.0).total_cmp(&a.busy.unwrap_or(0.0)),
                Order::Polls => b.polls.unwrap_or(0.0).total_cmp(&a.polls.unwrap_or(0.0)),
                Order::Age => b.age.total_cmp(&a.age),
                Order::Id => a.id.cmp(&b.id),
                Order::Name => a.name.cmp(&b.name),
            };
            let by = if reversed { by.reverse() } else { by };
            by.then(a.id.cmp(&b.id))
        });
        if self.tree {
            self.rows = planted(std::mem::take(&mut self.rows));
        } else {
            self.rows.iter_mut().for_each(|row| row.depth = 0);
        }
        self.selected = self.selected.min(self.rows.len().saturating_sub(1));
    }
}

fn rows(now: &Snapshot, before: Option<&Snapshot>) -> Vec<Row> {
    let seconds =
        before.map_or(0, |before| now.metrics.uptime_ns.saturating_sub(before.metrics.uptime_ns)) as f64 / 1e9;
    let known: HashMap<u64, &Task> =
        before.map(|before| before.tasks.tasks.iter().map(|task| (task.id, task)).collect()).unwrap_or_default();
    let owners: HashMap<u64, u64> =
        now.tasks.gatherings.iter().filter_map(|gathering| Some((gathering.id, gathering.task?))).collect();
    let row = |task: &Task| {
        let known = known.get(&task.id).filter(|_| seconds > 0.0);
        let polls = known.map(|known| task.polls.saturating_sub(known.polls) as f64 / seconds);
        let busy = known.and_then(|known| Some((task.busy? - known.busy.unwrap_or(0.0)).max(0.0) / seconds));
        let waits: Vec<&str> = task.waits_for.iter().map(|wait| wait.text.as_str()).collect();
        let owner = task.gathering.and_then(|gathering| owners.get(&gathering).copied());
        Row {
            id: task.id,
            name: task.name.clone(),
            state: task.state.clone(),
            age: task.age,
            polls,
            busy,
            waits_for: waits.join(", "),
            spawned_at: task.spawned_at.clone(),
            depth: 0,
            parent: owner.or(task.awaited_by.as_ref().map(|by| by.task)),
        }
    };
    now.tasks.tasks.iter().map(row).collect()
}

/// The rows as a tree: each below the one that awaits it, and in their order among those of the same.
fn planted(rows: Vec<Row>) -> Vec<Row> {
    let ids: HashSet<u64> = rows.iter().map(|row| row.id).collect();
    let mut children: HashMap<Option<u64>, Vec<Row>> = HashMap::new();
    for row in rows {
        children.entry(row.parent.filter(|parent| ids.contains(parent))).or_default().push(row);
    }
    let mut tree = Vec::new();
    let mut next: Vec<(Row, usize)> = Vec::new();
    loop {
        let Some((mut row, depth)) = next.pop() else {
            // The top, and then whatever awaits itself.
            let top = children.remove(&None).or_else(|| {
                let key = *children.keys().min()?;
                children.remove(&key)
            });
            match top {
                Some(rows) => next.extend(rows.into_iter().rev().map(|row| (row, 0))),
                None => return tree,
            }
            continue;
        };
        row.depth = depth;
        if let Some(below) = children.remove(&Some(row.id)) {
            next.extend(below.into_iter().rev().map(|row| (row, depth + 1)));
        }
        tree.push(row);
    }
}

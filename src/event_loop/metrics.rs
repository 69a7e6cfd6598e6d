//! What a loop has done and how it fares: always counted, and cheap enough for that.

use std::fmt;
use std::time::{Duration, Instant};

use crate::event_loop::json::Json;
use crate::event_loop::remote::Remote;
use crate::event_loop::{Core, EventLoop};
use crate::sched::counters::{Counters, Magnitudes, saturating_nanos};

/// How many durations there were of each order of magnitude.
///
/// It has 64 buckets. The n-th one, counted from zero, has what took 2^n nanoseconds or more, and less than twice that;
/// the first one also has what took no time at all. So a [`percentile`](Self::percentile) is too large by less than a
/// factor of two, and never too small. The longest duration is known exactly.
///
/// ```
/// use std::time::Duration;
///
/// let el = roundelay::EventLoop::new()?;
/// el.run_until_complete(roundelay::sleep(Duration::from_millis(2))).unwrap();
/// let lag = el.metrics().lag;
/// assert!(lag.count() > 0);
/// assert!(lag.percentile(50.0) <= lag.percentile(99.0));
/// assert!(lag.percentile(99.0) <= lag.max());
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; 64],
    /// In nanoseconds.
    longest: u64,
}

impl Histogram {
    fn of(magnitudes: &Magnitudes) -> Self {
        Self { counts: magnitudes.counts(), longest: magnitudes.longest() }
    }

    /// How many durations there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The longest one; zero if there was none. Of a [difference](Metrics::since) it is the longest one of the later
    /// metrics if that is new, and else an upper bound, as a percentile is.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.longest)
    }

    /// What `percent` of all durations, from 0 to 100, do not exceed: the upper end of their bucket, or [`max`](Self::max)
    /// if that is less. Zero if there was none.
    pub fn percentile(&self, percent: f64) -> Duration {
        let count = self.count();
        let rank = (percent.clamp(0.0, 100.0) / 100.0 * count as f64).ceil() as u64;
        let mut below = 0;
        let place = self.counts.iter().position(|count| {
            below += count;
            below > 0 && below >= rank
        });
        place.map_or(Duration::ZERO, |place| Duration::from_nanos(upper_end(place).min(self.longest)))
    }

    /// The buckets that are not empty, the shortest durations first: the least and the longest duration that belong into
    /// the bucket, and how many there were.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, Duration, u64)> + '_ {
        let filled = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        filled.map(|(place, count)| {
            (Duration::from_nanos(lower_end(place)), Duration::from_nanos(upper_end(place)), *count)
        })
    }

    fn since(&self, earlier: &Self) -> Self {
        let counts = std::array::from_fn(|place| self.counts[place].saturating_sub(earlier.counts[place]));
        let last = counts.iter().rposition(|count| *count > 0);
        let longest = match last {
            None => 0,
            Some(_) if self.longest > earlier.longest => self.longest,
            Some(last) => upper_end(last).min(self.longest),
        };
        Self { counts, longest }
    }

    fn write(&self, json: &mut Json) {
        json.object(|json| {
            json.field("count", self.count());
            for (key, percent) in [("p50_ns", 50.0), ("p90_ns", 90.0), ("p99_ns", 99.0)] {
                json.field(key, saturating_nanos(self.percentile(percent)));
            }
            json.field("max_ns", self.longest);
            json.key("buckets");
            json.array(|json| {
                for (place, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                    json.array(|json| {
                        json.value(lower_end(place));
                        json.value(*count);
                    });
                }
            });
        });
    }
}

/// The least number of nanoseconds of a bucket.
fn lower_end(place: usize) -> u64 {
    if place == 0 { 0 } else { 1 << place }
}

/// The largest number of nanoseconds of a bucket.
fn upper_end(place: usize) -> u64 {
    u64::MAX >> (63 - place)
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count())
            .field("p50", &self.percentile(50.0))
            .field("p99", &self.percentile(99.0))
            .field("max", &self.max())
            .finish()
    }
}

/// What a loop has done since it was made, and what it has now: see [`EventLoop::metrics`] and [`Remote::metrics`].
///
/// Numbers of what was *done* only grow, and [`since`](Self::since) tells what was done in between. The others say what
/// there is just now; where they are read on another thread, some of them are a little older, as their fields say.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Turns of the loop.
    pub turns: u64,
    /// Times the selector was asked, whether or not the loop slept in it.
    pub waits: u64,
    /// Polls of tasks and of the future of `run_until_complete`.
    pub polls: u64,
    /// Callbacks that have run: those of `call_soon`, of timers and of other threads, done callbacks, readers and writers of
    /// [`add_reader`](EventLoop::add_reader) and signal handlers. The calls of a protocol are not among them.
    pub callbacks: u64,
    /// Timers that were due: callbacks, sleeping tasks, timeouts.
    pub timers_fired: u64,
    /// Events that the selector has told of.
    pub events: u64,
    /// What other threads have given to the loop: callbacks, tasks, and wake-ups of tasks.
    pub posts: u64,
    /// Tasks that were spawned.
    pub spawned: u64,
    /// Bytes received from the network and from pipes: by transports, plain streams and sockets, and `sock_*`. What is read
    /// within [`AsyncFd`](crate::AsyncFd), or by readers of one's own, the loop does not see. Of TLS, bytes on the wire.
    pub bytes_in: u64,
    /// Bytes sent, likewise, and by `sendfile`.
    pub bytes_out: u64,

    /// How many items are ready to run. On another thread, how many the latest turn has found.
    pub ready: u64,
    /// The most items that a turn has found.
    pub longest_ready: u64,
    /// Tasks that are live.
    pub tasks: u64,
    /// Callbacks of `call_soon` whose turn has not come.
    pub handles: u64,
    /// Timers that are armed, of every kind: callbacks, sleeping tasks, timeouts. On another thread, those that there were
    /// when the selector was asked last.
    pub timers: u64,
    /// Futures of `create_future`.
    pub futures: u64,
    /// Descriptors registered with the selector. On another thread, those that it was asked about last.
    pub descriptors: u64,
    /// Transports.
    pub transports: u64,
    /// Servers.
    pub servers: u64,

    /// How long an event, or what another thread has posted, could have waited: from each return of the selector to the
    /// next time that it was asked, without the sleep. What runs for long without a pause shows here.
    ///
    /// A loop that watches no descriptor need not ask the selector. After more turns than its
    /// [`event_interval`](crate::Builder::event_interval) it is the mean duration of these turns that counts, once.
    pub lag: Histogram,
    /// How late timers were: in each turn in which some were due, the latest of them.
    pub lateness: Histogram,

    /// The time since the loop was made; until its end if it was closed.
    pub uptime: Duration,
    /// The time asleep in the selector, or [spinning](crate::Builder::spin) in wait of something.
    pub idle: Duration,
    /// The time in which it was run and not idle.
    ///
    /// `uptime` is the sum of both and of the time in which it was not run. That is before the first run, between runs, and,
    /// where a foreign loop was told how to wait for it ([`as_fd`](std::os::fd::AsFd), [`set_wake_hook`](
    /// EventLoop::set_wake_hook)), between calls of `run_once`. Without such a host the time between two calls of `run_once`
    /// is busy: the program does something else then. A run after the first one begins when it first asks the selector.
    pub busy: Duration,
    /// For how long now the loop has not looked at the selector; zero while it sleeps and while it is not run. More than a
    /// moment means that something blocks the loop.
    pub blocked: Duration,
}

impl Metrics {
    /// `now` is in nanoseconds since the loop was made; `None` where its clock cannot be read.
    fn of(counters: &Counters, now: impl FnOnce() -> Option<u64>) -> Self {
        // First of all: what is counted later makes no time pass.
        let (asleep, away) = (counters.asleep.is_running(), counters.away.is_running());
        let looked_at = counters.looked_at.get();
        let now = match counters.ended_at.get() {
            0 => now().unwrap_or(looked_at).max(looked_at),
            ended_at => ended_at,
        };
        let (idle, not_run) = (counters.asleep.read(now), counters.away.read(now));
        let is_blocked = !asleep && !away && counters.ended_at.get() == 0;
        Self {
            turns: counters.turns.get(),
            waits: counters.waits.get(),
            polls: counters.polls.get(),
            callbacks: counters.callbacks.get(),
            timers_fired: counters.timers_fired.get(),
            events: counters.events.get(),
            posts: counters.posts.get(),
            spawned: counters.tasks.get().0,
            bytes_in: counters.bytes_in.get(),
            bytes_out: counters.bytes_out.get(),
            ready: counters.ready.get(),
            longest_ready: counters.longest_ready.get(),
            tasks: counters.tasks.live(),
            handles: counters.handles.live(),
            timers: counters.armed.get(),
            futures: counters.futures.live(),
            descriptors: counters.descriptors.get(),
            transports: counters.transports.live(),
            servers: counters.servers.live(),
            lag: Histogram::of(&counters.lag),
            lateness: Histogram::of(&counters.lateness),
            uptime: Duration::from_nanos(now),
            idle: Duration::from_nanos(idle),
            busy: Duration::from_nanos(now.saturating_sub(idle).saturating_sub(not_run)),
            blocked: Duration::from_nanos(if is_blocked { now - looked_at } else { 0 }),
        }
    }

    /// What was done since `earlier`, and what there is now.
    ///
    /// Counts and times are differences; what says how much there is, and `longest_ready`, is as it is here.
    ///
    /// ```
    /// let el = roundelay::EventLoop::new()?;
    /// let before = el.metrics();
    /// el.call_soon(|| ());
    /// el.run_once(None)?;
    /// let done = el.metrics().since(&before);
    /// assert_eq!((done.turns, done.callbacks), (1, 1));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            turns: self.turns.saturating_sub(earlier.turns),
            waits: self.waits.saturating_sub(earlier.waits),
            polls: self.polls.saturating_sub(earlier.polls),
            callbacks: self.callbacks.saturating_sub(earlier.callbacks),
            timers_fired: self.timers_fired.saturating_sub(earlier.timers_fired),
            events: self.events.saturating_sub(earlier.events),
            posts: self.posts.saturating_sub(earlier.posts),
            spawned: self.spawned.saturating_sub(earlier.spawned),
            bytes_in: self.bytes_in.saturating_sub(earlier.bytes_in),
            bytes_out: self.bytes_out.saturating_sub(earlier.bytes_out),
            lag: self.lag.since(&earlier.lag),
            lateness: self.lateness.since(&earlier.lateness),
            uptime: self.uptime.saturating_sub(earlier.uptime),
            idle: self.idle.saturating_sub(earlier.idle),
            busy: self.busy.saturating_sub(earlier.busy),
            ..self.clone()
        }
    }

    /// The share of the time in which it was run that the loop was busy: from 0 to 1, and 0 if it was not run.
    pub fn busy_share(&self) -> f64 {
        let run = self.busy + self.idle;
        if run.is_zero() { 0.0 } else { self.busy.as_secs_f64() / run.as_secs_f64() }
    }

    /// A JSON object with a key for each field. Times are whole numbers of nanoseconds, and their keys end in `_ns`. The
    /// histograms have `count`, `p50_ns`, `p90_ns`, `p99_ns`, `max_ns` and `buckets`: pairs of the least duration of a bucket,
    /// in nanoseconds, and how many there were.
    ///
    /// ```
    /// let el = roundelay::EventLoop::new()?;
    /// let json = el.metrics().to_json();
    /// assert!(json.starts_with(r#"{"turns":0,"waits":0,"#));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn to_json(&self) -> String {
        let mut json = Json::new();
        self.write(&mut json);
        json.into_string()
    }

    pub(crate) fn write(&self, json: &mut Json) {
        let numbers = [
            ("turns", self.turns),
            ("waits", self.waits),
            ("polls", self.polls),
            ("callbacks", self.callbacks),
            ("timers_fired", self.timers_fired),
            ("events", self.events),
            ("posts", self.posts),
            ("spawned", self.spawned),
            ("bytes_in", self.bytes_in),
            ("bytes_out", self.bytes_out),
            ("ready", self.ready),
            ("longest_ready", self.longest_ready),
            ("tasks", self.tasks),
            ("handles", self.handles),
            ("timers", self.timers),
            ("futures", self.futures),
            ("descriptors", self.descriptors),
            ("transports", self.transports),
            ("servers", self.servers),
            ("uptime_ns", saturating_nanos(self.uptime)),
            ("idle_ns", saturating_nanos(self.idle)),
            ("busy_ns", saturating_nanos(self.busy)),
            ("blocked_ns", saturating_nanos(self.blocked)),
        ];
        json.object(|json| {
            for (key, number) in numbers {
                json.field(key, number);
            }
            json.key("lag");
            self.lag.write(json);
            json.key("lateness");
            self.lateness.write(json);
        });
    }
}

impl Core {
    pub(crate) fn metrics(&self) -> Metrics {
        let counters = &*self.local.counters;
        let mut metrics = Metrics::of(counters, || Some(self.nanos()));
        metrics.ready = (self.local.ready.len() as u64).saturating_add(self.local.waiting_posts());
        metrics.timers = self.local.timers.borrow().len() as u64;
        metrics.descriptors = self.reactor.borrow().live();
        metrics
    }
}

impl EventLoop {
    /// What the loop has done since it was made, and how it fares. At any time, also after `close`.
    ///
    /// It is always counted: that costs some instructions an item, and one reading of the clock each time the loop is about
    /// to sleep. Times are those of the loop's clock. In a child of `fork` the numbers go on from those of the parent.
    ///
    /// ```
    /// let el = roundelay::EventLoop::new()?;
    /// el.run_until_complete(async {
    ///     roundelay::spawn(async {}).await.unwrap();
    /// }).unwrap();
    /// let metrics = el.metrics();
    /// assert_eq!((metrics.spawned, metrics.tasks), (1, 0));
    /// assert!(metrics.busy <= metrics.uptime);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn metrics(&self) -> Metrics {
        self.core.metrics()
    }
}

impl Remote {
    /// As [`EventLoop::metrics`], without asking the loop: also while something blocks it, and after its end.
    ///
    /// Each number is as it was a moment ago, and two numbers may not be of the same moment. Where the loop has a clock of
    /// its own, which other threads cannot read, times end where the loop has looked at it last.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let el = roundelay::EventLoop::new()?;
    /// let remote = el.remote();
    /// let watch = std::thread::spawn(move || {
    ///     let metrics = remote.metrics();
    ///     if metrics.blocked > Duration::from_secs(1) {
    ///         eprintln!("the loop does not turn");
    ///     }
    ///     remote.stop()
    /// });
    /// el.run_forever();
    /// watch.join().unwrap().unwrap();
    /// # std::io::Result::Ok(())
    /// ```
    pub fn metrics(&self) -> Metrics {
        let counters = self.counters();
        Metrics::of(counters, || counters.is_monotonic.then(|| counters.nanos(Instant::now())))
    }
}

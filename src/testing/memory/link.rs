//! What lies between two ends in memory.

use std::io;
use std::time::Duration;

/// How much may be on its way in one direction unless it is set: what a unix socket of Linux holds, about.
const CAPACITY: usize = 64 * 1024;

/// When something happens to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// When so many bytes were received in one direction.
    Received(u64),
    /// When so much time has passed.
    Elapsed(Duration),
}

/// How a link comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// Both ends get an error.
    Broken(io::ErrorKind),
    /// Nothing arrives any more, and nobody is told.
    Silent,
}

/// What lies between the two ends of a [`stream_pair`](crate::testing::stream_pair) or a
/// [`memory_pair`](crate::testing::memory_pair): how long bytes take, how many of them fit, how they are cut up, and how it all
/// ends. What is set holds for both directions, unless [`back`](Self::back) gives the second one qualities of its own.
///
/// The time is that of the loop's clock, so that with a virtual one a slow link costs no time. What looks random comes from
/// [`seed`](Self::seed), and is the same in each run.
///
/// ```
/// use roundelay::testing::Link;
/// use std::io::ErrorKind;
/// use std::time::Duration;
///
/// let satellite = Link::new().latency(Duration::from_millis(300)).bandwidth(16 * 1024);
/// let crumbling = Link::new().max_read(3).max_write(7).seed(42).lose_after_bytes(1000, ErrorKind::ConnectionReset);
/// # let _ = (satellite, crumbling);
/// ```
#[derive(Clone, Debug)]
pub struct Link {
    pub(super) latency: Duration,
    pub(super) jitter: Duration,
    /// Bytes a second.
    pub(super) bandwidth: Option<u64>,
    pub(super) capacity: usize,
    pub(super) max_read: Option<usize>,
    pub(super) max_write: Option<usize>,
    /// Where, in bytes from the beginning, a read ends; sorted.
    pub(super) cuts: Vec<u64>,
    /// One call in so many is not ready.
    pub(super) stutter: Option<u32>,
    pub(super) seed: Option<u64>,
    pub(super) loss: Option<(When, Loss)>,
    /// The second direction, if it is another one.
    pub(super) back: Option<Box<Link>>,
}

impl Link {
    /// A perfect link: what is written can be read at once, and 64 KiB fit in each direction.
    pub fn new() -> Self {
        Self {
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            bandwidth: None,
            capacity: CAPACITY,
            max_read: None,
            max_write: None,
            cuts: Vec::new(),
            stutter: None,
            seed: None,
            loss: None,
            back: None,
        }
    }

    /// How long bytes, and an end of file, are on their way.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Up to so much is added to the latency, by the seed. The order of bytes stays.
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// How many bytes a second go in one direction. They arrive in packets of 1460 bytes at most.
    ///
    /// # Panics
    ///
    /// If it is zero: for a link on which nothing arrives there is [`silence_after_bytes`](Self::silence_after_bytes).
    #[track_caller]
    pub fn bandwidth(mut self, bytes_per_second: u64) -> Self {
        assert!(bytes_per_second > 0, "Link::bandwidth(): nothing would ever arrive at zero bytes a second");
        self.bandwidth = Some(bytes_per_second);
        self
    }

    /// How many bytes may be on their way, or wait to be read, in one direction: 64 KiB unless it is set. More are not taken:
    /// a transport queues them, and pauses its protocol.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn capacity(mut self, bytes: usize) -> Self {
        assert!(bytes > 0, "Link::capacity(): nothing could ever be written with room for zero bytes");
        self.capacity = bytes;
        self
    }

    /// How many bytes a read gives at most; with a [`seed`](Self::seed) it is between one and this. What follows comes in a
    /// turn of its own, so that a protocol gets each piece in a call of its own, and a task can look at each.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn max_read(mut self, bytes: usize) -> Self {
        assert!(bytes > 0, "Link::max_read(): a read of zero bytes would be an end of file");
        self.max_read = Some(bytes);
        self
    }

    /// How many bytes a write takes at most: the rest has to be written anew, as where a socket's buffer is nearly full. With
    /// a [`seed`](Self::seed) it is between one and this.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn max_write(mut self, bytes: usize) -> Self {
        assert!(bytes > 0, "Link::max_write(): a write of zero bytes means that the stream is full for ever");
        self.max_write = Some(bytes);
        self
    }

    /// Cuts what is received behind the first so many bytes, for each of these numbers: what is behind a cut comes in a turn
    /// of its own. To try a parser with each boundary.
    pub fn cut_at(mut self, places: impl IntoIterator<Item = u64>) -> Self {
        self.cuts.extend(places);
        self.cuts.sort_unstable();
        self
    }

    /// One read or write in so many, by the seed, is not ready although it could be, and is so in the next turn: what a
    /// correct user of a stream does not mind.
    ///
    /// # Panics
    ///
    /// For less than two: nothing would ever be ready.
    #[track_caller]
    pub fn stutter(mut self, one_in: u32) -> Self {
        assert!(one_in >= 2, "Link::stutter(): nothing would ever be ready with one in {one_in}");
        self.stutter = Some(one_in);
        self
    }

    /// Where that which looks random comes from. The same seed gives the same run.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The connection breaks when so many bytes were received in one direction: what is behind them is lost, and both ends
    /// get an error of this kind, at once. The last call about a loss counts.
    pub fn lose_after_bytes(mut self, bytes: u64, error: io::ErrorKind) -> Self {
        self.loss = Some((When::Received(bytes), Loss::Broken(error)));
        self
    }

    /// The connection breaks after this time; what is on its way is lost, and both ends get an error of this kind.
    pub fn lose_after(mut self, time: Duration, error: io::ErrorKind) -> Self {
        self.loss = Some((When::Elapsed(time), Loss::Broken(error)));
        self
    }

    /// A cable is cut when so many bytes were received in one direction: in neither of them anything arrives any more, not
    /// even an end of file, and nobody is told. What a timeout is for.
    pub fn silence_after_bytes(mut self, bytes: u64) -> Self {
        self.loss = Some((When::Received(bytes), Loss::Silent));
        self
    }

    /// As [`silence_after_bytes`](Self::silence_after_bytes), after this time.
    pub fn silence_after(mut self, time: Duration) -> Self {
        self.loss = Some((When::Elapsed(time), Loss::Silent));
        self
    }

    /// Gives the direction from the second end to the first one qualities of its own: all those of `back`.
    pub fn back(mut self, back: Link) -> Self {
        self.back = Some(Box::new(back));
        self
    }

    /// Whether it is about time at all.
    pub(super) fn is_timed(&self) -> bool {
        self.latency > Duration::ZERO || self.jitter > Duration::ZERO || self.bandwidth.is_some()
    }
}

impl Default for Link {
    fn default() -> Self {
        Self::new()
    }
}

//! Where one item is checked: a loop of its own, two transports, and what is asked of them.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::event_loop::EventLoop;
use crate::protocol::{AnyProtocol, Transport};
use crate::testing::check::probe::{Callback, Probe, Watch};

/// What came of asking: a text says what was seen in place of what the contract says.
pub(super) type Checked<T = ()> = Result<T, String>;

/// Fails an item unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+));
        }
    };
}
pub(super) use ensure;

/// How many turns without anything to do mean that nothing more is to come.
const QUIET_TURNS: usize = 20;
/// The most turns that are made until then.
const MOST_TURNS: usize = 20_000;
/// What stays queued at least where the carrier is full.
const LEAST_QUEUED: usize = 16 * 1024;
/// How long a carrier takes nothing before it counts as full, where it is waited for: longer than TCP puts an
/// acknowledgement off, which is 40 ms to 200 ms (Linux: `TCP_DELACK_MIN` and `TCP_DELACK_MAX` of include/net/tcp.h).
const STANDS_STILL: Duration = Duration::from_millis(250);
/// The most bytes that are written to find out whether a carrier is ever full.
const MOST_FILLING: usize = 64 * 1024 * 1024;

/// What the transports can do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Support {
    pub(super) half_close: bool,
    pub(super) both_ways: bool,
    pub(super) unread: bool,
    pub(super) flow_control: bool,
    /// Whether writing is paused at the high mark already.
    pub(super) pauses_at_high: bool,
}

/// Connects two transports.
pub(super) trait Connect {
    fn connect(&self, el: &EventLoop, near: Probe, far: Probe) -> io::Result<(Transport, Transport)>;
}

/// One end of a connection. The methods are those of the transport, watched.
#[derive(Clone)]
pub(super) struct End {
    pub(super) transport: Transport,
    pub(super) probe: Probe,
}

impl End {
    /// Calls a method: no callback may come meanwhile.
    pub(super) fn call<R>(&self, method: &'static str, f: impl FnOnce(&Transport) -> R) -> R {
        let calling = &self.probe.watch().calling;
        let before = calling.replace(Some(method));
        let result = f(&self.transport);
        calling.set(before);
        result
    }

    pub(super) fn write(&self, data: &[u8]) {
        self.call("write()", |transport| transport.write(data));
    }

    pub(super) fn writelines(&self, data: &[&[u8]]) {
        let pieces: Vec<_> = data.iter().map(|piece| IoSlice::new(piece)).collect();
        self.call("writelines()", |transport| transport.writelines(&pieces));
    }

    pub(super) fn write_owned(&self, data: Vec<u8>) {
        self.call("write_owned()", |transport| transport.write_owned(data));
    }

    pub(super) fn write_eof(&self) {
        self.call("write_eof()", Transport::write_eof);
    }

    pub(super) fn close(&self) {
        self.call("close()", Transport::close);
    }

    pub(super) fn abort(&self) {
        self.call("abort()", Transport::abort);
    }

    pub(super) fn pause_reading(&self) {
        self.call("pause_reading()", Transport::pause_reading);
    }

    pub(super) fn resume_reading(&self) {
        self.call("resume_reading()", Transport::resume_reading);
    }

    pub(super) fn unread(&self, data: &[u8]) {
        self.call("unread()", |transport| transport.unread(data));
    }

    pub(super) fn set_protocol(&self, protocol: impl Into<AnyProtocol>) {
        self.call("set_protocol()", |transport| transport.set_protocol(protocol));
    }

    pub(super) fn limits(&self, high: Option<usize>, low: Option<usize>) -> io::Result<()> {
        self.call("set_write_buffer_limits()", |transport| transport.set_write_buffer_limits(high, low))
    }

    pub(super) fn cap(&self, cap: usize) {
        self.call("set_write_buffer_cap()", |transport| transport.set_write_buffer_cap(cap));
    }

    pub(super) fn queued(&self) -> usize {
        self.transport.write_buffer_size()
    }

    /// Polls once.
    pub(super) fn peek<F: Future<Output = io::Result<()>>>(&self, future: F) -> Poll<io::Result<()>> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Fails unless it has heard exactly this, bytes in a row being one.
    pub(super) fn expect(&self, what: &[Callback]) -> Checked {
        let mut heard = self.probe.heard();
        heard.dedup_by(|a, b| a == b && *a == Callback::Data);
        ensure!(heard == what, "its callbacks were {}, not {}", names(&heard), names(what));
        Ok(())
    }

    /// Fails unless it has heard of its beginning, and of the end that it has brought about itself. Where the halves cannot
    /// end alone, the peer's end is told, too.
    pub(super) fn expect_ended(&self, support: Support) -> Checked {
        let heard = self.probe.heard();
        if !support.half_close && heard == [Callback::Made, Callback::Eof, Callback::Lost] {
            return Ok(());
        }
        self.expect(&[Callback::Made, Callback::Lost])
    }

    /// Fails unless it was lost in this way.
    pub(super) fn expect_lost(&self, how: Result<(), io::ErrorKind>) -> Checked {
        let lost = self.probe.lost();
        ensure!(lost == Some(how), "connection_lost was told {}, not {}", Told(lost), Told(Some(how)));
        Ok(())
    }

    /// Fails unless it has received exactly this.
    pub(super) fn expect_bytes(&self, expected: &[u8]) -> Checked {
        let bytes = self.probe.bytes();
        if bytes == expected {
            return Ok(());
        }
        let place = bytes.iter().zip(expected).take_while(|(a, b)| a == b).count();
        let (got, sent) = (bytes.len(), expected.len());
        Err(format!("{got} bytes were received where {sent} were sent, and they differ from byte {place} on"))
    }
}

/// How a connection was lost, for people.
struct Told(Option<Result<(), io::ErrorKind>>);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("nothing yet"),
            Some(Ok(())) => f.write_str("no error"),
            Some(Err(kind)) => write!(f, "an error of kind {kind:?}"),
        }
    }
}

fn names(callbacks: &[Callback]) -> String {
    let names: Vec<_> = callbacks.iter().map(|callback| callback.name()).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// A loop, and what is asked of two transports on it: bytes go from the near one to the far one.
pub(super) struct Bench<'a> {
    pub(super) el: EventLoop,
    pub(super) support: Support,
    watch: Rc<Watch>,
    connect: &'a dyn Connect,
    /// Whether the two are exchanged.
    swapped: bool,
    patience: Duration,
    /// Whether it is waited until a full carrier stands still.
    is_thorough: bool,
    has_filled: Cell<bool>,
    reports: Rc<RefCell<Vec<String>>>,
    /// All that were connected, to be ended.
    ends: RefCell<Vec<End>>,
}

impl<'a> Bench<'a> {
    pub(super) fn new(
        el: EventLoop,
        connect: &'a dyn Connect,
        support: Support,
        swapped: bool,
        patience: Duration,
        is_thorough: bool,
    ) -> Self {
        let reports = Rc::<RefCell<Vec<String>>>::default();
        let kept = reports.clone();
        el.set_exception_handler(Some(Rc::new(move |_, context| kept.borrow_mut().push(context.to_string()))));
        let ends = RefCell::default();
        let (watch, has_filled) = (Rc::default(), Cell::new(false));
        Self { el, support, watch, connect, swapped, patience, is_thorough, has_filled, reports, ends }
    }

    /// Two probes that are to be connected.
    pub(super) fn probes(&self) -> (Probe, Probe) {
        (Probe::new(&self.watch, "the sender", false), Probe::new(&self.watch, "the receiver", false))
    }

    /// A probe that takes the place of another one.
    pub(super) fn late_probe(&self) -> Probe {
        Probe::new(&self.watch, "the next protocol", true)
    }

    /// Two connected ends of which both protocols know that.
    pub(super) fn pair(&self) -> Checked<(End, End)> {
        let (near, far) = self.probes();
        self.connect(near, far)
    }

    pub(super) fn connect(&self, near: Probe, far: Probe) -> Checked<(End, End)> {
        let connected = if self.swapped {
            self.connect.connect(&self.el, far.clone(), near.clone()).map(|(far, near)| (near, far))
        } else {
            self.connect.connect(&self.el, near.clone(), far.clone())
        };
        let (a, b) = connected.map_err(|error| format!("the two could not be connected: {error}"))?;
        let (near, far) = (End { transport: a, probe: near }, End { transport: b, probe: far });
        self.ends.borrow_mut().extend([near.clone(), far.clone()]);
        self.until("connection_made of the sender", || near.probe.has(Callback::Made))?;
        self.until("connection_made of the receiver", || far.probe.has(Callback::Made))?;
        Ok((near, far))
    }

    /// Lets go of the handles that were kept to end the connections.
    pub(super) fn forget_ends(&self) {
        self.ends.take();
    }

    /// Runs the loop until it is so.
    pub(super) fn until(&self, what: &str, mut condition: impl FnMut() -> bool) -> Checked {
        let deadline = Instant::now() + self.patience;
        while !condition() {
            ensure!(Instant::now() < deadline, "{what} did not come within {:?}", self.patience);
            self.turn(Duration::from_millis(5))?;
        }
        Ok(())
    }

    /// Makes one turn that waits this long at most, and says how much there was to do.
    fn turn(&self, timeout: Duration) -> Checked<usize> {
        self.el.run_once(Some(timeout)).map_err(|error| format!("the loop has failed: {error}"))
    }

    /// Runs the loop until an end has heard of its end.
    pub(super) fn until_lost(&self, ends: &[&End]) -> Checked {
        for end in ends {
            self.until("connection_lost", || end.probe.has(Callback::Lost))?;
        }
        Ok(())
    }

    /// Runs the loop until so many bytes were received.
    pub(super) fn until_received(&self, end: &End, bytes: usize) -> Checked {
        let what = format!("all of {bytes} bytes");
        self.until(&what, || end.probe.len() >= bytes).map_err(|error| format!("{error}: {} came", end.probe.len()))
    }

    /// Runs the loop until nothing more is to come.
    pub(super) fn rest(&self) -> Checked {
        let mut quiet = 0;
        if self.el.is_closed() {
            return Ok(());
        }
        for _ in 0..MOST_TURNS {
            quiet = if self.turn(Duration::ZERO)? == 0 { quiet + 1 } else { 0 };
            if quiet == QUIET_TURNS {
                return Ok(());
            }
        }
        Err(format!("the loop was still busy after {MOST_TURNS} turns"))
    }

    /// Runs the loop until the carrier has taken nothing for a time.
    fn stand_still(&self, near: &End) -> Checked {
        let still = STANDS_STILL.min(self.patience);
        let (mut queued, mut since) = (near.queued(), Instant::now());
        let deadline = since + still + self.patience;
        while since.elapsed() < still {
            ensure!(Instant::now() < deadline, "the carrier was still taking something after {:?}", self.patience);
            self.turn(Duration::from_millis(5))?;
            if near.queued() != queued {
                (queued, since) = (near.queued(), Instant::now());
            }
        }
        self.rest()
    }

    /// Whether a carrier was filled, and not waited for.
    pub(super) fn was_hasty(&self) -> bool {
        self.has_filled.get() && !self.is_thorough
    }

    /// Pauses the receiver and writes until the carrier is full, and something stays queued; the sender is not told to
    /// pause. What was written.
    pub(super) fn fill(&self, near: &End, far: &End) -> Checked<Vec<u8>> {
        self.has_filled.set(true);
        far.pause_reading();
        near.limits(Some(usize::MAX), None)
            .map_err(|error| format!("set_write_buffer_limits() has failed: {error}"))?;
        let mut written = Vec::new();
        let piece = pattern(64 * 1024 + 1);
        loop {
            let before = near.queued();
            if before == 0 {
                near.write(&piece);
                written.extend_from_slice(&piece);
            }
            if self.is_thorough {
                self.stand_still(near)?;
            } else {
                self.rest()?;
            }
            if near.queued() > LEAST_QUEUED && near.queued() == before {
                return Ok(written);
            }
            if near.queued() > 0 && near.queued() <= LEAST_QUEUED {
                near.write(&piece);
                written.extend_from_slice(&piece);
            }
            ensure!(written.len() < MOST_FILLING, "nothing was queued after {} bytes that nobody reads", written.len());
        }
    }

    /// What was reported since the last call.
    pub(super) fn take_reports(&self) -> Vec<String> {
        self.reports.take()
    }

    /// Ends everything, and says what was wrong besides what the item has found.
    pub(super) fn finish(&self) -> Vec<String> {
        for end in self.ends.take() {
            end.abort();
        }
        let rest = self.rest();
        self.el.close();
        let mut problems = self.watch.violations.take();
        problems.extend(rest.err());
        problems.extend(self.take_reports().into_iter().map(|report| format!("this was reported: {report}")));
        let stats = self.el.stats();
        if !stats.is_balanced() {
            problems.push(format!("the loop's statistics are not balanced: {stats:?}"));
        }
        problems
    }
}

/// Bytes that do not repeat soon, so that a piece which is lost or swapped shows.
pub(super) fn pattern(len: usize) -> Vec<u8> {
    /// A prime, so that it is no multiple of any buffer's size.
    const PERIOD: usize = 8191;
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(next).take(len.min(PERIOD)).collect();
    while bytes.len() < len {
        bytes.extend_from_within(..PERIOD.min(len - bytes.len()));
    }
    bytes
}

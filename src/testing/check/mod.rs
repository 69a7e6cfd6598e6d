//! Whether a transport keeps the contract: each sentence of it is an item that is checked.

mod bench;
mod closing;
mod data;
mod ending;
mod flow;
mod probe;
mod reading;
mod reentrancy;
mod report;

pub use probe::Probe;
pub use report::{Conformance, ItemReport, Verdict};

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bench::{Bench, Checked, Connect, Support};

use crate::error::{give_up_payload, panic_text};
use crate::event_loop::{Builder, EventLoop};
use crate::protocol::Transport;
use crate::runner::refuse_nesting;
use crate::time::timeout;

/// How long is waited for what must happen.
const PATIENCE: Duration = Duration::from_secs(10);

/// What an item needs of the transports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    HalfClose,
    BothWays,
    Unread,
    FlowControl,
}

impl Need {
    fn is_met(self, support: Support) -> bool {
        match self {
            Self::HalfClose => support.half_close,
            Self::BothWays => support.both_ways,
            Self::Unread => support.unread,
            Self::FlowControl => support.flow_control,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::HalfClose => "no half close",
            Self::BothWays => "one way only",
            Self::Unread => "no unread",
            Self::FlowControl => "no flow control",
        }
    }
}

/// One sentence of the contract.
struct Item {
    name: &'static str,
    contract: &'static str,
    needs: &'static [Need],
    check: fn(&Bench<'_>) -> Checked,
}

impl Item {
    fn all() -> impl Iterator<Item = &'static Item> {
        [data::ITEMS, closing::ITEMS, ending::ITEMS, flow::ITEMS, reading::ITEMS, reentrancy::ITEMS]
            .into_iter()
            .flatten()
    }
}

/// Checks whether a transport keeps the contract of transports, item by item: that of the loop's own, of a
/// [`StreamTransport`](crate::StreamTransport) of yours, of a stream of yours behind
/// [`connect_stream`](EventLoop::connect_stream).
///
/// `make` connects two transports with each other, gives each of them a [`Probe`] as its protocol, and returns both; it is
/// called once and more for each item, on a loop of that item's own. What is the same for both ends is checked with either of
/// them as the one who writes. An item for which a carrier was filled, and which failed, is checked once more with time for the
/// carrier to come to rest, which TCP does only behind its own timers; what counts is the second time.
///
/// ```
/// use roundelay::Transport;
/// use roundelay::testing::{Link, check_transport, stream_pair};
///
/// let report = check_transport(async |el, near, far| {
///     let (a, b) = stream_pair(&el, &Link::new().max_read(1000));
///     Ok((el.connect_stream(|| near, a)?.0, el.connect_stream(|| far, b)?.0))
/// })
/// .run();
/// report.assert_passed();
/// println!("{report}");
/// ```
pub fn check_transport<M>(make: M) -> CheckTransport<M>
where
    M: AsyncFn(EventLoop, Probe, Probe) -> io::Result<(Transport, Transport)>,
{
    let support =
        Support { half_close: true, both_ways: true, unread: true, flow_control: true, pauses_at_high: false };
    CheckTransport { make, support, only: None, patience: PATIENCE, build: Box::new(EventLoop::builder) }
}

/// A check that was not run yet: say what the transports do not have, then [`run`](Self::run) it. Made by
/// [`check_transport`].
#[must_use = "nothing is checked before run()"]
pub struct CheckTransport<M> {
    make: M,
    support: Support,
    only: Option<Vec<String>>,
    patience: Duration,
    build: Box<dyn Fn() -> Builder>,
}

impl<M> CheckTransport<M>
where
    M: AsyncFn(EventLoop, Probe, Probe) -> io::Result<(Transport, Transport)>,
{
    /// The writing side cannot end alone, as with TLS: [`can_write_eof`](Transport::can_write_eof) is to say so.
    pub fn without_half_close(mut self) -> Self {
        self.support.half_close = false;
        self
    }

    /// The first transport writes and the second one reads, and nothing else, as the ends of a pipe.
    pub fn one_way(mut self) -> Self {
        self.support.both_ways = false;
        self
    }

    /// Bytes cannot be given back.
    pub fn without_unread(mut self) -> Self {
        self.support.unread = false;
        self
    }

    /// The carrier takes whatever it is given, so that nothing is ever queued.
    pub fn without_flow_control(mut self) -> Self {
        self.support.flow_control = false;
        self
    }

    /// Writing is paused at the high-water mark already, as with asyncio's TLS transports, not above it.
    pub fn pauses_at_high(mut self) -> Self {
        self.support.pauses_at_high = true;
        self
    }

    /// Checks these items only, by their names.
    ///
    /// # Panics
    ///
    /// For a name that no item has.
    #[track_caller]
    pub fn only<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        for name in &names {
            let is_known = Item::all().any(|item| item.name == name);
            assert!(is_known, "CheckTransport::only(): there is no item {name:?}");
        }
        self.only = Some(names);
        self
    }

    /// How long is waited for what must happen, in real time: 10 s unless it is set.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Makes the loops with this builder: another selector, debug mode.
    pub fn on(mut self, build: impl Fn() -> Builder + 'static) -> Self {
        self.build = Box::new(build);
        self
    }

    /// Checks all items.
    ///
    /// # Panics
    ///
    /// If a loop cannot be made, or from within a running loop.
    #[track_caller]
    pub fn run(&self) -> Conformance {
        refuse_nesting("CheckTransport::run");
        let connect = Connector { make: &self.make, patience: self.patience };
        let is_wanted = |item: &Item| self.only.as_ref().is_none_or(|only| only.iter().any(|name| name == item.name));
        let mut reports = Vec::new();
        for item in Item::all().filter(|item| is_wanted(item)) {
            let missing = item.needs.iter().find(|need| !need.is_met(self.support));
            let verdict = match missing {
                Some(need) => Verdict::NotSupported(need.name()),
                None => self.check(item, &connect),
            };
            reports.push(ItemReport { name: item.name, contract: item.contract, verdict });
        }
        Conformance::new(reports)
    }

    #[track_caller]
    fn check(&self, item: &Item, connect: &dyn Connect) -> Verdict {
        let mut problems = Vec::new();
        let ways = if self.support.both_ways { &[false, true][..] } else { &[false] };
        for &swapped in ways {
            let (mut found, was_hasty) = self.attempt(item, connect, swapped, false);
            // A carrier that looked full may have taken more a little later, which is not the transport's fault.
            if was_hasty && !found.is_empty() {
                (found, _) = self.attempt(item, connect, swapped, true);
            }
            let sender = if swapped { "the second one writes" } else { "the first one writes" };
            problems.extend(found.into_iter().map(|text| match self.support.both_ways {
                true => format!("where {sender}: {text}"),
                false => text,
            }));
        }
        if problems.is_empty() { Verdict::Passed } else { Verdict::Failed(problems) }
    }

    /// What is wrong, and whether that may be so because a carrier was not full yet.
    #[track_caller]
    fn attempt(&self, item: &Item, connect: &dyn Connect, swapped: bool, is_thorough: bool) -> (Vec<String>, bool) {
        let el = match (self.build)().build() {
            Ok(el) => el,
            Err(error) => panic!("CheckTransport::run(): the loop could not be made: {error}"),
        };
        let bench = Bench::new(el.clone(), connect, self.support, swapped, self.patience, is_thorough);
        let mut found = Vec::new();
        let checked = catch_unwind(AssertUnwindSafe(|| (item.check)(&bench)));
        match checked {
            Ok(Ok(())) => {}
            Ok(Err(text)) => found.push(text),
            Err(payload) => found.push(format!("a panic: {}", text_of(payload))),
        }
        match catch_unwind(AssertUnwindSafe(|| bench.finish())) {
            Ok(more) => found.extend(more),
            Err(payload) => found.push(format!("a panic at the end: {}", text_of(payload))),
        }
        (found, bench.was_hasty())
    }
}

impl<M> fmt::Debug for CheckTransport<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckTransport")
            .field("support", &self.support)
            .field("only", &self.only)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

/// The text of a panic, whose payload may panic when it is dropped.
fn text_of(payload: Box<dyn Any + Send>) -> String {
    let text = panic_text(&*payload).to_owned();
    give_up_payload(payload);
    text
}

/// Connects by the application's function.
struct Connector<'a, M> {
    make: &'a M,
    patience: Duration,
}

impl<M> Connect for Connector<'_, M>
where
    M: AsyncFn(EventLoop, Probe, Probe) -> io::Result<(Transport, Transport)>,
{
    fn connect(&self, el: &EventLoop, near: Probe, far: Probe) -> io::Result<(Transport, Transport)> {
        let made = el.run_until_complete(timeout(self.patience, (self.make)(el.clone(), near, far)));
        made.map_err(io::Error::other)??
    }
}

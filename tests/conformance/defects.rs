//! Transports with one defect each: the check finds it. They stand on connections in memory, between those and the check.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::io::{self, IoSlice};
use std::panic::resume_unwind;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use roundelay::testing::{Link, Probe, Verdict, check_transport, stream_pair};
use roundelay::{
    AnyProtocol, BaseTransport, EventLoop, ExtraInfo, KeepOpen, Protocol, ReadTransport, StreamTransport, Transport,
    TransportId, WaiterId, WaterMarks, WriteReady, WriteTransport,
};

use crate::common::alone;

/// What is wrong with a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    Nothing,
    TellsOfTheBeginningTwice,
    HasTheIdOfOthers,
    IsAlwaysClosing,
    IsNeverClosing,
    SwapsBytes,
    SendsSoManyPiecesOnly,
    CutsLargeWrites,
    HearsNothingWhileItWrites,
    DropsWritesOfTheBeginning,
    DropsWritesWithinData,
    DropsWhatIsReceivedLate,
    ClosesWithItsLastHandle,
    KeepsItsEndSecret,
    TellsOfTheEndTwice,
    AbortsInPlaceOfClosing,
    ClosesInPlaceOfAborting,
    CannotAbortWhenClosing,
    KeepsItsProtocol,
    ClosesLate,
    CannotCloseWithinCallbacks,
    EndsOneHalfOnly,
    DeniesThatItHalfCloses,
    NeverStaysOpen,
    AlwaysStaysOpen,
    EndsBothHalves,
    DropsWritesAfterTheEndInSilence,
    SwallowsPanics,
    TellsTheDead,
    TakesAnyMarks,
    CountsTheHalfOfIt,
    PausesEarly,
    PausesLate,
    IgnoresLowMarks,
    ResumesAtOnce,
    IsAlwaysReady,
    IsReadyWhenLost,
    IsAlwaysFlushed,
    HasNoCap,
    ResumesWhenLost,
    CannotPause,
    CannotPauseWithinCallbacks,
    DeliversInHalves,
    ForgetsWhatIsGivenBack,
    GivesBackToTheWrongPlace,
    TellsTheNextOfTheBeginning,
    CannotChangeWithinCallbacks,
    CallsInline,
    IsBorrowedWithinCallbacks,
}

use Defect::*;

/// Each defect, and the items that are to find it.
const FINDERS: [(Defect, &[&str]); 51] = [
    (TellsOfTheBeginningTwice, &["made-first"]),
    (HasTheIdOfOthers, &["ids-differ"]),
    (IsAlwaysClosing, &["open-state"]),
    (SwapsBytes, &["data-in-order", "echo", "large-data"]),
    (SendsSoManyPiecesOnly, &["kinds-of-writes"]),
    (CutsLargeWrites, &["large-data"]),
    (HearsNothingWhileItWrites, &["both-directions"]),
    (DropsWritesOfTheBeginning, &["write-in-made"]),
    (DropsWritesWithinData, &["echo"]),
    (DropsWhatIsReceivedLate, &["buffered"]),
    (ClosesWithItsLastHandle, &["handles-own-nothing"]),
    (KeepsItsEndSecret, &["close", "notices-come-later"]),
    (TellsOfTheEndTwice, &["close", "ends-once", "close-by-both"]),
    (AbortsInPlaceOfClosing, &["close-flushes"]),
    (ClosesInPlaceOfAborting, &["abort", "abort-while-closing"]),
    (CannotAbortWhenClosing, &["abort-while-closing"]),
    (IsNeverClosing, &["close", "peer-aborts", "gone"]),
    (KeepsItsProtocol, &["gone", "panic-in-lost"]),
    (ClosesLate, &["write-after-close"]),
    (CannotCloseWithinCallbacks, &["close-in-made", "notices-come-later"]),
    (EndsOneHalfOnly, &["silent-after-close"]),
    (DeniesThatItHalfCloses, &["can-write-eof"]),
    (NeverStaysOpen, &["half-close"]),
    (AlwaysStaysOpen, &["eof-closes", "close"]),
    (EndsBothHalves, &["half-close", "eof-after-data"]),
    (DropsWritesAfterTheEndInSilence, &["write-after-eof"]),
    (SwallowsPanics, &["panic-in-data", "panic-in-eof", "panic-in-made", "panic-in-flow", "panic-in-lost"]),
    (TellsTheDead, &["outlives-the-loop"]),
    (TakesAnyMarks, &["limits"]),
    (CountsTheHalfOfIt, &["counts-what-is-queued"]),
    (PausesEarly, &["pauses-above-high"]),
    (PausesLate, &["pauses-above-high"]),
    (IgnoresLowMarks, &["marks-count-at-once"]),
    (ResumesAtOnce, &["resumes-at-low", "pauses-above-high"]),
    (IsAlwaysReady, &["ready"]),
    (IsReadyWhenLost, &["ready-fails"]),
    (IsAlwaysFlushed, &["flushed"]),
    (HasNoCap, &["write-buffer-cap"]),
    (ResumesWhenLost, &["not-resumed-when-lost"]),
    (CannotPause, &["pause-reading", "eof-after-pause", "pause-in-made"]),
    (CannotPauseWithinCallbacks, &["pause-in-made", "pause-in-data"]),
    (DeliversInHalves, &["pause-in-data", "unread"]),
    (ForgetsWhatIsGivenBack, &["unread", "unread-to-the-next"]),
    (GivesBackToTheWrongPlace, &["unread-to-the-next"]),
    (TellsTheNextOfTheBeginning, &["set-protocol"]),
    (CannotChangeWithinCallbacks, &["set-protocol-within", "unread-to-the-next"]),
    (CallsInline, &["no-inline-calls", "notices-come-later"]),
    (IsBorrowedWithinCallbacks, &["reentrancy"]),
    (IsBorrowedWithinCallbacks, &["reentrancy-of-flow"]),
    (KeepsItsEndSecret, &["ends-once", "close-by-both", "peer-aborts"]),
    (DropsWhatIsReceivedLate, &["large-data", "close-flushes"]),
];

/// A transport with a defect, over a sound one.
#[derive(Debug)]
struct Faulty {
    me: Weak<Self>,
    el: EventLoop,
    id: TransportId,
    below: Transport,
    defect: Defect,
    protocol: RefCell<AnyProtocol>,
    /// Those who wait, and for what.
    waits: RefCell<HashMap<WaiterId, WriteReady>>,
    /// In which callback it is.
    within: Cell<Option<&'static str>>,
    closed: Cell<bool>,
    ended: Cell<bool>,
    paused: Cell<bool>,
    written: Cell<usize>,
    received: Cell<usize>,
}

impl Faulty {
    fn is(&self, defect: Defect) -> bool {
        let is_borrowed = self.defect == IsBorrowedWithinCallbacks && self.within.get().is_some();
        if is_borrowed && defect != IsBorrowedWithinCallbacks {
            // The panic hook need not speak of it.
            resume_unwind(Box::new("already borrowed"));
        }
        self.defect == defect
    }

    fn poll_waiting(
        &self,
        waiter: WaiterId,
        cx: &mut Context<'_>,
        make: fn(&Transport) -> WriteReady,
    ) -> Poll<io::Result<()>> {
        let mut waits = self.waits.borrow_mut();
        let polled = Pin::new(waits.entry(waiter).or_insert_with(|| make(&self.below))).poll(cx);
        if polled.is_ready() {
            waits.remove(&waiter);
        }
        polled
    }

    /// The bytes of a write that is to be forwarded.
    fn filter<'a>(&self, data: &'a [u8]) -> &'a [u8] {
        let is_dropped = (self.is(DropsWritesOfTheBeginning) && self.within.get() == Some("made"))
            || (self.is(DropsWritesWithinData) && self.within.get() == Some("data"))
            || (self.is(DropsWritesAfterTheEndInSilence) && self.ended.get());
        if self.is(TellsTheDead) && self.el.is_closed() {
            let _ = self.protocol.borrow().connection_lost(&self.below, None);
        }
        let most = if self.is(CutsLargeWrites) { 600_000 } else { usize::MAX };
        let data = if is_dropped { &[] } else { &data[..data.len().min(most)] };
        self.written.set(self.written.get() + data.len());
        data
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        if self.defect == ClosesWithItsLastHandle {
            self.below.close();
        }
    }
}

impl BaseTransport for Faulty {
    fn id(&self) -> TransportId {
        thread_local! {
            static SHARED: TransportId = TransportId::next();
        }
        if self.defect == HasTheIdOfOthers { SHARED.with(|id| *id) } else { self.id }
    }
    fn is_closing(&self) -> bool {
        match self.defect {
            IsAlwaysClosing => true,
            IsNeverClosing => false,
            _ => self.closed.get() || self.below.is_closing(),
        }
    }
    fn close(&self) {
        if self.is(CannotCloseWithinCallbacks) && self.within.get().is_some() {
            return;
        }
        self.closed.set(true);
        match self.defect {
            AbortsInPlaceOfClosing => self.below.abort(),
            EndsOneHalfOnly => self.below.write_eof(),
            ClosesLate => {
                let below = self.below.clone();
                self.el.call_soon(move || below.close());
            }
            _ => self.below.close(),
        }
    }
    fn abort(&self) {
        let is_refused = (self.is(CannotCloseWithinCallbacks) && self.within.get().is_some())
            || (self.is(CannotAbortWhenClosing) && self.closed.get());
        if is_refused {
            return;
        }
        self.closed.set(true);
        if self.is(CallsInline) && self.below.protocol().is_some() {
            let _ = self.protocol.borrow().connection_lost(&self.below, None);
        }
        if self.is(ClosesInPlaceOfAborting) { self.below.close() } else { self.below.abort() }
    }
    fn extra_info(&self) -> ExtraInfo {
        self.below.extra_info()
    }
}

impl ReadTransport for Faulty {
    fn is_reading(&self) -> bool {
        if self.is(CannotPause) { self.below.is_reading() && !self.paused.get() } else { self.below.is_reading() }
    }
    fn pause_reading(&self) {
        self.paused.set(true);
        let cannot = self.is(CannotPause) || self.is(CannotPauseWithinCallbacks) && self.within.get().is_some();
        if !cannot {
            self.below.pause_reading();
        }
    }
    fn resume_reading(&self) {
        self.paused.set(false);
        self.below.resume_reading();
    }
    fn unread(&self, data: &[u8]) {
        if self.is(GivesBackToTheWrongPlace) {
            let reversed: Vec<u8> = data.iter().rev().copied().collect();
            return self.below.unread(&reversed);
        }
        if !self.is(ForgetsWhatIsGivenBack) {
            self.below.unread(data);
        }
    }
}

impl WriteTransport for Faulty {
    fn write(&self, data: &[u8]) {
        let kept = self.filter(data);
        if kept.is_empty() == data.is_empty() {
            self.below.write(kept);
        }
    }
    fn write_owned(&self, data: Bytes) {
        self.write(&data);
    }
    fn writelines(&self, data: &[IoSlice<'_>]) {
        let most = if self.is(SendsSoManyPiecesOnly) { 1024 } else { usize::MAX };
        data.iter().take(most).for_each(|piece| self.write(piece));
    }
    fn write_eof(&self) {
        self.ended.set(true);
        if self.is(EndsBothHalves) { self.below.close() } else { self.below.write_eof() }
    }
    fn can_write_eof(&self) -> bool {
        !self.is(DeniesThatItHalfCloses)
    }
    fn write_buffer_size(&self) -> usize {
        let size = self.below.write_buffer_size();
        if self.is(CountsTheHalfOfIt) { size / 2 } else { size }
    }
    fn write_buffer_limits(&self) -> WaterMarks {
        self.below.write_buffer_limits()
    }
    fn set_write_buffer_limits(&self, high: Option<usize>, low: Option<usize>) -> io::Result<()> {
        let shifted = match self.defect {
            PausesEarly => high.map(|high| high.saturating_sub(100)),
            PausesLate => high.map(|high| high.saturating_add(100)),
            _ => high,
        };
        if self.is(IgnoresLowMarks) && high.is_some_and(|high| high < self.below.write_buffer_size()) {
            return Ok(());
        }
        let result = self.below.set_write_buffer_limits(shifted, low);
        if self.is(TakesAnyMarks) { Ok(()) } else { result }
    }
    fn set_write_buffer_cap(&self, cap: Option<usize>) {
        if !self.is(HasNoCap) {
            self.below.set_write_buffer_cap(cap);
        }
    }
    fn poll_ready(&self, waiter: WaiterId, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is(IsAlwaysReady) {
            return Poll::Ready(Ok(()));
        }
        let polled = self.poll_waiting(waiter, cx, Transport::ready);
        if self.is(IsReadyWhenLost) { polled.map(|_| Ok(())) } else { polled }
    }
    fn poll_flushed(&self, waiter: WaiterId, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is(IsAlwaysFlushed) {
            return Poll::Ready(Ok(()));
        }
        self.poll_waiting(waiter, cx, Transport::flushed)
    }
    fn forget_waiter(&self, waiter: WaiterId) {
        let wait = self.waits.borrow_mut().remove(&waiter);
        drop(wait);
    }
}

impl StreamTransport for Faulty {
    fn protocol(&self) -> Option<AnyProtocol> {
        let protocol = self.protocol.borrow().clone();
        if self.is(KeepsItsProtocol) { Some(protocol) } else { self.below.protocol().map(|_| protocol) }
    }
    fn set_protocol(&self, protocol: AnyProtocol) {
        let is_ignored = self.is(CannotChangeWithinCallbacks) && self.within.get().is_some();
        let is_same = self.protocol.borrow().is_same(&protocol);
        if is_ignored || is_same || self.below.protocol().is_none() {
            return;
        }
        *self.protocol.borrow_mut() = protocol.clone();
        if self.is(TellsTheNextOfTheBeginning) {
            let _ = protocol.connection_made(&self.below);
        }
        let upper = Rc::new(OnceCell::from(Upper::Strong(self.me.upgrade().unwrap())));
        self.below.set_protocol(Between { upper, first: protocol, paused: false });
    }
}

/// The faulty transport, as the one below knows it.
enum Upper {
    Strong(Rc<Faulty>),
    Weak(Weak<Faulty>),
}

/// The protocol of the transport below: it hands on what it hears, as far as the defect allows.
struct Between {
    upper: Rc<OnceCell<Upper>>,
    first: AnyProtocol,
    paused: bool,
}

type Panic = Box<dyn std::any::Any + Send>;

impl Between {
    /// Calls the protocol above, within a callback of this name.
    fn tell<R: Default>(
        &self,
        within: &'static str,
        below: &Transport,
        f: impl FnOnce(&AnyProtocol, &Transport) -> Result<R, Panic>,
    ) -> R {
        let faulty = match self.upper.get() {
            Some(Upper::Strong(faulty)) => Some(faulty.clone()),
            Some(Upper::Weak(faulty)) => faulty.upgrade(),
            None => None,
        };
        let Some(faulty) = faulty else { return f(&self.first, below).unwrap_or_default() };
        let protocol = faulty.protocol.borrow().clone();
        faulty.within.set(Some(within));
        let called = f(&protocol, &Transport::new(faulty.clone()));
        faulty.within.set(None);
        match called {
            Ok(result) => result,
            Err(_) if faulty.defect == SwallowsPanics => R::default(),
            Err(payload) => resume_unwind(payload),
        }
    }

    fn is(&self, defect: Defect) -> bool {
        match self.upper.get() {
            Some(Upper::Strong(faulty)) => faulty.defect == defect,
            Some(Upper::Weak(_)) => defect == ClosesWithItsLastHandle,
            None => false,
        }
    }

    /// How many bytes were received before, and written so far.
    fn count(&self, n: usize) -> (usize, usize) {
        match self.upper.get() {
            Some(Upper::Strong(faulty)) => (faulty.received.replace(faulty.received.get() + n), faulty.written.get()),
            _ => (0, 0),
        }
    }
}

impl Protocol for Between {
    fn connection_made(&mut self, below: &Transport) {
        self.tell("made", below, |protocol, transport| protocol.connection_made(transport));
        if self.is(TellsOfTheBeginningTwice) {
            self.tell("made", below, |protocol, transport| protocol.connection_made(transport));
        }
    }

    fn data_received(&mut self, below: &Transport, data: &[u8]) {
        let (before, written) = self.count(data.len());
        let mut data = data.to_vec();
        if self.is(SwapsBytes) {
            data.reverse();
        }
        let is_dropped = (self.is(DropsWhatIsReceivedLate) && before > 20_000)
            || (self.is(HearsNothingWhileItWrites) && before > 100_000 && written > 100_000);
        if is_dropped {
            return;
        }
        let middle = if self.is(DeliversInHalves) { data.len() / 2 } else { 0 };
        for half in [&data[..middle], &data[middle..]] {
            if !half.is_empty() {
                self.tell("data", below, |protocol, transport| protocol.data_received(transport, half));
            }
        }
    }

    fn eof_received(&mut self, below: &Transport) -> KeepOpen {
        let keep = self.tell("eof", below, |protocol, transport| protocol.eof_received(transport));
        match () {
            () if self.is(NeverStaysOpen) => KeepOpen::No,
            () if self.is(AlwaysStaysOpen) => KeepOpen::Yes,
            () => keep,
        }
    }

    fn pause_writing(&mut self, below: &Transport) {
        self.paused = true;
        self.tell("pause", below, |protocol, transport| protocol.pause_writing(transport));
        if self.is(ResumesAtOnce) {
            self.tell("resume", below, |protocol, transport| protocol.resume_writing(transport));
        }
    }

    fn resume_writing(&mut self, below: &Transport) {
        self.paused = false;
        if !self.is(ResumesAtOnce) {
            self.tell("resume", below, |protocol, transport| protocol.resume_writing(transport));
        }
    }

    fn connection_lost(&mut self, below: &Transport, error: Option<io::Error>) {
        if self.paused && self.is(ResumesWhenLost) {
            self.tell("resume", below, |protocol, transport| protocol.resume_writing(transport));
        }
        if self.is(KeepsItsEndSecret) {
            return;
        }
        self.tell("lost", below, |protocol, transport| protocol.connection_lost(transport, error));
        if self.is(TellsOfTheEndTwice) {
            self.tell("lost", below, |protocol, transport| protocol.connection_lost(transport, None));
        }
    }
}

fn connect(
    el: &EventLoop,
    stream: roundelay::testing::MemoryStream,
    probe: Probe,
    defect: Defect,
) -> io::Result<Transport> {
    let (upper, protocol) = (Rc::<OnceCell<Upper>>::default(), AnyProtocol::new(probe));
    let between = Between { upper: upper.clone(), first: protocol.clone(), paused: false };
    let (below, _) = el.connect_stream(|| between, stream)?;
    let faulty = Rc::new_cyclic(|me: &Weak<Faulty>| Faulty {
        me: me.clone(),
        el: el.clone(),
        id: TransportId::next(),
        below,
        defect,
        protocol: RefCell::new(protocol),
        waits: RefCell::default(),
        within: Cell::new(None),
        closed: Cell::new(false),
        ended: Cell::new(false),
        paused: Cell::new(false),
        written: Cell::new(0),
        received: Cell::new(0),
    });
    let known = match defect {
        ClosesWithItsLastHandle => Upper::Weak(Rc::downgrade(&faulty)),
        _ => Upper::Strong(faulty.clone()),
    };
    let _ = upper.set(known);
    Ok(Transport::new(faulty))
}

fn check(
    defect: Defect,
) -> roundelay::testing::CheckTransport<impl AsyncFn(EventLoop, Probe, Probe) -> io::Result<(Transport, Transport)>> {
    check_transport(async move |el: EventLoop, near: Probe, far: Probe| {
        let (a, b) = stream_pair(&el, &Link::new());
        Ok((connect(&el, a, near, defect)?, connect(&el, b, far, defect)?))
    })
}

/// A transport of the application's own, without a defect, passes; and each item that it passes has a defect that it finds.
#[test]
fn a_sound_transport_of_its_own_keeps_the_contract() {
    let _alone = alone();
    let report = check(Defect::Nothing).run();
    report.assert_passed();
    let found = |name: &str| FINDERS.iter().any(|(_, items)| items.contains(&name));
    let unproved: Vec<_> = report.items().iter().map(|item| item.name).filter(|name| !found(name)).collect();
    assert!(unproved.is_empty(), "{unproved:?}");
}

#[test]
fn each_defect_is_found() {
    let _alone = alone();
    let mut missed = String::new();
    for (defect, items) in FINDERS {
        let report = check(defect).only(items.iter().copied()).patience(Duration::from_millis(25)).run();
        for item in report.items() {
            if !matches!(item.verdict, Verdict::Failed(_)) {
                missed += &format!("{defect:?} was not found by {}\n", item.name);
            }
        }
    }
    assert!(missed.is_empty(), "{missed}");
}

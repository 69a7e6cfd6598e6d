//! The two directions of a link together: who waits for what, and when to wake them.

use std::cell::RefCell;
use std::io;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::event_loop::EventLoop;
use crate::sched::clock::deadline;
use crate::sched::handle::TimerHandle;
use crate::testing::memory::link::{Link, Loss, When};
use crate::testing::memory::way::{Ending, There, Way};

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    First,
    Second,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// Whether anything still arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Whole,
    /// Nothing arrives until it is let go on.
    Held,
    Silent,
    Lost(io::ErrorKind),
}

/// Who waits at one end, and for when that was arranged.
#[derive(Default)]
struct Waiting {
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Wakes the reader when something arrives.
    timer: Option<(Instant, TimerHandle<()>)>,
    /// Whether this end was dropped.
    gone: bool,
}

struct State {
    /// From the first to the second, and back.
    ways: [Way; 2],
    waiting: [Waiting; 2],
    condition: Condition,
    /// Brings about the loss that was asked for after a time.
    loss: Option<TimerHandle<()>>,
}

impl State {
    /// What this end sends.
    fn outgoing(&mut self, side: Side) -> &mut Way {
        &mut self.ways[side as usize]
    }

    /// What this end receives.
    fn incoming(&mut self, side: Side) -> &mut Way {
        &mut self.ways[side.other() as usize]
    }

    fn waiting(&mut self, side: Side) -> &mut Waiting {
        &mut self.waiting[side as usize]
    }

    fn take_wakers(&mut self) -> [Option<Waker>; 4] {
        let [a, b] = &mut self.waiting;
        [a.reader.take(), b.reader.take(), a.writer.take(), b.writer.take()]
    }
}

/// Borrowed for a moment only: no waker is woken or dropped and no clock read meanwhile.
pub(super) struct Line {
    me: Weak<Line>,
    el: EventLoop,
    /// Whether anything on it takes time: otherwise the clock is not asked.
    is_timed: bool,
    state: RefCell<State>,
}

impl Line {
    pub(super) fn new(el: &EventLoop, link: &Link) -> Rc<Self> {
        let there = Link { back: None, ..link.clone() };
        let back = link.back.as_deref().cloned().unwrap_or_else(|| there.clone());
        let is_timed = there.is_timed() || back.is_timed();
        let planned = [there.loss, back.loss];
        let state = State {
            ways: [Way::new(there, 0), Way::new(back, 1)],
            waiting: <[Waiting; 2]>::default(),
            condition: Condition::Whole,
            loss: None,
        };
        let this = Rc::new_cyclic(|me: &Weak<Line>| Self {
            me: me.clone(),
            el: el.clone(),
            is_timed,
            state: RefCell::new(state),
        });
        let elapsing = planned.iter().flatten().filter_map(|&(when, loss)| match when {
            When::Elapsed(time) => Some((time, loss)),
            When::Received(_) => None,
        });
        if let Some((time, loss)) = elapsing.min_by_key(|(time, _)| *time) {
            let timer = this.after(deadline(el.time(), time), move |line| line.end(loss));
            this.state.borrow_mut().loss = timer;
        }
        if let Some((_, loss)) = planned.into_iter().flatten().find(|(when, _)| *when == When::Received(0)) {
            this.end(loss);
        }
        this
    }

    /// A waker may be anybody's, and may panic.
    fn wake(&self, wakers: impl IntoIterator<Item = Option<Waker>>) {
        wakers.into_iter().flatten().for_each(|waker| self.el.core.local.wake(waker));
    }

    /// Calls it at that time; a closed loop will not.
    fn after(&self, at: Instant, f: impl FnOnce(&Line) + 'static) -> Option<TimerHandle<()>> {
        if self.el.is_closed() {
            return None;
        }
        let me = self.me.clone();
        Some(self.el.call_at(at, move || {
            if let Some(line) = me.upgrade() {
                f(&line);
            }
        }))
    }

    fn now(&self) -> Option<Instant> {
        self.is_timed.then(|| self.el.time())
    }

    /// As `now`, with what a timer that is due may come early.
    fn now_for_reading(&self) -> Option<Instant> {
        self.now().map(|now| now + self.el.clock_resolution())
    }

    pub(super) fn poll_read(&self, side: Side, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let now = self.now_for_reading();
        let mut guard = self.state.borrow_mut();
        let state = &mut *guard;
        match state.condition {
            Condition::Lost(kind) => return Poll::Ready(Err(lost(kind))),
            Condition::Held | Condition::Silent => {
                drop(guard);
                return self.wait_to_read(side, cx, None);
            }
            Condition::Whole => {}
        }
        let way = state.incoming(side);
        if std::mem::take(&mut way.rests) || way.stutters() {
            drop(guard);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match way.there(now) {
            There::Bytes(arrived) => {
                let n = way.receive(arrived, buffer);
                let ends = way.left_until_loss() == Some(0);
                let loss = way.link.loss;
                let writer = state.waiting(side.other()).writer.take();
                drop(guard);
                self.wake([writer]);
                if let (true, Some((_, loss))) = (ends, loss) {
                    self.end(loss);
                }
                Poll::Ready(Ok(n))
            }
            There::End(Ending::Eof) => Poll::Ready(Ok(0)),
            There::End(Ending::Reset) => {
                let text = "the other end was dropped before it had read everything";
                Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, text)))
            }
            There::Later(at) => {
                drop(guard);
                self.wait_to_read(side, cx, Some(at))
            }
            There::Nothing => {
                drop(guard);
                self.wait_to_read(side, cx, None)
            }
        }
    }

    /// Remembers the reader, and arranges for its waking where the time of that is known.
    fn wait_to_read(&self, side: Side, cx: &Context<'_>, at: Option<Instant>) -> Poll<io::Result<usize>> {
        let waker = cx.waker().clone();
        let mut state = self.state.borrow_mut();
        let waiting = state.waiting(side);
        let before = waiting.reader.replace(waker);
        let is_armed = waiting.timer.as_ref().map(|(at, _)| *at) == at;
        drop(state);
        drop(before);
        if !is_armed {
            self.arm(side, at);
        }
        Poll::Pending
    }

    fn arm(&self, side: Side, at: Option<Instant>) {
        let wake_reader = move |line: &Line| {
            let mut state = line.state.borrow_mut();
            let waiting = state.waiting(side);
            waiting.timer = None;
            let reader = waiting.reader.take();
            drop(state);
            line.wake([reader]);
        };
        let timer = at.and_then(|at| Some((at, self.after(at, wake_reader)?)));
        let before = std::mem::replace(&mut self.state.borrow_mut().waiting(side).timer, timer);
        if let Some((_, before)) = before {
            before.cancel();
        }
    }

    pub(super) fn poll_write(&self, side: Side, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let now = self.now();
        let mut guard = self.state.borrow_mut();
        let state = &mut *guard;
        if let Condition::Lost(kind) = state.condition {
            return Poll::Ready(Err(lost(kind)));
        }
        let is_silent = state.condition == Condition::Silent;
        let way = state.outgoing(side);
        if way.is_ended() {
            let text = "this end was closed for writing";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, text)));
        }
        if way.is_known_gone(now) && !is_silent {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, "the other end was dropped")));
        }
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if way.stutters() {
            drop(guard);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if way.room() == 0 {
            drop(guard);
            let waker = cx.waker().clone();
            let before = self.state.borrow_mut().waiting(side).writer.replace(waker);
            drop(before);
            return Poll::Pending;
        }
        let n = way.send(data, now);
        let reader = state.waiting(side.other()).reader.take();
        drop(guard);
        self.wake([reader]);
        Poll::Ready(Ok(n))
    }

    pub(super) fn check_whole(&self) -> io::Result<()> {
        match self.state.borrow().condition {
            Condition::Lost(kind) => Err(lost(kind)),
            _ => Ok(()),
        }
    }

    /// This end writes no more.
    pub(super) fn close(&self, side: Side) {
        let now = self.now();
        let mut state = self.state.borrow_mut();
        state.outgoing(side).end(Ending::Eof, now);
        let reader = state.waiting(side.other()).reader.take();
        drop(state);
        self.wake([reader]);
    }

    /// This end is dropped.
    pub(super) fn leave(&self, side: Side) {
        let now = self.now();
        let mut state = self.state.borrow_mut();
        let has_unread = state.incoming(side).in_flight() > 0;
        let way = state.outgoing(side);
        way.end(if has_unread { Ending::Reset } else { Ending::Eof }, now);
        // The sender at the other end hears of it when the end arrives there.
        let news = now.and(way.last_at());
        state.incoming(side).receiver_gone(news);
        state.waiting(side).gone = true;
        let mut timers = vec![state.waiting(side).timer.take().map(|(_, timer)| timer)];
        if state.waiting(side.other()).gone {
            timers.push(state.waiting(side.other()).timer.take().map(|(_, timer)| timer));
            timers.push(state.loss.take());
        }
        let wakers = state.take_wakers();
        drop(state);
        for timer in timers.into_iter().flatten() {
            timer.cancel();
        }
        self.wake(wakers);
    }

    /// The link comes to its end.
    pub(super) fn end(&self, loss: Loss) {
        let mut state = self.state.borrow_mut();
        if matches!(state.condition, Condition::Lost(_)) {
            return;
        }
        state.condition = match loss {
            Loss::Broken(kind) => {
                state.ways.iter_mut().for_each(Way::clear);
                Condition::Lost(kind)
            }
            Loss::Silent => Condition::Silent,
        };
        let timers: Vec<_> = state.waiting.iter_mut().filter_map(|waiting| waiting.timer.take()).collect();
        let wakers = state.take_wakers();
        drop(state);
        for (_, timer) in timers {
            timer.cancel();
        }
        self.wake(wakers);
    }

    /// Holds up what arrives, or lets it go on.
    pub(super) fn hold(&self, held: bool) {
        let mut state = self.state.borrow_mut();
        state.condition = match (state.condition, held) {
            (Condition::Whole, true) => Condition::Held,
            (Condition::Held, false) => Condition::Whole,
            (other, _) => other,
        };
        let wakers = state.take_wakers();
        drop(state);
        self.wake(wakers);
    }

    pub(super) fn is_lost(&self) -> bool {
        matches!(self.state.borrow().condition, Condition::Lost(_) | Condition::Silent)
    }

    /// How many bytes this end has sent, how many it has received, and how many are on their way to it.
    pub(super) fn counts(&self, side: Side) -> (u64, u64, usize) {
        let mut state = self.state.borrow_mut();
        let sent = state.outgoing(side).sent;
        let way = state.incoming(side);
        (sent, way.received, way.in_flight())
    }
}

fn lost(kind: io::ErrorKind) -> io::Error {
    io::Error::new(kind, "the link in memory was lost")
}

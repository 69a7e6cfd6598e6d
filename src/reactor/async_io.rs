//! async-io's reactor, driven by the wait of a loop.
//!
//! The problem: async-io has one reactor for a process, behind a lock. Whoever has the lock waits for the descriptors and
//! timers of all, and calls their wakers; a thread of async-io's own, the helper, does so where nobody else does, and each of
//! its wake-ups then costs our loop a change of threads. The only way in is `async_io::block_on`, which waits with the lock if
//! it can get it, and without it otherwise.
//!
//! So a run of the loop is one call of `block_on`, whose future makes turns and is pending while the loop sleeps. One call,
//! because its end calls the helper, which then has the lock when the next one begins. What ends the sleep: the loop's
//! selector has a descriptor of its own, which is registered with async-io as anybody's; a timer of async-io's stands for the
//! next deadline; and whoever else wakes the loop calls the waker of `block_on`.
//!
//! While it is pending the loop must have the lock, and nobody tells whether it has. It is tried ([`Claim`]): a timer that is
//! due at once is called by whoever has the lock. To arm it ends the helper's wait, and the helper, while there is a
//! `block_on`, sleeps then for a while, 50 microseconds at first and at last 10 milliseconds. It is not tried before each
//! sleep, but where the helper may have come: at first, after a sleep of more than those 10 milliseconds, at whose end it
//! stands in line for the lock; when the loop was busy for longer than the helper sleeps; and when somebody else was seen at
//! work. What becomes ready while the loop is busy the helper may tell.
//!
//! Several loops that drive async-io would take the lock from each other. One of them has the seat; the others, and one that
//! cannot get the lock, sleep in their own selectors, as those do that do not drive.
//!
//! Rejected: a `block_on` for each wait (each end calls the helper, each begin finds it at work); to run callbacks within a
//! waker that async-io calls, where the lock is held (a `block_on` in a callback would wait for ever).

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use async_io::{Async, Timer};

use crate::constants::{ASYNC_IO_HURRY, ASYNC_IO_LONGEST_NAP, ASYNC_IO_PAUSES, ASYNC_IO_SHORTEST_NAP, ASYNC_IO_TRIALS};
use crate::error::invalid_input;
use crate::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use crate::os::fork::{Home, give_up};
use crate::reactor::registration::borrow;
use crate::reactor::{Notify, Selector};

/// The name of async-io's own thread.
const HELPER: &str = "async-io";

/// A number for this thread, zero for none; that of a thread that has ended may be given again.
fn this_thread() -> usize {
    thread_local! {
        static PLACE: Cell<u8> = const { Cell::new(0) };
    }
    PLACE.with(|place| std::ptr::from_ref(place).addr())
}

/// Ends the sleep of a loop that drives async-io. A timer's waker may outlive the loop: it keeps no descriptor open.
struct Bell {
    /// The waker of `block_on`, while the loop is in one and does not sleep elsewhere.
    waker: Mutex<Option<Waker>>,
    /// The thread of the loop.
    owner: usize,
    /// Whether somebody else was seen at work with async-io's reactor.
    others: AtomicBool,
}

impl Bell {
    fn lock(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    fn others(&self) -> bool {
        self.others.load(Ordering::Relaxed)
    }

    /// Has `block_on` poll again. False if the loop is in none.
    fn ring(&self) -> bool {
        // async-io's, which calls nobody back.
        self.lock().as_ref().map(Waker::wake_by_ref).is_some()
    }

    /// Sets the waker; the one before is dropped with nothing locked.
    fn set(&self, waker: Option<Waker>) {
        let before = std::mem::replace(&mut *self.lock(), waker);
        drop(before);
    }
}

/// Ends the loop's sleep, wherever it sleeps.
struct Notifier {
    bell: Arc<Bell>,
    selector: Arc<dyn Notify>,
}

impl Notify for Notifier {
    fn notify(&self) {
        if this_thread() != self.bell.owner && thread::current().name() == Some(HELPER) {
            self.bell.others.store(true, Ordering::Relaxed);
        }
        if !self.bell.ring() {
            self.selector.notify();
        }
    }
}

/// What async-io calls when the selector's descriptor is readable, or a deadline has come.
impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if this_thread() != self.owner {
            self.others.store(true, Ordering::Relaxed);
        }
        self.ring();
    }
}

/// By whom a waker was called.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CalledBy {
    Nobody = 0,
    /// The thread of the loop.
    Us = 1,
    Other = 2,
}

/// Notes by whom it is called.
struct Witness {
    bell: Arc<Bell>,
    /// A [`CalledBy`].
    called_by: AtomicU8,
    /// Whether the loop waits for it.
    is_awaited: AtomicBool,
}

impl Witness {
    fn called_by(&self) -> CalledBy {
        match self.called_by.load(Ordering::Acquire) {
            US => CalledBy::Us,
            OTHER => CalledBy::Other,
            _ => CalledBy::Nobody,
        }
    }
}

const US: u8 = CalledBy::Us as u8;
const OTHER: u8 = CalledBy::Other as u8;

impl Wake for Witness {
    fn wake(self: Arc<Self>) {
        let by = if this_thread() == self.bell.owner { US } else { OTHER };
        self.called_by.store(by, Ordering::Release);
        if self.is_awaited.load(Ordering::Acquire) {
            self.bell.ring();
        }
    }
}

/// Whether async-io's lock is ours while the loop sleeps.
#[derive(Clone, Copy)]
enum Claim {
    /// It was, the latest time; to be tried again if the flag says so, or if it has reason to.
    Held { doubted: bool },
    /// It is being tried, since then; somebody else was found with it so many times.
    Trying { since: Instant, others: u32 },
    /// Somebody else keeps it: not to be tried before then.
    Lost(Instant),
}

/// How the loop is to wait for what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sleep {
    /// Be pending.
    Here,
    /// Not: the selector has something to say, or the deadline has come.
    Over,
    /// In its own selector, as a loop that does not drive.
    Elsewhere,
}

/// A deadline as async-io knows it.
struct Deadline {
    timer: Timer,
    /// When it ends.
    at: Option<Instant>,
}

/// The way from a loop to async-io's reactor.
pub(crate) struct AsyncIo {
    /// The number of the loop in [`SEAT`].
    seat: usize,
    home: Home,
    bell: Arc<Bell>,
    bell_waker: Waker,
    /// Before its descriptor.
    watched: Option<Async<BorrowedFd<'static>>>,
    /// A duplicate of the selector's. Both are `None` after the drop only.
    fd: Option<OwnedFd>,
    deadline: RefCell<Deadline>,
    witness: Arc<Witness>,
    /// What the witness waits for.
    trial: RefCell<Timer>,
    claim: Cell<Claim>,
    /// How long the claim is not to be tried when it is lost.
    pause: Cell<Duration>,
    /// How many more times the claim is tried, because the helper stood in line for the lock and was not seen since.
    in_line: Cell<u32>,
    /// When the loop last drove.
    driven_at: Cell<Instant>,
    /// When the helper was last sent to sleep.
    sent_away_at: Cell<Instant>,
}

/// Which loop drives async-io, by the address of its bell; zero if none does.
static SEAT: AtomicUsize = AtomicUsize::new(0);

impl AsyncIo {
    /// Registers a selector's descriptor with async-io.
    pub(crate) fn new(selector: &dyn Selector) -> io::Result<Self> {
        static FIRST: OnceLock<Home> = OnceLock::new();
        if !FIRST.get_or_init(Home::here).is_here() {
            let text =
                "Builder::drive_async_io(): async-io was in use when this process was forked, and cannot be used in it";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let Some(fd) = selector.backend_fd() else {
            let name = selector.name();
            return Err(invalid_input(format!(
                "Builder::drive_async_io(): the selector {name:?} has no descriptor by which async-io could wait for it"
            )));
        };
        let fd = fd.try_clone_to_owned()?;
        let watched = Async::new_nonblocking(borrow(fd.as_raw_fd()))?;
        let owner = this_thread();
        let (waker, others) = (Mutex::new(None), AtomicBool::new(false));
        let bell = Arc::new(Bell { waker, owner, others });
        let called_by = AtomicU8::new(CalledBy::Nobody as u8);
        let witness = Arc::new(Witness { bell: bell.clone(), called_by, is_awaited: AtomicBool::new(false) });
        let now = Instant::now();
        Ok(Self {
            seat: Arc::as_ptr(&bell).addr(),
            home: Home::here(),
            bell_waker: bell.clone().into(),
            bell,
            watched: Some(watched),
            fd: Some(fd),
            deadline: RefCell::new(Deadline { timer: Timer::never(), at: None }),
            witness,
            trial: RefCell::new(Timer::never()),
            claim: Cell::new(Claim::Held { doubted: true }),
            pause: Cell::new(ASYNC_IO_PAUSES.0),
            in_line: Cell::new(0),
            driven_at: Cell::new(now),
            sent_away_at: Cell::new(now),
        })
    }

    /// What ends the loop's sleep, wherever it sleeps: `selector` does so in its own selector.
    pub(crate) fn notifier(&self, selector: Arc<dyn Notify>) -> Arc<dyn Notify> {
        Arc::new(Notifier { bell: self.bell.clone(), selector })
    }

    /// One run of the loop: `poll` makes turns, and is pending where [`poll_sleep`](Self::poll_sleep) says so.
    pub(crate) fn block_on<T>(&self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
        struct End<'a>(&'a AsyncIo);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.bell.set(None);
                let _ = SEAT.compare_exchange(self.0.seat, 0, Ordering::Relaxed, Ordering::Relaxed);
            }
        }

        // At the end of the call before, if there was one, the helper has begun to work.
        self.claim.set(Claim::Held { doubted: true });
        let _end = End(self);
        let mut began = false;
        async_io::block_on(poll_fn(|cx| {
            if !std::mem::replace(&mut began, true) {
                self.bell.set(Some(cx.waker().clone()));
            }
            poll(cx)
        }))
    }

    /// Whether the loop can be pending until the deadline, or something is ready. If so, it is woken then.
    pub(crate) fn poll_sleep(&self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Sleep {
        let seat = SEAT.compare_exchange(0, self.seat, Ordering::Relaxed, Ordering::Relaxed);
        if seat.is_err_and(|taken| taken != self.seat) {
            self.claim.set(Claim::Held { doubted: true });
            return Sleep::Elsewhere;
        }
        if let Claim::Lost(until) = self.claim.get() {
            if Instant::now() < until {
                return Sleep::Elsewhere;
            }
        }
        let watched = self.watched.as_ref();
        match watched.map(|watched| watched.poll_readable(&mut Context::from_waker(&self.bell_waker))) {
            None | Some(Poll::Pending) => {}
            Some(Poll::Ready(Ok(()))) => return Sleep::Over,
            Some(Poll::Ready(Err(error))) => {
                note!(DEBUG, "roundelay::loop", "async-io cannot wait for the selector: {error}");
                return Sleep::Elsewhere;
            }
        }
        if deadline.is_some_and(|deadline| self.poll_deadline(deadline).is_ready()) {
            return Sleep::Over;
        }
        self.poll_claim(cx)
    }

    /// Has async-io wake the loop at the deadline, or before.
    fn poll_deadline(&self, deadline: Instant) -> Poll<()> {
        let mut armed = self.deadline.borrow_mut();
        let Deadline { timer, at } = &mut *armed;
        loop {
            // One that ends too early costs a look; to put it off would cost a call each time.
            if at.is_none_or(|at| at > deadline) {
                timer.set_at(deadline);
                *at = Some(deadline);
            }
            std::task::ready!(Pin::new(&mut *timer).poll(&mut Context::from_waker(&self.bell_waker)));
            let ended = at.take();
            if ended.is_some_and(|at| at >= deadline) {
                return Poll::Ready(());
            }
        }
    }

    /// Whether async-io's lock is ours; if it is to be tried, the loop is polled again.
    fn poll_claim(&self, cx: &mut Context<'_>) -> Sleep {
        let now = Instant::now();
        let (since, others) = match self.claim.get() {
            Claim::Held { doubted: false } if !self.bell.others() && !self.was_busy_for_long(now) => {
                return Sleep::Here;
            }
            Claim::Held { .. } | Claim::Lost(_) => {
                self.note_other(now);
                self.bell.others.store(false, Ordering::Relaxed);
                self.arm_trial(true);
                (now, 0)
            }
            Claim::Trying { since, others } => {
                if self.is_held(now) {
                    return Sleep::Here;
                }
                if !self.note_other(now) {
                    thread::yield_now();
                    (since, others)
                } else if others == ASYNC_IO_TRIALS {
                    return self.give_way(now);
                } else {
                    self.arm_trial(true);
                    (since, others + 1)
                }
            }
        };
        self.claim.set(Claim::Trying { since, others });
        // Where it takes its time there is no need to hurry it: the witness rings the bell.
        if now.saturating_duration_since(since) < ASYNC_IO_HURRY {
            cx.waker().wake_by_ref();
        }
        Sleep::Here
    }

    /// Whether the trial has shown that the lock is ours.
    fn is_held(&self, now: Instant) -> bool {
        let is_held = self.witness.called_by() == CalledBy::Us;
        if is_held {
            let in_line = self.in_line.get();
            self.in_line.set(in_line.saturating_sub(1));
            self.claim.set(Claim::Held { doubted: in_line > 0 });
            self.pause.set(ASYNC_IO_PAUSES.0);
            self.driven_at.set(now);
        }
        is_held
    }

    /// Whether it has shown that it is somebody else's: the helper, as a rule, which then goes to sleep.
    fn note_other(&self, now: Instant) -> bool {
        let is_others = self.witness.called_by() == CalledBy::Other;
        if is_others {
            self.sent_away_at.set(now);
            self.in_line.set(0);
        }
        is_others
    }

    /// Has whoever drives async-io now call the witness.
    fn arm_trial(&self, is_awaited: bool) {
        self.witness.is_awaited.store(is_awaited, Ordering::Release);
        self.witness.called_by.store(CalledBy::Nobody as u8, Ordering::Release);
        let waker = self.witness.clone().into();
        let mut trial = self.trial.borrow_mut();
        // In a moment, and not now: it would not get as far as to the reactor.
        let mut moment = Duration::from_micros(1);
        loop {
            *trial = Timer::after(moment);
            if Pin::new(&mut *trial).poll(&mut Context::from_waker(&waker)).is_pending() {
                return;
            }
            moment *= 2;
        }
    }

    /// Somebody else keeps async-io's lock, and may do the work.
    fn give_way(&self, now: Instant) -> Sleep {
        let pause = self.pause.get();
        self.pause.set((2 * pause).min(ASYNC_IO_PAUSES.1));
        self.claim.set(Claim::Lost(now + pause));
        *self.trial.borrow_mut() = Timer::never();
        // Its end calls the helper, for the case that nobody drives just now.
        async_io::block_on(std::future::ready(()));
        Sleep::Elsewhere
    }

    /// Whether the helper may have woken up meanwhile. It sleeps at first for a short while, and then for about as long again
    /// as it has slept by then.
    fn was_busy_for_long(&self, now: Instant) -> bool {
        let slept = now.saturating_duration_since(self.sent_away_at.get());
        let nap = (slept * 2 / 5).clamp(ASYNC_IO_SHORTEST_NAP, ASYNC_IO_LONGEST_NAP);
        now.saturating_duration_since(self.driven_at.get()) > nap
    }

    /// The loop was pending since then, and is awake.
    pub(crate) fn awake(&self, asleep_since: Instant) {
        let now = Instant::now();
        self.driven_at.set(now);
        if now.saturating_duration_since(asleep_since) >= ASYNC_IO_LONGEST_NAP {
            // The helper stands in line for the lock, and gets it now. It is to find something to do, and go to sleep.
            self.arm_trial(false);
            self.sent_away_at.set(now);
            self.in_line.set(ASYNC_IO_TRIALS);
            self.doubt();
        } else if matches!(self.claim.get(), Claim::Trying { .. }) && !self.is_held(now) {
            self.note_other(now);
            self.doubt();
        }
    }

    /// The loop has work, and drives async-io without a sleep.
    pub(crate) fn look(&self, cx: &mut Context<'_>) {
        let now = Instant::now();
        if self.was_busy_for_long(now) {
            self.doubt();
        }
        self.driven_at.set(now);
        cx.waker().wake_by_ref();
    }

    /// Whether it is time for that.
    pub(crate) fn is_overdue(&self, period: Duration) -> bool {
        self.driven_at.get().elapsed() >= period
    }

    fn doubt(&self) {
        if !matches!(self.claim.get(), Claim::Lost(_)) {
            self.claim.set(Claim::Held { doubted: true });
        }
    }

    /// While the guard is there, the loop sleeps in its own selector.
    pub(crate) fn elsewhere(&self) -> Elsewhere<'_> {
        Elsewhere { bell: &self.bell, waker: self.bell.lock().take() }
    }
}

/// The loop sleeps in its own selector.
pub(crate) struct Elsewhere<'a> {
    bell: &'a Bell,
    waker: Option<Waker>,
}

impl Drop for Elsewhere<'_> {
    fn drop(&mut self) {
        self.bell.set(self.waker.take());
    }
}

impl Drop for AsyncIo {
    fn drop(&mut self) {
        if self.home.is_here() {
            return;
        }
        // A child: it shares async-io's selector with the parent, and has no thread that would release a lock.
        std::mem::forget(self.watched.take());
        if let Some(fd) = self.fd.take() {
            give_up(fd);
        }
        for timer in [&mut self.deadline.get_mut().timer, self.trial.get_mut()] {
            std::mem::forget(std::mem::replace(timer, Timer::never()));
        }
    }
}

impl fmt::Debug for AsyncIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncIo").finish_non_exhaustive()
    }
}

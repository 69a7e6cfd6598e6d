//! What a foreign loop needs that has this one inside of it: a descriptor, a deadline, a call when there is something to do.

use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::constants::{HOSTED_TIME, HOSTED_TURNS};
use crate::error::LoopClosed;
use crate::event_loop::job::{lock, try_lock};
use crate::event_loop::root::RootFuture;
use crate::event_loop::run::Run;
use crate::event_loop::{Core, EventLoop};
use crate::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use crate::reactor::Notify;

/// Ends the loop's sleep, and tells the host where there is one.
///
/// Remotes, wakers and clocks hold it, and may outlive the loop: what it wakes is let go of when the loop is closed.
pub(crate) struct WakeTargets {
    /// `None` once the loop is closed: whatever outlives it keeps no descriptor open.
    targets: Mutex<Option<Targets>>,
}

struct Targets {
    notifier: Arc<dyn Notify>,
    /// See [`EventLoop::set_wake_hook`].
    hook: Option<WakeHook>,
    /// The host's task that makes the loop's turns; `None` while it makes one, and once it was woken. It is woken instead
    /// of the notifier: the loop does not sleep then, and the host need not find out by way of a descriptor.
    driver: Option<Waker>,
}

/// What a host is told by.
type WakeHook = Arc<dyn Fn() + Send + Sync>;

impl WakeTargets {
    pub(super) fn new(notifier: Arc<dyn Notify>) -> Self {
        Self { targets: Mutex::new(Some(Targets { notifier, hook: None, driver: None })) }
    }

    /// Makes the selector return, and tells nobody else.
    pub(super) fn notify(&self) {
        if let Some(targets) = &*lock(&self.targets) {
            targets.notifier.notify();
        }
    }

    /// Ends the sleep and tells the host.
    pub(super) fn wake(&self) {
        let mut locked = lock(&self.targets);
        let Some(targets) = &mut *locked else { return };
        let driver = targets.driver.take();
        if driver.is_none() {
            // Locked, so that no other thread still uses the descriptor when `close` has returned.
            targets.notifier.notify();
        }
        let hook = targets.hook.clone();
        drop(locked);
        if let Some(driver) = driver {
            driver.wake();
        }
        if let Some(hook) = hook {
            hook();
        }
    }

    fn set_hook(&self, hook: Option<WakeHook>) {
        // The one before is dropped with nothing locked.
        let _before = match &mut *lock(&self.targets) {
            Some(targets) => std::mem::replace(&mut targets.hook, hook),
            None => hook,
        };
    }

    /// Says whom to wake from now on; gives the one before.
    fn set_driver(&self, driver: Option<Waker>) -> Option<Waker> {
        match &mut *lock(&self.targets) {
            Some(targets) => std::mem::replace(&mut targets.driver, driver),
            None => driver,
        }
    }

    /// The loop is closed: nobody is there to be woken.
    pub(super) fn close(&self) {
        let targets = lock(&self.targets).take();
        drop(targets);
    }

    /// As `close`, in a child of `fork`.
    pub(super) fn close_inherited(&self) {
        let targets = try_lock(&self.targets).and_then(|mut targets| targets.take());
        drop(targets);
    }

    /// In a child of `fork`: wakes by this from now on. False if that cannot be.
    pub(super) fn replace_notifier(&self, notifier: Arc<dyn Notify>) -> bool {
        let Some(mut targets) = try_lock(&self.targets) else { return false };
        let before = targets.as_mut().map(|targets| std::mem::replace(&mut targets.notifier, notifier));
        drop(targets);
        drop(before);
        true
    }
}

impl EventLoop {
    /// The earliest deadline of the loop's timers; the present time if anything is ready already.
    ///
    /// For a foreign loop that hosts this one: it waits until this moment or until [`as_fd`](AsFd::as_fd) is readable,
    /// whichever comes first, and then calls [`run_once`](Self::run_once) with a timeout of zero. The moment is one of
    /// the loop's own clock; [`next_timeout`](Self::next_timeout) has the same as a time to wait, and is right for every
    /// [clock](crate::Builder::clock).
    ///
    /// Ready is also what the latest turn has left for the next one, so that no second question need be asked. A host
    /// asks anew each time before it waits: whatever is armed or scheduled in between, outside of a turn, makes the
    /// descriptor readable and calls the [hook](Self::set_wake_hook), so that a host that waits already hears of an
    /// earlier deadline, too. A timer that was cancelled is gone from here at once, and wakes no host that asks.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.core.is_ready() {
            return Some(self.time());
        }
        self.core.local.timers.borrow_mut().next_deadline()
    }

    /// How long a host may wait for [`as_fd`](AsFd::as_fd): until the [next deadline](Self::next_deadline), not at all if
    /// anything is ready, and `None` for as long as the descriptor is not readable.
    ///
    /// It is real time, also where the loop has a [clock](crate::Builder::clock) of its own. Where only a call can move
    /// that clock, as with [`ManualClock`](crate::ManualClock), a timer gives `None`: the call wakes the host.
    ///
    /// Round it up where the host counts in milliseconds: a host that wakes up too early finds nothing due, and asks again
    /// and again until it is.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let el = roundelay::EventLoop::new()?;
    /// assert_eq!(el.next_timeout(), None);
    /// let timer = el.call_later(Duration::from_secs(60), || ());
    /// assert!(el.next_timeout() > Some(Duration::from_secs(50)));
    /// el.call_soon(|| ());
    /// assert_eq!(el.next_timeout(), Some(Duration::ZERO));
    /// # el.run_once(Some(Duration::ZERO))?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn next_timeout(&self) -> Option<Duration> {
        if self.core.is_ready() {
            return Some(Duration::ZERO);
        }
        let deadline = self.core.local.timers.borrow_mut().next_deadline()?;
        self.core.sleep_until(deadline, self.time())
    }

    /// Sets a function that is called when the loop, while it is not in a turn, gets something to do: for a foreign
    /// loop that hosts this one and waits for something else than its descriptor.
    ///
    /// It is called on whichever thread gave the loop something to do, once for each time the loop was left idle; and
    /// here and now if there is something to do already. So one call asks for one turn, and turns until
    /// [`next_deadline`](Self::next_deadline) is in the future: most often it posts a message to the host, or wakes it. If it
    /// panics on the loop's own thread, that is reported to the exception handler.
    ///
    /// What it is called for is what *is given* to the loop: by other threads, by signals and wakers, by scheduling and
    /// arming timers between two turns, by [`stop`](Self::stop). Descriptors and deadlines call nobody: a loop that has a
    /// connection open needs its [descriptor](AsFd::as_fd) watched as well, and every loop its deadline.
    ///
    /// It must not run the loop, for it may be called in the middle of anything that schedules; nor may it block. At the end
    /// of a turn that leaves something for the next one it is called within [`run_once`](Self::run_once), before that
    /// returns. Setting another one, or `None`, while a call is under way on another thread does not wait for that call.
    ///
    /// ```
    /// use std::sync::{Arc, mpsc};
    /// use std::time::Duration;
    ///
    /// // A host that waits for messages, and one of them is about the loop.
    /// enum Message { TurnTheLoop, Quit }
    /// let (host, messages) = mpsc::channel();
    ///
    /// let el = roundelay::EventLoop::new()?;
    /// let (waker, quit) = (host.clone(), host);
    /// el.set_wake_hook(Some(Arc::new(move || _ = waker.send(Message::TurnTheLoop))));
    /// el.call_later(Duration::from_millis(1), move || quit.send(Message::Quit));
    /// loop {
    ///     let message = match el.next_timeout() {
    ///         Some(time) => messages.recv_timeout(time).unwrap_or(Message::TurnTheLoop),
    ///         None => messages.recv().unwrap(),
    ///     };
    ///     match message {
    ///         Message::TurnTheLoop => _ = el.run_once(Some(Duration::ZERO))?,
    ///         Message::Quit => break,
    ///     }
    /// }
    /// # std::io::Result::Ok(())
    /// ```
    pub fn set_wake_hook(&self, hook: Option<Arc<dyn Fn() + Send + Sync>>) {
        if !self.core.is_open() {
            return;
        }
        let hosted = hook.is_some();
        self.core.wake.set_hook(hook);
        if hosted && self.core.be_hosted() {
            // Whether or not somebody else was told before: this host was not.
            let _ = self.core.local.shared_ref().claim_wake();
            self.core.wake.wake();
        }
    }
}

/// The descriptor that becomes readable when the loop has something to do; for a foreign loop that hosts this one.
///
/// # The contract
///
/// A host that has this descriptor, and [`next_deadline`](EventLoop::next_deadline), needs no thread of its own for the
/// loop. Before it waits, each time, it asks for the deadline; it waits until the descriptor is readable or the deadline
/// is there; then it calls [`run_once`](EventLoop::run_once) with a timeout of zero, once.
///
/// * **What makes it readable**: events of descriptors that the loop watches, posts of other threads, signals; and whatever
///   is scheduled on the loop's own thread while it is not in a turn, a timer included, for the host has computed its wait
///   without that. What a turn leaves for the next one, too: a host that forgets to look at the deadline first is late by
///   nothing. Timers that become due do not.
/// * **Level triggered**: it stays readable until a turn has dealt with what made it so, and one turn for each wake-up is
///   enough. A host that can only be told of edges makes turns until `run_once` returns 0 before it waits for the next edge.
/// * **Spurious** wake-ups are harmless: a turn that finds nothing costs one system call.
/// * **[`stop`](EventLoop::stop)** ends the turn's run, which ends anyway: the host is not told, so code that is to end the
///   host tells it in its own way. Outside of a turn it makes the descriptor readable, and uses up the next turn.
/// * **Closing**: a turn cannot close the loop, but its owner may be dropped in one, and then the loop is closed
///   when `run_once` returns: see [`is_closed`](EventLoop::is_closed). A host that still has a deadline of a closed loop
///   makes no turn when it comes: `run_once` would panic. A loop that is closed makes its descriptor readable no
///   more, and does not pull it away from under a host that watches it: it is a duplicate of the selector's own, always the
///   same, stays open until the last handle to the loop is gone, and is lent until then, so that a host can deregister it.
/// * **The running loop**: [`get_running_loop`](crate::get_running_loop) knows the loop within a turn only. Loops do not
///   nest, so another loop of this crate, in one of its own turns, cannot be the host.
///
/// [`drive`](EventLoop::drive) does all of it where the host runs futures.
///
/// # Panics
///
/// If the loop was closed before it was first asked for its descriptor, or is that of a process that has forked this one; if
/// its selector has no descriptor, or the process has none left for the duplicate.
impl AsFd for EventLoop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        if self.core.is_open() && self.core.be_hosted() {
            self.core.local.shared_ref().wake_if_asleep();
        }
        match self.core.lend_fd() {
            Ok(fd) => fd,
            Err(error) => panic!("EventLoop::as_fd(): {error}"),
        }
    }
}

impl AsRawFd for EventLoop {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// How a host has left the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostedTurns {
    /// There was more to do than it may take at a time.
    More,
    /// There is nothing to do before something comes.
    Idle,
    /// The loop was stopped, or the root is done and what was due by then has run.
    Ended,
}

impl Core {
    /// Whether a turn would find something to do without asking the selector or the clock.
    fn is_ready(&self) -> bool {
        self.has_work() || self.stopping.get()
    }

    /// From now on whatever is scheduled outside of a turn wakes the loop, also from its own thread. True if there is
    /// something to do already.
    pub(super) fn be_hosted(&self) -> bool {
        self.hosted.set(true);
        let idle = !self.is_running();
        self.local.hosted_idle.set(idle);
        // From now on posts are told of; those before were not.
        idle && (self.local.shared_ref().inject_queue().leave() || self.has_work())
    }

    /// The selector's descriptor, as it is lent to hosts.
    pub(crate) fn lend_fd(&self) -> io::Result<BorrowedFd<'_>> {
        if let Some(fd) = self.backend_fd.get().filter(|_| !self.is_inherited()) {
            // Also of a loop that is closed: a host takes away what it has registered.
            return Ok(fd.as_fd());
        }
        let reactor = self.reactor.borrow();
        let selector = reactor.selector().filter(|_| !self.is_inherited()).ok_or(LoopClosed)?;
        let unsupported = || {
            let text = format!("the loop's selector {:?} has no descriptor", selector.name());
            io::Error::new(io::ErrorKind::Unsupported, text)
        };
        let fd = selector.backend_fd().ok_or_else(unsupported)?.try_clone_to_owned()?;
        Ok(self.backend_fd.get_or_init(|| fd).as_fd())
    }

    /// Until when, in real time, a host need not look at the loop unless it is called. The clock may be the application's.
    pub(crate) fn host_deadline(&self) -> Option<Instant> {
        let deadline = self.local.timers.borrow_mut().next_deadline()?;
        match self.clock.own() {
            None => Some(deadline),
            Some(clock) => clock.sleep_until(deadline).and_then(|time| Instant::now().checked_add(time)),
        }
    }

    /// A future of the host makes the loop's turns from now on. False if another one does.
    pub(crate) fn begin_driven(&self) -> bool {
        if self.driven.replace(true) {
            return false;
        }
        self.hosted.set(true);
        // What the future schedules before its first turn is none of the host's business.
        self.local.hosted_idle.set(false);
        true
    }

    /// Wakes this one when the loop gets something to do between two turns.
    pub(crate) fn driven_by(&self, waker: &Waker) {
        self.local.dispose(self.wake.set_driver(Some(waker.clone())));
    }

    /// The host's future is gone. Whoever hosts the loop next has to hear of what is there.
    pub(crate) fn end_driven(&self) {
        self.local.dispose(self.wake.set_driver(None));
        self.driven.set(false);
        if self.is_open() && self.be_hosted() {
            self.local.wake_host();
        }
    }

    /// Has the host's future look at the loop: for what else is done to it between two turns.
    pub(super) fn wake_driver(&self) {
        if let Some(driver) = self.wake.set_driver(None) {
            self.local.wake(driver);
        }
    }

    /// Makes turns that do not wait, one after the other, as many as a host may be kept from its own work for.
    #[track_caller]
    pub(crate) fn make_hosted_turns(
        self: &Rc<Self>,
        method: &'static str,
        mut root: Option<&mut dyn RootFuture>,
    ) -> io::Result<HostedTurns> {
        let _run = Run::enter_hosted(self, method);
        let began = Instant::now();
        for _ in 0..HOSTED_TURNS {
            self.hosted_turn(&mut root)?;
            if self.stopping.get() {
                return Ok(HostedTurns::Ended);
            }
            if root.as_ref().is_some_and(|root| root.is_done()) {
                if self.has_more() {
                    // As in `run_root`: what is scheduled, due or ready by now still runs.
                    self.stopping.set(true);
                    self.hosted_turn(&mut root)?;
                }
                return Ok(HostedTurns::Ended);
            }
            if !self.has_work() && !self.has_due() {
                return Ok(HostedTurns::Idle);
            }
            if began.elapsed() >= HOSTED_TIME {
                break;
            }
        }
        Ok(HostedTurns::More)
    }

    fn hosted_turn(&self, root: &mut Option<&mut dyn RootFuture>) -> io::Result<()> {
        match root {
            Some(root) => self.turn(Some(Duration::ZERO), Some(&mut **root)),
            None => self.turn(Some(Duration::ZERO), None),
        }
        .map(drop)
    }
}

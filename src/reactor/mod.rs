//! Which descriptor is ready. Knows wakers and slots, no tasks and no protocols.
//!
//! A [`Selector`] asks the operating system. The [`Reactor`] keeps a slot for each registered descriptor, and turns
//! what the selector says into wake-ups, callbacks and events for the loop's queue.

#[cfg(feature = "async-io")]
pub(crate) mod async_io;
#[cfg(target_os = "linux")]
pub(crate) mod epoll;
#[cfg(feature = "test-util")]
pub(crate) mod outstanding;
pub(crate) mod portable;
pub(crate) mod registration;
pub(crate) mod slot;

use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::constants::EVENTS_PER_WAIT;
use crate::error::LoopClosed;
use crate::os::fd::{AsRawFd, BorrowedFd, FdTable, RawFd, is_not_open};
use crate::os::fork::Home;
use crate::reactor::slot::{Handler, Listener, Slot, Slots};

/// What a registered descriptor is to be watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// Report when reading would not block, and when the peer has hung up.
    pub readable: bool,
    /// Report when writing would not block.
    pub writable: bool,
}

impl Interest {
    /// Nothing; errors and hang-ups may be reported all the same.
    pub const NONE: Self = Self { readable: false, writable: false };
    /// Reading.
    pub const READABLE: Self = Self { readable: true, writable: false };
    /// Writing.
    pub const WRITABLE: Self = Self { readable: false, writable: true };
    /// Reading and writing.
    pub const BOTH: Self = Self { readable: true, writable: true };
}

/// How often a condition is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In every wait for as long as it lasts.
    Level,
    /// When it begins, and again when more of it arrives.
    Edge,
}

/// What a descriptor is ready for.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Readiness(u8);

impl Readiness {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Reading would not block.
    pub const READABLE: Self = Self(1);
    /// Writing would not block.
    pub const WRITABLE: Self = Self(2);
    /// The peer has closed its side, or may have, or has sent urgent data: read until the end, or until it would block.
    pub const HANGUP: Self = Self(4);
    /// The descriptor is in error; the next call on it tells which.
    pub const ERROR: Self = Self(8);

    /// Both together.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether a reader should try: readable, hung up or in error.
    pub const fn is_readable(self) -> bool {
        self.0 & (Self::READABLE.0 | Self::HANGUP.0 | Self::ERROR.0) != 0
    }

    /// Whether a writer should try: writable or in error.
    pub const fn is_writable(self) -> bool {
        self.0 & (Self::WRITABLE.0 | Self::ERROR.0) != 0
    }

    /// Whether a short read does not mean that the descriptor is drained, because more or an end of file may follow.
    pub const fn is_hangup(self) -> bool {
        self.0 & (Self::HANGUP.0 | Self::ERROR.0) != 0
    }

    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(1, "READABLE"), (2, "WRITABLE"), (4, "HANGUP"), (8, "ERROR")];
        f.debug_set().entries(names.iter().filter(|(bit, _)| self.0 & bit != 0).map(|(_, name)| name)).finish()
    }
}

/// One thing that a wait found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The number given to [`Selector::add`].
    pub key: u64,
    /// What the descriptor is ready for.
    pub readiness: Readiness,
}

/// Ends a selector's wait from another thread.
pub trait Notify: Send + Sync {
    /// Makes the current wait return, or the next one if there is none. May be called any number of times, from any
    /// thread; it must not block, and not call the loop.
    ///
    /// Between two runs of a loop it is called only if a host has asked for it, by [`AsFd`](std::os::fd::AsFd) or
    /// [`EventLoop::set_wake_hook`](crate::EventLoop::set_wake_hook): otherwise the next run looks for what has come.
    fn notify(&self);
}

/// Asks the operating system which descriptors are ready.
///
/// The loop calls it from its own thread only, and may not be called back from in here, but through its
/// [`Remote`](crate::Remote). Implement it to build a loop on a facility of your own, and pass it to
/// [`SelectorEventLoop::with_selector`](crate::SelectorEventLoop::with_selector). The shipped ones are
/// [`selector::Epoll`](crate::selector::Epoll) and [`selector::Polling`](crate::selector::Polling).
pub trait Selector: 'static {
    /// A short name for people.
    fn name(&self) -> &'static str;

    /// Whether [`Mode::Edge`] is honoured. A selector that says no gets `Mode::Level` only.
    fn supports_edge(&self) -> bool;

    /// Registers a descriptor; events about it carry `key`, which is less than `u64::MAX - 1`.
    ///
    /// The descriptor is deleted before it is closed, unless the application closes one that it gave to `add_reader`
    /// or `add_writer`; the selector must then forget it, or report it as in error.
    ///
    /// # Errors
    ///
    /// The operating system's; `AlreadyExists` if the descriptor is registered already, `PermissionDenied` if it is of
    /// a kind that cannot be waited for (a regular file, for epoll).
    fn add(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest, mode: Mode) -> io::Result<()>;

    /// Changes what a registered descriptor is watched for. What is ready already is reported anew.
    ///
    /// # Errors
    ///
    /// The operating system's; `NotFound` if the descriptor is not registered.
    fn modify(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest, mode: Mode) -> io::Result<()>;

    /// Forgets a descriptor.
    ///
    /// # Errors
    ///
    /// The operating system's; the loop ignores them, for the descriptor may be gone.
    fn delete(&mut self, fd: BorrowedFd<'_>) -> io::Result<()>;

    /// Waits until something is ready, the notifier is called, or the time is over, and appends what is ready to
    /// `events`. `None` waits without end. Returning early is allowed.
    ///
    /// # Errors
    ///
    /// The operating system's. `Interrupted` is taken for an early return.
    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()>;

    /// What ends a wait from another thread.
    fn notifier(&self) -> Arc<dyn Notify>;

    /// Makes the selector anew in a child of `fork`: a facility of the child's own, with which nothing is registered, and a
    /// new [`notifier`](Self::notifier). What was inherited is let go of, so that the parent, which shares it, does not
    /// notice; this call and the drop of the selector must do nothing to it but close descriptors.
    ///
    /// Called for [`EventLoop::after_fork_child`](crate::EventLoop::after_fork_child), and before a child drops the selector
    /// of a loop that it has inherited. One that refuses, as this does, is leaked there.
    ///
    /// # Errors
    ///
    /// The operating system's; `Unsupported` where it cannot be done.
    fn after_fork_child(&mut self) -> io::Result<()> {
        let text = format!("the selector {:?} cannot be made anew in a child of fork()", self.name());
        Err(io::Error::new(io::ErrorKind::Unsupported, text))
    }

    /// The descriptor that becomes readable when a wait would return, if there is such a one.
    fn backend_fd(&self) -> Option<BorrowedFd<'_>>;
}

/// The best selector of the platform.
pub(crate) fn default_selector() -> io::Result<Box<dyn Selector>> {
    #[cfg(target_os = "linux")]
    return Ok(Box::new(epoll::Epoll::new()?));
    #[cfg(not(target_os = "linux"))]
    return Ok(Box::new(portable::Polling::new()?));
}

/// What an event means for the loop.
pub(crate) enum Fired<C> {
    /// Queue this callback.
    Callback(C),
    /// Queue an event for the handler of this key.
    Event(u64, Readiness),
    /// Wake this waker: of somebody who waits for this descriptor.
    Wake(Waker, RawFd),
}

/// What became of an insertion: the key, the mode, and an older slot of the same number.
type Inserted<C> = (u64, Mode, Option<Slot<C>>);

/// A selector and the slots of what is registered with it. `C` is a callback as the loop's queue takes it.
pub(crate) struct Reactor<C> {
    /// `None` once the loop is closed.
    selector: Option<Box<dyn Selector>>,
    /// The process that the selector is of. In a child of it changes are noted in the slots alone.
    home: Home,
    /// Whether the selector honours edge-triggered mode.
    edge: bool,
    /// Whether the selector may do more when it is asked than look at what is registered.
    foreign: bool,
    slots: Slots<C>,
    by_fd: FdTable,
    /// Whose handlers want another event from the next wait, whatever the selector says.
    again: Vec<u64>,
    /// The events of the latest wait; kept for its memory.
    events: Vec<Event>,
    /// Registrations made and gone, for the statistics.
    opened: u64,
    closed: u64,
}

impl<C: Clone> Reactor<C> {
    /// `foreign` says that the selector is the application's, and always to be asked.
    pub(crate) fn new(selector: Box<dyn Selector>, foreign: bool) -> Self {
        Self {
            foreign,
            edge: selector.supports_edge(),
            selector: Some(selector),
            home: Home::here(),
            slots: Slots::new(),
            by_fd: FdTable::default(),
            again: Vec::new(),
            events: Vec::with_capacity(EVENTS_PER_WAIT),
            opened: 0,
            closed: 0,
        }
    }

    pub(crate) fn selector(&self) -> Option<&dyn Selector> {
        self.selector.as_deref()
    }

    /// Registrations made and gone.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.opened, self.closed)
    }

    /// The slot of a descriptor.
    pub(crate) fn find(&mut self, fd: RawFd) -> Option<(u64, &mut Slot<C>)> {
        self.slots.at(self.by_fd.get(fd)?)
    }

    #[inline]
    pub(crate) fn get(&self, key: u64) -> Option<&Slot<C>> {
        self.slots.get(key)
    }

    /// Registers a descriptor. What the listener wants to hear of at first is `interest`.
    ///
    /// Gives the key, the mode in which it is watched, and an older slot of the same number, to be dropped with nothing
    /// borrowed.
    pub(crate) fn insert(
        &mut self,
        fd: BorrowedFd<'_>,
        interest: Interest,
        mode: Mode,
        listener: Listener<C>,
    ) -> io::Result<Inserted<C>> {
        let Some(selector) = self.selector.as_mut().filter(|_| self.home.is_here()) else {
            return Err(LoopClosed.into());
        };
        let mode = if self.edge { mode } else { Mode::Level };
        let raw = fd.as_raw_fd();
        // The selector would not refuse it. Of what is parked the descriptor is still open.
        if self.by_fd.get(raw).and_then(|index| self.slots.at(index)).is_some_and(|(_, slot)| slot.parked) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let slot = Slot { fd: raw, interest, mode, parked: false, listener };
        let key = self.slots.insert(slot);
        if let Err(error) = selector.add(fd, key, interest, mode) {
            self.slots.remove(key);
            return Err(error);
        }
        Ok((key, mode, self.inserted(raw, key)))
    }

    /// As `insert`, but the selector hears of it when there is interest in it. The descriptor must be new to the process:
    /// nobody refuses one that is registered already.
    pub(crate) fn insert_parked(
        &mut self,
        fd: BorrowedFd<'_>,
        mode: Mode,
        listener: Listener<C>,
    ) -> io::Result<Inserted<C>> {
        if self.selector.is_none() || !self.home.is_here() {
            return Err(LoopClosed.into());
        }
        let mode = if self.edge { mode } else { Mode::Level };
        let raw = fd.as_raw_fd();
        let key = self.slots.insert(Slot { fd: raw, interest: Interest::NONE, mode, parked: true, listener });
        Ok((key, mode, self.inserted(raw, key)))
    }

    /// Notes a new registration; gives an older one of the same number, which belongs to a descriptor that was closed:
    /// the kernel has given the number out anew.
    fn inserted(&mut self, raw: RawFd, key: u64) -> Option<Slot<C>> {
        self.opened += 1;
        let stale = self.by_fd.get(raw).and_then(|index| self.slots.at(index)).map(|(key, _)| key);
        let stale = stale.and_then(|key| {
            self.closed += 1;
            self.slots.remove(key)
        });
        self.by_fd.insert(raw, Slots::<C>::index(key));
        stale
    }

    /// Changes what is reported of a descriptor. A no-op where nothing changes for the selector.
    pub(crate) fn set_interest(&mut self, key: u64, fd: BorrowedFd<'_>, want: Interest) -> io::Result<()> {
        self.change_interest(key, fd, want, false)
    }

    /// As `set_interest`, and asks the selector in any case: the descriptor may have been closed behind our back, and
    /// another one may have its number now.
    pub(crate) fn renew_interest(&mut self, key: u64, fd: BorrowedFd<'_>, want: Interest) -> io::Result<()> {
        self.change_interest(key, fd, want, true)
    }

    fn change_interest(&mut self, key: u64, fd: BorrowedFd<'_>, want: Interest, renew: bool) -> io::Result<()> {
        let Some(selector) = &mut self.selector else {
            return Err(LoopClosed.into());
        };
        let Some(slot) = self.slots.get_mut(key) else {
            return Ok(());
        };
        if slot.parked && want == Interest::NONE {
            return Ok(());
        }
        // An edge is reported once and costs nothing to ignore: the reading side stays registered.
        let want = match slot.mode {
            Mode::Edge => Interest { readable: true, ..want },
            Mode::Level => want,
        };
        if !self.home.is_here() {
            slot.parked = false;
        } else if slot.parked {
            selector.add(fd, key, want, slot.mode)?;
            slot.parked = false;
        } else if renew || want != slot.interest {
            match selector.modify(fd, key, want, slot.mode) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => selector.add(fd, key, want, slot.mode)?,
                result => result?,
            }
        }
        slot.interest = want;
        Ok(())
    }

    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut Slot<C>> {
        self.slots.get_mut(key)
    }

    /// Forgets a registration; the descriptor must still be open. The slot is returned so that its listener is dropped
    /// with nothing borrowed.
    pub(crate) fn remove(&mut self, key: u64, fd: BorrowedFd<'_>) -> Option<Slot<C>> {
        let slot = self.slots.remove(key)?;
        self.by_fd.remove(slot.fd, Slots::<C>::index(key));
        self.closed += 1;
        if let (Some(selector), false, true) = (&mut self.selector, slot.parked, self.home.is_here()) {
            // A descriptor that was closed before is not registered any more: nothing to do about it.
            let _ = selector.delete(fd);
        }
        Some(slot)
    }

    /// Gives the handler of this key another event, without readiness, behind those of the next wait.
    pub(crate) fn report_again(&mut self, key: u64) {
        self.again.push(key);
    }

    /// Whether the next wait has events to give that the selector does not know of.
    pub(crate) fn has_events(&self) -> bool {
        !self.again.is_empty()
    }

    /// How many there are.
    #[inline]
    pub(crate) fn live(&self) -> u64 {
        self.opened - self.closed
    }

    /// Whether a wait of no time could find nothing.
    #[inline]
    pub(crate) fn is_bare(&self) -> bool {
        self.live() == 0 && !self.foreign
    }

    /// Asks the selector and appends what it means to `fired`.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>, fired: &mut Vec<Fired<C>>) -> io::Result<()> {
        let Some(selector) = &mut self.selector else {
            return Err(LoopClosed.into());
        };
        #[cfg(roundelay_fault)]
        if crate::os::fault::plan::take_withheld() {
            // The kernel would not have said so, or will say so again: what is ready is reported anew.
            for (key, fd, interest, mode) in self.slots.watched() {
                let _ = selector.modify(registration::borrow(fd), key, interest, mode);
            }
        }
        self.events.clear();
        match selector.wait(timeout, &mut self.events) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => result?,
        }
        for &Event { key, readiness } in &self.events {
            // A key of a slot that is gone finds nothing, also when the slot is in use again.
            let Some(slot) = self.slots.get_mut(key) else {
                continue;
            };
            slot.dispatch(key, readiness, fired);
            if slot.mode == Mode::Level && !slot.parked {
                slot.quieten(&mut **selector, key, readiness);
            }
        }
        let slots = &self.slots;
        let live = self.again.drain(..).filter(|&key| slots.get(key).is_some());
        fired.extend(live.map(|key| Fired::Event(key, Readiness::NONE)));
        Ok(())
    }

    /// In a child of `fork`: makes the selector anew and registers with it whatever is registered. Gives what ends its waits.
    pub(crate) fn after_fork_child(&mut self) -> io::Result<Arc<dyn Notify>> {
        let Some(selector) = &mut self.selector else {
            return Err(LoopClosed.into());
        };
        selector.after_fork_child()?;
        for (key, fd, interest, mode) in self.slots.watched() {
            match selector.add(registration::borrow(fd), key, interest, mode) {
                // Closed by the application, which was never told of it before.
                Err(error) if is_not_open(&error) => {}
                result => result?,
            }
        }
        self.home.move_here();
        Ok(selector.notifier())
    }

    /// Everything that has a handler.
    pub(crate) fn handlers(&self) -> Vec<Rc<dyn Handler>> {
        let handlers = self.slots.iter().filter_map(|slot| match &slot.listener {
            Listener::Handler(handler) => Some(handler.clone()),
            _ => None,
        });
        handlers.collect()
    }

    /// Ends everything: what is registered, and the selector, are returned to be dropped with nothing borrowed.
    pub(crate) fn close(&mut self) -> (Vec<Slot<C>>, Option<Box<dyn Selector>>) {
        let slots = self.slots.drain();
        let mut selector = self.selector.take();
        if !self.home.is_here() {
            // A child: the parent goes on with what it shares.
            if let Some(Err(_)) = selector.as_mut().map(|selector| selector.after_fork_child()) {
                std::mem::forget(selector.take());
            }
        } else if let Some(selector) = &mut selector {
            // As it was promised: before anything of this is closed.
            for slot in slots.iter().filter(|slot| !slot.parked) {
                let _ = selector.delete(registration::borrow(slot.fd));
            }
        }
        self.closed += slots.len() as u64;
        self.by_fd = FdTable::default();
        self.events = Vec::new();
        self.again = Vec::new();
        (slots, selector)
    }
}

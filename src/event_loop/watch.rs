//! Callbacks for descriptors: `add_reader` and its kin. Level triggered, as asyncio's.

use std::any::type_name;
use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;

use crate::error::{LoopClosed, PanicPayload};
use crate::event_loop::{Core, EventLoop, LoopReactor, LoopSlot};
use crate::os::fd::{AsFd, AsRawFd, BorrowedFd};
use crate::reactor::Mode;
use crate::reactor::slot::{Direction, Listener, Watch, Watcher};
use crate::sched::Local;
use crate::sched::context::{self, Context, Slot};
use crate::sched::handle::HandleInfo;
use crate::sched::ran::Ran;
use crate::sched::ready::Ready;

/// A callback that runs as often as it is queued: whenever its descriptor is ready, say, until it is removed or replaced.
struct Callback<F> {
    local: Rc<Local>,
    /// `None` while it runs, and once it was removed.
    call: Cell<Option<F>>,
    /// Whether it was removed or replaced: queued or not, it does not run any more.
    removed: Cell<bool>,
    context: Context,
    created_at: &'static Location<'static>,
}

impl<F> Callback<F> {
    fn info(&self) -> HandleInfo {
        HandleInfo { name: type_name::<F>(), created_at: self.created_at, when: None, is_cancelled: self.removed.get() }
    }

    /// Reports a panic.
    fn check(&self, result: Result<(), PanicPayload>, what: &str) {
        let Err(payload) = result else { return };
        let info = self.info();
        let message = format!("Exception in {what} {}", info.name);
        self.local.caught(&message, payload, Some(Rc::new(info)), Some(self.created_at));
    }
}

impl<F: FnMut() + 'static> Ready for Callback<F> {
    fn run(self: Rc<Self>) {
        let Some(mut call) = self.call.take() else {
            return;
        };
        self.local.counters.callbacks.add(1);
        let (_, left) = context::enter(Slot::Shared(self.context.clone()), || {
            let called = catch_unwind(AssertUnwindSafe(&mut call));
            self.check(called, "callback");
            if !self.removed.get() {
                self.call.set(Some(call));
                return;
            }
            let dropped = catch_unwind(AssertUnwindSafe(|| drop(call)));
            self.check(dropped, "the destructor of callback");
        });
        self.local.dispose(left);
    }

    fn about(self: Rc<Self>) -> Option<Ran> {
        (!self.removed.get()).then(|| Ran::Callback(self.info()))
    }

    fn cancel(&self) {
        self.removed.set(true);
        drop(self.call.take());
    }
}

/// A callback that is queued again and again, and runs in a copy of the current context.
pub(crate) fn repeated(
    core: &Core,
    created_at: &'static Location<'static>,
    callback: impl FnMut() + 'static,
) -> Rc<dyn Ready> {
    Rc::new(Callback {
        local: core.local.clone(),
        call: Cell::new(Some(callback)),
        removed: Cell::new(false),
        context: Context::from_slot(context::fork_current()),
        created_at,
    })
}

impl EventLoop {
    /// Calls `callback` in each turn in which `fd` is readable, or its peer has hung up.
    ///
    /// A reader that `fd` has already is replaced: it does not run any more, not even if it is queued. The descriptor
    /// must stay open until [`remove_reader`](Self::remove_reader); it should be non-blocking.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`], as an `io::Error`; `AlreadyExists` if the descriptor is used by a transport or stream of this
    /// loop, `ResourceBusy` while an operation such as [`sock_recv`](Self::sock_recv) waits to read from it;
    /// `PermissionDenied` for what cannot be waited for, such as a regular file; else the operating system's.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::os::unix::net::UnixStream;
    ///
    /// let el = roundelay::EventLoop::new()?;
    /// let (mut a, b) = UnixStream::pair()?;
    /// let (handle, mut reader) = (el.clone(), b.try_clone()?);
    /// el.add_reader(&b, move || {
    ///     let mut data = [0; 5];
    ///     reader.read_exact(&mut data).unwrap();
    ///     assert_eq!(&data, b"hello");
    ///     handle.stop();
    /// })?;
    /// a.write_all(b"hello")?;
    /// el.run_forever();
    /// assert!(el.remove_reader(&b));
    /// # std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub fn add_reader(&self, fd: impl AsFd, callback: impl FnMut() + 'static) -> io::Result<()> {
        self.add_watcher("add_reader", fd.as_fd(), Direction::Read, Location::caller(), callback)
    }

    /// Calls `callback` in each turn in which `fd` is writable, or in error. Otherwise as
    /// [`add_reader`](Self::add_reader).
    ///
    /// # Errors
    ///
    /// As [`add_reader`](Self::add_reader).
    #[track_caller]
    pub fn add_writer(&self, fd: impl AsFd, callback: impl FnMut() + 'static) -> io::Result<()> {
        self.add_watcher("add_writer", fd.as_fd(), Direction::Write, Location::caller(), callback)
    }

    /// Removes the reader of `fd`: true if there was one. On a closed loop there is none, and a descriptor that is used
    /// by a transport or stream has none. An operation that waits is not disturbed.
    pub fn remove_reader(&self, fd: impl AsFd) -> bool {
        self.remove_watcher(fd.as_fd(), Direction::Read)
    }

    /// Removes the writer of `fd`: true if there was one. On a closed loop there is none.
    pub fn remove_writer(&self, fd: impl AsFd) -> bool {
        self.remove_watcher(fd.as_fd(), Direction::Write)
    }

    fn add_watcher(
        &self,
        method: &str,
        fd: BorrowedFd<'_>,
        direction: Direction,
        created_at: &'static Location<'static>,
        callback: impl FnMut() + 'static,
    ) -> io::Result<()> {
        let core = &self.core;
        if !core.is_open() {
            return Err(LoopClosed.into());
        }
        let callback = repeated(core, created_at, callback);
        let mut reactor = core.reactor.borrow_mut();
        let Some((key, slot)) = reactor.find(fd.as_raw_fd()) else {
            // Refused, it is dropped with nothing borrowed: what it captured may look at the reactor when it goes.
            let _callback = callback.clone();
            let watch = Watch::of(direction, Watcher::Callback(callback));
            let interest = watch.interest();
            let inserted = reactor.insert(fd, interest, Mode::Level, Listener::Watch(Box::new(watch)));
            drop(reactor);
            return inserted.map(drop);
        };
        let Listener::Watch(watch) = &mut slot.listener else {
            return Err(owned(method, fd));
        };
        let place = watch.place(direction);
        if let Some(Watcher::Operation(operation)) = place {
            return Err(busy(method, fd, operation.method));
        }
        let replaced = place.replace(Watcher::Callback(callback));
        let want = watch.interest();
        let result = reactor.renew_interest(key, fd, want);
        // Refused, the descriptor is another one than before, and not watched in either direction.
        let refused = if result.is_err() { reactor.remove(key, fd) } else { None };
        drop(reactor);
        replaced.into_iter().for_each(Watcher::end);
        if let Some(Listener::Watch(watch)) = refused.map(|slot| slot.listener) {
            watch.reader.into_iter().chain(watch.writer).for_each(Watcher::end);
        }
        result
    }

    fn remove_watcher(&self, fd: BorrowedFd<'_>, direction: Direction) -> bool {
        let mut reactor = self.core.reactor.borrow_mut();
        let Some((key, slot)) = reactor.find(fd.as_raw_fd()) else {
            return false;
        };
        let Listener::Watch(watch) = &mut slot.listener else {
            return false;
        };
        let place = watch.place(direction);
        if matches!(place, Some(Watcher::Operation(_))) {
            return false;
        }
        let removed = place.take();
        let slot = reactor.watcher_left(key, fd);
        drop(reactor);
        drop(slot);
        removed.is_some_and(|removed| {
            removed.end();
            true
        })
    }
}

impl LoopReactor {
    /// Who watches the descriptor of this key.
    pub(crate) fn watch(&mut self, key: u64) -> Option<&mut Watch<Rc<dyn Ready>>> {
        match &mut self.get_mut(key)?.listener {
            Listener::Watch(watch) => Some(watch),
            _ => None,
        }
    }

    /// A watcher has left the slot of this key, which goes with the last one. It is to be dropped with nothing borrowed.
    pub(crate) fn watcher_left(&mut self, key: u64, fd: BorrowedFd<'_>) -> Option<LoopSlot> {
        let watch = self.watch(key)?;
        if watch.is_empty() {
            return self.remove(key, fd);
        }
        let want = watch.interest();
        // A descriptor that was closed meanwhile is not registered any more: there is nothing to change.
        let _ = self.set_interest(key, fd, want);
        None
    }
}

impl Watcher<Rc<dyn Ready>> {
    /// It has lost its place: a callback does not run any more, an operation finds that out.
    fn end(self) {
        match self {
            Self::Callback(callback) => callback.cancel(),
            Self::Operation(operation) => operation.wake(),
        }
    }
}

/// The error where a descriptor belongs to somebody else.
pub(crate) fn owned(method: &str, fd: BorrowedFd<'_>) -> io::Error {
    let text = format!("EventLoop::{method}(): descriptor {} is used by a transport or stream", fd.as_raw_fd());
    io::Error::new(io::ErrorKind::AlreadyExists, text)
}

/// The error where there is a callback already.
pub(crate) fn watched(method: &str, fd: BorrowedFd<'_>, direction: Direction) -> io::Error {
    let by = if direction == Direction::Read { "add_reader" } else { "add_writer" };
    let text = format!("EventLoop::{method}(): descriptor {} has a callback of {by}()", fd.as_raw_fd());
    io::Error::new(io::ErrorKind::AlreadyExists, text)
}

/// The error where another operation waits.
pub(crate) fn busy(method: &str, fd: BorrowedFd<'_>, other: &str) -> io::Error {
    let text = format!("EventLoop::{method}(): descriptor {} is waited for by {other}()", fd.as_raw_fd());
    io::Error::new(io::ErrorKind::ResourceBusy, text)
}

//! A registration that ends before its descriptor can be closed.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use crate::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use crate::reactor::slot::{Listener, Slot};
use crate::reactor::{Interest, Mode, Reactor};

/// A descriptor by its number, for a call to the selector that knows it.
pub(crate) fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: the numbers come from registered slots. Those that belong to a `Registration` are open, because it
    // deregisters before the descriptor is closed. Those of `add_reader` may have been closed by the application, and
    // the number may be free or in use for something else: the selectors make no other use of it than a call that
    // changes or ends a registration, which the kernel refuses for a descriptor that was not registered.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Keeps a descriptor registered, and deregisters it when it is dropped.
///
/// It stands before the descriptor in every structure that has both, because fields are dropped in their order.
pub(crate) struct Registration<C: Clone> {
    reactor: Rc<RefCell<Reactor<C>>>,
    key: u64,
    fd: RawFd,
    /// Whether events are edges; otherwise conditions are reported for as long as they last.
    edge: bool,
}

impl<C: Clone> Registration<C> {
    /// Registers `fd`, which must stay open for as long as the registration lives.
    pub(crate) fn new(
        reactor: &Rc<RefCell<Reactor<C>>>,
        fd: impl AsFd,
        interest: Interest,
        mode: Mode,
        listener: Listener<C>,
    ) -> io::Result<Self> {
        let fd = fd.as_fd();
        let (key, mode, stale) = reactor.borrow_mut().insert(fd, interest, mode, listener)?;
        drop(stale);
        Ok(Self { reactor: reactor.clone(), key, fd: fd.as_raw_fd(), edge: mode == Mode::Edge })
    }

    /// As `new`, for a descriptor that is new to the process, and of which nothing is to be reported before
    /// `set_interest` says what: until then the selector does not hear of it.
    pub(crate) fn parked(
        reactor: &Rc<RefCell<Reactor<C>>>,
        fd: impl AsFd,
        mode: Mode,
        listener: Listener<C>,
    ) -> io::Result<Self> {
        let fd = fd.as_fd();
        let (key, mode, stale) = reactor.borrow_mut().insert_parked(fd, mode, listener)?;
        drop(stale);
        Ok(Self { reactor: reactor.clone(), key, fd: fd.as_raw_fd(), edge: mode == Mode::Edge })
    }

    /// The number of the descriptor.
    pub(crate) fn fd(&self) -> RawFd {
        self.fd
    }

    /// Changes what is reported.
    pub(crate) fn set_interest(&self, interest: Interest) -> io::Result<()> {
        self.reactor.borrow_mut().set_interest(self.key, borrow(self.fd), interest)
    }

    /// Gives the events to somebody else, and says what it wants to hear of.
    pub(crate) fn hand_over(&self, listener: Listener<C>, interest: Interest) -> io::Result<()> {
        let mut reactor = self.reactor.borrow_mut();
        let before = reactor.get_mut(self.key).map(|slot| std::mem::replace(&mut slot.listener, listener));
        let result = reactor.set_interest(self.key, borrow(self.fd), interest);
        drop(reactor);
        drop(before);
        result
    }

    /// Asks for another event in the next turn; see `Reactor::report_again`.
    pub(crate) fn report_again(&self) {
        self.reactor.borrow_mut().report_again(self.key);
    }

    /// Whether events are edges; otherwise conditions are reported for as long as they last.
    pub(crate) fn is_edge(&self) -> bool {
        self.edge
    }
}

impl<C: Clone> Drop for Registration<C> {
    fn drop(&mut self) {
        let removed: Option<Slot<C>> = self.reactor.borrow_mut().remove(self.key, borrow(self.fd));
        // The listener may be the last owner of something that looks at the reactor when it goes.
        drop(removed);
    }
}

//! A listening socket: accepts connections and gives them to whoever made it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::{Rc, Weak};

use socket2::Socket;

use crate::constants::ACCEPT_RETRY_DELAY;
use crate::event_loop::exception::ExceptionContext;
use crate::event_loop::{Core, EventLoop, LoopRegistration};
use crate::net::options::{Domain, SocketOptions};
use crate::net::serve::Bound;
use crate::os::address::Address;
use crate::os::fd::{AsFd, BorrowedFd};
use crate::os::local::SocketFile;
use crate::os::socket::{accept, is_lost_connection, is_shortage, listen, would_block};
use crate::protocol::{Holder, SocketView};
use crate::reactor::slot::{Handler, Listener as SlotListener};
use crate::reactor::{Interest, Mode, Readiness};
use crate::sched::handle::TimerHandle;
use crate::sched::report::Exception;
use crate::transport::address::KeptAddress;

/// Takes the connections of a listener.
pub(crate) trait Acceptor {
    /// Whether another connection may come now.
    fn is_accepting(&self) -> bool;

    /// Takes a connection.
    fn accepted(&self, socket: Socket, peer_addr: KeptAddress, listener: &Listener);

    /// Something has gone wrong with a listener, or with what was to come over it.
    fn failed(&self, message: &str, exception: Exception<'_>, listener: &Listener);

    /// The loop was closed.
    fn listener_closed(&self);

    /// The loop is about to end in an orderly way.
    fn stop(&self);
}

/// A bound socket. While it serves, the loop keeps it alive.
pub(crate) struct Listener {
    me: Weak<Self>,
    core: Rc<Core>,
    acceptor: RefCell<Option<Rc<dyn Acceptor>>>,
    /// First the registration, because it has to end first; `None` while it does not listen.
    registration: RefCell<Option<LoopRegistration>>,
    /// `None` once it is closed.
    /// Shared with whoever looks at it: `close` does not wait for them.
    socket: RefCell<Option<Rc<Socket>>>,
    /// What is removed before the socket is closed.
    file: RefCell<Option<SocketFile>>,
    local_addr: KeptAddress,
    backlog: u32,
    /// What its connections are to have, though it may not come from the socket.
    options: SocketOptions,
    domain: Domain,
    /// Why nothing is accepted just now.
    pause: RefCell<Option<TimerHandle<()>>>,
    /// Whether the acceptor has asked for a rest.
    resting: Cell<bool>,
}

impl Listener {
    /// Takes over a bound socket, which does not listen yet.
    pub(crate) fn new(core: &Rc<Core>, bound: Bound, backlog: u32, options: SocketOptions) -> Rc<Self> {
        let Bound { socket, local_addr, file } = bound;
        let domain = Domain::of_address(&local_addr);
        Rc::new_cyclic(|me| Self {
            me: me.clone(),
            core: core.clone(),
            acceptor: RefCell::new(None),
            registration: RefCell::new(None),
            local_addr,
            socket: RefCell::new(Some(Rc::new(socket))),
            file: RefCell::new(file),
            backlog,
            options,
            domain,
            pause: RefCell::new(None),
            resting: Cell::new(false),
        })
    }

    pub(crate) fn local_addr(&self) -> &KeptAddress {
        &self.local_addr
    }

    pub(crate) fn view(&self) -> SocketView {
        let holder: Weak<dyn Holder> = self.me.clone();
        SocketView::new(holder)
    }

    /// Listens and accepts from now on.
    pub(crate) fn start(self: &Rc<Self>, acceptor: Rc<dyn Acceptor>) -> io::Result<()> {
        let socket = self.socket.borrow();
        let Some(socket) = &*socket else { return Ok(()) };
        listen(socket, self.backlog)?;
        *self.acceptor.borrow_mut() = Some(acceptor);
        let slot = SlotListener::Handler(self.clone() as Rc<dyn Handler>);
        let registration =
            LoopRegistration::new(&self.core.reactor, socket.as_fd(), Interest::READABLE, Mode::Level, slot)?;
        *self.registration.borrow_mut() = Some(registration);
        Ok(())
    }

    /// Closes the socket; nobody can connect any more.
    pub(crate) fn close(&self) {
        if let Some(timer) = self.pause.take() {
            timer.cancel();
        }
        drop(self.registration.take());
        if let Some(file) = self.file.take() {
            self.remove(&file);
        }
        drop(self.socket.take());
        let acceptor = self.acceptor.take();
        drop(acceptor);
    }

    /// Removes the file of the socket, which is still open: so nobody takes the file for a stale one meanwhile.
    fn remove(&self, file: &SocketFile) {
        if let Err(error) = file.remove_own() {
            note!(WARN, "roundelay", "cannot remove the socket file {:?}: {error}", file.path());
        }
    }

    /// Stops accepting until `wake`.
    pub(crate) fn rest(&self) {
        self.resting.set(true);
        self.update_interest();
    }

    /// Accepts again.
    pub(crate) fn wake(&self) {
        if self.resting.replace(false) {
            self.update_interest();
        }
    }

    fn update_interest(&self) {
        // While the loop closes, connections end that made room, and nobody can come any more.
        if !self.core.is_open() {
            return;
        }
        let idle = self.resting.get() || self.pause.borrow().is_some();
        let interest = if idle { Interest::NONE } else { Interest::READABLE };
        let result = match &*self.registration.borrow() {
            Some(registration) => registration.set_interest(interest),
            None => Ok(()),
        };
        if let Err(error) = result {
            self.report("a listening socket cannot be watched just now", &error);
            self.try_later();
        }
    }

    fn report(&self, message: &str, error: &io::Error) {
        let acceptor = self.acceptor.borrow().clone();
        if let Some(acceptor) = acceptor {
            acceptor.failed(message, Exception::Error(error), self);
        }
    }

    /// Nothing can be accepted just now: tells of it once, and tries again later.
    fn pause(&self, message: &str, error: &io::Error) {
        self.report(message, error);
        self.try_later();
        self.update_interest();
    }

    fn try_later(&self) {
        // Whoever was told may have closed it.
        if self.pause.borrow().is_some() || self.registration.borrow().is_none() {
            return;
        }
        let me = self.me.clone();
        let timer = EventLoop::handle(self.core.clone()).call_later(ACCEPT_RETRY_DELAY, move || {
            if let Some(this) = me.upgrade() {
                drop(this.pause.take());
                this.update_interest();
            }
        });
        *self.pause.borrow_mut() = Some(timer);
    }

    fn accept_one(&self) -> io::Result<Option<(Socket, Option<Address>)>> {
        match &*self.socket.borrow() {
            Some(socket) => accept(socket.as_fd()).map(Some),
            None => Ok(None),
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<listening socket")?;
        let (ip, unix) = (self.local_addr.ip(), self.local_addr.unix());
        if let Some(address) = ip.map(Address::Ip).or_else(|| unix.map(Address::Unix)) {
            write!(f, " {address}")?;
        }
        f.write_str(">")
    }
}

impl Handler for Listener {
    fn on_ready(self: Rc<Self>, _: Readiness) {
        let Some(acceptor) = self.acceptor.borrow().clone() else { return };
        for _ in 0..self.backlog.max(1) {
            if self.resting.get() || self.pause.borrow().is_some() || !acceptor.is_accepting() {
                return;
            }
            match self.accept_one() {
                Ok(Some((socket, peer_addr))) => {
                    self.options.apply_to_accepted(&socket, self.domain);
                    acceptor.accepted(socket, peer_addr.into(), &self);
                }
                Ok(None) => return,
                Err(error) if would_block(&error) => return,
                // The client gave up while it was waiting: the others are still there.
                Err(error) if is_lost_connection(&error) => {}
                Err(error) if is_shortage(&error) => {
                    return self.pause("socket.accept() out of system resource", &error);
                }
                // It may be there in the next turn, and in all others: without a pause the loop would spin.
                Err(error) => return self.pause("socket.accept() failed", &error),
            }
        }
    }

    fn about(self: Rc<Self>) -> Rc<dyn fmt::Debug> {
        self
    }

    fn on_close(self: Rc<Self>) {
        let acceptor = self.acceptor.borrow().clone();
        if let Some(acceptor) = acceptor {
            acceptor.listener_closed();
        }
        self.close();
    }

    fn stop_accepting(self: Rc<Self>) {
        let acceptor = self.acceptor.borrow().clone();
        if let Some(acceptor) = acceptor {
            acceptor.stop();
        }
    }
}

impl Holder for Listener {
    fn with_fd(&self, f: &mut dyn FnMut(BorrowedFd<'_>)) {
        let socket = self.socket.borrow().clone();
        if let Some(socket) = socket {
            f(socket.as_fd());
        }
    }
}

impl ExceptionContext<'_> {
    /// The socket concerned.
    pub fn socket(&self) -> Option<&SocketView> {
        self.subject()
    }
}

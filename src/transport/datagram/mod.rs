//! A transport over a datagram socket.
//!
//! As with a stream's transport (see there), no method calls the protocol: what there is to tell, which here includes the
//! errors of datagrams, is told by whoever deals with an event or an action of the transport, when it is done with that.
//!
//! Reading takes several datagrams with one system call, into room that all endpoints of a loop share, and what the
//! protocol answers to them is gathered there and sent with one system call, too, before anything else is done.

mod end;
mod mail;
mod receive;
mod send;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::task::Waker;
use std::time::Duration;

use socket2::Socket;

use crate::constants::UNIX_SEND_RETRY;
use crate::event_loop::{Core, EventLoop, LoopRegistration};
use crate::os::address::Address;
use crate::os::fd::{AsFd, AsRawFd, BorrowedFd};
use crate::os::socket::local_addr;
use crate::protocol::erased::Called;
use crate::protocol::{
    AnyDatagramProtocol, BaseTransport, DatagramHandle, ExtraInfo, Holder, SocketView, TransportId, WaiterId,
};
use crate::reactor::slot::{End, Handler, Listener};
use crate::reactor::{Interest, Mode, Readiness};
use crate::sched::context::{self, Slot};
use crate::sched::handle::TimerHandle;
use crate::sched::ran::Ran;
use crate::sched::ready::{Item, Ready};
use crate::transport::actions::{Action, Actions};
use crate::transport::at_work::AtWork;
use crate::transport::datagram::mail::Mail;
use crate::transport::datagram::send::Queue;
use crate::transport::flow::Flow;
use crate::transport::lifecycle::{Close, Lifecycle};

/// Where a datagram goes that has no address of its own.
#[derive(Debug)]
pub(crate) enum Peer {
    /// Nowhere.
    None,
    /// To whom the socket is connected to, who may have no name.
    Connected(Option<Address>),
    /// To an address that the socket is not connected to: anybody may answer.
    Preset(Address),
}

/// What a new transport is made of.
pub(crate) struct Parts {
    pub(crate) protocol: AnyDatagramProtocol,
    /// The context that all callbacks run in.
    pub(crate) context: Slot,
    pub(crate) peer: Peer,
    /// Whether it is a unix socket.
    pub(crate) is_unix: bool,
    /// Where the application made it.
    pub(crate) created_at: &'static Location<'static>,
}

/// The open socket. The registration stands first, because it has to end first.
struct Io {
    registration: LoopRegistration,
    /// Shared with whoever looks at it, who may end the endpoint meanwhile.
    socket: Rc<Socket>,
}

/// In place of a turn.
const NOT_MADE: u64 = u64::MAX;

pub(crate) struct DatagramSocket {
    me: Weak<Self>,
    core: Rc<Core>,
    id: TransportId,
    /// `None` once the endpoint is gone.
    io: RefCell<Option<Io>>,
    life: Cell<Lifecycle>,
    flow: Cell<Flow>,
    queue: RefCell<Queue>,
    /// `None` once the endpoint is gone.
    protocol: RefCell<Option<AnyDatagramProtocol>>,
    /// The context that all callbacks run in; empty while one does.
    context: Cell<Slot>,
    actions: Cell<Actions>,
    /// Whether an event or an action is being dealt with: whoever does that also tells what there is to tell.
    busy: Cell<bool>,
    /// What the protocol was last told about writing.
    told_paused: Cell<bool>,
    /// Errors of datagrams that the protocol was not told of.
    errors: RefCell<VecDeque<io::Error>>,
    /// The turn in which `connection_made` was called, or `NOT_MADE`: reading begins in the next one.
    made_in: Cell<u64>,
    /// Whether an event is asked for that tells nothing new: reading goes on with it.
    reads_on: Cell<bool>,
    /// Whether a read is worth trying.
    readable: Cell<bool>,
    /// Whether nothing is to be received for now.
    paused: Cell<bool>,
    /// Whether an error may wait behind the last datagram: the socket is not drained until it says so.
    more: Cell<bool>,
    /// Whether what is sent just now is gathered.
    gathering: Cell<bool>,
    /// What the endpoints of a loop share.
    mail: Rc<Mail>,
    peer: Peer,
    is_unix: bool,
    /// The address of this end, once the socket is closed.
    local_addr: RefCell<Option<Address>>,
    /// When to try to send again without an event.
    retry: RefCell<Option<TimerHandle<()>>>,
    /// How long to wait for that.
    retry_after: Cell<Duration>,
    /// Why the endpoint was lost, for `connection_lost`.
    error: Cell<Option<io::Error>>,
    /// The kind of that error, for those who come later.
    error_kind: Cell<Option<io::ErrorKind>>,
    /// Who waits for writing not to be paused.
    waiters: RefCell<Vec<(WaiterId, Waker)>>,
    /// Datagrams that were to be sent since the endpoint was lost.
    lost_writes: Cell<u32>,
    created_at: &'static Location<'static>,
}

impl DatagramSocket {
    /// A transport over a non-blocking socket that is not registered yet.
    pub(crate) fn open(el: &EventLoop, socket: Socket, parts: Parts) -> io::Result<Rc<Self>> {
        let core = &el.core;
        core.local.counters.transports.opened();
        let this = Rc::new_cyclic(|me: &Weak<Self>| Self {
            me: me.clone(),
            core: core.clone(),
            id: TransportId::next(),
            io: RefCell::new(None),
            life: Cell::new(Lifecycle::new()),
            flow: Cell::new(Flow::new()),
            queue: RefCell::default(),
            protocol: RefCell::new(Some(parts.protocol)),
            context: Cell::new(parts.context),
            actions: Cell::new(Actions::default()),
            busy: Cell::new(false),
            told_paused: Cell::new(false),
            errors: RefCell::default(),
            made_in: Cell::new(NOT_MADE),
            reads_on: Cell::new(false),
            readable: Cell::new(false),
            paused: Cell::new(false),
            more: Cell::new(false),
            gathering: Cell::new(false),
            mail: core.service(el),
            peer: parts.peer,
            is_unix: parts.is_unix,
            local_addr: RefCell::new(None),
            retry: RefCell::new(None),
            retry_after: Cell::new(UNIX_SEND_RETRY),
            error: Cell::new(None),
            error_kind: Cell::new(None),
            waiters: RefCell::default(),
            lost_writes: Cell::new(0),
            created_at: parts.created_at,
        });
        let listener = Listener::Handler(this.clone() as Rc<dyn Handler>);
        match LoopRegistration::new(&core.reactor, &socket, Interest::READABLE, Mode::Edge, listener) {
            Ok(registration) => {
                *this.io.borrow_mut() = Some(Io { registration, socket: Rc::new(socket) });
                Ok(this)
            }
            Err(error) => {
                this.forget();
                Err(error)
            }
        }
    }

    /// The handle of the transport.
    pub(crate) fn handle(&self) -> DatagramHandle {
        DatagramHandle::new(self.me())
    }

    fn me(&self) -> Rc<Self> {
        self.me.upgrade().expect("a method is called through an Rc")
    }

    /// Tells the protocol, in a turn of its own, that the endpoint is there.
    pub(crate) fn make_connection_soon(&self) {
        self.enqueue(Action::Made);
    }

    fn make_connection(&self) {
        self.made_in.set(self.core.turn_number());
        note!(DEBUG, "roundelay::io", "{self:?}: connection made");
        let called = self.call(|protocol, handle| protocol.connection_made(handle));
        if let Some(Err(payload)) = called {
            self.report("Exception in callback connection_made", payload);
        }
        if !self.life.get().is_lost() {
            self.update_interest();
        }
    }

    /// Whether the protocol was told that the endpoint is there.
    pub(crate) fn is_made(&self) -> bool {
        self.made_in.get() != NOT_MADE || self.life.get().is_gone()
    }

    /// Whether reading may have begun.
    fn has_begun(&self) -> bool {
        self.made_in.get() < self.core.turn_number()
    }

    /// Does something with no callback on the stack, and then tells the protocol what came of it.
    fn deal(&self, f: impl FnOnce()) {
        self.busy.set(true);
        f();
        self.tell();
        self.busy.set(false);
        if !self.errors.borrow().is_empty() && !self.life.get().is_gone() {
            // Errors of what was sent when errors were told: the others first.
            self.enqueue(Action::Tell);
        }
    }

    /// Calls the protocol, in its context. `None` if there is none any more.
    fn call<R>(&self, f: impl FnOnce(&AnyDatagramProtocol, &DatagramHandle) -> Called<R>) -> Option<Called<R>> {
        let protocol = self.protocol.borrow().clone()?;
        let handle = self.handle();
        // No guard brings the outer context back: callbacks do not unwind.
        let outer = context::swap(self.context.replace(Slot::EMPTY));
        let result = f(&protocol, &handle);
        if protocol.is_last() {
            // It was replaced meanwhile.
            self.release("a protocol", protocol);
        }
        self.context.set(context::swap(outer));
        Some(result)
    }

    /// Puts an action into the loop's queue, unless it is there.
    fn enqueue(&self, action: Action) {
        let mut actions = self.actions.get();
        if actions.push(action) {
            self.actions.set(actions);
            self.core.local.push(Item::Callback(self.me()));
        }
    }

    /// There may be something to tell: by whoever is at it, or in a turn of its own.
    fn tell_soon(&self) {
        if !self.busy.get() {
            self.enqueue(Action::Tell);
        }
    }

    /// An error of a datagram.
    fn note_error(&self, error: io::Error) {
        self.errors.borrow_mut().push_back(error);
        self.tell_soon();
    }

    /// Tells the protocol of errors, and to pause or resume writing, if there is something to tell. Only called with no
    /// callback on the stack.
    #[inline]
    fn tell(&self) {
        self.tell_errors();
        if self.told_paused.get() != self.flow.get().is_paused() {
            self.tell_change();
        }
    }

    /// Tells of the errors that there are now.
    fn tell_errors(&self) {
        let count = self.errors.borrow().len();
        for _ in 0..count {
            let Some(error) = ({ self.errors.borrow_mut().pop_front() }) else { return };
            if let Some(Err(payload)) = self.call(|protocol, handle| protocol.error_received(handle, error)) {
                self.report("Exception in callback error_received", payload);
            }
        }
    }

    #[cold]
    fn tell_change(&self) {
        while !self.life.get().is_gone() && self.told_paused.get() != self.flow.get().is_paused() {
            let pause = self.flow.get().is_paused();
            self.told_paused.set(pause);
            let (name, called) = if pause {
                ("pause_writing", self.call(|protocol, handle| protocol.pause_writing(handle)))
            } else {
                ("resume_writing", self.call(|protocol, handle| protocol.resume_writing(handle)))
            };
            if let Some(Err(payload)) = called {
                self.report(&format!("protocol.{name}() failed"), payload);
            }
        }
    }

    fn update_life<R>(&self, f: impl FnOnce(&mut Lifecycle) -> R) -> R {
        let mut life = self.life.get();
        let result = f(&mut life);
        self.life.set(life);
        result
    }

    /// Whether datagrams are to be received.
    fn receives(&self) -> bool {
        self.life.get().is_reading() && !self.paused.get()
    }

    fn is_edge(&self) -> bool {
        self.io.borrow().as_ref().is_some_and(|io| io.registration.is_edge())
    }

    /// Says what is to be reported.
    fn update_interest(&self) {
        let readable = self.receives();
        let writable = !self.queue.borrow().is_empty() && !self.waits_in_vain();
        self.set_interest(Interest { readable, writable });
    }

    fn set_interest(&self, interest: Interest) {
        let result = match &*self.io.borrow() {
            Some(io) => io.registration.set_interest(interest),
            None => Ok(()),
        };
        if let Err(error) = result {
            self.fail(error);
        }
    }
}

impl Handler for DatagramSocket {
    fn on_ready(self: Rc<Self>, readiness: Readiness) {
        self.deal(|| {
            if readiness.is_readable() {
                self.readable.set(true);
                if readiness.is_hangup() {
                    self.more.set(true);
                }
            } else {
                self.reads_on.set(false);
            }
            if self.has_begun() {
                self.read();
            } else if self.readable.get() {
                // Whoever waits for the endpoint comes first.
                self.read_on();
            }
            if readiness.is_writable() {
                self.flush();
            }
        });
    }

    fn about(self: Rc<Self>) -> Rc<dyn fmt::Debug> {
        let protocol = self.protocol.borrow().as_ref().map(|protocol| protocol.type_name());
        Rc::new(AtWork::new(self, protocol))
    }

    #[cfg(feature = "test-util")]
    fn awaits(self: Rc<Self>) -> Interest {
        Interest { readable: self.receives(), writable: !self.queue.borrow().is_empty() }
    }

    fn on_close(self: Rc<Self>) {
        if !self.life.get().is_closing() {
            self.core.resource_warning(format_args!("unclosed transport {self:?}"), Some(self.created_at));
        }
        self.forget();
    }

    fn end(self: Rc<Self>, how: End) {
        match how {
            // By its full name: through an `Rc`, `Ready` has a `close` as well.
            End::Flush => BaseTransport::close(&*self),
            End::Now => self.abort(),
        }
    }

    fn unfinished(self: Rc<Self>) -> Option<Rc<dyn Any>> {
        Some(Rc::new(self.handle()))
    }
}

impl Ready for DatagramSocket {
    fn run(self: Rc<Self>) {
        let mut actions = self.actions.get();
        let action = actions.pop();
        self.actions.set(actions);
        self.deal(|| match action {
            Some(Action::Made) => self.make_connection(),
            Some(Action::Write) => self.flush(),
            Some(Action::Lost) => self.connection_lost(),
            Some(Action::Read | Action::Tell) | None => {}
        });
    }

    fn about(self: Rc<Self>) -> Option<Ran> {
        Some(Ran::Event(Handler::about(self)))
    }
}

impl Holder for DatagramSocket {
    fn with_fd(&self, f: &mut dyn FnMut(BorrowedFd<'_>)) {
        // An option counts for what is sent after it was set.
        self.send_gathered();
        let socket = self.io.borrow().as_ref().map(|io| io.socket.clone());
        if let Some(socket) = socket {
            f(socket.as_fd());
        }
    }
}

impl BaseTransport for DatagramSocket {
    fn created_at(&self) -> Option<&'static Location<'static>> {
        Some(self.created_at)
    }

    fn id(&self) -> TransportId {
        self.id
    }

    fn is_closing(&self) -> bool {
        self.life.get().is_closing()
    }

    fn close(&self) {
        self.send_gathered();
        let queue_is_empty = self.queue.borrow().is_empty();
        match self.update_life(|life| life.close(queue_is_empty)) {
            Close::Already => {}
            Close::Flush => self.update_interest(),
            Close::Lose => {
                self.set_interest(Interest::NONE);
                self.enqueue(Action::Lost);
            }
        }
    }

    fn abort(&self) {
        self.send_gathered();
        self.lose(None);
    }

    fn extra_info(&self) -> ExtraInfo {
        let local_addr = match &*self.io.borrow() {
            Some(io) => local_addr(&io.socket).ok(),
            None => self.local_addr.borrow().clone(),
        };
        let peer_addr = match &self.peer {
            Peer::Connected(address) => address.as_ref(),
            Peer::None | Peer::Preset(_) => None,
        };
        let holder: Weak<dyn Holder> = self.me.clone();
        ExtraInfo {
            local_addr: local_addr.as_ref().and_then(Address::as_ip),
            peer_addr: peer_addr.and_then(Address::as_ip),
            unix_local_addr: local_addr.as_ref().and_then(Address::as_unix).cloned(),
            unix_peer_addr: peer_addr.and_then(Address::as_unix).cloned(),
            socket: Some(SocketView::new(holder)),
            ..ExtraInfo::default()
        }
    }
}

impl fmt::Debug for DatagramSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let life = self.life.get();
        write!(f, "<DatagramTransport {}", self.id)?;
        if life.is_closing() {
            f.write_str(if life.is_gone() { " closed" } else { " closing" })?;
        }
        if let Ok(io) = self.io.try_borrow() {
            if let Some(io) = &*io {
                write!(f, " fd={}", io.socket.as_raw_fd())?;
            }
        }
        if let Peer::Connected(Some(peer)) | Peer::Preset(peer) = &self.peer {
            write!(f, " peer={peer}")?;
        }
        if life.is_gone() {
            return f.write_str(">");
        }
        let read = if self.receives() { "polling" } else { "idle" };
        let size = self.queue.try_borrow().map_or(0, |queue| queue.size());
        let write = if size > 0 { "polling" } else { "idle" };
        write!(f, " read={read} write=<{write}, bufsize={size}>>")
    }
}

impl Drop for DatagramSocket {
    fn drop(&mut self) {
        // A transport is kept alive by its registration until it is gone; this one was never registered.
        self.forget();
    }
}

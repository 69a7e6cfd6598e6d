//! A transport over a stream socket.
//!
//! The problem is reentrancy. A protocol's callbacks take `&mut self` and may call any method of any transport, from
//! anywhere: a task that looks into the protocol may write, a destructor may close. So no method here calls the
//! protocol. What is to be told is put into the loop's queue as an [`Action`], or, while a callback of this transport
//! runs, told by whoever called that callback as soon as it returns.
//!
//! Reading is edge triggered where the selector can: the registration is made once and never changed for reading. A
//! short read means that the socket is drained, unless the event said that more may follow (an end of file, urgent data)
//! or a unix peer sent descriptors, at which a read stops short. Pausing merely stops reading, and remembers whether
//! something may be waiting.

mod end;
mod read;
mod sendfile;
mod write;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use socket2::{SockRef, Socket};

use crate::event_loop::{Core, EventLoop, LoopRegistration};
use crate::os::fd::{AsRawFd, RawFd};
use crate::protocol::erased::Called;
use crate::protocol::{
    AnyProtocol, BaseTransport, ExtraInfo, FileSink, SocketHolder, SocketView, StreamTransport, Transport, TransportId,
    WaiterId,
};
use crate::reactor::slot::{End, Handler, Listener};
use crate::reactor::{Interest, Mode, Readiness};
use crate::sched::context::{self, Slot};
use crate::sched::handle::TimerHandle;
use crate::sched::ready::{Item, Ready};
use crate::transport::actions::{Action, Actions};
use crate::transport::address::Address;
use crate::transport::flow::Flow;
use crate::transport::lifecycle::{Close, Lifecycle};
use crate::transport::queue::WriteQueue;

/// Hears of the end of a transport: its server.
pub(crate) trait Owner {
    fn transport_lost(&self, place: usize);
}

/// What a new transport is made of.
pub(crate) struct Parts {
    pub(crate) protocol: AnyProtocol,
    /// The context that all callbacks run in.
    pub(crate) context: Slot,
    pub(crate) local_addr: Option<SocketAddr>,
    pub(crate) peer_addr: Option<SocketAddr>,
}

/// The open socket. The registration stands first, because it has to end first.
struct Io {
    registration: LoopRegistration,
    socket: Socket,
}

/// In place of a turn.
const NOT_MADE: u64 = u64::MAX;

/// The time after which a silent connection is ended.
struct IdleLimit {
    limit: Duration,
    timer: TimerHandle<()>,
    /// When bytes last went in either direction.
    active_at: Instant,
}

/// How a protocol takes what arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    /// It was not asked yet.
    Unknown,
    /// From the loop's buffer.
    Lent,
    /// Into a buffer of its own.
    Buffered,
}

/// What few connections ever need: most of them are idle most of the time, and there may be very many.
#[derive(Default)]
struct Rare {
    /// What a protocol gave back, for the next one or for the next read.
    unread: Vec<u8>,
    /// Why the connection was lost, for `connection_lost`.
    error: Option<io::Error>,
    /// The kind of that error, for those who come later.
    error_kind: Option<io::ErrorKind>,
    /// Who waits for writing not to be paused.
    waiters: Vec<(WaiterId, Waker)>,
    /// The most bytes that may be queued.
    cap: Option<usize>,
    /// Writes since the connection was lost.
    lost_writes: u32,
    idle: Option<IdleLimit>,
    file: Option<sendfile::File>,
}

pub(crate) struct SocketTransport {
    me: Weak<Self>,
    core: Rc<Core>,
    id: TransportId,
    /// `None` once the connection is gone.
    io: RefCell<Option<Io>>,
    life: Cell<Lifecycle>,
    flow: Cell<Flow>,
    queue: RefCell<WriteQueue>,
    /// `None` once the connection is gone.
    protocol: RefCell<Option<AnyProtocol>>,
    /// How that one takes what arrives.
    takes: Cell<Takes>,
    /// The context that all callbacks run in; empty while one does.
    context: Cell<Slot>,
    actions: Cell<Actions>,
    /// Whether an event or an action is being dealt with: whoever does that also tells what there is to tell.
    busy: Cell<bool>,
    /// What the protocol was last told about writing.
    told_paused: Cell<bool>,
    /// The turn in which `connection_made` was called, or `NOT_MADE`: reading begins in the next one.
    made_in: Cell<u64>,
    /// Whether an event is asked for that tells nothing new: reading goes on with it.
    reads_on: Cell<bool>,
    /// Whether a read is worth trying.
    readable: Cell<bool>,
    /// Whether more may follow a short read: it does not mean that the socket is drained.
    more: Cell<bool>,
    /// How many bytes of what was given back, at its end, the present protocol has not seen: they are delivered without
    /// waiting for more.
    unseen: Cell<usize>,
    /// Whether the present protocol has been given nothing yet.
    fresh: Cell<bool>,
    /// Made when first used. Borrowed for a moment only, while no code of the application's runs.
    rare: RefCell<Option<Box<Rare>>>,
    /// The server, and the place that this connection has with it.
    owner: Cell<Option<(Rc<dyn Owner>, usize)>>,
    local_addr: Cell<Address>,
    /// Of a socket of the internet's it is known.
    peer_addr: Address,
}

impl SocketTransport {
    fn make(core: &Rc<Core>, parts: Parts) -> Rc<Self> {
        core.counters.transports.opened();
        Rc::new_cyclic(|me: &Weak<Self>| Self {
            me: me.clone(),
            core: core.clone(),
            id: TransportId::next(),
            io: RefCell::new(None),
            life: Cell::new(Lifecycle::new()),
            flow: Cell::new(Flow::new()),
            queue: RefCell::new(WriteQueue::default()),
            protocol: RefCell::new(Some(parts.protocol)),
            takes: Cell::new(Takes::Unknown),
            context: Cell::new(parts.context),
            actions: Cell::new(Actions::default()),
            busy: Cell::new(false),
            told_paused: Cell::new(false),
            made_in: Cell::new(NOT_MADE),
            reads_on: Cell::new(false),
            readable: Cell::new(false),
            more: Cell::new(false),
            unseen: Cell::new(0),
            fresh: Cell::new(true),
            rare: RefCell::new(None),
            owner: Cell::new(None),
            local_addr: Cell::new(parts.local_addr.into()),
            peer_addr: parts.peer_addr.into(),
        })
    }

    /// A transport over a connection that was just accepted. The selector hears of it when it was made: a connection
    /// that its protocol turns down at once costs nothing there.
    pub(crate) fn open_accepted(core: &Rc<Core>, socket: Socket, parts: Parts) -> io::Result<Rc<Self>> {
        let this = Self::make(core, parts);
        let listener = Listener::Handler(this.clone() as Rc<dyn Handler>);
        this.keep(LoopRegistration::parked(&core.reactor, &socket, Mode::Edge, listener), socket)
    }

    /// A transport over a connected, non-blocking socket that is not registered yet.
    pub(crate) fn open(core: &Rc<Core>, socket: Socket, parts: Parts) -> io::Result<Rc<Self>> {
        let this = Self::make(core, parts);
        let listener = Listener::Handler(this.clone() as Rc<dyn Handler>);
        this.keep(LoopRegistration::new(&core.reactor, &socket, Interest::READABLE, Mode::Edge, listener), socket)
    }

    fn keep(self: Rc<Self>, registration: io::Result<LoopRegistration>, socket: Socket) -> io::Result<Rc<Self>> {
        match registration {
            Ok(registration) => {
                *self.io.borrow_mut() = Some(Io { registration, socket });
                Ok(self)
            }
            Err(error) => {
                self.forget();
                Err(error)
            }
        }
    }

    /// A transport over a connected socket whose registration somebody else has used so far, for another interest: the
    /// change makes the selector report anew what is there already.
    pub(crate) fn adopt(
        core: &Rc<Core>,
        registration: LoopRegistration,
        socket: Socket,
        parts: Parts,
    ) -> io::Result<Rc<Self>> {
        let this = Self::make(core, parts);
        let handed = registration.hand_over(Listener::Handler(this.clone() as Rc<dyn Handler>), Interest::READABLE);
        *this.io.borrow_mut() = Some(Io { registration, socket });
        if let Err(error) = handed {
            this.forget();
            return Err(error);
        }
        Ok(this)
    }

    /// The handle of the transport.
    pub(crate) fn transport(&self) -> Transport {
        Transport::new(self.me())
    }

    fn me(&self) -> Rc<Self> {
        self.me.upgrade().expect("a method is called through an Rc")
    }

    /// Tells the protocol at once that the connection stands. Only called with no callback on the stack.
    pub(crate) fn make_connection(&self) {
        self.deal(|| {
            self.made_in.set(self.core.turn_number());
            let called = self.call(|protocol, transport| protocol.connection_made(transport));
            if let Some(Err(payload)) = called {
                // As in asyncio, the connection goes on.
                self.report("Exception in callback connection_made", payload);
            }
            if !self.life.get().is_lost() {
                self.update_interest();
            }
        });
    }

    /// Whether the protocol was told that the connection stands.
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
    }

    /// As `make_connection`, in a turn of its own.
    pub(crate) fn make_connection_soon(&self) {
        self.enqueue(Action::Made);
    }

    /// Says who is to hear of the end.
    pub(crate) fn set_owner(&self, owner: Rc<dyn Owner>, place: usize) {
        self.owner.set(Some((owner, place)));
    }

    /// Changes what is rare, which is made for it if need be.
    fn rare<R>(&self, f: impl FnOnce(&mut Rare) -> R) -> R {
        f(self.rare.borrow_mut().get_or_insert_default())
    }

    /// Looks at what is rare, or changes it, where it is there.
    #[inline]
    fn if_rare<R>(&self, f: impl FnOnce(&mut Rare) -> R) -> Option<R> {
        self.rare.borrow_mut().as_deref_mut().map(f)
    }

    /// Ends the connection when nothing was received or sent for so long.
    pub(crate) fn set_idle_limit(&self, limit: Duration) {
        let idle = IdleLimit { limit, timer: self.arm_idle(limit), active_at: self.core.now() };
        let before = self.rare(|rare| rare.idle.replace(idle));
        drop(before);
    }

    fn arm_idle(&self, delay: Duration) -> TimerHandle<()> {
        let me = self.me.clone();
        EventLoop::handle(self.core.clone()).call_later(delay, move || {
            if let Some(this) = me.upgrade() {
                this.check_idle();
            }
        })
    }

    /// Bytes went. A callback may have taken long before it wrote, so the time of the turn would not do.
    #[inline]
    fn note_activity(&self) {
        if self.if_rare(|rare| rare.idle.is_some()) == Some(true) {
            // The clock may be the application's.
            let now = self.core.now();
            self.if_rare(|rare| rare.idle.as_mut().map(|idle| idle.active_at = now));
        }
    }

    fn check_idle(&self) {
        let idle = self.if_rare(|rare| rare.idle.as_ref().map(|idle| (idle.limit, idle.active_at))).flatten();
        let Some((limit, active_at)) = idle else { return };
        let silent = self.core.now().saturating_duration_since(active_at);
        if silent >= limit {
            self.fail(io::Error::new(io::ErrorKind::TimedOut, format!("nothing was received or sent for {limit:?}")));
            return;
        }
        let timer = self.arm_idle(limit - silent);
        let before = self.if_rare(|rare| rare.idle.as_mut().map(|idle| std::mem::replace(&mut idle.timer, timer)));
        drop(before);
    }

    /// Calls the protocol, in its context. `None` if there is none any more.
    fn call<R>(&self, f: impl FnOnce(&AnyProtocol, &Transport) -> Called<R>) -> Option<Called<R>> {
        let protocol = self.protocol.borrow().clone()?;
        let transport = self.transport();
        // No guard brings the outer context back: callbacks do not unwind.
        let outer = context::swap(self.context.replace(Slot::EMPTY));
        let result = f(&protocol, &transport);
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

    /// There may be something to tell about writing: by whoever is at it, or in a turn of its own.
    fn tell_soon(&self) {
        if !self.busy.get() {
            self.enqueue(Action::Tell);
        }
    }

    /// Tells the protocol to pause or resume writing, if there is something to tell. Only called with no callback on the
    /// stack.
    #[inline]
    fn tell(&self) {
        if self.told_paused.get() != self.flow.get().is_paused() {
            self.tell_change();
        }
    }

    #[cold]
    fn tell_change(&self) {
        while !self.life.get().is_gone() && self.told_paused.get() != self.flow.get().is_paused() {
            let pause = self.flow.get().is_paused();
            self.told_paused.set(pause);
            let (name, called) = if pause {
                ("pause_writing", self.call(|protocol, transport| protocol.pause_writing(transport)))
            } else {
                ("resume_writing", self.call(|protocol, transport| protocol.resume_writing(transport)))
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

    fn is_edge(&self) -> bool {
        self.io.borrow().as_ref().is_some_and(|io| io.registration.is_edge())
    }

    /// Says whether the reading side is to be reported; costs nothing where edges are.
    fn read_interest(&self, readable: bool) {
        let writable = self.wants_room();
        self.set_interest(Interest { readable, writable });
    }

    /// Whether an event is wanted when the socket takes something.
    fn wants_room(&self) -> bool {
        !self.queue.borrow().is_empty() || self.file_wants_room()
    }

    /// Says all that is to be reported.
    fn update_interest(&self) {
        let writable = self.wants_room();
        self.write_interest(writable);
    }

    fn write_interest(&self, writable: bool) {
        let readable = self.life.get().is_reading();
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

impl Handler for SocketTransport {
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
                // Whoever waits for the connection comes first.
                self.read_on();
            }
            if readiness.is_writable() {
                self.flush();
                self.file_has_room();
            }
        });
    }

    fn on_close(self: Rc<Self>) {
        if !self.life.get().is_closing() {
            self.core.resource_warning(format_args!("unclosed transport {self:?}"));
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
}

impl Ready for SocketTransport {
    fn run(self: Rc<Self>) {
        let mut actions = self.actions.get();
        let action = actions.pop();
        self.actions.set(actions);
        self.deal(|| match action {
            Some(Action::Made) => self.make_connection(),
            Some(Action::Write) => self.flush(),
            Some(Action::Lost) => self.connection_lost(),
            Some(Action::Tell) | None => {}
        });
    }
}

impl SocketHolder for SocketTransport {
    fn with_socket(&self, f: &mut dyn FnMut(SockRef<'_>, RawFd)) {
        if let Some(io) = &*self.io.borrow() {
            f(SockRef::from(&io.socket), io.socket.as_raw_fd());
        }
    }
}

impl BaseTransport for SocketTransport {
    fn id(&self) -> TransportId {
        self.id
    }

    fn is_closing(&self) -> bool {
        self.life.get().is_closing()
    }

    fn close(&self) {
        let queue_is_empty = self.queue.borrow().is_empty();
        match self.update_life(|life| life.close(queue_is_empty)) {
            Close::Already => {}
            Close::Flush => self.read_interest(false),
            Close::Lose => {
                self.set_interest(Interest::NONE);
                self.enqueue(Action::Lost);
            }
        }
    }

    fn abort(&self) {
        self.lose(None);
    }

    fn extra_info(&self) -> ExtraInfo {
        let local_addr = self.local_addr.take();
        let local_addr = if local_addr.is_known() { local_addr } else { self.ask_local_addr().into() };
        let holder: Weak<dyn SocketHolder> = self.me.clone();
        let known = local_addr.get();
        self.local_addr.set(local_addr);
        ExtraInfo { local_addr: known, peer_addr: self.peer_addr.get(), socket: Some(SocketView::new(holder)) }
    }

    fn protocol(&self) -> Option<AnyProtocol> {
        self.protocol.borrow().clone()
    }

    fn set_protocol(&self, protocol: AnyProtocol) {
        if self.life.get().is_gone() {
            return;
        }
        if self.protocol.borrow().as_ref().is_some_and(|before| before.is_same(&protocol)) {
            return;
        }
        // A callback that is on the stack has its own handle to the old one.
        let before = self.protocol.replace(Some(protocol));
        self.takes.set(Takes::Unknown);
        self.fresh.set(true);
        self.unseen.set(self.unread_len());
        if self.unseen.get() > 0 {
            self.read_on();
        }
        // The new one has been told nothing, and hears nothing of writing on a connection that is lost.
        let (paused, lost) = (self.flow.get().is_paused(), self.life.get().is_lost());
        self.told_paused.set(paused && lost);
        if paused && !lost {
            self.tell_soon();
        }
        drop(before);
    }
}

impl StreamTransport for SocketTransport {
    fn file_sink(&self) -> Option<&dyn FileSink> {
        Some(self)
    }
}

impl fmt::Debug for SocketTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let life = self.life.get();
        write!(f, "<Transport {}", self.id)?;
        if life.is_gone() {
            return f.write_str(" closed>");
        }
        if life.is_closing() {
            f.write_str(" closing")?;
        }
        if let Ok(io) = self.io.try_borrow() {
            if let Some(io) = &*io {
                write!(f, " fd={}", io.socket.as_raw_fd())?;
            }
        }
        let read = if life.is_reading() { "polling" } else { "idle" };
        let size = self.queue.try_borrow().map_or(0, |queue| queue.len());
        let write = if size > 0 { "polling" } else { "idle" };
        write!(f, " read={read} write=<{write}, bufsize={size}>>")
    }
}

impl Drop for SocketTransport {
    fn drop(&mut self) {
        // A transport is kept alive by its registration until it is gone; this one was never registered.
        self.forget();
    }
}

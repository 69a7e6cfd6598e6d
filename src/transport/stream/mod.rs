//! A transport over a stream socket, or over one end of a pipe.
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
//!
//! The ends of pipes are the same with one side missing: see `pipe`.

mod carrier;
mod debug;
mod end;
mod idle;
mod layer;
mod origin;
mod pipe;
mod read;
mod sendfile;
mod write;

pub(crate) use end::local_addr_of;
#[cfg_attr(not(feature = "__tls"), allow(unused_imports))]
pub(crate) use layer::{Closing, Layer};
pub(crate) use origin::Owner;
pub(crate) use pipe::{Elsewhere, PipeEnd, open_pipe};

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::task::Waker;

use socket2::Socket;

use crate::event_loop::{Core, LoopRegistration};
use crate::os::channel::Channel;
use crate::os::credentials::PeerCredentials;
use crate::os::fd::{AsFd, BorrowedFd};
use crate::os::socket::peer_addr;
use crate::protocol::erased::Called;
use crate::protocol::{
    AnyProtocol, BaseTransport, ExtraInfo, FileSink, Holder, PipeView, SocketView, StreamTransport, Transport,
    TransportId, WaiterId,
};
use crate::reactor::slot::{End, Handler, Listener};
use crate::reactor::{Interest, Mode, Readiness};
use crate::sched::context::{self, Slot};
use crate::sched::ran::Ran;
use crate::sched::ready::{Item, Ready};
use crate::transport::actions::{Action, Actions};
use crate::transport::address::KeptAddress;
use crate::transport::flow::Flow;
use crate::transport::lifecycle::{BeginFile, Close, Lifecycle};
use crate::transport::queue::WriteQueue;
use crate::transport::stream::carrier::{Carrier, Io};
use crate::transport::stream::idle::IdleLimit;
use crate::transport::stream::origin::Origin;

/// What a new transport is made of.
pub(crate) struct Parts {
    pub(crate) protocol: AnyProtocol,
    /// The context that all callbacks run in.
    pub(crate) context: Slot,
    pub(crate) local_addr: KeptAddress,
    pub(crate) peer_addr: KeptAddress,
    /// Where the application made it. `None` where a server has, or the transport that it is to stand on.
    pub(crate) created_at: Option<&'static Location<'static>>,
}

impl Parts {
    /// With callbacks in a copy of the current context.
    pub(crate) fn new(
        protocol: AnyProtocol,
        local_addr: KeptAddress,
        peer_addr: KeptAddress,
        created_at: Option<&'static Location<'static>>,
    ) -> Self {
        Self { protocol, context: context::fork_current(), local_addr, peer_addr, created_at }
    }

    /// As `new`, where nobody has an address.
    pub(crate) fn nameless(protocol: AnyProtocol, created_at: Option<&'static Location<'static>>) -> Self {
        Self::new(protocol, KeptAddress::Unknown, KeptAddress::Unknown, created_at)
    }

    /// As `new`, over a socket that is asked for its addresses.
    pub(crate) fn of_socket(protocol: AnyProtocol, socket: &Socket, created_at: &'static Location<'static>) -> Self {
        Self::new(protocol, local_addr_of(socket), peer_addr(socket).ok().into(), Some(created_at))
    }
}

/// In place of a turn.
const NOT_MADE: u64 = u64::MAX;

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
    /// Who waits for everything to be sent.
    flush_waiters: Vec<(WaiterId, Waker)>,
    /// The most bytes that may be queued.
    cap: Option<usize>,
    /// Writes since the connection was lost.
    lost_writes: u32,
    idle: Option<IdleLimit>,
    /// Who the peer is, where that was asked for.
    credentials: Option<PeerCredentials>,
    /// What the layer knew and still holds.
    extra_info: Option<Box<ExtraInfo>>,
    /// Makes the calls, for what is called elsewhere.
    elsewhere: Option<Rc<dyn Elsewhere>>,
    file: Option<sendfile::File>,
    /// The transport that stands on this one.
    upper: Option<Transport>,
}

pub(crate) struct SocketTransport {
    me: Weak<Self>,
    core: Rc<Core>,
    id: TransportId,
    /// `None` once the connection is gone.
    io: RefCell<Option<Carrier>>,
    /// Whether that is a layer, not a descriptor.
    is_layered: bool,
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
    /// The server, and the place that this connection has with it; or where it was made.
    origin: Cell<Origin>,
    local_addr: Cell<KeptAddress>,
    /// Of a socket of the internet's it is known.
    peer_addr: KeptAddress,
}

impl SocketTransport {
    fn make(core: &Rc<Core>, life: Lifecycle, is_layered: bool, parts: Parts) -> Rc<Self> {
        core.local.counters.transports.opened();
        Rc::new_cyclic(|me: &Weak<Self>| Self {
            me: me.clone(),
            core: core.clone(),
            id: TransportId::next(),
            io: RefCell::new(None),
            is_layered,
            life: Cell::new(life),
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
            origin: Cell::new(Origin::Made(parts.created_at)),
            local_addr: Cell::new(parts.local_addr),
            peer_addr: parts.peer_addr,
        })
    }

    /// A transport over a connection that was just accepted. The selector hears of it when it was made: a connection
    /// that its protocol turns down at once costs nothing there.
    pub(crate) fn open_accepted(core: &Rc<Core>, socket: Socket, parts: Parts) -> io::Result<Rc<Self>> {
        let this = Self::make(core, Lifecycle::new(), false, parts);
        let listener = Listener::Handler(this.clone() as Rc<dyn Handler>);
        let channel = this.channel(socket);
        this.keep(LoopRegistration::parked(&core.reactor, &channel, Mode::Edge, listener), channel)
    }

    /// A transport over a connected, non-blocking socket that is not registered yet.
    pub(crate) fn open(core: &Rc<Core>, socket: Socket, parts: Parts) -> io::Result<Rc<Self>> {
        let this = Self::make(core, Lifecycle::new(), false, parts);
        let listener = Listener::Handler(this.clone() as Rc<dyn Handler>);
        let channel = this.channel(socket);
        this.keep(LoopRegistration::new(&core.reactor, &channel, Interest::READABLE, Mode::Edge, listener), channel)
    }

    fn channel(&self, socket: Socket) -> Channel {
        Channel::socket(socket, self.peer_addr.is_ip())
    }

    fn keep(self: Rc<Self>, registration: io::Result<LoopRegistration>, channel: Channel) -> io::Result<Rc<Self>> {
        match registration {
            Ok(registration) => {
                *self.io.borrow_mut() = Some(Carrier::Channel(Io { registration, channel }));
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
        let this = Self::make(core, Lifecycle::new(), false, parts);
        let handed = registration.hand_over(Listener::Handler(this.clone() as Rc<dyn Handler>), Interest::READABLE);
        *this.io.borrow_mut() = Some(Carrier::Channel(Io { registration, channel: this.channel(socket) }));
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
        self.deal(|| self.begin());
    }

    fn begin(&self) {
        self.made_in.set(self.core.turn_number());
        note!(DEBUG, "roundelay::io", "{self:?}: connection made");
        let called = self.call(|protocol, transport| protocol.connection_made(transport));
        if let Some(Err(payload)) = called {
            // As in asyncio, the connection goes on.
            self.report("Exception in callback connection_made", payload);
        }
        if self.made_in.get() == NOT_MADE {
            // Another one is to begin, and all the rest is for that one.
            return;
        }
        let life = self.life.get();
        if !life.is_lost() {
            self.update_interest();
        }
        if self.unseen.get() > 0 && life.is_closing() && !life.is_gone() {
            // Nothing more is read, and this the protocol was to get first of all.
            self.unseen.set(0);
            self.deliver(&self.take_unread());
        } else if self.has_more_to_read() {
            self.read_on();
        }
    }

    /// Lets the protocol, which has heard nothing yet, hear of the connection from its beginning: of that in a turn of its
    /// own, then of what is `first`, then of what arrives.
    fn begin_anew(&self, first: &[u8]) {
        self.made_in.set(NOT_MADE);
        self.update_life(Lifecycle::restart_reading);
        if !first.is_empty() {
            self.rare(|rare| drop(rare.unread.splice(0..0, first.iter().copied())));
        }
        self.unseen.set(self.unread_len());
        // An end of file that another one was told of is found again. A writing end has nothing to find.
        if self.life.get().write_end().is_none() {
            self.readable.set(true);
        }
        self.enqueue(Action::Made);
    }

    /// As `adopt`, from somebody who has read ahead, and may have ended the writing side. The protocol hears of it in a turn
    /// of its own.
    pub(crate) fn take_over(
        core: &Rc<Core>,
        registration: LoopRegistration,
        socket: Socket,
        parts: Parts,
        first: &[u8],
        write_ended: bool,
    ) -> io::Result<Transport> {
        let this = Self::adopt(core, registration, socket, parts)?;
        if write_ended {
            let _ = this.update_life(|life| life.write_eof(true));
        }
        this.begin_anew(first);
        Ok(this.transport())
    }

    /// Whether the protocol was told that the connection stands.
    pub(crate) fn is_made(&self) -> bool {
        self.made_in.get() != NOT_MADE || self.life.get().is_gone()
    }

    /// Whether something may be there to be delivered.
    fn has_more_to_read(&self) -> bool {
        self.readable.get() || self.unseen.get() > 0
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

    /// Changes what is rare, which is made for it if need be.
    fn rare<R>(&self, f: impl FnOnce(&mut Rare) -> R) -> R {
        f(self.rare.borrow_mut().get_or_insert_default())
    }

    /// Looks at what is rare, or changes it, where it is there.
    #[inline]
    fn if_rare<R>(&self, f: impl FnOnce(&mut Rare) -> R) -> Option<R> {
        self.rare.borrow_mut().as_deref_mut().map(f)
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
        // A protocol that begins is told that first.
        while self.is_made() && !self.life.get().is_gone() && self.told_paused.get() != self.flow.get().is_paused() {
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

    /// Whether nobody reports again by itself that there is more.
    fn is_edge(&self) -> bool {
        match &*self.io.borrow() {
            Some(Carrier::Channel(io)) => io.registration.is_edge() || !io.channel.is_pollable(),
            Some(Carrier::Layer(_)) => true,
            None => false,
        }
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
        let readable = self.life.get().wants_readable();
        self.set_interest(Interest { readable, writable });
    }

    fn set_interest(&self, interest: Interest) {
        let result = match &*self.io.borrow() {
            Some(Carrier::Channel(io)) if io.channel.is_pollable() => io.registration.set_interest(interest),
            Some(Carrier::Channel(io)) => pipe::check_unwatched(io.channel.kind(), interest),
            // Only a try has it say when it is writable.
            Some(Carrier::Layer(_)) if interest.writable => return self.enqueue(Action::Write),
            Some(Carrier::Layer(_)) | None => Ok(()),
        };
        if let Err(error) = result {
            self.fail(error);
        }
    }

    /// Whether nothing is left to be sent before the end: not even the end itself, where that may have to wait.
    fn is_sent(&self) -> bool {
        if !self.queue.borrow().is_empty() {
            return false;
        }
        !self.is_layered || self.with_layer(|layer| layer.is_closed()).unwrap_or(true)
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
            self.take_up_reading();
            if readiness.is_writable() {
                self.flush();
                self.file_has_room();
            }
        });
    }

    fn about(self: Rc<Self>) -> Rc<dyn fmt::Debug> {
        Rc::new(self.at_work())
    }

    fn on_close(self: Rc<Self>) {
        // What stands on it and was closed would have closed it.
        let is_closing = self.life.get().is_closing() || self.carried().is_some_and(|it| it.uppermost().is_closing());
        if !is_closing {
            self.core.resource_warning(format_args!("unclosed transport {self:?}"), self.place());
        }
        self.forget();
    }

    fn end(self: Rc<Self>, how: End) {
        match how {
            End::Flush => self.close_whole(),
            End::Now => self.abort(),
        }
    }

    #[cfg(feature = "test-util")]
    fn awaits(self: Rc<Self>) -> Interest {
        Interest { readable: self.life.get().is_reading(), writable: self.wants_room() }
    }

    fn unfinished(self: Rc<Self>) -> Option<Rc<dyn Any>> {
        Some(Rc::new(self.transport().uppermost()))
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
            Some(Action::Read) => {
                self.reads_on.set(false);
                self.take_up_reading();
            }
            Some(Action::Tell) | None => {}
        });
    }

    fn about(self: Rc<Self>) -> Option<Ran> {
        Some(Ran::Event(Handler::about(self)))
    }

    fn close(self: Rc<Self>) {
        // What is below it may be gone already, and then nobody else lets go of it.
        let life = self.life.get();
        if self.is_layered && life.is_lost() && !life.is_gone() {
            self.forget();
        }
    }
}

impl Holder for SocketTransport {
    fn with_fd(&self, f: &mut dyn FnMut(BorrowedFd<'_>)) {
        if let Some(channel) = self.io.borrow().as_ref().and_then(Carrier::channel) {
            f(channel.as_fd());
        }
        if self.life.get().is_gone() {
            // Closed within the look, and left open for it.
            self.close_io();
        }
    }
}

impl BaseTransport for SocketTransport {
    fn id(&self) -> TransportId {
        self.id
    }

    fn is_closing(&self) -> bool {
        let is_closing = self.life.get().is_closing();
        is_closing || self.is_layered && self.with_layer(|layer| layer.is_closing()).unwrap_or(true)
    }

    fn close(&self) {
        let is_sent = self.is_sent();
        match self.update_life(|life| life.close(is_sent)) {
            Close::Already => {}
            Close::Flush if self.is_layered => self.close_layered(),
            Close::Flush => self.update_interest(),
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
        if self.is_layered {
            let kept = || self.if_rare(|rare| rare.extra_info.as_deref().cloned()).flatten();
            return self.with_layer(|layer| layer.extra_info()).or_else(kept).unwrap_or_default();
        }
        if let Some(channel) = self.io.borrow().as_ref().and_then(Carrier::channel) {
            self.note_extra(channel);
        }
        let holder: Weak<dyn Holder> = self.me.clone();
        let local_addr = self.local_addr.take();
        self.local_addr.set(local_addr.clone());
        let (socket, pipe) = match self.is_pipe() {
            false => (Some(SocketView::new(holder)), None),
            true => (None, Some(PipeView::new(holder))),
        };
        ExtraInfo {
            local_addr: local_addr.ip(),
            peer_addr: self.peer_addr.ip(),
            unix_local_addr: local_addr.unix(),
            unix_peer_addr: self.peer_addr.unix(),
            peer_credentials: self.if_rare(|rare| rare.credentials).flatten(),
            socket,
            pipe,
            ..ExtraInfo::default()
        }
    }

    fn created_at(&self) -> Option<&'static Location<'static>> {
        self.place()
    }
}

impl StreamTransport for SocketTransport {
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

    fn start_protocol(&self, protocol: AnyProtocol, first: &[u8]) {
        if self.life.get().is_gone() {
            return;
        }
        self.set_protocol(protocol);
        self.begin_anew(first);
    }

    fn file_sink(&self) -> Option<&dyn FileSink> {
        Some(self)
    }

    fn is_writing_paused(&self) -> bool {
        self.told_paused.get()
    }

    fn heed_pause(&self) -> bool {
        let paused = self.flow.get().is_paused();
        self.told_paused.set(self.told_paused.get() || paused);
        paused
    }

    fn unfit_to_carry(&self) -> Option<&'static str> {
        if self.carried().is_some() {
            return Some("TLS was started over this transport already: use the one that it has given");
        }
        // Its answers are the same ones: both need an open connection of which the writing side is nobody else's.
        let mut life = self.life.get();
        match life.begin_file() {
            BeginFile::Begin if self.is_layered => self.with_layer(|layer| layer.unfit_to_carry()).flatten(),
            BeginFile::Begin => None,
            BeginFile::Closing => Some("Transport is closing"),
            BeginFile::AfterEof => Some("the writing side was ended by write_eof()"),
            BeginFile::Busy => Some("sendfile is in progress"),
            BeginFile::NoSide => Some("the transport does not write"),
        }
    }

    fn allow_half_close(&self) {
        if !self.life.get().is_closing() {
            self.with_layer(|layer| layer.allow_half_close());
        }
    }

    fn carry(&self, upper: Transport) {
        if !self.life.get().is_gone() {
            let before = self.rare(|rare| rare.upper.replace(upper));
            drop(before);
        }
    }

    fn carried(&self) -> Option<Transport> {
        self.if_rare(|rare| rare.upper.clone()).flatten()
    }
}

impl Drop for SocketTransport {
    fn drop(&mut self) {
        // A transport is kept alive by its registration until it is gone; this one was never registered.
        self.forget();
    }
}

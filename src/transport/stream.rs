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

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use socket2::{SockRef, Socket};

use crate::constants::{LOST_WRITES_BEFORE_WARNING, READ_SIZE, READS_PER_EVENT};
use crate::error::{PanicPayload, callback_panicked};
use crate::event_loop::exception::ExceptionContext;
use crate::event_loop::{Core, EventLoop, LoopRegistration};
use crate::os::fd::{AsRawFd, RawFd};
use crate::os::socket::{recv, recv_local, send, send_vectored, would_block};
use crate::protocol::{
    AnyProtocol, BaseTransport, ExtraInfo, KeepOpen, ReadTransport, Received, SocketHolder, SocketView,
    StreamTransport, Transport, TransportId, WaterMarks, WriteTransport,
};
use crate::reactor::slot::{End, Handler, Listener};
use crate::reactor::{Interest, Mode, Readiness};
use crate::sched::context::{self, Slot};
use crate::sched::handle::TimerHandle;
use crate::sched::ready::{Item, Ready};
use crate::sched::report::Exception;
use crate::transport::actions::{Action, Actions};
use crate::transport::flow::{Change, Flow};
use crate::transport::lifecycle::{Close, Flushed, Lifecycle, Verdict, WriteEof};
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

/// The time after which a silent connection is ended.
struct IdleLimit {
    limit: Duration,
    timer: TimerHandle<()>,
}

/// How one attempt to read ended.
enum ReadStep {
    /// So many bytes were delivered, and there may be more.
    More(usize),
    /// Nothing is left, or nothing is to be read any more.
    Done,
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
    /// The context that all callbacks run in; empty while one does.
    context: Cell<Slot>,
    actions: Cell<Actions>,
    /// Whether an event or an action is being dealt with: whoever does that also tells what there is to tell.
    busy: Cell<bool>,
    /// What the protocol was last told about writing.
    told_paused: Cell<bool>,
    /// Whether `connection_made` was called.
    made: Cell<bool>,
    /// Whether a read is worth trying.
    readable: Cell<bool>,
    /// Whether more may follow a short read: it does not mean that the socket is drained.
    more: Cell<bool>,
    /// What a protocol gave back, for the next one or for the next read.
    unread: RefCell<Vec<u8>>,
    /// How many bytes of that, at its end, the present protocol has not seen: they are delivered without waiting for
    /// more.
    unseen: Cell<usize>,
    /// Whether the present protocol has been given nothing yet.
    fresh: Cell<bool>,
    /// Why the connection was lost, for `connection_lost`.
    error: Cell<Option<io::Error>>,
    /// The kind of that error, for those who come later.
    error_kind: Cell<Option<io::ErrorKind>>,
    /// Who waits for writing not to be paused.
    waiters: RefCell<Vec<Waker>>,
    /// The most bytes that may be queued.
    cap: Cell<usize>,
    /// Writes since the connection was lost.
    lost_writes: Cell<u32>,
    /// The server, and the place that this connection has with it.
    owner: Cell<Option<(Rc<dyn Owner>, usize)>>,
    idle: RefCell<Option<IdleLimit>>,
    /// When bytes last went in either direction.
    active_at: Cell<Instant>,
    local_addr: Cell<Option<SocketAddr>>,
    peer_addr: Option<SocketAddr>,
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
            context: Cell::new(parts.context),
            actions: Cell::new(Actions::default()),
            busy: Cell::new(false),
            told_paused: Cell::new(false),
            made: Cell::new(false),
            readable: Cell::new(false),
            more: Cell::new(false),
            unread: RefCell::new(Vec::new()),
            unseen: Cell::new(0),
            fresh: Cell::new(true),
            error: Cell::new(None),
            error_kind: Cell::new(None),
            waiters: RefCell::new(Vec::new()),
            cap: Cell::new(usize::MAX),
            lost_writes: Cell::new(0),
            owner: Cell::new(None),
            idle: RefCell::new(None),
            active_at: Cell::new(core.turn_time()),
            local_addr: Cell::new(parts.local_addr),
            peer_addr: parts.peer_addr,
        })
    }

    /// A transport over a connected, non-blocking socket that is not registered yet.
    pub(crate) fn open(core: &Rc<Core>, socket: Socket, parts: Parts) -> io::Result<Rc<Self>> {
        let this = Self::make(core, parts);
        let listener = Listener::Handler(this.clone() as Rc<dyn Handler>);
        match LoopRegistration::new(&core.reactor, &socket, Interest::READABLE, Mode::Edge, listener) {
            Ok(registration) => {
                *this.io.borrow_mut() = Some(Io { registration, socket });
                Ok(this)
            }
            Err(error) => {
                this.forget();
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
            self.made.set(true);
            let called = self.call(|protocol, transport| protocol.connection_made(transport));
            if let Some(Err(payload)) = called {
                // As in asyncio, the connection goes on.
                self.report("Exception in callback connection_made", payload);
            }
        });
    }

    /// Whether the protocol was told that the connection stands.
    pub(crate) fn is_made(&self) -> bool {
        self.made.get() || self.life.get().is_gone()
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

    /// Ends the connection when nothing was received or sent for so long.
    pub(crate) fn set_idle_limit(&self, limit: Duration) {
        let before = self.idle.borrow_mut().replace(IdleLimit { limit, timer: self.arm_idle(limit) });
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

    fn check_idle(&self) {
        let Some(limit) = self.idle.borrow().as_ref().map(|idle| idle.limit) else { return };
        let silent = self.core.now().saturating_duration_since(self.active_at.get());
        if silent >= limit {
            self.fail(io::Error::new(io::ErrorKind::TimedOut, format!("nothing was received or sent for {limit:?}")));
            return;
        }
        let timer = self.arm_idle(limit - silent);
        if let Some(idle) = &mut *self.idle.borrow_mut() {
            idle.timer = timer;
        }
    }

    /// Calls the protocol, in its context. `None` if there is none any more.
    fn call<R>(&self, f: impl FnOnce(&AnyProtocol, &Transport) -> R) -> Option<R> {
        let protocol = self.protocol.borrow().clone()?;
        let transport = self.transport();
        let slot = self.context.replace(Slot::EMPTY);
        let (result, slot) = context::enter(slot, || {
            let result = f(&protocol, &transport);
            // If it was replaced meanwhile, this is the last handle to it.
            self.release("a protocol", protocol);
            result
        });
        self.context.set(slot);
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

    /// Tells the protocol to pause or resume writing. Only called with no callback on the stack.
    fn tell(&self) {
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

    fn update_flow(&self, f: impl FnOnce(&mut Flow) -> Change) {
        let mut flow = self.flow.get();
        let change = f(&mut flow);
        self.flow.set(flow);
        match change {
            Change::None => {}
            Change::Pause => self.tell_soon(),
            Change::Resume => {
                self.wake_waiters();
                self.tell_soon();
            }
        }
    }

    fn wake_waiters(&self) {
        for waiter in self.waiters.take() {
            waiter.wake();
        }
    }

    // ---------------------------------------------------------------- reading

    /// Reads until the socket is drained, the protocol pauses, or this event has had its share.
    fn read(&self) {
        let (mut reads, mut bytes) = (0, 0);
        while (self.readable.get() || self.unseen.get() > 0) && self.life.get().is_reading() {
            if reads >= READS_PER_EVENT || bytes >= READ_SIZE {
                // The others first. A level-triggered selector reports the socket again by itself.
                if self.is_edge() || self.unseen.get() > 0 {
                    self.enqueue(Action::Read);
                }
                return;
            }
            match self.read_once() {
                ReadStep::More(n) => bytes += n,
                ReadStep::Done => {}
            }
            reads += 1;
            self.tell();
        }
    }

    fn read_once(&self) -> ReadStep {
        if self.protocol.borrow().as_ref().is_some_and(AnyProtocol::is_buffered) {
            return self.read_into_protocol();
        }
        if !self.unread.borrow().is_empty() {
            return self.read_behind_unread();
        }
        self.core.clone().with_receive_buffer(|buffer| match self.receive(buffer) {
            Ok(0) => self.end_of_file(),
            Ok(n) => {
                self.deliver(&buffer[..n]);
                ReadStep::More(n)
            }
            Err(error) => self.read_failed(error),
        })
    }

    /// Receives, and notes whether that has drained the socket.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = match &*self.io.borrow() {
            Some(io) if self.peer_addr.is_some() => recv(&io.socket, buffer)?,
            Some(io) => {
                let (n, stopped_short) = recv_local(&io.socket, buffer)?;
                if stopped_short {
                    self.more.set(true);
                }
                n
            }
            None => return Err(io::ErrorKind::WouldBlock.into()),
        };
        if n > 0 {
            self.active_at.set(self.core.turn_time());
            if n < buffer.len() && !self.more.get() {
                self.readable.set(false);
            }
        }
        Ok(n)
    }

    /// What was given back goes first: at once to a protocol that has not seen it, else in one piece with what arrives.
    fn read_behind_unread(&self) -> ReadStep {
        if self.unseen.take() == 0 {
            let received = self.core.clone().with_receive_buffer(|buffer| {
                let n = self.receive(buffer)?;
                self.unread.borrow_mut().extend_from_slice(&buffer[..n]);
                Ok(n)
            });
            match received {
                // The protocol has seen these bytes and did not want them: there is no next one.
                Ok(0) => return self.end_of_file(),
                Ok(_) => {}
                Err(error) => return self.read_failed(error),
            }
        }
        let data = self.unread.take();
        self.deliver(&data);
        ReadStep::More(data.len())
    }

    fn read_into_protocol(&self) -> ReadStep {
        let (has_buffer, has_room) = (Cell::new(false), Cell::new(true));
        let received = self.call(|protocol, transport| {
            protocol.receive(transport, |buffer| {
                has_buffer.set(true);
                has_room.set(self.unseen.get() > 0 || self.unread.borrow().len() < buffer.len());
                if has_room.get() { self.fill(buffer) } else { Ok(0) }
            })
        });
        match received {
            Some(Ok(Received::NoRoom)) => self.no_room("get_buffer() returned an empty buffer"),
            Some(Ok(_)) if !has_room.get() => {
                self.no_room("get_buffer() returned a buffer that has room for no more than unread() gave back")
            }
            Some(Ok(Received::Bytes(0))) => self.end_of_file(),
            Some(Ok(Received::Bytes(n))) => ReadStep::More(n),
            Some(Ok(Received::Failed(error))) => self.read_failed(error),
            Some(Ok(Received::NotBuffered)) | None => ReadStep::Done,
            Some(Err(payload)) => {
                let callback = if has_buffer.get() { "protocol.buffer_updated()" } else { "protocol.get_buffer()" };
                self.fail_by_panic(callback, payload);
                ReadStep::Done
            }
        }
    }

    /// A protocol's own buffer is too small for anything to go on.
    fn no_room(&self, text: &str) -> ReadStep {
        let error = io::Error::other(text);
        self.report_error("Fatal error: protocol.get_buffer() call failed.", &error);
        self.fail(error);
        ReadStep::Done
    }

    /// Fills a protocol's own buffer: with what was given back, then with what has arrived. Zero is the end of file.
    fn fill(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut unread = self.unread.borrow_mut();
        let given_back = unread.len().min(buffer.len());
        buffer[..given_back].copy_from_slice(&unread[..given_back]);
        let mut received = 0;
        if self.unseen.get() == 0 {
            received = self.receive(&mut buffer[given_back..])?;
            if received == 0 {
                return Ok(0);
            }
        }
        unread.drain(..given_back);
        self.unseen.set(unread.len());
        self.fresh.set(false);
        Ok(given_back + received)
    }

    fn deliver(&self, data: &[u8]) {
        self.fresh.set(false);
        if let Some(Err(payload)) = self.call(|protocol, transport| protocol.data_received(transport, data)) {
            self.fail_by_panic("protocol.data_received()", payload);
        }
    }

    fn end_of_file(&self) -> ReadStep {
        self.readable.set(false);
        if self.update_life(Lifecycle::end_reading) {
            self.read_interest(false);
            match self.call(|protocol, transport| protocol.eof_received(transport)) {
                Some(Ok(KeepOpen::Yes)) => {}
                Some(Ok(KeepOpen::No)) | None => self.close(),
                Some(Err(payload)) => self.fail_by_panic("protocol.eof_received()", payload),
            }
        }
        ReadStep::Done
    }

    fn read_failed(&self, error: io::Error) -> ReadStep {
        self.readable.set(false);
        self.more.set(false);
        if !would_block(&error) {
            self.fail(error);
        }
        ReadStep::Done
    }

    fn is_edge(&self) -> bool {
        self.io.borrow().as_ref().is_some_and(|io| io.registration.is_edge())
    }

    /// Says whether the reading side is to be reported; costs nothing where edges are.
    fn read_interest(&self, readable: bool) {
        let writable = !self.queue.borrow().is_empty();
        self.set_interest(Interest { readable, writable });
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

    // ---------------------------------------------------------------- writing

    /// Sends at once if nothing is queued, and queues what is left.
    fn write_with(
        &self,
        len: usize,
        send: impl FnOnce(&Socket) -> io::Result<usize>,
        queue_rest: impl FnOnce(&mut WriteQueue, usize),
    ) {
        match self.life.get().write() {
            Verdict::Write => {}
            Verdict::AfterEof => {
                let context = ExceptionContext::new("Transport::write(): cannot write after write_eof()");
                self.call_handler(context);
                return;
            }
            Verdict::Closing => {
                self.note_lost_write();
                return;
            }
        }
        if len == 0 {
            return;
        }
        let was_empty = self.queue.borrow().is_empty();
        let mut sent = 0;
        if was_empty {
            let result = match &*self.io.borrow() {
                Some(io) => send(&io.socket),
                None => return,
            };
            match result {
                Ok(n) => sent = n,
                Err(error) if would_block(&error) => {}
                Err(error) => return self.fail(error),
            }
            if sent > 0 {
                self.active_at.set(self.core.turn_time());
            }
            if sent == len {
                return;
            }
        }
        queue_rest(&mut self.queue.borrow_mut(), sent);
        if was_empty {
            self.write_interest(true);
        }
        self.queue_grown();
    }

    fn queue_grown(&self) {
        let size = self.queue.borrow().len();
        let cap = self.cap.get();
        if size > cap {
            let text = format!("{size} bytes are queued for writing and the cap is {cap}: the peer does not read");
            return self.fail(io::Error::new(io::ErrorKind::WriteZero, text));
        }
        self.update_flow(|flow| flow.grown(size));
    }

    fn note_lost_write(&self) {
        if !self.life.get().is_lost() {
            return;
        }
        let writes = self.lost_writes.get().saturating_add(1);
        self.lost_writes.set(writes);
        if writes >= LOST_WRITES_BEFORE_WARNING {
            tracing::warn!(target: "roundelay", "write to a connection that is gone, for the {writes}th time: {self:?}");
        }
    }

    /// Sends what is queued, until the socket is full or this event has had its share.
    fn flush(&self) {
        for _ in 0..READS_PER_EVENT {
            let result = {
                let (queue, io) = (self.queue.borrow(), self.io.borrow());
                let Some(io) = io.as_ref().filter(|_| !queue.is_empty()) else { return };
                if queue.chunks() == 1 {
                    send(&io.socket, queue.front())
                } else {
                    send_vectored(&io.socket, &queue.slices())
                }
            };
            match result {
                Ok(n) => {
                    let sent = self.queue.borrow_mut().advance(n);
                    self.release("written bytes", sent);
                }
                Err(error) if would_block(&error) => return,
                Err(error) => return self.fail(error),
            }
            self.active_at.set(self.core.turn_time());
            let size = self.queue.borrow().len();
            self.update_flow(|flow| flow.shrunk(size));
            if size == 0 {
                return self.flushed();
            }
        }
        if self.is_edge() {
            self.enqueue(Action::Write);
        }
    }

    /// The queue has become empty.
    fn flushed(&self) {
        self.write_interest(false);
        match self.update_life(Lifecycle::flushed) {
            Flushed::GoOn => {}
            Flushed::Shutdown => self.shut_down_writing(),
            Flushed::Lose => self.enqueue(Action::Lost),
        }
    }

    fn shut_down_writing(&self) {
        let result = match &*self.io.borrow() {
            Some(io) => io.socket.shutdown(Shutdown::Write),
            None => Ok(()),
        };
        // A peer that is gone already shows by the next event.
        if let Err(error) = result {
            tracing::debug!(target: "roundelay", "shutdown of {self:?}: {error}");
        }
    }

    // ---------------------------------------------------------------- the end

    /// Ends the connection with an error.
    fn fail(&self, error: io::Error) {
        tracing::debug!(target: "roundelay", "{self:?} is lost: {error}");
        self.lose(Some(error));
    }

    fn lose(&self, error: Option<io::Error>) {
        if !self.update_life(Lifecycle::lose) {
            return;
        }
        let queue = self.queue.take();
        // Nobody is told to resume writing to a connection that is lost.
        self.told_paused.set(self.flow.get().is_paused());
        self.set_interest(Interest::NONE);
        self.error_kind.set(error.as_ref().map(io::Error::kind));
        self.error.set(error);
        self.enqueue(Action::Lost);
        self.release("written bytes", queue);
    }

    fn connection_lost(&self) {
        if !self.update_life(Lifecycle::gone) {
            return;
        }
        let error = self.error.take();
        let called = self.call(|protocol, transport| protocol.connection_lost(transport, error));
        if let Some(Err(payload)) = called {
            self.report("Exception in callback connection_lost", payload);
        }
        self.forget();
    }

    /// Lets go of everything: socket, protocol, context, server.
    fn forget(&self) {
        self.update_life(|life| {
            let _ = life.gone();
        });
        if self.local_addr.get().is_none() {
            self.local_addr.set(self.ask_local_addr());
        }
        let io = self.io.take();
        if io.is_none() && self.protocol.borrow().is_none() {
            return;
        }
        drop(io);
        self.core.transport_gone();
        let queue = self.queue.take();
        drop(self.unread.take());
        if let Some(idle) = self.idle.take() {
            idle.timer.cancel();
        }
        self.wake_waiters();
        if let Some((owner, place)) = self.owner.take() {
            owner.transport_lost(place);
        }
        let protocol = self.protocol.take();
        self.release("a protocol", protocol);
        self.release("written bytes", queue);
        self.release("a context", self.context.replace(Slot::EMPTY));
    }

    /// Drops what may have a destructor of the application's, which may call any method here and may panic. Only called
    /// with nothing borrowed.
    fn release<T>(&self, what: &str, value: T) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
            self.report(&format!("Exception in the destructor of {what}"), payload);
        }
    }

    fn ask_local_addr(&self) -> Option<SocketAddr> {
        self.io.borrow().as_ref()?.socket.local_addr().ok()?.as_socket()
    }

    fn fail_by_panic(&self, callback: &str, payload: PanicPayload) {
        let error = callback_panicked(callback, &*payload);
        self.report(&format!("Fatal error: {callback} call failed."), payload);
        self.lose(Some(error));
    }

    /// Reports the panic of a callback, in the callbacks' context.
    fn report(&self, message: &str, payload: PanicPayload) {
        let local = &self.core.local;
        let Some(payload) = local.take_fatal(payload) else { return };
        let slot = self.context.replace(Slot::EMPTY);
        let ((), slot) = context::enter(slot, || {
            self.call_handler(ExceptionContext::new(message).with_exception(Exception::Panic(&*payload)));
        });
        self.context.set(slot);
        local.dispose(payload);
    }

    fn report_error(&self, message: &str, error: &io::Error) {
        self.call_handler(ExceptionContext::new(message).with_exception(Exception::Error(error)));
    }

    fn call_handler(&self, mut context: ExceptionContext<'_>) {
        if let Some(me) = self.me.upgrade() {
            context = context.with_subject(Transport::new(me));
        }
        if let Some(protocol) = self.protocol.borrow().clone() {
            context = context.with_subject(protocol);
        }
        EventLoop::handle(self.core.clone()).call_exception_handler(&context);
    }

    /// Why writing is impossible.
    fn lost_error(&self) -> io::Error {
        match self.error_kind.get() {
            Some(kind) => io::Error::new(kind, "Connection lost"),
            None => io::Error::new(io::ErrorKind::ConnectionReset, "Connection lost"),
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
                self.read();
            }
            if readiness.is_writable() {
                self.flush();
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
            Some(Action::Read) => self.read(),
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
        if self.local_addr.get().is_none() {
            self.local_addr.set(self.ask_local_addr());
        }
        let holder: Weak<dyn SocketHolder> = self.me.clone();
        ExtraInfo {
            local_addr: self.local_addr.get(),
            peer_addr: self.peer_addr,
            socket: Some(SocketView::new(holder)),
        }
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
        self.fresh.set(true);
        self.unseen.set(self.unread.borrow().len());
        if self.unseen.get() > 0 {
            self.enqueue(Action::Read);
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

impl ReadTransport for SocketTransport {
    fn is_reading(&self) -> bool {
        self.life.get().is_reading()
    }

    fn pause_reading(&self) {
        if self.update_life(Lifecycle::pause) {
            self.read_interest(false);
        }
    }

    fn resume_reading(&self) {
        if self.update_life(Lifecycle::resume) {
            self.read_interest(true);
            if self.readable.get() || self.unseen.get() > 0 {
                self.enqueue(Action::Read);
            }
        }
    }

    fn unread(&self, data: &[u8]) {
        if self.life.get().is_closing() || data.is_empty() {
            return;
        }
        self.unread.borrow_mut().splice(0..0, data.iter().copied());
        if self.fresh.get() {
            self.unseen.set(self.unseen.get() + data.len());
            self.enqueue(Action::Read);
        }
    }
}

impl WriteTransport for SocketTransport {
    fn write(&self, data: &[u8]) {
        self.write_with(data.len(), |socket| send(socket, data), |queue, sent| queue.push_copy(&data[sent..]));
    }

    fn write_owned(&self, data: Bytes) {
        self.write_with(data.len(), |socket| send(socket, &data), |queue, sent| queue.push_owned(data.slice(sent..)));
    }

    fn writelines(&self, data: &[IoSlice<'_>]) {
        let len = data.iter().map(|piece| piece.len()).sum();
        let first = &data[..data.len().min(crate::constants::MAX_IOVECS)];
        self.write_with(
            len,
            |socket| send_vectored(socket, first),
            |queue, mut sent| {
                for piece in data {
                    let skip = sent.min(piece.len());
                    sent -= skip;
                    queue.push_copy(&piece[skip..]);
                }
            },
        );
    }

    fn write_eof(&self) {
        let queue_is_empty = self.queue.borrow().is_empty();
        match self.update_life(|life| life.write_eof(queue_is_empty)) {
            WriteEof::Already | WriteEof::AfterFlush => {}
            WriteEof::Shutdown => self.shut_down_writing(),
        }
    }

    fn can_write_eof(&self) -> bool {
        true
    }

    fn write_buffer_size(&self) -> usize {
        self.queue.borrow().len()
    }

    fn write_buffer_limits(&self) -> WaterMarks {
        self.flow.get().marks()
    }

    fn set_write_buffer_limits(&self, high: Option<usize>, low: Option<usize>) -> io::Result<()> {
        let size = self.queue.borrow().len();
        let mut flow = self.flow.get();
        let change = flow.set_marks(high, low, size)?;
        self.update_flow(|old| {
            *old = flow;
            change
        });
        Ok(())
    }

    fn set_write_buffer_cap(&self, cap: Option<usize>) {
        self.cap.set(cap.unwrap_or(usize::MAX));
        if !self.life.get().is_lost() {
            self.queue_grown();
        }
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.life.get().is_lost() {
            return Poll::Ready(Err(self.lost_error()));
        }
        if !self.flow.get().is_paused() {
            // A peer that takes everything at once must not keep the others waiting.
            std::task::ready!(self.core.poll_budget(cx));
            self.core.spend_budget();
            return Poll::Ready(Ok(()));
        }
        let mut waiters = self.waiters.borrow_mut();
        if !waiters.iter().any(|waiter| waiter.will_wake(cx.waker())) {
            waiters.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl StreamTransport for SocketTransport {}

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

//! The transport: a protocol to the transport below, and what carries the one above.
//!
//! ```text
//!   application's protocol
//!     upper transport      queue, flow control, order of callbacks: those of every other transport
//!       TlsLayer           encrypts what it is given, decrypts what it is asked for
//!     TlsProtocol          hears of the transport below
//!   lower transport        a socket, a foreign stream, TLS again
//! ```
//!
//! There is one queue in each direction. What is written waits above, unencrypted, for as long as the transport below has
//! not sent what it was given last; what has arrived waits in the engine, as it came, for as long as nobody takes it, and
//! the transport below stops reading when that is too much.

mod handshake;
mod layer;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::constants::{TLS_READ_HIGH_WATER, TLS_READ_LOW_WATER};
use crate::error::LastingError;
use crate::event_loop::exception::ExceptionContext;
use crate::event_loop::{Core, EventLoop};
use crate::protocol::{AnyProtocol, KeepOpen, Protocol, Transport};
use crate::sched::handle::TimerHandle;
use crate::sched::report::Exception;
use crate::tls::engine::Engine;
pub(crate) use crate::tls::transport::handshake::Handshake;
use crate::transport::flow::Flow;
use crate::transport::stream::{Parts, SocketTransport};

/// How far the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The transport below is not there yet.
    New,
    Handshake,
    Open,
    /// This side has said that nothing follows, and waits for the peer to say so.
    Ending,
    /// Both have.
    Ended,
    /// Nothing more is sent or received.
    Lost,
}

/// What the end of the writing side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// That of the connection.
    Both,
    /// That of this side alone: what the peer says is listened to until it ends, too.
    Alone,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) handshake: Duration,
    pub(crate) shutdown: Duration,
}

/// Whose protocol it is that hears of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It hears of it when the handshake is done, and not at all if that fails.
    New,
    /// It knows the connection already, and hears of its end whatever happens.
    Known {
        /// Whether it waits for `resume_writing`.
        was_told_to_pause: bool,
    },
}

/// How a handshake has ended.
type Outcome = io::Result<()>;

/// What is between two transports.
struct TlsLayer {
    me: Weak<Self>,
    core: Rc<Core>,
    engine: RefCell<Engine>,
    phase: Cell<Phase>,
    ending: Cell<Ending>,
    standing: Standing,
    limits: Limits,
    /// `None` before it is there, and when this is over.
    lower: RefCell<Option<Transport>>,
    /// The same, and for as long as somebody may ask what it knows.
    carrier: RefCell<Option<Transport>>,
    /// Kept by the protocol of the one below.
    upper: Weak<SocketTransport>,
    /// Whether a write to the transport below runs nobody else's code.
    is_lower_quiet: Cell<bool>,
    /// Whether something is being sent, so that whoever calls from within has to wait.
    is_sending: Cell<bool>,
    /// Whether the transport below has not sent all that it was given.
    is_full: Cell<bool>,
    /// Whether the transport below was told to stop reading.
    is_held: Cell<bool>,
    /// Ends a handshake, or an end, that takes too long.
    timer: RefCell<Option<TimerHandle<()>>>,
    /// Whether something was given to the transport below since that was asked last.
    has_moved: Cell<bool>,
    /// When something was sent, as far as that is known, while the end is waited for.
    moved_at: Cell<Instant>,
    /// How much the transport below had to send when it was looked at last.
    left: Cell<usize>,
    began_at: Cell<Instant>,
    outcome: RefCell<Option<Outcome>>,
    /// Who waits for that.
    waker: Cell<Option<Waker>>,
    /// Whether somebody does, or did.
    is_awaited: Cell<bool>,
}

/// Hears of the transport below. Keeps the one above.
pub(crate) struct TlsProtocol {
    layer: Rc<TlsLayer>,
    upper: Rc<SocketTransport>,
}

impl TlsProtocol {
    pub(crate) fn new(
        core: &Rc<Core>,
        engine: Engine,
        limits: Limits,
        standing: Standing,
        protocol: AnyProtocol,
    ) -> Self {
        // What matters of its context is known when the connection stands.
        let parts = Parts::nameless(protocol, None);
        let upper = SocketTransport::open_layered(core, Flow::of_tls(), parts);
        let layer = Rc::new_cyclic(|me| TlsLayer {
            me: me.clone(),
            core: core.clone(),
            engine: RefCell::new(engine),
            phase: Cell::new(Phase::New),
            ending: Cell::new(Ending::Both),
            standing,
            limits,
            lower: RefCell::new(None),
            carrier: RefCell::new(None),
            upper: Rc::downgrade(&upper),
            is_lower_quiet: Cell::new(false),
            is_sending: Cell::new(false),
            is_full: Cell::new(false),
            is_held: Cell::new(false),
            timer: RefCell::new(None),
            has_moved: Cell::new(false),
            moved_at: Cell::new(core.now()),
            left: Cell::new(0),
            began_at: Cell::new(core.now()),
            outcome: RefCell::new(None),
            waker: Cell::new(None),
            is_awaited: Cell::new(false),
        });
        upper.set_layer(layer.clone());
        Self { layer, upper }
    }

    /// For whoever waits for the handshake.
    pub(crate) fn handshake(&self) -> Handshake {
        self.layer.is_awaited.set(true);
        Handshake::new(self.layer.clone(), self.upper.clone())
    }
}

impl Protocol for TlsProtocol {
    fn connection_made(&mut self, lower: &Transport) {
        // That of the connection, whoever has started TLS.
        self.upper.inherit_context();
        self.upper.inherit_place(lower.created_at());
        self.layer.begin(lower);
    }

    fn data_received(&mut self, _: &Transport, data: &[u8]) {
        self.layer.received(&self.upper, data);
    }

    fn eof_received(&mut self, _: &Transport) -> KeepOpen {
        self.layer.engine.borrow_mut().end();
        self.layer.received(&self.upper, &[]);
        // It is closed from above, when everything is sent.
        KeepOpen::Yes
    }

    fn resume_writing(&mut self, _: &Transport) {
        self.layer.go_on_writing(&self.upper);
    }

    fn connection_lost(&mut self, _: &Transport, error: Option<io::Error>) {
        self.layer.lower_lost(&self.upper, error);
    }
}

impl Drop for TlsProtocol {
    /// Without a word: the loop is being closed. Or another protocol hears of the transport below, and then nobody has it.
    fn drop(&mut self) {
        if self.layer.core.is_open() && !self.layer.is_over() {
            let error = io::Error::other("another protocol has taken the transport below");
            return self.layer.fail(error);
        }
        self.layer.disarm();
        self.upper.discard();
    }
}

impl TlsLayer {
    /// Whether bytes of the application's may go.
    fn is_up(&self) -> bool {
        matches!(self.phase.get(), Phase::Open | Phase::Ending)
    }

    fn is_over(&self) -> bool {
        matches!(self.phase.get(), Phase::Ended | Phase::Lost)
    }

    fn el(&self) -> EventLoop {
        EventLoop::handle(self.core.clone())
    }

    fn lower(&self) -> Option<Transport> {
        self.lower.borrow().clone()
    }

    /// Begins the handshake.
    fn begin(&self, lower: &Transport) {
        match self.phase.get() {
            Phase::New => self.phase.set(Phase::Handshake),
            // Nobody waits for it any more.
            Phase::Ended | Phase::Lost => return lower.abort(),
            _ => return,
        }
        self.began_at.set(self.core.now());
        // Whatever it cannot send at once it is to tell of, and when that is sent.
        if let Err(error) = lower.set_write_buffer_limits(0, 0) {
            note!(DEBUG, "roundelay::io", "{lower:?}: {error}");
        }
        *self.lower.borrow_mut() = Some(lower.clone());
        *self.carrier.borrow_mut() = Some(lower.clone());
        // That of an application's stream may call the transport above.
        self.is_lower_quiet.set(lower.extra_info().socket.is_some());
        if let Some(upper) = self.upper.upgrade() {
            if let Standing::Known { was_told_to_pause } = self.standing {
                upper.set_known(was_told_to_pause);
            }
            lower.carry(upper.transport());
        }
        note!(DEBUG, "roundelay::io", "{lower:?} begins a TLS handshake");
        self.arm(self.limits.handshake, Self::handshake_is_late);
        self.advance_handshake();
    }

    fn handshake_is_late(&self) {
        if self.phase.get() != Phase::Handshake {
            return;
        }
        let text = format!("TLS handshake is taking longer than {:?}: aborting the connection", self.limits.handshake);
        self.abort_lower();
        self.handshake_failed(io::Error::new(io::ErrorKind::ConnectionAborted, text));
    }

    fn advance_handshake(&self) {
        let advanced = self.engine.borrow_mut().handshake();
        self.flush();
        match advanced {
            Ok(true) => self.handshake_done(),
            Ok(false) => {}
            Err(error) => self.handshake_failed(error),
        }
    }

    fn handshake_done(&self) {
        self.disarm();
        self.phase.set(Phase::Open);
        let Some(upper) = self.upper.upgrade() else { return };
        let time = self.core.now().saturating_duration_since(self.began_at.get());
        note!(DEBUG, "roundelay::io", "{upper:?}: the TLS handshake took {time:?}");
        upper.inherit_context();
        upper.begin_layered(self.standing != Standing::New);
        // Before anything that has come with the last of the handshake.
        self.tell_outcome(Ok(()));
        // A protocol that knew the connection may have written already.
        upper.layer_writable();
        upper.layer_readable();
    }

    /// The caller hears of it, and the protocol only if it knew of the connection.
    fn handshake_failed(&self, error: io::Error) {
        self.phase.set(Phase::Lost);
        self.disarm();
        self.leave_lower(Some(&error));
        if let Some(upper) = self.upper.upgrade() {
            note!(DEBUG, "roundelay::io", "{upper:?}: the TLS handshake failed: {error}");
            if !self.is_awaited.get() && self.el().debug() {
                let context = ExceptionContext::new("Error on transport creation for incoming connection")
                    .with_exception(Exception::Error(&error))
                    .with_subject(upper.transport());
                self.el().call_exception_handler(&context);
            }
            match self.standing {
                Standing::New => upper.discard(),
                Standing::Known { .. } => upper.layer_failed(LastingError::new(&error).get()),
            }
        }
        self.tell_outcome(Err(error));
    }

    fn tell_outcome(&self, outcome: Outcome) {
        *self.outcome.borrow_mut() = Some(outcome);
        if let Some(waker) = self.waker.take() {
            self.core.local.wake(waker);
        }
    }

    /// Takes what has arrived, or what was taken before if that is nothing.
    fn received(&self, upper: &Rc<SocketTransport>, mut data: &[u8]) {
        loop {
            match self.phase.get() {
                // Whatever is below has not begun: this is for the handshake.
                Phase::New => return self.engine.borrow_mut().keep(data),
                Phase::Handshake => {
                    self.engine.borrow_mut().take(&mut data);
                    self.advance_handshake();
                    if self.phase.get() == Phase::Open {
                        // The protocol has just begun: it gets this in a turn of its own.
                        self.engine.borrow_mut().keep(data);
                        break;
                    }
                }
                Phase::Open if upper.is_shut() => {
                    // A peer that waits for its bytes to be taken would never take ours.
                    self.engine.borrow_mut().keep(data);
                    if let Err(error) = self.discard_received() {
                        self.fail(error);
                    }
                    return;
                }
                Phase::Open => {
                    if upper.wants_bytes() {
                        self.engine.borrow_mut().take(&mut data);
                        self.flush();
                    }
                    upper.layer_readable();
                    let is_stuck = self.engine.borrow_mut().has_plaintext();
                    if is_stuck || !upper.wants_bytes() || self.phase.get() != Phase::Open {
                        self.engine.borrow_mut().keep(data);
                        // It may have found nothing more before this was kept.
                        upper.layer_has_more();
                        break;
                    }
                }
                Phase::Ending => {
                    self.engine.borrow_mut().keep(data);
                    return upper.layer_writable();
                }
                Phase::Ended | Phase::Lost => return,
            }
            if data.is_empty() {
                break;
            }
        }
        self.hold_if_much();
    }

    /// Stops the transport below from reading while there is much that nobody takes.
    fn hold_if_much(&self) {
        if !self.is_held.get() && self.engine.borrow().waiting() >= TLS_READ_HIGH_WATER {
            self.is_held.set(true);
            if let Some(lower) = self.lower() {
                lower.pause_reading();
            }
        }
    }

    fn let_go_if_little(&self) {
        if self.is_held.get() && self.engine.borrow().waiting() <= TLS_READ_LOW_WATER {
            self.is_held.set(false);
            if let Some(lower) = self.lower() {
                lower.resume_reading();
            }
        }
    }

    /// Gives the transport below what is to be sent.
    fn flush(&self) {
        // What fails is what somebody writes, who asks for it.
        let _ = self.try_flush();
    }

    fn try_flush(&self) -> io::Result<()> {
        if self.engine.borrow().is_flushed() {
            return Ok(());
        }
        let Some(lower) = self.lower() else { return Ok(()) };
        let flushed = if self.is_lower_quiet.get() {
            self.engine.borrow_mut().flush(|records| match records {
                [record] => lower.write(record),
                _ => lower.writelines(records),
            })
        } else {
            let mut all = Vec::new();
            let flushed = self.engine.borrow_mut().flush(|records| {
                records.iter().for_each(|record| all.extend_from_slice(record));
            });
            lower.write_owned(all);
            flushed
        };
        self.has_moved.set(true);
        if lower.write_buffer_size() > 0 && !self.is_full.replace(true) && !lower.heed_pause() {
            self.look_for_room_soon();
        }
        self.note_progress();
        flushed
    }

    /// A pause that ends before it is told of is not told of at all, nor is its end: looks once when it would have been.
    fn look_for_room_soon(&self) {
        let me = self.me.clone();
        self.el().call_soon(move || {
            let Some(this) = me.upgrade() else { return };
            let is_empty = this.lower().is_some_and(|lower| lower.write_buffer_size() == 0);
            if let Some(upper) = this.upper.upgrade().filter(|_| is_empty && this.is_full.get()) {
                this.go_on_writing(&upper);
            }
        });
    }

    /// The transport below has sent everything.
    fn go_on_writing(&self, upper: &Rc<SocketTransport>) {
        self.is_full.set(false);
        if self.is_up() {
            upper.layer_writable();
        }
        self.note_progress();
    }

    /// Looks for progress, if the end is waited for.
    fn note_progress(&self) {
        if self.is_up() && self.timer.borrow().is_some() {
            self.look_for_progress();
        }
    }

    /// Notes the time if something was sent since the last look. The transport below does not tell of a part of what it has.
    fn look_for_progress(&self) {
        let left = self.lower().map_or(0, |lower| lower.write_buffer_size());
        let is_less = self.left.replace(left) > left;
        if self.has_moved.take() || is_less {
            self.moved_at.set(self.core.now());
        }
    }

    /// Encrypts and sends piece by piece, for as long as the transport below does not queue. `piece` encrypts from so many
    /// bytes on, and says how many.
    fn send_pieces(
        &self,
        len: usize,
        mut piece: impl FnMut(&mut Engine, usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.is_sending.get() {
            return self.later();
        }
        self.is_sending.set(true);
        let mut sent = 0;
        let mut result = Ok(());
        while result.is_ok() && sent < len && !self.is_full.get() && self.phase.get() == Phase::Open {
            let piece = piece(&mut self.engine.borrow_mut(), sent);
            result = piece.and_then(|n| {
                sent += n;
                self.try_flush()
            });
        }
        self.is_sending.set(false);
        result?;
        if sent == 0 && len > 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(sent) }
    }

    /// Called from within a write to the transport below: this has to wait for the rest of what is being sent.
    #[cold]
    fn later<T>(&self) -> io::Result<T> {
        if self.core.is_open() {
            let upper = self.upper.clone();
            self.el().call_soon(move || {
                if let Some(upper) = upper.upgrade() {
                    upper.layer_writable();
                }
            });
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// The transport below is gone.
    fn lower_lost(&self, upper: &Rc<SocketTransport>, error: Option<io::Error>) {
        let phase = self.phase.get();
        match phase {
            Phase::New | Phase::Handshake => {
                // Without an error it was this side that has ended it, which nobody needs to be told of.
                self.is_awaited.set(self.is_awaited.get() || error.is_none());
                let text = "the connection was lost during the TLS handshake";
                let error = error.unwrap_or_else(|| io::Error::new(io::ErrorKind::ConnectionReset, text));
                self.handshake_failed(error);
                if self.standing != Standing::New {
                    // Now: with the transport below goes this.
                    upper.layer_lost(None);
                }
            }
            Phase::Open | Phase::Ending => {
                self.deliver_rest(upper);
                self.phase.set(Phase::Lost);
                self.disarm();
                // A peer that has everything, and does not wait for our last word, is none that has failed.
                let has_everything = phase == Phase::Ending || self.engine.borrow().is_over();
                let is_harmless = has_everything && !self.is_full.get();
                upper.layer_lost(error.filter(|error| !(is_harmless && is_reset(error))));
            }
            // What is on its way comes now.
            Phase::Ended | Phase::Lost => upper.layer_lost(None),
        }
        self.lower.replace(None);
    }

    /// What had arrived comes before the end, also where the protocol takes little at a time, unless it has paused.
    fn deliver_rest(&self, upper: &Rc<SocketTransport>) {
        while self.phase.get() == Phase::Open && upper.takes_bytes() && self.has_received() {
            upper.layer_readable();
        }
    }

    /// Whether there is something that nobody has taken.
    fn has_received(&self) -> bool {
        let mut engine = self.engine.borrow_mut();
        engine.has_plaintext() || engine.waiting() > 0
    }

    /// Ends the connection with an error.
    fn fail(&self, error: io::Error) {
        match self.phase.get() {
            Phase::New | Phase::Handshake => self.handshake_failed(error),
            Phase::Open | Phase::Ending => {
                if let Some(upper) = self.upper.upgrade() {
                    upper.layer_failed(error);
                }
            }
            Phase::Ended | Phase::Lost => {}
        }
    }

    /// Closes the transport below, which has sent everything, or was given an alert; or else aborts it.
    fn leave_lower(&self, error: Option<&io::Error>) {
        let Some(lower) = self.lower.take() else { return };
        let is_sent = error.is_some() && !self.is_full.get() || self.phase.get() == Phase::Ended;
        // In a loop that is being closed nothing waits for an end.
        if is_sent && self.core.is_open() {
            lower.close();
        } else {
            lower.abort();
        }
    }

    /// It had its time: its own end, which may have none, is not waited for.
    fn abort_lower(&self) {
        if let Some(lower) = self.lower.take() {
            lower.abort();
        }
    }

    fn arm(&self, time: Duration, on_time: fn(&Self)) {
        let me = self.me.clone();
        let timer = self.el().call_later(time, move || {
            if let Some(this) = me.upgrade() {
                this.timer.replace(None);
                on_time(&this);
            }
        });
        let before = self.timer.replace(Some(timer));
        if let Some(before) = before {
            before.cancel();
        }
    }

    fn disarm(&self) {
        if let Some(timer) = self.timer.take() {
            timer.cancel();
        }
    }

    /// From now on the end is waited for.
    fn await_end(&self) {
        self.look_for_progress();
        self.moved_at.set(self.core.now());
        self.arm(self.limits.shutdown, Self::shutdown_is_late);
    }

    fn shutdown_is_late(&self) {
        if !self.is_up() {
            return;
        }
        self.look_for_progress();
        let silent = self.core.now().saturating_duration_since(self.moved_at.get());
        match self.limits.shutdown.checked_sub(silent).filter(|rest| !rest.is_zero()) {
            Some(rest) => self.arm(rest, Self::shutdown_is_late),
            None => {
                self.abort_lower();
                self.fail(io::Error::new(io::ErrorKind::TimedOut, "TLS shutdown timed out"));
            }
        }
    }

    /// Says that nothing follows, and goes on listening.
    fn end_alone(&self) -> io::Result<()> {
        if !self.is_full.get() {
            self.engine.borrow_mut().close();
            self.try_flush()?;
        }
        if self.is_full.get() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }

    /// Throws away what arrives after this side has ended. True if the peer has ended, too.
    fn discard_received(&self) -> io::Result<bool> {
        let discarded = self.core.with_receive_buffer(|buffer| {
            loop {
                match self.engine.borrow_mut().recv(buffer) {
                    Ok(0) => return Ok(true),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                    // It was cut off when everything was said.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(true),
                    Err(error) => return Err(error),
                }
            }
        });
        self.let_go_if_little();
        // An answer to a change of keys, or an alert.
        self.flush();
        discarded
    }
}

fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

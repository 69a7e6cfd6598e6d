//! What carries the bytes of a transport that has no descriptor of its own: a stream of the application's, or another
//! transport with something in between, as TLS.
//!
//! To the transport a layer is a descriptor that knows edges: a call that fails with `WouldBlock` is followed by an event.
//! What differs is named by [`SocketTransport::is_layered`]: a short read need not mean that there is no more, and writing
//! comes to its end by a flush, and at last by an end, which may have to wait in their turn.

use std::io::{self, IoSlice};
use std::rc::Rc;

use crate::error::PanicPayload;
use crate::event_loop::Core;
use crate::protocol::{BaseTransport, ExtraInfo, StreamTransport, TransportId};
#[cfg(feature = "__tls")]
use crate::reactor::{Readiness, slot::Handler};
#[cfg(feature = "__tls")]
use crate::sched::context;
use crate::transport::actions::Action;
use crate::transport::flow::Flow;
use crate::transport::lifecycle::Lifecycle;
use crate::transport::stream::carrier::Carrier;
use crate::transport::stream::{Parts, SocketTransport};

/// How a transport is closed.
#[cfg_attr(not(feature = "__tls"), allow(dead_code))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// What is queued is sent first, and then the layer is settled.
    Settle,
    /// At once.
    Abort,
    /// At once, and its protocol hears nothing of it: it has heard nothing yet.
    Discard,
}

/// See the module.
pub(crate) trait Layer {
    fn recv(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Whether nothing is left after a short read, so that there will be an event before there is anything.
    fn is_drained(&self) -> bool {
        false
    }

    fn send(&self, data: &[u8]) -> io::Result<usize>;

    fn send_vectored(&self, data: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Flushes, and ends if everything is to end here.
    fn settle(&self, ends: bool) -> io::Result<()>;

    /// Whether nothing that it was given waits here.
    fn is_flushed(&self) -> bool;

    /// Whether it has come to the end that [`settle`](Self::settle) brings about.
    fn is_closed(&self) -> bool;

    /// Whether what it is given stays here until it is asked to settle.
    fn keeps(&self) -> bool;

    /// Whether its writing side can end alone. One that cannot tells of the peer's end also where this side has ended
    /// first.
    fn half_closes(&self) -> bool;

    /// From now on it is to end alone, where that is left to whoever uses it.
    fn allow_half_close(&self) {}

    /// Why nothing can stand on the transport yet.
    fn unfit_to_carry(&self) -> Option<&'static str> {
        None
    }

    /// The transport is to be closed.
    fn closing(&self) -> Closing {
        Closing::Settle
    }

    /// The transport is lost, aborted where there is no error: nothing more is sent.
    fn lost(&self, _error: Option<&io::Error>) {}

    /// The transport is gone.
    fn leave(&self, id: TransportId);

    /// Which of its methods has panicked since the last call, and with what.
    fn take_panic(&self) -> Option<(&'static str, PanicPayload)> {
        None
    }

    fn extra_info(&self) -> ExtraInfo {
        ExtraInfo::default()
    }

    /// Whether what is below is closing or gone.
    fn is_closing(&self) -> bool {
        false
    }
}

impl SocketTransport {
    /// A transport over a layer, which is not read before the connection was made. The flow control is that of `flow`.
    pub(crate) fn open_layered(core: &Rc<Core>, flow: Flow, parts: Parts) -> Rc<Self> {
        let this = Self::make(core, Lifecycle::new(), true, parts);
        this.flow.set(flow);
        this
    }

    /// Gives a transport that was just opened its layer.
    pub(crate) fn set_layer(&self, layer: Rc<dyn Layer>) {
        *self.io.borrow_mut() = Some(Carrier::Layer(layer));
    }

    pub(super) fn with_layer<R>(&self, f: impl FnOnce(&dyn Layer) -> R) -> Option<R> {
        // With nothing borrowed: it may wake somebody.
        let layer = match &*self.io.borrow() {
            Some(Carrier::Layer(layer)) => layer.clone(),
            _ => return None,
        };
        Some(f(&*layer))
    }

    /// Closes the transport, or, where others stand on it, the uppermost of them.
    pub(crate) fn close_whole(&self) {
        match self.carried() {
            Some(upper) => upper.uppermost().close(),
            None => BaseTransport::close(self),
        }
    }

    /// Closes it.
    pub(super) fn close_layered(&self) {
        match self.with_layer(|layer| layer.closing()) {
            Some(Closing::Settle) => self.enqueue(Action::Write),
            Some(Closing::Abort) => self.lose(None),
            Some(Closing::Discard) => self.forget(),
            None => {}
        }
    }
}

/// For layers that are transports' protocols themselves.
#[cfg(feature = "__tls")]
impl SocketTransport {
    /// Callbacks run in a copy of the current context from now on.
    pub(crate) fn inherit_context(&self) {
        drop(self.context.replace(context::fork_current()));
    }

    /// The connection stands: the protocol is told so, unless it knows.
    pub(crate) fn begin_layered(&self, is_known: bool) {
        if is_known {
            self.made_in.set(self.core.turn_number());
        } else {
            self.make_connection();
        }
    }

    /// The protocol knows the connection already, whatever becomes of it.
    pub(crate) fn set_known(&self, was_told_to_pause: bool) {
        self.made_in.set(self.core.turn_number());
        self.told_paused.set(was_told_to_pause);
        if was_told_to_pause {
            self.tell_soon();
        }
    }

    /// Something has arrived, or has come to an end.
    pub(crate) fn layer_readable(self: &Rc<Self>) {
        self.clone().on_ready(Readiness::READABLE);
    }

    /// Something is left for when reading goes on.
    pub(crate) fn layer_has_more(&self) {
        self.readable.set(true);
    }

    /// There is room again, or an end is reached.
    pub(crate) fn layer_writable(self: &Rc<Self>) {
        self.clone().on_ready(Readiness::WRITABLE);
    }

    /// The layer has failed.
    pub(crate) fn layer_failed(&self, error: io::Error) {
        self.fail(error);
    }

    /// What is below is gone: so is this, here and now. Only called with no callback on the stack.
    pub(crate) fn layer_lost(&self, error: Option<io::Error>) {
        self.deal(|| {
            self.lose(error);
            self.connection_lost();
        });
    }

    /// Whether it is closed by this side, or gone.
    pub(crate) fn is_shut(&self) -> bool {
        self.life.get().is_closing()
    }

    /// Whether bytes are wanted.
    pub(crate) fn wants_bytes(&self) -> bool {
        self.life.get().is_reading()
    }

    /// Whether bytes would be delivered here and now.
    pub(crate) fn takes_bytes(&self) -> bool {
        self.wants_bytes() && self.has_begun()
    }

    /// Ends it at once.
    pub(crate) fn abort_layered(&self) {
        self.lose(None);
    }

    /// Lets go of everything without a word.
    pub(crate) fn discard(&self) {
        self.forget();
    }
}

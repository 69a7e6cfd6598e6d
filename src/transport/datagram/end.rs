//! How an endpoint ends, and what is reported on the way.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::PanicPayload;
use crate::event_loop::EventLoop;
use crate::event_loop::exception::ExceptionContext;
use crate::os::socket::local_addr;
use crate::protocol::DatagramHandle;
use crate::reactor::Interest;
use crate::sched::context::{self, Slot};
use crate::sched::report::Exception;
use crate::transport::actions::Action;
use crate::transport::datagram::{DatagramSocket, Io};
use crate::transport::lifecycle::Lifecycle;

impl DatagramSocket {
    /// Ends the endpoint with an error that is more than a datagram's.
    pub(super) fn fail(&self, error: io::Error) {
        note!(DEBUG, "roundelay::io", "{self:?} is lost: {error}");
        self.lose(Some(error));
    }

    pub(super) fn lose(&self, error: Option<io::Error>) {
        if !self.update_life(Lifecycle::lose) {
            return;
        }
        self.queue.take();
        // Nobody is told to resume writing to an endpoint that is lost.
        self.told_paused.set(self.flow.get().is_paused());
        self.set_interest(Interest::NONE);
        self.error_kind.set(error.as_ref().map(io::Error::kind));
        self.error.set(error);
        self.enqueue(Action::Lost);
    }

    pub(super) fn connection_lost(&self) {
        // What has gone wrong before it.
        self.tell_errors();
        if !self.update_life(Lifecycle::gone) {
            return;
        }
        note!(DEBUG, "roundelay::io", "{self:?}: connection lost");
        let error = self.error.take();
        let called = self.call(|protocol, handle| protocol.connection_lost(handle, error));
        if let Some(Err(payload)) = called {
            self.report("Exception in callback connection_lost", payload);
        }
        self.forget();
    }

    /// Lets go of everything: socket, protocol, context.
    pub(super) fn forget(&self) {
        self.update_life(|life| {
            let _ = life.gone();
        });
        let io = self.io.take();
        if io.is_none() && self.protocol.borrow().is_none() {
            return;
        }
        if let Some(Io { registration, socket }) = io {
            drop(registration);
            // Beside whoever calls this somebody has a handle, and may ask for the address yet.
            if self.me.strong_count() > 1 {
                *self.local_addr.borrow_mut() = local_addr(&socket).ok();
            }
        }
        self.core.transport_gone();
        self.queue.take();
        self.errors.take();
        if let Some(timer) = self.retry.take() {
            timer.cancel();
        }
        self.wake_waiters();
        let protocol = self.protocol.take();
        let ((), slot) = context::enter(self.context.replace(Slot::EMPTY), || self.release("a protocol", protocol));
        if !slot.is_empty() {
            self.release("a context", slot);
        }
    }

    /// Drops what may have a destructor of the application's, which may call any method here and may panic. Only called
    /// with nothing borrowed.
    pub(super) fn release<T>(&self, what: &str, value: T) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
            self.report(&format!("Exception in the destructor of {what}"), payload);
        }
    }

    /// Reports the panic of a callback, in the callbacks' context.
    pub(super) fn report(&self, message: &str, payload: PanicPayload) {
        let local = &self.core.local;
        let Some(payload) = local.take_fatal(payload) else { return };
        let slot = self.context.replace(Slot::EMPTY);
        let ((), slot) = context::enter(slot, || {
            self.call_handler(ExceptionContext::new(message).with_exception(Exception::Panic(&*payload)));
        });
        self.context.set(slot);
        local.dispose(payload);
    }

    pub(super) fn call_handler(&self, mut problem: ExceptionContext<'_>) {
        if let Some(me) = self.me.upgrade() {
            problem = problem.with_subject(DatagramHandle::new(me));
        }
        if let Some(protocol) = self.protocol.borrow().clone() {
            problem = problem.with_subject(protocol);
        }
        problem.created_at = Some(self.created_at);
        let el = EventLoop::handle(self.core.clone());
        context::within(&self.context, || el.call_exception_handler(&problem));
    }

    /// Why sending is impossible.
    pub(super) fn lost_error(&self) -> io::Error {
        let kind = self.error_kind.get().unwrap_or(io::ErrorKind::ConnectionReset);
        io::Error::new(kind, "Connection lost")
    }
}

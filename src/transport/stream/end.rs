//! How a connection ends, and what is reported on the way.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{PanicPayload, callback_panicked};
use crate::event_loop::EventLoop;
use crate::event_loop::exception::ExceptionContext;
use crate::os::channel::Channel;
use crate::os::credentials::peer_credentials;
use crate::os::fd::AsFd;
use crate::os::socket::local_addr;
use crate::protocol::Transport;
use crate::reactor::Interest;
use crate::sched::context::{self, Slot};
use crate::sched::report::Exception;
use crate::transport::actions::Action;
use crate::transport::address::KeptAddress;
use crate::transport::lifecycle::Lifecycle;
use crate::transport::queue::WriteQueue;
use crate::transport::stream::carrier::{Carrier, Io};
use crate::transport::stream::{NOT_MADE, SocketTransport};

impl SocketTransport {
    /// Ends the connection with an error.
    pub(super) fn fail(&self, error: io::Error) {
        let panic = if self.is_layered { self.with_layer(|layer| layer.take_panic()).flatten() } else { None };
        if let Some((method, payload)) = panic {
            return self.fail_by_panic(&format!("the stream's {method}"), payload);
        }
        note!(DEBUG, "roundelay::io", "{self:?} is lost: {error}");
        self.lose(Some(error));
    }

    pub(super) fn lose(&self, error: Option<io::Error>) {
        if !self.update_life(Lifecycle::lose) {
            return;
        }
        let queue = self.queue.take();
        // Nobody is told to resume writing to a connection that is lost.
        self.told_paused.set(self.flow.get().is_paused());
        self.set_interest(Interest::NONE);
        if self.is_layered {
            self.with_layer(|layer| layer.lost(error.as_ref()));
        }
        if let Some(error) = error {
            self.rare(|rare| {
                rare.error_kind = Some(error.kind());
                rare.error = Some(error);
            });
        }
        self.enqueue(Action::Lost);
        self.release_queue(queue);
    }

    pub(super) fn connection_lost(&self) {
        if self.made_in.get() == NOT_MADE && !self.life.get().is_gone() {
            // A protocol that was to begin hears of that first.
            self.begin();
            if self.made_in.get() == NOT_MADE {
                // It has left everything to another one, and so it is with that one.
                return self.enqueue(Action::Lost);
            }
        }
        if !self.update_life(Lifecycle::gone) {
            return;
        }
        note!(DEBUG, "roundelay::io", "{self:?}: connection lost");
        let error = self.if_rare(|rare| rare.error.take()).flatten();
        let called = self.call(|protocol, transport| protocol.connection_lost(transport, error));
        if let Some(Err(payload)) = called {
            self.report("Exception in callback connection_lost", payload);
        }
        self.forget();
    }

    /// Lets go of everything: socket, protocol, context, server.
    pub(super) fn forget(&self) {
        self.update_life(|life| {
            let _ = life.gone();
        });
        if !self.close_io() && self.protocol.borrow().is_none() {
            return;
        }
        self.core.transport_gone();
        let queue = self.queue.take();
        let idle = self.if_rare(|rare| {
            rare.unread = Vec::new();
            rare.elsewhere = None;
            (rare.idle.take(), rare.upper.take())
        });
        if let Some((Some(idle), _)) = &idle {
            idle.timer.cancel();
        }
        drop(idle);
        self.wake_waiters();
        self.wake_flush_waiters();
        self.wake_file();
        self.leave_owner();
        let protocol = self.protocol.take();
        let ((), slot) = context::enter(self.context.replace(Slot::EMPTY), || {
            self.release("a protocol", protocol);
            self.release_queue(queue);
        });
        if !slot.is_empty() {
            self.release("a context", slot);
        }
    }

    /// Closes what carries the bytes, unless somebody is looking at it, who then does so. True if it was there.
    pub(super) fn close_io(&self) -> bool {
        let Ok(io) = self.io.try_borrow_mut().map(|mut io| io.take()) else { return true };
        match io {
            Some(Carrier::Channel(Io { registration, channel })) => {
                drop(registration);
                // Beside whoever calls this somebody has a handle, and may ask for the address yet.
                if self.me.strong_count() > 1 {
                    self.note_extra(&channel);
                }
            }
            Some(Carrier::Layer(layer)) => {
                if self.me.strong_count() > 1 {
                    let info = Box::new(layer.extra_info().of_the_past());
                    self.rare(|rare| rare.extra_info = Some(info));
                }
                layer.leave(self.id);
                self.release("a transport's stream", layer);
            }
            None => return false,
        }
        true
    }

    pub(super) fn release_queue(&self, queue: WriteQueue) {
        if !queue.is_empty() {
            self.release("written bytes", queue);
        }
    }

    /// Drops what may have a destructor of the application's, which may call any method here and may panic. Only called
    /// with nothing borrowed.
    pub(super) fn release<T>(&self, what: &str, value: T) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
            self.report(&format!("Exception in the destructor of {what}"), payload);
        }
    }

    /// Asks the system, once, for what `extra_info` tells and nobody needed so far.
    pub(super) fn note_extra(&self, channel: &Channel) {
        if !channel.is_socket() {
            return;
        }
        let mut local_addr = self.local_addr.take();
        if !local_addr.is_known() {
            local_addr = local_addr_of(channel);
        }
        let is_unix = local_addr.is_unix();
        self.local_addr.set(local_addr);
        if is_unix && self.if_rare(|rare| rare.credentials).flatten().is_none() {
            match peer_credentials(channel.as_fd()) {
                Ok(credentials) => self.rare(|rare| rare.credentials = Some(credentials)),
                Err(error) => note!(DEBUG, "roundelay::io", "no credentials of the peer of {self:?}: {error}"),
            }
        }
    }

    pub(super) fn fail_by_panic(&self, callback: &str, payload: PanicPayload) {
        let error = callback_panicked(callback, &*payload);
        self.report(&format!("Fatal error: {callback} call failed."), payload);
        self.lose(Some(error));
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

    pub(super) fn report_error(&self, message: &str, error: &io::Error) {
        self.call_handler(ExceptionContext::new(message).with_exception(Exception::Error(error)));
    }

    pub(super) fn call_handler(&self, mut problem: ExceptionContext<'_>) {
        if let Some(me) = self.me.upgrade() {
            problem = problem.with_subject(Transport::new(me));
        }
        if let Some(protocol) = self.protocol.borrow().clone() {
            problem = problem.with_subject(protocol);
        }
        problem.created_at = self.place();
        let el = EventLoop::handle(self.core.clone());
        context::within(&self.context, || el.call_exception_handler(&problem));
    }

    /// Why writing is impossible.
    pub(super) fn lost_error(&self) -> io::Error {
        match self.if_rare(|rare| rare.error_kind).flatten() {
            Some(kind) => io::Error::new(kind, "Connection lost"),
            None => io::Error::new(io::ErrorKind::ConnectionReset, "Connection lost"),
        }
    }
}

/// The address of this end, where the system tells it.
pub(crate) fn local_addr_of(socket: impl AsFd) -> KeptAddress {
    local_addr(socket).ok().into()
}

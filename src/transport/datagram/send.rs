//! The sending side: what is sent at once, what is gathered, what is queued, and who waits for room.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll};

use crate::constants::{
    DATAGRAM_HEADER, DATAGRAMS_PER_EVENT, LOST_WRITES_BEFORE_WARNING, UNIX_SEND_RETRY, UNIX_SEND_RETRY_MOST,
};
use crate::event_loop::EventLoop;
use crate::event_loop::exception::ExceptionContext;
use crate::event_loop::inspection::waits_for;
use crate::os::address::Address;
use crate::os::datagram::{send, send_several, send_to};
use crate::os::socket::would_block;
use crate::protocol::{AnyDatagramProtocol, DatagramTransport, WaiterId, WaterMarks};
use crate::sched::info::WaitsFor;
use crate::transport::actions::Action;
use crate::transport::datagram::{DatagramSocket, Peer};
use crate::transport::flow::{Change, Flow};
use crate::transport::lifecycle::{Flushed, Lifecycle};

/// A datagram that waits to be sent.
struct Waiting {
    data: Box<[u8]>,
    /// `None` for the peer of a connected socket.
    to: Option<Address>,
}

impl Waiting {
    /// What it counts in the queue.
    fn size(&self) -> usize {
        self.data.len() + DATAGRAM_HEADER
    }
}

/// Datagrams that wait to be sent.
#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    size: usize,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// In bytes, with so many for each datagram's header.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    fn push(&mut self, data: &[u8], to: Option<Address>) {
        let waiting = Waiting { data: data.into(), to };
        self.size += waiting.size();
        self.waiting.push_back(waiting);
    }

    fn pop(&mut self) {
        if let Some(waiting) = self.waiting.pop_front() {
            self.size -= waiting.size();
        }
    }
}

impl DatagramSocket {
    /// Where a datagram goes: `None` for the peer of a connected socket. An error if that is not allowed.
    fn recipient<'a>(&'a self, addr: Option<&'a Address>) -> Result<Option<&'a Address>, String> {
        let fixed = match &self.peer {
            Peer::None => return Ok(addr),
            Peer::Connected(peer) => peer.as_ref(),
            Peer::Preset(peer) => Some(peer),
        };
        if let Some(addr) = addr.filter(|addr| fixed != Some(*addr)) {
            let peer = fixed.map_or_else(|| "a peer without a name".to_owned(), Address::to_string);
            return Err(format!("the endpoint sends to {peer} and to nobody else, and the address is {addr}"));
        }
        Ok(fixed.filter(|_| matches!(self.peer, Peer::Preset(_))))
    }

    fn send_now(&self, data: &[u8], to: Option<&Address>) -> io::Result<()> {
        let sent = match (&*self.io.borrow(), to) {
            // For the parent nothing is sent.
            (Some(_), _) if self.core.is_inherited() => return Err(io::ErrorKind::WouldBlock.into()),
            (Some(io), Some(to)) => send_to(&io.socket, data, to)?,
            (Some(io), None) => send(&io.socket, data)?,
            (None, _) => 0,
        };
        self.core.count_out(sent);
        Ok(())
    }

    /// Takes a datagram to be sent with others, if that is how it is done just now; but none for the peer of a connected
    /// socket, which tells of an earlier datagram's error when it sends the next one, and would tell nobody.
    fn gather(&self, data: &[u8], to: Option<&Address>) -> bool {
        let Some(Address::Ip(to)) = to.filter(|_| self.gathering.get()) else { return false };
        let fits = |data: &[u8]| self.mail.outbox.borrow().has_room(data.len());
        if !fits(data) {
            self.send_gathered();
        }
        // What is queued goes first.
        let gathers = fits(data) && self.queue.borrow().is_empty();
        if gathers {
            self.mail.outbox.borrow_mut().push(data, *to);
        }
        gathers
    }

    /// Sends what was gathered; what there is no room for is queued.
    pub(super) fn send_gathered(&self) {
        // A child that was forked while it was being gathered leaves it to the parent.
        if !self.gathering.get() || self.core.is_inherited() {
            return;
        }
        let mut outbox = self.mail.outbox.borrow_mut();
        let (mut sent, mut is_full) = (0, false);
        while let (false, Some(io), true) = (is_full, &*self.io.borrow(), sent < outbox.letters.len()) {
            match send_several(&io.socket, &outbox.bytes, &outbox.letters[sent..]) {
                Ok(n) => {
                    let letters = &outbox.letters[sent..sent + n];
                    let bytes = letters.iter().map(|(range, _)| range.len()).sum();
                    self.core.count_out(bytes);
                    sent += n;
                }
                Err(error) if would_block(&error) => is_full = true,
                Err(error) => {
                    sent += 1;
                    self.note_error(error);
                }
            }
        }
        for (range, to) in &outbox.letters[sent..] {
            self.queue.borrow_mut().push(&outbox.bytes[range.clone()], Some((*to).into()));
        }
        outbox.clear();
        drop(outbox);
        if is_full {
            self.wait_for_room();
            self.queue_grown();
        }
    }

    /// Whether the socket says that it is writable though its peer has no room, as often as it is found that there is none.
    pub(super) fn waits_in_vain(&self) -> bool {
        self.is_unix && !matches!(self.peer, Peer::Connected(_))
    }

    /// Sees to it that the queue goes on.
    fn wait_for_room(&self) {
        self.update_interest();
        if self.is_unix && self.retry.borrow().is_none() {
            // A connected one hears of room, unless it is others whose datagrams were read.
            let delay = if self.waits_in_vain() { self.retry_after.get() } else { UNIX_SEND_RETRY_MOST };
            self.retry_after.set(UNIX_SEND_RETRY_MOST.min(delay * 2));
            let me = self.me.clone();
            let timer = EventLoop::handle(self.core.clone()).call_later(delay, move || {
                if let Some(this) = me.upgrade() {
                    this.retry.take();
                    this.enqueue(Action::Write);
                }
            });
            *self.retry.borrow_mut() = Some(timer);
        }
    }

    fn queue_grown(&self) {
        let size = self.queue.borrow().size();
        self.update_flow(|flow| flow.grown(size));
    }

    fn note_lost_write(&self) {
        if !self.life.get().is_lost() {
            return;
        }
        let writes = self.lost_writes.get().saturating_add(1);
        self.lost_writes.set(writes);
        if writes >= LOST_WRITES_BEFORE_WARNING {
            note!(WARN, "roundelay", "sendto on an endpoint that is gone, for the {writes}th time: {self:?}");
        }
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

    pub(super) fn wake_waiters(&self) {
        for (_, waker) in self.waiters.take() {
            self.core.local.wake(waker);
        }
    }

    /// Sends what is queued, until there is no room or this event has had its share. A datagram that cannot be sent does
    /// not keep the others.
    pub(super) fn flush(&self) {
        for _ in 0..DATAGRAMS_PER_EVENT {
            let result = match self.queue.borrow().waiting.front() {
                Some(Waiting { data, to }) => self.send_now(data, to.as_ref()),
                None => return,
            };
            match result {
                Err(error) if would_block(&error) => return self.wait_for_room(),
                Err(error) => self.note_error(error),
                Ok(()) => {}
            }
            self.retry_after.set(UNIX_SEND_RETRY);
            self.queue.borrow_mut().pop();
            let size = self.queue.borrow().size();
            self.update_flow(|flow| flow.shrunk(size));
            if self.queue.borrow().is_empty() {
                return self.flushed();
            }
        }
        if self.is_edge() || self.is_unix {
            self.enqueue(Action::Write);
        }
    }

    /// The queue has become empty.
    fn flushed(&self) {
        self.update_interest();
        match self.update_life(Lifecycle::flushed) {
            Flushed::GoOn | Flushed::Shutdown => {}
            Flushed::Lose => self.enqueue(Action::Lost),
        }
    }
}

impl DatagramTransport for DatagramSocket {
    fn sendto(&self, data: &[u8], addr: Option<&Address>) {
        let to = match self.recipient(addr) {
            Ok(to) => to,
            Err(reason) => {
                return self.call_handler(ExceptionContext::new(format!("DatagramHandle::sendto(): {reason}")));
            }
        };
        if self.life.get().is_closing() {
            return self.note_lost_write();
        }
        if self.gather(data, to) {
            return;
        }
        if self.queue.borrow().is_empty() {
            match self.send_now(data, to) {
                Ok(()) => return,
                Err(error) if would_block(&error) => {}
                Err(error) => return self.note_error(error),
            }
            self.queue.borrow_mut().push(data, to.cloned());
            self.wait_for_room();
        } else {
            self.queue.borrow_mut().push(data, to.cloned());
        }
        self.queue_grown();
    }

    fn protocol(&self) -> Option<AnyDatagramProtocol> {
        self.protocol.borrow().clone()
    }

    fn set_protocol(&self, protocol: AnyDatagramProtocol) {
        if self.life.get().is_gone() {
            return;
        }
        if self.protocol.borrow().as_ref().is_some_and(|before| before.is_same(&protocol)) {
            return;
        }
        // A callback that is on the stack has its own handle to the old one.
        let before = self.protocol.replace(Some(protocol));
        // The new one has been told nothing, and hears nothing of writing on an endpoint that is lost.
        let (paused, lost) = (self.flow.get().is_paused(), self.life.get().is_lost());
        self.told_paused.set(paused && lost);
        if paused && !lost {
            self.tell_soon();
        }
        drop(before);
    }

    fn is_reading(&self) -> bool {
        self.receives()
    }

    fn pause_reading(&self) {
        if !self.paused.replace(true) && self.is_made() {
            self.update_interest();
        }
    }

    fn resume_reading(&self) {
        if self.paused.replace(false) && self.is_made() {
            self.update_interest();
            if self.readable.get() {
                self.read_on();
            }
        }
    }

    fn write_buffer_size(&self) -> usize {
        self.queue.borrow().size()
    }

    fn write_buffer_limits(&self) -> WaterMarks {
        self.flow.get().marks()
    }

    fn set_write_buffer_limits(&self, high: Option<usize>, low: Option<usize>) -> io::Result<()> {
        let size = self.queue.borrow().size();
        let mut flow = self.flow.get();
        let change = flow.set_marks(high, low, size)?;
        self.update_flow(|old| {
            *old = flow;
            change
        });
        Ok(())
    }

    fn poll_ready(&self, waiter: WaiterId, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.life.get().is_lost() {
            return Poll::Ready(Err(self.lost_error()));
        }
        if !self.flow.get().is_paused() {
            // A peer that takes everything at once must not keep the others waiting.
            std::task::ready!(self.core.poll_budget(cx));
            self.core.spend_budget();
            return Poll::Ready(Ok(()));
        }
        let waker = cx.waker().clone();
        let before = {
            let mut waiters = self.waiters.borrow_mut();
            match waiters.iter_mut().find(|(id, _)| *id == waiter) {
                Some((_, before)) => Some(std::mem::replace(before, waker)),
                None => {
                    waiters.push((waiter, waker));
                    None
                }
            }
        };
        drop(before);
        waits_for(|| WaitsFor::Other("a transport to send what it has"));
        Poll::Pending
    }

    fn forget_waiter(&self, waiter: WaiterId) {
        let waker = {
            let mut waiters = self.waiters.borrow_mut();
            waiters.iter().position(|(id, _)| *id == waiter).map(|place| waiters.remove(place))
        };
        // Dropping a waker may drop a task.
        drop(waker);
    }
}

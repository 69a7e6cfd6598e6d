//! The writing side: what is sent at once, what is queued, and who waits for room.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::constants::{LOST_WRITES_BEFORE_WARNING, MAX_IOVECS, READS_PER_EVENT};
use crate::event_loop::exception::ExceptionContext;
use crate::event_loop::inspection::waits_for;
use crate::os::socket::{send, send_vectored, would_block};
use crate::protocol::{BaseTransport, WaiterId, WaterMarks, WriteTransport};
use crate::sched::info::WaitsFor;
use crate::transport::actions::Action;
use crate::transport::flow::{Change, Flow};
use crate::transport::lifecycle::{Flushed, Lifecycle, Verdict, WriteEof};
use crate::transport::queue::WriteQueue;
use crate::transport::stream::carrier::Carrier;
use crate::transport::stream::{Rare, SocketTransport};

/// One of the lists of those who wait.
type WaiterList = fn(&mut Rare) -> &mut Vec<(WaiterId, Waker)>;

impl SocketTransport {
    /// Sends at once if nothing is queued, and queues what is left.
    fn write_with(
        &self,
        len: usize,
        send: impl FnOnce(&Carrier) -> io::Result<usize>,
        queue_rest: impl FnOnce(&mut WriteQueue, usize),
    ) {
        match self.life.get().write() {
            Verdict::Write => {}
            Verdict::AfterEof => {
                let context = ExceptionContext::new("Transport::write(): cannot write after write_eof()");
                self.call_handler(context);
                return;
            }
            Verdict::NoSide => return self.refuse("write"),
            Verdict::WithinFile => {
                let context = ExceptionContext::new("Transport::write(): unable to write; sendfile is in progress");
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
        if self.send_or_queue(len, send, queue_rest) {
            self.queue_grown();
        }
    }

    /// True if something was queued.
    pub(super) fn send_or_queue(
        &self,
        len: usize,
        send: impl FnOnce(&Carrier) -> io::Result<usize>,
        queue_rest: impl FnOnce(&mut WriteQueue, usize),
    ) -> bool {
        let was_empty = self.queue.borrow().is_empty();
        let mut sent = 0;
        if was_empty {
            let result = match &*self.io.borrow() {
                // The peer is the parent's, which may be about to send the same.
                Some(_) if self.core.is_inherited() => Err(io::ErrorKind::WouldBlock.into()),
                Some(carrier) => send(carrier),
                None => return false,
            };
            match result {
                Ok(n) => sent = n,
                Err(error) if would_block(&error) => {}
                Err(error) => {
                    self.fail(error);
                    return false;
                }
            }
            if sent > 0 {
                self.note_activity();
            }
            if self.is_layered && self.life.get().is_lost() {
                // Its own code has aborted it.
                return false;
            }
            if sent == len {
                if self.is_layered && self.with_layer(|layer| layer.keeps()) == Some(true) {
                    // To be flushed together with what else is written in this turn.
                    self.enqueue(Action::Write);
                }
                return false;
            }
        }
        // What a stream of the application's has written of itself meanwhile.
        let behind = if was_empty && self.is_layered { self.queue.take() } else { WriteQueue::default() };
        queue_rest(&mut self.queue.borrow_mut(), sent);
        if was_empty {
            self.queue.borrow_mut().append(behind);
            self.write_interest(true);
        }
        true
    }

    #[inline(always)]
    pub(super) fn send(&self, carrier: &Carrier, data: &[u8]) -> io::Result<usize> {
        match carrier {
            Carrier::Channel(io) if io.channel.is_socket() => self.count_sent(send(&io.channel, data)),
            Carrier::Channel(io) => self.count_sent(self.send_otherwise(&io.channel, &[IoSlice::new(data)])),
            Carrier::Layer(layer) => layer.send(data),
        }
    }

    /// What has left the process. A layer's bytes are those of the transport that it stands on.
    #[inline(always)]
    fn count_sent(&self, sent: io::Result<usize>) -> io::Result<usize> {
        if let Ok(n) = sent {
            self.core.count_out(n);
        }
        sent
    }

    fn send_vectored(&self, carrier: &Carrier, data: &[IoSlice<'_>]) -> io::Result<usize> {
        match carrier {
            Carrier::Channel(io) if io.channel.is_socket() => self.count_sent(send_vectored(&io.channel, data)),
            Carrier::Channel(io) => self.count_sent(self.send_otherwise(&io.channel, data)),
            Carrier::Layer(layer) => layer.send_vectored(data),
        }
    }

    fn queue_grown(&self) {
        let size = self.queue.borrow().len();
        let cap = self.if_rare(|rare| rare.cap).flatten();
        if let Some(cap) = cap.filter(|&cap| size > cap) {
            let text = format!("{size} bytes are queued for writing and the cap is {cap}: the peer does not read");
            return self.fail(io::Error::new(io::ErrorKind::WriteZero, text));
        }
        self.update_flow(|flow| flow.grown(size));
    }

    fn note_lost_write(&self) {
        if !self.life.get().is_lost() {
            return;
        }
        let writes = self.rare(|rare| {
            rare.lost_writes = rare.lost_writes.saturating_add(1);
            rare.lost_writes
        });
        if writes >= LOST_WRITES_BEFORE_WARNING {
            note!(WARN, "roundelay", "write to a connection that is gone, for the {writes}th time: {self:?}");
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
        self.wake_list(|rare| &mut rare.waiters);
    }

    pub(super) fn wake_flush_waiters(&self) {
        self.wake_list(|rare| &mut rare.flush_waiters);
    }

    fn wake_list(&self, list: WaiterList) {
        let Some(waiters) = self.if_rare(|rare| std::mem::take(list(rare))) else { return };
        for (_, waker) in waiters {
            self.core.local.wake(waker);
        }
    }

    /// Remembers whom to wake.
    fn wait_in(&self, list: WaiterList, waiter: WaiterId, cx: &Context<'_>) {
        let waker = cx.waker().clone();
        let before = self.rare(|rare| match list(rare).iter_mut().find(|(id, _)| *id == waiter) {
            Some((_, before)) => Some(std::mem::replace(before, waker)),
            None => {
                list(rare).push((waiter, waker));
                None
            }
        });
        drop(before);
        waits_for(|| WaitsFor::Other("a transport to send what it has"));
    }

    /// Ready, or pending where a task has had its share: a peer that takes everything at once must not keep the others
    /// waiting.
    fn poll_within_budget(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.core.poll_budget(cx));
        self.core.spend_budget();
        Poll::Ready(Ok(()))
    }

    /// Sends from the front of a queue, if it has one.
    fn send_front(&self, queue: &WriteQueue) -> Option<io::Result<usize>> {
        if queue.is_empty() {
            return None;
        }
        let io = self.io.borrow();
        let carrier = io.as_ref()?;
        Some(queue.with_slices(|slices| match slices {
            [only] => self.send(carrier, only),
            slices => self.send_vectored(carrier, slices),
        }))
    }

    /// As `send_front`, of what is queued, to a stream of the application's: it may write, or abort, in its turn.
    fn give_front(&self) -> Option<io::Result<usize>> {
        let queue = self.queue.take();
        let result = self.send_front(&queue);
        let behind = self.queue.replace(queue);
        self.queue.borrow_mut().append(behind);
        if self.life.get().is_lost() {
            self.release_queue(self.queue.take());
            return result.map(|result| result.and(Err(io::ErrorKind::WouldBlock.into())));
        }
        result
    }

    /// Sends what is queued, until the socket is full or this event has had its share.
    pub(super) fn flush(&self) {
        for _ in 0..READS_PER_EVENT {
            let result = if self.is_layered { self.give_front() } else { self.send_front(&self.queue.borrow()) };
            let Some(result) = result else { break };
            match result {
                Ok(n) => {
                    let sent = self.queue.borrow_mut().advance(n);
                    self.release("written bytes", sent);
                }
                Err(error) if would_block(&error) => return,
                Err(error) => return self.fail(error),
            }
            self.note_activity();
            let size = self.queue.borrow().len();
            self.update_flow(|flow| flow.shrunk(size));
            if size == 0 && !self.is_layered {
                return self.flushed();
            }
        }
        if !self.queue.borrow().is_empty() {
            if self.is_edge() {
                self.enqueue(Action::Write);
            }
        } else if self.is_layered {
            self.settle();
        }
    }

    /// Has a layer, which was given everything, send it, and end if it is to.
    fn settle(&self) {
        let life = self.life.get();
        if life.is_lost() {
            return;
        }
        let ends = life.ends_when_flushed();
        match self.with_layer(|layer| layer.settle(ends)) {
            Some(Ok(())) if ends && !self.half_closes() => {
                self.tell_end();
                self.flushed();
            }
            Some(Ok(())) if self.queue.borrow().is_empty() && self.life.get().ends_when_flushed() == ends => {
                self.flushed()
            }
            // Its own code has written, or has closed it.
            Some(Ok(())) => self.enqueue(Action::Write),
            Some(Err(error)) if !would_block(&error) => self.fail(error),
            Some(Err(_)) | None => {}
        }
    }

    /// The queue has become empty.
    fn flushed(&self) {
        self.update_interest();
        self.wake_flush_waiters();
        self.wake_file();
        match self.update_life(Lifecycle::flushed) {
            Flushed::GoOn => {}
            Flushed::Shutdown => self.shut_down_writing(),
            Flushed::Lose => self.enqueue(Action::Lost),
        }
    }

    /// Whether the writing side can end alone.
    pub(super) fn half_closes(&self) -> bool {
        !self.is_layered || self.with_layer(|layer| layer.half_closes()).unwrap_or(true)
    }

    /// The peer has agreed to the end that this side has begun: the protocol is told, if it was not before.
    fn tell_end(&self) {
        if self.update_life(Lifecycle::end_reading_late) {
            if let Some(Err(payload)) = self.call(|protocol, transport| protocol.eof_received(transport)) {
                self.report("Exception in callback eof_received", payload);
            }
        }
    }

    pub(super) fn shut_down_writing(&self) {
        let result = match &*self.io.borrow() {
            // Of both processes it would be the end.
            Some(_) if self.core.is_inherited() => Ok(()),
            Some(Carrier::Channel(io)) => io.channel.shutdown_write(),
            // It was closed already, which may have had to wait.
            Some(Carrier::Layer(_)) | None => Ok(()),
        };
        match result {
            Ok(()) => {}
            // A peer that is gone already shows by the next event.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                note!(DEBUG, "roundelay::io", "shutdown of {self:?}: {error}");
            }
            // It would wait for the end in vain.
            Err(error) => self.fail(error),
        }
    }
}

impl WriteTransport for SocketTransport {
    fn write(&self, data: &[u8]) {
        self.write_with(data.len(), |carrier| self.send(carrier, data), |queue, sent| queue.push_copy(&data[sent..]));
    }

    fn write_owned(&self, data: Bytes) {
        self.write_with(
            data.len(),
            |carrier| self.send(carrier, &data),
            |queue, sent| queue.push_owned(data.slice(sent..)),
        );
    }

    fn writelines(&self, data: &[IoSlice<'_>]) {
        let len = data.iter().map(|piece| piece.len()).sum();
        let first = &data[..data.len().min(MAX_IOVECS)];
        self.write_with(
            len,
            |carrier| self.send_vectored(carrier, first),
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
        if self.life.get().write_end().is_some() {
            return self.close();
        }
        if self.refuse_writing("write_eof") {
            return;
        }
        if !self.half_closes() {
            let text = "Transport::write_eof(): TLS cannot end one direction alone: close() ends both";
            return self.call_handler(ExceptionContext::new(text));
        }
        let is_sent = self.is_sent();
        match self.update_life(|life| life.write_eof(is_sent)) {
            WriteEof::AfterFlush if self.is_layered => self.enqueue(Action::Write),
            WriteEof::Already | WriteEof::AfterFlush => {}
            WriteEof::Shutdown => self.shut_down_writing(),
        }
    }

    fn can_write_eof(&self) -> bool {
        !self.life.get().is_read_end() && self.half_closes()
    }

    fn write_buffer_size(&self) -> usize {
        self.queue.borrow().len()
    }

    fn write_buffer_limits(&self) -> WaterMarks {
        self.flow.get().marks()
    }

    fn set_write_buffer_limits(&self, high: Option<usize>, low: Option<usize>) -> io::Result<()> {
        self.check_writing("set_write_buffer_limits")?;
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
        if self.refuse_writing("set_write_buffer_cap") {
            return;
        }
        self.rare(|rare| rare.cap = cap);
        if !self.life.get().is_lost() {
            self.queue_grown();
        }
    }

    fn poll_ready(&self, waiter: WaiterId, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_writing("ready")?;
        if self.life.get().is_lost() {
            return Poll::Ready(Err(self.lost_error()));
        }
        if !self.flow.get().is_paused() {
            return self.poll_within_budget(cx);
        }
        self.wait_in(|rare| &mut rare.waiters, waiter, cx);
        Poll::Pending
    }

    fn poll_flushed(&self, waiter: WaiterId, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_writing("flushed")?;
        if self.life.get().is_lost() {
            return Poll::Ready(Err(self.lost_error()));
        }
        if self.queue.borrow().is_empty() && self.with_layer(|layer| layer.is_flushed()).unwrap_or(true) {
            return self.poll_within_budget(cx);
        }
        self.wait_in(|rare| &mut rare.flush_waiters, waiter, cx);
        Poll::Pending
    }

    fn forget_waiter(&self, waiter: WaiterId) {
        let waker = self.if_rare(|rare| {
            [&mut rare.waiters, &mut rare.flush_waiters].into_iter().find_map(|list| {
                let place = list.iter().position(|(id, _)| *id == waiter)?;
                Some(list.remove(place))
            })
        });
        // Dropping a waker may drop a task.
        drop(waker);
    }
}

//! The writing side: what is sent at once, what is queued, and who waits for room.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::task::{Context, Poll};

use bytes::Bytes;
use socket2::Socket;

use crate::constants::{LOST_WRITES_BEFORE_WARNING, MAX_IOVECS, READS_PER_EVENT};
use crate::event_loop::exception::ExceptionContext;
use crate::os::socket::{send, send_vectored, would_block};
use crate::protocol::{WaiterId, WaterMarks, WriteTransport};
use crate::transport::actions::Action;
use crate::transport::flow::{Change, Flow};
use crate::transport::lifecycle::{Flushed, Lifecycle, Verdict, WriteEof};
use crate::transport::queue::WriteQueue;
use crate::transport::stream::SocketTransport;

impl SocketTransport {
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
                self.note_activity();
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
            tracing::warn!(target: "roundelay", "write to a connection that is gone, for the {writes}th time: {self:?}");
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
        let Some(waiters) = self.if_rare(|rare| std::mem::take(&mut rare.waiters)) else { return };
        for (_, waker) in waiters {
            self.core.local.wake(waker);
        }
        self.wake_file();
    }

    /// Sends what is queued, until the socket is full or this event has had its share.
    pub(super) fn flush(&self) {
        for _ in 0..READS_PER_EVENT {
            let result = {
                let (queue, io) = (self.queue.borrow(), self.io.borrow());
                let Some(io) = io.as_ref().filter(|_| !queue.is_empty()) else { return };
                queue.with_slices(|slices| match slices {
                    [only] => send(&io.socket, only),
                    slices => send_vectored(&io.socket, slices),
                })
            };
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
        self.update_interest();
        self.wake_file();
        match self.update_life(Lifecycle::flushed) {
            Flushed::GoOn => {}
            Flushed::Shutdown => self.shut_down_writing(),
            Flushed::Lose => self.enqueue(Action::Lost),
        }
    }

    pub(super) fn shut_down_writing(&self) {
        let result = match &*self.io.borrow() {
            Some(io) => io.socket.shutdown(Shutdown::Write),
            None => Ok(()),
        };
        // A peer that is gone already shows by the next event.
        if let Err(error) = result {
            tracing::debug!(target: "roundelay", "shutdown of {self:?}: {error}");
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
        let first = &data[..data.len().min(MAX_IOVECS)];
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
        self.rare(|rare| rare.cap = cap);
        if !self.life.get().is_lost() {
            self.queue_grown();
        }
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
        let before = self.rare(|rare| match rare.waiters.iter_mut().find(|(id, _)| *id == waiter) {
            Some((_, before)) => Some(std::mem::replace(before, waker)),
            None => {
                rare.waiters.push((waiter, waker));
                None
            }
        });
        drop(before);
        Poll::Pending
    }

    fn forget_waiter(&self, waiter: WaiterId) {
        let waker = self.if_rare(|rare| {
            let place = rare.waiters.iter().position(|(id, _)| *id == waiter)?;
            Some(rare.waiters.remove(place))
        });
        // Dropping a waker may drop a task.
        drop(waker);
    }
}

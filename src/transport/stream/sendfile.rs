//! A file that goes out between what was written before it and what is written after it.
//!
//! It is sent by whoever awaits it, in its own turn: the transport says when the socket takes something, and keeps
//! everything else away meanwhile. What is no socket of its own takes it through the queue, piece by piece. What is asked of it until the file is sent (`close`, `write_eof`, to pause reading or
//! to resume it) is remembered, and done then.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use crate::error::{InvalidState, LoopClosed, invalid_input};
use crate::event_loop::running;
use crate::os::channel::Channel;
use crate::os::fd::{AsFd, BorrowedFd};
use crate::os::sendfile::is_of_connection;
use crate::os::socket::{send, would_block};
use crate::protocol::FileSink;
use crate::transport::actions::Action;
use crate::transport::lifecycle::{BeginFile, Flushed, Lifecycle};
use crate::transport::stream::SocketTransport;
use crate::transport::stream::carrier::Carrier;

/// A file that is being sent.
#[derive(Default)]
pub(super) struct File {
    /// Whoever sends it, while it waits.
    waker: Option<Waker>,
    /// The socket has taken all that it can: the next try waits for an event.
    full: bool,
}

impl SocketTransport {
    /// Whether an event is wanted when the socket takes something, for the sake of a file.
    pub(super) fn file_wants_room(&self) -> bool {
        self.life.get().is_sending_file()
            && self.if_rare(|rare| rare.file.as_ref().is_some_and(|file| file.full)) == Some(true)
    }

    /// Lets whoever sends a file go on, or see that the connection is lost.
    pub(super) fn wake_file(&self) {
        if self.life.get().is_sending_file() {
            let waker = self.if_rare(|rare| rare.file.as_mut().and_then(|file| file.waker.take()));
            if let Some(waker) = waker.flatten() {
                self.core.local.wake(waker);
            }
        }
    }

    /// The socket takes something.
    pub(super) fn file_has_room(&self) {
        if !self.life.get().is_sending_file() {
            return;
        }
        let was_full = self.if_rare(|rare| rare.file.as_mut().is_some_and(|file| std::mem::take(&mut file.full)));
        if was_full == Some(true) && !self.is_edge() {
            // Until it is full again, or it would be reported all the while.
            self.update_interest();
        }
        self.wake_file();
    }

    /// Remembers whom to wake.
    fn wait_with_file(&self, cx: &Context<'_>, full: bool) {
        let waker = cx.waker().clone();
        let before = self.rare(|rare| {
            let file = rare.file.get_or_insert_default();
            file.full |= full;
            file.waker.replace(waker)
        });
        drop(before);
    }
}

impl FileSink for SocketTransport {
    fn begin(&self, method: &str) -> io::Result<()> {
        if let Some(running) = running::current().filter(|core| !Rc::ptr_eq(core, &self.core)) {
            let (here, there) = (running.local.loop_id(), self.core.local.loop_id());
            let text = format!("EventLoop::{method}(): a transport of loop {there} is used in loop {here}");
            return Err(invalid_input(text));
        }
        let was_reading = self.life.get().is_reading();
        let reason = match self.update_life(Lifecycle::begin_file) {
            BeginFile::Begin => {
                self.rare(|rare| rare.file = Some(File::default()));
                if was_reading {
                    self.read_interest(false);
                }
                return Ok(());
            }
            BeginFile::Closing => "Transport is closing",
            BeginFile::AfterEof => "cannot send a file after write_eof()",
            BeginFile::Busy => "another sendfile is in progress on this transport",
            BeginFile::NoSide => {
                let text = format!("EventLoop::{method}(): the transport has the reading end of a pipe");
                return Err(io::Error::new(io::ErrorKind::Unsupported, text));
            }
        };
        Err(InvalidState::new(format!("EventLoop::{method}(): {reason}")).into())
    }

    fn is_native(&self) -> bool {
        self.io.borrow().as_ref().and_then(Carrier::channel).is_some_and(Channel::is_socket)
    }

    fn poll_call(
        &self,
        cx: &mut Context<'_>,
        call: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if self.core.is_inherited() {
            return Poll::Ready(Err(LoopClosed.into()));
        }
        if self.life.get().is_lost() {
            return Poll::Ready(Err(self.lost_error()));
        }
        if !self.queue.borrow().is_empty() || self.file_wants_room() {
            self.wait_with_file(cx, false);
            return Poll::Pending;
        }
        ready!(self.core.poll_budget(cx));
        let result = match self.io.borrow().as_ref().and_then(Carrier::channel) {
            Some(channel) => call(channel.as_fd()),
            None => Err(self.lost_error()),
        };
        match result {
            Ok(n) => {
                if n > 0 {
                    self.note_activity();
                }
                self.core.spend_budget();
                self.core.sent(n);
                Poll::Ready(Ok(n))
            }
            Err(error) if would_block(&error) => {
                self.wait_with_file(cx, true);
                self.update_interest();
                Poll::Pending
            }
            Err(error) => {
                if is_of_connection(&error) {
                    let code = error.raw_os_error().expect("the system's, or it would not be known as one");
                    self.fail(io::Error::from_raw_os_error(code));
                }
                Poll::Ready(Err(error))
            }
        }
    }

    fn poll_send(&self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_native() {
            return self.poll_call(cx, &mut |socket| send(socket, data));
        }
        if self.life.get().is_lost() {
            return Poll::Ready(Err(self.lost_error()));
        }
        if !self.queue.borrow().is_empty() {
            self.wait_with_file(cx, false);
            return Poll::Pending;
        }
        ready!(self.core.poll_budget(cx));
        self.send_or_queue(
            data.len(),
            |carrier| self.send(carrier, data),
            |queue, sent| queue.push_copy(&data[sent..]),
        );
        if self.life.get().is_lost() {
            return Poll::Ready(Err(self.lost_error()));
        }
        self.core.spend_budget();
        self.core.spend_bytes(data.len());
        Poll::Ready(Ok(data.len()))
    }

    fn end(&self) {
        let file = self.if_rare(|rare| rare.file.take());
        let is_sent = self.is_sent();
        match self.update_life(|life| life.end_file(is_sent)) {
            Flushed::GoOn => {}
            Flushed::Shutdown => self.shut_down_writing(),
            Flushed::Lose => self.enqueue(Action::Lost),
        }
        if !self.life.get().is_lost() {
            if self.is_layered {
                // Its end, if that is asked for, may have to wait.
                self.enqueue(Action::Write);
            }
            self.update_interest();
            self.go_on_reading();
        }
        // Dropping a waker may drop a task.
        drop(file);
    }
}

//! A client's connection: lines in, lines out.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::{Rc, Weak};
use std::time::Instant;

use socket2::Socket;

use crate::constants::{INSPECTOR_LINE, INSPECTOR_PATIENCE};
use crate::event_loop::inspection::Inspected;
use crate::event_loop::{Core, EventLoop, LoopRegistration};
use crate::inspector::answer::{self, Refusal, Request};
use crate::inspector::door::Door;
use crate::os::fd::AsFd;
use crate::os::socket::{recv, send, would_block};
use crate::reactor::slot::{Handler, Listener};
use crate::reactor::{Interest, Mode, Readiness};

/// One client. While it has not taken an answer, nothing more is read from it.
pub(super) struct Client {
    door: Weak<Door>,
    core: Rc<Core>,
    /// First the registration, because it has to end first; `None` once it is closed.
    open: RefCell<Option<(LoopRegistration, Socket)>>,
    /// What has come and is not answered.
    asked: RefCell<Vec<u8>>,
    /// What is to be sent.
    answer: RefCell<Vec<u8>>,
    /// How much of it was sent.
    sent: Cell<usize>,
    /// Since when it has been waiting to be taken.
    waits_since: Cell<Option<Instant>>,
    /// What is to be answered in the next turn.
    waiting: Cell<Option<Request>>,
    /// Whether it is closed when everything is sent.
    ends: Cell<bool>,
    /// Has the loop look closely at its tasks, for one who has asked for them.
    inspected: RefCell<Option<Inspected>>,
}

impl Client {
    pub(super) fn new(door: &Rc<Door>, core: &Rc<Core>, socket: Socket) -> io::Result<Rc<Self>> {
        let client = Rc::new(Self {
            door: Rc::downgrade(door),
            core: core.clone(),
            open: RefCell::new(None),
            asked: RefCell::default(),
            answer: RefCell::default(),
            sent: Cell::new(0),
            waits_since: Cell::new(None),
            waiting: Cell::new(None),
            ends: Cell::new(false),
            inspected: RefCell::new(None),
        });
        let slot = Listener::Handler(client.clone() as Rc<dyn Handler>);
        let registration = LoopRegistration::new(&core.reactor, socket.as_fd(), Interest::READABLE, Mode::Level, slot)?;
        *client.open.borrow_mut() = Some((registration, socket));
        Ok(client)
    }

    /// Whether it has let an answer wait for too long.
    pub(super) fn is_slow(&self) -> bool {
        let now = self.core.now();
        self.waits_since.get().is_some_and(|since| now.saturating_duration_since(since) >= INSPECTOR_PATIENCE)
    }

    pub(super) fn close(&self) {
        let (open, inspected) = (self.open.take(), self.inspected.take());
        drop((open, inspected));
    }

    /// Closes it, and tells the door.
    pub(super) fn close_in(&self, door: &Door) {
        self.close();
        door.left(self);
    }

    /// Reads once, if nothing is to be sent.
    fn read(&self) -> io::Result<()> {
        if self.is_answering() || self.ends.get() {
            return Ok(());
        }
        // A line that is too long shows by what does not fit.
        let mut buffer = [0; INSPECTOR_LINE + 1];
        let received = match &*self.open.borrow() {
            Some((_, socket)) => recv(socket, &mut buffer),
            None => return Ok(()),
        };
        let n = match received {
            // What comes next is still to be listened to.
            Err(error) if would_block(&error) => return Ok(()),
            received => received?,
        };
        self.asked.borrow_mut().extend_from_slice(&buffer[..n]);
        if n == 0 {
            self.ends.set(true);
        }
        Ok(())
    }

    fn is_sending(&self) -> bool {
        self.sent.get() < self.answer.borrow().len()
    }

    /// Whether there is something to be done before the next line.
    fn is_answering(&self) -> bool {
        self.is_sending() || self.has_to_wait()
    }

    fn has_to_wait(&self) -> bool {
        self.waiting.get().is_some()
    }

    /// Answers the lines that have come, for as long as the answers are taken.
    fn answer(&self) -> io::Result<()> {
        loop {
            self.send()?;
            if self.is_sending() {
                return Ok(());
            }
            let Some(request) = self.next_request() else { return Ok(()) };
            let text = match request {
                Ok(request) if self.must_wait(request) => {
                    self.waiting.set(Some(request));
                    return Ok(());
                }
                Ok(request) => answer::to(&EventLoop::handle(self.core.clone()), request),
                Err(refusal) => {
                    if refusal == Refusal::TooLong {
                        self.ends.set(true);
                        self.asked.borrow_mut().clear();
                    }
                    refusal.text()
                }
            };
            *self.answer.borrow_mut() = text.into_bytes();
            self.sent.set(0);
        }
    }

    /// Whether the loop begins only now to look closely at its tasks: then they say in the next turn what they wait for.
    fn must_wait(&self, request: Request) -> bool {
        if !request.wants_tasks() || self.inspected.borrow().is_some() {
            return false;
        }
        let was_inspected = self.core.local.inspection.is_on();
        let inspected = Inspected::new(&self.core);
        *self.inspected.borrow_mut() = Some(inspected);
        if let Some((registration, _)) = self.open.borrow().as_ref().filter(|_| !was_inspected) {
            registration.report_again();
        }
        !was_inspected
    }

    /// Takes the next line.
    fn next_request(&self) -> Option<Result<Request, Refusal>> {
        if let Some(request) = self.waiting.take() {
            return Some(Ok(request));
        }
        let mut asked = self.asked.borrow_mut();
        let end = asked.iter().take(INSPECTOR_LINE + 1).position(|byte| *byte == b'\n');
        let Some(end) = end else { return (asked.len() > INSPECTOR_LINE).then_some(Err(Refusal::TooLong)) };
        let request = Request::of(&asked[..end]);
        asked.drain(..=end);
        Some(request)
    }

    /// Sends what there is room for.
    fn send(&self) -> io::Result<()> {
        while self.is_sending() {
            let sent = match &*self.open.borrow() {
                Some((_, socket)) => send(socket, &self.answer.borrow()[self.sent.get()..]),
                None => return Ok(()),
            };
            match sent {
                Ok(n) => {
                    self.sent.set(self.sent.get() + n);
                    self.waits_since.set(None);
                }
                Err(error) if would_block(&error) => {
                    if self.waits_since.get().is_none() {
                        self.waits_since.set(Some(self.core.now()));
                    }
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        // It may have been long.
        self.answer.take();
        self.sent.set(0);
        Ok(())
    }

    fn go_on(&self) -> io::Result<()> {
        self.answer()?;
        if !self.has_to_wait() {
            self.read()?;
            self.answer()?;
        }
        if self.ends.get() && !self.is_answering() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let want = if self.is_sending() { Interest::WRITABLE } else { Interest::READABLE };
        match &*self.open.borrow() {
            Some((registration, _)) => registration.set_interest(want),
            None => Ok(()),
        }
    }
}

impl Handler for Client {
    fn on_ready(self: Rc<Self>, _: Readiness) {
        match self.go_on() {
            Ok(()) => {}
            // It has what it wanted, or has gone away, which is its business.
            Err(_) => match self.door.upgrade() {
                Some(door) => self.close_in(&door),
                None => self.close(),
            },
        }
    }

    fn about(self: Rc<Self>) -> Rc<dyn fmt::Debug> {
        self
    }

    fn on_close(self: Rc<Self>) {
        self.close();
    }

    /// It need not ask.
    #[cfg(feature = "test-util")]
    fn awaits(self: Rc<Self>) -> Interest {
        Interest::NONE
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<a client of the inspector>")
    }
}

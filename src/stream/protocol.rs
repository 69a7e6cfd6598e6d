//! The bridge between a transport and the two halves of a stream.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::error::{LastingError, LoopClosed};
use crate::event_loop::EventLoop;
use crate::event_loop::waiters::{Waiter, Waiters};
use crate::protocol::{KeepOpen, Protocol, Transport};
use crate::stream::buffer::{Buffer, change, wake};
use crate::stream::reader::StreamReader;
use crate::stream::writer::StreamWriter;

/// Keeps a connection open for as long as one of its halves is there.
pub(crate) struct Connection {
    /// Another one from when TLS is started.
    transport: RefCell<Transport>,
    el: EventLoop,
    /// Whether somebody else has it now.
    handed_over: Cell<bool>,
    /// Whether it may well be forgotten: one of the process's standard streams, or a reader without a writer to close.
    may_be_dropped: Cell<bool>,
}

impl Connection {
    pub(crate) fn transport(&self) -> Transport {
        self.transport.borrow().clone()
    }

    #[cfg(feature = "__tls")]
    pub(crate) fn set_transport(&self, transport: Transport) {
        let before = self.transport.replace(transport);
        drop(before);
    }

    pub(crate) fn el(&self) -> &EventLoop {
        &self.el
    }

    /// Whoever has it now may well forget it.
    pub(crate) fn allow_dropping(&self) {
        self.may_be_dropped.set(true);
    }

    /// Leaves the connection to somebody else.
    pub(crate) fn hand_over(&self) {
        self.handed_over.set(true);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let transport = self.transport.get_mut();
        if !self.handed_over.get() && !transport.is_closing() {
            if !self.may_be_dropped.get() {
                self.el
                    .core
                    .resource_warning(format_args!("unclosed StreamWriter of {transport:?}"), transport.created_at());
            }
            // The loop sends what is queued.
            transport.close();
        }
    }
}

/// How a stream's connection has come to its end.
pub(crate) struct Ended {
    /// `None` while it stands.
    end: RefCell<Option<Option<LastingError>>>,
    waiters: Waiters,
}

impl Ended {
    fn new() -> Self {
        Self { end: RefCell::new(None), waiters: Waiters::new() }
    }

    fn set(&self, error: Option<&io::Error>) {
        self.end.borrow_mut().get_or_insert_with(|| error.map(LastingError::new));
        self.waiters.wake();
    }

    /// The error that has ended the connection.
    pub(crate) fn error(&self) -> Option<io::Error> {
        self.end.borrow().as_ref()?.as_ref().map(LastingError::get)
    }

    /// Whether an error has ended the connection; also where its protocol is told of that in this turn or the next.
    pub(crate) async fn has_failed(&self, transport: &Transport) -> bool {
        let lost = poll_fn(|cx| Poll::Ready(pin!(transport.ready()).poll(cx))).await;
        if self.end.borrow().is_none() && !matches!(lost, Poll::Ready(Err(_))) {
            return false;
        }
        let waiter = self.join();
        poll_fn(|cx| self.poll(&waiter, cx)).await.is_err()
    }

    /// A place for one who waits for the end.
    pub(crate) fn join(&self) -> Waiter {
        self.waiters.join()
    }

    /// Ready when the connection is gone, with the error that ended it.
    pub(crate) fn poll(&self, waiter: &Waiter, cx: &Context<'_>) -> Poll<io::Result<()>> {
        match &*self.end.borrow() {
            Some(None) => Poll::Ready(Ok(())),
            Some(Some(error)) => Poll::Ready(Err(error.get())),
            None => {
                waiter.wait(cx);
                Poll::Pending
            }
        }
    }
}

/// Starts the handler of a server's connection.
pub(crate) type StartHandler = Rc<dyn Fn(StreamReader, StreamWriter)>;

/// Feeds a reader.
pub(crate) struct StreamProtocol {
    el: EventLoop,
    buffer: Rc<RefCell<Buffer>>,
    ended: Rc<Ended>,
    /// Takes the halves when the connection stands: the server's handler; none for a client, who is given them.
    start: Cell<Option<StartHandler>>,
}

impl StreamProtocol {
    pub(crate) fn new(el: &EventLoop, limit: usize, start: Option<StartHandler>) -> Self {
        Self {
            el: el.clone(),
            buffer: Rc::new(RefCell::new(Buffer::new(limit))),
            ended: Rc::new(Ended::new()),
            start: Cell::new(start),
        }
    }

    /// Has the reader pause and resume this transport.
    pub(crate) fn attach(&self, transport: &Transport) {
        self.buffer.borrow_mut().set_transport(transport.clone());
    }

    /// The two halves, for a connection that stands.
    pub(crate) fn halves(&self, transport: &Transport) -> (StreamReader, StreamWriter) {
        self.halves_of(transport, false)
    }

    /// The same of which one half is used, and which need not be closed before it is dropped.
    pub(crate) fn droppable_halves(&self, transport: &Transport) -> (StreamReader, StreamWriter) {
        self.halves_of(transport, true)
    }

    fn halves_of(&self, transport: &Transport, may_be_dropped: bool) -> (StreamReader, StreamWriter) {
        let (transport, el) = (RefCell::new(transport.clone()), self.el.clone());
        let (handed_over, may_be_dropped) = (Cell::new(false), Cell::new(may_be_dropped));
        let connection = Rc::new(Connection { transport, el, handed_over, may_be_dropped });
        let reader = StreamReader::of_connection(self.buffer.clone(), connection.clone());
        let writer = StreamWriter::new(connection, self.buffer.clone(), self.ended.clone());
        (reader, writer)
    }
}

impl Protocol for StreamProtocol {
    fn connection_made(&mut self, transport: &Transport) {
        self.attach(transport);
        if let Some(start) = self.start.take() {
            let (reader, writer) = self.halves(transport);
            start(reader, writer);
        }
    }

    fn data_received(&mut self, _: &Transport, data: &[u8]) {
        let waiter = self.buffer.borrow_mut().feed(data);
        wake(waiter);
    }

    fn eof_received(&mut self, transport: &Transport) -> KeepOpen {
        let waiter = self.buffer.borrow_mut().feed_eof();
        wake(waiter);
        // The writing half goes on, where it can.
        transport.can_write_eof().into()
    }

    fn connection_lost(&mut self, _: &Transport, error: Option<io::Error>) {
        let waiter = change(&self.buffer, |buffer| {
            buffer.clear_transport();
            match &error {
                Some(error) => buffer.set_error(error),
                None => buffer.feed_eof(),
            }
        });
        self.ended.set(error.as_ref());
        wake(waiter);
    }
}

impl Drop for StreamProtocol {
    fn drop(&mut self) {
        // Nothing more comes by this protocol: another one has taken the connection over, or the loop was closed, and then
        // what was to come or to be sent is lost.
        let error = (!self.el.core.is_open()).then(|| io::Error::from(LoopClosed));
        let waiter = change(&self.buffer, |buffer| {
            buffer.clear_transport();
            match &error {
                Some(error) if !buffer.has_ended() => buffer.set_error(error),
                _ => buffer.feed_eof(),
            }
        });
        self.ended.set(error.as_ref());
        wake(waiter);
    }
}

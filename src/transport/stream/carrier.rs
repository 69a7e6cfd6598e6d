//! What carries a transport's bytes: a descriptor, or a layer; and of layers the one over any stream of the application's:
//! a call that is pending has would-blocked, and the waker that it was given is the event.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::panic::Location;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_io::{AsyncRead, AsyncWrite};

use crate::error::{LoopClosed, PanicPayload};
use crate::event_loop::remote::Remote;
use crate::event_loop::services::Service;
use crate::event_loop::unfinished::{Kind, Unfinished};
use crate::event_loop::{Core, EventLoop, LoopRegistration, running};
use crate::os::channel::Channel;
use crate::protocol::{ProtocolRef, Transport, TransportId};
use crate::reactor::Readiness;
use crate::reactor::slot::{End, Handler};
use crate::transport::flow::Flow;
use crate::transport::stream::layer::Layer;
use crate::transport::stream::{Parts, SocketTransport};

/// What carries the bytes.
pub(super) enum Carrier {
    Channel(Io),
    Layer(Rc<dyn Layer>),
}

/// An open descriptor. The registration stands first, because it has to end first.
pub(super) struct Io {
    pub(super) registration: LoopRegistration,
    pub(super) channel: Channel,
}

impl Carrier {
    pub(super) fn channel(&self) -> Option<&Channel> {
        match self {
            Self::Channel(io) => Some(&io.channel),
            Self::Layer(_) => None,
        }
    }
}

/// Bytes in both directions.
trait Duplex: AsyncRead + AsyncWrite {}

impl<S: AsyncRead + AsyncWrite> Duplex for S {}

/// What was written to a foreign stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// It has flushed everything.
    Flushed,
    /// It may keep some of it.
    Unflushed,
    /// It was closed.
    Closed,
}

/// A stream of the application's.
struct Foreign {
    /// Borrowed while it is polled.
    stream: RefCell<Pin<Box<dyn Duplex>>>,
    waker: Waker,
    written: Cell<Written>,
    /// Which of its methods has panicked, and with what.
    panicked: Cell<Option<(&'static str, PanicPayload)>>,
    /// Keeps the transport, and is told of its end.
    keeper: Weak<ForeignTransports>,
}

impl Layer for Foreign {
    fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len();
        self.poll("poll_read()", |stream, cx| stream.poll_read(cx, buffer)).map(|n| n.min(room))
    }

    fn send(&self, data: &[u8]) -> io::Result<usize> {
        self.sent(data.len(), self.poll("poll_write()", |stream, cx| stream.poll_write(cx, data)))
    }

    fn send_vectored(&self, data: &[IoSlice<'_>]) -> io::Result<usize> {
        let len = data.iter().map(|piece| piece.len()).sum();
        self.sent(len, self.poll("poll_write_vectored()", |stream, cx| stream.poll_write_vectored(cx, data)))
    }

    fn settle(&self, ends: bool) -> io::Result<()> {
        if self.written.get() == Written::Unflushed {
            self.poll("poll_flush()", |stream, cx| stream.poll_flush(cx))?;
            self.written.set(Written::Flushed);
        }
        if ends && self.written.get() != Written::Closed {
            self.poll("poll_close()", |stream, cx| stream.poll_close(cx))?;
            self.written.set(Written::Closed);
        }
        Ok(())
    }

    fn is_flushed(&self) -> bool {
        self.written.get() != Written::Unflushed
    }

    fn is_closed(&self) -> bool {
        self.written.get() == Written::Closed
    }

    fn keeps(&self) -> bool {
        true
    }

    fn half_closes(&self) -> bool {
        true
    }

    fn take_panic(&self) -> Option<(&'static str, PanicPayload)> {
        self.panicked.take()
    }

    fn leave(&self, id: TransportId) {
        let Some(keeper) = self.keeper.upgrade() else { return };
        let transport = keeper.transports.borrow_mut().remove(&id);
        drop(transport);
    }
}

impl Foreign {
    fn sent(&self, len: usize, sent: io::Result<usize>) -> io::Result<usize> {
        let n = sent?.min(len);
        if n == 0 && len > 0 {
            return Err(io::Error::new(io::ErrorKind::WriteZero, "the stream takes no more bytes"));
        }
        self.written.set(Written::Unflushed);
        Ok(n)
    }

    /// Calls one of its methods; pending is `WouldBlock`.
    fn poll<R>(
        &self,
        method: &'static str,
        f: impl FnOnce(Pin<&mut dyn Duplex>, &mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> io::Result<R> {
        let again = || {
            self.waker.wake_by_ref();
            Err(io::ErrorKind::WouldBlock.into())
        };
        // Called from within itself: what is written there is queued.
        let Ok(mut stream) = self.stream.try_borrow_mut() else { return again() };
        let mut cx = Context::from_waker(&self.waker);
        match catch_unwind(AssertUnwindSafe(|| f(stream.as_mut(), &mut cx))) {
            Ok(Poll::Pending) => Err(io::ErrorKind::WouldBlock.into()),
            Ok(Poll::Ready(Err(error))) if error.kind() == io::ErrorKind::Interrupted => again(),
            // It was not to say that in this way, and wakes nobody.
            Ok(Poll::Ready(Err(error))) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::Error::other(format!("{method} of the stream was ready with an error: {error}")))
            }
            Ok(Poll::Ready(result)) => result,
            Err(payload) => {
                self.panicked.set(Some((method, payload)));
                Err(io::Error::other(format!("{method} of the stream panicked")))
            }
        }
    }
}

/// Gives the transport of a foreign stream an event.
struct ForeignWaker {
    remote: Remote,
    id: TransportId,
    /// Whether one is on its way.
    queued: AtomicBool,
}

impl Wake for ForeignWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            let this = self.clone();
            // A closed loop has no transports.
            let _ = self.remote.post(move || this.report());
        }
    }
}

impl ForeignWaker {
    fn report(&self) {
        self.queued.store(false, Ordering::Release);
        let Some(core) = running::current() else { return };
        let keeper = ForeignTransports::of(&core);
        let transport = keeper.transports.borrow().get(&self.id).cloned();
        if let Some(transport) = transport {
            transport.on_ready(Readiness::READABLE.union(Readiness::WRITABLE));
        }
    }
}

/// The open transports over foreign streams: the loop owns them, and no registration keeps them.
pub(super) struct ForeignTransports {
    transports: RefCell<HashMap<TransportId, Rc<SocketTransport>>>,
}

impl ForeignTransports {
    fn of(core: &Rc<Core>) -> Rc<Self> {
        core.service(&EventLoop::handle(core.clone()))
    }

    fn all(&self) -> Vec<Rc<SocketTransport>> {
        let mut all: Vec<_> = self.transports.borrow().values().cloned().collect();
        all.sort_by_key(|transport| transport.id);
        all
    }
}

impl Service for ForeignTransports {
    fn new(_: &EventLoop) -> Self {
        Self { transports: RefCell::default() }
    }

    fn end(&self, how: End) {
        for transport in self.all() {
            transport.end(how);
        }
    }

    fn unfinished(&self, found: &mut Unfinished) {
        for transport in self.all() {
            found.add(Kind::Connection, transport.transport().uppermost());
        }
    }

    fn close(&self) {
        for transport in self.all() {
            transport.on_close();
        }
    }
}

impl SocketTransport {
    /// A transport over any stream, which is not read before the connection was made.
    fn open_foreign(core: &Rc<Core>, stream: Pin<Box<dyn Duplex>>, parts: Parts) -> Rc<Self> {
        let this = Self::open_layered(core, Flow::new(), parts);
        let keeper = ForeignTransports::of(core);
        let remote = EventLoop::handle(core.clone()).remote();
        let waker = Arc::new(ForeignWaker { remote, id: this.id, queued: AtomicBool::new(false) });
        let foreign = Foreign {
            stream: RefCell::new(stream),
            waker: waker.into(),
            written: Cell::new(Written::Flushed),
            panicked: Cell::new(None),
            keeper: Rc::downgrade(&keeper),
        };
        this.set_layer(Rc::new(foreign));
        keeper.transports.borrow_mut().insert(this.id, this.clone());
        this
    }
}

impl EventLoop {
    /// Lets a protocol hear of a connection over any stream of the `futures` traits: one through a proxy or a tunnel, of
    /// another library's, or of a test's in memory. `factory` is called here and now, `connection_made` in a turn of its
    /// own.
    ///
    /// The transport does what that of a socket does, with the same order of callbacks and the same flow control; its
    /// [`extra_info`](Transport::extra_info) is empty. What is written goes to the stream at once as far as it is taken,
    /// and is flushed once in a turn. Ending the writing half means to close the stream, as it does for
    /// [`TcpStream`](crate::TcpStream), whose reading half goes on; and closing the transport means to close the stream,
    /// too, before it is dropped. Aborting it merely drops the stream. An error of the stream's ends the connection, and so
    /// does a panic, which is reported. A [`TcpStream`](crate::TcpStream) is better given to
    /// [`into_transport`](crate::TcpStream::into_transport).
    ///
    /// # Errors
    ///
    /// [`LoopClosed`] as an `io::Error`.
    ///
    /// ```
    /// use futures::io::Cursor;
    /// use roundelay::{EventLoop, KeepOpen, Protocol, Transport};
    ///
    /// struct Lines(usize);
    /// impl Protocol for Lines {
    ///     fn data_received(&mut self, _: &Transport, data: &[u8]) {
    ///         self.0 += data.iter().filter(|&&byte| byte == b'\n').count();
    ///     }
    /// }
    ///
    /// let el = EventLoop::new()?;
    /// let stream = Cursor::new(b"one\ntwo\n".to_vec());
    /// let (transport, protocol) = el.connect_stream(|| Lines(0), stream)?;
    /// while transport.protocol().is_some() {
    ///     el.run_once(None)?;
    /// }
    /// assert_eq!(protocol.with(|lines| lines.0), 2);
    /// # std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub fn connect_stream<F, P, S>(&self, factory: F, stream: S) -> io::Result<(Transport, ProtocolRef<P>)>
    where
        F: FnOnce() -> P,
        P: crate::protocol::Protocol,
        S: AsyncRead + AsyncWrite + 'static,
    {
        self.connect_stream_at(Location::caller(), factory, stream)
    }

    pub(crate) fn connect_stream_at<F, P, S>(
        &self,
        created_at: &'static Location<'static>,
        factory: F,
        stream: S,
    ) -> io::Result<(Transport, ProtocolRef<P>)>
    where
        F: FnOnce() -> P,
        P: crate::protocol::Protocol,
        S: AsyncRead + AsyncWrite + 'static,
    {
        if self.is_closed() {
            return Err(LoopClosed.into());
        }
        let protocol = ProtocolRef::new(factory());
        let parts = Parts::nameless(protocol.clone().into(), Some(created_at));
        let transport = SocketTransport::open_foreign(&self.core, Box::pin(stream), parts);
        transport.begin_anew(&[]);
        Ok((transport.transport(), protocol))
    }
}

//! A server: its listening sockets and its connections.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::panic::Location;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::Socket;

use crate::constants::PLACES_KEPT;
use crate::error::{InvalidState, LoopClosed, PanicPayload};
use crate::event_loop::exception::ExceptionContext;
use crate::event_loop::services::Service;
use crate::event_loop::timer::Sleep;
use crate::event_loop::waiters::{Waiter, Waiters};
use crate::event_loop::{Core, EventLoop};
use crate::net::listener::{Acceptor, Listener};
use crate::net::serve::{Bound, Serving};
use crate::os::address::UnixAddr;
use crate::protocol::{AnyProtocol, BaseTransport, SocketView};
use crate::sched::context::{self, Slot};
use crate::sched::report::Exception;
use crate::transport::address::KeptAddress;
use crate::transport::stream::{Owner, Parts, SocketTransport};

/// What is said of a connection that has come to nothing.
const NOT_OPENED: &str = "Error on transport creation for incoming connection";

/// Makes the protocol of a connection, or gives the payload of its panic.
pub(crate) type Factory = Box<dyn Fn() -> Result<AnyProtocol, PanicPayload>>;

/// How far a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Bound, not listening.
    Bound,
    Serving,
    Closed,
}

/// The connections of a server, each in a place of its own.
#[derive(Default)]
struct Clients {
    /// `None` where a place is free.
    places: Vec<Option<Weak<SocketTransport>>>,
    free: Vec<usize>,
    /// How many there are.
    active: usize,
    /// How many there have been.
    accepted: u64,
}

impl Clients {
    /// Gives a connection its place.
    fn attach(&mut self, client: &Rc<SocketTransport>) -> usize {
        let client = Some(Rc::downgrade(client));
        self.active += 1;
        self.accepted += 1;
        match self.free.pop() {
            Some(place) => {
                self.places[place] = client;
                place
            }
            None => {
                self.places.push(client);
                self.places.len() - 1
            }
        }
    }

    /// Frees a place. True if it was the last that was taken.
    fn detach(&mut self, place: usize) -> bool {
        self.places[place] = None;
        self.free.push(place);
        self.active -= 1;
        if self.active == 0 && self.places.capacity() > PLACES_KEPT {
            // A burst is over.
            *self = Self { accepted: self.accepted, ..Self::default() };
        }
        self.active == 0
    }

    fn live(&self) -> Vec<Rc<SocketTransport>> {
        self.places.iter().flatten().filter_map(Weak::upgrade).collect()
    }
}

struct Inner {
    me: Weak<Inner>,
    core: Rc<Core>,
    state: Cell<State>,
    listeners: RefCell<Vec<Rc<Listener>>>,
    /// `None` only while the server is dropped.
    factory: Option<Factory>,
    /// Each connection gets a copy.
    context: Slot,
    max_connections: usize,
    idle_timeout: Option<Duration>,
    clients: RefCell<Clients>,
    /// Who waits for the end, or for the end of `serve_forever`.
    waiters: Waiters,
    /// Whether a `serve_forever` is being awaited.
    forever: Cell<bool>,
    created_at: &'static Location<'static>,
}

/// Listening sockets and the connections that came over them.
///
/// Made by [`create_server`](crate::EventLoop::create_server) and [`start_server`](crate::start_server). Clones refer to
/// the same server. The loop owns it: dropping a handle leaves it serving; [`close_on_drop`](Self::close_on_drop) gives
/// one that closes.
#[doc(alias = "AbstractServer")]
#[derive(Clone)]
pub struct Server {
    inner: Rc<Inner>,
}

impl Server {
    pub(crate) fn new(el: &EventLoop, bound: Vec<Bound>, serving: &Serving, factory: Factory, context: Slot) -> Self {
        let core = el.core.clone();
        core.local.counters.servers.opened();
        let listener = |bound| Listener::new(&core, bound, serving.backlog, serving.socket.clone());
        let listeners = bound.into_iter().map(listener).collect();
        let inner = Rc::new_cyclic(|me| Inner {
            me: me.clone(),
            core,
            state: Cell::new(State::Bound),
            listeners: RefCell::new(listeners),
            factory: Some(factory),
            context,
            max_connections: serving.max_connections.unwrap_or(usize::MAX),
            idle_timeout: serving.idle_timeout,
            clients: RefCell::default(),
            waiters: Waiters::new(),
            forever: Cell::new(false),
            created_at: serving.created_at,
        });
        el.core.service::<BoundServers>(el).add(&inner);
        Self { inner }
    }

    /// Begins to listen. Does nothing if it does so already.
    pub(crate) fn start(&self, method: &str) -> io::Result<()> {
        let inner = &self.inner;
        if !inner.core.is_open() {
            return Err(LoopClosed.into());
        }
        match inner.state.get() {
            State::Serving => return Ok(()),
            State::Closed => {
                return Err(InvalidState::new(format!("Server::{method}(): the server is closed")).into());
            }
            State::Bound => {}
        }
        // From now on its listeners are registered, and hear of the loop's end themselves.
        let el = self.get_loop();
        el.core.service::<BoundServers>(&el).remove(inner);
        inner.state.set(State::Serving);
        note!(DEBUG, "roundelay::io", "server on {} is serving", inner.addresses());
        let listeners = inner.listeners.borrow().clone();
        for listener in listeners {
            if let Err(error) = listener.start(inner.clone()) {
                self.close();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Accepts connections from now on. Does nothing if it does so already.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`] as an `io::Error`; [`InvalidState`] as one if the server is closed; else the operating system's,
    /// and then the server is closed.
    pub async fn start_serving(&self) -> io::Result<()> {
        self.start("start_serving")
    }

    /// Accepts connections until the server is closed. Dropping the future before closes the server, unless it was never
    /// polled.
    ///
    /// # Errors
    ///
    /// As [`start_serving`](Self::start_serving), and [`InvalidState`] if it is being awaited already.
    pub fn serve_forever(&self) -> ServeForever {
        ServeForever { server: self.clone(), state: ForeverState::New, waiter: self.inner.waiters.join() }
    }

    /// Whether connections are accepted.
    pub fn is_serving(&self) -> bool {
        self.inner.state.get() == State::Serving
    }

    /// Stops listening, at once. Connections that are there stay. A second call does nothing.
    pub fn close(&self) {
        self.inner.close();
    }

    /// Closes every connection of the server: what is queued is sent first.
    pub fn close_clients(&self) {
        for client in self.inner.clients() {
            client.close_whole();
        }
    }

    /// Closes every connection of the server now: what is queued is dropped.
    pub fn abort_clients(&self) {
        for client in self.inner.clients() {
            client.abort();
        }
    }

    /// Waits until the server is closed and its last connection is gone.
    pub async fn wait_closed(&self) {
        let waiter = self.inner.waiters.join();
        poll_fn(|cx| self.inner.poll_closed(&waiter, cx)).await
    }

    /// Closes the server in an orderly way: stops listening, closes the connections, gives them `grace` to send what is
    /// queued, and aborts what is left then.
    ///
    /// True if no connection had to be aborted.
    ///
    /// Dropping the future half-way takes nothing back and goes no further: the server is closed and its connections
    /// are closing, each for as long as its peer takes to read what is queued. [`abort_clients`](Self::abort_clients)
    /// ends those that are left, and another `shutdown` gives them a new grace. One that was never awaited has done
    /// nothing.
    ///
    /// # Panics
    ///
    /// If it is polled outside of a running event loop.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        self.close();
        self.close_clients();
        let waiter = self.inner.waiters.join();
        let mut limit = std::pin::pin!(Sleep::after(grace));
        let in_time = poll_fn(|cx| {
            if self.inner.poll_closed(&waiter, cx).is_ready() {
                return Poll::Ready(true);
            }
            limit.as_mut().poll(cx).map(|()| false)
        });
        let in_time = in_time.await;
        if !in_time {
            self.abort_clients();
            self.wait_closed().await;
        }
        in_time
    }

    /// A guard that closes the server when it is dropped.
    pub fn close_on_drop(&self) -> CloseOnDrop {
        CloseOnDrop { server: self.clone() }
    }

    /// The listening sockets, for their options; none once the server is closed.
    pub fn sockets(&self) -> Vec<SocketView> {
        self.inner.listeners.borrow().iter().map(|listener| listener.view()).collect()
    }

    /// The first address of the internet that the server listens on: the only one, where it was made with one.
    ///
    /// # Errors
    ///
    /// [`InvalidState`] as an `io::Error` if the server is closed; `Unsupported` if it has unix sockets only: see
    /// [`unix_addrs`](Self::unix_addrs).
    ///
    /// ```
    /// # roundelay::block_on(async {
    /// let server = roundelay::start_server(async |_, _| (), ("127.0.0.1", 0)).await?;
    /// println!("listening on {}", server.local_addr()?);
    /// # assert_eq!(server.local_addrs(), [server.local_addr()?]);
    /// # server.close();
    /// # std::io::Result::Ok(())
    /// # }).unwrap();
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        if let Some(address) = self.local_addrs().first() {
            return Ok(*address);
        }
        if self.inner.state.get() == State::Closed {
            return Err(InvalidState::new("Server::local_addr(): the server is closed").into());
        }
        let text = "Server::local_addr(): the server has no address of the internet";
        Err(io::Error::new(io::ErrorKind::Unsupported, text))
    }

    /// The addresses of the internet that the server listens on; none once it is closed.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.inner.listeners.borrow().iter().filter_map(|listener| listener.local_addr().ip()).collect()
    }

    /// The addresses of the unix sockets that the server listens on; none once it is closed.
    pub fn unix_addrs(&self) -> Vec<UnixAddr> {
        self.inner.listeners.borrow().iter().filter_map(|listener| listener.local_addr().unix()).collect()
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.inner.active()
    }

    /// How many connections there have been: two looks at it, some time apart, give the rate at which they come.
    pub fn accepted(&self) -> u64 {
        self.inner.clients.borrow().accepted
    }

    /// Where the application made it.
    pub fn created_at(&self) -> &'static Location<'static> {
        self.inner.created_at
    }

    /// The server's loop.
    pub fn get_loop(&self) -> EventLoop {
        EventLoop::handle(self.inner.core.clone())
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, addresses) = (self.inner.state.get(), self.inner.addresses());
        write!(f, "<Server {state:?} addrs=[{addresses}] connections={}>", self.connections())
    }
}

impl Inner {
    fn close(&self) {
        if self.state.replace(State::Closed) == State::Closed {
            return;
        }
        note!(DEBUG, "roundelay::io", "server on {} closes", self.addresses());
        let listeners = self.listeners.take();
        for listener in &listeners {
            listener.close();
        }
        self.core.local.counters.servers.closed();
        self.waiters.wake();
    }

    fn me(&self) -> Rc<Self> {
        self.me.upgrade().expect("a listener holds its server")
    }

    fn poll_closed(&self, waiter: &Waiter, cx: &Context<'_>) -> Poll<()> {
        if self.state.get() == State::Closed && self.active() == 0 {
            return Poll::Ready(());
        }
        waiter.wait(cx);
        Poll::Pending
    }

    /// The connections, with nothing borrowed.
    fn clients(&self) -> Vec<Rc<SocketTransport>> {
        self.clients.borrow().live()
    }

    /// The addresses that it listens on, as a text.
    fn addresses(&self) -> String {
        let listeners = self.listeners.borrow();
        let texts = listeners.iter().map(|listener| match listener.local_addr().unix() {
            Some(address) => address.to_string(),
            None => listener.local_addr().ip().map_or("?".into(), |address| address.to_string()),
        });
        texts.collect::<Vec<_>>().join(", ")
    }

    /// How many connections there are.
    fn active(&self) -> usize {
        self.clients.borrow().active
    }

    /// Tells the exception handler, in the current context.
    fn tell(&self, message: &str, exception: Exception<'_>, listener: &Listener) {
        let context = ExceptionContext::new(message)
            .with_exception(exception)
            .with_created_at(self.created_at)
            .with_subject(Server { inner: self.me() })
            .with_subject(listener.view());
        EventLoop::handle(self.core.clone()).call_exception_handler(&context);
    }

    /// Makes the protocol and the transport of a connection.
    fn open(
        &self,
        socket: Socket,
        local_addr: KeptAddress,
        peer_addr: KeptAddress,
        listener: &Listener,
    ) -> Option<Rc<SocketTransport>> {
        let factory = self.factory.as_ref()?;
        let (made, slot) = context::enter(self.context.fork(), || {
            factory().map_err(|payload| {
                if let Some(payload) = self.core.local.take_fatal(payload) {
                    // In the context that it has run in.
                    self.tell(NOT_OPENED, Exception::Panic(&*payload), listener);
                    self.core.local.dispose(payload);
                }
            })
        });
        let protocol = made.ok()?;
        let parts = Parts { protocol, context: slot, local_addr, peer_addr, created_at: None };
        match SocketTransport::open_accepted(&self.core, socket, parts) {
            Ok(transport) => Some(transport),
            Err(error) => {
                self.failed(NOT_OPENED, Exception::Error(&error), listener);
                None
            }
        }
    }
}

impl Acceptor for Inner {
    fn is_accepting(&self) -> bool {
        if self.state.get() != State::Serving {
            return false;
        }
        if self.active() < self.max_connections {
            return true;
        }
        for listener in self.listeners.borrow().iter() {
            listener.rest();
        }
        false
    }

    fn accepted(&self, socket: Socket, peer_addr: KeptAddress, listener: &Listener) {
        // The address of a socket bound to all interfaces differs from connection to connection: it is asked for later.
        let local_addr = match listener.local_addr() {
            everywhere if everywhere.ip().is_some_and(|address| address.ip().is_unspecified()) => KeptAddress::Unknown,
            address => address.clone(),
        };
        let Some(client) = self.open(socket, local_addr, peer_addr, listener) else { return };
        note!(DEBUG, "roundelay::io", "server on {} got a new connection: {client:?}", self.addresses());
        let place = self.clients.borrow_mut().attach(&client);
        client.set_owner(self.me(), place);
        if let Some(limit) = self.idle_timeout {
            client.set_idle_limit(limit);
        }
        client.make_connection();
    }

    fn failed(&self, message: &str, exception: Exception<'_>, listener: &Listener) {
        let ((), left) = context::enter(self.context.fork(), || self.tell(message, exception, listener));
        self.core.local.dispose(left);
    }

    fn listener_closed(&self) {
        if self.state.get() != State::Closed {
            self.core
                .resource_warning(format_args!("unclosed server on [{}]", self.addresses()), Some(self.created_at));
        }
        self.close();
    }

    fn stop(&self) {
        self.close();
    }
}

impl Owner for Inner {
    fn created_at(&self) -> &'static Location<'static> {
        self.created_at
    }

    fn transport_lost(&self, place: usize) {
        let last = self.clients.borrow_mut().detach(place);
        if last {
            self.waiters.wake();
        }
        // Without a limit nobody rests.
        if self.max_connections < usize::MAX && self.active() < self.max_connections {
            for listener in self.listeners.borrow().iter() {
                listener.wake();
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Bound and never started, or already closed.
        self.close();
        // The last to hold it may be a connection that ends, in the midst of its own end: a destructor of the
        // application's must not unwind into that.
        let (factory, context) = (self.factory.take(), std::mem::replace(&mut self.context, Slot::EMPTY));
        self.core.local.dispose(factory);
        self.core.local.dispose(context);
    }
}

/// The servers of a loop that hold their ports and do not listen yet: nothing of theirs is registered with the loop, so
/// they hear of its end in this way.
struct BoundServers {
    servers: RefCell<Vec<Weak<Inner>>>,
}

impl BoundServers {
    fn add(&self, server: &Rc<Inner>) {
        let mut servers = self.servers.borrow_mut();
        servers.retain(|other| other.strong_count() > 0);
        servers.push(Rc::downgrade(server));
    }

    fn remove(&self, server: &Inner) {
        self.servers.borrow_mut().retain(|other| !std::ptr::eq(other.as_ptr(), server));
    }

    fn close_all(&self) {
        for server in self.servers.take().iter().filter_map(Weak::upgrade) {
            server.close();
        }
    }
}

impl Service for BoundServers {
    fn new(_: &EventLoop) -> Self {
        Self { servers: RefCell::default() }
    }

    fn stop_accepting(&self) {
        self.close_all();
    }

    fn close(&self) {
        self.close_all();
    }
}

enum ForeverState {
    New,
    Waiting,
    Done,
}

/// The future of [`Server::serve_forever`]; dropping it closes the server.
#[must_use = "futures do nothing unless they are awaited"]
pub struct ServeForever {
    server: Server,
    state: ForeverState,
    waiter: Waiter,
}

impl Future for ServeForever {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = self.server.inner.clone();
        if let ForeverState::New = self.state {
            if inner.forever.get() {
                let text = "Server::serve_forever(): it is being awaited already";
                return Poll::Ready(Err(InvalidState::new(text).into()));
            }
            self.server.start("serve_forever")?;
            inner.forever.set(true);
            self.state = ForeverState::Waiting;
        }
        if inner.state.get() == State::Closed {
            self.state = ForeverState::Done;
            inner.forever.set(false);
            return Poll::Ready(Ok(()));
        }
        self.waiter.wait(cx);
        Poll::Pending
    }
}

impl Drop for ServeForever {
    fn drop(&mut self) {
        if let ForeverState::Waiting = self.state {
            self.server.inner.forever.set(false);
            self.server.close();
        }
    }
}

impl fmt::Debug for ServeForever {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServeForever").field(&self.server).finish()
    }
}

impl ExceptionContext<'_> {
    /// The server concerned.
    pub fn server(&self) -> Option<&Server> {
        self.subject()
    }
}

/// Closes its server when it is dropped.
#[must_use = "the server is closed when this is dropped"]
#[derive(Debug)]
pub struct CloseOnDrop {
    server: Server,
}

impl std::ops::Deref for CloseOnDrop {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.server.close();
    }
}

//! Datagram endpoints in memory: what a network does to datagrams, without a socket.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::{Rc, Weak};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use crate::error::{Fatal, LoopClosed};
use crate::event_loop::EventLoop;
use crate::event_loop::exception::ExceptionContext;
use crate::event_loop::services::Service;
use crate::event_loop::unfinished::{Kind, Unfinished};
use crate::os::address::Address;
use crate::protocol::{
    AnyDatagramProtocol, BaseTransport, DatagramHandle, DatagramProtocol, DatagramTransport, ExtraInfo, ProtocolRef,
    TransportId, WaiterId, WaterMarks,
};
use crate::reactor::slot::End;
use crate::sched::context::Context;
use crate::sched::dice::Dice;
use crate::sched::report::Exception;
use crate::transport::flow::Flow;

/// What lies between the two endpoints of a [`datagram_pair`]: what becomes of datagrams on their way. The time is that of the
/// loop's clock, and what looks random comes from the seed.
///
/// ```
/// use roundelay::testing::DatagramLink;
/// use std::time::Duration;
///
/// let bad = DatagramLink::new().drop_one_in(5).duplicate_one_in(20).jitter(Duration::from_millis(30)).seed(42);
/// # let _ = bad;
/// ```
#[derive(Clone, Debug, Default)]
pub struct DatagramLink {
    latency: Duration,
    jitter: Duration,
    drop_one_in: Option<u32>,
    duplicate_one_in: Option<u32>,
    seed: u64,
}

impl DatagramLink {
    /// One on which every datagram arrives once, in order and at once.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long a datagram is on its way.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Up to so much is added to the latency of each datagram, by the seed: so they overtake each other.
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// One datagram in so many is lost, by the seed: all of them for one.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn drop_one_in(mut self, one_in: u32) -> Self {
        assert!(one_in > 0, "DatagramLink::drop_one_in(): there is no one in zero");
        self.drop_one_in = Some(one_in);
        self
    }

    /// One datagram in so many arrives twice, by the seed.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn duplicate_one_in(mut self, one_in: u32) -> Self {
        assert!(one_in > 0, "DatagramLink::duplicate_one_in(): there is no one in zero");
        self.duplicate_one_in = Some(one_in);
        self
    }

    /// Where that which looks random comes from. The same seed gives the same run.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

/// What [`datagram_pair`] makes: an endpoint, and its protocol to look into.
pub type MemoryEndpoint<P> = (DatagramHandle, ProtocolRef<P>);

/// Connects two protocols of datagrams with each other, in memory, by this link. The factories are called here and now,
/// `connection_made` comes to each in a turn of its own, the first one's first.
///
/// The endpoints are like connected sockets: `sendto` with `None` is for the other one, and so is the address that
/// `datagram_received` is given, which is made up (192.0.2.1 and 192.0.2.2, which are nobody's). Nothing is ever queued, so
/// nobody is paused. A datagram that finds the other endpoint gone comes back as
/// [`error_received`](DatagramProtocol::error_received) with `ConnectionRefused`.
///
/// # Errors
///
/// [`LoopClosed`] as an `io::Error`.
///
/// ```
/// use roundelay::testing::{DatagramLink, datagram_pair};
/// use roundelay::{Address, DatagramHandle, DatagramProtocol, EventLoop};
///
/// struct Echo;
/// impl DatagramProtocol for Echo {
///     fn datagram_received(&mut self, transport: &DatagramHandle, data: &[u8], from: Option<&Address>) {
///         transport.sendto(data, from);
///     }
/// }
///
/// #[derive(Default)]
/// struct Count(usize);
/// impl DatagramProtocol for Count {
///     fn datagram_received(&mut self, _: &DatagramHandle, _: &[u8], _: Option<&Address>) {
///         self.0 += 1;
///     }
/// }
///
/// let el = EventLoop::new()?;
/// let ((client, count), _) = datagram_pair(&el, &DatagramLink::new().drop_one_in(3).seed(1), Count::default, || Echo)?;
/// (0..100).for_each(|_| client.sendto(b"ping", None));
/// while el.run_once(Some(std::time::Duration::ZERO))? > 0 {}
/// // Lost in either direction.
/// assert!((20..70).contains(&count.with(|count| count.0)));
/// # std::io::Result::Ok(())
/// ```
pub fn datagram_pair<A: DatagramProtocol, B: DatagramProtocol>(
    el: &EventLoop,
    link: &DatagramLink,
    first: impl FnOnce() -> A,
    second: impl FnOnce() -> B,
) -> io::Result<(MemoryEndpoint<A>, MemoryEndpoint<B>)> {
    if el.is_closed() {
        return Err(LoopClosed.into());
    }
    let (first, second) = (ProtocolRef::new(first()), ProtocolRef::new(second()));
    let [a, b] = [1, 2].map(|host| Address::from(SocketAddr::from((Ipv4Addr::new(192, 0, 2, host), 9))));
    // Either direction has dice of its own, so that one does not depend on when the other sends.
    let seed = link.seed.wrapping_mul(2);
    let (there, back) = (Dice::new(seed), Dice::new(seed.wrapping_add(1)));
    let near = MemoryDatagrams::open(el, link, first.clone().into(), (a.clone(), b.clone()), there);
    let far = MemoryDatagrams::open(el, link, second.clone().into(), (b, a), back);
    *near.peer.borrow_mut() = Rc::downgrade(&far);
    *far.peer.borrow_mut() = Rc::downgrade(&near);
    Ok(((DatagramHandle::new(near), first), (DatagramHandle::new(far), second)))
}

/// How far an endpoint is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// `connection_lost` is on its way.
    Losing,
    Gone,
}

/// An endpoint.
struct MemoryDatagrams {
    me: Weak<Self>,
    el: EventLoop,
    id: TransportId,
    /// All callbacks run in it.
    context: Context,
    phase: Cell<Phase>,
    flow: Cell<Flow>,
    /// `None` once the endpoint is gone.
    protocol: RefCell<Option<AnyDatagramProtocol>>,
    peer: RefCell<Weak<Self>>,
    link: DatagramLink,
    dice: RefCell<Dice>,
    local_addr: Address,
    peer_addr: Address,
    /// Keeps it while it is open.
    endpoints: Weak<Endpoints>,
}

impl MemoryDatagrams {
    fn open(
        el: &EventLoop,
        link: &DatagramLink,
        protocol: AnyDatagramProtocol,
        (local_addr, peer_addr): (Address, Address),
        dice: Dice,
    ) -> Rc<Self> {
        el.core.local.counters.transports.opened();
        let id = TransportId::next();
        let endpoints: Rc<Endpoints> = el.core.service(el);
        let this = Rc::new_cyclic(|me: &Weak<Self>| Self {
            me: me.clone(),
            el: el.clone(),
            id,
            context: Context::current().copy(),
            phase: Cell::new(Phase::Open),
            flow: Cell::new(Flow::new()),
            protocol: RefCell::new(Some(protocol)),
            peer: RefCell::default(),
            link: link.clone(),
            dice: RefCell::new(dice),
            endpoints: Rc::downgrade(&endpoints),
            local_addr,
            peer_addr,
        });
        endpoints.open.borrow_mut().insert(id, this.clone());
        this.soon(|this| this.tell("connection_made", |protocol, handle| protocol.connection_made(handle)));
        this
    }

    fn handle(&self) -> Option<DatagramHandle> {
        Some(DatagramHandle::new(self.me.upgrade()?))
    }

    /// Does something in a turn of its own, with no callback on the stack.
    fn soon(&self, f: impl FnOnce(&Self) + 'static) {
        let me = self.me.clone();
        self.after(&self.context, Duration::ZERO, move || {
            if let Some(this) = me.upgrade() {
                f(&this);
            }
        });
    }

    fn after(&self, context: &Context, delay: Duration, then: impl FnOnce() + 'static) {
        if self.el.is_closed() {
            return;
        }
        if delay.is_zero() {
            drop(self.el.call_soon_in(context, then));
        } else {
            drop(self.el.call_later_in(context, delay, then));
        }
    }

    /// Lets a datagram arrive, in the context of who receives it.
    fn arrive(&self, peer: Weak<Self>, delay: Duration, then: impl FnOnce(Option<Rc<Self>>) + 'static) {
        let context = peer.upgrade().map_or_else(|| self.context.clone(), |peer| peer.context.clone());
        self.after(&context, delay, move || then(peer.upgrade()));
    }

    /// Calls the protocol. A panic is reported, and the endpoint goes on.
    fn tell(
        &self,
        callback: &str,
        f: impl FnOnce(&AnyDatagramProtocol, &DatagramHandle) -> Result<(), Box<dyn std::any::Any + Send>>,
    ) {
        let (Some(protocol), Some(handle)) = (self.protocol.borrow().clone(), self.handle()) else { return };
        let Err(payload) = f(&protocol, &handle) else { return };
        if payload.is::<Fatal>() {
            std::panic::resume_unwind(payload);
        }
        let message = format!("Exception in callback {callback}");
        self.report(ExceptionContext::new(message).with_exception(Exception::Panic(&*payload)).with_subject(protocol));
        self.el.core.local.dispose(payload);
    }

    fn report(&self, mut context: ExceptionContext<'_>) {
        if let Some(handle) = self.handle() {
            context = context.with_subject(handle);
        }
        self.el.call_exception_handler(&context);
    }

    /// A datagram is here.
    fn deliver(&self, data: &[u8]) {
        if self.phase.get() == Phase::Open {
            let from = self.peer_addr.clone();
            self.tell("datagram_received", |protocol, handle| protocol.datagram_received(handle, data, Some(&from)));
        }
    }

    fn refused(&self) {
        if self.phase.get() == Phase::Open {
            let error = io::Error::new(io::ErrorKind::ConnectionRefused, "the other endpoint in memory is gone");
            self.tell("error_received", |protocol, handle| protocol.error_received(handle, error));
        }
    }

    fn lose(&self) {
        if self.phase.get() != Phase::Open {
            return;
        }
        self.phase.set(Phase::Losing);
        self.soon(|this| {
            this.phase.set(Phase::Gone);
            this.tell("connection_lost", |protocol, handle| protocol.connection_lost(handle, None));
            this.forget();
        });
    }

    /// Lets go of everything without a word.
    fn forget(&self) {
        self.phase.set(Phase::Gone);
        let protocol = self.protocol.take();
        if protocol.is_none() {
            return;
        }
        self.el.core.transport_gone();
        let this = self.endpoints.upgrade().and_then(|endpoints| endpoints.open.borrow_mut().remove(&self.id));
        // It may have a destructor of the application's.
        self.el.core.local.dispose(protocol);
        drop(this);
    }
}

impl BaseTransport for MemoryDatagrams {
    fn id(&self) -> TransportId {
        self.id
    }

    fn is_closing(&self) -> bool {
        self.phase.get() != Phase::Open
    }

    fn close(&self) {
        self.lose();
    }

    fn abort(&self) {
        self.lose();
    }

    fn extra_info(&self) -> ExtraInfo {
        let (local_addr, peer_addr) = (self.local_addr.as_ip(), self.peer_addr.as_ip());
        ExtraInfo { local_addr, peer_addr, ..ExtraInfo::default() }
    }
}

impl DatagramTransport for MemoryDatagrams {
    fn sendto(&self, data: &[u8], addr: Option<&Address>) {
        if let Some(addr) = addr.filter(|addr| **addr != self.peer_addr) {
            let text = format!("DatagramHandle::sendto(): {addr} is not the address of the peer, {}", self.peer_addr);
            return self.report(ExceptionContext::new(text));
        }
        if self.phase.get() != Phase::Open {
            return;
        }
        let mut dice = self.dice.borrow_mut();
        let mut one_in = |n: Option<u32>| n.is_some_and(|n| dice.below(n.into()) == 0);
        let copies = match (one_in(self.link.drop_one_in), one_in(self.link.duplicate_one_in)) {
            (true, _) => 0,
            (false, true) => 2,
            (false, false) => 1,
        };
        let delays: Vec<Duration> =
            (0..copies).map(|_| self.link.latency.saturating_add(dice.up_to(self.link.jitter))).collect();
        drop(dice);
        let data: Rc<[u8]> = data.into();
        for delay in delays {
            let data = data.clone();
            // It is this end's until it arrives: the other one may be gone by then.
            let (me, peer) = (self.me.clone(), self.peer.borrow().clone());
            let arrives = move |peer: Option<Rc<Self>>| match peer.filter(|peer| peer.phase.get() == Phase::Open) {
                Some(peer) => peer.deliver(&data),
                None => {
                    if let Some(this) = me.upgrade() {
                        this.refused();
                    }
                }
            };
            self.arrive(peer, delay, arrives);
        }
    }

    fn protocol(&self) -> Option<AnyDatagramProtocol> {
        self.protocol.borrow().clone()
    }

    fn set_protocol(&self, protocol: AnyDatagramProtocol) {
        if self.phase.get() != Phase::Gone && self.protocol.borrow().is_some() {
            let before = self.protocol.replace(Some(protocol));
            self.el.core.local.dispose(before);
        }
    }

    fn write_buffer_size(&self) -> usize {
        0
    }

    fn write_buffer_limits(&self) -> WaterMarks {
        self.flow.get().marks()
    }

    fn set_write_buffer_limits(&self, high: Option<usize>, low: Option<usize>) -> io::Result<()> {
        let mut flow = self.flow.get();
        // There is never anything queued that could be too much.
        let _ = flow.set_marks(high, low, 0)?;
        self.flow.set(flow);
        Ok(())
    }

    fn poll_ready(&self, _: WaiterId, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match self.phase.get() {
            Phase::Open => Ok(()),
            Phase::Losing | Phase::Gone => Err(io::Error::new(io::ErrorKind::ConnectionReset, "Connection lost")),
        })
    }

    fn forget_waiter(&self, _: WaiterId) {}
}

impl fmt::Debug for MemoryDatagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<DatagramTransport {} in memory {} {:?}>", self.id, self.local_addr, self.phase.get())
    }
}

/// The open endpoints in memory: the loop owns them.
struct Endpoints {
    open: RefCell<BTreeMap<TransportId, Rc<MemoryDatagrams>>>,
}

impl Endpoints {
    fn all(&self) -> Vec<Rc<MemoryDatagrams>> {
        self.open.borrow().values().cloned().collect()
    }
}

impl Service for Endpoints {
    fn new(_: &EventLoop) -> Self {
        Self { open: RefCell::default() }
    }

    fn end(&self, _: End) {
        self.all().iter().for_each(|endpoint| endpoint.lose());
    }

    fn unfinished(&self, found: &mut Unfinished) {
        self.all()
            .iter()
            .filter_map(|endpoint| endpoint.handle())
            .for_each(|handle| found.add(Kind::Connection, handle));
    }

    fn close(&self) {
        for endpoint in self.all() {
            if endpoint.phase.get() == Phase::Open {
                endpoint.el.core.resource_warning(format_args!("unclosed transport {endpoint:?}"), None);
            }
            endpoint.forget();
        }
    }
}

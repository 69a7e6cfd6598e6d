//! What is kept of a registered descriptor, under keys that name one registration and none after it.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Waker};

use crate::constants::FIRST_SLOTS;
use crate::os::fd::RawFd;
use crate::reactor::{Fired, Interest, Mode, Readiness, Selector};

/// Gets events in its turn in the loop's queue.
pub(crate) trait Handler {
    /// The descriptor is ready.
    fn on_ready(self: Rc<Self>, readiness: Readiness);

    /// What has a text for it.
    fn about(self: Rc<Self>) -> Rc<dyn fmt::Debug>;

    /// The loop is closed; nothing will be reported any more. Calls nobody.
    fn on_close(self: Rc<Self>);

    /// The loop is about to end: no connection is to come any more.
    fn stop_accepting(self: Rc<Self>) {}

    /// The loop is about to end: a connection is to end before it, and tells whom it has to tell.
    fn end(self: Rc<Self>, _: End) {}

    /// What it waits for.
    #[cfg(feature = "test-util")]
    fn awaits(self: Rc<Self>) -> Interest {
        Interest::BOTH
    }

    /// The time for that is over: what is to be named as not ended, as the layers above know it.
    fn unfinished(self: Rc<Self>) -> Option<Rc<dyn Any>> {
        None
    }
}

/// How much time something open has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It may send first what is queued.
    Flush,
    /// None.
    Now,
}

/// Who hears of a descriptor.
pub(crate) enum Listener<C> {
    /// Callbacks of `add_reader` and `add_writer`, and operations that wait. Boxed: transports are many, and their slots
    /// small.
    Watch(Box<Watch<C>>),
    /// Tasks that wait for one direction each.
    Wakers(Rc<WakerPair>),
    /// A transport or a listening socket, which the slot keeps alive.
    Handler(Rc<dyn Handler>),
}

/// Who watches a descriptor that stays the application's: one for each direction.
pub(crate) struct Watch<C> {
    pub(crate) reader: Option<Watcher<C>>,
    pub(crate) writer: Option<Watcher<C>>,
}

/// What happens when a descriptor is ready.
pub(crate) enum Watcher<C> {
    /// It is called, each time.
    Callback(C),
    /// It is woken, and not again before it waits again.
    Operation(Rc<Operation>),
}

/// One operation of the application's on a descriptor, which waits in one direction.
pub(crate) struct Operation {
    /// What was called.
    pub(crate) method: &'static str,
    /// `None` once it was woken.
    waker: Cell<Option<Waker>>,
}

impl<C> Watch<C> {
    /// With one watcher.
    pub(crate) fn of(direction: Direction, watcher: Watcher<C>) -> Self {
        match direction {
            Direction::Read => Self { reader: Some(watcher), writer: None },
            Direction::Write => Self { reader: None, writer: Some(watcher) },
        }
    }

    pub(crate) fn place(&mut self, direction: Direction) -> &mut Option<Watcher<C>> {
        match direction {
            Direction::Read => &mut self.reader,
            Direction::Write => &mut self.writer,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.reader.is_none() && self.writer.is_none()
    }

    /// What is to be reported. Of an operation that was woken nothing is, until it waits again.
    pub(crate) fn interest(&self) -> Interest {
        let wants = |watcher: &Option<Watcher<C>>| watcher.as_ref().is_some_and(Watcher::is_waiting);
        Interest { readable: wants(&self.reader), writable: wants(&self.writer) }
    }
}

impl<C> Watcher<C> {
    fn is_waiting(&self) -> bool {
        match self {
            Self::Callback(_) => true,
            Self::Operation(operation) => operation.is_waiting(),
        }
    }

    /// Whether it is this operation.
    pub(crate) fn is(&self, operation: &Rc<Operation>) -> bool {
        matches!(self, Self::Operation(other) if Rc::ptr_eq(other, operation))
    }
}

impl<C: Clone> Watcher<C> {
    fn fire(&self, fd: RawFd) -> Option<Fired<C>> {
        match self {
            Self::Callback(callback) => Some(Fired::Callback(callback.clone())),
            Self::Operation(operation) => operation.waker.take().map(|waker| Fired::Wake(waker, fd)),
        }
    }
}

impl Operation {
    pub(crate) fn new(method: &'static str, waker: Waker) -> Rc<Self> {
        Rc::new(Self { method, waker: Cell::new(Some(waker)) })
    }

    pub(crate) fn is_waiting(&self) -> bool {
        let waker = self.waker.take();
        let is_waiting = waker.is_some();
        self.waker.set(waker);
        is_waiting
    }

    /// Waits, with this waker from now on.
    pub(crate) fn wait(&self, waker: Waker) {
        drop(self.waker.replace(Some(waker)));
    }

    /// Tells it to try again.
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The tasks that wait for a descriptor, and what it was ready for when last heard of.
pub(crate) struct WakerPair {
    /// Directions in which a call may be worth trying: cleared when one would have blocked.
    ready: Cell<Readiness>,
    /// How many events there were: what one tells must not be cleared by whoever has seen an earlier one.
    events: Cell<u32>,
    reader: Cell<Option<Waker>>,
    writer: Cell<Option<Waker>>,
}

/// One of the two directions of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

impl WakerPair {
    /// A pair for a descriptor that nothing is known of: both directions are worth trying.
    pub(crate) fn new(ready: Readiness) -> Self {
        Self { ready: Cell::new(ready), events: Cell::new(0), reader: Cell::new(None), writer: Cell::new(None) }
    }

    #[inline]
    fn waker(&self, direction: Direction) -> &Cell<Option<Waker>> {
        match direction {
            Direction::Read => &self.reader,
            Direction::Write => &self.writer,
        }
    }

    pub(crate) fn is_ready(&self, direction: Direction) -> bool {
        match direction {
            Direction::Read => self.ready.get().is_readable(),
            Direction::Write => self.ready.get().is_writable(),
        }
    }

    /// Whether the peer has hung up: a short read is then followed by another one.
    pub(crate) fn is_hangup(&self) -> bool {
        self.ready.get().is_hangup()
    }

    /// A call would have blocked.
    pub(crate) fn clear_ready(&self, direction: Direction) {
        let cleared = match direction {
            Direction::Read => Readiness::READABLE.bits() | Readiness::HANGUP.bits(),
            Direction::Write => Readiness::WRITABLE.bits(),
        } | Readiness::ERROR.bits();
        self.ready.set(Readiness::from_bits(self.ready.get().bits() & !cleared));
    }

    pub(crate) fn readiness(&self) -> Readiness {
        self.ready.get()
    }

    pub(crate) fn events(&self) -> u32 {
        self.events.get()
    }

    pub(crate) fn set_ready(&self, readiness: Readiness) {
        self.events.set(self.events.get().wrapping_add(1));
        self.ready.set(self.ready.get().union(readiness));
    }

    /// Keeps the waker of whoever waits for a direction; the one before is forgotten.
    pub(crate) fn register(&self, direction: Direction, cx: &Context<'_>) {
        let cell = self.waker(direction);
        let before = cell.take();
        match before {
            Some(waker) if waker.will_wake(cx.waker()) => cell.set(Some(waker)),
            before => {
                cell.set(Some(cx.waker().clone()));
                drop(before);
            }
        }
    }

    pub(crate) fn is_waited_for(&self, direction: Direction) -> bool {
        let cell = self.waker(direction);
        let waker = cell.take();
        let waited_for = waker.is_some();
        cell.set(waker);
        waited_for
    }

    /// The loop is closed: whoever waits tries once more and gets its error.
    pub(crate) fn close(&self) {
        self.set_ready(Readiness::READABLE.union(Readiness::WRITABLE));
        let (reader, writer) = (self.reader.take(), self.writer.take());
        for waker in reader.into_iter().chain(writer) {
            waker.wake();
        }
    }
}

/// A registered descriptor.
pub(crate) struct Slot<C> {
    pub(crate) fd: RawFd,
    /// What the selector was asked to report.
    pub(crate) interest: Interest,
    pub(crate) mode: Mode,
    /// Taken out of the selector, because a level-triggered hang-up that nobody wants to hear of would not let it
    /// sleep. Put back when there is interest again.
    pub(crate) parked: bool,
    pub(crate) listener: Listener<C>,
}

impl<C: Clone> Slot<C> {
    /// Tells the listener. Readable and writable in one event are two messages, reading first.
    pub(crate) fn dispatch(&mut self, key: u64, readiness: Readiness, fired: &mut Vec<Fired<C>>) {
        match &self.listener {
            Listener::Handler(_) => fired.push(Fired::Event(key, readiness)),
            Listener::Wakers(pair) => {
                pair.set_ready(readiness);
                let wake = |waker| Fired::Wake(waker, self.fd);
                if readiness.is_readable() {
                    fired.extend(pair.reader.take().map(wake));
                }
                if readiness.is_writable() {
                    fired.extend(pair.writer.take().map(wake));
                }
            }
            Listener::Watch(watch) => {
                let Watch { reader, writer } = &**watch;
                let reader = reader.as_ref().filter(|_| readiness.is_readable());
                let writer = writer.as_ref().filter(|_| readiness.is_writable());
                fired.extend(reader.into_iter().chain(writer).filter_map(|watcher| watcher.fire(self.fd)));
            }
        }
    }

    /// Keeps a level-triggered condition from being reported again and again while nobody acts on it.
    pub(crate) fn quieten(&mut self, selector: &mut dyn Selector, key: u64, readiness: Readiness) {
        let want = match &self.listener {
            // Whoever was woken asks again when a call would have blocked.
            Listener::Wakers(pair) => Interest {
                readable: pair.is_waited_for(Direction::Read),
                writable: pair.is_waited_for(Direction::Write),
            },
            Listener::Watch(watch) => watch.interest(),
            Listener::Handler(_) => self.interest,
        };
        let fd = crate::reactor::registration::borrow(self.fd);
        // An operation that was woken is most often done, and then no call is needed to forget the descriptor.
        let is_done = matches!(self.listener, Listener::Watch(_));
        if want == Interest::NONE && (readiness.is_hangup() || is_done) {
            self.parked = selector.delete(fd).is_ok();
            self.interest = want;
        } else if want != self.interest && selector.modify(fd, key, want, self.mode).is_ok() {
            self.interest = want;
        }
    }
}

/// Marks the end of the list of free places.
const NONE: u32 = u32::MAX;

struct Place<C> {
    /// How often the place was freed; the upper half of the key.
    generation: u32,
    content: Content<C>,
}

enum Content<C> {
    Taken(Slot<C>),
    Free { next: u32 },
}

/// The slots, under keys made of place (low half) and generation (high half).
pub(crate) struct Slots<C> {
    places: Vec<Place<C>>,
    free: u32,
}

impl<C> Slots<C> {
    pub(crate) fn new() -> Self {
        Self { places: Vec::new(), free: NONE }
    }

    /// The place in a key.
    pub(crate) fn index(key: u64) -> u32 {
        key as u32
    }

    fn key(index: u32, generation: u32) -> u64 {
        u64::from(generation) << 32 | u64::from(index)
    }

    pub(crate) fn insert(&mut self, slot: Slot<C>) -> u64 {
        let index = self.free;
        if index == NONE {
            let index = u32::try_from(self.places.len()).ok().filter(|&index| index != NONE);
            let index = index.expect("fewer than 2^32 - 1 descriptors");
            if self.places.len() == self.places.capacity() {
                // A quarter more, not twice as much: with thousands of connections a place is a good part of what an idle
                // one costs.
                self.places.reserve_exact(FIRST_SLOTS.max(self.places.len() / 4));
            }
            self.places.push(Place { generation: 0, content: Content::Taken(slot) });
            return Self::key(index, 0);
        }
        let place = &mut self.places[index as usize];
        match std::mem::replace(&mut place.content, Content::Taken(slot)) {
            Content::Free { next } => self.free = next,
            Content::Taken(_) => unreachable!("the free list holds free places"),
        }
        Self::key(index, place.generation)
    }

    pub(crate) fn get(&self, key: u64) -> Option<&Slot<C>> {
        let place = self.places.get(Self::index(key) as usize)?;
        match &place.content {
            Content::Taken(slot) if Self::key(Self::index(key), place.generation) == key => Some(slot),
            _ => None,
        }
    }

    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut Slot<C>> {
        let place = self.places.get_mut(Self::index(key) as usize)?;
        match &mut place.content {
            Content::Taken(slot) if Self::key(Self::index(key), place.generation) == key => Some(slot),
            _ => None,
        }
    }

    /// Whatever stands at a place, with its key.
    pub(crate) fn at(&mut self, index: u32) -> Option<(u64, &mut Slot<C>)> {
        let place = self.places.get_mut(index as usize)?;
        match &mut place.content {
            Content::Taken(slot) => Some((Self::key(index, place.generation), slot)),
            Content::Free { .. } => None,
        }
    }

    pub(crate) fn remove(&mut self, key: u64) -> Option<Slot<C>> {
        self.get(key)?;
        let index = Self::index(key);
        let place = &mut self.places[index as usize];
        place.generation = place.generation.wrapping_add(1);
        let content = std::mem::replace(&mut place.content, Content::Free { next: self.free });
        self.free = index;
        match content {
            Content::Taken(slot) => Some(slot),
            Content::Free { .. } => unreachable!("the place was looked at above"),
        }
    }

    /// All slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Slot<C>> {
        self.places.iter().filter_map(|place| match &place.content {
            Content::Taken(slot) => Some(slot),
            Content::Free { .. } => None,
        })
    }

    /// What the selector watches, with its keys.
    pub(crate) fn watched(&mut self) -> Vec<(u64, RawFd, Interest, Mode)> {
        let mut watched = Vec::new();
        for index in 0..self.places.len() as u32 {
            if let Some((key, slot)) = self.at(index).filter(|(_, slot)| !slot.parked) {
                watched.push((key, slot.fd, slot.interest, slot.mode));
            }
        }
        watched
    }

    /// Takes out all slots. Generations go on, so that no old key matches.
    pub(crate) fn drain(&mut self) -> Vec<Slot<C>> {
        (0..self.places.len() as u32)
            .filter_map(|index| {
                let (key, _) = self.at(index)?;
                self.remove(key)
            })
            .collect()
    }
}

//! What a loop has to do with signals: who listens, and the pipe by which it hears of them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::task::Waker;

use crate::error::{LoopClosed, invalid_input};
use crate::event_loop::services::Service;
use crate::event_loop::{EventLoop, LoopRegistration};
use crate::os::signal::{self as os, SignalPipe};
use crate::reactor::slot::{Handler, Listener};
use crate::reactor::{Interest, Mode, Readiness};
use crate::sched::Local;
use crate::sched::ran::Ran;
use crate::sched::ready::{Item, Ready};
use crate::signal::SignalKind;

/// The loop's service.
pub(crate) struct SignalService {
    desk: Rc<Desk>,
}

/// Where signals come in, and whom they are for.
pub(super) struct Desk {
    local: Rc<Local>,
    /// Who listens, by signal, each in the order in which it began to.
    listening: RefCell<BTreeMap<i32, Vec<Entry>>>,
    /// There while anybody listens.
    mouth: RefCell<Option<Mouth>>,
    next_id: Cell<u64>,
}

/// The pipe, in which the operating system's handler puts what it has caught.
struct Mouth {
    /// Before the pipe: deregistered before it is closed.
    _registration: LoopRegistration,
    pipe: SignalPipe,
}

struct Entry {
    /// `HANDLER`, or one that nobody else has.
    id: u64,
    ear: Ear,
}

/// The id of the handler, of which there is one.
const HANDLER: u64 = 0;

/// One who listens.
#[derive(Clone)]
pub(super) enum Ear {
    Handler(Rc<Replaceable>),
    Callback(Rc<dyn Ready>),
    Stream(Rc<Received>),
}

/// The callback of a handler, which another one may take the place of while its turn has not come.
pub(super) struct Replaceable {
    callback: RefCell<Option<Rc<dyn Ready>>>,
}

impl Ready for Replaceable {
    fn run(self: Rc<Self>) {
        let callback = self.callback.borrow().clone();
        if let Some(callback) = callback {
            callback.run();
        }
    }

    fn about(self: Rc<Self>) -> Option<Ran> {
        self.callback.borrow().clone()?.about()
    }

    fn cancel(&self) {
        self.replace(None);
    }
}

impl Replaceable {
    fn replace(&self, callback: Option<Rc<dyn Ready>>) {
        let before = self.callback.replace(callback);
        if let Some(before) = before {
            before.cancel();
        }
    }
}

/// What a stream has got and not given yet.
#[derive(Default)]
pub(super) struct Received {
    pub(super) count: Cell<u64>,
    pub(super) waker: Cell<Option<Waker>>,
    /// The loop is closed: nothing more comes.
    pub(super) ended: Cell<bool>,
}

impl Received {
    fn wake(&self, local: &Local) {
        if let Some(waker) = self.waker.take() {
            local.wake(waker);
        }
    }
}

impl Service for SignalService {
    fn new(el: &EventLoop) -> Self {
        let desk = Desk {
            local: el.core.local.clone(),
            listening: RefCell::default(),
            mouth: RefCell::default(),
            next_id: Cell::new(HANDLER + 1),
        };
        Self { desk: Rc::new(desk) }
    }

    /// The pipe is the parent's: who listens gets its signals from another one.
    fn after_fork_child(&self, el: &EventLoop) -> io::Result<()> {
        drop(self.desk.mouth.take());
        if !self.desk.listening.borrow().is_empty() {
            let mouth = Mouth::open(&self.desk, el)?;
            for signal in self.desk.listening.borrow().keys() {
                mouth.pipe.listen(*signal)?;
            }
            *self.desk.mouth.borrow_mut() = Some(mouth);
        }
        Ok(())
    }

    fn close(&self) {
        let (listening, mouth) = (self.desk.listening.take(), self.desk.mouth.take());
        drop(mouth);
        for entry in listening.into_values().flatten() {
            self.desk.local.guarded(|| entry.ear.end(&self.desk.local));
        }
    }
}

impl Ear {
    /// It hears nothing any more. With nothing borrowed: what it captured may look at anything when it goes.
    fn end(self, local: &Local) {
        match self {
            Self::Handler(handler) => handler.cancel(),
            Self::Callback(callback) => callback.cancel(),
            Self::Stream(received) => {
                received.ended.set(true);
                received.wake(local);
            }
        }
    }

    /// A signal was caught.
    fn hear(self, local: &Local) {
        match self {
            Self::Handler(handler) => local.push(Item::Callback(handler)),
            Self::Callback(callback) => local.push(Item::Callback(callback)),
            Self::Stream(received) => {
                received.count.set(received.count.get() + 1);
                received.wake(local);
            }
        }
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<the loop's pipe for signals>")
    }
}

impl Handler for Desk {
    fn on_ready(self: Rc<Self>, _: Readiness) {
        let mut signals = Vec::new();
        if let Some(mouth) = &*self.mouth.borrow() {
            mouth.pipe.take(&mut signals);
        }
        let ears: Vec<Ear> = {
            let listening = self.listening.borrow();
            let entries = signals.iter().filter_map(|signal| listening.get(signal)).flatten();
            entries.map(|entry| entry.ear.clone()).collect()
        };
        // A waker may be the application's, and change who listens.
        for ear in ears {
            ear.hear(&self.local);
        }
    }

    fn about(self: Rc<Self>) -> Rc<dyn fmt::Debug> {
        self
    }

    fn on_close(self: Rc<Self>) {}

    /// A signal need not come.
    #[cfg(feature = "test-util")]
    fn awaits(self: Rc<Self>) -> Interest {
        Interest::NONE
    }
}

impl Desk {
    /// The desk of an open loop.
    pub(super) fn of(el: &EventLoop) -> io::Result<Rc<Self>> {
        if !el.core.is_open() {
            return Err(LoopClosed.into());
        }
        Ok(el.core.service::<SignalService>(el).desk.clone())
    }

    /// Sets the callback of the handler for a signal.
    pub(super) fn set_handler(
        self: &Rc<Self>,
        el: &EventLoop,
        method: &str,
        kind: SignalKind,
        callback: Rc<dyn Ready>,
    ) -> io::Result<()> {
        if let Some(handler) = self.handler(kind) {
            if let Some(mouth) = &*self.mouth.borrow() {
                mouth.pipe.listen(kind.as_raw())?;
            }
            handler.replace(Some(callback));
            return Ok(());
        }
        let handler = Replaceable { callback: RefCell::new(Some(callback)) };
        self.enter(el, method, kind, HANDLER, Ear::Handler(Rc::new(handler)))
    }

    fn handler(&self, kind: SignalKind) -> Option<Rc<Replaceable>> {
        self.listening.borrow().get(&kind.as_raw())?.iter().find_map(|entry| match &entry.ear {
            Ear::Handler(handler) => Some(handler.clone()),
            _ => None,
        })
    }

    pub(super) fn remove_handler(&self, kind: SignalKind) -> bool {
        self.leave(kind, HANDLER)
    }

    /// Another one listens: under this id from now on.
    pub(super) fn add(self: &Rc<Self>, el: &EventLoop, method: &str, kind: SignalKind, ear: Ear) -> io::Result<u64> {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        self.enter(el, method, kind, id, ear).map(|()| id)
    }

    fn enter(self: &Rc<Self>, el: &EventLoop, method: &str, kind: SignalKind, id: u64, ear: Ear) -> io::Result<()> {
        refuse_uncatchable(method, kind)?;
        let signal = kind.as_raw();
        let mut mouth = self.mouth.borrow_mut();
        let open = match mouth.take() {
            Some(open) => open,
            None => Mouth::open(self, el)?,
        };
        let result = open.pipe.listen(signal);
        let mut listening = self.listening.borrow_mut();
        if result.is_ok() {
            listening.entry(signal).or_default().push(Entry { id, ear });
        }
        if !listening.is_empty() {
            *mouth = Some(open);
        }
        result.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => reserved(method, kind),
            _ => error,
        })
    }

    /// One listens no more: false if it did not.
    pub(super) fn leave(&self, kind: SignalKind, id: u64) -> bool {
        let signal = kind.as_raw();
        let mut listening = self.listening.borrow_mut();
        let Some(entries) = listening.get_mut(&signal) else { return false };
        let Some(place) = entries.iter().position(|entry| entry.id == id) else { return false };
        let entry = entries.remove(place);
        let is_last = entries.is_empty();
        if is_last {
            listening.remove(&signal);
        }
        let is_all = listening.is_empty();
        drop(listening);
        if is_all {
            drop(self.mouth.take());
        } else if is_last {
            if let Some(mouth) = &*self.mouth.borrow() {
                mouth.pipe.ignore(signal);
            }
        }
        entry.ear.end(&self.local);
        true
    }
}

impl Mouth {
    fn open(desk: &Rc<Desk>, el: &EventLoop) -> io::Result<Self> {
        let pipe = SignalPipe::new()?;
        // By level: what one turn does not take is reported in the next one.
        let listener = Listener::Handler(desk.clone());
        let registration = LoopRegistration::new(&el.core.reactor, &pipe, Interest::READABLE, Mode::Level, listener)?;
        Ok(Self { _registration: registration, pipe })
    }
}

/// Refuses what is no signal, what the system does not let anybody catch, and what cannot be caught to any good.
fn refuse_uncatchable(method: &str, kind: SignalKind) -> io::Result<()> {
    let number = kind.as_raw();
    if !(1..=os::LAST).contains(&number) {
        return Err(invalid_input(format!("{method}(): sig {number} is not a valid signal number")));
    }
    match number {
        os::SIGKILL | os::SIGSTOP => Err(invalid_input(format!("{method}(): sig {number} cannot be caught ({kind})"))),
        os::SIGSEGV | os::SIGBUS | os::SIGFPE | os::SIGILL => Err(invalid_input(format!(
            "{method}(): sig {number} cannot be left to a loop ({kind}): the instruction that has failed would fail again"
        ))),
        _ => Ok(()),
    }
}

/// The error for the signals that the C library uses itself.
fn reserved(method: &str, kind: SignalKind) -> io::Error {
    invalid_input(format!("{method}(): sig {} cannot be caught: the system does not let it", kind.as_raw()))
}

/// Calls a function at the first SIGINT, while the next one ends the process. Until it is dropped.
pub(crate) struct Interrupts {
    desk: Rc<Desk>,
    id: u64,
}

impl Interrupts {
    /// `None` where somebody else has to do with SIGINT already: the application has a handler that is not a loop's, or
    /// whoever has started the program has it ignored.
    pub(crate) fn catch(el: &EventLoop, method: &str, callback: Rc<dyn Ready>) -> io::Result<Option<Self>> {
        if !os::is_default(os::SIGINT) {
            return Ok(None);
        }
        let desk = Desk::of(el)?;
        let id = desk.add(el, method, SignalKind::interrupt(), Ear::Callback(callback))?;
        if let Some(mouth) = &*desk.mouth.borrow() {
            mouth.pipe.arm();
        }
        Ok(Some(Self { desk, id }))
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        if let Some(mouth) = &*self.desk.mouth.borrow() {
            mouth.pipe.disarm();
        }
        self.desk.leave(SignalKind::interrupt(), self.id);
    }
}

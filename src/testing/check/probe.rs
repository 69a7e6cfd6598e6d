//! The protocol that a check gives to the transports: it writes down what it hears and holds it against the grammar of
//! callbacks.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;

use crate::protocol::{BufferedProtocol, KeepOpen, Protocol, Transport, TransportId};
use crate::testing::check::bench::End;

/// One of the callbacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Callback {
    Made,
    Data,
    Eof,
    Pause,
    Resume,
    Lost,
}

impl Callback {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Made => "connection_made",
            Self::Data => "data_received",
            Self::Eof => "eof_received",
            Self::Pause => "pause_writing",
            Self::Resume => "resume_writing",
            Self::Lost => "connection_lost",
        }
    }
}

/// What runs within a callback.
type Hook = Box<dyn FnMut(&End, &[u8])>;

/// What all probes of a check know together.
#[derive(Default)]
pub(super) struct Watch {
    /// The method that is being called.
    pub(super) calling: Cell<Option<&'static str>>,
    /// What was found to be against the rules.
    pub(super) violations: RefCell<Vec<String>>,
}

#[derive(Default)]
struct Shared {
    watch: Rc<Watch>,
    name: &'static str,
    /// All callbacks, in order.
    heard: RefCell<Vec<Callback>>,
    /// How the connection was lost.
    lost: RefCell<Option<Option<io::Error>>>,
    bytes: RefCell<Vec<u8>>,
    /// Whether it is in the middle of a connection: it was set in the place of another one.
    is_late: bool,
    id: Cell<Option<TransportId>>,
    keeps_open: Cell<bool>,
    is_buffered: Cell<bool>,
    hooks: RefCell<[Option<Hook>; 6]>,
}

/// The protocol that [`check_transport`](super::check_transport) gives to the function that connects two transports: make it
/// their protocol. Clones are one and the same, so that a factory that may be called more than once can give a clone.
#[derive(Clone)]
pub struct Probe {
    shared: Rc<Shared>,
    /// What this one lends as a buffered protocol.
    lent: Vec<u8>,
}

impl Probe {
    pub(super) fn new(watch: &Rc<Watch>, name: &'static str, is_late: bool) -> Self {
        let shared = Shared { watch: watch.clone(), name, is_late, ..Shared::default() };
        Self { shared: Rc::new(shared), lent: Vec::new() }
    }

    pub(super) fn watch(&self) -> &Rc<Watch> {
        &self.shared.watch
    }

    /// Does something within a callback, each time.
    pub(super) fn on(&self, callback: Callback, f: impl FnMut(&End, &[u8]) + 'static) {
        let before = self.shared.hooks.borrow_mut()[callback as usize].replace(Box::new(f));
        drop(before);
    }

    /// As `on`, the first time only.
    pub(super) fn once(&self, callback: Callback, f: impl FnOnce(&End, &[u8]) + 'static) {
        let mut f = Some(f);
        self.on(callback, move |end, data| {
            if let Some(f) = f.take() {
                f(end, data);
            }
        });
    }

    /// Panics in a callback, the first time.
    pub(super) fn panic_in(&self, callback: Callback) {
        // The panic hook need not speak of it.
        self.once(callback, |_, _| std::panic::resume_unwind(Box::new("a panic of the check's protocol")));
    }

    pub(super) fn keep_open(&self) {
        self.shared.keeps_open.set(true);
    }

    pub(super) fn be_buffered(&self) {
        self.shared.is_buffered.set(true);
    }

    pub(super) fn heard(&self) -> Vec<Callback> {
        self.shared.heard.borrow().clone()
    }

    pub(super) fn has(&self, callback: Callback) -> bool {
        self.count(callback) > 0
    }

    pub(super) fn count(&self, callback: Callback) -> usize {
        self.shared.heard.borrow().iter().filter(|&&other| other == callback).count()
    }

    /// How many bytes were received.
    pub(super) fn len(&self) -> usize {
        self.shared.bytes.borrow().len()
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.shared.bytes.borrow().clone()
    }

    /// How the connection was lost: `None` if it was not yet.
    pub(super) fn lost(&self) -> Option<Result<(), io::ErrorKind>> {
        self.shared.lost.borrow().as_ref().map(|error| match error {
            Some(error) => Err(error.kind()),
            None => Ok(()),
        })
    }

    fn violate(&self, text: impl fmt::Display) {
        self.shared.watch.violations.borrow_mut().push(format!("{}: {text}", self.shared.name));
    }

    /// Holds a callback against the grammar, writes it down, and runs what there is to run in it.
    fn hear(&self, callback: Callback, transport: &Transport, data: &[u8]) {
        let shared = &*self.shared;
        let name = callback.name();
        if let Some(method) = shared.watch.calling.get() {
            self.violate(format_args!("{name} was called from within {method}"));
        }
        let has = |other| shared.heard.borrow().contains(&other);
        match (callback, shared.is_late || has(Callback::Made)) {
            (Callback::Made, true) => self.violate("connection_made was called twice"),
            (Callback::Made, false) | (_, true) => {}
            (_, false) => self.violate(format_args!("{name} was called before connection_made")),
        }
        if has(Callback::Lost) {
            self.violate(format_args!("{name} was called after connection_lost"));
        }
        if has(Callback::Eof) && matches!(callback, Callback::Data | Callback::Eof) {
            self.violate(format_args!("{name} was called after eof_received"));
        }
        if callback == Callback::Data && data.is_empty() {
            self.violate("data_received was called with nothing");
        }
        let is_paused = {
            let heard = shared.heard.borrow();
            let is_flow = |other: &&Callback| matches!(other, Callback::Pause | Callback::Resume);
            heard.iter().rev().find(is_flow) == Some(&Callback::Pause)
        };
        match (callback, is_paused) {
            (Callback::Pause, true) => self.violate("pause_writing was called twice in a row"),
            (Callback::Resume, false) if !shared.is_late => {
                self.violate("resume_writing was called without a pause_writing before it");
            }
            _ => {}
        }
        let id = transport.id();
        if shared.id.replace(Some(id)).is_some_and(|before| before != id) {
            self.violate(format_args!("{name} was called with another transport than the callback before"));
        }
        shared.heard.borrow_mut().push(callback);
        shared.bytes.borrow_mut().extend_from_slice(data);
        let hook = shared.hooks.borrow_mut()[callback as usize].take();
        if let Some(mut hook) = hook {
            hook(&End { transport: transport.clone(), probe: self.clone() }, data);
            let mut hooks = shared.hooks.borrow_mut();
            let place = &mut hooks[callback as usize];
            if place.is_none() {
                *place = Some(hook);
            }
        }
    }
}

impl Protocol for Probe {
    fn connection_made(&mut self, transport: &Transport) {
        self.hear(Callback::Made, transport, &[]);
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        self.hear(Callback::Data, transport, data);
    }

    fn eof_received(&mut self, transport: &Transport) -> KeepOpen {
        self.hear(Callback::Eof, transport, &[]);
        self.shared.keeps_open.get().into()
    }

    fn pause_writing(&mut self, transport: &Transport) {
        self.hear(Callback::Pause, transport, &[]);
    }

    fn resume_writing(&mut self, transport: &Transport) {
        self.hear(Callback::Resume, transport, &[]);
    }

    fn connection_lost(&mut self, transport: &Transport, error: Option<io::Error>) {
        if self.shared.lost.borrow().is_none() {
            *self.shared.lost.borrow_mut() = Some(error);
        }
        self.hear(Callback::Lost, transport, &[]);
    }

    fn as_buffered(&mut self) -> Option<&mut dyn BufferedProtocol> {
        if self.shared.is_buffered.get() { Some(self) } else { None }
    }
}

impl BufferedProtocol for Probe {
    fn connection_made(&mut self, transport: &Transport) {
        Protocol::connection_made(self, transport);
    }

    fn get_buffer(&mut self, _: usize) -> &mut [u8] {
        // Small, and not the same each time.
        self.lent.resize(1 + (self.len() * 7) % 4096, 0);
        &mut self.lent
    }

    fn buffer_updated(&mut self, transport: &Transport, n: usize) {
        let Some(data) = self.lent.get(..n).map(<[u8]>::to_vec) else {
            return self
                .violate(format_args!("buffer_updated was told of {n} bytes in a buffer of {}", self.lent.len()));
        };
        self.hear(Callback::Data, transport, &data);
    }

    fn eof_received(&mut self, transport: &Transport) -> KeepOpen {
        Protocol::eof_received(self, transport)
    }

    fn pause_writing(&mut self, transport: &Transport) {
        Protocol::pause_writing(self, transport);
    }

    fn resume_writing(&mut self, transport: &Transport) {
        Protocol::resume_writing(self, transport);
    }

    fn connection_lost(&mut self, transport: &Transport, error: Option<io::Error>) {
        Protocol::connection_lost(self, transport, error);
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("name", &self.shared.name).field("heard", &self.heard()).finish()
    }
}

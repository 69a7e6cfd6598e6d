//! A protocol that notes what its connection has agreed on, around another one.

#![allow(dead_code, unreachable_pub)]

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use roundelay::{KeepOpen, Protocol, TlsInfo, Transport};

/// What the connections of a server have agreed on, in their order.
#[derive(Clone, Default)]
pub struct Witness(Rc<RefCell<Vec<TlsInfo>>>);

impl Witness {
    pub fn new() -> Self {
        Self::default()
    }

    /// A factory of protocols whose connections are noted.
    pub fn around<P: Protocol>(&self, make: impl Fn() -> P + 'static) -> impl Fn() -> Witnessed<P> + 'static {
        let noted = self.clone();
        move || Witnessed { noted: noted.clone(), inner: make() }
    }

    /// What was noted since the last call.
    pub fn take(&self) -> Vec<TlsInfo> {
        self.0.take()
    }

    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }
}

pub struct Witnessed<P> {
    noted: Witness,
    inner: P,
}

impl<P: Protocol> Protocol for Witnessed<P> {
    fn connection_made(&mut self, transport: &Transport) {
        self.noted.0.borrow_mut().extend(transport.extra_info().tls);
        self.inner.connection_made(transport);
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        self.inner.data_received(transport, data);
    }
    fn eof_received(&mut self, transport: &Transport) -> KeepOpen {
        self.inner.eof_received(transport)
    }
    fn pause_writing(&mut self, transport: &Transport) {
        self.inner.pause_writing(transport);
    }
    fn resume_writing(&mut self, transport: &Transport) {
        self.inner.resume_writing(transport);
    }
    fn connection_lost(&mut self, transport: &Transport, error: Option<io::Error>) {
        self.inner.connection_lost(transport, error);
    }
}

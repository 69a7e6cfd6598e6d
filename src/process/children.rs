//! The child processes of a loop.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use crate::event_loop::EventLoop;
use crate::event_loop::services::Service;
use crate::event_loop::unfinished::{Kind, Unfinished};
use crate::process::transport::ChildTransport;
use crate::protocol::{BaseTransport, TransportId};
use crate::reactor::slot::End;

/// Keeps the transports of running children, and of those whose pipes are still there.
pub(super) struct Children {
    live: RefCell<BTreeMap<TransportId, Rc<ChildTransport>>>,
}

impl Children {
    pub(super) fn insert(&self, child: Rc<ChildTransport>) {
        self.live.borrow_mut().insert(child.id(), child);
    }

    pub(super) fn get(&self, id: TransportId) -> Option<Rc<ChildTransport>> {
        self.live.borrow().get(&id).cloned()
    }

    pub(super) fn remove(&self, id: TransportId) {
        let removed = self.live.borrow_mut().remove(&id);
        drop(removed);
    }

    fn all(&self) -> Vec<Rc<ChildTransport>> {
        self.live.borrow().values().cloned().collect()
    }
}

impl Service for Children {
    fn new(_: &EventLoop) -> Self {
        Self { live: RefCell::default() }
    }

    fn after_fork_child(&self, _: &EventLoop) -> io::Result<()> {
        for child in self.all() {
            child.after_fork_child();
        }
        Ok(())
    }

    fn end(&self, how: End) {
        for child in self.all() {
            match how {
                End::Flush => child.close(),
                End::Now => child.give_up(),
            }
        }
    }

    fn unfinished(&self, left: &mut Unfinished) {
        for child in self.all() {
            left.add(Kind::Process, child.handle());
        }
    }

    fn close(&self) {
        for child in self.all() {
            child.loop_closed();
        }
    }
}

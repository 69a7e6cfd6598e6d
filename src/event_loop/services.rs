//! Typed places in a loop, by which the layers above keep state in a loop that does not know them.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::rc::Rc;

use crate::event_loop::unfinished::Unfinished;
use crate::event_loop::{Core, EventLoop};
use crate::reactor::slot::End;
use crate::sched::Local;

/// State that a layer above keeps in each loop: one value per type, made when it is first asked for.
pub(crate) trait Service: Any {
    fn new(el: &EventLoop) -> Self
    where
        Self: Sized;

    /// The loop is about to end in an orderly way: no connection is to come any more.
    fn stop_accepting(&self) {}

    /// The same, and now the connections are to end, and tell whom they have to tell.
    fn end(&self, _: End) {}

    /// The time for that is over: tells what has not ended yet.
    fn unfinished(&self, _: &mut Unfinished) {}

    /// The loop is being closed: its tasks are gone, its descriptors still registered.
    fn close(&self) {}
}

struct Entry {
    type_id: TypeId,
    any: Rc<dyn Any>,
    service: Rc<dyn Service>,
}

#[derive(Default)]
pub(crate) struct Services {
    /// In order of creation; a handful, so a search beats a table.
    entries: RefCell<Vec<Entry>>,
}

impl Services {
    fn find<S: Service>(&self) -> Option<Rc<S>> {
        let entries = self.entries.borrow();
        let entry = entries.iter().find(|entry| entry.type_id == TypeId::of::<S>())?;
        entry.any.clone().downcast().ok()
    }

    fn all(&self) -> Vec<Rc<dyn Service>> {
        self.entries.borrow().iter().map(|entry| entry.service.clone()).collect()
    }

    /// Tells all that no connection is to come any more.
    pub(crate) fn stop_accepting(&self) {
        for service in self.all() {
            service.stop_accepting();
        }
    }

    /// Tells all that their connections are to end.
    pub(crate) fn end(&self, how: End) {
        for service in self.all() {
            service.end(how);
        }
    }

    /// Asks all what has not ended yet.
    pub(crate) fn unfinished(&self, found: &mut Unfinished) {
        for service in self.all() {
            service.unfinished(found);
        }
    }

    /// Closes all, the latest first, and forgets them.
    pub(crate) fn close(&self, local: &Local) {
        while let Some(entry) = { self.entries.borrow_mut().pop() } {
            local.guarded(|| entry.service.close());
            local.dispose(entry);
        }
    }
}

impl Core {
    /// The loop's service of this type, made now if there is none.
    pub(crate) fn service<S: Service>(&self, el: &EventLoop) -> Rc<S> {
        if let Some(service) = self.services.find() {
            return service;
        }
        let service = Rc::new(S::new(el));
        let entry = Entry { type_id: TypeId::of::<S>(), any: service.clone(), service: service.clone() };
        self.services.entries.borrow_mut().push(entry);
        service
    }
}

//! Typed places in a loop, by which the layers above keep state in a loop that does not know them.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::io;
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

    /// The loop goes on in a child of `fork`, which has no other thread, and shares with its parent what descriptors refer
    /// to. What is registered is so with the child's own selector.
    fn after_fork_child(&self, _: &EventLoop) -> io::Result<()> {
        Ok(())
    }

    /// The loop is being closed: its tasks are gone, its descriptors still registered.
    fn close(&self) {}

    /// The same in a child of `fork`, whose parent goes on with the loop.
    fn close_inherited(&self) {
        self.close();
    }
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

    /// Tells all that the loop goes on in a child of `fork`.
    pub(crate) fn after_fork_child(&self, el: &EventLoop) -> io::Result<()> {
        self.all().into_iter().try_for_each(|service| service.after_fork_child(el))
    }

    /// Closes all, the latest first, and forgets them.
    pub(crate) fn close(&self, local: &Local) {
        while let Some(entry) = { self.entries.borrow_mut().pop() } {
            let is_inherited = local.is_inherited();
            local.guarded(|| if is_inherited { entry.service.close_inherited() } else { entry.service.close() });
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

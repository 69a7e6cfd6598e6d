//! What becomes of Ctrl-C while a runner runs.

use std::cell::Cell;
use std::io;
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

use crate::event_loop::{EventLoop, watch};
use crate::signal::Interrupts;

/// Cancels the main task at the first SIGINT, until it is dropped.
pub(super) struct Interrupt {
    heard: Rc<Cell<bool>>,
    /// `None` where SIGINT is somebody else's.
    _caught: Option<Interrupts>,
}

impl Interrupt {
    pub(super) fn watch(el: &EventLoop, grace: Duration) -> io::Result<Self> {
        let heard = Rc::new(Cell::new(false));
        let (hears, core) = (heard.clone(), el.core.me.clone());
        let on_first = watch::repeated(&el.core, Location::caller(), move || {
            let main = core.upgrade().and_then(|core| core.local.all_tasks().into_iter().find(|task| task.is_root));
            if let Some(main) = main {
                hears.set(true);
                main.cancel_gracefully(grace);
            }
        });
        Ok(Self { heard, _caught: Interrupts::catch(el, "Runner::run", on_first)? })
    }

    /// Whether it has come.
    pub(super) fn was_heard(&self) -> bool {
        self.heard.get()
    }
}

//! Which loop runs on this thread.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use crate::error::{NoRunningLoop, invalid_input};
use crate::event_loop::{Core, EventLoop};
use crate::sched::set_running_loop;

thread_local! {
    static RUNNING: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// The loop that runs on this thread: inside of a callback or task, its own.
///
/// The value is a handle: it keeps nothing open, so a task may hold one.
///
/// # Errors
///
/// [`NoRunningLoop`] outside of a running loop, and in a child of `fork`, where the parent's loop does not run.
///
/// ```
/// assert!(roundelay::get_running_loop().is_err());
/// roundelay::block_on(async {
///     assert!(roundelay::get_running_loop().unwrap().is_running());
/// });
/// ```
#[doc(alias = "_get_running_loop")]
pub fn get_running_loop() -> Result<EventLoop, NoRunningLoop> {
    current().map(EventLoop::handle).ok_or(NoRunningLoop)
}

/// The core of the running loop.
pub(crate) fn current() -> Option<Rc<Core>> {
    // While the thread ends there is none any more.
    RUNNING.try_with(|running| own(running.borrow().as_ref()).cloned()).ok().flatten()
}

/// In a child of `fork` no loop runs, though its parent's does according to what the child has in its memory.
#[inline]
fn own(core: Option<&Rc<Core>>) -> Option<&Rc<Core>> {
    core.filter(|core| !core.is_inherited())
}

/// Calls `f` with the core of the running loop, without counting a reference to it. No run begins or ends meanwhile.
#[inline]
pub(crate) fn with_current<R>(f: impl FnOnce(Option<&Rc<Core>>) -> R) -> R {
    let mut f = Some(f);
    let called = RUNNING.try_with(|running| f.take().map(|f| f(own(running.borrow().as_ref()))));
    match (called, f) {
        (Ok(Some(result)), _) => result,
        // While the thread ends there is none any more.
        (_, Some(f)) => f(None),
        (_, None) => unreachable!("it was called or is still here"),
    }
}

/// An error where another open loop runs than the one whose method is about to be awaited.
pub(crate) fn refuse_elsewhere(el: &EventLoop, method: &str) -> io::Result<()> {
    match current().filter(|core| el.core.is_open() && !Rc::ptr_eq(core, &el.core)) {
        None => Ok(()),
        Some(running) => {
            let (here, there) = (running.local.loop_id(), el.id());
            Err(invalid_input(format!("{method}: a future of loop {there} is awaited in loop {here}")))
        }
    }
}

/// Marks a loop as running for as long as it lives. Loops do not nest.
pub(crate) struct Running;

impl Running {
    pub(crate) fn enter(core: Rc<Core>) -> Self {
        set_running_loop(Some(&core.local));
        RUNNING.with(|running| *running.borrow_mut() = Some(core));
        Self
    }
}

impl Drop for Running {
    #[inline(always)]
    fn drop(&mut self) {
        set_running_loop(None);
        drop(RUNNING.with(|running| running.borrow_mut().take()));
    }
}

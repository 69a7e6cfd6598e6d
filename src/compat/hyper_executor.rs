//! The loop's tasks for hyper.

use std::future::Future;

use hyper::rt::Executor;

use crate::event_loop::running;
use crate::event_loop::tasks::TaskBuilder;
use crate::executor::no_loop;

/// The running loop as hyper's executor, of futures that need not be `Send`: for HTTP/2, whose streams are tasks each.
///
/// What it is given becomes a task of the loop that runs, as with [`spawn`](crate::spawn); nobody holds it, so a panic is
/// reported to the [exception handler](crate::EventLoop::set_exception_handler), and the loop and the other streams go on.
/// Tasks that are left when the loop ends are cancelled.
///
/// # Panics
///
/// If `execute` is called outside of a running loop. hyper calls it only while its connection is polled.
///
/// ```
/// use std::rc::Rc;
///
/// use hyper::rt::Executor;
/// use roundelay::compat::HyperExecutor;
///
/// roundelay::block_on(async {
///     let (sender, receiver) = futures::channel::oneshot::channel();
///     let local = Rc::new(42);
///     HyperExecutor.execute(async move { _ = sender.send(*local) });
///     assert_eq!(receiver.await, Ok(42));
/// });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HyperExecutor;

impl HyperExecutor {
    /// The executor.
    pub fn new() -> Self {
        Self
    }
}

impl<F> Executor<F> for HyperExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    #[track_caller]
    fn execute(&self, future: F) {
        match running::with_current(|core| core.map(|core| TaskBuilder::new(core).spawn(future))) {
            Some(task) => drop(task),
            None => no_loop("compat::HyperExecutor::execute"),
        }
    }
}

//! Eager tasks: those that begin where they are made.

use crate::constants::EAGER_DEPTH;
use crate::event_loop::source::FULL_BUDGET;
use crate::event_loop::{Core, EventLoop};
use crate::sched::ready::Item;
use crate::sched::running_loop_id;
use crate::sched::task::{self, Runnable};

impl EventLoop {
    /// Makes tasks begin where they are made, as asyncio's `eager_task_factory` does: the body runs inside of
    /// [`create_task`](Self::create_task) or [`spawn`](crate::spawn) up to where it first has to wait.
    ///
    /// A body that never has to wait is done when that returns, and no turn of the loop was needed for it: good where most
    /// tasks find what they need at hand. It changes the order of things, however: a task runs before what was scheduled
    /// earlier, and in the middle of the code that makes it, of which it may see half-done work. So it is not the default.
    /// [`TaskBuilder::eager`](crate::TaskBuilder::eager) says it for one task.
    ///
    /// The first step is a step as any other: in the task's own [`Context`](crate::Context), with the task as
    /// [`current_task`](Self::current_task), and its panics stay with the task. Only inside of a running loop can a task
    /// begin at once: what is made before the run, or while another loop runs, waits for its turn, and so does a task that
    /// would be the 65th to begin inside of another, so that recursion does not overflow the stack.
    ///
    /// ```
    /// use roundelay::{EventLoop, spawn, yield_now};
    ///
    /// let el = EventLoop::new()?;
    /// el.set_eager_tasks(true);
    /// el.run_until_complete(async {
    ///     let at_once = spawn(async { 1 });
    ///     let waits = spawn(async { yield_now().await });
    ///     assert!(at_once.is_done() && !waits.is_done());
    /// })
    /// .unwrap();
    /// # std::io::Result::Ok(())
    /// ```
    #[doc(alias("eager_task_factory", "create_eager_task_factory"))]
    pub fn set_eager_tasks(&self, eager: bool) {
        self.core.eager_tasks.set(eager);
    }

    /// Whether tasks begin where they are made; see [`set_eager_tasks`](Self::set_eager_tasks).
    pub fn eager_tasks(&self) -> bool {
        self.core.eager_tasks.get()
    }
}

impl Core {
    /// Starts a new task: in its turn, or at once.
    #[inline(always)]
    pub(super) fn start_task(&self, runnable: Runnable, eager: bool) {
        if eager {
            self.start_now(runnable);
        } else {
            self.local.push_with(|| Item::Task(runnable));
        }
    }

    #[cold]
    fn start_now(&self, runnable: Runnable) {
        let local = &*self.local;
        if running_loop_id() != local.loop_id() || local.interrupted.borrow().len() >= EAGER_DEPTH {
            return local.push(Item::Task(runnable));
        }
        // What it has for its I/O is its own.
        let budget = local.budget.replace(Some(FULL_BUDGET));
        if self.is_observed() {
            self.run_nested(runnable);
        } else {
            task::step_inside(local, runnable);
        }
        local.budget.set(budget);
    }
}

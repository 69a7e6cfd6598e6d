//! The end of the tasks that are left.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::panic::Location;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::constants::END_ROUNDS;
use crate::event_loop::EventLoop;
use crate::event_loop::unfinished::Unfinished;
use crate::runner::limit::EndLimit;
use crate::sched::active::{DoneCallback, TaskId};
use crate::sched::context::Slot;
use crate::sched::info::TaskInfo;
use crate::time::yield_now;

/// The tasks, without the one that runs this.
pub(super) fn tasks(el: &EventLoop) -> impl Iterator<Item = TaskInfo> {
    el.all_tasks().into_iter().filter(|task| !task.is_root)
}

/// Cancels all tasks but the one that runs this, and waits until their futures are dropped: those that look whether they
/// were asked to end are asked, and have until the limit. What they spawn meanwhile is theirs, and cancelled after them.
///
/// What is left at last, for another thread spawns on and on, ends when the loop is closed.
pub(super) async fn end_tasks(el: &EventLoop, limit: &EndLimit, left: &RefCell<Unfinished>) {
    for _ in 0..END_ROUNDS {
        let tasks: Vec<_> = tasks(el).collect();
        if tasks.is_empty() {
            return;
        }
        let over = limit.is_over();
        for task in &tasks {
            // How long that may take at most is for the limit to say.
            let _ = if over { task.cancel() } else { task.cancel_gracefully(Duration::MAX) };
        }
        yield_now().await;
        if over {
            return;
        }
        let cleaning = Cleaning::of(el, tasks);
        if !limit.before(|cx| cleaning.poll_done(cx)).await {
            let mut left = left.borrow_mut();
            cleaning.tasks(el).for_each(|task| left.add_task(task));
        }
    }
}

/// Those that were asked, and take their time.
struct Cleaning {
    ids: HashSet<TaskId>,
    count: Rc<Count>,
}

#[derive(Default)]
struct Count {
    left: Cell<usize>,
    waiter: Cell<Option<Waker>>,
}

impl Count {
    fn one_less(&self) {
        self.left.set(self.left.get() - 1);
        if self.left.get() == 0 {
            if let Some(waiter) = self.waiter.take() {
                waiter.wake();
            }
        }
    }
}

impl Cleaning {
    /// Those of the tasks that are still there.
    fn of(el: &EventLoop, tasks: Vec<TaskInfo>) -> Self {
        let (local, mut ids, count) = (&el.core.local, HashSet::new(), Rc::<Count>::default());
        let active = local.active.borrow();
        for task in tasks {
            let Some(entry) = active.get_live(task.canceller.task()) else { continue };
            ids.insert(task.id);
            count.left.set(count.left.get() + 1);
            let (id, counted) = (local.next_callback_id(), count.clone());
            let (name, call) = ("the end of a run", Box::new(move |_| counted.one_less()));
            entry.add_done_callback(DoneCallback {
                id,
                context: Slot::EMPTY,
                created_at: Location::caller(),
                name,
                call,
            });
        }
        drop(active);
        Self { ids, count }
    }

    fn poll_done(&self, cx: &Context<'_>) -> Poll<()> {
        if self.count.left.get() == 0 {
            return Poll::Ready(());
        }
        self.count.waiter.set(Some(cx.waker().clone()));
        Poll::Pending
    }

    /// Those of them that are still there.
    fn tasks(&self, el: &EventLoop) -> impl Iterator<Item = TaskInfo> {
        tasks(el).filter(|task| self.ids.contains(&task.id))
    }
}

//! What a group's scope, its handles and its children have in common.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use crate::error::{PanicPayload, give_up_payload};
use crate::event_loop::EventLoop;
use crate::group::child::Revoke;
use crate::group::error::ChildError;
use crate::sched::branch::Branch;
use crate::sched::context::Context as Variables;
use crate::sched::info::AwaitKind;
use crate::sched::join::Canceller;
use crate::sched::report::{Exception, Problem};
use crate::sched::{Local, task};

/// Why a group ends before all of it has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// A child or the body has failed, or the body has panicked.
    Failed,
    /// By `TaskGroup::cancel`.
    Cancelled,
    TimedOut,
}

/// Where a group is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// Everybody was cancelled; the scope waits for those who are left. Nobody may come any more.
    Ending(Why),
    /// The scope is done or was dropped.
    Over,
}

/// What a report says of a group whose scope cannot give its errors to anybody.
const DROPPED: &str = "whose scope was dropped";

struct Member {
    future: Rc<dyn Revoke>,
    /// `None` while the task is being made.
    task: Option<Canceller>,
}

pub(super) struct Group {
    el: EventLoop,
    state: Cell<State>,
    /// Those whose futures are there, in the order in which they came.
    children: RefCell<BTreeMap<u64, Member>>,
    next_key: Cell<u64>,
    /// How long those who are cancelled may take to end by themselves.
    grace: Duration,
    errors: RefCell<Vec<ChildError>>,
    /// Wakes the scope.
    waker: Cell<Option<Waker>>,
    /// Where the scope was made.
    created_at: &'static Location<'static>,
    branch: Branch,
}

impl Group {
    pub(super) fn new(el: EventLoop, grace: Duration, created_at: &'static Location<'static>) -> Rc<Self> {
        Rc::new(Self {
            branch: Branch::new(&el.core.local, AwaitKind::Group, created_at),
            el,
            state: Cell::new(State::Open),
            children: RefCell::default(),
            next_key: Cell::new(0),
            grace,
            errors: RefCell::default(),
            waker: Cell::new(None),
            created_at,
        })
    }

    pub(super) fn el(&self) -> &EventLoop {
        &self.el
    }

    pub(super) fn local(&self) -> &Local {
        &self.el.core.local
    }

    pub(super) fn state(&self) -> State {
        self.state.get()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.children.borrow().is_empty()
    }

    pub(super) fn child_count(&self) -> usize {
        self.children.borrow().len()
    }

    /// A place for one whose task is about to be made.
    pub(super) fn enter(&self, future: Rc<dyn Revoke>) -> u64 {
        let key = self.next_key.get();
        self.next_key.set(key + 1);
        self.children.borrow_mut().insert(key, Member { future, task: None });
        key
    }

    /// The task is made. It may have ended by itself meanwhile, and so may the group.
    pub(super) fn entered(&self, key: u64, task: Canceller) {
        let is_ending = self.state() != State::Open;
        self.local().join_branch(task.task(), &self.branch);
        if let Some(member) = self.children.borrow_mut().get_mut(&key) {
            member.task = Some(task.clone());
        }
        if is_ending {
            task.cancel_gracefully(self.grace);
        }
    }

    /// The future of a child is dropped.
    pub(super) fn leave(&self, key: u64) {
        let left = self.children.borrow_mut().remove(&key);
        drop(left);
        if self.is_empty() {
            self.wake_scope();
        }
    }

    /// Keeps an error, the first of which ends the group. One that comes when there is no scope any more is reported.
    pub(super) fn fail(self: &Rc<Self>, error: ChildError) {
        if self.state() == State::Over {
            return self.report(DROPPED, &error);
        }
        self.errors.borrow_mut().push(error);
        self.end_by_failure();
    }

    /// Ends the group, unless it does already. Those who are left are asked to end in the next turn: who fails in this one
    /// is heard, wherever in the queue he is.
    pub(super) fn end_by_failure(self: &Rc<Self>) {
        if !self.begin_end(Why::Failed) {
            return;
        }
        if self.el.core.is_open() {
            let group = self.clone();
            drop(self.el.call_soon_in(&Variables::new(), move || group.cancel_children()));
        } else {
            self.cancel_children();
        }
    }

    /// Asks all to end, unless the group does already.
    pub(super) fn end(&self, why: Why) {
        if self.begin_end(why) {
            self.cancel_children();
        }
    }

    fn begin_end(&self, why: Why) -> bool {
        let begins = self.state() == State::Open;
        if begins {
            self.state.set(State::Ending(why));
            self.wake_scope();
        }
        begins
    }

    fn cancel_children(&self) {
        for task in self.tasks() {
            task.cancel_gracefully(self.grace);
        }
    }

    fn tasks(&self) -> Vec<Canceller> {
        self.children.borrow().values().filter_map(|member| member.task.clone()).collect()
    }

    /// The scope is done: what went wrong.
    pub(super) fn finish(&self) -> Vec<ChildError> {
        self.state.set(State::Over);
        self.errors.take()
    }

    /// The scope goes: whoever is left goes with it, there and then. Only a child that is on the stack is left for a
    /// moment: until it gives way.
    pub(super) fn revoke(&self) {
        self.state.set(State::Over);
        for task in self.tasks() {
            task.cancel();
        }
        for member in self.children.take().into_values() {
            match &member.task {
                Some(task) => task::release(self.local(), task.task(), || member.future.revoke()),
                // It is on the stack.
                None => member.future.revoke(),
            }
        }
        for error in self.errors.take() {
            self.report(DROPPED, &error);
        }
    }

    /// Tells of an error that no scope will give to anybody.
    pub(super) fn report(&self, group: &str, error: &ChildError) {
        // It is the application's text, and may panic: where this is a destructor that would lose the others.
        let text = catch_unwind(AssertUnwindSafe(|| error.to_string())).unwrap_or_else(|payload| {
            give_up_payload(payload);
            error.name().to_owned()
        });
        self.local().report(Problem {
            message: format!("Exception in a task group {group}: {text}").into(),
            exception: Some(Exception::Error(error.error())),
            subject: None,
            created_at: Some(self.created_at),
        });
    }

    /// Tells of a child that nobody would wait for.
    pub(super) fn report_late(&self, spawned_at: &'static Location<'static>) {
        self.local().report(Problem {
            message: "TaskGroup::spawn(): the group's scope is over".into(),
            exception: None,
            subject: None,
            created_at: Some(spawned_at),
        });
    }

    /// Tells of a panic of the body's that does not unwind out of the scope.
    pub(super) fn caught(&self, message: &str, payload: PanicPayload) {
        self.local().caught(message, payload, None, Some(self.created_at));
    }

    /// Remembers the scope that waits.
    pub(super) fn wait(&self, cx: &Context<'_>) {
        drop(self.waker.replace(Some(cx.waker().clone())));
        self.branch.await_here(self.local());
    }

    fn wake_scope(&self) {
        if let Some(waker) = self.waker.take() {
            self.local().wake(waker);
        }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskGroup").field("state", &self.state()).field("children", &self.child_count()).finish()
    }
}

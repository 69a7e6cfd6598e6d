//! What has not ended in time with the loop, for one report about all of it.

use std::collections::HashSet;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::constants::{END_ROUNDS, NAMED_AT_END};
use crate::event_loop::EventLoop;
use crate::event_loop::exception::ExceptionContext;
use crate::sched::active::TaskId;
use crate::sched::info::TaskInfo;
use crate::sched::report::Subject;

/// What kind of thing it is. The report has them in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Task,
    Connection,
    Process,
    Job,
    Generator,
}

const KINDS: [(Kind, &str, &str); 5] = [
    (Kind::Task, "task", "tasks"),
    (Kind::Connection, "connection", "connections"),
    (Kind::Process, "child process", "child processes"),
    (Kind::Job, "blocking job", "blocking jobs"),
    (Kind::Generator, "async generator", "async generators"),
];

/// Why the end goes on without them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The time for it is over.
    Bound(Duration),
    /// Whenever they were ended there were new ones.
    EverNew,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bound(bound) => write!(f, "within {bound:?}"),
            Self::EverNew => write!(f, "in {END_ROUNDS} rounds"),
        }
    }
}

#[derive(Default)]
pub(crate) struct Unfinished {
    found: Vec<(Kind, Rc<dyn Subject>)>,
    tasks: HashSet<TaskId>,
}

impl Unfinished {
    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.found.len()
    }

    pub(crate) fn add(&mut self, kind: Kind, subject: impl Subject) {
        self.found.push((kind, Rc::new(subject)));
    }

    /// A task may be found twice: when it was to end, and when it still has not.
    pub(crate) fn add_task(&mut self, task: TaskInfo) {
        if self.tasks.insert(task.id) {
            self.add(Kind::Task, task);
        }
    }

    /// Tells the exception handler, if there is anything to tell.
    pub(crate) fn report(self, el: &EventLoop, why: Why) {
        if self.is_empty() {
            return;
        }
        let counts: Vec<String> = KINDS
            .into_iter()
            .filter_map(|(kind, one, many)| match self.of_kind(kind).count() {
                0 => None,
                1 => Some(format!("1 {one}")),
                count => Some(format!("{count} {many}")),
            })
            .collect();
        let counts = counts.join(", ");
        let context =
            ExceptionContext::new(format!("The loop is closed though not everything has ended {why}: {counts}"));
        el.call_exception_handler(&self.name_in(context));
    }

    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Rc<dyn Subject>> {
        self.found.iter().filter(move |(other, _)| *other == kind).map(|(_, subject)| subject)
    }

    /// Adds the first ones of each kind to a report.
    pub(crate) fn name_in<'a>(&self, mut context: ExceptionContext<'a>) -> ExceptionContext<'a> {
        let mut unnamed = self.found.len();
        for (kind, ..) in KINDS {
            for subject in self.of_kind(kind).take(NAMED_AT_END) {
                context = context.with_shared_subject(subject.clone());
                unnamed -= 1;
            }
        }
        if unnamed > 0 { context.with_extra("not named here", unnamed) } else { context }
    }
}

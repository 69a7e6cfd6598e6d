//! Outputs of tasks that nobody asks for, and errors among them, which are reported.

use std::error::Error;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;

use crate::sched::Local;
use crate::sched::info::TaskInfo;
use crate::sched::report::{Exception, Problem, Subject};
use crate::sched::task::{drop_output, subject};

/// What is said of the error of a task that is detached.
pub(crate) const MESSAGE: &str = "Error in a task that nobody awaits";

/// What is done with the output of a task that nobody asks for, where it is not merely dropped. The info is that of the
/// task.
pub(crate) type Unasked<T> = fn(&Local, Option<TaskInfo>, T);

/// An error that [`Task::report_errors`](crate::Task::report_errors) can report: of any type that is an
/// [`Error`], a text, or a boxed error.
///
/// `Way` is never named: it keeps two implementations apart that would otherwise overlap.
pub trait ReportableError<Way>: Sized {
    /// The error as any other.
    fn into_error(self) -> Box<dyn Error>;
}

/// As nearly all errors become others.
#[derive(Debug)]
pub struct Converted;

/// As those do that may cross threads and are in a box already.
#[derive(Debug)]
pub struct Coerced;

impl<E: Into<Box<dyn Error>>> ReportableError<Converted> for E {
    fn into_error(self) -> Box<dyn Error> {
        self.into()
    }
}

impl ReportableError<Coerced> for Box<dyn Error + Send + Sync> {
    fn into_error(self) -> Box<dyn Error> {
        self
    }
}

/// Reports the error of a task that nobody awaits; drops what else it has given.
pub(crate) fn report<T, E, Way>(local: &Local, info: Option<TaskInfo>, output: Result<T, E>)
where
    E: ReportableError<Way>,
{
    match output {
        Ok(output) => drop_output(local, output),
        Err(error) => {
            let (subject, spawned_at) = subject(info);
            report_error(local, MESSAGE, || error.into_error(), subject, spawned_at);
        }
    }
}

/// Reports an error that nobody asks for. What makes it is the application's, and may panic.
pub(crate) fn report_error(
    local: &Local,
    message: &str,
    error: impl FnOnce() -> Box<dyn Error>,
    subject: Option<Rc<dyn Subject>>,
    created_at: Option<&'static Location<'static>>,
) {
    match catch_unwind(AssertUnwindSafe(error)) {
        Ok(error) => {
            let exception = Some(Exception::Error(&*error));
            local.report(Problem { message: message.into(), exception, subject, created_at });
            local.dispose(error);
        }
        Err(payload) => local.caught(message, payload, subject, created_at),
    }
}

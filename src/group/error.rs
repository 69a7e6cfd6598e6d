//! What went wrong in a task group.

use std::error::Error;
use std::fmt;
use std::io;

use crate::error::JoinError;
use crate::group::state::Why;
use crate::sched::active::TaskId;

/// An error of any kind, as it is kept of a child.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// How one child of a [`TaskGroup`](crate::TaskGroup), or the body of its scope, has failed.
#[derive(Debug)]
pub struct ChildError {
    task_id: Option<TaskId>,
    name: String,
    failure: Failure,
}

#[derive(Debug)]
pub(super) enum Failure {
    Error(BoxError),
    /// The payload is inside.
    Panic(JoinError),
}

impl ChildError {
    pub(super) fn new(task_id: Option<TaskId>, name: String, failure: Failure) -> Self {
        Self { task_id, name, failure }
    }

    pub(super) fn of_body(error: BoxError) -> Self {
        Self::new(None, "body".into(), Failure::Error(error))
    }

    /// The name of the child's task; `body` for the body of the scope.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of the child's task; `None` for the body of the scope.
    pub fn task_id(&self) -> Option<TaskId> {
        self.task_id
    }

    /// Whether the child has panicked: then the [`error`](Self::error) is a [`JoinError`] that has the payload.
    pub fn is_panic(&self) -> bool {
        matches!(self.failure, Failure::Panic(_))
    }

    /// The error, to be looked at or downcast.
    pub fn error(&self) -> &(dyn Error + Send + Sync + 'static) {
        match &self.failure {
            Failure::Error(error) => &**error,
            Failure::Panic(error) => error,
        }
    }

    /// The error itself.
    pub fn into_error(self) -> Box<dyn Error + Send + Sync + 'static> {
        match self.failure {
            Failure::Error(error) => error,
            Failure::Panic(error) => error.into(),
        }
    }
}

impl fmt::Display for ChildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name(), self.error())
    }
}

impl Error for ChildError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.error())
    }
}

/// Why a [`TaskGroup`](crate::TaskGroup)'s scope gave no value: all errors of its children and of its body, in the order
/// in which they came; that its time was over; that it was cancelled.
///
/// ```
/// use roundelay::TaskGroup;
///
/// roundelay::block_on(async {
///     let error = TaskGroup::scope(async |group| {
///         group.task_builder().name("one").spawn(async { Err::<(), _>("no luck") });
///         group.task_builder().name("two").spawn(async { panic!("and then some") as () });
///     })
///     .await
///     .unwrap_err();
///     assert_eq!(error.to_string(), "task group failed: one: no luck; two: panicked: and then some");
///     assert_eq!(error.iter().map(|error| error.name()).collect::<Vec<_>>(), ["one", "two"]);
/// });
/// ```
#[derive(Debug)]
pub struct GroupError {
    why: Why,
    errors: Vec<ChildError>,
}

impl GroupError {
    pub(super) fn new(why: Why, errors: Vec<ChildError>) -> Self {
        Self { why, errors }
    }

    /// The errors in the order in which they came. There is none where the time was over, or the group was cancelled,
    /// and everybody ended in good order.
    pub fn iter(&self) -> std::slice::Iter<'_, ChildError> {
        self.errors.iter()
    }

    /// The same as values of their own.
    pub fn into_errors(self) -> Vec<ChildError> {
        self.errors
    }

    /// Whether the scope's [`timeout`](crate::Scope::timeout) or [`deadline`](crate::Scope::deadline) had passed, before
    /// anybody failed.
    pub fn is_timed_out(&self) -> bool {
        self.why == Why::TimedOut
    }

    /// Whether [`TaskGroup::cancel`](crate::TaskGroup::cancel) was called, before anybody failed.
    pub fn is_cancelled(&self) -> bool {
        self.why == Why::Cancelled
    }

    /// The first error of this type, also in groups that are children of this one.
    ///
    /// ```
    /// use std::io::{Error, ErrorKind};
    /// use roundelay::TaskGroup;
    ///
    /// roundelay::block_on(async {
    ///     let inner = async { Err::<(), _>(Error::from(ErrorKind::NotFound)) };
    ///     let outer = TaskGroup::scope(async |group| {
    ///         group.spawn(TaskGroup::scope(async |group| drop(group.spawn(inner))));
    ///     });
    ///     let error = outer.await.unwrap_err();
    ///     assert_eq!(error.find::<Error>().unwrap().kind(), ErrorKind::NotFound);
    /// });
    /// ```
    pub fn find<E: Error + 'static>(&self) -> Option<&E> {
        self.errors.iter().find_map(|child| {
            let error = child.error();
            error.downcast_ref::<E>().or_else(|| error.downcast_ref::<GroupError>()?.find())
        })
    }
}

impl fmt::Display for GroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.why {
            Why::Failed => "task group failed",
            Why::Cancelled => "task group was cancelled",
            Why::TimedOut => "task group timed out",
        })?;
        for (n, error) in self.errors.iter().enumerate() {
            let separator = if n == 0 { ": " } else { "; " };
            // The errors of a group in this one stand apart from those beside it.
            match error.error().downcast_ref::<GroupError>() {
                Some(inner) => write!(f, "{separator}{}: ({inner})", error.name())?,
                None => write!(f, "{separator}{error}")?,
            }
        }
        Ok(())
    }
}

impl Error for GroupError {
    /// The first error.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.errors.first().map(|child| child.error() as _)
    }
}

impl<'a> IntoIterator for &'a GroupError {
    type Item = &'a ChildError;
    type IntoIter = std::slice::Iter<'a, ChildError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<GroupError> for io::Error {
    /// Of the kind of the first error, if that is an `io::Error`; `TimedOut` or `Interrupted` where there is none.
    fn from(error: GroupError) -> Self {
        let first = error.errors.first().map(|child| child.error().downcast_ref::<io::Error>().map(io::Error::kind));
        let kind = match (first, error.why) {
            (Some(kind), _) => kind.unwrap_or(io::ErrorKind::Other),
            (None, Why::TimedOut) => io::ErrorKind::TimedOut,
            (None, _) => io::ErrorKind::Interrupted,
        };
        io::Error::new(kind, error)
    }
}

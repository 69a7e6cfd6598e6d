//! Why a job of a process pool has no result.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitStatus;

/// Why a [`ProcessJob`](crate::ProcessJob) has no result. The pool itself is as good as before, but for
/// [`Closed`](Self::Closed).
///
/// ```
/// use roundelay::{ProcessPoolError, ProcessPoolExecutor};
///
/// fn crash(status: i32) {
///     std::process::exit(status);
/// }
///
/// fn main() -> std::io::Result<()> {
///     ProcessPoolExecutor::functions().add("crash", crash).init();
///     let pool = ProcessPoolExecutor::new(1)?;
///     match roundelay::block_on(pool.run::<()>("crash", 3)) {
///         Err(ProcessPoolError::WorkerDied(Some(status))) => assert_eq!(status.code(), Some(3)),
///         other => panic!("{other:?}"),
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum ProcessPoolError {
    /// No function was registered by this name. Nothing was sent.
    UnknownFunction(String),
    /// The arguments cannot be serialised, or the function cannot read them: why, and of which function.
    Arguments(String),
    /// The result cannot be serialised, or is not of the type that was asked for: why, and of which function.
    Output(String),
    /// The function panicked, with this text. Its worker goes on.
    Panicked(String),
    /// The worker process ended before it had a result, in this way; `None` where the system does not tell, as it does not
    /// where the application waits for all children itself. Other jobs get another worker.
    WorkerDied(Option<ExitStatus>),
    /// No worker process can be started.
    Start(io::Error),
    /// The job was [cancelled](crate::ProcessJob::cancel) before it began.
    Cancelled,
    /// The pool was shut down before the job was done.
    Closed,
}

impl ProcessPoolError {
    /// Whether the job was cancelled.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }

    /// Whether the pool was shut down.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }

    /// How a worker has ended that ended too early.
    pub fn worker_status(&self) -> Option<ExitStatus> {
        match self {
            Self::WorkerDied(status) => *status,
            _ => None,
        }
    }
}

impl fmt::Display for ProcessPoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownFunction(name) => {
                write!(f, "no function is registered as {name:?}: it has to be added before ProcessFunctions::init()")
            }
            Self::Arguments(reason) => write!(f, "arguments of {reason}"),
            Self::Output(reason) => write!(f, "result of {reason}"),
            Self::Panicked(text) => write!(f, "the function panicked: {text}"),
            Self::WorkerDied(Some(status)) => write!(f, "the worker process ended too early: {status}"),
            Self::WorkerDied(None) => f.write_str("the worker process ended too early"),
            Self::Start(error) => write!(f, "cannot start a worker process: {error}"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Closed => f.write_str("the process pool was shut down"),
        }
    }
}

impl Error for ProcessPoolError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Start(error) => Some(error),
            _ => None,
        }
    }
}

impl From<ProcessPoolError> for io::Error {
    fn from(error: ProcessPoolError) -> Self {
        let kind = match &error {
            ProcessPoolError::UnknownFunction(_) | ProcessPoolError::Arguments(_) => io::ErrorKind::InvalidInput,
            ProcessPoolError::Output(_) => io::ErrorKind::InvalidData,
            ProcessPoolError::WorkerDied(_) => io::ErrorKind::BrokenPipe,
            ProcessPoolError::Start(error) => error.kind(),
            ProcessPoolError::Cancelled => io::ErrorKind::Interrupted,
            ProcessPoolError::Panicked(_) | ProcessPoolError::Closed => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

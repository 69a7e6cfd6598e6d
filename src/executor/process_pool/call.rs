//! One job of a process pool, and the future of its result.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use serde::de::DeserializeOwned;

use crate::error::{JoinError, give_up_payload, panic_text};
use crate::event_loop::job::{HasJob, IfRunning, Job, JobControl};
use crate::event_loop::lost::Lost;
use crate::event_loop::remote::Remote;
use crate::event_loop::{EventLoop, running};
use crate::executor::process_pool::error::ProcessPoolError;
use crate::executor::process_pool::wire::{self, Answer, Outcome, Request};
use crate::sched::report::emit;

type Output<R> = Result<R, ProcessPoolError>;

/// A job without the type of its result.
pub(super) trait Call: Send + Sync {
    /// The request, if it is still to be made.
    fn begin(&self) -> Option<Request>;

    /// Whether there is nothing more to do for it.
    fn is_done(&self) -> bool;

    fn finish(&self, answer: Result<Answer, ProcessPoolError>);

    /// It does not begin any more.
    fn close(&self);
}

struct TypedCall<R> {
    job: Job<Request, Output<R>>,
    /// The function's name, for messages.
    name: String,
    /// The loop in which the job was made: it hears of what nobody awaits.
    remote: Option<Remote>,
    created_at: &'static Location<'static>,
}

impl<R: Send> HasJob for TypedCall<R> {
    type Function = Request;
    type Output = Output<R>;

    fn job(&self) -> &Job<Request, Output<R>> {
        &self.job
    }

    fn into_job(self) -> Job<Request, Output<R>> {
        self.job
    }
}

impl<R: DeserializeOwned + Send> Call for TypedCall<R> {
    fn begin(&self) -> Option<Request> {
        self.job.begin()
    }

    fn is_done(&self) -> bool {
        self.job.is_done()
    }

    fn finish(&self, answer: Result<Answer, ProcessPoolError>) {
        let unwanted = self.job.finish(Ok(answer.and_then(|answer| self.read(answer))));
        self.drop_unwanted(unwanted);
    }

    fn close(&self) {
        self.job.close();
    }
}

impl<R: DeserializeOwned> TypedCall<R> {
    fn read(&self, answer: Answer) -> Output<R> {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Err(match answer.outcome {
            Outcome::Done => {
                // Deserialising runs code of the application's.
                let read = catch_unwind(|| wire::from_bytes(&answer.bytes)).unwrap_or_else(|payload| {
                    let error = format!("reading it panicked: {}", panic_text(&*payload));
                    give_up_payload(payload);
                    Err(error)
                });
                return read.map_err(|error| ProcessPoolError::Output(format!("{:?}: {error}", self.name)));
            }
            Outcome::BadArguments => ProcessPoolError::Arguments(text(&answer.bytes)),
            Outcome::BadOutput => ProcessPoolError::Output(text(&answer.bytes)),
            Outcome::Panicked => ProcessPoolError::Panicked(text(&answer.bytes)),
            Outcome::Unknown => ProcessPoolError::UnknownFunction(text(&answer.bytes)),
        })
    }
}

impl<R> TypedCall<R> {
    /// What nobody will ask for: the loop hears of an error, or the log.
    fn drop_unwanted(&self, result: Option<Result<Output<R>, JoinError>>) {
        let error = match result {
            Some(Ok(Err(error))) => error,
            other => {
                // A destructor that panics has told of it by the panic hook.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(other)));
                return;
            }
        };
        if error.is_cancelled() || error.is_closed() {
            return;
        }
        let message = "Exception in a process pool's job that nobody awaits";
        let text = format!("{:?}: {error}", self.name);
        match &self.remote {
            Some(remote) => remote.report_lost(Lost::panic(message, Box::new(text), None, self.created_at)),
            None => emit(tracing::Level::ERROR, &format!("{message}: {text}\n  created at {}", self.created_at)),
        }
    }
}

/// What a [`ProcessJob`] can do with its job.
trait CallControl<R>: JobControl<Output<R>> {
    /// Nobody will ask for the result.
    fn forget(&self);
}

impl<R: Send> CallControl<R> for TypedCall<R> {
    fn forget(&self) {
        self.drop_unwanted(self.job.detach());
    }
}

/// A job of a [`ProcessPoolExecutor`](crate::ProcessPoolExecutor): a future of `Result<R, ProcessPoolError>`, which may be
/// awaited in any loop, or in none.
///
/// Dropping it lets the job go on by itself; an error that nobody asks for then goes to the exception handler of the loop
/// in which the job was made, or to the log. [`cancel`](Self::cancel) takes a job back that has not begun; what has begun
/// cannot be stopped.
///
/// ```
/// use roundelay::{ProcessJob, ProcessPoolExecutor};
///
/// fn main() -> std::io::Result<()> {
///     ProcessPoolExecutor::functions().add("square", |n: u64| n * n).init();
///     let pool = ProcessPoolExecutor::new(1)?;
///     let jobs: Vec<ProcessJob<u64>> = (0..3).map(|n| pool.run("square", n)).collect();
///     // It may have begun already.
///     let cancelled = jobs[2].cancel();
///     roundelay::block_on(async {
///         for (n, job) in (0..).zip(jobs) {
///             match job.await {
///                 Ok(square) => assert_eq!(square, n * n),
///                 Err(error) => assert!(cancelled && error.is_cancelled()),
///             }
///         }
///         pool.shutdown(None).await;
///     });
///     Ok(())
/// }
/// ```
#[must_use = "a job whose future is dropped runs all the same, but what became of it is not known"]
pub struct ProcessJob<R> {
    control: Arc<dyn CallControl<R>>,
    output: PhantomData<fn() -> R>,
}

/// A job in both its forms.
pub(super) fn pair<R: DeserializeOwned + Send + 'static>(
    request: Request,
    created_at: &'static Location<'static>,
) -> (Arc<dyn Call>, ProcessJob<R>) {
    let remote = running::current().map(EventLoop::handle).map(|el| el.remote());
    let call = Arc::new(TypedCall { name: request.name.clone(), job: Job::new(request), remote, created_at });
    (call.clone(), ProcessJob { control: call, output: PhantomData })
}

impl<R> ProcessJob<R> {
    /// Takes the job back: true if it had not begun, and then it never will.
    pub fn cancel(&self) -> bool {
        self.control.cancel(IfRunning::LetGo)
    }

    /// Whether it was cancelled before it began.
    pub fn is_cancelled(&self) -> bool {
        self.control.is_cancelled()
    }

    /// Whether the job is done, has failed, was cancelled, or will never begin because its pool has ended.
    pub fn is_done(&self) -> bool {
        self.control.is_done()
    }
}

impl<R> Future for ProcessJob<R> {
    type Output = Result<R, ProcessPoolError>;

    /// # Panics
    ///
    /// If it is polled again after it gave the result.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.control.poll(cx).map(|result| match result {
            Ok(output) => output,
            Err(error) if error.is_cancelled() => Err(ProcessPoolError::Cancelled),
            Err(_) => Err(ProcessPoolError::Closed),
        })
    }
}

impl<R> Drop for ProcessJob<R> {
    fn drop(&mut self) {
        self.control.forget();
    }
}

impl<R> fmt::Debug for ProcessJob<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessJob").field("done", &self.is_done()).field("cancelled", &self.is_cancelled()).finish()
    }
}

//! A job of an executor, and the future of its result.

use std::any::type_name;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::error::{JoinError, give_up_payload};
use crate::event_loop::EventLoop;
use crate::event_loop::inspection::waits_for;
use crate::event_loop::job::{HasJob, IfRunning, Job, JobControl, lock, try_lock};
use crate::event_loop::lost::Lost;
use crate::event_loop::remote::Remote;
#[cfg(feature = "test-util")]
use crate::event_loop::virtual_time::Busy;
use crate::executor::job_info::JobInfo;
use crate::executor::{Runs, Work};
use crate::sched::handle::HandleInfo;
use crate::sched::info::WaitsFor;
use crate::sched::unasked::ReportableError;

/// What becomes of a job whose [`Blocking`] is dropped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum IfForgotten {
    /// It runs all the same, and is waited for when the executor ends.
    Runs,
    /// It does not begin, and if it has begun nobody waits for it.
    IsGivenUp,
}

/// Whether a job's end is still to be waited for.
enum End {
    /// Yes, and these wait.
    Awaited {
        wakers: Vec<Waker>,
        begun_at: Option<Instant>,
        /// The time of a loop under test stands still meanwhile.
        #[cfg(feature = "test-util")]
        _busy: Option<Busy>,
    },
    /// It has ended, never begins, or was given up.
    Over,
}

struct BlockingJob<F, T> {
    job: Job<F, T>,
    /// Later than the job's own end, which its result is told with: what is reported of it is reported by then.
    end: Mutex<End>,
    if_forgotten: IfForgotten,
    /// Where the panic of a forgotten job is reported.
    remote: Remote,
    created_at: &'static Location<'static>,
    /// What is done with an output that nobody will ask for, where it is not merely dropped.
    unasked: Mutex<Option<Unasked<T>>>,
}

/// What is done with the output of a forgotten job, of which the info is.
type Unasked<T> = fn(&Remote, HandleInfo, T);

/// The job of a function, in both its forms.
pub(super) fn pair<F, T>(
    function: F,
    if_forgotten: IfForgotten,
    el: &EventLoop,
    created_at: &'static Location<'static>,
) -> (Work, Blocking<T>)
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let end = Mutex::new(End::Awaited {
        wakers: Vec::new(),
        begun_at: None,
        #[cfg(feature = "test-util")]
        _busy: el.core.busy(|| format!("a blocking job, {}, submitted at {created_at}", type_name::<F>())),
    });
    let (job, remote) = (Job::new(function), el.remote());
    let job = Arc::new(BlockingJob { job, end, if_forgotten, remote, created_at, unasked: Mutex::new(None) });
    (Work { work: job.clone() }, Blocking { control: job })
}

impl<F: Send, T: Send> HasJob for BlockingJob<F, T> {
    type Function = F;
    type Output = T;

    fn job(&self) -> &Job<F, T> {
        &self.job
    }

    fn into_job(self) -> Job<F, T> {
        self.job
    }
}

impl<F, T> Runs for BlockingJob<F, T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    fn run(&self) {
        let Some(function) = self.job.begin() else { return };
        if let End::Awaited { begun_at, .. } = &mut *lock(&self.end) {
            *begun_at = Some(Instant::now());
        }
        let _over = OverOnDrop(&self.end);
        let result = catch_unwind(AssertUnwindSafe(function)).map_err(JoinError::panic);
        if let Some(unwanted) = self.job.finish(result) {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.end_unwanted(unwanted))) {
                self.report(JoinError::panic(payload));
            }
        }
    }

    fn close(&self) {
        match catch_unwind(AssertUnwindSafe(|| self.job.close())) {
            Ok(true) => end(&self.end),
            Ok(false) => {}
            Err(payload) => {
                self.report(JoinError::panic(payload));
                end(&self.end);
            }
        }
    }

    fn after_fork_child(&self) -> bool {
        let are_free = self.job.after_fork_child() && try_lock(&self.end).is_some();
        if are_free {
            end(&self.end);
        }
        are_free
    }

    fn is_over(&self) -> bool {
        matches!(*lock(&self.end), End::Over)
    }

    fn poll_over(&self, cx: &mut Context<'_>) -> Poll<()> {
        // With nothing locked: a waker may be the application's.
        let waker = cx.waker().clone();
        match &mut *lock(&self.end) {
            End::Over => return Poll::Ready(()),
            End::Awaited { wakers, .. } if wakers.iter().any(|other| other.will_wake(&waker)) => {}
            End::Awaited { wakers, .. } => wakers.push(waker),
        }
        Poll::Pending
    }

    fn info(&self) -> JobInfo {
        let running_for = match *lock(&self.end) {
            End::Awaited { begun_at, .. } => begun_at.map(|begun_at| begun_at.elapsed()),
            End::Over => None,
        };
        JobInfo { name: type_name::<F>(), submitted_at: self.created_at, running_for }
    }
}

/// Tells whoever waits that a job is over.
fn end(end: &Mutex<End>) {
    let before = std::mem::replace(&mut *lock(end), End::Over);
    if let End::Awaited { wakers, .. } = before {
        wakers.into_iter().for_each(wake_quietly);
    }
}

/// Wakes one of several. If its waker panics the panic hook has told of it, and the others are woken all the same.
pub(super) fn wake_quietly(waker: Waker) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
        give_up_payload(payload);
    }
}

/// A waker that panics unwinds through a job's end, too.
struct OverOnDrop<'a>(&'a Mutex<End>);

impl Drop for OverOnDrop<'_> {
    fn drop(&mut self) {
        end(self.0);
    }
}

/// What a [`Blocking`] can do with its job.
trait BlockingControl<T>: JobControl<T> {
    /// True if it had not begun.
    fn take_back(&self) -> bool;

    /// The name of the function's type.
    fn name(&self) -> &'static str;

    /// Nobody will ask for the result. A panic that is there already is not lost: the loop hears of it.
    fn forget(&self);

    /// Says what is to be done with the output when nobody will ask for it.
    fn set_unasked(&self, unasked: Unasked<T>);
}

impl<F: Send, T: Send> BlockingControl<T> for BlockingJob<F, T> {
    fn take_back(&self) -> bool {
        let taken_back = self.job.cancel(IfRunning::LetGo);
        if taken_back {
            end(&self.end);
        }
        taken_back
    }

    fn name(&self) -> &'static str {
        type_name::<F>()
    }

    fn forget(&self) {
        if self.remote.is_inherited() {
            // A thread that this process does not have may be looking at the job for ever.
            return;
        }
        let given_up = self.if_forgotten == IfForgotten::IsGivenUp;
        if given_up {
            self.job.cancel(IfRunning::LetGo);
        }
        if let Some(unwanted) = self.job.detach() {
            self.end_unwanted(unwanted);
        }
        if given_up {
            end(&self.end);
        }
    }

    fn set_unasked(&self, unasked: Unasked<T>) {
        *lock(&self.unasked) = Some(unasked);
    }
}

impl<F, T> BlockingJob<F, T> {
    /// Ends a result that nobody awaits.
    fn end_unwanted(&self, result: Result<T, JoinError>) {
        match result {
            Ok(output) => {
                let unasked = *lock(&self.unasked);
                match unasked {
                    Some(unasked) => unasked(&self.remote, self.handle_info(), output),
                    None => drop(output),
                }
            }
            Err(error) => self.report(error),
        }
    }

    /// Tells the loop of a panic that nobody awaits.
    fn report(&self, error: JoinError) {
        let Ok(payload) = error.try_into_panic() else { return };
        let message = "Exception in a blocking job that nobody awaits";
        self.remote.report_lost(Lost::panic(message, payload, Some(self.handle_info()), self.created_at));
    }

    fn handle_info(&self) -> HandleInfo {
        HandleInfo { name: type_name::<F>(), created_at: self.created_at, when: None, is_cancelled: false }
    }
}

/// Tells the loop of an error that nobody awaits.
fn report_error<T, E, Way: 'static>(remote: &Remote, info: HandleInfo, output: Result<T, E>)
where
    E: ReportableError<Way> + Send + 'static,
{
    if let Err(error) = output {
        let (message, created_at) = ("Error in a blocking job that nobody awaits", info.created_at);
        remote.report_lost(Lost::error(message, || error.into_error(), Some(info), created_at));
    }
}

/// Work on an executor's thread: a future of `Result<T, JoinError>`.
///
/// Dropping it lets the work go on by itself. [`cancel`](Self::cancel) takes work back that has not begun; what has
/// begun cannot be stopped.
///
/// ```
/// use roundelay::{EventLoop, ThreadPoolExecutor};
///
/// let (el, pool) = (EventLoop::new()?, ThreadPoolExecutor::new(1));
/// let first = el.run_in_executor(Some(&pool), || 1);
/// let second = el.run_in_executor(Some(&pool), || 2);
/// let cancelled = second.cancel();
/// assert_eq!(el.run_until_complete(first).unwrap().unwrap(), 1);
/// // Unless it has begun already, it never will.
/// assert_eq!(el.run_until_complete(second).unwrap().is_err(), cancelled);
/// # std::io::Result::Ok(())
/// ```
pub struct Blocking<T> {
    control: Arc<dyn BlockingControl<T>>,
}

impl<T> Blocking<T> {
    /// Takes the work back: true if it had not begun, and then it never will.
    pub fn cancel(&self) -> bool {
        self.control.take_back()
    }

    /// Whether it was cancelled before it began.
    #[doc(alias = "cancelled")]
    pub fn is_cancelled(&self) -> bool {
        self.control.is_cancelled()
    }

    /// Whether the work is done, was cancelled, or will never begin because its executor has ended.
    pub fn is_done(&self) -> bool {
        self.control.is_done()
    }
}

impl<T, E: Send + 'static> Blocking<Result<T, E>> {
    /// Lets the work go on by itself, as dropping this does, and has its error reported to the loop's exception handler,
    /// too, when it comes; see [`Task::report_errors`](crate::Task::report_errors).
    ///
    /// ```
    /// roundelay::block_on(async {
    ///     roundelay::get_running_loop().unwrap().set_exception_handler(Some(std::rc::Rc::new(|_, context| {
    ///         assert!(context.to_string().contains("No such file"));
    ///     })));
    ///     roundelay::spawn_blocking(|| std::fs::remove_file("/there/is/no/such/file")).report_errors();
    /// });
    /// ```
    pub fn report_errors<Way: 'static>(self)
    where
        E: ReportableError<Way>,
    {
        // Dropping it does the rest.
        self.control.set_unasked(report_error::<T, E, Way>);
    }
}

impl<T> Future for Blocking<T> {
    type Output = Result<T, JoinError>;

    /// # Panics
    ///
    /// If it is polled again after it gave the result.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.control.poll(cx);
        if polled.is_pending() {
            waits_for(|| WaitsFor::Job(self.control.name()));
        }
        polled
    }
}

impl<T> Drop for Blocking<T> {
    fn drop(&mut self) {
        self.control.forget();
    }
}

impl<T> fmt::Debug for Blocking<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocking").field("done", &self.is_done()).field("cancelled", &self.is_cancelled()).finish()
    }
}

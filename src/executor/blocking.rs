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
use crate::event_loop::job::{HasJob, IfRunning, Job, JobControl, lock, try_lock};
use crate::event_loop::remote::{LostPanic, Remote};
use crate::executor::job_info::JobInfo;
use crate::executor::{Runs, Work};
use crate::sched::handle::HandleInfo;

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
    Awaited { wakers: Vec<Waker>, begun_at: Option<Instant> },
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
}

/// The job of a function, in both its forms.
pub(super) fn pair<F, T>(
    function: F,
    if_forgotten: IfForgotten,
    remote: Remote,
    created_at: &'static Location<'static>,
) -> (Work, Blocking<T>)
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (job, end) = (Job::new(function), Mutex::new(End::Awaited { wakers: Vec::new(), begun_at: None }));
    let job = Arc::new(BlockingJob { job, end, if_forgotten, remote, created_at });
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
        match self.job.finish(result) {
            Some(Err(error)) if error.is_panic() => self.report(error),
            unwanted => {
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(unwanted))) {
                    self.report(JoinError::panic(payload));
                }
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

    /// Nobody will ask for the result. A panic that is there already is not lost: the loop hears of it.
    fn forget(&self);
}

impl<F: Send, T: Send> BlockingControl<T> for BlockingJob<F, T> {
    fn take_back(&self) -> bool {
        let taken_back = self.job.cancel(IfRunning::LetGo);
        if taken_back {
            end(&self.end);
        }
        taken_back
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
        if let Some(Err(error)) = self.job.detach() {
            self.report(error);
        }
        if given_up {
            end(&self.end);
        }
    }
}

impl<F, T> BlockingJob<F, T> {
    /// Tells the loop of a panic that nobody awaits.
    fn report(&self, error: JoinError) {
        let Ok(payload) = error.try_into_panic() else { return };
        let (name, created_at) = (type_name::<F>(), self.created_at);
        let info = HandleInfo { name, created_at, when: None, is_cancelled: false };
        let message = "Exception in a blocking job that nobody awaits";
        self.remote.report_lost(LostPanic::new(message, payload, Some(info), created_at));
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
    pub fn is_cancelled(&self) -> bool {
        self.control.is_cancelled()
    }

    /// Whether the work is done, was cancelled, or will never begin because its executor has ended.
    pub fn is_done(&self) -> bool {
        self.control.is_done()
    }
}

impl<T> Future for Blocking<T> {
    type Output = Result<T, JoinError>;

    /// # Panics
    ///
    /// If it is polled again after it gave the result.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.control.poll(cx)
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

//! Work that would block: executors, and the loop's default one.

pub(crate) mod blocking;
pub(crate) mod default;
pub(crate) mod job_info;
#[cfg(feature = "process-pool")]
pub(crate) mod process_pool;
pub(crate) mod thread_pool;

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::Location;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use crate::event_loop::{EventLoop, running};
use crate::executor::blocking::Blocking;
use crate::executor::job_info::JobInfo;

/// One piece of work for an [`Executor`].
///
/// Dropping it without running it tells whoever awaits it that the executor has ended.
pub struct Work {
    work: Arc<dyn Runs>,
}

impl Work {
    /// Does the work, on this thread. Does not panic: a panic of the work goes to whoever awaits it.
    pub fn run(self) {
        self.work.run();
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // Changes nothing where the work has begun.
        self.work.close();
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Work")
    }
}

/// Runs blocking work, elsewhere than on the loop's thread.
///
/// What it is shared by is an executor, too: a reference, a `Box`, an `Rc`, an `Arc`. Nothing more is asked of it than to
/// take work: who waits for the end of what a loop has given away is that loop
/// ([`shutdown_default_executor`](EventLoop::shutdown_default_executor)).
///
/// ```
/// use std::io;
/// use std::rc::Rc;
///
/// use roundelay::{EventLoop, Executor, Work};
///
/// /// A thread for each job.
/// struct Threads;
///
/// impl Executor for Threads {
///     fn submit(&self, work: Work) -> io::Result<()> {
///         std::thread::Builder::new().spawn(move || work.run())?;
///         Ok(())
///     }
/// }
///
/// let el = EventLoop::new()?;
/// el.set_default_executor(Some(Rc::new(Threads)));
/// let sum = el.run_in_executor(None, || (1..=10).sum::<i32>());
/// assert_eq!(el.run_until_complete(sum).unwrap().unwrap(), 55);
/// # io::Result::Ok(())
/// ```
pub trait Executor {
    /// Takes a piece of work, to be [run](Work::run) soon, on a thread that may be blocked.
    ///
    /// # Errors
    ///
    /// If the executor has ended, or no thread can be made. The work is dropped.
    fn submit(&self, work: Work) -> io::Result<()>;
}

macro_rules! shared_executor {
    ($($shared:ty),*) => {
        $(impl<E: Executor + ?Sized> Executor for $shared {
            fn submit(&self, work: Work) -> io::Result<()> {
                (**self).submit(work)
            }
        })*
    };
}

shared_executor!(&E, Box<E>, Rc<E>, Arc<E>);

/// A job without its types.
trait Runs: Send + Sync {
    fn run(&self);

    /// It does not begin any more.
    fn close(&self);

    /// In a child of `fork`: its end does not come, for the thread that would see to it is not there. False if that one was
    /// just looking at it, and so will for ever.
    fn after_fork_child(&self) -> bool;

    /// Whether it has ended, or nobody waits for its end any more.
    fn is_over(&self) -> bool;

    /// The same, and whoever asks is woken.
    fn poll_over(&self, cx: &mut Context<'_>) -> Poll<()>;

    fn info(&self) -> JobInfo;
}

/// Waits until jobs are over, or the limit is. What is queued then never begins, what runs is let go; which these are.
async fn wait_for(jobs: Vec<Weak<dyn Runs>>, limit: Option<impl Future<Output = ()>>) -> Vec<JobInfo> {
    let (mut limit, mut over) = (pin!(limit), 0);
    poll_fn(|cx| {
        // One after the other: all of them have to end.
        while let Some(job) = jobs.get(over) {
            if job.upgrade().is_some_and(|job| job.poll_over(cx).is_pending()) {
                let limit = limit.as_mut().as_pin_mut();
                return limit.map_or(Poll::Pending, |limit| limit.poll(cx));
            }
            over += 1;
        }
        Poll::Ready(())
    })
    .await;
    let left: Vec<_> = jobs[over..].iter().filter_map(Weak::upgrade).filter(|job| !job.is_over()).collect();
    let infos = left.iter().map(|job| job.info()).collect();
    left.iter().for_each(|job| job.close());
    infos
}

/// Runs a function that may block on a thread of the running loop's default executor.
///
/// The result is a named future that may be dropped and forgotten: the function runs all the same.
///
/// It is asyncio's `to_thread`, but for the context: the values of a [`ContextVar`](crate::ContextVar) need not be `Send`,
/// so none of them is there on the other thread. What the function needs of them it takes along.
///
/// # Panics
///
/// Outside of a running loop.
///
/// ```
/// roundelay::block_on(async {
///     let text = roundelay::spawn_blocking(|| std::fs::read_to_string("Cargo.toml")).await.unwrap();
///     assert!(text.unwrap().contains("roundelay"));
/// });
/// ```
#[doc(alias = "to_thread")]
#[track_caller]
pub fn spawn_blocking<F, T>(function: F) -> Blocking<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    required_loop("spawn_blocking").run_in_executor(None, function)
}

/// The running loop of a future that a free function has made: the one in which it was made, else the one in which it is
/// awaited.
#[derive(Debug)]
pub(crate) struct LaterLoop {
    made_in: Option<EventLoop>,
    function: &'static str,
    called_at: &'static Location<'static>,
}

impl LaterLoop {
    #[track_caller]
    pub(crate) fn new(function: &'static str) -> Self {
        Self { made_in: running::current().map(EventLoop::handle), function, called_at: Location::caller() }
    }

    /// The loop, at the first poll.
    ///
    /// # Panics
    ///
    /// If no loop runs, and none did when the function was called.
    pub(crate) fn get(self) -> EventLoop {
        let Self { made_in, function, called_at } = self;
        match made_in.or_else(|| running::current().map(EventLoop::handle)) {
            Some(el) => el,
            None => panic!("roundelay::{function}() of {called_at} was awaited outside of a running event loop"),
        }
    }
}

/// The running loop, for a free function that cannot do without.
#[track_caller]
pub(crate) fn required_loop(function: &str) -> EventLoop {
    match running::current() {
        Some(core) => EventLoop::handle(core),
        None => no_loop(function),
    }
}

#[cold]
#[track_caller]
pub(crate) fn no_loop(function: &str) -> ! {
    panic!("roundelay::{function}() was called outside of a running event loop")
}

//! Blocking work on other threads: the default executor, pools, executors of one's own (behaviours EX).

mod common;
#[path = "common/threads.rs"]
mod threads;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io;
use std::panic::panic_any;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use common::{
    CountingWaker, PATIENCE, complete, on_loop, on_manual_clock, run_until, settle, take_reports, watch_reports,
};
use roundelay::{Blocking, EventLoop, Executor, JoinError, Runner, ThreadPoolExecutor, Work, spawn_blocking};
use threads::{Drops, panic_text, wait_until};

/// A job that runs until it is told to end, and then gives its number.
struct Blocked {
    job: Blocking<usize>,
    begun: mpsc::Receiver<()>,
    end: mpsc::Sender<()>,
}

impl Blocked {
    fn on(el: &EventLoop, executor: Option<&dyn Executor>, number: usize) -> Self {
        let (begin, begun) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let job = el.run_in_executor(executor, move || {
            begin.send(()).unwrap();
            // Its sender may be dropped as well.
            let _ = ended.recv_timeout(PATIENCE);
            number
        });
        Self { job, begun, end }
    }

    /// A job that runs already.
    fn running(el: &EventLoop, executor: Option<&dyn Executor>, number: usize) -> Self {
        let blocked = Self::on(el, executor, number);
        blocked.begun.recv_timeout(PATIENCE).unwrap();
        blocked
    }

    fn has_begun(&self) -> bool {
        self.begun.try_recv().is_ok()
    }
}

/// Waits until all threads of the pool have nothing to do.
fn wait_until_idle(pool: &ThreadPoolExecutor) {
    wait_until(|| format!("{pool:?}").contains("queued: 0, running: 0"));
}

on_every_loop! {
    /// EX-01: the work is done on another thread, and its result wakes the loop.
    fn the_result_comes_back(el) {
        let home = thread::current().id();
        let place = complete(el, el.run_in_executor(None, || thread::current().id())).unwrap();
        assert_ne!(place, home);
    }
}

/// EX-01: a panic of the job goes to whoever awaits it, with its payload, and nowhere else.
#[test]
fn a_panic_goes_to_whoever_awaits() {
    on_loop(|el| {
        let result: Result<(), JoinError> = complete(el, el.run_in_executor(None, || panic_any(5_u8)));
        assert_eq!(*result.unwrap_err().into_panic().downcast::<u8>().unwrap(), 5);
        assert_eq!(complete(el, el.run_in_executor(None, || "still working")).unwrap(), "still working");
    });
}

/// EX-01: `spawn_blocking` is the same on the running loop, and panics where there is none.
#[test]
fn spawn_blocking_uses_the_running_loop() {
    on_loop(|el| {
        assert_eq!(complete(el, async { spawn_blocking(|| 6 * 7).await }).unwrap(), 42);
        let text = panic_text(|| drop(spawn_blocking(|| ())));
        assert!(text.contains("spawn_blocking()") && text.contains("outside of a running event loop"), "{text}");
    });
}

/// EX-02, P33: the default executor has `min(32, processors + 4)` threads with names of their own, and no more.
#[test]
fn the_default_executor_has_a_limit() {
    on_loop(|el| {
        let limit = 32.min(thread::available_parallelism().unwrap().get() + 4);
        let names = Arc::new(Mutex::new(HashSet::new()));
        let (begin, begun) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let ended = Arc::new(Mutex::new(ended));
        let jobs: Vec<Blocking<()>> = (0..limit)
            .map(|_| {
                let (names, begin, ended) = (names.clone(), begin.clone(), ended.clone());
                el.run_in_executor(None, move || {
                    names.lock().unwrap().insert(thread::current().name().unwrap().to_owned());
                    begin.send(()).unwrap();
                    let _ = ended.lock().unwrap().recv_timeout(PATIENCE);
                })
            })
            .collect();
        for _ in 0..limit {
            begun.recv_timeout(PATIENCE).unwrap();
        }
        let expected: HashSet<String> = (0..limit).map(|i| format!("roundelay_{i}")).collect();
        assert_eq!(*names.lock().unwrap(), expected);
        // All threads are busy: the next one has not begun, and can be taken back.
        let one_more = Blocked::on(el, None, 1);
        assert!(one_more.job.cancel());
        drop(end);
        for job in jobs {
            complete(el, job).unwrap();
        }
        assert!(!one_more.has_begun());
    });
}

/// EX-02: threads are made when they are needed, up to the limit, and an idle one is used again.
#[test]
fn threads_are_made_on_demand() {
    on_loop(|el| {
        let pool = ThreadPoolExecutor::new(2);
        assert_eq!(pool.threads(), 0);
        for _ in 0..5 {
            complete(el, el.run_in_executor(Some(&pool), || ())).unwrap();
            wait_until_idle(&pool);
            assert_eq!(pool.threads(), 1);
        }
        let a = Blocked::running(el, Some(&pool), 1);
        assert_eq!(pool.threads(), 1);
        let b = Blocked::running(el, Some(&pool), 2);
        assert_eq!(pool.threads(), 2);
        let c = Blocked::on(el, Some(&pool), 3);
        assert_eq!(pool.threads(), 2);
        assert!(!c.has_begun());
        b.end.send(()).unwrap();
        assert_eq!(complete(el, b.job).unwrap(), 2);
        c.begun.recv_timeout(PATIENCE).unwrap();
        for (blocked, number) in [(a, 1), (c, 3)] {
            blocked.end.send(()).unwrap();
            assert_eq!(complete(el, blocked.job).unwrap(), number);
        }
        assert_eq!(pool.threads(), 2);
    });
}

/// EX-02: an idle thread that has been told of work counts no more: the next job gets a thread of its own.
#[test]
fn an_idle_thread_is_counted_once() {
    on_loop(|el| {
        for _ in 0..20 {
            let pool = ThreadPoolExecutor::new(2);
            complete(el, el.run_in_executor(Some(&pool), || ())).unwrap();
            wait_until_idle(&pool);
            // The two meet, which takes two threads.
            let meeting = Arc::new(Barrier::new(2));
            let jobs = [meeting.clone(), meeting].map(|meeting| {
                el.run_in_executor(Some(&pool), move || {
                    meeting.wait();
                })
            });
            for job in jobs {
                complete(el, job).unwrap();
            }
            assert_eq!(pool.threads(), 2);
        }
    });
}

/// EX-02: a pool of no threads is refused, at the caller's line.
#[test]
fn a_pool_needs_a_thread() {
    let text = panic_text(|| drop(ThreadPoolExecutor::new(0)));
    assert!(text.contains("ThreadPoolExecutor::new()"), "{text}");
}

/// A pool of one thread keeps the order of submission.
#[test]
fn one_thread_keeps_the_order() {
    on_loop(|el| {
        let (pool, order) = (ThreadPoolExecutor::new(1), Arc::new(Mutex::new(Vec::new())));
        let jobs: Vec<_> = (0..50)
            .map(|i| {
                let order = order.clone();
                el.run_in_executor(Some(&pool), move || order.lock().unwrap().push(i))
            })
            .collect();
        for job in jobs {
            complete(el, job).unwrap();
        }
        assert_eq!(*order.lock().unwrap(), (0..50).collect::<Vec<_>>());
        assert_eq!(pool.threads(), 1);
    });
}

/// EX-01: of a thousand jobs each gets its own result.
#[test]
fn a_thousand_jobs() {
    on_loop(|el| {
        let jobs: Vec<_> = (0..1000_usize).map(|i| el.run_in_executor(None, move || i)).collect();
        let sum = complete(el, async {
            let mut sum = 0;
            for job in jobs {
                sum += job.await.unwrap();
            }
            sum
        });
        assert_eq!(sum, 999 * 1000 / 2);
    });
}

/// EX-04, FU-20, EX-11: work that has not begun can be taken back though all threads are busy; it is dropped at once.
#[test]
fn queued_work_can_be_taken_back() {
    on_loop(|el| {
        let (pool, drops) = (ThreadPoolExecutor::new(1), Drops::default());
        let first = Blocked::running(el, Some(&pool), 1);
        let guard = drops.guard();
        let second = el.run_in_executor(Some(&pool), move || drop(guard));
        let third = el.run_in_executor(Some(&pool), || "third");
        assert!(second.cancel());
        assert_eq!(drops.take(), [thread::current().id()]);
        assert!(second.is_cancelled() && second.is_done());
        assert!(!second.cancel());
        assert!(complete(el, second).unwrap_err().is_cancelled());
        first.end.send(()).unwrap();
        assert_eq!(complete(el, first.job).unwrap(), 1);
        assert_eq!(complete(el, third).unwrap(), "third");
    });
}

/// EX-03, EX-11: work that has begun cannot be taken back; the attempt does not wait, and the result is kept.
#[test]
fn running_work_cannot_be_taken_back() {
    on_loop(|el| {
        let blocked = Blocked::running(el, None, 9);
        assert!(!blocked.job.cancel());
        assert!(!blocked.job.is_cancelled() && !blocked.job.is_done());
        blocked.end.send(()).unwrap();
        wait_until(|| blocked.job.is_done());
        assert!(!blocked.job.cancel());
        assert_eq!(complete(el, blocked.job).unwrap(), 9);
    });
}

/// EX-03: dropping the future of a running job lets the job go on, and wakes nobody when it ends.
#[test]
fn a_dropped_future_lets_the_job_go_on() {
    on_loop(|el| {
        let (done, is_done) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let job = el.run_in_executor(None, move || {
            ended.recv_timeout(PATIENCE).unwrap();
            done.send(()).unwrap();
        });
        let task = el.create_task(job);
        settle(el);
        task.cancel();
        assert!(complete(el, task).unwrap_err().is_cancelled());
        end.send(()).unwrap();
        is_done.recv_timeout(PATIENCE).unwrap();
        settle(el);
    });
}

/// API section 9: a job nobody waits for runs all the same, also one that had not begun when it was forgotten.
#[test]
fn a_forgotten_job_runs() {
    on_loop(|el| {
        let pool = ThreadPoolExecutor::new(1);
        let first = Blocked::running(el, Some(&pool), 1);
        let (done, is_done) = mpsc::channel();
        drop(el.run_in_executor(Some(&pool), move || done.send(()).unwrap()));
        drop(first);
        is_done.recv_timeout(PATIENCE).unwrap();
    });
}

/// A job's future is `Send` and belongs to no loop: another executor may await it.
#[test]
fn a_job_can_be_awaited_elsewhere() {
    on_loop(|el| {
        let blocked = Blocked::running(el, None, 4);
        let waiter = thread::spawn(move || futures::executor::block_on(blocked.job));
        blocked.end.send(()).unwrap();
        assert_eq!(waiter.join().unwrap().unwrap(), 4);
    });
}

/// EX-05, P33: shutting down waits for what runs and for what is queued, while the loop goes on; then nothing is taken.
#[test]
fn shutdown_waits_for_all_jobs() {
    on_loop(|el| {
        let limit = 32.min(thread::available_parallelism().unwrap().get() + 4);
        let jobs: Vec<Blocked> = (0..limit + 1).map(|i| Blocked::on(el, None, i)).collect();
        let ended = Rc::new(Cell::new(None));
        let (handle, result) = (el.clone(), ended.clone());
        drop(el.create_task(async move { result.set(Some(handle.shutdown_default_executor(None).await)) }));
        settle(el);
        assert_eq!(ended.get(), None);

        let refused = el.run_in_executor(None, || ());
        assert!(refused.is_done() && !refused.is_cancelled());
        assert!(complete(el, refused).unwrap_err().is_closed());
        let reports = take_reports();
        assert_eq!(reports.len(), 1, "{reports:#?}");
        assert!(reports[0].contains("run_in_executor") && reports[0].contains("shut down"), "{reports:#?}");
        assert!(reports[0].contains("tests/executor.rs"), "{reports:#?}");

        let last = jobs.into_iter().enumerate().map(|(i, blocked)| {
            assert_eq!(ended.get(), None);
            blocked.end.send(()).unwrap();
            assert_eq!(complete(el, blocked.job).unwrap(), i);
        });
        assert_eq!(last.count(), limit + 1);
        run_until(el, || ended.get().is_some());
        assert_eq!(ended.get(), Some(true));
    });
}

/// EX-05: an executor that was never used is shut down at once, and is shut down all the same.
#[test]
fn shutdown_of_an_unused_executor() {
    on_loop(|el| {
        assert!(complete(el, el.shutdown_default_executor(None)));
        assert!(complete(el, el.shutdown_default_executor(Some(Duration::ZERO))));
        assert!(complete(el, el.run_in_executor(None, || ())).unwrap_err().is_closed());
        assert_eq!(take_reports().len(), 1);
        // Another executor is not concerned.
        let pool = ThreadPoolExecutor::new(1);
        assert_eq!(complete(el, el.run_in_executor(Some(&pool), || 1)).unwrap(), 1);
    });
}

/// EX-05: two that shut down at the same time both wait.
#[test]
fn shutdown_twice_waits_twice() {
    on_loop(|el| {
        let blocked = Blocked::running(el, None, 1);
        let ended = Rc::new(Cell::new(0));
        for _ in 0..2 {
            let (handle, count) = (el.clone(), ended.clone());
            drop(el.create_task(async move {
                assert!(handle.shutdown_default_executor(None).await);
                count.set(count.get() + 1);
            }));
        }
        settle(el);
        assert_eq!(ended.get(), 0);
        blocked.end.send(()).unwrap();
        run_until(el, || ended.get() == 2);
    });
}

/// EX-05: a shutdown that is given up midway takes nothing back: jobs go on, and nothing more is accepted.
#[test]
fn shutdown_can_be_given_up() {
    on_loop(|el| {
        let blocked = Blocked::running(el, None, 1);
        let handle = el.clone();
        let task = el.create_task(async move { handle.shutdown_default_executor(None).await });
        settle(el);
        task.cancel();
        assert!(complete(el, task).unwrap_err().is_cancelled());
        assert!(complete(el, el.run_in_executor(None, || ())).unwrap_err().is_closed());
        assert_eq!(take_reports().len(), 1);
        blocked.end.send(()).unwrap();
        assert_eq!(complete(el, blocked.job).unwrap(), 1);
    });
}

/// EX-06: with a bound it waits no longer than that; what is queued never begins, what runs is let go, and the report
/// says how many and how long.
#[test]
fn shutdown_with_a_bound() {
    on_manual_clock(|el, clock| {
        let limit = 32.min(thread::available_parallelism().unwrap().get() + 4);
        let running: Vec<Blocked> = (0..limit).map(|i| Blocked::running(el, None, i)).collect();
        let queued = Blocked::on(el, None, limit);
        let ended = Rc::new(Cell::new(None));
        let (handle, result) = (el.clone(), ended.clone());
        drop(el.create_task(async move {
            result.set(Some(handle.shutdown_default_executor(Some(Duration::from_secs(5))).await));
        }));
        settle(el);
        clock.advance(Duration::from_millis(4999));
        settle(el);
        assert_eq!(ended.get(), None);
        clock.advance(Duration::from_millis(1));
        settle(el);
        assert_eq!(ended.get(), Some(false));
        let reports = take_reports();
        assert_eq!(reports.len(), 1, "{reports:#?}");
        let expected = format!("the default executor did not finish within 5s: {} job(s) abandoned", limit + 1);
        assert!(reports[0].contains(&expected), "{reports:#?}");

        assert!(!queued.has_begun() && queued.job.is_done());
        assert!(complete_now(el, queued.job).unwrap_err().is_closed());
        // What was let go can still end, and whoever kept its future gets the result.
        for (i, blocked) in running.into_iter().enumerate() {
            blocked.end.send(()).unwrap();
            wait_until(|| blocked.job.is_done());
            assert_eq!(complete_now(el, blocked.job).unwrap(), i);
        }
    });

    /// On a clock that stands still there is no patience to run out.
    fn complete_now<T>(el: &EventLoop, job: Blocking<T>) -> Result<T, JoinError> {
        el.run_until_complete(job).unwrap()
    }
}

/// EX-06: a bound that is not reached changes nothing.
#[test]
fn shutdown_within_its_bound() {
    on_manual_clock(|el, _| {
        let blocked = Blocked::running(el, None, 1);
        let end = blocked.end.clone();
        el.call_soon(move || end.send(()).unwrap());
        let shut_down = el.run_until_complete(el.shutdown_default_executor(Some(Duration::from_secs(5))));
        assert_eq!(shut_down, Ok(true));
        assert_eq!(el.run_until_complete(blocked.job).unwrap().unwrap(), 1);
    });
}

/// EX-08, LR-05: closing the loop does not wait for jobs: those that run are let go, those that wait never begin.
#[test]
fn close_does_not_wait_for_jobs() {
    on_loop(|el| {
        let limit = 32.min(thread::available_parallelism().unwrap().get() + 4);
        let running: Vec<Blocked> = (0..limit).map(|i| Blocked::running(el, None, i)).collect();
        let drops = Drops::default();
        let guard = drops.guard();
        let queued = el.run_in_executor(None, move || drop(guard));
        el.close();
        assert_eq!(drops.take(), [thread::current().id()]);
        assert!(queued.is_done() && !queued.is_cancelled());
        assert!(futures::executor::block_on(queued).unwrap_err().is_closed());
        // FU-21, EX-03: they end when the loop is gone, and their results are still there.
        for (i, blocked) in running.into_iter().enumerate() {
            assert!(!blocked.job.is_done());
            blocked.end.send(()).unwrap();
            wait_until(|| blocked.job.is_done());
            assert_eq!(futures::executor::block_on(blocked.job).unwrap(), i);
        }
    });
}

/// FU-21, EX-03: a job that ends after the loop was closed and dropped, while a task of it had waited for the job,
/// schedules nothing and panics nowhere.
#[test]
fn a_late_end_touches_nothing() {
    let (begin, begun) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    let (done, is_done) = mpsc::channel();
    on_loop(|el| {
        struct Done(mpsc::Sender<()>);
        impl Drop for Done {
            fn drop(&mut self) {
                self.0.send(()).unwrap();
            }
        }
        let job = el.run_in_executor(None, move || {
            begin.send(()).unwrap();
            ended.recv_timeout(PATIENCE).unwrap();
            Done(done)
        });
        drop(el.create_task(job));
        settle(el);
        begun.recv_timeout(PATIENCE).unwrap();
    });
    // The loop is gone, and so are its descriptors.
    end.send(()).unwrap();
    is_done.recv_timeout(PATIENCE).unwrap();
}

/// LR-02: on a closed loop `run_in_executor` drops the function, says so by its result, and tells the handler once.
#[test]
fn a_closed_loop_takes_no_jobs() {
    on_loop(|el| {
        el.close();
        let (drops, pool) = (Drops::default(), ThreadPoolExecutor::new(1));
        for executor in [None, Some(&pool as &dyn Executor)] {
            let guard = drops.guard();
            let job = el.run_in_executor(executor, move || drop(guard));
            assert_eq!(drops.take(), [thread::current().id()]);
            assert!(job.is_done());
            assert!(futures::executor::block_on(job).unwrap_err().is_closed());
            let reports = take_reports();
            assert_eq!(reports.len(), 1, "{reports:#?}");
            assert!(reports[0].contains("run_in_executor") && reports[0].contains("event loop is closed"));
        }
        assert_eq!(pool.threads(), 0);
    });
}

/// EX-07, EX-10: any executor will do: one that keeps the work until somebody asks for it.
#[test]
fn an_executor_of_ones_own() {
    #[derive(Default)]
    struct Later(RefCell<Vec<Work>>);
    impl Executor for Later {
        fn submit(&self, work: Work) -> io::Result<()> {
            self.0.borrow_mut().push(work);
            Ok(())
        }
    }
    on_loop(|el| {
        let later = Later::default();
        let runs = el.run_in_executor(Some(&later), || thread::current().id());
        let panics = el.run_in_executor(Some(&later), || panic!("caught"));
        let cancelled = el.run_in_executor(Some(&later), || unreachable!("it was cancelled"));
        let dropped = el.run_in_executor(Some(&later), || ());
        settle(el);
        assert!(!runs.is_done());
        assert!(cancelled.cancel());
        let mut works = later.0.take();
        assert_eq!(format!("{:?}", works[0]), "Work");
        drop(works.pop());
        let worker = thread::spawn(move || {
            // A panic of the work does not unwind out of `run`.
            works.into_iter().for_each(Work::run);
            thread::current().id()
        });
        assert_eq!(complete(el, runs).unwrap(), worker.join().unwrap());
        let result: Result<(), JoinError> = complete(el, panics);
        assert_eq!(result.unwrap_err().to_string(), "panicked: caught");
        let result: Result<(), JoinError> = complete(el, cancelled);
        assert!(result.unwrap_err().is_cancelled());
        assert!(complete(el, dropped).unwrap_err().is_closed());
    });
}

/// EX-10: an executor that does the work at once, on the loop's thread.
#[test]
fn an_executor_that_runs_at_once() {
    struct Now;
    impl Executor for Now {
        fn submit(&self, work: Work) -> io::Result<()> {
            work.run();
            Ok(())
        }
    }
    on_loop(|el| {
        let job = el.run_in_executor(Some(&Now), || 3);
        assert!(job.is_done());
        assert_eq!(complete(el, job).unwrap(), 3);
    });
}

/// EX-10: an executor that refuses: the function is dropped, the result says so, and the handler is told why.
#[test]
fn an_executor_that_refuses() {
    struct Never;
    impl Executor for Never {
        fn submit(&self, _: Work) -> io::Result<()> {
            Err(io::Error::other("no hands"))
        }
    }
    on_loop(|el| {
        let drops = Drops::default();
        let guard = drops.guard();
        let job = el.run_in_executor(Some(&Never), move || drop(guard));
        assert_eq!(drops.take().len(), 1);
        assert!(complete(el, job).unwrap_err().is_closed());
        let reports = take_reports();
        assert_eq!(reports.len(), 1, "{reports:#?}");
        assert!(reports[0].contains("no hands"), "{reports:#?}");
    });
}

/// FU-21: work that an executor keeps beyond the loop's end can still be run, or dropped, on any thread.
#[test]
fn work_outlives_the_loop() {
    #[derive(Default)]
    struct Keeps(RefCell<Vec<Work>>);
    impl Executor for Keeps {
        fn submit(&self, work: Work) -> io::Result<()> {
            self.0.borrow_mut().push(work);
            Ok(())
        }
    }
    let (keeps, ran, drops) = (Keeps::default(), Arc::new(AtomicUsize::new(0)), Drops::default());
    on_loop(|el| {
        let counter = ran.clone();
        drop(el.create_task(el.run_in_executor(Some(&keeps), move || counter.fetch_add(1, Ordering::SeqCst))));
        let guard = drops.guard();
        drop(el.create_task(el.run_in_executor(Some(&keeps), move || drop(guard))));
        settle(el);
    });
    let mut works = keeps.0.take().into_iter();
    let (first, second) = (works.next().unwrap(), works.next().unwrap());
    let worker = thread::spawn(move || {
        first.run();
        drop(second);
        thread::current().id()
    });
    let worker = worker.join().unwrap();
    assert_eq!(ran.load(Ordering::SeqCst), 1);
    assert_eq!(drops.take(), [worker]);
}

/// Dropping a pool lets what is queued or running go on.
#[test]
fn a_dropped_pool_finishes_its_work() {
    on_loop(|el| {
        let pool = ThreadPoolExecutor::new(1);
        let first = Blocked::running(el, Some(&pool), 1);
        let second = el.run_in_executor(Some(&pool), || 2);
        drop(pool);
        assert!(!second.is_done());
        first.end.send(()).unwrap();
        assert_eq!(complete(el, first.job).unwrap(), 1);
        assert_eq!(complete(el, second).unwrap(), 2);
    });
}

struct Panics;

impl std::task::Wake for Panics {
    fn wake(self: Arc<Self>) {
        // Without a backtrace, which takes a sanitizer's program many seconds.
        std::panic::resume_unwind(Box::new("this waker is broken"));
    }
}

/// EX-05: of those who wait for the same shutdown one has a waker that panics, and so has whoever waits for the job: the
/// others are woken all the same, and the process lives on.
#[test]
fn wakers_that_panic_hold_up_nobody() {
    on_loop(|el| {
        let mut blocked = Blocked::running(el, None, 1);
        let waker = Arc::new(Panics).into();
        let mut cx = std::task::Context::from_waker(&waker);
        assert!(std::pin::Pin::new(&mut blocked.job).poll(&mut cx).is_pending());
        let mut first = Box::pin(el.shutdown_default_executor(None));
        assert!(first.as_mut().poll(&mut cx).is_pending());
        let handle = el.clone();
        let second = el.create_task(async move { handle.shutdown_default_executor(None).await });
        settle(el);
        blocked.end.send(()).unwrap();
        assert!(complete(el, second).unwrap());
        assert_eq!(complete(el, blocked.job).unwrap(), 1);
    });
}

/// A waker that panics costs the pool nothing: its thread goes on, and the shutdown still ends.
#[test]
fn a_waker_that_panics_costs_no_thread() {
    on_loop(|el| {
        let mut blocked = Blocked::running(el, None, 1);
        let waker = Arc::new(Panics).into();
        let polled = std::pin::Pin::new(&mut blocked.job).poll(&mut std::task::Context::from_waker(&waker));
        assert!(polled.is_pending());
        blocked.end.send(()).unwrap();
        assert!(complete(el, el.shutdown_default_executor(None)));
        assert_eq!(complete(el, blocked.job).unwrap(), 1);
    });
}

/// A job's future keeps one waker, the latest: an earlier one is not called.
#[test]
fn the_latest_waker_is_called() {
    on_loop(|el| {
        let mut blocked = Blocked::running(el, None, 1);
        let ((first, first_waker), (second, second_waker)) = (CountingWaker::new(), CountingWaker::new());
        for waker in [first_waker, second_waker] {
            let polled = std::pin::Pin::new(&mut blocked.job).poll(&mut std::task::Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
        blocked.end.send(()).unwrap();
        wait_until(|| second.count() > 0);
        assert_eq!((first.count(), second.count()), (0, 1));
        assert_eq!(complete(el, blocked.job).unwrap(), 1);
    });
}

/// EX-06, PO-06: the orderly end of a runner is not held up by a job that does not end; it is reported.
#[test]
fn a_runner_ends_though_a_job_does_not() {
    let _alone = common::alone();
    let (end, ended) = mpsc::channel::<()>();
    let mut runner = Runner::builder()
        .shutdown_bound(Duration::ZERO)
        .loop_factory(|| {
            let el = EventLoop::new()?;
            watch_reports(&el);
            Ok(el)
        })
        .build();
    let (begin, begun) = mpsc::channel();
    let job = runner.run(async move {
        let job = spawn_blocking(move || {
            begin.send(()).unwrap();
            let _ = ended.recv_timeout(PATIENCE);
        });
        Some(job)
    });
    let job = job.unwrap().unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    runner.close();
    assert!(!job.is_done());
    let reports = take_reports();
    assert_eq!(reports.len(), 1, "{reports:#?}");
    assert!(reports[0].contains("not everything has ended within 0ns: 1 blocking job\n  <Job running"), "{reports:#?}");
    assert!(reports[0].contains("a_runner_ends_though_a_job_does_not::{{closure}}"), "{reports:#?}");
    end.send(()).unwrap();
    futures::executor::block_on(job).unwrap();
}

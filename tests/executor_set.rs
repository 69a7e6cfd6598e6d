//! Which executor a loop uses by default, and the end of executors that are shared (behaviours EX).

mod common;
#[path = "common/threads.rs"]
mod threads;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use common::{
    DropCounter, DropGuard, PATIENCE, alone, complete, on_loop, on_manual_clock, run_until, settle, take_reports,
    watch_reports,
};
use roundelay::{Blocking, EventLoop, Executor, Runner, ThreadPoolExecutor, Work, spawn_blocking};
use threads::{Drops, panic_text, wait_until};

/// An executor that keeps its work until it is told to do it.
#[derive(Clone, Default)]
struct Later {
    works: Rc<RefCell<Vec<Work>>>,
    given: Rc<Cell<usize>>,
    _guard: Option<Rc<DropGuard>>,
}

impl Later {
    /// One whose drop is counted.
    fn counted(drops: &DropCounter) -> Self {
        Self { _guard: Some(Rc::new(drops.guard())), ..Self::default() }
    }

    fn set(&self, el: &EventLoop) {
        el.set_default_executor(Some(Rc::new(self.clone())));
    }

    fn work(&self) {
        self.works.take().into_iter().for_each(Work::run);
    }
}

impl Executor for Later {
    fn submit(&self, work: Work) -> io::Result<()> {
        self.given.set(self.given.get() + 1);
        self.works.borrow_mut().push(work);
        Ok(())
    }
}

/// A job that is running already, until its sender is dropped or used.
fn running(el: &EventLoop, pool: Option<&dyn Executor>) -> (Blocking<()>, mpsc::Sender<()>) {
    let ((begin, begun), (end, ended)) = (mpsc::channel(), mpsc::channel::<()>());
    let job = el.run_in_executor(pool, move || {
        begin.send(()).unwrap();
        let _ = ended.recv_timeout(PATIENCE);
    });
    begun.recv_timeout(PATIENCE).unwrap();
    (job, end)
}

/// Runs a shutdown as a task; what it gave, once it has ended.
fn shut_down(el: &EventLoop, future: impl Future<Output = bool> + 'static) -> Rc<Cell<Option<bool>>> {
    let ended = Rc::new(Cell::new(None));
    let result = ended.clone();
    drop(el.create_task(async move { result.set(Some(future.await)) }));
    settle(el);
    ended
}

#[track_caller]
fn take_report(words: &[&str]) {
    let reports = take_reports();
    assert_eq!(reports.len(), 1, "{reports:#?}");
    assert!(words.iter().all(|word| reports[0].contains(word)), "{reports:#?} does not say {words:?}");
}

/// EX-07: any executor may be the default one: it gets the jobs of the application and those of the loop itself.
#[test]
fn any_executor_may_be_the_default() {
    on_loop(|el| {
        let later = Later::default();
        later.set(el);
        let job = el.run_in_executor(None, || 1);
        let (spawned, name) = (el.create_task(async { spawn_blocking(|| 2).await.unwrap() }), el.clone());
        let lookup = el.create_task(async move { name.getaddrinfo("localhost", 80).await });
        run_until(el, || later.given.get() == 3);
        assert!(!job.is_done());
        later.work();
        assert_eq!(complete(el, job).unwrap(), 1);
        assert_eq!(complete(el, spawned).unwrap(), 2);
        complete(el, lookup).unwrap().unwrap();
    });
}

/// EX-07: without one the loop makes its own again; what the one before has been given is done there.
#[test]
fn the_default_can_be_changed() {
    on_loop(|el| {
        let (drops, kept) = (DropCounter::new(), Rc::new(RefCell::new(Vec::new())));
        let later = Later::counted(&drops);
        later.set(el);
        let before = el.run_in_executor(None, || thread::current().id());
        kept.borrow_mut().append(&mut later.works.borrow_mut());
        drop(later);
        assert_eq!(drops.count(), 0);
        el.set_default_executor(None);
        assert_eq!(drops.count(), 1);
        let after = complete(el, el.run_in_executor(None, || thread::current().name().map(str::to_owned)));
        assert_eq!(after.unwrap().as_deref(), Some("roundelay_0"));
        // The end waits for both.
        let handle = el.clone();
        let ended = shut_down(el, async move { handle.shutdown_default_executor(None).await });
        assert_eq!(ended.get(), None);
        kept.take().into_iter().for_each(Work::run);
        run_until(el, || ended.get() == Some(true));
        assert_eq!(complete(el, before).unwrap(), thread::current().id());
    });
}

/// EX-07, LR-02: after the shutdown, and on a closed loop, an executor comes too late.
#[test]
fn an_executor_that_comes_too_late() {
    on_loop(|el| {
        assert!(complete(el, el.shutdown_default_executor(None)));
        let drops = DropCounter::new();
        Later::counted(&drops).set(el);
        assert_eq!(drops.count(), 1);
        assert!(complete(el, el.run_in_executor(None, || ())).unwrap_err().is_closed());
        take_report(&["run_in_executor", "the default executor was shut down"]);
        el.close();
        Later::counted(&drops).set(el);
        assert_eq!(drops.count(), 2);
    });
}

/// EX-05: the shutdown waits for what this loop has given to an executor, whatever that is, and then lets go of it.
#[test]
fn shutdown_waits_on_any_executor() {
    on_loop(|el| {
        let drops = DropCounter::new();
        let later = Later::counted(&drops);
        later.set(el);
        let jobs: Vec<_> = (0..3).map(|i| el.run_in_executor(None, move || i)).collect();
        assert!(jobs[1].cancel());
        let handle = el.clone();
        let ended = shut_down(el, async move { handle.shutdown_default_executor(None).await });
        let mut works = later.works.take().into_iter();
        let last = works.next_back().unwrap();
        works.for_each(Work::run);
        settle(el);
        assert_eq!(ended.get(), None);
        drop(later);
        assert_eq!(drops.count(), 0);
        // To drop it is an end as well.
        drop(last);
        run_until(el, || ended.get().is_some());
        assert_eq!((ended.get(), drops.count()), (Some(true), 1));
        assert!(jobs.iter().all(Blocking::is_done));
    });
}

/// EX-06: an executor that does nothing holds up nobody's end beyond the bound: not the shutdown, and not a runner.
#[test]
fn an_executor_that_does_nothing() {
    /// Not even to drop the work.
    struct Loses;
    impl Executor for Loses {
        fn submit(&self, work: Work) -> io::Result<()> {
            // Reachable, for what looks for leaks.
            static LOST: Mutex<Vec<Work>> = Mutex::new(Vec::new());
            LOST.lock().unwrap().push(work);
            Ok(())
        }
    }
    on_manual_clock(|el, clock| {
        el.set_default_executor(Some(Rc::new(Loses)));
        let job = el.run_in_executor(None, || ());
        let handle = el.clone();
        let bound = Some(Duration::from_secs(3));
        let ended = shut_down(el, async move { handle.shutdown_default_executor(bound).await });
        clock.advance(Duration::from_secs(3));
        run_until(el, || ended.get().is_some());
        assert_eq!(ended.get(), Some(false));
        take_report(&["did not finish within 3s: 1 job(s) abandoned"]);
        assert!(job.is_done());
    });
    let _alone = alone();
    let mut runner = Runner::builder()
        .shutdown_bound(Duration::ZERO)
        .loop_factory(|| {
            let el = EventLoop::new()?;
            watch_reports(&el);
            el.set_default_executor(Some(Rc::new(Loses)));
            Ok(el)
        })
        .build();
    let job = runner.run(async { Rc::new(spawn_blocking(|| ())) }).unwrap();
    runner.close();
    assert!(job.is_done());
    assert_eq!(take_reports().len(), 1);
}

/// EX-08: closing the loop lets go of the executor at once; what it has not begun never begins.
#[test]
fn close_lets_go_of_any_executor() {
    on_loop(|el| {
        let (drops, places) = (DropCounter::new(), Drops::default());
        let later = Later::counted(&drops);
        later.set(el);
        let guard = places.guard();
        let job = el.run_in_executor(None, move || drop(guard));
        let works = later.works.clone();
        drop(later);
        el.close();
        assert_eq!((drops.count(), places.take().len()), (1, 1));
        works.take().into_iter().for_each(Work::run);
        assert!(futures::executor::block_on(job).unwrap_err().is_closed());
    });
}

/// EX-05: a job that nobody needs any more is waited for no longer, once whoever awaited it has given up.
#[test]
fn what_is_given_up_during_the_shutdown() {
    on_loop(|el| {
        let later = Later::default();
        later.set(el);
        let name = el.clone();
        let lookup = el.create_task(async move { name.getaddrinfo("localhost", 80).await });
        run_until(el, || later.given.get() == 1);
        let handle = el.clone();
        let ended = shut_down(el, async move { handle.shutdown_default_executor(None).await });
        assert_eq!(ended.get(), None);
        lookup.cancel();
        run_until(el, || ended.get() == Some(true));
        later.work();
    });
}

/// EX-05: of a pool that several loops share, each waits for its own jobs, and the pool goes on.
#[test]
fn loops_share_a_pool() {
    on_loop(|el| {
        let pool = ThreadPoolExecutor::new(2);
        el.set_default_executor(Some(Rc::new(pool.clone())));
        let (mine, end_mine) = running(el, None);
        let shared = pool.clone();
        let other = thread::spawn(move || {
            let el = EventLoop::new().unwrap();
            el.set_default_executor(Some(Rc::new(shared)));
            let sum = complete(&el, el.run_in_executor(None, || 40 + 2)).unwrap();
            // It does not wait for the job of the first loop.
            assert!(complete(&el, el.shutdown_default_executor(None)));
            watch_reports(&el);
            assert!(complete(&el, el.run_in_executor(None, || ())).unwrap_err().is_closed());
            take_report(&["the default executor was shut down"]);
            sum
        });
        assert_eq!(other.join().unwrap(), 42);
        assert!(!mine.is_done());
        drop(end_mine);
        complete(el, mine).unwrap();
        assert!(complete(el, el.shutdown_default_executor(None)));
        assert_eq!(complete(el, el.run_in_executor(Some(&pool), || "still there")).unwrap(), "still there");
    });
}

/// EX-05, EX-10: a pool is shut down by itself: it waits for the jobs of everybody, and then takes nothing.
#[test]
fn a_pool_is_shut_down_by_itself() {
    on_loop(|el| {
        let pool = ThreadPoolExecutor::new(1);
        let (first, end) = running(el, Some(&pool));
        let second = el.run_in_executor(Some(&pool), || 2);
        let ended: Vec<_> = (0..2)
            .map(|_| {
                let pool = pool.clone();
                shut_down(el, async move { pool.shutdown(None).await })
            })
            .collect();
        assert!(complete(el, el.run_in_executor(Some(&pool), || ())).unwrap_err().is_closed());
        take_report(&["EventLoop::run_in_executor(): the pool was shut down"]);
        drop(end);
        run_until(el, || ended.iter().all(|ended| ended.get() == Some(true)));
        assert!(first.is_done());
        assert_eq!(complete(el, second).unwrap(), 2);
        wait_until(|| pool.threads() == 0);
    });
}

/// EX-06: the same with a bound: what is queued never begins, what runs is let go.
#[test]
fn a_pool_is_shut_down_with_a_bound() {
    on_manual_clock(|el, clock| {
        let pool = ThreadPoolExecutor::new(1);
        let (first, end) = running(el, Some(&pool));
        let drops = Drops::default();
        let guard = drops.guard();
        let second = el.run_in_executor(Some(&pool), move || drop(guard));
        let shared = pool.clone();
        let ended = shut_down(el, async move { shared.shutdown(Some(Duration::from_secs(2))).await });
        assert_eq!(ended.get(), None);
        clock.advance(Duration::from_secs(2));
        run_until(el, || ended.get().is_some());
        assert_eq!(ended.get(), Some(false));
        assert_eq!(drops.take(), [thread::current().id()]);
        assert!(el.run_until_complete(second).unwrap().unwrap_err().is_closed());
        drop(end);
        wait_until(|| first.is_done());
        el.run_until_complete(first).unwrap().unwrap();
        wait_until(|| pool.threads() == 0);
    });
}

/// EX-02: the settings of a pool: names, a limit, stacks.
#[test]
fn threads_are_as_the_builder_says() {
    on_loop(|el| {
        let builder = ThreadPoolExecutor::builder().max_threads(2).name_prefix("database").stack_size(64 * 1024 * 1024);
        let pool = builder.build();
        let name = || thread::current().name().unwrap().to_owned();
        let jobs = [running(el, Some(&pool)), running(el, Some(&pool))];
        let third = el.run_in_executor(Some(&pool), name);
        assert_eq!(pool.threads(), 2);
        for (job, end) in jobs {
            drop(end);
            complete(el, job).unwrap();
        }
        let names = HashSet::from(["database_0".to_owned(), "database_1".to_owned()]);
        assert!(names.contains(&complete(el, third).unwrap()));
        let deep = el.run_in_executor(Some(&pool), || {
            // Too much for the stack of any other thread.
            let place = [1_u8; 32 * 1024 * 1024];
            std::hint::black_box(&place).iter().map(|byte| usize::from(*byte)).sum::<usize>()
        });
        assert_eq!(complete(el, deep).unwrap(), 32 * 1024 * 1024);
    });
    assert!(panic_text(|| drop(ThreadPoolExecutor::builder().max_threads(0))).contains("max_threads()"));
    assert!(panic_text(|| drop(ThreadPoolExecutor::builder().name_prefix("a\0b"))).contains("name_prefix()"));
}

/// EX-02: idle threads end, and others are made when there is work again; a time without end is possible, too.
#[test]
fn idle_threads_end() {
    on_loop(|el| {
        let pool = ThreadPoolExecutor::builder().max_threads(3).idle_timeout(Duration::ZERO).build();
        for _ in 0..20 {
            let jobs = [running(el, Some(&pool)), running(el, Some(&pool))];
            assert!(pool.threads() >= 2);
            for (job, end) in jobs {
                drop(end);
                complete(el, job).unwrap();
            }
            wait_until(|| pool.threads() == 0);
        }
        let pool = ThreadPoolExecutor::builder().max_threads(1).idle_timeout(Duration::MAX).build();
        complete(el, el.run_in_executor(Some(&pool), || ())).unwrap();
        wait_until(|| format!("{pool:?}").contains("running: 0"));
        assert_eq!(pool.threads(), 1);
        let shared = pool.clone();
        assert!(complete(el, async move { shared.shutdown(None).await }));
        wait_until(|| pool.threads() == 0);
    });
}

/// API section 9: the threads of a pool end when its last clone is dropped, not before.
#[test]
fn clones_are_the_same_pool() {
    /// Tells of the end of its thread.
    struct Ends(mpsc::Sender<()>);
    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.send(()).unwrap();
        }
    }
    thread_local! {
        static ENDS: RefCell<Option<Ends>> = const { RefCell::new(None) };
    }
    on_loop(|el| {
        let pool = ThreadPoolExecutor::new(1);
        let (end, ended) = mpsc::channel();
        complete(el, el.run_in_executor(Some(&pool), move || ENDS.set(Some(Ends(end))))).unwrap();
        let clone = pool.clone();
        drop(pool);
        let of_the_thread = complete(el, el.run_in_executor(Some(&clone), || ENDS.with_borrow(Option::is_some)));
        assert!(of_the_thread.unwrap());
        assert_eq!(ended.try_recv(), Err(mpsc::TryRecvError::Empty));
        drop(clone);
        ended.recv_timeout(PATIENCE).unwrap();
    });
}

/// EX-10: what an executor is shared by is an executor; a pool is `Send` and `Sync`.
#[test]
fn executors_are_shared() {
    fn crosses_threads<T: Send + Sync + Clone>(_: &T) {}
    on_loop(|el| {
        let pool = ThreadPoolExecutor::new(1);
        crosses_threads(&pool);
        let (in_arc, in_rc) = (Arc::new(pool.clone()), Rc::new(pool.clone()) as Rc<dyn Executor>);
        let in_box: Box<dyn Executor + Send> = Box::new(pool.clone());
        let by_reference = &&pool;
        let executors: [&dyn Executor; 4] = [&in_arc, &in_rc, &in_box, by_reference];
        for executor in executors {
            complete(el, el.run_in_executor(Some(executor), || ())).unwrap();
        }
        el.set_default_executor(Some(Rc::new(in_arc)));
        complete(el, el.run_in_executor(None, || ())).unwrap();
        assert_eq!(pool.threads(), 1);
    });
}

/// EX-01: many loops on many threads share one pool, and each gets its own results.
#[test]
fn many_loops_on_one_pool() {
    on_loop(|el| {
        let (pool, done) = (ThreadPoolExecutor::new(3), Arc::new(AtomicUsize::new(0)));
        let threads: Vec<_> = (0..4_usize)
            .map(|number| {
                let (pool, done) = (pool.clone(), done.clone());
                thread::spawn(move || {
                    let el = EventLoop::new().unwrap();
                    el.set_default_executor(Some(Rc::new(pool)));
                    for i in 0..200 {
                        let done = done.clone();
                        let job = el.run_in_executor(None, move || {
                            done.fetch_add(1, Ordering::Relaxed);
                            number * 1000 + i
                        });
                        // Every other one is forgotten, and waited for at the end.
                        if i % 2 == 0 {
                            assert_eq!(complete(&el, job).unwrap(), number * 1000 + i);
                        }
                    }
                    assert!(complete(&el, el.shutdown_default_executor(None)));
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(done.load(Ordering::Relaxed), 800);
        assert!(complete(el, pool.shutdown(None)));
    });
}

/// An executor whose destructor panics at the end of a runner is reported once, and the end goes on.
#[test]
fn one_that_panics_when_it_goes() {
    struct Loud;

    impl Executor for Loud {
        fn submit(&self, work: Work) -> io::Result<()> {
            work.run();
            Ok(())
        }
    }

    impl Drop for Loud {
        fn drop(&mut self) {
            panic!("does not go quietly");
        }
    }

    let _alone = common::alone();
    let mut runner = Runner::new();
    let el = runner.get_loop().unwrap();
    common::watch_reports(&el);
    el.set_default_executor(Some(Rc::new(Loud)));
    runner.run(async {}).unwrap();
    runner.close();
    assert!(el.is_closed());
    assert_eq!(take_reports(), ["Exception in a destructor: does not go quietly"]);
}

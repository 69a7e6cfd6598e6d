//! Futures that somebody else completes (behaviours FU).

mod common;

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};

use common::{CountingWaker, DropCounter, Log, complete, on_loop, on_strict_loop, run_until, settle, take_reports};
use roundelay::{CallbackId, EventLoop, FutureError, LoopFuture, Take, ThreadPoolExecutor, yield_now};

#[derive(Debug, PartialEq)]
struct Broken(u32);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken {}", self.0)
    }
}

impl Error for Broken {}

fn is_invalid<T>(result: Result<T, FutureError>) -> bool {
    matches!(result, Err(FutureError::InvalidState(_)))
}

/// Polls once, with a waker that does nothing.
fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// FU-01: a new future is neither done nor cancelled, and has neither a result nor an exception to give.
#[test]
fn a_new_future_is_pending() {
    on_loop(|el| {
        let future = el.create_future::<u32>();
        assert!(!future.is_done());
        assert!(!future.is_cancelled());
        assert!(is_invalid(future.result()));
        assert!(is_invalid(future.exception()));
        assert!(future.result().unwrap_err().to_string().contains("LoopFuture::result()"));
    });
}

/// FU-02: the first result stays; setting another, or an exception, is refused by an error that names the method.
#[test]
fn a_result_is_set_once() {
    on_loop(|el| {
        let future = el.create_future();
        future.set_result(1).unwrap();
        assert!(future.set_result(2).unwrap_err().to_string().contains("set_result"));
        assert!(future.set_exception("late").unwrap_err().to_string().contains("set_exception"));
        assert!(future.is_done() && !future.is_cancelled());
        assert_eq!(future.result().unwrap(), 1);
        assert!(future.exception().unwrap().is_none());
    });
}

/// FU-03: an exception comes back as the same object, from `exception()` and as the error of `result()`, as often as
/// one asks.
#[test]
fn an_exception_is_kept() {
    on_loop(|el| {
        let future = el.create_future::<u32>();
        future.set_exception(Broken(7)).unwrap();
        assert!(future.is_done() && !future.is_cancelled());
        let first = future.exception().unwrap().unwrap();
        for _ in 0..2 {
            let again = future.exception().unwrap().unwrap();
            assert!(Rc::ptr_eq(&first, &again));
            let Err(FutureError::Exception(raised)) = future.result() else { panic!("no exception") };
            assert!(Rc::ptr_eq(&first, &raised));
        }
        assert_eq!(first.downcast_ref::<Broken>(), Some(&Broken(7)));
        let error = future.result().unwrap_err();
        assert_eq!(error.to_string(), "broken 7");
        assert!(error.source().is_some_and(|source| source.is::<Broken>()));
        assert_eq!(io::Error::from(error).to_string(), "broken 7");
        assert!(future.set_result(1).is_err());
    });
}

/// FU-04: cancelling a pending future ends it for good: the second call says false, nothing can be set, and everything
/// that is asked of it says that it was cancelled.
#[test]
fn cancelling_a_pending_future() {
    on_loop(|el| {
        let future = el.create_future::<u32>();
        assert!(future.cancel());
        assert!(future.is_done() && future.is_cancelled());
        assert!(!future.cancel());
        assert!(future.result().unwrap_err().is_cancelled());
        assert!(future.exception().unwrap_err().is_cancelled());
        assert!(future.set_result(1).is_err());
        assert!(future.set_exception("late").is_err());
        let error = complete(el, future).unwrap_err();
        assert!(error.is_cancelled());
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::Interrupted);
    });
}

/// FU-05: cancelling a future that is done says false and leaves it as it is.
#[test]
fn cancelling_a_done_future() {
    on_loop(|el| {
        let future = el.create_future();
        future.set_result("kept").unwrap();
        assert!(!future.cancel());
        assert!(!future.is_cancelled());
        assert_eq!(future.result().unwrap(), "kept");

        let failed = el.create_future::<()>();
        failed.set_exception("kept, too").unwrap();
        assert!(!failed.cancel());
        assert!(!failed.is_cancelled());
        assert_eq!(failed.exception().unwrap().unwrap().to_string(), "kept, too");
    });
}

/// FU-08: a done callback is never called inline. One that is added to a done future takes its place at the tail of the
/// queue: d1, d2, soon, nested.
#[test]
fn done_callbacks_wait_their_turn() {
    on_strict_loop(|el| {
        let log = Log::new();
        let future = el.create_future();
        let (first, nested) = (log.clone(), log.entry("nested"));
        future.add_done_callback(move |future| {
            first.push("d1");
            future.add_done_callback(|_| nested());
        });
        let second = log.entry("d2");
        future.add_done_callback(|_| second());
        future.set_result(()).unwrap();
        el.call_soon(log.entry("soon"));
        assert_eq!(log.len(), 0);
        el.run_once(Some(std::time::Duration::ZERO)).unwrap();
        assert_eq!(log.take(), ["d1", "d2", "soon"]);
        settle(el);
        assert_eq!(log.take(), ["nested"]);
    });
}

/// A done callback gets the future itself, in whatever way it was completed.
#[test]
fn a_done_callback_sees_the_future() {
    on_loop(|el| {
        let log = Log::new();
        let futures: Vec<LoopFuture<u32>> = (0..3).map(|_| el.create_future()).collect();
        for future in &futures {
            let log = log.clone();
            future
                .add_done_callback(move |future| log.push(format!("{:?}", future.result().map_err(|e| e.to_string()))));
        }
        futures[0].set_result(5).unwrap();
        futures[1].set_exception("failed").unwrap();
        futures[2].cancel();
        settle(el);
        assert_eq!(log.take(), ["Ok(5)", "Err(\"failed\")", "Err(\"future was cancelled\")"]);
    });
}

/// FU-09: a done callback is removed by its id, once; an id that is not there, or belongs to another future, removes
/// nothing. What the callback captured goes with it.
#[test]
fn removing_a_done_callback() {
    on_loop(|el| {
        let (log, drops) = (Log::new(), DropCounter::new());
        let (future, other) = (el.create_future(), el.create_future::<()>());
        let (guard, entry) = (drops.guard(), log.entry("removed"));
        let removed = future.add_done_callback(move |_| {
            drop(guard);
            entry();
        });
        let kept = log.entry("kept");
        let kept_id = future.add_done_callback(|_| kept());
        assert_ne!(removed, kept_id);
        assert!(!other.remove_done_callback(removed));
        assert!(future.remove_done_callback(removed));
        assert_eq!(drops.count(), 1);
        assert!(!future.remove_done_callback(removed));
        future.set_result(()).unwrap();
        assert!(!future.remove_done_callback(kept_id), "it is in the queue and no longer with the future");
        settle(el);
        assert_eq!(log.take(), ["kept"]);
    });
}

/// FU-10: done callbacks may add and remove callbacks of the same future.
#[test]
fn done_callbacks_may_change_the_list() {
    on_strict_loop(|el| {
        let log = Log::new();
        let future = el.create_future();
        let ids = Rc::new(RefCell::new(Vec::new()));
        for i in 0..3 {
            let (log, all) = (log.clone(), ids.clone());
            let id = future.add_done_callback(move |future: &LoopFuture<()>| {
                log.push(format!("cb{i}"));
                for &id in &*all.borrow() {
                    // All of them are in the queue by now.
                    assert!(!future.remove_done_callback(id));
                }
                let late = log.entry(format!("late{i}"));
                future.add_done_callback(|_| late());
            });
            future.remove_done_callback(future.add_done_callback(|_| unreachable!("removed")));
            ids.borrow_mut().push(id);
        }
        future.set_result(()).unwrap();
        settle(el);
        assert_eq!(log.take(), ["cb0", "cb1", "cb2", "late0", "late1", "late2"]);
    });
}

/// FU-10: the destructor of a removed callback's captures may use the future.
#[test]
fn a_removed_callback_may_use_the_future_in_its_destructor() {
    struct AddsAnother(LoopFuture<()>, Log);
    impl Drop for AddsAnother {
        fn drop(&mut self) {
            let entry = self.1.entry("added by the destructor");
            self.0.add_done_callback(|_| entry());
        }
    }
    on_loop(|el| {
        let (future, log) = (el.create_future(), Log::new());
        let captured = AddsAnother(future.clone(), log.clone());
        let id = future.add_done_callback(move |_| drop(captured));
        assert!(future.remove_done_callback(id));
        future.set_result(()).unwrap();
        settle(el);
        assert_eq!(log.take(), ["added by the destructor"]);
    });
}

/// FU-11: a done callback that panics is reported, and the next one runs.
#[test]
fn a_panicking_done_callback_does_not_stop_the_next() {
    on_loop(|el| {
        let log = Log::new();
        let future = el.create_future();
        future.add_done_callback(|_| panic!("first"));
        let second = log.entry("second");
        future.add_done_callback(|_| second());
        future.set_result(()).unwrap();
        settle(el);
        assert_eq!(log.take(), ["second"]);
        let reports = take_reports();
        assert_eq!(reports.len(), 1, "{reports:?}");
        assert!(reports[0].starts_with("Exception in callback "), "{}", reports[0]);
        assert!(reports[0].contains(": first") && reports[0].contains("tests/futures.rs"), "{}", reports[0]);
    });
}

/// FU-12: an exception that nobody has seen is reported when the last handle goes, with the place where the future was
/// made.
#[test]
fn an_exception_that_nobody_saw_is_reported() {
    on_loop(|el| {
        let made_at = line!() + 1;
        let future = el.create_future::<u32>();
        let clone = future.clone();
        future.set_exception(Broken(3)).unwrap();
        drop(future);
        assert!(take_reports().is_empty(), "a handle is left");
        drop(clone);
        let reports = take_reports();
        assert_eq!(reports.len(), 1, "{reports:?}");
        assert!(reports[0].starts_with("Future exception was never retrieved: broken 3"), "{}", reports[0]);
        assert!(reports[0].contains(&format!("tests/futures.rs:{made_at}:")), "{}", reports[0]);
    });
}

/// FU-12: the report's subject is the future.
#[test]
fn the_report_names_the_future() {
    on_loop(|el| {
        let seen = Rc::new(Cell::new(0));
        let line = seen.clone();
        el.set_exception_handler(Some(Rc::new(move |_, context| {
            line.set(context.future().expect("the future concerned").created_at.line());
            assert!(context.exception.is_some());
        })));
        let made_at = line!() + 1;
        el.create_future::<()>().set_exception("lost").unwrap();
        assert_eq!(seen.get(), made_at);
    });
}

/// FU-13: no report if the exception was seen in any way, if `cancel` was called after it was set, or if there was no
/// exception at all.
#[test]
fn nothing_is_reported_that_was_seen() {
    on_loop(|el| {
        let failed = || {
            let future = el.create_future::<u32>();
            future.set_exception("seen").unwrap();
            future
        };
        assert!(failed().exception().unwrap().is_some());
        assert!(failed().result().is_err());
        assert!(complete(el, failed()).is_err());
        assert!(complete(el, failed().take()).is_err());
        assert!(!failed().cancel());
        let called_back = failed();
        called_back.add_done_callback(|future| assert!(future.exception().unwrap().is_some()));
        drop(called_back);
        settle(el);

        el.create_future().set_result(1).unwrap();
        el.create_future::<u32>().cancel();
        drop(el.create_future::<u32>());
        assert!(take_reports().is_empty());
    });
}

/// FU-13: a look at the state alone is no look at the exception.
#[test]
fn asking_whether_it_is_done_retrieves_nothing() {
    on_loop(|el| {
        let future = el.create_future::<u32>();
        future.set_exception("unseen").unwrap();
        assert!(future.is_done() && !future.is_cancelled());
        assert!(format!("{future:?}").contains("unseen"));
        drop(future);
        assert_eq!(take_reports().len(), 1);
    });
}

/// FU-14: a future of a clonable value can be awaited twice, by the same task and by others.
#[test]
fn awaiting_twice() {
    on_loop(|el| {
        let future = el.create_future();
        let mut own = future.clone();
        let first = el.create_task(async move { ((&mut own).await.unwrap(), (&mut own).await.unwrap()) });
        let second = el.create_task(future.clone());
        settle(el);
        future.set_result("x".to_string()).unwrap();
        assert_eq!(complete(el, first).unwrap(), ("x".to_string(), "x".to_string()));
        assert_eq!(complete(el, second).unwrap().unwrap(), "x");
        assert_eq!(complete(el, future).unwrap(), "x");
    });
}

/// Awaiters resume in the order in which they began to wait.
#[test]
fn awaiters_resume_in_order() {
    on_strict_loop(|el| {
        let log = Log::new();
        let future = el.create_future();
        for i in 0..3 {
            let (future, log) = (future.clone(), log.clone());
            drop(el.create_task(async move {
                future.await.unwrap();
                log.push(format!("task{i}"));
            }));
        }
        settle(el);
        future.set_result(()).unwrap();
        el.call_soon(log.entry("soon"));
        settle(el);
        assert_eq!(log.take(), ["task0", "task1", "task2", "soon"]);
    });
}

/// CS-14: awaiting a future that is done costs no turn.
#[test]
fn awaiting_a_done_future_costs_no_turn() {
    on_loop(|el| {
        let future = el.create_future();
        future.set_result(8).unwrap();
        assert!(matches!(poll_once(&mut future.clone()), Poll::Ready(Ok(8))));
        let turns = el.stats().turns;
        let task = el.create_task(async move { future.await.unwrap() + 1 });
        el.run_once(Some(std::time::Duration::ZERO)).unwrap();
        assert!(task.is_done());
        assert_eq!(el.stats().turns, turns + 1);
        assert_eq!(complete(el, task).unwrap(), 9);
    });
}

/// `take` moves a value that cannot be cloned to one awaiter; the others are told that it is gone.
#[test]
fn take_moves_the_value_once() {
    struct Unique(u32);
    on_loop(|el| {
        let future = el.create_future::<Unique>();
        let takers: Vec<_> = (0..2).map(|_| el.create_task(future.clone().take())).collect();
        settle(el);
        future.set_result(Unique(4)).ok().unwrap();
        let mut outcomes = takers.into_iter().map(|taker| complete(el, taker).unwrap());
        assert_eq!(outcomes.next().unwrap().unwrap().0, 4);
        assert!(is_invalid(outcomes.next().unwrap()));
        assert!(future.is_done() && !future.is_cancelled());
        assert!(future.exception().unwrap().is_none());
        assert!(future.set_result(Unique(5)).is_err());
        assert!(is_invalid(complete(el, future.take())));
    });
}

/// After `take`, a clonable value is gone for `result` and for awaiters, too.
#[test]
fn take_empties_the_future() {
    on_loop(|el| {
        let future = el.create_future();
        future.set_result(6).unwrap();
        assert_eq!(complete(el, future.clone().take()).unwrap(), 6);
        assert!(is_invalid(future.result()));
        assert!(is_invalid(complete(el, future.clone())));
        assert!(!future.cancel());
    });
}

/// A handle that is dropped while it is awaited takes its waker with it, and nobody else's.
#[test]
fn dropping_an_awaiting_handle_forgets_its_waker() {
    on_loop(|el| {
        let future = el.create_future::<()>();
        let (stays, goes) = (CountingWaker::new(), CountingWaker::new());
        let (mut kept, mut dropped): (LoopFuture<()>, Take<()>) = (future.clone(), future.clone().take());
        assert!(Pin::new(&mut kept).poll(&mut Context::from_waker(&stays.1)).is_pending());
        assert!(Pin::new(&mut dropped).poll(&mut Context::from_waker(&goes.1)).is_pending());
        drop(dropped);
        future.set_result(()).unwrap();
        assert_eq!((stays.0.count(), goes.0.count()), (1, 0));
    });
}

/// The latest waker counts: a future that moves to another task wakes that one.
#[test]
fn the_latest_waker_is_woken() {
    on_loop(|el| {
        let mut future = el.create_future::<()>();
        let (before, now) = (CountingWaker::new(), CountingWaker::new());
        assert!(Pin::new(&mut future).poll(&mut Context::from_waker(&before.1)).is_pending());
        assert!(Pin::new(&mut future).poll(&mut Context::from_waker(&now.1)).is_pending());
        future.set_result(()).unwrap();
        assert_eq!((before.0.count(), now.0.count()), (0, 1));
    });
}

/// Whoever leaves a long line makes nobody else lose his place: of awaiters and callbacks that come and go in any order,
/// those who are left are told, once each, in the order in which they came.
#[test]
fn a_long_line_keeps_its_order() {
    /// Notes its number when it is woken.
    struct Numbered(usize, Arc<Mutex<Vec<usize>>>);
    impl Wake for Numbered {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }
    enum One {
        Awaiter(LoopFuture<()>),
        Callback(CallbackId),
    }
    on_strict_loop(|el| {
        let future = el.create_future::<()>();
        let (woken, called) = (Arc::new(Mutex::new(Vec::new())), Rc::new(RefCell::new(Vec::new())));
        let mut line: Vec<(usize, One)> = Vec::new();
        // A sequence without a pattern, the same in each run.
        let mut state = 7_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for number in 0..3500 {
            // By turns more come than leave, and more leave than come.
            if random(10) < if number / 500 % 2 == 0 { 7 } else { 3 } || line.is_empty() {
                if random(3) > 0 {
                    let mut handle = future.clone();
                    let waker = Waker::from(Arc::new(Numbered(number, woken.clone())));
                    assert!(Pin::new(&mut handle).poll(&mut Context::from_waker(&waker)).is_pending());
                    line.push((number, One::Awaiter(handle)));
                } else {
                    let called = called.clone();
                    let id = future.add_done_callback(move |_| called.borrow_mut().push(number));
                    line.push((number, One::Callback(id)));
                }
            } else {
                match line.remove(random(line.len())).1 {
                    One::Awaiter(handle) => drop(handle),
                    One::Callback(id) => {
                        assert!(future.remove_done_callback(id));
                        assert!(!future.remove_done_callback(id));
                    }
                }
            }
            // One who is polled again, with another waker, keeps his place.
            if number % 7 == 0 && !line.is_empty() {
                let place = random(line.len());
                if let (number, One::Awaiter(handle)) = &mut line[place] {
                    let waker = Waker::from(Arc::new(Numbered(*number, woken.clone())));
                    assert!(Pin::new(handle).poll(&mut Context::from_waker(&waker)).is_pending());
                }
            }
        }
        assert!(line.len() > 100);
        let numbers = |awaiters: bool| -> Vec<usize> {
            let matching = line.iter().filter(|(_, one)| matches!(one, One::Awaiter(_)) == awaiters);
            matching.map(|(number, _)| *number).collect()
        };
        assert!(format!("{future:?}").contains(&format!("callbacks={} ", numbers(false).len())));
        future.set_result(()).unwrap();
        settle(el);
        assert_eq!(*woken.lock().unwrap(), numbers(true));
        assert_eq!(*called.borrow(), numbers(false));
    });
}

/// An id that another loop has given is no callback here, whatever waits here under the same number.
#[test]
fn an_id_of_another_loop_removes_nobody() {
    on_loop(|el| {
        let other = EventLoop::new().unwrap();
        let (here, there) = (el.create_future::<()>(), other.create_future::<()>());
        let mut handles: Vec<LoopFuture<()>> = (0..10).map(|_| here.clone()).collect();
        let (counter, waker) = CountingWaker::new();
        for handle in &mut handles {
            assert!(Pin::new(handle).poll(&mut Context::from_waker(&waker)).is_pending());
        }
        for _ in 0..10 {
            assert!(!here.remove_done_callback(there.add_done_callback(|_| ())));
        }
        here.set_result(()).unwrap();
        assert_eq!(counter.count(), 10);
        drop(there);
        other.close();
    });
}

/// The value's own `clone` may look at the future that it comes from, and await it in turn.
#[test]
fn the_values_clone_may_use_the_future() {
    thread_local! {
        static FUTURE: RefCell<Option<LoopFuture<Looks>>> = const { RefCell::new(None) };
    }
    struct Looks(u32);
    impl Clone for Looks {
        fn clone(&self) -> Self {
            // The clone that is made in here looks no further.
            let Some(mut future) = FUTURE.with(|future| future.take()) else { return Looks(self.0) };
            assert!(future.is_done() && !future.cancel() && future.set_result(Looks(0)).is_err());
            assert!(format!("{future:?}").contains("finished"));
            let Poll::Ready(Ok(inner)) = poll_once(&mut future) else { panic!("{future:?}") };
            Looks(inner.0 + 1)
        }
    }
    on_loop(|el| {
        let future = el.create_future();
        FUTURE.with(|place| *place.borrow_mut() = Some(future.clone()));
        future.set_result(Looks(1)).unwrap();
        assert_eq!(complete(el, future).unwrap().0, 2);
    });
}

/// A waker's own code may use the future that holds it: when it is cloned, replaced by another one, and dropped.
#[test]
fn a_waker_may_use_the_future() {
    thread_local! {
        static FUTURE: RefCell<Option<LoopFuture<u32>>> = const { RefCell::new(None) };
    }
    /// Uses the future in its destructor.
    struct Uses(Arc<AtomicUsize>);
    impl Wake for Uses {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Uses {
        fn drop(&mut self) {
            let future = FUTURE.with(|future| future.borrow().clone()).unwrap();
            assert!(!future.is_done());
            assert!(future.remove_done_callback(future.add_done_callback(|_| ())));
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    on_loop(|el| {
        let mut future = el.create_future::<u32>();
        FUTURE.with(|place| *place.borrow_mut() = Some(future.clone()));
        let drops = Arc::new(AtomicUsize::new(0));
        let poll = |future: &mut LoopFuture<u32>| {
            let waker = Waker::from(Arc::new(Uses(drops.clone())));
            assert!(Pin::new(future).poll(&mut Context::from_waker(&waker)).is_pending());
        };
        poll(&mut future);
        poll(&mut future);
        assert_eq!(drops.load(Ordering::SeqCst), 1, "replaced");
        assert!(poll_once(&mut future).is_pending());
        assert_eq!(drops.load(Ordering::SeqCst), 2);
        let mut other = future.clone();
        poll(&mut other);
        drop(other);
        assert_eq!(drops.load(Ordering::SeqCst), 3, "dropped with its handle");
        FUTURE.with(|future| future.take());
    });
}

/// FU-18: the text form has the state, never the value, how many callbacks wait, and where the future was made.
#[test]
fn the_text_form() {
    struct NoDebug;
    on_loop(|el| {
        let made_at = format!("created at tests/futures.rs:{}:", line!() + 1);
        let future = el.create_future::<NoDebug>();
        assert!(format!("{future:?}").starts_with("<LoopFuture pending created at "));
        assert!(format!("{future:?}").contains(&made_at));
        future.add_done_callback(|_| {});
        future.add_done_callback(|_| {});
        assert!(format!("{future:?}").starts_with("<LoopFuture pending callbacks=2 "));
        future.set_result(NoDebug).ok().unwrap();
        assert!(format!("{future:?}").starts_with("<LoopFuture finished created"), "{future:?}");

        let cancelled = el.create_future::<NoDebug>();
        cancelled.cancel();
        assert!(format!("{cancelled:?}").starts_with("<LoopFuture cancelled "));
        let failed = el.create_future::<NoDebug>();
        failed.set_exception("why").unwrap();
        assert!(format!("{failed:?}").starts_with("<LoopFuture exception=why "));
        failed.cancel();
        settle(el);
    });
}

/// FU-20: taking a job of the thread pool back works until a thread has begun it; then the job has its way, and only
/// this side lets go.
#[test]
fn cancelling_a_job_of_the_thread_pool() {
    on_loop(|el| {
        let pool = ThreadPoolExecutor::new(1);
        let (begun, has_begun) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let running = el.run_in_executor(Some(&pool), move || {
            begun.send(()).unwrap();
            may_go_on.recv().unwrap();
            "ran to its end"
        });
        has_begun.recv_timeout(common::PATIENCE).unwrap();
        let (ran, has_run) = mpsc::channel::<()>();
        let queued = el.run_in_executor(Some(&pool), move || ran.send(()).unwrap());
        assert!(queued.cancel());
        assert!(queued.is_cancelled() && queued.is_done());
        assert!(!queued.cancel());
        assert!(!running.cancel(), "it has begun");
        assert!(!running.is_cancelled());
        go_on.send(()).unwrap();
        assert_eq!(complete(el, running).unwrap(), "ran to its end");
        assert!(complete(el, queued).unwrap_err().is_cancelled());
        assert!(has_run.recv_timeout(common::PATIENCE).is_err(), "dropped without being run");
        drop(pool);
    });
}

/// FU-20: a task that awaits a job and is cancelled leaves the job to itself.
#[test]
fn cancelling_the_awaiter_lets_the_job_run() {
    on_loop(|el| {
        let pool = ThreadPoolExecutor::new(1);
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let (ran, has_run) = mpsc::channel();
        let job = el.run_in_executor(Some(&pool), move || {
            may_go_on.recv().unwrap();
            ran.send("done all the same").unwrap();
        });
        let task = el.create_task(job);
        settle(el);
        task.cancel();
        assert!(complete(el, task).unwrap_err().is_cancelled());
        go_on.send(()).unwrap();
        assert_eq!(has_run.recv_timeout(common::PATIENCE).unwrap(), "done all the same");
        drop(pool);
    });
}

/// FU-21: a job that ends after the loop was closed finds nobody to tell, and nothing panics.
#[test]
fn a_job_may_outlive_the_loop() {
    on_loop(|el| {
        let pool = ThreadPoolExecutor::new(1);
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let (ran, has_run) = mpsc::channel();
        let mut job = el.run_in_executor(Some(&pool), move || {
            may_go_on.recv().unwrap();
            ran.send(()).unwrap();
            5
        });
        let awaiting = el.create_task(async { std::future::pending::<()>().await });
        assert!(poll_once(&mut job).is_pending());
        settle(el);
        el.close();
        assert!(awaiting.is_done());
        go_on.send(()).unwrap();
        has_run.recv_timeout(common::PATIENCE).unwrap();
        drop(job);
        drop(pool);
    });
}

/// FU-22: a result that comes too late for a cancelled future is refused and changes nothing; whoever does not care
/// ignores the error.
#[test]
fn a_result_for_a_cancelled_future() {
    on_loop(|el| {
        let (future, drops) = (el.create_future(), DropCounter::new());
        future.cancel();
        let _ = future.set_result(drops.guard());
        assert_eq!(drops.count(), 1, "the refused value is dropped");
        assert!(future.is_cancelled());
    });
}

/// FU-23: the state of one future can be handed on to another: result, error or cancellation.
#[test]
fn handing_a_state_on() {
    fn hand_on(source: &LoopFuture<u32>, target: &LoopFuture<u32>) {
        let target = target.clone();
        source.add_done_callback(move |source| match source.result() {
            Ok(value) => target.set_result(value).unwrap(),
            Err(FutureError::Exception(error)) => target.set_exception(error.to_string()).unwrap(),
            Err(_) => assert!(target.cancel()),
        });
    }
    on_loop(|el| {
        let pairs: Vec<(LoopFuture<u32>, LoopFuture<u32>)> =
            (0..3).map(|_| (el.create_future(), el.create_future())).collect();
        for (source, target) in &pairs {
            hand_on(source, target);
        }
        pairs[0].0.set_result(9).unwrap();
        pairs[1].0.set_exception("handed on").unwrap();
        pairs[2].0.cancel();
        settle(el);
        assert_eq!(pairs[0].1.result().unwrap(), 9);
        assert_eq!(pairs[1].1.result().unwrap_err().to_string(), "handed on");
        assert!(pairs[2].1.is_cancelled());
    });
}

/// FU-24: a future is made by a loop, running or not; code without one asks for the running loop and is told if there
/// is none.
#[test]
fn a_future_is_made_by_a_loop() {
    on_loop(|el| {
        assert!(roundelay::get_running_loop().unwrap_err().to_string().contains("no running event loop"));
        let inside = el.call_soon(|| {
            let future = roundelay::get_running_loop().unwrap().create_future::<()>();
            assert!(!future.is_done());
        });
        assert!(complete(el, inside).is_ok());
    });
}

/// FU-25: awaiting a future of another loop is an error that names both loops; the future is none the worse for it.
#[test]
fn a_future_of_another_loop() {
    on_loop(|el| {
        let other = EventLoop::new().unwrap();
        let foreign = other.create_future::<u32>();
        let error = complete(el, foreign.clone()).unwrap_err();
        assert!(is_invalid::<()>(Err(error.clone())));
        let text = error.to_string();
        assert!(text.contains(&format!("belongs to loop {}", other.id())), "{text}");
        assert!(text.contains(&format!("awaited in loop {}", el.id())), "{text}");
        let task = el.create_task(foreign.clone().take());
        assert!(is_invalid(complete(el, task).unwrap()));
        foreign.set_result(3).unwrap();
        assert_eq!(complete(&other, foreign).unwrap(), 3);
    });
}

/// A future can be polled while no loop runs: by a foreign executor, say.
#[test]
fn polled_outside_of_any_loop() {
    on_loop(|el| {
        let mut future = el.create_future();
        let (counter, waker) = CountingWaker::new();
        let mut cx = Context::from_waker(&waker);
        assert!(Pin::new(&mut future).poll(&mut cx).is_pending());
        future.set_result(2).unwrap();
        assert_eq!(counter.count(), 1);
        assert!(matches!(Pin::new(&mut future).poll(&mut cx), Poll::Ready(Ok(2))));
    });
}

/// A future may be set from within the destructor of a task that is being cancelled, and by a task that is woken by it.
#[test]
fn set_from_a_destructor() {
    struct SetsOnDrop(LoopFuture<&'static str>);
    impl Drop for SetsOnDrop {
        fn drop(&mut self) {
            self.0.set_result("dropped").unwrap();
        }
    }
    on_loop(|el| {
        let future = el.create_future();
        let guard = SetsOnDrop(future.clone());
        let task = el.create_task(async move {
            let _guard = guard;
            std::future::pending::<()>().await
        });
        settle(el);
        task.cancel();
        assert_eq!(complete(el, future).unwrap(), "dropped");
    });
}

/// LR-02: a closed loop still makes futures, which can be completed and read; their done callbacks have no turn to run
/// in any more. Adding one to a future that is done is scheduling: it is told to the exception handler.
#[test]
fn futures_of_a_closed_loop() {
    on_loop(|el| {
        let before = el.create_future::<u32>();
        before.add_done_callback(|_| unreachable!("the loop is closed"));
        el.close();
        let after = el.create_future();
        before.set_result(1).unwrap();
        after.set_result(2).unwrap();
        assert_eq!((before.result().unwrap(), after.result().unwrap()), (1, 2));
        assert!(matches!(poll_once(&mut after.clone()), Poll::Ready(Ok(2))));
        assert!(take_reports().is_empty());

        let drops = DropCounter::new();
        let guard = drops.guard();
        after.add_done_callback(move |_| drop(guard));
        assert_eq!(drops.count(), 1);
        let reports = take_reports();
        assert_eq!(reports.len(), 1, "{reports:?}");
        assert!(reports[0].contains("add_done_callback") && reports[0].contains("closed"), "{}", reports[0]);
    });
}

/// A future that is awaited by a select-like combinator is polled by whoever is woken, and completes there.
#[test]
fn awaited_inside_of_a_combinator() {
    on_loop(|el| {
        let (a, b) = (el.create_future::<u32>(), el.create_future::<u32>());
        let (first, second) = (a.clone(), b.clone());
        let task = el.create_task(async move {
            let (mut first, mut second) = (pin!(first), pin!(second));
            poll_fn(|cx| match (first.as_mut().poll(cx), second.as_mut().poll(cx)) {
                (Poll::Ready(value), _) | (_, Poll::Ready(value)) => Poll::Ready(value.unwrap()),
                _ => Poll::Pending,
            })
            .await
        });
        settle(el);
        b.set_result(20).unwrap();
        run_until(el, || task.is_done());
        assert_eq!(complete(el, task).unwrap(), 20);
        assert!(!a.is_done());
    });
}

/// A future that sets itself while it is awaited by its own task is seen at the next await.
#[test]
fn set_by_its_own_task() {
    on_loop(|el| {
        let future = el.create_future();
        let setter = future.clone();
        let task = el.create_task(async move {
            yield_now().await;
            setter.set_result(1).unwrap();
            future.await.unwrap()
        });
        assert_eq!(complete(el, task).unwrap(), 1);
    });
}

/// A waker of the application's own that panics is reported, and the others that wait are woken.
#[test]
fn a_waker_that_panics() {
    struct Bomb;
    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {
            panic!("a waker's bomb");
        }
    }

    on_loop(|el| {
        let future = el.create_future::<u32>();
        let (mut bombed, other) = (future.clone(), el.create_task(future.clone().into_future()));
        assert!(Pin::new(&mut bombed).poll(&mut Context::from_waker(&Arc::new(Bomb).into())).is_pending());
        settle(el);
        future.set_result(7).unwrap();
        assert_eq!(complete(el, other).unwrap().unwrap(), 7);
        let reports = take_reports();
        assert!(reports.len() == 1 && reports[0].contains("a waker's bomb"), "{reports:?}");
    });
}

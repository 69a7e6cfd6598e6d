//! What other threads post to a loop, and their handles to it (behaviours TS).

mod common;
#[path = "common/threads.rs"]
mod threads;

use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use common::{Log, PATIENCE, complete, on_loop, on_manual_clock, on_strict_loop, settle, take_reports};
use roundelay::{
    Blocking, ContextVar, EventLoop, Fatal, JoinError, LoopClosed, Remote, RemoteHandle, RemoteTask, get_running_loop,
};
use threads::{Bomb, Drops, StopOnDrop, join, panic_text};

on_every_loop! {
    /// TS-01: a post from another thread wakes a loop that sleeps without any timer.
    fn a_post_wakes_a_sleeping_loop(el) {
        let remote = el.remote();
        let thread = thread::spawn(move || {
            let _stop = StopOnDrop(remote.clone());
            for expected in 0..3 {
                let handle = remote.call_soon_threadsafe(move || expected).unwrap();
                assert_eq!(handle.wait().unwrap(), expected);
            }
        });
        el.run_forever();
        thread.join().unwrap();
    }

    /// TS-13: ten threads spawn on one loop, and each gets its own result.
    fn ten_threads_spawn_on_one_loop(el) {
        let threads: Vec<_> = (0..10_usize)
            .map(|i| {
                let remote = el.remote();
                thread::spawn(move || {
                    let task = remote.spawn(move || async move {
                        roundelay::yield_now().await;
                        i * i
                    });
                    task.unwrap().wait().unwrap()
                })
            })
            .collect();
        let results: Vec<usize> = threads.into_iter().map(|thread| join(el, thread)).collect();
        assert_eq!(results, (0..10).map(|i| i * i).collect::<Vec<_>>());
    }
}

/// TS-02: on the loop's own thread `call_soon_threadsafe` and `call_soon` share one order.
#[test]
fn on_the_loops_thread_the_order_is_that_of_call_soon() {
    on_strict_loop(|el| {
        let order = Arc::new(Mutex::new(Vec::new()));
        let entry = |text: &'static str| {
            let order = order.clone();
            move || order.lock().unwrap().push(text)
        };
        let (first, second, third, fourth) = (entry("1"), entry("2"), entry("3"), entry("4"));
        let handle = el.clone();
        el.call_soon(move || {
            handle.call_soon(first);
            handle.call_soon_threadsafe(second).unwrap();
            handle.call_soon(third);
            handle.remote().call_soon_threadsafe(fourth).unwrap();
        });
        settle(el);
        assert_eq!(*order.lock().unwrap(), ["1", "2", "3", "4"]);
    });
}

/// LR-24: what other threads posted comes behind what was ready and behind due timers, in the order of posting.
#[test]
fn posts_come_after_due_timers() {
    on_manual_clock(|el, clock| {
        let order = Arc::new(Mutex::new(Vec::new()));
        let entry = |text: &'static str| {
            let order = order.clone();
            move || order.lock().unwrap().push(text)
        };
        let (remote, posts) = (el.remote(), [entry("posted 1"), entry("posted 2"), entry("posted 3")]);
        thread::spawn(move || {
            for post in posts {
                remote.call_soon_threadsafe(post).unwrap();
            }
        })
        .join()
        .unwrap();
        el.call_later(Duration::from_secs(1), entry("timer"));
        el.call_soon(entry("soon"));
        clock.advance(Duration::from_secs(1));
        el.run_once(Some(Duration::ZERO)).unwrap();
        assert_eq!(*order.lock().unwrap(), ["soon", "timer", "posted 1", "posted 2", "posted 3"]);
    });
}

/// LR-24: a turn takes what was posted by its fifth step; what is posted while it runs has to wait for the next.
#[test]
fn a_flood_of_posts_does_not_prolong_the_turn() {
    on_strict_loop(|el| {
        let ran = Arc::new(AtomicUsize::new(0));
        fn post_and_post_again(remote: &Remote, ran: &Arc<AtomicUsize>, left: usize) {
            let (next, ran) = (remote.clone(), ran.clone());
            remote
                .call_soon_threadsafe(move || {
                    ran.fetch_add(1, Ordering::SeqCst);
                    if left > 0 {
                        thread::spawn(move || post_and_post_again(&next, &ran, left - 1)).join().unwrap();
                    }
                })
                .unwrap();
        }
        post_and_post_again(&el.remote(), &ran, 3);
        for turn in 1..=4 {
            assert_eq!(el.run_once(None).unwrap(), 1);
            assert_eq!(ran.load(Ordering::SeqCst), turn);
        }
    });
}

/// TS-06: which thread may use what is settled by the types: a loop and what belongs to it stay, remotes travel.
#[test]
fn threads_are_types() {
    fn is_send<T: Send>() {}
    fn is_sync<T: Sync>() {}
    is_send::<Remote>();
    is_sync::<Remote>();
    is_send::<RemoteTask<u8>>();
    is_sync::<RemoteTask<u8>>();
    is_send::<RemoteHandle<u8>>();
    is_sync::<RemoteHandle<u8>>();
    is_send::<Blocking<u8>>();
    is_send::<JoinError>();
    is_sync::<JoinError>();

    /// Ambiguous, and so an error, for a type that is `Send`.
    macro_rules! is_not_send {
        ($($type:ty),*) => {$({
            trait NotSend<A> { fn check() {} }
            impl<T: ?Sized> NotSend<()> for T {}
            struct Send_;
            impl<T: ?Sized + Send> NotSend<Send_> for T {}
            <$type as NotSend<_>>::check();
        })*};
    }
    is_not_send!(EventLoop, roundelay::Task<u8>, roundelay::Handle<u8>, roundelay::LoopFuture<u8>, roundelay::TaskInfo);
    is_not_send!(roundelay::Canceller, roundelay::Context, roundelay::Transport);
}

/// TS-07: a post can be taken back before it runs; what it captured is dropped at once, by the canceller.
#[test]
fn cancel_takes_a_post_back() {
    on_loop(|el| {
        let drops = Drops::default();
        let guard = drops.guard();
        let handle = el.remote().call_soon_threadsafe(move || drop(guard)).unwrap();
        let canceller = thread::spawn(move || {
            assert!(!handle.is_done() && !handle.is_cancelled());
            assert!(handle.cancel());
            assert!(handle.is_done() && handle.is_cancelled());
            assert!(!handle.cancel(), "a second time there is nothing to take back");
            handle.wait().unwrap_err().is_cancelled().then(|| thread::current().id()).unwrap()
        });
        let canceller = canceller.join().unwrap();
        assert_eq!(drops.take(), [canceller]);
        settle(el);
    });
}

/// TS-07: after it has run, cancelling changes nothing, and the result is still there.
#[test]
fn cancel_comes_too_late() {
    on_loop(|el| {
        let handle = el.call_soon_threadsafe(|| 7).unwrap();
        settle(el);
        assert!(handle.is_done());
        assert!(!handle.cancel());
        assert!(!handle.is_cancelled());
        assert_eq!(handle.wait().unwrap(), 7);
    });
}

/// TS-07: cancelling a callback that is running returns when it has ended, not before.
#[test]
fn cancel_waits_for_a_running_callback() {
    on_loop(|el| {
        let (begun, has_begun) = mpsc::channel();
        let ended = Arc::new(AtomicBool::new(false));
        let (seen, about_to_cancel) = (ended.clone(), Arc::new(Barrier::new(2)));
        let barrier = about_to_cancel.clone();
        let handle = el
            .call_soon_threadsafe(move || {
                begun.send(()).unwrap();
                barrier.wait();
                // Gives the canceller time to do it wrong.
                for _ in 0..100 {
                    thread::yield_now();
                }
                ended.store(true, Ordering::SeqCst);
            })
            .unwrap();
        let canceller = thread::spawn(move || {
            has_begun.recv_timeout(PATIENCE).unwrap();
            about_to_cancel.wait();
            assert!(!handle.cancel());
            assert!(seen.load(Ordering::SeqCst), "cancel returned while the callback was running");
            assert!(!handle.is_cancelled());
        });
        join(el, canceller);
    });
}

/// TS-07: a callback that cancels itself does not wait for itself.
#[test]
fn a_callback_may_cancel_itself() {
    on_loop(|el| {
        let slot = Arc::new(Mutex::new(None::<RemoteHandle<Option<bool>>>));
        let own = slot.clone();
        let handle = el.call_soon_threadsafe(move || own.lock().unwrap().as_ref().map(RemoteHandle::cancel)).unwrap();
        *slot.lock().unwrap() = Some(handle);
        settle(el);
        let handle = slot.lock().unwrap().take().unwrap();
        assert_eq!(handle.wait().unwrap(), Some(false));
    });
}

/// TS-07, gh-128340 of asyncio: a third thread cancels while the loop runs it: it ran, or it was cancelled, and the
/// canceller is told which.
#[test]
fn cancelling_races_with_running() {
    on_loop(|el| {
        const ROUNDS: usize = 500;
        let remote = el.remote();
        let (hand_over, handles) = mpsc::channel::<(RemoteHandle<()>, Arc<AtomicBool>)>();
        let canceller = thread::spawn(move || {
            let mut cancelled = 0;
            for (handle, ran) in handles {
                if handle.cancel() {
                    cancelled += 1;
                    assert!(!ran.load(Ordering::SeqCst), "cancelled, but it ran");
                    assert!(handle.is_cancelled());
                    assert!(handle.wait().unwrap_err().is_cancelled());
                } else {
                    assert!(ran.load(Ordering::SeqCst), "not cancelled, but it has not run to its end");
                    handle.wait().unwrap();
                }
            }
            cancelled
        });
        let runs = Arc::new(AtomicUsize::new(0));
        let counter = runs.clone();
        let poster = thread::spawn(move || {
            for _ in 0..ROUNDS {
                let ran = Arc::new(AtomicBool::new(false));
                let (flag, counter) = (ran.clone(), counter.clone());
                let handle = remote.call_soon_threadsafe(move || {
                    counter.fetch_add(1, Ordering::SeqCst);
                    flag.store(true, Ordering::SeqCst);
                });
                hand_over.send((handle.unwrap(), ran)).unwrap();
            }
        });
        join(el, poster);
        let cancelled = join(el, canceller);
        settle(el);
        assert_eq!(runs.load(Ordering::SeqCst) + cancelled, ROUNDS);
    });
}

/// TS-08: a posted callback that panics is reported, and the panic crosses over, too.
#[test]
fn a_panic_of_a_callback_crosses_over_and_is_reported() {
    on_loop(|el| {
        let handle = el.remote().call_soon_threadsafe(|| panic!("spilt milk")).unwrap();
        let after = el.remote().call_soon_threadsafe(|| "still running").unwrap();
        settle(el);
        let thread = thread::spawn(move || {
            let result: Result<(), JoinError> = handle.wait();
            result.unwrap_err().to_string()
        });
        assert_eq!(thread.join().unwrap(), "panicked: spilt milk");
        assert_eq!(after.wait().unwrap(), "still running");
        let reports = take_reports();
        assert_eq!(reports.len(), 1, "{reports:#?}");
        assert!(reports[0].contains("Exception in callback") && reports[0].contains("spilt milk"), "{reports:#?}");
        assert!(reports[0].contains("tests/remote.rs"), "{reports:#?}");
    });
}

/// LR-17: a fatal panic of a posted callback leaves the run, and the loop goes on.
#[test]
fn a_fatal_panic_of_a_post_leaves_the_run() {
    on_loop(|el| {
        let handle = el.call_soon_threadsafe(|| panic_any(Fatal::new(3_u8))).unwrap();
        let after = el.call_soon_threadsafe(|| 4).unwrap();
        let payload = catch_unwind(AssertUnwindSafe(|| el.run_forever())).unwrap_err();
        assert_eq!(payload.downcast::<Fatal>().unwrap().0.downcast_ref::<u8>(), Some(&3));
        let result: Result<(), JoinError> = handle.wait();
        assert!(result.unwrap_err().is_panic());
        settle(el);
        assert_eq!(after.wait().unwrap(), 4);
    });
}

/// API section 9: dropping a `RemoteTask` or a `RemoteHandle` detaches: what was posted happens all the same.
#[test]
fn dropping_the_handles_detaches() {
    on_loop(|el| {
        let count = Arc::new(AtomicUsize::new(0));
        let (called, spawned) = (count.clone(), count.clone());
        drop(el.remote().call_soon_threadsafe(move || called.fetch_add(1, Ordering::SeqCst)).unwrap());
        drop(
            el.remote()
                .spawn(move || async move {
                    roundelay::yield_now().await;
                    spawned.fetch_add(10, Ordering::SeqCst)
                })
                .unwrap(),
        );
        settle(el);
        assert_eq!(count.load(Ordering::SeqCst), 11);
    });
}

/// API section 2: both are futures, also of another loop on another thread.
#[test]
fn they_can_be_awaited_in_another_loop() {
    on_loop(|el| {
        let remote = el.remote();
        let thread = thread::spawn(move || {
            roundelay::block_on(async move {
                let here = get_running_loop().unwrap().id();
                let callback = remote.call_soon_threadsafe(|| get_running_loop().unwrap().id()).unwrap();
                let task = remote.spawn(|| async { get_running_loop().unwrap().id() }).unwrap();
                let (a, b) = (callback.await.unwrap(), task.await.unwrap());
                assert_eq!(a, b);
                assert_ne!(a, here);
                a
            })
        });
        assert_eq!(join(el, thread), el.id());
    });
}

/// API section 2: they can be awaited in their own loop, too.
#[test]
fn they_can_be_awaited_in_their_own_loop() {
    on_loop(|el| {
        let remote = el.remote();
        let sum = complete(el, async move {
            let callback = remote.call_soon_threadsafe(|| 1).unwrap();
            let task = remote.spawn(|| async { 2 }).unwrap();
            callback.await.unwrap() + task.await.unwrap()
        });
        assert_eq!(sum, 3);
    });
}

/// API section 2: a blocking wait inside of a running loop panics, names itself and the caller's line.
#[test]
fn a_blocking_wait_inside_of_a_loop_panics() {
    on_loop(|el| {
        let remote = el.remote();
        complete(el, async move {
            let task = remote.spawn(|| async {}).unwrap();
            let text = panic_text(|| drop(task.wait_timeout(Duration::ZERO)));
            assert!(text.contains("RemoteTask::wait_timeout()"), "{text}");
            let text = panic_text(|| drop(task.wait()));
            assert!(text.contains("RemoteTask::wait()"), "{text}");
            let handle = remote.call_soon_threadsafe(|| ()).unwrap();
            let text = panic_text(|| drop(handle.wait()));
            assert!(text.contains("RemoteHandle::wait()"), "{text}");
        });
        settle(el);
    });
}

/// API section 2: on the loop's own thread, outside of a run, nothing could end the wait: it panics, too. What is done
/// already is given out.
#[test]
fn a_blocking_wait_on_the_loops_own_thread_panics() {
    on_loop(|el| {
        let task = el.remote().spawn(|| async { 1 }).unwrap();
        let text = panic_text(|| drop(task.wait_timeout(PATIENCE)));
        assert!(text.contains("RemoteTask::wait_timeout()"), "{text}");
        let text = panic_text(|| drop(task.wait()));
        assert!(text.contains("RemoteTask::wait()"), "{text}");
        let handle = el.call_soon_threadsafe(|| 2).unwrap();
        let text = panic_text(|| drop(handle.wait()));
        assert!(text.contains("RemoteHandle::wait()"), "{text}");

        let task = el.remote().spawn(|| async { 1 }).unwrap();
        let handle = el.call_soon_threadsafe(|| 2).unwrap();
        settle(el);
        assert_eq!(task.wait().unwrap() + handle.wait().unwrap(), 3);
    });
}

/// LR-02: on a closed loop everything about remotes says so, and what was given is dropped; the handler hears nothing.
#[test]
fn a_closed_loop_refuses_posts() {
    on_loop(|el| {
        let (remote, drops) = (el.remote(), Drops::default());
        el.close();
        let (guards, home) = ([drops.guard(), drops.guard(), drops.guard()], thread::current().id());
        let [a, b, c] = guards;
        assert_eq!(remote.call_soon_threadsafe(move || drop(a)).unwrap_err(), LoopClosed);
        assert_eq!(el.call_soon_threadsafe(move || drop(b)).unwrap_err(), LoopClosed);
        assert_eq!(remote.spawn(move || async move { drop(c) }).unwrap_err(), LoopClosed);
        assert_eq!(remote.stop().unwrap_err(), LoopClosed);
        assert_eq!(LoopClosed.to_string(), "event loop is closed");
        assert_eq!(drops.take(), [home; 3]);
        let elsewhere = thread::spawn(move || {
            assert!(remote.call_soon_threadsafe(|| ()).is_err());
            assert!(remote.spawn(|| async {}).is_err());
            assert!(remote.stop().is_err());
        });
        elsewhere.join().unwrap();
    });
}

/// TS-08: what close finds queued is dropped on the loop's thread, and resolves as closed; so do tasks that are alive.
#[test]
fn close_resolves_everything() {
    on_loop(|el| {
        let (remote, drops, home) = (el.remote(), Drops::default(), thread::current().id());
        let guard = drops.guard();
        let alive = remote.spawn(move || async move {
            let _guard = guard;
            pending::<()>().await
        });
        settle(el);
        let (a, b) = (drops.guard(), drops.guard());
        let poster = thread::spawn(move || {
            let callback = remote.call_soon_threadsafe(move || drop(a)).unwrap();
            let task = remote.spawn(move || async move { drop(b) }).unwrap();
            (callback, task)
        });
        let (callback, task) = poster.join().unwrap();
        el.close();
        assert_eq!(drops.take(), [home; 3]);
        assert!(callback.is_done() && !callback.is_cancelled());
        assert!(callback.wait().unwrap_err().is_closed());
        assert!(task.wait().unwrap_err().is_closed());
        let alive = alive.unwrap();
        assert!(!alive.cancel());
        assert!(alive.wait().unwrap_err().is_closed());
    });
}

/// TS-08: a thread that is blocked in a wait is let go by close.
#[test]
fn close_ends_a_blocking_wait() {
    on_loop(|el| {
        let waits: Vec<JoinHandle<bool>> = (0..4)
            .map(|i| {
                let (remote, about_to_wait) = (el.remote(), mpsc::channel());
                let thread = thread::spawn(move || {
                    if i % 2 == 0 {
                        let task = remote.spawn(pending::<()>).unwrap();
                        about_to_wait.0.send(()).unwrap();
                        task.wait().unwrap_err().is_closed()
                    } else {
                        let handle = remote.call_soon_threadsafe(|| ()).unwrap();
                        about_to_wait.0.send(()).unwrap();
                        handle.wait().unwrap_err().is_closed()
                    }
                });
                about_to_wait.1.recv_timeout(PATIENCE).unwrap();
                thread
            })
            .collect();
        el.close();
        for wait in waits {
            assert!(wait.join().unwrap());
        }
    });
}

/// LR-09: `Remote::stop` takes effect when what was posted before it has been queued, in the order of posting.
#[test]
fn stop_comes_after_what_was_posted_before() {
    on_strict_loop(|el| {
        let ran = Arc::new(AtomicUsize::new(0));
        let (remote, counter) = (el.remote(), ran.clone());
        thread::spawn(move || {
            for _ in 0..5 {
                let counter = counter.clone();
                remote.call_soon_threadsafe(move || counter.fetch_add(1, Ordering::SeqCst)).unwrap();
            }
            remote.stop().unwrap();
            let counter = counter.clone();
            remote.call_soon_threadsafe(move || counter.fetch_add(10, Ordering::SeqCst)).unwrap();
        })
        .join()
        .unwrap();
        // LR-08: the rest of the batch runs.
        el.run_forever();
        assert_eq!(ran.load(Ordering::SeqCst), 15);
    });
}

/// CX-01: a post runs in a copy of the loop's base context: it sees what is set there, not what a task has set, and
/// leaves nothing behind.
#[test]
fn a_post_runs_in_a_copy_of_the_base_context() {
    static VAR: ContextVar<&str> = ContextVar::new("var");
    on_loop(|el| {
        let token = VAR.set("base");
        let remote = el.remote();
        let seen = complete(el, async move {
            VAR.set("root");
            let poster = remote.clone();
            let post = move || {
                let callback = poster.call_soon_threadsafe(|| VAR.set("callback").old_value()).unwrap();
                let task = poster.spawn(|| async { VAR.set("task").old_value() }).unwrap();
                let again = poster.call_soon_threadsafe(|| VAR.get()).unwrap();
                (callback, task, again)
            };
            let (callback, task, again) = thread::spawn(post).join().unwrap();
            [callback.await.unwrap(), task.await.unwrap(), again.await.unwrap(), VAR.get()]
        });
        assert_eq!(seen, [Some("base"), Some("base"), Some("base"), Some("root")]);
        VAR.reset(token);
    });
}
/// TM-21: timers that come and go stay consistent while another thread floods the loop with posts.
#[test]
fn a_flood_of_posts_leaves_timers_alone() {
    on_loop(|el| {
        const POSTS: usize = 4096;
        let ran = Arc::new(AtomicUsize::new(0));
        let (remote, counter) = (el.remote(), ran.clone());
        let flood = thread::spawn(move || {
            for _ in 0..POSTS {
                let counter = counter.clone();
                remote.call_soon_threadsafe(move || counter.fetch_add(1, Ordering::SeqCst)).unwrap();
            }
        });
        let (done, fired) = (ran.clone(), Log::new());
        let log = fired.clone();
        complete(el, async move {
            let el = get_running_loop().unwrap();
            while done.load(Ordering::SeqCst) < POSTS {
                let timers: Vec<_> =
                    (0..8).map(|i| el.call_later(Duration::from_micros(i * 100), log.entry(format!("{i}")))).collect();
                roundelay::sleep(Duration::from_micros(200)).await;
                for timer in timers {
                    timer.cancel();
                }
            }
        });
        flood.join().unwrap();
        assert_eq!(ran.load(Ordering::SeqCst), POSTS);
        assert!(fired.len() > 0);
        assert_eq!(el.stats().timers.live(), 0);
    });
}

/// API section 2: a value that a forgotten callback or task leaves is dropped; a destructor that panics is reported.
#[test]
fn unwanted_results_are_dropped_on_the_loop() {
    on_loop(|el| {
        let drops = Drops::default();
        let (a, b) = (drops.guard(), drops.guard());
        drop(el.call_soon_threadsafe(move || a).unwrap());
        drop(el.remote().spawn(move || async move { b }).unwrap());
        settle(el);
        assert_eq!(drops.take(), [thread::current().id(); 2]);

        drop(el.call_soon_threadsafe(|| Bomb).unwrap());
        drop(el.remote().spawn(|| async { Bomb }).unwrap());
        settle(el);
        let reports = take_reports();
        assert_eq!(reports.len(), 2, "{reports:#?}");
        assert!(reports.iter().all(|report| report.contains("boom")), "{reports:#?}");
    });
}

/// Trap 11: a destructor that panics on the loop's thread, of something posted that is not to run, ends nothing.
#[test]
fn a_destructor_that_panics_does_not_end_the_loop() {
    on_loop(|el| {
        let bomb = Bomb;
        let task = el.remote().spawn(move || {
            let _bomb = &bomb;
            async {}
        });
        assert!(task.as_ref().unwrap().cancel());
        let after = el.call_soon_threadsafe(|| 1).unwrap();
        settle(el);
        assert_eq!(after.wait().unwrap(), 1);
        assert!(task.unwrap().wait().unwrap_err().is_cancelled());
        let reports = take_reports();
        assert_eq!(reports.len(), 1, "{reports:#?}");
        assert!(reports[0].contains("boom"));
    });
}

/// A result is given out once, as a task's is: whoever asks again has made a mistake, which panics where it was made. The
/// loop is none the worse for it.
#[test]
fn a_result_is_given_out_once() {
    #[track_caller]
    fn refused(text: &str, f: impl FnOnce()) {
        let payload = catch_unwind(AssertUnwindSafe(f)).unwrap_err();
        let said = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
        assert!(said.is_some_and(|said| said.contains(text)), "{said:?}");
    }
    on_loop(|el| {
        let mut cx = Context::from_waker(Waker::noop());
        let mut task = el.remote().spawn(|| async { 1 }).unwrap();
        let mut late = el.remote().spawn(|| async { 2 }).unwrap();
        let mut handle = el.remote().call_soon_threadsafe(|| 3).unwrap();
        let mut cancelled = el.remote().call_soon_threadsafe(|| ()).unwrap();
        cancelled.cancel();
        settle(el);
        assert_eq!(task.wait_timeout(Duration::ZERO).unwrap().unwrap(), 1);
        assert!(task.is_done());
        refused("RemoteTask::wait_timeout() was called after", || drop(task.wait_timeout(Duration::ZERO)));
        refused("RemoteTask::poll() was called after", || _ = Pin::new(&mut task).poll(&mut cx));
        refused("RemoteTask::wait() was called after", || drop(task.wait()));
        assert_eq!(complete(el, &mut late).unwrap(), 2);
        refused("RemoteTask::wait() was called after", || drop(late.wait()));
        assert_eq!(complete(el, &mut handle).unwrap(), 3);
        refused("polled after its result was taken", || _ = Pin::new(&mut handle).poll(&mut cx));
        refused("RemoteHandle::wait() was called after", || drop(handle.wait()));
        for _ in 0..2 {
            // There is nothing to give out.
            let polled = Pin::new(&mut cancelled).poll(&mut cx);
            assert!(matches!(polled, Poll::Ready(Err(error)) if error.is_cancelled()));
        }
    });
}

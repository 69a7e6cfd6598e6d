//! Handles that outlive their loop are inert: no method panics that does not say so, what has an error to give says that
//! the loop is closed, nothing is called and no descriptor is left (behaviours LR-02, LR-04, LR-05, CL, api 2). Here those
//! of callbacks, tasks, futures, time, other threads and executors.

mod common;

#[path = "common/outlived.rs"]
mod outlived;

use std::future::pending;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use common::{PATIENCE, take_reports};
use outlived::{begin, is_closed, now, outlives, panic_of, refused};
use roundelay::{
    EventLoop, FutureError, JoinError, LoopClosed, Remote, SignalKind, ThreadPoolExecutor, interval, sleep,
    sleep_until, timeout,
};

const NEVER: Duration = Duration::from_secs(24 * 3600);

/// The loop's own handles, which answer what can be asked and refuse what cannot be done.
#[test]
fn loops() {
    outlives(2, async |el, log| {
        let (socket, peer) = UnixStream::pair().unwrap();
        el.add_reader(&socket, move || log.push("reader")).unwrap();
        let handle = el.clone();
        move || {
            assert!(handle.is_closed() && !handle.is_running() && !handle.debug());
            assert!(handle.time() <= std::time::Instant::now() && handle.clock_resolution() < NEVER);
            assert_eq!((handle.selector_name(), handle.name(), handle.next_deadline()), ("", None, None));
            assert!(handle.all_tasks().is_empty() && handle.current_task().is_none());
            assert!(handle.task_factory().is_none());
            handle.set_debug(false);
            handle.stop();
            handle.close();
            handle.set_wake_hook(Some(std::sync::Arc::new(|| unreachable!())));
            assert!(format!("{handle:?}").contains("closed=true"));
            for text in [panic_of(|| handle.run_forever()), panic_of(|| handle.run_once(None))] {
                assert!(text.ends_with("event loop is closed"), "{text}");
            }
            assert!(!handle.remove_reader(&socket) && !handle.remove_writer(&socket));
            refused(handle.add_reader(&socket, || unreachable!()));
            refused(handle.add_writer(&socket, || unreachable!()));
            is_closed(handle.call_soon(|| unreachable!()));
            is_closed(handle.call_later(Duration::ZERO, || unreachable!()));
            is_closed(handle.create_task(async { unreachable!() }));
            is_closed(handle.task_builder().name("late").spawn(async { unreachable!() }));
            is_closed(handle.run_in_executor(None, || unreachable!()));
            assert_eq!(handle.call_soon_threadsafe(|| unreachable!()).err(), Some(LoopClosed));
            // With a report for each of the five that have no error to give.
            let refusals = if handle.exception_handler().is_some() { 5 } else { 0 };
            assert_eq!(take_reports().len(), refusals);
            let future = handle.create_future();
            future.set_result(1).unwrap();
            assert_eq!(future.result().unwrap(), 1);
            drop(peer);
        }
    });
}

/// Handles of callbacks and timers.
#[test]
fn callbacks() {
    outlives(0, async |el, log| {
        let done = el.call_soon(|| 5);
        roundelay::yield_now().await;
        roundelay::yield_now().await;
        let timer = el.call_later(NEVER, log.entry("timer"));
        let mut awaited = el.call_later(NEVER, log.entry("timer"));
        let woken = begin(&mut awaited);
        let cancelled = el.call_later(NEVER, log.entry("timer"));
        assert!(cancelled.cancel());
        let at = el.call_at(el.time() + NEVER, log.entry("timer"));
        move || {
            assert!(done.is_done() && !done.cancel() && !done.is_cancelled());
            assert_eq!(now(done).unwrap().unwrap(), 5);
            for timer in [timer, at] {
                assert!(timer.is_done() && !timer.is_cancelled() && !timer.cancel());
                assert!(timer.when() > std::time::Instant::now());
                assert!(!timer.info().name.is_empty() && !format!("{timer:?}").is_empty());
                is_closed(timer);
            }
            assert_eq!(woken.count(), 1, "whoever awaits hears of it");
            is_closed(awaited);
            assert!(cancelled.is_cancelled() && now(cancelled).unwrap().unwrap_err().is_cancelled());
        }
    });
}

/// Handles of tasks, and what cancels them.
#[test]
fn tasks() {
    outlives(0, async |el, log| {
        let spawn = || {
            let log = log.clone();
            el.create_task(async move {
                pending::<()>().await;
                log.push("went on");
            })
        };
        let finished = el.create_task(async { 7 });
        let (task, mut awaited, waited, gracefully) = (spawn(), spawn(), spawn(), spawn());
        let (detached, on_drop) = (spawn().cancel_on_drop(), spawn().cancel_on_drop());
        task.add_done_callback({
            let log = log.clone();
            move |_| log.push("done callback")
        });
        roundelay::yield_now().await;
        let woken = begin(&mut awaited);
        let info = el.all_tasks().into_iter().find(|info| info.id == task.id()).unwrap();
        let canceller = task.canceller();
        move || {
            assert!(task.is_done() && !task.is_cancelled() && !task.cancel() && !task.cancel_gracefully(NEVER));
            assert!(!canceller.cancel() && !canceller.cancel_gracefully(NEVER));
            assert!(!info.cancel() && !info.cancel_gracefully(NEVER));
            task.set_name("late");
            assert!(!task.name().is_empty() && task.id() == info.id);
            assert!(!format!("{task:?} {info:?} {canceller:?}").is_empty());
            let id = task.add_done_callback(|_| unreachable!());
            assert!(!task.remove_done_callback(id));
            // As for whatever is scheduled; where the loop's owner is gone, its handler is gone, too.
            assert!(take_reports().len() <= 1);
            is_closed(task);
            assert_eq!(woken.count(), 1, "whoever awaits hears of it");
            is_closed(awaited);
            is_closed(waited.cancel_and_wait());
            is_closed(gracefully.cancel_gracefully_and_wait(NEVER));
            is_closed(detached.detach_on_drop());
            assert!(on_drop.is_done());
            is_closed(on_drop);
            assert_eq!(now(finished).unwrap().unwrap(), 7);
        }
    });
}

/// Futures of `create_future` can be completed for good, and whoever looks at them finds that; nobody is called.
#[test]
fn futures() {
    outlives(0, async |el, log| {
        let future = el.create_future::<i32>();
        let (callback, removed) = (log.clone(), log.entry("removed"));
        future.add_done_callback(move |_| callback.push("done callback"));
        let removed = future.add_done_callback(|_| removed());
        let (failed, cancelled, taken) = (el.create_future::<i32>(), el.create_future::<i32>(), el.create_future());
        let mut awaited = future.clone();
        let woken = begin(&mut awaited);
        move || {
            assert!(future.remove_done_callback(removed));
            assert!(!future.is_done() && !future.is_cancelled());
            assert!(matches!(future.result(), Err(FutureError::InvalidState(_))), "{:?}", future.result());
            future.set_result(3).unwrap();
            assert!(future.set_result(4).is_err() && !future.cancel());
            assert_eq!(woken.count(), 1);
            assert_eq!((now(awaited).unwrap().unwrap(), future.result().unwrap()), (3, 3));
            failed.set_exception("broken").unwrap();
            assert_eq!(failed.exception().unwrap().unwrap().to_string(), "broken");
            assert!(cancelled.cancel() && cancelled.is_cancelled());
            taken.set_result(Box::new(5)).unwrap();
            assert_eq!(*now(taken.take()).unwrap().unwrap(), 5);
            // The callback that was there is refused, and so is a new one.
            future.add_done_callback(|_| unreachable!());
            assert!(take_reports().len() <= 2);
        }
    });
}

/// Sleeps, intervals and timeouts: those that are awaited by the loop that runs go on there; where none runs they say so.
#[test]
fn time() {
    outlives(0, async |_, _| {
        let deadline = std::time::Instant::now() + NEVER;
        let mut armed = sleep_until(deadline);
        let woken = begin(&mut armed);
        let mut ticks = interval(NEVER);
        ticks.tick().await;
        let mut limited = Box::pin(timeout(NEVER, pending::<()>()));
        begin(&mut limited);
        let past = sleep_until(std::time::Instant::now());
        move || {
            assert_eq!(woken.count(), 0);
            assert!(!armed.is_elapsed() && armed.deadline() == Some(deadline));
            armed.reset(deadline + NEVER);
            limited.as_mut().reschedule(deadline);
            assert!(!format!("{armed:?} {ticks:?} {limited:?}").is_empty());
            if roundelay::get_running_loop().is_ok() {
                begin(&mut armed);
                begin(&mut limited);
                assert!(now(ticks.tick()).is_none());
                assert!(now(past).is_none());
            } else {
                for text in [
                    panic_of(|| now(armed)),
                    panic_of(|| now(limited)),
                    panic_of(|| now(ticks.tick())),
                    panic_of(|| now(past)),
                    panic_of(|| now(sleep(NEVER))),
                ] {
                    assert!(text.contains("outside of a running roundelay event loop"), "{text}");
                }
            }
        }
    });
}

/// A remote, and what it has posted, on this thread and on another.
#[test]
fn remotes() {
    outlives(0, async |el, log| {
        let remote = el.remote();
        let other = remote.clone();
        let posted = thread::spawn(move || {
            [(); 4].map(|()| {
                let handle = other.call_soon_threadsafe(|| 5).unwrap();
                (handle, other.spawn(async || pending::<()>().await).unwrap())
            })
        });
        let posted = posted.join().unwrap();
        for _ in 0..3 {
            roundelay::yield_now().await;
        }
        let [mut dropped, (handle, task), (other, awaited), (waited, cancelled)] = posted;
        let woken = begin(&mut dropped.1);
        log.push("settled");
        move || {
            assert!(handle.is_done() && !handle.cancel() && !handle.is_cancelled());
            // Where a loop runs, no thread of it may be blocked, which they say.
            let runs = roundelay::get_running_loop().is_ok();
            if runs {
                let text = panic_of(|| handle.wait());
                assert!(text.starts_with("RemoteHandle::wait() would block the event loop"), "{text}");
            } else {
                assert_eq!(handle.wait().unwrap(), 5);
            }
            assert!(task.is_done() && !task.cancel() && !task.cancel_gracefully(NEVER));
            assert!(!format!("{task:?} {other:?} {remote:?}").is_empty());
            // Whoever asks first gets the error.
            if runs {
                is_closed(task);
            } else {
                assert!(task.wait_timeout(PATIENCE).unwrap().unwrap_err().is_closed());
            }
            assert_eq!(woken.count(), 1, "whoever awaits hears of it");
            is_closed(dropped.1);
            if runs {
                is_closed(awaited);
            } else {
                assert!(awaited.wait().unwrap_err().is_closed());
            }
            drop((waited, cancelled));
            assert_eq!(now(other).unwrap().unwrap(), 5);
            let late = |remote: &Remote| {
                assert_eq!(remote.call_soon_threadsafe(|| unreachable!()).err(), Some(LoopClosed));
                assert_eq!(remote.post(|| unreachable!()), Err(LoopClosed));
                assert_eq!(remote.spawn(async || unreachable!()).err(), Some(LoopClosed));
                assert_eq!(remote.stop(), Err(LoopClosed));
                assert_ne!(remote.loop_id(), 0);
            };
            late(&remote);
            thread::spawn(move || late(&remote)).join().unwrap();
        }
    });
}

/// Wakers of tasks and of the root, here and on another thread.
#[test]
fn wakers() {
    outlives(0, async |el, _| {
        let own = || std::future::poll_fn(|cx: &mut Context<'_>| Poll::Ready(cx.waker().clone()));
        let root = own().await;
        let task = el.create_task(async move {
            let waker = own().await;
            waker.wake_by_ref();
            roundelay::yield_now().await;
            waker
        });
        let finished = task.await.unwrap();
        let (tell, told) = mpsc::channel();
        drop(el.create_task(async move {
            tell.send(own().await).unwrap();
            pending::<()>().await;
        }));
        roundelay::yield_now().await;
        let unfinished = told.try_recv().unwrap();
        move || {
            let wakers = [root, finished, unfinished];
            let wake = |wakers: &[Waker]| {
                for waker in wakers {
                    let owned = waker.clone();
                    owned.wake();
                    waker.wake_by_ref();
                    assert!(waker.will_wake(waker));
                }
            };
            wake(&wakers);
            thread::spawn(move || {
                wake(&wakers);
                drop(wakers);
            })
            .join()
            .unwrap();
        }
    });
}

/// Jobs of executors: those that run go on and give their result; those that have not begun never will.
#[test]
fn jobs() {
    outlives(0, async |el, log| {
        let pool = ThreadPoolExecutor::new(1);
        let (begin_job, begun) = mpsc::channel();
        let (release, wait) = mpsc::channel::<()>();
        let mut running = el.run_in_executor(Some(&pool), move || {
            begin_job.send(()).unwrap();
            let _ = wait.recv();
            6
        });
        begun.recv().unwrap();
        let queued = el.run_in_executor(Some(&pool), || 7);
        let done = el.run_in_executor(None, || 8);
        while !done.is_done() {
            roundelay::yield_now().await;
        }
        let woken = begin(&mut running);
        log.push("settled");
        move || {
            assert!(!running.is_done() && !running.cancel() && !running.is_cancelled());
            assert_eq!(woken.count(), 0);
            assert!(queued.cancel() && now(queued).unwrap().unwrap_err().is_cancelled());
            assert_eq!(now(done).unwrap().unwrap(), 8);
            assert!(!format!("{running:?} {pool:?}").is_empty());
            release.send(()).unwrap();
            assert_eq!(futures::executor::block_on(running).unwrap(), 6);
            // The pool is not the loop's, and serves others.
            assert!(pool.threads() <= 1);
        }
    });
}

/// Jobs of the loop's own executor end with it.
#[test]
fn jobs_of_the_default_executor() {
    outlives(0, async |el, _| {
        let (release, wait) = mpsc::channel::<()>();
        let wait = std::sync::Arc::new(std::sync::Mutex::new(wait));
        // More than there are ever threads.
        let mut jobs: Vec<_> = (0..64)
            .map(|n| {
                let wait = wait.clone();
                el.run_in_executor(None, move || {
                    let _ = wait.lock().unwrap().recv();
                    n
                })
            })
            .collect();
        let last = jobs.pop().unwrap();
        move || {
            assert!(last.is_done() && !last.cancel() && !last.is_cancelled());
            is_closed(last);
            drop(release);
            // One that runs gives its result, unless the loop was gone before it began.
            let first = futures::executor::block_on(jobs.remove(0));
            assert!(first.as_ref().is_ok_and(|n| *n == 0) || first.is_err_and(|error| error.is_closed()));
        }
    });
}

/// SG-07: streams of signals end with the loop, and what the process does about the signal is as it was.
#[test]
fn signals() {
    let caught = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        status.lines().find(|line| line.starts_with("SigCgt:")).unwrap().to_owned()
    };
    outlives(0, async |el, log| {
        let before = caught();
        let mut stream = el.signal(SignalKind::user_defined2()).unwrap();
        el.add_signal_handler(SignalKind::user_defined2(), move || log.push("handler")).unwrap();
        let mut received = Box::pin(async move { (stream.recv().await, stream) });
        let woken = begin(&mut received);
        let handle = el.clone();
        move || {
            assert_eq!(caught(), before);
            assert_eq!(woken.count(), 1, "whoever waits hears of it");
            let (end, mut stream) = now(received).expect("it does not wait");
            assert!(end.is_none() && now(stream.recv()) == Some(None));
            assert_eq!(stream.kind(), SignalKind::user_defined2());
            assert!(!handle.remove_signal_handler(SignalKind::user_defined2()));
            refused(handle.add_signal_handler(SignalKind::user_defined2(), || unreachable!()));
            refused(handle.signal(SignalKind::user_defined2()));
        }
    });
}

/// What has ended with its loop says so as an `io::Error`, too.
#[test]
fn errors_are_of_one_kind() {
    outlives(0, async |el, _| {
        let task = el.create_task(pending::<()>());
        move || {
            let error: JoinError = now(task).unwrap().unwrap_err();
            assert!(error.is_closed() && !error.is_cancelled() && !error.is_panic());
            assert_eq!(std::io::Error::from(error).to_string(), "event loop is closed");
        }
    });
}

/// A future that is being run when its loop's owner is dropped ends with that run, and is polled no more.
#[test]
fn a_future_that_is_run() {
    let _alone = common::alone();
    let owner = EventLoop::new().unwrap();
    let el = owner.clone();
    let mut polls = 0;
    let mut owner = Some(owner);
    let ended = el.run_until_complete(std::future::poll_fn(|_| {
        polls += 1;
        drop(owner.take());
        Poll::<()>::Pending
    }));
    assert!(ended.is_err() && el.is_closed());
    assert_eq!(polls, 1);
}

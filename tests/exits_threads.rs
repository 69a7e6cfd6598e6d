//! Programs end, whatever other threads do: jobs, posts, and those who wait for the loop (behaviours PO-06, EX-03, EX-06,
//! EX-08, api 1). Each test runs a process of its own, which has to end by itself, with the right status and output.

mod common;

#[path = "common/exits.rs"]
mod exits;

use std::future::pending;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use exits::{Program, brief};
use roundelay::{
    EventLoop, LoopClosed, ThreadPoolExecutor, block_on, get_running_loop, sleep, spawn_blocking, timeout, yield_now,
};

const NEVER: Duration = Duration::from_secs(24 * 3600);

/// Sleeps for ever, once it has said that it does.
fn sleep_for_ever(begun: mpsc::Sender<()>) {
    let _ = begun.send(());
    loop {
        thread::park_timeout(NEVER);
    }
}

/// Computes for ever, once it has said that it does.
fn spin_for_ever(begun: mpsc::Sender<()>) {
    let _ = begun.send(());
    loop {
        std::hint::spin_loop();
    }
}

/// EX-06: a job that sleeps and one that computes without end are abandoned when the bound is over, and named.
#[test]
fn jobs_that_do_not_end() {
    let program = Program::new("jobs_that_do_not_end", || {
        let (begin, begun) = mpsc::channel();
        let mut runner = brief().build();
        let run = runner.run(async {
            for job in [sleep_for_ever, spin_for_ever] {
                let begin = begin.clone();
                drop(spawn_blocking(move || job(begin)));
                begun.recv().unwrap();
            }
        });
        run.unwrap();
        runner.close();
        println!("main ends");
    });
    for program in program.each() {
        let ended = program.end();
        ended.check(0, "main ends\n");
        let names = ended.unfinished(" within 500ms: 2 blocking jobs");
        for name in &names {
            assert!(name.contains("<Job running for ") && name.contains("jobs_that_do_not_end"), "{names:?}");
            assert!(name.contains("at tests/exits_threads.rs:"), "{names:?}");
        }
    }
}

/// EX-06: jobs that wait behind them never begin; who awaits them hears that they will not.
#[test]
fn jobs_that_do_not_begin() {
    let program = Program::new("jobs_that_do_not_begin", || {
        let mut runner = brief().build();
        let last = runner.run(async {
            let (begin, begun) = mpsc::channel();
            for _ in 0..64 {
                let begin = begin.clone();
                drop(spawn_blocking(move || sleep_for_ever(begin)));
            }
            begun.recv().unwrap();
            (spawn_blocking(|| println!("never")),)
        });
        let (last,) = last.unwrap();
        runner.close();
        println!("{:?}", block_on(last).map_err(|error| error.is_closed()));
    });
    for program in program.each() {
        let ended = program.end();
        ended.check(0, "Err(true)\n");
        let names = ended.unfinished(" within 500ms: 65 blocking jobs");
        assert_eq!(names.len(), 21, "{names:?}");
        assert_eq!(names[20], "  not named here: 45");
    }
}

/// EX-03: a task that awaits such a job, with a timeout or without, holds nothing up; nor does one whose handle is kept.
#[test]
fn jobs_that_are_awaited() {
    let program = Program::new("jobs_that_are_awaited", || {
        let mut runner = brief().build();
        let job = runner.run(async {
            let (begin, begun) = mpsc::channel();
            let again = begin.clone();
            let over = timeout(Duration::from_millis(1), spawn_blocking(move || sleep_for_ever(begin))).await;
            println!("{over:?}");
            begun.recv().unwrap();
            drop(get_running_loop().unwrap().create_task(spawn_blocking(move || sleep_for_ever(again))));
            begun.recv().unwrap();
            (spawn_blocking(|| 5),)
        });
        let (job,) = job.unwrap();
        drop(runner);
        println!("{:?}", block_on(job).unwrap());
    });
    for program in program.each() {
        let ended = program.end();
        ended.check(0, "Err(TimedOut)\n5\n");
        ended.unfinished(" within 500ms: 2 blocking jobs");
    }
}

/// EX-08: closing the loop itself waits for no job; nor does the end of the process.
#[test]
fn close_waits_for_no_job() {
    let program = Program::new("close_waits_for_no_job", || {
        let (begin, begun) = mpsc::channel();
        let el = EventLoop::new().unwrap();
        let job = el.run_in_executor(None, move || sleep_for_ever(begin));
        begun.recv().unwrap();
        el.close();
        println!("closed, {}", job.is_done());
    });
    program.ends_silently(0, "closed, false\n");
}

/// EX-10: an executor of the application's own is not the runner's to end, and yet holds nothing up: kept, dropped, or
/// gone with the thread's locals.
#[test]
fn an_executor_of_ones_own() {
    thread_local!(static KEPT: ThreadPoolExecutor = ThreadPoolExecutor::new(2));
    let program = Program::new("an_executor_of_ones_own", || {
        let (begin, begun) = mpsc::channel();
        let pool = ThreadPoolExecutor::new(1);
        block_on(async {
            let el = get_running_loop().unwrap();
            for pool in [&pool, &KEPT.with(|_| ThreadPoolExecutor::new(1))] {
                let begin = begin.clone();
                drop(el.run_in_executor(Some(pool), move || sleep_for_ever(begin)));
                begun.recv().unwrap();
            }
            KEPT.with(|pool| {
                let begin = begin.clone();
                drop(el.run_in_executor(Some(pool), move || sleep_for_ever(begin)));
            });
            begun.recv().unwrap();
        });
        drop(pool);
        println!("main ends");
    });
    program.ends_silently(0, "main ends\n");
}

/// EX-03: a job that ends, or panics, when its loop is gone does nothing but that; the panic is written to stderr.
#[test]
fn jobs_that_end_late() {
    let program = Program::new("jobs_that_end_late", || {
        struct Told(mpsc::Sender<&'static str>, &'static str);
        impl Drop for Told {
            fn drop(&mut self) {
                self.0.send(self.1).unwrap();
            }
        }
        let (tell, told) = mpsc::channel();
        let mut releases = Vec::new();
        let mut runner = brief().build();
        let run = runner.run(async {
            for panics in [false, true] {
                let (release, wait) = mpsc::channel::<()>();
                let (begin, begun) = mpsc::channel();
                let told = Told(tell.clone(), if panics { "unwound" } else { "dropped" });
                drop(spawn_blocking(move || {
                    begin.send(()).unwrap();
                    wait.recv().unwrap_err();
                    assert!(!panics, "a late panic");
                    told
                }));
                begun.recv().unwrap();
                releases.push(release);
            }
        });
        run.unwrap();
        runner.close();
        for release in releases {
            drop(release);
            println!("{}", told.recv().unwrap());
        }
    });
    for program in program.each() {
        let ended = program.end();
        ended.check(0, "dropped\nunwound\n");
        assert!(ended.stderr.contains("a late panic"), "{ended:#?}");
        assert!(ended.reports()[0].ends_with(" within 500ms: 2 blocking jobs"), "{ended:#?}");
    }
}

/// PO-06: threads that post callbacks and tasks without end hold up neither the end nor the process; they are told when
/// the loop is closed.
#[test]
fn threads_that_post_without_end() {
    let program = Program::new("threads_that_post_without_end", || {
        let (tell, told) = mpsc::channel();
        let mut runner = brief().build();
        let run = runner.run(async {
            let el = get_running_loop().unwrap();
            // What a task is cancelled by is no news.
            el.set_exception_handler(Some(std::rc::Rc::new(|_, _| ())));
            for with_tasks in [false, true] {
                let (remote, tell) = (el.remote(), tell.clone());
                thread::spawn(move || {
                    loop {
                        let posted = match with_tasks {
                            false => remote.call_soon_threadsafe(|| ()).map(drop),
                            // Not one that nothing can wake: debug mode would name them all.
                            true => remote.spawn(async || sleep(NEVER).await).map(drop),
                        };
                        if let Err(error) = posted {
                            tell.send(error).unwrap();
                            return;
                        }
                    }
                });
            }
            for _ in 0..10 {
                yield_now().await;
            }
        });
        run.unwrap();
        runner.close();
        assert_eq!([told.recv(), told.recv()], [Ok(LoopClosed); 2]);
        println!("main ends");
    });
    for program in program.each() {
        program.end().check(0, "main ends\n");
    }
}

/// PO-06: a thread that waits for a task, or a callback, of the loop is told that it will not come.
#[test]
fn threads_that_wait_for_the_loop() {
    let program = Program::new("threads_that_wait_for_the_loop", || {
        let mut runner = brief().build();
        let threads = runner.run(async {
            let remote = get_running_loop().unwrap().remote();
            let (other, (waiting, waits)) = (remote.clone(), mpsc::channel());
            let task = thread::spawn(move || {
                let task = other.spawn(async || pending::<()>().await).unwrap();
                waiting.send(()).unwrap();
                task.wait().unwrap_err()
            });
            waits.recv().unwrap();
            let later = thread::spawn(move || {
                loop {
                    // Until one of them is too late, which is told by either of two errors.
                    match remote.call_soon_threadsafe(|| ()).map(|handle| handle.wait()) {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => return error.is_closed(),
                        Err(LoopClosed) => return true,
                    }
                }
            });
            yield_now().await;
            (task, later)
        });
        let (task, later) = threads.unwrap();
        runner.close();
        let error = task.join().unwrap();
        println!("{} {}", error.is_cancelled() || error.is_closed(), later.join().unwrap());
    });
    program.ends_silently(0, "true true\n");
}

/// PO-06: a remote that outlives its loop is refused, on whichever thread, and a waker that does wakes nobody.
#[test]
fn remotes_and_wakers_that_outlive_the_loop() {
    let program = Program::new("remotes_and_wakers_that_outlive_the_loop", || {
        let (remote, waker) = block_on(async {
            let remote = get_running_loop().unwrap().remote();
            let waker = std::future::poll_fn(|cx| std::task::Poll::Ready(cx.waker().clone())).await;
            (remote, waker)
        });
        let other = thread::spawn(move || {
            waker.wake_by_ref();
            drop(waker);
            assert!(remote.stop().is_err() && remote.spawn(async || ()).is_err());
            remote.call_soon_threadsafe(|| println!("never")).map(drop)
        });
        println!("{:?}", other.join().unwrap());
    });
    program.ends_silently(0, "Err(LoopClosed)\n");
}

/// PO-06: a loop that runs on another thread ends with the process when main does.
#[test]
fn main_ends_before_the_loop_of_another_thread() {
    let program = Program::new("main_ends_before_the_loop_of_another_thread", || {
        for _ in 0..3 {
            let (tell, told) = mpsc::channel();
            thread::spawn(move || {
                block_on(async {
                    drop(spawn_blocking(|| thread::park_timeout(NEVER)));
                    tell.send(()).unwrap();
                    loop {
                        yield_now().await;
                    }
                })
            });
            told.recv().unwrap();
        }
        println!("main ends");
    });
    program.ends_silently(0, "main ends\n");
}

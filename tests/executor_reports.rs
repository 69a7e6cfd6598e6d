//! What becomes of a blocking job's panic when nobody awaits the job.

mod common;
#[path = "common/threads.rs"]
mod threads;

use std::io;
use std::sync::{Arc, Mutex, mpsc};

use common::{PATIENCE, complete, on_loop, run_until, settle, take_reports};
use roundelay::{Blocking, EventLoop, ThreadPoolExecutor};
use threads::{Bomb, wait_until};

/// A running job that panics with this text when it is told to.
fn panics_later(el: &EventLoop, text: &'static str) -> (Blocking<()>, mpsc::Sender<()>) {
    let (begin, begun) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel();
    let job = el.run_in_executor(None, move || {
        begin.send(()).unwrap();
        goes_on.recv_timeout(PATIENCE).unwrap();
        panic!("{text}");
    });
    begun.recv_timeout(PATIENCE).unwrap();
    (job, go_on)
}

/// Takes the one report there is, about a job of this file, and checks its text.
#[track_caller]
fn take_report(text: &str) {
    let reports = take_reports();
    assert_eq!(reports.len(), 1, "{reports:#?}");
    assert!(reports[0].contains("Exception in a blocking job that nobody awaits"), "{reports:#?}");
    assert!(reports[0].contains(text) && reports[0].contains("tests/executor_reports.rs"), "{reports:#?}");
}

fn reported() -> impl FnMut() -> bool {
    // The report is the only thing that this thread's handler may hear of.
    let mut seen = Vec::new();
    move || {
        seen.extend(take_reports());
        let done = !seen.is_empty();
        if done {
            assert_eq!(seen.len(), 1, "{seen:#?}");
        }
        done
    }
}

/// EH-07: forgotten while it runs: the loop hears of the panic from the other thread.
#[test]
fn forgotten_before_it_panics() {
    on_loop(|el| {
        let (job, go_on) = panics_later(el, "forgotten first");
        drop(job);
        go_on.send(()).unwrap();
        run_until(el, reported());
    });
}

/// EH-07: forgotten when it has panicked already, in a task.
#[test]
fn forgotten_after_it_panicked() {
    on_loop(|el| {
        let (job, go_on) = panics_later(el, "panicked first");
        go_on.send(()).unwrap();
        wait_until(|| job.is_done());
        complete(el, async move { drop(job) });
        take_report("panicked first");
    });
}

/// EH-07: the same outside of a run.
#[test]
fn forgotten_outside_of_a_run() {
    on_loop(|el| {
        let (job, go_on) = panics_later(el, "outside");
        go_on.send(()).unwrap();
        wait_until(|| job.is_done());
        drop(job);
        take_report("outside");
    });
}

/// EH-07: the same on another thread, whichever loop runs there.
#[test]
fn forgotten_on_another_thread() {
    on_loop(|el| {
        let (job, go_on) = panics_later(el, "elsewhere");
        go_on.send(()).unwrap();
        wait_until(|| job.is_done());
        std::thread::spawn(move || roundelay::block_on(async move { drop(job) })).join().unwrap();
        assert_eq!(take_reports(), [""; 0]);
        settle(el);
        take_report("elsewhere");
    });
}

/// EH-07: a loop that is closed before it gets to the report makes it while it closes.
#[test]
fn forgotten_by_a_closing_loop() {
    on_loop(|el| {
        let (job, go_on) = panics_later(el, "at the last moment");
        go_on.send(()).unwrap();
        wait_until(|| job.is_done());
        std::thread::spawn(move || drop(job)).join().unwrap();
        el.close();
        take_report("at the last moment");
    });
}

/// EH-07: when the loop is gone, the log has it.
#[test]
fn forgotten_when_the_loop_is_gone() {
    /// What the default subscriber of this process was told.
    static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    struct Writer;
    impl io::Write for Writer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            LOG.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let subscriber = tracing_subscriber::fmt().with_writer(|| Writer).with_ansi(false).finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let text = || String::from_utf8(LOG.lock().unwrap().clone()).unwrap();

    let mut parts = None;
    on_loop(|el| parts = Some((panics_later(el, "too late, running"), panics_later(el, "too late, kept"))));
    let ((running, end_running), (kept, end_kept)) = parts.unwrap();
    drop(running);
    end_running.send(()).unwrap();
    end_kept.send(()).unwrap();
    wait_until(|| kept.is_done());
    drop(kept);
    wait_until(|| text().contains("too late, running"));
    assert!(text().contains("too late, kept"), "{}", text());
    assert!(text().contains("Exception in a blocking job that nobody awaits"), "{}", text());
}

/// A result that nobody wants is dropped; a destructor that panics is reported.
#[test]
fn an_unwanted_result_that_panics() {
    on_loop(|el| {
        let (go_on, goes_on) = mpsc::channel::<()>();
        drop(el.run_in_executor(None, move || {
            goes_on.recv_timeout(PATIENCE).unwrap();
            Bomb
        }));
        go_on.send(()).unwrap();
        run_until(el, reported());
    });
}

/// LR-05: a queued function whose destructor panics is reported when the loop closes, and the rest is closed as well.
#[test]
fn a_queued_function_whose_destructor_panics() {
    on_loop(|el| {
        let pool = ThreadPoolExecutor::default();
        let limit = 32.min(std::thread::available_parallelism().unwrap().get() + 4);
        let (end, ended) = mpsc::channel::<()>();
        let ended = Arc::new(Mutex::new(ended));
        let running: Vec<_> = (0..limit)
            .map(|_| {
                let (ended, begun) = (ended.clone(), mpsc::channel());
                let job = el.run_in_executor(None, move || {
                    begun.0.send(()).unwrap();
                    let _ = ended.lock().unwrap().recv_timeout(PATIENCE);
                });
                begun.1.recv_timeout(PATIENCE).unwrap();
                job
            })
            .collect();
        let bombs = [Bomb, Bomb].map(|bomb| {
            el.run_in_executor(None, move || {
                let _bomb = &bomb;
            })
        });
        let after = el.run_in_executor(None, || ());
        el.close();
        let reports = take_reports();
        assert_eq!(reports.len(), 2, "{reports:#?}");
        assert!(reports.iter().all(|report| report.contains("boom")), "{reports:#?}");
        assert!(bombs.iter().all(Blocking::is_done) && after.is_done());
        drop(end);
        for job in running {
            futures::executor::block_on(job).unwrap();
        }
        drop(pool);
    });
}

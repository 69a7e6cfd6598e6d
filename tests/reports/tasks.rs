//! Tasks, futures and jobs: their panics, and their errors where `report_errors` asks for them.

use std::error::Error;
use std::fmt;
use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as Cx, Waker};

use roundelay::{EventLoop, TaskGroup, ThreadPoolExecutor, gather, yield_now};
use tracing::Level;

use crate::collector::collect;
use crate::common::{self, complete, on_loop, run_until, settle};
use crate::support::{Bomb, Case, check, full, watch};

/// EH-07: tasks that panic or fail, with nobody to look at it.
#[test]
fn tasks() {
    check(
        file!(),
        &[
            Case {
                about: "task",
                text: "Exception in a task that nobody awaits: boom\n  <Task ended name=\"lost\" id=* polls=2 spawned at @>",
                run: |el| {
                    let boom = async {
                        yield_now().await;
                        panic!("boom")
                    };
                    let line = line!() + 1;
                    drop(el.task_builder().name("lost").spawn(boom));
                    line
                },
            },
            Case {
                about: "task",
                text: "Task exception was never retrieved: boom\n  <Task ended name=\"Task-*\" id=* polls=1 spawned at @>",
                run: |el| {
                    let line = line!() + 1;
                    let task = el.create_task(async { panic!("boom") });
                    settle(el);
                    drop::<roundelay::Task<()>>(task);
                    line
                },
            },
            Case {
                about: "task",
                text: "Exception in a task that nobody awaits: boom\n  <Task ended name=\"Task-*\" id=* polls=1 spawned at @>",
                run: |el| {
                    let remote = el.remote();
                    let line = line!() + 1;
                    let spawn = move || drop(remote.spawn(|| async { panic!("boom") }).unwrap());
                    std::thread::spawn(spawn).join().unwrap();
                    line
                },
            },
            Case {
                about: "task",
                text: "Exception in the destructor of a task's future: boom\n  <Task running name=* polls=2 spawned at @>",
                run: |el| {
                    let bomb = Bomb;
                    let holds = async move {
                        let _bomb = bomb;
                        pending::<()>().await
                    };
                    let line = line!() + 1;
                    let task = el.create_task(holds);
                    settle(el);
                    task.cancel();
                    line
                },
            },
            Case {
                about: "",
                text: "Exception in the destructor of a task's output: boom",
                run: |el| {
                    drop(el.create_task(async { Bomb }));
                    0
                },
            },
            Case {
                about: "future",
                text: "Future exception was never retrieved: cannot save\n  caused by: the disk is full\n  \
                   <LoopFuture created at @>",
                run: |el| {
                    let line = line!() + 1;
                    let future = el.create_future::<()>();
                    future.set_exception(full()).unwrap();
                    line
                },
            },
            // Of `gather`, which was dropped before it could give it to anybody.
            Case {
                about: "task",
                text: "Task exception was never retrieved: boom\n  <Task ended name=* spawned at @>",
                run: |el| {
                    el.run_until_complete(async {
                        let boom: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async { panic!("boom") });
                        let line = line!() + 1;
                        let gathering = gather([boom, Box::pin(pending())]);
                        for _ in 0..3 {
                            yield_now().await;
                        }
                        drop(gathering);
                        line
                    })
                    .unwrap()
                },
            },
            Case {
                about: "",
                text: "Exception in a task group whose scope was dropped: one: no luck\n  created at @",
                run: |el| {
                    let line = line!() + 1;
                    let scope = TaskGroup::scope(async |group| {
                        group.task_builder().name("one").spawn(async { Err::<(), _>("no luck") });
                        pending::<()>().await
                    });
                    // Dropped before it is polled again.
                    let mut scope = Box::pin(scope);
                    el.run_until_complete(async {
                        assert!(scope.as_mut().poll(&mut Cx::from_waker(Waker::noop())).is_pending());
                        yield_now().await;
                        yield_now().await;
                    })
                    .unwrap();
                    drop(scope);
                    line
                },
            },
        ],
    );
}

/// Errors of tasks and jobs that nobody awaits, by `report_errors`: with their causes, each said once.
#[test]
fn errors_by_report_errors() {
    check(
        file!(),
        &[
            Case {
                about: "task",
                text: "Error in a task that nobody awaits: cannot save\n  caused by: the disk is full\n  \
                   <Task ended name=\"saver\" id=* polls=2 spawned at @>",
                run: |el| {
                    let fails = async {
                        yield_now().await;
                        Err::<(), _>(full())
                    };
                    let line = line!() + 1;
                    el.task_builder().name("saver").spawn(fails).report_errors();
                    line
                },
            },
            // One that is done.
            Case {
                about: "task",
                text: "Error in a task that nobody awaits: no luck\n  <Task ended name=\"Task-*\" id=* polls=1 spawned at @>",
                run: |el| {
                    let line = line!() + 1;
                    let task = el.create_task(async { Err::<(), _>("no luck") });
                    settle(el);
                    task.report_errors();
                    line
                },
            },
            // A panic is what it is anyway.
            Case {
                about: "task",
                text: "Exception in a task that nobody awaits: boom\n  <Task ended name=\"Task-*\" id=* polls=1 spawned at @>",
                run: |el| {
                    let line = line!() + 1;
                    el.create_task(async { if true { panic!("boom") } else { Err::<(), _>("no luck") } })
                        .report_errors();
                    line
                },
            },
            Case {
                about: "task",
                text: "Error in a task that nobody awaits: no luck\n  <Task running name=\"Task-*\" id=* spawned at @>",
                run: |el| {
                    let remote = el.remote();
                    let line = line!() + 1;
                    let spawn = move || remote.spawn(|| async { Err::<(), _>("no luck") }).unwrap().report_errors();
                    std::thread::spawn(spawn).join().unwrap();
                    line
                },
            },
            Case {
                about: "",
                text: "Error in a task that nobody awaits: no luck\n  created at @",
                run: |el| {
                    let remote = el.remote();
                    let line = line!() + 1;
                    let task = std::thread::spawn(move || remote.spawn(|| async { Err::<(), _>("no luck") }).unwrap());
                    let task = task.join().unwrap();
                    run_until(el, || task.is_done());
                    std::thread::spawn(move || task.report_errors()).join().unwrap();
                    line
                },
            },
            Case {
                about: "handle",
                text: "Error in a blocking job that nobody awaits: cannot save\n  caused by: the disk is full\n  \
                   <Handle reports::* at @>",
                run: |el| {
                    let line = line!() + 1;
                    el.run_in_executor(None, || Err::<(), _>(full())).report_errors();
                    line
                },
            },
            Case {
                about: "handle",
                text: "Error in a blocking job that nobody awaits: no luck\n  <Handle reports::* at @>",
                run: |el| {
                    let line = line!() + 1;
                    let job = el.run_in_executor(None, || Err::<(), _>("no luck"));
                    run_until(el, || job.is_done());
                    job.report_errors();
                    line
                },
            },
            Case {
                about: "handle",
                text: "Exception in a blocking job that nobody awaits: boom\n  <Handle reports::* at @>",
                run: |el| {
                    let line = line!() + 1;
                    drop(el.run_in_executor(None, || panic!("boom")));
                    line
                },
            },
            Case {
                about: "",
                text: "EventLoop::run_in_executor(): *\n  created at @",
                run: |el| {
                    let pool = ThreadPoolExecutor::new(1);
                    assert!(complete(el, pool.shutdown(None)));
                    let line = line!() + 1;
                    drop(el.run_in_executor(Some(&pool), || ()));
                    line
                },
            },
        ],
    );
}

/// `report_errors` takes whatever is an error, and says nothing where there is none: of a task that succeeds, is cancelled,
/// was asked already, or ends with its loop.
#[test]
fn report_errors_of_all_kinds() {
    on_loop(|el| {
        let seen = watch(el);
        el.create_task(async { Err::<(), String>("a String".into()) }).report_errors();
        el.create_task(async { Err::<(), _>(io::Error::other("an io::Error")) }).report_errors();
        el.create_task(async { Err::<(), Box<dyn Error>>("a boxed one".into()) }).report_errors();
        el.create_task(async { Err::<(), Box<dyn Error + Send + Sync>>("one that is Send".into()) }).report_errors();
        // What is not `Send` may hold an `Rc`.
        #[derive(Debug)]
        struct Local(Rc<str>);
        impl fmt::Display for Local {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl Error for Local {}
        el.create_task(async { Err::<(), _>(Local("of this thread".into())) }).report_errors();
        settle(el);
        let texts = ["a String", "an io::Error", "a boxed one", "one that is Send", "of this thread"];
        let reports = seen.take();
        assert_eq!(reports.len(), texts.len(), "{reports:#?}");
        for ((_, report), text) in reports.iter().zip(texts) {
            assert!(report.starts_with(&format!("Error in a task that nobody awaits: {text}\n")), "{report}");
        }

        let fine = el.create_task(async { Ok::<_, io::Error>(Rc::new(5)) });
        let mut awaited = el.create_task(async { Err::<(), _>("seen") });
        assert!(el.run_until_complete(&mut awaited).unwrap().unwrap().is_err());
        awaited.report_errors();
        fine.report_errors();
        let cancelled = el.create_task(async { pending::<Result<(), io::Error>>().await });
        cancelled.cancel();
        cancelled.report_errors();
        el.run_in_executor(None, || Ok::<_, io::Error>(5)).report_errors();
        complete(el, el.shutdown_default_executor(None));
        el.create_task(async { pending::<Result<(), io::Error>>().await }).report_errors();
        settle(el);
        el.close();
        assert!(seen.take().is_empty());
        common::watch_reports(el);
    });
}

/// What an error turns into may be made by the application: a panic there is reported, and the loop goes on.
#[test]
fn an_error_that_cannot_be_had() {
    struct Broken;
    impl From<Broken> for Box<dyn Error> {
        fn from(_: Broken) -> Self {
            panic!("no error")
        }
    }
    on_loop(|el| {
        let seen = watch(el);
        el.create_task(async { Err::<(), _>(Broken) }).report_errors();
        settle(el);
        el.run_in_executor(None, || Err::<(), _>(Broken)).report_errors();
        complete(el, el.shutdown_default_executor(None));
        settle(el);
        let texts: Vec<String> = seen.take().into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(texts[0].starts_with("Error in a task that nobody awaits: no error\n"), "{texts:?}");
        assert!(texts[1].starts_with("Error in a blocking job that nobody awaits: no error\n"), "{texts:?}");
        common::watch_reports(el);
    });
}

/// Errors that come when the loop is gone are in the log.
#[test]
fn errors_that_outlive_the_loop() {
    on_loop(|_| {
        let other = EventLoop::new().unwrap();
        let task = other.create_task(async { Err::<(), _>(full()) });
        let job = other.run_in_executor(None, || Err::<(), _>(full()));
        settle(&other);
        complete(&other, other.shutdown_default_executor(None));
        drop(other);
        let ((), written) = collect(|| {
            task.report_errors();
            job.report_errors();
        });
        let [(Level::ERROR, of_task), (Level::ERROR, of_job)] = &written[..] else { panic!("{written:?}") };
        for (text, what) in [(of_task, "a task"), (of_job, "a blocking job")] {
            let head = format!("Error in {what} that nobody awaits: cannot save\n  caused by: the disk is full\n  <");
            assert!(text.starts_with(&head) && text.contains(" at tests/reports/tasks.rs:"), "{text}");
        }
    });
}

//! The task factory: what it sees, what it may do, what happens where it fails (behaviours TF).

mod common;

use std::future::Future;
use std::io;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use common::{DropCounter, DropGuard, Log, complete, on_loop, settle, take_reports};
use roundelay::{
    AbstractEventLoop, AbstractHandle, EventLoop, ExceptionContext, Task, TaskFactory, TaskMeta, get_running_loop,
    spawn, yield_now,
};

/// A factory that logs the beginning and the end of each task.
fn logging(log: &Log) -> TaskFactory {
    let log = log.clone();
    Rc::new(move |_, future, meta| {
        let (log, name) = (log.clone(), meta.name.clone().unwrap_or_else(|| "unnamed".into()));
        log.push(format!("make {name}"));
        Box::pin(async move {
            log.push(format!("start {name}"));
            future.await;
            log.push(format!("end {name}"));
        })
    })
}

/// TF-01: the factory makes every task, by whichever way it is spawned; `None` brings the default back; the getter says
/// what was set.
#[test]
fn every_task_is_made_by_the_factory() {
    on_loop(|el| {
        assert!(el.task_factory().is_none());
        let log = Log::new();
        let factory = logging(&log);
        el.set_task_factory(Some(factory.clone()));
        assert!(Rc::ptr_eq(&el.task_factory().unwrap(), &factory));
        let made = || log.take().iter().filter(|entry| entry.starts_with("make")).count();

        assert_eq!(complete(el, el.create_task(async { 1 })).unwrap(), 1);
        assert_eq!(complete(el, el.task_builder().name("b").spawn(async { 2 })).unwrap(), 2);
        assert_eq!(complete(el, async { spawn(async { 3 }).await }).unwrap(), 3);
        assert_eq!(made(), 3, "and none for the roots");
        let remote = el.remote().spawn(|| async { 4 }).unwrap();
        settle(el);
        assert_eq!(remote.wait().unwrap(), 4);
        AbstractEventLoop::spawn(el, Box::pin(async {}));
        settle(el);
        assert_eq!(made(), 2);

        el.set_task_factory(None);
        assert!(el.task_factory().is_none());
        assert_eq!(complete(el, el.create_task(async { 5 })).unwrap(), 5);
        assert_eq!(log.len(), 0);
        assert_eq!(Rc::strong_count(&factory), 1);
    });
}

/// A wrapper runs around its task, in the task's turns; what the task returns and how it ends is not changed by it.
#[test]
fn a_wrapper_runs_around_the_task() {
    on_loop(|el| {
        let log = Log::new();
        el.set_task_factory(Some(logging(&log)));
        let own = log.clone();
        let task = el.task_builder().name("t").spawn(async move {
            own.push("body");
            yield_now().await;
            "output"
        });
        assert_eq!(log.take(), ["make t"]);
        settle(el);
        assert_eq!(log.take(), ["start t", "body", "end t"]);
        assert_eq!(complete(el, task).unwrap(), "output");

        let cancelled = el.task_builder().name("c").spawn(std::future::pending::<()>());
        settle(el);
        cancelled.cancel();
        assert!(complete(el, cancelled).unwrap_err().is_cancelled());
        let panicked: Task<()> = el.task_builder().name("p").spawn(async { panic!("of the task") });
        assert_eq!(complete(el, panicked).unwrap_err().to_string(), "panicked: of the task");
        assert_eq!(log.take(), ["make c", "start c", "make p", "start p"]);
    });
}

/// TF-03: a task has the name that was given to it whatever the factory makes of it, and is found by it; the factory sees
/// the name, the number and the place.
#[test]
fn the_name_is_the_tasks() {
    on_loop(|el| {
        let log = Log::new();
        let seen = log.clone();
        el.set_task_factory(Some(Rc::new(move |el, future, meta: &TaskMeta| {
            assert!(el.all_tasks().iter().all(|task| task.id != meta.id), "it is not made yet");
            seen.push(format!("{:?} {} line {}", meta.name, meta.id, meta.spawned_at.line()));
            let id = meta.id;
            Box::pin(async move {
                assert_eq!(get_running_loop().unwrap().current_task().unwrap().id, id);
                future.await;
            })
        })));
        let line = line!() + 1;
        let named = el.task_builder().name("given").spawn(async {});
        let unnamed = el.create_task(async {});
        let expected =
            [format!("Some(\"given\") {} line {line}", named.id()), format!("None {} line {}", unnamed.id(), line + 1)];
        assert_eq!(log.take(), expected);
        assert_eq!(&*named.name(), "given");
        assert_eq!(*unnamed.name(), format!("Task-{}", unnamed.id()));
        named.set_name("changed");
        settle(el);
        assert_eq!(&*named.name(), "changed");
    });
}

/// TF-05: a panic of the factory surfaces from `create_task`: no task is made, the future is dropped, the loop goes on.
#[test]
fn a_factory_that_panics() {
    on_loop(|el| {
        el.set_task_factory(Some(Rc::new(|_, _, _| panic!("no tasks today"))));
        let drops = DropCounter::new();
        let guard = drops.guard();
        let made = catch_unwind(AssertUnwindSafe(|| {
            el.create_task(async move {
                let _guard = guard;
            })
        }));
        assert_eq!(made.err().unwrap().downcast_ref::<&str>(), Some(&"no tasks today"));
        assert_eq!(drops.count(), 1);
        assert!(el.all_tasks().is_empty());
        assert_eq!(el.stats().tasks.opened, 0);

        // Inside of a task it is that task's panic.
        el.set_task_factory(None);
        let handle = el.clone();
        let task = el.create_task(async move {
            handle.set_task_factory(Some(Rc::new(|_, _, _| panic!("not here either"))));
            drop(spawn(async {}));
        });
        assert_eq!(complete(el, task).unwrap_err().to_string(), "panicked: not here either");
        el.set_task_factory(None);
        assert_eq!(complete(el, el.create_task(async { 1 })).unwrap(), 1);
    });
}

/// A wrapper that panics is a task that panics: also after the task itself has come to its end.
#[test]
fn a_wrapper_that_panics() {
    on_loop(|el| {
        let drops = DropCounter::new();
        for early in [true, false] {
            el.set_task_factory(Some(Rc::new(move |_, future, _| {
                Box::pin(async move {
                    assert!(!early, "too early");
                    future.await;
                    panic!("too late");
                })
            })));
            let guard = drops.guard();
            let task = el.create_task(async move { guard });
            let error = complete(el, task).err().unwrap();
            assert_eq!(error.to_string(), if early { "panicked: too early" } else { "panicked: too late" });
        }
        assert_eq!(drops.count(), 2);
        drop(el.create_task(async {}));
        settle(el);
        assert!(take_reports()[0].contains("nobody awaits: too late"));
    });
}

/// A wrapper that ends without having polled the task to its end leaves it cancelled, with its future dropped.
#[test]
fn a_wrapper_that_gives_up() {
    on_loop(|el| {
        let drops = DropCounter::new();
        el.set_task_factory(Some(Rc::new(|_, mut future, _| {
            Box::pin(async move {
                // Once, and never again.
                std::future::poll_fn(|cx| {
                    let _ = future.as_mut().poll(cx);
                    std::task::Poll::Ready(())
                })
                .await;
            })
        })));
        let guard = drops.guard();
        let task = el.create_task(async move {
            let _guard = guard;
            yield_now().await;
            unreachable!("given up")
        });
        let told = Log::new();
        let note = told.clone();
        task.add_done_callback(move |outcome| note.push(format!("{outcome:?}")));
        settle(el);
        assert!(task.is_cancelled());
        assert_eq!((drops.count(), told.take()), (1, vec!["Cancelled".to_string()]));
        assert!(complete::<Task<()>>(el, task).unwrap_err().is_cancelled());

        // One that drops the future on the spot, and never awaits anything.
        el.set_task_factory(Some(Rc::new(|_, _, _| Box::pin(std::future::ready(())))));
        let guard = drops.guard();
        let task = el.create_task(async move { drop(guard) });
        assert_eq!(drops.count(), 2);
        assert!(complete(el, task).unwrap_err().is_cancelled());
    });
}

/// A factory may make tasks itself, and may replace itself; it does so for the next task.
#[test]
fn a_factory_that_makes_tasks() {
    on_loop(|el| {
        let log = Log::new();
        let own = log.clone();
        el.set_task_factory(Some(Rc::new(move |el, future, _| {
            el.set_task_factory(None);
            let entry = own.entry("from the factory");
            drop(el.create_task(async move { entry() }));
            future
        })));
        let entry = log.entry("task");
        complete(el, el.create_task(async move { entry() })).unwrap();
        assert_eq!(log.take(), ["from the factory", "task"]);
        assert!(el.task_factory().is_none());
    });
}

/// On a closed loop the factory is not asked; closing lets go of it.
#[test]
fn no_factory_on_a_closed_loop() {
    on_loop(|el| {
        let drops = DropCounter::new();
        let guard = drops.guard();
        el.set_task_factory(Some(Rc::new(move |_, _, _| {
            let _ = &guard;
            unreachable!("there is nothing to make")
        })));
        el.close();
        assert_eq!(drops.count(), 1);
        assert!(el.task_factory().is_none());
        assert!(el.create_task(async {}).is_done());
        assert_eq!(take_reports().len(), 1);
    });
}

/// LR-02: a factory that closes the loop leaves nobody to run the task: what it made is dropped unpolled, and that is told.
#[test]
fn a_factory_that_closes_the_loop() {
    on_loop(|el| {
        let drops = DropCounter::new();
        let guard = drops.guard();
        el.set_task_factory(Some(Rc::new(|el, future, _| {
            el.close();
            future
        })));
        let task = el.create_task(async move {
            let _guard = guard;
            unreachable!("the loop is closed")
        });
        assert_eq!(drops.count(), 1);
        let mut task: Task<()> = task;
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let std::task::Poll::Ready(Err(error)) = Pin::new(&mut task).poll(&mut cx) else { panic!("{task:?}") };
        assert!(error.is_closed());
        let reports = take_reports();
        assert_eq!(reports.len(), 1, "{reports:#?}");
        assert!(reports[0].contains("EventLoop::create_task(): event loop is closed"), "{reports:#?}");
    });
}

/// LR-02: so does what only becomes a future when it is asked to, with a factory and without.
#[test]
fn an_into_future_that_closes_the_loop() {
    struct Closes(EventLoop, DropCounter);
    struct Never(#[allow(dead_code)] DropGuard);
    impl IntoFuture for Closes {
        type Output = ();
        type IntoFuture = Never;
        fn into_future(self) -> Never {
            self.0.close();
            Never(self.1.guard())
        }
    }
    impl Future for Never {
        type Output = ();
        fn poll(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<()> {
            unreachable!("the loop is closed")
        }
    }
    for factory in [None, Some(logging(&Log::new()))] {
        on_loop(|el| {
            let drops = DropCounter::new();
            el.set_task_factory(factory);
            let task = el.task_builder().name("late").spawn(Closes(el.clone(), drops.clone()));
            assert!(task.is_done() && !task.is_cancelled(), "{task:?}");
            assert_eq!(drops.count(), 1);
            assert_eq!(take_reports().len(), 1);
        });
    }
}

/// TF-06: code that spawns on an `AbstractEventLoop` goes by the loop's own `spawn`, whatever that does.
#[test]
fn a_loop_that_spawns_otherwise() {
    /// A loop that is another one, and names its tasks.
    struct Naming<'a>(&'a EventLoop);

    impl AbstractEventLoop for Naming<'_> {
        fn spawn(&self, future: Pin<Box<dyn Future<Output = ()>>>) {
            drop(self.0.task_builder().name("named by the loop").spawn(future));
        }
        fn run_forever(&self) {
            self.0.run_forever();
        }
        fn run_once(&self, timeout: Option<Duration>) -> io::Result<usize> {
            self.0.run_once(timeout)
        }
        fn stop(&self) {
            self.0.stop();
        }
        fn close(&self) {
            self.0.close();
        }
        fn is_running(&self) -> bool {
            self.0.is_running()
        }
        fn is_closed(&self) -> bool {
            self.0.is_closed()
        }
        fn time(&self) -> Instant {
            self.0.time()
        }
        fn call_soon(&self, callback: Box<dyn FnOnce()>) -> Box<dyn AbstractHandle> {
            AbstractEventLoop::call_soon(self.0, callback)
        }
        fn call_later(&self, delay: Duration, callback: Box<dyn FnOnce()>) -> Box<dyn AbstractHandle> {
            AbstractEventLoop::call_later(self.0, delay, callback)
        }
        fn call_at(&self, when: Instant, callback: Box<dyn FnOnce()>) -> Box<dyn AbstractHandle> {
            AbstractEventLoop::call_at(self.0, when, callback)
        }
        fn call_soon_threadsafe(&self, callback: Box<dyn FnOnce() + Send>) -> bool {
            AbstractEventLoop::call_soon_threadsafe(self.0, callback)
        }
        fn add_reader(&self, fd: BorrowedFd<'_>, callback: Box<dyn FnMut()>) -> io::Result<()> {
            self.0.add_reader(fd, callback)
        }
        fn remove_reader(&self, fd: BorrowedFd<'_>) -> bool {
            self.0.remove_reader(fd)
        }
        fn add_writer(&self, fd: BorrowedFd<'_>, callback: Box<dyn FnMut()>) -> io::Result<()> {
            self.0.add_writer(fd, callback)
        }
        fn remove_writer(&self, fd: BorrowedFd<'_>) -> bool {
            self.0.remove_writer(fd)
        }
        fn call_exception_handler(&self, context: &ExceptionContext<'_>) {
            self.0.call_exception_handler(context);
        }
        fn default_exception_handler(&self, context: &ExceptionContext<'_>) {
            self.0.default_exception_handler(context);
        }
        fn debug(&self) -> bool {
            self.0.debug()
        }
        fn set_debug(&self, debug: bool) {
            self.0.set_debug(debug);
        }
    }

    /// A library's function.
    fn background(el: &dyn AbstractEventLoop, log: &Log) {
        let log = log.clone();
        el.spawn(Box::pin(async move {
            let name = get_running_loop().unwrap().current_task().unwrap().name;
            log.push(name.to_string());
        }));
    }

    on_loop(|el| {
        let log = Log::new();
        background(&Naming(el), &log);
        background(el, &log);
        settle(el);
        let names = log.take();
        assert_eq!(names[0], "named by the loop");
        assert!(names[1].starts_with("Task-"), "{names:?}");
    });
}

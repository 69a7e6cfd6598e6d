//! Eager tasks: what happens inside of `spawn`, and that they are tasks as any others after that (behaviours TF).

mod common;
#[path = "common/tcp.rs"]
mod tcp;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use common::{DropCounter, Log, complete, on_loop, on_manual_clock, settle, take_reports};
use roundelay::{
    Context, ContextVar, EventLoop, Fatal, StreamReader, StreamWriter, Task, TaskId, TaskInfo, TaskState,
    cancel_requested, get_running_loop, sleep, spawn, yield_now,
};

/// Runs a function inside of the loop, in a callback.
fn inside<T: 'static>(el: &EventLoop, f: impl FnOnce(&EventLoop) -> T + 'static) -> T {
    let handle = el.clone();
    complete(el, el.call_soon(move || f(&handle))).unwrap()
}

fn eager<T: 'static>(el: &EventLoop, future: impl Future<Output = T> + 'static) -> Task<T> {
    el.task_builder().eager(true).spawn(future)
}

fn current() -> Option<TaskInfo> {
    get_running_loop().unwrap().current_task()
}

/// TF-07: the body runs inside of `spawn`; one that never waits is done when that returns, and no turn was needed for it.
#[test]
fn done_at_once() {
    on_loop(|el| {
        let log = Log::new();
        let own = log.clone();
        let (task, turns) = inside(el, move |el| {
            own.push("before");
            let body = own.clone();
            let turns = el.stats().turns;
            let task = eager(el, async move {
                body.push("body");
                7
            });
            own.push("after");
            assert!(task.is_done() && !task.is_cancelled());
            (task, el.stats().turns - turns)
        });
        assert_eq!((log.take(), turns), (["before", "body", "after"].map(String::from).to_vec(), 0));
        assert_eq!(complete(el, task).unwrap(), 7);
    });
}

/// TF-07: awaiting what is ready already is no wait: a future that is set, a task that is done.
#[test]
fn what_is_ready_is_not_waited_for() {
    on_loop(|el| {
        let future = el.create_future();
        future.set_result(2).unwrap();
        let task = inside(el, move |el| {
            let first = eager(el, async { 1 });
            let task = eager(el, async move { first.await.unwrap() + future.await.unwrap() });
            assert!(task.is_done());
            task
        });
        assert_eq!(complete(el, task).unwrap(), 3);
    });
}

/// TF-07: the body runs up to where it first has to wait; without `eager` it begins in the next turn.
#[test]
fn up_to_the_first_wait() {
    on_loop(|el| {
        let log = Log::new();
        let own = log.clone();
        inside(el, move |el| {
            for eager in [true, false] {
                let body = own.clone();
                drop(el.task_builder().eager(eager).spawn(async move {
                    body.push(format!("{eager} begins"));
                    yield_now().await;
                    body.push(format!("{eager} ends"));
                }));
                own.push(format!("{eager} made"));
            }
            assert_eq!(own.take(), ["true begins", "true made", "false made"]);
        });
        settle(el);
        assert_eq!(log.take(), ["true ends", "false begins", "false ends"]);
    });
}

/// TF-08: during the step the new task is the current one, and all tasks include it; after that the one before is, and one
/// that is done is not listed any more.
#[test]
fn the_current_task() {
    on_loop(|el| {
        let handle = el.clone();
        let parent = el.task_builder().name("parent").spawn(async move {
            let listed = |id: TaskId| handle.all_tasks().iter().any(|task| task.id == id);
            let parent = current().unwrap();
            let seen = Rc::new(RefCell::new(None));
            for waits in [false, true] {
                let (el, note) = (handle.clone(), seen.clone());
                let child = handle.task_builder().name("child").eager(true).spawn(async move {
                    let me = current().unwrap();
                    assert_eq!((&*me.name, me.state, me.polls), ("child", TaskState::Running, 1));
                    assert!(el.all_tasks().iter().any(|task| task.id == me.id));
                    // Whoever makes it is being polled, too.
                    let states: Vec<_> = el.all_tasks().iter().map(|task| (task.name.clone(), task.state)).collect();
                    assert!(states.contains(&("parent".into(), TaskState::Running)), "{states:?}");
                    *note.borrow_mut() = Some(me.id);
                    if waits {
                        pending::<()>().await;
                    }
                });
                assert_eq!(seen.take(), Some(child.id()));
                assert_eq!(current().unwrap().id, parent.id);
                assert_eq!(current().unwrap().state, TaskState::Running);
                assert_eq!((child.is_done(), listed(child.id())), (!waits, waits));
                child.cancel();
            }
        });
        complete(el, parent).unwrap();
        let none = inside(el, |el| {
            drop(eager(el, async { assert!(current().is_some()) }));
            current().is_none()
        });
        assert!(none);
    });
}

/// TF-09: a task that has to wait is one as any other from then on: it is awaited, woken, timed, detached.
#[test]
fn after_the_first_wait() {
    on_manual_clock(|el, clock| {
        let future = el.create_future();
        let awaited = future.clone();
        let (task, detached) = inside(el, move |el| {
            let log = Log::new();
            let own = log.clone();
            drop(eager(el, async move {
                own.push("began");
                sleep(Duration::from_secs(1)).await;
                own.push("woke");
            }));
            (eager(el, async move { awaited.await.unwrap() }), log)
        });
        assert!(!task.is_done());
        assert_eq!(detached.take(), ["began"]);
        clock.advance(Duration::from_secs(1));
        future.set_result("value").unwrap();
        settle(el);
        assert_eq!(detached.take(), ["woke"]);
        assert!(task.is_done());
        assert_eq!(complete(el, task).unwrap(), "value");
        assert!(el.all_tasks().is_empty());
    });
}

/// TF-09: cancelling after the first step drops the future at its wait; asking it nicely works, too.
#[test]
fn cancelled_after_the_first_step() {
    on_manual_clock(|el, _| {
        let drops = DropCounter::new();
        let (guard, log) = (drops.guard(), Log::new());
        let told = log.clone();
        let (cancelled, asked) = inside(el, move |el| {
            let cancelled = eager(el, async move {
                let _guard = guard;
                pending::<()>().await
            });
            cancelled.add_done_callback(move |outcome| told.push(format!("{outcome:?}")));
            assert!(cancelled.cancel());
            assert!(!cancelled.is_done());
            let asked = eager(el, async {
                cancel_requested().await;
                "cleaned"
            });
            assert!(asked.cancel_gracefully(Duration::from_secs(1)));
            (cancelled, asked)
        });
        settle(el);
        assert!(cancelled.is_cancelled());
        assert_eq!((drops.count(), log.take()), (1, vec!["Cancelled".to_owned()]));
        assert!(complete(el, cancelled).unwrap_err().is_cancelled());
        assert_eq!(complete(el, asked).unwrap(), "cleaned");
    });
}

/// TF-10: cancelling one that is done already changes nothing.
#[test]
fn cancelled_when_done() {
    on_loop(|el| {
        let task = inside(el, |el| {
            let task = eager(el, async { 1 });
            assert!(!task.cancel() && !task.is_cancelled());
            task
        });
        assert_eq!(complete(el, task).unwrap(), 1);
    });
}

/// A task that cancels itself in its first step is dropped at its first wait, in its turn.
#[test]
fn cancelling_oneself_in_the_first_step() {
    on_loop(|el| {
        let drops = DropCounter::new();
        let guard = drops.guard();
        let task = inside(el, move |el| {
            eager(el, async move {
                let _guard = guard;
                current().unwrap().cancel();
                yield_now().await;
                unreachable!("it was cancelled")
            })
        });
        let _: &Task<()> = &task;
        settle(el);
        assert!(task.is_cancelled());
        assert_eq!(drops.count(), 1);
    });
}

/// TF-11: the first step runs in the task's own copy of the context: what it sets stays there, and is there after the
/// wait; with `context` it is that one.
#[test]
fn the_context() {
    static VAR: ContextVar<&str> = ContextVar::with_default("var", || "default");
    on_loop(|el| {
        let handle = el.clone();
        let task = el.create_task(async move {
            VAR.set("parent's");
            let child = eager(&handle, async {
                let inherited = VAR.get().unwrap();
                VAR.set("child's");
                yield_now().await;
                (inherited, VAR.get().unwrap())
            });
            assert_eq!(VAR.get(), Some("parent's"));
            let done = eager(&handle, async { drop(VAR.set("done")) });
            assert!(done.is_done());
            assert_eq!(VAR.get(), Some("parent's"));

            let context = Context::new();
            let shared = handle.task_builder().context(&context).eager(true).spawn(async {
                let inherited = VAR.get().unwrap();
                VAR.set("shared");
                inherited
            });
            assert!(shared.is_done());
            assert_eq!(context.run(|| VAR.get()), Some("shared"));
            assert_eq!(VAR.get(), Some("parent's"));
            (child.await.unwrap(), shared.await.unwrap())
        });
        assert_eq!(complete(el, task).unwrap(), (("parent's", "child's"), "default"));
    });
}

/// A panic in the first step stays with the task, as any: whoever makes it goes on, and whoever awaits it gets it; where
/// nobody does, it is reported.
#[test]
fn a_panic_in_the_first_step() {
    on_loop(|el| {
        let (awaited, lost) = inside(el, |el| {
            let awaited: Task<()> = eager(el, async { panic!("seen") });
            let lost: Task<()> = el.task_builder().name("lost").eager(true).spawn(async { panic!("not seen") });
            assert!(awaited.is_done() && lost.is_done());
            (awaited, lost)
        });
        drop(lost);
        let reports = take_reports();
        assert_eq!(reports.len(), 1, "{reports:?}");
        for part in ["never retrieved", "not seen", "lost", "tests/eager_tasks.rs:"] {
            assert!(reports[0].contains(part), "{}", reports[0]);
        }
        let payload = complete(el, awaited).unwrap_err().into_panic();
        assert_eq!(payload.downcast_ref(), Some(&"seen"));
    });
}

/// A fatal panic in the first step unwinds out of the run, once whoever makes the task has ended its own step.
#[test]
fn a_fatal_panic_in_the_first_step() {
    on_loop(|el| {
        let log = Log::new();
        let (own, handle) = (log.clone(), el.clone());
        let parent = el.create_task(async move {
            let child: Task<()> = eager(&handle, async { std::panic::panic_any(Fatal::new("out")) });
            own.push(format!("done: {}", child.is_done()));
        });
        let payload = catch_unwind(AssertUnwindSafe(|| settle(el))).unwrap_err();
        assert!(payload.is::<Fatal>());
        assert!(parent.is_done());
        assert_eq!(log.take(), ["done: true"]);
        settle(el);
    });
}

/// Before the run, and inside of another loop, no task can begin at once: it waits for its turn.
#[test]
fn not_inside_of_the_loop() {
    on_loop(|el| {
        let other = EventLoop::new().unwrap();
        let task = eager(el, async { 1 });
        assert!(!task.is_done());
        let handle = el.clone();
        let elsewhere = inside(&other, move |_| {
            let task = eager(&handle, async { 2 });
            assert!(!task.is_done());
            task
        });
        other.close();
        settle(el);
        assert!(task.is_done() && elsewhere.is_done());
        assert_eq!(complete(el, async { (task.await.unwrap(), elsewhere.await.unwrap()) }), (1, 2));
    });
}

/// On a closed loop: as any task.
#[test]
fn on_a_closed_loop() {
    on_loop(|el| {
        let drops = DropCounter::new();
        let guard = drops.guard();
        el.close();
        let task: Task<()> = eager(el, async move {
            let _guard = guard;
            unreachable!("never polled")
        });
        assert!(task.is_done() && !task.is_cancelled());
        assert_eq!(drops.count(), 1);
        assert_eq!(take_reports().len(), 1);
    });
}

/// `set_eager_tasks` is about all tasks, by whichever way they are spawned; the builder has the last word, and the factory
/// its say.
#[test]
fn all_tasks_of_a_loop() {
    on_loop(|el| {
        assert!(!el.eager_tasks());
        el.set_eager_tasks(true);
        assert!(el.eager_tasks());
        let log = Log::new();
        let own = log.clone();
        el.set_task_factory(Some(Rc::new(move |_, future, meta| {
            let (log, name) = (own.clone(), meta.name.clone().unwrap_or_default());
            Box::pin(async move {
                log.push(format!("{name} begins"));
                future.await;
                log.push(format!("{name} ends"));
            })
        })));
        inside(el, |el| {
            assert!(el.task_builder().name("built").spawn(async {}).is_done());
            assert!(el.create_task(async {}).is_done());
            assert!(spawn(async {}).is_done());
            assert!(!el.task_builder().eager(false).name("late").spawn(async {}).is_done());
        });
        let log = log.take();
        assert_eq!(log[..4], ["built begins", "built ends", " begins", " ends"]);
        settle(el);
        el.set_task_factory(None);
        el.set_eager_tasks(false);
        inside(el, |el| assert!(!el.create_task(async {}).is_done()));

        let remote = el.remote();
        el.set_eager_tasks(true);
        let task = std::thread::spawn(move || remote.spawn(|| async { current().unwrap().polls }).unwrap());
        assert_eq!(complete(el, task.join().unwrap()).unwrap(), 1);
    });
}

/// A body that is made inside of a body, and so on: as many as the stack surely holds begin at once, the others in their
/// turn. None is lost.
#[test]
fn recursion_ends() {
    fn nest(el: EventLoop, depth: u32, deepest: Rc<Cell<u32>>) -> Pin<Box<dyn Future<Output = u32>>> {
        Box::pin(async move {
            deepest.set(deepest.get().max(depth));
            if depth == 1000 {
                return depth;
            }
            eager(&el.clone(), nest(el, depth + 1, deepest)).await.unwrap()
        })
    }
    on_loop(|el| {
        let deepest = Rc::new(Cell::new(0));
        let seen = deepest.clone();
        let (task, at_once) = inside(el, move |el| (eager(el, nest(el.clone(), 1, seen.clone())), seen.get()));
        assert_eq!(at_once, 64);
        assert_eq!(complete(el, task).unwrap(), 1000);
        assert_eq!(deepest.get(), 1000);
        // The depth is back where it was.
        assert!(inside(el, |el| eager(el, async {}).is_done()));
    });
}

/// TF-13: a tree of tasks, five children each and four levels deep, is done within the call that makes its root: nothing
/// was scheduled. Otherwise all 781 have a turn.
#[test]
fn a_tree_of_tasks() {
    fn tree(el: EventLoop, depth: u32) -> Pin<Box<dyn Future<Output = u64>>> {
        Box::pin(async move {
            if depth == 0 {
                return 1;
            }
            let children: Vec<_> = (0..5).map(|_| el.create_task(tree(el.clone(), depth - 1))).collect();
            let counts = futures::future::join_all(children).await;
            counts.into_iter().map(Result::unwrap).sum::<u64>() + 1
        })
    }
    on_loop(|el| {
        for eager in [true, false] {
            el.set_eager_tasks(eager);
            let before = el.stats();
            let (task, after) = inside(el, move |el| {
                let task = el.create_task(tree(el.clone(), 4));
                (task, el.stats())
            });
            let opened = after.tasks.opened - before.tasks.opened;
            assert_eq!((opened, task.is_done()), if eager { (781, true) } else { (1, false) });
            assert_eq!(complete(el, task).unwrap(), 781);
            assert_eq!(el.stats().tasks.opened - before.tasks.opened, 781);
        }
    });
}

/// The first step has a budget of its own for its I/O, and takes nothing from that of whoever makes the task.
#[test]
fn the_budget_is_its_own() {
    async fn read(mut stream: roundelay::UnixStream, n: usize) -> roundelay::UnixStream {
        for _ in 0..n {
            futures::AsyncReadExt::read_exact(&mut stream, &mut [0]).await.unwrap();
        }
        stream
    }
    on_loop(|el| {
        let (mut peer, stream) = std::os::unix::net::UnixStream::pair().unwrap();
        stream.set_nonblocking(true).unwrap();
        peer.write_all(&[7; 1000]).unwrap();
        let handle = el.clone();
        // A task may complete 128 in one poll.
        let task = el.create_task(async move {
            let stream = read(roundelay::UnixStream::from_std(stream).unwrap(), 100).await;
            let child = eager(&handle, read(stream, 120));
            let done = child.is_done();
            let stream = read(child.await.unwrap(), 20).await;
            let polls = current().unwrap().polls;
            read(stream, 20).await;
            (done, polls, current().unwrap().polls)
        });
        assert_eq!(complete(el, task).unwrap(), (true, 1, 2));
        drop(peer);
    });
}

/// What a waker wakes when a task has ended may make a task at once: the context that the one has left and that of the
/// other do not get into each other's way.
#[test]
fn made_by_a_waker() {
    struct Panics(&'static str);
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("{}", self.0);
        }
    }
    struct Spawns;
    impl std::task::Wake for Spawns {
        fn wake(self: std::sync::Arc<Self>) {
            let el = get_running_loop().unwrap();
            MADE.set(Some(eager(&el, async {
                drop(VAR.set(Rc::new(Panics("dropped: the other's"))));
                "made"
            })));
        }
    }
    thread_local! {
        static MADE: RefCell<Option<Task<&'static str>>> = const { RefCell::new(None) };
    }
    static VAR: ContextVar<Rc<Panics>> = ContextVar::new("var");
    on_loop(|el| {
        let mut task = el.create_task(async {
            drop(VAR.set(Rc::new(Panics("dropped: its own"))));
            yield_now().await;
            "ended"
        });
        let waker = std::sync::Arc::new(Spawns).into();
        let polled = Pin::new(&mut task).poll(&mut std::task::Context::from_waker(&waker));
        assert!(polled.is_pending());
        settle(el);
        let made = MADE.take().unwrap();
        assert!(made.is_done());
        let reports = take_reports();
        assert_eq!(reports.len(), 2, "{reports:?}");
        assert!(reports[0].contains("dropped: the other's") && reports[1].contains("dropped: its own"), "{reports:?}");
        assert_eq!(complete(el, made).unwrap(), "made");
        assert_eq!(complete(el, task).unwrap(), "ended");
    });
}

/// A destructor may make one, while the task that it belongs to is being dropped.
#[test]
fn made_by_a_destructor() {
    struct Spawns(Log);
    impl Drop for Spawns {
        fn drop(&mut self) {
            let log = self.0.clone();
            let el = get_running_loop().unwrap();
            drop(eager(&el, async move {
                log.push("began");
                yield_now().await;
                log.push("ended");
            }));
            self.0.push("dropped");
        }
    }
    on_loop(|el| {
        let log = Log::new();
        let spawns = Spawns(log.clone());
        let task = el.create_task(async move {
            let _spawns = spawns;
            pending::<()>().await
        });
        settle(el);
        task.cancel();
        settle(el);
        assert!(task.is_cancelled());
        assert_eq!(log.take(), ["began", "dropped", "ended"]);
    });
}

/// A task may poll itself into another one that awaits it: no deadlock, no panic.
#[test]
fn a_child_that_awaits_its_parent() {
    on_loop(|el| {
        let parents = Rc::new(RefCell::new(None::<Task<u32>>));
        let (slot, handle) = (parents.clone(), el.clone());
        let children = Rc::new(RefCell::new(None));
        let made = children.clone();
        let parent = el.create_task(async move {
            let parent = slot.take().unwrap();
            *made.borrow_mut() = Some(eager(&handle, async move { parent.await.unwrap() + 1 }));
            1
        });
        *parents.borrow_mut() = Some(parent);
        settle(el);
        let child = children.take().unwrap();
        assert_eq!(complete(el, child).unwrap(), 2);
    });
}

on_every_loop! {
    /// HE-09: on a loop of eager tasks the handlers of a server of streams begin as their connections are made, and the
    /// streams work as ever.
    fn a_server_of_streams(el) {
        el.set_eager_tasks(true);
        let handler = async |mut reader: StreamReader, mut writer: StreamWriter| {
            writer.write(b"welcome\n");
            let line = reader.readline().await.unwrap();
            writer.write(&line);
            writer.close();
            writer.wait_closed().await.unwrap();
        };
        let server = complete(el, async { roundelay::start_server(handler, tcp::LOOPBACK).await }).unwrap();
        let address = server.local_addrs()[0];
        let peer = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"to and fro\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        });
        common::run_until(el, || peer.is_finished());
        assert_eq!(peer.join().unwrap(), "welcome\nto and fro\n");
        server.close();
        complete(el, server.wait_closed());
    }
}

/// The handle that is polled in the first step of another belongs to the same loop: a join of both works.
#[test]
fn joined_in_one_go() {
    on_loop(|el| {
        let task = inside(el, |el| {
            let (a, b) = (eager(el, async { 1 }), eager(el, poll_fn(|_| Poll::Ready(2))));
            eager(el, async move { futures::join!(a, b) })
        });
        assert!(task.is_done());
        let (a, b) = complete(el, task).unwrap();
        assert_eq!((a.unwrap(), b.unwrap()), (1, 2));
    });
}

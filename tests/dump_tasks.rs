//! Looking into a loop's tasks: what is known of each, the tree of who awaits whom, and the same by a signal.

#[path = "common/mod.rs"]
mod common;
#[path = "common/own_process.rs"]
mod own_process;
#[path = "common/signals.rs"]
mod signals;

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::io::{self, Write};
use std::rc::Rc;
use std::sync::{Arc, Barrier};
use std::task::Poll;
use std::time::Duration;

use futures::channel::oneshot;
use futures::stream::{FuturesUnordered, StreamExt};
use roundelay::{
    AwaitKind, EventLoop, SignalKind, Task, TaskDump, TaskGroup, TaskInfo, TaskState, TcpListener, WaitsFor, WokenBy,
    as_completed, cancel_requested, gather, get_running_loop, shield, sleep, timeout, try_gather, wait, wait_for,
    yield_now,
};

use common::{complete, on_loop, on_manual_clock, run_until, settle};
use own_process::{own_process, say};
use signals::raise;

const HOUR: Duration = Duration::from_secs(3600);

fn named<T: 'static>(el: &EventLoop, name: &str, future: impl Future<Output = T> + 'static) -> Task<T> {
    el.task_builder().name(name).spawn(future)
}

#[track_caller]
fn info(el: &EventLoop, name: &str) -> TaskInfo {
    el.all_tasks().into_iter().find(|info| &*info.name == name).unwrap_or_else(|| panic!("there is no task {name}"))
}

/// The text of a dump, of which places and numbers are left out.
fn text(dump: &TaskDump) -> Vec<String> {
    let text = dump.to_string();
    let mut lines = text.lines().map(|line| {
        let mut line = line.to_owned();
        let mut ids: Vec<_> = dump.tasks().map(|info| info.id.as_u64()).collect();
        ids.reverse();
        for id in ids {
            line = line.replace(&format!(" #{id}"), "");
        }
        while let Some(at) = line.find("tests/dump_tasks.rs:") {
            let rest = &line[at + "tests/dump_tasks.rs:".len()..];
            let end = rest.find(|char: char| !char.is_ascii_digit() && char != ':').unwrap_or(rest.len());
            line = format!("{}HERE{}", &line[..at], &rest[end..]);
        }
        line
    });
    assert!(lines.next().unwrap().starts_with("event loop "));
    lines.collect()
}

/// The tree of tasks, gathers and groups, with names alone; what stands below something stands in brackets.
fn tree(dump: &TaskDump) -> String {
    fn all<'a>(nodes: impl Iterator<Item = roundelay::TaskNode<'a>>) -> String {
        let texts = nodes.map(|node| {
            let own = match node.task() {
                Some(info) => info.name.to_string(),
                None => node.gathering().unwrap().0.to_string(),
            };
            let below = all(node.children());
            if below.is_empty() { own } else { format!("{own}[{below}]") }
        });
        texts.collect::<Vec<_>>().join(" ")
    }
    all(dump.roots())
}

fn cancel_all(el: &EventLoop) {
    el.all_tasks().iter().filter(|info| !info.is_root).for_each(|info| assert!(info.cancel()));
    settle(el);
}

/// What a task has awaited stands below it, a gather and a group in between, the rest at the top; a task whose handle
/// somebody only holds, too. A person reads what waits for what, since when, and where it comes from.
#[test]
fn the_tree_is_read_by_a_person() {
    on_manual_clock(|el, clock| {
        el.set_inspection(true);
        let outer = named(el, "outer", async {
            let el = get_running_loop().unwrap();
            let inner = named(&el, "inner", sleep(HOUR));
            inner.await.unwrap();
        });
        let group = named(el, "group", async {
            let scope = TaskGroup::scope(async |group| {
                drop(group.task_builder().name("child").spawn(sleep(HOUR)));
                gather([sleep(HOUR / 2)]).await.unwrap();
            });
            scope.await.unwrap();
        });
        let held = named(el, "held", pending::<()>());
        settle(el);
        clock.advance(Duration::from_secs(90));
        let gathered = el.all_tasks().into_iter().map(|info| info.name).max_by_key(|name| name.starts_with("Task-"));
        let gathered = gathered.unwrap();
        let expected = [
            "task \"outer\" pending, age 90.0s, 1 poll, busy 0.0ns, spawned at HERE",
            "│  waits for task \"inner\"; woken by spawn",
            "└─ task \"inner\" pending, age 90.0s, 1 poll, busy 0.0ns, spawned at HERE",
            "      waits for a timer in 3510.0s; woken by spawn",
            "task \"group\" pending, age 90.0s, 1 poll, busy 0.0ns, spawned at HERE",
            "│  waits for TaskGroup at HERE (1 live) and gather at HERE (1 live); woken by spawn",
            "├─ TaskGroup at HERE, 1 live",
            "│  └─ task \"child\" pending, age 90.0s, 1 poll, busy 0.0ns, spawned at HERE",
            "│        waits for a timer in 3510.0s; woken by spawn",
            "└─ gather at HERE, 1 live",
            &format!("   └─ task \"{gathered}\" pending, age 90.0s, 1 poll, busy 0.0ns, spawned at HERE"),
            "         waits for a timer in 1710.0s; woken by spawn",
            "task \"held\" pending, age 90.0s, 1 poll, busy 0.0ns, spawned at HERE",
            "   waits for nothing: nobody holds its waker any more; woken by spawn",
        ];
        assert_eq!(text(&el.dump_tasks()), expected, "\n{}", el.dump_tasks());
        cancel_all(el);
        drop((outer, group, held));
    });
}

/// The head says which loop it is, how many tasks there are, and whether their details are known.
#[test]
fn the_head_of_a_dump() {
    on_loop(|el| {
        let head = |el: &EventLoop| el.dump_tasks().to_string();
        let id = el.id();
        assert_eq!(head(el), format!("event loop {id}: 0 tasks (not inspected: what they wait for is known in part)"));
        el.set_inspection(true);
        assert_eq!(head(el), format!("event loop {id}: 0 tasks"));
        let named = EventLoop::builder().name("a \"loop\"\n").build().unwrap();
        assert!(head(&named).starts_with(&format!("event loop {} \"a \\\"loop\\\"\\n\": 0 tasks", named.id())));
        let task = named.create_task(async {});
        assert_eq!((named.dump_tasks().len(), named.dump_tasks().is_empty()), (1, false));
        named.close();
        assert!(named.dump_tasks().is_empty() && task.is_done());
    });
}

/// Without inspection, too, it is known who awaits whom, and for which timer a task waits.
#[test]
fn who_awaits_whom_is_always_known() {
    on_manual_clock(|el, _| {
        assert!(!el.inspection());
        let nested = named(el, "a", async {
            let el = get_running_loop().unwrap();
            let b = named(&el, "b", async {
                let c = named(&get_running_loop().unwrap(), "c", sleep(HOUR));
                shield(c).await.unwrap();
            });
            b.await.unwrap();
        });
        let group = named(el, "g", async {
            let scope = TaskGroup::scope(async |group| {
                group.task_builder().name("h").spawn(async { sleep(HOUR).await }).await.unwrap();
            });
            scope.await.unwrap();
        });
        let waits = named(el, "w", async {
            let el = get_running_loop().unwrap();
            let tasks = ["x", "y"].map(|name| named(&el, name, sleep(HOUR)));
            wait(tasks).first_completed().await;
        });
        settle(el);
        let dump = el.dump_tasks();
        assert_eq!(tree(&dump), "a[b[c]] g[TaskGroup[h]] w[x y]");
        assert_eq!(dump.tasks().count(), 8);
        let c = info(el, "c");
        assert!(matches!(c.waits_for[..], [WaitsFor::Timer { left: HOUR, .. }]), "{c:?}");
        assert_eq!((c.woken_by, c.busy), (None, None));
        assert_eq!(c.awaited_by.unwrap().task, info(el, "b").id);
        let [WaitsFor::Task { id, name }] = &info(el, "b").waits_for[..] else { panic!("{:?}", info(el, "b")) };
        assert_eq!((*id, &**name), (c.id, "c"));
        assert_eq!(info(el, "x").awaited_by.unwrap().how, AwaitKind::Wait);
        assert_eq!(info(el, "h").awaited_by.unwrap().how, AwaitKind::Handle);
        cancel_all(el);
        drop((nested, group, waits));
    });
}

/// A child that is awaited through its handle by somebody else than its group's task stands below that one.
#[test]
fn a_child_that_a_sibling_awaits() {
    on_manual_clock(|el, _| {
        let group = named(el, "g", async {
            let scope = TaskGroup::scope(async |group| {
                let first = group.task_builder().name("first").spawn(async { sleep(HOUR).await });
                drop(group.task_builder().name("second").spawn(async { first.await.unwrap() }));
            });
            scope.await.unwrap();
        });
        settle(el);
        assert_eq!(tree(&el.dump_tasks()), "g[TaskGroup[second[first]]]");
        cancel_all(el);
        drop(group);
    });
}

/// Gathers, the root, what is polled just now, and what somebody has made and not awaited yet.
#[test]
fn gathers_and_the_root() {
    on_loop(|el| {
        complete(el, async {
            let el = get_running_loop().unwrap();
            let spawned = named(&el, "spawned", async {
                let failing = try_gather([1, 2].map(|_| async {
                    sleep(HOUR).await;
                    io::Result::Ok(())
                }));
                // Not awaited, but made here.
                let resting = gather([pending::<()>()]);
                failing.await.unwrap();
                drop(resting);
            });
            yield_now().await;
            yield_now().await;
            let dump = el.dump_tasks();
            let roots: Vec<_> = dump.roots().collect();
            let root = roots[0].task().unwrap();
            assert!(root.is_root && root.state == TaskState::Running && root.waits_for.is_empty());
            let kinds = roots[1].children().map(|node| (node.gathering().unwrap().0, node.children().count()));
            assert_eq!(kinds.collect::<Vec<_>>(), [(AwaitKind::TryGather, 2), (AwaitKind::Gather, 1)]);
            let waits = info(&el, "spawned").waits_for;
            let [WaitsFor::Children { of: AwaitKind::TryGather, live: 2, made_at }] = waits[..] else {
                panic!("{waits:?}")
            };
            assert_eq!(made_at.file(), file!());
            spawned.cancel_and_wait().await.unwrap_err();
        });
        settle(el);
    });
}

/// While a loop is inspected each task says what it waits for.
#[test]
fn what_tasks_wait_for() {
    on_loop(|el| {
        el.set_inspection(true);
        let future = el.create_future::<()>();
        let awaited = future.clone();
        let (sender, receiver) = oneshot::channel::<()>();
        let barrier = Arc::new(Barrier::new(2));
        let other = barrier.clone();
        let tasks = [
            named(el, "timer", sleep(HOUR)),
            named(el, "future", async { awaited.await.unwrap() }),
            named(el, "channel", async { receiver.await.unwrap_or_default() }),
            named(el, "nothing", pending()),
            named(el, "cancel", async { cancel_requested().await }),
            named(el, "job", async {
                let el = get_running_loop().unwrap();
                el.run_in_executor(None, move || other.wait()).await.unwrap();
            }),
            named(el, "accept", async {
                let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
                listener.accept().await.unwrap();
            }),
            named(el, "two", async {
                let (mut a, mut b) = (std::pin::pin!(sleep(HOUR)), std::pin::pin!(sleep(HOUR * 2)));
                poll_fn(|cx| {
                    let polled = (a.as_mut().poll(cx), b.as_mut().poll(cx));
                    if polled.0.is_ready() && polled.1.is_ready() { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            }),
            named(el, "limited", async { timeout(HOUR, pending()).await.unwrap() }),
            named(el, "callback", async {
                get_running_loop().unwrap().call_later(HOUR, || ()).await.unwrap();
            }),
        ];
        settle(el);
        let texts = |name| -> Vec<String> { info(el, name).waits_for.iter().map(ToString::to_string).collect() };
        let starts = |name, expected: &[&str]| {
            let texts = texts(name);
            let fits = texts.iter().zip(expected).all(|(text, start)| text.starts_with(start));
            assert!(fits && texts.len() == expected.len(), "{name}: {texts:?}");
        };
        starts("timer", &["a timer in 3"]);
        starts("future", &["a LoopFuture created at tests/dump_tasks.rs:"]);
        starts("channel", &["something that holds its waker"]);
        starts("nothing", &["nothing: nobody holds its waker any more"]);
        starts("cancel", &["being asked to end"]);
        starts("job", &["the job dump_tasks::what_tasks_wait_for"]);
        starts("two", &["a timer in 3", "a timer in 7"]);
        starts("limited", &["a timer in 3"]);
        starts("callback", &["a callback of the loop"]);
        let accept = info(el, "accept").waits_for;
        assert!(matches!(accept[..], [WaitsFor::Descriptor { write: false, fd: 3.. }]), "{accept:?}");
        barrier.wait();
        drop((sender, future));
        run_until(el, || el.all_tasks().iter().all(|info| &*info.name != "job"));
        cancel_all(el);
        drop(tasks);
    });
}

/// While a loop is inspected it is known by what a task is awaited.
#[test]
fn by_what_tasks_are_awaited() {
    on_manual_clock(|el, _| {
        el.set_inspection(true);
        fn inner(name: &str) -> Task<()> {
            named(&get_running_loop().unwrap(), name, sleep(HOUR))
        }
        let tasks = [
            named(el, "1", async { inner("handle").await.unwrap() }),
            named(el, "2", async { timeout(HOUR, inner("timeout")).await.unwrap().unwrap() }),
            named(el, "3", async { wait_for(HOUR, inner("wait_for")).await.unwrap().unwrap() }),
            named(el, "4", async { shield(inner("shield")).await.unwrap() }),
            named(el, "5", async { drop(wait([inner("wait")]).await) }),
            named(el, "6", async { drop(as_completed([inner("as_completed")]).next().await) }),
            named(el, "7", async {
                let mut all: FuturesUnordered<_> = [inner("combinator")].into_iter().collect();
                all.next().await.unwrap().unwrap();
            }),
        ];
        settle(el);
        let kinds = ["handle", "timeout", "wait_for", "shield", "wait", "as_completed", "combinator"].map(|name| {
            let by = info(el, name).awaited_by.unwrap_or_else(|| panic!("nobody awaits {name}"));
            assert!(by.is_certain, "{name}");
            by.how.to_string()
        });
        assert_eq!(kinds, ["await", "timeout", "wait_for", "shield", "wait", "as_completed", "combinator"]);
        let is_line = |start: &str| text(&el.dump_tasks()).iter().any(|line| line.starts_with(start));
        assert!(is_line("└─ task \"handle\" pending"), "{}", el.dump_tasks());
        assert!(el.dump_tasks().to_string().contains("└─ as_completed: task \"as_completed\""));
        cancel_all(el);
        drop(tasks);
    });
}

/// Somebody who has turned to something else, and kept the handle, is not said to await the task, or not for certain.
#[test]
fn who_has_turned_away() {
    on_manual_clock(|el, clock| {
        let kept = named(el, "kept", sleep(HOUR));
        let keeper = named(el, "keeper", async move {
            let mut kept = kept;
            timeout(Duration::from_secs(1), &mut kept).await.unwrap_err();
            sleep(Duration::from_secs(1)).await;
            sleep(HOUR).await;
            kept.await.unwrap();
        });
        let waited = named(el, "waited", sleep(HOUR));
        let waiter = named(el, "waiter", async move {
            let waited = wait([waited]).timeout(Duration::from_secs(1)).await;
            sleep(HOUR).await;
            drop(waited);
        });
        settle(el);
        assert_eq!(tree(&el.dump_tasks()), "keeper[kept] waiter[waited]");
        for _ in 0..2 {
            clock.advance(Duration::from_secs(1));
            settle(el);
        }
        let by = info(el, "kept").awaited_by.unwrap();
        assert!(!by.is_certain);
        assert!(el.dump_tasks().to_string().contains("└─ perhaps task \"kept\""), "{}", el.dump_tasks());
        assert_eq!(info(el, "waited").awaited_by, None);
        // Inspected, the keeper says what it waits for.
        el.set_inspection(true);
        settle(el);
        assert_eq!(info(el, "kept").awaited_by, None);
        assert_eq!(tree(&el.dump_tasks()), "kept keeper waited waiter");
        assert!(matches!(info(el, "keeper").waits_for[..], [WaitsFor::Timer { .. }]));
        cancel_all(el);
        drop((keeper, waiter));
    });
}

/// Whoever moves a handle to another task, ends, or drops it, awaits no more.
#[test]
fn awaiters_come_and_go() {
    on_manual_clock(|el, _| {
        let shared = Rc::new(RefCell::new(Some(named(el, "awaited", sleep(HOUR)))));
        let one_poll = |shared: Rc<RefCell<Option<Task<()>>>>| async move {
            poll_fn(|cx| {
                assert!(std::pin::Pin::new(shared.borrow_mut().as_mut().unwrap()).poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
        };
        let first = named(el, "first", one_poll(shared.clone()));
        settle(el);
        assert!(first.is_done());
        assert_eq!(info(el, "awaited").awaited_by, None);
        let other = shared.clone();
        let second = named(el, "second", async move {
            one_poll(other).await;
            pending::<()>().await;
        });
        settle(el);
        assert_eq!(tree(&el.dump_tasks()), "second[awaited]");
        drop(shared.take());
        assert_eq!(tree(&el.dump_tasks()), "awaited second");
        cancel_all(el);
        drop((first, second));
    });
}

/// While a loop is inspected it is known what has woken a task.
#[test]
fn what_has_woken_tasks() {
    on_loop(|el| {
        el.set_inspection(true);
        /// A task that says what has woken it, and is woken by what is given.
        fn woken(el: &EventLoop, wake: impl FnOnce(oneshot::Sender<()>) + 'static) -> WokenBy {
            let (sender, receiver) = oneshot::channel();
            let task = named(el, "woken", async move {
                let _ = receiver.await;
                get_running_loop().unwrap().current_task().unwrap().woken_by.unwrap()
            });
            settle(el);
            wake(sender);
            complete(el, task).unwrap()
        }
        fn send(sender: oneshot::Sender<()>) {
            sender.send(()).unwrap();
        }

        let spawned = async { get_running_loop().unwrap().current_task().unwrap().woken_by };
        assert_eq!(complete(el, el.create_task(spawned)).unwrap(), Some(WokenBy::Spawn));
        assert_eq!(woken(el, send), WokenBy::Outside);
        let handle = el.clone();
        let place = woken(el, move |sender| drop(handle.call_soon(move || send(sender))));
        assert!(matches!(place, WokenBy::Callback(place) if place.file() == file!()), "{place}");
        let handle = el.clone();
        let id = Rc::new(Cell::new(None));
        let seen = id.clone();
        let by = woken(el, move |sender| {
            let task = named(&handle, "waker", async { send(sender) });
            seen.set(Some(task.id()));
            drop(task);
        });
        assert_eq!(by, WokenBy::Task(id.get().unwrap()));
        assert_eq!(by.to_string(), format!("task #{}", id.get().unwrap()));
        let remote = el.remote();
        let posted = |sender| drop(std::thread::spawn(move || remote.post(move || send(sender)).unwrap()).join());
        assert_eq!(woken(el, posted), WokenBy::Posted);
        let by_thread = |sender| drop(std::thread::spawn(move || send(sender)).join());
        assert_eq!(woken(el, by_thread), WokenBy::Thread);

        let after = |el: &EventLoop, future: std::pin::Pin<Box<dyn Future<Output = ()>>>| {
            let task = el.create_task(async move {
                future.await;
                get_running_loop().unwrap().current_task().unwrap().woken_by
            });
            complete(el, task).unwrap().unwrap()
        };
        assert_eq!(after(el, Box::pin(yield_now())), WokenBy::Itself);
        assert_eq!(after(el, Box::pin(sleep(Duration::from_millis(1)))), WokenBy::Timer);
        let accept = Box::pin(async {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            // From a callback, when the task waits already.
            let connecting =
                get_running_loop().unwrap().call_soon(move || std::net::TcpStream::connect(address).unwrap());
            listener.accept().await.unwrap();
            drop(connecting.await.unwrap());
        });
        assert!(matches!(after(el, accept), WokenBy::Descriptor(3..)));

        let cancelled = named(el, "cancelled", pending::<()>());
        settle(el);
        cancelled.cancel();
        assert_eq!(info(el, "cancelled").woken_by, Some(WokenBy::Cancel));
        assert_eq!(info(el, "cancelled").state.to_string(), "cancelling");
        settle(el);
    });
}

/// Age is by the loop's clock, as of its last look at it; the time in polls is measured while the loop is inspected.
#[test]
fn age_and_busy_time() {
    on_manual_clock(|el, clock| {
        let turned = clock.clone();
        let works = move || {
            let turned = turned.clone();
            async move {
                loop {
                    turned.advance(Duration::from_millis(300));
                    sleep(Duration::from_secs(10)).await;
                }
            }
        };
        let early = named(el, "early", works());
        settle(el);
        clock.advance(Duration::from_secs(5));
        // Nothing has looked at the clock since, but that a run begins.
        complete(el, async {});
        let late = named(el, "late", works());
        settle(el);
        assert_eq!(info(el, "early").age, Duration::from_millis(5600));
        assert_eq!(info(el, "late").age, Duration::from_millis(300));
        assert_eq!(info(el, "early").busy, None);

        el.set_inspection(true);
        clock.advance(Duration::from_secs(10));
        settle(el);
        let busy = info(el, "late").busy.unwrap();
        assert_eq!(busy, Duration::from_millis(300));
        assert_eq!(info(el, "early").polls, 2);
        el.set_inspection(false);
        clock.advance(Duration::from_secs(10));
        settle(el);
        // What was noted of earlier polls is not said of later ones; the time that was measured stays.
        let late = (info(el, "late"), late.cancel());
        assert_eq!((late.0.busy, late.0.woken_by, late.0.polls), (Some(busy), None, 3));
        cancel_all(el);
        drop(early);
    });
}

/// Tasks that wait already say what for when the inspection begins, for they are polled once more.
#[test]
fn inspection_asks_those_who_wait() {
    on_manual_clock(|el, _| {
        let future = el.create_future::<()>();
        let awaited = future.clone();
        let task = named(el, "waits", async { awaited.await.unwrap() });
        settle(el);
        assert_eq!(info(el, "waits").waits_for, []);
        el.set_inspection(true);
        assert!(el.inspection());
        settle(el);
        let waits = info(el, "waits");
        assert!(matches!(waits.waits_for[..], [WaitsFor::Future { .. }]), "{waits:?}");
        assert_eq!((waits.polls, waits.woken_by), (2, None));
        // A second call asks nobody again.
        el.set_inspection(true);
        settle(el);
        assert_eq!(info(el, "waits").polls, 2);
        el.set_inspection(false);
        assert!(!el.inspection());
        // In debug mode it is on anyhow.
        el.set_debug(true);
        assert!(el.inspection());
        el.set_inspection(false);
        assert!(el.inspection());
        future.set_result(()).unwrap();
        complete(el, task).unwrap();
    });
}

/// Inspection may be turned on and off by a task in the middle of its poll, and by a destructor of one.
#[test]
fn inspection_is_turned_on_and_off_from_within() {
    on_loop(|el| {
        struct TurnsOff(EventLoop);
        impl Drop for TurnsOff {
            fn drop(&mut self) {
                self.0.set_inspection(false);
            }
        }
        let handle = el.clone();
        let task = named(el, "within", async move {
            for _ in 0..3 {
                handle.set_inspection(true);
                yield_now().await;
                handle.set_inspection(false);
                yield_now().await;
                handle.set_inspection(true);
                let guard = TurnsOff(handle.clone());
                sleep(Duration::from_millis(1)).await;
                drop(guard);
                yield_now().await;
            }
        });
        complete(el, task).unwrap();
        let handle = el.clone();
        let cancelled = named(el, "cancelled", async move {
            handle.set_inspection(true);
            let _guard = TurnsOff(handle);
            pending::<()>().await;
        });
        settle(el);
        settle(el);
        cancelled.cancel();
        settle(el);
        assert!(!el.inspection() && cancelled.is_cancelled());
    });
}

/// Tasks that await each other in a circle are named, once, and the dump has an end.
#[test]
fn a_circle_is_named() {
    on_manual_clock(|el, _| {
        let slots: [Rc<RefCell<Option<Task<()>>>>; 3] = Default::default();
        for n in 0..3 {
            let next = slots[(n + 1) % 3].clone();
            let task = named(el, &format!("t{n}"), async move {
                yield_now().await;
                let task = next.take().unwrap();
                task.await.unwrap();
            });
            *slots[n].borrow_mut() = Some(task);
        }
        let beside = named(el, "beside", sleep(HOUR));
        settle(el);
        let dump = el.dump_tasks();
        assert_eq!(tree(&dump), "t0[t1[t2]] beside");
        let ids = ["t0", "t1", "t2"].map(|name| info(el, name).id);
        assert_eq!(dump.cycles(), [ids]);
        let lines = text(&dump);
        let again = lines.iter().find(|line| line.contains("again")).unwrap();
        assert_eq!(again.trim_start(), "└─ task again, which awaits this one: a cycle");
        let json: serde_json::Value = serde_json::from_str(&dump.to_json()).unwrap();
        assert_eq!(json["cycles"], serde_json::json!([ids.map(|id| id.as_u64())]));
        cancel_all(el);
        drop(beside);
    });
}

/// A long chain of tasks, and many of them, take neither the stack nor much time.
#[test]
fn a_long_chain() {
    on_manual_clock(|el, _| {
        const LENGTH: usize = 5000;
        let mut last = el.create_task(pending::<()>());
        for _ in 1..LENGTH {
            let inner = last;
            last = el.create_task(async move { inner.await.unwrap() });
        }
        settle(el);
        let dump = el.dump_tasks();
        assert_eq!((dump.len(), dump.roots().count()), (LENGTH, 1));
        let text = dump.to_string();
        assert_eq!(text.matches("task \"").count(), 2 * LENGTH - 1);
        assert!(text.contains("(level 4999) task"));
        assert!(text.len() < LENGTH * 400, "{}", text.len());
        let json: serde_json::Value = serde_json::from_str(&dump.to_json()).unwrap();
        assert_eq!(json["tasks"].as_array().unwrap().len(), LENGTH);
        last.cancel();
        cancel_all(el);
    });
}

/// The JSON has everything, on one line, whatever names are like.
#[test]
fn the_dump_as_json() {
    on_manual_clock(|el, _| {
        el.set_inspection(true);
        let name = "\u{1}tab\tquote\"back\\slash\nnew line é 🦀\u{7f}";
        let odd = named(el, name, async {
            timeout(HOUR, gather([sleep(HOUR), sleep(HOUR)])).await.unwrap().unwrap();
        });
        settle(el);
        let line = el.dump_tasks().to_json();
        assert!(!line.chars().any(char::is_control), "{line}");
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["loop"], el.id());
        assert_eq!((&json["name"], &json["inspection"]), (&serde_json::Value::Null, &true.into()));
        let task = &json["tasks"][0];
        assert_eq!((&task["name"], &task["id"]), (&name.into(), &odd.id().as_u64().into()));
        assert_eq!((&task["state"], &task["is_root"], &task["polls"]), (&"pending".into(), &false.into(), &1.into()));
        assert_eq!((task["age"].as_f64(), task["busy"].as_f64()), (Some(0.0), Some(0.0)));
        assert!(task["spawned_at"].as_str().unwrap().starts_with("tests/dump_tasks.rs:"));
        assert_eq!(task["woken_by"], serde_json::json!({ "kind": "spawn", "text": "spawn" }));
        let waits = task["waits_for"].as_array().unwrap();
        let timer = waits.iter().find(|wait| wait["kind"] == "timer").unwrap();
        assert_eq!((timer["left"].as_f64(), &timer["text"]), (Some(3600.0), &"a timer in 3600.0s".into()));
        let children = waits.iter().find(|wait| wait["kind"] == "children").unwrap();
        assert_eq!(children["live"], 2);
        let gathering = &json["gatherings"][0];
        assert_eq!(
            (&gathering["kind"], &gathering["task"], &gathering["live"]),
            (&"gather".into(), &task["id"], &2.into())
        );
        let child = &json["tasks"][1];
        assert_eq!((&child["gathering"], &task["gathering"]), (&gathering["id"], &serde_json::Value::Null));
        assert_eq!(
            child["awaited_by"],
            serde_json::json!({ "task": odd.id().as_u64(), "how": "gather", "is_certain": true })
        );
        assert_eq!(json["cycles"], serde_json::json!([]));
        // For people a name is on one line, too.
        assert!(
            el.dump_tasks().to_string().contains("task \"\\u{1}tab\\tquote\\\"back\\\\slash\\nnew line é 🦀\\u{7f}\"")
        );
        cancel_all(el);
    });
}

/// TK-32: the text of a task says what it waits for.
#[test]
fn the_text_of_a_task_says_what_it_waits_for() {
    on_manual_clock(|el, _| {
        let inner = named(el, "inner", sleep(HOUR));
        let id = inner.id();
        let outer = named(el, "outer", async { inner.await.unwrap() });
        assert!(!format!("{outer:?}").contains("waits for"));
        settle(el);
        let text = format!("{outer:?}");
        assert!(text.starts_with("<Task pending name=\"outer\" spawned at tests/dump_tasks.rs:"), "{text}");
        assert!(text.ends_with(&format!(" waits for task \"inner\" #{id}>")), "{text}");
        cancel_all(el);
        assert!(!format!("{outer:?}").contains("waits for"));
    });
}

/// TS-14: another thread asks for a dump, and waits for it.
#[test]
fn a_dump_for_another_thread() {
    on_loop(|el| {
        let task = named(el, "looked at", pending::<()>());
        let remote = el.remote();
        let asking = std::thread::spawn(move || remote.dump_tasks().unwrap().wait().unwrap());
        run_until(el, || asking.is_finished());
        let text = asking.join().unwrap();
        assert!(text.starts_with("event loop ") && text.contains("task \"looked at\""), "{text}");
        task.cancel();
        let remote = el.remote();
        settle(el);
        el.close();
        assert!(remote.dump_tasks().is_err());
    });
}

/// A writer that a test reads.
#[derive(Clone, Default)]
struct Written(Rc<RefCell<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(data);
        Ok(data.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.borrow_mut().extend_from_slice(b"flushed\n");
        Ok(())
    }
}

/// A signal writes a dump to a writer, with details, for which the loop is inspected for that moment; each time.
#[test]
fn a_dump_by_a_signal() {
    on_loop(|el| {
        let written = Written::default();
        let future = el.create_future::<()>();
        let awaited = future.clone();
        let task = named(el, "stuck", async { awaited.await.unwrap() });
        settle(el);
        el.dump_on_signal_to(SignalKind::user_defined1(), written.clone()).unwrap();
        for _ in 0..2 {
            raise(SignalKind::user_defined1());
            run_until(el, || !written.0.borrow().is_empty());
            assert!(!el.inspection());
            let text = String::from_utf8(written.0.take()).unwrap();
            assert!(text.starts_with("event loop "), "{text}");
            assert!(text.contains("task \"stuck\"") && text.contains("waits for a LoopFuture created at "), "{text}");
            assert!(text.ends_with("\nflushed\n"), "{text}");
        }
        // What was noted by the inspection is there at once where it is on.
        el.set_inspection(true);
        settle(el);
        raise(SignalKind::user_defined1());
        run_until(el, || !written.0.borrow().is_empty());
        assert!(el.inspection());
        assert!(el.remove_signal_handler(SignalKind::user_defined1()));
        task.cancel();
        settle(el);
    });
}

/// `kill -USR1` tells what a process waits for, on its stderr.
#[test]
fn a_dump_by_kill() {
    own_process(
        || {
            let el = EventLoop::new().unwrap();
            el.dump_on_signal(SignalKind::user_defined1()).unwrap();
            let handle = el.clone();
            el.add_signal_handler(SignalKind::terminate(), move || handle.stop()).unwrap();
            let task = named(&el, "sleeper", sleep(HOUR));
            el.call_soon(|| say("ready"));
            el.run_forever();
            drop(task);
        },
        |own| {
            own.says("ready");
            own.send(SignalKind::user_defined1());
            let head = own.line();
            assert!(head.starts_with("event loop ") && head.ends_with(": 1 task"), "{head}");
            let task = own.line();
            assert!(
                task.starts_with("task \"sleeper\" #") && task.contains("spawned at tests/dump_tasks.rs:"),
                "{task}"
            );
            let waits = own.line();
            assert!(waits.starts_with("   waits for a timer in 3"), "{waits}");
            own.send(SignalKind::terminate());
            own.ends();
        },
    );
}

/// A loop may be looked into at any time; what was not polled yet waits for nothing.
#[test]
fn a_dump_from_a_callback_and_between_runs() {
    on_loop(|el| {
        let task = named(el, "new", pending::<()>());
        assert_eq!(tree(&el.dump_tasks()), "new");
        assert_eq!((info(el, "new").polls, info(el, "new").waits_for.len()), (0, 0));
        let (handle, seen) = (el.clone(), Rc::new(RefCell::new(String::new())));
        let saw = seen.clone();
        el.call_soon(move || *saw.borrow_mut() = tree(&handle.dump_tasks()));
        settle(el);
        assert_eq!(*seen.borrow(), "new");
        task.cancel();
        settle(el);
    });
}

/// What this thread has used of the processor, which others have no part in.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The text of one task takes no snapshot of all of them, and says of it what a snapshot does.
#[test]
fn the_text_of_a_task_among_many() {
    on_loop(|el| {
        let many: Vec<_> = (0..20_000).map(|_| el.create_task(pending::<()>())).collect();
        let inner = named(el, "inner", pending::<()>());
        let others = [named(el, "first", pending::<()>()), named(el, "second", pending::<()>())];
        let tasks = [
            named(el, "handle", async { _ = inner.await }),
            named(el, "two", async { _ = wait(others).await }),
            named(el, "gather", async { _ = gather([pending::<()>(), pending()]).await }),
            named(el, "sleeper", sleep(HOUR)),
            named(el, "plain", pending::<()>()),
        ];
        for is_inspected in [false, true] {
            el.set_inspection(is_inspected);
            settle(el);
            let infos = el.all_tasks();
            for task in &tasks {
                let info = infos.iter().find(|info| info.id == task.id()).unwrap();
                let mut waits = String::new();
                for (n, wait) in info.waits_for.iter().enumerate() {
                    waits.push_str(&format!("{} {wait}", if n == 0 { " waits for" } else { " and" }));
                }
                let (shown, end) = (format!("{task:?}"), format!("{waits}>"));
                // Times go on.
                let cut = |text: &str| text.split(" a timer in 3").next().unwrap().to_owned();
                assert!(cut(&shown).ends_with(&cut(&end)), "{shown} {end}");
                assert_eq!(waits.is_empty(), !is_inspected && task.name().as_ref() == "plain", "{shown}");
            }
        }
        let used = |f: &dyn Fn() -> usize| {
            let before = processor_time();
            assert!(f() > 0);
            processor_time() - before
        };
        let snapshots = used(&|| (0..10).map(|_| el.all_tasks().len()).sum());
        let texts = used(&|| many.iter().take(10).map(|task| format!("{task:?}").len()).sum());
        assert!(texts < snapshots / 3, "{texts:?} for the texts, {snapshots:?} for snapshots");
        el.set_inspection(false);
        tasks.iter().for_each(|task| _ = task.cancel());
        many.iter().for_each(|task| _ = task.cancel());
        settle(el);
        cancel_all(el);
    });
}

/// A writer of dumps that panics is reported, and the next signal tries again.
#[test]
fn a_writer_that_panics() {
    struct Broken(Rc<Cell<u32>>);

    impl Write for Broken {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0.set(self.0.get() + 1);
            assert_ne!(self.0.get(), 1, "broken once");
            Ok(data.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    on_loop(|el| {
        let calls = Rc::new(Cell::new(0));
        el.dump_on_signal_to(SignalKind::user_defined1(), Broken(calls.clone())).unwrap();
        for n in 1..3 {
            raise(SignalKind::user_defined1());
            run_until(el, || calls.get() == n);
            settle(el);
        }
        let [report] = &common::take_reports()[..] else { panic!() };
        assert!(report.contains("broken once"), "{report}");
    });
}

/// Inspection that ends inside of a combinator leaves nothing behind of it for a later one.
#[test]
fn inspection_ends_inside_of_a_combinator() {
    on_loop(|el| {
        el.set_inspection(true);
        let handle = el.clone();
        let around = named(el, "around", async move {
            _ = timeout(HOUR, async {
                handle.set_inspection(false);
                pending::<()>().await;
            })
            .await;
        });
        settle(el);
        el.set_inspection(true);
        let inner = named(el, "inner", pending::<()>());
        let outer = named(el, "outer", async { _ = inner.await });
        settle(el);
        assert_eq!(info(el, "inner").awaited_by.unwrap().how, AwaitKind::Handle);
        el.set_inspection(false);
        around.cancel();
        outer.cancel();
        settle(el);
        cancel_all(el);
    });
}

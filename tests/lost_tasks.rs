//! Tasks that nothing can wake any more: debug mode names them, and nobody else.

#[path = "common/collector.rs"]
mod collector;
#[path = "common/mod.rs"]
mod common;

use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use futures::FutureExt;
use futures::channel::{mpsc, oneshot};
use futures::io::{AsyncReadExt, AsyncWriteExt};
use futures::stream::{FuturesUnordered, StreamExt};
use roundelay::{
    EventLoop, JoinError, ManualClock, SignalKind, Task, TaskGroup, TcpListener, TcpStream, as_completed,
    cancel_requested, gather, get_running_loop, interval, open_connection, shield, sleep, spawn, start_server, timeout,
    wait, wait_for, yield_now,
};

use collector::{collect, in_a_child};
use common::{PATIENCE, complete, on_loop, run_alone, run_on, run_until, settle};

const HOUR: Duration = Duration::from_secs(3600);

/// What is said while `f` runs.
fn named<R>(f: impl FnOnce() -> R) -> (R, Vec<String>) {
    let (result, said) = collect(f);
    (result, said.into_iter().map(|(_, text)| text).collect())
}

#[track_caller]
fn is_of(text: &str, name: &str, polls: &str) {
    let start = format!("task \"{name}\" #");
    let (first, second) = text.split_once('\n').unwrap_or_else(|| panic!("{text}"));
    assert!(first.starts_with(&start), "{text}");
    assert!(
        first.ends_with(" waits for ever: nothing holds its waker any more, so that it can only be cancelled"),
        "{text}"
    );
    assert!(second.starts_with("  spawned at tests/lost_tasks.rs:"), "{text}");
    assert!(second.ends_with(&format!(", polled {polls}")), "{text}");
}

/// Says nothing of what is slow, which may come in between.
fn on_debug_loop(body: impl FnOnce(&EventLoop)) {
    run_on(|| EventLoop::builder().debug(true).slow_callback_duration(Duration::MAX), body);
}

fn stop_in(el: EventLoop, turns: u32) {
    let next = el.clone();
    el.call_soon(move || match turns {
        0 => next.stop(),
        _ => stop_in(next, turns - 1),
    });
}

fn task<T: 'static>(el: &EventLoop, name: &str, future: impl Future<Output = T> + 'static) -> Task<T> {
    el.task_builder().name(name).spawn(future)
}

/// `std::future::pending` is the plainest case: it is named once, with place and polls, and can still be cancelled.
#[test]
fn what_waits_for_nothing_is_named_once() {
    on_debug_loop(|el| {
        let (lost, said) = named(|| {
            let lost = task(el, "lost", async {
                yield_now().await;
                pending::<()>().await;
            });
            for _ in 0..3 {
                settle(el);
            }
            lost
        });
        let [text] = &said[..] else { panic!("{said:#?}") };
        is_of(text, "lost", "2 times");
        lost.cancel();
        let (error, said) = named(|| complete(el, lost).unwrap_err());
        assert!(error.is_cancelled() && said.is_empty(), "{said:#?}");
    });
}

/// A task that was named is named again for nothing, though it is polled again and lost again.
#[test]
fn a_task_is_named_once_in_its_life() {
    on_debug_loop(|el| {
        let kept: Rc<RefCell<Option<Waker>>> = Rc::default();
        let keep = kept.clone();
        let lost = task(
            el,
            "lost",
            poll_fn(move |cx| {
                *keep.borrow_mut() = Some(cx.waker().clone());
                Poll::<()>::Pending
            }),
        );
        settle(el);
        let ((), said) = named(|| {
            drop(kept.take());
            settle(el);
        });
        is_of(&said[0], "lost", "once");
        let ((), said) = named(|| {
            // Toggled, it is polled once more, and then lost once more.
            el.set_debug(false);
            el.set_inspection(true);
            settle(el);
            el.set_debug(true);
            drop(kept.take());
            settle(el);
        });
        assert!(said.is_empty(), "{said:#?}");
        lost.cancel();
        settle(el);
    });
}

/// Whoever holds the last waker lets it go, anywhere: in a callback, in another task, on another thread, with a channel.
#[test]
fn the_last_waker_is_dropped_anywhere() {
    on_debug_loop(|el| {
        let kept: Rc<RefCell<Vec<Waker>>> = Rc::default();
        let keeps = |n: usize| {
            let kept = kept.clone();
            poll_fn(move |cx| {
                kept.borrow_mut().extend(std::iter::repeat_with(|| cx.waker().clone()).take(n));
                Poll::<()>::Pending
            })
        };
        let lose = |el: &EventLoop, name: &str, drop_them: &dyn Fn(Vec<Waker>)| {
            let lost = task(el, name, keeps(2));
            let ((), said) = named(|| {
                settle(el);
                // One is enough to hope for.
                kept.borrow_mut().pop();
                settle(el);
            });
            assert!(said.is_empty(), "{said:#?}");
            let ((), said) = named(|| {
                drop_them(kept.take());
                settle(el);
            });
            let [text] = &said[..] else { panic!("{name}: {said:#?}") };
            is_of(text, name, "once");
            lost.cancel();
            settle(el);
        };
        lose(el, "outside", &|wakers| drop(wakers));
        lose(el, "callback", &|wakers| drop(el.call_soon(move || drop(wakers))));
        lose(el, "task", &|wakers| drop(el.create_task(async move { drop(wakers) })));
        lose(el, "thread", &|wakers| std::thread::spawn(move || drop(wakers)).join().unwrap());

        // A channel whose other end is forgotten rather than dropped is lost with what is around it.
        let future = el.create_future::<()>();
        let awaited = future.clone();
        let waits = task(el, "channel", async move {
            let mut awaited = Box::pin(awaited);
            // Polled once, and then no more.
            assert!(futures::poll!(awaited.as_mut()).is_pending());
            drop(awaited);
            pending::<()>().await;
        });
        let ((), said) = named(|| settle(el));
        is_of(&said[0], "channel", "once");
        drop(future);
        waits.cancel();
        settle(el);
    });
}

/// The root is named, too, and goes on all the same.
#[test]
fn the_root_is_named() {
    on_debug_loop(|el| {
        // After the warning, which comes in the second turn.
        stop_in(el.clone(), 5);
        let (ended, said) = named(|| el.run_until_complete(pending::<()>()));
        assert!(ended.is_err());
        let [text] = &said[..] else { panic!("{said:#?}") };
        assert!(text.starts_with("the root task \"Task-"), "{text}");
        assert!(text.ends_with(", polled once"), "{text}");
    });
}

/// Without debug mode nothing is said, not even of a loop that is inspected; debug mode may come later.
#[test]
fn without_debug_mode_nothing_is_said() {
    on_loop(|el| {
        el.set_slow_callback_duration(Duration::MAX);
        el.set_debug(false);
        let (lost, said) = named(|| {
            let lost = task(el, "lost", pending::<()>());
            settle(el);
            el.set_inspection(true);
            settle(el);
            settle(el);
            lost
        });
        assert!(said.is_empty(), "{said:#?}");
        el.set_inspection(false);
        el.set_debug(true);
        let ((), said) = named(|| settle(el));
        assert!(said.is_empty(), "{said:#?}");
        // What is polled in debug mode is.
        let (other, said) = named(|| {
            let other = task(el, "other", pending::<()>());
            settle(el);
            other
        });
        is_of(&said[0], "other", "once");
        lost.cancel();
        other.cancel();
        settle(el);
    });
}

/// A waker that was given away before debug mode came on counts as long as the task was not polled since; a timer that
/// was armed before it, too.
#[test]
fn debug_mode_comes_while_tasks_wait() {
    let clock = ManualClock::new();
    let given = clock.clone();
    run_on(
        || EventLoop::builder().clock(given).debug(false),
        |el| {
            let ((), said) = named(|| {
                let future = el.create_future::<()>();
                let awaited = future.clone();
                let sleeper = task(el, "sleeper", sleep(HOUR));
                let waiter = task(el, "waiter", async { awaited.await.unwrap() });
                settle(el);
                el.set_debug(true);
                settle(el);
                clock.advance(HOUR);
                future.set_result(()).unwrap();
                complete(el, async {
                    sleeper.await.unwrap();
                    waiter.await.unwrap();
                });
            });
            assert!(said.is_empty(), "{said:#?}");
        },
    );
}

/// What is cancelled, ends, panics, is dropped with a group, or with the loop, is not lost.
#[test]
fn what_ends_is_not_lost() {
    on_debug_loop(|el| {
        let ((), said) = named(|| {
            let kept: Rc<RefCell<Option<Waker>>> = Rc::default();
            let keeps = || {
                let kept = kept.clone();
                poll_fn(move |cx| {
                    *kept.borrow_mut() = Some(cx.waker().clone());
                    Poll::<()>::Pending
                })
            };
            let cancelled = task(el, "cancelled", keeps());
            settle(el);
            cancelled.cancel();
            drop(kept.take());
            settle(el);
            let asked = task(el, "asked", async {
                cancel_requested().await;
                sleep(Duration::from_millis(1)).await;
            });
            settle(el);
            asked.cancel_gracefully(HOUR);
            complete(el, asked).unwrap();
            let grouped = task(el, "grouped", async {
                let scope = TaskGroup::scope(async |group| {
                    group.spawn(sleep(HOUR));
                    sleep(HOUR).await;
                });
                let _ = timeout(Duration::from_millis(1), scope).await;
            });
            complete(el, grouped).unwrap();
            drop(task(el, "ends with the loop", keeps()));
            settle(el);
            el.close();
            drop(kept.take());
        });
        // What the loop is closed over is another warning's.
        assert!(!said.iter().any(|text| text.contains("waits for ever")), "{said:#?}");
    });
}

/// A grace that is running will end the task: it does not wait for ever.
#[test]
fn a_grace_is_an_end() {
    on_debug_loop(|el| {
        let (asked, said) = named(|| {
            let asked = task(el, "asked", async {
                cancel_requested().await;
                pending::<()>().await;
            });
            settle(el);
            asked.cancel_gracefully(Duration::from_millis(2));
            for _ in 0..3 {
                el.run_once(Some(Duration::ZERO)).unwrap();
            }
            asked
        });
        assert!(said.is_empty(), "{said:#?}");
        assert!(complete(el, asked).unwrap_err().is_cancelled());
    });
}

/// A subscriber that fails is no harm.
#[test]
fn a_subscriber_that_fails() {
    on_debug_loop(|el| {
        let lost = task(el, "lost", pending::<()>());
        tracing::subscriber::with_default(collector::BrokenSubscriber, || settle(el));
        drop(common::take_reports());
        lost.cancel();
        settle(el);
    });
}

/// Where nobody listens to `tracing`, the text is on stderr.
#[test]
fn the_warning_is_on_stderr() {
    let said = in_a_child("the_warning_is_on_stderr", || {
        run_alone(
            || EventLoop::builder().debug(true),
            |el| {
                let lost = task(el, "lost", pending::<()>());
                settle(el);
                lost.cancel();
                settle(el);
            },
        );
    });
    if let Some(said) = said {
        let lines: Vec<_> = said.lines().collect();
        let first = lines.iter().position(|line| line.starts_with("roundelay: task \"lost\" #")).unwrap();
        assert!(lines[first + 1].starts_with("  spawned at tests/lost_tasks.rs:"), "{said}");
    }
}

/// Everything that the crate has to wait for, and channels of other crates, in debug mode: nobody is named who is woken.
#[test]
fn no_false_alarm() {
    on_debug_loop(|el| {
        let ((), said) = named(|| {
            complete(el, timers_and_tasks());
            complete(el, sockets());
            complete(el, groups_and_graces());
            complete(el, other_crates());
            complete(el, threads_and_processes());
        });
        assert!(said.is_empty(), "{said:#?}");
    });
}

const SHORT: Duration = Duration::from_millis(1);

async fn timers_and_tasks() {
    sleep(SHORT).await;
    let mut ticks = interval(SHORT);
    for _ in 0..3 {
        ticks.tick().await;
    }
    let nested = spawn(async { spawn(sleep(SHORT)).await.unwrap() });
    shield(nested).await.unwrap();
    assert!(timeout(SHORT, pending::<()>()).await.is_err());
    wait_for(SHORT, spawn(sleep(HOUR))).await.unwrap_err();
    let waited = wait([1, 3600].map(|n| spawn(sleep(SHORT * n)))).first_completed().await;
    waited.pending[0].cancel();
    let mut completed = as_completed([2, 1].map(|n| sleep(SHORT * n)));
    while completed.next().await.is_some() {}
    gather([1, 2].map(|n| sleep(SHORT * n))).await.unwrap();
    let el = get_running_loop().unwrap();
    let future = el.create_future::<()>();
    let setter = future.clone();
    el.call_later(SHORT, move || setter.set_result(()).unwrap());
    future.await.unwrap();
    el.call_later(SHORT, || ()).await.unwrap();
    let eager = el.task_builder().eager(true).spawn(sleep(SHORT));
    eager.await.unwrap();
    let mut lent = spawn(sleep(SHORT * 3));
    assert!(timeout(SHORT, &mut lent).await.is_err());
    lent.await.unwrap();
}

async fn sockets() {
    let server = start_server(
        async |mut reader, mut writer| {
            let line = reader.readline().await.unwrap();
            writer.write(&line);
            writer.drain().await.unwrap();
            writer.close();
            let _ = writer.wait_closed().await;
        },
        ("127.0.0.1", 0),
    );
    let server = server.await.unwrap();
    let address = server.local_addrs()[0];
    let (mut reader, mut writer) = open_connection((address.ip(), address.port())).await.unwrap();
    writer.write(b"hello\n");
    assert_eq!(reader.readline().await.unwrap(), b"hello\n");
    writer.close();
    writer.wait_closed().await.unwrap();
    server.close();
    server.wait_closed().await;

    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let peer = spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut data = [0; 5];
        stream.read_exact(&mut data).await.unwrap();
        sleep(SHORT).await;
        stream.write_all(&data).await.unwrap();
    });
    let mut stream = TcpStream::connect((address.ip(), address.port())).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut data = [0; 5];
    stream.read_exact(&mut data).await.unwrap();
    peer.await.unwrap();
}

async fn groups_and_graces() {
    TaskGroup::scope(async |group| {
        group.spawn(sleep(SHORT));
        group.spawn(async {
            sleep(SHORT).await;
        });
    })
    .await
    .unwrap();
    let failing = TaskGroup::scope(async |group| {
        group.spawn(sleep(HOUR));
        group.spawn(async {
            sleep(SHORT).await;
            Err::<(), _>("failed")
        });
        sleep(HOUR).await;
    });
    failing.await.unwrap_err();
    let graceful = spawn(async {
        cancel_requested().await;
        sleep(SHORT).await;
    });
    yield_now().await;
    graceful.cancel_gracefully_and_wait(HOUR).await.unwrap();
}

async fn other_crates() {
    let (sender, receiver) = oneshot::channel();
    let sending = spawn(async {
        sleep(SHORT).await;
        sender.send(1).unwrap();
    });
    assert_eq!(receiver.await.unwrap(), 1);
    sending.await.unwrap();
    let (sender, mut receiver) = mpsc::unbounded();
    let sending = spawn(async move {
        for n in 0..3 {
            sleep(SHORT).await;
            sender.unbounded_send(n).unwrap();
        }
    });
    assert_eq!(receiver.by_ref().collect::<Vec<_>>().await, [0, 1, 2]);
    sending.await.unwrap();
    let mut unordered: FuturesUnordered<_> = (0..5).map(|n| spawn(sleep(SHORT * n))).collect();
    while unordered.next().await.is_some() {}
    futures::select! {
        () = sleep(SHORT).fuse() => {}
        () = sleep(HOUR).fuse() => {}
    }
    futures::future::join(sleep(SHORT), yield_now()).await;

    let (sender, receiver) = tokio::sync::oneshot::channel();
    let (lock, notify) = (Rc::new(tokio::sync::Mutex::new(0)), Rc::new(tokio::sync::Notify::new()));
    let (locked, notified) = (lock.clone(), notify.clone());
    let guard = lock.lock().await;
    let locking = spawn(async move {
        *locked.lock().await += 1;
        notified.notify_one();
        sender.send(()).unwrap();
    });
    sleep(SHORT).await;
    drop(guard);
    notify.notified().await;
    receiver.await.unwrap();
    locking.await.unwrap();
}

async fn threads_and_processes() {
    let el = get_running_loop().unwrap();
    el.run_in_executor(None, std::thread::yield_now).await.unwrap();
    let (sender, receiver) = oneshot::channel();
    let thread = std::thread::spawn(move || sender.send(()).unwrap());
    receiver.await.unwrap();
    thread.join().unwrap();
    let remote = el.remote();
    let thread = std::thread::spawn(move || remote.spawn(|| async { sleep(SHORT).await }).unwrap());
    while !thread.is_finished() {
        yield_now().await;
    }
    thread.join().unwrap().await.unwrap();
    let mut signals = el.signal(SignalKind::user_defined2()).unwrap();
    let waiting = spawn(async move { signals.recv().await });
    yield_now().await;
    let child = roundelay::create_subprocess_shell(format!("kill -USR2 {}", std::process::id())).await.unwrap();
    child.wait().await.unwrap();
    assert_eq!(timeout(PATIENCE, waiting).await.unwrap().unwrap(), Some(SignalKind::user_defined2()));
}

/// Threads that wake and drop wakers at the same time: tasks are woken, and nobody is named.
#[test]
fn wakers_that_are_used_and_dropped_on_many_threads() {
    on_debug_loop(|el| {
        let ((), said) = named(|| {
            for round in 0..200 {
                let woken = task(el, "woken", {
                    let mut threads = Vec::new();
                    poll_fn(move |cx| {
                        if threads.is_empty() {
                            for n in 0..3 {
                                let waker = cx.waker().clone();
                                let other = waker.clone();
                                let wakes = move || if n == round % 3 { waker.wake() } else { drop(waker) };
                                threads.push(std::thread::spawn(wakes));
                                drop(other);
                            }
                            return Poll::Pending;
                        }
                        threads.drain(..).for_each(|thread| thread.join().unwrap());
                        Poll::Ready(())
                    })
                });
                run_until(el, || woken.is_done());
                assert!(woken.now_or_never().unwrap().is_ok());
            }
        });
        assert!(said.is_empty(), "{said:#?}");
    });
}

/// A waker keeps its identity while somebody holds one, in debug mode, too: what was kept need not be replaced.
#[test]
fn wakers_keep_their_identity() {
    on_debug_loop(|el| {
        let kept = Rc::new(RefCell::new(None::<Waker>));
        let keep = kept.clone();
        let polls = poll_fn(move |cx| {
            let mut kept = keep.borrow_mut();
            let is_same = kept.as_ref().is_none_or(|waker| waker.will_wake(cx.waker()));
            assert!(is_same, "another waker than before");
            *kept = Some(cx.waker().clone());
            Poll::<Result<(), JoinError>>::Pending
        });
        let task = task(el, "polled", polls);
        for _ in 0..3 {
            settle(el);
            let waker = kept.borrow().clone().unwrap();
            waker.wake_by_ref();
        }
        settle(el);
        assert_eq!(el.all_tasks()[0].polls, 4);
        task.cancel();
        settle(el);
    });
}

/// Many of them are named in a time that grows with their number, not with its square.
#[test]
fn many_are_named() {
    on_debug_loop(|el| {
        const MANY: usize = 4000;
        let began = std::time::Instant::now();
        let (tasks, said) = named(|| {
            let tasks: Vec<_> = (0..MANY).map(|_| task(el, "lost", pending::<()>())).collect();
            settle(el);
            tasks
        });
        assert_eq!(said.iter().filter(|text| text.contains("waits for ever")).count(), MANY);
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
        tasks.iter().for_each(|task| _ = task.cancel());
        settle(el);
    });
}

/// What was awaited before debug mode came on wakes as before, also where the task is polled again for something else.
#[test]
fn debug_mode_comes_while_several_things_are_awaited() {
    on_loop(|el| {
        el.set_slow_callback_duration(Duration::MAX);
        let ((), said) = named(|| {
            let futures: Vec<_> = (0..7).map(|_| el.create_future::<()>()).collect();
            let [a, b, c, d, e, f, g] = std::array::from_fn(|n| futures[n].clone());
            let held = Rc::new(RefCell::new(Vec::<Waker>::new()));
            // Polls what it is around again whenever its waker is used, with whatever waker there is then.
            let around = |name: &str, future: futures::future::LocalBoxFuture<'static, ()>| {
                let held = held.clone();
                let mut future = future;
                task(
                    el,
                    name,
                    poll_fn(move |cx| {
                        if held.borrow().len() < 8 {
                            held.borrow_mut().push(cx.waker().clone());
                        }
                        future.as_mut().poll(cx)
                    }),
                )
            };
            let tasks = [
                around("wait", Box::pin(async { _ = wait([spawn(async { a.await.unwrap() })]).await })),
                around("gather", Box::pin(async { _ = gather([spawn(async { b.await.unwrap() })]).await })),
                around(
                    "group",
                    Box::pin(async {
                        TaskGroup::scope(async |group| {
                            group.spawn(async { c.await.unwrap() });
                        })
                        .await
                        .unwrap();
                    }),
                ),
                around("handle", Box::pin(async { spawn(async { d.await.unwrap() }).await.unwrap() })),
                around("shield", Box::pin(async { shield(spawn(async { e.await.unwrap() })).await.unwrap() })),
                around(
                    "as_completed",
                    Box::pin(async { _ = as_completed([spawn(async { f.await.unwrap() })]).next().await }),
                ),
                around("asked", Box::pin(async { cancel_requested().await })),
                around("timeout", Box::pin(async { timeout(HOUR, g).await.unwrap().unwrap() })),
            ];
            settle(el);
            el.set_debug(true);
            settle(el);
            for waker in held.take() {
                waker.wake();
            }
            settle(el);
            el.set_debug(false);
            settle(el);
            el.set_debug(true);
            settle(el);
            futures.iter().for_each(|future| future.set_result(()).unwrap());
            tasks[6].cancel_gracefully(HOUR);
            settle(el);
            complete(el, async move {
                for task in tasks {
                    task.await.unwrap();
                }
            });
        });
        assert!(said.is_empty(), "{said:#?}");
    });
}

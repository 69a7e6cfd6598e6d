//! Feature `tokio-rt`: futures that need a tokio runtime, on our loop.

#![cfg(feature = "tokio-rt")]

mod common;
#[path = "common/fork.rs"]
mod fork;

use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use common::{CountingWaker, PATIENCE, alone, complete, on_loop, run_alone, run_until, take_reports};
use fork::{fork, in_own_process};
use roundelay::{EventLoop, compat, timeout};
use tokio::runtime::Handle;

const MOMENT: Duration = Duration::from_millis(2);

/// Runs a test on a loop whose process has its runtime already: what that opens is never closed.
fn beside_the_runtime(body: impl FnOnce(&EventLoop)) {
    let _alone = alone();
    with_the_runtime(body);
}

/// As `beside_the_runtime`, for a test that is alone already.
fn with_the_runtime(body: impl FnOnce(&EventLoop)) {
    roundelay::block_on(compat::tokio(async { tokio::time::sleep(MOMENT).await }));
    run_alone(EventLoop::builder, body);
}

/// The threads of this process with that name.
fn threads(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|found| found.trim_end() == name).count()
}

/// Timers, sockets, tasks and blocking work of tokio's, awaited on our loop, in the one thread that polls.
#[test]
fn everything_of_tokio_works() {
    beside_the_runtime(|el| {
        let us = thread::current().id();
        let value = complete(
            el,
            compat::tokio(async move {
                // Not `Send`: the future stays on the loop's thread.
                let here = Rc::new(thread::current().id());
                tokio::time::sleep(MOMENT).await;
                assert!(tokio::time::timeout(MOMENT, pending::<()>()).await.is_err());
                assert_eq!((*here, thread::current().id()), (us, us));

                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                let echo = tokio::spawn(async move {
                    use tokio::io::{AsyncReadExt, AsyncWriteExt};
                    let (mut peer, _) = listener.accept().await.unwrap();
                    let mut data = [0; 5];
                    peer.read_exact(&mut data).await.unwrap();
                    peer.write_all(&data).await.unwrap();
                    thread::current().name().map(str::to_owned)
                });
                let answer = {
                    use tokio::io::{AsyncReadExt, AsyncWriteExt};
                    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
                    stream.write_all(b"round").await.unwrap();
                    let mut data = Vec::new();
                    stream.read_to_end(&mut data).await.unwrap();
                    data
                };
                assert_eq!(answer, b"round");
                assert_eq!(echo.await.unwrap().as_deref(), Some("roundelay-tokio"));
                tokio::task::spawn_blocking(|| 6).await.unwrap() + 1
            }),
        );
        assert_eq!(value, 7);
    });
}

/// Our own futures go on beside it, and inside of it.
#[test]
fn our_own_futures_work_inside() {
    beside_the_runtime(|el| {
        let future = compat::tokio(async {
            roundelay::sleep(MOMENT).await;
            tokio::time::sleep(MOMENT).await;
            roundelay::spawn(async { Handle::try_current().is_err() }).await.unwrap()
        });
        assert!(complete(el, future), "the context is the future's alone");
    });
}

/// All of them share one thread, which is there once the first was made.
#[test]
fn there_is_one_thread() {
    beside_the_runtime(|el| {
        let all: Vec<_> = (0..50)
            .map(|n| {
                el.create_task(compat::tokio(async move {
                    tokio::time::sleep(MOMENT).await;
                    n
                }))
            })
            .collect();
        run_until(el, || all.iter().all(|task| task.is_done()));
        let others: Vec<_> = (0..4)
            .map(|_| thread::spawn(|| roundelay::block_on(compat::tokio(async { tokio::time::sleep(MOMENT).await }))))
            .collect();
        others.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(threads("roundelay-tokio"), 1);
    });
}

/// While nothing happens the loop sleeps: its turns are those of the wake-ups.
#[test]
fn waiting_for_it_is_idle() {
    beside_the_runtime(|el| {
        let before = el.stats().turns;
        complete(el, compat::tokio(async { tokio::time::sleep(20 * MOMENT).await }));
        assert!(el.stats().turns - before < 10, "{:?}", el.stats());
    });
}

/// Dropped in time, it is dropped in the context, with what it owns: a socket is gone from tokio's reactor.
#[test]
fn dropping_it_is_clean() {
    struct InContext(Rc<RefCell<Vec<bool>>>);
    impl Drop for InContext {
        fn drop(&mut self) {
            self.0.borrow_mut().push(Handle::try_current().is_ok());
        }
    }

    beside_the_runtime(|el| {
        let drops = Rc::new(RefCell::new(Vec::new()));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Awaiting, cancelled.
        let own = InContext(drops.clone());
        let waits = compat::tokio(async move {
            let _own = own;
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.readable().await.unwrap();
        });
        assert!(complete(el, async { timeout(10 * MOMENT, waits).await }).is_err());
        let mut peer = listener.accept().unwrap().0;
        assert_eq!(peer.read(&mut [0]).unwrap(), 0, "it is closed");
        assert_eq!(drops.take(), [true]);
        // Never polled.
        let own = InContext(drops.clone());
        drop(compat::tokio(async move { drop(own) }));
        assert_eq!(drops.take(), [true]);
        // Done, and its captures gone before its end is seen.
        let own = InContext(drops.clone());
        let mut done = compat::tokio(async move {
            let _own = own;
        });
        complete(el, &mut done);
        assert_eq!(drops.take(), [true]);
        drop(done);
        // The loop closed under it.
        let own = InContext(drops.clone());
        drop(el.create_task(compat::tokio(async move {
            let _own = own;
            tokio::time::sleep(PATIENCE).await;
        })));
        el.run_once(Some(Duration::ZERO)).unwrap();
        el.close();
        assert_eq!(drops.take(), [true]);
    });
}

/// A panic passes to whoever awaits it, and the loop and the runtime go on.
#[test]
fn panics_pass() {
    beside_the_runtime(|el| {
        let error = complete(
            el,
            el.create_task(compat::tokio(async {
                tokio::time::sleep(MOMENT).await;
                panic!("inside");
            })),
        );
        assert_eq!(*error.unwrap_err().into_panic().downcast::<&str>().unwrap(), "inside");
        drop(take_reports());
        // In a destructor: where it is dropped.
        struct Bad;
        impl Drop for Bad {
            fn drop(&mut self) {
                panic!("in a destructor");
            }
        }
        let bad = Bad;
        let future = compat::tokio(async move {
            let _bad = bad;
            pending::<()>().await
        });
        assert!(catch_unwind(AssertUnwindSafe(|| drop(future))).is_err());
        assert!(Handle::try_current().is_err(), "the context was left");
        assert_eq!(complete(el, compat::tokio(async { tokio::spawn(async { 3 }).await.unwrap() })), 3);
    });
}

/// Polled after its end it says so; it is `Send` where the future is, and need not be.
#[test]
fn the_contract_of_the_type() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    beside_the_runtime(|el| {
        let mut future = is_send(compat::tokio(async { 1 }));
        assert!(format!("{future:?}").contains("is_done: false"));
        assert_eq!(complete(el, &mut future), 1);
        assert!(format!("{future:?}").contains("is_done: true"));
        let (_, waker) = CountingWaker::new();
        let again = AssertUnwindSafe(|| Pin::new(&mut future).poll(&mut Context::from_waker(&waker)));
        let payload = catch_unwind(again).unwrap_err();
        assert!(
            payload.downcast::<String>().map_or_else(|p| *p.downcast::<&str>().unwrap() == POLLED, |t| *t == POLLED)
        );
        // To another loop, in another thread.
        let moved = is_send(compat::tokio(async { tokio::time::sleep(MOMENT).await }));
        thread::spawn(move || roundelay::block_on(moved)).join().unwrap();
    });
}

const POLLED: &str = "compat::tokio(): polled after it was done";

/// In the context of a runtime of the application's own, also from inside of another one's.
#[test]
fn a_runtime_of_ones_own() {
    // From the beginning to the end: the runtime has descriptors.
    let _alone = alone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let handle = runtime.handle().clone();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let thread = thread::spawn(move || runtime.block_on(stopped));
    with_the_runtime(|el| {
        let (own, id) = (handle.clone(), handle.id());
        let future = compat::tokio(async move {
            let shared = Handle::current().id();
            let inner = compat::tokio_with(&own, async {
                tokio::time::sleep(MOMENT).await;
                let spawned = tokio::spawn(async { Handle::current().id() });
                (Handle::current().id(), spawned.await.unwrap())
            });
            assert_eq!(inner.handle().id(), id);
            assert_eq!(inner.await, (id, id));
            assert_eq!(Handle::current().id(), shared);
            assert_ne!(shared, id);
        });
        complete(el, future);
    });
    drop(stop);
    let _ = thread.join().unwrap();
}

/// What is woken very often from the other thread is never lost.
#[test]
fn no_wake_up_is_lost() {
    beside_the_runtime(|el| {
        let (near, far) = tokio::sync::mpsc::channel::<u32>(1);
        let mut far = far;
        complete(
            el,
            compat::tokio(async move {
                let sender = tokio::spawn(async move {
                    for n in 0..10_000 {
                        near.send(n).await.unwrap();
                    }
                });
                for n in 0..10_000 {
                    assert_eq!(far.recv().await, Some(n));
                }
                sender.await.unwrap();
            }),
        );
    });
}

/// The end of the process waits neither for the thread nor for what was spawned.
#[test]
fn the_exit_does_not_wait() {
    const INSIDE: &str = "ROUNDELAY_TOKIO_EXIT";
    if std::env::var_os(INSIDE).is_some() {
        let code = roundelay::block_on(async {
            let answer = compat::tokio(async {
                tokio::spawn(pending::<()>());
                tokio::task::spawn_blocking(thread::park);
                tokio::time::sleep(MOMENT).await;
                3
            });
            drop(roundelay::spawn(compat::tokio(pending::<()>())));
            answer.await
        });
        io::stdout().write_all(b"at the end\n").unwrap();
        std::process::exit(code);
    }
    let _alone = alone();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["the_exit_does_not_wait", "--exact", "--nocapture", "--test-threads=1"]).env(INSIDE, "1");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let (done, is_done) = mpsc::channel();
    let mut said = child.stdout.take().unwrap();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        said.read_to_string(&mut text).unwrap();
        done.send(text).unwrap();
    });
    let text = is_done.recv_timeout(PATIENCE);
    let _ = child.kill();
    assert!(text.expect("the process ends").contains("at the end"));
    reader.join().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

/// A loop that is dropped at the end of its thread drops the future, where tokio's context may be gone already.
#[test]
fn at_the_end_of_a_thread() {
    thread_local! {
        static KEPT: RefCell<Option<EventLoop>> = const { RefCell::new(None) };
    }
    beside_the_runtime(|_| {
        thread::spawn(|| {
            KEPT.with(|kept| {
                let el = EventLoop::new().unwrap();
                drop(el.create_task(compat::tokio(async { tokio::time::sleep(PATIENCE).await })));
                *kept.borrow_mut() = Some(el);
            });
            KEPT.with(|kept| kept.borrow().as_ref().unwrap().run_once(Some(Duration::ZERO)).unwrap());
        })
        .join()
        .unwrap();
    });
}

/// A child of `fork` does nothing to its parent's runtime, and gets one of its own.
#[test]
fn a_child_has_a_runtime_of_its_own() {
    in_own_process(|| {
        let el = EventLoop::new().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut waits = Some(compat::tokio(async move {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.readable().await.unwrap();
            tokio::time::sleep(MOMENT).await;
        }));
        let mut polled = Box::pin(poll_fn(|cx| Poll::Ready(Pin::new(waits.as_mut().unwrap()).poll(cx).is_pending())));
        assert!(el.run_until_complete(&mut polled).unwrap());
        let mut peer = listener.accept().unwrap().0;
        drop(polled);
        let (kept, left) = (&mut waits, &el);
        fork(move || {
            let mut waits = kept.take().unwrap();
            let (_, waker) = CountingWaker::new();
            let poll = AssertUnwindSafe(|| Pin::new(&mut waits).poll(&mut Context::from_waker(&waker)));
            let text = *catch_unwind(poll).unwrap_err().downcast::<&str>().unwrap();
            assert!(text.contains("has forked this one"), "{text}");
            drop(waits);
            left.close();
            let began = Instant::now();
            roundelay::block_on(compat::tokio(async { tokio::time::sleep(MOMENT).await }));
            assert!(began.elapsed() >= MOMENT);
        })
        .wait();
        // The socket is still in the reactor.
        peer.write_all(b"!").unwrap();
        complete(&el, waits.take().unwrap());
        el.close();
    });
}

/// Without anything of tokio's in it, a future runs as well, and a runtime is made once.
#[test]
fn a_plain_future_runs() {
    on_loop(|_| {});
    beside_the_runtime(|el| {
        assert_eq!(complete(el, compat::tokio(std::future::ready(5))), 5);
    });
}

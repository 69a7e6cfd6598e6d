//! Feature `async-io`: what is built on async-io's reactor, on a loop that drives it and on one that does not.

#![cfg(feature = "async-io")]

mod common;
#[path = "common/fork.rs"]
mod fork;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use async_io::{Async, Timer};
use common::{Kind, PATIENCE, alone, complete, run_alone, run_until, take_reports};
use fork::{fork, in_own_process};
use futures::io::{AsyncReadExt, AsyncWriteExt};
use roundelay::selector::{Epoll, Selector};
use roundelay::{Builder, EventLoop, ManualClock, Runner};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

const MOMENT: Duration = Duration::from_millis(2);

/// Longer than async-io's own thread ever sleeps, so that it stands in line when the loop wakes up.
const LONG: Duration = Duration::from_millis(40);

/// Runs a test on a loop of this kind. What async-io opens for the process, and never closes, is there before.
fn on(builder: impl FnOnce() -> Builder, body: impl FnOnce(&EventLoop)) {
    let _alone = alone();
    drop(Async::new(UnixStream::pair().unwrap().0).unwrap());
    run_alone(builder, body);
}

/// Runs a test on loops of all kinds that drive.
fn driving(body: impl Fn(&EventLoop)) {
    for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
        on(|| kind.builder().drive_async_io(true), &body);
    }
}

/// The threads that have called a waker.
#[derive(Default)]
struct Threads(Mutex<Vec<(ThreadId, Option<String>)>>);

impl Threads {
    fn take(&self) -> Vec<(ThreadId, Option<String>)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// How many calls there were, and how many of another thread.
    fn count(&self) -> (usize, usize) {
        let all = self.take();
        (all.len(), all.iter().filter(|(id, _)| *id != thread::current().id()).count())
    }
}

/// A waker that notes by which thread it is called.
struct Noting {
    threads: Arc<Threads>,
    waker: Waker,
}

impl Wake for Noting {
    fn wake(self: Arc<Self>) {
        let thread = thread::current();
        self.threads.0.lock().unwrap().push((thread.id(), thread.name().map(str::to_owned)));
        self.waker.wake_by_ref();
    }
}

/// Notes by which threads the future is woken.
async fn noted<F: Future>(threads: &Arc<Threads>, future: F) -> F::Output {
    let mut future = Box::pin(future);
    poll_fn(|cx| {
        let noting = Noting { threads: threads.clone(), waker: cx.waker().clone() };
        future.as_mut().poll(&mut Context::from_waker(&Arc::new(noting).into()))
    })
    .await
}

/// async-io's own thread: how often it has run, and how much of the processor it has used, in ticks.
fn helper() -> (u64, u64) {
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let folder = task.unwrap().path();
        let read = |file| std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        if read("comm").trim_end() != "async-io" {
            continue;
        }
        let status = read("status");
        let count = |name: &str| -> u64 {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().last().unwrap().parse().unwrap()
        };
        let stat = read("stat");
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        return (count("voluntary_ctxt_switches") + count("nonvoluntary_ctxt_switches"), ticks);
    }
    panic!("async-io has no thread");
}

/// What is so unless the machine has taken the processor away from a thread in between: tried again, some times.
fn unless_disturbed(mut attempt: impl FnMut() -> Result<(), String>) {
    const ATTEMPTS: usize = 20;
    let failures: Vec<String> = (0..ATTEMPTS).map_while(|_| attempt().err()).collect();
    assert!(failures.len() < ATTEMPTS, "{failures:#?}");
}

fn ensure(is_so: bool, text: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(text()) }
}

/// A round trip between two ends on one loop.
async fn ping_pong(rounds: usize) {
    let (near, far) = Async::<UnixStream>::pair().unwrap();
    let mut far = far;
    let peer = roundelay::spawn(async move {
        let mut byte = [0];
        while far.read(&mut byte).await.unwrap() > 0 {
            far.write_all(&byte).await.unwrap();
        }
    });
    let mut near = near;
    for n in 0..rounds {
        near.write_all(&[n as u8]).await.unwrap();
        let mut byte = [0];
        near.read_exact(&mut byte).await.unwrap();
        assert_eq!(byte, [n as u8]);
    }
    drop(near);
    peer.await.unwrap();
}

/// Timers, descriptors, connections: all of it makes progress, with the option and without it.
#[test]
fn everything_of_async_io_works() {
    let body = |el: &EventLoop| {
        complete(el, async {
            Timer::after(MOMENT).await;
            ping_pong(100).await;
            let listener = Async::<TcpListener>::bind(([127, 0, 0, 1], 0)).unwrap();
            let address = listener.get_ref().local_addr().unwrap();
            let server = roundelay::spawn(async move {
                let (mut peer, _) = listener.accept().await.unwrap();
                peer.write_all(b"hello").await.unwrap();
            });
            let mut client = Async::<std::net::TcpStream>::connect(address).await.unwrap();
            let mut text = String::new();
            client.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "hello");
            server.await.unwrap();
        });
    };
    driving(body);
    on(|| Kind::Epoll.builder(), body);
}

/// What ends a sleep is told on the loop's own thread: descriptors, and timers, also those that are longer than the helper
/// ever sleeps, after which it stands in line. And the helper does not run more often, the more wake-ups there are.
#[test]
fn no_wake_up_comes_from_the_helper() {
    fn rounds(el: &EventLoop) -> Result<(), String> {
        let threads = Arc::new(Threads::default());
        complete(el, async {
            // Behind it the helper is sent away: as the run began it was at work.
            Timer::after(MOMENT).await;
            let before = helper();
            noted(&threads, ping_pong(3000)).await;
            let after = helper();
            let (wakes, of_others) = threads.count();
            assert!(wakes >= 3000, "{wakes}");
            ensure(of_others <= wakes / 10, || format!("{of_others} of {wakes} wake-ups come from others"))?;
            ensure(after.0 - before.0 < 300, || format!("the helper has run {} times", after.0 - before.0))?;
            ensure(after.1 - before.1 <= 3, || format!("the helper has used {} ticks", after.1 - before.1))
        })
    }
    fn sleeps(el: &EventLoop) -> Result<(), String> {
        const SLEEPS: usize = 16;
        let threads = Arc::new(Threads::default());
        let (near, mut far) = UnixStream::pair().unwrap();
        let writer = thread::spawn(move || {
            for n in 0..SLEEPS {
                thread::park_timeout(LONG);
                far.write_all(&[n as u8]).unwrap();
            }
        });
        complete(el, async {
            let mut near = Async::new(near).unwrap();
            let read = async {
                let mut data = Vec::new();
                near.read_to_end(&mut data).await.unwrap();
                data.len()
            };
            assert_eq!(noted(&threads, read).await, SLEEPS);
        });
        writer.join().unwrap();
        let (wakes, of_others) = threads.count();
        // A reader that comes late finds several bytes at once.
        ensure(wakes >= SLEEPS && of_others <= 4, || format!("{of_others} of {wakes} wake-ups come from others"))
    }
    driving(|el| {
        unless_disturbed(|| rounds(el));
        unless_disturbed(|| sleeps(el));
    });
}

/// Without the option the helper wakes the loop, from its thread.
#[test]
fn without_the_option_the_helper_does() {
    on(
        || Kind::Epoll.builder(),
        |el| {
            assert!(!el.drives_async_io());
            let threads = Arc::new(Threads::default());
            complete(el, noted(&threads, Timer::after(MOMENT)));
            complete(el, noted(&threads, ping_pong(20)));
            let all = threads.take();
            assert!(all.len() >= 20);
            assert!(all.iter().any(|(_, name)| name.as_deref() == Some("async-io")), "{all:?}");
        },
    );
}

/// A loop that has nothing to do makes no turns.
#[test]
fn waiting_is_idle() {
    driving(|el| {
        let before = el.stats();
        complete(el, async {
            for _ in 0..4 {
                Timer::after(LONG).await;
            }
        });
        let after = el.stats();
        assert!(after.turns - before.turns <= 12, "{} turns", after.turns - before.turns);
        assert!(after.waits - before.waits <= 24, "{} waits", after.waits - before.waits);
    });
}

/// What is not async-io's wakes the loop as ever: posts, signals, children, descriptors, timers, executors.
#[test]
fn everything_else_wakes_the_loop() {
    driving(|el| {
        let remote = el.remote();
        let poster = thread::spawn(move || {
            (0..200).map(|n| remote.spawn(move || async move { n }).unwrap().wait().unwrap()).sum::<i32>()
        });
        complete(el, async {
            roundelay::sleep(MOMENT).await;
            assert_eq!(roundelay::spawn_blocking(|| 5).await.unwrap(), 5);
            let child = roundelay::create_subprocess_exec("true", [""; 0]).await.unwrap();
            assert!(child.wait().await.unwrap().success());
            let mut signals = roundelay::signal(roundelay::SignalKind::user_defined1()).unwrap();
            let us = rustix::process::getpid();
            thread::spawn(move || rustix::process::kill_process(us, rustix::process::Signal::USR1).unwrap());
            signals.recv().await.unwrap();
        });
        run_until(el, || poster.is_finished());
        assert_eq!(poster.join().unwrap(), 199 * 200 / 2);

        let (mut near, mut far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let (fd, handle) = (near.try_clone().unwrap(), el.clone());
        el.add_reader(&fd, move || {
            let _ = near.read(&mut [0]);
            handle.stop();
        })
        .unwrap();
        let writer = thread::spawn(move || {
            far.write_all(b"!").unwrap();
            far
        });
        el.run_forever();
        assert!(el.remove_reader(&fd));
        drop(writer.join().unwrap());
    });
}

/// Many posts, each to a loop that has fallen asleep or is about to: none is lost.
#[test]
fn no_post_is_lost() {
    driving(|el| {
        let (remote, ran) = (el.remote(), Arc::new(AtomicUsize::new(0)));
        let poster = {
            let ran = ran.clone();
            thread::spawn(move || {
                for n in 0..3000 {
                    let done = ran.clone();
                    drop(remote.call_soon_threadsafe(move || done.fetch_add(1, Ordering::SeqCst)).unwrap());
                    while n % 3 == 0 && ran.load(Ordering::SeqCst) <= n {
                        thread::yield_now();
                    }
                }
                remote.stop().unwrap();
            })
        };
        el.run_forever();
        run_until(el, || ran.load(Ordering::SeqCst) == 3000);
        poster.join().unwrap();
    });
}

/// Timers of the loop's end its sleep in time, in whatever order they are armed and cancelled.
#[test]
fn deadlines_end_the_sleep() {
    driving(|el| {
        complete(el, async {
            let el = roundelay::get_running_loop().unwrap();
            let order = Rc::new(RefCell::new(Vec::new()));
            let now = el.time();
            let timers: Vec<_> = [9_u64, 3, 6, 1]
                .map(|n| {
                    let order = order.clone();
                    el.call_at(now + Duration::from_millis(n), move || order.borrow_mut().push(n))
                })
                .into_iter()
                .collect();
            // Armed, and slept with: then it is gone.
            let gone = el.call_later(MOMENT / 4, || ());
            Timer::after(MOMENT / 20).await;
            gone.cancel();
            for timer in timers {
                timer.await.unwrap();
            }
            assert_eq!(order.take(), [1, 3, 6, 9]);
            let began = Instant::now();
            roundelay::sleep(MOMENT).await;
            assert!(began.elapsed() >= MOMENT);
        });
    });
}

/// A waker that async-io calls while the loop sleeps may schedule whatever it likes on the loop.
#[test]
fn wakers_that_schedule_end_the_sleep() {
    struct Schedules(Arc<dyn Fn() + Send + Sync>);
    impl Wake for Schedules {
        fn wake(self: Arc<Self>) {
            (self.0)();
        }
    }
    thread_local! {
        static EL: RefCell<Option<EventLoop>> = const { RefCell::new(None) };
        static RAN: Cell<usize> = const { Cell::new(0) };
        static CALLED: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    driving(|el| {
        EL.set(Some(el.clone()));
        RAN.set(0);
        let ways: [fn(&EventLoop); 3] = [
            |el| drop(el.call_soon(|| RAN.set(RAN.get() + 1))),
            |el| drop(el.create_task(async { RAN.set(RAN.get() + 1) })),
            |el| drop(el.call_later(Duration::ZERO, || RAN.set(RAN.get() + 1))),
        ];
        for (n, way) in ways.into_iter().enumerate() {
            let us = thread::current().id();
            let called: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
                if thread::current().id() == us {
                    CALLED.set(Some(Instant::now()));
                    EL.with_borrow(|el| way(el.as_ref().unwrap()));
                }
            });
            // The helper may be the one that calls it, and does nothing.
            complete(el, async {
                while RAN.get() <= n {
                    let mut timer = Timer::after(MOMENT);
                    let waker = Waker::from(Arc::new(Schedules(called.clone())));
                    assert!(Pin::new(&mut timer).poll(&mut Context::from_waker(&waker)).is_pending());
                    let (asleep, began) = (el.stats().turns, Instant::now());
                    roundelay::sleep(LONG).await;
                    // One turn for the sleep alone, and one for what was scheduled, unless both came too late.
                    let late = CALLED.get().is_some_and(|at| at - began >= LONG);
                    assert!(late || RAN.get() <= n || el.stats().turns - asleep >= 2);
                }
            });
        }
        EL.set(None);
    });
}

/// A panic of a waker, and one in a callback, end neither the loop nor the driving.
#[test]
fn panics_do_no_harm() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("in a waker");
        }
    }
    driving(|el| {
        let mut timer = Timer::after(MOMENT);
        assert!(Pin::new(&mut timer).poll(&mut Context::from_waker(&Arc::new(Panics).into())).is_pending());
        complete(el, Timer::after(2 * MOMENT));
        drop(el.call_soon(|| panic!("in a callback")));
        complete(el, Timer::after(MOMENT));
        assert!(take_reports()[0].contains("in a callback"));
        drop(el.call_soon(|| std::panic::panic_any(roundelay::Fatal(Box::new("the end")))));
        let run = AssertUnwindSafe(|| el.run_until_complete(Timer::after(PATIENCE)));
        assert!(catch_unwind(run).unwrap_err().is::<roundelay::Fatal>());
        complete(el, Timer::after(MOMENT));
    });
}

/// While the loop is busy it drives async-io now and then: what waits there is not starved, whether or not anything is
/// registered with the loop itself.
#[test]
fn a_busy_loop_drives_it_too() {
    fn again(el: &EventLoop, busy: &Rc<Cell<bool>>) {
        let (handle, more) = (el.clone(), busy.clone());
        drop(el.call_soon(move || {
            if more.get() {
                again(&handle, &more);
            }
        }));
    }
    driving(|el| {
        let busy = Rc::new(Cell::new(true));
        again(el, &busy);
        complete(el, async {
            Timer::after(MOMENT).await;
            ping_pong(50).await;
        });
        // Behind what keeps the helper asleep for ten milliseconds at a time, which a short timer does not wait for.
        unless_disturbed(|| {
            let threads = Arc::new(Threads::default());
            for _ in 0..10 {
                busy.set(false);
                common::settle(el);
                complete(el, async {
                    let until = Instant::now() + LONG;
                    while Instant::now() < until {
                        ping_pong(20).await;
                    }
                    busy.set(true);
                    again(el, &busy);
                    noted(&threads, Timer::after(MOMENT)).await;
                });
            }
            let (_, of_others) = threads.count();
            ensure(of_others <= 5, || format!("{of_others} of 10 wake-ups come from others"))
        });
        busy.set(false);
        common::settle(el);
    });
}

/// Turn by turn: a wait drives, a look does not, and the helper does meanwhile.
#[test]
fn turn_by_turn() {
    driving(|el| {
        let timer = el.create_task(Timer::after(MOMENT));
        run_until(el, || timer.is_done());
        let timer = el.create_task(Timer::after(MOMENT));
        let patience = Instant::now() + PATIENCE;
        while !timer.is_done() {
            assert!(Instant::now() < patience);
            el.run_once(Some(Duration::ZERO)).unwrap();
        }
        let began = Instant::now();
        assert_eq!(el.run_once(Some(MOMENT)).unwrap(), 0);
        assert!(began.elapsed() >= MOMENT);
        let timer = el.create_task(Timer::after(MOMENT));
        while !timer.is_done() {
            el.run_once(None).unwrap();
        }
    });
}

/// Inside of a foreign loop, which polls its descriptor.
#[test]
fn under_a_host() {
    driving(|el| {
        let task = el.create_task(async {
            Timer::after(MOMENT).await;
            ping_pong(20).await;
        });
        let fd = el.as_fd();
        while !task.is_done() {
            let mut fds = [PollFd::new(&fd, PollFlags::IN)];
            let timeout = el.next_deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let timeout = Timespec::try_from(timeout.unwrap_or(PATIENCE)).unwrap();
            assert!(poll(&mut fds, Some(&timeout)).unwrap() > 0 || el.next_deadline().is_some(), "nothing has come");
            el.run_once(Some(Duration::ZERO)).unwrap();
        }
    });
}

/// A callback may block on async-io itself.
#[test]
fn a_callback_may_block_on_it() {
    driving(|el| {
        complete(el, async {
            Timer::after(MOMENT).await;
            async_io::block_on(Timer::after(MOMENT));
            ping_pong(20).await;
            async_io::block_on(async { Timer::after(LONG).await });
            Timer::after(MOMENT).await;
        });
    });
}

/// Many loops in many threads: one drives at a time, and all go on.
#[test]
fn many_loops_drive() {
    let _alone = alone();
    let threads: Vec<_> = (0..6)
        .map(|_| {
            thread::spawn(|| {
                let el = EventLoop::builder().drive_async_io(true).build().unwrap();
                for round in 0..5 {
                    complete(&el, async {
                        ping_pong(50).await;
                        Timer::after(MOMENT / 2).await;
                        roundelay::sleep(MOMENT / 2).await;
                        let (mut near, mut far) = roundelay::UnixStream::pair().unwrap();
                        near.write_all(&[round]).await.unwrap();
                        let mut byte = [0];
                        far.read_exact(&mut byte).await.unwrap();
                        assert_eq!(byte, [round]);
                    });
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Beside a thread that blocks on async-io for things of its own, which takes the reactor, too.
#[test]
fn beside_others_who_drive() {
    driving(|el| {
        let others: Vec<_> = (0..2)
            .map(|_| {
                thread::spawn(|| {
                    for _ in 0..30 {
                        async_io::block_on(Timer::after(MOMENT / 2));
                    }
                })
            })
            .collect();
        complete(el, async {
            for _ in 0..20 {
                ping_pong(20).await;
                Timer::after(MOMENT).await;
            }
        });
        others.into_iter().for_each(|thread| thread.join().unwrap());
        complete(el, ping_pong(20));
    });
}

/// A loop that is closed, or dropped, leaves async-io without its descriptor; what still waits there is dropped with it.
#[test]
fn closing_it() {
    driving(|el| {
        let (near, far) = UnixStream::pair().unwrap();
        let near = Async::new(near).unwrap();
        let task = el.create_task(async move { near.readable().await });
        drop(el.create_task(Timer::after(PATIENCE)));
        el.run_once(Some(MOMENT)).unwrap();
        el.close();
        assert!(!el.drives_async_io());
        drop((task, far));
    });
    // By another one that runs meanwhile.
    driving(|el| {
        complete(el, async {
            let other = thread::spawn(|| drop(EventLoop::builder().drive_async_io(true).build().unwrap()));
            Timer::after(MOMENT).await;
            other.join().unwrap();
            Timer::after(MOMENT).await;
        });
    });
}

/// With a clock of the application's, which somebody turns.
#[test]
fn a_clock_of_ones_own() {
    let clock = ManualClock::new();
    let turned = clock.clone();
    on(
        || EventLoop::builder().clock(clock).drive_async_io(true),
        |el| {
            let sleeps = el.create_task(roundelay::sleep(PATIENCE));
            el.run_until_complete(async { Timer::after(MOMENT).await }).unwrap();
            assert!(!sleeps.is_done());
            let turner = thread::spawn(move || turned.advance(PATIENCE));
            el.run_until_complete(sleeps).unwrap().unwrap();
            turner.join().unwrap();
        },
    );
}

/// `block_on` and `Runner` run such a loop, and end it.
#[test]
fn in_a_runner() {
    let _alone = alone();
    let factory = || EventLoop::builder().drive_async_io(true).build();
    let mut runner = Runner::builder().loop_factory(factory).build();
    for _ in 0..3 {
        runner
            .run(async {
                drop(roundelay::spawn(Timer::after(PATIENCE)));
                Timer::after(MOMENT).await;
                assert!(roundelay::get_running_loop().unwrap().drives_async_io());
            })
            .unwrap();
    }
    runner.close();
}

/// A selector without a descriptor, and spinning, are refused.
#[test]
fn what_is_refused() {
    struct Without(Epoll);
    impl Selector for Without {
        fn name(&self) -> &'static str {
            "without"
        }
        fn backend_fd(&self) -> Option<BorrowedFd<'_>> {
            None
        }
        left_to_the_inner_one! { supports_edge add modify delete wait notifier }
    }
    let _alone = alone();
    let refused = |builder: Builder, text: &str| {
        let error = builder.drive_async_io(true).build().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(text) && error.to_string().contains("drive_async_io"), "{error}");
    };
    refused(EventLoop::builder().spin(MOMENT), "Builder::spin()");
    refused(
        EventLoop::builder().selector(Without(Epoll::new().unwrap())),
        "the selector \"without\" has no descriptor",
    );
    assert!(!EventLoop::builder().drive_async_io(true).drive_async_io(false).build().unwrap().drives_async_io());
}

/// A child of `fork` leaves the parent's registration alone, and a loop that goes on in it does not drive any more.
#[test]
fn in_a_child() {
    in_own_process(|| {
        let el = EventLoop::builder().drive_async_io(true).build().unwrap();
        let goes_on = EventLoop::builder().drive_async_io(true).build().unwrap();
        complete(&el, Timer::after(MOMENT));
        complete(&goes_on, Timer::after(MOMENT));
        fork(|| {
            el.close();
            assert!(!el.drives_async_io());
            let error = EventLoop::builder().drive_async_io(true).build().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{error}");
            goes_on.after_fork_child().unwrap();
            assert!(!goes_on.drives_async_io());
            complete(&goes_on, roundelay::sleep(MOMENT));
            goes_on.close();
        })
        .wait();
        unless_disturbed(|| {
            let threads = Arc::new(Threads::default());
            complete(&el, async {
                Timer::after(MOMENT).await;
                noted(&threads, ping_pong(50)).await;
            });
            let (wakes, of_others) = threads.count();
            ensure(of_others <= wakes / 10, || format!("{of_others} of {wakes} wake-ups come from others"))
        });
        complete(&el, async {
            // A descriptor of the loop's own, of which it hears by the registration.
            let (mut near, far) = UnixStream::pair().unwrap();
            let mut far = roundelay::UnixStream::from_std(far).unwrap();
            let writer = thread::spawn(move || near.write_all(b"!").unwrap());
            far.read_exact(&mut [0]).await.unwrap();
            writer.join().unwrap();
        });
        let remote = el.remote();
        let post = thread::spawn(move || remote.spawn(|| async { 1 }).unwrap().wait().unwrap());
        run_until(&el, || post.is_finished());
        drop((el, goes_on));
    });
}

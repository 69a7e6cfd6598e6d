//! Our loop inside of calloop and of GLib's main loop, by the adapters of the examples.

#[path = "../../../tests/common/mod.rs"]
mod common;
#[path = "../examples/embed_calloop.rs"]
mod embed_calloop;
#[cfg(feature = "glib")]
#[path = "../examples/embed_glib.rs"]
mod embed_glib;
#[path = "../../../tests/common/threads.rs"]
mod threads;

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{alone, run_alone};
use roundelay::{EventLoop, get_running_loop, sleep, spawn};

/// A foreign loop.
#[derive(Clone, Copy, Debug)]
enum Host {
    Calloop,
    #[cfg(feature = "glib")]
    Glib,
}

const HOSTS: &[Host] = &[
    Host::Calloop,
    #[cfg(feature = "glib")]
    Host::Glib,
];

impl Host {
    /// Runs it until `ours` is done, with `el` inside; `theirs` is called by a timer of the host's after 100 ms.
    fn run<T: 'static>(
        self,
        el: &EventLoop,
        ours: impl Future<Output = T> + 'static,
        theirs: impl FnOnce() + 'static,
    ) -> T {
        let output = Rc::new(RefCell::new(None));
        match self {
            Self::Calloop => {
                let mut host = calloop::EventLoop::<()>::try_new().unwrap();
                host.handle().insert_source(embed_calloop::Hosted::new(el), |(), &mut (), _| ()).unwrap();
                let (signal, slot) = (host.get_signal(), output.clone());
                drop(el.create_task(async move {
                    slot.replace(Some(ours.await));
                    signal.stop();
                }));
                let mut theirs = Some(theirs);
                let timer = calloop::timer::Timer::from_duration(Duration::from_millis(100));
                let call = move |_, _: &mut (), _: &mut ()| {
                    theirs.take().into_iter().for_each(|theirs| theirs());
                    calloop::timer::TimeoutAction::Drop
                };
                host.handle().insert_source(timer, call).unwrap();
                host.run(None, &mut (), |_| ()).unwrap();
            }
            #[cfg(feature = "glib")]
            Self::Glib => {
                let context = glib::MainContext::default();
                let _acquired = context.acquire().unwrap();
                let host = glib::MainLoop::new(Some(&context), false);
                let hosted = embed_glib::Hosted::new(el);
                let (quit, slot) = (host.clone(), output.clone());
                drop(el.create_task(async move {
                    slot.replace(Some(ours.await));
                    quit.quit();
                }));
                let called = Rc::new(Cell::new(false));
                let is_called = called.clone();
                let timeout = glib::source::timeout_add_local_once(Duration::from_millis(100), move || {
                    is_called.set(true);
                    theirs();
                });
                host.run();
                drop(hosted);
                if !called.get() {
                    // The context is that of the next test, too, which runs on another thread.
                    timeout.remove();
                }
            }
        }
        output.take().expect("the host has ended before our future")
    }
}

fn in_each(body: impl Fn(Host, &EventLoop)) {
    let _alone = alone();
    for &host in HOSTS {
        println!("in {host:?}");
        #[cfg(feature = "glib")]
        // What GLib opens for the process.
        assert!(!glib::MainContext::default().iteration(false));
        run_alone(EventLoop::builder, |el| body(host, el));
    }
}

/// LU-05: callbacks, timers, tasks, posts and connections, inside of calloop and of GLib.
#[test]
fn all_of_it_works() {
    in_each(|host, el| {
        let (socket, mut peer) = UnixStream::pair().unwrap();
        let echo = thread::spawn(move || _ = std::io::copy(&mut peer.try_clone().unwrap(), &mut peer));
        let (remote, start) = (el.remote(), el.time());
        let fired = Rc::new(RefCell::new(Vec::new()));
        for n in 0..20_u64 {
            let (after, fired) = (Duration::from_micros(n * 7 % 20 * 700), fired.clone());
            el.call_at(start + after, move || {
                let now = get_running_loop().unwrap().time();
                assert!(now >= start + after, "early");
                fired.borrow_mut().push((after, n));
            });
        }
        host.run(
            el,
            async move {
                let el = get_running_loop().unwrap();
                assert_eq!(el.call_soon(|| 1).await.unwrap(), 1);
                let posted = thread::spawn(move || remote.spawn(|| async { spawn(async { 7 }).await.unwrap() }));
                assert_eq!(posted.join().unwrap().unwrap().await.unwrap(), 7);
                let (mut reader, mut writer) = roundelay::open_connection(OwnedFd::from(socket)).await.unwrap();
                for n in 0..100 {
                    let line = format!("there and back {n}\n");
                    writer.write(line.as_bytes());
                    assert_eq!(reader.readline().await.unwrap(), line.as_bytes());
                }
                writer.close();
                writer.wait_closed().await.unwrap();
                sleep(Duration::from_millis(15)).await;
            },
            || (),
        );
        echo.join().unwrap();
        assert!(get_running_loop().is_err());
        let fired = fired.take();
        assert!(fired.len() == 20 && fired.is_sorted(), "{fired:?}");
    });
}

/// While nothing happens there is no turn; and what the host's callback then schedules is seen.
#[test]
fn an_idle_loop_costs_nothing() {
    in_each(|host, el| {
        let far = el.call_later(Duration::from_secs(3600), || ());
        let future = el.create_future::<u64>();
        let (waits, inner) = (future.clone(), el.clone());
        let idle_turns = host.run(
            el,
            async move {
                let before = inner.stats().turns;
                waits.await.unwrap() - before
            },
            {
                let el = el.clone();
                move || future.set_result(el.stats().turns).unwrap()
            },
        );
        // Those that the task was begun in, and the settling.
        assert!(idle_turns <= 3, "{idle_turns} turns in {host:?}");
        far.cancel();
    });
}

/// No wake-up is lost over 100 000 posts of two threads: see the test of the same name in the crate's own tests.
#[test]
fn no_post_is_missed() {
    const POSTS: u32 = 50_000;
    in_each(|host, el| {
        let poster = |seed: u32| {
            let remote = el.remote();
            move || {
                let seen = Arc::new(AtomicU32::new(0));
                let mut random = seed.wrapping_mul(0x9E37_79B9);
                for n in 1..=POSTS {
                    random ^= random << 13;
                    random ^= random >> 17;
                    random ^= random << 5;
                    let there = seen.clone();
                    drop(remote.call_soon_threadsafe(move || there.store(n, Ordering::Release)).unwrap());
                    if random & 7 == 0 {
                        threads::wait_until(|| seen.load(Ordering::Acquire) == n);
                    }
                    (0..random >> 24).for_each(|_| std::hint::spin_loop());
                }
                threads::wait_until(|| seen.load(Ordering::Acquire) == POSTS);
            }
        };
        let posters = [1, 2].map(|seed| thread::spawn(poster(seed)));
        let join = || posters.map(|poster| poster.join().is_ok());
        let ended = host.run(el, async { roundelay::spawn_blocking(join).await.unwrap() }, || ());
        assert_eq!(ended, [true, true], "a wake-up was lost in {host:?}");
    });
}

/// The owner of a loop is dropped in one of its turns: the host goes on without it.
#[test]
fn the_loop_is_closed_in_a_turn() {
    in_each(|host, _el| {
        let owner = EventLoop::new().unwrap();
        let handle = owner.clone();
        handle.call_soon(move || drop(owner));
        match host {
            Host::Calloop => {
                let mut other = calloop::EventLoop::<()>::try_new().unwrap();
                other.handle().insert_source(embed_calloop::Hosted::new(&handle), |(), &mut (), _| ()).unwrap();
                for _ in 0..3 {
                    other.dispatch(Some(Duration::ZERO), &mut ()).unwrap();
                }
            }
            #[cfg(feature = "glib")]
            Host::Glib => {
                let context = glib::MainContext::default();
                let _hosted = embed_glib::Hosted::new(&handle);
                while context.iteration(false) {}
            }
        }
        assert!(handle.is_closed());
    });
}

/// The examples run to their ends.
#[test]
fn the_examples() {
    let _alone = alone();
    embed_calloop::main().unwrap();
    #[cfg(feature = "glib")]
    embed_glib::main().unwrap();
}

/// A loop that is closed, in one of its turns or between two, has left its deadline with the host: no turn is made then.
#[test]
fn a_deadline_outlives_the_loop() {
    in_each(|host, _el| {
        for in_a_turn in [true, false] {
            let owner = EventLoop::new().unwrap();
            let handle = owner.clone();
            let far = handle.call_later(Duration::from_millis(5), || unreachable!("the loop is closed"));
            let drop_owner = move || drop(owner);
            let between = if in_a_turn {
                handle.call_soon(drop_owner);
                None
            } else {
                Some(drop_owner)
            };
            let passes = || handle.is_closed() && far.when() + Duration::from_millis(5) < Instant::now();
            match host {
                Host::Calloop => {
                    let mut other = calloop::EventLoop::<()>::try_new().unwrap();
                    other.handle().insert_source(embed_calloop::Hosted::new(&handle), |(), &mut (), _| ()).unwrap();
                    other.dispatch(Some(Duration::ZERO), &mut ()).unwrap();
                    between.into_iter().for_each(|close| close());
                    while !passes() {
                        other.dispatch(Some(Duration::from_millis(1)), &mut ()).unwrap();
                    }
                }
                #[cfg(feature = "glib")]
                Host::Glib => {
                    let context = glib::MainContext::default();
                    let _hosted = embed_glib::Hosted::new(&handle);
                    while context.iteration(false) {}
                    between.into_iter().for_each(|close| close());
                    while !passes() {
                        context.iteration(false);
                    }
                }
            }
        }
    });
}

/// Deadlines that come to nothing, as those of most timeouts, leave nothing behind in the host.
#[test]
fn a_deadline_that_is_gone_makes_no_turn() {
    const TIMEOUTS: u64 = 100;
    in_each(|host, el| {
        let (near, idle) = (Duration::from_millis(40), Duration::from_millis(200));
        let turns = Rc::new(Cell::new(0));
        let (counted, inner) = (turns.clone(), el.clone());
        let future = async move {
            let far = inner.call_later(Duration::from_secs(3600), || ());
            for _ in 0..TIMEOUTS {
                let timeout = inner.call_later(near, || ());
                // A turn of the host's, which hears of the deadline, and another one, without.
                roundelay::spawn_blocking(|| ()).await.unwrap();
                timeout.cancel();
                roundelay::spawn_blocking(|| ()).await.unwrap();
            }
            let before = inner.stats().turns;
            sleep(idle).await;
            counted.set(inner.stats().turns - before);
            far.cancel();
        };
        host.run(el, future, || ());
        let turns = turns.get();
        assert!(turns <= 5, "{turns} turns in {host:?} for timeouts that were cancelled");
    });
}

/// A deadline that was reached is there again: whoever is called at it asks for the same moment once more.
#[test]
fn the_same_deadline_twice() {
    in_each(|host, el| {
        let future = el.create_future::<()>();
        let (inner, again) = (el.clone(), future.clone());
        let when = el.time() + Duration::from_millis(20);
        el.call_at(when, move || drop(inner.call_at(when, move || again.set_result(()).unwrap())));
        host.run(el, async move { roundelay::timeout(Duration::from_secs(18), future).await.unwrap().unwrap() }, || ());
        assert!(el.time() - when < Duration::from_secs(15), "{host:?} has heard of it by something else");
    });
}

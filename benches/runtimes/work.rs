//! The work that is the same for all runtimes, and for each bench.

use std::cell::Cell;
use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use super::Runtime;

/// A number below a million, the same each time, in no order.
fn scattered(i: u64) -> u64 {
    // Fibonacci hashing: the upper bits of the product.
    ((i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) * 1_000_000) >> 32
}

/// Delays that no measurement lives to see, spread over 50 seconds in no order.
pub(crate) fn far(i: u64) -> Duration {
    Duration::from_micros(10_000_000 + scattered(i) * 50)
}

/// Spawns tasks that are done when first polled, and awaits them all.
pub(crate) async fn spawn_join<R: Runtime>(tasks: u64) -> u64 {
    let joins: Vec<_> = (0..tasks).map(|i| R::spawn(async move { black_box(i) })).collect();
    let mut sum = 0;
    for join in joins {
        sum += join.await;
    }
    sum
}

/// Spawns tasks that nobody awaits, and yields until all have run.
pub(crate) async fn spawn_detached<R: Runtime>(tasks: u64) {
    let done = Rc::new(Cell::new(0));
    for i in 0..tasks {
        let done = done.clone();
        R::detach(R::spawn(async move {
            done.set(done.get() + 1);
            black_box(i)
        }));
    }
    while done.get() < tasks {
        R::yield_now().await;
    }
}

/// Tasks that take turns. How long it took from the first of them to the last, spawning not included.
pub(crate) async fn yields<R: Runtime>(tasks: u64, each: u64) -> Duration {
    let body = move || async move {
        for _ in 0..each {
            R::yield_now().await;
        }
        0
    };
    let joins: Vec<_> = (0..tasks).map(|_| R::spawn(body())).collect();
    let start = Instant::now();
    for join in joins {
        join.await;
    }
    start.elapsed()
}

/// Timers that are armed, and stay so until they are dropped.
pub(crate) async fn alive<R: Runtime>(timers: u64) -> Vec<Pin<Box<dyn Future<Output = ()>>>> {
    let mut alive = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    for i in 0..timers {
        let mut sleep: Pin<Box<dyn Future<Output = ()>>> = Box::pin(R::sleep(far(i)));
        assert!(sleep.as_mut().poll(&mut cx).is_pending());
        alive.push(sleep);
        if i % 64 == 63 {
            R::yield_now().await;
        }
    }
    // The loop has slept once, and knows them.
    R::sleep(Duration::from_millis(1)).await;
    alive
}

/// Arms a timer and disarms it, so many times.
pub(crate) fn insert_cancel<R: Runtime>(times: u64) {
    let mut cx = Context::from_waker(Waker::noop());
    for i in 0..times {
        let sleep = std::pin::pin!(R::sleep(far(i)));
        assert!(black_box(sleep.poll(&mut cx)).is_pending());
    }
}

/// As many tasks, each of which sleeps for a time of its own. When all are due, the loop is let go on: how long it takes
/// to wake them all and to run them to their ends.
pub(crate) async fn fire<R: Runtime>(timers: u64) -> Duration {
    // Each must be armed before the first is due.
    let mut patience = Duration::from_micros(500) + Duration::from_nanos(1500) * u32::try_from(timers).expect("few");
    loop {
        let (armed, early) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let joins: Vec<_> = (0..timers)
            .map(|i| {
                let (armed, early) = (armed.clone(), early.clone());
                R::spawn(async move {
                    let mut sleep = std::pin::pin!(R::sleep(patience + Duration::from_nanos(scattered(i))));
                    let armed_now = futures::poll!(&mut sleep).is_pending();
                    armed.set(armed.get() + 1);
                    if armed_now {
                        sleep.await;
                    }
                    early.set(early.get() + 1);
                    0
                })
            })
            .collect();
        while armed.get() < timers {
            R::yield_now().await;
        }
        // The spread, and what a clock that ticks in milliseconds adds.
        let last = Instant::now() + patience + Duration::from_micros(2200);
        let too_early = early.get() > 0;
        while Instant::now() < last {
            std::hint::spin_loop();
        }
        let start = Instant::now();
        for join in joins {
            join.await;
        }
        if !too_early {
            return start.elapsed();
        }
        patience *= 2;
    }
}

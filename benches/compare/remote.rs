//! What comes from other threads.

use std::cell::Cell;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::task::{Poll, Waker};
use std::thread::Thread;

use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};
use futures::task::AtomicWaker;

use crate::runtimes::{Roundelay, Runtime, Smol, Tokio};
use crate::{BATCH, group};

/// What the two sides of `remote/wake` share.
struct Table {
    asked: AtomicU64,
    answered: AtomicU64,
    waker: AtomicWaker,
}

/// Asks the other side, and waits for its answer.
async fn trip(table: &Table, thread: &Thread, number: u64) {
    table.asked.store(number, Ordering::Release);
    thread.unpark();
    poll_fn(|cx| {
        table.waker.register(cx.waker());
        if table.answered.load(Ordering::Acquire) >= number { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Round trips between a loop and a thread that is parked.
fn run_wake<R: Runtime>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, runtime: R) {
    let table = Arc::new(Table { asked: AtomicU64::new(0), answered: AtomicU64::new(0), waker: AtomicWaker::new() });
    let other = table.clone();
    let thread = std::thread::spawn(move || {
        for trip in 1.. {
            while other.asked.load(Ordering::Acquire) < trip {
                std::thread::park();
            }
            if other.asked.load(Ordering::Acquire) == u64::MAX {
                return;
            }
            other.answered.store(trip, Ordering::Release);
            other.waker.wake();
        }
    });
    let mut number = 0;
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                for _ in 0..TRIPS {
                    number += 1;
                    trip(&table, thread.thread(), number).await;
                }
            });
        });
    });
    table.asked.store(u64::MAX, Ordering::Release);
    thread.thread().unpark();
    thread.join().expect("it does not panic");
}

const TRIPS: u64 = 100;

/// `remote/wake` guards the notifier: a loop that sleeps is woken by another thread's waker, and the way back.
fn wake(criterion: &mut Criterion) {
    let mut group = group(criterion, "remote/wake", TRIPS);
    run_wake(&mut group, Roundelay::NAME, Roundelay::new());
    run_wake(&mut group, Tokio::NAME, Tokio::new());
    run_wake(&mut group, Smol::NAME, Smol::new());
}

thread_local! {
    /// How many posts of a batch have not run yet.
    static LEFT: Cell<u64> = const { Cell::new(0) };
    /// Who waits for the last one.
    static WAITING: Cell<Option<Waker>> = const { Cell::new(None) };
}

/// What another thread posts.
fn job() {
    let left = LEFT.get() - 1;
    LEFT.set(left);
    if left == 0 {
        WAITING.take().expect("somebody waits").wake();
    }
}

/// `remote/post` guards the queue that other threads post to: a batch from another thread, run by the loop. The peers have
/// no such thing: a task takes the jobs out of a channel of their own.
fn post(criterion: &mut Criterion) {
    let mut group = group(criterion, "remote/post", BATCH);
    fn run<R: Runtime>(group: &mut BenchmarkGroup<'_, WallTime>, runtime: &R, post: impl Fn(fn()) + Send + 'static) {
        let (orders, next) = channel::<()>();
        let thread = std::thread::spawn(move || {
            for () in next {
                for _ in 0..BATCH {
                    post(job);
                }
            }
        });
        async fn batch(orders: &Sender<()>) {
            LEFT.set(BATCH);
            let mut ordered = false;
            poll_fn(|cx| {
                if ordered && LEFT.get() == 0 {
                    return Poll::Ready(());
                }
                WAITING.set(Some(cx.waker().clone()));
                if !ordered {
                    ordered = true;
                    orders.send(()).expect("the other thread is there");
                }
                Poll::Pending
            })
            .await;
        }
        group.bench_function(R::NAME, |bencher| bencher.iter(|| runtime.block_on(batch(&orders))));
        drop(orders);
        thread.join().expect("it does not panic");
    }
    let roundelay = Roundelay::new();
    let remote = roundelay.0.remote();
    run(&mut group, &roundelay, move |job| remote.post(job).unwrap());

    let tokio = Tokio::new();
    let (jobs, mut next) = tokio::sync::mpsc::unbounded_channel::<fn()>();
    tokio.block_on(async {
        Tokio::detach(Tokio::spawn(async move {
            while let Some(job) = next.recv().await {
                job();
            }
            0
        }));
    });
    run(&mut group, &tokio, move |job| jobs.send(job).expect("somebody takes it"));

    let smol = Smol::new();
    let (jobs, next) = smol::channel::unbounded::<fn()>();
    smol.block_on(async {
        Smol::detach(Smol::spawn(async move {
            while let Ok(job) = next.recv().await {
                job();
            }
            0
        }));
    });
    run(&mut group, &smol, move |job| jobs.try_send(job).expect("somebody takes it"));
}

pub(crate) fn benches(criterion: &mut Criterion) {
    for bench in [wake, post] {
        bench(criterion);
    }
}

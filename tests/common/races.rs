//! What the tests of closing loops share. Included by path, beside `common`.

#![allow(dead_code, unreachable_pub)]

use std::future::poll_fn;
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use roundelay::{EventLoop, JoinError};

use crate::common::Kind;

/// How often a race is run: each time with the close at another moment.
pub const ROUNDS: u64 = 40;
/// How many threads take part in it.
pub const THREADS: usize = 3;

/// A number that looks random and is the same in each run.
pub fn scatter(seed: u64) -> u64 {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x ^= x >> 29;
    x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^ (x >> 32)
}

/// How results came out.
#[derive(Default, Debug, PartialEq, Eq)]
pub struct Results {
    pub ok: usize,
    pub closed: usize,
    pub cancelled: usize,
}

impl Results {
    pub fn count(&mut self, result: Result<(), JoinError>) {
        match result {
            Ok(()) => self.ok += 1,
            Err(error) if error.is_closed() => self.closed += 1,
            Err(error) if error.is_cancelled() => self.cancelled += 1,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Threads that do something again and again, from the same moment on, until it says that it is over.
pub fn at_once<T: Send + 'static>(
    each: impl Fn(usize, &Barrier) -> T + Send + Sync + 'static,
) -> (Arc<Barrier>, Vec<JoinHandle<T>>) {
    let (barrier, each) = (Arc::new(Barrier::new(THREADS + 1)), Arc::new(each));
    let threads = (0..THREADS).map(|i| {
        let (barrier, each) = (barrier.clone(), each.clone());
        thread::spawn(move || each(i, &barrier))
    });
    let threads = threads.collect();
    (barrier, threads)
}

/// Makes some turns, a different number in each round, and closes.
pub fn run_a_little_and_close(el: &EventLoop, round: u64) {
    for _ in 0..scatter(round) % 16 {
        el.run_once(Some(Duration::ZERO)).unwrap();
    }
    el.close();
}

/// Every kind of loop, each as often as `ROUNDS` says.
pub fn rounds() -> impl Iterator<Item = (Kind, u64)> {
    [Kind::Epoll, Kind::Polling, Kind::Level].into_iter().flat_map(|kind| (0..ROUNDS).map(move |round| (kind, round)))
}

/// Futures that wait for ever and let everybody wake them.
#[derive(Clone, Default)]
pub struct Wakers(Arc<Mutex<Vec<Waker>>>);

impl Wakers {
    /// A future that hands its waker out and never ends.
    pub fn waiting(&self) -> impl Future<Output = ()> + use<> {
        let wakers = self.0.clone();
        poll_fn(move |cx| {
            wakers.lock().unwrap().push(cx.waker().clone());
            Poll::Pending
        })
    }

    pub fn take(&self) -> Vec<Waker> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

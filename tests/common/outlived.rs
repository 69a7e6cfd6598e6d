//! Loops that are gone while things that were made on them are still there. Included by path, beside `common`.

#![allow(dead_code, unreachable_pub)]

use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use roundelay::{EventLoop, JoinError, LoopClosed, block_on};

use crate::common::{CountingWaker, Kind, Log, alone, complete, open_descriptors, settle, take_reports, watch_reports};

/// In which way a loop goes, and what is there when one looks at what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It is closed, and its owner is still there.
    Closed,
    /// It is dropped, unclosed.
    Dropped,
    /// It is closed, and another one runs.
    Elsewhere,
}

/// Makes something on a loop, lets the loop go, and looks at what it has become: on each kind of loop, in each way in which
/// it can go. The function that `make` gives calls the methods; it may not panic, and what it causes to be reported it takes
/// itself. Nothing may be called of what tells the log, and `open` descriptors may be left until all is dropped.
#[track_caller]
pub fn outlives<F: FnOnce()>(open: usize, make: impl AsyncFn(EventLoop, Log) -> F) {
    let _alone = alone();
    for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
        for way in [Way::Closed, Way::Dropped, Way::Elsewhere] {
            let before = open_descriptors();
            drop(take_reports());
            let log = Log::new();
            let el = kind.builder().build().unwrap();
            watch_reports(&el);
            let look = complete(&el, make(el.clone(), log.clone()));
            settle(&el);
            drop(log.take());
            let mut owner = Some(el);
            match way {
                Way::Closed => owner.as_ref().unwrap().close(),
                Way::Dropped => drop(owner.take()),
                Way::Elsewhere => {
                    owner.as_ref().unwrap().close();
                    drop(owner.take());
                }
            }
            assert_eq!(take_reports(), [""; 0], "{kind:?} {way:?}");
            assert_eq!(open_descriptors() - before, open, "{kind:?} {way:?}: left open by the loop");
            if way == Way::Elsewhere {
                block_on(async { look() });
            } else {
                look();
            }
            assert_eq!(log.take(), [""; 0], "{kind:?} {way:?}: something was called");
            assert_eq!(take_reports(), [""; 0], "{kind:?} {way:?}");
            if let Some(el) = owner {
                let stats = el.stats();
                assert!(stats.is_balanced(), "{kind:?} {way:?}: {stats:#?}");
            }
            assert_eq!(open_descriptors(), before, "{kind:?} {way:?}: left open by the handles");
        }
    }
}

/// What a future gives at once; `None` if it does not.
pub fn now<F: IntoFuture>(future: F) -> Option<F::Output> {
    let mut future = pin!(future.into_future());
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Polls a future that somebody awaits, with a waker that counts.
pub fn begin<F: Future + Unpin>(future: &mut F) -> std::sync::Arc<CountingWaker> {
    let (count, waker) = CountingWaker::new();
    assert!(pin!(future).poll(&mut Context::from_waker(&waker)).is_pending());
    count
}

/// The text of the panic of `f`, one that is documented.
#[track_caller]
pub fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("it must panic"),
        Err(payload) => match payload.downcast::<String>() {
            Ok(text) => *text,
            Err(payload) => payload.downcast::<&str>().expect("a text").to_string(),
        },
    }
}

/// It is at once, and says that the loop is closed.
#[track_caller]
pub fn is_closed<T>(future: impl IntoFuture<Output = Result<T, JoinError>>) {
    assert!(now(future).expect("it is done").is_err_and(|error| error.is_closed()));
}

/// An error that says that the loop is closed.
#[track_caller]
pub fn refused<T>(result: io::Result<T>) {
    let error = result.err().expect("an error");
    assert!(error.get_ref().is_some_and(|inner| inner.is::<LoopClosed>()), "{error:?}");
}

/// The same of a future, at once.
#[track_caller]
pub fn refused_now<T>(future: impl IntoFuture<Output = io::Result<T>>) {
    refused(now(future).expect("it is done"));
}

/// Checks the first lines of what was reported.
#[track_caller]
pub fn reported(expected: &[&str]) {
    let reports = take_reports();
    let first: Vec<&str> = reports.iter().map(|report| report.lines().next().unwrap()).collect();
    assert_eq!(first, expected);
}

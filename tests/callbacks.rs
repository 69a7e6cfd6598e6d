//! Order and batches of `call_soon`, and its handles (behaviours CS).

mod common;

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use common::{DropCounter, DropGuard, Log, complete, on_loop, on_strict_loop, settle, take_reports};
use futures::FutureExt;
use roundelay::{Context, ContextVar, EventLoop, Handle, get_running_loop, sleep, yield_now};

/// The loop, in a callback.
fn running() -> EventLoop {
    get_running_loop().unwrap()
}

/// A callback that keeps a guard until it is dropped.
fn holding(guard: DropGuard) -> impl FnOnce() + 'static {
    move || drop(guard)
}

/// Where a callback finds a handle.
type Place = Rc<RefCell<Option<Handle>>>;

fn place() -> (Place, Place) {
    let place = Place::default();
    (place.clone(), place)
}

/// Panics when it is dropped.
#[derive(Clone)]
struct Bomb(Rc<()>);

impl Bomb {
    fn new() -> Self {
        Self(Rc::new(()))
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if Rc::strong_count(&self.0) == 1 {
            panic!("bomb");
        }
    }
}

/// CS-01: first in, first out, each once.
#[test]
fn callbacks_run_in_order_and_once() {
    on_strict_loop(|el| {
        let log = Log::new();
        for entry in ["a", "b", "c"] {
            el.call_soon(log.entry(entry));
        }
        settle(el);
        assert_eq!(log.take(), ["a", "b", "c"]);
    });
}

/// CS-01: with the selector asked now and then only, the order is the same, over many turns.
#[test]
fn the_order_does_not_depend_on_the_selector() {
    on_loop(|el| {
        let seen = Rc::new(RefCell::new(Vec::new()));
        // Each callback appends its number and schedules another, a round later.
        fn link(n: u32, seen: Rc<RefCell<Vec<u32>>>) {
            seen.borrow_mut().push(n);
            if n < 300 {
                running().call_soon(move || link(n + 3, seen));
            }
        }
        for n in 0..3 {
            let seen = seen.clone();
            el.call_soon(move || link(n, seen));
        }
        settle(el);
        assert_eq!(*seen.borrow(), (0..303).collect::<Vec<_>>());
    });
}

/// CS-03: a cancelled callback is left out, and the others keep their order.
#[test]
fn a_cancelled_callback_is_left_out() {
    on_strict_loop(|el| {
        let log = Log::new();
        let handles: Vec<Handle> = ["a", "b", "c"].map(|entry| el.call_soon(log.entry(entry))).into();
        assert!(handles[1].cancel());
        assert!(handles[1].is_cancelled() && handles[1].is_done());
        settle(el);
        assert_eq!(log.take(), ["a", "c"]);
        assert!(!handles[0].is_cancelled() && handles[0].is_done());
    });
}

/// CS-04: a callback cancels another one of the same batch.
#[test]
fn a_callback_may_cancel_one_of_its_batch() {
    on_strict_loop(|el| {
        let log = Log::new();
        let (later, victim) = place();
        el.call_soon(move || assert!(later.take().unwrap().cancel()));
        el.call_soon(log.entry("between"));
        *victim.borrow_mut() = Some(el.call_soon(log.entry("cancelled")));
        el.call_soon(log.entry("after"));
        el.run_once(None).unwrap();
        assert_eq!(log.take(), ["between", "after"]);
    });
}

/// CS-05: likewise a timer that is due and in the queue already.
#[test]
fn a_callback_may_cancel_a_timer_of_its_batch() {
    on_strict_loop(|el| {
        let log = Log::new();
        let timer = Rc::new(RefCell::new(None::<roundelay::TimerHandle>));
        let (cancels, inner) = (timer.clone(), log.clone());
        let now = el.time();
        el.call_at(now, move || {
            let timer = cancels.take().unwrap();
            assert!(timer.cancel() && timer.is_cancelled());
            inner.push("first");
        });
        *timer.borrow_mut() = Some(el.call_at(now, log.entry("second")));
        el.call_at(now, log.entry("third"));
        assert_eq!(el.run_once(None).unwrap(), 3);
        assert_eq!(log.take(), ["first", "third"]);
        assert_eq!(el.stats().timers.live(), 0);
    });
}

/// CS-06: a handle that is cancelled before the loop has seen it does no harm.
#[test]
fn a_queue_of_cancelled_handles_is_harmless() {
    on_loop(|el| {
        let dropped = DropCounter::new();
        for _ in 0..100 {
            assert!(el.call_soon(holding(dropped.guard())).cancel());
        }
        assert_eq!(dropped.count(), 100);
        assert_eq!(el.stats().handles.live(), 0);
        let last = el.call_soon(|| ());
        settle(el);
        assert!(last.is_done());
    });
}

/// CS-07: a callback that has run is not cancelled, nor can it be: nothing changes, for nobody.
#[test]
fn cancelling_after_the_run_changes_nothing() {
    on_strict_loop(|el| {
        let log = Log::new();
        let first = el.call_soon(log.entry("first"));
        el.run_once(None).unwrap();
        let second = el.call_soon(log.entry("second"));
        assert!(first.is_done() && !first.is_cancelled());
        assert!(!first.cancel());
        assert!(!first.is_cancelled());
        settle(el);
        assert_eq!(log.take(), ["first", "second"]);
        assert!(!second.is_cancelled());
        assert!(matches!(first.now_or_never(), Some(Ok(()))));
    });
}

/// CS-07: a callback that cancels itself is running already.
#[test]
fn a_running_callback_cannot_be_cancelled() {
    on_strict_loop(|el| {
        let (own, handle) = place();
        let seen = Rc::new(Cell::new(None));
        let result = seen.clone();
        *handle.borrow_mut() = Some(el.call_soon(move || {
            let own = own.borrow();
            let own = own.as_ref().unwrap();
            result.set(Some((own.cancel(), own.is_cancelled(), own.is_done())));
        }));
        settle(el);
        assert_eq!(seen.get(), Some((false, false, false)));
        assert!(handle.borrow().as_ref().unwrap().is_done());
        handle.take();
    });
}

/// CS-08: cancelling drops what was captured there and then, once, and can be repeated.
#[test]
fn cancelling_drops_what_was_captured() {
    on_strict_loop(|el| {
        static VALUE: ContextVar<Rc<DropGuard>> = ContextVar::new("value");
        let dropped = DropCounter::new();
        let context = Context::new();
        context.run(|| VALUE.set(Rc::new(dropped.guard())));
        let guard = dropped.guard();
        let handle = context.run(|| el.call_soon(holding(guard)));
        drop(context);
        assert_eq!(dropped.count(), 0);
        assert!(handle.cancel());
        // The callback's copy of the context goes with it.
        assert_eq!(dropped.count(), 2);
        assert!(!handle.cancel() && handle.is_cancelled());
        settle(el);
        assert_eq!(dropped.count(), 2);
    });
}

/// CS-09: after the run the loop keeps nothing of the callback, though its handle lives.
#[test]
fn nothing_is_kept_after_the_run() {
    on_strict_loop(|el| {
        static VALUE: ContextVar<Rc<DropGuard>> = ContextVar::new("value");
        let dropped = DropCounter::new();
        let context = Context::new();
        let (captured, set) = (dropped.guard(), dropped.guard());
        let handle = context.run(|| {
            el.call_soon(move || {
                // Borrowed, so that it is not the body that drops it.
                let _captured = &captured;
                VALUE.set(Rc::new(set));
            })
        });
        el.run_once(None).unwrap();
        assert_eq!(dropped.count(), 2);
        assert!(handle.is_done());
    });
}

/// CS-10: a panic of a callback is reported with the callback and its place, and the others of the batch run.
#[test]
fn a_panic_does_not_stop_the_batch() {
    on_strict_loop(|el| {
        let log = Log::new();
        el.call_soon(log.entry("before"));
        let line = line!() + 1;
        let handle: Handle = el.call_soon(|| panic!("oh {}", "no"));
        el.call_soon(log.entry("after"));
        assert_eq!(el.run_once(None).unwrap(), 3);
        assert_eq!(log.take(), ["before", "after"]);
        let reports = take_reports();
        assert_eq!(reports.len(), 1);
        let lines: Vec<&str> = reports[0].lines().collect();
        assert!(lines[0].starts_with("Exception in callback callbacks::a_panic_does_not_stop"), "{reports:?}");
        assert!(lines[0].ends_with(": oh no"), "{reports:?}");
        assert!(lines[1].trim_start().starts_with("<Handle callbacks::"), "{reports:?}");
        assert!(lines[1].contains(&format!(" at {}:{line}:", file!())), "{reports:?}");
        // Whoever awaits the handle is told as well.
        let error = handle.now_or_never().unwrap().unwrap_err();
        assert!(error.is_panic());
        assert_eq!(error.to_string(), "panicked: oh no");
    });
}

/// CS-10: what a callback or a watcher leaves to be dropped may panic as it goes: that is reported, and no more.
#[test]
fn a_panicking_destructor_does_not_stop_the_batch() {
    on_strict_loop(|el| {
        static VALUE: ContextVar<Bomb> = ContextVar::new("value");
        let log = Log::new();
        // In its context.
        el.call_soon(|| drop(VALUE.set(Bomb::new())));
        // In what it captured.
        let bomb = Bomb::new();
        el.call_soon(move || {
            let _captured = &bomb;
        });
        // In what it returned to nobody.
        drop(el.call_soon(Bomb::new));
        // In a task's context.
        drop(el.create_task(async { drop(VALUE.set(Bomb::new())) }));
        // In a reader that removes itself while it runs.
        let (socket, mut peer) = UnixStream::pair().unwrap();
        peer.write_all(b"x").unwrap();
        let socket = Rc::new(socket);
        let (bomb, own) = (Bomb::new(), socket.clone());
        let read = move || {
            let _captured = &bomb;
            assert!(running().remove_reader(&own));
        };
        el.add_reader(&socket, read).unwrap();
        el.call_soon(log.entry("last"));
        el.run_once(None).unwrap();
        assert_eq!(log.take(), ["last"]);
        let reports = take_reports();
        assert_eq!(reports.len(), 5);
        assert!(reports.iter().all(|report| report.contains("bomb")), "{reports:?}");
    });
}

/// CS-13: yielding and sleeping for no time cost one turn: what is in the queue by then comes first.
#[test]
fn yielding_costs_one_turn() {
    on_strict_loop(|el| {
        let log = Log::new();
        let inner = log.clone();
        el.run_until_complete(async move {
            for (name, zero) in [("yield", false), ("sleep", true)] {
                let turn = running().stats().turns;
                running().call_soon(inner.entry(format!("before {name}")));
                if zero {
                    sleep(Duration::ZERO).await;
                } else {
                    yield_now().await;
                }
                inner.push(format!("after {} turn", running().stats().turns - turn));
            }
        })
        .unwrap();
        assert_eq!(log.take(), ["before yield", "after 1 turn", "before sleep", "after 1 turn"]);
    });
}

/// CS-13: a task that wakes itself goes to the back of the queue, and is not polled on the spot.
#[test]
fn tasks_that_yield_take_turns() {
    on_strict_loop(|el| {
        let log = Log::new();
        for name in ["a", "b"] {
            let log = log.clone();
            drop(el.create_task(async move {
                for round in 0..3 {
                    log.push(format!("{name}{round}"));
                    yield_now().await;
                }
            }));
        }
        settle(el);
        assert_eq!(log.take(), ["a0", "b0", "a1", "b1", "a2", "b2"]);
    });
}

/// CS-14: awaiting what is done costs no turn, awaiting a fresh task that ends at once costs two: its own, and the wake.
#[test]
fn what_awaiting_costs() {
    on_strict_loop(|el| {
        let turns = || running().stats().turns;
        complete(el, async {
            let done = running().create_future();
            done.set_result(()).unwrap();
            let before = turns();
            done.await.unwrap();
            assert_eq!(turns() - before, 0);

            let before = turns();
            running().create_task(async {}).await.unwrap();
            assert_eq!(turns() - before, 2);

            let before = turns();
            running().call_soon(|| ()).await.unwrap();
            assert_eq!(turns() - before, 2);

            let ended = running().create_task(async {});
            yield_now().await;
            let before = turns();
            ended.await.unwrap();
            assert_eq!(turns() - before, 0);
        });
    });
}

/// CS-15: a watcher that is removed or replaced by an earlier callback of its batch does not run.
#[test]
fn a_queued_watcher_can_be_taken_back() {
    on_strict_loop(|el| {
        let log = Log::new();
        let (socket, mut peer) = UnixStream::pair().unwrap();
        peer.write_all(b"x").unwrap();
        let socket = Rc::new(socket);
        // Readable and writable at once: the reader comes first, and removes the writer.
        let (inner, own) = (log.clone(), socket.clone());
        el.add_reader(&socket, move || {
            inner.push("reader");
            assert!(running().remove_writer(&own));
        })
        .unwrap();
        let inner = log.clone();
        el.add_writer(&socket, move || inner.push("writer")).unwrap();
        assert_eq!(el.run_once(None).unwrap(), 2);
        assert_eq!(log.take(), ["reader"]);

        // Replaced by itself, it is the new one that runs from then on.
        let (inner, own) = (log.clone(), socket.clone());
        el.add_reader(&socket, move || {
            inner.push("old");
            let newer = inner.clone();
            running().add_reader(&own, move || newer.push("new")).unwrap();
        })
        .unwrap();
        el.run_once(None).unwrap();
        el.run_once(None).unwrap();
        assert_eq!(log.take(), ["old", "new"]);
        assert!(el.remove_reader(&socket));
    });
}

/// CS-16: callbacks are closures: what they are to be called with is captured, and what they return can be awaited.
#[test]
fn a_callback_returns_a_value() {
    on_loop(|el| {
        let (a, b) = (vec![1, 2], String::from("three"));
        let handle = el.call_soon(move || format!("{a:?} {b}"));
        assert!(!handle.is_done());
        assert_eq!(complete(el, handle).unwrap(), "[1, 2] three");
        // A result nobody waits for is dropped, when it comes or with the handle.
        let dropped = DropCounter::new();
        let (early, late) = (dropped.guard(), dropped.guard());
        drop(el.call_soon(move || early));
        let handle = el.call_soon(move || late);
        settle(el);
        assert_eq!(dropped.count(), 1);
        drop(handle);
        assert_eq!(dropped.count(), 2);
    });
}

/// CS-16: a handle that is awaited tells of the cancellation, and gives its result once.
#[test]
fn a_cancelled_handle_tells_its_awaiter() {
    on_loop(|el| {
        let timer = Rc::new(RefCell::new(el.call_later(Duration::from_secs(100), || ())));
        let canceller = timer.clone();
        let waiting = std::future::poll_fn(move |cx| timer.borrow_mut().poll_unpin(cx));
        // It runs when the handle has been polled: cancelling has to wake the awaiter.
        el.call_soon(|| running().call_soon(move || assert!(canceller.borrow().cancel())));
        assert!(complete(el, waiting).unwrap_err().is_cancelled());

        let mut once = el.call_soon(|| 1);
        settle(el);
        assert_eq!((&mut once).now_or_never().unwrap().unwrap(), 1);
        let again = catch_unwind(AssertUnwindSafe(|| (&mut once).now_or_never()));
        assert!(again.is_err(), "a result is given out once");
    });
}

/// CS-17: the text of a handle names its function and place, and says when it was cancelled.
#[test]
fn the_text_of_a_handle() {
    on_loop(|el| {
        let line = line!() + 1;
        let handle = el.call_soon(|| ());
        let name = "callbacks::the_text_of_a_handle::{{closure}}::{{closure}}";
        let place = format!("{}:{line}:25", file!());
        assert_eq!(format!("{handle:?}"), format!("<Handle {name} at {place}>"));
        handle.cancel();
        assert_eq!(format!("{handle:?}"), format!("<Handle cancelled {name} at {place}>"));
        let info = handle.info();
        assert_eq!((info.name, info.created_at.line(), info.when, info.is_cancelled), (name, line, None, true));
        let timer = el.call_later(Duration::from_secs(1), || ());
        assert!(format!("{timer:?}").starts_with(&format!("<TimerHandle {name}")), "{timer:?}");
        assert_eq!(timer.info().when, Some(timer.when()));
    });
}

/// The context that a callback is given is the one it runs in; otherwise it is a copy of the current one.
#[test]
fn a_callback_runs_in_its_context() {
    static VALUE: ContextVar<i32> = ContextVar::new("value");
    on_strict_loop(|el| {
        let context = Context::new();
        context.run(|| VALUE.set(1));
        let given = el.call_soon_in(&context, || VALUE.set(2).old_value());
        let copied = context.run(|| el.call_soon(|| VALUE.set(3).old_value()));
        let bare = el.call_soon(|| VALUE.get());
        settle(el);
        assert_eq!(complete(el, given).unwrap(), Some(1));
        assert_eq!(complete(el, copied).unwrap(), Some(1), "a copy as it was when it was scheduled");
        assert_eq!(complete(el, bare).unwrap(), None);
        assert_eq!(context.run(|| VALUE.get()), Some(2));
        let later = el.call_later_in(&context, Duration::ZERO, || VALUE.get());
        let at = el.call_at_in(&context, el.time(), || VALUE.get());
        assert_eq!((complete(el, later).unwrap(), complete(el, at).unwrap()), (Some(2), Some(2)));
    });
}

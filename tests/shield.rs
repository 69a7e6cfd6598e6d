//! `shield`: what goes on though nobody waits for it any more (behaviours CB).

mod common;

use std::future::pending;
use std::time::Duration;

use common::{Log, complete, finish, on_loop, on_manual_clock, settle, take_reports};
use roundelay::{get_running_loop, shield, sleep, spawn, timeout, wait_for, yield_now};

async fn turns(n: usize) {
    for _ in 0..n {
        yield_now().await;
    }
}

/// CB-20: outputs and errors pass through a shield; a task that is cancelled inside of it is cancelled for whoever awaits.
#[test]
fn what_passes_through() {
    on_loop(|el| {
        complete(el, async {
            assert_eq!(shield(spawn(async { 5 })).await.unwrap(), 5);
            assert_eq!(shield(spawn(async { Err::<(), _>("no") })).await.unwrap(), Err("no"));
            let panicked = shield(spawn(async { panic!("loud") as () })).await.unwrap_err();
            assert_eq!(panicked.to_string(), "panicked: loud");
            let shielded = shield(spawn(pending::<()>()));
            assert!(shielded.cancel());
            assert!(shielded.await.unwrap_err().is_cancelled());
            let task = shield(spawn(async { 6 })).into_task();
            assert_eq!(task.await.unwrap(), 6);
        });
    });
}

/// CB-20: cancelling whoever awaits leaves the task running to its end.
#[test]
fn cancelling_whoever_awaits() {
    on_loop(|el| {
        let log = Log::new();
        let told = log.clone();
        let inner = el.create_task(async move {
            turns(5).await;
            told.push("done");
        });
        let outer = el.create_task(async move { shield(inner).await });
        el.run_once(Some(Duration::ZERO)).unwrap();
        outer.cancel();
        settle(el);
        assert!(outer.is_cancelled());
        assert_eq!(log.take(), ["done"]);
    });
}

/// CB-22, P43: a panic that comes after the shield was dropped is reported, once, as that of a task that nobody awaits; an
/// output that nobody awaits is nobody's business.
#[test]
fn errors_after_the_shield() {
    on_loop(|el| {
        complete(el, async {
            let inner = spawn(async {
                turns(3).await;
                panic!("too late") as ()
            });
            let outer = spawn(shield(inner));
            turns(1).await;
            outer.cancel();
            turns(5).await;
            assert!(outer.await.unwrap_err().is_cancelled());
        });
        let reports = take_reports();
        assert_eq!(reports.len(), 1);
        assert!(reports[0].starts_with("Exception in a task that nobody awaits: too late"), "{reports:?}");
    });
}

/// gh-156321, CB-22: a task that is only lent to a timeout is there afterwards, and its error is not reported, for it is
/// asked for later.
#[test]
fn errors_that_are_asked_for_later() {
    on_manual_clock(|el, clock| {
        let task = el.create_task(async {
            let mut task = spawn(async {
                sleep(Duration::from_secs(2)).await;
                panic!("asked for") as ()
            });
            assert!(timeout(Duration::from_secs(1), &mut task).await.is_err());
            sleep(Duration::from_secs(2)).await;
            assert!(task.is_done());
            task.await.unwrap_err()
        });
        for _ in 0..3 {
            settle(el);
            clock.advance(Duration::from_secs(1));
        }
        assert_eq!(finish(el, task).unwrap().to_string(), "panicked: asked for");
        assert_eq!(take_reports(), [""; 0]);
    });
}

/// CB-33: a timeout of zero around a shield, or a task that waits for one with a limit, ends the waiting only.
#[test]
fn a_timeout_around_a_shield() {
    on_manual_clock(|el, clock| {
        let log = Log::new();
        let saving = |name: &'static str| {
            let told = log.clone();
            el.create_task(async move {
                sleep(Duration::from_secs(2)).await;
                told.push(name);
            })
        };
        let (zero, some, nested) = (saving("zero"), saving("some"), saving("nested"));
        let zero = el.create_task(timeout(Duration::ZERO, shield(zero)));
        let some = el.create_task(timeout(Duration::from_secs(1), shield(some)));
        let nested = el.create_task(async move {
            let outer = get_running_loop().unwrap().create_task(shield(nested));
            wait_for(Duration::from_secs(1), outer).await
        });
        settle(el);
        assert!(finish(el, zero).unwrap().is_err());
        clock.advance(Duration::from_secs(1));
        assert!(finish(el, some).unwrap().is_err() && finish(el, nested).unwrap().is_err());
        assert_eq!(log.take(), [""; 0]);
        clock.advance(Duration::from_secs(1));
        settle(el);
        assert_eq!(log.take(), ["zero", "some", "nested"]);
    });
}

//! Async generators.

use std::future::pending;
use std::rc::Rc;

use futures::StreamExt;
use roundelay::{AsyncGen, async_gen, try_async_gen, yield_now};

use crate::common::Log;
use crate::oracle::differs;
use crate::support::{Guard, connected, fail, settle, turns, yes};

/// Three numbers, and something to clean up.
pub fn numbers(log: &Log, name: &'static str, then: impl FnOnce() + 'static) -> AsyncGen<i32> {
    let log = log.clone();
    async_gen(async move |y| {
        let say = |what: &str| log.push(format!("{name} {what}"));
        let given = async {
            for number in 0..3 {
                say(&format!("gives {number}"));
                y.emit(number).await?;
            }
            say("is through");
            Ok(())
        };
        let result = given.await;
        say("cleans up");
        yield_now().await;
        then();
        say("has cleaned up");
        result
    })
}

fn quiet() {}

/// A generator that is iterated to its end.
#[test]
fn generator_to_its_end() {
    connected("generator_to_its_end", |_, log| async move {
        let mut items = numbers(&log, "it", quiet);
        while let Some(number) = items.next().await {
            log.push(format!("got {number}"));
            yield_now().await;
        }
        log.push("end");
    });
}

/// A generator that is left half-way, and closed.
#[test]
fn generator_is_closed() {
    connected("generator_is_closed", |_, log| async move {
        let mut items = numbers(&log, "it", quiet);
        log.push(format!("got {}", items.next().await.unwrap()));
        log.push("left");
        items.aclose().await;
        log.push("closed");
        yes(&log, "over", items.next().await.is_none());
        items.aclose().await;
    });
}

/// A generator that is closed before it has begun never begins.
#[test]
fn generator_that_has_not_begun_is_closed() {
    connected("generator_that_has_not_begun_is_closed", |_, log| async move {
        let mut items = numbers(&log, "it", quiet);
        items.aclose().await;
        yes(&log, "over", items.next().await.is_none());
    });
}

/// The shutdown closes those that have begun and not ended.
#[test]
fn generators_at_the_shutdown() {
    connected("generators_at_the_shutdown", |el, log| async move {
        let [mut kept, mut begun, mut ended] = ["kept", "not begun", "ended"].map(|name| numbers(&log, name, quiet));
        log.push(kept.next().await.unwrap().to_string());
        while ended.next().await.is_some() {}
        el.shutdown_asyncgens().await;
        log.push("shut down");
        yes(&log, "over", kept.next().await.is_none());
        begun.aclose().await;
    });
}

/// AG-02: an error in one generator's cleanup is reported with it, and the other is closed all the same.
#[test]
fn generator_fails_at_the_shutdown() {
    connected("generator_fails_at_the_shutdown", |el, log| async move {
        let own = log.clone();
        el.set_exception_handler(Some(Rc::new(move |_, context| {
            own.push(if context.asyncgen().is_some() { "reported with the generator" } else { "reported without" });
        })));
        let mut failing = numbers(&log, "failing", fail);
        let mut good = numbers(&Log::new(), "good", quiet);
        good.next().await.unwrap();
        failing.next().await.unwrap();
        el.shutdown_asyncgens().await;
        log.push("shut down");
        yes(&log, "over", good.next().await.is_none());
    });
}

/// A generator that is dropped is closed by the loop.
#[test]
fn generator_is_dropped() {
    let here = [
        "-- turn 1",
        "it gives 0",
        "got 0",
        "left",
        "-- turn 2",
        "it cleans up",
        "-- turn 3",
        "it has cleaned up",
        "-- turn 4",
        "-- turn 5",
    ];
    differs("generator_is_dropped", "one-turn-sooner", &here, |el, log, _| {
        let own = log.clone();
        let task = el.create_task(async move {
            let mut items = numbers(&own, "it", quiet);
            own.push(format!("got {}", items.next().await.unwrap()));
            drop(items);
            own.push("left");
        });
        turns(el, log, 5);
        drop(task);
    });
}

/// A generator that fails is over.
#[test]
fn generator_that_fails() {
    connected("generator_that_fails", |_, log| async move {
        let mut items = try_async_gen(async |y| {
            y.emit(0).await?;
            Err(Box::<dyn std::error::Error>::from("on purpose"))
        });
        while let Some(item) = items.next().await {
            log.push(item.map_or("error".into(), |number| format!("got {number}")));
        }
        yes(&log, "over", items.next().await.is_none());
    });
}

/// Who iterates is cancelled while the body waits.
#[test]
fn generator_whose_iteration_is_cancelled() {
    let here = ["got 0", "iteration is left", "cancelled yes", "body is left", "closed"];
    differs("generator_whose_iteration_is_cancelled", "cancel-reaches-one-task", &here, |el, log, _| {
        let own = log.clone();
        let items = async_gen(async move |y| {
            let _guard = Guard::new(&own, "body", "is left");
            y.emit(0).await?;
            futures::future::select(std::pin::pin!(pending::<()>()), std::pin::pin!(y.closed())).await;
            Ok(())
        });
        let (own, handle) = (log.clone(), el.clone());
        let scenario = async move {
            let items = Rc::new(futures::lock::Mutex::new(items));
            let (iterated, told) = (items.clone(), own.clone());
            let task = handle.create_task(async move {
                let mut items = iterated.lock().await;
                let _guard = Guard::new(&told, "iteration", "is left");
                while let Some(number) = items.next().await {
                    told.push(format!("got {number}"));
                }
            });
            settle().await;
            task.cancel();
            settle().await;
            yes(&own, "cancelled", task.is_cancelled());
            items.lock().await.aclose().await;
            own.push("closed");
        };
        el.run_until_complete(scenario).unwrap();
    });
}

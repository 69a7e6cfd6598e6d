//! Task groups: what ends with what, who hears of which error, and that nothing outlives its scope (behaviours CB).

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use common::{DropCounter, Log, complete, on_loop, on_strict_loop, settle, take_reports};
use roundelay::{EventLoop, TaskGroup, sleep, spawn, yield_now};

fn turn(el: &EventLoop) {
    el.run_once(Some(Duration::ZERO)).unwrap();
}

async fn turns(n: usize) {
    for _ in 0..n {
        yield_now().await;
    }
}

/// CB-41: the scope waits for all children, and what they gave is to be had afterwards.
#[test]
fn waits_for_all_children() {
    on_loop(|el| {
        complete(el, async {
            let (a, b) = TaskGroup::scope(async |group| {
                let slow = async {
                    turns(5).await;
                    Ok::<_, io::Error>("slow")
                };
                (group.spawn(slow), group.spawn(async { Ok::<_, io::Error>("fast") }))
            })
            .await
            .unwrap();
            assert!(a.is_done() && b.is_done());
            assert_eq!((a.await.unwrap(), b.await.unwrap()), ("slow", "fast"));
        });
    });
}

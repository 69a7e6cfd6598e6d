//! Libraries of others on this loop, and the servers that they are for.

#[path = "../../../../tests/common/mod.rs"]
mod common;
#[path = "../../../../tests/common/program.rs"]
mod program;

mod hyper;
mod identity;
mod postgres;
mod redis;
mod websocket;

use std::process::{Command, Stdio};

use common::{Kind, alone, complete, run_alone};
use roundelay::EventLoop;

/// Runs a test on each selector, alone in this process, if what it needs is there.
fn with<T>(needed: impl FnOnce() -> Option<T>, body: impl AsyncFn(&EventLoop, &T)) {
    let _alone = alone();
    let Some(needed) = needed() else { return };
    for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
        run_alone(
            || kind.builder(),
            |el| {
                complete(el, body(el, &needed));
                // Its threads are gone when it is looked at what is left.
                assert!(complete(el, el.shutdown_default_executor(None)));
            },
        );
    }
}

/// The same of a test that needs nothing.
fn on_each_selector(body: impl AsyncFn(&EventLoop)) {
    with(|| Some(()), async |el, ()| body(el).await);
}

/// Runs a program while the loop goes on, and gives what it prints, if it succeeds.
async fn output(mut command: Command) -> String {
    let el = roundelay::get_running_loop().unwrap();
    let ran = el.run_in_executor(None, move || command.stdin(Stdio::null()).output().unwrap()).await.unwrap();
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{}: {errors}", ran.status);
    String::from_utf8(ran.stdout).unwrap()
}

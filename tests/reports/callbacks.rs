//! Callbacks: of the loop, of descriptors, of signals, from other threads.

use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use roundelay::SignalKind;

use crate::common::settle;
use crate::signals;
use crate::support::{Case, check};

/// EH-02: whatever is scheduled and panics, the report has the callback, and the line that scheduled it.
#[test]
fn callbacks() {
    check(
        file!(),
        &[
            Case {
                about: "handle",
                text: "Exception in callback reports::*: boom\n  <Handle reports::* at @>",
                run: |el| {
                    let line = line!() + 1;
                    el.call_soon(|| panic!("boom"));
                    line
                },
            },
            Case {
                about: "handle",
                text: "Exception in callback reports::*: boom\n  <TimerHandle reports::* at @>",
                run: |el| {
                    let line = line!() + 1;
                    el.call_later(Duration::ZERO, || panic!("boom"));
                    line
                },
            },
            // Of a task and of a future that are done.
            Case {
                about: "handle",
                text: "Exception in callback reports::*: boom\n  <Handle reports::* at @>",
                run: |el| {
                    let task = el.create_task(async {});
                    let line = line!() + 1;
                    task.add_done_callback(|_| panic!("boom"));
                    drop(task);
                    line
                },
            },
            Case {
                about: "handle",
                text: "Exception in callback reports::*: boom\n  <Handle reports::* at @>",
                run: |el| {
                    let future = el.create_future();
                    let line = line!() + 1;
                    future.add_done_callback(|_| panic!("boom"));
                    future.set_result(()).unwrap();
                    line
                },
            },
            // From another thread.
            Case {
                about: "handle",
                text: "Exception in callback reports::*: boom\n  <Handle reports::* at @>",
                run: |el| {
                    let remote = el.remote();
                    let line = line!() + 1;
                    let post = move || drop(remote.call_soon_threadsafe(|| panic!("boom")).unwrap());
                    std::thread::spawn(post).join().unwrap();
                    line
                },
            },
            Case {
                about: "handle",
                text: "Exception in callback reports::*: boom\n  <Handle reports::* at @>",
                run: |el| {
                    let remote = el.remote();
                    let line = line!() + 1;
                    std::thread::spawn(move || remote.post(|| panic!("boom")).unwrap()).join().unwrap();
                    line
                },
            },
            // A descriptor, and a signal.
            Case {
                about: "handle",
                text: "Exception in callback reports::*: boom\n  <Handle cancelled reports::* at @>",
                run: |el| {
                    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
                    theirs.write_all(b"x").unwrap();
                    let (handle, ours) = (el.clone(), Rc::new(ours));
                    let fd = ours.clone();
                    let read = move || {
                        handle.remove_reader(&*fd);
                        panic!("boom")
                    };
                    let line = line!() + 1;
                    el.add_reader(&*ours, read).unwrap();
                    settle(el);
                    line
                },
            },
            Case {
                about: "handle",
                text: "Exception in callback reports::*: boom\n  <Handle reports::* at @>",
                run: |el| {
                    let signal = SignalKind::user_defined1();
                    let line = line!() + 1;
                    el.add_signal_handler(signal, || panic!("boom")).unwrap();
                    signals::raise(signal);
                    line
                },
            },
            Case {
                about: "",
                text: "Exception in the wake hook: boom",
                run: |el| {
                    let is_first = std::sync::atomic::AtomicBool::new(true);
                    el.set_wake_hook(Some(Arc::new(move || {
                        assert!(!is_first.swap(false, std::sync::atomic::Ordering::Relaxed), "boom");
                    })));
                    el.call_soon(|| ());
                    0
                },
            },
            Case {
                about: "",
                text: "EventLoop::call_soon(): event loop is closed\n  created at @",
                run: |el| {
                    el.close();
                    let line = line!() + 1;
                    el.call_soon(|| ());
                    line
                },
            },
        ],
    );
}

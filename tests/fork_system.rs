//! What a loop has to do with signals and with child processes, in a child of `fork`.

mod common;
#[path = "common/fork.rs"]
mod fork;
#[path = "common/processes.rs"]
mod processes;

use std::cell::Cell;
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::Duration;

use common::{complete, run_until, take_reports};
use fork::fork;
use processes::{NONE, Told, gate};
use roundelay::{EventLoop, SignalKind, Stdio};
use rustix::process::{Signal, getpid, kill_process, test_kill_process};

/// Sends this process a signal.
fn raise() {
    kill_process(getpid(), Signal::USR1).unwrap();
}

forked! {
    /// LU-08: handlers of signals go on in the child, with signals of its own: the parent's loop hears of none of them, nor the
    /// child's of the parent's.
    fn signal_handlers_go_on(el) {
        let heard = Rc::new(Cell::new(0));
        let count = heard.clone();
        el.add_signal_handler(SignalKind::user_defined1(), move || count.set(count.get() + 1)).unwrap();
        let mut stream = el.signal(SignalKind::user_defined1()).unwrap();
        // Told, and not read yet.
        raise();
        fork(|| {
            el.after_fork_child().unwrap();
            el.run_once(Some(Duration::from_millis(20))).unwrap();
            // What came to the parent is the parent's.
            assert_eq!(heard.get(), 0);
            raise();
            run_until(el, || heard.get() == 1);
            complete(el, stream.recv()).unwrap();
            el.close();
        })
        .wait();
        run_until(el, || heard.get() == 1);
        complete(el, stream.recv()).unwrap();
        el.run_once(Some(Duration::from_millis(20))).unwrap();
        raise();
        run_until(el, || heard.get() == 2);
        complete(el, stream.recv()).unwrap();
        assert!(el.remove_signal_handler(SignalKind::user_defined1()));
    }

    /// SP: the processes of the parent's loop are not killed when a child closes it, nor reaped, nor told anything.
    fn processes_live_on_when_a_child_closes(el) {
        let (held, end) = gate();
        let told = Told::new();
        let starting = el.subprocess_exec(told.protocol(), "cat", [&held.path]).pass_fds([end]).kill_on_drop(true);
        let (handle, _protocol) = complete(el, starting).unwrap();
        let process = rustix::process::Pid::from_raw(handle.pid() as i32).unwrap();
        let handle = Cell::new(Some(handle));
        fork(|| {
            let handle = handle.take().unwrap();
            handle.close();
            assert!(handle.kill().is_err() && handle.terminate().is_err());
            drop(handle);
            el.close();
        })
        .wait();
        let kept = handle.take();
        fork(|| drop(kept)).wait();
        assert!(take_reports().is_empty());
        test_kill_process(process).unwrap();
        el.run_once(Some(Duration::from_millis(20))).unwrap();
        assert!(!told.is_over());
        drop(held);
        run_until(el, || told.is_over());
    }

    /// SG-13, SP: a child that goes on with the loop has processes of its own; how those of its parent end it does not know, and
    /// does not wait for it.
    fn processes_of_the_parent_and_of_the_child(el) {
        let (held, end) = gate();
        let told = Told::new();
        let starting = el.subprocess_exec(told.protocol(), "cat", [&held.path]).pass_fds([end]).stdin(Stdio::null());
        let (handle, _protocol) = complete(el, starting).unwrap();
        let waits = Cell::new(Some(el.create_task(handle.wait())));
        fork(|| {
            el.after_fork_child().unwrap();
            let status: ExitStatus = common::finish(el, waits.take().unwrap()).unwrap().unwrap();
            assert_eq!(status.code(), Some(255));
            assert_eq!(handle.returncode(), Some(255));
            assert!(handle.kill().is_err());
            let own = complete(el, async { roundelay::create_subprocess_exec("sh", ["-c", "exit 3"]).await }).unwrap();
            assert_eq!(complete(el, own.wait()).unwrap().code(), Some(3));
            el.close();
        })
        .wait();
        assert_eq!(handle.returncode(), None);
        drop(held);
        assert_eq!(common::finish(el, waits.take().unwrap()).unwrap().unwrap().code(), Some(0));
        run_until(el, || told.is_over());
    }

    /// SG-13: a child runs a loop of its own with processes of its own, while it has that of its parent.
    fn a_loop_of_its_own_has_processes_of_its_own(el) {
        fork(|| {
            let own = EventLoop::new().unwrap();
            let mut process = complete(&own, async {
                roundelay::create_subprocess_exec("echo", NONE).stdout(Stdio::piped()).await
            })
            .unwrap();
            let (output, _) = complete(&own, process.communicate(None)).unwrap();
            assert_eq!(output.unwrap(), b"\n");
            assert_eq!(process.returncode(), Some(0));
            drop(process);
            own.close();
        })
        .wait();
    }
}

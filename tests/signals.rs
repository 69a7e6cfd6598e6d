//! Signals as callbacks and as streams (behaviours SG). What needs a process of its own stands in `signals_process.rs`.

mod common;
#[path = "common/threads.rs"]
mod threads;

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::{DropCounter, Log, complete, on_loop, run_until, settle, take_reports, watch_reports};
use futures::StreamExt;
use roundelay::{ContextVar, EventLoop, Fatal, LoopClosed, NoRunningLoop, SignalKind, signal, sleep, spawn, yield_now};
use rustix::process::{Pid, Signal, getpid, kill_process};
use threads::{join, wait_until};

const ONE: SignalKind = SignalKind::user_defined1();
const TWO: SignalKind = SignalKind::user_defined2();
const WINDOW: SignalKind = SignalKind::window_change();
const URGENT: SignalKind = SignalKind::urgent();

/// Sends this process a signal, and returns when the handler has run.
///
/// The kernel may choose any thread of the process, so it is waited for until that one has been there.
fn raise(kind: SignalKind) {
    let signal = Signal::from_named_raw(kind.as_raw()).unwrap();
    kill_process(getpid(), signal).unwrap();
}

/// The mask of the signals that this process catches, from the kernel.
fn caught() -> u64 {
    mask("SigCgt:")
}

fn mask(which: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(which)).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

fn is_caught(kind: SignalKind) -> bool {
    caught() & 1 << (kind.as_raw() - 1) != 0
}

/// A handler that counts.
fn count(el: &EventLoop, kind: SignalKind) -> Rc<Cell<usize>> {
    let counted = Rc::new(Cell::new(0));
    let counter = counted.clone();
    el.add_signal_handler(kind, move || counter.set(counter.get() + 1)).unwrap();
    counted
}

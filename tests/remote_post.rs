//! `Remote::post`: callbacks from other threads that nobody asks about (behaviours TS).

mod common;
#[path = "common/threads.rs"]
mod threads;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use common::{PATIENCE, on_loop, on_strict_loop, settle, take_reports};
use roundelay::{ContextVar, EventLoop, LoopClosed};
use threads::{Bomb, StopOnDrop, join};

/// Counts how often it was dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

on_every_loop! {
    /// TS-01: a post wakes a loop that sleeps, and all that one thread posts is run in order, whatever it captures.
    fn posts_are_run_in_order(el) {
        let remote = el.remote();
        let ran = Arc::new(Mutex::new(Vec::new()));
        let seen = ran.clone();
        let poster = thread::spawn(move || {
            let _stop = StopOnDrop(remote.clone());
            for n in 0..1000_usize {
                let ran = ran.clone();
                match n % 3 {
                    0 => remote.post(move || ran.lock().unwrap().push(n)).unwrap(),
                    // Too large for the queue's own room, and aligned more than that is.
                    1 => {
                        let large = [n; 32];
                        remote.post(move || ran.lock().unwrap().push(large[31])).unwrap();
                    }
                    _ => {
                        let aligned = Aligned(n);
                        remote.post(move || ran.lock().unwrap().push(aligned.get())).unwrap();
                    }
                }
            }
        });
        el.run_forever();
        poster.join().unwrap();
        assert_eq!(*seen.lock().unwrap(), (0..1000).collect::<Vec<_>>());
    }
}

#[repr(align(32))]
struct Aligned(usize);

impl Aligned {
    fn get(&self) -> usize {
        assert_eq!(std::ptr::from_ref(self).addr() % 32, 0);
        self.0
    }
}

/// TS-02: on the loop's own thread posts, `call_soon` and `call_soon_threadsafe` share one order.
#[test]
fn on_the_loops_thread_there_is_one_order() {
    on_strict_loop(|el| {
        let log = Arc::new(Mutex::new(Vec::new()));
        let push = |n: u32| {
            let log = log.clone();
            move || log.lock().unwrap().push(n)
        };
        el.call_soon(push(1));
        el.remote().post(push(2)).unwrap();
        drop(el.remote().call_soon_threadsafe(push(3)).unwrap());
        el.remote().post(push(4)).unwrap();
        settle(el);
        assert_eq!(*log.lock().unwrap(), [1, 2, 3, 4]);
    });
}

/// TS-12: posts, and callbacks with a handle, keep the order of their thread among each other.
#[test]
fn both_ways_keep_the_order_of_their_thread() {
    on_loop(|el| {
        let (remote, log) = (el.remote(), Arc::new(Mutex::new(Vec::new())));
        let seen = log.clone();
        let poster = thread::spawn(move || {
            for n in 0..100 {
                let log = log.clone();
                let push = move || log.lock().unwrap().push(n);
                if n % 2 == 0 { remote.post(push).unwrap() } else { drop(remote.call_soon_threadsafe(push).unwrap()) }
            }
        });
        join(el, poster);
        settle(el);
        assert_eq!(*seen.lock().unwrap(), (0..100).collect::<Vec<_>>());
    });
}

/// What was captured is dropped once: by the call, by closing the loop, or by a loop that is closed already.
#[test]
fn what_was_captured_is_dropped_once() {
    on_loop(|el| {
        let drops = Arc::new(AtomicUsize::new(0));
        let (remote, counted) = (el.remote(), || Counted(drops.clone()));
        let (small, large) = (counted(), (counted(), [0_u64; 20]));
        remote.post(move || drop(small)).unwrap();
        remote.post(move || drop(large)).unwrap();
        settle(el);
        assert_eq!(drops.load(Ordering::SeqCst), 2);

        // From this thread and from another one, neither of which is run any more.
        let (here, there) = (counted(), counted());
        remote.post(move || drop(here)).unwrap();
        let other = remote.clone();
        thread::spawn(move || other.post(move || drop(there)).unwrap()).join().unwrap();
        el.close();
        assert_eq!(drops.load(Ordering::SeqCst), 4);

        let refused = counted();
        assert_eq!(remote.post(move || drop(refused)), Err(LoopClosed));
        assert_eq!(drops.load(Ordering::SeqCst), 5);
    });
}

/// EH-01: a post that panics is reported, with its place, and the next one is run.
#[test]
fn a_panic_is_reported() {
    on_loop(|el| {
        let remote = el.remote();
        remote.post(|| panic!("posted")).unwrap();
        let (told, heard) = mpsc::channel();
        remote.post(move || told.send(()).unwrap()).unwrap();
        settle(el);
        heard.recv_timeout(PATIENCE).unwrap();
        let reports = take_reports();
        let [report] = &reports[..] else { panic!("{reports:?}") };
        assert!(report.starts_with("Exception in callback") && report.contains("posted"), "{report}");
        assert!(report.contains("tests/remote_post.rs:"), "{report}");
    });
}

/// A destructor of what was captured that panics when the loop is closed is reported, and the rest is closed.
#[test]
fn a_destructor_that_panics_while_the_loop_is_closed() {
    on_loop(|el| {
        let (remote, drops) = (el.remote(), Arc::new(AtomicUsize::new(0)));
        let (bomb, counted) = (Bomb, Counted(drops.clone()));
        remote.post(move || drop(bomb)).unwrap();
        remote.post(move || drop(counted)).unwrap();
        el.close();
        assert_eq!(drops.load(Ordering::SeqCst), 1);
        let reports = take_reports();
        assert!(reports.len() == 1 && reports[0].contains("boom"), "{reports:?}");
    });
}

/// A post runs in a copy of the loop's base context.
#[test]
fn a_post_runs_in_a_copy_of_the_base_context() {
    static VAR: ContextVar<u32> = ContextVar::new("var");
    on_loop(|el: &EventLoop| {
        let remote = el.remote();
        let seen = Arc::new(Mutex::new(Vec::new()));
        for _ in 0..2 {
            let seen = seen.clone();
            remote
                .post(move || {
                    seen.lock().unwrap().push(VAR.get());
                    VAR.set(1);
                })
                .unwrap();
        }
        settle(el);
        assert_eq!(*seen.lock().unwrap(), [None, None]);
    });
}

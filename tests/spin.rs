//! `Builder::spin`: the loop asks its selector again and again before it sleeps.

mod common;
#[path = "common/heard.rs"]
mod heard;
#[path = "common/threads.rs"]
mod threads;

use std::cell::Cell;
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use common::{Kind, PATIENCE, run_on};
use heard::{CountedBell, Heard};
use roundelay::{EventLoop, ManualClock};
use threads::{StopOnDrop, StopOnPanic};

/// Longer than any test waits.
const LONG: Duration = Duration::from_secs(3600);

/// How the selector was asked.
#[derive(Default)]
struct Counts {
    /// Waits of no time.
    looks: AtomicUsize,
    /// Waits that may take time.
    sleeps: AtomicUsize,
}

/// A selector that counts, and tells when it was asked for the hundredth time: then the loop spins.
fn told(counts: Arc<Counts>, spins: mpsc::Sender<()>) -> (Heard, Arc<CountedBell>) {
    Heard::new(move |timeout| {
        if timeout != Some(Duration::ZERO) {
            counts.sleeps.fetch_add(1, Ordering::SeqCst);
        } else if counts.looks.fetch_add(1, Ordering::SeqCst) == 100 {
            let _ = spins.send(());
        }
    })
}

/// A loop that spins, under observation.
struct Spinning {
    counts: Arc<Counts>,
    bell: Arc<CountedBell>,
}

impl Spinning {
    fn looks(&self) -> usize {
        self.counts.looks.load(Ordering::SeqCst)
    }

    fn sleeps(&self) -> usize {
        self.counts.sleeps.load(Ordering::SeqCst)
    }
}

/// Runs a test on a loop that spins for so long. The receiver is told when it does.
fn on_spinning_loop(spin: Duration, body: impl FnOnce(&EventLoop, &Spinning, mpsc::Receiver<()>)) {
    let made = Cell::new(None);
    run_on(
        || {
            let counts = Arc::new(Counts::default());
            let (spins, heard) = mpsc::channel();
            let (selector, bell) = told(counts.clone(), spins);
            made.set(Some((Spinning { counts, bell }, heard)));
            EventLoop::builder().selector(selector).spin(spin)
        },
        |el| {
            let (spinning, heard) = made.take().unwrap();
            body(el, &spinning, heard);
        },
    );
}

/// What another thread posts to a loop that spins costs no wake-up call, and is run without a sleep.
#[test]
fn a_post_to_a_spinning_loop_costs_no_call() {
    on_spinning_loop(LONG, |el, spinning, heard| {
        let remote = el.remote();
        let poster = thread::spawn(move || {
            let _stop = StopOnDrop(remote.clone());
            heard.recv_timeout(PATIENCE).unwrap();
            for n in 0..100 {
                drop(remote.call_soon_threadsafe(move || n).unwrap());
            }
        });
        el.run_forever();
        poster.join().unwrap();
        assert_eq!((spinning.bell.calls(), spinning.sleeps()), (0, 0));
    });
}

/// An event is seen while the loop spins.
#[test]
fn an_event_is_seen_without_a_sleep() {
    on_spinning_loop(LONG, |el, spinning, heard| {
        let (mut near, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let (stop, fd) = (el.clone(), near.try_clone().unwrap());
        let read = Rc::new(Cell::new(0));
        let seen = read.clone();
        el.add_reader(&fd, move || {
            let mut byte = [0];
            seen.set(near.read(&mut byte).map(|_| byte[0]).unwrap());
            stop.stop();
        })
        .unwrap();
        let remote = el.remote();
        let writer = thread::spawn(move || {
            let failed = StopOnPanic(remote);
            heard.recv_timeout(PATIENCE).unwrap();
            far.write_all(&[7]).unwrap();
            drop(failed);
            far
        });
        el.run_forever();
        assert_eq!((read.get(), spinning.sleeps()), (7, 0));
        assert!(el.remove_reader(&fd));
        drop(writer.join().unwrap());
    });
}

/// A deadline ends the spinning: it comes no later than without it.
#[test]
fn a_deadline_ends_it() {
    on_spinning_loop(LONG, |el, spinning, _| {
        let timer = el.call_later(Duration::from_millis(100), || ());
        while !timer.is_done() {
            el.run_once(None).unwrap();
        }
        assert!(spinning.looks() > 1);
        assert_eq!(spinning.sleeps(), 0);
    });
}

/// When its time is over the loop sleeps, and is called as ever.
#[test]
fn behind_it_the_loop_sleeps() {
    on_spinning_loop(Duration::from_micros(1), |el, spinning, _| {
        let (remote, done) = (el.remote(), Arc::new(AtomicUsize::new(0)));
        let ran = done.clone();
        // Each turn begins with nothing to do, so that it spins and then sleeps.
        for round in 1..=3 {
            let (post, ran) = (remote.clone(), ran.clone());
            el.call_later(Duration::from_millis(1), move || {
                post.call_soon_threadsafe(move || ran.fetch_add(1, Ordering::SeqCst)).unwrap();
            });
            common::run_until(el, || done.load(Ordering::SeqCst) == round);
        }
        assert!(spinning.sleeps() >= 1);
    });
}

/// By default the loop asks once and sleeps.
#[test]
fn it_is_off_by_default() {
    run_on(
        || Kind::Epoll.builder(),
        |el| {
            let waits = el.stats().waits;
            assert_eq!(el.run_once(Some(Duration::from_millis(1))).unwrap(), 0);
            assert_eq!(el.stats().waits - waits, 1);
        },
    );
}

/// A wait of no time stays one look.
#[test]
fn a_wait_of_no_time_does_not_spin() {
    on_spinning_loop(LONG, |el, spinning, _| {
        assert_eq!(el.run_once(Some(Duration::ZERO)).unwrap(), 0);
        assert_eq!(spinning.looks(), 1);
    });
}

/// A loop whose clock is turned by another thread does not spin: it would not hear of it.
#[test]
fn a_loop_with_a_clock_of_its_own_does_not_spin() {
    let clock = ManualClock::new();
    let turned = clock.clone();
    run_on(
        || EventLoop::builder().clock(clock).spin(LONG),
        |el| {
            let timer = el.call_later(LONG, || 5);
            let turner = thread::spawn(move || turned.advance(LONG));
            assert_eq!(el.run_until_complete(timer).unwrap().unwrap(), 5);
            turner.join().unwrap();
        },
    );
}

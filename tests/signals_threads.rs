//! Signals of several loops, on several threads, which come and go (behaviours SG).

mod common;
#[path = "common/signals.rs"]
mod signals;
#[path = "common/threads.rs"]
mod threads;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use common::{on_loop, run_until, settle};
use roundelay::{EventLoop, SignalKind};
use signals::{Set, Target, is_caught, raise};
use threads::{join, wait_until};

const ONE: SignalKind = SignalKind::user_defined1();
const TWO: SignalKind = SignalKind::user_defined2();

/// A handler that counts.
fn count(el: &EventLoop, kind: SignalKind) -> Rc<Cell<usize>> {
    let counted = Rc::new(Cell::new(0));
    let counter = counted.clone();
    el.add_signal_handler(kind, move || counter.set(counter.get() + 1)).unwrap();
    counted
}

on_every_loop! {
    /// SG-14: several loops on one thread each hear of the signals that they want, and of no others; the disposition goes
    /// with the last of them.
    fn several_loops_on_one_thread(el) {
        let others = [(); 3].map(|()| EventLoop::new().unwrap());
        let both: Vec<_> = [el].into_iter().chain(&others).map(|el| (count(el, ONE), el)).collect();
        let one = count(&others[0], TWO);
        for kind in [ONE, TWO, ONE] {
            raise(kind);
        }
        for (counted, el) in &both {
            run_until(el, || counted.get() == 2);
            settle(el);
            assert_eq!(counted.get(), 2);
        }
        assert_eq!(one.get(), 1);
        for other in &others {
            assert!(is_caught(ONE));
            other.close();
            assert!(!is_caught(TWO));
        }
        raise(ONE);
        run_until(el, || both[0].0.get() == 3);
        assert!(el.remove_signal_handler(ONE));
        assert!(!is_caught(ONE));
        assert!(both[1..].iter().all(|(counted, _)| counted.get() == 2));
    }

    /// SG-14: loops on several threads each hear of every signal, whichever thread it comes to.
    fn loops_on_several_threads(el) {
        const LOOPS: usize = 4;
        const SIGNALS: usize = 300;
        let listening = Arc::new(Barrier::new(LOOPS + 1));
        let loops: Vec<_> = (0..LOOPS)
            .map(|n| {
                let listening = listening.clone();
                thread::spawn(move || {
                    let el = EventLoop::new().unwrap();
                    let (ones, twos) = (count(&el, ONE), count(&el, if n == 0 { ONE } else { TWO }));
                    listening.wait();
                    // The first one has replaced its own.
                    let ones = if n == 0 { twos.clone() } else { ones };
                    run_until(&el, || (ones.get(), twos.get()) == (SIGNALS, SIGNALS));
                    settle(&el);
                    assert_eq!((ones.get(), twos.get()), (SIGNALS, SIGNALS));
                    listening.wait();
                    el.close();
                })
            })
            .collect();
        let counted = count(el, ONE);
        listening.wait();
        for n in 0..SIGNALS {
            raise(TWO);
            if n % 2 == 0 {
                // To a thread that sleeps in its own loop, one at a time.
                Target::of(&loops[n % LOOPS]).send(ONE);
                run_until(el, || counted.get() == n + 1);
            } else {
                raise(ONE);
            }
        }
        run_until(el, || counted.get() == SIGNALS);
        listening.wait();
        for thread in loops {
            join(el, thread);
        }
        assert_eq!(counted.get(), SIGNALS);
    }

    /// SG-06, SG-07, SG-14: loops begin and end to listen, and are closed, on several threads, in the middle of a storm of
    /// signals to all of them. One that listens all the time misses none; nothing is written into descriptors that have got
    /// the numbers of those that were closed.
    fn loops_come_and_go_in_a_storm(el) {
        const LOOPS: usize = 3;
        const ROUNDS: usize = 40;
        let (ended, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let counted = count(el, ONE);
        let _other = Set::ignored(TWO);
        let storms: Vec<_> = (0..2)
            .map(|_| {
                let (ended, sent) = (ended.clone(), sent.clone());
                thread::spawn(move || {
                    while !ended.load(Ordering::SeqCst) {
                        raise(ONE);
                        raise(TWO);
                        sent.fetch_add(1, Ordering::SeqCst);
                        thread::yield_now();
                    }
                })
            })
            .collect();
        let loops: Vec<_> = (0..LOOPS)
            .map(|n| {
                thread::spawn(move || {
                    for round in 0..ROUNDS {
                        let el = EventLoop::new().unwrap();
                        let (ones, twos) = (count(&el, ONE), count(&el, TWO));
                        let stream = el.signal(TWO).unwrap();
                        run_until(&el, || ones.get() > 0 && twos.get() > 0);
                        if (round + n) % 3 == 0 {
                            assert!(el.remove_signal_handler(TWO));
                            drop(stream);
                            assert!(el.remove_signal_handler(ONE));
                        }
                        el.close();
                        // Whoever makes pipes now gets the numbers of the loop's.
                        let pipes = [(); 3].map(|()| rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap());
                        thread::yield_now();
                        for (reader, _writer) in pipes {
                            assert_eq!(rustix::io::read(reader, &mut [0; 8]), Err(rustix::io::Errno::AGAIN));
                        }
                    }
                })
            })
            .collect();
        run_until(el, || loops.iter().all(|thread| thread.is_finished()));
        ended.store(true, Ordering::SeqCst);
        for thread in loops.into_iter().chain(storms) {
            join(el, thread);
        }
        let sent = sent.load(Ordering::SeqCst);
        run_until(el, || counted.get() >= sent);
        settle(el);
        assert_eq!(counted.get(), sent);
    }

    /// SG-14: of a burst as fast as another thread can send it nothing is lost but what the kernel merges.
    fn a_burst(el) {
        const SIGNALS: usize = 10_000;
        let (counted, here) = (count(el, ONE), Target::here());
        let sender = thread::spawn(move || (0..SIGNALS).for_each(|_| here.send(ONE)));
        join(el, sender);
        run_until(el, || counted.get() > 0);
        let end = count(el, TWO);
        // Behind the last one, which has a lower number.
        here.send(TWO);
        run_until(el, || end.get() == 1);
        settle(el);
        assert!((1..=SIGNALS).contains(&counted.get()), "{}", counted.get());
        assert_eq!(el.run_once(Some(Duration::ZERO)).unwrap(), 0);
    }
}

/// SG-07, SG-14: a loop that ends in the very moment in which another thread's handler looks at what is left of its
/// place does not spoil that for the next one, which would wait for that handler for ever.
#[test]
fn a_handler_at_work_where_a_loop_listened() {
    on_loop(|el| {
        const MOST_ROUNDS: usize = 1_000;
        // Each round takes two turns of either thread on the processor, for which many others may wait.
        const LONG_ENOUGH: Duration = Duration::from_secs(5);
        const AT_WORK: usize = 1;
        const AT_REST: usize = 2;
        const OVER: usize = 3;
        let counted = count(el, ONE);
        let (asked, state) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let interrupted = {
            let (asked, state) = (asked.clone(), state.clone());
            thread::spawn(move || {
                loop {
                    wait_until(|| matches!(asked.load(Ordering::SeqCst), AT_WORK | OVER));
                    if asked.load(Ordering::SeqCst) == OVER {
                        return;
                    }
                    while asked.load(Ordering::SeqCst) == AT_WORK {
                        raise(ONE);
                        state.store(AT_WORK, Ordering::SeqCst);
                    }
                    state.store(AT_REST, Ordering::SeqCst);
                }
            })
        };
        let comes_and_goes = thread::spawn(move || {
            let el = EventLoop::new().unwrap();
            let until = Instant::now() + LONG_ENOUGH;
            let mut rounds = 0;
            while rounds < MOST_ROUNDS && Instant::now() < until {
                rounds += 1;
                for turn in [AT_WORK, AT_REST] {
                    asked.store(turn, Ordering::SeqCst);
                    wait_until(|| state.load(Ordering::SeqCst) == turn);
                    el.add_signal_handler(TWO, || ()).unwrap();
                    assert!(el.remove_signal_handler(TWO));
                }
            }
            asked.store(OVER, Ordering::SeqCst);
            rounds
        });
        run_until(el, || comes_and_goes.is_finished());
        join(el, interrupted);
        let rounds = join(el, comes_and_goes);
        run_until(el, || counted.get() >= rounds);
    });
}

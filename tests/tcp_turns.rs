//! Whose I/O is always ready lets the others have their turn (behaviours LU).

mod common;
#[path = "common/tcp.rs"]
mod tcp;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use roundelay::{Protocol, TcpStream, Transport, spawn, yield_now};

use common::{on_manual_clock, run_until};
use tcp::{complete, pair, pattern, plain_pair, stream};

/// Completions that a task may have in one poll.
const BUDGET: usize = 128;

on_every_loop! {
    /// LU-01: a task whose reads are always ready yields after 128 of them: others have their turn in between. So does
    /// the future that the loop runs.
    fn a_flood_of_reads_yields(el) {
        complete(el, async {
            let flood = async || {
                let (mut ours, mut peer) = stream().await;
                peer.write_all(&pattern(1000)).unwrap();
                let reads = async {
                    let mut buffer = [0; 1];
                    for _ in 0..1000 {
                        ours.read_exact(&mut buffer).await.unwrap();
                        tick();
                    }
                };
                assert_shares_turns(reads, 1000).await;
            };
            flood().await;
            spawn(flood()).await.unwrap();
        });
    }

    /// LU-01: an executor inside of a task, which polls on whatever it is told, gets through all the same.
    fn the_budget_leaves_nobody_stuck(el) {
        complete(el, async {
            let (mut ours, mut peer) = stream().await;
            peer.write_all(&pattern(1000)).unwrap();
            let mut polls = 0;
            let mut all = vec![0; 1000];
            for byte in all.chunks_mut(1) {
                let mut read = ours.read_exact(byte);
                let mut read = pin!(&mut read);
                while read.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
                    polls += 1;
                    assert!(polls < 10_000, "it is stuck");
                }
            }
            assert_eq!(all, pattern(1000));
        });
    }

    /// LU-01: the same for writes, and for both mixed.
    fn a_flood_of_writes_yields(el) {
        complete(el, async {
            let (mut ours, mut peer) = stream().await;
            let writes = async {
                for _ in 0..500 {
                    ours.write_all(b"x").await.unwrap();
                    tick();
                }
                ours.close().await.unwrap();
            };
            assert_shares_turns(writes, 500).await;
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            assert_eq!(all.len(), 500);

            let (mut a, mut b) = pair().await;
            let both = async {
                let mut buffer = [0; 1];
                for _ in 0..300 {
                    a.write_all(b"x").await.unwrap();
                    tick();
                    b.read_exact(&mut buffer).await.unwrap();
                    tick();
                }
            };
            assert_shares_turns(both, 600).await;
        });
    }

    /// LU-01: what has been spent in one poll is there again in the next, and a task that polls several streams of its
    /// own goes on with all of them.
    fn the_budget_is_a_tasks(el) {
        complete(el, async {
            let (mut streams, mut peers) = (Vec::new(), Vec::new());
            for _ in 0..3 {
                let (ours, mut peer) = stream().await;
                peer.write_all(&pattern(400)).unwrap();
                streams.push(ours);
                peers.push(peer);
            }
            let all = futures::future::join_all(streams.iter_mut().map(async |stream| {
                let mut buffer = [0; 1];
                for _ in 0..400 {
                    stream.read_exact(&mut buffer).await.unwrap();
                    tick();
                }
            }));
            assert_shares_turns(async { drop(all.await) }, 1200).await;
        });
    }
}

thread_local! {
    /// Completions of the flood under test.
    static TICKS: Cell<usize> = const { Cell::new(0) };
}

fn tick() {
    TICKS.set(TICKS.get() + 1);
}

/// Runs a flood in a task beside another one, and checks that the other one is never kept waiting for longer than a
/// budget's worth of completions.
async fn assert_shares_turns(flood: impl Future<Output = ()>, completions: usize) {
    TICKS.set(0);
    let mut flood = pin!(flood);
    let done = Rc::new(Cell::new(false));
    let seen = Rc::new(RefCell::new(vec![0]));
    let (log, over) = (seen.clone(), done.clone());
    let other = spawn(async move {
        while !over.get() {
            log.borrow_mut().push(TICKS.get());
            yield_now().await;
        }
    });
    poll_fn(|cx| flood.as_mut().poll(cx)).await;
    done.set(true);
    other.await.unwrap();
    assert_eq!(TICKS.get(), completions);
    let seen = seen.borrow();
    let longest = seen.windows(2).map(|two| two[1] - two[0]).max().unwrap();
    // Some of the flood's operations are no ticks of their own.
    assert!(longest <= BUDGET, "{longest} completions without a turn of the other task");
    assert!(seen.len() > completions / BUDGET, "{} turns for {completions} completions", seen.len());
}

/// A peer that never stops sending, on a thread of its own, until the connection is closed.
struct Flood {
    thread: Option<std::thread::JoinHandle<u64>>,
}

impl Flood {
    /// So many bytes are the end in any case.
    const MOST: u64 = 1 << 32;

    fn new(mut peer: std::net::TcpStream) -> Self {
        let send = move || {
            let piece = vec![0; 256 * 1024];
            let mut sent = 0;
            while sent < Self::MOST {
                match peer.write(&piece) {
                    Ok(n) => sent += n as u64,
                    Err(_) => break,
                }
            }
            sent
        };
        Self { thread: Some(std::thread::spawn(send)) }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// LU-01: a task that reads from a peer that never stops sending does not delay a timer for longer than two of its
/// turns. The timer is due in the midst of one; what the task completes until it fires is counted.
#[test]
fn a_flooded_task_lets_a_timer_fire() {
    on_manual_clock(|el, clock| {
        let (ours, peer) = plain_pair();
        let flood = Flood::new(peer);
        let fired = Rc::new(Cell::new(false));
        let timer = fired.clone();
        el.call_later(Duration::from_millis(1), move || timer.set(true));
        let reads = complete(el, async {
            let mut ours = TcpStream::from_std(ours).unwrap();
            let mut buffer = vec![0; 1024];
            let mut since_due = 0;
            for read in 0.. {
                assert!(ours.read(&mut buffer).await.unwrap() > 0);
                assert!(since_due > 0 || !fired.get(), "it fires too early");
                if fired.get() {
                    break;
                }
                // Somewhere in the midst of a turn.
                if read == 1000 {
                    clock.advance(Duration::from_millis(1));
                }
                if read >= 1000 {
                    since_due += 1;
                }
            }
            since_due
        });
        assert!(reads <= 2 * BUDGET, "{reads} reads before the timer");
        drop(flood);
    });
}

/// LU-01: the same for a protocol: no more than two events' worth of bytes.
#[test]
fn a_flooded_protocol_lets_a_timer_fire() {
    /// What one event may deliver: it ends with the read that brings it to 256 KiB, which may itself be as large.
    const EVENT: usize = 2 * 256 * 1024;
    struct Counts {
        total: Rc<Cell<usize>>,
        fired: Rc<Cell<bool>>,
        due: Rc<Cell<Option<usize>>>,
        clock: roundelay::ManualClock,
    }
    impl Protocol for Counts {
        fn data_received(&mut self, transport: &Transport, data: &[u8]) {
            if self.fired.get() {
                return transport.abort();
            }
            self.total.set(self.total.get() + data.len());
            if self.total.get() > 4 << 20 && self.due.get().is_none() {
                self.due.set(Some(self.total.get()));
                self.clock.advance(Duration::from_millis(1));
            }
        }
    }
    on_manual_clock(|el, clock| {
        let (ours, peer) = plain_pair();
        let flood = Flood::new(peer);
        let (total, fired, due) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)), Rc::new(Cell::new(None)));
        let counts = Counts { total: total.clone(), fired: fired.clone(), due: due.clone(), clock: clock.clone() };
        let (timer, at, now) = (fired.clone(), Rc::new(Cell::new(0)), total.clone());
        let fired_at = at.clone();
        el.call_later(Duration::from_millis(1), move || {
            timer.set(true);
            fired_at.set(now.get());
        });
        let (transport, _) = complete(el, el.create_connection(|| counts, ours)).unwrap();
        run_until(el, || transport.protocol().is_none());
        let late = at.get() - due.get().expect("enough has arrived");
        assert!(late <= 2 * EVENT, "{late} bytes before the timer");
        drop(flood);
    });
}

/// LU-01: bytes count, too: a task that reads a megabyte at a time has its share after a few of them.
#[test]
fn a_task_with_a_large_buffer_lets_a_timer_fire() {
    on_manual_clock(|el, clock| {
        let (ours, peer) = plain_pair();
        let flood = Flood::new(peer);
        let fired = Rc::new(Cell::new(false));
        let timer = fired.clone();
        el.call_later(Duration::from_millis(1), move || timer.set(true));
        let bytes = complete(el, async {
            let mut ours = TcpStream::from_std(ours).unwrap();
            let mut buffer = vec![0; 1 << 20];
            let (mut total, mut due) = (0, None);
            while !fired.get() {
                total += ours.read(&mut buffer).await.unwrap();
                if total > 16 << 20 && due.is_none() {
                    clock.advance(Duration::from_millis(1));
                    due = Some(total);
                }
            }
            total - due.unwrap()
        });
        // Two turns, each of which may end with a read of the whole buffer.
        assert!(bytes <= 2 * (BUDGET * 32 * 1024 + (1 << 20)), "{bytes} bytes before the timer");
        drop(flood);
    });
}

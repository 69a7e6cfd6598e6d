//! Channels and locks of the crates that the guide recommends, on this loop: on one thread and across several, with
//! cancellation, in order. None of them knows of the loop; all that they have of it is its wakers.

mod common;

use std::cell::RefCell;
use std::future::{Future, pending};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use futures::FutureExt;
use roundelay::{EventLoop, Task, block_on, spawn, yield_now};

use common::{complete, on_loop, run_until, settle};

/// A thread with a loop of its own, for this future.
fn on_thread<F: Future<Output: Send + 'static>>(make: impl FnOnce() -> F + Send + 'static) -> JoinHandle<F::Output> {
    thread::spawn(move || block_on(async move { make().await }))
}

/// Waits for such a thread while the test's own loop runs.
#[track_caller]
fn join<T>(el: &EventLoop, thread: JoinHandle<T>) -> T {
    run_until(el, || thread.is_finished());
    thread.join().unwrap()
}

/// Cancels a task and waits until it is gone.
#[track_caller]
fn cancel<T: 'static>(el: &EventLoop, task: Task<T>) {
    task.cancel();
    run_until(el, || task.is_done());
}

/// A channel for many senders: how it is made, how something is sent and received.
trait Channel: 'static {
    type Sender: Clone + Send + 'static;
    type Receiver: Send + 'static;

    /// For so many messages at most, if it has a bound at all.
    fn make(bound: usize) -> (Self::Sender, Self::Receiver);

    async fn send(sender: &mut Self::Sender, message: u32) -> Result<(), ()>;

    /// `None` when all senders are gone.
    async fn receive(receiver: &mut Self::Receiver) -> Option<u32>;
}

macro_rules! channels {
    ($($name:ident: $sender:ty, $receiver:ty, $bound:ident => $make:expr, $tx:ident, $message:ident => $send:expr, $rx:ident => $receive:expr;)*) => {
        $(struct $name;

        impl Channel for $name {
            type Sender = $sender;
            type Receiver = $receiver;

            #[allow(unused_variables)]
            fn make($bound: usize) -> (Self::Sender, Self::Receiver) {
                $make
            }

            async fn send($tx: &mut Self::Sender, $message: u32) -> Result<(), ()> {
                $send.map_err(drop)
            }

            async fn receive($rx: &mut Self::Receiver) -> Option<u32> {
                $receive
            }
        })*
    };
}

channels! {
    AsyncBounded: async_channel::Sender<u32>, async_channel::Receiver<u32>,
        bound => async_channel::bounded(bound), tx, m => tx.send(m).await, rx => rx.recv().await.ok();
    AsyncUnbounded: async_channel::Sender<u32>, async_channel::Receiver<u32>,
        bound => async_channel::unbounded(), tx, m => tx.send(m).await, rx => rx.recv().await.ok();
    FuturesBounded: futures::channel::mpsc::Sender<u32>, futures::channel::mpsc::Receiver<u32>,
        bound => futures::channel::mpsc::channel(bound),
        tx, m => futures::SinkExt::send(tx, m).await, rx => futures::StreamExt::next(rx).await;
    FuturesUnbounded: futures::channel::mpsc::UnboundedSender<u32>, futures::channel::mpsc::UnboundedReceiver<u32>,
        bound => futures::channel::mpsc::unbounded(),
        tx, m => tx.unbounded_send(m), rx => futures::StreamExt::next(rx).await;
    TokioBounded: tokio::sync::mpsc::Sender<u32>, tokio::sync::mpsc::Receiver<u32>,
        bound => tokio::sync::mpsc::channel(bound), tx, m => tx.send(m).await, rx => rx.recv().await;
    TokioUnbounded: tokio::sync::mpsc::UnboundedSender<u32>, tokio::sync::mpsc::UnboundedReceiver<u32>,
        bound => tokio::sync::mpsc::unbounded_channel(), tx, m => tx.send(m), rx => rx.recv().await;
}

const SENDERS: u32 = 3;
const MESSAGES: u32 = 300;

/// Sends the messages of one of the senders.
async fn send_all<C: Channel>(mut sender: C::Sender, number: u32) {
    for i in 0..MESSAGES {
        C::send(&mut sender, number * MESSAGES + i).await.unwrap();
        if i % 7 == number {
            yield_now().await;
        }
    }
}

/// Everything that was sent is there, in the order of each sender.
#[track_caller]
fn check(received: &[u32]) {
    assert_eq!(received.len(), (SENDERS * MESSAGES) as usize);
    for number in 0..SENDERS {
        let of_sender: Vec<_> = received.iter().copied().filter(|message| message / MESSAGES == number).collect();
        assert_eq!(of_sender, (number * MESSAGES..(number + 1) * MESSAGES).collect::<Vec<_>>());
    }
}

async fn receive_all<C: Channel>(mut receiver: C::Receiver) -> Vec<u32> {
    let mut received = Vec::new();
    while let Some(message) = C::receive(&mut receiver).await {
        received.push(message);
    }
    received
}

/// Several tasks send, one receives, until the last sender is gone.
fn on_one_thread<C: Channel>() {
    on_loop(|el| {
        let (sender, receiver) = C::make(2);
        for number in 0..SENDERS {
            drop(el.create_task(send_all::<C>(sender.clone(), number)));
        }
        drop(sender);
        check(&complete(el, receive_all::<C>(receiver)));
    });
}

/// Each sender on a loop and a thread of its own; and the receiver on another one than where it was made.
fn across_threads<C: Channel>() {
    on_loop(|el| {
        let (sender, receiver) = C::make(2);
        let threads: Vec<_> = (0..SENDERS)
            .map(|number| {
                let sender = sender.clone();
                on_thread(move || send_all::<C>(sender, number))
            })
            .collect();
        drop(sender);
        check(&complete(el, receive_all::<C>(receiver)));
        threads.into_iter().for_each(|thread| join(el, thread));

        let (mut sender, receiver) = C::make(2);
        let thread = on_thread(move || receive_all::<C>(receiver));
        complete(el, async move {
            for message in 0..MESSAGES {
                C::send(&mut sender, message).await.unwrap();
            }
        });
        assert_eq!(join(el, thread), (0..MESSAGES).collect::<Vec<_>>());
    });
}

/// Receiving that is cancelled, at any moment, loses no message: it is there for the next one.
fn receiving_may_be_cancelled<C: Channel>() {
    on_loop(|el| {
        let (mut sender, receiver) = C::make(2);
        let receiver = Rc::new(async_lock::Mutex::new(receiver));
        let received = Rc::new(RefCell::new(Vec::new()));
        let receiving = || {
            let (receiver, received) = (receiver.clone(), received.clone());
            el.create_task(async move {
                let mut receiver = receiver.lock().await;
                while let Some(message) = C::receive(&mut receiver).await {
                    received.borrow_mut().push(message);
                }
            })
        };
        for message in 0..20 {
            let waiting = receiving();
            settle(el);
            // It is woken, and cancelled before it runs; or it has not begun to wait at all.
            assert!(C::send(&mut sender, 2 * message).now_or_never().is_some());
            cancel(el, waiting);
            assert!(C::send(&mut sender, 2 * message + 1).now_or_never().is_some());
            let waiting = receiving();
            run_until(el, || received.borrow().len() == 2 * message as usize + 2);
            cancel(el, waiting);
        }
        assert_eq!(*received.borrow(), (0..40).collect::<Vec<_>>());
    });
}

/// Sending that waits for room, and is cancelled, sends nothing, and whoever waits behind it has its turn.
fn sending_may_be_cancelled<C: Channel>() {
    on_loop(|el| {
        let (sender, mut receiver) = C::make(1);
        // Some channels hold one more for each sender.
        let mut first = sender.clone();
        let mut filled = 0;
        while C::send(&mut first, filled).now_or_never().is_some() {
            filled += 1;
            assert!(filled < 10);
        }
        let waiting: Vec<_> = (0..3)
            .map(|number| {
                let mut sender = first.clone();
                el.create_task(async move { while C::send(&mut sender, 100 + number).await.is_ok() && number != 1 {} })
            })
            .collect();
        settle(el);
        let mut waiting = waiting.into_iter();
        let (one, two, three) = (waiting.next().unwrap(), waiting.next().unwrap(), waiting.next().unwrap());
        cancel(el, one);
        cancel(el, three);
        drop((first, sender));
        let mut received = Vec::new();
        complete(el, async {
            while let Some(message) = C::receive(&mut receiver).await {
                received.push(message);
            }
        });
        run_until(el, || two.is_done());
        assert_eq!(received.iter().filter(|&&message| message == 101).count(), 1, "{received:?}");
        assert_eq!(received[..filled as usize], (0..filled).collect::<Vec<_>>());
    });
}

macro_rules! for_each_channel {
    ($($module:ident $channel:ident $($bounded:ident)?;)*) => {
        $(mod $module {
            use super::*;
            #[test]
            fn on_one_thread() { super::on_one_thread::<$channel>(); }
            #[test]
            fn across_threads() { super::across_threads::<$channel>(); }
            #[test]
            fn receiving_may_be_cancelled() { super::receiving_may_be_cancelled::<$channel>(); }
            $(#[test]
            fn $bounded() { super::$bounded::<$channel>(); })?
        })*
    };
}

for_each_channel! {
    async_bounded AsyncBounded sending_may_be_cancelled;
    async_unbounded AsyncUnbounded;
    futures_bounded FuturesBounded sending_may_be_cancelled;
    futures_unbounded FuturesUnbounded;
    tokio_bounded TokioBounded sending_may_be_cancelled;
    tokio_unbounded TokioUnbounded;
}

/// One answer: from a task, from another thread, and from nobody.
#[test]
fn one_shot() {
    on_loop(|el| {
        let (send, receive) = futures::channel::oneshot::channel();
        let (send_back, receive_back) = tokio::sync::oneshot::channel();
        let thread = on_thread(move || async move {
            let question: u32 = receive.await.unwrap();
            send_back.send(question + 1).unwrap();
        });
        complete(el, async {
            yield_now().await;
            send.send(41).unwrap();
            assert_eq!(receive_back.await, Ok(42));
            // Whoever was to answer is cancelled.
            let (send, receive) = tokio::sync::oneshot::channel::<()>();
            let (other_send, other_receive) = futures::channel::oneshot::channel::<()>();
            let task = spawn(async move {
                let _senders = (send, other_send);
                pending::<()>().await;
            });
            task.cancel();
            assert!(receive.await.is_err());
            assert!(other_receive.await.is_err());
            // Whoever has asked is.
            let (mut send, receive) = tokio::sync::oneshot::channel::<()>();
            let (mut other_send, other_receive) = futures::channel::oneshot::channel::<()>();
            let task = spawn(async move { drop((receive.await, other_receive.await)) });
            yield_now().await;
            task.cancel();
            send.closed().await;
            other_send.cancellation().await;
        });
        join(el, thread);
    });
}

/// The newest value for many who watch, on this loop and on others; who is cancelled misses nothing when it looks again.
#[test]
fn tokio_watch() {
    on_loop(|el| {
        let (sender, mut here) = tokio::sync::watch::channel(0);
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let mut there = sender.subscribe();
                on_thread(move || async move {
                    let mut last = 0;
                    while there.changed().await.is_ok() {
                        let value = *there.borrow_and_update();
                        assert!(value > last, "{value} after {last}");
                        last = value;
                    }
                    last
                })
            })
            .collect();
        complete(el, async {
            for value in 1..=100 {
                assert!(here.changed().now_or_never().is_none());
                sender.send(value).unwrap();
                here.changed().await.unwrap();
                assert_eq!(*here.borrow_and_update(), value);
                yield_now().await;
            }
            drop(sender);
            assert!(here.changed().await.is_err());
        });
        for thread in threads {
            assert_eq!(join(el, thread), 100);
        }
    });
}

/// Who waits is woken in the order of waiting, one by one or all at once; one that is cancelled after it was chosen passes
/// it on; and a notice that nobody waits for is kept.
#[test]
fn tokio_notify() {
    on_loop(|el| {
        let notify = Arc::new(tokio::sync::Notify::new());
        let woken = Rc::new(RefCell::new(Vec::new()));
        let waiting = |number: usize| {
            let (notify, woken) = (notify.clone(), woken.clone());
            el.create_task(async move {
                notify.notified().await;
                woken.borrow_mut().push(number);
            })
        };
        let mut tasks: Vec<_> = (0..5).map(waiting).collect();
        settle(el);
        notify.notify_one();
        settle(el);
        assert_eq!(woken.take(), [0]);
        notify.notify_one();
        cancel(el, tasks.remove(1));
        settle(el);
        assert_eq!(woken.take(), [2]);
        let remote = notify.clone();
        join(el, thread::spawn(move || remote.notify_waiters()));
        run_until(el, || tasks.iter().all(Task::is_done));
        assert_eq!(woken.take(), [3, 4]);
        notify.notify_one();
        assert!(notify.notified().now_or_never().is_some());
    });
}

/// Something that tasks wait for in turn.
trait Lock: Send + Sync + 'static {
    fn make() -> Self;

    /// Holds it while the body runs.
    fn hold<T>(&self, body: impl Future<Output = T>) -> impl Future<Output = T>;
}

macro_rules! locks {
    ($($lock:ty, $make:expr, $this:ident => $take:expr;)*) => {
        $(impl Lock for $lock {
            fn make() -> Self {
                $make
            }

            async fn hold<T>(&self, body: impl Future<Output = T>) -> T {
                let $this = self;
                let _guard = $take;
                body.await
            }
        })*
    };
}

/// As a lock for one, of which readers are many.
struct Writing(async_lock::RwLock<()>);
struct TokioWriting(tokio::sync::RwLock<()>);

locks! {
    async_lock::Mutex<()>, async_lock::Mutex::new(()), this => this.lock().await;
    async_lock::Semaphore, async_lock::Semaphore::new(1), this => this.acquire().await;
    Writing, Writing(async_lock::RwLock::new(())), this => this.0.write().await;
    futures::lock::Mutex<()>, futures::lock::Mutex::new(()), this => this.lock().await;
    tokio::sync::Mutex<()>, tokio::sync::Mutex::new(()), this => this.lock().await;
    tokio::sync::Semaphore, tokio::sync::Semaphore::new(1), this => this.acquire().await.unwrap();
    TokioWriting, TokioWriting(tokio::sync::RwLock::new(())), this => this.0.write().await;
}

/// Who waits has its turn, one after the other; who is cancelled is left out, wherever it stands, and nobody waits for ever.
fn in_turn<L: Lock>(in_order: bool) {
    on_loop(|el| {
        let lock = Rc::new(L::make());
        let log = Rc::new(RefCell::new(Vec::new()));
        let (open, opened) = futures::channel::oneshot::channel::<()>();
        let holder = lock.clone();
        let first = el.create_task(async move { holder.hold(opened).await });
        let mut waiting: Vec<_> = (0..6)
            .map(|number| {
                let (lock, log) = (lock.clone(), log.clone());
                el.create_task(async move {
                    let holding = async {
                        log.borrow_mut().push(number);
                        yield_now().await;
                    };
                    lock.hold(holding).await;
                })
            })
            .collect();
        settle(el);
        assert!(log.borrow().is_empty());
        cancel(el, waiting.remove(3));
        open.send(()).unwrap();
        run_until(el, || first.is_done());
        // The one whose turn it is now: it may have it already, or have just been woken.
        cancel(el, waiting.remove(0));
        run_until(el, || waiting.iter().all(Task::is_done));
        let mut had: Vec<u32> = log.borrow().iter().copied().filter(|number| *number != 0).collect();
        if !in_order {
            had.sort_unstable();
        }
        assert_eq!(had, [1, 2, 4, 5]);
        complete(el, lock.hold(async {}));
    });
}

/// One at a time, whatever threads and loops they are on.
fn one_at_a_time<L: Lock>() {
    on_loop(|el| {
        let (lock, inside, total) = (Arc::new(L::make()), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let work = {
            let (lock, inside, total) = (lock.clone(), inside.clone(), total.clone());
            move || async move {
                for _ in 0..200 {
                    let holding = async {
                        assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
                        yield_now().await;
                        total.fetch_add(1, Ordering::Relaxed);
                        assert_eq!(inside.fetch_sub(1, Ordering::Relaxed), 1);
                    };
                    lock.hold(holding).await;
                }
            }
        };
        let threads: Vec<_> = (0..3).map(|_| on_thread(work.clone())).collect();
        complete(el, work());
        threads.into_iter().for_each(|thread| join(el, thread));
        assert_eq!(total.load(Ordering::Relaxed), 800);
    });
}

macro_rules! for_each_lock {
    ($($module:ident $lock:ty, $in_order:expr;)*) => {
        $(mod $module {
            #[allow(unused_imports)]
            use super::*;
            #[test]
            fn in_turn() { super::in_turn::<$lock>($in_order); }
            #[test]
            fn one_at_a_time() { super::one_at_a_time::<$lock>(); }
        })*
    };
}

// futures' lock promises no order, nor does async-lock's semaphore: who is woken and comes too late waits anew.
for_each_lock! {
    async_mutex async_lock::Mutex<()>, true;
    async_semaphore async_lock::Semaphore, false;
    async_rw_lock Writing, true;
    futures_mutex futures::lock::Mutex<()>, false;
    tokio_mutex tokio::sync::Mutex<()>, true;
    tokio_semaphore tokio::sync::Semaphore, true;
    tokio_rw_lock TokioWriting, true;
}

/// Readers at the same time, writers alone; and a writer that waits is not passed by for ever by readers that keep coming.
#[test]
fn readers_and_writers() {
    on_loop(|el| {
        complete(el, async {
            let lock = Rc::new(async_lock::RwLock::new(0));
            let tokio_lock = Rc::new(tokio::sync::RwLock::new(0));
            let (one, two) = (lock.read().await, lock.read().await);
            let (tokio_one, tokio_two) = (tokio_lock.read().await, tokio_lock.read().await);
            let (lock_there, tokio_there) = (lock.clone(), tokio_lock.clone());
            let writer = spawn(async move {
                *lock_there.write().await += 1;
                *tokio_there.write().await += 1;
            });
            yield_now().await;
            assert!(lock.try_read().is_none(), "a writer waits");
            drop((one, two));
            yield_now().await;
            assert!(tokio_lock.try_read().is_err(), "a writer waits");
            drop((tokio_one, tokio_two));
            writer.await.unwrap();
            assert_eq!((*lock.read().await, *tokio_lock.read().await), (1, 1));
            // One that is cancelled does not keep readers out.
            let reader = lock.read().await;
            let there = lock.clone();
            let writer = spawn(async move { drop(there.write().await) });
            yield_now().await;
            writer.cancel();
            assert!(writer.await.unwrap_err().is_cancelled());
            drop(lock.read().await);
            drop(reader);
        });
    });
}

/// All wait for the last; each round has one leader, across threads.
#[test]
fn barrier() {
    on_loop(|el| {
        let barrier = Arc::new(async_lock::Barrier::new(3));
        let leaders = Arc::new(AtomicUsize::new(0));
        let rounds = {
            let (barrier, leaders) = (barrier.clone(), leaders.clone());
            move || async move {
                for round in 0..50 {
                    if barrier.wait().await.is_leader() {
                        leaders.fetch_add(1, Ordering::Relaxed);
                    }
                    // Nobody is in the next one before all have left this one.
                    barrier.wait().await;
                    assert_eq!(leaders.load(Ordering::Relaxed), round + 1);
                    barrier.wait().await;
                }
            }
        };
        let threads: Vec<_> = (0..2).map(|_| on_thread(rounds.clone())).collect();
        complete(el, rounds());
        threads.into_iter().for_each(|thread| join(el, thread));
        assert_eq!(leaders.load(Ordering::Relaxed), 50);
    });
}

/// Made once, though several want it at once; where the one who makes it fails or is cancelled, another one does.
#[test]
fn once() {
    on_loop(|el| {
        let cell = Rc::new(async_lock::OnceCell::<u32>::new());
        let made = Rc::new(RefCell::new(Vec::new()));
        let wanting = |number: u32| {
            let (cell, made) = (cell.clone(), made.clone());
            el.create_task(async move {
                let make = async {
                    made.borrow_mut().push(number);
                    yield_now().await;
                    match number {
                        0 => pending::<io::Result<u32>>().await,
                        1 => Err(io::ErrorKind::Other.into()),
                        _ => Ok(number),
                    }
                };
                cell.get_or_try_init(|| make).await.copied().ok()
            })
        };
        let cancelled = wanting(0);
        let tasks: Vec<_> = (1..5).map(wanting).collect();
        settle(el);
        assert_eq!(*made.borrow(), [0]);
        cancel(el, cancelled);
        let outputs: Vec<_> = tasks.into_iter().map(|task| complete(el, task).unwrap()).collect();
        assert_eq!(*made.borrow(), [0, 1, 2]);
        assert_eq!(outputs, [None, Some(2), Some(2), Some(2)]);
        assert_eq!(cell.get(), Some(&2));
    });
}

/// What is always ready does not hold up the other tasks of the loop for ever where its user gives way now and then; tokio's
/// own budget, which its runtime looks after, is without effect here.
#[test]
fn a_full_channel_and_another_task() {
    on_loop(|el| {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        for message in 0..1_000 {
            sender.send(message).unwrap();
        }
        let turns = Rc::new(RefCell::new(0));
        let counted = turns.clone();
        let other = el.create_task(async move {
            loop {
                *counted.borrow_mut() += 1;
                yield_now().await;
            }
        });
        complete(el, async {
            for message in 0..1_000 {
                assert_eq!(receiver.recv().await, Some(message));
                if message % 100 == 99 {
                    yield_now().await;
                }
            }
        });
        assert!((10..=12).contains(&*turns.borrow()), "{}", turns.borrow());
        cancel(el, other);
    });
}

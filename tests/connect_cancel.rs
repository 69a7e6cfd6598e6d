//! Connections and servers whose making is cancelled at each of its await points: nothing may stay open.

mod common;
#[path = "common/tcp.rs"]
mod tcp;

use std::cell::Cell;
use std::future::IntoFuture;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use roundelay::{EventLoop, Protocol, Task, ThreadPoolExecutor, Transport, open_connection, start_server};

use common::{DropCounter, Log, PATIENCE, PollTimes, alone, open_descriptors, poll_times, run_until, settle};
use tcp::{Idle, LOOPBACK, black_hole, calm, closed_port, complete, plain_listener, plain_pair, take_client};

/// Most polls that any of these futures may take.
const MOST_POLLS: usize = 50;

/// Cancels a future after one poll, after two, and so on until it completes, and checks each time that nothing is left.
///
/// `make` makes the future anew; `after` gets the output, or nothing where the future was cancelled.
#[track_caller]
fn cancel_everywhere<F: IntoFuture>(el: &EventLoop, make: impl Fn() -> F, after: impl Fn(Option<F::Output>)) -> usize {
    calm(el);
    let before = el.stats();
    for polls in 1..=MOST_POLLS {
        let cancellable: PollTimes<F::IntoFuture> = poll_times(make().into_future(), polls);
        let output = complete(el, cancellable);
        let done = output.is_some();
        after(output);
        calm(el);
        let now = el.stats();
        assert_eq!(now.descriptors.live(), before.descriptors.live(), "a registration is left after {polls} polls");
        assert_eq!(now.transports.live(), before.transports.live(), "a transport is left after {polls} polls");
        assert_eq!(now.servers.live(), before.servers.live(), "a server is left after {polls} polls");
        assert_eq!(now.timers.live(), before.timers.live(), "a timer is left after {polls} polls");
        if done {
            return polls;
        }
    }
    panic!("the future was not done after {MOST_POLLS} polls");
}

/// As above, and counts the process's descriptors each time, too: for futures that no other thread works for.
#[track_caller]
fn cancel_everywhere_and_count<F: IntoFuture>(
    el: &EventLoop,
    make: impl Fn() -> F,
    after: impl Fn(Option<F::Output>),
) -> usize {
    calm(el);
    let before = open_descriptors();
    let made = Cell::new(0);
    let checked = || {
        calm(el);
        let left = open_descriptors();
        assert_eq!(left, before, "descriptors are left after {} polls", made.get());
        made.set(made.get() + 1);
        make()
    };
    let polls = cancel_everywhere(el, checked, after);
    assert_eq!(open_descriptors(), before);
    polls
}

/// Notes the beginning and the end of each connection, and that nothing else comes of it.
struct Paired(Log);

impl Protocol for Paired {
    fn connection_made(&mut self, _: &Transport) {
        self.0.push("made");
    }
    fn connection_lost(&mut self, _: &Transport, error: Option<io::Error>) {
        assert!(error.is_none());
        self.0.push("lost");
    }
}

/// Keeps all threads of the default executor busy until what it returns is dropped.
fn occupy_executor(el: &EventLoop) -> mpsc::Sender<()> {
    let (release, wait) = mpsc::channel();
    let wait = Arc::new(Mutex::new(wait));
    // More jobs than the default executor ever has threads.
    for _ in 0..64 {
        let wait = wait.clone();
        drop(el.run_in_executor(None, move || {
            // Ends with an error, when the sender is dropped.
            let _ = wait.lock().unwrap_or_else(|poison| poison.into_inner()).recv() as Result<(), _>;
        }));
    }
    release
}

/// Tasks of every kind that look a name up first.
fn look_up_in_vain(el: &EventLoop) -> Vec<Task<io::Result<()>>> {
    let name = ("localhost", 1);
    let connection = el.create_connection(|| Idle, name).local_addr(name);
    let server = el.create_server(|| Idle, name);
    vec![
        el.create_task(async move { connection.await.map(drop) }),
        el.create_task(async move { server.await.map(drop) }),
        el.create_task(async move { open_connection(name).await.map(drop) }),
        el.create_task(async move { roundelay::TcpStream::connect(name).await.map(drop) }),
        el.create_task(async move { roundelay::TcpListener::bind(name).await.map(drop) }),
        el.create_task(async move { start_server(async |_, _| (), name).await.map(drop) }),
    ]
}

/// Ends what was made in the end.
fn abort<P>(output: Option<io::Result<(Transport, P)>>) {
    if let Some(output) = output {
        output.unwrap().0.abort();
    }
}

/// A pool for the lookups, which can be asked for its threads.
fn own_pool(el: &EventLoop) -> ThreadPoolExecutor {
    let pool = ThreadPoolExecutor::default();
    el.set_default_executor(Some(Rc::new(pool.clone())));
    pool
}

/// What lookups that were given up have open is theirs until they are done, and nobody waits for them but here.
fn end_lookups(el: &EventLoop, pool: &ThreadPoolExecutor) {
    let ended = pool.clone();
    assert!(complete(el, async move { ended.shutdown(None).await }));
    // They leave behind their job.
    run_until(el, || pool.threads() == 0);
}

on_every_loop! {
    /// TC-19: `create_connection` to an address. Who heard of a connection hears of its end as well.
    fn to_an_address(el) {
        let (_listener, address) = plain_listener();
        let log = Log::new();
        let make = || {
            let log = log.clone();
            el.create_connection(move || Paired(log), address)
        };
        let polls = cancel_everywhere_and_count(el, make, |output| {
            abort(output);
            calm(el);
            let heard = log.take();
            assert!(heard.is_empty() || heard == ["made", "lost"], "{heard:?}");
        });
        assert!(polls > 2, "it was cancelled nowhere but at its beginning");
    }

    /// TC-19: the same from a local address, after other attempts that fail.
    fn after_attempts_that_fail(el) {
        let (_listener, address) = plain_listener();
        let (_holder, closed) = closed_port();
        let targets = vec![closed, closed, address];
        let make = || el.create_connection(|| Idle, targets.clone()).local_addr(("127.0.0.1", 0));
        assert!(cancel_everywhere_and_count(el, make, abort) > 2);
    }

    /// TC-19, HE-08: the same, with attempts that race.
    fn while_attempts_race(el) {
        let (_listener, address) = plain_listener();
        let (_holder, closed) = closed_port();
        let hole = black_hole();
        let make = || {
            let targets = vec![hole.address, closed, hole.address, address];
            el.create_connection(|| Idle, targets).happy_eyeballs_delay(Duration::ZERO)
        };
        assert!(cancel_everywhere_and_count(el, make, abort) > 3);
    }

    /// TC-19: attempts of which none succeeds.
    fn to_nobody(el) {
        let (_holder, closed) = closed_port();
        let make = || el.create_connection(|| Idle, vec![closed; 3]).all_errors(true);
        cancel_everywhere_and_count(el, make, |output| assert!(output.is_none_or(|output| output.is_err())));
    }

    /// TC-19: `create_connection` to a name, which a thread looks up: the lookup is left to itself.
    fn to_a_name(el) {
        let pool = own_pool(el);
        let (_listener, address) = plain_listener();
        let make = || el.create_connection(|| Idle, ("localhost", address.port())).local_addr(("localhost", 0));
        cancel_everywhere(el, make, abort);
        end_lookups(el, &pool);
    }

    /// TC-19: `create_connection` with a socket, which belongs to the connection from then on.
    fn with_a_socket(el) {
        let peers = std::cell::RefCell::new(Vec::new());
        let make = || {
            let (ours, peer) = plain_pair();
            peers.borrow_mut().push(peer);
            el.create_connection(|| Idle, ours)
        };
        let after = |output| {
            abort(output);
            calm(el);
            let mut peer = peers.borrow_mut().pop().unwrap();
            assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0, "the socket is not closed");
        };
        assert!(cancel_everywhere_and_count(el, make, after) > 1);
    }

    /// TC-19: `open_connection`, to an address and to a name.
    fn streams(el) {
        let pool = own_pool(el);
        let (_listener, address) = plain_listener();
        let make = || async move { open_connection(address).await.unwrap() };
        assert!(cancel_everywhere_and_count(el, make, drop) > 2);
        let make = || async move { open_connection(("localhost", address.port())).await.unwrap() };
        cancel_everywhere(el, make, drop);
        end_lookups(el, &pool);
    }

    /// TC-19: `TcpStream::connect`, to an address, to a name and with a socket.
    fn plain_streams(el) {
        let pool = own_pool(el);
        use roundelay::TcpStream;
        let (_listener, address) = plain_listener();
        let make = || async move { TcpStream::connect(address).await.unwrap() };
        assert!(cancel_everywhere_and_count(el, make, drop) > 1);
        let make = || async move { TcpStream::connect(plain_pair().0).await.unwrap() };
        cancel_everywhere_and_count(el, make, drop);
        let make = || async move { TcpStream::connect(("localhost", address.port())).await.unwrap() };
        cancel_everywhere(el, make, drop);
        end_lookups(el, &pool);
    }

    /// SV-05, TC-19: `create_server` and `start_server`, on an address and on names.
    fn servers(el) {
        let pool = own_pool(el);
        let close = |output: Option<io::Result<roundelay::Server>>| {
            if let Some(output) = output {
                output.unwrap().close();
            }
        };
        cancel_everywhere_and_count(el, || el.create_server(|| Idle, (["127.0.0.1", "127.0.0.2"], 0)), close);
        cancel_everywhere_and_count(el, || el.create_server(|| Idle, LOOPBACK).start_serving(false), close);
        let make = || el.create_server(|| Idle, (["localhost", "127.0.0.1", "localhost"], 0));
        cancel_everywhere(el, make, close);
        let make = || async { start_server(async |_, _| (), ("localhost", 0)).await };
        cancel_everywhere(el, make, close);
        let make = || async { roundelay::TcpListener::bind(("localhost", 0)).await.unwrap() };
        cancel_everywhere(el, make, drop);
        end_lookups(el, &pool);
    }

    /// TC-19: a lookup that cannot begin, because all threads are busy, is given up by whoever waits for it.
    fn during_the_lookup(el) {
        let release = occupy_executor(el);
        let before = (open_descriptors(), el.stats().descriptors);
        let tasks = look_up_in_vain(el);
        settle(el);
        assert!(tasks.iter().all(|task| !task.is_done() && task.cancel()));
        settle(el);
        assert!(tasks.iter().all(|task| task.is_done()));
        assert_eq!((open_descriptors(), el.stats().descriptors), before);
        drop(release);
        assert!(complete(el, el.shutdown_default_executor(None)));
    }

    /// TC-19, TC-27: a connection that is being made, with nobody to answer, is given up: its socket is closed at once,
    /// its factory is never called, and what it has captured is dropped.
    fn into_a_black_hole(el) {
        let hole = black_hole();
        let drops = DropCounter::new();
        let before = (open_descriptors(), el.stats().descriptors.live());
        let guard = drops.guard();
        let connecting = el.create_connection(move || { drop(guard); panic!("no connection") as Idle }, hole.address);
        let task = el.create_task(connecting).cancel_on_drop();
        settle(el);
        assert_eq!((open_descriptors(), el.stats().descriptors.live()), (before.0 + 1, before.1 + 1));
        assert_eq!(drops.count(), 0);
        drop(task);
        settle(el);
        assert_eq!((open_descriptors(), el.stats().descriptors.live()), before);
        assert_eq!(drops.count(), 1);

        let tasks = [
            el.create_task(async move { open_connection(hole.address).await.map(drop) }),
            el.create_task(async move { roundelay::TcpStream::connect(hole.address).await.map(drop) }),
        ];
        settle(el);
        assert_eq!(open_descriptors(), before.0 + 2);
        assert!(tasks.iter().all(|task| task.cancel()));
        settle(el);
        assert_eq!((open_descriptors(), el.stats().descriptors.live()), before);
    }

    /// TC-20: after a connection over a given socket was cancelled, whoever gets the number of its descriptor next keeps
    /// it, and hears nothing of the one before.
    fn a_recycled_descriptor_is_left_alone(el) {
        for polls in 0..=1 {
            let (ours, peer) = plain_pair();
            let number = std::os::fd::AsRawFd::as_raw_fd(&ours);
            let cancelled = poll_times(el.create_connection(|| Idle, ours).into_future(), polls);
            let output = complete(el, cancelled);
            assert!(output.is_none());
            run_until(el, || el.stats().descriptors.live() == 0);

            // The lowest free number is the one that was given up.
            let (next, mut next_peer) = plain_pair();
            assert!(std::os::fd::AsRawFd::as_raw_fd(&next) <= number);
            let log = Rc::new(Cell::new(0));
            let heard = log.clone();
            struct Count(Rc<Cell<usize>>);
            impl Protocol for Count {
                fn data_received(&mut self, _: &Transport, data: &[u8]) {
                    self.0.set(self.0.get() + data.len());
                }
            }
            let (transport, _) = complete(el, el.create_connection(move || Count(heard), next)).unwrap();
            drop(peer);
            calm(el);
            assert!(!transport.is_closing());
            next_peer.write_all(b"still here").unwrap();
            run_until(el, || log.get() == 10);
            tcp::close(el, &transport);
        }
    }

    /// TC-19: a connection that stands already when it is cancelled is seen to end by the peer.
    fn the_peer_sees_the_end(el) {
        let (listener, address) = plain_listener();
        let cancelled = poll_times(el.create_connection(|| Idle, address).into_future(), 1);
        assert!(complete(el, cancelled).is_none());
        calm(el);
        let mut peer = take_client(&listener).expect("the handshake was the kernel's");
        peer.set_nonblocking(false).unwrap();
        assert!(matches!(peer.read(&mut [0; 1]), Ok(0) | Err(_)));
    }
}

/// DN-04: a loop is closed while names are being looked up: all who wait end, and nothing stays open once the threads
/// have come back.
#[test]
fn the_loop_is_closed_during_the_lookup() {
    let _alone = alone();
    let before = open_descriptors();
    let el = EventLoop::new().unwrap();
    let release = occupy_executor(&el);
    let tasks = look_up_in_vain(&el);
    settle(&el);
    el.close();
    assert!(tasks.iter().all(|task| task.is_done()));
    assert!(el.stats().is_balanced());
    drop((tasks, el, release));
    let deadline = Instant::now() + PATIENCE;
    while open_descriptors() != before {
        assert!(Instant::now() < deadline, "descriptors are left open");
        std::thread::yield_now();
    }
}

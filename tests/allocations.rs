//! What the common paths ask the allocator for: nothing for a request, and little for a connection that is idle.

mod common;
#[path = "common/counting.rs"]
mod counting;
#[path = "common/tcp.rs"]
mod tcp;

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream as Peer};
use std::rc::Rc;
use std::time::Duration;

use common::{Kind, PATIENCE, complete, on_loop, run, run_until, settle};
use counting::{allocations, live_bytes};
use futures::{AsyncReadExt, AsyncWriteExt};
use roundelay::{EventLoop, Protocol, StreamReader, StreamWriter, TcpListener, Transport, spawn, start_server};
use tcp::{LOOPBACK, idle};

/// Requests that are not counted: the first ones find out how large the loop's own queues have to be.
const WARM_UP: usize = 20;

/// Requests that are counted, of each connection.
const ROUNDS: usize = 50;

/// How many bytes the server has sent back.
type Echoed = Rc<Cell<usize>>;

fn add(echoed: &Echoed, n: usize) {
    echoed.set(echoed.get() + n);
}

/// A protocol that sends back what it gets.
struct Echo(Echoed);

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        transport.write(data);
        add(&self.0, data.len());
    }
}

/// Clients of an echo server on this thread.
struct Clients {
    peers: Vec<Peer>,
    message: Vec<u8>,
    answer: Vec<u8>,
}

impl Clients {
    fn connect(address: SocketAddr, count: usize, size: usize) -> Self {
        let connect = |_| {
            let peer = Peer::connect(address).unwrap();
            peer.set_read_timeout(Some(PATIENCE)).unwrap();
            peer.set_nodelay(true).unwrap();
            peer
        };
        Self { peers: (0..count).map(connect).collect(), message: vec![7; size], answer: vec![0; size] }
    }

    /// Each client sends so many messages, one after the other, and reads the answers.
    fn ask(&mut self, el: &EventLoop, echoed: &Echoed, rounds: usize) {
        for _ in 0..rounds {
            let all = echoed.get() + self.peers.len() * self.message.len();
            for mut peer in &self.peers {
                peer.write_all(&self.message).unwrap();
            }
            run_until(el, || echoed.get() >= all);
            for mut peer in &self.peers {
                peer.read_exact(&mut self.answer).unwrap();
                assert_eq!(self.answer, self.message);
            }
        }
    }

    /// How often a request asks for memory, at most, in the mean over all of them: rounded up.
    fn allocations_per_request(&mut self, el: &EventLoop, echoed: &Echoed) -> usize {
        self.ask(el, echoed, WARM_UP);
        allocations(|| self.ask(el, echoed, ROUNDS)).div_ceil(ROUNDS * self.peers.len())
    }
}

const CLIENTS: usize = 8;

/// What fits into one segment, and what the kernel takes in one go on the loopback.
const SIZES: [usize; 2] = [64, 16 * 1024];

/// So many allocations, and a few more for what debug mode notes of each item and each poll.
#[track_caller]
fn expect(el: &EventLoop, expected: usize, found: usize, size: usize) {
    let most = if el.debug() { expected + 4 } else { expected };
    assert!((expected..=most).contains(&found), "{found} for messages of {size} bytes");
}

on_every_loop! {
    /// A request that a protocol answers at once allocates nothing.
    fn the_protocol_path_allocates_nothing(el) {
        for size in SIZES {
            let echoed = Echoed::default();
            let counted = echoed.clone();
            let server = complete(el, el.create_server(move || Echo(counted.clone()), LOOPBACK)).unwrap();
            let mut clients = Clients::connect(server.local_addrs()[0], CLIENTS, size);
            expect(el, 0, clients.allocations_per_request(el, &echoed), size);
            server.close();
            drop(clients);
            run_until(el, || server.connections() == 0);
        }
    }

    /// A request that a task answers over a `TcpStream` allocates nothing: what arrives is received into the task's own
    /// buffer, and there is no other.
    fn the_plain_stream_allocates_nothing(el) {
        for size in SIZES {
            let echoed = Echoed::default();
            let counted = echoed.clone();
            let listener = complete(el, async { TcpListener::bind(LOOPBACK).await }).unwrap();
            let mut clients = Clients::connect(listener.local_addr().unwrap(), CLIENTS, size);
            let served = complete(el, async move {
                let mut tasks = Vec::new();
                for _ in 0..CLIENTS {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let echoed = counted.clone();
                    tasks.push(spawn(async move {
                        let mut buffer = vec![0; 64 * 1024];
                        loop {
                            let n = stream.read(&mut buffer).await.unwrap();
                            if n == 0 {
                                return;
                            }
                            stream.write_all(&buffer[..n]).await.unwrap();
                            add(&echoed, n);
                        }
                    }));
                }
                tasks
            });
            expect(el, 0, clients.allocations_per_request(el, &echoed), size);
            drop(clients);
            for task in served {
                complete(el, task).unwrap();
            }
        }
    }

    /// A request over a reader and a writer asks for memory once: for the bytes that `read` gives away.
    fn readers_allocate_what_they_give(el) {
        let echoed = Echoed::default();
        let counted = echoed.clone();
        let echo = async move |mut reader: StreamReader, mut writer: StreamWriter| {
            loop {
                let data = reader.read(64 * 1024).await.unwrap();
                if data.is_empty() {
                    return writer.close();
                }
                let n = data.len();
                writer.write(&data);
                writer.drain().await.unwrap();
                add(&counted, n);
            }
        };
        let server = complete(el, async { start_server(echo, LOOPBACK).await }).unwrap();
        let mut clients = Clients::connect(server.local_addrs()[0], CLIENTS, SIZES[0]);
        expect(el, 1, clients.allocations_per_request(el, &echoed), SIZES[0]);
        server.close();
        drop(clients);
        run_until(el, || server.connections() == 0);
        settle(el);
    }
}

/// A timer that is armed and cancelled costs one allocation: its callback.
#[test]
fn a_cancelled_timer_costs_its_callback() {
    on_loop(|el| {
        let arm = |n: usize| {
            for n in 0..n {
                el.call_later(Duration::from_secs(60 + n as u64), || {}).cancel();
            }
        };
        arm(WARM_UP);
        assert_eq!(allocations(|| arm(ROUNDS)), ROUNDS);
    });
}

/// An idle connection of a server with a protocol that has no fields: how much the process has allocated for it, in what the
/// allocator was asked for, and with what it adds to each piece itself.
fn bytes_per_idle_connection(el: &EventLoop, count: usize) -> isize {
    /// glibc's: a word before each piece, and sizes in steps of two words.
    const ADDED: usize = 12;

    let server = complete(el, el.create_server(idle(), LOOPBACK)).unwrap();
    let address = server.local_addrs()[0];
    // The loop's own queues have grown to their size with the first ones.
    let mut first = Clients::connect(address, WARM_UP, 1).peers;
    run_until(el, || server.connections() == first.len());
    settle(el);
    first.reserve_exact(count);
    let before = live_bytes();
    let asked = allocations(|| {
        while first.len() < WARM_UP + count {
            // No more at a time than the system holds for the server.
            first.extend((0..50).map(|_| Peer::connect(address).unwrap()));
            run_until(el, || server.connections() == first.len());
        }
        settle(el);
    });
    let bytes = live_bytes() - before + isize::try_from(ADDED * asked).unwrap();
    server.close();
    drop(first);
    run_until(el, || server.connections() == 0);
    bytes / isize::try_from(count).unwrap()
}

/// An idle connection costs less than 400 bytes, everything counted, also where the loop's tables have just doubled.
#[test]
fn an_idle_connection_is_small() {
    for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
        for count in [450, 500] {
            run(kind, false, |el| {
                let bytes = bytes_per_idle_connection(el, count);
                println!("{kind:?}: {bytes} bytes for each of {count} idle connections");
                assert!((100..400).contains(&bytes), "{kind:?}: {bytes} bytes for each of {count} idle connections");
            });
        }
    }
}

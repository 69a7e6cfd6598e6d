//! The program whose instructions `ci/instructions.sh` counts.
//!
//! `instructions CASE N` does a thing N times; what callgrind is to count happens within [`counted`] and nowhere else.
//! `instructions --list` names the cases. Nothing here depends on the time or on chance: the clock stands still unless a
//! case moves it.

use std::cell::Cell;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use roundelay::{EventLoop, ManualClock, Protocol, Transport};

const ZERO: Option<Duration> = Some(Duration::ZERO);

/// Operations that are begun together, where many are.
const BATCH: u64 = 100;

/// What is done so many times, and what it guards.
type Case = (&'static str, fn(u64));

const CASES: [Case; 11] = [
    ("spawn_join", spawn_join),
    ("spawn_await", spawn_await),
    ("yield", yields),
    ("call_soon", call_soon),
    ("call_soon_chain", call_soon_chain),
    ("timer_insert_cancel", timer_insert_cancel),
    ("timer_fire", timer_fire),
    ("remote_post", remote_post),
    ("block_on_ready", block_on_ready),
    ("echo_request", echo_request),
    ("echo_request_streams", echo_request_streams),
];

/// The only place whose instructions are counted, with all that is called from it: `ci/instructions.sh` knows its name.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
    // Nothing may be moved behind the end, nor the call made into a jump.
    black_box(());
}

fn new_loop() -> (EventLoop, ManualClock) {
    let clock = ManualClock::new();
    let el = EventLoop::builder().clock(clock.clone()).build().expect("a loop can be made");
    (el, clock)
}

/// A warm-up before the count: memory has grown to what it needs, lazy things are made.
fn twice(mut times: impl FnMut(u64), n: u64) {
    times(BATCH);
    counted(&mut || times(n));
}

/// Tasks are spawned together and awaited together.
fn spawn_join(n: u64) {
    let (el, _) = new_loop();
    let batch = async || {
        let tasks: Vec<_> = (0..BATCH).map(|i| roundelay::spawn(async move { black_box(i) })).collect();
        for task in tasks {
            black_box(task.await.expect("not cancelled"));
        }
    };
    let run = |n| {
        for _ in 0..n / BATCH {
            el.run_until_complete(batch()).expect("nobody stops it");
        }
    };
    twice(run, n);
}

/// One task after another is spawned and awaited.
fn spawn_await(n: u64) {
    let (el, _) = new_loop();
    let run = |n| {
        el.run_until_complete(async {
            for i in 0..n {
                black_box(roundelay::spawn(async move { black_box(i) }).await.expect("not cancelled"));
            }
        })
        .expect("nobody stops it");
    };
    twice(run, n);
}

/// Tasks take turns. Their making and their end count, too, a little.
fn yields(n: u64) {
    let (el, _) = new_loop();
    let run = |n| {
        let tasks: Vec<_> = (0..10)
            .map(|_| {
                el.create_task(async move {
                    for _ in 0..n / 10 {
                        roundelay::yield_now().await;
                    }
                })
            })
            .collect();
        for task in tasks {
            el.run_until_complete(task).expect("nobody stops it").expect("not cancelled");
        }
    };
    twice(run, n);
}

/// Callbacks are scheduled together and run together.
fn call_soon(n: u64) {
    let (el, _) = new_loop();
    let run = |n| {
        for _ in 0..n / BATCH {
            for i in 0..BATCH {
                el.call_soon(move || black_box(i));
            }
            el.run_once(ZERO).expect("it turns");
        }
    };
    twice(run, n);
}

/// A callback schedules itself: a turn of the loop for each.
fn call_soon_chain(n: u64) {
    fn link(el: EventLoop, left: u64) {
        match left {
            0 => el.stop(),
            _ => drop(el.clone().call_soon(move || link(el, left - 1))),
        }
    }
    let (el, _) = new_loop();
    let run = |n| {
        link(el.clone(), n);
        el.run_forever();
    };
    twice(run, n);
}

/// Deadlines in no order, all of them far away.
fn far(i: u64) -> Duration {
    Duration::from_millis(10_000 + i * 7919 % 50_000)
}

/// A timer is armed and disarmed while ten thousand others are alive.
fn timer_insert_cancel(n: u64) {
    let (el, _) = new_loop();
    let alive: Vec<_> = (0..10_000).map(|i| el.call_later(far(i), || ())).collect();
    let run = |n| {
        for i in 0..n {
            el.call_later(far(i), || ()).cancel();
        }
    };
    twice(run, n);
    drop(alive);
}

/// Timers are armed and fire together, while ten thousand others are alive.
fn timer_fire(n: u64) {
    let (el, clock) = new_loop();
    let alive: Vec<_> = (0..10_000).map(|i| el.call_later(far(i), || ())).collect();
    let run = |n| {
        for _ in 0..n / BATCH {
            for i in 0..BATCH {
                el.call_later(Duration::from_micros(i * 37 % 100), move || black_box(i));
            }
            clock.advance(Duration::from_micros(100));
            el.run_once(ZERO).expect("it turns");
        }
    };
    twice(run, n);
    drop(alive);
}

/// Callbacks are posted by a remote, on the loop's own thread so that nothing races, and run together.
fn remote_post(n: u64) {
    let (el, _) = new_loop();
    let remote = el.remote();
    let run = |n| {
        for _ in 0..n / BATCH {
            for i in 0..BATCH {
                drop(remote.call_soon_threadsafe(move || black_box(i)));
            }
            el.run_once(ZERO).expect("it turns");
        }
    };
    twice(run, n);
}

/// The loop is entered with a future that is ready.
fn block_on_ready(n: u64) {
    let (el, _) = new_loop();
    let run = |n| {
        for i in 0..n {
            black_box(el.run_until_complete(std::future::ready(i))).expect("nobody stops it");
        }
    };
    twice(run, n);
}

/// The client, which does not count: sends 64 bytes, has the loop turned until they have come back, and reads them.
fn requests(el: &EventLoop, answered: &Cell<u64>, client: &mut TcpStream, n: u64) {
    let mut message = [7; 64];
    for request in 0..BATCH + n {
        let before = answered.get();
        client.write_all(&message).expect("the server reads");
        let mut turn = || {
            while answered.get() == before {
                el.run_once(None).expect("it turns");
            }
        };
        if request < BATCH {
            turn()
        } else {
            counted(&mut turn)
        }
        client.read_exact(&mut message).expect("the server answers");
    }
}

/// A request of 64 bytes by a protocol: selector, transport, callback, and the answer written.
fn echo_request(n: u64) {
    struct Echo(Rc<Cell<u64>>);
    impl Protocol for Echo {
        fn data_received(&mut self, transport: &Transport, data: &[u8]) {
            transport.write(data);
            self.0.set(self.0.get() + 1);
        }
    }
    let (el, _) = new_loop();
    let answered = Rc::new(Cell::new(0));
    let counter = answered.clone();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = el.run_until_complete(async { el.create_server(move || Echo(counter.clone()), address).await });
    let server = server.expect("nobody stops it").expect("loopback works");
    let mut client = TcpStream::connect(server.local_addrs()[0]).expect("the server listens");
    requests(&el, &answered, &mut client, n);
}

/// The same by a task that reads and writes a stream.
fn echo_request_streams(n: u64) {
    let (el, _) = new_loop();
    let answered = Rc::new(Cell::new(0));
    let counter = answered.clone();
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback works");
    let address = listener.local_addr().expect("it is bound");
    let server = el.create_task(async move {
        let (mut stream, _) = roundelay::TcpListener::from_std(listener)?.accept().await?;
        let mut buffer = [0; 4096];
        loop {
            let n = stream.read(&mut buffer).await?;
            if n == 0 {
                return std::io::Result::Ok(());
            }
            stream.write_all(&buffer[..n]).await?;
            counter.set(counter.get() + 1);
        }
    });
    let mut client = TcpStream::connect(address).expect("the server listens");
    requests(&el, &answered, &mut client, n);
    drop(server);
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--list"] => CASES.iter().for_each(|(name, _)| println!("{name}")),
        [name, n] if CASES.iter().any(|(case, _)| *case == name) => {
            let n = n.parse().expect("a number of operations");
            CASES.iter().filter(|(case, _)| *case == name).for_each(|(_, case)| case(n));
        }
        _ => {
            CASES.iter().for_each(|(_, case)| case(BATCH));
            println!("instructions are counted by ci/instructions.sh");
        }
    }
}

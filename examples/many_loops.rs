//! An HTTP server that uses all processors: a thread for each, and on each thread a loop and a listening socket of its own.
//!
//! The sockets have the same port (`reuse_port`): the kernel gives each new connection to one of them, and it stays there.
//! The threads share nothing, so nothing has to be locked; a busy one does not hold up the others. The kernel chooses by a
//! hash of the addresses, not by who is idle: with few connections they may be spread unevenly.
//!
//! The main thread has a loop as well, which waits for Ctrl-C or SIGTERM. Then the threads stop accepting, close their
//! connections, and say what they have done. A second Ctrl-C ends the program at once.
//!
//! Try it: `cargo run --release --example many_loops`, then `curl http://127.0.0.1:8080` some times
//! (usage: `many_loops [--addr 127.0.0.1:8080] [--threads N]`).

mod greeter;

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures::channel::oneshot;
use greeter::{Greeter, Worker, told_to_end};
use roundelay::{block_on, get_running_loop, spawn_blocking};

/// How long connections may take to end.
const GRACE: Duration = Duration::from_secs(5);

struct Options {
    addr: SocketAddr,
    threads: usize,
}

fn options() -> Option<Options> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut options = Options { addr: SocketAddr::from(([127, 0, 0, 1], 8080)), threads };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--addr" => options.addr = args.next()?.parse().ok()?,
            "--threads" => options.threads = args.next()?.parse().ok().filter(|&threads| threads > 0)?,
            _ => return None,
        }
    }
    Some(options)
}

/// How many connections and requests there were.
#[derive(Clone, Copy, Default)]
struct Served {
    connections: u64,
    requests: u64,
}

/// A thread that serves.
struct Serving {
    thread: JoinHandle<io::Result<Served>>,
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
}

impl Serving {
    /// Starts a thread, and waits until it accepts connections.
    fn start(number: usize, addr: SocketAddr) -> io::Result<Self> {
        let (ready, is_ready) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name(format!("worker-{number}"));
        let thread = thread.spawn(move || block_on(serve(number, addr, ready, stopped)))?;
        match is_ready.recv() {
            Ok(addr) => Ok(Self { thread, addr, stop }),
            // It has ended before.
            Err(_) => Err(thread.join().expect("a worker does not panic").err().unwrap_or(io::ErrorKind::Other.into())),
        }
    }
}

/// What each thread does.
async fn serve(
    number: usize,
    addr: SocketAddr,
    ready: mpsc::Sender<SocketAddr>,
    stopped: oneshot::Receiver<()>,
) -> io::Result<Served> {
    let worker = Worker::new(format!("thread {number}"));
    let served = worker.clone();
    let server = get_running_loop()?.create_server(move || Greeter::new(&served), addr).reuse_port(true).await?;
    // The main thread waits for it, or has given up.
    let _ = ready.send(server.local_addrs()[0]);
    let _ = stopped.await;
    server.shutdown(GRACE).await;
    Ok(Served { connections: worker.connections.get(), requests: worker.requests.get() })
}

fn main() -> io::Result<()> {
    let Some(Options { addr, threads }) = options() else {
        eprintln!("usage: many_loops [--addr 127.0.0.1:8080] [--threads N]");
        std::process::exit(2);
    };
    block_on(async {
        let told_to_end = told_to_end()?;
        // The first one finds a free port where none is asked for; the others take the same.
        let mut workers = vec![Serving::start(0, addr)?];
        let addr = workers[0].addr;
        for number in 1..threads {
            workers.push(Serving::start(number, addr)?);
        }
        println!("{threads} threads serve on http://{addr}");

        told_to_end.await;
        let (stops, threads): (Vec<_>, Vec<_>) = workers.into_iter().map(|worker| (worker.stop, worker.thread)).unzip();
        for stop in stops {
            // One that has ended by itself has its result below.
            let _ = stop.send(());
        }
        let mut total = Served::default();
        for (number, thread) in threads.into_iter().enumerate() {
            let ended = spawn_blocking(move || thread.join()).await?;
            let served = ended.expect("a worker does not panic")?;
            println!("thread {number}: {} requests on {} connections", served.requests, served.connections);
            total.connections += served.connections;
            total.requests += served.requests;
        }
        println!("all: {} requests on {} connections", total.requests, total.connections);
        Ok(())
    })
}

//! An HTTP server with one loop that accepts, and loops on threads of their own that serve.
//!
//! The kernel spreads connections over sockets that share a port (`many_loops`) by a hash of the addresses. Here somebody
//! decides: each connection goes to the thread that has the fewest. The acceptor hands the socket over with
//! `Remote::spawn`, whose closure runs on the other loop and lets a protocol hear of the connection there
//! (`connect_accepted_socket`). From then on it is that loop's alone: no data crosses threads.
//!
//! On Ctrl-C and SIGTERM nobody is accepted any more; the threads close their connections, those that are still on their
//! way to them included, and say what they have done.
//!
//! Try it: `cargo run --release --example hand_over`, then `curl http://127.0.0.1:8080` some times
//! (usage: `hand_over [--addr 127.0.0.1:8080] [--threads N]`).

mod greeter;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::select;
use futures::task::AtomicWaker;
use greeter::{Greeter, Worker, told_to_end};
use roundelay::{
    KeepOpen, Protocol, Remote, TcpListener, Transport, TransportId, block_on, get_running_loop, sleep, spawn_blocking,
    timeout,
};

/// How long connections may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// How long the acceptor waits where it cannot accept, most often for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

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

/// How many connections a thread has, those that are on their way to it included.
#[derive(Default)]
struct Load {
    connections: AtomicUsize,
    waker: AtomicWaker,
}

impl Load {
    /// Counts a connection for as long as the place is there.
    fn take_place(self: &Arc<Self>) -> Place {
        self.connections.fetch_add(1, Ordering::AcqRel);
        Place(self.clone())
    }

    /// Waits until there is none.
    async fn none_left(&self) {
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            if self.connections.load(Ordering::Acquire) == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

struct Place(Arc<Load>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
        self.0.waker.wake();
    }
}

thread_local! {
    /// What the connections of this thread share: what is handed over crosses threads, and cannot bring it along.
    static HOST: OnceCell<Rc<Host>> = const { OnceCell::new() };
}

struct Host {
    worker: Rc<Worker>,
    guests: RefCell<HashMap<TransportId, Transport>>,
    is_closing: Cell<bool>,
}

/// A connection of a thread: a `Greeter`, of which the thread knows.
struct Guest {
    host: Rc<Host>,
    greeter: Greeter,
    _place: Place,
}

impl Guest {
    fn new(place: Place) -> Self {
        let host = HOST.with(|host| host.get().expect("the thread sets it first").clone());
        let greeter = Greeter::new(&host.worker);
        Self { host, greeter, _place: place }
    }
}

impl Protocol for Guest {
    fn connection_made(&mut self, transport: &Transport) {
        self.host.guests.borrow_mut().insert(transport.id(), transport.clone());
        self.greeter.connection_made(transport);
        if self.host.is_closing.get() {
            transport.close();
        }
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        self.greeter.data_received(transport, data);
    }

    fn eof_received(&mut self, transport: &Transport) -> KeepOpen {
        self.greeter.eof_received(transport)
    }

    fn pause_writing(&mut self, transport: &Transport) {
        self.greeter.pause_writing(transport);
    }

    fn resume_writing(&mut self, transport: &Transport) {
        self.greeter.resume_writing(transport);
    }

    fn connection_lost(&mut self, transport: &Transport, error: Option<io::Error>) {
        self.host.guests.borrow_mut().remove(&transport.id());
        self.greeter.connection_lost(transport, error);
    }
}

/// How many connections and requests there were.
#[derive(Clone, Copy, Default)]
struct Served {
    connections: u64,
    requests: u64,
}

/// What each thread does: it serves what it is handed, until it is told to end.
async fn serve(
    number: usize,
    load: Arc<Load>,
    ready: mpsc::Sender<Remote>,
    stopped: oneshot::Receiver<()>,
) -> io::Result<Served> {
    let worker = Worker::new(format!("thread {number}"));
    let host = Rc::new(Host { worker: worker.clone(), guests: RefCell::default(), is_closing: Cell::new(false) });
    HOST.with(|place| place.set(host.clone()).ok().expect("nobody else sets it"));
    // The acceptor waits for it, or has given up.
    let _ = ready.send(get_running_loop()?.remote());
    let _ = stopped.await;
    host.is_closing.set(true);
    let guests = || host.guests.borrow().values().cloned().collect::<Vec<_>>();
    guests().iter().for_each(Transport::close);
    if timeout(GRACE, load.none_left()).await.is_err() {
        guests().iter().for_each(Transport::abort);
        load.none_left().await;
    }
    Ok(Served { connections: worker.connections.get(), requests: worker.requests.get() })
}

/// A thread that serves.
struct Serving {
    remote: Remote,
    load: Arc<Load>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<io::Result<Served>>,
}

impl Serving {
    /// Starts a thread, and waits until its loop runs.
    fn start(number: usize) -> io::Result<Self> {
        let (ready, is_ready) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let load = Arc::new(Load::default());
        let of_thread = load.clone();
        let thread = thread::Builder::new().name(format!("worker-{number}"));
        let thread = thread.spawn(move || block_on(serve(number, of_thread, ready, stopped)))?;
        match is_ready.recv() {
            Ok(remote) => Ok(Self { remote, load, stop, thread }),
            // It has ended before.
            Err(_) => Err(thread.join().expect("a worker does not panic").err().unwrap_or(io::ErrorKind::Other.into())),
        }
    }

    /// Hands a connection over.
    fn take(&self, connection: std::net::TcpStream) {
        let place = self.load.take_place();
        let handed = self.remote.spawn(move || async move {
            let el = get_running_loop()?;
            el.connect_accepted_socket(move || Guest::new(place), connection).await.map(drop)
        });
        // The task goes on by itself, and nobody asks how it ended: it fails where the client is gone already.
        if handed.is_err() {
            eprintln!("a thread has ended: the connection is dropped");
        }
    }
}

/// Accepts, and hands over, for as long as it is polled.
async fn accept(listener: &TcpListener, threads: &[Serving]) {
    loop {
        let accepted = listener.accept().await;
        let accepted = accepted.and_then(|(stream, _)| Ok(stream.into_std()?));
        match accepted {
            Ok(connection) => {
                let idlest = threads.iter().min_by_key(|thread| thread.load.connections.load(Ordering::Relaxed));
                idlest.expect("there is one at least").take(connection);
            }
            Err(error) => {
                eprintln!("cannot accept: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

fn main() -> io::Result<()> {
    let Some(Options { addr, threads }) = options() else {
        eprintln!("usage: hand_over [--addr 127.0.0.1:8080] [--threads N]");
        std::process::exit(2);
    };
    block_on(async {
        let told_to_end = told_to_end()?;
        let listener = TcpListener::bind(addr).await?;
        let threads = (0..threads).map(Serving::start).collect::<io::Result<Vec<_>>>()?;
        println!("{} threads serve on http://{}", threads.len(), listener.local_addr()?);

        select(pin!(told_to_end), pin!(accept(&listener, &threads))).await;
        drop(listener);
        let (stops, threads): (Vec<_>, Vec<_>) =
            threads.into_iter().map(|serving| (serving.stop, serving.thread)).unzip();
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

//! An HTTP server of several processes: one binds the socket and watches over the others, which serve.
//!
//! A fork is what such servers are named after, and what a program with threads and loops had better not do. So this one
//! starts its own program anew for each worker, with the listening socket as the worker's standard input: it is inherited,
//! and no line of `unsafe` is needed. All workers accept from the same socket; the kernel gives each connection to one of
//! them. A worker that crashes takes its own connections with it, and no others, and another one takes its place.
//!
//! On Ctrl-C and SIGTERM the parent tells its workers to end, waits for them, and kills those that do not. Ctrl-C reaches the
//! workers of itself, too: the terminal sends it to all of them.
//!
//! Try it: `cargo run --example prefork`, then `curl http://127.0.0.1:8080` some times, and `kill -9` for one of the workers
//! (usage: `prefork [--addr 127.0.0.1:8080] [--processes N]`).

mod greeter;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures::future::{Either, select, try_join_all};
use greeter::{Greeter, Worker, told_to_end};
use roundelay::{LoopFuture, Stdio, block_on, create_subprocess_exec, get_running_loop, sleep, timeout};

/// How long connections may take to end, and how long the parent waits for a worker.
const GRACE: Duration = Duration::from_secs(5);

/// A worker that has lived for less is replaced only after a while: it may be about to crash again.
const SHORT_LIFE: Duration = Duration::from_secs(1);

/// The first argument of a worker; its number follows.
const WORKER: &str = "--worker";

struct Options {
    addr: SocketAddr,
    processes: usize,
}

fn options(mut args: impl Iterator<Item = String>) -> Option<Options> {
    let processes = std::thread::available_parallelism().map_or(1, usize::from);
    let mut options = Options { addr: SocketAddr::from(([127, 0, 0, 1], 8080)), processes };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--addr" => options.addr = args.next()?.parse().ok()?,
            "--processes" => options.processes = args.next()?.parse().ok().filter(|&processes| processes > 0)?,
            _ => return None,
        }
    }
    Some(options)
}

/// What a worker does, until it is told to end.
async fn serve(number: &str) -> io::Result<()> {
    let told_to_end = told_to_end()?;
    let listener = TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    let worker = Worker::new(format!("worker {number}, process {}", std::process::id()));
    let server = get_running_loop()?.create_server(move || Greeter::new(&worker), listener).await?;
    told_to_end.await;
    server.shutdown(GRACE).await;
    Ok(())
}

/// What the parent needs for its workers.
struct Master {
    program: PathBuf,
    listener: TcpListener,
    /// Done when all of it is to end.
    end: LoopFuture<()>,
}

impl Master {
    /// Keeps a worker at work: as soon as one has ended, there is another one.
    async fn keep(self: Rc<Self>, number: usize) -> io::Result<()> {
        loop {
            let listener = OwnedFd::from(self.listener.try_clone()?);
            let started = Instant::now();
            let worker = create_subprocess_exec(&self.program, [WORKER, &number.to_string()])
                .stdin(Stdio::fd(listener))
                .kill_on_drop(true)
                .await?;
            println!("worker {number} is process {}", worker.pid());
            let end = self.end.clone();
            match select(pin!(worker.wait()), pin!(end)).await {
                Either::Left((status, _)) => println!("worker {number} has ended: {}", status?),
                Either::Right(_) => {
                    // Unless it has ended just now.
                    let _ = worker.terminate();
                    if timeout(2 * GRACE, worker.wait()).await.is_err() {
                        println!("worker {number} does not end: it is killed");
                        let _ = worker.kill();
                    }
                    println!("worker {number} has ended: {}", worker.wait().await?);
                    return Ok(());
                }
            }
            if started.elapsed() < SHORT_LIFE {
                select(pin!(sleep(SHORT_LIFE)), pin!(self.end.clone())).await;
            }
            if self.end.is_done() {
                return Ok(());
            }
        }
    }
}

async fn watch_over(Options { addr, processes }: Options) -> io::Result<()> {
    let told_to_end = told_to_end()?;
    let listener = TcpListener::bind(addr)?;
    let addr = listener.local_addr()?;
    let end = get_running_loop()?.create_future();
    let master = Rc::new(Master { program: std::env::current_exe()?, listener, end: end.clone() });
    println!("{processes} processes serve on http://{addr}");
    let mut workers = pin!(try_join_all((0..processes).map(|number| master.clone().keep(number))));
    if let Either::Right((failed, _)) = select(pin!(told_to_end), workers.as_mut()).await {
        // One cannot be started. The others are killed with their handles.
        return failed.map(drop);
    }
    let _ = end.set_result(());
    workers.await?;
    println!("stopped");
    Ok(())
}

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1).peekable();
    if args.next_if(|arg| arg == WORKER).is_some() {
        return block_on(serve(&args.next().unwrap_or_default()));
    }
    let Some(options) = options(args) else {
        eprintln!("usage: prefork [--addr 127.0.0.1:8080] [--processes N]");
        std::process::exit(2);
    };
    block_on(watch_over(options))
}

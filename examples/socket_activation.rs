//! An HTTP server whose sockets are opened by whoever starts it: "socket activation", as systemd does it.
//!
//! The sockets are there before the server is. So it may be started when the first client comes, stopped when nobody has
//! come for a while, replaced by a newer version or crash: who connects meanwhile waits until it is there again, and is not
//! refused. It needs no right to open a port below 1024, and none to the folder of a unix socket. The server's side of it is
//! one call, `listen_fds`, at the beginning of `main`, while there are no other threads.
//!
//! Started without sockets it opens one itself.
//!
//! ```ini
//! # greeter.socket
//! [Socket]
//! ListenStream=127.0.0.1:8080
//! ListenStream=/run/greeter.sock
//! [Install]
//! WantedBy=sockets.target
//!
//! # greeter.service
//! [Service]
//! ExecStart=/usr/local/bin/socket_activation --idle 60
//! ```
//!
//! Try it: `systemd-socket-activate -l 127.0.0.1:8080 target/debug/examples/socket_activation`, then
//! `curl http://127.0.0.1:8080` (usage: `socket_activation [--addr 127.0.0.1:8080] [--idle SECONDS]`).

mod greeter;

use std::future::pending;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures::future::{join_all, select};
use greeter::{Greeter, Worker, told_to_end};
use roundelay::{ListenFd, Server, block_on, get_running_loop, listen_fds, sleep};

/// How long connections may take to end.
const GRACE: Duration = Duration::from_secs(5);

struct Options {
    addr: SocketAddr,
    idle: Option<Duration>,
}

fn options() -> Option<Options> {
    let mut options = Options { addr: SocketAddr::from(([127, 0, 0, 1], 8080)), idle: None };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--addr" => options.addr = args.next()?.parse().ok()?,
            "--idle" => options.idle = Some(Duration::try_from_secs_f64(args.next()?.parse().ok()?).ok()?),
            _ => return None,
        }
    }
    Some(options)
}

/// A server on each of the sockets, or on one of its own.
async fn serve(sockets: Vec<ListenFd>, addr: SocketAddr, worker: &Rc<Worker>) -> io::Result<Vec<Server>> {
    let el = get_running_loop()?;
    let factory = || {
        let worker = worker.clone();
        move || Greeter::new(&worker)
    };
    if sockets.is_empty() {
        let listener = TcpListener::bind(addr)?;
        println!("serving on {}", listener.local_addr()?);
        return Ok(vec![el.create_server(factory(), listener).await?]);
    }
    let mut servers = Vec::new();
    for socket in sockets {
        let (name, addr) = (socket.name().to_owned(), socket.local_addr()?);
        if !socket.is_listening()? {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name}: {addr} does not listen")));
        }
        // Unix sockets are served as well. Their files are left to whoever has made them.
        servers.push(el.create_server(factory(), socket).await?);
        println!("serving {name} on {addr}");
    }
    Ok(servers)
}

/// Waits until nobody was there for so long.
async fn nobody_comes(idle: Option<Duration>, worker: &Worker, servers: &[Server]) {
    let Some(idle) = idle else { return pending().await };
    loop {
        let connections = worker.connections.get();
        sleep(idle).await;
        if worker.connections.get() == connections && servers.iter().all(|server| server.connections() == 0) {
            return;
        }
    }
}

fn main() -> io::Result<()> {
    let sockets = listen_fds()?;
    let Some(Options { addr, idle }) = options() else {
        eprintln!("usage: socket_activation [--addr 127.0.0.1:8080] [--idle SECONDS]");
        std::process::exit(2);
    };
    block_on(async {
        let told_to_end = told_to_end()?;
        let worker = Worker::new(format!("process {}", std::process::id()));
        let servers = serve(sockets, addr, &worker).await?;
        select(pin!(told_to_end), pin!(nobody_comes(idle, &worker, &servers))).await;
        // Who has not been accepted yet waits for the next process.
        join_all(servers.iter().map(|server| server.shutdown(GRACE))).await;
        println!("{} requests on {} connections", worker.requests.get(), worker.connections.get());
        Ok(())
    })
}

//! hyper's HTTP/1.1 server on this loop: a greeting, an echo, and a count that needs no lock.
//!
//! hyper reads and writes the stream itself, by its own traits, which `TcpStream` has under the feature `hyper`; its limits of
//! time work by `HyperTimer`. The service need not be `Send`: what all connections share is in an `Rc`. After Enter
//! no connection is accepted any more, those that are idle are closed, and a request that
//! has begun is answered, within a bound.
//!
//! Try it: `cargo run --features hyper --example hyper_server`, then `curl http://127.0.0.1:8080/`,
//! `curl --data-binary @Cargo.toml http://127.0.0.1:8080/echo` (usage: `hyper_server [address]`).

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures::future::{Either, select};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use roundelay::compat::HyperTimer;
use roundelay::{TaskGroup, TcpListener, TcpStream, sleep, stdin, timeout};

/// How long a client may take for the head of a request, also for that of the next one.
const HEADER: Duration = Duration::from_secs(10);

/// How long the requests that have begun may take at the end.
const GRACE: Duration = Duration::from_secs(5);

type Body = BoxBody<Bytes, hyper::Error>;

fn text(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Full::from(text).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response
}

/// Answers a request.
async fn answer(request: Request<Incoming>, count: &Cell<u64>) -> Response<Body> {
    count.set(count.get() + 1);
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => text(StatusCode::OK, format!("hello, request {}\n", count.get())),
        // Piece by piece, as it comes: nothing is collected.
        (&Method::POST, "/echo") => Response::new(request.into_body().boxed()),
        _ => text(StatusCode::NOT_FOUND, "not here\n".to_owned()),
    }
}

/// Serves a connection until it ends, or until the server does and its last request is answered.
async fn serve(stream: TcpStream, count: Rc<Cell<u64>>, end: async_channel::Receiver<()>) {
    let service = service_fn(|request| {
        let count = count.clone();
        async move { Ok::<_, hyper::Error>(answer(request, &count).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(HyperTimer).header_read_timeout(HEADER);
    let mut connection = pin!(builder.serve_connection(stream, service));
    let served = match select(connection.as_mut(), pin!(end.recv())).await {
        Either::Left((served, _)) => served,
        Either::Right(_) => {
            connection.as_mut().graceful_shutdown();
            let Ok(served) = timeout(GRACE, connection).await else {
                return eprintln!("a request was cut off");
            };
            served
        }
    };
    if let Err(error) = served {
        eprintln!("a connection failed: {error}");
    }
}

/// Waits for Enter; where there is no input, for ever.
async fn stopped() {
    let line = match stdin() {
        Ok(mut input) => input.readline().await.unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    if line.is_empty() {
        std::future::pending().await
    }
}

/// Accepts connections until the end, and serves each in a task of the group.
async fn accept(listener: TcpListener, group: TaskGroup, count: Rc<Cell<u64>>, end: async_channel::Receiver<()>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(group.spawn_infallible(serve(stream, count.clone(), end.clone()))),
            Err(error) => {
                // Most often a shortage of descriptors.
                eprintln!("cannot accept: {error}");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    roundelay::block_on(async {
        let listener = TcpListener::bind(address).await?;
        println!("serving on http://{}", listener.local_addr()?);
        let count = Rc::new(Cell::new(0));
        // Whoever waits to receive from it hears when it is dropped.
        let (end, ended) = async_channel::bounded(1);
        let served = TaskGroup::scope(async |group| {
            select(pin!(accept(listener, group.clone(), count.clone(), ended)), pin!(stopped())).await;
            drop(end);
        });
        served.await.map_err(io::Error::other)?;
        println!("{} requests were answered", count.get());
        Ok(())
    })
}

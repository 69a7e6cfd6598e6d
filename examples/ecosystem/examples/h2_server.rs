//! A web server by hyper, for HTTP/1.1 and HTTP/2: plain, where a client may begin with either, or behind TLS, where the two
//! agree on one (ALPN).
//!
//! hyper brings no loop of its own. From this one it gets the connections (a `TcpStream` or a `TlsStream` has the traits of
//! `hyper::rt`), the time (`HyperTimer`) and, for the many streams of HTTP/2, the tasks (`HyperExecutor`). None of them has to
//! be `Send`, and so what the requests share is an `Rc` with a `Cell`.
//!
//! A client that begins a request and does not go on, or whose machine is gone, is let go after a while. On SIGINT or SIGTERM
//! nobody new is let in, whoever is being answered gets the answer, and HTTP/2's clients are told not to ask any more.
//!
//! Try it: `cargo run --example h2_server -- 127.0.0.1:8080`, and `curl --http2-prior-knowledge http://127.0.0.1:8080/`;
//! with `CERT KEY`, two files in PEM, it speaks TLS. There are `/`, `/bytes/N`, `/slow/MILLISECONDS`, and `/echo` to post to.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::{Either, select};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use roundelay::compat::{HyperExecutor, HyperTimer};
use roundelay::{SignalKind, TcpListener, TlsAcceptor, TlsIdentity, signal, sleep, spawn, timeout};

const USAGE: &str = "usage: h2_server ADDR:PORT [CERT KEY]";

/// For how long a client may say nothing, where it has something to say.
const SILENCE: Duration = Duration::from_secs(20);

/// How long whoever is being answered has, when the server stops.
const GRACE: Duration = Duration::from_secs(10);

/// The longest answer of `/bytes/N`.
const LONGEST: usize = 64 << 20;

type Body = http_body_util::Either<Full<Bytes>, Incoming>;

/// What all requests share.
#[derive(Default)]
struct Site {
    visitors: Cell<u64>,
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::Left(Full::new(text.into())));
    *response.status_mut() = status;
    response
}

async fn answer(site: Rc<Site>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path();
    let number = |prefix: &str| path.strip_prefix(prefix).and_then(|rest| rest.parse::<usize>().ok());
    Ok(if request.method() == Method::POST && path == "/echo" {
        // As it comes: no more of it is in memory than what the client has not taken yet.
        Response::new(Body::Right(request.into_body()))
    } else if path == "/" {
        site.visitors.set(site.visitors.get() + 1);
        let version = request.version();
        text(StatusCode::OK, format!("hello, visitor {} by {version:?}\n", site.visitors.get()))
    } else if let Some(length) = number("/bytes/").filter(|&length| length <= LONGEST) {
        text(StatusCode::OK, vec![b'x'; length])
    } else if let Some(time) = number("/slow/") {
        sleep(Duration::from_millis(time as u64)).await;
        text(StatusCode::OK, "at last\n")
    } else {
        text(StatusCode::NOT_FOUND, "not found\n")
    })
}

async fn talk<S>(stream: S, http: &Builder<HyperExecutor>, site: Rc<Site>, watcher: Watcher)
where
    S: Read + Write + Unpin + 'static,
{
    let service = service_fn(move |request| answer(site.clone(), request));
    if let Err(error) = watcher.watch(http.serve_connection(stream, service)).await {
        eprintln!("a connection has failed: {error}");
    }
}

/// Serves until a signal says that it is enough.
async fn serve(addr: SocketAddr, tls: Option<TlsAcceptor>) -> io::Result<()> {
    let listener = TcpListener::bind(addr).await?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    println!("listening on {scheme}://{}", listener.local_addr()?);
    let site = Rc::new(Site::default());
    let mut http = Builder::new(HyperExecutor);
    http.http1().timer(HyperTimer).header_read_timeout(SILENCE);
    http.http2().timer(HyperTimer).keep_alive_interval(SILENCE).keep_alive_timeout(SILENCE);
    let graceful = GracefulShutdown::new();
    let mut signals = futures::stream::select(signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    loop {
        let stream = match select(pin!(listener.accept()), signals.next()).await {
            Either::Left((accepted, _)) => accepted?.0,
            Either::Right(_) => break,
        };
        let (http, site, tls, watcher) = (http.clone(), site.clone(), tls.clone(), graceful.watcher());
        drop(spawn(async move {
            match tls {
                None => talk(stream, &http, site, watcher).await,
                // In the connection's own task, so that nobody waits for a slow client.
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => talk(stream, &http, site, watcher).await,
                    Err(error) => eprintln!("a handshake has failed: {error}"),
                },
            }
        }));
    }
    drop(listener);
    let in_time = timeout(GRACE, graceful.shutdown()).await.is_ok();
    println!("{}", if in_time { "stopped" } else { "stopped; some were cut off" });
    Ok(())
}

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (addr, tls) = match args[..] {
        [addr] => (addr, None),
        [addr, cert, key] => {
            let identity = TlsIdentity::from_pem_files(cert, key)?;
            (addr, Some(TlsAcceptor::builder().identity(identity).alpn(["h2", "http/1.1"]).build()?))
        }
        _ => return Err(io::Error::other(USAGE)),
    };
    let addr = addr.parse().map_err(|_| io::Error::other(USAGE))?;
    roundelay::block_on(serve(addr, tls))
}

//! A web client by hyper: fetches over one connection, by HTTP/1.1 or HTTP/2.
//!
//! hyper gives two things for a connection: what sends requests, and a future that moves the bytes, which is spawned as a task
//! of this loop. Over TLS the server chooses the version (ALPN); without it `--http2` says what the server is known to speak.
//! With HTTP/2 all requests are under way at once.
//!
//! Bodies go to the standard output, in the order of the arguments, and what the server says of them to the standard error.
//!
//! Try it: `cargo run --example http_client -- https://www.rust-lang.org/ https://www.rust-lang.org/learn`
//! (usage: `http_client [--http2] [--cacert FILE] URL..`, all of one server).

use std::error::Error;
use std::io::{self, Write as _};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{LocalBoxFuture, join_all};
use futures::{FutureExt, TryFutureExt};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper::header::HOST;
use hyper::rt::{Read, Write};
use hyper::{Request, Uri};
use roundelay::compat::{HyperExecutor, HyperTimer};
use roundelay::{TcpStream, TlsConnector, spawn, timeout};

const USAGE: &str = "usage: http_client [--http2] [--cacert FILE] URL.., all of one server";

/// For how long a server may say nothing.
const SILENCE: Duration = Duration::from_secs(30);

/// What sends requests.
enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Sender {
    /// Shakes hands, and has a task move the bytes.
    async fn new<S>(stream: S, is_http2: bool) -> hyper::Result<Self>
    where
        S: Read + Write + Unpin + 'static,
    {
        let failed = |error| eprintln!("the connection has failed: {error}");
        Ok(if is_http2 {
            let mut builder = http2::Builder::new(HyperExecutor);
            builder.timer(HyperTimer).keep_alive_interval(SILENCE).keep_alive_timeout(SILENCE);
            let (sender, connection) = builder.handshake(stream).await?;
            drop(spawn(connection.unwrap_or_else(failed)));
            Self::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(stream).await?;
            drop(spawn(connection.unwrap_or_else(failed)));
            Self::Http1(sender)
        })
    }

    /// Connects to the server of this URL.
    async fn connect(url: &Uri, is_http2: bool, cacert: Option<&str>) -> Result<Self, Box<dyn Error>> {
        let host = url.host().ok_or(USAGE)?;
        // An address of IPv6 stands in brackets in a URL, and nowhere else.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_tls = url.scheme_str() == Some("https");
        let stream = TcpStream::connect((host, url.port_u16().unwrap_or(if is_tls { 443 } else { 80 }))).await?;
        if !is_tls {
            return Ok(Self::new(stream, is_http2).await?);
        }
        let builder = TlsConnector::builder().alpn(["h2", "http/1.1"]);
        let connector = match cacert {
            Some(file) => builder.roots_from_pem_file(file).build()?,
            None => builder.build()?,
        };
        let stream = connector.connect(stream, host).await?;
        let agreed = stream.tls_info().and_then(|info| info.alpn_protocol);
        Ok(Self::new(stream, agreed.as_deref() == Some(b"h2")).await?)
    }

    /// Asks for a URL. HTTP/1.1 has one request after the other.
    fn get(&mut self, url: &Uri) -> hyper::Result<LocalBoxFuture<'static, hyper::Result<Bytes>>> {
        let request = Request::get(match self {
            Self::Http1(_) => url.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            Self::Http2(_) => url.to_string(),
        });
        let host = url.authority().map_or("", |authority| authority.as_str());
        let request = match self {
            Self::Http1(_) => request.header(HOST, host),
            Self::Http2(_) => request,
        };
        let request = request.body(Empty::new()).expect("the parts are those of a URL");
        let url = url.clone();
        let response = match self {
            Self::Http1(sender) => sender.send_request(request).left_future(),
            Self::Http2(sender) => sender.send_request(request).right_future(),
        };
        let fetched = async move {
            let response = response.await?;
            eprintln!("{url}: {:?} {}", response.version(), response.status());
            Ok(response.into_body().collect().await?.to_bytes())
        };
        Ok(fetched.boxed_local())
    }

    async fn is_ready(&mut self) -> hyper::Result<()> {
        match self {
            Self::Http1(sender) => sender.ready().await,
            Self::Http2(sender) => sender.ready().await,
        }
    }
}

async fn fetch(urls: &[Uri], is_http2: bool, cacert: Option<&str>) -> Result<(), Box<dyn Error>> {
    let mut sender = timeout(SILENCE, Sender::connect(&urls[0], is_http2, cacert)).await??;
    let mut asked = Vec::new();
    for url in urls {
        sender.is_ready().await?;
        let fetched = sender.get(url)?;
        match sender {
            Sender::Http1(_) => io::stdout().write_all(&fetched.await?)?,
            Sender::Http2(_) => asked.push(fetched),
        }
    }
    for body in join_all(asked).await {
        io::stdout().write_all(&body?)?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut is_http2, mut cacert, mut urls) = (false, None, Vec::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--http2" => is_http2 = true,
            "--cacert" => cacert = Some(args.next().ok_or(USAGE)?),
            _ => urls.push(arg.parse::<Uri>().map_err(|_| USAGE)?),
        }
    }
    if urls.is_empty() || urls.iter().any(|url| url.authority() != urls[0].authority()) {
        return Err(USAGE.into());
    }
    roundelay::block_on(fetch(&urls, is_http2, cacert.as_deref()))
}

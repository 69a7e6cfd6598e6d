//! roundelay with hyper, as the peers of tokio and smol serve HTTP; `roundelay` does it by a protocol of its own.

use arena::{net, Cli, Peer};
use http_body_util::Full;
use hyper::header::HeaderValue;
use hyper::{body::Bytes, body::Incoming, server::conn::http1, service::service_fn, Request, Response};
use roundelay::{spawn, TcpListener};
use std::convert::Infallible;

fn http(c: &Cli) {
    let l = net::listen_tcp(c);
    roundelay::block_on(async move {
        let l = TcpListener::from_std(l).unwrap();
        loop {
            let (s, _) = l.accept().await.unwrap();
            drop(spawn(async move {
                let svc = service_fn(|_: Request<Incoming>| async {
                    let mut r = Response::new(Full::new(Bytes::from_static(b"Hello, World!")));
                    r.headers_mut().insert("content-type", HeaderValue::from_static("text/plain"));
                    Ok::<_, Infallible>(r)
                });
                let _ = http1::Builder::new().pipeline_flush(true).serve_connection(s, svc).await;
            }));
        }
    })
}

fn main() {
    arena::main(vec![Peer::new("roundelay-hyper").serve("http", http)])
}

//! The path of a request.

use std::future::Future;
use std::io;
use std::net::TcpListener;

use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};

use crate::group;
use crate::runtimes::{EchoClient, Roundelay, Runtime, Smol, Tokio, listen, serve_streams};

const TRIPS: u64 = 20;

fn run<R: Runtime, S>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, serve: fn(TcpListener) -> S)
where
    S: Future<Output = io::Result<u64>> + 'static,
{
    let runtime = R::new();
    let (listener, address) = listen().expect("loopback works");
    let mut client = runtime.block_on(async {
        R::detach(R::spawn(async move { serve(listener).await.expect("it goes on") }));
        R::connect(address).await.expect("the server listens")
    });
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                let mut message = [7; 64];
                for _ in 0..TRIPS {
                    client.round_trip(&mut message).await.expect("the other side is there");
                }
            });
        });
    });
}

/// `tcp/echo` guards the path of a request: selector, transport and protocol (or stream and task), and back. Client and
/// server share the loop; the client is a stream.
pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = group(criterion, "tcp/echo", TRIPS);
    run::<Roundelay, _>(&mut group, "roundelay, protocol", Roundelay::serve);
    run::<Roundelay, _>(&mut group, "roundelay, streams", serve_streams);
    run::<Tokio, _>(&mut group, Tokio::NAME, Tokio::serve);
    run::<Smol, _>(&mut group, Smol::NAME, Smol::serve);
}

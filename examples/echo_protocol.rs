//! An echo server made of callbacks.
//!
//! A `Protocol` says what to do with a connection's bytes, and does no I/O itself: the loop calls it. One value is made
//! for each connection, by the closure given to `create_server`. `write` takes everything at once; what the peer
//! does not read yet is queued, and when the queue is longer than its high-water mark, `pause_writing` is called.
//! This server then reads no more from that peer until `resume_writing`, so that a peer who sends and never reads
//! costs a bounded amount of memory.
//!
//! Try it: `cargo run --example echo_protocol`, and in another terminal `nc 127.0.0.1 8888`

use roundelay::{Protocol, Transport};

struct Echo;

impl Protocol for Echo {
    fn connection_made(&mut self, transport: &Transport) {
        println!("{:?} has come", transport.extra_info().peer_addr);
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        transport.write(data);
    }

    fn pause_writing(&mut self, transport: &Transport) {
        transport.pause_reading();
    }

    fn resume_writing(&mut self, transport: &Transport) {
        transport.resume_reading();
    }

    fn connection_lost(&mut self, transport: &Transport, error: Option<std::io::Error>) {
        println!("{:?} has gone ({error:?})", transport.extra_info().peer_addr);
    }
}

fn main() -> std::io::Result<()> {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8888".into());
    roundelay::block_on(async {
        let el = roundelay::get_running_loop()?;
        let server = el.create_server(|| Echo, addr).await?;
        println!("listening on {}", server.local_addrs()[0]);
        server.serve_forever().await
    })
}

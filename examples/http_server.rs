//! An HTTP/1.1 server for the files of a folder: keep-alive, pipelining, and a bound on memory.
//!
//! What arrives is collected by the protocol; one task per busy connection takes the requests out of it and answers one
//! after the other, so that pipelined answers come in the order of their requests. Disks block, so files are opened, and
//! small ones are read, by `spawn_blocking`; larger ones go out by `sendfile`, which waits for no disk and copies nothing
//! into this program. After each answer the task waits for `ready`, until the peer has taken enough of what was sent, and
//! while much input waits for the task, reading is paused: a client that asks for much and reads nothing costs one small
//! file, the high-water mark and what was read in one go.
//!
//! Try it: `cargo run --release --example http_server`, then `curl http://127.0.0.1:8080/Cargo.toml`
//! (usage: `http_server [--addr 127.0.0.1:8080] [--root .]`). Names that begin with a dot are not served. Enter stops it.
//!
//! All but the arguments is in `http/mod.rs`, which `https_server` has in common with it.

mod http;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use http::{Http, IDLE, Site};
use roundelay::get_running_loop;

struct Options {
    addr: SocketAddr,
    root: PathBuf,
}

fn options() -> Option<Options> {
    let mut options = Options { addr: SocketAddr::from(([127, 0, 0, 1], 8080)), root: PathBuf::from(".") };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--addr" => options.addr = args.next()?.parse().ok()?,
            "--root" => options.root = args.next()?.into(),
            _ => return None,
        }
    }
    Some(options)
}

fn main() -> io::Result<()> {
    let Some(Options { addr, root }) = options() else {
        eprintln!("usage: http_server [--addr 127.0.0.1:8080] [--root .]");
        std::process::exit(2);
    };
    let site = Site::new(&root)?;
    roundelay::block_on(async {
        let served = site.clone();
        let server = get_running_loop()?.create_server(move || Http::new(&served), addr).idle_timeout(IDLE).await?;
        println!("serving {} on http://{}", site.root().display(), server.local_addrs()[0]);
        http::serve(&server, &site).await
    })
}

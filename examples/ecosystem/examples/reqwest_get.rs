//! Fetches pages by reqwest, which needs a tokio runtime, on this loop.
//!
//! `compat::tokio` gives a future a tokio runtime to find. One thread of it, shared by all such futures of the process, waits
//! for tokio's sockets and timers; the futures themselves run here. All pages are under way at once.
//!
//! Bodies go to the standard output, in the order of the arguments.
//!
//! Try it: `cargo run --example reqwest_get -- http://example.org/` (plain HTTP: reqwest is built here without TLS).

use std::error::Error;

use futures::future::join_all;
use roundelay::compat;

async fn run(urls: Vec<String>) -> Result<(), Box<dyn Error>> {
    // It makes its connections when they are needed, so it may be made outside of the context.
    let client = reqwest::Client::new();
    let pages = urls.iter().map(|url| {
        let request = client.get(url);
        compat::tokio(async { request.send().await?.error_for_status()?.text().await })
    });
    for page in join_all(pages).await {
        print!("{}", page?);
    }
    // Connections that are kept for later are tokio's: they are let go of where its context is.
    compat::tokio(async { drop(client) }).await;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    roundelay::block_on(run(std::env::args().skip(1).collect()))
}

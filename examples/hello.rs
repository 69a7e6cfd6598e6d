//! Hello world, twice: with a callback, and with `async`.
//!
//! An event loop has a queue of things to do, and does them one after the other. The first half puts a callback into
//! that queue by hand: `call_soon` says "in the next turn", and `stop` says "leave after this turn". The second half
//! lets `block_on` make the loop, run a future on it, and end it again, which is what most programs want.
//!
//! Try it: `cargo run --example hello`

use roundelay::EventLoop;
use std::time::Duration;

fn with_callbacks() -> std::io::Result<()> {
    let el = EventLoop::new()?;
    let handle = el.clone();
    el.call_soon(move || {
        println!("hello (from a callback)");
        handle.stop();
    });
    // Blocks until stop() was called.
    el.run_forever();
    el.close();
    Ok(())
}

async fn with_async() {
    println!("hello");
    roundelay::sleep(Duration::from_millis(100)).await;
    println!("world (from a future)");
}

fn main() -> std::io::Result<()> {
    with_callbacks()?;
    roundelay::block_on(with_async());
    Ok(())
}

//! Waits until a descriptor has something to read: with `add_reader`, and again with a stream.
//!
//! `add_reader` is the ground floor: the loop calls a closure whenever the descriptor is readable, and reading is the
//! closure's own business. It is what one uses to bring a foreign library's socket into the loop. It must be taken away
//! again by `remove_reader` before the descriptor is closed. The stream on the same kind of socket does all of that
//! by itself: `readline` waits, reads, and gives back what is left over to the next read.
//!
//! Try it: `cargo run --example watch_fd`

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use roundelay::EventLoop;

fn with_a_callback() -> std::io::Result<()> {
    let el = EventLoop::new()?;
    let (mut sender, receiver) = UnixStream::pair()?;
    receiver.set_nonblocking(true)?;

    let (handle, watched) = (el.clone(), receiver.try_clone()?);
    let mut reader = receiver;
    el.add_reader(&watched, move || {
        let mut data = [0; 100];
        match reader.read(&mut data) {
            Ok(n) => println!("received: {:?} (by add_reader)", String::from_utf8_lossy(&data[..n])),
            Err(error) => println!("failed: {error}"),
        }
        handle.stop();
    })?;

    // Somebody writes, in a later turn of the loop.
    el.call_soon(move || sender.write_all(b"abc"));
    el.run_forever();
    el.remove_reader(&watched);
    el.close();
    Ok(())
}

async fn with_a_stream() -> std::io::Result<()> {
    let (mut sender, receiver) = UnixStream::pair()?;
    let (mut reader, mut writer) = roundelay::open_connection(OwnedFd::from(receiver)).await?;
    sender.write_all(b"abc\n")?;
    let line = reader.readline().await?;
    println!("received: {:?} (by a stream)", String::from_utf8_lossy(&line));
    writer.close();
    writer.wait_closed().await
}

fn main() -> std::io::Result<()> {
    with_a_callback()?;
    roundelay::block_on(with_a_stream())
}

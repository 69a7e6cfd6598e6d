//! Streams that a body gives out item by item, and that clean up with `await`.
//!
//! `items` is an async generator: it connects to a server (one of this program's own), asks it for an item whenever its
//! caller asks for one, and says good-bye before it ends. Whoever does not iterate it to its end closes it: with `aclose`,
//! which waits for the good-bye, or by dropping it, and then a task of the loop sees to that. A loop that ends closes those
//! that are left, too.
//!
//! Try it: `cargo run --example async_generator`

use futures::TryStreamExt;
use roundelay::{AsyncGen, StreamReader, StreamWriter, open_connection, start_server, try_async_gen};
use std::io;
use std::net::SocketAddr;

/// Gives an item for each `next`, until it hears something else.
async fn serve(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    let mut count = 0;
    while reader.readline().await? == b"next\n" {
        count += 1;
        writer.write(format!("item {count}\n").as_bytes());
        writer.drain().await?;
    }
    writer.write(format!("good-bye after {count}\n").as_bytes());
    writer.close();
    writer.wait_closed().await
}

fn items(address: SocketAddr) -> AsyncGen<io::Result<String>> {
    try_async_gen(async move |y| {
        let (mut reader, mut writer) = open_connection(address).await?;
        let mut ask = async |request: &[u8]| {
            writer.write(request);
            let line = reader.readline().await?;
            io::Result::Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
        };
        // `emit` is asyncio's `yield`. Once the generator is closed it gives an error, which leads out of here.
        let result = async {
            loop {
                y.emit(ask(b"next\n").await?).await?;
            }
        };
        let result: io::Result<()> = result.await;
        // This is asyncio's `finally`.
        println!("(the server says {})", ask(b"bye\n").await?);
        result
    })
}

fn main() -> io::Result<()> {
    roundelay::block_on(async {
        let server = start_server(serve, ("127.0.0.1", 0)).await?;
        let address = server.local_addrs()[0];

        let mut some = items(address);
        while let Some(item) = some.try_next().await? {
            println!("{item}");
            if item == "item 3" {
                break;
            }
        }
        some.aclose().await;
        println!("closed");

        let mut others = items(address);
        println!("{}", others.try_next().await?.unwrap_or_default());
        drop(others);
        println!("dropped");

        // The last connection ends when the good-bye is said.
        server.close();
        server.wait_closed().await;
        Ok(())
    })
}

//! An echo server and its clients by async-net, of the smol family, on this loop.
//!
//! async-net waits by async-io's reactor. The loop drives it in its own wait, so that everything here happens on one thread.
//! Without `drive_async_io(true)` it works as well: then async-io's own thread waits, and wakes the loop.
//!
//! Try it: `cargo run --example async_net_echo`

use std::error::Error;
use std::io;
use std::time::Duration;

use async_net::{TcpListener, TcpStream};
use futures::io::{AsyncReadExt, AsyncWriteExt, copy};
use futures::{StreamExt, TryFutureExt};
use roundelay::{EventLoop, Runner, TaskGroup, spawn, timeout};

const CLIENTS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends back whatever comes, to each client for itself.
async fn serve(listener: TcpListener) -> io::Result<()> {
    let mut incoming = listener.incoming();
    while let Some(stream) = incoming.next().await {
        let stream = stream?;
        // async-net's streams are handles, of which one reads and one writes.
        let echo = async move { copy(stream.clone(), &mut stream.clone()).await };
        drop(spawn(echo.unwrap_or_else(|error| {
            eprintln!("a client has failed: {error}");
            0
        })));
    }
    Ok(())
}

async fn run() -> Result<(), Box<dyn Error + Send + Sync>> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let server = spawn(serve(listener)).cancel_on_drop();
    let clients = TaskGroup::try_scope(async |group| {
        for number in 0..CLIENTS {
            group.spawn(async move {
                let mut stream = TcpStream::connect(address).await?;
                stream.write_all(format!("client {number}").as_bytes()).await?;
                stream.shutdown(std::net::Shutdown::Write)?;
                let mut answer = String::new();
                timeout(PATIENCE, stream.read_to_string(&mut answer)).await??;
                println!("{answer}");
                io::Result::Ok(())
            });
        }
        Ok(())
    });
    clients.await?;
    drop(server);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let factory = || EventLoop::builder().drive_async_io(true).build();
    Runner::builder().loop_factory(factory).build().run(run())?
}

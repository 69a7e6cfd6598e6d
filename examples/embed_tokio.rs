//! The loop inside of tokio: a future of tokio's makes its turns, on tokio's own thread.
//!
//! A program that is written for tokio has one part that is written for us: a server with protocols, callbacks and timers.
//! `drive` runs our loop as one of tokio's local tasks. Both sides talk to each other on one thread, without locks: a
//! task of ours is awaited by tokio's, tokio's timers and channels are awaited by ours.
//!
//! Try it: `cargo run --example embed_tokio --features tokio-rt`

use std::io;
use std::time::Duration;

use roundelay::{EventLoop, Protocol, TokioHost, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

struct Echo {
    /// tokio's channel.
    seen: mpsc::UnboundedSender<usize>,
}

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        transport.write(data);
        let _ = self.seen.send(data.len());
    }
}

async fn in_tokio(el: &EventLoop) -> io::Result<()> {
    let driving = tokio::task::spawn_local(el.drive(TokioHost::new()));

    // A server of ours, made by a task of ours; whoever awaits that is tokio.
    let (seen, mut sizes) = mpsc::unbounded_channel();
    let handle = el.clone();
    let server = el
        .create_task(async move { handle.create_server(move || Echo { seen: seen.clone() }, ("127.0.0.1", 0)).await });
    let server = server.await??;

    // A client of tokio's.
    let mut client = tokio::net::TcpStream::connect(server.local_addrs()[0]).await?;
    client.write_all(b"round and round").await?;
    let mut answer = [0; 15];
    client.read_exact(&mut answer).await?;
    println!("echoed: {}", String::from_utf8_lossy(&answer));
    println!("the protocol has seen {} bytes", sizes.recv().await.unwrap_or_default());

    // tokio's timer in a task of ours, and ours beside it.
    let sleeper = el.create_task(async {
        tokio::time::sleep(Duration::from_millis(2)).await;
        roundelay::sleep(Duration::from_millis(2)).await;
        "both timers"
    });
    println!("awaited: {}", sleeper.await?);

    drop(client);
    el.create_task(async move { server.shutdown(Duration::from_secs(1)).await }).await?;
    el.stop();
    driving.await??;
    Ok(())
}

fn main() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let el = EventLoop::new()?;
    LocalSet::new().block_on(&runtime, in_tokio(&el))?;
    el.close();
    Ok(())
}

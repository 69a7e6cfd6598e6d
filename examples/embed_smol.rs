//! The loop inside of smol: a future of smol's makes its turns, on smol's own thread.
//!
//! `drive_until` runs one future of ours until it is done, which is all that a program needs that has a loop already and
//! wants one thing done by us. What it awaits may be smol's, too: here an accepted connection comes through one of
//! smol's channels, and goes on as a transport of ours.
//!
//! Try it: `cargo run --example embed_smol --features async-io`

use std::io;
use std::net::{TcpListener, TcpStream};

use roundelay::{AsyncIoHost, EventLoop, Protocol, Transport, get_running_loop};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::{Async, LocalExecutor, channel};

/// Answers in capitals.
struct Loud;

impl Protocol for Loud {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        transport.write(&data.to_ascii_uppercase());
    }
}

/// Takes over what smol has accepted.
async fn serve(accepted: channel::Receiver<TcpStream>) -> io::Result<usize> {
    let el = get_running_loop()?;
    let mut served = 0;
    while let Ok(socket) = accepted.recv().await {
        el.connect_accepted_socket(|| Loud, socket).await?;
        served += 1;
    }
    Ok(served)
}

fn main() -> io::Result<()> {
    let el = EventLoop::new()?;
    let executor = LocalExecutor::new();
    let served = smol::block_on(executor.run(async {
        let listener = Async::<TcpListener>::bind(([127, 0, 0, 1], 0))?;
        let address = listener.get_ref().local_addr()?;
        let (accept, accepted) = channel::unbounded();
        let client = executor.spawn(async move {
            for word in ["hello", "again"] {
                let mut stream = Async::<TcpStream>::connect(address).await?;
                let (socket, _) = listener.accept().await?;
                let _ = accept.send(socket.into_inner()?).await;
                stream.write_all(word.as_bytes()).await?;
                let mut answer = vec![0; word.len()];
                stream.read_exact(&mut answer).await?;
                println!("{word}: {}", String::from_utf8_lossy(&answer));
            }
            io::Result::Ok(())
        });
        let served = el.drive_until(AsyncIoHost::new(), serve(accepted)).await??;
        client.await?;
        io::Result::Ok(served)
    }))?;
    println!("served: {served}");
    el.close();
    Ok(())
}

//! An echo server made of streams, and a client that talks to it.
//!
//! With streams the code reads from top to bottom: each connection is a task that awaits data, writes it back, and
//! awaits `drain`, which returns at once unless the peer is slow to read. A handler may return an `io::Result`: an
//! error is reported, and the server goes on. A handler that is done closes its writer, and waits until what is queued
//! was sent. If it merely returned, the connection would be closed all the same, for both halves are dropped; but as that
//! may as well be a mistake, debug mode (`ROUNDELAY_DEBUG=1`) would warn of it.
//!
//! Try it: `cargo run --example echo_streams` runs server and client in one program;
//! `cargo run --example echo_streams -- 127.0.0.1:8888` serves until it is killed: `nc 127.0.0.1 8888`

use std::io;
use std::time::Duration;

use roundelay::{Server, StreamReader, StreamWriter, open_connection, start_server};

async fn echo(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    loop {
        let data = reader.read(64 * 1024).await?;
        if data.is_empty() {
            break;
        }
        writer.write(&data);
        writer.drain().await?;
    }
    writer.close();
    writer.wait_closed().await
}

async fn talk_to(server: &Server) -> io::Result<()> {
    let (mut reader, mut writer) = open_connection(server.local_addrs()[0]).await?;
    for line in ["one\n", "two\n", "three\n"] {
        writer.write(line.as_bytes());
        writer.drain().await?;
        print!("echoed: {}", String::from_utf8_lossy(&reader.readline().await?));
    }
    writer.close();
    writer.wait_closed().await
}

fn main() -> io::Result<()> {
    let addr = std::env::args().nth(1);
    roundelay::block_on(async {
        match addr {
            Some(addr) => {
                let server = start_server(echo, addr).await?;
                println!("listening on {}", server.local_addrs()[0]);
                server.serve_forever().await
            }
            None => {
                let server = start_server(echo, ("127.0.0.1", 0)).await?;
                talk_to(&server).await?;
                server.shutdown(Duration::from_secs(1)).await;
                Ok(())
            }
        }
    })
}

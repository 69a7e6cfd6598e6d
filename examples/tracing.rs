//! Logs that say which task they are of: by `tracing`, with a filter in `RUST_LOG`.
//!
//! Each task of the loop has a span, in which it is polled. So whatever is said inside of a task, also by a library that has
//! never heard of this crate, carries the task's name and number. The spans are of the target `roundelay::task` and the
//! level `DEBUG`: a filter turns them on and off, and while they are off they cost nothing. The loop itself speaks under
//! `roundelay::loop` and `roundelay::io`.
//!
//! Try it: `cargo run --example tracing`, and with other filters:
//!
//! ```text
//! RUST_LOG=info cargo run --example tracing                          # without spans
//! RUST_LOG=info,roundelay::task=debug cargo run --example tracing    # with spans
//! RUST_LOG=debug cargo run --example tracing                         # and what happens to connections
//! RUST_LOG='[task{name=bob}]=trace' cargo run --example tracing      # what is said inside of one task
//! ```

use std::io;
use std::net::SocketAddr;

use roundelay::{StreamReader, StreamWriter, block_on, get_running_loop, open_connection, spawn, start_server};
use tracing_subscriber::EnvFilter;

/// What a library does that knows `tracing`, and nothing of tasks.
mod library {
    pub(crate) fn parse(line: &[u8]) -> String {
        let name = String::from_utf8_lossy(line).trim().to_owned();
        tracing::info!(bytes = line.len(), "parsed a name");
        name
    }
}

/// Greets whoever says his name.
async fn greet(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    let name = library::parse(&reader.readline().await?);
    writer.write(format!("hello {name}\n").as_bytes());
    writer.drain().await?;
    writer.close();
    Ok(())
}

/// Says a name, and reads the answer.
async fn ask(server: SocketAddr, name: &str) -> io::Result<()> {
    let (mut reader, mut writer) = open_connection(server).await?;
    writer.write(format!("{name}\n").as_bytes());
    let answer = reader.readline().await?;
    writer.close();
    tracing::info!(answer = %String::from_utf8_lossy(&answer).trim(), "answered");
    Ok(())
}

fn main() -> io::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,roundelay::task=debug"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stdout).without_time().init();

    block_on(async {
        let el = get_running_loop()?;
        let server = start_server(greet, ("127.0.0.1", 0)).await?;
        let address = server.local_addrs()[0];

        // A span of one's own is the parent of the spans of what is spawned inside of it.
        let visit = tracing::info_span!("visit", of = "two friends");
        let guests = visit.in_scope(|| {
            let guest =
                |name: &'static str| el.task_builder().name(name).spawn(async move { ask(address, name).await });
            ["alice", "bob"].map(guest)
        });
        for guest in guests {
            guest.await??;
        }
        // One without a name is called by its number.
        spawn(async { tracing::info!("all are greeted") }).await?;
        Ok(())
    })
}

//! Who is on a D-Bus message bus, by zbus, on this loop.
//!
//! zbus brings an executor, and a thread to run it, unless it is told that somebody else does: here a task of this loop. It
//! waits by async-io's reactor, which the loop drives in its own wait. So there is one thread.
//!
//! Try it: `cargo run --example zbus_names` (usage: `zbus_names [ADDRESS]`; without an address it is the session's bus).

use std::error::Error;

use roundelay::{EventLoop, Runner, spawn};
use zbus::Connection;
use zbus::connection::Builder;
use zbus::fdo::DBusProxy;

async fn run(address: Option<String>) -> Result<(), Box<dyn Error + Send + Sync>> {
    let builder = match &address {
        Some(address) => Builder::address(address.as_str())?,
        None => Builder::session()?,
    };
    let connection: Connection = builder.internal_executor(false).build().await?;
    let executor = connection.executor().clone();
    let driver = spawn(async move {
        loop {
            executor.tick().await;
        }
    });
    let bus = DBusProxy::new(&connection).await?;
    for name in bus.list_names().await? {
        println!("{name}");
    }
    drop(bus);
    connection.close().await?;
    let _ = driver.cancel_and_wait().await;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let factory = || EventLoop::builder().drive_async_io(true).build();
    Runner::builder().loop_factory(factory).build().run(run(std::env::args().nth(1)))?
}

//! Sends one file to everybody who connects, and closes.
//!
//! The file goes out by the system's `sendfile`: none of its bytes passes through this program, and all connections share
//! the one open file, because each is sent from an offset of its own.
//!
//! Try it: `cargo run --release --example sendfile_server -- Cargo.toml`, then `nc 127.0.0.1 8080`
//! (usage: `sendfile_server FILE [ADDRESS]`).

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use roundelay::{CancelOnDrop, Protocol, Transport, get_running_loop, spawn};

/// One connection.
struct SendOne {
    file: Rc<File>,
    /// Ends with the connection.
    sending: Option<CancelOnDrop<()>>,
}

impl Protocol for SendOne {
    fn connection_made(&mut self, transport: &Transport) {
        let task = spawn(send(self.file.clone(), transport.clone()));
        self.sending = Some(task.cancel_on_drop());
    }

    fn connection_lost(&mut self, _: &Transport, _: Option<io::Error>) {
        self.sending = None;
    }
}

async fn send(file: Rc<File>, transport: Transport) {
    let Ok(el) = get_running_loop() else { return };
    match el.sendfile(&transport, &*file).await {
        Ok(n) => println!("{n} bytes sent"),
        Err(error) => println!("not sent: {error}"),
    }
    transport.close();
}

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let Some(name) = args.next() else {
        eprintln!("usage: sendfile_server FILE [ADDRESS]");
        std::process::exit(2);
    };
    let address = args.next().unwrap_or("127.0.0.1:8080".into());
    let address: SocketAddr = address.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let file = Rc::new(File::open(name)?);
    roundelay::block_on(async {
        let factory = move || SendOne { file: file.clone(), sending: None };
        let server = get_running_loop()?.create_server(factory, address).await?;
        println!("sending to whoever connects to {}", server.local_addrs()[0]);
        server.serve_forever().await
    })
}

//! Datagrams, in protocol form: a server that sends back what it gets, and a client that waits for that.
//!
//! A `DatagramProtocol` is called with each datagram and with who has sent it. Nothing is promised about a datagram but that
//! it arrives whole or not at all, so the client asks again, with pauses that grow, and gives up in the end. On a connected
//! endpoint the system says when nobody is there: that comes to `error_received`, and ends nothing.
//!
//! Try it: `cargo run --example udp_echo server 9999`, and in another terminal
//! `cargo run --example udp_echo client 127.0.0.1 9999 hello there`

use std::io;
use std::time::Duration;

use roundelay::{Address, DatagramHandle, DatagramProtocol, LoopFuture};

struct Echo;

impl DatagramProtocol for Echo {
    fn datagram_received(&mut self, transport: &DatagramHandle, data: &[u8], from: Option<&Address>) {
        transport.sendto(data, from);
    }

    fn error_received(&mut self, _: &DatagramHandle, error: io::Error) {
        eprintln!("an answer could not be sent: {error}");
    }
}

/// Waits for its message to come back.
struct Client {
    message: Vec<u8>,
    answered: LoopFuture<()>,
}

impl DatagramProtocol for Client {
    fn datagram_received(&mut self, _: &DatagramHandle, data: &[u8], _: Option<&Address>) {
        // It may come back more than once, if it was asked for more than once.
        if data == self.message && !self.answered.is_done() {
            println!("echoed: {}", String::from_utf8_lossy(data));
            let _ = self.answered.set_result(());
        }
    }

    fn error_received(&mut self, _: &DatagramHandle, error: io::Error) {
        eprintln!("no answer: {error}");
    }
}

async fn serve(port: u16) -> io::Result<()> {
    let el = roundelay::get_running_loop()?;
    let (transport, _) = el.create_datagram_endpoint(|| Echo).local_addr(("127.0.0.1", port)).await?;
    if let Some(address) = transport.extra_info().local_addr {
        println!("listening on {address}");
    }
    std::future::pending().await
}

async fn ask(host: &str, port: u16, message: Vec<u8>) -> io::Result<()> {
    let el = roundelay::get_running_loop()?;
    let answered = el.create_future();
    let client = Client { message: message.clone(), answered: answered.clone() };
    let (transport, _) = el.create_datagram_endpoint(move || client).remote_addr((host, port)).await?;
    let mut pause = Duration::from_millis(100);
    for _ in 0..5 {
        transport.sendto(&message, None);
        if roundelay::timeout(pause, answered.clone()).await.is_ok() {
            transport.close();
            return Ok(());
        }
        pause *= 2;
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("{host}:{port} does not answer")))
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let usage = |_| io::Error::other("usage: udp_echo server PORT | udp_echo client HOST PORT MESSAGE..");
    roundelay::block_on(async {
        match arguments.as_slice() {
            ["server", port] => serve(port.parse().map_err(|_| usage(()))?).await,
            ["client", host, port, message @ ..] if !message.is_empty() => {
                ask(host, port.parse().map_err(|_| usage(()))?, message.join(" ").into_bytes()).await
            }
            _ => Err(usage(())),
        }
    })
}

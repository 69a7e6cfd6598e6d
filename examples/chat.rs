//! A chat server: what one says, all others read. A slow reader does not stall them.
//!
//! All connections share one room, an `Rc<RefCell<..>>`, for the loop runs on one thread and callbacks never overlap.
//! A line is written to every transport; `write` never waits, so nobody holds the others up. But what a client does not
//! read piles up in its queue: `set_write_buffer_cap` ends a connection whose queue grows beyond what is reasonable,
//! and `connection_lost` says why.
//!
//! Try it: `cargo run --example chat`, and in two other terminals `nc 127.0.0.1 8889`

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;

use roundelay::{Protocol, Transport, TransportId};

/// The most that waits for one client, in bytes.
const PATIENCE: usize = 1024 * 1024;

/// The longest line, in bytes.
const LONGEST_LINE: usize = 4096;

#[derive(Default)]
struct Room {
    clients: HashMap<TransportId, Transport>,
}

impl Room {
    /// Sends a line to all but one.
    fn say(&self, who: &str, line: &[u8], except: TransportId) {
        let pieces = [IoSlice::new(who.as_bytes()), IoSlice::new(b": "), IoSlice::new(line), IoSlice::new(b"\n")];
        for (id, client) in &self.clients {
            if *id != except {
                client.writelines(&pieces);
            }
        }
    }
}

struct Client {
    room: Rc<RefCell<Room>>,
    name: String,
    /// The beginning of a line whose end has not arrived.
    partial: Vec<u8>,
}

impl Protocol for Client {
    fn connection_made(&mut self, transport: &Transport) {
        self.name = transport.extra_info().peer_addr.map_or("somebody".into(), |addr| addr.to_string());
        transport.set_write_buffer_cap(PATIENCE);
        transport.write(b"* welcome\n");
        self.room.borrow().say("*", format!("{} has come", self.name).as_bytes(), transport.id());
        self.room.borrow_mut().clients.insert(transport.id(), transport.clone());
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        self.partial.extend_from_slice(data);
        while let Some(end) = self.partial.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            self.room.borrow().say(&self.name, line.trim_ascii_end(), transport.id());
        }
        if self.partial.len() > LONGEST_LINE {
            transport.write(b"* that line is too long\n");
            transport.close();
        }
    }

    fn connection_lost(&mut self, transport: &Transport, error: Option<io::Error>) {
        self.room.borrow_mut().clients.remove(&transport.id());
        let why = error.map_or(String::new(), |error| format!(" ({error})"));
        println!("{} has gone{why}", self.name);
        self.room.borrow().say("*", format!("{} has gone", self.name).as_bytes(), transport.id());
    }
}

fn main() -> io::Result<()> {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8889".into());
    let addr: SocketAddr = addr.parse().map_err(|_| io::Error::other("usage: chat [ADDR:PORT]"))?;
    roundelay::block_on(async {
        let room = Rc::new(RefCell::new(Room::default()));
        let client = move || Client { room: room.clone(), name: String::new(), partial: Vec::new() };
        let server = roundelay::get_running_loop()?.create_server(client, addr).await?;
        println!("listening on {}", server.local_addrs()[0]);
        server.serve_forever().await
    })
}

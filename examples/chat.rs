//! A chat server: what one says, all others read. Neither a slow reader nor a talkative one stalls them.
//!
//! All connections share one room, an `Rc<RefCell<..>>`, for the loop runs on one thread and callbacks never overlap.
//! A line is written to every transport; `write` never waits, so nobody holds the others up. But what a client does not
//! read piles up in its queue: `set_write_buffer_cap` ends a connection whose queue grows beyond what is reasonable,
//! and `connection_lost` says why. As nothing else runs while a callback does, and as nobody reads a flood as fast as it
//! is written, a client that sends thousands of lines at once is heard a few at a time: `call_later` goes on with the
//! others, and until then nothing more is read from it.
//!
//! Try it: `cargo run --example chat`, and in two other terminals `nc 127.0.0.1 8889`

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use roundelay::{Protocol, Transport, TransportId};

/// The most that waits for one client, in bytes.
const PATIENCE: usize = 1024 * 1024;

/// The longest line, in bytes.
const LONGEST_LINE: usize = 4096;

/// When one client has said so much at once, in bytes, it pauses for breath.
const MOST_AT_ONCE: usize = 16 * 1024;

/// For how long.
const BREATH: Duration = Duration::from_millis(10);

#[derive(Default)]
struct Room {
    clients: HashMap<TransportId, Transport>,
}

impl Room {
    /// Sends lines to all but one.
    fn say(&self, lines: &[u8], except: TransportId) {
        for (id, client) in &self.clients {
            if *id != except {
                client.write(lines);
            }
        }
    }
}

struct Client {
    room: Rc<RefCell<Room>>,
    name: String,
    /// What has arrived and is not passed on.
    arrived: BytesMut,
}

impl Client {
    /// Passes on what has arrived: some lines now, what is too much for now later.
    fn pass_on(&mut self, transport: &Transport) {
        let mut said = Vec::new();
        while said.len() < MOST_AT_ONCE {
            let Some(end) = self.arrived.iter().take(LONGEST_LINE + 1).position(|&byte| byte == b'\n') else { break };
            said.extend_from_slice(
                &[self.name.as_bytes(), b": ", self.arrived[..end].trim_ascii_end(), b"\n"].concat(),
            );
            self.arrived.advance(end + 1);
        }
        self.room.borrow().say(&said, transport.id());
        if said.len() >= MOST_AT_ONCE {
            transport.pause_reading();
            self.go_on_later(transport.clone());
        } else if self.arrived.len() > LONGEST_LINE {
            transport.write(b"* that line is too long\n");
            transport.close();
        } else {
            transport.resume_reading();
        }
    }

    fn go_on_later(&self, transport: Transport) {
        let own = transport.protocol().and_then(|protocol| protocol.downcast::<Client>());
        let (Some(own), Ok(el)) = (own, roundelay::get_running_loop()) else { return };
        el.call_later(BREATH, move || {
            if !transport.is_closing() {
                own.with(|client| client.pass_on(&transport));
            }
        });
    }
}

impl Protocol for Client {
    fn connection_made(&mut self, transport: &Transport) {
        self.name = transport.extra_info().peer_addr.map_or("somebody".into(), |addr| addr.to_string());
        transport.set_write_buffer_cap(PATIENCE);
        transport.write(b"* welcome\n");
        self.room.borrow().say(format!("* {} has come\n", self.name).as_bytes(), transport.id());
        self.room.borrow_mut().clients.insert(transport.id(), transport.clone());
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        self.arrived.extend_from_slice(data);
        self.pass_on(transport);
    }

    fn connection_lost(&mut self, transport: &Transport, error: Option<io::Error>) {
        self.room.borrow_mut().clients.remove(&transport.id());
        let why = error.map_or(String::new(), |error| format!(" ({error})"));
        println!("{} has gone{why}", self.name);
        self.room.borrow().say(format!("* {} has gone\n", self.name).as_bytes(), transport.id());
    }
}

fn main() -> io::Result<()> {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8889".into());
    let addr: SocketAddr = addr.parse().map_err(|_| io::Error::other("usage: chat [ADDR:PORT]"))?;
    roundelay::block_on(async {
        let room = Rc::new(RefCell::new(Room::default()));
        let client = move || Client { room: room.clone(), name: String::new(), arrived: BytesMut::new() };
        let server = roundelay::get_running_loop()?.create_server(client, addr).await?;
        println!("listening on {}", server.local_addrs()[0]);
        server.serve_forever().await
    })
}

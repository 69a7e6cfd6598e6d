//! A chat server: what one says, all others read. Neither a slow reader nor a talkative one stalls them.
//!
//! All connections share one room, an `Rc<RefCell<..>>`, for the loop runs on one thread and callbacks never overlap.
//! A line is written to every transport; `write` never waits, so nobody holds the others up. But what a client does not
//! read piles up in its queue: `set_write_buffer_cap` ends a connection whose queue grows beyond what is reasonable,
//! and `connection_lost` says why. As nothing else runs while a callback does, and as nobody reads a flood as fast as it
//! is written, a client that sends thousands of lines at once is heard a few at a time: `call_later` goes on with the
//! others, and until then nothing more is read from it.
//!
//! Try it: `cargo run --example chat`, and in two other terminals `nc 127.0.0.1 8889`. With `--inspect PATH`, of the feature
//! `inspector`, the example `roundelay-top` shows how its loop fares.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use roundelay::{CancelOnDrop, EventLoop, Protocol, Transport, TransportId, sleep_until};

/// The most that waits for one client, in bytes.
const PATIENCE: usize = 1024 * 1024;

/// The longest line, in bytes.
const LONGEST_LINE: usize = 4096;

/// When one client has said so much at once, in bytes, it pauses for breath.
const MOST_AT_ONCE: usize = 16 * 1024;

/// For how long.
const BREATH: Duration = Duration::from_millis(10);

/// Who has said nothing for so long is shown out.
const SILENCE: Duration = Duration::from_secs(600);

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
    /// When something arrived last.
    heard: Rc<Cell<Instant>>,
    /// Waits until that is long ago. Dropped with the client, which cancels it.
    doorkeeper: Option<CancelOnDrop<()>>,
}

impl Client {
    fn new(room: Rc<RefCell<Room>>) -> Self {
        let heard = Rc::new(Cell::new(Instant::now()));
        Self { room, name: String::new(), arrived: BytesMut::new(), heard, doorkeeper: None }
    }

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
        if let Ok(el) = roundelay::get_running_loop() {
            let name = format!("silence of {}", self.name);
            let task = el.task_builder().name(name).spawn(show_out(transport.clone(), self.heard.clone()));
            self.doorkeeper = Some(task.cancel_on_drop());
        }
        transport.set_write_buffer_cap(PATIENCE);
        transport.write(b"* welcome\n");
        self.room.borrow().say(format!("* {} has come\n", self.name).as_bytes(), transport.id());
        self.room.borrow_mut().clients.insert(transport.id(), transport.clone());
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        self.heard.set(Instant::now());
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

/// Ends the connection of one who says nothing.
async fn show_out(client: Transport, heard: Rc<Cell<Instant>>) {
    while heard.get().elapsed() < SILENCE {
        sleep_until(heard.get() + SILENCE).await;
    }
    client.write(b"* you have nothing to say\n");
    client.close();
}

/// Says now and then how the room is doing: a task beside the callbacks.
async fn report(room: Rc<RefCell<Room>>) {
    let mut every = roundelay::interval(Duration::from_secs(60));
    let mut before = 0;
    loop {
        every.tick().await;
        let now = room.borrow().clients.len();
        if now != before {
            println!("{now} clients");
        }
        before = now;
    }
}

/// What the command line says.
struct Arguments {
    addr: SocketAddr,
    /// Where an inspector is to listen.
    inspect: Option<String>,
}

fn arguments() -> io::Result<Arguments> {
    let usage = || io::Error::other("usage: chat [ADDR:PORT] [--inspect PATH]");
    let (mut addr, mut inspect) = ("127.0.0.1:8889".to_owned(), None);
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--inspect" => inspect = Some(given.next().ok_or_else(usage)?),
            _ => addr = argument,
        }
    }
    Ok(Arguments { addr: addr.parse().map_err(|_| usage())?, inspect })
}

/// Lets others look into the loop, for as long as what is returned lives.
#[cfg(feature = "inspector")]
fn inspect(el: &EventLoop, path: &str) -> io::Result<impl Sized + use<>> {
    let inspector = el.serve_inspector(path)?;
    println!("inspector at {}", inspector.path().display());
    Ok(inspector)
}

#[cfg(not(feature = "inspector"))]
fn inspect(_: &EventLoop, _: &str) -> io::Result<()> {
    Err(io::Error::other("--inspect: this was built without the feature `inspector`"))
}

fn main() -> io::Result<()> {
    let Arguments { addr, inspect: path } = arguments()?;
    roundelay::block_on(async {
        let el = roundelay::get_running_loop()?;
        let room = Rc::new(RefCell::new(Room::default()));
        drop(el.task_builder().name("report").spawn(report(room.clone())));
        let client = move || Client::new(room.clone());
        let server = el.create_server(client, addr).await?;
        println!("listening on {}", server.local_addrs()[0]);
        let _inspector = path.map(|path| inspect(&el, &path)).transpose()?;
        server.serve_forever().await
    })
}

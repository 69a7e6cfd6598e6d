//! A chat on a unix socket: the system vouches for who is talking, so nobody has to log in.
//!
//! The server is one of streams: each client is a task that reads lines and writes them to all others. Who they are it asks
//! of the connection: `extra_info().peer_credentials` has the user and the process at the other end. Who may come is a
//! matter of the socket file, and of its folder's permissions. A speaker waits for those who listen, by `ready()` of their
//! transports; but not for long, and who does not read for five seconds is shown the door.
//!
//! The client reads from its terminal on a thread of its own, which may be blocked in that for ever, and which nobody waits
//! for. What it reads comes to the loop's thread through a channel.
//!
//! Killed, the server leaves its socket file behind. The next one finds that nobody has that socket any more, and takes its
//! place; but not that of a server that is still running.
//!
//! Try it: `cargo run --example unix_chat -- server /tmp/chat`, and in two other terminals
//! `cargo run --example unix_chat -- client /tmp/chat`

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, BufRead, Write};
use std::rc::Rc;
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc;
use futures::future::{Either, select};
use roundelay::{
    PeerCredentials, StreamReader, StreamWriter, Transport, TransportId, open_unix_connection, spawn,
    start_unix_server, timeout,
};

/// How long the others wait for one who does not read.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Room {
    clients: RefCell<HashMap<TransportId, Transport>>,
}

impl Room {
    /// Sends a line to all but one, and waits until they have read enough of what they were sent.
    async fn say(&self, line: &[u8], except: TransportId) {
        let others: Vec<Transport> =
            self.clients.borrow().values().filter(|other| other.id() != except).cloned().collect();
        for other in &others {
            other.write(line);
        }
        for other in &others {
            // That one has gone meanwhile is no matter.
            if timeout(PATIENCE, other.ready()).await.is_err() {
                other.abort();
            }
        }
    }
}

fn name(peer: Option<PeerCredentials>) -> String {
    match peer {
        Some(PeerCredentials { pid: Some(pid), uid, .. }) => format!("user {uid}, process {pid}"),
        Some(PeerCredentials { uid, .. }) => format!("user {uid}"),
        None => "somebody".into(),
    }
}

async fn serve_client(room: Rc<Room>, mut reader: StreamReader, mut writer: StreamWriter) {
    let (id, name) = (writer.transport().id(), name(writer.extra_info().peer_credentials));
    writer.write(format!("* welcome, {name}\n").as_bytes());
    room.clients.borrow_mut().insert(id, writer.transport().clone());
    room.say(format!("* {name} has come\n").as_bytes(), id).await;

    let end = loop {
        match reader.readline().await {
            Ok(line) if line.is_empty() => break String::new(),
            Ok(line) => room.say(&[name.as_bytes(), b": ", line.trim_ascii_end(), b"\n"].concat(), id).await,
            Err(error) => break format!(" ({error})"),
        }
    };
    room.clients.borrow_mut().remove(&id);
    println!("{name} has gone{end}");
    room.say(format!("* {name} has gone\n").as_bytes(), id).await;
    writer.close();
}

async fn serve(path: &str) -> io::Result<()> {
    let room = Rc::new(Room::default());
    let handler = async move |reader, writer| serve_client(room.clone(), reader, writer).await;
    let server = start_unix_server(handler, path).await?;
    println!("listening on {}", server.unix_addrs()[0]);
    server.serve_forever().await
}

/// What is typed, line by line.
fn typed() -> mpsc::UnboundedReceiver<String> {
    let (send, receive) = mpsc::unbounded();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if send.unbounded_send(line + "\n").is_err() {
                break;
            }
        }
    });
    receive
}

async fn join(path: &str) -> io::Result<()> {
    let (mut reader, mut writer) = open_unix_connection(path).await?;
    println!("* the server is {}", name(writer.extra_info().peer_credentials));
    let mut heard = spawn(async move {
        while let Ok(line) = reader.readline().await {
            if line.is_empty() {
                break;
            }
            io::stdout().write_all(&line)?;
        }
        println!("* that was all");
        io::Result::Ok(())
    });

    let mut typed = typed();
    loop {
        match select(typed.next(), &mut heard).await {
            Either::Left((Some(line), _)) => {
                writer.write(line.as_bytes());
                writer.drain().await?;
            }
            // What the others say is still heard, until the server has heard of this end.
            Either::Left((None, _)) => {
                writer.write_eof();
                break heard.await.map_err(io::Error::other)?;
            }
            Either::Right((heard, _)) => break heard.map_err(io::Error::other)?,
        }
    }
}

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["server", path] => roundelay::block_on(serve(path)),
        ["client", path] => roundelay::block_on(join(path)),
        _ => Err(io::Error::other("usage: unix_chat server|client PATH")),
    }
}

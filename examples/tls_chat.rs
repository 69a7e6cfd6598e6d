//! A chat server that is fit for a rough neighbourhood: TLS, a limit for silence, a limit for slow readers, an orderly end.
//!
//! Each guest has a task, which reads lines and gives them to the room. The room writes to all transports and waits for none of
//! them: one that does not read is cut off when a megabyte waits for it (`set_write_buffer_cap`), one that says nothing for ten
//! minutes is shown out (`timeout`). A guest leaves the room by being dropped, however its task ends. SIGTERM and Ctrl-C tell
//! everybody, and `shutdown` gives them five seconds to hear it.
//!
//! Try it:
//! * `cargo run --features tls --example tls_chat` runs a server and two guests in one program, with a certificate of its own;
//! * `.. tls_chat -- server 127.0.0.1:8890 CERT KEY` serves until it is stopped, with a chain and a key from PEM files;
//! * `.. tls_chat -- client localhost:8890 CA` joins, if the server's certificate is from an authority in the file.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::select;
use roundelay::{
    Server, SignalKind, StreamReader, StreamWriter, TimedOut, TlsAcceptor, TlsConnector, TlsIdentity, Transport,
    TransportId, open_connection, signal, spawn, start_server, stdin, timeout,
};

const USAGE: &str = "usage: tls_chat [server ADDR:PORT CERT KEY | client HOST:PORT CA]";

/// Who says nothing for so long is shown out.
const SILENCE: Duration = Duration::from_secs(600);

/// The most that waits for one guest, in bytes.
const PATIENCE: usize = 1024 * 1024;

/// How long guests have to hear that the server ends.
const GRACE: Duration = Duration::from_secs(5);

/// Everybody who is there.
#[derive(Clone, Default)]
struct Room {
    guests: Rc<RefCell<HashMap<TransportId, Transport>>>,
}

impl Room {
    fn say(&self, text: &str) {
        for guest in self.guests.borrow().values() {
            guest.write(text.as_bytes());
        }
    }

    fn enter(&self, name: String, transport: Transport) -> Guest {
        self.say(&format!("* {name} has come\n"));
        transport.set_write_buffer_cap(PATIENCE);
        self.guests.borrow_mut().insert(transport.id(), transport.clone());
        Guest { room: self.clone(), name, id: transport.id() }
    }
}

/// One who is in the room until it is dropped.
struct Guest {
    room: Room,
    name: String,
    id: TransportId,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.room.guests.borrow_mut().remove(&self.id);
        self.room.say(&format!("* {} has gone\n", self.name));
    }
}

/// The next line without its end; `None` at the end of the stream.
async fn line(reader: &mut StreamReader) -> io::Result<Option<String>> {
    let line = reader.readline().await?;
    Ok((!line.is_empty()).then(|| String::from_utf8_lossy(&line).trim_end().to_owned()))
}

/// One guest, from the first word to the last.
async fn entertain(room: &Room, mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    let mut guest = None;
    writer.write(b"* what is your name?\n");
    loop {
        let text = match timeout(SILENCE, line(&mut reader)).await {
            Ok(text) => text?,
            Err(TimedOut) => {
                writer.write(b"* you have nothing to say\n");
                None
            }
        };
        match (text, &guest) {
            (None, _) => break,
            (Some(name), None) => guest = Some(room.enter(name, writer.transport())),
            (Some(text), Some(Guest { name, .. })) => room.say(&format!("{name}: {text}\n")),
        }
    }
    drop(guest);
    writer.close();
    writer.wait_closed().await
}

async fn open(room: Room, addr: &str, acceptor: TlsAcceptor) -> io::Result<Server> {
    start_server(async move |reader, writer| entertain(&room, reader, writer).await, addr).tls(acceptor).await
}

async fn serve(addr: &str, acceptor: TlsAcceptor) -> io::Result<()> {
    let room = Room::default();
    let server = open(room.clone(), addr, acceptor).await?;
    let mut stop = select(signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    println!("listening on {}", server.local_addr()?);
    if let Some(signal) = stop.next().await {
        println!("got signal {signal}");
    }
    room.say("* the server ends\n");
    let in_time = server.shutdown(GRACE).await;
    println!("{}", if in_time { "all have gone" } else { "some were cut off" });
    Ok(())
}

/// Says what is typed, shows what is said.
async fn join(addr: &str, connector: TlsConnector) -> io::Result<()> {
    let (mut reader, mut writer) = open_connection(addr).tls(connector).await?;
    let typing = spawn(async move {
        let mut input = stdin()?;
        while let Some(text) = line(&mut input).await? {
            writer.write(format!("{text}\n").as_bytes());
            writer.drain().await?;
        }
        writer.close();
        writer.wait_closed().await
    });
    let _typing = typing.cancel_on_drop();
    while let Some(text) = line(&mut reader).await? {
        println!("{text}");
    }
    Ok(())
}

/// A server and two guests.
async fn talk_to_myself() -> io::Result<()> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(io::Error::other)?;
    let identity = TlsIdentity::from_pem(made.cert.pem(), made.signing_key.serialize_pem())?;
    let acceptor = TlsAcceptor::builder().identity(identity).build()?;
    let connector = TlsConnector::builder().roots_from_pem(made.cert.pem()).build()?;

    let room = Room::default();
    let server = open(room.clone(), "127.0.0.1:0", acceptor).await?;
    let addr = server.local_addr()?;
    let arrive = async |name: &str| {
        let connecting = open_connection(addr).tls(connector.clone()).server_hostname("localhost");
        let (mut reader, mut writer) = connecting.await?;
        reader.readline().await?;
        writer.write(format!("{name}\n").as_bytes());
        io::Result::Ok((reader, writer))
    };
    let (mut alice_hears, mut alice) = arrive("alice").await?;
    // Whether she is in the room she hears by what she says.
    alice.write(b"is anybody here?\n");
    println!("alice hears: {}", line(&mut alice_hears).await?.unwrap_or_default());
    let (mut bob_hears, mut bob) = arrive("bob").await?;
    println!("alice hears: {}", line(&mut alice_hears).await?.unwrap_or_default());
    bob.write(b"I am\n");
    println!("alice hears: {}", line(&mut alice_hears).await?.unwrap_or_default());
    println!("bob hears: {}", line(&mut bob_hears).await?.unwrap_or_default());
    bob.close();
    bob.wait_closed().await?;
    println!("alice hears: {}", line(&mut alice_hears).await?.unwrap_or_default());

    room.say("* the server ends\n");
    let (in_time, last) = futures::join!(server.shutdown(GRACE), line(&mut alice_hears));
    println!("alice hears: {}", last?.unwrap_or_default());
    println!("{}", if in_time { "all have gone" } else { "some were cut off" });
    Ok(())
}

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        [] => roundelay::block_on(talk_to_myself()),
        ["server", addr, cert, key] => {
            let acceptor = TlsAcceptor::builder().identity(TlsIdentity::from_pem_files(cert, key)?).build()?;
            roundelay::block_on(serve(addr, acceptor))
        }
        ["client", addr, ca] => {
            let connector = TlsConnector::builder().roots_from_pem_file(ca).build()?;
            roundelay::block_on(join(addr, connector))
        }
        _ => Err(io::Error::other(USAGE)),
    }
}

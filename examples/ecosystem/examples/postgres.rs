//! PostgreSQL, by tokio-postgres, over a unix socket of this crate.
//!
//! The library has two parts. The `Client` is what a program talks to; the `Connection` is a future that moves the bytes, and
//! is spawned as a task of this loop. It needs nothing of tokio but the traits of its I/O, which streams have by the feature
//! `tokio`, and ends with the connection: by itself when the client is dropped, or with the reason.
//!
//! Here one client listens and another one notifies it, from within a transaction.
//!
//! Try it: `cargo run --example postgres -- /var/run/postgresql/.s.PGSQL.5432 USER DATABASE`

use std::error::Error;
use std::pin::pin;

use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};
use roundelay::{UnixStream, spawn};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls};

const USAGE: &str = "usage: postgres SOCKET USER DATABASE";

/// Connects. What the server says of its own accord comes by the channel, which ends with the connection.
async fn connect(
    socket: &str,
    config: &Config,
) -> Result<(Client, mpsc::UnboundedReceiver<AsyncMessage>), Box<dyn Error>> {
    let stream = UnixStream::connect(socket).await?;
    let (client, mut connection) = config.connect_raw(stream, NoTls).await?;
    let (sender, notices) = mpsc::unbounded();
    drop(spawn(async move {
        let mut messages = pin!(futures::stream::poll_fn(move |cx| connection.poll_message(cx)));
        while let Some(message) = messages.next().await {
            match message {
                Ok(message) => drop(sender.unbounded_send(message)),
                Err(error) => return eprintln!("the connection is lost: {error}"),
            }
        }
    }));
    Ok((client, notices))
}

async fn run(socket: &str, user: &str, database: &str) -> Result<(), Box<dyn Error>> {
    let mut config = Config::new();
    config.user(user).dbname(database).application_name("roundelay");
    let (mut client, _) = connect(socket, &config).await?;
    let (listener, mut notices) = connect(socket, &config).await?;
    listener.batch_execute("LISTEN songs").await?;

    client.batch_execute("CREATE TEMPORARY TABLE songs (name text PRIMARY KEY, voices int4 NOT NULL)").await?;
    let mut rows = pin!(client.copy_in::<_, bytes::Bytes>("COPY songs FROM STDIN").await?);
    rows.send("frere jacques\t4\nsumer is icumen in\t6\n".into()).await?;
    rows.close().await?;

    let add = client.prepare("INSERT INTO songs VALUES ($1, $2)").await?;
    let transaction = client.transaction().await?;
    transaction.execute(&add, &[&"three blind mice", &3_i32]).await?;
    transaction.execute("SELECT pg_notify('songs', 'there is a new one')", &[]).await?;
    transaction.commit().await?;
    if let Some(AsyncMessage::Notification(notice)) = notices.next().await {
        println!("{}: {}", notice.channel(), notice.payload());
    }
    for row in client.query("SELECT name, voices FROM songs ORDER BY name", &[]).await? {
        println!("{} for {} voices", row.get::<_, &str>(0), row.get::<_, i32>(1));
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [socket, user, database] = &args[..] else { return Err(USAGE.into()) };
    roundelay::block_on(run(socket, user, database))
}

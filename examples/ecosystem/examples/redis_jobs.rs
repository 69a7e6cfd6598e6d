//! Redis, by its crate `redis`, over a unix socket of this crate.
//!
//! One connection serves all tasks: its handle is cloned, and what the tasks ask for goes out together. A future that moves
//! the bytes is spawned as a task of this loop. The library wants a stream that is `Send`, which none of this crate is, for it
//! belongs to its loop; a `ThreadBound` around it is, and panics if anybody should really take it to another thread.
//!
//! Two things in the library are tokio's: the time after which it gives up, which is turned off here, for `timeout` does
//! as well; and its `PubSub`, in the place of which the protocol's third version has messages come by the same connection.
//!
//! Here workers wait for jobs, each by a connection of its own, for a command that waits holds up the ones behind it.
//!
//! Try it: `cargo run --example redis_jobs -- /var/run/redis/redis.sock`

use std::error::Error;
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc;
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, AsyncConnectionConfig, ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo};
use roundelay::compat::ThreadBound;
use roundelay::{CancelOnDrop, TaskGroup, UnixStream, spawn, timeout};

const USAGE: &str = "usage: redis_jobs SOCKET";
const JOBS: u32 = 9;
const WORKERS: u32 = 3;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection, what the server says by it of its own accord, and the task that moves its bytes.
struct Connected {
    connection: MultiplexedConnection,
    told: mpsc::UnboundedReceiver<PushInfo>,
    _driver: CancelOnDrop<()>,
}

async fn connect(socket: &str) -> Result<Connected, Box<dyn Error + Send + Sync>> {
    let stream = ThreadBound::new(UnixStream::connect(socket).await?);
    let (sender, told) = mpsc::unbounded();
    let info = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(None)
        .set_push_sender(move |info| sender.unbounded_send(info));
    let connecting = MultiplexedConnection::new_with_config(&info, stream, config);
    let (connection, driver) = timeout(PATIENCE, connecting).await??;
    Ok(Connected { connection, told, _driver: spawn(driver).cancel_on_drop() })
}

/// Does what it finds in the list, until there is an empty job.
async fn work(socket: &str, number: u32) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut redis = connect(socket).await?;
    loop {
        let (_, job): (String, String) = redis.connection.blpop("jobs", 0.0).await?;
        let Ok(job) = job.parse::<u32>() else { return Ok(()) };
        let () = redis.connection.publish("done", format!("{job} squared is {} ({number})", job * job)).await?;
    }
}

async fn run(socket: String) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut redis = connect(&socket).await?;
    let () = redis.connection.del("jobs").await?;
    redis.connection.subscribe("done").await?;
    let workers = TaskGroup::try_scope(async |group| {
        for number in 0..WORKERS {
            let socket = socket.clone();
            group.spawn(async move { work(&socket, number).await });
        }
        // All in one message.
        let mut pipe = redis::pipe();
        for job in 0..JOBS {
            pipe.rpush("jobs", job).ignore();
        }
        let () = timeout(PATIENCE, pipe.query_async(&mut redis.connection)).await??;
        let mut done = 0;
        while done < JOBS {
            let told = timeout(PATIENCE, redis.told.next()).await?.ok_or("the connection is lost")?;
            if told.kind == PushKind::Message {
                println!("{}", redis::from_redis_value::<(String, String)>(redis::Value::Array(told.data))?.1);
                done += 1;
            }
        }
        let () = redis.connection.rpush("jobs", vec![""; WORKERS as usize]).await?;
        Ok(())
    });
    Ok(workers.await?)
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let socket = std::env::args().nth(1).ok_or(USAGE)?;
    roundelay::block_on(run(socket))
}

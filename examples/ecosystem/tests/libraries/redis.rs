//! The crate `redis` over a unix socket, against a real Redis.

use std::collections::HashMap;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc;
use futures::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, AsyncConnectionConfig, ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo};
use roundelay::compat::ThreadBound;
use roundelay::{EventLoop, Task, UnixStream, spawn};
use roundelay_ecosystem::Redis;

use crate::common::alone;
use crate::program::{example, output};
use crate::{on_each_selector, with};

/// The one that all tests share; it ends with this process.
fn server() -> Option<&'static Redis> {
    static SERVER: OnceLock<Option<Redis>> = OnceLock::new();
    SERVER.get_or_init(|| Redis::start().unwrap()).as_ref()
}

fn with_server(body: impl AsyncFn(&EventLoop, &Redis)) {
    with(server, async |el, server| body(el, server).await);
}

struct Connected {
    redis: MultiplexedConnection,
    /// What the server has said of its own accord.
    told: mpsc::UnboundedReceiver<PushInfo>,
    /// What moves the bytes.
    driver: Task<()>,
}

impl Connected {
    async fn new(server: &Redis) -> Self {
        let stream = ThreadBound::new(UnixStream::connect(server.socket()).await.unwrap());
        let (sender, told) = mpsc::unbounded();
        let info = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let config = config.set_push_sender(move |info| sender.unbounded_send(info));
        let (redis, driver) = MultiplexedConnection::new_with_config(&info, stream, config).await.unwrap();
        Self { redis, told, driver: spawn(driver) }
    }

    /// The next message of a channel.
    async fn message(&mut self) -> (String, String) {
        loop {
            let told = self.told.next().await.unwrap();
            if told.kind == PushKind::Message {
                return redis::from_redis_value(redis::Value::Array(told.data)).unwrap();
            }
        }
    }

    /// Takes leave, and waits for the end.
    async fn end(self) {
        drop(self.redis);
        self.driver.await.unwrap();
    }
}

/// Values of all sizes, an error that leaves the connection as it was, a pipeline, a transaction.
#[test]
fn commands() {
    with_server(async |_, server| {
        let mut connected = Connected::new(server).await;
        let redis = &mut connected.redis;
        let () = redis.set("key", b"a\r\n\0value").await.unwrap();
        assert_eq!(redis.get::<_, Vec<u8>>("key").await.unwrap(), b"a\r\n\0value");
        assert_eq!(redis.get::<_, Option<String>>("no key").await.unwrap(), None);
        let error = redis.incr::<_, _, i64>("key", 1).await.unwrap_err();
        assert!(error.to_string().contains("not an integer"), "{error}");
        let big = vec![b'x'; 3_000_000];
        let () = redis.set("key", &big).await.unwrap();
        assert!(redis.get::<_, Vec<u8>>("key").await.unwrap() == big);
        let mut pipe = redis::pipe();
        pipe.set("n", 0).ignore();
        for _ in 0..1000 {
            pipe.incr("n", 1);
        }
        assert_eq!(pipe.query_async::<Vec<i64>>(redis).await.unwrap(), (1..=1000).collect::<Vec<_>>());
        let (n, all): (i64, HashMap<String, i64>) = redis::pipe()
            .atomic()
            .incr("n", 1)
            .hset("h", "a", 1)
            .ignore()
            .hgetall("h")
            .query_async(redis)
            .await
            .unwrap();
        assert_eq!((n, all), (1001, HashMap::from([("a".to_owned(), 1)])));
        let () = redis.del(&["key", "n", "h"]).await.unwrap();
        connected.end().await;
    });
}

/// A hundred tasks share one connection, and each gets its own answers.
#[test]
fn many_tasks_share_a_connection() {
    with_server(async |_, server| {
        let connected = Connected::new(server).await;
        let tasks = (0..100_u32).map(|n| {
            let mut redis = connected.redis.clone();
            spawn(async move {
                for round in 0..5 {
                    let key = format!("key {n}");
                    let () = redis.set(&key, n * 10 + round).await.unwrap();
                    assert_eq!(redis.get::<_, u32>(&key).await.unwrap(), n * 10 + round);
                    let () = redis.del(&key).await.unwrap();
                }
            })
        });
        join_all(tasks).await.into_iter().for_each(|done| done.unwrap());
        connected.end().await;
    });
}

/// What one publishes another one hears, in order, while it goes on asking.
#[test]
fn publishing() {
    with_server(async |_, server| {
        let (mut ann, mut bob) = (Connected::new(server).await, Connected::new(server).await);
        ann.redis.subscribe("songs").await.unwrap();
        for n in 0..100 {
            let heard: i64 = bob.redis.publish("songs", format!("song {n}")).await.unwrap();
            assert_eq!(heard, 1);
        }
        assert_eq!(ann.redis.get::<_, Option<String>>("no key").await.unwrap(), None);
        for n in 0..100 {
            assert_eq!(ann.message().await, ("songs".to_owned(), format!("song {n}")));
        }
        ann.redis.unsubscribe("songs").await.unwrap();
        assert_eq!(bob.redis.publish::<_, _, i64>("songs", "unheard").await.unwrap(), 0);
        ann.end().await;
        bob.end().await;
    });
}

/// Who waits for something by a connection of its own holds nobody up; and several wait at a time.
#[test]
fn waiting_for_a_job() {
    with_server(async |_, server| {
        let mut boss = Connected::new(server).await;
        let mut workers = Vec::new();
        for _ in 0..3 {
            let mut worker = Connected::new(server).await;
            workers.push(spawn(async move {
                let (list, job): (String, String) = worker.redis.blpop("jobs", 0.0).await.unwrap();
                worker.end().await;
                (list, job)
            }));
        }
        // The server says of each client what it is at.
        let waiting = async |boss: &mut Connected| {
            let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut boss.redis).await.unwrap();
            clients.lines().filter(|client| client.contains(" cmd=blpop ")).count()
        };
        while waiting(&mut boss).await < 3 {}
        let () = boss.redis.rpush("jobs", &["one", "two", "three"]).await.unwrap();
        let mut jobs = Vec::new();
        for worker in workers {
            let (list, job) = worker.await.unwrap();
            assert_eq!(list, "jobs");
            jobs.push(job);
        }
        jobs.sort();
        assert_eq!(jobs, ["one", "three", "two"]);
        // One that gives up waits no longer, which the server hears when its connection ends.
        let mut worker = Connected::new(server).await;
        let impatient = roundelay::timeout(
            Duration::from_millis(5),
            worker.redis.blpop::<_, Option<(String, String)>>("jobs", 0.0),
        );
        assert!(impatient.await.is_err());
        assert!(worker.driver.cancel_and_wait().await.is_err());
        while waiting(&mut boss).await > 0 {}
        boss.end().await;
    });
}

/// A server that is killed: whoever waits for an answer has an error, and so has everybody after them.
#[test]
fn the_server_is_killed() {
    on_each_selector(async |_| {
        let Some(server) = Redis::start().unwrap() else { return };
        let mut connected = Connected::new(&server).await;
        let () = connected.redis.set("key", "value").await.unwrap();
        let mut waiter = connected.redis.clone();
        let waiting = spawn(async move { waiter.blpop::<_, (String, String)>("jobs", 0.0).await });
        while !{
            let mut witness = Connected::new(&server).await;
            let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut witness.redis).await.unwrap();
            witness.end().await;
            clients.contains(" cmd=blpop ")
        } {}
        server.kill().unwrap();
        let error = waiting.await.unwrap().unwrap_err();
        assert!(error.is_connection_dropped(), "{error}");
        let error = connected.redis.get::<_, String>("key").await.unwrap_err();
        assert!(error.is_connection_dropped(), "{error}");
        // It is told to whoever listens, too.
        while connected.told.next().await.unwrap().kind != PushKind::Disconnection {}
        connected.end().await;
    });
}

/// The example's workers do all the jobs.
#[test]
fn the_example_works() {
    let _alone = alone();
    let Some(server) = server() else { return };
    let shown = output(Command::new(example("redis_jobs")).arg(server.socket()));
    let shown = String::from_utf8(shown).unwrap();
    let mut done: Vec<&str> = shown.lines().map(|line| line.split(" (").next().unwrap()).collect();
    done.sort();
    let expected: Vec<String> = (0..9).map(|n| format!("{n} squared is {}", n * n)).collect();
    assert_eq!(done, expected);
}

//! tokio-postgres over a unix socket, against a real PostgreSQL.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::process::Command;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;

use futures::future::join_all;
use futures::{SinkExt, TryStreamExt};
use roundelay::{EventLoop, Task, UnixStream, spawn};
use roundelay_ecosystem::Postgres;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Config, Error, NoTls};

use crate::common::alone;
use crate::program::{example, output};
use crate::with;

/// The one that all tests share; it ends with this process.
fn server() -> Option<&'static Postgres> {
    static SERVER: OnceLock<Option<Postgres>> = OnceLock::new();
    SERVER.get_or_init(|| Postgres::start().unwrap()).as_ref()
}

/// A query that takes an hour.
const SLEEP: &str = "SELECT pg_sleep(3600)";

/// A connection: whom to talk to, and the task that moves the bytes.
struct Connected {
    client: Client,
    /// How it has ended.
    task: Task<Result<(), Error>>,
    /// What the server has said of its own accord.
    said: Rc<RefCell<Vec<String>>>,
}

impl Connected {
    async fn new(server: &Postgres) -> Self {
        let stream = UnixStream::connect(server.socket()).await.unwrap();
        let mut config = Config::new();
        config.user("postgres").dbname("postgres").application_name("test");
        let (client, mut connection) = config.connect_raw(stream, NoTls).await.unwrap();
        let said = Rc::new(RefCell::new(Vec::new()));
        let notes = said.clone();
        let task = spawn(async move {
            while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
                notes.borrow_mut().push(match message? {
                    AsyncMessage::Notification(notice) => format!("{}: {}", notice.channel(), notice.payload()),
                    AsyncMessage::Notice(notice) => notice.message().to_owned(),
                    _ => continue,
                });
            }
            Ok(())
        });
        Self { client, task, said }
    }

    /// Waits until the server is at a query of somebody's.
    async fn sees(&self, query: &str) {
        let at_it = "SELECT count(*) FROM pg_stat_activity WHERE query = $1 AND state = 'active'";
        while self.client.query_one(at_it, &[&query]).await.unwrap().get::<_, i64>(0) == 0 {}
    }

    /// Takes leave, and waits for the end.
    async fn end(self) {
        drop(self.client);
        self.task.await.unwrap().unwrap();
    }
}

/// A test with the server.
fn with_server(body: impl AsyncFn(&EventLoop, &Postgres)) {
    with(server, async |el, server| body(el, server).await);
}

fn code(error: &Error) -> &SqlState {
    error.code().unwrap_or_else(|| panic!("{error}"))
}

/// Queries of all types, many rows, an error that leaves the connection as it was, and many queries at once.
#[test]
fn queries() {
    with_server(async |_, server| {
        let connected = Connected::new(server).await;
        let client = &connected.client;
        let query = "SELECT $1::text, $2::int8, $3::bytea, NULL::text";
        let row = client.query_one(query, &[&"häß", &7_i64, &&b"\x00\xff"[..]]).await.unwrap();
        assert_eq!((row.get::<_, &str>(0), row.get::<_, i64>(1)), ("häß", 7));
        assert_eq!((row.get::<_, &[u8]>(2), row.get::<_, Option<&str>>(3)), (&b"\x00\xff"[..], None));
        let error = client.query("SELECT 1 / 0", &[]).await.unwrap_err();
        assert_eq!(code(&error), &SqlState::DIVISION_BY_ZERO);
        // Two megabytes, row by row.
        let no_params: [&str; 0] = [];
        let mut rows = pin!(
            client.query_raw("SELECT repeat('x', 1000), n FROM generate_series(0, 1999) n", no_params).await.unwrap()
        );
        let mut count = 0;
        while let Some(row) = rows.try_next().await.unwrap() {
            assert_eq!((row.get::<_, &str>(0).len(), row.get::<_, i32>(1)), (1000, count));
            count += 1;
        }
        assert_eq!(count, 2000);
        // Three megabytes in one value, back and forth.
        let big = "y".repeat(3_000_000);
        assert!(client.query_one("SELECT $1::text", &[&big]).await.unwrap().get::<_, &str>(0) == big);
        // The library sends them without waiting for the answers.
        let square = client.prepare("SELECT $1::int4 * $1").await.unwrap();
        let squares = join_all((0..100_i32).map(|n| {
            let square = &square;
            async move { client.query_one(square, &[&n]).await.unwrap().get::<_, i32>(0) }
        }));
        assert_eq!(squares.await, (0..100).map(|n| n * n).collect::<Vec<_>>());
        connected.end().await;
    });
}

/// What is committed others see, what is rolled back nobody, and dropping a transaction rolls it back.
#[test]
fn transactions() {
    with_server(async |_, server| {
        let mut first = Connected::new(server).await;
        let second = Connected::new(server).await;
        first.client.batch_execute("DROP TABLE IF EXISTS t; CREATE TABLE t (n int4)").await.unwrap();
        assert_eq!(*first.said.borrow(), ["table \"t\" does not exist, skipping"]);
        let seen = async || second.client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get::<_, i64>(0);
        let transaction = first.client.transaction().await.unwrap();
        transaction.execute("INSERT INTO t VALUES (1)", &[]).await.unwrap();
        assert_eq!(seen().await, 0);
        transaction.commit().await.unwrap();
        assert_eq!(seen().await, 1);
        let mut transaction = first.client.transaction().await.unwrap();
        transaction.execute("INSERT INTO t VALUES (2)", &[]).await.unwrap();
        let inner = transaction.transaction().await.unwrap();
        assert!(inner.execute("INSERT INTO nowhere VALUES (2)", &[]).await.is_err());
        inner.rollback().await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(seen().await, 2);
        let transaction = first.client.transaction().await.unwrap();
        transaction.execute("INSERT INTO t VALUES (3)", &[]).await.unwrap();
        drop(transaction);
        // The connection does one thing after the other.
        first.client.batch_execute("SELECT 1").await.unwrap();
        assert_eq!(seen().await, 2);
        first.client.batch_execute("DROP TABLE t").await.unwrap();
        first.end().await;
        second.end().await;
    });
}

/// Two megabytes go in by COPY, and come out again.
#[test]
fn copying() {
    with_server(async |_, server| {
        let connected = Connected::new(server).await;
        let client = &connected.client;
        client.batch_execute("CREATE TEMPORARY TABLE t (n int4, text text)").await.unwrap();
        let mut sink = pin!(client.copy_in("COPY t FROM STDIN").await.unwrap());
        for n in 0..2000 {
            sink.send(bytes::Bytes::from(format!("{n}\t{}\n", "z".repeat(1000)))).await.unwrap();
        }
        assert_eq!(sink.finish().await.unwrap(), 2000);
        let mut stream = pin!(client.copy_out("COPY (SELECT text FROM t ORDER BY n) TO STDOUT").await.unwrap());
        let mut length = 0;
        while let Some(chunk) = stream.try_next().await.unwrap() {
            length += chunk.len();
        }
        assert_eq!(length, 2000 * 1001);
        // One that is given up leaves nothing behind.
        let mut sink = Box::pin(client.copy_in("COPY t FROM STDIN").await.unwrap());
        sink.send(bytes::Bytes::from_static(b"1\tgiven up\n")).await.unwrap();
        drop(sink);
        let count = client.query_one("SELECT count(*) FROM t", &[]).await.unwrap();
        assert_eq!(count.get::<_, i64>(0), 2000);
        connected.end().await;
    });
}

/// One listens, another one notifies, and nothing comes before the commit.
#[test]
fn notifications() {
    with_server(async |_, server| {
        let listener = Connected::new(server).await;
        let mut notifier = Connected::new(server).await;
        listener.client.batch_execute("LISTEN songs").await.unwrap();
        let transaction = notifier.client.transaction().await.unwrap();
        transaction.batch_execute("NOTIFY songs, 'one'; NOTIFY songs, 'two'; NOTIFY dances, 'three'").await.unwrap();
        listener.client.batch_execute("SELECT 1").await.unwrap();
        assert!(listener.said.borrow().is_empty());
        transaction.commit().await.unwrap();
        // They come of their own accord, while nobody asks the server for anything.
        while listener.said.borrow().len() < 2 {
            roundelay::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(*listener.said.borrow(), ["songs: one", "songs: two"]);
        listener.end().await;
        notifier.end().await;
    });
}

/// A query that takes too long is cancelled by a connection of its own, and one whose future is dropped holds nobody up.
#[test]
fn a_query_is_cancelled() {
    with_server(async |_, server| {
        let connected = Connected::new(server).await;
        let client = &connected.client;
        let cancel = async {
            let witness = Connected::new(server).await;
            witness.sees(SLEEP).await;
            witness.end().await;
            let stream = UnixStream::connect(server.socket()).await.unwrap();
            client.cancel_token().cancel_query_raw(stream, NoTls).await.unwrap();
        };
        let (slept, ()) = futures::join!(client.batch_execute(SLEEP), cancel);
        assert_eq!(code(&slept.unwrap_err()), &SqlState::QUERY_CANCELED);
        // The server does not hear of it, but the next query gets its own answer.
        let mut given_up = Box::pin(client.batch_execute("SELECT pg_sleep(0.05)"));
        assert!(futures::poll!(&mut given_up).is_pending());
        // The connection's task sends it.
        roundelay::sleep(Duration::from_millis(5)).await;
        drop(given_up);
        assert_eq!(client.query_one("SELECT 7", &[]).await.unwrap().get::<_, i32>(0), 7);
        connected.end().await;
    });
}

/// The end of a connection is seen: by who waits for an answer, and in the task that has moved the bytes.
#[test]
fn the_end_of_a_connection_is_reported() {
    with_server(async |_, server| {
        let victim = Connected::new(server).await;
        let other = Connected::new(server).await;
        let pid: i32 = victim.client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let waiting = victim.client.batch_execute(SLEEP);
        let kill = async {
            other.sees(SLEEP).await;
            other.client.query_one("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap()
        };
        let (waited, _) = futures::join!(waiting, kill);
        assert_eq!(code(&waited.unwrap_err()), &SqlState::ADMIN_SHUTDOWN);
        let error = victim.task.await.unwrap().unwrap_err();
        assert!(error.is_closed() || error.code().is_some(), "{error}");
        assert!(victim.client.is_closed());
        assert!(victim.client.batch_execute("SELECT 1").await.unwrap_err().is_closed());
        other.end().await;

        // Who knows nobody there is told so.
        let stream = UnixStream::connect(server.socket()).await.unwrap();
        let refused = Config::new().user("nobody of that name").dbname("postgres").connect_raw(stream, NoTls).await;
        assert_eq!(code(&refused.err().unwrap()), &SqlState::INVALID_AUTHORIZATION_SPECIFICATION);
    });
}

/// The example shows what it says.
#[test]
fn the_example_runs() {
    let _alone = alone();
    let Some(server) = server() else { return };
    let mut command = Command::new(example("postgres"));
    let shown = output(command.arg(server.socket()).args(["postgres", "postgres"]));
    let expected = "songs: there is a new one\nfrere jacques for 4 voices\nsumer is icumen in for 6 voices\nthree blind mice for 3 voices\n";
    assert_eq!(String::from_utf8_lossy(&shown), expected);
}

//! Libraries of other runtimes' families on this loop: smol's, whose reactor it drives or does not, and tokio's.

#[path = "../../../tests/common/mod.rs"]
mod common;
#[path = "../../../tests/common/program.rs"]
mod program;

use std::cell::Cell;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;

use async_io::{Async, Timer};
use common::{Kind, alone, complete, run_alone};
use futures::io::{AsyncReadExt, AsyncWriteExt};
use futures::{StreamExt, future::join_all};
use program::{example, output};
use roundelay::{EventLoop, StreamReader, StreamWriter, compat, spawn, start_server, timeout};
use roundelay_ecosystem::DBus;
use zbus::connection::Builder;
use zbus::fdo::DBusProxy;
use zbus::{Connection, interface, proxy};

const MOMENT: Duration = Duration::from_millis(5);

/// Runs a test on each selector, with async-io driven and not. What async-io and tokio open for the process is there before.
fn on_each_loop(body: impl AsyncFn(&EventLoop)) {
    let _alone = alone();
    on_each_loop_alone(body);
}

fn on_each_loop_alone(body: impl AsyncFn(&EventLoop)) {
    drop(Async::new(UnixStream::pair().unwrap().0).unwrap());
    roundelay::block_on(compat::tokio(async {}));
    for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
        for drives in [false, true] {
            run_alone(|| kind.builder().drive_async_io(drives), |el| complete(el, body(el)));
        }
    }
}

/// async-net: a server and many clients on one loop, beside streams of its own.
#[test]
fn async_net() {
    on_each_loop(async |_| {
        let listener = async_net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = spawn(async move {
            let mut incoming = listener.incoming();
            while let Some(stream) = incoming.next().await {
                let stream = stream.unwrap();
                drop(spawn(async move { futures::io::copy(stream.clone(), &mut stream.clone()).await }));
            }
        });
        let clients = (0..20_u8).map(async |n| {
            let data = vec![n; 10_000 * usize::from(n)];
            let mut back = Vec::new();
            if n % 2 == 0 {
                let stream = async_net::TcpStream::connect(address).await.unwrap();
                let (mut reader, mut writer) = (stream.clone(), stream);
                let write = async {
                    writer.write_all(&data).await.unwrap();
                    writer.shutdown(std::net::Shutdown::Write).unwrap();
                };
                let (read, ()) = futures::join!(reader.read_to_end(&mut back), write);
                read.unwrap();
            } else {
                let (mut reader, mut writer) = roundelay::TcpStream::connect(address).await.unwrap().into_split();
                let write = async {
                    writer.write_all(&data).await.unwrap();
                    writer.close().await.unwrap();
                };
                let (read, ()) = futures::join!(reader.read_to_end(&mut back), write);
                read.unwrap();
            }
            assert!(back == data);
        });
        join_all(clients).await;
        assert!(server.cancel_and_wait().await.is_err());
    });
}

/// A bus that all tests share; it ends with this process.
fn bus() -> Option<&'static DBus> {
    static BUS: OnceLock<Option<DBus>> = OnceLock::new();
    BUS.get_or_init(|| DBus::start().unwrap()).as_ref()
}

struct Greeter {
    greeted: u32,
}

#[interface(name = "org.example.Greeter")]
impl Greeter {
    async fn greet(&mut self, name: &str) -> String {
        Timer::after(Duration::from_millis(1)).await;
        self.greeted += 1;
        format!("hello {name}, number {}", self.greeted)
    }

    #[zbus(property)]
    fn greeted(&self) -> u32 {
        self.greeted
    }
}

#[proxy(interface = "org.example.Greeter", default_path = "/org/example/Greeter", assume_defaults = false)]
trait Greeter {
    async fn greet(&self, name: &str) -> zbus::Result<String>;

    #[zbus(property)]
    fn greeted(&self) -> zbus::Result<u32>;
}

/// Runs the connection's executor in a task of the loop.
fn run(connection: &Connection) -> roundelay::CancelOnDrop<()> {
    let executor = connection.executor().clone();
    spawn(async move {
        loop {
            executor.tick().await;
        }
    })
    .cancel_on_drop()
}

/// zbus: an object that is served and called on one loop, by a real bus.
#[test]
fn zbus_over_a_bus() {
    let _alone = alone();
    let Some(bus) = bus() else { return };
    on_each_loop_alone(async |_| {
        let connect = async || {
            let builder = Builder::address(bus.address().as_str()).unwrap().internal_executor(false);
            let connection = builder.build().await.unwrap();
            let executor = run(&connection);
            (connection, executor)
        };
        let (server, server_runs) = connect().await;
        server.object_server().at("/org/example/Greeter", Greeter { greeted: 0 }).await.unwrap();
        server.request_name("org.example.Greeter").await.unwrap();

        let (client, client_runs) = connect().await;
        let greeter = GreeterProxy::new(&client, "org.example.Greeter").await.unwrap();
        assert_eq!(greeter.greet("Ann").await.unwrap(), "hello Ann, number 1");
        let answers = join_all(["Bob", "Cat"].map(|name| greeter.greet(name))).await;
        assert!(answers.iter().all(|answer| answer.as_ref().unwrap().starts_with("hello ")), "{answers:?}");
        assert_eq!(greeter.greeted().await.unwrap(), 3);
        let names = DBusProxy::new(&client).await.unwrap().list_names().await.unwrap();
        assert!(names.iter().any(|name| name.as_str() == "org.example.Greeter"), "{names:?}");
        let error = client.call_method(Some("org.example.Nobody"), "/", None::<&str>, "Ping", &()).await.unwrap_err();
        assert!(error.to_string().contains("org.example.Nobody"), "{error}");

        drop(greeter);
        end(client, client_runs).await;
        end(server, server_runs).await;
    });
}

/// Closes a connection, and lets its own tasks come to their end before nobody runs them any more.
async fn end(connection: Connection, runs: roundelay::CancelOnDrop<()>) {
    let executor = connection.executor().clone();
    connection.close().await.unwrap();
    let come_to_an_end = async {
        while !executor.is_empty() {
            roundelay::sleep(MOMENT / 5).await;
        }
    };
    let _ = timeout(20 * MOMENT, come_to_an_end).await;
    drop(runs);
    roundelay::yield_now().await;
}

/// A web server for the moment: it says which path was asked for, or nothing, for ever, of the path `/never`.
async fn web_server(open: Rc<Cell<i32>>) -> (roundelay::Server, SocketAddr) {
    let server = start_server(
        move |mut reader: StreamReader, mut writer: StreamWriter| {
            let open = open.clone();
            async move {
                open.set(open.get() + 1);
                while let Ok(head) = reader.readuntil(b"\r\n\r\n").await {
                    let head = String::from_utf8(head.to_vec()).unwrap();
                    let path = head.split(' ').nth(1).unwrap().to_owned();
                    if path == "/never" {
                        let _ = reader.read(1).await;
                        break;
                    }
                    let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len());
                    writer.write(text.as_bytes());
                    writer.drain().await.unwrap();
                }
                open.set(open.get() - 1);
            }
        },
        ("127.0.0.1", 0),
    )
    .await
    .unwrap();
    let address = server.local_addrs()[0];
    (server, address)
}

/// reqwest: many requests at a time, one that is given up, an error; and its connections end with it.
#[test]
fn reqwest_of_tokio() {
    on_each_loop(async |_| {
        let open = Rc::new(Cell::new(0));
        let (server, address) = web_server(open.clone()).await;
        let client = reqwest::Client::new();
        let get = |path: String| {
            let request = client.get(format!("http://{address}{path}"));
            compat::tokio(async { request.send().await?.error_for_status()?.text().await })
        };
        let pages = join_all((0..20).map(|n| get(format!("/{n}")))).await;
        for (n, page) in pages.into_iter().enumerate() {
            assert_eq!(page.unwrap(), format!("/{n}"));
        }
        assert!(timeout(MOMENT, get("/never".to_owned())).await.is_err());
        // A limit of tokio's own.
        let limited = client.get(format!("http://{address}/never")).timeout(MOMENT);
        assert!(compat::tokio(async { limited.send().await }).await.unwrap_err().is_timeout());
        compat::tokio(async { drop(client) }).await;
        server.close();
        while open.get() > 0 {
            roundelay::sleep(MOMENT / 5).await;
        }
        server.wait_closed().await;
    });
}

/// The examples do what they say.
#[test]
fn the_examples_work() {
    let _alone = alone();
    let text = |command: &mut Command| String::from_utf8(output(command)).unwrap();
    let shown = text(&mut Command::new(example("async_net_echo")));
    let mut lines: Vec<_> = shown.lines().collect();
    lines.sort();
    assert_eq!(lines, ["client 0", "client 1", "client 2"]);
    if let Some(bus) = bus() {
        let shown = text(Command::new(example("zbus_names")).arg(bus.address()));
        assert!(shown.lines().any(|name| name == "org.freedesktop.DBus"), "{shown}");
        assert!(shown.lines().any(|name| name.starts_with(":1.")), "{shown}");
    }
    roundelay::block_on(async {
        let (server, address) = web_server(Rc::default()).await;
        let mut command = Command::new(example("reqwest_get"));
        command.arg(format!("http://{address}/one")).arg(format!("http://{address}/two"));
        let shown = roundelay::spawn_blocking(move || output(&mut command)).await.unwrap();
        assert_eq!(shown, b"/one/two");
        server.shutdown(Duration::from_secs(1)).await;
    });
}

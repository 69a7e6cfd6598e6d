//! Peers that others have written: curl, and Python's asyncio as a client and as a server.

mod common;
#[path = "common/peers.rs"]
mod peers;
#[path = "common/tcp.rs"]
mod tcp;
#[path = "common/unix.rs"]
mod unix;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::process::Child;
use std::rc::Rc;

use futures::{AsyncReadExt, AsyncWriteExt};
use roundelay::{
    EventLoop, KeepOpen, Protocol, TcpStream, Transport, UnixAddr, UnixStream, open_connection, open_unix_connection,
};

use peers::{EchoToTheEnd, Http, curl, end, end_child, has, on_each_selector, python, run_program, start_child};
use tcp::{LOOPBACK, Recorder, complete, has_ipv6, pattern};

/// TT-01: curl gets what it asks for: several files over one connection, many at once, one that is larger than all
/// buffers, and one over a connection that is closed behind it.
#[test]
fn curl_gets() {
    if !has("curl") {
        return;
    }
    on_each_selector(|el| {
        let server = complete(el, el.create_server(Http::default, LOOPBACK)).unwrap();
        let address = server.local_addrs()[0];
        let mut several = curl();
        several.args((0..5).map(|n| format!("http://{address}/{n}00")));
        let expected: Vec<u8> = (0..5).flat_map(|n| pattern(n * 100)).collect();
        assert!(run_program(el, several, Vec::new()) == expected);
        assert_eq!(el.stats().transports.opened, 1);

        let mut large = curl();
        large.arg(format!("http://{address}/5000000"));
        assert!(run_program(el, large, Vec::new()) == pattern(5_000_000));

        let mut closed = curl();
        closed.args(["--header", "Connection: close"]).arg(format!("http://{address}/1000"));
        assert!(run_program(el, closed, Vec::new()) == pattern(1000));

        let mut parallel = curl();
        parallel.arg("--parallel").args((0..20).map(|_| format!("http://{address}/7")));
        assert!(run_program(el, parallel, Vec::new()) == pattern(7).repeat(20));
        end(el, &server);
    });
}

/// TT-01: curl sends a body and gets it back, large and small, and over IPv6.
#[test]
fn curl_posts() {
    if !has("curl") {
        return;
    }
    on_each_selector(|el| {
        let server = complete(el, el.create_server(Http::default, ("", 0))).unwrap();
        let port = server.local_addrs()[0].port();
        for len in [1, 10_000, 3_000_000] {
            let mut post = curl();
            post.args(["--data-binary", "@-"]).arg(format!("http://127.0.0.1:{port}/"));
            assert!(run_program(el, post, pattern(len)) == pattern(len));
        }
        if has_ipv6() {
            let mut get = curl();
            get.arg(format!("http://[::1]:{port}/42"));
            assert_eq!(run_program(el, get, Vec::new()), pattern(42));
        }
        end(el, &server);
    });
}

/// CL-01: asyncio's streams as clients: they end their side, and get everything and the end.
#[test]
fn asyncio_is_a_client() {
    const CLIENT: &str = r#"
import asyncio, sys

async def one(port, i):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = bytes([i % 256]) * (i * 40000 + 1)
    async def send():
        writer.write(data)
        await writer.drain()
        writer.write_eof()
    sending = asyncio.ensure_future(send())
    got = await reader.read()
    await sending
    assert got == data + b"that was all", (i, len(got))
    writer.close()
    await writer.wait_closed()

async def main(port):
    await asyncio.wait_for(asyncio.gather(*(one(port, i) for i in range(20))), 20)
    print("fine")

asyncio.run(main(int(sys.argv[1])))
"#;
    if !has("python3") {
        return;
    }
    on_each_selector(|el| {
        let server = complete(el, el.create_server(|| EchoToTheEnd, LOOPBACK)).unwrap();
        let mut client = python(CLIENT);
        client.arg(server.local_addrs()[0].port().to_string());
        assert_eq!(run_program(el, client, Vec::new()), b"fine\n");
        assert_eq!(el.stats().transports.opened, 20);
        end(el, &server);
    });
}

/// An asyncio server in a process of its own; it ends when its standard input does.
struct AsyncioServer {
    child: Child,
    address: SocketAddr,
}

impl AsyncioServer {
    /// Answers by lines: `echo` sends back what follows until the end, `reset` ends the connection with a reset, `wait`
    /// closes at once.
    const SERVER: &'static str = r#"
import asyncio, socket, struct, sys

async def handle(reader, writer):
    what = await reader.readline()
    if what == b"echo\n":
        while True:
            data = await reader.read(65536)
            if not data:
                break
            writer.write(data)
            await writer.drain()
        writer.write(b"that was all")
    elif what == b"reset\n":
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        return
    elif what == b"bye\n":
        writer.write(b"bye")
    writer.close()

async def main():
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()

asyncio.run(main())
"#;

    fn start(el: &EventLoop) -> Self {
        let (child, line) = start_child(el, python(Self::SERVER));
        let port: u16 = line.trim().parse().expect("the server says its port");
        Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }
}

/// CL-01, TT-04: an asyncio server, and this side's three kinds of clients: bytes, ends and resets are understood alike.
#[test]
fn asyncio_is_a_server() {
    if !has("python3") {
        return;
    }
    on_each_selector(|el| {
        let server = AsyncioServer::start(el);
        let address = server.address;
        let data = pattern(3_000_000);

        // A protocol.
        for (ask, heard) in [
            ("bye\n", ["made", "data bye", "eof", "lost"].as_slice()),
            ("close\n", &["made", "eof", "lost"]),
            ("reset\n", &["made", "lost ConnectionReset"]),
        ] {
            let recorder = Recorder::new();
            let given = recorder.clone();
            let (transport, _) = complete(el, el.create_connection(move || given, address)).unwrap();
            transport.write(ask.as_bytes());
            common::run_until(el, || transport.protocol().is_none());
            assert_eq!(recorder.take(), heard);
        }

        // Streams.
        complete(el, async {
            let (mut reader, mut writer) = open_connection(address).await.unwrap();
            let send = async {
                writer.write(b"echo\n");
                writer.write(&data);
                writer.drain().await.unwrap();
                writer.write_eof();
            };
            let (got, ()) = futures::join!(reader.readexactly(data.len() + 12), send);
            let got = got.unwrap();
            assert!(got.starts_with(&data) && got.ends_with(b"that was all"));
        });

        // The plain type.
        complete(el, async {
            let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
            let send = async {
                write.write_all(b"echo\n").await.unwrap();
                write.write_all(&data).await.unwrap();
                write.close().await.unwrap();
            };
            let mut got = Vec::new();
            let (read, ()) = futures::join!(read.read_to_end(&mut got), send);
            read.unwrap();
            assert!(got.starts_with(&data) && got.ends_with(b"that was all"));

            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"reset\n").await.unwrap();
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        });
        end_child(el, server.child);
    });
}

/// UN-01: asyncio's streams as clients of a unix server, by path and by abstract name; the server knows who they are.
#[test]
fn asyncio_is_a_unix_client() {
    const CLIENT: &str = r#"
import asyncio, os, sys

async def one(path, i):
    reader, writer = await asyncio.open_unix_connection(path)
    assert writer.get_extra_info("peername") == (path if path[0] != "\0" else path.encode())
    data = bytes([i % 256]) * (i * 40000 + 1)
    async def send():
        writer.write(data)
        await writer.drain()
        writer.write_eof()
    sending = asyncio.ensure_future(send())
    got = await reader.read()
    await sending
    assert got == data + b"that was all", (i, len(got))
    writer.close()
    await writer.wait_closed()

async def main(path):
    path = path.replace("@", "\0", 1)
    await asyncio.wait_for(asyncio.gather(*(one(path, i) for i in range(20))), 20)
    print(os.getpid())

asyncio.run(main(sys.argv[1]))
"#;
    /// Notes the processes at the other ends.
    struct Asking(EchoToTheEnd, Rc<RefCell<Vec<i32>>>);
    impl Protocol for Asking {
        fn connection_made(&mut self, transport: &Transport) {
            let peer = transport.extra_info().peer_credentials.unwrap();
            assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
            self.1.borrow_mut().extend(peer.pid);
        }
        fn data_received(&mut self, transport: &Transport, data: &[u8]) {
            self.0.data_received(transport, data);
        }
        fn eof_received(&mut self, transport: &Transport) -> KeepOpen {
            self.0.eof_received(transport)
        }
        fn pause_writing(&mut self, transport: &Transport) {
            self.0.pause_writing(transport);
        }
        fn resume_writing(&mut self, transport: &Transport) {
            self.0.resume_writing(transport);
        }
    }
    if !has("python3") {
        return;
    }
    let name = unix::abstract_name("served");
    let abstract_text = format!("@{}", String::from_utf8_lossy(name.as_abstract_name().unwrap()));
    on_each_selector(|el| {
        // Within, for it is opened when it is removed, and another test might count that.
        let folder = unix::Folder::new();
        let path = folder.path("served");
        for (address, text) in [(UnixAddr::from(&path), path.to_str().unwrap()), (name.clone(), &abstract_text)] {
            let peers = Rc::<RefCell<Vec<i32>>>::default();
            let noted = peers.clone();
            let server =
                complete(el, el.create_unix_server(move || Asking(EchoToTheEnd, noted.clone()), address)).unwrap();
            let mut client = python(CLIENT);
            client.arg(text);
            let said = String::from_utf8(run_program(el, client, Vec::new())).unwrap();
            assert_eq!(peers.take(), [said.trim().parse().unwrap(); 20]);
            end(el, &server);
        }
        assert!(folder.names().is_empty());
    });
}

/// UN-01, SR-01: an asyncio unix server, and this side's three kinds of clients.
#[test]
fn asyncio_is_a_unix_server() {
    const SERVER: &str = r#"
import asyncio, os, sys

async def handle(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write(b"that was all")
    writer.close()

async def main():
    server = await asyncio.start_unix_server(handle, sys.argv[1])
    print(os.getpid(), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()

asyncio.run(main())
"#;
    if !has("python3") {
        return;
    }
    on_each_selector(|el| {
        let folder = unix::Folder::new();
        let path = folder.path("asyncio");
        let mut command = python(SERVER);
        command.arg(&path);
        let (server, first) = start_child(el, command);
        let pid = Some(first.trim().parse().expect("the server says its number"));
        let data = pattern(3_000_000);

        let recorder = Recorder::new();
        let given = recorder.clone();
        let (transport, _) = complete(el, el.create_unix_connection(move || given, &path)).unwrap();
        assert_eq!(transport.extra_info().peer_credentials.unwrap().pid, pid);
        transport.write_eof();
        common::run_until(el, || transport.protocol().is_none());
        assert_eq!(recorder.take(), ["made", "data that was all", "eof", "lost"]);

        complete(el, async {
            let (mut reader, mut writer) = open_unix_connection(&path).await.unwrap();
            let send = async {
                writer.write(&data);
                writer.drain().await.unwrap();
                writer.write_eof();
            };
            let (got, ()) = futures::join!(reader.readexactly(data.len() + 12), send);
            let got = got.unwrap();
            assert!(got.starts_with(&data) && got.ends_with(b"that was all"));
        });

        complete(el, async {
            let stream = UnixStream::connect(&path).await.unwrap();
            assert_eq!(stream.peer_cred().unwrap().pid, pid);
            let (mut read, mut write) = stream.into_split();
            let send = async {
                write.write_all(&data).await.unwrap();
                write.close().await.unwrap();
            };
            let mut got = Vec::new();
            let (read, ()) = futures::join!(read.read_to_end(&mut got), send);
            read.unwrap();
            assert!(got.starts_with(&data) && got.ends_with(b"that was all"));
        });
        end_child(el, server);
    });
}

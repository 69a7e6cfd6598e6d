//! Connections that change to TLS, and to TLS within TLS, with Python's asyncio at the other end.

#![cfg(feature = "__tls")]

#[path = "common/certificates.rs"]
mod certificates;
mod common;
#[path = "common/held.rs"]
mod held;
#[path = "common/peers.rs"]
mod peers;
#[path = "common/tcp.rs"]
mod tcp;

use std::io;
use std::process::Command;

use bytes::BytesMut;
use roundelay::{Protocol, Transport, get_running_loop, spawn};

use certificates::{acceptor, connector};
use common::{Log, run_until};
use held::{Held, files};
use peers::{end, end_child, has, on_each_selector, python, run_program, start_child};
use tcp::{LOOPBACK, Recorder, complete};

/// What is sent as a whole, of one letter.
const MUCH: usize = 1_000_000;

/// Answers by lines, and changes to TLS as often as it is asked to.
struct Upgrading {
    received: BytesMut,
    /// How many layers of TLS there are.
    depth: usize,
    log: Log,
}

impl Upgrading {
    fn new(depth: usize, log: &Log) -> Self {
        Self { received: BytesMut::new(), depth, log: log.clone() }
    }
}

impl Protocol for Upgrading {
    fn connection_made(&mut self, transport: &Transport) {
        self.log.push("made");
        transport.write(b"welcome\n");
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        self.received.extend_from_slice(data);
        while let Some(end) = self.received.iter().position(|&byte| byte == b'\n') {
            let line = self.received.split_to(end + 1);
            match &line[..end] {
                b"depth" => {
                    let depth = if transport.extra_info().tls.is_some() { self.depth } else { 0 };
                    transport.write(format!("{depth}\n").as_bytes());
                }
                b"much" => transport.write_owned(vec![b'x'; MUCH]),
                b"bye" => transport.close(),
                b"STARTTLS" => {
                    transport.write(b"go on\n");
                    // What the peer has sent already belongs to TLS.
                    transport.unread(&self.received);
                    let upper = Upgrading::new(self.depth + 1, &self.log);
                    let changing = get_running_loop().unwrap().start_tls(transport.clone(), upper, acceptor());
                    drop(spawn(async move { changing.await.unwrap() }));
                    return;
                }
                long => transport.write(format!("{} bytes\n", long.len()).as_bytes()),
            }
        }
    }
    fn connection_lost(&mut self, _: &Transport, error: Option<io::Error>) {
        self.log.push(format!("lost {} {error:?}", self.depth));
    }
}

fn python_of(script: &str, files: &Held) -> Command {
    let mut command = python(script);
    command.arg(files.folder.path());
    command
}

/// TL-14, TL-15: asyncio's two ways to begin TLS, streams and transports, and TLS within TLS. What is sent before goes in
/// clear, what is sent after is encrypted, much of it, too; the protocol that has taken over hears the end.
#[test]
fn asyncio_begins_tls() {
    const CLIENT: &str = r#"
import asyncio, ssl, sys
MUCH = 1_000_000

async def streams(port, context, layers):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await reader.readline() == b"welcome\n"
    for depth in range(layers + 1):
        writer.write(b"depth\n")
        assert await reader.readline() == b"%d\n" % depth
        if depth < layers:
            writer.write(b"STARTTLS\n")
            assert await reader.readline() == b"go on\n"
            await writer.start_tls(context, server_hostname="localhost")
    writer.write(b"much\n" + b"y" * MUCH + b"\n")
    assert await reader.readexactly(MUCH) == b"x" * MUCH
    assert await reader.readline() == b"%d bytes\n" % MUCH
    writer.write(b"bye\n")
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()

class Lines(asyncio.Protocol):
    def __init__(self):
        self.lines = asyncio.Queue()
        self.rest = b""
    def data_received(self, data):
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.lines.put_nowait(line)
    def connection_lost(self, error):
        self.lines.put_nowait(error)

async def transports(port, context, layers):
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(Lines, "127.0.0.1", port)
    assert await protocol.lines.get() == b"welcome"
    for depth in range(layers + 1):
        transport.write(b"depth\n")
        assert await protocol.lines.get() == b"%d" % depth
        if depth < layers:
            transport.write(b"STARTTLS\n")
            assert await protocol.lines.get() == b"go on"
            transport = await loop.start_tls(transport, protocol, context, server_hostname="localhost")
    transport.write(b"bye\n")
    assert await protocol.lines.get() is None
    transport.close()

async def main(folder, port):
    context = ssl.create_default_context(cafile=folder + "/ca.pem")
    each = [kind(port, context, layers) for kind in (streams, transports) for layers in (1, 2)]
    await asyncio.wait_for(asyncio.gather(*each), 20)
    print("fine")

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"#;
    if !has("python3") {
        return;
    }
    let files = files();
    on_each_selector(|el| {
        let log = Log::new();
        let given = log.clone();
        let server = complete(el, el.create_server(move || Upgrading::new(0, &given), LOOPBACK)).unwrap();
        let mut client = python_of(CLIENT, &files);
        client.arg(server.local_addrs()[0].port().to_string());
        assert_eq!(run_program(el, client, Vec::new()), b"fine\n");
        run_until(el, || server.connections() == 0);
        let mut heard = log.take();
        heard.sort();
        assert_eq!(heard[..4], ["lost 1 None", "lost 1 None", "lost 2 None", "lost 2 None"]);
        assert_eq!(heard[4..], ["made"; 4]);
        end(el, &server);
    });
}

/// TL-14, TL-15: an asyncio server that begins TLS when it is asked to, once and twice, by its streams and by its
/// transports.
#[test]
fn asyncio_is_asked_to_begin_tls() {
    const SERVER: &str = r#"
import asyncio, ssl, sys

async def streams(reader, writer):
    depth = 0
    while line := await reader.readline():
        if line == b"STARTTLS\n":
            writer.write(b"go on\n")
            await writer.drain()
            await writer.start_tls(context)
            depth += 1
            writer.write(b"depth %d\n" % depth)
        else:
            writer.write(b"%d bytes\n" % (len(line) - 1))
    writer.close()

class Upgrading(asyncio.Protocol):
    def __init__(self, depth):
        self.depth = depth
        self.rest = b""
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            if line == b"STARTTLS":
                self.transport.pause_reading()
                self.transport.write(b"go on\n")
                self.task = asyncio.ensure_future(self.change())
            else:
                self.transport.write(b"%d bytes\n" % len(line))
    async def change(self):
        upper = Upgrading(self.depth + 1)
        loop = asyncio.get_running_loop()
        upper.transport = await loop.start_tls(self.transport, upper, context, server_side=True)
        upper.transport.write(b"depth %d\n" % upper.depth)

async def main(folder):
    global context
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder + "/cert.pem", folder + "/key.pem")
    first = await asyncio.start_server(streams, "127.0.0.1", 0, limit=2 ** 22)
    loop = asyncio.get_running_loop()
    second = await loop.create_server(lambda: Upgrading(0), "127.0.0.1", 0)
    print(*(server.sockets[0].getsockname()[1] for server in (first, second)), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    first.close()
    second.close()

asyncio.run(main(sys.argv[1]))
"#;
    if !has("python3") {
        return;
    }
    let files = files();
    on_each_selector(|el| {
        let (server, line) = start_child(el, python_of(SERVER, &files));
        for port in line.split_whitespace().map(|port| port.parse::<u16>().unwrap()) {
            for layers in [1, 2] {
                let recorder = Recorder::new();
                let given = recorder.clone();
                let (mut transport, _) =
                    complete(el, el.create_connection(move || given, ("127.0.0.1", port))).unwrap();
                let hear = |expected: &str| {
                    run_until(el, || recorder.0.len() > 0);
                    assert_eq!(recorder.take().concat(), expected);
                };
                hear("made");
                for depth in 1..=layers {
                    transport.write(b"STARTTLS\n");
                    hear("data go on\n");
                    let changing = el.start_tls(transport.clone(), recorder.clone(), connector());
                    transport = complete(el, changing.server_hostname("localhost")).unwrap();
                    hear(&format!("data depth {depth}\n"));
                }
                assert!(transport.extra_info().tls.is_some());
                let mut much = vec![b'y'; MUCH];
                much.push(b'\n');
                transport.write_owned(much);
                hear(&format!("data {MUCH} bytes\n"));
                transport.close();
                run_until(el, || transport.protocol().is_none());
                assert_eq!(recorder.take().last().unwrap(), "lost");
            }
        }
        end_child(el, server);
    });
}

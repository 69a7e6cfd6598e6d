//! TLS with peers that others have written: curl, Python's `ssl` module, and its asyncio, as clients and as servers.

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
#[path = "common/witness.rs"]
mod witness;

use std::cell::RefCell;
use std::io;
use std::process::{Child, Command};
use std::rc::Rc;

use roundelay::{
    ClientAuth, EventLoop, Server, StreamReader, StreamWriter, TlsAcceptor, TlsConnector, TlsVersion, open_connection,
    start_server,
};

use certificates::{Authority, acceptor};
use held::{Held, files, identity};
use peers::{Http, curl, end, end_child, has, on_each_selector, python, run_output, run_program, start_child};
use tcp::{LOOPBACK, complete, pattern};
use witness::Witness;

/// What is sent as a whole.
const MUCH: usize = 5_000_000;

/// A small web server behind TLS, which speaks HTTP/1.1 only.
fn serve_https(el: &EventLoop, acceptor: TlsAcceptor) -> (Server, Witness, u16) {
    let witness = Witness::new();
    let server = complete(el, el.create_server(witness.around(Http::default), LOOPBACK).tls(acceptor)).unwrap();
    let port = server.local_addrs()[0].port();
    (server, witness, port)
}

fn https(files: &Held) -> Command {
    let mut command = curl();
    command.args(["--ipv4", "--cacert"]).arg(&files.ca);
    command
}

/// TL-01: curl gets what it asks for over either version of TLS: several files over one connection, one larger than all
/// buffers, one over a connection that is closed behind it. HTTP/1.1 is agreed on by ALPN, though curl would like HTTP/2.
#[test]
fn curl_gets() {
    if !has("curl") {
        return;
    }
    let files = files();
    on_each_selector(|el| {
        let acceptor = TlsAcceptor::builder().identity(identity()).alpn(["http/1.1"]).build().unwrap();
        let (server, witness, port) = serve_https(el, acceptor);
        for (version, option) in [(TlsVersion::Tls12, "1.2"), (TlsVersion::Tls13, "1.3")] {
            let https = || {
                let mut command = https(&files);
                command.args(["--tls-max", option]);
                command
            };
            let mut several = https();
            several.args((0..5).map(|n| format!("https://localhost:{port}/{n}00")));
            let expected: Vec<u8> = (0..5).flat_map(|n| pattern(n * 100)).collect();
            assert!(run_program(el, several, Vec::new()) == expected);

            let mut large = https();
            large.args(["--write-out", "%{http_version}"]).arg(format!("https://127.0.0.1:{port}/{MUCH}"));
            let got = run_program(el, large, Vec::new());
            assert!(got[..MUCH] == pattern(MUCH) && &got[MUCH..] == b"1.1");

            let mut closed = https();
            closed.args(["--header", "Connection: close"]).arg(format!("https://localhost:{port}/1000"));
            assert!(run_program(el, closed, Vec::new()) == pattern(1000));

            let connections = witness.take();
            assert!(connections.iter().all(|tls| tls.version == version), "{connections:?}");
            assert!(connections.iter().all(|tls| tls.alpn_protocol.as_deref() == Some(b"http/1.1")), "{connections:?}");
            // An address is no name that could be asked for.
            let names: Vec<_> = connections.iter().map(|tls| tls.server_name.as_deref()).collect();
            assert_eq!(names, [Some("localhost"), None, Some("localhost")]);
        }
        let mut parallel = https(&files);
        parallel.arg("--parallel").args((0..20).map(|_| format!("https://localhost:{port}/7")));
        assert!(run_program(el, parallel, Vec::new()) == pattern(7).repeat(20));
        end(el, &server);
    });
}

/// TL-13: curl sends 5 MB and gets them back while it sends.
#[test]
fn curl_posts() {
    if !has("curl") {
        return;
    }
    let files = files();
    on_each_selector(|el| {
        let (server, witness, port) = serve_https(el, acceptor());
        for len in [1, 10_000, MUCH] {
            let mut post = https(&files);
            post.args(["--data-binary", "@-"]).arg(format!("https://localhost:{port}/"));
            assert!(run_program(el, post, pattern(len)) == pattern(len));
        }
        // curl offers some protocols, and the server has none to choose from.
        assert!(witness.take().iter().all(|tls| tls.alpn_protocol.is_none()));
        end(el, &server);
    });
}

/// TL-02, TL-03, TL-04: curl refuses a server that somebody else vouches for, of which no protocol hears, and one of another
/// name. Nothing is reported, and the next client is served.
#[test]
fn curl_refuses() {
    /// curl's exit code for a certificate that it cannot trust.
    const NOT_TRUSTED: i32 = 60;
    if !has("curl") {
        return;
    }
    let files = files();
    let other = files.add("other.pem", &Authority::new("somebody else").pem());
    on_each_selector(|el| {
        let (server, witness, port) = serve_https(el, acceptor());
        for version in ["1.2", "1.3"] {
            let mut stranger = curl();
            stranger.args(["--tls-max", version, "--cacert"]).arg(&other);
            stranger.arg(format!("https://127.0.0.1:{port}/1"));
            assert_eq!(run_output(el, stranger, Vec::new()).status.code(), Some(NOT_TRUSTED));
            assert_eq!(witness.len(), 0);

            let mut misnamed = https(&files);
            misnamed.args(["--tls-max", version, "--resolve", &format!("other.example:{port}:127.0.0.1")]);
            misnamed.arg(format!("https://other.example:{port}/1"));
            assert_eq!(run_output(el, misnamed, Vec::new()).status.code(), Some(NOT_TRUSTED));
            // curl itself compares names, which is after the handshake.
            common::run_until(el, || witness.len() == 1);
            witness.take();
        }
        let mut served = https(&files);
        served.arg(format!("https://localhost:{port}/10"));
        assert_eq!(run_program(el, served, Vec::new()), pattern(10));
        assert_eq!(witness.len(), 1);
        end(el, &server);
    });
}

/// TL-01: curl shows who it is where that is asked for; without a certificate it is not let in.
#[test]
fn curl_has_a_certificate() {
    if !has("curl") {
        return;
    }
    let files = files();
    let client = files.client();
    let [cert, key] = ["client.pem", "client.key"].map(|name| files.path(name));
    on_each_selector(|el| {
        let acceptor = TlsAcceptor::builder()
            .identity(identity())
            .client_auth(ClientAuth::Required)
            .client_roots_from_pem_file(&files.ca)
            .build()
            .unwrap();
        let (server, witness, port) = serve_https(el, acceptor);
        for version in ["1.2", "1.3"] {
            let mut anonymous = https(&files);
            anonymous.args(["--tls-max", version]).arg(format!("https://localhost:{port}/10"));
            assert!(!run_output(el, anonymous, Vec::new()).status.success());
            assert_eq!(witness.len(), 0);

            let mut known = https(&files);
            known.args(["--tls-max", version, "--cert"]).arg(&cert).arg("--key").arg(&key);
            known.arg(format!("https://localhost:{port}/10"));
            assert_eq!(run_program(el, known, Vec::new()), pattern(10));
            let connections = witness.take();
            assert_eq!(connections.len(), 1);
            // It shows the authority's, too.
            assert_eq!(&*connections[0].peer_certificates[0], client.chain().next().unwrap());
        }
        end(el, &server);
    });
}

/// What the server of [`serve`] has been sent by those who said `take`.
type Taken = Rc<RefCell<Vec<io::Result<Vec<u8>>>>>;

/// Does what the first line says. `take`: reads to the end. `give`: sends much, and closes. `both`: sends back much. `wait`:
/// waits for the end.
async fn handle(mut reader: StreamReader, mut writer: StreamWriter, taken: Taken) -> io::Result<()> {
    match &*reader.readline().await? {
        b"take\n" => {
            let got = reader.read_to_end().await;
            taken.borrow_mut().push(got);
        }
        b"give\n" => writer.write_owned(pattern(MUCH)),
        b"both\n" => {
            let mut left = MUCH;
            while left > 0 {
                let data = reader.read(64 * 1024).await?;
                assert!(!data.is_empty(), "{left} bytes are missing");
                left -= data.len();
                writer.write_owned(data);
                writer.drain().await?;
            }
        }
        b"wait\n" => assert_eq!(reader.read(1).await?, b""),
        other => panic!("{other:?}"),
    }
    writer.close();
    writer.wait_closed().await
}

fn serve(el: &EventLoop, acceptor: TlsAcceptor) -> (Server, Taken, u16) {
    let taken = Taken::default();
    let given = taken.clone();
    let server = complete(el, async {
        start_server(move |reader, writer| handle(reader, writer, given.clone()), LOOPBACK).tls(acceptor).await
    });
    let server = server.unwrap();
    let port = server.local_addrs()[0].port();
    (server, taken, port)
}

/// What Python's sides have in common.
const PYTHON: &str = r#"
import asyncio, socket, ssl, sys
DATA = bytes(i % 251 for i in range(251)) * (5_000_000 // 251 + 1)
DATA = DATA[:5_000_000]

def client_side(files):
    return ssl.create_default_context(cafile=files + "/ca.pem")

def server_side(files):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files + "/cert.pem", files + "/key.pem")
    return context
"#;

fn python_of_tls(script: &str, files: &Held) -> Command {
    let mut command = python(&format!("{PYTHON}{script}"));
    command.arg(files.folder.path());
    command
}

/// TL-01, CL-01: asyncio's streams as clients: 5 MB that are written before either side closes arrive whole, and so do those
/// that go both ways at once.
#[test]
fn asyncio_is_a_client() {
    const CLIENT: &str = r#"
async def connect(port, context):
    return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")

async def take(*where):
    reader, writer = await connect(*where)
    writer.write(b"take\n")
    writer.write(DATA)
    writer.close()
    await writer.wait_closed()

async def give(*where):
    reader, writer = await connect(*where)
    writer.write(b"give\n")
    assert await reader.read() == DATA
    writer.close()
    await writer.wait_closed()

async def both(*where):
    reader, writer = await connect(*where)
    writer.write(b"both\n")
    writer.write(DATA)
    got, _ = await asyncio.gather(reader.readexactly(len(DATA)), writer.drain())
    assert got == DATA
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()

async def main(files, port):
    context = client_side(files)
    each = [each(port, context) for _ in range(3) for each in (take, give, both)]
    await asyncio.wait_for(asyncio.gather(*each), 60)
    print("fine")

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"#;
    if !has("python3") {
        return;
    }
    let files = files();
    on_each_selector(|el| {
        let (server, taken, port) = serve(el, acceptor());
        let mut client = python_of_tls(CLIENT, &files);
        client.arg(port.to_string());
        assert_eq!(run_program(el, client, Vec::new()), b"fine\n");
        common::run_until(el, || taken.borrow().len() == 3);
        assert!(taken.take().into_iter().all(|got| got.unwrap() == pattern(MUCH)));
        end(el, &server);
    });
}

/// TL-29, TL-33: Python's `ssl` module as a client, which does as it is told: it is told the end by a `close_notify` and
/// gives one; it says so first and is answered; and it just hangs up, which is an end of file, or an error where that is
/// wanted.
#[test]
fn python_is_a_client() {
    const CLIENT: &str = r#"
def connect(version=ssl.TLSVersion.MAXIMUM_SUPPORTED):
    sock = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
    context = client_side(sys.argv[1])
    context.maximum_version = version
    return context.wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False)

def to_the_end(sock):
    got = b""
    while data := sock.recv(65536):
        got += data
    return got

# The server ends.
sock = connect()
sock.sendall(b"give\n")
assert to_the_end(sock) == DATA
plain = sock.unwrap()
assert plain.recv(1) == b""
plain.close()

# The client does, and hears of the other's end.
for what in (b"take\n" + DATA, b"wait\n"):
    sock = connect()
    sock.sendall(what)
    plain = sock.unwrap()
    assert plain.recv(1) == b""
    plain.close()

# Without a word. With TLS 1.3 there would be tickets that it has not read, for which the system would send a reset.
sock = connect(ssl.TLSVersion.TLSv1_2)
sock.sendall(b"take\nhello")
sock.close()
print("fine")
"#;
    if !has("python3") {
        return;
    }
    let files = files();
    on_each_selector(|el| {
        for strict in [false, true] {
            let acceptor = TlsAcceptor::builder().identity(identity()).require_close_notify(strict).build().unwrap();
            let (server, taken, port) = serve(el, acceptor);
            let mut client = python_of_tls(CLIENT, &files);
            client.arg(port.to_string());
            assert_eq!(run_program(el, client, Vec::new()), b"fine\n");
            common::run_until(el, || taken.borrow().len() == 2);
            let [whole, ragged] = <[_; 2]>::try_from(taken.take()).unwrap();
            assert!(whole.unwrap() == pattern(MUCH));
            match ragged {
                Ok(data) => assert!(!strict && data == b"hello"),
                Err(error) => assert!(strict && error.kind() == io::ErrorKind::UnexpectedEof, "{error}"),
            }
            end(el, &server);
            // The handler has passed it on.
            let reports = common::take_reports();
            assert_eq!(reports.len(), usize::from(strict));
            assert!(reports.iter().all(|report| report.contains("there was no close_notify")), "{reports:?}");
        }
    });
}

/// An asyncio server in a process of its own; it ends when its standard input does. `take`, `give` and `both` are those of
/// [`handle`]; `told` tells what was taken.
const ASYNCIO_SERVER: &str = r#"
async def main(files):
    taken = asyncio.Queue()

    async def handle(reader, writer):
        what = await reader.readline()
        if what == b"take\n":
            got = await reader.read()
            taken.put_nowait(b"whole" if got == DATA else b"%d bytes" % len(got))
        elif what == b"told\n":
            writer.write(await taken.get())
        elif what == b"give\n":
            writer.write(DATA)
        elif what == b"both\n":
            left = len(DATA)
            while left:
                data = await reader.read(65536)
                left -= len(data)
                writer.write(data)
                await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=server_side(files))
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()

asyncio.run(main(sys.argv[1]))
"#;

/// Its first line is its port.
fn start_server_of(el: &EventLoop, script: &str, files: &Held) -> (Child, u16) {
    let (child, line) = start_child(el, python_of_tls(script, files));
    (child, line.trim().parse().expect("the server says its port"))
}

async fn connect(port: u16, connector: &TlsConnector) -> (StreamReader, StreamWriter) {
    open_connection(("127.0.0.1", port)).tls(connector.clone()).server_hostname("localhost").await.unwrap()
}

/// TL-01, CL-01: an asyncio server; what it gets is whole, and so is what it gives. It ends its side properly.
#[test]
fn asyncio_is_a_server() {
    if !has("python3") {
        return;
    }
    let files = files();
    on_each_selector(|el| {
        let (server, port) = start_server_of(el, ASYNCIO_SERVER, &files);
        let connector =
            TlsConnector::builder().roots_from_pem_file(&files.ca).require_close_notify(true).build().unwrap();
        complete(el, async {
            let (_reader, mut writer) = connect(port, &connector).await;
            writer.write(b"take\n");
            writer.write_owned(pattern(MUCH));
            writer.close();
            writer.wait_closed().await.unwrap();
            let (mut reader, mut writer) = connect(port, &connector).await;
            writer.write(b"told\n");
            assert_eq!(reader.read_to_end().await.unwrap(), b"whole");

            let (mut reader, mut writer) = connect(port, &connector).await;
            writer.write(b"give\n");
            assert!(reader.read_to_end().await.unwrap() == pattern(MUCH));

            let (mut reader, mut writer) = connect(port, &connector).await;
            writer.write(b"both\n");
            writer.write_owned(pattern(MUCH));
            assert!(reader.read_to_end().await.unwrap() == pattern(MUCH));
            assert!(writer.extra_info().tls.is_none_or(|tls| tls.version == TlsVersion::Tls13));
            writer.close();
            writer.wait_closed().await.unwrap();
        });
        end_child(el, server);
    });
}

/// TL-33: a server of Python's `ssl` module that says `close_notify`, and one that does not.
#[test]
fn python_is_a_server() {
    const SERVER: &str = r#"
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
context = server_side(sys.argv[1])
for properly in (True, False, True, False):
    sock, _ = listener.accept()
    sock = context.wrap_socket(sock, server_side=True)
    sock.sendall(DATA)
    if properly:
        sock = sock.unwrap()
        assert sock.recv(1) == b""
    sock.close()
"#;
    if !has("python3") {
        return;
    }
    let files = files();
    on_each_selector(|el| {
        let (server, port) = start_server_of(el, SERVER, &files);
        for strict in [false, true] {
            let connector = TlsConnector::builder().roots_from_pem_file(&files.ca).require_close_notify(strict);
            let connector = connector.build().unwrap();
            for properly in [true, false] {
                let (mut reader, mut writer) = complete(el, connect(port, &connector));
                let got = complete(el, async { reader.readexactly(MUCH).await });
                assert!(got.unwrap() == pattern(MUCH));
                match complete(el, async { reader.read(1).await }) {
                    Ok(data) => assert!(data.is_empty() && (properly || !strict)),
                    Err(error) => {
                        assert!(!properly && strict && error.kind() == io::ErrorKind::UnexpectedEof, "{error}");
                    }
                }
                writer.close();
                let ended = complete(el, async { writer.wait_closed().await });
                assert_eq!(ended.is_ok(), properly || !strict);
            }
        }
        end_child(el, server);
    });
}

//! Datagrams to and from peers that others have written (Python's sockets and asyncio), and what an endpoint that nobody
//! has closed is warned of.

#[path = "common/collector.rs"]
mod collector;
mod common;
#[path = "common/datagrams.rs"]
mod datagrams;

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Kind, Log, alone, complete, run, run_until};
use datagrams::{Echo, Idle, LOOPBACK, Recorder, bound, close, connected, local, unix_path, wait_for};
use roundelay::{Address, DatagramProtocol, EventLoop};

/// Whether there is a Python; says so if there is none.
fn has_python() -> bool {
    // Starting a program takes descriptors for a moment.
    let _alone = alone();
    let has = Command::new("python3").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !has {
        eprintln!("SKIPPED: there is no python3");
    }
    has
}

/// Runs a script while the loop goes on, and gives what it has printed.
#[track_caller]
fn python(el: &EventLoop, script: &'static str, arguments: Vec<String>) -> String {
    let job = el.run_in_executor(None, move || Command::new("python3").args(["-c", script]).args(arguments).output());
    let output = complete(el, job).unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a test on each selector, and ends the executor that it has used.
fn on_each_selector(body: impl Fn(&EventLoop)) {
    for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
        run(kind, false, |el| {
            body(el);
            assert!(complete(el, el.shutdown_default_executor(None)));
        });
    }
}

const ASYNCIO_CLIENT: &str = r#"
import asyncio, sys

class Client(asyncio.DatagramProtocol):
    def __init__(self):
        self.received = asyncio.Queue()
    def datagram_received(self, data, addr):
        self.received.put_nowait((data, addr))

async def main(port):
    loop = asyncio.get_running_loop()
    transport, client = await loop.create_datagram_endpoint(Client, remote_addr=("127.0.0.1", port))
    for size in (1, 64, 1400, 9000, 65507):
        for n in range(20 if size < 9000 else 1):
            transport.sendto(bytes([n]) * size)
        for n in range(20 if size < 9000 else 1):
            data, addr = await asyncio.wait_for(client.received.get(), 20)
            assert data == bytes([n]) * size, (n, size, len(data))
            assert addr == ("127.0.0.1", port), addr
    transport.close()

asyncio.run(main(int(sys.argv[1])))
print("all came back")
"#;

const SOCKET_CLIENT: &str = r#"
import socket, sys
path, own = sys.argv[1:]
sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sock.settimeout(20)
sock.bind(own)
for size in (0, 1, 64, 9000, 100000):
    data = b"x" * size
    sock.sendto(data, path)
    back, addr = sock.recvfrom(200000)
    assert (back, addr) == (data, path), (len(back), addr)
print("all came back")
"#;

const ASYNCIO_SERVER: &str = r#"
import asyncio, sys

class Reverse(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport
    def datagram_received(self, data, addr):
        self.transport.sendto(data[::-1], addr)
        if data == b"":
            done.set_result(None)

async def main(port):
    global done
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    transport, _ = await loop.create_datagram_endpoint(Reverse, local_addr=("127.0.0.1", 0))
    transport.sendto(b"ready", ("127.0.0.1", port))
    await asyncio.wait_for(done, 20)
    transport.close()

asyncio.run(main(int(sys.argv[1])))
"#;

/// UD-02: a client of asyncio gets back what it sends, of every size.
#[test]
fn a_client_of_asyncio() {
    if !has_python() {
        return;
    }
    on_each_selector(|el| {
        let (server, address) = bound(el, Echo);
        let said = python(el, ASYNCIO_CLIENT, vec![address.port().to_string()]);
        assert_eq!(said.trim(), "all came back");
        close(el, &server);
    });
}

/// UD-02: an endpoint talks to a server of asyncio.
#[test]
fn a_server_of_asyncio() {
    if !has_python() {
        return;
    }
    on_each_selector(|el| {
        let log = Log::new();
        let recorder = Recorder::new(&log).then("datagram", |t, data, from| match data {
            b"ready" => t.sendto(b"stressed", from),
            b"desserts" => t.sendto(b"", from),
            _ => {}
        });
        let (handle, address) = bound(el, recorder);
        python(el, ASYNCIO_SERVER, vec![address.port().to_string()]);
        let heard = wait_for(el, &log, 3);
        assert_eq!(heard[..3], ["made", "datagram \"ready\"", "datagram \"desserts\""]);
        close(el, &handle);
    });
}

/// UD-19: a plain unix socket of Python's gets back what it sends.
#[test]
fn a_unix_socket_of_python() {
    if !has_python() {
        return;
    }
    on_each_selector(|el| {
        let (folder, path) = unix_path("server");
        let (server, _) = complete(el, el.create_datagram_endpoint(|| Echo).local_addr(&path)).unwrap();
        let own = folder.path().join("client");
        let arguments = [&path, &own].map(|path| path.to_str().unwrap().to_owned());
        assert_eq!(python(el, SOCKET_CLIENT, arguments.into()).trim(), "all came back");
        close(el, &server);
    });
}

/// RW-01: an endpoint that is open when its loop is closed warns once in debug mode; one that was closed does not.
#[test]
fn an_unclosed_endpoint() {
    let _alone = alone();
    for (debug, closes) in [(true, false), (true, true), (false, false)] {
        for kind in [Kind::Epoll, Kind::Polling, Kind::Level] {
            let ((), written) = collector::collect(|| {
                let el = kind.builder().debug(debug).build().unwrap();
                let (handle, address) = bound(&el, Idle);
                let client = connected(&el, Idle, address);
                close(&el, &client);
                if closes {
                    close(&el, &handle);
                }
                el.close();
                assert!(el.stats().is_balanced());
            });
            let expected = usize::from(debug && !closes);
            assert_eq!(written.len(), expected, "{written:?}");
            for (_, text) in written {
                assert!(text.starts_with("resource warning: unclosed transport <DatagramTransport "), "{text}");
            }
        }
    }
}

/// RW-02: an endpoint that could not be made, or whose making was given up, warns of nothing.
#[test]
fn an_endpoint_that_was_never_made() {
    let _alone = alone();
    let ((), written) = collector::collect(|| {
        let el = EventLoop::builder().debug(true).slow_callback_duration(Duration::MAX).build().unwrap();
        let (holder, taken) = bound(&el, Idle);
        complete(&el, el.create_datagram_endpoint(|| Idle).local_addr(taken)).unwrap_err();
        for times in 0..2 {
            let creating = el.create_datagram_endpoint(|| Idle).local_addr(LOOPBACK).into_future();
            assert!(complete(&el, common::poll_times(creating, times)).is_none());
        }
        close(&el, &holder);
        el.close();
    });
    assert_eq!(written, []);
}

/// UD-18: what is sent from an endpoint that is gone is warned of when it goes on and on.
#[test]
fn sending_without_end_from_an_endpoint_that_is_gone() {
    let _alone = alone();
    let ((), written) = collector::collect(|| {
        let el = EventLoop::new().unwrap();
        let (handle, address) = bound(&el, Idle);
        close(&el, &handle);
        for _ in 0..6 {
            handle.sendto(b"x", Some(&address.into()));
        }
        el.close();
    });
    assert_eq!(written.len(), 2, "{written:?}");
    assert!(written[0].1.starts_with("sendto on an endpoint that is gone, for the 5th time: <DatagramTransport "));
}

/// UD-12: an endpoint on the reference loop of a protocol that keeps its own handle is let go of when it is over.
#[test]
fn a_protocol_that_keeps_its_handle() {
    common::on_loop(|el| {
        struct Keeps(Option<roundelay::DatagramHandle>, Option<SocketAddr>);
        impl DatagramProtocol for Keeps {
            fn connection_made(&mut self, t: &roundelay::DatagramHandle) {
                self.0 = Some(t.clone());
            }
            fn datagram_received(&mut self, _: &roundelay::DatagramHandle, _: &[u8], from: Option<&Address>) {
                self.1 = from.and_then(Address::as_ip);
                self.0.as_ref().unwrap().close();
            }
        }
        let builder = el.create_datagram_endpoint(|| Keeps(None, None)).local_addr(LOOPBACK);
        let (handle, protocol) = complete(el, builder).unwrap();
        let address = local(&handle);
        handle.sendto(b"x", Some(&address.into()));
        run_until(el, || handle.protocol().is_none());
        protocol.with(|keeps| assert_eq!(keeps.1, Some(address)));
    });
}

//! The TCP proxy of the examples, between real programs.

#[path = "common/program.rs"]
mod program;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use program::{Running, available, example, expect, output};

/// A proxy to a port of this machine, and its address.
fn proxy(host: &str, port: u16) -> (Running, SocketAddr) {
    let mut running = Running::start(Command::new(example("proxy")).args(["0", host, &port.to_string()]));
    let address = running.address();
    (running, address)
}

fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A connection that a test waits for no longer than its patience.
fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    patient(stream)
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

fn accept(listener: &TcpListener) -> TcpStream {
    patient(listener.accept().unwrap().0)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

/// What is sent before the server stands is not lost; a half close goes through, and the other half goes on.
#[test]
fn half_close_goes_through() {
    let (listener, port) = listener();
    let (_running, address) = proxy("127.0.0.1", port);
    let mut client = connect(address);
    client.write_all(b"the first bytes").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut server = accept(&listener);
    let mut request = String::new();
    server.read_to_string(&mut request).unwrap();
    assert_eq!(request, "the first bytes");
    server.write_all(b"the answer").unwrap();
    expect(&mut client, b"the answer");
    server.write_all(b", and more").unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, ", and more");

    // The same from the other side.
    let mut client = connect(address);
    let mut server = accept(&listener);
    server.write_all(b"goodbye").unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    assert_eq!(said, "goodbye");
    client.write_all(b"wait").unwrap();
    drop(client);
    let mut rest = String::new();
    server.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "wait");
}

/// Five megabytes each way at once arrive; and a reader that takes nothing for a while costs the proxy a bounded amount of
/// memory, however much is on offer.
#[test]
fn much_in_both_directions() {
    const MUCH: usize = 5_000_000;
    let (listener, port) = listener();
    let (running, address) = proxy("127.0.0.1", port);
    let (client, server) = (connect(address), accept(&listener));
    let pump = |stream: &TcpStream| {
        let mut stream = stream.try_clone().unwrap();
        thread::spawn(move || {
            stream.write_all(&pattern(MUCH)).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        })
    };
    let writers = [pump(&client), pump(&server)];
    let readers = [client, server].map(|mut stream| {
        thread::spawn(move || {
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap();
            assert!(received == pattern(MUCH), "{} bytes", received.len());
        })
    });
    readers.into_iter().chain(writers).for_each(|thread| thread.join().unwrap());

    let before = running.resident();
    let (client, mut server) = (connect(address), accept(&listener));
    client.set_nonblocking(true).unwrap();
    // As much as all the buffers in between hold, which is what the kernel has to say.
    let (mut sent, data) = (0, pattern(1 << 20));
    let mut full_since = None;
    loop {
        match (&client).write(&data) {
            Ok(n) => {
                sent += n;
                full_since = None;
            }
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
        assert!(sent < 512 << 20, "the proxy takes whatever it is given");
        let since = *full_since.get_or_insert_with(std::time::Instant::now);
        if since.elapsed() > Duration::from_millis(300) {
            break;
        }
        thread::yield_now();
    }
    let grown = running.resident().saturating_sub(before);
    assert!(grown < 4 << 20, "{sent} bytes are on their way, and the proxy has grown by {grown}");
    client.shutdown(Shutdown::Write).unwrap();
    let received = std::io::copy(&mut server, &mut std::io::sink()).unwrap();
    assert_eq!(received, sent as u64);
}

/// Where the server cannot be reached the client is let go of, the proxy says why, and goes on.
#[test]
fn a_server_that_cannot_be_reached() {
    // Bound, so that nobody else gets the port, but it does not listen.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    let (mut running, address) = proxy("localhost", port);
    for _ in 0..3 {
        let mut client = connect(address);
        let mut nothing = Vec::new();
        // With what was sent unread, the kernel says so by a reset.
        let _ = client.read_to_end(&mut nothing);
        assert!(nothing.is_empty());
        let line = running.line();
        assert!(line.starts_with(&format!("localhost:{port} cannot be reached: ")), "{line}");
    }
    let open = running.descriptors();
    socket.listen(16).unwrap();
    let listener = TcpListener::from(socket);
    let mut client = connect(address);
    let mut server = accept(&listener);
    client.write_all(b"now").unwrap();
    expect(&mut server, b"now");
    drop((client, server));
    drop(listener);
    let mut again = connect(address);
    let _ = again.read(&mut [0]);
    running.line();
    assert!(running.descriptors() <= open + 1);
}

/// A peer that goes away with a reset takes the other side with it.
#[test]
fn a_reset_goes_through() {
    let (listener, port) = listener();
    let (_running, address) = proxy("127.0.0.1", port);
    for client_goes in [true, false] {
        let client = connect(address);
        let server = accept(&listener);
        let (goes, mut stays) = if client_goes { (client, server) } else { (server, client) };
        socket2::SockRef::from(&goes).set_linger(Some(Duration::ZERO)).unwrap();
        drop(goes);
        let ended = stays.read(&mut [0]);
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    }
}

/// Python speaks through it, by name, with its own streams.
#[test]
fn python_through_the_proxy() {
    if !available("python3") {
        return;
    }
    let (listener, port) = listener();
    let (_running, address) = proxy("localhost", port);
    let echo = thread::spawn(move || {
        let mut server = accept(&listener);
        let mut reads = server.try_clone().unwrap();
        std::io::copy(&mut reads, &mut server).unwrap();
        server.shutdown(Shutdown::Write).unwrap();
    });
    let program = "
import asyncio, sys
async def main():
    reader, writer = await asyncio.open_connection('127.0.0.1', int(sys.argv[1]))
    data = bytes(range(256)) * 20000
    async def send():
        writer.write(data)
        await writer.drain()
        writer.write_eof()
    task = asyncio.create_task(send())
    back = await reader.read()
    await task
    writer.close()
    print(len(back), back == data)
asyncio.run(main())
";
    let shown = output(Command::new("python3").args(["-c", program, &address.port().to_string()]));
    assert_eq!(String::from_utf8_lossy(&shown).trim(), "5120000 True");
    echo.join().unwrap();
}

/// curl fetches through it.
#[test]
fn curl_through_the_proxy() {
    if !available("curl") {
        return;
    }
    let (listener, port) = listener();
    let (_running, address) = proxy("127.0.0.1", port);
    let thread = thread::spawn(move || {
        let mut server = accept(&listener);
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            server.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        let body = pattern(5_000_000);
        write!(server, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len()).unwrap();
        server.write_all(&body).unwrap();
    });
    let body = output(Command::new("curl").args(["-s", "--max-time", "60", &format!("http://{address}/")]));
    assert!(body == pattern(5_000_000), "{} bytes", body.len());
    thread.join().unwrap();
}

/// Bad arguments are refused with the usage.
#[test]
fn usage() {
    for arguments in [&["1"][..], &["x", "localhost", "80"], &["0", "localhost", "80", "more"]] {
        let output = Command::new(example("proxy")).args(arguments).output().unwrap();
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("usage: proxy LISTEN_PORT HOST PORT"));
    }
}

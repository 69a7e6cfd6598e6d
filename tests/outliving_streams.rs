//! Transports, servers, streams and sockets that outlive their loop, and whatever was about to be made on it, are inert: no
//! method panics that does not say so, what has an error to give says that the loop is closed, no protocol is called and
//! no descriptor is left but those that belong to what the application holds (behaviours LR-02, CL, SV, SR, api 2).

mod common;

#[cfg(feature = "__tls")]
#[path = "common/certificates.rs"]
mod certificates;
#[path = "common/outlived.rs"]
mod outlived;

use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::net::{SocketAddr, TcpListener as StdListener, UdpSocket as StdUdp};
use std::os::unix::net::UnixStream as StdUnix;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use common::{Log, take_reports};
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt, StreamExt};
use outlived::{begin, now, outlives, refused, refused_now};
use roundelay::selector::Interest;
use roundelay::{
    AsyncFd, DatagramHandle, DatagramProtocol, EventLoop, LoopClosed, NameInfoFlags, Protocol, ProtocolRef,
    StreamReader, StreamWriter, TcpListener, TcpStream, Transport, UdpSocket, UnixDatagram, UnixListener, UnixStream,
    open_connection, open_read_pipe, open_unix_connection, open_write_pipe, start_server, start_unix_server,
};

const LOOPBACK: (&str, u16) = ("127.0.0.1", 0);

/// Tells the log of every callback.
#[derive(Clone)]
struct Told(Log);

impl Protocol for Told {
    fn connection_made(&mut self, _: &Transport) {
        self.0.push("connection_made");
    }
    fn data_received(&mut self, _: &Transport, _: &[u8]) {
        self.0.push("data_received");
    }
    fn pause_writing(&mut self, _: &Transport) {
        self.0.push("pause_writing");
    }
    fn resume_writing(&mut self, _: &Transport) {
        self.0.push("resume_writing");
    }
    fn connection_lost(&mut self, _: &Transport, _: Option<io::Error>) {
        self.0.push("connection_lost");
    }
}

impl DatagramProtocol for Told {
    fn datagram_received(&mut self, _: &DatagramHandle, _: &[u8], _: Option<&roundelay::Address>) {
        self.0.push("datagram_received");
    }
    fn error_received(&mut self, _: &DatagramHandle, _: io::Error) {
        self.0.push("error_received");
    }
    fn connection_lost(&mut self, _: &DatagramHandle, _: Option<io::Error>) {
        self.0.push("connection_lost");
    }
}

/// A factory of protocols that tell this log.
fn told(log: &Log) -> impl Fn() -> Told + Clone + use<> {
    let protocol = Told(log.clone());
    move || protocol.clone()
}

/// A listener that is no part of the loop, and its address.
fn listener() -> (StdListener, SocketAddr) {
    let listener = StdListener::bind(LOOPBACK).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Calls every method of a transport that is gone.
fn call_all(transport: &Transport, protocol: &ProtocolRef<Told>) {
    assert!(transport.is_closing() && !transport.is_reading());
    transport.write(b"late");
    transport.write_owned(b"late".to_vec());
    transport.writelines(&[IoSlice::new(b"late")]);
    transport.write_eof();
    let _ = transport.can_write_eof();
    transport.pause_reading();
    transport.resume_reading();
    transport.unread(b"late");
    assert_eq!(transport.write_buffer_size(), 0);
    let marks = transport.write_buffer_limits();
    assert!(marks.high >= marks.low);
    let limited = transport.set_write_buffer_limits(10, None);
    assert!(limited.is_ok() || limited.unwrap_err().kind() == ErrorKind::Unsupported, "of a reading end");
    transport.set_write_buffer_limits(1, 2).unwrap_err();
    transport.set_write_buffer_cap(10);
    for future in [transport.ready(), transport.flushed()] {
        assert!(!format!("{future:?}").is_empty());
        now(future).expect("it does not wait").unwrap_err();
    }
    let next = ProtocolRef::new(protocol.with(|protocol| protocol.clone()));
    transport.set_protocol(next.clone());
    transport.start_protocol(next);
    let _ = transport.protocol();
    let info = transport.extra_info();
    assert!(info.socket.is_none_or(|socket| socket.raw_fd().is_none() && socket.with(|_| ()).is_none()));
    assert!(info.pipe.is_none_or(|pipe| pipe.raw_fd().is_none() && pipe.with(|_| ()).is_none()));
    assert!(format!("{transport:?}").contains(" closed"), "{transport:?}");
    transport.close();
    transport.abort();
    assert_eq!(transport.clone(), *transport);
}

/// CL-10: transports of each kind: of sockets, pipes, and streams of the application's; busy ones and idle ones.
#[test]
fn transports() {
    outlives(4, async |el, log| {
        let (listener, address) = listener();
        let connect = async || el.create_connection(told(&log), address).await.unwrap();
        let (idle, busy, closing) = (connect().await, connect().await, connect().await);
        let jam = |transport: &Transport| {
            while transport.write_buffer_size() < 1 << 20 {
                transport.write(&[0; 1 << 16]);
            }
        };
        jam(&busy.0);
        jam(&closing.0);
        closing.0.close();
        let (stream, peer) = StdUnix::pair().unwrap();
        let pipe = el.connect_read_pipe(told(&log), stream).await.unwrap();
        let (writer, other) = StdUnix::pair().unwrap();
        let write = el.connect_write_pipe(told(&log), writer).await.unwrap();
        jam(&write.0);
        // One that is in memory only.
        let foreign = el.connect_stream(told(&log), futures::io::Cursor::new(Vec::new())).unwrap();
        let mut ready = busy.0.ready();
        let woken = begin(&mut ready);
        let wire = listener.try_clone().unwrap();
        move || {
            assert_eq!(woken.count(), 1, "whoever waits for room hears of it");
            now(ready).unwrap().unwrap_err();
            for (transport, protocol) in [&idle, &busy, &closing, &pipe, &write, &foreign] {
                call_all(transport, protocol);
                protocol.try_with(|_| ()).unwrap();
            }
            // Writing to what is gone is warned of, but not to the handler.
            assert_eq!(take_reports(), [""; 0]);
            drop((listener, wire, peer, other));
        }
    });
}

/// TL: transports over TLS, with the handshake done and half-way.
#[cfg(feature = "__tls")]
#[test]
fn transports_over_tls() {
    outlives(1, async |el, log| {
        let server = el.create_server(told(&log), LOOPBACK).tls(certificates::acceptor()).await.unwrap();
        let (listener, address) = listener();
        let connect = |address| {
            let client = el.create_connection(told(&log), address).tls(certificates::connector());
            client.server_hostname("localhost").into_future()
        };
        let (idle, busy) = (connect(server.local_addrs()[0]).await, connect(server.local_addrs()[0]).await);
        let (idle, busy) = (idle.unwrap(), busy.unwrap());
        while busy.0.write_buffer_size() == 0 {
            busy.0.write(&[0; 1 << 16]);
        }
        let mut shaking = Box::pin(connect(address));
        // As far as the handshake, in which nobody answers.
        let transports = el.stats().transports.live();
        let mut woken = begin(&mut shaking);
        while el.stats().transports.live() == transports {
            roundelay::yield_now().await;
            woken = begin(&mut shaking);
        }
        move || {
            assert!(woken.count() > 0, "whoever waits hears of it");
            now(shaking).expect("it does not wait").map(drop).unwrap_err();
            for (transport, protocol) in [&idle, &busy] {
                assert!(transport.extra_info().peer_addr.is_some());
                call_all(transport, protocol);
                let upgrade =
                    server.get_loop().start_tls(transport.clone(), protocol.clone(), certificates::connector());
                now(upgrade.server_hostname("localhost")).expect("it does not wait").map(drop).unwrap_err();
            }
            drop(listener);
        }
    });
}

/// A socket that is no part of the loop, to which nobody answers.
fn silent() -> (StdUdp, SocketAddr) {
    let socket = StdUdp::bind(LOOPBACK).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// UD: endpoints for datagrams.
#[test]
fn datagram_endpoints() {
    outlives(1, async |el, log| {
        let (peer, address) = silent();
        let endpoint = el.create_datagram_endpoint(told(&log)).remote_addr(address).await.unwrap();
        let free = el.create_datagram_endpoint(told(&log)).local_addr(LOOPBACK).await.unwrap();
        move || {
            for (handle, protocol) in [&endpoint, &free] {
                assert!(handle.is_closing());
                handle.sendto(b"late", None);
                handle.sendto(b"late", Some(&address.into()));
                assert_eq!(handle.write_buffer_size(), 0);
                let _ = handle.write_buffer_limits();
                handle.set_write_buffer_limits(10, None).unwrap();
                now(handle.ready()).expect("it does not wait").unwrap_err();
                handle.set_protocol(ProtocolRef::new(protocol.with(|protocol| protocol.clone())));
                let _ = handle.protocol();
                assert!(handle.extra_info().socket.is_none_or(|socket| socket.raw_fd().is_none()));
                assert!(format!("{handle:?}").contains(" closed"), "{handle:?}");
                handle.close();
                handle.abort();
            }
            drop(peer);
        }
    });
}

/// SV: servers that listen, and such as never did; with a client and without; who waits for their end hears of it.
#[test]
fn servers() {
    outlives(1, async |el, log| {
        let make = async |start| el.create_server(told(&log), LOOPBACK).start_serving(start).await.unwrap();
        let (serving, bound) = (make(true).await, make(false).await);
        let folder = tempfile::tempdir().unwrap();
        let unix = el.create_unix_server(told(&log), folder.path().join("it")).await.unwrap();
        let client = std::net::TcpStream::connect(serving.local_addrs()[0]).unwrap();
        while serving.connections() == 0 {
            roundelay::yield_now().await;
        }
        let closing = serving.clone();
        let mut closed = Box::pin(async move { closing.wait_closed().await });
        let woken = begin(&mut closed);
        let mut forever = serving.serve_forever();
        begin(&mut forever);
        let guard = bound.close_on_drop();
        move || {
            assert_eq!(woken.count(), 1, "whoever waits for the end hears of it");
            now(closed).unwrap();
            let _ = now(forever).expect("it does not wait");
            for server in [&serving, &bound, &unix] {
                assert!(!server.is_serving() && server.sockets().is_empty() && server.connections() == 0);
                assert!(server.local_addrs().is_empty() && server.unix_addrs().is_empty());
                assert!(server.get_loop().is_closed() && !format!("{server:?}").is_empty());
                refused_now(server.start_serving());
                refused_now(server.serve_forever());
                server.close();
                server.close_clients();
                server.abort_clients();
                now(server.wait_closed()).unwrap();
                assert!(now(server.shutdown(Duration::ZERO)).unwrap());
            }
            assert!(!folder.path().join("it").exists(), "its name is gone with it");
            drop((guard, client));
        }
    });
}

/// SR: readers and writers, what stands for them elsewhere, and who waits for them.
#[test]
fn stream_readers_and_writers() {
    outlives(1, async |_, _| {
        let (listener, address) = listener();
        let (mut reader, mut writer) = open_connection(address).await.unwrap();
        let (other, other_writer) = open_connection(address).await.unwrap();
        while writer.transport().write_buffer_size() < 1 << 20 {
            writer.write(&[0; 1 << 16]);
        }
        let feeder = other.feeder();
        let compat = (other.compat(), other_writer.compat());
        move || {
            refused_now(async { reader.read(1).await.map(drop) });
            refused_now(async { reader.read_to_end().await.map(drop) });
            refused_now(async { Ok(reader.readline().await?) }.map(|line: io::Result<Vec<u8>>| line.map(drop)));
            refused_now(async { Ok(reader.readexactly(1).await?) }.map(|line: io::Result<Vec<u8>>| line.map(drop)));
            refused_now(async { Ok(reader.readuntil(b"x").await?) }.map(|line: io::Result<Vec<u8>>| line.map(drop)));
            assert!(now(reader.lines().next()).unwrap().unwrap().is_err());
            assert!(!reader.at_eof() && reader.exception().is_some());
            reader.set_limit(reader.limit());
            reader.feed_data(b"late");
            reader.feed_eof();
            reader.set_exception(&io::ErrorKind::Other.into());
            feeder.feed_data(b"late");
            feeder.feed_eof();
            writer.write(b"late");
            writer.write_owned(b"late".to_vec());
            writer.writelines(&[IoSlice::new(b"late")]);
            now(writer.drain()).expect("it does not wait").unwrap_err();
            writer.write_eof();
            let _ = writer.can_write_eof();
            assert!(writer.is_closing() && !format!("{writer:?} {reader:?} {compat:?}").is_empty());
            writer.close();
            let _ = now(writer.wait_closed()).expect("it does not wait");
            assert!(writer.extra_info().socket.is_none_or(|socket| socket.raw_fd().is_none()));
            let (mut reader, mut writer) = compat;
            let _ = now(reader.read(&mut [0; 4])).expect("it does not wait");
            now(writer.write(b"late")).expect("it does not wait").unwrap_err();
            let _ = now(writer.flush()).expect("it does not wait");
            let _ = now(writer.close()).expect("it does not wait");
            drop((reader.into_inner(), writer.into_inner(), listener));
        }
    });
}

/// SR: the plain streams. The socket is theirs, and closed with them; what has to wait for it cannot.
#[test]
fn plain_streams() {
    outlives(7, async |_, _| {
        let (listener, address) = listener();
        let (tcp, split) = (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
        let peers = (listener.accept().unwrap().0, listener.accept().unwrap().0);
        let (unix, other) = UnixStream::pair().unwrap();
        let halves = split.into_split();
        move || {
            let (mut tcp, mut unix) = (tcp, unix);
            assert!(tcp.nodelay().unwrap() && tcp.peer_addr().unwrap() == address);
            tcp.set_nodelay(false).unwrap();
            tcp.local_addr().unwrap();
            unix.peer_cred().unwrap();
            refused_now(tcp.read(&mut [0; 4]));
            refused_now(unix.read(&mut [0; 4]));
            let _ = now(tcp.write(b"late")).expect("it does not wait");
            let _ = now(unix.write(b"late")).expect("it does not wait");
            let _ = now(tcp.flush()).expect("it does not wait");
            let _ = now(tcp.close()).expect("it does not wait");
            assert!(!format!("{tcp:?} {unix:?} {halves:?}").is_empty());
            let (mut read, mut write) = halves;
            refused_now(read.read(&mut [0; 4]));
            let _ = now(write.write(b"late")).expect("it does not wait");
            let whole = read.reunite(write).unwrap();
            let _ = whole.shutdown(std::net::Shutdown::Both);
            refused(whole.into_transport(|| Told(Log::new())).map(drop));
            drop((unix, other, peers, listener));
        }
    });
}

/// The listeners and the datagram sockets; who waits for them hears of the end.
#[test]
fn listeners_and_sockets() {
    outlives(7, async |_, _| {
        let folder = tempfile::tempdir().unwrap();
        let tcp = Rc::new(TcpListener::bind(LOOPBACK).await.unwrap());
        let unix = UnixListener::bind(folder.path().join("it")).unwrap();
        let (peer, address) = silent();
        let udp = UdpSocket::bind(LOOPBACK).await.unwrap();
        udp.connect(address).await.unwrap();
        let (one, other) = UnixDatagram::pair().unwrap();
        let socket = AsyncFd::new(StdUnix::pair().unwrap().0).unwrap();
        let accepting = tcp.clone();
        let mut accept = Box::pin(async move { accepting.accept().await });
        let woken = begin(&mut accept);
        move || {
            assert_eq!(woken.count(), 1, "whoever waits hears of it");
            refused_now(accept.as_mut());
            drop(accept);
            refused_now(tcp.accept());
            refused_now(unix.accept());
            assert!(now(tcp.incoming().next()).unwrap().unwrap().is_err());
            tcp.local_addr().unwrap();
            unix.local_addr().unwrap();
            let buf = &mut [0; 4];
            refused_now(udp.recv(buf));
            refused_now(udp.recv_from(buf));
            refused_now(udp.peek(buf));
            refused_now(udp.readable());
            refused_now(one.recv(buf));
            let _ = now(udp.send(b"late")).expect("it does not wait");
            let _ = now(one.send(b"late")).expect("it does not wait");
            let _ = now(udp.writable()).expect("it does not wait");
            refused(udp.try_recv(buf));
            assert!(udp.take_error().unwrap().is_none() && udp.peer_addr().unwrap() == address);
            refused_now(async { socket.readable().await.map(drop) });
            refused_now(async { socket.writable().await.map(drop) });
            refused_now(
                socket.async_io(Interest::READABLE, |_| -> io::Result<()> { Err(ErrorKind::WouldBlock.into()) }),
            );
            let _ = socket.try_io(Interest::READABLE, |_| Ok(()));
            assert!(!format!("{tcp:?} {unix:?} {udp:?} {one:?} {socket:?}").is_empty());
            drop((socket.into_inner(), udp.into_std(), one.into_std(), other, peer));
        }
    });
}

/// What stands for a builder that is awaited, half-way or not yet begun: each says that the loop is closed.
#[test]
fn what_was_about_to_be_made() {
    type Pending = std::pin::Pin<Box<dyn Future<Output = io::Result<()>>>>;
    fn pending<T>(future: impl IntoFuture<Output = io::Result<T>, IntoFuture: 'static>) -> Pending {
        let future = future.into_future();
        Box::pin(async move { future.await.map(drop) })
    }
    fn all(el: &EventLoop, log: &Log, address: SocketAddr) -> Vec<(&'static str, Pending)> {
        let socket = || StdUnix::pair().unwrap().0;
        let handler = |_: StreamReader, _: StreamWriter| async {};
        vec![
            ("create_connection", pending(el.create_connection(told(log), address))),
            ("create_connection by name", pending(el.create_connection(told(log), ("localhost", address.port())))),
            ("connect_accepted_socket", pending(el.connect_accepted_socket(told(log), socket()))),
            ("create_server", pending(el.create_server(told(log), LOOPBACK))),
            ("create_unix_connection", pending(el.create_unix_connection(told(log), "/nowhere/it"))),
            ("create_unix_server", pending(el.create_unix_server(told(log), "/nowhere/it"))),
            ("create_datagram_endpoint", pending(el.create_datagram_endpoint(told(log)).local_addr(LOOPBACK))),
            ("connect_read_pipe", pending(el.connect_read_pipe(told(log), socket()))),
            ("connect_write_pipe", pending(el.connect_write_pipe(told(log), socket()))),
            ("open_connection", pending(open_connection(address))),
            ("open_unix_connection", pending(open_unix_connection("/nowhere/it"))),
            ("open_read_pipe", pending(open_read_pipe(socket()))),
            ("open_write_pipe", pending(open_write_pipe(socket()))),
            ("start_server", pending(start_server(handler, LOOPBACK))),
            ("start_unix_server", pending(start_unix_server(handler, "/nowhere/it"))),
            ("TcpStream::connect", pending(TcpStream::connect(address))),
            ("UnixStream::connect", pending(UnixStream::connect("/nowhere/it"))),
            ("TcpListener::bind", pending(TcpListener::bind(LOOPBACK))),
            ("UdpSocket::bind", pending(UdpSocket::bind(LOOPBACK))),
            ("getaddrinfo", pending(el.getaddrinfo("localhost", 80))),
            ("getnameinfo", pending(el.getnameinfo(address, NameInfoFlags::from_bits(0)))),
        ]
    }
    outlives(1, async |el, log| {
        let (listener, address) = listener();
        // Their sockets are theirs, and go when the loop does or at the next poll.
        let (fresh, mut begun) = (all(&el, &log, address), all(&el, &log, address));
        for (name, future) in &mut begun {
            // A thread that looks for a name would go on opening files.
            if name.contains("name") || name.contains("getaddrinfo") {
                continue;
            }
            let _ = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        drop(begun);
        let fresh: Vec<_> = fresh.into_iter().filter(|(name, _)| !holds_a_descriptor(name)).collect();
        move || {
            for (name, future) in fresh {
                let Some(result) = now(future) else { panic!("{name} waits") };
                let error = result.expect_err(name);
                assert!(error.get_ref().is_some_and(|inner| inner.is::<LoopClosed>()), "{name}: {error:?}");
            }
            drop(listener);
        }
    });
}

/// Builders that were given a descriptor hold it until they are awaited or dropped.
fn holds_a_descriptor(name: &str) -> bool {
    name.contains("pipe") || name.contains("accepted")
}

/// SK: operations on the application's own sockets, begun and not begun; the sockets stay open.
#[test]
fn operations_on_sockets() {
    outlives(2, async |el, _| {
        let (one, other) = StdUnix::pair().unwrap();
        one.set_nonblocking(true).unwrap();
        let shared = Rc::new(one);
        let mut receiving = Box::pin(el.sock_recv(shared.clone(), 4));
        let woken = begin(&mut receiving);
        let later = Box::pin(el.sock_sendall(shared.clone(), b"late".to_vec()));
        let accepting = Box::pin(el.sock_accept(shared.clone()));
        let handle = el.clone();
        move || {
            assert_eq!(woken.count(), 1, "whoever waits hears of it");
            refused_now(receiving);
            refused_now(later);
            refused_now(async { accepting.await.map(drop) });
            refused_now(handle.sock_recv(&shared, 4));
            refused_now(handle.sock_recv_into(&shared, &mut [0; 4]));
            refused_now(async { handle.sock_recvfrom(&shared, 4).await.map(drop) });
            refused_now(handle.sock_sendto(&shared, b"late", ([127, 0, 0, 1], 9)));
            refused_now(handle.sock_connect(&shared, ([127, 0, 0, 1], 9)));
            let file = tempfile::tempfile().unwrap();
            refused_now(handle.sock_sendfile(&shared, &file));
            drop(other);
        }
    });
}

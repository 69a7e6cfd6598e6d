//! The plain types: how they are set, given away, and what else they are.

mod common;
#[path = "common/pipes.rs"]
mod pipes;
mod wire;

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;

use futures::future::try_join;
use futures::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use roundelay::{
    EventLoop, Family, SocketOptionError, Stdio, TcpListener, TcpStream, TransportStream, UdpSocket, UnixDatagram,
    UnixListener, UnixStream, create_subprocess_exec, open_read_pipe, open_write_pipe,
};
use socket2::SockRef;

use common::{complete, on_loop, settle};
use pipes::pipe;
use wire::{Net, Record, Tap, connect, pattern};

const ANY: (&str, u16) = ("127.0.0.1", 0);

fn registered(el: &EventLoop) -> u64 {
    el.stats().descriptors.live()
}

/// The system's size for a buffer of that size: Linux doubles it.
fn about(size: usize, wanted: usize) -> bool {
    (wanted..=2 * wanted).contains(&size)
}

on_every_loop! {
    /// A listener has the settings that it was made with, and so have the connections that it accepts.
    fn settings_of_tcp_listeners(el) {
        complete(el, async {
            let listener = TcpListener::bind(ANY).reuse_port(true).backlog(2).nodelay(false).keep_alive(true);
            let listener = listener.recv_buffer_size(30_000).send_buffer_size(20_000).tos(0x20).family(Family::V4);
            let listener = listener.await.unwrap();
            // Without reuse_port the port is taken.
            let address = listener.local_addr().unwrap();
            let other = TcpListener::bind(address).reuse_port(true).await.unwrap();
            drop(other);
            assert_eq!(TcpListener::bind(address).await.unwrap_err().kind(), ErrorKind::AddrInUse);
            let _client = TcpStream::connect(address).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            assert!(!stream.nodelay().unwrap());
            for socket in [SockRef::from(&listener), SockRef::from(&stream)] {
                assert!(socket.keepalive().unwrap());
                assert!(about(socket.recv_buffer_size().unwrap(), 30_000));
                assert!(about(socket.send_buffer_size().unwrap(), 20_000));
                assert_eq!(socket.tos_v4().unwrap(), 0x20);
            }
        });
    }

    /// The same of unix sockets, of both sides.
    fn settings_of_unix_sockets(el) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sized");
        complete(el, async {
            let listener = UnixListener::builder(&path).backlog(1).send_buffer_size(20_000).bind().unwrap();
            let client = UnixStream::connect(&path).send_buffer_size(30_000).await.unwrap();
            let (server, _) = listener.accept().await.unwrap();
            assert!(about(SockRef::from(&server).send_buffer_size().unwrap(), 20_000));
            assert!(about(SockRef::from(&client).send_buffer_size().unwrap(), 30_000));
            let error = UnixListener::builder(folder.path().join("none")).recv_buffer_size(0).bind().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().starts_with("UnixListener::bind: recv_buffer_size()"), "{error}");
        });
    }

    /// A stream is given away as std's, which the loop no longer knows, and taken over again.
    fn streams_are_given_away(el) {
        complete(el, async {
            let before = registered(el);
            let (mut near, mut far) = UnixStream::pair().unwrap();
            far.write_all(b"line\nrest").await.unwrap();
            let mut line = String::new();
            near.read_line(&mut line).await.unwrap();
            // What it has read ahead would be lost.
            assert_eq!(near.buffer(), b"rest");
            let error = near.into_std().unwrap_err();
            assert_eq!(error.to_string(), "into_std(): the stream has read ahead, and what is in its buffer would be lost");
            let mut near = error.stream;
            near.consume_unpin(2);
            let error = OwnedFd::try_from(near).unwrap_err();
            let mut near = error.stream;
            near.consume_unpin(2);
            assert!(near.buffer().is_empty());
            let fd = near.as_raw_fd();
            let std = near.into_std().unwrap();
            assert_eq!((std.as_raw_fd(), registered(el)), (fd, before + 1));
            let mut std = std;
            assert_eq!(std.read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
            std.write_all(b"by hand").unwrap();
            let mut data = [0; 7];
            far.read_exact(&mut data).await.unwrap();
            assert_eq!(&data, b"by hand");
            // And back, with something that has arrived meanwhile.
            far.write_all(b"there").await.unwrap();
            let mut near = UnixStream::from_std(std).unwrap();
            near.read_exact(&mut data[..5]).await.unwrap();
            assert_eq!(&data[..5], b"there");
            // A half that was reunited can, too, and an error of it is one of I/O.
            far.write_all(b"a\nb").await.unwrap();
            let (mut reader, writer) = near.into_split();
            reader.read_line(&mut line).await.unwrap();
            let near = reader.reunite(writer).unwrap();
            let error = io::Error::from(near.into_std().unwrap_err());
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            // With that error the stream is closed.
            assert_eq!(far.read(&mut data).await.unwrap(), 0);

            let listener = TcpListener::bind(ANY).await.unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (peer, _) = listener.accept().await.unwrap();
            let address = client.local_addr().unwrap();
            assert_eq!(client.into_std().unwrap().local_addr().unwrap(), address);
            let fd = OwnedFd::try_from(peer).unwrap();
            let again = TcpStream::from_std(fd.into()).unwrap();
            assert_eq!(again.peer_addr().unwrap(), address);
        });
        assert_eq!(registered(el), 0);
    }

    /// So are listeners: connections that were not accepted stay with the socket.
    fn listeners_are_given_away(el) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("handed");
        complete(el, async {
            let listener = TcpListener::bind(ANY).await.unwrap();
            let address = listener.local_addr().unwrap();
            let client = TcpStream::connect(address).await.unwrap();
            let std = listener.into_std();
            assert_eq!(std.local_addr().unwrap(), address);
            let (_, peer) = std.accept().unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
            assert_eq!(std.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
            let listener = TcpListener::from_std(OwnedFd::from(std).into()).unwrap();
            let _client = TcpStream::connect(address).await.unwrap();
            assert!(listener.accept().await.unwrap().0.nodelay().unwrap());

            let listener = UnixListener::bind(&path).unwrap();
            let _client = UnixStream::connect(&path).await.unwrap();
            let fd = OwnedFd::from(listener);
            let listener = UnixListener::from_std(fd.into()).unwrap();
            listener.accept().await.unwrap();
        });
        assert_eq!(registered(el), 0);
    }

    /// And sockets for datagrams.
    fn datagram_sockets_are_given_away(el) {
        complete(el, async {
            let socket = UdpSocket::bind(ANY).await.unwrap();
            let address = socket.local_addr().unwrap();
            socket.send_to(b"to itself", address).await.unwrap();
            let socket = UdpSocket::from_std(OwnedFd::from(socket).into()).unwrap();
            assert_eq!(socket.recv_from(&mut [0; 99]).await.unwrap(), (9, address));
            let (a, b) = UnixDatagram::pair().unwrap();
            a.send(b"x").await.unwrap();
            let b = UnixDatagram::from_std(OwnedFd::from(b).into()).unwrap();
            assert_eq!(b.recv(&mut [0; 9]).await.unwrap(), 1);
        });
        assert_eq!(registered(el), 0);
    }

    /// The settings of UDP sockets.
    fn settings_of_udp_sockets(el) {
        complete(el, async {
            let bound = UdpSocket::bind(ANY).reuse_port(true).allow_broadcast(true).recv_buffer_size(30_000);
            let one = bound.tos(0x40).await.unwrap();
            let two = UdpSocket::bind(one.local_addr().unwrap()).reuse_port(true).await.unwrap();
            assert_eq!(one.local_addr().unwrap(), two.local_addr().unwrap());
            assert!(one.broadcast().unwrap() && !two.broadcast().unwrap());
            assert!(about(SockRef::from(&one).recv_buffer_size().unwrap(), 30_000));
            assert_eq!(SockRef::from(&one).tos_v4().unwrap(), 0x40);
            assert!(format!("{:?}", UdpSocket::bind(ANY)).starts_with("BindUdp"));

            let error = UdpSocket::bind(ANY).send_buffer_size(0).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let error = UdpSocket::bind(ANY).bind_device("no-such-device").await.unwrap_err();
            let option = error.get_ref().unwrap().downcast_ref::<SocketOptionError>().unwrap();
            assert_eq!((option.method.as_str(), option.option.as_str()), ("UdpSocket::bind", r#"bind_device("no-such-device")"#));
            let error = TcpListener::bind(ANY).bind_device("no-such-device").await.unwrap_err();
            assert!(error.to_string().starts_with("TcpListener::bind: cannot set bind_device("), "{error}");
        });
    }

    /// Any transport is a stream of the traits, one over a socket in clear, too; it is told apart from one that is gone.
    fn a_stream_over_any_transport(el) {
        for net in [Net::Tcp, Net::Unix] {
            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::new(&record));
            let mut stream = complete(el, async { TransportStream::new(transport.clone()).unwrap() });
            peer.send(b"hello");
            let mut data = [0; 5];
            complete(el, stream.read_exact(&mut data)).unwrap();
            complete(el, stream.write_all(b"world")).unwrap();
            complete(el, stream.close()).unwrap();
            common::run_until(el, || {
                peer.pump();
                peer.at_eof()
            });
            assert_eq!(peer.received(), b"world");
            assert_eq!(stream.peer_addr().is_ok(), net == Net::Tcp);
            assert_eq!(stream.transport().id(), transport.id());
            peer.close();
            assert_eq!(complete(el, stream.read(&mut data)).unwrap(), 0);
            drop(stream);
            settle(el);
            assert!(transport.protocol().is_none());
            let error = complete(el, async { TransportStream::new(transport).unwrap_err() });
            assert_eq!(error.kind(), ErrorKind::NotConnected);
        }
    }

    /// Pipes are streams of the traits by `compat`; closing the writing end closes it.
    fn pipes_by_the_traits(el) {
        let (reader, writer) = pipe();
        complete(el, async {
            let mut reader = open_read_pipe(reader).await.unwrap().compat();
            let mut writer = open_write_pipe(writer).await.unwrap().compat();
            let data = pattern(300_000);
            let mut received = Vec::new();
            let sending = async {
                writer.write_all(&data).await?;
                writer.close().await
            };
            try_join(sending, reader.read_to_end(&mut received)).await.unwrap();
            assert!(received == data);
        });
    }

    /// So are a child's streams.
    fn children_by_the_traits(el) {
        complete(el, async {
            let program = create_subprocess_exec("sh", ["-c", "cat; echo end >&2"]);
            let program = program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = program.await.unwrap();
            let mut input = child.stdin.take().unwrap().compat();
            let mut output = child.stdout.take().unwrap().compat();
            let mut errors = child.stderr.take().unwrap().compat();
            let data = pattern(300_000);
            let mut received = Vec::new();
            let sending = async {
                input.write_all(&data).await?;
                input.close().await
            };
            try_join(sending, output.read_to_end(&mut received)).await.unwrap();
            assert!(received == data);
            let mut text = String::new();
            errors.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "end\n");
            assert!(child.wait().await.unwrap().success());
        });
    }
}

/// Options that cannot be meant are refused, and so is a loop that is closed.
#[test]
fn what_is_refused() {
    on_loop(|el| {
        complete(el, async {
            let socket = std::net::TcpListener::bind(ANY).unwrap();
            let error = TcpListener::bind(socket).reuse_port(true).await.unwrap_err();
            assert_eq!(error.to_string(), "TcpListener::bind: reuse_port() cannot be used with a socket");
            let v6: SocketAddr = "[::1]:0".parse().unwrap();
            assert!(TcpListener::bind(v6).family(Family::V4).await.is_err());
        });
        let (near, _far) = complete(el, async { UnixStream::pair().unwrap() });
        let listener = complete(el, TcpListener::bind(ANY)).unwrap();
        el.close();
        // What is given away is usable all the same.
        let mut near: StdUnixStream = near.into_std().unwrap();
        near.write_all(b"x").unwrap();
        listener.into_std().local_addr().unwrap();
    });
}

/// Which type has which trait of which crate.
#[cfg(all(feature = "tokio", feature = "hyper"))]
#[test]
fn every_type_has_every_trait() {
    fn reads<T: futures::AsyncRead + tokio::io::AsyncRead + hyper::rt::Read + Unpin>() {}
    fn reads_buffered<T: futures::AsyncBufRead + tokio::io::AsyncBufRead>() {}
    fn writes<T: futures::AsyncWrite + tokio::io::AsyncWrite + hyper::rt::Write + Unpin>() {}
    reads::<TransportStream>();
    reads_buffered::<TransportStream>();
    writes::<TransportStream>();
    // A type of std's that is read from by `&mut`, and one that is by `&`, too.
    reads::<roundelay::AsyncFd<std::process::ChildStdout>>();
    writes::<roundelay::AsyncFd<std::process::ChildStdin>>();
    reads::<&roundelay::AsyncFd<std::fs::File>>();
    writes::<&roundelay::AsyncFd<std::fs::File>>();
}

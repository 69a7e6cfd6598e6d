//! `UnixStream` and `UnixListener`, the plain async types.

mod common;
#[path = "common/tcp.rs"]
mod tcp;
#[path = "common/unix.rs"]
mod unix;

use std::cell::RefCell;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener as PlainListener, UnixStream as Plain};
use std::rc::Rc;

use futures::stream::StreamExt;
use futures::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use roundelay::{EventLoop, Protocol, Transport, UnixAddr, UnixListener, UnixStream, spawn, yield_now};

use common::{open_descriptors, poll_times, run_until};
use tcp::{complete, pattern};
use unix::{Folder, abstract_name, leave_stale, unix_error};

/// Sends bytes and a descriptor along with them.
fn send_descriptor(socket: BorrowedFd<'_>, bytes: &[u8], fd: BorrowedFd<'_>) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    assert_eq!(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap(), bytes.len());
}

/// Gathers what arrives.
#[derive(Clone, Default)]
struct Gathered(Rc<RefCell<Vec<u8>>>);

impl Protocol for Gathered {
    fn data_received(&mut self, _: &Transport, data: &[u8]) {
        self.0.borrow_mut().extend_from_slice(data);
    }
}

on_every_loop! {
    /// A stream that becomes a transport goes on closing the descriptors that come with bytes, and stops at none of them.
    fn descriptors_come_to_a_transport(el) {
        let (near, far) = Plain::pair().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        send_descriptor(far.as_fd(), b"line\nahead ", null.as_fd());
        send_descriptor(far.as_fd(), b"waits ", null.as_fd());
        let before = open_descriptors();
        let gathered = Gathered::default();
        let transport = complete(el, async {
            let mut stream = UnixStream::from_std(near).unwrap();
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            assert_eq!(line, "line\n");
            send_descriptor(far.as_fd(), b"comes ", null.as_fd());
            (&far).write_all(b"at last").unwrap();
            far.shutdown(Shutdown::Write).unwrap();
            let protocol = gathered.clone();
            stream.into_transport(move || protocol).unwrap().0
        });
        let credentials = transport.extra_info().peer_credentials;
        assert!(credentials.is_some() && transport.extra_info().pipe.is_none());
        run_until(el, || transport.protocol().is_none());
        assert_eq!(*gathered.0.borrow(), b"ahead waits comes at last");
        assert_eq!(transport.extra_info().peer_credentials, credentials);
        assert_eq!(open_descriptors(), before - 1);
    }

    /// A client and a server that accepts: both know each other, and bytes go both ways.
    fn connects_and_accepts(el) {
        let folder = Folder::new();
        let path = folder.path("listening");
        complete(el, async {
            let listener = UnixListener::bind(&path).unwrap();
            assert_eq!(listener.local_addr().unwrap(), UnixAddr::from(&path));
            let mut client = UnixStream::connect(&path).await.unwrap();
            let (mut server, peer) = listener.accept().await.unwrap();
            assert!(peer.is_unnamed());
            assert_eq!(client.peer_addr().unwrap(), UnixAddr::from(&path));
            assert_eq!(server.local_addr().unwrap(), UnixAddr::from(&path));
            assert!(client.local_addr().unwrap().is_unnamed() && server.peer_addr().unwrap().is_unnamed());
            for stream in [&client, &server] {
                let peer = stream.peer_cred().unwrap();
                assert_eq!(peer.pid, Some(i32::try_from(std::process::id()).unwrap()));
                assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
                assert_eq!(peer.gid, rustix::process::getegid().as_raw());
            }
            client.write_all(b"there").await.unwrap();
            let mut buffer = [0; 5];
            server.read_exact(&mut buffer).await.unwrap();
            server.write_all(b"back!").await.unwrap();
            client.read_exact(&mut buffer).await.unwrap();
            assert_eq!(&buffer, b"back!");
            assert!(format!("{client:?}").starts_with("UnixStream { local: (unnamed), peer: "), "{client:?}");
        });
        assert_eq!(folder.names(), ["listening"], "a plain listener leaves its file");
    }

    /// Much data both ways at once, through the halves and joined again.
    fn much_data_both_ways(el) {
        complete(el, async {
            let (one, other) = UnixStream::pair().unwrap();
            let data = pattern(1_000_000);
            let work = async |stream: UnixStream, data: Vec<u8>| {
                let (mut read, mut write) = stream.into_split();
                let sent = data.clone();
                let writer = spawn(async move {
                    write.write_all(&sent).await.unwrap();
                    write
                });
                let mut received = vec![0; data.len()];
                read.read_exact(&mut received).await.unwrap();
                assert!(received == data);
                read.reunite(writer.await.unwrap()).unwrap()
            };
            let (one, other) = futures::join!(work(one, data.clone()), work(other, data));
            // What belongs together is joined, and nothing else.
            let ((read, write), (other_read, other_write)) = (one.into_split(), other.into_split());
            let error = read.reunite(other_write).unwrap_err();
            assert_eq!(error.to_string(), "the halves are not of the same stream");
            error.read.reunite(write).unwrap();
            other_read.reunite(error.write).unwrap();
        });
    }

    /// Half close: the end of one direction is seen behind all bytes, and the other goes on.
    fn half_close(el) {
        complete(el, async {
            let (mut one, mut other) = UnixStream::pair().unwrap();
            one.write_all(b"last words").await.unwrap();
            one.close().await.unwrap();
            let mut text = String::new();
            other.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "last words");
            other.write_all(b"answer").await.unwrap();
            other.shutdown(Shutdown::Write).unwrap();
            text.clear();
            one.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "answer");
            assert_eq!(one.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);

            // Dropping the writing half ends its direction, too.
            let (one, mut other) = UnixStream::pair().unwrap();
            let (_read, write) = one.into_split();
            drop(write);
            assert_eq!(other.read(&mut [0; 8]).await.unwrap(), 0);
        });
    }

    /// Lines, and a peer that is no part of the loop.
    fn a_stream_of_stds_is_taken(el) {
        let (ours, mut peer) = Plain::pair().unwrap();
        let number = ours.as_raw_fd();
        peer.write_all(b"one\ntwo\n").unwrap();
        complete(el, async {
            let mut stream = UnixStream::from_std(ours).unwrap();
            assert_eq!((stream.as_raw_fd(), stream.as_fd().as_raw_fd()), (number, number));
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            stream.read_line(&mut line).await.unwrap();
            assert_eq!(line, "one\ntwo\n");
            stream.write_all(b"three").await.unwrap();
        });
        let mut answer = String::new();
        peer.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "three");
    }

    /// Descriptors that a peer sends along are closed, and the bytes behind them come though a read stops short there.
    fn descriptors_sent_along_are_closed(el) {
        let (ours, mut peer) = Plain::pair().unwrap();
        complete(el, async {
            let mut stream = UnixStream::from_std(ours).unwrap();
            let mut buffer = [0; 64];
            assert!(poll_times(stream.read(&mut buffer), 1).await.is_none());
            let before = open_descriptors();
            let file = std::fs::File::open("/dev/null").unwrap();
            send_descriptor(peer.as_fd(), b"with", file.as_fd());
            peer.write_all(b" and without").unwrap();
            drop(file);
            let mut text = Vec::new();
            while text.len() < 16 {
                let n = stream.read(&mut buffer).await.unwrap();
                text.extend_from_slice(&buffer[..n]);
            }
            assert_eq!(text, b"with and without");
            assert_eq!(open_descriptors(), before);
        });
    }

    /// A plain listener does as std's: whatever stands at its path is left, and makes the address one that is in use.
    fn a_plain_listener_leaves_files_alone(el) {
        let folder = Folder::new();
        let (stale, file, missing) = (folder.path("stale"), folder.path("file"), folder.path("missing/socket"));
        leave_stale(&stale);
        std::fs::write(&file, "").unwrap();
        complete(el, async {
            let before = open_descriptors();
            for path in [&stale, &file] {
                let error = UnixListener::bind(path).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::AddrInUse);
                assert_eq!(unix_error(&error).address, UnixAddr::from(path));
            }
            assert_eq!(UnixListener::bind(&missing).unwrap_err().kind(), ErrorKind::NotFound);
            let error = UnixListener::bind("").unwrap_err();
            assert_eq!(error.to_string(), "UnixListener::bind: a unix address is needed, and an empty one was given");
            let internet = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let error = UnixListener::bind(OwnedFd::from(internet)).unwrap_err();
            assert_eq!(error.to_string(), "UnixListener::bind: a unix stream socket was expected");
            assert_eq!(open_descriptors(), before);
        });
        assert_eq!(folder.names(), ["file", "stale"]);
    }

    /// A listener that is given, and an abstract one; their connections as a stream.
    fn connections_come_as_a_stream(el) {
        let folder = Folder::new();
        let plain = PlainListener::bind(folder.path("given")).unwrap();
        complete(el, async {
            let address = abstract_name("incoming");
            let listeners = [
                UnixListener::from_std(plain.try_clone().unwrap()).unwrap(),
                UnixListener::bind(plain).unwrap(),
                UnixListener::bind(&address).unwrap(),
            ];
            assert_eq!(listeners[2].local_addr().unwrap(), address);
            for listener in &listeners[1..] {
                let endpoint = listener.local_addr().unwrap();
                let clients = [
                    UnixStream::connect(&endpoint).await.unwrap(),
                    UnixStream::connect(endpoint).await.unwrap(),
                ];
                let accepted: Vec<_> = listener.incoming().take(2).collect().await;
                assert!(accepted.into_iter().all(|accepted| accepted.is_ok()));
                drop(clients);
            }
        });
    }

    /// Several tasks may accept at once, and whoever gives up loses no connection.
    fn several_may_accept(el) {
        let folder = Folder::new();
        let path = folder.path("shared");
        complete(el, async {
            let listener = std::rc::Rc::new(UnixListener::bind(&path).unwrap());
            assert!(poll_times(listener.accept(), 1).await.is_none());
            let tasks: Vec<_> = (0..3)
                .map(|_| {
                    let listener = listener.clone();
                    spawn(async move { listener.accept().await.map(|(stream, _)| stream) })
                })
                .collect();
            yield_now().await;
            let mut clients = Vec::new();
            for _ in 0..3 {
                clients.push(UnixStream::connect(&path).await.unwrap());
            }
            for task in tasks {
                task.await.unwrap().unwrap();
            }
        });
    }

    /// UN-02: the errors of connecting are those of a transport, under this function's name.
    fn errors_of_connecting(el) {
        let folder = Folder::new();
        let path = folder.path("missing");
        complete(el, async {
            let error = UnixStream::connect(&path).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert_eq!(unix_error(&error).address, UnixAddr::from(&path));
            let error = UnixStream::connect("").await.unwrap_err();
            assert_eq!(error.to_string(), "UnixStream::connect: a unix address is needed, and an empty one was given");
            let (one, _other) = Plain::pair().unwrap();
            let stream = UnixStream::connect(one).await.unwrap();
            assert!(stream.peer_addr().unwrap().is_unnamed());
        });
    }

    /// UN-09: a connection that waits for a full queue, dropped, leaves nothing.
    fn a_cancelled_connection_leaves_nothing(el) {
        let folder = Folder::new();
        let path = folder.path("served");
        let _listener = PlainListener::bind(&path).unwrap();
        let before = open_descriptors();
        for polls in 0..3 {
            complete(el, async {
                drop(poll_times(UnixStream::connect(&path).into_future(), polls).await);
            });
            assert_eq!(open_descriptors(), before);
        }
    }
}

/// Outside of a loop the functions that need one say so.
#[test]
fn outside_of_a_loop_they_panic() {
    let message = |f: Box<dyn FnOnce() + std::panic::UnwindSafe>| {
        let payload = std::panic::catch_unwind(f).unwrap_err();
        payload.downcast_ref::<String>().unwrap().clone()
    };
    let text = message(Box::new(|| drop(UnixStream::pair())));
    assert_eq!(text, "roundelay::UnixStream::pair() was called outside of a running event loop");
    let text = message(Box::new(|| drop(UnixListener::bind("unused"))));
    assert_eq!(text, "roundelay::UnixListener::bind() was called outside of a running event loop");
}

/// A stream of a closed loop cannot be made.
#[test]
fn a_closed_loop_has_no_streams() {
    common::on_loop(|el: &EventLoop| {
        let mut late = None;
        complete(el, async {
            let (one, _other) = Plain::pair().unwrap();
            late = Some(UnixStream::connect(one));
        });
        el.close();
        let error = EventLoop::new().unwrap().run_until_complete(late.unwrap()).unwrap().unwrap_err();
        assert_eq!(error.to_string(), roundelay::LoopClosed.to_string());
    });
}

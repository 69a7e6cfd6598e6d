//! Writing where nobody reads any more, in a process that SIGPIPE would end: one whose `main` is another language's.

#[cfg(feature = "__tls")]
#[path = "common/certificates.rs"]
mod certificates;
mod common;
#[path = "common/files.rs"]
mod files;
#[path = "common/own_process.rs"]
mod own_process;
#[path = "common/pipes.rs"]
mod pipes;
#[path = "common/seccomp.rs"]
mod seccomp;
#[path = "common/signals.rs"]
mod signals;
mod wire;

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice, Write};
#[cfg(feature = "__tls")]
use std::net::Shutdown;

use common::{complete, on_loop, settle};
use own_process::own_process;
use pipes::{pipe, until_gone, write_pipe};
use roundelay::{EventLoop, SignalKind, Stdio, TcpStream, UnixStream};
use wire::{NETS, Net, Record, Tap, connect, sockets, until_lost};

/// Runs `body` in a process of its own where the signal ends the process. It does not.
#[track_caller]
fn hosted(body: impl FnOnce(&EventLoop)) {
    own_process(|| seccomp::with_default_sigpipe(|| on_loop(body)), |own| own.ends());
}

/// What the others show is the crate's doing: without it such a process dies.
#[test]
fn such_a_process_dies_of_the_signal() {
    own_process(
        || {
            seccomp::with_default_sigpipe(|| {
                let (reader, mut writer) = pipe();
                drop(reader);
                let _ = writer.write(b"to nobody");
            });
        },
        |own| own.dies_of(SignalKind::pipe()),
    );
}

/// Transports over sockets, with and without the system's call that sends files.
#[test]
fn transports_of_sockets() {
    hosted(|el| {
        for net in NETS {
            for many in [false, true] {
                let record = Record::new();
                let (transport, peer) = connect(el, net, Tap::new(&record));
                transport.pause_reading();
                peer.reset();
                for _ in 0..3 {
                    if many {
                        transport.writelines(&[IoSlice::new(b"to "), IoSlice::new(b"nobody")]);
                    } else {
                        transport.write(b"to nobody");
                    }
                }
                until_lost(el, &record);
            }

            let record = Record::new();
            let (transport, peer) = connect(el, net, Tap::new(&record));
            transport.pause_reading();
            peer.reset();
            let sent = RefCell::new(Ok(0));
            while sent.borrow().is_ok() {
                let file = files::file(b"to nobody");
                *sent.borrow_mut() = complete(el, el.sendfile(&transport, &file).into_future());
            }
            until_lost(el, &record);
        }
    });
}

/// Plain streams and `sock_*` functions.
#[test]
fn plain_streams() {
    use futures::AsyncWriteExt;

    hosted(|el| {
        complete(el, async {
            let (near, far) = sockets(Net::Tcp);
            let mut stream = TcpStream::from_std(near.into()).unwrap();
            drop(far);
            while stream.write_all(b"to nobody").await.is_ok() {}
            let (near, far) = sockets(Net::Unix);
            let mut stream = UnixStream::from_std(near.into()).unwrap();
            drop(far);
            assert_eq!(stream.write_all(b"to nobody").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
            let (near, far) = sockets(Net::Unix);
            near.set_nonblocking(true).unwrap();
            drop(far);
            let el = roundelay::get_running_loop().unwrap();
            assert_eq!(el.sock_sendall(&near, b"to nobody").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        });
    });
}

/// TLS, whose engine has something to say of its own when its peer is gone.
#[cfg(feature = "__tls")]
#[test]
fn tls() {
    use futures::AsyncWriteExt;
    use futures::future::try_join;

    hosted(|el| {
        complete(el, async {
            let (near, far) = sockets(Net::Unix);
            let hung_up = far.try_clone().unwrap();
            let (near, far) = (UnixStream::from_std(near.into()).unwrap(), UnixStream::from_std(far.into()).unwrap());
            let client = certificates::connector().connect(near, "localhost").into_future();
            let (mut client, _server) =
                try_join(client, certificates::acceptor().accept(far).into_future()).await.unwrap();
            // Not by its stream, which would say goodbye.
            hung_up.shutdown(Shutdown::Both).unwrap();
            let written: io::Result<()> = async {
                loop {
                    client.write_all(b"to nobody").await?;
                    client.flush().await?;
                }
            }
            .await;
            assert_eq!(written.unwrap_err().kind(), ErrorKind::BrokenPipe);
            let _ = client.close().await;
        });
    });
}

/// A pipe has no flag against the signal, so it is held back for the time of the call, and nothing is left of it.
#[test]
fn pipes() {
    hosted(|el| {
        for pieces in [&[IoSlice::new(b"to nobody")][..], &[IoSlice::new(b"to "), IoSlice::new(b"nobody")]] {
            let (reader, writer) = pipe();
            let (transport, heard) = write_pipe(el, writer);
            drop(reader);
            transport.writelines(pieces);
            until_gone(el, &transport);
            assert_eq!(heard.log.take(), ["made", "lost BrokenPipe"]);
        }
        settle(el);
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        for set in ["SigPnd", "ShdPnd", "SigBlk"] {
            assert!(!signals::set_in(&status, set).contains(&SignalKind::pipe().as_raw()), "{set}: {status}");
        }
    });
}

/// A program that reads nothing of its input and ends.
#[test]
fn the_input_of_a_process() {
    hosted(|el| {
        complete(el, async {
            let mut process = roundelay::create_subprocess_exec("sh", ["-c", "exec <&-; echo closed"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .await
                .unwrap();
            assert_eq!(process.stdout.as_mut().unwrap().readline().await.unwrap(), b"closed\n");
            let stdin = process.stdin.as_mut().unwrap();
            let ended: io::Result<()> = async {
                loop {
                    stdin.write(&[b'x'; 4096]);
                    stdin.drain().await?;
                }
            }
            .await;
            assert!(matches!(ended.unwrap_err().kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset));
            process.wait().await.unwrap();
        });
    });
}

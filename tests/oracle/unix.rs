//! Unix sockets: half close, and what becomes of files.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use roundelay::{CreateUnixServer, EventLoop, Protocol, Transport};
use tempfile::TempDir;

use crate::common::Log;
use crate::support::{Peer, Recorder, connected, connected_differs, settle, yes};

/// A path for a socket, and its folder.
fn place() -> (PathBuf, TempDir) {
    let folder = tempfile::Builder::new().prefix("rdl").tempdir().unwrap();
    (folder.path().join("socket"), folder)
}

fn client(path: &Path) -> Peer {
    Peer::keep(OwnedFd::from(UnixStream::connect(path).unwrap()))
}

/// Connects, and leaves lines that begin with "client".
async fn connect(el: &EventLoop, recorder: Recorder, path: &Path) -> Transport {
    let recorder = recorder.name("client");
    el.create_unix_connection(move || recorder, path).await.unwrap().0
}

/// A protocol that does nothing.
struct Plain;

impl Protocol for Plain {}

fn plain() -> fn() -> Plain {
    || Plain
}

fn say(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => "not found",
        ErrorKind::ConnectionRefused => "refused",
        _ => "in use",
    }
}

/// Whether a server can be made; closes it.
async fn attempt(log: &Log, what: &str, server: CreateUnixServer<fn() -> Plain>) {
    let said = match server.await {
        Ok(server) => {
            server.close();
            "serves"
        }
        Err(error) => say(&error),
    };
    log.push(format!("{what} {said}"));
}

/// The end of one direction is heard at the other side, and the other direction goes on until its end.
#[test]
fn unix_half_close() {
    connected("unix_half_close", async |el, log| {
        let (path, _folder) = place();
        let (made, lost, ended) = (el.create_future(), el.create_future(), el.create_future());
        let (made_setter, lost_setter, line) = (made.clone(), lost.clone(), log.clone());
        let factory = move || {
            let (made, lost) = (made_setter.clone(), lost_setter.clone());
            Recorder::new(&line)
                .name("server")
                .keep_open()
                .then("made", move |transport| made.set_result(transport.clone()).unwrap())
                .then("eof", |transport| {
                    transport.write(b"answer");
                    transport.write_eof();
                })
                .then("lost", move |_| lost.set_result(()).unwrap())
        };
        let server = el.create_unix_server(factory, &path).await.unwrap();
        let setter = ended.clone();
        let recorder = Recorder::new(&log).keep_open().then("eof", move |_| setter.set_result(()).unwrap());
        let transport = connect(&el, recorder, &path).await;
        let accepted: Transport = made.await.unwrap();
        transport.write(b"question");
        transport.write_eof();
        ended.await.unwrap();
        yes(&log, "client closing", transport.is_closing());
        yes(&log, "server closing", accepted.is_closing());
        transport.close();
        accepted.close();
        lost.await.unwrap();
        settle().await;
        server.close();
    });
}

/// A connection that its server closes at once has been sent all that was written.
#[test]
fn unix_close_flushes_and_peer_hears() {
    connected("unix_close_flushes_and_peer_hears", async |el, log| {
        let (path, _folder) = place();
        let line = log.clone();
        let factory = move || {
            Recorder::new(&line).name("server").then("made", |transport| {
                transport.write(b"all of it");
                transport.close();
            })
        };
        let server = el.create_unix_server(factory, &path).await.unwrap();
        let lost = el.create_future();
        let setter = lost.clone();
        connect(&el, Recorder::new(&log).then("lost", move |_| setter.set_result(()).unwrap()), &path).await;
        lost.await.unwrap();
        settle().await;
        server.close();
    });
}

/// UN-03: the file of a socket that is closed is replaced.
#[test]
fn unix_stale_file_is_replaced() {
    connected("unix_stale_file_is_replaced", async |el, log| {
        let (path, _folder) = place();
        drop(UnixListener::bind(&path).unwrap());
        let (made, line) = (el.create_future(), log.clone());
        let setter = made.clone();
        let factory = move || {
            let setter = setter.clone();
            let recorder = Recorder::new(&line).name("server");
            recorder.then("made", move |transport| setter.set_result(transport.clone()).unwrap())
        };
        let server = el.create_unix_server(factory, &path).await.unwrap();
        client(&path);
        let accepted: Transport = made.await.unwrap();
        accepted.abort();
        settle().await;
        server.close();
    });
}

/// UN-02, UN-03: what is no socket is left, and nobody listens there; what is missing is not found.
#[test]
fn unix_what_is_in_the_way() {
    connected("unix_what_is_in_the_way", async |el, log| {
        let (path, folder) = place();
        std::fs::write(&path, "").unwrap();
        attempt(&log, "file", el.create_unix_server(plain(), &path)).await;
        yes(&log, "file left", path.is_file());
        attempt(&log, "missing folder", el.create_unix_server(plain(), folder.path().join("missing/socket"))).await;
        for (what, target) in [("connect to file", path.clone()), ("connect to nothing", path.with_extension("x"))] {
            let error = el.create_unix_connection(|| Plain, target).await.map(drop).unwrap_err();
            log.push(format!("{what} {}", say(&error)));
        }
    });
}

/// UN-03: a socket that is open is left.
#[test]
fn unix_live_socket_is_in_the_way() {
    let here = ["second in use"];
    connected_differs("unix_live_socket_is_in_the_way", "live-unix-sockets", &here, async |el, log| {
        let (path, _folder) = place();
        let first = el.create_unix_server(plain(), &path).await.unwrap();
        attempt(&log, "second", el.create_unix_server(plain(), &path)).await;
        first.close();
    });
}

async fn file_after_close(log: &Log, path: &Path, server: CreateUnixServer<fn() -> Plain>) {
    let server = server.await.unwrap();
    yes(log, "file while it serves", path.exists());
    server.close();
    yes(log, "file when it is closed", path.exists());
}

/// UN-07: the file goes with its server.
#[test]
fn unix_close_removes_the_file() {
    connected("unix_close_removes_the_file", async |el, log| {
        let (path, _folder) = place();
        file_after_close(&log, &path, el.create_unix_server(plain(), &path)).await;
    });
}

/// UN-07: on request it stays.
#[test]
fn unix_close_leaves_the_file_on_request() {
    connected("unix_close_leaves_the_file_on_request", async |el, log| {
        let (path, _folder) = place();
        file_after_close(&log, &path, el.create_unix_server(plain(), &path).cleanup_socket(false)).await;
    });
}

/// UN-07: what has taken its place stays until its own server goes.
#[test]
fn unix_close_leaves_what_was_replaced() {
    connected("unix_close_leaves_what_was_replaced", async |el, log| {
        let (path, _folder) = place();
        let first = el.create_unix_server(plain(), &path).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        let second = el.create_unix_server(plain(), &path).await.unwrap();
        first.close();
        yes(&log, "file of the second", path.exists());
        second.close();
        yes(&log, "file", path.exists());
    });
}

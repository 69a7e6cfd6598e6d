//! What the tests of unix sockets share.

#![allow(dead_code, unreachable_pub)]

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use roundelay::{EventLoop, Protocol, Server, UnixAddr, UnixAddressError};
use tempfile::TempDir;

use crate::common::PATIENCE;
use crate::tcp::{Echo, complete};

/// A folder of the test's own, removed at its end.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        // Not where the program is built: the path of a socket must be short.
        Self(tempfile::Builder::new().prefix("rdl").tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What is in it.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// An echo server on a path.
#[track_caller]
pub fn serve_echo(el: &EventLoop, path: &Path) -> Server {
    complete(el, el.create_unix_server(|| Echo, path)).unwrap()
}

/// Leaves the file of a socket that is closed.
pub fn leave_stale(path: &Path) {
    drop(UnixListener::bind(path).unwrap());
    assert!(path.exists());
}

/// Whether somebody listens there and echoes, asked by a thread.
#[track_caller]
pub fn echoes(el: &EventLoop, path: &Path) -> bool {
    let path = path.to_owned();
    let thread = std::thread::spawn(move || -> io::Result<bool> {
        let mut client = UnixStream::connect(path)?;
        client.set_read_timeout(Some(PATIENCE))?;
        client.write_all(b"hello")?;
        let mut answer = [0; 5];
        client.read_exact(&mut answer)?;
        Ok(&answer == b"hello")
    });
    crate::common::run_until(el, || thread.is_finished());
    thread.join().unwrap().unwrap_or(false)
}

/// The error of a server that cannot be made.
#[track_caller]
pub fn refusal<P: Protocol>(
    el: &EventLoop,
    factory: impl Fn() -> P + 'static,
    endpoint: impl Into<roundelay::UnixServerEndpoint>,
) -> io::Error {
    complete(el, el.create_unix_server(factory, endpoint)).unwrap_err()
}

/// What went wrong with an address, from inside of an error.
#[track_caller]
pub fn unix_error(error: &io::Error) -> &UnixAddressError {
    error.get_ref().expect("it carries an error").downcast_ref().expect("it is about a unix address")
}

/// An abstract name that nobody else has.
pub fn abstract_name(name: &str) -> UnixAddr {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    UnixAddr::from_abstract_name(format!("roundelay-{}-{number}-{name}", std::process::id()))
}

//! A look into a running loop from outside of its process.
//!
//! [`EventLoop::serve_inspector`] opens a unix socket, and whoever may connect to it asks for metrics and tasks. The
//! program `roundelay-top` among the examples shows them as `top` does.
//!
//! ```text
//! $ cargo run --features inspector --example chat -- 127.0.0.1:8889 --inspect /tmp/chat.sock
//! $ cargo run --features inspector --example roundelay-top -- /tmp/chat.sock
//! $ echo metrics | nc -U /tmp/chat.sock
//! ```
//!
//! # The protocol
//!
//! A client sends lines, and gets one line for each: a JSON object. A line, which has 64 bytes at most, is one word:
//!
//! | line | answer |
//! |---|---|
//! | `metrics` | the fields below, and `metrics`: [`Metrics::to_json`](crate::Metrics::to_json) |
//! | `tasks` | the fields below, and `tasks`: [`TaskDump::to_json`](crate::TaskDump::to_json) |
//! | `all` | all of that |
//!
//! Each answer has `format` (the number 1: what an older client reads does not change its meaning under the same number),
//! `roundelay` (the version of the crate), `pid`, `program` (the name of the program), `loop` (the loop's number) and `name`
//! (its name, or null). What was not understood gets `{"error":"..."}`; after a line that is too long the connection is
//! closed. Fields may be added at any time.
//!
//! Rates are the client's business: it asks twice, and `metrics.uptime_ns` tells how much time has passed. A request is
//! answered in a turn of the loop: while a callback blocks the loop there is no answer, and that, too, tells something.
//! Requests that are sent together are answered in their order. A client that sends and does not read is not read from
//! either, so that nothing piles up.
//!
//! # Who may connect
//!
//! The user of the process and the superuser: by the mode of the file, which is 0600 from the first moment, whatever the
//! umask, and by the credentials of the peer, where the system tells them. Eight clients at most are served at a time. One
//! that does not take its answer for five seconds makes room for the next one.
//!
//! # What it changes
//!
//! A loop that is not asked does nothing. The sockets are registered with the selector, and are among the
//! [descriptors](crate::Metrics::descriptors); they are no transports, servers or tasks, and do not keep the loop from
//! ending. While a client that has asked for `tasks` is connected, the loop [looks closely at its
//! tasks](EventLoop::set_inspection).

mod answer;
mod client;
mod door;

use std::fmt;
use std::io;
use std::path::Path;
use std::rc::Rc;

use crate::error::{LoopClosed, invalid_input};
use crate::event_loop::EventLoop;
use crate::inspector::door::Door;
use crate::os::address::UnixAddr;

impl EventLoop {
    /// Lets others look into this loop, through a unix socket at `path`, until the returned guard is dropped or the loop is
    /// closed. See the [module](crate::inspector) for how to ask.
    ///
    /// The file of a socket that was closed without removing it is replaced; when the inspector ends it removes its own.
    /// Several loops of a process each take a path of their own. A child of `fork` that goes on with the loop has no
    /// inspector: that of the parent stays.
    ///
    /// # Errors
    ///
    /// The operating system's, with a [`UnixAddressError`](crate::UnixAddressError): `AddrInUse` where another socket is
    /// bound to the path, or a file is in the way that is no socket, `NotFound` where the folder is missing. `InvalidInput`
    /// for a path that is empty or too long for a socket (on Linux 107 bytes), and for an abstract name, which has no
    /// permissions; [`LoopClosed`] as an `io::Error`.
    ///
    /// ```
    /// use futures::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    /// use roundelay::UnixStream;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("inspector");
    /// roundelay::block_on(async {
    ///     let _inspector = roundelay::get_running_loop().unwrap().serve_inspector(&path)?;
    ///
    ///     let mut stream = BufReader::new(UnixStream::connect(&path).await?);
    ///     stream.get_mut().write_all(b"metrics\n").await?;
    ///     let mut answer = String::new();
    ///     stream.read_line(&mut answer).await?;
    ///     let answer: serde_json::Value = serde_json::from_str(&answer)?;
    ///     assert_eq!(answer["pid"], std::process::id());
    ///     std::io::Result::Ok(())
    /// })
    /// # ?; std::io::Result::Ok(())
    /// ```
    pub fn serve_inspector(&self, path: impl AsRef<Path>) -> io::Result<Inspector> {
        const METHOD: &str = "EventLoop::serve_inspector()";
        if !self.core.is_open() {
            return Err(LoopClosed.into());
        }
        let path = path.as_ref();
        let address = UnixAddr::from(path);
        if address.as_pathname().is_none() {
            let what = if address.as_abstract_name().is_some() {
                "an abstract name has no permissions"
            } else {
                "the path is empty"
            };
            return Err(invalid_input(format!("{METHOD}: {what}")));
        }
        let path = std::path::absolute(path)?;
        Ok(Inspector { door: Door::open(self, METHOD, &address)?, path: path.into() })
    }
}

/// An inspector that serves. Dropping it ends it, and the connections of its clients. Made by
/// [`EventLoop::serve_inspector`].
#[must_use = "the inspector ends when this is dropped"]
pub struct Inspector {
    door: Rc<Door>,
    path: Box<Path>,
}

impl Inspector {
    /// Where clients connect, as an absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many clients are connected.
    pub fn clients(&self) -> usize {
        self.door.clients()
    }

    /// Ends it: its clients' connections are closed and its file is removed. As dropping it does.
    pub fn close(self) {}
}

impl Drop for Inspector {
    fn drop(&mut self) {
        self.door.close();
    }
}

impl fmt::Debug for Inspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Inspector {:?} clients={}>", self.path, self.clients())
    }
}

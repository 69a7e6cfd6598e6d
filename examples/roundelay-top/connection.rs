//! The connection to an inspector.

use std::io;
use std::path::Path;

use futures::io::{AsyncBufReadExt, AsyncWriteExt};
use roundelay::UnixStream;

pub(crate) struct Connection(UnixStream);

impl Connection {
    pub(crate) async fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(UnixStream::connect(path).await?))
    }

    /// Asks, and waits for the line that is the answer. Of one that was given up the connection is of no more use.
    pub(crate) async fn ask(&mut self, request: &str) -> io::Result<String> {
        self.0.write_all(format!("{request}\n").as_bytes()).await?;
        let mut line = String::new();
        self.0.read_line(&mut line).await?;
        if !line.ends_with('\n') {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the loop, or its inspector, has ended"));
        }
        line.truncate(line.trim_end().len());
        Ok(line)
    }
}

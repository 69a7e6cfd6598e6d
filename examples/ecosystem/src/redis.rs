//! A Redis for the moment.

use std::io;
use std::path::PathBuf;
use std::process::Command;

use crate::service::{Service, find, folder};

/// A Redis on a unix socket in a temporary folder, which ends with this process and keeps nothing.
#[derive(Debug)]
pub struct Redis {
    service: Service,
}

impl Redis {
    /// Starts one; `None`, after saying so, where it is not installed.
    ///
    /// # Errors
    ///
    /// The operating system's; what the server says if it does not start.
    pub fn start() -> io::Result<Option<Self>> {
        let Some(redis) = find("redis-server", &[]) else {
            eprintln!("skipped: redis-server is not installed");
            return Ok(None);
        };
        let folder = folder("redis-", None)?;
        let mut command = Command::new(redis);
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(folder.join("socket"));
        let service = Service::start(&command, folder, "TERM", "ready to accept connections", None)?;
        Ok(Some(Self { service }))
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.service.folder().join("socket")
    }

    /// Ends it the hard way, in the middle of what it is doing.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn kill(self) -> io::Result<()> {
        self.service.kill()
    }
}

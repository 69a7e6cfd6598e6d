//! A PostgreSQL for the moment.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::service::{Service, User, find, folder};

/// A PostgreSQL with a database of its own, on a unix socket in a temporary folder, which ends with this process. The user
/// is `postgres`, and is trusted.
#[derive(Debug)]
pub struct Postgres {
    service: Service,
}

impl Postgres {
    /// Starts one; `None`, after saying so, where it is not installed.
    ///
    /// PostgreSQL refuses to run as root. Where this process does, the server runs as the system's `postgres` or `nobody`.
    ///
    /// # Errors
    ///
    /// The operating system's; what the server says if it does not start.
    pub fn start() -> io::Result<Option<Self>> {
        const FOLDERS: [&str; 2] = ["/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin"];
        let (Some(initdb), Some(postgres)) = (find("initdb", &FOLDERS), find("postgres", &FOLDERS)) else {
            eprintln!("skipped: postgresql is not installed");
            return Ok(None);
        };
        let user = servant()?;
        let folder = folder("postgres-", user)?;
        if let Err(error) = init(&initdb, &folder, user) {
            let _ = fs::remove_dir_all(&folder);
            return Err(error);
        }
        let mut command = Command::new(postgres);
        command.arg("-D").arg(folder.join("data")).arg("-k").arg(&folder);
        // It listens nowhere else, and needs not survive anything.
        for setting in ["listen_addresses=", "fsync=off", "log_min_messages=log", "log_checkpoints=off"] {
            command.args(["-c", setting]);
        }
        let service = Service::start(&command, folder, "QUIT", "ready to accept connections", user)?;
        Ok(Some(Self { service }))
    }

    /// The folder of its socket: its `host`.
    pub fn host(&self) -> &Path {
        self.service.folder()
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.host().join(".s.PGSQL.5432")
    }
}

/// Makes the database.
fn init(initdb: &Path, folder: &Path, user: Option<User>) -> io::Result<()> {
    let mut command = Command::new(initdb);
    command.arg("--pgdata").arg(folder.join("data")).current_dir(folder).stdin(Stdio::null());
    command.args(["--username=postgres", "--auth=trust", "--no-sync", "--no-instructions", "--no-locale"]);
    command.args(["--encoding=UTF8"]);
    if let Some(user) = user {
        command.uid(user.id).gid(user.group);
    }
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(format!("initdb: {}\n{said}", output.status)))
}

/// Whom the server has to run as, if this process is root's: the numbers of a user and of their group.
fn servant() -> io::Result<Option<User>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let user = |name: &str| {
        let mut fields = users.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.split(':').skip(1);
        Some(User { id: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()? })
    };
    let found = user("postgres").or_else(|| user("nobody"));
    found.map(Some).ok_or_else(|| io::Error::other("there is no user whom the server could run as"))
}

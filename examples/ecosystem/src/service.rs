//! Servers of others that live as long as whoever starts them.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Starts the server that is given by the arguments, and ends it, and removes its folder, when the standard input ends: when
/// whoever holds the other end closes it, or is no more, however it came to its end.
const KEEPER: &str = r#"
signal=$1 folder=$2
shift 2
"$@" </dev/null 2>&1 &
exec >/dev/null 2>&1
read -r end
kill -s "${end:-$signal}" $!
wait $!
rm -rf "$folder"
"#;

/// Who a server runs as.
#[derive(Clone, Copy, Debug)]
pub struct User {
    pub id: u32,
    pub group: u32,
}

/// A server that runs in a folder of its own, and ends with the process that has started it.
#[derive(Debug)]
pub struct Service {
    keeper: Child,
    said: BufReader<ChildStdout>,
    folder: PathBuf,
}

impl Service {
    /// Starts a server, which is to say on one of its outputs that it is ready. The folder, of which it takes possession,
    /// is removed at the end, after this signal has ended the server. It runs as this user, if one is named.
    ///
    /// # Errors
    ///
    /// The operating system's; what the server has said, if it ends without saying that it is ready.
    pub fn start(
        command: &Command,
        folder: PathBuf,
        signal: &str,
        ready: &str,
        user: Option<User>,
    ) -> io::Result<Self> {
        let mut shell = Command::new("sh");
        shell.args(["-c", KEEPER, "keeper", signal]).arg(&folder);
        shell.arg(command.get_program()).args(command.get_args()).current_dir(&folder);
        if let Some(user) = user {
            shell.uid(user.id).gid(user.group);
        }
        // In a group of its own it does not hear of Ctrl-C, which would leave the folder behind.
        shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = shell.spawn()?;
        let said = BufReader::new(keeper.stdout.take().expect("it is piped"));
        let mut service = Self { keeper, said, folder };
        service.await_line(ready)?;
        Ok(service)
    }

    /// Reads what the server says until it says this.
    fn await_line(&mut self, ready: &str) -> io::Result<()> {
        let mut all = String::new();
        loop {
            let before = all.len();
            if self.said.read_line(&mut all)? == 0 {
                return Err(io::Error::other(format!("the server has ended:\n{all}")));
            }
            if all[before..].contains(ready) {
                return Ok(());
            }
        }
    }

    /// Where it lives.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Ends it the hard way, in the middle of what it is doing.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn kill(mut self) -> io::Result<()> {
        use std::io::Write;

        self.keeper.stdin.take().expect("it is taken once").write_all(b"KILL\n")?;
        self.keeper.wait().map(drop)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// A folder for a server, which only its owner can enter; that is this user, if nobody is named.
pub(crate) fn folder(name: &str, owner: Option<User>) -> io::Result<PathBuf> {
    let folder = tempfile::Builder::new().prefix(name).tempdir()?;
    if let Some(owner) = owner {
        std::os::unix::fs::chown(folder.path(), Some(owner.id), Some(owner.group))?;
    }
    Ok(folder.keep())
}

/// Where a program is: on the path, or in one of these folders. A star stands for a version, of which the latest counts.
pub fn find(program: &str, folders: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for folder in folders {
        match folder.split_once("/*/") {
            None => places.push(folder.into()),
            Some((above, below)) => {
                let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(above)
                    .into_iter()
                    .flatten()
                    .filter_map(|entry| {
                        let path = entry.ok()?.path();
                        let version = path.file_name().and_then(OsStr::to_str)?.parse().ok()?;
                        Some((version, path.join(below)))
                    })
                    .collect();
                versions.sort();
                places.extend(versions.into_iter().rev().map(|(_, path)| path));
            }
        }
    }
    places.into_iter().map(|place| place.join(program)).find(|path| path.is_file())
}

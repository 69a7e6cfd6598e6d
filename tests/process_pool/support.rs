//! What these tests share.

use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use roundelay::{ProcessJob, ProcessPoolExecutor};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use crate::common::{PATIENCE, complete, on_loop};
use crate::threads::wait_until;

/// Runs a test with a pool, which has ended at the end of it, with all of its processes.
pub fn with_pool(max_workers: usize, body: impl FnOnce(&roundelay::EventLoop, &ProcessPoolExecutor)) {
    on_loop(|el| {
        let pool = ProcessPoolExecutor::new(max_workers).unwrap();
        body(el, &pool);
        assert!(complete(el, pool.shutdown(None)));
        assert_eq!(pool.workers(), 0);
        assert!(has_no_children());
    });
}

/// Whether this process has no child, nor one that nobody has waited for.
pub fn has_no_children() -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    rustix::process::waitid(WaitId::All, options).is_err_and(|error| error == Errno::CHILD)
}

/// Where those descriptors of this process lead that every program inherits which it starts: it was itself given them so.
pub fn inherited() -> Vec<String> {
    let entries = std::fs::read_dir("/proc/self/fdinfo").unwrap().map(|entry| entry.unwrap().path());
    let is_inherited = |path: &PathBuf| {
        let info = std::fs::read_to_string(path).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("2000000");
        // The flag that closes it at the start of another program, in octal.
        u32::from_str_radix(flags.trim(), 8).unwrap() & 0o2_000_000 == 0
    };
    let numbers = entries.filter(is_inherited).map(|path| path.file_name().unwrap().to_owned());
    let target = |number| std::fs::read_link(PathBuf::from("/proc/self/fd").join(number)).ok();
    numbers.filter_map(target).map(|target| target.to_string_lossy().into_owned()).collect()
}

/// Whether there is a process by this number that has not ended.
pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name, which stands in parentheses.
    let state = stat.rsplit(')').next().unwrap().trim_start().chars().next();
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

pub fn kill(pid: u32, signal: Signal) {
    rustix::process::kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

/// Where jobs wait until they are let go.
pub struct Gate {
    listener: UnixListener,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Gate {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gate");
        Self { listener: UnixListener::bind(&path).unwrap(), path, _folder: folder }
    }

    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Gives the pool a job that waits here, and then gives the number.
    pub fn job(&self, pool: &ProcessPoolExecutor, number: u32) -> ProcessJob<u32> {
        pool.run("gate", (&self.path, number))
    }

    /// The next job that has come here.
    pub fn arrived(&self) -> Waiting {
        self.listener.set_nonblocking(true).unwrap();
        let mut accepted = None;
        wait_until(|| {
            accepted = self.listener.accept().ok();
            accepted.is_some()
        });
        let (stream, _) = accepted.unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let (pid, number) = line.trim().split_once(' ').unwrap();
        Waiting { pid: pid.parse().unwrap(), number: number.parse().unwrap(), reader }
    }

    /// Whether none has come.
    pub fn is_empty(&self) -> bool {
        self.listener.set_nonblocking(true).unwrap();
        self.listener.accept().is_err()
    }
}

/// A job that waits at a gate.
pub struct Waiting {
    pub pid: u32,
    pub number: u32,
    reader: BufReader<UnixStream>,
}

impl Waiting {
    /// Whether it still answers.
    pub fn answers(&mut self) -> bool {
        let mut line = String::new();
        let asked = self.reader.get_mut().write_all(b"there?\n");
        asked.is_ok() && self.reader.read_line(&mut line).is_ok() && line == "there?\n"
    }

    /// Lets it go on.
    pub fn let_go(self) {
        self.reader.get_ref().shutdown(Shutdown::Both).unwrap();
    }
}

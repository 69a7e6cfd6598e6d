//! Child processes: a protocol that notes what it is told, and what the system says of them. Included by path, beside
//! `common`.

#![allow(dead_code, unreachable_pub)]

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use roundelay::{ProcessHandle, SubprocessProtocol};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// No arguments.
pub const NONE: [&str; 0] = [];

/// What a child waits for: a program that reads `path`, which is for `pass_fds`, comes to the end when the gate is dropped.
pub struct Gate {
    pub path: String,
    _held: File,
}

/// A gate, and what the child gets of it.
pub fn gate() -> (Gate, OwnedFd) {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    (Gate { path: format!("/dev/fd/{}", reader.as_raw_fd()), _held: writer.into() }, reader)
}

/// The descriptors of this process that every program gets that it starts: those that the test was started with.
pub fn inherited() -> Vec<i32> {
    let names =
        std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let is_inherited = |fd: &i32| {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("2000000").trim().to_owned();
        i32::from_str_radix(&flags, 8).unwrap() & libc::O_CLOEXEC == 0
    };
    names.map(|name| name.parse().unwrap()).filter(is_inherited).collect()
}

/// Blocks until a child has ended, and does not reap it.
pub fn await_zombie(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
}

/// The children of this thread that were not reaped.
pub fn children() -> Vec<u32> {
    let text = std::fs::read_to_string("/proc/thread-self/children").unwrap();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Whether the system knows nothing of a process any more: it has ended, and was reaped.
pub fn is_reaped(pid: u32) -> bool {
    !std::path::Path::new(&format!("/proc/{pid}")).exists()
}

/// What was told, in its order. Data that comes in pieces is one entry per pipe and stretch.
#[derive(Clone, Default)]
pub struct Told {
    entries: Rc<RefCell<Vec<String>>>,
    /// All data of both outputs.
    received: Rc<RefCell<Vec<u8>>>,
}

impl Told {
    pub fn new() -> Self {
        Self::default()
    }

    /// A factory of protocols that write here.
    pub fn protocol(&self) -> impl FnOnce() -> Recorder + 'static {
        let told = self.clone();
        move || Recorder { told, pieces: None }
    }

    fn push(&self, entry: String) {
        self.entries.borrow_mut().push(entry);
    }

    /// The entries so far, which stay.
    pub fn so_far(&self) -> Vec<String> {
        self.entries.borrow().clone()
    }

    /// The entries so far, which are forgotten.
    pub fn take(&self) -> Vec<String> {
        self.entries.take()
    }

    /// All data of both outputs.
    pub fn received(&self) -> String {
        String::from_utf8_lossy(&self.received.borrow()).into_owned()
    }

    pub fn first(&self) -> String {
        self.entries.borrow()[0].clone()
    }

    pub fn has(&self, entry: &str) -> bool {
        self.entries.borrow().iter().any(|other| other == entry)
    }

    pub fn is_over(&self) -> bool {
        self.entries.borrow().iter().any(|entry| entry.starts_with("lost"))
    }
}

pub struct Recorder {
    told: Told,
    pieces: Option<(i32, Vec<u8>)>,
}

impl Recorder {
    fn note(&mut self, entry: String) {
        if let Some((fd, data)) = self.pieces.take() {
            self.told.push(format!("data {fd} {:?}", String::from_utf8_lossy(&data)));
        }
        self.told.push(entry);
    }
}

impl SubprocessProtocol for Recorder {
    fn connection_made(&mut self, _: &ProcessHandle) {
        self.note("made".into());
    }

    fn pipe_data_received(&mut self, _: &ProcessHandle, fd: i32, data: &[u8]) {
        self.told.received.borrow_mut().extend_from_slice(data);
        match &mut self.pieces {
            Some((other, pieces)) if *other == fd => pieces.extend_from_slice(data),
            _ => {
                if let Some((fd, data)) = self.pieces.replace((fd, data.to_vec())) {
                    self.told.push(format!("data {fd} {:?}", String::from_utf8_lossy(&data)));
                }
            }
        }
    }

    fn pipe_connection_lost(&mut self, _: &ProcessHandle, fd: i32, error: Option<io::Error>) {
        self.note(format!("pipe lost {fd} {:?}", error.map(|error| error.kind())));
    }

    fn pause_writing(&mut self, _: &ProcessHandle) {
        self.note("pause".into());
    }

    fn resume_writing(&mut self, _: &ProcessHandle) {
        self.note("resume".into());
    }

    fn process_exited(&mut self, process: &ProcessHandle) {
        self.note(format!("exited {}", process.returncode().unwrap()));
    }

    fn connection_lost(&mut self, _: &ProcessHandle, error: Option<io::Error>) {
        self.note(format!("lost {:?}", error.map(|error| error.kind())));
    }
}

pub mod unsafe_calls {
    //! The tests' own unsafe code.
    #![allow(unsafe_code)]

    use std::io;

    use roundelay::PreExec;
    use rustix::fs::Mode;

    /// A hook that sets the mask of new files.
    pub fn set_umask(mask: u32) -> PreExec {
        // SAFETY: it makes one system call, which may be made after a fork.
        unsafe {
            PreExec::new(move || {
                rustix::process::umask(Mode::from_raw_mode(mask));
                Ok(())
            })
        }
    }

    /// A hook that fails.
    pub fn failing_hook(errno: i32) -> PreExec {
        // SAFETY: it makes no call that may not be made after a fork.
        unsafe { PreExec::new(move || Err(io::Error::from_raw_os_error(errno))) }
    }

    /// Calls `f` while a signal is blocked on this thread.
    pub fn with_blocked<R>(signal: i32, f: impl FnOnce() -> R) -> R {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: both sets are written before they are read, and stay where they are.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), signal);
            libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), before.as_mut_ptr());
        }
        let result = f();
        // SAFETY: it was written above.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
        result
    }

    /// Has the system reap all children of this process. For a process that does nothing else.
    pub fn ignore_sigchld() {
        // SAFETY: the system's own answer to the signal, no function of ours.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    }

    /// Closes the process's standard input. For a process that does nothing else.
    pub fn close_stdin() {
        // SAFETY: nobody else uses it.
        drop(unsafe { rustix::stdio::take_stdin() });
    }
}

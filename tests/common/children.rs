//! Child processes in tests: starting them, and looking at them from outside.
//!
//! Used by `#[path]` in the files that need it, beside `common`.

#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::thread;
use std::time::Instant;

use roundelay::{CreateSubprocess, Stdio, create_subprocess_exec, create_subprocess_shell};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::common::PATIENCE;

/// A command for the shell, with three pipes.
#[track_caller]
pub fn shell(command: &str) -> CreateSubprocess {
    piped(create_subprocess_shell(command))
}

/// A program, with three pipes.
#[track_caller]
pub fn exec(program: &str, args: &[&str]) -> CreateSubprocess {
    piped(create_subprocess_exec(program, args))
}

fn piped(create: CreateSubprocess) -> CreateSubprocess {
    create.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped())
}

/// Waits, without a loop, until something is so that other threads or processes bring about.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::yield_now();
    }
}

/// The status of some child that has ended and that nobody has reaped. `Err` where there are no children.
fn look() -> Result<bool, Errno> {
    waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT)
        .map(|found| found.is_some())
}

/// Whether this process has a child that runs, or one that nobody has reaped.
pub fn has_children() -> bool {
    match look() {
        Err(Errno::CHILD) => false,
        Err(error) => panic!("{error}"),
        Ok(_) => true,
    }
}

/// Whether one of them has ended.
pub fn has_ended_children() -> bool {
    look().unwrap()
}

/// Waits until the last child has been reaped. Only for tests that are alone.
#[track_caller]
pub fn no_child_is_left() {
    eventually("no child is left", || !has_children());
}

/// What a process does, as one letter: R and S for one that runs or waits, T for one that is stopped, Z for one that has
/// ended and was not reaped. `None` where there is no such process.
pub fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses, and may contain anything.
    stat.rsplit(") ").next()?.chars().next()
}

/// Whether a process is there and has not ended.
pub fn is_running(pid: u32) -> bool {
    !matches!(state(pid), None | Some('Z' | 'X'))
}

/// The numbers of a process's descriptors.
pub fn descriptors_of(pid: u32) -> BTreeSet<RawFd> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
}

/// A line of a process's status, as a number in hexadecimal: `SigBlk` and the like.
pub fn signals(status: &str, line: &str) -> u64 {
    let value = status.lines().find_map(|other| other.strip_prefix(line)?.strip_prefix(':'));
    u64::from_str_radix(value.unwrap_or_else(|| panic!("no {line} in {status}")).trim(), 16).unwrap()
}

/// Descriptors of all sorts, none of which is for a child.
pub fn many_descriptors(count: usize) -> Vec<OwnedFd> {
    let null = || OwnedFd::from(fs::File::open("/dev/null").unwrap());
    let fds: Vec<_> = (0..count).map(|_| null()).collect();
    assert!(fds.iter().all(|fd| fd.as_raw_fd() > 2));
    fds
}

/// The tests' own unsafe code.
pub mod unsafe_calls {
    #![allow(unsafe_code)]

    use std::ffi::CString;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    /// The C library's `system`: it starts a shell, and waits for it itself.
    pub fn system(command: &str) -> ExitStatus {
        let command = CString::new(command).unwrap();
        // SAFETY: a text that ends with zero, and lives as long as the call.
        ExitStatus::from_raw(unsafe { libc::system(command.as_ptr()) })
    }
}

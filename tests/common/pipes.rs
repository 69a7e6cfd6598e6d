//! Pipes, FIFOs and terminals, and the ends that are no part of the loop.

#![allow(dead_code, unreachable_pub)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use roundelay::{EventLoop, Transport};
use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, mknodat, open};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use crate::common::run_until;

/// A pipe: its reading end and its writing end, which block.
pub fn pipe() -> (File, File) {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    (reader.into(), writer.into())
}

/// A pipe that keeps packets apart.
pub fn packet_pipe() -> (File, File) {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::DIRECT).unwrap();
    (reader.into(), writer.into())
}

/// A terminal: its master and its slave, which passes bytes through unchanged.
pub fn terminal() -> (File, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave = open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let mut settings = tcgetattr(&slave).unwrap();
    settings.make_raw();
    tcsetattr(&slave, OptionalActions::Now, &settings).unwrap();
    (master.into(), slave.into())
}

/// A terminal that hands over whole lines, and knows the key that ends the input.
pub fn line_terminal() -> (File, File) {
    let (master, slave) = terminal();
    let mut settings = tcgetattr(&slave).unwrap();
    settings.local_modes |= rustix::termios::LocalModes::ICANON;
    tcsetattr(&slave, OptionalActions::Now, &settings).unwrap();
    (master, slave)
}

pub fn make_fifo(path: &Path) {
    mknodat(rustix::fs::CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

/// Opens a file, a FIFO or a device without waiting for anybody.
pub fn open_now(path: &Path, flags: OFlags) -> File {
    open(path, flags | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty()).unwrap().into()
}

pub fn is_nonblocking(fd: impl AsFd) -> bool {
    fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
}

pub fn set_nonblocking(fd: impl AsFd, nonblocking: bool) {
    let before = fcntl_getfl(&fd).unwrap();
    let after = if nonblocking { before | OFlags::NONBLOCK } else { before - OFlags::NONBLOCK };
    fcntl_setfl(fd, after).unwrap();
}

/// Writes until there is no more room; how much that was.
pub fn fill(writer: &mut File) -> usize {
    set_nonblocking(&*writer, true);
    let (mut sum, mut piece) = (0, vec![b'x'; 4096]);
    loop {
        match writer.write(&piece) {
            Ok(n) => sum += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && piece.len() > 1 => piece.truncate(1),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return sum,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Reads an end that is no part of the loop until it has so many bytes, or is at its end.
#[track_caller]
pub fn receive(el: &EventLoop, reader: &mut File, most: usize) -> Vec<u8> {
    set_nonblocking(&*reader, true);
    let (mut received, mut at_end) = (Vec::new(), false);
    run_until(el, || {
        let mut buffer = vec![0; 64 * 1024];
        while received.len() < most && !at_end {
            let room = buffer.len().min(most - received.len());
            match reader.read(&mut buffer[..room]) {
                Ok(0) => at_end = true,
                Ok(n) => received.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) => panic!("{error}"),
            }
        }
        true
    });
    received
}

/// Waits for the end of a transport.
#[track_caller]
pub fn until_gone(el: &EventLoop, transport: &Transport) {
    run_until(el, || transport.protocol().is_none());
}

/// The same end once more.
pub fn again(file: &File) -> OwnedFd {
    file.as_fd().try_clone_to_owned().unwrap()
}

//! Pipes, FIFOs and terminals, and the ends that are no part of the loop.

#![allow(dead_code, unreachable_pub)]

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use roundelay::{EventLoop, KeepOpen, Protocol, Transport};
use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, mknodat, open};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use crate::common::{Log, complete, run_until};

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

/// Notes what it hears; bytes are gathered.
#[derive(Clone, Default)]
pub struct Recorder {
    pub log: Log,
    bytes: Rc<RefCell<Vec<u8>>>,
}

impl Recorder {
    /// What has come since the last call.
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.take()
    }
}

impl Protocol for Recorder {
    fn connection_made(&mut self, _: &Transport) {
        self.log.push("made");
    }
    fn data_received(&mut self, _: &Transport, data: &[u8]) {
        if self.bytes.borrow().is_empty() {
            self.log.push("data");
        }
        self.bytes.borrow_mut().extend_from_slice(data);
    }
    fn eof_received(&mut self, transport: &Transport) -> KeepOpen {
        self.log.push(if transport.is_closing() { "eof closing" } else { "eof" });
        KeepOpen::Yes
    }
    fn pause_writing(&mut self, _: &Transport) {
        self.log.push("pause");
    }
    fn resume_writing(&mut self, _: &Transport) {
        self.log.push("resume");
    }
    fn connection_lost(&mut self, _: &Transport, error: Option<io::Error>) {
        match error {
            None => self.log.push("lost"),
            Some(error) => self.log.push(format!("lost {:?}", error.kind())),
        }
    }
}

/// A recorded reading end.
#[track_caller]
pub fn read_pipe(el: &EventLoop, fd: impl Into<OwnedFd>) -> (Transport, Recorder) {
    let recorder = Recorder::default();
    let given = recorder.clone();
    let (transport, _) = complete(el, el.connect_read_pipe(move || given, fd)).unwrap();
    (transport, recorder)
}

/// A recorded writing end.
#[track_caller]
pub fn write_pipe(el: &EventLoop, fd: impl Into<OwnedFd>) -> (Transport, Recorder) {
    let recorder = Recorder::default();
    let given = recorder.clone();
    let (transport, _) = complete(el, el.connect_write_pipe(move || given, fd)).unwrap();
    (transport, recorder)
}

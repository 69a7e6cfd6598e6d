//! Reading ends and writing ends of pipes as transports (behaviours PI).

mod common;

#[path = "common/pipes.rs"]
mod pipes;

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use common::{Log, complete, run_until, settle, take_reports};
use pipes::{fill, is_nonblocking, pipe, receive, until_gone};
use roundelay::{EventLoop, KeepOpen, Protocol, ProtocolRef, Transport};

/// Notes what it hears; bytes are gathered.
#[derive(Clone, Default)]
struct Recorder {
    log: Log,
    bytes: Rc<RefCell<Vec<u8>>>,
}

impl Recorder {
    fn bytes(&self) -> Vec<u8> {
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

fn read_pipe(el: &EventLoop, fd: impl Into<OwnedFd>) -> (Transport, Recorder) {
    let recorder = Recorder::default();
    let given = recorder.clone();
    let (transport, _): (_, ProtocolRef<Recorder>) = complete(el, el.connect_read_pipe(move || given, fd)).unwrap();
    (transport, recorder)
}

fn write_pipe(el: &EventLoop, fd: impl Into<OwnedFd>) -> (Transport, Recorder) {
    let recorder = Recorder::default();
    let given = recorder.clone();
    let (transport, _) = complete(el, el.connect_write_pipe(move || given, fd)).unwrap();
    (transport, recorder)
}

on_every_loop! {
    /// PI-01, LU-10: the connection is made before it is returned, data comes, and when the writer closes, the end of file
    /// and then the end, though the protocol would keep the connection open.
    fn a_reading_end(el) {
        let (reader, mut writer) = pipe();
        let (transport, heard) = read_pipe(el, reader);
        assert_eq!(heard.log.take(), ["made"]);
        assert!(transport.is_reading() && !transport.can_write_eof());
        assert!(transport.extra_info().pipe.is_some() && transport.extra_info().socket.is_none());
        writer.write_all(b"one").unwrap();
        run_until(el, || heard.log.len() == 1);
        writer.write_all(b" two").unwrap();
        drop(writer);
        until_gone(el, &transport);
        assert_eq!(heard.log.take(), ["data", "eof closing", "lost"]);
        assert_eq!(heard.bytes(), b"one two");
        let turns = el.stats().turns;
        settle(el);
        assert!(el.stats().turns - turns < 3);
        assert_eq!(transport.extra_info().pipe.unwrap().raw_fd(), None);
    }

    /// PI-02: what is written arrives, and `close` gives `connection_lost(None)`.
    fn a_writing_end(el) {
        let (mut reader, writer) = pipe();
        let (transport, heard) = write_pipe(el, writer);
        transport.write(b"one");
        transport.writelines(&[io::IoSlice::new(b" two"), io::IoSlice::new(b" three")]);
        transport.write_owned(&b" four"[..]);
        transport.close();
        assert_eq!(receive(el, &mut reader, usize::MAX), b"one two three four");
        until_gone(el, &transport);
        assert_eq!(heard.log.take(), ["made", "lost"]);
    }
}

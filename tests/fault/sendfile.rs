//! Files, over transports and sockets.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use roundelay::{Protocol, Transport};

use crate::sweep::{Stage, Witness, check_bytes, pattern, sweep};

/// More than two sockets buffer.
const BYTES: usize = 1_000_000;

struct Quiet;

impl Protocol for Quiet {
    fn connection_made(&mut self, transport: &Transport) {
        transport.write(b"head");
    }
}

/// Takes all that comes, on a thread whose calls do not count.
fn reader(mut peer: UnixStream) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut received = Vec::new();
        // A reset is an end as any other.
        let _ = peer.read_to_end(&mut received);
        received
    })
}

fn file(data: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(data).unwrap();
    file
}

/// Whether all of the file is said to have been sent.
fn note(witness: &Witness, sent: io::Result<u64>, expected: usize) -> bool {
    let sent = witness.check("sendfile", sent);
    assert!(sent.is_none_or(|sent| sent == expected as u64), "success, and not all of it");
    sent.is_some()
}

fn over_a_transport(stage: &Stage<'_>, source: File, data: &[u8]) {
    let (el, witness) = (stage.el.clone(), stage.witness.clone());
    let (near, far) = UnixStream::pair().unwrap();
    let received = reader(far);
    let protocol = witness.protocol("protocol", Quiet);
    let connecting = el.create_connection(move || protocol, OwnedFd::from(near));
    let connected = witness.check("create_connection", stage.complete(connecting.into_future()));
    if let Some((transport, _)) = connected {
        let sending = el.sendfile(&transport, &source);
        if note(&witness, stage.complete(sending.into_future()), data.len()) {
            transport.write(b"tail");
            transport.close();
        } else {
            // Not every error is the connection's: it may be open yet.
            transport.abort();
        }
        stage.run_until(|| transport.protocol().is_none());
        check_bytes(&witness, &[b"head", data, b"tail"].concat(), &received.join().unwrap());
    }
}

#[test]
fn a_file_over_a_transport() {
    let data = pattern(BYTES);
    sweep(|stage| over_a_transport(stage, file(&data), &data));
}

#[test]
fn a_pipe_over_a_transport() {
    let data = pattern(50_000);
    sweep(|stage| {
        let (read, write) = rustix::pipe::pipe().unwrap();
        File::from(write).write_all(&data).unwrap();
        over_a_transport(stage, File::from(read), &data);
    });
}

#[test]
fn a_file_over_a_socket() {
    let data = pattern(BYTES);
    sweep(|stage| {
        let (el, witness) = (stage.el, &stage.witness);
        let (near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let received = reader(far);
        let file = file(&data);
        // The future owns the socket, and closes it at its end.
        note(witness, stage.complete(el.sock_sendfile(near, &file).into_future()), data.len());
        check_bytes(witness, &data, &received.join().unwrap());
    });
}

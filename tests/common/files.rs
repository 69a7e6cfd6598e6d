//! Files for the tests of sendfile, and peers that take them.
//!
//! Used by `#[path]` in the files that need it.

#![allow(dead_code, unreachable_pub)]

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::thread::JoinHandle;

/// A file without a name that holds these bytes, at its beginning.
pub fn file(data: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(data).unwrap();
    file.rewind().unwrap();
    file
}

/// Where an open file is.
pub fn position(mut file: &File) -> u64 {
    file.stream_position().unwrap()
}

/// Puts an open file somewhere else.
pub fn set_position(mut file: &File, to: u64) {
    file.seek(SeekFrom::Start(to)).unwrap();
}

/// Reads so many bytes on a thread of its own, or up to the end.
pub fn reader(peer: impl Read + Send + 'static, most: u64) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut received = Vec::new();
        peer.take(most).read_to_end(&mut received).unwrap();
        received
    })
}

/// Counts the bytes up to the end, on a thread of its own.
pub fn drain(mut peer: impl Read + Send + 'static) -> JoinHandle<io::Result<u64>> {
    std::thread::spawn(move || io::copy(&mut peer, &mut io::sink()))
}

/// A pipe that holds these bytes and then ends: the system does not send it by itself. A thread fills it.
pub fn pipe(data: &[u8]) -> (File, JoinHandle<io::Result<()>>) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let mut write = File::from(write);
    let data = data.to_vec();
    let filled = std::thread::spawn(move || write.write_all(&data));
    (File::from(read), filled)
}

//! Where there is no system call for several datagrams: one at a time.

use std::io;

use crate::os::address::Address;
use crate::os::datagram::{Arrived, Letter, receive, send_to};
use crate::os::fd::AsFd;

/// The most bytes of a datagram of the internet's.
const LONGEST: usize = 64 * 1024;

/// Room for a datagram.
pub(crate) struct Inbox {
    memory: Box<[u8]>,
    len: usize,
    from: Option<Address>,
    truncated: bool,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self { memory: vec![0; LONGEST].into_boxed_slice(), len: 0, from: None, truncated: false }
    }

    /// Receives: how many, and whether there were no more.
    pub(crate) fn receive(&mut self, fd: impl AsFd) -> io::Result<(usize, bool)> {
        let arrived = receive(fd, &mut self.memory)?;
        (self.len, self.truncated) = (arrived.data.len(), arrived.truncated);
        self.from = arrived.from;
        Ok((1, false))
    }

    /// One of those that the latest `receive` has got.
    pub(crate) fn get(&self, _: usize) -> Arrived<'_> {
        Arrived { data: &self.memory[..self.len], from: self.from.clone(), truncated: self.truncated }
    }
}

/// Sends some of the letters, from the first on; gives how many. An error is the first one's.
pub(crate) fn send_several(fd: impl AsFd, bytes: &[u8], letters: &[Letter]) -> io::Result<usize> {
    let Some((range, address)) = letters.first() else { return Ok(0) };
    send_to(fd, &bytes[range.clone()], &(*address).into()).map(|_| 1)
}

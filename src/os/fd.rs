//! Descriptors, and a table keyed by them.

use std::io;

pub(crate) use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::os::fault::{Call, retry};

/// Whether a read would not wait.
pub(crate) fn is_readable(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    retry(Call::File, |_| poll(&mut fds, Some(&now))).map(|ready| ready > 0)
}

/// Whether a call was refused because there is no such descriptor.
pub(crate) fn is_not_open(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBADF)
}

/// Marks an empty place of the table.
const NONE: u32 = u32::MAX;

/// Which slot a descriptor has. Unix hands out the smallest free number, so a vector stays dense.
#[derive(Default)]
pub(crate) struct FdTable {
    /// Slot index by descriptor, `NONE` where there is none.
    slots: Vec<u32>,
}

impl FdTable {
    pub(crate) fn get(&self, fd: RawFd) -> Option<u32> {
        let slot = *self.slots.get(usize::try_from(fd).ok()?)?;
        (slot != NONE).then_some(slot)
    }

    pub(crate) fn insert(&mut self, fd: RawFd, slot: u32) {
        let fd = usize::try_from(fd).expect("a descriptor is never negative");
        if fd >= self.slots.len() {
            self.slots.resize(fd + 1, NONE);
        }
        self.slots[fd] = slot;
    }

    /// Empties the descriptor's place if it still holds this slot: the number may have been reused since.
    pub(crate) fn remove(&mut self, fd: RawFd, slot: u32) {
        let place = usize::try_from(fd).ok().and_then(|fd| self.slots.get_mut(fd));
        if let Some(place) = place.filter(|place| **place == slot) {
            *place = NONE;
        }
    }
}

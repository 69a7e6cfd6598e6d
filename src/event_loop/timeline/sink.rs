//! Where the events of a timeline go: to a file, by a thread of its own, or into a ring until the end.
//!
//! The loop never waits for the disk. What a slow one has not taken yet waits in memory, of which the bound of the file is
//! the bound.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use crate::os::fork::Home;

/// So much is handed to the thread at a time.
const CHUNK: usize = 64 * 1024;

/// Kept free below the limit for the last event and the array's end.
const TAIL: usize = 512;

/// The file in the making.
pub(super) struct Sink {
    writer: Writer,
    /// What comes next; begins with the array's own beginning.
    buffer: String,
    /// `None`: events are written as they come.
    ring: Option<Ring>,
    limit: usize,
    /// What was written, or is in the buffer or the ring.
    bytes: usize,
    events: u64,
}

/// The latest events.
#[derive(Default)]
struct Ring {
    events: VecDeque<Box<str>>,
    bytes: usize,
    dropped: u64,
}

/// Whether there was room for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Room {
    Enough,
    /// The limit is reached, and the event was not taken.
    None,
}

/// What was written in the end.
pub(super) struct Written {
    pub(super) events: u64,
    pub(super) bytes: u64,
    pub(super) dropped: u64,
}

impl Sink {
    pub(super) fn new(file: File, limit: usize, keeps_latest: bool) -> io::Result<Self> {
        let ring = keeps_latest.then(Ring::default);
        // The array's beginning counts as part of what stands before the first event.
        Ok(Self { writer: Writer::new(file)?, buffer: "[".into(), ring, limit, bytes: 0, events: 0 })
    }

    /// Takes an event.
    pub(super) fn push(&mut self, event: &str) -> Room {
        let size = event.len() + SEPARATOR.len();
        let Some(ring) = &mut self.ring else { return self.push_through(event, TAIL) };
        ring.events.push_back(event.into());
        ring.bytes += size;
        while self.bytes + ring.bytes + TAIL > self.limit {
            let Some(first) = ring.events.pop_front() else { break };
            ring.bytes -= first.len() + SEPARATOR.len();
            ring.dropped += 1;
        }
        Room::Enough
    }

    /// Takes an event that the latest ones need to be understood, and which is kept with them.
    pub(super) fn push_lasting(&mut self, event: &str) -> Room {
        self.push_through(event, TAIL)
    }

    /// As `push_lasting`, for what comes as often as threads do: it takes no more than a quarter of what a ring has.
    pub(super) fn push_name(&mut self, event: &str) -> Room {
        if self.ring.is_some() && self.bytes + event.len() > self.limit / 4 {
            return Room::None;
        }
        self.push_lasting(event)
    }

    fn push_through(&mut self, event: &str, spared: usize) -> Room {
        let size = event.len() + SEPARATOR.len();
        if self.bytes + size + spared > self.limit {
            return Room::None;
        }
        self.buffer.push_str(if self.events == 0 { "\n" } else { SEPARATOR });
        self.buffer.push_str(event);
        self.bytes += size;
        self.events += 1;
        Room::Enough
    }

    /// Whether a chunk is full, that is, whether it is worth to hand it over.
    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() >= CHUNK
    }

    /// Hands over what there is. False if the thread has failed: `end` says why.
    pub(super) fn flush(&mut self) -> bool {
        let chunk = std::mem::take(&mut self.buffer);
        chunk.is_empty() || self.writer.give(chunk)
    }

    /// Writes the rest, with this event as the last one, and waits until the file is complete.
    pub(super) fn end(mut self, last: impl FnOnce(u64) -> String) -> io::Result<Written> {
        let mut dropped = 0;
        if let Some(ring) = self.ring.take() {
            dropped = ring.dropped;
            for event in ring.events {
                // It has been counted into the ring.
                let _ = self.push_through(&event, 0);
                if self.is_full() && !self.flush() {
                    break;
                }
            }
        }
        let last = last(dropped);
        let _ = self.push_through(&last, 0);
        self.buffer.push_str("\n]\n");
        self.bytes += 3;
        self.flush();
        self.writer.end()?;
        Ok(Written { events: self.events, bytes: self.bytes as u64, dropped })
    }
}

/// Between two events. Before the first one stands a line's end alone.
const SEPARATOR: &str = ",\n";

/// The thread that writes.
struct Writer {
    /// `None` once the end was said.
    chunks: Option<Sender<String>>,
    thread: Option<JoinHandle<io::Result<()>>>,
    /// In a child of `fork` the thread is not there.
    home: Home,
}

impl Writer {
    fn new(file: File) -> io::Result<Self> {
        let (sender, chunks) = channel();
        let thread = thread::Builder::new().name("roundelay_trace".into()).spawn(move || write(file, &chunks))?;
        Ok(Self { chunks: Some(sender), thread: Some(thread), home: Home::here() })
    }

    fn give(&self, chunk: String) -> bool {
        self.chunks.as_ref().is_some_and(|chunks| chunks.send(chunk).is_ok())
    }

    fn end(&mut self) -> io::Result<()> {
        drop(self.chunks.take());
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that writes the timeline has panicked")))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.home.is_here() {
            let _ = self.end();
        } else {
            // Another thread may have held a lock of theirs at the fork.
            std::mem::forget((self.chunks.take(), self.thread.take()));
        }
    }
}

/// Writes what comes. After an error the file ends with the last chunk that was written as a whole, behind which no more
/// than the array's end is missing.
fn write(mut file: File, chunks: &Receiver<String>) -> io::Result<()> {
    let mut written = 0;
    for chunk in chunks {
        if let Err(error) = file.write_all(chunk.as_bytes()) {
            let _ = file.set_len(written);
            return Err(error);
        }
        written += chunk.len() as u64;
    }
    Ok(())
}

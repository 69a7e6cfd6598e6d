//! What waits to be sent.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use crate::constants::{MAX_IOVECS, WRITE_CHUNK};

enum Chunk {
    /// Bytes that were copied, and how many of them are sent. Small writes are gathered here.
    Copied { bytes: Vec<u8>, sent: usize },
    /// Bytes that were given.
    Given(Bytes),
}

impl Chunk {
    fn rest(&self) -> &[u8] {
        match self {
            Self::Copied { bytes, sent } => &bytes[*sent..],
            Self::Given(bytes) => bytes,
        }
    }
}

/// Chunks that were sent in full. Bytes that were given may have an owner with a destructor, which may write in its
/// turn: drop them with nothing borrowed.
#[must_use]
pub(crate) struct Sent {
    _chunks: VecDeque<Chunk>,
}

/// A queue of bytes, sent from the front. Empty, it owns no memory.
#[derive(Default)]
pub(crate) struct WriteQueue {
    chunks: VecDeque<Chunk>,
    len: usize,
}

impl WriteQueue {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Queues a copy.
    pub(crate) fn push_copy(&mut self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        self.len += data.len();
        if let Some(Chunk::Copied { bytes, .. }) = self.chunks.back_mut() {
            if bytes.len() + data.len() <= WRITE_CHUNK {
                bytes.extend_from_slice(data);
                return;
            }
        }
        self.chunks.push_back(Chunk::Copied { bytes: data.to_vec(), sent: 0 });
    }

    /// Queues without a copy.
    pub(crate) fn push_owned(&mut self, data: Bytes) {
        if !data.is_empty() {
            self.len += data.len();
            self.chunks.push_back(Chunk::Given(data));
        }
    }

    /// The first chunk.
    pub(crate) fn front(&self) -> &[u8] {
        self.chunks.front().map_or(&[], Chunk::rest)
    }

    /// How many chunks there are.
    pub(crate) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// The chunks from the front, as many as one system call takes.
    pub(crate) fn slices(&self) -> Vec<IoSlice<'_>> {
        self.chunks.iter().take(MAX_IOVECS).map(|chunk| IoSlice::new(chunk.rest())).collect()
    }

    /// `n` bytes from the front have been sent.
    pub(crate) fn advance(&mut self, mut n: usize) -> Sent {
        self.len -= n;
        if self.len == 0 {
            return Sent { _chunks: std::mem::take(&mut self.chunks) };
        }
        let mut whole = 0;
        for chunk in &mut self.chunks {
            let rest = chunk.rest().len();
            if n < rest {
                match chunk {
                    Chunk::Copied { sent, .. } => *sent += n,
                    Chunk::Given(bytes) => bytes.advance(n),
                }
                break;
            }
            n -= rest;
            whole += 1;
        }
        Sent { _chunks: self.chunks.drain(..whole).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is pushed comes out in order, however it is sent.
        #[test]
        fn keeps_the_bytes_in_order(
            pushes in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..50)), 0..40),
            sends in proptest::collection::vec(0_usize..80, 0..80),
        ) {
            let (mut queue, mut expected, mut sent) = (WriteQueue::default(), Vec::new(), Vec::new());
            let mut sends = sends.into_iter();
            for (owned, data) in pushes {
                expected.extend_from_slice(&data);
                if owned { queue.push_owned(data.into()) } else { queue.push_copy(&data) }
                take(&mut queue, sends.next().unwrap_or(0), &mut sent);
                prop_assert_eq!(queue.len(), expected.len() - sent.len());
            }
            while !queue.is_empty() {
                take(&mut queue, sends.next().unwrap_or(7).max(1), &mut sent);
            }
            prop_assert_eq!(sent, expected);
            prop_assert!(queue.front().is_empty());
        }
    }

    fn take(queue: &mut WriteQueue, n: usize, sent: &mut Vec<u8>) {
        let all: Vec<u8> = queue.slices().iter().flat_map(|slice| slice.iter().copied()).collect();
        let n = n.min(all.len());
        sent.extend_from_slice(&all[..n]);
        drop(queue.advance(n));
    }
}

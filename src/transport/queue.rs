//! What waits to be sent.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use crate::constants::{FEW_IOVECS, MAX_IOVECS, WRITE_CHUNK};

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

/// A queue of bytes, sent from the front. Empty, it owns no memory, and takes up a word.
#[derive(Default)]
pub(crate) struct WriteQueue {
    queued: Option<Box<Queued>>,
}

/// What is in a queue that is not empty.
#[derive(Default)]
struct Queued {
    chunks: VecDeque<Chunk>,
    len: usize,
}

impl WriteQueue {
    pub(crate) fn len(&self) -> usize {
        self.queued.as_ref().map_or(0, |queued| queued.len)
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.queued.is_none()
    }

    /// Queues a copy.
    pub(crate) fn push_copy(&mut self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let queued = self.queued.get_or_insert_default();
        queued.len += data.len();
        if let Some(Chunk::Copied { bytes, .. }) = queued.chunks.back_mut() {
            if bytes.len() + data.len() <= WRITE_CHUNK {
                bytes.extend_from_slice(data);
                return;
            }
        }
        queued.chunks.push_back(Chunk::Copied { bytes: data.to_vec(), sent: 0 });
    }

    /// Queues without a copy.
    pub(crate) fn push_owned(&mut self, data: Bytes) {
        if !data.is_empty() {
            let queued = self.queued.get_or_insert_default();
            queued.len += data.len();
            queued.chunks.push_back(Chunk::Given(data));
        }
    }

    /// Queues all of another queue.
    pub(crate) fn append(&mut self, behind: Self) {
        match (&mut self.queued, behind.queued) {
            (Some(queued), Some(mut behind)) => {
                queued.len += behind.len;
                queued.chunks.append(&mut behind.chunks);
            }
            (queued, Some(behind)) => *queued = Some(behind),
            (_, None) => {}
        }
    }

    /// Lends the chunks from the front, as many as one system call takes. Of a few nothing is allocated.
    pub(crate) fn with_slices<R>(&self, f: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        let Some(queued) = &self.queued else { return f(&[]) };
        let slices = queued.chunks.iter().take(MAX_IOVECS).map(|chunk| IoSlice::new(chunk.rest()));
        if queued.chunks.len() > FEW_IOVECS {
            return f(&slices.collect::<Vec<_>>());
        }
        let mut few = [IoSlice::new(&[]); FEW_IOVECS];
        for (place, slice) in few.iter_mut().zip(slices) {
            *place = slice;
        }
        f(&few[..queued.chunks.len()])
    }

    /// `n` bytes from the front have been sent.
    pub(crate) fn advance(&mut self, mut n: usize) -> Sent {
        let Some(queued) = &mut self.queued else { return Sent { _chunks: VecDeque::new() } };
        queued.len -= n;
        if queued.len == 0 {
            return Sent { _chunks: self.queued.take().map(|queued| queued.chunks).unwrap_or_default() };
        }
        let mut whole = 0;
        for chunk in &mut queued.chunks {
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
        Sent { _chunks: queued.chunks.drain(..whole).collect() }
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
            prop_assert!(queue.queued.is_none());
        }
    }

    /// Few chunks and many are lent alike, and no more than one call takes.
    #[test]
    fn lends_as_many_as_one_call_takes() {
        let mut queue = WriteQueue::default();
        assert_eq!(queue.with_slices(|slices| slices.len()), 0);
        for n in 1..MAX_IOVECS + 3 {
            queue.push_owned(Bytes::from_static(b"x"));
            assert_eq!(queue.with_slices(|slices| slices.len()), n.min(MAX_IOVECS));
        }
    }

    fn take(queue: &mut WriteQueue, n: usize, sent: &mut Vec<u8>) {
        let all: Vec<u8> = queue.with_slices(|slices| slices.iter().flat_map(|slice| slice.iter().copied()).collect());
        let n = n.min(all.len());
        sent.extend_from_slice(&all[..n]);
        drop(queue.advance(n));
    }
}

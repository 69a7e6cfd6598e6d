//! Two streams in memory that are connected with each other, and take and give little at a time.
//!
//! Used by `#[path]` in the files that need it.

#![allow(dead_code, unreachable_pub)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures::{AsyncRead, AsyncWrite};

/// Numbers that look random, the same for the same seed.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    /// Less than `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// What is on its way in one direction.
#[derive(Default)]
struct Way {
    bytes: VecDeque<u8>,
    ended: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// One end.
pub struct End {
    read: Rc<RefCell<Way>>,
    write: Rc<RefCell<Way>>,
    dice: Dice,
    /// The most bytes of one call.
    most: usize,
    /// How much may be on its way.
    room: usize,
}

/// Each call takes or gives so many bytes at most, and some take or give less, or have to wait for nothing.
pub fn duplex(seed: u64, most: usize, room: usize) -> (End, End) {
    let (there, back) = (Rc::<RefCell<Way>>::default(), Rc::<RefCell<Way>>::default());
    let end = |read: &Rc<_>, write: &Rc<_>, seed| End {
        read: Rc::clone(read),
        write: Rc::clone(write),
        dice: Dice::new(seed),
        most,
        room,
    };
    (end(&back, &there, seed), end(&there, &back, seed + 1_000_003))
}

impl End {
    /// How many bytes wait to be read here.
    pub fn waiting(&self) -> usize {
        self.read.borrow().bytes.len()
    }

    fn amount(&mut self, most: usize) -> usize {
        let most = most.min(self.most);
        if self.dice.one_in(2) { most } else { 1 + self.dice.below(most) }
    }
}

impl AsyncRead for End {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.dice.one_in(5) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let way = self.read.clone();
        let mut way = way.borrow_mut();
        if way.bytes.is_empty() && !way.ended {
            way.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let n = way.bytes.len().min(buffer.len());
        let n = if n == 0 { 0 } else { self.amount(n) };
        for (place, byte) in buffer.iter_mut().zip(way.bytes.drain(..n)) {
            *place = byte;
        }
        let writer = way.writer.take();
        drop(way);
        wake(writer);
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for End {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if self.dice.one_in(5) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let way = self.write.clone();
        let mut way = way.borrow_mut();
        if way.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = self.room.saturating_sub(way.bytes.len());
        if room == 0 {
            way.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let n = self.amount(room.min(data.len()).max(1)).min(data.len());
        way.bytes.extend(&data[..n]);
        let reader = way.reader.take();
        drop(way);
        wake(reader);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.dice.one_in(5) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        end(&self.write);
        Poll::Ready(Ok(()))
    }
}

fn end(way: &RefCell<Way>) {
    let mut way = way.borrow_mut();
    way.ended = true;
    let (reader, writer) = (way.reader.take(), way.writer.take());
    drop(way);
    wake(reader);
    wake(writer);
}

impl Drop for End {
    fn drop(&mut self) {
        end(&self.write);
        end(&self.read);
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

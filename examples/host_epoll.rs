//! The other way round: a foreign loop inside of ours.
//!
//! Many a library has a loop of its own and lends a descriptor that becomes readable when it wants to be called: libuv
//! (`uv_backend_fd`), calloop, wayland, ALSA, PostgreSQL's libpq. Here it is a bare epoll instance with two pipes and a timer.
//! `add_reader` watches the descriptor; the callback has the guest deal with what is ready, and never waits. What the guest
//! cannot say by its descriptor, its next deadline, becomes one of our timers, which is armed anew after each call.
//!
//! Try it: `cargo run --example host_epoll`

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use roundelay::{EventLoop, TimerHandle};
use rustix::event::epoll;
use rustix::pipe::{PipeFlags, pipe_with};

/// The foreign loop: it knows nothing of ours.
struct Guest {
    epoll: OwnedFd,
    pipes: Vec<OwnedFd>,
    timers: RefCell<VecDeque<Instant>>,
}

impl Guest {
    fn new(timers: impl IntoIterator<Item = Duration>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timers = timers.into_iter().map(|after| Instant::now() + after).collect();
        Ok(Self { epoll, pipes: Vec::new(), timers: RefCell::new(timers) })
    }

    /// Gives the end to write to.
    fn add_pipe(&mut self) -> io::Result<OwnedFd> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let data = epoll::EventData::new_u64(self.pipes.len() as u64);
        epoll::add(&self.epoll, &reader, data, epoll::EventFlags::IN)?;
        self.pipes.push(reader);
        Ok(writer)
    }

    fn backend_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.timers.borrow().front().copied()
    }

    /// Deals with what is ready and due, and does not wait. Says how many bytes have come.
    fn dispatch(&self) -> io::Result<usize> {
        let mut events = Vec::with_capacity(8);
        epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut events),
            Some(&rustix::event::Timespec::default()),
        )?;
        let mut bytes = 0;
        for event in &events {
            let n = event.data.u64();
            let mut text = [0; 64];
            let len = rustix::io::read(&self.pipes[n as usize], &mut text)?;
            if len == 0 {
                // Its end would be ready for ever.
                epoll::delete(&self.epoll, &self.pipes[n as usize])?;
                continue;
            }
            println!("guest, pipe {n}: {}", String::from_utf8_lossy(&text[..len]));
            bytes += len;
        }
        while self.next_deadline().is_some_and(|deadline| deadline <= Instant::now()) {
            self.timers.borrow_mut().pop_front();
            println!("guest: timer");
        }
        Ok(bytes)
    }
}

/// A guest that our loop has the turns made of.
struct Hosted {
    el: EventLoop,
    guest: Guest,
    timer: Cell<Option<TimerHandle>>,
    bytes: Cell<usize>,
}

impl Hosted {
    fn turn(self: &Rc<Self>) {
        match self.guest.dispatch() {
            Ok(bytes) => self.bytes.set(self.bytes.get() + bytes),
            Err(error) => println!("guest: {error}"),
        }
        let timer = self.guest.next_deadline().map(|deadline| {
            let this = self.clone();
            self.el.call_at(deadline, move || this.turn())
        });
        if let Some(before) = self.timer.replace(timer) {
            before.cancel();
        }
        if self.bytes.get() == 12 && self.guest.next_deadline().is_none() {
            self.el.stop();
        }
    }
}

fn main() -> io::Result<()> {
    let el = EventLoop::new()?;
    let mut guest = Guest::new([200, 300].map(Duration::from_millis))?;
    let writers = [guest.add_pipe()?, guest.add_pipe()?];
    let hosted = Rc::new(Hosted { el: el.clone(), guest, timer: Cell::new(None), bytes: Cell::new(0) });

    let this = hosted.clone();
    el.add_reader(hosted.guest.backend_fd(), move || this.turn())?;
    // The first deadline.
    let this = hosted.clone();
    el.call_soon(move || this.turn());

    // Our own callbacks, beside it.
    let [first, second] = writers;
    el.call_later(Duration::from_millis(1), move || rustix::io::write(first, b"from us"));
    el.call_later(Duration::from_millis(600), move || rustix::io::write(second, b"again"));
    el.run_forever();

    el.remove_reader(hosted.guest.backend_fd());
    println!("{} bytes", hosted.bytes.get());
    el.close();
    Ok(())
}

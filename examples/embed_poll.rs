//! The loop inside of a plain loop around `poll(2)`, as a program in C has one: no thread, no runtime.
//!
//! The host has a pipe of its own, from which it reads lines, and one of our loops, in which a server echoes what its
//! clients send. Each time around it asks our loop how long it may sleep, sleeps in `poll` with both descriptors, and deals
//! with whichever is ready; for ours that is one turn. Nothing else is needed: what is scheduled on our loop from outside of
//! a turn makes its descriptor readable, too.
//!
//! Try it: `cargo run --example embed_poll`, and type lines; the end of the input ends it.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use roundelay::{EventLoop, Protocol, Transport};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) {
        transport.write(data);
    }
}

/// `poll` counts in milliseconds in C. Rounded up: who wakes up too early only asks again.
fn milliseconds(time: Duration) -> Timespec {
    let whole = time.as_micros().div_ceil(1000).min(24 * 3600 * 1000);
    Timespec::try_from(Duration::from_millis(whole as u64)).expect("a day")
}

fn main() -> io::Result<()> {
    let el = EventLoop::new()?;
    let input = io::stdin();

    // Work for our loop: a server, a client, a timer.
    let inner = el.clone();
    let talk = el.create_task(async move {
        let server = inner.create_server(|| Echo, ("127.0.0.1", 0)).await?;
        let (mut reader, mut writer) = roundelay::open_connection(server.local_addrs()[0]).await?;
        writer.write(b"round trip\n");
        let line = reader.readline().await?;
        roundelay::sleep(Duration::from_millis(10)).await;
        println!("our loop: {}", String::from_utf8_lossy(&line).trim_end());
        io::Result::Ok(())
    });

    let mut typed = Vec::new();
    let mut input_ended = false;
    while !(input_ended && talk.is_done()) {
        let timeout = el.next_timeout().map(milliseconds);
        let (ours, theirs) = (el.as_fd(), input.as_fd());
        let mut fds = [PollFd::new(&ours, PollFlags::IN), PollFd::new(&theirs, PollFlags::IN)];
        let fds = if input_ended { &mut fds[..1] } else { &mut fds[..] };
        match poll(fds, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => continue,
            result => _ = result?,
        }
        let from_input = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());

        // The turn of our loop: it never blocks. Without an event and a timer that is due it does nothing.
        el.run_once(Some(Duration::ZERO))?;

        if from_input {
            // Not by `Stdin`, which reads ahead: `poll` knows nothing of what it holds.
            let mut bytes = [0; 1024];
            let n = rustix::io::read(&input, &mut bytes)?;
            input_ended = n == 0;
            typed.extend_from_slice(&bytes[..n]);
            while let Some(end) = typed.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = typed.drain(..=end).collect();
                // The host schedules on our loop.
                el.call_soon(move || println!("typed: {}", String::from_utf8_lossy(&line).trim_end()));
            }
        }
    }
    el.run_once(Some(Duration::ZERO))?;
    el.close();
    Ok(())
}

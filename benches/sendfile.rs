//! A file of ten megabytes over a loopback connection: by this crate over a transport and over a socket, beside the bare
//! system call in a loop, and beside reading and writing.
//!
//! `cargo bench --bench sendfile`, `-- --rounds N`. Each round sends one file in each way, one after the other, the bare
//! call twice, to show what a difference is worth; the peer
//! is a thread on another processor that throws away what it gets. The figures are the median and the least of the time
//! until the peer has it all, and of the processor time of the thread that sends; the ratios are of the medians.

#[allow(dead_code)]
#[path = "scale/machine.rs"]
mod machine;

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use roundelay::{EventLoop, Protocol, Transport};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::{ClockId, clock_gettime};

const SIZE: usize = 10_000_000;

/// A connection to a thread that throws away what it gets, and tells of each whole file.
struct Drain {
    socket: TcpStream,
    whole: Receiver<()>,
}

impl Drain {
    fn new() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let socket = TcpStream::connect(listener.local_addr()?)?;
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let (mut peer, _) = listener.accept()?;
        let (tell, whole) = channel();
        std::thread::spawn(move || {
            machine::pin_to_last_cpu();
            let (mut buffer, mut got) = (vec![0; 1 << 20], 0);
            while let Ok(n @ 1..) = peer.read(&mut buffer) {
                got += n;
                if got >= SIZE {
                    got -= SIZE;
                    let _ = tell.send(());
                }
            }
        });
        Ok(Self { socket, whole })
    }
}

fn wait_for_room(socket: &TcpStream) -> io::Result<()> {
    poll(&mut [PollFd::new(socket, PollFlags::OUT)], None)?;
    Ok(())
}

/// The bare system call, for as much as it takes at once.
fn bare(socket: &TcpStream, file: &File) -> io::Result<()> {
    let mut offset = 0;
    while offset < SIZE as u64 {
        let left = SIZE - offset as usize;
        match rustix::fs::sendfile(socket, file, Some(&mut offset), left) {
            Ok(_) => {}
            Err(rustix::io::Errno::AGAIN) => wait_for_room(socket)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Through a buffer.
fn read_and_write(mut socket: &TcpStream, mut file: &File) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    io::Seek::rewind(&mut file)?;
    loop {
        let n = file.read(&mut buffer)?;
        let mut rest = &buffer[..n];
        if rest.is_empty() {
            return Ok(());
        }
        while !rest.is_empty() {
            match socket.write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_for_room(socket)?,
                Err(error) => return Err(error),
            }
        }
    }
}

struct Quiet;

impl Protocol for Quiet {}

fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What a way has taken, in nanoseconds: by the clock, and of the processor.
#[derive(Default)]
struct Taken {
    wall: Vec<u64>,
    cpu: Vec<u64>,
}

impl Taken {
    fn measure(&mut self, whole: &Receiver<()>, send: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let (begun, cpu) = (Instant::now(), cpu_ns());
        send()?;
        self.cpu.push(cpu_ns() - cpu);
        whole.recv().map_err(io::Error::other)?;
        self.wall.push(begun.elapsed().as_nanos() as u64);
        Ok(())
    }
}

/// The median and the least.
fn figures(values: &mut [u64]) -> (u64, u64) {
    values.sort_unstable();
    (values[values.len() / 2], values[0])
}

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let given = args.iter().position(|arg| arg == "--rounds").and_then(|at| args.get(at + 1)?.parse().ok());
    let rounds: usize = given.unwrap_or(400);
    machine::pin_to_first_cpu();
    let mut file = tempfile::tempfile()?;
    file.write_all(&(0..SIZE).map(|i| (i % 251) as u8).collect::<Vec<u8>>())?;

    let el = EventLoop::new()?;
    let drains = [Drain::new()?, Drain::new()?, Drain::new()?, Drain::new()?, Drain::new()?];
    let transport: Transport = {
        let socket: std::os::fd::OwnedFd = drains[1].socket.try_clone()?.into();
        el.run_until_complete(el.create_connection(|| Quiet, socket)).unwrap()?.0
    };
    let names =
        ["bare sendfile", "EventLoop::sendfile", "EventLoop::sock_sendfile", "bare sendfile again", "read and write"];
    let mut taken: [Taken; 5] = Default::default();
    for round in 0..rounds + 20 {
        if round == 20 {
            taken = Default::default();
        }
        // Whoever comes first has no advantage, nor who comes behind whom.
        for way in (0..5).map(|i| (i * (1 + round % 4) + round) % 5) {
            let (drain, taken) = (&drains[way], &mut taken[way]);
            taken.measure(&drain.whole, || match way {
                0 | 3 => bare(&drain.socket, &file),
                1 => el.run_until_complete(async { el.sendfile(&transport, &file).await }).unwrap().map(drop),
                2 => el.run_until_complete(async { el.sock_sendfile(&drain.socket, &file).await }).unwrap().map(drop),
                _ => read_and_write(&drain.socket, &file),
            })?;
        }
    }
    println!("{SIZE} bytes, {rounds} rounds; microseconds: median (least), and beside the bare call");
    let base = (figures(&mut taken[0].wall).0, figures(&mut taken[0].cpu).0);
    for (name, taken) in names.iter().zip(&mut taken) {
        let ((wall, least_wall), (cpu, least_cpu)) = (figures(&mut taken.wall), figures(&mut taken.cpu));
        let ratio = |one: u64, other: u64| one as f64 / other as f64;
        println!(
            "{name:26} wall {:6} ({:6}) {:.3} x   cpu {:6} ({:6}) {:.3} x",
            wall / 1000,
            least_wall / 1000,
            ratio(wall, base.0),
            cpu / 1000,
            least_cpu / 1000,
            ratio(cpu, base.1),
        );
    }
    el.close();
    Ok(())
}

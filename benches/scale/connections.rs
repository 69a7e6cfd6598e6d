//! What a request costs the server: an echo of 64 bytes, one at a time on each of so many connections.
//!
//! The process that takes the sample is the server; it starts another one for the load. Both read and write the same
//! lines: the load says `begin` when all connections stand and are warm, and goes on when it is told to; it says
//! `end REQUESTS` when the last answer has come. Nothing is under way then, so the server's threads sleep, and what the
//! kernel has charged them is complete.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};

use super::machine;
use super::runtimes::{Roundelay, Runtime, Smol, Tokio, listen, plain_congestion_control};

/// No runtime: epoll by hand, which nothing that waits for readiness can be cheaper than.
pub(crate) const BARE: &str = "epoll";

const MESSAGE: usize = 64;

/// Descriptors of a process that are no connections.
const OTHER_DESCRIPTORS: u64 = 64;

/// As many connections as the limit of descriptors admits.
pub(crate) fn most() -> u64 {
    machine::raise_descriptor_limit().saturating_sub(OTHER_DESCRIPTORS).max(1)
}

/// Nanoseconds of the server's time per request.
pub(crate) fn sample(contestant: &str, connections: u64, quick: bool) -> f64 {
    machine::raise_descriptor_limit();
    let (listener, address) = listen().expect("loopback works");
    let serve: fn(TcpListener) -> io::Result<()> = match contestant {
        Roundelay::NAME => |listener| serve::<Roundelay>(listener),
        Tokio::NAME => |listener| serve::<Tokio>(listener),
        Smol::NAME => |listener| serve::<Smol>(listener),
        BARE => serve_bare,
        contestant => panic!("no contestant {contestant}"),
    };
    // Never joined: it ends with the process.
    std::thread::spawn(move || {
        machine::pin_to_first_cpu();
        serve(listener).expect("it serves");
    });

    let mut load = Command::new(std::env::current_exe().expect("this program has a path"))
        .args(["--load", &address.port().to_string(), &connections.to_string(), if quick { "quick" } else { "full" }])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program can be run");
    let mut orders = load.stdin.take().expect("it was asked for");
    let mut reports = BufReader::new(load.stdout.take().expect("it was asked for"));
    let mut report = || {
        let mut line = String::new();
        reports.read_line(&mut line).expect("the load is there");
        // The server falls asleep.
        std::thread::sleep(Duration::from_millis(2));
        (line, machine::process_cpu_ns())
    };
    let (line, before) = report();
    assert_eq!(line, "begin\n");
    orders.write_all(b"go\n").expect("the load is there");
    let (line, after) = report();
    let requests: u64 = line.strip_prefix("end ").and_then(|n| n.trim().parse().ok()).expect("the load has ended");
    assert!(load.wait().expect("it is our child").success());
    (after - before) as f64 / requests as f64
}

fn serve<R: Runtime>(listener: TcpListener) -> io::Result<()> {
    R::new().block_on(R::serve(listener)).map(drop)
}

const IN: EventFlags = EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::ET);

/// One buffer for all connections, each registered once, edge-triggered; a short read is the last one. It relies on a
/// client that reads its answers.
fn serve_bare(listener: TcpListener) -> io::Result<()> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &listener, EventData::new_u64(u64::MAX), EventFlags::IN)?;
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    let mut events = vec![MaybeUninit::uninit(); 1024];
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let (events, _) = epoll::wait(&poll, &mut *events, None)?;
        for event in events {
            let key = event.data.u64();
            if key == u64::MAX {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    epoll::add(&poll, &stream, EventData::new_u64(streams.len() as u64), IN)?;
                    streams.push(Some(stream));
                }
                continue;
            }
            let place = &mut streams[key as usize];
            let Some(stream) = place else { continue };
            match stream.read(&mut buffer) {
                Ok(n) if n > 0 => stream.write_all(&buffer[..n])?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => *place = None,
            }
        }
    }
}

/// A connection whose message is under way.
struct Busy {
    stream: TcpStream,
    /// How much of it has come back.
    received: usize,
}

/// The other process.
pub(crate) fn load(port: u16, connections: usize, quick: bool) -> io::Result<()> {
    machine::pin_to_last_cpu();
    machine::raise_descriptor_limit();
    let (warm_up, time) = if quick { (1, 10) } else { (100, 300) };
    let message = [7; MESSAGE];
    let mut busy = Vec::with_capacity(connections);
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for key in 0..connections {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.set_tcp_nodelay(true)?;
        plain_congestion_control(&socket);
        // Leaves no port behind that cannot be used for a minute.
        socket.set_linger(Some(Duration::ZERO))?;
        socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
        let mut stream = TcpStream::from(socket);
        // The server has accepted it once the answer is there.
        stream.write_all(&message)?;
        stream.read_exact(&mut [0; MESSAGE])?;
        stream.set_nonblocking(true)?;
        epoll::add(&poll, &stream, EventData::new_u64(key as u64), IN)?;
        busy.push(Busy { stream, received: 0 });
    }
    requests(&poll, &mut busy, Duration::from_millis(warm_up))?;
    println!("begin");
    io::stdin().lines().next().transpose()?;
    let requests = requests(&poll, &mut busy, Duration::from_millis(time))?;
    println!("end {requests}");
    Ok(())
}

/// Sends on each connection, and again whenever the answer has come, until the time is over. How many answers came.
fn requests(poll: &rustix::fd::OwnedFd, busy: &mut [Busy], time: Duration) -> io::Result<u64> {
    let message = [7; MESSAGE];
    let end = Instant::now() + time;
    let (mut answers, mut under_way) = (0, busy.len());
    for Busy { stream, .. } in &mut *busy {
        stream.write_all(&message)?;
    }
    let mut events = vec![MaybeUninit::uninit(); 1024];
    while under_way > 0 {
        let (events, _) = epoll::wait(poll, &mut *events, None)?;
        let over = Instant::now() >= end;
        for event in events {
            let Busy { stream, received } = &mut busy[event.data.u64() as usize];
            let mut answer = [0; MESSAGE];
            let n = match stream.read(&mut answer[*received..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            assert!(answer[*received..*received + n].iter().all(|byte| *byte == 7), "what comes back is what was sent");
            *received += n;
            if *received < MESSAGE {
                continue;
            }
            *received = 0;
            answers += 1;
            if over {
                under_way -= 1;
            } else {
                stream.write_all(&message)?;
            }
        }
    }
    Ok(answers)
}

//! Which ports of "localhost" are open, by connecting to each of them: many at a time, none for long.
//!
//! Each connection has a limit (`timeout`), for a port may answer neither yes nor no. "localhost" may have two addresses,
//! ::1 and 127.0.0.1, and a server may listen on one of them only: `happy_eyeballs_delay` tries the other one when the first
//! has failed, or when it has said nothing for a while. A fixed number of workers share one iterator of ports, so that no
//! more connections are open at once than there are workers.
//!
//! It asks this machine only: to scan those of others is impolite, and in places forbidden.
//!
//! Try it: `cargo run --example port_scan_local 1-10000`

use std::cell::RefCell;
use std::io;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use roundelay::{TimedOut, open_connection, spawn, timeout};

/// How many connections are made at a time.
const WORKERS: usize = 64;

/// How long a port has to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// After how long the next address is tried beside the one before.
const NEXT_ADDRESS: Duration = Duration::from_millis(50);

/// What became of a port.
enum Port {
    /// Who has answered.
    Open(String),
    Closed,
    Silent,
}

async fn probe(port: u16) -> io::Result<Port> {
    let connecting = open_connection(("localhost", port)).happy_eyeballs_delay(NEXT_ADDRESS).all_errors(true);
    match timeout(PATIENCE, connecting).await {
        Ok(Ok((_reader, mut writer))) => {
            let peer = writer.extra_info().peer_addr.map_or("somebody".into(), |address| address.to_string());
            writer.close();
            Ok(Port::Open(peer))
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(Port::Closed),
        Ok(Err(error)) => Err(error),
        Err(TimedOut) => Ok(Port::Silent),
    }
}

/// Takes ports until there are none left; returns those that are open, with who has answered, and how many are silent.
async fn work(ports: Rc<RefCell<RangeInclusive<u16>>>) -> io::Result<(Vec<(u16, String)>, usize)> {
    let (mut open, mut silent) = (Vec::new(), 0);
    loop {
        let next = ports.borrow_mut().next();
        let Some(port) = next else { return Ok((open, silent)) };
        match probe(port).await? {
            Port::Open(peer) => open.push((port, peer)),
            Port::Closed => {}
            Port::Silent => silent += 1,
        }
    }
}

async fn scan(ports: RangeInclusive<u16>) -> io::Result<()> {
    let ports = Rc::new(RefCell::new(ports));
    // Dropped, which they are when one has failed, they end the others.
    let workers: Vec<_> = (0..WORKERS).map(|_| spawn(work(ports.clone())).cancel_on_drop()).collect();
    let (mut open, mut silent) = (Vec::new(), 0);
    for worker in workers {
        let (found, unanswered) = worker.await??;
        open.extend(found);
        silent += unanswered;
    }
    open.sort();
    for (port, peer) in &open {
        println!("{port} is open at {peer}");
    }
    println!("{} open, {silent} silent", open.len());
    Ok(())
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-')?;
    Some(first.parse().ok()?..=last.parse().ok()?)
}

fn main() -> io::Result<()> {
    let ports = std::env::args().nth(1).unwrap_or_else(|| "1-1024".into());
    let ports = range(&ports).ok_or_else(|| io::Error::other("usage: port_scan_local [FIRST-LAST]"))?;
    roundelay::block_on(scan(ports))
}
